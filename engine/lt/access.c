/*
 * access.c
 *	  The embedded library's reads, batches, transactions and cursors.
 */
#include "lt/db.h"

#include "storage/run.h"

_Static_assert((int) LT_HOST_ERROR == (int) LTG_HOST_ERROR &&
			   (int) LT_CONFLICT == (int) LTG_CONFLICT &&
			   (int) LT_NOSHMEM == (int) LTG_NOSHMEM, "lt_status mirrors LtgStatus");

struct lt_cursor
{
	lt_db	   *db;
	LtSession  *ses;
	lt_txn	   *txn;			/* NULL: the snapshot is its own */
	lt_tree    *tree;
	LtSnap		snap;
	LtgScan    *scan;
	LtgBatch	batch;
	uint32_t	at;				/* next row of the batch */
	bool		ended;
	LtgScanOptions opt;
	uint8_t    *bounds;			/* copies of lo and hi */
	size_t		bounds_cap;
};

typedef struct BatchEntry
{
	lt_tree    *tree;
	size_t		key_at, value_at;
	uint32_t	key_len, value_len;
	LtgKind		kind;
} BatchEntry;

struct lt_batch
{
	lt_db	   *db;
	uint8_t    *data;
	size_t		data_len, data_cap;
	BatchEntry *entry;
	size_t		n, cap;
};

static lt_tree *
the_tree(lt_db *db, lt_tree *tree)
{
	return tree != NULL ? tree : db->default_tree;
}

static inline bool
bad_key(const void *key, size_t size)
{
	return key == NULL || size == 0 || size > LTG_KEY_MAX;
}

static lt_status
refuse_key(lt_db *db, size_t size)
{
	if (size > LTG_KEY_MAX)
		return lt_fail(db, LTG_TOO_LARGE, "key is over the limit of 4096 bytes");
	return lt_fail(db, LTG_INVALID, "key is empty");
}

/* ---- reading ---- */

void
lt_value_free(lt_value *v)
{
	if (v->owner_ != NULL)
	{
		LtgPort    *port = v->owner_;

		port->free(port, v->mem_);
	}
	memset(v, 0, sizeof(*v));
}

static LtgStatus
get_one(lt_db *db, LtSession *ses, LtSnap *snap, lt_tree *tree, const void *key,
		size_t key_size, lt_value *value)
{
	LtgRow		row = {.buf = value->mem_, .cap = value->cap_};
	LtgStatus	st = ltg_get(ses->s, tree->store, key, (uint32_t) key_size, &snap->snap, &row);

	value->mem_ = row.buf;
	value->cap_ = row.cap;
	value->owner_ = &db->port;
	value->data = row.v.payload;
	value->size = row.v.payload_len;
	return st;
}

lt_status
lt_get(lt_db *db, lt_tree *tree, const void *key, size_t key_size, lt_value *value)
{
	LtSession  *ses;
	LtSnap		snap;
	LtgStatus	st;

	if (LTG_UNLIKELY(bad_key(key, key_size)))
		return refuse_key(db, key_size);
	st = lt_session_get(db, true, &ses);
	if (LTG_UNLIKELY(st != LTG_OK))
		return (lt_status) st;
	lt_snap_take(db->xids, &snap, ses->place);
	st = get_one(db, ses, &snap, the_tree(db, tree), key, key_size, value);
	lt_snap_release(&snap);
	return lt_session_done(db, ses, st);
}

static void
see_own_writes(lt_txn *txn)
{
	txn->snap.own_xid = txn->xid;
	txn->snap.own_cid = txn->cid;
}

lt_status
lt_txn_get(lt_txn *txn, lt_tree *tree, const void *key, size_t key_size, lt_value *value)
{
	lt_db	   *db = txn->db;
	LtSession  *ses;
	LtgStatus	st;

	if (LTG_UNLIKELY(bad_key(key, key_size)))
		return refuse_key(db, key_size);
	st = lt_session_get(db, true, &ses);
	if (LTG_UNLIKELY(st != LTG_OK))
		return (lt_status) st;
	see_own_writes(txn);
	st = get_one(db, ses, &txn->snap, the_tree(db, tree), key, key_size, value);
	return lt_session_done(db, ses, st);
}

