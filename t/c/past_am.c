/*
 * past_am.c
 *	  What code written in C does with tables, as functions for
 *	  t/017_past_the_access_method.pl: calls that go past the table access method
 *	  to heap's own functions, and headers of tuples that come out of slots.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(past_am);
PG_FUNCTION_INFO_V1(tuple_header);

/* A row with that number in its first column, and nulls. */
static HeapTuple
form(Relation rel, int value)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Datum	   *values = palloc0(sizeof(Datum) * desc->natts);
	bool	   *isnull = palloc(sizeof(bool) * desc->natts);

	memset(isnull, true, desc->natts);
	values[0] = Int32GetDatum(value);
	isnull[0] = false;
	return heap_form_tuple(desc, values, isnull);
}

static int
by_systable(Relation rel, bool index)
{
	List	   *indexes = RelationGetIndexList(rel);
	Oid			indexid = indexes == NIL ? InvalidOid : linitial_oid(indexes);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, index ? indexid : InvalidOid, index, snapshot, 0, NULL);
	int			n = 0;

	while (HeapTupleIsValid(systable_getnext(scan)))
		n++;
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return n;
}

static int
by_heap_getnext(Relation rel)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	int			n = 0;

	while (HeapTupleIsValid(heap_getnext(scan, ForwardScanDirection)))
		n++;
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return n;
}

/* The first row's TID, as a scan gives it. */
static ItemPointerData
first_tid(Relation rel)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ItemPointerData tid;

	ItemPointerSet(&tid, 0, 1);
	if (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		tid = slot->tts_tid;
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return tid;
}

static void
by_multi_insert(Relation rel, int options)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsHeapTuple);
	BulkInsertState bistate = GetBulkInsertState();

	ExecStoreHeapTuple(form(rel, 1001), slot, false);
	heap_multi_insert(rel, &slot, 1, GetCurrentCommandId(true), options, bistate);
	FreeBulkInsertState(bistate);
	ExecDropSingleTupleTableSlot(slot);
}

static void
by_tid(Relation rel, const char *what)
{
	HeapTuple	tuple = form(rel, 1002);
	HeapTupleData old;
	ItemPointerData tid = first_tid(rel);
	Buffer		buffer = InvalidBuffer;
	TM_FailureData tmfd;

	tuple->t_self = tid;
	old.t_self = tid;
	old.t_tableOid = RelationGetRelid(rel);
	if (strcmp(what, "simple_heap_update") == 0)
		simple_heap_update(rel, &tid, tuple);
	else if (strcmp(what, "CatalogTupleUpdate") == 0)
		CatalogTupleUpdate(rel, &tid, tuple);
	else if (strcmp(what, "simple_heap_delete") == 0)
		simple_heap_delete(rel, &tid);
	else if (strcmp(what, "heap_inplace_update") == 0)
		heap_inplace_update(rel, tuple);
	else if (strcmp(what, "heap_fetch") == 0)
		heap_fetch(rel, GetActiveSnapshot(), &old, &buffer, false);
	else if (strcmp(what, "heap_lock_tuple") == 0)
		heap_lock_tuple(rel, &old, GetCurrentCommandId(true), LockTupleExclusive, LockWaitBlock,
						false, &buffer, &tmfd);
	else
		elog(ERROR, "unknown: %s", what);
}

Datum
past_am(PG_FUNCTION_ARGS)
{
	Relation	rel = table_open(PG_GETARG_OID(0), RowExclusiveLock);
	char	   *what = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int			n = 0;

	if (strcmp(what, "heap_insert") == 0)
		simple_heap_insert(rel, form(rel, 1000));
	else if (strcmp(what, "heap_insert, no FSM") == 0)
		heap_insert(rel, form(rel, 1000), GetCurrentCommandId(true), HEAP_INSERT_SKIP_FSM, NULL);
	else if (strcmp(what, "CatalogTupleInsert") == 0)
		CatalogTupleInsert(rel, form(rel, 1003));
	else if (strcmp(what, "heap_multi_insert") == 0)
		by_multi_insert(rel, 0);
	else if (strcmp(what, "heap_multi_insert, frozen") == 0)
		by_multi_insert(rel, HEAP_INSERT_FROZEN);
	else if (strcmp(what, "systable scan") == 0)
		n = by_systable(rel, false);
	else if (strcmp(what, "systable index scan") == 0)
		n = by_systable(rel, true);
	else if (strcmp(what, "heap_getnext") == 0)
		n = by_heap_getnext(rel);
	else
		by_tid(rel, what);
	table_close(rel, NoLock);
	PG_RETURN_INT32(n);
}

/* ---- headers ---- */

static char *
describe(HeapTuple tuple, Relation rel)
{
	HeapTupleHeader td = tuple->t_data;
	bool		datum = false;

#ifdef HEAP_IS_DATUM
	datum = HeapTupleHeaderIsDatum(td);
#endif
	if (datum)
		return psprintf("value, %s, %s", HeapTupleHeaderGetDatumLength(td) == tuple->t_len ? "right length" : "wrong length",
						HeapTupleHeaderGetTypeId(td) == RelationGetForm(rel)->reltype ? "right type" : "wrong type");
	if (HeapTupleHeaderGetTypeId(td) == RelationGetForm(rel)->reltype)
		return "value";
	return psprintf("row, %s, %s",
					HeapTupleHeaderGetRawXmin(td) == GetCurrentTransactionId() ? "xmin" : "no xmin",
					ItemPointerCompare(&td->t_ctid, &tuple->t_self) == 0 ? "ctid" : "no ctid");
}

/* The tuple that a slot of the table gives, after each step. */
Datum
tuple_header(PG_FUNCTION_ARGS)
{
	Relation	rel = table_open(PG_GETARG_OID(0), RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ItemPointerData tid;
	char	   *formed,
			   *materialized,
			   *inserted,
			   *inserted_materialized,
			   *fetched = "none";

	ExecForceStoreHeapTuple(form(rel, 1), slot, false);
	ExecClearTuple(slot);
	heap_deform_tuple(form(rel, 1), RelationGetDescr(rel), slot->tts_values, slot->tts_isnull);
	ExecStoreVirtualTuple(slot);
	formed = describe(ExecCopySlotHeapTuple(slot), rel);
	ExecMaterializeSlot(slot);
	materialized = describe(ExecCopySlotHeapTuple(slot), rel);
	table_tuple_insert(rel, slot, GetCurrentCommandId(true), 0, NULL);
	inserted_materialized = describe(ExecCopySlotHeapTuple(slot), rel);

	ExecClearTuple(slot);
	heap_deform_tuple(form(rel, 2), RelationGetDescr(rel), slot->tts_values, slot->tts_isnull);
	ExecStoreVirtualTuple(slot);
	table_tuple_insert(rel, slot, GetCurrentCommandId(true), 0, NULL);
	inserted = describe(ExecCopySlotHeapTuple(slot), rel);
	tid = slot->tts_tid;
	CommandCounterIncrement();
	ExecClearTuple(slot);
	if (table_tuple_fetch_row_version(rel, &tid, SnapshotAny, slot))
		fetched = describe(ExecCopySlotHeapTuple(slot), rel);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("formed: %s\nmaterialized: %s\ninserted: %s\nmaterialized, inserted: %s\nfetched: %s",
											  formed, materialized, inserted, inserted_materialized, fetched)));
}
