/*
 * run_test.c
 *	  Runs written and read back, against a model: point reads, iteration both
 *	  ways, seeks between keys, blocks; over many shapes of keys and versions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/coding.h"
#include "rig.h"
#include "storage/file.h"

typedef enum KeyForm
{
	DENSE5,						/* consecutive 5-byte numbers */
	SPARSE5,					/* with holes */
	RANDOM8,
	FIXED20,					/* a few distinct prefixes */
	VARIABLE,					/* letters, 0..24 of them */
	LONG,						/* long shared parts, up to 600 bytes */
	KEY_FORMS
} KeyForm;

typedef enum VersionForm
{
	SETTLED,					/* one settled PUT per key */
	ONE_WRITER,					/* one PUT per key, all by one transaction */
	TAGGED,						/* settled with tags */
	MIXED,						/* everything */
	VERSION_FORMS
} VersionForm;

static uint32_t
make_key(KeyForm form, uint32_t i, uint64_t *rnd, uint8_t *key)
{
	uint64_t	x = i;
	uint32_t	len;
	uint32_t	k;

	switch (form)
	{
		case SPARSE5:
			x = (uint64_t) i * 3 + rig_random(rnd) % 3;
			/* FALLTHROUGH */
		case DENSE5:
			for (k = 0; k < 5; k++)
				key[k] = (uint8_t) (x >> (32 - 8 * k));
			return 5;
		case RANDOM8:
			x = rig_random(rnd);
			memcpy(key, &x, 8);
			return 8;
		case FIXED20:
			memset(key, 'a' + (int) (rig_random(rnd) % 5), 20);
			for (k = 8; k < 20; k++)
				key[k] = (uint8_t) (rig_random(rnd) % 4);
			return 20;
		case VARIABLE:
			len = (uint32_t) (rig_random(rnd) % 25);
			for (k = 0; k < len; k++)
				key[k] = (uint8_t) ("\0ab\377"[rig_random(rnd) % 4]);
			return len;
		case LONG:
			len = (uint32_t) (rig_random(rnd) % 600);
			memset(key, 'x', len);
			for (k = 0; k < 3 && len > 0; k++)
				key[rig_random(rnd) % len] = (uint8_t) rig_random(rnd);
			return len;
		case KEY_FORMS:
			break;
	}
	return 0;
}

static void
make_version(VersionForm form, uint32_t at, uint64_t *rnd, LtgVersion *v, uint8_t *payload)
{
	uint32_t	i;

	memset(v, 0, sizeof(*v));
	v->payload = payload;
	v->seq = 1 + rig_random(rnd) % 100000;
	v->xid = rig_writer(at / 700, at, rnd);
	switch (form)
	{
		case TAGGED:
			v->tag = (uint8_t) (rig_random(rnd) % 127);
			/* FALLTHROUGH */
		case SETTLED:
			v->state = LTG_SETTLED;
			v->payload_len = 32;
			break;
		case ONE_WRITER:
			v->xid = UINT64_C(0x100000005);
			v->cid = 3;
			v->state = LTG_COMMITTED;
			v->payload_len = (uint32_t) (rig_random(rnd) % 100);
			break;
		default:
			v->kind = (LtgKind) (rig_random(rnd) % 3);
			v->state = (LtgState) (rig_random(rnd) % 3);
			v->flags = (uint8_t) (rig_random(rnd) % 16 == 0 ? rig_random(rnd) % 16 : 0);
			v->tag = (uint8_t) (rig_random(rnd) % 127);
			v->payload_len = v->kind == LTG_PUT ? (uint32_t) (rig_random(rnd) % 300) : 0;
			if (v->state != LTG_SETTLED)
			{
				v->xid = 1 + rig_random(rnd) % (rig_random(rnd) % 2 ? 1000 : UINT64_MAX);
				v->cid = (uint32_t) (rig_random(rnd) % (rig_random(rnd) % 2 ? 5 : UINT32_MAX));
			}
			if (v->kind == LTG_DELETE)
				v->aux = rig_random(rnd) % 3 == 0 ? LTG_AUX_OTHER_PARTITION :
					rig_random(rnd) % 1000;
			break;
	}
	for (i = 0; i < v->payload_len; i++)
		payload[i] = (uint8_t) ("abcdefgh"[rig_random(rnd) % 8]);
}

