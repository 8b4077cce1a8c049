/*
 * compress.c
 *	  Block compression with lz4 and zstd.
 *
 * All memory comes from the host's port: zstd takes an allocator, lz4 a state.
 *
 * The adaptive choice weighs space against the price of every later read from
 * disk.  zstd must save at least an eighth of the block to be worth its slower
 * decompression; lz4, which decompresses several times faster, wins whenever it
 * comes within a tenth of zstd.  Blocks of a run are alike: the more often lz4
 * lost, the more blocks go by before it is tried again.
 */
#include "storage/compress.h"

#include <lz4.h>
#define ZSTD_STATIC_LINKING_ONLY	/* for ZSTD_customMem */
#include <zstd.h>
#include <zstd_errors.h>

#include "storage/format.h"

struct LtgCompressor
{
	ZSTD_CCtx  *zstd;			/* created when first needed */
	void	   *lz4_state;
	uint8_t    *zstd_buf;
	uint8_t    *lz4_buf;
	uint32_t	zstd_cap;
	uint32_t	lz4_cap;
	uint32_t	lz4_lost;		/* times in a row, adaptive choice */
	uint32_t	lz4_rest;		/* blocks to go until it is tried again */
};

struct LtgDecompressor
{
	ZSTD_DCtx  *zstd;
};

static void *
mem_alloc(void *opaque, size_t size)
{
	LtgPort    *port = opaque;

	return port->alloc(port, size);
}

static void
mem_free(void *opaque, void *ptr)
{
	LtgPort    *port = opaque;

	if (ptr != NULL)
		port->free(port, ptr);
}

static ZSTD_customMem
port_memory(LtgSession *s)
{
	ZSTD_customMem mem = {mem_alloc, mem_free, s->port};

	return mem;
}

/* ---- compression ---- */

