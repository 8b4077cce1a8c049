/*
 * compress.c
 *	  Block compression with lz4 and zstd.
 *
 * All memory comes from the host's port: zstd takes an allocator, lz4 a state.
 * (Only the training of dictionaries allocates by itself, and gives it back.)
 *
 * The adaptive choice weighs space against the price of every later read from
 * disk: a method's score is the size that it makes times a weight, and the
 * smallest score wins.  Blocks of a run are alike, so all methods are tried on
 * some blocks only, ever more seldom while the same one wins; in between the
 * winner is used, until it makes of a block something else than of those it was
 * tried on.  The sums of sizes forget half of what they know each time.
 *
 * Weights.  lz4 decompresses several times faster than zstd.  On the last level
 * zstd must make blocks a tenth smaller than lz4 does; further up, where data
 * are hot and will be rewritten soon, a third.  Transposing costs a pass over
 * the block in memory, a dictionary costs memory in every session: each must
 * earn its own percents.
 *
 * Blocks with several versions of their keys may have the older ones stored as
 * differences (diffs.h), whatever the method.  The methods are tried on one of
 * the two forms, and the best of them once more on the other: the form that is
 * better of late is used.  In the same way zstd's fastest level is used where the
 * one that is asked for makes hardly less of the data.
 */
#include "storage/compress.h"

#include <lz4.h>
#include <zdict.h>
#define ZSTD_STATIC_LINKING_ONLY	/* for ZSTD_customMem */
#include <zstd.h>
#include <zstd_errors.h>

#include "base/coding.h"
#include "storage/block.h"
#include "storage/columns.h"
#include "storage/diffs.h"
#include "storage/format.h"

#define DICTS 6					/* a session keeps */
#define REST_MAX 64				/* blocks between two trials */
#define LEVEL_FAST 1

typedef struct Buffer
{
	uint8_t    *mem;
	uint32_t	cap;
} Buffer;

struct LtgCompressor
{
	ZSTD_CCtx  *zstd;			/* created when first needed */
	ZSTD_CDict *dict;
	Buffer		dict_bytes;
	uint32_t	dict_len;
	void	   *lz4_state;
	Buffer		out[LTG_METHODS + 2];	/* the last: for the form and the level that are
										 * not in use */
	Buffer		form[2][2];		/* the block's forms: [differences][transposed] */
	Buffer		entries;		/* of the block */
	Buffer		scratch;
	Buffer		bare;			/* the block without its column of writers */
	Buffer		writers;		/* which is here, packed */

	LtgCodecChoice choice;
	int			level;
	const uint8_t *weight;		/* of each method */
	uint64_t	sum[LTG_METHODS];	/* of sizes, of late */
	LtgMethod	best;
	uint32_t	won;			/* trials in a row */
	uint32_t	rest;			/* blocks to go until the next one */
	uint64_t	form_sum[2];	/* of sizes without and with differences */
	bool		diffs;			/* differences are in use */
	uint64_t	level_sum[2];	/* of sizes by `level` and by LEVEL_FAST */
	bool		fast;			/* the latter is in use */
};

typedef struct KnownDict
{
	uint64_t	id;				/* 0: none */
	uint64_t	used;
	ZSTD_DDict *dict;
} KnownDict;

struct LtgDecompressor
{
	ZSTD_DCtx  *zstd;
	uint64_t	clock;
	KnownDict	known[DICTS];
};

static const uint8_t weight_last[LTG_METHODS] = {
	[LTG_METHOD_NONE] = 64, [LTG_METHOD_LZ4] = 68, [LTG_METHOD_ZSTD] = 76,
	[LTG_METHOD_DICT] = 79, [LTG_METHOD_LZ4_COLUMNS] = 75, [LTG_METHOD_ZSTD_COLUMNS] = 83
};
static const uint8_t weight_upper[LTG_METHODS] = {
	[LTG_METHOD_NONE] = 64, [LTG_METHOD_LZ4] = 68, [LTG_METHOD_ZSTD] = 100,
	[LTG_METHOD_DICT] = 104, [LTG_METHOD_LZ4_COLUMNS] = 75, [LTG_METHOD_ZSTD_COLUMNS] = 108
};

/* Differences must make blocks a 32nd smaller. */
#define WEIGHT_DIFFS 33
#define WEIGHT_NO_DIFFS 32