static void
make_model(Model *m, KeyForm kf, VersionForm vf, uint32_t n, uint64_t seed)
{
	uint8_t		key[LTG_KEY_MAX];
	uint8_t		payload[512];
	uint64_t	rnd = seed;
	LtgVersion	v;
	uint32_t	i;

	memset(m, 0, sizeof(*m));
	for (i = 0; i < n; i++)
	{
		uint32_t	len = make_key(kf, i, &rnd, key);
		uint32_t	versions = 1;

		if (vf == MIXED && rig_random(&rnd) % 8 == 0)
			versions = 1 + (uint32_t) (rig_random(&rnd) % (rig_random(&rnd) % 50 == 0 ? 300 : 5));
		while (versions-- > 0)
		{
			make_version(vf, i, &rnd, &v, payload);
			model_add(m, key, len, &v);
		}
	}
	model_sort(m);
	if (vf != MIXED)			/* random keys may have met */
	{
		uint32_t	k = 1;

		for (i = 1; i < m->n; i++)
		{
			if (ltg_key_cmp(m->e[k - 1].key, m->e[k - 1].key_len,
							m->e[i].key, m->e[i].key_len) == 0)
			{
				ModelEntry	x = m->e[i];
				Model		drop = {malloc(sizeof(x)), 1, 1};

				drop.e[0] = x;
				model_free(&drop);
			}
			else
				m->e[k++] = m->e[i];
		}
		m->n = k;
	}
}

/* First entry of the key group after / before. */
static uint32_t
group_end(const Model *m, uint32_t i)
{
	uint32_t	j = i + 1;

	while (j < m->n && ltg_key_cmp(m->e[i].key, m->e[i].key_len,
								   m->e[j].key, m->e[j].key_len) == 0)
		j++;
	return j;
}

static void
expect_at(LtgRunIter *it, const Model *m, uint32_t i)
{
	const uint8_t *key;
	uint32_t	len;
	LtgVersion	v;
	uint32_t	end = group_end(m, i);

	ltg_run_iter_key(it, &key, &len);
	assert_int_equal(ltg_key_cmp(key, len, m->e[i].key, m->e[i].key_len), 0);
	ltg_run_iter_version(it, &v);
	model_compare(&v, &m->e[i].v);
	while (++i < end)
	{
		assert_int_equal(ltg_run_iter_older(it, &v), LTG_OK);
		model_compare(&v, &m->e[i].v);
	}
	assert_int_equal(ltg_run_iter_older(it, &v), LTG_END);
}

static void
check_points(Rig *r, const Model *m, const LtgRunRef *ref)
{
	LtgPoint	p = {0};
	LtgVersion	v;
	uint32_t	i;
	uint32_t	j;
	uint32_t	n = 0;

	for (i = 0; i < m->n; i = group_end(m, j - 1))
	{
		const ModelEntry *e = &m->e[i];

		/* without a cache each look-up reads its blocks anew: not all keys */
		j = i + 1;
		if (n++ % (m->n / 400 + 1) != 0)
			continue;

		assert_int_equal(ltg_run_get(&r->s, ref, e->key, e->key_len,
									 ltg_key_hash(e->key, e->key_len), true, &p, &v), LTG_OK);
		model_compare(&v, &e->v);
		for (; j < group_end(m, i); j++)
		{
			assert_int_equal(ltg_point_older(&r->s, &p, &v), LTG_OK);
			model_compare(&v, &m->e[j].v);
		}
		assert_int_equal(ltg_point_older(&r->s, &p, &v), LTG_END);
	}
	ltg_point_close(&r->s, &p);
}

