/*
 * txn.c
 *	  Commit table, csn, snapshots, horizon.  See txn.h for the invariants.
 *
 * The orders of loads and stores that X1 and X5 rest on are commented where
 * they stand.  Sequentially consistent operations are used wherever two
 * threads each store one word and load the other's.
 */
#include "lt/txn.h"

#include <stdio.h>

#define DIR_SIZE 4096			/* chunks; a power of two */

typedef struct Chunk
{
	struct Chunk *next_free;
	_Atomic uint64_t slot[];
} Chunk;

typedef struct AbortedXid
{
	LtgXid		xid;
	LtgSeq		at;				/* all its versions were logged before this */
	uint64_t	stamp;			/* epoch since when none is to be found, 0 = not yet */
} AbortedXid;

struct LtXids
{
	LtHost	   *host;
	LtgPort    *port;
	uint32_t	shift;			/* log2 of slots per chunk */
	uint32_t	n_places;
	LtXminSlot *place;

	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t next;
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t csn;
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t oldest;
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t base;

	/* LT_MU_XIDS to change */
	Chunk	   *free_chunks;
	AbortedXid *aborted;		/* ascending */
	size_t		aborted_cap;
	_Atomic size_t n_aborted;
	Chunk	   *_Atomic dir[DIR_SIZE];
};

static inline uint64_t
chunk_slots(const LtXids *x)
{
	return (uint64_t) 1 << x->shift;
}

static inline Chunk *
chunk_of(LtXids *x, LtgXid xid)
{
	return atomic_load_explicit(&x->dir[(xid >> x->shift) & (DIR_SIZE - 1)],
								memory_order_acquire);
}

static inline _Atomic uint64_t *
slot_in(LtXids *x, Chunk *c, LtgXid xid)
{
	return &c->slot[xid & (chunk_slots(x) - 1)];
}

/* ---- life ---- */

LtgStatus
lt_xids_create(LtHost *host, uint32_t n_places, uint32_t chunk_shift, LtXids **xids)
{
	LtgPort    *port = host->port;
	LtXids	   *x = lt_alloc_aligned(port, sizeof(*x));
	LtXminSlot *places = lt_alloc_aligned(port, n_places * sizeof(LtXminSlot));

	*xids = NULL;
	if (x == NULL || places == NULL)
	{
		lt_free_aligned(port, x);
		lt_free_aligned(port, places);
		return LTG_NOMEM;
	}
	x->host = host;
	x->port = port;
	x->shift = chunk_shift;
	x->n_places = n_places;
	x->place = places;
	for (uint32_t i = 0; i < n_places; i++)
	{
		atomic_store(&x->place[i].xmin, LT_NO_XMIN);
		atomic_store(&x->place[i].csn, 0);
	}
	atomic_store(&x->next, 1);
	atomic_store(&x->oldest, 1);
	atomic_store(&x->base, 1);
	atomic_store(&x->csn, LT_CSN_FIRST);
	*xids = x;
	return LTG_OK;
}

void
lt_xids_destroy(LtXids *x)
{
	LtgPort    *port;

	if (x == NULL)
		return;
	port = x->port;
	for (int i = 0; i < DIR_SIZE; i++)
		port->free(port, atomic_load(&x->dir[i]));
	while (x->free_chunks != NULL)
	{
		Chunk	   *c = x->free_chunks;

		x->free_chunks = c->next_free;
		port->free(port, c);
	}
	port->free(port, x->aborted);
	lt_free_aligned(port, x->place);
	lt_free_aligned(port, x);
}

LtgStatus
lt_xids_restore(LtXids *x, LtgXid next, const LtgXid *aborted, size_t n, LtgSeq at)
{
	LTG_ASSERT(atomic_load(&x->next) == 1);
	if (n > 0)
	{
		x->aborted = x->port->alloc(x->port, n * sizeof(AbortedXid));
		if (x->aborted == NULL)
			return LTG_NOMEM;
		x->aborted_cap = n;
	}
	for (size_t i = 0; i < n; i++)
	{
		LTG_ASSERT(i == 0 || aborted[i] > aborted[i - 1]);
		x->aborted[i].xid = aborted[i];
		x->aborted[i].at = at;
		x->aborted[i].stamp = 0;
	}
	atomic_store(&x->n_aborted, n);
	atomic_store(&x->next, next);
	atomic_store(&x->oldest, next);
	atomic_store(&x->base, next);
	return LTG_OK;
}

