/*
 * lt_test.c
 *	  The embedded library as its users see it, one thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <dirent.h>
#include <cmocka.h>

#include "lt/lt.h"
#include "test/tmpdir.h"

typedef struct Fixture
{
	char		dir[64];
	lt_options	opt;
	lt_db	   *db;
	char		err[256];
} Fixture;

static void
must_open(Fixture *f)
{
	lt_status	st = lt_open(f->dir, &f->opt, &f->db, f->err, sizeof(f->err));

	if (st != LT_OK)
		print_message("open: %s\n", f->err);
	assert_int_equal(st, LT_OK);
}

static void
small_options(lt_options *o)
{
	lt_options_init(o);
	o->memtable_bytes = 1 << 20;
	o->memtable_count = 3;
	o->cache_bytes = 4 << 20;
	o->metadata_bytes = 4 << 20;
	o->log_segment_bytes = 256 << 10;
	o->log_buffer_bytes = 64 << 10;
	o->max_threads = 8;
	o->max_txns = 16;
	o->sync = LT_SYNC_LAZY;
}

static int
setup(void **state)
{
	Fixture    *f = calloc(1, sizeof(*f));

	assert_true(test_tmpdir(f->dir, sizeof(f->dir), "lt-test"));
	small_options(&f->opt);
	must_open(f);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	Fixture    *f = *state;
	char		path[400];
	DIR		   *d;
	struct dirent *de;

	assert_int_equal(lt_close(f->db), LT_OK);
	d = opendir(f->dir);
	while ((de = readdir(d)) != NULL)
	{
		snprintf(path, sizeof(path), "%s/%s", f->dir, de->d_name);
		unlink(path);
	}
	closedir(d);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static void
reopen(Fixture *f)
{
	assert_int_equal(lt_close(f->db), LT_OK);
	must_open(f);
}

static void
complain(void *arg, const char *problem)
{
	(void) arg;
	print_message("problem: %s\n", problem);
}

static void
must_check(Fixture *f)
{
	assert_int_equal(lt_check(f->db, complain, NULL), LT_OK);
}

static lt_status
put(lt_db *db, const char *k, const char *v)
{
	return lt_put(db, NULL, k, strlen(k), v, strlen(v), LT_SYNC_DEFAULT);
}

/* The value is v; NULL: there is none. */
static void
expect_in(lt_db *db, lt_txn *txn, lt_tree *tree, const char *k, const char *v)
{
	lt_value	val = LT_VALUE_INIT;
	lt_status	st = txn != NULL ? lt_txn_get(txn, tree, k, strlen(k), &val)
		: lt_get(db, tree, k, strlen(k), &val);

	if (v == NULL)
		assert_int_equal(st, LT_NOT_FOUND);
	else
	{
		assert_int_equal(st, LT_OK);
		assert_int_equal(val.size, strlen(v));
		assert_memory_equal(val.data, v, val.size);
	}
	lt_value_free(&val);
}

static void
single_operations(void **state)
{
	Fixture    *f = *state;

	expect_in(f->db, NULL, NULL, "a", NULL);
	assert_int_equal(put(f->db, "a", "1"), LT_OK);
	assert_int_equal(put(f->db, "a", "2"), LT_OK);
	assert_int_equal(put(f->db, "b", ""), LT_OK);
	expect_in(f->db, NULL, NULL, "a", "2");
	expect_in(f->db, NULL, NULL, "b", "");
	assert_int_equal(lt_delete(f->db, NULL, "a", 1, LT_SYNC_FULL), LT_OK);
	assert_int_equal(lt_delete(f->db, NULL, "nothing", 7, LT_SYNC_OS), LT_OK);
	expect_in(f->db, NULL, NULL, "a", NULL);
	reopen(f);
	expect_in(f->db, NULL, NULL, "a", NULL);
	expect_in(f->db, NULL, NULL, "b", "");
	must_check(f);
}

