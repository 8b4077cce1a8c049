/*
 * verify_index.c
 *	  Do a table's rows and the entries of its indexes agree?
 *
 * All entries of an index are collected and sorted by row id, and then compared
 * with the rows that a snapshot sees, which was taken before: the index has been
 * valid by then, a row that the snapshot sees had all its entries, and as long as
 * the snapshot is held no VACUUM takes them away.  So each such row that belongs in
 * the index must have an entry (I1).
 *
 * The columns that an index uses never change under a row id: an update that
 * changes one of them moves the row.  So the entry, where the access method can show
 * what is in it (btree), must hold what the row holds (I2), and a row that a
 * partial index has an entry of must belong in it (I3).
 *
 * An entry of a row that the snapshot does not see proves nothing: the row may be
 * dead and not vacuumed, of an insertion that was rolled back, or new.  But its row
 * id must have been handed out (I4).
 *
 * Not looked at: indexes that are invalid or not ready, BRIN, which has no entries of
 * rows, and hash indexes, which can't be scanned as a whole.
 */
#include "postgres.h"

#include "access/amapi.h"
#include "access/genam.h"
#include "access/relscan.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/tidbitmap.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"

#include "scan.h"
#include "verify.h"

/*
 * An entry as it is sorted: row id and what it holds in one number, whose highest bit
 * is turned around since the sort takes it for a signed one.
 */
#define HASH_BITS 24
#define HASH_MASK ((1 << HASH_BITS) - 1)
#define SIGN (UINT64CONST(1) << 63)

/* Of entries that are not shown; of those that a lossy bitmap may or may not have. */
#define HASH_UNKNOWN 0
#define HASH_PERHAPS 1
#define HASH_MIN 2

typedef struct IndexCheck
{
	Relation	rel;
	Relation	index;
	LightningProblems *problems;
	Snapshot	snapshot;
	IndexInfo  *info;
	bool		shown;			/* entries can be compared */
	bool		compare[INDEX_MAX_KEYS];	/* column by column */

	Tuplesortstate *sort;
	bool		more;			/* there is an entry at hand: */
	uint64		rowid;
	uint32		hash;

	EState	   *estate;
	ExprState  *predicate;
	TupleTableSlot *slot;
} IndexCheck;

/* ---- entries ---- */

/* What an entry holds, or would hold, as a number. */
static uint32
hash_values(IndexCheck *c, const Datum *values, const bool *isnull)
{
	TupleDesc	desc = RelationGetDescr(c->index);
	uint32		hash = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		uint32		h = 1;

		if (!c->compare[i])
			continue;
		if (!isnull[i])
			h = datum_image_hash(values[i], att->attbyval, att->attlen);
		hash = hash_combine(hash, h);
	}
	return Max(hash & HASH_MASK, HASH_MIN);
}

static void
add_entry(IndexCheck *c, uint64 rowid, uint32 hash)
{
	tuplesort_putdatum(c->sort, Int64GetDatum((int64) ((rowid << HASH_BITS | hash) ^ SIGN)), false);
}

static void
next_entry(IndexCheck *c)
{
	Datum		value;
	Datum		abbrev;
	bool		isnull;

	c->more = tuplesort_getdatum(c->sort, true, &value, &isnull, &abbrev);
	if (c->more)
	{
		uint64		v = (uint64) DatumGetInt64(value) ^ SIGN;

		c->rowid = v >> HASH_BITS;
		c->hash = v & HASH_MASK;
	}
}

static void
add_tid(IndexCheck *c, const ItemPointerData *tid, uint32 hash)
{
	if (lightning_tid_valid(tid) && lightning_tid_tag(tid) == 0)
		add_entry(c, lightning_tid_rowid(tid), hash);
	else
		lightning_problem(c->problems, "index \"%s\": entry of (%u,%u), which is no row id",
						  RelationGetRelationName(c->index), ItemPointerGetBlockNumberNoCheck(tid),
						  ItemPointerGetOffsetNumberNoCheck(tid));
}

static void
collect_by_scan(IndexCheck *c)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "lightning check",
											  ALLOCSET_DEFAULT_SIZES);
	IndexScanDesc scan = index_beginscan(c->rel, c->index, c->snapshot, 0, 0);
	ItemPointer tid;

	scan->xs_want_itup = c->shown;
	index_rescan(scan, NULL, 0, NULL, 0);
	while ((tid = index_getnext_tid(scan, ForwardScanDirection)) != NULL)
	{
		uint32		hash = HASH_UNKNOWN;

		CHECK_FOR_INTERRUPTS();
		if (c->shown)
		{
			Datum		values[INDEX_MAX_KEYS];
			bool		isnull[INDEX_MAX_KEYS];
			MemoryContext old = MemoryContextSwitchTo(cxt);

			index_deform_tuple(scan->xs_itup, scan->xs_itupdesc, values, isnull);
			hash = hash_values(c, values, isnull);
			MemoryContextSwitchTo(old);
			MemoryContextReset(cxt);
		}
		add_tid(c, tid, hash);
	}
	index_endscan(scan);
	MemoryContextDelete(cxt);
}

static void
collect_by_bitmap(IndexCheck *c)
{
	TIDBitmap  *bitmap = tbm_create(maintenance_work_mem * 1024L, NULL);
	IndexScanDesc scan = index_beginscan_bitmap(c->index, c->snapshot, 0);
	TBMIterator *iterator;
	TBMIterateResult *page;

	index_rescan(scan, NULL, 0, NULL, 0);
	(void) index_getbitmap(scan, bitmap);
	index_endscan(scan);
	iterator = tbm_begin_iterate(bitmap);
	while ((page = tbm_iterate(iterator)) != NULL)
	{
		ItemPointerData tid;

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < page->ntuples; i++)
		{
			ItemPointerSet(&tid, page->blockno, page->offsets[i]);
			add_tid(c, &tid, HASH_UNKNOWN);
		}
		for (int i = 0; page->ntuples < 0 && i < LIGHTNING_BLOCK_ROWS; i++)
			add_entry(c, (uint64) page->blockno << 8 | i, HASH_PERHAPS);
	}
	tbm_end_iterate(iterator);
	tbm_free(bitmap);
}

