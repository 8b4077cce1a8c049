/*
 * block.c
 *	  Searching and decoding data and inner blocks (layout: format.h).
 *
 * The cost of a look-up in a cached block is its cache misses.  The first 64
 * bytes of the header say where the key must be: by arithmetic when the heads
 * are consecutive integers; otherwise an interpolated guess is corrected by
 * galloping from it, which for evenly spread keys stays within a line or two
 * of the array of heads, and for uneven ones costs at most twice a binary
 * search.
 */
#include "storage/block.h"

/* The array of heads, decoded from the header. */
typedef struct Heads
{
	const uint8_t *last;		/* where the 8-byte load of head 0 begins */
	uint32_t	width;
	uint64_t	mask;
	uint64_t	first;
	bool		dense;
} Heads;

static inline uint64_t
width_mask(uint32_t width)
{
	return width == 0 ? 0 : UINT64_MAX >> (64 - 8 * width);
}

static inline Heads
block_heads(const uint8_t *b)
{
	Heads		h;

	h.width = b[LTG_BH_HEAD_WIDTH];
	/* may begin up to 8 bytes before the array: in the header or the prefix */
	h.last = b + ltg_load32(b + LTG_BH_HEADS) + h.width - 8;
	h.mask = width_mask(h.width);
	h.first = ltg_load64(b + LTG_BH_FIRST_HEAD);
	h.dense = (b[LTG_BH_FLAGS] & LTG_BF_DENSE) != 0;
	return h;
}

static inline uint64_t
head_at(const Heads *h, uint32_t i)
{
	if (h->dense)
		return h->first + i;
	return ltg_load_be64(h->last + (size_t) i * h->width) & h->mask;
}

static inline uint64_t
load_le(const uint8_t *p, uint32_t width)
{
	return ltg_load64(p) & width_mask(width);
}

static inline uint64_t
load_index(const uint8_t *p, uint32_t width, uint32_t i)
{
	return width == 2 ? ltg_load16(p + 2 * (size_t) i) : ltg_load32(p + 4 * (size_t) i);
}

static inline void
block_tail(const uint8_t *b, uint32_t i, const uint8_t **tail, uint32_t *len)
{
	uint32_t	width = b[LTG_BH_TAIL_WIDTH];
	const uint8_t *tails = b + ltg_load32(b + LTG_BH_TAILS);

	if (width == 0)
	{
		*len = ltg_load16(b + LTG_BH_TAIL_LEN);
		*tail = tails + (size_t) i * *len;
	}
	else
	{
		const uint8_t *index = b + ltg_load32(b + LTG_BH_TAIL_INDEX);
		uint64_t	start = load_index(index, width, i);

		*tail = tails + start;
		*len = (uint32_t) (load_index(index, width, i + 1) - start);
	}
}

static inline void
block_payload(const uint8_t *b, uint32_t i, const uint8_t **payload, uint32_t *len)
{
	uint32_t	width = b[LTG_BH_PAY_WIDTH];
	const uint8_t *base = b + ltg_load32(b + LTG_BH_PAYLOADS);

	if (width == 0)
	{
		*len = ltg_load32(b + LTG_BH_PAY_LEN);
		*payload = base + i * LTG_ALIGN8(*len);
	}
	else
	{
		const uint8_t *index = b + ltg_load32(b + LTG_BH_PAY_INDEX);
		uint64_t	start = i == 0 ? 0 : LTG_ALIGN8(load_index(index, width, i - 1));

		*payload = base + start;
		*len = (uint32_t) (load_index(index, width, i) - start);
	}
}

/* memcmp order, shorter first. */
static inline int
bytes_cmp(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len)
{
	uint32_t	n = a_len < b_len ? a_len : b_len;
	int			c = n == 0 ? 0 : memcmp(a, b, n);

	return c != 0 ? c : (a_len > b_len) - (a_len < b_len);
}

/* ---- search ---- */

