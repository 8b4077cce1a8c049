/*
 * compact.h
 *	  Compaction: which stores want it (compact_score.c), what exactly is merged
 *	  (compact_pick.c), who works on what (compact_jobs.c), and the merging
 *	  itself (compact.c).  A flush may be a merge, too (compact_flush.c).
 *
 * Shape of a store
 *	 Level 0 is a row of tiers: flushed runs, and runs that were merged from
 *	 neighbours of like size and stay in level 0.  That costs each row little
 *	 writing.  The levels below are disjoint and grow tenfold.  Level 0 goes
 *	 down when that is cheap (in proportion to the rows that came in), when it
 *	 is worth it (much is superseded), when it has become large, or when there
 *	 is nothing else to do.
 *
 * Invariants
 *	 C1. Several sessions may compact one store.  Each reserves its inputs and
 *		 the place of its outputs in the job table (under LTG_LOCK_COMPACT);
 *		 two jobs of a store never share a level-0 age interval, nor keys of
 *		 one level >= 1.  Nobody else removes runs, unless the store is dropped.
 *		 Meanwhile flushes may add level-0 runs.
 *	 C2. From level 0 neighbours are taken, by age.  What goes to a deeper level
 *		 includes the oldest of level 0, so whatever stays there is newer than
 *		 the output.  A merge within level 0 has one output, which takes the
 *		 place, and the age, of its newest input.
 *	 C3. Outputs that go to a level >= 1 overlap no run of that level that is
 *		 not an input.  Every run of an upper level that is left out is newer
 *		 than, and every run of a lower level older than, the output.
 *	 C4. No lock is held while merging, and no epoch for longer than a slice.
 *	 C5. Whether older sources hold a key is asked of the store's current runs:
 *		 other jobs may have moved them since the inputs were picked.  By C1
 *		 nothing passes from above a job's inputs to below its outputs.
 *	 C6. Flushes and other jobs publish while candidates are collected.  A
 *		 candidate names runs by their places in a run set, so it is good for
 *		 that set only: if the store has got another one, it is dropped.
 *	 C7. A merge into a level >= 1 takes effect in pieces, from its smallest key
 *		 to its largest.  After each piece the store has the outputs so far, and
 *		 of the inputs what lies behind them; so at any moment each version is
 *		 in exactly one of the two, or was dropped for good.
 *	 C8. A merge that has a generation as its newest input publishes, with each
 *		 piece, how far it has come (S6).  Until that generation is flushed, D is
 *		 below records whose effect is in runs already: the store's other runs
 *		 stay as they are, or replay could miss the version that a delta is based on.
 *		 Of a row that moved, that version is right under the tombstone.
 */
#ifndef LTG_COMPACT_H
#define LTG_COMPACT_H

#include "tree/publish.h"
#include "tree/runset.h"

typedef enum LtgCompactReason
{
	LTG_COMPACT_NONE,
	LTG_COMPACT_L0,				/* level 0 into level 1 */
	LTG_COMPACT_TIER,			/* some of level 0 into one run of level 0 */
	LTG_COMPACT_LEVEL,			/* a level is over its size */
	LTG_COMPACT_GARBAGE,		/* level 0 supersedes much of what is below */
	LTG_COMPACT_GRAVES,			/* a run of mostly tombstones */
	LTG_COMPACT_RESOLVE,		/* writers that are settled by now */
	LTG_COMPACT_FLUSH,			/* a generation, straight into the last level */
	LTG_COMPACT_ALL				/* asked for: everything into the last level */
} LtgCompactReason;

/* FLUSH: the part of a store in the oldest frozen generation. */
typedef struct LtgFlushPart
{
	LtgGeneration *gen;			/* NULL: none */
	LtgMemList *list;
	LtgSeq		cut;
	LtgMerged	done;			/* by an earlier attempt */
	LtgBound	min_key, max_key;
	uint64_t	versions, row_bytes;	/* published: as LtgFlushResult has them */
} LtgFlushPart;

typedef struct LtgCompactPlan
{
	LtgStore   *store;			/* NULL: nothing to do */
	uint64_t	store_id;
	LtgStoreKey key;
	LtgSeq		stamp;
	bool		keep_graves;
	bool		drop_ended;
	LtgSeq		graves_cleared;
	LtgXid		horizon;		/* read before picking */
	LtgXid		floor;			/* the same, as LtgLive has it */
	LtgCompactReason reason;
	uint32_t	out_level;
	bool		move;			/* inputs need no rewriting, only a new level */
	bool		all_level0;		/* takes all of level 0 */
	LtgRunSet  *set;			/* private copy of what was picked from */
	uint32_t   *in;				/* indexes into set->run, ascending */
	uint32_t	n_in;
	uint64_t	superseded;		/* the store's counter when it was picked */
	LtgFlushPart part;
	LtgCompactJob *job;			/* the reservation; NULL: none */
} LtgCompactPlan;

/*
 * Pick the most urgent compaction of any store (store NULL) or all of one
 * store, and reserve it.  plan->store == NULL: nothing is due.  LTG_BUSY: the
 * given store is being compacted by someone else.
 */
