/*
 * toast.c
 *	  Long values are toasted by heap's own code into a heap TOAST relation.
 *
 * heap_toast_insert_or_update() works on HeapTuples of any relation whose
 * reltoastrelid is set.  So a HeapTuple is formed only for the rows that may
 * need it: those longer than TOAST_TUPLE_THRESHOLD, and those that bring (or
 * replace) values which live outside the row.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/toast_internals.h"
#include "utils/fmgroids.h"

#include "lightning.h"
#include "toast.h"

static bool
values_have_external(TupleDesc desc, const Datum *values, const bool *isnull)
{
	for (int i = 0; i < desc->natts; i++)
	{
		struct varlena *value;

		if (isnull[i] || TupleDescAttr(desc, i)->attlen != -1)
			continue;
		value = (struct varlena *) DatumGetPointer(values[i]);
		if (VARATT_IS_EXTERNAL(value) && !VARATT_IS_EXTERNAL_EXPANDED(value))
			return true;
	}
	return false;
}

static bool
slot_has_external(TupleTableSlot *slot)
{
	LightningSlot *lslot = (LightningSlot *) slot;

	/* a late slot goes the other way */
	if (slot->tts_ops == &TTSOpsLightning && lslot->payload != NULL)
		return lightning_row_has_external(lslot->payload, lslot->payload_len);
	slot_getallattrs(slot);
	return values_have_external(slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull);
}

void
lightning_toast_values(Relation rel, TupleTableSlot *slot, TupleTableSlot *oldslot,
					   int options, LightningToasted *out)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		external;
	HeapTuple	newtup;
	HeapTuple	oldtup = NULL;
	HeapTuple	toasted;

	slot_getallattrs(slot);
	out->values = slot->tts_values;
	out->isnull = slot->tts_isnull;
	out->owned = NULL;

	if (rel->rd_rel->relkind != RELKIND_RELATION && rel->rd_rel->relkind != RELKIND_MATVIEW)
		return;

	external = values_have_external(desc, slot->tts_values, slot->tts_isnull) ||
		(oldslot != NULL && slot_has_external(oldslot));
	if (!external &&
		SizeofHeapTupleHeader + heap_compute_data_size(desc, slot->tts_values, slot->tts_isnull) <=
		TOAST_TUPLE_THRESHOLD)
		return;

	newtup = heap_form_tuple(desc, slot->tts_values, slot->tts_isnull);
	lightning_unmark_datum(newtup);
	if (oldslot != NULL)
		oldtup = ExecCopySlotHeapTuple(oldslot);
	/*
	 * Logical decoding would keep all chunks of a transaction in memory, for rows
	 * that it never gets (logical.c).
	 */
	toasted = heap_toast_insert_or_update(rel, newtup, oldtup, options | HEAP_INSERT_NO_LOGICAL);
	if (oldtup != NULL)
		heap_freetuple(oldtup);
	if (toasted != newtup)
		heap_freetuple(newtup);

	/* one chunk: the arrays point into the tuple that is kept with them */
	out->values = palloc(desc->natts * (sizeof(Datum) + sizeof(bool)));
	out->isnull = (bool *) (out->values + desc->natts);
	heap_deform_tuple(toasted, desc, out->values, out->isnull);
	out->owned = toasted;
}

void
lightning_toast_release(LightningToasted *out)
{
	if (out->owned == NULL)
		return;
	heap_freetuple((HeapTuple) out->owned);
	pfree(out->values);
	out->owned = NULL;
}

void
lightning_toast_delete(Relation rel, TupleTableSlot *oldslot, bool is_speculative)
{
	HeapTuple	oldtup;

	if (rel->rd_rel->relkind != RELKIND_RELATION && rel->rd_rel->relkind != RELKIND_MATVIEW)
		return;
	if (!slot_has_external(oldslot))
		return;
	oldtup = ExecCopySlotHeapTuple(oldslot);
	heap_toast_delete(rel, oldtup, is_speculative);
	heap_freetuple(oldtup);
}

/* All chunks of a value, put together; NULL if that fails. */
static struct varlena *
fetch_value(const struct varlena *value)
{
	struct varatt_external pointer;
	struct varlena *result;
	SnapshotData snapshot;
	ScanKeyData key;
	Relation	toast;
	Relation   *indexes;
	int			nindexes;
	int			valid;
	SysScanDesc scan;
	HeapTuple	tuple;
	Size		size;
	Size		got = 0;

	VARATT_EXTERNAL_GET_POINTER(pointer, value);
	size = VARATT_EXTERNAL_GET_EXTSIZE(pointer);
	result = palloc(size + VARHDRSZ);
	if (VARATT_EXTERNAL_IS_COMPRESSED(pointer))
		SET_VARSIZE_COMPRESSED(result, size + VARHDRSZ);
	else
		SET_VARSIZE(result, size + VARHDRSZ);

	toast = table_open(pointer.va_toastrelid, AccessShareLock);
	valid = toast_open_indexes(toast, AccessShareLock, &indexes, &nindexes);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(pointer.va_valueid));
	init_toast_snapshot(&snapshot);
	scan = systable_beginscan_ordered(toast, indexes[valid], &snapshot, 1, &key);
	while (got < size && (tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		int32		number = DatumGetInt32(fastgetattr(tuple, 2, RelationGetDescr(toast), &isnull));
		struct varlena *chunk = (struct varlena *)
		DatumGetPointer(fastgetattr(tuple, 3, RelationGetDescr(toast), &isnull));
		Size		len = VARSIZE_ANY_EXHDR(chunk);

		if (number != got / TOAST_MAX_CHUNK_SIZE || len != Min(size - got, TOAST_MAX_CHUNK_SIZE))
			break;
		memcpy(VARDATA(result) + got, VARDATA_ANY(chunk), len);
		got += len;
	}
	systable_endscan_ordered(scan);
	toast_close_indexes(indexes, nindexes, AccessShareLock);
	table_close(toast, AccessShareLock);
	return got == size ? result : NULL;
}

bool
lightning_toast_fetch(TupleTableSlot *slot, const Bitmapset *attrs)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	bool		all = attrs == NULL ||
	bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, attrs);

	slot_getallattrs(slot);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		struct varlena *value = (struct varlena *) DatumGetPointer(slot->tts_values[i]);

		if (slot->tts_isnull[i] || att->attlen != -1 || att->attisdropped ||
			!VARATT_IS_EXTERNAL_ONDISK(value) ||
			!(all || bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, attrs)))
			continue;
		value = fetch_value(value);
		if (value == NULL)
			return false;
		slot->tts_values[i] = PointerGetDatum(value);
	}
	return true;
}
