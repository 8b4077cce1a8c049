/*
 * gate.c
 *	  The checkpoint gate: no checkpoint completes before everything logged
 *	  ahead of its redo point is in files.
 *
 * PostgreSQL may recycle log older than the last checkpoint's redo point, and
 * replays nothing older.  CheckPointGuts() has no hook, but before a checkpoint
 * completes the checkpointer waits for every process that had
 * DELAY_CHKPT_COMPLETE set when it looked (xlog.c, CreateCheckPoint).  The gate
 * is a worker that has it set all the time.
 *
 *	 G1. The worker changes its virtual transaction id, which is what lets a
 *		 waiting checkpoint go, only after looking at the redo pointer, both
 *		 under ProcArrayLock held exclusively, and only when it has flushed for
 *		 that very redo point.  The checkpointer publishes the redo point before
 *		 it collects virtual ids under ProcArrayLock: so either it collected
 *		 the old id after we looked away, and then waits for the next round,
 *		 or we saw its redo point.
 *	 G2. It does so on every round.  Once per redo point is not enough: the
 *		 change might come before the checkpointer collects.
 *	 G3. The flag is set as long as the worker lives.  The worker starts no
 *		 transaction, whose end would clear it, and whatever ends the worker
 *		 but the orderly shutdown restarts the server (guard_exit).
 *	 G4. Writers write only while the gate is UP.  They look after pinning the
 *		 active generation; closing changes the state and then takes every pin.
 *	 G5. In recovery the same holds for restartpoints: the redo of checkpoint
 *		 records is wrapped and flushes first; the end of recovery flushes in
 *		 rm_cleanup.
 *
 * The shutdown checkpoint is not gated, because it comes when all workers have
 * gone: the gate closes, flushes and leaves a mark (the file "closed") that
 * says up to where the log is contained, and that nothing of ours follows.  The
 * end of recovery leaves the same mark: checkpoints that come before the gate is
 * up (the one at the end of recovery, or a shutdown without any gate) have redo
 * points beyond the last record of ours, which no manifest reaches.  So does
 * each start, since there may be nothing to replay, and then nobody tells us that
 * recovery has ended.
 *
 *	 G6. The mark may stand while more of ours is replayed, but is removed, after
 *		 a flush, before a checkpoint or restartpoint behind that completes.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "access/clog.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/bgwriter.h"
#include "postmaster/startup.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/sinvaladt.h"
#include "utils/guc.h"
#include "utils/pidfile.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "lockstore.h"
#include "server.h"

#define GATE_POLL_MS 50			/* nothing going on */
#define GATE_BUSY_POLL_MS 5		/* a checkpoint is on its way */
#define GATE_CLOSE_ATTEMPTS 20
#define RECOVERY_RETRY_MS 200
#define MARK_RETRIES_LOGGED 300	/* one in so many: once a minute */

#define CLOSED_MARK LIGHTNING_DIR "/closed"
#define CLOSED_MAGIC UINT64CONST(0x31444553474C544C)

typedef struct ClosedMark
{
	uint64		magic;
	XLogRecPtr	durable;
	pg_crc32c	crc;
} ClosedMark;

static volatile sig_atomic_t got_sigterm = false;
static volatile sig_atomic_t got_sighup = false;
static LtgSession *volatile gate_session = NULL;	/* for the handler */
static bool clean_exit = false;
static bool mark_removed = false;
static emit_log_hook_type prev_emit_log_hook = NULL;
static void (*core_xlog_redo) (XLogReaderState *record) = NULL;
static void (*core_clog_redo) (XLogReaderState *record) = NULL;

/* ---- what writers ask ---- */

bool
lightning_gate_is_up(void)
{
	if (likely(pg_atomic_read_u32(&lightning_shared->gate_state) == LIGHTNING_GATE_UP))
		return true;
	return RecoveryInProgress();
}

