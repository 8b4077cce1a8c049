/*
 * packed.c
 *	  Compressed blocks in memory: rings of variable-sized entries, S3-FIFO.
 *
 * A ring is bytes [0, size) used in circular order.  Its entries lie from the
 * oldest to the newest, each in one piece; between the newest and the oldest is
 * the gap.  Taking the oldest away widens the gap at its far end; putting a new
 * one uses the near end.  An entry that gets another chance is moved from one
 * end of the gap to the other.
 *
 * Invariants
 *	 K1. Ring, hash, entries and ghosts of a shard are changed under its lock,
 *		 held exclusively; a use is noted by an atomic store under a shared one.
 *	 K2. An entry in use is in one ring and in one hash chain.
 *	 K3. used of a ring is the bytes from its oldest entry to its newest one's
 *		 end, pieces left unused before a wrap included.
 *
 * Lock order: one shard's lock at a time, nothing under it.  Threads, processes.
 */
#include "storage/packed.h"

#include <stdio.h>

#define NONE UINT32_MAX
#define SHARDS_MAX LTG_LOCK_PACKED_SHARDS
#define SHARD_MIN (4 * 1024 * 1024)
#define ALIGN 16
#define USES_MAX 3
#define MAIN_MOVES_MAX 64		/* second chances per insertion */

typedef struct Entry
{
	LtgFileId	file;
	uint64_t	offset;
	uint64_t	at;				/* in its ring */
	uint32_t	len;
	uint32_t	hash_next;
	uint32_t	newer;			/* in its ring; free list */
	_Atomic uint8_t uses;
	uint8_t		in_main;
	uint8_t		used;
	uint8_t		pad;
} Entry;

typedef struct Ring
{
	uint64_t	start;			/* offset of its bytes from the shard */
	uint64_t	size;
	uint64_t	used;			/* K3 */
	uint64_t	tail;			/* where the newest one ends */
	uint32_t	oldest;
	uint32_t	newest;
	uint32_t	n;
} Ring;

typedef struct Shard
{
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t hits;
	_Atomic uint64_t misses;
	uint64_t	inserts, evictions;
	Ring		small, main;
	uint32_t	n_entries;
	uint32_t	n_buckets;		/* a power of two */
	uint32_t	n_ghosts;		/* a power of two */
	uint32_t	free;			/* list of entries */
	uint64_t	entries_at, buckets_at, ghosts_at;
} Shard;

struct LtgPacked
{
	uint32_t	n_shards;
	uint64_t	shard_bytes;
	uint64_t	first;			/* offset of the first shard */
};

static inline Shard *
shard(const LtgPacked *p, uint32_t i)
{
	return (Shard *) ((uintptr_t) p + p->first + i * p->shard_bytes);
}

static inline Entry *
entry(const Shard *h, uint32_t i)
{
	return (Entry *) ((uintptr_t) h + h->entries_at) + i;
}

static inline uint32_t *
bucket(const Shard *h, uint64_t hash)
{
	return (uint32_t *) ((uintptr_t) h + h->buckets_at) + ((uint32_t) hash & (h->n_buckets - 1));
}

/* Names of blocks that have left the small ring unused: the newest per place. */
static inline uint32_t *
ghost(const Shard *h, uint64_t hash)
{
	return (uint32_t *) ((uintptr_t) h + h->ghosts_at) + ((uint32_t) hash & (h->n_ghosts - 1));
}

static inline uint8_t *
bytes_of(const Shard *h, const Ring *r, uint64_t at)
{
	return (uint8_t *) ((uintptr_t) h + r->start + at);
}

static inline uint64_t
hash_of(LtgFileId file, uint64_t offset)
{
	uint64_t	x = file * UINT64_C(0x9E3779B97F4A7C15) + offset;

	x ^= x >> 31;
	x *= UINT64_C(0xD6E8FEB86659FD93);
	x ^= x >> 32;
	x *= UINT64_C(0xD6E8FEB86659FD93);
	return x ^ x >> 29;
}

