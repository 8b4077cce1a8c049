/*
 * ltg.h
 *	  The engine's public interface: the only header, with ltg_port.h, that a host
 *	  includes (it brings base/version.h, base/span.h and base/session.h with it).
 *
 * Life of a region
 *	 size -> init -> one session -> load -> (replay by the host) -> many
 *	 sessions.  One process with threads, or many processes that share the
 *	 memory at the same address, use the same code.
 *
 * Writing one key (the order is an invariant, see ARCHITECTURE.md)
 *	 ltg_latch      the key's stripe
 *	 ltg_versions   find the newest version, check for conflict
 *	 ltg_reserve    pin the active generation, reserve memory in it
 *	 (log)          the host writes its log record and takes its LSN
 *	 ltg_apply      insert with seq = LSN, unpin; cannot fail
 *	 ltg_unlatch
 * Between ltg_reserve and ltg_apply the host must not fail without calling
 * ltg_cancel, must not wait for another session, and must not reserve again.
 * Keys that nobody else can know yet (fresh row ids) need no latch.
 *
 * Reading happens inside epochs that never outlive a call, except that a scan
 * batch owns copies of what it returns.
 */
#ifndef LTG_H
#define LTG_H

#include "base/session.h"
#include "base/span.h"
#include "base/version.h"

typedef struct LtgConfig
{
	size_t		memtable_bytes;		/* of one arena, >= 1 MB */
	uint32_t	memtable_count;		/* arenas, 2..16 */
	size_t		cache_bytes;
	size_t		packed_bytes;		/* of compressed blocks behind it, 0: none */
	size_t		metadata_bytes;		/* stores, run sets */
	uint32_t	max_sessions;
	uint32_t	block_size;			/* raw bytes of a data block, 4 kB..128 kB */
	uint32_t	filter_bits_per_key;
	uint32_t	l0_compact_trigger;	/* level-0 runs of a store that are worth a merge */
	uint32_t	space_limit;	/* percent of a store (a small one: half of that) which
								 * new versions of its rows may take in level 0 before
								 * they are merged with it, whatever that writes; 0: no
								 * limit */
	uint64_t	file_target_bytes;	/* of compaction outputs, at most */
	int			zstd_level;
	bool		row_ids;		/* keys are big-endian numbers out of ltg_store_take_rowids,
								 * but in stores of locks: checks look at that */
} LtgConfig;

extern void ltg_config_defaults(LtgConfig *c);
extern size_t ltg_shared_size(const LtgConfig *c);
extern LtgStatus ltg_shared_init(void *mem, const LtgConfig *c, LtgShared **shared) LTG_MUST_CHECK;
extern LtgStatus ltg_session_open(LtgPort *port, LtgShared *shared, LtgSession **s) LTG_MUST_CHECK;
extern void ltg_session_close(LtgSession *s);
/* After an error was thrown past engine frames, or at transaction abort:
 * leaves the epoch, forgets latch and pin (release_locks: false when the host
 * has already released all its locks), drops half-done writes. */
extern void ltg_session_reset(LtgSession *s, bool release_locks);

/* ---- stores ---- */

typedef struct LtgStoreKey
{
	uint32_t	space;			/* tablespace */
	uint32_t	database;
	uint32_t	relation;		/* relfilenode */
	int32_t		backend;		/* -1, or the owner of a temporary store */
} LtgStoreKey;

#define LTG_STORE_UNLOGGED 0x01	/* emptied by a crash */
#define LTG_STORE_TEMP 0x02		/* gone after any restart */
#define LTG_STORE_KEEP_GRAVES 0x04	/* tombstones stay until ltg_store_clear_graves */
#define LTG_STORE_LOCKS 0x08	/* versions last as long as their writer runs: flush
								 * and compaction drop those of ended ones, whether
								 * committed or aborted.  Of use with raw scans. */

#define LTG_STORE_DAMAGED 0x10	/* some of its rows may be lost: a file was not
								 * whole when it was loaded, or the host says so */

/*
 * Shared store descriptors are type-stable: a pointer stays a valid store
 * forever, but after a drop it may describe another one.  Whoever keeps a
 * pointer across calls also keeps the id and compares.
 */
typedef struct LtgStore LtgStore;