lt_status
lt_multi_get(lt_db *db, lt_txn *txn, lt_tree *tree, size_t n, const lt_slice *keys,
			 lt_value *values, bool *found)
{
	LtSession  *ses;
	LtSnap		own;
	LtSnap	   *snap = &own;
	LtgStatus	st = LTG_OK;

	for (size_t i = 0; i < n; i++)
		if (bad_key(keys[i].data, keys[i].size))
			return refuse_key(db, keys[i].size);
	st = lt_session_get(db, true, &ses);
	if (st != LTG_OK)
		return (lt_status) st;
	if (txn != NULL)
	{
		see_own_writes(txn);
		snap = &txn->snap;
	}
	else
		lt_snap_take(db->xids, &own, ses->place);
	for (size_t i = 0; i < n && st == LTG_OK; i++)
	{
		st = get_one(db, ses, snap, the_tree(db, tree), keys[i].data, keys[i].size, &values[i]);
		found[i] = st == LTG_OK;
		if (st == LTG_NOT_FOUND)
			st = LTG_OK;
	}
	if (txn == NULL)
		lt_snap_release(&own);
	return lt_session_done(db, ses, st);
}

/* ---- writing ---- */

static lt_status
write_one(lt_db *db, lt_txn *txn, lt_tree *tree, LtgKind kind, const void *key,
		  size_t key_size, const void *value, size_t value_size, lt_sync sync)
{
	LtgWrite	w;
	LtJob		job = {.w = &w, .n = 1, .txn = txn, .sync = sync};
	LtSession  *ses;
	LtgStatus	st;

	tree = the_tree(db, tree);
	if (LTG_UNLIKELY(bad_key(key, key_size)))
		return refuse_key(db, key_size);
	if (LTG_UNLIKELY(value_size > LTG_PAYLOAD_MAX))
		return lt_fail(db, LTG_TOO_LARGE, "value is over the limit of 262144 bytes");
	memset(&w, 0, sizeof(w));
	w.store = tree->store;
	w.key = key;
	w.key_len = (uint32_t) key_size;
	w.v.kind = kind;
	w.v.payload = value;
	w.v.payload_len = (uint32_t) value_size;
	w.v.aux = tree->number;
	st = lt_session_get(db, true, &ses);
	if (LTG_UNLIKELY(st != LTG_OK))
		return (lt_status) st;
	st = lt_write_job(db, ses, &job);
	return lt_session_done(db, ses, st);
}

lt_status
lt_put(lt_db *db, lt_tree *tree, const void *key, size_t key_size, const void *value,
	   size_t value_size, lt_sync sync)
{
	return write_one(db, NULL, tree, LTG_PUT, key, key_size, value, value_size, sync);
}

lt_status
lt_delete(lt_db *db, lt_tree *tree, const void *key, size_t key_size, lt_sync sync)
{
	return write_one(db, NULL, tree, LTG_DELETE, key, key_size, NULL, 0, sync);
}

static lt_status
txn_write(lt_txn *txn, lt_tree *tree, LtgKind kind, const void *key, size_t key_size,
		  const void *value, size_t value_size)
{
	if (txn->read_only)
		return lt_fail(txn->db, LTG_INVALID, "the transaction is read-only");
	if (txn->cid == UINT32_MAX)
		return lt_fail(txn->db, LTG_TOO_LARGE, "too many changes in one transaction");
	return write_one(txn->db, txn, tree, kind, key, key_size, value, value_size, LT_SYNC_LAZY);
}

lt_status
lt_txn_put(lt_txn *txn, lt_tree *tree, const void *key, size_t key_size, const void *value,
		   size_t value_size)
{
	return txn_write(txn, tree, LTG_PUT, key, key_size, value, value_size);
}

lt_status
lt_txn_delete(lt_txn *txn, lt_tree *tree, const void *key, size_t key_size)
{
	return txn_write(txn, tree, LTG_DELETE, key, key_size, NULL, 0);
}

/* ---- batches ---- */

