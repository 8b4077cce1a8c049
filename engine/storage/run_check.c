/*
 * run_check.c
 *	  Reads every byte of a run and verifies its invariants (see run.h).
 *
 * The tree is walked depth first.  Every block must pass its checksum, be sound
 * in itself (ltg_block_verify), hold keys within the bounds that the inner
 * blocks above give it, and follow the block before it.  What is counted on
 * the way must be what the reference says.
 */
#include "storage/run.h"

#include "storage/block.h"
#include "storage/blockio.h"
#include "storage/filter.h"
#include "storage/format.h"

typedef struct Check
{
	LtgSession *s;
	const LtgRunRef *ref;
	LtgRunRef	seen;			/* what was counted */
	LtgBound	min_key;		/* of the file's run, empty if that is not known (R6) */
	void	   *owned[LTG_HEIGHT_MAX];
	void	   *rest;			/* a block that goes on with a key */
	uint8_t    *bits;			/* the whole filter */
	uint8_t    *keys;			/* scratch, see the offsets below */
	uint32_t	prev_len;		/* key of the last version met */
	bool		any;
	LtgSeq		prev_seq;
} Check;

/* Areas of Check.keys: the previous key, a key, two for ltg_block_verify, and
 * two bounds per level. */
#define KEY_PREV 0
#define KEY_CUR 1
#define KEY_VERIFY 2
#define KEY_BOUNDS 4
#define KEY_AREAS (KEY_BOUNDS + 2 * LTG_HEIGHT_MAX)

typedef struct Bound
{
	const uint8_t *key;
	uint32_t	len;
	bool		none;
} Bound;

static uint8_t *
area(Check *c, uint32_t i)
{
	return c->keys + (size_t) i * LTG_KEY_MAX;
}

static LtgStatus
check_key(Check *c, const LtgBlockPtr *at, const uint8_t *key, uint32_t len, const Bound *lo,
		  const Bound *hi)
{
	LtgRunRef  *seen = &c->seen;

	if (!lo->none && ltg_key_cmp(key, len, lo->key, lo->len) < 0)
		return ltg_fail_corrupt(c->s, at->file, at->offset, "key lies below its block's separator");
	if (!hi->none && ltg_key_cmp(key, len, hi->key, hi->len) >= 0)
		return ltg_fail_corrupt(c->s, at->file, at->offset, "key lies beyond the next separator");
	if (!ltg_bound_may_contain(&c->min_key, &c->ref->max_key, key, len))
		return ltg_fail_corrupt(c->s, at->file, at->offset, "key lies outside the run's bounds");
	if (c->bits != NULL)
	{
		LtgFilterShape f = {c->ref->filter_blocks, c->ref->filter_block_lines};
		uint64_t	hash = ltg_key_hash(key, len);
		uint32_t	line;
		uint32_t	block = ltg_filter_place(&f, hash, &line);

		if (!ltg_filter_test(c->bits + ((uint64_t) block * f.lines + line) * LTG_FILTER_LINE, hash))
			return ltg_fail_corrupt(c->s, at->file, at->offset, "filter does not know a key");
	}
	if (seen->keys++ == 0)
		ltg_bound_set(&seen->min_key, key, len);
	ltg_bound_set(&seen->max_key, key, len);
	return LTG_OK;
}

static LtgStatus
check_version(Check *c, const LtgBlockPtr *at, const LtgVersion *v, bool new_key)
{
	LtgRunRef  *seen = &c->seen;

	if (!new_key && v->seq != 0 && c->prev_seq != 0 && v->seq >= c->prev_seq)
		return ltg_fail_corrupt(c->s, at->file, at->offset, "versions of a key are not newest first");
	c->prev_seq = v->seq;
	seen->entries++;
	seen->tombstones += v->kind != LTG_PUT ? 1 : 0;
	if (v->seq != 0 && (v->seq < c->ref->min_seq || v->seq > c->ref->max_seq))
		return ltg_fail_corrupt(c->s, at->file, at->offset, "version lies outside the run's sequence range");
	if (v->state != LTG_SETTLED)
	{
		seen->unsettled++;
		if (seen->min_xid == 0 || v->xid < seen->min_xid)
			seen->min_xid = v->xid;
		if (v->xid > seen->max_xid)
			seen->max_xid = v->xid;
	}
	return LTG_OK;
}

