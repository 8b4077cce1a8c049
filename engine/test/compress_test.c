/*
 * compress_test.c
 *	  Transposed payloads, differences of versions, the choice of methods,
 *	  dictionaries.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <zstd.h>

#include "base/coding.h"
#include "rig.h"
#include "storage/block.h"
#include "storage/blockio.h"
#include "storage/columns.h"
#include "storage/compress.h"
#include "storage/diffs.h"
#include "storage/format.h"

/* ---- columns ---- */

/* A block of n payloads of one stride, the last of them cut by `cut` bytes. */
static uint8_t *
fake_block(uint32_t n, uint32_t stride, uint32_t cut, uint64_t *rnd, uint32_t *len)
{
	uint32_t	start = LTG_BH_BYTES + 8 * (uint32_t) (rig_random(rnd) % 5);
	uint8_t    *b;

	*len = start + n * stride - cut;
	b = malloc(*len);
	for (uint32_t i = 0; i < *len; i++)
		b[i] = (uint8_t) rig_random(rnd);
	for (uint32_t i = 0; i < n; i++)
	{
		b[start + i * stride] = (uint8_t) (i * 3);	/* a counter */
		if (stride > 8)
			b[start + i * stride + 8] = (uint8_t) (i / 20 * 7); /* and one that counts seldom */
	}
	b[LTG_BH_PAY_WIDTH] = 0;
	ltg_store32(b + LTG_BH_N, n);
	ltg_store32(b + LTG_BH_PAYLOADS, start);
	ltg_store32(b + LTG_BH_PAY_LEN, stride - cut);
	return b;
}

/* The same byte by byte, as FORMAT.md describes it. */
static void
pack_by_bytes(const uint8_t *rows, uint32_t bytes, uint32_t stride, uint8_t *packed)
{
	uint8_t    *to = packed + ltg_columns_extra(stride);

	memset(packed, 0, ltg_columns_extra(stride));
	for (uint32_t c = 0; c < stride; c++)
	{
		uint32_t	n = 0;
		uint32_t	changes = 0;
		uint32_t	jumps = 0;

		for (uint32_t at = c; at < bytes; at += stride)
			to[n++] = rows[at];
		for (uint32_t r = 2; r < n; r++)
		{
			changes += to[r] != to[r - 1];
			jumps += (uint8_t) (to[r] - to[r - 1]) != (uint8_t) (to[r - 1] - to[r - 2]);
		}
		if (jumps < changes / 2)
		{
			packed[c / 8] |= (uint8_t) (1 << c % 8);
			for (uint32_t r = n - 1; r > 0; r--)
				to[r] = (uint8_t) (to[r] - to[r - 1]);
		}
		to += n;
	}
}

static void
test_columns(void **state)
{
	uint64_t	rnd = 1;

	(void) state;
	for (uint32_t round = 0; round < 3000; round++)
	{
		uint32_t	stride = 8 * (1 + (uint32_t) (rig_random(&rnd) % (round % 50 == 0 ? 255 : 20)));
		uint32_t	n = 8 + (uint32_t) (rig_random(&rnd) % 70);
		uint32_t	len;
		uint8_t    *b = fake_block(n, stride, (uint32_t) (rig_random(&rnd) % 8), &rnd, &len);
		uint8_t    *packed = malloc(len + ltg_columns_extra(stride));
		uint8_t    *back = malloc(len);
		uint8_t    *bytes;
		uint32_t	start;

		assert_int_equal(ltg_columns_stride(b, len), stride);
		ltg_columns_pack(b, len, stride, packed);
		/* the counter is a column of differences */
		assert_int_equal(packed[ltg_load32(b + LTG_BH_PAYLOADS)] & 1, 1);
		assert_true(ltg_columns_unpack(packed, len, stride, back));
		assert_memory_equal(b, back, len);
		/* (undoing the differences has changed the bytes) */
		ltg_columns_pack(b, len, stride, packed);
		start = ltg_load32(b + LTG_BH_PAYLOADS);
		bytes = malloc(len + ltg_columns_extra(stride));
		pack_by_bytes(b + start, len - start, stride, bytes);
		assert_memory_equal(bytes, packed + start, len - start + ltg_columns_extra(stride));
		free(bytes);

		/* nonsense gives nonsense or a refusal, nothing worse */
		for (uint32_t i = 0; i < len; i++)
			packed[i] = (uint8_t) rig_random(&rnd);
		ltg_store32(packed + LTG_BH_PAYLOADS, (uint32_t) (rig_random(&rnd) % (len + 20)));
		(void) ltg_columns_unpack(packed, len, stride, back);
		free(b);
		free(packed);
		free(back);
	}
}

