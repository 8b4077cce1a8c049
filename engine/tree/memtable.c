/*
 * memtable.c
 *	  One generation: the arena, the hash index, inserting.  Ordered reading
 *	  and the checker are in memtable_iter.c.
 *
 * Invariants (with M1-M5 of the header)
 *	 N1. A version is written completely before node->newest or a newer
 *		 version makes it reachable.
 *	 N2. A node has its key and its first version before it is linked.  It is
 *		 linked at level 0, then into the hash, then at the higher levels from
 *		 below; a level is a subsequence of the level beneath it.
 *	 N3. Plain fields are written before publication only.
 *	 N4. Lists are pushed to the front of their store bucket, nodes to the
 *		 front of their hash bucket; nothing is ever unlinked.
 *	 N5. ltg_gen_reserve hands out space below `limit` only.  What lies above is
 *		 for lists.  ltg_gen_prepare leaves half of that to inserts into stores
 *		 that were not prepared.
 *
 * Lock order: none are taken.  Safe for threads and for processes that map the
 * arena anywhere: it holds no pointers.
 */
#include "tree/memtable.h"
#include "tree/memtable_int.h"

#define LISTS_BYTES_MAX (1024 * 1024)
#define LIST_BYTES \
	((sizeof(LtgMemList) + LTG_CACHE_LINE - 1) & ~(uint64_t) (LTG_CACHE_LINE - 1))
#define BYTES_PER_BUCKET 96
#define NODE_LEVELS_RESERVED 4	/* taller nodes get space of their own */
#define TOWER_CHUNK (16 * 1024)
#define LINE_BEHIND 64
#define HALVING_LEVELS 8

static inline LtgMemLink *
gen_buckets(const LtgGeneration *g)
{
	return (LtgMemLink *) ((uintptr_t) g + g->buckets);
}

/* Keys of different stores must not share chains: stir the store in. */
static inline uint64_t
stir(uint64_t hash, uint64_t store_id)
{
	hash += store_id * UINT64_C(0x9E3779B97F4A7C15);
	hash ^= hash >> 32;
	hash *= UINT64_C(0xD6E8FEB86659FD93);
	hash ^= hash >> 29;
	return hash;
}

static inline LtgMemLink *
hash_bucket(const LtgGeneration *g, uint64_t h)
{
	return &gen_buckets(g)[((h >> 32) * g->n_buckets) >> 32];
}

/* The word for an entry in front of `rest`. */
static inline uint32_t
chain_word(const LtgGeneration *g, uint32_t place, uint64_t h, uint32_t rest)
{
	return place | ((uint32_t) h & g->tag_mask) | (rest == 0 ? g->last_flag : 0);
}

static inline bool
tag_matches(const LtgGeneration *g, uint32_t word, uint64_t h)
{
	return ((word ^ (uint32_t) h) & g->tag_mask) == 0;
}

/* ---- the arena ---- */

