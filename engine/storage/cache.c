/*
 * cache.c
 *	  The block cache: frames, a hash that readers walk without locks, and CAR.
 *
 * A frame is in exactly one place:
 *	 free	 never seen by a reader since it was last reused
 *	 private reserved by a session that fills it
 *	 T1, T2	 resident: in the hash and in one of the clocks
 *	 pending evicted and unlinked from the hash, not stamped yet
 *	 limbo	 stamped; becomes free for reuse when its epoch has passed
 * The last ones are why CAR works with fewer pages than there are frames: its
 * size c leaves some frames over, so that a miss finds one whose epoch has
 * passed.  Evictions happen one by one as CAR says, but share stamps, because
 * a stamp writes the line that every session reads when it enters an epoch.
 *
 * Invariants
 *	 C1. A frame's name (file, offset, len) and bytes are written while it is
 *		 private, before it is linked into the hash with a release store.
 *	 C2. Unlinking leaves the frame's hash_next as it is.  A reader that stands
 *		 on an unlinked frame goes on to frames that were unlinked later than
 *		 it began, which are not reused either before it leaves.
 *	 C3. So within an epoch, a frame found under a name keeps it and its bytes.
 *	 C4. Chains, clocks, ghosts, queues and counters of replacement are changed
 *		 under LTG_LOCK_CACHE only.  Reference bits are not: a reader sets a
 *		 clear one at any time.
 *	 C5. |T1|+|T2| <= c, |T1|+|B1| <= c, |T1|+|T2|+|B1|+|B2| <= 2c; a name is in
 *		 at most one of the four.  (Dropping a file's blocks keeps them all.)
 *
 * Lock order: LTG_LOCK_CACHE is taken inside, and nothing under it.  Safe for
 * threads and processes.
 */
#include "storage/cache.h"

#include <stdio.h>

#define NONE UINT32_MAX
#define STAT_SLOTS 64
#define FRAME_HEADER 64
#define DROP_CHUNK 512			/* frames looked at per hold of the lock */
#define SAME_USE_HITS 64		/* see still_same_use */
#define WANT_ONE_IN 4			/* see ltg_cache_wants */
#define DOOR_SHARE 8
#define RECENT_MAX 32			/* see "when nothing is hit" */
#define WINDOW_MIN 64
#define KEEP_ADMIT_EACH 32
#define KEEP_WINDOWS 64
#define KEEP_PAUSE_MAX 64
#define KEEP_PATIENCE 2
#define KEEP_PATIENCE_MAX 8

typedef enum Place
{
	AT_FREE,
	AT_PRIVATE,
	AT_T1,
	AT_T2,
	AT_PENDING,
	AT_LIMBO,
	AT_COUNT
} Place;

/* What readers look at; 32 bytes, two to a line. */
typedef struct Entry
{
	LtgFileId	file;
	uint64_t	offset;
	uint32_t	len;
	_Atomic uint32_t hash_next; /* frame, NONE: end */
	_Atomic uint8_t ref;
	uint8_t		pad[7];
} Entry;

_Static_assert(sizeof(Entry) == 32, "entries share lines in pairs");

/* What replacement looks at. */
typedef struct Link
{
	uint32_t	next;
	uint32_t	prev;
} Link;

typedef struct Frame
{
	Link		link;
	uint32_t	place;
	uint32_t	entered;		/* number of its entry while keeping, or 0 */
	uint64_t	stamp;			/* in limbo */
} Frame;

typedef struct Ghost
{
	Link		link;
	LtgFileId	file;
	uint64_t	offset;
	uint32_t	hash_next;
	uint32_t	list;			/* 0: free, 1: B1, 2: B2 */
} Ghost;

typedef struct Queue
{
	uint32_t	head;
	uint32_t	tail;
	uint32_t	n;
} Queue;

/*
 * What is watched to see whether replacement does any good, over windows of some
 * misses.  Rates are hits per 1000 accesses.
 */
