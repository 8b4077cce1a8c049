/*
 * tableam_scan.c
 *	  Sequential, TID range, bitmap and sample scans.
 *
 * Invariants
 *	 I1. Rows come in the order of row ids.
 *	 I2. Nothing of the engine is held between calls: the slot shows a row of
 *		 the scan's batch, which is the scan's own copy.  It is valid until the
 *		 scan moves on.
 *	 I3. Rows handed out after a scan started are not visited (an update that
 *		 moves rows to new row ids would otherwise follow itself).
 *	 I4. A scan remembers the last row id it returned, so a change of
 *		 direction is a new start next to that row.
 *	 I5. A sequential scan whose rows nobody looks into goes on to batches
 *		 without payloads.  Should somebody look into one after all, the row is
 *		 read again by its row id with the scan's snapshot, which sees the
 *		 same version as long as it is registered, whatever happened to blocks
 *		 and files meanwhile; and the scan returns to whole batches.
 */
#include "postgres.h"

#include "access/skey.h"
#include "access/tsmapi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/tidbitmap.h"
#include "pgstat.h"
#include "storage/predicate.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "lightning.h"
#include "scan.h"

/* Up to so many rows of a block are looked up one by one in a bitmap scan. */
#define BITMAP_POINTS_MAX 16

/* A sample skips up to so many row ids before it seeks. */
#define SAMPLE_SKIP_MAX 1024

/*
 * Parallel scans hand out chunks of row ids: a part of what is left, so that
 * chunks are few at the beginning and small at the end.
 */
#define PARALLEL_CHUNK_MIN 1024
#define PARALLEL_CHUNK_MAX (128 * 1024)
#define PARALLEL_PART 32

/* ---- the engine's scan ---- */

static inline void
drop_batch(LightningScanDesc scan)
{
	scan->batch.n = 0;
	scan->at = 0;
	scan->span_left = 0;
	scan->single_left = 0;
}

void
lightning_scan_window(LightningScanDesc scan, uint64 lo, uint64 hi)
{
	scan->lo = lo;
	scan->hi = hi;
	scan->place = LIGHTNING_FRESH;
	drop_batch(scan);
}

/* How to read depends on the snapshot, which may be set after scan_begin. */
static void
choose_mode(LightningScanDesc scan)
{
	Snapshot	snapshot = scan->rs.rs_snapshot;

	if (scan->snap.pg == snapshot)
		return;
	scan->serializable = IsMVCCSnapshot(snapshot) &&
		CheckForSerializableConflictOutNeeded(scan->rel, snapshot);
	scan->fast = IsMVCCSnapshot(snapshot) && !scan->serializable;
	if (scan->fast)
		lightning_snapshot_init(&scan->snap, snapshot);
	else if (snapshot->snapshot_type == SNAPSHOT_DIRTY || snapshot->snapshot_type == SNAPSHOT_SELF)
		lightning_note_dirty_read();
	scan->snap.pg = snapshot;
}

static void
fast_fail(LightningScanDesc scan, LtgSession *s, LtgStatus st)
{
	if (st == LTG_HOST_ERROR)
	{
		if (scan->snap.ltg.failed)
			ltg_clear_error(s);
		lightning_snapshot_rethrow(&scan->snap);
	}
	lightning_report(s, st, scan->rel);
}

static void
start(LightningScanDesc scan, uint64 lo, uint64 hi, bool backward)
{
	choose_mode(scan);
	scan->backward = backward;
	scan->resume = false;
	drop_batch(scan);
	if (scan->fast)
	{
		LtgSession *s = lightning_session();
		LtgScanOptions opt = {0};
		LtgStatus	st;

		lightning_rowid_key(scan->lo_key, lo);
		lightning_rowid_key(scan->hi_key, hi);
		opt.snap = &scan->snap.ltg;
		opt.lo = scan->lo_key;
		opt.hi = scan->hi_key;
		opt.lo_len = opt.hi_len = LIGHTNING_KEY_LEN;
		opt.backward = backward;
		opt.spare_cache = scan->bypass;
		opt.keys_only = scan->late;
		if (scan->guard->scan == NULL)
			st = ltg_scan_open(s, lightning_rel(scan->rel).store, &opt, &scan->guard->scan);
		else
			st = ltg_scan_restart(scan->guard->scan, &opt);
		fast_fail(scan, s, st);
	}
	else if (scan->slow == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(scan));

		scan->slow = lightning_versions_open(scan->rel, lo, hi, backward);
		MemoryContextSwitchTo(old);
	}
	else
		lightning_versions_restart(scan->slow, lo, hi, backward);
}

