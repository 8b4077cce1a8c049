/*
 * block_build.c
 *	  Building data and inner blocks (layout: format.h).
 *
 * The shape of a block (which columns it has, how wide they are) follows from
 * sums, minima and maxima over its entries.  The shape is kept up to date as
 * entries are added, so the exact size of the block is known in O(1) after
 * each, and a block is cut before the entry that would exceed the target.
 */
#include "storage/block.h"

/* Sizes and offsets of the sections of a data or inner block. */
typedef struct Layout
{
	uint32_t	head_width;
	uint32_t	tail_width, tail_len;	/* index width, or common length */
	uint32_t	pay_width, pay_len;
	uint32_t	seq_width, cid_width, aux_width, meta_width;
	LtgWriterForm writer;
	uint64_t	meta, writers, tags, heads, pay_index, tail_index, tails, payloads, len;
} Layout;

static uint32_t
common_prefix(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len)
{
	uint32_t	n = a_len < b_len ? a_len : b_len;
	uint32_t	i = 0;

	while (i + 8 <= n && ltg_load64(a + i) == ltg_load64(b + i))
		i += 8;
	while (i < n && a[i] == b[i])
		i++;
	return i;
}

/* The last up to 8 bytes as an integer. */
static uint64_t
key_int(const uint8_t *key, uint32_t len)
{
	uint64_t	v = 0;
	uint32_t	i;

	if (len >= 8)
		return ltg_load_be64(key + len - 8);
	for (i = 0; i < len; i++)
		v = v << 8 | key[i];
	return v;
}

static bool
keeps_seq(uint8_t ksf)
{
	return LTG_KSF_STATE(ksf) != LTG_SETTLED || LTG_KSF_KIND(ksf) != LTG_PUT;
}

static bool
keeps_cid(uint8_t ksf)
{
	return LTG_KSF_STATE(ksf) != LTG_SETTLED;
}

/* Whatever stands in the column for a settled tombstone, it reads as 0. */
static bool
keeps_xid(uint8_t ksf)
{
	return LTG_KSF_STATE(ksf) != LTG_SETTLED || LTG_KSF_KIND(ksf) == LTG_PUT;
}

/* ---- shape ---- */

static void
shape_start(LtgBlockShape *h, const uint8_t *key, const LtgBlockItem *it)
{
	memset(h, 0, sizeof(*h));
	h->prefix = h->min_len = h->max_len = it->key_len;
	h->min_pay = h->max_pay = it->pay_len;
	h->first_int = key_int(key, it->key_len);
	h->ksf = it->ksf;
	h->dense = true;
	h->all_put = h->all_settled = true;
}

/* first: bytes of the block's first key. */
static void
shape_add(LtgBlockShape *h, const uint8_t *first, const uint8_t *key, const LtgBlockItem *it)
{
	if (h->n == 0)
		shape_start(h, key, it);
	else if (it->new_key)
		h->prefix = common_prefix(first, h->prefix, key, it->key_len);
	if (h->min_len > it->key_len)
		h->min_len = it->key_len;
	if (h->max_len < it->key_len)
		h->max_len = it->key_len;
	if (h->min_pay > it->pay_len)
		h->min_pay = it->pay_len;
	if (h->max_pay < it->pay_len)
		h->max_pay = it->pay_len;
	h->key_bytes += it->key_len;
	h->pay_bytes += LTG_ALIGN8(it->pay_len);
	if (keeps_seq(it->ksf))
	{
		if (!h->any_seq || it->seq < h->min_seq)
			h->min_seq = it->seq;
		if (!h->any_seq || it->seq > h->max_seq)
			h->max_seq = it->seq;
		h->any_seq = true;
	}
	if (keeps_cid(it->ksf))
	{
		if (!h->any_cid || it->cid < h->min_cid)
			h->min_cid = it->cid;
		if (!h->any_cid || it->cid > h->max_cid)
			h->max_cid = it->cid;
		h->any_cid = true;
	}
	if (keeps_xid(it->ksf))
		ltg_writers_sum(&h->writers, it->xid);
	if (h->max_aux < it->aux)
		h->max_aux = it->aux;
	h->ksf_differ |= it->ksf != h->ksf;
	h->any_tag |= it->tag != 0;
	h->any_flags |= LTG_KSF_FLAGS(it->ksf) != 0;
	h->all_put &= LTG_KSF_KIND(it->ksf) == LTG_PUT;
	h->all_settled &= LTG_KSF_STATE(it->ksf) == LTG_SETTLED;
	if (h->dense && h->n > 0)
		h->dense = it->new_key && h->min_len == h->max_len &&
			h->prefix + 8 >= h->min_len &&
			key_int(key, it->key_len) - h->first_int == h->n;
	h->keys += it->new_key ? 1 : 0;
	h->n++;
}

