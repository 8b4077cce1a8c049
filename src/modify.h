/*
 * modify.h
 *	  What the writing half of the table access method shares: looking at a
 *	  row's versions before changing it, row locks, and the write itself.
 *
 * Order of locks: heavyweight locks (relation, tuple, transaction) are only
 * waited for with nothing of ours held.  Then: the row's key latch, a row lock
 * partition (rowlock.c), then what the engine takes inside ltg_reserve.
 */
#ifndef LIGHTNING_MODIFY_H
#define LIGHTNING_MODIFY_H

#include "lightning.h"
#include "wal.h"

#include "nodes/lockoptions.h"
#include "storage/lmgr.h"

/* ---- rowlook.c: a row's versions, as an update has to see them ---- */

/* One version, without its payload; fate already found out. */
typedef struct LightningVersionInfo
{
	LtgXid		xid;			/* 0 when settled */
	LtgSeq		seq;
	uint64		aux;
	CommandId	cid;
	LtgKind		kind;
	uint8		tag;
	uint8		flags;
	bool		committed;		/* settled ones too */
	bool		settled;
	bool		mine;			/* written by this transaction, which goes on */
} LightningVersionInfo;

typedef struct LightningRowLook
{
	/* set by the caller */
	uint64		rowid;
	uint8		tag;			/* the base version's: what a TID named */
	bool		newest_is_base; /* ignore tag: base is the newest PUT */

	/* found; aborted versions are as if they were not there, except for
	 * newest_tag */
	bool		exists;			/* any version at all, whatever its fate */
	uint8		newest_tag;
	bool		have_newest;
	bool		have_base;
	bool		have_next;
	LightningVersionInfo newest;
	LightningVersionInfo base;
	LightningVersionInfo next;	/* the one that made base outdated */
	bool		key_changed;	/* some version above base is a delete, or
								 * changed key columns ... */
	bool		key_gone;		/* ... and is committed */
	LtgVersion	base_version;	/* payload is a private copy, valid until the
								 * next look */

	/* private */
	uint8		key[LIGHTNING_KEY_LEN];
	bool		no_memory;
	ErrorData  *error;
	/* for lightning_tag_is_free */
	LtgXid		horizon;
	int			half;
	bool		half_in_use;
} LightningRowLook;

/* Look at the versions.  Call with the row latched if anything is to be
 * decided by it.  ERRORs (any latch is then released by abort). */
extern void lightning_look(LtgSession *s, Relation rel, LtgStore *store,
						   LightningRowLook *look);
/* The tag that follows look->newest_tag; false if it may still be needed for
 * an older version, so that the row has to move.  REQUIRES the latch. */
extern bool lightning_next_tag(LtgSession *s, Relation rel, LtgStore *store,
							   LightningRowLook *look, uint8 *tag);
/* HeapTupleSatisfiesUpdate's answer for look->base, row locks aside. */
extern TM_Result lightning_judge_base(const LightningRowLook *look, CommandId curcid);
/* Lock mode that an unfinished version stands for. */
extern LockTupleMode lightning_version_lockmode(const LightningVersionInfo *v);
extern bool lightning_lockmodes_conflict(LockTupleMode a, LockTupleMode b);
/* Describe in tmfd why look->base can't be changed. */
extern void lightning_fill_failure(const LightningRowLook *look, TM_Result result,
								   TM_FailureData *tmfd);
/* ERROR: the TID names a version that is not there. */
extern void lightning_no_such_version(Relation rel, uint64 rowid, uint8 tag) pg_attribute_noreturn();

/* Heavyweight tuple lock, to queue fairly for a row (as heapam.c does). */
typedef struct LightningTupleQueue
{
	bool		held;
	LockTupleMode mode;
	ItemPointerData tid;
} LightningTupleQueue;

/* false only under LockWaitSkip. */
extern bool lightning_queue_for_tuple(Relation rel, uint64 rowid, LockTupleMode mode,
									  LockWaitPolicy policy, LightningTupleQueue *q);
extern void lightning_leave_queue(Relation rel, LightningTupleQueue *q);
/* Wait for a transaction to end; false only under LockWaitSkip. */
extern bool lightning_wait_for_xact(Relation rel, TransactionId xid, uint64 rowid,
									LockWaitPolicy policy, XLTW_Oper oper);

