/*
 * generation.c
 *	  The generations of the memtable: the list, freezing, and the writers'
 *	  reserve, apply and cancel.
 *
 * Invariants
 *	 G1. The list holds the active generation first, then the frozen ones by
 *		 falling number; it is replaced as a whole.
 *	 G2. An arena goes READY -> ACTIVE -> FROZEN -> RETIRED -> READY, each step
 *		 under LTG_LOCK_META; it is emptied (RETIRED -> READY) only when the
 *		 epoch of its retirement has passed.
 *	 G3. A writer holds LTG_LOCK_PIN_i shared from before it loads the active
 *		 generation until its versions are in it; a freeze holds all of them
 *		 exclusively while it reads B and swaps list and active generation.
 *		 So no version with an LSN <= B is ever inserted after the swap, and
 *		 none above B before.
 *	 G4. Numbers are given out in the order in which generations become
 *		 active: at most one arena is READY.
 *
 * Nothing here allocates.  Under the pins there are the host's wal_position()
 * and two stores.
 */
#include "tree/state.h"

#include "tree/pace.h"
#include "tree/publish.h"

/* ---- the list ---- */

LtgStatus
ltg_generations_init(LtgShared *sh, uint8_t *arenas)
{
	LtgGenList *l = &sh->gen_list[0];

	for (uint32_t i = 0; i < sh->config.memtable_count; i++)
	{
		LtgGeneration *g = ltg_gen_init(arenas + i * sh->config.memtable_bytes,
										sh->config.memtable_bytes);

		if (g == NULL)
			return LTG_INVALID;
		sh->arena[i].gen = g;
		sh->arena[i].state = LTG_ARENA_RETIRED; /* at epoch 0: long ago */
	}
	sh->next_generation = 1;
	ltg_gen_reset(sh->arena[0].gen, sh->next_generation++);
	sh->arena[0].state = LTG_ARENA_ACTIVE;
	l->n = 1;
	l->gen[0] = sh->arena[0].gen;
	atomic_store_explicit(&sh->active, l->gen[0], memory_order_release);
	atomic_store_explicit(&sh->gens, l, memory_order_release);
	return LTG_OK;
}

/*
 * The age of a level-0 run is the number of the generation it came from, so
 * numbers must go on where those of the files end.
 */
void
ltg_generations_number_from(LtgSession *s, uint64_t least)
{
	LtgShared  *sh = s->shared;
	LtgGenList *l = atomic_load_explicit(&sh->gens, memory_order_relaxed);

	LTG_ASSERT(l->n == 1);
	if (least <= ltg_gen_number(l->gen[0]))
		return;
	for (uint32_t i = 0; i < sh->config.memtable_count; i++)
		if (sh->arena[i].state == LTG_ARENA_READY)
			sh->arena[i].state = LTG_ARENA_RETIRED;
	sh->next_generation = least;
	ltg_gen_reset(l->gen[0], sh->next_generation++);
}

const LtgGenList *
ltg_generations(LtgSession *s)
{
	LTG_ASSERT(s->epoch_depth > 0 || ltg_ctx(s)->meta);
	return atomic_load_explicit(&s->shared->gens, memory_order_acquire);
}

static LtgArena *
arena_of(LtgShared *sh, const LtgGeneration *g)
{
	for (uint32_t i = 0; i < sh->config.memtable_count; i++)
		if (sh->arena[i].gen == g)
			return &sh->arena[i];
	return NULL;
}

/* META: an empty arena, or NULL if all are in use or still looked at. */
static LtgArena *
ready_arena(LtgSession *s)
{
	LtgShared  *sh = s->shared;
	LtgArena   *best = NULL;

	for (uint32_t i = 0; i < sh->config.memtable_count; i++)
	{
		LtgArena   *a = &sh->arena[i];

		if (a->state == LTG_ARENA_READY)
			return a;
		if (a->state == LTG_ARENA_RETIRED &&
			(best == NULL || a->epoch_stamp < best->epoch_stamp))
			best = a;
	}
	if (best == NULL ||
		(best->epoch_stamp != 0 && !ltg_epoch_passed(sh->epochs, best->epoch_stamp)))
		return NULL;
	ltg_gen_reset(best->gen, sh->next_generation++);
	best->state = LTG_ARENA_READY;
	return best;
}

