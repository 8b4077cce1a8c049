/*
 * compact_flush.c
 *	  A flush that is a merge: a store's part of a generation goes straight into
 *	  the last level instead of to level 0.
 *
 * Where a generation holds new versions of a good part of a table's rows, its run
 * in level 0 would have to be merged down at once, lest the table take much more
 * space than its rows need.  So that run is not written at all.  The merge takes effect in
 * pieces, as any merge into a level does (C7), and each of them says how far
 * the generation is done (S6).  The memory is needed until the end, so this is
 * for quiet times: when arenas become scarce, somebody waits for the flush
 * (ltg_hurry) or for the store, or an error comes in between, the rest is flushed to
 * level 0.
 *
 * Lock: LTG_LOCK_FLUSH over all of it.
 */
#include "tree/compact.h"

#include "tree/gc.h"
#include "tree/pace.h"
#include "tree/state.h"

#define SAMPLES 128				/* about so many keys are looked up */

bool
ltg_store_is_parted(LtgSession *s, const LtgStore *store)
{
	return atomic_load_explicit(&store->merged_upto, memory_order_acquire) > ltg_durable(s);
}

/* Somebody wants to merge all of the store, and waits until nobody else does. */
bool
ltg_store_is_asked_for(LtgSession *s, const LtgStore *store)
{
	return s->port->now_us(s->port) < atomic_load(&store->asked_for);
}

/*
 * What of the generation an earlier attempt has brought into the runs; after a
 * restart that is told by the cut.  Else it is not: two generations have the same one
 * where nothing was logged in between, although a store that isn't logged may have
 * rows in both.
 */
static LtgMerged
merged_before(LtgSession *s, const LtgStore *store, const LtgGeneration *gen, LtgSeq cut)
{
	bool		taken = ltg_meta_enter(s);
	LtgMerged	m = store->merged;

	ltg_meta_leave(s, taken);
	if (m.upto != cut || (m.generation != 0 && m.generation != ltg_gen_number(gen)))
		memset(&m, 0, sizeof(m));
	return m;
}

/* ---- does it pay? ---- */

typedef struct Sample
{
	uint32_t	n;
	uint32_t	hide;			/* keys that have older versions in files */
	uint32_t	pinned;			/* keys whose newest version hides them not from all */
} Sample;

static LtgStatus
sample_key(LtgSession *s, const LtgRunSet *rs, const LtgFlushPart *part, LtgMemNode *node,
		   LtgXid floor, Sample *sample)
{
	LtgMemVersion *mv = ltg_mem_newest(part->gen, node);
	const uint8_t *key;
	uint32_t	key_len;
	LtgVersion	v;
	bool		absent;

	ltg_mem_node_key(node, &key, &key_len);
	LTG_TRY(ltg_runset_lacks_key(s, rs, 0, key, key_len, true, &absent));
	ltg_mem_read(mv, &v);
	sample->n++;
	sample->hide += !absent;
	sample->pinned += v.state != LTG_SETTLED && v.xid >= floor;
	return LTG_OK;
}

/* Most of the keys are new versions of rows, and the old ones can go. */
static LtgStatus
replaces_much(LtgSession *s, LtgStore *store, const LtgFlushPart *part, bool *yes)
{
	uint64_t	step = ltg_mem_list_nodes(part->list) / SAMPLES + 1;
	LtgXid		floor = s->port->horizon(s->port);
	Sample		sample = {0};
	uint64_t	i = step / 2;
	LtgLive		live;

	ltg_live_sample(s, &live);
	if (live.floor > floor)
		floor = live.floor;
	ltg_live_free(s, &live);
	for (LtgMemNode *n = ltg_mem_seek_ge(part->gen, part->list, NULL, 0); n != NULL;
		 n = ltg_mem_next(part->gen, n))
	{
		const LtgRunSet *rs;
		LtgStatus	st = LTG_OK;

		if (i-- > 0)
			continue;
		i = step - 1;
		ltg_epoch_enter(s);
		rs = atomic_load_explicit(&store->runs, memory_order_acquire);
		if (rs != NULL)
			st = sample_key(s, rs, part, n, floor, &sample);
		ltg_epoch_leave(s);
		LTG_TRY(st);
	}
	*yes = sample.n > 0 && sample.hide * 2 >= sample.n && sample.pinned * 2 < sample.n;
	return LTG_OK;
}