static void
test_no_columns(void **state)
{
	uint64_t	rnd = 1;
	uint32_t	len;
	uint8_t    *b;

	(void) state;
	b = fake_block(7, 16, 0, &rnd, &len);	/* too few */
	assert_int_equal(ltg_columns_stride(b, len), 0);
	free(b);
	b = fake_block(9, LTG_STRIDE_MAX + 8, 0, &rnd, &len);	/* too wide */
	assert_int_equal(ltg_columns_stride(b, len), 0);
	/* an index with one length that differs */
	for (uint32_t odd = 0; odd <= 9; odd++)
	{
		b[LTG_BH_PAY_WIDTH] = 2;
		ltg_store32(b + LTG_BH_PAY_INDEX, LTG_BH_BYTES);
		for (uint32_t i = 0; i < 9; i++)
			ltg_store16(b + LTG_BH_BYTES + 2 * i, (uint16_t) (16 * (i + 1) - i % 8 + (i == odd ? 9 : 0)));
		assert_int_equal(ltg_columns_stride(b, len), odd < 9 ? 0 : 16);
	}
	free(b);
}

/* ---- differences ---- */

/* How older payloads come from newer ones. */
typedef enum Change
{
	SAME_LENGTH,				/* some bytes are others */
	OTHER_LENGTH,				/* something was put in or taken out */
	MOVED,						/* the same, and the length stays */
	ANYTHING,					/* of these, or a new payload */
	CHANGES
} Change;

/* Make p (len bytes) the payload of the version before; returns its length. */
static uint32_t
change_payload(uint8_t *p, uint32_t len, Change change, uint64_t *rnd)
{
	uint32_t	at = len == 0 ? 0 : (uint32_t) (rig_random(rnd) % len);
	uint32_t	n = (uint32_t) (rig_random(rnd) % 12);

	if (change == ANYTHING)
	{
		change = (Change) (rig_random(rnd) % 4);
		if (change == ANYTHING)
		{
			len = (uint32_t) (rig_random(rnd) % 300);
			for (uint32_t i = 0; i < len; i++)
				p[i] = (uint8_t) rig_random(rnd);
			return len;
		}
	}
	if (change == SAME_LENGTH)
		for (uint32_t i = at; i < len && i < at + n; i++)
			p[i] = (uint8_t) (p[i] - 1);
	else if (change == MOVED && at + n < len)
	{
		memmove(p + at + n, p + at, len - at - n);
		memset(p + at, 'm', n);
	}
	else if (rig_random(rnd) % 2 && len > at + n)
	{
		memmove(p + at, p + at + n, len - at - n);
		len -= n;
	}
	else if (len + n <= 4096)
	{
		memmove(p + at + n, p + at, len - at);
		memset(p + at, 'x', n);
		len += n;
	}
	return len;
}

/* Keys with up to `most` versions each; long_keys: with tails of any length. */
static void
versions_model(Model *m, uint32_t keys, uint32_t most, Change change, bool fixed, bool long_keys,
			   uint64_t seed)
{
	uint8_t		payload[8192];
	uint8_t		key[40] = {0};
	uint64_t	rnd = seed;

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < keys; i++)
	{
		uint32_t	versions = 1 + (uint32_t) (rig_random(&rnd) % most);
		uint32_t	len = fixed ? 60 : (uint32_t) (rig_random(&rnd) % (rig_random(&rnd) % 40 == 0 ? 3000 : 150));

		ltg_store_be64(key, (uint64_t) (i + i / 5) << 24);
		memset(key + 8, 'k', 32);
		for (uint32_t k = 0; k < len; k++)
			payload[k] = (uint8_t) ("etaoin shrdlu"[rig_random(&rnd) % 13]);
		for (uint32_t k = 0; k < versions; k++)
		{
			LtgVersion	v = {.payload = payload, .payload_len = len, .seq = 1000000 - k,
			.xid = 77, .state = LTG_COMMITTED, .tag = (uint8_t) (versions - k)};

			if (k + 1 == versions)
			{
				v.state = LTG_SETTLED;
				v.xid = v.seq = 0;
			}
			else if (rig_random(&rnd) % 8 == 0)
			{
				v.kind = LTG_DELETE;
				v.aux = i;
				v.payload_len = 0;
			}
			model_add(m, key, long_keys ? 8 + i % 30 : 5, &v);
			len = change_payload(payload, len, change, &rnd);
		}
	}
}

/* All of the model as one block. */
static uint8_t *
one_block(Rig *r, const Model *m, uint32_t *len)
{
	LtgBlockBuilder b;
	uint8_t    *block;

	ltg_builder_init(&b, &r->s);
	for (uint32_t i = 0; i < m->n; i++)
	{
		bool		new_key = i == 0 || ltg_key_cmp(m->e[i].key, m->e[i].key_len,
													m->e[i - 1].key, m->e[i - 1].key_len) != 0;

		assert_int_equal(ltg_builder_add(&b, m->e[i].key, m->e[i].key_len, &m->e[i].v, new_key), LTG_OK);
	}
	*len = (uint32_t) ltg_builder_size(&b, b.n);
	block = malloc(*len);
	ltg_builder_build(&b, b.n, block, *len);
	ltg_builder_free(&b);
	return block;
}