/*
 * Creates an empty store, replacing one of the same key with another stamp
 * (whose data vanish).  Same key and same stamp: returns the existing one
 * (replay).  Host holds the pin (ltg_ddl_pin) across log + create/drop.
 * LTG_NOSHMEM when metadata memory is used up.
 */
extern LtgStatus ltg_store_create(LtgSession *s, const LtgStoreKey *key, uint32_t flags,
								  LtgSeq stamp, LtgStore **store) LTG_MUST_CHECK;
/*
 * Takes the memory that the session's next ltg_store_create needs, which can't fail
 * then.  So hosts reserve before they log.  must (replay: it has succeeded before):
 * what is kept for flushes and merges may be used.  LTG_NOSHMEM.
 */
extern LtgStatus ltg_store_reserve(LtgSession *s, bool must) LTG_MUST_CHECK;
/* Dropped stores whose memory comes back with a flush, at the latest. */
extern bool ltg_stores_are_leaving(LtgSession *s);
extern LtgStatus ltg_store_find(LtgSession *s, const LtgStoreKey *key, LtgStore **store) LTG_MUST_CHECK;
/* at = LSN of the drop; LTG_NOT_FOUND if there is none. */
extern LtgStatus ltg_store_drop(LtgSession *s, const LtgStoreKey *key, LtgSeq at) LTG_MUST_CHECK;
/* True if a store of this key was dropped at an LSN above the durable LSN:
 * its records may still be met by replay and are to be skipped. */
extern bool ltg_store_was_dropped(LtgSession *s, const LtgStoreKey *key);
/* Copies up to max descriptors of live stores; returns how many there are. */
typedef struct LtgStoreInfo
{
	LtgStoreKey key;
	uint64_t	id;
	LtgSeq		stamp;
	uint32_t	flags;
	uint64_t	next_rowid;
	uint32_t	runs, l0_runs, levels;
	uint64_t	entries, keys, tombstones, unsettled;	/* in files */
	uint64_t	disk_bytes, raw_bytes;
	LtgXid		min_xid, max_xid;	/* oldest and newest not settled in files, 0 = none */
	uint64_t	memtable_keys;	/* in all generations */
	LtgXid		memtable_writer;	/* who wrote all in them, puts only; 0: not so */
	uint64_t	superseded;		/* versions in files that newer ones there hide,
								 * as far as known; an estimate */
	uint64_t	memtable_bytes; /* keys and payloads of their versions */
	LtgSeq		graves_cleared;	/* tombstones up to here are not kept */
} LtgStoreInfo;
extern uint32_t ltg_store_list(LtgSession *s, LtgStoreInfo *info, uint32_t max);
extern void ltg_store_info(LtgSession *s, LtgStore *store, LtgStoreInfo *info);
extern uint64_t ltg_store_id(const LtgStore *store);
extern void ltg_store_set_flags(LtgSession *s, LtgStore *store, uint32_t set, uint32_t clear);

/*
 * How a store's blocks are written.  New options hold for what flushes and
 * compactions write from then on; ltg_compact_store rewrites everything.  They
 * are part of the manifest, not of the log: durable with the next manifest
 * (ltg_flush_upto), so a host that must not lose them sets them again when it
 * opens the store.  Setting what is set already costs nothing.
 */
typedef enum LtgCompression
{
	LTG_COMPRESS_AUTO = 0,		/* per block, whichever pays */
	LTG_COMPRESS_NONE = 1,
	LTG_COMPRESS_LZ4 = 2,
	LTG_COMPRESS_ZSTD = 3
} LtgCompression;

#define LTG_COMPRESS_LEVEL_MIN (-50)	/* of zstd; lz4 has no levels */
#define LTG_COMPRESS_LEVEL_MAX 22
#define LTG_BLOCK_SIZE_MIN 1024
#define LTG_BLOCK_SIZE_MAX (128 * 1024)

typedef struct LtgStoreOptions
{
	LtgCompression compression;
	int			level;			/* of zstd, 0: LtgConfig.zstd_level */
	uint32_t	block_size;		/* raw bytes of a data block, 0: LtgConfig's; what is
								 * larger than LtgConfig's counts as that, for
								 * the cache takes no larger ones */
} LtgStoreOptions;