static bool
fast_batch(LightningScanDesc scan)
{
	LtgStatus	st;

	CHECK_FOR_INTERRUPTS();
	drop_batch(scan);
	scan->late_batch = scan->late;
	ltg_scan_keys_only(scan->guard->scan, scan->late);
	do
	{
		st = ltg_scan_next(scan->guard->scan, &scan->batch);
	} while (st == LTG_OK && scan->batch.n == 0);
	lightning_blocks_done(lightning_session(), scan->rel);
	if (st == LTG_END)
	{
		scan->batch.n = 0;
		return false;
	}
	if (unlikely(st != LTG_OK))
		fast_fail(scan, lightning_session(), st);
	return true;
}

static bool
slow_row(LightningScanDesc scan, uint64 *rowid, LtgVersion *v)
{
	Relation	rel = scan->rel;
	LightningVersions *kv;

	while ((kv = lightning_versions_next(scan->slow)) != NULL)
	{
		int			i;

		if (scan->serializable)
			lightning_check_conflict_out(rel, scan->rs.rs_snapshot, kv);
		i = lightning_pick_version(rel, kv, scan->rs.rs_snapshot);
		if (i >= 0)
		{
			*rowid = kv->rowid;
			*v = kv->v[i];
			return true;
		}
	}
	return false;
}

/* Make the engine's scan go on from where the last row was returned. */
static bool
begin_step(LightningScanDesc scan, bool backward)
{
	uint64		lo = scan->lo;
	uint64		hi = scan->hi;

	if (scan->place == (backward ? LIGHTNING_BEFORE_FIRST : LIGHTNING_AFTER_LAST))
		return false;
	if (scan->place == LIGHTNING_ON_ROW)
	{
		if (backward)
			hi = Min(hi, scan->rowid);
		else
			lo = Max(lo, scan->rowid + 1);
	}
	if (lo >= hi)
		return false;
	start(scan, lo, hi, backward);
	return true;
}

/*
 * Describe the rows from `at` on: a span, or rows that are asked for one by one.
 * False at the end of the batch.
 */
static bool
next_stretch(LightningScanDesc scan)
{
	if (scan->at >= scan->batch.n)
		return false;
	ltg_batch_span(scan->guard->scan, scan->at, &scan->span);
	if (scan->span.n == 0)
		scan->single_left = scan->span.rows;
	else
	{
		scan->span_xmin = lightning_shown_xid(scan->span.xid);
		scan->span_left = scan->span.n;
		scan->span_entry = scan->span.at;
		scan->at += scan->span.n;
	}
	return true;
}

/* The next entry of the span, and its row id. */
static inline uint32
span_step(LightningScanDesc scan, uint64 *rowid)
{
	uint32		e = scan->span_entry;

	scan->span_left--;
	scan->span_entry += (uint32) scan->span.step;
	*rowid = scan->rowid = ltg_span_key(&scan->span, e);
	return e;
}

/* An engine's scan stands where it should: its next row. */
static bool
fast_row(LightningScanDesc scan, uint64 *rowid, LtgVersion *v)
{
	const uint8 *key;
	uint32		key_len;
	uint32		e;

	if (scan->span_left == 0 && scan->single_left == 0 && !next_stretch(scan))
	{
		if (!fast_batch(scan))
			return false;
		next_stretch(scan);
	}
	if (scan->span_left > 0)
	{
		e = span_step(scan, rowid);
		v->payload = ltg_span_payload(&scan->span, e, &v->payload_len);
		v->kind = LTG_PUT;
		v->state = scan->span.state;
		v->tag = ltg_span_tag(&scan->span, e);
		v->flags = 0;
		v->cid = scan->span.cid;
		v->xid = ltg_span_xid(&scan->span, e);
		v->seq = v->aux = 0;
		return true;
	}
	scan->single_left--;
	ltg_batch_row(scan->guard->scan, scan->at++, &key, &key_len, v);
	*rowid = lightning_key_rowid(key);
	return true;
}

