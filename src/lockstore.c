/*
 * lockstore.c
 *	  Row locks that don't fit into shared memory, or have to survive a restart.
 *
 * They are kept in a store of their own, for the tables of all databases.  A key
 * is the table, the block, and a number that makes it unique; the version's
 * writer is the owner of the lock, its payload the mode and a bitmap of the rows.
 * The store is logged like any other, so what a prepared transaction has locked
 * is there after a crash and on a standby that takes over.
 *
 * Invariants
 *	 S1. A lock counts only while its owner is in progress, so nothing is ever
 *		 deleted: flush and compaction drop what ended transactions leave
 *		 (LTG_STORE_LOCKS).
 *	 S2. The filter has a bit for every block with a lock in the store whose owner
 *		 is in progress.  It is emptied only when all owners ever noted in it have
 *		 ended.
 *	 S3. A lock is in the store, and its block in the filter, before it leaves
 *		 shared memory.
 *	 S4. What can't be read is an error for those who ask for a lock, not for the
 *		 server.
 *
 * Order of locks: after the row's latch comes the filter's lock, then what the
 * engine takes.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "catalog/pg_tablespace_d.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "utils/memutils.h"

#include "lockstore.h"
#include "modify.h"
#include "server.h"
#include "versions.h"

#define PREFIX_LEN 20			/* table and block */

typedef struct LockStoreShared
{
	LWLockPadded lock;			/* shared: bits are being set; exclusive: all are
								 * cleared, or the store is created */
	pg_atomic_uint64 newest_owner;	/* 0: the filter is empty */
	uint32		n_words;		/* of the filter, a power of two */
	pg_atomic_uint64 words[FLEXIBLE_ARRAY_MEMBER];
} LockStoreShared;

static const LtgStoreKey lock_store_key = {GLOBALTABLESPACE_OID, InvalidOid, InvalidOid, -1};

static LockStoreShared *shared = NULL;

/* This backend's way to the store. */
static LtgStore *store = NULL;
static uint64 store_id = 0;
static LightningScanGuard *guard = NULL;

/* ---- shared memory ---- */

/* One bit for 4 bytes of the table of row locks. */
static uint32
word_count(void)
{
	uint32		n = 1024;

	while ((uint64) n * 64 * 4 < (uint64) lightning_row_lock_size * 1024)
		n *= 2;
	return n;
}

Size
lightning_lockstore_shmem_size(void)
{
	return MAXALIGN(add_size(offsetof(LockStoreShared, words),
							 mul_size(word_count(), sizeof(pg_atomic_uint64))));
}

void
lightning_lockstore_shmem_init(void *mem, bool found)
{
	static int	tranche;

	shared = mem;
	if (found)
		return;
	tranche = LWLockNewTrancheId();
	LWLockInitialize(&shared->lock.lock, tranche);
	pg_atomic_init_u64(&shared->newest_owner, 0);
	shared->n_words = word_count();
	for (uint32 i = 0; i < shared->n_words; i++)
		pg_atomic_init_u64(&shared->words[i], 0);
	LWLockRegisterTranche(tranche, "LightningLockStore");
}

/* ---- the filter ---- */

static uint64
bit_of(const LtgStoreKey *table, uint32 block)
{
	uint64		h = hash_combine64(murmurhash32(block), table->relation);

	h = hash_combine64(h, (uint64) table->database << 32 | table->space);
	h = (h ^ h >> 32) * UINT64CONST(0x9E3779B97F4A7C15);
	return h >> 16 & ((uint64) shared->n_words * 64 - 1);
}

/* S2, S3: to be called between writing and whatever makes others rely on it. */
static void
note_in_filter(const LightningRowLocks *locks, uint32 n)
{
	LWLockAcquire(&shared->lock.lock, LW_SHARED);
	for (uint32 i = 0; i < n; i++)
	{
		uint64		bit = bit_of(&locks[i].table, locks[i].block);
		uint64		newest = pg_atomic_read_u64(&shared->newest_owner);

		pg_atomic_fetch_or_u64(&shared->words[bit / 64], UINT64CONST(1) << (bit & 63));
		while (newest < locks[i].xid &&
			   !pg_atomic_compare_exchange_u64(&shared->newest_owner, &newest, locks[i].xid))
			;
	}
	LWLockRelease(&shared->lock.lock);
}

static bool
in_filter(const LtgStoreKey *table, uint32 block)
{
	uint64		bit;

	if (pg_atomic_read_u64(&shared->newest_owner) == 0)
		return false;
	bit = bit_of(table, block);
	return (pg_atomic_read_u64(&shared->words[bit / 64]) >> (bit & 63) & 1) != 0;
}

