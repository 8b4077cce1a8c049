/*
 * get_test.c
 *	  Point reads over every arrangement of sources.
 */
#include "test/lsm_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static LsmRig rig;

static void
expect(LtgStore *store, const char *key, const char *want)
{
	RigSnapshot *snap = lrig_snapshot(&rig, 0, 0);
	LtgRow		row = {0};
	LtgStatus	st = ltg_get(rig.s, store, (const uint8_t *) key, (uint32_t) strlen(key),
							 &snap->snap, &row);

	if (want == NULL)
		lrig_expect(&rig, st, LTG_NOT_FOUND, __FILE__, __LINE__);
	else
	{
		lrig_ok(&rig, st);
		assert_int_equal(row.v.payload_len, strlen(want));
		assert_memory_equal(row.v.payload, want, strlen(want));
	}
	ltg_row_free(rig.s, &row);
	lrig_release(&rig, snap);
}

/* Newest source first: memory, frozen memory, level 0, deeper levels. */
static void
sources(void **state)
{
	LtgStore   *t, *other;
	LtgCompactResult r;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	other = lrig_store(&rig, 2, 0);
	expect(t, "a", NULL);
	for (int round = 0; round < 5; round++)
	{
		char		val[16];

		snprintf(val, sizeof(val), "v%d", round);
		lrig_put(&rig, t, "a", val);
		lrig_put(&rig, t, val, "x");
		expect(t, "a", val);
		expect(other, "a", NULL);
		lrig_freeze(&rig);
		expect(t, "a", val);
		lrig_flush_all(&rig);
		expect(t, "a", val);
		if (round == 2)
		{
			lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
			assert_true(r.compacted);
			expect(t, "a", val);
		}
	}
	for (int round = 0; round < 5; round++)
	{
		char		val[16];

		snprintf(val, sizeof(val), "v%d", round);
		expect(t, val, "x");
	}
	lrig_delete(&rig, t, "a");
	expect(t, "a", NULL);
	lrig_flush_all(&rig);
	expect(t, "a", NULL);
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	expect(t, "a", NULL);
	lrig_put(&rig, t, "a", "again");
	expect(t, "a", "again");
	lrig_close(&rig);
}

/* Old snapshots go on seeing what they saw. */
static void
old_snapshots(void **state)
{
	LtgStore   *t;
	RigSnapshot *snap[6];
	LtgRow		row = {0};
	LtgXid		x;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	for (int i = 0; i < 6; i++)
	{
		char		val[2] = {(char) ('0' + i), 0};

		if (i == 3)
			lrig_delete(&rig, t, "k");
		else
			lrig_put(&rig, t, "k", val);
		snap[i] = lrig_snapshot(&rig, 0, 0);
		if (i % 2 == 0)
			lrig_flush_all(&rig);
	}
	/* neither an aborted nor a running writer matters to them */
	x = lrig_begin(&rig);
	lrig_write(&rig, t, "k", 1, LTG_PUT, "aborted", 7, x, 0);
	lrig_end(&rig, x, false);
	x = lrig_begin(&rig);
	lrig_write(&rig, t, "k", 1, LTG_PUT, "running", 7, x, 3);
	for (int round = 0; round < 3; round++)
	{
		for (int i = 0; i < 6; i++)
		{
			LtgStatus	st = ltg_get(rig.s, t, (const uint8_t *) "k", 1, &snap[i]->snap, &row);

			if (i == 3)
				lrig_expect(&rig, st, LTG_NOT_FOUND, __FILE__, __LINE__);
			else
			{
				lrig_ok(&rig, st);
				assert_int_equal(row.v.payload[0], '0' + i);
			}
		}
		if (round == 0)
			lrig_flush_all(&rig);
		else
			lrig_compact_all(&rig);
	}
	/* the writer sees its own version from a later command on */
	for (uint32_t cid = 3; cid < 5; cid++)
	{
		RigSnapshot *own = lrig_snapshot(&rig, x, cid);

		lrig_ok(&rig, ltg_get(rig.s, t, (const uint8_t *) "k", 1, &own->snap, &row));
		assert_int_equal(row.v.payload[0], cid == 3 ? '5' : 'r');
		lrig_release(&rig, own);
	}
	ltg_row_free(rig.s, &row);
	lrig_close(&rig);
}

/* A fate that was learnt is not asked again. */
static void
marks(void **state)
{
	LtgStore   *t;
	RigSnapshot *snap;
	LtgRow		row = {0};
	LtgXid		x;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	lrig_put(&rig, t, "k", "v");
	x = lrig_begin(&rig);
	lrig_write(&rig, t, "k", 1, LTG_PUT, "no", 2, x, 0);
	lrig_end(&rig, x, false);
	snap = lrig_snapshot(&rig, 0, 0);
	for (int i = 0; i < 5; i++)
		lrig_ok(&rig, ltg_get(rig.s, t, (const uint8_t *) "k", 1, &snap->snap, &row));
	assert_int_equal(snap->judged, 2);
	ltg_row_free(rig.s, &row);
	lrig_close(&rig);
}

static bool
failing_judge(LtgSnapshot *snap, LtgXid xid, uint32_t cid, LtgState *fate)
{
	(void) xid;
	(void) cid;
	(void) fate;
	snap->failed = true;
	return false;
}

