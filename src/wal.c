/*
 * wal.c
 *	  Assembling Lightning's log records (format: wal.h), and the one place
 *	  where versions are written: reserve, log, apply.
 *
 * Between ltg_reserve and ltg_apply this process holds a pin on the active
 * generation, so nothing there may fail or wait: records are complete before.
 * XLogInsert within a critical section either returns an LSN or takes the
 * server down.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_tablespace_d.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "utils/memdebug.h"
#include "utils/memutils.h"

#include "modify.h"

LightningWalUsage lightning_wal_usage;

/*
 * Records
 */

void
lightning_record_start(LightningRecord *rec, uint8 info, uint8 flags,
					   const LtgStoreKey *key)
{
	Assert(key->backend == -1);
	rec->info = info;
	rec->head_len = 0;
	rec->body = NULL;
	rec->body_len = 0;
	if (key->space != DEFAULTTABLESPACE_OID)
		flags |= LIGHTNING_XLF_SPACE;
	lightning_record_byte(rec, flags);
	if (flags & LIGHTNING_XLF_SPACE)
		lightning_record_varint(rec, key->space);
	lightning_record_varint(rec, key->database);
	lightning_record_varint(rec, key->relation);
}

void
lightning_record_byte(LightningRecord *rec, uint8 b)
{
	Assert(rec->head_len < sizeof(rec->head));
	rec->head[rec->head_len++] = b;
}

void
lightning_record_varint(LightningRecord *rec, uint64 v)
{
	uint8	   *p = rec->head + rec->head_len;

	Assert(rec->head_len + LIGHTNING_VARINT_MAX <= sizeof(rec->head));
	rec->head_len = lightning_put_varint(p, v) - rec->head;
}

/* Length of the common prefix of two byte strings. */
static uint32
common_prefix(const uint8 *a, const uint8 *b, uint32 max)
{
	uint32		i = 0;

	while (i + 8 <= max)
	{
		uint64		x,
					y;

		memcpy(&x, a + i, 8);
		memcpy(&y, b + i, 8);
		if (x != y)
			break;
		i += 8;
	}
	while (i < max && a[i] == b[i])
		i++;
	return i;
}

static uint32
common_suffix(const uint8 *a, uint32 alen, const uint8 *b, uint32 blen, uint32 max)
{
	uint32		i = 0;

	while (i + 8 <= max)
	{
		uint64		x,
					y;

		memcpy(&x, a + alen - i - 8, 8);
		memcpy(&y, b + blen - i - 8, 8);
		if (x != y)
			break;
		i += 8;
	}
	while (i < max && a[alen - i - 1] == b[blen - i - 1])
		i++;
	return i;
}

void
lightning_record_image(LightningRecord *rec, const uint8 *base, uint32 base_len,
					   const uint8 *payload, uint32 len)
{
	uint32		max = Min(base_len, len);
	uint32		prefix = common_prefix(base, payload, max);
	uint32		suffix = common_suffix(base, base_len, payload, len, max - prefix);

	/* two varints and a CRC take about eight bytes */
	if (prefix + suffix > 8)
	{
		pg_crc32c	crc;

		INIT_CRC32C(crc);
		COMP_CRC32C(crc, payload, len);
		FIN_CRC32C(crc);
		rec->head[0] |= LIGHTNING_XLF_DELTA;
		lightning_record_varint(rec, prefix);
		lightning_record_varint(rec, suffix);
		Assert(rec->head_len + sizeof(crc) <= sizeof(rec->head));
		memcpy(rec->head + rec->head_len, &crc, sizeof(crc));
		rec->head_len += sizeof(crc);
		rec->body = payload + prefix;
		rec->body_len = len - prefix - suffix;
	}
	else
	{
		rec->body = payload;
		rec->body_len = len;
	}
}

static LtgSeq
insert_record(const LightningRecord *rec)
{
	XLogRecPtr	end;

	Assert(rec->head_len + rec->body_len <= LIGHTNING_WAL_RECORD_MAX);
	/* under valgrind: no byte of a record may be left to chance */
	VALGRIND_CHECK_MEM_IS_DEFINED(rec->head, rec->head_len);
	VALGRIND_CHECK_MEM_IS_DEFINED(rec->body, rec->body_len);
	XLogBeginInsert();
	XLogRegisterData(unconstify(char *, (const char *) rec->head), rec->head_len);
	if (rec->body_len > 0)
		XLogRegisterData(unconstify(char *, (const char *) rec->body), rec->body_len);
	XLogSetRecordFlags(XLOG_INCLUDE_ORIGIN);
	end = XLogInsert(LIGHTNING_RMGR_ID, rec->info);
	lightning_wal_usage.records++;
	lightning_wal_usage.bytes += rec->head_len + rec->body_len;
	return end;
}

/*
 * Background work is behind: writers pay with time for what they write, so that
 * they needn't stop.  Done with nothing held: false tells the caller to start
 * over.
 */
static bool
slow_down(LtgSession *s, const LtgWrite *w, uint32 n)
{
	static bool paid = false;
	uint64		bytes = 0;
	uint64		us;
	uint32		i;

	if (likely(!ltg_writers_are_slowed(s)) || paid)
	{
		paid = false;
		return false;
	}
	for (i = 0; i < n; i++)
		bytes += w[i].key_len + w[i].v.payload_len;
	us = ltg_write_delay(s, bytes);
	if (us == 0)
		return false;
	if (s->latched_stripe >= 0)
		ltg_unlatch(s);
	paid = true;
	lightning_delay_write(us);
	return true;
}

/*
 * Writing versions
 */
