/*
 * tableam_modify.c
 *	  Inserting, updating and deleting rows.
 *
 * An update keeps the row's rowid, and so touches no stock index, unless an
 * indexed column changed or the version tag that would be next may still name
 * an older version; then the old row gets a tombstone that names the new
 * rowid.  What an update or delete may do to a row is decided under the row's
 * latch and stays true until the version is written, because the latch is held
 * till then.  Everything that could wait or look into catalogs is done before
 * or after.
 *
 * Conflicts with serializable readers are checked after the write: readers look
 * for newer versions again when they hold their predicate locks, so one of the
 * two finds the other.
 */
#include "postgres.h"

#include <lz4.h>
#include <zstd.h>

#include "access/heaptoast.h"
#include "access/parallel.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/predicate.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "modify.h"
#include "toast.h"

/* The row being written; kept from call to call. */
static LightningRowBuf row_buf;

static LightningRowBuf *
get_row_buf(void)
{
	if (row_buf.data == NULL)
	{
		row_buf.data = MemoryContextAlloc(TopMemoryContext, 8192);
		row_buf.cap = 8192;
	}
	row_buf.len = 0;
	return &row_buf;
}

static void
start_record(LightningRecord *rec, Relation rel, uint8 info, uint8 flags)
{
	LtgStoreKey key;

	lightning_store_key(&rel->rd_node, rel->rd_backend, &key);
	lightning_record_start(rec, info, flags, &key);
}

/* Tell the slot where its row now is, and what its system columns are. */
static void
note_in_slot(TupleTableSlot *slot, Relation rel, uint64 rowid, uint8 tag,
			 LtgXid xid, CommandId cid, TransactionId xmax)
{
	lightning_set_tid(&slot->tts_tid, rowid, tag);
	slot->tts_tableOid = RelationGetRelid(rel);
	if (slot->tts_ops == &TTSOpsLightning)
	{
		LightningSlot *lslot = (LightningSlot *) slot;

		lslot->xmin = (TransactionId) xid;
		lslot->writers = NULL;
		lslot->xmax = TransactionIdIsValid(xmax) ? xmax : LIGHTNING_XMAX_NONE;
		lslot->cid = cid;
	}
}

/*
 * Inserting
 */
static void
check_insert_allowed(Relation rel)
{
	if (IsParallelWorker())
		ereport(ERROR,
				errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				errmsg("cannot insert tuples in a parallel worker"));
	lightning_rel_ready(rel, true);
}

static void
start_put(LtgWrite *w, LtgXid xid, CommandId cid, int options)
{
	memset(w, 0, sizeof(*w));
	w->key_len = LIGHTNING_KEY_LEN;
	w->v.kind = LTG_PUT;
	w->v.xid = xid;
	if (options & TABLE_INSERT_FROZEN)
		w->v.state = LTG_SETTLED;	/* the whole store goes if we abort */
	else
		w->v.cid = cid;
}

static void
insert_row(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
		   bool speculative, uint32 token)
{
	LtgSession *s = lightning_session();
	LtgXid		xid = lightning_my_xid();
	LightningRowBuf *buf;
	LightningToasted toasted;
	LightningRel lr;
	LightningRecord rec;
	LtgWrite	w;
	uint8		key[LIGHTNING_KEY_LEN];
	uint8		xlf = 0;
	uint64		rowid;
	LtgSeq		seq;

	check_insert_allowed(rel);
	lightning_check_temp_limit(rel, 1);
	lightning_toast_values(rel, slot, NULL, options, &toasted);
	buf = get_row_buf();
	lightning_form_row(RelationGetDescr(rel), toasted.values, toasted.isnull, buf);
	lightning_toast_release(&toasted);

	rowid = lightning_take_rowid(rel);
	lightning_rowid_key(key, rowid);
	start_put(&w, xid, cid, options);
	w.key = key;
	w.v.payload = buf->data;
	w.v.payload_len = buf->len;
	if (options & TABLE_INSERT_FROZEN)
		xlf |= LIGHTNING_XLF_FROZEN;
	if (speculative)
		lightning_speculative_begin(lightning_rel(rel).store_id, rowid, token);

	do
	{
		lr = lightning_rel(rel);
		w.store = lr.store;
		if (lr.logged)
		{
			start_record(&rec, rel, XLOG_LIGHTNING_INSERT, xlf);
			lightning_record_varint(&rec, rowid);
			rec.body = buf->data;
			rec.body_len = buf->len;
		}
	} while (!lightning_write(s, rel, &lr, &w, 1, lr.logged ? &rec : NULL, &seq));

	CheckForSerializableConflictIn(rel, NULL, InvalidBlockNumber);
	note_in_slot(slot, rel, rowid, 0, xid, cid, InvalidTransactionId);
	pgstat_count_heap_insert(rel, 1);
}

