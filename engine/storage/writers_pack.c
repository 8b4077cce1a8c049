/*
 * writers_pack.c
 *	  The column of writers as files have it; FORMAT.md has the layout.
 *
 * Most entries of a block have one writer: the load's.  The others are named by
 * the distances between them, and have a value each, of as many bits as their
 * range needs, or the number of one in a list, where they share writers.
 *
 * A row that was written alone costs the bits of the range of such rows' ids, and
 * what its place costs: together about what there is to know of it.
 */
#include "storage/writers.h"

#include "base/coding.h"

/* What stands before the bits. */
typedef struct Head
{
	uint64_t	usual;			/* value of most entries */
	uint64_t	least;			/* of the others */
	uint32_t	others;			/* how many there are */
	uint32_t	listed;			/* values in the list, 0: there is none */
	uint32_t	gap_bits;		/* lower ones of a distance; the rest is a row of ones */
	uint32_t	bits;			/* of a value less the least, 0..64 */
} Head;

static uint32_t
bits_of(uint64_t v)
{
	return v == 0 ? 0 : 64 - (uint32_t) __builtin_clzll(v);
}

static uint64_t
value_at(const uint8_t *column, uint32_t n, uint32_t width, uint32_t i)
{
	uint64_t	v = 0;

	for (uint32_t k = 0; k < width; k++)
		v |= (uint64_t) column[(size_t) k * n + i] << 8 * k;
	return v;
}

/* ---- packing ---- */

/* v has the values, other as much room: sorts them, byte by byte; returns where they are. */
static uint64_t *
sort_values(uint64_t *v, uint64_t *other, uint32_t n, uint32_t width)
{
	for (uint32_t k = 0; k < width; k++)
	{
		uint32_t	at[256] = {0};
		uint32_t	sum = 0;
		uint64_t   *swap = v;

		for (uint32_t i = 0; i < n; i++)
			at[v[i] >> 8 * k & 0xFF]++;
		for (uint32_t c = 0; c < 256; c++)
		{
			uint32_t	count = at[c];

			at[c] = sum;
			sum += count;
		}
		for (uint32_t i = 0; i < n; i++)
			other[at[v[i] >> 8 * k & 0xFF]++] = v[i];
		v = other;
		other = swap;
	}
	return v;
}

/* Values sorted become those of the others, each once, for the list; returns the head. */
static Head
look_at(uint64_t *v, uint32_t n)
{
	Head		h = {0};
	uint32_t	most = 0;
	uint32_t	run = 0;
	uint32_t	different = 0;

	for (uint32_t i = 0; i < n; i++)
	{
		run = i > 0 && v[i] == v[i - 1] ? run + 1 : 1;
		if (run > most)
		{
			most = run;
			h.usual = v[i];
		}
	}
	h.others = n - most;
	for (uint32_t i = 0; i < n; i++)
		if (v[i] != h.usual && (different == 0 || v[i] != v[different - 1]))
			v[different++] = v[i];
	if (different > 0)
	{
		h.least = v[0];
		h.bits = bits_of(v[different - 1] - v[0]);
		if ((uint64_t) different * h.bits + (uint64_t) h.others * bits_of(different - 1) <
			(uint64_t) h.others * h.bits)
			h.listed = different;
	}
	/* where gaps are g on average, the best is about log2(g) */
	while (h.others > 0 && (uint64_t) h.others << (h.gap_bits + 1) < n - h.others)
		h.gap_bits++;
	return h;
}

static void
put_bits(uint8_t *p, uint64_t *at, uint64_t v, uint32_t bits)
{
	while (bits > 0)
	{
		uint32_t	shift = (uint32_t) (*at % 8);
		uint32_t	take = bits < 8 - shift ? bits : 8 - shift;

		p[*at / 8] |= (uint8_t) ((v & ((1u << take) - 1)) << shift);
		v >>= take;
		bits -= take;
		*at += take;
	}
}

static uint32_t
find_listed(const uint64_t *list, uint32_t n, uint64_t v)
{
	uint32_t	lo = 0;

	while (n > 1)
	{
		if (list[lo + n / 2] <= v)
			lo += n / 2;
		n -= n / 2;
	}
	return lo;
}

/*
 * What a compressor would make of the column: where it changes, each byte of it costs
 * a copy's description, or the byte.
 */
static uint64_t
compressed_guess(const uint8_t *column, uint32_t n, uint32_t width)
{
	uint32_t	changes = 1;

	for (uint32_t i = 1; i < n; i++)
		changes += value_at(column, n, width, i) != value_at(column, n, width, i - 1);
	return (changes < n / 4 ? 4 * changes : n) * (uint64_t) width;
}

