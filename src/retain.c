/*
 * retain.c
 *	  When data files that nothing refers to any more may be removed.
 *
 * A crash needs the newest manifest and its files: the gate sees to it that its
 * D is never below the redo point of a completed checkpoint.  Older manifests,
 * and the files that only they name, are for those who copy the directory while
 * it changes:
 *
 *	 T1. A base backup.  Nothing is removed while one runs.  Whoever begins one
 *		 raises the count of running backups before he looks at any file; so a
 *		 removal that saw none has left the newest manifest of that moment and
 *		 its files, and a scan of the directory that begins later finds them, or
 *		 newer ones, all of which stay.
 *	 T2. pg_rewind with a running source.  It is no backup: it lists directories
 *		 and reads files with SQL functions.  For some time after such a call
 *		 files stay until a checkpoint has completed after they were replaced: then
 *		 the copy holds at least what the manifest of the last completed checkpoint
 *		 needs.
 *
 * Without either, files go as soon as no reader uses them, so that a merge needs
 * room only for what it has not published yet.  Removing is for one process: the
 * gate, and on a standby the flusher.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/s_lock.h"
#include "storage/shmem.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

#include "server.h"

#define REMOVE_INTERVAL_MS 50
#define COPY_HOLD_MS (10 * 60 * 1000)	/* pg_rewind reads log between the list and
										 * the files */

/*
 * XLogCtl's first member, as in xlog.c of this major version.  Only read, and
 * only believed if a field with a known value is where it should be.
 */
typedef struct InsertState
{
	slock_t		insertpos_lck;
	uint64		CurrBytePos;
	uint64		PrevBytePos;
	char		pad[PG_CACHE_LINE_SIZE];
	XLogRecPtr	RedoRecPtr;
	bool		forcePageWrites;
	bool		fullPageWrites;
	int			runningBackups;
	XLogRecPtr	lastBackupStart;
} InsertState;

int
lightning_running_backups(void)
{
	static const volatile InsertState *insert = NULL;
	int			n;

	if (insert == NULL)
	{
		bool		found;

		insert = ShmemInitStruct("XLOG Ctl", XLOGShmemSize(), &found);
		if (!found)
			elog(PANIC, "write-ahead log state is not in shared memory");
	}
	n = insert->runningBackups;
	if (insert->RedoRecPtr != GetRedoRecPtr() || n < 0 || n > 100000)
		return 1;
	return n;
}

XLogRecPtr
lightning_completed_redo(void)
{
	XLogRecPtr	redo;

	LWLockAcquire(ControlFileLock, LW_SHARED);
	redo = lightning_control_file()->checkPointCopy.redo;
	LWLockRelease(ControlFileLock);
	return redo;
}

/* ---- who copies files by SQL ---- */

static bool
copies_files(Oid function)
{
	switch (function)
	{
		case F_PG_LS_DIR_TEXT:
		case F_PG_LS_DIR_TEXT_BOOL_BOOL:
		case F_PG_READ_BINARY_FILE_TEXT:
		case F_PG_READ_BINARY_FILE_TEXT_INT8_INT8:
		case F_PG_READ_BINARY_FILE_TEXT_INT8_INT8_BOOL:
			return true;
		default:
			return false;
	}
}

/* A function is about to be executed. */
void
lightning_note_file_access(Oid function)
{
	if (lightning_shared != NULL && copies_files(function))
		pg_atomic_write_u64(&lightning_shared->copied_at, (uint64) GetCurrentTimestamp());
}

static bool
may_be_copied(TimestampTz now)
{
	TimestampTz at = (TimestampTz) pg_atomic_read_u64(&lightning_shared->copied_at);

	return at != 0 && !TimestampDifferenceExceeds(at, now, COPY_HOLD_MS);
}

/* ---- removal ---- */

/*
 * The disk is full: what was dropped goes now, and all but the newest manifest's
 * files, also if somebody reads files by SQL.  The next flush may need the space,
 * and the next checkpoint that flush.
 *
 * True if there is more space now.
 */
bool
lightning_free_space(LtgSession *s)
{
	uint32		removed = 0;
	LtgStatus	st;

	if (lightning_running_backups() != 0)
		return false;
	st = ltg_free_space(s, &removed);
	if (st != LTG_OK)
		lightning_log_failure(s, st, "removing old files");
	pg_atomic_fetch_add_u64(&lightning_shared->files_removed, removed);
	return removed > 0;
}

/* Flusher and compaction workers ask for it. */
void
lightning_serve_want_of_space(LtgSession *s)
{
	if (likely(pg_atomic_read_u32(&lightning_shared->space_wanted) == 0))
		return;
	pg_atomic_write_u32(&lightning_shared->space_wanted, 0);
	if (lightning_free_space(s))
		lightning_wake_flusher();
}

/* Cheap when there is nothing to do. */
void
lightning_remove_obsolete(LtgSession *s)
{
	static TimestampTz looked_at = 0;
	static XLogRecPtr kept_for = InvalidXLogRecPtr;
	static uint64 manifest = 0;
	TimestampTz now = GetCurrentTimestamp();
	XLogRecPtr	redo = PG_UINT64_MAX;	/* keep the newest manifest only */
	LtgObsolete seen;
	uint32		removed = 0;
	LtgStatus	st;

	if (!TimestampDifferenceExceeds(looked_at, now, REMOVE_INTERVAL_MS))
		return;
	looked_at = now;
	if (may_be_copied(now))
		redo = lightning_completed_redo();
	ltg_obsolete(s, &seen);
	if (redo == kept_for && seen.manifest == manifest &&
		(seen.files == 0 || redo != PG_UINT64_MAX))
		return;
	if (lightning_running_backups() != 0)
		return;
	st = ltg_remove_obsolete(s, redo, &removed);
	if (st != LTG_OK)
		lightning_log_failure(s, st, "removing old files");
	else
	{
		kept_for = redo;
		manifest = seen.manifest;
	}
	pg_atomic_fetch_add_u64(&lightning_shared->files_removed, removed);
}
