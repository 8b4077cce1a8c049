/*
 * server.h
 *	  What the files that run the engine inside the server share: shared
 *	  state, port, gate, workers.  The access method needs only lightning.h.
 */
#ifndef LIGHTNING_SERVER_H
#define LIGHTNING_SERVER_H

#include "lightning.h"

#include "catalog/pg_control.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lockdefs.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

/* ---- shared state (shmem.c) ---- */

/*
 * The gate's states.  Writers go on only while it is UP, and look after they
 * have pinned the active generation: whoever changes the state and then takes
 * every pin once knows that all later writers have seen it.
 */
typedef enum LightningGateState
{
	LIGHTNING_GATE_DOWN,		/* not yet (recovery, start, single-user) */
	LIGHTNING_GATE_UP,
	LIGHTNING_GATE_CLOSED		/* shutting down: never up again */
} LightningGateState;

/* What processes wait for, by name in pg_stat_activity. */
typedef enum LightningWait
{
	LIGHTNING_WAIT_ROOM,		/* a writer: all arenas are full */
	LIGHTNING_WAIT_WRITE_DELAY, /* a writer that is slowed down before that */
	LIGHTNING_WAIT_RATE_LIMIT,	/* a worker */
	LIGHTNING_WAIT_COMPACTION,	/* for others to finish compacting a table */
	LIGHTNING_WAIT_COUNT
} LightningWait;

#define LIGHTNING_COMPACTORS_MAX 16
#define LIGHTNING_STATIC_WORKERS 2	/* the gate and the flusher */

typedef enum LightningPrewarmState
{
	LIGHTNING_PREWARM_NOT_YET,	/* the server has just started */
	LIGHTNING_PREWARM_RUNNING,
	LIGHTNING_PREWARM_DONE		/* the list may be written anew */
} LightningPrewarmState;

typedef struct LightningShared
{
	/* the engine's numbered locks */
	LWLockPadded locks[LTG_LOCK_COUNT];

	pg_atomic_uint32 gate_state;
	pg_atomic_uint32 gate_clean;	/* CLOSED, and everything is in files */
	pg_atomic_uint64 gate_done;		/* redo point flushed for, last */
	pg_atomic_uint64 gate_flushes;
	pg_atomic_uint64 files_removed;
	LWLock		xact_lock;		/* who makes or removes copies of the commit log */
	pg_atomic_uint32 xact_copies;	/* copies of parts of the commit log ... */
	pg_atomic_uint64 xact_below;	/* ... and the end of the newest one */
	pg_atomic_uint64 xact_changes;	/* counts what became of them */
	pg_atomic_uint64 copied_at;		/* last time that SQL may have copied files, or 0 */
	pg_atomic_uint32 space_wanted;	/* a worker found the disk full */
	ConditionVariable gate_cv;		/* the state has changed */
	ConditionVariable room_cv;		/* a flush has ended */

	slock_t		mutex;			/* the latches */
	Latch	   *flusher_latch;	/* NULL: no flusher */
	Latch	   *compactor_latch[LIGHTNING_COMPACTORS_MAX];
	int			wait_tranche[LIGHTNING_WAIT_COUNT];

	pg_atomic_uint64 flush_failures;
	pg_atomic_uint64 compact_failures;
	pg_atomic_uint64 rows_lost;	/* by redo, for want of what they are based on */
	pg_atomic_uint64 slots_missed;	/* no worker could be started to merge */
	pg_atomic_uint64 orphans_dropped;
	pg_atomic_uint64 room_waits;	/* writers that had to wait for room */

	pg_atomic_uint32 prewarm_state;
	pg_atomic_uint64 prewarm_read;	/* blocks brought in after the start */
	pg_atomic_uint64 prewarm_saved; /* blocks in the list that was written last */

	pg_atomic_uint64 redo_applied;	/* end of the last record replayed */
	pg_atomic_uint64 wal_records;	/* written, all backends */
	pg_atomic_uint64 wal_bytes;
} LightningShared;

extern LightningShared *lightning_shared;

extern uint32 lightning_wait_event(LightningWait what);

/* The live control file in shared memory; take ControlFileLock. */
extern ControlFileData *lightning_control_file(void);

/* ---- port_pg.c ---- */

typedef struct LightningPort
{
	LtgPort		port;			/* first */
	MemoryContext context;
	ErrorData  *error;			/* when a call returned LTG_HOST_ERROR */
	bool		plain_files;	/* no VFDs: in the postmaster */
	bool		background;		/* a worker: absorbs barriers in long work */
	volatile sig_atomic_t *stop;	/* a worker's shutdown flag, or NULL */
	XLogRecPtr	replayed;		/* startup process: replay has got this far,
								 * though it does not say so yet */
} LightningPort;

extern LightningPort *lightning_port_create(void);
extern void lightning_port_free(LightningPort *port);

/* ---- session.c ---- */

/* The session's port: NULL if there is no session yet. */
extern LightningPort *lightning_port(void);
extern void lightning_session_init(void);	/* callbacks; from _PG_init */
/* For the start in the postmaster, whose children must not inherit one. */
extern void lightning_session_discard(void);

/* ---- xid.c ---- */
extern void lightning_forget_xid_reference(void);
extern LtgXid lightning_ended_for_good(void);

/* ---- xact.c ---- */

typedef enum LightningKeptFate
{
	LIGHTNING_KEPT_UNKNOWN,		/* no copy, or it does not say */
	LIGHTNING_KEPT_COMMITTED,
	LIGHTNING_KEPT_ABORTED,
	LIGHTNING_KEPT_LOST			/* neither a copy nor pg_xact has it */
} LightningKeptFate;

