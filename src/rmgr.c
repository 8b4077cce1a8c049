/*
 * rmgr.c
 *	  Lightning's WAL resource manager: redo, and descriptions for pg_waldump.
 *
 * Redo writes versions into the memtable exactly as the original did, with the
 * same sequence numbers.  What the files already contain (records up to the
 * manifest's LSN) is skipped.  Redo is the only writer, so it needs no key
 * latches; on a standby readers run beside it.
 */
#include "postgres.h"

#include <lz4.h>
#include <zstd.h>

#include "access/rmgr.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "catalog/pg_tablespace_d.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "port/pg_crc32c.h"
#include "replication/decode.h"
#include "replication/reorderbuffer.h"
#include "storage/standby.h"
#include "utils/memutils.h"

#include "lockstore.h"
#include "logical.h"
#include "modify.h"
#include "row.h"
#include "server.h"

/* A record being read. */
typedef struct Reading
{
	const uint8 *p;
	const uint8 *end;
	XLogRecPtr	lsn;			/* end of the record */
	uint8		info;
	uint8		flags;
	bool		bad;			/* ran out of bytes */
	LtgStoreKey key;
} Reading;

static MemoryContext redo_cxt = NULL;

static uint64
read_varint(Reading *r)
{
	uint64		v = 0;
	const uint8 *p = r->bad ? NULL : lightning_get_varint(r->p, r->end, &v);

	if (p == NULL)
	{
		r->bad = true;
		return 0;
	}
	r->p = p;
	return v;
}

static uint8
read_byte(Reading *r)
{
	if (r->bad || r->p >= r->end)
	{
		r->bad = true;
		return 0;
	}
	return *r->p++;
}

static void
start_reading(Reading *r, XLogReaderState *record)
{
	memset(r, 0, sizeof(*r));
	r->p = (const uint8 *) XLogRecGetData(record);
	r->end = r->p + XLogRecGetDataLen(record);
	r->lsn = record->EndRecPtr;
	r->info = XLogRecGetInfo(record) & ~XLR_INFO_MASK;
	r->flags = read_byte(r);
	r->key.space = (r->flags & LIGHTNING_XLF_SPACE) ? read_varint(r) : DEFAULTTABLESPACE_OID;
	r->key.database = read_varint(r);
	r->key.relation = read_varint(r);
	r->key.backend = -1;
}

static const char *
kind_name(uint8 info)
{
	switch (info)
	{
		case XLOG_LIGHTNING_INSERT:
			return "INSERT";
		case XLOG_LIGHTNING_MULTI_INSERT:
			return "MULTI_INSERT";
		case XLOG_LIGHTNING_UPDATE:
			return "UPDATE";
		case XLOG_LIGHTNING_MOVE:
			return "MOVE";
		case XLOG_LIGHTNING_DELETE:
			return "DELETE";
		case XLOG_LIGHTNING_KILL:
			return "KILL";
		case XLOG_LIGHTNING_CREATE_STORE:
			return "CREATE_STORE";
		case XLOG_LIGHTNING_DROP_STORE:
			return "DROP_STORE";
		case XLOG_LIGHTNING_TRUNCATE_STORE:
			return "TRUNCATE_STORE";
		case XLOG_LIGHTNING_RAW:
			return "RAW";
		case XLOG_LIGHTNING_REMOVED:
			return "REMOVED";
		case XLOG_LIGHTNING_LOCKS:
			return "LOCKS";
	}
	return NULL;
}

static void
damaged_record(const Reading *r)
{
	ereport(PANIC,
			errcode(ERRCODE_DATA_CORRUPTED),
			errmsg("lightning log record ending at %X/%X cannot be decoded",
				   LSN_FORMAT_ARGS(r->lsn)));
}

/*
 * Redo
 */

