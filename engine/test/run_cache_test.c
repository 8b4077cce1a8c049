/*
 * run_cache_test.c
 *	  Runs read through the block cache; files with many runs; blocks that are
 *	  too large for a frame; open files of removed ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <cmocka.h>

#include "base/coding.h"
#include "base/epoch.h"
#include "rig.h"
#include "storage/cache.h"
#include "storage/file.h"

#define BLOCK 8192
#define CACHE_BYTES (1024 * 1024)

typedef struct Fixture
{
	Rig			r;
	void	   *epochs;
	void	   *cache;
} Fixture;

static int
setup(void **state)
{
	Fixture    *f = calloc(1, sizeof(*f));

	rig_open(&f->r);
	f->epochs = aligned_alloc(64, (ltg_epoch_table_size(4) + 63) / 64 * 64);
	ltg_epoch_table_init(f->epochs, 4);
	f->r.s.epochs = f->epochs;
	assert_int_equal(ltg_epoch_claim(f->epochs, &f->r.s.epoch_slot), LTG_OK);
	f->cache = aligned_alloc(64, CACHE_BYTES);
	f->r.s.cache = ltg_cache_init(f->cache, CACHE_BYTES, BLOCK + LTG_FRAME_SLACK);
	assert_non_null(f->r.s.cache);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	Fixture    *f = *state;
	char		msg[256];

	if (!ltg_cache_check(&f->r.s, f->r.s.cache, msg, sizeof(msg)))
		fail_msg("%s", msg);
	ltg_epoch_unclaim(f->epochs, f->r.s.epoch_slot);
	rig_close(&f->r);
	free(f->epochs);
	free(f->cache);
	free(f);
	return 0;
}

static void
numbers(Model *m, uint32_t n, uint32_t payload_len)
{
	static uint8_t payload[LTG_PAYLOAD_MAX];
	uint64_t	rnd = 9;
	uint32_t	i;

	memset(m, 0, sizeof(*m));
	for (i = 0; i < n; i++)
	{
		uint8_t		key[8];
		LtgVersion	v = {.payload = payload, .payload_len = payload_len, .state = LTG_SETTLED};
		uint32_t	k;

		for (k = 0; k + 8 <= payload_len; k += 8)
			ltg_store64(payload + k, rig_random(&rnd));
		ltg_store_be64(key, i);
		model_add(m, key, 8, &v);
	}
}

/* All of it by an iterator. */
static void
iterate(Fixture *f, const Model *m, const LtgRunRef *ref, LtgCacheUse use)
{
	LtgSession *s = &f->r.s;
	LtgRunIter *it;
	LtgVersion	v;
	uint32_t	i;
	LtgStatus	st;

	if (use != LTG_CACHE_PEEK)
		ltg_epoch_enter(s);
	assert_int_equal(ltg_run_iter_open(s, ref, use, &it), LTG_OK);
	st = ltg_run_iter_seek_ge(it, NULL, 0);
	for (i = 0; st == LTG_OK; i++, st = ltg_run_iter_next_key(it))
	{
		const uint8_t *key;
		uint32_t	len;

		ltg_run_iter_key(it, &key, &len);
		assert_int_equal(ltg_key_cmp(key, len, m->e[i].key, m->e[i].key_len), 0);
		ltg_run_iter_version(it, &v);
		model_compare(&v, &m->e[i].v);
	}
	assert_int_equal(st, LTG_END);
	assert_int_equal(i, m->n);
	ltg_run_iter_close(it);
	if (use != LTG_CACHE_PEEK)
		ltg_epoch_leave(s);
}

static void
read_through(Fixture *f, const Model *m, const LtgRunRef *ref, LtgCacheUse use)
{
	LtgSession *s = &f->r.s;
	LtgPoint	p = {0};
	LtgVersion	v;
	uint32_t	i;

	for (i = 0; i < m->n; i += 7)
	{
		const ModelEntry *e = &m->e[i];

		ltg_epoch_enter(s);
		assert_int_equal(ltg_run_get(s, ref, e->key, e->key_len,
									 ltg_key_hash(e->key, e->key_len), true, &p, &v), LTG_OK);
		model_compare(&v, &e->v);
		ltg_epoch_leave(s);
	}
	ltg_point_close(s, &p);
	iterate(f, m, ref, use);
}