LtgStatus
ltg_compressor_create(LtgSession *s, LtgCompressor **c)
{
	*c = s->port->alloc(s->port, sizeof(LtgCompressor));
	if (*c == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a compressor");
	memset(*c, 0, sizeof(LtgCompressor));
	return LTG_OK;
}

void
ltg_compressor_free(LtgSession *s, LtgCompressor *c)
{
	if (c == NULL)
		return;
	ZSTD_freeCCtx(c->zstd);
	mem_free(s->port, c->lz4_state);
	mem_free(s->port, c->zstd_buf);
	mem_free(s->port, c->lz4_buf);
	s->port->free(s->port, c);
}

static LtgStatus
need_buffer(LtgSession *s, uint8_t **buf, uint32_t *cap, uint32_t len)
{
	if (len <= *cap)
		return LTG_OK;
	mem_free(s->port, *buf);
	*cap = 0;
	*buf = s->port->alloc(s->port, len);
	if (*buf == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a compression buffer of %u bytes", len);
	*cap = len;
	return LTG_OK;
}

/* *size is 0 when the result would not be smaller than the input. */
static LtgStatus
try_lz4(LtgSession *s, LtgCompressor *c, const uint8_t *src, uint32_t len, uint32_t *size)
{
	int			r;

	if (c->lz4_state == NULL)
	{
		c->lz4_state = s->port->alloc(s->port, (size_t) LZ4_sizeofState());
		if (c->lz4_state == NULL)
			return ltg_fail(s, LTG_NOMEM, "out of memory for lz4");
	}
	LTG_TRY(need_buffer(s, &c->lz4_buf, &c->lz4_cap, len));
	r = LZ4_compress_fast_extState(c->lz4_state, (const char *) src, (char *) c->lz4_buf,
								   (int) len, (int) len - 1, 1);
	*size = r > 0 ? (uint32_t) r : 0;
	return LTG_OK;
}

static LtgStatus
try_zstd(LtgSession *s, LtgCompressor *c, int level, const uint8_t *src, uint32_t len,
		 uint32_t *size)
{
	size_t		r;

	if (c->zstd == NULL)
	{
		c->zstd = ZSTD_createCCtx_advanced(port_memory(s));
		if (c->zstd == NULL)
			return ltg_fail(s, LTG_NOMEM, "out of memory for zstd");
	}
	LTG_TRY(need_buffer(s, &c->zstd_buf, &c->zstd_cap, len));
	if (level < ZSTD_minCLevel())
		level = ZSTD_minCLevel();
	if (level > ZSTD_maxCLevel())
		level = ZSTD_maxCLevel();
	r = ZSTD_compressCCtx(c->zstd, c->zstd_buf, len - 1, src, len, level);
	if (ZSTD_isError(r) && ZSTD_getErrorCode(r) == ZSTD_error_memory_allocation)
		return ltg_fail(s, LTG_NOMEM, "out of memory for zstd");
	*size = ZSTD_isError(r) ? 0 : (uint32_t) r;
	return LTG_OK;
}

#define LZ4_REST_MAX 16

/* Both codecs; leaves the size of the one to be used, 0 for the other. */
static LtgStatus
try_adaptive(LtgSession *s, LtgCompressor *c, int level, const uint8_t *src, uint32_t len,
			 uint32_t *lz4, uint32_t *zstd)
{
	bool		resting = c->lz4_rest > 0;

	if (resting)
		c->lz4_rest--;
	else
		LTG_TRY(try_lz4(s, c, src, len, lz4));
	LTG_TRY(try_zstd(s, c, level, src, len, zstd));
	if (*zstd > len - len / 8)
		*zstd = 0;
	if (*zstd != 0 && *lz4 != 0 && *lz4 <= *zstd + *zstd / 10)
	{
		*zstd = 0;
		c->lz4_lost = 0;
		return LTG_OK;
	}
	*lz4 = 0;
	if (!resting)
	{
		c->lz4_lost++;
		c->lz4_rest = c->lz4_lost < LZ4_REST_MAX ? c->lz4_lost - 1 : LZ4_REST_MAX;
	}
	return LTG_OK;
}

LtgStatus
ltg_compress(LtgSession *s, LtgCompressor *c, LtgCodecChoice choice, int level,
			 const uint8_t *src, uint32_t len, const uint8_t **out, uint32_t *out_len,
			 uint8_t *codec)
{
	uint32_t	lz4 = 0;
	uint32_t	zstd = 0;

	LTG_ASSERT(len > 0 && len <= LTG_BLOCK_MAX);
	if (choice == LTG_CODEC_LZ4)
		LTG_TRY(try_lz4(s, c, src, len, &lz4));
	else if (choice == LTG_CODEC_ZSTD)
		LTG_TRY(try_zstd(s, c, level, src, len, &zstd));
	else if (choice == LTG_CODEC_ADAPTIVE)
		LTG_TRY(try_adaptive(s, c, level, src, len, &lz4, &zstd));

	*out = lz4 != 0 ? c->lz4_buf : zstd != 0 ? c->zstd_buf : src;
	*out_len = lz4 != 0 ? lz4 : zstd != 0 ? zstd : len;
	*codec = lz4 != 0 ? LTG_STORED_LZ4 : zstd != 0 ? LTG_STORED_ZSTD : LTG_STORED_NONE;
	return LTG_OK;
}

/* ---- decompression ---- */

bool
ltg_decompress(LtgSession *s, LtgDecompressor **d, uint8_t codec, const uint8_t *src,
			   uint32_t len, uint8_t *dst, uint32_t raw_len, bool *no_memory)
{
	*no_memory = false;
	switch (codec)
	{
		case LTG_STORED_NONE:
			if (len != raw_len)
				return false;
			memcpy(dst, src, len);
			return true;
		case LTG_STORED_LZ4:
			if (len > INT32_MAX || raw_len > INT32_MAX)
				return false;
			return LZ4_decompress_safe((const char *) src, (char *) dst,
									   (int) len, (int) raw_len) == (int) raw_len;
		case LTG_STORED_ZSTD:
			break;
		default:
			return false;
	}

	if (*d == NULL)
	{
		*d = s->port->alloc(s->port, sizeof(LtgDecompressor));
		if (*d != NULL)
			(*d)->zstd = ZSTD_createDCtx_advanced(port_memory(s));
		if (*d == NULL || (*d)->zstd == NULL)
		{
			mem_free(s->port, *d);
			*d = NULL;
			*no_memory = true;
			return false;
		}
	}
	return ZSTD_decompressDCtx((*d)->zstd, dst, raw_len, src, len) == raw_len;
}

void
ltg_decompressor_free(LtgSession *s, LtgDecompressor *d)
{
	if (d == NULL)
		return;
	ZSTD_freeDCtx(d->zstd);
	s->port->free(s->port, d);
}