LtgGeneration *
ltg_gen_init(void *mem, size_t size)
{
	uintptr_t	start = ((uintptr_t) mem + LTG_CACHE_LINE - 1) &
		~(uintptr_t) (LTG_CACHE_LINE - 1);
	LtgGeneration *g = (LtgGeneration *) start;
	uint32_t	stores = 256;
	uint32_t	off_bits;
	uint64_t	slack;

	LTG_ASSERT(size >= 64 * 1024);
	size = (size - (start - (uintptr_t) mem)) & ~(size_t) 7;
	if (size > (UINT64_C(8) << 32) - 8)
		size = (UINT64_C(8) << 32) - 8;
	while (stores < 65536 && (uint64_t) stores * 65536 < size)
		stores *= 2;

	memset(g, 0, sizeof(*g));
	g->magic = LTG_MEM_MAGIC;
	g->size = size;
	off_bits = 64 - (uint32_t) __builtin_clzll(size >> 3);
	g->off_mask = off_bits >= 32 ? UINT32_MAX : (UINT32_C(1) << off_bits) - 1;
	g->last_flag = off_bits >= 32 ? 0 : UINT32_C(1) << 31;
	g->tag_mask = ~g->off_mask & ~g->last_flag;
	g->store_mask = stores - 1;
	g->n_buckets = (uint32_t) (size / BYTES_PER_BUCKET);
	g->buckets = (sizeof(*g) + (uint64_t) stores * sizeof(LtgMemLink) +
				  LTG_CACHE_LINE - 1) & ~(uint64_t) (LTG_CACHE_LINE - 1);
	g->body = (g->buckets + (uint64_t) g->n_buckets * sizeof(LtgMemLink) +
			   LTG_CACHE_LINE - 1) & ~(uint64_t) (LTG_CACHE_LINE - 1);
	slack = size / 64 < LISTS_BYTES_MAX ? size / 64 : LISTS_BYTES_MAX;
	if (slack < 64 * LIST_BYTES)
		slack = 64 * LIST_BYTES;
	g->limit = (size - slack) & ~(uint64_t) (LTG_CACHE_LINE - 1);
	LTG_ASSERT(g->body < g->limit);
	atomic_init(&g->used, g->body);
	atomic_init(&g->lists_used, g->limit);
	atomic_init(&g->towers, 0);
	atomic_init(&g->number, 0);
	memset(g->store_bucket, 0, (size_t) (g->body - offsetof(LtgGeneration, store_bucket)));
	return g;
}

void
ltg_gen_reset(LtgGeneration *g, uint64_t number)
{
	LTG_ASSERT(g->magic == LTG_MEM_MAGIC);
	/* Nothing reserved: nothing was entered in a bucket either. */
	if (atomic_load_explicit(&g->used, memory_order_acquire) != g->body ||
		atomic_load_explicit(&g->lists_used, memory_order_acquire) != g->limit)
		memset(g->store_bucket, 0,
			   (size_t) (g->body - offsetof(LtgGeneration, store_bucket)));
	atomic_store_explicit(&g->number, number, memory_order_relaxed);
	atomic_store_explicit(&g->lists_used, g->limit, memory_order_relaxed);
	atomic_store_explicit(&g->towers, 0, memory_order_relaxed);
	atomic_store_explicit(&g->used, g->body, memory_order_release);
}

uint64_t
ltg_gen_number(const LtgGeneration *g)
{
	return atomic_load_explicit(&g->number, memory_order_relaxed);
}

uint64_t
ltg_gen_used(const LtgGeneration *g)
{
	uint64_t	used = atomic_load_explicit(&g->used, memory_order_relaxed);

	return (used < g->limit ? used : g->limit) - g->body;
}

uint64_t
ltg_gen_capacity(const LtgGeneration *g)
{
	return g->limit - g->body;
}

/*
 * Advance a counter by `bytes` unless it would pass `limit`; 0 if it would.
 * Taking back is safe: until that is done the counter is beyond the limit, so
 * nobody is served behind the space that was not to be had.
 */
static uint64_t
bump(_Atomic uint64_t *counter, uint64_t bytes, uint64_t limit)
{
	uint64_t	at = atomic_load_explicit(counter, memory_order_relaxed);

	/* Looking first keeps many failing callers from adding all the time. */
	if (bytes > limit || at > limit - bytes)
		return 0;
	at = atomic_fetch_add_explicit(counter, bytes, memory_order_relaxed);
	if (LTG_LIKELY(at <= limit - bytes))
		return at;
	atomic_fetch_sub_explicit(counter, bytes, memory_order_relaxed);
	return 0;
}

uint64_t
ltg_gen_reserve(LtgGeneration *g, size_t bytes)
{
	return bump(&g->used, LTG_ALIGN8((uint64_t) bytes), g->limit);
}

void
ltg_gen_unreserve(LtgGeneration *g, uint64_t from, uint64_t to)
{
	LTG_ASSERT(from <= to && from >= g->body);
	to = LTG_ALIGN8(to);
	if (from < to)
		atomic_compare_exchange_strong_explicit(&g->used, &to, from,
												memory_order_relaxed,
												memory_order_relaxed);
}

