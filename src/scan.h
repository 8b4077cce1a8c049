/*
 * scan.h
 *	  The scan descriptor of lightning tables, for the files that drive scans.
 */
#ifndef LIGHTNING_SCAN_H
#define LIGHTNING_SCAN_H

#include "access/relscan.h"
#include "port/atomics.h"

#include "versions.h"

#define LIGHTNING_BLOCK_ROWS 256	/* row ids per block of TIDs */

/* Where a scan stands, between calls. */
typedef enum LightningPlace
{
	LIGHTNING_FRESH,			/* nothing returned yet */
	LIGHTNING_BEFORE_FIRST,
	LIGHTNING_ON_ROW,
	LIGHTNING_AFTER_LAST
} LightningPlace;

typedef struct LightningScanDescData
{
	TableScanDescData rs;		/* first; the table is rel, not rs.rs_rd */
	Relation	rel;

	/* MVCC: the engine judges.  Otherwise all versions are read and judged. */
	bool		fast;
	bool		serializable;	/* note rw-conflicts (never fast) */
	LightningSnapshot snap;
	LightningScanGuard *guard;
	LtgBatch	batch;
	uint32		at;				/* next row of the batch behind the span */
	LtgSpan		span;			/* rows that need no call each ... */
	TransactionId span_xmin;	/* of them all, unless they have writers of their own */
	uint32		span_left;		/* so many are left, from this entry on; only */
	uint32		span_entry;		/* when on a row, and in scan's direction */
	uint32		single_left;	/* rows to be asked for one by one */
	LightningVersionScan *slow;

	/*
	 * Late loading: batches without payloads, while nobody asks for a row's
	 * attributes (count(*), OFFSET, DELETE, MOVE).
	 */
	bool		late;			/* from the next batch on */
	bool		late_batch;		/* this batch is one */
	bool		late_refused;	/* somebody did ask: never again */
	bool		resume;			/* begin anew behind the current row */

	/* [lo, hi) is what may be returned */
	uint64		lo;
	uint64		hi;
	uint8		lo_key[LIGHTNING_KEY_LEN];
	uint8		hi_key[LIGHTNING_KEY_LEN];
	bool		backward;		/* direction of the engine's scan */
	bool		bypass;			/* bigger than the cache should take */
	LightningPlace place;
	uint64		rowid;			/* LIGHTNING_ON_ROW */

	/* bitmap scan: the current block */
	uint64		block_start;
	bool		by_points;		/* look rows up one by one */
	bool		exact;
	int			next_offset;
	uint64		wanted[LIGHTNING_BLOCK_ROWS / 64];
	LightningVersions points;

	/* sampling */
	bool		sampling;
	uint64		sample_end;
	BlockNumber sample_block;
	uint64		ahead_from;		/* no row in [ahead_from, ahead_rowid) */
	uint64		ahead_rowid;	/* PG_UINT64_MAX: none */
	LtgVersion	ahead;

	/* ANALYZE */
	struct LightningAnalyze *analyze;
} LightningScanDescData;

typedef LightningScanDescData *LightningScanDesc;

typedef struct LightningParallelScanData
{
	ParallelTableScanDescData base; /* first */
	uint64		end;			/* row ids beyond are newer than the scan */
	pg_atomic_uint64 next;
} LightningParallelScanData;

/* Hand out the next range; false when there is none. */
extern bool lightning_parallel_next(ParallelTableScanDesc pscan, uint64 *lo, uint64 *hi);

/* Restrict the scan to [lo, hi) and start over. */
extern void lightning_scan_window(LightningScanDesc scan, uint64 lo, uint64 hi);

/* The row itself, below the slot interface; valid until the next call. */
extern bool lightning_scan_row(LightningScanDesc scan, bool backward, uint64 *rowid, LtgVersion *v);

/*
 * Point read: the row as the snapshot sees it, copied into the slot; false if
 * there is none (tableam_fetch.c).
 */
extern bool lightning_get_row(Relation rel, uint64 rowid, LightningSnapshot *snap,
							  TupleTableSlot *slot);

/* Frees what ANALYZE added to a scan. */
extern void lightning_analyze_end(TableScanDesc scan);

/* Rows in the table, as far as the engine's counters tell (cost.c). */
extern double lightning_estimate_rows(const LtgStoreInfo *info);

/* ---- noblocks.c ---- */

/* What rs.rs_rd of bitmap scans and ANALYZE is. */
extern Relation lightning_no_blocks(void);

#endif
