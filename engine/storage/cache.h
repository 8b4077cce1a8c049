/*
 * cache.h
 *	  The block cache: decompressed blocks of immutable files in the shared
 *	  region, bounded, replaced by CAR (Bansal and Modha, FAST 2004), the clock
 *	  form of ARC: two clocks T1, T2, two ghost lists B1, B2, and the adaptation
 *	  of the target size p.  Three things are added: when a session soon looks up
 *	  again the block that it entered last, that is still the same use of it; and
 *	  when next to nothing is hit (a loop over more than the cache), most of the
 *	  cache is kept as it is for a while, to see whether that brings hits; and
 *	  not every block that a point read misses gets a frame (ltg_cache_wants).
 *
 * A hit takes no lock and writes to no shared line, except that it sets the
 * frame's reference bit if that is not set already.  Readers are protected by
 * their epoch: an evicted frame is unlinked from the hash, stamped, and reused
 * only when its epoch has passed.  A miss takes LTG_LOCK_CACHE briefly, never
 * during I/O.  When no frame can be had at once, reserve returns NULL and the
 * reader uses private memory: nobody ever waits for a frame.
 *
 * Frames have one fixed size (LtgConfig.block_size + LTG_FRAME_SLACK); larger
 * blocks bypass the cache.
 */
#ifndef LTG_CACHE_H
#define LTG_CACHE_H

#include "base/epoch.h"

/* What a decompressed block may take beyond LtgConfig.block_size and still be
 * cached.  Blocks end before the entry that would make them larger than that;
 * only a single key or a handful of long separators does. */
#define LTG_FRAME_SLACK 64

typedef struct LtgCache LtgCache;
typedef struct LtgFrame LtgFrame;

typedef struct LtgCacheStats
{
	uint64_t	hits, misses, ghost_hits_recent, ghost_hits_frequent;
	uint64_t	evictions, bypasses;
	uint64_t	frames, frames_used, frame_bytes;
	uint64_t	t1, t2, b1, b2, p;
	uint64_t	filling;		/* private to a session that reads the block */
	uint64_t	leaving;		/* evicted, but a reader may still be at them */
	bool		keeping;		/* most of the cache is kept as it is for now */
} LtgCacheStats;

/* Number of frames is what fits in size bytes, directory included. */
extern LtgCache *ltg_cache_init(void *mem, size_t size, uint32_t frame_size);

/*
 * REQUIRES: inside an epoch.  The block's bytes, 8-byte aligned, immutable,
 * valid until the epoch is left; NULL on a miss.
 */
extern const uint8_t *ltg_cache_lookup(LtgSession *s, LtgCache *c, LtgFileId file,
									   uint64_t offset, uint32_t *len);
/* Like lookup, but counts nothing and touches no reference bit. */
extern const uint8_t *ltg_cache_peek(LtgSession *s, LtgCache *c, LtgFileId file,
									 uint64_t offset, uint32_t *len);

/*
 * Prefetch, in two steps: for the block that is read next what its bucket, which
 * should have been fetched before, leads to; for the one behind it the bucket.
 * An offset of 0 is none.  REQUIRES an epoch.
 */
extern void ltg_cache_prefetch(const LtgCache *c, LtgFileId file, uint64_t next, uint64_t after);

/*
 * A point read has missed the block: should it take another one's place?  Always
 * while the cache has room, and when it is missed again soon; else one time in
 * four.  REQUIRES: inside an epoch.
 */
extern bool ltg_cache_wants(LtgSession *s, LtgCache *c, LtgFileId file, uint64_t offset);

/*
 * A private frame to fill for (file, offset), or NULL (too large, or none to
 * be had now).  Must be followed by publish or abandon before the epoch ends.
 */
extern LtgFrame *ltg_cache_reserve(LtgSession *s, LtgCache *c, uint32_t len);
extern uint8_t *ltg_frame_data(LtgFrame *f);
/*
 * Enter the filled frame under its name, or, when another session was faster,
 * give it back and return the other's bytes.  Valid until the epoch is left.
 */
extern const uint8_t *ltg_cache_publish(LtgSession *s, LtgCache *c, LtgFrame *f,
										LtgFileId file, uint64_t offset, uint32_t len);
extern void ltg_cache_abandon(LtgSession *s, LtgCache *c, LtgFrame *f);
/* Forget all blocks of a removed file (best effort, background). */
extern void ltg_cache_drop_file(LtgSession *s, LtgCache *c, LtgFileId file);
/* Every frame has a block: another one would take its place. */
extern bool ltg_cache_full(LtgSession *s, LtgCache *c);
/* The opposite, about now and without a lock: for every block that is read. */
extern bool ltg_cache_has_room(const LtgCache *c);
/* Frames beyond those that can have a block: they wait for epochs to pass. */
extern uint32_t ltg_cache_spare(const LtgCache *c);
/* Make a resident block count as one that is used more than once. */
extern void ltg_cache_touch(LtgSession *s, LtgCache *c, LtgFileId file, uint64_t offset);

#define LTG_HEAT_FREQUENT 2		/* from here on: used more than once */
typedef struct LtgCachedBlock
{
	LtgFileId	file;
	uint64_t	offset;
	uint8_t		heat;			/* 0..3 */
} LtgCachedBlock;

/* Up to max resident blocks, in no order; about now: takes its time. */
extern uint32_t ltg_cache_list(LtgSession *s, LtgCache *c, LtgCachedBlock *list, uint32_t max);
extern void ltg_cache_stats(LtgSession *s, LtgCache *c, LtgCacheStats *stats);
/* Internal consistency; REQUIRES quiescence. False and a message if broken. */
extern bool ltg_cache_check(LtgSession *s, LtgCache *c, char *msg, size_t msg_size);

#endif