static void
check_walks(LtgRunIter *it, const Model *m)
{
	uint32_t	i;
	LtgStatus	st = ltg_run_iter_seek_ge(it, NULL, 0);

	for (i = 0; i < m->n; i = group_end(m, i))
	{
		assert_int_equal(st, LTG_OK);
		expect_at(it, m, i);
		st = ltg_run_iter_next_key(it);
	}
	assert_int_equal(st, LTG_END);

	st = ltg_run_iter_seek_le(it, NULL, 0);
	for (i = m->n; i > 0;)
	{
		uint32_t	j = i - 1;

		while (j > 0 && group_end(m, j - 1) == i)
			j--;
		assert_int_equal(st, LTG_OK);
		expect_at(it, m, j);
		st = ltg_run_iter_prev_key(it);
		i = j;
	}
	assert_int_equal(st, LTG_END);
}

/* Seeks to keys at random, most of them not there. */
static void
check_seeks(Rig *r, LtgRunIter *it, const Model *m, const LtgRunRef *ref, KeyForm kf,
			uint64_t seed, uint32_t rounds)
{
	LtgPoint	p = {0};
	LtgVersion	v;
	uint8_t		key[LTG_KEY_MAX];

	while (rounds-- > 0)
	{
		uint32_t	len = make_key(rig_random(&seed) % 4 == 0 ? VARIABLE : kf,
								   (uint32_t) (rig_random(&seed) % (m->n + 10)), &seed, key);
		uint32_t	lo = 0;
		uint32_t	hi = m->n;
		bool		found;
		LtgStatus	st;

		if (rig_random(&seed) % 4 == 0)
		{
			/* a key near one that is there */
			const ModelEntry *e = &m->e[rig_random(&seed) % m->n];

			len = e->key_len;
			memcpy(key, e->key, len);
			switch (rig_random(&seed) % 3)
			{
				case 0:
					key[len++] = (uint8_t) (rig_random(&seed) % 2);
					break;
				case 1:
					len = len > 0 ? len - 1 : 0;
					break;
				default:
					if (len > 0)
						key[rig_random(&seed) % len] += (uint8_t) (rig_random(&seed) % 3) - 1;
			}
		}
		while (lo < hi)
		{
			uint32_t	mid = (lo + hi) / 2;

			if (ltg_key_cmp(m->e[mid].key, m->e[mid].key_len, key, len) < 0)
				lo = mid + 1;
			else
				hi = mid;
		}
		found = lo < m->n && ltg_key_cmp(m->e[lo].key, m->e[lo].key_len, key, len) == 0;

		st = ltg_run_iter_seek_ge(it, key, len);
		assert_int_equal(st, lo < m->n ? LTG_OK : LTG_END);
		if (st == LTG_OK)
			expect_at(it, m, lo);
		st = ltg_run_get(&r->s, ref, key, len, ltg_key_hash(key, len), rig_random(&seed) % 2,
						 &p, &v);
		assert_int_equal(st, found ? LTG_OK : LTG_NOT_FOUND);
		st = ltg_run_iter_seek_le(it, key, len);
		if (!found)
		{
			assert_int_equal(st, lo > 0 ? LTG_OK : LTG_END);
			if (lo == 0)
				continue;
			lo--;
			while (lo > 0 && group_end(m, lo - 1) == group_end(m, lo))
				lo--;
		}
		assert_int_equal(st, LTG_OK);
		expect_at(it, m, lo);
	}
	ltg_point_close(&r->s, &p);
}