typedef struct Keeping
{
	bool		on;
	uint32_t	misses;			/* in this window */
	uint64_t	hits;			/* before this window */
	uint32_t	rate_before;	/* of the window that made it keep */
	uint32_t	best;			/* while keeping */
	uint32_t	windows;		/* kept for so many */
	uint32_t	wait;			/* do not keep for so many windows */
	uint32_t	pause;			/* the last such wait */
	uint32_t	patience;		/* windows after which hits must show */
	uint32_t	entered;		/* counts entries while keeping */
	uint32_t	first;			/* ring of the last ones entered: frames */
	uint32_t	n;
	uint32_t	recent[2 * RECENT_MAX];
	uint32_t	number[2 * RECENT_MAX];
} Keeping;

/* Written by the sessions of one slot only, as a rule by one session. */
typedef struct StatSlot
{
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t hits;
	_Atomic uint64_t misses;
	_Atomic uint64_t bypasses;
	_Atomic uint32_t last_filled;	/* frame, NONE: none yet */
	_Atomic uint64_t filled_at;	/* hits by then */
} StatSlot;

/* In front of every frame's bytes. */
struct LtgFrame
{
	uint32_t	index;
	uint32_t	check;			/* ~index: catches foreign pointers */
};

struct LtgCache
{
	/* constant after init; places are offsets from here */
	uint32_t	n_frames;
	uint32_t	c;				/* CAR's number of pages */
	uint32_t	n_ghosts;
	uint32_t	bucket_mask;	/* of both hashes */
	uint32_t	frame_size;
	uint32_t	stamp_batch;
	uint64_t	frame_stride;
	uint32_t	door_mask;
	uint64_t	buckets_at, entries_at, frames_at, ghosts_at, ghost_buckets_at;
	uint64_t	door_at, data_at;

	/* changed under LTG_LOCK_CACHE, but read by anybody */
	_Alignas(LTG_CACHE_LINE) _Atomic bool full;	/* |T1| + |T2| = c */

	/* guarded by LTG_LOCK_CACHE */
	_Alignas(LTG_CACHE_LINE) Queue place[AT_COUNT]; /* AT_PRIVATE: only n */
	Queue		ghost_free, b1, b2;
	uint32_t	p;
	uint64_t	ghost_hits_recent, ghost_hits_frequent, evictions;
	Keeping		keep;

	StatSlot	stat[STAT_SLOTS];
};

static inline void *
at(const LtgCache *c, uint64_t offset)
{
	return (void *) ((uintptr_t) c + offset);
}

static inline _Atomic uint32_t *
buckets(const LtgCache *c)
{
	return at(c, c->buckets_at);
}

static inline Entry *
entry(const LtgCache *c, uint32_t i)
{
	return (Entry *) at(c, c->entries_at) + i;
}

static inline Frame *
frame(const LtgCache *c, uint32_t i)
{
	return (Frame *) at(c, c->frames_at) + i;
}

static inline Ghost *
ghost(const LtgCache *c, uint32_t i)
{
	return (Ghost *) at(c, c->ghosts_at) + i;
}

static inline LtgFrame *
frame_header(const LtgCache *c, uint32_t i)
{
	return at(c, c->data_at + (uint64_t) i * c->frame_stride);
}

static inline uint64_t
hash_of(LtgFileId file, uint64_t offset)
{
	uint64_t	h = file * UINT64_C(0x9E3779B97F4A7C15) + offset;

	h ^= h >> 31;
	return h * UINT64_C(0xD6E8FEB86659FD93);
}

static inline uint32_t
bucket_of(const LtgCache *c, LtgFileId file, uint64_t offset)
{
	return (uint32_t) (hash_of(file, offset) >> 32) & c->bucket_mask;
}

static inline StatSlot *
stat_slot(const LtgSession *s, LtgCache *c)
{
	return &c->stat[s->epoch_slot % STAT_SLOTS];
}

static inline void
count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- queues of links; the next three REQUIRE the lock, like all that follow ---- */

/* The link of element i, which is the first member of its element. */
static inline Link *
link_of(void *base, size_t stride, uint32_t i)
{
	return (Link *) ((uintptr_t) base + i * stride);
}

static void
queue_push(Queue *q, void *base, size_t stride, uint32_t i)
{
	Link	   *l = link_of(base, stride, i);

	l->next = NONE;
	l->prev = q->tail;
	if (q->tail != NONE)
		link_of(base, stride, q->tail)->next = i;
	else
		q->head = i;
	q->tail = i;
	q->n++;
}