void
lightning_tuple_insert(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
					   struct BulkInsertStateData *bistate)
{
	insert_row(rel, slot, cid, options, false, 0);
}

void
lightning_tuple_insert_speculative(Relation rel, TupleTableSlot *slot, CommandId cid,
								   int options, struct BulkInsertStateData *bistate,
								   uint32 token)
{
	CHECK_FOR_INTERRUPTS();
	insert_row(rel, slot, cid, options, true, token);
}

/* Withdraw a speculative insertion: nobody may ever see the row. */
static void
kill_row(Relation rel, uint64 rowid)
{
	LtgSession *s = lightning_session();
	LtgXid		xid = lightning_my_xid();
	LightningRowLook look;
	LightningRel lr;
	LightningRecord rec;
	LtgWrite	w;
	LtgSeq		seq;

	memset(&look, 0, sizeof(look));
	look.rowid = rowid;
	look.newest_is_base = true;
	memset(&w, 0, sizeof(w));
	w.v.kind = LTG_GONE;
	w.v.xid = xid;
	w.v.cid = GetCurrentCommandId(true);
	w.key_len = LIGHTNING_KEY_LEN;

	do
	{
		lr = lightning_rel(rel);
		lightning_rowid_key(look.key, rowid);
		ltg_latch(s, lr.store, look.key, LIGHTNING_KEY_LEN);
		lightning_look(s, rel, lr.store, &look);
		if (!look.have_base)
			lightning_no_such_version(rel, rowid, 0);
		w.store = lr.store;
		w.key = look.key;
		if (lr.logged)
		{
			start_record(&rec, rel, XLOG_LIGHTNING_KILL, 0);
			lightning_record_varint(&rec, rowid);
		}
	} while (!lightning_write(s, rel, &lr, &w, 1, lr.logged ? &rec : NULL, &seq));
	ltg_unlatch(s);

	if (lightning_row_has_external(look.base_version.payload, look.base_version.payload_len))
	{
		TupleTableSlot *old = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsLightning);

		lightning_slot_store(old, rel, rowid, &look.base_version, false);
		lightning_toast_delete(rel, old, true);
		ExecDropSingleTupleTableSlot(old);
	}
	pgstat_count_heap_delete(rel);
}

void
lightning_tuple_complete_speculative(Relation rel, TupleTableSlot *slot, uint32 token,
									 bool succeeded)
{
	if (!succeeded)
		kill_row(rel, lightning_tid_rowid(&slot->tts_tid));
	lightning_speculative_end();
}

/*
 * Many rows at once.  The body of a record and the payloads of the versions are
 * the same bytes: lengths are put in front of the payloads when the batch is
 * complete.
 */
#define BATCH_LENGTHS (3 * LIGHTNING_WAL_BATCH_ROWS)
#define BATCH_SIZE (BATCH_LENGTHS + LIGHTNING_WAL_BATCH_BYTES + LTG_PAYLOAD_MAX)

