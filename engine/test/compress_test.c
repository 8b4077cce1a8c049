/*
 * compress_test.c
 *	  Transposed payloads, the choice of methods, dictionaries.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/coding.h"
#include "rig.h"
#include "storage/blockio.h"
#include "storage/columns.h"
#include "storage/compress.h"
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
		b[start + i * stride] = (uint8_t) (i * 3);	/* a counter */
	b[LTG_BH_PAY_WIDTH] = 0;
	ltg_store32(b + LTG_BH_N, n);
	ltg_store32(b + LTG_BH_PAYLOADS, start);
	ltg_store32(b + LTG_BH_PAY_LEN, stride - cut);
	return b;
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

		assert_int_equal(ltg_columns_stride(b, len), stride);
		ltg_columns_pack(b, len, stride, packed);
		/* the counter is a column of differences */
		assert_int_equal(packed[ltg_load32(b + LTG_BH_PAYLOADS)] & 1, 1);
		assert_true(ltg_columns_unpack(packed, len, stride, back));
		assert_memory_equal(b, back, len);

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

/* ---- methods and dictionaries of whole runs ---- */

typedef enum Kind
{
	NUMBERS,					/* of one width */
	PHRASES,					/* texts that share a lot */
	NOISE
} Kind;

static void
make_model(Model *m, Kind kind, uint32_t n, uint64_t seed)
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
		model_add(m, key, sizeof(key), &v);
	}
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

/* The codec and stride of the run's first data block. */
static void
first_block(Rig *r, const LtgRunRef *ref, uint8_t *codec, uint8_t *stride)
{
	uint8_t		env[LTG_ENV_BYTES];

	assert_int_equal(ltg_file_read_exact(&r->s, ref->file, env, sizeof(env),
										 ref->dict_offset + ref->dict_disk_len), LTG_OK);
	assert_int_equal(env[LTG_ENV_TYPE], LTG_BLOCK_DATA);
	*codec = env[LTG_ENV_CODEC];
	*stride = env[LTG_ENV_STRIDE];
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

		rig_open(&r);
		make_model(&m, c[i].kind, 4000, i);
		opt.codec = c[i].choice;
		opt.last_level = c[i].last;
		assert_int_equal(model_write(&r, &m, 1, &opt, &ref), LTG_OK);
		first_block(&r, &ref, &codec, &stride);
		assert_int_equal(codec, c[i].codec);
		assert_int_equal(stride, c[i].stride);
		assert_int_equal(ref.dict_disk_len != 0, c[i].dict);
		read_back(&r, &m, &ref);
		model_free(&m);
		rig_close(&r);
	}
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
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_inherited_dictionary),
		cmocka_unit_test(test_many_dictionaries),
		cmocka_unit_test(test_change_of_nature),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
