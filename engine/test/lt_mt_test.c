/*
 * lt_mt_test.c
 *	  The embedded library under threads: transfers that conserve a sum, readers
 *	  that check it in every snapshot, single puts that must all be there, and
 *	  the library's own threads; then the same after reopening.
 */
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "lt/lt.h"
#include "test/tmpdir.h"

#define ACCOUNTS 50
#define BALANCE 1000
#define WRITERS 3
#define PUTS 1500

typedef struct Shared
{
	lt_db	   *db;
	_Atomic bool stop;
	_Atomic uint64_t transfers, conflicts, snapshots, wrong;
	lt_sync		sync;
} Shared;

typedef struct Thread
{
	Shared	   *sh;
	unsigned	number;
	unsigned	seed;
	char		error[200];
} Thread;

static void
oops(Thread *t, const char *what, lt_status st)
{
	char		text[128];

	if (t->error[0] == '\0')
	{
		lt_error_text(t->sh->db, text, sizeof(text));
		snprintf(t->error, sizeof(t->error), "%s: %d: %s", what, (int) st, text);
	}
	atomic_fetch_add(&t->sh->wrong, 1);
}

static lt_status
read_account(lt_txn *txn, unsigned i, lt_value *v, uint64_t *balance)
{
	char		key[16];
	int			len = snprintf(key, sizeof(key), "a%03u", i);
	lt_status	st = lt_txn_get(txn, NULL, key, (size_t) len, v);

	if (st == LT_OK)
		memcpy(balance, v->data, sizeof(*balance));
	return st;
}

static lt_status
write_account(lt_txn *txn, unsigned i, uint64_t balance)
{
	char		key[16];
	char		row[120] = {0};
	int			len = snprintf(key, sizeof(key), "a%03u", i);

	memcpy(row, &balance, sizeof(balance));
	return lt_txn_put(txn, NULL, key, (size_t) len, row, sizeof(row));
}

static lt_status
transfer(Thread *t, lt_txn *txn, lt_value *v)
{
	unsigned	from = (unsigned) rand_r(&t->seed) % ACCOUNTS;
	unsigned	to = (from + 1 + (unsigned) rand_r(&t->seed) % (ACCOUNTS - 1)) % ACCOUNTS;
	uint64_t	a,
				b,
				sum;
	lt_status	st;

	if ((st = read_account(txn, from, v, &a)) != LT_OK ||
		(st = read_account(txn, to, v, &b)) != LT_OK)
		return st;
	sum = (uint64_t) rand_r(&t->seed) % (a + 1);
	if ((st = write_account(txn, from, a - sum)) != LT_OK)
		return st;
	return write_account(txn, to, b + sum);
}

static void *
writer(void *arg)
{
	Thread	   *t = arg;
	Shared	   *sh = t->sh;
	lt_value	v = LT_VALUE_INIT;
	char		row[200];

	memset(row, (int) ('A' + t->number), sizeof(row));
	for (unsigned i = 0; i < PUTS; i++)
	{
		lt_txn	   *txn;
		char		key[24];
		int			len;
		lt_status	st = lt_begin(sh->db, LT_READ_WRITE, &txn);

		if (st != LT_OK)
		{
			oops(t, "begin", st);
			break;
		}
		st = transfer(t, txn, &v);
		if (st == LT_OK)
			st = lt_commit(txn, sh->sync);
		else
			lt_abort(txn);
		if (st == LT_OK)
			atomic_fetch_add(&sh->transfers, 1);
		else if (st == LT_CONFLICT)
			atomic_fetch_add(&sh->conflicts, 1);
		else
			oops(t, "transfer", st);

		len = snprintf(key, sizeof(key), "p%u-%06u", t->number, i);
		st = lt_put(sh->db, NULL, key, (size_t) len, row, sizeof(row), sh->sync);
		if (st != LT_OK)
			oops(t, "put", st);
		st = lt_get(sh->db, NULL, key, (size_t) len, &v);
		if (st != LT_OK || v.size != sizeof(row))
			oops(t, "get of one's own put", st);
		/* all writers on one key: never a conflict with single puts */
		st = lt_put(sh->db, NULL, "shared", 6, row, sizeof(row), sh->sync);
		if (st != LT_OK)
			oops(t, "put of the shared key", st);
	}
	lt_value_free(&v);
	return NULL;
}

