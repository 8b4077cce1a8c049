/*
 * diffs_front.c
 *	  See diffs_int.h.
 *
 * The block's front says which entries have the key of the entry before them.
 * Whatever the file may hold: after ltg_diffs_read_front the front's parts lie
 * within the block and do not overlap, and everything else is read through an
 * LtgReader.
 */
#include "storage/diffs_int.h"

#include "storage/block.h"
#include "storage/format.h"
#include "storage/values.h"

/* Blocks of more entries (of one key, mostly) keep their form. */
#define ENTRIES_MAX (1024 * 1024)

typedef LtgDiffsFront Front;

static uint32_t
load_index(const uint8_t *p, uint32_t width, uint32_t i)
{
	return width == 2 ? ltg_load16(p + 2 * (size_t) i) : ltg_load32(p + 4 * (size_t) i);
}

/* May tails be compared? */
static bool
tails_ok(const uint8_t *b, const Front *f)
{
	uint32_t	width = b[LTG_BH_TAIL_WIDTH];
	uint32_t	room = f->payloads - ltg_load32(b + LTG_BH_TAILS);
	const uint8_t *index = b + ltg_load32(b + LTG_BH_TAIL_INDEX);
	uint32_t	last = 0;

	for (uint32_t i = 0; width != 0 && i <= f->n; i++)
	{
		uint32_t	end = load_index(index, width, i);

		if (end < last || end > room)
			return false;
		last = end;
	}
	return true;
}

/* Do tails lie between the arrays and the payloads? */
static bool
tails_fit(const uint8_t *b, const Front *f)
{
	uint32_t	width = b[LTG_BH_TAIL_WIDTH];
	uint64_t	index = ltg_load32(b + LTG_BH_TAIL_INDEX);
	uint64_t	tails = ltg_load32(b + LTG_BH_TAILS);
	uint64_t	n = f->n;

	if (width == 0)
		return tails >= f->arrays_end && tails + n * ltg_load16(b + LTG_BH_TAIL_LEN) <= f->payloads;
	return index >= f->arrays_end && index + (n + 1) * width <= f->payloads &&
		tails >= f->arrays_end && tails <= f->payloads;
}

/*
 * False where the form is not for this block, or makes no sense.  Looks at the
 * header only.  What follows it stands in the order in which blocks are built.
 */
bool
ltg_diffs_read_front(const uint8_t *b, uint32_t have, uint32_t len, Front *f)
{
	uint64_t	at;

	if (have < LTG_BH_BYTES || !ltg_block_check(b, len, LTG_BLOCK_DATA) ||
		(b[LTG_BH_FLAGS] & (LTG_BF_DENSE | LTG_BF_UNIQUE)) != 0)
		return false;
	f->n = ltg_load32(b + LTG_BH_N);
	f->first_head = ltg_load64(b + LTG_BH_FIRST_HEAD);
	f->heads = ltg_load32(b + LTG_BH_HEADS);
	f->head_width = b[LTG_BH_HEAD_WIDTH];
	f->tags = ltg_load32(b + LTG_BH_TAGS);
	f->meta = ltg_load32(b + LTG_BH_META);
	f->meta_width = b[LTG_BH_META_WIDTH];
	f->pay_index = ltg_load32(b + LTG_BH_PAY_INDEX);
	f->pay_width = b[LTG_BH_PAY_WIDTH];
	f->pay_len = ltg_load32(b + LTG_BH_PAY_LEN);
	f->payloads = ltg_load32(b + LTG_BH_PAYLOADS);
	f->tails = b[LTG_BH_TAIL_WIDTH] != 0 || ltg_load16(b + LTG_BH_TAIL_LEN) != 0;
	if (f->n > ENTRIES_MAX || f->n > len / 8 || f->payloads > len)
		return false;
	at = LTG_BH_BYTES + (uint64_t) ltg_load16(b + LTG_BH_PREFIX_LEN);
	if (f->meta != at)
		return false;
	at += (uint64_t) f->n * f->meta_width;
	f->writers = (uint32_t) at;
	f->writer_columns = ltg_writers_bytes(b) != 0 ? b[LTG_BH_XID_WIDTH] : 0;
	at += ltg_writers_bytes(b);
	if (f->tags != 0 && f->tags != at)
		return false;
	at += f->tags != 0 ? f->n : 0;
	if (f->heads != at)
		return false;
	at += (uint64_t) f->n * f->head_width;
	if (f->pay_index != at)
		return false;
	at += (uint64_t) f->n * f->pay_width;
	f->arrays_end = (uint32_t) at;
	return at <= f->payloads && (!f->tails || tails_fit(b, f));
}

