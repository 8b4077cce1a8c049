/*
 * xact.c
 *	  Copies of those parts of the commit log that PostgreSQL forgets before we do.
 *
 * The primary truncates pg_xact when relfrozenxid says of every table that older
 * transactions are not asked for any more, and our VACUUM says so of its own files.
 * Other nodes have other files: a standby's, also when it is promoted, or those that
 * replay of a backup has made.
 *
 * Rules
 *	 K1. Of a transaction that files of this node may ask for, either pg_xact or a
 *		 copy of its segment in our directory tells the fate.  Redo of a truncation
 *		 copies first, and so does the end of recovery (and a start in the middle of
 *		 it, after which there may be nothing left to replay): from then on
 *		 relfrozenxid, as another node's VACUUM has set it, decides.  Transactions
 *		 that come later are those that our own VACUUM counts.
 *	 K2. While somebody copies the data directory, redo does not truncate: he may
 *		 have read our files before and pg_xact later.  See retain.c, T3.
 *	 K3. What a copy says is final; what it does not say may have been decided since,
 *		 until oldestClogXid has passed it: then it has aborted.  So a segment that is
 *		 copied again adds to the copy.  Recovery that has begun before a truncation
 *		 sees fates early, but does not end before it (minRecoveryPoint).
 *	 K4. A copy goes when no file there is, replaced ones included, has a transaction
 *		 as old: where files are removed.  Who removes asks what files there are
 *		 under xact_lock, under which copies are made: a file that comes later has
 *		 its copies made later.
 *
 * Lock: xact_lock, before LTG_LOCK_META.  Held over I/O of a segment, or a look at the
 * directory; who removes does not wait for it.
 *
 * Copies have the number of their segment with the epoch, so none is taken for
 * another one after a wraparound.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/clog.h"
#include "access/slru.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/startup.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#include "server.h"

#define XIDS_PER_BYTE 4
#define SEGMENT_BYTES (BLCKSZ * SLRU_PAGES_PER_SEGMENT)
#define SEGMENT_XIDS ((uint64) SEGMENT_BYTES * XIDS_PER_BYTE)
#define SEGMENTS_PER_EPOCH ((UINT64CONST(1) << 32) / SEGMENT_XIDS)
#define SUFFIX ".xact"
#define TMP_SUFFIX ".new"
#define RETRY_MS 200
#define RETRIES_LOGGED 150
#define REMOVE_INTERVAL_MS 5000

static void
copy_path(char *path, uint64 segment)
{
	snprintf(path, MAXPGPATH, LIGHTNING_DIR "/%016llX" SUFFIX, (unsigned long long) segment);
}

static void
xact_path(char *path, uint64 segment)
{
	snprintf(path, MAXPGPATH, "pg_xact/%04X", (unsigned) (segment % SEGMENTS_PER_EPOCH));
}

static int
decided(uint8 byte, int i)
{
	int			status = (byte >> (2 * i)) & 3;

	return status == TRANSACTION_STATUS_COMMITTED || status == TRANSACTION_STATUS_ABORTED ?
		status : 0;
}

/* ---- what there is ---- */

/* REQUIRES xact_lock. */
static void
take_stock(LtgXid remove_below)
{
	DIR		   *dir = opendir(LIGHTNING_DIR);
	struct dirent *de;
	uint32		n = 0;
	uint64		below = 0;
	char		path[MAXPGPATH];

	while (dir != NULL && (de = readdir(dir)) != NULL)
	{
		char	   *end;
		uint64		segment;

		/* what a crash has left of a copy */
		if (!IsUnderPostmaster && strstr(de->d_name, SUFFIX TMP_SUFFIX) != NULL)
		{
			snprintf(path, sizeof(path), LIGHTNING_DIR "/%s", de->d_name);
			unlink(path);
			continue;
		}
		if (strlen(de->d_name) != 16 + strlen(SUFFIX) || strcmp(de->d_name + 16, SUFFIX) != 0)
			continue;
		segment = strtou64(de->d_name, &end, 16);
		if (end != de->d_name + 16)
			continue;
		copy_path(path, segment);
		if ((segment + 1) * SEGMENT_XIDS <= remove_below && unlink(path) == 0)
			continue;
		n++;
		below = Max(below, (segment + 1) * SEGMENT_XIDS);
	}
	if (dir == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open directory \"%s\": %m", LIGHTNING_DIR)));
	closedir(dir);
	pg_atomic_write_u32(&lightning_shared->xact_copies, n);
	pg_atomic_write_u64(&lightning_shared->xact_below, below);
	pg_atomic_fetch_add_u64(&lightning_shared->xact_changes, 1);
	pg_memory_barrier();
}

/* ---- copying; false and errno when it fails ---- */

