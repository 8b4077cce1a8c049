/*
 * ltg_port.h
 *	  What the engine asks of its host: memory, files, locks, time, the log,
 *	  and the fate of transactions.
 *
 * Implementations: port/port_posix.c (embedded library, tests, benchmarks),
 * test/port_sim.c (deterministic simulation), src/port_pg.c (the server).  The
 * vtable is process-local and is never stored in the shared region.
 *
 * Rules for implementations
 *	 P1. No call longjmps through the engine.  A host whose primitives throw
 *		 catches, keeps the error, and returns LTG_HOST_ERROR.
 *	 P2. File names are relative to the engine's directory and contain no '/'.
 *	 P3. file_write, file_sync, rename and dir_sync report every failure.  A
 *		 failed sync is never retried on the same file by the engine.
 *	 P4. lock() is not recursive and may block; it is not interruptible.
 *		 Locks are numbered, see LtgLockId; the host provides
 *		 LTG_LOCK_COUNT of them, shared between all sessions.
 */
#ifndef LTG_PORT_H
#define LTG_PORT_H

#include "base/common.h"

typedef struct LtgPort LtgPort;
typedef struct LtgFile LtgFile;		/* defined by each implementation */

/* Detail of a failure, owned by the session; no allocation. */
typedef struct LtgError
{
	LtgStatus	status;
	int			os_errno;		/* LTG_IO, LTG_NOSPACE */
	LtgFileId	file_id;		/* LTG_CORRUPT and I/O: 0 if not a data file */
	uint64_t	offset;			/* byte offset in the file */
	char		file[64];		/* file name, "" if none */
	char		msg[192];		/* full sentence fragment, lower case */
} LtgError;

typedef enum LtgLockMode
{
	LTG_SHARED,
	LTG_EXCLUSIVE
} LtgLockMode;

/*
 * Lock numbers, in acquisition order: whoever holds one may only take ones
 * with a larger number.  Key stripes come first because a writer holds its
 * stripe over everything else it does.
 */
#define LTG_LOCK_STRIPES 1024
#define LTG_LOCK_PINS 16
#define LTG_LOCK_PACKED_SHARDS 8

typedef enum LtgLockId
{
	LTG_LOCK_STRIPE_0 = 0,		/* key stripes: one writer per key */
	LTG_LOCK_FLUSH = LTG_LOCK_STRIPES,	/* one flush at a time */
	LTG_LOCK_COMPACT,			/* picking and reserving compaction inputs */
	LTG_LOCK_MANIFEST,			/* one publication at a time; held over its I/O */
	LTG_LOCK_META,				/* store table, run sets, file table, generation
								 * list; never held over I/O of the engine */
	LTG_LOCK_PIN_0,				/* shared by writers over {log + apply};
								 * all taken exclusively by freeze */
	LTG_LOCK_ALLOC = LTG_LOCK_PIN_0 + LTG_LOCK_PINS,	/* shared allocator */
	LTG_LOCK_CACHE,				/* cache misses and replacement */
	LTG_LOCK_PACKED_0,			/* compressed blocks in memory, by shard */
	LTG_LOCK_EPOCH = LTG_LOCK_PACKED_0 + LTG_LOCK_PACKED_SHARDS,				/* retire list */
	LTG_LOCK_COUNT
} LtgLockId;

typedef enum LtgXidStatus
{
	LTG_XID_IN_PROGRESS,		/* or not known: must be kept */
	LTG_XID_COMMITTED,
	LTG_XID_ABORTED
} LtgXidStatus;

/* Does a snapshot see a transaction that has committed? */
typedef enum LtgSees
{
	LTG_SEES_NO,
	LTG_SEES_YES,
	LTG_SEES_MAYBE				/* not known: take both for possible */
} LtgSees;

/*
 * The snapshots that the host knows one by one, at the moment it was asked.
 * Every other snapshot there is, and every one that will be, sees all committed
 * transactions below floor: a later reader for whom that is not so is turned away
 * by the host before it reads anything.
 */
#define LTG_LIVE_MAX 64

typedef struct LtgLive
{
	LtgXid		floor;
	uint32_t	n;				/* known snapshots, <= LTG_LIVE_MAX */
	uint64_t	known[LTG_LIVE_MAX];	/* these two are the host's own */
	void	   *host;
} LtgLive;

typedef enum LtgPause			/* why somebody waits */
{
	LTG_PAUSE_LIMIT,			/* background work, for the rate limit */
	LTG_PAUSE_WRITER			/* a writer, for background work that is behind */
} LtgPause;

typedef enum LtgLogLevel
{
	LTG_LOG_DEBUG,
	LTG_LOG_INFO,
	LTG_LOG_WARNING
} LtgLogLevel;

typedef enum LtgOpenMode
{
	LTG_OPEN_READ,
	LTG_OPEN_WRITE,				/* an existing file, to append to it */
	LTG_OPEN_CREATE				/* write; fails if the file exists */
} LtgOpenMode;

typedef void (*LtgDirFn) (void *arg, const char *name);

struct LtgPort
{
	void	   *ctx;			/* the host's own */

