/*
 * diffs.c
 *	  See diffs.h.
 *
 * Whatever the file may hold: after lay_out the payloads lie within the block,
 * behind its front, and do not overlap; everything else is read through an
 * LtgReader.
 *
 * Decoding is on the way of every cache miss.  Older payloads are copied from
 * newer ones, and only columns that differ somewhere in the block are touched.
 * Differences are subtractions, since counters then become one value.
 */
#include "storage/diffs_int.h"

#include "storage/columns.h"
#include "storage/pieces.h"
#include "storage/values.h"

/* Payloads of one length are compared byte by byte up to this length. */
#define COLUMNS_MAX LTG_STRIDE_MAX
/* Payloads of one length that differ in fewer bytes need no pieces. */
#define DIFFER_MIN 8
#define BITS(n) (((n) + 7) / 8)

typedef LtgDiffsFront Front;
typedef LtgDiffsSums Sums;

/* How an entry's payload is stored. */
typedef enum Way
{
	WAY_NONE,					/* it has none */
	WAY_WHOLE,
	WAY_COLUMNS,				/* same length as its base: differences, by columns */
	WAY_PIECES					/* pieces of its base, and what is between them */
} Way;

/* A payload with what is behind it, to the same or an earlier place. */
static inline void
copy_slot(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
	if (bytes > 128)
		memmove(to, from, bytes);
	else
		for (uint32_t i = 0; i < bytes; i += 8)
			ltg_store64(to + i, ltg_load64(from + i));
}

/* Where payloads are and how they are stored, from their lengths. */
static bool
lay_out(const Front *f, LtgDiffsEntry *e, uint32_t len, Sums *s)
{
	uint64_t	start = f->payloads;
	uint32_t	base = 0;
	uint32_t	base_len = 0;
	uint32_t	first = 0;
	bool		alike = true;

	memset(s, 0, sizeof(*s));
	for (uint32_t i = 0; i < f->n; i++)
	{
		LtgDiffsEntry *x = &e[i];

		if (!x->older)
			base = base_len = 0;
		x->start = (uint32_t) start;
		x->base = base;
		x->base_len = base_len;
		x->choice = false;
		x->way = WAY_NONE;
		if (x->len == 0)
			continue;
		if (base == 0)
		{
			x->way = WAY_WHOLE;
			first = s->whole++ == 0 ? ltg_diffs_slot(x->len) : first;
			alike &= ltg_diffs_slot(x->len) == first;
			s->whole_bytes += ltg_diffs_slot(x->len);
		}
		else if (x->len == base_len && x->len <= COLUMNS_MAX)
		{
			x->way = WAY_COLUMNS;
			x->choice = true;
			s->choices++;
			s->columns = x->len > s->columns ? x->len : s->columns;
		}
		else
		{
			x->way = WAY_PIECES;
			s->pieces++;
		}
		base = x->start;
		base_len = x->len;
		start += LTG_ALIGN8((uint64_t) x->len);
		if (start > len)
			return false;
	}
	if (alike && s->whole >= LTG_COLUMNS_ROWS_MIN && first <= LTG_STRIDE_MAX)
		s->stride = first;
	return true;
}

/* The sums that change when entries have made their choice. */
static void
add_choices(const Front *f, const LtgDiffsEntry *e, Sums *s)
{
	s->pieces = s->columns = 0;
	for (uint32_t i = 0; i < f->n; i++)
	{
		if (e[i].way == WAY_PIECES)
			s->pieces++;
		else if (e[i].way == WAY_COLUMNS && e[i].len > s->columns)
			s->columns = e[i].len;
	}
}

/* ---- payloads of one length: columns ---- */

