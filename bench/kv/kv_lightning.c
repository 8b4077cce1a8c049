/*
 * kv_lightning.c
 *	  Lightning's embedded library with the same promises as the others here:
 *	  a commit is handed to the operating system, not forced to disk.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kv.h"
#include "lt/lt.h"

static __thread lt_value value_buf;
static __thread lt_cursor *cursor;
static __thread lt_batch *batch;

static void
check(lt_db *db, lt_status st)
{
	char		msg[512];

	if (st == LT_OK)
		return;
	lt_error_text(db, msg, sizeof(msg));
	kv_fatal("lightning: %s: %s", lt_status_text(st), msg);
}

static void *
lightning_open(const KvOptions *opt)
{
	lt_options	o;
	lt_db	   *db;
	char		msg[512];

	lt_options_init(&o);
	o.create = true;
	o.sync = LT_SYNC_OS;
	o.memtable_bytes = (size_t) 64 << 20;
	o.memtable_count = 2;
	o.metadata_bytes = (size_t) 8 << 20;
	o.cache_bytes = opt->memory_bytes - o.memtable_bytes * o.memtable_count - o.metadata_bytes;
	if (lt_open(opt->dir, &o, &db, msg, sizeof(msg)) != LT_OK)
		kv_fatal("lightning: %s", msg);
	return db;
}

static void
lightning_put(void *h, const uint8_t *key, const uint8_t *value)
{
	check(h, lt_put(h, NULL, key, KEY_LEN, value, VALUE_LEN, LT_SYNC_DEFAULT));
}

static void
lightning_put_batch(void *h, const uint8_t *keys, const uint8_t *values, int n)
{
	int			i;

	if (batch == NULL)
		check(h, lt_batch_create(h, &batch));
	lt_batch_clear(batch);
	for (i = 0; i < n; i++)
		check(h, lt_batch_put(batch, NULL, keys + i * KEY_LEN, KEY_LEN, values + i * VALUE_LEN, VALUE_LEN));
	check(h, lt_write(h, batch, LT_SYNC_DEFAULT));
}

static size_t
lightning_get(void *h, const uint8_t *key, uint8_t *out)
{
	lt_status	st = lt_get(h, NULL, key, KEY_LEN, &value_buf);

	if (st == LT_NOT_FOUND)
		return 0;
	check(h, st);
	memcpy(out, value_buf.data, value_buf.size);
	return value_buf.size;
}

static size_t
lightning_scan(void *h, const uint8_t *key, int n)
{
	lt_range	range = {0};
	size_t		bytes = 0;
	int			i;

	range.lo = key;
	range.lo_size = KEY_LEN;
	range.expect_rows = (uint32_t) n;
	if (cursor == NULL)
		check(h, lt_cursor_open(h, NULL, NULL, &range, &cursor));
	else
		check(h, lt_cursor_seek(cursor, &range));
	for (i = 0; i < n; i++)
	{
		const void *k,
				   *v;
		size_t		k_size,
					v_size;
		lt_status	st = lt_cursor_next(cursor, &k, &k_size, &v, &v_size);

		if (st == LT_END)
			break;
		check(h, st);
		bytes += v_size + (size_t) (((const char *) v)[0] & 0);
	}
	return bytes;
}

static void
lightning_settle(void *h)
{
	check(h, lt_checkpoint(h));
	check(h, lt_compact(h));
	/* files that were replaced go with a checkpoint, in the background */
	check(h, lt_checkpoint(h));
	usleep(1000 * 1000);
}

static void
lightning_thread_end(void *h)
{
	(void) h;
	if (cursor != NULL)
		lt_cursor_close(cursor);
	if (batch != NULL)
		lt_batch_free(batch);
	lt_value_free(&value_buf);
	cursor = NULL;
	batch = NULL;
	memset(&value_buf, 0, sizeof(value_buf));
}

static void
lightning_close(void *h)
{
	lt_close(h);
}

static void
lightning_io(void *h, KvIo *io)
{
	lt_stats	st;

	check(h, lt_get_stats(h, &st));
	io->log = st.log_bytes;
	io->flush = st.flush_bytes;
	io->compact = st.compact_bytes_written;
	io->flushes = st.flushes;
	io->compactions = st.compactions;
	io->stalls = st.stalls;
}

const KvEngine kv_lightning = {
	"lightning", lightning_open, lightning_put, lightning_put_batch, lightning_get, lightning_scan,
	lightning_settle, lightning_thread_end, lightning_close, lightning_io
};
