/*
 * slot.c
 *	  The tuple table slot class of lightning tables.
 *
 * A slot is in one of three states:
 *	 S1. empty;
 *	 S2. stored: payload points to an encoded row, attributes are decoded from
 *		 it as far as they were asked for;
 *	 S3. virtual: payload is NULL and all of tts_values are valid, put there by
 *		 the executor (slots of this class are also the source of inserts);
 *	 S4. late: payload is NULL and late is set.  A scan has put the row's TID and
 *		 transaction there; the payload is loaded when it is asked for, which
 *		 makes it a stored slot that owns its payload.
 *	 S5. While writers is set, who wrote the row is to be looked up there, in a
 *		 scan's batch; xmin is what that gave.  Whatever makes the slot outlive
 *		 the batch looks it up first.
 * A stored slot's payload belongs to a scan's batch, or to the slot itself
 * (payload == owned).  The owned buffer survives ExecClearTuple, so a fetch per
 * row costs no allocation.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/tupmacs.h"
#include "executor/tuptable.h"
#include "utils/expandeddatum.h"

#include "lightning.h"
#include "row.h"

/* Buffers over this are not kept when a slot is cleared. */
#define OWNED_KEEP (32 * 1024)

/* S4 to S2. */
static inline void
load_late(TupleTableSlot *slot)
{
	if (unlikely(((LightningSlot *) slot)->late != NULL))
		lightning_slot_load(slot);
}

/* Who wrote the row, as heap shows it (S5). */
static inline void
need_xmin(LightningSlot *ls)
{
	if (ls->writers == NULL)
		return;
	ls->xmin = lightning_shown_xid(ltg_span_writer(ls->writers, ls->entry));
	ls->writers = NULL;
}

static void
slot_init(TupleTableSlot *slot)
{
	LightningSlot *ls = (LightningSlot *) slot;

	ls->payload = NULL;
	ls->owned = NULL;
	ls->owned_size = 0;
	ls->late = NULL;
	ls->writers = NULL;
	ls->xmin = InvalidTransactionId;
}

static void
slot_release(TupleTableSlot *slot)
{
	LightningSlot *ls = (LightningSlot *) slot;

	if (ls->owned != NULL)
		pfree(ls->owned);
	ls->owned = NULL;
	ls->owned_size = 0;
}

static void
slot_clear(TupleTableSlot *slot)
{
	LightningSlot *ls = (LightningSlot *) slot;

	if (unlikely(ls->owned_size > OWNED_KEEP))
		slot_release(slot);
	ls->payload = NULL;
	ls->payload_len = 0;
	ls->late = NULL;
	ls->writers = NULL;
	ls->off = 0;
	ls->xmin = InvalidTransactionId;
	ls->xmax = InvalidTransactionId;
	ls->cid = FirstCommandId;
	slot->tts_nvalid = 0;
	slot->tts_flags |= TTS_FLAG_EMPTY;
	slot->tts_flags &= ~(TTS_FLAG_SHOULDFREE | TTS_FLAG_SLOW);
	ItemPointerSetInvalid(&slot->tts_tid);
}

/* A buffer of at least len bytes; what it held is lost unless keep is set. */
static uint8 *
own(LightningSlot *ls, uint32 len)
{
	if (ls->owned_size < len)
	{
		uint32		size = Max(len + len / 4, 128);

		if (ls->owned != NULL)
		{
			uint8	   *old = ls->owned;

			ls->owned = NULL;
			ls->owned_size = 0;
			pfree(old);
		}
		ls->owned = MemoryContextAlloc(ls->base.tts_mcxt, size);
		ls->owned_size = size;
	}
	return ls->owned;
}

/*
 * Decode attributes up to natts.  As with heap tuples, offsets of leading
 * fixed-width attributes are remembered in the descriptor (attcacheoff): rows
 * and heap tuples have the same layout, so they may share it.
 */