/* The record's store; NULL: dropped later on, nothing to do. */
static LtgStore *
find_store(LtgSession *s, const Reading *r)
{
	LtgStore   *store = NULL;
	LtgStatus	st = ltg_store_find(s, &r->key, &store);

	if (st == LTG_OK)
		return store;
	if (st != LTG_NOT_FOUND)
		lightning_report(s, st, NULL);
	if (!ltg_store_was_dropped(s, &r->key))
		ereport(PANIC,
				errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("WAL refers to lightning store %u/%u/%u that does not exist",
					   r->key.space, r->key.database, r->key.relation),
				errdetail("The record is of kind %s and ends at %X/%X.",
						  kind_name(r->info), LSN_FORMAT_ARGS(r->lsn)),
				errhint("The files in directory \"%s\" may not belong to this cluster's WAL.",
						LIGHTNING_DIR));
	return NULL;
}

/* The files may have some of the rows of a record, though not all of it. */
static void
apply(LtgSession *s, LtgWrite *w, uint32 n, LtgSeq seq)
{
	LtgStatus	st;
	uint32		left = 0;

	for (uint32 i = 0; i < n; i++)
		if (!ltg_is_merged(w[i].store, w[i].key, w[i].key_len, seq))
			w[left++] = w[i];
	if (left == 0)
		return;
	n = left;
	while ((st = ltg_reserve(s, w, n)) == LTG_BUSY)
		lightning_recovery_make_room(s);
	lightning_report(s, st, NULL);
	lightning_recovery_applied(seq);
	ltg_apply(s, w, n, seq);
}

/* Get a write ready, with its key in key[]. */
static void
start_write(LtgWrite *w, LtgStore *store, uint8 *key, uint64 rowid, LtgXid xid, LtgKind kind)
{
	memset(w, 0, sizeof(*w));
	lightning_rowid_key(key, rowid);
	w->store = store;
	w->key = key;
	w->key_len = LIGHTNING_KEY_LEN;
	w->v.kind = kind;
	w->v.xid = xid;
	ltg_store_note_rowid(store, rowid);
}

static void
redo_insert(LtgSession *s, Reading *r, LtgXid xid)
{
	LtgStore   *store = find_store(s, r);
	uint64		rowid = read_varint(r);
	uint8		key[LIGHTNING_KEY_LEN];
	LtgWrite	w;

	if (store == NULL)
		return;
	if (r->bad)
		damaged_record(r);
	start_write(&w, store, key, rowid, xid, LTG_PUT);
	if (r->flags & LIGHTNING_XLF_FROZEN)
		w.v.state = LTG_SETTLED;
	w.v.payload = r->p;
	w.v.payload_len = r->end - r->p;
	apply(s, &w, 1, r->lsn);
}

/* The body of a MULTI_INSERT, decompressed if it was compressed. */
static void
unpack_body(Reading *r, uint8 codec, uint32 raw_len)
{
	uint8	   *raw;
	size_t		n;

	if (codec == LIGHTNING_WAL_PLAIN)
	{
		if (raw_len != r->end - r->p)
			damaged_record(r);
		return;
	}
	if (raw_len > LIGHTNING_WAL_RECORD_MAX)
		damaged_record(r);
	raw = palloc(raw_len);
	if (codec == LIGHTNING_WAL_LZ4)
	{
		int			m = LZ4_decompress_safe((const char *) r->p, (char *) raw,
											r->end - r->p, raw_len);

		n = m < 0 ? 0 : m;
	}
	else if (codec == LIGHTNING_WAL_ZSTD)
	{
		n = ZSTD_decompress(raw, raw_len, r->p, r->end - r->p);
		if (ZSTD_isError(n))
			n = 0;
	}
	else
		n = 0;
	if (n != raw_len)
		damaged_record(r);
	r->p = raw;
	r->end = raw + raw_len;
}

static void
redo_multi_insert(LtgSession *s, Reading *r, LtgXid xid)
{
	LtgStore   *store = find_store(s, r);
	uint64		rowid = read_varint(r);
	uint64		n = read_varint(r);
	uint8		codec = read_byte(r);
	uint32		raw_len = read_varint(r);
	LtgWrite   *w;
	uint8	   *keys;

	if (store == NULL)
		return;
	if (r->bad || n > LIGHTNING_WAL_BATCH_ROWS)
		damaged_record(r);
	unpack_body(r, codec, raw_len);
	w = palloc(sizeof(LtgWrite) * n);
	keys = palloc(LIGHTNING_KEY_LEN * n);
	for (uint64 i = 0; i < n; i++)
	{
		start_write(&w[i], store, keys + i * LIGHTNING_KEY_LEN, rowid + i, xid, LTG_PUT);
		if (r->flags & LIGHTNING_XLF_FROZEN)
			w[i].v.state = LTG_SETTLED;
		w[i].v.payload_len = read_varint(r);
	}
	for (uint64 i = 0; i < n; i++)
	{
		if (r->bad || w[i].v.payload_len > r->end - r->p)
			damaged_record(r);
		w[i].v.payload = r->p;
		r->p += w[i].v.payload_len;
	}
	apply(s, w, n, r->lsn);
}

