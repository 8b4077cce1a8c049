/*
 * row.c
 *	  Rows as the engine's payloads.
 *
 * Layout
 *	 OFFSET	 SIZE  DESCRIPTION
 *	 0		 2	   number of attributes (low 11 bits) and ROW_* flags
 *	 2		 n	   null bitmap, one bit per attribute, set = not null;
 *				   present only with ROW_HAS_NULLS
 *	 hoff	 ...   the attributes as heap_fill_tuple lays them out; hoff is the
 *				   end of the above rounded up to MAXALIGN
 * Payloads start at 8-byte boundaries in memory, so attributes are aligned and
 * by-reference ones can be pointed to.  A LostRow stands for a row that redo could
 * not compute: looking into it is an error, deleting it is none.  Attributes beyond the stored number
 * are those that were added to the table later (getmissingattr).
 */
#include "postgres.h"

#include "access/htup_details.h"

#include "lightning.h"
#include "row.h"
#include "toast.h"

/*
 * Rows are toasted down to about 2 kB first, so only rows with very many
 * columns, or without a TOAST table, come near this.
 */
#define LIGHTNING_ROW_MAX (64 * 1024)

StaticAssertDecl(LIGHTNING_ROW_MAX < LTG_PAYLOAD_MAX, "rows fit the engine's payloads");
StaticAssertDecl(MaxTupleAttributeNumber <= ROW_NATTS_MASK, "attribute count fits the header");

bool
lightning_row_has_external(const uint8 *payload, uint32 len)
{
	return len >= ROW_HEADER_SIZE && (row_header(payload) & ROW_HAS_EXTERNAL) != 0;
}

void
lightning_lost_row(const LtgError *e, LostRow *row)
{
	memset(row, 0, sizeof(*row));
	row->header = ROW_LOST;
	strlcpy(row->file, e->file, sizeof(row->file));
	row->offset = e->offset;
}

void
lightning_report_lost_row(const uint8 *payload, uint32 len)
{
	LostRow		row;

	memset(&row, 0, sizeof(row));
	memcpy(&row, payload, Min(len, sizeof(row)));
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("a lightning row was lost when the log was replayed"),
			 errdetail("The version it was based on was in damaged file \"%s/%.*s\", offset %llu.",
					   LIGHTNING_DIR, (int) sizeof(row.file), row.file, (unsigned long long) row.offset),
			 errhint("Restore from a backup, or delete the row.")));
}

static void
reserve(LightningRowBuf *buf, Size need)
{
	if (buf->cap >= need)
		return;
	need = Max(need, (Size) 256);
	need = Max(need, (Size) buf->cap * 2);
	if (buf->data == NULL)
		buf->data = palloc(need);
	else
		buf->data = repalloc(buf->data, need);
	buf->cap = (uint32) need;
}

/* Size of the encoded row; *hoff and *hasnull for lightning_fill_row. */
Size
lightning_row_size(TupleDesc desc, const Datum *values, const bool *isnull,
				   uint32 *hoff, bool *hasnull)
{
	*hasnull = false;
	for (int i = 0; i < desc->natts; i++)
	{
		if (isnull[i])
		{
			*hasnull = true;
			break;
		}
	}
	*hoff = MAXALIGN(ROW_HEADER_SIZE + (*hasnull ? BITMAPLEN(desc->natts) : 0));
	return *hoff + heap_compute_data_size(desc, unconstify(Datum *, values),
										  unconstify(bool *, isnull));
}

void
lightning_fill_row(TupleDesc desc, const Datum *values, const bool *isnull,
				   uint8 *data, Size size, uint32 hoff, bool hasnull)
{
	uint16		infomask = 0;
	uint16		header = (uint16) desc->natts;

	/* padding is zero: it compresses to nothing and compares equal */
	memset(data, 0, size);
	heap_fill_tuple(desc, unconstify(Datum *, values), unconstify(bool *, isnull),
					(char *) data + hoff, size - hoff, &infomask,
					hasnull ? data + ROW_HEADER_SIZE : NULL);
	if (hasnull)
		header |= ROW_HAS_NULLS;
	if (infomask & HEAP_HASEXTERNAL)
		header |= ROW_HAS_EXTERNAL;
	if (infomask & HEAP_HASVARWIDTH)
		header |= ROW_HAS_VARWIDTH;
	memcpy(data, &header, sizeof(header));
}

