/*
 * hint.c
 *	  See hint.h.
 */
#include "tree/hint.h"

#define STORES 4				/* hints per session */
#define NEAR 64					/* difference of keys that counts as close */
#define STEPS 3					/* nodes a gap may move on by */

typedef struct Hints
{
	LtgHint		store[STORES];
} Hints;

/* The last 8 bytes of the key as a number: close keys differ by little. */
static uint64_t
place_of(const uint8_t *key, uint32_t len)
{
	uint64_t	x = 0;

	for (uint32_t i = len > 8 ? len - 8 : 0; i < len; i++)
		x = x << 8 | key[i];
	return x;
}

LtgHint *
ltg_hint_for(LtgSession *s, uint64_t store_id, const uint8_t *key, uint32_t key_len)
{
	Hints	   *hints = s->read_ctx;
	LtgHint    *h;
	uint64_t	place;

	if (key_len > LTG_HINT_KEY)
		return NULL;
	if (LTG_UNLIKELY(hints == NULL))
	{
		hints = s->port->alloc(s->port, sizeof(Hints));
		if (hints == NULL)
			return NULL;		/* we can do without */
		memset(hints, 0, sizeof(Hints));
		s->read_ctx = hints;
	}
	h = &hints->store[store_id % STORES];
	place = place_of(key, key_len);
	if (h->store_id != store_id)
	{
		memset(h, 0, sizeof(*h));
		h->store_id = store_id;
	}
	else if (place - h->place + NEAR <= 2 * NEAR)
		h->near++;
	else
		h->near = 0;
	h->place = place;
	return h;
}

void
ltg_hints_free(LtgSession *s)
{
	if (s->read_ctx != NULL)
		s->port->free(s->port, s->read_ctx);
	s->read_ctx = NULL;
}

/* ---- generations ---- */

static int
compare_node(const LtgMemNode *n, const uint8_t *key, uint32_t key_len)
{
	const uint8_t *k;
	uint32_t	len;

	ltg_mem_node_key(n, &k, &len);
	return ltg_key_cmp(k, len, key, key_len);
}

static LtgMemNode *
node_after(LtgGeneration *g, LtgMemList *l, LtgMemNode *n)
{
	return n == NULL ? ltg_mem_seek_ge(g, l, NULL, 0) : ltg_mem_next(g, n);
}

/*
 * Make the gap the one around the key, if it is there or a few nodes further
 * on.  true: it is, and *found is the key's node or NULL.
 */
static bool
move_gap(LtgGapHint *gap, LtgGeneration *g, LtgMemList *l, const uint8_t *key,
		 uint32_t key_len, LtgMemNode **found)
{
	*found = NULL;
	if (gap->before != NULL && compare_node(gap->before, key, key_len) >= 0)
		return false;
	for (int step = 0; step < STEPS; step++)
	{
		int			c;

		if (node_after(g, l, gap->before) != gap->after)
			return false;		/* something came between */
		c = gap->after == NULL ? 1 : compare_node(gap->after, key, key_len);
		if (c > 0)
			return true;
		if (c == 0)
		{
			*found = gap->after;
			return true;
		}
		gap->before = gap->after;
		gap->after = ltg_mem_next(g, gap->before);
	}
	return false;
}

LtgMemNode *
ltg_hint_find(LtgHint *h, LtgGeneration *g, LtgMemList *l, uint64_t store_id,
			  const uint8_t *key, uint32_t key_len, uint64_t hash)
{
	LtgMemNode *n;
	LtgGapHint *gap;
	uint64_t	number;

	if (!ltg_hint_wanted(h))
		return ltg_mem_find(g, store_id, key, key_len, hash);
	number = ltg_gen_number(g);
	gap = &h->gap[number % LTG_HINT_SLOTS];
	if (gap->generation == number && move_gap(gap, g, l, key, key_len, &n))
		return n;
	n = ltg_mem_find(g, store_id, key, key_len, hash);
	gap->generation = 0;
	if (n == NULL && h->near % 4 != 0)
		return NULL;			/* a seek costs more than the hash */
	gap->before = n != NULL ? n : ltg_mem_seek_le(g, l, key, key_len);
	gap->after = node_after(g, l, gap->before);
	gap->generation = number;
	return n;
}

/* ---- runs ---- */

static bool
set_key(LtgHintKey *k, const LtgPoint *p, bool last)
{
	uint8_t		buf[LTG_KEY_MAX];
	uint32_t	len;

	ltg_point_edge_key(p, last, buf, &len);
	if (len > LTG_HINT_KEY)
		return false;
	k->len = (uint8_t) len;
	memcpy(k->bytes, buf, len);
	return true;
}

static inline bool
covers(const LtgBlockHint *b, const LtgRunRef *ref, const uint8_t *key, uint32_t key_len)
{
	return b->file == ref->file && b->root_offset == ref->root_offset &&
		ltg_key_cmp(b->first.bytes, b->first.len, key, key_len) <= 0 &&
		ltg_key_cmp(b->last.bytes, b->last.len, key, key_len) >= 0;
}

LtgStatus
ltg_hint_run_get(LtgSession *s, LtgHint *h, const LtgRunRef *ref, const uint8_t *key,
				 uint32_t key_len, uint64_t hash, bool use_filter, LtgPoint *p, LtgVersion *v)
{
	LtgBlockHint *b;
	LtgStatus	st;

	if (!ltg_hint_wanted(h))
		return ltg_run_get(s, ref, key, key_len, hash, use_filter, p, v);
	p->again = true;
	b = &h->block[ref->file % LTG_HINT_SLOTS];
	if (covers(b, ref, key, key_len))
		return ltg_run_get_block(s, ref, b->offset, b->disk_len, key, key_len, p, v);
	/* now and then beyond the filter, for the sake of the look-ups to come */
	st = ltg_run_get(s, ref, key, key_len, hash, use_filter && h->near % 4 != 0, p, v);
	if ((st == LTG_OK || st == LTG_NOT_FOUND) && p->block != NULL)
	{
		b->file = 0;
		b->root_offset = ref->root_offset;
		b->offset = p->offset;
		b->disk_len = p->disk_len;
		if (set_key(&b->first, p, false) && set_key(&b->last, p, true))
			b->file = ref->file;
	}
	return st;
}
