/*
 * memtable_mt_test.c
 *	  One generation under threads: writers with keys of their own and with
 *	  keys they share (serialised by a lock per key, M2), readers that look up
 *	  and iterate meanwhile; and a generation that fills up under all of them.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mem_rig.h"
#include "storage/run.h"
#include "tree/memtable.h"

#define WRITERS 3
#define READERS 2
#define OWN_KEYS 8000			/* per writer */
#define SHARED_KEYS 64
#define STORES 3
#define ARENA_BYTES (16 * 1024 * 1024)

typedef struct World
{
	MemRig		rig;
	void	   *mem;
	LtgGeneration *g;
	_Atomic uint64_t seq;
	_Atomic bool stop;
	_Atomic uint64_t wrong;
	/* Keys below it of writer i are certainly there. */
	_Atomic uint64_t done[WRITERS];
	_Atomic uint64_t shared_version[SHARED_KEYS];	/* newest seq, at least */
} World;

typedef struct Worker
{
	World	   *w;
	LtgSession *s;
	uint32_t	id;
	pthread_t	thread;
	uint64_t	rnd;
} Worker;

/*
 * Key number n of a writer: ascending for the first writer (appends), scattered
 * for the others; writer and number are in it, so no two are alike.
 */
static uint32_t
own_key(uint32_t id, uint64_t n, uint8_t *key)
{
	uint64_t	order = id == 0 ? UINT64_MAX / 2 + n : n * UINT64_C(0x9E3779B97F4A7C15);

	for (int i = 0; i < 8; i++)
		key[i] = (uint8_t) (order >> (56 - 8 * i));
	key[8] = (uint8_t) id;
	key[9] = (uint8_t) (n >> 8);
	key[10] = (uint8_t) n;
	return 11;
}

static uint32_t
shared_key(uint32_t i, uint8_t *key)
{
	memcpy(key, "shared", 6);
	key[6] = (uint8_t) i;
	return 7;
}

/* The payload says which key it belongs to and under which seq. */
static bool
insert(World *w, uint64_t store, const uint8_t *key, uint32_t key_len, LtgSeq seq)
{
	uint64_t	hash = ltg_key_hash(key, key_len);
	uint64_t	payload[2] = {hash, seq};
	LtgVersion	v = {.payload = (uint8_t *) payload, .payload_len = 16, .seq = seq,
		.xid = seq * 2 + 1, .cid = (uint32_t) seq};
	uint64_t	token;

	if (!ltg_gen_prepare(w->g, store))
		return false;
	token = ltg_gen_reserve(w->g, ltg_mem_need(key_len, 16));
	if (token == 0)
		return false;
	ltg_mem_insert(w->g, store, key, key_len, hash, &v, &token);
	return true;
}

static void *
writer(void *arg)
{
	Worker	   *me = arg;
	World	   *w = me->w;
	uint8_t		key[16];

	for (uint64_t n = 0; n < OWN_KEYS; n++)
	{
		uint32_t	len = own_key(me->id, n, key);

		if (!insert(w, n % STORES, key, len, atomic_fetch_add(&w->seq, 1) + 1))
			abort();
		atomic_store_explicit(&w->done[me->id], n + 1, memory_order_release);
		if (mem_random(&me->rnd) % 4 == 0)
		{
			uint32_t	i = (uint32_t) (mem_random(&me->rnd) % SHARED_KEYS);
			LtgSeq		seq;

			len = shared_key(i, key);
			w->rig.port->lock(w->rig.port, (LtgLockId) i, LTG_EXCLUSIVE);
			seq = atomic_fetch_add(&w->seq, 1) + 1;
			if (!insert(w, i % STORES, key, len, seq))
				abort();
			atomic_store_explicit(&w->shared_version[i], seq, memory_order_release);
			w->rig.port->unlock(w->rig.port, (LtgLockId) i);
		}
	}
	return NULL;
}