static bool
shape_plain(const LtgBlockShape *h)
{
	return h->keys == h->n && h->all_put && !h->ksf_differ && !h->any_flags &&
		(h->all_settled ||
		 (h->writers.min == h->writers.max && h->min_cid == h->max_cid));
}

static void
shape_layout(const LtgBlockShape *h, Layout *l)
{
	uint64_t	suffixes = h->key_bytes - (uint64_t) h->n * h->prefix;
	uint32_t	shortest = h->min_len - h->prefix;
	uint64_t	tail_bytes;

	l->head_width = shortest < 8 ? shortest : 8;
	tail_bytes = suffixes - (uint64_t) h->n * l->head_width;
	l->tail_width = h->min_len == h->max_len ? 0 : tail_bytes <= UINT16_MAX ? 2 : 4;
	l->tail_len = l->tail_width == 0 ? shortest - l->head_width : 0;
	l->pay_width = h->min_pay == h->max_pay ? 0 : h->pay_bytes <= UINT16_MAX ? 2 : 4;
	l->pay_len = l->pay_width == 0 ? h->min_pay : 0;
	l->seq_width = ltg_width(h->max_seq - h->min_seq);
	l->cid_width = ltg_width(h->max_cid - h->min_cid);
	l->aux_width = ltg_width(h->max_aux);
	l->meta_width = l->seq_width + l->cid_width + l->aux_width + (h->ksf_differ ? 1 : 0);
	l->writer = ltg_writers_form(&h->writers, h->n);

	l->meta = LTG_BH_BYTES + h->prefix;
	l->writers = l->meta + (uint64_t) h->n * l->meta_width;
	l->tags = l->writers + l->writer.bytes;
	l->heads = l->tags + (h->any_tag ? h->n : 0);
	l->pay_index = l->heads + (h->dense ? 0 : (uint64_t) h->n * l->head_width);
	l->tail_index = l->pay_index + (uint64_t) h->n * l->pay_width;
	l->tails = l->tail_index + (l->tail_width == 0 ? 0 : (h->n + 1) * (uint64_t) l->tail_width);
	l->payloads = LTG_ALIGN8(l->tails + tail_bytes);
	l->len = l->payloads + h->pay_bytes;
	if (l->len < l->tags + 8)
		l->len = LTG_ALIGN8(l->tags + 8);
}

/* ---- the builder ---- */

void
ltg_builder_init(LtgBlockBuilder *b, LtgSession *s)
{
	memset(b, 0, sizeof(*b));
	b->s = s;
}

void
ltg_builder_free(LtgBlockBuilder *b)
{
	LtgPort    *port = b->s->port;

	if (b->items != NULL)
		port->free(port, b->items);
	if (b->keys != NULL)
		port->free(port, b->keys);
	if (b->pays != NULL)
		port->free(port, b->pays);
	memset(b, 0, sizeof(*b));
}