/* LTG_INVALID, and nothing changed, when a value is out of range. */
extern LtgStatus ltg_store_set_options(LtgSession *s, LtgStore *store,
									   const LtgStoreOptions *opt) LTG_MUST_CHECK;
extern void ltg_store_options(const LtgStore *store, LtgStoreOptions *opt);
/* The next ltg_compact_store rewrites all there is now, also what needs no
 * cleaning.  Not kept over a restart; changing options implies it. */
extern void ltg_store_rewrite(LtgSession *s, LtgStore *store);

/* Hand out n consecutive row ids, never handed out before. */
extern uint64_t ltg_store_take_rowids(LtgStore *store, uint32_t n);
/* Give back the unused tail [first, first+n) if nobody took ids since. */
extern bool ltg_store_return_rowids(LtgStore *store, uint64_t first, uint32_t n);
/* Replay: rowid was used. */
extern void ltg_store_note_rowid(LtgStore *store, uint64_t rowid);
/*
 * Replay: the files already have what this record, which is above D, did to the
 * key; it must not be done again.  (S6 of tree/shared.h)
 */
extern bool ltg_is_merged(const LtgStore *store, const uint8_t *key, uint32_t key_len, LtgSeq lsn);
extern uint64_t ltg_store_next_rowid(const LtgStore *store);

/* Pin for DDL: hold over {log + store_create/drop}. */
extern void ltg_ddl_pin(LtgSession *s);
extern void ltg_ddl_unpin(LtgSession *s);

/* Next number for a version of a store that is not logged. */
extern LtgSeq ltg_next_unlogged_seq(LtgSession *s);

/* ---- writing ---- */

typedef struct LtgWrite
{
	LtgStore   *store;
	const uint8_t *key;
	uint32_t	key_len;
	LtgVersion	v;				/* seq is filled by apply */
} LtgWrite;

extern void ltg_latch(LtgSession *s, LtgStore *store, const uint8_t *key, uint32_t key_len);
extern void ltg_unlatch(LtgSession *s);
/*
 * LTG_BUSY: the active generation has no room (nothing is held or changed):
 * unlatch, ltg_make_room, and start over.
 */
extern LtgStatus ltg_reserve(LtgSession *s, const LtgWrite *w, uint32_t n) LTG_MUST_CHECK;
extern void ltg_apply(LtgSession *s, LtgWrite *w, uint32_t n, LtgSeq seq);
extern void ltg_cancel(LtgSession *s);
/*
 * Before a write of so many bytes, with nothing held: microseconds the host
 * should wait first, interruptibly, because background work is behind; 0 nearly
 * always.
 */
extern uint64_t ltg_write_delay(LtgSession *s, uint64_t bytes);
/* False: it would be 0. */
extern bool ltg_writers_are_slowed(LtgSession *s);
/*
 * Switch generations if the active one is full (or `force`).  LTG_OK: there is
 * room; LTG_BUSY: all arenas wait for a flush: the host wakes its flusher and
 * waits, interruptibly, or flushes itself.
 */
extern LtgStatus ltg_make_room(LtgSession *s, bool force) LTG_MUST_CHECK;

/* ---- reading one key ---- */

/* Growable private copy of a row. Zero-initialise; free with ltg_row_free. */
typedef struct LtgRow
{
	LtgVersion	v;				/* v.payload points into buf */
	uint8_t    *buf;
	uint32_t	cap;
} LtgRow;

/* The version the snapshot sees.  LTG_NOT_FOUND: none, or a tombstone. */
extern LtgStatus ltg_get(LtgSession *s, LtgStore *store, const uint8_t *key,
						 uint32_t key_len, LtgSnapshot *snap, LtgRow *row) LTG_MUST_CHECK;
extern void ltg_row_free(LtgSession *s, LtgRow *row);

/*
 * Visit the key's versions, newest first, whatever their state (ABORTED ones
 * included while they are in memory).  Return false to stop.  *fate may be set
 * to mark the version.  Runs inside an epoch: fn must not longjmp nor block.
 */
typedef bool (*LtgVersionFn) (void *arg, const LtgVersion *v, LtgState *fate);
extern LtgStatus ltg_versions(LtgSession *s, LtgStore *store, const uint8_t *key,
							  uint32_t key_len, LtgVersionFn fn, void *arg) LTG_MUST_CHECK;

