/*
 * compact_jobs.c
 *	  The table of compactions under way: reservations and progress.
 *
 * A job reserves an interval of level-0 ages, and the keys between its smallest
 * and its largest input in every level >= 1 that it reads or writes (C1 of
 * compact.h).  The hull is coarser than the inputs: what lies between two of
 * them, and is none, could end up between two outputs.
 *
 * Lock: LTG_LOCK_COMPACT, but for the counters, which only the job's owner
 * changes and anybody may read.
 */
#include "tree/compact.h"

static const char *const reason_name[] = {
	[LTG_COMPACT_NONE] = "none",
	[LTG_COMPACT_L0] = "level 0",
	[LTG_COMPACT_TIER] = "tier",
	[LTG_COMPACT_LEVEL] = "level size",
	[LTG_COMPACT_GARBAGE] = "garbage",
	[LTG_COMPACT_GRAVES] = "tombstones",
	[LTG_COMPACT_RESOLVE] = "settling",
	[LTG_COMPACT_FLUSH] = "flush",
	[LTG_COMPACT_ALL] = "asked for"
};

/* Unless the two are certainly disjoint. */
static bool
hulls_overlap(const LtgBound *a_min, const LtgBound *a_max, const LtgBound *b_min,
			  const LtgBound *b_max)
{
	return !ltg_bound_before(a_max, b_min) && !ltg_bound_before(b_max, a_min);
}

static int
bound_cmp(const LtgBound *a, const LtgBound *b)
{
	int			c = ltg_key_cmp(a->bytes, a->len, b->bytes, b->len);

	return c != 0 ? c : (int) a->truncated - (int) b->truncated;
}

static uint32_t
deep_first(const LtgCompactJob *j)
{
	return j->first_level > 0 ? j->first_level : 1;
}

static bool
jobs_conflict(const LtgCompactJob *a, const LtgCompactJob *b)
{
	if (a->age_lo <= a->age_hi && b->age_lo <= b->age_hi &&
		a->age_lo <= b->age_hi && b->age_lo <= a->age_hi)
		return true;
	if (deep_first(a) > b->out_level || deep_first(b) > a->out_level ||
		a->out_level == 0 || b->out_level == 0)
		return false;
	return hulls_overlap(&a->min_key, &a->max_key, &b->min_key, &b->max_key);
}

bool
ltg_job_has_run(LtgShared *sh, uint64_t store_id, const LtgRunRef *r)
{
	for (uint32_t i = 0; i < LTG_JOBS_MAX; i++)
	{
		const LtgCompactJob *j = &sh->job[i];

		if (j->store_id != store_id)
			continue;
		if (r->level == 0)
		{
			if (j->age_lo <= r->age && r->age <= j->age_hi)
				return true;
		}
		else if (deep_first(j) <= r->level && r->level <= j->out_level &&
				 hulls_overlap(&j->min_key, &j->max_key, &r->min_key, &r->max_key))
			return true;
	}
	return false;
}

uint32_t
ltg_jobs_of(LtgShared *sh, uint64_t store_id)
{
	uint32_t	n = 0;

	for (uint32_t i = 0; i < LTG_JOBS_MAX; i++)
		n += sh->job[i].store_id == store_id;
	return n;
}

static void
widen(LtgCompactJob *j, const LtgBound *min_key, const LtgBound *max_key)
{
	if (bound_cmp(min_key, &j->min_key) < 0)
		j->min_key = *min_key;
	if (bound_cmp(max_key, &j->max_key) > 0)
		j->max_key = *max_key;
}

