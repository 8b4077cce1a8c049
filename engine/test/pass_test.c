/*
 * pass_test.c
 *	  Dead stretches of generations: walks become short, and what is written into
 *	  one is met; scans against look-ups, which know nothing of stretches.
 */
#include "test/lsm_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "storage/run.h"
#include "tree/memtable.h"

/* ---- one generation ---- */

#define ARENA_BYTES (4 * 1024 * 1024)
#define STORE 3

static LtgGeneration *gen;
static LtgSeq last_seq;

static void
write_version(uint64_t id, LtgKind kind)
{
	LtgVersion	v = {.kind = kind, .state = LTG_SETTLED, .seq = ++last_seq, .aux = 77};
	uint8_t		key[5];
	uint64_t	token;

	lrig_rowid(key, id);
	assert_true(ltg_gen_prepare(gen, STORE));
	token = ltg_gen_reserve(gen, ltg_mem_need(5, 0));
	assert_true(token != 0);
	(void) ltg_mem_insert(gen, STORE, key, 5, ltg_key_hash(key, 5), &v, &token);
}

/* Passes dead keys; returns the number of nodes met, and of live ones. */
static uint32_t
walk(uint32_t *live)
{
	LtgMemList *l = ltg_gen_list(gen, STORE);
	LtgMemPass	pass = {0};
	LtgMemNode *n = ltg_mem_seek_ge(gen, l, NULL, 0);
	uint32_t	met = 0;
	bool		far;

	for (*live = 0; n != NULL; met++)
	{
		LtgMemVersion *newest = ltg_mem_newest(gen, n);
		LtgVersion	v;

		ltg_mem_read(newest, &v);
		if (v.kind != LTG_PUT)
		{
			assert_int_equal(v.aux, 77);
			n = ltg_mem_pass(gen, l, &pass, n, newest, &far);
			continue;
		}
		ltg_mem_pass_end(&pass);
		(*live)++;
		n = ltg_mem_next(gen, n);
	}
	ltg_mem_pass_end(&pass);
	return met;
}

static void
expect_walk(uint32_t live, uint32_t at_least, uint32_t at_most)
{
	uint32_t	seen;
	uint32_t	met = walk(&seen);
	char		msg[200] = "";

	assert_int_equal(seen, live);
	assert_in_range(met, at_least, at_most);
	if (!ltg_gen_check(gen, msg, sizeof(msg)))
		fail_msg("%s", msg);
}

static void
short_walks(void **state)
{
	void	   *mem = aligned_alloc(64, ARENA_BYTES);

	(void) state;
	gen = ltg_gen_init(mem, ARENA_BYTES);
	ltg_gen_reset(gen, 1);
	/* only ids divisible by 10 at first */
	for (uint64_t id = 10; id <= 10000; id += 10)
		write_version(id, LTG_PUT);
	expect_walk(1000, 1000, 1000);
	for (uint64_t id = 10; id <= 10000; id += 10)
		if (id != 5000)
			write_version(id, LTG_DELETE);
	expect_walk(1, 1000, 1000);
	expect_walk(1, 3, 60);
	/* behind the last, as a queue grows: the notes stay good */
	for (uint64_t id = 10010; id <= 20000; id += 10)
	{
		write_version(id, LTG_PUT);
		expect_walk(2, 3, 100);
		write_version(id, LTG_DELETE);
		expect_walk(1, 3, 100);
	}
	/* into the middle: met at once, and passed again when it is dead */
	write_version(2005, LTG_PUT);
	expect_walk(2, 1000, 3000);
	expect_walk(2, 3, 100);
	write_version(2005, LTG_DELETE);
	expect_walk(1, 3, 3000);
	expect_walk(1, 3, 100);
	/* a key that comes back, at several places of a stretch */
	for (uint64_t id = 10; id <= 10000; id += 770)
	{
		write_version(id, LTG_PUT);
		expect_walk(id == 5000 ? 1 : 2, 3, 3000);
		write_version(id, LTG_DELETE);
		expect_walk(1, 3, 3000);
		expect_walk(1, 3, 100);
	}
	free(mem);
}