/* First i in [0, n) with head >= t, given first < t <= last. */
static uint32_t
heads_search(const Heads *h, uint32_t n, uint64_t t, uint64_t last)
{
	uint32_t	lo;				/* head[lo] < t */
	uint32_t	hi;				/* head[hi] >= t */
	uint32_t	step = 1;
	uint32_t	g;

	g = (uint32_t) ((double) (t - h->first) / (double) (last - h->first) * (double) (n - 1));
	if (g >= n)
		g = n - 1;
	if (head_at(h, g) < t)
	{
		lo = g;
		for (;;)
		{
			hi = lo + step;
			if (hi >= n - 1)
			{
				hi = n - 1;
				break;
			}
			if (head_at(h, hi) >= t)
				break;
			lo = hi;
			step *= 2;
		}
	}
	else
	{
		hi = g;
		for (;;)
		{
			if (hi <= step)
			{
				lo = 0;
				break;
			}
			lo = hi - step;
			if (head_at(h, lo) < t)
				break;
			hi = lo;
			step *= 2;
		}
	}
	while (hi - lo > 1)
	{
		uint32_t	mid = lo + (hi - lo) / 2;

		if (head_at(h, mid) < t)
			lo = mid;
		else
			hi = mid;
	}
	return hi;
}

/* First entry whose head is >= t. */
static inline uint32_t
heads_lower_bound(const uint8_t *b, const Heads *h, uint32_t n, uint64_t t)
{
	uint64_t	last;

	if (t <= h->first)
		return 0;
	last = ltg_load64(b + LTG_BH_LAST_HEAD);
	if (t > last)
		return n;
	if (h->dense)
		return (uint32_t) (t - h->first);
	return heads_search(h, n, t, last);
}

/* One past the entries from lo on whose head is t; head[lo] == t. */
static uint32_t
heads_run_end(const Heads *h, uint32_t n, uint32_t lo, uint64_t t)
{
	uint32_t	step = 1;
	uint32_t	hi;

	for (;;)
	{
		hi = lo + step;
		if (hi >= n)
		{
			hi = n;
			break;
		}
		if (head_at(h, hi) != t)
			break;
		lo = hi;
		step *= 2;
	}
	while (hi - lo > 1)
	{
		uint32_t	mid = lo + (hi - lo) / 2;

		if (head_at(h, mid) == t)
			lo = mid;
		else
			hi = mid;
	}
	return hi;
}

/* Among entries [lo, hi) with equal heads: the first with tail >= the given. */
static uint32_t
tails_lower_bound(const uint8_t *b, uint32_t lo, uint32_t hi, const uint8_t *tail,
				  uint32_t len, bool *equal)
{
	const uint8_t *t;
	uint32_t	t_len;
	int			c;

	*equal = false;
	while (lo < hi)
	{
		uint32_t	mid = lo + (hi - lo) / 2;

		block_tail(b, mid, &t, &t_len);
		c = bytes_cmp(t, t_len, tail, len);
		if (c < 0)
			lo = mid + 1;
		else
		{
			hi = mid;
			*equal |= c == 0;
		}
	}
	return lo;
}

static inline void
prefetch_payload(const uint8_t *b, uint32_t i)
{
	const uint8_t *payload;
	uint32_t	len;

	block_payload(b, i, &payload, &len);
	__builtin_prefetch(payload);
	if (len > LTG_CACHE_LINE)
		__builtin_prefetch(payload + LTG_CACHE_LINE);
}

