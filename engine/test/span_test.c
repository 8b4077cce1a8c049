/*
 * span_test.c
 *	  Plain blocks read through spans, whole and without their payloads: the
 *	  same as entry by entry.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "storage/block.h"
#include "storage/run.h"
#include "test/rig.h"

typedef struct Shape
{
	uint32_t	n;
	uint32_t	key_len;
	uint32_t	tail;			/* further bytes, at every third key only */
	uint32_t	gap;			/* largest distance between keys */
	uint32_t	min_pay, max_pay;
	bool		tags;
	LtgState	state;
} Shape;

static void
put_key(uint8_t *key, uint32_t len, uint64_t x)
{
	for (uint32_t i = len; i-- > 0; x >>= 8)
		key[i] = (uint8_t) x;
}

static uint8_t *
build(Rig *r, const Shape *sh, uint64_t *seed, uint64_t *len)
{
	LtgBlockBuilder b;
	uint64_t	x = rig_random(seed) >> (sh->key_len >= 8 ? 1 : 64 - 8 * sh->key_len + 1);
	static uint8_t payload[100000];
	uint8_t    *block;

	ltg_builder_init(&b, &r->s);
	for (uint32_t i = 0; i < sh->n; i++)
	{
		uint8_t		key[64] = {0};
		uint32_t	key_len = sh->key_len + (i % 3 == 0 ? sh->tail : 0);
		LtgVersion	v = {.kind = LTG_PUT, .state = sh->state, .payload = payload};

		put_key(key, sh->key_len, x);
		x += 1 + (sh->gap > 1 ? rig_random(seed) % sh->gap : 0);
		v.payload_len = sh->min_pay + (uint32_t) (rig_random(seed) % (sh->max_pay - sh->min_pay + 1));
		memset(payload, (int) rig_random(seed), v.payload_len);
		v.tag = sh->tags ? (uint8_t) (rig_random(seed) % 127) : 0;
		v.xid = rig_writer(sh->n, i, seed);
		if (sh->state != LTG_SETTLED)
		{
			v.xid = UINT64_C(0x123456789A);
			v.cid = 77;
			v.seq = 1000 + rig_random(seed) % 100000;
		}
		assert_int_equal(ltg_builder_add(&b, key, key_len, &v, true), LTG_OK);
	}
	*len = ltg_builder_size(&b, sh->n);
	block = malloc(*len);
	ltg_builder_build(&b, sh->n, block, *len);
	ltg_builder_free(&b);
	assert_true(ltg_block_check(block, (uint32_t) *len, LTG_BLOCK_DATA));
	assert_true((block[LTG_BH_FLAGS] & LTG_BF_PLAIN) != 0);
	return block;
}

static uint64_t
key_number(const uint8_t *key, uint32_t len)
{
	uint64_t	x = 0;

	for (uint32_t i = 0; i < len; i++)
		x = x << 8 | key[i];
	return x;
}

/* A copy of exactly the bytes that are said to be enough. */
static uint8_t *
cut(const uint8_t *block, uint64_t len, uint32_t *cut_len)
{
	uint8_t    *copy;

	*cut_len = ltg_block_keys_len(block, (uint32_t) len);
	assert_true(*cut_len <= len);
	copy = malloc(*cut_len);
	memcpy(copy, block, *cut_len);
	return copy;
}

static void
compare(const uint8_t *block, uint64_t len, const uint8_t *keys, bool spans)
{
	LtgSpan		whole = {0};
	LtgSpan		part = {0};
	uint32_t	n = ltg_block_n(block);

	assert_int_equal(ltg_block_span(block, true, &whole), spans);
	assert_int_equal(ltg_block_span(keys, false, &part), spans);
	assert_int_equal(ltg_block_n(keys), n);
	for (uint32_t i = 0; i < n; i++)
	{
		uint8_t		key[LTG_KEY_MAX];
		uint8_t		key2[LTG_KEY_MAX];
		uint32_t	key_len, key2_len, pay_len;
		LtgVersion	v, v2;
		const uint8_t *payload;

		ltg_block_entry(block, (uint32_t) len, i, key, &key_len, &v);
		ltg_block_entry_key(keys, i, key2, &key2_len, &v2);
		assert_int_equal(key2_len, key_len);
		assert_memory_equal(key2, key, key_len);
		assert_null(v2.payload);
		assert_int_equal(v2.payload_len, 0);
		assert_int_equal(v2.kind, v.kind);
		assert_int_equal(v2.state, v.state);
		assert_int_equal(v2.tag, v.tag);
		assert_int_equal(v2.cid, v.cid);
		assert_int_equal(v2.xid, v.xid);
		assert_int_equal(v2.seq, v.seq);
		if (!spans)
			continue;
		assert_int_equal(ltg_span_key(&whole, i), key_number(key, key_len));
		assert_int_equal(ltg_span_key(&part, i), key_number(key, key_len));
		assert_int_equal(ltg_span_tag(&whole, i), v.tag);
		assert_int_equal(ltg_span_tag(&part, i), v.tag);
		assert_int_equal(whole.state, v.state);
		assert_int_equal(ltg_span_xid(&whole, i), v.xid);
		assert_int_equal(whole.cid, v.cid);
		assert_int_equal(ltg_span_xid(&part, i), v.xid);
		payload = ltg_span_payload(&whole, i, &pay_len);
		assert_int_equal(pay_len, v.payload_len);
		assert_ptr_equal(payload, v.payload);
		assert_null(ltg_span_payload(&part, i, &pay_len));
		assert_int_equal(pay_len, 0);
	}
}