LtXminSlot *
lt_xids_place(LtXids *x, uint32_t i)
{
	LTG_ASSERT(i < x->n_places);
	return &x->place[i];
}

/* ---- xids ---- */

static LtgStatus
add_chunk(LtXids *x, LtgXid xid)
{
	LtHost	   *h = x->host;
	uint64_t	i = (xid >> x->shift) & (DIR_SIZE - 1);
	LtgStatus	st = LTG_OK;

	h->lock(h, LT_MU_XIDS);
	/* the directory's place is taken by a chunk a whole turn behind */
	if ((xid >> x->shift) - (atomic_load(&x->base) >> x->shift) >= DIR_SIZE)
		st = LTG_BUSY;
	else if (atomic_load(&x->dir[i]) == NULL)
	{
		Chunk	   *c = x->free_chunks;

		if (c != NULL)
			x->free_chunks = c->next_free;
		else
			c = x->port->alloc(x->port, sizeof(*c) + chunk_slots(x) * sizeof(c->slot[0]));
		if (c == NULL)
			st = LTG_NOMEM;
		else
		{
			/* stale readers see zeroes only after they can see the new base (X5) */
			for (uint64_t k = 0; k < chunk_slots(x); k++)
				atomic_store_explicit(&c->slot[k], LT_SLOT_RUNNING, memory_order_release);
			atomic_store_explicit(&x->dir[i], c, memory_order_release);
		}
	}
	h->unlock(h, LT_MU_XIDS);
	return st;
}

LtgStatus
lt_xid_new(LtXids *x, LtgXid *xid, _Atomic uint64_t **slot)
{
	uint64_t	v = atomic_load(&x->next);
	Chunk	   *c;

	for (;;)
	{
		/*
		 * `next` can't leave this chunk without our knowing, and the chunk
		 * can't be pruned while it holds `next`; one that is a whole turn
		 * old is told apart by base.
		 */
		c = chunk_of(x, v);
		if (LTG_UNLIKELY(c == NULL ||
						 (v >> x->shift) - (atomic_load(&x->base) >> x->shift) >= DIR_SIZE))
		{
			LTG_TRY(add_chunk(x, v));
			v = atomic_load(&x->next);
			continue;
		}
		if (atomic_compare_exchange_weak(&x->next, &v, v + 1))
			break;
	}
	*xid = v;
	*slot = slot_in(x, chunk_of(x, v), v);
	return LTG_OK;
}

/* Move `oldest` over finished xids.  Called after each finish, so whoever
 * finishes last sees all (both sides sequentially consistent). */
static void
advance_oldest(LtXids *x)
{
	for (;;)
	{
		uint64_t	o = atomic_load(&x->oldest);
		uint64_t	v;
		Chunk	   *c;

		if (o >= atomic_load(&x->next))
			return;
		c = chunk_of(x, o);
		if (c == NULL)
		{
			/* pruned meanwhile: oldest has moved, look again */
			if (atomic_load(&x->oldest) == o)
				return;
			continue;
		}
		v = atomic_load(slot_in(x, c, o));
		if (v != LT_SLOT_ABORTED && v < LT_CSN_FIRST)
		{
			/* the chunk may have been recycled under us */
			if (atomic_load(&x->oldest) == o)
				return;
			continue;
		}
		(void) atomic_compare_exchange_strong(&x->oldest, &o, o + 1);
	}
}

void
lt_xid_commit(LtXids *x, _Atomic uint64_t *slot)
{
	uint64_t	csn;

	LTG_ASSERT(atomic_load(slot) == LT_SLOT_LOGGED);
	/* whoever has read the counter at or above our csn sees PUBLISHING at
	 * least, and waits the few instructions until the csn is there */
	atomic_store(slot, LT_SLOT_PUBLISHING);
	csn = atomic_fetch_add(&x->csn, 1) + 1;
	atomic_store(slot, csn);
	advance_oldest(x);
}

