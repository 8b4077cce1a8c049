/*
 * worker.c
 *	  Background processes: what they have in common, and the flusher.
 *
 * The flusher writes full arenas to files and so makes room for writers; the
 * gate (gate.c) flushes on its own account, for checkpoints.  On a standby the
 * flusher runs from the moment the server is consistent, so that little is left
 * to do when a checkpoint record is replayed, and it removes obsolete files,
 * which on a primary the gate does.  It starts those who merge (compactor.c).
 *
 * Failures (disk full, above all) are logged once per kind, and the work is
 * tried again; writers that need room wait meanwhile, and can be cancelled.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "postmaster/startup.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "lockstore.h"
#include "server.h"

#define FLUSHER_NAP_MS 1000
#define SWEEP_INTERVAL_MS 30000
#define BACKOFF_MAX_MS 5000
#define CALM_INTERVAL_MS 10000
#define CALM_BYTES (1024 * 1024)

/* ---- failures ---- */

static LtgStatus logged_status = LTG_OK;
static int	logged_errno = 0;
static TimestampTz logged_at = 0;

static void
log_failure_now(const LtgError *e, LtgStatus st, const char *what)
{
	LightningPort *port = lightning_port();
	const char *detail = e->msg[0] != '\0' ? e->msg : ltg_status_name(st);

	if (st == LTG_HOST_ERROR && port != NULL && port->error != NULL)
		detail = port->error->message;
	errno = e->os_errno;
	if (st == LTG_NOSPACE)
		ereport(WARNING,
				(errcode(ERRCODE_DISK_FULL),
				 e->os_errno == 0 ? errmsg("lightning failed at %s: %s", what, detail) :
				 errmsg("lightning failed at %s: %s \"%s\": %m", what, detail, e->file),
				 AmStartupProcess() ? errdetail("Recovery waits. It will be tried again.") :
				 errdetail("Writers wait when the memtable is full. It will be tried again."),
				 errhint("Check free disk space.")));
	else if (st == LTG_IO)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("lightning failed at %s: %s \"%s\": %m", what, detail, e->file),
				 errdetail("It will be tried again.")));
	else
		ereport(WARNING,
				(errcode(st == LTG_CORRUPT ? ERRCODE_DATA_CORRUPTED : ERRCODE_INTERNAL_ERROR),
				 errmsg("lightning failed at %s: %s", what, detail),
				 e->file[0] != '\0' ?
				 errdetail("File \"%s\", offset %llu.", e->file,
						   (unsigned long long) e->offset) : 0));
}

/* The same failure again is logged once a minute. */
void
lightning_log_failure(LtgSession *s, LtgStatus st, const char *what)
{
	MemoryContext cxt = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;
	TimestampTz now = GetCurrentTimestamp();
	LtgError	e = s->err;

	ltg_clear_error(s);
	if (st == LTG_OK || st == LTG_BUSY || st == LTG_INTERRUPTED)
		return;
	if (st == logged_status && e.os_errno == logged_errno &&
		!TimestampDifferenceExceeds(logged_at, now, 60 * 1000))
		return;
	logged_status = st;
	logged_errno = e.os_errno;
	logged_at = now;
	PG_TRY();
	{
		log_failure_now(&e, st, what);
	}
	PG_CATCH();
	{
		(void) lightning_catch(NULL, cxt, holdoff);
	}
	PG_END_TRY();
}

void
lightning_log_recovered(const char *what)
{
	if (logged_status == LTG_OK)
		return;
	logged_status = LTG_OK;
	ereport(LOG, (errmsg("lightning has resumed %s", what)));
}

/* ---- latches of the workers, and waking them ---- */