/* High bits choose the shard, low ones the places in it. */
static inline uint32_t
shard_of(const LtgPacked *p, uint64_t hash)
{
	return (uint32_t) ((hash >> 40) % p->n_shards);
}

static inline uint32_t
fingerprint(uint64_t hash)
{
	return (uint32_t) (hash >> 20) | 1;
}

static uint64_t
rounded(uint64_t bytes, uint64_t to)
{
	return (bytes + to - 1) / to * to;
}

/* ---- making one ---- */

static void
init_ring(Ring *r, uint64_t start, uint64_t size)
{
	memset(r, 0, sizeof(*r));
	r->start = start;
	r->size = size;
	r->oldest = r->newest = NONE;
}

/* Entries for blocks compressed to a twelfth; ghosts for as many. */
static void
init_shard(Shard *h, uint64_t size, uint32_t block_size)
{
	uint64_t	n = size / (block_size / 12) + 16;
	uint64_t	at = rounded(sizeof(Shard), LTG_CACHE_LINE);
	uint64_t	small;

	memset(h, 0, sizeof(*h));
	h->n_entries = (uint32_t) (n < NONE / 4 ? n : NONE / 4);
	h->n_buckets = 16;
	while (h->n_buckets < h->n_entries)
		h->n_buckets *= 2;
	h->n_ghosts = h->n_buckets;
	h->entries_at = at;
	at = rounded(at + h->n_entries * sizeof(Entry), LTG_CACHE_LINE);
	h->buckets_at = at;
	at += h->n_buckets * sizeof(uint32_t);
	h->ghosts_at = at;
	at = rounded(at + h->n_ghosts * sizeof(uint32_t), LTG_CACHE_LINE);
	small = rounded((size - at) / 10, LTG_CACHE_LINE);
	init_ring(&h->small, at, small);
	init_ring(&h->main, at + small, (size - at - small) / ALIGN * ALIGN);
	memset((uint8_t *) h + h->buckets_at, 0xFF, h->n_buckets * sizeof(uint32_t));
	memset((uint8_t *) h + h->ghosts_at, 0, h->n_ghosts * sizeof(uint32_t));
	h->free = NONE;
	for (uint32_t i = h->n_entries; i-- > 0;)
	{
		memset(entry(h, i), 0, sizeof(Entry));
		entry(h, i)->newer = h->free;
		h->free = i;
	}
}

LtgPacked *
ltg_packed_init(void *mem, size_t size, uint32_t block_size)
{
	LtgPacked  *p = (LtgPacked *) rounded((uintptr_t) mem, LTG_CACHE_LINE);
	uint64_t	lost = (uintptr_t) p - (uintptr_t) mem + LTG_CACHE_LINE;
	uint64_t	room;

	_Static_assert(sizeof(LtgPacked) <= LTG_CACHE_LINE, "one line");
	if (size < lost + 8 * (uint64_t) block_size + 64 * 1024)
		return NULL;
	room = size - lost;
	p->first = LTG_CACHE_LINE;
	p->n_shards = 1;
	while (p->n_shards < SHARDS_MAX && room / (p->n_shards * 2) >= SHARD_MIN &&
		   room / (p->n_shards * 2) >= 64 * (uint64_t) block_size)
		p->n_shards *= 2;
	p->shard_bytes = room / p->n_shards / LTG_CACHE_LINE * LTG_CACHE_LINE;
	for (uint32_t i = 0; i < p->n_shards; i++)
		init_shard(shard(p, i), p->shard_bytes, block_size);
	return p;
}

/* ---- the hash; REQUIRES the lock, like all that follow ---- */

