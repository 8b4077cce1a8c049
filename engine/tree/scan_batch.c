/*
 * scan_batch.c
 *	  Batches of scanned rows: filling them with copies, reading them.
 */
#include "tree/scan_batch.h"

#include "storage/block.h"
#include "tree/visible.h"

/* ---- memory ---- */

/* Make an array hold at least `need` elements. */
LtgStatus
ltg_scan_grow(LtgSession *s, void **array, uint32_t *cap, uint32_t need, size_t size)
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
free_chunks(LtgScan *scan, LtgScanChunk **list)
{
	while (*list != NULL)
	{
		LtgScanChunk  *c = *list;

		*list = c->next;
		scan->s->port->free(scan->s->port, c);
	}
}

static LtgStatus
new_chunk(LtgScan *scan, uint64_t size, LtgScanChunk **chunk)
{
	LtgScanChunk  *c = scan->s->port->alloc(scan->s->port, sizeof(LtgScanChunk) + size);

	if (c == NULL)
		return ltg_fail(scan->s, LTG_NOMEM, "out of memory for a scan batch of %llu bytes",
						(unsigned long long) size);
	c->next = NULL;
	c->size = size;
	c->used = 0;
	*chunk = c;
	return LTG_OK;
}

/* Bytes that stay where they are until the next batch; 8-byte aligned. */
static LtgStatus
carve(LtgScan *scan, uint64_t len, uint8_t **p)
{
	LtgScanChunk  *c = scan->chunk;

	len = LTG_ALIGN8(len);
	if (LTG_UNLIKELY(c->used + len > c->size))
	{
		c = scan->extra;
		if (c == NULL || c->used + len > c->size)
		{
			LTG_TRY(new_chunk(scan, len > LTG_BATCH_BYTES ? len : LTG_BATCH_BYTES, &c));
			c->next = scan->extra;
			scan->extra = c;
		}
	}
	*p = c->data + c->used;
	c->used += len;
	return LTG_OK;
}

void
ltg_scan_free_batch(LtgScan *scan)
{
	LtgPort    *port = scan->s->port;

	free_chunks(scan, &scan->chunk);
	free_chunks(scan, &scan->extra);
	if (scan->rows != NULL)
		port->free(port, scan->rows);
	if (scan->parts != NULL)
		port->free(port, scan->parts);
	scan->rows = NULL;
	scan->parts = NULL;
}

/* ---- filling ---- */

/*
 * The first batch is a block or so, because many scans want no more; from the
 * second on they are larger.
 */
LtgStatus
ltg_batch_begin(LtgScan *scan)
{
	uint64_t	block = scan->s->shared->config.block_size;
	uint64_t	first = block + block / 2 + 1024;
	uint64_t	size = first;

	if (scan->has_pos && size < LTG_BATCH_BYTES)
		size = LTG_BATCH_BYTES;
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
	scan->no_payloads = scan->keys_only;
	return LTG_OK;
}

bool
ltg_batch_full(const LtgScan *scan)
{
	return scan->n >= scan->max_rows || scan->n_rows >= scan->max_merged ||
		scan->chunk->used + scan->n_rows * sizeof(LtgScanRow) >= scan->target ||
		scan->extra != NULL ||
		(scan->no_payloads && scan->n_parts >= LTG_BATCH_KEYS_ONLY_PARTS);
}

static LtgStatus
new_part(LtgScan *scan, LtgScanPart **part)
{
	void	   *array = scan->parts;

	LTG_TRY(ltg_scan_grow(scan->s, &array, &scan->cap_parts, scan->n_parts + 1, sizeof(LtgScanPart)));
	scan->parts = array;
	*part = &scan->parts[scan->n_parts++];
	memset(*part, 0, sizeof(**part));
	(*part)->first = scan->n;
	return LTG_OK;
}

