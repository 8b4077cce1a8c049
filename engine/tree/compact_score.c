/*
 * compact_score.c
 *	  Which stores want a compaction, and how much.
 *
 * A score of 1000 means due; below it, only when there is nothing else to do.
 *
 * Level 0 (see compact.h for its tiers) is merged down
 *	 - when that writes little in proportion to the rows that have come in,
 *	   before compression: data that compress well are kept tidy at little cost;
 *	 - when much of the store is superseded by newer versions or tombstones
 *	   (flushes count by sampling, store->superseded);
 *	 - when it is large itself, in absolute terms and compared to the rest;
 *	 - when a run in it is so old that its segment file, which it shares with
 *	   other stores, could not be removed otherwise, or that the host wants to
 *	   forget transactions in it;
 *	 - when the store has come to rest.
 * Otherwise, when it has many runs, neighbours of like size are merged into one:
 * sooner if the store is being read.  That bounds the runs a reader looks into.
 *
 * Levels below are compared with a target size that grows tenfold from level to
 * level.  Single runs are rewritten when they consist mostly of tombstones, or
 * when versions in them can be settled that could not be before.
 */
#include "tree/compact.h"

#define DUE 1000
#define QUIET_SCORE 500			/* below DUE: when nothing else is to be done */
#define FILES_OF_A_STORE 40		/* at least, unless they would be very small */
#define SMALL_FILE 64			/* which is this part of a file's target */
#define L1_FILES 4				/* target of level 1 in output files */
#define L0_FILES 16				/* size of level 0, in output files, that is large */
#define STRAGGLER_FLUSHES 64
#define TINY_STRAGGLER_FLUSHES 16
#define TINY_BYTES (256 * 1024) /* merging that much costs nothing... */
#define TINY_SHARE 64			/* ... nor does this part of a file */
#define SMALL_ARENAS 4			/* a store of so many is a small one ... */
#define SMALL_BYTES (256 * 1024 * 1024)	/* ... and one of so much */
#define OLD_XIDS 10000000		/* behind the horizon */
#define STUCK_XIDS 65536		/* before a fruitless attempt is repeated */
#define TIER_MIN 4				/* runs in a merge within level 0 */
#define TIER_MAX 12
#define L0_RUNS_MAX (LTG_BACKLOG_SLOW - 4)	/* merged at the latest */
#define READS_PER_S 100			/* of several runs each: a store that is read */
#define READ_WINDOW_US 500000

uint64_t
ltg_level_bytes(const LtgRunSet *rs, uint32_t level)
{
	uint64_t	sum = 0;

	for (uint32_t i = rs->level_start[level]; i < rs->level_start[level + 1]; i++)
		sum += rs->run[i].disk_bytes;
	return sum;
}

uint64_t
ltg_out_file_bytes(const LtgConfig *c, const LtgRunSet *rs)
{
	uint64_t	most = c->file_target_bytes;
	uint64_t	bytes = 0;

	for (uint32_t i = 0; i < rs->n; i++)
		bytes += rs->run[i].disk_bytes;
	bytes /= FILES_OF_A_STORE;
	if (bytes < most / SMALL_FILE)
		bytes = most / SMALL_FILE;
	return bytes < most ? bytes : most;
}

/* ---- candidates ---- */

static void
offer(LtgPicker *p, LtgCandidate c)
{
	uint32_t	at;

	c.set = p->set;
	/* level 0 goes before the rest, unless a level below is far too large */
	if (c.score >= DUE && (c.reason == LTG_COMPACT_L0 || c.reason == LTG_COMPACT_TIER))
		c.score += DUE;
	else if (c.score >= 2 * DUE && c.score < 4 * DUE)
		c.score = 2 * DUE - 1;
	if (p->n == LTG_CANDIDATES_MAX)
	{
		if (c.score <= p->best[p->n - 1].score)
			return;
		p->n--;
	}
	for (at = p->n; at > 0 && p->best[at - 1].score < c.score; at--)
		p->best[at] = p->best[at - 1];
	p->best[at] = c;
	p->n++;
}

/* ---- facts of a store ---- */

static bool
is_quiet(const LtgPicker *p, uint64_t store_id)
{
	for (uint32_t i = 0; i < p->gens->n; i++)
		if (ltg_gen_list(p->gens->gen[i], store_id) != NULL)
			return false;
	return true;
}

