/*
 * row.h
 *	  The encoded row, see row.c: for those who look into it.
 */
#ifndef LIGHTNING_ROW_H
#define LIGHTNING_ROW_H

#include "access/htup_details.h"
#include "ltg_port.h"

#define ROW_NATTS_MASK 0x07FF
#define ROW_HAS_NULLS 0x8000
#define ROW_HAS_EXTERNAL 0x4000	/* some attribute is a TOAST pointer */
#define ROW_HAS_VARWIDTH 0x2000
#define ROW_LOST 0x1000			/* no row: redo could not read what it was based on */
#define ROW_HEADER_SIZE 2

/* Instead of a row; no attributes. */
typedef struct LostRow
{
	uint16		header;			/* ROW_LOST */
	char		file[22];		/* where the damage was */
	uint64		offset;
} LostRow;

extern void lightning_lost_row(const LtgError *e, LostRow *row);
extern void lightning_report_lost_row(const uint8 *payload, uint32 len) pg_attribute_noreturn();

static inline uint16
row_header(const uint8 *payload)
{
	uint16		header;

	memcpy(&header, payload, sizeof(header));
	return header;
}

/* Where the attributes start. */
static inline uint32
row_hoff(uint16 header)
{
	if (header & ROW_HAS_NULLS)
		return MAXALIGN(ROW_HEADER_SIZE + BITMAPLEN(header & ROW_NATTS_MASK));
	return MAXALIGN(ROW_HEADER_SIZE);
}

extern Size lightning_row_size(TupleDesc desc, const Datum *values, const bool *isnull,
							   uint32 *hoff, bool *hasnull);
extern void lightning_fill_row(TupleDesc desc, const Datum *values, const bool *isnull,
							   uint8 *data, Size size, uint32 hoff, bool hasnull);
extern HeapTuple lightning_row_heap_tuple(const uint8 *payload, uint32 len);
extern MinimalTuple lightning_row_minimal_tuple(const uint8 *payload, uint32 len);

#endif
