/*
 * scan_batch.h
 *	  What scan.c and scan_batch.c share: the scan, and the batch it fills.
 *
 * A batch is a list of parts.  A part is a stretch of a block, which was copied
 * once as a whole and whose rows are decoded when they are asked for (all
 * entries of a plain block, otherwise the versions that the snapshot sees), or
 * rows that were merged and copied one by one.  Without payloads (keys_only)
 * only a block's beginning is copied, up to where its payloads are described.
 */
#ifndef LTG_SCAN_BATCH_H
#define LTG_SCAN_BATCH_H

#include "ltg.h"

#include "storage/run.h"
#include "tree/merge_iter.h"

#define LTG_BATCH_BYTES (128 * 1024)
#define LTG_BATCH_KEYS_ONLY_PARTS 64	/* blocks in a batch without payloads */
#define LTG_KEY_RING (2 * LTG_KEY_MAX)

typedef struct LtgScanRow
{
	const uint8_t *key;
	uint32_t	key_len;
	LtgVersion	v;
} LtgScanRow;

typedef struct LtgScanPart
{
	uint32_t	first;			/* number of its first row in the batch */
	uint32_t	n;
	const uint8_t *block;		/* NULL: rows[row0 ..] */
	uint32_t	block_len;
	uint32_t	at;				/* entry of the first row */
	int32_t		step;			/* 1 or -1 */
	const uint32_t *entry;		/* entries of the rows; NULL: all from `at` on */
	uint32_t	row0;
} LtgScanPart;

/* Copied bytes: the main chunk is kept, larger things get one of their own. */
typedef struct LtgScanChunk
{
	struct LtgScanChunk *next;
	uint64_t	size;
	uint64_t	used;
	uint64_t	pad;
	uint8_t		data[];
} LtgScanChunk;

struct LtgScan
{
	LtgSession *s;
	LtgStore   *store;
	uint64_t	store_id;
	LtgSnapshot *snap;
	LtgXid		ignore_from;	/* without a snapshot */
	LtgCacheUse use;
	bool		backward;
	bool		has_lo, has_hi;
	bool		keys_only;		/* from the next batch on: no payloads */
	uint32_t	max_rows, max_merged;

	uint8_t    *bounds;			/* lo, then hi */
	uint32_t	lo_len, hi_len, bounds_cap;

	/* position: the next call begins at, or strictly beyond, this key */
	uint8_t    *pos;
	uint32_t	pos_len, pos_cap;
	bool		has_pos, after;
	bool		done;

	LtgMerge	merge;
	LtgXid		seen_below;		/* every snapshot sees what committed below it */
	uint32_t	unsure;			/* tombstones in this call that are not below it */
	uint32_t	block_wait;		/* rows to go before the block path is tried */
	LtgFileId	copied_file;	/* block that was copied last in this call */
	uint64_t	copied_offset;
	const uint8_t *copied_to;

	/* the batch */
	uint32_t	n;
	bool		no_payloads;	/* the batch has none */
	uint64_t	bytes;
	uint64_t	target;			/* bytes at which a batch is full */
	LtgScanChunk *chunk;			/* main one */
	LtgScanChunk *extra;
	LtgScanRow    *rows;
	uint32_t	n_rows, cap_rows;
	LtgScanPart   *parts;
	uint32_t	n_parts, cap_parts;
	uint32_t	part;			/* where the last row was found */
	uint32_t	ring_used;
	uint8_t		ring[LTG_KEY_RING]; /* keys decoded from blocks */
};

/* Make an array hold at least `need` elements. */
extern LtgStatus ltg_scan_grow(LtgSession *s, void **array, uint32_t *cap, uint32_t need,
							   size_t size) LTG_MUST_CHECK;
extern void ltg_scan_free_batch(LtgScan *scan);

extern LtgStatus ltg_batch_begin(LtgScan *scan) LTG_MUST_CHECK;
extern bool ltg_batch_full(const LtgScan *scan);
extern LtgStatus ltg_batch_add_row(LtgScan *scan, const uint8_t *key, uint32_t key_len,
								   const LtgVersion *v) LTG_MUST_CHECK;
/* n entries of the block from its current one on. */
extern LtgStatus ltg_batch_add_block(LtgScan *scan, const LtgBlockView *b, uint32_t n) LTG_MUST_CHECK;
/*
 * Of the next n entries, with all versions of their keys, those that the snapshot
 * sees, at most `most`.  *passed: so many entries are done with, up to a key's end.
 * REQUIRES a scan forward by a snapshot.
 */
extern LtgStatus ltg_batch_select(LtgScan *scan, const LtgBlockView *b, uint32_t n,
								  uint32_t most, uint32_t *passed) LTG_MUST_CHECK;
/* Would the block, if it is not there yet, fit into the main chunk? */
extern bool ltg_batch_fits(const LtgScan *scan, const LtgBlockView *b);
extern bool ltg_batch_has(const LtgScan *scan, const LtgBlockView *b);

#endif
