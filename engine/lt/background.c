/*
 * background.c
 *	  Flushing, merging, removing what is obsolete, syncing the log; and the
 *	  wait of writers for it.
 *
 * Each kind of work is a function that does one step, called by threads of
 * the library or through lt_background.
 */
#include "lt/db.h"

#include <stdio.h>

#include "base/coding.h"

#define RETRY_US 500000			/* after a failed flush or merge */
#define ABORTED_KEPT_MAX 65536	/* above it, files are merged to forget some */
#define STATE_PART_BYTES 16384

/* ---- state records ---- */

typedef struct StateBuilder
{
	LtWalEmitFn emit;
	void	   *emit_arg;
	LtgXid		last[2];
	uint32_t	len;
	uint8_t		buf[STATE_PART_BYTES + 2 * LTG_VARINT_MAX];
} StateBuilder;

/* LtXidFn.  Running and aborted xids are each ascending, but mixed. */
static LtgStatus
add_to_state(void *arg, LtgXid xid, bool aborted)
{
	StateBuilder *b = arg;
	uint8_t    *p = b->buf + b->len;

	p = ltg_put_varint(p, (xid - b->last[aborted]) * 2 + (aborted ? 1 : 0));
	b->last[aborted] = xid;
	b->len = (uint32_t) (p - b->buf);
	if (b->len < STATE_PART_BYTES)
		return LTG_OK;
	LTG_TRY(b->emit(b->emit_arg, b->buf, b->len));
	b->len = 10;
	return LTG_OK;
}

LtgStatus
lt_wal_state(void *arg, LtWalEmitFn emit, void *emit_arg)
{
	lt_db	   *db = arg;
	StateBuilder b = {.emit = emit, .emit_arg = emit_arg, .len = 10};
	LtgXid		next;

	b.buf[0] = LT_REC_STATE;
	b.buf[1] = 0;
	/* only the last part's next xid counts */
	ltg_store64(b.buf + 2, 0);
	LTG_TRY(lt_xids_state(db->xids, &next, add_to_state, &b));
	b.buf[1] = LT_STATE_LAST;
	ltg_store64(b.buf + 2, next);
	return emit(emit_arg, b.buf, b.len);
}

/* ---- steps ---- */

/*
 * Merging comes first when it is far behind; its errors are its own.  Gives up
 * after a while: what can't be merged must not stop flushing for good.
 */
#define BACKLOG_ROUNDS 500
#define BACKLOG_NAP_US 10000

static void
limit_backlog(lt_db *db, LtSession *ses)
{
	LtHost	   *h = db->host;
	LtgSession *s = ses->s;

	for (int rounds = 0; rounds < BACKLOG_ROUNDS && ltg_backlog(s) >= LTG_BACKLOG_MAX; rounds++)
	{
		LtgCompactResult c = {0};
		LtgStatus	st = ltg_compact(s, &c);

		ltg_clear_error(s);
		if (st == LTG_OK && c.compacted)
			continue;
		/* perhaps somebody else is at it */
		if (ltg_compact_progress(s, NULL, 0) == 0 || atomic_load(&db->closing))
			break;
		h->lock(h, LT_MU_BG);
		h->wait(h, LT_CV_WORK, LT_MU_BG, BACKLOG_NAP_US);
		h->unlock(h, LT_MU_BG);
	}
}

static LtgStatus
flush_step(lt_db *db, LtSession *ses, bool *more)
{
	LtHost	   *h = db->host;
	LtgFlushResult r = {0};
	LtgStatus	st;

	if (!ltg_flush_needed(ses->s))
		return LTG_OK;
	limit_backlog(db, ses);
	st = ltg_flush(ses->s, &r);
	if (st != LTG_OK)
		lt_keep_error(db, st, &ses->s->err);
	h->lock(h, LT_MU_BG);
	atomic_store(&db->flush_status, (int) st);
	atomic_store(&db->flush_failed, st != LTG_OK);
	atomic_fetch_add(&db->flush_rounds, 1);
	if (r.flushed)
		atomic_store(&db->tidy_wanted, true);
	h->wake_all(h, LT_CV_ROOM);
	h->wake_all(h, LT_CV_WORK);
	h->unlock(h, LT_MU_BG);
	if (st == LTG_OK && r.flushed)
		*more = true;
	return st;
}

static LtgStatus
compact_step(lt_db *db, LtSession *ses, bool *more)
{
	LtHost	   *h = db->host;
	LtgCompactResult r = {0};

	LTG_TRY(ltg_compact(ses->s, &r));
	if (!r.compacted)
		return LTG_OK;
	atomic_store(&db->tidy_wanted, true);
	*more = true;
	h->lock(h, LT_MU_BG);
	atomic_fetch_add(&db->merge_rounds, 1);
	h->wake_all(h, LT_CV_WORK);
	h->unlock(h, LT_MU_BG);
	return LTG_OK;
}

#define STORES_MAX 4096

/* The oldest xid of any not settled version in files, 0 if there is none; and
 * the store it is in. */
