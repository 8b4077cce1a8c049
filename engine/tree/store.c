/*
 * store.c
 *	  The store table: descriptors, row ids, tombstones of dropped stores.
 *
 * Two hash tables, by key and by id, with fixed bucket arrays.  Changes are
 * made under LTG_LOCK_META; chains are walked under it or inside an epoch.
 *
 * Invariants
 *	 T1. A descriptor is in both chains exactly while its id is not 0.
 *	 T2. A dropped descriptor is its own tombstone {key, stamp, dropped_at}, so
 *		 dropping needs no memory and cannot fail.  It is reused when its
 *		 epoch has passed and D >= dropped_at: before that, replay after a
 *		 crash may still meet records of the store.
 *	 T3. next_rowid never goes down while the id lasts, except by giving back
 *		 the very ids that were taken last.
 *
 * Locks: LTG_LOCK_META, inside it LTG_LOCK_ALLOC.  Row id functions are
 * lock-free.
 */
#include "tree/state.h"

#include <stdlib.h>

#include "tree/publish.h"

bool
ltg_meta_enter(LtgSession *s)
{
	if (ltg_ctx(s)->meta)
		return false;
	s->port->lock(s->port, LTG_LOCK_META, LTG_EXCLUSIVE);
	ltg_ctx(s)->meta = true;
	return true;
}

void
ltg_meta_leave(LtgSession *s, bool taken)
{
	LTG_ASSERT(ltg_ctx(s)->meta);
	if (!taken)
		return;
	ltg_ctx(s)->meta = false;
	s->port->unlock(s->port, LTG_LOCK_META);
}

void
ltg_meta_changed(LtgSession *s)
{
	LtgShared  *sh = s->shared;

	if (sh->changes == sh->changes_published)
		atomic_store_explicit(&sh->changed_at_us, s->port->now_us(s->port) | 1,
							  memory_order_relaxed);
	sh->changes++;
}

void
ltg_store_changed(LtgSession *s, LtgStore *st)
{
	LtgShared  *sh = s->shared;

	/* nobody looks for a temporary one after a restart */
	if ((atomic_load_explicit(&st->flags, memory_order_relaxed) & LTG_STORE_TEMP) != 0)
		return;
	ltg_meta_changed(s);
	if (st->changed == 0)
	{
		st->changed_next = sh->changed_stores;
		sh->changed_stores = st;
	}
	st->changed = sh->changes;
}

void
ltg_stores_published(LtgSession *s, uint64_t changes)
{
	LtgStore  **at = &s->shared->changed_stores;

	while (*at != NULL)
	{
		LtgStore   *st = *at;

		if (st->changed <= changes)
		{
			*at = st->changed_next;
			st->changed = 0;
		}
		else
			at = &st->changed_next;
	}
}

void
ltg_ddl_pin(LtgSession *s)
{
	bool		taken = ltg_meta_enter(s);

	LTG_ASSERT(taken);
	(void) taken;
}

void
ltg_ddl_unpin(LtgSession *s)
{
	ltg_meta_leave(s, true);
}

/* ---- chains ---- */

static bool
key_equal(const LtgStoreKey *a, const LtgStoreKey *b)
{
	return a->relation == b->relation && a->database == b->database &&
		a->space == b->space && a->backend == b->backend;
}

static LtgStore *_Atomic *
key_bucket(LtgShared *sh, const LtgStoreKey *key)
{
	uint8_t		buf[sizeof(LtgStoreKey)];

	_Static_assert(sizeof(LtgStoreKey) == 16, "no padding in the hashed key");
	memcpy(buf, key, sizeof(buf));
	return &sh->stores_by_key[ltg_key_hash(buf, sizeof(buf)) & (sh->store_buckets - 1)];
}

static LtgStore *_Atomic *
id_bucket(LtgShared *sh, uint64_t id)
{
	return &sh->stores_by_id[id & (sh->store_buckets - 1)];
}

LtgStore *
ltg_store_lookup(LtgShared *sh, const LtgStoreKey *key)
{
	LtgStore   *st = atomic_load_explicit(key_bucket(sh, key), memory_order_acquire);

	while (st != NULL)
	{
		if (key_equal(&st->key, key) &&
			atomic_load_explicit(&st->id, memory_order_acquire) != 0)
			return st;
		st = atomic_load_explicit(&st->hash_next, memory_order_acquire);
	}
	return NULL;
}

