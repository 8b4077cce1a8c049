/*
 * shared.h
 *	  Layout of the shared region, and the structures in it that several
 *	  modules of the tree use: generations list, stores, files, counters.
 *
 * Publication order (what makes lock-free reading right)
 *	 S1. A reader loads the generation list before the store's run set.  A
 *		 flush stores the new run sets before it removes the generation.  So
 *		 a reader sees each version at least once; versions seen twice have
 *		 the same seq, or are settled or relabelled (tree/relabel.h) in the
 *		 older source, and the newer source decides first.
 *	 S2. Sources of a store, newest first: active generation, frozen ones by
 *		 falling number, level 0 runs by falling age, levels 1, 2, ...
 *		 Every version of a key in a newer source is newer than, or the same
 *		 as, each of its versions in an older source.
 *	 S3. Freezing takes all LTG_LOCK_PIN_* exclusively for as long as it takes
 *		 to read the log position B and swap two pointers.  So a generation
 *		 ends exactly at B: every record with LSN <= B is in it or older
 *		 ones, every later one in newer ones.  DDL is cut at the same B: it
 *		 holds LTG_LOCK_META over {log + change}, and so does a freeze.
 *	 S4. The manifest's D is the B of the newest generation it contains, so
 *		 replay skips exactly the records with LSN <= D.  The store table
 *		 written with it was copied after that cut, so it contains every
 *		 creation and drop with LSN <= D; later ones may be in it too and
 *		 are replayed (see load.c).
 *	 S5. Run sets are immutable; a store's pointer to one is replaced under
 *		 LTG_LOCK_META, after the manifest that describes it is durable.
 *		 Only the holder of LTG_LOCK_MANIFEST replaces one run set by
 *		 another; a drop or a reset (LTG_LOCK_META alone) takes it away.
 *	 S6. A flush may merge a generation's part of a store straight into its
 *		 levels, in pieces (compact_flush.c).  LtgMerged then says which keys of
 *		 that generation the run set already has: readers leave them out of the
 *		 generation, so that S2 holds; replay leaves out their records up to
 *		 the generation's cut, although it is above D.  As long as it is, nobody
 *		 else merges this store: replay may need what a merge would drop.
 *
 * Reclamation: what a reader may still see is stamped when it is unlinked
 * (run sets, generation lists, arenas, store descriptors, data files) and is
 * reused when the stamp's epoch has passed.  Nothing in a freeze allocates:
 * generation lists come from a ring that is large enough, see
 * LTG_GEN_LISTS.
 *
 * Lock order: LTG_LOCK_FLUSH, _COMPACT, _MANIFEST, _META, _PIN_*.
 */
#ifndef LTG_TREE_SHARED_H
#define LTG_TREE_SHARED_H

#include "base/epoch.h"
#include "base/shalloc.h"
#include "ltg.h"
#include "storage/cache.h"
#include "storage/run.h"
#include "tree/memtable.h"

#define LTG_GENERATIONS_MAX 16
#define LTG_LEVELS_MAX 8

/*
 * Between two passings of an epoch each arena becomes active at most once and
 * retires at most once, so at most 2 * LTG_GENERATIONS_MAX replaced lists wait
 * for it, and one is current.
 */
#define LTG_GEN_LISTS (2 * LTG_GENERATIONS_MAX + 2)

/* What of the oldest frozen generation is in a store's runs: S6. */
typedef struct LtgMerged
{
	LtgSeq		upto;			/* the generation's cut; 0: nothing */
	uint64_t	generation;		/* its number, 0: not known any more */
	bool		all;			/* all of its keys, or those below ... */
	LtgBound	below;			/* ... this one, which is exact */
} LtgMerged;

static inline bool
ltg_merged_has(const LtgMerged *m, const uint8_t *key, uint32_t key_len)
{
	return m->all || ltg_key_cmp(key, key_len, m->below.bytes, m->below.len) < 0;
}

/*
 * Immutable list of a store's runs: level 0 by falling age, then level 1 by
 * key, level 2 by key, ... level_start[i]..level_start[i+1] are level i.
 * "By key" goes by min_key, then max_key: two runs whose truncated bounds are
 * alike stand in no particular order, although they are disjoint.
 */
typedef struct LtgRunSet
{
	uint32_t	n;
	uint32_t	level_start[LTG_LEVELS_MAX + 1];
	LtgMerged	merged;
	LtgRunRef	run[];
} LtgRunSet;

/*
 * A store descriptor.  Type-stable: descriptors come in slabs that are never
 * given back.  Chains may be walked inside an epoch without a lock: an
 * unlinked descriptor keeps its links until it is reused.
 */