	/* process-local memory; alloc returns NULL when there is none */
	void	   *(*alloc) (LtgPort *port, size_t size);
	void	   *(*realloc) (LtgPort *port, void *ptr, size_t size);
	void		(*free) (LtgPort *port, void *ptr);

	/*
	 * Files.  On failure fill *err (status, os_errno, file, msg) and return
	 * its status.  file_open returns LTG_NOT_FOUND without filling err when
	 * the name does not exist; file_remove then returns that, or LTG_OK.  file_read reads at most len bytes; *nread is
	 * short only at end of file.  file_close never fails; closing an unsynced
	 * file gives no durability.
	 */
	LtgStatus	(*file_open) (LtgPort *port, const char *name, LtgOpenMode mode,
							  LtgFile **file, LtgError *err);
	LtgStatus	(*file_read) (LtgPort *port, LtgFile *file, void *buf, size_t len,
							  uint64_t offset, size_t *nread, LtgError *err);
	LtgStatus	(*file_write) (LtgPort *port, LtgFile *file, const void *buf,
							   size_t len, uint64_t offset, LtgError *err);
	LtgStatus	(*file_sync) (LtgPort *port, LtgFile *file, LtgError *err);
	LtgStatus	(*file_size) (LtgPort *port, LtgFile *file, uint64_t *size,
							  LtgError *err);
	void		(*file_close) (LtgPort *port, LtgFile *file);
	LtgStatus	(*file_rename) (LtgPort *port, const char *from, const char *to,
								LtgError *err);
	LtgStatus	(*file_remove) (LtgPort *port, const char *name, LtgError *err);
	LtgStatus	(*dir_sync) (LtgPort *port, LtgError *err);
	LtgStatus	(*dir_list) (LtgPort *port, LtgDirFn fn, void *arg, LtgError *err);
	/* bytes that are free for files; UINT64_MAX, or the call NULL: not known */
	uint64_t	(*space) (LtgPort *port);

	/* numbered locks shared by all sessions (P4) */
	void		(*lock) (LtgPort *port, LtgLockId id, LtgLockMode mode);
	bool		(*try_lock) (LtgPort *port, LtgLockId id, LtgLockMode mode);
	void		(*unlock) (LtgPort *port, LtgLockId id);

	uint64_t	(*now_us) (LtgPort *port);	/* monotonic */
	void		(*log) (LtgPort *port, LtgLogLevel level, const char *msg);

	/* true: abandon long background work soon (status LTG_INTERRUPTED) */
	bool		(*interrupted) (LtgPort *port);

	/* Wait that long, or less.  NULL: nobody waits, limits are not heeded. */
	void		(*pause) (LtgPort *port, uint64_t us, LtgPause why);

	/*
	 * The set of files has changed: some may not be needed any more.  Called
	 * after each publication, perhaps with LTG_LOCK_FLUSH held.  NULL: not wanted.
	 */
	void		(*published) (LtgPort *port);

	/*
	 * A named place where tests hold a process, the simulation switches
	 * tasks, and faults are injected.  NULL in production builds of the
	 * embedded library.  Must not be called with a lock held whose wait could
	 * deadlock a test; the name is a string literal like "flush:before-sync".
	 */
	void		(*stop_point) (LtgPort *port, const char *name);

	/*
	 * The log.  wal_position: everything logged so far has an LSN <= the
	 * returned value, everything logged later a larger one (the caller holds
	 * all LTG_LOCK_PIN_* exclusively).  wal_flush: make the log durable up to
	 * and including lsn.
	 */
	LtgSeq		(*wal_position) (LtgPort *port);
	LtgStatus	(*wal_flush) (LtgPort *port, LtgSeq lsn, LtgError *err);

	/*
	 * Transactions.  xid_status must answer LTG_XID_IN_PROGRESS whenever it is
	 * not certain.  horizon: every transaction with an id below it that
	 * committed is seen as committed by every snapshot there is or will be.
	 */
	LtgStatus	(*xid_status) (LtgPort *port, LtgXid xid, LtgXidStatus *status,
							   LtgError *err);
	LtgXid		(*horizon) (LtgPort *port);
	/*
	 * Like horizon, for readers: nothing is settled by it.  NULL: not known.
	 */
	LtgXid		(*seen_below) (LtgPort *port);

	/*
	 * Known snapshots; live may be NULL: none is known, and the horizon stands for
	 * them all.  live fills *live (n = 0 and floor = 0 are always right), sees answers for known
	 * snapshot i about a transaction that committed, live_end frees what live took.
	 * Every transaction below floor had ended when live was called.
	 */
	void		(*live) (LtgPort *port, LtgLive *live);
	LtgSees		(*sees) (LtgPort *port, const LtgLive *live, uint32_t i, LtgXid xid);
	void		(*live_end) (LtgPort *port, LtgLive *live);
};

#ifdef LTG_STOP_POINTS
#define LTG_STOP_POINT(port, name) \
	do { \
		if ((port)->stop_point != NULL) \
			(port)->stop_point((port), (name)); \
	} while (0)
#else
#define LTG_STOP_POINT(port, name) ((void) 0)
#endif

#endif
