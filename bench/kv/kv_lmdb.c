/*
 * kv_lmdb.c
 *	  LMDB with MDB_NOSYNC: commits reach the page cache, not the disk.  Each
 *	  thread keeps one read transaction and renews it per operation.
 */
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>

#include "kv.h"

typedef struct Lmdb
{
	MDB_env    *env;
	MDB_dbi		dbi;
} Lmdb;

static __thread MDB_txn *reader;
static __thread MDB_cursor *cursor;

static void
check(int rc)
{
	if (rc != 0)
		kv_fatal("lmdb: %s", mdb_strerror(rc));
}

static void *
lmdb_open(const KvOptions *opt)
{
	Lmdb	   *l = calloc(1, sizeof(Lmdb));
	MDB_txn    *txn;

	check(mdb_env_create(&l->env));
	check(mdb_env_set_mapsize(l->env, (size_t) 16 << 30));
	check(mdb_env_set_maxreaders(l->env, 126));
	check(mdb_env_open(l->env, opt->dir, MDB_NOSYNC | MDB_NORDAHEAD, 0644));
	check(mdb_txn_begin(l->env, NULL, 0, &txn));
	check(mdb_dbi_open(txn, NULL, 0, &l->dbi));
	check(mdb_txn_commit(txn));
	return l;
}

static void
lmdb_put_batch(void *h, const uint8_t *keys, const uint8_t *values, int n)
{
	Lmdb	   *l = h;
	MDB_txn    *txn;
	int			i;

	check(mdb_txn_begin(l->env, NULL, 0, &txn));
	for (i = 0; i < n; i++)
	{
		MDB_val		k = {KEY_LEN, (void *) (uintptr_t) (keys + i * KEY_LEN)};
		MDB_val		v = {VALUE_LEN, (void *) (uintptr_t) (values + i * VALUE_LEN)};

		check(mdb_put(txn, l->dbi, &k, &v, 0));
	}
	check(mdb_txn_commit(txn));
}

static void
lmdb_put(void *h, const uint8_t *key, const uint8_t *value)
{
	lmdb_put_batch(h, key, value, 1);
}

static void
begin_read(Lmdb *l)
{
	if (reader == NULL)
		check(mdb_txn_begin(l->env, NULL, MDB_RDONLY, &reader));
	else
		check(mdb_txn_renew(reader));
}

static size_t
lmdb_get(void *h, const uint8_t *key, uint8_t *out)
{
	Lmdb	   *l = h;
	MDB_val		k = {KEY_LEN, (void *) (uintptr_t) key};
	MDB_val		v = {0, NULL};
	int			rc;

	begin_read(l);
	rc = mdb_get(reader, l->dbi, &k, &v);
	if (rc == 0)
		memcpy(out, v.mv_data, v.mv_size);
	else if (rc != MDB_NOTFOUND)
		check(rc);
	mdb_txn_reset(reader);
	return v.mv_size;
}

static size_t
lmdb_scan(void *h, const uint8_t *key, int n)
{
	Lmdb	   *l = h;
	MDB_val		k = {KEY_LEN, (void *) (uintptr_t) key};
	MDB_val		v;
	size_t		bytes = 0;
	int			i,
				rc;

	begin_read(l);
	if (cursor == NULL)
		check(mdb_cursor_open(reader, l->dbi, &cursor));
	else
		check(mdb_cursor_renew(reader, cursor));
	rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
	for (i = 0; i < n && rc == 0; i++)
	{
		bytes += v.mv_size + (size_t) (((char *) v.mv_data)[0] & 0);
		rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
	}
	mdb_txn_reset(reader);
	return bytes;
}

static void
lmdb_settle(void *h)
{
	check(mdb_env_sync(((Lmdb *) h)->env, 1));
}

static void
lmdb_thread_end(void *h)
{
	(void) h;
	if (cursor != NULL)
		mdb_cursor_close(cursor);
	if (reader != NULL)
		mdb_txn_abort(reader);
	cursor = NULL;
	reader = NULL;
}

static void
lmdb_close(void *h)
{
	mdb_env_close(((Lmdb *) h)->env);
	free(h);
}

const KvEngine kv_lmdb = {
	"lmdb", lmdb_open, lmdb_put, lmdb_put_batch, lmdb_get, lmdb_scan, lmdb_settle,
	lmdb_thread_end, lmdb_close, NULL
};
