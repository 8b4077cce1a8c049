/*
 * columns.c
 *	  See columns.h.
 *
 * Both ways go by tiles of 8 columns and 16 rows in vector registers where there
 * are some: back to rows is on the way of every cache miss, and merges transpose
 * all they write.  A tile's rows are pieces of 8 bytes, which is what payloads are
 * aligned to.
 */
#include "storage/columns.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/coding.h"
#include "storage/format.h"

/* The payload area: rows of `stride` bytes, the last of them cut. */
typedef struct Area
{
	uint32_t	rows;			/* whole ones */
	uint32_t	rest;			/* bytes of the cut one */
	uint32_t	stride;
} Area;

static Area
area_of(uint32_t bytes, uint32_t stride)
{
	Area		a = {bytes / stride, bytes % stride, stride};

	return a;
}

/* Rows that have column c. */
static inline uint32_t
column_rows(const Area *a, uint32_t c)
{
	return a->rows + (c < a->rest ? 1 : 0);
}

static uint32_t
payload_end(const uint8_t *block, uint32_t i)
{
	const uint8_t *index = block + ltg_load32(block + LTG_BH_PAY_INDEX);

	return block[LTG_BH_PAY_WIDTH] == 2 ? ltg_load16(index + 2 * (size_t) i) :
		ltg_load32(index + 4 * (size_t) i);
}

static uint32_t
aligned(uint32_t len)
{
	return (len + LTG_STRIDE_UNIT - 1) & ~(uint32_t) (LTG_STRIDE_UNIT - 1);
}

uint32_t
ltg_columns_stride(const uint8_t *block, uint32_t len)
{
	uint32_t	n = ltg_load32(block + LTG_BH_N);
	bool		indexed = block[LTG_BH_PAY_WIDTH] != 0;
	uint32_t	stride;

	if (n < LTG_COLUMNS_ROWS_MIN)
		return 0;
	stride = aligned(indexed ? payload_end(block, 0) : ltg_load32(block + LTG_BH_PAY_LEN));
	if (stride == 0 || stride > LTG_STRIDE_MAX)
		return 0;
	for (uint32_t i = 1; indexed && i < n; i++)
		if (aligned(payload_end(block, i)) != (i + 1) * stride)
			return 0;
	return len - ltg_load32(block + LTG_BH_PAYLOADS) > stride ? stride : 0;
}

/* ---- to columns ---- */

/* Of d[2..n) of the column's differences d: how many are not 0, and not the one before. */
static uint32_t
count_changes(const uint8_t *column, uint32_t rows, uint32_t *changes, uint32_t *jumps)
{
	uint32_t	r = 2;

	*changes = *jumps = 0;
#ifdef __SSE2__
	{
		const __m128i zero = _mm_setzero_si128();
		__m128i		same = zero;	/* two sums each */
		__m128i		steady = zero;
		uint64_t	sum[2];

		for (; r + 16 <= rows; r += 16)
		{
			__m128i		x0 = _mm_loadu_si128((const __m128i *) (const void *) (column + r));
			__m128i		x1 = _mm_loadu_si128((const __m128i *) (const void *) (column + r - 1));
			__m128i		x2 = _mm_loadu_si128((const __m128i *) (const void *) (column + r - 2));
			__m128i		eq = _mm_cmpeq_epi8(x0, x1);
			__m128i		eqd = _mm_cmpeq_epi8(_mm_sub_epi8(x0, x1), _mm_sub_epi8(x1, x2));

			same = _mm_add_epi64(same, _mm_sad_epu8(_mm_sub_epi8(zero, eq), zero));
			steady = _mm_add_epi64(steady, _mm_sad_epu8(_mm_sub_epi8(zero, eqd), zero));
		}
		_mm_storeu_si128((__m128i *) (void *) sum, same);
		*changes = r - 2 - (uint32_t) (sum[0] + sum[1]);
		_mm_storeu_si128((__m128i *) (void *) sum, steady);
		*jumps = r - 2 - (uint32_t) (sum[0] + sum[1]);
	}
#endif
	return r;
}