/* Cheap questions first.  Level 0 of a store of locks is emptied by other rules. */
static bool
may_pay(LtgSession *s, const LtgStore *store, const LtgFlushPart *part)
{
	const LtgConfig *c = &s->shared->config;
	const LtgRunSet *rs;
	uint64_t	bytes = 0;

	if (c->space_limit == 0 || ltg_flush_is_pressed(s) || atomic_load(&store->damaged) ||
		(atomic_load(&store->flags) & LTG_STORE_LOCKS) != 0 ||
		s->port->now_us(s->port) < atomic_load(&store->compact_not_before) ||
		ltg_store_is_asked_for(s, store) ||
		(ltg_store_is_parted(s, store) && part->done.upto != part->cut))
		return false;
	ltg_epoch_enter(s);
	rs = atomic_load_explicit(&store->runs, memory_order_acquire);
	for (uint32_t i = 0; rs != NULL && i < rs->level_start[1]; i++)
		bytes += rs->run[i].disk_bytes;
	ltg_epoch_leave(s);
	return rs != NULL && bytes + ltg_mem_list_bytes(part->list) > ltg_tiny_bytes(c);
}

/* ---- the flush ---- */

static void
set_bounds(LtgFlushPart *part)
{
	LtgMemNode *first = ltg_mem_seek_ge(part->gen, part->list, NULL, 0);
	LtgMemNode *last = ltg_mem_seek_le(part->gen, part->list, NULL, 0);
	const uint8_t *key;
	uint32_t	key_len;

	ltg_mem_node_key(first, &key, &key_len);
	ltg_bound_set(&part->min_key, key, key_len);
	/* what has been done is no input again */
	if (part->done.upto == part->cut)
		part->min_key = part->done.below;
	ltg_mem_node_key(last, &key, &key_len);
	ltg_bound_set(&part->max_key, key, key_len);
}

/* LTG_BUSY: it is better not done, or not to its end. */
static LtgStatus
merge_down(LtgSession *s, LtgStore *store, uint64_t store_id, LtgCompactPlan *plan)
{
	LtgCompactResult r = {0};
	bool		much = false;
	LtgStatus	st;

	LTG_TRY(replaces_much(s, store, &plan->part, &much));
	if (!much)
		return LTG_BUSY;
	set_bounds(&plan->part);
	LTG_TRY(ltg_compact_pick_flush(s, store, plan));
	if (plan->store == NULL)
		return LTG_BUSY;
	/* a store may be emptied, and go on under another id */
	st = plan->store_id == store_id ? ltg_compact_plan(s, plan, &r) : LTG_BUSY;
	if (st != LTG_OK && ltg_store_id(store) != store_id)
	{
		/* dropped under our hands: the caller finds out */
		ltg_clear_error(s);
		st = LTG_BUSY;
	}
	ltg_compact_release(s, plan);
	return st;
}

LtgStatus
ltg_flush_down(LtgSession *s, LtgStore *store, uint64_t store_id, LtgGeneration *gen,
			   LtgSeq cut, bool may, LtgFlushResult *r, LtgMerged *done)
{
	LtgCompactPlan plan = {.part = {.gen = gen, .cut = cut}};
	LtgFlushPart *part = &plan.part;
	LtgStatus	st = LTG_BUSY;

	part->list = ltg_gen_list(gen, store_id);
	part->done = merged_before(s, store, gen, cut);
	if (may && part->list != NULL && !part->done.all && may_pay(s, store, part))
		st = merge_down(s, store, store_id, &plan);
	r->versions_in += part->versions;
	r->row_bytes += part->row_bytes;
	*done = part->done;
	if (st == LTG_INTERRUPTED)
		return st;
	if (st != LTG_OK && st != LTG_BUSY)
	{
		/* no reason to fail a flush */
		ltg_compact_failed(s, store, st);
		ltg_clear_error(s);
	}
	return done->all ? LTG_END : LTG_OK;
}