/* ---- scans ---- */

#define IDS 800
#define SNAPS 4

typedef struct World
{
	LsmRig		rig;
	LtgStore   *store;
	uint64_t	rnd;
	RigSnapshot *snap[SNAPS];
	bool		row[IDS];		/* there is one now */
	uint32_t	rows;
} World;

static void
scan_against_gets(World *w, RigSnapshot *snap)
{
	uint32_t	from = lrig_below(&w->rnd, 3) == 0 ? lrig_below(&w->rnd, IDS) : 0;
	LtgScanOptions opt = {.snap = &snap->snap};
	LtgRow		row = {0};
	LtgScan    *scan;
	LtgBatch	b = {0};
	uint8_t		lo[5];
	uint32_t	at = 0;
	LtgStatus	st;

	lrig_rowid(lo, from);
	opt.lo = lo;
	opt.lo_len = 5;
	opt.max_rows = lrig_below(&w->rnd, 2) ? 0 : 1 + lrig_below(&w->rnd, 5);
	lrig_ok(&w->rig, ltg_scan_open(w->rig.s, w->store, &opt, &scan));
	st = ltg_scan_next(scan, &b);
	for (uint32_t id = from; id < IDS; id++)
	{
		const uint8_t *key;
		uint32_t	len;
		LtgVersion	v;
		uint8_t		want[5];

		lrig_rowid(want, id);
		if (ltg_get(w->rig.s, w->store, want, 5, &snap->snap, &row) == LTG_NOT_FOUND)
			continue;
		if (st == LTG_OK && at == b.n)
		{
			st = ltg_scan_next(scan, &b);
			at = 0;
		}
		if (st != LTG_OK)
			fail_msg("scan lacks row %u", id);
		ltg_batch_row(scan, at++, &key, &len, &v);
		if (memcmp(key, want, 5) != 0)
			fail_msg("scan gives another row than %u", id);
		w->rows++;
	}
	if (st == LTG_OK && at == b.n)
		st = ltg_scan_next(scan, &b);
	lrig_expect(&w->rig, st, LTG_END, __FILE__, __LINE__);
	ltg_scan_close(scan);
	ltg_row_free(w->rig.s, &row);
}

static void
scan_now(World *w)
{
	RigSnapshot *snap = lrig_snapshot(&w->rig, 0, 0);

	scan_against_gets(w, snap);
	lrig_release(&w->rig, snap);
}

static void
write_id(World *w, uint32_t id, LtgKind kind, LtgXid xid)
{
	uint8_t		key[5];

	lrig_rowid(key, id);
	lrig_write(&w->rig, w->store, key, 5, kind, "row", kind == LTG_PUT ? 3 : 0, xid, 0);
}

/* One transaction: rows that come, or go, in a range. */
static void
change_range(World *w, bool come)
{
	uint32_t	from = lrig_below(&w->rnd, IDS);
	uint32_t	n = 1 + lrig_below(&w->rnd, come ? 60 : 200);
	uint32_t	leave = 2 + lrig_below(&w->rnd, 40);
	LtgXid		xid = lrig_begin(&w->rig);
	bool		commit = lrig_below(&w->rnd, 6) != 0;

	for (uint32_t id = from; id < from + n && id < IDS; id++)
	{
		if (w->row[id] == come || lrig_below(&w->rnd, leave) == 0)
			continue;
		write_id(w, id, come ? LTG_PUT : LTG_DELETE, xid);
		if (commit)
			w->row[id] = come;
		if (lrig_below(&w->rnd, 50) == 0)
			scan_now(w);
	}
	lrig_end(&w->rig, xid, commit);
}

static void
snapshots(World *w)
{
	uint32_t	i = lrig_below(&w->rnd, SNAPS);

	if (w->snap[i] == NULL)
		w->snap[i] = lrig_snapshot(&w->rig, 0, 0);
	else
	{
		scan_against_gets(w, w->snap[i]);
		lrig_release(&w->rig, w->snap[i]);
		w->snap[i] = NULL;
	}
}

