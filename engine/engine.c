/*
 * engine.c
 *	  The shared region as a whole, sessions, statistics.
 *
 * Layout of the region, each part on a cache line of its own: LtgShared, the
 * epoch table, the bucket arrays, metadata memory, the block cache,
 * compressed blocks, the memtable's arenas.
 */
#include "ltg.h"

#include <stdlib.h>

#include "storage/file.h"
#include "storage/packed.h"
#include "tree/hint.h"
#include "tree/publish.h"
#include "tree/state.h"

#define PAGE 4096

void
ltg_config_defaults(LtgConfig *c)
{
	memset(c, 0, sizeof(*c));
	c->memtable_bytes = (size_t) 64 << 20;
	c->memtable_count = 4;
	c->cache_bytes = (size_t) 128 << 20;
	c->metadata_bytes = (size_t) 16 << 20;
	c->max_sessions = 128;
	c->block_size = 16 * 1024;
	c->filter_bits_per_key = 10;
	c->l0_compact_trigger = 4;
	c->file_target_bytes = (uint64_t) 64 << 20;
	c->zstd_level = 3;
}

static bool
config_valid(const LtgConfig *c)
{
	return c->memtable_bytes >= (size_t) 1 << 20 && c->memtable_count >= 2 &&
		c->memtable_count <= LTG_GENERATIONS_MAX && c->max_sessions >= 1 &&
		c->block_size >= 4096 && c->block_size <= 128 * 1024 &&
		c->metadata_bytes >= 64 * 1024;
}

/* A power of two that is about one bucket for each 512 bytes of metadata. */
static uint32_t
bucket_count(const LtgConfig *c)
{
	uint32_t	n = 64;

	while (n < (1U << 20) && (size_t) n * 512 < c->metadata_bytes)
		n *= 2;
	return n;
}

/* Where the parts of the region begin. */
typedef struct Layout
{
	size_t		epochs, by_key, by_id, files, metadata, cache, packed, arenas, total;
} Layout;

static size_t
take(size_t *at, size_t align, size_t size)
{
	size_t		start = (*at + align - 1) & ~(align - 1);

	*at = start + size;
	return start;
}

static void
lay_out(const LtgConfig *c, Layout *l)
{
	size_t		at = sizeof(LtgShared);
	size_t		buckets = bucket_count(c) * sizeof(void *);

	l->epochs = take(&at, LTG_CACHE_LINE, ltg_epoch_table_size(c->max_sessions));
	l->by_key = take(&at, LTG_CACHE_LINE, buckets);
	l->by_id = take(&at, LTG_CACHE_LINE, buckets);
	l->files = take(&at, LTG_CACHE_LINE, buckets);
	l->metadata = take(&at, LTG_CACHE_LINE, c->metadata_bytes + ltg_shalloc_overhead());
	l->cache = take(&at, PAGE, c->cache_bytes);
	l->packed = take(&at, PAGE, c->packed_bytes);
	l->arenas = take(&at, PAGE, (size_t) c->memtable_count * c->memtable_bytes);
	l->total = at + PAGE;		/* the host's memory may start anywhere */
}

size_t
ltg_shared_size(const LtgConfig *c)
{
	Layout		l;
	LtgConfig	copy = *c;

	copy.memtable_bytes &= ~(size_t) (PAGE - 1);
	lay_out(&copy, &l);
	return l.total;
}

