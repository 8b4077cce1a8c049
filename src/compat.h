/*
 * compat.h
 *	  The only place that looks at PG_VERSION_NUM.
 */
#ifndef LIGHTNING_COMPAT_H
#define LIGHTNING_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "lightning needs PostgreSQL 15 or later"
#endif

/*
 * Whoever updates a tuple of pg_class keeps updates in place (of relfrozenxid and
 * the like) out meanwhile: a lock on the tuple, since the minor releases of
 * November 2024.
 */
#if (PG_VERSION_NUM >= 150009 && PG_VERSION_NUM < 160000) || \
	(PG_VERSION_NUM >= 160005 && PG_VERSION_NUM < 170000) || PG_VERSION_NUM >= 170001
#define LIGHTNING_HAVE_INPLACE_LOCK 1
#endif

/*
 * Tuples that are composite values say so in their header, with a version of
 * their type, since the minor releases that define HEAP_IS_DATUM.  The mark must
 * go before transaction fields are put in the same place, else these would be
 * read as length, type and version of a value.
 */
#include "access/htup_details.h"

#ifdef HEAP_IS_DATUM
#define LIGHTNING_HAVE_DATUM_MARK 1
#endif

static inline void
lightning_mark_datum(HeapTuple tuple, TupleDesc desc)
{
#ifdef LIGHTNING_HAVE_DATUM_MARK
	heap_tuple_set_datum(tuple->t_data, desc, tuple->t_len);
#else
	HeapTupleHeaderSetDatumLength(tuple->t_data, tuple->t_len);
	HeapTupleHeaderSetTypeId(tuple->t_data, desc->tdtypeid);
	HeapTupleHeaderSetTypMod(tuple->t_data, desc->tdtypmod);
	ItemPointerSetInvalid(&tuple->t_data->t_ctid);
#endif
}

static inline void
lightning_unmark_datum(HeapTuple tuple)
{
#ifdef LIGHTNING_HAVE_DATUM_MARK
	if (HeapTupleHeaderIsDatum(tuple->t_data))
		HeapTupleHeaderClearDatum(tuple->t_data);
#endif
}

#include "utils/wait_event.h"

/*
 * Before 17 an extension can't name its own wait events; LWLock tranches have
 * names of our choice, and only the name is shown.
 */
#define LIGHTNING_WAIT_EVENT(tranche) (PG_WAIT_LWLOCK | (tranche))

#endif