static void
queue_remove(Queue *q, void *base, size_t stride, uint32_t i)
{
	Link	   *l = link_of(base, stride, i);

	if (l->prev != NONE)
		link_of(base, stride, l->prev)->next = l->next;
	else
		q->head = l->next;
	if (l->next != NONE)
		link_of(base, stride, l->next)->prev = l->prev;
	else
		q->tail = l->prev;
	LTG_ASSERT(q->n > 0);
	q->n--;
}

static void
queue_init(Queue *q)
{
	q->head = q->tail = NONE;
	q->n = 0;
}

static void
frame_put(LtgCache *c, uint32_t i, Place place)
{
	frame(c, i)->place = place;
	queue_push(&c->place[place], frame(c, 0), sizeof(Frame), i);
}

static void
frame_take(LtgCache *c, uint32_t i)
{
	queue_remove(&c->place[frame(c, i)->place], frame(c, 0), sizeof(Frame), i);
}

/* ---- making one ---- */

static uint64_t
lines(uint64_t bytes)
{
	return (bytes + LTG_CACHE_LINE - 1) & ~(uint64_t) (LTG_CACHE_LINE - 1);
}

/*
 * Lay out a cache of n frames; returns the bytes it takes.  The spare ones
 * bridge the time that a reader who lost the processor stays in its epoch.
 */
static uint64_t
lay_out(LtgCache *c, uint32_t n, uint32_t frame_size)
{
	uint64_t	n_buckets = 16;
	uint64_t	spare = n / 24;
	uint64_t	next = lines(sizeof(LtgCache));

	uint64_t	n_door = 16;

	while (n_buckets < n)
		n_buckets *= 2;
	while (n_door < n / DOOR_SHARE)
		n_door *= 2;
	spare = spare < 4 ? 4 : spare > 512 ? 512 : spare;
	if (spare > n / 2)
		spare = n / 2;
	c->n_frames = n;
	c->c = n - (uint32_t) spare;
	c->n_ghosts = c->c + 2;		/* one more than C5 needs, between two steps */
	c->bucket_mask = (uint32_t) n_buckets - 1;
	c->door_mask = (uint32_t) n_door - 1;
	c->frame_size = frame_size;
	c->frame_stride = lines(FRAME_HEADER + (uint64_t) frame_size);
	c->stamp_batch = spare >= 64 ? 16 : spare >= 8 ? (uint32_t) spare / 4 : 1;
	c->buckets_at = next;
	next += lines(n_buckets * sizeof(uint32_t));
	c->entries_at = next;
	next += lines((uint64_t) n * sizeof(Entry));
	c->frames_at = next;
	next += lines((uint64_t) n * sizeof(Frame));
	c->ghosts_at = next;
	next += lines((uint64_t) c->n_ghosts * sizeof(Ghost));
	c->ghost_buckets_at = next;
	next += lines(n_buckets * sizeof(uint32_t));
	c->door_at = next;
	next += lines(n_door * sizeof(uint32_t));
	c->data_at = next;
	return next + (uint64_t) n * c->frame_stride;
}

LtgCache *
ltg_cache_init(void *mem, size_t size, uint32_t frame_size)
{
	uintptr_t	start = lines((uintptr_t) mem);
	uint64_t	room = size - (start - (uintptr_t) mem);
	LtgCache   *c = (LtgCache *) start;
	uint64_t	n;

	LTG_ASSERT(size >= 2 * LTG_CACHE_LINE + sizeof(LtgCache));
	memset(c, 0, sizeof(*c));
	n = room / lines(FRAME_HEADER + (uint64_t) frame_size);
	n = n < NONE / 4 ? n : NONE / 4;
	/* What the directory takes is a few percent: step down until it fits. */
	while (n > 0 && lay_out(c, (uint32_t) n, frame_size) > room)
	{
		uint64_t	over = lay_out(c, (uint32_t) n, frame_size) - room;
		uint64_t	step = over / (c->frame_stride + 256);

		n -= step < 1 ? 1 : step < n ? step : n;
	}
	if (n < 2)
		n = 0;					/* everything bypasses */
	lay_out(c, (uint32_t) n, frame_size);
	for (int i = 0; i < AT_COUNT; i++)
		queue_init(&c->place[i]);
	queue_init(&c->ghost_free);
	queue_init(&c->b1);
	queue_init(&c->b2);
	for (int i = 0; i < STAT_SLOTS; i++)
		atomic_init(&c->stat[i].last_filled, NONE);
	if (n == 0)
		return c;
	for (uint32_t i = 0; i <= c->bucket_mask; i++)
	{
		atomic_init(&buckets(c)[i], NONE);
		((uint32_t *) at(c, c->ghost_buckets_at))[i] = NONE;
	}
	memset(at(c, c->door_at), 0, (c->door_mask + 1) * sizeof(uint32_t));
	for (uint32_t i = 0; i < c->n_frames; i++)
	{
		memset(entry(c, i), 0, sizeof(Entry));
		memset(frame(c, i), 0, sizeof(Frame));
		frame_header(c, i)->index = i;
		frame_header(c, i)->check = ~i;
		frame_put(c, i, AT_FREE);
	}
	for (uint32_t i = 0; i < c->n_ghosts; i++)
	{
		memset(ghost(c, i), 0, sizeof(Ghost));
		queue_push(&c->ghost_free, ghost(c, 0), sizeof(Ghost), i);
	}
	return c;
}

