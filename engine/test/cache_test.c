/*
 * cache_test.c
 *	  The block cache in one thread: CAR against a plain model of the paper's
 *	  algorithm, hit rates against LRU and CLOCK, scans, epochs, limits.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mem_rig.h"
#include "storage/cache.h"

#define FRAME 64

typedef struct Fixture
{
	MemRig		rig;
	LtgSession *s;
	void	   *mem;
	LtgCache   *c;
	LtgCacheStats st;
} Fixture;

static void
open_cache(Fixture *f, size_t size, uint32_t frame_size)
{
	mem_rig_open(&f->rig);
	f->s = &f->rig.session[0];
	f->mem = malloc(size);
	assert_non_null(f->mem);
	memset(f->mem, 0xA5, size);
	f->c = ltg_cache_init(f->mem, size, frame_size);
	ltg_cache_stats(f->s, f->c, &f->st);
}

static void
close_cache(Fixture *f)
{
	char		msg[160] = "";

	if (!ltg_cache_check(f->s, f->c, msg, sizeof(msg)))
		fail_msg("%s", msg);
	free(f->mem);
	mem_rig_close(&f->rig);
}

static void
expect_block(const uint8_t *data, uint32_t len, uint64_t key)
{
	uint64_t	got;

	assert_int_equal((uintptr_t) data % 8, 0);
	assert_int_equal(len, 8);
	memcpy(&got, data, 8);
	assert_int_equal(got, key);
}

/* One access as a reader makes it, in an epoch of its own; true on a hit. */
static bool
access_key(Fixture *f, uint64_t key)
{
	uint32_t	len = 0;
	const uint8_t *data;
	bool		hit = true;

	ltg_epoch_enter(f->s);
	data = ltg_cache_lookup(f->s, f->c, 1 + key % 7, key / 7 * 4096, &len);
	if (data == NULL)
	{
		LtgFrame   *frame = ltg_cache_reserve(f->s, f->c, 8);

		hit = false;
		assert_non_null(frame);
		memcpy(ltg_frame_data(frame), &key, 8);
		data = ltg_cache_publish(f->s, f->c, frame, 1 + key % 7, key / 7 * 4096, 8);
		len = 8;
	}
	expect_block(data, len, key);
	ltg_epoch_leave(f->s);
	return hit;
}

static bool
resident(Fixture *f, uint64_t key)
{
	uint32_t	len;
	bool		found;

	ltg_epoch_enter(f->s);
	found = ltg_cache_peek(f->s, f->c, 1 + key % 7, key / 7 * 4096, &len) != NULL;
	ltg_epoch_leave(f->s);
	return found;
}

/* ---- the paper's algorithm, as plainly as can be ---- */

#define MODEL_MAX 256

typedef struct List
{
	uint64_t	key[MODEL_MAX]; /* [0] is the head or least recently used */
	bool		ref[MODEL_MAX];
	uint32_t	n;
} List;

typedef struct Model
{
	uint32_t	c,
				p;
	List		t1,
				t2,
				b1,
				b2;
	uint64_t	last;			/* entered */
	uint32_t	hits_since;
} Model;

static int
list_find(const List *l, uint64_t key)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (l->key[i] == key)
			return (int) i;
	return -1;
}

static void
list_append(List *l, uint64_t key)
{
	assert_true(l->n < MODEL_MAX);
	l->key[l->n] = key;
	l->ref[l->n++] = false;
}

static void
list_remove(List *l, int i)
{
	assert_true(i >= 0 && (uint32_t) i < l->n);
	for (uint32_t j = (uint32_t) i; j + 1 < l->n; j++)
	{
		l->key[j] = l->key[j + 1];
		l->ref[j] = l->ref[j + 1];
	}
	l->n--;
}

static void
model_replace(Model *m)
{
	for (;;)
	{
		bool		first = m->t1.n >= (m->p > 1 ? m->p : 1);
		List	   *t = first ? &m->t1 : &m->t2;
		uint64_t	key = t->key[0];
		bool		ref = t->ref[0];

		list_remove(t, 0);
		if (!ref)
		{
			list_append(first ? &m->b1 : &m->b2, key);
			return;
		}
		list_append(&m->t2, key);
	}
}

