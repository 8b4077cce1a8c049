/*
 * compact_random_test.c
 *	  Merges in pieces, of any keys: empty ones, some that begin with others, many
 *	  that bounds hold just so or truncate.  Between pieces others write, flush and
 *	  merge; jobs are interrupted; the process is killed.  Everything is read by
 *	  key and by scan, and compared with what was written.
 *
 *	compact_random_test [seed [count]]
 */
#include "test/lsm_rig.h"

#include "tree/publish.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define KEYS 1500
#define ROUNDS 60
#define PAYLOAD 96
#define UNDO_MAX 64				/* changes of a transaction that aborts */

typedef struct Key
{
	uint8_t		bytes[48];
	uint32_t	len;
	uint32_t	now, then;		/* value for everybody, for the old snapshot; 0: no row */
} Key;

static LsmRig rig;
static LtgStore *t;
static Key	keys[KEYS];			/* in order */
static uint32_t n_keys;
static uint64_t rnd;
static RigSnapshot *old;
static int	depth;				/* of jobs within pieces of jobs */
static uint32_t pieces, interrupts, flush_pieces, parted_restarts;
static bool flush_may_end;
static uint64_t first_seed = 1;
static uint64_t n_seeds = 40;

static bool
one_in(uint32_t n)
{
	return lrig_below(&rnd, n) == 0;
}

static int
compare_keys(const void *a, const void *b)
{
	const Key  *x = a;
	const Key  *y = b;
	uint32_t	n = x->len < y->len ? x->len : y->len;
	int			c = memcmp(x->bytes, y->bytes, n);

	return c != 0 ? c : (x->len > y->len) - (x->len < y->len);
}

/* 0: short; 1: around the length of a bound; 2: many that begin alike, and long. */
static uint32_t
random_len(uint32_t style)
{
	switch (style)
	{
		case 0:
			return lrig_below(&rnd, 9);
		case 1:
			return one_in(3) ? 19 + lrig_below(&rnd, 6) : lrig_below(&rnd, 24);
		default:
			return one_in(2) ? 22 + lrig_below(&rnd, 12) : 1 + lrig_below(&rnd, 21);
	}
}

static void
make_keys(uint32_t style)
{
	static const uint8_t letter[] = {0, 1, 'a', 0xff, 0xfe, 'b'};
	uint32_t	n = 0;

	for (uint32_t i = 0; i < KEYS; i++)
	{
		Key		   *k = &keys[i];
		uint32_t	alike;

		memset(k, 0, sizeof(*k));
		k->len = random_len(style);
		alike = style == 2 && !one_in(3) ? 18 : 0;
		for (uint32_t j = 0; j < k->len; j++)
			k->bytes[j] = j < alike ? 'p' : letter[lrig_below(&rnd, style == 1 && j > 2 ? 3 : 6)];
	}
	qsort(keys, KEYS, sizeof(Key), compare_keys);
	for (uint32_t i = 0; i < KEYS; i++)
		if (n == 0 || compare_keys(&keys[n - 1], &keys[i]) != 0)
			keys[n++] = keys[i];
	n_keys = n;
}

/* ---- writing ---- */

static void
write_key(LtgXid x, uint32_t i, uint32_t value)
{
	uint8_t		payload[PAYLOAD];
	uint64_t	r = i * UINT64_C(100003) + value;

	for (uint32_t k = 0; k < PAYLOAD; k += 8)
	{
		uint64_t	v = lrig_random(&r);

		memcpy(payload + k, &v, 8);
	}
	memcpy(payload, &i, 4);
	memcpy(payload + 4, &value, 4);
	lrig_write(&rig, t, keys[i].bytes, keys[i].len, value == 0 ? LTG_DELETE : LTG_PUT, payload,
			   value == 0 ? 0 : PAYLOAD, x, 0);
	keys[i].now = value;
}

static void
change(uint32_t n)
{
	uint32_t	lo = one_in(3) ? lrig_below(&rnd, n_keys) : 0;
	bool		commit = !one_in(6);
	uint32_t	at[UNDO_MAX], was[UNDO_MAX];
	LtgXid		x = lrig_begin(&rig);

	if (!commit && n > UNDO_MAX)
		n = UNDO_MAX;
	for (uint32_t k = 0; k < n; k++)
	{
		uint32_t	i = lo + lrig_below(&rnd, n_keys - lo);

		if (!commit)
		{
			at[k] = i;
			was[k] = keys[i].now;
		}
		write_key(x, i, one_in(3) ? 0 : 1 + lrig_below(&rnd, 1000000));
	}
	for (uint32_t k = n; !commit && k-- > 0;)
		keys[at[k]].now = was[k];
	lrig_end(&rig, x, commit);
}

/* ---- reading ---- */

