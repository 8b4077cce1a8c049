/*
 * lsm_rig.c
 *	  See lsm_rig.h.
 */
#include "test/lsm_rig.h"

#include "tree/publish.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the host ---- */

static LtgSeq
host_wal_position(void *arg)
{
	return ((LsmRig *) arg)->lsn;
}

static LtgStatus
host_wal_flush(void *arg, LtgSeq lsn, LtgError *err)
{
	LsmRig	   *rig = arg;

	(void) err;
	if (lsn > rig->lsn)
		fail_msg("the log is to be flushed up to %llu, but ends at %llu",
				 (unsigned long long) lsn, (unsigned long long) rig->lsn);
	if (lsn > rig->wal_flushed)
		rig->wal_flushed = lsn;
	return LTG_OK;
}

static LtgStatus
host_xid_status(void *arg, LtgXid xid, LtgXidStatus *status, LtgError *err)
{
	LsmRig	   *rig = arg;

	(void) err;
	rig->status_calls++;
	assert_true(xid > 0 && xid < rig->n_xacts);
	*status = rig->xact[xid] == RIG_RUNNING ? LTG_XID_IN_PROGRESS :
		rig->xact[xid] == RIG_COMMITTED ? LTG_XID_COMMITTED : LTG_XID_ABORTED;
	return LTG_OK;
}

static LtgXid
oldest_xmin(LsmRig *rig, bool known_too)
{
	LtgXid		h = rig->n_xacts;

	for (LtgXid x = 1; x < h; x++)
		if (rig->xact[x] == RIG_RUNNING && x != rig->doubtful)
			h = x;
	for (uint32_t i = 0; i < RIG_SNAPSHOTS; i++)
		if (rig->snaps[i] != NULL && (known_too || !rig->snaps[i]->known) &&
			rig->snaps[i]->snap.xmin < h)
			h = rig->snaps[i]->snap.xmin;
	return h;
}

LtgXid
lrig_horizon(LsmRig *rig)
{
	return oldest_xmin(rig, true);
}

LtgXid
lrig_floor(LsmRig *rig)
{
	return oldest_xmin(rig, false);
}

/* Transactions that are in doubt have not ended. */
static void
host_live(void *arg, LtgLive *live)
{
	LsmRig	   *rig = arg;

	live->floor = lrig_floor(rig);
	if (rig->doubtful != 0 && rig->doubtful < live->floor)
		live->floor = rig->doubtful;
	for (uint32_t i = 0; i < RIG_SNAPSHOTS; i++)
		if (rig->snaps[i] != NULL && rig->snaps[i]->known)
			live->known[live->n++] = i;
}

static LtgSees
host_sees(void *arg, const LtgLive *live, uint32_t i, LtgXid xid)
{
	const RigSnapshot *snap = ((LsmRig *) arg)->snaps[live->known[i]];

	assert_int_equal(((LsmRig *) arg)->xact[xid], RIG_COMMITTED);
	if (snap->vague && xid >= snap->snap.xmin && xid < snap->xmax)
		return LTG_SEES_MAYBE;
	return lrig_sees(snap, xid, UINT32_MAX) ? LTG_SEES_YES : LTG_SEES_NO;
}

static LtgXid
host_horizon(void *arg)
{
	return lrig_horizon(arg);
}

static bool
host_interrupted(void *arg)
{
	return ((LsmRig *) arg)->interrupted;
}

static void
host_stop_point(void *arg, const char *name)
{
	LsmRig	   *rig = arg;

	if (rig->stop != NULL)
		rig->stop(rig, name);
}

static void
quiet_log(void *arg, LtgLogLevel level, const char *msg)
{
	(void) arg;
	(void) level;
	(void) msg;
}

/* ---- life ---- */

void
lrig_config(LtgConfig *c)
{
	ltg_config_defaults(c);
	c->memtable_bytes = 1024 * 1024;
	c->memtable_count = 3;
	c->cache_bytes = 2 * 1024 * 1024;
	c->metadata_bytes = 8 * 1024 * 1024;
	c->max_sessions = 8;
	c->block_size = 4096;
	c->file_target_bytes = 64 * 1024;
	c->l0_compact_trigger = 4;
}

void
lrig_expect(LsmRig *rig, LtgStatus st, LtgStatus want, const char *file, int line)
{
	if (st == want)
		return;
	fail_msg("%s:%d: status %s, not %s: %s (file %s, offset %llu)", file, line,
			 ltg_status_name(st), ltg_status_name(want), rig->s == NULL ? "" : rig->s->err.msg,
			 rig->s == NULL ? "" : rig->s->err.file,
			 rig->s == NULL ? 0ULL : (unsigned long long) rig->s->err.offset);
}

