/*
 * scan.c
 *	  Range scans, in batches that are copied out of the engine.
 *
 * Nothing is held between two calls: no epoch, no iterator.  A scan remembers
 * a key, and each call takes a fresh view of the store and seeks beyond it.
 * What a snapshot sees does not depend on which view is used, so a scan meets
 * every row once, whatever flush and compaction do between its calls.
 *
 * A batch is a list of parts.  A part is a stretch of a plain block, which was
 * copied once as a whole and whose rows are decoded when they are asked for,
 * or rows that were merged and copied one by one.
 *
 * The block path is taken where the next keys come from one run only, its
 * block is plain, and its one writer is settled or judged, once, for the whole
 * block.  Keys of other sources, the range's end and max_rows cut the stretch.
 */
#include "ltg.h"

#include "tree/merge_iter.h"
#include "tree/visible.h"

#define BATCH_BYTES (128 * 1024)
#define BLOCK_PATH_MIN 8		/* shorter stretches go row by row */
#define KEYS_PER_EPOCH 16384	/* passed without giving a row */
#define KEY_RING (2 * LTG_KEY_MAX)

typedef struct ScanRow
{
	const uint8_t *key;
	uint32_t	key_len;
	LtgVersion	v;
} ScanRow;

typedef struct ScanPart
{
	uint32_t	first;			/* number of its first row in the batch */
	uint32_t	n;
	const uint8_t *block;		/* NULL: rows[row0 ..] */
	uint32_t	block_len;
	uint32_t	at;				/* entry of the first row */
	int32_t		step;			/* 1 or -1 */
	uint32_t	row0;
} ScanPart;

/* Copied bytes: the main chunk is kept, larger things get one of their own. */
typedef struct ScanChunk
{
	struct ScanChunk *next;
	uint64_t	size;
	uint64_t	used;
	uint64_t	pad;
	uint8_t		data[];
} ScanChunk;

struct LtgScan
{
	LtgSession *s;
	LtgStore   *store;
	uint64_t	store_id;
	LtgSnapshot *snap;
	LtgCacheUse use;
	bool		backward;
	bool		has_lo, has_hi;
	uint32_t	max_rows;

	uint8_t    *bounds;			/* lo, then hi */
	uint32_t	lo_len, hi_len, bounds_cap;

	/* position: the next call begins at, or strictly beyond, this key */
	uint8_t    *pos;
	uint32_t	pos_len, pos_cap;
	bool		has_pos, after;
	bool		done;

	LtgMerge	merge;
	uint32_t	block_wait;		/* rows to go before the block path is tried */
	LtgFileId	copied_file;	/* block that was copied last in this call */
	uint64_t	copied_offset;
	const uint8_t *copied_to;

	/* the batch */
	uint32_t	n;
	uint64_t	bytes;
	uint64_t	target;			/* bytes at which a batch is full */
	ScanChunk  *chunk;			/* main one */
	ScanChunk  *extra;
	ScanRow    *rows;
	uint32_t	n_rows, cap_rows;
	ScanPart   *parts;
	uint32_t	n_parts, cap_parts;
	uint32_t	part;			/* where the last row was found */
	uint32_t	ring_used;
	uint8_t		ring[KEY_RING]; /* keys decoded from blocks */
};

/* ---- memory ---- */