static uint32_t
find(const Shard *h, uint64_t hash, LtgFileId file, uint64_t offset)
{
	uint32_t	i = *bucket(h, hash);

	while (i != NONE && (entry(h, i)->offset != offset || entry(h, i)->file != file))
		i = entry(h, i)->hash_next;
	return i;
}

static void
unlink_entry(Shard *h, uint32_t i)
{
	Entry	   *e = entry(h, i);
	uint32_t   *from = bucket(h, hash_of(e->file, e->offset));

	while (*from != i)
		from = &entry(h, *from)->hash_next;
	*from = e->hash_next;
}

/* ---- rings ---- */

/* Where len bytes would go, or UINT64_MAX if the gap is too small now. */
static uint64_t
place_for(const Shard *h, const Ring *r, uint32_t len)
{
	uint64_t	need = rounded(len, ALIGN);
	uint64_t	head;

	if (r->n == 0)
		return need <= r->size ? 0 : UINT64_MAX;
	head = entry(h, r->oldest)->at;
	if (r->tail > head || (r->tail == head && r->used == 0))
	{
		if (r->size - r->tail >= need)
			return r->tail;
		return head >= need ? 0 : UINT64_MAX;
	}
	return head - r->tail >= need ? r->tail : UINT64_MAX;
}

static void
append(Shard *h, Ring *r, uint32_t i, uint64_t at)
{
	Entry	   *e = entry(h, i);
	uint64_t	need = rounded(e->len, ALIGN);

	if (r->n == 0)
		r->used = 0;
	else if (at != r->tail)
		r->used += r->size - r->tail;	/* wraps: the rest stays empty */
	r->used += need;
	r->tail = at + need;
	e->at = at;
	e->newer = NONE;
	if (r->n++ == 0)
		r->oldest = i;
	else
		entry(h, r->newest)->newer = i;
	r->newest = i;
}

/* Take the oldest entry out of its ring; its bytes stay as they are. */
static uint32_t
take_oldest(Shard *h, Ring *r)
{
	uint32_t	i = r->oldest;
	const Entry *e = entry(h, i);

	LTG_ASSERT(r->n > 0);
	r->oldest = e->newer;
	if (--r->n == 0)
	{
		r->newest = NONE;
		r->used = 0;
		r->tail = 0;
	}
	else
	{
		const Entry *next = entry(h, r->oldest);

		r->used -= next->at > e->at ? next->at - e->at : r->size - e->at + next->at;
	}
	return i;
}

static void
drop(Shard *h, uint32_t i)
{
	unlink_entry(h, i);
	entry(h, i)->used = 0;
	entry(h, i)->newer = h->free;
	h->free = i;
	h->evictions++;
}

/* Make room for len bytes in the main ring; false: it can't be had cheaply. */
static uint64_t
room_in_main(Shard *h, uint32_t len)
{
	Ring	   *r = &h->main;
	int			moves = 0;
	uint64_t	at;

	if (rounded(len, ALIGN) > r->size / 2)
		return UINT64_MAX;
	while ((at = place_for(h, r, len)) == UINT64_MAX)
	{
		uint32_t	i = take_oldest(h, r);
		Entry	   *e = entry(h, i);
		uint8_t		uses = atomic_load_explicit(&e->uses, memory_order_relaxed);
		uint64_t	old = e->at;

		/* its own bytes are free now, so there is always a place */
		if (uses > 0 && moves++ < MAIN_MOVES_MAX &&
			(at = place_for(h, r, e->len)) != UINT64_MAX)
		{
			atomic_store_explicit(&e->uses, uses - 1, memory_order_relaxed);
			if (at != old)
				memmove(bytes_of(h, r, at), bytes_of(h, r, old), e->len);
			append(h, r, i, at);
		}
		else
			drop(h, i);
	}
	return at;
}