uint32_t
ltg_block_lower_bound(const uint8_t *b, const uint8_t *key, uint32_t key_len, bool *equal)
{
	uint32_t	n = ltg_block_n(b);
	uint32_t	prefix = ltg_load16(b + LTG_BH_PREFIX_LEN);
	uint32_t	len = key_len < prefix ? key_len : prefix;
	Heads		h = block_heads(b);
	uint64_t	t = 0;
	uint32_t	i;
	uint32_t	lo;
	int			c;

	*equal = false;
	c = len == 0 ? 0 : memcmp(key, b + LTG_BH_BYTES, len);
	if (c < 0 || (c == 0 && key_len < prefix))
		return 0;
	if (c > 0)
		return n;
	key += prefix;
	len = key_len - prefix;
	if (len >= 8)
		t = ltg_load_be64(key) >> (64 - 8 * h.width) % 64;
	else
	{
		for (i = 0; i < len && i < h.width; i++)
			t = t << 8 | key[i];
	}
	if (h.width == 0)
		t = 0;
	if (len < h.width)
	{
		/* padded with zeros: every entry with this head is longer, so larger */
		t = len == 0 ? 0 : t << 8 * (h.width - len);
		return heads_lower_bound(b, &h, n, t);
	}

	lo = heads_lower_bound(b, &h, n, t);
	if (lo == n || head_at(&h, lo) != t)
		return lo;
	if (b[LTG_BH_TYPE] == LTG_BLOCK_DATA)
		prefetch_payload(b, lo);	/* most likely what the caller is after */
	if (b[LTG_BH_TAIL_WIDTH] == 0 && ltg_load16(b + LTG_BH_TAIL_LEN) == 0)
	{
		/* no tails: heads decide, unless the key goes on */
		*equal = len == h.width;
		return *equal ? lo : heads_run_end(&h, n, lo, t);
	}
	return tails_lower_bound(b, lo, heads_run_end(&h, n, lo, t),
							 key + h.width, len - h.width, equal);
}

uint32_t
ltg_inner_find(const uint8_t *b, const uint8_t *key, uint32_t key_len)
{
	bool		equal;
	uint32_t	i = ltg_block_lower_bound(b, key, key_len, &equal);

	/* separator i - 1 stands before child i */
	return equal ? i + 1 : i;
}

/* ---- decoding ---- */

bool
ltg_block_same_key(const uint8_t *b, uint32_t i, uint32_t j)
{
	Heads		h = block_heads(b);
	const uint8_t *t_i;
	const uint8_t *t_j;
	uint32_t	len_i;
	uint32_t	len_j;

	if (head_at(&h, i) != head_at(&h, j))
		return false;
	block_tail(b, i, &t_i, &len_i);
	block_tail(b, j, &t_j, &len_j);
	return bytes_cmp(t_i, len_i, t_j, len_j) == 0;
}

uint32_t
ltg_block_group_end(const uint8_t *b, uint32_t i)
{
	uint32_t	n = ltg_block_n(b);
	uint32_t	j = i + 1;

	if (ltg_block_unique(b))
		return j;
	while (j < n && ltg_block_same_key(b, j - 1, j))
		j++;
	return j;
}

uint32_t
ltg_block_group_start(const uint8_t *b, uint32_t i)
{
	if (ltg_block_unique(b))
		return i;
	while (i > 0 && ltg_block_same_key(b, i - 1, i))
		i--;
	return i;
}

uint32_t
ltg_block_key(const uint8_t *b, uint32_t i, uint8_t *buf)
{
	Heads		h = block_heads(b);
	uint32_t	prefix = ltg_load16(b + LTG_BH_PREFIX_LEN);
	uint64_t	head = head_at(&h, i);
	const uint8_t *tail;
	uint32_t	len;
	uint32_t	k;

	memcpy(buf, b + LTG_BH_BYTES, prefix);
	buf += prefix;
	for (k = h.width; k > 0; k--)
	{
		buf[k - 1] = (uint8_t) head;
		head >>= 8;
	}
	block_tail(b, i, &tail, &len);
	if (len > 0)
		memcpy(buf + h.width, tail, len);
	return prefix + h.width + len;
}

