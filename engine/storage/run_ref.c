/*
 * run_ref.c
 *	  Key order, key bounds, and the portable encoding of run references.
 */
#include "storage/run.h"

#include "base/coding.h"
#include "storage/format.h"

int
ltg_key_cmp(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len)
{
	uint32_t	n = a_len < b_len ? a_len : b_len;
	int			c = n == 0 ? 0 : memcmp(a, b, n);

	return c != 0 ? c : (a_len > b_len) - (a_len < b_len);
}

void
ltg_bound_set(LtgBound *b, const uint8_t *key, uint32_t key_len)
{
	memset(b, 0, sizeof(*b));
	b->truncated = key_len > LTG_BOUND_BYTES;
	b->len = (uint8_t) (b->truncated ? LTG_BOUND_BYTES : key_len);
	if (b->len > 0)
		memcpy(b->bytes, key, b->len);
}

/*
 * A truncated minimum is a lower bound of the real one, so it serves as it is.
 * A truncated maximum stands for every key that begins with it.
 */
bool
ltg_bound_may_contain(const LtgBound *min, const LtgBound *max,
					  const uint8_t *key, uint32_t key_len)
{
	uint32_t	n = key_len;

	if (ltg_key_cmp(key, key_len, min->bytes, min->len) < 0)
		return false;
	if (max->truncated && n > max->len)
		n = max->len;
	return ltg_key_cmp(key, n, max->bytes, max->len) <= 0;
}

static uint8_t *
put_bound(uint8_t *p, const LtgBound *b)
{
	*p++ = b->len;
	*p++ = b->truncated;
	memcpy(p, b->bytes, b->len);
	return p + b->len;
}

static void
read_bound(LtgReader *r, LtgBound *b)
{
	uint8_t		len = ltg_read_u8(r);
	uint8_t		truncated = ltg_read_u8(r);
	const uint8_t *p;

	memset(b, 0, sizeof(*b));
	if (len > LTG_BOUND_BYTES || truncated > 1)
		r->failed = true;
	p = ltg_read_bytes(r, len);
	if (p == NULL)
		return;
	b->len = len;
	b->truncated = truncated;
	memcpy(b->bytes, p, len);
}

uint32_t
ltg_run_ref_encode(uint8_t *buf, const LtgRunRef *ref)
{
	uint8_t    *p = buf;

	p = ltg_put_varint(p, ref->file);
	p = ltg_put_varint(p, ref->root_offset);
	p = ltg_put_varint(p, ref->root_disk_len);
	p = ltg_put_varint(p, ref->height);
	p = ltg_put_varint(p, ref->filter_offset);
	p = ltg_put_varint(p, ref->filter_blocks);
	p = ltg_put_varint(p, ref->filter_block_lines);
	p = ltg_put_varint(p, ref->level);
	p = ltg_put_varint(p, ref->age);
	p = ltg_put_varint(p, ref->entries);
	p = ltg_put_varint(p, ref->keys);
	p = ltg_put_varint(p, ref->tombstones);
	p = ltg_put_varint(p, ref->unsettled);
	p = ltg_put_varint(p, ref->disk_bytes);
	p = ltg_put_varint(p, ref->raw_bytes);
	p = ltg_put_varint(p, ref->min_seq);
	p = ltg_put_varint(p, ref->max_seq);
	p = ltg_put_varint(p, ref->min_xid);
	p = ltg_put_varint(p, ref->max_xid);
	p = put_bound(p, &ref->min_key);
	p = put_bound(p, &ref->max_key);
	p = ltg_put_varint(p, ref->dict_offset);
	p = ltg_put_varint(p, ref->dict_disk_len);
	p = ltg_put_varint(p, ref->dict_id);
	LTG_ASSERT(p - buf <= LTG_RUN_REF_MAX);
	return (uint32_t) (p - buf);
}

bool
ltg_run_ref_decode(LtgReader *r, uint64_t version, LtgRunRef *ref)
{
	memset(ref, 0, sizeof(*ref));
	ref->file = ltg_read_varint(r);
	ref->root_offset = ltg_read_varint(r);
	ref->root_disk_len = ltg_read_varint32(r);
	ref->height = ltg_read_varint32(r);
	ref->filter_offset = ltg_read_varint(r);
	ref->filter_blocks = ltg_read_varint32(r);
	ref->filter_block_lines = ltg_read_varint32(r);
	ref->level = ltg_read_varint32(r);
	ref->age = ltg_read_varint(r);
	ref->entries = ltg_read_varint(r);
	ref->keys = ltg_read_varint(r);
	ref->tombstones = ltg_read_varint(r);
	ref->unsettled = ltg_read_varint(r);
	ref->disk_bytes = ltg_read_varint(r);
	ref->raw_bytes = ltg_read_varint(r);
	ref->min_seq = ltg_read_varint(r);
	ref->max_seq = ltg_read_varint(r);
	ref->min_xid = ltg_read_varint(r);
	ref->max_xid = ltg_read_varint(r);
	read_bound(r, &ref->min_key);
	read_bound(r, &ref->max_key);
	if (version >= 2)
	{
		ref->dict_offset = ltg_read_varint(r);
		ref->dict_disk_len = ltg_read_varint32(r);
		ref->dict_id = ltg_read_varint(r);
	}
	return ltg_reader_ok(r) && ref->file != 0 && ref->entries > 0 &&
		ref->keys <= ref->entries && ref->height < LTG_HEIGHT_MAX &&
		ref->root_disk_len > LTG_ENV_BYTES &&
		(ref->filter_blocks == 0) == (ref->filter_block_lines == 0) &&
		(ref->dict_disk_len == 0) == (ref->dict_id == 0) &&
		(ref->dict_disk_len == 0 || ref->dict_disk_len > LTG_ENV_BYTES + LTG_DICT_HEAD);
}