static void
bad_arguments(void **state)
{
	Fixture    *f = *state;
	static char big[300000];
	char		msg[200];
	lt_options	o = f->opt;
	lt_db	   *other;

	assert_int_equal(lt_put(f->db, NULL, "", 0, "x", 1, LT_SYNC_LAZY), LT_INVALID);
	assert_int_equal(lt_put(f->db, NULL, big, 5000, "x", 1, LT_SYNC_LAZY), LT_TOO_LARGE);
	assert_int_equal(lt_put(f->db, NULL, "k", 1, big, sizeof(big), LT_SYNC_LAZY), LT_TOO_LARGE);
	lt_error_text(f->db, msg, sizeof(msg));
	assert_non_null(strstr(msg, "262144"));
	/* larger than a log record of this small buffer */
	assert_int_equal(lt_put(f->db, NULL, "k", 1, big, 200000, LT_SYNC_LAZY), LT_TOO_LARGE);
	expect_in(f->db, NULL, NULL, "k", NULL);
	assert_int_equal(lt_open(f->dir, &o, &other, msg, sizeof(msg)), LT_BUSY);
	o.memtable_count = 1;
	assert_int_equal(lt_open("/tmp/lt-nowhere", &o, &other, msg, sizeof(msg)), LT_INVALID);
	o = f->opt;
	o.create = false;
	assert_int_equal(lt_open("/tmp/lt-nowhere", &o, &other, msg, sizeof(msg)), LT_NOT_FOUND);
}

static void
snapshots_and_own_writes(void **state)
{
	Fixture    *f = *state;
	lt_txn	   *a,
			   *b;

	assert_int_equal(put(f->db, "x", "old"), LT_OK);
	assert_int_equal(lt_begin(f->db, LT_READ_WRITE, &a), LT_OK);
	assert_int_equal(lt_begin(f->db, LT_READ_ONLY, &b), LT_OK);
	assert_int_equal(lt_txn_put(a, NULL, "x", 1, "new", 3), LT_OK);
	assert_int_equal(lt_txn_put(a, NULL, "y", 1, "y", 1), LT_OK);
	assert_int_equal(lt_txn_put(b, NULL, "x", 1, "new", 3), LT_INVALID);
	expect_in(f->db, a, NULL, "x", "new");
	expect_in(f->db, b, NULL, "x", "old");
	expect_in(f->db, NULL, NULL, "x", "old");
	assert_int_equal(lt_txn_delete(a, NULL, "y", 1), LT_OK);
	expect_in(f->db, a, NULL, "y", NULL);
	assert_int_equal(lt_commit(a, LT_SYNC_LAZY), LT_OK);
	expect_in(f->db, NULL, NULL, "x", "new");
	expect_in(f->db, b, NULL, "x", "old");
	assert_int_equal(lt_checkpoint(f->db), LT_OK);
	expect_in(f->db, b, NULL, "x", "old");
	expect_in(f->db, NULL, NULL, "x", "new");
	lt_abort(b);
	must_check(f);
}