/* Fields of a block that is not settled throughout. */
static void
block_meta(const uint8_t *b, uint32_t i, LtgVersion *v)
{
	const uint8_t *rec = b + ltg_load32(b + LTG_BH_META) + (size_t) i * b[LTG_BH_META_WIDTH];
	uint8_t		ksf = b[LTG_BH_KSF];
	uint32_t	xid_width = 0;	/* in the record */

	if ((b[LTG_BH_FLAGS] & LTG_BF_WRITERS) == 0)
		xid_width = b[LTG_BH_XID_WIDTH];
	if ((b[LTG_BH_FLAGS] & LTG_BF_KSF) != 0)
		ksf = *rec++;
	v->kind = (LtgKind) LTG_KSF_KIND(ksf);
	v->state = (LtgState) LTG_KSF_STATE(ksf);
	v->flags = LTG_KSF_FLAGS(ksf);
	v->seq = v->xid = v->aux = 0;
	v->cid = 0;
	if (v->state != LTG_SETTLED || v->kind != LTG_PUT)
		v->seq = ltg_load64(b + LTG_BH_SEQ_BASE) + load_le(rec, b[LTG_BH_SEQ_WIDTH]);
	rec += b[LTG_BH_SEQ_WIDTH];
	if ((b[LTG_BH_FLAGS] & LTG_BF_WRITERS) != 0)
	{
		if (v->state != LTG_SETTLED || v->kind == LTG_PUT)
			v->xid = ltg_writers_get(b, i);
	}
	else if (v->state != LTG_SETTLED)
		v->xid = ltg_load64(b + LTG_BH_XID_BASE) + load_le(rec, xid_width);
	if (v->state != LTG_SETTLED)
		v->cid = ltg_load32(b + LTG_BH_CID_BASE) +
			(uint32_t) load_le(rec + xid_width, b[LTG_BH_CID_WIDTH]);
	rec += xid_width + b[LTG_BH_CID_WIDTH];
	v->aux = load_le(rec, b[LTG_BH_AUX_WIDTH]);
}

/* Everything but the payload. */
static inline void
block_version_head(const uint8_t *b, uint32_t i, LtgVersion *v)
{
	uint32_t	tags = ltg_load32(b + LTG_BH_TAGS);

	v->tag = tags == 0 ? 0 : b[tags + i];
	if ((b[LTG_BH_FLAGS] & (LTG_BF_PLAIN | LTG_BF_SETTLED)) == (LTG_BF_PLAIN | LTG_BF_SETTLED))
	{
		v->kind = LTG_PUT;
		v->state = LTG_SETTLED;
		v->flags = 0;
		v->cid = 0;
		v->xid = ltg_writers_get(b, i);
		v->seq = v->aux = 0;
	}
	else
		block_meta(b, i, v);
}

void
ltg_block_version(const uint8_t *b, uint32_t i, LtgVersion *v)
{
	block_payload(b, i, &v->payload, &v->payload_len);
	block_version_head(b, i, v);
}

void
ltg_block_prefetch_payload(const uint8_t *b, uint32_t i)
{
	if (i < ltg_block_n(b))
		prefetch_payload(b, i);
}

/* ---- parts of a plain block ---- */

static inline bool
has_tails(const uint8_t *b)
{
	return b[LTG_BH_TAIL_WIDTH] != 0 || ltg_load16(b + LTG_BH_TAIL_LEN) != 0;
}

/* Everything about a data block's keys and versions lies before this. */
static uint32_t
keys_end(const uint8_t *b)
{
	/* tails stand behind the payload index, just before the payloads */
	if (has_tails(b) || b[LTG_BH_PAY_WIDTH] == 0)
		return ltg_load32(b + LTG_BH_PAYLOADS);
	return ltg_load32(b + LTG_BH_PAY_INDEX);
}

uint32_t
ltg_block_keys_len(const uint8_t *b, uint32_t len)
{
	/* records are read 8 bytes at a time */
	uint64_t	end = (uint64_t) keys_end(b) + 8;

	return end < len ? (uint32_t) end : len;
}

