/*
 * scan_test.c
 *	  Scans: bounds, directions, batches, what may change between two calls.
 */
#include "test/lsm_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static LsmRig rig;

/* Rows first, first + step, ... under their row ids, payload = row id. */
static void
load(LtgStore *t, uint64_t first, uint64_t n, uint64_t step, uint32_t len)
{
	LtgXid		x = lrig_begin(&rig);
	uint8_t		payload[2000];

	memset(payload, 7, sizeof(payload));
	for (uint64_t i = 0; i < n; i++)
	{
		uint64_t	id = first + i * step;
		uint8_t		key[5];

		lrig_rowid(key, id);
		memcpy(payload, &id, 8);
		lrig_write(&rig, t, key, 5, LTG_PUT, payload, len, x, 0);
	}
	lrig_end(&rig, x, true);
}

static uint64_t
row_id(const uint8_t *key)
{
	uint64_t	id = 0;

	for (int i = 0; i < 5; i++)
		id = id << 8 | key[i];
	return id;
}

/* From row `from` on, the batch by spans is the batch row by row. */
static void
check_spans(LtgScan *scan, const LtgBatch *b, uint32_t from, bool keys_only)
{
	uint32_t	i = from;

	while (i < b->n)
	{
		LtgSpan		span;
		uint32_t	rows;
		uint32_t	e;

		ltg_batch_span(scan, i, &span);
		rows = span.rows;
		e = span.at;
		assert_true(rows > 0 && rows <= b->n - i);
		assert_true(span.n == 0 || span.n == rows);
		for (; rows > 0; rows--, i++, e += (uint32_t) span.step)
		{
			const uint8_t *key;
			const uint8_t *payload;
			uint32_t	len;
			LtgVersion	v;

			ltg_batch_row(scan, i, &key, &len, &v);
			if (keys_only)
				assert_null(v.payload);
			if (span.n == 0)
				continue;
			assert_int_equal(ltg_span_key(&span, e), row_id(key));
			assert_int_equal(ltg_span_tag(&span, e), v.tag);
			assert_int_equal(ltg_span_xid(&span, e), v.xid);
			payload = ltg_span_payload(&span, e, &len);
			assert_ptr_equal(payload, v.payload);
			assert_int_equal(len, v.payload_len);
		}
	}
}

/* The scan must give exactly first, first + step, ... below end. */
static void
expect_rows(LtgStore *t, const LtgScanOptions *given, uint64_t lo, uint64_t hi,
			uint64_t first, uint64_t n, int64_t step)
{
	LtgScanOptions opt = *given;
	uint8_t		lo_key[5], hi_key[5];
	RigSnapshot *snap = lrig_snapshot(&rig, 0, 0);
	LtgScan    *scan;
	LtgBatch	b;
	LtgStatus	st;
	uint64_t	seen = 0;
	bool		last = false;

	opt.snap = &snap->snap;
	if (lo != 0)
	{
		lrig_rowid(lo_key, lo);
		opt.lo = lo_key;
		opt.lo_len = 5;
	}
	if (hi != 0)
	{
		lrig_rowid(hi_key, hi);
		opt.hi = hi_key;
		opt.hi_len = 5;
	}
	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
	{
		assert_true(b.n > 0);
		assert_false(last);
		last = b.last;
		assert_true(opt.max_rows == 0 || b.n <= opt.max_rows);
		for (uint32_t i = 0; i < b.n; i++, seen++)
		{
			uint64_t	want = first + (uint64_t) ((int64_t) seen * step);
			const uint8_t *key;
			uint32_t	len;
			LtgVersion	v;
			uint64_t	id;

			ltg_batch_row(scan, i, &key, &len, &v);
			assert_int_equal(len, 5);
			assert_int_equal(row_id(key), want);
			if (opt.keys_only)
			{
				assert_null(v.payload);
				continue;
			}
			memcpy(&id, v.payload, 8);
			assert_int_equal(id, want);
		}
		check_spans(scan, &b, 0, opt.keys_only);
		check_spans(scan, &b, b.n / 2, opt.keys_only);
	}
	lrig_expect(&rig, st, LTG_END, __FILE__, __LINE__);
	assert_int_equal(ltg_scan_next(scan, &b), LTG_END);
	assert_true(b.last);
	assert_int_equal(seen, n);
	ltg_scan_close(scan);
	lrig_release(&rig, snap);
}

