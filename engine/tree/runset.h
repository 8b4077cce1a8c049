/*
 * runset.h
 *	  Finding one's way in a store's run set: the consistent view a reader
 *	  takes, bounds, and which runs may hold a key or a range.
 *
 * V1. A view is a generation list and a run set that were current at one
 *	   moment: after the run set is loaded, the list is loaded again, and the
 *	   reader starts over when it has changed.  (Lists are not reused while
 *	   an epoch can see them, so an equal pointer is the same list.)
 * V2. Between the moment a flush stores its run sets and the moment the
 *	   generation leaves the list, both hold its versions.  A level-0 run's
 *	   age is the number of the generation it came from, so a reader leaves
 *	   out level-0 runs whose age is that of a generation in its list, or
 *	   above.  Compaction can publish a product of such a run only after the
 *	   list has changed, which V1 notices.  So no version is met twice.  What
 *	   a flush has merged straight into the levels (S6) is left out of the
 *	   generation instead, as its run set says.
 * V3. Within a level >= 1 runs are disjoint and in key order as far as their
 *	   truncated bounds can tell.
 *
 * Everything here REQUIRES an epoch.
 */
#ifndef LTG_RUNSET_H
#define LTG_RUNSET_H

#include "tree/publish.h"
#include "tree/shared.h"

typedef struct LtgView
{
	const LtgGenList *gens;
	const LtgRunSet *runs;		/* NULL: none */
	uint32_t	first_run;		/* runs before it are still in a generation */
	const LtgMerged *merged;	/* of the oldest generation what the runs have;
								 * NULL: nothing */
} LtgView;

extern void ltg_view_load(LtgSession *s, LtgStore *store, LtgView *view);

/* What the runs have of the view's i-th generation; NULL: nothing. */
static inline const LtgMerged *
ltg_view_merged(const LtgView *view, uint32_t i)
{
	return LTG_LIKELY(view->merged == NULL) || i + 1 < view->gens->n ? NULL : view->merged;
}

/*
 * Stores that are read while they have many level-0 runs are merged sooner.  One
 * read in LTG_PROBE_SAMPLE counts for all of them: it writes to a shared line.
 */
#define LTG_PROBE_RUNS 4
#define LTG_PROBE_SAMPLE 64

static inline void
ltg_note_probe(LtgSession *s, LtgStore *store, const LtgView *view)
{
	if (view->runs == NULL || LTG_LIKELY(view->runs->level_start[1] <= LTG_PROBE_RUNS))
		return;
	if (++s->probes % LTG_PROBE_SAMPLE == 0)
		atomic_fetch_add_explicit(&store->probes, LTG_PROBE_SAMPLE, memory_order_relaxed);
}

static inline uint32_t
ltg_runset_levels(const LtgRunSet *rs)
{
	uint32_t	n = LTG_LEVELS_MAX;

	while (n > 0 && rs->level_start[n - 1] == rs->level_start[n])
		n--;
	return n;
}

/* Certainly below min / above max, the bounds being those of a run. */
extern bool ltg_key_below(const LtgBound *min, const uint8_t *key, uint32_t key_len);
extern bool ltg_key_above(const LtgBound *max, const uint8_t *key, uint32_t key_len);
/* True when every key of a run that ends at max is below one that starts at
 * min, as far as the truncated bounds can tell. */
extern bool ltg_bound_before(const LtgBound *max, const LtgBound *min);
/* True unless the two runs are certainly disjoint. */
extern bool ltg_runs_overlap(const LtgRunRef *a, const LtgRunRef *b);

/*
 * The first run in [from, to) of a level >= 1 whose keys are not all certainly
 * below key; `to` if there is none.  The key is then in it or in one of the
 * following ones, until one starts above it.
 */
extern uint32_t ltg_runset_first(const LtgRunSet *rs, uint32_t from, uint32_t to,
								 const uint8_t *key, uint32_t key_len);
/*
 * *absent = true when no run of levels `level` and deeper holds the key.  By
 * bounds alone unless `exact`, which also consults filters and blocks.
 */
extern LtgStatus ltg_runset_lacks_key(LtgSession *s, const LtgRunSet *rs, uint32_t level,
									  const uint8_t *key, uint32_t key_len, bool exact,
									  bool *absent) LTG_MUST_CHECK;
/* The same for the runs of level 0 that are older than `age`, and all below. */
extern LtgStatus ltg_runset_lacks_older(LtgSession *s, const LtgRunSet *rs, uint64_t age,
										const uint8_t *key, uint32_t key_len, bool exact,
										bool *absent) LTG_MUST_CHECK;

#endif