/* The oldest of the small ring leaves it: for the main ring, or for good. */
static void
leave_small(Shard *h)
{
	uint32_t	i = take_oldest(h, &h->small);
	Entry	   *e = entry(h, i);
	uint64_t	hash = hash_of(e->file, e->offset);
	bool		used = atomic_load_explicit(&e->uses, memory_order_relaxed) > 0;
	uint64_t	at = UINT64_MAX;

	if (used)
		at = room_in_main(h, e->len);
	else if (h->main.used + rounded(e->len, ALIGN) <= h->main.size)
		at = place_for(h, &h->main, e->len);	/* while there is room anyhow */
	if (at != UINT64_MAX)
	{
		memcpy(bytes_of(h, &h->main, at), bytes_of(h, &h->small, e->at), e->len);
		atomic_store_explicit(&e->uses, 0, memory_order_relaxed);
		e->in_main = 1;
		append(h, &h->main, i, at);
		return;
	}
	*ghost(h, hash) = fingerprint(hash);
	drop(h, i);
}

/* A free entry and a place for it in the ring; NONE if there is none. */
static uint32_t
make_entry(Shard *h, bool in_main, uint32_t len, uint64_t *at)
{
	Ring	   *r = in_main ? &h->main : &h->small;
	uint32_t	i;

	if (rounded(len, ALIGN) > r->size / 2)
		return NONE;
	if (in_main)
		*at = room_in_main(h, len);
	else
		while ((*at = place_for(h, r, len)) == UINT64_MAX)
			leave_small(h);
	while (h->free == NONE && h->small.n > 0)
		leave_small(h);
	while (h->free == NONE && h->main.n > 0)
		drop(h, take_oldest(h, &h->main));
	/* taking away the oldest may have emptied the ring */
	*at = place_for(h, r, len);
	if (*at == UINT64_MAX || h->free == NONE)
		return NONE;
	i = h->free;
	h->free = entry(h, i)->newer;
	return i;
}

/* ---- public ---- */

bool
ltg_packed_get(LtgSession *s, LtgPacked *p, LtgFileId file, uint64_t offset,
			   uint8_t *dst, uint32_t len, bool note)
{
	uint64_t	hash = hash_of(file, offset);
	uint32_t	n = shard_of(p, hash);
	Shard	   *h = shard(p, n);
	uint32_t	i;

	s->port->lock(s->port, LTG_LOCK_PACKED_0 + n, LTG_SHARED);
	i = find(h, hash, file, offset);
	if (i != NONE && entry(h, i)->len != len)
		i = NONE;				/* the caller has the wrong length: the file will tell */
	if (i != NONE)
	{
		Entry	   *e = entry(h, i);
		uint8_t		uses = atomic_load_explicit(&e->uses, memory_order_relaxed);

		memcpy(dst, bytes_of(h, e->in_main ? &h->main : &h->small, e->at), len);
		if (note && uses < USES_MAX)
			atomic_store_explicit(&e->uses, uses + 1, memory_order_relaxed);
	}
	s->port->unlock(s->port, LTG_LOCK_PACKED_0 + n);
	if (note)
		atomic_fetch_add_explicit(i != NONE ? &h->hits : &h->misses, 1, memory_order_relaxed);
	return i != NONE;
}

void
ltg_packed_put(LtgSession *s, LtgPacked *p, LtgFileId file, uint64_t offset,
			   const uint8_t *src, uint32_t len)
{
	uint64_t	hash = hash_of(file, offset);
	uint32_t	n = shard_of(p, hash);
	Shard	   *h = shard(p, n);
	uint64_t	at = 0;
	uint32_t	i;

	s->port->lock(s->port, LTG_LOCK_PACKED_0 + n, LTG_EXCLUSIVE);
	if (find(h, hash, file, offset) == NONE)
	{
		bool		back = *ghost(h, hash) == fingerprint(hash);

		i = make_entry(h, back, len, &at);
		if (i != NONE)
		{
			Entry	   *e = entry(h, i);

			e->file = file;
			e->offset = offset;
			e->len = len;
			e->in_main = back;
			e->used = 1;
			atomic_store_explicit(&e->uses, 0, memory_order_relaxed);
			memcpy(bytes_of(h, back ? &h->main : &h->small, at), src, len);
			append(h, back ? &h->main : &h->small, i, at);
			e->hash_next = *bucket(h, hash);
			*bucket(h, hash) = i;
			h->inserts++;
			if (back)
				*ghost(h, hash) = 0;
		}
	}
	s->port->unlock(s->port, LTG_LOCK_PACKED_0 + n);
}