LtgStore *
ltg_store_by_id(LtgSession *s, uint64_t id)
{
	LtgShared  *sh = s->shared;
	LtgStore   *st;

	LTG_ASSERT(s->epoch_depth > 0 || ltg_ctx(s)->meta);
	if (id == 0)
		return NULL;
	st = atomic_load_explicit(id_bucket(sh, id), memory_order_acquire);
	while (st != NULL && atomic_load_explicit(&st->id, memory_order_acquire) != id)
		st = atomic_load_explicit(&st->id_next, memory_order_acquire);
	return st;
}

void
ltg_each_store(LtgSession *s, LtgEachStoreFn fn, void *arg)
{
	LtgShared  *sh = s->shared;

	LTG_ASSERT(s->epoch_depth > 0 || ltg_ctx(s)->meta);
	for (uint32_t b = 0; b < sh->store_buckets; b++)
	{
		LtgStore   *st = atomic_load_explicit(&sh->stores_by_id[b], memory_order_acquire);

		for (; st != NULL;
			 st = atomic_load_explicit(&st->id_next, memory_order_acquire))
		{
			if (atomic_load_explicit(&st->id, memory_order_acquire) == 0)
				continue;
			if (!fn(arg, st))
				return;
		}
	}
}

/* Take st out of a chain whose links are at `link` in the descriptor. */
static void
chain_remove(LtgStore *_Atomic *head, LtgStore *st, size_t link)
{
	LtgStore   *_Atomic *at = head;
	LtgStore   *cur;

	while ((cur = atomic_load_explicit(at, memory_order_relaxed)) != st)
	{
		LTG_ASSERT(cur != NULL);
		at = (LtgStore *_Atomic *) ((char *) cur + link);
	}
	/* readers that stand on st still follow its own link */
	cur = atomic_load_explicit((LtgStore *_Atomic *) ((char *) st + link),
							   memory_order_relaxed);
	atomic_store_explicit(at, cur, memory_order_release);
}

/* ---- descriptors; META ---- */

void
ltg_store_reclaim(LtgSession *s)
{
	LtgShared  *sh = s->shared;
	LtgSeq		durable = atomic_load_explicit(&sh->durable, memory_order_relaxed);
	LtgStore  **at = &sh->dropped_stores;

	while (*at != NULL)
	{
		LtgStore   *st = *at;

		if (st->dropped_at > durable || st->changed != 0 ||
			!ltg_epoch_passed(sh->epochs, st->epoch_stamp))
		{
			at = &st->free_next;
			continue;
		}
		*at = st->free_next;
		ltg_store_unalloc(s, st);
	}
}

/*
 * Allocate metadata memory, leaving `keep` of it free for more urgent needs: a
 * new store may be refused, a flush should not be, and a compaction, which ends
 * up with less than before, must find room when a flush did not.  What was in
 * a manifest must fit again, so loading may use everything.
 */
void *
ltg_metadata_alloc(LtgSession *s, size_t size, LtgMetadataUse use)
{
	LtgShared  *sh = s->shared;
	uint64_t	used,
				total,
				keep;
	void	   *p = NULL;

	for (int attempt = 0; attempt < 2 && p == NULL; attempt++)
	{
		if (attempt > 0)
			ltg_shreclaim(s, sh->alloc, sh->epochs);
		ltg_shalloc_stats(s, sh->alloc, &used, &total);
		keep = !sh->loaded || use == LTG_METADATA_URGENT ? 0 :
			use == LTG_METADATA_FLUSH ? total / 16 : total / 8;
		if (used + size + keep <= total)
			p = ltg_shalloc(s, sh->alloc, size);
	}
	return p;
}

LtgStore *
ltg_store_alloc(LtgSession *s, LtgMetadataUse use)
{
	LtgShared  *sh = s->shared;
	LtgStore   *st;

	if (sh->free_stores == NULL)
		ltg_store_reclaim(s);
	if (sh->free_stores == NULL)
	{
		LtgStore   *slab = ltg_metadata_alloc(s, sizeof(LtgStore) * LTG_STORE_SLAB, use);

		if (slab == NULL)
			return NULL;
		memset(slab, 0, sizeof(LtgStore) * LTG_STORE_SLAB);
		for (int i = LTG_STORE_SLAB - 1; i >= 0; i--)
			ltg_store_unalloc(s, &slab[i]);
	}
	st = sh->free_stores;		/* there is one now */
	/* cppcheck-suppress nullPointerRedundantCheck */
	sh->free_stores = st->free_next;
	/* cppcheck-suppress nullPointerRedundantCheck */
	st->free_next = NULL;
	return st;
}

