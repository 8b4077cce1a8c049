/*
 * lt.h
 *	  Lightning as an embedded, ordered, transactional key-value store.
 *
 * Model
 *	 A database is a directory.  It holds trees: ordered maps from byte keys to
 *	 byte values, compared with memcmp.  There is always one default tree (pass
 *	 NULL where a tree is asked for); more can be made by name.
 *
 *	 Transactions span all trees.  They see the database as it was when they
 *	 began, plus their own writes (snapshot isolation).  The first of two
 *	 transactions that write one key wins: the second gets LT_CONFLICT from its
 *	 put or delete, at once, never by waiting.  Its transaction stays usable;
 *	 usually it is aborted and retried.  Read-only transactions never fail with
 *	 a conflict and block nobody.
 *
 * Caveats
 *	 - A long transaction keeps old versions of what changes meanwhile; keep
 *	   idle ones short.
 *	 - A database may be open in one process once.  A second open is refused.
 *	 - After a failed sync of the log all writes answer LT_POISONED, because
 *	   nobody can know what the disk has; reading goes on.  Close and reopen.
 *	 - LT_CONFLICT from lt_put, lt_delete and lt_write (which have no snapshot)
 *	   means that an open transaction has written the key.
 *
 * Threads
 *	 lt_db and lt_tree may be used by any number of threads at once; lt_txn,
 *	 lt_cursor, lt_batch and lt_value by one thread at a time.  No call may be
 *	 made on a database while or after it is closed.
 *
 * Limits
 *	 Keys 4,096 bytes, values 256 KB, one batch about 1 MB in all.
 */
#ifndef LT_H
#define LT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lt_db lt_db;
typedef struct lt_tree lt_tree;
typedef struct lt_txn lt_txn;
typedef struct lt_cursor lt_cursor;
typedef struct lt_batch lt_batch;

typedef enum lt_status
{
	LT_OK = 0,
	LT_NOT_FOUND = 1,			/* no such key or tree */
	LT_END = 2,					/* a cursor has no more rows */
	LT_BUSY = 3,				/* too many handles at once, or transactions since the
								 * oldest one open: nothing was written; the
								 * directory is in use */
	LT_CORRUPT = 4,				/* files are damaged or missing */
	LT_IO = 5,					/* the operating system refused */
	LT_NOSPACE = 6,				/* the disk is full */
	LT_NOMEM = 7,
	LT_NOSHMEM = 8,				/* metadata memory is used up: see metadata_bytes */
	LT_TOO_LARGE = 9,			/* key, value or batch over the limit */
	LT_INVALID = 10,			/* wrong arguments or state */
	LT_VERSION = 11,			/* written by a newer version */
	LT_INTERRUPTED = 12,		/* the database is being closed */
	LT_CONFLICT = 13,			/* another transaction wrote the key first */
	LT_POISONED = 14,			/* a sync failed earlier: reopen */
	LT_HOST_ERROR = 15
} lt_status;

/* How far a commit must have come when the call returns. */
typedef enum lt_sync
{
	LT_SYNC_DEFAULT = 0,		/* what lt_options.sync says */
	LT_SYNC_FULL = 1,			/* on disk: survives a power failure */
	LT_SYNC_OS = 2,				/* handed to the operating system: survives the
								 * end of the process */
	LT_SYNC_LAZY = 3			/* in the log buffer: handed on, and synced,
								 * within sync_interval_ms */
} lt_sync;
/*
 * Whatever the mode, the log keeps its order: what a crash takes is always a
 * suffix of the commits, never one from the middle, and never half of one.
 */

typedef struct lt_options
{
	bool		create;			/* make the directory and the database if missing */
	lt_sync		sync;			/* of commits that don't say; default FULL */
	uint32_t	sync_interval_ms;	/* background sync of the log */
	size_t		memtable_bytes; /* each of memtable_count */
	uint32_t	memtable_count; /* 2..16 */
	size_t		cache_bytes;	/* decompressed blocks */
	size_t		metadata_bytes;
	uint32_t	block_size;		/* of data blocks before compression.  The default,
								 * 4 kB, is for point reads of small values; larger
								 * blocks compress better and scan faster */
	uint32_t	max_txns;		/* transactions open at once */
	uint32_t	max_threads;	/* calls in progress plus open cursors; more wait
								 * (calls) or are refused (cursors) */
	uint64_t	log_segment_bytes;
	size_t		log_buffer_bytes;	/* a power of two */
	uint32_t	compaction_threads;	/* 1..16 */
	uint32_t	compaction_trigger;	/* flushed runs of a tree worth merging: 4 */
	uint32_t	space_limit;	/* percent of a tree that new versions of its keys
								 * may take in flushed runs before they are merged
								 * with it, whatever that writes; 0: no limit */
	uint64_t	file_bytes;		/* about the size of merged files, at most; 64 MB */
	uint64_t	compaction_rate;	/* bytes that background work may read and write
									 * per second; 0: any.  See lt_set_compaction_rate */
	bool		no_threads;		/* no background threads: flushes happen inside
								 * writing calls, the rest in lt_background */
	bool		fast_close;		/* lt_close leaves the log to be replayed instead
								 * of writing out the memtables */
	/* Messages (level 0 debug, 1 info, 2 warning); NULL: warnings to stderr. */
	void		(*log) (void *arg, int level, const char *msg);
	void	   *log_arg;
} lt_options;

