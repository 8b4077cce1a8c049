/*
 * pace.h
 *	  How fast background work may go, and how fast writers may.
 *
 * Rate limit
 *	 One token bucket for the bytes that background work reads and writes, in
 *	 three classes.  Each class has a clock that runs ahead of time by what it has
 *	 taken; it waits until time has caught up.  What a class takes also moves the
 *	 clocks of the lower classes: they get what is left.  Flushes are counted but
 *	 never wait, because writers would wait for them; neither does what
 *	 somebody has asked for.  No clock runs ahead by more than a minute, whatever
 *	 these have taken: others must get on, if writers are not to be slowed down
 *	 for as long.
 *
 * Writers
 *	 While flushing or merging falls behind, writers have to pay for each byte
 *	 with time, from a clock of their own, so that they slow down evenly and
 *	 early, rather than stop when the last arena is full.  The price is reviewed
 *	 whenever a generation is frozen or flushed, or a merge ends.  A debt of more
 *	 than a second is forgiven: nobody waits for so long at a time.
 *
 * Thread safety: everything; no locks.  Waits hold nothing.
 */
#ifndef LTG_PACE_H
#define LTG_PACE_H

#include "tree/shared.h"

/* Count bytes; no wait. */
extern void ltg_pace_take(LtgSession *s, LtgWorkClass class, uint64_t bytes);
/* Wait until the class may go on.  LTG_INTERRUPTED.  REQUIRES no epoch, no lock. */
extern LtgStatus ltg_pace_wait(LtgSession *s, LtgWorkClass class) LTG_MUST_CHECK;
extern bool ltg_pace_must_wait(LtgSession *s, LtgWorkClass class);
/* Bytes after which the limit should be asked again. */
extern uint64_t ltg_pace_slice(LtgSession *s, uint64_t most);

/* A flush had better be short: arenas are scarce, background work is
 * limited, or somebody can do nothing else until it is done. */
extern bool ltg_flush_is_pressed(LtgSession *s);

/* Events that the price of writing depends on. */
/* A generation with `bytes` in it; seconds are of the host's clock. */
extern void ltg_pace_frozen(LtgSession *s, uint64_t bytes);
extern void ltg_pace_flushed(LtgSession *s, uint64_t bytes, uint64_t duration_us);
extern void ltg_pace_merged(LtgSession *s);

#endif