/* An attempt to settle what is left was fruitless not long ago. */
static bool
is_stuck(const LtgPicker *p, LtgStore *store)
{
	LtgXid		at = atomic_load(&store->stuck_xid);

	return at != 0 && p->horizon < at + STUCK_XIDS;
}

/* Every version of the run could be settled. */
static bool
can_settle(const LtgPicker *p, const LtgRunRef *r)
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

/* Readers have looked into several level-0 runs lately. */
static bool
is_read(LtgPicker *p, LtgStore *store)
{
	uint64_t	probes = atomic_load_explicit(&store->probes, memory_order_relaxed);
	uint64_t	since = p->now - store->probes_at;

	if (p->now < store->probes_at || since >= READ_WINDOW_US)
	{
		if (store->probes_at != 0 && p->now > store->probes_at)
			store->probe_rate = (probes - store->probes_seen) * 1000000 / since;
		store->probes_seen = probes;
		store->probes_at = p->now;
	}
	return store->probe_rate >= READS_PER_S;
}

typedef struct Level0
{
	uint32_t	n;				/* runs */
	uint32_t	free;			/* those no job works on */
	uint32_t	settle;			/* those that could be settled */
	uint64_t	bytes, raw;
	uint64_t	entries, pinned;	/* versions; those in runs that can't settle */
	uint64_t	tombstones;
	uint64_t	below;			/* bytes of level 1 that overlap */
	bool		old;
} Level0;

static void
look_at_level0(const LtgPicker *p, LtgStore *store, const LtgRunSet *rs, Level0 *l)
{
	memset(l, 0, sizeof(*l));
	l->n = rs->level_start[1];
	for (uint32_t i = 0; i < l->n; i++)
	{
		const LtgRunRef *r = &rs->run[i];

		l->free += !ltg_job_has_run(p->s->shared, ltg_store_id(store), r);
		l->settle += can_settle(p, r);
		l->bytes += r->disk_bytes;
		l->raw += r->raw_bytes;
		l->entries += r->entries;
		l->tombstones += r->tombstones;
		if (r->unsettled > 0 && r->max_xid >= p->floor)
			l->pinned += r->unsettled;
		l->old |= r->min_xid != 0 && r->min_xid + OLD_XIDS < p->horizon;
	}
	for (uint32_t i = l->n; i < rs->level_start[2]; i++)
		for (uint32_t k = 0; k < l->n; k++)
			if (ltg_runs_overlap(&rs->run[i], &rs->run[k]))
			{
				l->below += rs->run[i].disk_bytes;
				break;
			}
}

/* ---- level 0 ---- */

/*
 * The neighbours whose merge removes most runs for each byte written.  One run
 * must not make up most of what is rewritten.
 */
static bool
find_tier(const LtgPicker *p, LtgStore *store, const LtgRunSet *rs, uint32_t *first, uint32_t *n)
{
	uint64_t	id = ltg_store_id(store);
	double		best = 0;

	for (uint32_t a = 0; a < rs->level_start[1]; a++)
	{
		uint64_t	sum = 0;
		uint64_t	largest = 0;

		for (uint32_t b = a; b < rs->level_start[1] && b - a < TIER_MAX; b++)
		{
			uint64_t	bytes = rs->run[b].disk_bytes;
			double		gain;

			if (ltg_job_has_run(p->s->shared, id, &rs->run[b]))
				break;
			sum += bytes;
			largest = bytes > largest ? bytes : largest;
			if (b - a + 1 < TIER_MIN || largest > sum / 2)
				continue;
			gain = (double) (b - a) / (double) (sum + 1);
			/* of equally good ones the oldest */
			if (gain >= best)
			{
				best = gain;
				*first = a;
				*n = b - a + 1;
			}
		}
	}
	return best > 0;
}

uint64_t
ltg_tiny_bytes(const LtgConfig *c)
{
	uint64_t	share = c->file_target_bytes / TINY_SHARE;

	return share < TINY_BYTES ? share : TINY_BYTES;
}

uint64_t
ltg_new_version_bytes(const LtgConfig *c, uint64_t rest, uint64_t part)
{
	uint64_t	limit = part / 100 * c->space_limit;

	/* merging so little is cheap, and it is seldom due: a whole arena with new
	 * versions is more than the limit anyway, only parts of one are less */
	if (rest <= SMALL_ARENAS * c->memtable_bytes && rest <= SMALL_BYTES)
		limit /= 2;
	return limit > ltg_tiny_bytes(c) ? limit : ltg_tiny_bytes(c);
}

