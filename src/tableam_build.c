/*
 * tableam_build.c
 *	  Reading the table to build or to complete an index.
 *
 * Index entries name rows (tag 0), so a row has one entry per index, made from
 * its newest version.  Where an older version that somebody may still see has
 * other values, the index is unusable for those old snapshots, which is what
 * ii_BrokenHotChain says; as heap does for HOT chains, it is set whenever there
 * is such a version, without a look at the values.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/sysattr.h"
#include "catalog/catalog.h"
#include "catalog/index.h"
#include "commands/progress.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "optimizer/optimizer.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"

#include "lightning.h"
#include "scan.h"
#include "toast.h"
#include "versions.h"

typedef struct Build
{
	Relation	rel;
	Relation	index;
	IndexInfo  *info;
	EState	   *estate;
	ExprContext *econtext;
	ExprState  *predicate;
	TupleTableSlot *slot;
	bool		anyvisible;
	bool		unique;			/* or an exclusion constraint */
	Bitmapset  *used;			/* columns, as pull_varattnos() makes it */
	bool		progress;
	BlockNumber progress_block;
	LtgXid		oldest;
	IndexBuildCallback callback;
	void	   *callback_state;
	double		live;
	LightningVersions again;	/* a row read again after a wait */
} Build;

static void
build_start(Build *b)
{
	b->estate = CreateExecutorState();
	b->econtext = GetPerTupleExprContext(b->estate);
	b->slot = table_slot_create(b->rel, NULL);
	b->econtext->ecxt_scantuple = b->slot;
	b->predicate = ExecPrepareQual(b->info->ii_Predicate, b->estate);
	for (int i = 0; i < b->info->ii_NumIndexAttrs; i++)
	{
		if (b->info->ii_IndexAttrNumbers[i] != 0)
			b->used = bms_add_member(b->used, b->info->ii_IndexAttrNumbers[i] -
									 FirstLowInvalidHeapAttributeNumber);
	}
	pull_varattnos((Node *) b->info->ii_Expressions, 1, &b->used);
	pull_varattnos((Node *) b->info->ii_Predicate, 1, &b->used);
}

static void
build_end(Build *b)
{
	ExecDropSingleTupleTableSlot(b->slot);
	FreeExecutorState(b->estate);
	/* they pointed into the executor state */
	b->info->ii_ExpressionsState = NIL;
	b->info->ii_PredicateState = NULL;
}

/* Of a row that was deleted; false: so long ago that nobody sees it. */
static bool
fetch_toasted(Build *b, const LtgVersion *v)
{
	MemoryContext old;
	bool		there;

	if (b->used == NULL || !lightning_row_has_external(v->payload, v->payload_len))
		return true;
	old = MemoryContextSwitchTo(b->econtext->ecxt_per_tuple_memory);
	there = lightning_toast_fetch(b->slot, b->used);
	MemoryContextSwitchTo(old);
	return there;
}

/* The values to index; false: the row is not for a partial index, or gone. */
static bool
form_datum(Build *b, uint64 rowid, const LtgVersion *v, bool alive, Datum *values, bool *isnull)
{
	MemoryContextReset(b->econtext->ecxt_per_tuple_memory);
	lightning_slot_store(b->slot, b->rel, rowid, v, false);
	if (!alive && !fetch_toasted(b, v))
		return false;
	if (b->predicate != NULL && !ExecQual(b->predicate, b->econtext))
		return false;
	FormIndexDatum(b->info, b->slot, b->estate, values, isnull);
	return true;
}

static void
index_row(Build *b, uint64 rowid, const LtgVersion *v, bool alive)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];
	ItemPointerData tid;

	if (!form_datum(b, rowid, v, alive, values, isnull))
		return;
	lightning_set_tid(&tid, rowid, 0);
	b->callback(b->index, &tid, values, isnull, alive, b->callback_state);
}

static void
report_progress(Build *b, uint64 rowid)
{
	BlockNumber block = (BlockNumber) (rowid / LIGHTNING_BLOCK_ROWS);

	if (b->progress && block != b->progress_block)
	{
		pgstat_progress_update_param(PROGRESS_SCAN_BLOCKS_DONE, block);
		b->progress_block = block;
	}
}

static void
wait_for(Build *b, TransactionId xid, uint64 rowid)
{
	ItemPointerData tid;

	lightning_set_tid(&tid, rowid, 0);
	XactLockTableWait(xid, b->rel, &tid, XLTW_InsertIndexUnique);
	CHECK_FOR_INTERRUPTS();
}

/*
 * One row in a build that reads everything.  The rules are heap's: see
 * heapam_index_build_range_scan.  Returns false if the row has to be judged
 * again, after a transaction that has been waited for.
 */
