/*
 * memory.c
 *	  What the in-memory parts of the engine cost per operation: one thread, one
 *	  generation, one cache; nanoseconds, the best of some rounds.
 *
 *	 memory [keys] [rounds]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/epoch.h"
#include "port/port_posix.h"
#include "storage/cache.h"
#include "storage/run.h"
#include "tree/memtable.h"

static uint64_t n_keys = 500000;
static int	rounds = 3;
static uint64_t sink;

static double
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec * 1e9 + (double) t.tv_nsec;
}

static uint64_t
scatter(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
	return x ^ (x >> 31);
}

typedef enum KeyOrder
{
	ROWIDS,						/* 5 bytes, ascending */
	TWO_LOADERS,				/* 5 bytes, two ascending runs in turns */
	RANDOM16					/* 16 bytes, random */
} KeyOrder;

static uint32_t
make_key(KeyOrder order, uint64_t i, uint8_t *key)
{
	uint64_t	x = i;

	if (order == RANDOM16)
	{
		snprintf((char *) key, 17, "%016llx", (unsigned long long) scatter(i));
		return 16;
	}
	if (order == TWO_LOADERS)
		x = i / 2 + i % 2 * n_keys;
	for (int b = 0; b < 5; b++)
		key[b] = (uint8_t) (x >> (32 - 8 * b));
	return 5;
}

static void
report(const char *what, double best)
{
	printf("%-44s %8.1f ns\n", what, best / (double) n_keys);
}

#define BEST(var, body) \
	do { \
		double	start_ = now_ns(); \
		body; \
		start_ = now_ns() - start_; \
		var = var == 0 || start_ < var ? start_ : var; \
	} while (0)

static void
insert_all(LtgGeneration *g, KeyOrder order, const uint8_t *payload)
{
	LtgVersion	v = {.payload = payload, .payload_len = 100, .xid = 5};
	uint8_t		key[24];

	for (uint64_t i = 0; i < n_keys; i++)
	{
		uint32_t	len = make_key(order, i, key);
		uint64_t	need = ltg_mem_need(len, 100);
		uint64_t	token = ltg_gen_reserve(g, need);
		uint64_t	end = token + need;

		if (token == 0)
			abort();
		v.seq = i + 1;
		ltg_mem_insert(g, 1, key, len, ltg_key_hash(key, len), &v, &token);
		ltg_gen_unreserve(g, token, end);
	}
}

static void
find_all(LtgGeneration *g, KeyOrder order, uint64_t store, uint64_t from)
{
	uint8_t		key[24];

	for (uint64_t i = 0; i < n_keys; i++)
	{
		uint32_t	len = make_key(order, from + scatter(i) % n_keys, key);
		LtgMemNode *n = ltg_mem_find(g, store, key, len, ltg_key_hash(key, len));
		LtgVersion	v;

		if (n == NULL)
			continue;
		ltg_mem_read(ltg_mem_newest(g, n), &v);
		sink += v.payload[0];
	}
}

static void
seek_all(LtgGeneration *g, KeyOrder order)
{
	LtgMemList *l = ltg_gen_list(g, 1);
	uint8_t		key[24];

	for (uint64_t i = 0; i < n_keys; i++)
	{
		uint32_t	len = make_key(order, scatter(i) % n_keys, key);

		sink += (uintptr_t) ltg_mem_seek_ge(g, l, key, len);
	}
}

static void
walk_all(LtgGeneration *g)
{
	LtgMemList *l = ltg_gen_list(g, 1);

	for (LtgMemNode *n = ltg_mem_seek_ge(g, l, NULL, 0); n != NULL; n = ltg_mem_next(g, n))
	{
		LtgVersion	v;

		ltg_mem_read(ltg_mem_newest(g, n), &v);
		sink += v.payload[0];
	}
}

