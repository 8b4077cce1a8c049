/*
 * writers.h
 *	  Who wrote the entries of a data block: a column of transaction ids.
 *
 * A settled row is seen by everybody, so nothing asks about its writer but a query
 * that shows it.  The column therefore stands beside the payloads: blocks stay
 * plain whoever wrote their rows, scans copy it along, and it is looked into for a
 * row whose id is asked for.  Most blocks have one writer and no column.
 *
 * In files the column stands packed behind the compressed block, if that is
 * shorter (writers_pack.c), and the block is compressed with zeros in its place:
 * ids of rows that were written one by one are noise to a compressor, and disturb
 * it in the rest.
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

/* What decides the column's form; grows entry by entry. */
typedef struct LtgWriterSums
{
	LtgXid		min, max;		/* of those that are known */
	bool		any;			/* some are known */
	bool		unknown;		/* some are not */
} LtgWriterSums;

typedef struct LtgWriterForm
{
	LtgXid		base;
	LtgXid		any;			/* that of some entry */
	uint32_t	width;			/* 0: there is no column, all have the base */
	uint64_t	bytes;
} LtgWriterForm;

extern void ltg_writers_sum(LtgWriterSums *sums, LtgXid xid);
extern LtgWriterForm ltg_writers_form(const LtgWriterSums *sums, uint32_t n);
/* The id of entry i into the column at dst. */
extern void ltg_writers_put(uint8_t *dst, const LtgWriterForm *form, uint32_t n, uint32_t i, LtgXid xid);

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

/* The place of a block's column, if it has one. */
static inline uint32_t
ltg_writers_offset(const uint8_t *b)
{
	return ltg_load32(b + LTG_BH_META) + ltg_load32(b + LTG_BH_N) * b[LTG_BH_META_WIDTH];
}

/* ---- packed, for files ---- */

/* Most that the packed column of n entries takes, and its making. */
#define LTG_WRITERS_PACKED_MAX(n) (64 + 18 * (size_t) (n))
#define LTG_WRITERS_SCRATCH(n) (2 * sizeof(uint64_t) * (size_t) (n))

/*
 * Pack a block's column.  Returns the bytes, 0 if the block's compressor will do
 * better.  REQUIRES: there is a column.
 */
extern uint32_t ltg_writers_pack(const uint8_t *b, uint64_t *scratch, uint8_t *dst);
/* Put it back; false when the bytes make no sense.  REQUIRES: ltg_writers_check(). */
extern bool ltg_writers_unpack(const uint8_t *p, uint32_t len, uint8_t *b);

#endif
