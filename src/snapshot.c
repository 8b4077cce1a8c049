/*
 * snapshot.c
 *	  PostgreSQL's snapshots, asked about the engine's versions.
 *
 * Two ways in.  MVCC reads hand the engine a LtgSnapshot whose judge() decides
 * about single (xid, cid) pairs inside the engine's epoch, and must not throw
 * there.  Everything else reads all versions of a key and picks outside the
 * engine (lightning_pick_version).
 *
 * Whoever goes through the versions of a key does so by lightning_walk_next, or,
 * where another question than the writers' fate decides, asks ltg_version_says:
 * aborted versions are left out, and a row that was withdrawn never was.  So what
 * is left to interpret are puts and deletes.
 */
#include "postgres.h"

#include "access/subtrans.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/predicate.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "lightning.h"
#include "versions.h"
#include "wal.h"

/*
 * The fate of a transaction that the snapshot does not regard as running.  It
 * has ended, unless we are in recovery, where the end may not have been
 * replayed for all we know: only an explicit abort is one there.
 */
static LtgState
ended_fate(LtgXid xid)
{
	if (lightning_did_commit(xid))
		return LTG_COMMITTED;
	if (RecoveryInProgress() && !lightning_did_abort(xid))
		return LTG_UNRESOLVED;
	return LTG_ABORTED;
}

/* May throw. */
static bool
see_xid(Snapshot snap, LtgXid wide, uint32 cid, bool *mine, LtgState *fate)
{
	TransactionId xid = (TransactionId) wide;

	*mine = false;
	*fate = LTG_UNRESOLVED;
	if (TransactionIdIsCurrentTransactionId(xid))
	{
		*mine = true;
		return cid < snap->curcid;
	}
	if (XidInMVCCSnapshot(xid, snap))
		return false;
	*fate = ended_fate(wide);
	return *fate == LTG_COMMITTED;
}

static void
remember(LightningSnapshot *ls, LtgXid xid, bool visible, LtgState fate)
{
	uint32		slot = (uint32) (xid % LIGHTNING_KNOWN_XIDS);

	ls->known[slot].xid = xid;
	ls->known[slot].visible = visible;
	ls->known[slot].fate = fate;
}

static bool
judge_mvcc(LtgSnapshot *snap, LtgXid xid, uint32_t cid, LtgState *fate)
{
	LightningSnapshot *ls = (LightningSnapshot *) snap;
	uint32		slot = (uint32) (xid % LIGHTNING_KNOWN_XIDS);
	volatile bool visible = false;
	volatile bool failed = false;
	bool		mine = false;
	LtgState	learned = LTG_UNRESOLVED;
	uint32		holdoff = InterruptHoldoffCount;
	MemoryContext oldcontext;

	if (ls->known[slot].xid == xid)
	{
		if (ls->known[slot].fate != LTG_UNRESOLVED)
			*fate = ls->known[slot].fate;
		return ls->known[slot].visible;
	}

	oldcontext = CurrentMemoryContext;
	PG_TRY();
	{
		visible = see_xid(ls->pg, xid, cid, &mine, &learned);
	}
	PG_CATCH();
	{
		ls->error = lightning_catch(ls->context, oldcontext, holdoff);
		failed = true;
	}
	PG_END_TRY();

	if (failed)
	{
		snap->failed = true;
		return false;
	}
	/* what I see of my own transaction depends on the command as well */
	if (!mine)
		remember(ls, xid, visible, learned);
	if (learned != LTG_UNRESOLVED)
		*fate = learned;
	return visible;
}

void
lightning_snapshot_init(LightningSnapshot *ls, Snapshot snap)
{
	Assert(IsMVCCSnapshot(snap));
	if (snap->snapshot_type == SNAPSHOT_HISTORIC_MVCC)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot read a lightning table with a logical decoding snapshot")));
	lightning_note_snapshot(snap);
	memset(ls, 0, sizeof(*ls));
	ls->pg = snap;
	ls->context = CurrentMemoryContext;
	ls->ltg.xmin = lightning_widen_xid(snap->xmin);
	ls->ltg.xmax = lightning_widen_xid(snap->xmax);
	/* what is written after the snapshot by an id of my own, it does not see either */
	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ls->ltg.unseen = ls->ltg.xmax;
	ls->ltg.judge = judge_mvcc;
	ls->ltg.arg = ls;
}

