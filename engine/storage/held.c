/*
 * held.c
 *	  See held.h.
 *
 * A dictionary is used if it wins on the held blocks and what it saves in a run
 * of their size is more than it takes itself.  The one of the runs that are
 * being merged goes first: as long as it does its work, all runs of a store
 * share it, and a session that reads many of them keeps only one.  A new one is
 * trained where that is promising: zstd does well, and transposing does not do
 * much better.
 */
#include "storage/held.h"

#define TRIALS 8				/* blocks that everything is tried on */
#define SLICE 1024				/* of the training samples */

static LtgStatus
reserve(LtgSession *s, void **mem, size_t *cap, size_t need)
{
	size_t		want = *cap < 4096 ? 4096 : *cap;
	void	   *p;

	if (*mem != NULL && need <= *cap)
		return LTG_OK;
	while (want < need)
		want *= 2;
	p = *mem == NULL ? s->port->alloc(s->port, want) : s->port->realloc(s->port, *mem, want);
	if (p == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for writing a run (%zu bytes)", want);
	*mem = p;
	*cap = want;
	return LTG_OK;
}

void
ltg_held_free(LtgSession *s, LtgHeld *h)
{
	if (h->block != NULL)
		s->port->free(s->port, h->block);
	if (h->bytes != NULL)
		s->port->free(s->port, h->bytes);
	if (h->keys != NULL)
		s->port->free(s->port, h->keys);
	memset(h, 0, sizeof(*h));
}

void
ltg_held_clear(LtgHeld *h)
{
	h->n = 0;
	h->used = h->keys_used = 0;
}

LtgStatus
ltg_held_add(LtgSession *s, LtgHeld *h, const uint8_t *raw, uint32_t raw_len,
			 const LtgInnerItem *item, bool rest)
{
	LTG_TRY(reserve(s, (void **) &h->block, &h->cap, (h->n + 1) * sizeof(LtgHeldBlock)));
	LTG_TRY(reserve(s, (void **) &h->bytes, &h->bytes_cap, h->used + raw_len));
	LTG_TRY(reserve(s, (void **) &h->keys, &h->keys_cap, h->keys_used + item->key_len));
	h->block[h->n++] = (LtgHeldBlock) {h->used, raw_len, h->keys_used, item->key_len, item->need,
		rest};
	memcpy(h->bytes + h->used, raw, raw_len);
	h->used += raw_len;
	if (item->key_len > 0)
		memcpy(h->keys + h->keys_used, item->key, item->key_len);
	h->keys_used += item->key_len;
	return LTG_OK;
}

static LtgStatus
try_some(LtgSession *s, const LtgHeld *h, LtgCompressor *c)
{
	uint32_t	trials = h->n < TRIALS ? h->n : TRIALS;

	for (uint32_t i = 0; i < trials; i++)
	{
		const LtgHeldBlock *b = &h->block[(uint64_t) i * h->n / trials];

		LTG_TRY(ltg_compressor_try(s, c, h->bytes + b->raw_off, b->raw_len));
	}
	return LTG_OK;
}

/* Try the dictionary; *good: the run should have it. */
static LtgStatus
try_dictionary(LtgSession *s, const LtgHeld *h, const LtgRunOptions *opt, LtgCompressor *c,
			   const uint8_t *dict, uint32_t len, bool *good)
{
	uint64_t	size[LTG_METHODS];
	uint64_t	saved;

	*good = false;
	LTG_TRY(ltg_compressor_set_dictionary(s, c, dict, len, opt->block_size));
	LTG_TRY(try_some(s, h, c));
	if (ltg_compressor_best(c, size) != LTG_METHOD_DICT || size[LTG_METHOD_ZSTD] == 0)
		return LTG_OK;
	/* in thousandths of what zstd makes, and that, at best, a fifth of raw */
	saved = size[LTG_METHOD_DICT] >= size[LTG_METHOD_ZSTD] ? 0 :
		1000 - size[LTG_METHOD_DICT] * 1000 / size[LTG_METHOD_ZSTD];
	*good = saved * (h->used / 5) / 1000 > len / 2;
	return LTG_OK;
}

/* A dictionary from samples that are spread over the held blocks. */
static LtgStatus
train(LtgSession *s, const LtgHeld *h, uint8_t **dict, uint32_t *len)
{
	size_t		slices = h->used / SLICE < LTG_TRAIN_MAX ? h->used / SLICE : LTG_TRAIN_MAX;
	uint32_t	most = h->used / 64 < LTG_DICT_BYTES_MAX ? (uint32_t) (h->used / 64) : LTG_DICT_BYTES_MAX;
	uint8_t    *samples;

	*len = 0;
	*dict = s->port->alloc(s->port, most);
	samples = s->port->alloc(s->port, slices * SLICE + 1);
	if (*dict == NULL || samples == NULL)
	{
		if (samples != NULL)
			s->port->free(s->port, samples);
		return ltg_fail(s, LTG_NOMEM, "out of memory for training a dictionary");
	}
	for (size_t i = 0; i < slices; i++)
		memcpy(samples + i * SLICE, h->bytes + i * h->used / slices, SLICE);
	ltg_dictionary_train(samples, slices * SLICE, SLICE, *dict, most, len);
	s->port->free(s->port, samples);
	return LTG_OK;
}

/* Nothing but zstd on blocks as they are comes into question. */
static bool
promising(const LtgCompressor *c)
{
	uint64_t	size[LTG_METHODS];
	LtgMethod	best = ltg_compressor_best(c, size);

	return best == LTG_METHOD_ZSTD ||
		(size[LTG_METHOD_LZ4_COLUMNS] > size[LTG_METHOD_ZSTD] * 7 / 10 &&
		 size[LTG_METHOD_ZSTD_COLUMNS] > size[LTG_METHOD_ZSTD] * 7 / 10 &&
		 (size[LTG_METHOD_LZ4] == UINT64_MAX ||
		  size[LTG_METHOD_ZSTD] < size[LTG_METHOD_LZ4] * 85 / 100));
}

LtgStatus
ltg_held_decide(LtgSession *s, const LtgHeld *h, const LtgRunOptions *opt, LtgCompressor *c,
				const uint8_t **dict, uint32_t *len)
{
	uint8_t    *trained = NULL;
	bool		good = false;
	LtgStatus	st;

	*dict = NULL;
	*len = 0;
	if (opt->codec != LTG_CODEC_ADAPTIVE && opt->codec != LTG_CODEC_ZSTD)
		return LTG_OK;
	if (opt->dict != NULL)
	{
		LTG_TRY(try_dictionary(s, h, opt, c, opt->dict, opt->dict_len, &good));
		if (good)
		{
			*dict = opt->dict;
			*len = opt->dict_len;
			return LTG_OK;
		}
		LTG_TRY(ltg_compressor_set_dictionary(s, c, NULL, 0, opt->block_size));
	}
	LTG_TRY(try_some(s, h, c));
	if (h->used < 64 * (size_t) LTG_DICT_BYTES_MIN || !promising(c))
		return LTG_OK;
	st = train(s, h, &trained, len);
	if (st == LTG_OK && *len > 0)
		st = try_dictionary(s, h, opt, c, trained, *len, &good);
	if (st == LTG_OK && good)
	{
		*dict = trained;
		return LTG_OK;
	}
	if (trained != NULL)
		s->port->free(s->port, trained);
	*len = 0;
	LTG_TRY(st);
	LTG_TRY(ltg_compressor_set_dictionary(s, c, NULL, 0, opt->block_size));
	return try_some(s, h, c);
}