static void
cached_reads(void **state)
{
	Fixture    *f = *state;
	LtgRunOptions opt = rig_options();
	LtgCacheStats before;
	LtgCacheStats after;
	LtgRunRef	ref;
	Model		m;

	opt.block_size = BLOCK;
	numbers(&m, 4000, 100);
	assert_int_equal(model_write(&f->r, &m, 1, &opt, &ref), LTG_OK);
	read_through(f, &m, &ref, LTG_CACHE_PEEK);
	ltg_cache_stats(&f->r.s, f->r.s.cache, &after);
	assert_int_equal(after.bypasses, 0);
	read_through(f, &m, &ref, LTG_CACHE_NORMAL);
	ltg_cache_stats(&f->r.s, f->r.s.cache, &before);
	read_through(f, &m, &ref, LTG_CACHE_NORMAL);
	ltg_cache_stats(&f->r.s, f->r.s.cache, &after);
	/* it all fits: the second time nothing is missed */
	assert_int_equal(after.misses, before.misses);
	assert_true(after.hits > before.hits);
	assert_int_equal(ltg_run_check(&f->r.s, &ref), LTG_OK);
	model_free(&m);
}

/* Huge scans fill frames that nobody uses, and push nobody out. */
static void
spare_frames(void **state)
{
	Fixture    *f = *state;
	LtgRunOptions opt = rig_options();
	LtgCacheStats small, full, after;
	LtgRunRef	ref[2];
	Model		m[2];

	opt.block_size = BLOCK;
	numbers(&m[0], 1000, 100);
	numbers(&m[1], 20000, 100);	/* twice the cache */
	assert_int_equal(model_write(&f->r, &m[0], 1, &opt, &ref[0]), LTG_OK);
	assert_int_equal(model_write(&f->r, &m[1], 2, &opt, &ref[1]), LTG_OK);
	read_through(f, &m[0], &ref[0], LTG_CACHE_NORMAL);
	ltg_cache_stats(&f->r.s, f->r.s.cache, &small);
	assert_false(ltg_cache_full(&f->r.s, f->r.s.cache));
	iterate(f, &m[1], &ref[1], LTG_CACHE_SPARE);
	ltg_cache_stats(&f->r.s, f->r.s.cache, &full);
	assert_true(ltg_cache_full(&f->r.s, f->r.s.cache));
	assert_true(full.t1 + full.t2 > 2 * (small.t1 + small.t2));
	assert_int_equal(full.evictions, 0);
	iterate(f, &m[1], &ref[1], LTG_CACHE_SPARE);
	ltg_cache_stats(&f->r.s, f->r.s.cache, &after);
	assert_int_equal(after.evictions, 0);
	/* what was there is there */
	read_through(f, &m[0], &ref[0], LTG_CACHE_NORMAL);
	ltg_cache_stats(&f->r.s, f->r.s.cache, &after);
	assert_int_equal(after.misses, full.misses);
	model_free(&m[0]);
	model_free(&m[1]);
}

/* A read that fails in the middle gives its frame back. */
static void
failing_reads(void **state)
{
	static const LtgFaultKind kinds[] = {LTG_FAULT_READ, LTG_FAULT_ALLOC};
	Fixture    *f = *state;
	LtgSession *s = &f->r.s;
	LtgRunOptions opt = rig_options();
	LtgRunRef	ref;
	Model		m;
	size_t		kind;
	int			use;
	uint64_t	nth;

	opt.block_size = BLOCK;
	numbers(&m, 3000, 50);
	assert_int_equal(model_write(&f->r, &m, 1, &opt, &ref), LTG_OK);
	for (kind = 0; kind < 2; kind++)
	{
		for (use = LTG_CACHE_NORMAL; use <= LTG_CACHE_PEEK; use++)
		{
			bool		failed = true;

			for (nth = 1; failed; nth++)
			{
				LtgRunIter *it = NULL;
				LtgStatus	st;

				ltg_cache_drop_file(s, s->cache, 1);
				ltg_file_cache_destroy(s);
				assert_int_equal(ltg_file_cache_create(s), LTG_OK);
				ltg_posix_fail(f->r.posix, kinds[kind], nth, false, EIO);
				ltg_epoch_enter(s);
				st = ltg_run_iter_open(s, &ref, (LtgCacheUse) use, &it);
				if (st == LTG_OK)
					st = ltg_run_iter_seek_ge(it, NULL, 0);
				while (st == LTG_OK)
					st = ltg_run_iter_next_key(it);
				ltg_epoch_leave(s);
				failed = ltg_posix_failed(f->r.posix, kinds[kind]) > 0;
				ltg_posix_no_faults(f->r.posix);
				assert_int_equal(st, !failed ? LTG_END : kind == 0 ? LTG_IO : LTG_NOMEM);
				if (failed)
					assert_int_equal(s->err.status, st);
				ltg_clear_error(s);
				ltg_run_iter_close(it);
			}
		}
	}
	model_free(&m);
}