typedef struct InsertBatch
{
	uint8	   *bytes;			/* BATCH_SIZE; payloads from BATCH_LENGTHS on */
	uint8	   *packed;			/* compressed body */
	uint32		packed_cap;
	ZSTD_CCtx  *zstd;
	LtgWrite   *w;
	uint8	   *keys;
	uint32		n;
	uint32		used;			/* bytes of payloads */
	uint64		first_rowid;
} InsertBatch;

static InsertBatch batch;

static void
batch_init(void)
{
	MemoryContext cxt = TopMemoryContext;

	batch.n = 0;
	batch.used = 0;
	if (batch.keys != NULL)
		return;
	if (batch.bytes == NULL)
		batch.bytes = MemoryContextAlloc(cxt, BATCH_SIZE);
	if (batch.packed == NULL)
	{
		batch.packed_cap = Max(LZ4_compressBound(BATCH_SIZE), ZSTD_compressBound(BATCH_SIZE));
		batch.packed = MemoryContextAlloc(cxt, batch.packed_cap);
	}
	if (batch.w == NULL)
		batch.w = MemoryContextAlloc(cxt, sizeof(LtgWrite) * LIGHTNING_WAL_BATCH_ROWS);
	batch.keys = MemoryContextAlloc(cxt, LIGHTNING_KEY_LEN * LIGHTNING_WAL_BATCH_ROWS);
}

/* Compress the body if it pays; returns the codec used. */
static LightningWalCompression
batch_compress(const uint8 *body, uint32 len, uint32 *packed_len)
{
	size_t		n = 0;

	if (len < 256)
		return LIGHTNING_WAL_PLAIN;
	if (lightning_wal_compression == LIGHTNING_WAL_LZ4)
		n = LZ4_compress_default((const char *) body, (char *) batch.packed, len,
								 batch.packed_cap);
	else if (lightning_wal_compression == LIGHTNING_WAL_ZSTD)
	{
		if (batch.zstd == NULL)
			batch.zstd = ZSTD_createCCtx();
		if (batch.zstd != NULL)
			n = ZSTD_compressCCtx(batch.zstd, batch.packed, batch.packed_cap, body, len, 1);
		if (ZSTD_isError(n))
			n = 0;
	}
	if (n == 0 || n >= len - len / 8)
		return LIGHTNING_WAL_PLAIN;
	*packed_len = n;
	return lightning_wal_compression;
}

static void
batch_record(Relation rel, LightningRecord *rec, int options)
{
	uint8		lengths[BATCH_LENGTHS];
	uint8	   *p = lengths;
	uint8	   *body;
	uint32		body_len;
	uint32		packed_len = 0;
	LightningWalCompression codec;

	for (uint32 i = 0; i < batch.n; i++)
		p = lightning_put_varint(p, batch.w[i].v.payload_len);
	body = batch.bytes + BATCH_LENGTHS - (p - lengths);
	memcpy(body, lengths, p - lengths);
	body_len = (p - lengths) + batch.used;

	codec = batch_compress(body, body_len, &packed_len);
	start_record(rec, rel, XLOG_LIGHTNING_MULTI_INSERT,
				 (options & TABLE_INSERT_FROZEN) ? LIGHTNING_XLF_FROZEN : 0);
	lightning_record_varint(rec, batch.first_rowid);
	lightning_record_varint(rec, batch.n);
	lightning_record_byte(rec, (uint8) codec);
	lightning_record_varint(rec, body_len);
	if (codec == LIGHTNING_WAL_PLAIN)
	{
		rec->body = body;
		rec->body_len = body_len;
	}
	else
	{
		rec->body = batch.packed;
		rec->body_len = packed_len;
	}
}

static void
batch_write(Relation rel, int options)
{
	LtgSession *s = lightning_session();
	LightningRel lr;
	LightningRecord rec;
	LtgSeq		seq;

	if (batch.n == 0)
		return;
	if (lightning_rel(rel).logged)
		batch_record(rel, &rec, options);
	do
	{
		lr = lightning_rel(rel);
		for (uint32 i = 0; i < batch.n; i++)
			batch.w[i].store = lr.store;
	} while (!lightning_write(s, rel, &lr, batch.w, batch.n, lr.logged ? &rec : NULL, &seq));

	batch.first_rowid += batch.n;
	batch.n = 0;
	batch.used = 0;
}

