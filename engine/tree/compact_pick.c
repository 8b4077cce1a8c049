/*
 * compact_pick.c
 *	  Which compaction is the most urgent one.
 *
 * Each store is scored; 1000 means due.  Level 0 is scored by its number of
 * runs, the other levels by size against a target that grows tenfold from
 * level to level.  Other reasons:
 *	 - a level-0 run that many flushes have passed by: its segment file, which
 *	   it shares with other stores, could not be removed otherwise;
 *	 - runs that consist mostly of tombstones;
 *	 - runs with versions that could be settled now, when the store is not
 *	   being written to, or when their writers are so old that the host wants
 *	   to forget them.
 */
#include "tree/compact.h"

#include "storage/file.h"

#define DUE 1000
#define QUIET_SCORE 500			/* below DUE: when nothing else is to be done */
#define LEVEL_RATIO 10
#define L1_FILES 4				/* target of level 1 in output files */
#define STRAGGLER_FLUSHES 64
#define OLD_XIDS 10000000		/* behind the horizon */
#define STUCK_XIDS 65536		/* before a fruitless attempt is repeated */

typedef struct Candidate
{
	LtgStore   *store;
	LtgCompactReason reason;
	uint64_t	score;
	uint32_t	level;			/* LEVEL, GRAVES, RESOLVE */
	uint32_t	run;			/* GRAVES, RESOLVE: index in the set */
} Candidate;

typedef struct Picker
{
	LtgSession *s;
	LtgXid		horizon;
	uint64_t	now;
	uint64_t	generation;		/* number of the active one */
	const LtgGenList *gens;
	Candidate	best;
} Picker;

static uint64_t
level_bytes(const LtgRunSet *rs, uint32_t level)
{
	uint64_t	sum = 0;

	for (uint32_t i = rs->level_start[level]; i < rs->level_start[level + 1]; i++)
		sum += rs->run[i].disk_bytes;
	return sum;
}

static bool
is_quiet(const Picker *p, uint64_t store_id)
{
	for (uint32_t i = 0; i < p->gens->n; i++)
		if (ltg_gen_list(p->gens->gen[i], store_id) != NULL)
			return false;
	return true;
}

static void
offer(Picker *p, LtgStore *store, LtgCompactReason reason, uint64_t score,
	  uint32_t level, uint32_t run)
{
	if (score > p->best.score)
		p->best = (Candidate) {store, reason, score, level, run};
}

/* An attempt to settle what is left was fruitless not long ago. */
static bool
is_stuck(const Picker *p, LtgStore *store)
{
	LtgXid		at = atomic_load(&store->stuck_xid);

	return at != 0 && p->horizon < at + STUCK_XIDS;
}

/* Every version of the run could be settled. */
static bool
can_settle(const Picker *p, const LtgRunRef *r)
{
	return r->unsettled > 0 && r->max_xid < p->horizon;
}

/* Tombstones of a run at the bottom that a rewrite would drop. */
static bool
has_clearable_graves(const LtgStore *store, const LtgRunRef *r, LtgXid horizon)
{
	bool		keep = (atomic_load(&store->flags) & LTG_STORE_KEEP_GRAVES) != 0;

	return r->tombstones > 0 && (r->unsettled == 0 || r->max_xid < horizon) &&
		(!keep || r->max_seq <= atomic_load(&store->graves_cleared));
}

/*
 * Merging level 0 early, for the readers' sake, is worth it when it doesn't
 * rewrite much more than it merges.
 */
static bool
is_cheap(const LtgRunSet *rs)
{
	uint32_t	n = rs->level_start[1];
	uint64_t	rewritten = 0;

	for (uint32_t i = n; i < rs->level_start[2]; i++)
		for (uint32_t k = 0; k < n; k++)
			if (ltg_runs_overlap(&rs->run[i], &rs->run[k]))
			{
				rewritten += rs->run[i].disk_bytes;
				break;
			}
	return rewritten <= 4 * level_bytes(rs, 0);
}

