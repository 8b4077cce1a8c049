/*
 * admin.c
 *	  SQL functions: flushing, compacting, statistics.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "server.h"
#include "wal.h"

PG_FUNCTION_INFO_V1(lightning_flush);
PG_FUNCTION_INFO_V1(lightning_compact);
PG_FUNCTION_INFO_V1(lightning_relation_bytes);
PG_FUNCTION_INFO_V1(lightning_stat_memtable);
PG_FUNCTION_INFO_V1(lightning_stat_cache);
PG_FUNCTION_INFO_V1(lightning_stat_background);
PG_FUNCTION_INFO_V1(lightning_stat_files);
PG_FUNCTION_INFO_V1(lightning_stat_wal);
PG_FUNCTION_INFO_V1(lightning_stat_stores);
PG_FUNCTION_INFO_V1(lightning_stat_compaction);
PG_FUNCTION_INFO_V1(lightning_progress_compact);
PG_FUNCTION_INFO_V1(lightning_gate_state);

/* ---- opening a relation by oid ---- */

/* (SQL functions, which run under a snapshot, use AccessShareLock only: see lightning_compact) */
Relation
lightning_open(Oid relid, LOCKMODE mode)
{
	Relation	rel;

	lightning_require_preload();
	rel = relation_open(relid, mode);
	if (rel->rd_tableam != lightning_routine() || !RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a lightning table", RelationGetRelationName(rel))));
	if (RELATION_IS_OTHER_TEMP(rel))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot access temporary tables of other sessions")));
	lightning_rel_ready(rel, false);
	return rel;
}

static void
check_owner(Relation rel)
{
	if (!pg_class_ownercheck(RelationGetRelid(rel), GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
}

/* ---- acting ---- */

/* Like the engine's own flushing, but to the last byte (out of recovery). */
LtgStatus
lightning_flush_everything(LtgSession *s)
{
	LtgFlushResult result;

	/*
	 * During recovery only replay knows where a generation may end: another
	 * process might cut it between a record's versions and its end.
	 */
	while (!RecoveryInProgress())
	{
		LtgStatus	st = ltg_make_room(s, true);

		if (st == LTG_OK)
			break;
		if (st != LTG_BUSY)
			return st;
		LTG_TRY(ltg_flush(s, &result));
	}
	while (ltg_flush_needed(s))
		LTG_TRY(ltg_flush(s, &result));
	ConditionVariableBroadcast(&lightning_shared->room_cv);
	return LTG_OK;
}

Datum
lightning_flush(PG_FUNCTION_ARGS)
{
	LtgSession *s = lightning_session();

	lightning_report(s, lightning_flush_everything(s), NULL);
	PG_RETURN_VOID();
}

/*
 * Merging needs no lock beyond the one that keeps the table there: the engine
 * sorts out who merges what.  A function runs under a snapshot, so it must not
 * wait for a lock that is held by who waits for snapshots (CREATE INDEX
 * CONCURRENTLY): the weakest lock never does.
 */
Datum
lightning_compact(PG_FUNCTION_ARGS)
{
	Relation	rel = lightning_open(PG_GETARG_OID(0), AccessShareLock);
	LtgSession *s = lightning_session();
	LtgCompactResult result;

	check_owner(rel);
	if (PG_GETARG_BOOL(1))
		lightning_report(s, lightning_flush_everything(s), rel);
	if (PG_GETARG_BOOL(2))
		ltg_store_rewrite(s, lightning_rel(rel).store);
	lightning_compact_relation(s, rel, &result);
	relation_close(rel, AccessShareLock);
	PG_RETURN_VOID();
}

Datum
lightning_relation_bytes(PG_FUNCTION_ARGS)
{
	Relation	rel = lightning_open(PG_GETARG_OID(0), AccessShareLock);
	LtgStoreInfo info;

	ltg_store_info(lightning_session(), lightning_rel(rel).store, &info);
	relation_close(rel, AccessShareLock);
	PG_RETURN_INT64((int64) info.disk_bytes);
}

/* ---- statistics ---- */

static Datum
return_counters(FunctionCallInfo fcinfo, const uint64 *counters, int n)
{
	TupleDesc	desc;
	Datum		values[32];
	bool		nulls[32] = {0};
	int			i;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("the extension's script and library do not match"),
				 errhint("Run ALTER EXTENSION lightning UPDATE.")));
	for (i = 0; i < n; i++)
		values[i] = Int64GetDatum((int64) counters[i]);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static void
get_stats(LtgStats *stats)
{
	memset(stats, 0, sizeof(*stats));
	ltg_stats(lightning_session(), stats);
}

Datum
lightning_stat_memtable(PG_FUNCTION_ARGS)
{
	LtgStats	st;
	uint64		c[7];

	get_stats(&st);
	c[0] = st.generations;
	c[1] = st.frozen;
	c[2] = st.memtable_used;
	c[3] = st.memtable_capacity;
	c[4] = st.freezes;
	c[5] = st.busy;
	c[6] = pg_atomic_read_u64(&lightning_shared->room_waits);
	return return_counters(fcinfo, c, lengthof(c));
}

Datum
lightning_stat_cache(PG_FUNCTION_ARGS)
{
	LtgStats	st;
	uint64		c[25];

	get_stats(&st);
	c[0] = st.cache_hits;
	c[1] = st.cache_misses;
	c[2] = st.cache_ghost_hits;
	c[3] = st.cache_evictions;
	c[4] = st.cache_bypasses;
	c[5] = st.cache_frames;
	c[6] = st.cache_used;
	c[7] = st.cache_frame_bytes;
	c[8] = st.cache_ghost_hits_recent;
	c[9] = st.cache_ghost_hits_frequent;
	c[10] = st.cache_recent;
	c[11] = st.cache_frequent;
	c[12] = st.cache_recent_ghosts;
	c[13] = st.cache_frequent_ghosts;
	c[14] = st.cache_recent_target;
	c[15] = st.cache_pinned;
	c[16] = pg_atomic_read_u64(&lightning_shared->prewarm_read);
	c[17] = pg_atomic_read_u64(&lightning_shared->prewarm_saved);
	c[18] = st.packed_hits;
	c[19] = st.packed_misses;
	c[20] = st.packed_inserts;
	c[21] = st.packed_evictions;
	c[22] = st.packed_blocks;
	c[23] = st.packed_used;
	c[24] = st.packed_capacity;
	return return_counters(fcinfo, c, lengthof(c));
}

Datum
lightning_stat_background(PG_FUNCTION_ARGS)
{
	LtgStats	st;
	uint64		c[17];

	get_stats(&st);
	c[0] = st.flushes;
	c[1] = st.flush_bytes;
	c[2] = st.flush_versions_in;
	c[3] = st.flush_versions_out;
	c[4] = pg_atomic_read_u64(&lightning_shared->flush_failures);
	c[5] = pg_atomic_read_u64(&lightning_shared->gate_flushes);
	c[6] = st.compactions;
	c[7] = st.compact_bytes_read;
	c[8] = st.compact_bytes_written;
	c[9] = st.compact_versions_in;
	c[10] = st.compact_versions_out;
	c[11] = pg_atomic_read_u64(&lightning_shared->compact_failures);
	c[12] = pg_atomic_read_u64(&lightning_shared->files_removed);
	c[13] = pg_atomic_read_u64(&lightning_shared->orphans_dropped);
	c[14] = lightning_compactors();
	c[15] = pg_atomic_read_u64(&lightning_shared->slots_missed);
	c[16] = pg_atomic_read_u64(&lightning_shared->rows_lost);
	return return_counters(fcinfo, c, lengthof(c));
}

/* durable is a pg_lsn: the same 64 bits */
Datum
lightning_stat_files(PG_FUNCTION_ARGS)
{
	LtgStats	st;
	uint64		c[10];

	get_stats(&st);
	c[0] = st.files;
	c[1] = st.file_bytes;
	c[2] = st.obsolete_files;
	c[3] = st.manifest;
	c[4] = st.durable;
	c[5] = st.stores;
	c[6] = st.metadata_used;
	c[7] = st.metadata_total;
	c[8] = st.manifest_bytes;
	c[9] = pg_atomic_read_u32(&lightning_shared->xact_copies);
	return return_counters(fcinfo, c, lengthof(c));
}

Datum
lightning_stat_wal(PG_FUNCTION_ARGS)
{
	uint64		c[4];

	lightning_require_preload();
	lightning_publish_wal_usage();
	c[0] = pg_atomic_read_u64(&lightning_shared->wal_records);
	c[1] = pg_atomic_read_u64(&lightning_shared->wal_bytes);
	c[2] = lightning_wal_usage.records;
	c[3] = lightning_wal_usage.bytes;
	return return_counters(fcinfo, c, lengthof(c));
}

/* Add what this backend has logged to the shared counters. */
void
lightning_publish_wal_usage(void)
{
	static LightningWalUsage published;

	if (likely(lightning_wal_usage.records == published.records))
		return;
	pg_atomic_fetch_add_u64(&lightning_shared->wal_records,
							(int64) (lightning_wal_usage.records - published.records));
	pg_atomic_fetch_add_u64(&lightning_shared->wal_bytes,
							(int64) (lightning_wal_usage.bytes - published.bytes));
	published = lightning_wal_usage;
}

#define STORE_COLUMNS 19

static void
put_store(ReturnSetInfo *rsinfo, const LtgStoreInfo *info)
{
	Datum		values[STORE_COLUMNS];
	bool		nulls[STORE_COLUMNS] = {0};
	int			i = 0;

	values[i++] = ObjectIdGetDatum(info->key.space);
	values[i++] = ObjectIdGetDatum(info->key.database);
	values[i++] = ObjectIdGetDatum(info->key.relation);
	values[i++] = Int32GetDatum(info->key.backend);
	values[i++] = LSNGetDatum(info->stamp);
	values[i++] = BoolGetDatum((info->flags & LTG_STORE_UNLOGGED) != 0);
	values[i++] = Int64GetDatum((int64) info->next_rowid);
	values[i++] = Int64GetDatum((int64) info->runs);
	values[i++] = Int64GetDatum((int64) info->l0_runs);
	values[i++] = Int64GetDatum((int64) info->levels);
	values[i++] = Int64GetDatum((int64) info->entries);
	values[i++] = Int64GetDatum((int64) info->keys);
	values[i++] = Int64GetDatum((int64) info->tombstones);
	values[i++] = Int64GetDatum((int64) info->unsettled);
	values[i++] = Int64GetDatum((int64) info->disk_bytes);
	values[i++] = Int64GetDatum((int64) info->raw_bytes);
	values[i++] = Int64GetDatum((int64) info->min_xid);
	values[i++] = Int64GetDatum((int64) info->memtable_keys);
	values[i++] = BoolGetDatum((info->flags & LTG_STORE_DAMAGED) != 0);
	Assert(i == STORE_COLUMNS);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
lightning_stat_stores(PG_FUNCTION_ARGS)
{
	LtgStoreInfo *info;
	uint32		n,
				i;

	info = lightning_list_stores(lightning_session(), &n);
	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < n; i++)
		put_store((ReturnSetInfo *) fcinfo->resultinfo, &info[i]);
	return (Datum) 0;
}

Datum
lightning_stat_compaction(PG_FUNCTION_ARGS)
{
	LtgStats	st;
	uint64		c[18];

	get_stats(&st);
	c[0] = st.backlog;
	c[1] = st.jobs;
	c[2] = st.compactions;
	c[3] = st.compact_moves;
	c[4] = st.compact_tiers;
	c[5] = st.compact_garbage;
	c[6] = st.flush_row_bytes;
	c[7] = st.flush_bytes;
	c[8] = st.compact_bytes_read;
	c[9] = st.compact_bytes_written;
	c[10] = st.obsolete_bytes;
	c[11] = st.rate_limit;
	c[12] = st.limit_waits;
	c[13] = st.limit_wait_us;
	c[14] = st.write_rate;
	c[15] = st.write_delays;
	c[16] = st.write_delay_us;
	c[17] = pg_atomic_read_u64(&lightning_shared->room_waits);
	return return_counters(fcinfo, c, lengthof(c));
}

#define PROGRESS_MAX 64
#define PROGRESS_COLUMNS 15

static void
put_progress(ReturnSetInfo *rsinfo, const LtgCompactProgress *p)
{
	static const char *const phase[] = {
		[LTG_COMPACT_STARTING] = "starting", [LTG_COMPACT_MERGING] = "merging",
		[LTG_COMPACT_WAITING] = "waiting for rate limit",
		[LTG_COMPACT_PUBLISHING] = "publishing"
	};
	Datum		values[PROGRESS_COLUMNS];
	bool		nulls[PROGRESS_COLUMNS] = {0};
	Interval   *running = palloc0(sizeof(Interval));
	int			i = 0;

	running->time = (TimeOffset) p->elapsed_us;
	values[i++] = Int32GetDatum((int32) p->worker);
	values[i++] = ObjectIdGetDatum(p->key.space);
	values[i++] = ObjectIdGetDatum(p->key.database);
	values[i++] = ObjectIdGetDatum(p->key.relation);
	values[i++] = CStringGetTextDatum(p->reason);
	values[i++] = CStringGetTextDatum(phase[p->phase]);
	values[i++] = Int32GetDatum((int32) p->first_level);
	values[i++] = Int32GetDatum((int32) p->out_level);
	values[i++] = Int32GetDatum((int32) p->runs);
	values[i++] = Int64GetDatum((int64) p->bytes_total);
	values[i++] = Int64GetDatum((int64) p->bytes_read);
	values[i++] = Int64GetDatum((int64) p->bytes_written);
	values[i++] = Int64GetDatum((int64) p->versions_in);
	values[i++] = Int64GetDatum((int64) p->versions_out);
	values[i++] = IntervalPGetDatum(running);
	Assert(i == PROGRESS_COLUMNS);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
lightning_progress_compact(PG_FUNCTION_ARGS)
{
	LtgCompactProgress *p = palloc(sizeof(*p) * PROGRESS_MAX);
	LtgSession *s = lightning_session();
	uint32		n = ltg_compact_progress(s, p, PROGRESS_MAX);
	uint32		i;

	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < Min(n, PROGRESS_MAX); i++)
		put_progress((ReturnSetInfo *) fcinfo->resultinfo, &p[i]);
	return (Datum) 0;
}

Datum
lightning_gate_state(PG_FUNCTION_ARGS)
{
	const char *name;

	lightning_require_preload();
	switch (pg_atomic_read_u32(&lightning_shared->gate_state))
	{
		case LIGHTNING_GATE_UP:
			name = "up";
			break;
		case LIGHTNING_GATE_CLOSED:
			name = "closed";
			break;
		default:
			name = RecoveryInProgress() ? "recovery" : "down";
			break;
	}
	PG_RETURN_TEXT_P(cstring_to_text(name));
}