static void
problem(void *arg, const char *text)
{
	(void) arg;
	fail_msg("check: %s", text);
}

static uint32_t
value_of(uint32_t i, bool then)
{
	return then ? keys[i].then : keys[i].now;
}

static void
expect_row(const LtgVersion *v, uint32_t i, bool then)
{
	uint32_t	want[2] = {i, value_of(i, then)};

	assert_int_equal(v->payload_len, PAYLOAD);
	assert_memory_equal(v->payload, want, sizeof(want));
}

static void
read_by_scan(LtgSnapshot *snap, bool then, bool backward, uint32_t from, uint32_t to)
{
	LtgScanOptions opt = {.snap = snap,.backward = backward,.keys_only = one_in(4)};
	LtgScan    *scan;
	LtgBatch	b;
	LtgStatus	st;
	uint32_t	i = backward ? to : from;

	opt.max_rows = one_in(3) ? 1 + lrig_below(&rnd, 200) : 0;
	if (from > 0)
		opt.lo = keys[from].bytes, opt.lo_len = keys[from].len;
	if (to < n_keys)
		opt.hi = keys[to].bytes, opt.hi_len = keys[to].len;
	lrig_ok(&rig, ltg_scan_open(rig.s, t, &opt, &scan));
	while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
		for (uint32_t k = 0; k < b.n; k++)
		{
			const uint8_t *key;
			uint32_t	len;
			LtgVersion	v;
			uint32_t	at;

			ltg_batch_row(scan, k, &key, &len, &v);
			while (backward ? i > from && value_of(i - 1, then) == 0 : i < to && value_of(i, then) == 0)
				i = backward ? i - 1 : i + 1;
			assert_true(backward ? i > from : i < to);
			at = backward ? --i : i++;
			assert_int_equal(len, keys[at].len);
			if (len > 0)
				assert_memory_equal(key, keys[at].bytes, len);
			if (!opt.keys_only)
				expect_row(&v, at, then);
		}
	lrig_expect(&rig, st, LTG_END, __FILE__, __LINE__);
	for (; backward ? i > from : i < to; i = backward ? i - 1 : i + 1)
		assert_int_equal(value_of(backward ? i - 1 : i, then), 0);
	ltg_scan_close(scan);
}

static void
read_by_key(LtgSnapshot *snap, bool then)
{
	uint32_t	step = 1 + lrig_below(&rnd, 5);
	bool		down = one_in(2);
	LtgRow		row = {0};

	for (uint32_t j = lrig_below(&rnd, step); j < n_keys; j += step)
	{
		uint32_t	i = down ? n_keys - 1 - j : j;
		LtgStatus	st = ltg_get(rig.s, t, keys[i].bytes, keys[i].len, snap, &row);

		lrig_expect(&rig, st, value_of(i, then) == 0 ? LTG_NOT_FOUND : LTG_OK, __FILE__, __LINE__);
		if (st == LTG_OK)
			expect_row(&row.v, i, then);
	}
	ltg_row_free(rig.s, &row);
}

static void
read_with(LtgSnapshot *snap, bool then)
{
	read_by_scan(snap, then, false, 0, n_keys);
	read_by_scan(snap, then, true, 0, n_keys);
	for (int i = 0; i < 4; i++)
	{
		uint32_t	from = lrig_below(&rnd, n_keys);
		uint32_t	to = from + lrig_below(&rnd, n_keys - from + 1);

		read_by_scan(snap, then, false, from, to);
		read_by_scan(snap, then, true, from, to);
	}
	read_by_key(snap, then);
}

static void
read_all(void)
{
	RigSnapshot *snap = lrig_snapshot(&rig, 0, 0);

	read_with(&snap->snap, false);
	lrig_release(&rig, snap);
	if (old != NULL)
		read_with(&old->snap, true);
	lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
}

/* ---- between pieces ---- */

static void
others_work(bool may_flush)
{
	LtgCompactResult r;
	LtgFlushResult flushed;
	LtgStatus	st = LTG_OK;

	depth++;
	change(1 + lrig_below(&rnd, 300));
	if (may_flush && one_in(2))
	{
		lrig_freeze(&rig);
		lrig_ok(&rig, ltg_flush(rig.s, &flushed));
	}
	r.compacted = true;
	for (int i = 0; i < 3 && st == LTG_OK && r.compacted; i++)
		st = ltg_compact(rig.s, &r);
	lrig_expect(&rig, st, rig.interrupted ? LTG_INTERRUPTED : LTG_OK, __FILE__, __LINE__);
	ltg_clear_error(rig.s);
	rig.interrupted = false;
	depth--;
}

