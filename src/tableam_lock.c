/*
 * tableam_lock.c
 *	  Locking one row version, the way heapam_tuple_lock and heap_lock_tuple do.
 *
 * The lock is on the row (rowlock.c), so all versions under one rowid share
 * it.  A version that an update moved to another rowid is followed there.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"

#include "modify.h"

typedef struct RowLocking
{
	Relation	rel;
	LtgSession *s;
	CommandId	cid;
	LockTupleMode mode;
	LockWaitPolicy policy;
	bool		follow_updates;
	bool		find_last;
	TM_FailureData *tmfd;
	TupleTableSlot *slot;
	LightningRel lr;
	LightningRowLook look;
	LightningRowLockState locks;
	LightningTupleQueue queue;
	uint64		chain_locked;	/* rowid of a moved version that we locked, and
								 * what follows it; 0 = none */
} RowLocking;

static bool
is_moved(const LightningVersionInfo *v)
{
	return v->kind == LTG_DELETE && v->aux != LTG_AUX_NONE &&
		v->aux != LTG_AUX_OTHER_PARTITION;
}

static void
latch_and_look(RowLocking *k)
{
	uint8		key[LIGHTNING_KEY_LEN];

	CHECK_FOR_INTERRUPTS();
	lightning_rowlock_get_ready();
	k->lr = lightning_rel(k->rel);
	lightning_rowid_key(key, k->look.rowid);
	ltg_latch(k->s, k->lr.store, key, LIGHTNING_KEY_LEN);
	lightning_look(k->s, k->rel, k->lr.store, &k->look);
}

/* Leave with this result; shows the version in the slot as heap does. */
static TM_Result
finish(RowLocking *k, TM_Result result)
{
	if (result != TM_Ok && result != TM_Invisible)
		lightning_fill_failure(&k->look, result, k->tmfd);
	ltg_unlatch(k->s);
	lightning_leave_queue(k->rel, &k->queue);
	if (k->look.have_base)
		lightning_slot_store(k->slot, k->rel, k->look.rowid, &k->look.base_version, true);
	return result;
}

/* Enter our lock, also on what we wrote ourselves: updates show it. */
static void
take_lock(RowLocking *k)
{
	if (k->locks.mine && k->locks.my_mode >= k->mode)
		return;
	lightning_rowlock_take(k->lr.store_id, k->look.rowid, k->mode);
}

/*
 * Lock the versions that an update moved to other rowids, so that the key
 * stays protected there too (heap_lock_updated_tuple).  Called and returns
 * without a latch.
 */
static TM_Result
lock_moved_chain(RowLocking *k, uint64 rowid)
{
	RowLocking	m = *k;
	TransactionId xwait;

	memset(&m.queue, 0, sizeof(m.queue));
	memset(&m.look, 0, sizeof(m.look));
	m.look.rowid = rowid;
	m.look.newest_is_base = true;
	for (;;)
	{
		latch_and_look(&m);
		if (!m.look.have_newest || !m.look.have_base)
		{
			/* the update was rolled back: end of the chain */
			ltg_unlatch(m.s);
			return TM_Ok;
		}
		xwait = InvalidTransactionId;
		if (m.look.have_next && !m.look.next.mine &&
			lightning_lockmodes_conflict(k->mode, lightning_version_lockmode(&m.look.next)))
		{
			if (m.look.next.committed)
			{
				ltg_unlatch(m.s);
				return m.look.next.aux == LTG_AUX_NONE ? TM_Deleted : TM_Updated;
			}
			xwait = (TransactionId) m.look.next.xid;
		}
		lightning_rowlock_probe(m.rel, m.lr.store_id, m.look.rowid, m.mode, &m.locks);
		if (!TransactionIdIsValid(xwait))
			xwait = m.locks.conflict;
		if (TransactionIdIsValid(xwait))
		{
			ltg_unlatch(m.s);
			lightning_wait_for_xact(m.rel, xwait, m.look.rowid, LockWaitBlock, XLTW_LockUpdated);
			continue;
		}
		take_lock(&m);
		ltg_unlatch(m.s);
		if (!m.look.have_next || !is_moved(&m.look.next))
			return TM_Ok;
		m.look.rowid = m.look.next.aux;
	}
}

/*
 * FOR KEY SHARE goes together with updates that leave the key alone, finished
 * or not: is that all that happened to the base?
 */
static bool
only_nonkey_updates(const RowLocking *k)
{
	return k->mode == LockTupleKeyShare && !k->look.key_changed;
}

/* Wait for xid; false: the row is to be skipped.  Releases the latch. */
static bool
wait_out(RowLocking *k, TransactionId xid, bool queue, XLTW_Oper oper)
{
	ltg_unlatch(k->s);
	if (queue && !k->locks.mine &&
		!lightning_queue_for_tuple(k->rel, k->look.rowid, k->mode, k->policy, &k->queue))
		return false;
	return lightning_wait_for_xact(k->rel, xid, k->look.rowid, k->policy, oper);
}

static TM_Result
would_block(RowLocking *k)
{
	lightning_fill_failure(&k->look, TM_WouldBlock, k->tmfd);
	lightning_leave_queue(k->rel, &k->queue);
	return TM_WouldBlock;
}

/* The base was updated, by a finished transaction or by ourselves: go on to
 * what it became. */
static void
step_to_next(RowLocking *k)
{
	LightningVersionInfo next = k->look.next;

	ltg_unlatch(k->s);
	lightning_leave_queue(k->rel, &k->queue);
	if (next.kind == LTG_DELETE && next.aux == LTG_AUX_OTHER_PARTITION)
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("tuple to be locked was already moved to another partition due to concurrent update"));
	k->tmfd->traversed = true;
	if (next.kind == LTG_PUT)
		k->look.tag = next.tag;
	else
	{
		k->look.rowid = next.aux;
		k->look.tag = 0;
	}
}