static void
first_updater_wins(void **state)
{
	Fixture    *f = *state;
	lt_txn	   *a,
			   *b;

	assert_int_equal(put(f->db, "x", "0"), LT_OK);
	for (int flushed = 0; flushed < 2; flushed++)
	{
		assert_int_equal(lt_begin(f->db, LT_READ_WRITE, &a), LT_OK);
		assert_int_equal(lt_begin(f->db, LT_READ_WRITE, &b), LT_OK);
		assert_int_equal(lt_txn_put(a, NULL, "x", 1, "a", 1), LT_OK);
		if (flushed)
			assert_int_equal(lt_checkpoint(f->db), LT_OK);
		/* in progress */
		assert_int_equal(lt_txn_put(b, NULL, "x", 1, "b", 1), LT_CONFLICT);
		assert_int_equal(put(f->db, "x", "c"), LT_CONFLICT);
		assert_int_equal(lt_commit(a, LT_SYNC_LAZY), LT_OK);
		if (flushed)
			assert_int_equal(lt_checkpoint(f->db), LT_OK);
		/* committed after b's snapshot */
		assert_int_equal(lt_txn_put(b, NULL, "x", 1, "b", 1), LT_CONFLICT);
		assert_int_equal(lt_txn_put(b, NULL, "z", 1, "b", 1), LT_OK);
		assert_int_equal(put(f->db, "x", "d"), LT_OK);
		assert_int_equal(lt_commit(b, LT_SYNC_LAZY), LT_OK);
		expect_in(f->db, NULL, NULL, "x", "d");
		expect_in(f->db, NULL, NULL, "z", "b");
	}
	/* an aborted version is in nobody's way */
	assert_int_equal(lt_begin(f->db, LT_READ_WRITE, &a), LT_OK);
	assert_int_equal(lt_txn_put(a, NULL, "x", 1, "lost", 4), LT_OK);
	assert_int_equal(lt_checkpoint(f->db), LT_OK);
	lt_abort(a);
	expect_in(f->db, NULL, NULL, "x", "d");
	assert_int_equal(put(f->db, "x", "e"), LT_OK);
	reopen(f);
	expect_in(f->db, NULL, NULL, "x", "e");
	must_check(f);
}

static void
batches_are_atomic_and_last_write_counts(void **state)
{
	Fixture    *f = *state;
	lt_batch   *b;
	lt_txn	   *t;

	assert_int_equal(lt_batch_create(f->db, &b), LT_OK);
	assert_int_equal(lt_write(f->db, b, LT_SYNC_FULL), LT_OK);
	for (int i = 0; i < 300; i++)
	{
		char		k[16];

		snprintf(k, sizeof(k), "k%03d", i % 100);
		assert_int_equal(lt_batch_put(b, NULL, k, 4, &i, sizeof(i)), LT_OK);
	}
	assert_int_equal(lt_batch_delete(b, NULL, "k007", 4), LT_OK);
	assert_int_equal(lt_begin(f->db, LT_READ_WRITE, &t), LT_OK);
	assert_int_equal(lt_txn_put(t, NULL, "k050", 4, "t", 1), LT_OK);
	assert_int_equal(lt_write(f->db, b, LT_SYNC_LAZY), LT_CONFLICT);
	expect_in(f->db, NULL, NULL, "k000", NULL);
	lt_abort(t);
	assert_int_equal(lt_write(f->db, b, LT_SYNC_LAZY), LT_OK);
	for (int round = 0; round < 2; round++)
	{
		lt_value	v = LT_VALUE_INIT;
		int			i;

		assert_int_equal(lt_get(f->db, NULL, "k099", 4, &v), LT_OK);
		memcpy(&i, v.data, sizeof(i));
		assert_int_equal(i, 299);
		assert_int_equal(lt_get(f->db, NULL, "k007", 4, &v), LT_NOT_FOUND);
		lt_value_free(&v);
		if (round == 0)
		{
			lt_batch_free(b);
			reopen(f);
		}
	}
	must_check(f);
}

static int
count_range(lt_db *db, lt_txn *txn, const lt_range *r, bool backward)
{
	lt_cursor  *c;
	const void *k,
			   *v;
	size_t		kn,
				vn;
	char		last[32] = "";
	int			n = 0;

	assert_int_equal(lt_cursor_open(db, txn, NULL, r, &c), LT_OK);
	while (lt_cursor_next(c, &k, &kn, &v, &vn) == LT_OK)
	{
		char		now[32];

		snprintf(now, sizeof(now), "%.*s", (int) kn, (const char *) k);
		if (n > 0)
			assert_true(backward ? strcmp(now, last) < 0 : strcmp(now, last) > 0);
		strcpy(last, now);
		n++;
	}
	assert_int_equal(lt_cursor_next(c, &k, &kn, &v, &vn), LT_END);
	lt_cursor_close(c);
	return n;
}

