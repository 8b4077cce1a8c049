/*
 * compact_pick.c
 *	  From the most urgent candidates to a plan: which runs exactly are merged,
 *	  and where the outcome goes.
 *
 * Candidates are tried by falling score until one needs nothing that another
 * job has reserved.
 */
#include "tree/compact.h"

#include "storage/file.h"
#include "tree/gc.h"

#define ID_BYTES 8				/* about what these take in a file */
#define PICK_TRIES 4			/* before it is left to the next round */
#define ASKED_FOR_US 500000		/* others keep off for so long */

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
take_small_neighbours(LtgSession *s, LtgCompactPlan *plan)
{
	LtgShared  *sh = s->shared;
	const LtgRunSet *rs = plan->set;
	uint32_t	from = rs->level_start[plan->out_level];
	uint32_t	to = rs->level_start[plan->out_level + 1];
	uint64_t	total = input_bytes(plan);
	uint64_t	small = ltg_out_file_bytes(&sh->config, rs) / 2;
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
	while (first > from && rs->run[first - 1].disk_bytes < small &&
		   rs->run[first - 1].disk_bytes <= 4 * total &&
		   !ltg_job_has_run(sh, plan->store_id, &rs->run[first - 1]))
	{
		total += rs->run[--first].disk_bytes;
		take(plan, first);
	}
	while (last < to && rs->run[last].disk_bytes < small &&
		   rs->run[last].disk_bytes <= 4 * total &&
		   !ltg_job_has_run(sh, plan->store_id, &rs->run[last]))
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
			r->level >= plan->out_level || r->cut)
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

/* The run of a level whose move down rewrites the least; false: others work on
 * all of them. */