/* META: a list nobody looks at. */
static LtgGenList *
spare_list(LtgSession *s)
{
	LtgShared  *sh = s->shared;
	LtgGenList *current = atomic_load_explicit(&sh->gens, memory_order_relaxed);

	for (uint32_t i = 0; i < LTG_GEN_LISTS; i++)
	{
		LtgGenList *l = &sh->gen_list[i];

		if (l != current &&
			(l->epoch_stamp == 0 || ltg_epoch_passed(sh->epochs, l->epoch_stamp)))
			return l;
	}
	return NULL;
}

void
ltg_prepare_arena(LtgSession *s)
{
	bool		taken = ltg_meta_enter(s);

	(void) ready_arena(s);
	ltg_meta_leave(s, taken);
}

/*
 * META: make a fresh generation active.  LTG_BUSY if no arena is free.
 */
static LtgStatus
freeze(LtgSession *s, LtgSeq *cut)
{
	LtgShared  *sh = s->shared;
	LtgPort    *port = s->port;
	LtgGenList *old = atomic_load_explicit(&sh->gens, memory_order_relaxed);
	LtgArena   *frozen = arena_of(sh, old->gen[0]);
	LtgArena   *fresh = ready_arena(s);
	LtgGenList *neu;
	LtgSeq		b;

	LTG_ASSERT(s->pinned < 0);
	LTG_ASSERT(frozen->state == LTG_ARENA_ACTIVE);
	if (fresh == NULL)
		return LTG_BUSY;
	neu = spare_list(s);
	LTG_ASSERT(neu != NULL);	/* see LTG_GEN_LISTS */
	if (neu == NULL)
		return LTG_BUSY;
	LTG_ASSERT(old->n < LTG_GENERATIONS_MAX);
	neu->n = old->n + 1;
	neu->gen[0] = fresh->gen;
	memcpy(&neu->gen[1], old->gen, old->n * sizeof(old->gen[0]));
	neu->epoch_stamp = 0;

	for (int i = 0; i < LTG_LOCK_PINS; i++)
		port->lock(port, LTG_LOCK_PIN_0 + i, LTG_EXCLUSIVE);
	LTG_STOP_POINT(port, "freeze:pinned");
	b = port->wal_position(port);
	atomic_store_explicit(&sh->gens, neu, memory_order_seq_cst);
	atomic_store_explicit(&sh->active, fresh->gen, memory_order_seq_cst);
	for (int i = LTG_LOCK_PINS - 1; i >= 0; i--)
		port->unlock(port, LTG_LOCK_PIN_0 + i);

	frozen->state = LTG_ARENA_FROZEN;
	frozen->cut = b;
	fresh->state = LTG_ARENA_ACTIVE;
	old->epoch_stamp = ltg_epoch_stamp(sh->epochs);
	atomic_fetch_add_explicit(&sh->count.freezes, 1, memory_order_relaxed);
	*cut = b;
	return LTG_OK;
}

LtgStatus
ltg_freeze(LtgSession *s, LtgSeq *cut)
{
	bool		taken = ltg_meta_enter(s);
	uint64_t	bytes = ltg_gen_used(ltg_generations(s)->gen[0]);
	LtgStatus	st = freeze(s, cut);

	ltg_meta_leave(s, taken);
	if (st == LTG_OK)
		ltg_pace_frozen(s, bytes);
	return st;
}

/*
 * A session that was refused by generation g must not freeze its successor:
 * somebody else may have switched meanwhile.
 */
