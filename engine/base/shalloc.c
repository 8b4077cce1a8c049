/*
 * shalloc.c
 *	  Allocator for the bounded metadata part of the shared region.
 *
 * Blocks with boundary tags in one heap: each knows its own size and that of
 * the block before it, so freed neighbours merge.  Free blocks are in bins by
 * size: one bin per size up to 31 units of 16 bytes, then four per power of
 * two; a bitmap tells which bins have blocks.
 *
 * Invariants
 *	 A1. Blocks tile the heap: each starts where the one before it ends, and
 *		 the last ends where the heap does.
 *	 A2. No two free blocks are neighbours.
 *	 A3. A block is in exactly one place: handed out, in the bin of its size,
 *		 or in the retire queue.
 *	 A4. A retired block's payload is not touched: readers may still be in it.
 *		 The queue is threaded through the headers, in the order of stamps.
 *	 A5. Every header carries a check word over its place, size and state.
 *
 * Lock order: LTG_LOCK_ALLOC is taken inside and nothing is taken under it.
 * Safe for threads and processes: places are offsets.
 */
#include "base/shalloc.h"

#include <stdio.h>

#define UNIT 16
#define SMALL_BINS 32
#define BINS (SMALL_BINS + 27 * 4)
#define BIN_WORDS ((BINS + 63) / 64)
#define SCAN_OWN_BIN 8
#define NONE 0

#define STATE_FREE 0x46524545U
#define STATE_USED 0x55534544U
#define STATE_RETIRED 0x52455452U

typedef struct Block
{
	uint32_t	size;			/* units, header included */
	uint32_t	prev_size;		/* of the block before this, 0: first */
	uint32_t	state;
	uint32_t	check;
	uint64_t	next;			/* bin or retire queue */
	uint64_t	prev_or_stamp;	/* bin: previous; retire queue: stamp */
} Block;

_Static_assert(sizeof(Block) == 2 * UNIT, "block header keeps payloads aligned");

#define MIN_UNITS 3				/* header and one unit of payload */

struct LtgShAlloc
{
	uint64_t	first;			/* offset of the first block */
	uint64_t	end;			/* offset where the heap ends */
	uint64_t	used_bytes;		/* handed out or retired, headers included */
	uint64_t	retired_bytes;
	uint64_t	retire_head;
	uint64_t	retire_tail;
	uint64_t	bitmap[BIN_WORDS];
	uint64_t	bin[BINS];
};

static inline Block *
block_at(LtgShAlloc *a, uint64_t offset)
{
	return (Block *) ((uintptr_t) a + offset);
}

static inline uint64_t
block_offset(LtgShAlloc *a, const Block *b)
{
	return (uintptr_t) b - (uintptr_t) a;
}

static inline uint64_t
block_bytes(const Block *b)
{
	return (uint64_t) b->size * UNIT;
}

static uint32_t
block_check(LtgShAlloc *a, const Block *b)
{
	uint64_t	h = block_offset(a, b) * UINT64_C(0x9E3779B97F4A7C15);

	h ^= ((uint64_t) b->size << 32 | b->prev_size) * UINT64_C(0xD6E8FEB86659FD93);
	h ^= (uint64_t) b->state << 13;
	return (uint32_t) (h ^ h >> 32);
}

static inline void
seal(LtgShAlloc *a, Block *b)
{
	b->check = block_check(a, b);
}

/* The block behind b, NULL if b is the last. */
static Block *
following(LtgShAlloc *a, Block *b)
{
	uint64_t	offset = block_offset(a, b) + block_bytes(b);

	return offset < a->end ? block_at(a, offset) : NULL;
}

/* ---- bins ---- */

static uint32_t
bin_of(uint32_t units)
{
	uint32_t	e;

	if (units < SMALL_BINS)
		return units;
	e = 31 - (uint32_t) __builtin_clz(units);
	return SMALL_BINS + (e - 5) * 4 + ((units >> (e - 2)) & 3);
}

static void
bin_add(LtgShAlloc *a, Block *b)
{
	uint32_t	bin = bin_of(b->size);
	uint64_t	offset = block_offset(a, b);

	b->state = STATE_FREE;
	b->next = a->bin[bin];
	b->prev_or_stamp = NONE;
	if (b->next != NONE)
		block_at(a, b->next)->prev_or_stamp = offset;
	a->bin[bin] = offset;
	a->bitmap[bin / 64] |= UINT64_C(1) << bin % 64;
	seal(a, b);
}