void
ltg_store_unalloc(LtgSession *s, LtgStore *st)
{
	st->free_next = s->shared->free_stores;
	s->shared->free_stores = st;
}

void
ltg_store_link(LtgSession *s, LtgStore *st, uint64_t id, const LtgStoreKey *key,
			   LtgSeq stamp, uint32_t flags)
{
	LtgShared  *sh = s->shared;
	LtgStore   *_Atomic *b = key_bucket(sh, key);

	LTG_ASSERT(atomic_load(&st->id) == 0 && id != 0);
	st->key = *key;
	st->stamp = stamp;
	st->dropped_at = 0;
	st->probes_seen = st->probes_at = st->probe_rate = 0;
	atomic_store_explicit(&st->superseded, 0, memory_order_relaxed);
	atomic_store_explicit(&st->probes, 0, memory_order_relaxed);
	atomic_store_explicit(&st->asked_for, 0, memory_order_relaxed);
	atomic_store_explicit(&st->stuck_xid, 0, memory_order_relaxed);
	atomic_store_explicit(&st->compact_not_before, 0, memory_order_relaxed);
	atomic_store_explicit(&st->damaged, false, memory_order_relaxed);
	atomic_store_explicit(&st->flags, flags, memory_order_relaxed);
	/* row id 0 is the first one used: no row ever moves there, so that as a
	 * forwarding address it means none */
	atomic_store_explicit(&st->next_rowid, 0, memory_order_relaxed);
	atomic_store_explicit(&st->graves_cleared, 0, memory_order_relaxed);
	ltg_store_set_merged(st, &(LtgMerged) {0});
	atomic_store_explicit(&st->options, 0, memory_order_relaxed);
	atomic_store_explicit(&st->rewrite_below, 0, memory_order_relaxed);
	atomic_store_explicit(&st->runs, NULL, memory_order_relaxed);

	atomic_store_explicit(&st->id_next,
						  atomic_load_explicit(id_bucket(sh, id), memory_order_relaxed),
						  memory_order_relaxed);
	atomic_store_explicit(&st->hash_next, atomic_load_explicit(b, memory_order_relaxed),
						  memory_order_relaxed);
	atomic_store_explicit(&st->id, id, memory_order_release);
	atomic_store_explicit(id_bucket(sh, id), st, memory_order_release);
	atomic_store_explicit(b, st, memory_order_release);
	sh->n_stores++;
}

void
ltg_store_set_merged(LtgStore *st, const LtgMerged *merged)
{
	st->merged = *merged;
	atomic_store_explicit(&st->merged_upto, merged->upto, memory_order_release);
}

void
ltg_store_drop_runs(LtgSession *s, LtgStore *st)
{
	LtgShared  *sh = s->shared;
	LtgRunSet  *rs = atomic_exchange_explicit(&st->runs, NULL, memory_order_acq_rel);

	if (rs == NULL)
		return;
	for (uint32_t i = 0; i < rs->n; i++)
		ltg_file_unref(s, rs->run[i].file, sh->next_manifest);
	ltg_shretire(s, sh->alloc, sh->epochs, rs);
}

void
ltg_store_unlink(LtgSession *s, LtgStore *st, LtgSeq at)
{
	LtgShared  *sh = s->shared;
	uint64_t	id = atomic_load_explicit(&st->id, memory_order_relaxed);
	bool		with_files = atomic_load(&st->runs) != NULL;

	LTG_ASSERT(id != 0);
	chain_remove(key_bucket(sh, &st->key), st, offsetof(LtgStore, hash_next));
	chain_remove(id_bucket(sh, id), st, offsetof(LtgStore, id_next));
	atomic_store_explicit(&st->id, 0, memory_order_release);
	ltg_store_drop_runs(s, st);
	st->dropped_at = at;
	st->epoch_stamp = ltg_epoch_stamp(sh->epochs);
	st->free_next = sh->dropped_stores;
	sh->dropped_stores = st;
	LTG_ASSERT(sh->n_stores > 0);
	sh->n_stores--;
	if (with_files)
		ltg_meta_changed(s);
	ltg_store_changed(s, st);
}

