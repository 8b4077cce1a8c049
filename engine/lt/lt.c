/*
 * lt.c
 *	  The embedded library: opening and closing, sessions, errors, statistics.
 *	  Reading and transactions are in access.c, writing in write.c.
 *
 * Sessions
 *	 Engine sessions belong to a thread while a call runs, and to a cursor for
 *	 its life.  They live in a pool; a thread tries the one it had last time
 *	 first (by a hash of its identity), so that claiming is one uncontended
 *	 compare-and-swap on a cache line nobody else writes.
 */
#include "lt/db.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t) 2 * 1024 * 1024)
#define DEFAULT_CHUNK_SHIFT 15
#define SEGMENTS_AT_OPEN_MAX 32

/* ---- text of errors ---- */

const char *
lt_status_text(lt_status status)
{
	static const char *const text[] = {
		"ok", "not found", "no more rows", "busy", "files are damaged", "I/O error",
		"no space left on disk", "out of memory", "metadata memory is used up",
		"too large", "invalid argument or state", "unknown file format",
		"the database is being closed", "write conflict",
		"an earlier sync failed, reopen the database", "host error"
	};

	return (unsigned) status < sizeof(text) / sizeof(text[0]) ? text[status] : "unknown status";
}

void
lt_format_error(char *buf, size_t size, LtgStatus st, const LtgError *err)
{
	int			n = snprintf(buf, size, "%s", lt_status_text((lt_status) st));

	if (err == NULL || err->status == LTG_OK || n < 0)
		return;
#define MORE(...) \
	do { \
		if (n >= 0 && (size_t) n < size) \
			n += snprintf(buf + n, size - (size_t) n, __VA_ARGS__); \
	} while (0)
	if (err->msg[0] != '\0')
		MORE(": %s", err->msg);
	if (err->file[0] != '\0')
		MORE(" (file %s)", err->file);
	else if (err->file_id != 0)
		MORE(" (data file %llx, offset %llu)", (unsigned long long) err->file_id,
			 (unsigned long long) err->offset);
	if (err->os_errno != 0)
		MORE(": %s", strerror(err->os_errno));
#undef MORE
}

void
lt_keep_error(lt_db *db, LtgStatus st, const LtgError *err)
{
	LtHost	   *h = db->host;

	h->lock(h, LT_MU_ERROR);
	lt_format_error(db->error, sizeof(db->error), st, err);
	h->unlock(h, LT_MU_ERROR);
}

lt_status
lt_fail(lt_db *db, LtgStatus st, const char *msg)
{
	LtgError	err = {.status = st};

	snprintf(err.msg, sizeof(err.msg), "%s", msg);
	lt_keep_error(db, st, &err);
	return (lt_status) st;
}

void
lt_error_text(lt_db *db, char *buf, size_t size)
{
	LtHost	   *h = db->host;

	h->lock(h, LT_MU_ERROR);
	snprintf(buf, size, "%s", db->error);
	h->unlock(h, LT_MU_ERROR);
}

/* ---- sessions ---- */

static LtgStatus
claim(lt_db *db, LtSession *ses)
{
	LtgStatus	st;

	if (LTG_LIKELY(ses->s != NULL))
		return LTG_OK;
	st = ltg_session_open(&db->port, db->shared, &ses->s);
	if (st != LTG_OK)
	{
		ses->s = NULL;
		atomic_store_explicit(&ses->busy, false, memory_order_release);
		lt_fail(db, st, "could not open an engine session");
	}
	return st;
}

LtgStatus
lt_session_get(lt_db *db, bool wait, LtSession **out)
{
	LtHost	   *h = db->host;
	uint64_t	self = h->self(h);
	uint32_t	start = (uint32_t) ((self * UINT64_C(0x9e3779b97f4a7c15)) >> 40) % db->n_sessions;

	*out = NULL;
	for (;;)
	{
		for (uint32_t i = 0, at = start; i < db->n_sessions; i++)
		{
			LtSession  *ses = &db->session[at];
			bool		expected = false;

			if (!atomic_load_explicit(&ses->busy, memory_order_relaxed) &&
				atomic_compare_exchange_strong(&ses->busy, &expected, true))
			{
				LTG_TRY(claim(db, ses));
				*out = ses;
				return LTG_OK;
			}
			if (++at == db->n_sessions)
				at = 0;
		}
		if (!wait)
		{
			lt_fail(db, LTG_BUSY, "more calls and cursors at once than max_threads");
			return LTG_BUSY;
		}
		h->lock(h, LT_MU_POOL);
		h->wait(h, LT_CV_POOL, LT_MU_POOL, 500);
		h->unlock(h, LT_MU_POOL);
	}
}

