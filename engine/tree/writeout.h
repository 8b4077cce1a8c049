/*
 * writeout.h
 *	  What flush and compaction have in common: versions of one key in a
 *	  growing array, and the writing of runs to new data files.
 *
 * A flush puts many runs into one file; a compaction puts one run into each
 * file and starts another one when the first has reached its size.  Files are
 * created when the first version goes into them, so nothing is left behind when
 * nothing survives.
 */
#ifndef LTG_WRITEOUT_H
#define LTG_WRITEOUT_H

#include "tree/publish.h"
#include "tree/shared.h"

typedef struct LtgVersionBuf
{
	LtgVersion *v;
	uint32_t	n, cap;
} LtgVersionBuf;

/* Room for one more. */
extern LtgStatus ltg_version_buf_grow(LtgSession *s, LtgVersionBuf *b) LTG_MUST_CHECK;
extern void ltg_version_buf_free(LtgSession *s, LtgVersionBuf *b);

static inline LtgStatus
ltg_version_buf_room(LtgSession *s, LtgVersionBuf *b)
{
	return LTG_LIKELY(b->n < b->cap) ? LTG_OK : ltg_version_buf_grow(s, b);
}

typedef struct LtgWriteout
{
	LtgSession *s;
	LtgRunOptions opt;
	uint8_t	   *dict;			/* ours: what opt.dict points to, or NULL */
	LtgCompressor *compressor;
	LtgRunRef	last;			/* the run that ended last */
	uint8_t		store_key[32];
	LtgFileWriter *w;			/* file being written, or NULL */
	LtgFileId	id;
	bool		in_run;
	LtgNewFile *files;			/* finished ones, ours until kept */
	uint32_t	n_files, cap_files;
} LtgWriteout;

extern void ltg_writeout_init(LtgWriteout *o, LtgSession *s);
/* The store whose run comes next, with its options (as the descriptor has
 * them), and about how many keys it will have. */
extern void ltg_writeout_store(LtgWriteout *o, const LtgStoreKey *key, LtgSeq stamp,
							   uint64_t id, uint64_t options, uint64_t keys);
/*
 * The runs of this store go to its last level, or are likely to stay what they
 * are.  They may use the dictionary of `model`, one of its runs, or NULL.
 */
extern LtgStatus ltg_writeout_last_level(LtgWriteout *o, const LtgRunRef *model) LTG_MUST_CHECK;
extern LtgStatus ltg_writeout_add(LtgWriteout *o, const uint8_t *key, uint32_t key_len,
								  const LtgVersion *v) LTG_MUST_CHECK;
extern uint64_t ltg_writeout_bytes(const LtgWriteout *o);	/* of the file being written */
/* ref->entries == 0 if nothing was added since the last one. */
extern LtgStatus ltg_writeout_end_run(LtgWriteout *o, LtgRunRef *ref) LTG_MUST_CHECK;
/* Finish the current file; file->id == 0 if there is none. */
extern LtgStatus ltg_writeout_finish(LtgWriteout *o, LtgNewFile *file) LTG_MUST_CHECK;
/* The finished files are published: they stay. */
extern void ltg_writeout_keep(LtgWriteout *o);
/* Abandon what is not finished, remove what was not kept, free. */
extern void ltg_writeout_free(LtgWriteout *o);

#endif