bool
lightning_scan_row(LightningScanDesc scan, bool backward, uint64 *rowid, LtgVersion *v)
{
	bool		found;

	if (unlikely(scan->place != LIGHTNING_ON_ROW || scan->backward != backward || scan->resume))
		found = begin_step(scan, backward);
	else
		found = true;

	if (found)
		found = scan->fast ? fast_row(scan, rowid, v) : slow_row(scan, rowid, v);
	if (!found)
	{
		drop_batch(scan);
		scan->place = backward ? LIGHTNING_BEFORE_FIRST : LIGHTNING_AFTER_LAST;
		return false;
	}
	scan->place = LIGHTNING_ON_ROW;
	scan->rowid = *rowid;
	return true;
}

/* ---- late loading (I5) ---- */

/*
 * About to read another batch into this slot: did nobody look into the last
 * row of the one before?
 */
static void
consider_late(LightningScanDesc scan, TupleTableSlot *slot)
{
	LightningSlot *ls = (LightningSlot *) slot;

	if (scan->late || scan->late_refused || scan->place != LIGHTNING_ON_ROW ||
		!scan->fast || scan->span_left > 0 || scan->at < scan->batch.n || scan->batch.n == 0)
		return;
	scan->late = !TTS_EMPTY(slot) && ls->payload != NULL && ls->payload != ls->owned &&
		slot->tts_nvalid == 0 && !ls->copied;
}

static void
store_late(TupleTableSlot *slot, LightningScanDesc scan)
{
	LightningSlot *ls = (LightningSlot *) slot;

	ls->late = scan;
	ls->late_tid = slot->tts_tid;
}

void
lightning_slot_load(TupleTableSlot *slot)
{
	LightningSlot *ls = (LightningSlot *) slot;
	LightningScanDesc scan = ls->late;
	Relation	rel = scan->rel;
	ItemPointerData tid = ls->late_tid;
	ItemPointerData shown = slot->tts_tid;

	if (!lightning_get_row(rel, lightning_tid_rowid(&tid), &scan->snap, slot) ||
		!ItemPointerEquals(&slot->tts_tid, &tid))
	{
		ExecClearTuple(slot);
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("row (%u,%u) of table \"%s\" changed under a scan that sees it",
						ItemPointerGetBlockNumberNoCheck(&tid),
						ItemPointerGetOffsetNumberNoCheck(&tid),
						RelationGetRelationName(rel))));
	}
	slot->tts_tid = shown;
	/* rows are looked into after all */
	scan->late = false;
	scan->late_refused = true;
	if (scan->late_batch)
	{
		scan->late_batch = false;
		scan->resume = true;
		drop_batch(scan);
	}
}

/* ---- begin, rescan, end ---- */

/* The row ids handed out so far, as the window (I3). */
static void
whole_table(LightningScanDesc scan)
{
	if (scan->rs.rs_parallel != NULL)
		lightning_scan_window(scan, 0, 0);	/* chunks, as they are handed out */
	else
		lightning_scan_window(scan, 0, ltg_store_next_rowid(lightning_rel(scan->rel).store));
}

/* A scan of more than the cache holds would only push others out. */
static bool
too_big_for_cache(Relation rel)
{
	LtgStore   *store = lightning_rel(rel).store;
	LtgStoreInfo info;

	if (ltg_store_next_rowid(store) < 100000)
		return false;
	ltg_store_info(lightning_session(), store, &info);
	/* of which a part goes into its directory and spare frames */
	return info.raw_bytes / 1024 > (uint64) lightning_cache_size / 8 * 7;
}

