/*
 * pieces.h
 *	  A payload as pieces of another one, its base, and bytes of its own.
 *
 * It is described by steps until it is complete: so many bytes of its own, then so
 * many of its base (0: all that are missing), from where the last piece ended plus
 * a distance.  Steps are varints.  Steps and bytes of many payloads are gathered
 * apart, since steps of different rows are alike.
 */
#ifndef LTG_PIECES_H
#define LTG_PIECES_H

#include "base/coding.h"

typedef struct LtgSteps
{
	uint8_t    *steps;			/* NULL: both are only counted */
	uint8_t    *bytes;
	uint64_t	step_bytes;
	uint64_t	own_bytes;
} LtgSteps;

/* Add a payload; len > 0. */
extern void ltg_pieces_put(LtgSteps *s, const uint8_t *base, uint32_t base_len,
						   const uint8_t *payload, uint32_t len);
/* Make it again.  False when the bytes make no sense. */
extern bool ltg_pieces_get(LtgReader *steps, LtgReader *own_bytes, const uint8_t *base,
						   uint32_t base_len, uint8_t *to, uint32_t len);

#endif