static void
make_item(const LtgBlockBuilder *b, LtgBlockItem *it, uint32_t key_len,
		  const LtgVersion *v, bool new_key)
{
	it->key_off = b->keys_used;
	it->pay_off = b->pays_used;
	it->key_len = key_len;
	it->pay_len = v->payload_len;
	it->ksf = LTG_KSF(v->kind, v->state, v->flags);
	it->seq = keeps_seq(it->ksf) ? v->seq : 0;
	it->xid = keeps_xid(it->ksf) ? v->xid : 0;
	it->cid = keeps_cid(it->ksf) ? v->cid : 0;
	it->aux = v->kind == LTG_PUT ? 0 : v->aux;
	it->tag = v->tag;
	it->new_key = new_key;
}

uint64_t
ltg_builder_size_with(const LtgBlockBuilder *b, const uint8_t *key, uint32_t key_len,
					  const LtgVersion *v, bool new_key)
{
	LtgBlockShape h = b->shape;
	LtgBlockItem it;
	Layout		l;

	make_item(b, &it, key_len, v, new_key);
	shape_add(&h, b->keys, key, &it);
	shape_layout(&h, &l);
	return l.len;
}

static LtgStatus
grow(LtgBlockBuilder *b, void **mem, size_t *cap, size_t need)
{
	LtgPort    *port = b->s->port;
	size_t		want = *cap == 0 ? 4096 : *cap;
	void	   *p;

	if (*mem != NULL && need <= *cap)
		return LTG_OK;
	while (want < need)
		want *= 2;
	p = *mem == NULL ? port->alloc(port, want) : port->realloc(port, *mem, want);
	if (p == NULL)
		return ltg_fail(b->s, LTG_NOMEM, "out of memory for a block of %zu bytes", want);
	*mem = p;
	*cap = want;
	return LTG_OK;
}

LtgStatus
ltg_builder_add(LtgBlockBuilder *b, const uint8_t *key, uint32_t key_len,
				const LtgVersion *v, bool new_key)
{
	LtgBlockItem *it;
	size_t		items_bytes = b->items_cap * sizeof(LtgBlockItem);

	LTG_ASSERT(b->n > 0 || new_key);
	LTG_TRY(grow(b, (void **) &b->items, &items_bytes, (b->n + 1) * sizeof(LtgBlockItem)));
	b->items_cap = (uint32_t) (items_bytes / sizeof(LtgBlockItem));
	LTG_TRY(grow(b, (void **) &b->keys, &b->keys_cap, b->keys_used + key_len));
	LTG_TRY(grow(b, (void **) &b->pays, &b->pays_cap, b->pays_used + v->payload_len));

	it = &b->items[b->n];
	make_item(b, it, key_len, v, new_key);
	if (key_len > 0)
		memcpy(b->keys + b->keys_used, key, key_len);
	if (v->payload_len > 0)
		memcpy(b->pays + b->pays_used, v->payload, v->payload_len);
	b->keys_used += key_len;
	b->pays_used += v->payload_len;
	if (new_key)
		b->key_start = b->n;
	shape_add(&b->shape, b->keys, b->keys + it->key_off, it);
	b->n++;
	return LTG_OK;
}

static void
shape_of(const LtgBlockBuilder *b, uint32_t n, LtgBlockShape *h)
{
	if (n == b->n)
	{
		*h = b->shape;
		return;
	}
	memset(h, 0, sizeof(*h));
	for (uint32_t i = 0; i < n; i++)
	{
		const LtgBlockItem *it = &b->items[i];

		shape_add(h, b->keys, b->keys + it->key_off, it);
	}
}

uint64_t
ltg_builder_size(const LtgBlockBuilder *b, uint32_t n)
{
	LtgBlockShape h;
	Layout		l;

	shape_of(b, n, &h);
	shape_layout(&h, &l);
	return l.len;
}