static bool
model_access(Model *m, uint64_t key)
{
	int			i;
	bool		in_b1,
				in_b2;
	uint32_t	ratio;

	bool		same_use = key == m->last && m->hits_since < 64;

	m->hits_since++;
	if ((i = list_find(&m->t1, key)) >= 0)
	{
		m->t1.ref[i] |= !same_use;
		return true;
	}
	if ((i = list_find(&m->t2, key)) >= 0)
	{
		m->t2.ref[i] |= !same_use;
		return true;
	}
	m->last = key;
	m->hits_since = 0;
	in_b1 = list_find(&m->b1, key) >= 0;
	in_b2 = list_find(&m->b2, key) >= 0;
	if (m->t1.n + m->t2.n == m->c)
	{
		model_replace(m);
		if (!in_b1 && !in_b2 && m->t1.n + m->b1.n == m->c)
			list_remove(&m->b1, 0);
		else if (!in_b1 && !in_b2 &&
				 m->t1.n + m->t2.n + m->b1.n + m->b2.n == 2 * m->c)
			list_remove(&m->b2, 0);
	}
	if (in_b1)
	{
		ratio = m->b2.n / m->b1.n;
		m->p += ratio > 1 ? ratio : 1;
		m->p = m->p > m->c ? m->c : m->p;
		list_remove(&m->b1, list_find(&m->b1, key));
	}
	else if (in_b2)
	{
		ratio = m->b1.n / m->b2.n;
		ratio = ratio > 1 ? ratio : 1;
		m->p = m->p > ratio ? m->p - ratio : 0;
		list_remove(&m->b2, list_find(&m->b2, key));
	}
	list_append(in_b1 || in_b2 ? &m->t2 : &m->t1, key);
	return false;
}

/* A key as some pattern gives it: loops, hot sets, scans, in turns. */
static uint64_t
trace_key(uint64_t *rnd, uint64_t step, uint32_t c)
{
	switch (step / 500 % 5)
	{
		case 0:
			return mem_random(rnd) % (c * 3);
		case 1:
			return mem_random(rnd) % 100 < 80 ? mem_random(rnd) % (c / 2 + 1) :
				mem_random(rnd) % (c * 4);
		case 2:
			return 10000 + step;	/* a scan */
		case 3:
			return step % (c + c / 4 + 1);	/* a loop a little too long */
		default:
			return mem_random(rnd) % (mem_random(rnd) % (c * 2) + 1);
	}
}

static void
test_model(void **state)
{
	size_t		sizes[] = {12000, 13000, 16000, 30000};

	(void) state;
	for (size_t t = 0; t < sizeof(sizes) / sizeof(sizes[0]); t++)
	{
		Fixture		f;
		Model	   *m = calloc(1, sizeof(Model));
		uint64_t	rnd = 11 + t;
		uint64_t	hits = 0;

		open_cache(&f, sizes[t], FRAME);
		/*
		 * c is what it settles at once it is full.  (Each twice: without any
		 * hits the cache would begin to keep what it has.)
		 */
		for (uint64_t key = 0; key < 2000; key++)
			access_key(&f, 1000000 + key / 2);
		ltg_cache_stats(f.s, f.c, &f.st);
		m->c = (uint32_t) (f.st.t1 + f.st.t2);
		assert_in_range(m->c, 4, MODEL_MAX / 2 - 2);
		for (uint64_t key = 0; key < 2000; key++)
			model_access(m, 1000000 + key / 2);

		for (uint64_t step = 0; step < 20000; step++)
		{
			uint64_t	key = step % 7 == 0 ? m->last : trace_key(&rnd, step, m->c);
			bool		hit = access_key(&f, key);

			assert_int_equal(hit, model_access(m, key));
			hits += hit;
			ltg_cache_stats(f.s, f.c, &f.st);
			assert_int_equal(f.st.t1, m->t1.n);
			assert_int_equal(f.st.t2, m->t2.n);
			assert_int_equal(f.st.b1, m->b1.n);
			assert_int_equal(f.st.b2, m->b2.n);
			assert_int_equal(f.st.p, m->p);
			if (step % 100 == 0)
			{
				for (uint32_t i = 0; i < m->t1.n; i++)
					assert_true(resident(&f, m->t1.key[i]));
				for (uint32_t i = 0; i < m->t2.n; i++)
					assert_true(resident(&f, m->t2.key[i]));
			}
		}
		assert_int_equal(f.st.hits, 1000 + hits);
		assert_int_equal(f.st.misses, 1000 + 20000 - hits);
		assert_int_equal(f.st.bypasses, 0);
		free(m);
		close_cache(&f);
	}
}