LtgStatus
ltg_store_add_tombstone(LtgSession *s, const LtgStoreKey *key, LtgSeq stamp, LtgSeq at)
{
	LtgStore   *st = ltg_store_alloc(s, LTG_METADATA_STORE);

	if (st == NULL)
		return ltg_fail(s, LTG_NOSHMEM, "out of shared metadata memory for stores");
	st->key = *key;
	st->stamp = stamp;
	st->dropped_at = at;
	st->epoch_stamp = ltg_epoch_stamp(s->shared->epochs);
	st->free_next = s->shared->dropped_stores;
	s->shared->dropped_stores = st;
	return LTG_OK;
}

/*
 * Entries that the memtable has under the old id become garbage that the next
 * flush skips.  The new id belongs to the same bucket, so that nothing moves
 * under readers of the chain.
 */
void
ltg_store_empty(LtgSession *s, LtgStore *st)
{
	LtgShared  *sh = s->shared;
	uint64_t	mask = sh->store_buckets - 1;
	uint64_t	old = atomic_load_explicit(&st->id, memory_order_relaxed);
	uint64_t	neu = sh->next_store_id + ((old - sh->next_store_id) & mask);

	LTG_ASSERT((neu & mask) == (old & mask) && neu >= sh->next_store_id);
	sh->next_store_id = neu + 1;
	atomic_store_explicit(&st->superseded, 0, memory_order_relaxed);
	ltg_store_set_merged(st, &(LtgMerged) {0});
	atomic_store_explicit(&st->id, neu, memory_order_release);
	ltg_store_drop_runs(s, st);
	ltg_store_changed(s, st);
}

/* ---- the public side ---- */

/* META. */
static LtgStatus
reserve(LtgSession *s, LtgMetadataUse use)
{
	if (s->spare_store == NULL)
		s->spare_store = ltg_store_alloc(s, use);
	return s->spare_store != NULL ? LTG_OK :
		ltg_fail(s, LTG_NOSHMEM, "out of shared metadata memory for stores");
}

LtgStatus
ltg_store_reserve(LtgSession *s, bool must)
{
	bool		taken = ltg_meta_enter(s);
	LtgStatus	st = reserve(s, must ? LTG_METADATA_URGENT : LTG_METADATA_STORE);

	ltg_meta_leave(s, taken);
	return st;
}

bool
ltg_stores_are_leaving(LtgSession *s)
{
	bool		taken = ltg_meta_enter(s);
	bool		leaving;

	ltg_store_reclaim(s);
	leaving = s->shared->dropped_stores != NULL;
	ltg_meta_leave(s, taken);
	return leaving;
}

void
ltg_store_unreserve(LtgSession *s)
{
	bool		taken;

	if (s->spare_store == NULL)
		return;
	taken = ltg_meta_enter(s);
	ltg_store_unalloc(s, s->spare_store);
	s->spare_store = NULL;
	ltg_meta_leave(s, taken);
}

LtgStatus
ltg_store_create(LtgSession *s, const LtgStoreKey *key, uint32_t flags, LtgSeq stamp,
				 LtgStore **store)
{
	LtgShared  *sh = s->shared;
	LtgStatus	st = LTG_OK;
	bool		taken = ltg_meta_enter(s);
	LtgStore   *old = ltg_store_lookup(sh, key);

	*store = NULL;
	if (old != NULL && old->stamp == stamp)
		*store = old;
	else if ((st = reserve(s, LTG_METADATA_STORE)) == LTG_OK)
	{
		if (old != NULL)
			ltg_store_unlink(s, old, stamp);
		ltg_store_link(s, s->spare_store, sh->next_store_id++, key, stamp, flags);
		ltg_store_changed(s, s->spare_store);
		*store = s->spare_store;
		s->spare_store = NULL;
	}
	ltg_meta_leave(s, taken);
	return st;
}

LtgStatus
ltg_store_find(LtgSession *s, const LtgStoreKey *key, LtgStore **store)
{
	ltg_epoch_enter(s);
	*store = ltg_store_lookup(s->shared, key);
	ltg_epoch_leave(s);
	return *store != NULL ? LTG_OK : LTG_NOT_FOUND;
}

LtgStatus
ltg_store_drop(LtgSession *s, const LtgStoreKey *key, LtgSeq at)
{
	bool		taken = ltg_meta_enter(s);
	LtgStore   *st = ltg_store_lookup(s->shared, key);

	if (st != NULL)
		ltg_store_unlink(s, st, at);
	ltg_meta_leave(s, taken);
	return st != NULL ? LTG_OK : LTG_NOT_FOUND;
}

