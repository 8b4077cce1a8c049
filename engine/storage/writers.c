/*
 * writers.c
 *	  See writers.h; FORMAT.md has the layout.
 */
#include "storage/writers.h"

/* ---- the ids of a block that is being built ---- */

void
ltg_writer_set_init(LtgWriterSet *set)
{
	memset(set->number, 0, sizeof(set->number));
	set->n = 0;
}

void
ltg_writer_set_clear(LtgWriterSet *set)
{
	/* the slots are in use from the second id on */
	if (set->n > 1)
		memset(set->number, 0, sizeof(set->number));
	set->n = 0;
}

static uint32_t
find_slot(const LtgWriterSet *set, LtgXid xid)
{
	uint32_t	i = (uint32_t) ((xid * UINT64_C(0x9E3779B97F4A7C15)) >> 40);

	for (;; i++)
	{
		uint32_t	at = i % LTG_WRITERS_SLOTS;

		if (set->number[at] == 0 || set->slot[at] == xid)
			return at;
	}
}

bool
ltg_writer_set_has(const LtgWriterSet *set, LtgXid xid)
{
	if (set->n == 0)
		return false;
	return xid == set->last || xid == set->first ||
		(set->n > 1 && set->number[find_slot(set, xid)] != 0);
}

uint32_t
ltg_writer_set_add(LtgWriterSet *set, LtgXid xid)
{
	uint32_t	at;

	if (set->n > 0 && xid == set->last)
		return set->last_number;
	set->last = xid;
	set->last_number = 0;
	if (set->n == 0)
	{
		set->first = xid;
		set->n = 1;
	}
	if (xid == set->first)
		return 0;
	at = find_slot(set, xid);
	if (set->number[at] == 0)
	{
		if (set->n > LTG_WRITERS_LISTED)
			return 0;
		set->slot[at] = xid;
		set->number[at] = (uint8_t) set->n++;
	}
	set->last_number = set->number[at];
	return set->last_number;
}

/* ---- the column's form ---- */

void
ltg_writers_sum(LtgWriterSums *sums, LtgXid xid, bool is_new)
{
	if (is_new && sums->different <= LTG_WRITERS_LISTED)
		sums->different++;
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
	uint64_t	listed;

	if (!sums->any || (!sums->unknown && sums->min == sums->max))
		return form;
	form.base--;
	form.width = ltg_width(sums->max - form.base);
	form.bytes = (uint64_t) n * form.width;
	listed = n + (uint64_t) sums->different * form.width;
	if (sums->different <= LTG_WRITERS_LISTED && listed < form.bytes)
	{
		form.listed = sums->different;
		form.bytes = listed;
	}
	return form;
}

/* Byte k of all values stands together: the upper ones are alike, mostly. */
static void
put_value(uint8_t *dst, uint32_t values, uint32_t width, uint32_t i, uint64_t value)
{
	for (uint32_t k = 0; k < width; k++)
		dst[(size_t) k * values + i] = (uint8_t) (value >> 8 * k);
}

void
ltg_writers_put(uint8_t *dst, const LtgWriterForm *form, uint32_t n, uint32_t i, LtgXid xid,
				LtgWriterSet *set)
{
	uint64_t	value = xid == 0 ? 0 : xid - form->base;
	uint32_t	number;

	if (form->listed == 0)
	{
		put_value(dst, n, form->width, i, value);
		return;
	}
	number = ltg_writer_set_add(set, xid);
	LTG_ASSERT(number < form->listed);
	dst[i] = (uint8_t) number;
	put_value(dst + n, form->listed, form->width, number, value);
}

/* ---- reading ---- */

LtgXid
ltg_span_writer(const uint8_t *b, uint32_t i)
{
	const uint8_t *p = b + ltg_load32(b + LTG_BH_META);
	size_t		values = ltg_load32(b + LTG_BH_N);
	uint64_t	value = 0;

	p += values * b[LTG_BH_META_WIDTH];
	if (b[LTG_BH_WRITERS] != 0)
	{
		uint32_t	number = p[i];

		p += values;
		values = b[LTG_BH_WRITERS];
		if (number >= values)
			return 0;
		i = number;
	}
	for (uint32_t k = 0; k < b[LTG_BH_XID_WIDTH]; k++)
		value |= (uint64_t) p[k * values + i] << 8 * k;
	return value == 0 ? 0 : ltg_load64(b + LTG_BH_XID_BASE) + value;
}

uint64_t
ltg_writers_bytes(const uint8_t *b)
{
	uint64_t	n = ltg_load32(b + LTG_BH_N);
	uint64_t	width = b[LTG_BH_XID_WIDTH];

	if ((b[LTG_BH_FLAGS] & LTG_BF_WRITERS) == 0 || width == 0)
		return 0;
	return b[LTG_BH_WRITERS] == 0 ? n * width : n + b[LTG_BH_WRITERS] * width;
}

bool
ltg_writers_check(const uint8_t *b, uint32_t end)
{
	uint8_t		flags = b[LTG_BH_FLAGS];
	uint64_t	at = ltg_load32(b + LTG_BH_META) +
		(uint64_t) ltg_load32(b + LTG_BH_N) * b[LTG_BH_META_WIDTH];

	if ((flags & LTG_BF_WRITERS) == 0 || b[LTG_BH_XID_WIDTH] == 0)
	{
		/* what is plain has no other column */
		return b[LTG_BH_WRITERS] == 0 &&
			((flags & LTG_BF_PLAIN) == 0 || b[LTG_BH_XID_WIDTH] == 0);
	}
	/* rows that are judged together have one writer */
	if ((flags & LTG_BF_PLAIN) != 0 && (flags & LTG_BF_SETTLED) == 0)
		return false;
	return b[LTG_BH_XID_WIDTH] <= 8 && at <= end && ltg_writers_bytes(b) <= end - at;
}

const char *
ltg_writers_verify(const uint8_t *b)
{
	uint32_t	n = ltg_load32(b + LTG_BH_N);
	LtgXid		base = ltg_load64(b + LTG_BH_XID_BASE);
	const uint8_t *p = b + ltg_load32(b + LTG_BH_META) + (size_t) n * b[LTG_BH_META_WIDTH];

	if (ltg_writers_bytes(b) == 0)
		return NULL;
	for (uint32_t i = 0; i < n; i++)
	{
		LtgXid		xid = ltg_span_writer(b, i);

		if (b[LTG_BH_WRITERS] != 0 && p[i] >= b[LTG_BH_WRITERS])
			return "number of a transaction lies beyond the list";
		if (xid != 0 && xid <= base)
			return "transaction id is too large";
	}
	return NULL;
}
