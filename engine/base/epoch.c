/*
 * epoch.c
 *	  Epoch-based reclamation over the shared region.
 *
 * The table holds a global epoch and one slot per session.  A slot is 0 while
 * its session is outside; inside, it holds a value of the global epoch read no
 * later than the slot became visible.
 *
 * Why it is right
 *	 E1. A stamp is the value the global epoch is advanced to after something
 *		 was unlinked.
 *	 E2. A session enters by storing to its slot and then passing a full fence
 *		 before it follows any shared pointer.  ltg_epoch_oldest passes a full
 *		 fence before it looks at the slots.  Of two full fences one is first:
 *		 either the scan sees the slot, or the session sees everything that
 *		 was unlinked before the scan began.
 *	 E3. A slot's value is at most the global epoch at the time of its fence,
 *		 so a session that could still see what was unlinked at a stamp holds
 *		 a smaller value than the stamp.
 *	 E4. Leaving is a release store, the scan loads with acquire: what the
 *		 session read inside the epoch was read before the memory is reused.
 *	 E5. The high-water mark of claimed slots only grows, and grows before a
 *		 slot is used for the first time, so E2 covers it as well.
 *
 * Lock order: none are taken.  Safe for threads and processes.
 */
#include "base/epoch.h"

typedef struct EpochSlot
{
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t epoch;	/* 0: outside */
	_Atomic uint32_t claimed;
} EpochSlot;

struct LtgEpochTable
{
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t global;
	/* Every stamp up to here is known to have passed: saves most scans. */
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t passed;
	_Alignas(LTG_CACHE_LINE) uint32_t max_sessions;
	_Atomic uint32_t high_water;
	EpochSlot	slot[];
};

/*
 * A full fence.  ThreadSanitizer does not model fences (and gcc says so), which
 * does no harm: every edge it needs goes through acquire and release operations.
 */
static inline void
full_fence(void)
{
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
	atomic_thread_fence(memory_order_seq_cst);
#pragma GCC diagnostic pop
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

size_t
ltg_epoch_table_size(uint32_t max_sessions)
{
	return sizeof(LtgEpochTable) + (size_t) max_sessions * sizeof(EpochSlot);
}

/* REQUIRES: t is aligned to a cache line. */
void
ltg_epoch_table_init(LtgEpochTable *t, uint32_t max_sessions)
{
	LTG_ASSERT((uintptr_t) t % LTG_CACHE_LINE == 0);
	atomic_init(&t->global, 1);
	atomic_init(&t->passed, 0);
	t->max_sessions = max_sessions;
	atomic_init(&t->high_water, 0);
	for (uint32_t i = 0; i < max_sessions; i++)
	{
		atomic_init(&t->slot[i].epoch, 0);
		atomic_init(&t->slot[i].claimed, 0);
	}
}

LtgStatus
ltg_epoch_claim(LtgEpochTable *t, uint32_t *slot)
{
	for (uint32_t i = 0; i < t->max_sessions; i++)
	{
		uint32_t	free_ = 0;
		uint32_t	high;

		if (atomic_load_explicit(&t->slot[i].claimed, memory_order_relaxed) != 0)
			continue;
		if (!atomic_compare_exchange_strong_explicit(&t->slot[i].claimed, &free_, 1,
													 memory_order_acquire,
													 memory_order_relaxed))
			continue;
		high = atomic_load_explicit(&t->high_water, memory_order_relaxed);
		while (high < i + 1 &&
			   !atomic_compare_exchange_weak_explicit(&t->high_water, &high, i + 1,
													  memory_order_seq_cst,
													  memory_order_relaxed))
			;
		*slot = i;
		return LTG_OK;
	}
	return LTG_NOSHMEM;
}

void
ltg_epoch_unclaim(LtgEpochTable *t, uint32_t slot)
{
	LTG_ASSERT(slot < t->max_sessions);
	LTG_ASSERT(atomic_load(&t->slot[slot].claimed) == 1);
	atomic_store_explicit(&t->slot[slot].epoch, 0, memory_order_release);
	atomic_store_explicit(&t->slot[slot].claimed, 0, memory_order_release);
}

void
ltg_epoch_enter(LtgSession *s)
{
	LtgEpochTable *t = s->epochs;
	_Atomic uint64_t *mine;
	uint64_t	epoch;

	if (s->epoch_depth++ > 0)
		return;
	LTG_ASSERT(s->epoch_slot < t->max_sessions);
	mine = &t->slot[s->epoch_slot].epoch;
	LTG_ASSERT(atomic_load_explicit(mine, memory_order_relaxed) == 0);
	epoch = atomic_load_explicit(&t->global, memory_order_acquire);
	for (;;)
	{
		uint64_t	now;

		atomic_store_explicit(mine, epoch, memory_order_release);
		full_fence();
		now = atomic_load_explicit(&t->global, memory_order_acquire);
		/*
		 * An outdated value would be safe (E2, E3), but it would hold back
		 * reclamation for as long as this session stays.
		 */
		if (LTG_LIKELY(now == epoch))
			break;
		epoch = now;
	}
}

void
ltg_epoch_leave(LtgSession *s)
{
	LTG_ASSERT(s->epoch_depth > 0);
	if (--s->epoch_depth > 0)
		return;
	atomic_store_explicit(&s->epochs->slot[s->epoch_slot].epoch, 0,
						  memory_order_release);
}

void
ltg_epoch_reset(LtgSession *s)
{
	s->epoch_depth = 0;
	atomic_store_explicit(&s->epochs->slot[s->epoch_slot].epoch, 0,
						  memory_order_release);
}

uint64_t
ltg_epoch_stamp(LtgEpochTable *t)
{
	return atomic_fetch_add_explicit(&t->global, 1, memory_order_seq_cst) + 1;
}

uint64_t
ltg_epoch_oldest(LtgEpochTable *t)
{
	uint64_t	oldest = atomic_load_explicit(&t->global, memory_order_seq_cst);
	uint64_t	passed;
	uint32_t	high;

	full_fence();
	high = atomic_load_explicit(&t->high_water, memory_order_seq_cst);
	for (uint32_t i = 0; i < high; i++)
	{
		uint64_t	epoch = atomic_load_explicit(&t->slot[i].epoch,
												 memory_order_acquire);

		if (epoch != 0 && epoch < oldest)
			oldest = epoch;
	}
	/*
	 * Release: whoever trusts the mark inherits what this scan has acquired
	 * from the sessions that left.
	 */
	passed = atomic_load_explicit(&t->passed, memory_order_relaxed);
	while (passed < oldest &&
		   !atomic_compare_exchange_weak_explicit(&t->passed, &passed, oldest,
												  memory_order_acq_rel,
												  memory_order_relaxed))
		;
	return oldest;
}

bool
ltg_epoch_passed(LtgEpochTable *t, uint64_t stamp)
{
	if (stamp <= atomic_load_explicit(&t->passed, memory_order_acquire))
		return true;
	return stamp <= ltg_epoch_oldest(t);
}
