/*
 * shalloc.h
 *	  Allocator for the bounded metadata part of the shared region: stores,
 *	  run sets, file table entries.
 *
 * Guarded by LTG_LOCK_ALLOC, taken inside.  Returns NULL when the region is
 * used up (the caller fails with LTG_NOSHMEM).  Blocks are 16-byte aligned.
 * ltg_shretire defers the free until the epoch has passed; the retire list is
 * threaded through the retired blocks themselves, so retiring cannot fail.
 */
#ifndef LTG_SHALLOC_H
#define LTG_SHALLOC_H

#include "base/epoch.h"

typedef struct LtgShAlloc LtgShAlloc;

extern size_t ltg_shalloc_overhead(void);
extern LtgShAlloc *ltg_shalloc_init(void *mem, size_t size);
extern void *ltg_shalloc(LtgSession *s, LtgShAlloc *a, size_t size);
extern void ltg_shfree(LtgSession *s, LtgShAlloc *a, void *ptr);
extern void ltg_shretire(LtgSession *s, LtgShAlloc *a, LtgEpochTable *t, void *ptr);
/* Free what has passed; called by the allocating paths and background work. */
extern void ltg_shreclaim(LtgSession *s, LtgShAlloc *a, LtgEpochTable *t);
extern void ltg_shalloc_stats(LtgSession *s, LtgShAlloc *a, uint64_t *used_bytes,
							  uint64_t *total_bytes);
/* Walks every block; false and a message when the heap is damaged. */
extern bool ltg_shalloc_check(LtgSession *s, LtgShAlloc *a, char *msg, size_t msg_size);

#endif