static void
every_way(LtgStore *t, uint64_t first, uint64_t n)
{
	static const uint32_t max_rows[] = {0, 1, 7, 8, 1000};

	for (uint32_t k = 0; k < 5; k++)
		for (int bits = 0; bits < 4; bits++)
		{
			LtgScanOptions opt = {.spare_cache = bits & 1, .keys_only = (bits & 2) != 0,
			.max_rows = max_rows[k]};
			uint64_t	last = first + n - 1;

			if (max_rows[k] == 1 && n > 2000)
				continue;
			expect_rows(t, &opt, 0, 0, first, n, 1);
			expect_rows(t, &opt, first + 10, last - 10, first + 10, n - 21, 1);
			expect_rows(t, &opt, first + n / 2, first + n / 2, 0, 0, 1);
			expect_rows(t, &opt, first + n / 2, first + n / 2 + 1, first + n / 2, 1, 1);
			expect_rows(t, &opt, last + 1, 0, 0, 0, 1);
			opt.backward = true;
			expect_rows(t, &opt, 0, 0, last, n, -1);
			expect_rows(t, &opt, first + 10, last - 10, last - 11, n - 21, -1);
			expect_rows(t, &opt, first + n / 2, first + n / 2, 0, 0, -1);
			expect_rows(t, &opt, first + n / 2, first + n / 2 + 1, first + n / 2, 1, -1);
			expect_rows(t, &opt, 0, first, 0, 0, -1);
		}
}

static void
one_run(void **state)
{
	LtgStore   *t;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	expect_rows(t, &(LtgScanOptions) {0}, 0, 0, 0, 0, 1);
	load(t, 1000, 5000, 1, 100);
	every_way(t, 1000, 5000);	/* memory (and what was flushed meanwhile) */
	lrig_flush_all(&rig);
	every_way(t, 1000, 5000);
	lrig_compact_all(&rig);
	every_way(t, 1000, 5000);
	lrig_close(&rig);
}

/* Every arrangement of who has which keys. */
static void
interleaved(void **state)
{
	LtgStore   *t;
	LtgCompactResult r;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	load(t, 1000, 1000, 3, 60);
	lrig_flush_all(&rig);
	lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
	load(t, 1001, 1000, 3, 60);
	lrig_flush_all(&rig);
	load(t, 1002, 1000, 3, 60);
	every_way(t, 1000, 3000);
	/* the same rows again, and some only in the middle */
	load(t, 1500, 100, 1, 60);
	lrig_flush_all(&rig);
	load(t, 2500, 10, 40, 60);
	every_way(t, 1000, 3000);
	/* payloads of nothing but their size: each too big for a batch */
	lrig_close(&rig);
}

static void
big_rows(void **state)
{
	LtgStore   *t;
	uint8_t    *big = malloc(LTG_PAYLOAD_MAX);

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	memset(big, 1, LTG_PAYLOAD_MAX);
	for (uint64_t i = 1; i <= 30; i++)
	{
		LtgXid		x = lrig_begin(&rig);
		uint8_t		key[5];

		memcpy(big, &i, 8);
		lrig_rowid(key, i);
		lrig_write(&rig, t, key, 5, LTG_PUT, big, i % 3 == 0 ? LTG_PAYLOAD_MAX : 1000 * (uint32_t) i, x, 0);
		lrig_end(&rig, x, true);
	}
	expect_rows(t, &(LtgScanOptions) {0}, 0, 0, 1, 30, 1);
	lrig_flush_all(&rig);
	expect_rows(t, &(LtgScanOptions) {0}, 0, 0, 1, 30, 1);
	expect_rows(t, &(LtgScanOptions) {.backward = true, .spare_cache = true}, 0, 0, 30, 30, -1);
	free(big);
	lrig_close(&rig);
}

