/*
 * run_read.c
 *	  Point reads, decoding of block entries, and the facts of a whole file.
 */
#include "storage/run.h"

#include "base/coding.h"
#include "base/crc32c.h"
#include "storage/block.h"
#include "storage/blockio.h"
#include "storage/file.h"
#include "storage/filter.h"
#include "storage/format.h"

/* ---- point reads ---- */

/* *pass = false: the run certainly does not have the key. */
static LtgStatus
probe_filter(LtgSession *s, const LtgRunRef *ref, uint64_t hash, bool *pass)
{
	LtgFilterShape f = {ref->filter_blocks, ref->filter_block_lines};
	LtgBlockPtr at = {.file = ref->file};
	const uint8_t *data;
	uint32_t	len;
	uint32_t	line;
	void	  **owned;

	at.disk_len = LTG_ENV_BYTES + f.lines * LTG_FILTER_LINE;
	at.offset = ref->filter_offset + (uint64_t) ltg_filter_place(&f, hash, &line) * at.disk_len;
	LTG_TRY(ltg_inner_scratch(s, &owned));
	LTG_TRY(ltg_block_read(s, &at, LTG_BLOCK_FILTER, LTG_CACHE_NORMAL, owned, &data, &len));
	if (len != f.lines * LTG_FILTER_LINE)
		return ltg_fail_corrupt(s, at.file, at.offset, "filter block has %u bytes, expected %u",
								len, f.lines * LTG_FILTER_LINE);
	*pass = ltg_filter_test(data + (size_t) line * LTG_FILTER_LINE, hash);
	return LTG_OK;
}

/* From the root to the data block that may hold the key. */
static LtgStatus
descend(LtgSession *s, const LtgRunRef *ref, const uint8_t *key, uint32_t key_len, LtgPoint *p)
{
	LtgBlockPtr at = ltg_run_root(ref);
	const uint8_t *data;
	uint32_t	len;
	uint32_t	lv;
	void	  **scratch;

	for (lv = ref->height; lv > 0; lv--)
	{
		LTG_TRY(ltg_inner_scratch(s, &scratch));
		LTG_TRY(ltg_block_read(s, &at, LTG_BLOCK_INNER, LTG_CACHE_NORMAL, scratch, &data, &len));
		ltg_inner_child(data, ltg_inner_find(data, key, key_len), &at.offset, &at.disk_len);
	}
	LTG_TRY(ltg_block_read(s, &at, LTG_BLOCK_DATA, p->again ? LTG_CACHE_NORMAL : LTG_CACHE_POINT,
						   &p->owned, &data, &len));
	p->ref = ref;
	p->block = data;
	p->block_len = len;
	p->file = at.file;
	p->offset = at.offset;
	p->disk_len = at.disk_len;
	return LTG_OK;
}

/* The key's versions in the block that p stands in. */
static LtgStatus
find_in_block(const uint8_t *key, uint32_t key_len, LtgPoint *p, LtgVersion *v)
{
	bool		found;

	p->entry = ltg_block_lower_bound(p->block, key, key_len, &found);
	if (!found)
		return LTG_NOT_FOUND;
	p->end = ltg_block_group_end(p->block, p->entry);
	ltg_block_version(p->block, p->entry, v);
	return LTG_OK;
}

LtgStatus
ltg_run_get(LtgSession *s, const LtgRunRef *ref, const uint8_t *key, uint32_t key_len,
			uint64_t hash, bool use_filter, LtgPoint *p, LtgVersion *v)
{
	bool		found = false;

	p->block = NULL;
	if (use_filter)
	{
		if (!ltg_bound_may_contain(&ref->min_key, &ref->max_key, key, key_len))
			return LTG_NOT_FOUND;
		if (ref->filter_blocks > 0)
		{
			LTG_TRY(probe_filter(s, ref, hash, &found));
			if (!found)
				return LTG_NOT_FOUND;
		}
	}
	LTG_TRY(descend(s, ref, key, key_len, p));
	return find_in_block(key, key_len, p, v);
}