static LtgStatus
oldest_in_files(lt_db *db, LtSession *ses, LtgXid *xid, LtgStoreKey *key)
{
	LtgPort    *port = &db->port;
	uint32_t	cap = 64,
				n;
	LtgStoreInfo *info = NULL;

	*xid = 0;
	for (;;)
	{
		info = port->alloc(port, cap * sizeof(*info));
		if (info == NULL)
			return ltg_fail(ses->s, LTG_NOMEM, "out of memory for a list of trees");
		n = ltg_store_list(ses->s, info, cap);
		if (n <= cap)
			break;
		port->free(port, info);
		cap = n + 64;
	}
	for (uint32_t i = 0; i < n; i++)
	{
		if (info[i].min_xid != 0 && (*xid == 0 || info[i].min_xid < *xid))
		{
			*xid = info[i].min_xid;
			*key = info[i].key;
		}
	}
	port->free(port, info);
	return LTG_OK;
}

/* Forget aborted transactions that nothing refers to; when too many are
 * remembered, merge the tree that holds the oldest one. */
static LtgStatus
prune_xids(lt_db *db, LtSession *ses)
{
	LtgSession *s = ses->s;
	LtgSeq		position = lt_wal_position(db->wal);
	LtgSeq		durable = ltg_durable(s);
	LtgStoreKey key;
	LtgXid		min_xid;
	LtgStatus	st;

	/* durable first: what is flushed later has no say in what files hold */
	LTG_TRY(oldest_in_files(db, ses, &min_xid, &key));
	st = lt_xids_prune(db->xids, s->epochs, position, durable, min_xid);
	if (st != LTG_OK)
		return ltg_fail(s, st, "out of memory for the list of aborted transactions");
	if (lt_xids_aborted_kept(db->xids) > ABORTED_KEPT_MAX && min_xid != 0 &&
		min_xid <= lt_xids_oldest_aborted(db->xids))
	{
		LtgStore   *store;
		LtgCompactResult r;

		st = ltg_store_find(s, &key, &store);
		if (st == LTG_NOT_FOUND)
			return LTG_OK;
		LTG_TRY(st);
		st = ltg_compact_store(s, store, &r);
		if (st != LTG_OK && st != LTG_BUSY)
			return st;
	}
	return LTG_OK;
}

static LtgStatus
tidy_step(lt_db *db, LtSession *ses, bool *more)
{
	LtgSession *s = ses->s;
	LtgSeq		durable = ltg_durable(s);
	LtgError	err = {0};
	uint32_t	removed = 0;
	LtgStatus	st;

	atomic_store(&db->tidy_wanted, false);
	LTG_TRY(prune_xids(db, ses));
	LTG_TRY(ltg_remove_obsolete(s, &removed));
	if (removed > 0)
		*more = true;
	st = lt_wal_trim(db->wal, durable, &removed, &err);
	if (st != LTG_OK)
		return ltg_fail_port(s, st, &err, 0, err.offset);
	return LTG_OK;
}

static LtgStatus
sync_step(lt_db *db, LtSession *ses)
{
	LtgError	err = {0};
	LtgStatus	st = lt_wal_sync(db->wal, lt_wal_position(db->wal), &err);

	if (st != LTG_OK)
		return ltg_fail_port(ses->s, st, &err, 0, err.offset);
	return LTG_OK;
}

lt_status
lt_background(lt_db *db, int work, bool *more)
{
	LtSession  *ses;
	LtgStatus	st;
	bool		any = false;

	if (more != NULL)
		*more = false;
	st = lt_session_get(db, true, &ses);
	if (st != LTG_OK)
		return (lt_status) st;
	if (st == LTG_OK && (work & LT_WORK_FLUSH))
		st = flush_step(db, ses, &any);
	if (st == LTG_OK && (work & LT_WORK_COMPACT))
		st = compact_step(db, ses, &any);
	if (st == LTG_OK && (work & LT_WORK_TIDY))
		st = tidy_step(db, ses, &any);
	if (st == LTG_OK && (work & LT_WORK_SYNC))
		st = sync_step(db, ses);
	if (more != NULL)
		*more = any;
	return lt_session_done(db, ses, st);
}

/* ---- writers that wait ---- */

LtgStatus
lt_wait_for_room(lt_db *db, LtSession *ses)
{
	LtHost	   *h = db->host;
	LtgStatus	st;
	bool		more,
				stalled = false;

	while ((st = ltg_make_room(ses->s, false)) == LTG_BUSY)
	{
		uint64_t	rounds = atomic_load(&db->flush_rounds);

		if (!stalled)
			atomic_fetch_add(&db->stalls, 1);
		if (!atomic_load(&db->background_on) ||
			(db->opt.no_threads && !h->background_elsewhere))
		{
			h->yield(h);
			return flush_step(db, ses, &more);
		}

		h->lock(h, LT_MU_BG);
		if (stalled && atomic_load(&db->flush_failed))
			st = (LtgStatus) atomic_load(&db->flush_status);
		else if (atomic_load(&db->closing))
			st = LTG_INTERRUPTED;
		else
		{
			h->wake_all(h, LT_CV_WORK);
			/*
			 * When all frozen ones are written, the arenas wait for readers
			 * that may still look at them: nobody signals that.
			 */
			if (atomic_load(&db->flush_rounds) == rounds)
				h->wait(h, LT_CV_ROOM, LT_MU_BG,
						ltg_flush_needed(ses->s) ? 100000 : 200);
		}
		h->unlock(h, LT_MU_BG);
		if (st != LTG_BUSY)
			return ltg_fail(ses->s, st, st == LTG_INTERRUPTED ? "the database is being closed"
							: "no room for changes, because writing out earlier ones failed");
		stalled = true;
	}
	/* it may have frozen a generation: somebody has to write it out */
	if (st == LTG_OK)
		h->wake_all(h, LT_CV_WORK);
	return st;
}

