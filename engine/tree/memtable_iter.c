/*
 * memtable_iter.c
 *	  One generation: ordered reading, statistics, and the checker.
 *
 * A search goes down the levels.  It may run beside inserts: nodes only ever
 * appear, and a node that a search passes by was not there when it looked.
 *
 * Lock order: none are taken.  Thread safety: as memtable.h says.
 */
#include "tree/memtable.h"

#include <stdio.h>

#include "storage/run.h"
#include "tree/memtable_int.h"

#define PREFETCH_LEVELS 2
#define NODE_KEY_AT (sizeof(LtgMemNode) + 8)	/* of a low node */

/*
 * Fetch what a search that has come to `links` will compare next: the next node
 * of this level and, should that lie behind the key, those of the levels below.
 * So only the steps to the right wait for memory one after the other.
 */
static inline void
prefetch_nexts(const LtgGeneration *g, LtgMemLink *links, uint32_t level)
{
	uint32_t	lowest = level < PREFETCH_LEVELS ? 0 : level - PREFETCH_LEVELS;

	for (uint32_t i = level + 1; i-- > lowest;)
	{
		const char *n = ltg_mem_at(g, atomic_load_explicit(&links[i],
														   memory_order_relaxed));

		__builtin_prefetch(n);
		__builtin_prefetch(n + NODE_KEY_AT + 7);
	}
}

uint32_t
ltg_mem_search(const LtgGeneration *g, LtgMemList *l, const LtgMemKey *k,
			   bool or_equal, LtgMemLink **before, uint32_t *after)
{
	uint32_t	height = atomic_load_explicit(&l->height, memory_order_relaxed);
	LtgMemLink *links = l->head;
	uint32_t	beyond = 0;		/* known to be behind k */

	for (uint32_t level = height; level-- > 0;)
	{
		uint32_t	next;

		for (;;)
		{
			LtgMemNode *n;
			int			c;

			next = atomic_load_explicit(&links[level], memory_order_acquire);
			if (next == 0 || next == beyond)
				break;
			n = ltg_mem_at(g, next);
			c = ltg_mem_cmp(n, k);
			if (c > 0 || (c == 0 && !or_equal))
			{
				beyond = next;
				break;
			}
			links = n->next;
			prefetch_nexts(g, links, level);
		}
		before[level] = links;
		after[level] = next;
	}
	return height;
}

LtgMemNode *
ltg_mem_seek_ge(LtgGeneration *g, LtgMemList *l, const uint8_t *key, uint32_t key_len)
{
	LtgMemLink *before[LTG_MEM_HEIGHT_MAX];
	uint32_t	after[LTG_MEM_HEIGHT_MAX];

	if (key == NULL)
		after[0] = atomic_load_explicit(&l->head[0], memory_order_acquire);
	else
	{
		LtgMemKey	k = ltg_mem_key(key, key_len);

		ltg_mem_search(g, l, &k, false, before, after);
	}
	return after[0] == 0 ? NULL : ltg_mem_at(g, after[0]);
}

/* The last node, by way of the tail hints. */
static LtgMemNode *
last_node(LtgGeneration *g, LtgMemList *l)
{
	LtgMemLink *links = l->head;
	uint32_t	next = atomic_load_explicit(&l->tail[0], memory_order_acquire);

	if (next != 0)
		links = ((LtgMemNode *) ltg_mem_at(g, next))->next;
	while ((next = atomic_load_explicit(&links[0], memory_order_acquire)) != 0)
		links = ((LtgMemNode *) ltg_mem_at(g, next))->next;
	return ltg_mem_links_node(l, links);
}

LtgMemNode *
ltg_mem_seek_le(LtgGeneration *g, LtgMemList *l, const uint8_t *key, uint32_t key_len)
{
	LtgMemLink *before[LTG_MEM_HEIGHT_MAX];
	uint32_t	after[LTG_MEM_HEIGHT_MAX];
	LtgMemKey	k;

	if (key == NULL)
		return last_node(g, l);
	k = ltg_mem_key(key, key_len);
	ltg_mem_search(g, l, &k, true, before, after);
	return ltg_mem_links_node(l, before[0]);
}

LtgMemNode *
ltg_mem_next(LtgGeneration *g, LtgMemNode *n)
{
	uint32_t	next = atomic_load_explicit(&n->next[0], memory_order_acquire);
	LtgMemNode *node;

	if (next == 0)
		return NULL;
	node = ltg_mem_at(g, next);
	/* The caller looks at this node now, and at the one behind it soon. */
	next = atomic_load_explicit(&node->next[0], memory_order_relaxed);
	__builtin_prefetch(ltg_mem_at(g, next));
	__builtin_prefetch((char *) ltg_mem_at(g, next) + LTG_CACHE_LINE);
	return node;
}

