/*
 * epoch.h
 *	  Epoch-based reclamation over the shared region.
 *
 * A reader enters before it follows any pointer into shared structures that
 * may be replaced (generations, run sets, cache frames, stores) and leaves
 * before it returns to its caller's caller: nothing is held across a return to
 * the executor.  What was unlinked is retired with a stamp and may be reused
 * when no session is inside an epoch that began before the stamp.
 *
 * Cost: entering is one store and one full fence on the session's own cache
 * line; leaving is one store.  Nested enters are counted locally.
 *
 * A process that dies inside an epoch: the server restarts the shared region.
 * One that longjmps out: its abort callback calls ltg_epoch_reset().
 */
#ifndef LTG_EPOCH_H
#define LTG_EPOCH_H

#include "base/session.h"

typedef struct LtgEpochTable LtgEpochTable;	/* in the shared region */

extern size_t ltg_epoch_table_size(uint32_t max_sessions);
extern void ltg_epoch_table_init(LtgEpochTable *t, uint32_t max_sessions);

/* Claim/give back a slot; LTG_NOSHMEM if all are taken.  Lock-free. */
extern LtgStatus ltg_epoch_claim(LtgEpochTable *t, uint32_t *slot) LTG_MUST_CHECK;
extern void ltg_epoch_unclaim(LtgEpochTable *t, uint32_t slot);

extern void ltg_epoch_enter(LtgSession *s);
extern void ltg_epoch_leave(LtgSession *s);
/* Leave whatever depth; for abort callbacks and exit. */
extern void ltg_epoch_reset(LtgSession *s);

/* A stamp for something just unlinked (advances the global epoch). */
extern uint64_t ltg_epoch_stamp(LtgEpochTable *t);
/* True when no session can still see what was unlinked at stamp. */
extern bool ltg_epoch_passed(LtgEpochTable *t, uint64_t stamp);
/* Every stamp up to the returned value has passed: one scan for many. */
extern uint64_t ltg_epoch_oldest(LtgEpochTable *t);

#endif
