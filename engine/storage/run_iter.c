/*
 * run_iter.c
 *	  Iteration over a run by key, in both directions.
 *
 * An iterator keeps the path from the root to its data block: one block and one
 * child number per level.  path[height] is the root, path[1] the lowest inner
 * block, path[0] the data block.  Moving beyond a block's edge climbs until a
 * level has a neighbour, and descends along its edge.
 *
 * With LTG_CACHE_NORMAL the blocks of the path are pointers into the cache,
 * good while the epoch lasts (LTG_CACHE_SPARE: unless they are not cached).  With
 * LTG_CACHE_PEEK all of them are private.
 *
 * After an error or LTG_END the iterator has no position; only positioning
 * calls are allowed then.
 */
#include "storage/run.h"

#include "storage/block.h"
#include "storage/blockio.h"
#include "storage/format.h"

#define PREFETCH_ROWS 4			/* payloads fetched ahead of the current row */

typedef struct PathStep
{
	const uint8_t *data;
	uint32_t	len;
	uint32_t	at;				/* inner: the child we are in */
	uint64_t	offset;
	uint32_t	disk_len;
	void	   *owned;
} PathStep;

struct LtgRunIter
{
	LtgSession *s;
	LtgRunRef	ref;
	LtgCacheUse use;
	PathStep	path[LTG_HEIGHT_MAX + 1];
	uint32_t	n;				/* entries of the data block; 0: no position */
	uint32_t	first;			/* the current key's entries: [first, end) */
	uint32_t	end;
	uint32_t	entry;			/* its current version, but for one in rest */
	/* a key that goes on in other blocks, which stay until it is left (R7) */
	PathStep   *rest;
	uint32_t	rest_n, rest_cap;	/* rest_n 0: not there yet; else the last is current */
	bool		have_key;		/* key[] is that of the current position */
	uint32_t	key_len;
	uint8_t		key[LTG_KEY_MAX];
};