/* ---- the hash of resident blocks ---- */

/* Lock-free; REQUIRES an epoch or the lock. */
static uint32_t
find(const LtgCache *c, LtgFileId file, uint64_t offset)
{
	uint32_t	i;

	if (c->n_frames == 0)
		return NONE;
	i = atomic_load_explicit(&buckets(c)[bucket_of(c, file, offset)],
							 memory_order_acquire);
	while (i != NONE)
	{
		const Entry *e = entry(c, i);

		/* nearly always the right one: do not wait for the entry first */
		__builtin_prefetch((const uint8_t *) frame_header(c, i) + FRAME_HEADER);
		if (e->offset == offset && e->file == file)
			return i;
		i = atomic_load_explicit(&e->hash_next, memory_order_acquire);
	}
	return NONE;
}

static void
hash_link(LtgCache *c, uint32_t i)
{
	Entry	   *e = entry(c, i);
	_Atomic uint32_t *bucket = &buckets(c)[bucket_of(c, e->file, e->offset)];

	atomic_store_explicit(&e->hash_next,
						  atomic_load_explicit(bucket, memory_order_relaxed),
						  memory_order_relaxed);
	atomic_store_explicit(bucket, i, memory_order_release);
}

static void
hash_unlink(LtgCache *c, uint32_t i)
{
	Entry	   *e = entry(c, i);
	_Atomic uint32_t *from = &buckets(c)[bucket_of(c, e->file, e->offset)];
	uint32_t	next;

	while ((next = atomic_load_explicit(from, memory_order_relaxed)) != i)
	{
		LTG_ASSERT(next != NONE);
		from = &entry(c, next)->hash_next;
	}
	/* The link stays readable in e itself (C2). */
	atomic_store_explicit(from,
						  atomic_load_explicit(&e->hash_next, memory_order_relaxed),
						  memory_order_release);
}

/* ---- ghosts ---- */

static uint32_t *
ghost_bucket(LtgCache *c, LtgFileId file, uint64_t offset)
{
	return (uint32_t *) at(c, c->ghost_buckets_at) + bucket_of(c, file, offset);
}

static uint32_t
ghost_find(LtgCache *c, LtgFileId file, uint64_t offset)
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