void
ltg_builder_consume(LtgBlockBuilder *b, uint32_t n)
{
	size_t		key_base;
	size_t		pay_base;
	uint32_t	i;

	LTG_ASSERT(n <= b->n);
	memset(&b->shape, 0, sizeof(b->shape));
	if (n == b->n)
	{
		b->n = b->key_start = 0;
		b->keys_used = b->pays_used = 0;
		return;
	}
	b->items[n].new_key = true; /* also of a key that goes on in the next block (R7) */
	key_base = b->items[n].key_off;
	pay_base = b->items[n].pay_off;
	b->keys_used -= key_base;
	b->pays_used -= pay_base;
	b->n -= n;
	memmove(b->keys, b->keys + key_base, b->keys_used);
	memmove(b->pays, b->pays + pay_base, b->pays_used);
	memmove(b->items, b->items + n, b->n * sizeof(LtgBlockItem));
	for (i = 0; i < b->n; i++)
	{
		LtgBlockItem *it = &b->items[i];

		it->key_off -= key_base;
		it->pay_off -= pay_base;
		if (it->new_key)
			b->key_start = i;
		shape_add(&b->shape, b->keys, b->keys + it->key_off, it);
	}
}

/* ---- writing the bytes ---- */

static void
put_header(uint8_t *dst, uint8_t type, uint8_t flags, uint32_t n, uint32_t keys,
		   uint32_t prefix, const Layout *l)
{
	dst[LTG_BH_TYPE] = type;
	dst[LTG_BH_FLAGS] = flags;
	dst[LTG_BH_HEAD_WIDTH] = (uint8_t) l->head_width;
	dst[LTG_BH_PAY_WIDTH] = (uint8_t) l->pay_width;
	ltg_store32(dst + LTG_BH_N, n);
	ltg_store16(dst + LTG_BH_PREFIX_LEN, (uint16_t) prefix);
	ltg_store16(dst + LTG_BH_TAIL_LEN, (uint16_t) l->tail_len);
	dst[LTG_BH_TAIL_WIDTH] = (uint8_t) l->tail_width;
	dst[LTG_BH_META_WIDTH] = (uint8_t) l->meta_width;
	ltg_store32(dst + LTG_BH_HEADS, (uint32_t) l->heads);
	ltg_store32(dst + LTG_BH_TAIL_INDEX, (uint32_t) l->tail_index);
	ltg_store32(dst + LTG_BH_TAILS, (uint32_t) l->tails);
	ltg_store32(dst + LTG_BH_PAY_INDEX, (uint32_t) l->pay_index);
	ltg_store32(dst + LTG_BH_PAYLOADS, (uint32_t) l->payloads);
	ltg_store32(dst + LTG_BH_PAY_LEN, l->pay_len);
	ltg_store32(dst + LTG_BH_META, (uint32_t) l->meta);
	ltg_store32(dst + LTG_BH_KEYS, keys);
	ltg_store32(dst + LTG_BH_LEN, (uint32_t) l->len);
}

static void
store_index(uint8_t *dst, uint32_t width, uint32_t i, uint64_t v)
{
	if (width == 2)
		ltg_store16(dst + 2 * (size_t) i, (uint16_t) v);
	else
		ltg_store32(dst + 4 * (size_t) i, (uint32_t) v);
}

/* Key i, without the block's prefix, into heads and tails. */
static void
put_key(uint8_t *dst, const Layout *l, bool dense, uint32_t i, const uint8_t *suffix,
		uint32_t len, uint64_t *tail_used)
{
	uint32_t	w = l->head_width;

	LTG_ASSERT(len >= w);
	if (!dense)
		memcpy(dst + l->heads + (size_t) i * w, suffix, w);
	memcpy(dst + l->tails + *tail_used, suffix + w, len - w);
	*tail_used += len - w;
	if (l->tail_width != 0)
		store_index(dst + l->tail_index, l->tail_width, i + 1, *tail_used);
}

/* Heads of the first and the last entry, whose suffixes are given. */
static void
put_head_range(uint8_t *dst, uint32_t width, const uint8_t *first, const uint8_t *last)
{
	ltg_store64(dst + LTG_BH_FIRST_HEAD, key_int(first, width));
	ltg_store64(dst + LTG_BH_LAST_HEAD, key_int(last, width));
}