lt_status
lt_batch_create(lt_db *db, lt_batch **batch)
{
	lt_batch   *b = db->port.alloc(&db->port, sizeof(*b));

	*batch = b;
	if (b == NULL)
		return lt_fail(db, LTG_NOMEM, "out of memory for a batch");
	memset(b, 0, sizeof(*b));
	b->db = db;
	return LT_OK;
}

void
lt_batch_free(lt_batch *b)
{
	if (b == NULL)
		return;
	b->db->port.free(&b->db->port, b->data);
	b->db->port.free(&b->db->port, b->entry);
	b->db->port.free(&b->db->port, b);
}

void
lt_batch_clear(lt_batch *b)
{
	b->n = 0;
	b->data_len = 0;
}

static lt_status
batch_add(lt_batch *b, lt_tree *tree, LtgKind kind, const void *key, size_t key_size,
		  const void *value, size_t value_size)
{
	LtgPort    *port = &b->db->port;
	BatchEntry *e;

	if (bad_key(key, key_size))
		return refuse_key(b->db, key_size);
	if (value_size > LTG_PAYLOAD_MAX)
		return lt_fail(b->db, LTG_TOO_LARGE, "value is over the limit of 262144 bytes");
	if (lt_grow(port, (void **) &b->data, &b->data_cap, b->data_len + key_size + value_size, 1) != LTG_OK ||
		lt_grow(port, (void **) &b->entry, &b->cap, b->n + 1, sizeof(*b->entry)) != LTG_OK)
		return lt_fail(b->db, LTG_NOMEM, "out of memory for a batch");
	e = &b->entry[b->n++];
	e->tree = the_tree(b->db, tree);
	e->kind = kind;
	e->key_at = b->data_len;
	e->key_len = (uint32_t) key_size;
	memcpy(b->data + b->data_len, key, key_size);
	b->data_len += key_size;
	e->value_at = b->data_len;
	e->value_len = (uint32_t) value_size;
	if (value_size > 0)
		memcpy(b->data + b->data_len, value, value_size);
	b->data_len += value_size;
	return LT_OK;
}

lt_status
lt_batch_put(lt_batch *b, lt_tree *tree, const void *key, size_t key_size, const void *value,
			 size_t value_size)
{
	return batch_add(b, tree, LTG_PUT, key, key_size, value, value_size);
}

lt_status
lt_batch_delete(lt_batch *b, lt_tree *tree, const void *key, size_t key_size)
{
	return batch_add(b, tree, LTG_DELETE, key, key_size, NULL, 0);
}

/* Room for n writes and for a table of four times as many places. */
static LtgStatus
batch_scratch(lt_db *db, LtSession *ses, size_t n)
{
	LtgPort    *port = &db->port;

	LTG_TRY(lt_grow(port, (void **) &ses->writes, &ses->writes_cap, n, sizeof(LtgWrite)));
	return lt_grow(port, (void **) &ses->table, &ses->table_cap, n * 4 + 64, sizeof(uint32_t));
}

/* The batch's writes, the last one of each key only. */
static uint32_t
batch_writes(LtSession *ses, const lt_batch *b)
{
	uint32_t	mask = 63,
				n = 0;

	while (mask + 1 < b->n * 2)
		mask = mask * 2 + 1;
	memset(ses->table, 0, (mask + 1) * sizeof(uint32_t));
	for (size_t i = 0; i < b->n; i++)
	{
		const BatchEntry *e = &b->entry[i];
		const uint8_t *key = b->data + e->key_at;
		uint32_t	slot = (uint32_t) (ltg_key_hash(key, e->key_len) >> 7) & mask;
		LtgWrite   *w;

		for (; ses->table[slot] != 0; slot = (slot + 1) & mask)
		{
			w = &ses->writes[ses->table[slot] - 1];
			if (w->store == e->tree->store && w->key_len == e->key_len &&
				memcmp(w->key, key, e->key_len) == 0)
				break;
		}
		if (ses->table[slot] == 0)
			ses->table[slot] = ++n;
		w = &ses->writes[ses->table[slot] - 1];
		memset(w, 0, sizeof(*w));
		w->store = e->tree->store;
		w->key = key;
		w->key_len = e->key_len;
		w->v.kind = e->kind;
		w->v.payload = b->data + e->value_at;
		w->v.payload_len = e->value_len;
		w->v.aux = e->tree->number;
	}
	return n;
}

