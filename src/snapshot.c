/*
 * snapshot.c
 *	  PostgreSQL's snapshots, asked about the engine's versions.
 *
 * Two ways in.  MVCC reads hand the engine a LtgSnapshot whose judge() decides
 * about single (xid, cid) pairs inside the engine's epoch, and must not throw
 * there.  Everything else reads all versions of a key and picks outside the
 * engine (lightning_pick_version).
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
ended_fate(TransactionId xid)
{
	if (TransactionIdDidCommit(xid))
		return LTG_COMMITTED;
	if (RecoveryInProgress() && !TransactionIdDidAbort(xid))
		return LTG_UNRESOLVED;
	return LTG_ABORTED;
}

/* May throw. */
static bool
see_xid(Snapshot snap, TransactionId xid, uint32 cid, bool *mine, LtgState *fate)
{
	*mine = false;
	*fate = LTG_UNRESOLVED;
	if (TransactionIdIsCurrentTransactionId(xid))
	{
		*mine = true;
		return cid < snap->curcid;
	}
	if (XidInMVCCSnapshot(xid, snap))
		return false;
	*fate = ended_fate(xid);
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
		visible = see_xid(ls->pg, (TransactionId) xid, cid, &mine, &learned);
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
	return see_xid(snap, (TransactionId) v->xid, v->cid, &mine, fate);
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

/* The next version from i on that is not aborted; n if none. */
static int
next_valid(const LtgVersion *v, int n, int i, LtgState *fate, bool *mine)
{
	for (; i < n; i++)
	{
		*fate = lightning_version_fate(&v[i], mine);
		if (*fate != LTG_ABORTED)
			break;
	}
	return i;
}

/*
 * The newest version decides if it is committed or mine.  If it belongs to
 * an open transaction of others, the one under it is what is there now, about
 * to be replaced (xmax); if there is none, it is a row about to be (xmin).
 */
static int
pick_dirty(Relation rel, const LightningVersions *kv, Snapshot snap)
{
	const LtgVersion *v = kv->v;
	int			n = kv->n;
	LtgXid		open_xid = 0;
	int			open_at = -1;
	LtgState	fate;
	bool		mine;

	snap->xmin = snap->xmax = InvalidTransactionId;
	snap->speculativeToken = 0;
	for (int i = next_valid(v, n, 0, &fate, &mine); i < n;
		 i = next_valid(v, n, i + 1, &fate, &mine))
	{
		if (fate != LTG_UNRESOLVED || mine)
		{
			if (v[i].kind != LTG_PUT)
				break;			/* gone, or never was: what is open is new */
			snap->xmax = (TransactionId) open_xid;
			return i;
		}
		open_xid = v[i].xid;
		open_at = i;
	}
	if (open_at < 0 || v[open_at].kind != LTG_PUT)
		return -1;
	snap->xmin = (TransactionId) open_xid;
	if (v[open_at].flags & LTG_VF_SPECULATIVE)
		snap->speculativeToken =
			lightning_speculative_token(lightning_rel(rel).store_id, kv->rowid);
	return open_at;
}

static int
pick_self(const LtgVersion *v, int n)
{
	LtgState	fate;
	bool		mine;

	for (int i = next_valid(v, n, 0, &fate, &mine); i < n;
		 i = next_valid(v, n, i + 1, &fate, &mine))
	{
		if (fate != LTG_UNRESOLVED || mine)
			return v[i].kind == LTG_PUT ? i : -1;
	}
	return -1;
}

/* The newest row that somebody may still see. */
static int
pick_non_vacuumable(const LtgVersion *v, int n, Snapshot snap)
{
	LtgState	fate;
	bool		mine;

	for (int i = next_valid(v, n, 0, &fate, &mine); i < n;
		 i = next_valid(v, n, i + 1, &fate, &mine))
	{
		if (v[i].kind == LTG_PUT)
			return i;
		if (v[i].kind == LTG_GONE || fate == LTG_SETTLED)
			return -1;
		if (fate == LTG_COMMITTED &&
			GlobalVisTestIsRemovableXid(snap->vistest, (TransactionId) v[i].xid))
			return -1;
	}
	return -1;
}

static int
pick_mvcc(const LtgVersion *v, int n, Snapshot snap)
{
	LtgState	fate;

	for (int i = 0; i < n; i++)
	{
		if (mvcc_sees(&v[i], snap, &fate))
			return v[i].kind == LTG_PUT ? i : -1;
	}
	return -1;
}

/* Whatever is newest, aborted only when there is nothing else. */
static int
pick_any(const LtgVersion *v, int n)
{
	int			aborted = -1;
	bool		mine;

	for (int i = 0; i < n; i++)
	{
		if (v[i].kind != LTG_PUT)
			continue;
		if (lightning_version_fate(&v[i], &mine) != LTG_ABORTED)
			return i;
		if (aborted < 0)
			aborted = i;
	}
	return aborted;
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
	LtgState	fate;
	bool		mine;
	int			i = next_valid(v, n, 0, &fate, &mine);

	if (i == n || v[i].kind == LTG_GONE)
		return true;
	if (v[i].kind == LTG_PUT)
		return false;
	if (fate == LTG_SETTLED)
		return true;
	return fate == LTG_COMMITTED &&
		GlobalVisCheckRemovableXid(rel, (TransactionId) v[i].xid);
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
	PredicateLockTID(rel, &tid, snap, (TransactionId) v->xid);
	lightning_versions_get_for(rel, rowid, snap, &kv);
	lightning_check_conflict_out(rel, snap, &kv);
}

void
lightning_classify_row(const LightningVersions *kv, LtgXid oldest, LightningRowState *st)
{
	const LtgVersion *v = kv->v;
	LtgState	top_fate;
	LtgState	fate;
	bool		mine;

	memset(st, 0, sizeof(*st));
	st->newest = st->base = st->top = -1;
	st->status = LIGHTNING_ROW_NEVER;

	st->top = next_valid(v, kv->n, 0, &top_fate, &st->mine);
	if (st->top == kv->n)
	{
		st->top = -1;
		return;
	}
	fate = top_fate;
	for (int i = st->top; i < kv->n; i = next_valid(v, kv->n, i + 1, &fate, &mine))
	{
		if (v[i].kind != LTG_PUT)
		{
			if (i > st->top)
				break;			/* under an older tombstone: another life */
			continue;
		}
		if (st->newest >= 0)
		{
			st->base = i;
			break;
		}
		st->newest = i;
		st->base_needed = fate != LTG_SETTLED &&
			!(fate == LTG_COMMITTED && v[i].xid < oldest);
	}
	st->base_needed = st->base_needed && st->base >= 0;

	if (v[st->top].kind == LTG_GONE || (v[st->top].kind != LTG_PUT && st->newest < 0))
	{
		/* a tombstone that hides nothing; open ones count as dead later */
		if (v[st->top].kind == LTG_GONE || top_fate != LTG_UNRESOLVED)
			st->status = LIGHTNING_ROW_DEAD;
		else
		{
			st->status = LIGHTNING_ROW_DELETE_IN_PROGRESS;
			st->xid = (TransactionId) v[st->top].xid;
		}
		if (top_fate == LTG_COMMITTED && v[st->top].kind != LTG_GONE && v[st->top].xid >= oldest)
			st->status = LIGHTNING_ROW_RECENTLY_DEAD;
		return;
	}
	if (top_fate == LTG_UNRESOLVED)
	{
		st->xid = (TransactionId) v[st->top].xid;
		if (v[st->top].kind == LTG_DELETE)
			st->status = LIGHTNING_ROW_DELETE_IN_PROGRESS;
		else if (st->base >= 0)
			st->status = LIGHTNING_ROW_UPDATE_IN_PROGRESS;
		else
			st->status = LIGHTNING_ROW_INSERT_IN_PROGRESS;
	}
	else if (v[st->top].kind == LTG_PUT)
		st->status = LIGHTNING_ROW_LIVE;
	else if (top_fate == LTG_SETTLED || v[st->top].xid < oldest)
		st->status = LIGHTNING_ROW_DEAD;
	else
		st->status = LIGHTNING_ROW_RECENTLY_DEAD;
}
