/*
 * tableam_vacuum.c
 *	  VACUUM and ANALYZE.
 *
 * The engine removes old versions by itself, when it flushes and compacts.
 * What only VACUUM can do is to clean indexes: entries that lead to rows which
 * are gone for everybody.  Such rows leave tombstones ("graves") that the engine
 * keeps until their entries are known to be gone.
 *
 * VACUUM reads all versions, collects the row ids nobody needs, removes them
 * from the indexes, and then allows the engine to drop the graves up to a
 * sequence number.  That number must lie below every tombstone (and every
 * insert that may yet abort) whose entries have not been removed:
 *	 V1. it is taken before the scan begins, and every version logged up to it
 *		 has been applied by then;
 *	 V2. it is lowered below every version met in the scan that is not decided,
 *		 or whose row some snapshot still needs.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "commands/progress.h"
#include "commands/vacuum.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/autovacuum.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_rusage.h"
#include "utils/timestamp.h"

#include "lightning.h"
#include "scan.h"
#include "server.h"
#include "versions.h"
#include "wal.h"

/* Graves are worth a merge of the whole table from this many, and this share. */
#define COMPACT_GRAVES_MIN 10000
#define COMPACT_GRAVES_SHARE 0.2
/* So is this share of superseded versions, when a user runs VACUUM. */
#define COMPACT_SUPERSEDED_SHARE 0.05
/* What a VACUUM found dead is worth a flush from this many rows, and this share. */
#define FLUSH_DEAD_MIN 10000
#define FLUSH_DEAD_SHARE 0.2

/* Where rows come one by one: so many before it is tried again to pass many. */
#define ALIKE_EVERY 8

typedef struct Vacuum
{
	Relation	rel;
	VacuumParams *params;
	BufferAccessStrategy strategy;
	bool		verbose;
	bool		aggressive;
	bool		clean_indexes;
	bool		flushed;		/* all that was written before */
	TransactionId oldest_xmin;
	LtgXid		oldest;

	Relation   *indexes;
	int			nindexes;
	IndexBulkDeleteResult **index_stats;
	int			index_passes;
	VacDeadItems *dead;

	LtgSeq		graves_upto;	/* V1, V2 */
	LtgSeq		graves_cleared; /* by the VACUUM before */
	TransactionId newest_removed;
	double		live;
	double		removed;
	double		recently_dead;
	double		old_rows;
} Vacuum;

/* ---- indexes ---- */

static void
index_info(Vacuum *vac, int i, bool exact, IndexVacuumInfo *info)
{
	memset(info, 0, sizeof(*info));
	info->index = vac->indexes[i];
	info->report_progress = false;
	info->estimated_count = !exact;
	info->message_level = DEBUG2;
	info->num_heap_tuples = exact ? vac->live + vac->recently_dead : vac->old_rows;
	info->strategy = vac->strategy;
}

/*
 * Take the collected row ids out of every index.  Queries on a standby may
 * still see those rows in the table, but could no longer find them by an index:
 * so first of all such snapshots have to end there.
 */
static void
clean_indexes(Vacuum *vac)
{
	if (vac->dead->num_items == 0)
		return;
	if (vac->nindexes > 0 && lightning_rel(vac->rel).logged)
		lightning_log_removed(vac->rel, vac->newest_removed, 0);
	pgstat_progress_update_param(PROGRESS_VACUUM_PHASE, PROGRESS_VACUUM_PHASE_VACUUM_INDEX);
	for (int i = 0; i < vac->nindexes; i++)
	{
		IndexVacuumInfo info;

		index_info(vac, i, false, &info);
		vac->index_stats[i] = vac_bulkdel_one_index(&info, vac->index_stats[i], vac->dead);
	}
	vac->index_passes++;
	vac->dead->num_items = 0;
	pgstat_progress_update_param(PROGRESS_VACUUM_NUM_INDEX_VACUUMS, vac->index_passes);
	pgstat_progress_update_param(PROGRESS_VACUUM_PHASE, PROGRESS_VACUUM_PHASE_SCAN_HEAP);
}

