/*
 * memtable_test.c
 *	  One generation in one thread: against a model, at its limits, and what
 *	  the checker finds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "storage/run.h"
#include "tree/memtable.h"

#define ARENA_BYTES (4 * 1024 * 1024)
#define STORE 7

/* What a test put in, one entry per version, in insertion order. */
typedef struct Put
{
	uint64_t	store;
	uint8_t		key[40];
	uint32_t	key_len;
	LtgVersion	v;
	uint8_t		payload[48];
} Put;

typedef struct Fixture
{
	void	   *mem;
	LtgGeneration *g;
} Fixture;

static uint64_t
next_random(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static int
setup(void **state)
{
	Fixture    *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->mem = aligned_alloc(64, ARENA_BYTES);
	assert_non_null(f->mem);
	/* An arena may hold anything before it is formatted. */
	memset(f->mem, 0xA5, ARENA_BYTES);
	f->g = ltg_gen_init(f->mem, ARENA_BYTES);
	ltg_gen_reset(f->g, 1);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	Fixture    *f = *state;

	free(f->mem);
	free(f);
	return 0;
}

static LtgMemVersion *
put(LtgGeneration *g, uint64_t store, const uint8_t *key, uint32_t key_len,
	const LtgVersion *v)
{
	uint64_t	token;
	LtgMemVersion *mv;

	if (!ltg_gen_prepare(g, store))
		return NULL;
	token = ltg_gen_reserve(g, ltg_mem_need(key_len, v->payload_len));
	if (token == 0)
		return NULL;
	mv = ltg_mem_insert(g, store, key, key_len, ltg_key_hash(key, key_len), v, &token);
	assert_non_null(mv);
	return mv;
}

static void
check(LtgGeneration *g)
{
	char		msg[200] = "";

	if (!ltg_gen_check(g, msg, sizeof(msg)))
		fail_msg("%s", msg);
}

static void
assert_same_version(const LtgVersion *got, const LtgVersion *want)
{
	assert_int_equal(got->kind, want->kind);
	assert_int_equal(got->state, want->state);
	assert_int_equal(got->tag, want->tag);
	assert_int_equal(got->flags, want->flags);
	assert_int_equal(got->cid, want->cid);
	assert_int_equal(got->xid, want->xid);
	assert_int_equal(got->seq, want->seq);
	assert_int_equal(got->aux, want->kind == LTG_PUT ? 0 : want->aux);
	assert_int_equal(got->payload_len, want->payload_len);
	assert_int_equal((uintptr_t) got->payload % 8, 0);
	assert_memory_equal(got->payload, want->payload, want->payload_len);
}

static void
test_empty(void **state)
{
	LtgGeneration *g = ((Fixture *) *state)->g;
	LtgMemList *l;
	LtgSeq		min,
				max;

	assert_int_equal(ltg_gen_number(g), 1);
	assert_int_equal(ltg_gen_used(g), 0);
	assert_true(ltg_gen_capacity(g) > ARENA_BYTES / 2);
	assert_null(ltg_gen_list(g, STORE));
	assert_null(ltg_mem_find(g, STORE, (const uint8_t *) "a", 1, 1));
	ltg_gen_seq_range(g, &min, &max);
	assert_int_equal(min, 0);
	assert_int_equal(max, 0);
	assert_true(ltg_gen_prepare(g, STORE));
	l = ltg_gen_list(g, STORE);
	assert_non_null(l);
	assert_null(ltg_mem_seek_ge(g, l, NULL, 0));
	assert_null(ltg_mem_seek_le(g, l, NULL, 0));
	assert_null(ltg_mem_seek_ge(g, l, (const uint8_t *) "x", 1));
	assert_null(ltg_mem_seek_le(g, l, (const uint8_t *) "x", 1));
	check(g);
}

static int
cmp_puts(const void *a, const void *b)
{
	const Put  *x = *(Put *const *) a;
	const Put  *y = *(Put *const *) b;
	uint32_t	n = x->key_len < y->key_len ? x->key_len : y->key_len;
	int			c;

	if (x->store != y->store)
		return x->store < y->store ? -1 : 1;
	c = memcmp(x->key, y->key, n);
	if (c == 0)
		c = (x->key_len > y->key_len) - (x->key_len < y->key_len);
	if (c == 0)
		c = (x->v.seq < y->v.seq) - (x->v.seq > y->v.seq);
	return c;
}

/* Keys over a small alphabet with many common prefixes and zero bytes. */
static void
random_put(uint64_t *rnd, Put *p, LtgSeq seq)
{
	p->store = next_random(rnd) % 3 * 1000003;
	p->key_len = (uint32_t) (next_random(rnd) % 4 == 0 ? next_random(rnd) % 30 :
							 next_random(rnd) % 11);
	for (uint32_t i = 0; i < p->key_len; i++)
		p->key[i] = i < 7 || next_random(rnd) % 8 == 0 ?
			(uint8_t) (next_random(rnd) % 3 * 0x7F) : 0;
	p->v.payload_len = (uint32_t) (next_random(rnd) % sizeof(p->payload));
	for (uint32_t i = 0; i < p->v.payload_len; i++)
		p->payload[i] = (uint8_t) next_random(rnd);
	p->v.payload = p->payload;
	p->v.kind = (LtgKind) (next_random(rnd) % 3);
	p->v.state = (LtgState) (next_random(rnd) % 4);
	p->v.tag = (uint8_t) (next_random(rnd) % 127);
	p->v.flags = (uint8_t) (next_random(rnd) & LTG_VF_FLAG_MASK);
	p->v.cid = (uint32_t) next_random(rnd);
	p->v.xid = next_random(rnd) | 1;
	p->v.seq = seq;
	p->v.aux = p->v.kind == LTG_PUT ? 0 : next_random(rnd);
}

/* Walk a list forward and compare with the sorted model from *i on. */
static void
compare_store(LtgGeneration *g, Put **sorted, uint32_t n, uint32_t *i)
{
	uint64_t	store = sorted[*i]->store;
	LtgMemList *l = ltg_gen_list(g, store);
	LtgMemNode *prev = NULL;

	assert_non_null(l);
	for (LtgMemNode *node = ltg_mem_seek_ge(g, l, NULL, 0); node != NULL;
		 node = ltg_mem_next(g, node))
	{
		const uint8_t *key;
		uint32_t	key_len;
		Put		   *first;

		assert_true(*i < n);
		first = sorted[*i];
		assert_int_equal(first->store, store);
		ltg_mem_node_key(node, &key, &key_len);
		assert_int_equal(key_len, first->key_len);
		assert_memory_equal(key, first->key, key_len);
		assert_ptr_equal(ltg_mem_find(g, store, key, key_len,
									  ltg_key_hash(key, key_len)), node);
		assert_ptr_equal(ltg_mem_prev(g, l, node), prev);
		assert_ptr_equal(ltg_mem_seek_ge(g, l, key, key_len), node);
		assert_ptr_equal(ltg_mem_seek_le(g, l, key, key_len), node);
		for (LtgMemVersion *mv = ltg_mem_newest(g, node); mv != NULL;
			 mv = ltg_mem_older(g, mv), (*i)++)
		{
			LtgVersion	v;

			assert_true(*i < n);
			ltg_mem_read(mv, &v);
			assert_same_version(&v, &sorted[*i]->v);
			assert_int_equal(sorted[*i]->key_len, key_len);
			assert_memory_equal(sorted[*i]->key, key, key_len);
		}
		prev = node;
	}
	assert_ptr_equal(ltg_mem_seek_le(g, l, NULL, 0), prev);
	assert_true(*i == n || sorted[*i]->store != store);
}

static void
count_stores(void *arg, uint64_t store_id, uint64_t nodes, uint64_t bytes)
{
	uint64_t   *total = arg;

	assert_true(store_id % 1000003 == 0);
	assert_true(bytes >= nodes);
	*total += nodes;
}

static void
test_model(void **state)
{
	LtgGeneration *g = ((Fixture *) *state)->g;
	uint64_t	rnd = 42;

	for (uint64_t round = 0; round < 4; round++)
	{
		uint32_t	n = round == 0 ? 50 : 8000;
		Put		   *puts = calloc(n, sizeof(Put));
		Put		  **sorted = calloc(n, sizeof(Put *));
		uint64_t	nodes = 0,
					keys = 0;
		LtgSeq		min,
					max;

		ltg_gen_reset(g, round + 2);
		assert_int_equal(ltg_gen_number(g), round + 2);
		for (uint32_t i = 0; i < n; i++)
		{
			random_put(&rnd, &puts[i], 100 + i);
			sorted[i] = &puts[i];
			assert_non_null(put(g, puts[i].store, puts[i].key, puts[i].key_len,
								&puts[i].v));
		}
		check(g);
		ltg_gen_seq_range(g, &min, &max);
		assert_int_equal(min, 100);
		assert_int_equal(max, 100 + n - 1);
		qsort(sorted, n, sizeof(Put *), cmp_puts);
		for (uint32_t i = 0; i < n;)
			compare_store(g, sorted, n, &i);
		for (uint32_t i = 0; i < n; i++)
			keys += i == 0 || sorted[i]->store != sorted[i - 1]->store ||
				sorted[i]->key_len != sorted[i - 1]->key_len ||
				memcmp(sorted[i]->key, sorted[i - 1]->key, sorted[i]->key_len) != 0;
		ltg_gen_stores(g, count_stores, &nodes);
		assert_int_equal(nodes, keys);
		free(puts);
		free(sorted);
	}
}

/* Seeks for keys that are not there. */
static void
test_seek_between(void **state)
{
	LtgGeneration *g = ((Fixture *) *state)->g;
	LtgVersion	v = {.seq = 1, .xid = 5};
	LtgMemList *l;

	for (uint32_t i = 1; i < 2000; i++)
	{
		uint8_t		key[5] = {0, 0, (uint8_t) (i * 2 >> 16), (uint8_t) (i * 2 >> 8),
			(uint8_t) (i * 2)};

		v.seq++;
		assert_non_null(put(g, STORE, key, 5, &v));
	}
	l = ltg_gen_list(g, STORE);
	for (uint32_t i = 1; i < 4000; i++)
	{
		uint8_t		key[5] = {0, 0, (uint8_t) (i >> 16), (uint8_t) (i >> 8), (uint8_t) i};
		LtgMemNode *ge = ltg_mem_seek_ge(g, l, key, 5);
		LtgMemNode *le = ltg_mem_seek_le(g, l, key, 5);
		const uint8_t *k;
		uint32_t	len;

		if (i > 3998)
			assert_null(ge);
		else
		{
			ltg_mem_node_key(ge, &k, &len);
			assert_int_equal(k[2] << 16 | k[3] << 8 | k[4], (i + 1) / 2 * 2);
		}
		if (i < 2)
			assert_null(le);
		else
		{
			ltg_mem_node_key(le, &k, &len);
			assert_int_equal(k[2] << 16 | k[3] << 8 | k[4], i / 2 * 2);
		}
		if (i % 2 == 1)
			assert_null(ltg_mem_find(g, STORE, key, 5, ltg_key_hash(key, 5)));
		assert_null(ltg_mem_find(g, STORE + 1, key, 5, ltg_key_hash(key, 5)));
	}
	check(g);
}

static void
test_mark(void **state)
{
	LtgGeneration *g = ((Fixture *) *state)->g;
	LtgVersion	v = {.seq = 9, .xid = 77, .cid = 3, .flags = 0x04};
	LtgVersion	r;
	LtgMemVersion *mv = put(g, STORE, (const uint8_t *) "k", 1, &v);

	ltg_mem_mark(mv, LTG_UNRESOLVED);
	ltg_mem_read(mv, &r);
	assert_int_equal(r.state, LTG_UNRESOLVED);
	ltg_mem_mark(mv, LTG_COMMITTED);
	ltg_mem_mark(mv, LTG_ABORTED);
	ltg_mem_read(mv, &r);
	assert_int_equal(r.state, LTG_COMMITTED);
	assert_int_equal(r.xid, 77);
	ltg_mem_mark(mv, LTG_SETTLED);
	ltg_mem_mark(mv, LTG_COMMITTED);
	ltg_mem_read(mv, &r);
	assert_int_equal(r.state, LTG_SETTLED);
	assert_int_equal(r.xid, 77);
	assert_int_equal(r.seq, 9);
	assert_int_equal(r.flags, 0x04);

	v.seq = 10;
	mv = put(g, STORE, (const uint8_t *) "k", 1, &v);
	ltg_mem_mark(mv, LTG_ABORTED);
	ltg_mem_mark(mv, LTG_COMMITTED);
	ltg_mem_read(mv, &r);
	assert_int_equal(r.state, LTG_ABORTED);
}

/* Fill to the brim: reserve says no, and goes on saying no; reset helps. */
static void
test_full(void **state)
{
	LtgGeneration *g = ((Fixture *) *state)->g;
	uint64_t	rnd = 1;

	for (int round = 0; round < 2; round++)
	{
		uint64_t	n = 0;
		uint8_t		payload[100] = {0};
		LtgVersion	v = {.payload = payload, .payload_len = 100};
		uint64_t	key;

		do
		{
			key = next_random(&rnd);
			v.seq = ++n;
		} while (put(g, 1 + n % 5, (const uint8_t *) &key, 8, &v) != NULL);
		assert_in_range(n, 18000, 24000);
		for (int i = 0; i < 1000; i++)
		{
			assert_int_equal(ltg_gen_reserve(g, 1000), 0);
			assert_int_equal(ltg_gen_reserve(g, SIZE_MAX / 2), 0);
		}
		assert_true(ltg_gen_used(g) <= ltg_gen_capacity(g));
		check(g);
		/* Stores that come late still get a list. */
		for (uint64_t i = 0; i < 50; i++)
			assert_true(ltg_gen_prepare(g, 1000 + i));
		ltg_gen_reset(g, 5);
		assert_int_equal(ltg_gen_used(g), 0);
		assert_null(ltg_gen_list(g, 1));
		check(g);
	}
}

static void
test_many_stores(void **state)
{
	LtgGeneration *g = ((Fixture *) *state)->g;
	LtgVersion	v = {.seq = 1};
	uint64_t	n = 0;

	while (put(g, n * 4096, (const uint8_t *) "key", 3, &v) != NULL)
		n++;
	assert_true(n > 8000);
	for (uint64_t i = 0; i < n; i++)
	{
		assert_non_null(ltg_gen_list(g, i * 4096));
		assert_null(ltg_gen_list(g, i * 4096 + 1));
		assert_non_null(ltg_mem_find(g, i * 4096, (const uint8_t *) "key", 3,
									 ltg_key_hash((const uint8_t *) "key", 3)));
	}
	check(g);
}

static void
test_large(void **state)
{
	LtgGeneration *g = ((Fixture *) *state)->g;
	uint8_t    *payload = calloc(1, LTG_PAYLOAD_MAX);
	uint8_t		key[LTG_KEY_MAX];
	LtgVersion	v = {.payload = payload, .payload_len = LTG_PAYLOAD_MAX, .seq = 1};
	LtgVersion	r;

	memset(key, 'k', sizeof(key));
	memset(payload, 'p', LTG_PAYLOAD_MAX);
	assert_non_null(put(g, STORE, key, LTG_KEY_MAX, &v));
	key[LTG_KEY_MAX - 1] = 'j';
	assert_non_null(put(g, STORE, key, LTG_KEY_MAX, &v));
	ltg_mem_read(ltg_mem_newest(g, ltg_mem_find(g, STORE, key, LTG_KEY_MAX,
												ltg_key_hash(key, LTG_KEY_MAX))), &r);
	assert_int_equal(r.payload_len, LTG_PAYLOAD_MAX);
	assert_memory_equal(r.payload, payload, LTG_PAYLOAD_MAX);
	check(g);
	free(payload);
}

static void
test_unreserve(void **state)
{
	LtgGeneration *g = ((Fixture *) *state)->g;
	uint64_t	a = ltg_gen_reserve(g, 100);
	uint64_t	used = ltg_gen_used(g);
	uint64_t	b = ltg_gen_reserve(g, 51);

	ltg_gen_unreserve(g, a, a + 100);	/* not the last: stays */
	assert_true(ltg_gen_used(g) > used);
	ltg_gen_unreserve(g, b, b + 51);
	assert_int_equal(ltg_gen_used(g), used);
	ltg_gen_unreserve(g, a, a + 100);
	assert_int_equal(ltg_gen_used(g), 0);
}

/* The checker must notice: order of versions, keys, a hash that misleads. */
static void
test_checker(void **state)
{
	LtgGeneration *g = ((Fixture *) *state)->g;
	LtgVersion	v = {.seq = 5};
	LtgMemVersion *first,
			   *second;
	LtgMemNode *n;
	const uint8_t *key;
	uint32_t	key_len;
	LtgSeq		wrong = 1;
	char		msg[200];

	first = put(g, STORE, (const uint8_t *) "bb", 2, &v);
	v.seq = 6;
	second = put(g, STORE, (const uint8_t *) "bb", 2, &v);
	assert_non_null(put(g, STORE, (const uint8_t *) "cc", 2, &v));
	assert_ptr_not_equal(first, second);
	check(g);
	memcpy((char *) second + 8, &wrong, 8);
	assert_false(ltg_gen_check(g, msg, sizeof(msg)));
	assert_non_null(strstr(msg, "newest first"));
	wrong = 6;
	memcpy((char *) second + 8, &wrong, 8);
	check(g);
	n = ltg_mem_find(g, STORE, (const uint8_t *) "bb", 2,
					 ltg_key_hash((const uint8_t *) "bb", 2));
	ltg_mem_node_key(n, &key, &key_len);
	((uint8_t *) (uintptr_t) key)[0] = 'x';
	assert_false(ltg_gen_check(g, msg, sizeof(msg)));
	((uint8_t *) (uintptr_t) key)[0] = 'a';
	assert_false(ltg_gen_check(g, msg, sizeof(msg)));
	assert_non_null(strstr(msg, "hash"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_seek_between, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mark, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_stores, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unreserve, setup, teardown),
		cmocka_unit_test_setup_teardown(test_checker, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
