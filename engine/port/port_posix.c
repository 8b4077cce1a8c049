/*
 * port_posix.c
 *	  LtgPort on a POSIX system.
 *
 * Names are resolved against a descriptor of the directory, so that a process
 * may change its working directory.  Every failure of a system call reaches
 * the caller; nothing is retried except after EINTR and short transfers.
 *
 * Thread safety: everything here may be called by any thread; the fault
 * counters are atomic.  The numbered locks prefer writers, because a freeze
 * that waits for all pins must not starve behind a stream of new writers.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "port/port_posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define LOCK_FILE_NAME "LOCK"

typedef struct PosixLock
{
	pthread_rwlock_t rw;
} __attribute__((aligned(LTG_CACHE_LINE))) PosixLock;

typedef struct PosixFault
{
	_Atomic uint64_t calls;
	_Atomic uint64_t failed;
	_Atomic uint64_t nth;		/* 0: never */
	_Atomic int os_errno;
	_Atomic bool persistent;
} PosixFault;

struct LtgFile
{
	int			fd;
	char		name[64];
};

struct LtgPosix
{
	LtgPort		port;
	int			dirfd;
	int			lockfd;
	LtgPosixOptions opt;		/* dir is not kept */
	LtgPosixHost host;
	_Atomic uint64_t live_allocs;
	_Atomic bool faults_on;
	PosixFault	fault[LTG_FAULT_KINDS];
	PosixLock	lock[LTG_LOCK_COUNT];
};

static LtgPosix *
posix_of(LtgPort *port)
{
	return (LtgPosix *) port->ctx;
}

static LtgStatus
fail_errno(LtgError *err, int e, const char *file, const char *what)
{
	LtgStatus	status = LTG_IO;

	if (e == ENOSPC || e == EDQUOT)
		status = LTG_NOSPACE;
	if (err != NULL)
	{
		memset(err, 0, sizeof(*err));
		err->status = status;
		err->os_errno = e;
		snprintf(err->file, sizeof(err->file), "%s", file != NULL ? file : "");
		snprintf(err->msg, sizeof(err->msg), "%s", what);
	}
	return status;
}

/* The errno to fail with, or 0 to go on. */
static int
faulted(LtgPosix *p, LtgFaultKind kind)
{
	PosixFault *f = &p->fault[kind];
	uint64_t	n,
				nth;

	if (LTG_LIKELY(!atomic_load_explicit(&p->faults_on, memory_order_relaxed)))
		return 0;
	n = atomic_fetch_add(&f->calls, 1) + 1;
	nth = atomic_load(&f->nth);
	if (nth == 0 || n < nth || (n > nth && !atomic_load(&f->persistent)))
		return 0;
	atomic_fetch_add(&f->failed, 1);
	return atomic_load(&f->os_errno);
}

/* ---- memory ---- */

static void *
posix_alloc(LtgPort *port, size_t size)
{
	LtgPosix   *p = posix_of(port);
	void	   *ptr;

	if (faulted(p, LTG_FAULT_ALLOC) != 0)
		return NULL;
	ptr = malloc(size > 0 ? size : 1);
	if (ptr != NULL)
		atomic_fetch_add_explicit(&p->live_allocs, 1, memory_order_relaxed);
	return ptr;
}

static void *
posix_realloc(LtgPort *port, void *ptr, size_t size)
{
	LtgPosix   *p = posix_of(port);
	void	   *n;

	if (faulted(p, LTG_FAULT_ALLOC) != 0)
		return NULL;
	n = realloc(ptr, size > 0 ? size : 1);
	if (n != NULL && ptr == NULL)
		atomic_fetch_add_explicit(&p->live_allocs, 1, memory_order_relaxed);
	return n;
}

static void
posix_free(LtgPort *port, void *ptr)
{
	if (ptr == NULL)
		return;
	atomic_fetch_sub_explicit(&posix_of(port)->live_allocs, 1,
							  memory_order_relaxed);
	free(ptr);
}

/* ---- files ---- */

