/*
 * compress.h
 *	  Block compression: the choice of a method when writing, decompression
 *	  when reading, dictionaries.
 */
#ifndef LTG_COMPRESS_H
#define LTG_COMPRESS_H

#include "storage/run.h"

/* ---- writing ---- */

/* Ways to store a data block; "columns": transposed first (columns.h). */
typedef enum LtgMethod
{
	LTG_METHOD_NONE,
	LTG_METHOD_LZ4,
	LTG_METHOD_ZSTD,
	LTG_METHOD_DICT,			/* zstd with the run's dictionary */
	LTG_METHOD_LZ4_COLUMNS,
	LTG_METHOD_ZSTD_COLUMNS,
	LTG_METHODS
} LtgMethod;

/* A block as it is stored. */
typedef struct LtgPacked
{
	const uint8_t *data;
	uint32_t	len;			/* never more than the block's */
	uint8_t		codec;			/* LTG_STORED_* */
	uint8_t		stride;			/* for the envelope */
	uint8_t		form;			/* LTG_EF_*, for the envelope */
} LtgPacked;

/* LtgCompressor: contexts, buffers and experience of a writer, or of several that
 * write runs of one store one after the other. */
extern LtgStatus ltg_compressor_create(LtgSession *s, LtgCompressor **c) LTG_MUST_CHECK;
extern void ltg_compressor_free(LtgSession *s, LtgCompressor *c);

/* A new run: what was learnt is forgotten, and there is no dictionary. */
extern void ltg_compressor_begin(LtgSession *s, LtgCompressor *c, LtgCodecChoice choice,
								 int level, bool last_level);
/* Use this dictionary (copied) from now on; NULL: none. */
extern LtgStatus ltg_compressor_set_dictionary(LtgSession *s, LtgCompressor *c,
											   const uint8_t *dict, uint32_t len,
											   uint32_t block_size) LTG_MUST_CHECK;
/* Its bytes, NULL: none.  The compressor's, until it gets another one. */
extern const uint8_t *ltg_compressor_dictionary(const LtgCompressor *c, uint32_t *len);
/*
 * Try everything that is allowed on a data block, without storing it: what
 * ltg_compressor_best answers from then on.
 */
extern LtgStatus ltg_compressor_try(LtgSession *s, LtgCompressor *c, const uint8_t *block,
									uint32_t len) LTG_MUST_CHECK;
/* The method that has been best so far.  sizes (may be NULL): what the methods
 * made of what was tried, UINT64_MAX where one can't be used. */
extern LtgMethod ltg_compressor_best(const LtgCompressor *c, uint64_t sizes[LTG_METHODS]);
/*
 * Compress a block of a type (LTG_BLOCK_*).  out->data is valid until the next
 * call (the block itself when stored as it is).  A codec that fails counts as
 * one that saves nothing.
 */
extern LtgStatus ltg_compress(LtgSession *s, LtgCompressor *c, uint8_t type,
							  const uint8_t *block, uint32_t len, LtgPacked *out) LTG_MUST_CHECK;

/* Train a dictionary on samples of one size, at most LTG_TRAIN_MAX of them, which
 * follow each other; *dict_len is its length, 0 if they are not good for one. */
#define LTG_TRAIN_MAX 512
extern void ltg_dictionary_train(const uint8_t *samples, size_t len, size_t sample_bytes,
								 uint8_t *dict, uint32_t cap, uint32_t *dict_len);

/* ---- reading ---- */

/* Decompression contexts of a session, among them the dictionaries it used
 * last; created when first needed. */
typedef struct LtgDecompressor LtgDecompressor;

extern bool ltg_decompressor_knows(const LtgDecompressor *d, uint64_t dict_id);
extern LtgStatus ltg_decompressor_learn(LtgSession *s, LtgDecompressor **d, uint64_t dict_id,
										const uint8_t *dict, uint32_t len) LTG_MUST_CHECK;
/*
 * *got bytes, at most `most`, to dst; nothing is written beyond.  False when src
 * is not what the codec wrote.  *d is created if NULL; out of memory for it also
 * gives false, with *no_memory set.  For LTG_STORED_ZSTD_DICT the dictionary must
 * be known.
 */
extern bool ltg_decompress(LtgSession *s, LtgDecompressor **d, uint8_t codec, uint64_t dict_id,
						   const uint8_t *src, uint32_t len, uint8_t *dst, uint32_t most,
						   uint32_t *got, bool *no_memory);
extern void ltg_decompressor_free(LtgSession *s, LtgDecompressor *d);

#endif
