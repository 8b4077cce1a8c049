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
	LtgWriterSet *set = malloc(sizeof(LtgWriterSet));
	LtgWriterSums sums = {0};
	Column		c;

	ltg_writer_set_init(set);
	for (uint32_t i = 0; i < n; i++)
	{
		bool		is_new = !ltg_writer_set_has(set, xid[i]);

		if (is_new)
			(void) ltg_writer_set_add(set, xid[i]);
		ltg_writers_sum(&sums, xid[i], is_new);
	}
	c.form = ltg_writers_form(&sums, n);
	c.len = (uint32_t) (LTG_BH_BYTES + c.form.bytes);
	c.block = calloc(c.len, 1);
	c.block[LTG_BH_FLAGS] = LTG_BF_WRITERS;
	c.block[LTG_BH_WRITERS] = (uint8_t) c.form.listed;
	c.block[LTG_BH_XID_WIDTH] = (uint8_t) c.form.width;
	ltg_store32(c.block + LTG_BH_N, n);
	ltg_store32(c.block + LTG_BH_META, LTG_BH_BYTES);
	ltg_store64(c.block + LTG_BH_XID_BASE, c.form.base);
	ltg_writer_set_clear(set);
	for (uint32_t i = 0; i < n && c.form.bytes > 0; i++)
		ltg_writers_put(c.block + LTG_BH_BYTES, &c.form, n, i, xid[i], set);
	free(set);
	return c;
}

static void
check(const Column *c, const LtgXid *xid, uint32_t n)
{
	assert_int_equal(ltg_writers_bytes(c->block), c->form.bytes);
	assert_true(ltg_writers_check(c->block, c->len));
	if (ltg_writers_verify(c->block) != NULL)
		fail_msg("%s: n %u, width %u, listed %u, base %llx", ltg_writers_verify(c->block), n, c->form.width, c->form.listed, (unsigned long long) c->form.base);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(ltg_writers_get(c->block, i), xid[i]);
}

static void
all_patterns(void **state)
{
	static const uint32_t sizes[] = {1, 2, 3, 8, 140, 254, 255, 256, 257, 300, 3000};
	static LtgXid xid[3000];
	uint64_t	rnd = 1;
	uint32_t	listed = 0;
	uint32_t	apart = 0;
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
				listed += c.form.listed != 0;
				apart += c.form.width != 0 && c.form.listed == 0;
				none += c.form.width == 0;
				free(c.block);
			}
	assert_true(listed > 100 && apart > 100 && none > 100);
}

static void
expect_form(const LtgXid *xid, uint32_t n, uint32_t width, uint32_t listed)
{
	Column		c = build(xid, n);

	check(&c, xid, n);
	assert_int_equal(c.form.width, width);
	assert_int_equal(c.form.listed, listed);
	assert_int_equal(c.form.bytes, listed == 0 ? n * width : n + listed * width);
	free(c.block);
}

/* What is promised of its size, and the edges of each form. */
static void
sizes(void **state)
{
	LtgXid		xid[600];
	const LtgXid big = UINT64_MAX;

	(void) state;
	/* one writer, or none known */
	for (uint32_t i = 0; i < 600; i++)
		xid[i] = 77;
	expect_form(xid, 600, 0, 0);
	for (uint32_t i = 0; i < 600; i++)
		xid[i] = 0;
	expect_form(xid, 600, 0, 0);
	xid[599] = big;
	expect_form(xid, 600, 1, 0);
	/* one byte reaches 255 ids, two 65535, three what rows that are updated alone need */
	for (uint32_t i = 0; i < 600; i++)
		xid[i] = 1000 + i % 255;
	expect_form(xid, 600, 1, 0);
	xid[599] = 1000 + 255;
	expect_form(xid, 600, 2, 0);
	for (uint32_t i = 0; i < 600; i++)
		xid[i] = 1000 + i * 100;
	expect_form(xid, 600, 2, 0);
	xid[599] = 1000 + 65535;
	expect_form(xid, 600, 3, 0);
	xid[599] = 1000 + 0xFFFFFF;
	expect_form(xid, 600, 4, 0);
	/* no more than 255 in a list, known or not */
	for (uint32_t i = 0; i < 600; i++)
		xid[i] = 1 + i % 255 * UINT64_C(0x100000000000000);
	expect_form(xid, 600, 8, 255);
	xid[0] = 0;
	expect_form(xid, 600, 8, 0);
	xid[0] = 7;
	expect_form(xid, 600, 8, 0);
	/* the extremes */
	xid[0] = 1;
	xid[1] = big;
	expect_form(xid, 2, 8, 0);
	xid[2] = 0;
	expect_form(xid, 3, 8, 0);
}

/* Bytes that make no sense are read without harm, and named by the check. */
static void
damage(void **state)
{
	LtgXid		xid[200];
	uint64_t	rnd = 3;
	uint32_t	refused = 0;
	uint32_t	named = 0;

	(void) state;
	for (uint32_t round = 0; round < 20000; round++)
	{
		uint32_t	n = 1 + (uint32_t) (rig_random(&rnd) % 200);
		uint32_t	pattern = (uint32_t) (rig_random(&rnd) % RIG_WRITER_PATTERNS);
		Column		c;

		for (uint32_t i = 0; i < n; i++)
			xid[i] = rig_writer(pattern, i, &rnd);
		c = build(xid, n);
		for (uint32_t k = 1 + (uint32_t) (rig_random(&rnd) % 3); k > 0; k--)
			switch (rig_random(&rnd) % 4)
			{
				case 0:
					c.block[LTG_BH_WRITERS] = (uint8_t) rig_random(&rnd);
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
			named += ltg_writers_verify(c.block) != NULL;
			for (uint32_t i = 0; i < n; i++)
				(void) ltg_writers_get(c.block, i);
		}
		free(c.block);
	}
	assert_true(refused > 1000 && named > 200);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_patterns),
		cmocka_unit_test(sizes),
		cmocka_unit_test(damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