void
lightning_set_latch_of(Latch **where)
{
	Latch	   *latch;

	SpinLockAcquire(&lightning_shared->mutex);
	latch = *where;
	SpinLockRelease(&lightning_shared->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

static void
publish_flusher(Latch *latch)
{
	SpinLockAcquire(&lightning_shared->mutex);
	lightning_shared->flusher_latch = latch;
	SpinLockRelease(&lightning_shared->mutex);
}

static void
retract_flusher(int code, Datum arg)
{
	publish_flusher(NULL);
}

void
lightning_wake_flusher(void)
{
	lightning_set_latch_of(&lightning_shared->flusher_latch);
}

/* ---- writers that wait for room ---- */

/*
 * All arenas are full.  The flusher frees one and broadcasts; the time-out is
 * for the case that it is just being restarted.
 */
static void
wait_for_room(LtgSession *s)
{
	bool		waited = false;

	ConditionVariablePrepareToSleep(&lightning_shared->room_cv);
	for (;;)
	{
		LtgStatus	st = ltg_make_room(s, false);

		if (st != LTG_BUSY)
		{
			ConditionVariableCancelSleep();
			lightning_report(s, st, NULL);
			break;
		}
		if (!waited)
			pg_atomic_fetch_add_u64(&lightning_shared->room_waits, 1);
		waited = true;
		lightning_wake_flusher();
		(void) ConditionVariableTimedSleep(&lightning_shared->room_cv, 200,
										   lightning_wait_event(LIGHTNING_WAIT_ROOM));
	}
}

/* Short waits are common here, and a latch can't wait for less than 1 ms. */
void
lightning_delay_write(uint64 us)
{
	uint32		event = lightning_wait_event(LIGHTNING_WAIT_WRITE_DELAY);

	CHECK_FOR_INTERRUPTS();
	if (us >= 2000)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) (us / 1000), event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		return;
	}
	pgstat_report_wait_start(event);
	pg_usleep((long) us);
	pgstat_report_wait_end();
}

void
lightning_make_room(LtgSession *s)
{
	LtgStatus	st = ltg_make_room(s, false);

	if (st == LTG_OK)
		lightning_wake_flusher();	/* a frozen generation waits */
	else if (st == LTG_BUSY)
	{
		CHECK_FOR_INTERRUPTS();
		if (!IsUnderPostmaster)
		{
			LtgFlushResult result;

			lightning_report(s, ltg_flush(s, &result), NULL);
			return;
		}
		wait_for_room(s);
	}
	else
		lightning_report(s, st, NULL);
}

/*
 * Merge all runs of a table.  Waits, interruptibly, while a worker compacts it.
 */
void
lightning_compact_relation(LtgSession *s, Relation rel, LtgCompactResult *result)
{
	LtgStatus	st;

	while ((st = ltg_compact_store(s, lightning_rel(rel).store, result)) == LTG_BUSY)
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
						 lightning_wait_event(LIGHTNING_WAIT_COMPACTION));
		ResetLatch(MyLatch);
	}
	lightning_report(s, st, rel);
}

/* ---- what the workers have in common ---- */

/* The setting lives in every process; the limit in shared memory. */
static void
apply_rate_limit(void)
{
	ltg_set_rate_limit(lightning_session(), (uint64) lightning_compaction_rate_limit * 1024);
}

void
lightning_start_worker(const char *name)
{
	/* between jobs and, through the port, within them */
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname(name);

	(void) lightning_session();
	lightning_port()->background = true;
	lightning_port()->stop = &ShutdownRequestPending;
	apply_rate_limit();
}

bool
lightning_worker_nap(long timeout)
{
	if (timeout > 0 && !ShutdownRequestPending)
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout,
						 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		apply_rate_limit();
	}
	return !ShutdownRequestPending;
}

/* Exponential back-off; after a failed fsync, recovery from the log. */
long
lightning_worker_failed(LtgSession *s, LtgStatus st, const char *what, pg_atomic_uint64 *counter, long backoff)
{
	pg_atomic_fetch_add_u64(counter, 1);
	lightning_log_failure(s, st, what);
	if (st == LTG_NOSPACE)
	{
		if (RecoveryInProgress())
			(void) lightning_free_space(s);
		else
			pg_atomic_write_u32(&lightning_shared->space_wanted, 1);
	}
	if (st == LTG_POISONED)
	{
		ereport(LOG,
				(errmsg("lightning cannot go on after a failed fsync"),
				 errdetail("The server will restart and recover from the write-ahead log.")));
		_exit(2);
	}
	return backoff == 0 ? 100 : Min(backoff * 2, BACKOFF_MAX_MS);
}

/* ---- the flusher ---- */

/*
 * Before another flush: if some table has too many runs waiting to be merged,
 * wait for those who merge, and help if nobody does.  Writers, who have been
 * slowed down by then, wait for room meanwhile, so readers never have to look
 * through an unbounded number of runs.  Gives up after a while: a merge that
 * can't be done must not stop flushing for good.
 */