static void
bin_remove(LtgShAlloc *a, Block *b)
{
	uint32_t	bin = bin_of(b->size);

	if (b->next != NONE)
		block_at(a, b->next)->prev_or_stamp = b->prev_or_stamp;
	if (b->prev_or_stamp != NONE)
		block_at(a, b->prev_or_stamp)->next = b->next;
	else
		a->bin[bin] = b->next;
	if (a->bin[bin] == NONE)
		a->bitmap[bin / 64] &= ~(UINT64_C(1) << bin % 64);
}

/* First bin at or above `bin` that has blocks; BINS if none. */
static uint32_t
bin_above(const LtgShAlloc *a, uint32_t bin)
{
	for (uint32_t word = bin / 64; word < BIN_WORDS; word++)
	{
		uint64_t	bits = a->bitmap[word];

		if (word == bin / 64)
			bits &= ~UINT64_C(0) << bin % 64;
		if (bits != 0)
			return word * 64 + (uint32_t) __builtin_ctzll(bits);
	}
	return BINS;
}

/* A free block of at least `units`, still in its bin, or NULL. */
static Block *
find_free(LtgShAlloc *a, uint32_t units)
{
	uint32_t	own = bin_of(units);
	uint32_t	bin;
	uint64_t	offset = a->bin[own];

	/* Blocks of this bin may be too small; of larger bins, any will do. */
	for (int i = 0; offset != NONE && i < SCAN_OWN_BIN; i++)
	{
		if (block_at(a, offset)->size >= units)
			return block_at(a, offset);
		offset = block_at(a, offset)->next;
	}
	bin = own + 1 < BINS ? bin_above(a, own + 1) : BINS;
	if (bin < BINS)
		return block_at(a, a->bin[bin]);
	for (; offset != NONE; offset = block_at(a, offset)->next)
		if (block_at(a, offset)->size >= units)
			return block_at(a, offset);
	return NULL;
}

/* Use the first `units` of a free block; the rest stays free if it is worth it. */
static void
carve(LtgShAlloc *a, Block *b, uint32_t units)
{
	bin_remove(a, b);
	if (b->size >= units + MIN_UNITS)
	{
		uint32_t	rest_units = b->size - units;
		Block	   *rest;
		Block	   *behind;

		b->size = units;
		rest = following(a, b);
		rest->size = rest_units;
		rest->prev_size = units;
		behind = following(a, rest);
		if (behind != NULL)
		{
			behind->prev_size = rest_units;
			seal(a, behind);
		}
		bin_add(a, rest);
	}
	b->state = STATE_USED;
	b->next = NONE;
	b->prev_or_stamp = 0;
	seal(a, b);
	a->used_bytes += block_bytes(b);
}

/* Put a block into its bin, merged with its free neighbours. */
static void
release(LtgShAlloc *a, Block *b)
{
	Block	   *behind = following(a, b);

	a->used_bytes -= block_bytes(b);
#ifdef LTG_ASSERTS
	memset(b + 1, 0xDB, block_bytes(b) - sizeof(Block));
#endif
	if (behind != NULL && behind->state == STATE_FREE)
	{
		bin_remove(a, behind);
		b->size += behind->size;
	}
	if (b->prev_size != 0)
	{
		Block	   *before = block_at(a, block_offset(a, b) -
									  (uint64_t) b->prev_size * UNIT);

		if (before->state == STATE_FREE)
		{
			bin_remove(a, before);
			before->size += b->size;
			b->state = 0;		/* no header any more */
			b = before;
		}
	}
	behind = following(a, b);
	if (behind != NULL)
	{
		behind->prev_size = b->size;
		seal(a, behind);
	}
	bin_add(a, b);
}

/*
 * The block of a payload, if it is what it should be.  A broken header or a
 * second free is a bug; leaking the block is the least harm it can do.
 */
static Block *
checked_block(LtgSession *s, LtgShAlloc *a, void *ptr)
{
	Block	   *b = (Block *) ptr - 1;
	uint64_t	offset = block_offset(a, b);
	bool		ok = offset >= a->first && offset < a->end && offset % UNIT == 0 &&
		b->state == STATE_USED && b->check == block_check(a, b);

	LTG_ASSERT(ok);
	if (ok)
		return b;
	s->port->log(s->port, LTG_LOG_WARNING,
				 "shared allocator: a block was freed twice or overwritten; it is left alone");
	return NULL;
}

