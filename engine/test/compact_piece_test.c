/*
 * compact_piece_test.c
 *	  Merges that take effect in pieces (C7): whatever is read between two
 *	  pieces, in either direction, by key or by scan, is what was there before;
 *	  files come free on the way; a crash or an error leaves the pieces there are.
 *	  The same for flushes that are such merges (C8).
 */
#include "test/lsm_rig.h"

#include "tree/publish.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ROWS 6000
#define STEP 3					/* of row ids, so that there are gaps */

static LsmRig rig;
static LtgStore *t;
static uint32_t version[ROWS];	/* 0: no such row */
static uint32_t pieces;
static uint32_t least_files, most_cut;
static enum {LOOK, FAIL, INTERRUPT, PRESS, BREAK, HURRY, ASK, REPLACE} at_piece;
static bool unlogged;

static void
problem(void *arg, const char *text)
{
	(void) arg;
	fail_msg("check: %s", text);
}

static uint64_t
rowid_of(uint32_t i)
{
	return (uint64_t) i * STEP + 1;
}

static void
put(LtgXid x, uint32_t i, uint32_t v)
{
	uint8_t		key[5];
	char		payload[128];
	uint64_t	rnd = i * 1000 + v;

	lrig_rowid(key, rowid_of(i));
	for (uint32_t k = 8; k < sizeof(payload); k += 8)
	{
		uint64_t	r = lrig_random(&rnd);

		memcpy(payload + k, &r, 8);
	}
	memcpy(payload, &i, 4);
	memcpy(payload + 4, &v, 4);
	if (unlogged)
	{
		LtgWrite	w = {.store = t, .key = key, .key_len = 5};

		w.v.kind = LTG_PUT;
		w.v.xid = x;
		w.v.payload = (const uint8_t *) payload;
		w.v.payload_len = sizeof(payload);
		lrig_ok(&rig, ltg_reserve(rig.s, &w, 1));
		ltg_apply(rig.s, &w, 1, ltg_next_unlogged_seq(rig.s));
	}
	else
		lrig_write(&rig, t, key, 5, LTG_PUT, payload, sizeof(payload), x, 0);
	version[i] = v;
}

static void
erase(LtgXid x, uint32_t i)
{
	uint8_t		key[5];

	lrig_rowid(key, rowid_of(i));
	lrig_write(&rig, t, key, 5, LTG_DELETE, NULL, 0, x, 0);
	version[i] = 0;
}

/* Rows that were written twice and merged, so that there are several files. */
static void
fill(void)
{
	LtgCompactResult r;

	for (uint32_t round = 0; round < 2; round++)
	{
		LtgXid		x = lrig_begin(&rig);

		for (uint32_t i = 0; i < ROWS; i += round + 1)
			put(x, i, 1);
		lrig_end(&rig, x, true);
		lrig_flush_all(&rig);
		lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	}
}

/* Such rows, and then two runs of newer versions. */
static void
prepare(bool deletes)
{
	uint64_t	rnd = 7;
	LtgXid		x;

	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	fill();
	for (uint32_t round = 2; round < 4; round++)
	{
		x = lrig_begin(&rig);
		for (uint32_t k = 0; k < ROWS / 20; k++)
		{
			uint32_t	i = lrig_below(&rnd, ROWS);

			if (deletes && k % 3 == 0)
				erase(x, i);
			else
				put(x, i, round);
		}
		lrig_end(&rig, x, true);
		lrig_flush_all(&rig);
	}
}

static void
expect_row(const LtgVersion *v, const uint8_t *key, uint32_t key_len, uint32_t i)
{
	uint8_t		want[5];

	lrig_rowid(want, rowid_of(i));
	assert_int_equal(key_len, 5);
	assert_memory_equal(key, want, 5);
	assert_memory_equal(v->payload, &i, 4);
	assert_memory_equal(v->payload + 4, &version[i], 4);
}

