/*
 * writers_test.c
 *	  The column of writers in all its forms: sizes, reading back, damage.
 */
#include "rig.h"

#include "storage/block.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct Column
{
	uint8_t    *block;			/* a header, and the column */
	uint32_t	len;
	LtgWriterForm form;
} Column;

/* A block of nothing else, exactly as long, so that the sanitizers look. */
static Column
build(const LtgXid *xid, uint32_t n)
{
	LtgWriterSums sums = {0};
	Column		c;

	for (uint32_t i = 0; i < n; i++)
		ltg_writers_sum(&sums, xid[i]);
	c.form = ltg_writers_form(&sums, n);
	c.len = (uint32_t) (LTG_BH_BYTES + c.form.bytes);
	c.block = calloc(c.len, 1);
	c.block[LTG_BH_FLAGS] = LTG_BF_WRITERS;
	c.block[LTG_BH_XID_WIDTH] = (uint8_t) c.form.width;
	ltg_store32(c.block + LTG_BH_N, n);
	ltg_store32(c.block + LTG_BH_META, LTG_BH_BYTES);
	ltg_store64(c.block + LTG_BH_XID_BASE, c.form.base);
	for (uint32_t i = 0; i < n; i++)
		ltg_writers_put(c.block + LTG_BH_BYTES, &c.form, n, i, xid[i]);
	return c;
}

static void
check(const Column *c, const LtgXid *xid, uint32_t n)
{
	assert_int_equal(ltg_writers_bytes(c->block), c->form.bytes);
	assert_true(ltg_writers_check(c->block, c->len));
	if (ltg_writers_verify(c->block) != NULL)
		fail_msg("%s: n %u, width %u, base %llx", ltg_writers_verify(c->block), n, c->form.width, (unsigned long long) c->form.base);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(ltg_writers_get(c->block, i), xid[i]);
}

/* The packed column, exactly as long; NULL: it is better left in the block. */
static uint8_t *
pack(const Column *c, uint32_t *len)
{
	uint32_t	n = ltg_load32(c->block + LTG_BH_N);
	uint64_t   *scratch = malloc(LTG_WRITERS_SCRATCH(n));
	uint8_t    *dst = malloc(LTG_WRITERS_PACKED_MAX(n));
	uint8_t    *packed = NULL;

	*len = ltg_writers_pack(c->block, scratch, dst);
	if (*len != 0)
	{
		packed = malloc(*len);
		memcpy(packed, dst, *len);
	}
	free(dst);
	free(scratch);
	return packed;
}

/* Packs and unpacks; returns the packed bytes, 0 if the column stays. */
static uint32_t
there_and_back(const Column *c, const LtgXid *xid, uint32_t n)
{
	uint32_t	len;
	uint8_t    *packed = pack(c, &len);

	if (packed == NULL)
		return 0;
	memset(c->block + LTG_BH_BYTES, 0xAA, c->len - LTG_BH_BYTES);
	assert_true(ltg_writers_unpack(packed, len, c->block));
	check(c, xid, n);
	/* a byte less is noticed, but for what fills the last one */
	memset(c->block + LTG_BH_BYTES, 0, c->len - LTG_BH_BYTES);
	assert_false(ltg_writers_unpack(packed, len - 1, c->block));
	free(packed);
	return len;
}

static void
all_patterns(void **state)
{
	static const uint32_t sizes[] = {1, 2, 3, 8, 140, 254, 255, 256, 257, 300, 3000};
	static LtgXid xid[3000];
	uint64_t	rnd = 1;
	uint32_t	columns = 0;
	uint32_t	packed = 0;
	uint32_t	none = 0;

	(void) state;
	for (uint32_t pattern = 0; pattern < RIG_WRITER_PATTERNS; pattern++)
		for (uint32_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++)
			for (uint32_t round = 0; round < 20; round++)
			{
				Column		c;

				for (uint32_t i = 0; i < sizes[k]; i++)
					xid[i] = rig_writer(pattern, i, &rnd);
				c = build(xid, sizes[k]);
				check(&c, xid, sizes[k]);
				none += c.form.width == 0;
				columns += c.form.width != 0;
				if (c.form.width != 0)
					packed += there_and_back(&c, xid, sizes[k]) != 0;
				free(c.block);
			}
	assert_true(columns > 500 && packed > 300 && none > 100);
}

static void
expect_width(const LtgXid *xid, uint32_t n, uint32_t width)
{
	Column		c = build(xid, n);

	check(&c, xid, n);
	assert_int_equal(c.form.width, width);
	assert_int_equal(c.form.bytes, n * width);
	free(c.block);
}

