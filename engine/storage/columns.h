/*
 * columns.h
 *	  Rows of one width, column by column: what compressors like better.
 *
 * Where the payloads of a data block stand at equal distances, byte k of all of
 * them is often alike, and bytes of counters differ by one from row to row.  So
 * before compression the payload area may be transposed, and columns of bytes
 * may be replaced by the differences of neighbours.  FORMAT.md has the layout.
 */
#ifndef LTG_COLUMNS_H
#define LTG_COLUMNS_H

#include "base/session.h"

#define LTG_STRIDE_UNIT 8
#define LTG_STRIDE_MAX (255 * LTG_STRIDE_UNIT)

/* What the transposed form takes beyond the block: a bit per column. */
static inline uint32_t
ltg_columns_extra(uint32_t stride)
{
	return stride / LTG_STRIDE_UNIT;
}

/* Rows of the same width one after the other: fewer are not worth it. */
#define LTG_COLUMNS_ROWS_MIN 8

/* The distance of a data block's payloads, or 0 if it can't be transposed. */
extern uint32_t ltg_columns_stride(const uint8_t *block, uint32_t len);
/* dst has len + ltg_columns_extra(stride) bytes. */
extern void ltg_columns_pack(const uint8_t *block, uint32_t len, uint32_t stride, uint8_t *dst);
/* The block of len bytes from its transposed form, which is used up.  False
 * when the bytes make no sense. */
extern bool ltg_columns_unpack(uint8_t *packed, uint32_t len, uint32_t stride, uint8_t *dst);
/* The same for rows of `bytes` bytes together; packed has ltg_columns_extra(stride)
 * bytes more. */
extern void ltg_columns_pack_rows(const uint8_t *rows, uint32_t bytes, uint32_t stride, uint8_t *packed);
extern void ltg_columns_unpack_rows(uint8_t *packed, uint32_t bytes, uint32_t stride, uint8_t *rows);

#endif