static void
describe(LtgCompactJob *j, const LtgCompactPlan *plan)
{
	j->key = plan->key;
	j->reason = plan->reason;
	j->out_level = plan->out_level;
	j->first_level = plan->set->run[plan->in[0]].level;
	j->age_lo = UINT64_MAX;
	j->age_hi = 0;
	j->n_in = plan->n_in;
	j->bytes_total = 0;
	j->min_key = plan->set->run[plan->in[0]].min_key;
	j->max_key = plan->set->run[plan->in[0]].max_key;
	if (plan->part.gen != NULL)
		widen(j, &plan->part.min_key, &plan->part.max_key);
	for (uint32_t i = 0; i < plan->n_in; i++)
	{
		const LtgRunRef *r = &plan->set->run[plan->in[i]];

		widen(j, &r->min_key, &r->max_key);
		if (r->level == 0)
		{
			j->age_lo = r->age < j->age_lo ? r->age : j->age_lo;
			j->age_hi = r->age > j->age_hi ? r->age : j->age_hi;
		}
		j->bytes_total += r->disk_bytes;
	}
	atomic_store(&j->bytes_read, 0);
	atomic_store(&j->bytes_written, 0);
	atomic_store(&j->versions_in, 0);
	atomic_store(&j->versions_out, 0);
	atomic_store(&j->phase, LTG_COMPACT_STARTING);
}

bool
ltg_job_begin(LtgSession *s, LtgCompactPlan *plan)
{
	LtgShared  *sh = s->shared;
	LtgCompactJob wanted;
	LtgCompactJob *slot = NULL;

	LTG_ASSERT(plan->n_in > 0 && plan->job == NULL);
	describe(&wanted, plan);
	for (uint32_t i = 0; i < LTG_JOBS_MAX; i++)
	{
		LtgCompactJob *j = &sh->job[i];

		if (j->store_id == 0)
			slot = slot == NULL ? j : slot;
		else if (j->store_id == plan->store_id && jobs_conflict(j, &wanted))
			return false;
	}
	if (slot == NULL)
		return false;
	describe(slot, plan);
	slot->worker = s->host_id;
	slot->started_us = s->port->now_us(s->port);
	slot->store_id = plan->store_id;
	plan->job = slot;
	return true;
}

void
ltg_job_end(LtgSession *s, LtgCompactPlan *plan)
{
	(void) s;
	if (plan->job != NULL)
		plan->job->store_id = 0;
	plan->job = NULL;
}

bool
ltg_jobs_valid(LtgSession *s)
{
	LtgPort    *port = s->port;
	const LtgCompactJob *job = s->shared->job;
	bool		valid = true;

	port->lock(port, LTG_LOCK_COMPACT, LTG_SHARED);
	for (uint32_t a = 0; a < LTG_JOBS_MAX; a++)
		for (uint32_t b = 0; b < a && job[a].store_id != 0; b++)
			if (job[b].store_id == job[a].store_id && jobs_conflict(&job[a], &job[b]))
				valid = false;
	port->unlock(port, LTG_LOCK_COMPACT);
	return valid;
}

uint32_t
ltg_compact_progress(LtgSession *s, LtgCompactProgress *p, uint32_t max)
{
	LtgPort    *port = s->port;
	LtgShared  *sh = s->shared;
	uint64_t	now = port->now_us(port);
	uint32_t	n = 0;

	port->lock(port, LTG_LOCK_COMPACT, LTG_SHARED);
	for (uint32_t i = 0; i < LTG_JOBS_MAX; i++)
	{
		const LtgCompactJob *j = &sh->job[i];

		if (j->store_id == 0)
			continue;
		if (n < max)
			p[n] = (LtgCompactProgress) {
				.worker = j->worker, .key = j->key,
				.reason = reason_name[j->reason],
				.phase = (LtgCompactPhase) atomic_load(&j->phase),
				.first_level = j->first_level, .out_level = j->out_level, .runs = j->n_in,
				.elapsed_us = now > j->started_us ? now - j->started_us : 0,
				.bytes_total = j->bytes_total,
				.bytes_read = atomic_load(&j->bytes_read),
				.bytes_written = atomic_load(&j->bytes_written),
				.versions_in = atomic_load(&j->versions_in),
				.versions_out = atomic_load(&j->versions_out)
			};
		n++;
	}
	port->unlock(port, LTG_LOCK_COMPACT);
	return n;
}