static void
problem(void *arg, const char *text)
{
	(void) arg;
	fail_msg("check: %s", text);
}

static void
one_life(uint64_t seed)
{
	World	   *w = calloc(1, sizeof(World));

	w->rnd = seed;
	lrig_open(&w->rig, NULL);
	w->store = lrig_store(&w->rig, 1, seed % 2 == 0 ? LTG_STORE_KEEP_GRAVES : 0);
	/* a few rows in files, which tombstones in memory will hide */
	if (seed % 3 != 0)
	{
		LtgXid		xid = lrig_begin(&w->rig);

		for (uint32_t i = 0; i < 12; i++)
		{
			uint32_t	id = lrig_below(&w->rnd, IDS);

			if (!w->row[id])
				write_id(w, id, LTG_PUT, xid);
			w->row[id] = true;
		}
		lrig_end(&w->rig, xid, true);
		lrig_flush_all(&w->rig);
	}
	for (uint32_t i = 0; i < 150; i++)
	{
		uint32_t	what = lrig_below(&w->rnd, 40);

		if (what < 14)
			change_range(w, true);
		else if (what < 24)
			change_range(w, false);
		else if (what < 28)
			snapshots(w);
		else if (what == 28)
			lrig_freeze(&w->rig);
		else if (what == 29 && seed % 4 == 0)
			lrig_flush_all(&w->rig);
		else
			scan_now(w);
		for (uint32_t k = 0; k < SNAPS; k++)
			if (w->snap[k] != NULL && lrig_below(&w->rnd, 4) == 0)
				scan_against_gets(w, w->snap[k]);
		if (what == 39)
			lrig_ok(&w->rig, ltg_check_all(w->rig.s, problem, w));
	}
	for (uint32_t k = 0; k < SNAPS; k++)
		if (w->snap[k] != NULL)
			lrig_release(&w->rig, w->snap[k]);
	assert_true(w->rows > 0);
	lrig_close(&w->rig);
	free(w);
}

static uint32_t
count_rows(World *w, RigSnapshot *snap)
{
	LtgScanOptions opt = {.snap = &snap->snap};
	uint32_t	rows = 0;
	LtgScan    *scan;
	LtgBatch	b;
	LtgStatus	st;

	lrig_ok(&w->rig, ltg_scan_open(w->rig.s, w->store, &opt, &scan));
	while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
		rows += b.n;
	lrig_expect(&w->rig, st, LTG_END, __FILE__, __LINE__);
	ltg_scan_close(scan);
	return rows;
}

/*
 * A queue: scans do not walk through all that was taken from it.  The snapshots have
 * each version judged, so it shows what they look at.
 */
static void
queue(void **state)
{
	World	   *w = calloc(1, sizeof(World));
	uint32_t	next = 0;

	(void) state;
	lrig_open(&w->rig, NULL);
	w->store = lrig_store(&w->rig, 1, 0);
	for (uint32_t i = 0; i < IDS; i++)
	{
		LtgXid		xid = lrig_begin(&w->rig);
		RigSnapshot *snap;
		RigSnapshot judging;

		write_id(w, i, LTG_PUT, xid);
		if (i >= 10)
			write_id(w, next++, LTG_DELETE, xid);
		lrig_end(&w->rig, xid, true);
		snap = lrig_snapshot(&w->rig, 0, 0);
		judging = *snap;
		judging.snap.xmin = 1;
		assert_int_equal(count_rows(w, &judging), i + 1 - next);
		assert_in_range(judging.judged, 1, 100);
		lrig_release(&w->rig, snap);
	}
	lrig_close(&w->rig);
	free(w);
}

static void
scans(void **state)
{
	const char *given = getenv("LIGHTNING_SEED");

	(void) state;
	if (given != NULL)
	{
		one_life(strtoull(given, NULL, 10));
		return;
	}
	for (uint64_t seed = 1; seed <= 40; seed++)
	{
		print_message("seed %llu\n", (unsigned long long) seed);
		one_life(seed);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_walks),
		cmocka_unit_test(queue),
		cmocka_unit_test(scans),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
