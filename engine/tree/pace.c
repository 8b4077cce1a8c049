/*
 * pace.c
 *	  See pace.h.
 *
 * The price of writing
 *	 Two things can fall behind.  When arenas run out, writers may fill them as
 *	 fast as flushes empty them, a little slower when none is left.  When a store
 *	 gathers level-0 runs beyond LTG_BACKLOG_SLOW, the allowed rate falls with each
 *	 of them, to next to nothing at LTG_BACKLOG_MAX.  The lower of the two rates
 *	 counts.
 */
#include "tree/pace.h"

#define BURST_US 50000			/* idle time that may be made up for */
#define DEBT_US 60000000		/* of background work: what never waits may take more */
#define WRITE_DEBT_NS 1000000000	/* of all writers; each waits for DELAY_MAX_US at most */
#define NAP_US 50000			/* look again at the limit, and for interrupts */
#define CREDIT_US 100			/* writers don't wait for less */
#define DELAY_MAX_US 50000		/* of one write */
#define ROW_BYTES 96			/* a row's own cost in an arena, about */
#define RATE_MIN (64 * 1024)	/* bytes per second */
#define START_MIN (1024 * 1024) /* slowing down starts there, or above */

/* ---- the token bucket ---- */

void
ltg_set_rate_limit(LtgSession *s, uint64_t bytes_per_second)
{
	LtgPace    *p = &s->shared->pace;

	if (atomic_exchange(&p->limit, bytes_per_second) == bytes_per_second)
		return;
	/* old debts were made at the old rate */
	for (int c = 0; c < LTG_WORK_CLASSES; c++)
		atomic_store(&p->clock_us[c], 0);
}

/* Forward by so much, from `least` on, and not beyond `most`. */
static void
advance(_Atomic uint64_t *clock, uint64_t least, double by, uint64_t most)
{
	uint64_t	old = atomic_load_explicit(clock, memory_order_relaxed);
	uint64_t	neu;

	do
	{
		neu = old < least ? least : old;
		if (neu < most)
			neu = by < (double) (most - neu) ? neu + (uint64_t) by : most;
	} while (!atomic_compare_exchange_weak_explicit(clock, &old, neu, memory_order_relaxed,
													memory_order_relaxed));
}

void
ltg_pace_take(LtgSession *s, LtgWorkClass class, uint64_t bytes)
{
	LtgPace    *p = &s->shared->pace;
	uint64_t	limit = atomic_load_explicit(&p->limit, memory_order_relaxed);
	uint64_t	now;

	if (limit == 0 || bytes == 0)
		return;
	now = s->port->now_us(s->port);
	for (int c = (int) class; c < LTG_WORK_CLASSES; c++)
		advance(&p->clock_us[c], now > BURST_US ? now - BURST_US : 0,
				(double) bytes * 1e6 / (double) limit, now + DEBT_US);
}

bool
ltg_pace_must_wait(LtgSession *s, LtgWorkClass class)
{
	LtgPace    *p = &s->shared->pace;

	return atomic_load_explicit(&p->limit, memory_order_relaxed) != 0 &&
		s->port->pause != NULL &&
		atomic_load_explicit(&p->clock_us[class], memory_order_relaxed) >
		s->port->now_us(s->port);
}

LtgStatus
ltg_pace_wait(LtgSession *s, LtgWorkClass class)
{
	LtgPort    *port = s->port;
	LtgPace    *p = &s->shared->pace;
	uint64_t	began;

	if (!ltg_pace_must_wait(s, class))
		return LTG_OK;
	LTG_ASSERT(s->epoch_depth == 0);
	began = port->now_us(port);
	atomic_fetch_add_explicit(&p->limit_waits, 1, memory_order_relaxed);
	while (ltg_pace_must_wait(s, class) && !port->interrupted(port))
	{
		uint64_t	until = atomic_load_explicit(&p->clock_us[class], memory_order_relaxed);
		uint64_t	now = port->now_us(port);
		uint64_t	nap = until > now ? until - now : 0;

		if (nap > 0)
			port->pause(port, nap < NAP_US ? nap : NAP_US, LTG_PAUSE_LIMIT);
	}
	atomic_fetch_add_explicit(&p->limit_wait_us, port->now_us(port) - began,
							  memory_order_relaxed);
	return port->interrupted(port) ? LTG_INTERRUPTED : LTG_OK;
}

/* An eighth of a second's worth. */
uint64_t
ltg_pace_slice(LtgSession *s, uint64_t most)
{
	uint64_t	limit = atomic_load_explicit(&s->shared->pace.limit, memory_order_relaxed) / 8;

	if (limit == 0 || limit > most)
		return most;
	return limit < 65536 ? 65536 : limit;
}

void
ltg_hurry(LtgSession *s, bool on)
{
	if (on)
		atomic_fetch_add_explicit(&s->shared->hurried, 1, memory_order_relaxed);
	else
		atomic_fetch_sub_explicit(&s->shared->hurried, 1, memory_order_relaxed);
}