static void
cursors(void **state)
{
	Fixture    *f = *state;
	lt_range	r = {.lo = "k00100", .lo_size = 6, .hi = "k00200", .hi_size = 6};
	lt_txn	   *t;
	lt_cursor  *c;
	const void *k,
			   *v;
	size_t		kn,
				vn;

	for (int i = 0; i < 1000; i++)
	{
		char		key[16];

		snprintf(key, sizeof(key), "k%05d", i);
		assert_int_equal(put(f->db, key, "value"), LT_OK);
		if (i == 500)
			assert_int_equal(lt_checkpoint(f->db), LT_OK);
	}
	for (int back = 0; back < 2; back++)
	{
		r.backward = back;
		assert_int_equal(count_range(f->db, NULL, &r, back), 100);
		assert_int_equal(count_range(f->db, NULL, &(lt_range) {.backward = back}, back), 1000);
	}
	/* a cursor does not see what is written behind its back */
	assert_int_equal(lt_begin(f->db, LT_READ_WRITE, &t), LT_OK);
	assert_int_equal(lt_txn_delete(t, NULL, "k00150", 6), LT_OK);
	r.backward = false;
	r.expect_rows = 7;
	assert_int_equal(count_range(f->db, t, &r, false), 99);
	assert_int_equal(lt_cursor_open(f->db, t, NULL, &r, &c), LT_OK);
	for (int i = 100; i < 200; i++)
	{
		if (i == 150)
			continue;
		assert_int_equal(lt_cursor_next(c, &k, &kn, &v, &vn), LT_OK);
		assert_int_equal(lt_txn_put(t, NULL, "k00199x", 7, "x", 1), LT_OK);
	}
	assert_int_equal(lt_cursor_next(c, &k, &kn, &v, &vn), LT_END);
	r.lo = "k00198";
	assert_int_equal(lt_cursor_seek(c, &r), LT_OK);
	for (int i = 0; i < 3; i++)
		assert_int_equal(lt_cursor_next(c, &k, &kn, &v, &vn), LT_OK);
	assert_int_equal(kn, 7);
	assert_int_equal(lt_cursor_next(c, &k, &kn, &v, &vn), LT_END);
	lt_cursor_close(c);
	assert_int_equal(lt_commit(t, LT_SYNC_FULL), LT_OK);
	assert_int_equal(count_range(f->db, NULL, NULL, false), 1000);
	must_check(f);
}

static void
named_trees(void **state)
{
	Fixture    *f = *state;
	lt_tree    *a,
			   *b,
			   *again;

	assert_int_equal(lt_tree_open(f->db, "a", false, &a), LT_NOT_FOUND);
	assert_int_equal(lt_tree_open(f->db, "", true, &a), LT_INVALID);
	assert_int_equal(lt_tree_open(f->db, "a", true, &a), LT_OK);
	assert_int_equal(lt_tree_open(f->db, "b", true, &b), LT_OK);
	assert_int_equal(lt_tree_open(f->db, "a", true, &again), LT_OK);
	assert_ptr_equal(a, again);
	assert_int_equal(lt_put(f->db, a, "k", 1, "in a", 4, LT_SYNC_LAZY), LT_OK);
	assert_int_equal(lt_put(f->db, b, "k", 1, "in b", 4, LT_SYNC_LAZY), LT_OK);
	expect_in(f->db, NULL, NULL, "k", NULL);
	f->opt.fast_close = true;
	reopen(f);
	assert_int_equal(lt_tree_open(f->db, "a", false, &a), LT_OK);
	assert_int_equal(lt_tree_open(f->db, "b", false, &b), LT_OK);
	expect_in(f->db, NULL, a, "k", "in a");
	expect_in(f->db, NULL, b, "k", "in b");
	assert_int_equal(lt_tree_drop(f->db, a), LT_OK);
	reopen(f);
	assert_int_equal(lt_tree_open(f->db, "a", false, &a), LT_NOT_FOUND);
	assert_int_equal(lt_tree_open(f->db, "a", true, &a), LT_OK);
	expect_in(f->db, NULL, a, "k", NULL);
	f->opt.fast_close = false;
	reopen(f);
	assert_int_equal(lt_tree_open(f->db, "b", false, &b), LT_OK);
	expect_in(f->db, NULL, b, "k", "in b");
	must_check(f);
}