static inline uint64_t
node_bytes(uint32_t height, uint32_t key_len)
{
	return sizeof(LtgMemNode) + LTG_ALIGN8((uint64_t) height * sizeof(LtgMemLink)) +
		LTG_ALIGN8((uint64_t) key_len);
}

size_t
ltg_mem_need(uint32_t key_len, uint32_t payload_len)
{
	return node_bytes(NODE_LEVELS_RESERVED, key_len) + sizeof(LtgMemVersion) +
		LTG_MEM_TOMBSTONE_BYTES + LTG_ALIGN8((uint64_t) payload_len);
}

/* ---- lists ---- */

static LtgMemList *
list_in_chain(const LtgGeneration *g, uint32_t word, uint64_t store_id, uint64_t h)
{
	while (word != 0)
	{
		LtgMemList *l = ltg_mem_at(g, word & g->off_mask);

		if (tag_matches(g, word, h) && l->store_id == store_id)
			return l;
		if (word & g->last_flag)
			break;
		word = l->next;
	}
	return NULL;
}

LtgMemList *
ltg_gen_list(LtgGeneration *g, uint64_t store_id)
{
	uint64_t	h = stir(0, store_id);
	LtgMemLink *bucket = &g->store_bucket[(h >> 40) & g->store_mask];

	return list_in_chain(g, atomic_load_explicit(bucket, memory_order_acquire),
						 store_id, h);
}

/* Enter a new list made at offset `at`, unless somebody else was faster. */
static LtgMemList *
list_push(LtgGeneration *g, uint64_t store_id, uint64_t at)
{
	uint64_t	h = stir(0, store_id);
	LtgMemLink *bucket = &g->store_bucket[(h >> 40) & g->store_mask];
	LtgMemList *l = ltg_mem_at(g, (uint32_t) (at >> 3));
	uint32_t	first = atomic_load_explicit(bucket, memory_order_acquire);

	l->store_id = store_id;
	atomic_init(&l->height, 1);
	for (int i = 0; i < LTG_MEM_HEIGHT_MAX; i++)
	{
		atomic_init(&l->head[i], 0);
		atomic_init(&l->tail[i], 0);
	}
	atomic_init(&l->nodes, 0);
	atomic_init(&l->bytes, 0);
	atomic_init(&l->max_seq, 0);
	atomic_init(&l->min_seq, UINT64_MAX);
	atomic_init(&l->min_xid, UINT64_MAX);
	atomic_init(&l->breaks, 0);
	atomic_init(&l->max_xid, 0);
	for (;;)
	{
		LtgMemList *other = list_in_chain(g, first, store_id, h);

		if (other != NULL)
			return other;
		l->next = first;
		if (atomic_compare_exchange_weak_explicit(bucket, &first,
												  chain_word(g, (uint32_t) (at >> 3),
															 h, first),
												  memory_order_acq_rel,
												  memory_order_acquire))
			return l;
	}
}

bool
ltg_gen_prepare(LtgGeneration *g, uint64_t store_id)
{
	uint64_t	at;

	if (ltg_gen_list(g, store_id) != NULL)
		return true;
	at = bump(&g->lists_used, LIST_BYTES, g->limit + (g->size - g->limit) / 2);
	if (at == 0)
	{
		at = ltg_gen_reserve(g, LIST_BYTES + LTG_CACHE_LINE);
		if (at == 0)
			return false;
		at = (at + LTG_CACHE_LINE - 1) & ~(uint64_t) (LTG_CACHE_LINE - 1);
	}
	list_push(g, store_id, at);
	return true;
}

uint64_t
ltg_mem_list_nodes(const LtgMemList *l)
{
	return atomic_load_explicit(&l->nodes, memory_order_relaxed);
}

uint64_t
ltg_mem_list_bytes(const LtgMemList *l)
{
	return atomic_load_explicit(&l->bytes, memory_order_relaxed);
}

LtgXid
ltg_mem_list_min_xid(const LtgMemList *l)
{
	return atomic_load_explicit(&l->min_xid, memory_order_relaxed);
}

LtgXid
ltg_mem_list_writer(const LtgMemList *l)
{
	LtgXid		xid = atomic_load_explicit(&l->max_xid, memory_order_relaxed);

	return xid == ltg_mem_list_min_xid(l) && xid != UINT64_MAX ? xid : 0;
}

