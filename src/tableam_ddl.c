/*
 * tableam_ddl.c
 *	  Storage of tables: creation, truncation, size, and the copies that
 *	  CLUSTER, VACUUM FULL and SET TABLESPACE make.
 *
 * Copies are physical: every version that somebody may still see goes along
 * with its writer's transaction id, so that snapshots older than the copy see in
 * it what they saw in the original.  Otherwise a copy would look empty to them.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/multixact.h"
#include "access/xact.h"
#include "access/xlogutils.h"
#include "catalog/catalog.h"
#include "catalog/pg_am.h"
#include "catalog/storage.h"
#include "catalog/storage_xlog.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "storage/smgr.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"

#include "lightning.h"
#include "row.h"
#include "scan.h"
#include "toast.h"
#include "versions.h"
#include "wal.h"

/* ---- creation, truncation ---- */

/*
 * The relation's main fork stays empty: it is what the server knows of the
 * table (it goes when the table goes), and it tells an orphan store.
 */
static void
create_storage(const RelFileNode *node, char persistence, BackendId backend)
{
	SMgrRelation srel = RelationCreateStorage(*node, persistence, true);

	/* the init fork makes the server reset the main fork, empty as it is */
	if (persistence == RELPERSISTENCE_UNLOGGED)
	{
		smgrcreate(srel, INIT_FORKNUM, false);
		log_smgrcreate(node, INIT_FORKNUM);
		smgrimmedsync(srel, INIT_FORKNUM);
	}
	smgrclose(srel);
	lightning_create_store(node, persistence, backend);
}

void
lightning_relation_set_new_filenode(Relation rel, const RelFileNode *newrnode, char persistence,
									TransactionId *freezeXid, MultiXactId *minmulti)
{
	/* as for heaps: no transaction older than these can be in the table */
	*freezeXid = RecentXmin;
	*minmulti = GetOldestMultiXactId();
	create_storage(newrnode, persistence,
				   persistence == RELPERSISTENCE_TEMP ? BackendIdForTempRelations() : InvalidBackendId);
}

/*
 * Only for relations created in this transaction, and temporary ones that are
 * emptied at commit: what was there is gone at once, whatever becomes of the
 * transaction.
 */
void
lightning_relation_nontransactional_truncate(Relation rel)
{
	LtgSession *s = lightning_session();
	LtgStoreKey key;
	LtgStoreInfo info;
	LtgStore   *store;
	LtgSeq		stamp;
	LtgStatus	st;

	lightning_store_key(&rel->rd_node, rel->rd_backend, &key);
	ltg_store_info(s, lightning_rel(rel).store, &info);

	lightning_reserve_store(s);
	/* the record and the change itself belong to one generation */
	for (;;)
	{
		lightning_ddl_begin(s);
		if ((info.flags & LTG_STORE_TEMP) != 0 || lightning_gate_is_up())
			break;
		lightning_ddl_end(s);
		lightning_gate_wait();
	}
	if (info.flags & LTG_STORE_TEMP)
		stamp = ltg_next_unlogged_seq(s);
	else
		stamp = lightning_log_truncate_store(&key, info.flags);
	st = ltg_store_create(s, &key, info.flags, stamp, &store);
	lightning_ddl_end(s);
	lightning_report(s, st, rel);
}

/* ---- size ---- */

/*
 * Blocks of TIDs: BRIN and ANALYZE visit blocks below this number only.  How
 * many bytes are on disk is another matter (lightning_relation_estimate_size).
 *
 * Never 0: code that goes past the access method, to heap_insert(), asks for the
 * last block, which is an error, since the main fork is empty.  Of a table
 * without blocks it would make one (hio.c, RelationGetBufferForTuple), and write
 * rows where nobody reads them.
 */
uint64
lightning_relation_size(Relation rel, ForkNumber forkNumber)
{
	uint64		rows;

	if (forkNumber != MAIN_FORKNUM && forkNumber != InvalidForkNumber)
		return 0;
	rows = ltg_store_next_rowid(lightning_rel(rel).store);
	rows = Max(rows, 1);
	return (rows + LIGHTNING_BLOCK_ROWS - 1) / LIGHTNING_BLOCK_ROWS * BLCKSZ;
}