TableScanDesc
lightning_scan_begin(Relation rel, Snapshot snapshot, int nkeys, struct ScanKeyData *key,
					 ParallelTableScanDesc pscan, uint32 flags)
{
	LightningScanDesc scan;

	lightning_rel_ready(rel, false);
	RelationIncrementReferenceCount(rel);
	scan = palloc0(sizeof(LightningScanDescData));
	scan->rel = rel;
	/* these prefetch blocks, which there are none of */
	scan->rs.rs_rd = (flags & (SO_TYPE_BITMAPSCAN | SO_TYPE_ANALYZE)) ? lightning_no_blocks() : rel;
	scan->rs.rs_snapshot = snapshot;
	scan->rs.rs_nkeys = nkeys;
	scan->rs.rs_flags = flags;
	scan->rs.rs_parallel = pscan;
	scan->guard = lightning_guard_create();
	if (nkeys > 0)
	{
		scan->rs.rs_key = palloc(sizeof(ScanKeyData) * nkeys);
		if (key != NULL)
			memcpy(scan->rs.rs_key, key, sizeof(ScanKeyData) * nkeys);
	}
	if (flags & SO_TYPE_BITMAPSCAN)
		lightning_versions_init(&scan->points);
	else if ((flags & SO_TYPE_SEQSCAN) && (flags & SO_ALLOW_STRAT))
		scan->bypass = too_big_for_cache(rel);

	/* ranges of row ids are not predicate-locked: lock the table for them too */
	if ((flags & (SO_TYPE_SEQSCAN | SO_TYPE_SAMPLESCAN | SO_TYPE_TIDRANGESCAN)) != 0 &&
		snapshot != NULL)
		PredicateLockRelation(rel, snapshot);
	if (flags & SO_TYPE_SEQSCAN)
		pgstat_count_heap_scan(rel);
	whole_table(scan);
	return (TableScanDesc) scan;
}

void
lightning_scan_rescan(TableScanDesc sscan, struct ScanKeyData *key, bool set_params,
					  bool allow_strat, bool allow_sync, bool allow_pagemode)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;

	if (key != NULL && scan->rs.rs_nkeys > 0)
		memcpy(scan->rs.rs_key, key, sizeof(ScanKeyData) * scan->rs.rs_nkeys);
	if (scan->rs.rs_flags & SO_TYPE_SEQSCAN)
		pgstat_count_heap_scan(scan->rel);
	scan->sampling = false;
	whole_table(scan);
}

void
lightning_scan_end(TableScanDesc sscan)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;

	if (scan->guard->scan != NULL)
		ltg_scan_close(scan->guard->scan);
	scan->guard->scan = NULL;
	if (scan->slow != NULL)
		lightning_versions_close(scan->slow);
	lightning_analyze_end(sscan);
	if (scan->points.v != NULL)
		lightning_versions_free(&scan->points);
	RelationDecrementReferenceCount(scan->rel);
	if (scan->rs.rs_flags & SO_TEMP_SNAPSHOT)
		UnregisterSnapshot(scan->rs.rs_snapshot);
	if (scan->rs.rs_key != NULL)
		pfree(scan->rs.rs_key);
	/* the guard stays registered with its memory context */
	pfree(scan);
}

/* ---- sequential ---- */

static bool
keys_match(TableScanDesc scan, TupleTableSlot *slot)
{
	for (int i = 0; i < scan->rs_nkeys; i++)
	{
		ScanKey		key = &scan->rs_key[i];
		Datum		value;
		bool		isnull;

		if (key->sk_flags & SK_ISNULL)
			return false;
		value = slot_getattr(slot, key->sk_attno, &isnull);
		if (isnull ||
			!DatumGetBool(FunctionCall2Coll(&key->sk_func, key->sk_collation,
											value, key->sk_argument)))
			return false;
	}
	return true;
}

/* The next row of a parallel scan: chunk by chunk. */
static bool
parallel_row(LightningScanDesc scan, uint64 *rowid, LtgVersion *v)
{
	for (;;)
	{
		uint64		lo;
		uint64		hi;

		if (lightning_scan_row(scan, false, rowid, v))
			return true;
		if (!lightning_parallel_next(scan->rs.rs_parallel, &lo, &hi))
			return false;
		lightning_scan_window(scan, lo, hi);
	}
}