/* S2, when nobody can tell which blocks these are: all, until nobody who runs now
 * runs any more. */
static void
note_everything(void)
{
	LWLockAcquire(&shared->lock.lock, LW_EXCLUSIVE);
	for (uint32 i = 0; i < shared->n_words; i++)
		pg_atomic_write_u64(&shared->words[i], PG_UINT64_MAX);
	pg_atomic_write_u64(&shared->newest_owner,
						U64FromFullTransactionId(ReadNextFullTransactionId()));
	LWLockRelease(&shared->lock.lock);
}

/* S2: what is noted from now on has newer owners, or such as were counted. */
void
lightning_lockstore_tidy(void)
{
	LtgXid		newest = pg_atomic_read_u64(&shared->newest_owner);
	LtgXid		oldest;

	if (newest == 0 || RecoveryInProgress())
		return;
	oldest = lightning_widen_xid(GetOldestActiveTransactionId());
	if (newest >= oldest)
		return;
	LWLockAcquire(&shared->lock.lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u64(&shared->newest_owner) == newest)
	{
		for (uint32 i = 0; i < shared->n_words; i++)
			pg_atomic_write_u64(&shared->words[i], 0);
		pg_atomic_write_u64(&shared->newest_owner, 0);
	}
	LWLockRelease(&shared->lock.lock);
}

/* ---- the store ---- */

static bool
find_store(LtgSession *s)
{
	LtgStatus	st;

	if (store != NULL && ltg_store_id(store) == store_id)
		return true;
	if (guard != NULL && guard->scan != NULL)
	{
		ltg_scan_close(guard->scan);
		guard->scan = NULL;
	}
	st = ltg_store_find(s, &lock_store_key, &store);
	if (st == LTG_OK)
	{
		store_id = ltg_store_id(store);
		return true;
	}
	store = NULL;
	lightning_report(s, st, NULL);
	return false;
}

void
lightning_lockstore_create(void)
{
	LtgSession *s = lightning_session();

	while (!find_store(s))
	{
		LtgStatus	st = LTG_OK;
		bool		up;

		lightning_reserve_store(s);
		LWLockAcquire(&shared->lock.lock, LW_EXCLUSIVE);
		lightning_ddl_begin(s);
		up = lightning_gate_is_up();
		if (up && ltg_store_find(s, &lock_store_key, &store) == LTG_NOT_FOUND)
			st = ltg_store_create(s, &lock_store_key, LTG_STORE_LOCKS,
								  lightning_log_create_store(&lock_store_key, LTG_STORE_LOCKS),
								  &store);
		lightning_ddl_end(s);
		LWLockRelease(&shared->lock.lock);
		store = NULL;
		lightning_report(s, st, NULL);
		if (!up)
			lightning_gate_wait();
	}
}

static uint8 *
put_be32(uint8 *p, uint32 v)
{
	*p++ = (uint8) (v >> 24);
	*p++ = (uint8) (v >> 16);
	*p++ = (uint8) (v >> 8);
	*p++ = (uint8) v;
	return p;
}

static uint8 *
put_prefix(uint8 *p, const LtgStoreKey *table, uint32 block)
{
	p = put_be32(p, table->space);
	p = put_be32(p, table->database);
	p = put_be32(p, table->relation);
	p = put_be32(p, (uint32) (table->backend + 1));
	return put_be32(p, block);
}

static void
make_write(const LightningRowLocks *l, uint64 number, LtgWrite *w, uint8 *key, uint8 *payload)
{
	lightning_rowid_key(put_prefix(key, &l->table, l->block), number);
	payload[0] = l->mode;
	memcpy(payload + 1, l->rows, sizeof(l->rows));
	memset(w, 0, sizeof(*w));
	w->store = store;
	w->key = key;
	w->key_len = LIGHTNING_LOCKSTORE_KEY_LEN;
	w->v.kind = LTG_PUT;
	w->v.xid = l->xid;
	w->v.payload = payload;
	w->v.payload_len = LIGHTNING_LOCKSTORE_PAYLOAD_LEN;
}

/* ---- the log ---- */

#define SPARSE_MAX 31			/* rows listed one by one; above, the bitmap */
#define LOGGED_LEN_MAX (6 * LIGHTNING_VARINT_MAX + 2 + 32)