bool
lightning_write(LtgSession *s, Relation rel, const LightningRel *lr,
				LtgWrite *w, uint32 n, const LightningRecord *rec, LtgSeq *seq)
{
	LtgStatus	st;

	Assert(rec != NULL || !lr->logged);

	/*
	 * A lock that goes along with its row is written under the row's latch, time
	 * and again as long as writing the row has to wait: the row pays for both.
	 */
	if (!(rel == NULL && s->latched_stripe >= 0) && slow_down(s, w, n))
		return false;
	st = ltg_reserve(s, w, n);
	if (st == LTG_OK && !lightning_gate_is_up())
	{
		ltg_cancel(s);
		if (s->latched_stripe >= 0)
			ltg_unlatch(s);
		lightning_gate_wait();
		return false;
	}
	if (st != LTG_OK)
	{
		if (s->latched_stripe >= 0)
			ltg_unlatch(s);
		lightning_report(s, st, rel);
		Assert(st == LTG_BUSY);
		lightning_make_room(s);
		return false;
	}

	START_CRIT_SECTION();
	*seq = lr->logged ? insert_record(rec) : ltg_next_unlogged_seq(s);
	ltg_apply(s, w, n, *seq);
	END_CRIT_SECTION();
	return true;
}

/*
 * Whole stores
 */
static LtgSeq
log_store(uint8 info, const LtgStoreKey *key, bool with_flags, uint32 flags)
{
	LightningRecord rec;

	lightning_record_start(&rec, info, 0, key);
	if (with_flags)
		lightning_record_varint(&rec, flags);
	return insert_record(&rec);
}

LtgSeq
lightning_log_create_store(const LtgStoreKey *key, uint32 flags)
{
	return log_store(XLOG_LIGHTNING_CREATE_STORE, key, true, flags);
}

LtgSeq
lightning_log_drop_store(const LtgStoreKey *key)
{
	return log_store(XLOG_LIGHTNING_DROP_STORE, key, false, 0);
}

LtgSeq
lightning_log_truncate_store(const LtgStoreKey *key, uint32 flags)
{
	return log_store(XLOG_LIGHTNING_TRUNCATE_STORE, key, true, flags);
}

void
lightning_log_removed(Relation rel, TransactionId newest, LtgSeq graves_upto)
{
	LtgStoreKey key;
	LightningRecord rec;

	if (!TransactionIdIsNormal(newest) && graves_upto == 0)
		return;
	lightning_store_key(&rel->rd_node, rel->rd_backend, &key);
	lightning_record_start(&rec, XLOG_LIGHTNING_REMOVED, 0, &key);
	lightning_record_varint(&rec, newest);
	lightning_record_varint(&rec, graves_upto);
	(void) insert_record(&rec);
}

/*
 * Versions as they are (CLUSTER)
 */
static uint32
put_raw_row(uint8 *buf, const LightningRawRow *row)
{
	uint8	   *p = buf;

	p = lightning_put_varint(p, row->rowid);
	*p++ = (uint8) (row->v.kind | row->v.state << 4);
	*p++ = row->v.tag;
	*p++ = row->v.flags;
	p = lightning_put_varint(p, row->v.xid);
	p = lightning_put_varint(p, row->v.aux);
	p = lightning_put_varint(p, row->v.payload_len);
	if (row->v.payload_len > 0)
		memcpy(p, row->v.payload, row->v.payload_len);
	return p + row->v.payload_len - buf;
}

#define RAW_ROW_OVERHEAD (3 + 4 * LIGHTNING_VARINT_MAX)

static void
insert_raw_batch(Relation rel, LightningRawRow *rows, int n, uint32 bytes)
{
	LtgSession *s = lightning_session();
	LtgWrite   *w = palloc0(sizeof(LtgWrite) * n);
	uint8	   *keys = palloc((Size) LIGHTNING_KEY_LEN * n);
	uint8	   *body = palloc((Size) bytes + (Size) RAW_ROW_OVERHEAD * n);
	uint32		body_len = 0;
	LtgSeq		seq;
	LightningRel lr;
	LightningRecord rec;

	for (int i = 0; i < n; i++)
	{
		lightning_rowid_key(keys + i * LIGHTNING_KEY_LEN, rows[i].rowid);
		w[i].key = keys + i * LIGHTNING_KEY_LEN;
		w[i].key_len = LIGHTNING_KEY_LEN;
		w[i].v = rows[i].v;
		w[i].v.seq = 0;
		body_len += put_raw_row(body + body_len, &rows[i]);
	}

	do
	{
		lr = lightning_rel(rel);
		for (int i = 0; i < n; i++)
			w[i].store = lr.store;
		if (lr.logged)
		{
			LtgStoreKey key;

			lightning_store_key(&rel->rd_node, rel->rd_backend, &key);
			lightning_record_start(&rec, XLOG_LIGHTNING_RAW, 0, &key);
			lightning_record_varint(&rec, n);
			rec.body = body;
			rec.body_len = body_len;
		}
	} while (!lightning_write(s, rel, &lr, w, n, lr.logged ? &rec : NULL, &seq));

	pfree(body);
	pfree(keys);
	pfree(w);
}

void
lightning_insert_raw(Relation rel, LightningRawRow *rows, int n)
{
	int			start = 0;

	while (start < n)
	{
		uint32		bytes = 0;
		int			end = start;

		do
			bytes += rows[end++].v.payload_len;
		while (end < n && end - start < LIGHTNING_WAL_BATCH_ROWS &&
			   bytes + rows[end].v.payload_len <= LIGHTNING_WAL_BATCH_BYTES);
		insert_raw_batch(rel, rows + start, end - start, bytes);
		start = end;
	}
}