void
lightning_multi_insert(Relation rel, TupleTableSlot **slots, int nslots, CommandId cid,
					   int options, struct BulkInsertStateData *bistate)
{
	LtgXid		xid = lightning_my_xid();
	uint64		rowid = lightning_take_rowids(rel, nslots);
	LightningRowBuf *buf = get_row_buf();

	check_insert_allowed(rel);
	lightning_check_temp_limit(rel, nslots);
	batch_init();
	batch.first_rowid = rowid;
	for (int i = 0; i < nslots; i++)
	{
		LightningToasted toasted;
		LtgWrite   *w;
		uint8	   *key;

		lightning_toast_values(rel, slots[i], NULL, options, &toasted);
		buf->len = 0;
		lightning_form_row(RelationGetDescr(rel), toasted.values, toasted.isnull, buf);
		lightning_toast_release(&toasted);

		if (batch.n == LIGHTNING_WAL_BATCH_ROWS ||
			(batch.n > 0 && batch.used + buf->len > LIGHTNING_WAL_BATCH_BYTES))
			batch_write(rel, options);
		w = &batch.w[batch.n];
		key = batch.keys + batch.n * LIGHTNING_KEY_LEN;
		start_put(w, xid, cid, options);
		lightning_rowid_key(key, rowid + i);
		w->key = key;
		w->v.payload = batch.bytes + BATCH_LENGTHS + batch.used;
		w->v.payload_len = buf->len;
		memcpy(batch.bytes + BATCH_LENGTHS + batch.used, buf->data, buf->len);
		batch.used += buf->len;
		batch.n++;
		note_in_slot(slots[i], rel, rowid + i, 0, xid, cid, InvalidTransactionId);
	}
	batch_write(rel, options);
	CheckForSerializableConflictIn(rel, NULL, InvalidBlockNumber);
	pgstat_count_heap_insert(rel, nslots);
}

void
lightning_finish_bulk_insert(Relation rel, int options)
{
	/* permanent tables are always logged: nothing to sync */
}

/*
 * Changing existing rows: what update and delete have in common.
 */
typedef struct RowChange
{
	Relation	rel;
	LtgSession *s;
	LtgXid		xid;
	CommandId	cid;
	Snapshot	crosscheck;
	bool		wait;
	TM_FailureData *tmfd;
	XLTW_Oper	oper;
	uint64		rowid;
	LightningRel lr;
	LightningRowLook look;
	LightningRowLockState locks;
	LightningTupleQueue queue;
} RowChange;

static void
change_start(RowChange *c, Relation rel, ItemPointer tid, CommandId cid,
			 Snapshot crosscheck, bool wait, TM_FailureData *tmfd, XLTW_Oper oper)
{
	memset(c, 0, sizeof(*c));
	c->rel = rel;
	c->s = lightning_session();
	c->xid = lightning_my_xid();
	c->cid = cid;
	c->crosscheck = crosscheck;
	c->wait = wait;
	c->tmfd = tmfd;
	c->oper = oper;
	c->rowid = lightning_tid_rowid(tid);
	c->look.rowid = c->rowid;
	c->look.tag = lightning_tid_tag(tid);
}

/* Latch the row and find its base version. */
static void
change_look(RowChange *c)
{
	uint8		key[LIGHTNING_KEY_LEN];

	CHECK_FOR_INTERRUPTS();
	lightning_rowlock_get_ready();
	c->lr = lightning_rel(c->rel);
	lightning_rowid_key(key, c->rowid);
	ltg_latch(c->s, c->lr.store, key, LIGHTNING_KEY_LEN);
	lightning_look(c->s, c->rel, c->lr.store, &c->look);
	if (!c->look.have_base)
		lightning_no_such_version(c->rel, c->rowid, c->look.tag);
}