static void
host_failure(void **state)
{
	LtgStore   *t;
	LtgSnapshot snap = {.judge = failing_judge};
	LtgScanOptions opt = {.snap = &snap};
	LtgScan    *scan;
	LtgBatch	b;
	LtgRow		row = {0};

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	lrig_put(&rig, t, "k", "v");
	assert_int_equal(ltg_get(rig.s, t, (const uint8_t *) "k", 1, &snap, &row), LTG_HOST_ERROR);
	snap.failed = false;
	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	assert_int_equal(ltg_scan_next(scan, &b), LTG_HOST_ERROR);
	ltg_scan_close(scan);
	expect(t, "k", "v");
	lrig_close(&rig);
}

static bool
count_to_two(void *arg, const LtgVersion *v, LtgState *fate)
{
	(void) v;
	(void) fate;
	return ++*(int *) arg < 2;
}

static void
versions_until(void **state)
{
	LtgStore   *t;
	LtgXid		x;
	int			n = 0;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	x = lrig_begin(&rig);
	for (uint32_t i = 0; i < 4; i++)
	{
		(void) lrig_write(&rig, t, "k", 1, LTG_PUT, "v", 1, x, i);
		if (i == 1)
			lrig_flush_all(&rig);
	}
	lrig_ok(&rig, ltg_versions(rig.s, t, (const uint8_t *) "k", 1, count_to_two, &n));
	assert_int_equal(n, 2);
	lrig_close(&rig);
}

/* A damaged block is an error that says where; all other rows stay readable. */
static void
damage(void **state)
{
	LtgStore   *t, *u;
	LtgRow		row = {0};
	RigSnapshot *snap;
	uint32_t	bad = 0;
	char		path[128];
	FILE	   *f;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	u = lrig_store(&rig, 2, 0);
	lrig_put(&rig, u, "other", "row");
	lrig_flush_all(&rig);
	for (int i = 0; i < 3000; i++)
	{
		char		key[16];

		snprintf(key, sizeof(key), "%05d", i);
		lrig_put(&rig, t, key, "some payload of a row");
	}
	lrig_flush_all(&rig);
	snprintf(path, sizeof(path), "%s/%016x.run", rig.dir, 2);
	f = fopen(path, "r+b");
	assert_non_null(f);
	fseek(f, 3000, SEEK_SET);
	fputc(fgetc(f) ^ 0x55, f);
	fclose(f);
	f = fopen(path, "r+b");
	fseek(f, 3000, SEEK_SET);
	fputs("damaged", f);
	fclose(f);

	snap = lrig_snapshot(&rig, 0, 0);
	for (int i = 0; i < 3000; i++)
	{
		char		key[16];
		LtgStatus	st;

		snprintf(key, sizeof(key), "%05d", i);
		st = ltg_get(rig.s, t, (const uint8_t *) key, 5, &snap->snap, &row);
		if (st != LTG_OK)
		{
			assert_int_equal(st, LTG_CORRUPT);
			assert_string_equal(rig.s->err.file, "0000000000000002.run");
			assert_true(rig.s->err.offset <= 3000);
			assert_int_equal(rig.s->epoch_depth, 0);
			ltg_clear_error(rig.s);
			bad++;
		}
	}
	assert_true(bad > 0 && bad < 1500);
	lrig_release(&rig, snap);
	expect(u, "other", "row");
	lrig_put(&rig, t, "00000", "new");
	expect(t, "00000", "new");
	ltg_row_free(rig.s, &row);
	lrig_close(&rig);
}

/* No memory: a status, and everything works again afterwards. */
static void
no_memory(void **state)
{
	LtgStore   *t;
	uint8_t		big[100000];

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	memset(big, 'x', sizeof(big));
	for (int i = 0; i < 8; i++)
	{
		LtgXid		x = lrig_begin(&rig);

		lrig_write(&rig, t, &"abcdefgh"[i], 1, LTG_PUT, big, sizeof(big), x, 0);
		lrig_end(&rig, x, true);
		if (i == 4)
			lrig_flush_all(&rig);
	}
	for (uint64_t nth = 1;; nth++)
	{
		RigSnapshot *snap = lrig_snapshot(&rig, 0, 0);
		LtgRow		row = {0};
		LtgStatus	st = LTG_OK;
		uint64_t	before;

		before = ltg_posix_live_allocs(rig.posix);
		ltg_posix_fail(rig.posix, LTG_FAULT_ALLOC, nth, false, 0);
		for (int i = 0; i < 8 && st == LTG_OK; i++)
		{
			st = ltg_get(rig.s, t, (const uint8_t *) &"abcdefgh"[i], 1, &snap->snap, &row);
			ltg_row_free(rig.s, &row);
		}
		ltg_posix_fail(rig.posix, LTG_FAULT_ALLOC, 0, false, 0);
		assert_int_equal(rig.s->epoch_depth, 0);
		lrig_release(&rig, snap);
		if (st == LTG_OK)
			break;
		assert_int_equal(st, LTG_NOMEM);
		ltg_clear_error(rig.s);
		assert_true(ltg_posix_live_allocs(rig.posix) <= before + 4);
		assert_true(nth < 100);
	}
	lrig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sources),
		cmocka_unit_test(old_snapshots),
		cmocka_unit_test(marks),
		cmocka_unit_test(host_failure),
		cmocka_unit_test(versions_until),
		cmocka_unit_test(damage),
		cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
