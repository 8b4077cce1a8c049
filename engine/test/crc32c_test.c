/*
 * crc32c_test.c
 *	  Known values, and the instruction against the tables against a bit loop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/coding.h"
#include "base/crc32c.h"
#include "rig.h"

static uint32_t
bitwise(uint32_t crc, const uint8_t *p, size_t len)
{
	crc = ~crc;
	while (len-- > 0)
	{
		int			k;

		crc ^= *p++;
		for (k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
	}
	return ~crc;
}

/* From RFC 3720, appendix B.4. */
static void
known_values(void **state)
{
	uint8_t		b[32];
	int			i;

	(void) state;
	memset(b, 0, sizeof(b));
	assert_int_equal(ltg_crc32c(0, b, 32), 0x8A9136AAu);
	memset(b, 0xFF, sizeof(b));
	assert_int_equal(ltg_crc32c(0, b, 32), 0x62A8AB43u);
	for (i = 0; i < 32; i++)
		b[i] = (uint8_t) i;
	assert_int_equal(ltg_crc32c(0, b, 32), 0x46DD794Eu);
	assert_int_equal(ltg_crc32c(0, "123456789", 9), 0xE3069283u);
	assert_int_equal(ltg_crc32c(0, b, 0), 0);
}

static void
all_lengths_agree(void **state)
{
	static uint8_t buf[20000];
	uint64_t	rnd = 1;
	size_t		i;
	size_t		len;

	(void) state;
	for (i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t) rig_random(&rnd);
	for (len = 0; len < 4000; len += 1 + len / 200)
	{
		size_t		off = rig_random(&rnd) % 9;
		uint32_t	want = bitwise(5, buf + off, len);

		assert_int_equal(ltg_crc32c(5, buf + off, len), want);
		assert_int_equal(ltg_crc32c_soft(5, buf + off, len), want);
		assert_int_equal(ltg_crc32c(ltg_crc32c(5, buf + off, len / 3),
									buf + off + len / 3, len - len / 3), want);
	}
	assert_int_equal(ltg_crc32c(0, buf, sizeof(buf)), bitwise(0, buf, sizeof(buf)));
}

static void
varints(void **state)
{
	static const uint64_t values[] = {0, 1, 127, 128, 300, 1u << 21, UINT32_MAX,
	UINT64_C(1) << 63, UINT64_MAX};
	uint8_t		buf[LTG_VARINT_MAX];
	size_t		i;
	size_t		cut;
	LtgReader	r;

	(void) state;
	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++)
	{
		size_t		len = (size_t) (ltg_put_varint(buf, values[i]) - buf);

		r = ltg_reader(buf, len);
		assert_true(ltg_read_varint(&r) == values[i]);
		assert_true(ltg_reader_ok(&r) && ltg_reader_left(&r) == 0);
		for (cut = 0; cut < len; cut++)
		{
			r = ltg_reader(buf, cut);
			(void) ltg_read_varint(&r);
			assert_false(ltg_reader_ok(&r));
		}
		assert_int_equal(ltg_width(values[i]), values[i] == 0 ? 0 :
						 1 + (63 - __builtin_clzll(values[i])) / 8);
	}
	/* more than 64 bits */
	memset(buf, 0xFF, sizeof(buf));
	buf[9] = 2;
	r = ltg_reader(buf, sizeof(buf));
	(void) ltg_read_varint(&r);
	assert_false(ltg_reader_ok(&r));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_values),
		cmocka_unit_test(all_lengths_agree),
		cmocka_unit_test(varints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