/* What the file does not have is 0; *exists: there is one. */
static bool
read_whole(const char *path, uint8 *buf, bool *exists)
{
	int			fd = BasicOpenFile(path, O_RDONLY | PG_BINARY);
	ssize_t		n = 0;
	size_t		done = 0;
	int			save_errno;

	memset(buf, 0, SEGMENT_BYTES);
	*exists = fd >= 0;
	if (fd < 0)
		return errno == ENOENT;
	while (done < SEGMENT_BYTES && (n = read(fd, buf + done, SEGMENT_BYTES - done)) > 0)
		done += n;
	save_errno = errno;
	close(fd);
	errno = save_errno;
	return n >= 0;
}

static bool
write_whole(const char *path, const uint8 *buf)
{
	char		tmp[MAXPGPATH + 8];
	int			fd;
	int			save_errno;
	bool		ok;

	snprintf(tmp, sizeof(tmp), "%s" TMP_SUFFIX, path);
	if (lightning_fault(LIGHTNING_FAULT_WRITE))
		return false;
	fd = BasicOpenFile(tmp, O_RDWR | O_CREAT | O_TRUNC | PG_BINARY);
	if (fd < 0)
		return false;
	errno = ENOSPC;				/* what a short write means */
	ok = write(fd, buf, SEGMENT_BYTES) == SEGMENT_BYTES && pg_fsync(fd) == 0;
	save_errno = errno;
	ok = close(fd) == 0 && ok;
	if (!ok)
		unlink(tmp);
	errno = save_errno;
	lightning_stop_point("xact:before-rename");
	return ok && durable_rename(tmp, path, LOG) == 0;
}

/* The copy says what pg_xact says, or else what it said before (K3). */
static bool
keep_segment(uint64 segment)
{
	uint8	   *now = palloc(SEGMENT_BYTES);
	uint8	   *copy = palloc(SEGMENT_BYTES);
	char		path[MAXPGPATH];
	bool		exists,
				copied;
	bool		changed = false;
	bool		ok;
	int			save_errno;

	xact_path(path, segment);
	ok = read_whole(path, now, &exists);
	copy_path(path, segment);
	ok = ok && read_whole(path, copy, &copied);
	for (uint32 at = 0; ok && exists && at < SEGMENT_BYTES; at++)
		for (int i = 0; now[at] != copy[at] && i < XIDS_PER_BYTE; i++)
			if (decided(now[at], i) != 0 && decided(now[at], i) != decided(copy[at], i))
			{
				copy[at] = (copy[at] & ~(3 << (2 * i))) | decided(now[at], i) << (2 * i);
				changed = true;
			}
	if (ok && exists && (changed || !copied))
		ok = write_whole(path, copy);
	save_errno = errno;
	pfree(now);
	pfree(copy);
	errno = save_errno;
	return ok;
}

static bool
keep_one(uint64 segment)
{
	int			save_errno;
	bool		ok;

	LWLockAcquire(&lightning_shared->xact_lock, LW_EXCLUSIVE);
	ok = keep_segment(segment);
	save_errno = errno;
	LWLockRelease(&lightning_shared->xact_lock);
	errno = save_errno;
	return ok;
}

static void
count_copies(void)
{
	LWLockAcquire(&lightning_shared->xact_lock, LW_EXCLUSIVE);
	take_stock(0);
	LWLockRelease(&lightning_shared->xact_lock);
}

/* errno says why a segment could not be copied.  Recovery waits for space. */
static void
wait_for_space(LtgSession *s, uint64 segment, int tries)
{
	bool		full = errno == ENOSPC || errno == EDQUOT;
	bool		wait = full && AmStartupProcess();
	/* recovery comes to its end, where this is done again */
	bool		later = full && IsPostmasterEnvironment && !IsUnderPostmaster;

	if (!wait || tries % RETRIES_LOGGED == 0)
		ereport(wait || later ? LOG : FATAL,
				(errcode_for_file_access(),
				 errmsg("could not keep segment %04X of the commit log: %m",
						(unsigned) (segment % SEGMENTS_PER_EPOCH)),
				 wait ? errdetail("Recovery waits. It will be tried again.") : 0));
	if (!wait)
		return;
	HandleStartupProcInterrupts();
	if (!lightning_free_space(s))
		pg_usleep(RETRY_MS * 1000);
	HandleStartupProcInterrupts();
}

/* Copy the segments with transactions in from .. below - 1; `next` is the next id. */
static void
keep(LtgSession *s, LtgXid from, LtgXid below, LtgXid next)
{
	uint64		window = UINT64CONST(1) << 31;

	/* older segments have other transactions by now */
	if (next > window)
		from = Max(from, next - window + SEGMENT_XIDS);
	for (uint64 segment = from / SEGMENT_XIDS; segment * SEGMENT_XIDS < below; segment++)
	{
		for (int i = 0; !keep_one(segment); i++)
		{
			wait_for_space(s, segment, i);
			if (!IsUnderPostmaster)
				break;
		}
		lightning_stop_point("xact:kept");
	}
	count_copies();
}