static uint8 *
log_lock(uint8 *p, const LightningRowLocks *l)
{
	int			n = 0;
	uint8	   *count;

	p = lightning_put_varint(p, l->table.space);
	p = lightning_put_varint(p, l->table.database);
	p = lightning_put_varint(p, l->table.relation);
	p = lightning_put_varint(p, (uint32) (l->table.backend + 1));
	p = lightning_put_varint(p, l->block);
	p = lightning_put_varint(p, l->xid);
	*p++ = l->mode;
	count = p++;
	for (int row = 0; row < 256 && n <= SPARSE_MAX; row++)
	{
		if ((l->rows[row >> 6] >> (row & 63) & 1) == 0)
			continue;
		if (n < SPARSE_MAX)
			p[n] = (uint8) row;
		n++;
	}
	*count = (uint8) n;
	if (n <= SPARSE_MAX)
		return p + n;
	memcpy(p, l->rows, sizeof(l->rows));
	return p + sizeof(l->rows);
}

const uint8 *
lightning_lockstore_read(const uint8 *p, const uint8 *end, LtgStore *to, uint64 number,
						 LtgWrite *w, uint8 *key, uint8 *payload)
{
	LightningRowLocks l = {0};
	uint64		v[6];
	int			n;

	for (int i = 0; i < 6; i++)
	{
		p = lightning_get_varint(p, end, &v[i]);
		if (p == NULL)
			return NULL;
	}
	if (end - p < 2)
		return NULL;
	l.table.space = (uint32) v[0];
	l.table.database = (uint32) v[1];
	l.table.relation = (uint32) v[2];
	l.table.backend = (int32) v[3] - 1;
	l.block = (uint32) v[4];
	l.xid = v[5];
	l.mode = *p++;
	n = *p++;
	if (end - p < (n <= SPARSE_MAX ? n : (int) sizeof(l.rows)))
		return NULL;
	if (n <= SPARSE_MAX)
	{
		for (int i = 0; i < n; i++, p++)
			l.rows[*p >> 6] |= UINT64CONST(1) << (*p & 63);
	}
	else
	{
		memcpy(l.rows, p, sizeof(l.rows));
		p += sizeof(l.rows);
	}
	make_write(&l, number, w, key, payload);
	w->store = to;
	return p;
}

/* ---- writing ---- */

static bool
write_batch(const LightningRowLocks *locks, uint32 n)
{
	LtgSession *s = lightning_session();
	LightningRel lr = {.logged = true};
	LtgWrite   *w = palloc(sizeof(LtgWrite) * n);
	uint8	   *keys = palloc((Size) LIGHTNING_LOCKSTORE_KEY_LEN * n);
	uint8	   *payloads = palloc((Size) LIGHTNING_LOCKSTORE_PAYLOAD_LEN * n);
	uint8	   *body = palloc((Size) LOGGED_LEN_MAX * n);
	uint8	   *p = body;
	uint64		first = ltg_store_take_rowids(store, n);
	bool		latched = s->latched_stripe >= 0;
	bool		done;
	LightningRecord rec;
	LtgSeq		seq;

	for (uint32 i = 0; i < n; i++)
	{
		make_write(&locks[i], first + i, &w[i], keys + i * LIGHTNING_LOCKSTORE_KEY_LEN,
				   payloads + i * LIGHTNING_LOCKSTORE_PAYLOAD_LEN);
		p = log_lock(p, &locks[i]);
	}
	do
	{
		lightning_record_start(&rec, XLOG_LIGHTNING_LOCKS, 0, &lock_store_key);
		lightning_record_varint(&rec, first);
		lightning_record_varint(&rec, n);
		rec.body = body;
		rec.body_len = (uint32) (p - body);
		done = lightning_write(s, NULL, &lr, w, n, &rec, &seq);
	} while (!done && !latched);

	pfree(body);
	pfree(payloads);
	pfree(keys);
	pfree(w);
	return done;
}

bool
lightning_lockstore_write(const LightningRowLocks *locks, uint32 n)
{
	if (!find_store(lightning_session()))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("lightning's store of row locks does not exist")));
	for (uint32 i = 0; i < n; i += LIGHTNING_LOCKSTORE_BATCH)
	{
		if (!write_batch(locks + i, Min(n - i, LIGHTNING_LOCKSTORE_BATCH)))
			return false;
	}
	note_in_filter(locks, n);
	return true;
}

/* ---- reading ---- */

static uint32
get_be32(const uint8 *p)
{
	return (uint32) p[0] << 24 | (uint32) p[1] << 16 | (uint32) p[2] << 8 | p[3];
}