/* What happens between two calls changes nothing for the snapshot. */
static void
change_between_calls(void **state)
{
	LtgStore   *t;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	load(t, 1000, 3000, 1, 100);
	for (int backward = 0; backward < 2; backward++)
	{
		RigSnapshot *snap = lrig_snapshot(&rig, 0, 0);
		LtgScanOptions opt = {.snap = &snap->snap, .max_rows = 50, .backward = backward};
		LtgScan    *scan;
		LtgBatch	b;
		uint64_t	next = backward ? 3999 : 1000;
		uint32_t	calls = 0;
		uint8_t		lo[5], hi[5];
		LtgStatus	st;

		lrig_rowid(lo, 1000);
		lrig_rowid(hi, 4000);
		opt.lo = lo;
		opt.hi = hi;
		opt.lo_len = opt.hi_len = 5;
		lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
		while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
		{
			for (uint32_t i = 0; i < b.n; i++)
			{
				const uint8_t *key;
				uint32_t	len;
				LtgVersion	v;

				ltg_batch_row(scan, i, &key, &len, &v);
				assert_int_equal(row_id(key), next);
				next = backward ? next - 1 : next + 1;
				assert_int_equal(v.payload_len, 100);
			}
			switch (calls++ % 4)
			{
				case 0:
					load(t, 900 + calls, 40, 83, 33);	/* new and changed rows */
					break;
				case 1:
					lrig_flush_all(&rig);
					break;
				case 2:
					lrig_compact_all(&rig);
					break;
				case 3:
					load(t, next, 20, 1, 44);
					break;
			}
		}
		lrig_expect(&rig, st, LTG_END, __FILE__, __LINE__);
		assert_int_equal(next, backward ? 999 : 4000);
		ltg_scan_close(scan);
		lrig_release(&rig, snap);
		/* the next round starts from what all see as 100 bytes again */
		load(t, 1000, 3000, 1, 100);
	}
	lrig_close(&rig);
}

/*
 * Rows first seen without their payload are read again with the snapshot, while
 * others change them, and flushes and compactions replace the files they were in.
 */
static void
payloads_later(void **state)
{
	LtgStore   *t;
	LtgRow		row = {0};

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	load(t, 1000, 3000, 1, 100);
	lrig_flush_all(&rig);
	lrig_compact_all(&rig);
	for (int backward = 0; backward < 2; backward++)
	{
		RigSnapshot *snap = lrig_snapshot(&rig, 0, 0);
		LtgScanOptions opt = {.snap = &snap->snap, .max_rows = 90, .backward = backward,
		.keys_only = true};
		LtgScan    *scan;
		LtgBatch	b;
		uint64_t	next = backward ? 3999 : 1000;
		uint32_t	calls = 0;
		LtgStatus	st;

		lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
		while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
		{
			bool		late = calls % 3 != 2;

			/* the rows of this batch change before they are looked into */
			load(t, backward ? next - b.n + 1 : next, b.n, 1, 30);
			if (calls % 4 == 1)
				lrig_flush_all(&rig);
			if (calls % 4 == 3)
			{
				LtgCompactResult r;

				lrig_flush_all(&rig);
				lrig_ok(&rig, ltg_compact_store(rig.s, t, &r));
			}
			for (uint32_t i = 0; i < b.n; i++)
			{
				const uint8_t *key;
				uint32_t	len;
				LtgVersion	v;

				ltg_batch_row(scan, i, &key, &len, &v);
				assert_int_equal(row_id(key), next);
				assert_int_equal(v.payload == NULL, late);
				if (late)
				{
					lrig_ok(&rig, ltg_get(rig.s, t, key, len, &snap->snap, &row));
					v = row.v;
				}
				assert_int_equal(v.payload_len, 100);
				assert_memory_equal(v.payload, &next, 8);
				next = backward ? next - 1 : next + 1;
			}
			calls++;
			ltg_scan_keys_only(scan, calls % 3 != 2);
		}
		lrig_expect(&rig, st, LTG_END, __FILE__, __LINE__);
		assert_int_equal(next, backward ? 999 : 4000);
		ltg_scan_close(scan);
		lrig_release(&rig, snap);
		load(t, 1000, 3000, 1, 100);
	}
	ltg_row_free(rig.s, &row);
	lrig_close(&rig);
}

static void
restart_scan(void **state)
{
	LtgStore   *t;
	RigSnapshot *snap;
	LtgScanOptions opt = {0};
	LtgScan    *scan;
	LtgBatch	b;
	uint8_t		key[5];

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	load(t, 1, 1000, 1, 20);
	snap = lrig_snapshot(&rig, 0, 0);
	opt.snap = &snap->snap;
	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	lrig_ok(&rig, ltg_scan_next(scan, &b));
	opt.backward = true;
	opt.hi = key;
	opt.hi_len = 5;
	opt.max_rows = 3;
	for (uint64_t i = 4; i < 900; i += 100)
	{
		const uint8_t *k;
		uint32_t	len;
		LtgVersion	v;

		lrig_rowid(key, i);
		lrig_ok(&rig, ltg_scan_restart(scan, &opt));
		lrig_ok(&rig, ltg_scan_next(scan, &b));
		assert_int_equal(b.n, 3);
		ltg_batch_row(scan, 2, &k, &len, &v);
		assert_int_equal(row_id(k), i - 3);
		ltg_batch_row(scan, 0, &k, &len, &v);
		assert_int_equal(row_id(k), i - 1);
	}
	ltg_scan_close(scan);
	lrig_close(&rig);
}