/* ---- scanning ---- */

typedef struct LtgScan LtgScan;

typedef struct LtgScanOptions
{
	LtgSnapshot *snap;			/* NULL: raw, every version of every key */
	const uint8_t *lo;			/* first key that may be returned, NULL: none */
	uint32_t	lo_len;
	const uint8_t *hi;			/* first key beyond the range, NULL: none */
	uint32_t	hi_len;
	bool		backward;
	bool		spare_cache;	/* push nothing out of the cache */
	bool		keys_only;		/* leave payloads out: NULL, length 0 */
	uint32_t	max_rows;		/* per batch, 0: engine's choice (about a block) */
	uint32_t	max_merged;		/* of those, rows that come one by one; 0: no limit */
	LtgXid		ignore_from;	/* raw: leave out generations all of whose versions
								 * are by this transaction or later ones; 0: none */
} LtgScanOptions;

/*
 * A batch: rows copied out of the engine.  Row i by ltg_batch_row, in any
 * order; payloads (8-byte aligned) stay valid until the next ltg_scan_next, a
 * key until the next row is asked for.  In a raw scan each version is a row;
 * versions of a key follow each other newest first, in both directions, and
 * are never split over batches (which may then exceed max_rows).
 */
typedef struct LtgBatch
{
	uint32_t	n;
	bool		last;			/* nothing comes after it; false: not known */
	uint64_t	bytes;			/* payload bytes, for statistics */
} LtgBatch;

extern LtgStatus ltg_scan_open(LtgSession *s, LtgStore *store, const LtgScanOptions *opt,
							   LtgScan **scan) LTG_MUST_CHECK;
/* LTG_END when there are no more rows.  Nothing is held between calls.
 * LTG_INTERRUPTED: the host wants to stop in a long stretch without rows; the
 * scan may go on. */
extern LtgStatus ltg_scan_next(LtgScan *scan, LtgBatch *batch) LTG_MUST_CHECK;
extern void ltg_batch_row(LtgScan *scan, uint32_t i, const uint8_t **key,
						  uint32_t *key_len, LtgVersion *v);
/*
 * The rows from i on, as far as they can be described together: for those who
 * read many.  What a span gives is what ltg_batch_row gives, except seq and aux.
 */
extern void ltg_batch_span(LtgScan *scan, uint32_t i, LtgSpan *span);
/* Leave payloads out, or not, from the next batch on. */
extern void ltg_scan_keys_only(LtgScan *scan, bool on);
/* Continue elsewhere: new bounds and direction; the snapshot stays the one it
 * was opened with (opt->snap is not looked at). */
extern LtgStatus ltg_scan_restart(LtgScan *scan, const LtgScanOptions *opt) LTG_MUST_CHECK;
extern void ltg_scan_close(LtgScan *scan);

/* ---- background work: any session may do it; locks sort out who does ---- */

typedef struct LtgFlushResult
{
	bool		flushed;		/* a generation was written */
	uint64_t	bytes;
	uint64_t	row_bytes;		/* keys and payloads that came in */
	uint64_t	versions_in, versions_out;
	LtgSeq		durable;		/* D after this call */
} LtgFlushResult;

/* Write the oldest frozen generation to a segment and publish a manifest;
 * flushed = false when there is none. */
extern LtgStatus ltg_flush(LtgSession *s, LtgFlushResult *r) LTG_MUST_CHECK;
/* Freeze and flush until everything logged at or before lsn is in files and a
 * manifest with D >= lsn is durable.  Freezing waits for writers between log and
 * apply, so nothing at or below lsn is missed. */
extern LtgStatus ltg_flush_upto(LtgSession *s, LtgSeq lsn, LtgFlushResult *r) LTG_MUST_CHECK;
/*
 * The caller's flushes are waited for, from now on or (off) no more: they, and one that
 * another session is at, are to write no more than they must.
 */
extern void ltg_hurry(LtgSession *s, bool on);
extern bool ltg_flush_needed(LtgSession *s);	/* a frozen generation waits */
extern LtgSeq ltg_durable(LtgSession *s);		/* D of the current manifest */

typedef struct LtgCompactResult
{
	bool		compacted;
	uint64_t	bytes_read, bytes_written;
	uint64_t	versions_in, versions_out;
} LtgCompactResult;