/*
 * Find the version that an update was based on: the newest one then.  Tags come
 * again, so nothing that lies under another committed row is it.
 *
 * Where files have what came after the record, too (ltg_is_merged), it lies right
 * under the tombstone of the record's move.  If there is no such tombstone, the move
 * has aborted.
 */
typedef struct BaseSearch
{
	uint8		tag;
	uint64		moved_to;		/* 0, or look for this tombstone first */
	bool		found;
	bool		failed;
	uint8	   *payload;
	uint32		len;
} BaseSearch;

static bool
base_fn(void *arg, const LtgVersion *v, LtgState *fate)
{
	BaseSearch *b = arg;

	if (b->moved_to != 0)
	{
		if (v->kind == LTG_DELETE && v->aux == b->moved_to)
			b->moved_to = 0;
		return true;
	}
	if (v->kind != LTG_PUT || v->state == LTG_ABORTED)
		return true;
	if (v->state == LTG_UNRESOLVED && lightning_did_abort(v->xid))
	{
		*fate = LTG_ABORTED;
		return true;
	}
	if (v->tag != b->tag)
		return v->state == LTG_UNRESOLVED && !lightning_did_commit(v->xid);
	b->payload = MemoryContextAllocExtended(redo_cxt, Max(v->payload_len, 1),
											MCXT_ALLOC_NO_OOM);
	if (b->payload == NULL)
		b->failed = true;
	else
	{
		memcpy(b->payload, v->payload, v->payload_len);
		b->len = v->payload_len;
		b->found = true;
	}
	return false;
}

/*
 * Updates whose base is not there.  A transaction may update a row twice and
 * then abort, with a cut of the memtable in between: the first version is in
 * files, the second one is still to be replayed, and the first one may have been
 * dropped as aborted since.  Only the transaction itself could see that version,
 * so what is left out has aborted, too.  Should it turn out to have committed,
 * the files are not what the log says.
 */
typedef struct LeftOut
{
	LtgXid		xid;
	XLogRecPtr	lsn;
} LeftOut;

static LeftOut *left_out = NULL;
static int	n_left_out = 0;
static int	max_left_out = 0;

static void
leave_out(const Reading *r, LtgXid xid, uint64 rowid, uint8 base_tag)
{
	ereport(DEBUG1,
			errmsg_internal("lightning: version %u of row " UINT64_FORMAT " of store %u/%u/%u is gone, so its update at %X/%X must have aborted",
							base_tag, rowid, r->key.space, r->key.database, r->key.relation,
							LSN_FORMAT_ARGS(r->lsn)));
	if (n_left_out > 0 && left_out[n_left_out - 1].xid == xid)
		return;
	if (n_left_out == max_left_out)
	{
		max_left_out = Max(max_left_out * 2, 64);
		left_out = left_out == NULL ?
			MemoryContextAlloc(TopMemoryContext, max_left_out * sizeof(LeftOut)) :
			repalloc(left_out, max_left_out * sizeof(LeftOut));
	}
	left_out[n_left_out].xid = xid;
	left_out[n_left_out++].lsn = r->lsn;
}

void
lightning_recovery_check_left_out(void)
{
	int			n = 0;

	for (int i = 0; i < n_left_out; i++)
	{
		LtgXid		xid = left_out[i].xid;

		if (lightning_did_commit(xid))
			ereport(PANIC,
					errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("the row that lightning log record ending at %X/%X updates does not exist",
						   LSN_FORMAT_ARGS(left_out[i].lsn)),
					errdetail("Transaction %u, which wrote the record, has committed.",
							  (TransactionId) xid),
					errhint("The files in directory \"%s\" may not belong to this cluster's WAL.",
							LIGHTNING_DIR));
		if (!lightning_did_abort(xid))
			left_out[n++] = left_out[i];
	}
	n_left_out = n;
}

