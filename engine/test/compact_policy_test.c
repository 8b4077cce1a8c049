/*
 * compact_policy_test.c
 *	  How compaction behaves over time: tiers, what it costs, space that comes
 *	  back, several jobs at once, limits and the price of writing.
 */
#include "test/lsm_rig.h"

#include "tree/compact.h"
#include "tree/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static LsmRig rig;

static void
problem(void *arg, const char *text)
{
	(void) arg;
	fail_msg("check: %s", text);
}

static void
check_all(void)
{
	lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
}

static LtgStoreInfo
info_of(LtgStore *t)
{
	LtgStoreInfo info;

	ltg_store_info(rig.s, t, &info);
	return info;
}

static LtgStats
stats(void)
{
	LtgStats	st;

	ltg_stats(rig.s, &st);
	return st;
}

/* One row, hard to compress; by its number, in an order that looks random. */
static void
put(LtgStore *t, uint64_t i, uint64_t version, uint32_t len, LtgXid xid)
{
	uint64_t	rnd = i;
	uint64_t	key = lrig_random(&rnd);
	uint8_t		payload[1024];

	rnd = i * 1000003 + version;
	for (uint32_t k = 0; k < len; k += 8)
	{
		uint64_t	r = lrig_random(&rnd);

		memcpy(payload + k, &r, 8);
	}
	lrig_write(&rig, t, &key, 8, LTG_PUT, payload, len, xid, 0);
}

static void
put_many(LtgStore *t, uint64_t first, uint64_t n, uint64_t version, uint32_t len)
{
	LtgXid		x = lrig_begin(&rig);

	for (uint64_t i = first; i < first + n; i++)
		put(t, i, version, len, x);
	lrig_end(&rig, x, true);
}

static void
put_rows(LtgStore *t, uint64_t first, uint64_t n, uint32_t len, LtgKind kind)
{
	LtgXid		x = lrig_begin(&rig);
	uint64_t	rnd = first;
	uint8_t		payload[1024];

	for (uint64_t i = first; i < first + n; i++)
	{
		uint8_t		key[5];

		for (uint32_t k = 0; k < len; k += 8)
		{
			uint64_t	r = lrig_random(&rnd);

			memcpy(payload + k, &r, 8);
		}
		lrig_rowid(key, i);
		lrig_write(&rig, t, key, 5, kind, payload, kind == LTG_PUT ? len : 0, x, 0);
	}
	lrig_end(&rig, x, true);
}

static uint64_t
count_rows(LtgStore *t)
{
	RigSnapshot *snap = lrig_snapshot(&rig, 0, 0);
	LtgScanOptions opt = {.snap = &snap->snap};
	LtgScan    *scan;
	LtgBatch	b;
	LtgStatus	st;
	uint64_t	n = 0;

	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
		n += b.n;
	lrig_expect(&rig, st, LTG_END, __FILE__, __LINE__);
	ltg_scan_close(scan);
	lrig_release(&rig, snap);
	return n;
}

/* Merge until nothing is due, while something of the store is in memory. */
static void
compact_busy(LtgStore *t)
{
	LtgCompactResult r;

	put_many(t, 1, 1, 0, 16);
	do
		lrig_ok(&rig, ltg_compact(rig.s, &r));
	while (r.compacted);
}

/* ---- tiers ---- */

/*
 * New rows in random order, nothing read: each is rewritten about once for a
 * dozen flushes that come after it, and the number of runs stays bounded.
 */
