/*
 * rowlook.c
 *	  Looking at a row's versions before changing or locking it, and waiting for
 *	  those who are in the way.
 *
 * A row is a chain of versions under one rowid, newest first.  What a TID of
 * the executor names is one of them, told by its tag: the base.  The next
 * newer version whose writer did not abort plays the part that xmax plays in a
 * heap tuple.  Row locks are elsewhere (rowlock.c): they belong to the row, not
 * to a version.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#include "modify.h"

/* Base versions' payloads; one look at a time. */
static uint8 *look_buf = NULL;
static uint32 look_cap = 0;

/* Tags are a ring of two halves, see lightning_next_tag. */
#define TAG_HALF(tag) ((tag) < 63 ? 0 : 1)

static bool
copy_base(LightningRowLook *look, const LtgVersion *v)
{
	if (v->payload_len > look_cap || look_buf == NULL)
	{
		uint32		cap = Max(8192, pg_nextpower2_32(Max(v->payload_len, 1)));
		uint8	   *buf = MemoryContextAllocExtended(TopMemoryContext, cap,
													 MCXT_ALLOC_NO_OOM);

		if (buf == NULL)
		{
			look->no_memory = true;
			return false;
		}
		if (look_buf != NULL)
			pfree(look_buf);
		look_buf = buf;
		look_cap = cap;
	}
	if (v->payload_len > 0)
		memcpy(look_buf, v->payload, v->payload_len);
	look->base_version = *v;
	look->base_version.payload = look_buf;
	return true;
}

/* Fate of another transaction; errors are kept (we are inside the engine). */
static bool
ask_status(LightningRowLook *look, LtgXid xid, LtgXidStatus *status)
{
	MemoryContext cxt = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;
	volatile bool ok = true;

	PG_TRY();
	{
		*status = lightning_xid_status(xid);
	}
	PG_CATCH();
	{
		look->error = lightning_catch(cxt, cxt, holdoff);
		ok = false;
	}
	PG_END_TRY();
	return ok;
}

/*
 * Who wrote this version, and what became of it.  False: an error is kept.
 * *aborted: nobody sees it.
 */
static bool
resolve(LightningRowLook *look, const LtgVersion *v, LtgState *fate,
		LightningVersionInfo *info, bool *aborted)
{
	LtgXidStatus status;

	*aborted = false;
	info->xid = v->xid;
	info->seq = v->seq;
	info->aux = v->aux;
	info->cid = v->cid;
	info->kind = v->kind;
	info->tag = v->tag;
	info->flags = v->flags;
	info->settled = (v->state == LTG_SETTLED);
	info->committed = (v->state == LTG_SETTLED || v->state == LTG_COMMITTED);
	info->mine = false;
	if (info->settled)
		info->xid = 0;
	if (info->committed)
		return true;
	if (v->state == LTG_ABORTED)
	{
		*aborted = true;
		return true;
	}
	if (TransactionIdIsCurrentTransactionId((TransactionId) v->xid))
	{
		info->mine = true;
		return true;
	}
	if (!ask_status(look, v->xid, &status))
		return false;
	if (status == LTG_XID_COMMITTED)
	{
		info->committed = true;
		*fate = LTG_COMMITTED;
	}
	else if (status == LTG_XID_ABORTED)
	{
		*aborted = true;
		*fate = LTG_ABORTED;
	}
	return true;
}

LockTupleMode
lightning_version_lockmode(const LightningVersionInfo *v)
{
	if (v->flags & LIGHTNING_VF_KEY_CHANGED)
		return LockTupleExclusive;
	if (v->kind == LTG_PUT)
		return LockTupleNoKeyExclusive;
	if (v->kind == LTG_DELETE && v->aux != LTG_AUX_NONE &&
		v->aux != LTG_AUX_OTHER_PARTITION)
		return LockTupleNoKeyExclusive;
	return LockTupleExclusive;
}

