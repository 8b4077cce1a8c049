/*
 * recover.c
 *	  From what a crash left to a running database.
 *
 * Two passes over the log, from the segment that the files' D lies in:
 *	 1. the fate of every transaction: the state record at the start of that
 *		segment, then commits (and the rare aborts that override one).  Who has
 *		no commit record has aborted.
 *	 2. the row changes logged after D of those who committed go into the
 *		memtable, under the LSN they had.  So replaying twice, or flushing in
 *		between, changes nothing.
 * Versions of aborted transactions may be in files, flushed while their writer
 * was running; so the list of the aborted is kept, see txn.h.
 */
#include "lt/db.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/coding.h"

typedef enum RecFate
{
	RF_FREE = 0,				/* unused entry of the map */
	RF_RUNNING,
	RF_COMMITTED,
	RF_ABORTED
} RecFate;

typedef struct FateEntry
{
	LtgXid		xid;
	RecFate		fate;
} FateEntry;

typedef struct Recovery
{
	lt_db	   *db;
	LtSession  *ses;
	LtgSeq		durable;
	/* pass 1 */
	bool		have_state;
	LtgXid		state_last[2];
	LtgXid		next_xid;
	FateEntry  *map;			/* open addressing, power of two */
	size_t		map_size, map_used;
	/* pass 2 */
	uint64_t	records, changes;
	uint32_t	tree_cached;
	LtgStore   *store;			/* of tree_cached; NULL: dropped */
	LtgSeq		store_stamp;
} Recovery;

static LtgStatus
damaged(Recovery *r, LtgSeq lsn)
{
	return ltg_fail(r->ses->s, LTG_CORRUPT, "log record that ends at %llu cannot be decoded",
					(unsigned long long) lsn);
}

/* ---- pass 1 ---- */

