/*
 * crc32c.c
 *	  CRC-32C: the processor's instruction where there is one, tables elsewhere.
 *
 * Which one is asked of the processor on every call: __builtin_cpu_supports
 * reads a word that the compiler's runtime filled in when the program started,
 * so there is no state of our own to initialise or to race on.
 *
 * The instruction has a latency of three cycles and a throughput of one, so
 * long inputs are cut into three lanes that run side by side.  Their results
 * are joined by "shifting" a CRC over a lane's length of zeros, which is
 * linear: four tables of 256 give it for a fixed length.  Those tables, like
 * the ones of the portable version, are constants (computed when the library
 * was written, see crc32c_tables.h).
 */
#include "base/crc32c.h"

#include "base/coding.h"
#include "base/crc32c_tables.h"

uint32_t
ltg_crc32c_soft(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint32_t	c = ~crc;

	while (len >= 8)
	{
		uint32_t	a = ltg_load32(p) ^ c;
		uint32_t	b = ltg_load32(p + 4);

		c = crc_table[7][a & 0xff] ^ crc_table[6][a >> 8 & 0xff] ^
			crc_table[5][a >> 16 & 0xff] ^ crc_table[4][a >> 24] ^
			crc_table[3][b & 0xff] ^ crc_table[2][b >> 8 & 0xff] ^
			crc_table[1][b >> 16 & 0xff] ^ crc_table[0][b >> 24];
		p += 8;
		len -= 8;
	}
	while (len-- > 0)
		c = crc_table[0][(c ^ *p++) & 0xff] ^ c >> 8;
	return ~c;
}

#if defined(__x86_64__)

/* CRC (without inversion) of c followed by CRC_LANE zero bytes. */
static inline uint32_t
shift_lane(uint32_t c)
{
	return crc_shift[0][c & 0xff] ^ crc_shift[1][c >> 8 & 0xff] ^
		crc_shift[2][c >> 16 & 0xff] ^ crc_shift[3][c >> 24];
}

__attribute__((target("sse4.2")))
static uint32_t
crc_sse42(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t	c = ~crc;

	while (len >= 3 * CRC_LANE)
	{
		uint64_t	c1 = 0;
		uint64_t	c2 = 0;
		const uint8_t *end = p + CRC_LANE;

		for (; p < end; p += 8)
		{
			c = __builtin_ia32_crc32di(c, ltg_load64(p));
			c1 = __builtin_ia32_crc32di(c1, ltg_load64(p + CRC_LANE));
			c2 = __builtin_ia32_crc32di(c2, ltg_load64(p + 2 * CRC_LANE));
		}
		c = shift_lane((uint32_t) c) ^ c1;
		c = shift_lane((uint32_t) c) ^ c2;
		p += 2 * CRC_LANE;
		len -= 3 * CRC_LANE;
	}
	while (len >= 8)
	{
		c = __builtin_ia32_crc32di(c, ltg_load64(p));
		p += 8;
		len -= 8;
	}
	while (len-- > 0)
		c = __builtin_ia32_crc32qi((uint32_t) c, *p++);
	return ~(uint32_t) c;
}

uint32_t
ltg_crc32c(uint32_t crc, const void *data, size_t len)
{
	if (LTG_LIKELY(__builtin_cpu_supports("sse4.2")))
		return crc_sse42(crc, data, len);
	return ltg_crc32c_soft(crc, data, len);
}

#else

uint32_t
ltg_crc32c(uint32_t crc, const void *data, size_t len)
{
	return ltg_crc32c_soft(crc, data, len);
}

#endif
