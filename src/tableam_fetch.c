/*
 * tableam_fetch.c
 *	  Reading single rows: by index entry, by TID; and telling index access
 *	  methods which of their entries are dead.
 *
 * A TID the executor holds names one version of a row: its tag must be that of
 * the version found (SnapshotAny), or of the one that is visible (others).
 * Index entries name a row and always have tag 0.
 *
 * index_fetch_tuple and index_delete_tuples are called with an index page
 * locked: they look at no catalog and at no index, and wait for nobody.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/predicate.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "ahead.h"
#include "lightning.h"
#include "modify.h"
#include "scan.h"
#include "versions.h"

/* Rows longer than this do not keep their buffer. */
#define ROW_BUFFER_KEEP (64 * 1024)

typedef struct LightningFetchData
{
	IndexFetchTableData base;	/* first */
	bool		fast;			/* MVCC, and not serializable */
	bool		serializable;
	LightningSnapshot snap;
	LightningVersions kv;

	LightningAhead ahead;
} LightningFetchData;

/*
 * The engine's copy of the row read last.  Every caller copies it into a slot
 * at once, so one per process does.
 */
static LtgRow row_buffer;

/* For reads outside of index scans; emptied by every use. */
static LightningVersions *
scratch_versions(void)
{
	static LightningVersions kv;

	if (kv.v == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		lightning_versions_init(&kv);
		MemoryContextSwitchTo(old);
	}
	return &kv;
}

bool
lightning_get_row(Relation rel, uint64 rowid, LightningSnapshot *snap, TupleTableSlot *slot)
{
	LtgSession *s = lightning_session();
	uint8		key[LIGHTNING_KEY_LEN];
	LtgStatus	st;

	lightning_rowid_key(key, rowid);
	st = ltg_get(s, lightning_rel(rel).store, key, LIGHTNING_KEY_LEN, &snap->ltg, &row_buffer);
	lightning_blocks_done(s, rel);
	if (st == LTG_NOT_FOUND)
		return false;
	if (unlikely(st != LTG_OK))
	{
		if (snap->ltg.failed)
		{
			ltg_clear_error(s);
			lightning_snapshot_rethrow(snap);
		}
		lightning_report(s, st, rel);
	}
	lightning_slot_store(slot, rel, rowid, &row_buffer.v, true);
	if (unlikely(row_buffer.cap > ROW_BUFFER_KEEP))
		ltg_row_free(s, &row_buffer);
	return true;
}

/* ---- index scans ---- */

struct IndexFetchTableData *
lightning_index_fetch_begin(Relation rel)
{
	LightningFetchData *fetch = palloc0(sizeof(LightningFetchData));

	fetch->base.rel = rel;
	fetch->ahead.context = CurrentMemoryContext;
	return &fetch->base;
}

void
lightning_index_fetch_reset(struct IndexFetchTableData *data)
{
	/* nothing of the engine is held between fetches (ahead.c) */
}

void
lightning_index_fetch_end(struct IndexFetchTableData *data)
{
	LightningFetchData *fetch = (LightningFetchData *) data;

	lightning_ahead_end(&fetch->ahead);
	if (fetch->kv.v != NULL)
		lightning_versions_free(&fetch->kv);
	pfree(fetch);
}

static void
choose_mode(LightningFetchData *fetch, Snapshot snapshot)
{
	fetch->serializable = IsMVCCSnapshot(snapshot) &&
		CheckForSerializableConflictOutNeeded(fetch->base.rel, snapshot);
	fetch->fast = IsMVCCSnapshot(snapshot) && !fetch->serializable;
	if (fetch->fast)
		lightning_snapshot_init(&fetch->snap, snapshot);
	else if (snapshot->snapshot_type == SNAPSHOT_DIRTY || snapshot->snapshot_type == SNAPSHOT_SELF)
		lightning_note_dirty_read();
	fetch->snap.pg = snapshot;
	lightning_ahead_forget(&fetch->ahead);
}