/* Whole blocks, decoded from a copy. */
static void
check_blocks(LtgRunIter *it, const Model *m)
{
	uint8_t		key[LTG_KEY_MAX];
	LtgBlockView view;
	uint32_t	at = 0;
	uint32_t	i;
	LtgStatus	st;

	for (st = ltg_run_iter_seek_ge(it, NULL, 0); st == LTG_OK; st = ltg_run_iter_next_block(it))
	{
		uint8_t    *copy;

		ltg_run_iter_block(it, &view);
		assert_int_equal(view.at, 0);
		copy = aligned_alloc(64, (view.len + 63) / 64 * 64);
		memcpy(copy, view.data, view.len);
		for (i = 0; i < view.n; i++)
		{
			const ModelEntry *e = &m->e[at + i];
			uint32_t	len;
			LtgVersion	v;

			ltg_block_entry(copy, view.len, i, key, &len, &v);
			assert_int_equal(ltg_key_cmp(key, len, e->key, e->key_len), 0);
			model_compare(&v, &e->v);
			if (view.plain)
			{
				assert_int_equal(v.kind, LTG_PUT);
				assert_int_equal(v.state, view.state);
				if (!view.all_settled)
					assert_int_equal(v.xid, view.xid);
				assert_int_equal(v.cid, view.cid);
				assert_int_equal(view.all_settled, v.state == LTG_SETTLED);
			}
		}
		/* the rest of the key's versions is in no block that is come to */
		if (view.more)
		{
			assert_true(group_end(m, at) > at + view.n && view.n > 1 && !view.plain);
			at = group_end(m, at);
		}
		else
			at += view.n;
		free(copy);
	}
	assert_int_equal(st, LTG_END);
	assert_int_equal(at, m->n);
	for (st = ltg_run_iter_seek_le(it, NULL, 0); st == LTG_OK; st = ltg_run_iter_prev_block(it))
	{
		uint32_t	end = at;

		ltg_run_iter_block(it, &view);
		if (!view.more)
			at -= view.n;
		else
			while (at > 0 && group_end(m, at - 1) == end)
				at--;
	}
	assert_int_equal(at, 0);
}

static void
round_trip(KeyForm kf, VersionForm vf, uint32_t n, const LtgRunOptions *opt, uint64_t seed)
{
	Rig			r;
	Model		m;
	LtgRunRef	ref;
	LtgRunIter *it;
	int			use;

	rig_open(&r);
	make_model(&m, kf, vf, n, seed);
	if (model_write(&r, &m, 7, opt, &ref) != LTG_OK)
		fail_msg("%s", r.s.err.msg);
	assert_int_equal(ref.entries, m.n);
	check_points(&r, &m, &ref);
	for (use = LTG_CACHE_NORMAL; use <= LTG_CACHE_PEEK; use++)
	{
		assert_int_equal(ltg_run_iter_open(&r.s, &ref, (LtgCacheUse) use, &it), LTG_OK);
		check_walks(it, &m);
		check_seeks(&r, it, &m, &ref, kf, seed, opt->block_size > 16384 ? 40 : 200);
		check_blocks(it, &m);
		ltg_run_iter_close(it);
	}
	if (ltg_run_check(&r.s, &ref) != LTG_OK)
		fail_msg("%s", r.s.err.msg);
	model_free(&m);
	rig_close(&r);
}

static void
all_forms(void **state)
{
	LtgRunOptions opt = rig_options();
	int			kf;
	int			vf;

	(void) state;
	for (kf = 0; kf < KEY_FORMS; kf++)
	{
		for (vf = 0; vf < VERSION_FORMS; vf++)
		{
			opt.codec = (LtgCodecChoice) ((kf + vf) % 4);
			round_trip((KeyForm) kf, (VersionForm) vf, 2000, &opt, (uint64_t) (kf * 10 + vf));
		}
	}
}

/* Small blocks make tall trees. */
static void
tall_trees(void **state)
{
	LtgRunOptions opt = rig_options();
	int			kf;

	(void) state;
	opt.block_size = 512;
	for (kf = 0; kf < KEY_FORMS; kf++)
		round_trip((KeyForm) kf, MIXED, 4000, &opt, (uint64_t) kf);
}

/* Blocks whose indexes need 32 bits, and runs that are one block. */
static void
huge_blocks(void **state)
{
	LtgRunOptions opt = rig_options();
	int			kf;

	(void) state;
	opt.block_size = 1 << 18;
	for (kf = 0; kf < KEY_FORMS; kf++)
	{
		round_trip((KeyForm) kf, MIXED, 1200, &opt, (uint64_t) kf);
		round_trip((KeyForm) kf, ONE_WRITER, 1200, &opt, (uint64_t) kf);
	}
}