static void
shapes(void **state)
{
	static const uint32_t lens[] = {2, 5, 8, 9, 16};
	static const uint32_t pays[][2] = {{0, 0}, {7, 7}, {1, 60}, {100, 300}, {9000, 90000}};
	Rig			r;
	uint64_t	seed = 42;

	(void) state;
	rig_open(&r);
	for (uint32_t k = 0; k < 5; k++)
		for (uint32_t p = 0; p < 5; p++)
			for (uint32_t bits = 0; bits < 16; bits++)
			{
				Shape		sh = {
					.n = 2 + (uint32_t) (rig_random(&seed) % 150),
					.key_len = lens[k],
					.tail = (bits & 1) ? 3 : 0,
					.gap = (bits & 2) ? 90 : 1,
					.min_pay = pays[p][0], .max_pay = pays[p][1],
					.tags = (bits & 4) != 0,
					.state = (bits & 8) ? LTG_SETTLED : LTG_UNRESOLVED
				};
				uint64_t	len;
				uint32_t	keys_len;
				uint8_t    *block = build(&r, &sh, &seed, &len);
				uint8_t    *keys = cut(block, len, &keys_len);

				compare(block, len, keys, sh.tail == 0 && lens[k] <= 8);
				if (sh.tail == 0 && sh.max_pay > 0 && !sh.tags && sh.gap == 1 && sh.state == LTG_SETTLED)
					assert_true(keys_len <= LTG_BH_BYTES + 8 + lens[k] + 8 + ltg_writers_bytes(block));
				free(keys);
				free(block);
			}
	rig_close(&r);
}

/* A header field that says where something is says something else. */
static void
damage(uint8_t *block, uint64_t len, uint64_t *seed)
{
	static const uint32_t places[] = {LTG_BH_META, LTG_BH_TAGS, LTG_BH_HEADS, LTG_BH_PAY_INDEX, LTG_BH_PAYLOADS};
	uint32_t	at = LTG_BH_BYTES + (uint32_t) (rig_random(seed) % (len - LTG_BH_BYTES));

	switch (rig_random(seed) % 8)
	{
		case 0:
			block[LTG_BH_ZERO] = (uint8_t) rig_random(seed);
			break;
		case 1:
			block[LTG_BH_XID_WIDTH] = (uint8_t) (rig_random(seed) % 9);
			break;
		case 2:
			block[LTG_BH_FLAGS] ^= (uint8_t) (rig_random(seed) % 2 ? LTG_BF_WRITERS : LTG_BF_SETTLED);
			break;
		default:
			ltg_store32(block + places[rig_random(seed) % 5], at & ~UINT32_C(7));
	}
}

/* Whatever passes as a block is read within the bytes that are said to be enough. */
static void
damaged(void **state)
{
	Rig			r;
	uint64_t	seed = 7;
	uint32_t	accepted = 0;
	uint32_t	refused = 0;

	(void) state;
	rig_open(&r);
	for (uint32_t round = 0; round < 20000; round++)
	{
		Shape		sh = {
			.n = 2 + (uint32_t) (rig_random(&seed) % 150), .key_len = 8,
			.gap = 1 + (uint32_t) (rig_random(&seed) % 2) * 89,
			.min_pay = 8, .max_pay = 8 + (uint32_t) (rig_random(&seed) % 2) * 40,
			.tags = rig_random(&seed) % 2 != 0,
			.state = rig_random(&seed) % 4 != 0 ? LTG_SETTLED : LTG_UNRESOLVED
		};
		uint64_t	len;
		uint32_t	keys_len;
		uint8_t    *block = build(&r, &sh, &seed, &len);
		uint8_t    *keys;
		LtgSpan		span = {0};

		damage(block, len, &seed);
		if (!ltg_block_check(block, (uint32_t) len, LTG_BLOCK_DATA))
		{
			refused++;
			free(block);
			continue;
		}
		accepted++;
		keys = cut(block, len, &keys_len);
		assert_true(ltg_block_span(keys, false, &span));
		for (uint32_t i = 0; i < sh.n; i++)
		{
			uint8_t		key[LTG_KEY_MAX];
			uint32_t	key_len;
			LtgVersion	v;

			(void) ltg_span_key(&span, i);
			(void) ltg_span_tag(&span, i);
			(void) ltg_span_xid(&span, i);
			ltg_block_entry_key(keys, i, key, &key_len, &v);
		}
		free(keys);
		free(block);
	}
	assert_true(accepted > 1000 && refused > 1000);
	rig_close(&r);
}

/* Rows that are judged together, since one transaction wrote them, have no others' ids. */
static void
unsettled_has_one_writer(void **state)
{
	Rig			r;
	uint64_t	seed = 11;
	uint32_t	columns = 0;

	(void) state;
	rig_open(&r);
	for (uint32_t n = 2; n < 100; n++)
	{
		Shape		sh = {.n = n, .key_len = 8, .gap = 1, .state = LTG_SETTLED};
		uint64_t	len;
		uint8_t    *block = build(&r, &sh, &seed, &len);
		bool		column = ltg_writers_bytes(block) != 0;

		columns += column;
		block[LTG_BH_FLAGS] &= (uint8_t) ~LTG_BF_SETTLED;
		block[LTG_BH_KSF] = LTG_KSF(LTG_PUT, LTG_COMMITTED, 0);
		assert_int_equal(ltg_block_check(block, (uint32_t) len, LTG_BLOCK_DATA), !column);
		free(block);
	}
	assert_true(columns > 10 && columns < 98);
	rig_close(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shapes),
		cmocka_unit_test(damaged),
		cmocka_unit_test(unsettled_has_one_writer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