/* Nonsense gives nonsense or a refusal, nothing worse (the sanitizers look). */
static void
damage_diffs(const uint8_t *packed, uint32_t packed_len, uint32_t stride, uint32_t len, uint64_t *rnd)
{
	uint8_t    *back = malloc(len);
	uint8_t    *scratch = malloc(len);

	for (int round = 0; round < 30; round++)
	{
		uint32_t	have = rig_random(rnd) % 4 == 0 ? (uint32_t) (rig_random(rnd) % (packed_len + 1)) : packed_len;
		uint8_t    *bad = malloc(have + 1);
		uint32_t	n;

		memcpy(bad, packed, have);
		for (uint32_t k = (uint32_t) (rig_random(rnd) % 6); k > 0 && have > 0; k--)
		{
			uint32_t	within = rig_random(rnd) % 2 ? LTG_BH_BYTES : have;

			bad[rig_random(rnd) % (within < have ? within : have)] = (uint8_t) rig_random(rnd);
		}
		bad = realloc(bad, have > 0 ? have : 1);
		n = ltg_diffs_entries(bad, have, len);
		if (n > 0)
		{
			LtgDiffsEntry *e = malloc(n * sizeof(LtgDiffsEntry));

			(void) ltg_diffs_unpack(bad, have, rig_random(rnd) % 4 == 0 ? 8 * (uint32_t) (rig_random(rnd) % 12) : stride,
									e, scratch, back, len);
			free(e);
		}
		free(bad);
	}
	free(back);
	free(scratch);
}

static void
round_trip_diffs(const uint8_t *block, uint32_t len, uint64_t *rnd, uint32_t *with_columns)
{
	uint32_t	n = ltg_diffs_entries(block, len, len);
	LtgDiffsEntry *e = malloc((n + 1) * sizeof(LtgDiffsEntry));
	uint8_t    *scratch = malloc(len);
	uint8_t    *back = malloc(len);
	LtgDiffs	d;

	if (n > 0 && ltg_diffs_prepare(block, len, e, &d))
		for (int columns = 0; columns < 2; columns++)
		{
			uint32_t	stride = columns ? d.sums.stride : 0;
			uint8_t    *packed = malloc(d.most + ltg_columns_extra(stride) + 1);
			uint32_t	packed_len = ltg_diffs_pack(block, &d, e, stride, scratch, packed);
			uint8_t    *copy = malloc(packed_len);

			*with_columns += stride != 0;
			assert_true(packed_len <= d.most + ltg_columns_extra(stride));
			memcpy(copy, packed, packed_len);
			assert_int_equal(ltg_diffs_entries(packed, packed_len, len), n);
			memset(back, 0xA5, len);
			assert_true(ltg_diffs_unpack(packed, packed_len, stride, e, scratch, back, len));
			assert_memory_equal(block, back, len);
			/* not a byte more or less will do */
			memcpy(packed, copy, packed_len);
			assert_false(ltg_diffs_unpack(packed, packed_len - 1, stride, e, scratch, back, len));
			memcpy(packed, copy, packed_len);
			packed[packed_len] = 0;
			assert_false(ltg_diffs_unpack(packed, packed_len + 1, stride, e, scratch, back, len));
			damage_diffs(copy, packed_len, stride, len, rnd);
			free(packed);
			free(copy);
			assert_true(ltg_diffs_prepare(block, len, e, &d));
		}
	free(e);
	free(scratch);
	free(back);
}

static void
test_diffs(void **state)
{
	uint64_t	rnd = 11;
	uint32_t	with_columns = 0;
	Rig			r;

	(void) state;
	rig_open(&r);
	for (uint64_t round = 0; round < 400; round++)
	{
		uint32_t	keys = 1 + (uint32_t) (rig_random(&rnd) % (round % 20 == 0 ? 900 : 60));
		Model		m;
		uint8_t    *block;
		uint32_t	len;

		versions_model(&m, keys, 1 + (uint32_t) (round % 5), (Change) (rig_random(&rnd) % CHANGES),
					   round % 3 == 0, round % 4 == 1, round);
		block = one_block(&r, &m, &len);
		assert_true(ltg_diffs_entries(block, len, len) == 0 ||
					ltg_diffs_entries(block, len, len) == m.n);
		if (round % 5 == 0)		/* one version of each key */
			assert_int_equal(ltg_diffs_entries(block, len, len), 0);
		round_trip_diffs(block, len, &rnd, &with_columns);
		free(block);
		model_free(&m);
	}
	assert_true(with_columns > 40);
	rig_close(&r);
}

/* The length of a block of pairs, the older of which differs as told, as it is
 * stored before compression, less that of the block without older versions. */
