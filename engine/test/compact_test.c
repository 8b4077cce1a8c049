/*
 * compact_test.c
 *	  Compaction: what is picked, what comes out, and what may go wrong.
 */
#include "test/lsm_rig.h"

#include "tree/publish.h"

#include <dirent.h>
#include <errno.h>
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

/* Rows [first, first + n) of one transaction; incompressible, len bytes. */
static void
load(LtgStore *t, uint64_t first, uint64_t n, uint32_t len)
{
	LtgXid		x = lrig_begin(&rig);
	uint64_t	rnd = first;
	uint8_t		payload[1024];

	for (uint64_t i = 0; i < n; i++)
	{
		uint8_t		key[5];

		for (uint32_t k = 0; k < len; k += 8)
		{
			uint64_t	r = lrig_random(&rnd);

			memcpy(payload + k, &r, 8);
		}
		lrig_rowid(key, first + i);
		lrig_write(&rig, t, key, 5, LTG_PUT, payload, len, x, 0);
	}
	lrig_end(&rig, x, true);
}

static void
erase(LtgStore *t, uint64_t first, uint64_t n)
{
	LtgXid		x = lrig_begin(&rig);

	for (uint64_t i = 0; i < n; i++)
	{
		uint8_t		key[5];

		lrig_rowid(key, first + i);
		lrig_write(&rig, t, key, 5, LTG_DELETE, NULL, 0, x, 0);
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

static uint32_t
data_files(void)
{
	DIR		   *d = opendir(rig.dir);
	struct dirent *e;
	uint32_t	n = 0;

	while ((e = readdir(d)) != NULL)
		n += strstr(e->d_name, ".run") != NULL;
	closedir(d);
	return n;
}

static void
remove_obsolete(void)
{
	LtgFlushResult r;
	uint32_t	removed;

	/* manifests of one D stay together: begin a new one */
	rig.lsn += 8;
	lrig_ok(&rig, ltg_flush_upto(rig.s, rig.lsn, &r));
	lrig_ok(&rig, ltg_remove_obsolete(rig.s, &removed));
}

/* Random overwrites for a while: levels stay within their bounds. */
static void
levels(void **state)
{
	LtgStore   *t;
	LtgStoreInfo info;
	uint64_t	rnd = 5;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	for (int round = 0; round < 60; round++)
	{
		for (int i = 0; i < 40; i++)
			load(t, 1 + lrig_below(&rnd, 20000), 10, 100);
		lrig_flush_all(&rig);
		if (round % 3 == 0)
			lrig_compact_all(&rig);
	}
	lrig_compact_all(&rig);
	info = info_of(t);
	assert_true(info.levels >= 3);
	assert_true(info.l0_runs < rig.config.l0_compact_trigger);
	assert_int_equal(info.unsettled, 0);
	/* little more than the live rows */
	assert_true(info.entries < count_rows(t) * 2);
	check_all();
	remove_obsolete();
	assert_true(data_files() <= info.runs);
	lrig_close(&rig);
}

/* Appending rows that nobody changes rewrites next to nothing. */
static void
moves(void **state)
{
	LtgStore   *t;
	LtgCompactResult r;
	uint64_t	written = 0;
	LtgStoreInfo info;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	for (uint64_t round = 0; round < 40; round++)
	{
		load(t, 1 + round * 500, 500, 200);
		lrig_flush_all(&rig);
		do
		{
			lrig_ok(&rig, ltg_compact(rig.s, &r));
			written += r.bytes_written;
		} while (r.compacted);
	}
	info = info_of(t);
	assert_true(info.levels >= 2);
	assert_true(written < info.disk_bytes / 4);
	assert_int_equal(count_rows(t), 20000);
	check_all();
	/* and what is clean need not be rewritten for VACUUM either */
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_true(r.bytes_written < info.disk_bytes / 4);
	assert_int_equal(count_rows(t), 20000);
	check_all();
	lrig_close(&rig);
}

/* Small appends don't leave a small run each. */
static void
small_appends(void **state)
{
	LtgStore   *t;
	LtgStoreInfo info;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	for (uint64_t round = 0; round < 200; round++)
	{
		load(t, 1 + round * 5, 5, 100);
		lrig_flush_all(&rig);
		lrig_compact_all(&rig);
	}
	info = info_of(t);
	assert_true(info.runs <= 60);
	assert_int_equal(count_rows(t), 1000);
	remove_obsolete();
	assert_true(data_files() <= info.runs);
	check_all();
	lrig_close(&rig);
}

/* Outputs don't straddle runs of their level that are no inputs. */
static void
fences(void **state)
{
	LtgStore   *t;
	LtgCompactResult r;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	for (uint64_t round = 0; round < 6; round++)
	{
		load(t, 1 + round * 1000, 400, 200);
		lrig_flush_all(&rig);
	}
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	check_all();
	for (int round = 0; round < 5; round++)
	{
		/* in the gaps, at the edges, and across */
		for (uint64_t gap = 0; gap < 7; gap++)
			load(t, 500 + gap * 1000 + (uint64_t) round * 7, 5, 50);
		if (round == 3)
			erase(t, 1000, 500);
		lrig_flush_all(&rig);
		if (round == 4)
			lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
		else
			lrig_compact_all(&rig);
		check_all();
	}
	assert_int_equal(count_rows(t), 6 * 400 - 400 + 7 * 5 * 5);
	lrig_close(&rig);
}

/* Tombstones: gone at the bottom, unless graves are kept and not yet cleared. */
static void
graves(void **state)
{
	LtgConfig	c;
	LtgCompactResult r;

	(void) state;
	for (int keep = 0; keep < 2; keep++)
	{
		LtgStore   *t;
		LtgXid		x;
		uint8_t		key[5];

		lrig_config(&c);
		c.file_target_bytes = 1024 * 1024;	/* one run */
		lrig_open(&rig, &c);
		t = lrig_store(&rig, 1, keep ? LTG_STORE_KEEP_GRAVES : 0);
		load(t, 1, 1000, 50);
		lrig_flush_all(&rig);
		lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
		erase(t, 1, 900);
		/* an insert that fails only after it was flushed */
		x = lrig_begin(&rig);
		lrig_rowid(key, 5000);
		lrig_write(&rig, t, key, 5, LTG_PUT, "x", 1, x, 0);
		lrig_flush_all(&rig);
		lrig_end(&rig, x, false);
		assert_int_equal(count_rows(t), 100);
		lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
		assert_int_equal(count_rows(t), 100);
		assert_int_equal(info_of(t).tombstones, keep ? 901 : 0);
		assert_int_equal(info_of(t).entries, keep ? 1001 : 100);
		if (keep)
		{
			/* nothing to be done until they are cleared */
			assert_int_equal(lrig_compact_all(&rig), 0);
			ltg_store_clear_graves(rig.s, t, rig.lsn);
			assert_true(lrig_compact_all(&rig) > 0);
			assert_int_equal(info_of(t).tombstones, 0);
			assert_int_equal(info_of(t).entries, 100);
		}
		assert_int_equal(count_rows(t), 100);
		check_all();
		lrig_close(&rig);
	}
}

/* Rows of texts that share phrases, each step-th row id from first on. */
static void
load_phrases(LtgStore *t, uint64_t first, uint32_t n, uint32_t step)
{
	static const char *const phrase[] = {
		"https://www.example-shop.com/electronics/item-", "?ref=newsletter&campaign=", "duration_ms",
		"checkout_variant", "add_to_cart"
	};
	LtgXid		x = lrig_begin(&rig);
	uint64_t	seed = first;

	for (uint32_t i = 0; i < n; i++)
	{
		uint8_t		key[5];
		char		row[160];
		int			len = snprintf(row, sizeof(row), "%s%u%s%s%06x", phrase[lrig_below(&seed, 5)],
								   lrig_below(&seed, 9999), phrase[lrig_below(&seed, 5)],
								   phrase[lrig_below(&seed, 5)], lrig_below(&seed, 1 << 24));

		lrig_rowid(key, first + (uint64_t) i * step);
		lrig_write(&rig, t, key, 5, LTG_PUT, row, (uint32_t) len, x, 0);
	}
	lrig_end(&rig, x, true);
}

/*
 * A dictionary is made for the last level, goes on through compactions and a
 * restart, and a flush among older rows has none.
 */
static void
dictionary(void **state)
{
	LtgCompactResult r;
	LtgConfig	config;
	const LtgRunSet *rs;
	LtgPrewarmResult w;
	LtgStore   *t;
	uint64_t	id,
				blocks;

	(void) state;
	lrig_config(&config);
	config.file_target_bytes = 64 << 20;
	config.block_size = 8192;
	lrig_open(&rig, &config);
	t = lrig_store(&rig, 1, 0);
	load_phrases(t, 1, 6000, 2);
	lrig_flush_all(&rig);
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	rs = atomic_load(&t->runs);
	assert_int_equal(rs->n, 1);
	assert_true(rs->run[0].level > 0);
	id = rs->run[0].dict_id;
	assert_true(id != 0);

	load_phrases(t, 2, 2000, 2);
	lrig_flush_all(&rig);
	rs = atomic_load(&t->runs);
	for (uint32_t i = 0; i < rs->level_start[1]; i++)
		assert_int_equal(rs->run[i].dict_id, 0);
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	rs = atomic_load(&t->runs);
	assert_int_equal(rs->n, 1);
	assert_int_equal(rs->run[0].dict_id, id);

	lrig_flush_all(&rig);
	assert_int_equal(count_rows(t), 8000);
	lrig_ok(&rig, ltg_prewarm_save(rig.s, &blocks));
	assert_true(blocks > 10);
	lrig_restart(&rig);
	t = lrig_find(&rig, 1);
	rs = atomic_load(&t->runs);
	assert_int_equal(rs->run[0].dict_id, id);
	/* blocks that need it are brought back into the cache, too */
	lrig_ok(&rig, ltg_prewarm_load(rig.s, &w));
	assert_int_equal(w.read + w.gone, blocks);
	assert_true(w.gone < 8);	/* of the files that were merged */
	assert_true(w.read > 10);
	assert_int_equal(count_rows(t), 8000);
	check_all();
	lrig_close(&rig);
}

/* A run in an old segment is moved out, so that the file can go. */
static void
stragglers(void **state)
{
	LtgStore   *t, *u;
	uint64_t	rnd = 1;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	u = lrig_store(&rig, 2, 0);
	load(t, 1, 3, 50);
	for (uint64_t i = 0; i < 80; i++)
	{
		load(u, 1 + lrig_below(&rnd, 1000), 10, 50);
		lrig_flush_all(&rig);
		lrig_compact_all(&rig);
	}
	remove_obsolete();
	assert_int_equal(info_of(t).l0_runs, 0);
	assert_true(data_files() <= 1 + info_of(u).runs);
	assert_int_equal(count_rows(t), 3);
	check_all();
	lrig_close(&rig);
}

/* Versions become settled when their store has come to rest. */
static void
resolves(void **state)
{
	LtgStore   *t;
	RigSnapshot *old;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	old = lrig_snapshot(&rig, 0, 0);
	load(t, 1, 2000, 100);
	lrig_flush_all(&rig);
	assert_int_equal(info_of(t).unsettled, 2000);
	lrig_compact_all(&rig);
	assert_int_equal(info_of(t).unsettled, 2000);
	lrig_release(&rig, old);
	lrig_compact_all(&rig);
	assert_int_equal(info_of(t).unsettled, 0);
	assert_int_equal(info_of(t).min_xid, 0);
	assert_int_equal(count_rows(t), 2000);

	/* one whose writer's fate can't be known is not tried for ever */
	rig.doubtful = lrig_begin(&rig);
	{
		uint8_t		key[5];

		lrig_rowid(key, 7000);
		lrig_write(&rig, t, key, 5, LTG_PUT, "x", 1, rig.doubtful, 0);
	}
	lrig_flush_all(&rig);
	assert_true(lrig_compact_all(&rig) < 10);
	assert_int_equal(info_of(t).unsettled, 1);
	lrig_close(&rig);
}

/*
 * All rows, in no order, each by a transaction of its own or all of a round by one,
 * and again beside an old snapshot, which is known or not: bytes per row when all is
 * merged.
 */
#define LABEL_ROWS 20000

static void
write_round(LtgStore *t, uint64_t rows, uint8_t round, bool one_writer)
{
	LtgXid		x = lrig_begin(&rig);

	for (uint64_t i = 0; i < rows; i++)
	{
		uint8_t		payload[16] = {round};
		uint8_t		key[5];

		lrig_rowid(key, i * 7919 % LABEL_ROWS);
		lrig_write(&rig, t, key, 5, LTG_PUT, payload, sizeof(payload), x, (uint32_t) (i & 3));
		if (!one_writer || i + 1 == rows)
		{
			lrig_end(&rig, x, true);
			x = i + 1 == rows ? 0 : lrig_begin(&rig);
		}
	}
}

static void
expect_rounds(LtgStore *t, RigSnapshot *snap, uint8_t round)
{
	LtgScanOptions opt = {.snap = &snap->snap};
	LtgScan    *scan;
	LtgBatch	b;
	LtgStatus	st;
	uint64_t	n = 0;

	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
		for (uint32_t i = 0; i < b.n; i++, n++)
		{
			const uint8_t *key;
			uint32_t	key_len;
			LtgVersion	v;

			ltg_batch_row(scan, i, &key, &key_len, &v);
			assert_int_equal(v.payload_len, 16);
			assert_int_equal(v.payload[0], round);
		}
	lrig_expect(&rig, st, LTG_END, __FILE__, __LINE__);
	ltg_scan_close(scan);
	assert_int_equal(n, LABEL_ROWS);
}

static double
bytes_beside(bool known, uint32_t rounds, bool one_writer)
{
	/* no dictionaries: whether there is one depends on little */
	LtgStoreOptions opt = {.compression = LTG_COMPRESS_LZ4};
	LtgConfig	c;
	LtgStore   *t;
	LtgCompactResult r;
	RigSnapshot *old[3];
	double		bytes;

	lrig_config(&c);
	c.block_size = 16384;
	c.file_target_bytes = 1024 * 1024;
	lrig_open(&rig, &c);
	t = lrig_store(&rig, 1, 0);
	lrig_ok(&rig, ltg_store_set_options(rig.s, t, &opt));
	for (uint32_t round = 0; round < rounds; round++)
	{
		write_round(t, LABEL_ROWS, (uint8_t) round, one_writer);
		if (round + 1 == rounds)
			break;
		old[round] = lrig_snapshot(&rig, 0, 0);
		old[round]->known = known;
	}
	lrig_flush_all(&rig);
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_int_equal(info_of(t).entries, rounds * LABEL_ROWS);
	assert_int_equal(info_of(t).unsettled, (rounds - 1) * LABEL_ROWS);
	bytes = (double) info_of(t).disk_bytes / LABEL_ROWS;
	check_all();
	for (uint32_t round = 0; round + 1 < rounds; round++)
		expect_rounds(t, old[round], (uint8_t) round);
	old[rounds - 1] = lrig_snapshot(&rig, 0, 0);
	expect_rounds(t, old[rounds - 1], (uint8_t) (rounds - 1));
	for (uint32_t round = 0; round < rounds; round++)
		lrig_release(&rig, old[round]);
	/* nobody is left who needs them: all are settled */
	write_round(t, 1, (uint8_t) (rounds - 1), true);
	lrig_flush_all(&rig);
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_int_equal(info_of(t).entries, LABEL_ROWS);
	assert_int_equal(info_of(t).unsettled, 0);
	lrig_close(&rig);
	return bytes;
}

/* Numbers that order versions cost nothing, who wrote them 3 bytes each. */
static void
writers(void **state)
{
	(void) state;
	for (uint32_t rounds = 2; rounds <= 3; rounds++)
	{
		double		unknown = bytes_beside(false, rounds, false);
		double		known = bytes_beside(true, rounds, false);
		double		one_writer = bytes_beside(true, rounds, true);

		print_message("%u snapshots: bytes per row %.2f, if known %.2f, by one writer %.2f\n",
					  rounds - 1, unknown, known, one_writer);
		assert_true(unknown <= one_writer + 3 * rounds);
		assert_true(known <= unknown);
	}
}

/* Locks last as long as their owner: a file of them goes when it has ended. */
static void
locks(void **state)
{
	LtgStore   *t;
	LtgXid		owner,
				other;
	uint8_t		key[5];

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, LTG_STORE_LOCKS);
	owner = lrig_begin(&rig);
	other = lrig_begin(&rig);
	for (uint64_t i = 0; i < 1000; i++)
	{
		lrig_rowid(key, i);
		lrig_write(&rig, t, key, 5, LTG_PUT, "lock", 4, i % 2 == 0 ? owner : other, 0);
	}
	lrig_end(&rig, other, true);
	lrig_flush_all(&rig);
	assert_int_equal(info_of(t).entries, 500);
	assert_int_equal(info_of(t).unsettled, 500);
	lrig_compact_all(&rig);
	assert_int_equal(info_of(t).entries, 500);
	lrig_end(&rig, owner, true);
	lrig_compact_all(&rig);
	assert_int_equal(info_of(t).entries, 0);
	assert_int_equal(info_of(t).runs, 0);
	lrig_close(&rig);
}

/* ---- things that happen in the middle ---- */

static void (*in_the_middle) (void);
static const char *where;

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
add_more(void)
{
	LtgStore   *t = lrig_find(&rig, 1);
	LtgCompactResult r;

	load(t, 100, 50, 60);
	lrig_flush_all(&rig);
	load(t, 9000, 50, 60);
	lrig_flush_all(&rig);
	/* and nobody else may compact it */
	assert_int_equal(ltg_compact_store(rig.s, t, &r), LTG_BUSY);
	lrig_ok(&rig, ltg_compact(rig.s, &r));
	assert_false(r.compacted);
}

static void
drop_it(void)
{
	LtgStoreKey key = lrig_find(&rig, 1)->key;

	ltg_ddl_pin(rig.s);
	rig.lsn += 8;
	lrig_ok(&rig, ltg_store_drop(rig.s, &key, rig.lsn));
	ltg_ddl_unpin(rig.s);
}

static void
replace_it(void)
{
	drop_it();
	load(lrig_store(&rig, 1, 0), 1, 10, 10);
	lrig_flush_all(&rig);
	remove_obsolete();
}

static void
middle(void **state)
{
	static const char *places[] = {"compact:start", "compact:slice", "compact:before-publish"};
	static void (*const events[]) (void) = {add_more, drop_it, replace_it};

	(void) state;
	for (int p = 0; p < 3; p++)
		for (int e = 0; e < 3; e++)
		{
			LtgStore   *t;
			LtgCompactResult r;

			lrig_open(&rig, NULL);
			t = lrig_store(&rig, 1, 0);
			for (int i = 0; i < 4; i++)
			{
				load(t, 1, 200, 80);
				lrig_flush_all(&rig);
			}
			rig.stop = at_stop;
			where = places[p];
			in_the_middle = events[e];
			lrig_ok(&rig, ltg_compact(rig.s, &r));
			assert_null(in_the_middle);
			if (e == 0)
			{
				assert_true(r.compacted);
				assert_int_equal(count_rows(t), 250);
				assert_int_equal(info_of(t).l0_runs, 2);
			}
			else
			{
				if (e == 2)
					assert_int_equal(count_rows(lrig_find(&rig, 1)), 10);
			}
			check_all();
			lrig_compact_all(&rig);
			remove_obsolete();
			if (e == 1)
				assert_int_equal(data_files(), 0);
			/* no reservation is left behind */
			if (e != 1)
				lrig_ok(&rig, ltg_compact_store(rig.s, lrig_find(&rig, 1), &r));
			check_all();
			lrig_close(&rig);
		}
}

/* Each call fails once: nothing changes, and later it works. */
static void
failures(void **state)
{
	static const LtgFaultKind kinds[] = {
		LTG_FAULT_ALLOC, LTG_FAULT_OPEN, LTG_FAULT_READ, LTG_FAULT_WRITE, LTG_FAULT_SYNC,
		LTG_FAULT_RENAME, LTG_FAULT_DIR_SYNC
	};

	(void) state;
	for (uint32_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (uint64_t nth = 1;; nth++)
		{
			LtgStore   *t;
			LtgCompactResult r;
			LtgStatus	st;
			uint32_t	files;
			LtgConfig	c;

			lrig_config(&c);
			c.cache_bytes = 64 * 1024;
			lrig_open(&rig, &c);
			t = lrig_store(&rig, 1, LTG_STORE_KEEP_GRAVES);
			for (uint64_t i = 0; i < 3; i++)
			{
				load(t, 1 + i * 100, 300, 80);
				erase(t, 50 + i * 10, 5);
				lrig_flush_all(&rig);
			}
			files = data_files();
			ltg_posix_fail(rig.posix, kinds[k], nth, false,
						   kinds[k] == LTG_FAULT_WRITE ? ENOSPC : EIO);
			st = ltg_compact_store(rig.s, t, &r);
			ltg_posix_fail(rig.posix, kinds[k], 0, false, 0);
			assert_int_equal(rig.s->epoch_depth, 0);
			assert_true(st == LTG_OK || !r.compacted);
			if (st != LTG_OK)
			{
				if (kinds[k] == LTG_FAULT_ALLOC)
					assert_int_equal(st, LTG_NOMEM);
				ltg_clear_error(rig.s);
				assert_int_equal(data_files(), files);
			}
			assert_int_equal(count_rows(t), 500 - 25 + 10);
			if (st != LTG_OK)
			{
				LtgStatus	again = ltg_compact_store(rig.s, t, &r);

				if (again != LTG_POISONED)
					lrig_ok(&rig, again);
				ltg_clear_error(rig.s);
			}
			assert_int_equal(count_rows(t), 500 - 25 + 10);
			check_all();
			lrig_restart(&rig);
			assert_int_equal(count_rows(lrig_find(&rig, 1)), 500 - 25 + 10);
			lrig_close(&rig);
			if (st == LTG_OK)
				break;
			assert_true(nth < 500);
		}
}

static uint64_t space_left;

static uint64_t
little_space(LtgPort *port)
{
	(void) port;
	return space_left;
}

/* The last of the space is not a merge's; it is done when there is more. */
static void
no_space(void **state)
{
	LtgStore   *t;
	LtgCompactResult r;
	uint64_t	(*space) (LtgPort *port);
	uint32_t	files;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	for (int i = 0; i < 3; i++)
	{
		load(t, 1, 200, 80);
		lrig_flush_all(&rig);
	}
	files = data_files();
	space = rig.s->port->space;
	rig.s->port->space = little_space;
	space_left = rig.s->shared->config.memtable_bytes - 1;
	assert_int_equal(ltg_compact_store(rig.s, t, &r), LTG_NOSPACE);
	ltg_clear_error(rig.s);
	assert_int_equal(data_files(), files);
	space_left++;
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_true(r.compacted);
	rig.s->port->space = space;
	assert_int_equal(count_rows(t), 200);
	check_all();
	lrig_close(&rig);
}

/* An unreadable input: the store is left alone for a while, others go on. */
static void
damaged_input(void **state)
{
	LtgStore   *t, *u;
	LtgCompactResult r;
	char		path[128];
	FILE	   *f;
	LtgStatus	st = LTG_OK;
	uint32_t	failed = 0;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	u = lrig_store(&rig, 2, 0);
	for (int i = 0; i < 4; i++)
	{
		load(t, 1, 200, 80);
		lrig_flush_all(&rig);
	}
	for (int i = 0; i < 4; i++)
	{
		load(u, 1, 200, 80);
		lrig_flush_all(&rig);
	}
	snprintf(path, sizeof(path), "%s/%016x.run", rig.dir, 4);	/* the newest: nobody has read it */
	f = fopen(path, "r+b");
	assert_non_null(f);
	fseek(f, 1000, SEEK_SET);
	fputs("damaged", f);
	fclose(f);
	for (int i = 0; i < 5; i++)
	{
		st = ltg_compact(rig.s, &r);
		if (st != LTG_OK)
		{
			assert_int_equal(st, LTG_CORRUPT);
			ltg_clear_error(rig.s);
			failed++;
		}
	}
	assert_int_equal(failed, 1);
	assert_int_equal(info_of(u).l0_runs, 0);
	assert_int_equal(info_of(t).l0_runs, 4);
	assert_int_equal(count_rows(u), 200);
	lrig_close(&rig);
}

static void
interrupted(void **state)
{
	LtgStore   *t;
	LtgCompactResult r;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	for (int i = 0; i < 4; i++)
	{
		load(t, 1, 200, 80);
		lrig_flush_all(&rig);
	}
	rig.interrupted = true;
	assert_int_equal(ltg_compact(rig.s, &r), LTG_INTERRUPTED);
	assert_false(r.compacted);
	ltg_clear_error(rig.s);
	rig.interrupted = false;
	lrig_ok(&rig, ltg_compact(rig.s, &r));
	assert_true(r.compacted);
	assert_int_equal(count_rows(t), 200);
	lrig_close(&rig);
}

/* Other options: what needs no cleaning is written anew, once. */
static void
rewrites(void **state)
{
	LtgStoreOptions opt = {LTG_COMPRESS_NONE, 0, 0};
	LtgCompactResult r;
	LtgStore   *t;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 7, 0);
	load(t, 1, 2000, 64);
	lrig_flush_all(&rig);
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_int_equal(r.bytes_written, 0);
	lrig_ok(&rig, ltg_store_set_options(rig.s, t, &opt));
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_true(r.bytes_written > 2000 * 64);
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_int_equal(r.bytes_written, 0);
	/* the same options again are no change; a request is one */
	lrig_ok(&rig, ltg_store_set_options(rig.s, t, &opt));
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_int_equal(r.bytes_written, 0);
	ltg_store_rewrite(rig.s, t);
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	assert_true(r.bytes_written > 2000 * 64);
	assert_int_equal(count_rows(t), 2000);
	check_all();
	lrig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(levels),
		cmocka_unit_test(moves),
		cmocka_unit_test(small_appends),
		cmocka_unit_test(fences),
		cmocka_unit_test(graves),
		cmocka_unit_test(dictionary),
		cmocka_unit_test(stragglers),
		cmocka_unit_test(resolves),
		cmocka_unit_test(writers),
		cmocka_unit_test(locks),
		cmocka_unit_test(middle),
		cmocka_unit_test(failures),
		cmocka_unit_test(no_space),
		cmocka_unit_test(damaged_input),
		cmocka_unit_test(interrupted),
		cmocka_unit_test(rewrites),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