/* A key's versions: newest first, each with the payload that belongs to it. */
static bool
versions_right(World *w, LtgMemNode *n, LtgSeq at_least)
{
	const uint8_t *key;
	uint32_t	key_len;
	LtgSeq		newer = UINT64_MAX;
	bool		ok = true;

	ltg_mem_node_key(n, &key, &key_len);
	for (LtgMemVersion *mv = ltg_mem_newest(w->g, n); mv != NULL;
		 mv = ltg_mem_older(w->g, mv))
	{
		LtgVersion	v;
		uint64_t	payload[2];

		ltg_mem_read(mv, &v);
		ok &= v.payload_len == 16 && v.seq < newer;
		if (newer == UINT64_MAX)
			ok &= v.seq >= at_least;
		memcpy(payload, v.payload, 16);
		ok &= payload[0] == ltg_key_hash(key, key_len) && payload[1] == v.seq &&
			v.cid == (uint32_t) v.seq;
		ok &= v.xid == v.seq * 2 + 1;
		newer = v.seq;
		/* marks race with each other, by values all agree on */
		ltg_mem_mark(mv, LTG_COMMITTED);
		if (v.seq % 3 == 0)
			ltg_mem_mark(mv, LTG_SETTLED);
	}
	return ok && newer != UINT64_MAX;
}

static bool
look_up(Worker *me)
{
	World	   *w = me->w;
	uint32_t	id = (uint32_t) (mem_random(&me->rnd) % WRITERS);
	uint64_t	there = atomic_load_explicit(&w->done[id], memory_order_acquire);
	uint32_t	i = (uint32_t) (mem_random(&me->rnd) % SHARED_KEYS);
	LtgSeq		seq = atomic_load_explicit(&w->shared_version[i], memory_order_acquire);
	uint8_t		key[16];
	uint32_t	len;
	LtgMemNode *n;

	if (there > 0)
	{
		uint64_t	k = mem_random(&me->rnd) % there;

		len = own_key(id, k, key);
		n = ltg_mem_find(w->g, k % STORES, key, len, ltg_key_hash(key, len));
		if (n == NULL || !versions_right(w, n, 0))
			return false;
		if (ltg_mem_find(w->g, (k + 1) % STORES, key, len,
						 ltg_key_hash(key, len)) != NULL)
			return false;
	}
	if (seq > 0)
	{
		len = shared_key(i, key);
		n = ltg_mem_find(w->g, i % STORES, key, len, ltg_key_hash(key, len));
		if (n == NULL || !versions_right(w, n, seq))
			return false;
	}
	return true;
}

/* Walk a store from somewhere: ascending, and nobody's certain keys missing. */
static bool
iterate(Worker *me)
{
	World	   *w = me->w;
	uint64_t	store = mem_random(&me->rnd) % STORES;
	uint64_t	certain = 0;
	uint64_t	seen = 0;
	bool		whole = mem_random(&me->rnd) % 4 == 0;
	LtgMemList *l;
	LtgMemNode *prev = NULL;
	uint8_t		from[8];
	uint64_t	r = mem_random(&me->rnd);

	for (uint32_t id = 0; id < WRITERS; id++)
	{
		uint64_t	there = atomic_load_explicit(&w->done[id], memory_order_acquire);

		/* numbers n < there with n % STORES == store */
		certain += (there + STORES - 1 - store) / STORES;
	}
	l = ltg_gen_list(w->g, store);
	if (l == NULL)
		return certain == 0;
	memcpy(from, &r, 8);
	for (LtgMemNode *n = ltg_mem_seek_ge(w->g, l, whole ? NULL : from, whole ? 0 : 8);
		 n != NULL; n = ltg_mem_next(w->g, n))
	{
		const uint8_t *a,
				   *b;
		uint32_t	a_len,
					b_len;

		ltg_mem_node_key(n, &b, &b_len);
		if (prev != NULL)
		{
			uint32_t	common;
			int			c;

			ltg_mem_node_key(prev, &a, &a_len);
			common = a_len < b_len ? a_len : b_len;
			c = memcmp(a, b, common);
			if (c > 0 || (c == 0 && a_len >= b_len))
				return false;
		}
		if (!whole && prev == NULL && memcmp(b, from, b_len < 8 ? b_len : 8) < 0)
			return false;
		seen += b_len == 11;
		prev = n;
		if (!whole && seen > 200)
			break;
	}
	if (prev != NULL && ltg_mem_prev(w->g, l, prev) == prev)
		return false;
	return !whole || seen >= certain;
}