LtgStatus
ltg_run_get_block(LtgSession *s, const LtgRunRef *ref, uint64_t offset, uint32_t disk_len,
				  const uint8_t *key, uint32_t key_len, LtgPoint *p, LtgVersion *v)
{
	LtgBlockPtr at = ltg_run_block(ref, offset, disk_len);

	p->block = NULL;
	LTG_TRY(ltg_block_read(s, &at, LTG_BLOCK_DATA, LTG_CACHE_NORMAL, &p->owned, &p->block,
						   &p->block_len));
	p->ref = ref;
	p->file = at.file;
	p->offset = offset;
	p->disk_len = disk_len;
	return find_in_block(key, key_len, p, v);
}

void
ltg_point_edge_key(const LtgPoint *p, bool last, uint8_t *key_buf, uint32_t *key_len)
{
	*key_len = ltg_block_key(p->block, last ? ltg_block_n(p->block) - 1 : 0, key_buf);
}

/* On to the block behind, which has more versions of the one key of this block. */
static LtgStatus
go_behind(LtgSession *s, LtgPoint *p)
{
	LtgBlockPtr at = ltg_run_block(p->ref, p->offset, p->disk_len);
	uint8_t		key[LTG_KEY_MAX];
	uint32_t	key_len = ltg_block_key(p->block, p->entry, key);

	LTG_TRY(ltg_block_behind(s, &at));
	LTG_TRY(ltg_block_read(s, &at, LTG_BLOCK_DATA, LTG_CACHE_POINT, &p->owned, &p->block,
						   &p->block_len));
	p->offset = at.offset;
	p->disk_len = at.disk_len;
	p->entry = 0;
	p->end = ltg_block_n(p->block);
	return ltg_block_check_rest(s, &at, p->block, key, key_len);
}

LtgStatus
ltg_point_older(LtgSession *s, LtgPoint *p, LtgVersion *v)
{
	LTG_ASSERT(p->block != NULL);
	if (p->entry + 1 >= p->end)
	{
		if (LTG_LIKELY((p->block[LTG_BH_FLAGS] & LTG_BF_MORE) == 0))
			return LTG_END;
		LTG_TRY(go_behind(s, p));
	}
	else
		p->entry++;
	ltg_block_version(p->block, p->entry, v);
	return LTG_OK;
}

void
ltg_point_close(LtgSession *s, LtgPoint *p)
{
	ltg_private_free(s, &p->owned);
	p->block = NULL;
}

void
ltg_block_entry(const uint8_t *data, uint32_t len, uint32_t i, uint8_t *key_buf,
				uint32_t *key_len, LtgVersion *v)
{
	(void) len;
	LTG_ASSERT(len >= LTG_BH_BYTES && i < ltg_block_n(data));
	if (key_buf != NULL)
		*key_len = ltg_block_key(data, i, key_buf);
	ltg_block_version(data, i, v);
}

/* ---- whole-file facts ---- */

