/*
 * lightning.h
 *	  What the files of the PostgreSQL side share.
 *
 * Include after postgres.h.  Names: callbacks mirror heapam's
 * (lightning_tuple_insert), everything else is lightning_<verb>.
 */
#ifndef LIGHTNING_H
#define LIGHTNING_H

#include "access/tableam.h"
#include "access/transam.h"
#include "storage/itemptr.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "compat.h"
#include "../engine/ltg.h"

#define LIGHTNING_RMGR_ID 133
#define LIGHTNING_DIR "lightning"	/* in the data directory */

/* ---- guc.c ---- */
extern int	lightning_memtable_size;	/* kB, one arena */
extern int	lightning_memtable_count;
extern int	lightning_cache_size;		/* kB */
extern int	lightning_compressed_cache_size;	/* kB */
extern int	lightning_metadata_size;	/* kB */
extern int	lightning_row_lock_size;	/* kB */
extern int	lightning_compaction_workers;
extern int	lightning_compaction_rate_limit;	/* kB per second */
extern bool lightning_inplace_update;
extern bool lightning_ignore_damage;
extern int	lightning_temp_table_limit; /* kB, -1: none */
extern int	lightning_block_size;		/* kB, raw bytes of a data block */
extern int	lightning_filter_bits;
extern int	lightning_zstd_level;
extern int	lightning_compaction_trigger;
extern int	lightning_space_limit;
typedef enum LightningWalCompression
{
	LIGHTNING_WAL_PLAIN,
	LIGHTNING_WAL_LZ4,
	LIGHTNING_WAL_ZSTD
} LightningWalCompression;
extern int	lightning_wal_compression;	/* for multi-row records */
extern void lightning_define_gucs(void);
extern void lightning_define_prewarm_gucs(void);	/* prewarm.c */

/* ---- preset.c ---- */
struct config_enum_entry;
extern void lightning_define_preset(void);
/* The default of lightning.<setting>: the preset's, or the one given. */
extern int	lightning_default_int(const char *setting, int balanced, int flags);
extern int	lightning_derived_cache_size(void); /* kB */
extern bool lightning_default_bool(const char *setting, bool balanced);
extern int	lightning_default_enum(const char *setting, int balanced,
								   const struct config_enum_entry *options);
/* At server start: warns when the server's settings contradict the preset. */
extern void lightning_preset_check(void);

/* ---- shmem.c ---- */
extern void lightning_shmem_init(void);	/* installs hooks; from _PG_init */
extern bool lightning_preloaded(void);
/* ERROR with hint unless the library is in shared_preload_libraries. */
extern void lightning_require_preload(void);
extern LtgShared *lightning_region;

/* ---- session.c (xact.c): the backend's engine session ---- */
/* Opened at first use, reset at (sub)abort, closed at exit. */
extern LtgSession *lightning_session(void);
/*
 * Around the log record and the change of a store itself: nobody else changes stores
 * meanwhile.  A critical section: an error in it would leave the lock held, and the
 * memory without what the log says.
 */
extern void lightning_ddl_begin(LtgSession *s);
extern void lightning_ddl_end(LtgSession *s);

/* ---- error.c: the one place where engine statuses become ereports ---- */
/* No-op for OK, NOT_FOUND, END, BUSY.  rel may be NULL.  Clears s->err. */
extern void lightning_report(LtgSession *s, LtgStatus st, Relation rel);
/*
 * For PG_CATCH, where an error is not passed on, or not before the engine has
 * unwound.  holdoff: InterruptHoldoffCount as it was before PG_TRY.  Goes back to
 * the context `back`; returns a copy of the error in `keep`, if that is not NULL.
 */
extern ErrorData *lightning_catch(MemoryContext keep, MemoryContext back, uint32 holdoff);
extern void lightning_rethrow(ErrorData *error) pg_attribute_noreturn();

