/*
 * payload_forms_test.c
 *	  Blocks in the forms in which they are compressed: transposed payloads,
 *	  differences of versions.
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
#include "storage/block.h"
#include "storage/columns.h"
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
	uint32_t	writers = (uint32_t) (seed / 20);

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
			.xid = 3 + rig_writer(writers, i + k, &rnd), .state = LTG_COMMITTED, .tag = (uint8_t) (versions - k)};

			if (k + 1 == versions)
			{
				v.state = LTG_SETTLED;
				v.xid = rig_writer(writers, i + k, &rnd);
				v.seq = 0;
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
			v.seq = 0;
			v.xid = 6;
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
	/* two values for each of 200 entries: of heads, of kind bytes, and of writers; a
	 * bit for each choice, the bits of columns, and one of those, of one value */
	assert_int_equal(second_versions(&r, 100, SAME_LENGTH), 3 * (3 + 25) + 13 + 14 + 2);
	/* two bytes of lengths, and no choices, but per row two steps and a byte, and
	 * the length of all steps */
	assert_int_equal(second_versions(&r, 100, OTHER_LENGTH), 5 * (3 + 25) + (3 + 3 + 1) * 100 + 4);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
