/*
 * run_mt_test.c
 *	  Threads that read one run through a cache that is much too small for it,
 *	  while others write runs of their own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <pthread.h>
#include <cmocka.h>

#include "base/coding.h"
#include "base/epoch.h"
#include "rig.h"
#include "storage/cache.h"
#include "storage/file.h"

#define BLOCK 4096
#define CACHE_BYTES (256 * 1024)
#define KEYS 20000
#define READERS 3

typedef struct Shared
{
	Rig			r;
	LtgEpochTable *epochs;
	LtgCache   *cache;
	LtgRunRef	ref;
} Shared;

typedef struct Worker
{
	Shared	   *shared;
	uint32_t	number;
	const char *problem;
} Worker;

static void
make_row(uint64_t i, uint8_t *key, uint8_t *payload, LtgVersion *v)
{
	uint32_t	k;

	ltg_store_be64(key, i * 10);
	memset(v, 0, sizeof(*v));
	v->payload = payload;
	v->payload_len = 16 + (uint32_t) (i % 50);
	v->state = LTG_SETTLED;
	for (k = 0; k < v->payload_len; k++)
		payload[k] = (uint8_t) (i + k);
}

static bool
row_is(const LtgVersion *v, uint64_t i)
{
	uint32_t	k;

	if (v->payload_len != 16 + i % 50)
		return false;
	for (k = 0; k < v->payload_len; k++)
	{
		if (v->payload[k] != (uint8_t) (i + k))
			return false;
	}
	return true;
}

static LtgStatus
write_rows(LtgSession *s, LtgFileId id, uint32_t n, LtgRunRef *ref)
{
	LtgRunOptions opt = rig_options();
	LtgFileWriter *w;
	LtgStatus	st;
	uint64_t	bytes;
	uint32_t	i;

	opt.block_size = BLOCK;
	LTG_TRY(ltg_writer_open(s, id, &opt, &w));
	st = ltg_writer_begin_run(w, "mt", 2, &opt);
	for (i = 0; i < n && st == LTG_OK; i++)
	{
		uint8_t		key[8];
		uint8_t		payload[128];
		LtgVersion	v;

		make_row(i, key, payload, &v);
		st = ltg_writer_add(w, key, 8, &v);
	}
	if (st == LTG_OK)
		st = ltg_writer_end_run(w, ref);
	if (st == LTG_OK)
		st = ltg_writer_finish(w, &bytes);
	if (st == LTG_OK)
		ltg_writer_free(w);
	else
		ltg_writer_abort(w);
	return st;
}

static const char *
points(LtgSession *s, const LtgRunRef *ref, uint64_t *rnd)
{
	LtgPoint	p = {0};
	const char *problem = NULL;
	int			n;

	for (n = 0; n < 3000 && problem == NULL; n++)
	{
		uint64_t	i = rig_random(rnd) % KEYS;
		bool		absent = rig_random(rnd) % 4 == 0;
		uint8_t		key[8];
		LtgVersion	v;
		LtgStatus	st;

		ltg_store_be64(key, i * 10 + (absent ? 3 : 0));
		ltg_epoch_enter(s);
		st = ltg_run_get(s, ref, key, 8, ltg_key_hash(key, 8), true, &p, &v);
		if (st != (absent ? LTG_NOT_FOUND : LTG_OK))
			problem = "wrong status";
		else if (!absent && !row_is(&v, i))
			problem = "wrong row";
		ltg_epoch_leave(s);
	}
	ltg_point_close(s, &p);
	return problem;
}

static const char *
walk(LtgSession *s, const LtgRunRef *ref, LtgCacheUse use, uint64_t *rnd)
{
	const char *problem = NULL;
	LtgRunIter *it;
	LtgStatus	st;
	uint64_t	i = rig_random(rnd) % KEYS;
	uint64_t	end = i + 2000 < KEYS ? i + 2000 : KEYS;
	uint8_t		key[8];

	if (ltg_run_iter_open(s, ref, use, &it) != LTG_OK)
		return "open";
	ltg_store_be64(key, i * 10);
	if (use == LTG_CACHE_NORMAL)
		ltg_epoch_enter(s);
	for (st = ltg_run_iter_seek_ge(it, key, 8); i < end && problem == NULL; i++)
	{
		LtgVersion	v;

		if (st != LTG_OK)
			problem = "walk ended early";
		else
		{
			ltg_run_iter_version(it, &v);
			if (!row_is(&v, i))
				problem = "wrong row in a walk";
			st = ltg_run_iter_next_key(it);
		}
	}
	if (use == LTG_CACHE_NORMAL)
		ltg_epoch_leave(s);
	ltg_run_iter_close(it);
	return problem;
}

static void
open_session(Shared *sh, LtgSession *s)
{
	memset(s, 0, sizeof(*s));
	s->port = sh->r.port;
	s->latched_stripe = s->pinned = -1;
	s->epochs = sh->epochs;
	s->cache = sh->cache;
	if (ltg_epoch_claim(sh->epochs, &s->epoch_slot) != LTG_OK ||
		ltg_file_cache_create(s) != LTG_OK)
		abort();
}

static void
close_session(Shared *sh, LtgSession *s)
{
	ltg_file_cache_destroy(s);
	ltg_epoch_unclaim(sh->epochs, s->epoch_slot);
}

static void *
reader(void *arg)
{
	Worker	   *w = arg;
	LtgSession	s;
	uint64_t	rnd = w->number;
	int			round;

	open_session(w->shared, &s);
	for (round = 0; round < 6 && w->problem == NULL; round++)
	{
		w->problem = points(&s, &w->shared->ref, &rnd);
		if (w->problem == NULL)
			w->problem = walk(&s, &w->shared->ref,
							  round % 2 ? LTG_CACHE_PEEK : LTG_CACHE_NORMAL, &rnd);
	}
	close_session(w->shared, &s);
	return NULL;
}

static void *
writer(void *arg)
{
	Worker	   *w = arg;
	LtgSession	s;
	LtgRunRef	ref;
	uint32_t	i;

	open_session(w->shared, &s);
	for (i = 0; i < 4 && w->problem == NULL; i++)
	{
		if (write_rows(&s, 100 + i, 3000, &ref) != LTG_OK || ltg_run_check(&s, &ref) != LTG_OK)
			w->problem = "writing";
		ltg_cache_drop_file(&s, s.cache, 1);
	}
	close_session(w->shared, &s);
	return NULL;
}

static void
read_while_writing(void **state)
{
	Shared		sh;
	Worker		worker[READERS + 1];
	pthread_t	thread[READERS + 1];
	void	   *epochs = aligned_alloc(64, (ltg_epoch_table_size(8) + 63) / 64 * 64);
	void	   *cache = aligned_alloc(64, CACHE_BYTES);
	char		msg[200];
	uint32_t	i;

	(void) state;
	rig_open(&sh.r);
	sh.epochs = epochs;
	ltg_epoch_table_init(sh.epochs, 8);
	sh.cache = ltg_cache_init(cache, CACHE_BYTES, BLOCK + LTG_FRAME_SLACK);
	assert_int_equal(write_rows(&sh.r.s, 1, KEYS, &sh.ref), LTG_OK);
	for (i = 0; i <= READERS; i++)
	{
		worker[i] = (Worker) {&sh, i + 1, NULL};
		assert_int_equal(pthread_create(&thread[i], NULL, i < READERS ? reader : writer,
										&worker[i]), 0);
	}
	for (i = 0; i <= READERS; i++)
	{
		pthread_join(thread[i], NULL);
		if (worker[i].problem != NULL)
			fail_msg("thread %u: %s", i, worker[i].problem);
	}
	if (!ltg_cache_check(&sh.r.s, sh.cache, msg, sizeof(msg)))
		fail_msg("%s", msg);
	rig_close(&sh.r);
	free(epochs);
	free(cache);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(read_while_writing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