/* Make an array hold at least `need` elements. */
static LtgStatus
grow(LtgSession *s, void **array, uint32_t *cap, uint32_t need, size_t size)
{
	LtgPort    *port = s->port;
	uint32_t	n = *cap == 0 ? 32 : *cap;
	void	   *p;

	if (LTG_LIKELY(need <= *cap))
		return LTG_OK;
	while (n < need)
		n *= 2;
	p = *array == NULL ? port->alloc(port, n * size) : port->realloc(port, *array, n * size);
	if (p == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory in a scan (%zu bytes)", n * size);
	*array = p;
	*cap = n;
	return LTG_OK;
}

static void
free_chunks(LtgScan *scan, ScanChunk **list)
{
	while (*list != NULL)
	{
		ScanChunk  *c = *list;

		*list = c->next;
		scan->s->port->free(scan->s->port, c);
	}
}

static LtgStatus
new_chunk(LtgScan *scan, uint64_t size, ScanChunk **chunk)
{
	ScanChunk  *c = scan->s->port->alloc(scan->s->port, sizeof(ScanChunk) + size);

	if (c == NULL)
		return ltg_fail(scan->s, LTG_NOMEM, "out of memory for a scan batch of %llu bytes",
						(unsigned long long) size);
	c->next = NULL;
	c->size = size;
	c->used = 0;
	*chunk = c;
	return LTG_OK;
}

static bool
fits(const LtgScan *scan, uint64_t len)
{
	return scan->chunk->used + len <= scan->chunk->size;
}

/* Bytes that stay where they are until the next batch; 8-byte aligned. */
static LtgStatus
carve(LtgScan *scan, uint64_t len, uint8_t **p)
{
	ScanChunk  *c = scan->chunk;

	len = LTG_ALIGN8(len);
	if (LTG_UNLIKELY(c->used + len > c->size))
	{
		c = scan->extra;
		if (c == NULL || c->used + len > c->size)
		{
			LTG_TRY(new_chunk(scan, len > BATCH_BYTES ? len : BATCH_BYTES, &c));
			c->next = scan->extra;
			scan->extra = c;
		}
	}
	*p = c->data + c->used;
	c->used += len;
	return LTG_OK;
}

/* ---- batches ---- */

/*
 * The first batch is a block or so, because many scans want no more; from the
 * second on they are larger.
 */
static LtgStatus
begin_batch(LtgScan *scan)
{
	uint64_t	block = scan->s->shared->config.block_size;
	uint64_t	first = block + block / 2 + 1024;
	uint64_t	size = first;

	if (scan->has_pos && size < BATCH_BYTES)
		size = BATCH_BYTES;
	free_chunks(scan, &scan->extra);
	if (scan->chunk != NULL && scan->chunk->size < size)
		free_chunks(scan, &scan->chunk);
	if (scan->chunk == NULL)
		LTG_TRY(new_chunk(scan, size, &scan->chunk));
	scan->chunk->used = 0;
	scan->target = scan->chunk->size - block / 2;
	scan->n = scan->n_rows = scan->n_parts = 0;
	scan->bytes = 0;
	scan->part = 0;
	scan->ring_used = 0;
	return LTG_OK;
}

static bool
batch_full(const LtgScan *scan)
{
	return scan->n >= scan->max_rows ||
		scan->chunk->used + scan->n_rows * sizeof(ScanRow) >= scan->target ||
		scan->extra != NULL;
}

static LtgStatus
new_part(LtgScan *scan, ScanPart **part)
{
	void	   *array = scan->parts;

	LTG_TRY(grow(scan->s, &array, &scan->cap_parts, scan->n_parts + 1, sizeof(ScanPart)));
	scan->parts = array;
	*part = &scan->parts[scan->n_parts++];
	memset(*part, 0, sizeof(**part));
	(*part)->first = scan->n;
	return LTG_OK;
}

static LtgStatus
add_row(LtgScan *scan, const uint8_t *key, uint32_t key_len, const LtgVersion *v)
{
	uint64_t	key_at = LTG_ALIGN8(v->payload_len);
	ScanPart   *part = scan->n_parts == 0 ? NULL : &scan->parts[scan->n_parts - 1];
	ScanRow    *row;
	uint8_t    *p;

	if (LTG_UNLIKELY(scan->n_rows == scan->cap_rows))
	{
		void	   *array = scan->rows;

		LTG_TRY(grow(scan->s, &array, &scan->cap_rows, scan->n_rows + 1, sizeof(ScanRow)));
		scan->rows = array;
	}
	LTG_TRY(carve(scan, key_at + key_len, &p));
	if (part == NULL || part->block != NULL)
	{
		LTG_TRY(new_part(scan, &part));
		part->row0 = scan->n_rows;
	}
	row = &scan->rows[scan->n_rows++];
	row->v = *v;
	row->v.payload = p;
	if (v->payload_len > 0)
		memcpy(p, v->payload, v->payload_len);
	row->key = p + key_at;
	row->key_len = key_len;
	memcpy(p + key_at, key, key_len);
	part->n++;
	scan->n++;
	scan->bytes += v->payload_len;
	return LTG_OK;
}

static LtgStatus
set_position(LtgScan *scan, const uint8_t *key, uint32_t key_len, bool after)
{
	void	   *array = scan->pos;

	LTG_TRY(grow(scan->s, &array, &scan->pos_cap, key_len, 1));
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
		LTG_TRY(add_row(scan, key, key_len, &v));
	return st == LTG_END ? LTG_OK : st;
}

/* The current key: add what the snapshot sees of it. */
static LtgStatus
take_key(LtgScan *scan, const uint8_t *key, uint32_t key_len)
{
	LtgVersion	v;
	LtgStatus	st;

	if (scan->snap == NULL)
		return take_raw(scan, key, key_len);
	while ((st = ltg_merge_version(&scan->merge, &v)) == LTG_OK)
	{
		LtgState	fate;
		bool		seen = ltg_version_seen(scan->snap, &v, &fate);

		if (LTG_UNLIKELY(scan->snap->failed))
			return LTG_HOST_ERROR;
		if (fate != v.state)
			ltg_merge_mark(&scan->merge, fate);
		if (seen)
			return v.kind == LTG_PUT ? add_row(scan, key, key_len, &v) : LTG_OK;
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

static bool
is_copied(const LtgScan *scan, const LtgBlockView *b)
{
	return scan->copied_file == b->file && scan->copied_offset == b->offset;
}

static LtgStatus
add_block_part(LtgScan *scan, const LtgBlockView *b, uint32_t n)
{
	ScanPart   *part;

	if (!is_copied(scan, b))
	{
		uint8_t    *p;

		LTG_TRY(carve(scan, b->len, &p));
		memcpy(p, b->data, b->len);
		scan->copied_file = b->file;
		scan->copied_offset = b->offset;
		scan->copied_to = p;
	}
	LTG_TRY(new_part(scan, &part));
	part->block = scan->copied_to;
	part->block_len = b->len;
	part->at = b->at;
	part->n = n;
	part->step = scan->backward ? -1 : 1;
	scan->n += n;
	scan->bytes += (uint64_t) b->len * n / b->n;
	return LTG_OK;
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
	bool		seen;

	if (it == NULL)
		return LTG_NOT_FOUND;
	ltg_run_iter_block(it, &b);
	if (!b.plain)
		return LTG_NOT_FOUND;
	n = stretch(scan, &b, bound, bound_len);
	left = scan->max_rows - scan->n;
	if ((n < left ? n : left) < BLOCK_PATH_MIN)
		return LTG_NOT_FOUND;
	LTG_TRY(judge_block(scan, &b, &seen));
	if (seen)
	{
		if (scan->n > 0 && !is_copied(scan, &b) && !fits(scan, b.len))
		{
			const uint8_t *key;
			uint32_t	key_len;

			ltg_merge_key(&scan->merge, &key, &key_len);
			LTG_TRY(set_position(scan, key, key_len, false));
			return LTG_BUSY;
		}
		if (n > left)
			n = left;
		LTG_TRY(add_block_part(scan, &b, n));
	}
	/* is anything left to do before the next key is needed? */
	if (batch_full(scan) || (seen && !fits(scan, b.len)))
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
	ltg_merge_init(m, scan->s, scan->use, scan->backward);
	LTG_TRY(ltg_merge_add_view(m, scan->store_id, &view, lo, lo_len, hi, hi_len));
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
		LTG_TRY(take_key(scan, key, key_len));
		if (batch_full(scan) || (++passed >= KEYS_PER_EPOCH && scan->n == 0))
			return set_position(scan, key, key_len, true);
		st = ltg_merge_next(m);
	}
	return st;
}

LtgStatus
ltg_scan_next(LtgScan *scan, LtgBatch *batch)
{
	LtgSession *s = scan->s;
	LtgStatus	st = LTG_OK;

	batch->n = 0;
	batch->bytes = 0;
	if (scan->done)
		return LTG_END;
	LTG_TRY(begin_batch(scan));
	while (st == LTG_OK && scan->n == 0)
	{
		scan->block_wait = 0;
		scan->copied_file = 0;
		ltg_epoch_enter(s);
		st = fill(scan);
		ltg_merge_clear(&scan->merge);
		ltg_epoch_leave(s);
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
	return LTG_OK;
}

static const ScanPart *
find_part(LtgScan *scan, uint32_t i)
{
	uint32_t	lo = 0;
	uint32_t	hi = scan->n_parts;

	if (scan->part + 1 < scan->n_parts && i == scan->parts[scan->part + 1].first)
		return &scan->parts[++scan->part];
	while (hi - lo > 1)
	{
		uint32_t	mid = lo + (hi - lo) / 2;

		if (scan->parts[mid].first <= i)
			lo = mid;
		else
			hi = mid;
	}
	scan->part = lo;
	return &scan->parts[lo];
}

void
ltg_batch_row(LtgScan *scan, uint32_t i, const uint8_t **key, uint32_t *key_len, LtgVersion *v)
{
	const ScanPart *part = &scan->parts[scan->part];

	LTG_ASSERT(i < scan->n);
	if (LTG_UNLIKELY(i - part->first >= part->n))
		part = find_part(scan, i);
	i -= part->first;
	if (part->block != NULL)
	{
		uint8_t    *buf;

		if (scan->ring_used > KEY_RING - LTG_KEY_MAX)
			scan->ring_used = 0;
		buf = scan->ring + scan->ring_used;
		ltg_block_entry(part->block, part->block_len,
						part->step > 0 ? part->at + i : part->at - i, buf, key_len, v);
		scan->ring_used += *key_len;
		*key = buf;
	}
	else
	{
		const ScanRow *row = &scan->rows[part->row0 + i];

		*key = row->key;
		*key_len = row->key_len;
		*v = row->v;
	}
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
	LTG_TRY(grow(scan->s, &array, &scan->bounds_cap, lo_len + hi_len + 1, 1));
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
	scan->use = opt->cache_bypass ? LTG_CACHE_PEEK : LTG_CACHE_NORMAL;
	scan->max_rows = opt->max_rows == 0 ? UINT32_MAX : opt->max_rows;
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
	free_chunks(scan, &scan->chunk);
	free_chunks(scan, &scan->extra);
	if (scan->rows != NULL)
		port->free(port, scan->rows);
	if (scan->parts != NULL)
		port->free(port, scan->parts);
	if (scan->bounds != NULL)
		port->free(port, scan->bounds);
	if (scan->pos != NULL)
		port->free(port, scan->pos);
	port->free(port, scan);
}