static uint32_t
second_versions(Rig *r, uint32_t keys, Change change)
{
	uint8_t		payload[128];
	uint32_t	len[2];
	LtgDiffs	d;

	for (int second = 0; second < 2; second++)
	{
		Model		m = {0};
		uint64_t	rnd = 5;
		uint8_t    *block;
		uint8_t    *packed;
		uint8_t    *scratch;
		LtgDiffsEntry *e = malloc(2 * keys * sizeof(LtgDiffsEntry));

		for (uint32_t i = 0; i < keys; i++)
		{
			uint8_t		key[5] = {0, 0, 0, (uint8_t) (i >> 8), (uint8_t) i};
			LtgVersion	v = {.payload = payload, .payload_len = 105, .seq = 9, .xid = 7,
			.state = LTG_COMMITTED};

			for (uint32_t k = 0; k < sizeof(payload); k++)
				payload[k] = (uint8_t) rig_random(&rnd);
			payload[20] |= 1;
			model_add(&m, key, sizeof(key), &v);
			payload[20]--;
			if (change == OTHER_LENGTH)
				v.payload_len = 104;
			v.state = LTG_SETTLED;
			v.seq = v.xid = 0;
			if (second)
				model_add(&m, key, sizeof(key), &v);
		}
		block = one_block(r, &m, &len[second]);
		if (second)
		{
			assert_true(ltg_diffs_prepare(block, len[1], e, &d));
			packed = malloc(d.most);
			scratch = malloc(len[1]);
			len[1] = ltg_diffs_pack(block, &d, e, 0, scratch, packed);
			free(packed);
			free(scratch);
		}
		free(block);
		free(e);
		model_free(&m);
	}
	return len[1] - len[0];
}

static void
test_size_of_differences(void **state)
{
	Rig			r;

	(void) state;
	rig_open(&r);
	/* two values for each of 200 entries: of heads, and of kind bytes; a bit for
	 * each choice, the bits of columns, and one of those, of one value */
	assert_int_equal(second_versions(&r, 100, SAME_LENGTH), (3 + 25) + (3 + 25) + 13 + 14 + 2);
	/* two bytes of lengths, and no choices, but per row two steps and a byte, and
	 * the length of all steps */
	assert_int_equal(second_versions(&r, 100, OTHER_LENGTH), 4 * (3 + 25) + (3 + 3 + 1) * 100 + 4);
	rig_close(&r);
}

/* ---- methods and dictionaries of whole runs ---- */

typedef enum Kind
{
	NUMBERS,					/* of one width */
	PHRASES,					/* texts that share a lot */
	NOISE
} Kind;

/* Of each pairs-th key two versions, the newer one by one transaction (0: none). */
static void
make_versions(Model *m, Kind kind, uint32_t n, uint32_t pairs, uint64_t seed)
{
	static const char *const phrase[] = {
		"https://www.example-shop.com/electronics/item-", "?ref=newsletter&campaign=", "\"device\":\"mobile\",",
		"\"session\":\"", "duration_ms", "checkout_variant", "page_view", "add_to_cart"
	};

	uint8_t		table = (uint8_t) seed;

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < n; i++)
	{
		uint8_t		key[5] = {0, table, (uint8_t) (i >> 16), (uint8_t) (i >> 8), (uint8_t) i};
		uint8_t		payload[256];
		LtgVersion	v = {.payload = payload, .seq = i + 1, .state = LTG_SETTLED};

		if (kind == NUMBERS)
		{
			ltg_store32(payload, i);
			ltg_store32(payload + 4, (uint32_t) (rig_random(&seed) % 50000));
			ltg_store32(payload + 8, (uint32_t) (rig_random(&seed) & 0x03010307));
			v.payload_len = 12 + i % 4;
			memset(payload + 12, 7, 4);
		}
		else if (kind == PHRASES)
			v.payload_len = (uint32_t)
				snprintf((char *) payload, sizeof(payload), "%s%u%s%s%06x",
						 phrase[rig_random(&seed) % 8], (unsigned) (rig_random(&seed) % 9999),
						 phrase[rig_random(&seed) % 8], phrase[rig_random(&seed) % 8],
						 (unsigned) (rig_random(&seed) & 0xFFFFFF));
		else
		{
			v.payload_len = 48 + i % 50;
			for (uint32_t k = 0; k < v.payload_len; k++)
				payload[k] = (uint8_t) rig_random(&seed);
		}
		if (pairs != 0 && i % pairs == 0)
		{
			v.state = LTG_COMMITTED;
			v.seq = v.xid = 1000;
			model_add(m, key, sizeof(key), &v);
			v.state = LTG_SETTLED;
			v.seq = v.xid = 0;
			payload[8]--;
			if (kind == PHRASES)
				v.payload_len--;
		}
		model_add(m, key, sizeof(key), &v);
	}
}