/*
 * The base of an update is in a file that is damaged or missing.  Heap has images
 * of pages; here that row is lost until it is deleted, and everything else goes on.
 */
static void
lose_row(LtgSession *s, const Reading *r, LtgStore *store, uint64 rowid, LtgVersion *v)
{
	LostRow    *row = palloc(sizeof(LostRow));

	if (!lightning_ignore_damage)
		lightning_report(s, LTG_CORRUPT, NULL);
	ereport(WARNING,
			errcode(ERRCODE_DATA_CORRUPTED),
			errmsg("row " UINT64_FORMAT " of lightning store %u/%u/%u is lost: %s",
				   rowid, r->key.space, r->key.database, r->key.relation, s->err.msg),
			errdetail("Its update, logged at %X/%X, is based on what was in file \"%s/%s\", offset %llu.",
					  LSN_FORMAT_ARGS(r->lsn), LIGHTNING_DIR, s->err.file,
					  (unsigned long long) s->err.offset));
	lightning_lost_row(&s->err, row);
	ltg_clear_error(s);
	ltg_store_set_flags(s, store, LTG_STORE_DAMAGED, 0);
	pg_atomic_fetch_add_u64(&lightning_shared->rows_lost, 1);
	v->payload = (uint8 *) row;
	v->payload_len = sizeof(LostRow);
}

/*
 * The payload of a new version, from the image at the end of the record.
 * new_rowid: where the row moves to, 0: it stays.  False if the base version is not
 * there.
 */
static bool
read_image(LtgSession *s, Reading *r, LtgStore *store, uint64 rowid, uint8 base_tag,
		   uint64 new_rowid, LtgVersion *v)
{
	uint8		key[LIGHTNING_KEY_LEN];
	BaseSearch	b;
	uint64		prefix,
				suffix;
	uint32		middle,
				len;
	pg_crc32c	expected,
				crc;
	uint8	   *payload;
	LtgStatus	st;
	bool		lost;

	if ((r->flags & LIGHTNING_XLF_DELTA) == 0)
	{
		v->payload = r->p;
		v->payload_len = r->end - r->p;
		return true;
	}
	prefix = read_varint(r);
	suffix = read_varint(r);
	if (r->bad || r->end - r->p < sizeof(expected))
		damaged_record(r);
	memcpy(&expected, r->p, sizeof(expected));
	r->p += sizeof(expected);
	middle = r->end - r->p;

	memset(&b, 0, sizeof(b));
	b.tag = base_tag;
	lightning_rowid_key(key, rowid);
	if (ltg_is_merged(store, key, LIGHTNING_KEY_LEN, r->lsn))
		b.moved_to = new_rowid;
	st = ltg_versions(s, store, key, LIGHTNING_KEY_LEN, base_fn, &b);
	if (st == LTG_CORRUPT)
	{
		lose_row(s, r, store, rowid, v);
		return true;
	}
	lightning_report(s, st, NULL);
	if (b.failed)
		ereport(PANIC,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory"));
	/* unless it was computed from the lost row's own bytes, it is lost, too */
	lost = b.found && b.len == sizeof(LostRow) && (row_header(b.payload) & ROW_LOST);
	if (lost)
	{
		v->payload = b.payload;
		v->payload_len = b.len;
		if (prefix > b.len || suffix > b.len - prefix)
			return true;
	}
	if (!b.found || prefix > b.len || suffix > b.len - prefix)
		return false;
	len = prefix + middle + suffix;
	if (len > LTG_PAYLOAD_MAX)
		damaged_record(r);

	payload = palloc(Max(len, 1));
	memcpy(payload, b.payload, prefix);
	memcpy(payload + prefix, r->p, middle);
	memcpy(payload + prefix + middle, b.payload + b.len - suffix, suffix);
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, payload, len);
	FIN_CRC32C(crc);
	if (!EQ_CRC32C(crc, expected) && lost)
		return true;
	if (!EQ_CRC32C(crc, expected))
		ereport(PANIC,
				errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("the row that lightning log record ending at %X/%X updates is not the expected one",
					   LSN_FORMAT_ARGS(r->lsn)),
				errdetail("Store %u/%u/%u, row " UINT64_FORMAT ", version %u: checksum of the new version is %08X, expected %08X.",
						  r->key.space, r->key.database, r->key.relation, rowid, base_tag,
						  crc, expected));
	v->payload = payload;
	v->payload_len = len;
	return true;
}