/* ---- gate.c, worker.c ---- */
/* Call between ltg_reserve and the log record: false = the gate is not up (the
 * caller cancels, unlatches and calls lightning_gate_wait). In recovery: true. */
extern bool lightning_gate_is_up(void);
/* Waits until it is up; ERROR when it can't come (single-user, shutdown). */
extern void lightning_gate_wait(void);
/* After LTG_BUSY: make room, else wake the flusher and wait, interruptibly.
 * Must be called with no latch held. */
extern void lightning_make_room(LtgSession *s);
/* Wait before a write, interruptibly; nothing may be held. */
extern void lightning_delay_write(uint64 us);
extern void lightning_wake_flusher(void);
extern void lightning_compact_relation(LtgSession *s, Relation rel, LtgCompactResult *result);
extern void lightning_gate_init(void);		/* from _PG_init: hooks, worker */
extern void lightning_register_workers(void);
/*
 * For the resource manager.  begin: from rm_startup; checks that the files
 * reach up to where replay starts.  flush: from rm_cleanup; everything replayed
 * so far goes to files (checkpoint records do so by themselves).  make_room:
 * redo got LTG_BUSY; flushes in the startup process.
 */
extern void lightning_recovery_begin(void);
extern void lightning_recovery_flush(void);
/* Replay is over: flush, and mark that nothing of ours follows. */
extern void lightning_recovery_end(void);
extern void lightning_recovery_make_room(LtgSession *s);
/* Between reserve and apply: the record that ends at lsn is about to be applied
 * whole, so that a cut of the memtable contains all of it or nothing. */
extern void lightning_recovery_applied(XLogRecPtr lsn);
/* rmgr.c: PANIC if an update that could not be replayed has committed. */
extern void lightning_recovery_check_left_out(void);

/* ---- size.c ---- */
extern void lightning_install_size_hooks(void);	/* from _PG_init */
/* Add the blocks read since the last call to the statistics of the query and
 * the table. */
extern void lightning_count_blocks(LtgSession *s, Relation rel);
/* A function of the extension by name, whatever its schema; or InvalidOid. */
extern Oid	lightning_function(const char *name, int nargs, const Oid *args);

/* ---- pages.c ---- */
/* Make a call of a module that reads pages refuse lightning tables. */
struct FuncExpr;
extern Oid	lightning_guard_pages(struct FuncExpr *call);
#define lightning_blocks_done(s, rel) \
	do { \
		if ((s)->blocks_hit != 0 || (s)->blocks_read != 0) \
			lightning_count_blocks((s), (rel)); \
	} while (0)

/* ---- relation.c: relation -> store ---- */
typedef struct LightningRel
{
	LtgStore   *store;
	uint64		store_id;
	bool		logged;			/* permanent relation: writes WAL, always */
} LightningRel;
/* By value, and without a look at any catalog: it may be called under a latch or
 * an index page's lock.  ERRCODE_DATA_CORRUPTED when the relation has no store
 * ("never silently empty"). */
extern LightningRel lightning_rel(Relation rel);
/* Does what has to look at catalogs, where a statement begins to read or write a
 * relation: tells the store its options, and the user that changes are not published. */
extern void lightning_rel_ready(Relation rel, bool write);

/*
 * Whoever looks at a catalog accepts invalidations, which may free anything that the
 * relation cache holds, and may wait.  With assertions, an invalidation that comes
 * between these two, or while a row is latched, is a failure.
 */
#ifdef USE_ASSERT_CHECKING
extern bool lightning_catalogs_closed;
#define lightning_close_catalogs() (lightning_catalogs_closed = true)
#define lightning_open_catalogs() (lightning_catalogs_closed = false)
#else
#define lightning_close_catalogs() ((void) 0)
#define lightning_open_catalogs() ((void) 0)
#endif
extern void lightning_store_key(const RelFileNode *node, BackendId backend, LtgStoreKey *key);
extern uint64 lightning_take_rowid(Relation rel);
extern uint64 lightning_take_rowids(Relation rel, uint32 n);	/* consecutive */
/*
 * Create the store of a new relfilenode: logs it (unless temporary) and drops
 * it again if the (sub)transaction aborts.  The relation's main fork must have
 * been created before: its file is what tells an orphan.  Old stores go, like
 * the files, at commit (RelationDropStorage says which).
 */
