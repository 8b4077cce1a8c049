/*
 * values.c
 *	  See values.h.
 */
#include "storage/values.h"

#define VALUES_MAX 16

static uint32_t
number_bits(uint32_t values)
{
	return values <= 1 ? 0 : values <= 2 ? 1 : values <= 4 ? 2 : 4;
}

static uint32_t
bytes_of(uint32_t bits)
{
	return (bits + 7) / 8;
}

uint8_t *
ltg_values_put(uint8_t *dst, const uint8_t *src, uint32_t n)
{
	uint8_t		number[256];
	uint8_t		value[VALUES_MAX];
	uint32_t	values = 0;
	uint32_t	bits;
	uint32_t	i;

	memset(number, VALUES_MAX, sizeof(number));
	for (i = 0; i < n; i++)
	{
		if (number[src[i]] != VALUES_MAX)
			continue;
		if (values == VALUES_MAX)
			break;
		number[src[i]] = (uint8_t) values;
		value[values++] = src[i];
	}
	bits = number_bits(values);
	if (i < n || values + bytes_of(n * bits) > n)
	{
		*dst++ = 0;
		memcpy(dst, src, n);
		return dst + n;
	}
	*dst++ = (uint8_t) values;
	memcpy(dst, value, values);
	dst += values;
	memset(dst, 0, bytes_of(n * bits));
	for (i = 0; i < n && bits != 0; i++)
		dst[i * bits / 8] |= (uint8_t) (number[src[i]] << i * bits % 8);
	return dst + bytes_of(n * bits);
}

/* Inlined, where the width is known. */
static inline __attribute__((always_inline)) void
look_up(const uint8_t *numbers, uint32_t bits, const uint8_t *value, uint32_t n, uint8_t *dst)
{
	for (uint32_t i = 0; i < n; i++)
		dst[i] = value[numbers[i * bits / 8] >> i * bits % 8 & ((1 << bits) - 1)];
}

bool
ltg_values_get(LtgReader *r, uint32_t n, uint8_t *dst)
{
	uint32_t	values = ltg_read_u8(r);
	uint8_t		value[VALUES_MAX] = {0};
	const uint8_t *src;

	if (values > VALUES_MAX)
		return false;
	src = ltg_read_bytes(r, values == 0 ? n : values);
	if (src == NULL)
		return false;
	if (values == 0)
	{
		memcpy(dst, src, n);
		return true;
	}
	memcpy(value, src, values);
	src = ltg_read_bytes(r, bytes_of(n * number_bits(values)));
	if (src == NULL)
		return false;
	if (values == 1)
		memset(dst, value[0], n);
	else if (values == 2)
		look_up(src, 1, value, n, dst);
	else if (values <= 4)
		look_up(src, 2, value, n, dst);
	else
		look_up(src, 4, value, n, dst);
	return true;
}
