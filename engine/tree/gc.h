/*
 * gc.h
 *	  Which versions of one key a flush or a compaction keeps, and in which
 *	  state.
 *
 * Invariants, for every snapshot that exists or will exist:
 *	 G1. What the snapshot sees of the key (a row, or no row) is the same
 *		 before and after.
 *	 G2. Versions whose writer may still commit are kept as they are.
 *	 G3. A version is SETTLED only if its writer committed and every snapshot
 *		 sees it: its id is below the horizon.  Nothing under a settled version
 *		 is kept.  A row keeps its writer's id, and nobody is asked about it any
 *		 more.
 *	 G4. A committed version is dropped only if a newer committed one is kept or
 *		 hides it from everybody who is not known, and no known snapshot has it
 *		 as the newest version that it sees.  So a version between two
 *		 snapshots goes, and the newest committed one always stays.
 *	 G5. Where graves are kept, a key that was ever written by a statement that
 *		 could put it into a stock index leaves a tombstone until the graves
 *		 are cleared: a settled DELETE, or a GONE for an insert that came to
 *		 nothing.
 *
 * A pure function of its arguments but for the look-up of fates and of what known
 * snapshots see.
 *
 * The inputs need not hold all versions of the key.  Newer ones elsewhere only hide
 * more, so that something is kept in vain; of older ones elsewhere nothing is
 * assumed: a snapshot that sees no version of the inputs needs none of them.
 */
#ifndef LTG_GC_H
#define LTG_GC_H

#include "base/session.h"
#include "base/version.h"

/* Fates of transactions, remembered for one flush or compaction. */
typedef struct LtgFates
{
	LtgSession *s;
	struct LtgFate *slot;		/* open hash, n_slots a power of two */
	uint32_t	n_slots;
	uint32_t	n_used;
	LtgXid		last_xid;		/* the last answer */
	LtgXidStatus last_status;
} LtgFates;

extern void ltg_fates_init(LtgFates *f, LtgSession *s);
extern void ltg_fates_free(LtgFates *f);
extern LtgStatus ltg_fates_get(LtgFates *f, LtgXid xid, LtgXidStatus *status) LTG_MUST_CHECK;

typedef struct LtgGcRules
{
	LtgXid		horizon;		/* REQUIRES: read before any fate was asked */
	LtgFates   *fates;
	bool		keep_graves;
	LtgSeq		graves_cleared;
	bool		drop_ended;		/* nothing outlives its writer (LTG_STORE_LOCKS) */
	const LtgLive *live;		/* NULL or floor = 0: the horizon stands for all.
								 * REQUIRES: sampled before any fate was asked */
} LtgGcRules;

/*
 * Known snapshots for one flush or compaction, sampled before any fate is asked;
 * live->floor = 0 where the host knows none.
 */
extern void ltg_live_sample(LtgSession *s, LtgLive *live);
extern void ltg_live_free(LtgSession *s, LtgLive *live);

typedef struct LtgGcOutcome
{
	uint32_t	kept;			/* v[0..kept) survive */
	uint32_t	pruned;			/* dropped though no settled version hides them */
	/*
	 * Set when the outcome depends on whether older sources, not among v, hold
	 * the key.  If the caller knows that none does, it calls ltg_gc_bottom.
	 */
	bool		asks_bottom;
	bool		vanished;		/* nothing is left because writers aborted */
	LtgVersion	gone;			/* seq != 0: what ltg_gc_bottom leaves in place of
								 * nothing */
} LtgGcOutcome;

/*
 * v[0..n): all versions of one key that the inputs hold, newest first; filtered
 * and changed in place.
 */
extern LtgStatus ltg_gc_key(const LtgGcRules *rules, LtgVersion *v, uint32_t n,
							LtgGcOutcome *out) LTG_MUST_CHECK;
/* Nothing of the key lies underneath.  v must have room for one version. */
extern void ltg_gc_bottom(LtgVersion *v, LtgGcOutcome *out);

#endif