void
lt_xid_abort(LtXids *x, _Atomic uint64_t *slot)
{
	LTG_ASSERT(atomic_load(slot) < LT_CSN_FIRST);
	atomic_store(slot, LT_SLOT_ABORTED);
	advance_oldest(x);
}

static bool
in_aborted_set(LtXids *x, LtgXid xid)
{
	LtHost	   *h = x->host;
	size_t		lo = 0,
				hi;
	bool		found;

	if (atomic_load_explicit(&x->n_aborted, memory_order_acquire) == 0)
		return false;
	h->lock(h, LT_MU_XIDS);
	hi = atomic_load(&x->n_aborted);
	while (lo < hi)
	{
		size_t		mid = lo + (hi - lo) / 2;

		if (x->aborted[mid].xid < xid)
			lo = mid + 1;
		else
			hi = mid;
	}
	found = lo < atomic_load(&x->n_aborted) && x->aborted[lo].xid == xid;
	h->unlock(h, LT_MU_XIDS);
	return found;
}

LtFate
lt_xid_fate(LtXids *x, LtgXid xid, uint64_t *csn)
{
	for (;;)
	{
		Chunk	   *c;
		uint64_t	v;

		*csn = 0;
		if (xid < atomic_load_explicit(&x->base, memory_order_acquire))
			return in_aborted_set(x, xid) ? LT_FATE_ABORTED : LT_FATE_COMMITTED;
		c = chunk_of(x, xid);
		if (LTG_UNLIKELY(c == NULL))
		{
			if (xid >= atomic_load(&x->next))
				return LT_FATE_RUNNING; /* never given out: nobody may see it */
			x->host->yield(x->host);
			continue;			/* its chunk is being retired */
		}
		v = atomic_load_explicit(slot_in(x, c, xid), memory_order_acquire);
		if (xid < atomic_load_explicit(&x->base, memory_order_acquire))	/* X5 */
			continue;
		switch (v)
		{
			case LT_SLOT_RUNNING:
				return LT_FATE_RUNNING;
			case LT_SLOT_ABORTED:
				return LT_FATE_ABORTED;
			case LT_SLOT_LOGGED:
				return LT_FATE_COMMITTING;
			case LT_SLOT_PUBLISHING:
				x->host->yield(x->host);
				continue;
			default:
				*csn = v;
				return LT_FATE_COMMITTED;
		}
	}
}

/* ---- snapshots ---- */

static bool
judge(LtgSnapshot *snapshot, LtgXid xid, uint32_t cid, LtgState *fate)
{
	LtSnap	   *s = (LtSnap *) snapshot;
	uint64_t	csn;

	if (xid == s->own_xid)
		return cid < s->own_cid;
	switch (lt_xid_fate(s->xids, xid, &csn))
	{
		case LT_FATE_COMMITTED:
			*fate = LTG_COMMITTED;
			return csn <= s->csn;
		case LT_FATE_ABORTED:
			*fate = LTG_ABORTED;
			return false;
		case LT_FATE_RUNNING:
		case LT_FATE_COMMITTING:
			break;
	}
	return false;
}

void
lt_snap_take(LtXids *x, LtSnap *s, LtXminSlot *place)
{
	uint64_t	xmin = atomic_load_explicit(&x->oldest, memory_order_acquire);

	if (LTG_UNLIKELY(atomic_load_explicit(&place->csn, memory_order_relaxed) != 0))
		atomic_store(&place->csn, 0);	/* X1a */
	/* the store comes before the load of the counter: X1 */
	atomic_store(&place->xmin, xmin);
	s->csn = atomic_load(&x->csn);
	s->snap.xmin = xmin;
	s->snap.xmax = 0;
	s->snap.unseen = 0;
	s->snap.judge = judge;
	s->snap.arg = NULL;
	s->snap.failed = false;
	s->xids = x;
	s->own_xid = 0;
	s->own_cid = 0;
	s->place = place;
}

/* Sequentially consistent: whoever still reads it later than its end has read
 * `oldest` before the place's next snapshot reads the counter (X1a). */