void
lightning_snapshot_rethrow(LightningSnapshot *ls)
{
	if (ls->ltg.failed && ls->error != NULL)
	{
		ErrorData  *error = ls->error;

		ls->error = NULL;
		ls->ltg.failed = false;
		lightning_rethrow(error);
	}
}

/* ---- versions read raw; everything below may throw ---- */

/* A version's fate now; *mine: written by my own open transaction. */
LtgState
lightning_version_fate(const LtgVersion *v, bool *mine)
{
	*mine = false;
	if (v->state != LTG_UNRESOLVED)
		return v->state;
	if (TransactionIdIsCurrentTransactionId((TransactionId) v->xid))
	{
		*mine = true;
		return LTG_UNRESOLVED;
	}
	switch (lightning_xid_status(v->xid))
	{
		case LTG_XID_COMMITTED:
			return LTG_COMMITTED;
		case LTG_XID_ABORTED:
			return LTG_ABORTED;
		case LTG_XID_IN_PROGRESS:
			break;
	}
	return LTG_UNRESOLVED;
}

static bool
mvcc_sees(const LtgVersion *v, Snapshot snap, LtgState *fate)
{
	bool		mine;

	if (v->state == LTG_SETTLED)
		return true;
	if (v->state == LTG_ABORTED)
		return false;
	if (v->state == LTG_COMMITTED)
	{
		*fate = LTG_COMMITTED;
		return !XidInMVCCSnapshot((TransactionId) v->xid, snap);
	}
	return see_xid(snap, v->xid, v->cid, &mine, fate);
}

bool
lightning_version_visible(const LtgVersion *v, Snapshot snap, LtgState *fate)
{
	bool		mine;

	*fate = v->state;
	switch (snap->snapshot_type)
	{
		case SNAPSHOT_MVCC:
			return mvcc_sees(v, snap, fate);

		case SNAPSHOT_ANY:
			return true;

		case SNAPSHOT_SELF:
		case SNAPSHOT_NON_VACUUMABLE:
			*fate = lightning_version_fate(v, &mine);
			return mine || *fate == LTG_COMMITTED || *fate == LTG_SETTLED;

		case SNAPSHOT_DIRTY:
			snap->xmin = snap->xmax = InvalidTransactionId;
			snap->speculativeToken = 0;
			*fate = lightning_version_fate(v, &mine);
			if (*fate == LTG_UNRESOLVED && !mine)
				snap->xmin = (TransactionId) v->xid;
			return *fate != LTG_ABORTED;

		case SNAPSHOT_TOAST:
		case SNAPSHOT_HISTORIC_MVCC:
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot read a lightning table with a snapshot of type %d",
					(int) snap->snapshot_type)));
	return false;				/* keep compiler quiet */
}

void
lightning_walk_start(LightningWalk *w, const LtgVersion *v, int n)
{
	w->v = v;
	w->n = n;
	w->at = -1;
}

bool
lightning_walk_next(LightningWalk *w)
{
	while (++w->at < w->n)
	{
		const LtgVersion *v = &w->v[w->at];

		if (ltg_version_says(v->kind, false) == LTG_SAYS_NEVER)
			break;
		w->fate = lightning_version_fate(v, &w->mine);
		if (ltg_version_says(v->kind, w->fate == LTG_ABORTED) == LTG_SAYS_CHANGE)
			return true;
	}
	w->at = w->n;
	return false;
}

/*
 * The newest version decides if it is committed or mine.  If it belongs to
 * an open transaction of others, the one under it is what is there now, about
 * to be replaced (xmax); if there is none, it is a row about to be (xmin).
 *
 * Whoever gets a transaction here waits for it, or for the token, and asks again
 * with nothing to interrupt him but that wait (nbtree).  So each answer has to be
 * such that there is something to wait for.
 */