static void
make_model(Model *m, Kind kind, uint32_t n, uint64_t seed)
{
	make_versions(m, kind, n, 0, seed);
}

static void
read_back(Rig *r, const Model *m, const LtgRunRef *ref)
{
	LtgPoint	p = {0};
	LtgVersion	v;

	assert_int_equal(ltg_run_check(&r->s, ref), LTG_OK);
	for (uint32_t i = 0; i < m->n; i += 7)
	{
		const ModelEntry *e = &m->e[i];

		assert_int_equal(ltg_run_get(&r->s, ref, e->key, e->key_len,
									 ltg_key_hash(e->key, e->key_len), true, &p, &v), LTG_OK);
		model_compare(&v, &e->v);
	}
	ltg_point_close(&r->s, &p);
}

/* How the run's first data block is stored. */
static void
first_block(Rig *r, const LtgRunRef *ref, uint8_t *codec, uint8_t *stride, bool *diffs)
{
	uint8_t		env[LTG_ENV_BYTES];

	assert_int_equal(ltg_file_read_exact(&r->s, ref->file, env, sizeof(env),
										 ref->dict_offset + ref->dict_disk_len), LTG_OK);
	assert_int_equal(env[LTG_ENV_TYPE], LTG_BLOCK_DATA);
	*codec = env[LTG_ENV_CODEC];
	*stride = env[LTG_ENV_STRIDE];
	*diffs = env[LTG_ENV_DIFFS] != 0;
}

static void
test_choice(void **state)
{
	static const struct
	{
		Kind		kind;
		LtgCodecChoice choice;
		bool		last;
		uint8_t		codec;
		uint8_t		stride;
		bool		dict;
	}			c[] = {
		{NUMBERS, LTG_CODEC_ADAPTIVE, true, LTG_STORED_ZSTD, 2, false},
		{NUMBERS, LTG_CODEC_ADAPTIVE, false, LTG_STORED_LZ4, 2, false},
		{NUMBERS, LTG_CODEC_LZ4, true, LTG_STORED_LZ4, 2, false},
		{NUMBERS, LTG_CODEC_ZSTD, false, LTG_STORED_ZSTD, 2, false},
		{NUMBERS, LTG_CODEC_NONE, true, LTG_STORED_NONE, 0, false},
		{PHRASES, LTG_CODEC_ADAPTIVE, true, LTG_STORED_ZSTD_DICT, 0, true},
		{PHRASES, LTG_CODEC_ZSTD, true, LTG_STORED_ZSTD_DICT, 0, true},
		{PHRASES, LTG_CODEC_LZ4, true, LTG_STORED_LZ4, 0, false},
		{NOISE, LTG_CODEC_ADAPTIVE, true, LTG_STORED_NONE, 0, false},
		{NOISE, LTG_CODEC_ZSTD, true, LTG_STORED_NONE, 0, false},
		{NOISE, LTG_CODEC_LZ4, false, LTG_STORED_NONE, 0, false},
	};

	(void) state;
	for (uint32_t i = 0; i < sizeof(c) / sizeof(c[0]); i++)
	{
		LtgRunOptions opt = rig_options();
		Rig			r;
		Model		m;
		LtgRunRef	ref;
		uint8_t		codec;
		uint8_t		stride;
		bool		diffs;

		rig_open(&r);
		make_model(&m, c[i].kind, 4000, i);
		opt.codec = c[i].choice;
		opt.last_level = c[i].last;
		assert_int_equal(model_write(&r, &m, 1, &opt, &ref), LTG_OK);
		first_block(&r, &ref, &codec, &stride, &diffs);
		assert_int_equal(codec, c[i].codec);
		assert_int_equal(stride, c[i].stride);
		assert_false(diffs);
		assert_int_equal(ref.dict_disk_len != 0, c[i].dict);
		read_back(&r, &m, &ref);
		model_free(&m);
		rig_close(&r);
	}
}

/* Every version, in order. */
static void
read_versions(Rig *r, const Model *m, const LtgRunRef *ref)
{
	LtgRunIter *it;
	LtgVersion	v;
	uint32_t	i = 0;
	LtgStatus	st;

	assert_int_equal(ltg_run_check(&r->s, ref), LTG_OK);
	assert_int_equal(ltg_run_iter_open(&r->s, ref, LTG_CACHE_NORMAL, &it), LTG_OK);
	for (st = ltg_run_iter_seek_ge(it, NULL, 0); st == LTG_OK; st = ltg_run_iter_next_key(it))
	{
		ltg_run_iter_version(it, &v);
		do
		{
			assert_true(i < m->n);
			model_compare(&v, &m->e[i++].v);
		} while (ltg_run_iter_older(it, &v) == LTG_OK);
	}
	assert_int_equal(st, LTG_END);
	assert_int_equal(i, m->n);
	ltg_run_iter_close(it);
}