struct LtgStore
{
	_Atomic uint64_t id;		/* never reused, also not across restarts;
								 * 0 = dropped or free */
	LtgStoreKey key;			/* constant while linked */
	LtgSeq		stamp;
	_Atomic uint32_t flags;
	_Atomic uint64_t next_rowid;
	_Atomic uint64_t graves_cleared;	/* seq */
	_Atomic uint64_t options;	/* LtgStoreOptions, packed (store.c) */
	_Atomic uint64_t rewrite_below; /* ltg_compact_store is to rewrite all files
								 * numbered below this */
	LtgRunSet  *_Atomic runs;	/* NULL: none */
	_Atomic LtgSeq merged_upto; /* as merged.upto, for those without a lock */
	LtgMerged	merged;			/* S6; LTG_LOCK_META, or redo */
	_Atomic uint64_t superseded;	/* versions in files that newer ones hide; an
								 * estimate, since the last merge of level 0 */
	_Atomic uint64_t probes;	/* reads that had to look at several level-0 runs,
								 * counted now and then */
	uint64_t	probes_seen;	/* LTG_LOCK_COMPACT: value of `probes` ... */
	uint64_t	probes_at;		/* ... at this time, and ... */
	uint64_t	probe_rate;		/* ... how many there were a second before */
	_Atomic uint64_t asked_for;	/* until this time only who compacts all of it
								 * may begin */
	_Atomic uint64_t stuck_xid;	/* horizon at which some versions under it
								 * could not be settled */
	_Atomic uint64_t compact_not_before;	/* time, after a failure */
	_Atomic bool damaged;		/* the last merge met damage */
	LtgStore   *_Atomic hash_next;	/* bucket chain by key; LTG_LOCK_META to change */
	LtgStore   *_Atomic id_next;	/* bucket chain by id; the same */

	/* LTG_LOCK_META */
	LtgStore   *changed_next;	/* list of those that the manifest has to say
								 * something new of */
	uint64_t	changed;		/* in the list since; LtgShared.changes; 0: not */

	/* of a dropped one, LTG_LOCK_META: */
	LtgStore   *free_next;		/* list of dropped, or of free ones */
	LtgSeq		dropped_at;		/* LSN of the drop */
	uint64_t	epoch_stamp;
};

/*
 * A compaction under way: what it has reserved (C1 of compact.h), and how far it
 * is.  LTG_LOCK_COMPACT for everything but the atomic counters.
 */
#define LTG_JOBS_MAX 32

typedef struct LtgCompactJob
{
	uint64_t	store_id;		/* 0: the slot is free */
	LtgStoreKey key;
	uint64_t	worker;			/* LtgSession.host_id */
	uint32_t	reason;			/* LtgCompactReason */
	uint32_t	first_level, out_level;
	uint64_t	age_lo, age_hi; /* level-0 inputs; lo > hi: none */
	LtgBound	min_key, max_key;	/* hull of all inputs */
	uint32_t	n_in;
	uint64_t	started_us;
	uint64_t	bytes_total;	/* of the inputs */
	_Atomic uint64_t bytes_read, bytes_written;
	_Atomic uint64_t versions_in, versions_out;
	_Atomic uint32_t phase;		/* LtgCompactPhase */
} LtgCompactJob;

/* Immutable list of generations, newest first; [0] is active. */
typedef struct LtgGenList
{
	uint32_t	n;
	LtgGeneration *gen[LTG_GENERATIONS_MAX];
	uint64_t	epoch_stamp;	/* when it was replaced; 0 = free or current */
} LtgGenList;

typedef enum LtgArenaState
{
	LTG_ARENA_READY,			/* empty, has its number */
	LTG_ARENA_ACTIVE,
	LTG_ARENA_FROZEN,
	LTG_ARENA_RETIRED			/* flushed; to be reset when its epoch passed */
} LtgArenaState;

typedef struct LtgArena			/* LTG_LOCK_META */
{
	LtgGeneration *gen;
	LtgArenaState state;
	LtgSeq		cut;			/* FROZEN: its B */
	uint64_t	epoch_stamp;	/* RETIRED */
} LtgArena;

typedef struct LtgSharedFile	/* a data file in use; LTG_LOCK_META */
{
	LtgFileId	id;
	uint64_t	bytes;
	uint32_t	refs;			/* run refs in current run sets */
	uint32_t	missing;		/* absent or damaged when loaded */
	uint64_t	named_in;		/* last checkpoint it was written to */
	uint64_t	obsolete_at;	/* first manifest number without it, 0 = in use */
	uint64_t	epoch_stamp;	/* when it became obsolete */
	LtgXid		min_xid;		/* of all runs that it was referred to for; 0 = none */
	struct LtgSharedFile *next;
} LtgSharedFile;