static void
read_by_scan(LtgSnapshot *snap, bool backward, uint32_t from, uint32_t to)
{
	uint8_t		lo[5], hi[5];
	LtgScanOptions opt = {.snap = snap,.backward = backward,.lo = lo,.lo_len = 5,.hi = hi,
	.hi_len = 5};
	LtgScan    *scan;
	LtgBatch	b;
	LtgStatus	st;
	uint32_t	i = backward ? to : from;

	lrig_rowid(lo, rowid_of(from));
	lrig_rowid(hi, rowid_of(to));
	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
		for (uint32_t k = 0; k < b.n; k++)
		{
			const uint8_t *key;
			uint32_t	key_len;
			LtgVersion	v;

			ltg_batch_row(scan, k, &key, &key_len, &v);
			if (backward)
				while (version[--i] == 0)
					;
			else
				while (version[i] == 0)
					i++;
			expect_row(&v, key, key_len, i);
			i += !backward;
		}
	lrig_expect(&rig, st, LTG_END, __FILE__, __LINE__);
	while (backward ? i > from && version[i - 1] == 0 : i < to && version[i] == 0)
		i = backward ? i - 1 : i + 1;
	assert_int_equal(i, backward ? from : to);
	ltg_scan_close(scan);
}

static void
read_by_key(LtgSnapshot *snap)
{
	LtgRow		row = {0};

	for (uint32_t i = 0; i < ROWS; i += 7)
	{
		uint8_t		key[5];

		lrig_rowid(key, rowid_of(i));
		if (version[i] == 0)
			lrig_expect(&rig, ltg_get(rig.s, t, key, 5, snap, &row), LTG_NOT_FOUND, __FILE__, __LINE__);
		else
		{
			lrig_ok(&rig, ltg_get(rig.s, t, key, 5, snap, &row));
			expect_row(&row.v, key, 5, i);
		}
		lrig_rowid(key, rowid_of(i) + 1);
		lrig_expect(&rig, ltg_get(rig.s, t, key, 5, snap, &row), LTG_NOT_FOUND, __FILE__, __LINE__);
	}
	ltg_row_free(rig.s, &row);
}

static void
read_all(void)
{
	RigSnapshot *snap = lrig_snapshot(&rig, 0, 0);
	uint64_t	rnd = 3;

	read_by_scan(&snap->snap, false, 0, ROWS);
	read_by_scan(&snap->snap, true, 0, ROWS);
	for (int i = 0; i < 10; i++)
	{
		uint32_t	from = lrig_below(&rnd, ROWS);
		uint32_t	to = from + lrig_below(&rnd, ROWS - from);

		read_by_scan(&snap->snap, false, from, to);
		read_by_scan(&snap->snap, true, from, to);
	}
	read_by_key(&snap->snap);
	lrig_release(&rig, snap);
}

static uint32_t
cut_runs(void)
{
	const LtgRunSet *rs = atomic_load(&t->runs);
	uint32_t	n = 0;

	for (uint32_t i = 0; i < rs->n; i++)
		n += rs->run[i].cut;
	return n;
}

/* The newest manifest only, as when no checkpoint or backup needs others. */
static void
remove_obsolete(void)
{
	uint32_t	removed;

	lrig_ok(&rig, ltg_remove_obsolete(rig.s, &removed));
}

/* As TRUNCATE does: the same key, an empty store. */
static void
replace(void)
{
	LtgXid		x;

	t = lrig_store(&rig, 1, 0);
	memset(version, 0, sizeof(version));
	x = lrig_begin(&rig);
	for (uint32_t i = 0; i < ROWS; i += 11)
		put(x, i, 7);
	lrig_end(&rig, x, true);
}