void
lightning_form_row(TupleDesc desc, const Datum *values, const bool *isnull, LightningRowBuf *buf)
{
	uint32		hoff;
	bool		hasnull;
	Size		size = lightning_row_size(desc, values, isnull, &hoff, &hasnull);

	if (size > LIGHTNING_ROW_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("row is too big: size %zu, maximum size %zu",
						size, (Size) LIGHTNING_ROW_MAX)));
	reserve(buf, size);
	lightning_fill_row(desc, values, isnull, buf->data, size, hoff, hasnull);
	buf->len = (uint32) size;
}

/*
 * An encoded row as the attribute part of a heap tuple: both lay attributes
 * out alike, so one copy does.
 */
static void
parts_of(const uint8 *payload, uint32 len, uint16 *header, int *natts, const uint8 **bits,
		 const uint8 **data, uint32 *data_len)
{
	uint32		hoff;

	*header = row_header(payload);
	if (unlikely(*header & ROW_LOST))
		lightning_report_lost_row(payload, len);
	*natts = *header & ROW_NATTS_MASK;
	*bits = (*header & ROW_HAS_NULLS) ? payload + ROW_HEADER_SIZE : NULL;
	hoff = row_hoff(*header);
	*data = payload + hoff;
	*data_len = len - hoff;
}

static uint16
infomask_of(uint16 header)
{
	uint16		infomask = 0;

	if (header & ROW_HAS_NULLS)
		infomask |= HEAP_HASNULL;
	if (header & ROW_HAS_EXTERNAL)
		infomask |= HEAP_HASEXTERNAL;
	if (header & ROW_HAS_VARWIDTH)
		infomask |= HEAP_HASVARWIDTH;
	return infomask;
}

/* Whether it is a composite value or a table's row is for the caller to say. */
HeapTuple
lightning_row_heap_tuple(const uint8 *payload, uint32 len)
{
	uint16		header;
	int			natts;
	const uint8 *bits;
	const uint8 *data;
	uint32		data_len;
	Size		hoff;
	HeapTuple	tuple;
	HeapTupleHeader td;

	parts_of(payload, len, &header, &natts, &bits, &data, &data_len);
	hoff = MAXALIGN(SizeofHeapTupleHeader + (bits != NULL ? BITMAPLEN(natts) : 0));
	tuple = (HeapTuple) palloc0(HEAPTUPLESIZE + hoff + data_len);
	tuple->t_data = td = (HeapTupleHeader) ((char *) tuple + HEAPTUPLESIZE);
	tuple->t_len = (uint32) (hoff + data_len);
	ItemPointerSetInvalid(&tuple->t_self);
	tuple->t_tableOid = InvalidOid;
	ItemPointerSetInvalid(&td->t_ctid);
	HeapTupleHeaderSetNatts(td, natts);
	td->t_hoff = (uint8) hoff;
	td->t_infomask = infomask_of(header);
	if (bits != NULL)
		memcpy(td->t_bits, bits, BITMAPLEN(natts));
	memcpy((char *) td + hoff, data, data_len);
	return tuple;
}

MinimalTuple
lightning_row_minimal_tuple(const uint8 *payload, uint32 len)
{
	uint16		header;
	int			natts;
	const uint8 *bits;
	const uint8 *data;
	uint32		data_len;
	Size		hoff;
	MinimalTuple tuple;

	parts_of(payload, len, &header, &natts, &bits, &data, &data_len);
	hoff = MAXALIGN(SizeofMinimalTupleHeader + (bits != NULL ? BITMAPLEN(natts) : 0));
	tuple = (MinimalTuple) palloc0(hoff + data_len);
	tuple->t_len = (uint32) (hoff + data_len);
	HeapTupleHeaderSetNatts(tuple, natts);
	tuple->t_hoff = (uint8) (hoff + MINIMAL_TUPLE_OFFSET);
	tuple->t_infomask = infomask_of(header);
	if (bits != NULL)
		memcpy(tuple->t_bits, bits, BITMAPLEN(natts));
	memcpy((char *) tuple + hoff, data, data_len);
	return tuple;
}
