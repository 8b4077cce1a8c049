/*
 * sim_model.c
 *	  The simulated life: what is said when something goes wrong, and the rows.
 */
#include "test/sim_life.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
life_wrong(Life *l, const char *fmt, ...)
{
	va_list		args;

	if (!l->r->ok)
		return;
	l->r->ok = false;
	va_start(args, fmt);
	vsnprintf(l->r->what, sizeof(l->r->what), fmt, args);
	va_end(args);
	l->stop = true;
}

/* Failures that faults explain, and those that are part of normal life. */
bool
life_excused(Life *l, lt_status st)
{
	/* a long reader may let the window of transactions fill up */
	if (st == LT_CONFLICT || st == LT_BUSY)
		return true;
	return l->round_faulty &&
		(st == LT_IO || st == LT_NOSPACE || st == LT_NOMEM || st == LT_POISONED);
}

void
life_expect_ok(Life *l, lt_status st, const char *what)
{
	char		text[300];

	if (st == LT_OK || life_excused(l, st))
		return;
	lt_error_text(l->db, text, sizeof(text));
	life_wrong(l, "%s: status %d: %s", what, (int) st, text);
}

uint64_t
life_rnd(Life *l, uint64_t n)
{
	return sim_random(l->sim, n);
}

/* ---- rows ---- */

int
life_key_index(Life *l, const char *key)
{
	for (int i = 0; i < l->n_keys; i++)
		if (strcmp(l->key[i], key) == 0)
			return i;
	if (l->n_keys == KEYS_MAX)
		abort();
	snprintf(l->key[l->n_keys], sizeof(l->key[0]), "%s", key);
	return l->n_keys++;
}

/* Hardly compresses. */
static uint8_t
padding_byte(uint64_t writer, size_t i)
{
	uint64_t	x = (writer + 1) * UINT64_C(0x9e3779b97f4a7c15) + i * UINT64_C(0xbf58476d1ce4e5b9);

	x ^= x >> 31;
	return (uint8_t) ((x * UINT64_C(0x94d049bb133111eb)) >> 56);
}

/* value, writer, padding */
size_t
life_build_value(uint8_t *buf, uint64_t value, uint64_t writer, uint32_t padding)
{
	memcpy(buf, &value, 8);
	memcpy(buf + 8, &writer, 8);
	for (uint32_t i = 0; i < padding; i++)
		buf[16 + i] = padding_byte(writer, i);
	return 16 + (size_t) padding;
}

bool
life_parse_value(const void *data, size_t size, uint64_t *value, uint64_t *writer)
{
	const uint8_t *p = data;

	if (size < 16)
		return false;
	memcpy(value, p, 8);
	memcpy(writer, p + 8, 8);
	for (size_t i = 16; i < size; i++)
		if (p[i] != padding_byte(*writer, i - 16))
			return false;
	return true;
}

void
life_marker_key(char *buf, uint32_t id)
{
	snprintf(buf, 16, "m%08u", id);
}