static void
tiers(void **state)
{
	LtgStore   *t;
	LtgStats	st;
	LtgConfig	c;
	uint32_t	most = 0;

	(void) state;
	lrig_config(&c);
	c.file_target_bytes = 4 * 1024 * 1024;	/* level 0 isn't large yet */
	lrig_open(&rig, &c);
	t = lrig_store(&rig, 1, 0);
	for (uint64_t round = 0; round < 64; round++)
	{
		put_many(t, round * 500, 500, 0, 104);
		lrig_flush_all(&rig);
		compact_busy(t);
		if (info_of(t).l0_runs > most)
			most = info_of(t).l0_runs;
	}
	st = stats();
	assert_true(st.compact_tiers >= 3);
	assert_true(most <= LTG_BACKLOG_SLOW);
	assert_true(st.compact_bytes_written < st.flush_bytes);
	assert_true(st.flush_row_bytes >= 64 * 500 * (8 + 104));
	assert_int_equal(count_rows(t), 64 * 500);
	check_all();
	/* at rest it becomes one sorted sequence */
	lrig_flush_all(&rig);
	lrig_compact_all(&rig);
	assert_int_equal(info_of(t).l0_runs, 0);
	assert_int_equal(count_rows(t), 64 * 500);
	check_all();
	lrig_restart(&rig);
	assert_int_equal(count_rows(lrig_find(&rig, 1)), 64 * 500);
	lrig_close(&rig);
}

static uint64_t now;

static uint64_t
fake_now(LtgPort *port)
{
	(void) port;
	return now;
}

/* Reads make merging worth more. */
static void
read_stores(void **state)
{
	LtgStore   *t;
	LtgConfig	c;

	(void) state;
	lrig_config(&c);
	c.file_target_bytes = 4 * 1024 * 1024;
	lrig_open(&rig, &c);
	now = 1000000;
	rig.port->now_us = fake_now;
	t = lrig_store(&rig, 1, 0);
	for (uint64_t round = 0; round < 12; round++)
	{
		put_many(t, round * 500, 500, 0, 104);
		lrig_flush_all(&rig);
		compact_busy(t);
	}
	assert_true(info_of(t).l0_runs >= 12);
	for (uint64_t i = 0; i < 3000; i++)
	{
		RigSnapshot *snap = lrig_snapshot(&rig, 0, 0);
		uint64_t	rnd = i % 5000 + 2;
		uint64_t	key = lrig_random(&rnd);
		LtgRow		row = {0};

		lrig_ok(&rig, ltg_get(rig.s, t, (uint8_t *) &key, 8, &snap->snap, &row));
		ltg_row_free(rig.s, &row);
		lrig_release(&rig, snap);
	}
	now += 600000;
	compact_busy(t);
	assert_true(info_of(t).l0_runs < 8);
	check_all();
	lrig_close(&rig);
}

/* ---- garbage ---- */

/*
 * Nine tenths of a table are deleted while it goes on being used: its files
 * shrink without anybody asking, and what has to remain of a row costs little.
 */
static void
deleted(void **state)
{
	(void) state;
	for (int keep = 0; keep < 2; keep++)
	{
		LtgStore   *t;
		uint64_t	before, after;

		lrig_open(&rig, NULL);
		t = lrig_store(&rig, 1, keep ? LTG_STORE_KEEP_GRAVES : 0);
		put_rows(t, 1, 20000, 104, LTG_PUT);
		lrig_flush_all(&rig);
		lrig_compact_all(&rig);
		before = info_of(t).disk_bytes;
		for (uint64_t i = 0; i < 18; i++)
			put_rows(t, 1 + i * 1000, 1000, 0, LTG_DELETE);
		lrig_flush_all(&rig);
		compact_busy(t);
		after = info_of(t).disk_bytes;
		assert_true(after * 5 < before);
		assert_int_equal(info_of(t).tombstones, keep ? 18000 : 0);
		if (keep)
		{
			/* with the live tenth taken off */
			assert_true(after - before / 10 < 18000 * 2);
			ltg_store_clear_graves(rig.s, t, rig.lsn);
			compact_busy(t);
			assert_int_equal(info_of(t).tombstones, 0);
			assert_true(info_of(t).disk_bytes * 8 < before);
		}
		assert_int_equal(count_rows(t), 2001);
		check_all();
		lrig_close(&rig);
	}
}