/* Most scans never look at more than the version they see. */
static LightningVersions *
fetch_versions(LightningFetchData *fetch)
{
	if (unlikely(fetch->kv.v == NULL))
	{
		MemoryContext old = MemoryContextSwitchTo(fetch->ahead.context);

		lightning_versions_init(&fetch->kv);
		MemoryContextSwitchTo(old);
	}
	return &fetch->kv;
}

/* lightning_get_row, out of what was read ahead if that pays. */
static bool
get_row(LightningFetchData *fetch, uint64 rowid, TupleTableSlot *slot)
{
	Relation	rel = fetch->base.rel;
	LtgVersion	v;

	switch (lightning_ahead_get(&fetch->ahead, rel, &fetch->snap, rowid, &v))
	{
		case LIGHTNING_AHEAD_ROW:
			lightning_slot_store(slot, rel, rowid, &v, true);
			return true;
		case LIGHTNING_AHEAD_NO_ROW:
			return false;
		case LIGHTNING_AHEAD_NO_ANSWER:
			break;
	}
	return lightning_get_row(rel, rowid, &fetch->snap, slot);
}

static bool
fetch_by_entry(struct IndexFetchTableData *data, ItemPointer tid, Snapshot snapshot,
			   TupleTableSlot *slot, bool *all_dead)
{
	LightningFetchData *fetch = (LightningFetchData *) data;
	Relation	rel = data->rel;
	uint64		rowid = lightning_tid_rowid(tid);
	LightningVersions *kv;
	int			i;

	if (all_dead != NULL)
		*all_dead = false;
	if (unlikely(fetch->snap.pg != snapshot))
		choose_mode(fetch, snapshot);

	if (fetch->fast && get_row(fetch, rowid, slot))
	{
		*tid = slot->tts_tid;
		return true;
	}
	if (fetch->fast)
	{
		/* nothing to see here: for this snapshot only, or for ever? */
		if (all_dead != NULL)
		{
			kv = fetch_versions(fetch);
			lightning_versions_get(rel, rowid, true, kv);
			*all_dead = lightning_versions_dead(rel, kv->v, kv->n);
		}
		return false;
	}

	/* not while nbtree checks uniqueness: it has an index page locked */
	CHECK_FOR_INTERRUPTS();
	kv = fetch_versions(fetch);
	lightning_versions_get_for(rel, rowid, snapshot, kv);
	if (fetch->serializable)
		lightning_check_conflict_out(rel, snapshot, kv);
	i = lightning_pick_version(rel, kv, snapshot);
	if (i < 0)
	{
		if (all_dead != NULL)
			*all_dead = lightning_versions_dead(rel, kv->v, kv->n);
		return false;
	}
	if (fetch->serializable)
		lightning_note_read(rel, snapshot, rowid, &kv->v[i]);
	lightning_slot_store(slot, rel, rowid, &kv->v[i], true);
	*tid = slot->tts_tid;
	return true;
}

bool
lightning_index_fetch_tuple(struct IndexFetchTableData *data, ItemPointer tid, Snapshot snapshot,
							TupleTableSlot *slot, bool *call_again, bool *all_dead)
{
	bool		found;

	*call_again = false;
	lightning_close_catalogs();
	found = fetch_by_entry(data, tid, snapshot, slot, all_dead);
	lightning_open_catalogs();
	return found;
}

/* ---- by TID ---- */

/* The version with this tag: the newest one, and rather one that is not aborted. */
static int
version_with_tag(const LightningVersions *kv, uint8 tag)
{
	LightningWalk w;

	lightning_walk_start(&w, kv->v, kv->n);
	while (lightning_walk_next(&w))
	{
		if (kv->v[w.at].kind == LTG_PUT && kv->v[w.at].tag == tag)
			return w.at;
	}
	for (int i = 0; i < kv->n; i++)
	{
		if (kv->v[i].kind == LTG_PUT && kv->v[i].tag == tag)
			return i;
	}
	return -1;
}