LtgStatus
ltg_shared_init(void *mem, const LtgConfig *c, LtgShared **shared)
{
	uint8_t    *base = (uint8_t *) (((uintptr_t) mem + PAGE - 1) & ~(uintptr_t) (PAGE - 1));
	LtgShared  *sh = (LtgShared *) base;
	LtgConfig	copy = *c;
	Layout		l;
	uint32_t	n;

	*shared = NULL;
	copy.memtable_bytes &= ~(size_t) (PAGE - 1);
	if (!config_valid(&copy))
		return LTG_INVALID;
	lay_out(&copy, &l);
	n = bucket_count(&copy);
	memset(sh, 0, sizeof(*sh));
	sh->config = copy;
	sh->epochs = (LtgEpochTable *) (base + l.epochs);
	ltg_epoch_table_init(sh->epochs, copy.max_sessions);
	sh->store_buckets = sh->file_buckets = n;
	sh->stores_by_key = (void *) (base + l.by_key);
	sh->stores_by_id = (void *) (base + l.by_id);
	sh->files_by_id = (void *) (base + l.files);
	for (uint32_t i = 0; i < n; i++)
	{
		atomic_init(&sh->stores_by_key[i], NULL);
		atomic_init(&sh->stores_by_id[i], NULL);
		sh->files_by_id[i] = NULL;
	}
	sh->alloc = ltg_shalloc_init(base + l.metadata,
								 copy.metadata_bytes + ltg_shalloc_overhead());
	sh->cache = ltg_cache_init(base + l.cache, copy.cache_bytes,
							   copy.block_size + LTG_FRAME_SLACK);
	if (copy.packed_bytes > 0)
		sh->packed = ltg_packed_init(base + l.packed, copy.packed_bytes, copy.block_size);
	if (sh->alloc == NULL || sh->cache == NULL)
		return LTG_INVALID;
	sh->next_store_id = sh->next_manifest = 1;
	atomic_init(&sh->next_file_id, 1);
	atomic_init(&sh->next_unlogged_seq, 1);
	LTG_TRY(ltg_generations_init(sh, base + l.arenas));
	sh->magic = LTG_REGION_MAGIC;
	*shared = sh;
	return LTG_OK;
}

/* ---- sessions ---- */

LtgStatus
ltg_session_open(LtgPort *port, LtgShared *shared, LtgSession **session)
{
	LtgSession *s;
	LtgStatus	st;

	*session = NULL;
	if (shared->magic != LTG_REGION_MAGIC)
		return LTG_INVALID;
	s = port->alloc(port, sizeof(LtgSession) + sizeof(LtgWriteCtx));
	if (s == NULL)
		return LTG_NOMEM;
	memset(s, 0, sizeof(LtgSession) + sizeof(LtgWriteCtx));
	s->port = port;
	s->shared = shared;
	s->epochs = shared->epochs;
	s->cache = shared->cache;
	s->packed = shared->packed;
	s->files_removed = &shared->files_removed;
	s->latched_stripe = s->pinned = -1;
	s->write_ctx = s + 1;
	st = ltg_epoch_claim(shared->epochs, &s->epoch_slot);
	if (st == LTG_OK)
	{
		st = ltg_file_cache_create(s);
		if (st != LTG_OK)
			ltg_epoch_unclaim(shared->epochs, s->epoch_slot);
	}
	if (st != LTG_OK)
	{
		port->free(port, s);
		return st;
	}
	*session = s;
	return LTG_OK;
}

void
ltg_session_reset(LtgSession *s, bool release_locks)
{
	LtgWriteCtx *ctx = ltg_ctx(s);
	LtgPort    *port = s->port;

	ltg_epoch_reset(s);
	if (release_locks)
	{
		if (s->pinned >= 0)
			port->unlock(port, LTG_LOCK_PIN_0 + s->pinned);
		if (ctx->meta)
			port->unlock(port, LTG_LOCK_META);
		if (s->latched_stripe >= 0)
			port->unlock(port, LTG_LOCK_STRIPE_0 + s->latched_stripe);
	}
	s->pinned = s->latched_stripe = -1;
	memset(ctx, 0, sizeof(*ctx));
	ltg_clear_error(s);
}

void
ltg_session_close(LtgSession *s)
{
	LtgPort    *port = s->port;

	LTG_ASSERT(s->pinned < 0 && s->latched_stripe < 0 && !ltg_ctx(s)->meta);
	ltg_store_unreserve(s);
	ltg_epoch_reset(s);
	ltg_hints_free(s);
	ltg_file_cache_destroy(s);
	ltg_epoch_unclaim(s->epochs, s->epoch_slot);
#ifdef LTG_STOP_POINTS
	memset(s, 0x7f, sizeof(*s));	/* a test build: let who still uses it fail */
#endif
	port->free(port, s);
}

/* ---- statistics ---- */