/*
 * Rows of the memtable come max_merged at a time, those of a plain block as many
 * as there are; and the batch that is known to be the last one says so.
 */
static void
few_merged(void **state)
{
	LtgStore   *t;
	LtgScanOptions opt = {.max_rows = 100, .max_merged = 12};
	LtgScan    *scan;
	LtgBatch	b;
	RigSnapshot *snap;
	uint8_t		key[5];

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	load(t, 1, 1000, 1, 20);
	snap = lrig_snapshot(&rig, 0, 0);
	opt.snap = &snap->snap;
	opt.lo = opt.hi = key;
	opt.lo_len = opt.hi_len = 5;
	for (int flushed = 0; flushed < 2; flushed++)
	{
		lrig_rowid(key, 500);
		opt.hi = NULL;
		lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
		lrig_ok(&rig, ltg_scan_next(scan, &b));
		assert_int_equal(b.n, flushed ? 100 : 12);
		assert_false(b.last);
		lrig_ok(&rig, ltg_scan_next(scan, &b));
		assert_int_equal(b.n, flushed ? 100 : 12);
		/* the rest of the range */
		lrig_rowid(key, 995);
		lrig_ok(&rig, ltg_scan_restart(scan, &opt));
		lrig_ok(&rig, ltg_scan_next(scan, &b));
		assert_int_equal(b.n, 6);
		assert_true(b.last);
		ltg_scan_close(scan);
		lrig_flush_all(&rig);
	}
	lrig_release(&rig, snap);
	lrig_close(&rig);
}

/* A store that was dropped is not silently empty. */
static void
dropped(void **state)
{
	LtgStore   *t;
	LtgStoreKey key = {.space = 1663, .database = 5, .relation = 1, .backend = -1};
	LtgScanOptions opt = {.max_rows = 1};
	LtgScan    *scan;
	LtgBatch	b;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	load(t, 1, 10, 1, 20);
	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	lrig_ok(&rig, ltg_scan_next(scan, &b));
	ltg_ddl_pin(rig.s);
	rig.lsn += 8;
	lrig_ok(&rig, ltg_store_drop(rig.s, &key, rig.lsn));
	ltg_ddl_unpin(rig.s);
	assert_int_equal(ltg_scan_next(scan, &b), LTG_INVALID);
	ltg_clear_error(rig.s);
	ltg_scan_close(scan);
	lrig_close(&rig);
}

/* One writer's block is judged once, not once per row. */
static void
judged_once(void **state)
{
	LtgStore   *t;
	RigSnapshot *old, *snap;
	LtgScanOptions opt = {0};
	LtgScan    *scan;
	LtgBatch	b;
	uint64_t	rows = 0;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	old = lrig_snapshot(&rig, 0, 0);	/* keeps the writer from being settled */
	load(t, 1, 3000, 1, 50);
	lrig_flush_all(&rig);
	snap = lrig_snapshot(&rig, 0, 0);
	opt.snap = &snap->snap;
	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	while (ltg_scan_next(scan, &b) == LTG_OK)
		rows += b.n;
	assert_int_equal(rows, 3000);
	assert_true(snap->judged < 300);
	ltg_scan_close(scan);
	/* the old snapshot sees nothing, at the same price */
	opt.snap = &old->snap;
	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	assert_int_equal(ltg_scan_next(scan, &b), LTG_END);
	assert_true(old->judged < 300);
	ltg_scan_close(scan);
	lrig_close(&rig);
}

/* Rows that the snapshot sees, and how many payloads have this first byte. */
static uint64_t
rows_with(LtgStore *t, RigSnapshot *snap, uint8_t first, uint64_t *n)
{
	LtgScanOptions opt = {.snap = &snap->snap};
	LtgScan    *scan;
	LtgBatch	b;
	uint64_t	rows = 0;

	*n = 0;
	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	for (; ltg_scan_next(scan, &b) == LTG_OK; rows += b.n)
		for (uint32_t i = 0; i < b.n; i++)
		{
			const uint8_t *key;
			uint32_t	len;
			LtgVersion	v;

			ltg_batch_row(scan, i, &key, &len, &v);
			*n += *v.payload == first;
		}
	ltg_scan_close(scan);
	return rows;
}