typedef struct LtgCounters
{
	_Atomic uint64_t freezes, busy;
	_Atomic uint64_t flushes, flush_bytes, flush_versions_in, flush_versions_out;
	_Atomic uint64_t compactions, compact_bytes_read, compact_bytes_written;
	_Atomic uint64_t compact_versions_in, compact_versions_out;
	_Atomic uint64_t flush_row_bytes;
	_Atomic uint64_t compact_moves, compact_tiers, compact_garbage;
	_Atomic uint64_t manifest_bytes;
} LtgCounters;

typedef enum LtgWorkClass		/* by falling priority */
{
	LTG_WORK_FLUSH,
	LTG_WORK_LEVEL0,
	LTG_WORK_REST,
	LTG_WORK_CLASSES
} LtgWorkClass;

typedef struct LtgPace			/* pace.h */
{
	_Atomic uint64_t allowed;	/* bytes of arenas writers may fill per second;
								 * 0: any */
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t write_clock_ns;
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t limit;	/* bytes/s of background
														 * work; 0: none */
	_Atomic uint64_t clock_us[LTG_WORK_CLASSES];
	_Atomic uint64_t frozen_at; /* time of the last freeze */
	_Atomic uint64_t write_rate, flush_rate;	/* of arenas, recently, bytes/s */
	_Atomic uint64_t backlog_rate;	/* when level 0 began to slow writers; 0: it
									 * doesn't */
	_Atomic uint64_t limit_waits, limit_wait_us;
	_Atomic uint64_t write_delays, write_delay_us;
} LtgPace;

struct LtgShared
{
	/* Constant after ltg_shared_init. */
	uint64_t	magic;
	LtgConfig	config;
	LtgEpochTable *epochs;
	LtgShAlloc *alloc;
	LtgCache   *cache;
	struct LtgPacked *packed;	/* NULL: none */
	LtgStore   *_Atomic *stores_by_key;	/* bucket arrays; LTG_LOCK_META to
										 * change, an epoch to walk */
	LtgStore   *_Atomic *stores_by_id;
	uint32_t	store_buckets;	/* a power of two */
	LtgSharedFile **files_by_id;	/* LTG_LOCK_META */
	uint32_t	file_buckets;	/* a power of two */

	/* What readers and writers load; replaced by freeze and publish. */
	_Alignas(LTG_CACHE_LINE) LtgGenList *_Atomic gens;
	LtgGeneration *_Atomic active;	/* gens->gen[0]; for writers, who hold a pin
									 * but are in no epoch: a list may be
									 * replaced and reused under a pin, the
									 * active generation may not */
	_Atomic LtgSeq durable;		/* D; LTG_LOCK_META to change */
	_Atomic uint64_t manifest;	/* the last publication's number, 0 = none */
	_Atomic uint64_t files_removed; /* counts removed data files */
	_Atomic uint64_t seen_below;	/* the greatest answer of the port's seen_below */
	_Atomic uint32_t hurried;	/* sessions whose flushes are to be short */

	/* LTG_LOCK_META */
	_Alignas(LTG_CACHE_LINE) LtgArena arena[LTG_GENERATIONS_MAX];
	LtgGenList	gen_list[LTG_GEN_LISTS];
	uint64_t	next_generation;
	LtgStore   *free_stores;
	LtgStore   *dropped_stores; /* their tombstones or epochs still matter */
	uint64_t	next_store_id;
	LtgStore   *changed_stores; /* also dropped ones */
	uint64_t	next_manifest;
	uint64_t	n_stores, n_files, file_bytes, n_obsolete, obsolete_bytes;
	uint64_t	changes;		/* of what a manifest describes */
	uint64_t	changes_published;
	_Atomic uint64_t changed_at_us; /* first one not published, 0 = none */
	bool		loaded;

	/* LTG_LOCK_MANIFEST: the file with the current manifest */
	uint64_t	manifest_file;
	uint64_t	manifest_end;	/* edits go there; 0: it must not be appended to */
	uint64_t	manifest_checkpoint;	/* bytes of it that are the checkpoint */

	_Alignas(LTG_CACHE_LINE) LtgPace pace;

	_Alignas(LTG_CACHE_LINE) LtgCompactJob job[LTG_JOBS_MAX];

	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t next_file_id;
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t next_unlogged_seq;
	_Alignas(LTG_CACHE_LINE) LtgCounters count;
};

#endif
