/*
 * pieces.c
 *	  See pieces.h.
 */
#include "storage/pieces.h"

#define GRAM 4					/* bytes that make a piece worth it */
#define GRAM_SLOTS 1024

static void
put_number(LtgSteps *s, uint32_t v)
{
	uint8_t		buf[LTG_VARINT_MAX];
	size_t		n = (size_t) (ltg_put_varint(buf, v) - buf);

	if (s->steps != NULL)
		memcpy(s->steps + s->step_bytes, buf, n);
	s->step_bytes += n;
}

/* left: bytes of the payload that are missing before the step. */
static void
put_step(LtgSteps *s, const uint8_t *own, uint32_t own_len, uint32_t piece, int64_t distance, uint32_t left)
{
	put_number(s, own_len);
	if (s->bytes != NULL && own_len > 0)
		memcpy(s->bytes + s->own_bytes, own, own_len);
	s->own_bytes += own_len;
	if (piece == 0)
		return;
	put_number(s, own_len + piece == left ? 0 : piece);
	put_number(s, (uint32_t) (distance < 0 ? -2 * distance - 1 : 2 * distance));
}

static uint32_t
common_bytes(const uint8_t *a, const uint8_t *b, uint32_t most)
{
	uint32_t	n = 0;

	while (n + 8 <= most && ltg_load64(a + n) == ltg_load64(b + n))
		n += 8;
	while (n < most && a[n] == b[n])
		n++;
	return n;
}

static uint32_t
gram_slot(const uint8_t *p)
{
	return ltg_load32(p) * UINT32_C(2654435761) >> 22;
}

/* At each place going on in the base where the last piece ended is tried first,
 * then the place where the next bytes were last met. */
void
ltg_pieces_put(LtgSteps *s, const uint8_t *base, uint32_t base_len, const uint8_t *payload,
			   uint32_t len)
{
	uint32_t	met[GRAM_SLOTS] = {0};	/* place in the base, plus 1 */
	uint32_t	own = 0;		/* from here on no piece was found */
	uint32_t	at = 0;
	uint32_t	expect = 0;		/* in the base */

	for (uint32_t i = 0; i + GRAM <= base_len; i++)
		met[gram_slot(base + i)] = i + 1;
	while (at < len)
	{
		uint32_t	next = expect + (at - own);	/* own bytes stand for as many */
		uint32_t	from[3] = {next, expect, at + GRAM <= len ? met[gram_slot(payload + at)] - 1 : UINT32_MAX};
		uint32_t	piece = 0;
		uint32_t	place = 0;

		for (int k = 0; k < 3 && piece < GRAM; k++)
			if (from[k] < base_len)
			{
				place = from[k];
				piece = common_bytes(payload + at, base + place,
									 len - at < base_len - place ? len - at : base_len - place);
			}
		if (piece < GRAM)
		{
			at++;
			continue;
		}
		put_step(s, payload + own, at - own, piece, (int64_t) place - expect, len - own);
		own = at += piece;
		expect = place + piece;
	}
	if (own < at)
		put_step(s, payload + own, at - own, 0, 0, len - own);
}

bool
ltg_pieces_get(LtgReader *steps, LtgReader *own_bytes, const uint8_t *base, uint32_t base_len,
			   uint8_t *to, uint32_t len)
{
	uint32_t	left = len;
	int64_t		place = 0;

	while (left > 0)
	{
		uint32_t	own = ltg_read_varint32(steps);
		const uint8_t *src = ltg_read_bytes(own_bytes, own);
		uint32_t	piece;
		uint32_t	d;

		if (src == NULL || own > left)
			return false;
		memcpy(to, src, own);
		to += own;
		left -= own;
		if (left == 0)
			break;
		piece = ltg_read_varint32(steps);
		d = ltg_read_varint32(steps);
		piece = piece == 0 ? left : piece;
		place += d & 1 ? -(int64_t) (d / 2) - 1 : (int64_t) (d / 2);
		if (piece > left || place < 0 || place > base_len || piece > base_len - place)
			return false;
		memcpy(to, base + place, piece);
		to += piece;
		left -= piece;
		place += piece;
	}
	return ltg_reader_ok(steps);
}
