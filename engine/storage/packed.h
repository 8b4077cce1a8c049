/*
 * packed.h
 *	  Compressed blocks in the shared region, behind the cache of decompressed
 *	  ones: in the same memory they are several times as many.  A block found here
 *	  costs a decompression, but no read.
 *
 * Blocks are stored as they are in the file, envelope included, one after the
 * other in rings.  Replacement is S3-FIFO (Yang et al., SOSP 2023): a small ring
 * takes what is new; what is used again there, or comes back soon after it left,
 * goes to the main ring, where the hand of a clock passes over it once for each
 * use.  So a scan goes through the small ring only.
 *
 * Readers copy out under a shared lock, a few microseconds in all beside the
 * decompression that follows.  The memory is split into shards with a lock each.
 */
#ifndef LTG_PACKED_H
#define LTG_PACKED_H

#include "base/session.h"

typedef struct LtgPacked LtgPacked;

typedef struct LtgPackedStats
{
	uint64_t	hits, misses, inserts, evictions;
	uint64_t	blocks, bytes_used, bytes_total;
} LtgPackedStats;

/* block_size: of a decompressed block.  NULL when size is too small for use. */
extern LtgPacked *ltg_packed_init(void *mem, size_t size, uint32_t block_size);
/* Copies exactly len bytes to dst.  note: counts as a use. */
extern bool ltg_packed_get(LtgSession *s, LtgPacked *p, LtgFileId file, uint64_t offset,
						   uint8_t *dst, uint32_t len, bool note);
/* Keep a copy, if it fits. */
extern void ltg_packed_put(LtgSession *s, LtgPacked *p, LtgFileId file, uint64_t offset,
						   const uint8_t *src, uint32_t len);
extern void ltg_packed_stats(LtgSession *s, LtgPacked *p, LtgPackedStats *stats);
/* Internal consistency; REQUIRES quiescence. */
extern bool ltg_packed_check(LtgSession *s, LtgPacked *p, char *msg, size_t msg_size);

#endif