void
ltg_mem_prefetch_newest(const LtgGeneration *g, const LtgMemNode *n)
{
	const char *mv = ltg_mem_at(g, atomic_load_explicit(&n->newest, memory_order_relaxed));

	__builtin_prefetch(mv);
	__builtin_prefetch(mv + LTG_CACHE_LINE);
	__builtin_prefetch(mv + 2 * LTG_CACHE_LINE);
}

LtgMemNode *
ltg_mem_prev(LtgGeneration *g, LtgMemList *l, LtgMemNode *n)
{
	LtgMemLink *before[LTG_MEM_HEIGHT_MAX];
	uint32_t	after[LTG_MEM_HEIGHT_MAX];
	LtgMemKey	k = ltg_mem_key(ltg_mem_key_bytes(n), n->key_len);

	ltg_mem_search(g, l, &k, false, before, after);
	return ltg_mem_links_node(l, before[0]);
}

/* ---- all stores ---- */

void
ltg_gen_stores(LtgGeneration *g, LtgStoreFn fn, void *arg)
{
	for (uint32_t i = 0; i <= g->store_mask; i++)
	{
		uint32_t	word = atomic_load_explicit(&g->store_bucket[i],
												memory_order_acquire);

		while (word != 0)
		{
			LtgMemList *l = ltg_mem_at(g, word & g->off_mask);
			uint32_t	nodes = atomic_load_explicit(&l->nodes, memory_order_relaxed);

			if (nodes > 0)
				fn(arg, l->store_id, nodes, ltg_mem_list_bytes(l));
			word = l->next;
		}
	}
}

void
ltg_gen_seq_range(const LtgGeneration *g, LtgSeq *min, LtgSeq *max)
{
	*min = UINT64_MAX;
	*max = 0;
	for (uint32_t i = 0; i <= g->store_mask; i++)
	{
		uint32_t	word = atomic_load_explicit(&g->store_bucket[i],
												memory_order_acquire);

		while (word != 0)
		{
			LtgMemList *l = ltg_mem_at(g, word & g->off_mask);
			uint64_t	lo = atomic_load_explicit(&l->min_seq, memory_order_relaxed);
			uint64_t	hi = atomic_load_explicit(&l->max_seq, memory_order_relaxed);

			*min = lo < *min ? lo : *min;
			*max = hi > *max ? hi : *max;
			word = l->next;
		}
	}
	if (*min == UINT64_MAX)
		*min = 0;
}

/* ---- the checker ---- */

typedef struct Check
{
	const LtgGeneration *g;
	LtgMemList *l;
	char	   *msg;
	size_t		msg_size;
} Check;

static bool
bad(Check *c, const char *what, uint32_t place)
{
	snprintf(c->msg, c->msg_size, "generation %llu, store %llu, place %u: %s",
			 (unsigned long long) ltg_gen_number(c->g),
			 (unsigned long long) (c->l != NULL ? c->l->store_id : 0), place, what);
	return false;
}

static bool
in_body(const Check *c, uint64_t place, uint64_t bytes)
{
	uint64_t	end = atomic_load_explicit(&c->g->used, memory_order_relaxed);

	return place * 8 >= c->g->body && place * 8 + bytes <= end;
}

static bool
check_versions(Check *c, LtgMemNode *n)
{
	uint32_t	place = atomic_load_explicit(&n->newest, memory_order_relaxed);
	LtgSeq		newer = UINT64_MAX;

	while (place != 0)
	{
		LtgMemVersion *mv = ltg_mem_at(c->g, place);

		if (!in_body(c, place, sizeof(*mv)) ||
			!in_body(c, place, sizeof(*mv) + mv->payload_len +
					 (mv->kind == LTG_PUT ? 0 : LTG_MEM_TOMBSTONE_BYTES)))
			return bad(c, "version outside the arena", place);
		if (mv->seq > newer)
			return bad(c, "versions are not newest first", place);
		if (mv->kind > LTG_GONE || atomic_load(&mv->state) > LTG_ABORTED ||
			mv->payload_len > LTG_PAYLOAD_MAX)
			return bad(c, "version is garbage", place);
		newer = mv->seq;
		place = mv->older;
	}
	return newer != UINT64_MAX || bad(c, "key without a version", 0);
}