static int
pick_dirty(Relation rel, const LightningVersions *kv, Snapshot snap)
{
	LightningWalk w;
	LtgXid		open_xid = 0;
	int			open_at = -1;

	snap->xmin = snap->xmax = InvalidTransactionId;
	snap->speculativeToken = 0;
	lightning_walk_start(&w, kv->v, kv->n);
	while (lightning_walk_next(&w))
	{
		if (w.fate != LTG_UNRESOLVED || w.mine)
		{
			if (kv->v[w.at].kind != LTG_PUT)
				break;			/* gone: what is open is new */
			snap->xmax = (TransactionId) open_xid;
			return w.at;
		}
		open_xid = kv->v[w.at].xid;
		open_at = w.at;
	}
	if (open_at < 0 || kv->v[open_at].kind != LTG_PUT)
		return -1;
	if (!lightning_speculative_look(rel, kv->rowid, &snap->speculativeToken))
		return -1;
	snap->xmin = (TransactionId) open_xid;
	return open_at;
}

static int
pick_self(const LtgVersion *v, int n)
{
	LightningWalk w;

	lightning_walk_start(&w, v, n);
	while (lightning_walk_next(&w))
	{
		if (w.fate != LTG_UNRESOLVED || w.mine)
			return v[w.at].kind == LTG_PUT ? w.at : -1;
	}
	return -1;
}

/* The newest row that somebody may still see. */
static int
pick_non_vacuumable(const LtgVersion *v, int n, Snapshot snap)
{
	LightningWalk w;

	lightning_walk_start(&w, v, n);
	while (lightning_walk_next(&w))
	{
		if (v[w.at].kind == LTG_PUT)
			return w.at;
		if (w.fate == LTG_SETTLED)
			return -1;
		if (w.fate == LTG_COMMITTED &&
			GlobalVisTestIsRemovableXid(snap->vistest, (TransactionId) v[w.at].xid))
			return -1;
	}
	return -1;
}

/* Asks the snapshot, which knows more than the fate of a writer. */
static int
pick_mvcc(const LtgVersion *v, int n, Snapshot snap)
{
	LtgState	fate;

	for (int i = 0; i < n; i++)
	{
		if (ltg_version_says(v[i].kind, false) == LTG_SAYS_NEVER)
			return -1;
		if (mvcc_sees(&v[i], snap, &fate))
			return v[i].kind == LTG_PUT ? i : -1;
	}
	return -1;
}

/* Whatever is newest, aborted only when there is nothing else. */
static int
pick_any(const LtgVersion *v, int n)
{
	LightningWalk w;

	lightning_walk_start(&w, v, n);
	while (lightning_walk_next(&w))
	{
		if (v[w.at].kind == LTG_PUT)
			return w.at;
	}
	for (int i = 0; i < n && ltg_version_says(v[i].kind, false) != LTG_SAYS_NEVER; i++)
	{
		if (v[i].kind == LTG_PUT)
			return i;
	}
	return -1;
}

int
lightning_pick_version(Relation rel, const LightningVersions *kv, Snapshot snap)
{
	const LtgVersion *v = kv->v;
	int			n = kv->n;

	switch (snap->snapshot_type)
	{
		case SNAPSHOT_MVCC:
			return pick_mvcc(v, n, snap);
		case SNAPSHOT_SELF:
			return pick_self(v, n);
		case SNAPSHOT_DIRTY:
			return pick_dirty(rel, kv, snap);
		case SNAPSHOT_NON_VACUUMABLE:
			return pick_non_vacuumable(v, n, snap);
		case SNAPSHOT_ANY:
			return pick_any(v, n);
		case SNAPSHOT_TOAST:
		case SNAPSHOT_HISTORIC_MVCC:
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot read a lightning table with a snapshot of type %d",
					(int) snap->snapshot_type)));
	return -1;					/* keep compiler quiet */
}

/*
 * No snapshot there is or will be can see a row here: then an index entry that
 * leads here is useless.  No versions at all: the row was never committed, or
 * its tombstone is gone (row ids are never used again).  Takes no heavy locks.
 */