/* Memory for the next one to be created or emptied: before the record. */
extern void lightning_reserve_store(LtgSession *s);
extern void lightning_create_store(const RelFileNode *node, char persistence, BackendId backend);

/* Before n rows are inserted or updated, with nothing latched. */
extern void lightning_enforce_temp_limit(uint32 n);
static inline void
lightning_check_temp_limit(Relation rel, uint32 n)
{
	if (unlikely(lightning_temp_table_limit >= 0) && RelationUsesLocalBuffers(rel))
		lightning_enforce_temp_limit(n);
}

/* ---- row ids and TIDs ----
 * rowid: 40 bits = block << 8 | (offset - 1).  The executor's TIDs carry the
 * version's tag in the high bits of the offset; index entries hold tag 0. */
#define LIGHTNING_ROWID_MAX ((UINT64CONST(0xFFFFFFFE) << 8) | 255)
#define LIGHTNING_TAG_MAX 126
#define LIGHTNING_KEY_LEN 5

static inline void
lightning_set_tid(ItemPointer tid, uint64 rowid, uint8 tag)
{
	ItemPointerSet(tid, (BlockNumber) (rowid >> 8),
				   (OffsetNumber) (((rowid & 255) + 1) | ((uint32) tag << 9)));
}

static inline uint64
lightning_tid_rowid(const ItemPointerData *tid)
{
	return ((uint64) ItemPointerGetBlockNumberNoCheck(tid) << 8) |
		(uint64) ((ItemPointerGetOffsetNumberNoCheck(tid) & 511) - 1);
}

static inline uint8
lightning_tid_tag(const ItemPointerData *tid)
{
	return (uint8) (ItemPointerGetOffsetNumberNoCheck(tid) >> 9);
}

/* false: the offset is none of ours (e.g. user-written ctid) */
static inline bool
lightning_tid_valid(const ItemPointerData *tid)
{
	OffsetNumber off = ItemPointerGetOffsetNumberNoCheck(tid) & 511;

	return ItemPointerGetBlockNumberNoCheck(tid) != InvalidBlockNumber &&
		off >= 1 && off <= 256;
}

static inline void
lightning_rowid_key(uint8 *key, uint64 rowid)
{
	key[0] = (uint8) (rowid >> 32);
	key[1] = (uint8) (rowid >> 24);
	key[2] = (uint8) (rowid >> 16);
	key[3] = (uint8) (rowid >> 8);
	key[4] = (uint8) rowid;
}

static inline uint64
lightning_key_rowid(const uint8 *key)
{
	return ((uint64) key[0] << 32) | ((uint64) key[1] << 24) |
		((uint64) key[2] << 16) | ((uint64) key[3] << 8) | key[4];
}

/* ---- xid.c: 32 <-> 64 bit transaction ids, snapshots ---- */
/* Widen an xid that is within 2^31 of the next one. */
extern LtgXid lightning_widen_xid(TransactionId xid);
/* My current (sub)transaction's id, assigned if need be. */
extern LtgXid lightning_my_xid(void);
extern LtgXid lightning_seen_below(void);
extern LtgXid lightning_horizon(void);
/* In recovery "not known" is in progress. May ereport. */
extern LtgXidStatus lightning_xid_status(LtgXid xid);
/* As PostgreSQL's functions; also of what its commit log has forgotten. */
extern bool lightning_did_commit(LtgXid xid);
extern bool lightning_did_abort(LtgXid xid);