bool
ltg_store_was_dropped(LtgSession *s, const LtgStoreKey *key)
{
	LtgShared  *sh = s->shared;
	bool		found = false;
	bool		taken = ltg_meta_enter(s);
	LtgSeq		durable = atomic_load_explicit(&sh->durable, memory_order_relaxed);

	for (LtgStore *st = sh->dropped_stores; st != NULL && !found; st = st->free_next)
		found = st->dropped_at > durable && key_equal(&st->key, key);
	ltg_meta_leave(s, taken);
	return found;
}

uint64_t
ltg_store_id(const LtgStore *store)
{
	return atomic_load_explicit(&store->id, memory_order_acquire);
}

void
ltg_store_set_flags(LtgSession *s, LtgStore *store, uint32_t set, uint32_t clear)
{
	bool		taken = ltg_meta_enter(s);
	uint32_t	old = atomic_load_explicit(&store->flags, memory_order_relaxed);
	uint32_t	neu = (old | set) & ~clear;

	if (neu != old)
	{
		atomic_store_explicit(&store->flags, neu, memory_order_release);
		ltg_store_changed(s, store);
	}
	ltg_meta_leave(s, taken);
}

/* ---- options ---- */

uint64_t
ltg_store_options_pack(const LtgStoreOptions *opt)
{
	return opt->block_size | (uint64_t) (uint16_t) opt->level << 32 |
		(uint64_t) opt->compression << 48;
}

/* False when they are not possible ones. */
bool
ltg_store_options_unpack(uint64_t packed, LtgStoreOptions *opt)
{
	opt->block_size = (uint32_t) packed;
	opt->level = (int16_t) (packed >> 32);
	opt->compression = (LtgCompression) (packed >> 48);
	return packed >> 48 <= LTG_COMPRESS_ZSTD &&
		opt->level >= LTG_COMPRESS_LEVEL_MIN && opt->level <= LTG_COMPRESS_LEVEL_MAX &&
		(opt->block_size == 0 || (opt->block_size >= LTG_BLOCK_SIZE_MIN &&
								  opt->block_size <= LTG_BLOCK_SIZE_MAX));
}

LtgStatus
ltg_store_set_options(LtgSession *s, LtgStore *store, const LtgStoreOptions *opt)
{
	LtgStoreOptions back;
	uint64_t	packed;
	bool		taken;

	if ((unsigned) opt->compression > LTG_COMPRESS_ZSTD ||
		opt->level < LTG_COMPRESS_LEVEL_MIN || opt->level > LTG_COMPRESS_LEVEL_MAX)
		return ltg_fail(s, LTG_INVALID, "no such compression or level");
	packed = ltg_store_options_pack(opt);
	if (!ltg_store_options_unpack(packed, &back))
		return ltg_fail(s, LTG_INVALID, "block size %u is not between %u and %u",
						opt->block_size, LTG_BLOCK_SIZE_MIN, LTG_BLOCK_SIZE_MAX);
	if (atomic_load_explicit(&store->options, memory_order_relaxed) == packed)
		return LTG_OK;
	taken = ltg_meta_enter(s);
	atomic_store_explicit(&store->options, packed, memory_order_release);
	ltg_store_rewrite(s, store);
	ltg_store_changed(s, store);
	ltg_meta_leave(s, taken);
	return LTG_OK;
}

void
ltg_store_rewrite(LtgSession *s, LtgStore *store)
{
	/* files that are being written now have numbers, and may have old options */
	atomic_store_explicit(&store->rewrite_below, atomic_load(&s->shared->next_file_id),
						  memory_order_relaxed);
}

void
ltg_store_options(const LtgStore *store, LtgStoreOptions *opt)
{
	bool		ok = ltg_store_options_unpack(atomic_load_explicit(&store->options,
																   memory_order_acquire), opt);

	LTG_ASSERT(ok);
	(void) ok;
}

void
ltg_store_clear_graves(LtgSession *s, LtgStore *store, LtgSeq upto)
{
	bool		taken = ltg_meta_enter(s);

	if (upto > atomic_load_explicit(&store->graves_cleared, memory_order_relaxed))
	{
		atomic_store_explicit(&store->graves_cleared, upto, memory_order_release);
		ltg_store_changed(s, store);
	}
	ltg_meta_leave(s, taken);
}