static void
finish_indexes(Vacuum *vac)
{
	pgstat_progress_update_param(PROGRESS_VACUUM_PHASE, PROGRESS_VACUUM_PHASE_INDEX_CLEANUP);
	for (int i = 0; i < vac->nindexes; i++)
	{
		IndexVacuumInfo info;
		IndexBulkDeleteResult *stats;

		index_info(vac, i, true, &info);
		stats = vac_cleanup_one_index(&info, vac->index_stats[i]);
		vac->index_stats[i] = stats;
		if (stats != NULL && !stats->estimated_count)
			vac_update_relstats(vac->indexes[i], stats->num_pages, stats->num_index_tuples,
								0, false, InvalidTransactionId, InvalidMultiXactId,
								NULL, NULL, false);
	}
}

/* ---- the table ---- */

/* V1: the newest sequence number of which everything is applied already. */
static LtgSeq
applied_seq(Vacuum *vac)
{
	LtgSession *s = lightning_session();
	LtgSeq		seq;

	if (lightning_rel(vac->rel).logged)
		seq = GetXLogInsertRecPtr();
	else
		seq = ltg_next_unlogged_seq(s);
	lightning_drain_writers(s);
	return seq;
}

/* V2 */
static void
keep_graves_of(Vacuum *vac, const LightningVersions *kv, const LightningRowState *st)
{
	bool		mine;

	for (int i = 0; i < kv->n; i++)
	{
		const LtgVersion *v = &kv->v[i];

		if (v->seq == 0 || v->seq > vac->graves_upto)
			continue;
		if ((i == st->top && st->status == LIGHTNING_ROW_RECENTLY_DEAD) ||
			lightning_version_fate(v, &mine) == LTG_UNRESOLVED)
			vac->graves_upto = v->seq - 1;
	}
}

static void
note_removed(Vacuum *vac, const LightningVersions *kv, const LightningRowState *st)
{
	TransactionId xid = InvalidTransactionId;

	if (st->status == LIGHTNING_ROW_DEAD)
	{
		/* of a settled one only that is known which is true of all settled ones */
		if (kv->v[st->top].state == LTG_SETTLED)
		{
			xid = (TransactionId) lightning_settled_below();
			TransactionIdRetreat(xid);
		}
		else
			xid = (TransactionId) kv->v[st->top].xid;
	}
	if (TransactionIdIsNormal(xid) &&
		(!TransactionIdIsValid(vac->newest_removed) ||
		 TransactionIdFollows(xid, vac->newest_removed)))
		vac->newest_removed = xid;
}

/* Its entries went in an earlier VACUUM; only the engine still has it. */
static bool
grave_is_cleared(const LightningVersions *kv, const LightningRowState *st, LtgSeq cleared)
{
	const LtgVersion *v = &kv->v[st->top >= 0 ? st->top : 0];

	return v->seq != 0 && v->seq <= cleared;
}

static void
vacuum_row(Vacuum *vac, const LightningVersions *kv)
{
	LightningRowState st;

	lightning_classify_row(kv, vac->oldest, &st);
	keep_graves_of(vac, kv, &st);
	switch (st.status)
	{
		case LIGHTNING_ROW_NEVER:
		case LIGHTNING_ROW_DEAD:
			if (grave_is_cleared(kv, &st, vac->graves_cleared))
				return;
			vac->removed += 1;
			if (vac->nindexes == 0 || !vac->clean_indexes)
				return;
			note_removed(vac, kv, &st);
			if (vac->dead->num_items == vac->dead->max_items)
				clean_indexes(vac);
			lightning_set_tid(&vac->dead->items[vac->dead->num_items++], kv->rowid, 0);
			break;
		case LIGHTNING_ROW_RECENTLY_DEAD:
			vac->recently_dead += 1;
			break;
		case LIGHTNING_ROW_LIVE:
		case LIGHTNING_ROW_UPDATE_IN_PROGRESS:
		case LIGHTNING_ROW_DELETE_IN_PROGRESS:
			vac->live += 1;
			break;
		case LIGHTNING_ROW_INSERT_IN_PROGRESS:
			break;
	}
}

/* Rows of which nothing more need be known: each has one version, by this writer. */
static bool
all_live(const LtgSpan *span)
{
	LtgVersion	v = {.kind = LTG_PUT, .state = span->state, .xid = span->xid, .cid = span->cid};
	LtgState	fate;
	bool		mine;

	fate = lightning_version_fate(&v, &mine);
	return fate == LTG_SETTLED || fate == LTG_COMMITTED;
}