/*
 * Older versions with every method, and what all of them take in the file: less
 * than nothing where the lengths of payloads, which differ, are stored better, too.
 */
static void
test_versions_in_runs(void **state)
{
	static const struct
	{
		Kind		kind;
		LtgCodecChoice choice;
		bool		last;
		uint8_t		codec;
		uint8_t		stride;
		uint32_t	pairs;
		int			most;		/* bytes for all older versions */
	}			c[] = {
		{NUMBERS, LTG_CODEC_ADAPTIVE, true, LTG_STORED_ZSTD, 2, 1, -5400},
		{NUMBERS, LTG_CODEC_ADAPTIVE, false, LTG_STORED_LZ4, 2, 1, -6100},
		{NUMBERS, LTG_CODEC_LZ4, true, LTG_STORED_LZ4, 2, 1, -6100},
		{NUMBERS, LTG_CODEC_ZSTD, false, LTG_STORED_ZSTD, 2, 1, -5400},
		{PHRASES, LTG_CODEC_ADAPTIVE, true, LTG_STORED_ZSTD_DICT, 0, 5, -2300},
		{PHRASES, LTG_CODEC_LZ4, true, LTG_STORED_LZ4, 0, 1, 7900},
		{PHRASES, LTG_CODEC_ADAPTIVE, false, LTG_STORED_LZ4, 0, 1, 7900},
		{NOISE, LTG_CODEC_ADAPTIVE, true, LTG_STORED_LZ4, 0, 1, -2700},
		{NOISE, LTG_CODEC_ZSTD, true, LTG_STORED_ZSTD, 0, 1, -5000},
	};
	enum {ROWS = 4000};

	(void) state;
	for (uint32_t i = 0; i < sizeof(c) / sizeof(c[0]); i++)
	{
		LtgRunOptions opt = rig_options();
		Rig			r;
		Model		m[2];
		LtgRunRef	ref[2];
		uint8_t    *dict = NULL;
		uint8_t		codec;
		uint8_t		stride;
		bool		diffs;

		rig_open(&r);
		opt.codec = c[i].choice;
		opt.last_level = c[i].last;
		for (uint32_t k = 0; k < 2; k++)
		{
			make_versions(&m[k], c[i].kind, ROWS, k * c[i].pairs, 7);
			assert_int_equal(model_write(&r, &m[k], k + 1, &opt, &ref[k]), LTG_OK);
			read_versions(&r, &m[k], &ref[k]);
			if (ref[0].dict_id != 0)	/* as when runs are merged */
			{
				if (k == 0)
					assert_int_equal(ltg_run_dictionary(&r.s, &ref[0], &dict, &opt.dict_len), LTG_OK);
				opt.dict = dict;
				opt.dict_id = ref[0].dict_id;
			}
		}
		if (dict != NULL)
			r.port->free(r.port, dict);
		first_block(&r, &ref[1], &codec, &stride, &diffs);
		assert_int_equal(codec, c[i].codec);
		assert_int_equal(stride, c[i].stride);
		assert_true(diffs);
		assert_true((int64_t) (ref[1].disk_bytes - ref[0].disk_bytes) <= c[i].most);
		model_free(&m[0]);
		model_free(&m[1]);
		rig_close(&r);
	}
}

/* Where differences do not pay, blocks stay as they are. */
static void
test_no_differences(void **state)
{
	LtgRunOptions opt = rig_options();
	uint64_t	rnd = 3;
	uint8_t		codec;
	uint8_t		stride;
	bool		diffs;
	Rig			r;
	Model		m = {0};
	LtgRunRef	ref;

	(void) state;
	rig_open(&r);
	opt.codec = LTG_CODEC_ZSTD;
	/* versions that have nothing to do with each other */
	for (uint32_t i = 0; i < 3000; i++)
	{
		uint8_t		key[5] = {0, 0, 0, (uint8_t) (i / 2 >> 8), (uint8_t) (i / 2)};
		uint8_t		payload[100];
		LtgVersion	v = {.payload = payload, .payload_len = 100, .seq = 9, .xid = 7,
		.state = i % 2 == 0 ? LTG_COMMITTED : LTG_SETTLED};

		for (uint32_t k = 0; k < 100; k++)
			payload[k] = (uint8_t) ("0123456789abcdef"[rig_random(&rnd) % 16]);
		model_add(&m, key, sizeof(key), &v);
	}
	assert_int_equal(model_write(&r, &m, 1, &opt, &ref), LTG_OK);
	first_block(&r, &ref, &codec, &stride, &diffs);
	assert_int_equal(codec, LTG_STORED_ZSTD);
	assert_false(diffs);
	read_versions(&r, &m, &ref);

	/* who wants no compression gets none */
	opt.codec = LTG_CODEC_NONE;
	model_free(&m);
	make_versions(&m, NUMBERS, 1000, 1, 1);
	assert_int_equal(model_write(&r, &m, 2, &opt, &ref), LTG_OK);
	first_block(&r, &ref, &codec, &stride, &diffs);
	assert_int_equal(codec, LTG_STORED_NONE);
	assert_false(diffs);
	read_versions(&r, &m, &ref);
	model_free(&m);
	rig_close(&r);
}