static void
score_level0(Picker *p, LtgStore *store, const LtgRunSet *rs, bool quiet)
{
	uint32_t	n = rs->level_start[1];
	uint32_t	trigger = p->s->shared->config.l0_compact_trigger;
	uint32_t	settle = 0;
	bool		old = false;
	uint64_t	oldest, score;

	if (n == 0)
		return;
	if (trigger == 0)
		trigger = 1;
	score = (uint64_t) n * DUE / trigger;
	oldest = rs->run[n - 1].age;
	for (uint32_t i = 0; i < n; i++)
	{
		settle += can_settle(p, &rs->run[i]);
		old |= rs->run[i].min_xid != 0 && rs->run[i].min_xid + OLD_XIDS < p->horizon;
	}
	if (score < DUE && old && !is_stuck(p, store))
		score = DUE;
	if (p->generation > oldest && p->generation - oldest > STRAGGLER_FLUSHES)
		score = (score < DUE ? DUE : score) + (p->generation - oldest);
	if (score < DUE)
	{
		if (!quiet || (n == 1 && settle == 0) || !is_cheap(rs))
			return;
		if (n == 1 && is_stuck(p, store))
			return;
		score = QUIET_SCORE;
	}
	offer(p, store, LTG_COMPACT_L0, score, 0, 0);
}

static void
score_runs(Picker *p, LtgStore *store, const LtgRunSet *rs, bool quiet)
{
	uint32_t	levels = ltg_runset_levels(rs);
	bool		stuck = is_stuck(p, store);

	for (uint32_t level = 1; level < levels; level++)
	{
		for (uint32_t i = rs->level_start[level]; i < rs->level_start[level + 1]; i++)
		{
			const LtgRunRef *r = &rs->run[i];

			if (r->tombstones * 2 > r->entries && level + 1 < levels)
				offer(p, store, LTG_COMPACT_GRAVES, DUE, level, i);
			else if (r->tombstones * 5 > r->entries && level + 1 == levels && !stuck &&
					 has_clearable_graves(store, r, p->horizon))
				offer(p, store, LTG_COMPACT_RESOLVE, DUE, level, i);
			else if (can_settle(p, r) && !stuck)
			{
				if (r->min_xid + OLD_XIDS < p->horizon)
					offer(p, store, LTG_COMPACT_RESOLVE, DUE + 100, level, i);
				else if (quiet)
					offer(p, store, LTG_COMPACT_RESOLVE, QUIET_SCORE - 1, level, i);
			}
		}
	}
}

static bool
score_store(void *arg, LtgStore *store)
{
	Picker	   *p = arg;
	const LtgRunSet *rs = atomic_load_explicit(&store->runs, memory_order_acquire);
	uint64_t	target = p->s->shared->config.file_target_bytes * L1_FILES;
	bool		quiet;

	if (rs == NULL || rs->n == 0 || store->compacting ||
		p->now < atomic_load(&store->compact_not_before))
		return true;
	quiet = is_quiet(p, ltg_store_id(store));
	score_level0(p, store, rs, quiet);
	for (uint32_t level = 1; level + 1 < LTG_LEVELS_MAX; level++, target *= LEVEL_RATIO)
	{
		uint64_t	bytes = level_bytes(rs, level);

		if (bytes > target)
			offer(p, store, LTG_COMPACT_LEVEL, bytes / (target / DUE + 1) + 1, level, 0);
	}
	score_runs(p, store, rs, quiet);
	return true;
}

/* ---- from a candidate to a plan ---- */

static void
take(LtgCompactPlan *plan, uint32_t i)
{
	uint32_t	at = plan->n_in;

	for (uint32_t k = 0; k < plan->n_in; k++)
		if (plan->in[k] == i)
			return;
	while (at > 0 && plan->in[at - 1] > i)
	{
		plan->in[at] = plan->in[at - 1];
		at--;
	}
	plan->in[at] = i;
	plan->n_in++;
}

/* Add the runs of the output level that overlap one of the first n inputs. */
static void
take_overlapping(LtgCompactPlan *plan)
{
	const LtgRunSet *rs = plan->set;
	uint32_t	n = plan->n_in;
	uint32_t	from = rs->level_start[plan->out_level];
	uint32_t	to = rs->level_start[plan->out_level + 1];

	/* inputs so far are of upper levels, hence in front: indexes < from */
	for (uint32_t i = from; i < to; i++)
		for (uint32_t k = 0; k < n; k++)
			if (ltg_runs_overlap(&rs->run[plan->in[k]], &rs->run[i]))
			{
				take(plan, i);
				break;
			}
}

static uint64_t
input_bytes(const LtgCompactPlan *plan)
{
	uint64_t	sum = 0;

	for (uint32_t i = 0; i < plan->n_in; i++)
		sum += plan->set->run[plan->in[i]].disk_bytes;
	return sum;
}

/*
 * Small neighbours in the output level join in, so that appending to a store
 * doesn't leave one small run per compaction.  Their size is in proportion to
 * the rest, which bounds what is rewritten.
 */