static void
stop(LsmRig *r, const char *name)
{
	uint32_t	n;

	if (strcmp(name, "compact:piece") != 0 && strcmp(name, "flush:piece") != 0)
		return;
	pieces++;
	n = cut_runs();
	if (n > most_cut)
		most_cut = n;
	if (at_piece == INTERRUPT)
		r->interrupted = pieces == 3;
	if (at_piece == PRESS && pieces == 3)
		lrig_freeze(&rig);		/* the last arena is active now */
	if (at_piece == HURRY && pieces == 3)
		ltg_hurry(rig.s, true);
	if (at_piece == ASK && pieces == 3)
	{
		LtgCompactResult c;

		lrig_expect(&rig, ltg_compact_store(rig.s, t, &c), LTG_BUSY, __FILE__, __LINE__);
		ltg_clear_error(rig.s);
	}
	if (at_piece == REPLACE && pieces == 3)
		replace();
	if (at_piece == BREAK && pieces == 3)
		ltg_posix_fail(rig.posix, LTG_FAULT_WRITE, 1, false, 0);
	if (at_piece == LOOK)
	{
		LtgStats	stats;

		remove_obsolete();
		ltg_stats(rig.s, &stats);
		assert_int_equal(stats.obsolete_files, 0);
		if (least_files == 0 || stats.files < least_files)
			least_files = stats.files;
		lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
		read_all();
	}
}

static void
compact_in_pieces(LtgStatus want)
{
	LtgCompactResult r;

	pieces = most_cut = least_files = 0;
	rig.stop = stop;
	lrig_expect(&rig, ltg_compact_store(rig.s, t, &r), want, __FILE__, __LINE__);
	rig.stop = NULL;
	rig.interrupted = false;
	ltg_clear_error(rig.s);
}

static void
between_pieces(void **state)
{
	LtgStats	before, after;

	(void) state;
	for (int deletes = 0; deletes < 2; deletes++)
	{
		prepare(deletes);
		remove_obsolete();
		ltg_stats(rig.s, &before);
		at_piece = LOOK;
		compact_in_pieces(LTG_OK);
		assert_in_range(pieces, 5, 1000);
		/* both newer runs, and one of the level that a piece ended in */
		assert_int_equal(most_cut, 3);
		/* what was written is not there beside all that was read */
		assert_in_range(least_files, 1, before.files + 2);
		assert_int_equal(cut_runs(), 0);
		remove_obsolete();
		ltg_stats(rig.s, &after);
		assert_in_range(after.file_bytes, 1, before.file_bytes);
		read_all();
		lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
		lrig_close(&rig);
	}
}

/* What is left after an interruption is read, merged on, and survives a crash. */
static void
interrupted(void **state)
{
	uint32_t	cut;

	(void) state;
	for (int crash = 0; crash < 2; crash++)
	{
		prepare(true);
		at_piece = INTERRUPT;
		compact_in_pieces(LTG_INTERRUPTED);
		assert_int_equal(pieces, 3);
		cut = cut_runs();
		assert_in_range(cut, 2, 3);
		read_all();
		if (crash)
		{
			lrig_restart(&rig);
			t = lrig_find(&rig, 1);
			assert_int_equal(cut_runs(), cut);
			read_all();
		}
		lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
		/* goes on behind the cut, where pieces are cut again */
		at_piece = LOOK;
		compact_in_pieces(LTG_OK);
		assert_in_range(pieces, 1, 1000);
		assert_int_equal(cut_runs(), 0);
		read_all();
		lrig_close(&rig);
	}
}

/* Keys that no bound holds exactly are merged in one piece. */
static void
long_keys(void **state)
{
	char		key[64];

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	for (int round = 0; round < 3; round++)
	{
		for (int i = 0; i < 2000; i += round + 1)
		{
			snprintf(key, sizeof(key), "a key with a long common prefix %05d", i);
			lrig_put(&rig, t, key, "payload payload payload payload payload");
		}
		lrig_flush_all(&rig);
		if (round == 0)
			lrig_compact_all(&rig);
	}
	at_piece = FAIL;
	compact_in_pieces(LTG_OK);
	assert_int_equal(pieces, 0);
	lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
	lrig_close(&rig);
}

/* ---- flushes ---- */

static LtgSeq frozen_at;