/* Bits of columns that differ somewhere; returns what those columns take at most. */
static uint32_t
differing_columns(const uint8_t *block, const Front *f, const LtgDiffsEntry *e, const Sums *s,
				  uint8_t *bits)
{
	uint8_t		any[COLUMNS_MAX] = {0};	/* bits that differ */
	uint32_t	rows[COLUMNS_MAX + 1] = {0};	/* by length */
	uint32_t	bytes = 0;
	uint32_t	longer = 0;

	for (uint32_t i = 0; i < f->n; i++)
	{
		const uint8_t *a = block + e[i].start;
		const uint8_t *b = block + e[i].base;

		if (e[i].way != WAY_COLUMNS)
			continue;
		rows[e[i].len]++;
		for (uint32_t c = 0; c < ltg_diffs_slot(e[i].len); c += 8)
			ltg_store64(any + c, ltg_load64(any + c) | (ltg_load64(a + c) ^ ltg_load64(b + c)));
	}
	memset(bits, 0, BITS(COLUMNS_MAX));
	for (uint32_t c = s->columns; c-- > 0;)
	{
		longer += rows[c + 1];
		if (any[c] != 0)
		{
			bits[c / 8] |= (uint8_t) (1 << c % 8);
			bytes += longer + 1;
		}
	}
	return bytes;
}

static uint8_t *
put_columns(uint8_t *dst, const uint8_t *block, const Front *f, const LtgDiffsEntry *e,
			const Sums *s, uint8_t *scratch)
{
	uint8_t		bits[BITS(COLUMNS_MAX)];

	if (s->columns == 0)
		return dst;
	(void) differing_columns(block, f, e, s, bits);
	memcpy(dst, bits, BITS(s->columns));
	dst += BITS(s->columns);
	for (uint32_t c = 0; c < s->columns; c++)
	{
		uint32_t	rows = 0;

		if ((bits[c / 8] >> c % 8 & 1) == 0)
			continue;
		for (uint32_t i = 0; i < f->n; i++)
			if (e[i].len > c && e[i].way == WAY_COLUMNS)
				scratch[rows++] = (uint8_t) (block[e[i].start + c] - block[e[i].base + c]);
		dst = ltg_values_put(dst, scratch, rows);
	}
	return dst;
}

/* The columns that are stored, and where the next byte of each is. */
typedef struct Columns
{
	uint32_t	n;
	uint16_t	column[COLUMNS_MAX];
	const uint8_t *next[COLUMNS_MAX];
} Columns;

/* scratch: for them all. */
static bool
get_columns(LtgReader *r, const Front *f, const LtgDiffsEntry *e, const Sums *s, uint8_t *scratch,
			Columns *cs)
{
	const uint8_t *bits = ltg_read_bytes(r, BITS(s->columns));
	uint32_t	rows[COLUMNS_MAX + 1];	/* that have column c */

	cs->n = 0;
	if (bits == NULL)
		return false;
	memset(rows, 0, (s->columns + 1) * sizeof(rows[0]));
	for (uint32_t i = 0; i < f->n; i++)
		if (e[i].way == WAY_COLUMNS)
			rows[e[i].len - 1]++;
	for (uint32_t c = s->columns; c-- > 0;)
		rows[c] += rows[c + 1];
	for (uint32_t c = 0; c < s->columns; c++)
	{
		if ((bits[c / 8] >> c % 8 & 1) == 0)
			continue;
		if (!ltg_values_get(r, rows[c], scratch))
			return false;
		cs->column[cs->n] = (uint16_t) c;
		cs->next[cs->n++] = scratch;
		scratch += rows[c];
	}
	return true;
}

/* ---- payloads of other lengths: pieces of their bases ---- */

/*
 * Payloads that have one length by accident, with bytes that have moved, would
 * make every column differ: pieces for them.
 */
static void
choose_pieces(const uint8_t *block, const Front *f, LtgDiffsEntry *e)
{
	for (uint32_t i = 0; i < f->n; i++)
	{
		LtgSteps	s = {0};
		uint32_t	differ = 0;

		if (!e[i].choice)
			continue;
		for (uint32_t c = 0; c < ltg_diffs_slot(e[i].len); c += 8)
		{
			uint64_t	x = ltg_load64(block + e[i].start + c) ^ ltg_load64(block + e[i].base + c);

			for (; x != 0; x >>= 8)
				differ += (x & 0xFF) != 0;
		}
		if (differ < DIFFER_MIN)
			continue;
		ltg_pieces_put(&s, block + e[i].base, e[i].base_len, block + e[i].start, e[i].len);
		if (s.step_bytes + s.own_bytes < differ)
			e[i].way = WAY_PIECES;
	}
}