static FateEntry *
map_slot(FateEntry *map, size_t size, LtgXid xid)
{
	size_t		i = (size_t) ((xid * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (size - 1);

	while (map[i].fate != RF_FREE && map[i].xid != xid)
		i = (i + 1) & (size - 1);
	return &map[i];
}

/* Twice the size, without those who committed: they need no entry. */
static LtgStatus
map_grow(Recovery *r)
{
	LtgPort    *port = &r->db->port;
	size_t		size = 1024,
				used = 0,
				live = 0;
	FateEntry  *map;

	for (size_t i = 0; i < r->map_size; i++)
		live += r->map[i].fate == RF_RUNNING || r->map[i].fate == RF_ABORTED;
	while (size < live * 4)
		size *= 2;
	map = port->alloc(port, size * sizeof(*map));
	if (map == NULL)
		return ltg_fail(r->ses->s, LTG_NOMEM, "out of memory for the transactions in the log");
	memset(map, 0, size * sizeof(*map));
	for (size_t i = 0; i < r->map_size; i++)
	{
		FateEntry  *e = &r->map[i];

		if (e->fate != RF_RUNNING && e->fate != RF_ABORTED)
			continue;
		*map_slot(map, size, e->xid) = *e;
		used++;
	}
	port->free(port, r->map);
	r->map = map;
	r->map_size = size;
	r->map_used = used;
	return LTG_OK;
}

static LtgStatus
set_fate(Recovery *r, LtgXid xid, RecFate fate)
{
	FateEntry  *e;

	if (r->map_used * 2 >= r->map_size)
		LTG_TRY(map_grow(r));
	e = map_slot(r->map, r->map_size, xid);
	if (e->fate == RF_FREE)
	{
		if (fate == RF_COMMITTED)
			return LTG_OK;
		e->xid = xid;
		r->map_used++;
	}
	if (!(fate == RF_RUNNING && e->fate == RF_COMMITTED))
		e->fate = fate;
	if (xid >= r->next_xid)
		r->next_xid = xid + 1;
	return LTG_OK;
}

static LtgStatus
read_state(Recovery *r, LtgReader *in, LtgSeq lsn)
{
	uint8_t		flags = ltg_read_u8(in);
	LtgXid		next = ltg_read_u64(in);

	while (ltg_reader_ok(in) && ltg_reader_left(in) > 0)
	{
		uint64_t	v = ltg_read_varint(in);
		LtgXid	   *last = &r->state_last[v & 1];

		*last += v >> 1;
		LTG_TRY(set_fate(r, *last, (v & 1) != 0 ? RF_ABORTED : RF_RUNNING));
	}
	if (!ltg_reader_ok(in))
		return damaged(r, lsn);
	if ((flags & LT_STATE_LAST) != 0)
	{
		r->have_state = true;
		if (next > r->next_xid)
			r->next_xid = next;
	}
	return LTG_OK;
}

/* LtWalRecordFn */
static LtgStatus
learn_fate(void *arg, const uint8_t *payload, uint32_t len, LtgSeq lsn)
{
	Recovery   *r = arg;
	LtgReader	in = ltg_reader(payload, len);
	uint8_t		type = ltg_read_u8(&in);
	uint8_t		flags;
	LtgXid		xid;

	if (type == LT_REC_STATE)
		return r->have_state ? LTG_OK : read_state(r, &in, lsn);
	if (!r->have_state)
		return damaged(r, lsn);
	switch (type)
	{
		case LT_REC_WRITE:
			flags = ltg_read_u8(&in);
			xid = ltg_read_u64(&in);
			if (!ltg_reader_ok(&in) || xid == 0)
				break;
			if (xid >= r->next_xid)
				r->next_xid = xid + 1;
			return set_fate(r, xid, (flags & LT_WRITE_COMMITS) != 0 ? RF_COMMITTED : RF_RUNNING);
		case LT_REC_COMMIT:
		case LT_REC_ABORT:
			xid = ltg_read_u64(&in);
			if (!ltg_reader_ok(&in) || xid == 0)
				break;
			return set_fate(r, xid, type == LT_REC_COMMIT ? RF_COMMITTED : RF_ABORTED);
		case LT_REC_TREE:
		case LT_REC_DROP:
			return LTG_OK;
		default:
			break;
	}
	return damaged(r, lsn);
}

static int
cmp_xid(const void *a, const void *b)
{
	LtgXid		x = *(const LtgXid *) a,
				y = *(const LtgXid *) b;

	return x < y ? -1 : x > y;
}

static LtgStatus
restore_xids(Recovery *r, LtgSeq at)
{
	LtgPort    *port = &r->db->port;
	LtgXid	   *aborted = NULL;
	size_t		n = 0;
	LtgStatus	st;

	if (r->map_used > 0)
	{
		aborted = port->alloc(port, r->map_used * sizeof(*aborted));
		if (aborted == NULL)
			return ltg_fail(r->ses->s, LTG_NOMEM, "out of memory for aborted transactions");
	}
	for (size_t i = 0; i < r->map_size; i++)
		if (r->map[i].fate == RF_RUNNING || r->map[i].fate == RF_ABORTED)
			aborted[n++] = r->map[i].xid;
	if (n > 1)
		qsort(aborted, n, sizeof(*aborted), cmp_xid);
	st = lt_xids_restore(r->db->xids, r->next_xid, aborted, n, at);
	port->free(port, aborted);
	if (st != LTG_OK)
		return ltg_fail(r->ses->s, st, "out of memory for aborted transactions");
	return LTG_OK;
}

/* ---- pass 2 ---- */

static LtgStatus
find_store(Recovery *r, uint32_t number)
{
	LtgSession *s = r->ses->s;
	LtgStoreKey key;
	LtgStoreInfo info;
	LtgStatus	st;

	if (r->tree_cached == number)
		return LTG_OK;
	lt_store_key(number, &key);
	st = ltg_store_find(s, &key, &r->store);
	if (st == LTG_NOT_FOUND && ltg_store_was_dropped(s, &key))
		r->store = NULL;
	else if (st == LTG_NOT_FOUND)
		return ltg_fail(s, LTG_CORRUPT, "the log changes tree %u, which does not exist", number);
	else if (st != LTG_OK)
		return st;
	else
	{
		ltg_store_info(s, r->store, &info);
		r->store_stamp = info.stamp;
	}
	r->tree_cached = number;
	return LTG_OK;
}

static LtgStatus
apply_all(Recovery *r, uint32_t n, LtgSeq lsn)
{
	LtgSession *s = r->ses->s;
	LtgStatus	st;

	while ((st = ltg_reserve(s, r->ses->writes, n)) == LTG_BUSY)
		LTG_TRY(lt_wait_for_room(r->db, r->ses));
	LTG_TRY(st);
	ltg_apply(s, r->ses->writes, n, lsn);
	r->changes += n;
	return LTG_OK;
}

static LtgStatus
redo_write(Recovery *r, LtgReader *in, LtgSeq lsn)
{
	LtgPort    *port = &r->db->port;
	LtgXid		xid;
	uint64_t	n;
	uint32_t	used = 0;
	uint64_t	csn;

	(void) ltg_read_u8(in);
	xid = ltg_read_u64(in);
	n = ltg_read_varint(in);
	if (!ltg_reader_ok(in) || n == 0 || n > ltg_reader_left(in))
		return damaged(r, lsn);
	if (lt_xid_fate(r->db->xids, xid, &csn) != LT_FATE_COMMITTED)
		return LTG_OK;
	if (lt_grow(port, (void **) &r->ses->writes, &r->ses->writes_cap, n, sizeof(LtgWrite)) != LTG_OK)
		return ltg_fail(r->ses->s, LTG_NOMEM, "out of memory for replaying a record");
	for (uint64_t i = 0; i < n; i++)
	{
		LtgWrite   *w = &r->ses->writes[used];
		uint32_t	number = ltg_read_varint32(in);
		uint8_t		kind = ltg_read_u8(in);

		memset(w, 0, sizeof(*w));
		w->key_len = ltg_read_varint32(in);
		w->key = ltg_read_bytes(in, w->key_len);
		w->v.kind = (LtgKind) kind;
		w->v.state = LTG_COMMITTED;
		w->v.xid = xid;
		if (kind == LTG_PUT)
		{
			w->v.payload_len = ltg_read_varint32(in);
			w->v.payload = ltg_read_bytes(in, w->v.payload_len);
		}
		if (!ltg_reader_ok(in) || kind > LTG_DELETE || number == 0)
			return damaged(r, lsn);
		LTG_TRY(find_store(r, number));
		/* of an earlier tree with the same number, or of a dropped one */
		if (r->store == NULL || lsn <= r->store_stamp)
			continue;
		if (ltg_is_merged(r->store, w->key, w->key_len, lsn))
			continue;
		w->store = r->store;
		used++;
	}
	return used > 0 ? apply_all(r, used, lsn) : LTG_OK;
}

static LtgStatus
redo_tree(Recovery *r, uint8_t type, LtgReader *in, LtgSeq lsn)
{
	LtgSession *s = r->ses->s;
	LtgStoreKey key;
	LtgStore   *store;
	uint64_t	number = ltg_read_u64(in);
	LtgStatus	st;

	if (!ltg_reader_ok(in) || number == 0 || number > UINT32_MAX)
		return damaged(r, lsn);
	lt_store_key((uint32_t) number, &key);
	r->tree_cached = 0;
	ltg_ddl_pin(s);
	if (type == LT_REC_TREE)
		st = ltg_store_create(s, &key, 0, lsn, &store);
	else
		st = ltg_store_drop(s, &key, lsn);
	ltg_ddl_unpin(s);
	return st == LTG_NOT_FOUND ? LTG_OK : st;
}

/* LtWalRecordFn */
static LtgStatus
redo(void *arg, const uint8_t *payload, uint32_t len, LtgSeq lsn)
{
	Recovery   *r = arg;
	LtgReader	in = ltg_reader(payload, len);
	uint8_t		type = ltg_read_u8(&in);
	LtgStatus	st = LTG_OK;

	if (lsn <= r->durable)
		return LTG_OK;
	if (type == LT_REC_WRITE)
		st = redo_write(r, &in, lsn);
	else if (type == LT_REC_TREE || type == LT_REC_DROP)
		st = redo_tree(r, type, &in, lsn);
	if (st == LTG_OK)
	{
		r->db->replay_at = lsn;
		r->records++;
	}
	return st;
}

/* ---- all of it ---- */

static void
report(lt_db *db, const Recovery *r)
{
	char		msg[200];

	if (r->records == 0 && lt_wal_torn_bytes(db->wal) == 0)
		return;
	snprintf(msg, sizeof(msg),
			 "recovered: %llu changes from %llu log records, %llu bytes of an unfinished end dropped",
			 (unsigned long long) r->changes, (unsigned long long) r->records,
			 (unsigned long long) lt_wal_torn_bytes(db->wal));
	db->port.log(&db->port, LTG_LOG_INFO, msg);
}

static LtgStatus
load_files(lt_db *db, LtSession *ses, uint32_t segments, LtgSeq *durable)
{
	LtgSession *s = ses->s;
	LtgLoadOptions opt = {.reset_unlogged = true};
	LtgLoadInfo info = {0};
	char		msg[160];

	LTG_TRY(ltg_load(s, &opt, &info));
	if (info.manifest == 0 && segments == 0 && !db->opt.create)
		return LTG_NOT_FOUND;
	if (info.manifest != 0 && segments == 0)
		return ltg_fail(s, LTG_CORRUPT, "there are data files but no log");
	if (info.files_missing > 0 || info.manifests_skipped > 0)
	{
		snprintf(msg, sizeof(msg), "%u data files are missing or damaged, %u manifests could not be used",
				 info.files_missing, info.manifests_skipped);
		db->port.log(&db->port, LTG_LOG_WARNING, msg);
	}
	*durable = info.durable;
	return LTG_OK;
}

LtgStatus
lt_recover(lt_db *db, LtSession *ses)
{
	LtgSession *s = ses->s;
	Recovery	r = {.db = db, .ses = ses, .next_xid = 1};
	LtgError	err = {0};
	uint32_t	segments = 0;
	LtgStatus	st;

	db->recovering = true;
	st = lt_wal_scan(db->wal, &segments, &err);
	if (st == LTG_OK)
		st = load_files(db, ses, segments, &r.durable);
	if (st == LTG_OK)
		st = lt_wal_replay(db->wal, r.durable, learn_fate, &r, &err);
	if (st == LTG_OK)
		st = restore_xids(&r, lt_wal_end(db->wal));
	if (st == LTG_OK)
	{
		atomic_store(&db->files_xid_end, r.next_xid);
		db->replay_at = r.durable;
		st = lt_wal_replay(db->wal, r.durable, redo, &r, &err);
	}
	if (st == LTG_OK)
		st = lt_wal_start(db->wal, &err);
	db->port.free(&db->port, r.map);
	if (st != LTG_OK && st != LTG_NOT_FOUND && s->err.status == LTG_OK)
		return ltg_fail_port(s, st, &err, 0, err.offset);
	LTG_TRY(st);
	db->recovering = false;
	report(db, &r);
	return LTG_OK;
}