/* heapam's rule: a row that may be longer than TOAST_TUPLE_THRESHOLD. */
bool
lightning_relation_needs_toast_table(Relation rel)
{
	TupleDesc	desc = rel->rd_att;
	int32		data_length = 0;
	bool		maxlength_unknown = false;
	bool		has_toastable_attrs = false;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		int32		maxlen;

		if (att->attisdropped)
			continue;
		data_length = att_align_nominal(data_length, att->attalign);
		if (att->attlen > 0)
		{
			data_length += att->attlen;
			continue;
		}
		maxlen = type_maximum_size(att->atttypid, att->atttypmod);
		if (maxlen < 0)
			maxlength_unknown = true;
		else
			data_length += maxlen;
		if (att->attstorage != TYPSTORAGE_PLAIN)
			has_toastable_attrs = true;
	}
	if (!has_toastable_attrs)
		return false;
	if (maxlength_unknown)
		return true;
	return MAXALIGN(SizeofHeapTupleHeader + BITMAPLEN(desc->natts)) + MAXALIGN(data_length) >
		TOAST_TUPLE_THRESHOLD;
}

Oid
lightning_relation_toast_am(Relation rel)
{
	return HEAP_TABLE_AM_OID;
}

/* ---- copies ---- */

/* Rows gathered for one log record. */
#define COPY_ROWS 256
#define COPY_BYTES (64 * 1024)

/* A tombstone that names the row id its row moved to, which is known later. */
typedef struct MovedRow
{
	uint64		old_rowid;		/* hash key: where the row moved to */
	uint64		new_rowid;		/* the same in the copy, PG_UINT64_MAX: none yet */
} MovedRow;

typedef struct PendingTombstone
{
	uint64		rowid;			/* in the copy */
	LtgVersion	v;				/* aux as in the original */
} PendingTombstone;

typedef struct Copy
{
	Relation	from;
	Relation	to;
	bool		renumber;		/* rows get new row ids, one after the other */
	LtgXid		oldest;

	LightningRawRow rows[COPY_ROWS];
	int			nrows;
	uint8	   *bytes;
	uint32		bytes_used;

	HTAB	   *moved;			/* NULL: no row moved lately */
	PendingTombstone *pending;
	int			npending;
	int			max_pending;

	bool		reform;			/* every row: columns were dropped */
	TupleTableSlot *slot;
	LightningRowBuf row;
	MemoryContext row_context;

	double		live;
	double		vacuumed;
	double		recently_dead;
} Copy;

static void
copy_flush(Copy *c)
{
	if (c->nrows > 0)
		lightning_insert_raw(c->to, c->rows, c->nrows);
	c->nrows = 0;
	c->bytes_used = 0;
}

/* Queue one version; its payload is copied. */
static void
copy_add(Copy *c, uint64 rowid, const LtgVersion *v)
{
	LightningRawRow *row;

	if (c->nrows == COPY_ROWS || c->bytes_used + MAXALIGN(v->payload_len) > COPY_BYTES)
		copy_flush(c);
	row = &c->rows[c->nrows++];
	row->rowid = rowid;
	row->v = *v;
	if (v->payload_len > 0)
	{
		/* a row over COPY_BYTES comes alone */
		if (v->payload_len > COPY_BYTES)
			return;
		row->v.payload = c->bytes + c->bytes_used;
		memcpy(c->bytes + c->bytes_used, v->payload, v->payload_len);
		c->bytes_used += MAXALIGN(v->payload_len);
	}
}

/*
 * The row as it is stored in the copy: all columns there (the table forgets
 * the defaults of added ones when it is rewritten), dropped ones null, and long
 * values in the copy's own TOAST relation.
 */
