/*
 * kv_rocksdb.c
 *	  RocksDB with what its users set for this kind of load: lz4, Bloom filters
 *	  of 10 bits, a block cache, 64 MB memtables, the log on.
 */
#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kv.h"

typedef struct Rocks
{
	rocksdb_t  *db;
	rocksdb_writeoptions_t *wo;
	rocksdb_readoptions_t *ro;
} Rocks;

static void
check(char *err)
{
	if (err != NULL)
		kv_fatal("rocksdb: %s", err);
}

static void *
rocks_open(const KvOptions *opt)
{
	Rocks	   *r = calloc(1, sizeof(Rocks));
	rocksdb_options_t *o = rocksdb_options_create();
	rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();
	char	   *err = NULL;

	rocksdb_options_set_create_if_missing(o, 1);
	rocksdb_options_set_compression(o, rocksdb_lz4_compression);
	rocksdb_options_set_write_buffer_size(o, 64 << 20);
	rocksdb_options_increase_parallelism(o, 2);
	rocksdb_options_set_max_open_files(o, -1);
	rocksdb_block_based_options_set_filter_policy(t, rocksdb_filterpolicy_create_bloom_full(10));
	rocksdb_block_based_options_set_block_cache(t, rocksdb_cache_create_lru(opt->memory_bytes - (128 << 20)));
	rocksdb_options_set_block_based_table_factory(o, t);
	r->db = rocksdb_open(o, opt->dir, &err);
	check(err);
	r->wo = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(r->wo, 0);
	r->ro = rocksdb_readoptions_create();
	return r;
}

static void
rocks_put(void *h, const uint8_t *key, const uint8_t *value)
{
	Rocks	   *r = h;
	char	   *err = NULL;

	rocksdb_put(r->db, r->wo, (const char *) key, KEY_LEN, (const char *) value, VALUE_LEN, &err);
	check(err);
}

static void
rocks_put_batch(void *h, const uint8_t *keys, const uint8_t *values, int n)
{
	Rocks	   *r = h;
	rocksdb_writebatch_t *b = rocksdb_writebatch_create();
	char	   *err = NULL;
	int			i;

	for (i = 0; i < n; i++)
		rocksdb_writebatch_put(b, (const char *) keys + i * KEY_LEN, KEY_LEN,
							   (const char *) values + i * VALUE_LEN, VALUE_LEN);
	rocksdb_write(r->db, r->wo, b, &err);
	check(err);
	rocksdb_writebatch_destroy(b);
}

static size_t
rocks_get(void *h, const uint8_t *key, uint8_t *out)
{
	Rocks	   *r = h;
	char	   *err = NULL;
	rocksdb_pinnableslice_t *s = rocksdb_get_pinned(r->db, r->ro, (const char *) key, KEY_LEN, &err);
	size_t		len = 0;

	check(err);
	if (s != NULL)
	{
		const char *v = rocksdb_pinnableslice_value(s, &len);

		memcpy(out, v, len);
		rocksdb_pinnableslice_destroy(s);
	}
	return len;
}

static size_t
rocks_scan(void *h, const uint8_t *key, int n)
{
	Rocks	   *r = h;
	rocksdb_iterator_t *it = rocksdb_create_iterator(r->db, r->ro);
	size_t		bytes = 0;
	int			i;

	rocksdb_iter_seek(it, (const char *) key, KEY_LEN);
	for (i = 0; i < n && rocksdb_iter_valid(it); i++)
	{
		size_t		len;
		const char *v = rocksdb_iter_value(it, &len);

		bytes += len + (size_t) (v[0] & 0);
		rocksdb_iter_next(it);
	}
	rocksdb_iter_destroy(it);
	return bytes;
}

static void
rocks_settle(void *h)
{
	Rocks	   *r = h;
	rocksdb_flushoptions_t *fo = rocksdb_flushoptions_create();
	char	   *err = NULL;
	int			i;

	rocksdb_flush(r->db, fo, &err);
	check(err);
	rocksdb_flushoptions_destroy(fo);
	for (i = 0; i < 600; i++)
	{
		uint64_t	running = 0,
					pending = 0;

		rocksdb_property_int(r->db, "rocksdb.num-running-compactions", &running);
		rocksdb_property_int(r->db, "rocksdb.compaction-pending", &pending);
		if (running == 0 && pending == 0)
			break;
		usleep(100 * 1000);
	}
}

static void
rocks_thread_end(void *h)
{
	(void) h;
}

static void
rocks_close(void *h)
{
	Rocks	   *r = h;

	rocksdb_close(r->db);
	free(r);
}

const KvEngine kv_rocksdb = {
	"rocksdb", rocks_open, rocks_put, rocks_put_batch, rocks_get, rocks_scan, rocks_settle,
	rocks_thread_end, rocks_close, NULL
};