static void
check_sum(Thread *t)
{
	lt_range	r = {.lo = "a", .lo_size = 1, .hi = "b", .hi_size = 1,
	.backward = rand_r(&t->seed) % 2};
	uint64_t	sum = 0,
				n = 0;
	lt_cursor  *c;
	const void *k,
			   *row;
	size_t		kn,
				rn;
	lt_status	st = lt_cursor_open(t->sh->db, NULL, NULL, &r, &c);

	if (st != LT_OK)
	{
		oops(t, "cursor", st);
		return;
	}
	while ((st = lt_cursor_next(c, &k, &kn, &row, &rn)) == LT_OK)
	{
		uint64_t	balance;

		memcpy(&balance, row, sizeof(balance));
		sum += balance;
		n++;
	}
	lt_cursor_close(c);
	if (st != LT_END || n != ACCOUNTS || sum != ACCOUNTS * BALANCE)
		oops(t, "sum of a snapshot", st);
	atomic_fetch_add(&t->sh->snapshots, 1);
}

static void *
reader(void *arg)
{
	Thread	   *t = arg;

	while (!atomic_load(&t->sh->stop))
		check_sum(t);
	return NULL;
}

static void *
housekeeper(void *arg)
{
	Thread	   *t = arg;
	lt_status	st;

	while (!atomic_load(&t->sh->stop))
	{
		st = rand_r(&t->seed) % 4 == 0 ? lt_compact(t->sh->db) : lt_checkpoint(t->sh->db);
		if (st != LT_OK)
			oops(t, "checkpoint", st);
		usleep(20000);
	}
	return NULL;
}

static lt_db *
must_open(const char *dir, const lt_options *o)
{
	char		err[200] = "";
	lt_db	   *db;

	if (lt_open(dir, o, &db, err, sizeof(err)) != LT_OK)
		fail_msg("open: %s", err);
	return db;
}

static void
verify(Shared *sh)
{
	Thread		t = {.sh = sh};
	lt_value	v = LT_VALUE_INIT;
	char		key[24];

	check_sum(&t);
	for (unsigned w = 0; w < WRITERS; w++)
		for (unsigned i = 0; i < PUTS; i++)
		{
			int			len = snprintf(key, sizeof(key), "p%u-%06u", w, i);

			if (lt_get(sh->db, NULL, key, (size_t) len, &v) != LT_OK)
				fail_msg("%s is missing", key);
		}
	lt_value_free(&v);
	assert_int_equal(atomic_load(&sh->wrong), 0);
	assert_int_equal(lt_check(sh->db, NULL, NULL), LT_OK);
}

static void
remove_dir(const char *dir)
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
	rmdir(dir);
}

static void
run(lt_sync sync, bool fast_close)
{
	char		dir[64];
	Shared		sh = {.sync = sync};
	Thread		t[WRITERS + 3] = {{0}};
	pthread_t	id[WRITERS + 3];
	lt_options	o;
	lt_txn	   *txn;

	assert_true(test_tmpdir(dir, sizeof(dir), "lt-mt"));
	lt_options_init(&o);
	o.memtable_bytes = 1 << 20;
	o.cache_bytes = 2 << 20;
	o.metadata_bytes = 4 << 20;
	o.log_segment_bytes = 256 << 10;
	o.log_buffer_bytes = 64 << 10;
	o.max_threads = 16;
	o.max_txns = 16;
	o.sync_interval_ms = 10;
	o.fast_close = fast_close;
	sh.db = must_open(dir, &o);
	assert_int_equal(lt_begin(sh.db, LT_READ_WRITE, &txn), LT_OK);
	for (unsigned i = 0; i < ACCOUNTS; i++)
		assert_int_equal(write_account(txn, i, BALANCE), LT_OK);
	assert_int_equal(lt_commit(txn, LT_SYNC_FULL), LT_OK);
	for (unsigned i = 0; i < WRITERS + 3; i++)
	{
		t[i].sh = &sh;
		t[i].number = i;
		t[i].seed = i + 1;
		pthread_create(&id[i], NULL, i < WRITERS ? writer : i == WRITERS ? housekeeper : reader, &t[i]);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(id[i], NULL);
	atomic_store(&sh.stop, true);
	for (unsigned i = WRITERS; i < WRITERS + 3; i++)
		pthread_join(id[i], NULL);
	for (unsigned i = 0; i < WRITERS + 3; i++)
		if (t[i].error[0] != '\0')
			print_message("thread %u: %s\n", i, t[i].error);
	print_message("%llu transfers, %llu conflicts, %llu snapshots\n",
				  (unsigned long long) sh.transfers, (unsigned long long) sh.conflicts,
				  (unsigned long long) sh.snapshots);
	assert_true(sh.transfers > 0 && sh.snapshots > 0);
	verify(&sh);
	assert_int_equal(lt_close(sh.db), LT_OK);
	sh.db = must_open(dir, &o);
	verify(&sh);
	assert_int_equal(lt_close(sh.db), LT_OK);
	remove_dir(dir);
}

static void
lazy_commits(void **state)
{
	(void) state;
	run(LT_SYNC_LAZY, true);
}

static void
commits_to_the_system(void **state)
{
	(void) state;
	run(LT_SYNC_OS, false);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lazy_commits),
		cmocka_unit_test(commits_to_the_system),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