static bool
look_fn(void *arg, const LtgVersion *v, LtgState *fate)
{
	LightningRowLook *look = arg;
	LightningVersionInfo info;
	bool		aborted;

	if (!look->exists)
	{
		look->exists = true;
		look->newest_tag = v->tag;
	}
	if (ltg_version_says(v->kind, false) == LTG_SAYS_NEVER)
		return false;
	if (!resolve(look, v, fate, &info, &aborted))
		return false;
	if (aborted)
		return true;
	if (!look->have_newest)
	{
		look->have_newest = true;
		look->newest = info;
	}
	if (info.kind == LTG_PUT && (look->newest_is_base || info.tag == look->tag))
	{
		look->have_base = true;
		look->base = info;
		copy_base(look, v);
		return false;
	}
	look->have_next = true;
	look->next = info;
	if (lightning_version_lockmode(&info) == LockTupleExclusive)
	{
		look->key_changed = true;
		look->key_gone |= info.committed;
	}
	return true;
}

void
lightning_look(LtgSession *s, Relation rel, LtgStore *store, LightningRowLook *look)
{
	LtgStatus	st;

	look->exists = false;
	look->newest_tag = 0;
	look->have_newest = look->have_base = look->have_next = false;
	look->key_changed = look->key_gone = false;
	look->no_memory = false;
	look->error = NULL;
	lightning_rowid_key(look->key, look->rowid);

	st = ltg_versions(s, store, look->key, LIGHTNING_KEY_LEN, look_fn, look);
	lightning_blocks_done(s, rel);
	if (look->error != NULL)
		lightning_rethrow(look->error);
	if (look->no_memory)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory"));
	lightning_report(s, st, rel);
}

/*
 * Tags.  Each half of the ring 0..62, 63..126 is entered only when no version
 * tagged with it in the round before may still be asked for.  It may not when,
 * going back from the newest version, one that every snapshot sees (or sees a
 * newer one) comes before any version of that half.  Aborted versions don't
 * count: ARCHITECTURE.md, section 2, says why nobody asks for them.
 */
static bool
half_fn(void *arg, const LtgVersion *v, LtgState *fate)
{
	LightningRowLook *look = arg;
	LightningVersionInfo info;
	bool		aborted;

	if (ltg_version_says(v->kind, false) == LTG_SAYS_NEVER)
		return false;
	if (!resolve(look, v, fate, &info, &aborted))
		return false;
	if (aborted)
		return true;
	if (TAG_HALF(info.tag) == look->half)
	{
		look->half_in_use = true;
		return false;
	}
	return !(info.settled || (info.committed && info.xid < look->horizon));
}

bool
lightning_next_tag(LtgSession *s, Relation rel, LtgStore *store,
				   LightningRowLook *look, uint8 *tag)
{
	LtgStatus	st;

	*tag = look->newest_tag == LIGHTNING_TAG_MAX ? 0 : look->newest_tag + 1;
	if (*tag != 0 && *tag != 63)
		return true;

	look->half = TAG_HALF(*tag);
	look->half_in_use = false;
	look->horizon = lightning_horizon();
	look->error = NULL;
	st = ltg_versions(s, store, look->key, LIGHTNING_KEY_LEN, half_fn, look);
	lightning_blocks_done(s, rel);
	if (look->error != NULL)
		lightning_rethrow(look->error);
	lightning_report(s, st, rel);
	return !look->half_in_use;
}

/*
 * Verdicts
 */
TM_Result
lightning_judge_base(const LightningRowLook *look, CommandId curcid)
{
	const LightningVersionInfo *b = &look->base;
	const LightningVersionInfo *n = &look->next;

	Assert(look->have_base);
	if (!b->committed && !b->mine)
		return TM_Invisible;
	if (b->mine && b->cid >= curcid)
		return TM_Invisible;	/* inserted after the scan started */
	if (!look->have_next)
		return TM_Ok;
	if (n->mine)
		return n->cid >= curcid ? TM_SelfModified : TM_Invisible;
	if (!n->committed)
		return TM_BeingModified;
	if (n->kind == LTG_PUT || n->aux != LTG_AUX_NONE)
		return TM_Updated;
	return TM_Deleted;
}