/* An old snapshot holds the rows; when it goes, so do they. */
static void
deleted_under_snapshot(void **state)
{
	LtgStore   *t;
	RigSnapshot *old;
	uint64_t	before;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, LTG_STORE_KEEP_GRAVES);
	put_rows(t, 1, 10000, 104, LTG_PUT);
	lrig_flush_all(&rig);
	lrig_compact_all(&rig);
	before = info_of(t).disk_bytes;
	old = lrig_snapshot(&rig, 0, 0);
	put_rows(t, 1, 9000, 0, LTG_DELETE);
	lrig_flush_all(&rig);
	compact_busy(t);
	assert_true(info_of(t).disk_bytes > before / 2);
	lrig_release(&rig, old);
	/* no merge was possible before: the tombstones count as garbage still */
	compact_busy(t);
	lrig_flush_all(&rig);
	compact_busy(t);
	assert_true(info_of(t).disk_bytes * 4 < before);
	assert_int_equal(count_rows(t), 1001);
	check_all();
	lrig_close(&rig);
}

/* Updates all over a table: superseded versions don't pile up. */
static void
updated(void **state)
{
	LtgStore   *t;
	LtgConfig	c;
	uint64_t	rnd = 3,
				clean,
				most = 0;

	(void) state;
	lrig_config(&c);
	c.file_target_bytes = 1024 * 1024;
	lrig_open(&rig, &c);
	t = lrig_store(&rig, 1, LTG_STORE_KEEP_GRAVES);
	put_rows(t, 1, 20000, 104, LTG_PUT);
	lrig_flush_all(&rig);
	lrig_compact_all(&rig);
	clean = info_of(t).disk_bytes;
	for (int round = 0; round < 60; round++)
	{
		for (int i = 0; i < 50; i++)
			put_rows(t, 1 + lrig_below(&rnd, 19900), 20, 104, LTG_PUT);
		lrig_flush_all(&rig);
		compact_busy(t);
		if (info_of(t).disk_bytes > most)
			most = info_of(t).disk_bytes;
	}
	assert_true(stats().compact_garbage > 0);
	assert_true(most < clean * 7 / 4);
	assert_int_equal(count_rows(t), 20001);
	check_all();
	lrig_close(&rig);
}

/* The most that updates add to a store, in percent, and what that writes. */
static uint32_t
growth(uint32_t limit, uint64_t *written)
{
	LtgStore   *t;
	LtgConfig	c;
	uint64_t	rnd = 3,
				clean,
				most = 0;

	lrig_config(&c);
	c.file_target_bytes = 1024 * 1024;
	c.space_limit = limit;
	lrig_open(&rig, &c);
	t = lrig_store(&rig, 1, LTG_STORE_KEEP_GRAVES);
	put_rows(t, 1, 40000, 104, LTG_PUT);
	lrig_flush_all(&rig);
	lrig_compact_all(&rig);
	clean = info_of(t).disk_bytes;
	for (int round = 0; round < 30; round++)
	{
		for (int i = 0; i < 50; i++)
			put_rows(t, 1 + lrig_below(&rnd, 39900), 20, 104, LTG_PUT);
		lrig_flush_all(&rig);
		compact_busy(t);
		if (info_of(t).disk_bytes > most)
			most = info_of(t).disk_bytes;
	}
	*written = stats().compact_bytes_written;
	assert_int_equal(count_rows(t), 40001);
	check_all();
	lrig_close(&rig);
	return (uint32_t) (most * 100 / clean) - 100;
}

/* Space is bounded as was asked for, and paid for by writing. */
static void
space_limit(void **state)
{
	uint64_t	much, little, none;
	uint32_t	g10 = growth(10, &much);
	uint32_t	g25 = growth(25, &little);
	uint32_t	g = growth(0, &none);

	(void) state;
	print_message("grows by %u%%, %u%%, %u%%; writes %llu, %llu, %llu kB\n", g10, g25, g,
				  (unsigned long long) much / 1024, (unsigned long long) little / 1024,
				  (unsigned long long) none / 1024);
	/* (a flush alone is 3%; what was updated last is not settled yet, and larger) */
	assert_in_range(g10, 0, 10 + 7);
	assert_in_range(g25, 0, 25 + 7);
	assert_true(g10 < g25 && g25 < g);
	assert_true(much > little && little > none);
}

/* ---- several jobs ---- */

static LtgSession *other;
static const char *where;
static void (*in_the_middle) (void);

