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
#include "storage/cache_int.h"

#define DROP_CHUNK 512			/* frames looked at per hold of the lock */
#define SAME_USE_HITS 64		/* see still_same_use */
#define WANT_ONE_IN 4			/* see ltg_cache_wants */
#define DOOR_SHARE 8

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
	count_hit(slot);
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
	if (c->n_frames == 0 || ltg_cache_has_room(c))
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
			ltg_car_stamp_pending(s, c);	/* for whoever comes next */
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
		Place		place = ltg_car_admit(s, c, file, offset);

		e->file = file;
		e->offset = offset;
		e->len = len;
		atomic_store_explicit(&e->ref, 0, memory_order_relaxed);
		frame_put(c, i, place);
		ltg_car_note_entered(c, i);
		hash_link(c, i);
		ltg_car_note_full(c);
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
				ltg_car_evict(s, c, i);
		}
		/* There are two more ghosts than CAR's pages, at most as many as frames. */
		for (uint32_t i = from; i < c->n_ghosts && i < from + DROP_CHUNK; i++)
			if (ghost(c, i)->list != 0 && ghost(c, i)->file == file)
				ltg_car_ghost_drop(c, i);
		if (c->place[AT_PENDING].n > 0)
			ltg_car_stamp_pending(s, c);
		ltg_car_note_full(c);
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

bool
ltg_cache_has_room(const LtgCache *c)
{
	return c->n_frames > 0 && !atomic_load_explicit(&c->full, memory_order_relaxed);
}

uint32_t
ltg_cache_spare(const LtgCache *c)
{
	return c->n_frames - c->c;
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