/* A bit for each that has the choice, in whole bytes. */
static uint8_t *
put_choices(uint8_t *dst, const Front *f, const LtgDiffsEntry *e, const Sums *s)
{
	uint32_t	k = 0;

	memset(dst, 0, BITS(s->choices));
	for (uint32_t i = 0; i < f->n; i++)
		if (e[i].choice)
		{
			dst[k / 8] |= (uint8_t) ((e[i].way == WAY_PIECES) << k % 8);
			k++;
		}
	return dst + BITS(s->choices);
}

static bool
get_choices(LtgReader *r, const Front *f, LtgDiffsEntry *e, Sums *s)
{
	const uint8_t *bits = ltg_read_bytes(r, BITS(s->choices));
	uint32_t	any = 0;
	uint32_t	k = 0;

	if (bits == NULL)
		return false;
	for (uint32_t i = 0; i < BITS(s->choices); i++)
		any |= bits[i];
	if (any == 0)
		return true;
	for (uint32_t i = 0; i < f->n; i++)
		if (e[i].choice)
		{
			if ((bits[k / 8] >> k % 8 & 1) != 0)
				e[i].way = WAY_PIECES;
			k++;
		}
	add_choices(f, e, s);
	return true;
}

static void
put_pieces(const uint8_t *block, const Front *f, const LtgDiffsEntry *e, LtgSteps *s)
{
	for (uint32_t i = 0; i < f->n; i++)
		if (e[i].way == WAY_PIECES)
			ltg_pieces_put(s, block + e[i].base, e[i].base_len, block + e[i].start, e[i].len);
}

/* What the pieces of the block take. */
static uint64_t
count_pieces(const uint8_t *block, const Front *f, const LtgDiffsEntry *e)
{
	LtgSteps	s = {0};

	put_pieces(block, f, e, &s);
	return s.step_bytes == 0 ? 0 : 4 + s.step_bytes + s.own_bytes;
}

static uint8_t *
put_steps(uint8_t *dst, const uint8_t *block, const Front *f, const LtgDiffsEntry *e, const Sums *sums)
{
	LtgSteps	count = {0};
	LtgSteps	s = {.steps = dst + 4};

	if (sums->pieces == 0)
		return dst;
	put_pieces(block, f, e, &count);
	ltg_store32(dst, (uint32_t) count.step_bytes);
	s.bytes = s.steps + count.step_bytes;
	put_pieces(block, f, e, &s);
	return s.bytes + s.own_bytes;
}

/* ---- blocks ---- */

uint32_t
ltg_diffs_entries(const uint8_t *block, uint32_t have, uint32_t len)
{
	Front		f;

	return ltg_diffs_read_front(block, have, len, &f) ? f.n : 0;
}

bool
ltg_diffs_prepare(const uint8_t *block, uint32_t len, LtgDiffsEntry *e, LtgDiffs *d)
{
	Front	   *f = &d->front;
	Sums	   *s = &d->sums;
	uint8_t		bits[BITS(COLUMNS_MAX)];
	uint64_t	size;

	if (!ltg_diffs_look_at_front(block, len, f, e) || !lay_out(f, e, len, s))
		return false;
	choose_pieces(block, f, e);
	add_choices(f, e, s);
	size = (uint64_t) f->payloads + f->meta_width + f->writer_columns + f->head_width + f->pay_width + 1 +
		s->whole_bytes + BITS(s->choices) + count_pieces(block, f, e);
	if (s->columns > 0)
		size += BITS(s->columns) + differing_columns(block, f, e, s, bits);
	d->most = (uint32_t) size;
	return size < len;
}