/* The general case: ends of spans, versions of others, changes of direction. */
static pg_noinline bool
getnext_row(LightningScanDesc scan, ScanDirection dir, TupleTableSlot *slot)
{
	uint64		rowid;
	LtgVersion	v;
	bool		found;

	consider_late(scan, slot);
	if (scan->rs.rs_parallel != NULL)
	{
		Assert(ScanDirectionIsForward(dir));
		found = parallel_row(scan, &rowid, &v);
	}
	else
		found = lightning_scan_row(scan, ScanDirectionIsBackward(dir), &rowid, &v);
	if (!found)
	{
		ExecClearTuple(slot);
		return false;
	}
	lightning_slot_store(slot, scan->rel, rowid, &v, false);
	if (v.payload == NULL)
		store_late(slot, scan);
	return true;
}

/* A row of a span into the slot: what lightning_slot_store does, without calls. */
static inline void
span_slot(LightningScanDesc scan, TupleTableSlot *slot)
{
	LightningSlot *ls = (LightningSlot *) slot;
	const LtgSpan *span = &scan->span;
	uint64		rowid;
	uint32		e = span_step(scan, &rowid);

	Assert(slot->tts_ops == &TTSOpsLightning);
	ls->payload = ltg_span_payload(span, e, &ls->payload_len);
	ls->off = 0;
	ls->copied = false;
	ls->xmin = scan->span_xmin;
	ls->writers = span->writers;
	ls->entry = e;
	ls->xmax = InvalidTransactionId;
	ls->cid = span->cid;
	slot->tts_nvalid = 0;
	slot->tts_flags &= ~(TTS_FLAG_EMPTY | TTS_FLAG_SLOW);
	lightning_set_tid(&slot->tts_tid, rowid, ltg_span_tag(span, e));
	slot->tts_tableOid = RelationGetRelid(scan->rel);
	ls->late = NULL;
	if (ls->payload == NULL)
		store_late(slot, scan);
}

bool
lightning_scan_getnextslot(TableScanDesc sscan, ScanDirection dir, TupleTableSlot *slot)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;

	if (unlikely(ScanDirectionIsNoMovement(dir)))
		return !TTS_EMPTY(slot);
	for (;;)
	{
		if (likely(scan->span_left > 0 && scan->backward == ScanDirectionIsBackward(dir)))
			span_slot(scan, slot);
		else if (!getnext_row(scan, dir, slot))
			return false;
		if (likely(scan->rs.rs_nkeys == 0) || keys_match(sscan, slot))
		{
			pgstat_count_heap_getnext(scan->rel);
			return true;
		}
	}
}

/* ---- TID ranges ---- */

void
lightning_scan_set_tidrange(TableScanDesc sscan, ItemPointer mintid, ItemPointer maxtid)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;
	uint64		lo = (uint64) ItemPointerGetBlockNumberNoCheck(mintid) * LIGHTNING_BLOCK_ROWS;
	uint64		hi = ((uint64) ItemPointerGetBlockNumberNoCheck(maxtid) + 1) * LIGHTNING_BLOCK_ROWS;

	ItemPointerCopy(mintid, &sscan->rs_mintid);
	ItemPointerCopy(maxtid, &sscan->rs_maxtid);
	hi = Min(hi, ltg_store_next_rowid(lightning_rel(scan->rel).store));
	if (ItemPointerCompare(mintid, maxtid) > 0)
		lo = hi = 0;
	lightning_scan_window(scan, lo, hi);
}

/*
 * Within a block, TIDs are not in the order of row ids (the version's tag is
 * in their high bits), so whole blocks are read and rows are filtered.
 */
bool
lightning_scan_getnextslot_tidrange(TableScanDesc sscan, ScanDirection dir, TupleTableSlot *slot)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;
	uint64		rowid;
	LtgVersion	v;

	while (lightning_scan_row(scan, ScanDirectionIsBackward(dir), &rowid, &v))
	{
		lightning_slot_store(slot, scan->rel, rowid, &v, false);
		if (ItemPointerCompare(&slot->tts_tid, &sscan->rs_mintid) < 0 ||
			ItemPointerCompare(&slot->tts_tid, &sscan->rs_maxtid) > 0)
			continue;
		pgstat_count_heap_getnext(scan->rel);
		return true;
	}
	ExecClearTuple(slot);
	return false;
}

/* ---- parallel ---- */

Size
lightning_parallelscan_estimate(Relation rel)
{
	return sizeof(LightningParallelScanData);
}

