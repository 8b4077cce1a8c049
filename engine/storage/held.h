/*
 * held.h
 *	  The first data blocks of a run, held back in memory until it is decided
 *	  how the run is compressed, and the decision.
 */
#ifndef LTG_HELD_H
#define LTG_HELD_H

#include "storage/block.h"
#include "storage/compress.h"

#define LTG_HELD_DEFAULT (1024 * 1024)	/* raw bytes that are looked at */
/* A trained dictionary has a 64th of the held bytes, within these bounds. */
#define LTG_DICT_BYTES_MIN 1024
#define LTG_DICT_BYTES_MAX (8 * 1024)

typedef struct LtgHeldBlock
{
	size_t		raw_off;		/* in bytes */
	uint32_t	raw_len;
	size_t		key_off;		/* its first key, in keys */
	uint32_t	key_len, need;	/* as in LtgInnerItem */
	bool		rest;			/* goes on with the key of the block before */
} LtgHeldBlock;

/* Zero-initialise. */
typedef struct LtgHeld
{
	LtgHeldBlock *block;
	uint32_t	n;
	size_t		cap;			/* bytes */
	uint8_t    *bytes;			/* the blocks, one after the other */
	size_t		used, bytes_cap;
	uint8_t    *keys;
	size_t		keys_used, keys_cap;
} LtgHeld;

extern void ltg_held_free(LtgSession *s, LtgHeld *h);
extern void ltg_held_clear(LtgHeld *h);
/* Add a block; item has its first key. */
extern LtgStatus ltg_held_add(LtgSession *s, LtgHeld *h, const uint8_t *raw, uint32_t raw_len,
							  const LtgInnerItem *item, bool rest) LTG_MUST_CHECK;
/*
 * Look at the held blocks and prepare the compressor for the run.  *dict is the
 * dictionary it is to be written with, NULL for none: from port->alloc, or
 * opt->dict itself.
 */
extern LtgStatus ltg_held_decide(LtgSession *s, const LtgHeld *h, const LtgRunOptions *opt,
								 LtgCompressor *c, const uint8_t **dict, uint32_t *len) LTG_MUST_CHECK;

#endif
