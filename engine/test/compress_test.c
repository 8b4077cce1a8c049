/*
 * compress_test.c
 *	  How runs are compressed: the choice of methods and of the level,
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
#include "storage/blockio.h"
#include "storage/compress.h"
#include "storage/format.h"

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
		LtgVersion	v = {.payload = payload, .seq = i + 1, .xid = 1000,
		.state = LTG_SETTLED};

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
			v.seq = 1000;
			model_add(m, key, sizeof(key), &v);
			v.state = LTG_SETTLED;
			v.seq = 0;
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
	*diffs = (env[LTG_ENV_FORM] & LTG_EF_DIFFS) != 0;
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

/* ---- the level ---- */

#define LEVEL_BLOCK 16384

typedef enum Stuff
{
	TEXT,						/* a higher level does better */
	DIGITS,						/* it does not: there is nothing but their frequency */
	WORDS						/* of 4 bytes among noise: level 1 finds none, lz4 does */
} Stuff;

static void
fill_block(uint8_t *block, Stuff stuff, uint64_t *rnd)
{
	uint32_t	at = LTG_BH_BYTES;

	memset(block, 0, LEVEL_BLOCK);
	ltg_store32(block + LTG_BH_PAYLOADS, LTG_BH_BYTES);
	while (at + 64 < LEVEL_BLOCK)
	{
		uint32_t	r = (uint32_t) rig_random(rnd);
		uint64_t	word = r % 256;

		if (stuff == DIGITS)
			block[at++] = (uint8_t) "0123456789abcdef"[r % 16];
		else if (stuff == WORDS)
		{
			ltg_store32(block + at, (uint32_t) rig_random(&word));
			block[at + 4] = (uint8_t) (r >> 8);
			at += 5;
		}
		else
			at += (uint32_t) snprintf((char *) block + at, 64, "%s %u of %u, ",
									  r % 2 ? "apples and pears" : "pears and plums", r / 2 % 40, r / 80 % 90);
	}
}

/* zstd's fastest level unless the one that is asked for does better, whatever came before. */
static void
test_level(void **state)
{
	static const struct
	{
		Stuff		before, now;
		int			level;
	}			c[] = {
		{TEXT, TEXT, 9}, {DIGITS, DIGITS, 1}, {DIGITS, TEXT, 9}, {TEXT, DIGITS, 1}, {DIGITS, WORDS, 9}
	};
	uint8_t    *block = malloc(LEVEL_BLOCK);
	uint8_t    *out = malloc(LEVEL_BLOCK + 100);

	(void) state;
	for (uint32_t k = 0; k < sizeof(c) / sizeof(c[0]); k++)
	{
		Rig			r;
		LtgCompressor *comp;
		uint64_t	rnd = 5;
		LtgPacked	p = {0};
		size_t		size[2];

		rig_open(&r);
		assert_int_equal(ltg_compressor_create(&r.s, &comp), LTG_OK);
		ltg_compressor_begin(&r.s, comp, LTG_CODEC_ADAPTIVE, 9, true);
		for (uint32_t i = 0; i < 100; i++)
		{
			fill_block(block, i < 20 ? c[k].before : c[k].now, &rnd);
			assert_int_equal(ltg_compress(&r.s, comp, LTG_BLOCK_DATA, block, LEVEL_BLOCK, &p), LTG_OK);
		}
		size[0] = ZSTD_compress(out, LEVEL_BLOCK + 100, block, LEVEL_BLOCK, 1);
		size[1] = ZSTD_compress(out, LEVEL_BLOCK + 100, block, LEVEL_BLOCK, 9);
		assert_int_not_equal(size[0], size[1]);
		assert_int_equal(p.codec, LTG_STORED_ZSTD);
		assert_int_equal(p.len, size[c[k].level == 9]);
		ltg_compressor_free(&r.s, comp);
		rig_close(&r);
	}
	free(block);
	free(out);
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