extern LtgStatus ltg_compact_pick(LtgSession *s, LtgStore *store, LtgCompactPlan *plan) LTG_MUST_CHECK;
/*
 * The same for a flush of plan->part: what of the store has to be merged with it.
 * plan->store == NULL: it does not pay, or others work on it.
 */
extern LtgStatus ltg_compact_pick_flush(LtgSession *s, LtgStore *store, LtgCompactPlan *plan) LTG_MUST_CHECK;
/* End the reservation and free the plan's memory. */
extern void ltg_compact_release(LtgSession *s, LtgCompactPlan *plan);

/* ---- compact.c ---- */

extern LtgStatus ltg_compact_plan(LtgSession *s, LtgCompactPlan *plan, LtgCompactResult *r) LTG_MUST_CHECK;
/* A merge has failed: when to try again. */
extern void ltg_compact_failed(LtgSession *s, LtgStore *store, LtgStatus st);

/* ---- compact_flush.c ---- */

/*
 * Merge the store's part of the oldest frozen generation into its last level, if
 * that pays, and `may`.  LTG_END: all of it is there.  LTG_OK: the rest, *done says which, is
 * left to the caller.  Errors but LTG_INTERRUPTED are no reason not to go on so.
 * REQUIRES LTG_LOCK_FLUSH.
 */
extern LtgStatus ltg_flush_down(LtgSession *s, LtgStore *store, uint64_t store_id,
								LtgGeneration *gen, LtgSeq cut, bool may, LtgFlushResult *r,
								LtgMerged *done) LTG_MUST_CHECK;
/* C8: a part of a generation is in the store's runs, and D below it. */
extern bool ltg_store_is_parted(LtgSession *s, const LtgStore *store);
extern bool ltg_store_is_asked_for(LtgSession *s, const LtgStore *store);

/* ---- compact_score.c ---- */

#define LTG_LEVEL_RATIO 10

typedef struct LtgCandidate
{
	LtgStore   *store;
	LtgCompactReason reason;
	uint64_t	score;
	const LtgRunSet *set;		/* what was looked at; NULL: nothing (ALL) */
	uint32_t	level;			/* LEVEL, GRAVES, RESOLVE */
	uint32_t	run;			/* GRAVES, RESOLVE, TIER: index in the set */
	uint32_t	n;				/* TIER: how many */
} LtgCandidate;

#define LTG_CANDIDATES_MAX 16

typedef struct LtgPicker
{
	LtgSession *s;
	LtgXid		horizon;
	LtgXid		floor;			/* versions from below it that no known snapshot
								 * needs can go; >= horizon */
	uint64_t	now;
	uint64_t	generation;		/* number of the active one */
	const LtgGenList *gens;
	const LtgRunSet *set;		/* of the store being scored */
	uint32_t	n;
	LtgCandidate best[LTG_CANDIDATES_MAX];	/* by falling score */
} LtgPicker;

/* Collect the most urgent compactions.  REQUIRES LTG_LOCK_COMPACT, an epoch. */
extern void ltg_compact_score(LtgPicker *p);
extern uint64_t ltg_level_bytes(const LtgRunSet *rs, uint32_t level);

/*
 * Size of the files that a compaction of this store writes: a part of the store,
 * so that merging it in pieces needs little room, within limits.
 */
extern uint64_t ltg_out_file_bytes(const LtgConfig *c, const LtgRunSet *rs);
/*
 * So many bytes may new versions of its rows take in level 0, by
 * LtgConfig.space_limit, of `part` of a store that has `rest` below it.
 */
extern uint64_t ltg_new_version_bytes(const LtgConfig *c, uint64_t rest, uint64_t part);
/* Less than this is not worth a thought. */
extern uint64_t ltg_tiny_bytes(const LtgConfig *c);

/* ---- compact_cut.c ---- */

/* At this key, or right behind it, as the bound of a cut; false: it can't be
 * written exactly. */
extern bool ltg_cut_at(LtgBound *b, const uint8_t *key, uint32_t key_len, bool behind);
/* Bytes of runs of levels >= 1 that a cut there would free. */
extern uint64_t ltg_cut_frees(const LtgRunRef *in, uint32_t n, const LtgBound *at);
/*
 * Leave of the inputs what lies at or behind `at`.  What a publication has to
 * remove and to add for it goes to `remove` and `add`, with room for *n each.
 */
extern void ltg_cut_inputs(LtgRunRef *in, uint32_t *n, const LtgBound *at,
						   LtgRunRef *remove, uint32_t *n_remove,
						   LtgRunRef *add, uint32_t *n_add);

/* ---- compact_jobs.c; REQUIRES LTG_LOCK_COMPACT ---- */

/* Whether some job works on this run, or on its keys in its level. */
extern bool ltg_job_has_run(LtgShared *sh, uint64_t store_id, const LtgRunRef *r);
/* C1 holds for what is reserved now; takes LTG_LOCK_COMPACT itself. */
extern bool ltg_jobs_valid(LtgSession *s);
extern uint32_t ltg_jobs_of(LtgShared *sh, uint64_t store_id);
/* Reserve what the plan needs; false: another job has some of it, or there are
 * too many jobs. */
extern bool ltg_job_begin(LtgSession *s, LtgCompactPlan *plan);
extern void ltg_job_end(LtgSession *s, LtgCompactPlan *plan);

#endif
