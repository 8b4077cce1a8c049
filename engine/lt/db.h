/*
 * db.h
 *	  Inside of the embedded library: an open database, its sessions,
 *	  transactions and trees, and the records of its log.
 *
 * Records (payload; varints unless said otherwise)
 *	 WRITE		u8 type, u8 flags (1: commits too), u64 xid, n, then n times:
 *				tree number, u8 kind, key length, key, and for a PUT: value
 *				length, value
 *	 COMMIT		u8 type, u64 xid
 *	 ABORT		u8 type, u64 xid: of a transaction whose commit was logged but
 *				failed afterwards; overrides it.  Others need no record.
 *	 TREE		u8 type, u64 tree number: created
 *	 DROP		u8 type, u64 tree number
 *	 STATE		u8 type, u8 flags (1: last part), u64 next xid, then pairs:
 *				(xid - previous one) * 2 + aborted; the others are running.
 *				At the start of each segment, in one or more parts.
 */
#ifndef LT_DB_H
#define LT_DB_H

#include "ltg.h"
#include "lt/host.h"
#include "lt/lt.h"
#include "lt/txn.h"
#include "lt/wal.h"
#include "port/port_posix.h"

typedef enum LtRecordType
{
	LT_REC_WRITE = 1,
	LT_REC_COMMIT = 2,
	LT_REC_ABORT = 3,
	LT_REC_TREE = 4,
	LT_REC_DROP = 5,
	LT_REC_STATE = 6
} LtRecordType;

#define LT_WRITE_COMMITS 1
#define LT_STATE_LAST 1

/* Tree numbers; the catalog maps names to numbers. */
#define LT_TREE_CATALOG 1
#define LT_TREE_DEFAULT 2
#define LT_TREE_FIRST_NAMED 16

struct lt_tree
{
	lt_db	   *db;
	LtgStore   *store;
	uint32_t	number;
	struct lt_tree *next;
	char		name[256];		/* "" for the default tree */
};

/* What a call needs while it runs: an engine session and scratch memory. */
typedef struct LtSession
{
	_Alignas(LTG_CACHE_LINE) _Atomic bool busy;
	LtgSession *s;				/* opened when first used */
	LtXminSlot *place;
	uint8_t    *frame;			/* log record under construction */
	size_t		frame_cap;
	LtgWrite   *writes;
	uint32_t   *table;			/* of a batch: finds duplicate keys */
	size_t		writes_cap, table_cap;
} LtSession;

struct lt_txn
{
	_Alignas(LTG_CACHE_LINE) _Atomic bool used;
	lt_db	   *db;
	LtSnap		snap;
	LtXminSlot *place;
	_Atomic uint64_t *slot;		/* of the xid, NULL: has none yet */
	LtgXid		xid;
	uint32_t	cid;
	uint32_t	cursors;		/* open ones */
	bool		read_only;
};

struct lt_db
{
	LtgPort		port;			/* the host's, with our log and transactions */
	LtHost	   *host;
	LtgPosix   *posix;			/* ours to close; NULL: the caller's host */
	lt_options	opt;
	LtgShared  *shared;
	void	   *shared_mem;
	LtWal	   *wal;
	LtXids	   *xids;
	LtSession  *session;
	uint32_t	n_sessions;
	struct lt_txn *txn;
	uint32_t	record_max;
	lt_tree    *default_tree;
	lt_tree    *catalog;
	lt_tree    *trees;			/* named, LT_MU_DDL */
	uint32_t	chunk_shift;

	bool		recovering;
	LtgSeq		replay_at;		/* recovering: LSN of the last replayed record */
	_Atomic uint64_t files_xid_end; /* no file has an xid at or above it */

	_Atomic bool closing;
	_Atomic bool background_on; /* somebody flushes for those who wait */
	_Atomic bool flush_failed;	/* the last flush; text in the error */
	_Atomic int flush_status;
	_Atomic bool tidy_wanted;
	_Atomic uint64_t flush_rounds;	/* ended, LT_MU_BG to change */
	_Atomic uint64_t merge_rounds;	/* likewise, those that changed something */
	_Atomic uint64_t stalls, conflicts, aborts;

	char		error[512];		/* LT_MU_ERROR */
};

/* ---- sessions ---- */
extern LtgStatus lt_session_get(lt_db *db, bool wait, LtSession **ses) LTG_MUST_CHECK;
extern void lt_session_put(lt_db *db, LtSession *ses);
/* Keeps the session's error as text, clears it, gives the session back. */
extern lt_status lt_session_done(lt_db *db, LtSession *ses, LtgStatus st);
extern void lt_keep_error(lt_db *db, LtgStatus st, const LtgError *err);
extern lt_status lt_fail(lt_db *db, LtgStatus st, const char *msg);
extern void lt_format_error(char *buf, size_t size, LtgStatus st, const LtgError *err);

/* ---- writing (write.c) ---- */
typedef struct LtJob
{
	LtgWrite   *w;
	uint32_t	n;
	lt_txn	   *txn;			/* NULL: autocommit */
	lt_sync		sync;			/* autocommit */
} LtJob;

extern LtgStatus lt_write_job(lt_db *db, LtSession *ses, LtJob *job) LTG_MUST_CHECK;
extern LtgStatus lt_log_simple(lt_db *db, LtRecordType type, uint64_t number,
							   _Atomic uint64_t *slot, uint64_t slot_value,
							   LtgSeq *lsn, LtgError *err) LTG_MUST_CHECK;
/* Make lsn as durable as asked for; on failure undo the logged commit. */
extern LtgStatus lt_finish_commit(lt_db *db, LtgXid xid, _Atomic uint64_t *slot,
								  LtgSeq lsn, lt_sync sync, LtgError *err) LTG_MUST_CHECK;
extern LtgStatus lt_grow(LtgPort *port, void **mem, size_t *cap, size_t need, size_t unit) LTG_MUST_CHECK;

/* ---- trees (tree.c) ---- */
extern LtgStatus lt_trees_open(lt_db *db, LtSession *ses) LTG_MUST_CHECK;
extern void lt_trees_close(lt_db *db);
extern void lt_store_key(uint32_t number, LtgStoreKey *key);

/* ---- background (background.c) ---- */
extern LtgStatus lt_wait_for_room(lt_db *db, LtSession *ses) LTG_MUST_CHECK;
extern LtgStatus lt_background_start(lt_db *db) LTG_MUST_CHECK;
extern void lt_background_stop(lt_db *db);
extern LtgStatus lt_do_checkpoint(lt_db *db, LtSession *ses) LTG_MUST_CHECK;
extern LtgStatus lt_wal_state(void *arg, LtWalEmitFn emit, void *emit_arg);

/* ---- recovery (recover.c) ---- */
extern LtgStatus lt_recover(lt_db *db, LtSession *ses) LTG_MUST_CHECK;

/* Open over a host of the caller's, which outlives the database. */
extern lt_status lt_open_host(LtHost *host, const lt_options *opt, lt_db **db,
							  char *errbuf, size_t errbuf_size);
/* The same with smaller chunks of the commit table, for tests. */
extern lt_status lt_open_host_chunked(LtHost *host, const lt_options *opt, uint32_t chunk_shift,
									  lt_db **db, char *errbuf, size_t errbuf_size);
#endif