/* Widths in memory, and their edges. */
static void
sizes(void **state)
{
	LtgXid		xid[600];
	const LtgXid big = UINT64_MAX;

	(void) state;
	/* one writer, or none known */
	for (uint32_t i = 0; i < 600; i++)
		xid[i] = 77;
	expect_width(xid, 600, 0);
	for (uint32_t i = 0; i < 600; i++)
		xid[i] = 0;
	expect_width(xid, 600, 0);
	xid[599] = big;
	expect_width(xid, 600, 1);
	/* one byte reaches 255 ids, two 65535, three what rows that are updated alone need */
	for (uint32_t i = 0; i < 600; i++)
		xid[i] = 1000 + i % 255;
	expect_width(xid, 600, 1);
	xid[599] = 1000 + 255;
	expect_width(xid, 600, 2);
	for (uint32_t i = 0; i < 600; i++)
		xid[i] = 1000 + i * 100;
	expect_width(xid, 600, 2);
	xid[599] = 1000 + 65535;
	expect_width(xid, 600, 3);
	xid[599] = 1000 + 0xFFFFFF;
	expect_width(xid, 600, 4);
	/* the extremes */
	xid[0] = 1;
	xid[1] = big;
	expect_width(xid, 2, 8);
	xid[2] = 0;
	expect_width(xid, 3, 8);
}

/* What is promised of its size in files: bytes for each row that was written alone. */
static void
packed_sizes(void **state)
{
	static const struct
	{
		uint32_t	part;		/* one row of so many was written alone */
		uint64_t	range;		/* of the ids of those rows */
		double		most;
	}			want[] = {
		{1, 400000, 2.55}, {2, 1000000, 2.95}, {3, 200000, 3.0}, {10, 200000, 3.6}, {100, 200000, 8.0}, {1, 200, 1.2}
	};
	static LtgXid xid[14000];
	uint64_t	rnd = 5;

	(void) state;
	for (uint32_t k = 0; k < sizeof(want) / sizeof(want[0]); k++)
	{
		uint32_t	alone = 0;
		uint32_t	bytes = 0;

		for (uint32_t at = 0; at < 14000; at += 140)
		{
			Column		c;

			for (uint32_t i = 0; i < 140; i++)
			{
				bool		one = rig_random(&rnd) % want[k].part == 0;

				xid[i] = one ? 5000000 + rig_random(&rnd) % want[k].range : 800;
				alone += one;
			}
			c = build(xid, 140);
			if (c.form.width != 0)
				bytes += there_and_back(&c, xid, 140);
			free(c.block);
		}
		if (alone == 0 || (double) bytes / alone > want[k].most)
			fail_msg("one row of %u, range %u: %.2f bytes", want[k].part, (unsigned) want[k].range, (double) bytes / alone);
	}

	/* few writers of many rows each have numbers; long stretches of them are left to the compressor */
	for (uint32_t scattered = 0; scattered < 2; scattered++)
	{
		Column		c;

		for (uint32_t i = 0; i < 1400; i++)
			xid[i] = 1000 + 300000 * (scattered ? rig_random(&rnd) % 7 : i / 200);
		c = build(xid, 1400);
		assert_in_range(there_and_back(&c, xid, 1400), scattered ? 600 : 0, scattered ? 800 : 0);
		free(c.block);
	}
}

/* Bytes that make no sense are read without harm, and named by the check. */
static void
damage(void **state)
{
	LtgXid		xid[200];
	uint64_t	rnd = 3;
	uint32_t	refused = 0;
	uint32_t	named = 0;
	uint32_t	no_column = 0;

	(void) state;
	for (uint32_t round = 0; round < 40000; round++)
	{
		uint32_t	n = 1 + (uint32_t) (rig_random(&rnd) % 200);
		uint32_t	pattern = (uint32_t) (rig_random(&rnd) % RIG_WRITER_PATTERNS);
		Column		c;
		uint8_t    *packed = NULL;
		uint32_t	len = 0;

		for (uint32_t i = 0; i < n; i++)
			xid[i] = rig_writer(pattern, i, &rnd);
		c = build(xid, n);
		if (c.form.width != 0)
			packed = pack(&c, &len);
		for (uint32_t k = 1 + (uint32_t) (rig_random(&rnd) % 3); k > 0; k--)
			switch (rig_random(&rnd) % 4)
			{
				case 0:
					if (packed != NULL)
						packed[rig_random(&rnd) % (rig_random(&rnd) % 2 && len > 16 ? 16 : len)] = (uint8_t) rig_random(&rnd);
					break;
				case 1:
					c.block[LTG_BH_XID_WIDTH] = (uint8_t) (rig_random(&rnd) % 9);
					break;
				case 2:
					ltg_store64(c.block + LTG_BH_XID_BASE, rig_random(&rnd));
					break;
				default:
					if (c.len > LTG_BH_BYTES)
						c.block[LTG_BH_BYTES + rig_random(&rnd) % (c.len - LTG_BH_BYTES)] =
							(uint8_t) rig_random(&rnd);
			}
		if (!ltg_writers_check(c.block, c.len))
			refused++;
		else
		{
			if (packed != NULL)
				no_column += !ltg_writers_unpack(packed, len, c.block);
			named += ltg_writers_verify(c.block) != NULL;
			for (uint32_t i = 0; i < n; i++)
				(void) ltg_writers_get(c.block, i);
		}
		free(packed);
		free(c.block);
	}
	assert_true(refused > 1000 && named > 200 && no_column > 200);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_patterns),
		cmocka_unit_test(sizes),
		cmocka_unit_test(packed_sizes),
		cmocka_unit_test(damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
