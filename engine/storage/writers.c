/*
 * writers.c
 *	  See writers.h; FORMAT.md has the layout.
 */
#include "storage/writers.h"

void
ltg_writers_sum(LtgWriterSums *sums, LtgXid xid)
{
	if (xid == 0)
	{
		sums->unknown = true;
		return;
	}
	if (!sums->any || xid < sums->min)
		sums->min = xid;
	if (!sums->any || xid > sums->max)
		sums->max = xid;
	sums->any = true;
}

/*
 * A value is the id less the base, 0 for one that is not known.  Without a column
 * the base is the id.
 */
LtgWriterForm
ltg_writers_form(const LtgWriterSums *sums, uint32_t n)
{
	LtgWriterForm form = {.base = sums->any ? sums->min : 0, .any = sums->min};

	if (!sums->any || (!sums->unknown && sums->min == sums->max))
		return form;
	form.base--;
	form.width = ltg_width(sums->max - form.base);
	form.bytes = (uint64_t) n * form.width;
	return form;
}

/* Byte k of all values stands together: the upper ones are alike, mostly. */
void
ltg_writers_put(uint8_t *dst, const LtgWriterForm *form, uint32_t n, uint32_t i, LtgXid xid)
{
	uint64_t	value = xid == 0 ? 0 : xid - form->base;

	for (uint32_t k = 0; k < form->width; k++)
		dst[(size_t) k * n + i] = (uint8_t) (value >> 8 * k);
}

/* ---- reading ---- */

LtgXid
ltg_span_writer(const uint8_t *b, uint32_t i)
{
	const uint8_t *p = b + ltg_writers_offset(b);
	size_t		n = ltg_load32(b + LTG_BH_N);
	uint64_t	value = 0;

	for (uint32_t k = 0; k < b[LTG_BH_XID_WIDTH]; k++)
		value |= (uint64_t) p[k * n + i] << 8 * k;
	return value == 0 ? 0 : ltg_load64(b + LTG_BH_XID_BASE) + value;
}

uint64_t
ltg_writers_bytes(const uint8_t *b)
{
	if ((b[LTG_BH_FLAGS] & LTG_BF_WRITERS) == 0)
		return 0;
	return (uint64_t) ltg_load32(b + LTG_BH_N) * b[LTG_BH_XID_WIDTH];
}

bool
ltg_writers_check(const uint8_t *b, uint32_t end)
{
	uint8_t		flags = b[LTG_BH_FLAGS];
	uint64_t	at = ltg_load32(b + LTG_BH_META) +
		(uint64_t) ltg_load32(b + LTG_BH_N) * b[LTG_BH_META_WIDTH];

	/* what is plain has no other column */
	if ((flags & LTG_BF_WRITERS) == 0 || b[LTG_BH_XID_WIDTH] == 0)
		return (flags & LTG_BF_PLAIN) == 0 || b[LTG_BH_XID_WIDTH] == 0;
	/* rows that are judged together have one writer */
	if ((flags & LTG_BF_PLAIN) != 0 && (flags & LTG_BF_SETTLED) == 0)
		return false;
	return b[LTG_BH_XID_WIDTH] <= 8 && at <= end && ltg_writers_bytes(b) <= end - at;
}

const char *
ltg_writers_verify(const uint8_t *b)
{
	LtgXid		base = ltg_load64(b + LTG_BH_XID_BASE);

	if (ltg_writers_bytes(b) == 0)
		return NULL;
	for (uint32_t i = 0; i < ltg_load32(b + LTG_BH_N); i++)
	{
		LtgXid		xid = ltg_span_writer(b, i);

		if (xid != 0 && xid <= base)
			return "transaction id is too large";
	}
	return NULL;
}