void
ltg_mem_list_seq_range(const LtgMemList *l, LtgSeq *min, LtgSeq *max)
{
	*max = atomic_load_explicit(&l->max_seq, memory_order_relaxed);
	*min = *max == 0 ? 0 : atomic_load_explicit(&l->min_seq, memory_order_relaxed);
}

static LtgMemList *
list_for_insert(LtgGeneration *g, uint64_t store_id)
{
	LtgMemList *l = ltg_gen_list(g, store_id);
	uint64_t	at;

	if (LTG_LIKELY(l != NULL))
		return l;
	at = bump(&g->lists_used, LIST_BYTES, g->size);
	LTG_ASSERT(at != 0);
	return list_push(g, store_id, at);
}

/* ---- point look-up ---- */

static LtgMemNode *
hash_find(const LtgGeneration *g, uint32_t list, const uint8_t *key,
		  uint32_t key_len, uint64_t h)
{
	uint32_t	word = atomic_load_explicit(hash_bucket(g, h), memory_order_acquire);

	while (word != 0)
	{
		LtgMemNode *n = ltg_mem_at(g, word & g->off_mask);

		/* Most nodes are followed by their first version. */
		__builtin_prefetch((char *) n + LINE_BEHIND);
		if (tag_matches(g, word, h) && n->list == list && n->key_len == key_len &&
			memcmp(ltg_mem_key_bytes(n), key, key_len) == 0)
			return n;
		if (word & g->last_flag)
			break;
		word = n->hash_next;
	}
	return NULL;
}

LtgMemNode *
ltg_mem_find(LtgGeneration *g, uint64_t store_id, const uint8_t *key,
			 uint32_t key_len, uint64_t hash)
{
	LtgMemList *l = ltg_gen_list(g, store_id);

	if (l == NULL)
		return NULL;
	return hash_find(g, ltg_mem_place(g, l), key, key_len, stir(hash, store_id));
}

void
ltg_mem_prefetch(const LtgGeneration *g, uint64_t store_id, uint64_t hash)
{
	__builtin_prefetch(hash_bucket(g, stir(hash, store_id)), 1);
}

static void
hash_push(LtgGeneration *g, LtgMemNode *n, uint64_t h)
{
	LtgMemLink *bucket = hash_bucket(g, h);
	uint32_t	first = atomic_load_explicit(bucket, memory_order_relaxed);
	uint32_t	mine = ltg_mem_place(g, n);

	do
		n->hash_next = first;
	while (!atomic_compare_exchange_weak_explicit(bucket, &first,
												  chain_word(g, mine, h, first),
												  memory_order_release,
												  memory_order_relaxed));
}

void
ltg_mem_node_key(const LtgMemNode *n, const uint8_t **key, uint32_t *key_len)
{
	*key = ltg_mem_key_bytes(n);
	*key_len = n->key_len;
}

/* ---- inserting ---- */

/*
 * Every level has half the nodes of the one beneath it, from HALVING_LEVELS on a
 * quarter.  Few steps to the right per level matter where nodes are not in the
 * processor's caches: these wait for memory, steps down do not (see
 * ltg_mem_search).  From bits that choose neither the bucket nor the tag.
 */
static uint32_t
node_height(uint64_t h)
{
	uint64_t	bits = h * UINT64_C(0x9E3779B97F4A7C15) | (UINT64_C(1) << 40);
	uint32_t	zeros = (uint32_t) __builtin_ctzll(bits);
	uint32_t	height = 1 + (zeros <= HALVING_LEVELS ? zeros :
							  HALVING_LEVELS + (zeros - HALVING_LEVELS) / 2);

	return height < LTG_MEM_HEIGHT_MAX ? height : LTG_MEM_HEIGHT_MAX;
}