LtgStatus
ltg_make_room(LtgSession *s, bool force)
{
	LtgWriteCtx *ctx = ltg_ctx(s);
	LtgStatus	st = LTG_OK;
	bool		taken = ltg_meta_enter(s);
	LtgGeneration *g = ltg_generations(s)->gen[0];
	bool		wanted = force || ltg_gen_number(g) == ctx->busy_generation;
	uint64_t	bytes = ltg_gen_used(g);
	LtgSeq		cut;

	if (wanted)
		st = freeze(s, &cut);
	if (st == LTG_OK)
		ctx->busy_generation = 0;
	ltg_meta_leave(s, taken);
	if (wanted && st == LTG_OK)
		ltg_pace_frozen(s, bytes);
	return st;
}

LtgGeneration *
ltg_oldest_frozen(LtgSession *s, LtgSeq *cut)
{
	LtgGeneration *g = NULL;
	bool		taken = ltg_meta_enter(s);
	const LtgGenList *l = ltg_generations(s);

	if (l->n > 1)
	{
		g = l->gen[l->n - 1];
		*cut = arena_of(s->shared, g)->cut;
	}
	ltg_meta_leave(s, taken);
	return g;
}

bool
ltg_is_oldest_frozen(LtgSession *s, const LtgGeneration *g)
{
	const LtgGenList *l = ltg_generations(s);

	return l->n > 1 && l->gen[l->n - 1] == g;
}

void
ltg_generation_remove(LtgSession *s, LtgGeneration *g)
{
	LtgShared  *sh = s->shared;
	LtgGenList *old = atomic_load_explicit(&sh->gens, memory_order_relaxed);
	LtgGenList *neu = spare_list(s);
	LtgArena   *a = arena_of(sh, g);

	LTG_ASSERT(neu != NULL);	/* see LTG_GEN_LISTS */
	LTG_ASSERT(ltg_is_oldest_frozen(s, g) && a->state == LTG_ARENA_FROZEN);
	neu->n = old->n - 1;
	memcpy(neu->gen, old->gen, neu->n * sizeof(old->gen[0]));
	neu->epoch_stamp = 0;
	atomic_store_explicit(&sh->gens, neu, memory_order_seq_cst);
	old->epoch_stamp = ltg_epoch_stamp(sh->epochs);
	a->epoch_stamp = old->epoch_stamp;
	a->state = LTG_ARENA_RETIRED;
}

LtgSeq
ltg_durable(LtgSession *s)
{
	return atomic_load_explicit(&s->shared->durable, memory_order_acquire);
}

/* ---- writers ---- */

static uint64_t
key_hash(const LtgWrite *w)
{
	return ltg_key_hash(w->key, w->key_len);
}

void
ltg_latch(LtgSession *s, LtgStore *store, const uint8_t *key, uint32_t key_len)
{
	uint64_t	h = ltg_key_hash(key, key_len) ^
		(ltg_store_id(store) * UINT64_C(0x9e3779b97f4a7c15));
	int32_t		stripe = (int32_t) ((h ^ (h >> 32)) % LTG_LOCK_STRIPES);

	LTG_ASSERT(s->latched_stripe < 0 && s->pinned < 0);
	s->port->lock(s->port, LTG_LOCK_STRIPE_0 + stripe, LTG_EXCLUSIVE);
	s->latched_stripe = stripe;
}

void
ltg_unlatch(LtgSession *s)
{
	int32_t		stripe = s->latched_stripe;

	LTG_ASSERT(stripe >= 0);
	s->latched_stripe = -1;
	s->port->unlock(s->port, LTG_LOCK_STRIPE_0 + stripe);
}

static void
unpin(LtgSession *s)
{
	int32_t		pin = s->pinned;

	LTG_ASSERT(pin >= 0);
	ltg_ctx(s)->gen = NULL;
	s->pinned = -1;
	s->port->unlock(s->port, LTG_LOCK_PIN_0 + pin);
}