static void
reform(Copy *c, LtgVersion *v)
{
	TupleDesc	desc = RelationGetDescr(c->to);
	uint16		header = row_header(v->payload);
	HeapTuple	tuple;
	HeapTuple	toasted;
	MemoryContext old;

	if (!c->renumber)
		return;
	if (!c->reform && (header & ROW_HAS_EXTERNAL) == 0 &&
		(header & ROW_NATTS_MASK) == desc->natts)
		return;

	MemoryContextReset(c->row_context);
	old = MemoryContextSwitchTo(c->row_context);
	lightning_slot_store(c->slot, c->from, 0, v, false);
	slot_getallattrs(c->slot);
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			c->slot->tts_isnull[i] = true;
	}
	tuple = heap_form_tuple(desc, c->slot->tts_values, c->slot->tts_isnull);
	lightning_unmark_datum(tuple);
	toasted = tuple;
	if (HeapTupleHasExternal(tuple) || tuple->t_len > TOAST_TUPLE_THRESHOLD)
		toasted = heap_toast_insert_or_update(c->to, tuple, NULL,
											  HEAP_INSERT_SKIP_FSM | HEAP_INSERT_NO_LOGICAL);
	heap_deform_tuple(toasted, desc, c->slot->tts_values, c->slot->tts_isnull);
	MemoryContextSwitchTo(old);
	lightning_form_row(desc, c->slot->tts_values, c->slot->tts_isnull, &c->row);
	ExecClearTuple(c->slot);
	v->payload = c->row.data;
	v->payload_len = c->row.len;
}

/* The version as it goes into the copy: what is known of its fate stays. */
static void
prepare(Copy *c, LtgVersion *v)
{
	bool		mine;
	LtgState	fate = lightning_version_fate(v, &mine);

	if (fate == LTG_COMMITTED && v->xid < c->oldest)
		fate = LTG_SETTLED;
	v->state = fate;
	if (fate == LTG_SETTLED)
	{
		v->cid = 0;
		if (v->kind != LTG_PUT)
			v->xid = 0;
	}
	if (v->kind == LTG_PUT)
		reform(c, v);
}

static void
add_pending(Copy *c, uint64 rowid, const LtgVersion *v)
{
	if (c->npending == c->max_pending)
	{
		c->max_pending = Max(c->max_pending * 2, 64);
		if (c->pending == NULL)
			c->pending = palloc(sizeof(PendingTombstone) * c->max_pending);
		else
			c->pending = repalloc_huge(c->pending, sizeof(PendingTombstone) * c->max_pending);
	}
	c->pending[c->npending].rowid = rowid;
	c->pending[c->npending].v = *v;
	c->npending++;
}

static bool
names_new_row(const LtgVersion *v)
{
	return v->kind == LTG_DELETE && v->aux != LTG_AUX_NONE && v->aux != LTG_AUX_OTHER_PARTITION;
}

/* One that was replaced: are its long values still there? */
static bool
is_whole(Copy *c, const LtgVersion *v)
{
	MemoryContext old;
	bool		whole;

	if (!c->renumber || (row_header(v->payload) & ROW_HAS_EXTERNAL) == 0)
		return true;
	MemoryContextReset(c->row_context);
	old = MemoryContextSwitchTo(c->row_context);
	lightning_slot_store(c->slot, c->from, 0, v, false);
	whole = lightning_toast_fetch(c->slot, NULL);
	ExecClearTuple(c->slot);
	MemoryContextSwitchTo(old);
	return whole;
}

/*
 * How many versions, from the newest on, somebody may still see.  Where one has lost
 * its long values (see lightning_toast_fetch), nobody needs it, or an older one.  The
 * caller's lock on the TOAST relation sees to it that what is there stays.
 */
static int
needed_versions(Copy *c, const LightningVersions *kv)
{
	bool		replaced = false;
	bool		mine;

	for (int i = 0; i < kv->n; i++)
	{
		const LtgVersion *v = &kv->v[i];
		LtgState	fate = lightning_version_fate(v, &mine);

		if (fate == LTG_ABORTED)
			continue;
		if (replaced && v->kind == LTG_PUT && !is_whole(c, v))
			return i;
		if (fate == LTG_SETTLED || (fate == LTG_COMMITTED && v->xid < c->oldest))
			return i + 1;
		replaced = replaced || fate == LTG_COMMITTED;
	}
	return kv->n;
}