/* ---- hit rates ---- */

#define KEYS 20000

/* Zipf over 0..KEYS-1 by bisection of the cumulated weights. */
static double zipf_sum[KEYS];

static void
zipf_init(double theta)
{
	double		sum = 0;

	for (int i = 0; i < KEYS; i++)
		zipf_sum[i] = sum += pow(i + 1, -theta);
	for (int i = 0; i < KEYS; i++)
		zipf_sum[i] /= sum;
}

static uint64_t
zipf_key(uint64_t *rnd)
{
	double		x = (double) (mem_random(rnd) >> 11) / 9007199254740992.0;
	int			lo = 0,
				hi = KEYS - 1;

	while (lo < hi)
	{
		int			mid = (lo + hi) / 2;

		if (zipf_sum[mid] < x)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* Scatter, so that neighbours are not equally hot. */
	return (uint64_t) lo * 7919 % KEYS;
}

/* LRU and CLOCK on the same trace; stamp[] and slot[] are their whole state. */
typedef struct Sim
{
	uint32_t	c,
				used,
				hand;
	bool		lru;
	int32_t		slot_of[KEYS * 2];
	uint64_t   *slot_key;
	bool	   *slot_ref;
	uint32_t   *newer;			/* LRU list by slot */
	uint32_t   *older;
	uint32_t	newest,
				oldest;
} Sim;

static Sim *
sim_open(uint32_t c, bool lru)
{
	Sim		   *sim = calloc(1, sizeof(Sim));

	sim->c = c;
	sim->lru = lru;
	sim->slot_key = calloc(c, sizeof(uint64_t));
	sim->slot_ref = calloc(c, sizeof(bool));
	sim->newer = calloc(c + 1, sizeof(uint32_t));
	sim->older = calloc(c + 1, sizeof(uint32_t));
	memset(sim->slot_of, 0xFF, sizeof(sim->slot_of));
	sim->newest = sim->oldest = c;	/* c: the list's end */
	sim->newer[c] = sim->older[c] = c;
	return sim;
}

static void
sim_free(Sim *sim)
{
	free(sim->slot_key);
	free(sim->slot_ref);
	free(sim->newer);
	free(sim->older);
	free(sim);
}

static void
sim_unlink(Sim *sim, uint32_t i)
{
	sim->older[sim->newer[i]] = sim->older[i];
	sim->newer[sim->older[i]] = sim->newer[i];
}

static void
sim_front(Sim *sim, uint32_t i)
{
	/* The end element closes the ring: its older one is the newest. */
	sim->older[i] = sim->older[sim->c];
	sim->newer[i] = sim->c;
	sim->newer[sim->older[i]] = i;
	sim->older[sim->c] = i;
}

static bool
sim_access(Sim *sim, uint64_t key)
{
	int32_t		at = sim->slot_of[key];
	uint32_t	i;

	if (at >= 0)
	{
		sim->slot_ref[at] = true;
		if (sim->lru)
		{
			sim_unlink(sim, (uint32_t) at);
			sim_front(sim, (uint32_t) at);
		}
		return true;
	}
	if (sim->used < sim->c)
		i = sim->used++;
	else if (sim->lru)
	{
		i = sim->newer[sim->c]; /* oldest */
		sim_unlink(sim, i);
		sim->slot_of[sim->slot_key[i]] = -1;
	}
	else
	{
		while (sim->slot_ref[sim->hand])
		{
			sim->slot_ref[sim->hand] = false;
			sim->hand = (sim->hand + 1) % sim->c;
		}
		i = sim->hand;
		sim->hand = (sim->hand + 1) % sim->c;
		sim->slot_of[sim->slot_key[i]] = -1;
	}
	sim->slot_key[i] = key;
	sim->slot_ref[i] = false;
	sim->slot_of[key] = (int32_t) i;
	if (sim->lru)
		sim_front(sim, i);
	return false;
}

typedef struct Rates
{
	double		car,
				lru,
				clock;
} Rates;

/*
 * Zipf accesses, with a long scan (keys never used otherwise) mixed in once in
 * a while; hits are counted among the zipf ones, in the second half.
 */
static Rates
measure(Fixture *f, uint32_t c, uint32_t steps, bool scans)
{
	Sim		   *lru = sim_open(c, true);
	Sim		   *clock = sim_open(c, false);
	Rates		r = {0, 0, 0};
	uint64_t	rnd = 99;
	uint64_t	scan_at = 0;

	for (uint32_t i = 0; i < steps; i++)
	{
		uint64_t	key = zipf_key(&rnd);
		double		weight = i >= steps / 2 ? 1.0 / (steps - steps / 2) : 0;

		r.car += access_key(f, key) * weight;
		r.lru += sim_access(lru, key) * weight;
		r.clock += sim_access(clock, key) * weight;
		if (scans && i % (steps / 20) == 0)
			for (uint32_t j = 0; j < c; j++)
			{
				key = KEYS + scan_at++ % KEYS;
				access_key(f, key);
				sim_access(lru, key);
				sim_access(clock, key);
			}
	}
	sim_free(lru);
	sim_free(clock);
	return r;
}

static void
test_hit_rates(void **state)
{
	Fixture		f;
	Rates		r;
	double		best;

	(void) state;
	zipf_init(0.99);
	open_cache(&f, KEYS / 10 * 237, FRAME);
	for (uint64_t key = 0; key < KEYS; key++)
		access_key(&f, KEYS + key);
	ltg_cache_stats(f.s, f.c, &f.st);
	assert_in_range(f.st.t1 + f.st.t2, KEYS / 10 * 9 / 10, KEYS / 10);
	/* Holding the hottest keys for ever, which needs to know them. */
	best = zipf_sum[f.st.t1 + f.st.t2 - 1];
	r = measure(&f, (uint32_t) (f.st.t1 + f.st.t2), 400000, false);
	print_message("zipf 0.99, %llu of %d keys: CAR %.1f%%, LRU %.1f%%, CLOCK %.1f%%, "
				  "hottest keys %.1f%%\n", (unsigned long long) (f.st.t1 + f.st.t2), KEYS,
				  r.car * 100, r.lru * 100, r.clock * 100, best * 100);
	assert_true(r.car >= 0.94 * best);
	assert_true(r.car > r.lru && r.car > r.clock);

	r = measure(&f, (uint32_t) (f.st.t1 + f.st.t2), 400000, true);
	print_message("the same with 20 scans of the cache's size: CAR %.1f%%, LRU %.1f%%, "
				  "CLOCK %.1f%%\n", r.car * 100, r.lru * 100, r.clock * 100);
	assert_true(r.car >= 0.94 * best);
	assert_true(r.car > r.lru && r.car > r.clock);
	close_cache(&f);
}

/* A working set in use survives a scan of many times the cache's size. */
static void
test_scan_resistance(void **state)
{
	Fixture		f;
	uint32_t	hot;
	uint32_t	kept = 0;

	(void) state;
	open_cache(&f, 100000, FRAME);
	hot = (uint32_t) f.st.frames / 2;
	for (int round = 0; round < 4; round++)
		for (uint64_t key = 0; key < hot; key++)
			access_key(&f, key);
	/* A scan comes back to each block, as it goes on batch by batch. */
	for (uint64_t key = 0; key < f.st.frames * 20; key++)
		for (int batch = 0; batch < 3; batch++)
			access_key(&f, 1000000 + key);
	for (uint64_t key = 0; key < hot; key++)
		kept += resident(&f, key);
	assert_int_equal(kept, hot);
	close_cache(&f);
}

/* ---- epochs, races by hand, limits ---- */

/* What a reader has found stays whole while its epoch lasts, whatever happens. */
static void
test_epoch_protects(void **state)
{
	Fixture		f;
	LtgSession *reader;
	const uint8_t *data;
	uint32_t	len;
	uint64_t	bypassed = 0;

	(void) state;
	open_cache(&f, 20000, FRAME);
	reader = &f.rig.session[1];
	access_key(&f, 14);
	ltg_epoch_enter(reader);
	data = ltg_cache_lookup(reader, f.c, 1, 2 * 4096, &len);
	assert_non_null(data);
	/* Others go on; frames run out before the reader's is reused. */
	for (uint64_t key = 100; key < 2000; key++)
	{
		LtgFrame   *frame;

		ltg_epoch_enter(f.s);
		frame = ltg_cache_reserve(f.s, f.c, 8);
		if (frame != NULL)
		{
			memcpy(ltg_frame_data(frame), &key, 8);
			ltg_cache_publish(f.s, f.c, frame, 9, key, 8);
		}
		else
			bypassed++;
		ltg_epoch_leave(f.s);
		expect_block(data, len, 14);
	}
	assert_true(bypassed > 1000);
	ltg_cache_drop_file(f.s, f.c, 1);
	expect_block(data, len, 14);
	ltg_epoch_leave(reader);
	assert_false(access_key(&f, 14));
	for (uint64_t key = 0; key < 1000; key++)
		access_key(&f, key);
	ltg_cache_stats(f.s, f.c, &f.st);
	assert_int_equal(f.st.bypasses, bypassed);
	close_cache(&f);
}

static void
test_publish_twice(void **state)
{
	Fixture		f;
	LtgFrame   *a,
			   *b,
			   *other;
	const uint8_t *data;

	(void) state;
	open_cache(&f, 20000, FRAME);
	ltg_epoch_enter(f.s);
	a = ltg_cache_reserve(f.s, f.c, FRAME);
	b = ltg_cache_reserve(f.s, f.c, FRAME);
	assert_ptr_not_equal(a, b);
	memset(ltg_frame_data(a), 'a', FRAME);
	memset(ltg_frame_data(b), 'b', FRAME);
	data = ltg_cache_publish(f.s, f.c, a, 3, 77, FRAME);
	assert_ptr_equal(data, ltg_frame_data(a));
	assert_ptr_equal(ltg_cache_publish(f.s, f.c, b, 3, 77, FRAME), data);
	assert_int_equal(data[FRAME - 1], 'a');
	other = ltg_cache_reserve(f.s, f.c, 1);
	ltg_cache_abandon(f.s, f.c, other);
	assert_null(ltg_cache_reserve(f.s, f.c, FRAME + 1));
	ltg_epoch_leave(f.s);
	ltg_cache_stats(f.s, f.c, &f.st);
	assert_int_equal(f.st.frames_used, 1);
	assert_int_equal(f.st.bypasses, 1);
	close_cache(&f);
}

static void
test_drop_file(void **state)
{
	Fixture		f;
	char		msg[160];

	(void) state;
	open_cache(&f, 100000, FRAME);
	for (int round = 0; round < 30; round++)
	{
		uint64_t	rnd = (uint64_t) round;

		for (uint64_t i = 0; i < f.st.frames * 3; i++)
			access_key(&f, mem_random(&rnd) % (f.st.frames * 3 / 2));
		ltg_cache_drop_file(f.s, f.c, 1 + (LtgFileId) round % 3);
		for (uint64_t key = 0; key < f.st.frames * 3 / 2; key++)
			if (1 + key % 7 == 1 + (uint64_t) round % 3)
				assert_false(resident(&f, key));
		if (!ltg_cache_check(f.s, f.c, msg, sizeof(msg)))
			fail_msg("%s", msg);
	}
	close_cache(&f);
}

/* Sizes from nothing to something: all of the memory, never more. */
static void
test_sizes(void **state)
{
	(void) state;
	for (size_t size = 8192; size < 3000000; size = size * 5 / 4 + 13)
	{
		Fixture		f;
		uint32_t	frame_size = size % 3 == 0 ? 8192 + LTG_FRAME_SLACK : 1000;
		uint8_t    *guard;

		open_cache(&f, size, frame_size);
		guard = (uint8_t *) f.mem + size - 1;
		assert_true(f.st.frames * frame_size <= size);
		if (size > 100 * frame_size)
			assert_true(f.st.frames * frame_size >= size / 10 * 7);
		for (uint64_t key = 0; key < 200 && f.st.frames >= 2; key++)
		{
			LtgFrame   *frame;

			ltg_epoch_enter(f.s);
			frame = ltg_cache_reserve(f.s, f.c, frame_size);
			if (frame != NULL)
			{
				assert_true(ltg_frame_data(frame) + frame_size <= guard + 1);
				memset(ltg_frame_data(frame), 1, frame_size);
				ltg_cache_publish(f.s, f.c, frame, 1, key, frame_size);
			}
			ltg_epoch_leave(f.s);
		}
		if (f.st.frames < 2)
		{
			uint32_t	len;

			ltg_epoch_enter(f.s);
			assert_null(ltg_cache_lookup(f.s, f.c, 1, 1, &len));
			assert_null(ltg_cache_reserve(f.s, f.c, 1));
			ltg_epoch_leave(f.s);
			ltg_cache_drop_file(f.s, f.c, 1);
		}
		close_cache(&f);
	}
}

/* A point read; true on a hit.  *entered: the block got a frame. */
static bool
point_read(Fixture *f, uint64_t key, bool *entered)
{
	LtgFileId	file = 1 + key % 7;
	uint64_t	offset = key / 7 * 4096;
	uint32_t	len = 0;
	const uint8_t *data;

	*entered = false;
	ltg_epoch_enter(f->s);
	data = ltg_cache_lookup(f->s, f->c, file, offset, &len);
	if (data == NULL && ltg_cache_wants(f->s, f->c, file, offset))
	{
		LtgFrame   *frame = ltg_cache_reserve(f->s, f->c, 8);

		assert_non_null(frame);
		memcpy(ltg_frame_data(frame), &key, 8);
		ltg_cache_publish(f->s, f->c, frame, file, offset, 8);
		*entered = true;
	}
	else if (data != NULL)
		expect_block(data, len, key);
	ltg_epoch_leave(f->s);
	return data != NULL;
}

/* Which blocks point reads bring in: see ltg_cache_wants. */
static void
test_wants(void **state)
{
	Fixture		f;
	uint64_t	next = 0;
	uint32_t	wanted = 0,
				again = 0;
	bool		entered;

	(void) state;
	open_cache(&f, 400000, FRAME);
	while (f.st.frames_used < f.st.frames - f.st.frames / 24 - 1)
	{
		assert_false(point_read(&f, next++, &entered));
		assert_true(entered);	/* there is room */
		ltg_cache_stats(f.s, f.c, &f.st);
	}
	assert_int_equal(f.st.bypasses, 0);
	while (f.st.evictions == 0)
	{
		point_read(&f, next++, &entered);
		ltg_cache_stats(f.s, f.c, &f.st);
	}
	for (int i = 0; i < 4000; i++)
	{
		point_read(&f, next++, &entered);
		wanted += entered;
		/* at once again: it is in by now, or comes in */
		if (!point_read(&f, next - 1, &entered))
			again += entered;
	}
	assert_in_range(wanted, 900, 1100);
	assert_int_equal(again, 4000 - wanted);
	for (LtgFileId file = 1; file <= 7; file++)
		ltg_cache_drop_file(f.s, f.c, file);
	point_read(&f, next, &entered);
	assert_true(entered);
	close_cache(&f);
}

/* Hits per 1000 point reads of keys chosen uniformly or by squares, and evictions. */
static uint32_t
point_reads(bool choosy, bool uniform, uint64_t *evictions)
{
	const uint64_t keys = 6000;
	Fixture		f;
	uint32_t	hits = 0;
	uint64_t	state = 7;
	bool		entered;

	open_cache(&f, 400000, FRAME);
	for (int i = 0; i < 400000; i++)
	{
		uint64_t	key;

		state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
		key = (state >> 33) % keys;
		if (!uniform)
			key = key * key / keys;
		if (choosy ? point_read(&f, key, &entered) : access_key(&f, key))
			hits += i >= 200000;
	}
	ltg_cache_stats(f.s, f.c, &f.st);
	*evictions = f.st.evictions;
	close_cache(&f);
	return hits / 200;
}

/* Being choosy costs no hits, and spares most of the replacing. */
static void
test_wants_hit_rates(void **state)
{
	(void) state;
	for (int uniform = 0; uniform < 2; uniform++)
	{
		uint64_t	evictions;
		uint64_t	evictions_all;
		uint32_t	all = point_reads(false, uniform, &evictions_all);
		uint32_t	choosy = point_reads(true, uniform, &evictions);

		print_message("%s: %u of 1000 point reads are hits when all blocks are entered (%llu evictions), %u when not (%llu)\n",
					  uniform ? "uniform" : "skewed", all, (unsigned long long) evictions_all,
					  choosy, (unsigned long long) evictions);
		assert_true(choosy + 5 >= all);
		assert_true(evictions * 5 <= evictions_all * 3);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_hit_rates),
		cmocka_unit_test(test_scan_resistance),
		cmocka_unit_test(test_epoch_protects),
		cmocka_unit_test(test_publish_twice),
		cmocka_unit_test(test_drop_file),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_wants),
		cmocka_unit_test(test_wants_hit_rates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