void
lt_session_put(lt_db *db, LtSession *ses)
{
	(void) db;
	atomic_store_explicit(&ses->busy, false, memory_order_release);
}

lt_status
lt_session_done(lt_db *db, LtSession *ses, LtgStatus st)
{
	if (LTG_UNLIKELY(ses->s->err.status != LTG_OK))
	{
		if (st != LTG_OK)
			lt_keep_error(db, st, &ses->s->err);
		ltg_clear_error(ses->s);
	}
	lt_session_put(db, ses);
	return (lt_status) st;
}

/* ---- what the engine asks of us ---- */

static LtgSeq
hook_wal_position(LtgPort *port)
{
	lt_db	   *db = (lt_db *) port;

	return db->recovering ? db->replay_at : lt_wal_position(db->wal);
}

static LtgStatus
hook_wal_flush(LtgPort *port, LtgSeq lsn, LtgError *err)
{
	lt_db	   *db = (lt_db *) port;
	LtgSeq		position;

	if (db->recovering)
		return LTG_OK;			/* read from synced files */
	/* everything: D may be beyond the newest change (see lt_wal_replay) */
	position = lt_wal_position(db->wal);
	return lt_wal_sync(db->wal, lsn > position ? lsn : position, err);
}

static LtgStatus
hook_xid_status(LtgPort *port, LtgXid xid, LtgXidStatus *status, LtgError *err)
{
	lt_db	   *db = (lt_db *) port;
	uint64_t	csn;

	(void) err;
	switch (lt_xid_fate(db->xids, xid, &csn))
	{
		case LT_FATE_COMMITTED:
			*status = LTG_XID_COMMITTED;
			break;
		case LT_FATE_ABORTED:
			*status = LTG_XID_ABORTED;
			break;
		default:
			*status = LTG_XID_IN_PROGRESS;
			break;
	}
	return LTG_OK;
}

/*
 * Flushes ask this after they have chosen what to write, so whatever they write
 * has an xid below the one to be given out next.
 */
static LtgXid
hook_horizon(LtgPort *port)
{
	lt_db	   *db = (lt_db *) port;
	uint64_t	end = atomic_load(&db->files_xid_end);
	uint64_t	next = lt_xids_next(db->xids);

	while (end < next && !atomic_compare_exchange_weak(&db->files_xid_end, &end, next))
		;
	return lt_xids_horizon(db->xids);
}

/* For reads only: no file comes of it. */
static LtgXid
hook_seen_below(LtgPort *port)
{
	return lt_xids_horizon(((lt_db *) port)->xids);
}

static void
hook_live(LtgPort *port, LtgLive *live)
{
	lt_xids_live(((lt_db *) port)->xids, live);
}

static LtgSees
hook_sees(LtgPort *port, const LtgLive *live, uint32_t i, LtgXid xid)
{
	return lt_xids_sees(((lt_db *) port)->xids, live, i, xid);
}

static bool
hook_interrupted(LtgPort *port)
{
	return atomic_load_explicit(&((lt_db *) port)->closing, memory_order_relaxed);
}

static void
hook_log(LtgPort *port, LtgLogLevel level, const char *msg)
{
	lt_db	   *db = (lt_db *) port;

	db->opt.log(db->opt.log_arg, (int) level, msg);
}

static void
init_port(lt_db *db, LtgPort *base)
{
	db->port = *base;
	db->port.wal_position = hook_wal_position;
	db->port.wal_flush = hook_wal_flush;
	db->port.xid_status = hook_xid_status;
	db->port.horizon = hook_horizon;
	db->port.seen_below = hook_seen_below;
	db->port.live = hook_live;
	db->port.sees = hook_sees;
	db->port.interrupted = hook_interrupted;
	if (db->opt.log != NULL)
		db->port.log = hook_log;
}

/* ---- opening ---- */