#define LIGHTNING_KNOWN_XIDS 8
typedef struct LightningSnapshot
{
	LtgSnapshot ltg;			/* first: handed to the engine */
	Snapshot	pg;
	MemoryContext context;		/* where error is kept */
	ErrorData  *error;			/* when ltg.failed */
	struct
	{
		LtgXid		xid;		/* 0: unused */
		bool		visible;
		LtgState	fate;
	}			known[LIGHTNING_KNOWN_XIDS];	/* fates of other transactions */
} LightningSnapshot;
/* MVCC snapshots (incl. imported, standby): ready for ltg_get and scans. */
extern void lightning_snapshot_init(LightningSnapshot *ls, Snapshot snap);
/* After a read that returned LTG_HOST_ERROR: throws what judge() met, if it
 * was judge(). */
extern void lightning_snapshot_rethrow(LightningSnapshot *ls);
/*
 * Does the snapshot see what this version's writer wrote?  For any kind of
 * snapshot (MVCC, Self, Any, Dirty, NonVacuumable).  The version may still be
 * hidden by a newer one of its key that the snapshot sees too.  *fate learns
 * COMMITTED or ABORTED.  Dirty: an open transaction of others is seen, and
 * snap->xmin is set.
 */
extern bool lightning_version_visible(const LtgVersion *v, Snapshot snap, LtgState *fate);

/* ---- live.c: snapshots in use ---- */
/* Before anything is read with an MVCC snapshot: ERRCODE_T_R_SERIALIZATION_FAILURE
 * if what it may need is gone.  Cheap when it was noted before. */
extern void lightning_note_snapshot(Snapshot snap);
/* Before rows are read that no snapshot vouches for (SnapshotDirty, SnapshotSelf). */
extern void lightning_note_dirty_read(void);
/* What lightning_horizon answers must be noted. */
extern void lightning_note_horizon(LtgXid horizon);
/* All that is settled was written by older transactions, for conflicts on standbys. */
extern LtgXid lightning_settled_below(void);
/* So was all in whose favour something was dropped. */
extern LtgXid lightning_known_below(void);

/* ---- row.c: row <-> payload ---- */
typedef struct LightningRowBuf
{
	uint8	   *data;			/* palloc'd in the context given at first use */
	uint32		len;
	uint32		cap;
} LightningRowBuf;
/* Encode the slot's values (already toasted where needed). ERROR when the row
 * is over the limit. */
extern void lightning_form_row(TupleDesc desc, const Datum *values, const bool *isnull,
							   LightningRowBuf *buf);

/* ---- slot.c ---- */
extern const TupleTableSlotOps TTSOpsLightning;
/* xmin of a row; its writer is not known where an older version settled it. */
static inline TransactionId
lightning_shown_xid(LtgXid xid)
{
	return xid == 0 ? FrozenTransactionId : (TransactionId) xid;
}
/* In LightningSlot.xmax: nobody changes or locks the row, as far as is to be shown. */
#define LIGHTNING_XMAX_NONE BootstrapTransactionId

typedef struct LightningSlot
{
	TupleTableSlot base;
	const uint8 *payload;		/* encoded row, 8-byte aligned */
	uint32		payload_len;
	uint32		off;			/* deforming progress */
	TransactionId xmin;			/* system columns; tuple_insert and tuple_update
								 * set them in slots of this class, so that
								 * RETURNING can show them */
	TransactionId xmax;			/* 0: found out when asked for */
	CommandId	cid;
	const uint8 *writers;		/* not NULL: xmin is to be had from there, for ... */
	uint32		entry;			/* ... this entry (see slot.c, S5) */
	uint8	   *owned;			/* buffer for copies, in tts_mcxt, kept when the
								 * slot is cleared */
	uint32		owned_size;
	bool		copied;			/* the row was read as a whole */
	ItemPointerData late_tid;	/* of the row, while late is set */
	struct LightningScanDescData *late; /* the payload is to be had from there */
} LightningSlot;
/* Who is changing, deleting or locking this version, or has, unseen by who reads
 * it: what a query gets for xmax.  Invalid if nobody. */
