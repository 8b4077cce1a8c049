/*
 * scan.c
 *	  Range scans, in batches that are copied out of the engine.
 *
 * Nothing is held between two calls: no epoch, no iterator.  A scan remembers
 * a key, and each call takes a fresh view of the store and seeks beyond it.
 * What a snapshot sees does not depend on which view is used, so a scan meets
 * every row once, whatever flush and compaction do between its calls.
 *
 * Batches are filled in two ways (scan_batch.h): with stretches of plain blocks,
 * and row by row from a merge.
 *
 * The block path is taken where the next keys come from one run only, its
 * block is plain, and its one writer is settled or judged, once, for the whole
 * block.  Keys of other sources, the range's end and max_rows cut the stretch.
 */
#include "tree/scan_batch.h"

#include "tree/visible.h"

#define BLOCK_PATH_MIN 8		/* shorter stretches go row by row */
#define SELECT_MIN 32			/* the same where rows have to be selected */
#define KEYS_PER_EPOCH 16384	/* passed without giving a row */
#define UNSURE_MAX 32			/* tombstones that may be older than all snapshots */

static LtgStatus
set_position(LtgScan *scan, const uint8_t *key, uint32_t key_len, bool after)
{
	void	   *array = scan->pos;

	/* the position behind the empty key is not NULL, which is the beginning */
	LTG_TRY(ltg_scan_grow(scan->s, &array, &scan->pos_cap, key_len + 1, 1));
	scan->pos = array;
	if (key_len > 0)
		memmove(scan->pos, key, key_len);
	scan->pos_len = key_len;
	scan->has_pos = true;
	scan->after = after;
	return LTG_OK;
}

/* ---- row path ---- */

static LtgStatus
take_raw(LtgScan *scan, const uint8_t *key, uint32_t key_len)
{
	LtgVersion	v;
	LtgStatus	st;

	while ((st = ltg_merge_version(&scan->merge, &v)) == LTG_OK)
		LTG_TRY(ltg_batch_add_row(scan, key, key_len, &v));
	return st == LTG_END ? LTG_OK : st;
}

/* The snapshot sees this tombstone; does everybody?  Else others might need the row. */
static bool
is_dead(LtgScan *scan, const LtgVersion *v, LtgState fate)
{
	if (fate == LTG_SETTLED || v->kind == LTG_GONE)
		return true;
	if (fate != LTG_COMMITTED)
		return false;
	if (v->xid < scan->seen_below)
		return true;
	scan->unsure++;
	return false;
}

/*
 * The current key: add what the snapshot sees of it.  *dead: nobody sees anything,
 * in none of the sources that have the key.
 */
static LtgStatus
take_key(LtgScan *scan, const uint8_t *key, uint32_t key_len, bool *dead)
{
	LtgVersion	v;
	LtgStatus	st;

	*dead = false;
	if (scan->snap == NULL)
		return take_raw(scan, key, key_len);
	*dead = !scan->backward;
	while ((st = ltg_merge_version(&scan->merge, &v)) == LTG_OK)
	{
		LtgState	fate;
		bool		seen = ltg_version_seen(scan->snap, &v, &fate);

		if (LTG_UNLIKELY(scan->snap->failed))
			return LTG_HOST_ERROR;
		if (fate != v.state)
			ltg_merge_mark(&scan->merge, fate);
		if (fate != LTG_ABORTED && (v.kind == LTG_PUT || !seen))
			*dead = false;
		if (seen && v.kind == LTG_PUT)
			return ltg_batch_add_row(scan, key, key_len, &v);
		if (seen)
		{
			*dead = *dead && is_dead(scan, &v, fate);
			return LTG_OK;
		}
	}
	return st == LTG_END ? LTG_OK : st;
}

/* ---- block path ---- */

static int
compare_entry(const LtgBlockView *b, uint32_t i, const uint8_t *key, uint32_t key_len)
{
	uint8_t		buf[LTG_KEY_MAX];
	uint32_t	len;
	LtgVersion	v;

	ltg_block_entry(b->data, b->len, i, buf, &len, &v);
	return ltg_key_cmp(buf, len, key, key_len);
}