void
lt_snap_announce(LtSnap *s)
{
	LTG_ASSERT(s->place != NULL);
	atomic_store(&s->place->csn, s->csn);
}

void
lt_snap_release(LtSnap *s)
{
	if (s->place != NULL)
	{
		if (atomic_load_explicit(&s->place->csn, memory_order_relaxed) != 0)
			atomic_store(&s->place->csn, 0);
		atomic_store_explicit(&s->place->xmin, LT_NO_XMIN, memory_order_release);
	}
	s->place = NULL;
}

LtgXid
lt_xids_horizon(LtXids *x)
{
	uint64_t	h = atomic_load(&x->oldest);	/* before the places: X1 */

	for (uint32_t i = 0; i < x->n_places; i++)
	{
		uint64_t	xmin = atomic_load(&x->place[i].xmin);

		if (xmin < h)
			h = xmin;
	}
	return h;
}

static void
add_known(LtgLive *live, uint64_t csn, uint64_t xmin)
{
	for (uint32_t i = 0; i < live->n; i++)
		if (live->known[i] == csn)
			return;
	if (live->n < LTG_LIVE_MAX)
		live->known[live->n++] = csn;
	else if (xmin < live->floor)
		live->floor = xmin;
}

void
lt_xids_live(LtXids *x, LtgLive *live)
{
	live->floor = atomic_load(&x->oldest);	/* before the places: X1a */
	for (uint32_t i = 0; i < x->n_places; i++)
	{
		uint64_t	csn = atomic_load(&x->place[i].csn);
		uint64_t	xmin = atomic_load(&x->place[i].xmin);

		if (csn != 0)
			add_known(live, csn, xmin);
		else if (xmin < live->floor)
			live->floor = xmin;
	}
}

LtgSees
lt_xids_sees(LtXids *x, const LtgLive *live, uint32_t i, LtgXid xid)
{
	uint64_t	csn;

	if (lt_xid_fate(x, xid, &csn) != LT_FATE_COMMITTED)
		return LTG_SEES_MAYBE;	/* then its version is not asked about */
	return csn <= live->known[i] ? LTG_SEES_YES : LTG_SEES_NO;
}

LtgXid
lt_xids_next(LtXids *x)
{
	return atomic_load(&x->next);
}

LtgXid
lt_xids_oldest(LtXids *x)
{
	return atomic_load(&x->oldest);
}

uint64_t
lt_xids_commits(LtXids *x)
{
	return atomic_load(&x->csn) - LT_CSN_FIRST;
}

/* ---- keeping house ---- */

static LtgStatus
keep_aborted(LtXids *x, LtgXid xid, LtgSeq at)
{
	size_t		n = atomic_load(&x->n_aborted);

	if (n == x->aborted_cap)
	{
		size_t		cap = n * 2 + 64;
		AbortedXid *a = x->port->realloc(x->port, x->aborted, cap * sizeof(*a));

		if (a == NULL)
			return LTG_NOMEM;
		x->aborted = a;
		x->aborted_cap = cap;
	}
	x->aborted[n].xid = xid;
	x->aborted[n].at = at;
	x->aborted[n].stamp = 0;
	atomic_store(&x->n_aborted, n + 1);
	return LTG_OK;
}

/* Move the aborted xids of the chunk at base into the set, then base past it,
 * then free the chunk. */
static LtgStatus
retire_chunk(LtXids *x, LtgSeq position)
{
	uint64_t	base = atomic_load(&x->base);
	uint64_t	end = ((base >> x->shift) + 1) << x->shift;
	size_t		n_before = atomic_load(&x->n_aborted);
	Chunk	   *c = chunk_of(x, base);

	for (uint64_t xid = base; xid < end; xid++)
	{
		uint64_t	v = atomic_load(slot_in(x, c, xid));

		LTG_ASSERT(v == LT_SLOT_ABORTED || v >= LT_CSN_FIRST);
		if (v == LT_SLOT_ABORTED && keep_aborted(x, xid, position) != LTG_OK)
		{
			atomic_store(&x->n_aborted, n_before);
			return LTG_NOMEM;
		}
	}
	/* in this order, or lt_xid_new could take the old chunk for a new one */
	atomic_store(&x->dir[(base >> x->shift) & (DIR_SIZE - 1)], NULL);
	atomic_store(&x->base, end);
	c->next_free = x->free_chunks;
	x->free_chunks = c;
	return LTG_OK;
}

