/*
 * diffs_int.h
 *	  The front of a block with differences, that is, what stands before its
 *	  payloads (diffs_front.c); diffs.c has the payloads.
 */
#ifndef LTG_DIFFS_INT_H
#define LTG_DIFFS_INT_H

#include "base/coding.h"
#include "storage/diffs.h"

/* What a payload takes in a block. */
static inline uint32_t
ltg_diffs_slot(uint32_t len)
{
	return (uint32_t) LTG_ALIGN8((uint64_t) len);
}

/*
 * False where the form is not for this block, or makes no sense.  Looks at the
 * header only, which both forms have.
 */
extern bool ltg_diffs_read_front(const uint8_t *b, uint32_t have, uint32_t len, LtgDiffsFront *f);
/* The same for a block, with the entries: which are older, their order and lengths. */
extern bool ltg_diffs_look_at_front(const uint8_t *block, uint32_t len, LtgDiffsFront *f,
									LtgDiffsEntry *e);
/* Returns what is behind it.  scratch: as many bytes as the block. */
extern uint8_t *ltg_diffs_put_front(uint8_t *dst, const uint8_t *b, const LtgDiffsFront *f,
									const LtgDiffsEntry *e, uint8_t *scratch);
/* To dst, with what look_at_front says of entries; not their payloads' places. */
extern bool ltg_diffs_get_front(LtgReader *r, uint8_t *dst, const LtgDiffsFront *f,
								LtgDiffsEntry *e, uint8_t *scratch);

#endif