/* ---- rowlock.c ---- */

typedef struct LightningRowLockState
{
	TransactionId conflict;		/* somebody else's conflicting lock, or invalid */
	bool		others;			/* somebody else holds some lock */
	bool		mine;			/* this transaction holds some lock ... */
	LockTupleMode my_mode;		/* ... the strongest */
	TransactionId my_owner;		/* for lightning_rowlock_shown */
	TransactionId other_owner;
} LightningRowLockState;

/* All of these REQUIRE the row's latch. */
extern void lightning_rowlock_probe(Relation rel, uint64 store_id, uint64 rowid,
									LockTupleMode mode, LightningRowLockState *state);
extern void lightning_rowlock_take(uint64 store_id, uint64 rowid, LockTupleMode mode);
/*
 * Keep others away from a row while the latch is not held, until the row is
 * written.  One row at a time; ends with the (sub)transaction, too.
 */
extern void lightning_rowlock_shield(uint64 store_id, uint64 rowid, LockTupleMode mode);
extern void lightning_rowlock_unshield(void);
/*
 * Who has locked the row, to be shown as xmax of the version that an update makes
 * of it, or invalid.  If there are several, where heap shows a multixact, it is one of
 * them: others rather than this transaction, subtransactions rather than it.
 */
extern TransactionId lightning_rowlock_shown(const LightningRowLockState *state);
/*
 * Locks on a row go with it to its new rowid.  False: the latch has been
 * released and something was waited for: start over.
 */
extern bool lightning_rowlock_copy(Relation rel, uint64 store_id, uint64 from_rowid,
								   uint64 to_rowid);

/*
 * To be called before the latch is taken.  Waits for the gate, for before it is up
 * nobody can tell what prepared transactions have locked; and makes sure that there
 * is memory for a few locks, which may write and wait.
 */
extern void lightning_rowlock_get_ready(void);
/* Has this transaction not ended yet? */
extern bool lightning_xact_goes_on(LtgXid xid);

/* ---- speculative.c ---- */

/* Before the row is written, and after it is complete or withdrawn. */
extern void lightning_speculative_begin(uint64 store_id, uint64 rowid, uint32 token);
extern void lightning_speculative_end(void);

/* ---- wal.c ---- */

/* A record being put together: a head of its own and a body elsewhere. */
typedef struct LightningRecord
{
	uint8		info;			/* XLOG_LIGHTNING_* */
	uint32		head_len;
	const void *body;
	uint32		body_len;
	uint8		head[104];
} LightningRecord;

extern void lightning_record_start(LightningRecord *rec, uint8 info, uint8 flags,
								   const LtgStoreKey *key);
extern void lightning_record_byte(LightningRecord *rec, uint8 b);
extern void lightning_record_varint(LightningRecord *rec, uint64 v);
/* A new row image: as a delta against base if that pays (sets the flag). */
extern void lightning_record_image(LightningRecord *rec, const uint8 *base, uint32 base_len,
								   const uint8 *payload, uint32 len);

/*
 * Reserve, log and apply n versions as one record (rec may be NULL when lr says
 * the relation is not logged; rel is NULL for the store of locks).  True: done, *seq is set; a latch is still held.
 * False: nothing was changed, whatever was held has been released and what
 * stood in the way has been waited for: start over.  ERRORs otherwise.
 */
extern bool lightning_write(LtgSession *s, Relation rel, const LightningRel *lr,
							LtgWrite *w, uint32 n, const LightningRecord *rec,
							LtgSeq *seq);

/* ---- varints of the records: 7 bits a byte, low bits first ---- */

#define LIGHTNING_VARINT_MAX 10

static inline uint8 *
lightning_put_varint(uint8 *p, uint64 v)
{
	while (v >= 0x80)
	{
		*p++ = (uint8) (v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8) v;
	return p;
}

/* NULL when the bytes end too early or the number is too long. */
static inline const uint8 *
lightning_get_varint(const uint8 *p, const uint8 *end, uint64 *v)
{
	uint64		r = 0;
	int			shift = 0;

	while (p < end && shift < 64)
	{
		uint8		b = *p++;

		r |= (uint64) (b & 0x7F) << shift;
		if (b < 0x80)
		{
			*v = r;
			return p;
		}
		shift += 7;
	}
	return NULL;
}

#endif