/* ---- rows ---- */

static void
row_problem(IndexCheck *c, uint64 rowid, const char *what)
{
	lightning_problem(c->problems, "index \"%s\": row (%u,%u) of table \"%s\" %s",
					  RelationGetRelationName(c->index), (BlockNumber) (rowid >> 8),
					  (OffsetNumber) ((rowid & 255) + 1), RelationGetRelationName(c->rel), what);
}

/* The entry at hand is of a row that the snapshot does not see: I4. */
static void
check_other_entry(IndexCheck *c)
{
	if (c->hash != HASH_PERHAPS && c->rowid >= ltg_store_next_rowid(lightning_rel(c->rel).store))
		row_problem(c, c->rowid, "has an entry, but was never inserted");
}

/* The row in the slot: I1 to I3.  Goes past its entries. */
static void
check_row(IndexCheck *c)
{
	uint64		rowid = lightning_tid_rowid(&c->slot->tts_tid);
	ExprContext *econtext = GetPerTupleExprContext(c->estate);
	MemoryContext old;
	bool		belongs;
	bool		any = false,
				same = false;
	uint32		hash = HASH_UNKNOWN;

	MemoryContextReset(econtext->ecxt_per_tuple_memory);
	old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	econtext->ecxt_scantuple = c->slot;
	belongs = ExecQual(c->predicate, econtext);
	if (belongs && c->shown)
	{
		Datum		values[INDEX_MAX_KEYS];
		bool		isnull[INDEX_MAX_KEYS];

		FormIndexDatum(c->info, c->slot, c->estate, values, isnull);
		hash = hash_values(c, values, isnull);
	}
	MemoryContextSwitchTo(old);

	for (; c->more && c->rowid <= rowid; next_entry(c))
	{
		if (c->rowid < rowid)
		{
			check_other_entry(c);
			continue;
		}
		any |= belongs || c->hash != HASH_PERHAPS;
		same |= !c->shown || c->hash == hash;
	}
	if (belongs && !any)
		row_problem(c, rowid, "has no entry");
	else if (belongs && !same)
		row_problem(c, rowid, "has an entry with other values than its own");
	else if (!belongs && any)
		row_problem(c, rowid, "has an entry, but does not satisfy the predicate");
}

static void
check_rows(IndexCheck *c)
{
	TableScanDesc scan = table_beginscan_strat(c->rel, c->snapshot, 0, NULL, true, false);

	next_entry(c);
	while (table_scan_getnextslot(scan, ForwardScanDirection, c->slot))
	{
		CHECK_FOR_INTERRUPTS();
		check_row(c);
	}
	for (; c->more; next_entry(c))
		check_other_entry(c);
	table_endscan(scan);
}

/* ---- one index ---- */

/*
 * Composite values, which carry more than what they mean, are not compared; nor is
 * what is made of them.
 */
static bool
comparable(Oid type)
{
	Oid			part;

	type = getBaseType(type);
	if (OidIsValid(part = get_element_type(type)) || OidIsValid(part = get_range_subtype(type)) ||
		OidIsValid(part = get_multirange_range(type)))
		return comparable(part);
	return !type_is_rowtype(type);
}

static bool
can_check(Relation index)
{
	Form_pg_index form = index->rd_index;

	return form->indisvalid && form->indisready && form->indislive &&
		index->rd_rel->relam != BRIN_AM_OID && index->rd_indam->amoptionalkey &&
		(index->rd_indam->amgettuple != NULL || index->rd_indam->amgetbitmap != NULL);
}

static void
check_index(Relation rel, Relation index, LightningProblems *problems)
{
	IndexCheck	c = {.rel = rel,.index = index,.problems = problems};
	TupleDesc	desc = RelationGetDescr(index);

	c.shown = index->rd_rel->relam == BTREE_AM_OID;
	for (int i = 0; i < desc->natts; i++)
		c.compare[i] = comparable(TupleDescAttr(desc, i)->atttypid);
	c.info = BuildIndexInfo(index);
	c.snapshot = RegisterSnapshot(GetLatestSnapshot());
	c.sort = tuplesort_begin_datum(INT8OID, Int8LessOperator, InvalidOid, false,
								   maintenance_work_mem, NULL, TUPLESORT_NONE);
	if (index->rd_indam->amgettuple != NULL)
		collect_by_scan(&c);
	else
		collect_by_bitmap(&c);
	tuplesort_performsort(c.sort);

	c.estate = CreateExecutorState();
	c.predicate = ExecPrepareQual(c.info->ii_Predicate, c.estate);
	c.slot = table_slot_create(rel, NULL);
	check_rows(&c);
	ExecDropSingleTupleTableSlot(c.slot);
	FreeExecutorState(c.estate);
	tuplesort_end(c.sort);
	UnregisterSnapshot(c.snapshot);
}

/* Expressions are evaluated as the owner, and restricted, as when an index is built. */
void
lightning_check_indexes(Relation rel, LightningProblems *p)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "lightning check",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Oid			user;
	int			sec_context;
	int			nest_level = NewGUCNestLevel();

	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(rel->rd_rel->relowner, sec_context | SECURITY_RESTRICTED_OPERATION);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (can_check(index))
			check_index(rel, index, p);
		index_close(index, AccessShareLock);
		MemoryContextReset(cxt);
	}
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user, sec_context);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	list_free(indexes);
}