void
lt_options_init(lt_options *o)
{
	memset(o, 0, sizeof(*o));
	o->create = true;
	o->sync = LT_SYNC_FULL;
	o->sync_interval_ms = 100;
	o->memtable_bytes = (size_t) 64 << 20;
	o->memtable_count = 3;
	o->cache_bytes = (size_t) 128 << 20;
	o->metadata_bytes = (size_t) 16 << 20;
	o->block_size = 4096;
	o->compaction_threads = 1;
	o->compaction_trigger = 4;
	o->file_bytes = (uint64_t) 64 << 20;
	o->max_txns = 1024;
	o->max_threads = 64;
	o->log_segment_bytes = (uint64_t) 64 << 20;
	o->log_buffer_bytes = (size_t) 8 << 20;
}

static void
make_config(const lt_options *o, LtgConfig *c)
{
	ltg_config_defaults(c);
	c->memtable_bytes = o->memtable_bytes;
	c->memtable_count = o->memtable_count;
	c->cache_bytes = o->cache_bytes;
	c->metadata_bytes = o->metadata_bytes;
	c->block_size = o->block_size;
	c->l0_compact_trigger = o->compaction_trigger;
	c->space_limit = o->space_limit;
	c->file_target_bytes = o->file_bytes;
	c->max_sessions = o->max_threads + 4 + o->compaction_threads;
}

static const char *
check_options(const lt_options *o)
{
	if (o->memtable_count < 2 || o->memtable_count > 16)
		return "memtable_count must be 2 to 16";
	if (o->max_txns == 0 || o->max_threads == 0 || o->max_threads > 4096)
		return "max_txns and max_threads must be at least 1";
	if (o->compaction_threads < 1 || o->compaction_threads > 16 || o->compaction_trigger < 1)
		return "compaction_threads must be 1 to 16, and compaction_trigger at least 1";
	if (o->file_bytes < 4096)
		return "file_bytes must be at least 4096";
	if ((o->log_buffer_bytes & (o->log_buffer_bytes - 1)) != 0 || o->log_buffer_bytes < 65536)
		return "log_buffer_bytes must be a power of two of at least 65536";
	if (o->log_segment_bytes < o->log_buffer_bytes)
		return "log_segment_bytes must not be less than log_buffer_bytes";
	if (o->sync < LT_SYNC_DEFAULT || o->sync > LT_SYNC_LAZY)
		return "unknown sync mode";
	return NULL;
}

/* The shared region, on huge pages where the system has them to give. */
static void *
alloc_region(lt_db *db, size_t size)
{
	size_t		align = size >= 4 * HUGE_PAGE ? HUGE_PAGE : 4096;
	void	   *raw = db->port.alloc(&db->port, size + align);
	uintptr_t	p = ((uintptr_t) raw + align - 1) & ~(uintptr_t) (align - 1);

	if (raw == NULL)
		return NULL;
	db->shared_mem = raw;
#ifdef MADV_HUGEPAGE
	if (align == HUGE_PAGE)
		(void) madvise((void *) p, size & ~(HUGE_PAGE - 1), MADV_HUGEPAGE);
#endif
	return (void *) p;
}

static LtgStatus
make_pools(lt_db *db)
{
	LtgPort    *port = &db->port;
	uint32_t	n = db->opt.max_threads + 4 + db->opt.compaction_threads;

	LTG_TRY(lt_xids_create(db->host, n + db->opt.max_txns, db->chunk_shift, &db->xids));
	db->session = lt_alloc_aligned(port, n * sizeof(LtSession));
	db->txn = lt_alloc_aligned(port, db->opt.max_txns * sizeof(struct lt_txn));
	if (db->session == NULL || db->txn == NULL)
		return LTG_NOMEM;
	db->n_sessions = n;
	for (uint32_t i = 0; i < n; i++)
		db->session[i].place = lt_xids_place(db->xids, i);
	for (uint32_t i = 0; i < db->opt.max_txns; i++)
	{
		db->txn[i].db = db;
		db->txn[i].place = lt_xids_place(db->xids, n + i);
	}
	return LTG_OK;
}

static LtgStatus
make_engine(lt_db *db, LtgError *err)
{
	LtWalOptions wo = {
		.segment_bytes = db->opt.log_segment_bytes,
		.ring_bytes = db->opt.log_buffer_bytes,
		.state = lt_wal_state,
		.state_arg = db,
	};
	LtgConfig	config;
	size_t		size;
	void	   *mem;

	make_config(&db->opt, &config);
	size = ltg_shared_size(&config);
	if (size == 0)
		return lt_wal_fail(err, LTG_INVALID, "", 0, "options out of range");
	mem = alloc_region(db, size);
	if (mem == NULL)
		return lt_wal_fail(err, LTG_NOMEM, "", 0, "out of memory for memtables and cache");
	LTG_TRY(ltg_shared_init(mem, &config, &db->shared));
	if (make_pools(db) != LTG_OK)
		return lt_wal_fail(err, LTG_NOMEM, "", 0, "out of memory for transactions");
	return lt_wal_create(db->host, &wo, &db->wal, err);
}