/* Keys whose places in the memtable are fetched beforehand. */
#define PREFETCH_AHEAD 8

/* So that applying cannot fail for want of a list (M5). */
static bool
prepare_stores(LtgGeneration *g, const LtgWrite *w, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if ((i == 0 || w[i].store != w[i - 1].store) &&
			!ltg_gen_prepare(g, ltg_store_id(w[i].store)))
			return false;
	return true;
}

LtgStatus
ltg_reserve(LtgSession *s, const LtgWrite *w, uint32_t n)
{
	LtgWriteCtx *ctx = ltg_ctx(s);
	int32_t		pin = (int32_t) (s->epoch_slot % LTG_LOCK_PINS);
	size_t		need = 0;
	LtgGeneration *g;

	LTG_ASSERT(s->pinned < 0 && !ctx->meta && n > 0);
	for (uint32_t i = 0; i < n; i++)
	{
		if (w[i].key_len > LTG_KEY_MAX || w[i].v.payload_len > LTG_PAYLOAD_MAX)
			return ltg_fail(s, LTG_TOO_LARGE, "key of %u bytes with a value of %u bytes is over the limit of %u and %u bytes",
							w[i].key_len, w[i].v.payload_len, LTG_KEY_MAX, LTG_PAYLOAD_MAX);
		need += ltg_mem_need(w[i].key_len, w[i].v.payload_len);
	}
	s->port->lock(s->port, LTG_LOCK_PIN_0 + pin, LTG_SHARED);
	s->pinned = pin;
	g = atomic_load_explicit(&s->shared->active, memory_order_acquire);
	ctx->cursor = prepare_stores(g, w, n) ? ltg_gen_reserve(g, need) : 0;
	if (LTG_LIKELY(ctx->cursor != 0))
	{
		ctx->reserved_end = ctx->cursor + need;
		ctx->gen = g;
		/* arrives while the host writes its log record */
		for (uint32_t i = 0; i < n && i < PREFETCH_AHEAD; i++)
			ltg_mem_prefetch(g, ltg_store_id(w[i].store), key_hash(&w[i]));
		return LTG_OK;
	}
	ctx->busy_generation = ltg_gen_number(g);
	unpin(s);
	if (need > ltg_gen_capacity(g))
		return ltg_fail(s, LTG_TOO_LARGE, "%zu bytes do not fit into a memtable of %llu bytes",
						need, (unsigned long long) ltg_gen_capacity(g));
	atomic_fetch_add_explicit(&s->shared->count.busy, 1, memory_order_relaxed);
	return LTG_BUSY;
}

void
ltg_apply(LtgSession *s, LtgWrite *w, uint32_t n, LtgSeq seq)
{
	LtgWriteCtx *ctx = ltg_ctx(s);

	LTG_ASSERT(s->pinned >= 0 && ctx->gen != NULL && seq != 0);
	for (uint32_t i = 0; i < n; i++)
	{
		if (i + PREFETCH_AHEAD < n)
			ltg_mem_prefetch(ctx->gen, ltg_store_id(w[i + PREFETCH_AHEAD].store),
							 key_hash(&w[i + PREFETCH_AHEAD]));
		w[i].v.seq = seq;
		(void) ltg_mem_insert(ctx->gen, ltg_store_id(w[i].store), w[i].key, w[i].key_len,
							  key_hash(&w[i]), &w[i].v, &ctx->cursor);
	}
	/* Versions of keys that were there already took less. */
	ltg_gen_unreserve(ctx->gen, ctx->cursor, ctx->reserved_end);
	unpin(s);
}

void
ltg_cancel(LtgSession *s)
{
	LtgWriteCtx *ctx = ltg_ctx(s);

	ltg_gen_unreserve(ctx->gen, ctx->cursor, ctx->reserved_end);
	unpin(s);
}
