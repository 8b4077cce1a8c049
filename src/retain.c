/*
 * retain.c
 *	  When data files that nothing refers to any more may be removed.
 *
 * A crash needs the newest manifest and its files: the gate sees to it that its
 * D is never below the redo point of a completed checkpoint.  Older manifests,
 * and the files that only they name, are for those who copy the directory while
 * it changes.  A file of manifests grows while it is copied; loading finds in it the
 * newest manifest of which all files were copied, and one that was the newest when the
 * copy began is such a one:
 *
 *	 T1. A base backup.  Nothing is removed while one runs.  Whoever begins one
 *		 raises the count of running backups before he looks at any file; and a
 *		 removal takes the number of the newest manifest before it looks at the
 *		 count.  So one that saw no backup leaves this manifest, all later ones and
 *		 their files, and a scan of the directory by a backup that has begun since
 *		 finds the one that is the newest then.
 *	 T2. pg_rewind with a running source.  It is no backup: it lists directories
 *		 and then reads one file after the other, with SQL functions.  The copy has
 *		 what was listed and nothing newer, however many checkpoints complete
 *		 meanwhile.  So from a list on nothing is removed, until neither a list
 *		 nor a read was asked for in a while.  Replay begins before the list was
 *		 made, so its newest manifest has all that the copy needs.
 *	 T3. Parts of the commit log that files ask for (xact.c), in the same way: who
 *		 copies may read files first and pg_xact later.  So until he has finished,
 *		 VACUUM reports no relfrozenxid beyond what replaced files that are still
 *		 there ask for, and redo does not truncate the commit log at all.  Files
 *		 replaced before he began need not be counted: he takes a newer manifest.
 *
 * Without either, files go as soon as no reader uses them, so that a merge needs
 * room only for what it has not published yet.  Whoever publishes in the background
 * removes; what had readers then, the gate does, on a standby the flusher; and on a
 * full disk whoever flushes or merges.  Two at once do no harm.
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

/* As pg_rewind does; pg_ls_dir(text) is what monitoring uses. */
static bool
lists_files(Oid function)
{
	return function == F_PG_LS_DIR_TEXT_BOOL_BOOL;
}

static bool
reads_files(Oid function)
{
	switch (function)
	{
		case F_PG_READ_BINARY_FILE_TEXT:
		case F_PG_READ_BINARY_FILE_TEXT_INT8_INT8:
		case F_PG_READ_BINARY_FILE_TEXT_INT8_INT8_BOOL:
			return true;
		default:
			return false;
	}
}

static bool
may_be_copied(TimestampTz now)
{
	TimestampTz at = (TimestampTz) pg_atomic_read_u64(&lightning_shared->copied_at);

	return at != 0 && !TimestampDifferenceExceeds(at, now, COPY_HOLD_MS);
}

bool
lightning_may_be_copied(void)
{
	return lightning_running_backups() != 0 || may_be_copied(GetCurrentTimestamp());
}

/* A function is about to be executed. */
void
lightning_note_file_access(Oid function)
{
	TimestampTz now;

	if (lightning_shared == NULL || !(lists_files(function) || reads_files(function)))
		return;
	now = GetCurrentTimestamp();
	/* reading something else, by itself, keeps nothing */
	if (lists_files(function) || may_be_copied(now))
		pg_atomic_write_u64(&lightning_shared->copied_at, (uint64) now);
	pg_memory_barrier();
}

/* ---- removal ---- */

/* Tests hold others than those who merge, so that merging goes on. */
static bool publishing = false;

/*
 * Remove what the manifest of this number, and later ones, do not name.  Whether
 * that is allowed is asked after the number was taken (T1, T2); `copied`: also if
 * somebody may be copying by SQL.  Returns how many files went.
 */
static uint32
remove_before(LtgSession *s, uint64 manifest, bool copied, bool *done)
{
	uint32		removed = 0;
	LtgStatus	st;

	*done = false;
	pg_memory_barrier();
	if (lightning_running_backups() != 0 || (!copied && may_be_copied(GetCurrentTimestamp())))
		return 0;
	if (!publishing)
		lightning_stop_point("retain:looked");
	st = ltg_remove_before(s, manifest, &removed);
	if (st != LTG_OK)
		lightning_log_failure(s, st, "removing old files");
	*done = st == LTG_OK;
	pg_atomic_fetch_add_u64(&lightning_shared->files_removed, removed);
	return removed;
}

/* Cheap when there is nothing to do. */
void
lightning_remove_obsolete(LtgSession *s)
{
	static TimestampTz looked_at = 0;
	static uint64 manifest = 0;
	TimestampTz now = GetCurrentTimestamp();
	LtgObsolete seen;
	bool		done;

	if (!TimestampDifferenceExceeds(looked_at, now, REMOVE_INTERVAL_MS))
		return;
	looked_at = now;
	lightning_xact_remove(s);
	ltg_obsolete(s, &seen);
	if (seen.manifest == manifest && seen.files == 0)
		return;
	(void) remove_before(s, seen.manifest, false, &done);
	if (done)
		manifest = seen.manifest;
}

/* The same, for one who has published something. */
void
lightning_remove_replaced(LtgSession *s)
{
	publishing = true;
	lightning_remove_obsolete(s);
	publishing = false;
}

/*
 * The disk is full: what was dropped goes now, and all but the newest manifest's
 * files, also if somebody reads files by SQL.  The next flush may need the space,
 * and the next checkpoint that flush.  A disk without room for a manifest may have
 * it when the rest is gone.
 *
 * True if there is more space now.
 */
bool
lightning_free_space(LtgSession *s)
{
	uint32		removed = 0;

	for (int attempt = 0; attempt < 2; attempt++)
	{
		bool		published = ltg_publish_drops(s) == LTG_OK;
		LtgObsolete seen;
		bool		done;

		ltg_clear_error(s);
		ltg_obsolete(s, &seen);
		removed += remove_before(s, seen.manifest, true, &done);
		if (published || removed == 0)
			break;
	}
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