LtgStatus
lt_xids_prune(LtXids *x, LtgEpochTable *epochs, LtgSeq position, LtgSeq durable,
			  LtgXid min_file_xid)
{
	LtHost	   *h = x->host;
	LtgXid		horizon = lt_xids_horizon(x);
	LtgStatus	st = LTG_OK;
	uint64_t	stamp = 0;
	size_t		n,
				kept = 0;

	h->lock(h, LT_MU_XIDS);
	while (st == LTG_OK &&
		   ((atomic_load(&x->base) >> x->shift) + 1) << x->shift <= horizon)
		st = retire_chunk(x, position);
	n = atomic_load(&x->n_aborted);
	for (size_t i = 0; i < n; i++)
	{
		AbortedXid *a = &x->aborted[i];

		if (a->stamp != 0 && ltg_epoch_passed(epochs, a->stamp))
			continue;			/* X3 */
		if (a->stamp == 0 && a->at <= durable &&
			(min_file_xid == 0 || a->xid < min_file_xid))
		{
			/* readers may still hold generations and runs that were replaced */
			if (stamp == 0)
				stamp = ltg_epoch_stamp(epochs);
			a->stamp = stamp;
		}
		x->aborted[kept++] = *a;
	}
	atomic_store(&x->n_aborted, kept);
	h->unlock(h, LT_MU_XIDS);
	return st;
}

size_t
lt_xids_aborted_kept(LtXids *x)
{
	return atomic_load(&x->n_aborted);
}

LtgXid
lt_xids_oldest_aborted(LtXids *x)
{
	LtHost	   *h = x->host;
	LtgXid		xid = 0;

	h->lock(h, LT_MU_XIDS);
	if (atomic_load(&x->n_aborted) > 0)
		xid = x->aborted[0].xid;
	h->unlock(h, LT_MU_XIDS);
	return xid;
}

LtgStatus
lt_xids_state(LtXids *x, LtgXid *next, LtXidFn fn, void *arg)
{
	LtHost	   *h = x->host;
	LtgStatus	st = LTG_OK;

	h->lock(h, LT_MU_XIDS);		/* base and the chunks stay */
	*next = atomic_load(&x->next);
	for (size_t i = 0; st == LTG_OK && i < atomic_load(&x->n_aborted); i++)
		st = fn(arg, x->aborted[i].xid, true);
	for (LtgXid xid = atomic_load(&x->base); st == LTG_OK && xid < *next; xid++)
	{
		uint64_t	v = atomic_load(slot_in(x, chunk_of(x, xid), xid));

		if (v == LT_SLOT_RUNNING || v == LT_SLOT_ABORTED)
			st = fn(arg, xid, v == LT_SLOT_ABORTED);
	}
	h->unlock(h, LT_MU_XIDS);
	return st;
}

bool
lt_xids_check(LtXids *x, char *msg, size_t msg_size)
{
	LtHost	   *h = x->host;
	LtgXid		base,
				oldest,
				next;
	bool		ok = true;

	h->lock(h, LT_MU_XIDS);
	base = atomic_load(&x->base);
	oldest = atomic_load(&x->oldest);
	next = atomic_load(&x->next);
	if (base > oldest || oldest > next)
	{
		snprintf(msg, msg_size, "transaction ids out of order: base %llu, oldest %llu, next %llu",
				 (unsigned long long) base, (unsigned long long) oldest, (unsigned long long) next);
		ok = false;
	}
	for (size_t i = 0; ok && i < atomic_load(&x->n_aborted); i++)
	{
		if (x->aborted[i].xid >= base || (i > 0 && x->aborted[i].xid <= x->aborted[i - 1].xid))
		{
			snprintf(msg, msg_size, "aborted transaction %llu is out of order",
					 (unsigned long long) x->aborted[i].xid);
			ok = false;
		}
	}
	h->unlock(h, LT_MU_XIDS);
	return ok;
}