static void
redo_update(LtgSession *s, Reading *r, LtgXid xid)
{
	LtgStore   *store = find_store(s, r);
	uint64		rowid = read_varint(r);
	uint8		base_tag = read_byte(r);
	uint8		new_tag = read_byte(r);
	uint8		key[LIGHTNING_KEY_LEN];
	LtgWrite	w;

	if (store == NULL)
		return;
	if (r->bad)
		damaged_record(r);
	start_write(&w, store, key, rowid, xid, LTG_PUT);
	w.v.tag = new_tag;
	if (r->flags & LIGHTNING_XLF_KEY_CHANGED)
		w.v.flags = LIGHTNING_VF_KEY_CHANGED;
	/* its base may have gone since */
	if (ltg_is_merged(store, key, LIGHTNING_KEY_LEN, r->lsn))
		return;
	if (read_image(s, r, store, rowid, base_tag, 0, &w.v))
		apply(s, &w, 1, r->lsn);
	else
		leave_out(r, xid, rowid, base_tag);
}

static void
redo_move(LtgSession *s, Reading *r, LtgXid xid)
{
	LtgStore   *store = find_store(s, r);
	uint64		rowid = read_varint(r);
	uint8		base_tag = read_byte(r);
	uint8		grave_tag = read_byte(r);
	uint64		new_rowid = read_varint(r);
	uint8		keys[2][LIGHTNING_KEY_LEN];
	LtgWrite	w[2];

	if (store == NULL)
		return;
	if (r->bad)
		damaged_record(r);
	start_write(&w[0], store, keys[0], rowid, xid, LTG_DELETE);
	w[0].v.tag = grave_tag;
	w[0].v.aux = new_rowid;
	if (r->flags & LIGHTNING_XLF_KEY_CHANGED)
		w[0].v.flags = LIGHTNING_VF_KEY_CHANGED;
	start_write(&w[1], store, keys[1], new_rowid, xid, LTG_PUT);
	/* where only the old place is merged, the base has been kept (gc_moved) */
	if (ltg_is_merged(store, keys[1], LIGHTNING_KEY_LEN, r->lsn))
	{
		apply(s, w, 1, r->lsn);
		return;
	}
	if (read_image(s, r, store, rowid, base_tag, new_rowid, &w[1].v))
		apply(s, w, 2, r->lsn);
	else
		leave_out(r, xid, rowid, base_tag);
}

/* DELETE and KILL */
static void
redo_delete(LtgSession *s, Reading *r, LtgXid xid)
{
	LtgStore   *store = find_store(s, r);
	bool		kill = (r->info == XLOG_LIGHTNING_KILL);
	uint64		rowid = read_varint(r);
	uint8		tag = kill ? 0 : read_byte(r);
	uint8		key[LIGHTNING_KEY_LEN];
	LtgWrite	w;

	if (store == NULL)
		return;
	if (r->bad)
		damaged_record(r);
	start_write(&w, store, key, rowid, xid, kill ? LTG_GONE : LTG_DELETE);
	w.v.tag = tag;
	if (r->flags & LIGHTNING_XLF_OTHER_PART)
		w.v.aux = LTG_AUX_OTHER_PARTITION;
	apply(s, &w, 1, r->lsn);
}

