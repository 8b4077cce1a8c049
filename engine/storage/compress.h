/*
 * compress.h
 *	  Block compression: codec choice when writing, decompression when reading.
 */
#ifndef LTG_COMPRESS_H
#define LTG_COMPRESS_H

#include "storage/run.h"

/* Contexts and buffers of one writer. */
typedef struct LtgCompressor LtgCompressor;

extern LtgStatus ltg_compressor_create(LtgSession *s, LtgCompressor **c) LTG_MUST_CHECK;
extern void ltg_compressor_free(LtgSession *s, LtgCompressor *c);
/*
 * Compress len bytes as the choice says.  *out is valid until the next call
 * (src itself when stored as it is), never longer than src; *codec is a
 * LTG_STORED_*.  A codec that fails counts as one that saves nothing.
 */
extern LtgStatus ltg_compress(LtgSession *s, LtgCompressor *c, LtgCodecChoice choice,
							  int level, const uint8_t *src, uint32_t len,
							  const uint8_t **out, uint32_t *out_len, uint8_t *codec) LTG_MUST_CHECK;

/* Decompression context of a session; created when first needed. */
typedef struct LtgDecompressor LtgDecompressor;

/*
 * False when the bytes are not what the codec wrote, or not exactly raw_len
 * long when decompressed.  Never writes beyond dst + raw_len.  *d is created if
 * NULL; out of memory for it also gives false, with *no_memory set.
 */
extern bool ltg_decompress(LtgSession *s, LtgDecompressor **d, uint8_t codec,
						   const uint8_t *src, uint32_t len, uint8_t *dst,
						   uint32_t raw_len, bool *no_memory);
extern void ltg_decompressor_free(LtgSession *s, LtgDecompressor *d);

#endif