void
lightning_xact_load(LtgSession *s)
{
	ControlFileData *control = lightning_control_file();
	LtgXid		next = U64FromFullTransactionId(control->checkPointCopy.nextXid);
	LtgXid		asked = ltg_oldest_xid(s, false);

	if (asked != 0 && (control->state == DB_SHUTDOWNED_IN_RECOVERY ||
					   control->state == DB_IN_ARCHIVE_RECOVERY))
		keep(s, asked, next, next);
	else
		count_copies();
}

bool
lightning_xact_may_go(LtgSession *s, TransactionId oldest, XLogRecPtr end)
{
	LtgXid		next = U64FromFullTransactionId(ReadNextFullTransactionId());
	LtgXid		below = lightning_widen_xid(oldest);
	LtgXid		asked = ltg_oldest_xid(s, false);

	below -= below % SEGMENT_XIDS;
	if (asked == 0 || asked >= below)
		return true;
	CheckPointCLOG();
	keep(s, asked, below, next);
	XLogFlush(end);				/* minRecoveryPoint */
	pg_memory_barrier();
	return !lightning_may_be_copied();
}

void
lightning_xact_keep_all(LtgSession *s)
{
	LtgXid		next = U64FromFullTransactionId(ReadNextFullTransactionId());
	LtgXid		asked = ltg_oldest_xid(s, false);

	if (asked == 0)
		return;
	CheckPointCLOG();
	keep(s, asked, next, next);
}

/* ---- asking ---- */

/* -1: there is no copy. */
static int
copied_status(LtgXid xid)
{
	static File file = -1;
	static uint64 opened = UINT64_MAX;
	static uint64 opened_at = 0;
	uint64		segment = xid / SEGMENT_XIDS;
	uint64		changes = pg_atomic_read_u64(&lightning_shared->xact_changes);
	char		path[MAXPGPATH];
	uint8		byte;

	copy_path(path, segment);
	if (opened != segment || opened_at != changes)
	{
		if (file >= 0)
			FileClose(file);
		opened = UINT64_MAX;
		pg_memory_barrier();
		file = PathNameOpenFile(path, O_RDONLY | PG_BINARY);
		if (file < 0 && errno != ENOENT)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not open file \"%s\": %m", path)));
		opened = segment;
		opened_at = changes;
	}
	if (file < 0)
		return -1;
	if (FileRead(file, (char *) &byte, 1, (off_t) (xid % SEGMENT_XIDS / XIDS_PER_BYTE),
				 PG_WAIT_EXTENSION) != 1)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", path)));
	return decided(byte, xid % XIDS_PER_BYTE);
}

static bool
in_pg_xact(LtgXid xid)
{
	char		path[MAXPGPATH];

	xact_path(path, xid / SEGMENT_XIDS);
	return xid + (UINT64CONST(1) << 31) > U64FromFullTransactionId(ReadNextFullTransactionId()) &&
		access(path, F_OK) == 0;
}

LightningKeptFate
lightning_kept_fate(LtgXid xid)
{
	LtgXid		ended = lightning_ended_for_good();
	int			status = -1;

	if (likely(xid >= ended && xid >= pg_atomic_read_u64(&lightning_shared->xact_below)))
		return LIGHTNING_KEPT_UNKNOWN;
	pg_memory_barrier();		/* `ended` is older than the copy we look at */
	if (xid < pg_atomic_read_u64(&lightning_shared->xact_below))
		status = copied_status(xid);
	if (status == TRANSACTION_STATUS_COMMITTED)
		return LIGHTNING_KEPT_COMMITTED;
	if (status == TRANSACTION_STATUS_ABORTED || (status == 0 && xid < ended))
		return LIGHTNING_KEPT_ABORTED;
	return xid >= ended || in_pg_xact(xid) ? LIGHTNING_KEPT_UNKNOWN : LIGHTNING_KEPT_LOST;
}

/* ---- removal ---- */

/* Only what was not needed last time, either: somebody may be asking just now. */
void
lightning_xact_remove(LtgSession *s)
{
	static TimestampTz looked_at = 0;
	static LtgXid last = 0;
	TimestampTz now = GetCurrentTimestamp();
	LtgXid		oldest;

	if (likely(pg_atomic_read_u32(&lightning_shared->xact_copies) == 0) ||
		!TimestampDifferenceExceeds(looked_at, now, REMOVE_INTERVAL_MS) ||
		!LWLockConditionalAcquire(&lightning_shared->xact_lock, LW_EXCLUSIVE))
		return;
	looked_at = now;
	oldest = ltg_oldest_xid(s, false);
	if (oldest == 0)
		oldest = UINT64_MAX;
	lightning_stop_point("xact:remove");
	if (last >= SEGMENT_XIDS)
		take_stock(Min(oldest, last));
	last = oldest;
	LWLockRelease(&lightning_shared->xact_lock);
}