static void
redo_raw(LtgSession *s, Reading *r)
{
	LtgStore   *store = find_store(s, r);
	uint64		n = read_varint(r);
	LtgWrite   *w;
	uint8	   *keys;

	if (store == NULL)
		return;
	if (r->bad || n > LIGHTNING_WAL_BATCH_ROWS)
		damaged_record(r);
	w = palloc(sizeof(LtgWrite) * n);
	keys = palloc(LIGHTNING_KEY_LEN * n);
	for (uint64 i = 0; i < n; i++)
	{
		uint64		rowid = read_varint(r);
		uint8		kind_state = read_byte(r);

		start_write(&w[i], store, keys + i * LIGHTNING_KEY_LEN, rowid, 0, kind_state & 15);
		w[i].v.state = kind_state >> 4;
		w[i].v.tag = read_byte(r);
		w[i].v.flags = read_byte(r);
		w[i].v.xid = read_varint(r);
		w[i].v.aux = read_varint(r);
		w[i].v.payload_len = read_varint(r);
		if (r->bad || w[i].v.payload_len > r->end - r->p)
			damaged_record(r);
		w[i].v.payload = r->p;
		r->p += w[i].v.payload_len;
	}
	apply(s, w, n, r->lsn);
}

/*
 * An owner's id may be nowhere else in the log: it must not be used again, for the
 * next one with this id would hold these locks.  So this reads records that the
 * files contain, too.
 */
static void
redo_locks(LtgSession *s, Reading *r)
{
	LtgStore   *store = r->lsn <= ltg_durable(s) ? NULL : find_store(s, r);
	uint64		first = read_varint(r);
	uint64		n = read_varint(r);
	LtgWrite   *w;
	uint8	   *keys;
	uint8	   *payloads;

	if (r->bad || n > LIGHTNING_LOCKSTORE_BATCH)
		damaged_record(r);
	w = palloc(sizeof(LtgWrite) * n);
	keys = palloc(LIGHTNING_LOCKSTORE_KEY_LEN * n);
	payloads = palloc(LIGHTNING_LOCKSTORE_PAYLOAD_LEN * n);
	for (uint64 i = 0; i < n; i++)
	{
		r->p = lightning_lockstore_read(r->p, r->end, store, first + i, &w[i],
										keys + i * LIGHTNING_LOCKSTORE_KEY_LEN,
										payloads + i * LIGHTNING_LOCKSTORE_PAYLOAD_LEN);
		if (r->p == NULL)
			damaged_record(r);
		AdvanceNextFullTransactionIdPastXid((TransactionId) w[i].v.xid);
		if (store != NULL)
			ltg_store_note_rowid(store, first + i);
	}
	if (store != NULL)
		apply(s, w, n, r->lsn);
}

/* The primary may have had a flush in time, or files that took less memory. */
static void
reserve_store(LtgSession *s)
{
	LtgStatus	st = ltg_store_reserve(s, true);

	if (st == LTG_NOSHMEM && ltg_stores_are_leaving(s))
	{
		ltg_clear_error(s);
		lightning_recovery_flush();
		(void) ltg_stores_are_leaving(s);
		st = ltg_store_reserve(s, true);
	}
	lightning_report(s, st, NULL);
}

/* CREATE_STORE, TRUNCATE_STORE, DROP_STORE */
static void
redo_store(LtgSession *s, Reading *r)
{
	uint32		flags = r->info == XLOG_LIGHTNING_DROP_STORE ? 0 : read_varint(r);
	LtgStore   *store;
	LtgStatus	st;

	if (r->bad)
		damaged_record(r);
	if (r->info != XLOG_LIGHTNING_DROP_STORE)
		reserve_store(s);
	lightning_ddl_begin(s);
	if (r->info == XLOG_LIGHTNING_DROP_STORE)
		st = ltg_store_drop(s, &r->key, r->lsn);
	else
		st = ltg_store_create(s, &r->key, flags, r->lsn, &store);
	lightning_recovery_applied(r->lsn);
	lightning_ddl_end(s);
	lightning_report(s, st, NULL);
}

/*
 * Row versions stay on a standby for as long as its own queries need them, but
 * index entries go when the primary removes them.
 */
static void
redo_removed(LtgSession *s, Reading *r)
{
	TransactionId newest = (TransactionId) read_varint(r);
	LtgSeq		graves_upto = read_varint(r);
	LtgStore   *store;
	RelFileNode node;

	if (r->bad)
		damaged_record(r);
	if (TransactionIdIsNormal(newest) && InHotStandby)
	{
		node.spcNode = r->key.space;
		node.dbNode = r->key.database;
		node.relNode = r->key.relation;
		ResolveRecoveryConflictWithSnapshot(newest, node);
	}
	/* the number may mean another store if ours is from a later time */
	if (graves_upto == 0 || r->lsn <= ltg_durable(s))
		return;
	store = find_store(s, r);
	if (store != NULL)
		ltg_store_clear_graves(s, store, graves_upto);
}