/* First entry in [from, n) whose key is >= key (or > key). */
static uint32_t
entry_bound(const LtgBlockView *b, uint32_t from, uint32_t to, const uint8_t *key,
			uint32_t key_len, bool beyond)
{
	while (from < to)
	{
		uint32_t	mid = from + (to - from) / 2;
		int			c = compare_entry(b, mid, key, key_len);

		if (c < 0 || (c == 0 && beyond))
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

/*
 * How many entries from the current one on, in the scan's direction, lie
 * before the key of another source and within the range.  *edge: the stretch
 * reaches the block's end.
 */
static uint32_t
stretch(const LtgScan *scan, const LtgBlockView *b, const uint8_t *bound, uint32_t bound_len)
{
	if (!scan->backward)
	{
		const uint8_t *limit = bound;
		uint32_t	limit_len = bound_len;

		if (scan->has_hi && (limit == NULL || ltg_key_cmp(scan->bounds + scan->lo_len, scan->hi_len,
														  limit, limit_len) < 0))
		{
			limit = scan->bounds + scan->lo_len;
			limit_len = scan->hi_len;
		}
		if (limit == NULL || compare_entry(b, b->n - 1, limit, limit_len) < 0)
			return b->n - b->at;
		return entry_bound(b, b->at, b->n, limit, limit_len, false) - b->at;
	}
	else
	{
		uint32_t	first = 0;

		if (scan->has_lo && compare_entry(b, 0, scan->bounds, scan->lo_len) < 0)
			first = entry_bound(b, 0, b->at + 1, scan->bounds, scan->lo_len, false);
		if (bound != NULL && compare_entry(b, first, bound, bound_len) <= 0)
			first = entry_bound(b, first, b->at + 1, bound, bound_len, true);
		return b->at + 1 - first;
	}
}

/* Whether the snapshot sees the block's rows, all or none of them. */
static LtgStatus
judge_block(LtgScan *scan, const LtgBlockView *b, bool *seen)
{
	LtgVersion	v = {.kind = LTG_PUT, .state = b->state, .xid = b->xid, .cid = b->cid};
	LtgState	fate;

	*seen = true;
	if (b->all_settled || scan->snap == NULL)
		return LTG_OK;
	*seen = ltg_version_seen(scan->snap, &v, &fate);
	return scan->snap->failed ? LTG_HOST_ERROR : LTG_OK;
}

/*
 * The batch ends after n entries of the block.  Where the block ends as well,
 * the next call is to begin at the next block, without reading this one again.
 */
static LtgStatus
set_position_behind(LtgScan *scan, LtgRunIter *it, const LtgBlockView *b, uint32_t n,
					const uint8_t *bound, uint32_t bound_len)
{
	uint8_t		key[LTG_KEY_MAX];
	uint32_t	key_len;
	LtgVersion	v;

	if (!scan->backward && n == b->n - b->at &&
		ltg_run_iter_block_limit(it, key, &key_len) == LTG_OK)
	{
		if (bound != NULL && ltg_key_cmp(bound, bound_len, key, key_len) < 0)
			return set_position(scan, bound, bound_len, false);
		return set_position(scan, key, key_len, false);
	}
	ltg_block_entry(b->data, b->len, scan->backward ? b->at - (n - 1) : b->at + (n - 1),
					key, &key_len, &v);
	return set_position(scan, key, key_len, true);
}

/*
 * Take a stretch of the current block if that is possible and pays.  LTG_OK:
 * it was taken and the merge stands on the next key; LTG_NOT_FOUND: use the row
 * path; LTG_BUSY: the batch is full, the position is set; LTG_END as usual.
 */
static LtgStatus
take_block(LtgScan *scan)
{
	LtgBlockView b;
	const uint8_t *bound;
	uint32_t	bound_len;
	uint32_t	n, left;
	LtgRunIter *it = ltg_merge_lone_run(&scan->merge, &bound, &bound_len);
	LtgStatus	st;
	bool		seen = true;

	if (it == NULL)
		return LTG_NOT_FOUND;
	ltg_run_iter_block(it, &b);
	if (b.more || (!b.plain && (scan->snap == NULL || scan->backward)))
		return LTG_NOT_FOUND;
	n = stretch(scan, &b, bound, bound_len);
	left = scan->max_rows - scan->n;
	if ((n < left ? n : left) < (b.plain ? BLOCK_PATH_MIN : SELECT_MIN))
		return LTG_NOT_FOUND;
	if (b.plain)
		LTG_TRY(judge_block(scan, &b, &seen));
	if (seen)
	{
		if (scan->n > 0 && !ltg_batch_has(scan, &b) && !ltg_batch_fits(scan, &b))
		{
			const uint8_t *key;
			uint32_t	key_len;

			ltg_merge_key(&scan->merge, &key, &key_len);
			LTG_TRY(set_position(scan, key, key_len, false));
			return LTG_BUSY;
		}
		if (!b.plain)
			LTG_TRY(ltg_batch_select(scan, &b, n, left, &n));
		else
		{
			if (n > left)
				n = left;
			LTG_TRY(ltg_batch_add_block(scan, &b, n));
		}
	}
	/* is anything left to do before the next key is needed? */
	if (ltg_batch_full(scan) || (seen && !ltg_batch_fits(scan, &b)))
	{
		LTG_TRY(set_position_behind(scan, it, &b, n, bound, bound_len));
		return LTG_BUSY;
	}
	if (scan->backward ? n == b.at + 1 : n == b.n - b.at)
		return ltg_merge_leave_block(&scan->merge);
	if (bound == NULL)
		return LTG_END;			/* the range ends in this block */
	st = ltg_merge_skip_lone_to(&scan->merge, bound, bound_len);
	return st;
}

/* ---- the loop ---- */

static bool
beyond_range(const LtgScan *scan, const uint8_t *key, uint32_t key_len)
{
	if (scan->backward)
		return scan->has_lo && ltg_key_cmp(key, key_len, scan->bounds, scan->lo_len) < 0;
	return scan->has_hi &&
		ltg_key_cmp(key, key_len, scan->bounds + scan->lo_len, scan->hi_len) >= 0;
}

static LtgStatus
start(LtgScan *scan)
{
	const uint8_t *lo = scan->has_lo ? scan->bounds : NULL;
	const uint8_t *hi = scan->has_hi ? scan->bounds + scan->lo_len : NULL;
	uint32_t	lo_len = scan->lo_len;
	uint32_t	hi_len = scan->hi_len;
	LtgMerge   *m = &scan->merge;
	LtgView		view;

	if (ltg_store_id(scan->store) != scan->store_id)
		return ltg_fail(scan->s, LTG_INVALID, "the store was dropped during a scan");
	if (scan->has_pos && !scan->backward)
		lo = scan->pos, lo_len = scan->pos_len;
	if (scan->has_pos && scan->backward)
		hi = NULL;				/* the position may be included */
	ltg_view_load(scan->s, scan->store, &view);
	ltg_note_probe(scan->s, scan->store, &view);
	ltg_merge_init(m, scan->s, scan->use, scan->backward);
	LTG_TRY(ltg_merge_add_view(m, scan->store_id, &view,
							   scan->snap == NULL ? scan->ignore_from : scan->snap->unseen, lo, lo_len, hi, hi_len));
	if (scan->has_pos)
		return ltg_merge_seek(m, scan->pos, scan->pos_len, scan->after);
	if (scan->backward)
		return ltg_merge_seek(m, hi, hi_len, true);
	return ltg_merge_seek(m, lo, lo_len, false);
}

/* Fill the batch from one view.  May give no row without being at the end. */
static LtgStatus
fill(LtgScan *scan)
{
	LtgMerge   *m = &scan->merge;
	uint32_t	passed = 0;
	bool		dead;
	LtgStatus	st = start(scan);

	while (st == LTG_OK)
	{
		const uint8_t *key;
		uint32_t	key_len;

		ltg_merge_key(m, &key, &key_len);
		if (beyond_range(scan, key, key_len))
			return LTG_END;
		if (scan->block_wait == 0)
		{
			st = take_block(scan);
			if (st == LTG_OK)
			{
				passed += 256;
				if (scan->n == 0 && passed >= KEYS_PER_EPOCH)
				{
					ltg_merge_key(m, &key, &key_len);
					return set_position(scan, key, key_len, false);
				}
				continue;
			}
			if (st == LTG_BUSY)
				return LTG_OK;
			if (st != LTG_NOT_FOUND)
				return st;
			scan->block_wait = BLOCK_PATH_MIN;
		}
		scan->block_wait--;
		LTG_TRY(take_key(scan, key, key_len, &dead));
		if (ltg_batch_full(scan) || (++passed >= KEYS_PER_EPOCH && scan->n == 0))
			return set_position(scan, key, key_len, true);
		st = dead ? ltg_merge_next_dead(m) : ltg_merge_next(m);
	}
	return st;
}

/*
 * Many tombstones were met that may be older than all snapshots, or may not: ask how
 * old these are.  Outside of an epoch, since the host may have to wait for a lock.
 */
static void
ask_seen_below(LtgScan *scan)
{
	LtgShared  *sh = scan->s->shared;
	LtgPort    *port = scan->s->port;
	uint64_t	known = atomic_load_explicit(&sh->seen_below, memory_order_relaxed);
	LtgXid		below = port->seen_below == NULL ? 0 : port->seen_below(port);

	while (known < below &&
		   !atomic_compare_exchange_weak_explicit(&sh->seen_below, &known, below,
												  memory_order_relaxed, memory_order_relaxed))
		;
}

LtgStatus
ltg_scan_next(LtgScan *scan, LtgBatch *batch)
{
	LtgSession *s = scan->s;
	LtgStatus	st = LTG_OK;

	batch->n = 0;
	batch->bytes = 0;
	batch->last = true;
	if (scan->done)
		return LTG_END;
	LTG_TRY(ltg_batch_begin(scan));
	while (st == LTG_OK && scan->n == 0)
	{
		scan->block_wait = 0;
		scan->copied_file = 0;
		scan->unsure = 0;
		scan->seen_below = atomic_load_explicit(&s->shared->seen_below, memory_order_relaxed);
		ltg_epoch_enter(s);
		st = fill(scan);
		ltg_merge_clear(&scan->merge);
		ltg_epoch_leave(s);
		if (scan->unsure >= UNSURE_MAX)
			ask_seen_below(scan);
		if (st == LTG_OK && scan->n == 0 && s->port->interrupted(s->port))
			return LTG_INTERRUPTED;
	}
	if (st == LTG_END)
	{
		scan->done = true;
		if (scan->n > 0)
			st = LTG_OK;
	}
	if (st != LTG_OK)
		return st;
	batch->n = scan->n;
	batch->bytes = scan->bytes;
	batch->last = scan->done;
	return LTG_OK;
}

/* ---- opening ---- */

static LtgStatus
apply_options(LtgScan *scan, const LtgScanOptions *opt)
{
	void	   *array = scan->bounds;
	uint32_t	lo_len = opt->lo == NULL ? 0 : opt->lo_len;
	uint32_t	hi_len = opt->hi == NULL ? 0 : opt->hi_len;

	if (lo_len > LTG_KEY_MAX || hi_len > LTG_KEY_MAX)
		return ltg_fail(scan->s, LTG_TOO_LARGE, "a scan bound is longer than a key may be");
	LTG_TRY(ltg_scan_grow(scan->s, &array, &scan->bounds_cap, lo_len + hi_len + 1, 1));
	scan->bounds = array;
	if (lo_len > 0)
		memcpy(scan->bounds, opt->lo, lo_len);
	if (hi_len > 0)
		memcpy(scan->bounds + lo_len, opt->hi, hi_len);
	scan->lo_len = lo_len;
	scan->hi_len = hi_len;
	scan->has_lo = lo_len > 0;
	scan->has_hi = opt->hi != NULL;
	scan->backward = opt->backward;
	scan->use = opt->spare_cache ? LTG_CACHE_SPARE : LTG_CACHE_NORMAL;
	scan->keys_only = opt->keys_only;
	scan->max_rows = opt->max_rows == 0 ? UINT32_MAX : opt->max_rows;
	scan->max_merged = opt->max_merged == 0 ? UINT32_MAX : opt->max_merged;
	scan->ignore_from = opt->ignore_from;
	scan->has_pos = false;
	scan->done = false;
	scan->n = scan->n_parts = scan->n_rows = 0;
	return LTG_OK;
}

LtgStatus
ltg_scan_open(LtgSession *s, LtgStore *store, const LtgScanOptions *opt, LtgScan **scan)
{
	LtgScan    *sc = s->port->alloc(s->port, sizeof(LtgScan));
	LtgStatus	st;

	*scan = NULL;
	if (sc == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a scan");
	memset(sc, 0, offsetof(LtgScan, ring));
	sc->s = s;
	sc->store = store;
	sc->store_id = ltg_store_id(store);
	sc->snap = opt->snap;
	sc->merge.s = s;
	st = apply_options(sc, opt);
	if (st != LTG_OK)
	{
		ltg_scan_close(sc);
		return st;
	}
	*scan = sc;
	return LTG_OK;
}

void
ltg_scan_keys_only(LtgScan *scan, bool on)
{
	scan->keys_only = on;
}

LtgStatus
ltg_scan_restart(LtgScan *scan, const LtgScanOptions *opt)
{
	return apply_options(scan, opt);
}

void
ltg_scan_close(LtgScan *scan)
{
	LtgPort    *port;

	if (scan == NULL)
		return;
	port = scan->s->port;
	ltg_merge_free(&scan->merge);
	ltg_scan_free_batch(scan);
	if (scan->bounds != NULL)
		port->free(port, scan->bounds);
	if (scan->pos != NULL)
		port->free(port, scan->pos);
	port->free(port, scan);
}