static void
at_stop(LsmRig *r, const char *name)
{
	void		(*fn) (void) = in_the_middle;

	(void) r;
	if (fn != NULL && strcmp(name, where) == 0)
	{
		in_the_middle = NULL;
		fn();
	}
}

static void
merge_newer(void)
{
	LtgStore   *t = lrig_find(&rig, 1);
	LtgCompactProgress p[4];
	LtgCompactResult r;
	uint32_t	before = info_of(t).l0_runs;

	assert_int_equal(ltg_compact_progress(other, p, 4), 1);
	assert_string_equal(p[0].reason, "tier");
	assert_int_equal(p[0].out_level, 0);
	assert_int_equal(p[0].worker, 77);
	assert_int_equal(p[0].key.relation, 1);
	if (strcmp(where, "compact:before-publish") == 0)
		assert_true(p[0].versions_in > 0 && p[0].bytes_written > 0 && p[0].bytes_read > 0);
	/* all of it can't be had now */
	assert_int_equal(ltg_compact_store(other, t, &r), LTG_BUSY);
	lrig_ok(&rig, ltg_compact(other, &r));
	assert_false(r.compacted);	/* it was asked for: nobody begins anything new */
	atomic_store(&t->asked_for, 0);
	for (uint64_t i = 0; i < 24; i++)
	{
		put_many(t, 100000 + i * 100, 100, 0, 104);
		lrig_flush_all(&rig);
	}
	put_many(t, 1, 1, 0, 16);
	lrig_ok(&rig, ltg_compact(other, &r));
	assert_true(r.compacted);
	assert_true(info_of(t).l0_runs < before + 24);
	check_all();
}

/* Two merges within one store, the newer one ending first. */
static void
jobs(void **state)
{
	static const char *places[] = {"compact:before-publish", "compact:slice"};

	(void) state;
	for (int p = 0; p < 2; p++)
	{
		LtgStore   *t;
		LtgCompactResult r;
		LtgConfig	c;

		lrig_config(&c);
		c.file_target_bytes = 4 * 1024 * 1024;
		lrig_open(&rig, &c);
		rig.s->host_id = 77;
		lrig_ok(&rig, ltg_session_open(rig.port, rig.shared, &other));
		t = lrig_store(&rig, 1, LTG_STORE_KEEP_GRAVES);
		for (uint64_t i = 0; i < 26; i++)
		{
			put_many(t, i * 600, 650, i, 104);
			lrig_flush_all(&rig);
		}
		put_many(t, 1, 1, 0, 16);
		rig.stop = at_stop;
		where = places[p];
		in_the_middle = merge_newer;
		lrig_ok(&rig, ltg_compact(rig.s, &r));
		assert_true(r.compacted);
		assert_null(in_the_middle);
		assert_int_equal(ltg_compact_progress(rig.s, NULL, 0), 0);
		check_all();
		assert_int_equal(count_rows(t), 15650 + 2400);
		lrig_flush_all(&rig);
		lrig_compact_all(&rig);
		check_all();
		lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
		assert_int_equal(count_rows(t), 15650 + 2400);
		ltg_session_close(other);
		lrig_close(&rig);
	}
}

static void
update_rows(uint64_t *rnd)
{
	LtgStore   *t = lrig_find(&rig, 1);

	for (int i = 0; i < 50; i++)
		put_rows(t, 1 + lrig_below(rnd, 39900), 20, 104, LTG_PUT);
	lrig_flush_all(&rig);
}

static void
many_flushes(void)
{
	LtgSession *mine = rig.s;
	LtgCompactProgress p[4];
	LtgCompactResult r;
	uint64_t	rnd = 5;
	uint32_t	before = info_of(lrig_find(&rig, 1)).l0_runs;

	assert_int_equal(ltg_compact_progress(other, p, 4), 1);
	assert_string_equal(p[0].reason, "garbage");
	rig.s = other;
	for (int i = 0; i < LTG_BACKLOG_SLOW; i++)
	{
		update_rows(&rnd);
		put_many(lrig_find(&rig, 1), 1, 1, 0, 16);
		do
			lrig_ok(&rig, ltg_compact(other, &r));
		while (r.compacted);
	}
	rig.s = mine;
	assert_in_range(info_of(lrig_find(&rig, 1)).l0_runs, before, LTG_BACKLOG_SLOW);
}