static uint64_t
get(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void
memtable_stats(LtgSession *s, LtgStats *stats)
{
	const LtgGenList *l;

	ltg_epoch_enter(s);
	l = ltg_generations(s);
	stats->generations = l->n;
	stats->frozen = l->n - 1;
	for (uint32_t i = 0; i < l->n; i++)
		stats->memtable_used += ltg_gen_used(l->gen[i]);
	stats->memtable_capacity = s->shared->config.memtable_count *
		ltg_gen_capacity(l->gen[0]);
	ltg_epoch_leave(s);
}

static void
cache_stats(LtgSession *s, LtgStats *stats)
{
	LtgCacheStats c;

	ltg_cache_stats(s, s->shared->cache, &c);
	stats->cache_hits = c.hits;
	stats->cache_misses = c.misses;
	stats->cache_ghost_hits = c.ghost_hits_recent + c.ghost_hits_frequent;
	stats->cache_evictions = c.evictions;
	stats->cache_bypasses = c.bypasses;
	stats->cache_frames = c.frames;
	stats->cache_used = c.frames_used;
	stats->cache_frame_bytes = c.frame_bytes;
	stats->cache_ghost_hits_recent = c.ghost_hits_recent;
	stats->cache_ghost_hits_frequent = c.ghost_hits_frequent;
	stats->cache_recent = c.t1;
	stats->cache_frequent = c.t2;
	stats->cache_recent_ghosts = c.b1;
	stats->cache_frequent_ghosts = c.b2;
	stats->cache_recent_target = c.p;
	stats->cache_pinned = c.filling + c.leaving;
	if (s->packed != NULL)
	{
		LtgPackedStats p;

		ltg_packed_stats(s, s->packed, &p);
		stats->packed_hits = p.hits;
		stats->packed_misses = p.misses;
		stats->packed_inserts = p.inserts;
		stats->packed_evictions = p.evictions;
		stats->packed_blocks = p.blocks;
		stats->packed_used = p.bytes_used;
		stats->packed_capacity = p.bytes_total;
	}
}

static void
pace_stats(LtgSession *s, LtgStats *stats)
{
	LtgPace    *p = &s->shared->pace;

	stats->write_delays = get(&p->write_delays);
	stats->write_delay_us = get(&p->write_delay_us);
	stats->write_rate = get(&p->allowed);
	stats->rate_limit = get(&p->limit);
	stats->limit_waits = get(&p->limit_waits);
	stats->limit_wait_us = get(&p->limit_wait_us);
	stats->backlog = ltg_backlog(s);
	stats->jobs = ltg_compact_progress(s, NULL, 0);
}

void
ltg_stats(LtgSession *s, LtgStats *stats)
{
	LtgShared  *sh = s->shared;
	LtgCounters *c = &sh->count;
	bool		taken;

	memset(stats, 0, sizeof(*stats));
	memtable_stats(s, stats);
	cache_stats(s, stats);
	stats->freezes = get(&c->freezes);
	stats->busy = get(&c->busy);
	pace_stats(s, stats);
	stats->flushes = get(&c->flushes);
	stats->flush_bytes = get(&c->flush_bytes);
	stats->flush_row_bytes = get(&c->flush_row_bytes);
	stats->compact_moves = get(&c->compact_moves);
	stats->compact_tiers = get(&c->compact_tiers);
	stats->compact_garbage = get(&c->compact_garbage);
	stats->manifest_bytes = get(&c->manifest_bytes);
	stats->flush_versions_in = get(&c->flush_versions_in);
	stats->flush_versions_out = get(&c->flush_versions_out);
	stats->compactions = get(&c->compactions);
	stats->compact_bytes_read = get(&c->compact_bytes_read);
	stats->compact_bytes_written = get(&c->compact_bytes_written);
	stats->compact_versions_in = get(&c->compact_versions_in);
	stats->compact_versions_out = get(&c->compact_versions_out);

	taken = ltg_meta_enter(s);
	stats->files = sh->n_files - sh->n_obsolete;
	stats->file_bytes = sh->file_bytes;
	stats->obsolete_files = sh->n_obsolete;
	stats->obsolete_bytes = sh->obsolete_bytes;
	stats->manifest = get(&sh->manifest);
	stats->durable = get(&sh->durable);
	stats->stores = sh->n_stores;
	ltg_meta_leave(s, taken);
	ltg_shalloc_stats(s, sh->alloc, &stats->metadata_used, &stats->metadata_total);
}
