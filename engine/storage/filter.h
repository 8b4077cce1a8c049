/*
 * filter.h
 *	  Blocked Bloom filter: one cache line of 64 bytes per key.
 *
 * A filter is `blocks` filter blocks of `lines` lines each.  The hash alone
 * says which block, which line in it, and which bits of the line, so a probe
 * reads one line of one block.
 */
#ifndef LTG_FILTER_H
#define LTG_FILTER_H

#include "storage/format.h"

typedef struct LtgFilterShape
{
	uint32_t	blocks;			/* 0: no filter */
	uint32_t	lines;			/* of each block */
} LtgFilterShape;

/* For so many keys; a block is at most block_bytes (>= 64). */
extern LtgFilterShape ltg_filter_shape(uint64_t keys, uint32_t bits_per_key,
									   uint32_t block_bytes);
/* Bits set per key, from the filter's precision.  Part of the format. */
#define LTG_FILTER_PROBES 6

/* Which line of which block. */
static inline uint32_t
ltg_filter_place(const LtgFilterShape *f, uint64_t hash, uint32_t *line)
{
	unsigned __int128 product = (unsigned __int128) hash * f->blocks;

	*line = (uint32_t) ((uint64_t) product * (unsigned __int128) f->lines >> 64);
	return (uint32_t) (product >> 64);
}

/*
 * A filter whose number of keys is not known beforehand: begin with the shape
 * ltg_filter_wide gives for the most there may be, then fold it to what there
 * are (keeps what was added; at most about twice as large as the exact shape).
 */
extern LtgFilterShape ltg_filter_wide(uint64_t keys_max, uint32_t bits_per_key);
extern LtgFilterShape ltg_filter_fold(uint8_t *bits, const LtgFilterShape *wide, uint64_t keys,
									  uint32_t bits_per_key, uint32_t block_bytes);

/* bits: all blocks of the filter, one after the other. */
extern void ltg_filter_add(uint8_t *bits, const LtgFilterShape *f, uint64_t hash);
/* line: the 64 bytes that ltg_filter_place names. False: certainly absent. */
extern bool ltg_filter_test(const uint8_t *line, uint64_t hash);

#endif
