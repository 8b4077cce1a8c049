/*
 * prewarm_test.c
 *	  The list of hot blocks: saved, read back in order, and of no harm when it is
 *	  old, damaged, or too long.
 */
#include "test/core_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "storage/blockio.h"
#include "storage/cache.h"

#define ROWS 40000

static CoreRig rig;

static void
start(size_t cache_bytes)
{
	core_open(&rig);
	rig.config.cache_bytes = cache_bytes;
	core_boot(&rig, true);
	for (uint32_t i = 0; i < ROWS; i++)
		core_put(&rig, core_store(&rig, 1, 0), i, i);
	assert_int_equal(core_flush(&rig), LTG_OK);
}

static void
again(void)
{
	core_down(&rig);
	core_boot(&rig, true);
}

static void
read_rows(uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++)
		assert_int_equal(core_get(&rig, core_store(&rig, 1, 0), i), i);
}

static LtgCacheStats
stats(void)
{
	LtgCacheStats st;
	char		msg[160] = "";

	if (!ltg_cache_check(rig.s, rig.s->cache, msg, sizeof(msg)))
		fail_msg("%s", msg);
	ltg_cache_stats(rig.s, rig.s->cache, &st);
	return st;
}

static LtgPrewarmResult
load(void)
{
	LtgPrewarmResult r;

	assert_int_equal(ltg_prewarm_load(rig.s, &r), LTG_OK);
	assert_int_equal(rig.s->err.status, LTG_OK);
	return r;
}

static uint64_t
save(void)
{
	uint64_t	n;

	assert_int_equal(ltg_prewarm_save(rig.s, &n), LTG_OK);
	assert_int_equal(core_count_files(&rig, "prewarm"), 1);
	assert_int_equal(core_count_files(&rig, ".tmp"), 0);
	return n;
}

static void
test_round_trip(void **state)
{
	LtgPrewarmResult r;
	LtgCacheStats before,
				after;
	uint64_t	n;

	(void) state;
	start((size_t) 16 << 20);
	assert_int_equal(ltg_prewarm_load(rig.s, &r), LTG_NOT_FOUND);
	read_rows(0, ROWS / 2);
	before = stats();
	assert_true(before.frames_used > 4);
	n = save();
	assert_int_equal(n, before.frames_used);
	assert_int_equal(save(), n);	/* over the first one */

	again();
	assert_int_equal(stats().frames_used, 0);
	r = load();
	assert_int_equal(r.listed, n);
	assert_int_equal(r.read, n);
	assert_int_equal(r.gone + r.present, 0);
	assert_false(r.damaged || r.full);
	after = stats();
	assert_int_equal(after.frames_used, n);
	assert_int_equal(after.hits + after.misses, 0);
	/* what was read is there, without a miss */
	read_rows(0, ROWS / 2);
	assert_int_equal(stats().misses, 0);
	read_rows(ROWS / 2, ROWS / 2);
	assert_true(stats().misses > 0);
	/* all are there already */
	r = load();
	assert_int_equal(r.present, n);
	assert_int_equal(r.read, 0);
	core_close(&rig);
}

/* Those used more than once come first, and still count as such. */
static void
test_order(void **state)
{
	LtgPrewarmResult r;
	LtgConfig	config;

	(void) state;
	start((size_t) 16 << 20);
	read_rows(0, ROWS);
	for (int round = 0; round < 3; round++)
		read_rows(30000, 100);
	save();
	/* a cache with room for few: only the hot ones get in */
	core_down(&rig);
	config = rig.config;
	rig.config.cache_bytes = 20 * (rig.config.block_size + 1024);
	core_boot(&rig, true);
	r = load();
	assert_true(r.full);
	assert_true(r.read >= 10 && r.read < r.listed);
	read_rows(30000, 100);
	assert_int_equal(stats().misses, 0);
	rig.config = config;
	core_close(&rig);
}

/* Files that compaction has replaced are passed over. */
static void
test_vanished(void **state)
{
	LtgPrewarmResult r;
	LtgCompactResult c;
	uint64_t	n;

	(void) state;
	start((size_t) 16 << 20);
	read_rows(0, ROWS);
	n = save();
	for (uint32_t i = 0; i < ROWS; i++)
		core_put(&rig, core_store(&rig, 1, 0), i, i);
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_int_equal(ltg_compact_store(rig.s, core_store(&rig, 1, 0), &c), LTG_OK);
	assert_int_equal(core_flush(&rig), LTG_OK);
	again();
	r = load();
	assert_int_equal(r.gone, n);
	assert_int_equal(r.read, 0);
	read_rows(0, ROWS);
	core_check(&rig);
	core_close(&rig);
}

/* A list that names places where no block begins (another node's). */
static void
test_wrong_places(void **state)
{
	LtgPrewarmResult r;
	LtgCachedBlock b;
	uint64_t	n;

	(void) state;
	start((size_t) 16 << 20);
	read_rows(0, ROWS);
	n = save();
	assert_int_equal(ltg_cache_list(rig.s, rig.s->cache, &b, 1), 1);
	again();
	ltg_epoch_enter(rig.s);
	for (uint64_t i = 1; i < 200; i++)
	{
		LtgBlockPtr at = {.file = b.file, .offset = b.offset + i};

		assert_int_not_equal(ltg_block_warm(rig.s, &at, false), LTG_OK);
		ltg_clear_error(rig.s);
	}
	assert_int_not_equal(ltg_block_warm(rig.s, &(LtgBlockPtr) {.file = b.file, .offset = UINT64_C(1) << 40},
										false), LTG_OK);
	ltg_clear_error(rig.s);
	assert_int_not_equal(ltg_block_warm(rig.s, &(LtgBlockPtr) {.file = b.file + 1000}, false), LTG_OK);
	ltg_clear_error(rig.s);
	ltg_epoch_leave(rig.s);
	assert_int_equal(stats().frames_used, 0);
	r = load();
	assert_int_equal(r.read, n);
	core_close(&rig);
}

static void
test_damage(void **state)
{
	long		size;

	(void) state;
	start((size_t) 16 << 20);
	read_rows(0, ROWS);
	save();
	size = core_file_size(&rig, "prewarm");
	for (long at = 0; at < size; at += 1 + at / 20)
	{
		core_flip(&rig, "prewarm", at, 0x10);
		assert_true(load().damaged);
		core_flip(&rig, "prewarm", at, 0x10);
	}
	assert_false(load().damaged);
	for (long keep = size - 1; keep > 0; keep -= 1 + keep / 10)
	{
		core_truncate(&rig, "prewarm", keep);
		assert_true(load().damaged);
	}
	core_truncate(&rig, "prewarm", 0);
	assert_true(load().damaged);
	again();
	assert_true(load().damaged);
	read_rows(0, ROWS);
	/* and the next list replaces it */
	save();
	assert_false(load().damaged);
	core_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_vanished),
		cmocka_unit_test(test_wrong_places),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
