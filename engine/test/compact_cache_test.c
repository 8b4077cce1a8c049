/*
 * compact_cache_test.c
 *	  What merges do to the cache: blocks made of cached ones are in it, others
 *	  are not, and nothing of files that did not come to be.
 */
#include "test/lsm_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "storage/cache.h"

#define ROWS 4000
#define LARGE (2 * 1024 * 1024)	/* of the cache: it all fits */
#define SMALL (512 * 1024)		/* it does not */

static LsmRig rig;

static void
write_rows(LtgStore *t, uint64_t first, uint64_t n, uint64_t seed)
{
	LtgXid		x = lrig_begin(&rig);

	for (uint64_t i = 0; i < n; i++)
	{
		uint8_t		key[5];
		uint64_t	payload[12];

		for (uint32_t k = 0; k < 12; k++)
			payload[k] = lrig_random(&seed);
		lrig_rowid(key, first + i);
		lrig_write(&rig, t, key, 5, LTG_PUT, payload, sizeof(payload), x, 0);
	}
	lrig_end(&rig, x, true);
}

static LtgCacheStats
cache(void)
{
	LtgCacheStats st;
	char		msg[200];

	if (!ltg_cache_check(rig.s, rig.s->cache, msg, sizeof(msg)))
		fail_msg("%s", msg);
	ltg_cache_stats(rig.s, rig.s->cache, &st);
	return st;
}

/* A digest of all rows. */
static uint64_t
read_all(LtgStore *t)
{
	RigSnapshot *snap = lrig_snapshot(&rig, 0, 0);
	LtgScanOptions opt = {.snap = &snap->snap};
	LtgScan    *scan;
	LtgBatch	b;
	uint64_t	digest = 0;
	uint64_t	rows = 0;

	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	for (; ltg_scan_next(scan, &b) == LTG_OK; rows += b.n)
		for (uint32_t i = 0; i < b.n; i++)
		{
			const uint8_t *key;
			uint64_t	word;
			uint32_t	len;
			LtgVersion	v;

			ltg_batch_row(scan, i, &key, &len, &v);
			memcpy(&word, v.payload + 40, sizeof(word));
			digest = digest * 31 + word;
		}
	ltg_scan_close(scan);
	lrig_release(&rig, snap);
	assert_int_equal(rows, ROWS);
	return digest;
}

/* A table with runs in level 0 and in the last one. */
static LtgStore *
make_table(size_t cache_bytes)
{
	LtgStore   *t;
	LtgCompactResult r;
	LtgConfig	c;

	lrig_config(&c);
	c.cache_bytes = cache_bytes;
	lrig_open(&rig, &c);
	t = lrig_store(&rig, 1, 0);
	write_rows(t, 1, ROWS, 1);
	lrig_flush_all(&rig);
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	write_rows(t, 100, ROWS / 2, 2);
	lrig_flush_all(&rig);
	return t;
}

static void
warm(void **state)
{
	LtgStore   *t = make_table(LARGE);
	LtgCompactResult r;
	LtgCacheStats before, after;
	uint64_t	digest = read_all(t);
	uint32_t	removed;

	(void) state;
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_true(r.compacted && r.versions_in > ROWS);
	lrig_ok(&rig, ltg_remove_obsolete(rig.s, &removed));
	assert_true(removed > 0);
	before = cache();
	assert_true(before.t1 + before.t2 > 40);	/* of 4000 rows of 100 bytes */
	assert_int_equal(read_all(t), digest);
	after = cache();
	assert_int_equal(after.misses, before.misses);

	/* and what is in the files is the same */
	lrig_restart(&rig);
	assert_int_equal(read_all(lrig_find(&rig, 1)), digest);
	assert_true(cache().misses > 40);
	lrig_close(&rig);
}

static void
cold(void **state)
{
	LtgStore   *t;
	LtgCompactResult r;

	(void) state;
	t = make_table(LARGE);
	lrig_restart(&rig);
	t = lrig_find(&rig, 1);
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_true(r.compacted && r.versions_in > ROWS);
	assert_true(cache().t1 + cache().t2 < 10);	/* asked whether older versions exist */
	lrig_close(&rig);
}

/*
 * In a full cache every block that is entered pushes another one out, whose frame
 * is not free before the merge leaves its epoch: readers are left some.
 */
static void
full(void **state)
{
	LtgStore   *t = make_table(SMALL);
	LtgCompactResult r;
	LtgCacheStats before, after;
	uint64_t	digest = read_all(t);

	(void) state;
	assert_int_equal(read_all(t), digest);
	before = cache();
	assert_true(ltg_cache_full(rig.s, rig.s->cache));
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_true(r.compacted && r.versions_in > ROWS);
	after = cache();
	assert_true(after.evictions > before.evictions);
	assert_int_equal(after.bypasses, before.bypasses);
	assert_int_equal(read_all(t), digest);
	lrig_close(&rig);
}

/* A merge that fails leaves nothing of its outputs behind. */
static void
failed(void **state)
{
	static const LtgFaultKind kinds[] = {LTG_FAULT_WRITE, LTG_FAULT_SYNC, LTG_FAULT_RENAME};

	(void) state;
	for (uint32_t k = 0; k < 3; k++)
	{
		LtgStore   *t = make_table(LARGE);
		uint64_t	digest = read_all(t);
		LtgCacheStats before, after;
		LtgCompactResult r;

		before = cache();
		ltg_posix_fail(rig.posix, kinds[k], 1, false, EIO);
		assert_int_not_equal(ltg_compact_store(rig.s, t, &r), LTG_OK);
		ltg_posix_fail(rig.posix, kinds[k], 0, false, 0);
		ltg_clear_error(rig.s);
		after = cache();
		assert_int_equal(after.t1 + after.t2, before.t1 + before.t2);
		assert_int_equal(read_all(t), digest);
		assert_int_equal(cache().misses, after.misses);
		lrig_close(&rig);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(warm),
		cmocka_unit_test(cold),
		cmocka_unit_test(full),
		cmocka_unit_test(failed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