/* REQUIRES: LTG_LOCK_ALLOC. */
static void
reclaim(LtgShAlloc *a, LtgEpochTable *t)
{
	uint64_t	oldest;

	if (a->retire_head == NONE ||
		!ltg_epoch_passed(t, block_at(a, a->retire_head)->prev_or_stamp))
		return;
	oldest = ltg_epoch_oldest(t);
	while (a->retire_head != NONE)
	{
		Block	   *b = block_at(a, a->retire_head);

		if (b->prev_or_stamp > oldest)
			break;
		LTG_ASSERT(b->state == STATE_RETIRED && b->check == block_check(a, b));
		a->retire_head = b->next;
		if (a->retire_head == NONE)
			a->retire_tail = NONE;
		a->retired_bytes -= block_bytes(b);
		release(a, b);
	}
}

/* ---- public ---- */

size_t
ltg_shalloc_overhead(void)
{
	return sizeof(LtgShAlloc) + sizeof(Block) + 3 * UNIT;
}

LtgShAlloc *
ltg_shalloc_init(void *mem, size_t size)
{
	uintptr_t	start = ((uintptr_t) mem + UNIT - 1) & ~(uintptr_t) (UNIT - 1);
	LtgShAlloc *a = (LtgShAlloc *) start;
	Block	   *b;
	uint64_t	units;

	LTG_ASSERT(size >= ltg_shalloc_overhead());
	memset(a, 0, sizeof(*a));
	a->first = (sizeof(*a) + UNIT - 1) & ~(uint64_t) (UNIT - 1);
	units = (size - (start - (uintptr_t) mem) - a->first) / UNIT;
	if (units > UINT32_MAX)
		units = UINT32_MAX;
	a->end = a->first + units * UNIT;
	b = block_at(a, a->first);
	b->size = (uint32_t) units;
	b->prev_size = 0;
	bin_add(a, b);
	return a;
}

void *
ltg_shalloc(LtgSession *s, LtgShAlloc *a, size_t size)
{
	uint64_t	units = (size + sizeof(Block) + UNIT - 1) / UNIT;
	Block	   *b = NULL;

	if (size > UINT32_MAX || units * UNIT > a->end - a->first)
		return NULL;
	if (units < MIN_UNITS)
		units = MIN_UNITS;
	s->port->lock(s->port, LTG_LOCK_ALLOC, LTG_EXCLUSIVE);
	/* Early enough that a burst of allocations need not scan each time. */
	if (a->used_bytes > (a->end - a->first) / 4 * 3)
		reclaim(a, s->epochs);
	b = find_free(a, (uint32_t) units);
	if (b == NULL)
	{
		reclaim(a, s->epochs);
		b = find_free(a, (uint32_t) units);
	}
	if (b != NULL)
	{
		LTG_ASSERT(b->state == STATE_FREE && b->check == block_check(a, b));
		carve(a, b, (uint32_t) units);
	}
	s->port->unlock(s->port, LTG_LOCK_ALLOC);
	return b != NULL ? b + 1 : NULL;
}

void
ltg_shfree(LtgSession *s, LtgShAlloc *a, void *ptr)
{
	Block	   *b;

	if (ptr == NULL)
		return;
	s->port->lock(s->port, LTG_LOCK_ALLOC, LTG_EXCLUSIVE);
	b = checked_block(s, a, ptr);
	if (b != NULL)
		release(a, b);
	s->port->unlock(s->port, LTG_LOCK_ALLOC);
}

void
ltg_shretire(LtgSession *s, LtgShAlloc *a, LtgEpochTable *t, void *ptr)
{
	Block	   *b;

	if (ptr == NULL)
		return;
	s->port->lock(s->port, LTG_LOCK_ALLOC, LTG_EXCLUSIVE);
	b = checked_block(s, a, ptr);
	if (b != NULL)
	{
		b->state = STATE_RETIRED;
		b->next = NONE;
		/* Under the lock, so that the queue is in the order of stamps. */
		b->prev_or_stamp = ltg_epoch_stamp(t);
		seal(a, b);
		if (a->retire_tail != NONE)
			block_at(a, a->retire_tail)->next = block_offset(a, b);
		else
			a->retire_head = block_offset(a, b);
		a->retire_tail = block_offset(a, b);
		a->retired_bytes += block_bytes(b);
	}
	s->port->unlock(s->port, LTG_LOCK_ALLOC);
}

void
ltg_shreclaim(LtgSession *s, LtgShAlloc *a, LtgEpochTable *t)
{
	s->port->lock(s->port, LTG_LOCK_ALLOC, LTG_EXCLUSIVE);
	reclaim(a, t);
	s->port->unlock(s->port, LTG_LOCK_ALLOC);
}