uint64_t
ltg_store_take_rowids(LtgStore *store, uint32_t n)
{
	return atomic_fetch_add_explicit(&store->next_rowid, n, memory_order_relaxed);
}

bool
ltg_store_return_rowids(LtgStore *store, uint64_t first, uint32_t n)
{
	uint64_t	expected = first + n;

	return atomic_compare_exchange_strong_explicit(&store->next_rowid, &expected, first,
												   memory_order_relaxed, memory_order_relaxed);
}

/*
 * While there is something to skip, D is below `upto`, and nobody replaces what
 * the store says (S6): so it is read without a lock.
 */
bool
ltg_is_merged(const LtgStore *store, const uint8_t *key, uint32_t key_len, LtgSeq lsn)
{
	return lsn <= atomic_load_explicit(&store->merged_upto, memory_order_acquire) &&
		ltg_merged_has(&store->merged, key, key_len);
}

void
ltg_store_note_rowid(LtgStore *store, uint64_t rowid)
{
	uint64_t	cur = atomic_load_explicit(&store->next_rowid, memory_order_relaxed);

	while (cur <= rowid &&
		   !atomic_compare_exchange_weak_explicit(&store->next_rowid, &cur, rowid + 1,
												  memory_order_relaxed, memory_order_relaxed))
		;
}

uint64_t
ltg_store_next_rowid(const LtgStore *store)
{
	return atomic_load_explicit(&store->next_rowid, memory_order_relaxed);
}

LtgSeq
ltg_next_unlogged_seq(LtgSession *s)
{
	return atomic_fetch_add_explicit(&s->shared->next_unlogged_seq, 1, memory_order_relaxed);
}

/* ---- descriptions ---- */

/* Everything but what is in the memtable; inside an epoch. */
static void
fill_info(LtgStore *store, LtgStoreInfo *info)
{
	LtgRunSet  *rs;

	memset(info, 0, sizeof(*info));
	info->key = store->key;
	info->id = ltg_store_id(store);
	info->stamp = store->stamp;
	info->flags = atomic_load_explicit(&store->flags, memory_order_acquire);
	info->next_rowid = ltg_store_next_rowid(store);
	info->superseded = atomic_load_explicit(&store->superseded, memory_order_relaxed);
	info->graves_cleared = atomic_load_explicit(&store->graves_cleared, memory_order_acquire);
	rs = atomic_load_explicit(&store->runs, memory_order_acquire);
	if (rs == NULL)
		return;
	info->runs = rs->n;
	info->l0_runs = rs->level_start[1];
	for (uint32_t i = 0; i < LTG_LEVELS_MAX; i++)
		if (rs->level_start[i + 1] > rs->level_start[i])
			info->levels = i + 1;
	for (uint32_t i = 0; i < rs->n; i++)
	{
		const LtgRunRef *r = &rs->run[i];

		info->entries += r->entries;
		info->keys += r->keys;
		info->tombstones += r->tombstones;
		info->unsettled += r->unsettled;
		info->disk_bytes += r->disk_bytes;
		info->raw_bytes += r->raw_bytes;
		if (r->min_xid != 0 && (info->min_xid == 0 || r->min_xid < info->min_xid))
			info->min_xid = r->min_xid;
		if (r->max_xid > info->max_xid)
			info->max_xid = r->max_xid;
	}
}

typedef struct InfoList
{
	LtgStoreInfo *info;			/* sorted by id when keys are counted */
	uint32_t	n, max, total;
} InfoList;

static void
count_keys(void *arg, uint64_t store_id, uint64_t nodes, uint64_t bytes)
{
	InfoList   *l = arg;
	uint32_t	lo = 0,
				hi = l->n;

	while (lo < hi)
	{
		uint32_t	mid = lo + (hi - lo) / 2;

		if (l->info[mid].id < store_id)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < l->n && l->info[lo].id == store_id)
	{
		l->info[lo].memtable_keys += nodes;
		l->info[lo].memtable_bytes += bytes;
	}
}

static int
compare_info(const void *a, const void *b)
{
	uint64_t	x = ((const LtgStoreInfo *) a)->id,
				y = ((const LtgStoreInfo *) b)->id;

	return (x > y) - (x < y);
}