uint32_t
ltg_diffs_pack(const uint8_t *block, const LtgDiffs *d, const LtgDiffsEntry *e, uint32_t stride,
			   uint8_t *scratch, uint8_t *dst)
{
	const Front *f = &d->front;
	const Sums *s = &d->sums;
	uint8_t    *p = ltg_diffs_put_front(dst, block, f, e, scratch);
	uint8_t    *whole = stride != 0 ? scratch : p;

	for (uint32_t i = 0; i < f->n; i++)
		if (e[i].way == WAY_WHOLE)
		{
			memcpy(whole, block + e[i].start, ltg_diffs_slot(e[i].len));
			whole += ltg_diffs_slot(e[i].len);
		}
	if (stride != 0)
		ltg_columns_pack_rows(scratch, s->whole_bytes, stride, p);
	p += s->whole_bytes + ltg_columns_extra(stride);
	p = put_choices(p, f, e, s);
	p = put_columns(p, block, f, e, s, scratch);
	p = put_steps(p, block, f, e, s);
	return (uint32_t) (p - dst);
}

/*
 * All payloads.  `whole` may lie at the end of dst: what is written never
 * overtakes it, since each whole payload that is still to come has its place.
 */
static bool
unpack_payloads(LtgReader *r, const uint8_t *whole, const Front *f, LtgDiffsEntry *e,
				const Sums *s, uint8_t *scratch, uint8_t *dst)
{
	Columns		cs;
	LtgReader	steps = ltg_reader(dst, 0);

	cs.n = 0;
	if (s->columns > 0 && !get_columns(r, f, e, s, scratch, &cs))
		return false;
	if (s->pieces > 0)
	{
		uint32_t	len = ltg_read_u32(r);
		const uint8_t *p = ltg_read_bytes(r, len);

		if (p == NULL)
			return false;
		steps = ltg_reader(p, len);
	}
	for (uint32_t i = 0; i < f->n; i++)
	{
		const LtgDiffsEntry *x = &e[i];
		uint8_t    *to = dst + x->start;
		const uint8_t *base = dst + x->base;

		switch (x->way)
		{
			case WAY_NONE:
				break;
			case WAY_WHOLE:
				copy_slot(to, whole, ltg_diffs_slot(x->len));
				whole += ltg_diffs_slot(x->len);
				break;
			case WAY_COLUMNS:
				copy_slot(to, base, ltg_diffs_slot(x->len));
				for (uint32_t k = 0; k < cs.n && cs.column[k] < x->len; k++)
					to[cs.column[k]] = (uint8_t) (to[cs.column[k]] + *cs.next[k]++);
				break;
			case WAY_PIECES:
				if (!ltg_pieces_get(&steps, r, base, x->base_len, to, x->len))
					return false;
				memset(to + x->len, 0, ltg_diffs_slot(x->len) - x->len);
				break;
		}
	}
	return ltg_reader_left(&steps) == 0 && ltg_reader_left(r) == 0;
}

bool
ltg_diffs_unpack(uint8_t *packed, uint32_t packed_len, uint32_t stride, LtgDiffsEntry *e,
				 uint8_t *scratch, uint8_t *dst, uint32_t len)
{
	LtgReader	r = ltg_reader(packed, packed_len);
	Front		f;
	Sums		s;
	uint32_t	end;			/* of the last payload */
	uint8_t    *rows;
	const uint8_t *whole;

	if (!ltg_diffs_read_front(packed, packed_len, len, &f) ||
		!ltg_diffs_get_front(&r, dst, &f, e, scratch) || !lay_out(&f, e, len, &s) ||
		(stride != 0 && stride != s.stride))
		return false;
	end = e[f.n - 1].start + ltg_diffs_slot(e[f.n - 1].len);
	memset(dst + end, 0, len - end);
	whole = ltg_read_bytes(&r, (size_t) ltg_columns_extra(stride) + s.whole_bytes);
	if (whole == NULL || !get_choices(&r, &f, e, &s))
		return false;
	if (stride != 0)
	{
		rows = dst + end - s.whole_bytes;
		ltg_columns_unpack_rows(packed + (whole - packed), s.whole_bytes, stride, rows);
		whole = rows;
	}
	return unpack_payloads(&r, whole, &f, e, &s, scratch, dst);
}