void
ltg_block_entry_key(const uint8_t *b, uint32_t i, uint8_t *key_buf, uint32_t *key_len,
					LtgVersion *v)
{
	LTG_ASSERT(i < ltg_block_n(b));
	*key_len = ltg_block_key(b, i, key_buf);
	v->payload = NULL;
	v->payload_len = 0;
	block_version_head(b, i, v);
}

bool
ltg_block_span(const uint8_t *b, bool payloads, LtgSpan *span)
{
	Heads		h = block_heads(b);
	uint32_t	prefix = ltg_load16(b + LTG_BH_PREFIX_LEN);
	uint32_t	tags = ltg_load32(b + LTG_BH_TAGS);
	uint64_t	shared = 0;

	LTG_ASSERT((b[LTG_BH_FLAGS] & LTG_BF_PLAIN) != 0);
	if (has_tails(b) || h.width == 0 || prefix + h.width > 8)
		return false;
	for (uint32_t i = 0; i < prefix; i++)
		shared = shared << 8 | b[LTG_BH_BYTES + i];
	shared = h.width == 8 ? 0 : shared << 8 * h.width;
	span->key = h.dense ? shared | h.first : shared;
	span->heads = h.dense ? NULL : h.last;
	span->head_width = h.width;
	span->head_mask = h.mask;
	span->tags = tags == 0 ? NULL : b + tags;
	span->state = (LtgState) LTG_KSF_STATE(b[LTG_BH_KSF]);
	span->xid = ltg_load64(b + LTG_BH_XID_BASE);
	span->writers = b[LTG_BH_XID_WIDTH] == 0 ? NULL : b;
	span->cid = (b[LTG_BH_FLAGS] & LTG_BF_SETTLED) != 0 ? 0 : ltg_load32(b + LTG_BH_CID_BASE);
	span->pay_width = payloads ? b[LTG_BH_PAY_WIDTH] : 0;
	span->pay_len = payloads ? ltg_load32(b + LTG_BH_PAY_LEN) : 0;
	span->pay_index = payloads ? b + ltg_load32(b + LTG_BH_PAY_INDEX) : NULL;
	span->payloads = payloads ? b + ltg_load32(b + LTG_BH_PAYLOADS) : NULL;
	return true;
}

void
ltg_inner_child(const uint8_t *b, uint32_t i, uint64_t *offset, uint32_t *disk_len)
{
	const uint8_t *p = b + ltg_load32(b + LTG_BH_PAYLOADS) + (size_t) i * LTG_CHILD_BYTES;

	*offset = (uint64_t) ltg_load16(p + 4) << 32 | ltg_load32(p);
	*disk_len = ltg_load32(p + 6);
}

/* ---- checks ---- */

/* Does [off, off + n * width) lie within the block, after the header? */
static bool
section_ok(uint64_t off, uint64_t n, uint64_t width, uint32_t len)
{
	return off >= LTG_BH_BYTES && off <= len && n * width <= len - off;
}

static bool
index_width_ok(uint8_t width)
{
	return width == 0 || width == 2 || width == 4;
}

/* keys: where keys_end() is. */
static bool
meta_ok(const uint8_t *b, uint32_t len, uint32_t keys, uint64_t n)
{
	uint32_t	sum = (b[LTG_BH_FLAGS] & LTG_BF_KSF) != 0 ? 1 : 0;
	uint32_t	tags = ltg_load32(b + LTG_BH_TAGS);
	uint32_t	i;

	for (i = LTG_BH_SEQ_WIDTH; i <= LTG_BH_AUX_WIDTH; i++)
	{
		if (b[i] > 8)
			return false;
		if (i != LTG_BH_XID_WIDTH || (b[LTG_BH_FLAGS] & LTG_BF_WRITERS) == 0)
			sum += b[i];
	}
	return sum == b[LTG_BH_META_WIDTH] && ltg_writers_check(b, keys) &&
		section_ok(ltg_load32(b + LTG_BH_META), n * sum, 1, keys) &&
		section_ok(ltg_load32(b + LTG_BH_META), n * sum + 8, 1, len) &&
		(tags == 0 || section_ok(tags, n, 1, keys));
}

