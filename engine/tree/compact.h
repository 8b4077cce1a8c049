/*
 * compact.h
 *	  Simple leveled compaction: what is picked (compact_pick.c) and how it is
 *	  merged (compact.c).
 *
 * Invariants
 *	 C1. A store is compacted by one session at a time (store->compacting,
 *		 under LTG_LOCK_COMPACT).  Meanwhile flushes may add level-0 runs to
 *		 it; nobody else removes runs, unless the store is dropped.
 *	 C2. From level 0 all runs there are at the time of picking are taken, so
 *		 whatever arrives later is newer than the output.
 *	 C3. Outputs go to a level >= 1 and overlap no run of that level that is
 *		 not an input.  Every run of an upper level that is left out is newer
 *		 than, and every run of a lower level older than, the output.
 *	 C4. No lock is held while merging, and no epoch for longer than a slice.
 */
#ifndef LTG_COMPACT_H
#define LTG_COMPACT_H

#include "tree/publish.h"
#include "tree/runset.h"

typedef enum LtgCompactReason
{
	LTG_COMPACT_NONE,
	LTG_COMPACT_L0,				/* level 0 has too many runs, or too old ones */
	LTG_COMPACT_LEVEL,			/* a level is over its size */
	LTG_COMPACT_GRAVES,			/* a run of mostly tombstones */
	LTG_COMPACT_RESOLVE,		/* writers that are settled by now */
	LTG_COMPACT_ALL				/* asked for: everything into the last level */
} LtgCompactReason;

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
	LtgCompactReason reason;
	uint32_t	out_level;
	bool		move;			/* inputs need no rewriting, only a new level */
	LtgRunSet  *set;			/* private copy of what was picked from */
	uint32_t   *in;				/* indexes into set->run, ascending */
	uint32_t	n_in;
} LtgCompactPlan;

/*
 * Pick the most urgent compaction of any store (store NULL) or all of one
 * store, and reserve it.  plan->store == NULL: nothing is due.  LTG_BUSY: the
 * given store is being compacted by someone else.
 */
extern LtgStatus ltg_compact_pick(LtgSession *s, LtgStore *store, LtgCompactPlan *plan) LTG_MUST_CHECK;
/* End the reservation and free the plan's memory. */
extern void ltg_compact_release(LtgSession *s, LtgCompactPlan *plan);

#endif