static void
put_meta(uint8_t *rec, const Layout *l, const LtgBlockShape *h, const LtgBlockItem *it)
{
	if (h->ksf_differ)
		*rec++ = it->ksf;
	ltg_store_le(rec, keeps_seq(it->ksf) ? it->seq - h->min_seq : 0, l->seq_width);
	rec += l->seq_width;
	ltg_store_le(rec, keeps_cid(it->ksf) ? it->cid - h->min_cid : 0, l->cid_width);
	rec += l->cid_width;
	ltg_store_le(rec, it->aux, l->aux_width);
}

static void
put_payloads(const LtgBlockBuilder *b, const Layout *l, uint32_t n, uint8_t *dst)
{
	uint64_t	used = 0;
	uint32_t	i;

	for (i = 0; i < n; i++)
	{
		const LtgBlockItem *it = &b->items[i];

		used = LTG_ALIGN8(used);
		if (it->pay_len > 0)
			memcpy(dst + l->payloads + used, b->pays + it->pay_off, it->pay_len);
		used += it->pay_len;
		if (l->pay_width != 0)
			store_index(dst + l->pay_index, l->pay_width, i, used);
	}
}

static void
put_widths(uint8_t *dst, const LtgBlockShape *h, const Layout *l)
{
	ltg_store64(dst + LTG_BH_SEQ_BASE, h->min_seq);
	ltg_store64(dst + LTG_BH_XID_BASE, l->writer.base);
	ltg_store32(dst + LTG_BH_CID_BASE, h->min_cid);
	dst[LTG_BH_SEQ_WIDTH] = (uint8_t) l->seq_width;
	dst[LTG_BH_XID_WIDTH] = (uint8_t) l->writer.width;
	dst[LTG_BH_CID_WIDTH] = (uint8_t) l->cid_width;
	dst[LTG_BH_AUX_WIDTH] = (uint8_t) l->aux_width;
}

void
ltg_builder_build(const LtgBlockBuilder *b, uint32_t n, uint8_t *dst, uint64_t size)
{
	LtgBlockShape h;
	Layout		l;
	uint8_t		flags = LTG_BF_WRITERS;
	uint64_t	tail_used = 0;
	uint32_t	i;

	LTG_ASSERT(n > 0 && n <= b->n);
	shape_of(b, n, &h);
	shape_layout(&h, &l);
	LTG_ASSERT(l.len == size && size <= LTG_BLOCK_MAX);
	memset(dst, 0, size);
	flags |= h.dense ? LTG_BF_DENSE : 0;
	flags |= h.keys == h.n ? LTG_BF_UNIQUE : 0;
	flags |= shape_plain(&h) ? LTG_BF_PLAIN : 0;
	flags |= h.all_settled ? LTG_BF_SETTLED : 0;
	flags |= h.ksf_differ ? LTG_BF_KSF : 0;
	put_header(dst, LTG_BLOCK_DATA, flags, n, h.keys, h.prefix, &l);
	dst[LTG_BH_KSF] = h.ksf;
	ltg_store32(dst + LTG_BH_TAGS, h.any_tag ? (uint32_t) l.tags : 0);
	put_widths(dst, &h, &l);
	memcpy(dst + LTG_BH_BYTES, b->keys, h.prefix);
	put_head_range(dst, l.head_width, b->keys + h.prefix,
				   b->keys + b->items[n - 1].key_off + h.prefix);

	for (i = 0; i < n; i++)
	{
		const LtgBlockItem *it = &b->items[i];

		put_key(dst, &l, h.dense, i, b->keys + it->key_off + h.prefix,
				it->key_len - h.prefix, &tail_used);
		if (l.meta_width != 0)
			put_meta(dst + l.meta + (size_t) i * l.meta_width, &l, &h, it);
		/* one that has none gets what is there anyway */
		ltg_writers_put(dst + l.writers, &l.writer, n, i, keeps_xid(it->ksf) ? it->xid : l.writer.any);
		if (h.any_tag)
			dst[l.tags + i] = it->tag;
	}
	put_payloads(b, &l, n, dst);
}

