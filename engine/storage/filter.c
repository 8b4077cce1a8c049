/*
 * filter.c
 *	  Blocked Bloom filter, and the hash of keys.
 *
 * With 10 bits per key and 6 probes in a line of 512 bits about 1 % of absent
 * keys pass.  The line follows from the upper bits of the hash (by nested
 * multiplication, so that any number of blocks and lines is filled evenly), the
 * bits from its lower half, which is independent of them.
 */
#include "storage/filter.h"

#include "base/coding.h"
#include "storage/run.h"

/* ---- hash ---- */

/* Odd constants with half of the bits set, no structure meant. */
#define HASH_A UINT64_C(0x9E6C63D0876A9A47)
#define HASH_B UINT64_C(0xC2B2AE3D27D4EB4F)
#define HASH_C UINT64_C(0xA5CB9243F0AEF993)

/* Both halves of the product, folded: every input bit reaches the result. */
static inline uint64_t
fold(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128) a * b;

	return (uint64_t) m ^ (uint64_t) (m >> 64);
}

uint64_t
ltg_key_hash(const uint8_t *key, uint32_t key_len)
{
	uint64_t	h = HASH_A ^ key_len;
	uint64_t	a = 0;
	uint64_t	b = 0;
	uint32_t	left = key_len;

	for (; left > 16; left -= 16, key += 16)
		h = fold(ltg_load64(key) ^ HASH_B, ltg_load64(key + 8) ^ h);
	if (left >= 8)
	{
		a = ltg_load64(key);
		b = ltg_load64(key + left - 8);
	}
	else if (left >= 4)
	{
		a = ltg_load32(key);
		b = ltg_load32(key + left - 4);
	}
	else if (left > 0)
	{
		a = (uint64_t) key[0] << 16 | (uint64_t) key[left / 2] << 8 | key[left - 1];
	}
	h = fold(a ^ HASH_B, b ^ h);
	return fold(h ^ HASH_C, HASH_A);
}

/* ---- filter ---- */

static uint64_t
exact_lines(uint64_t keys, uint32_t bits_per_key)
{
	return (keys * bits_per_key + LTG_FILTER_LINE * 8 - 1) / (LTG_FILTER_LINE * 8);
}

LtgFilterShape
ltg_filter_shape(uint64_t keys, uint32_t bits_per_key, uint32_t block_bytes)
{
	LtgFilterShape f = {0, 0};
	uint64_t	lines = exact_lines(keys, bits_per_key);
	uint64_t	lines_max = block_bytes / LTG_FILTER_LINE;

	LTG_ASSERT(lines_max > 0);
	if (keys == 0 || bits_per_key == 0)
		return f;
	f.blocks = (uint32_t) ((lines + lines_max - 1) / lines_max);
	f.lines = (uint32_t) ((lines + f.blocks - 1) / f.blocks);
	return f;
}

/*
 * Counted over all blocks, the line of a hash is floor(hash * lines / 2^64): the
 * nested multiplication loses nothing.  So when the number of lines has a
 * divisor k, line j of the filter with lines / k lines is the union of lines
 * k * j ... k * j + k - 1.  Wide filters have many divisors.
 */
#define WIDE_FACTOR (2520 * 16)	/* 2520: the least multiple of 1 to 10 */

LtgFilterShape
ltg_filter_wide(uint64_t keys_max, uint32_t bits_per_key)
{
	uint64_t	n = exact_lines(keys_max, bits_per_key) / WIDE_FACTOR + 1;
	LtgFilterShape f = {1, (uint32_t) (n * WIDE_FACTOR)};

	LTG_ASSERT(n * WIDE_FACTOR <= UINT32_MAX);
	return f;
}

LtgFilterShape
ltg_filter_fold(uint8_t *bits, const LtgFilterShape *wide, uint64_t keys,
				uint32_t bits_per_key, uint32_t block_bytes)
{
	uint64_t	want = exact_lines(keys, bits_per_key);
	uint32_t	lines_max = block_bytes / LTG_FILTER_LINE;
	uint32_t	k = want < wide->lines ? (uint32_t) (wide->lines / want) : 1;
	LtgFilterShape f;
	uint32_t	lines;
	uint32_t	j;

	LTG_ASSERT(wide->blocks == 1 && keys > 0 && lines_max > 0);
	while (wide->lines % k != 0)
		k--;
	lines = wide->lines / k;
	for (j = 0; j < lines; j++)
	{
		uint8_t    *to = bits + (size_t) j * LTG_FILTER_LINE;
		const uint8_t *from = bits + (size_t) j * k * LTG_FILTER_LINE;
		uint32_t	i;
		uint32_t	b;

		memmove(to, from, LTG_FILTER_LINE);
		for (i = 1; i < k; i++)
		{
			for (b = 0; b < LTG_FILTER_LINE; b++)
				to[b] |= from[(size_t) i * LTG_FILTER_LINE + b];
		}
	}
	f.lines = lines < lines_max ? lines : lines_max;
	while (lines % f.lines != 0)
		f.lines--;
	f.blocks = lines / f.lines;
	return f;
}

/* Probe i takes the top 9 bits of the i-th state of a multiplicative walk. */
#define PROBE_START(hash) ((uint32_t) (hash))
#define PROBE_NEXT(x) ((x) * 0x9E3779B1u)
#define PROBE_BIT(x) ((x) >> 23)

void
ltg_filter_add(uint8_t *bits, const LtgFilterShape *f, uint64_t hash)
{
	uint32_t	line;
	uint32_t	block = ltg_filter_place(f, hash, &line);
	uint8_t    *p = bits + ((uint64_t) block * f->lines + line) * LTG_FILTER_LINE;
	uint32_t	x = PROBE_START(hash);
	int			i;

	for (i = 0; i < LTG_FILTER_PROBES; i++)
	{
		x = PROBE_NEXT(x);
		p[PROBE_BIT(x) >> 3] |= (uint8_t) (1 << (PROBE_BIT(x) & 7));
	}
}

bool
ltg_filter_test(const uint8_t *line, uint64_t hash)
{
	uint32_t	x = PROBE_START(hash);
	int			i;

	for (i = 0; i < LTG_FILTER_PROBES; i++)
	{
		x = PROBE_NEXT(x);
		if ((line[PROBE_BIT(x) >> 3] & (1 << (PROBE_BIT(x) & 7))) == 0)
			return false;
	}
	return true;
}