static void
bench_memtable(LtgGeneration *g, KeyOrder order, const char *name)
{
	double		insert = 0,
				hit = 0,
				miss = 0,
				other = 0,
				seek = 0,
				walk = 0;
	uint8_t		payload[100] = {1};
	char		what[80];

	for (int r = 0; r < rounds; r++)
	{
		ltg_gen_reset(g, 1);
		BEST(insert, insert_all(g, order, payload));
		BEST(hit, find_all(g, order, 1, 0));
		BEST(miss, find_all(g, order, 1, 4 * n_keys));
		BEST(other, find_all(g, order, 2, 0));
		BEST(seek, seek_all(g, order));
		BEST(walk, walk_all(g));
	}
	printf("%s: %llu keys, %.1f bytes each beside the payload\n", name,
		   (unsigned long long) n_keys,
		   (double) ltg_gen_used(g) / (double) n_keys - 100);
	snprintf(what, sizeof(what), "  insert");
	report(what, insert);
	report("  point look-up, present", hit);
	report("  point look-up, absent", miss);
	report("  point look-up, store absent", other);
	report("  seek", seek);
	report("  walk", walk);
}

static void
bench_cache(LtgSession *s)
{
	size_t		size = 128 * 1024 * 1024;
	void	   *mem = malloc(size);
	LtgCache   *c = ltg_cache_init(mem, size, 16384 + LTG_FRAME_SLACK);
	LtgCacheStats st;
	double		enter = 0,
				hit = 0,
				miss = 0;
	uint64_t	hot;

	ltg_cache_stats(s, c, &st);
	hot = st.frames * 9 / 10;
	for (int r = 0; r < rounds; r++)
	{
		BEST(enter, for (uint64_t i = 0; i < n_keys; i++)
		{
			ltg_epoch_enter(s);
			ltg_epoch_leave(s);
		});
		for (uint64_t i = 0; i < hot; i++)
		{
			LtgFrame   *f;
			uint32_t	len;

			ltg_epoch_enter(s);
			if (ltg_cache_lookup(s, c, 1, i * 16384, &len) == NULL &&
				(f = ltg_cache_reserve(s, c, 16384)) != NULL)
				ltg_cache_publish(s, c, f, 1, i * 16384, 16384);
			ltg_epoch_leave(s);
		}
		BEST(hit, for (uint64_t i = 0; i < n_keys; i++)
		{
			uint32_t	len;

			ltg_epoch_enter(s);
			sink += (uintptr_t) ltg_cache_lookup(s, c, 1, scatter(i) % hot * 16384, &len);
			ltg_epoch_leave(s);
		});
		BEST(miss, for (uint64_t i = 0; i < n_keys; i++)
		{
			LtgFrame   *f;
			uint64_t	at = (scatter(i) >> 8) * 16384 + 1;

			ltg_epoch_enter(s);
			if ((f = ltg_cache_reserve(s, c, 16384)) != NULL)
				ltg_cache_publish(s, c, f, 1, at, 16384);
			ltg_epoch_leave(s);
		});
	}
	printf("cache: %llu frames of 16 kB\n", (unsigned long long) st.frames);
	report("  enter and leave an epoch", enter);
	report("  the same with a hit", hit);
	report("  the same with reserve and publish", miss);
	free(mem);
}

int
main(int argc, char **argv)
{
	LtgPosixOptions opt = {.dir = "/tmp", .log_level = LTG_LOG_WARNING};
	LtgSession	s;
	LtgPosix   *posix;
	LtgError	err;
	size_t		arena;
	void	   *mem;
	LtgGeneration *g;

	if (argc > 1)
		n_keys = strtoull(argv[1], NULL, 10);
	if (argc > 2)
		rounds = atoi(argv[2]);
	memset(&s, 0, sizeof(s));
	if (n_keys == 0 || ltg_posix_open(&opt, &posix, &err) != LTG_OK)
		return 1;
	s.port = ltg_posix_port(posix);
	s.epochs = aligned_alloc(64, (ltg_epoch_table_size(64) + 63) / 64 * 64);
	ltg_epoch_table_init(s.epochs, 64);
	if (ltg_epoch_claim(s.epochs, &s.epoch_slot) != LTG_OK)
		return 1;

	arena = n_keys * 240 + 1024 * 1024;
	arena = (arena + 2097151) / 2097152 * 2097152;
	mem = aligned_alloc(2097152, arena);
	madvise(mem, arena, MADV_HUGEPAGE);
	g = ltg_gen_init(mem, arena / 64 * 64);
	bench_memtable(g, ROWIDS, "ascending rowids");
	bench_memtable(g, TWO_LOADERS, "rowids of two loaders");
	bench_memtable(g, RANDOM16, "random 16-byte keys");
	bench_cache(&s);
	free(mem);
	free(s.epochs);
	ltg_posix_close(posix);
	return sink == 42;
}