/* Runs share a dictionary as long as it does its work. */
static void
test_inherited_dictionary(void **state)
{
	LtgRunOptions opt = rig_options();
	Rig			r;
	Model		m;
	LtgRunRef	ref[3];
	uint8_t    *dict;
	uint32_t	len;

	(void) state;
	rig_open(&r);
	opt.last_level = true;
	make_model(&m, PHRASES, 4000, 1);
	assert_int_equal(model_write(&r, &m, 1, &opt, &ref[0]), LTG_OK);
	assert_true(ref[0].dict_id != 0);
	assert_int_equal(ltg_run_dictionary(&r.s, &ref[0], &dict, &len), LTG_OK);
	model_free(&m);

	make_model(&m, PHRASES, 3000, 2);
	opt.dict = dict;
	opt.dict_len = len;
	opt.dict_id = ref[0].dict_id;
	assert_int_equal(model_write(&r, &m, 2, &opt, &ref[1]), LTG_OK);
	assert_int_equal(ref[1].dict_id, ref[0].dict_id);
	assert_int_equal(ref[1].dict_disk_len, ref[0].dict_disk_len);
	read_back(&r, &m, &ref[1]);
	model_free(&m);

	/* for other rows it is of no use */
	make_model(&m, NUMBERS, 3000, 3);
	assert_int_equal(model_write(&r, &m, 3, &opt, &ref[2]), LTG_OK);
	assert_int_equal(ref[2].dict_id, 0);
	read_back(&r, &m, &ref[2]);
	model_free(&m);

	/* a reference that names another dictionary than its block has */
	ref[1].dict_id++;
	r.port->free(r.port, dict);
	assert_int_equal(ltg_run_dictionary(&r.s, &ref[1], &dict, &len), LTG_CORRUPT);
	ltg_clear_error(&r.s);
	rig_close(&r);
}

/*
 * Writers that lend each other a compressor: the second run is compressed as the
 * first one was, without a look at its rows.
 */
static void
test_like_before(void **state)
{
	static const Kind kind[] = {PHRASES, NUMBERS};

	(void) state;
	for (uint32_t k = 0; k < 2; k++)
	{
		LtgRunOptions opt = rig_options();
		Rig			r;
		Model		m;
		LtgRunRef	ref[2];
		uint8_t		codec[2];
		uint8_t		stride[2];
		bool		diffs;
		const uint8_t *bytes;
		uint8_t    *dict = NULL;

		rig_open(&r);
		opt.last_level = true;
		assert_int_equal(ltg_compressor_create(&r.s, &opt.compressor), LTG_OK);
		make_model(&m, kind[k], 4000, 1);
		assert_int_equal(model_write(&r, &m, 1, &opt, &ref[0]), LTG_OK);
		read_back(&r, &m, &ref[0]);
		first_block(&r, &ref[0], &codec[0], &stride[0], &diffs);
		bytes = ltg_compressor_dictionary(opt.compressor, &opt.dict_len);
		assert_int_equal(bytes != NULL, kind[k] == PHRASES);
		assert_int_equal(bytes != NULL, ref[0].dict_disk_len != 0);
		model_free(&m);

		if (bytes != NULL)
		{
			dict = malloc(opt.dict_len);
			memcpy(dict, bytes, opt.dict_len);
		}
		opt.dict = dict;
		opt.dict_id = ref[0].dict_id;
		opt.like_before = true;
		make_model(&m, kind[k], 300, 2);	/* too few to decide */
		assert_int_equal(model_write(&r, &m, 2, &opt, &ref[1]), LTG_OK);
		read_back(&r, &m, &ref[1]);
		first_block(&r, &ref[1], &codec[1], &stride[1], &diffs);
		assert_int_equal(codec[1], codec[0]);
		assert_int_equal(stride[1], stride[0]);
		assert_int_equal(ref[1].dict_id, ref[0].dict_id);
		assert_int_equal(ref[1].dict_disk_len, ref[0].dict_disk_len);
		model_free(&m);

		/* what has changed altogether is noticed */
		make_model(&m, NOISE, 3000, 3);
		assert_int_equal(model_write(&r, &m, 3, &opt, &ref[1]), LTG_OK);
		read_back(&r, &m, &ref[1]);
		assert_true(ref[1].disk_bytes < ref[1].raw_bytes + ref[1].raw_bytes / 50);
		model_free(&m);
		free(dict);
		ltg_compressor_free(&r.s, opt.compressor);
		rig_close(&r);
	}
}