/* Merged rows, and new versions of many of them that wait for their flush. */
static void
prepare_flush(void)
{
	uint64_t	rnd = 11;
	LtgConfig	c;
	LtgXid		x;

	lrig_config(&c);
	c.space_limit = 10;
	c.memtable_bytes = 4 * 1024 * 1024;
	lrig_open(&rig, &c);
	t = lrig_store(&rig, 1, unlogged ? LTG_STORE_UNLOGGED : 0);
	fill();
	x = lrig_begin(&rig);
	for (uint32_t k = 0; k < ROWS / 3; k++)
	{
		uint32_t	i = lrig_below(&rnd, ROWS);

		if (k % 5 == 0 && !unlogged)
			erase(x, i);
		else
			put(x, i, 2);
	}
	lrig_end(&rig, x, true);
	lrig_ok(&rig, ltg_freeze(rig.s, &frozen_at));
}

static LtgStoreInfo
info(void)
{
	LtgStoreInfo i;

	ltg_store_info(rig.s, t, &i);
	return i;
}

static void
flush_in_pieces(LtgStatus want)
{
	LtgFlushResult r;

	pieces = most_cut = least_files = 0;
	rig.stop = stop;
	lrig_expect(&rig, ltg_flush(rig.s, &r), want, __FILE__, __LINE__);
	rig.stop = NULL;
	rig.interrupted = false;
	ltg_posix_no_faults(rig.posix);
	ltg_clear_error(rig.s);
}

static void
flush_between_pieces(void **state)
{
	LtgStats	before, after;

	(void) state;
	prepare_flush();
	remove_obsolete();
	ltg_stats(rig.s, &before);
	at_piece = LOOK;
	flush_in_pieces(LTG_OK);
	assert_in_range(pieces, 5, 1000);
	/* what was written is not there beside all that was read */
	assert_in_range(least_files, 1, before.files + 2);
	assert_int_equal(info().l0_runs, 0);
	assert_int_equal(ltg_durable(rig.s), frozen_at);
	remove_obsolete();
	ltg_stats(rig.s, &after);
	assert_in_range(after.file_bytes, 1, before.file_bytes + before.file_bytes / 20);
	/* each new row was counted once */
	assert_int_equal(after.flush_versions_in - before.flush_versions_in, ROWS / 3);
	read_all();
	lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
	lrig_close(&rig);
}

/* Nobody else merges what replay may need. */
static void
expect_left_alone(void)
{
	LtgCompactResult r;

	assert_int_equal(lrig_compact_all(&rig), 0);
	lrig_expect(&rig, ltg_compact_store(rig.s, t, &r), LTG_BUSY, __FILE__, __LINE__);
	ltg_clear_error(rig.s);
}

static void
flush_goes_on(void **state)
{
	(void) state;
	prepare_flush();
	at_piece = INTERRUPT;
	flush_in_pieces(LTG_INTERRUPTED);
	assert_int_equal(pieces, 3);
	assert_true(ltg_durable(rig.s) < frozen_at);
	read_all();
	expect_left_alone();
	lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
	atomic_store(&t->asked_for, 0);
	at_piece = LOOK;
	flush_in_pieces(LTG_OK);
	assert_in_range(pieces, 3, 1000);
	assert_int_equal(ltg_durable(rig.s), frozen_at);
	assert_int_equal(info().l0_runs, 0);
	read_all();
	lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
	lrig_close(&rig);
}

static void
restart(void)
{
	lrig_restart(&rig);
	t = lrig_find(&rig, 1);
	read_all();
	lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
}