static uint64_t
tiny_bytes(const LtgPicker *p)
{
	return ltg_tiny_bytes(&p->s->shared->config);
}

/* Versions in files that newer ones hide; by samples. */
static uint64_t
superseded_by(LtgStore *store, const Level0 *l)
{
	uint64_t	hidden = atomic_load_explicit(&store->superseded, memory_order_relaxed);

	/* whatever the samples say: a tombstone hides something */
	return hidden < l->tombstones ? l->tombstones : hidden;
}

/* Level 0 is mostly new versions of rows, and takes more than it may. */
static bool
takes_too_much(const LtgPicker *p, const LtgRunSet *rs, LtgStore *store, const Level0 *l)
{
	const LtgConfig *c = &p->s->shared->config;
	uint64_t	rest = 0;

	for (uint32_t i = rs->level_start[1]; i < rs->n; i++)
		rest += rs->run[i].disk_bytes;
	return c->space_limit != 0 && l->bytes > ltg_new_version_bytes(c, rest, rest) &&
		superseded_by(store, l) * 2 >= l->entries && l->pinned * 4 < l->entries;
}

/* Much is superseded, and merging would get rid of it. */
static bool
has_garbage(const LtgRunSet *rs, LtgStore *store, const Level0 *l, bool quiet)
{
	uint64_t	hidden = superseded_by(store, l);
	uint64_t	rows = 0;
	uint64_t	rest;

	/* graves take no space to speak of: compare with rows */
	for (uint32_t i = 0; i < rs->n; i++)
		rows += rs->run[i].entries - rs->run[i].tombstones;
	rest = rows > hidden ? rows - hidden : 1;
	if (hidden * 8 < rest || hidden == 0)
		return false;
	/* cheap enough, or nothing else to do */
	if (quiet || l->bytes + l->below <= l->raw)
		return true;
	return hidden * 2 >= rest && l->pinned * 4 < l->entries;
}

/* Level 0 should go down whatever else there is. */
static uint64_t
score_down(const LtgPicker *p, LtgStore *store, const LtgRunSet *rs, const Level0 *l)
{
	const LtgConfig *c = &p->s->shared->config;
	uint64_t	cost = l->bytes + l->below;
	uint64_t	passed = p->generation - rs->run[l->n - 1].age;
	uint64_t	large = c->file_target_bytes * L0_FILES;
	uint64_t	rest = 0;

	for (uint32_t level = 1; level < LTG_LEVELS_MAX; level++)
		rest += ltg_level_bytes(rs, level);
	if (large < rest / LTG_LEVEL_RATIO)
		large = rest / LTG_LEVEL_RATIO;
	if (p->generation > rs->run[l->n - 1].age &&
		passed > (cost <= tiny_bytes(p) * 8 ? TINY_STRAGGLER_FLUSHES : STRAGGLER_FLUSHES))
		return DUE + passed;
	if (l->old && !is_stuck(p, store))
		return DUE;
	if (l->bytes > large)
		return DUE + l->bytes * 100 / large;
	if (l->n >= c->l0_compact_trigger && (cost <= tiny_bytes(p) || cost <= l->raw / 2))
		return (uint64_t) l->n * DUE / c->l0_compact_trigger;
	return 0;
}