/*
 * Which entries are older, and the order in which the front's arrays have them:
 * what is alike stands together, since versions of keys that have only one are
 * settled, mostly, as are older ones.  b has its heads.
 */
static void
order_entries(const uint8_t *b, const Front *f, LtgDiffsEntry *e)
{
	/* may begin before the heads, in the header */
	const uint8_t *last = b + f->heads + f->head_width - 8;
	uint64_t	mask = f->head_width == 0 ? 0 : UINT64_MAX >> (64 - 8 * f->head_width);
	uint64_t	before = 0;
	uint32_t	keys = 0;		/* with older versions */
	uint32_t	older = 0;
	uint32_t	at[3];			/* of the next one of each sort */

	for (uint32_t i = 0; i < f->n; i++)
	{
		uint64_t	head = ltg_load_be64(last + (size_t) i * f->head_width) & mask;

		e[i].older = i > 0 && head == before && (!f->tails || ltg_block_same_key(b, i - 1, i));
		before = head;
		older += e[i].older;
		keys += e[i].older && !e[i - 1].older;
	}
	at[0] = 0;
	at[1] = keys;
	at[2] = keys + older;
	for (uint32_t i = 0; i < f->n; i++)
	{
		bool		alone = !e[i].older && (i + 1 == f->n || !e[i + 1].older);

		e[at[e[i].older ? 1 : alone ? 2 : 0]++].order = i;
	}
}

bool
ltg_diffs_look_at_front(const uint8_t *block, uint32_t len, Front *f, LtgDiffsEntry *e)
{
	if (!ltg_diffs_read_front(block, len, len, f) || (f->tails && !tails_ok(block, f)))
		return false;
	order_entries(block, f, e);
	for (uint32_t i = 0, before = 0; i < f->n; i++)
	{
		uint32_t	end = f->pay_width == 0 ? 0 : load_index(block + f->pay_index, f->pay_width, i);

		e[i].len = f->pay_width == 0 ? f->pay_len : end - ltg_diffs_slot(before);
		before = end;
	}
	return true;
}

/* ---- arrays ---- */

/* Records of `width` bytes: byte 0 of all, byte 1 of all, ..., in order. */
static uint8_t *
put_records(uint8_t *dst, const uint8_t *src, uint32_t width, const Front *f,
			const LtgDiffsEntry *e, uint8_t *scratch)
{
	for (uint32_t c = 0; c < width; c++)
	{
		for (uint32_t k = 0; k < f->n; k++)
			scratch[k] = src[(size_t) e[k].order * width + c];
		dst = ltg_values_put(dst, scratch, f->n);
	}
	return dst;
}

static bool
get_records(LtgReader *r, uint8_t *dst, uint32_t width, const Front *f, const LtgDiffsEntry *e,
			uint8_t *scratch)
{
	for (uint32_t c = 0; c < width; c++)
	{
		if (!ltg_values_get(r, f->n, scratch))
			return false;
		for (uint32_t k = 0; k < f->n; k++)
			dst[(size_t) e[k].order * width + c] = scratch[k];
	}
	return true;
}

/* The column of writers: its bytes are columns already. */
static uint8_t *
put_writers(uint8_t *dst, const uint8_t *b, const Front *f, const LtgDiffsEntry *e, uint8_t *scratch)
{
	for (uint32_t c = 0; c < f->writer_columns; c++)
		dst = put_records(dst, b + f->writers + (size_t) c * f->n, 1, f, e, scratch);
	return dst;
}

static bool
get_writers(LtgReader *r, uint8_t *dst, const Front *f, const LtgDiffsEntry *e, uint8_t *scratch)
{
	for (uint32_t c = 0; c < f->writer_columns; c++)
		if (!get_records(r, dst + f->writers + (size_t) c * f->n, 1, f, e, scratch))
			return false;
	return true;
}

/* Heads become differences to the ones before them, the first one to the header's. */
static uint8_t *
put_heads(uint8_t *dst, const uint8_t *b, const Front *f, uint8_t *scratch)
{
	uint64_t	before = f->first_head;
	const uint8_t *src = b + f->heads;

	for (uint32_t i = 0; i < f->n; i++)
	{
		uint64_t	head = 0;

		for (uint32_t c = 0; c < f->head_width; c++)
			head = head << 8 | *src++;
		for (uint32_t c = 0; c < f->head_width; c++)
			scratch[(size_t) c * f->n + i] = (uint8_t) ((head - before) >> 8 * c);
		before = head;
	}
	for (uint32_t c = 0; c < f->head_width; c++)
		dst = ltg_values_put(dst, scratch + (size_t) c * f->n, f->n);
	return dst;
}