/* The rows that are to come, as long as they are live and alike. */
static void
pass_live(Vacuum *vac, LightningVersionScan *scan)
{
	LtgSpan		span;

	while (lightning_versions_span(scan, &span) && all_live(&span))
	{
		vac->live += span.n;
		lightning_versions_pass(scan, span.n);
		pgstat_progress_update_param(PROGRESS_VACUUM_HEAP_BLKS_SCANNED,
									 (int64) (ltg_span_key(&span, span.at) / LIGHTNING_BLOCK_ROWS));
		vacuum_delay_point();
	}
}

static void
scan_table(Vacuum *vac, uint64 end)
{
	LightningVersionScan *scan = lightning_versions_open(vac->rel, 0, end, false);
	LightningVersions *kv;
	uint64		block = PG_UINT64_MAX;
	uint32		alone = 0;

	pgstat_progress_update_param(PROGRESS_VACUUM_PHASE, PROGRESS_VACUUM_PHASE_SCAN_HEAP);
	lightning_versions_keys_only(scan);
	for (;;)
	{
		if (alone++ % ALIKE_EVERY == 0)
			pass_live(vac, scan);
		kv = lightning_versions_next(scan);
		if (kv == NULL)
			break;
		if (kv->rowid / LIGHTNING_BLOCK_ROWS != block)
		{
			block = kv->rowid / LIGHTNING_BLOCK_ROWS;
			pgstat_progress_update_param(PROGRESS_VACUUM_HEAP_BLKS_SCANNED, (int64) block);
			vacuum_delay_point();
		}
		vacuum_row(vac, kv);
	}
	lightning_versions_close(scan);
	clean_indexes(vac);
}

static void
alloc_dead(Vacuum *vac, uint64 rows)
{
	int			work_mem_kb = IsAutoVacuumWorkerProcess() && autovacuum_work_mem != -1 ?
	autovacuum_work_mem : maintenance_work_mem;
	Size		max = vac_max_items_to_alloc_size(1);
	uint64		n;

	n = ((uint64) work_mem_kb * 1024 - max) / sizeof(ItemPointerData);
	n = Min(n, Max(rows, 1));
	n = Min(n, (MaxAllocSize - max) / sizeof(ItemPointerData));
	vac->dead = palloc(vac_max_items_to_alloc_size((int) n));
	vac->dead->max_items = (int) n;
	vac->dead->num_items = 0;
}

/* ---- a table without dead rows ---- */

/* All that this transaction wrote stays. */
static bool
has_committed(LtgXid xid)
{
	LtgVersion	v = {.kind = LTG_PUT, .state = LTG_UNRESOLVED, .xid = xid};
	bool		mine;

	return xid != 0 && lightning_version_fate(&v, &mine) == LTG_COMMITTED;
}

/* Is every row in files live?  What that writer has left in memory is not looked at. */
static bool
files_are_live(Vacuum *vac, LtgXid writer)
{
	LightningVersionScan *scan = lightning_versions_open(vac->rel, 0, LIGHTNING_ROWID_MAX + 1, false);
	LightningVersions *kv;
	LightningRowState st;
	bool		live = true;

	lightning_versions_keys_only(scan);
	lightning_versions_ignore_from(scan, writer);
	while (live)
	{
		pass_live(vac, scan);
		kv = lightning_versions_next(scan);
		if (kv == NULL)
			break;
		lightning_classify_row(kv, vac->oldest, &st);
		live = st.status == LIGHTNING_ROW_LIVE;
	}
	lightning_versions_close(scan);
	return live;
}

/*
 * Dead rows have tombstones, or were written by a transaction that has aborted.
 * So there is none in the memtable if all of it was put there by one transaction
 * that has committed (a load); and none in files if the same is true of what is not
 * settled there, or else if a look at them shows it.
 */
static bool
nothing_to_do(Vacuum *vac, const LtgStoreInfo *info)
{
	if (info->tombstones > 0 ||
		(info->memtable_keys > 0 && !has_committed(info->memtable_writer)))
		return false;
	return info->unsettled == 0 ||
		(info->min_xid == info->max_xid && has_committed(info->min_xid)) ||
		files_are_live(vac, info->memtable_writer);
}