/* Differences pay where they make long stretches of one value. */
static bool
differences_pay(const uint8_t *column, uint32_t rows)
{
	uint32_t	changes, jumps;

	for (uint32_t r = count_changes(column, rows, &changes, &jumps); r < rows; r++)
	{
		uint8_t		d = (uint8_t) (column[r] - column[r - 1]);

		changes += d != 0;
		jumps += d != (uint8_t) (column[r - 1] - column[r - 2]);
	}
	return jumps < changes / 2;
}

/* Rows of 8 bytes each to 8 columns; returns the number of rows done. */
static uint32_t
tiles_to_columns(const uint8_t *rows, uint32_t n, uint32_t stride, uint8_t *const column[8])
{
	uint32_t	r = 0;

#ifdef __SSE2__
	for (; r + 16 <= n; r += 16)
	{
		__m128i		x[16],
					y[8];

		for (uint32_t i = 0; i < 16; i++)
			x[i] = _mm_loadl_epi64((const __m128i *) (const void *) (rows + (size_t) (r + i) * stride));
		for (int i = 0; i < 8; i++)
			y[i] = _mm_unpacklo_epi8(x[i], x[i + 8]);
		/* now rows i, i + 4, i + 8, i + 12 of the columns 0-3, then of 4-7 */
		for (int i = 0; i < 4; i++)
		{
			x[i] = _mm_unpacklo_epi8(y[i], y[i + 4]);
			x[i + 4] = _mm_unpackhi_epi8(y[i], y[i + 4]);
		}
		for (int half = 0; half < 2; half++)
		{
			const __m128i *h = x + 4 * half;
			__m128i		even[2] = {_mm_unpacklo_epi8(h[0], h[2]), _mm_unpackhi_epi8(h[0], h[2])};
			__m128i		odd[2] = {_mm_unpacklo_epi8(h[1], h[3]), _mm_unpackhi_epi8(h[1], h[3])};

			for (int i = 0; i < 2; i++)
			{
				uint8_t    *const *to = column + 4 * half + 2 * i;

				_mm_storeu_si128((__m128i *) (void *) (to[0] + r), _mm_unpacklo_epi8(even[i], odd[i]));
				_mm_storeu_si128((__m128i *) (void *) (to[1] + r), _mm_unpackhi_epi8(even[i], odd[i]));
			}
		}
	}
#else
	(void) rows;
	(void) n;
	(void) stride;
	(void) column;
#endif
	return r;
}

static void
take_differences(uint8_t *column, uint32_t n)
{
	uint32_t	r = n;

	LTG_ASSERT(n > 0);
#ifdef __SSE2__
	for (; r > 16; r -= 16)
	{
		__m128i    *to = (__m128i *) (void *) (column + r - 16);
		__m128i		before = _mm_loadu_si128((const __m128i *) (const void *) (column + r - 17));

		_mm_storeu_si128(to, _mm_sub_epi8(_mm_loadu_si128(to), before));
	}
#endif
	while (--r > 0)
		column[r] = (uint8_t) (column[r] - column[r - 1]);
}

void
ltg_columns_pack_rows(const uint8_t *rows, uint32_t bytes, uint32_t stride, uint8_t *packed)
{
	Area		a = area_of(bytes, stride);
	uint8_t    *bits = packed;
	uint8_t    *next = bits + ltg_columns_extra(stride);

	memset(bits, 0, ltg_columns_extra(stride));
	for (uint32_t c = 0; c < stride; c += 8)
	{
		uint8_t    *column[8];
		uint32_t	r;

		for (uint32_t i = 0; i < 8; i++)
		{
			column[i] = next;
			next += column_rows(&a, c + i);
		}
		r = tiles_to_columns(rows + c, a.rows, stride, column);
		for (; r < a.rows; r++)
			for (uint32_t i = 0; i < 8; i++)
				column[i][r] = rows[(size_t) r * stride + c + i];
		for (uint32_t i = 0; i < 8 && c + i < a.rest; i++)
			column[i][a.rows] = rows[(size_t) a.rows * stride + c + i];
		for (uint32_t i = 0; i < 8; i++)
			if (differences_pay(column[i], column_rows(&a, c + i)))
			{
				bits[c / 8] |= (uint8_t) (1 << i);
				take_differences(column[i], column_rows(&a, c + i));
			}
	}
}