void
lightning_gate_wait(void)
{
	if (!IsUnderPostmaster)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lightning tables cannot be written in single-user mode"),
				 errhint("Start the server normally.")));

	ConditionVariablePrepareToSleep(&lightning_shared->gate_cv);
	for (;;)
	{
		uint32		state = pg_atomic_read_u32(&lightning_shared->gate_state);

		if (state == LIGHTNING_GATE_UP)
			break;
		if (state == LIGHTNING_GATE_CLOSED)
		{
			ConditionVariableCancelSleep();
			ereport(ERROR,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 errmsg("cannot write to lightning tables because the server is shutting down")));
		}
		(void) ConditionVariableTimedSleep(&lightning_shared->gate_cv, 1000, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

/*
 * Whoever has looked at the gate's state holds a pin until its record is
 * applied; after this, nobody acts on what it saw before.
 */
void
lightning_drain_writers(LtgSession *s)
{
	int			i;

	for (i = 0; i < LTG_LOCK_PINS; i++)
	{
		s->port->lock(s->port, LTG_LOCK_PIN_0 + i, LTG_EXCLUSIVE);
		s->port->unlock(s->port, LTG_LOCK_PIN_0 + i);
	}
}

/* ---- the mark of an orderly shutdown ---- */

static pg_crc32c
mark_crc(const ClosedMark *mark)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, mark, offsetof(ClosedMark, crc));
	FIN_CRC32C(crc);
	return crc;
}

XLogRecPtr
lightning_read_closed_mark(void)
{
	ClosedMark	mark;
	int			fd;
	ssize_t		n;

	fd = BasicOpenFile(CLOSED_MARK, O_RDONLY | PG_BINARY);
	if (fd < 0)
		return InvalidXLogRecPtr;
	memset(&mark, 0, sizeof(mark));
	n = read(fd, &mark, sizeof(mark));
	close(fd);
	if (n != sizeof(mark) || mark.magic != CLOSED_MAGIC || !EQ_CRC32C(mark.crc, mark_crc(&mark)))
		return InvalidXLogRecPtr;
	return mark.durable;
}

static bool
write_closed_mark(XLogRecPtr durable)
{
	const char *tmp = CLOSED_MARK ".new";
	ClosedMark	mark;
	int			fd;
	int			save_errno;
	bool		ok;

	memset(&mark, 0, sizeof(mark));
	mark.magic = CLOSED_MAGIC;
	mark.durable = durable;
	mark.crc = mark_crc(&mark);

	fd = BasicOpenFile(tmp, O_RDWR | O_CREAT | O_TRUNC | PG_BINARY);
	if (fd < 0)
		return false;
	errno = ENOSPC;				/* what a short write means */
	ok = write(fd, &mark, sizeof(mark)) == sizeof(mark) && pg_fsync(fd) == 0;
	save_errno = errno;
	ok = close(fd) == 0 && ok;
	errno = save_errno;
	return ok && durable_rename(tmp, CLOSED_MARK, LOG) == 0;
}

/*
 * From now on something of ours may be logged (or replayed) after the mark.
 * REQUIRES: the files contain the log up to the current redo point.
 */