static void
rewrite(LtgStore *t, LtgXid x, uint64_t first, uint64_t n, uint8_t byte)
{
	for (uint64_t i = 0; i < n; i++)
	{
		uint8_t		key[5];

		lrig_rowid(key, first + i);
		lrig_write(&rig, t, key, 5, LTG_PUT, &byte, 1, x, 0);
	}
}

/*
 * A generation of later transactions is not looked at.  One in which somebody
 * writes who was there before the snapshot is, and so is the snapshot's own.
 */
static void
unseen_generations(void **state)
{
	LtgStore   *t;
	RigSnapshot *snap;
	LtgXid		before, later, mine;
	uint64_t	n;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	later = lrig_begin(&rig);
	rewrite(t, later, 1, 500, 1);
	lrig_end(&rig, later, true);
	lrig_flush_all(&rig);
	before = lrig_begin(&rig);
	snap = lrig_snapshot(&rig, 0, 0);

	later = lrig_begin(&rig);
	rewrite(t, later, 1, 400, 2);
	snap->judged = 0;
	assert_int_equal(rows_with(t, snap, 1, &n), 500);
	assert_int_equal(n, 500);
	assert_true(snap->judged < 10);	/* in files; in memory would be 400 */
	lrig_end(&rig, later, true);
	assert_int_equal(rows_with(t, snap, 1, &n), 500);
	assert_int_equal(n, 500);
	lrig_release(&rig, snap);

	/* he commits, a new snapshot sees his rows beside those of a later one */
	rewrite(t, before, 401, 50, 3);
	lrig_end(&rig, before, true);
	mine = lrig_begin(&rig);
	snap = lrig_snapshot(&rig, 0, 0);
	rewrite(t, mine, 451, 50, 4);
	assert_int_equal(rows_with(t, snap, 2, &n), 500);
	assert_int_equal(n, 400);
	assert_int_equal(rows_with(t, snap, 3, &n), 500);
	assert_int_equal(n, 50);
	lrig_release(&rig, snap);

	/* my own in a generation where there is nothing else */
	lrig_flush_all(&rig);
	rewrite(t, mine, 451, 50, 5);
	snap = lrig_snapshot(&rig, mine, 1);
	assert_int_equal(rows_with(t, snap, 5, &n), 500);
	assert_int_equal(n, 50);
	lrig_release(&rig, snap);
	lrig_end(&rig, mine, true);
	snap = lrig_snapshot(&rig, 0, 0);
	assert_int_equal(rows_with(t, snap, 5, &n), 500);
	assert_int_equal(n, 50);
	lrig_release(&rig, snap);
	lrig_close(&rig);
}

static uint64_t
raw_rows(LtgStore *t, LtgXid ignore_from)
{
	LtgScanOptions opt = {.keys_only = true, .ignore_from = ignore_from};
	LtgScan    *scan;
	LtgBatch	b;
	uint64_t	n = 0;

	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	while (ltg_scan_next(scan, &b) == LTG_OK)
		n += b.n;
	ltg_scan_close(scan);
	return n;
}

/* Who wrote all that is in memory and in files, and scans that leave the former out. */
static void
one_writer(void **state)
{
	LtgStore   *t;
	LtgStoreInfo info;
	LtgXid		a, b;
	uint8_t		key[5];

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	a = lrig_begin(&rig);
	rewrite(t, a, 1, 300, 1);
	lrig_flush_all(&rig);
	rewrite(t, a, 301, 100, 1);
	ltg_store_info(rig.s, t, &info);
	assert_int_equal(info.memtable_writer, a);
	assert_int_equal(info.min_xid, a);
	assert_int_equal(info.max_xid, a);
	assert_int_equal(raw_rows(t, 0), 400);
	assert_int_equal(raw_rows(t, a + 1), 400);
	assert_int_equal(raw_rows(t, a), 300);
	lrig_end(&rig, a, true);

	b = lrig_begin(&rig);
	rewrite(t, b, 401, 10, 1);
	ltg_store_info(rig.s, t, &info);
	assert_int_equal(info.memtable_writer, 0);
	assert_int_equal(raw_rows(t, b), 410);	/* a's and b's in one generation */
	lrig_freeze(&rig);
	rewrite(t, b, 411, 10, 1);
	ltg_store_info(rig.s, t, &info);
	assert_int_equal(info.memtable_writer, 0);
	assert_int_equal(raw_rows(t, b), 410);
	lrig_flush_all(&rig);
	ltg_store_info(rig.s, t, &info);
	assert_int_equal(info.memtable_keys, 0);
	assert_int_equal(info.max_xid, b);

	/* a delete is more than puts */
	rewrite(t, b, 421, 1, 1);
	ltg_store_info(rig.s, t, &info);
	assert_int_equal(info.memtable_writer, b);
	lrig_rowid(key, 5);
	lrig_write(&rig, t, key, 5, LTG_DELETE, NULL, 0, b, 0);
	ltg_store_info(rig.s, t, &info);
	assert_int_equal(info.memtable_writer, 0);
	lrig_end(&rig, b, true);
	lrig_close(&rig);
}