static void
flush_crashes(void **state)
{
	LtgXid		x;

	(void) state;
	prepare_flush();
	at_piece = INTERRUPT;
	flush_in_pieces(LTG_INTERRUPTED);
	restart();
	assert_int_equal(rig.replayed, ROWS / 3);
	assert_in_range(rig.skipped, 1, rig.replayed - 1);
	expect_left_alone();
	/* still so after another manifest, and another crash */
	(void) lrig_store(&rig, 2, 0);
	lrig_ok(&rig, ltg_publish_drops(rig.s));
	restart();
	assert_in_range(rig.skipped, 1, rig.replayed - 1);
	/* rows on both sides of where the flush was get newer versions */
	x = lrig_begin(&rig);
	for (uint32_t i = 0; i < ROWS; i += 97)
		put(x, i, 3);
	lrig_end(&rig, x, true);
	read_all();
	restart();
	/* an other cut, so this generation goes to level 0 */
	lrig_flush_all(&rig);
	assert_int_equal(info().l0_runs, 1);
	read_all();
	restart();
	assert_int_equal(rig.replayed, 0);
	assert_true(lrig_compact_all(&rig) > 0);
	read_all();
	lrig_close(&rig);
}

/* What is said of a store's keys is not said of its successor's. */
static void
flush_and_ddl(void **state)
{
	(void) state;
	for (int published = 0; published < 2; published++)
	{
		prepare_flush();
		at_piece = REPLACE;
		flush_in_pieces(LTG_OK);
		assert_int_equal(pieces, 3);
		if (published)
			lrig_flush_all(&rig);
		restart();
		lrig_close(&rig);

		/* the same while D stays below what is merged */
		prepare_flush();
		at_piece = INTERRUPT;
		flush_in_pieces(LTG_INTERRUPTED);
		replace();
		read_all();
		for (int twice = 0; twice < 2; twice++)
		{
			if (twice == published)
				lrig_ok(&rig, ltg_publish_drops(rig.s));
			restart();
		}
		lrig_flush_all(&rig);
		lrig_compact_all(&rig);
		read_all();
		lrig_close(&rig);
	}
}

/* The rest goes to level 0. */
static void
flush_cut_short(void **state)
{
	(void) state;
	for (int why = 0; why < 4; why++)
	{
		prepare_flush();
		at_piece = why == 0 ? PRESS : why == 1 ? BREAK : why == 2 ? HURRY : ASK;
		flush_in_pieces(LTG_OK);
		assert_int_equal(pieces, 3);
		assert_int_equal(info().l0_runs, 1);
		assert_int_equal(ltg_durable(rig.s), frozen_at);
		read_all();
		lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
		/* who has asked for all of it need not wait for one more */
		if (at_piece == ASK)
		{
			LtgCompactResult r;

			lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
			assert_true(r.compacted);
		}
		restart();
		lrig_close(&rig);
	}
}

static bool
count_version(void *arg, const LtgVersion *v, LtgState *fate)
{
	uint32_t   *n = arg;

	(void) fate;
	n[v->kind == LTG_PUT]++;
	return true;
}

/* A delta of the row's new place is based on the version of the old one. */
static void
flush_keeps_bases(void **state)
{
	uint8_t		key[5];
	uint32_t	n[2] = {0};
	LtgXid		x;
	LtgSeq		cut;
	int			more;
	LtgFlushResult r;

	(void) state;
	for (more = 0; more < 2; more++)
	{
		prepare_flush();
		at_piece = FAIL;
		flush_in_pieces(LTG_OK);
		x = lrig_begin(&rig);
		for (uint32_t i = 0; i < ROWS; i += 2)
			put(x, i, 4);
		lrig_rowid(key, rowid_of(1));
		put(x, 1, 4);
		lrig_write_moved(&rig, t, key, 5, rowid_of(ROWS), x);
		version[1] = 0;
		lrig_end(&rig, x, true);
		lrig_ok(&rig, ltg_freeze(rig.s, &cut));
		at_piece = INTERRUPT;
		flush_in_pieces(LTG_INTERRUPTED);
		memset(n, 0, sizeof(n));
		lrig_ok(&rig, ltg_versions(rig.s, t, key, 5, count_version, n));
		assert_int_equal(n[0], 1);
		assert_in_range(n[1], 1, 2);
		if (more)
			restart();
		lrig_ok(&rig, ltg_flush(rig.s, &r));
		lrig_flush_all(&rig);
		lrig_compact_all(&rig);
		read_all();
		lrig_close(&rig);
	}
}