static void
remove_closed_mark(int elevel)
{
	if (mark_removed)
		return;
	if (unlink(CLOSED_MARK) == 0)
		fsync_fname(LIGHTNING_DIR, true);
	else if (errno != ENOENT)
	{
		ereport(elevel,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", CLOSED_MARK)));
		return;
	}
	mark_removed = true;
}

/* At server start: everything of ours up to here is in files. */
void
lightning_mark_loaded(XLogRecPtr durable)
{
	if (lightning_read_closed_mark() != durable && !write_closed_mark(durable))
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", CLOSED_MARK)));
}

/* ---- the worker ---- */

static void
handle_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	/* a flush that is under way had better end soon */
	if (!got_sigterm && gate_session != NULL)
		ltg_hurry(gate_session, true);
	got_sigterm = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

static void
handle_sighup(SIGNAL_ARGS)
{
	int			save_errno = errno;

	got_sighup = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

/*
 * G3: whatever ends the worker otherwise (an error, a missing lock, a signal
 * nobody thought of) would leave checkpoints ungated.  Exit code 2 makes the
 * postmaster restart everything, with recovery.
 */
static void
guard_exit(int code, Datum arg)
{
	if (!clean_exit)
		_exit(2);
}

/* After the session: it was opened later. */
static void
has_left(int code, Datum arg)
{
	lightning_stop_point("gate:left");
}

/* Has the postmaster been told to stop?  It says so before it signals. */
static bool
postmaster_is_stopping(void)
{
	FILE	   *f;
	char		line[MAXPGPATH];
	int			i;
	bool		result = false;

	f = fopen("postmaster.pid", "r");
	if (f == NULL)
		return false;
	for (i = 1; fgets(line, sizeof(line), f) != NULL; i++)
	{
		if (i == LOCK_FILE_LINE_PM_STATUS)
		{
			result = strncmp(line, PM_STATUS_STOPPING, strlen(PM_STATUS_STOPPING)) == 0;
			break;
		}
	}
	fclose(f);
	return result;
}

/* SIGTERM comes from pg_terminate_backend(), too. */
static bool
asked_to_stop(void)
{
	static bool stopping = false;

	if (got_sigterm)
	{
		got_sigterm = false;	/* first: the next one is looked at again */
		stopping = stopping || postmaster_is_stopping();
		if (!stopping && gate_session != NULL)
			ltg_hurry(gate_session, false);
	}
	return stopping;
}

static void
set_state(LightningGateState state)
{
	pg_atomic_write_u32(&lightning_shared->gate_state, state);
	ConditionVariableBroadcast(&lightning_shared->gate_cv);
}

static void
handle_config_reload(void)
{
	if (got_sighup)
	{
		got_sighup = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/*
 * Without a postmaster everybody leaves.  The gate does so after the
 * checkpointer: a dead process's entry in the process array stays as it is, and
 * a checkpointer that waits for it would never end.
 */
static void
outlive_checkpointer(void)
{
	static int	waited_ms = 0;
	Latch	   *latch = ProcGlobal->checkpointerLatch;
	int			pid = latch != NULL ? latch->owner_pid : 0;

	if (pid <= 0 || kill(pid, 0) != 0 || waited_ms > 60 * 1000)
		proc_exit(1);			/* see guard_exit */
	pg_usleep(10 * 1000);
	waited_ms += 10;
}

/* Wait, absorbing barriers. */
static void
wait_ms(long timeout)
{
	int			events;

	events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_POSTMASTER_DEATH, timeout,
					   PG_WAIT_EXTENSION);
	if ((events & WL_POSTMASTER_DEATH) != 0)
		outlive_checkpointer();
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	handle_config_reload();
}

/*
 * Everything logged before lsn to files; at shutdown, everything.  Keeps trying,
 * if no number of attempts is given, until the server is to stop; checkpoints wait
 * meanwhile.  An engine that can't go on (a failed fsync) takes the server down:
 * recovery starts from the log.
 */
static bool
flush_for(LtgSession *s, XLogRecPtr lsn, bool everything, int attempts)
{
	LtgFlushResult result;
	LtgStatus	st;
	int			i;

	for (i = 0; attempts == 0 ? !asked_to_stop() : i < attempts; i++)
	{
		lightning_stop_point("gate:flush");
		st = everything ? lightning_flush_everything(s) : LTG_OK;
		if (st == LTG_OK)
			st = ltg_flush_upto(s, lsn, &result);
		if (st == LTG_OK)
		{
			lightning_log_recovered("flushing for checkpoints");
			pg_atomic_fetch_add_u64(&lightning_shared->gate_flushes, 1);
			ConditionVariableBroadcast(&lightning_shared->room_cv);
			return true;
		}
		lightning_log_failure(s, st, "flushing for a checkpoint");
		if (st == LTG_POISONED)
		{
			ereport(LOG,
					(errmsg("lightning cannot complete checkpoints any more"),
					 errdetail("An fsync has failed. The server will restart and recover from the write-ahead log.")));
			_exit(2);
		}
		if (st == LTG_NOSPACE && lightning_free_space(s))
			continue;
		wait_ms(Min(100 * (i + 1), 1000));
	}
	return false;
}

/*
 * Orderly shutdown.  Sessions that are still there (the postmaster signals us
 * together with them, and some walsenders outlive us) can't write any more
 * when the state is CLOSED and the pins have been drained.
 */
static void
close_gate(LtgSession *s)
{
	bool		done;

	set_state(LIGHTNING_GATE_CLOSED);
	ltg_hurry(s, true);
	lightning_drain_writers(s);

	done = flush_for(s, GetXLogInsertRecPtr(), true, GATE_CLOSE_ATTEMPTS) &&
		write_closed_mark(ltg_durable(s));
	if (!done)
	{
		ereport(LOG,
				(errmsg("lightning could not write its data at shutdown"),
				 errdetail("The server will stop without a checkpoint and recover at its next start.")));
		_exit(2);
	}
	pg_atomic_write_u32(&lightning_shared->gate_clean, 1);
	gate_session = NULL;		/* it is closed before signals end */
	clean_exit = true;
	proc_exit(0);
}

/* The flag, set by hand: there is no transaction, and there must not be one. */
static void
hold_checkpoints(void)
{
	LWLockAcquire(ProcArrayLock, LW_EXCLUSIVE);
	MyProc->lxid = GetNextLocalTransactionId();
	MyProc->delayChkptFlags |= DELAY_CHKPT_COMPLETE;
	LWLockRelease(ProcArrayLock);
}

/* One round; see G1.  True if a checkpoint's redo point is yet to be served. */
static bool
let_pass(XLogRecPtr done, XLogRecPtr *redo)
{
	bool		flag;

	LWLockAcquire(ProcArrayLock, LW_EXCLUSIVE);
	*redo = GetRedoRecPtr();
	flag = (MyProc->delayChkptFlags & DELAY_CHKPT_COMPLETE) != 0;
	if (*redo == done && flag)
		MyProc->lxid = GetNextLocalTransactionId();
	LWLockRelease(ProcArrayLock);

	if (!flag)
	{
		ereport(LOG,
				(errmsg("lightning checkpoint gate has lost its hold on checkpoints"),
				 errdetail("The server will restart and recover.")));
		_exit(2);
	}
	return *redo != done;
}

static void
serve(LtgSession *s, XLogRecPtr done)
{

	for (;;)
	{
		XLogRecPtr	redo;

		CHECK_FOR_INTERRUPTS();
		if (asked_to_stop())
			close_gate(s);
		if (let_pass(done, &redo))
		{
			if (!flush_for(s, redo, false, 0))
				continue;
			done = redo;
			pg_atomic_write_u64(&lightning_shared->gate_done, done);
			continue;
		}
		lightning_serve_want_of_space(s);
		lightning_remove_obsolete(s);
		wait_ms(lightning_completed_redo() < done ? GATE_BUSY_POLL_MS : GATE_POLL_MS);
	}
}

void
lightning_gate_main(Datum arg)
{
	LtgSession *s;
	XLogRecPtr	redo;

	BackgroundWorkerUnblockSignals();
	lightning_stop_point("gate:begin");

	before_shmem_exit(guard_exit, (Datum) 0);
	on_shmem_exit(has_left, (Datum) 0);
	pqsignal(SIGTERM, handle_sigterm);
	pqsignal(SIGHUP, handle_sighup);
	pqsignal(SIGINT, SIG_IGN);	/* a cancel request would end the worker */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("lightning gate");

	s = lightning_session();
	lightning_port()->background = true;
	gate_session = s;

	hold_checkpoints();

	/*
	 * The manifest must reach the redo point before anything new is logged:
	 * after a clean shutdown it ends a little before, and only the mark says
	 * that nothing of ours lies between.
	 */
	redo = GetRedoRecPtr();
	if (!flush_for(s, redo, false, 0))
		close_gate(s);
	pg_atomic_write_u64(&lightning_shared->gate_done, redo);
	remove_closed_mark(PANIC);
	lightning_lockstore_restore(s);

	set_state(LIGHTNING_GATE_UP);
	ereport(DEBUG1, (errmsg_internal("lightning gate is up")));
	serve(s, redo);
}

/* ---- recovery ---- */

void
lightning_recovery_begin(void)
{
	(void) lightning_session();
}

void
lightning_recovery_applied(XLogRecPtr lsn)
{
	pg_atomic_write_u64(&lightning_shared->redo_applied, lsn);
}

/*
 * A full disk is waited for, where PostgreSQL's own replay would stop the server:
 * nothing else is wrong, queries of a standby go on meanwhile, and nobody has to
 * start it again.  False: it was something else.
 */
static bool
recovery_waits_for_space(LtgSession *s, LtgStatus st)
{
	if (st != LTG_NOSPACE || !IsUnderPostmaster)
		return false;
	lightning_log_failure(s, st, "flushing in recovery");
	HandleStartupProcInterrupts();
	if (!lightning_free_space(s))
		pg_usleep(RECOVERY_RETRY_MS * 1000);
	HandleStartupProcInterrupts();
	return true;
}

/* Flush everything replayed so far; the log is contained up to `position`. */
static void
recovery_flush(XLogRecPtr position)
{
	LtgSession *s = lightning_session();
	LightningPort *port = lightning_port();
	LtgFlushResult result;
	LtgStatus	st;

	lightning_recovery_check_left_out();
	port->replayed = position;
	ltg_hurry(s, true);			/* nothing is replayed meanwhile */
	do
		st = ltg_flush_upto(s, Max(position, GetXLogReplayRecPtr(NULL)), &result);
	while (recovery_waits_for_space(s, st));
	ltg_hurry(s, false);
	port->replayed = InvalidXLogRecPtr;
	lightning_report(s, st, NULL);
	ConditionVariableBroadcast(&lightning_shared->room_cv);
	remove_closed_mark(FATAL);
}

void
lightning_recovery_flush(void)
{
	recovery_flush(GetXLogReplayRecPtr(NULL));
}

/*
 * Replay is over, or there was nothing to replay: until the gate is up nothing
 * of ours is logged.  Without the mark the next start would miss what a
 * checkpoint before that leaves behind it.
 */
static void
mark_recovery_end(void)
{
	int			i;

	for (i = 0; !write_closed_mark(ltg_durable(lightning_session())); i++)
	{
		bool		full = errno == ENOSPC || errno == EDQUOT;

		if (i % MARK_RETRIES_LOGGED == 0)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not write file \"%s\": %m", CLOSED_MARK),
					 full ? errdetail("Recovery waits. It will be tried again.") : 0));
		if (!full || !IsUnderPostmaster || !AmStartupProcess())
			break;
		pg_usleep(RECOVERY_RETRY_MS * 1000);
		HandleStartupProcInterrupts();
	}
	mark_removed = false;
}