lt_status
lt_write(lt_db *db, lt_batch *b, lt_sync sync)
{
	LtJob		job = {.sync = sync};
	LtSession  *ses;
	LtgStatus	st;

	if (b->n == 0)
		return LT_OK;
	if (b->data_len > db->record_max)
		return lt_fail(db, LTG_TOO_LARGE, "batch does not fit into one log record");
	st = lt_session_get(db, true, &ses);
	if (st != LTG_OK)
		return (lt_status) st;
	if (batch_scratch(db, ses, b->n) != LTG_OK)
		st = ltg_fail(ses->s, LTG_NOMEM, "out of memory for a batch");
	else
	{
		job.n = batch_writes(ses, b);
		job.w = ses->writes;
		st = lt_write_job(db, ses, &job);
	}
	return lt_session_done(db, ses, st);
}

/* ---- transactions ---- */

lt_status
lt_begin(lt_db *db, lt_txn_mode mode, lt_txn **out)
{
	for (uint32_t i = 0; i < db->opt.max_txns; i++)
	{
		lt_txn	   *t = &db->txn[i];
		bool		expected = false;

		if (atomic_load_explicit(&t->used, memory_order_relaxed) ||
			!atomic_compare_exchange_strong(&t->used, &expected, true))
			continue;
		t->read_only = mode == LT_READ_ONLY;
		t->xid = 0;
		t->slot = NULL;
		t->cid = 1;
		t->cursors = 0;
		lt_snap_take(db->xids, &t->snap, t->place);
		lt_snap_announce(&t->snap);
		*out = t;
		return LT_OK;
	}
	*out = NULL;
	return lt_fail(db, LTG_BUSY, "more transactions at once than max_txns");
}

static void
end_txn(lt_txn *t)
{
	LTG_ASSERT(t->cursors == 0);
	lt_snap_release(&t->snap);
	t->slot = NULL;
	atomic_store_explicit(&t->used, false, memory_order_release);
}

lt_status
lt_commit(lt_txn *t, lt_sync sync)
{
	lt_db	   *db = t->db;
	LtgError	err = {0};
	LtgSeq		lsn;
	LtgStatus	st = LTG_OK;

	if (t->slot != NULL)
	{
		st = lt_log_simple(db, LT_REC_COMMIT, t->xid, t->slot, LT_SLOT_LOGGED, &lsn, &err);
		if (st == LTG_OK)
			st = lt_finish_commit(db, t->xid, t->slot, lsn, sync, &err);
		else
		{
			/* not logged, so certainly aborted */
			lt_xid_abort(db->xids, t->slot);
			atomic_fetch_add(&db->aborts, 1);
		}
		if (st != LTG_OK)
			lt_keep_error(db, st, &err);
	}
	end_txn(t);
	return (lt_status) st;
}

void
lt_abort(lt_txn *t)
{
	if (t->slot != NULL)
	{
		lt_xid_abort(t->db->xids, t->slot);
		atomic_fetch_add(&t->db->aborts, 1);
	}
	end_txn(t);
}

/* ---- cursors ---- */

static LtgStatus
set_range(lt_cursor *c, const lt_range *range)
{
	LtgPort    *port = &c->db->port;
	lt_range	all = {0};

	if (range == NULL)
		range = &all;
	if (range->lo_size > LTG_KEY_MAX || range->hi_size > LTG_KEY_MAX)
		return ltg_fail(c->ses->s, LTG_TOO_LARGE, "bound is over the limit of 4096 bytes");
	if (lt_grow(port, (void **) &c->bounds, &c->bounds_cap, range->lo_size + range->hi_size, 1) != LTG_OK)
		return ltg_fail(c->ses->s, LTG_NOMEM, "out of memory for a cursor");
	memset(&c->opt, 0, sizeof(c->opt));
	if (range->lo != NULL && range->lo_size > 0)
	{
		memcpy(c->bounds, range->lo, range->lo_size);
		c->opt.lo = c->bounds;
		c->opt.lo_len = (uint32_t) range->lo_size;
	}
	if (range->hi != NULL && range->hi_size > 0)
	{
		memcpy(c->bounds + range->lo_size, range->hi, range->hi_size);
		c->opt.hi = c->bounds + range->lo_size;
		c->opt.hi_len = (uint32_t) range->hi_size;
	}
	c->opt.backward = range->backward;
	c->opt.max_rows = range->expect_rows;
	c->opt.snap = &c->snap.snap;
	c->at = 0;
	c->batch.n = 0;
	c->ended = false;
	return LTG_OK;
}