/* ---- settling ---- */

/*
 * The oldest transaction whose fate this table may have to ask for after now;
 * invalid if that can't be told without a flush.  After one, what is in memory
 * has been written by transactions that ran when this VACUUM had begun: so a
 * table that is written to all the time gets a newer relfrozenxid as well.
 */
static TransactionId
oldest_unsettled(Vacuum *vac, const LtgStoreInfo *info)
{
	LtgXid		oldest = vac->oldest;
	LtgXid		replaced;

	if (info->memtable_keys > 0 && !vac->flushed)
		return InvalidTransactionId;
	if (info->min_xid != 0 && info->min_xid < oldest)
		oldest = info->min_xid;
	/* a copy that is being made of this node may have files that we replaced: T3 */
	if (lightning_may_be_copied())
	{
		replaced = ltg_oldest_xid(lightning_session(), true);
		if (replaced != 0 && replaced < oldest)
			oldest = replaced;
	}
	return (TransactionId) oldest;
}

/*
 * Scans would meet what this VACUUM has found dead: in memory, or in files hidden by
 * what is in memory.  A flush leaves out what nobody needs, and a merge finds the rest.
 */
static bool
much_is_dead(const Vacuum *vac)
{
	return vac->removed >= FLUSH_DEAD_MIN &&
		vac->removed >= (vac->removed + vac->live) * FLUSH_DEAD_SHARE;
}

static TransactionId
settle(Vacuum *vac, TransactionId freeze_limit)
{
	LtgSession *s = lightning_session();
	LtgStore   *store = lightning_rel(vac->rel).store;
	LtgStoreInfo info;
	LtgFlushResult flushed;
	LtgCompactResult compacted;
	TransactionId frozen;
	LtgStatus	st;
	bool		compact;

	ltg_store_info(s, store, &info);
	if (info.memtable_keys > 0 && (vac->aggressive || much_is_dead(vac)))
	{
		st = ltg_flush_upto(s, GetXLogInsertRecPtr(), &flushed);
		if (st != LTG_BUSY)
			lightning_report(s, st, vac->rel);
		vac->flushed = (st == LTG_OK);
		ltg_store_info(s, store, &info);
	}

	frozen = oldest_unsettled(vac, &info);
	compact = vac->aggressive && TransactionIdIsValid(frozen) &&
		TransactionIdPrecedes(frozen, freeze_limit);
	if (info.tombstones > COMPACT_GRAVES_MIN &&
		(double) info.tombstones > (double) info.entries * COMPACT_GRAVES_SHARE)
		compact = true;
	if (!IsAutoVacuumWorkerProcess() &&
		(double) (info.superseded + info.tombstones) >
		(double) info.entries * COMPACT_SUPERSEDED_SHARE)
		compact = true;
	if (!compact)
		return frozen;

	lightning_compact_relation(s, vac->rel, &compacted);
	ltg_store_info(s, store, &info);
	return oldest_unsettled(vac, &info);
}

/* ---- the command ---- */

static void
report(Vacuum *vac, const PGRUsage *usage, TransactionId frozen, BlockNumber pages)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, _("finished vacuuming \"%s.%s.%s\": index scans: %d\n"),
					 get_database_name(MyDatabaseId),
					 get_namespace_name(RelationGetNamespace(vac->rel)),
					 RelationGetRelationName(vac->rel), vac->index_passes);
	appendStringInfo(&buf, _("tuples: %lld removed, %lld remain, %lld are dead but not yet removable\n"),
					 (long long) vac->removed, (long long) vac->live,
					 (long long) vac->recently_dead);
	appendStringInfo(&buf, _("blocks of row ids: %u\n"), pages);
	appendStringInfo(&buf, _("removable cutoff: %u, which was %d XIDs old when operation ended\n"),
					 vac->oldest_xmin, (int32) (ReadNextTransactionId() - vac->oldest_xmin));
	if (TransactionIdIsValid(frozen))
		appendStringInfo(&buf, _("oldest unsettled transaction: %u\n"), frozen);
	for (int i = 0; i < vac->nindexes; i++)
	{
		IndexBulkDeleteResult *stats = vac->index_stats[i];

		if (stats != NULL)
			appendStringInfo(&buf,
							 _("index \"%s\": pages: %u in total, %u newly deleted, %u currently deleted, %u reusable\n"),
							 RelationGetRelationName(vac->indexes[i]), stats->num_pages,
							 stats->pages_newly_deleted, stats->pages_deleted, stats->pages_free);
	}
	appendStringInfo(&buf, _("system usage: %s"), pg_rusage_show(usage));
	ereport(vac->verbose ? INFO : LOG, (errmsg_internal("%s", buf.data)));
	pfree(buf.data);
}

