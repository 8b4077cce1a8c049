/*
 * cache_car.c
 *	  Which block goes when another one comes: CAR (Bansal and Modha 2004), the
 *	  clock form of ARC, its ghosts, and what is done when nothing is hit.
 *
 * Everything here REQUIRES LTG_LOCK_CACHE; the invariants are in cache.c.
 */
#include "storage/cache_int.h"

#define WINDOW_MIN 64
#define KEEP_ADMIT_EACH 32
#define KEEP_WINDOWS 64
#define KEEP_PAUSE_MAX 64
#define KEEP_PATIENCE 2
#define KEEP_PATIENCE_MAX 8

/* ---- ghosts ---- */

static uint32_t *
ghost_bucket(LtgCache *c, LtgFileId file, uint64_t offset)
{
	return (uint32_t *) at(c, c->ghost_buckets_at) + bucket_of(c, file, offset);
}

uint32_t
ltg_car_ghost_find(LtgCache *c, LtgFileId file, uint64_t offset)
{
	uint32_t	i = *ghost_bucket(c, file, offset);

	while (i != NONE && (ghost(c, i)->offset != offset || ghost(c, i)->file != file))
		i = ghost(c, i)->hash_next;
	return i;
}

static void
ghost_add(LtgCache *c, uint32_t list, LtgFileId file, uint64_t offset)
{
	uint32_t	i = c->ghost_free.head;
	uint32_t   *bucket = ghost_bucket(c, file, offset);
	Ghost	   *g = ghost(c, i);

	LTG_ASSERT(i != NONE);
	queue_remove(&c->ghost_free, ghost(c, 0), sizeof(Ghost), i);
	g->file = file;
	g->offset = offset;
	g->list = list;
	g->hash_next = *bucket;
	*bucket = i;
	queue_push(list == 1 ? &c->b1 : &c->b2, ghost(c, 0), sizeof(Ghost), i);
}

void
ltg_car_ghost_drop(LtgCache *c, uint32_t i)
{
	Ghost	   *g = ghost(c, i);
	uint32_t   *from = ghost_bucket(c, g->file, g->offset);

	while (*from != i)
		from = &ghost(c, *from)->hash_next;
	*from = g->hash_next;
	queue_remove(g->list == 1 ? &c->b1 : &c->b2, ghost(c, 0), sizeof(Ghost), i);
	g->list = 0;
	queue_push(&c->ghost_free, ghost(c, 0), sizeof(Ghost), i);
}

/* ---- CAR ---- */

/* Stamp what is pending: from now on it only waits for its epoch. */
void
ltg_car_stamp_pending(LtgSession *s, LtgCache *c)
{
	uint64_t	stamp = ltg_epoch_stamp(s->epochs);

	while (c->place[AT_PENDING].n > 0)
	{
		uint32_t	i = c->place[AT_PENDING].head;

		frame_take(c, i);
		frame(c, i)->stamp = stamp;
		frame_put(c, i, AT_LIMBO);
	}
}

/* Take a resident frame out; its name does not become a ghost here. */
void
ltg_car_evict(LtgSession *s, LtgCache *c, uint32_t i)
{
	hash_unlink(c, i);
	frame_take(c, i);
	frame_put(c, i, AT_PENDING);
	if (c->place[AT_PENDING].n >= c->stamp_batch)
		ltg_car_stamp_pending(s, c);
}

/* The paper's replace(): demote one page from the clocks into the ghosts. */
static void
replace(LtgSession *s, LtgCache *c)
{
	for (;;)
	{
		bool		from_t1 = c->place[AT_T1].n >= (c->p > 1 ? c->p : 1);
		uint32_t	i = c->place[from_t1 ? AT_T1 : AT_T2].head;
		Entry	   *e = entry(c, i);

		LTG_ASSERT(i != NONE);
		if (atomic_load_explicit(&e->ref, memory_order_relaxed) == 0)
		{
			ghost_add(c, from_t1 ? 1 : 2, e->file, e->offset);
			ltg_car_evict(s, c, i);
			c->evictions++;
			return;
		}
		atomic_store_explicit(&e->ref, 0, memory_order_relaxed);
		frame_take(c, i);
		frame_put(c, i, AT_T2);
	}
}

/*
 * ---- when nothing is hit ----
 *
 * A loop over more blocks than there are pages defeats CAR as it defeats LRU:
 * each block is evicted shortly before it is used again, and nothing tells,
 * for its ghost is gone by then, too.  What helps is to leave most of the cache
 * as it is: then that part of the loop is hit each time round.  So when a
 * window of misses has brought next to no hits, the following ones evict what
 * has entered last (except each 32nd time, so that the cache changes slowly).
 * If that does not bring hits, or they become fewer again, CAR goes on as ever,
 * and the next try is put off for longer.
 */
static uint64_t
all_hits(const LtgCache *c)
{
	uint64_t	hits = 0;

	for (int i = 0; i < STAT_SLOTS; i++)
		hits += atomic_load_explicit(&c->stat[i].hits, memory_order_relaxed);
	return hits;
}

