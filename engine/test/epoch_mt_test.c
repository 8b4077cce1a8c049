/*
 * epoch_mt_test.c
 *	  Epochs under threads: a shared pointer is replaced all the time, what it
 *	  pointed to is overwritten when its stamp has passed, and readers must
 *	  never see the overwriting.  Sessions come and go meanwhile.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/shalloc.h"
#include "mem_rig.h"

#define READERS 3
#define WRITERS 2
#define CELLS 8
#define WORDS 16
#define REPLACEMENTS 20000

typedef struct Box
{
	uint64_t	word[WORDS];	/* all alike */
} Box;

typedef struct World
{
	MemRig		rig;
	LtgShAlloc *heap;
	Box		   *_Atomic cell[CELLS];
	_Atomic bool stop;
	_Atomic uint64_t torn;
	_Atomic uint64_t reads;
} World;

typedef struct Worker
{
	World	   *w;
	LtgSession *s;
	pthread_t	thread;
	uint64_t	rnd;
} Worker;

static Box *
make_box(World *w, LtgSession *s, uint64_t value)
{
	Box		   *b = ltg_shalloc(s, w->heap, sizeof(Box));

	if (b != NULL)
		for (int i = 0; i < WORDS; i++)
			b->word[i] = value;
	return b;
}

static void *
reader(void *arg)
{
	Worker	   *me = arg;
	World	   *w = me->w;

	while (!atomic_load_explicit(&w->stop, memory_order_relaxed))
	{
		Box		   *b;
		uint64_t	value;
		bool		torn = false;

		ltg_epoch_enter(me->s);
		b = atomic_load_explicit(&w->cell[mem_random(&me->rnd) % CELLS],
								 memory_order_acquire);
		value = b->word[0];
		for (int round = 0; round < 4; round++)
			for (int i = 0; i < WORDS; i++)
				torn |= b->word[i] != value;
		ltg_epoch_leave(me->s);
		if (torn)
			atomic_fetch_add(&w->torn, 1);
		atomic_fetch_add_explicit(&w->reads, 1, memory_order_relaxed);
		/* Sessions come and go. */
		if (mem_random(&me->rnd) % 256 == 0)
		{
			ltg_epoch_unclaim(w->rig.epochs, me->s->epoch_slot);
			while (ltg_epoch_claim(w->rig.epochs, &me->s->epoch_slot) != LTG_OK)
				;
		}
	}
	return NULL;
}

static void *
writer(void *arg)
{
	Worker	   *me = arg;
	World	   *w = me->w;

	for (uint64_t i = 0; i < REPLACEMENTS; i++)
	{
		Box		   *fresh = make_box(w, me->s, mem_random(&me->rnd));
		Box		   *old;

		if (fresh == NULL)		/* all retired, and readers are slow */
			continue;
		old = atomic_exchange_explicit(&w->cell[mem_random(&me->rnd) % CELLS], fresh,
									   memory_order_acq_rel);
		ltg_shretire(me->s, w->heap, w->rig.epochs, old);
	}
	return NULL;
}

static void
test_replace(void **state)
{
	static World w;
	Worker		worker[READERS + WRITERS];
	void	   *mem = malloc(64 * 1024);
	char		msg[160];
	uint64_t	used_bytes,
				total_bytes;

	(void) state;
	mem_rig_open(&w.rig);
	w.heap = ltg_shalloc_init(mem, 64 * 1024);
	for (int i = 0; i < CELLS; i++)
		atomic_store(&w.cell[i], make_box(&w, &w.rig.session[0], 1));
	for (int i = 0; i < READERS + WRITERS; i++)
	{
		worker[i] = (Worker) {&w, &w.rig.session[i], 0, (uint64_t) i};
		assert_int_equal(pthread_create(&worker[i].thread, NULL,
										i < WRITERS ? writer : reader, &worker[i]), 0);
	}
	for (int i = 0; i < READERS + WRITERS; i++)
	{
		assert_int_equal(pthread_join(worker[i].thread, NULL), 0);
		if (i != WRITERS - 1)
			continue;
		/* on a busy machine the readers may not have had a turn yet */
		while (atomic_load(&w.reads) == 0)
			sched_yield();
		atomic_store(&w.stop, true);
	}
	assert_int_equal(w.torn, 0);
	assert_true(w.reads > 0);
	if (!ltg_shalloc_check(&w.rig.session[0], w.heap, msg, sizeof(msg)))
		fail_msg("%s", msg);
	/* Nobody is inside: all but the cells comes back. */
	ltg_shreclaim(&w.rig.session[0], w.heap, w.rig.epochs);
	ltg_shalloc_stats(&w.rig.session[0], w.heap, &used_bytes, &total_bytes);
	assert_true(used_bytes <= CELLS * (sizeof(Box) + 64));
	mem_rig_close(&w.rig);
	free(mem);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
