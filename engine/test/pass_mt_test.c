/*
 * pass_mt_test.c
 *	  Dead stretches under threads: a row that was there before a walk began, and is
 *	  there when it has ended, was met, whether its key was new or came back.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "storage/run.h"
#include "tree/memtable.h"

#define ARENA_BYTES (64 * 1024 * 1024)
#define STORE 5
#define IDS 12000
#define WRITERS 2
#define READERS 2
#define BURSTS 200
#define BURST 12

static LtgGeneration *g;
static _Atomic uint64_t seq;
static _Atomic uint32_t version[IDS];	/* odd: there is a row */
static _Atomic uint64_t walks;
static _Atomic uint64_t passed, wrong;
static _Atomic bool stop;

static uint64_t
next_random(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static void
make_key(uint32_t id, uint8_t *key)
{
	for (int i = 0; i < 4; i++)
		key[i] = (uint8_t) (id >> (24 - 8 * i));
}

static void
write_version(uint32_t id, LtgKind kind)
{
	LtgVersion	v = {.kind = kind, .state = LTG_SETTLED};
	uint8_t		key[4];
	uint64_t	token;

	make_key(id, key);
	token = ltg_gen_reserve(g, ltg_mem_need(4, 0));
	if (token == 0)
		abort();
	v.seq = atomic_fetch_add(&seq, 1) + 1;
	(void) ltg_mem_insert(g, STORE, key, 4, ltg_key_hash(key, 4), &v, &token);
}

/* Each has ids of its own (M2).  Between bursts somebody walks. */
static void *
writer(void *arg)
{
	uint32_t	me = *(uint32_t *) arg;
	uint64_t	rnd = me + 1;

	for (uint32_t burst = 0; burst < BURSTS; burst++)
	{
		uint64_t	now = atomic_load(&walks);
		uint32_t	id[BURST];

		for (uint32_t i = 0; i < BURST; i++)
		{
			id[i] = (uint32_t) (next_random(&rnd) % (IDS / WRITERS)) * WRITERS + me;
			if (atomic_load(&version[id[i]]) % 2 != 0)
				continue;
			write_version(id[i], LTG_PUT);
			atomic_fetch_add(&version[id[i]], 1);
			if (burst % 2 != 0)
				sched_yield();
		}
		while (atomic_load(&walks) < now + 2)
			sched_yield();
		for (uint32_t i = 0; i < BURST; i++)
			if (atomic_load(&version[id[i]]) % 2 != 0)
			{
				atomic_fetch_add(&version[id[i]], 1);
				write_version(id[i], LTG_DELETE);
			}
	}
	return NULL;
}

static void
walk(uint32_t *before, bool *met)
{
	LtgMemList *l = ltg_gen_list(g, STORE);
	LtgMemPass	pass = {0};
	LtgMemNode *n;
	uint64_t	far_ones = 0;

	for (uint32_t id = 0; id < IDS; id++)
		before[id] = atomic_load(&version[id]);
	memset(met, 0, IDS * sizeof(*met));
	for (n = ltg_mem_seek_ge(g, l, NULL, 0); n != NULL;)
	{
		LtgMemVersion *newest = ltg_mem_newest(g, n);
		LtgVersion	v;
		bool		far;

		ltg_mem_read(newest, &v);
		if (v.kind == LTG_PUT)
		{
			const uint8_t *key;
			uint32_t	len;

			ltg_mem_pass_end(&pass);
			ltg_mem_node_key(n, &key, &len);
			met[(uint32_t) key[0] << 24 | (uint32_t) key[1] << 16 | (uint32_t) key[2] << 8 | key[3]] = true;
			n = ltg_mem_next(g, n);
			continue;
		}
		n = ltg_mem_pass(g, l, &pass, n, newest, &far);
		far_ones += far;
	}
	ltg_mem_pass_end(&pass);
	atomic_fetch_add(&passed, far_ones);
	for (uint32_t id = 0; id < IDS; id++)
		if (before[id] % 2 != 0 && !met[id] && atomic_load(&version[id]) == before[id])
			atomic_fetch_add(&wrong, 1);
}

static void *
reader(void *arg)
{
	uint32_t   *before = malloc(IDS * sizeof(*before));
	bool	   *met = malloc(IDS * sizeof(*met));

	(void) arg;
	while (!atomic_load(&stop))
	{
		walk(before, met);
		atomic_fetch_add(&walks, 1);
	}
	free(before);
	free(met);
	return NULL;
}

static void
rows_are_met(void **state)
{
	void	   *mem = aligned_alloc(64, ARENA_BYTES);
	pthread_t	w[WRITERS], r[READERS];
	uint32_t	id[WRITERS];
	char		msg[200] = "";

	(void) state;
	g = ltg_gen_init(mem, ARENA_BYTES);
	ltg_gen_reset(g, 1);
	assert_true(ltg_gen_prepare(g, STORE));
	/* two of three keys are there, dead */
	for (uint32_t i = 0; i < IDS; i++)
		if (i % 3 != 0)
			write_version(i, LTG_DELETE);
	for (uint32_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&r[i], NULL, reader, NULL), 0);
	for (uint32_t i = 0; i < WRITERS; i++)
	{
		id[i] = i;
		assert_int_equal(pthread_create(&w[i], NULL, writer, &id[i]), 0);
	}
	for (uint32_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_join(w[i], NULL), 0);
	atomic_store(&stop, true);
	for (uint32_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_join(r[i], NULL), 0);
	assert_int_equal(wrong, 0);
	assert_true(passed > 0);
	if (!ltg_gen_check(g, msg, sizeof(msg)))
		fail_msg("%s", msg);
	free(mem);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(rows_are_met)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