LtgStatus
ltg_batch_add_row(LtgScan *scan, const uint8_t *key, uint32_t key_len, const LtgVersion *v)
{
	uint32_t	payload_len = scan->no_payloads ? 0 : v->payload_len;
	uint64_t	key_at = LTG_ALIGN8(payload_len);
	LtgScanPart   *part = scan->n_parts == 0 ? NULL : &scan->parts[scan->n_parts - 1];
	LtgScanRow    *row;
	uint8_t    *p;

	if (LTG_UNLIKELY(scan->n_rows == scan->cap_rows))
	{
		void	   *array = scan->rows;

		LTG_TRY(ltg_scan_grow(scan->s, &array, &scan->cap_rows, scan->n_rows + 1, sizeof(LtgScanRow)));
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
	row->v.payload = scan->no_payloads ? NULL : p;
	row->v.payload_len = payload_len;
	if (payload_len > 0)
		memcpy(p, v->payload, payload_len);
	row->key = p + key_at;
	row->key_len = key_len;
	memcpy(p + key_at, key, key_len);
	part->n++;
	scan->n++;
	scan->bytes += payload_len;
	return LTG_OK;
}

/* Bytes of the block that go into the batch. */
static uint32_t
copy_len(const LtgScan *scan, const LtgBlockView *b)
{
	return scan->no_payloads ? ltg_block_keys_len(b->data, b->len) : b->len;
}

bool
ltg_batch_has(const LtgScan *scan, const LtgBlockView *b)
{
	return scan->copied_file == b->file && scan->copied_offset == b->offset;
}

bool
ltg_batch_fits(const LtgScan *scan, const LtgBlockView *b)
{
	return scan->chunk->used + copy_len(scan, b) <= scan->chunk->size;
}

/* A part of n rows; the block is copied if it has not been. */
static LtgStatus
new_block_part(LtgScan *scan, const LtgBlockView *b, uint32_t n, LtgScanPart **part)
{
	uint32_t	len = copy_len(scan, b);

	if (!ltg_batch_has(scan, b))
	{
		uint8_t    *p;

		LTG_TRY(carve(scan, len, &p));
		memcpy(p, b->data, len);
		scan->copied_file = b->file;
		scan->copied_offset = b->offset;
		scan->copied_to = p;
	}
	LTG_TRY(new_part(scan, part));
	(*part)->block = scan->copied_to;
	(*part)->block_len = len;
	(*part)->at = b->at;
	(*part)->n = n;
	scan->n += n;
	if (!scan->no_payloads)
		scan->bytes += (uint64_t) b->len * n / b->n;
	return LTG_OK;
}

LtgStatus
ltg_batch_add_block(LtgScan *scan, const LtgBlockView *b, uint32_t n)
{
	LtgScanPart *part;

	LTG_TRY(new_block_part(scan, b, n, &part));
	part->step = scan->backward ? -1 : 1;
	return LTG_OK;
}

/* A writer of many versions in a row is asked about once. */
typedef struct Judge
{
	LtgSnapshot *snap;
	LtgXid		xid;			/* 0: none so far */
	uint32_t	cid;
	bool		seen;
} Judge;

static inline bool
is_seen(Judge *j, const LtgVersion *v)
{
	LtgState	fate;

	if (v->state != LTG_COMMITTED || v->kind != LTG_PUT)
		return ltg_version_seen(j->snap, v, &fate);
	if (v->xid != j->xid || v->cid != j->cid)
	{
		j->seen = ltg_version_seen(j->snap, v, &fate);
		j->xid = v->xid;
		j->cid = v->cid;
	}
	return j->seen;
}

LtgStatus
ltg_batch_select(LtgScan *scan, const LtgBlockView *b, uint32_t n, uint32_t most,
				 uint32_t *passed)
{
	Judge		judge = {.snap = scan->snap};
	uint32_t	end = b->at + n;
	uint32_t	i = b->at;
	uint32_t	found = 0;
	LtgScanPart *part;
	uint32_t   *entry;
	uint8_t    *p;

	LTG_ASSERT(!scan->backward && scan->snap != NULL);
	LTG_TRY(carve(scan, n * sizeof(*entry), &p));
	entry = (uint32_t *) (void *) p;
	for (uint32_t next; i < end && found < most; i = next)
	{
		next = ltg_block_group_end(b->data, i);
		for (uint32_t k = i; k < next; k++)
		{
			LtgVersion	v;

			ltg_block_version(b->data, k, &v);
			if (!is_seen(&judge, &v))
				continue;
			if (v.kind == LTG_PUT)
				entry[found++] = k;
			break;
		}
		if (LTG_UNLIKELY(scan->snap->failed))
			return LTG_HOST_ERROR;
	}
	*passed = i - b->at;
	if (found == 0)
		return LTG_OK;
	LTG_TRY(new_block_part(scan, b, found, &part));
	part->entry = entry;
	return LTG_OK;
}

/* ---- reading ---- */

static const LtgScanPart *
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
	const LtgScanPart *part = &scan->parts[scan->part];

	LTG_ASSERT(i < scan->n);
	if (LTG_UNLIKELY(i - part->first >= part->n))
		part = find_part(scan, i);
	i -= part->first;
	if (part->block != NULL)
	{
		uint8_t    *buf;

		if (scan->ring_used > LTG_KEY_RING - LTG_KEY_MAX)
			scan->ring_used = 0;
		buf = scan->ring + scan->ring_used;
		if (part->entry != NULL)
			i = part->entry[i];
		else
			i = part->step > 0 ? part->at + i : part->at - i;
		if (LTG_UNLIKELY(scan->no_payloads))
			ltg_block_entry_key(part->block, i, buf, key_len, v);
		else
			ltg_block_entry(part->block, part->block_len, i, buf, key_len, v);
		scan->ring_used += *key_len;
		*key = buf;
	}
	else
	{
		const LtgScanRow *row = &scan->rows[part->row0 + i];

		*key = row->key;
		*key_len = row->key_len;
		*v = row->v;
	}
}

void
ltg_batch_span(LtgScan *scan, uint32_t i, LtgSpan *span)
{
	const LtgScanPart *part = &scan->parts[scan->part];

	LTG_ASSERT(i < scan->n);
	if (i - part->first >= part->n)
		part = find_part(scan, i);
	i -= part->first;
	span->n = 0;
	span->rows = part->n - i;
	if (part->block == NULL || part->entry != NULL ||
		!ltg_block_span(part->block, !scan->no_payloads, span))
		return;
	span->n = part->n - i;
	span->step = part->step;
	span->at = part->step > 0 ? part->at + i : part->at - i;
}