static void
slot_getsomeattrs_lightning(TupleTableSlot *slot, int natts)
{
	LightningSlot *ls = (LightningSlot *) slot;
	TupleDesc	desc = slot->tts_tupleDescriptor;
	Datum	   *values = slot->tts_values;
	bool	   *isnull = slot->tts_isnull;
	uint16		header;
	const bits8 *bits;
	const char *data;
	uint32		off;
	bool		slow;
	int			attnum;

	load_late(slot);
	off = ls->off;
	slow = TTS_SLOW(slot);
	attnum = slot->tts_nvalid;
	if (unlikely(ls->payload == NULL))
		elog(ERROR, "getsomeattrs is not required to be called on a virtual tuple table slot");

	header = row_header(ls->payload);
	if (unlikely(header & ROW_LOST))
		lightning_report_lost_row(ls->payload, ls->payload_len);
	natts = Min(natts, header & ROW_NATTS_MASK);
	bits = (header & ROW_HAS_NULLS) ? (const bits8 *) ls->payload + ROW_HEADER_SIZE : NULL;
	data = (const char *) ls->payload + row_hoff(header);

	for (; attnum < natts; attnum++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, attnum);

		if (bits != NULL && att_isnull(attnum, bits))
		{
			values[attnum] = (Datum) 0;
			isnull[attnum] = true;
			slow = true;
			continue;
		}
		isnull[attnum] = false;
		if (!slow && att->attcacheoff >= 0)
			off = (uint32) att->attcacheoff;
		else if (att->attlen == -1)
		{
			if (!slow && off == att_align_nominal(off, att->attalign))
				att->attcacheoff = (int32) off;
			else
			{
				off = (uint32) att_align_pointer(off, att->attalign, -1, data + off);
				slow = true;
			}
		}
		else
		{
			off = (uint32) att_align_nominal(off, att->attalign);
			if (!slow)
				att->attcacheoff = (int32) off;
		}
		values[attnum] = fetchatt(att, data + off);
		off = (uint32) att_addlength_pointer(off, att->attlen, data + off);
		if (att->attlen <= 0)
			slow = true;
	}

	slot->tts_nvalid = (AttrNumber) attnum;
	ls->off = off;
	if (slow)
		slot->tts_flags |= TTS_FLAG_SLOW;
	else
		slot->tts_flags &= ~TTS_FLAG_SLOW;
}

/* Few ask for it, and it takes another look at the row. */
static TransactionId
shown_xmax(LightningSlot *ls)
{
	if (!TransactionIdIsValid(ls->xmax))
	{
		ls->xmax = lightning_find_xmax(ls->base.tts_tableOid, &ls->base.tts_tid);
		if (!TransactionIdIsValid(ls->xmax))
			ls->xmax = LIGHTNING_XMAX_NONE;
	}
	return ls->xmax == LIGHTNING_XMAX_NONE ? InvalidTransactionId : ls->xmax;
}

static Datum
slot_getsysattr_lightning(TupleTableSlot *slot, int attnum, bool *isnull)
{
	LightningSlot *ls = (LightningSlot *) slot;

	/* a slot that the executor filled has them once it has been inserted */
	if (ls->payload == NULL && ls->late == NULL && !TransactionIdIsValid(ls->xmin))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot retrieve a system column in this context")));

	need_xmin(ls);
	*isnull = false;
	switch (attnum)
	{
		case SelfItemPointerAttributeNumber:
			return PointerGetDatum(&slot->tts_tid);
		case TableOidAttributeNumber:
			return ObjectIdGetDatum(slot->tts_tableOid);
		case MinTransactionIdAttributeNumber:
			return TransactionIdGetDatum(ls->xmin);
		case MaxTransactionIdAttributeNumber:
			return TransactionIdGetDatum(shown_xmax(ls));
		case MinCommandIdAttributeNumber:
		case MaxCommandIdAttributeNumber:
			return CommandIdGetDatum(ls->cid);
		default:
			elog(ERROR, "invalid attnum: %d", attnum);
			return (Datum) 0;
	}
}

/* The executor's values into a row of our own. */
static void
materialize_virtual(TupleTableSlot *slot)
{
	LightningSlot *ls = (LightningSlot *) slot;
	TupleDesc	desc = slot->tts_tupleDescriptor;
	uint32		hoff;
	bool		hasnull;
	Size		size = lightning_row_size(desc, slot->tts_values, slot->tts_isnull, &hoff, &hasnull);
	uint8	   *old = ls->owned;

	/* values may point into the buffer that is there: fill a new one first */
	ls->owned = NULL;
	ls->owned_size = 0;
	lightning_fill_row(desc, slot->tts_values, slot->tts_isnull, own(ls, (uint32) size),
					   size, hoff, hasnull);
	if (old != NULL)
		pfree(old);
	ls->payload = ls->owned;
	ls->payload_len = (uint32) size;
}

static void
slot_materialize(TupleTableSlot *slot)
{
	LightningSlot *ls = (LightningSlot *) slot;

	Assert(!TTS_EMPTY(slot));
	load_late(slot);
	need_xmin(ls);
	ls->copied = true;
	if (ls->payload == NULL)
		materialize_virtual(slot);
	else if (ls->payload != ls->owned)
	{
		uint8	   *copy = own(ls, ls->payload_len);

		memcpy(copy, ls->payload, ls->payload_len);
		ls->payload = copy;
	}
	else
		return;

	/* values that were decoded point to where the row was */
	slot->tts_nvalid = 0;
	slot->tts_flags &= ~TTS_FLAG_SLOW;
	ls->off = 0;
}

static void
copy_lightning(LightningSlot *dst, LightningSlot *src)
{
	uint8	   *copy = own(dst, src->payload_len);

	memcpy(copy, src->payload, src->payload_len);
	dst->payload = copy;
	dst->payload_len = src->payload_len;
	dst->base.tts_flags &= ~TTS_FLAG_EMPTY;
}

