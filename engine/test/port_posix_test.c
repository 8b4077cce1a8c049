/*
 * port_posix_test.c
 *	  Files, locks and the fault hook of the POSIX port.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "port/port_posix.h"

typedef struct Fixture
{
	char		dir[64];
	LtgPosix   *posix;
	LtgPort    *port;
	LtgError	err;
} Fixture;

static int
setup(void **state)
{
	Fixture    *f = calloc(1, sizeof(*f));
	LtgPosixOptions opt = {.log_level = LTG_LOG_WARNING};

	snprintf(f->dir, sizeof(f->dir), "/tmp/ltg-posix-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	opt.dir = f->dir;
	opt.lock_dir = true;
	assert_int_equal(ltg_posix_open(&opt, &f->posix, &f->err), LTG_OK);
	f->port = ltg_posix_port(f->posix);
	*state = f;
	return 0;
}

static void
remove_one(void *arg, const char *name)
{
	Fixture    *f = arg;

	(void) f->port->file_remove(f->port, name, &f->err);
}

static int
teardown(void **state)
{
	Fixture    *f = *state;
	char		lock[96];

	ltg_posix_no_faults(f->posix);
	assert_int_equal(f->port->dir_list(f->port, remove_one, f, &f->err), LTG_OK);
	assert_int_equal(ltg_posix_live_allocs(f->posix), 0);
	ltg_posix_close(f->posix);
	snprintf(lock, sizeof(lock), "%s/LOCK", f->dir);
	unlink(lock);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static void
count_name(void *arg, const char *name)
{
	(void) name;
	++*(int *) arg;
}

static void
files_round_trip(void **state)
{
	Fixture    *f = *state;
	LtgPort    *p = f->port;
	LtgFile    *file;
	char		buf[32];
	size_t		n;
	uint64_t	size;
	int			names = 0;

	assert_int_equal(p->file_open(p, "a", LTG_OPEN_READ, &file, &f->err),
					 LTG_NOT_FOUND);
	assert_int_equal(p->file_open(p, "a", LTG_OPEN_CREATE, &file, &f->err), LTG_OK);
	assert_int_equal(p->file_write(p, file, "hello", 5, 3, &f->err), LTG_OK);
	assert_int_equal(p->file_sync(p, file, &f->err), LTG_OK);
	assert_int_equal(p->file_size(p, file, &size, &f->err), LTG_OK);
	assert_int_equal(size, 8);
	p->file_close(p, file);
	assert_int_equal(p->file_open(p, "a", LTG_OPEN_CREATE, &file, &f->err), LTG_IO);
	assert_int_equal(f->err.os_errno, EEXIST);
	assert_string_equal(f->err.file, "a");
	assert_int_equal(p->file_rename(p, "a", "b", &f->err), LTG_OK);
	assert_int_equal(p->dir_sync(p, &f->err), LTG_OK);
	assert_int_equal(p->file_open(p, "b", LTG_OPEN_READ, &file, &f->err), LTG_OK);
	assert_int_equal(p->file_read(p, file, buf, sizeof(buf), 3, &n, &f->err), LTG_OK);
	assert_int_equal(n, 5);
	assert_memory_equal(buf, "hello", 5);
	p->file_close(p, file);
	assert_int_equal(p->dir_list(p, count_name, &names, &f->err), LTG_OK);
	assert_int_equal(names, 1);
	assert_int_equal(p->file_remove(p, "b", &f->err), LTG_OK);
	assert_int_equal(p->file_remove(p, "b", &f->err), LTG_NOT_FOUND);
}

static void
second_owner_is_refused(void **state)
{
	Fixture    *f = *state;
	LtgPosixOptions opt = {.dir = f->dir, .lock_dir = true};
	LtgPosix   *other;

	assert_int_equal(ltg_posix_open(&opt, &other, &f->err), LTG_BUSY);
	assert_null(other);
}

static void
faults_strike_the_nth_call(void **state)
{
	Fixture    *f = *state;
	LtgPort    *p = f->port;
	LtgFile    *file;
	void	   *ptr;

	assert_int_equal(p->file_open(p, "w", LTG_OPEN_CREATE, &file, &f->err), LTG_OK);
	ltg_posix_fail(f->posix, LTG_FAULT_WRITE, 2, false, ENOSPC);
	assert_int_equal(p->file_write(p, file, "x", 1, 0, &f->err), LTG_OK);
	assert_int_equal(p->file_write(p, file, "x", 1, 1, &f->err), LTG_NOSPACE);
	assert_int_equal(f->err.os_errno, ENOSPC);
	assert_int_equal(p->file_write(p, file, "x", 1, 1, &f->err), LTG_OK);
	assert_int_equal(ltg_posix_calls(f->posix, LTG_FAULT_WRITE), 3);
	assert_int_equal(ltg_posix_failed(f->posix, LTG_FAULT_WRITE), 1);
	ltg_posix_fail(f->posix, LTG_FAULT_SYNC, 1, true, 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(p->file_sync(p, file, &f->err), LTG_IO);
	ltg_posix_fail(f->posix, LTG_FAULT_ALLOC, 1, false, 0);
	assert_null(p->alloc(p, 10));
	ptr = p->alloc(p, 10);
	assert_non_null(ptr);
	p->free(p, ptr);
	ltg_posix_no_faults(f->posix);
	assert_int_equal(p->file_sync(p, file, &f->err), LTG_OK);
	p->file_close(p, file);
}

static void
locks_share_and_exclude(void **state)
{
	Fixture    *f = *state;
	LtgPort    *p = f->port;

	p->lock(p, LTG_LOCK_META, LTG_SHARED);
	assert_true(p->try_lock(p, LTG_LOCK_META, LTG_SHARED));
	assert_false(p->try_lock(p, LTG_LOCK_META, LTG_EXCLUSIVE));
	p->unlock(p, LTG_LOCK_META);
	p->unlock(p, LTG_LOCK_META);
	assert_true(p->try_lock(p, LTG_LOCK_META, LTG_EXCLUSIVE));
	assert_false(p->try_lock(p, LTG_LOCK_META, LTG_SHARED));
	p->unlock(p, LTG_LOCK_META);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(second_owner_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(faults_strike_the_nth_call, setup, teardown),
		cmocka_unit_test_setup_teardown(locks_share_and_exclude, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