void
ltg_shalloc_stats(LtgSession *s, LtgShAlloc *a, uint64_t *used_bytes,
				  uint64_t *total_bytes)
{
	s->port->lock(s->port, LTG_LOCK_ALLOC, LTG_SHARED);
	*used_bytes = a->used_bytes;
	*total_bytes = a->end - a->first;
	s->port->unlock(s->port, LTG_LOCK_ALLOC);
}

/* ---- the checker ---- */

typedef struct Tally
{
	uint64_t	used_bytes;
	uint64_t	retired_bytes;
	uint64_t	free_blocks;
	uint64_t	retired_blocks;
} Tally;

static bool
bad(char *msg, size_t msg_size, const char *what, uint64_t offset)
{
	snprintf(msg, msg_size, "shared allocator, block at %llu: %s",
			 (unsigned long long) offset, what);
	return false;
}

static bool
check_blocks(LtgShAlloc *a, Tally *tally, char *msg, size_t msg_size)
{
	uint64_t	offset = a->first;
	uint32_t	prev_size = 0;
	bool		prev_free = false;

	while (offset < a->end)
	{
		Block	   *b = block_at(a, offset);

		if (b->check != block_check(a, b))
			return bad(msg, msg_size, "header overwritten", offset);
		if (b->size < MIN_UNITS || offset + block_bytes(b) > a->end)
			return bad(msg, msg_size, "size is wrong", offset);
		if (b->prev_size != prev_size)
			return bad(msg, msg_size, "size of the block before it is wrong", offset);
		if (b->state == STATE_FREE)
		{
			if (prev_free)
				return bad(msg, msg_size, "free neighbours not merged", offset);
			tally->free_blocks++;
		}
		else if (b->state == STATE_USED || b->state == STATE_RETIRED)
		{
			tally->used_bytes += block_bytes(b);
			tally->retired_bytes += b->state == STATE_RETIRED ? block_bytes(b) : 0;
			tally->retired_blocks += b->state == STATE_RETIRED;
		}
		else
			return bad(msg, msg_size, "unknown state", offset);
		prev_free = b->state == STATE_FREE;
		prev_size = b->size;
		offset += block_bytes(b);
	}
	if (tally->used_bytes != a->used_bytes || tally->retired_bytes != a->retired_bytes)
		return bad(msg, msg_size, "totals are wrong", a->used_bytes);
	return true;
}

static bool
check_queues(LtgShAlloc *a, const Tally *tally, char *msg, size_t msg_size)
{
	uint64_t	free_blocks = 0,
				retired_blocks = 0,
				stamp = 0,
				offset;

	for (uint32_t bin = 0; bin < BINS; bin++)
	{
		uint64_t	prev = NONE;

		if ((a->bin[bin] != NONE) != ((a->bitmap[bin / 64] >> bin % 64 & 1) != 0))
			return bad(msg, msg_size, "bitmap and bin disagree", bin);
		for (offset = a->bin[bin]; offset != NONE; offset = block_at(a, offset)->next)
		{
			Block	   *b = block_at(a, offset);

			if (offset < a->first || offset >= a->end ||
				b->state != STATE_FREE || bin_of(b->size) != bin)
				return bad(msg, msg_size, "block in the wrong bin", offset);
			if (b->prev_or_stamp != prev || ++free_blocks > tally->free_blocks)
				return bad(msg, msg_size, "bin's links are broken", offset);
			prev = offset;
		}
	}
	for (offset = a->retire_head; offset != NONE; offset = block_at(a, offset)->next)
	{
		Block	   *b = block_at(a, offset);

		if (offset < a->first || offset >= a->end || b->state != STATE_RETIRED ||
			b->prev_or_stamp < stamp || ++retired_blocks > tally->retired_blocks)
			return bad(msg, msg_size, "retire queue is broken", offset);
		stamp = b->prev_or_stamp;
	}
	if (free_blocks != tally->free_blocks || retired_blocks != tally->retired_blocks)
		return bad(msg, msg_size, "a block is in no list", free_blocks);
	return true;
}

bool
ltg_shalloc_check(LtgSession *s, LtgShAlloc *a, char *msg, size_t msg_size)
{
	Tally		tally = {0};
	bool		ok;

	s->port->lock(s->port, LTG_LOCK_ALLOC, LTG_EXCLUSIVE);
	ok = check_blocks(a, &tally, msg, msg_size) &&
		check_queues(a, &tally, msg, msg_size);
	s->port->unlock(s->port, LTG_LOCK_ALLOC);
	return ok;
}