bool
ltg_block_check(const uint8_t *b, uint32_t len, uint8_t type)
{
	uint64_t	n;
	uint64_t	payloads;
	uint64_t	prefix;
	uint32_t	keys = len;		/* keys lie before this */

	if (len < LTG_BH_BYTES + 8 || b[LTG_BH_TYPE] != type ||
		ltg_load32(b + LTG_BH_LEN) != len || b[LTG_BH_ZERO] != 0 || b[LTG_BH_HEAD_WIDTH] > 8 || !index_width_ok(b[LTG_BH_TAIL_WIDTH]) ||
		!index_width_ok(b[LTG_BH_PAY_WIDTH]))
		return false;
	n = ltg_block_n(b);
	payloads = ltg_load32(b + LTG_BH_PAYLOADS);
	prefix = ltg_load16(b + LTG_BH_PREFIX_LEN);
	if (payloads % 8 != 0 || ltg_load32(b + LTG_BH_KEYS) > n ||
		(type == LTG_BLOCK_DATA && keys_end(b) > len))
		return false;
	if (type == LTG_BLOCK_DATA)
		keys = keys_end(b);
	if (!section_ok(LTG_BH_BYTES, prefix, 1, keys))
		return false;
	if ((b[LTG_BH_FLAGS] & LTG_BF_DENSE) == 0 &&
		!section_ok(ltg_load32(b + LTG_BH_HEADS), n, b[LTG_BH_HEAD_WIDTH], keys))
		return false;
	if (b[LTG_BH_TAIL_WIDTH] != 0)
	{
		if (!section_ok(ltg_load32(b + LTG_BH_TAIL_INDEX), n + 1, b[LTG_BH_TAIL_WIDTH], keys) ||
			!section_ok(ltg_load32(b + LTG_BH_TAILS), 0, 0, keys))
			return false;
	}
	else if (!section_ok(ltg_load32(b + LTG_BH_TAILS), n, ltg_load16(b + LTG_BH_TAIL_LEN),
						 has_tails(b) ? keys : len))
		return false;
	if (type == LTG_BLOCK_INNER)
		return section_ok(payloads, n + 1, LTG_CHILD_BYTES, len);
	if (n == 0 || !meta_ok(b, len, keys, n))
		return false;
	if (b[LTG_BH_PAY_WIDTH] != 0)
		return section_ok(ltg_load32(b + LTG_BH_PAY_INDEX), n, b[LTG_BH_PAY_WIDTH], len) &&
			section_ok(payloads, 0, 0, len);
	return section_ok(payloads, n, LTG_ALIGN8((uint64_t) ltg_load32(b + LTG_BH_PAY_LEN)), len);
}

/* The index arrays: ascending, and within the block. */
static const char *
verify_indexes(const uint8_t *b, uint32_t len)
{
	uint32_t	n = ltg_block_n(b);
	uint32_t	width = b[LTG_BH_TAIL_WIDTH];
	uint64_t	room = ltg_load32(b + LTG_BH_PAYLOADS) - ltg_load32(b + LTG_BH_TAILS);
	uint64_t	last = 0;
	uint32_t	i;

	if (ltg_load32(b + LTG_BH_TAILS) > ltg_load32(b + LTG_BH_PAYLOADS))
		return "tails lie behind the payloads";
	for (i = 0; width != 0 && i <= n; i++)
	{
		uint64_t	end = load_index(b + ltg_load32(b + LTG_BH_TAIL_INDEX), width, i);

		if (end < last || end > room || (i == 0 && end != 0))
			return "tail index is not ascending";
		last = end;
	}
	width = b[LTG_BH_PAY_WIDTH];
	if (b[LTG_BH_TYPE] == LTG_BLOCK_INNER || width == 0)
		return NULL;
	room = len - ltg_load32(b + LTG_BH_PAYLOADS);
	for (i = 0, last = 0; i < n; i++)
	{
		uint64_t	end = load_index(b + ltg_load32(b + LTG_BH_PAY_INDEX), width, i);

		if (end < LTG_ALIGN8(last) || end > room)
			return "payload index is not ascending";
		last = end;
	}
	return NULL;
}