static void
start(LsmRig *rig)
{
	LtgPosixOptions opt = {.dir = rig->dir, .create = true, .log = quiet_log};
	LtgPosixHost host = {
		.arg = rig, .wal_position = host_wal_position, .wal_flush = host_wal_flush,
		.xid_status = host_xid_status, .horizon = host_horizon,
		.live = host_live, .sees = host_sees,
		.interrupted = host_interrupted, .stop_point = host_stop_point
	};
	LtgLoadOptions load = {.reset_unlogged = true};
	LtgLoadInfo info;
	LtgError	err = {0};

	rig->s = NULL;
	assert_int_equal(ltg_posix_open(&opt, &rig->posix, &err), LTG_OK);
	ltg_posix_set_host(rig->posix, &host);
	rig->port = ltg_posix_port(rig->posix);
	rig->mem = aligned_alloc(4096, (ltg_shared_size(&rig->config) + 4095) & ~(size_t) 4095);
	assert_non_null(rig->mem);
	lrig_ok(rig, ltg_shared_init(rig->mem, &rig->config, &rig->shared));
	lrig_ok(rig, ltg_session_open(rig->port, rig->shared, &rig->s));
	lrig_ok(rig, ltg_load(rig->s, &load, &info));
}

static void
stop(LsmRig *rig)
{
	assert_int_equal(rig->s->epoch_depth, 0);
	assert_int_equal(rig->s->pinned, -1);
	ltg_session_close(rig->s);
	rig->s = NULL;
	assert_int_equal(ltg_posix_live_allocs(rig->posix), 0);
	ltg_posix_close(rig->posix);
	free(rig->mem);
}

