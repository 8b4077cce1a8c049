/*
 * values.h
 *	  Arrays of bytes of which few are different.
 *
 * Where there are at most 16 values, each byte is stored as a number of 0, 1, 2 or
 * 4 bits.  Compressors have one set of codes for a whole block, of which texts have
 * the short ones, so small numbers take a byte each if they are left to them.
 */
#ifndef LTG_VALUES_H
#define LTG_VALUES_H

#include "base/coding.h"

/* Returns what is behind the array; at most n + 1 bytes.  n is at most 2^29. */
extern uint8_t *ltg_values_put(uint8_t *dst, const uint8_t *src, uint32_t n);
/* False when the bytes make no sense. */
extern bool ltg_values_get(LtgReader *r, uint32_t n, uint8_t *dst);

#endif