/* The level asked for must make blocks a 50th smaller than the fastest one. */
#define WEIGHT_LEVEL 51
#define WEIGHT_FAST 50

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

/* ---- compressors ---- */

LtgStatus
ltg_compressor_create(LtgSession *s, LtgCompressor **c)
{
	*c = s->port->alloc(s->port, sizeof(LtgCompressor));
	if (*c == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a compressor");
	memset(*c, 0, sizeof(LtgCompressor));
	(*c)->weight = weight_upper;
	return LTG_OK;
}

void
ltg_compressor_free(LtgSession *s, LtgCompressor *c)
{
	if (c == NULL)
		return;
	ZSTD_freeCCtx(c->zstd);
	ZSTD_freeCDict(c->dict);
	mem_free(s->port, c->dict_bytes.mem);
	mem_free(s->port, c->lz4_state);
	for (int m = 0; m < LTG_METHODS + 2; m++)
		mem_free(s->port, c->out[m].mem);
	for (int i = 0; i < 4; i++)
		mem_free(s->port, c->form[i / 2][i % 2].mem);
	mem_free(s->port, c->entries.mem);
	mem_free(s->port, c->scratch.mem);
	mem_free(s->port, c->bare.mem);
	mem_free(s->port, c->writers.mem);
	s->port->free(s->port, c);
}

static void
forget_level(LtgCompressor *c)
{
	memset(c->level_sum, 0, sizeof(c->level_sum));
	c->fast = false;
}

void
ltg_compressor_begin(LtgSession *s, LtgCompressor *c, LtgCodecChoice choice, int level,
					 bool last_level)
{
	(void) s;
	ZSTD_freeCDict(c->dict);
	c->dict = NULL;
	c->choice = choice;
	c->level = level < ZSTD_minCLevel() ? ZSTD_minCLevel() :
		level > ZSTD_maxCLevel() ? ZSTD_maxCLevel() : level;
	c->weight = last_level || choice == LTG_CODEC_ZSTD ? weight_last : weight_upper;
	memset(c->sum, 0, sizeof(c->sum));
	memset(c->form_sum, 0, sizeof(c->form_sum));
	forget_level(c);
	c->best = LTG_METHOD_NONE;
	c->won = c->rest = 0;
	c->diffs = true;
}

static LtgStatus
need_buffer(LtgSession *s, Buffer *b, uint32_t len)
{
	if (len <= b->cap)
		return LTG_OK;
	mem_free(s->port, b->mem);
	b->cap = 0;
	b->mem = s->port->alloc(s->port, len);
	if (b->mem == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a compression buffer of %u bytes", len);
	b->cap = len;
	return LTG_OK;
}

LtgStatus
ltg_compressor_set_dictionary(LtgSession *s, LtgCompressor *c, const uint8_t *dict,
							  uint32_t len, uint32_t block_size)
{
	ZSTD_freeCDict(c->dict);
	c->dict = NULL;
	c->rest = c->won = 0;
	memset(c->sum, 0, sizeof(c->sum));
	forget_level(c);
	if (dict == NULL)
		return LTG_OK;
	c->dict = ZSTD_createCDict_advanced(dict, len, ZSTD_dlm_byCopy, ZSTD_dct_fullDict,
										ZSTD_getCParams(c->level, block_size, len),
										port_memory(s));
	if (c->dict == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a dictionary");
	LTG_TRY(need_buffer(s, &c->dict_bytes, len));
	memcpy(c->dict_bytes.mem, dict, len);
	c->dict_len = len;
	return LTG_OK;
}

const uint8_t *
ltg_compressor_dictionary(const LtgCompressor *c, uint32_t *len)
{
	*len = c->dict == NULL ? 0 : c->dict_len;
	return c->dict == NULL ? NULL : c->dict_bytes.mem;
}

/* *size is 0 when the result would not be smaller than `most`. */
static LtgStatus
try_lz4(LtgSession *s, LtgCompressor *c, Buffer *out, const uint8_t *src, uint32_t len,
		uint32_t most, uint32_t *size)
{
	int			r;

	if (c->lz4_state == NULL)
	{
		c->lz4_state = s->port->alloc(s->port, (size_t) LZ4_sizeofState());
		if (c->lz4_state == NULL)
			return ltg_fail(s, LTG_NOMEM, "out of memory for lz4");
	}
	LTG_TRY(need_buffer(s, out, most));
	r = LZ4_compress_fast_extState(c->lz4_state, (const char *) src, (char *) out->mem,
								   (int) len, (int) most - 1, 1);
	*size = r > 0 ? (uint32_t) r : 0;
	return LTG_OK;
}

static LtgStatus
try_zstd(LtgSession *s, LtgCompressor *c, Buffer *out, const ZSTD_CDict *dict,
		 const uint8_t *src, uint32_t len, uint32_t most, uint32_t *size)
{
	size_t		r;

	if (c->zstd == NULL)
	{
		c->zstd = ZSTD_createCCtx_advanced(port_memory(s));
		if (c->zstd == NULL)
			return ltg_fail(s, LTG_NOMEM, "out of memory for zstd");
	}
	LTG_TRY(need_buffer(s, out, most));
	r = dict != NULL ? ZSTD_compress_usingCDict(c->zstd, out->mem, most - 1, src, len, dict) :
		ZSTD_compressCCtx(c->zstd, out->mem, most - 1, src, len, c->fast ? LEVEL_FAST : c->level);
	if (ZSTD_isError(r) && ZSTD_getErrorCode(r) == ZSTD_error_memory_allocation)
		return ltg_fail(s, LTG_NOMEM, "out of memory for zstd");
	*size = ZSTD_isError(r) ? 0 : (uint32_t) r;
	return LTG_OK;
}

/* ---- methods ---- */

static bool
transposes(LtgMethod m)
{
	return m == LTG_METHOD_LZ4_COLUMNS || m == LTG_METHOD_ZSTD_COLUMNS;
}

static bool
allowed(const LtgCompressor *c, LtgMethod m)
{
	bool		lz4 = m == LTG_METHOD_LZ4 || m == LTG_METHOD_LZ4_COLUMNS;

	if (m == LTG_METHOD_NONE)
		return true;
	if (m == LTG_METHOD_DICT && c->dict == NULL)
		return false;
	return c->choice == LTG_CODEC_ADAPTIVE || c->choice == (lz4 ? LTG_CODEC_LZ4 : LTG_CODEC_ZSTD);
}

/* A block on its way through the methods. */
typedef struct Job
{
	const uint8_t *whole;
	const uint8_t *block;		/* what is compressed of it, as long */
	uint32_t	len;
	uint32_t	writers;		/* bytes that stand behind it, 0: it is whole */
	uint32_t	stride[2];		/* without and with differences; 0: can't be transposed */
	bool		has_diffs;		/* there are older versions worth a form of their own */
	uint32_t	form_len[2][2];	/* of what c->form has, 0: not made */
	LtgDiffs	d;
} Job;

/* How a block is stored. */
typedef struct Stored
{
	LtgMethod	m;
	bool		diffs;
	uint32_t	size;			/* 0: it can't be, or saves nothing */
	const uint8_t *data;
	uint8_t    *mem;			/* the same, where it was compressed: as long as the block */
} Stored;

/* Take the column of writers out of the block, where it is better stored by itself. */
static LtgStatus
take_writers(LtgSession *s, LtgCompressor *c, Job *j)
{
	size_t		n = ltg_block_n(j->block);

	if (j->len < LTG_BH_BYTES || !ltg_block_check(j->block, j->len, LTG_BLOCK_DATA) ||
		ltg_writers_bytes(j->block) == 0 || n > j->len / 8)
		return LTG_OK;
	LTG_TRY(need_buffer(s, &c->scratch, (uint32_t) LTG_WRITERS_SCRATCH(n)));
	LTG_TRY(need_buffer(s, &c->writers, (uint32_t) LTG_WRITERS_PACKED_MAX(n)));
	j->writers = ltg_writers_pack(j->block, (uint64_t *) (void *) c->scratch.mem, c->writers.mem);
	if (j->writers > UINT16_MAX)
		j->writers = 0;
	if (j->writers == 0)
		return LTG_OK;
	LTG_TRY(need_buffer(s, &c->bare, j->len));
	memcpy(c->bare.mem, j->block, j->len);
	memset(c->bare.mem + ltg_writers_offset(j->block), 0, ltg_writers_bytes(j->block));
	j->block = c->bare.mem;
	return LTG_OK;
}

static LtgStatus
job_start(LtgSession *s, LtgCompressor *c, Job *j, const uint8_t *block, uint32_t len, uint8_t type)
{
	uint32_t	n;

	memset(j, 0, sizeof(*j));
	j->whole = j->block = block;
	j->len = len;
	if (type != LTG_BLOCK_DATA || c->choice == LTG_CODEC_NONE)
		return LTG_OK;
	LTG_TRY(take_writers(s, c, j));
	block = j->block;
	j->stride[0] = ltg_columns_stride(block, len);
	n = c->diffs || c->rest == 0 ? ltg_diffs_entries(block, len, len) : 0;
	if (n == 0)
		return LTG_OK;
	LTG_TRY(need_buffer(s, &c->entries, n * (uint32_t) sizeof(LtgDiffsEntry)));
	j->has_diffs = ltg_diffs_prepare(block, len, (LtgDiffsEntry *) (void *) c->entries.mem, &j->d);
	j->stride[1] = j->d.sums.stride;
	return LTG_OK;
}

/* The block in one of its forms, which is made when first asked for. */
static LtgStatus
get_form(LtgSession *s, LtgCompressor *c, Job *j, bool diffs, bool columns,
		 const uint8_t **src, uint32_t *len)
{
	Buffer	   *b = &c->form[diffs][columns];
	uint32_t	stride = columns ? j->stride[diffs] : 0;
	uint32_t   *made = &j->form_len[diffs][columns];

	*src = j->block;
	*len = j->len;
	if (!diffs && !columns)
		return LTG_OK;
	if (*made == 0)
	{
		*made = (diffs ? j->d.most : j->len) + ltg_columns_extra(stride);
		LTG_TRY(need_buffer(s, b, *made));
		if (!diffs)
			ltg_columns_pack(j->block, j->len, stride, b->mem);
		else
		{
			LTG_TRY(need_buffer(s, &c->scratch, j->len));
			*made = ltg_diffs_pack(j->block, &j->d, (LtgDiffsEntry *) (void *) c->entries.mem,
								   stride, c->scratch.mem, b->mem);
		}
	}
	*src = b->mem;
	*len = *made;
	return LTG_OK;
}

static LtgStatus
apply(LtgSession *s, LtgCompressor *c, Job *j, LtgMethod m, bool diffs, Buffer *out, Stored *r)
{
	const uint8_t *src;
	uint32_t	len;

	*r = (Stored) {.m = m};
	if (m == LTG_METHOD_NONE)
	{
		r->size = j->len;
		r->data = j->whole;
		return LTG_OK;
	}
	if (j->len < 2 || (transposes(m) && j->stride[diffs] == 0))
		return LTG_OK;
	LTG_TRY(get_form(s, c, j, diffs, transposes(m), &src, &len));
	if (m == LTG_METHOD_LZ4 || m == LTG_METHOD_LZ4_COLUMNS)
		LTG_TRY(try_lz4(s, c, out, src, len, j->len, &r->size));
	else
		LTG_TRY(try_zstd(s, c, out, m == LTG_METHOD_DICT ? c->dict : NULL, src, len, j->len, &r->size));
	r->diffs = diffs;
	r->data = r->mem = out->mem;
	return LTG_OK;
}

/* The best method once more, on the form that is not in use. */
static LtgStatus
try_other_form(LtgSession *s, LtgCompressor *c, Job *j, Stored *best)
{
	LtgMethod	m = best->m;
	Stored		r;
	uint64_t	score[2];

	if (m == LTG_METHOD_NONE)
		m = allowed(c, LTG_METHOD_LZ4) ? LTG_METHOD_LZ4 : LTG_METHOD_ZSTD;
	LTG_TRY(apply(s, c, j, m, !c->diffs, &c->out[LTG_METHODS], &r));
	if (r.size == 0)
		r = (Stored) {.m = LTG_METHOD_NONE, .size = j->len, .data = j->whole};
	score[c->diffs] = best->size;
	score[!c->diffs] = r.size;
	for (int i = 0; i < 2; i++)
		c->form_sum[i] = c->form_sum[i] / 2 + score[i];
	if (score[1] * WEIGHT_DIFFS < score[0] * WEIGHT_NO_DIFFS ? !c->diffs : c->diffs)
		*best = r;
	c->diffs = c->form_sum[1] * WEIGHT_DIFFS < c->form_sum[0] * WEIGHT_NO_DIFFS;
	return LTG_OK;
}

/* zstd at the level that is not in use, where it is best.  A dictionary has its own. */
static LtgStatus
try_other_level(LtgSession *s, LtgCompressor *c, Job *j, Stored *best)
{
	Stored		r;
	uint64_t	score[2];

	if (c->choice != LTG_CODEC_ADAPTIVE || c->level <= LEVEL_FAST)
		return LTG_OK;
	if (best->m != LTG_METHOD_ZSTD && best->m != LTG_METHOD_ZSTD_COLUMNS)
	{
		/* perhaps the other level would have won */
		forget_level(c);
		return LTG_OK;
	}
	c->fast = !c->fast;
	LTG_TRY(apply(s, c, j, best->m, best->diffs, &c->out[LTG_METHODS + 1], &r));
	c->fast = !c->fast;
	score[c->fast] = best->size;
	score[!c->fast] = r.size != 0 ? r.size : j->len;
	for (int i = 0; i < 2; i++)
		c->level_sum[i] = c->level_sum[i] / 2 + score[i];
	if (r.size != 0 && r.size < best->size)
		*best = r;
	c->fast = c->level_sum[1] * WEIGHT_FAST < c->level_sum[0] * WEIGHT_LEVEL;
	return LTG_OK;
}

/* Sizes by all methods that are allowed, and what is best for this block. */
static LtgStatus
try_all(LtgSession *s, LtgCompressor *c, Job *j, uint32_t size[LTG_METHODS], Stored *best)
{
	for (int m = 0; m < LTG_METHODS; m++)
	{
		Stored		r = {.m = (LtgMethod) m};

		if (allowed(c, (LtgMethod) m))
			LTG_TRY(apply(s, c, j, (LtgMethod) m, c->diffs && j->has_diffs, &c->out[m], &r));
		size[m] = r.size;
		if (m == LTG_METHOD_NONE || (r.size != 0 && (uint64_t) r.size * c->weight[m] <
									 (uint64_t) best->size * c->weight[best->m]))
			*best = r;
	}
	if (j->has_diffs)
		LTG_TRY(try_other_form(s, c, j, best));
	return try_other_level(s, c, j, best);
}

/* Take a trial's sizes into account. */
static void
remember(LtgCompressor *c, const uint32_t size[LTG_METHODS], uint32_t len)
{
	LtgMethod	best = LTG_METHOD_NONE;

	for (int m = 0; m < LTG_METHODS; m++)
	{
		c->sum[m] = c->sum[m] / 2 + (size[m] != 0 ? size[m] : len);
		if (allowed(c, (LtgMethod) m) &&
			c->sum[m] * c->weight[m] < c->sum[best] * c->weight[best])
			best = (LtgMethod) m;
	}
	c->won = best == c->best ? c->won + 1 : 0;
	c->best = best;
	c->rest = c->won < 6 ? c->won * c->won : REST_MAX;
}

LtgStatus
ltg_compressor_try(LtgSession *s, LtgCompressor *c, const uint8_t *block, uint32_t len)
{
	Job			j;
	uint32_t	size[LTG_METHODS];
	Stored		best;

	c->rest = 0;
	LTG_TRY(job_start(s, c, &j, block, len, LTG_BLOCK_DATA));
	LTG_TRY(try_all(s, c, &j, size, &best));
	remember(c, size, len);
	return LTG_OK;
}

LtgMethod
ltg_compressor_best(const LtgCompressor *c, uint64_t sizes[LTG_METHODS])
{
	for (int m = 0; sizes != NULL && m < LTG_METHODS; m++)
		sizes[m] = allowed(c, (LtgMethod) m) ? c->sum[m] : UINT64_MAX;
	return c->best;
}

/* Far from what the method made of the blocks it was tried on: data change. */
static bool
surprising(const LtgCompressor *c, LtgMethod m, uint32_t size, uint32_t len)
{
	uint64_t	expected = c->sum[LTG_METHOD_NONE] == 0 ? len :
		c->sum[m] * len / c->sum[LTG_METHOD_NONE];

	return size > expected + expected / 4 || size + size / 4 < expected;
}

/* What a data block is stored as. */
static LtgStatus
choose(LtgSession *s, LtgCompressor *c, Job *j, Stored *r)
{
	uint32_t	sizes[LTG_METHODS];
	bool		diffs = c->diffs && j->has_diffs;
	LtgMethod	m = c->best;

	if (c->rest == 0)
	{
		LTG_TRY(try_all(s, c, j, sizes, r));
		remember(c, sizes, j->len);
		return LTG_OK;
	}
	c->rest--;
	if (transposes(m) && j->stride[diffs] == 0)
		m = m == LTG_METHOD_LZ4_COLUMNS ? LTG_METHOD_LZ4 : LTG_METHOD_ZSTD;
	LTG_TRY(apply(s, c, j, m, diffs, &c->out[m], r));
	if (surprising(c, m, r->size != 0 ? r->size : j->len, j->len))
		c->rest = 0;
	if (r->size == 0 || (uint64_t) r->size * c->weight[LTG_METHOD_LZ4] >
		(uint64_t) j->len * c->weight[LTG_METHOD_NONE])
		LTG_TRY(apply(s, c, j, LTG_METHOD_NONE, false, NULL, r));
	return LTG_OK;
}

/* The column of writers behind what was compressed; false if that saves nothing. */
static bool
add_writers(const LtgCompressor *c, const Job *j, Stored *r)
{
	if ((uint64_t) r->size + j->writers + 2 >= j->len)
		return false;
	memcpy(r->mem + r->size, c->writers.mem, j->writers);
	ltg_store16(r->mem + r->size + j->writers, (uint16_t) j->writers);
	r->size += j->writers + 2;
	return true;
}

LtgStatus
ltg_compress(LtgSession *s, LtgCompressor *c, uint8_t type, const uint8_t *block, uint32_t len,
			 LtgPacked *out)
{
	static const uint8_t codec[LTG_METHODS] = {
		[LTG_METHOD_NONE] = LTG_STORED_NONE, [LTG_METHOD_LZ4] = LTG_STORED_LZ4,
		[LTG_METHOD_ZSTD] = LTG_STORED_ZSTD, [LTG_METHOD_DICT] = LTG_STORED_ZSTD_DICT,
		[LTG_METHOD_LZ4_COLUMNS] = LTG_STORED_LZ4, [LTG_METHOD_ZSTD_COLUMNS] = LTG_STORED_ZSTD
	};
	Job			j;
	Stored		r = {.m = LTG_METHOD_NONE, .size = len, .data = block};

	LTG_ASSERT(len > 0 && len <= LTG_BLOCK_MAX);
	LTG_TRY(job_start(s, c, &j, block, len, type));
	if (type == LTG_BLOCK_DATA && c->choice != LTG_CODEC_NONE)
		LTG_TRY(choose(s, c, &j, &r));
	else if (type == LTG_BLOCK_INNER && c->choice != LTG_CODEC_NONE)
	{
		/* few, and on everybody's way */
		LTG_TRY(apply(s, c, &j, LTG_METHOD_LZ4, false, &c->out[LTG_METHOD_LZ4], &r));
		if (r.size == 0 || r.size >= len - len / 8)
			LTG_TRY(apply(s, c, &j, LTG_METHOD_NONE, false, NULL, &r));
	}
	if (r.m != LTG_METHOD_NONE && j.writers > 0 && !add_writers(c, &j, &r))
		LTG_TRY(apply(s, c, &j, LTG_METHOD_NONE, false, NULL, &r));
	out->codec = codec[r.m];
	out->stride = transposes(r.m) ? (uint8_t) (j.stride[r.diffs] / LTG_STRIDE_UNIT) : 0;
	out->form = (r.diffs ? LTG_EF_DIFFS : 0) | (r.m != LTG_METHOD_NONE && j.writers > 0 ? LTG_EF_WRITERS : 0);
	out->data = r.data;
	out->len = r.size;
	return LTG_OK;
}

/* ---- dictionaries ---- */

void
ltg_dictionary_train(const uint8_t *samples, size_t len, size_t sample_bytes, uint8_t *dict,
					 uint32_t cap, uint32_t *dict_len)
{
	size_t		sizes[LTG_TRAIN_MAX];
	unsigned	n = 0;
	size_t		r;

	*dict_len = 0;
	while (n < LTG_TRAIN_MAX && (n + 1) * sample_bytes <= len)
		sizes[n++] = sample_bytes;
	r = ZDICT_trainFromBuffer(dict, cap, samples, sizes, n);
	if (!ZDICT_isError(r))
		*dict_len = (uint32_t) r;
}

/* ---- decompression ---- */

static bool
need_decompressor(LtgSession *s, LtgDecompressor **d)
{
	if (*d != NULL)
		return true;
	*d = s->port->alloc(s->port, sizeof(LtgDecompressor));
	if (*d != NULL)
	{
		memset(*d, 0, sizeof(LtgDecompressor));
		(*d)->zstd = ZSTD_createDCtx_advanced(port_memory(s));
	}
	if (*d == NULL || (*d)->zstd == NULL)
	{
		mem_free(s->port, *d);
		*d = NULL;
		return false;
	}
	return true;
}

static const KnownDict *
known_dict(const LtgDecompressor *d, uint64_t id)
{
	for (int i = 0; d != NULL && i < DICTS; i++)
		if (d->known[i].id == id && id != 0)
			return &d->known[i];
	return NULL;
}

bool
ltg_decompressor_knows(const LtgDecompressor *d, uint64_t dict_id)
{
	return known_dict(d, dict_id) != NULL;
}

LtgStatus
ltg_decompressor_learn(LtgSession *s, LtgDecompressor **d, uint64_t dict_id,
					   const uint8_t *dict, uint32_t len)
{
	KnownDict  *k;
	ZSTD_DDict *neu;

	LTG_ASSERT(dict_id != 0);
	neu = need_decompressor(s, d) ?
		ZSTD_createDDict_advanced(dict, len, ZSTD_dlm_byCopy, ZSTD_dct_fullDict, port_memory(s)) : NULL;
	if (neu == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a dictionary");
	k = &(*d)->known[0];
	for (int i = 1; i < DICTS; i++)
		if ((*d)->known[i].used < k->used)
			k = &(*d)->known[i];
	ZSTD_freeDDict(k->dict);
	*k = (KnownDict) {dict_id, ++(*d)->clock, neu};
	return LTG_OK;
}

static size_t
decompress_zstd(LtgDecompressor *d, uint8_t codec, uint64_t dict_id, const uint8_t *src,
				uint32_t len, uint8_t *dst, uint32_t most)
{
	if (codec == LTG_STORED_ZSTD_DICT)
	{
		for (int i = 0; i < DICTS; i++)
			if (d->known[i].id == dict_id && dict_id != 0)
			{
				d->known[i].used = ++d->clock;
				return ZSTD_decompress_usingDDict(d->zstd, dst, most, src, len, d->known[i].dict);
			}
		return SIZE_MAX;
	}
	return ZSTD_decompressDCtx(d->zstd, dst, most, src, len);
}

bool
ltg_decompress(LtgSession *s, LtgDecompressor **d, uint8_t codec, uint64_t dict_id,
			   const uint8_t *src, uint32_t len, uint8_t *dst, uint32_t most, uint32_t *got,
			   bool *no_memory)
{
	int			n;
	size_t		size;

	*no_memory = false;
	*got = 0;
	switch (codec)
	{
		case LTG_STORED_NONE:
			if (len > most)
				return false;
			memcpy(dst, src, len);
			*got = len;
			return true;
		case LTG_STORED_LZ4:
			if (len > INT32_MAX || most > INT32_MAX)
				return false;
			n = LZ4_decompress_safe((const char *) src, (char *) dst, (int) len, (int) most);
			*got = n < 0 ? 0 : (uint32_t) n;
			return n >= 0;
		case LTG_STORED_ZSTD:
		case LTG_STORED_ZSTD_DICT:
			if (!need_decompressor(s, d))
			{
				*no_memory = true;
				return false;
			}
			size = decompress_zstd(*d, codec, dict_id, src, len, dst, most);
			if (size > most)	/* errors are, too */
				return false;
			*got = (uint32_t) size;
			return true;
		default:
			return false;
	}
}

void
ltg_decompressor_free(LtgSession *s, LtgDecompressor *d)
{
	if (d == NULL)
		return;
	for (int i = 0; i < DICTS; i++)
		ZSTD_freeDDict(d->known[i].dict);
	ZSTD_freeDCtx(d->zstd);
	s->port->free(s->port, d);
}