static LtgStatus
check_data(Check *c, const LtgBlockPtr *at, const uint8_t *b, const Bound *lo, const Bound *hi)
{
	uint32_t	n = ltg_block_n(b);
	uint32_t	i;

	for (i = 0; i < n; i++)
	{
		uint8_t    *key = area(c, KEY_CUR);
		uint32_t	len = ltg_block_key(b, i, key);
		int			cmp = 1;
		LtgVersion	v;

		if (c->any)
			cmp = ltg_key_cmp(key, len, area(c, KEY_PREV), c->prev_len);
		if (cmp < 0 || (cmp == 0 && i == 0))
			return ltg_fail_corrupt(c->s, at->file, at->offset, "key does not follow the block before");
		if (cmp > 0)
		{
			LTG_TRY(check_key(c, at, key, len, lo, hi));
			memcpy(area(c, KEY_PREV), key, len);
			c->prev_len = len;
			c->any = true;
		}
		ltg_block_version(b, i, &v);
		LTG_TRY(check_version(c, at, &v, cmp > 0));
		if ((i & 1023) == 1023 && c->s->port->interrupted(c->s->port))
			return ltg_fail(c->s, LTG_INTERRUPTED, "checking a run was interrupted");
	}
	return LTG_OK;
}

/* The blocks behind that have more versions of the one key of this block. */
static LtgStatus
check_rest(Check *c, LtgBlockPtr at, const uint8_t *b)
{
	const char *problem;
	uint32_t	len;

	while ((b[LTG_BH_FLAGS] & LTG_BF_MORE) != 0)
	{
		LTG_TRY(ltg_block_behind(c->s, &at));
		LTG_TRY(ltg_block_read_file(c->s, &at, LTG_BLOCK_DATA, &c->rest, &b, &len));
		problem = ltg_block_verify(b, len, area(c, KEY_VERIFY));
		if (problem != NULL)
			return ltg_fail_corrupt(c->s, at.file, at.offset, "%s", problem);
		LTG_TRY(ltg_block_check_rest(c->s, &at, b, area(c, KEY_PREV), c->prev_len));
		c->seen.raw_bytes += len;
		c->seen.disk_bytes += at.disk_len;
		for (uint32_t i = 0; i < ltg_block_n(b); i++)
		{
			LtgVersion	v;

			ltg_block_version(b, i, &v);
			LTG_TRY(check_version(c, &at, &v, false));
		}
		if (c->s->port->interrupted(c->s->port))
			return ltg_fail(c->s, LTG_INTERRUPTED, "checking a run was interrupted");
	}
	return LTG_OK;
}

static LtgStatus
check_tree(Check *c, const LtgBlockPtr *at, uint32_t lv, Bound lo, Bound hi)
{
	const uint8_t *b;
	const char *problem;
	uint32_t	len;
	uint32_t	i;

	if (c->s->port->interrupted(c->s->port))
		return ltg_fail(c->s, LTG_INTERRUPTED, "checking a run was interrupted");
	LTG_TRY(ltg_block_read_file(c->s, at, lv == 0 ? LTG_BLOCK_DATA : LTG_BLOCK_INNER,
								&c->owned[lv], &b, &len));
	problem = ltg_block_verify(b, len, area(c, KEY_VERIFY));
	if (problem != NULL)
		return ltg_fail_corrupt(c->s, at->file, at->offset, "%s", problem);
	c->seen.raw_bytes += len;
	c->seen.disk_bytes += at->disk_len;
	if (lv == 0)
	{
		LTG_TRY(check_data(c, at, b, &lo, &hi));
		return check_rest(c, *at, b);
	}

	for (i = 0; i <= ltg_block_n(b); i++)
	{
		LtgBlockPtr child = ltg_run_block(c->ref, 0, 0);
		Bound		child_lo = lo;
		Bound		child_hi = hi;

		if (i > 0)
		{
			child_lo.key = area(c, KEY_BOUNDS + 2 * lv);
			child_lo.len = ltg_block_key(b, i - 1, area(c, KEY_BOUNDS + 2 * lv));
			child_lo.none = false;
		}
		if (i < ltg_block_n(b))
		{
			child_hi.key = area(c, KEY_BOUNDS + 2 * lv + 1);
			child_hi.len = ltg_block_key(b, i, area(c, KEY_BOUNDS + 2 * lv + 1));
			child_hi.none = false;
		}
		ltg_inner_child(b, i, &child.offset, &child.disk_len);
		LTG_TRY(check_tree(c, &child, lv - 1, child_lo, child_hi));
	}
	return LTG_OK;
}