Size
lightning_parallelscan_initialize(Relation rel, ParallelTableScanDesc pscan)
{
	LightningParallelScanData *p = (LightningParallelScanData *) pscan;

	p->base.phs_relid = RelationGetRelid(rel);
	p->base.phs_syncscan = false;
	p->end = ltg_store_next_rowid(lightning_rel(rel).store);
	pg_atomic_init_u64(&p->next, 0);
	return sizeof(LightningParallelScanData);
}

void
lightning_parallelscan_reinitialize(Relation rel, ParallelTableScanDesc pscan)
{
	LightningParallelScanData *p = (LightningParallelScanData *) pscan;

	pg_atomic_write_u64(&p->next, 0);
}

bool
lightning_parallel_next(ParallelTableScanDesc pscan, uint64 *lo, uint64 *hi)
{
	LightningParallelScanData *p = (LightningParallelScanData *) pscan;
	uint64		at = pg_atomic_read_u64(&p->next);
	uint64		chunk;

	do
	{
		if (at >= p->end)
			return false;
		chunk = (p->end - at) / PARALLEL_PART;
		chunk = Max(Min(chunk, PARALLEL_CHUNK_MAX), PARALLEL_CHUNK_MIN);
		chunk = Min(TYPEALIGN64(LIGHTNING_BLOCK_ROWS, at + chunk), p->end) - at;
	} while (!pg_atomic_compare_exchange_u64(&p->next, &at, at + chunk));
	*lo = at;
	*hi = at + chunk;
	return true;
}

/* ---- bitmap ---- */

static void
note_wanted(LightningScanDesc scan, struct TBMIterateResult *tbmres)
{
	memset(scan->wanted, 0, sizeof(scan->wanted));
	for (int i = 0; i < tbmres->ntuples; i++)
	{
		int			at = tbmres->offsets[i] - 1;

		if (at >= 0 && at < LIGHTNING_BLOCK_ROWS)
			scan->wanted[at / 64] |= UINT64CONST(1) << (at % 64);
	}
}

bool
lightning_scan_bitmap_next_block(TableScanDesc sscan, struct TBMIterateResult *tbmres)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;
	uint64		end = ltg_store_next_rowid(lightning_rel(scan->rel).store);
	uint64		lo = (uint64) tbmres->blockno * LIGHTNING_BLOCK_ROWS;

	/* entries made after the scan began may lead beyond the end */
	if (lo >= end)
		return false;
	choose_mode(scan);
	scan->block_start = lo;
	scan->exact = tbmres->ntuples >= 0;
	scan->by_points = scan->exact && tbmres->ntuples <= BITMAP_POINTS_MAX;
	scan->next_offset = 0;
	if (!scan->by_points)
	{
		if (scan->exact)
			note_wanted(scan, tbmres);
		lightning_scan_window(scan, lo, Min(lo + LIGHTNING_BLOCK_ROWS, end));
	}
	return true;
}

/* A row of the bitmap was read: what a serializable transaction must note. */
static void
lock_row(LightningScanDesc scan, uint64 rowid, const LtgVersion *v)
{
	if (scan->serializable)
		lightning_note_read(scan->rel, scan->rs.rs_snapshot, rowid, v);
}

static bool
bitmap_point(LightningScanDesc scan, uint64 rowid, TupleTableSlot *slot)
{
	Relation	rel = scan->rel;
	int			i;

	if (scan->fast)
		return lightning_get_row(rel, rowid, &scan->snap, slot);
	lightning_versions_get_for(rel, rowid, scan->rs.rs_snapshot, &scan->points);
	if (scan->serializable)
		lightning_check_conflict_out(rel, scan->rs.rs_snapshot, &scan->points);
	i = lightning_pick_version(rel, &scan->points, scan->rs.rs_snapshot);
	if (i < 0)
		return false;
	lock_row(scan, rowid, &scan->points.v[i]);
	lightning_slot_store(slot, rel, rowid, &scan->points.v[i], true);
	return true;
}