static LtgStatus
read_trailer(LtgSession *s, LtgFileId id, uint64_t *file_bytes, uint32_t *version,
			 LtgBlockPtr *dir)
{
	LtgFile    *f;
	LtgError	e = {0};
	uint8_t		t[LTG_TR_BYTES];
	uint64_t	size;
	uint64_t	at;
	uint32_t	crc;
	LtgStatus	st;

	LTG_TRY(ltg_file_get(s, id, &f));
	st = s->port->file_size(s->port, f, &size, &e);
	if (st != LTG_OK)
		return ltg_fail_port(s, st, &e, id, 0);
	if (size < LTG_TR_BYTES)
		return ltg_fail_corrupt(s, id, 0, "file of %llu bytes is too short for a trailer",
								(unsigned long long) size);
	at = size - LTG_TR_BYTES;
	LTG_TRY(ltg_file_read_exact(s, id, t, sizeof(t), at));
	if (ltg_load64(t + LTG_TR_MAGIC) != LTG_RUN_MAGIC)
		return ltg_fail_corrupt(s, id, at, "file does not end with a trailer");
	crc = ltg_crc32c(0, t, LTG_TR_CRC);
	crc = ltg_crc32c(crc, t + LTG_TR_VERSION, LTG_TR_BYTES - LTG_TR_VERSION);
	if (crc != ltg_load32(t + LTG_TR_CRC))
		return ltg_fail_corrupt(s, id, at, "checksum of the trailer is %08X, expected %08X",
								crc, ltg_load32(t + LTG_TR_CRC));
	*version = ltg_load32(t + LTG_TR_VERSION);
	if (*version > LTG_FORMAT_VERSION)
		return ltg_fail(s, LTG_VERSION, "data file %016llx has format version %u, this software knows %u",
						(unsigned long long) id, *version, LTG_FORMAT_VERSION);
	*dir = (LtgBlockPtr) {
		.file = id, .offset = ltg_load64(t + LTG_TR_DIR_OFFSET),
		.disk_len = ltg_load32(t + LTG_TR_DIR_LEN)
	};
	if (ltg_load64(t + LTG_TR_FILE) != id)
		return ltg_fail_corrupt(s, id, at, "file says it is %016llx",
								(unsigned long long) ltg_load64(t + LTG_TR_FILE));
	if (ltg_load32(t + LTG_TR_ZERO) != 0 || dir->offset > at || at - dir->offset != dir->disk_len)
		return ltg_fail_corrupt(s, id, at, "directory does not end where the trailer begins");
	*file_bytes = size;
	return LTG_OK;
}

/* Do the blocks a reference names lie in front of the directory? */
static bool
ref_in_file(const LtgRunRef *ref, LtgFileId id, uint64_t end)
{
	uint64_t	filter_bytes = (uint64_t) ref->filter_blocks *
		(LTG_ENV_BYTES + (uint64_t) ref->filter_block_lines * LTG_FILTER_LINE);

	return ref->file == id && ref->root_offset < end &&
		ref->root_disk_len <= end - ref->root_offset &&
		ref->filter_offset <= end && filter_bytes <= end - ref->filter_offset &&
		ref->dict_offset <= end && ref->dict_disk_len <= end - ref->dict_offset;
}

LtgStatus
ltg_file_verify(LtgSession *s, LtgFileId id, uint64_t *file_bytes, LtgDirEntryFn fn, void *arg)
{
	LtgBlockPtr at;
	const uint8_t *data;
	uint32_t	len;
	void	   *owned = NULL;
	LtgReader	r;
	uint32_t	version = 0;
	uint64_t	n;
	LtgStatus	st;

	LTG_TRY(read_trailer(s, id, file_bytes, &version, &at));
	st = ltg_block_read_file(s, &at, LTG_BLOCK_DIRECTORY, &owned, &data, &len);
	if (st != LTG_OK)
		goto cleanup;
	r = ltg_reader(data, len);
	for (n = ltg_read_varint(&r); n > 0 && ltg_reader_ok(&r); n--)
	{
		LtgRunRef	ref;
		uint32_t	key_len = ltg_read_varint32(&r);
		const uint8_t *key = ltg_read_bytes(&r, key_len);

		if (key == NULL || key_len > LTG_STORE_KEY_MAX || !ltg_run_ref_decode(&r, version, &ref) ||
			!ref_in_file(&ref, id, at.offset))
			break;
		if (fn != NULL)
		{
			st = fn(arg, key, key_len, &ref);
			if (st != LTG_OK)
				goto cleanup;
		}
	}
	if (n > 0 || !ltg_reader_ok(&r) || ltg_reader_left(&r) > 0)
		st = ltg_fail_corrupt(s, id, at.offset, "directory makes no sense");

cleanup:
	ltg_private_free(s, &owned);
	return st;
}