/* From the store's rows, in the order of keys; lo and hi may be NULL. */
static void
visit_range(LtgSession *s, const uint8 *lo, uint32 lo_len, const uint8 *hi, uint32 hi_len,
			LightningRowLocksFn fn, void *arg)
{
	LtgScanOptions opt = {.lo = lo, .lo_len = lo_len, .hi = hi, .hi_len = hi_len};
	LtgBatch	batch;
	LtgStatus	st;

	if (guard == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		guard = lightning_guard_create();
		MemoryContextSwitchTo(old);
	}
	if (guard->scan == NULL)
		st = ltg_scan_open(s, store, &opt, &guard->scan);
	else
		st = ltg_scan_restart(guard->scan, &opt);
	lightning_report(s, st, NULL);
	while ((st = ltg_scan_next(guard->scan, &batch)) == LTG_OK || st == LTG_INTERRUPTED)
	{
		for (uint32 i = 0; st == LTG_OK && i < batch.n; i++)
		{
			LightningRowLocks l;
			LtgVersion	v;
			const uint8 *key;
			uint32		key_len;

			ltg_batch_row(guard->scan, i, &key, &key_len, &v);
			if (key_len != LIGHTNING_LOCKSTORE_KEY_LEN || v.kind != LTG_PUT ||
				v.payload_len != LIGHTNING_LOCKSTORE_PAYLOAD_LEN)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("lightning's store of row locks is damaged")));
			l.table.space = get_be32(key);
			l.table.database = get_be32(key + 4);
			l.table.relation = get_be32(key + 8);
			l.table.backend = (int32) get_be32(key + 12) - 1;
			l.block = get_be32(key + 16);
			l.xid = v.xid;
			l.mode = v.payload[0];
			memcpy(l.rows, v.payload + 1, sizeof(l.rows));
			fn(arg, &l);
		}
	}
	if (st != LTG_END)
		lightning_report(s, st, NULL);
}

void
lightning_lockstore_visit(const LtgStoreKey *table, uint32 block, LightningRowLocksFn fn, void *arg)
{
	LtgSession *s;
	uint8		lo[PREFIX_LEN];
	uint8		hi[LIGHTNING_LOCKSTORE_KEY_LEN + 1];

	if (likely(!in_filter(table, block)))
		return;
	s = lightning_session();
	if (!find_store(s))
		return;
	(void) put_prefix(lo, table, block);
	memset(put_prefix(hi, table, block), 0xFF, sizeof(hi) - PREFIX_LEN);
	visit_range(s, lo, sizeof(lo), hi, sizeof(hi), fn, arg);
}

typedef struct Restore
{
	LtgSession *s;
	uint64		n;
} Restore;

/*
 * An unlogged table that a crash has emptied may have forgotten which row ids were
 * in use.  New rows must not get those that are locked.
 */
static void
avoid_rows(LtgSession *s, const LightningRowLocks *l)
{
	LtgStore   *table;

	if (ltg_store_find(s, &l->table, &table) != LTG_OK)
	{
		ltg_clear_error(s);
		return;
	}
	for (int i = 3; i >= 0; i--)
	{
		if (l->rows[i] == 0)
			continue;
		ltg_store_note_rowid(table, (uint64) l->block << 8 | (uint64) i << 6 |
							 (uint64) pg_leftmost_one_pos64(l->rows[i]));
		break;
	}
}

static void
restore_one(void *arg, const LightningRowLocks *l)
{
	Restore    *r = arg;

	if (!lightning_xact_goes_on(l->xid))
		return;
	avoid_rows(r->s, l);
	note_in_filter(l, 1);
	r->n++;
}

/* Before anybody may write: the filter is empty after a start. */
void
lightning_lockstore_restore(LtgSession *s)
{
	MemoryContext cxt = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;
	Restore		r = {.s = s};

	if (!find_store(s))
		return;
	PG_TRY();
	{
		visit_range(s, NULL, 0, NULL, 0, restore_one, &r);
	}
	PG_CATCH();
	{
		ErrorData  *error = lightning_catch(cxt, cxt, holdoff);

		note_everything();
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("lightning could not read which rows prepared transactions have locked: %s",
						error->message),
				 error->detail != NULL ? errdetail_internal("%s", error->detail) : 0,
				 errhint("Locking rows may fail until they have been committed or rolled back.")));
		FreeErrorData(error);
	}
	PG_END_TRY();
	if (r.n > 0)
		ereport(DEBUG1,
				(errmsg_internal("lightning: row locks of prepared transactions: " UINT64_FORMAT, r.n)));
}