uint32_t
ltg_writers_pack(const uint8_t *b, uint64_t *scratch, uint8_t *dst)
{
	uint32_t	n = ltg_load32(b + LTG_BH_N);
	uint32_t	width = b[LTG_BH_XID_WIDTH];
	const uint8_t *column = b + ltg_writers_offset(b);
	uint64_t   *list;
	Head		h;
	uint8_t    *p = dst;
	uint64_t	at = 0;
	uint32_t	gap = 0;

	for (uint32_t i = 0; i < n; i++)
		scratch[i] = value_at(column, n, width, i);
	list = sort_values(scratch, scratch + n, n, width);
	h = look_at(list, n);
	p = ltg_put_varint(p, h.usual);
	p = ltg_put_varint(p, h.least);
	p = ltg_put_varint(p, h.others);
	p = ltg_put_varint(p, h.listed);
	*p++ = (uint8_t) h.gap_bits;
	*p++ = (uint8_t) h.bits;
	memset(p, 0, LTG_WRITERS_PACKED_MAX(n) - (size_t) (p - dst));
	for (uint32_t i = 0; i < h.listed; i++)
		put_bits(p, &at, list[i] - h.least, h.bits);
	for (uint32_t i = 0; i < n; i++, gap++)
	{
		uint64_t	v = value_at(column, n, width, i);

		if (v == h.usual)
			continue;
		for (uint32_t k = gap >> h.gap_bits; k > 0; k--)
			put_bits(p, &at, 1, 1);
		put_bits(p, &at, 0, 1);
		put_bits(p, &at, gap, h.gap_bits);
		if (h.listed != 0)
			put_bits(p, &at, find_listed(list, h.listed, v), bits_of(h.listed - 1));
		else
			put_bits(p, &at, v - h.least, h.bits);
		gap = UINT32_MAX;		/* 0 at the next entry */
	}
	p += (at + 7) / 8;
	return (uint64_t) (p - dst) < compressed_guess(column, n, width) ? (uint32_t) (p - dst) : 0;
}

/* ---- unpacking ---- */

typedef struct Bits
{
	const uint8_t *p;
	uint64_t	at, end;
} Bits;

/* At most 32 bits from the place.  Beyond the end: zeros. */
static inline uint64_t
peek_bits(const Bits *r, uint64_t at, uint32_t bits)
{
	uint64_t	word = 0;

	if (LTG_LIKELY(at + 64 <= r->end))
		word = ltg_load64(r->p + at / 8);
	else
		for (uint32_t k = 0; k < 5 && at / 8 + k < r->end / 8; k++)
			word |= (uint64_t) r->p[at / 8 + k] << 8 * k;
	return word >> at % 8 & ((UINT64_C(1) << bits) - 1);
}

static inline uint64_t
bits_at(const Bits *r, uint64_t at, uint32_t bits)
{
	if (bits <= 32)
		return peek_bits(r, at, bits);
	return peek_bits(r, at, 32) | peek_bits(r, at + 32, bits - 32) << 32;
}

static inline uint64_t
get_bits(Bits *r, uint32_t bits)
{
	uint64_t	v = bits_at(r, r->at, bits);

	r->at += bits;
	return v;
}

/* Entries that have the usual value up to the next that has not; more than n: damage. */
static inline uint64_t
get_gap(Bits *r, uint32_t gap_bits, uint32_t n)
{
	uint64_t	ones = 0;
	uint64_t	word;

	while ((word = peek_bits(r, r->at, 32)) == UINT32_MAX && ones <= n)
	{
		ones += 32;
		r->at += 32;
	}
	word = (uint64_t) __builtin_ctzll(~word);
	ones += word;
	r->at += word + 1;
	return (ones << gap_bits) + get_bits(r, gap_bits);
}

static bool
get_head(LtgReader *r, uint32_t n, Head *h)
{
	uint64_t	others, listed;
	const uint8_t *widths;

	h->usual = ltg_read_varint(r);
	h->least = ltg_read_varint(r);
	others = ltg_read_varint(r);
	listed = ltg_read_varint(r);
	widths = ltg_read_bytes(r, 2);
	if (widths == NULL || !ltg_reader_ok(r) || others >= n || listed > others ||
		widths[0] > 31 || widths[1] > 64)
		return false;
	h->others = (uint32_t) others;
	h->listed = (uint32_t) listed;
	h->gap_bits = widths[0];
	h->bits = widths[1];
	return true;
}

bool
ltg_writers_unpack(const uint8_t *p, uint32_t len, uint8_t *b)
{
	uint32_t	n = ltg_load32(b + LTG_BH_N);
	uint32_t	width = b[LTG_BH_XID_WIDTH];
	uint8_t    *column = b + ltg_writers_offset(b);
	LtgReader	r = ltg_reader(p, len);
	uint64_t	i = 0;
	uint32_t	number_bits;
	Head		h;
	Bits		in;

	if (ltg_writers_bytes(b) == 0 || !get_head(&r, n, &h))
		return false;
	number_bits = h.listed == 0 ? 0 : bits_of(h.listed - 1);
	in = (Bits) {r.p, (uint64_t) h.listed * h.bits, 8 * (uint64_t) (r.end - r.p)};
	for (uint32_t k = 0; k < width; k++)
		memset(column + (size_t) k * n, (uint8_t) (h.usual >> 8 * k), n);
	for (uint32_t e = 0; e < h.others; e++, i++)
	{
		uint64_t	v = h.least;

		i += get_gap(&in, h.gap_bits, n);
		if (i >= n)
			return false;
		if (h.listed == 0)
			v += get_bits(&in, h.bits);
		else
		{
			uint64_t	number = get_bits(&in, number_bits);

			if (number >= h.listed)
				return false;
			v += bits_at(&in, number * h.bits, h.bits);
		}
		for (uint32_t k = 0; k < width; k++)
			column[(size_t) k * n + i] = (uint8_t) (v >> 8 * k);
	}
	return in.at <= in.end;
}