/* Enough for many flushes, log segments and merges; then all of it again. */
static void
much_data(void **state)
{
	Fixture    *f = *state;
	lt_stats	s;
	char		k[32],
				v[128];
	const int	n = 60000;

	memset(v, 'v', sizeof(v));
	for (int round = 0; round < 2; round++)
	{
		for (int i = 0; i < n; i++)
		{
			int			len = snprintf(k, sizeof(k), "key%010u", (unsigned) i * 2654435761u);

			memcpy(v, &i, sizeof(i));
			assert_int_equal(lt_put(f->db, NULL, k, (size_t) len, v, 100 + (size_t) round,
									LT_SYNC_DEFAULT), LT_OK);
		}
		if (round == 0)
			f->opt.fast_close = true;
		reopen(f);
		f->opt.fast_close = false;
	}
	for (int i = 0; i < n; i += 7)
	{
		lt_value	val = LT_VALUE_INIT;
		int			len = snprintf(k, sizeof(k), "key%010u", (unsigned) i * 2654435761u);

		assert_int_equal(lt_get(f->db, NULL, k, (size_t) len, &val), LT_OK);
		assert_int_equal(val.size, 101);
		assert_memory_equal(val.data, &i, sizeof(i));
		lt_value_free(&val);
	}
	assert_int_equal(lt_compact(f->db), LT_OK);
	assert_int_equal(count_range(f->db, NULL, NULL, false), n);
	must_check(f);
	assert_int_equal(lt_get_stats(f->db, &s), LT_OK);
	assert_true(s.log_segments <= 3);
	assert_true(s.file_bytes > 0);
	assert_int_equal(s.running_txns, 0);
}

static void
reopening_piles_nothing_up(void **state)
{
	Fixture    *f = *state;
	lt_stats	s;
	char		v[16];

	f->opt.fast_close = true;
	for (int i = 0; i < 100; i++)
	{
		snprintf(v, sizeof(v), "%d", i);
		assert_int_equal(put(f->db, "k", v), LT_OK);
		reopen(f);
		expect_in(f->db, NULL, NULL, "k", v);
	}
	assert_int_equal(lt_get_stats(f->db, &s), LT_OK);
	assert_true(s.log_segments <= 34);
	must_check(f);
}

static void
many_aborts_leave_nothing(void **state)
{
	Fixture    *f = *state;
	lt_stats	s;
	lt_txn	   *t;
	char		k[32];

	for (int i = 0; i < 40000; i++)
	{
		int			len = snprintf(k, sizeof(k), "k%d", i % 1000);

		assert_int_equal(lt_begin(f->db, LT_READ_WRITE, &t), LT_OK);
		assert_int_equal(lt_txn_put(t, NULL, k, (size_t) len, "gone", 4), LT_OK);
		lt_abort(t);
	}
	assert_int_equal(lt_checkpoint(f->db), LT_OK);
	assert_int_equal(lt_checkpoint(f->db), LT_OK);
	assert_int_equal(count_range(f->db, NULL, NULL, false), 0);
	assert_int_equal(lt_get_stats(f->db, &s), LT_OK);
	assert_int_equal(s.aborts, 40000);
	assert_int_equal(s.aborted_kept, 0);
	must_check(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(single_operations, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_arguments, setup, teardown),
		cmocka_unit_test_setup_teardown(snapshots_and_own_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(first_updater_wins, setup, teardown),
		cmocka_unit_test_setup_teardown(batches_are_atomic_and_last_write_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(cursors, setup, teardown),
		cmocka_unit_test_setup_teardown(named_trees, setup, teardown),
		cmocka_unit_test_setup_teardown(much_data, setup, teardown),
		cmocka_unit_test_setup_teardown(reopening_piles_nothing_up, setup, teardown),
		cmocka_unit_test_setup_teardown(many_aborts_leave_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