/* Facts about entries that the header's flags promise. */
static const char *
verify_flags(const uint8_t *b)
{
	uint32_t	n = ltg_block_n(b);
	uint8_t		flags = b[LTG_BH_FLAGS];
	bool		settled = true;
	bool		plain = (flags & LTG_BF_UNIQUE) != 0;
	LtgVersion	first = {0};
	LtgVersion	v;
	uint32_t	i;

	for (i = 0; i < n; i++)
	{
		ltg_block_version(b, i, &v);
		if (i == 0)
			first = v;
		if (v.state == LTG_ABORTED || v.kind > LTG_GONE)
			return "entry has an impossible state or kind";
		settled &= v.state == LTG_SETTLED;
		if (v.state != LTG_SETTLED && v.xid == 0)
			return "entry has no transaction";
		plain &= v.kind == LTG_PUT && v.flags == 0 && v.state == first.state &&
			(v.state == LTG_SETTLED || (v.xid == first.xid && v.cid == first.cid));
	}
	if ((flags & LTG_BF_MORE) != 0 && (ltg_load32(b + LTG_BH_KEYS) != 1 || ltg_block_n(b) == 1))
		return "block that goes on has several keys, or one version";
	if (settled != ((flags & LTG_BF_SETTLED) != 0))
		return "settled flag does not match the entries";
	if (plain != ((flags & LTG_BF_PLAIN) != 0))
		return "plain flag does not match the entries";
	return NULL;
}

const char *
ltg_block_verify(const uint8_t *b, uint32_t len, uint8_t *key_buf)
{
	uint32_t	n = ltg_block_n(b);
	uint8_t    *prev = key_buf;
	uint8_t    *cur = key_buf + LTG_KEY_MAX;
	uint32_t	prev_len = 0;
	uint32_t	keys = 0;
	uint32_t	i;
	const char *problem = verify_indexes(b, len);

	if (problem != NULL)
		return problem;
	for (i = 0; i < n; i++)
	{
		const uint8_t *tail;
		uint32_t	tail_len;
		uint32_t	cur_len;
		uint8_t    *swap;
		int			c;

		block_tail(b, i, &tail, &tail_len);
		if ((uint64_t) ltg_load16(b + LTG_BH_PREFIX_LEN) + b[LTG_BH_HEAD_WIDTH] + tail_len > LTG_KEY_MAX)
			return "key is too long";
		cur_len = ltg_block_key(b, i, cur);
		c = i == 0 ? 1 : bytes_cmp(cur, cur_len, prev, prev_len);
		if (c < 0 || (c == 0 && ltg_block_unique(b)))
			return "keys are out of order";
		keys += c > 0 ? 1 : 0;
		swap = prev;
		prev = cur;
		cur = swap;
		prev_len = cur_len;
	}
	if (keys != ltg_load32(b + LTG_BH_KEYS))
		return "number of keys is wrong";
	if (n > 0)
	{
		Heads		h = block_heads(b);

		if (h.first != head_at(&h, 0) ||
			ltg_load64(b + LTG_BH_LAST_HEAD) != head_at(&h, n - 1))
			return "first or last head is wrong";
	}
	if (b[LTG_BH_TYPE] != LTG_BLOCK_DATA)
		return NULL;
	problem = ltg_writers_verify(b);
	return problem != NULL ? problem : verify_flags(b);
}