static void
score_level0(LtgPicker *p, LtgStore *store, const LtgRunSet *rs, bool quiet)
{
	uint32_t	trigger = p->s->shared->config.l0_compact_trigger;
	bool		stuck = is_stuck(p, store);
	LtgCandidate c = {.store = store, .reason = LTG_COMPACT_L0};
	uint32_t	limit;
	bool		below;			/* it can go there */
	bool		read;
	Level0		l;

	if (rs->level_start[1] == 0)
		return;
	look_at_level0(p, store, rs, &l);
	if (l.free == 0)
		return;
	/* what goes down includes the oldest (C2): while that is being merged, the
	 * others are merged among themselves, lest they become too many */
	below = !ltg_job_has_run(p->s->shared, ltg_store_id(store), &rs->run[l.n - 1]);
	c.score = below ? score_down(p, store, rs, &l) : 0;
	if (c.score >= DUE)
	{
		offer(p, c);
		return;
	}
	if (below && (has_garbage(rs, store, &l, quiet) || takes_too_much(p, rs, store, &l)))
	{
		c.reason = LTG_COMPACT_GARBAGE;
		c.score = DUE;
		offer(p, c);
		return;
	}
	read = is_read(p, store);
	limit = trigger * (read ? 2 : 6);
	if (limit > L0_RUNS_MAX)
		limit = L0_RUNS_MAX;
	if (l.free >= limit)
	{
		c.score = (uint64_t) l.free * DUE / limit;
		/* for readers' sake all of it, where that doubles the writing at most */
		if (!(below && read && l.below <= l.bytes) && find_tier(p, store, rs, &c.run, &c.n))
			c.reason = LTG_COMPACT_TIER;
		offer(p, c);
		return;
	}
	/* at rest; cheap is what doesn't rewrite much more than it merges */
	if (!quiet || (l.n == 1 && (l.settle == 0 || stuck)) || l.below > 4 * l.bytes)
		return;
	c.score = QUIET_SCORE;
	offer(p, c);
}

/* ---- the levels below ---- */

static void
score_run(LtgPicker *p, LtgStore *store, const LtgRunRef *r, LtgCandidate c, bool last,
		  bool quiet, bool stuck)
{
	uint64_t	garbage = r->tombstones + (r->entries - r->keys);

	c.reason = LTG_COMPACT_RESOLVE;
	if (r->tombstones * 2 > r->entries && !last)
	{
		c.reason = LTG_COMPACT_GRAVES;
		c.score = DUE;
	}
	else if (r->tombstones * 5 > r->entries && last && !stuck &&
			 has_clearable_graves(store, r, p->horizon))
		c.score = DUE;
	else if (!can_settle(p, r) || stuck)
		return;
	else if (r->min_xid + OLD_XIDS < p->horizon)
		c.score = DUE + 100;
	else if (garbage * 8 > r->entries)
		c.score = DUE;			/* old versions that a snapshot needed */
	else if (quiet)
		c.score = QUIET_SCORE - 1;
	else
		return;
	offer(p, c);
}

static void
score_runs(LtgPicker *p, LtgStore *store, const LtgRunSet *rs, bool quiet)
{
	LtgShared  *sh = p->s->shared;
	uint64_t	id = ltg_store_id(store);
	uint32_t	levels = ltg_runset_levels(rs);
	bool		stuck = is_stuck(p, store);
	bool		busy = ltg_jobs_of(sh, id) > 0;

	for (uint32_t level = 1; level < levels; level++)
		for (uint32_t i = rs->level_start[level]; i < rs->level_start[level + 1]; i++)
		{
			LtgCandidate c = {.store = store, .level = level, .run = i};

			if (!busy || !ltg_job_has_run(sh, id, &rs->run[i]))
				score_run(p, store, &rs->run[i], c, level + 1 == levels, quiet, stuck);
		}
}

static bool
score_store(void *arg, LtgStore *store)
{
	LtgPicker  *p = arg;
	const LtgRunSet *rs = atomic_load_explicit(&store->runs, memory_order_acquire);
	uint64_t	target = p->s->shared->config.file_target_bytes * L1_FILES;
	bool		quiet;

	if (rs == NULL || rs->n == 0 || p->now < atomic_load(&store->compact_not_before) ||
		p->now < atomic_load(&store->asked_for) || ltg_store_is_parted(p->s, store))
		return true;
	p->set = rs;
	quiet = is_quiet(p, ltg_store_id(store));
	score_level0(p, store, rs, quiet);
	for (uint32_t level = 1; level + 1 < LTG_LEVELS_MAX; level++, target *= LTG_LEVEL_RATIO)
	{
		uint64_t	bytes = ltg_level_bytes(rs, level);
		LtgCandidate c = {.store = store, .reason = LTG_COMPACT_LEVEL, .level = level};

		c.score = bytes / (target / DUE + 1) + 1;
		if (bytes > target)
			offer(p, c);
	}
	score_runs(p, store, rs, quiet);
	return true;
}

void
ltg_compact_score(LtgPicker *p)
{
	p->gens = ltg_generations(p->s);
	p->generation = ltg_gen_number(p->gens->gen[0]);
	ltg_each_store(p->s, score_store, p);
}