static LtgStatus
posix_file_open(LtgPort *port, const char *name, LtgOpenMode mode,
				LtgFile **file, LtgError *err)
{
	LtgPosix   *p = posix_of(port);
	int			flags = O_CLOEXEC;
	int			e = faulted(p, LTG_FAULT_OPEN);
	LtgFile    *f;

	*file = NULL;
	LTG_ASSERT(strchr(name, '/') == NULL);
	if (e != 0)
		return fail_errno(err, e, name, "could not open file");
	f = posix_alloc(port, sizeof(*f));
	if (f == NULL)
	{
		fail_errno(err, ENOMEM, name, "out of memory opening a file");
		if (err != NULL)
			err->status = LTG_NOMEM;
		return LTG_NOMEM;
	}
	flags |= mode == LTG_OPEN_READ ? O_RDONLY : O_RDWR;
	if (mode == LTG_OPEN_CREATE)
		flags |= O_CREAT | O_EXCL;
	do
		f->fd = openat(p->dirfd, name, flags, 0600);
	while (f->fd < 0 && errno == EINTR);
	if (f->fd < 0)
	{
		e = errno;
		posix_free(port, f);
		if (e == ENOENT && mode != LTG_OPEN_CREATE)
			return LTG_NOT_FOUND;
		return fail_errno(err, e, name, "could not open file");
	}
	snprintf(f->name, sizeof(f->name), "%s", name);
	*file = f;
	return LTG_OK;
}