lt_status
lt_set_compaction_rate(lt_db *db, uint64_t bytes_per_second)
{
	LtSession  *ses;
	LtgStatus	st = lt_session_get(db, true, &ses);

	if (st != LTG_OK)
		return (lt_status) st;
	ltg_set_rate_limit(ses->s, bytes_per_second);
	return lt_session_done(db, ses, LTG_OK);
}

/* ---- threads ---- */

static void
pause_after(lt_db *db, lt_status st)
{
	LtHost	   *h = db->host;

	if (st == LT_OK || atomic_load(&db->closing))
		return;
	h->lock(h, LT_MU_BG);
	h->wait(h, LT_CV_WORK, LT_MU_BG, RETRY_US);
	h->unlock(h, LT_MU_BG);
}

static void
flush_thread(void *arg)
{
	lt_db	   *db = arg;
	LtHost	   *h = db->host;
	bool		more = true;

	while (!atomic_load(&db->closing))
	{
		pause_after(db, lt_background(db, LT_WORK_FLUSH, &more));
		if (more)
			continue;
		h->lock(h, LT_MU_BG);
		if (!atomic_load(&db->closing))
			h->wait(h, LT_CV_WORK, LT_MU_BG, 100000);
		h->unlock(h, LT_MU_BG);
	}
}

static void
compact_thread(void *arg)
{
	lt_db	   *db = arg;
	LtHost	   *h = db->host;
	uint64_t	seen = UINT64_MAX;
	uint32_t	idle = 0;

	while (!atomic_load(&db->closing))
	{
		uint64_t	rounds = atomic_load(&db->flush_rounds) + atomic_load(&db->merge_rounds);
		bool		more = false;

		/* now and then without being asked: horizons move, epochs pass */
		if (rounds != seen || atomic_load(&db->tidy_wanted) || ++idle % 16 == 0)
			pause_after(db, lt_background(db, LT_WORK_COMPACT | LT_WORK_TIDY, &more));
		seen = rounds;
		if (more)
			continue;
		h->lock(h, LT_MU_BG);
		if (!atomic_load(&db->closing))
			h->wait(h, LT_CV_WORK, LT_MU_BG, 200000);
		h->unlock(h, LT_MU_BG);
	}
}

static void
sync_thread(void *arg)
{
	lt_db	   *db = arg;
	LtHost	   *h = db->host;
	uint64_t	interval = (uint64_t) db->opt.sync_interval_ms * 1000;

	while (!atomic_load(&db->closing))
	{
		uint64_t	until = h->port->now_us(h->port) + interval;

		h->lock(h, LT_MU_BG);
		while (!atomic_load(&db->closing) && h->port->now_us(h->port) < until)
			h->wait(h, LT_CV_WORK, LT_MU_BG, interval);
		h->unlock(h, LT_MU_BG);
		(void) lt_background(db, LT_WORK_SYNC, NULL);
	}
}

LtgStatus
lt_background_start(lt_db *db)
{
	LtHost	   *h = db->host;

	if (db->opt.no_threads)
		return LTG_OK;
	LTG_TRY(h->spawn(h, flush_thread, db));
	for (uint32_t i = 0; i < db->opt.compaction_threads; i++)
		LTG_TRY(h->spawn(h, compact_thread, db));
	if (db->opt.sync_interval_ms > 0)
		LTG_TRY(h->spawn(h, sync_thread, db));
	return LTG_OK;
}

void
lt_background_stop(lt_db *db)
{
	LtHost	   *h = db->host;

	h->lock(h, LT_MU_BG);
	atomic_store(&db->closing, true);
	h->wake_all(h, LT_CV_WORK);
	h->wake_all(h, LT_CV_ROOM);
	h->unlock(h, LT_MU_BG);
	if (!db->opt.no_threads)
		h->join_all(h);
}

/* ---- checkpoint ---- */

LtgStatus
lt_do_checkpoint(lt_db *db, LtSession *ses)
{
	LtgFlushResult r = {0};
	bool		more = false;

	/* a new segment, so that all older ones can go */
	lt_wal_roll(db->wal);
	LTG_TRY(ltg_flush_upto(ses->s, lt_wal_position(db->wal), &r));
	return tidy_step(db, ses, &more);
}
