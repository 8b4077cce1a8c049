/*
 * compactor.c
 *	  The processes that merge, and when there are any.
 *
 * They come when there is something to merge and leave when there has been nothing
 * for a while, so that the slots of max_worker_processes are there for others,
 * parallel queries above all.  The flusher starts them, one at a time, as long as a
 * merge is due that nobody has taken.  Where no slot is free and nobody merges, it
 * merges itself: that takes longer, and writers may have to wait for it, but
 * nothing piles up for good.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "server.h"

#define NAP_MS 1000
#define IDLE_MS 5000			/* without work: goes */

/* The flusher's: who was started, and has not been seen to end. */
static BackgroundWorkerHandle *started[LIGHTNING_COMPACTORS_MAX];

/* ---- latches ---- */

void
lightning_wake_compactors(void)
{
	for (int i = 0; i < LIGHTNING_COMPACTORS_MAX; i++)
		lightning_set_latch_of(&lightning_shared->compactor_latch[i]);
}

/* False if another process is this worker. */
static bool
publish(int i)
{
	bool		mine;

	SpinLockAcquire(&lightning_shared->mutex);
	mine = lightning_shared->compactor_latch[i] == NULL;
	if (mine)
		lightning_shared->compactor_latch[i] = MyLatch;
	SpinLockRelease(&lightning_shared->mutex);
	return mine;
}

static void
retract(int code, Datum arg)
{
	SpinLockAcquire(&lightning_shared->mutex);
	lightning_shared->compactor_latch[DatumGetInt32(arg)] = NULL;
	SpinLockRelease(&lightning_shared->mutex);
}

uint32
lightning_compactors(void)
{
	uint32		n = 0;

	SpinLockAcquire(&lightning_shared->mutex);
	for (int i = 0; i < LIGHTNING_COMPACTORS_MAX; i++)
		n += lightning_shared->compactor_latch[i] != NULL;
	SpinLockRelease(&lightning_shared->mutex);
	return n;
}

/* ---- the worker ---- */

static long
merge_all(LtgSession *s, long backoff, bool *worked)
{
	LtgCompactResult result = {0};
	LtgStatus	st;

	*worked = false;
	do
	{
		CHECK_FOR_INTERRUPTS();
		st = ltg_compact(s, &result);
		if (st == LTG_OK && result.compacted)
		{
			*worked = true;
			/* there may be work for the others, too */
			lightning_wake_compactors();
			lightning_wake_flusher();
		}
	} while (st == LTG_OK && result.compacted && !ShutdownRequestPending);

	if (st != LTG_OK && st != LTG_INTERRUPTED && st != LTG_BUSY)
		return lightning_worker_failed(s, st, "compaction", &lightning_shared->compact_failures,
									   backoff);
	ltg_clear_error(s);
	if (*worked)
		lightning_log_recovered("compaction");
	return 0;
}

void
lightning_compactor_main(Datum arg)
{
	int			i = DatumGetInt32(arg);
	TimestampTz worked_at;
	char		name[64];
	long		backoff = 0;
	bool		worked;

	snprintf(name, sizeof(name), "lightning compaction worker %d", i + 1);
	lightning_start_worker(name);
	if (!publish(i))
		proc_exit(0);
	before_shmem_exit(retract, arg);

	worked_at = GetCurrentTimestamp();
	do
	{
		backoff = merge_all(lightning_session(), backoff, &worked);
		if (worked || backoff > 0)
			worked_at = GetCurrentTimestamp();
		else if (i >= lightning_compaction_workers ||
				 TimestampDifferenceExceeds(worked_at, GetCurrentTimestamp(), IDLE_MS))
			break;
	} while (lightning_worker_nap(backoff > 0 ? backoff : NAP_MS));

	proc_exit(0);
}

/* ---- starting them ---- */

/* Whoever was started counts until it has ended, whether or not it has got far. */
static bool
is_taken(int i)
{
	pid_t		pid;
	bool		taken;

	if (started[i] != NULL)
	{
		if (GetBackgroundWorkerPid(started[i], &pid) != BGWH_STOPPED)
			return true;
		pfree(started[i]);
		started[i] = NULL;
	}
	/* by a flusher before this one */
	SpinLockAcquire(&lightning_shared->mutex);
	taken = lightning_shared->compactor_latch[i] != NULL;
	SpinLockRelease(&lightning_shared->mutex);
	return taken;
}

static bool
start(int i)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	BackgroundWorker worker;
	bool		ok;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = Int32GetDatum(i);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "lightning", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "lightning_compactor_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "lightning compaction worker %d", i + 1);
	snprintf(worker.bgw_type, BGW_MAXLEN, "lightning compaction worker %d", i + 1);
	ok = RegisterDynamicBackgroundWorker(&worker, &started[i]);
	MemoryContextSwitchTo(old);
	return ok;
}

static void
log_no_slot(void)
{
	static TimestampTz logged_at = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (logged_at != 0 && !TimestampDifferenceExceeds(logged_at, now, 60 * 1000))
		return;
	logged_at = now;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("lightning found no free slot for a compaction worker"),
			 errdetail("Merging goes on in the flusher, and writers may have to wait for it."),
			 errhint("You may need to increase max_worker_processes.")));
}

/* For the flusher, in each round. */
void
lightning_start_compactors(LtgSession *s)
{
	int			running = 0;
	int			vacant = -1;

	for (int i = 0; i < LIGHTNING_COMPACTORS_MAX; i++)
		if (is_taken(i))
			running++;
		else if (vacant < 0)
			vacant = i;
	if (ShutdownRequestPending || running >= lightning_compaction_workers || vacant < 0 ||
		!ltg_compact_is_due(s))
		return;
	if (start(vacant) || running > 0)
		return;
	log_no_slot();
	pg_atomic_fetch_add_u64(&lightning_shared->slots_missed, 1);
	if (!ltg_flush_needed(s))
	{
		LtgCompactResult result;
		LtgStatus	st = ltg_compact(s, &result);

		if (st == LTG_OK && result.compacted)
			lightning_wake_flusher();	/* there may be more */
		else if (st != LTG_OK)
			lightning_log_failure(s, st, "compaction");
	}
}
