/*
 * cache_mt_test.c
 *	  The block cache under threads: a cache much smaller than what is read, so
 *	  that frames are evicted and reused all the time.  A block's bytes follow
 *	  from its name, and are verified again and again while the epoch lasts.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mem_rig.h"
#include "storage/cache.h"

#define THREADS 4
#define STEPS 25000
#define FRAME 128
#define FILES 5
#define BLOCKS 60				/* per file */
#define HELD 3					/* blocks looked at within one epoch */

typedef struct World
{
	MemRig		rig;
	LtgCache   *c;
	_Atomic uint64_t wrong;
	_Atomic uint64_t bypassed;
} World;

typedef struct Worker
{
	World	   *w;
	LtgSession *s;
	pthread_t	thread;
	uint64_t	rnd;
} Worker;

static uint64_t
word_of(LtgFileId file, uint64_t offset, uint32_t i)
{
	return (file << 40 ^ offset << 8 ^ i) * UINT64_C(0x9E3779B97F4A7C15);
}

static uint32_t
len_of(LtgFileId file, uint64_t offset)
{
	return (uint32_t) (8 * (1 + word_of(file, offset, 99) % (FRAME / 8)));
}

static bool
right(const uint8_t *data, uint32_t len, LtgFileId file, uint64_t offset)
{
	const uint64_t *word = (const uint64_t *) (uintptr_t) data;

	if (len != len_of(file, offset))
		return false;
	for (uint32_t i = 0; i < len / 8; i++)
		if (word[i] != word_of(file, offset, i))
			return false;
	return true;
}

static const uint8_t *
get(Worker *me, LtgFileId file, uint64_t offset, uint32_t *len)
{
	LtgCache   *c = me->w->c;
	const uint8_t *data = mem_random(&me->rnd) % 8 == 0 ?
		ltg_cache_peek(me->s, c, file, offset, len) :
		ltg_cache_lookup(me->s, c, file, offset, len);
	LtgFrame   *f;

	if (data != NULL)
		return data;
	*len = len_of(file, offset);
	f = ltg_cache_reserve(me->s, c, *len);
	if (f == NULL)
	{
		atomic_fetch_add(&me->w->bypassed, 1);
		return NULL;
	}
	for (uint32_t i = 0; i < *len / 8; i++)
		((uint64_t *) (uintptr_t) ltg_frame_data(f))[i] = word_of(file, offset, i);
	if (mem_random(&me->rnd) % 32 == 0)
	{
		ltg_cache_abandon(me->s, c, f);
		return NULL;
	}
	return ltg_cache_publish(me->s, c, f, file, offset, *len);
}

static void *
work(void *arg)
{
	Worker	   *me = arg;

	for (int step = 0; step < STEPS; step++)
	{
		const uint8_t *data[HELD];
		uint32_t	len[HELD];
		LtgFileId	file[HELD];
		uint64_t	offset[HELD];
		int			n = 1 + (int) (mem_random(&me->rnd) % HELD);

		ltg_epoch_enter(me->s);
		for (int i = 0; i < n; i++)
		{
			/* Some names are much hotter than others. */
			file[i] = 1 + mem_random(&me->rnd) % FILES;
			offset[i] = mem_random(&me->rnd) % (mem_random(&me->rnd) % BLOCKS + 1);
			data[i] = get(me, file[i], offset[i], &len[i]);
			for (int j = 0; j <= i; j++)
				if (data[j] != NULL && !right(data[j], len[j], file[j], offset[j]))
					atomic_fetch_add(&me->w->wrong, 1);
		}
		ltg_epoch_leave(me->s);
		/* Who loses the processor inside an epoch keeps frames from reuse. */
		if (step % 16 == 0)
			sched_yield();
		if (mem_random(&me->rnd) % 2048 == 0)
			ltg_cache_drop_file(me->s, me->w->c, 1 + mem_random(&me->rnd) % FILES);
	}
	return NULL;
}

static void
run(size_t size)
{
	World		w;
	Worker		worker[THREADS];
	void	   *mem = malloc(size);
	LtgCacheStats st;
	char		msg[160];

	memset(&w, 0, sizeof(w));
	mem_rig_open(&w.rig);
	w.c = ltg_cache_init(mem, size, FRAME);
	for (int i = 0; i < THREADS; i++)
	{
		worker[i] = (Worker) {&w, &w.rig.session[i], 0, size + (uint64_t) i};
		assert_int_equal(pthread_create(&worker[i].thread, NULL, work, &worker[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(worker[i].thread, NULL), 0);
	assert_int_equal(w.wrong, 0);
	ltg_cache_stats(&w.rig.session[0], w.c, &st);
	print_message("%llu frames: %llu hits, %llu misses, %llu evictions, %llu bypasses\n",
				  (unsigned long long) st.frames, (unsigned long long) st.hits,
				  (unsigned long long) st.misses, (unsigned long long) st.evictions,
				  (unsigned long long) st.bypasses);
	assert_int_equal(st.bypasses, w.bypassed);
	assert_true(st.hits > 0 && st.evictions > 0);
	if (!ltg_cache_check(&w.rig.session[0], w.c, msg, sizeof(msg)))
		fail_msg("%s", msg);
	free(mem);
	mem_rig_close(&w.rig);
}

static void
test_tiny(void **state)
{
	(void) state;
	run(6000);
}

static void
test_small(void **state)
{
	(void) state;
	run(25000);
}

static void
test_half(void **state)
{
	(void) state;
	run(60000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tiny),
		cmocka_unit_test(test_small),
		cmocka_unit_test(test_half),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