/* A window ends while CAR is at work. */
static void
consider_keeping(Keeping *k, uint32_t rate)
{
	if (k->wait > 0)
		k->wait--;
	if (rate >= 125)
	{
		k->pause = 0;
		k->patience = KEEP_PATIENCE;
	}
	else if (k->wait == 0)
	{
		k->on = true;
		k->rate_before = rate;
		k->best = 0;
		k->windows = 0;
		k->n = 0;
		if (k->patience == 0)
			k->patience = KEEP_PATIENCE;
	}
}

/* A window ends while most of the cache is kept. */
static void
consider_replacing(Keeping *k, uint32_t rate)
{
	if (++k->windows < k->patience)
		return;					/* a longer loop has not come round yet */
	if (rate < k->rate_before + 60)
	{
		k->on = false;
		k->pause = k->pause == 0 ? 1 : k->pause * 2 < KEEP_PAUSE_MAX ? k->pause * 2 : KEEP_PAUSE_MAX;
		k->wait = k->pause;
		if (k->patience < KEEP_PATIENCE_MAX)
			k->patience *= 2;
		return;
	}
	k->pause = 0;
	/* they become fewer; or have a look at what CAR would do now */
	if (rate * 4 < k->best * 3 || k->windows >= KEEP_WINDOWS)
		k->on = false;
	else if (rate > k->best)
		k->best = rate;
}

static void
end_window(LtgCache *c)
{
	Keeping    *k = &c->keep;
	uint64_t	hits = all_hits(c);
	uint32_t	rate = (uint32_t) ((hits - k->hits) * 1000 / (hits - k->hits + k->misses));

	k->hits = hits;
	k->misses = 0;
	if (k->on)
		consider_replacing(k, rate);
	else
		consider_keeping(k, rate);
}

void
ltg_car_note_entered(LtgCache *c, uint32_t i)
{
	Keeping    *k = &c->keep;
	uint32_t	at = (k->first + k->n) % (2 * RECENT_MAX);

	frame(c, i)->entered = 0;
	if (!k->on)
		return;
	if (++k->entered == 0)
		k->entered = 1;
	frame(c, i)->entered = k->entered;
	k->recent[at] = i;
	k->number[at] = k->entered;
	k->n++;
}

/* Some stay for a while, so that their readers can come back to them. */
static bool
evict_recent(LtgSession *s, LtgCache *c)
{
	Keeping    *k = &c->keep;
	uint32_t	stay = c->c / 8 < RECENT_MAX ? c->c / 8 : RECENT_MAX;

	while (k->n > stay)
	{
		uint32_t	i = k->recent[k->first];
		uint32_t	place = frame(c, i)->place;
		bool		same = frame(c, i)->entered == k->number[k->first];

		k->first = (k->first + 1) % (2 * RECENT_MAX);
		k->n--;
		if (same && (place == AT_T1 || place == AT_T2) &&
			atomic_load_explicit(&entry(c, i)->ref, memory_order_relaxed) == 0)
		{
			ghost_add(c, place == AT_T1 ? 1 : 2, entry(c, i)->file, entry(c, i)->offset);
			ltg_car_evict(s, c, i);
			c->evictions++;
			return true;
		}
	}
	return false;
}

static void
make_page(LtgSession *s, LtgCache *c)
{
	Keeping    *k = &c->keep;

	if (++k->misses > (c->c / 2 > WINDOW_MIN ? c->c / 2 : WINDOW_MIN))
		end_window(c);
	if (!k->on || k->misses % KEEP_ADMIT_EACH == 0 || !evict_recent(s, c))
		replace(s, c);
}

void
ltg_car_note_full(LtgCache *c)
{
	atomic_store_explicit(&c->full, c->place[AT_T1].n + c->place[AT_T2].n == c->c,
						  memory_order_relaxed);
}

/* Make room for a new page and decide which clock it goes to. */
Place
ltg_car_admit(LtgSession *s, LtgCache *c, LtgFileId file, uint64_t offset)
{
	uint32_t	g = ltg_car_ghost_find(c, file, offset);
	uint32_t	delta;

	if (c->place[AT_T1].n + c->place[AT_T2].n == c->c)
		make_page(s, c);
	if (g == NONE)
	{
		/*
		 * The paper does this only when the clocks are full.  They need not
		 * be after a file was dropped, and C5 must hold then, too.
		 */
		if (c->place[AT_T1].n + c->b1.n == c->c)
			ltg_car_ghost_drop(c, c->b1.head);
		else if (c->place[AT_T1].n + c->place[AT_T2].n +
				 c->b1.n + c->b2.n == 2 * c->c)
			ltg_car_ghost_drop(c, c->b2.head);
		return AT_T1;
	}
	if (ghost(c, g)->list == 1)
	{
		delta = c->b2.n / c->b1.n > 1 ? c->b2.n / c->b1.n : 1;
		c->p = c->c - c->p > delta ? c->p + delta : c->c;
		c->ghost_hits_recent++;
	}
	else
	{
		delta = c->b1.n / c->b2.n > 1 ? c->b1.n / c->b2.n : 1;
		c->p = c->p > delta ? c->p - delta : 0;
		c->ghost_hits_frequent++;
	}
	ltg_car_ghost_drop(c, g);
	return AT_T2;
}
