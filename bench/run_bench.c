/*
 * run_bench.c
 *	  Micro-benchmark of one run file: writing it, point reads when everything
 *	  is cached, scanning it.
 *
 * Build and run, after "make -C engine lib":
 *	  gcc -O2 -g -std=gnu11 -Iengine bench/run_bench.c engine/build/plain/libltg.a \
 *		  -lzstd -llz4 -lpthread -lm -o /tmp/run_bench
 *	  /tmp/run_bench [keys [form [block_size [payload]]]]
 * form: rowid (5-byte consecutive), hash (8 random bytes), text (20 bytes)
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/coding.h"
#include "base/epoch.h"
#include "port/port_posix.h"
#include "storage/cache.h"
#include "storage/file.h"
#include "storage/run.h"

#define MUST(c) \
	do { \
		if (!(c)) \
		{ \
			fprintf(stderr, "%s failed: %s\n", #c, session.err.msg); \
			exit(1); \
		} \
	} while (0)

static LtgSession session;
static const char *form;
static uint64_t keys;

/* Processor time: other work on the machine disturbs it less. */
static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static uint64_t
mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* Key i in key order. */
static uint32_t
key_at(uint64_t i, uint8_t *key)
{
	if (form[0] == 'r')
	{
		key[0] = 0;
		ltg_store32(key + 1, __builtin_bswap32((uint32_t) i));
		return 5;
	}
	/* in order, yet spread unevenly */
	ltg_store_be64(key + (form[0] == 't' ? 6 : 0),
				   i * (UINT64_MAX / keys) + mix(i) % (UINT64_MAX / keys));
	if (form[0] == 'h')
		return 8;
	memcpy(key, "user: ", 6);
	memcpy(key + 14, "@x.org", 6);
	return 20;
}

static void
bench_gets(const LtgRunRef *ref, bool use_filter, bool miss)
{
	uint64_t	n = 2000000;
	uint64_t	sum = 0;
	LtgPoint	p = {0};
	LtgVersion	v;
	uint8_t		key[32];
	double		t;
	uint64_t	i;

	t = now();
	for (i = 0; i < n; i++)
	{
		uint32_t	len = key_at(mix(i) % keys, key);
		LtgStatus	st;

		if (miss)
			key[len++] = 'x';
		ltg_epoch_enter(&session);
		st = ltg_run_get(&session, ref, key, len, ltg_key_hash(key, len), use_filter, &p, &v);
		MUST(st == (miss ? LTG_NOT_FOUND : LTG_OK));
		if (!miss)
			sum += v.payload[0] + v.payload[v.payload_len - 1];
		ltg_epoch_leave(&session);
	}
	t = now() - t;
	printf("%-28s %7.0f ns each   (%llu)\n",
		   miss ? "absent keys, filter" : use_filter ? "present keys, filter" : "present keys, no filter",
		   t / (double) n * 1e9, (unsigned long long) sum);
	ltg_point_close(&session, &p);
}

static void
bench_scan(const LtgRunRef *ref, LtgCacheUse use, bool blocks)
{
	LtgRunIter *it;
	LtgVersion	v;
	uint64_t	n = 0;
	uint64_t	sum = 0;
	static uint8_t copy[1 << 18];
	double		t = now();
	LtgStatus	st;

	ltg_epoch_enter(&session);
	MUST(ltg_run_iter_open(&session, ref, use, &it) == LTG_OK);
	st = ltg_run_iter_seek_ge(it, NULL, 0);
	while (st == LTG_OK)
	{
		const uint8_t *key;
		uint32_t	len;

		if (blocks)
		{
			LtgBlockView view;
			uint32_t	i;
			static uint8_t key_buf[LTG_KEY_MAX];

			ltg_run_iter_block(it, &view);
			memcpy(copy, view.data, view.len);
			for (i = 0; i < view.n; i++)
			{
				ltg_block_entry(copy, view.len, i, key_buf, &len, &v);
				sum += v.payload[0] + key_buf[len - 1];
			}
			n += view.n;
			st = ltg_run_iter_next_block(it);
		}
		else
		{
			ltg_run_iter_key(it, &key, &len);
			ltg_run_iter_version(it, &v);
			sum += v.payload[0] + key[len - 1];
			n++;
			st = ltg_run_iter_next_key(it);
		}
	}
	ltg_run_iter_close(it);
	ltg_epoch_leave(&session);
	t = now() - t;
	printf("scan by %-5s %-14s %7.1f ns a row (%llu rows, %llu)\n", blocks ? "block" : "key",
		   use == LTG_CACHE_NORMAL ? "cache" : "peek", t / (double) n * 1e9,
		   (unsigned long long) n, (unsigned long long) sum);
}