/* The n newest. */
static void
copy_versions(Copy *c, const LightningVersions *kv, int n, uint64 rowid)
{
	bool		several = false;
	bool		mine;

	for (int i = n - 1; i >= 0; i--)
	{
		LtgVersion	v = kv->v[i];

		if (lightning_version_fate(&v, &mine) == LTG_ABORTED)
			continue;
		prepare(c, &v);
		if (c->renumber && names_new_row(&v))
		{
			add_pending(c, rowid, &v);
			continue;
		}
		/* nobody has a TID of the copy yet, so that tags may begin anew */
		if (c->renumber && n == 1)
			v.tag = 0;
		/* versions of one key go in separate calls */
		if (several)
			copy_flush(c);
		copy_add(c, rowid, &v);
		if (v.payload_len > COPY_BYTES)
			copy_flush(c);
		several = true;
	}
}

static void
copy_row(Copy *c, const LightningVersions *kv)
{
	LightningRowState st;
	uint64		rowid;
	int			n = needed_versions(c, kv);

	CHECK_FOR_INTERRUPTS();
	lightning_classify_row(kv, c->oldest, &st);
	if (st.status == LIGHTNING_ROW_RECENTLY_DEAD && st.newest >= n)
		st.status = LIGHTNING_ROW_DEAD;
	switch (st.status)
	{
		case LIGHTNING_ROW_NEVER:
		case LIGHTNING_ROW_DEAD:
			c->vacuumed += 1;
			return;
		case LIGHTNING_ROW_RECENTLY_DEAD:
		case LIGHTNING_ROW_DELETE_IN_PROGRESS:
			c->recently_dead += 1;
			break;
		case LIGHTNING_ROW_LIVE:
		case LIGHTNING_ROW_INSERT_IN_PROGRESS:
		case LIGHTNING_ROW_UPDATE_IN_PROGRESS:
			break;
	}
	if (st.newest < 0)
		return;
	c->live += 1;
	rowid = lightning_take_rowid(c->to);
	if (c->moved != NULL)
	{
		MovedRow   *m = hash_search(c->moved, &kv->rowid, HASH_FIND, NULL);

		if (m != NULL)
			m->new_rowid = rowid;
	}
	copy_versions(c, kv, n, rowid);
}

/*
 * Rows that moved lately: whoever waits to update the old one follows its
 * tombstone, so that has to name the new row id in the copy.
 */