static LtgStatus
read_filter(Check *c)
{
	const LtgRunRef *ref = c->ref;
	uint32_t	block_bytes = ref->filter_block_lines * LTG_FILTER_LINE;
	LtgBlockPtr at = {.file = ref->file, .offset = ref->filter_offset,
		.disk_len = LTG_ENV_BYTES + block_bytes};
	const uint8_t *data;
	uint32_t	len;
	uint32_t	i;

	if (ref->filter_blocks == 0)
		return LTG_OK;
	c->bits = c->s->port->alloc(c->s->port, (size_t) ref->filter_blocks * block_bytes);
	if (c->bits == NULL)
		return ltg_fail(c->s, LTG_NOMEM, "out of memory for checking a filter");
	for (i = 0; i < ref->filter_blocks; i++)
	{
		LTG_TRY(ltg_block_read_file(c->s, &at, LTG_BLOCK_FILTER, &c->owned[0], &data, &len));
		if (len != block_bytes)
			return ltg_fail_corrupt(c->s, at.file, at.offset, "filter block has %u bytes, expected %u",
									len, block_bytes);
		memcpy(c->bits + (size_t) i * block_bytes, data, block_bytes);
		at.offset += at.disk_len;
		c->seen.raw_bytes += len;
		c->seen.disk_bytes += at.disk_len;
	}
	return LTG_OK;
}

/* The dictionary is sound even if no block uses it. */
static LtgStatus
check_dictionary(Check *c)
{
	uint8_t    *dict;
	uint32_t	len;

	LTG_TRY(ltg_run_dictionary(c->s, c->ref, &dict, &len));
	if (dict == NULL)
		return LTG_OK;
	c->s->port->free(c->s->port, dict);
	c->seen.raw_bytes += LTG_DICT_HEAD + len;
	c->seen.disk_bytes += c->ref->dict_disk_len;
	return LTG_OK;
}

static LtgStatus
check_count(Check *c, const char *what, uint64_t seen, uint64_t said)
{
	if (seen == said)
		return LTG_OK;
	return ltg_fail_corrupt(c->s, c->ref->file, c->ref->root_offset, "run has %llu %s, expected %llu",
							(unsigned long long) seen, what, (unsigned long long) said);
}

static LtgStatus
check_totals(Check *c)
{
	const LtgRunRef *ref = c->ref;
	const LtgRunRef *seen = &c->seen;

	LTG_TRY(check_count(c, "entries", seen->entries, ref->entries));
	LTG_TRY(check_count(c, "keys", seen->keys, ref->keys));
	LTG_TRY(check_count(c, "tombstones", seen->tombstones, ref->tombstones));
	LTG_TRY(check_count(c, "unsettled versions", seen->unsettled, ref->unsettled));
	LTG_TRY(check_count(c, "bytes on disk", seen->disk_bytes, ref->disk_bytes));
	LTG_TRY(check_count(c, "bytes", seen->raw_bytes, ref->raw_bytes));
	LTG_TRY(check_count(c, "as its oldest transaction", seen->min_xid, ref->min_xid));
	LTG_TRY(check_count(c, "as its newest transaction", seen->max_xid, ref->max_xid));
	if ((!ref->cut && memcmp(&seen->min_key, &ref->min_key, sizeof(LtgBound)) != 0) ||
		memcmp(&seen->max_key, &ref->max_key, sizeof(LtgBound)) != 0)
		return ltg_fail_corrupt(c->s, ref->file, ref->root_offset, "run's key bounds are wrong");
	return LTG_OK;
}

LtgStatus
ltg_run_check(LtgSession *s, const LtgRunRef *ref)
{
	Check		c = {.s = s, .ref = ref};
	Bound		none = {NULL, 0, true};
	LtgBlockPtr at = ltg_run_root(ref);
	LtgStatus	st;
	uint32_t	i;

	if (ref->height >= LTG_HEIGHT_MAX)
		return ltg_fail_corrupt(s, ref->file, ref->root_offset, "run has %u levels", ref->height);
	if (!ref->cut)
		c.min_key = ref->min_key;
	else if (ref->min_key.truncated)
		return ltg_fail_corrupt(s, ref->file, ref->root_offset, "run is cut at a truncated key");
	c.keys = s->port->alloc(s->port, (size_t) KEY_AREAS * LTG_KEY_MAX);
	if (c.keys == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for checking a run");
	st = read_filter(&c);
	if (st == LTG_OK)
		st = check_dictionary(&c);
	if (st == LTG_OK)
		st = check_tree(&c, &at, ref->height, none, none);
	if (st == LTG_OK)
		st = check_totals(&c);

	for (i = 0; i < LTG_HEIGHT_MAX; i++)
		ltg_private_free(s, &c.owned[i]);
	ltg_private_free(s, &c.rest);
	if (c.bits != NULL)
		s->port->free(s->port, c.bits);
	s->port->free(s->port, c.keys);
	return st;
}