/* Keys at the limit of length, nearly equal. */
static void
longest_keys(void **state)
{
	LtgRunOptions opt = rig_options();
	uint8_t		key[LTG_KEY_MAX];
	LtgVersion	v = {.payload = key, .payload_len = 5, .state = LTG_SETTLED};
	LtgPoint	p = {0};
	LtgRunRef	ref;
	Model		m = {0};
	Rig			r;
	uint32_t	i;

	(void) state;
	rig_open(&r);
	memset(key, 'k', sizeof(key));
	for (i = 0; i < 300; i++)
	{
		ltg_store_be64(key + LTG_KEY_MAX - 8, i * 2);
		model_add(&m, key, LTG_KEY_MAX, &v);
	}
	model_add(&m, key, LTG_KEY_MAX - 8, &v);
	model_add(&m, key, 0, &v);
	model_sort(&m);
	opt.block_size = 4096;
	assert_int_equal(model_write(&r, &m, 1, &opt, &ref), LTG_OK);
	assert_int_equal(ltg_run_check(&r.s, &ref), LTG_OK);
	check_points(&r, &m, &ref);
	for (i = 0; i < 300; i++)
	{
		ltg_store_be64(key + LTG_KEY_MAX - 8, i * 2 + 1);
		assert_int_equal(ltg_run_get(&r.s, &ref, key, LTG_KEY_MAX, 0, false, &p, &v),
						 LTG_NOT_FOUND);
	}
	ltg_point_close(&r.s, &p);
	model_free(&m);
	rig_close(&r);
}

/*
 * Keys with very many versions: whoever wants the newest one reads a block of the usual
 * size, and no more than for other keys.
 */
static void
many_versions(void **state)
{
	uint8_t		payload[600] = {0};
	LtgPoint	p = {0};

	(void) state;
	for (int form = 0; form < 4; form++)
	{
		LtgRunOptions opt = rig_options();
		LtgRunRef	ref;
		Model		m = {0};
		Rig			r;
		LtgVersion	v = {.payload = payload, .payload_len = form == 1 ? 600 : 40,
			.state = LTG_COMMITTED};

		rig_open(&r);
		opt.block_size = 4096;
		opt.last_level = form >= 2;
		opt.sample_bytes = form == 3 ? 16 * 1024 : 0;
		for (uint32_t k = 0; k < 40; k++)
		{
			uint8_t		key[4] = {0, 0, 0, (uint8_t) (k * 3)};
			uint32_t	versions = k % 7 == 3 ? 3000 : k % 5 == 0 ? 60 : 1;

			for (uint32_t i = 0; i < versions; i++)
			{
				ltg_store32(payload, i);
				v.seq = v.xid = 100 + i;
				model_add(&m, key, 4, &v);
			}
		}
		model_sort(&m);
		assert_int_equal(model_write(&r, &m, 1, &opt, &ref), LTG_OK);
		assert_int_equal(ltg_run_check(&r.s, &ref), LTG_OK);
		check_points(&r, &m, &ref);
		for (uint32_t k = 0; k < 40; k++)
		{
			uint8_t		key[4] = {0, 0, 0, (uint8_t) (k * 3)};
			uint64_t	before = r.s.blocks_read;

			assert_int_equal(ltg_run_get(&r.s, &ref, key, 4, 0, false, &p, &v), LTG_OK);
			assert_int_equal(r.s.blocks_read - before, ref.height + 1);
			if (p.block_len > (form == 1 ? 2 * 700 : 4096 / 8 + 100))
				assert_true(k % 7 != 3);
		}
		ltg_point_close(&r.s, &p);
		model_free(&m);
		rig_close(&r);
	}
}

static void
tiny_runs(void **state)
{
	LtgRunOptions opt = rig_options();
	uint32_t	n;
	int			kf;

	(void) state;
	for (n = 1; n < 6; n++)
	{
		for (kf = 0; kf < KEY_FORMS; kf++)
		{
			round_trip((KeyForm) kf, SETTLED, n, &opt, n);
			round_trip((KeyForm) kf, MIXED, n, &opt, n);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_forms),
		cmocka_unit_test(tall_trees),
		cmocka_unit_test(huge_blocks),
		cmocka_unit_test(longest_keys),
		cmocka_unit_test(many_versions),
		cmocka_unit_test(tiny_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
