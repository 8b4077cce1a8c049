/*
 * wal.h
 *	  The records Lightning puts into PostgreSQL's log.
 *
 * Every record is one blob of main data (no registered buffers):
 *
 *	 flags	  1 byte, LIGHTNING_XLF_* in the low bits, the kind's own above
 *	 store	  varints: tablespace (left out for pg_default), database,
 *			  relfilenode
 *	 rowid	  varint (not for the records about whole stores)
 *	 ...	  what the kind needs, see below
 *
 * The writer's transaction id is the record's own (32 bits, widened by redo);
 * command ids are not logged: nobody but the writer looks at them, and the
 * writer does not survive.  A version's sequence number is the record's end.
 *
 *	 INSERT			 payload to the end of the record
 *	 MULTI_INSERT	 rows have consecutive rowids: n, codec, raw length, then
 *					 the body: n lengths (varints), n payloads; codec is a
 *					 LightningWalCompression
 *	 UPDATE			 in place: base tag, new tag, image
 *	 MOVE			 update under a new rowid: base tag, tag of the tombstone,
 *					 new rowid, image
 *	 DELETE			 tag of the tombstone
 *	 KILL			 super-deletion of a speculative insertion: nothing
 *	 CREATE_STORE	 store flags; stamp = end of the record
 *	 DROP_STORE		 nothing
 *	 TRUNCATE_STORE	 store flags; empties, new stamp = end of the record
 *	 REMOVED		 xid: VACUUM is about to remove index entries of rows that
 *					 were deleted by transactions up to it, so snapshots on a
 *					 standby that may see them have to end; then a sequence
 *					 number, up to which tombstones need not be kept any more
 *					 (0 for either: nothing of the kind)
 *	 LOCKS			 of the store of row locks: the first one's number, how many
 *					 they are, then for each tablespace, database, relfilenode,
 *					 backend + 1, block, xid (varints), mode, number of rows; then
 *					 the rows (1 byte each), or a bitmap of 32 bytes if they are
 *					 more than 31
 *	 RAW			 versions with writers of their own (CLUSTER): n, then for
 *					 each rowid, kind|state, tag, flags, xid, aux, length,
 *					 payload
 *
 * image: a payload, whole, or (LIGHTNING_XLF_DELTA) as what differs from the
 * base version's: prefix length, suffix length, CRC-32C of the new payload,
 * and the bytes between.  Redo verifies the CRC, so that a base that is not
 * the one the update saw cannot go unnoticed.
 */
#ifndef LIGHTNING_WAL_H
#define LIGHTNING_WAL_H

#include "lightning.h"

#include "access/xlogdefs.h"
#include "access/xlogreader.h"
#include "lib/stringinfo.h"

#define XLOG_LIGHTNING_INSERT			0x00
#define XLOG_LIGHTNING_MULTI_INSERT		0x10
#define XLOG_LIGHTNING_UPDATE			0x20
#define XLOG_LIGHTNING_MOVE				0x30
#define XLOG_LIGHTNING_DELETE			0x40
#define XLOG_LIGHTNING_KILL				0x50
#define XLOG_LIGHTNING_CREATE_STORE		0x60
#define XLOG_LIGHTNING_DROP_STORE		0x70
#define XLOG_LIGHTNING_TRUNCATE_STORE	0x80
#define XLOG_LIGHTNING_RAW				0x90
#define XLOG_LIGHTNING_REMOVED			0xA0
#define XLOG_LIGHTNING_LOCKS			0xB0

/* the flags byte */
#define LIGHTNING_XLF_SPACE			0x01	/* tablespace given */
#define LIGHTNING_XLF_DELTA			0x02	/* image is a delta */
#define LIGHTNING_XLF_OTHER_PART	0x08	/* DELETE: moved to another partition */
#define LIGHTNING_XLF_KEY_CHANGED	0x10	/* UPDATE, MOVE */
#define LIGHTNING_XLF_FROZEN		0x20	/* INSERT, MULTI_INSERT: settled */

/* version flags of ours (LTG_VF_*): an update that changed key columns, or was
 * made under the strongest row lock, so that it conflicts with FOR KEY SHARE as
 * a delete does */
#define LIGHTNING_VF_KEY_CHANGED	0x02

/* Largest record we write, and what multi-row records aim at. */
#define LIGHTNING_WAL_RECORD_MAX	(1024 * 1024)
#define LIGHTNING_WAL_BATCH_BYTES	(128 * 1024)
#define LIGHTNING_WAL_BATCH_ROWS	4096

/*
 * Whole stores.  The caller holds lightning_ddl_begin over this and the change itself.
 * Return the end of the record: the stamp, or the LSN of the drop.  Temporary
 * stores are never logged; unlogged ones are (their creation only).
 */
extern LtgSeq lightning_log_create_store(const LtgStoreKey *key, uint32 flags);
extern LtgSeq lightning_log_drop_store(const LtgStoreKey *key);
extern LtgSeq lightning_log_truncate_store(const LtgStoreKey *key, uint32 flags);

/* See REMOVED. */
extern void lightning_log_removed(Relation rel, TransactionId newest, LtgSeq graves_upto);

/*
 * Write versions as they are, with their own writers' ids and fates (CLUSTER,
 * VACUUM FULL): log and apply.  The rowids within one call must differ; they
 * were taken from the store before.  Versions of one key are given in separate
 * calls, oldest first.  v.seq is ignored; nobody else may know the rows yet.
 */
typedef struct LightningRawRow
{
	uint64		rowid;
	LtgVersion	v;
} LightningRawRow;

extern void lightning_insert_raw(Relation rel, LightningRawRow *rows, int n);

/* Bytes and records written by this backend, for statistics. */
typedef struct LightningWalUsage
{
	uint64		records;
	uint64		bytes;
} LightningWalUsage;

extern LightningWalUsage lightning_wal_usage;

#endif