/* One level: ascending, in range, each node tall enough. */
static bool
check_level(Check *c, uint32_t level, uint64_t *count)
{
	LtgMemNode *prev = NULL;
	uint32_t	place = atomic_load_explicit(&c->l->head[level], memory_order_acquire);

	*count = 0;
	while (place != 0)
	{
		LtgMemNode *n = ltg_mem_at(c->g, place);

		if (!in_body(c, place, sizeof(*n)) ||
			!in_body(c, place, sizeof(*n) + n->height * sizeof(LtgMemLink) + n->key_len))
			return bad(c, "node outside the arena", place);
		if (n->height <= level || n->height > LTG_MEM_HEIGHT_MAX)
			return bad(c, "node linked above its height", place);
		if (n->list != ltg_mem_place(c->g, c->l))
			return bad(c, "node of another list", place);
		if (prev != NULL)
		{
			LtgMemKey	k = ltg_mem_key(ltg_mem_key_bytes(n), n->key_len);

			if (ltg_mem_cmp(prev, &k) >= 0)
				return bad(c, "keys out of order", place);
		}
		(*count)++;
		prev = n;
		place = atomic_load_explicit(&n->next[level], memory_order_acquire);
	}
	return true;
}

/* P1: what a valid note leaves out is covered, and dead. */
static bool
check_stretch(Check *c, LtgMemNode *n)
{
	LtgMemVersion *mv = ltg_mem_newest((LtgGeneration *) (uintptr_t) c->g, n);
	uint64_t	note;
	uint32_t	place = ltg_mem_place(c->g, n);

	if (mv->kind == LTG_PUT)
		return true;
	note = atomic_load_explicit(ltg_mem_stretch(mv), memory_order_relaxed);
	if ((uint32_t) note == 0 ||
		note >> 32 != atomic_load_explicit(&c->l->breaks, memory_order_relaxed))
		return true;
	while (place != (uint32_t) note)
	{
		if (place == 0)
			return bad(c, "dead stretch without an end", ltg_mem_place(c->g, n));
		n = ltg_mem_at(c->g, place);
		if ((atomic_load_explicit(&n->marks, memory_order_relaxed) & LTG_MEM_COVERED) == 0)
			return bad(c, "dead stretch over a node that is not covered", place);
		mv = ltg_mem_newest((LtgGeneration *) (uintptr_t) c->g, n);
		while (mv != NULL && atomic_load_explicit(&mv->state, memory_order_relaxed) == LTG_ABORTED)
			mv = ltg_mem_older((LtgGeneration *) (uintptr_t) c->g, mv);
		if (mv != NULL && mv->kind == LTG_PUT)
			return bad(c, "dead stretch over a key with a row", place);
		place = atomic_load_explicit(&n->next[0], memory_order_relaxed);
	}
	return true;
}

static bool
check_list(Check *c)
{
	uint64_t	expected[LTG_MEM_HEIGHT_MAX] = {0};
	uint64_t	count;
	LtgGeneration *g = (LtgGeneration *) (uintptr_t) c->g;

	for (uint32_t level = 0; level < LTG_MEM_HEIGHT_MAX; level++)
	{
		if (!check_level(c, level, &count))
			return false;
		if (level == 0)
		{
			LtgMemNode *n;

			if (count != atomic_load_explicit(&c->l->nodes, memory_order_relaxed))
				return bad(c, "number of nodes is wrong", 0);
			for (n = ltg_mem_seek_ge(g, c->l, NULL, 0); n != NULL; n = ltg_mem_next(g, n))
			{
				const uint8_t *key = ltg_mem_key_bytes(n);

				for (uint32_t i = 0; i < n->height; i++)
					expected[i]++;
				if (!check_versions(c, n) || !check_stretch(c, n))
					return false;
				if (ltg_mem_find(g, c->l->store_id, key, n->key_len,
								 ltg_key_hash(key, n->key_len)) != n)
					return bad(c, "hash index does not lead to the key",
							   ltg_mem_place(g, n));
			}
		}
		if (count != expected[level])
			return bad(c, "a level lacks nodes", level);
	}
	return true;
}

bool
ltg_gen_check(LtgGeneration *g, char *msg, size_t msg_size)
{
	Check		c = {g, NULL, msg, msg_size};

	if (g->magic != LTG_MEM_MAGIC)
		return bad(&c, "not an arena", 0);
	if (atomic_load(&g->used) > g->limit || atomic_load(&g->lists_used) > g->size)
		return bad(&c, "more used than there is", 0);
	for (uint32_t i = 0; i <= g->store_mask; i++)
	{
		uint32_t	word = atomic_load_explicit(&g->store_bucket[i],
												memory_order_acquire);

		while (word != 0)
		{
			c.l = ltg_mem_at(g, word & g->off_mask);
			if (!check_list(&c))
				return false;
			word = c.l->next;
		}
	}
	return true;
}