static void
redo_one(XLogReaderState *record)
{
	LtgSession *s = lightning_session();
	TransactionId xid = XLogRecGetXid(record);
	LtgXid		wide = 0;
	Reading		r;

	start_reading(&r, record);
	if (r.bad)
		damaged_record(&r);
	if (r.info == XLOG_LIGHTNING_REMOVED)
	{
		redo_removed(s, &r);
		return;
	}
	if (r.info == XLOG_LIGHTNING_LOCKS)
	{
		redo_locks(s, &r);
		return;
	}
	if (record->EndRecPtr <= ltg_durable(s))
		return;					/* the files have it */
	if (TransactionIdIsValid(xid))
		wide = lightning_widen_xid(xid);
	switch (r.info)
	{
		case XLOG_LIGHTNING_INSERT:
			redo_insert(s, &r, wide);
			break;
		case XLOG_LIGHTNING_MULTI_INSERT:
			redo_multi_insert(s, &r, wide);
			break;
		case XLOG_LIGHTNING_UPDATE:
			redo_update(s, &r, wide);
			break;
		case XLOG_LIGHTNING_MOVE:
			redo_move(s, &r, wide);
			break;
		case XLOG_LIGHTNING_DELETE:
		case XLOG_LIGHTNING_KILL:
			redo_delete(s, &r, wide);
			break;
		case XLOG_LIGHTNING_RAW:
			redo_raw(s, &r);
			break;
		case XLOG_LIGHTNING_CREATE_STORE:
		case XLOG_LIGHTNING_TRUNCATE_STORE:
		case XLOG_LIGHTNING_DROP_STORE:
			redo_store(s, &r);
			break;
		default:
			ereport(PANIC,
					errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("lightning log record of unknown kind %u ends at %X/%X",
						   r.info, LSN_FORMAT_ARGS(r.lsn)),
					errhint("It may have been written by a newer version of lightning."));
	}
}

static void
lightning_redo(XLogReaderState *record)
{
	MemoryContext oldcxt;

	if (redo_cxt == NULL)
		redo_cxt = AllocSetContextCreate(TopMemoryContext, "lightning redo",
										 ALLOCSET_DEFAULT_SIZES);
	oldcxt = MemoryContextSwitchTo(redo_cxt);
	redo_one(record);
	MemoryContextSwitchTo(oldcxt);
	MemoryContextReset(redo_cxt);
}

static void
lightning_rm_startup(void)
{
	lightning_recovery_begin();
}

static void
lightning_rm_cleanup(void)
{
	lightning_recovery_end();
	if (redo_cxt != NULL)
		MemoryContextDelete(redo_cxt);
	redo_cxt = NULL;
}

/*
 * Descriptions
 */
static void
desc_image(StringInfo buf, Reading *r)
{
	if (r->flags & LIGHTNING_XLF_DELTA)
	{
		uint64		prefix = read_varint(r);
		uint64		suffix = read_varint(r);

		appendStringInfo(buf, " delta: prefix " UINT64_FORMAT " suffix " UINT64_FORMAT " bytes %d",
						 prefix, suffix, r->bad ? 0 : (int) (r->end - r->p) - 4);
	}
	else
		appendStringInfo(buf, " bytes %d", (int) (r->end - r->p));
}

static void
desc_rowid(StringInfo buf, const char *label, uint64 rowid)
{
	appendStringInfo(buf, " %s (%u,%u)", label, (uint32) (rowid >> 8), (uint32) (rowid & 255) + 1);
}