bool
ltg_flush_is_pressed(LtgSession *s)
{
	uint32_t	total = s->shared->config.memtable_count;
	const LtgGenList *l;
	uint64_t	arena, room;

	if (atomic_load_explicit(&s->shared->hurried, memory_order_relaxed) > 0)
		return true;
	ltg_epoch_enter(s);
	l = atomic_load_explicit(&s->shared->gens, memory_order_acquire);
	arena = ltg_gen_capacity(l->gen[0]);
	/* what writers can fill before they have to wait */
	room = (total - l->n) * arena + arena - ltg_gen_used(l->gen[0]);
	ltg_epoch_leave(s);
	return room <= (total > 2 ? arena : arena / 2) || ltg_pace_must_wait(s, LTG_WORK_LEVEL0);
}

/* ---- the price of writing ---- */

static void
average(_Atomic uint64_t *rate, uint64_t bytes, uint64_t us)
{
	uint64_t	now = (uint64_t) ((double) bytes * 1e6 / (double) (us + 1));
	uint64_t	old = atomic_load_explicit(rate, memory_order_relaxed);

	atomic_store_explicit(rate, old == 0 ? now : (old * 3 + now) / 4, memory_order_relaxed);
}

/* The rate at which arenas may be filled, as far as arenas are concerned. */
static uint64_t
rate_by_arenas(LtgSession *s)
{
	LtgPace    *p = &s->shared->pace;
	uint64_t	flush = atomic_load_explicit(&p->flush_rate, memory_order_relaxed);
	uint32_t	total = s->shared->config.memtable_count;
	uint32_t	n;

	ltg_epoch_enter(s);
	n = atomic_load_explicit(&s->shared->gens, memory_order_acquire)->n;
	ltg_epoch_leave(s);
	if (flush == 0 || (total > 2 && n + 1 < total) || n < 2)
		return 0;
	/* one is left, or none; with two arenas there is never one left */
	return n < total || total == 2 ? flush : flush - flush / 4;
}

/*
 * As far as level 0 is concerned: from the rate there was, with the cube of the
 * distance to where flushing stops.  Merges end in steps, many runs at a time,
 * so there has to be room for a long one.
 */
static uint64_t
rate_by_backlog(LtgSession *s)
{
	LtgPace    *p = &s->shared->pace;
	uint32_t	backlog = ltg_backlog(s);
	uint64_t	start = atomic_load_explicit(&p->backlog_rate, memory_order_relaxed);
	double		left;

	if (backlog < LTG_BACKLOG_SLOW)
	{
		atomic_store_explicit(&p->backlog_rate, 0, memory_order_relaxed);
		return 0;
	}
	if (start == 0)
	{
		start = atomic_load_explicit(&p->write_rate, memory_order_relaxed);
		if (start < START_MIN)
			start = START_MIN;
		atomic_store_explicit(&p->backlog_rate, start, memory_order_relaxed);
	}
	if (backlog >= LTG_BACKLOG_MAX)
		return RATE_MIN;
	left = (double) (LTG_BACKLOG_MAX - backlog) / (LTG_BACKLOG_MAX - LTG_BACKLOG_SLOW + 1);
	return (uint64_t) ((double) start * left * left * left) + 1;
}

static void
review(LtgSession *s)
{
	LtgPace    *p = &s->shared->pace;
	uint64_t	a = rate_by_arenas(s);
	uint64_t	b = rate_by_backlog(s);

	if (a == 0 || (b != 0 && b < a))
		a = b;
	if (a != 0 && a < RATE_MIN)
		a = RATE_MIN;
	atomic_store_explicit(&p->allowed, a, memory_order_relaxed);
}

void
ltg_pace_frozen(LtgSession *s, uint64_t bytes)
{
	LtgPace    *p = &s->shared->pace;
	uint64_t	now = s->port->now_us(s->port);
	uint64_t	last = atomic_exchange_explicit(&p->frozen_at, now, memory_order_relaxed);

	if (last != 0 && now > last)
		average(&p->write_rate, bytes, now - last);
	review(s);
}

void
ltg_pace_flushed(LtgSession *s, uint64_t bytes, uint64_t duration_us)
{
	/* of next to nothing: says nothing about a full one */
	if (bytes >= s->shared->config.memtable_bytes / 8)
		average(&s->shared->pace.flush_rate, bytes, duration_us);
	review(s);
}

void
ltg_pace_merged(LtgSession *s)
{
	review(s);
}

bool
ltg_writers_are_slowed(LtgSession *s)
{
	return atomic_load_explicit(&s->shared->pace.allowed, memory_order_relaxed) != 0;
}

uint64_t
ltg_write_delay(LtgSession *s, uint64_t bytes)
{
	LtgPace    *p = &s->shared->pace;
	uint64_t	rate = atomic_load_explicit(&p->allowed, memory_order_relaxed);
	uint64_t	now,
				until;

	if (LTG_LIKELY(rate == 0))
		return 0;
	now = s->port->now_us(s->port);
	/* in nanoseconds: a row may cost less than a microsecond */
	advance(&p->write_clock_ns, now * 1000, (double) (bytes + ROW_BYTES) * 1e9 / (double) rate,
			now * 1000 + WRITE_DEBT_NS);
	until = atomic_load_explicit(&p->write_clock_ns, memory_order_relaxed) / 1000;
	if (until < now + CREDIT_US)
		return 0;
	until -= now;
	if (until > DELAY_MAX_US)
		until = DELAY_MAX_US;
	atomic_fetch_add_explicit(&p->write_delays, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&p->write_delay_us, until, memory_order_relaxed);
	return until;
}