/* While level 0 goes down, what is flushed meanwhile is merged among itself. */
static void
tiers_meanwhile(void **state)
{
	LtgConfig	c;
	LtgCompactResult r;
	LtgStore   *t;
	uint64_t	rnd = 3;

	(void) state;
	lrig_config(&c);
	c.file_target_bytes = 1024 * 1024;
	c.space_limit = 20;
	lrig_open(&rig, &c);
	lrig_ok(&rig, ltg_session_open(rig.port, rig.shared, &other));
	t = lrig_store(&rig, 1, LTG_STORE_KEEP_GRAVES);
	put_rows(t, 1, 40000, 104, LTG_PUT);
	lrig_flush_all(&rig);
	lrig_compact_all(&rig);
	rig.stop = at_stop;
	where = "compact:slice";
	in_the_middle = many_flushes;
	do
	{
		/* to level 0, not straight down */
		rig.s->shared->config.space_limit = 0;
		update_rows(&rnd);
		put_many(t, 1, 1, 0, 16);
		rig.s->shared->config.space_limit = 20;
		lrig_ok(&rig, ltg_compact(rig.s, &r));
	} while (!r.compacted);
	assert_null(in_the_middle);
	check_all();
	ltg_session_close(other);
	lrig_close(&rig);
}

/* Tombstones of some rows arrive in level 0 while a run of level 1 is chosen. */
static void
flush_tombstones(void)
{
	LtgSession *mine = rig.s;

	rig.s = other;
	put_rows(lrig_find(&rig, 1), 10, 20, 0, LTG_DELETE);
	lrig_flush_all(&rig);
	rig.s = mine;
}

/* A flush between scoring and planning moves the places of runs (C6). */
static void
stale_places(void **state)
{
	LtgStore   *t;
	LtgCompactResult r;
	LtgConfig	c;
	LtgXid		open_xid;

	(void) state;
	lrig_config(&c);
	lrig_open(&rig, &c);
	lrig_ok(&rig, ltg_session_open(rig.port, rig.shared, &other));
	t = lrig_store(&rig, 1, LTG_STORE_KEEP_GRAVES);
	/* versions of level 1 that can be settled later on */
	open_xid = lrig_begin(&rig);
	put_rows(t, 0, 500, 104, LTG_PUT);
	lrig_flush_all(&rig);
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_true(info_of(t).unsettled > 0);
	assert_int_equal(info_of(t).l0_runs, 0);
	lrig_end(&rig, open_xid, true);

	rig.stop = at_stop;
	where = "compact:scored";
	in_the_middle = flush_tombstones;
	lrig_ok(&rig, ltg_compact(rig.s, &r));
	assert_null(in_the_middle);
	check_all();
	assert_int_equal(count_rows(t), 480);
	lrig_compact_all(&rig);
	check_all();
	assert_int_equal(count_rows(t), 480);
	ltg_session_close(other);
	lrig_close(&rig);
}

/* ---- limits ---- */

static uint64_t paused[2];
static uint64_t latest = UINT64_MAX;	/* nobody waits beyond */

static void
fake_pause(LtgPort *port, uint64_t us, LtgPause why)
{
	(void) port;
	now += us;
	assert_true(now < latest);
	paused[why] += us;
}