extern void lt_options_init(lt_options *opt);

/* Why a call failed, in words.  Detail is that of the last failure in any
 * thread of this database (db NULL: of the last failed lt_open is in errbuf). */
extern const char *lt_status_text(lt_status status);
extern void lt_error_text(lt_db *db, char *buf, size_t size);

/*
 * Opens, and recovers if need be.  On failure errbuf (may be NULL) receives a
 * message.  LT_NOT_FOUND: no database there and !create.
 */
extern lt_status lt_open(const char *dir, const lt_options *opt, lt_db **db,
						 char *errbuf, size_t errbuf_size);
/*
 * All transactions, cursors and values must be gone.  Everything committed is
 * made durable; a failure to do so is returned, but the database is closed in
 * any case.
 */
extern lt_status lt_close(lt_db *db);

/* ---- trees ---- */

/* Names are 1..255 bytes.  Not transactional: done, and durable, on return.
 * create = false: LT_NOT_FOUND if there is none.  The handle lives as long as
 * the database is open; opening a name again gives the same handle. */
extern lt_status lt_tree_open(lt_db *db, const char *name, bool create, lt_tree **tree);
/* REQUIRES: nobody uses the tree, and no open transaction has written to it.
 * LT_OK: the handle is invalid. Otherwise the tree is as it was; only with
 * LT_POISONED it may be gone after reopening. */
extern lt_status lt_tree_drop(lt_db *db, lt_tree *tree);

/* ---- values ---- */

/*
 * A buffer for results.  Zero-initialise once, use for any number of calls (it
 * grows and is reused), free before lt_close.  data is valid until the next
 * use of the buffer.
 */
typedef struct lt_value
{
	const void *data;
	size_t		size;
	/* private: */
	void	   *mem_;
	uint32_t	cap_;
	void	   *owner_;
} lt_value;

#define LT_VALUE_INIT {0, 0, 0, 0, 0}

extern void lt_value_free(lt_value *v);

typedef struct lt_slice
{
	const void *data;
	size_t		size;
} lt_slice;

/* ---- single operations: each its own transaction ---- */

extern lt_status lt_get(lt_db *db, lt_tree *tree, const void *key, size_t key_size,
						lt_value *value);
/* Inserts or replaces. */
extern lt_status lt_put(lt_db *db, lt_tree *tree, const void *key, size_t key_size,
						const void *value, size_t value_size, lt_sync sync);
/* A key that is not there is no error. */
extern lt_status lt_delete(lt_db *db, lt_tree *tree, const void *key, size_t key_size,
						   lt_sync sync);
/* n look-ups in one snapshot.  found[i] says whether key i has a value.  The
 * status is that of the first failure other than LT_NOT_FOUND. */
extern lt_status lt_multi_get(lt_db *db, lt_txn *txn, lt_tree *tree, size_t n,
							  const lt_slice *keys, lt_value *values, bool *found);

/* A batch is one atomic, unconditional write: the cheapest way to write a lot.
 * Of several writes to one key the last one counts. */
extern lt_status lt_batch_create(lt_db *db, lt_batch **batch);
extern void lt_batch_free(lt_batch *batch);
extern void lt_batch_clear(lt_batch *batch);
extern lt_status lt_batch_put(lt_batch *batch, lt_tree *tree, const void *key,
							  size_t key_size, const void *value, size_t value_size);
extern lt_status lt_batch_delete(lt_batch *batch, lt_tree *tree, const void *key,
								 size_t key_size);
/* The batch stays as it is; clear it before using it for something else. */
extern lt_status lt_write(lt_db *db, lt_batch *batch, lt_sync sync);

/* ---- transactions ---- */

typedef enum lt_txn_mode
{
	LT_READ_WRITE = 0,
	LT_READ_ONLY = 1
} lt_txn_mode;