bool
lightning_fetch_row_version(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot)
{
	LightningVersions *kv = scratch_versions();
	uint64		rowid;
	int			i;

	if (!lightning_tid_valid(tid))
		return false;
	rowid = lightning_tid_rowid(tid);
	if (IsMVCCSnapshot(snapshot) && !CheckForSerializableConflictOutNeeded(rel, snapshot))
	{
		LightningSnapshot snap;

		lightning_snapshot_init(&snap, snapshot);
		if (!lightning_get_row(rel, rowid, &snap, slot))
			return false;
		if (!ItemPointerEquals(&slot->tts_tid, tid))
		{
			ExecClearTuple(slot);
			return false;
		}
		return true;
	}

	if (snapshot->snapshot_type == SNAPSHOT_ANY)
	{
		LightningRowLook look;

		/* almost always it is there; else an aborted one may be meant */
		memset(&look, 0, sizeof(look));
		look.rowid = rowid;
		look.tag = lightning_tid_tag(tid);
		lightning_look(lightning_session(), rel, lightning_rel(rel).store, &look);
		if (look.have_base)
		{
			lightning_slot_store(slot, rel, rowid, &look.base_version, true);
			/* who replaced or deleted it: DELETE ... RETURNING xmax asks */
			if (look.have_next && slot->tts_ops == &TTSOpsLightning)
				((LightningSlot *) slot)->xmax = (TransactionId) look.next.xid;
			return true;
		}
	}
	lightning_versions_get_for(rel, rowid, snapshot, kv);
	if (snapshot->snapshot_type == SNAPSHOT_ANY)
		i = version_with_tag(kv, lightning_tid_tag(tid));
	else
	{
		if (IsMVCCSnapshot(snapshot))
			lightning_check_conflict_out(rel, snapshot, kv);
		i = lightning_pick_version(rel, kv, snapshot);
		if (i >= 0 && kv->v[i].tag != lightning_tid_tag(tid))
			i = -1;
	}
	if (i < 0)
		return false;
	if (IsMVCCSnapshot(snapshot))
		lightning_note_read(rel, snapshot, rowid, &kv->v[i]);
	lightning_slot_store(slot, rel, rowid, &kv->v[i], true);
	return true;
}

TransactionId
lightning_find_xmax(Oid table, ItemPointer tid)
{
	Relation	rel = RelationIdGetRelation(table);
	LightningRowLook look;
	TransactionId xmax = InvalidTransactionId;

	if (!RelationIsValid(rel))
		return InvalidTransactionId;
	if (rel->rd_tableam != lightning_routine())
	{
		RelationClose(rel);
		return InvalidTransactionId;
	}
	memset(&look, 0, sizeof(look));
	look.rowid = lightning_tid_rowid(tid);
	look.tag = lightning_tid_tag(tid);
	lightning_look(lightning_session(), rel, lightning_rel(rel).store, &look);
	if (look.have_base && look.have_next)
		xmax = (TransactionId) look.next.xid;
	else if (look.have_base && !RecoveryInProgress())
	{
		LightningRowLockState locks;

		/* without the latch: it may change at any time, as on heap */
		lightning_rowlock_probe(rel, lightning_rel(rel).store_id, look.rowid,
								LockTupleKeyShare, &locks);
		xmax = lightning_rowlock_shown(&locks);
	}
	RelationClose(rel);
	return xmax;
}

bool
lightning_tuple_tid_valid(TableScanDesc scan, ItemPointer tid)
{
	return lightning_tid_valid(tid) &&
		lightning_tid_rowid(tid) < ltg_store_next_rowid(lightning_rel(scan->rs_rd).store);
}

/*
 * The newest version the snapshot sees of the row that *tid names, followed
 * from one row id to the next where updates moved it.
 */