void
lightning_recovery_end(void)
{
	lightning_recovery_flush();
	lightning_xact_keep_all(lightning_session());
	mark_recovery_end();
}

void
lightning_recovery_make_room(LtgSession *s)
{
	LtgFlushResult result;
	LtgStatus	st;

	st = ltg_make_room(s, false);
	while (st == LTG_BUSY)
	{
		HandleStartupProcInterrupts();
		st = ltg_flush(s, &result);
		if (!recovery_waits_for_space(s, st))
			lightning_report(s, st, NULL);
		st = ltg_make_room(s, false);
	}
	lightning_report(s, st, NULL);
}

/*
 * A restartpoint promises no more than that everything before the redo point of
 * a replayed checkpoint is safe, and it looks at nothing but these records.
 */
static void
xlog_redo_wrapper(XLogReaderState *record)
{
	uint8		info = XLogRecGetInfo(record) & ~XLR_INFO_MASK;

	if (info == XLOG_CHECKPOINT_SHUTDOWN || info == XLOG_CHECKPOINT_ONLINE)
		recovery_flush(record->ReadRecPtr);
	core_xlog_redo(record);
}

static void
clog_redo_wrapper(XLogReaderState *record)
{
	if ((XLogRecGetInfo(record) & ~XLR_INFO_MASK) == CLOG_TRUNCATE)
	{
		xl_clog_truncate xlrec;

		memcpy(&xlrec, XLogRecGetData(record), sizeof(xlrec));
		recovery_flush(record->ReadRecPtr);
		if (!lightning_xact_may_go(lightning_session(), xlrec.oldestXact, record->EndRecPtr))
			return;
	}
	core_clog_redo(record);
}