static void
desc_rows(StringInfo buf, Reading *r)
{
	uint64		n;
	uint8		codec;
	static const char *const codecs[] = {"none", "lz4", "zstd"};

	if (r->info == XLOG_LIGHTNING_RAW)
	{
		appendStringInfo(buf, " rows " UINT64_FORMAT, read_varint(r));
		return;
	}
	if (r->info == XLOG_LIGHTNING_LOCKS)
	{
		(void) read_varint(r);
		appendStringInfo(buf, " locks " UINT64_FORMAT, read_varint(r));
		return;
	}
	desc_rowid(buf, "row", read_varint(r));
	switch (r->info)
	{
		case XLOG_LIGHTNING_INSERT:
			appendStringInfo(buf, " bytes %d", (int) (r->end - r->p));
			break;
		case XLOG_LIGHTNING_MULTI_INSERT:
			n = read_varint(r);
			codec = read_byte(r);
			appendStringInfo(buf, " rows " UINT64_FORMAT " raw " UINT64_FORMAT, n, read_varint(r));
			appendStringInfo(buf, " bytes %d compression %s", (int) (r->end - r->p),
							 codec < lengthof(codecs) ? codecs[codec] : "unknown");
			break;
		case XLOG_LIGHTNING_UPDATE:
			n = read_byte(r);
			appendStringInfo(buf, " version %u -> %u", (unsigned) n, read_byte(r));
			if (r->flags & LIGHTNING_XLF_KEY_CHANGED)
				appendStringInfoString(buf, " key changed");
			desc_image(buf, r);
			break;
		case XLOG_LIGHTNING_MOVE:
			n = read_byte(r);
			(void) read_byte(r);
			appendStringInfo(buf, " version %u", (unsigned) n);
			desc_rowid(buf, "to", read_varint(r));
			if (r->flags & LIGHTNING_XLF_KEY_CHANGED)
				appendStringInfoString(buf, " key changed");
			desc_image(buf, r);
			break;
		case XLOG_LIGHTNING_DELETE:
			if (r->flags & LIGHTNING_XLF_OTHER_PART)
				appendStringInfoString(buf, " moved to another partition");
			break;
		default:
			break;
	}
	if (r->flags & LIGHTNING_XLF_FROZEN)
		appendStringInfoString(buf, " frozen");
}

static void
lightning_desc(StringInfo buf, XLogReaderState *record)
{
	Reading		r;

	start_reading(&r, record);
	appendStringInfo(buf, "store %u/%u/%u", r.key.space, r.key.database, r.key.relation);
	if (r.info == XLOG_LIGHTNING_CREATE_STORE || r.info == XLOG_LIGHTNING_TRUNCATE_STORE)
		appendStringInfo(buf, " flags 0x%02X", (unsigned) read_varint(&r));
	else if (r.info == XLOG_LIGHTNING_REMOVED)
	{
		appendStringInfo(buf, " newest %u", (TransactionId) read_varint(&r));
		appendStringInfo(buf, " graves up to " UINT64_FORMAT, (uint64) read_varint(&r));
	}
	else if (r.info != XLOG_LIGHTNING_DROP_STORE)
		desc_rows(buf, &r);
	if (r.bad)
		appendStringInfoString(buf, " (damaged)");
}

static const char *
lightning_identify(uint8 info)
{
	return kind_name(info & ~XLR_INFO_MASK);
}

/*
 * Logical decoding: rows are not decoded yet.
 */
static void
lightning_decode(LogicalDecodingContext *ctx, XLogRecordBuffer *buf)
{
	Reading		r;

	ReorderBufferProcessXid(ctx->reorder, XLogRecGetXid(buf->record), buf->origptr);
	start_reading(&r, buf->record);
	switch (r.info)
	{
		case XLOG_LIGHTNING_INSERT:
		case XLOG_LIGHTNING_MULTI_INSERT:
		case XLOG_LIGHTNING_UPDATE:
		case XLOG_LIGHTNING_MOVE:
		case XLOG_LIGHTNING_DELETE:
			lightning_warn_undecoded(ctx, r.key.database, buf->origptr);
			break;
		default:
			break;
	}
}

static RmgrData lightning_rmgr = {
	.rm_name = "lightning",
	.rm_redo = lightning_redo,
	.rm_desc = lightning_desc,
	.rm_identify = lightning_identify,
	.rm_startup = lightning_rm_startup,
	.rm_cleanup = lightning_rm_cleanup,
	.rm_mask = NULL,
	.rm_decode = lightning_decode,
};

void
lightning_register_rmgr(void)
{
	RegisterCustomRmgr(LIGHTNING_RMGR_ID, &lightning_rmgr);
}