/* zstd's fastest level unless the one that is asked for does better. */
static void
test_level(void **state)
{
	enum {BLOCK = 16384, N = 12};

	(void) state;
	/* the second time after blocks of the other kind */
	for (uint32_t round = 0; round < 4; round++)
	{
		uint32_t	digits = round % 2;
		Rig			r;
		LtgCompressor *c;
		uint64_t	rnd = 5;
		uint8_t    *block = malloc(BLOCK);
		uint8_t    *out = malloc(BLOCK);
		LtgPacked	p = {0};

		rig_open(&r);
		assert_int_equal(ltg_compressor_create(&r.s, &c), LTG_OK);
		ltg_compressor_begin(&r.s, c, LTG_CODEC_ADAPTIVE, 9, true);
		for (uint32_t i = 0; i < 3 * N; i++)
		{
			if (i < 2 * N)
				digits = round < 2 ? round % 2 : (round + 1) % 2;
			else
				digits = round % 2;
			memset(block, 0, BLOCK);
			ltg_store32(block + LTG_BH_PAYLOADS, LTG_BH_BYTES);
			for (uint32_t at = LTG_BH_BYTES; at < BLOCK;)
				if (digits)
					block[at++] = "0123456789abcdef"[rig_random(&rnd) % 16];
				else
					at += (uint32_t) snprintf((char *) block + at, BLOCK - at, "%s %u of %u, ",
											  rig_random(&rnd) % 2 ? "apples and pears" : "pears and plums",
											  (unsigned) (rig_random(&rnd) % 40), (unsigned) (rig_random(&rnd) % 90));
			assert_int_equal(ltg_compress(&r.s, c, LTG_BLOCK_DATA, block, BLOCK, &p), LTG_OK);
		}
		assert_int_equal(p.codec, LTG_STORED_ZSTD);
		assert_int_equal(p.len, ZSTD_compress(out, BLOCK, block, BLOCK, digits ? 1 : 9));
		assert_int_not_equal(p.len, ZSTD_compress(out, BLOCK, block, BLOCK, digits ? 9 : 1));
		ltg_compressor_free(&r.s, c);
		free(block);
		free(out);
		rig_close(&r);
	}
}

/* A session reads runs with more dictionaries than it keeps. */
static void
test_many_dictionaries(void **state)
{
	enum {RUNS = 9};
	LtgRunOptions opt = rig_options();
	Rig			r;
	Model		m[RUNS];
	LtgRunRef	ref[RUNS];

	(void) state;
	rig_open(&r);
	opt.last_level = true;
	for (uint32_t i = 0; i < RUNS; i++)
	{
		make_model(&m[i], PHRASES, 1500, i);
		assert_int_equal(model_write(&r, &m[i], i + 1, &opt, &ref[i]), LTG_OK);
		assert_true(ref[i].dict_id != 0);
	}
	for (uint32_t k = 0; k < 3 * RUNS; k++)
		read_back(&r, &m[k * 5 % RUNS], &ref[k * 5 % RUNS]);
	for (uint32_t i = 0; i < RUNS; i++)
		model_free(&m[i]);
	rig_close(&r);
}

/* Rows that change their nature in the middle of a run: the choice follows. */
static void
test_change_of_nature(void **state)
{
	LtgRunOptions opt = rig_options();
	Rig			r;
	Model		a,
				b,
				both = {0};
	LtgRunRef	ref[3];

	(void) state;
	rig_open(&r);
	opt.last_level = true;
	make_model(&a, PHRASES, 30000, 1);
	make_model(&b, NUMBERS, 120000, 2);
	for (uint32_t i = 0; i < a.n; i++)
		model_add(&both, a.e[i].key, a.e[i].key_len, &a.e[i].v);
	for (uint32_t i = 0; i < b.n; i++)
		model_add(&both, b.e[i].key, b.e[i].key_len, &b.e[i].v);
	assert_int_equal(model_write(&r, &a, 1, &opt, &ref[0]), LTG_OK);
	assert_int_equal(model_write(&r, &b, 2, &opt, &ref[1]), LTG_OK);
	assert_int_equal(model_write(&r, &both, 3, &opt, &ref[2]), LTG_OK);
	assert_true(ref[2].disk_bytes < (ref[0].disk_bytes + ref[1].disk_bytes) * 110 / 100);
	read_back(&r, &both, &ref[2]);
	model_free(&a);
	model_free(&b);
	model_free(&both);
	rig_close(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_no_columns),
		cmocka_unit_test(test_diffs),
		cmocka_unit_test(test_size_of_differences),
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_versions_in_runs),
		cmocka_unit_test(test_no_differences),
		cmocka_unit_test(test_inherited_dictionary),
		cmocka_unit_test(test_like_before),
		cmocka_unit_test(test_level),
		cmocka_unit_test(test_many_dictionaries),
		cmocka_unit_test(test_change_of_nature),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