void
lightning_fill_failure(const LightningRowLook *look, TM_Result result,
					   TM_FailureData *tmfd)
{
	const LightningVersionInfo *n = &look->next;

	tmfd->cmax = InvalidCommandId;
	if (!look->have_next)
	{
		/* only locked, or refused by the crosscheck snapshot */
		lightning_set_tid(&tmfd->ctid, look->rowid, look->base.tag);
		tmfd->xmax = InvalidTransactionId;
		return;
	}
	tmfd->xmax = (TransactionId) n->xid;
	if (n->kind == LTG_PUT)
		lightning_set_tid(&tmfd->ctid, look->rowid, n->tag);
	else if (n->kind == LTG_DELETE && n->aux == LTG_AUX_OTHER_PARTITION)
		ItemPointerSetMovedPartitions(&tmfd->ctid);
	else if (n->kind == LTG_DELETE && n->aux != LTG_AUX_NONE)
		lightning_set_tid(&tmfd->ctid, n->aux, 0);
	else
		lightning_set_tid(&tmfd->ctid, look->rowid, look->base.tag);
	if (result == TM_SelfModified)
		tmfd->cmax = n->cid;
}

void
lightning_no_such_version(Relation rel, uint64 rowid, uint8 tag)
{
	ereport(ERROR,
			errcode(ERRCODE_DATA_CORRUPTED),
			errmsg("could not find version %u of row (%u,%u) in table \"%s\"",
				   tag, (uint32) (rowid >> 8), (uint32) (rowid & 255) + 1,
				   RelationGetRelationName(rel)),
			errhint("This can happen to a row address that was kept from an earlier transaction."));
}

/*
 * Waiting
 */
static const LOCKMODE queue_lockmode[] = {
	AccessShareLock,			/* LockTupleKeyShare */
	RowShareLock,				/* LockTupleShare */
	ExclusiveLock,				/* LockTupleNoKeyExclusive */
	AccessExclusiveLock			/* LockTupleExclusive */
};

bool
lightning_lockmodes_conflict(LockTupleMode a, LockTupleMode b)
{
	switch (a)
	{
		case LockTupleKeyShare:
			return b == LockTupleExclusive;
		case LockTupleShare:
			return b >= LockTupleNoKeyExclusive;
		case LockTupleNoKeyExclusive:
			return b >= LockTupleShare;
		case LockTupleExclusive:
			return true;
	}
	return true;
}

static void
row_not_available(Relation rel)
{
	ereport(ERROR,
			errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			errmsg("could not obtain lock on row in relation \"%s\"",
				   RelationGetRelationName(rel)));
}

bool
lightning_queue_for_tuple(Relation rel, uint64 rowid, LockTupleMode mode,
						  LockWaitPolicy policy, LightningTupleQueue *q)
{
	if (q->held)
		return true;
	lightning_set_tid(&q->tid, rowid, 0);
	q->mode = mode;
	if (policy == LockWaitBlock)
		LockTuple(rel, &q->tid, queue_lockmode[mode]);
	else if (!ConditionalLockTuple(rel, &q->tid, queue_lockmode[mode]))
	{
		if (policy == LockWaitError)
			row_not_available(rel);
		return false;
	}
	q->held = true;
	return true;
}

void
lightning_leave_queue(Relation rel, LightningTupleQueue *q)
{
	if (q->held)
		UnlockTuple(rel, &q->tid, queue_lockmode[q->mode]);
	q->held = false;
}

bool
lightning_wait_for_xact(Relation rel, TransactionId xid, uint64 rowid,
						LockWaitPolicy policy, XLTW_Oper oper)
{
	ItemPointerData tid;

	lightning_set_tid(&tid, rowid, 0);
	if (policy == LockWaitBlock)
		XactLockTableWait(xid, rel, &tid, oper);
	else if (!ConditionalXactLockTableWait(xid))
	{
		if (policy == LockWaitError)
			row_not_available(rel);
		return false;
	}
	return true;
}