static bool
build_row(Build *b, LightningVersions *kv)
{
	LightningRowState st;
	int			at;
	bool		alive = true;

	lightning_classify_row(kv, b->oldest, &st);
	at = st.newest;
	switch (st.status)
	{
		case LIGHTNING_ROW_NEVER:
		case LIGHTNING_ROW_DEAD:
			return true;

		case LIGHTNING_ROW_LIVE:
			b->live += 1;
			break;

		case LIGHTNING_ROW_RECENTLY_DEAD:
			alive = false;
			break;

		case LIGHTNING_ROW_INSERT_IN_PROGRESS:
		case LIGHTNING_ROW_UPDATE_IN_PROGRESS:
			if (b->anyvisible || st.mine)
			{
				b->live += 1;
				break;
			}
			/* the caller's lock on the table should have kept it away */
			elog(WARNING, "concurrent insert in progress within table \"%s\"",
				 RelationGetRelationName(b->rel));
			if (b->unique || st.status == LIGHTNING_ROW_UPDATE_IN_PROGRESS)
			{
				wait_for(b, st.xid, kv->rowid);
				return false;
			}
			break;

		case LIGHTNING_ROW_DELETE_IN_PROGRESS:
			alive = false;
			if (b->anyvisible)
				b->live += 1;
			else if (!st.mine)
			{
				elog(WARNING, "concurrent delete in progress within table \"%s\"",
					 RelationGetRelationName(b->rel));
				if (b->unique)
				{
					wait_for(b, st.xid, kv->rowid);
					return false;
				}
				b->live += 1;
			}
			break;
	}

	/* a deleted row's last version may have left the table already */
	if (at < 0)
		return true;
	if (st.base_needed)
		b->info->ii_BrokenHotChain = true;
	index_row(b, kv->rowid, &kv->v[at], alive);
	return true;
}

static void
build_range(Build *b, LightningVersionScan **scan, uint64 lo, uint64 hi)
{
	LightningVersions *kv;

	if (*scan == NULL)
		*scan = lightning_versions_open(b->rel, lo, hi, false);
	else
		lightning_versions_restart(*scan, lo, hi, false);
	while ((kv = lightning_versions_next(*scan)) != NULL)
	{
		uint64		rowid = kv->rowid;

		report_progress(b, rowid);
		while (!build_row(b, kv))
		{
			kv = &b->again;
			lightning_versions_get(b->rel, rowid, false, kv);
		}
	}
}

/* Everything that somebody may see, with SnapshotAny. */
static void
build_all(Build *b, TableScanDesc scan, BlockNumber start_blockno, BlockNumber numblocks)
{
	uint64		end = ltg_store_next_rowid(lightning_rel(b->rel).store);
	LightningVersionScan *versions = NULL;
	uint64		lo;
	uint64		hi;

	lightning_versions_init(&b->again);
	if (scan->rs_parallel != NULL)
	{
		while (lightning_parallel_next(scan->rs_parallel, &lo, &hi))
			build_range(b, &versions, lo, hi);
	}
	else
	{
		lo = (uint64) start_blockno * LIGHTNING_BLOCK_ROWS;
		hi = numblocks == InvalidBlockNumber ? end :
			Min(end, lo + (uint64) numblocks * LIGHTNING_BLOCK_ROWS);
		if (lo < hi)
			build_range(b, &versions, lo, hi);
	}
	if (versions != NULL)
		lightning_versions_close(versions);
	lightning_versions_free(&b->again);
}

/* What a snapshot sees: concurrent builds. */
static void
build_visible(Build *b, TableScanDesc sscan, BlockNumber start_blockno, BlockNumber numblocks)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;
	uint64		rowid;
	LtgVersion	v;

	if (sscan->rs_parallel == NULL && numblocks != InvalidBlockNumber)
	{
		uint64		lo = (uint64) start_blockno * LIGHTNING_BLOCK_ROWS;
		uint64		hi = lo + (uint64) numblocks * LIGHTNING_BLOCK_ROWS;

		lightning_scan_window(scan, lo, Min(hi, scan->hi));
	}
	for (;;)
	{
		uint64		lo;
		uint64		hi;

		if (!lightning_scan_row(scan, false, &rowid, &v))
		{
			if (sscan->rs_parallel == NULL ||
				!lightning_parallel_next(sscan->rs_parallel, &lo, &hi))
				break;
			lightning_scan_window(scan, lo, hi);
			continue;
		}
		report_progress(b, rowid);
		b->live += 1;
		index_row(b, rowid, &v, true);
	}
}