static void
vacuum_table(Vacuum *vac, const LtgStoreInfo *info)
{
	LtgStore   *store = lightning_rel(vac->rel).store;
	LtgStoreInfo now;

	if (nothing_to_do(vac, info))
	{
		/* a flush may have come between */
		ltg_store_info(lightning_session(), store, &now);
		vac->live = lightning_estimate_rows(&now);
		return;
	}
	vac->live = 0;
	vac->graves_cleared = info->graves_cleared;
	alloc_dead(vac, info->entries + info->memtable_keys);
	vac->graves_upto = applied_seq(vac);
	scan_table(vac, ltg_store_next_rowid(store));
	/* with entries left in indexes, graves have to stay */
	if (vac->nindexes == 0 || vac->clean_indexes)
	{
		if (lightning_rel(vac->rel).logged && vac->graves_upto > vac->graves_cleared)
			lightning_log_removed(vac->rel, InvalidTransactionId, vac->graves_upto);
		ltg_store_clear_graves(lightning_session(), store, vac->graves_upto);
	}
	pfree(vac->dead);
}

void
lightning_relation_vacuum(Relation rel, struct VacuumParams *params, BufferAccessStrategy bstrategy)
{
	Vacuum	   *vac = palloc0(sizeof(Vacuum));
	LtgStore   *store = lightning_rel(rel).store;
	LtgStoreInfo info;
	PGRUsage	usage;
	TimestampTz started = GetCurrentTimestamp();
	TransactionId freeze_limit;
	TransactionId frozen;
	MultiXactId oldest_mxact;
	MultiXactId mxact_cutoff;
	BlockNumber pages;
	bool		frozen_updated;
	bool		minmulti_updated;

	pg_rusage_init(&usage);
	pgstat_progress_start_command(PROGRESS_COMMAND_VACUUM, RelationGetRelid(rel));
	vac->rel = rel;
	vac->params = params;
	vac->strategy = bstrategy;
	vac->verbose = (params->options & VACOPT_VERBOSE) != 0;
	vac->clean_indexes = params->index_cleanup != VACOPTVALUE_DISABLED;
	vac->old_rows = rel->rd_rel->reltuples;
	vac->aggressive = vacuum_set_xid_limits(rel, params->freeze_min_age, params->freeze_table_age,
											params->multixact_freeze_min_age,
											params->multixact_freeze_table_age,
											&vac->oldest_xmin, &oldest_mxact,
											&freeze_limit, &mxact_cutoff);
	if (params->options & VACOPT_DISABLE_PAGE_SKIPPING)
		vac->aggressive = true;
	vac->oldest = lightning_widen_xid(vac->oldest_xmin);
	if (vac->verbose)
		ereport(INFO,
				(errmsg(vac->aggressive ? "aggressively vacuuming \"%s.%s.%s\"" :
						"vacuuming \"%s.%s.%s\"",
						get_database_name(MyDatabaseId),
						get_namespace_name(RelationGetNamespace(rel)),
						RelationGetRelationName(rel))));

	vac_open_indexes(rel, RowExclusiveLock, &vac->nindexes, &vac->indexes);
	if (params->nworkers > 0 && vac->nindexes > 1 && RelationUsesLocalBuffers(rel))
		ereport(WARNING,
				(errmsg("disabling parallel option of vacuum on \"%s\" --- cannot vacuum temporary tables in parallel",
						RelationGetRelationName(rel))));
	vac->index_stats = palloc0(sizeof(IndexBulkDeleteResult *) * Max(vac->nindexes, 1));
	pages = RelationGetNumberOfBlocks(rel);
	pgstat_progress_update_param(PROGRESS_VACUUM_TOTAL_HEAP_BLKS, pages);

	ltg_store_info(lightning_session(), store, &info);
	vacuum_table(vac, &info);
	if (vac->clean_indexes)
		finish_indexes(vac);
	frozen = settle(vac, freeze_limit);

	pgstat_progress_update_param(PROGRESS_VACUUM_PHASE, PROGRESS_VACUUM_PHASE_FINAL_CLEANUP);
	/* no multixact is ever stored: as new as it can be */
	vac_update_relstats(rel, pages, vac->live, 0, vac->nindexes > 0, frozen, oldest_mxact,
						&frozen_updated, &minmulti_updated, false);
	pgstat_report_vacuum(RelationGetRelid(rel), rel->rd_rel->relisshared,
						 (PgStat_Counter) vac->live, (PgStat_Counter) vac->recently_dead);
	if (vac->verbose ||
		(IsAutoVacuumWorkerProcess() && params->log_min_duration >= 0 &&
		 TimestampDifferenceExceeds(started, GetCurrentTimestamp(), params->log_min_duration)))
		report(vac, &usage, frozen, pages);
	vac_close_indexes(vac->nindexes, vac->indexes, NoLock);
	pgstat_progress_end_command();
	pfree(vac->index_stats);
	pfree(vac);
}