static void
write_run(LtgRunRef *ref, const LtgRunOptions *opt, uint32_t payload_len)
{
	LtgFileWriter *w;
	uint8_t		payload[4096];
	uint64_t	bytes;
	uint64_t	i;
	double		t = now();

	MUST(ltg_writer_open(&session, 1, opt, &w) == LTG_OK);
	MUST(ltg_writer_begin_run(w, "b", 1, opt) == LTG_OK);
	for (i = 0; i < keys; i++)
	{
		LtgVersion	v = {.payload = payload, .payload_len = payload_len, .state = LTG_SETTLED};
		uint8_t		key[32];
		uint32_t	len = key_at(i, key);
		uint32_t	k;

		/* half of each row is random letters, half repeats */
		for (k = 0; k < payload_len; k++)
			payload[k] = k < payload_len / 2 ? (uint8_t) ('a' + mix(i * 64 + k / 8) % (26 + k)) : 'r';
		MUST(ltg_writer_add(w, key, len, &v) == LTG_OK);
	}
	MUST(ltg_writer_end_run(w, ref) == LTG_OK);
	MUST(ltg_writer_finish(w, &bytes) == LTG_OK);
	ltg_writer_free(w);
	t = now() - t;
	printf("written: %.0f MB as %.0f MB in %.2f s: %.0f ns a row; height %u\n",
		   (double) ref->raw_bytes / 1e6, (double) bytes / 1e6, t, t / (double) keys * 1e9,
		   ref->height);
}

int
main(int argc, char **argv)
{
	char		dir[] = "/tmp/ltg-run-bench-XXXXXX";
	LtgPosixOptions popt = {.dir = dir, .log_level = LTG_LOG_WARNING};
	LtgRunOptions opt = {.block_size = 16384, .codec = LTG_CODEC_ADAPTIVE, .zstd_level = 1,
	.filter_bits_per_key = 10};
	uint32_t	payload_len;
	LtgPosix   *posix;
	LtgError	err;
	LtgRunRef	ref;
	size_t		cache_bytes;
	char		name[128];

	keys = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
	form = argc > 2 ? argv[2] : "rowid";
	opt.block_size = argc > 3 ? (uint32_t) atoi(argv[3]) : 16384;
	payload_len = argc > 4 ? (uint32_t) atoi(argv[4]) : 100;
	opt.expected_keys = keys;
	if (mkdtemp(dir) == NULL)
		return 1;
	MUST(ltg_posix_open(&popt, &posix, &err) == LTG_OK);
	session.port = ltg_posix_port(posix);
	MUST(ltg_file_cache_create(&session) == LTG_OK);
	session.epochs = aligned_alloc(64, (ltg_epoch_table_size(4) + 63) / 64 * 64);
	ltg_epoch_table_init(session.epochs, 4);
	MUST(ltg_epoch_claim(session.epochs, &session.epoch_slot) == LTG_OK);
	cache_bytes = (size_t) ((double) keys * (payload_len + 40) * 1.2) + (16 << 20);
	session.cache = ltg_cache_init(aligned_alloc(64, cache_bytes / 64 * 64), cache_bytes,
								   opt.block_size + LTG_FRAME_SLACK);

	write_run(&ref, &opt, payload_len);
	bench_scan(&ref, LTG_CACHE_PEEK, false);
	bench_scan(&ref, LTG_CACHE_NORMAL, false);
	bench_scan(&ref, LTG_CACHE_NORMAL, false);
	bench_scan(&ref, LTG_CACHE_NORMAL, true);
	bench_gets(&ref, true, false);
	bench_gets(&ref, true, false);
	bench_gets(&ref, false, false);
	bench_gets(&ref, true, true);
	MUST(ltg_run_check(&session, &ref) == LTG_OK);

	ltg_file_cache_destroy(&session);
	ltg_run_name(name, 1);
	(void) session.port->file_remove(session.port, name, &err);
	ltg_posix_close(posix);
	return rmdir(dir);
}