bool
lightning_scan_bitmap_next_tuple(TableScanDesc sscan, struct TBMIterateResult *tbmres,
								 TupleTableSlot *slot)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;
	uint64		rowid;
	LtgVersion	v;

	if (scan->by_points)
	{
		while (scan->next_offset < tbmres->ntuples)
		{
			OffsetNumber off = tbmres->offsets[scan->next_offset++];

			if (off <= LIGHTNING_BLOCK_ROWS &&
				bitmap_point(scan, scan->block_start + off - 1, slot))
			{
				pgstat_count_heap_fetch(scan->rel);
				return true;
			}
		}
		ExecClearTuple(slot);
		return false;
	}

	while (lightning_scan_row(scan, false, &rowid, &v))
	{
		int			at = (int) (rowid - scan->block_start);

		if (scan->exact && (scan->wanted[at / 64] & (UINT64CONST(1) << (at % 64))) == 0)
			continue;
		lock_row(scan, rowid, &v);
		lightning_slot_store(slot, scan->rel, rowid, &v, false);
		pgstat_count_heap_fetch(scan->rel);
		return true;
	}
	ExecClearTuple(slot);
	return false;
}

/* ---- sampling ---- */

static BlockNumber
sample_blocks(LightningScanDesc scan)
{
	return (BlockNumber) ((scan->sample_end + LIGHTNING_BLOCK_ROWS - 1) / LIGHTNING_BLOCK_ROWS);
}

bool
lightning_scan_sample_next_block(TableScanDesc sscan, struct SampleScanState *st)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;
	TsmRoutine *tsm = st->tsmroutine;
	BlockNumber nblocks;
	BlockNumber block;

	if (!scan->sampling)
	{
		scan->sampling = true;
		scan->sample_end = ltg_store_next_rowid(lightning_rel(scan->rel).store);
		scan->sample_block = InvalidBlockNumber;
		scan->ahead_from = scan->ahead_rowid = PG_UINT64_MAX;
		lightning_scan_window(scan, 0, 0);
	}
	nblocks = sample_blocks(scan);
	if (nblocks == 0)
		return false;
	if (tsm->NextSampleBlock != NULL)
		block = tsm->NextSampleBlock(st, nblocks);
	else if (scan->sample_block == InvalidBlockNumber)
		block = 0;
	else
		block = scan->sample_block + 1;
	if (!BlockNumberIsValid(block) || block >= nblocks)
	{
		/* over: a rescan begins anew */
		scan->sampling = false;
		return false;
	}
	scan->sample_block = block;
	return true;
}

/*
 * Is there a row with this id?  Samples mostly ask in ascending order, so one
 * scan runs along; ahead is its newest row.
 */
static bool
sample_row(LightningScanDesc scan, uint64 rowid)
{
	if (rowid < scan->ahead_from ||
		(rowid > scan->ahead_rowid && rowid - scan->ahead_rowid > SAMPLE_SKIP_MAX))
	{
		lightning_scan_window(scan, rowid, scan->sample_end);
		scan->ahead_rowid = rowid;
		if (!lightning_scan_row(scan, false, &scan->ahead_rowid, &scan->ahead))
			scan->ahead_rowid = PG_UINT64_MAX;
	}
	scan->ahead_from = rowid;
	while (scan->ahead_rowid < rowid)
	{
		if (!lightning_scan_row(scan, false, &scan->ahead_rowid, &scan->ahead))
			scan->ahead_rowid = PG_UINT64_MAX;
	}
	return scan->ahead_rowid == rowid;
}

bool
lightning_scan_sample_next_tuple(TableScanDesc sscan, struct SampleScanState *st,
								 TupleTableSlot *slot)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;
	TsmRoutine *tsm = st->tsmroutine;
	uint64		first = (uint64) scan->sample_block * LIGHTNING_BLOCK_ROWS;
	OffsetNumber maxoffset = (OffsetNumber) Min(scan->sample_end - first, LIGHTNING_BLOCK_ROWS);

	for (;;)
	{
		OffsetNumber off = tsm->NextSampleTuple(st, scan->sample_block, maxoffset);

		if (!OffsetNumberIsValid(off))
			break;
		if (off <= maxoffset && sample_row(scan, first + off - 1))
		{
			lightning_slot_store(slot, scan->rel, scan->ahead_rowid, &scan->ahead, false);
			pgstat_count_heap_getnext(scan->rel);
			return true;
		}
		CHECK_FOR_INTERRUPTS();
	}
	ExecClearTuple(slot);
	return false;
}