static LtgStatus
posix_file_read(LtgPort *port, LtgFile *file, void *buf, size_t len,
				uint64_t offset, size_t *nread, LtgError *err)
{
	LtgPosix   *p = posix_of(port);
	int			e = faulted(p, LTG_FAULT_READ);
	size_t		done = 0;

	*nread = 0;
	if (e != 0)
		return fail_errno(err, e, file->name, "could not read file");
	while (done < len)
	{
		ssize_t		n = pread(file->fd, (char *) buf + done, len - done,
							  (off_t) (offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
		{
			LtgStatus	status = fail_errno(err, errno, file->name,
											"could not read file");

			if (err != NULL)
				err->offset = offset + done;
			return status;
		}
		if (n == 0)
			break;
		done += (size_t) n;
	}
	*nread = done;
	return LTG_OK;
}

static LtgStatus
posix_file_write(LtgPort *port, LtgFile *file, const void *buf, size_t len,
				 uint64_t offset, LtgError *err)
{
	LtgPosix   *p = posix_of(port);
	int			e = faulted(p, LTG_FAULT_WRITE);
	size_t		done = 0;

	if (e != 0)
		return fail_errno(err, e, file->name, "could not write file");
	while (done < len)
	{
		ssize_t		n = pwrite(file->fd, (const char *) buf + done, len - done,
							   (off_t) (offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			/* a write of nothing without errno is a full disk */
			LtgStatus	status = fail_errno(err, n < 0 ? errno : ENOSPC,
											file->name, "could not write file");

			if (err != NULL)
				err->offset = offset + done;
			return status;
		}
		done += (size_t) n;
	}
	return LTG_OK;
}

static LtgStatus
posix_file_sync(LtgPort *port, LtgFile *file, LtgError *err)
{
	int			e = faulted(posix_of(port), LTG_FAULT_SYNC);

	if (e == 0 && fdatasync(file->fd) != 0)
		e = errno;
	if (e != 0)
		return fail_errno(err, e, file->name, "could not sync file");
	return LTG_OK;
}

static LtgStatus
posix_file_size(LtgPort *port, LtgFile *file, uint64_t *size, LtgError *err)
{
	struct stat st;
	int			e = faulted(posix_of(port), LTG_FAULT_SIZE);

	if (e == 0 && fstat(file->fd, &st) != 0)
		e = errno;
	if (e != 0)
		return fail_errno(err, e, file->name, "could not stat file");
	*size = (uint64_t) st.st_size;
	return LTG_OK;
}

static void
posix_file_close(LtgPort *port, LtgFile *file)
{
	/* on Linux the descriptor is gone whatever close answers */
	(void) close(file->fd);
	posix_free(port, file);
}

static LtgStatus
posix_file_rename(LtgPort *port, const char *from, const char *to, LtgError *err)
{
	LtgPosix   *p = posix_of(port);
	int			e = faulted(p, LTG_FAULT_RENAME);

	if (e == 0 && renameat(p->dirfd, from, p->dirfd, to) != 0)
		e = errno;
	if (e != 0)
		return fail_errno(err, e, from, "could not rename file");
	return LTG_OK;
}

static LtgStatus
posix_file_remove(LtgPort *port, const char *name, LtgError *err)
{
	LtgPosix   *p = posix_of(port);
	int			e = faulted(p, LTG_FAULT_REMOVE);

	if (e == 0 && unlinkat(p->dirfd, name, 0) != 0)
		e = errno;
	if (e == ENOENT)
		return LTG_NOT_FOUND;
	if (e != 0)
		return fail_errno(err, e, name, "could not remove file");
	return LTG_OK;
}

static LtgStatus
posix_dir_sync(LtgPort *port, LtgError *err)
{
	LtgPosix   *p = posix_of(port);
	int			e = faulted(p, LTG_FAULT_DIR_SYNC);

	if (e == 0 && fsync(p->dirfd) != 0)
		e = errno;
	if (e != 0)
		return fail_errno(err, e, NULL, "could not sync directory");
	return LTG_OK;
}

static uint64_t
posix_space(LtgPort *port)
{
	struct statvfs fs;

	if (fstatvfs(posix_of(port)->dirfd, &fs) != 0)
		return UINT64_MAX;
	return (uint64_t) fs.f_bavail * fs.f_frsize;
}

static LtgStatus
posix_dir_list(LtgPort *port, LtgDirFn fn, void *arg, LtgError *err)
{
	LtgPosix   *p = posix_of(port);
	int			e = faulted(p, LTG_FAULT_LIST);
	int			fd = -1;
	DIR		   *dir = NULL;
	struct dirent *de;

	if (e == 0)
	{
		/* a descriptor of its own: readdir moves the shared offset */
		fd = openat(p->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || (dir = fdopendir(fd)) == NULL)
			e = errno;
	}
	if (e != 0)
	{
		if (fd >= 0)
			close(fd);
		return fail_errno(err, e, NULL, "could not read directory");
	}
	for (;;)
	{
		errno = 0;
		de = readdir(dir);
		if (de == NULL)
			break;
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0 &&
			strcmp(de->d_name, LOCK_FILE_NAME) != 0)
			fn(arg, de->d_name);
	}
	e = errno;
	closedir(dir);
	if (e != 0)
		return fail_errno(err, e, NULL, "could not read directory");
	return LTG_OK;
}

/* ---- locks, time, messages ---- */

static void
posix_lock(LtgPort *port, LtgLockId id, LtgLockMode mode)
{
	pthread_rwlock_t *rw = &posix_of(port)->lock[id].rw;
	int			rc = mode == LTG_SHARED ? pthread_rwlock_rdlock(rw)
		: pthread_rwlock_wrlock(rw);

	/* only a recursive lock could fail: a programming error */
	if (rc != 0)
		abort();
}

static bool
posix_try_lock(LtgPort *port, LtgLockId id, LtgLockMode mode)
{
	pthread_rwlock_t *rw = &posix_of(port)->lock[id].rw;

	return (mode == LTG_SHARED ? pthread_rwlock_tryrdlock(rw)
			: pthread_rwlock_trywrlock(rw)) == 0;
}

static void
posix_unlock(LtgPort *port, LtgLockId id)
{
	pthread_rwlock_unlock(&posix_of(port)->lock[id].rw);
}

static uint64_t
posix_now_us(LtgPort *port)
{
	struct timespec ts;

	(void) port;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static void
posix_log(LtgPort *port, LtgLogLevel level, const char *msg)
{
	static const char *const names[] = {"debug", "info", "warning"};
	LtgPosix   *p = posix_of(port);

	if (level < p->opt.log_level)
		return;
	if (p->opt.log != NULL)
		p->opt.log(p->opt.log_arg, level, msg);
	else
		fprintf(stderr, "lightning: %s: %s\n", names[level], msg);
}

/* ---- the owner's part ---- */

static void
posix_pause(LtgPort *port, uint64_t us, LtgPause why)
{
	struct timespec ts = {(time_t) (us / 1000000), (long) (us % 1000000) * 1000};

	(void) port;
	(void) why;
	(void) nanosleep(&ts, NULL);
}

static bool
posix_interrupted(LtgPort *port)
{
	LtgPosixHost *h = &posix_of(port)->host;

	return h->interrupted != NULL && h->interrupted(h->arg);
}

static void
posix_stop_point(LtgPort *port, const char *name)
{
	LtgPosixHost *h = &posix_of(port)->host;

	h->stop_point(h->arg, name);
}

static LtgSeq
posix_wal_position(LtgPort *port)
{
	LtgPosixHost *h = &posix_of(port)->host;

	return h->wal_position != NULL ? h->wal_position(h->arg) : 0;
}

static LtgStatus
posix_wal_flush(LtgPort *port, LtgSeq lsn, LtgError *err)
{
	LtgPosixHost *h = &posix_of(port)->host;

	return h->wal_flush != NULL ? h->wal_flush(h->arg, lsn, err) : LTG_OK;
}

static LtgStatus
posix_xid_status(LtgPort *port, LtgXid xid, LtgXidStatus *status, LtgError *err)
{
	LtgPosixHost *h = &posix_of(port)->host;

	if (h->xid_status != NULL)
		return h->xid_status(h->arg, xid, status, err);
	*status = LTG_XID_COMMITTED;
	return LTG_OK;
}

static LtgXid
posix_horizon(LtgPort *port)
{
	LtgPosixHost *h = &posix_of(port)->host;

	return h->horizon != NULL ? h->horizon(h->arg) : 0;
}

static void
posix_live(LtgPort *port, LtgLive *live)
{
	LtgPosixHost *h = &posix_of(port)->host;

	if (h->live != NULL)
		h->live(h->arg, live);
}

static LtgSees
posix_sees(LtgPort *port, const LtgLive *live, uint32_t i, LtgXid xid)
{
	LtgPosixHost *h = &posix_of(port)->host;

	return h->sees(h->arg, live, i, xid);
}

static const LtgPort posix_calls = {
	.alloc = posix_alloc,
	.realloc = posix_realloc,
	.free = posix_free,
	.file_open = posix_file_open,
	.file_read = posix_file_read,
	.file_write = posix_file_write,
	.file_sync = posix_file_sync,
	.file_size = posix_file_size,
	.file_close = posix_file_close,
	.file_rename = posix_file_rename,
	.file_remove = posix_file_remove,
	.dir_sync = posix_dir_sync,
	.dir_list = posix_dir_list,
	.space = posix_space,
	.lock = posix_lock,
	.try_lock = posix_try_lock,
	.unlock = posix_unlock,
	.now_us = posix_now_us,
	.log = posix_log,
	.interrupted = posix_interrupted,
	.pause = posix_pause,
	.wal_position = posix_wal_position,
	.wal_flush = posix_wal_flush,
	.xid_status = posix_xid_status,
	.horizon = posix_horizon,
	.seen_below = posix_horizon,
	.live = posix_live,
	.sees = posix_sees,
};

/* ---- life ---- */

static LtgStatus
open_dir(LtgPosix *p, const LtgPosixOptions *opt, LtgError *err)
{
	if (opt->create && mkdir(opt->dir, 0700) != 0 && errno != EEXIST)
		return fail_errno(err, errno, opt->dir, "could not create directory");
	p->dirfd = open(opt->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->dirfd < 0)
		return fail_errno(err, errno, opt->dir, "could not open directory");
	if (!opt->lock_dir)
		return LTG_OK;
	p->lockfd = openat(p->dirfd, LOCK_FILE_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (p->lockfd < 0)
		return fail_errno(err, errno, LOCK_FILE_NAME, "could not open lock file");
	if (flock(p->lockfd, LOCK_EX | LOCK_NB) != 0)
	{
		if (errno != EWOULDBLOCK)
			return fail_errno(err, errno, LOCK_FILE_NAME, "could not lock directory");
		fail_errno(err, errno, LOCK_FILE_NAME, "the directory is in use");
		if (err != NULL)
			err->status = LTG_BUSY;
		return LTG_BUSY;
	}
	return LTG_OK;
}

static bool
init_locks(LtgPosix *p)
{
	pthread_rwlockattr_t attr;
	int			i = 0;

	if (pthread_rwlockattr_init(&attr) != 0)
		return false;
	pthread_rwlockattr_setkind_np(&attr,
								  PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	while (i < LTG_LOCK_COUNT && pthread_rwlock_init(&p->lock[i].rw, &attr) == 0)
		i++;
	pthread_rwlockattr_destroy(&attr);
	if (i == LTG_LOCK_COUNT)
		return true;
	while (i-- > 0)
		pthread_rwlock_destroy(&p->lock[i].rw);
	return false;
}

LtgStatus
ltg_posix_open(const LtgPosixOptions *opt, LtgPosix **posix, LtgError *err)
{
	LtgPosix   *p = aligned_alloc(LTG_CACHE_LINE,
								  (sizeof(LtgPosix) + LTG_CACHE_LINE - 1) &
								  ~(size_t) (LTG_CACHE_LINE - 1));
	LtgStatus	status;

	*posix = NULL;
	if (p == NULL)
	{
		fail_errno(err, ENOMEM, opt->dir, "out of memory");
		if (err != NULL)
			err->status = LTG_NOMEM;
		return LTG_NOMEM;
	}
	memset(p, 0, sizeof(*p));
	p->dirfd = p->lockfd = -1;
	p->opt = *opt;
	p->opt.dir = NULL;
	p->port = posix_calls;
	p->port.ctx = p;
	if (!init_locks(p))
	{
		free(p);
		return fail_errno(err, EAGAIN, opt->dir, "could not initialise locks");
	}
	status = open_dir(p, opt, err);
	if (status != LTG_OK)
	{
		ltg_posix_close(p);
		return status;
	}
	*posix = p;
	return LTG_OK;
}

void
ltg_posix_close(LtgPosix *p)
{
	if (p == NULL)
		return;
	for (int i = 0; i < LTG_LOCK_COUNT; i++)
		pthread_rwlock_destroy(&p->lock[i].rw);
	if (p->lockfd >= 0)
		close(p->lockfd);
	if (p->dirfd >= 0)
		close(p->dirfd);
	free(p);
}

LtgPort *
ltg_posix_port(LtgPosix *p)
{
	return &p->port;
}

void
ltg_posix_set_host(LtgPosix *p, const LtgPosixHost *host)
{
	p->host = *host;
	p->port.stop_point = host->stop_point != NULL ? posix_stop_point : NULL;
}

/* ---- faults ---- */

void
ltg_posix_fail(LtgPosix *p, LtgFaultKind kind, uint64_t nth, bool persistent,
			   int os_errno)
{
	PosixFault *f = &p->fault[kind];

	LTG_ASSERT(kind < LTG_FAULT_KINDS);
	atomic_store(&f->nth, 0);
	atomic_store(&f->calls, 0);
	atomic_store(&f->failed, 0);
	atomic_store(&f->os_errno, os_errno != 0 ? os_errno : EIO);
	atomic_store(&f->persistent, persistent);
	atomic_store(&f->nth, nth);
	atomic_store(&p->faults_on, true);
}

uint64_t
ltg_posix_calls(LtgPosix *p, LtgFaultKind kind)
{
	return atomic_load(&p->fault[kind].calls);
}

uint64_t
ltg_posix_failed(LtgPosix *p, LtgFaultKind kind)
{
	return atomic_load(&p->fault[kind].failed);
}

void
ltg_posix_no_faults(LtgPosix *p)
{
	for (int i = 0; i < LTG_FAULT_KINDS; i++)
		atomic_store(&p->fault[i].nth, 0);
	atomic_store(&p->faults_on, false);
}

uint64_t
ltg_posix_live_allocs(LtgPosix *p)
{
	return atomic_load(&p->live_allocs);
}