/* Inlined, where the width is known. */
static inline __attribute__((always_inline)) void
add_heads(const uint8_t *src, uint32_t n, uint32_t width, uint64_t head, uint8_t *dst)
{
	for (uint32_t i = 0; i < n; i++, dst += width)
	{
		for (uint32_t c = 0; c < width; c++)
			head += (uint64_t) src[(size_t) c * n + i] << 8 * c;
		for (uint32_t c = 0; c < width; c++)
			dst[c] = (uint8_t) (head >> 8 * (width - 1 - c));
	}
}

static bool
get_heads(LtgReader *r, uint8_t *dst, const Front *f, uint8_t *scratch)
{
	for (uint32_t c = 0; c < f->head_width; c++)
		if (!ltg_values_get(r, f->n, scratch + (size_t) c * f->n))
			return false;
	dst += f->heads;
	switch (f->head_width)
	{
		case 1:
			add_heads(scratch, f->n, 1, f->first_head, dst);
			break;
		case 2:
			add_heads(scratch, f->n, 2, f->first_head, dst);
			break;
		default:
			add_heads(scratch, f->n, f->head_width, f->first_head, dst);
			break;
	}
	return true;
}

/* Ends of payloads become lengths, those of older ones less the next newer's. */
static uint8_t *
put_lengths(uint8_t *dst, const Front *f, const LtgDiffsEntry *e, uint8_t *scratch)
{
	for (uint32_t c = 0; c < f->pay_width; c++)
	{
		for (uint32_t k = 0; k < f->n; k++)
		{
			const LtgDiffsEntry *x = &e[e[k].order];

			scratch[k] = (uint8_t) ((x->len - (x->older ? x[-1].len : 0)) >> 8 * c);
		}
		dst = ltg_values_put(dst, scratch, f->n);
	}
	return dst;
}

static bool
get_lengths(LtgReader *r, uint8_t *dst, const Front *f, LtgDiffsEntry *e, uint8_t *scratch)
{
	const size_t n = f->n;
	uint64_t	end = 0;

	for (uint32_t c = 0; c < f->pay_width; c++)
		if (!ltg_values_get(r, f->n, scratch + c * n))
			return false;
	for (uint32_t k = 0; k < n; k++)
	{
		LtgDiffsEntry *x = &e[e[k].order];
		uint32_t	v = x->older ? x[-1].len : 0;

		for (uint32_t c = 0; c < f->pay_width; c++)
			v += (uint32_t) scratch[c * n + k] << 8 * c;
		x->len = f->pay_width == 0 ? f->pay_len : f->pay_width == 2 ? (uint16_t) v : v;
	}
	for (uint32_t i = 0; i < n && f->pay_width != 0; i++)
	{
		uint8_t    *p = dst + f->pay_index + i * f->pay_width;

		end = LTG_ALIGN8(end) + e[i].len;
		if (end > (f->pay_width == 2 ? UINT16_MAX : UINT32_MAX))
			return false;
		if (f->pay_width == 2)
			ltg_store16(p, (uint16_t) end);
		else
			ltg_store32(p, (uint32_t) end);
	}
	return true;
}

uint8_t *
ltg_diffs_put_front(uint8_t *dst, const uint8_t *b, const Front *f, const LtgDiffsEntry *e,
					uint8_t *scratch)
{
	memcpy(dst, b, f->meta);
	dst += f->meta;
	memcpy(dst, b + f->arrays_end, f->payloads - f->arrays_end);
	dst += f->payloads - f->arrays_end;
	dst = put_heads(dst, b, f, scratch);
	dst = put_records(dst, b + f->meta, f->meta_width, f, e, scratch);
	dst = put_writers(dst, b, f, e, scratch);
	if (f->tags != 0)
		dst = put_records(dst, b + f->tags, 1, f, e, scratch);
	return put_lengths(dst, f, e, scratch);
}

bool
ltg_diffs_get_front(LtgReader *r, uint8_t *dst, const Front *f, LtgDiffsEntry *e, uint8_t *scratch)
{
	const uint8_t *begin = ltg_read_bytes(r, f->meta);
	const uint8_t *end = ltg_read_bytes(r, f->payloads - f->arrays_end);

	if (begin == NULL || end == NULL)
		return false;
	memcpy(dst, begin, f->meta);
	memcpy(dst + f->arrays_end, end, f->payloads - f->arrays_end);
	if ((f->tails && !tails_ok(dst, f)) || !get_heads(r, dst, f, scratch))
		return false;
	order_entries(dst, f, e);
	return get_records(r, dst + f->meta, f->meta_width, f, e, scratch) &&
		get_writers(r, dst, f, e, scratch) &&
		(f->tags == 0 || get_records(r, dst + f->tags, 1, f, e, scratch)) &&
		get_lengths(r, dst, f, e, scratch);
}
