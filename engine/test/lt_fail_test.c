/*
 * lt_fail_test.c
 *	  Every call of the system fails once: for n = 1, 2, ... the n-th
 *	  allocation, open, read, write, sync, rename, removal and directory sync of
 *	  a scripted workload fails, once or from then on, until a run needs fewer
 *	  than n calls.
 *
 * After each: every failure was reported by a status; no memory is left; the
 * database opens again, is whole, and has every commit that was acknowledged
 * and none that was refused before its commit.
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "lt/db.h"
#include "test/tmpdir.h"

#define KEYS 40


typedef struct Script
{
	char		dir[64];
	lt_options	opt;
	LtgPosix   *posix;
	LtHost	   *host;
	lt_db	   *db;
	/* what must be found: the last acknowledged write, or a later one whose
	 * commit is in doubt */
	int			acked[KEYS];
	uint64_t	doubt[KEYS];	/* bit = step */
	int			step;
	uint64_t	failures;		/* statuses other than LT_OK */
} Script;

static void
quiet(void *arg, LtgLogLevel level, const char *msg)
{
	(void) arg;
	(void) level;
	(void) msg;
}

static void
make_host(Script *s)
{
	LtgPosixOptions po = {.dir = s->dir, .lock_dir = true, .log = quiet};
	LtgError	err;

	assert_int_equal(ltg_posix_open(&po, &s->posix, &err), LTG_OK);
	assert_int_equal(lt_host_posix(ltg_posix_port(s->posix), &s->host), LTG_OK);
}

static void
drop_host(Script *s)
{
	assert_int_equal(ltg_posix_live_allocs(s->posix), 0);
	s->host->destroy(s->host);
	ltg_posix_close(s->posix);
}

static void
empty_dir(const char *dir)
{
	DIR		   *d = opendir(dir);
	struct dirent *de;
	char		path[400];

	while ((de = readdir(d)) != NULL)
	{
		snprintf(path, sizeof(path), "%s/%s", dir, de->d_name);
		unlink(path);
	}
	closedir(d);
}

static bool
failed(Script *s, lt_status st)
{
	if (st == LT_OK)
		return false;
	/* a clean failure is one of these, never a wrong answer */
	assert_true(st == LT_IO || st == LT_NOSPACE || st == LT_NOMEM || st == LT_POISONED ||
				st == LT_CONFLICT);
	s->failures++;
	return true;
}

static int
key_of(char *key, int k)
{
	return snprintf(key, 16, "key%03d", k);
}

static void
commit_result(Script *s, const int *keys, int n, lt_status st)
{
	for (int i = 0; i < n; i++)
	{
		if (st == LT_OK)
		{
			s->acked[keys[i]] = s->step;
			s->doubt[keys[i]] = 0;
		}
		else
			s->doubt[keys[i]] |= UINT64_C(1) << s->step;
	}
}

static void
single(Script *s, int k, lt_sync sync)
{
	char		key[16],
				row[300];
	lt_status	st;

	memset(row, 'x', sizeof(row));
	s->step++;
	assert_true(s->step < 64);
	memcpy(row, &s->step, sizeof(int));
	st = lt_put(s->db, NULL, key, (size_t) key_of(key, k), row, sizeof(row), sync);
	failed(s, st);
	if (st != LT_CONFLICT)
		commit_result(s, &k, 1, st);
}

static void
transaction(Script *s, int from, int n)
{
	char		key[16];
	int			keys[KEYS];
	lt_txn	   *t;
	lt_status	st;

	s->step++;
	if (failed(s, lt_begin(s->db, LT_READ_WRITE, &t)))
		return;
	for (int i = 0; i < n; i++)
	{
		keys[i] = (from + i) % KEYS;
		st = lt_txn_put(t, NULL, key, (size_t) key_of(key, keys[i]), &s->step, sizeof(int));
		if (failed(s, st))
		{
			lt_abort(t);
			return;
		}
	}
	st = lt_commit(t, LT_SYNC_FULL);
	failed(s, st);
	commit_result(s, keys, n, st);
}

static void
aborted(Script *s, int k)
{
	char		key[16];
	lt_txn	   *t;

	s->step++;
	if (failed(s, lt_begin(s->db, LT_READ_WRITE, &t)))
		return;
	failed(s, lt_txn_put(t, NULL, key, (size_t) key_of(key, k), &s->step, sizeof(int)));
	lt_abort(t);
}

static void
batch(Script *s, int from, int n)
{
	char		key[16];
	int			keys[KEYS];
	lt_batch   *b;
	lt_status	st;

	s->step++;
	if (failed(s, lt_batch_create(s->db, &b)))
		return;
	st = LT_OK;
	for (int i = 0; i < n && st == LT_OK; i++)
	{
		keys[i] = (from + i) % KEYS;
		st = lt_batch_put(b, NULL, key, (size_t) key_of(key, keys[i]), &s->step, sizeof(int));
	}
	if (!failed(s, st))
	{
		st = lt_write(s->db, b, LT_SYNC_OS);
		failed(s, st);
		if (st != LT_CONFLICT)
			commit_result(s, keys, n, st);
	}
	lt_batch_free(b);
}

/* Whatever can be read must be right. */
static void
look(Script *s, bool final)
{
	lt_value	v = LT_VALUE_INIT;
	char		key[16];

	for (int k = 0; k < KEYS; k++)
	{
		lt_status	st = lt_get(s->db, NULL, key, (size_t) key_of(key, k), &v);
		int			got = 0;

		if (st == LT_OK)
			memcpy(&got, v.data, sizeof(int));
		else if (st != LT_NOT_FOUND)
		{
			assert_false(final);
			failed(s, st);
			continue;
		}
		if (got != s->acked[k] && (s->doubt[k] & UINT64_C(1) << got) == 0)
			fail_msg("%s has %d; acknowledged %d, in doubt %llx", key, got, s->acked[k],
					 (unsigned long long) s->doubt[k]);
	}
	lt_value_free(&v);
}