void
lrig_open(LsmRig *rig, const LtgConfig *config)
{
	memset(rig, 0, sizeof(*rig));
	/* in memory if there is such a place: thousands of syncs */
	strcpy(rig->dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/ltg-rig-XXXXXX" : "/tmp/ltg-rig-XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	if (config != NULL)
		rig->config = *config;
	else
		lrig_config(&rig->config);
	rig->cap_xacts = 1024;
	rig->xact = calloc(rig->cap_xacts, sizeof(RigXact));
	rig->n_xacts = 1;
	rig->xact[0] = RIG_COMMITTED;
	rig->lsn = 100000;
	start(rig);
}

void
lrig_close(LsmRig *rig)
{
	DIR		   *d;
	struct dirent *e;

	for (uint32_t i = 0; i < RIG_SNAPSHOTS; i++)
		if (rig->snaps[i] != NULL)
			lrig_release(rig, rig->snaps[i]);
	stop(rig);
	for (uint32_t i = 0; i < rig->n_log; i++)
		free(rig->log[i]);
	free(rig->log);
	free(rig->xact);
	d = opendir(rig->dir);
	while (d != NULL && (e = readdir(d)) != NULL)
	{
		char		path[512];

		snprintf(path, sizeof(path), "%s/%s", rig->dir, e->d_name);
		if (e->d_name[0] != '.')
			unlink(path);
	}
	if (d != NULL)
		closedir(d);
	rmdir(rig->dir);
}

/* ---- stores ---- */

static LtgStoreKey
store_key(uint32_t relation)
{
	return (LtgStoreKey) {.space = 1663, .database = 5, .relation = relation, .backend = -1};
}

static LtgStore *
create_store(LsmRig *rig, const LtgStoreKey *key, uint32_t flags, LtgSeq stamp)
{
	LtgStore   *store;

	lrig_ok(rig, ltg_store_create(rig->s, key, flags, stamp, &store));
	return store;
}

static RigRecord *
append_record(LsmRig *rig, uint32_t bytes)
{
	RigRecord  *r = calloc(1, sizeof(RigRecord) + bytes);

	if (rig->n_log == rig->cap_log)
	{
		rig->cap_log = rig->cap_log == 0 ? 1024 : rig->cap_log * 2;
		rig->log = realloc(rig->log, rig->cap_log * sizeof(*rig->log));
	}
	rig->log[rig->n_log++] = r;
	rig->lsn += 8;
	r->lsn = rig->lsn;
	return r;
}

LtgStore *
lrig_store(LsmRig *rig, uint32_t relation, uint32_t flags)
{
	LtgStoreKey key = store_key(relation);
	RigRecord  *r;
	LtgStore   *store;

	ltg_ddl_pin(rig->s);
	r = append_record(rig, 0);
	r->store = key;
	r->aux = flags;				/* xid 0: creation */
	store = create_store(rig, &key, flags, r->lsn);
	ltg_ddl_unpin(rig->s);
	return store;
}

LtgStore *
lrig_find(LsmRig *rig, uint32_t relation)
{
	LtgStoreKey key = store_key(relation);
	LtgStore   *store;

	lrig_ok(rig, ltg_store_find(rig->s, &key, &store));
	return store;
}

/* ---- transactions ---- */

LtgXid
lrig_begin(LsmRig *rig)
{
	if (rig->n_xacts == rig->cap_xacts)
	{
		rig->cap_xacts *= 2;
		rig->xact = realloc(rig->xact, rig->cap_xacts * sizeof(RigXact));
	}
	rig->xact[rig->n_xacts] = RIG_RUNNING;
	return rig->n_xacts++;
}

void
lrig_end(LsmRig *rig, LtgXid xid, bool commit)
{
	assert_int_equal(rig->xact[xid], RIG_RUNNING);
	rig->lsn += 8;				/* its record */
	rig->xact[xid] = commit ? RIG_COMMITTED : RIG_ABORTED;
}

bool
lrig_sees(const RigSnapshot *snap, LtgXid xid, uint32_t cid)
{
	if (xid == snap->own)
		return cid < snap->cid;
	if (xid >= snap->xmax || snap->rig->xact[xid] != RIG_COMMITTED)
		return false;
	for (uint32_t i = 0; i < snap->n_running; i++)
		if (snap->running[i] == xid)
			return false;
	return true;
}

static bool
judge(LtgSnapshot *ls, LtgXid xid, uint32_t cid, LtgState *fate)
{
	RigSnapshot *snap = (RigSnapshot *) ls;
	const LsmRig *rig = snap->rig;

	assert_true(snap->live && xid != 0);
	snap->judged++;
	if (rig->xact[xid] == RIG_COMMITTED)
		*fate = LTG_COMMITTED;
	else if (rig->xact[xid] == RIG_ABORTED)
		*fate = LTG_ABORTED;
	return lrig_sees(snap, xid, cid);
}

RigSnapshot *
lrig_snapshot(LsmRig *rig, LtgXid own, uint32_t cid)
{
	RigSnapshot *snap = calloc(1, sizeof(*snap));
	uint32_t	at = 0;

	snap->rig = rig;
	snap->snap.judge = judge;
	snap->own = own;
	snap->cid = cid;
	/* as PostgreSQL does: its own id may be beyond */
	for (snap->xmax = rig->n_xacts; snap->xmax > 1; snap->xmax--)
		if (rig->xact[snap->xmax - 1] != RIG_RUNNING)
			break;
	snap->snap.xmin = snap->xmax;
	snap->snap.xmax = snap->xmax;
	snap->snap.unseen = own == 0 ? snap->xmax : 0;
	snap->running = malloc((rig->n_xacts + 1) * sizeof(LtgXid));
	for (LtgXid x = 1; x < snap->xmax; x++)
		if (rig->xact[x] == RIG_RUNNING)
		{
			if (snap->n_running == 0)
				snap->snap.xmin = x;
			snap->running[snap->n_running++] = x;
		}
	snap->live = true;
	while (at < RIG_SNAPSHOTS && rig->snaps[at] != NULL)
		at++;
	assert_true(at < RIG_SNAPSHOTS);
	rig->snaps[at] = snap;
	return snap;
}

void
lrig_release(LsmRig *rig, RigSnapshot *snap)
{
	for (uint32_t i = 0; i < RIG_SNAPSHOTS; i++)
		if (rig->snaps[i] == snap)
			rig->snaps[i] = NULL;
	free(snap->running);
	free(snap);
}

/* ---- writing ---- */

/* Apply; the log record exists if lsn != 0, else it is appended. */
static LtgSeq
apply(LsmRig *rig, LtgWrite *w, LtgSeq lsn)
{
	LtgStatus	st;

	while ((st = ltg_reserve(rig->s, w, 1)) == LTG_BUSY)
	{
		st = ltg_make_room(rig->s, false);
		if (st == LTG_BUSY)
		{
			LtgFlushResult r;

			lrig_ok(rig, ltg_flush(rig->s, &r));
		}
		else
			lrig_ok(rig, st);
	}
	lrig_ok(rig, st);
	if (lsn == 0)
	{
		RigRecord  *r = append_record(rig, w->key_len + w->v.payload_len);

		r->store = w->store->key;
		r->xid = w->v.xid;
		r->cid = w->v.cid;
		r->kind = w->v.kind;
		r->tag = w->v.tag;
		r->aux = w->v.aux;
		r->key_len = w->key_len;
		r->payload_len = w->v.payload_len;
		memcpy(r->bytes, w->key, w->key_len);
		if (w->v.payload_len > 0)
			memcpy(r->bytes + w->key_len, w->v.payload, w->v.payload_len);
		lsn = r->lsn;
	}
	ltg_apply(rig->s, w, 1, lsn);
	return lsn;
}

LtgSeq
lrig_write(LsmRig *rig, LtgStore *store, const void *key, uint32_t key_len, LtgKind kind,
		  const void *payload, uint32_t payload_len, LtgXid xid, uint32_t cid)
{
	LtgWrite	w = {.store = store, .key = key, .key_len = key_len};

	w.v.kind = kind;
	w.v.payload = payload;
	w.v.payload_len = payload_len;
	w.v.xid = xid;
	w.v.cid = cid;
	return apply(rig, &w, 0);
}

LtgSeq
lrig_write_moved(LsmRig *rig, LtgStore *store, const void *key, uint32_t key_len, uint64_t to,
				 LtgXid xid)
{
	LtgWrite	w = {.store = store, .key = key, .key_len = key_len};

	w.v.kind = LTG_DELETE;
	w.v.aux = to;
	w.v.xid = xid;
	return apply(rig, &w, 0);
}

void
lrig_put(LsmRig *rig, LtgStore *store, const char *key, const char *payload)
{
	LtgXid		xid = lrig_begin(rig);

	lrig_write(rig, store, key, (uint32_t) strlen(key), LTG_PUT, payload,
			  (uint32_t) strlen(payload), xid, 0);
	lrig_end(rig, xid, true);
}

void
lrig_delete(LsmRig *rig, LtgStore *store, const char *key)
{
	LtgXid		xid = lrig_begin(rig);

	lrig_write(rig, store, key, (uint32_t) strlen(key), LTG_DELETE, NULL, 0, xid, 0);
	lrig_end(rig, xid, true);
}

void
lrig_restart(LsmRig *rig)
{
	LtgSeq		durable;
	LtgSeq		end = rig->lsn;
	uint32_t	n = rig->n_log;

	for (uint32_t i = 0; i < RIG_SNAPSHOTS; i++)
		if (rig->snaps[i] != NULL)
			lrig_release(rig, rig->snaps[i]);
	stop(rig);
	for (LtgXid x = 1; x < rig->n_xacts; x++)
		if (rig->xact[x] == RIG_RUNNING)
			rig->xact[x] = RIG_ABORTED;
	start(rig);
	durable = ltg_durable(rig->s);
	rig->replayed = rig->skipped = 0;
	for (uint32_t i = 0; i < n; i++)
	{
		RigRecord  *r = rig->log[i];
		LtgWrite	w = {.key = r->bytes, .key_len = r->key_len};
		LtgStatus	st;

		if (r->lsn <= durable)
			continue;
		/* a generation that fills up is cut where the replay is, not where the log ends */
		rig->lsn = i == 0 || rig->log[i - 1]->lsn < durable ? durable : rig->log[i - 1]->lsn;
		if (r->xid == 0)
		{
			ltg_ddl_pin(rig->s);
			create_store(rig, &r->store, (uint32_t) r->aux, r->lsn);
			ltg_ddl_unpin(rig->s);
			continue;
		}
		st = ltg_store_find(rig->s, &r->store, &w.store);
		if (st == LTG_NOT_FOUND && ltg_store_was_dropped(rig->s, &r->store))
			continue;
		lrig_ok(rig, st);
		w.v.kind = r->kind;
		w.v.tag = r->tag;
		w.v.aux = r->aux;
		w.v.payload = r->bytes + r->key_len;
		w.v.payload_len = r->payload_len;
		w.v.xid = r->xid;
		w.v.cid = r->cid;
		rig->replayed++;
		if (!ltg_is_merged(w.store, w.key, w.key_len, r->lsn))
			apply(rig, &w, r->lsn);
		else
			rig->skipped++;
	}
	rig->lsn = end;
}

/* ---- background work ---- */

void
lrig_freeze(LsmRig *rig)
{
	LtgFlushResult r;
	LtgSeq		cut;
	LtgStatus	st;

	while ((st = ltg_freeze(rig->s, &cut)) == LTG_BUSY)
		lrig_ok(rig, ltg_flush(rig->s, &r));
	lrig_ok(rig, st);
}

void
lrig_flush_all(LsmRig *rig)
{
	LtgFlushResult r;

	lrig_freeze(rig);
	while (ltg_flush_needed(rig->s))
		lrig_ok(rig, ltg_flush(rig->s, &r));
}

uint32_t
lrig_compact_all(LsmRig *rig)
{
	LtgCompactResult r;
	uint32_t	n = 0;

	for (;;)
	{
		lrig_ok(rig, ltg_compact(rig->s, &r));
		if (!r.compacted)
			return n;
		if (++n > 1000)
			fail_msg("compaction finds no end");
	}
}

void
lrig_rowid(uint8_t *key, uint64_t rowid)
{
	for (int i = 0; i < 5; i++)
		key[i] = (uint8_t) (rowid >> (32 - 8 * i));
}