static void
larger_than_cache(void **state)
{
	Fixture    *f = *state;
	LtgRunOptions opt = rig_options();
	LtgRunRef	ref;
	Model		m;
	int			round;

	opt.block_size = BLOCK;
	numbers(&m, 20000, 200);
	assert_int_equal(model_write(&f->r, &m, 1, &opt, &ref), LTG_OK);
	for (round = 0; round < 3; round++)
	{
		read_through(f, &m, &ref, LTG_CACHE_NORMAL);
		read_through(f, &m, &ref, LTG_CACHE_PEEK);
	}
	model_free(&m);
}

/* Payloads, and a key's versions, that exceed a frame by far. */
static void
oversized_blocks(void **state)
{
	Fixture    *f = *state;
	LtgRunOptions opt = rig_options();
	LtgPoint	p = {0};
	LtgRunRef	ref;
	LtgVersion	v;
	Model		m;
	uint32_t	i;

	opt.block_size = BLOCK;
	numbers(&m, 20, LTG_PAYLOAD_MAX);
	assert_int_equal(model_write(&f->r, &m, 1, &opt, &ref), LTG_OK);
	read_through(f, &m, &ref, LTG_CACHE_NORMAL);
	read_through(f, &m, &ref, LTG_CACHE_PEEK);
	model_free(&m);

	numbers(&m, 300, 40);
	for (i = 0; i < 5000; i++)
	{
		v = m.e[150].v;
		v.state = LTG_COMMITTED;
		v.seq = 10 + i;
		v.xid = 100 + i;
		model_add(&m, m.e[150].key, 8, &v);
	}
	model_sort(&m);
	assert_int_equal(model_write(&f->r, &m, 2, &opt, &ref), LTG_OK);
	assert_int_equal(ref.keys, 300);
	assert_int_equal(ltg_run_check(&f->r.s, &ref), LTG_OK);
	ltg_epoch_enter(&f->r.s);
	assert_int_equal(ltg_run_get(&f->r.s, &ref, m.e[150].key, 8, ltg_key_hash(m.e[150].key, 8),
								 true, &p, &v), LTG_OK);
	for (i = 150;; i++)
	{
		model_compare(&v, &m.e[i].v);
		if (ltg_point_older(&f->r.s, &p, &v) == LTG_END)
			break;
	}
	assert_int_equal(i, 150 + 5000);
	ltg_epoch_leave(&f->r.s);
	ltg_point_close(&f->r.s, &p);
	model_free(&m);
}

typedef struct Seen
{
	LtgRunRef	ref[64];
	uint32_t	n;
} Seen;

static LtgStatus
collect(void *arg, const void *key, uint32_t key_len, const LtgRunRef *ref)
{
	Seen	   *seen = arg;

	assert_int_equal(key_len, 4);
	assert_int_equal(ltg_load32(key), seen->n);
	seen->ref[seen->n++] = *ref;
	return LTG_OK;
}

static void
many_runs_in_a_file(void **state)
{
	Fixture    *f = *state;
	LtgSession *s = &f->r.s;
	LtgRunOptions opt = rig_options();
	LtgFileWriter *w;
	LtgRunRef	ref[40];
	Seen		seen = {.n = 0};
	uint64_t	bytes;
	uint64_t	said;
	uint32_t	i;
	uint32_t	k;

	opt.block_size = BLOCK;
	assert_int_equal(ltg_writer_open(s, 3, &opt, &w), LTG_OK);
	for (i = 0; i < 40; i++)
	{
		Model		m;
		uint8_t		id[4];

		numbers(&m, 1 + i * i * 3, 50);
		ltg_store32(id, i);
		opt.filter_bits_per_key = i % 3 == 0 ? 0 : 10;
		assert_int_equal(ltg_writer_begin_run(w, id, 4, &opt), LTG_OK);
		for (k = 0; k < m.n; k++)
			assert_int_equal(ltg_writer_add(w, m.e[k].key, m.e[k].key_len, &m.e[k].v), LTG_OK);
		assert_int_equal(ltg_writer_end_run(w, &ref[i]), LTG_OK);
		model_free(&m);
	}
	assert_int_equal(ltg_writer_finish(w, &bytes), LTG_OK);
	ltg_writer_free(w);
	assert_int_equal(ltg_file_verify(s, 3, &said, collect, &seen), LTG_OK);
	assert_int_equal(said, bytes);
	assert_int_equal(seen.n, 40);
	for (i = 0; i < 40; i++)
	{
		Model		m;

		assert_memory_equal(&seen.ref[i], &ref[i], sizeof(LtgRunRef));
		assert_int_equal(ltg_run_check(s, &ref[i]), LTG_OK);
		numbers(&m, 1 + i * i * 3, 50);
		read_through(f, &m, &ref[i], LTG_CACHE_NORMAL);
		model_free(&m);
	}
}