/* ---- inner blocks ---- */

/*
 * A separator may be any prefix of the child's first key that is at least
 * `need` long.  Giving all of a block one length, where possible, lets them
 * live in the array of heads alone.
 */
static uint32_t
separator_len(const LtgInnerItem *it, uint32_t width)
{
	uint32_t	len = it->need > width ? it->need : width;

	return len < it->key_len ? len : it->key_len;
}

/* Prefix common to the separators, and the length to aim at. */
static void
separator_width(const LtgInnerItem *items, uint32_t n, uint32_t *prefix, uint32_t *width)
{
	uint32_t	i;
	uint32_t	most = 0;
	uint32_t	least = UINT32_MAX;

	*prefix = *width = 0;
	if (n < 2)
		return;
	*prefix = common_prefix(items[1].key, items[1].key_len,
							items[n - 1].key, items[n - 1].key_len);
	for (i = 1; i < n; i++)
	{
		if (most < items[i].need)
			most = items[i].need;
	}
	*width = most < *prefix + 8 ? most : *prefix + 8;
	for (i = 1; i < n; i++)
	{
		uint32_t	len = separator_len(&items[i], *width);

		if (least > len)
			least = len;
	}
	if (*prefix > least)
		*prefix = least;
}

static void
inner_layout(const LtgInnerItem *items, uint32_t n, LtgBlockShape *h, Layout *l, uint32_t *width)
{
	uint32_t	i;

	memset(h, 0, sizeof(*h));
	separator_width(items, n, &h->prefix, width);
	for (i = 1; i < n; i++)
	{
		uint32_t	len = separator_len(&items[i], *width);

		if (h->min_len > len || i == 1)
			h->min_len = len;
		if (h->max_len < len)
			h->max_len = len;
		h->key_bytes += len;
	}
	h->n = h->keys = n - 1;
	shape_layout(h, l);
	l->pay_len = LTG_CHILD_BYTES;
	l->len = LTG_ALIGN8(l->payloads + (uint64_t) n * LTG_CHILD_BYTES);
}

uint64_t
ltg_inner_size(const LtgInnerItem *items, uint32_t n, uint32_t *prefix)
{
	LtgBlockShape h;
	Layout		l;
	uint32_t	width;

	inner_layout(items, n, &h, &l, &width);
	*prefix = h.prefix;
	return l.len;
}

void
ltg_inner_build(const LtgInnerItem *items, uint32_t n, uint8_t *dst, uint64_t size)
{
	LtgBlockShape h;
	Layout		l;
	uint32_t	width;
	uint64_t	tail_used = 0;
	uint32_t	i;

	LTG_ASSERT(n > 0);
	inner_layout(items, n, &h, &l, &width);
	LTG_ASSERT(l.len == size);
	memset(dst, 0, size);
	put_header(dst, LTG_BLOCK_INNER, LTG_BF_UNIQUE, n - 1, n - 1, h.prefix, &l);
	if (n > 1)
	{
		memcpy(dst + LTG_BH_BYTES, items[1].key, h.prefix);
		put_head_range(dst, l.head_width, items[1].key + h.prefix,
					   items[n - 1].key + h.prefix);
	}
	for (i = 0; i < n; i++)
	{
		uint8_t    *child = dst + l.payloads + (size_t) i * LTG_CHILD_BYTES;

		if (i > 0)
			put_key(dst, &l, false, i - 1, items[i].key + h.prefix,
					separator_len(&items[i], width) - h.prefix, &tail_used);
		ltg_store_le(child, items[i].offset, 6);
		ltg_store32(child + 6, items[i].disk_len);
	}
}