/* ---- what the server says ---- */

/*
 * "shutting down" is what the checkpointer logs right before the shutdown
 * checkpoint (xlog.c, ShutdownXLOG), outside of any critical section.  If the
 * gate has not closed properly by then, there must be no such checkpoint.
 */
static void
watch_messages(ErrorData *edata)
{
	/*
	 * After a crash right behind a checkpoint, rm_cleanup is not called.  If the
	 * disk was full when the server was started, this is the place to wait.
	 */
	if (edata->message_id != NULL && (AmStartupProcess() || !IsUnderPostmaster) &&
		lightning_preloaded() &&
		strcmp(edata->message_id, "redo is not required") == 0)
		mark_recovery_end();

	if (edata->message_id != NULL && AmCheckpointerProcess() && lightning_shared != NULL &&
		strcmp(edata->message_id, "shutting down") == 0)
	{
		uint32		state = pg_atomic_read_u32(&lightning_shared->gate_state);

		if (state == LIGHTNING_GATE_UP ||
			(state == LIGHTNING_GATE_CLOSED &&
			 pg_atomic_read_u32(&lightning_shared->gate_clean) == 0))
		{
			write_stderr("lightning: no shutdown checkpoint, because data have not been written; the next start will recover them\n");
			_exit(2);
		}
	}
	if (prev_emit_log_hook)
		prev_emit_log_hook(edata);
}

void
lightning_gate_init(void)
{
	BackgroundWorker worker;

	core_xlog_redo = RmgrTable[RM_XLOG_ID].rm_redo;
	RmgrTable[RM_XLOG_ID].rm_redo = xlog_redo_wrapper;
	core_clog_redo = RmgrTable[RM_CLOG_ID].rm_redo;
	RmgrTable[RM_CLOG_ID].rm_redo = clog_redo_wrapper;
	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = watch_messages;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "lightning", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "lightning_gate_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "lightning gate", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "lightning gate", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
