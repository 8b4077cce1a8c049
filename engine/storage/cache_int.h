/*
 * cache_int.h
 *	  What the parts of the block cache share: layout, places, queues, the links of
 *	  the hash.  See cache.c for the invariants.
 */
#ifndef LTG_CACHE_INT_H
#define LTG_CACHE_INT_H

#include "storage/cache.h"

#define NONE UINT32_MAX
#define STAT_SLOTS 64
#define FRAME_HEADER 64
#define RECENT_MAX 32			/* see "when nothing is hit" */

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

/*
 * Written by the sessions of one slot only, as a rule by one session.  Hits are
 * counted without a locked instruction: with more than STAT_SLOTS sessions, a
 * count may be lost where two of them share a slot.
 */
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

static inline void
count_hit(StatSlot *slot)
{
	atomic_store_explicit(&slot->hits, atomic_load_explicit(&slot->hits, memory_order_relaxed) + 1,
						  memory_order_relaxed);
}

/* ---- queues of links; the next three REQUIRE the lock, like all that follow ---- */

/* The link of element i, which is the first member of its element. */
static inline Link *
link_of(void *base, size_t stride, uint32_t i)
{
	return (Link *) ((uintptr_t) base + i * stride);
}

static inline void
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

static inline void
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

static inline void
queue_init(Queue *q)
{
	q->head = q->tail = NONE;
	q->n = 0;
}

static inline void
frame_put(LtgCache *c, uint32_t i, Place place)
{
	frame(c, i)->place = place;
	queue_push(&c->place[place], frame(c, 0), sizeof(Frame), i);
}

static inline void
frame_take(LtgCache *c, uint32_t i)
{
	queue_remove(&c->place[frame(c, i)->place], frame(c, 0), sizeof(Frame), i);
}

/* ---- the hash of resident blocks; linking REQUIRES the lock ---- */

/* Lock-free; REQUIRES an epoch or the lock. */
static inline uint32_t
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

static inline void
hash_link(LtgCache *c, uint32_t i)
{
	Entry	   *e = entry(c, i);
	_Atomic uint32_t *bucket = &buckets(c)[bucket_of(c, e->file, e->offset)];

	atomic_store_explicit(&e->hash_next,
						  atomic_load_explicit(bucket, memory_order_relaxed),
						  memory_order_relaxed);
	atomic_store_explicit(bucket, i, memory_order_release);
}

static inline void
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

/* ---- cache_car.c; REQUIRE the lock ---- */

extern uint32_t ltg_car_ghost_find(LtgCache *c, LtgFileId file, uint64_t offset);
extern void ltg_car_ghost_drop(LtgCache *c, uint32_t i);
extern void ltg_car_stamp_pending(LtgSession *s, LtgCache *c);
extern void ltg_car_evict(LtgSession *s, LtgCache *c, uint32_t i);
extern void ltg_car_note_entered(LtgCache *c, uint32_t i);
extern void ltg_car_note_full(LtgCache *c);
extern Place ltg_car_admit(LtgSession *s, LtgCache *c, LtgFileId file, uint64_t offset);

#endif