/* ---- ANALYZE ---- */

/*
 * ANALYZE picks blocks of TIDs at random.  Row ids are never used again, so in
 * a table with a past most blocks may be empty, and a sample of them would
 * starve.  Where there is less than a row per block, the populated blocks are
 * found by a scan and stand in for all of them: number k of n is the one at
 * k/n of their list, and rows are counted with the weight that makes up for it.
 */
struct LightningAnalyze
{
	LightningVersionScan *versions;
	uint64		end;			/* row ids */
	BlockNumber nblocks;
	BlockNumber *populated;		/* NULL: every block is what it is */
	uint32		npopulated;
	uint32		last;			/* visited last, in populated */
	LtgSeq		graves_cleared;
	double		weight;
	LtgSpan		span;			/* live rows that are alike; */
	uint32		span_left;		/* so many are left, from this entry on */
	uint32		span_entry;
};

/* What ANALYZE will take for its number of sample rows. */
static double
sample_target(Relation rel)
{
	int			target = 0;

	for (int i = 0; i < RelationGetDescr(rel)->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);
		int			mine = att->attstattarget < 0 ? default_statistics_target : att->attstattarget;

		if (!att->attisdropped)
			target = Max(target, mine);
	}
	return Max(300.0 * target, 100.0);
}

static void
find_populated(Relation rel, struct LightningAnalyze *an)
{
	LightningVersionScan *scan = lightning_versions_open(rel, 0, an->end, false);
	LightningVersions *kv;
	uint32		max = 1024;

	an->populated = palloc(sizeof(BlockNumber) * max);
	while ((kv = lightning_versions_next(scan)) != NULL)
	{
		BlockNumber block = (BlockNumber) (kv->rowid / LIGHTNING_BLOCK_ROWS);

		if (an->npopulated > 0 && an->populated[an->npopulated - 1] == block)
			continue;
		if (an->npopulated == max)
		{
			max *= 2;
			an->populated = repalloc_huge(an->populated, sizeof(BlockNumber) * max);
		}
		an->populated[an->npopulated++] = block;
		vacuum_delay_point();
	}
	lightning_versions_close(scan);
}

static void
begin_analyze(LightningScanDesc scan)
{
	Relation	rel = scan->rel;
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(scan));
	struct LightningAnalyze *an = palloc0(sizeof(*an));
	LtgStoreInfo info;
	double		sampled;

	ltg_store_info(lightning_session(), lightning_rel(rel).store, &info);
	an->end = info.next_rowid;
	an->nblocks = (BlockNumber) ((an->end + LIGHTNING_BLOCK_ROWS - 1) / LIGHTNING_BLOCK_ROWS);
	an->graves_cleared = info.graves_cleared;
	an->weight = 1.0;
	an->last = PG_UINT32_MAX;
	sampled = sample_target(rel);
	if (an->nblocks > sampled && lightning_estimate_rows(&info) < an->nblocks)
	{
		find_populated(rel, an);
		an->weight = Max((double) an->npopulated, sampled) / an->nblocks;
	}
	an->versions = lightning_versions_open(rel, 0, 0, false);
	scan->analyze = an;
	MemoryContextSwitchTo(old);
}