static bool
base_visible(RowChange *c, Snapshot snapshot)
{
	LtgVersion	v = c->look.base_version;
	LtgState	fate = LTG_UNRESOLVED;

	if (c->look.base.settled)
		v.state = LTG_SETTLED;
	else if (c->look.base.committed)
		v.state = LTG_COMMITTED;
	return lightning_version_visible(&v, snapshot, &fate);
}

/*
 * May the base version be changed, taking a lock of this mode?  TM_Ok: yes, and
 * the latch is held.  Anything else: *retry says whether to look again (having
 * waited), or to return the result; the latch is not held.
 */
static TM_Result
change_decide(RowChange *c, LockTupleMode mode, bool *retry)
{
	TM_Result	result = lightning_judge_base(&c->look, c->cid);
	TransactionId xwait = InvalidTransactionId;

	*retry = false;
	if (result == TM_Invisible)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg(c->oper == XLTW_Delete ?
					   "attempted to delete invisible tuple" :
					   "attempted to update invisible tuple"));

	lightning_rowlock_probe(c->rel, c->lr.store_id, c->rowid, mode, &c->locks);
	if (result == TM_BeingModified)
		xwait = (TransactionId) c->look.next.xid;
	else if (result == TM_Ok && TransactionIdIsValid(c->locks.conflict))
	{
		result = TM_BeingModified;
		xwait = c->locks.conflict;
	}

	if (result == TM_BeingModified && c->wait)
	{
		ltg_unlatch(c->s);
		if (!c->locks.mine)
			lightning_queue_for_tuple(c->rel, c->rowid, mode, LockWaitBlock, &c->queue);
		lightning_wait_for_xact(c->rel, xwait, c->rowid, LockWaitBlock, c->oper);
		*retry = true;
		return result;
	}
	if (result == TM_Ok && c->crosscheck != InvalidSnapshot && !base_visible(c, c->crosscheck))
		result = TM_Updated;
	if (result != TM_Ok)
	{
		lightning_fill_failure(&c->look, result, c->tmfd);
		ltg_unlatch(c->s);
		lightning_leave_queue(c->rel, &c->queue);
	}
	return result;
}

static void
check_change_allowed(Relation rel, const char *verb)
{
	if (IsInParallelMode())
		ereport(ERROR,
				errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				errmsg("cannot %s tuples during a parallel operation", verb));
	lightning_rel_ready(rel, true);
}

/* After the write, with the latch released. */
static void
change_finish(RowChange *c)
{
	ItemPointerData tid;

	lightning_leave_queue(c->rel, &c->queue);
	/* readers lock versions */
	lightning_set_tid(&tid, c->rowid, c->look.base.tag);
	CheckForSerializableConflictIn(c->rel, &tid, ItemPointerGetBlockNumber(&tid));
}

/*
 * Deleting
 */
static bool
write_delete(RowChange *c, bool changing_part)
{
	LightningRecord rec;
	LtgWrite	w;
	LtgSeq		seq;

	memset(&w, 0, sizeof(w));
	w.store = c->lr.store;
	w.key = c->look.key;
	w.key_len = LIGHTNING_KEY_LEN;
	w.v.kind = LTG_DELETE;
	w.v.xid = c->xid;
	w.v.cid = c->cid;
	w.v.tag = c->look.newest_tag;
	w.v.aux = changing_part ? LTG_AUX_OTHER_PARTITION : LTG_AUX_NONE;
	if (c->lr.logged)
	{
		start_record(&rec, c->rel, XLOG_LIGHTNING_DELETE,
					 changing_part ? LIGHTNING_XLF_OTHER_PART : 0);
		lightning_record_varint(&rec, c->rowid);
		lightning_record_byte(&rec, w.v.tag);
	}
	return lightning_write(c->s, c->rel, &c->lr, &w, 1, c->lr.logged ? &rec : NULL, &seq);
}