static void
rate_limit(void **state)
{
	LtgStore   *t;
	LtgCompactResult r;
	uint64_t	bytes, began;

	(void) state;
	lrig_open(&rig, NULL);
	now = 1000000;
	rig.port->now_us = fake_now;
	rig.port->pause = fake_pause;
	t = lrig_store(&rig, 1, 0);
	for (uint64_t i = 0; i < 8; i++)
	{
		put_many(t, i, 2000, i, 504);
		lrig_flush_all(&rig);
	}
	/* about eight seconds' worth, in slices of 64 kB at least */
	ltg_set_rate_limit(rig.s, 1000000);
	memset(paused, 0, sizeof(paused));
	began = now;
	lrig_ok(&rig, ltg_compact(rig.s, &r));
	bytes = r.bytes_read + r.bytes_written;
	assert_true(r.compacted && bytes > 4000000);
	assert_true(now - began > bytes / 2 && now - began < bytes * 3 / 2);
	assert_int_equal(paused[LTG_PAUSE_LIMIT], now - began);
	assert_true(stats().limit_waits > 10);
	assert_true(stats().limit_wait_us == now - began);

	/* flushes are counted, so that others wait for them, but don't wait */
	memset(paused, 0, sizeof(paused));
	put_many(t, 1, 1000, 9, 504);
	lrig_flush_all(&rig);
	assert_int_equal(paused[LTG_PAUSE_LIMIT], 0);
	assert_true(ltg_pace_must_wait(rig.s, LTG_WORK_REST));
	/* what is asked for doesn't wait either */
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_int_equal(paused[LTG_PAUSE_LIMIT], 0);
	/* level 0 goes before the rest */
	now += 100000000;
	ltg_pace_take(rig.s, LTG_WORK_REST, 3000000);
	assert_true(ltg_pace_must_wait(rig.s, LTG_WORK_REST));
	assert_false(ltg_pace_must_wait(rig.s, LTG_WORK_LEVEL0));
	/* off again: at once */
	ltg_set_rate_limit(rig.s, 0);
	assert_false(ltg_pace_must_wait(rig.s, LTG_WORK_REST));
	check_all();
	lrig_close(&rig);
}

/*
 * What is held back before it is compressed counts for an estimate: when that was
 * too high, nothing is given back, and nobody waits for ever.
 */
static void
limit_and_compressible(void **state)
{
	LtgStore   *t;
	LtgCompactResult r;
	LtgConfig	c;
	uint64_t	began;

	(void) state;
	lrig_config(&c);
	c.space_limit = 0;			/* no flush goes straight down */
	c.file_target_bytes = 64 * 1024 * 1024;
	lrig_open(&rig, &c);
	now = 1000000;
	rig.port->now_us = fake_now;
	rig.port->pause = fake_pause;
	t = lrig_store(&rig, 1, 0);
	for (uint64_t i = 0; i < 8; i++)
	{
		LtgXid		x = lrig_begin(&rig);

		for (uint64_t k = 0; k < 6000; k++)
		{
			static const uint8_t payload[504];
			uint8_t		key[5];

			lrig_rowid(key, k);
			lrig_write(&rig, t, key, 5, LTG_PUT, payload, sizeof(payload), x, 0);
		}
		lrig_end(&rig, x, true);
		lrig_flush_all(&rig);
	}
	ltg_set_rate_limit(rig.s, 2000000);
	began = now;
	latest = now + 30000000;
	do
		lrig_ok(&rig, ltg_compact(rig.s, &r));
	while (r.compacted && info_of(t).l0_runs > 0);
	assert_int_equal(info_of(t).l0_runs, 0);
	assert_true(now - began > 100000 && now - began < 2000000);
	latest = UINT64_MAX;
	check_all();
	lrig_close(&rig);
}

/*
 * Work that never waits may take any amount: what others have to wait for it is
 * bounded all the same.
 */
static void
limit_and_debts(void **state)
{
	(void) state;
	lrig_open(&rig, NULL);
	now = 1000000;
	rig.port->now_us = fake_now;
	ltg_set_rate_limit(rig.s, 1000000);
	ltg_pace_take(rig.s, LTG_WORK_FLUSH, 5000000);
	now += 4000000;
	assert_true(ltg_pace_must_wait(rig.s, LTG_WORK_LEVEL0));
	now += 2000000;
	assert_false(ltg_pace_must_wait(rig.s, LTG_WORK_LEVEL0));
	ltg_pace_take(rig.s, LTG_WORK_FLUSH, UINT64_C(10000000000));
	assert_true(ltg_pace_must_wait(rig.s, LTG_WORK_REST));
	now += 61000000;
	assert_false(ltg_pace_must_wait(rig.s, LTG_WORK_REST));
	lrig_close(&rig);
}