extern TransactionId lightning_find_xmax(Oid table, ItemPointer tid);
/* Load the row that a scan has stored without its payload (slot->late is set);
 * tableam_scan.c. */
extern void lightning_slot_load(TupleTableSlot *slot);
/* Make the slot show a stored version.  The payload must outlive the slot's
 * content unless copy is true.  rel is only asked for its OID. */
extern void lightning_slot_store(TupleTableSlot *slot, Relation rel, uint64 rowid,
								 const LtgVersion *v, bool copy);

/* ---- tableam*.c ---- */
extern const TableAmRoutine *lightning_routine(void);
/* tableam_scan.c */
extern TableScanDesc lightning_scan_begin(Relation rel, Snapshot snapshot, int nkeys,
										  struct ScanKeyData *key,
										  ParallelTableScanDesc pscan, uint32 flags);
extern void lightning_scan_end(TableScanDesc scan);
extern void lightning_scan_rescan(TableScanDesc scan, struct ScanKeyData *key, bool set_params,
								  bool allow_strat, bool allow_sync, bool allow_pagemode);
extern bool lightning_scan_getnextslot(TableScanDesc scan, ScanDirection dir, TupleTableSlot *slot);
extern void lightning_scan_set_tidrange(TableScanDesc scan, ItemPointer mintid, ItemPointer maxtid);
extern bool lightning_scan_getnextslot_tidrange(TableScanDesc scan, ScanDirection dir, TupleTableSlot *slot);
extern Size lightning_parallelscan_estimate(Relation rel);
extern Size lightning_parallelscan_initialize(Relation rel, ParallelTableScanDesc pscan);
extern void lightning_parallelscan_reinitialize(Relation rel, ParallelTableScanDesc pscan);
extern bool lightning_scan_bitmap_next_block(TableScanDesc scan, struct TBMIterateResult *tbmres);
extern bool lightning_scan_bitmap_next_tuple(TableScanDesc scan, struct TBMIterateResult *tbmres, TupleTableSlot *slot);
extern bool lightning_scan_sample_next_block(TableScanDesc scan, struct SampleScanState *st);
extern bool lightning_scan_sample_next_tuple(TableScanDesc scan, struct SampleScanState *st, TupleTableSlot *slot);
/* tableam_fetch.c */
extern struct IndexFetchTableData *lightning_index_fetch_begin(Relation rel);
extern void lightning_index_fetch_reset(struct IndexFetchTableData *data);
extern void lightning_index_fetch_end(struct IndexFetchTableData *data);
extern bool lightning_index_fetch_tuple(struct IndexFetchTableData *data, ItemPointer tid, Snapshot snapshot,
										TupleTableSlot *slot, bool *call_again, bool *all_dead);
extern bool lightning_fetch_row_version(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot);
extern bool lightning_tuple_tid_valid(TableScanDesc scan, ItemPointer tid);
extern void lightning_get_latest_tid(TableScanDesc scan, ItemPointer tid);
extern bool lightning_tuple_satisfies_snapshot(Relation rel, TupleTableSlot *slot, Snapshot snapshot);
extern TransactionId lightning_index_delete_tuples(Relation rel, TM_IndexDeleteOp *delstate);
/* tableam_modify.c */
extern void lightning_tuple_insert(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
								   struct BulkInsertStateData *bistate);
extern void lightning_tuple_insert_speculative(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
											   struct BulkInsertStateData *bistate, uint32 token);
extern void lightning_tuple_complete_speculative(Relation rel, TupleTableSlot *slot, uint32 token, bool succeeded);
extern void lightning_multi_insert(Relation rel, TupleTableSlot **slots, int nslots, CommandId cid, int options,
								   struct BulkInsertStateData *bistate);
extern TM_Result lightning_tuple_delete(Relation rel, ItemPointer tid, CommandId cid, Snapshot snapshot,
										Snapshot crosscheck, bool wait, TM_FailureData *tmfd, bool changingPart);