static void
take_small_neighbours(LtgCompactPlan *plan, uint64_t file_target)
{
	const LtgRunSet *rs = plan->set;
	uint32_t	from = rs->level_start[plan->out_level];
	uint32_t	to = rs->level_start[plan->out_level + 1];
	uint64_t	total = input_bytes(plan);
	uint32_t	first = to, last = from;	/* [first, last) is spanned */

	for (uint32_t k = 0; k < plan->n_in; k++)
	{
		const LtgRunRef *r = &rs->run[plan->in[k]];

		for (uint32_t i = from; i < to; i++)
		{
			if (i < first && !ltg_bound_before(&rs->run[i].max_key, &r->min_key))
				first = i;
			if (i + 1 > last && !ltg_bound_before(&r->max_key, &rs->run[i].min_key))
				last = i + 1;
		}
	}
	while (first > from && rs->run[first - 1].disk_bytes < file_target / 2 &&
		   rs->run[first - 1].disk_bytes <= 4 * total)
	{
		total += rs->run[--first].disk_bytes;
		take(plan, first);
	}
	while (last < to && rs->run[last].disk_bytes < file_target / 2 &&
		   rs->run[last].disk_bytes <= 4 * total)
	{
		total += rs->run[last].disk_bytes;
		take(plan, last++);
	}
}

/*
 * The inputs may change their level without being rewritten: they are
 * disjoint, not small, need no cleaning, and each is most of its file (a
 * segment is shared by stores and must not be kept for the sake of a part).
 */
static bool
can_move(LtgSession *s, const LtgCompactPlan *plan, uint64_t file_target)
{
	const LtgRunSet *rs = plan->set;

	for (uint32_t a = 0; a < plan->n_in; a++)
	{
		const LtgRunRef *r = &rs->run[plan->in[a]];
		LtgFile    *file;
		LtgError	e = {0};
		uint64_t	bytes;

		if (r->disk_bytes < file_target / 4 || r->tombstones * 8 > r->entries ||
			r->level >= plan->out_level)
			return false;
		for (uint32_t b = 0; b < a; b++)
			if (ltg_runs_overlap(r, &rs->run[plan->in[b]]))
				return false;
		if (ltg_file_get(s, r->file, &file) != LTG_OK ||
			s->port->file_size(s->port, file, &bytes, &e) != LTG_OK)
		{
			ltg_clear_error(s);
			return false;
		}
		if (bytes > r->disk_bytes * 2)
			return false;
	}
	return true;
}

/* The run of a level whose move down rewrites the least. */
static uint32_t
cheapest_run(const LtgRunSet *rs, uint32_t level)
{
	uint32_t	best = rs->level_start[level];
	double		best_cost = -1;

	for (uint32_t i = rs->level_start[level]; i < rs->level_start[level + 1]; i++)
	{
		uint64_t	overlap = 0;
		double		cost;

		for (uint32_t k = rs->level_start[level + 1]; k < rs->level_start[level + 2]; k++)
			if (ltg_runs_overlap(&rs->run[i], &rs->run[k]))
				overlap += rs->run[k].disk_bytes;
		cost = (double) overlap / (double) (rs->run[i].disk_bytes + 1);
		if (best_cost < 0 || cost < best_cost)
		{
			best = i;
			best_cost = cost;
		}
	}
	return best;
}

static void
plan_all(LtgSession *s, const LtgStore *store, LtgCompactPlan *plan)
{
	const LtgRunSet *rs = plan->set;
	uint32_t	levels = ltg_runset_levels(rs);
	uint32_t	out = levels > 1 ? levels - 1 : 1;
	uint64_t	rewrite_below = atomic_load_explicit(&store->rewrite_below, memory_order_relaxed);
	bool		clean = true;

	plan->out_level = out;
	for (uint32_t i = 0; i < rs->level_start[out]; i++)
		take(plan, i);
	take_overlapping(plan);
	for (uint32_t i = rs->level_start[out]; i < rs->level_start[out + 1]; i++)
	{
		const LtgRunRef *r = &rs->run[i];

		/* of the rest only those that have something to clean, or old options */
		if (r->file < rewrite_below || (r->unsettled > 0 && r->min_xid < plan->horizon) ||
			(r->unsettled == 0 && r->tombstones > 0 &&
			 (!plan->keep_graves || r->min_seq <= plan->graves_cleared)))
			take(plan, i);
	}
	for (uint32_t k = 0; k < plan->n_in; k++)
		clean &= rs->run[plan->in[k]].unsettled == 0 &&
			rs->run[plan->in[k]].tombstones == 0 && rs->run[plan->in[k]].file >= rewrite_below;
	plan->move = clean && can_move(s, plan, s->shared->config.file_target_bytes);
}