static LtgMemVersion *
make_version(LtgGeneration *g, const LtgVersion *v, uint32_t older, uint64_t *cursor)
{
	LtgMemVersion *mv = ltg_mem_at(g, (uint32_t) (*cursor >> 3));
	uint64_t   *data = mv->data;

	mv->older = older;
	mv->payload_len = v->payload_len;
	mv->seq = v->seq;
	mv->xid = v->xid;
	mv->cid = v->cid;
	mv->kind = (uint8_t) v->kind;
	mv->tag = v->tag;
	atomic_init(&mv->state, (uint8_t) v->state);
	mv->flags = v->flags;
	if (v->kind != LTG_PUT)
	{
		*data++ = v->aux;
		*data++ = 0;
	}
	if (v->payload_len > 0)
		memcpy(data, v->payload, v->payload_len);
	*cursor += (uint64_t) ((uint8_t *) data - (uint8_t *) mv) +
		LTG_ALIGN8((uint64_t) v->payload_len);
	return mv;
}

/*
 * Space for a tall node.  Every search passes through tall nodes; close together
 * they take few lines and pages of the processor's caches.  0: the arena is full.
 */
static uint64_t
reserve_tower(LtgGeneration *g, uint64_t bytes)
{
	uint64_t	chunk = atomic_load_explicit(&g->towers, memory_order_relaxed);
	uint64_t	units = bytes >> 3;
	uint64_t	fresh;

	if (bytes > TOWER_CHUNK / 8)
		return ltg_gen_reserve(g, bytes);
	do
	{
		uint64_t	next = chunk & UINT32_MAX;

		if (next + units <= chunk >> 32)
		{
			if (atomic_compare_exchange_weak_explicit(&g->towers, &chunk, chunk + units,
													  memory_order_relaxed,
													  memory_order_relaxed))
				return next << 3;
			continue;
		}
		fresh = ltg_gen_reserve(g, TOWER_CHUNK);
		if (fresh == 0)
			return ltg_gen_reserve(g, bytes);
		if (atomic_compare_exchange_strong_explicit(&g->towers, &chunk,
													(fresh + TOWER_CHUNK) >> 3 << 32 |
													((fresh >> 3) + units),
													memory_order_relaxed,
													memory_order_relaxed))
			return fresh;
		ltg_gen_unreserve(g, fresh, fresh + TOWER_CHUNK);
	} while (true);
}

static LtgMemNode *
make_node(LtgGeneration *g, LtgMemList *l, const uint8_t *key, uint32_t key_len,
		  uint64_t h, uint64_t *cursor)
{
	uint32_t	height = node_height(h);
	uint64_t	at = 0;
	LtgMemNode *n;
	uint8_t    *bytes;

	if (height > NODE_LEVELS_RESERVED)
	{
		at = reserve_tower(g, node_bytes(height, key_len));
		if (at == 0)
			height = NODE_LEVELS_RESERVED;	/* costs speed only */
	}
	if (at == 0)
	{
		at = *cursor;
		*cursor += node_bytes(height, key_len);
	}
	n = ltg_mem_at(g, (uint32_t) (at >> 3));
	n->list = ltg_mem_place(g, l);
	n->key_len = (uint16_t) key_len;
	n->height = (uint8_t) height;
	atomic_init(&n->marks, LTG_MEM_BORN);
	bytes = (uint8_t *) n + sizeof(LtgMemNode) +
		LTG_ALIGN8((uint64_t) height * sizeof(LtgMemLink));
	if (key_len > 0)
	{
		memset(bytes + LTG_ALIGN8((uint64_t) key_len) - 8, 0, 8);
		memcpy(bytes, key, key_len);
	}
	return n;
}

static void
list_note_seq(LtgMemList *l, LtgSeq seq)
{
	uint64_t	old = atomic_load_explicit(&l->max_seq, memory_order_relaxed);

	while (old < seq &&
		   !atomic_compare_exchange_weak_explicit(&l->max_seq, &old, seq,
												  memory_order_relaxed,
												  memory_order_relaxed))
		;
	old = atomic_load_explicit(&l->min_seq, memory_order_relaxed);
	while (old > seq &&
		   !atomic_compare_exchange_weak_explicit(&l->min_seq, &old, seq,
												  memory_order_relaxed,
												  memory_order_relaxed))
		;
}

