/*
 * writers.h
 *	  Who wrote the entries of a data block: a column of transaction ids.
 *
 * A settled row is seen by everybody, so nothing asks about its writer but a query
 * that shows it.  The column therefore stands beside the payloads: blocks stay
 * plain whoever wrote their rows, scans copy it along, and it is looked into for a
 * row whose id is asked for.  Most blocks have one writer and no column.
 *
 * Invariants
 *	 W1. Entries that are not settled have their writer's id; settled rows have
 *		 it, or 0 when it is not known (files of format versions before 4).
 *	 W2. Settled tombstones have none.
 *	 W3. Reading stays within the block whatever the column's bytes are, given
 *		 that ltg_writers_check() accepts it.
 */
#ifndef LTG_WRITERS_H
#define LTG_WRITERS_H

#include "base/span.h"
#include "storage/format.h"

#define LTG_WRITERS_LISTED 255	/* most that a list has */
#define LTG_WRITERS_SLOTS 512

/* The different ids of a block's entries, numbered as they come. */
typedef struct LtgWriterSet
{
	uint32_t	n;				/* LTG_WRITERS_LISTED + 1: too many to be listed */
	LtgXid		last;
	uint32_t	last_number;
	LtgXid		first;			/* in no slot: most blocks have no other */
	LtgXid		slot[LTG_WRITERS_SLOTS];	/* open hash */
	uint8_t		number[LTG_WRITERS_SLOTS];	/* 0: the slot is free */
} LtgWriterSet;

/* What decides the column's form; grows entry by entry. */
typedef struct LtgWriterSums
{
	LtgXid		min, max;		/* of those that are known */
	uint32_t	different;		/* as LtgWriterSet.n */
	bool		any;			/* some are known */
	bool		unknown;		/* some are not */
} LtgWriterSums;

typedef struct LtgWriterForm
{
	LtgXid		base;
	LtgXid		any;			/* that of some entry */
	uint32_t	width;			/* 0: there is no column, all have the base */
	uint32_t	listed;			/* ids in the list; 0: each entry has its own */
	uint64_t	bytes;
} LtgWriterForm;

extern void ltg_writer_set_init(LtgWriterSet *set);
extern void ltg_writer_set_clear(LtgWriterSet *set);
/* Is the id there? */
extern bool ltg_writer_set_has(const LtgWriterSet *set, LtgXid xid);
/* Its number; nothing of use once there are too many. */
extern uint32_t ltg_writer_set_add(LtgWriterSet *set, LtgXid xid);

extern void ltg_writers_sum(LtgWriterSums *sums, LtgXid xid, bool is_new);
extern LtgWriterForm ltg_writers_form(const LtgWriterSums *sums, uint32_t n);
/* The id of entry i into the column at dst.  set: empty before the first entry. */
extern void ltg_writers_put(uint8_t *dst, const LtgWriterForm *form, uint32_t n, uint32_t i,
							LtgXid xid, LtgWriterSet *set);

/* Bytes of a block's column, from its header. */
extern uint64_t ltg_writers_bytes(const uint8_t *b);
/* Is what the header says of the column possible?  end: it lies before this. */
extern bool ltg_writers_check(const uint8_t *b, uint32_t end);
/* Its bytes; names the problem, or NULL. */
extern const char *ltg_writers_verify(const uint8_t *b);

/* The id of an entry of a block that has LTG_BF_WRITERS, or is plain. */
static inline LtgXid
ltg_writers_get(const uint8_t *b, uint32_t i)
{
	if (LTG_LIKELY(b[LTG_BH_XID_WIDTH] == 0))
		return ltg_load64(b + LTG_BH_XID_BASE);
	return ltg_span_writer(b, i);
}

#endif