/* Do the most urgent compaction, if any is due. */
extern LtgStatus ltg_compact(LtgSession *s, LtgCompactResult *r) LTG_MUST_CHECK;

/* Would ltg_compact have something to do? */
extern bool ltg_compact_is_due(LtgSession *s);

/* Compactions under way, of all sessions. */
typedef enum LtgCompactPhase
{
	LTG_COMPACT_STARTING,
	LTG_COMPACT_MERGING,
	LTG_COMPACT_WAITING,		/* for the rate limit */
	LTG_COMPACT_PUBLISHING
} LtgCompactPhase;

typedef struct LtgCompactProgress
{
	uint64_t	worker;			/* LtgSession.host_id */
	LtgStoreKey key;
	const char *reason;			/* a word */
	LtgCompactPhase phase;
	uint32_t	first_level, out_level, runs;
	uint64_t	elapsed_us;
	uint64_t	bytes_total, bytes_read, bytes_written;
	uint64_t	versions_in, versions_out;
} LtgCompactProgress;

/* Copies up to max; returns how many there are. */
extern uint32_t ltg_compact_progress(LtgSession *s, LtgCompactProgress *p, uint32_t max);

/*
 * Level-0 runs of the store that has most of them.  Hosts hold back flushes
 * while it is LTG_BACKLOG_MAX or more and compact instead: then writers wait
 * for room, rather than readers for ever more runs.
 */
#define LTG_BACKLOG_MAX 40
#define LTG_BACKLOG_SLOW 28		/* from here on writers are slowed down */
extern uint32_t ltg_backlog(LtgSession *s);
/* What background work may read and write per second; 0: no limit.  May be
 * changed at any time. */
extern void ltg_set_rate_limit(LtgSession *s, uint64_t bytes_per_second);
/*
 * Merge all runs of one store into its last level (VACUUM).  LTG_BUSY: somebody
 * else is at work on it; others then begin nothing new there for a moment, so
 * that trying again a few times a second gets its turn.
 */
extern LtgStatus ltg_compact_store(LtgSession *s, LtgStore *store, LtgCompactResult *r) LTG_MUST_CHECK;
/* Settled tombstones with seq <= upto need not be kept any more. */
extern void ltg_store_clear_graves(LtgSession *s, LtgStore *store, LtgSeq upto);

/*
 * Remove files that the newest manifest does not refer to, and what is older than
 * it.  The host calls it only while no base backup runs.
 */
extern LtgStatus ltg_remove_obsolete(LtgSession *s, uint32_t *removed) LTG_MUST_CHECK;
/*
 * The same for the manifest of this number.  A host that has to look for backups asks for the number first:
 * what is published after that, a backup that begins unseen may come too late for.
 * A call removes a few dozen files at most.
 */
extern LtgStatus ltg_remove_before(LtgSession *s, uint64_t manifest, uint32_t *removed) LTG_MUST_CHECK;

typedef struct LtgObsolete
{
	uint64_t	manifest;		/* the current one's number */
	uint64_t	files, bytes;	/* data files that no run set refers to */
} LtgObsolete;
extern void ltg_obsolete(LtgSession *s, LtgObsolete *o);

/*
 * The oldest transaction whose fate versions in files may depend on, 0: none.  Of
 * all files that have not been removed, or only of those that no run set refers to.
 */
extern LtgXid ltg_oldest_xid(LtgSession *s, bool obsolete);

/* A manifest without what was dropped, now rather than after a while: for want of
 * space.  Nothing happens if there is no need. */
extern LtgStatus ltg_publish_drops(LtgSession *s) LTG_MUST_CHECK;

/* ---- starting ---- */

typedef struct LtgLoadOptions
{
	LtgSeq		min_durable;	/* D must be at least this (redo point), 0: any */
	bool		reset_unlogged; /* after a crash */
} LtgLoadOptions;

typedef struct LtgLoadInfo
{
	LtgSeq		durable;
	uint64_t	manifest;		/* number, 0 = started empty */
	uint32_t	manifests_skipped;	/* newer ones that were not whole */
	uint32_t	files_missing;	/* of the chosen one: their rows give errors */
} LtgLoadInfo;

