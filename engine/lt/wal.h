/*
 * wal.h
 *	  The embedded library's write-ahead log.
 *
 * The log is one sequence of bytes; an LSN is a position in it, and the LSN of
 * a record is the position after its last byte.  It is cut into segment files
 * named "%016llx.wal" by the LSN of their first byte.  A segment starts with a
 * header and the state of all transactions (given by the owner) at that point,
 * so that the segments before it are needed only for row records.
 *
 * Segment header, 64 bytes
 *	 OFFSET	SIZE
 *	 0		8	magic
 *	 8		4	version
 *	 12		4	CRC32C of bytes 16..63
 *	 16		8	LSN of the first byte
 *	 24		8	flags: 1 = first segment of the database
 *	 32		32	zero
 * Record
 *	 0		4	CRC32C of payload, length, LSN of the record's first byte
 *	 4		4	length of the payload, 1..max
 *	 8		n	payload; its first byte is the type
 * A payload whose first byte is LT_WAL_SYNCED is the log's own: the next 8 bytes
 * say up to where the log was durable when the record was made.  It stands
 * before the first record that follows a sync.  When the last segment has an
 * invalid record, and behind it a SYNCED one that vouches for that place, then
 * the log is damaged; otherwise it ends there.
 * The LSN in the checksum keeps bytes from elsewhere in a file, or from another
 * file, from being taken for a record.
 *
 * Invariants
 *	 W1. Records are complete in the buffer before `insert` moves past them.
 *	 W2. flushed <= written <= insert.
 *	 W3. A segment is synced before the file of the next one is made.  So an
 *		 invalid record ends the log unless a later segment exists, and then
 *		 the log is damaged.  The header lies within one sector: it is there
 *		 as a whole, or not at all.
 *	 W4. A failed sync poisons the log: nothing can be appended, written or
 *		 reported durable any more.  A failed write is tried again by the next
 *		 one who needs it.
 *
 * Thread safety: everything, except open, close and the replay functions.
 * Locks: LT_MU_WRITE for the file, LT_MU_INSERT for the buffer's head.
 */
#ifndef LT_WAL_H
#define LT_WAL_H

#include "lt/host.h"

#define LT_WAL_FRAME 8			/* bytes before the payload */
#define LT_WAL_HEADER 64
#define LT_WAL_FIRST_LSN 64		/* of a new database */
#define LT_WAL_SEGMENTS_MAX 4096
#define LT_WAL_SYNCED 0xF0		/* owners use other types */

typedef struct LtWal LtWal;

/*
 * Appends the owner's state records (whole payloads, in order) through
 * emit(); called under LT_MU_INSERT.  An error postpones the new segment.
 */
typedef LtgStatus (*LtWalEmitFn) (void *emit_arg, const uint8_t *payload, uint32_t len);
typedef LtgStatus (*LtWalStateFn) (void *arg, LtWalEmitFn emit, void *emit_arg);

typedef struct LtWalOptions
{
	uint64_t	segment_bytes;
	size_t		ring_bytes;		/* power of two, >= 4 * largest record */
	LtWalStateFn state;
	void	   *state_arg;
} LtWalOptions;

/* Largest payload that may be appended. */
extern uint32_t lt_wal_record_max(size_t ring_bytes);

/* ---- reading, before lt_wal_start ---- */

extern LtgStatus lt_wal_create(LtHost *host, const LtWalOptions *opt, LtWal **wal,
							   LtgError *err) LTG_MUST_CHECK;
/* Lists the segments and reads their headers; *n = usable ones. */
extern LtgStatus lt_wal_scan(LtWal *wal, uint32_t *n, LtgError *err) LTG_MUST_CHECK;
/*
 * Reads all records of the segments from the one that contains `from` (0: the
 * first) to the end of the log, in order, and makes sure on the way that what
 * was read is durable.  Call it twice for two passes; the second must not find
 * less.  fn's error ends it.
 */
typedef LtgStatus (*LtWalRecordFn) (void *arg, const uint8_t *payload, uint32_t len,
									LtgSeq lsn);
extern LtgStatus lt_wal_replay(LtWal *wal, LtgSeq from, LtWalRecordFn fn, void *arg,
							   LtgError *err) LTG_MUST_CHECK;
extern LtgSeq lt_wal_end(const LtWal *wal);	/* found by the last replay */
extern uint64_t lt_wal_torn_bytes(const LtWal *wal);	/* given up at the end */

/* ---- writing ---- */

/* Begins a new segment at the end of the log (a first one if there is none). */
extern LtgStatus lt_wal_start(LtWal *wal, LtgError *err) LTG_MUST_CHECK;
extern void lt_wal_destroy(LtWal *wal);

/*
 * frame has LT_WAL_FRAME bytes of room before `len` bytes of payload.  When
 * slot is not NULL, *slot = slot_value is stored at the record's place in the
 * log: a state record sees it if and only if it comes later.  `last_resort`
 * records may use the reserve of the buffer and are never refused for want of
 * room before that is gone.
 */
typedef struct LtWalAppend
{
	uint8_t    *frame;
	uint32_t	len;
	_Atomic uint64_t *slot;
	uint64_t	slot_value;
	bool		last_resort;
} LtWalAppend;

extern LtgStatus lt_wal_append(LtWal *wal, const LtWalAppend *a, LtgSeq *lsn,
							   LtgError *err) LTG_MUST_CHECK;
/* Hand everything up to lsn to the operating system / make it durable. */
extern LtgStatus lt_wal_write(LtWal *wal, LtgSeq lsn, LtgError *err) LTG_MUST_CHECK;
extern LtgStatus lt_wal_sync(LtWal *wal, LtgSeq lsn, LtgError *err) LTG_MUST_CHECK;
/* Begin a new segment now, if the buffer has room, else with the next record. */
extern void lt_wal_roll(LtWal *wal);
/* Remove segments that are not needed to replay from `durable` on. */
extern LtgStatus lt_wal_trim(LtWal *wal, LtgSeq durable, uint32_t *removed,
							 LtgError *err) LTG_MUST_CHECK;

extern LtgSeq lt_wal_position(const LtWal *wal);
extern LtgSeq lt_wal_flushed(const LtWal *wal);
extern bool lt_wal_poisoned(const LtWal *wal);
extern void lt_wal_poison(LtWal *wal);

typedef struct LtWalStats
{
	uint64_t	bytes, writes, syncs, segments;
	LtgSeq		insert, written, flushed;
} LtWalStats;

extern void lt_wal_stats(LtWal *wal, LtWalStats *stats);

/* Fill *err (if there is none in it yet); returns status. */
extern LtgStatus lt_wal_fail(LtgError *err, LtgStatus status, const char *file,
							 uint64_t offset, const char *msg);
extern void lt_wal_name(char *buf, LtgSeq start);	/* buf[32] */
extern bool lt_wal_parse_name(const char *name, LtgSeq *start);

#endif