extern TM_Result lightning_tuple_update(Relation rel, ItemPointer otid, TupleTableSlot *slot, CommandId cid,
										Snapshot snapshot, Snapshot crosscheck, bool wait, TM_FailureData *tmfd,
										LockTupleMode *lockmode, bool *update_indexes);
extern void lightning_finish_bulk_insert(Relation rel, int options);
/* tableam_lock.c */
extern TM_Result lightning_tuple_lock(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot,
									  CommandId cid, LockTupleMode mode, LockWaitPolicy wait_policy,
									  uint8 flags, TM_FailureData *tmfd);
/* tableam_ddl.c */
extern void lightning_relation_set_new_filenode(Relation rel, const RelFileNode *newrnode, char persistence,
												TransactionId *freezeXid, MultiXactId *minmulti);
extern void lightning_relation_nontransactional_truncate(Relation rel);
extern void lightning_relation_copy_data(Relation rel, const RelFileNode *newrnode);
extern void lightning_relation_copy_for_cluster(Relation OldTable, Relation NewTable, Relation OldIndex,
												bool use_sort, TransactionId OldestXmin, TransactionId *xid_cutoff,
												MultiXactId *multi_cutoff, double *num_tuples,
												double *tups_vacuumed, double *tups_recently_dead);
extern uint64 lightning_relation_size(Relation rel, ForkNumber forkNumber);
extern bool lightning_relation_needs_toast_table(Relation rel);
extern Oid	lightning_relation_toast_am(Relation rel);
/* tableam_vacuum.c */
extern void lightning_relation_vacuum(Relation rel, struct VacuumParams *params, BufferAccessStrategy bstrategy);
extern bool lightning_scan_analyze_next_block(TableScanDesc scan, BlockNumber blockno, BufferAccessStrategy bstrategy);
extern bool lightning_scan_analyze_next_tuple(TableScanDesc scan, TransactionId OldestXmin, double *liverows,
											  double *deadrows, TupleTableSlot *slot);
/* tableam_build.c */
extern double lightning_index_build_range_scan(Relation table_rel, Relation index_rel, struct IndexInfo *index_info,
											   bool allow_sync, bool anyvisible, bool progress,
											   BlockNumber start_blockno, BlockNumber numblocks,
											   IndexBuildCallback callback, void *callback_state, TableScanDesc scan);
extern void lightning_index_validate_scan(Relation table_rel, Relation index_rel, struct IndexInfo *index_info,
										  Snapshot snapshot, struct ValidateIndexState *state);
/* cost.c */
extern void lightning_relation_estimate_size(Relation rel, int32 *attr_widths, BlockNumber *pages, double *tuples,
											 double *allvisfrac);

/* ---- rowlock.c: row locks in shared memory ---- */
extern Size lightning_rowlock_shmem_size(void);
extern void lightning_rowlock_shmem_init(void);
extern void lightning_rowlock_at_xact_end(void);
/* PRE_PREPARE: so that the locks survive a restart. May fail. */
extern void lightning_rowlock_before_prepare(void);
extern void lightning_rowlock_at_prepare(void);
extern void lightning_rowlock_at_subabort(SubTransactionId subid);

/* ---- speculative.c: tokens of ON CONFLICT in shared memory ---- */
extern Size lightning_speculative_shmem_size(void);
extern void lightning_speculative_shmem_init(void);
extern void lightning_speculative_at_xact_end(void);
extern void lightning_speculative_at_subabort(SubTransactionId subid);

/* ---- wal.c / rmgr.c ---- */
extern void lightning_register_rmgr(void);

/* ---- stoppoint.c ---- */
/* A place where tests can hold a process.  No lock may be held here that a
 * test's other sessions need to get on.  Nothing at all but in a test build. */
#ifdef LIGHTNING_TEST
extern void lightning_stop_point(const char *name);
#else
#define lightning_stop_point(name) ((void) 0)
#endif

/* ---- hooks.c: utility, object access ---- */
extern void lightning_install_hooks(void);

#endif