static void
find_moved(Copy *c)
{
	LightningVersionScan *scan;
	LightningVersions *kv;
	LtgStoreInfo info;
	HASHCTL		ctl = {0};

	ltg_store_info(lightning_session(), lightning_rel(c->from).store, &info);
	if (info.unsettled == 0 && info.memtable_keys == 0)
		return;
	scan = lightning_versions_open(c->from, 0, info.next_rowid, false);
	while ((kv = lightning_versions_next(scan)) != NULL)
	{
		LightningRowState st;
		MovedRow   *m;

		lightning_classify_row(kv, c->oldest, &st);
		if ((st.status != LIGHTNING_ROW_RECENTLY_DEAD &&
			 st.status != LIGHTNING_ROW_DELETE_IN_PROGRESS) || !names_new_row(&kv->v[st.top]))
			continue;
		if (c->moved == NULL)
		{
			ctl.keysize = sizeof(uint64);
			ctl.entrysize = sizeof(MovedRow);
			ctl.hcxt = CurrentMemoryContext;
			c->moved = hash_create("moved rows", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		}
		m = hash_search(c->moved, &kv->v[st.top].aux, HASH_ENTER, NULL);
		m->new_rowid = PG_UINT64_MAX;
	}
	lightning_versions_close(scan);
}

static void
write_pending(Copy *c)
{
	copy_flush(c);
	for (int i = 0; i < c->npending; i++)
	{
		PendingTombstone *p = &c->pending[i];
		MovedRow   *m = NULL;

		if (c->moved != NULL)
			m = hash_search(c->moved, &p->v.aux, HASH_FIND, NULL);
		/* its new place was never committed, or is gone already */
		p->v.aux = (m != NULL && m->new_rowid != PG_UINT64_MAX) ? m->new_rowid : LTG_AUX_NONE;
		copy_add(c, p->rowid, &p->v);
	}
	copy_flush(c);
}

static void
copy_begin(Copy *c, Relation from, Relation to, bool renumber, TransactionId oldest_xmin)
{
	TupleDesc	desc = RelationGetDescr(from);

	memset(c, 0, sizeof(*c));
	c->from = from;
	c->to = to;
	c->renumber = renumber;
	c->oldest = lightning_widen_xid(oldest_xmin);
	c->bytes = palloc(COPY_BYTES + MAXIMUM_ALIGNOF);
	c->slot = table_slot_create(from, NULL);
	c->row_context = AllocSetContextCreate(CurrentMemoryContext, "lightning copy",
										   ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			c->reform = true;
	}
}

/*
 * What the copy settles, and what our files have dropped, is right for our snapshots.
 * A standby's older ones must not read it.
 */
static void
log_conflict(Copy *c)
{
	TransactionId newest;

	if (!lightning_rel(c->to).logged || !XLogStandbyInfoActive())
		return;
	newest = (TransactionId) Max(c->oldest, lightning_known_below());
	TransactionIdRetreat(newest);
	lightning_log_removed(c->to, newest, 0);
}

static void
copy_end(Copy *c)
{
	write_pending(c);
	log_conflict(c);
	ExecDropSingleTupleTableSlot(c->slot);
	MemoryContextDelete(c->row_context);
	if (c->moved != NULL)
		hash_destroy(c->moved);
	pfree(c->bytes);
}

static void
copy_in_table_order(Copy *c)
{
	LightningVersionScan *scan;
	LightningVersions *kv;
	uint64		end = ltg_store_next_rowid(lightning_rel(c->from).store);

	scan = lightning_versions_open(c->from, 0, end, false);
	while ((kv = lightning_versions_next(scan)) != NULL)
		copy_row(c, kv);
	lightning_versions_close(scan);
}

static void
copy_by_tid(Copy *c, LightningVersions *kv, const ItemPointerData *tid)
{
	lightning_versions_get(c->from, lightning_tid_rowid(tid), false, kv);
	copy_row(c, kv);
}

static void
copy_in_index_order(Copy *c, Relation index)
{
	LightningVersions kv;
	IndexScanDesc scan;
	ItemPointer tid;

	lightning_versions_init(&kv);
	scan = index_beginscan(c->from, index, SnapshotAny, 0, 0);
	index_rescan(scan, NULL, 0, NULL, 0);
	while ((tid = index_getnext_tid(scan, ForwardScanDirection)) != NULL)
		copy_by_tid(c, &kv, tid);
	index_endscan(scan);
	lightning_versions_free(&kv);
}

/* By sorting what each row looks like now. */
static void
copy_sorted(Copy *c, Relation index)
{
	Tuplesortstate *sort;
	LightningVersions kv;
	LightningVersions *row;
	LightningVersionScan *scan;
	HeapTuple	tuple;
	uint64		end = ltg_store_next_rowid(lightning_rel(c->from).store);

	sort = tuplesort_begin_cluster(RelationGetDescr(c->from), index, maintenance_work_mem,
								   NULL, TUPLESORT_NONE);
	scan = lightning_versions_open(c->from, 0, end, false);
	while ((row = lightning_versions_next(scan)) != NULL)
	{
		LightningRowState st;

		CHECK_FOR_INTERRUPTS();
		lightning_classify_row(row, c->oldest, &st);
		if (st.status == LIGHTNING_ROW_NEVER || st.status == LIGHTNING_ROW_DEAD || st.newest < 0)
		{
			c->vacuumed += 1;
			continue;
		}
		/* who was deleted may lose long values any time: copied now, out of order */
		if (st.status == LIGHTNING_ROW_RECENTLY_DEAD &&
			(row_header(row->v[st.newest].payload) & ROW_HAS_EXTERNAL) != 0)
		{
			copy_row(c, row);
			continue;
		}
		lightning_slot_store(c->slot, c->from, row->rowid, &row->v[st.newest], false);
		tuple = ExecCopySlotHeapTuple(c->slot);
		tuplesort_putheaptuple(sort, tuple);
		heap_freetuple(tuple);
	}
	ExecClearTuple(c->slot);
	lightning_versions_close(scan);

	tuplesort_performsort(sort);
	lightning_versions_init(&kv);
	while ((tuple = tuplesort_getheaptuple(sort, true)) != NULL)
		copy_by_tid(c, &kv, &tuple->t_self);
	lightning_versions_free(&kv);
	tuplesort_end(sort);
}

void
lightning_relation_copy_for_cluster(Relation OldTable, Relation NewTable, Relation OldIndex,
									bool use_sort, TransactionId OldestXmin,
									TransactionId *xid_cutoff, MultiXactId *multi_cutoff,
									double *num_tuples, double *tups_vacuumed,
									double *tups_recently_dead)
{
	Copy	   *c = palloc(sizeof(Copy));

	copy_begin(c, OldTable, NewTable, true, OldestXmin);
	find_moved(c);
	if (OldIndex == NULL)
		copy_in_table_order(c);
	else if (use_sort)
		copy_sorted(c, OldIndex);
	else
		copy_in_index_order(c, OldIndex);
	copy_end(c);
	*num_tuples = c->live;
	*tups_vacuumed = c->vacuumed;
	*tups_recently_dead = c->recently_dead;
	pfree(c);
}

/*
 * A row as SET TABLESPACE copies it: indexes keep their entries, so a row that
 * is gone leaves a tombstone there as well, for VACUUM to find them by.
 */
static void
copy_in_place(Copy *c, const LightningVersions *kv)
{
	LightningRowState st;
	LtgVersion	gone = {0};

	CHECK_FOR_INTERRUPTS();
	lightning_classify_row(kv, c->oldest, &st);
	if (st.status != LIGHTNING_ROW_NEVER)
	{
		copy_versions(c, kv, needed_versions(c, kv), kv->rowid);
		return;
	}
	gone.kind = LTG_GONE;
	gone.state = LTG_SETTLED;
	copy_add(c, kv->rowid, &gone);
}

/*
 * SET TABLESPACE: the same versions under the same row ids, in a store of their
 * own, until the transaction commits and the old one goes.
 */
void
lightning_relation_copy_data(Relation rel, const RelFileNode *newrnode)
{
	Copy	   *c = palloc(sizeof(Copy));
	RelationData target = *rel;
	LightningVersionScan *scan;
	LightningVersions *kv;
	uint64		end;

	create_storage(newrnode, rel->rd_rel->relpersistence, rel->rd_backend);

	/* the catalogs know nothing of it yet: as far as storage goes, it is rel */
	target.rd_node = *newrnode;
	target.rd_amcache = NULL;
	target.rd_smgr = NULL;
	target.pgstat_enabled = false;	/* (statistics would keep its address) */
	target.pgstat_info = NULL;

	lightning_rel_ready(&target, false);
	copy_begin(c, rel, &target, false, GetOldestNonRemovableTransactionId(rel));
	end = ltg_store_next_rowid(lightning_rel(rel).store);
	if (end > 0)
		ltg_store_note_rowid(lightning_rel(&target).store, end - 1);
	scan = lightning_versions_open(rel, 0, end, false);
	while ((kv = lightning_versions_next(scan)) != NULL)
		copy_in_place(c, kv);
	lightning_versions_close(scan);
	copy_end(c);
	pfree(c);
	if (target.rd_amcache != NULL)
		pfree(target.rd_amcache);

	RelationDropStorage(rel);
}