/*
 * Choose the newest manifest that is whole and covers min_durable and build
 * the store table from it; remove leftovers (*.tmp, files newer than the
 * manifest).  If none is whole, the newest readable one that covers
 * min_durable is used, and files_missing counts its damaged files.  LTG_CORRUPT
 * if there are manifests but none is usable.
 */
extern LtgStatus ltg_load(LtgSession *s, const LtgLoadOptions *opt, LtgLoadInfo *info) LTG_MUST_CHECK;
/* Empty all unlogged stores, drop temporary ones. */
extern LtgStatus ltg_reset_unlogged(LtgSession *s) LTG_MUST_CHECK;

/* ---- a warm cache after a restart ---- */

/* Write down which blocks are in the cache. */
extern LtgStatus ltg_prewarm_save(LtgSession *s, uint64_t *blocks) LTG_MUST_CHECK;

typedef struct LtgPrewarmResult
{
	uint64_t	listed;
	uint64_t	read;			/* brought in */
	uint64_t	present;		/* were there already, or found no room */
	uint64_t	gone;			/* of files that are not in use any more */
	bool		full;			/* there is no more room */
	bool		damaged;		/* the list is, and was ignored */
} LtgPrewarmResult;

/*
 * Read the blocks of the list back, the hottest first, until the cache is
 * full.  LTG_NOT_FOUND: there is no list; LTG_INTERRUPTED as the host wishes.
 */
extern LtgStatus ltg_prewarm_load(LtgSession *s, LtgPrewarmResult *r) LTG_MUST_CHECK;

/* ---- seeing inside ---- */

typedef struct LtgStats
{
	/* memtable */
	uint64_t	generations, frozen, memtable_used, memtable_capacity, freezes;
	/* flush and compaction, since start */
	uint64_t	flushes, flush_bytes, flush_versions_in, flush_versions_out;
	uint64_t	compactions, compact_bytes_read, compact_bytes_written;
	uint64_t	compact_versions_in, compact_versions_out;
	/* Write amplification is (flush_bytes + compact_bytes_written) over
	 * flush_row_bytes: keys and payloads of new versions, before compression. */
	uint64_t	flush_row_bytes;
	uint64_t	compact_moves;	/* without rewriting */
	uint64_t	compact_tiers;	/* within level 0 */
	uint64_t	compact_garbage;	/* for what was superseded */
	uint64_t	manifest_bytes;	/* written, of both copies */
	/* files */
	uint64_t	files, file_bytes, obsolete_files, obsolete_bytes, manifest, durable;
	/* metadata memory */
	uint64_t	metadata_used, metadata_total, stores;
	/* cache */
	uint64_t	cache_hits, cache_misses, cache_ghost_hits, cache_evictions;
	uint64_t	cache_bypasses, cache_frames, cache_used, cache_frame_bytes;
	uint64_t	cache_ghost_hits_recent, cache_ghost_hits_frequent;
	uint64_t	cache_recent, cache_frequent, cache_recent_ghosts, cache_frequent_ghosts;
	uint64_t	cache_recent_target;	/* blocks used once get so many frames */
	uint64_t	cache_pinned;	/* frames being filled, or evicted under a reader */
	/* compressed blocks behind the cache: its misses, mostly */
	uint64_t	packed_hits, packed_misses, packed_inserts, packed_evictions;
	uint64_t	packed_blocks, packed_used, packed_capacity;
	/* writers */
	uint64_t	busy;			/* reservations refused for want of room */
	uint64_t	write_delays, write_delay_us;
	uint64_t	write_rate;		/* bytes/s of memory they may fill now; 0: any */
	/* background work */
	uint64_t	backlog;		/* level-0 runs of the store that has most of them */
	uint64_t	jobs;			/* compactions under way */
	uint64_t	rate_limit, limit_waits, limit_wait_us;
} LtgStats;

extern void ltg_stats(LtgSession *s, LtgStats *stats);

/* One call of fn per problem found; LTG_OK even if there are problems. */
typedef void (*LtgProblemFn) (void *arg, const char *problem);
extern LtgStatus ltg_check_store(LtgSession *s, LtgStore *store, LtgProblemFn fn, void *arg) LTG_MUST_CHECK;
extern LtgStatus ltg_check_all(LtgSession *s, LtgProblemFn fn, void *arg) LTG_MUST_CHECK;

#endif