/* Before the version can be found: who sees it must not leave the list out. */
static void
list_note_xid(LtgMemList *l, const LtgVersion *v)
{
	LtgXid		xid = v->state == LTG_SETTLED || v->kind == LTG_GONE ? 0 : v->xid;
	LtgXid		old = atomic_load_explicit(&l->min_xid, memory_order_relaxed);

	while (old > xid &&
		   !atomic_compare_exchange_weak_explicit(&l->min_xid, &old, xid,
												  memory_order_relaxed,
												  memory_order_relaxed))
		;
	if (v->kind != LTG_PUT)
		xid = UINT64_MAX;
	old = atomic_load_explicit(&l->max_xid, memory_order_relaxed);
	while (old < xid &&
		   !atomic_compare_exchange_weak_explicit(&l->max_xid, &old, xid,
												  memory_order_relaxed,
												  memory_order_relaxed))
		;
}

/*
 * The place to insert at, found from the list's tail: right when keys arrive in
 * ascending order.  False when k does not belong behind the tail.
 */
static bool
search_from_tail(const LtgGeneration *g, LtgMemList *l, const LtgMemKey *k,
				 uint32_t height, LtgMemLink **before, uint32_t *after)
{
	for (uint32_t level = 0; level < height; level++)
	{
		uint32_t	tail = atomic_load_explicit(&l->tail[level], memory_order_acquire);

		if (tail == 0)
		{
			if (level == 0)
				return false;
			before[level] = l->head;
		}
		else
		{
			LtgMemNode *n = ltg_mem_at(g, tail);

			if (ltg_mem_cmp(n, k) >= 0)
				return false;
			before[level] = n->next;
		}
		after[level] = atomic_load_explicit(&before[level][level], memory_order_acquire);
	}
	return true;
}

/*
 * Link n at one level; before/after say where it was to go a moment ago.  Returns
 * the links that it hangs on.
 */
static LtgMemLink *
link_level(LtgGeneration *g, LtgMemList *l, LtgMemNode *n, const LtgMemKey *k,
		   uint32_t level, LtgMemLink *before, uint32_t after)
{
	uint32_t	mine = ltg_mem_place(g, n);

	for (;;)
	{
		/* Others may have come in between: nodes only ever appear, so walk on. */
		while (after != 0)
		{
			LtgMemNode *next = ltg_mem_at(g, after);
			int			c = ltg_mem_cmp(next, k);

			LTG_ASSERT(c != 0);
			if (c > 0)
				break;
			before = next->next;
			after = atomic_load_explicit(&before[level], memory_order_acquire);
		}
		atomic_store_explicit(&n->next[level], after, memory_order_relaxed);
		if (atomic_compare_exchange_strong_explicit(&before[level], &after, mine,
													memory_order_seq_cst,
													memory_order_acquire))
			break;
	}
	if (after == 0)
		atomic_store_explicit(&l->tail[level], mine, memory_order_release);
	return before;
}

/* Something was written to or behind this node: readers must not pass it (P2). */
static void
break_stretches(LtgMemList *l, const LtgMemNode *n)
{
	if (n != NULL && atomic_load_explicit(&n->marks, memory_order_seq_cst) != 0)
		atomic_fetch_add_explicit(&l->breaks, 1, memory_order_seq_cst);
}

static void
link_node(LtgGeneration *g, LtgMemList *l, LtgMemNode *n, const LtgMemKey *k, uint64_t h)
{
	LtgMemLink *before[LTG_MEM_HEIGHT_MAX];
	uint32_t	after[LTG_MEM_HEIGHT_MAX];
	uint32_t	height = n->height;
	uint32_t	in_use;

	if (!search_from_tail(g, l, k, height, before, after))
	{
		in_use = ltg_mem_search(g, l, k, false, before, after);
		for (uint32_t level = in_use; level < height; level++)
		{
			before[level] = l->head;
			after[level] = atomic_load_explicit(&l->head[level], memory_order_acquire);
		}
	}
	break_stretches(l, ltg_mem_links_node(l, link_level(g, l, n, k, 0, before[0], after[0])));
	atomic_fetch_and_explicit(&n->marks, (uint8_t) ~LTG_MEM_BORN, memory_order_seq_cst);
	hash_push(g, n, h);
	for (uint32_t level = 1; level < height; level++)
		(void) link_level(g, l, n, k, level, before[level], after[level]);

	in_use = atomic_load_explicit(&l->height, memory_order_relaxed);
	while (in_use < height &&
		   !atomic_compare_exchange_weak_explicit(&l->height, &in_use, height,
												  memory_order_relaxed,
												  memory_order_relaxed))
		;
	atomic_fetch_add_explicit(&l->nodes, 1, memory_order_relaxed);
}