/* A scan that stops behind the empty key goes on behind it. */
static void
empty_key(void **state)
{
	(void) state;
	for (int backward = 0; backward < 2; backward++)
	{
		RigSnapshot *snap;
		LtgScan    *scan;
		LtgBatch	b;

		lrig_open(&rig, NULL);
		lrig_put(&rig, lrig_store(&rig, 1, 0), "", "of the empty key");
		lrig_put(&rig, lrig_find(&rig, 1), "a", "of another");
		snap = lrig_snapshot(&rig, 0, 0);
		{
			LtgScanOptions opt = {.snap = &snap->snap,.max_rows = 1,.backward = backward};

			lrig_ok(&rig, ltg_scan_open(rig.s, lrig_find(&rig, 1), &opt, &scan));
		}
		for (int i = 0; i < 2; i++)
		{
			const uint8_t *key;
			uint32_t	len;
			LtgVersion	v;

			lrig_ok(&rig, ltg_scan_next(scan, &b));
			assert_int_equal(b.n, 1);
			ltg_batch_row(scan, 0, &key, &len, &v);
			assert_int_equal(len, backward ? 1 - i : i);
		}
		lrig_expect(&rig, ltg_scan_next(scan, &b), LTG_END, __FILE__, __LINE__);
		ltg_scan_close(scan);
		lrig_release(&rig, snap);
		lrig_close(&rig);
	}
}

static void
no_memory(void **state)
{
	LtgStore   *t;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	load(t, 1, 2000, 2, 100);
	lrig_flush_all(&rig);
	load(t, 2, 2000, 2, 100);
	lrig_flush_all(&rig);
	load(t, 100, 100, 1, 90);
	for (uint64_t nth = 1;; nth++)
	{
		RigSnapshot *snap = lrig_snapshot(&rig, 0, 0);
		LtgScanOptions opt = {.snap = &snap->snap, .spare_cache = nth % 2};
		LtgScan    *scan;
		LtgBatch	b;
		uint64_t	rows = 0;
		LtgStatus	st;

		ltg_posix_fail(rig.posix, LTG_FAULT_ALLOC, nth, false, 0);
		st = ltg_scan_open(rig.s, t, &opt, &scan);
		if (st == LTG_OK)
		{
			while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
				rows += b.n;
			if (st == LTG_NOMEM)
			{
				/* it can go on where it was */
				ltg_clear_error(rig.s);
				while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
					rows += b.n;
				lrig_expect(&rig, st, LTG_END, __FILE__, __LINE__);
				assert_int_equal(rows, 4000);
				st = LTG_NOMEM;
			}
			ltg_scan_close(scan);
		}
		ltg_posix_fail(rig.posix, LTG_FAULT_ALLOC, 0, false, 0);
		assert_int_equal(rig.s->epoch_depth, 0);
		lrig_release(&rig, snap);
		if (st == LTG_END)
			break;
		assert_int_equal(st, LTG_NOMEM);
		ltg_clear_error(rig.s);
		assert_true(nth < 1000);
	}
	lrig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_run),
		cmocka_unit_test(interleaved),
		cmocka_unit_test(big_rows),
		cmocka_unit_test(change_between_calls),
		cmocka_unit_test(payloads_later),
		cmocka_unit_test(restart_scan),
		cmocka_unit_test(few_merged),
		cmocka_unit_test(dropped),
		cmocka_unit_test(judged_once),
		cmocka_unit_test(unseen_generations),
		cmocka_unit_test(one_writer),
		cmocka_unit_test(empty_key),
		cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