static bool
add_info(void *arg, LtgStore *store)
{
	InfoList   *l = arg;

	l->total++;
	if (l->n < l->max)
		fill_info(store, &l->info[l->n++]);
	return true;
}

uint32_t
ltg_store_list(LtgSession *s, LtgStoreInfo *info, uint32_t max)
{
	InfoList	l = {.info = info,.max = max};
	const LtgGenList *gens;

	ltg_epoch_enter(s);
	gens = ltg_generations(s);
	ltg_each_store(s, add_info, &l);
	if (l.n > 1)
		qsort(l.info, l.n, sizeof(LtgStoreInfo), compare_info);
	for (uint32_t i = 0; l.n > 0 && i < gens->n; i++)
		ltg_gen_stores(gens->gen[i], count_keys, &l);
	ltg_epoch_leave(s);
	return l.total;
}

/* The planner asks this: it must not walk what belongs to other stores. */
void
ltg_store_info(LtgSession *s, LtgStore *store, LtgStoreInfo *info)
{
	const LtgGenList *gens;

	ltg_epoch_enter(s);
	gens = ltg_generations(s);
	fill_info(store, info);
	for (uint32_t i = 0; i < gens->n; i++)
	{
		const LtgMemList *l = ltg_gen_list(gens->gen[i], info->id);

		if (l != NULL)
		{
			LtgXid		writer = ltg_mem_list_writer(l);

			if (info->memtable_keys == 0)
				info->memtable_writer = writer;
			else if (info->memtable_writer != writer)
				info->memtable_writer = 0;
			info->memtable_keys += ltg_mem_list_nodes(l);
			info->memtable_bytes += ltg_mem_list_bytes(l);
		}
	}
	ltg_epoch_leave(s);
}

/* ---- run sets ---- */

size_t
ltg_run_set_size(uint32_t n)
{
	return sizeof(LtgRunSet) + (size_t) n * sizeof(LtgRunRef);
}

static int
compare_bounds(const LtgBound *a, const LtgBound *b)
{
	int			c = ltg_key_cmp(a->bytes, a->len, b->bytes, b->len);

	return c != 0 ? c : (int) a->truncated - (int) b->truncated;
}

static int
compare_runs(const void *pa, const void *pb)
{
	const LtgRunRef *a = pa;
	const LtgRunRef *b = pb;
	int			c;

	if (a->level != b->level)
		return a->level < b->level ? -1 : 1;
	if (a->level == 0)
	{
		if (a->age != b->age)
			return a->age > b->age ? -1 : 1;
	}
	else
	{
		if ((c = compare_bounds(&a->min_key, &b->min_key)) != 0)
			return c;
		if ((c = compare_bounds(&a->max_key, &b->max_key)) != 0)
			return c;
	}
	/* only to be deterministic */
	if (a->file != b->file)
		return a->file < b->file ? -1 : 1;
	return (a->root_offset > b->root_offset) - (a->root_offset < b->root_offset);
}

void
ltg_run_set_arrange(LtgRunSet *rs)
{
	uint32_t	at = 0;

	qsort(rs->run, rs->n, sizeof(LtgRunRef), compare_runs);
	for (uint32_t level = 0; level <= LTG_LEVELS_MAX; level++)
	{
		while (at < rs->n && rs->run[at].level < level)
			at++;
		rs->level_start[level] = at;
	}
	LTG_ASSERT(at == rs->n);
}

bool
ltg_run_set_valid(const LtgRunSet *rs)
{
	if (rs->level_start[0] != 0 || rs->level_start[LTG_LEVELS_MAX] != rs->n)
		return false;
	for (uint32_t level = 0; level < LTG_LEVELS_MAX; level++)
	{
		if (rs->level_start[level] > rs->level_start[level + 1])
			return false;
		for (uint32_t i = rs->level_start[level]; i < rs->level_start[level + 1]; i++)
			if (rs->run[i].level != level)
				return false;
	}
	for (uint32_t i = 1; i < rs->n; i++)
	{
		const LtgRunRef *a = &rs->run[i - 1];
		const LtgRunRef *b = &rs->run[i];

		if (compare_runs(a, b) >= 0)
			return false;
		if (a->level != b->level)
			continue;
		if (a->level == 0 ? a->age == b->age :
			ltg_key_cmp(a->max_key.bytes, a->max_key.len,
						b->min_key.bytes, b->min_key.len) > 0)
			return false;
	}
	return true;
}