/* A limit that is hit does not outlive the work it was for. */
static void
limit_and_interrupt(void **state)
{
	LtgStore   *t;
	LtgCompactResult r;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	for (uint64_t i = 0; i < 8; i++)
	{
		put_many(t, i, 2000, i, 504);
		lrig_flush_all(&rig);
	}
	ltg_set_rate_limit(rig.s, 65536);
	ltg_pace_take(rig.s, LTG_WORK_FLUSH, 100000000);
	rig.interrupted = true;
	assert_int_equal(ltg_compact(rig.s, &r), LTG_INTERRUPTED);
	ltg_clear_error(rig.s);
	rig.interrupted = false;
	assert_int_equal(ltg_compact_progress(rig.s, NULL, 0), 0);
	ltg_set_rate_limit(rig.s, 0);
	lrig_ok(&rig, ltg_compact(rig.s, &r));
	assert_true(r.compacted);
	lrig_close(&rig);
}

/* ---- writers ---- */

static void
slowed(void **state)
{
	LtgStore   *t;
	LtgFlushResult fr;
	LtgConfig	c;
	uint64_t	total = 0;

	(void) state;
	lrig_config(&c);
	c.memtable_count = 4;
	lrig_open(&rig, &c);
	now = 1000000;
	rig.port->now_us = fake_now;
	t = lrig_store(&rig, 1, 0);
	/* a flush of a full arena takes a second */
	assert_int_equal(ltg_write_delay(rig.s, 1000), 0);
	ltg_pace_flushed(rig.s, c.memtable_bytes, 1000000);
	assert_int_equal(ltg_write_delay(rig.s, 1000), 0);
	for (int i = 0; i < 3; i++)
	{
		put_many(t, (uint64_t) i * 1000, 10, 0, 104);
		lrig_freeze(&rig);
	}
	/* none is left: the rate is below that of the flush, and waits are even */
	assert_true(stats().write_rate > 0 && stats().write_rate < c.memtable_bytes);
	for (int i = 0; i < 1000; i++)
	{
		uint64_t	us = ltg_write_delay(rig.s, 904);

		assert_true(us < 5000);
		now += us;
		total += us;
	}
	assert_true(total > 900000 && total < 1500000);
	assert_true(stats().write_delays > 100 && stats().write_delay_us == total);
	for (int i = 0; i < 3; i++)
		lrig_ok(&rig, ltg_flush(rig.s, &fr));
	assert_int_equal(stats().write_rate, 0);
	assert_int_equal(ltg_write_delay(rig.s, 1000), 0);

	/* level-0 runs that nobody merges: slower with every flush, and free again
	 * when they are merged */
	{
		uint64_t	before = UINT64_MAX;

		for (uint64_t i = 0; i < LTG_BACKLOG_MAX; i++)
		{
			put_many(t, i, 10, i, 104);
			now += 1000000;
			lrig_freeze(&rig);
			lrig_ok(&rig, ltg_flush(rig.s, &fr));
			if (i + 4 < LTG_BACKLOG_SLOW)
				assert_int_equal(stats().write_rate, 0);
			if (i > LTG_BACKLOG_SLOW)
			{
				assert_true(stats().write_rate > 0 && stats().write_rate <= before);
				before = stats().write_rate;
			}
		}
		assert_true(before < 1048576 / 2);
		lrig_compact_all(&rig);
		assert_int_equal(stats().write_rate, 0);
	}
	lrig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tiers),
		cmocka_unit_test(read_stores),
		cmocka_unit_test(deleted),
		cmocka_unit_test(deleted_under_snapshot),
		cmocka_unit_test(updated),
		cmocka_unit_test(space_limit),
		cmocka_unit_test(jobs),
		cmocka_unit_test(tiers_meanwhile),
		cmocka_unit_test(stale_places),
		cmocka_unit_test(rate_limit),
		cmocka_unit_test(limit_and_compressible),
		cmocka_unit_test(limit_and_debts),
		cmocka_unit_test(limit_and_interrupt),
		cmocka_unit_test(slowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