void
ltg_packed_stats(LtgSession *s, LtgPacked *p, LtgPackedStats *stats)
{
	memset(stats, 0, sizeof(*stats));
	for (uint32_t n = 0; n < p->n_shards; n++)
	{
		Shard	   *h = shard(p, n);

		s->port->lock(s->port, LTG_LOCK_PACKED_0 + n, LTG_SHARED);
		stats->hits += atomic_load_explicit(&h->hits, memory_order_relaxed);
		stats->misses += atomic_load_explicit(&h->misses, memory_order_relaxed);
		stats->inserts += h->inserts;
		stats->evictions += h->evictions;
		stats->blocks += h->small.n + h->main.n;
		stats->bytes_used += h->small.used + h->main.used;
		stats->bytes_total += h->small.size + h->main.size;
		s->port->unlock(s->port, LTG_LOCK_PACKED_0 + n);
	}
}

/* ---- the checker ---- */

static const char *
check_ring(const Shard *h, const Ring *r, bool in_main)
{
	uint64_t	used = 0,
				end = 0;
	uint32_t	n = 0;

	for (uint32_t i = r->oldest; i != NONE; i = entry(h, i)->newer)
	{
		const Entry *e = entry(h, i);

		if (!e->used || e->in_main != in_main || ++n > r->n)
			return "an entry is in the wrong ring";
		if (e->at % ALIGN != 0 || e->at + e->len > r->size)
			return "an entry is not in its ring";
		if (n > 1)
		{
			if (e->at != end && e->at != 0)
				return "a hole between two entries";
			used += e->at == end ? 0 : r->size - end;
		}
		used += rounded(e->len, ALIGN);
		end = e->at + rounded(e->len, ALIGN);
		if (find(h, hash_of(e->file, e->offset), e->file, e->offset) != i)
			return "an entry is not found by its name";
	}
	if (n != r->n || used != r->used || (n > 0 && end != r->tail) || used > r->size)
		return "a ring's figures are wrong";
	return NULL;
}

bool
ltg_packed_check(LtgSession *s, LtgPacked *p, char *msg, size_t msg_size)
{
	const char *bad = NULL;

	for (uint32_t n = 0; n < p->n_shards && bad == NULL; n++)
	{
		Shard	   *h = shard(p, n);
		uint32_t	n_free = 0,
					chained = 0;

		s->port->lock(s->port, LTG_LOCK_PACKED_0 + n, LTG_SHARED);
		bad = check_ring(h, &h->small, false);
		if (bad == NULL)
			bad = check_ring(h, &h->main, true);
		for (uint32_t i = h->free; i != NONE && n_free <= h->n_entries; i = entry(h, i)->newer)
			n_free++;
		if (bad == NULL && n_free + h->small.n + h->main.n != h->n_entries)
			bad = "entries lost";
		for (uint32_t b = 0; b < h->n_buckets; b++)
			for (uint32_t i = *bucket(h, b); i != NONE && chained <= h->n_entries;
				 i = entry(h, i)->hash_next)
				chained++;
		if (bad == NULL && chained != h->small.n + h->main.n)
			bad = "the hash has other entries than the rings";
		s->port->unlock(s->port, LTG_LOCK_PACKED_0 + n);
	}
	if (bad != NULL)
		snprintf(msg, msg_size, "compressed blocks: %s", bad);
	return bad == NULL;
}