static void
destroy(lt_db *db)
{
	LtgPort    *port = &db->port;
	LtHost	   *host = db->host;
	LtgPosix   *posix = db->posix;

	if (db->session != NULL)
		lt_trees_close(db);
	for (uint32_t i = 0; i < db->n_sessions; i++)
	{
		LtSession  *ses = &db->session[i];

		if (ses->s != NULL)
			ltg_session_close(ses->s);
		port->free(port, ses->frame);
		port->free(port, ses->writes);
		port->free(port, ses->table);
	}
	lt_wal_destroy(db->wal);
	lt_xids_destroy(db->xids);
	lt_free_aligned(port, db->session);
	lt_free_aligned(port, db->txn);
	port->free(port, db->shared_mem);
	/* the copy of the port lives in db */
	lt_free_aligned(host->port, db);
	if (posix != NULL)
	{
		host->destroy(host);
		ltg_posix_close(posix);
	}
}

/* Load, replay, trees; the text of an error is left in db->error. */
static LtgStatus
start(lt_db *db)
{
	LtSession  *ses;
	LtWalStats	ws;
	LtgStatus	st;

	LTG_TRY(lt_session_get(db, false, &ses));
	st = lt_recover(db, ses);
	if (st == LTG_OK)
		st = lt_trees_open(db, ses);
	if (st == LTG_OK)
	{
		/* each opening adds a segment; those who never write much or close
		 * properly must not pile them up */
		lt_wal_stats(db->wal, &ws);
		if (ws.segments > SEGMENTS_AT_OPEN_MAX)
		{
			ltg_hurry(ses->s, true);
			st = lt_do_checkpoint(db, ses);
			ltg_hurry(ses->s, false);
		}
	}
	ltg_set_rate_limit(ses->s, db->opt.compaction_rate);
	(void) lt_session_done(db, ses, st);
	if (st == LTG_OK)
	{
		st = lt_background_start(db);
		if (st != LTG_OK)
		{
			lt_background_stop(db);
			lt_fail(db, st, "could not start background threads");
		}
		else
			atomic_store(&db->background_on, true);
	}
	return st;
}

static void
give_error(char *buf, size_t size, LtgStatus st, const LtgError *err)
{
	if (buf != NULL && size > 0)
		lt_format_error(buf, size, st, err);
}

lt_status
lt_open_host_chunked(LtHost *host, const lt_options *opt, uint32_t chunk_shift,
					 lt_db **out, char *errbuf, size_t errbuf_size)
{
	LtgError	err = {0};
	const char *bad = check_options(opt);
	LtgStatus	st;
	lt_db	   *db;

	*out = NULL;
	if (bad != NULL)
	{
		lt_wal_fail(&err, LTG_INVALID, "", 0, bad);
		give_error(errbuf, errbuf_size, LTG_INVALID, &err);
		return LT_INVALID;
	}
	db = lt_alloc_aligned(host->port, sizeof(*db));
	if (db == NULL)
	{
		give_error(errbuf, errbuf_size, LTG_NOMEM, NULL);
		return LT_NOMEM;
	}
	db->host = host;
	db->opt = *opt;
	if (db->opt.sync == LT_SYNC_DEFAULT)
		db->opt.sync = LT_SYNC_FULL;
	db->chunk_shift = chunk_shift;
	init_port(db, host->port);
	st = make_engine(db, &err);
	if (st != LTG_OK)
		give_error(errbuf, errbuf_size, st, &err);
	else
	{
		db->record_max = lt_wal_record_max(opt->log_buffer_bytes);
		st = start(db);
		if (st != LTG_OK && errbuf != NULL && errbuf_size > 0)
			snprintf(errbuf, errbuf_size, "%s", st == LTG_NOT_FOUND ? "no database here" : db->error);
	}
	if (st != LTG_OK)
	{
		destroy(db);
		return (lt_status) st;
	}
	*out = db;
	return LT_OK;
}