TM_Result
lightning_tuple_delete(Relation rel, ItemPointer tid, CommandId cid, Snapshot snapshot,
					   Snapshot crosscheck, bool wait, TM_FailureData *tmfd,
					   bool changingPart)
{
	RowChange	c;
	bool		retry;

	check_change_allowed(rel, "delete");
	change_start(&c, rel, tid, cid, crosscheck, wait, tmfd, XLTW_Delete);
	for (;;)
	{
		TM_Result	result;

		change_look(&c);
		result = change_decide(&c, LockTupleExclusive, &retry);
		if (retry)
			continue;
		if (result != TM_Ok)
			return result;
		if (write_delete(&c, changingPart))
			break;
	}
	ltg_unlatch(c.s);

	if (lightning_row_has_external(c.look.base_version.payload,
								   c.look.base_version.payload_len))
	{
		TupleTableSlot *old = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsLightning);

		lightning_slot_store(old, rel, c.rowid, &c.look.base_version, false);
		lightning_toast_delete(rel, old, false);
		ExecDropSingleTupleTableSlot(old);
	}
	change_finish(&c);
	pgstat_count_heap_delete(rel);
	return TM_Ok;
}

/*
 * Updating
 */
typedef struct RowUpdate
{
	RowChange	c;
	TupleTableSlot *slot;		/* the new row */
	TupleTableSlot *old;		/* shows the base version */
	Bitmapset  *index_attrs;
	Bitmapset  *key_attrs;
	bool		index_changed;
	bool		key_changed;
	bool		as_key_change;	/* or as good as changed: see update_write */
	bool		compared;
	bool		may_toast;		/* judged from the new row alone */
	bool		formed;			/* row_buf holds the new row */
	bool		in_place;
	uint64		new_rowid;			/* if not; 0 = none taken yet */
	uint8		new_tag;
} RowUpdate;

/* Does the stored and the new value differ? Never says no wrongly. */
static bool
value_changed(Form_pg_attribute att, Datum a, bool anull, Datum b, bool bnull)
{
	if (anull != bnull)
		return true;
	if (anull)
		return false;
	if (att->attlen == -1 && !att->attbyval)
	{
		struct varlena *x = (struct varlena *) DatumGetPointer(a);
		struct varlena *y = (struct varlena *) DatumGetPointer(b);

		/* the length of the header is not part of the value */
		if (!VARATT_IS_EXTERNAL(x) && !VARATT_IS_EXTERNAL(y) &&
			VARATT_IS_COMPRESSED(x) == VARATT_IS_COMPRESSED(y))
			return VARSIZE_ANY_EXHDR(x) != VARSIZE_ANY_EXHDR(y) ||
				memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) != 0;
		if (VARATT_IS_EXTERNAL_EXPANDED(x) || VARATT_IS_EXTERNAL_EXPANDED(y))
			return true;
	}
	return !datumIsEqual(a, b, att->attbyval, att->attlen);
}

/* Which indexed columns change?  The base version never changes, so once. */
static void
compare_rows(RowUpdate *u)
{
	TupleDesc	desc = RelationGetDescr(u->c.rel);
	int			i = -1;

	while ((i = bms_next_member(u->index_attrs, i)) >= 0)
	{
		int			attnum = i + FirstLowInvalidHeapAttributeNumber;
		Datum		oldval,
					newval;
		bool		oldnull,
					newnull;

		if (attnum > 0)
		{
			oldval = slot_getattr(u->old, attnum, &oldnull);
			newval = slot_getattr(u->slot, attnum, &newnull);
			if (!value_changed(TupleDescAttr(desc, attnum - 1), oldval, oldnull, newval, newnull))
				continue;
		}
		else if (attnum == TableOidAttributeNumber)
			continue;
		u->index_changed = true;
		if (bms_is_member(i, u->key_attrs))
		{
			u->key_changed = true;
			break;
		}
	}
	u->compared = true;
}