LtgMemVersion *
ltg_mem_insert(LtgGeneration *g, uint64_t store_id, const uint8_t *key,
			   uint32_t key_len, uint64_t hash, const LtgVersion *v, uint64_t *cursor)
{
	LtgMemList *l = list_for_insert(g, store_id);
	uint64_t	h = stir(hash, store_id);
	LtgMemNode *n = hash_find(g, ltg_mem_place(g, l), key, key_len, h);
	LtgMemVersion *mv;

	LTG_ASSERT(key_len <= LTG_KEY_MAX && v->payload_len <= LTG_PAYLOAD_MAX);
	LTG_ASSERT(*cursor >= g->body && *cursor % 8 == 0);
	list_note_xid(l, v);
	if (n != NULL)
	{
		uint32_t	older = atomic_load_explicit(&n->newest, memory_order_acquire);

		LTG_ASSERT(((LtgMemVersion *) ltg_mem_at(g, older))->seq <= v->seq);
		mv = make_version(g, v, older, cursor);
		atomic_store_explicit(&n->newest, ltg_mem_place(g, mv), memory_order_seq_cst);
		break_stretches(l, n);
	}
	else
	{
		LtgMemKey	k = ltg_mem_key(key, key_len);

		n = make_node(g, l, key, key_len, h, cursor);
		mv = make_version(g, v, 0, cursor);
		atomic_init(&n->newest, ltg_mem_place(g, mv));
		link_node(g, l, n, &k, h);
	}
	LTG_ASSERT(*cursor <= g->limit);
	list_note_seq(l, v->seq);
	atomic_fetch_add_explicit(&l->bytes, key_len + v->payload_len, memory_order_relaxed);
	return mv;
}

/* ---- versions ---- */

LtgMemVersion *
ltg_mem_newest(LtgGeneration *g, LtgMemNode *n)
{
	return ltg_mem_at(g, atomic_load_explicit(&n->newest, memory_order_acquire));
}

LtgMemVersion *
ltg_mem_older(LtgGeneration *g, LtgMemVersion *mv)
{
	return mv->older == 0 ? NULL : ltg_mem_at(g, mv->older);
}

void
ltg_mem_read(const LtgMemVersion *mv, LtgVersion *v)
{
	const uint64_t *data = mv->data;

	v->kind = (LtgKind) mv->kind;
	v->state = (LtgState) atomic_load_explicit(&mv->state, memory_order_relaxed);
	v->flags = mv->flags;
	v->tag = mv->tag;
	v->cid = mv->cid;
	v->xid = mv->xid;
	v->seq = mv->seq;
	v->aux = 0;
	if (mv->kind != LTG_PUT)
	{
		v->aux = *data;
		data += LTG_MEM_TOMBSTONE_BYTES / sizeof(*data);
	}
	v->payload = (const uint8_t *) data;
	v->payload_len = mv->payload_len;
}

void
ltg_mem_mark(LtgMemVersion *mv, LtgState fate)
{
	uint8_t		state = atomic_load_explicit(&mv->state, memory_order_relaxed);

	/* A slower session must not turn SETTLED back into COMMITTED. */
	while (state == LTG_UNRESOLVED ? fate != LTG_UNRESOLVED :
		   state == LTG_COMMITTED && fate == LTG_SETTLED)
	{
		if (atomic_compare_exchange_weak_explicit(&mv->state, &state, (uint8_t) fate,
												  memory_order_relaxed,
												  memory_order_relaxed))
			break;
	}
}