static void
plan_candidate(LtgSession *s, const Candidate *c, LtgCompactPlan *plan)
{
	const LtgRunSet *rs = plan->set;
	uint64_t	file_target = s->shared->config.file_target_bytes;

	switch (c->reason)
	{
		case LTG_COMPACT_L0:
			plan->out_level = 1;
			for (uint32_t i = 0; i < rs->level_start[1]; i++)
				take(plan, i);
			take_overlapping(plan);
			if (can_move(s, plan, file_target))
				plan->move = true;
			else
				take_small_neighbours(plan, file_target);
			break;
		case LTG_COMPACT_LEVEL:
		case LTG_COMPACT_GRAVES:
			plan->out_level = c->level + 1;
			take(plan, c->reason == LTG_COMPACT_GRAVES ? c->run : cheapest_run(rs, c->level));
			take_overlapping(plan);
			if (can_move(s, plan, file_target))
				plan->move = true;
			else
				take_small_neighbours(plan, file_target);
			break;
		case LTG_COMPACT_RESOLVE:
			plan->out_level = c->level;
			take(plan, c->run);
			break;
		case LTG_COMPACT_ALL:
			plan_all(s, c->store, plan);
			break;
		case LTG_COMPACT_NONE:
			break;
	}
}

/* REQUIRES: LTG_LOCK_COMPACT, an epoch. */
static LtgStatus
make_plan(LtgSession *s, const Candidate *c, LtgCompactPlan *plan)
{
	LtgPort    *port = s->port;
	LtgStore   *store = c->store;
	const LtgRunSet *rs = atomic_load_explicit(&store->runs, memory_order_acquire);
	size_t		size;

	plan->store_id = ltg_store_id(store);
	if (rs == NULL || rs->n == 0 || plan->store_id == 0)
		return LTG_OK;
	size = offsetof(LtgRunSet, run) + rs->n * sizeof(LtgRunRef);
	plan->set = port->alloc(port, size);
	plan->in = port->alloc(port, rs->n * sizeof(uint32_t));
	if (plan->set == NULL || plan->in == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory to plan a compaction of %u runs", rs->n);
	memcpy(plan->set, rs, size);
	plan->key = store->key;
	plan->stamp = store->stamp;
	plan->keep_graves = (atomic_load(&store->flags) & LTG_STORE_KEEP_GRAVES) != 0;
	plan->graves_cleared = atomic_load(&store->graves_cleared);
	plan->drop_ended = (atomic_load(&store->flags) & LTG_STORE_LOCKS) != 0;
	plan->reason = c->reason;
	plan_candidate(s, c, plan);
	if (plan->n_in > 0)
	{
		plan->store = store;
		store->compacting = 1;
	}
	return LTG_OK;
}

LtgStatus
ltg_compact_pick(LtgSession *s, LtgStore *store, LtgCompactPlan *plan)
{
	LtgPort    *port = s->port;
	Picker		p = {.s = s};
	LtgStatus	st = LTG_OK;

	memset(plan, 0, sizeof(*plan));
	p.horizon = plan->horizon = port->horizon(port);
	p.now = port->now_us(port);
	port->lock(port, LTG_LOCK_COMPACT, LTG_EXCLUSIVE);
	ltg_epoch_enter(s);
	if (store != NULL)
	{
		p.best = (Candidate) {.store = store, .reason = LTG_COMPACT_ALL};
		if (store->compacting)
			st = LTG_BUSY;
	}
	else
	{
		p.gens = ltg_generations(s);
		p.generation = ltg_gen_number(p.gens->gen[0]);
		ltg_each_store(s, score_store, &p);
	}
	if (st == LTG_OK && p.best.store != NULL)
		st = make_plan(s, &p.best, plan);
	ltg_epoch_leave(s);
	port->unlock(port, LTG_LOCK_COMPACT);
	if (st != LTG_OK || plan->store == NULL)
		ltg_compact_release(s, plan);
	return st;
}

void
ltg_compact_release(LtgSession *s, LtgCompactPlan *plan)
{
	LtgPort    *port = s->port;

	if (plan->store != NULL)
	{
		port->lock(port, LTG_LOCK_COMPACT, LTG_EXCLUSIVE);
		if (ltg_store_id(plan->store) == plan->store_id)
			plan->store->compacting = 0;
		port->unlock(port, LTG_LOCK_COMPACT);
	}
	if (plan->set != NULL)
		port->free(port, plan->set);
	if (plan->in != NULL)
		port->free(port, plan->in);
	plan->store = NULL;
	plan->set = NULL;
	plan->in = NULL;
	plan->n_in = 0;
}