extern LightningKeptFate lightning_kept_fate(LtgXid xid);
/* At server start, when files are loaded. */
extern void lightning_xact_load(LtgSession *s);
/* Redo is about to forget what is older.  False: it must not. */
extern bool lightning_xact_may_go(LtgSession *s, TransactionId oldest, XLogRecPtr end);
/* Recovery ends. */
extern void lightning_xact_keep_all(LtgSession *s);
/* Copies that no file asks any more. */
extern void lightning_xact_remove(LtgSession *s);

/* ---- stoppoint.c: test builds only ---- */

/* Kinds of file operations that tests can let fail. */
typedef enum LightningFaultOp
{
	LIGHTNING_FAULT_OPEN = 1 << 0,
	LIGHTNING_FAULT_READ = 1 << 1,
	LIGHTNING_FAULT_WRITE = 1 << 2,
	LIGHTNING_FAULT_SYNC = 1 << 3,
	LIGHTNING_FAULT_RENAME = 1 << 4,
	LIGHTNING_FAULT_ANY = 31
} LightningFaultOp;

#ifdef LIGHTNING_TEST
extern Size lightning_stop_shmem_size(void);
extern void lightning_stop_shmem_init(void);
/* Should this operation fail?  Sets errno. */
extern bool lightning_fault(LightningFaultOp op);
#else
#define lightning_stop_shmem_size() 0
#define lightning_stop_shmem_init() ((void) 0)
#define lightning_fault(op) false
#endif

/* ---- live.c ---- */

extern Size lightning_live_shmem_size(void);
extern void lightning_live_shmem_init(void);
extern void lightning_live_at_xact_end(void);
/* For the port.  What it takes lies in l->host: pfree. */
extern void lightning_collect_live(LtgLive *l);
extern LtgSees lightning_view_sees(const LtgLive *l, uint32 i, LtgXid xid);

/* ---- admin.c ---- */
extern LtgStatus lightning_flush_everything(LtgSession *s) LTG_MUST_CHECK;
extern void lightning_publish_wal_usage(void);
/* For SQL functions: ERROR if it is not a lightning table. */
extern Relation lightning_open(Oid relid, LOCKMODE mode);

/* ---- gate.c ---- */

extern PGDLLEXPORT void lightning_gate_main(Datum arg);
/* At server start: D at which the gate was last closed; 0 if it was not. */
extern XLogRecPtr lightning_read_closed_mark(void);
extern void lightning_mark_loaded(XLogRecPtr durable);
/* Write all pins' holders out: they have seen whatever was set before. */
extern void lightning_drain_writers(LtgSession *s);

/* ---- retain.c ---- */

/* Number of base backups in progress; 1 if it can't be told. */
extern int	lightning_running_backups(void);
/* Redo point of the last completed checkpoint or restartpoint. */
extern XLogRecPtr lightning_completed_redo(void);
extern void lightning_note_file_access(Oid function);
/* Does anybody copy the directory while it changes? */
extern bool lightning_may_be_copied(void);
/* Delete files that nothing needs: gate, and the flusher on a standby. */
extern void lightning_remove_obsolete(LtgSession *s);
extern void lightning_remove_replaced(LtgSession *s);
extern bool lightning_free_space(LtgSession *s);
extern void lightning_serve_want_of_space(LtgSession *s);

/* ---- worker.c ---- */

extern PGDLLEXPORT void lightning_flusher_main(Datum arg);
/* True if the engine's status is one to wait and retry after (no space,
 * interrupted); logs it once per kind, with s->err.  Never throws. */
extern void lightning_log_recovered(const char *what);
extern void lightning_log_failure(LtgSession *s, LtgStatus st, const char *what);

/* What every worker of ours begins with. */
extern void lightning_start_worker(const char *name);
/* Sleeps, until its latch is set at most; false when asked to go. */
extern bool lightning_worker_nap(long timeout);
/* Work has failed: logs and counts it, says how long to wait before the next attempt. */
extern long lightning_worker_failed(LtgSession *s, LtgStatus st, const char *what,
									pg_atomic_uint64 *counter, long backoff);
extern void lightning_set_latch_of(Latch **where);

/* ---- compactor.c ---- */

extern PGDLLEXPORT void lightning_compactor_main(Datum arg);
extern void lightning_start_compactors(LtgSession *s);
extern void lightning_wake_compactors(void);
/* How many there are now. */
extern uint32 lightning_compactors(void);

/* ---- prewarm.c ---- */

extern PGDLLEXPORT void lightning_prewarm_main(Datum arg);
/* For the flusher: at its start, in each round, at its end. */
extern void lightning_prewarm_start(void);
extern void lightning_prewarm_tick(LtgSession *s, TimestampTz *last);
extern void lightning_prewarm_stop(LtgSession *s);

/* ---- relation.c ---- */

extern void lightning_store_xact_callback(XactEvent event);
extern void lightning_store_subxact_callback(SubXactEvent event);
/* Drop stores whose relations' files are gone; returns how many. */
extern uint32 lightning_sweep_orphans(LtgSession *s);
/* Drop all stores of a database: after DROP DATABASE. */
extern void lightning_drop_database_stores(Oid database);
extern bool lightning_database_has_stores(Oid database);
/* Temporary stores of this backend may have lost their files. */
extern void lightning_note_temp_drop(void);
extern void lightning_drop_temp_stores(LtgSession *s);
extern void lightning_return_rowids(void);
/* Of the main fork of a store's relation, which should be 0; -1: there is no such file. */
extern int64 lightning_main_fork_bytes(const LtgStoreKey *key);
/* All live stores, palloc'd. */
extern LtgStoreInfo *lightning_list_stores(LtgSession *s, uint32 *n);

#endif
