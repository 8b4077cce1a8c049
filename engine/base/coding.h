/*
 * coding.h
 *	  Little-endian integers and varints, unaligned, and a bounds-checked
 *	  reader for bytes that came from disk.
 *
 * The plain load/store functions check nothing: they are for places whose
 * bounds are known.  Everything that parses disk bytes of unknown quality uses
 * LtgReader, which never reads outside its range and remembers that it wanted
 * to (check ltg_reader_ok once, at the end).
 */
#ifndef LTG_CODING_H
#define LTG_CODING_H

#include "base/common.h"

#define LTG_VARINT_MAX 10		/* bytes of the longest varint */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LTG_LE16(x) (x)
#define LTG_LE32(x) (x)
#define LTG_LE64(x) (x)
#define LTG_BE64(x) __builtin_bswap64(x)
#else
#define LTG_LE16(x) __builtin_bswap16(x)
#define LTG_LE32(x) __builtin_bswap32(x)
#define LTG_LE64(x) __builtin_bswap64(x)
#define LTG_BE64(x) (x)
#endif

static inline uint16_t
ltg_load16(const uint8_t *p)
{
	uint16_t	v;

	memcpy(&v, p, sizeof(v));
	return LTG_LE16(v);
}

static inline uint32_t
ltg_load32(const uint8_t *p)
{
	uint32_t	v;

	memcpy(&v, p, sizeof(v));
	return LTG_LE32(v);
}

static inline uint64_t
ltg_load64(const uint8_t *p)
{
	uint64_t	v;

	memcpy(&v, p, sizeof(v));
	return LTG_LE64(v);
}

/* Big-endian: the order in which integer keys compare. */
static inline uint64_t
ltg_load_be64(const uint8_t *p)
{
	uint64_t	v;

	memcpy(&v, p, sizeof(v));
	return LTG_BE64(v);
}

static inline void
ltg_store16(uint8_t *p, uint16_t v)
{
	uint16_t	le = LTG_LE16(v);

	memcpy(p, &le, sizeof(le));
}

static inline void
ltg_store32(uint8_t *p, uint32_t v)
{
	uint32_t	le = LTG_LE32(v);

	memcpy(p, &le, sizeof(le));
}

static inline void
ltg_store64(uint8_t *p, uint64_t v)
{
	uint64_t	le = LTG_LE64(v);

	memcpy(p, &le, sizeof(le));
}

static inline void
ltg_store_be64(uint8_t *p, uint64_t v)
{
	uint64_t	be = LTG_BE64(v);

	memcpy(p, &be, sizeof(be));
}

/* Low `width` bytes of v, little-endian; width 0..8. */
static inline void
ltg_store_le(uint8_t *p, uint64_t v, uint32_t width)
{
	uint32_t	i;

	for (i = 0; i < width; i++)
		p[i] = (uint8_t) (v >> (8 * i));
}

/* Bytes needed to store v; 0 for 0. */
static inline uint32_t
ltg_width(uint64_t v)
{
	return v == 0 ? 0 : (uint32_t) (71 - __builtin_clzll(v)) / 8;
}

/* Returns the byte after the varint. */
static inline uint8_t *
ltg_put_varint(uint8_t *p, uint64_t v)
{
	while (v >= 0x80)
	{
		*p++ = (uint8_t) (v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8_t) v;
	return p;
}

typedef struct LtgReader
{
	const uint8_t *p;
	const uint8_t *end;
	bool		failed;
} LtgReader;

static inline LtgReader
ltg_reader(const void *data, size_t len)
{
	LtgReader	r = {data, (const uint8_t *) data + len, false};

	return r;
}

static inline bool
ltg_reader_ok(const LtgReader *r)
{
	return !r->failed;
}

static inline size_t
ltg_reader_left(const LtgReader *r)
{
	return (size_t) (r->end - r->p);
}

/* The next len bytes, or NULL. */
static inline const uint8_t *
ltg_read_bytes(LtgReader *r, size_t len)
{
	const uint8_t *p = r->p;

	if (r->failed || ltg_reader_left(r) < len)
	{
		r->failed = true;
		return NULL;
	}
	r->p += len;
	return p;
}

static inline uint8_t
ltg_read_u8(LtgReader *r)
{
	const uint8_t *p = ltg_read_bytes(r, 1);

	return p != NULL ? *p : 0;
}

static inline uint32_t
ltg_read_u32(LtgReader *r)
{
	const uint8_t *p = ltg_read_bytes(r, 4);

	return p != NULL ? ltg_load32(p) : 0;
}

static inline uint64_t
ltg_read_u64(LtgReader *r)
{
	const uint8_t *p = ltg_read_bytes(r, 8);

	return p != NULL ? ltg_load64(p) : 0;
}

/* Rejects encodings that do not fit 64 bits. */
static inline uint64_t
ltg_read_varint(LtgReader *r)
{
	uint64_t	v = 0;
	uint32_t	shift;

	for (shift = 0; shift < 70; shift += 7)
	{
		uint8_t		b = ltg_read_u8(r);

		if (r->failed || (shift == 63 && b > 1))
			break;
		v |= (uint64_t) (b & 0x7f) << shift;
		if (b < 0x80)
			return v;
	}
	r->failed = true;
	return 0;
}

/* The same for values that must fit 32 bits. */
static inline uint32_t
ltg_read_varint32(LtgReader *r)
{
	uint64_t	v = ltg_read_varint(r);

	if (v > UINT32_MAX)
	{
		r->failed = true;
		return 0;
	}
	return (uint32_t) v;
}

#endif