void
ltg_columns_pack(const uint8_t *block, uint32_t len, uint32_t stride, uint8_t *dst)
{
	uint32_t	start = ltg_load32(block + LTG_BH_PAYLOADS);

	memcpy(dst, block, start);
	ltg_columns_pack_rows(block + start, len - start, stride, dst + start);
}

/* ---- back to rows ---- */

/* 8 columns to rows of 8 bytes each; returns the number of rows done. */
static uint32_t
tiles_to_rows(const uint8_t *const column[8], uint32_t rows, uint32_t stride, uint8_t *dst)
{
	uint32_t	r = 0;

#ifdef __SSE2__
	for (; r + 16 <= rows; r += 16)
	{
		__m128i		x[8],
					y[8];

		for (int i = 0; i < 8; i++)
			x[i] = _mm_loadu_si128((const __m128i *) (const void *) (column[i] + r));
		for (int i = 0; i < 4; i++)
		{
			y[i] = _mm_unpacklo_epi8(x[2 * i], x[2 * i + 1]);	/* rows 0-7 */
			y[i + 4] = _mm_unpackhi_epi8(x[2 * i], x[2 * i + 1]);	/* rows 8-15 */
		}
		for (int half = 0; half < 2; half++)
		{
			const __m128i *h = y + 4 * half;
			__m128i		q[4] = {_mm_unpacklo_epi16(h[0], h[1]), _mm_unpackhi_epi16(h[0], h[1]),
				_mm_unpacklo_epi16(h[2], h[3]), _mm_unpackhi_epi16(h[2], h[3])};

			for (int i = 0; i < 4; i++)
			{
				__m128i		two = i % 2 == 0 ? _mm_unpacklo_epi32(q[i / 2], q[i / 2 + 2]) :
					_mm_unpackhi_epi32(q[i / 2], q[i / 2 + 2]);
				uint8_t    *to = dst + (size_t) (r + 8 * (uint32_t) half + 2 * (uint32_t) i) * stride;

				_mm_storel_epi64((__m128i *) (void *) to, two);
				_mm_storel_epi64((__m128i *) (void *) (to + stride), _mm_unpackhi_epi64(two, two));
			}
		}
	}
#else
	(void) column;
	(void) rows;
	(void) stride;
	(void) dst;
#endif
	return r;
}

void
ltg_columns_unpack_rows(uint8_t *packed, uint32_t bytes, uint32_t stride, uint8_t *rows)
{
	Area		a = area_of(bytes, stride);
	const uint8_t *bits = packed;
	uint8_t    *next = packed + ltg_columns_extra(stride);

	for (uint32_t c = 0; c < stride; c += 8)
	{
		const uint8_t *column[8];
		uint32_t	r;

		for (uint32_t i = 0; i < 8; i++)
		{
			uint32_t	n = column_rows(&a, c + i);

			column[i] = next;
			if ((bits[c / 8] >> i & 1) != 0)
				for (uint32_t k = 1; k < n; k++)
					next[k] = (uint8_t) (next[k] + next[k - 1]);
			next += n;
		}
		r = tiles_to_rows(column, a.rows, stride, rows + c);
		for (; r < a.rows; r++)
			for (uint32_t i = 0; i < 8; i++)
				rows[(size_t) r * stride + c + i] = column[i][r];
		for (uint32_t i = 0; i < 8 && c + i < a.rest; i++)
			rows[(size_t) a.rows * stride + c + i] = column[i][a.rows];
	}
}

bool
ltg_columns_unpack(uint8_t *packed, uint32_t len, uint32_t stride, uint8_t *dst)
{
	uint32_t	start;

	if (len < LTG_BH_BYTES || stride == 0)
		return false;
	start = ltg_load32(packed + LTG_BH_PAYLOADS);
	if (start < LTG_BH_BYTES || start > len)
		return false;
	memcpy(dst, packed, start);
	ltg_columns_unpack_rows(packed + start, len - start, stride, dst + start);
	return true;
}