static void
removed_files_are_closed(void **state)
{
	Fixture    *f = *state;
	LtgSession *s = &f->r.s;
	_Atomic uint64_t removed = 0;
	LtgRunOptions opt = rig_options();
	char		name[LTG_NAME_MAX];
	LtgRunRef	ref;
	LtgFile    *file;
	LtgError	e;
	Model		m;

	numbers(&m, 10, 10);
	s->files_removed = &removed;
	assert_int_equal(model_write(&f->r, &m, 1, &opt, &ref), LTG_OK);
	assert_int_equal(ltg_file_get(s, 1, &file), LTG_OK);
	ltg_run_name(name, 1);
	assert_int_equal(f->r.port->file_remove(f->r.port, name, &e), LTG_OK);
	/* the handle lives until the removal is announced */
	assert_int_equal(ltg_file_get(s, 1, &file), LTG_OK);
	removed++;
	assert_int_equal(ltg_file_get(s, 1, &file), LTG_CORRUPT);
	assert_int_equal(s->err.file_id, 1);
	ltg_clear_error(s);
	s->files_removed = NULL;
	model_free(&m);
}

static void
names(void **state)
{
	char		name[LTG_NAME_MAX];
	LtgFileId	id;
	bool		tmp;

	(void) state;
	ltg_run_name(name, 0xABC);
	assert_string_equal(name, "0000000000000abc.run");
	assert_true(ltg_parse_run_name(name, &id, &tmp) && id == 0xABC && !tmp);
	ltg_run_tmp_name(name, UINT64_MAX);
	assert_true(ltg_parse_run_name(name, &id, &tmp) && id == UINT64_MAX && tmp);
	assert_false(ltg_parse_run_name("0000000000000abc.runx", &id, &tmp));
	assert_false(ltg_parse_run_name("0000000000000abC.run", &id, &tmp));
	assert_false(ltg_parse_run_name("abc.run", &id, &tmp));
	assert_false(ltg_parse_run_name("", &id, &tmp));
	assert_false(ltg_parse_run_name("0000000000000abc.manifest", &id, &tmp));
}

static void
bounds(void **state)
{
	LtgBound	min;
	LtgBound	max;
	uint8_t		key[40];

	(void) state;
	memset(key, 'm', sizeof(key));
	ltg_bound_set(&min, (const uint8_t *) "c", 1);
	ltg_bound_set(&max, key, 30);
	assert_true(max.truncated && max.len == LTG_BOUND_BYTES);
	assert_false(ltg_bound_may_contain(&min, &max, (const uint8_t *) "b", 1));
	assert_false(ltg_bound_may_contain(&min, &max, (const uint8_t *) "", 0));
	assert_true(ltg_bound_may_contain(&min, &max, (const uint8_t *) "c", 1));
	assert_true(ltg_bound_may_contain(&min, &max, key, 30));
	assert_true(ltg_bound_may_contain(&min, &max, key, 40));
	assert_false(ltg_bound_may_contain(&min, &max, (const uint8_t *) "n", 1));
	ltg_bound_set(&max, key, 5);
	assert_true(ltg_bound_may_contain(&min, &max, key, 5));
	assert_false(ltg_bound_may_contain(&min, &max, key, 6));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(cached_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(spare_frames, setup, teardown),
		cmocka_unit_test_setup_teardown(failing_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(larger_than_cache, setup, teardown),
		cmocka_unit_test_setup_teardown(oversized_blocks, setup, teardown),
		cmocka_unit_test_setup_teardown(many_runs_in_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(removed_files_are_closed, setup, teardown),
		cmocka_unit_test(names),
		cmocka_unit_test(bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