lt_status
lt_open_host(LtHost *host, const lt_options *opt, lt_db **db, char *errbuf, size_t errbuf_size)
{
	return lt_open_host_chunked(host, opt, DEFAULT_CHUNK_SHIFT, db, errbuf, errbuf_size);
}

lt_status
lt_open(const char *dir, const lt_options *opt, lt_db **db, char *errbuf, size_t errbuf_size)
{
	lt_options	defaults;
	LtgPosixOptions po = {.dir = dir, .lock_dir = true, .log_level = LTG_LOG_WARNING};
	LtgPosix   *posix;
	LtHost	   *host;
	LtgError	err = {0};
	const char *bad;
	LtgStatus	st;

	*db = NULL;
	if (opt == NULL)
	{
		lt_options_init(&defaults);
		opt = &defaults;
	}
	po.create = opt->create;
	bad = check_options(opt);
	if (bad != NULL)
		st = lt_wal_fail(&err, LTG_INVALID, "", 0, bad);
	else
		st = ltg_posix_open(&po, &posix, &err);
	if (st != LTG_OK)
	{
		if (err.os_errno == ENOENT && !opt->create)
			st = LTG_NOT_FOUND;
		give_error(errbuf, errbuf_size, st, &err);
		return (lt_status) st;
	}
	st = lt_host_posix(ltg_posix_port(posix), &host);
	if (st != LTG_OK)
	{
		give_error(errbuf, errbuf_size, st, NULL);
		ltg_posix_close(posix);
		return (lt_status) st;
	}
	st = (LtgStatus) lt_open_host(host, opt, db, errbuf, errbuf_size);
	if (st != LTG_OK)
	{
		host->destroy(host);
		ltg_posix_close(posix);
		return (lt_status) st;
	}
	(*db)->posix = posix;
	return LT_OK;
}

lt_status
lt_close(lt_db *db)
{
	LtSession  *ses;
	LtgError	err = {0};
	LtgStatus	st = LTG_OK,
				sync_st;

	if (db == NULL)
		return LT_OK;
	lt_background_stop(db);
	/* `closing` would interrupt our own flush */
	atomic_store(&db->closing, false);
	atomic_store(&db->background_on, false);
	if (!db->opt.fast_close && !lt_wal_poisoned(db->wal))
	{
		st = lt_session_get(db, false, &ses);
		if (st == LTG_OK)
		{
			ltg_hurry(ses->s, true);
			st = (LtgStatus) lt_session_done(db, ses, lt_do_checkpoint(db, ses));
		}
	}
	/* after a failed checkpoint the log is what is left: try all the same */
	sync_st = lt_wal_sync(db->wal, lt_wal_position(db->wal), &err);
	destroy(db);
	return (lt_status) (st != LTG_OK ? st : sync_st);
}

/* ---- keeping house ---- */

lt_status
lt_sync_log(lt_db *db)
{
	LtgError	err = {0};
	LtgStatus	st = lt_wal_sync(db->wal, lt_wal_position(db->wal), &err);

	if (st != LTG_OK)
		lt_keep_error(db, st, &err);
	return (lt_status) st;
}

lt_status
lt_checkpoint(lt_db *db)
{
	LtSession  *ses;
	LtgStatus	st = lt_session_get(db, true, &ses);

	if (st != LTG_OK)
		return (lt_status) st;
	return lt_session_done(db, ses, lt_do_checkpoint(db, ses));
}

static LtgStatus
compact_tree(lt_db *db, LtSession *ses, lt_tree *t)
{
	LtHost	   *h = db->host;
	LtgCompactResult r = {0};
	LtgStatus	st;

	/* busy: a merge of this tree is under way already; this one comes after it */
	while ((st = ltg_compact_store(ses->s, t->store, &r)) == LTG_BUSY)
	{
		h->lock(h, LT_MU_BG);
		h->wait(h, LT_CV_ROOM, LT_MU_BG, 10000);
		h->unlock(h, LT_MU_BG);
	}
	return st;
}

