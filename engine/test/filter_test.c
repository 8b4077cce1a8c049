/*
 * filter_test.c
 *	  No false negatives, few false positives, at any size; the hash of keys.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/coding.h"
#include "rig.h"
#include "storage/filter.h"

static uint64_t
hash_of(uint64_t i)
{
	uint8_t		key[5];

	ltg_store_le(key, i, 5);
	return ltg_key_hash(key, 5);
}

static bool
test_one(const uint8_t *bits, const LtgFilterShape *f, uint64_t hash)
{
	uint32_t	line;
	uint32_t	block = ltg_filter_place(f, hash, &line);

	assert_true(block < f->blocks && line < f->lines);
	return ltg_filter_test(bits + ((size_t) block * f->lines + line) * LTG_FILTER_LINE, hash);
}

static double
false_positives(uint64_t keys, uint32_t bits_per_key)
{
	LtgFilterShape f = ltg_filter_shape(keys, bits_per_key, 16384);
	uint8_t    *bits = calloc((size_t) f.blocks * f.lines, LTG_FILTER_LINE);
	uint64_t	probes = 200000;
	uint64_t	passed = 0;
	uint64_t	i;

	assert_true(f.lines * LTG_FILTER_LINE <= 16384);
	for (i = 0; i < keys; i++)
		ltg_filter_add(bits, &f, hash_of(i));
	for (i = 0; i < keys; i++)
		assert_true(test_one(bits, &f, hash_of(i)));
	for (i = 0; i < probes; i++)
		passed += test_one(bits, &f, hash_of(keys + i)) ? 1 : 0;
	free(bits);
	return (double) passed / (double) probes;
}

static void
few_false_positives(void **state)
{
	static const uint64_t sizes[] = {1000, 30000, 400000, 1000000};
	size_t		i;

	(void) state;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		double		rate = false_positives(sizes[i], 10);

		print_message("%llu keys: %.2f %%\n", (unsigned long long) sizes[i], rate * 100);
		assert_true(rate < 0.015);
	}
	assert_true(false_positives(100000, 16) < 0.003);
	assert_true(false_positives(1, 10) < 0.05);
}

/* Folding keeps every key, and the precision. */
static void
folding(void **state)
{
	static const uint64_t sizes[] = {1, 77, 5000, 123456, 900000, 2500000};
	LtgFilterShape wide = ltg_filter_wide(2000000, 10);
	size_t		i;

	(void) state;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		uint8_t    *bits = calloc(wide.lines, LTG_FILTER_LINE);
		uint64_t	passed = 0;
		LtgFilterShape f;
		LtgFilterShape exact = ltg_filter_shape(sizes[i], 10, 16384);
		uint64_t	k;

		for (k = 0; k < sizes[i]; k++)
			ltg_filter_add(bits, &wide, hash_of(k));
		f = ltg_filter_fold(bits, &wide, sizes[i], 10, 16384);
		assert_true(f.lines * LTG_FILTER_LINE <= 16384);
		assert_true(f.blocks * f.lines <= 2 * exact.blocks * exact.lines + 1);
		for (k = 0; k < sizes[i]; k++)
			assert_true(test_one(bits, &f, hash_of(k)));
		for (k = 0; k < 100000; k++)
			passed += test_one(bits, &f, hash_of(sizes[i] + k)) ? 1 : 0;
		print_message("%llu keys: %.2f %%, %u blocks of %u lines\n", (unsigned long long) sizes[i],
					  (double) passed / 1000, f.blocks, f.lines);
		assert_true(passed < (sizes[i] > 2000000 ? 3000 : 1500));
		free(bits);
	}
}

/* Every bit of a key changes about half of the bits of its hash. */
static void
hash_avalanches(void **state)
{
	static const uint32_t lens[] = {1, 3, 4, 5, 7, 8, 9, 16, 17, 24, 33, 100};
	uint64_t	rnd = 3;
	size_t		l;

	(void) state;
	for (l = 0; l < sizeof(lens) / sizeof(lens[0]); l++)
	{
		uint8_t		key[100];
		uint32_t	bit;

		for (bit = 0; bit < lens[l] * 8; bit++)
		{
			uint64_t	flips = 0;
			int			i;

			for (i = 0; i < 100; i++)
			{
				uint64_t	h;
				uint32_t	k;

				for (k = 0; k < lens[l]; k++)
					key[k] = (uint8_t) rig_random(&rnd);
				h = ltg_key_hash(key, lens[l]);
				key[bit / 8] ^= (uint8_t) (1 << bit % 8);
				flips += (uint64_t) __builtin_popcountll(h ^ ltg_key_hash(key, lens[l]));
			}
			assert_true(flips > 100 * 26 && flips < 100 * 38);
		}
	}
}

/* Equal bytes, different lengths: different hashes. */
static void
hash_minds_length(void **state)
{
	uint8_t		zero[64] = {0};
	uint32_t	i;
	uint32_t	j;

	(void) state;
	for (i = 0; i < 64; i++)
	{
		for (j = 0; j < i; j++)
			assert_true(ltg_key_hash(zero, i) != ltg_key_hash(zero, j));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(few_false_positives),
		cmocka_unit_test(folding),
		cmocka_unit_test(hash_avalanches),
		cmocka_unit_test(hash_minds_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