bool
lightning_scan_analyze_next_block(TableScanDesc sscan, BlockNumber blockno,
								  BufferAccessStrategy bstrategy)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;
	struct LightningAnalyze *an;
	uint64		lo;

	if (scan->analyze == NULL)
		begin_analyze(scan);
	an = scan->analyze;
	if (an->populated != NULL)
	{
		uint32		at;

		if (an->npopulated == 0)
			return false;
		at = (uint32) ((uint64) Min(blockno, an->nblocks - 1) * an->npopulated / an->nblocks);
		if (at == an->last)
			return false;
		an->last = at;
		blockno = an->populated[at];
	}
	lo = (uint64) blockno * LIGHTNING_BLOCK_ROWS;
	if (lo >= an->end)
		return false;
	lightning_versions_restart(an->versions, lo, Min(lo + LIGHTNING_BLOCK_ROWS, an->end), false);
	an->span_left = 0;
	return true;
}

/* The next one of many live rows. */
static bool
analyze_span(struct LightningAnalyze *an, Relation rel, TupleTableSlot *slot)
{
	LtgVersion	v = {.kind = LTG_PUT};

	if (an->span_left == 0)
	{
		if (!lightning_versions_span(an->versions, &an->span) || !all_live(&an->span))
			return false;
		an->span_left = an->span.n;
		an->span_entry = an->span.at;
		lightning_versions_pass(an->versions, an->span.n);
	}
	v.state = an->span.state;
	v.xid = ltg_span_xid(&an->span, an->span_entry);
	v.cid = an->span.cid;
	v.tag = ltg_span_tag(&an->span, an->span_entry);
	v.payload = ltg_span_payload(&an->span, an->span_entry, &v.payload_len);
	lightning_slot_store(slot, rel, ltg_span_key(&an->span, an->span_entry), &v, false);
	an->span_entry += (uint32) an->span.step;
	an->span_left--;
	return true;
}

/* Counted and sampled as heapam_scan_analyze_next_tuple does. */
bool
lightning_scan_analyze_next_tuple(TableScanDesc sscan, TransactionId OldestXmin, double *liverows,
								  double *deadrows, TupleTableSlot *slot)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;
	struct LightningAnalyze *an = scan->analyze;
	LtgXid		oldest = lightning_widen_xid(OldestXmin);
	LightningVersions *kv;

	if (analyze_span(an, scan->rel, slot))
	{
		*liverows += an->weight;
		return true;
	}
	while ((kv = lightning_versions_next(an->versions)) != NULL)
	{
		LightningRowState st;
		int			sample = -1;

		lightning_classify_row(kv, oldest, &st);
		switch (st.status)
		{
			case LIGHTNING_ROW_NEVER:
			case LIGHTNING_ROW_DEAD:
				/* what VACUUM has dealt with must not call for another one */
				if (!grave_is_cleared(kv, &st, an->graves_cleared))
					*deadrows += an->weight;
				break;
			case LIGHTNING_ROW_RECENTLY_DEAD:
				*deadrows += an->weight;
				break;
			case LIGHTNING_ROW_LIVE:
				sample = st.newest;
				break;
			case LIGHTNING_ROW_INSERT_IN_PROGRESS:
				if (st.mine)
					sample = st.newest;
				break;
			case LIGHTNING_ROW_UPDATE_IN_PROGRESS:
				sample = st.mine ? st.newest : st.base;
				break;
			case LIGHTNING_ROW_DELETE_IN_PROGRESS:
				if (st.mine)
					*deadrows += an->weight;
				else
					sample = st.newest;
				break;
		}
		if (sample < 0)
			continue;
		*liverows += an->weight;
		lightning_slot_store(slot, scan->rel, kv->rowid, &kv->v[sample], false);
		return true;
	}
	ExecClearTuple(slot);
	return false;
}

void
lightning_analyze_end(TableScanDesc sscan)
{
	LightningScanDesc scan = (LightningScanDesc) sscan;

	if (scan->analyze != NULL)
		lightning_versions_close(scan->analyze->versions);
	scan->analyze = NULL;
}