/* Nothing is logged between two freezes, so the second cut is the first one's. */
static void
flush_same_cut(void **state)
{
	LtgFlushResult r;
	LtgXid		x;
	LtgSeq		cut;

	(void) state;
	unlogged = true;
	prepare_flush();
	at_piece = LOOK;
	flush_in_pieces(LTG_OK);
	assert_true(pieces > 0);
	x = lrig_begin(&rig);
	for (uint32_t i = 0; i < ROWS; i += 7)
		put(x, i, 3);
	lrig_ok(&rig, ltg_freeze(rig.s, &cut));
	assert_int_equal(cut, frozen_at);
	lrig_ok(&rig, ltg_flush(rig.s, &r));
	lrig_end(&rig, x, true);
	read_all();
	lrig_close(&rig);
	unlogged = false;
}

/* Nor does a crash leave a mark on a table that it empties. */
static void
flush_reset(void **state)
{
	(void) state;
	unlogged = true;
	prepare_flush();
	at_piece = INTERRUPT;
	flush_in_pieces(LTG_INTERRUPTED);
	assert_true(t->merged.upto != 0);
	lrig_restart(&rig);
	t = lrig_find(&rig, 1);
	assert_int_equal(t->merged.upto, 0);
	lrig_close(&rig);
	unlogged = false;
}

static void
flush_in_a_hurry(void **state)
{
	LtgFlushResult r;

	(void) state;
	prepare_flush();
	ltg_hurry(rig.s, true);
	at_piece = LOOK;
	flush_in_pieces(LTG_OK);
	assert_int_equal(pieces, 0);
	assert_int_equal(info().l0_runs, 1);
	ltg_hurry(rig.s, false);
	lrig_ok(&rig, ltg_flush_upto(rig.s, frozen_at, &r));
	read_all();
	lrig_close(&rig);
}

/* A flush of many tables does not become as many merges. */
static void
flush_of_many(void **state)
{
	LtgCompactResult r;
	LtgFlushResult f;
	LtgConfig	c;
	LtgStats	stats;
	uint64_t	before;
	uint32_t	down = 0;

	(void) state;
	lrig_config(&c);
	c.space_limit = 10;
	c.memtable_bytes = 4 * 1024 * 1024;
	lrig_open(&rig, &c);
	for (uint32_t round = 0; round < 2; round++)
	{
		LtgXid		x = lrig_begin(&rig);

		for (uint32_t i = 1; i <= 40; i++)
		{
			t = round == 0 ? lrig_store(&rig, i, 0) : lrig_find(&rig, i);
			for (uint32_t k = 0; k < 200; k++)
				put(x, k, round + 1);
		}
		lrig_end(&rig, x, true);
		if (round == 0)
			lrig_flush_all(&rig);
		for (uint32_t i = 1; i <= 40 && round == 0; i++)
			lrig_ok(&rig, ltg_compact_store(rig.s, lrig_find(&rig, i), &r));
	}
	ltg_stats(rig.s, &stats);
	before = stats.manifest;
	lrig_freeze(&rig);
	lrig_ok(&rig, ltg_flush(rig.s, &f));
	for (uint32_t i = 1; i <= 40; i++)
	{
		t = lrig_find(&rig, i);
		down += info().l0_runs == 0;
	}
	assert_int_equal(down, 32);
	ltg_stats(rig.s, &stats);
	assert_in_range(stats.manifest - before, 33, 33 * 30);
	lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
	lrig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(between_pieces),
		cmocka_unit_test(interrupted),
		cmocka_unit_test(long_keys),
		cmocka_unit_test(flush_between_pieces),
		cmocka_unit_test(flush_goes_on),
		cmocka_unit_test(flush_crashes),
		cmocka_unit_test(flush_and_ddl),
		cmocka_unit_test(flush_cut_short),
		cmocka_unit_test(flush_same_cut),
		cmocka_unit_test(flush_reset),
		cmocka_unit_test(flush_in_a_hurry),
		cmocka_unit_test(flush_of_many),
		cmocka_unit_test(flush_keeps_bases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