/* The row has moved: lock what it moved to first.  Returns what try_lock does. */
static bool
lock_where_it_went(RowLocking *k, TM_Result *result)
{
	uint64		moved_to = k->look.newest.aux;

	ltg_unlatch(k->s);
	*result = lock_moved_chain(k, moved_to);
	if (*result == TM_Ok)
	{
		k->chain_locked = moved_to;
		return false;
	}

	/* the key is gone, by a transaction that has finished */
	latch_and_look(k);
	if (!k->look.have_base)
		lightning_no_such_version(k->rel, k->look.rowid, k->look.tag);
	if (*result == TM_Updated && k->find_last && k->look.have_next)
	{
		step_to_next(k);
		return false;
	}
	*result = finish(k, *result);
	return true;
}

/*
 * One look at the row, with the latch held.  Returns true when *result is
 * final (and the latch released), false to look again.
 */
static bool
try_lock(RowLocking *k, TM_Result *result)
{
	bool		compatible;

	*result = lightning_judge_base(&k->look, k->cid);
	if (k->tmfd->traversed && k->look.have_next && k->look.next.mine &&
		(k->look.base.committed || k->look.base.mine))
	{
		/* we updated it ourselves: what counts is the last of these versions */
		if (k->look.next.kind != LTG_PUT && k->look.next.aux == LTG_AUX_NONE)
		{
			*result = finish(k, TM_Deleted);
			return true;
		}
		step_to_next(k);
		return false;
	}
	if (*result == TM_Invisible && k->tmfd->traversed && k->look.base.mine)
	{
		/* updated by a later command of this transaction */
		lightning_set_tid(&k->tmfd->ctid, k->look.rowid, k->look.base.tag);
		k->tmfd->xmax = (TransactionId) k->look.base.xid;
		k->tmfd->cmax = k->look.base.cid;
		ltg_unlatch(k->s);
		lightning_leave_queue(k->rel, &k->queue);
		*result = TM_SelfModified;
		return true;
	}
	if (*result == TM_Invisible || *result == TM_SelfModified)
	{
		*result = finish(k, *result);
		return true;
	}

	lightning_rowlock_probe(k->rel, k->lr.store_id, k->look.rowid, k->mode, &k->locks);

	/*
	 * Our own lock will do, but not for a version that others replaced: then
	 * it was taken on a later one.
	 */
	if (k->locks.mine && k->locks.my_mode >= k->mode &&
		(*result == TM_Ok || *result == TM_BeingModified))
	{
		*result = finish(k, TM_Ok);
		return true;
	}

	/* heap waits for an update of a version it came to by following others */
	if (*result == TM_BeingModified && k->tmfd->traversed)
	{
		if (wait_out(k, (TransactionId) k->look.next.xid, false, XLTW_FetchUpdated))
			return false;
		*result = would_block(k);
		return true;
	}

	/* waiting for a later change can't bring back a key that is gone */
	compatible = (*result == TM_Ok || only_nonkey_updates(k));
	if (!compatible && *result != TM_BeingModified &&
		!(k->mode == LockTupleKeyShare && !k->look.key_gone &&
		  !k->look.newest.committed && !k->look.newest.mine))
	{
		if (*result == TM_Updated && k->find_last)
		{
			step_to_next(k);
			return false;
		}
		*result = finish(k, *result);
		return true;
	}
	if (!compatible || TransactionIdIsValid(k->locks.conflict))
	{
		TransactionId xwait = k->locks.conflict;

		if (!compatible)
			xwait = (TransactionId) (k->look.next.committed ? k->look.newest.xid : k->look.next.xid);
		if (wait_out(k, xwait, true, XLTW_Lock))
			return false;
		*result = would_block(k);
		return true;
	}

	if (k->look.have_next && k->follow_updates && is_moved(&k->look.newest) &&
		k->chain_locked != k->look.newest.aux)
		return lock_where_it_went(k, result);

	take_lock(k);
	*result = finish(k, TM_Ok);
	return true;
}

TM_Result
lightning_tuple_lock(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot,
					 CommandId cid, LockTupleMode mode, LockWaitPolicy wait_policy,
					 uint8 flags, TM_FailureData *tmfd)
{
	RowLocking	k;
	TM_Result	result;

	memset(&k, 0, sizeof(k));
	k.rel = rel;
	k.s = lightning_session();
	k.cid = cid;
	k.mode = mode;
	k.policy = wait_policy;
	k.follow_updates = (flags & TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS) != 0;
	k.find_last = (flags & TUPLE_LOCK_FLAG_FIND_LAST_VERSION) != 0;
	k.tmfd = tmfd;
	k.slot = slot;
	k.look.rowid = lightning_tid_rowid(tid);
	k.look.tag = lightning_tid_tag(tid);
	tmfd->traversed = false;
	(void) lightning_my_xid();	/* not under the latch */

	do
	{
		latch_and_look(&k);
		if (!k.look.have_base)
		{
			if (k.tmfd->traversed)
			{
				/* what we were led to is gone again: deleted */
				ltg_unlatch(k.s);
				lightning_leave_queue(rel, &k.queue);
				return TM_Deleted;
			}
			lightning_no_such_version(rel, k.look.rowid, k.look.tag);
		}
		/* the TID names the version that was looked at last */
		lightning_set_tid(tid, k.look.rowid, k.look.base.tag);
	} while (!try_lock(&k, &result));
	return result;
}