static void *
reader(void *arg)
{
	Worker	   *me = arg;
	World	   *w = me->w;

	while (!atomic_load_explicit(&w->stop, memory_order_relaxed))
	{
		bool		ok = true;

		ltg_epoch_enter(me->s);
		for (int i = 0; i < 20; i++)
			ok &= look_up(me);
		ok &= iterate(me);
		ltg_epoch_leave(me->s);
		if (!ok)
			atomic_fetch_add(&w->wrong, 1);
	}
	return NULL;
}

static void
open_world(World *w, size_t arena)
{
	memset(w, 0, sizeof(*w));
	mem_rig_open(&w->rig);
	w->mem = aligned_alloc(64, arena);
	assert_non_null(w->mem);
	w->g = ltg_gen_init(w->mem, arena);
	ltg_gen_reset(w->g, 1);
}

static void
close_world(World *w)
{
	char		msg[160];

	if (!ltg_gen_check(w->g, msg, sizeof(msg)))
		fail_msg("%s", msg);
	free(w->mem);
	mem_rig_close(&w->rig);
}

static void
test_readers_and_writers(void **state)
{
	static World w;
	Worker		worker[WRITERS + READERS];
	LtgSeq		min,
				max;

	(void) state;
	open_world(&w, ARENA_BYTES);
	for (uint32_t i = 0; i < WRITERS + READERS; i++)
	{
		worker[i] = (Worker) {&w, &w.rig.session[i], i, 0, 1000 + i};
		assert_int_equal(pthread_create(&worker[i].thread, NULL,
										i < WRITERS ? writer : reader, &worker[i]), 0);
	}
	for (uint32_t i = 0; i < WRITERS + READERS; i++)
	{
		assert_int_equal(pthread_join(worker[i].thread, NULL), 0);
		if (i == WRITERS - 1)
			atomic_store(&w.stop, true);
	}
	assert_int_equal(w.wrong, 0);
	ltg_gen_seq_range(w.g, &min, &max);
	assert_int_equal(min, 1);
	assert_int_equal(max, w.seq);
	for (uint32_t id = 0; id < WRITERS; id++)
		for (uint64_t n = 0; n < OWN_KEYS; n++)
		{
			uint8_t		key[16];
			uint32_t	len = own_key(id, n, key);

			assert_non_null(ltg_mem_find(w.g, n % STORES, key, len,
										 ltg_key_hash(key, len)));
		}
	close_world(&w);
}

/* ---- many stores at once, until the arena is full ---- */

static void *
filler(void *arg)
{
	Worker	   *me = arg;
	World	   *w = me->w;
	uint8_t		key[16];
	uint64_t	n = 0;

	for (;; n++)
	{
		uint32_t	len = own_key(me->id, n, key);

		/* All meet on the same new stores. */
		if (!insert(w, 100 + n % 997, key, len, n + 1))
			break;
	}
	atomic_store(&w->done[me->id], n);
	return NULL;
}

static void
test_fill(void **state)
{
	static World w;
	Worker		worker[WRITERS];

	(void) state;
	open_world(&w, 2 * 1024 * 1024);
	for (int round = 0; round < 3; round++)
	{
		ltg_gen_reset(w.g, 2 + (uint64_t) round);
		for (uint32_t i = 0; i < WRITERS; i++)
		{
			worker[i] = (Worker) {&w, &w.rig.session[i], i, 0, i};
			assert_int_equal(pthread_create(&worker[i].thread, NULL, filler,
											&worker[i]), 0);
		}
		for (uint32_t i = 0; i < WRITERS; i++)
			assert_int_equal(pthread_join(worker[i].thread, NULL), 0);
		assert_true(ltg_gen_used(w.g) <= ltg_gen_capacity(w.g));
		assert_true(ltg_gen_used(w.g) > ltg_gen_capacity(w.g) - 4096);
		for (uint32_t id = 0; id < WRITERS; id++)
			for (uint64_t n = 0; n < atomic_load(&w.done[id]); n++)
			{
				uint8_t		key[16];
				uint32_t	len = own_key(id, n, key);

				assert_non_null(ltg_mem_find(w.g, 100 + n % 997, key, len,
											 ltg_key_hash(key, len)));
			}
	}
	close_world(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readers_and_writers),
		cmocka_unit_test(test_fill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