static void
ghost_drop(LtgCache *c, uint32_t i)
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
static void
stamp_pending(LtgSession *s, LtgCache *c)
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
static void
evict(LtgSession *s, LtgCache *c, uint32_t i)
{
	hash_unlink(c, i);
	frame_take(c, i);
	frame_put(c, i, AT_PENDING);
	if (c->place[AT_PENDING].n >= c->stamp_batch)
		stamp_pending(s, c);
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
			evict(s, c, i);
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

static void
note_entered(LtgCache *c, uint32_t i)
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
			evict(s, c, i);
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

static void
note_full(LtgCache *c)
{
	atomic_store_explicit(&c->full, c->place[AT_T1].n + c->place[AT_T2].n == c->c,
						  memory_order_relaxed);
}

/* Make room for a new page and decide which clock it goes to. */
static Place
admit(LtgSession *s, LtgCache *c, LtgFileId file, uint64_t offset)
{
	uint32_t	g = ghost_find(c, file, offset);
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
			ghost_drop(c, c->b1.head);
		else if (c->place[AT_T1].n + c->place[AT_T2].n +
				 c->b1.n + c->b2.n == 2 * c->c)
			ghost_drop(c, c->b2.head);
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
	ghost_drop(c, g);
	return AT_T2;
}

/* ---- public: reading ---- */

const uint8_t *
ltg_cache_peek(LtgSession *s, LtgCache *c, LtgFileId file, uint64_t offset,
			   uint32_t *len)
{
	uint32_t	i = find(c, file, offset);

	LTG_ASSERT(s->epoch_depth > 0);
	(void) s;
	if (i == NONE)
		return NULL;
	*len = entry(c, i)->len;
	return ltg_frame_data(frame_header(c, i));
}

void
ltg_cache_prefetch(const LtgCache *c, LtgFileId file, uint64_t next, uint64_t after)
{
	if (c->n_frames == 0)
		return;
	if (after != 0)
		__builtin_prefetch(&buckets(c)[bucket_of(c, file, after)]);
	if (next != 0)
	{
		uint32_t	i = atomic_load_explicit(&buckets(c)[bucket_of(c, file, next)],
											 memory_order_acquire);

		if (i != NONE)
		{
			const uint8_t *data = (const uint8_t *) frame_header(c, i) + FRAME_HEADER;

			__builtin_prefetch(entry(c, i));
			__builtin_prefetch(data);
			__builtin_prefetch(data + LTG_CACHE_LINE);
			__builtin_prefetch(data + 2 * LTG_CACHE_LINE);
		}
	}
}

/*
 * A scan returns to the block it has just read to go on from there, a few times
 * per block.  That is still the same use of the block: if it counted as another,
 * a scan would look like a working set.  So hits on the frame that a session has
 * filled last do not count, for its next few hits of any block.
 */
static inline bool
still_same_use(const StatSlot *slot, uint32_t i)
{
	return atomic_load_explicit(&slot->last_filled, memory_order_relaxed) == i &&
		atomic_load_explicit(&slot->hits, memory_order_relaxed) -
		atomic_load_explicit(&slot->filled_at, memory_order_relaxed) < SAME_USE_HITS;
}

const uint8_t *
ltg_cache_lookup(LtgSession *s, LtgCache *c, LtgFileId file, uint64_t offset,
				 uint32_t *len)
{
	StatSlot   *slot = stat_slot(s, c);
	uint32_t	i = find(c, file, offset);
	Entry	   *e;

	LTG_ASSERT(s->epoch_depth > 0);
	if (i == NONE)
	{
		count(&slot->misses);
		return NULL;
	}
	e = entry(c, i);
	if (atomic_load_explicit(&e->ref, memory_order_relaxed) == 0 &&
		!still_same_use(slot, i))
		atomic_store_explicit(&e->ref, 1, memory_order_relaxed);
	count(&slot->hits);
	*len = e->len;
	return ltg_frame_data(frame_header(c, i));
}

/* ---- public: filling ---- */

/*
 * Point reads all over a table larger than the cache bring in blocks that are not
 * used again before they leave, each in place of one that is as good, and fill
 * a cold frame for it.  So a block has to show that it is worth it: by a miss
 * that is remembered, for about as many others as there are places in the
 * table of names (the newest name per place), or by luck, since blocks that are
 * used more seldom than that deserve a frame as well.
 */
bool
ltg_cache_wants(LtgSession *s, LtgCache *c, LtgFileId file, uint64_t offset)
{
	uint64_t	h = hash_of(file, offset);
	uint32_t	name = (uint32_t) h | 1;
	StatSlot   *slot = stat_slot(s, c);
	uint64_t	dice;
	_Atomic uint32_t *door;

	LTG_ASSERT(s->epoch_depth > 0);
	if (c->n_frames == 0 || !atomic_load_explicit(&c->full, memory_order_relaxed))
		return true;
	door = (_Atomic uint32_t *) at(c, c->door_at) + ((uint32_t) (h >> 32) & c->door_mask);
	if (atomic_load_explicit(door, memory_order_relaxed) == name)
		return true;
	atomic_store_explicit(door, name, memory_order_relaxed);
	/* by the number of the miss: not the same blocks whenever a loop comes round */
	dice = (h ^ atomic_load_explicit(&slot->misses, memory_order_relaxed)) *
		UINT64_C(0x9E3779B97F4A7C15);
	if (dice >> 32 < (UINT64_C(1) << 32) / WANT_ONE_IN)
		return true;
	count(&slot->bypasses);
	return false;
}

uint8_t *
ltg_frame_data(LtgFrame *f)
{
	return (uint8_t *) f + FRAME_HEADER;
}

LtgFrame *
ltg_cache_reserve(LtgSession *s, LtgCache *c, uint32_t len)
{
	uint32_t	i = NONE;

	LTG_ASSERT(s->epoch_depth > 0);
	if (len <= c->frame_size && c->n_frames > 0)
	{
		s->port->lock(s->port, LTG_LOCK_CACHE, LTG_EXCLUSIVE);
		if (c->place[AT_FREE].n > 0)
			i = c->place[AT_FREE].head;
		else if (c->place[AT_LIMBO].n > 0 &&
				 ltg_epoch_passed(s->epochs, frame(c, c->place[AT_LIMBO].head)->stamp))
			i = c->place[AT_LIMBO].head;
		else if (c->place[AT_PENDING].n > 0)
			stamp_pending(s, c);	/* for whoever comes next */
		if (i != NONE)
		{
			frame_take(c, i);
			frame_put(c, i, AT_PRIVATE);
		}
		s->port->unlock(s->port, LTG_LOCK_CACHE);
	}
	if (i == NONE)
	{
		count(&stat_slot(s, c)->bypasses);
		return NULL;
	}
	return frame_header(c, i);
}

const uint8_t *
ltg_cache_publish(LtgSession *s, LtgCache *c, LtgFrame *f, LtgFileId file,
				  uint64_t offset, uint32_t len)
{
	StatSlot   *slot = stat_slot(s, c);
	uint32_t	i = f->index;
	uint32_t	other;
	Entry	   *e = entry(c, i);

	LTG_ASSERT(f->check == ~i && i < c->n_frames && len <= c->frame_size);
	LTG_ASSERT(s->epoch_depth > 0);
	s->port->lock(s->port, LTG_LOCK_CACHE, LTG_EXCLUSIVE);
	LTG_ASSERT(frame(c, i)->place == AT_PRIVATE);
	frame_take(c, i);
	other = find(c, file, offset);
	if (other != NONE)
	{
		frame_put(c, i, AT_FREE);
		i = other;
	}
	else
	{
		Place		place = admit(s, c, file, offset);

		e->file = file;
		e->offset = offset;
		e->len = len;
		atomic_store_explicit(&e->ref, 0, memory_order_relaxed);
		frame_put(c, i, place);
		note_entered(c, i);
		hash_link(c, i);
		note_full(c);
		atomic_store_explicit(&slot->filled_at,
							  atomic_load_explicit(&slot->hits, memory_order_relaxed),
							  memory_order_relaxed);
		atomic_store_explicit(&slot->last_filled, i, memory_order_relaxed);
	}
	s->port->unlock(s->port, LTG_LOCK_CACHE);
	return ltg_frame_data(frame_header(c, i));
}

void
ltg_cache_abandon(LtgSession *s, LtgCache *c, LtgFrame *f)
{
	uint32_t	i = f->index;

	LTG_ASSERT(f->check == ~i && i < c->n_frames);
	s->port->lock(s->port, LTG_LOCK_CACHE, LTG_EXCLUSIVE);
	LTG_ASSERT(frame(c, i)->place == AT_PRIVATE);
	frame_take(c, i);
	frame_put(c, i, AT_FREE);
	s->port->unlock(s->port, LTG_LOCK_CACHE);
}

/* ---- public: the rest ---- */

void
ltg_cache_drop_file(LtgSession *s, LtgCache *c, LtgFileId file)
{
	for (uint32_t from = 0; from < c->n_frames; from += DROP_CHUNK)
	{
		s->port->lock(s->port, LTG_LOCK_CACHE, LTG_EXCLUSIVE);
		for (uint32_t i = from; i < c->n_frames && i < from + DROP_CHUNK; i++)
		{
			uint32_t	place = frame(c, i)->place;

			if ((place == AT_T1 || place == AT_T2) && entry(c, i)->file == file)
				evict(s, c, i);
		}
		/* There are two more ghosts than CAR's pages, at most as many as frames. */
		for (uint32_t i = from; i < c->n_ghosts && i < from + DROP_CHUNK; i++)
			if (ghost(c, i)->list != 0 && ghost(c, i)->file == file)
				ghost_drop(c, i);
		if (c->place[AT_PENDING].n > 0)
			stamp_pending(s, c);
		note_full(c);
		s->port->unlock(s->port, LTG_LOCK_CACHE);
	}
}

bool
ltg_cache_full(LtgSession *s, LtgCache *c)
{
	bool		full;

	s->port->lock(s->port, LTG_LOCK_CACHE, LTG_SHARED);
	full = c->place[AT_T1].n + c->place[AT_T2].n >= c->c;
	s->port->unlock(s->port, LTG_LOCK_CACHE);
	return full;
}

void
ltg_cache_touch(LtgSession *s, LtgCache *c, LtgFileId file, uint64_t offset)
{
	uint32_t	i = find(c, file, offset);

	LTG_ASSERT(s->epoch_depth > 0);
	(void) s;
	if (i != NONE)
		atomic_store_explicit(&entry(c, i)->ref, 1, memory_order_relaxed);
}

uint32_t
ltg_cache_list(LtgSession *s, LtgCache *c, LtgCachedBlock *list, uint32_t max)
{
	uint32_t	n = 0;

	for (uint32_t from = 0; from < c->n_frames; from += DROP_CHUNK)
	{
		s->port->lock(s->port, LTG_LOCK_CACHE, LTG_SHARED);
		for (uint32_t i = from; i < c->n_frames && i < from + DROP_CHUNK && n < max; i++)
		{
			uint32_t	place = frame(c, i)->place;
			const Entry *e = entry(c, i);

			if (place != AT_T1 && place != AT_T2)
				continue;
			list[n].file = e->file;
			list[n].offset = e->offset;
			list[n].heat = (place == AT_T2 ? LTG_HEAT_FREQUENT : 0) +
				(atomic_load_explicit(&e->ref, memory_order_relaxed) != 0);
			n++;
		}
		s->port->unlock(s->port, LTG_LOCK_CACHE);
	}
	return n;
}

void
ltg_cache_stats(LtgSession *s, LtgCache *c, LtgCacheStats *stats)
{
	memset(stats, 0, sizeof(*stats));
	for (int i = 0; i < STAT_SLOTS; i++)
	{
		StatSlot   *slot = &c->stat[i];

		stats->hits += atomic_load_explicit(&slot->hits, memory_order_relaxed);
		stats->misses += atomic_load_explicit(&slot->misses, memory_order_relaxed);
		stats->bypasses += atomic_load_explicit(&slot->bypasses, memory_order_relaxed);
	}
	s->port->lock(s->port, LTG_LOCK_CACHE, LTG_EXCLUSIVE);
	stats->ghost_hits_recent = c->ghost_hits_recent;
	stats->ghost_hits_frequent = c->ghost_hits_frequent;
	stats->evictions = c->evictions;
	stats->frames = c->n_frames;
	stats->frames_used = c->place[AT_T1].n + c->place[AT_T2].n;
	stats->frame_bytes = c->frame_size;
	stats->t1 = c->place[AT_T1].n;
	stats->t2 = c->place[AT_T2].n;
	stats->b1 = c->b1.n;
	stats->b2 = c->b2.n;
	stats->p = c->p;
	stats->filling = c->place[AT_PRIVATE].n;
	stats->leaving = c->place[AT_PENDING].n;
	for (uint32_t i = c->place[AT_LIMBO].tail; i != NONE; i = frame(c, i)->link.prev)
	{
		if (ltg_epoch_passed(s->epochs, frame(c, i)->stamp))
			break;				/* then so have all before it */
		stats->leaving++;
	}
	stats->keeping = c->keep.on;
	s->port->unlock(s->port, LTG_LOCK_CACHE);
}

/* ---- the checker ---- */

static bool
bad(char *msg, size_t msg_size, const char *what, uint64_t where)
{
	snprintf(msg, msg_size, "block cache: %s (%llu)", what, (unsigned long long) where);
	return false;
}

/* A queue's links, length and end. */
static bool
check_queue(const Queue *q, void *base, size_t stride, uint32_t limit)
{
	uint32_t	n = 0,
				prev = NONE;

	for (uint32_t i = q->head; i != NONE; i = link_of(base, stride, i)->next)
	{
		if (i >= limit || link_of(base, stride, i)->prev != prev || ++n > q->n)
			return false;
		prev = i;
	}
	return n == q->n && q->tail == prev;
}

static bool
check_frames(LtgCache *c, char *msg, size_t msg_size)
{
	uint64_t	chained = 0,
				total = 0,
				stamp = 0;

	for (uint32_t place = 0; place < AT_COUNT; place++)
	{
		Queue	   *q = &c->place[place];

		if (!check_queue(q, frame(c, 0), sizeof(Frame), c->n_frames))
			return bad(msg, msg_size, "broken queue of frames", place);
		for (uint32_t i = q->head; i != NONE; i = frame(c, i)->link.next)
		{
			if (frame(c, i)->place != place)
				return bad(msg, msg_size, "frame in a queue it does not know of", i);
			if (frame_header(c, i)->index != i || frame_header(c, i)->check != ~i)
				return bad(msg, msg_size, "frame header overwritten", i);
			if (place == AT_LIMBO && frame(c, i)->stamp < stamp)
				return bad(msg, msg_size, "limbo is not in the order of stamps", i);
			stamp = place == AT_LIMBO ? frame(c, i)->stamp : 0;
			if ((place == AT_T1 || place == AT_T2) &&
				find(c, entry(c, i)->file, entry(c, i)->offset) != i)
				return bad(msg, msg_size, "resident block not found by its name", i);
		}
		total += q->n;
	}
	if (total != c->n_frames)
		return bad(msg, msg_size, "frames lost", total);
	for (uint32_t b = 0; c->n_frames > 0 && b <= c->bucket_mask; b++)
		for (uint32_t i = atomic_load(&buckets(c)[b]); i != NONE;
			 i = atomic_load(&entry(c, i)->hash_next))
			if (++chained > c->n_frames)
				return bad(msg, msg_size, "hash chain without end", b);
	if (chained != c->place[AT_T1].n + c->place[AT_T2].n)
		return bad(msg, msg_size, "hash has other blocks than the clocks", chained);
	return true;
}

static bool
check_ghosts(LtgCache *c, char *msg, size_t msg_size)
{
	Queue	   *queue[3] = {&c->ghost_free, &c->b1, &c->b2};

	for (uint32_t list = 0; list < 3; list++)
	{
		if (!check_queue(queue[list], ghost(c, 0), sizeof(Ghost), c->n_ghosts))
			return bad(msg, msg_size, "broken queue of ghosts", list);
		for (uint32_t i = queue[list]->head; i != NONE; i = ghost(c, i)->link.next)
		{
			Ghost	   *g = ghost(c, i);

			if (g->list != list)
				return bad(msg, msg_size, "ghost in a list it does not know of", i);
			if (list != 0 && ghost_find(c, g->file, g->offset) != i)
				return bad(msg, msg_size, "ghost not found by its name", i);
			if (list != 0 && find(c, g->file, g->offset) != NONE)
				return bad(msg, msg_size, "resident block is a ghost too", i);
		}
	}
	if (c->n_frames > 0 && c->ghost_free.n + c->b1.n + c->b2.n != c->n_ghosts)
		return bad(msg, msg_size, "ghosts lost", c->ghost_free.n);
	return true;
}

bool
ltg_cache_check(LtgSession *s, LtgCache *c, char *msg, size_t msg_size)
{
	uint32_t	t1,
				resident;
	bool		ok;

	s->port->lock(s->port, LTG_LOCK_CACHE, LTG_EXCLUSIVE);
	t1 = c->place[AT_T1].n;
	resident = t1 + c->place[AT_T2].n;
	ok = check_frames(c, msg, msg_size) && check_ghosts(c, msg, msg_size);
	if (ok && (resident > c->c || t1 + c->b1.n > c->c ||
			   resident + c->b1.n + c->b2.n > 2 * c->c || c->p > c->c))
		ok = bad(msg, msg_size, "a list is longer than CAR allows", resident);
	s->port->unlock(s->port, LTG_LOCK_CACHE);
	return ok;
}