LtgStatus
ltg_run_iter_open(LtgSession *s, const LtgRunRef *ref, LtgCacheUse use, LtgRunIter **it)
{
	LtgRunIter *i;

	*it = NULL;
	if (ref->height >= LTG_HEIGHT_MAX)
		return ltg_fail_corrupt(s, ref->file, ref->root_offset, "run has %u levels", ref->height);
	i = s->port->alloc(s->port, sizeof(LtgRunIter));
	if (i == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for an iterator");
	memset(i, 0, offsetof(LtgRunIter, key));
	i->s = s;
	i->ref = *ref;
	i->use = use;
	*it = i;
	return LTG_OK;
}

void
ltg_run_iter_close(LtgRunIter *it)
{
	uint32_t	lv;

	if (it == NULL)
		return;
	for (lv = 0; lv <= LTG_HEIGHT_MAX; lv++)
		ltg_private_free(it->s, &it->path[lv].owned);
	for (lv = 0; lv < it->rest_cap; lv++)
		ltg_private_free(it->s, &it->rest[lv].owned);
	if (it->rest != NULL)
		it->s->port->free(it->s->port, it->rest);
	it->s->port->free(it->s->port, it);
}

static LtgStatus
load_step(LtgRunIter *it, uint32_t lv, const LtgBlockPtr *at)
{
	PathStep   *p = &it->path[lv];

	p->offset = at->offset;
	p->disk_len = at->disk_len;
	return ltg_block_read(it->s, at, lv == 0 ? LTG_BLOCK_DATA : LTG_BLOCK_INNER, it->use,
						  &p->owned, &p->data, &p->len);
}

static LtgStatus
load_root(LtgRunIter *it)
{
	LtgBlockPtr at = ltg_run_root(&it->ref);

	it->n = 0;
	it->have_key = false;
	return load_step(it, it->ref.height, &at);
}

/* Load the current child of path[lv] as path[lv - 1]. */
static LtgStatus
load_child(LtgRunIter *it, uint32_t lv)
{
	LtgBlockPtr at = ltg_run_block(&it->ref, 0, 0);

	ltg_inner_child(it->path[lv].data, it->path[lv].at, &at.offset, &at.disk_len);
	return load_step(it, lv - 1, &at);
}

/* Stand on the key that entry i belongs to; i is its first or last version. */
static LtgStatus
stand_first(LtgRunIter *it, uint32_t i)
{
	const uint8_t *b = it->path[0].data;

	it->n = ltg_block_n(b);
	it->rest_n = 0;
	it->first = it->entry = i;
	it->end = ltg_block_group_end(b, i);
	it->have_key = false;
	return LTG_OK;
}

static LtgStatus
stand_last(LtgRunIter *it, uint32_t i)
{
	const uint8_t *b = it->path[0].data;

	it->n = ltg_block_n(b);
	it->rest_n = 0;
	it->first = it->entry = ltg_block_group_start(b, i);
	it->end = i + 1;
	it->have_key = false;
	return LTG_OK;
}

/* What lies below the cut of a run is not in it (R6). */
static bool
below_cut(const LtgRunIter *it, const uint8_t *key, uint32_t key_len)
{
	return it->ref.cut &&
		ltg_key_cmp(key, key_len, it->ref.min_key.bytes, it->ref.min_key.len) < 0;
}

/* After a move backward with this outcome. */
static LtgStatus
stop_at_cut(LtgRunIter *it, LtgStatus st)
{
	const uint8_t *key;
	uint32_t	key_len;

	if (st != LTG_OK || LTG_LIKELY(!it->ref.cut))
		return st;
	ltg_run_iter_key(it, &key, &key_len);
	if (!below_cut(it, key, key_len))
		return LTG_OK;
	it->n = 0;
	return LTG_END;
}

/* ---- neighbours ---- */

/* Descend from path[lv] along one edge of the tree. */
static LtgStatus
descend_edge(LtgRunIter *it, uint32_t lv, bool last)
{
	while (lv > 0)
	{
		LTG_TRY(load_child(it, lv));
		lv--;
		if (lv > 0)
			it->path[lv].at = last ? ltg_block_n(it->path[lv].data) : 0;
	}
	return LTG_OK;
}

/* One who goes from block to block will want the next ones, too. */
static void
prefetch_next(LtgRunIter *it)
{
	const PathStep *p = &it->path[1];
	uint32_t	n = ltg_block_n(p->data);
	uint64_t	next = 0;
	uint64_t	after = 0;
	uint32_t	disk_len;

	if (it->use == LTG_CACHE_PEEK || p->at >= n)
		return;
	ltg_inner_child(p->data, p->at + 1, &next, &disk_len);
	if (p->at + 1 < n)
		ltg_inner_child(p->data, p->at + 2, &after, &disk_len);
	ltg_block_prefetch(it->s, it->ref.file, next, after);
}

LtgStatus
ltg_run_iter_next_block(LtgRunIter *it)
{
	uint32_t	lv;

	it->n = 0;
	for (lv = 1; lv <= it->ref.height; lv++)
	{
		PathStep   *p = &it->path[lv];

		/* an inner block of n separators has n + 1 children */
		if (p->at < ltg_block_n(p->data))
		{
			p->at++;
			LTG_TRY(descend_edge(it, lv, false));
			prefetch_next(it);
			return stand_first(it, 0);
		}
	}
	return LTG_END;
}

LtgStatus
ltg_run_iter_prev_block(LtgRunIter *it)
{
	uint32_t	lv;

	it->n = 0;
	for (lv = 1; lv <= it->ref.height; lv++)
	{
		PathStep   *p = &it->path[lv];

		if (p->at > 0)
		{
			p->at--;
			LTG_TRY(descend_edge(it, lv, true));
			return stop_at_cut(it, stand_last(it, ltg_block_n(it->path[0].data) - 1));
		}
	}
	return LTG_END;
}

/* ---- positioning ---- */

static LtgStatus
seek_edge(LtgRunIter *it, bool last)
{
	uint32_t	h = it->ref.height;

	LTG_TRY(load_root(it));
	if (h > 0)
		it->path[h].at = last ? ltg_block_n(it->path[h].data) : 0;
	LTG_TRY(descend_edge(it, h, last));
	if (last)
		return stand_last(it, ltg_block_n(it->path[0].data) - 1);
	return stand_first(it, 0);
}

/* To the data block that may hold the key. */
static LtgStatus
seek_block(LtgRunIter *it, const uint8_t *key, uint32_t key_len)
{
	uint32_t	lv;

	LTG_TRY(load_root(it));
	for (lv = it->ref.height; lv > 0; lv--)
	{
		it->path[lv].at = ltg_inner_find(it->path[lv].data, key, key_len);
		LTG_TRY(load_child(it, lv));
	}
	return LTG_OK;
}

LtgStatus
ltg_run_iter_seek_ge(LtgRunIter *it, const uint8_t *key, uint32_t key_len)
{
	bool		equal;
	uint32_t	i;

	if (it->ref.cut && (key == NULL || below_cut(it, key, key_len)))
	{
		key = it->ref.min_key.bytes;
		key_len = it->ref.min_key.len;
	}
	if (key == NULL)
		return seek_edge(it, false);
	LTG_TRY(seek_block(it, key, key_len));
	i = ltg_block_lower_bound(it->path[0].data, key, key_len, &equal);
	if (i == ltg_block_n(it->path[0].data))
		return ltg_run_iter_next_block(it);
	for (uint32_t k = 0; k < PREFETCH_ROWS; k++)
		ltg_block_prefetch_payload(it->path[0].data, i + k);
	return stand_first(it, i);
}

LtgStatus
ltg_run_iter_seek_le(LtgRunIter *it, const uint8_t *key, uint32_t key_len)
{
	bool		equal;
	uint32_t	i;

	if (key == NULL)
		return stop_at_cut(it, seek_edge(it, true));
	LTG_TRY(seek_block(it, key, key_len));
	i = ltg_block_lower_bound(it->path[0].data, key, key_len, &equal);
	if (equal)
		return stop_at_cut(it, stand_first(it, i));
	if (i == 0)
		return ltg_run_iter_prev_block(it);
	return stop_at_cut(it, stand_last(it, i - 1));
}

LtgStatus
ltg_run_iter_next_key(LtgRunIter *it)
{
	LTG_ASSERT(it->n > 0);
	if (it->end < it->n)
	{
		ltg_block_prefetch_payload(it->path[0].data, it->end + PREFETCH_ROWS);
		return stand_first(it, it->end);
	}
	return ltg_run_iter_next_block(it);
}

LtgStatus
ltg_run_iter_prev_key(LtgRunIter *it)
{
	LTG_ASSERT(it->n > 0);
	if (it->first > 0)
		return stop_at_cut(it, stand_last(it, it->first - 1));
	return ltg_run_iter_prev_block(it);
}

/* ---- the current position ---- */

void
ltg_run_iter_key(LtgRunIter *it, const uint8_t **key, uint32_t *key_len)
{
	LTG_ASSERT(it->n > 0);
	if (!it->have_key)
	{
		it->key_len = ltg_block_key(it->path[0].data, it->first, it->key);
		it->have_key = true;
	}
	*key = it->key;
	*key_len = it->key_len;
}

void
ltg_run_iter_version(LtgRunIter *it, LtgVersion *v)
{
	LTG_ASSERT(it->n > 0);
	ltg_block_version(it->path[0].data, it->entry, v);
}

/* The block behind `last`, the last one of the current key so far. */
static LtgStatus
load_rest(LtgRunIter *it, const PathStep *last)
{
	LtgBlockPtr at = ltg_run_block(&it->ref, last->offset, last->disk_len);
	LtgPort    *port = it->s->port;
	const uint8_t *key;
	uint32_t	key_len;
	PathStep   *p;

	LTG_TRY(ltg_block_behind(it->s, &at));
	if (it->rest_n == it->rest_cap)
	{
		uint32_t	cap = it->rest_cap == 0 ? 8 : it->rest_cap * 2;

		p = it->rest == NULL ? port->alloc(port, cap * sizeof(*p)) :
			port->realloc(port, it->rest, cap * sizeof(*p));
		if (p == NULL)
			return ltg_fail(it->s, LTG_NOMEM, "out of memory for the versions of a key");
		memset(&p[it->rest_cap], 0, (cap - it->rest_cap) * sizeof(*p));
		it->rest = p;
		it->rest_cap = cap;
	}
	p = &it->rest[it->rest_n];
	LTG_TRY(ltg_block_read(it->s, &at, LTG_BLOCK_DATA, it->use, &p->owned, &p->data, &p->len));
	p->offset = at.offset;
	p->disk_len = at.disk_len;
	p->at = 0;
	it->rest_n++;
	ltg_run_iter_key(it, &key, &key_len);
	return ltg_block_check_rest(it->s, &at, p->data, key, key_len);
}

LtgStatus
ltg_run_iter_older(LtgRunIter *it, LtgVersion *v)
{
	PathStep   *p = it->rest_n == 0 ? &it->path[0] : &it->rest[it->rest_n - 1];

	LTG_ASSERT(it->n > 0);
	if (it->rest_n == 0 && it->entry + 1 < it->end)
	{
		ltg_block_version(p->data, ++it->entry, v);
		return LTG_OK;
	}
	if (it->rest_n == 0 || p->at + 1 >= ltg_block_n(p->data))
	{
		LtgStatus	st;

		if (LTG_LIKELY((p->data[LTG_BH_FLAGS] & LTG_BF_MORE) == 0))
			return LTG_END;
		st = load_rest(it, p);
		if (st != LTG_OK)
		{
			it->n = 0;
			return st;
		}
		p = &it->rest[it->rest_n - 1];
	}
	else
		p->at++;
	ltg_block_version(p->data, p->at, v);
	return LTG_OK;
}

/* Some of the current block's keys lie below the cut. */
static bool
is_cut_through(const LtgRunIter *it)
{
	uint8_t		key[LTG_KEY_MAX];

	return LTG_UNLIKELY(it->ref.cut) &&
		below_cut(it, key, ltg_block_key(it->path[0].data, 0, key));
}

void
ltg_run_iter_block(LtgRunIter *it, LtgBlockView *view)
{
	const uint8_t *b = it->path[0].data;
	uint8_t		flags = b[LTG_BH_FLAGS];
	uint8_t		ksf = b[LTG_BH_KSF];

	LTG_ASSERT(it->n > 0);
	memset(view, 0, sizeof(*view));
	view->data = b;
	view->len = it->path[0].len;
	view->file = it->ref.file;
	view->offset = it->path[0].offset;
	view->n = it->n;
	view->at = it->entry;
	view->more = (flags & LTG_BF_MORE) != 0;
	view->plain = (flags & LTG_BF_PLAIN) != 0 && !is_cut_through(it);
	view->all_settled = view->plain && (flags & LTG_BF_SETTLED) != 0;
	if (view->plain)
	{
		view->state = (LtgState) LTG_KSF_STATE(ksf);
		if (!view->all_settled)
		{
			view->xid = ltg_load64(b + LTG_BH_XID_BASE);
			view->cid = ltg_load32(b + LTG_BH_CID_BASE);
		}
	}
}

LtgStatus
ltg_run_iter_block_limit(LtgRunIter *it, uint8_t *key_buf, uint32_t *key_len)
{
	LTG_ASSERT(it->n > 0);
	for (uint32_t lv = 1; lv <= it->ref.height; lv++)
	{
		const PathStep *p = &it->path[lv];

		/* separator i stands between children i and i + 1 (R4) */
		if (p->at < ltg_block_n(p->data))
		{
			*key_len = ltg_block_key(p->data, p->at, key_buf);
			return LTG_OK;
		}
	}
	return LTG_END;
}