static bool
cheapest_run(LtgSession *s, uint64_t store_id, const LtgRunSet *rs, uint32_t level,
			 uint32_t *run)
{
	double		best_cost = -1;

	for (uint32_t i = rs->level_start[level]; i < rs->level_start[level + 1]; i++)
	{
		uint64_t	overlap = 0;
		double		cost;

		if (ltg_job_has_run(s->shared, store_id, &rs->run[i]))
			continue;
		for (uint32_t k = rs->level_start[level + 1]; k < rs->level_start[level + 2]; k++)
			if (ltg_runs_overlap(&rs->run[i], &rs->run[k]))
				overlap += rs->run[k].disk_bytes;
		cost = (double) overlap / (double) (rs->run[i].disk_bytes + 1);
		if (best_cost < 0 || cost < best_cost)
		{
			*run = i;
			best_cost = cost;
		}
	}
	return best_cost >= 0;
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
widen(LtgRunRef *hull, const LtgRunRef *r)
{
	if (!ltg_bound_before(&hull->min_key, &r->min_key))
		hull->min_key = r->min_key;
	if (!ltg_bound_before(&r->max_key, &hull->max_key))
		hull->max_key = r->max_key;
}

/*
 * All of level 0, and below what lies between the keys that come along.  It pays
 * where a merge would be due for the space that level 0 takes (takes_too_much) if
 * the generation were flushed there: that is written once less.
 */
static void
plan_flush(LtgSession *s, LtgCompactPlan *plan)
{
	const LtgConfig *c = &s->shared->config;
	const LtgRunSet *rs = plan->set;
	uint32_t	levels = ltg_runset_levels(rs);
	LtgRunRef	hull = {.min_key = plan->part.min_key, .max_key = plan->part.max_key};
	uint64_t	disk = 0, raw = 0, down = 0, below = 0, rest = 0;

	plan->out_level = levels > 1 ? levels - 1 : 1;
	plan->all_level0 = true;
	for (uint32_t i = 0; i < rs->n; i++)
	{
		const LtgRunRef *r = &rs->run[i];

		disk += r->disk_bytes;
		raw += r->raw_bytes;
		rest += r->level > 0 ? r->disk_bytes : 0;
		if (r->level > 0 && !ltg_runs_overlap(r, &hull))
			continue;
		take(plan, i);
		widen(&hull, r);
		if (r->level == 0)
			down += r->disk_bytes;
		else
			below += r->disk_bytes;
	}
	/* new versions bring their writers' ids along, which do not compress */
	down += (uint64_t) ((double) ltg_mem_list_bytes(plan->part.list) * (double) disk /
						(double) (raw + 1)) + ltg_mem_list_nodes(plan->part.list) * ID_BYTES;
	if (down <= ltg_new_version_bytes(c, rest, below))
		plan->n_in = 0;
}

/* Level 0, from its oldest run to the first that somebody works on. */
static void
take_level0(LtgSession *s, LtgCompactPlan *plan)
{
	const LtgRunSet *rs = plan->set;
	uint32_t	i = rs->level_start[1];

	while (i > 0 && !ltg_job_has_run(s->shared, plan->store_id, &rs->run[i - 1]))
		take(plan, --i);
	plan->all_level0 = i == 0;
}

static void
plan_candidate(LtgSession *s, const LtgCandidate *c, LtgCompactPlan *plan)
{
	const LtgRunSet *rs = plan->set;
	uint64_t	file_target = s->shared->config.file_target_bytes;
	uint32_t	run = c->run;

	switch (c->reason)
	{
		case LTG_COMPACT_TIER:
			plan->out_level = 0;
			for (uint32_t i = 0; i < c->n; i++)
				take(plan, c->run + i);
			return;
		case LTG_COMPACT_RESOLVE:
			plan->out_level = c->level;
			take(plan, run);
			return;
		case LTG_COMPACT_ALL:
			plan->all_level0 = true;
			plan_all(s, c->store, plan);
			return;
		case LTG_COMPACT_FLUSH:
			plan_flush(s, plan);
			return;
		case LTG_COMPACT_NONE:
			return;
		case LTG_COMPACT_L0:
		case LTG_COMPACT_GARBAGE:
			plan->out_level = 1;
			take_level0(s, plan);
			break;
		case LTG_COMPACT_LEVEL:
			if (!cheapest_run(s, plan->store_id, rs, c->level, &run))
				return;
			/* fall through */
		case LTG_COMPACT_GRAVES:
			plan->out_level = c->level + 1;
			take(plan, run);
			break;
	}
	if (plan->n_in == 0)
		return;
	take_overlapping(plan);
	if (can_move(s, plan, file_target))
		plan->move = true;
	else
		take_small_neighbours(s, plan);
}

/*
 * plan->store stays NULL when there is nothing to do or somebody else is in the
 * way.  REQUIRES: LTG_LOCK_COMPACT, an epoch.
 */
static LtgStatus
make_plan(LtgSession *s, const LtgCandidate *c, LtgCompactPlan *plan)
{
	LtgPort    *port = s->port;
	LtgStore   *store = c->store;
	const LtgRunSet *rs = atomic_load_explicit(&store->runs, memory_order_acquire);
	size_t		size;

	plan->store_id = ltg_store_id(store);
	if (rs == NULL || rs->n == 0 || plan->store_id == 0)
		return LTG_OK;
	if (c->set != NULL && c->set != rs)
		return LTG_OK;			/* C6; the epoch keeps addresses unique */
	if (c->reason != LTG_COMPACT_FLUSH && ltg_store_is_parted(s, store))
		return LTG_OK;			/* C8 */
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
	plan->superseded = atomic_load(&store->superseded);
	plan->reason = c->reason;
	plan_candidate(s, c, plan);
	if (plan->n_in > 0 && ltg_job_begin(s, plan))
		plan->store = store;
	return LTG_OK;
}

static void
free_plan(LtgSession *s, LtgCompactPlan *plan)
{
	LtgPort    *port = s->port;

	if (plan->set != NULL)
		port->free(port, plan->set);
	if (plan->in != NULL)
		port->free(port, plan->in);
	plan->store = NULL;
	plan->set = NULL;
	plan->in = NULL;
	plan->n_in = 0;
	plan->move = plan->all_level0 = false;
}

/*
 * All of one store.  When others are at work on it, they are asked not to begin
 * anything new, or this might never come to its turn.
 */
static LtgStatus
pick_all(LtgSession *s, LtgStore *store, LtgCompactPlan *plan)
{
	LtgCandidate c = {.store = store, .reason = LTG_COMPACT_ALL};
	LtgStatus	st;

	if (ltg_jobs_of(s->shared, ltg_store_id(store)) > 0 || ltg_store_is_parted(s, store))
	{
		atomic_store(&store->asked_for, s->port->now_us(s->port) + ASKED_FOR_US);
		return LTG_BUSY;
	}
	atomic_store(&store->asked_for, 0);
	st = make_plan(s, &c, plan);
	/* no free slot in the job table */
	if (st == LTG_OK && plan->n_in > 0 && plan->store == NULL)
		return LTG_BUSY;
	return st;
}

static bool
is_stale(const LtgCandidate *c)
{
	return atomic_load_explicit(&c->store->runs, memory_order_acquire) != c->set;
}

/* *stale: a candidate was dropped because its store has changed since. */
static LtgStatus
pick_once(LtgSession *s, LtgCompactPlan *plan, bool *stale)
{
	LtgPicker	p = {
		.s = s, .horizon = plan->horizon, .floor = plan->floor,
		.now = s->port->now_us(s->port)
	};
	LtgStatus	st = LTG_OK;

	ltg_compact_score(&p);
	LTG_STOP_POINT(s->port, "compact:scored");
	*stale = false;
	for (uint32_t i = 0; i < p.n && st == LTG_OK && plan->store == NULL; i++)
	{
		free_plan(s, plan);
		st = make_plan(s, &p.best[i], plan);
		*stale |= is_stale(&p.best[i]);
	}
	return st;
}

static LtgStatus
pick_any(LtgSession *s, LtgCompactPlan *plan)
{
	bool		stale = true;
	LtgStatus	st = LTG_OK;

	for (int i = 0; i < PICK_TRIES && stale && st == LTG_OK && plan->store == NULL; i++)
		st = pick_once(s, plan, &stale);
	return st;
}

/* Before anything is picked by it, or asked of a transaction. */
static void
set_horizon(LtgSession *s, LtgCompactPlan *plan)
{
	LtgLive		live;

	plan->horizon = plan->floor = s->port->horizon(s->port);
	ltg_live_sample(s, &live);
	if (live.floor > plan->floor)
		plan->floor = live.floor;
	ltg_live_free(s, &live);
}

LtgStatus
ltg_compact_pick_flush(LtgSession *s, LtgStore *store, LtgCompactPlan *plan)
{
	LtgCandidate c = {.store = store, .reason = LTG_COMPACT_FLUSH};
	LtgPort    *port = s->port;
	LtgStatus	st;

	LTG_ASSERT(plan->part.gen != NULL && plan->store == NULL);
	set_horizon(s, plan);
	port->lock(port, LTG_LOCK_COMPACT, LTG_EXCLUSIVE);
	ltg_epoch_enter(s);
	st = make_plan(s, &c, plan);
	ltg_epoch_leave(s);
	port->unlock(port, LTG_LOCK_COMPACT);
	if (st != LTG_OK || plan->store == NULL)
		ltg_compact_release(s, plan);
	return st;
}

LtgStatus
ltg_compact_pick(LtgSession *s, LtgStore *store, LtgCompactPlan *plan)
{
	LtgPort    *port = s->port;
	LtgStatus	st;

	memset(plan, 0, sizeof(*plan));
	set_horizon(s, plan);
	port->lock(port, LTG_LOCK_COMPACT, LTG_EXCLUSIVE);
	ltg_epoch_enter(s);
	st = store != NULL ? pick_all(s, store, plan) : pick_any(s, plan);
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

	if (plan->job != NULL)
	{
		port->lock(port, LTG_LOCK_COMPACT, LTG_EXCLUSIVE);
		ltg_job_end(s, plan);
		port->unlock(port, LTG_LOCK_COMPACT);
	}
	free_plan(s, plan);
}

/* By picking, not by scores: what can't be merged now is not due. */
bool
ltg_compact_is_due(LtgSession *s)
{
	LtgCompactPlan plan;
	LtgStatus	st = ltg_compact_pick(s, NULL, &plan);

	if (st != LTG_OK)
	{
		ltg_clear_error(s);
		return false;
	}
	if (plan.store == NULL)
		return false;
	ltg_compact_release(s, &plan);
	return true;
}