bool
lightning_versions_dead(Relation rel, const LtgVersion *v, int n)
{
	LightningWalk w;

	lightning_walk_start(&w, v, n);
	if (!lightning_walk_next(&w))
		return true;
	if (v[w.at].kind == LTG_PUT)
		return false;
	if (w.fate == LTG_SETTLED)
		return true;
	return w.fate == LTG_COMMITTED &&
		GlobalVisCheckRemovableXid(rel, (TransactionId) v[w.at].xid);
}

void
lightning_check_conflict_out(Relation rel, Snapshot snap, const LightningVersions *kv)
{
	for (int i = 0; i < kv->n; i++)
	{
		const LtgVersion *v = &kv->v[i];
		TransactionId xid;
		LtgState	fate;
		bool		mine;

		if (ltg_version_says(v->kind, false) == LTG_SAYS_NEVER)
			return;
		if (v->state == LTG_SETTLED || mvcc_sees(v, snap, &fate))
			return;
		fate = lightning_version_fate(v, &mine);
		if (fate == LTG_ABORTED || mine)
			continue;
		xid = SubTransGetTopmostTransaction((TransactionId) v->xid);
		if (TransactionIdPrecedes(xid, TransactionXmin))
			continue;
		CheckForSerializableConflictOut(rel, xid, snap);
	}
}

/*
 * The lock is on the version (the TID keeps its tag): who replaces a later one
 * is in conflict with that one's readers, not with us.  A writer applies its
 * version first and looks for locks then, so after locking we look again for
 * what came meanwhile: one of the two finds the other.
 */
void
lightning_note_read(Relation rel, Snapshot snap, uint64 rowid, const LtgVersion *v)
{
	static LightningVersions kv;
	ItemPointerData tid;

	if (kv.v == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		lightning_versions_init(&kv);
		MemoryContextSwitchTo(old);
	}
	lightning_set_tid(&tid, rowid, v->tag);
	/* whether the row is our own: a settled one's id may be in use again */
	PredicateLockTID(rel, &tid, snap,
					 v->state == LTG_SETTLED ? InvalidTransactionId : (TransactionId) v->xid);
	lightning_versions_get_for(rel, rowid, snap, &kv);
	lightning_check_conflict_out(rel, snap, &kv);
}

/* A row whose newest version is a tombstone. */
static LightningRowStatus
deleted_status(LtgState fate, LtgXid xid, LtgXid oldest)
{
	if (fate == LTG_UNRESOLVED)
		return LIGHTNING_ROW_DELETE_IN_PROGRESS;
	if (fate == LTG_SETTLED || xid < oldest)
		return LIGHTNING_ROW_DEAD;
	return LIGHTNING_ROW_RECENTLY_DEAD;
}

void
lightning_classify_row(const LightningVersions *kv, LtgXid oldest, LightningRowState *st)
{
	const LtgVersion *v = kv->v;
	LightningWalk w;
	LtgState	top_fate;

	memset(st, 0, sizeof(*st));
	st->newest = st->base = st->top = -1;
	st->status = LIGHTNING_ROW_NEVER;

	lightning_walk_start(&w, v, kv->n);
	if (!lightning_walk_next(&w))
		return;
	st->top = w.at;
	st->mine = w.mine;
	top_fate = w.fate;
	do
	{
		if (v[w.at].kind != LTG_PUT)
		{
			if (w.at > st->top)
				break;			/* under an older tombstone: another life */
			continue;
		}
		if (st->newest >= 0)
		{
			st->base = w.at;
			break;
		}
		st->newest = w.at;
		st->base_needed = w.fate != LTG_SETTLED &&
			!(w.fate == LTG_COMMITTED && v[w.at].xid < oldest);
	} while (lightning_walk_next(&w));
	st->base_needed = st->base_needed && st->base >= 0;

	if (top_fate == LTG_UNRESOLVED)
		st->xid = (TransactionId) v[st->top].xid;
	if (v[st->top].kind != LTG_PUT)
		st->status = deleted_status(top_fate, v[st->top].xid, oldest);
	else if (top_fate != LTG_UNRESOLVED)
		st->status = LIGHTNING_ROW_LIVE;
	else if (st->base >= 0)
		st->status = LIGHTNING_ROW_UPDATE_IN_PROGRESS;
	else
		st->status = LIGHTNING_ROW_INSERT_IN_PROGRESS;
}