double
lightning_index_build_range_scan(Relation table_rel, Relation index_rel, struct IndexInfo *index_info,
								 bool allow_sync, bool anyvisible, bool progress,
								 BlockNumber start_blockno, BlockNumber numblocks,
								 IndexBuildCallback callback, void *callback_state,
								 TableScanDesc scan)
{
	Build		b = {0};
	Snapshot	own_snapshot = InvalidSnapshot;

	b.rel = table_rel;
	b.index = index_rel;
	b.info = index_info;
	b.anyvisible = anyvisible;
	b.unique = index_info->ii_Unique || index_info->ii_ExclusionOps != NULL;
	b.progress = progress;
	b.progress_block = InvalidBlockNumber;
	b.callback = callback;
	b.callback_state = callback_state;
	Assert(!(anyvisible && b.unique));

	/* from now on entries point at rows: their tombstones are needed */
	ltg_store_set_flags(lightning_session(), lightning_rel(table_rel).store,
						LTG_STORE_KEEP_GRAVES, 0);

	build_start(&b);
	if (scan == NULL)
	{
		if (index_info->ii_Concurrent)
			own_snapshot = RegisterSnapshot(GetTransactionSnapshot());
		scan = table_beginscan_strat(table_rel,
									 own_snapshot != InvalidSnapshot ? own_snapshot : SnapshotAny,
									 0, NULL, true, allow_sync);
	}
	if (progress)
		pgstat_progress_update_param(PROGRESS_SCAN_BLOCKS_TOTAL,
									 numblocks != InvalidBlockNumber ? numblocks :
									 RelationGetNumberOfBlocks(table_rel));
	if (scan->rs_snapshot == SnapshotAny)
	{
		b.oldest = lightning_widen_xid(GetOldestNonRemovableTransactionId(table_rel));
		build_all(&b, scan, start_blockno, numblocks);
	}
	else
		build_visible(&b, scan, start_blockno, numblocks);
	if (progress)
		pgstat_progress_update_param(PROGRESS_SCAN_BLOCKS_DONE,
									 numblocks != InvalidBlockNumber ? numblocks :
									 RelationGetNumberOfBlocks(table_rel));
	table_endscan(scan);
	if (own_snapshot != InvalidSnapshot)
		UnregisterSnapshot(own_snapshot);
	build_end(&b);
	return b.live;
}

/* ---- the second pass of a concurrent build ---- */

/*
 * The next TID that the index has, as a row id; false at the end.  The sort
 * holds them as itemptr_encode() makes them: block, then 16 bits of offset.
 */
static bool
next_indexed(ValidateIndexState *state, uint64 *rowid)
{
	Datum		value;
	bool		isnull;
	int64		encoded;

	if (!tuplesort_getdatum(state->tuplesort, true, &value, &isnull, NULL))
		return false;
	Assert(!isnull);
	encoded = DatumGetInt64(value);
#ifndef USE_FLOAT8_BYVAL
	pfree(DatumGetPointer(value));
#endif
	*rowid = ((uint64) encoded >> 16) * LIGHTNING_BLOCK_ROWS + ((uint64) encoded & 0xFFFF) - 1;
	return true;
}

/*
 * Insert what the snapshot sees and the index lacks.  Row ids and the TIDs in
 * the index have the same order, so this is a merge.
 */
void
lightning_index_validate_scan(Relation table_rel, Relation index_rel, struct IndexInfo *index_info,
							  Snapshot snapshot, struct ValidateIndexState *state)
{
	Build		b = {0};
	TableScanDesc scan;
	uint64		rowid;
	uint64		indexed = 0;
	bool		have_indexed;
	LtgVersion	v;

	b.rel = table_rel;
	b.index = index_rel;
	b.info = index_info;
	b.progress = true;
	b.progress_block = InvalidBlockNumber;
	build_start(&b);
	scan = table_beginscan_strat(table_rel, snapshot, 0, NULL, true, false);
	pgstat_progress_update_param(PROGRESS_SCAN_BLOCKS_TOTAL, RelationGetNumberOfBlocks(table_rel));

	have_indexed = next_indexed(state, &indexed);
	while (lightning_scan_row((LightningScanDesc) scan, false, &rowid, &v))
	{
		Datum		values[INDEX_MAX_KEYS];
		bool		isnull[INDEX_MAX_KEYS];
		ItemPointerData tid;

		CHECK_FOR_INTERRUPTS();
		report_progress(&b, rowid);
		state->htups += 1;
		while (have_indexed && indexed < rowid)
			have_indexed = next_indexed(state, &indexed);
		if (have_indexed && indexed == rowid)
			continue;
		if (!form_datum(&b, rowid, &v, true, values, isnull))
			continue;

		/* also checks uniqueness: of this row as it is now, by its TID */
		lightning_set_tid(&tid, rowid, 0);
		index_insert(index_rel, values, isnull, &tid, table_rel,
					 index_info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
					 false, index_info);
		state->tups_inserted += 1;
	}
	table_endscan(scan);
	build_end(&b);
}