void
lightning_get_latest_tid(TableScanDesc scan, ItemPointer tid)
{
	LightningVersions *kv = scratch_versions();
	Snapshot	snapshot = scan->rs_snapshot;
	uint64		rowid = lightning_tid_rowid(tid);

	if (IsMVCCSnapshot(snapshot))
		lightning_note_snapshot(snapshot);
	for (;;)
	{
		int			i;
		LtgState	fate;

		CHECK_FOR_INTERRUPTS();
		lightning_versions_get(scan->rs_rd, rowid, false, kv);
		for (i = 0; i < kv->n; i++)
		{
			if (ltg_version_says(kv->v[i].kind, false) == LTG_SAYS_NEVER)
				return;
			if (lightning_version_visible(&kv->v[i], snapshot, &fate) && fate != LTG_ABORTED)
				break;
		}
		if (i == kv->n)
			return;
		if (kv->v[i].kind == LTG_PUT)
		{
			lightning_set_tid(tid, rowid, kv->v[i].tag);
			return;
		}
		if (kv->v[i].kind != LTG_DELETE || kv->v[i].aux == LTG_AUX_NONE ||
			kv->v[i].aux == LTG_AUX_OTHER_PARTITION)
			return;
		rowid = kv->v[i].aux;
	}
}

bool
lightning_tuple_satisfies_snapshot(Relation rel, TupleTableSlot *slot, Snapshot snapshot)
{
	LightningVersions *kv = scratch_versions();
	int			i;

	if (!lightning_tid_valid(&slot->tts_tid))
		return false;
	if (IsMVCCSnapshot(snapshot))
		lightning_note_snapshot(snapshot);
	lightning_versions_get(rel, lightning_tid_rowid(&slot->tts_tid), false, kv);
	i = lightning_pick_version(rel, kv, snapshot);
	return i >= 0 && kv->v[i].tag == lightning_tid_tag(&slot->tts_tid);
}

/* ---- which index entries are dead ---- */

/*
 * Note the newest transaction whose removal of a row made its entries dead: a
 * standby must not go on using snapshots that still see it.  Of a settled
 * tombstone only that much is known: its writer was older than every snapshot.
 */
static void
advance_horizon(const LightningVersions *kv, TransactionId *horizon)
{
	LightningWalk w;
	TransactionId xid;

	lightning_walk_start(&w, kv->v, kv->n);
	if (!lightning_walk_next(&w))
		return;
	xid = (TransactionId) kv->v[w.at].xid;
	if (kv->v[w.at].state == LTG_SETTLED)
	{
		xid = (TransactionId) lightning_settled_below();
		TransactionIdRetreat(xid);
	}
	if (TransactionIdIsNormal(xid) &&
		(!TransactionIdIsValid(*horizon) || TransactionIdFollows(xid, *horizon)))
		*horizon = xid;
}

/*
 * Which of the entries are dead.  A bottom-up pass offers everything on a page
 * on the chance that something is: there only the likely ones are looked at,
 * and no more than needed.
 */
TransactionId
lightning_index_delete_tuples(Relation rel, TM_IndexDeleteOp *delstate)
{
	LightningVersions *kv = scratch_versions();
	TransactionId horizon = InvalidTransactionId;
	int			freed = 0;
	int			kept = 0;

	lightning_close_catalogs();
	for (int i = 0; i < delstate->ndeltids; i++)
	{
		TM_IndexDelete deltid = delstate->deltids[i];
		TM_IndexStatus *status = &delstate->status[deltid.id];

		if (delstate->bottomup &&
			(!status->promising || freed >= delstate->bottomupfreespace))
			continue;
		lightning_versions_get(rel, lightning_tid_rowid(&deltid.tid), false, kv);
		if (!status->knowndeletable)
			status->knowndeletable = lightning_versions_dead(rel, kv->v, kv->n);
		if (status->knowndeletable)
		{
			advance_horizon(kv, &horizon);
			freed += status->freespace;
		}
		else if (delstate->bottomup)
			continue;
		delstate->deltids[kept++] = deltid;
	}
	delstate->ndeltids = kept;
	lightning_open_catalogs();
	return horizon;
}
