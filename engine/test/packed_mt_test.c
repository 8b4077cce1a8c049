/*
 * packed_mt_test.c
 *	  Compressed blocks in memory, used by several threads at once.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mem_rig.h"
#include "storage/packed.h"

#define THREADS 4
#define STEPS 30000

static MemRig rig;
static LtgPacked *packed;
static _Atomic uint64_t hits,
			wrong;

static void *
worker(void *arg)
{
	LtgSession *s = arg;
	uint64_t	rnd = (uint64_t) (s - rig.session);
	uint8_t		buf[4096];

	for (int i = 0; i < STEPS; i++)
	{
		uint64_t	a = mem_random(&rnd) % 3000,
					b = mem_random(&rnd) % 3000,
					key = a < b ? a : b;
		uint32_t	len = 100 + (uint32_t) (key * 37 % 3900);

		if (ltg_packed_get(s, packed, 1, key * 512, buf, len, i % 8 != 0))
		{
			hits++;
			for (uint32_t k = 0; k < len; k++)
				wrong += buf[k] != (uint8_t) (key + k);
		}
		else
		{
			for (uint32_t k = 0; k < len; k++)
				buf[k] = (uint8_t) (key + k);
			ltg_packed_put(s, packed, 1, key * 512, buf, len);
		}
	}
	return NULL;
}

static void
test_threads(void **state)
{
	size_t		size = (size_t) 9 << 19;
	void	   *mem = malloc(size);
	pthread_t	t[THREADS];
	LtgPackedStats st;
	char		msg[160] = "";

	(void) state;
	assert_non_null(mem);
	mem_rig_open(&rig);
	packed = ltg_packed_init(mem, size / 2, 4096);
	assert_non_null(packed);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, worker, &rig.session[i]), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_int_equal(wrong, 0);
	assert_true(hits > STEPS);
	ltg_packed_stats(&rig.session[0], packed, &st);
	assert_true(st.evictions > 0);
	if (!ltg_packed_check(&rig.session[0], packed, msg, sizeof(msg)))
		fail_msg("%s", msg);
	free(mem);
	mem_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
