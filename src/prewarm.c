/*
 * prewarm.c
 *	  A warm cache after a restart: lightning.prewarm.
 *
 * The flusher writes down which blocks are in the cache, now and then and when
 * the server stops.  After a start it launches a worker that reads them back and
 * goes.  The worker is launched, not registered: one that is registered and has
 * gone would not come back after a crash of the server's processes.
 *
 * As long as the worker has not finished, nothing is written down: a list that
 * is better than what is in the cache must not be lost.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "server.h"

bool		lightning_prewarm;
int			lightning_prewarm_interval;

void
lightning_define_prewarm_gucs(void)
{
	DefineCustomBoolVariable("lightning.prewarm",
							 "Reads the blocks that were in the cache back into it after a restart.",
							 NULL,
							 &lightning_prewarm,
							 lightning_default_bool("prewarm", true),
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("lightning.prewarm_interval",
							"Time between two writings of the list of blocks in the cache.",
							"0: only when the server stops.",
							&lightning_prewarm_interval,
							lightning_default_int("prewarm_interval", 300, GUC_UNIT_S),
							0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
}

static uint32
get_state(void)
{
	return pg_atomic_read_u32(&lightning_shared->prewarm_state);
}

static void
set_state(LightningPrewarmState state)
{
	pg_atomic_write_u32(&lightning_shared->prewarm_state, state);
}

/* ---- the worker ---- */

static void
report(LtgStatus st, const LtgPrewarmResult *r)
{
	if (st == LTG_NOT_FOUND)
		return;
	if (st == LTG_OK && r->damaged)
		ereport(LOG,
				(errmsg("lightning ignores a damaged list of blocks to prewarm"),
				 errdetail("File \"%s/prewarm\" will be written anew.", LIGHTNING_DIR)));
	else if (st == LTG_OK || st == LTG_INTERRUPTED)
		ereport(LOG,
				(errmsg("lightning prewarmed " UINT64_FORMAT " of " UINT64_FORMAT " blocks",
						r->read, r->listed),
				 errdetail(UINT64_FORMAT " were in the cache, " UINT64_FORMAT " are not in use any more%s.",
						   r->present, r->gone, r->full ? "; the cache is full" : "")));
}

/* Also when it fails.  Stopped half-way: the list on disk is the better one. */
static void
prewarm_done(int code, Datum arg)
{
	if (!ShutdownRequestPending)
		set_state(LIGHTNING_PREWARM_DONE);
}

void
lightning_prewarm_main(Datum arg)
{
	LtgSession *s;
	LtgPrewarmResult r;
	LtgStatus	st;

	lightning_start_worker("lightning prewarm");
	before_shmem_exit(prewarm_done, (Datum) 0);
	s = lightning_session();
	st = ltg_prewarm_load(s, &r);
	report(st, &r);
	lightning_log_failure(s, st == LTG_NOT_FOUND ? LTG_OK : st, "prewarming");
	pg_atomic_write_u64(&lightning_shared->prewarm_read, r.read);
	proc_exit(0);
}

/* ---- for the flusher ---- */

void
lightning_prewarm_start(void)
{
	BackgroundWorker worker;

	if (get_state() != LIGHTNING_PREWARM_NOT_YET)
		return;					/* the flusher alone was restarted */
	if (!lightning_prewarm)
	{
		set_state(LIGHTNING_PREWARM_DONE);
		return;
	}
	set_state(LIGHTNING_PREWARM_RUNNING);
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "lightning", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "lightning_prewarm_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "lightning prewarm", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "lightning prewarm", BGW_MAXLEN);
	if (!RegisterDynamicBackgroundWorker(&worker, NULL))
	{
		set_state(LIGHTNING_PREWARM_DONE);
		ereport(LOG,
				(errmsg("lightning could not start a worker to prewarm its cache"),
				 errhint("Increase max_worker_processes.")));
	}
}

static void
save(LtgSession *s)
{
	uint64_t	blocks;
	LtgStatus	st = ltg_prewarm_save(s, &blocks);

	if (st == LTG_OK)
		pg_atomic_write_u64(&lightning_shared->prewarm_saved, blocks);
	else
		lightning_log_failure(s, st, "writing the list of blocks to prewarm");
}

void
lightning_prewarm_tick(LtgSession *s, TimestampTz *last)
{
	TimestampTz now = GetCurrentTimestamp();

	if (*last == 0)
		*last = now;
	if (!lightning_prewarm || lightning_prewarm_interval == 0 ||
		get_state() != LIGHTNING_PREWARM_DONE ||
		!TimestampDifferenceExceeds(*last, now, lightning_prewarm_interval * 1000))
		return;
	*last = now;
	save(s);
}

void
lightning_prewarm_stop(LtgSession *s)
{
	if (lightning_prewarm && get_state() == LIGHTNING_PREWARM_DONE)
		save(s);
}