static bool
values_may_toast(Relation rel, TupleTableSlot *slot)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (rel->rd_rel->relkind != RELKIND_RELATION && rel->rd_rel->relkind != RELKIND_MATVIEW)
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		if (!slot->tts_isnull[i] && TupleDescAttr(desc, i)->attlen == -1 &&
			VARATT_IS_EXTERNAL(DatumGetPointer(slot->tts_values[i])))
			return true;
	}
	return SizeofHeapTupleHeader +
		heap_compute_data_size(desc, slot->tts_values, slot->tts_isnull) > TOAST_TUPLE_THRESHOLD;
}

static void
update_start(RowUpdate *u, TupleTableSlot *slot)
{
	Relation	rel = u->c.rel;

	u->slot = slot;
	slot->tts_tableOid = RelationGetRelid(rel);
	slot_getallattrs(slot);
	u->index_attrs = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_ALL);
	if (u->index_attrs != NULL)
		u->key_attrs = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_KEY);
	u->may_toast = values_may_toast(rel, slot);
	u->old = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsLightning);
}

/*
 * Long values first have to be moved out of the row, which writes to other
 * relations: not under the latch.  A shield keeps the row ours meanwhile.
 */
static void
toast_and_form(RowUpdate *u)
{
	LightningToasted toasted;
	LightningRowBuf *buf;

	lightning_toast_values(u->c.rel, u->slot, u->old, 0, &toasted);
	buf = get_row_buf();
	lightning_form_row(RelationGetDescr(u->c.rel), toasted.values, toasted.isnull, buf);
	lightning_toast_release(&toasted);
	u->formed = true;
}

static bool
write_in_place(RowUpdate *u)
{
	RowChange  *c = &u->c;
	LightningRecord rec;
	LtgWrite	w;
	LtgSeq		seq;

	start_put(&w, c->xid, c->cid, 0);
	w.store = c->lr.store;
	w.key = c->look.key;
	w.v.tag = u->new_tag;
	w.v.flags = u->as_key_change ? LIGHTNING_VF_KEY_CHANGED : 0;
	w.v.payload = row_buf.data;
	w.v.payload_len = row_buf.len;
	if (c->lr.logged)
	{
		start_record(&rec, c->rel, XLOG_LIGHTNING_UPDATE,
					 u->as_key_change ? LIGHTNING_XLF_KEY_CHANGED : 0);
		lightning_record_varint(&rec, c->rowid);
		lightning_record_byte(&rec, c->look.base.tag);
		lightning_record_byte(&rec, u->new_tag);
		lightning_record_image(&rec, c->look.base_version.payload,
							   c->look.base_version.payload_len, row_buf.data, row_buf.len);
	}
	return lightning_write(c->s, c->rel, &c->lr, &w, 1, c->lr.logged ? &rec : NULL, &seq);
}

static bool
write_moved(RowUpdate *u)
{
	RowChange  *c = &u->c;
	LightningRecord rec;
	LtgWrite	w[2];
	uint8		new_key[LIGHTNING_KEY_LEN];
	LtgSeq		seq;

	/* 0 in a tombstone means that the row did not move */
	while (u->new_rowid == 0)
		u->new_rowid = lightning_take_rowid(c->rel);
	if ((c->locks.others || c->locks.mine) &&
		!lightning_rowlock_copy(c->rel, c->lr.store_id, c->rowid, u->new_rowid))
		return false;

	memset(w, 0, sizeof(w));
	w[0].store = c->lr.store;
	w[0].key = c->look.key;
	w[0].key_len = LIGHTNING_KEY_LEN;
	w[0].v.kind = LTG_DELETE;
	w[0].v.xid = c->xid;
	w[0].v.cid = c->cid;
	w[0].v.tag = c->look.newest_tag;
	w[0].v.aux = u->new_rowid;
	w[0].v.flags = u->as_key_change ? LIGHTNING_VF_KEY_CHANGED : 0;

	lightning_rowid_key(new_key, u->new_rowid);
	start_put(&w[1], c->xid, c->cid, 0);
	w[1].store = c->lr.store;
	w[1].key = new_key;
	w[1].v.payload = row_buf.data;
	w[1].v.payload_len = row_buf.len;
	if (c->lr.logged)
	{
		start_record(&rec, c->rel, XLOG_LIGHTNING_MOVE,
					 u->as_key_change ? LIGHTNING_XLF_KEY_CHANGED : 0);
		lightning_record_varint(&rec, c->rowid);
		lightning_record_byte(&rec, c->look.base.tag);
		lightning_record_byte(&rec, w[0].v.tag);
		lightning_record_varint(&rec, u->new_rowid);
		lightning_record_image(&rec, c->look.base_version.payload,
							   c->look.base_version.payload_len, row_buf.data, row_buf.len);
	}
	return lightning_write(c->s, c->rel, &c->lr, w, 2, c->lr.logged ? &rec : NULL, &seq);
}