static void
slot_copyslot(TupleTableSlot *dstslot, TupleTableSlot *srcslot)
{
	LightningSlot *dst = (LightningSlot *) dstslot;
	LightningSlot *src = (LightningSlot *) srcslot;

	ExecClearTuple(dstslot);
	if (srcslot->tts_ops == &TTSOpsLightning)
	{
		load_late(srcslot);
		src->copied = true;
	}
	if (srcslot->tts_ops == &TTSOpsLightning && src->payload != NULL)
		copy_lightning(dst, src);
	else
	{
		int			natts = dstslot->tts_tupleDescriptor->natts;

		slot_getallattrs(srcslot);
		for (int i = 0; i < natts; i++)
		{
			dstslot->tts_values[i] = srcslot->tts_values[i];
			dstslot->tts_isnull[i] = srcslot->tts_isnull[i];
		}
		dstslot->tts_nvalid = (AttrNumber) natts;
		dstslot->tts_flags &= ~TTS_FLAG_EMPTY;
		slot_materialize(dstslot);
	}
	if (srcslot->tts_ops == &TTSOpsLightning)
	{
		need_xmin(src);
		dst->xmin = src->xmin;
		dst->xmax = src->xmax;
		dst->cid = src->cid;
	}
	dstslot->tts_tid = srcslot->tts_tid;
	dstslot->tts_tableOid = srcslot->tts_tableOid;
}

static HeapTuple
slot_copy_heap_tuple(TupleTableSlot *slot)
{
	LightningSlot *ls = (LightningSlot *) slot;
	TupleDesc	desc = slot->tts_tupleDescriptor;
	HeapTuple	tuple;

	Assert(!TTS_EMPTY(slot));
	load_late(slot);
	need_xmin(ls);
	ls->copied = true;
	if (ls->payload != NULL)
		tuple = lightning_row_heap_tuple(ls->payload, ls->payload_len);
	else
		tuple = heap_form_tuple(desc, slot->tts_values, slot->tts_isnull);
	tuple->t_self = slot->tts_tid;
	tuple->t_tableOid = slot->tts_tableOid;
	/* datum fields and transaction fields share their place */
	if (TransactionIdIsValid(ls->xmin))
	{
		lightning_unmark_datum(tuple);
		HeapTupleHeaderSetXmin(tuple->t_data, ls->xmin);
		HeapTupleHeaderSetCmin(tuple->t_data, ls->cid);
		HeapTupleHeaderSetXmax(tuple->t_data,
							   ls->xmax == LIGHTNING_XMAX_NONE ? InvalidTransactionId : ls->xmax);
		tuple->t_data->t_ctid = slot->tts_tid;
	}
	else if (ls->payload != NULL)
		lightning_mark_datum(tuple, desc);	/* as heap_form_tuple */
	return tuple;
}

static MinimalTuple
slot_copy_minimal_tuple(TupleTableSlot *slot)
{
	LightningSlot *ls = (LightningSlot *) slot;

	Assert(!TTS_EMPTY(slot));
	load_late(slot);
	ls->copied = true;
	if (ls->payload != NULL)
		return lightning_row_minimal_tuple(ls->payload, ls->payload_len);
	return heap_form_minimal_tuple(slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull);
}

const TupleTableSlotOps TTSOpsLightning = {
	.base_slot_size = sizeof(LightningSlot),
	.init = slot_init,
	.release = slot_release,
	.clear = slot_clear,
	.getsomeattrs = slot_getsomeattrs_lightning,
	.getsysattr = slot_getsysattr_lightning,
	.materialize = slot_materialize,
	.copyslot = slot_copyslot,

	/* rows are not heap tuples: there is none to lend out */
	.get_heap_tuple = NULL,
	.get_minimal_tuple = NULL,
	.copy_heap_tuple = slot_copy_heap_tuple,
	.copy_minimal_tuple = slot_copy_minimal_tuple
};

void
lightning_slot_store(TupleTableSlot *slot, Relation rel, uint64 rowid, const LtgVersion *v, bool copy)
{
	LightningSlot *ls = (LightningSlot *) slot;
	const uint8 *payload = v->payload;

	Assert(slot->tts_ops == &TTSOpsLightning);
	Assert(v->kind == LTG_PUT && (v->payload == NULL || v->payload_len >= ROW_HEADER_SIZE));
	/* a scan's rs_rd may be lightning_no_blocks() */
	Assert(OidIsValid(RelationGetRelid(rel)));
	if (copy)
	{
		uint8	   *mine = own(ls, v->payload_len);

		memcpy(mine, payload, v->payload_len);
		payload = mine;
	}
	ls->payload = payload;
	ls->payload_len = v->payload_len;
	ls->late = NULL;
	ls->copied = false;
	ls->off = 0;
	ls->writers = NULL;
	ls->xmin = lightning_shown_xid(v->xid);
	ls->xmax = InvalidTransactionId;
	ls->cid = v->cid;
	slot->tts_nvalid = 0;
	slot->tts_flags &= ~(TTS_FLAG_EMPTY | TTS_FLAG_SLOW);
	lightning_set_tid(&slot->tts_tid, rowid, v->tag);
	slot->tts_tableOid = RelationGetRelid(rel);
}