static void
set_snapshot(lt_cursor *c)
{
	if (c->txn == NULL)
	{
		lt_snap_take(c->db->xids, &c->snap, c->ses->place);
		lt_snap_announce(&c->snap);
	}
	else
	{
		see_own_writes(c->txn);
		c->snap = c->txn->snap;
		c->snap.place = NULL;
	}
}

lt_status
lt_cursor_open(lt_db *db, lt_txn *txn, lt_tree *tree, const lt_range *range, lt_cursor **out)
{
	LtgPort    *port = &db->port;
	LtSession  *ses;
	lt_cursor  *c;
	LtgStatus	st = lt_session_get(db, false, &ses);

	*out = NULL;
	if (st != LTG_OK)
		return (lt_status) st;
	c = port->alloc(port, sizeof(*c));
	if (c == NULL)
		return lt_session_done(db, ses, ltg_fail(ses->s, LTG_NOMEM, "out of memory for a cursor"));
	memset(c, 0, sizeof(*c));
	c->db = db;
	c->ses = ses;
	c->txn = txn;
	c->tree = the_tree(db, tree);
	set_snapshot(c);
	st = set_range(c, range);
	if (st == LTG_OK)
		st = ltg_scan_open(ses->s, c->tree->store, &c->opt, &c->scan);
	if (st != LTG_OK)
	{
		if (txn == NULL)
			lt_snap_release(&c->snap);
		port->free(port, c->bounds);
		port->free(port, c);
		return lt_session_done(db, ses, st);
	}
	if (txn != NULL)
		txn->cursors++;
	*out = c;
	return LT_OK;
}

/* An error of the cursor's session, which it keeps. */
static lt_status
cursor_failed(lt_cursor *c, LtgStatus st)
{
	lt_keep_error(c->db, st, &c->ses->s->err);
	ltg_clear_error(c->ses->s);
	return (lt_status) st;
}

lt_status
lt_cursor_next(lt_cursor *c, const void **key, size_t *key_size, const void **value,
			   size_t *value_size)
{
	const uint8_t *k;
	uint32_t	k_len;
	LtgVersion	v;

	while (LTG_UNLIKELY(c->at == c->batch.n))
	{
		LtgStatus	st = c->ended ? LTG_END : ltg_scan_next(c->scan, &c->batch);

		c->at = 0;
		if (st != LTG_OK)
		{
			c->batch.n = 0;
			c->ended = true;
			return st == LTG_END ? LT_END : cursor_failed(c, st);
		}
	}
	ltg_batch_row(c->scan, c->at++, &k, &k_len, &v);
	*key = k;
	*key_size = k_len;
	*value = v.payload;
	*value_size = v.payload_len;
	return LT_OK;
}

lt_status
lt_cursor_seek(lt_cursor *c, const lt_range *range)
{
	LtgStatus	st;

	set_snapshot(c);
	st = set_range(c, range);
	if (st == LTG_OK)
		st = ltg_scan_restart(c->scan, &c->opt);
	if (st != LTG_OK)
	{
		c->ended = true;
		return cursor_failed(c, st);
	}
	return LT_OK;
}

void
lt_cursor_close(lt_cursor *c)
{
	lt_db	   *db;

	if (c == NULL)
		return;
	db = c->db;
	ltg_scan_close(c->scan);
	if (c->txn == NULL)
		lt_snap_release(&c->snap);
	else
		c->txn->cursors--;
	db->port.free(&db->port, c->bounds);
	lt_session_put(db, c->ses);
	db->port.free(&db->port, c);
}