lt_status
lt_compact(lt_db *db)
{
	LtHost	   *h = db->host;
	LtSession  *ses;
	LtgStatus	st = lt_session_get(db, true, &ses);

	if (st != LTG_OK)
		return (lt_status) st;
	st = lt_do_checkpoint(db, ses);
	h->lock(h, LT_MU_DDL);
	if (st == LTG_OK)
		st = compact_tree(db, ses, db->catalog);
	if (st == LTG_OK)
		st = compact_tree(db, ses, db->default_tree);
	for (lt_tree *t = db->trees; t != NULL && st == LTG_OK; t = t->next)
		st = compact_tree(db, ses, t);
	h->unlock(h, LT_MU_DDL);
	atomic_store(&db->tidy_wanted, true);
	return lt_session_done(db, ses, st);
}

typedef struct ProblemCounter
{
	void		(*fn) (void *arg, const char *problem);
	void	   *arg;
	uint64_t	n;
} ProblemCounter;

static void
count_problem(void *arg, const char *problem)
{
	ProblemCounter *c = arg;

	c->n++;
	if (c->fn != NULL)
		c->fn(c->arg, problem);
}

lt_status
lt_check(lt_db *db, void (*fn) (void *arg, const char *problem), void *arg)
{
	ProblemCounter c = {.fn = fn, .arg = arg};
	LtSession  *ses;
	char		msg[200];
	LtgStatus	st = lt_session_get(db, true, &ses);

	if (st != LTG_OK)
		return (lt_status) st;
	if (!lt_xids_check(db->xids, msg, sizeof(msg)))
		count_problem(&c, msg);
	st = ltg_check_all(ses->s, count_problem, &c);
	if (st == LTG_OK && c.n > 0)
		st = ltg_fail(ses->s, LTG_CORRUPT, "%llu problems found", (unsigned long long) c.n);
	return lt_session_done(db, ses, st);
}

static void
sum_trees(lt_db *db, LtSession *ses, lt_stats *out)
{
	LtgPort    *port = &db->port;
	uint32_t	n = ltg_store_list(ses->s, NULL, 0);
	LtgStoreInfo *info = port->alloc(port, (n + 1) * sizeof(*info));
	uint32_t	have;

	if (info == NULL)
		return;
	have = ltg_store_list(ses->s, info, n);
	for (uint32_t i = 0; i < n && i < have; i++)
	{
		out->entries += info[i].entries;
		out->tombstones += info[i].tombstones;
		out->raw_bytes += info[i].raw_bytes;
	}
	port->free(port, info);
}

lt_status
lt_get_stats(lt_db *db, lt_stats *out)
{
	LtWalStats	w;
	LtgStats	e = {0};
	LtSession  *ses;
	LtgStatus	st = lt_session_get(db, true, &ses);

	if (st != LTG_OK)
		return (lt_status) st;
	memset(out, 0, sizeof(*out));
	ltg_stats(ses->s, &e);
	lt_wal_stats(db->wal, &w);
	out->commits = lt_xids_commits(db->xids);
	out->aborts = atomic_load(&db->aborts);
	out->conflicts = atomic_load(&db->conflicts);
	out->log_bytes = w.bytes;
	out->log_writes = w.writes;
	out->log_syncs = w.syncs;
	out->log_segments = w.segments;
	out->log_position = w.insert;
	out->log_durable = w.flushed;
	out->files_durable = e.durable;
	out->next_txn = lt_xids_next(db->xids);
	out->oldest_txn = lt_xids_oldest(db->xids);
	for (uint32_t i = 0; i < db->opt.max_txns; i++)
		out->running_txns += atomic_load_explicit(&db->txn[i].used, memory_order_relaxed);
	out->aborted_kept = lt_xids_aborted_kept(db->xids);
	out->stalls = atomic_load(&db->stalls);
	out->memtable_used = e.memtable_used;
	out->memtable_capacity = e.memtable_capacity;
	out->memtables_waiting = e.frozen;
	out->flushes = e.flushes;
	out->flush_bytes = e.flush_bytes;
	out->compactions = e.compactions;
	out->compact_bytes_written = e.compact_bytes_written;
	out->compact_bytes_read = e.compact_bytes_read;
	out->row_bytes = e.flush_row_bytes;
	out->backlog = e.backlog;
	out->write_delays = e.write_delays;
	out->write_delay_us = e.write_delay_us;
	out->rate_waits = e.limit_waits;
	out->rate_wait_us = e.limit_wait_us;
	out->files = e.files;
	out->file_bytes = e.file_bytes;
	out->cache_hits = e.cache_hits;
	out->cache_misses = e.cache_misses;
	out->cache_used = e.cache_used;
	sum_trees(db, ses, out);
	return lt_session_done(db, ses, LTG_OK);
}
