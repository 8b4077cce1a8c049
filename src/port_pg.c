/*
 * port_pg.c
 *	  The engine's host port on the server: memory contexts, virtual file
 *	  descriptors, LWLocks, the write-ahead log, the commit log.
 *
 * Nothing here longjmps through the engine.  What can throw is called inside
 * PG_TRY; the error is kept in LightningPort.error and comes out of
 * lightning_report() when the engine has unwound.
 *
 * In the postmaster, which loads the state at start, there are no virtual file
 * descriptors: plain ones are used.
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "common/file_perm.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "server.h"

struct LtgFile
{
	File		vfd;			/* -1: fd is used */
	int			fd;
	char		name[64];
};

/* ---- memory ---- */

static void *
port_alloc(LtgPort *port, size_t size)
{
	LightningPort *lp = (LightningPort *) port;

	return MemoryContextAllocExtended(lp->context, size == 0 ? 1 : size,
									  MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
}

static void
port_free(LtgPort *port, void *ptr)
{
	if (ptr != NULL)
		pfree(ptr);
}

/* Keep the error in flight for lightning_report. */
static void
keep_error(LightningPort *lp, MemoryContext cxt, uint32 holdoff)
{
	if (lp->error != NULL)
		FreeErrorData(lp->error);
	lp->error = lightning_catch(lp->context, cxt, holdoff);
}

static void *
port_realloc(LtgPort *port, void *ptr, size_t size)
{
	LightningPort *lp = (LightningPort *) port;
	MemoryContext cxt = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;
	void	   *volatile result = NULL;

	if (ptr == NULL)
		return port_alloc(port, size);

	PG_TRY();
	{
		result = repalloc_huge(ptr, size == 0 ? 1 : size);
	}
	PG_CATCH();
	{
		(void) lightning_catch(NULL, cxt, holdoff);
		result = NULL;
	}
	PG_END_TRY();
	(void) lp;
	return result;
}

/* ---- files ---- */

static LtgStatus
file_failure(LtgError *err, const char *name, uint64_t offset, int os_errno, const char *what)
{
	if (os_errno == 0)
		os_errno = EIO;
	err->status = (os_errno == ENOSPC || os_errno == EDQUOT) ? LTG_NOSPACE : LTG_IO;
	err->os_errno = os_errno;
	err->offset = offset;
	strlcpy(err->file, name, sizeof(err->file));
	strlcpy(err->msg, what, sizeof(err->msg));
	return err->status;
}

static void
make_path(char *path, const char *name)
{
	snprintf(path, MAXPGPATH, "%s/%s", LIGHTNING_DIR, name);
}

/* -1 and errno when it fails. Throws only for want of memory. */
static int
open_file(LightningPort *lp, const char *path, int flags, LtgFile *f)
{
	f->vfd = -1;
	f->fd = -1;
	if (lp->plain_files)
		return f->fd = BasicOpenFile(path, flags);
	return f->vfd = PathNameOpenFile(path, flags);
}

static LtgStatus
port_file_open(LtgPort *port, const char *name, LtgOpenMode mode, LtgFile **file, LtgError *err)
{
	LightningPort *lp = (LightningPort *) port;
	MemoryContext cxt = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;
	char		path[MAXPGPATH];
	LtgFile    *f;
	int			flags = PG_BINARY;
	volatile int rc = -1;
	volatile int os_errno = 0;

	f = port_alloc(port, sizeof(LtgFile));
	if (f == NULL)
		return LTG_NOMEM;
	strlcpy(f->name, name, sizeof(f->name));
	make_path(path, name);
	flags |= mode == LTG_OPEN_READ ? O_RDONLY : O_RDWR;
	if (mode == LTG_OPEN_CREATE)
		flags |= O_CREAT | O_EXCL;

	if (lightning_fault(LIGHTNING_FAULT_OPEN))
		os_errno = errno;
	else
	{
		PG_TRY();
		{
			errno = 0;
			rc = open_file(lp, path, flags, f);
			os_errno = errno;
		}
		PG_CATCH();
		{
			(void) lightning_catch(NULL, cxt, holdoff);
			os_errno = ENOMEM;
		}
		PG_END_TRY();
	}
	if (rc < 0)
	{
		port_free(port, f);
		if (os_errno == ENOENT)
			return LTG_NOT_FOUND;
		return file_failure(err, name, 0, os_errno, "could not open file");
	}
	*file = f;
	return LTG_OK;
}

static LtgStatus
port_file_read(LtgPort *port, LtgFile *file, void *buf, size_t len, uint64_t offset,
			   size_t *nread, LtgError *err)
{
	size_t		done = 0;
	bool		timed = track_io_timing && file->vfd >= 0;
	instr_time	started,
				now;

	*nread = 0;
	if (lightning_fault(LIGHTNING_FAULT_READ))
		return file_failure(err, file->name, offset, errno, "could not read file");
	if (timed)
		INSTR_TIME_SET_CURRENT(started);
	while (done < len)
	{
		size_t		want = Min(len - done, (size_t) 1 << 30);
		ssize_t		n;

		errno = 0;
		if (file->vfd >= 0)
			n = FileRead(file->vfd, (char *) buf + done, (int) want, (off_t) (offset + done),
						 PG_WAIT_EXTENSION);
		else
			n = pg_pread(file->fd, (char *) buf + done, want, (off_t) (offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return file_failure(err, file->name, offset + done, errno, "could not read file");
		if (n == 0)
			break;
		done += (size_t) n;
	}
	if (timed)
	{
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, started);
		pgstat_count_buffer_read_time(INSTR_TIME_GET_MICROSEC(now));
		INSTR_TIME_ADD(pgBufferUsage.blk_read_time, now);
	}
	*nread = done;
	return LTG_OK;
}

static LtgStatus
port_file_write(LtgPort *port, LtgFile *file, const void *buf, size_t len, uint64_t offset,
				LtgError *err)
{
	size_t		done = 0;

	if (lightning_fault(LIGHTNING_FAULT_WRITE))
		return file_failure(err, file->name, offset, errno, "could not write file");
	while (done < len)
	{
		size_t		want = Min(len - done, (size_t) 1 << 30);
		ssize_t		n;

		errno = 0;
		if (file->vfd >= 0)
			n = FileWrite(file->vfd, (char *) unconstify(void *, buf) + done, (int) want,
						  (off_t) (offset + done), PG_WAIT_EXTENSION);
		else
			n = pg_pwrite(file->fd, (const char *) buf + done, want, (off_t) (offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return file_failure(err, file->name, offset + done, errno == 0 ? ENOSPC : errno,
								"could not write file");
		done += (size_t) n;
	}
	return LTG_OK;
}

static LtgStatus
port_file_sync(LtgPort *port, LtgFile *file, LtgError *err)
{
	int			rc;

	errno = 0;
	if (lightning_fault(LIGHTNING_FAULT_SYNC))
		rc = -1;
	else if (file->vfd >= 0)
		rc = FileSync(file->vfd, PG_WAIT_EXTENSION);
	else
		rc = pg_fsync(file->fd);
	if (rc != 0)
		return file_failure(err, file->name, 0, errno, "could not fsync file");
	return LTG_OK;
}

static LtgStatus
port_file_size(LtgPort *port, LtgFile *file, uint64_t *size, LtgError *err)
{
	off_t		n;

	errno = 0;
	if (file->vfd >= 0)
		n = FileSize(file->vfd);
	else
		n = lseek(file->fd, 0, SEEK_END);
	if (n < 0)
		return file_failure(err, file->name, 0, errno, "could not determine size of file");
	*size = (uint64_t) n;
	return LTG_OK;
}

static void
port_file_close(LtgPort *port, LtgFile *file)
{
	if (file->vfd >= 0)
		FileClose(file->vfd);
	else if (file->fd >= 0)
		close(file->fd);
	port_free(port, file);
}

static LtgStatus
port_file_rename(LtgPort *port, const char *from, const char *to, LtgError *err)
{
	char		path_from[MAXPGPATH];
	char		path_to[MAXPGPATH];

	make_path(path_from, from);
	make_path(path_to, to);
	if (lightning_fault(LIGHTNING_FAULT_RENAME) || rename(path_from, path_to) != 0)
		return file_failure(err, from, 0, errno, "could not rename file");
	return LTG_OK;
}

/*
 * Sessions close what they have open of removed files when they next look at
 * files, which idle and waiting ones do not: so that the space comes back now, as
 * mdunlink() does.  Another link to the file is somebody's copy.
 */
static void
give_back_space(const char *path)
{
	struct stat st;

	/* what is wrong is reported by the unlink that comes next */
	if (stat(path, &st) == 0 && st.st_nlink == 1 && st.st_size > 0 && truncate(path, 0) != 0)
		return;
}

static LtgStatus
port_file_remove(LtgPort *port, const char *name, LtgError *err)
{
	char		path[MAXPGPATH];

	make_path(path, name);
	give_back_space(path);
	if (unlink(path) != 0 && errno != ENOENT)
		return file_failure(err, name, 0, errno, "could not remove file");
	return LTG_OK;
}

static LtgStatus
port_dir_sync(LtgPort *port, LtgError *err)
{
	int			fd;
	int			rc;
	int			os_errno;

	if (!enableFsync)
		return LTG_OK;
	if (lightning_fault(LIGHTNING_FAULT_SYNC))
		return file_failure(err, LIGHTNING_DIR, 0, errno, "could not fsync directory");
	fd = BasicOpenFile(LIGHTNING_DIR, O_RDONLY | PG_BINARY);
	if (fd < 0)
		return file_failure(err, LIGHTNING_DIR, 0, errno, "could not open directory");
	rc = pg_fsync(fd);
	os_errno = errno;
	close(fd);
	if (rc != 0)
		return file_failure(err, LIGHTNING_DIR, 0, os_errno, "could not fsync directory");
	return LTG_OK;
}

static LtgStatus
port_dir_list(LtgPort *port, LtgDirFn fn, void *arg, LtgError *err)
{
	DIR		   *dir;
	struct dirent *de;
	int			os_errno;

	dir = opendir(LIGHTNING_DIR);
	if (dir == NULL)
		return file_failure(err, LIGHTNING_DIR, 0, errno, "could not open directory");
	while (errno = 0, (de = readdir(dir)) != NULL)
	{
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			fn(arg, de->d_name);
	}
	os_errno = errno;
	closedir(dir);
	if (os_errno != 0)
		return file_failure(err, LIGHTNING_DIR, 0, os_errno, "could not read directory");
	return LTG_OK;
}

/* (A network file system without such figures says 0 of 0.) */
static uint64_t
port_space(LtgPort *port)
{
	struct statvfs fs;

	if (statvfs(LIGHTNING_DIR, &fs) != 0 || fs.f_blocks == 0)
		return UINT64_MAX;
	return (uint64_t) fs.f_bavail * fs.f_frsize;
}

/* ---- locks, time, messages ---- */

static void
port_lock(LtgPort *port, LtgLockId id, LtgLockMode mode)
{
	(void) LWLockAcquire(&lightning_shared->locks[id].lock,
						 mode == LTG_SHARED ? LW_SHARED : LW_EXCLUSIVE);
}

static bool
port_try_lock(LtgPort *port, LtgLockId id, LtgLockMode mode)
{
	return LWLockConditionalAcquire(&lightning_shared->locks[id].lock,
									mode == LTG_SHARED ? LW_SHARED : LW_EXCLUSIVE);
}

static void
port_unlock(LtgPort *port, LtgLockId id)
{
	LWLockRelease(&lightning_shared->locks[id].lock);
}

static uint64_t
port_now_us(LtgPort *port)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static void
port_log(LtgPort *port, LtgLogLevel level, const char *msg)
{
	MemoryContext cxt = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;
	int			elevel;

	elevel = level == LTG_LOG_WARNING ? WARNING : level == LTG_LOG_INFO ? LOG : DEBUG1;
	PG_TRY();
	{
		ereport(elevel, (errmsg_internal("lightning: %s", msg)));
	}
	PG_CATCH();
	{
		(void) lightning_catch(NULL, cxt, holdoff);
	}
	PG_END_TRY();
}

/* So that a merge in pieces does not keep what it has replaced until its end. */
static void
port_published(LtgPort *port)
{
	if (((LightningPort *) port)->background)
		lightning_remove_replaced(lightning_session());
}

/*
 * Asked often during long work.  Workers absorb barriers here: DROP DATABASE
 * waits until every process has, and LWLocks that the engine holds would keep
 * CHECK_FOR_INTERRUPTS from doing it.
 */
static bool
port_interrupted(LtgPort *port)
{
	LightningPort *lp = (LightningPort *) port;

	if (lp->background && ProcSignalBarrierPending && CritSectionCount == 0)
	{
		MemoryContext cxt = CurrentMemoryContext;
		uint32		holdoff = InterruptHoldoffCount;

		PG_TRY();
		{
			ProcessProcSignalBarrier();
		}
		PG_CATCH();
		{
			/* stays pending, and is tried again */
			(void) lightning_catch(NULL, cxt, holdoff);
		}
		PG_END_TRY();
	}
	if (lp->stop != NULL)
		return *lp->stop != 0;
	if (lp->background)
		return false;
	return InterruptPending && (QueryCancelPending || ProcDiePending);
}

/*
 * No latch is waited for: background work looks at its own flags soon enough,
 * and a latch that others set all the time would end every wait.
 */
static void
port_pause(LtgPort *port, uint64_t us, LtgPause why)
{
	pgstat_report_wait_start(lightning_wait_event(why == LTG_PAUSE_LIMIT ?
												  LIGHTNING_WAIT_RATE_LIMIT :
												  LIGHTNING_WAIT_WRITE_DELAY));
	pg_usleep((long) Min(us, 100000));
	pgstat_report_wait_end();
}

#ifdef LIGHTNING_TEST
static void
port_stop_point(LtgPort *port, const char *name)
{
	lightning_stop_point(name);
}
#endif

/* ---- the log ---- */

static LtgSeq
port_wal_position(LtgPort *port)
{
	LightningPort *lp = (LightningPort *) port;

	if (lp->plain_files)
		return 0;				/* loading: nothing is logged */
	if (RecoveryInProgress())
	{
		XLogRecPtr	pos = GetXLogReplayRecPtr(NULL);
		XLogRecPtr	applied = pg_atomic_read_u64(&lightning_shared->redo_applied);

		/* the position is advanced after the record has been applied */
		return Max(Max(pos, applied), lp->replayed);
	}
	return GetXLogInsertRecPtr();
}

static LtgStatus
port_wal_flush(LtgPort *port, LtgSeq lsn, LtgError *err)
{
	LightningPort *lp = (LightningPort *) port;
	MemoryContext cxt = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;
	volatile LtgStatus st = LTG_OK;

	if (lp->plain_files || lsn == 0)
		return LTG_OK;

	/*
	 * A position that wal_position took from the insert pointer may lie behind
	 * the header of a page that has no record yet.  The log ends before it.
	 */
	if (lsn % wal_segment_size == SizeOfXLogLongPHD)
		lsn -= SizeOfXLogLongPHD;
	else if (lsn % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		lsn -= SizeOfXLogShortPHD;
	PG_TRY();
	{
		/*
		 * During recovery this advances minRecoveryPoint instead.  A commit
		 * that is just being replayed may have been seen already.
		 */
		if (RecoveryInProgress())
			lsn = Max(lsn, GetCurrentReplayRecPtr(NULL));
		XLogFlush(lsn);
	}
	PG_CATCH();
	{
		keep_error(lp, cxt, holdoff);
		st = LTG_HOST_ERROR;
	}
	PG_END_TRY();
	if (st != LTG_OK)
	{
		err->status = st;
		strlcpy(err->msg, "could not flush the write-ahead log", sizeof(err->msg));
	}
	return st;
}

/* ---- transactions ---- */

static LtgStatus
port_xid_status(LtgPort *port, LtgXid xid, LtgXidStatus *status, LtgError *err)
{
	LightningPort *lp = (LightningPort *) port;
	MemoryContext cxt = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;
	volatile LtgStatus st = LTG_OK;

	*status = LTG_XID_IN_PROGRESS;
	PG_TRY();
	{
		*status = lightning_xid_status(xid);
	}
	PG_CATCH();
	{
		keep_error(lp, cxt, holdoff);
		st = LTG_HOST_ERROR;
	}
	PG_END_TRY();
	if (st != LTG_OK)
	{
		err->status = st;
		strlcpy(err->msg, "could not determine the fate of a transaction", sizeof(err->msg));
	}
	return st;
}

static LtgXid
port_horizon(LtgPort *port)
{
	LightningPort *lp = (LightningPort *) port;

	if (lp->plain_files)
		return 0;
	return lightning_horizon();
}

static LtgXid
port_seen_below(LtgPort *port)
{
	LightningPort *lp = (LightningPort *) port;

	if (lp->plain_files)
		return 0;
	return lightning_seen_below();
}

static void
port_live(LtgPort *port, LtgLive *live)
{
	if (!((LightningPort *) port)->plain_files)
		lightning_collect_live(live);
}

static LtgSees
port_sees(LtgPort *port, const LtgLive *live, uint32_t i, LtgXid xid)
{
	return lightning_view_sees(live, i, xid);
}

static void
port_live_end(LtgPort *port, LtgLive *live)
{
	pfree(live->host);
}

/* ---- */

LightningPort *
lightning_port_create(void)
{
	LightningPort *lp;

	lp = MemoryContextAllocZero(TopMemoryContext, sizeof(LightningPort));
	lp->context = AllocSetContextCreate(TopMemoryContext, "lightning engine",
										ALLOCSET_DEFAULT_SIZES);
	lp->plain_files = !IsUnderPostmaster && MyProc == NULL;
	lp->port.ctx = lp;
	lp->port.alloc = port_alloc;
	lp->port.realloc = port_realloc;
	lp->port.free = port_free;
	lp->port.file_open = port_file_open;
	lp->port.file_read = port_file_read;
	lp->port.file_write = port_file_write;
	lp->port.file_sync = port_file_sync;
	lp->port.file_size = port_file_size;
	lp->port.file_close = port_file_close;
	lp->port.file_rename = port_file_rename;
	lp->port.file_remove = port_file_remove;
	lp->port.dir_sync = port_dir_sync;
	lp->port.dir_list = port_dir_list;
	lp->port.lock = port_lock;
	lp->port.try_lock = port_try_lock;
	lp->port.unlock = port_unlock;
	lp->port.space = port_space;
	lp->port.now_us = port_now_us;
	lp->port.log = port_log;
	lp->port.interrupted = port_interrupted;
	lp->port.pause = port_pause;
	lp->port.published = port_published;
#ifdef LIGHTNING_TEST
	lp->port.stop_point = port_stop_point;
#endif
	lp->port.wal_position = port_wal_position;
	lp->port.wal_flush = port_wal_flush;
	lp->port.xid_status = port_xid_status;
	lp->port.horizon = port_horizon;
	lp->port.seen_below = port_seen_below;
	lp->port.live = port_live;
	lp->port.sees = port_sees;
	lp->port.live_end = port_live_end;
	return lp;
}

void
lightning_port_free(LightningPort *lp)
{
	MemoryContextDelete(lp->context);
	pfree(lp);
}