static void
look_by_cursor(Script *s)
{
	lt_cursor  *c;
	const void *k,
			   *v;
	size_t		kn,
				vn;
	lt_status	st = lt_cursor_open(s->db, NULL, NULL, NULL, &c);

	if (failed(s, st))
		return;
	while ((st = lt_cursor_next(c, &k, &kn, &v, &vn)) == LT_OK)
		;
	if (st != LT_END)
		failed(s, st);
	lt_cursor_close(c);
}

static lt_status
open_db(Script *s)
{
	char		err[300];

	return lt_open_host_chunked(s->host, &s->opt, 4, &s->db, err, sizeof(err));
}

static void
script(Script *s)
{
	lt_tree    *t;

	if (failed(s, open_db(s)))
		return;
	for (int round = 0; round < 3; round++)
	{
		for (int k = 0; k < 8; k++)
			single(s, k * 5 + round, k % 2 == 0 ? LT_SYNC_FULL : LT_SYNC_OS);
		transaction(s, round * 7, 5);
		aborted(s, round);
		batch(s, round * 11, 20);
		look(s, false);
		failed(s, lt_checkpoint(s->db));
		look_by_cursor(s);
		look(s, false);
	}
	failed(s, lt_tree_open(s->db, "tree", true, &t));
	failed(s, lt_compact(s->db));
	look(s, false);
	failed(s, lt_background(s->db, LT_WORK_ALL, NULL));
	failed(s, lt_close(s->db));
}

static void
complain(void *arg, const char *problem)
{
	(void) arg;
	print_message("problem: %s\n", problem);
}

/* One run with the nth call of this kind failing; true: it did fail. */
static bool
run_once(Script *s, LtgFaultKind kind, uint64_t nth, bool persistent, int os_errno)
{
	uint64_t	struck;

	memset(s->acked, 0, sizeof(s->acked));
	memset(s->doubt, 0, sizeof(s->doubt));
	s->step = 0;
	s->failures = 0;
	empty_dir(s->dir);
	make_host(s);
	if (nth > 0)
		ltg_posix_fail(s->posix, kind, nth, persistent, os_errno);
	script(s);
	struck = ltg_posix_failed(s->posix, kind);
	if (nth == 0)
		assert_int_equal(s->failures, 0);
	ltg_posix_no_faults(s->posix);
	/* a failed close has closed all the same */
	drop_host(s);

	make_host(s);
	assert_int_equal(open_db(s), LT_OK);
	look(s, true);
	assert_int_equal(lt_check(s->db, complain, NULL), LT_OK);
	single(s, 0, LT_SYNC_FULL);
	assert_int_equal(s->acked[0], s->step);
	assert_int_equal(lt_close(s->db), LT_OK);
	drop_host(s);
	return struck > 0;
}

static void
fail_each(LtgFaultKind kind, int os_errno)
{
	Script		s;
	uint64_t	n[2] = {0, 0};

	memset(&s, 0, sizeof(s));
	assert_true(test_tmpdir(s.dir, sizeof(s.dir), "lt-fail"));
	lt_options_init(&s.opt);
	s.opt.no_threads = true;
	s.opt.memtable_bytes = 1 << 20;
	s.opt.memtable_count = 2;
	s.opt.cache_bytes = 256 << 10;
	s.opt.metadata_bytes = 1 << 20;
	s.opt.max_threads = 4;
	s.opt.max_txns = 4;
	s.opt.log_buffer_bytes = 64 << 10;
	s.opt.log_segment_bytes = 64 << 10;
	assert_false(run_once(&s, kind, 0, false, 0));
	for (int persistent = 0; persistent < 2; persistent++)
	{
		/* every one of the first, then ever fewer of the rest */
		for (uint64_t nth = 1; run_once(&s, kind, nth, persistent, os_errno);
			 nth += 1 + nth / 40 + (persistent ? nth / 10 : 0))
			n[persistent]++;
		assert_true(n[persistent] > 0);
	}
	print_message("kind %d: %llu calls failed once, %llu for good\n", (int) kind,
				  (unsigned long long) n[0], (unsigned long long) n[1]);
	empty_dir(s.dir);
	rmdir(s.dir);
}

static void
memory(void **state)
{
	(void) state;
	fail_each(LTG_FAULT_ALLOC, ENOMEM);
}

static void
opens(void **state)
{
	(void) state;
	fail_each(LTG_FAULT_OPEN, EMFILE);
}

static void
reads(void **state)
{
	(void) state;
	fail_each(LTG_FAULT_READ, EIO);
}

static void
writes(void **state)
{
	(void) state;
	fail_each(LTG_FAULT_WRITE, EIO);
}

static void
full_disk(void **state)
{
	(void) state;
	fail_each(LTG_FAULT_WRITE, ENOSPC);
}

static void
syncs(void **state)
{
	(void) state;
	fail_each(LTG_FAULT_SYNC, EIO);
}

static void
renames(void **state)
{
	(void) state;
	fail_each(LTG_FAULT_RENAME, EIO);
}

static void
removals(void **state)
{
	(void) state;
	fail_each(LTG_FAULT_REMOVE, EIO);
}

static void
directory_syncs(void **state)
{
	(void) state;
	fail_each(LTG_FAULT_DIR_SYNC, EIO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory), cmocka_unit_test(opens), cmocka_unit_test(reads),
		cmocka_unit_test(writes), cmocka_unit_test(full_disk), cmocka_unit_test(syncs),
		cmocka_unit_test(renames), cmocka_unit_test(removals), cmocka_unit_test(directory_syncs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
