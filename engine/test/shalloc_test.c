/*
 * shalloc_test.c
 *	  The shared allocator: against a model of live blocks, at its limits, with
 *	  retired blocks, and with damage that the checker must find.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/shalloc.h"
#include "mem_rig.h"

#define HEAP_BYTES (1024 * 1024)
#define LIVE_MAX 3000

typedef struct Fixture
{
	MemRig		rig;
	LtgSession *s;
	void	   *mem;
	LtgShAlloc *a;
} Fixture;

static int
setup(void **state)
{
	Fixture    *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	mem_rig_open(&f->rig);
	f->s = &f->rig.session[0];
	f->mem = malloc(HEAP_BYTES);
	memset(f->mem, 0xA5, HEAP_BYTES);
	f->a = ltg_shalloc_init(f->mem, HEAP_BYTES);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	Fixture    *f = *state;

	mem_rig_close(&f->rig);
	free(f->mem);
	free(f);
	return 0;
}

static void
check(Fixture *f)
{
	char		msg[160] = "";

	if (!ltg_shalloc_check(f->s, f->a, msg, sizeof(msg)))
		fail_msg("%s", msg);
}

static uint64_t
used(Fixture *f)
{
	uint64_t	used_bytes,
				total_bytes;

	ltg_shalloc_stats(f->s, f->a, &used_bytes, &total_bytes);
	assert_true(used_bytes <= total_bytes);
	assert_true(total_bytes + ltg_shalloc_overhead() + 64 >= HEAP_BYTES);
	return used_bytes;
}

static size_t
random_size(uint64_t *rnd)
{
	switch (mem_random(rnd) % 8)
	{
		case 0:
			return mem_random(rnd) % 20000;
		case 1:
			return mem_random(rnd) % 3000;
		default:
			return mem_random(rnd) % 200;
	}
}

static void
test_model(void **state)
{
	Fixture    *f = *state;
	static uint8_t *ptr[LIVE_MAX];
	static size_t size[LIVE_MAX];
	uint64_t	rnd = 7;
	uint32_t	n = 0;
	uint32_t	refused = 0;

	for (uint32_t step = 0; step < 60000; step++)
	{
		/* Long phases of growing and of shrinking. */
		bool		grow = mem_random(&rnd) % 100 < (step / 3000 % 2 == 0 ? 65 : 35);

		if (n < LIVE_MAX && (n == 0 || grow))
		{
			size[n] = random_size(&rnd);
			ptr[n] = ltg_shalloc(f->s, f->a, size[n]);
			if (ptr[n] == NULL)
			{
				refused++;
				continue;
			}
			assert_int_equal((uintptr_t) ptr[n] % 16, 0);
			assert_true(ptr[n] >= (uint8_t *) f->mem &&
						ptr[n] + size[n] <= (uint8_t *) f->mem + HEAP_BYTES);
			memset(ptr[n], (int) (size[n] % 251), size[n]);
			n++;
		}
		else
		{
			uint32_t	i = (uint32_t) (mem_random(&rnd) % n);

			for (size_t b = 0; b < size[i]; b++)
				assert_int_equal(ptr[i][b], size[i] % 251);
			if (mem_random(&rnd) % 3 == 0)
				ltg_shretire(f->s, f->a, f->rig.epochs, ptr[i]);
			else
				ltg_shfree(f->s, f->a, ptr[i]);
			ptr[i] = ptr[--n];
			size[i] = size[n];
		}
		if (step % 1000 == 0)
			check(f);
	}
	assert_true(refused > 0);
	while (n > 0)
		ltg_shfree(f->s, f->a, ptr[--n]);
	ltg_shreclaim(f->s, f->a, f->rig.epochs);
	check(f);
	assert_int_equal(used(f), 0);
	/* All merged again: the largest block there can be. */
	ptr[0] = ltg_shalloc(f->s, f->a, HEAP_BYTES - ltg_shalloc_overhead() - 64);
	assert_non_null(ptr[0]);
	ltg_shfree(f->s, f->a, ptr[0]);
}

static void
test_limits(void **state)
{
	Fixture    *f = *state;
	void	   *p = ltg_shalloc(f->s, f->a, 0);

	assert_non_null(p);
	ltg_shfree(f->s, f->a, p);
	ltg_shfree(f->s, f->a, NULL);
	assert_null(ltg_shalloc(f->s, f->a, HEAP_BYTES));
	assert_null(ltg_shalloc(f->s, f->a, SIZE_MAX));
	assert_null(ltg_shalloc(f->s, f->a, SIZE_MAX - 40));
	assert_int_equal(used(f), 0);
	check(f);
}

/* A retired block stays as it is while a reader may be in it. */
static void
test_retire(void **state)
{
	Fixture    *f = *state;
	LtgSession *reader = &f->rig.session[1];
	uint8_t    *p = ltg_shalloc(f->s, f->a, 1000);
	uint8_t    *q;

	memset(p, 'p', 1000);
	ltg_epoch_enter(reader);
	ltg_shretire(f->s, f->a, f->rig.epochs, p);
	ltg_shreclaim(f->s, f->a, f->rig.epochs);
	assert_true(used(f) >= 1000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(p[i], 'p');
	/* Even when memory runs short. */
	while ((q = ltg_shalloc(f->s, f->a, 5000)) != NULL)
		memset(q, 'q', 5000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(p[i], 'p');
	check(f);
	ltg_epoch_leave(reader);
	while ((q = ltg_shalloc(f->s, f->a, 500)) != NULL && q != p)
		;
	assert_ptr_equal(q, p);
	check(f);
}

#ifndef LTG_ASSERTS
/* With assertions these end the process. */
static void
test_double_free(void **state)
{
	Fixture    *f = *state;
	void	   *p = ltg_shalloc(f->s, f->a, 100);
	void	   *q = ltg_shalloc(f->s, f->a, 100);

	f->rig.port->log(f->rig.port, LTG_LOG_DEBUG, "three warnings are expected");
	ltg_shfree(f->s, f->a, p);
	ltg_shfree(f->s, f->a, p);
	check(f);
	ltg_shretire(f->s, f->a, f->rig.epochs, q);
	ltg_shfree(f->s, f->a, q);
	ltg_shretire(f->s, f->a, f->rig.epochs, q);
	check(f);
	ltg_shreclaim(f->s, f->a, f->rig.epochs);
	check(f);
	assert_int_equal(used(f), 0);
}
#endif

static void
test_checker(void **state)
{
	Fixture    *f = *state;
	uint8_t    *p = ltg_shalloc(f->s, f->a, 100);
	uint8_t    *q = ltg_shalloc(f->s, f->a, 100);
	uint8_t		saved[16];
	char		msg[160];

	assert_true(q > p);
	memcpy(saved, p + 112, 16);
	memset(p + 100, 0xEE, 28);	/* a writer runs over its end */
	assert_false(ltg_shalloc_check(f->s, f->a, msg, sizeof(msg)));
	assert_non_null(strstr(msg, "overwritten"));
	memcpy(p + 112, saved, 16);
	check(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_retire, setup, teardown),
#ifndef LTG_ASSERTS
		cmocka_unit_test_setup_teardown(test_double_free, setup, teardown),
#endif
		cmocka_unit_test_setup_teardown(test_checker, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