/* The base may be replaced and the latch is held; false: start over. */
static bool
update_write(RowUpdate *u, LockTupleMode mode)
{
	RowChange  *c = &u->c;

	if (!u->formed)
	{
		if (u->may_toast || lightning_row_has_external(c->look.base_version.payload,
													   c->look.base_version.payload_len))
		{
			lightning_rowlock_shield(c->lr.store_id, c->rowid, mode);
			ltg_unlatch(c->s);
			toast_and_form(u);
			return false;
		}
		lightning_form_row(RelationGetDescr(c->rel), u->slot->tts_values,
						   u->slot->tts_isnull, get_row_buf());
		u->formed = true;
	}

	/*
	 * Whoever holds the strongest lock on the row is taken at its word, as heap
	 * does: others have to treat the update as one that changed the key.
	 */
	u->as_key_change = u->key_changed ||
		(c->locks.mine && c->locks.my_mode == LockTupleExclusive);
	u->in_place = lightning_inplace_update && !u->index_changed &&
		lightning_next_tag(c->s, c->rel, c->lr.store, &c->look, &u->new_tag);
	return u->in_place ? write_in_place(u) : write_moved(u);
}

static void
update_end(RowUpdate *u)
{
	lightning_rowlock_unshield();
	ExecDropSingleTupleTableSlot(u->old);
	bms_free(u->index_attrs);
	bms_free(u->key_attrs);
}

TM_Result
lightning_tuple_update(Relation rel, ItemPointer otid, TupleTableSlot *slot, CommandId cid,
					   Snapshot snapshot, Snapshot crosscheck, bool wait,
					   TM_FailureData *tmfd, LockTupleMode *lockmode, bool *update_indexes)
{
	RowUpdate	u;
	TM_Result	result;
	bool		retry;

	check_change_allowed(rel, "update");
	lightning_check_temp_limit(rel, 1);
	memset(&u, 0, sizeof(u));
	*update_indexes = false;
	change_start(&u.c, rel, otid, cid, crosscheck, wait, tmfd, XLTW_Update);
	update_start(&u, slot);
	for (;;)
	{
		change_look(&u.c);
		lightning_slot_store(u.old, rel, u.c.rowid, &u.c.look.base_version, false);
		if (!u.compared)
			compare_rows(&u);
		*lockmode = u.key_changed ? LockTupleExclusive : LockTupleNoKeyExclusive;
		result = change_decide(&u.c, *lockmode, &retry);
		if (retry)
			continue;
		if (result != TM_Ok)
		{
			update_end(&u);
			return result;
		}
		if (update_write(&u, *lockmode))
			break;
	}
	ltg_unlatch(u.c.s);
	change_finish(&u.c);

	note_in_slot(slot, rel, u.in_place ? u.c.rowid : u.new_rowid, u.in_place ? u.new_tag : 0,
				 u.c.xid, cid, lightning_rowlock_shown(&u.c.locks));
	*update_indexes = !u.in_place;
	pgstat_count_heap_update(rel, u.in_place);
	if (u.in_place)
		pgstat_update_heap_dead_tuples(rel, 1);	/* nothing to vacuum */
	update_end(&u);
	return TM_Ok;
}