static void
limit_backlog(LtgSession *s)
{
	int			rounds = 0;

	while (!ShutdownRequestPending && ltg_backlog(s) >= LTG_BACKLOG_MAX && rounds < 500)
	{
		lightning_start_compactors(s);
		lightning_wake_compactors();
		if (ltg_compact_progress(s, NULL, 0) == 0 && rounds > 5)
		{
			LtgCompactResult result;
			LtgStatus	st = ltg_compact(s, &result);

			ltg_clear_error(s);
			if (st == LTG_OK && result.compacted)
				continue;
		}
		(void) lightning_worker_nap(20);
		rounds++;
	}
}

/* Flush all that waits; returns the time to wait before trying again. */
static long
flush_waiting(LtgSession *s, long backoff)
{
	while (ltg_flush_needed(s) && !ShutdownRequestPending)
	{
		LtgFlushResult result;
		LtgStatus	st;

		limit_backlog(s);
		st = ltg_flush(s, &result);
		if (st == LTG_INTERRUPTED || st == LTG_BUSY)
		{
			ltg_clear_error(s);
			return 0;
		}
		if (st != LTG_OK)
			return lightning_worker_failed(s, st, "flushing", &lightning_shared->flush_failures, backoff);
		ConditionVariableBroadcast(&lightning_shared->room_cv);
		lightning_start_compactors(s);
		lightning_wake_compactors();
		if (!result.flushed)
			break;
		lightning_log_recovered("flushing");
		CHECK_FOR_INTERRUPTS();
	}
	return 0;
}

/*
 * When a burst of writes is over, it goes to files: what it superseded or deleted
 * can be merged away only then, and the next checkpoint, which would write it
 * out, may be minutes away.  A trickle is left where it is.
 */
static void
flush_when_calm(LtgSession *s)
{
	static TimestampTz looked_at = 0;
	static uint64 freezes = 0;
	static uint64 used = 0;
	uint64		enough = Min((uint64) lightning_memtable_size * 1024 / 8, CALM_BYTES);
	TimestampTz now = GetCurrentTimestamp();
	LtgStats	stats;
	bool		calm;

	if (!TimestampDifferenceExceeds(looked_at, now, CALM_INTERVAL_MS) || RecoveryInProgress())
		return;
	looked_at = now;
	ltg_stats(s, &stats);
	calm = stats.freezes == freezes && stats.frozen == 0 &&
		stats.memtable_used >= enough && stats.memtable_used < used + enough / 16;
	freezes = stats.freezes;
	used = stats.memtable_used;
	/* the next round of the main loop writes it */
	if (calm && lightning_gate_is_up() && ltg_make_room(s, true) == LTG_OK)
		SetLatch(MyLatch);
	ltg_clear_error(s);
}

static void
do_chores(LtgSession *s, TimestampTz *last_sweep)
{
	TimestampTz now = GetCurrentTimestamp();

	if (*last_sweep == 0 || TimestampDifferenceExceeds(*last_sweep, now, SWEEP_INTERVAL_MS))
	{
		(void) lightning_sweep_orphans(s);
		*last_sweep = now;
	}
	if (RecoveryInProgress())
		lightning_remove_obsolete(s);
	else
		lightning_lockstore_tidy();
	flush_when_calm(s);
}

void
lightning_flusher_main(Datum arg)
{
	LtgSession *s;
	MemoryContext work;
	TimestampTz last_sweep = 0;
	TimestampTz last_list = 0;
	long		backoff = 0;

	lightning_start_worker("lightning flusher");
	s = lightning_session();
	work = AllocSetContextCreate(TopMemoryContext, "lightning flusher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(work);
	publish_flusher(MyLatch);
	before_shmem_exit(retract_flusher, (Datum) 0);
	lightning_prewarm_start();

	do
	{
		backoff = flush_waiting(s, backoff);
		lightning_start_compactors(s);
		if (backoff == 0)
		{
			do_chores(s, &last_sweep);
			lightning_prewarm_tick(s, &last_list);
		}
		MemoryContextReset(work);
	} while (lightning_worker_nap(backoff > 0 ? backoff : FLUSHER_NAP_MS));

	lightning_prewarm_stop(s);
	/* the postmaster restarts us after exit code 1, unless it is stopping */
	proc_exit(1);
}

void
lightning_register_workers(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "lightning", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "lightning_flusher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "lightning flusher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "lightning flusher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