static void
stop(LsmRig *r, const char *name)
{
	uint32_t	removed;

	bool		flush = strcmp(name, "flush:piece") == 0;

	if (!flush && strcmp(name, "compact:piece") != 0)
		return;
	pieces++;
	flush_pieces += flush;
	if (one_in(2))
		lrig_ok(&rig, ltg_remove_obsolete(rig.s, &removed));
	if (one_in(4))
		read_all();
	if (depth < 2 && one_in(2))
		others_work(!flush);
	if (flush ? flush_may_end && one_in(4) : one_in(8))
	{
		r->interrupted = true;
		interrupts++;
	}
}

/* ---- a run ---- */

static void
merge_some(void)
{
	LtgCompactResult r;
	LtgStatus	st;

	if (one_in(3))
	{
		if (one_in(2))
			ltg_store_rewrite(rig.s, t);
		st = ltg_compact_store(rig.s, t, &r);
	}
	else
		st = ltg_compact(rig.s, &r);
	/* nobody, while D is below what files have */
	if (st == LTG_BUSY && atomic_load(&t->merged_upto) > ltg_durable(rig.s))
		st = LTG_OK;
	lrig_expect(&rig, st, rig.interrupted ? LTG_INTERRUPTED : LTG_OK, __FILE__, __LINE__);
	ltg_clear_error(rig.s);
	rig.interrupted = false;
}

static void
change_snapshot(void)
{
	if (old != NULL)
	{
		lrig_release(&rig, old);
		old = NULL;
		return;
	}
	old = lrig_snapshot(&rig, 0, 0);
	for (uint32_t i = 0; i < n_keys; i++)
		keys[i].then = keys[i].now;
}

static void
restart(void)
{
	if (old != NULL)
		change_snapshot();
	rig.stop = NULL;
	lrig_restart(&rig);
	rig.stop = stop;
	t = lrig_find(&rig, 1);
	read_all();
}

static void
begin(uint64_t seed)
{
	LtgConfig	c;
	LtgXid		x;

	rnd = seed;
	lrig_config(&c);
	c.file_target_bytes = UINT64_C(2048) << lrig_below(&rnd, 5);
	c.space_limit = lrig_below(&rnd, 3) * 20;
	c.l0_compact_trigger = 2 + lrig_below(&rnd, 3);
	make_keys((uint32_t) (seed % 3));
	lrig_open(&rig, &c);
	t = lrig_store(&rig, 1, one_in(2) ? LTG_STORE_KEEP_GRAVES : 0);
	rig.stop = stop;
	x = lrig_begin(&rig);
	for (uint32_t i = 0; i < n_keys; i++)
		write_key(x, i, one_in(9) ? 0 : i + 1);
	lrig_end(&rig, x, true);
}

/* It may end between two pieces, and go on, or the process may. */
static void
flush_some(void)
{
	LtgFlushResult r;
	LtgStatus	st;

	lrig_freeze(&rig);
	do
	{
		flush_may_end = true;
		st = ltg_flush(rig.s, &r);
		flush_may_end = false;
		lrig_expect(&rig, st, rig.interrupted ? LTG_INTERRUPTED : LTG_OK, __FILE__, __LINE__);
		ltg_clear_error(rig.s);
		rig.interrupted = false;
		if (st == LTG_OK)
			break;
		if (one_in(2))
			read_all();
		if (one_in(2))
		{
			restart();
			parted_restarts++;
			/* before the rest is flushed */
			if (one_in(2))
				change(1 + lrig_below(&rnd, 200));
			if (one_in(2))
				read_all();
			if (one_in(2))
				restart();
			return;
		}
	} while (true);
}

static void
one_seed(uint64_t seed)
{
	begin(seed);
	for (int round = 0; round < ROUNDS; round++)
	{
		change(1 + lrig_below(&rnd, 500));
		if (one_in(4))
			change_snapshot();
		if (!one_in(3))
			flush_some();
		if (one_in(5))
			ltg_store_clear_graves(rig.s, t, ltg_durable(rig.s));
		merge_some();
		if (one_in(4))
			read_all();
		if (one_in(10))
			restart();
	}
	if (old != NULL)
		change_snapshot();
	rig.stop = NULL;
	lrig_compact_all(&rig);
	read_all();
	lrig_close(&rig);
}

static void
seeds(void **state)
{
	(void) state;
	for (uint64_t seed = first_seed; seed < first_seed + n_seeds; seed++)
	{
		if (n_seeds == 1)
			print_message("seed %llu\n", (unsigned long long) seed);
		one_seed(seed);
	}
	assert_true(pieces > n_seeds);
	print_message("%u pieces, %u of them of flushes, %u interruptions, %u restarts after one of a flush\n",
				  pieces, flush_pieces, interrupts, parted_restarts);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seeds),
	};

	if (argc > 1)
	{
		first_seed = strtoull(argv[1], NULL, 10);
		n_seeds = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