extern lt_status lt_begin(lt_db *db, lt_txn_mode mode, lt_txn **txn);
extern lt_status lt_txn_get(lt_txn *txn, lt_tree *tree, const void *key, size_t key_size,
							lt_value *value);
extern lt_status lt_txn_put(lt_txn *txn, lt_tree *tree, const void *key, size_t key_size,
							const void *value, size_t value_size);
extern lt_status lt_txn_delete(lt_txn *txn, lt_tree *tree, const void *key, size_t key_size);
/*
 * The transaction is gone on return, whatever the status; its cursors must have
 * been closed.  LT_OK: committed and as durable as asked for.  LT_POISONED: not
 * visible in this process, but may be found committed after reopening.  Any
 * other failure: aborted; only if the process ends before the log can be
 * written again may it still be found committed.
 */
extern lt_status lt_commit(lt_txn *txn, lt_sync sync);
extern void lt_abort(lt_txn *txn);

/* ---- cursors ---- */

typedef struct lt_range
{
	const void *lo;				/* first key that may be returned; NULL: none */
	size_t		lo_size;
	const void *hi;				/* first key beyond the range; NULL: none */
	size_t		hi_size;
	bool		backward;		/* from hi down to lo */
	uint32_t	expect_rows;	/* a hint: how many rows will be fetched; 0: many */
} lt_range;

/*
 * txn NULL: a snapshot of its own, taken now.  In a transaction the cursor
 * sees that transaction's writes made before it was opened.  range NULL: all.
 * The bounds are copied.
 */
extern lt_status lt_cursor_open(lt_db *db, lt_txn *txn, lt_tree *tree,
								const lt_range *range, lt_cursor **cursor);
/* LT_END after the last row.  Pointers are valid until the next call on the
 * cursor. */
extern lt_status lt_cursor_next(lt_cursor *cursor, const void **key, size_t *key_size,
								const void **value, size_t *value_size);
/* Another range of the same tree, cheaper than a new cursor; takes a fresh
 * snapshot if the cursor has its own, or sees the newest own writes of its
 * transaction. */
extern lt_status lt_cursor_seek(lt_cursor *cursor, const lt_range *range);
extern void lt_cursor_close(lt_cursor *cursor);

/* ---- keeping house ---- */

/* Make all commits so far durable. */
extern lt_status lt_sync_log(lt_db *db);
/* Write all memtables to files and drop the log before them. */
extern lt_status lt_checkpoint(lt_db *db);
/* Merge each tree into its last level: smallest and fastest to read. */
extern lt_status lt_compact(lt_db *db);

typedef enum lt_work
{
	LT_WORK_FLUSH = 1,
	LT_WORK_COMPACT = 2,
	LT_WORK_TIDY = 4,			/* remove old files and log segments */
	LT_WORK_SYNC = 8,
	LT_WORK_ALL = 15
} lt_work;

/* One step of the chosen background work, for databases opened with
 * no_threads; *more says whether there was something to do. */
extern lt_status lt_background(lt_db *db, int work, bool *more);

/* Change lt_options.compaction_rate of an open database. */
extern lt_status lt_set_compaction_rate(lt_db *db, uint64_t bytes_per_second);

/* Verify every invariant of files and memory.  One call of fn per problem;
 * LT_OK if there are none, LT_CORRUPT if there are. */
extern lt_status lt_check(lt_db *db, void (*fn) (void *arg, const char *problem), void *arg);

typedef struct lt_stats
{
	uint64_t	commits, aborts, conflicts;
	uint64_t	log_bytes, log_writes, log_syncs, log_segments;
	uint64_t	log_position, log_durable, files_durable;
	uint64_t	running_txns, next_txn, oldest_txn, aborted_kept;
	uint64_t	stalls;			/* writers that waited for a flush */
	uint64_t	memtable_used, memtable_capacity, memtables_waiting;
	uint64_t	flushes, flush_bytes, compactions, compact_bytes_written;
	uint64_t	compact_bytes_read;
	uint64_t	row_bytes;		/* keys and values that were flushed, as they came */
	uint64_t	backlog;		/* sorted runs not merged yet, of the tree that has most */
	uint64_t	write_delays, write_delay_us;	/* writers slowed down before they stall */
	uint64_t	rate_waits, rate_wait_us;	/* of background work, for compaction_rate */
	uint64_t	files, file_bytes;
	uint64_t	cache_hits, cache_misses, cache_used;
	uint64_t	entries, tombstones, raw_bytes;		/* in files, all trees */
} lt_stats;

extern lt_status lt_get_stats(lt_db *db, lt_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
