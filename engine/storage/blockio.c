/*
 * blockio.c
 *	  Reading blocks: envelope, checksum, decompression, cache.
 *
 * Every block that is read from a file passes its checksum, its type and its
 * sizes here before anybody looks at its contents; what is in the cache has
 * passed.
 *
 * Without a cache (a session without a shared region) a normal read is like a
 * peek: the block goes to private memory.
 */
#include "storage/blockio.h"

#include "base/coding.h"
#include "base/crc32c.h"
#include "storage/block.h"
#include "storage/cache.h"
#include "storage/columns.h"
#include "storage/compress.h"
#include "storage/diffs.h"
#include "storage/file.h"
#include "storage/format.h"
#include "storage/packed.h"

/* Kept by the session between reads. */
typedef struct BlockCtx
{
	uint8_t    *disk;			/* a block as it is in the file */
	size_t		disk_cap;
	LtgDecompressor *d;
	uint8_t    *packed;			/* a block in another form than in memory */
	size_t		packed_cap;
	uint8_t    *entries;		/* of a block with differences, and as many bytes as it has */
	size_t		entries_cap;
	void	   *inner;			/* private memory for inner blocks and filters */
} BlockCtx;

/* In front of private blocks; keeps them 16-byte aligned. */
typedef struct Chunk
{
	size_t		cap;
	uint64_t	pad;
} Chunk;

/* Scratch beyond this is given back after use. */
#define SCRATCH_KEEP (1024 * 1024)

LtgStatus
ltg_private_reserve(LtgSession *s, void **owned, size_t len, uint8_t **data)
{
	Chunk	   *c = *owned;

	if (c == NULL || c->cap < len)
	{
		ltg_private_free(s, owned);
		c = s->port->alloc(s->port, sizeof(Chunk) + len);
		if (c == NULL)
			return ltg_fail(s, LTG_NOMEM, "out of memory for a block of %zu bytes", len);
		c->cap = len;
		*owned = c;
	}
	*data = (uint8_t *) (c + 1);
	return LTG_OK;
}

void
ltg_private_free(LtgSession *s, void **owned)
{
	if (*owned != NULL)
		s->port->free(s->port, *owned);
	*owned = NULL;
}

/* NULL, and an error, when there is no memory. */
static BlockCtx *
block_ctx(LtgSession *s)
{
	if (s->block_ctx == NULL)
	{
		s->block_ctx = s->port->alloc(s->port, sizeof(BlockCtx));
		if (s->block_ctx == NULL)
			(void) ltg_fail(s, LTG_NOMEM, "out of memory for reading blocks");
		else
			memset(s->block_ctx, 0, sizeof(BlockCtx));
	}
	return s->block_ctx;
}

void
ltg_blockio_free(LtgSession *s)
{
	BlockCtx   *c = s->block_ctx;

	if (c == NULL)
		return;
	if (c->disk != NULL)
		s->port->free(s->port, c->disk);
	if (c->packed != NULL)
		s->port->free(s->port, c->packed);
	if (c->entries != NULL)
		s->port->free(s->port, c->entries);
	ltg_private_free(s, &c->inner);
	ltg_decompressor_free(s, c->d);
	s->port->free(s->port, c);
	s->block_ctx = NULL;
}

LtgStatus
ltg_inner_scratch(LtgSession *s, void ***owned)
{
	BlockCtx   *c = block_ctx(s);

	if (c == NULL)
		return LTG_NOMEM;
	*owned = &c->inner;
	return LTG_OK;
}

LtgStatus
ltg_file_read_exact(LtgSession *s, LtgFileId file, void *buf, size_t len, uint64_t offset)
{
	LtgFile    *f;
	LtgError	e = {0};
	size_t		nread = 0;
	LtgStatus	st;

	LTG_TRY(ltg_file_get(s, file, &f));
	st = s->port->file_read(s->port, f, buf, len, offset, &nread, &e);
	if (st != LTG_OK)
		return ltg_fail_port(s, st, &e, file, offset);
	if (nread != len)
		return ltg_fail_corrupt(s, file, offset, "file is too short: %zu bytes are missing",
								len - nread);
	return LTG_OK;
}

/* At least len bytes of scratch memory, whose contents may be lost. */
static LtgStatus
scratch(LtgSession *s, uint8_t **mem, size_t *cap, size_t len)
{
	if (*cap >= len)
		return LTG_OK;
	if (*mem != NULL)
		s->port->free(s->port, *mem);
	*cap = 0;
	*mem = s->port->alloc(s->port, len);
	if (*mem == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a block of %zu bytes", len);
	*cap = len;
	return LTG_OK;
}

static LtgStatus
check_length(LtgSession *s, const LtgBlockPtr *at)
{
	if (at->disk_len <= LTG_ENV_BYTES || at->disk_len - LTG_ENV_BYTES > LTG_BLOCK_MAX)
		return ltg_fail_corrupt(s, at->file, at->offset, "impossible block length %u",
								at->disk_len);
	return LTG_OK;
}

/* Verify the envelope of a block that is in memory as it is in the file. */
static LtgStatus
check_envelope(LtgSession *s, const uint8_t *disk, const LtgBlockPtr *at, uint8_t type)
{
	uint8_t		place[16];
	uint32_t	crc;

	if (ltg_load32(disk + LTG_ENV_STORED) != at->disk_len - LTG_ENV_BYTES)
		return ltg_fail_corrupt(s, at->file, at->offset, "block length is %u, expected %u",
								ltg_load32(disk + LTG_ENV_STORED),
								at->disk_len - LTG_ENV_BYTES);
	ltg_store64(place, at->file);
	ltg_store64(place + 8, at->offset);
	crc = ltg_crc32c(0, place, sizeof(place));
	crc = ltg_crc32c(crc, disk + LTG_ENV_STORED, at->disk_len - LTG_ENV_STORED);
	if (crc != ltg_load32(disk + LTG_ENV_CRC))
		return ltg_fail_corrupt(s, at->file, at->offset, "checksum is %08X, expected %08X",
								crc, ltg_load32(disk + LTG_ENV_CRC));
	if (disk[LTG_ENV_TYPE] != type)
		return ltg_fail_corrupt(s, at->file, at->offset, "block type is %u, expected %u",
								disk[LTG_ENV_TYPE], type);
	if (ltg_load32(disk + LTG_ENV_RAW) > LTG_BLOCK_MAX ||
		ltg_load32(disk + LTG_ENV_RAW) == 0 ||
		((disk[LTG_ENV_STRIDE] != 0 || disk[LTG_ENV_FORM] != 0) && type != LTG_BLOCK_DATA) ||
		disk[LTG_ENV_FORM] > LTG_EF_ALL)
		return ltg_fail_corrupt(s, at->file, at->offset, "block header makes no sense");
	return LTG_OK;
}

LtgStatus
ltg_block_behind(LtgSession *s, LtgBlockPtr *at)
{
	uint8_t		env[LTG_ENV_BYTES];

	at->offset += at->disk_len;
	LTG_TRY(ltg_file_read_exact(s, at->file, env, sizeof(env), at->offset));
	at->disk_len = LTG_ENV_BYTES;
	if (ltg_load32(env + LTG_ENV_STORED) <= LTG_BLOCK_MAX)
		at->disk_len += ltg_load32(env + LTG_ENV_STORED);
	return check_length(s, at);
}

LtgStatus
ltg_block_check_rest(LtgSession *s, const LtgBlockPtr *at, const uint8_t *data,
					 const uint8_t *key, uint32_t key_len)
{
	uint8_t		first[LTG_KEY_MAX];
	uint32_t	len = ltg_block_key(data, 0, first);

	if (ltg_load32(data + LTG_BH_KEYS) != 1 || ltg_key_cmp(first, len, key, key_len) != 0)
		return ltg_fail_corrupt(s, at->file, at->offset, "block does not go on with the key of the one before");
	return LTG_OK;
}

/*
 * Does it pay to keep the block in memory as it is in the file?  A filter or a
 * block that did not compress would be twice the same.
 */
static bool
worth_packing(const uint8_t *disk, const LtgBlockPtr *at)
{
	return at->disk_len <= ltg_load32(disk + LTG_ENV_RAW) / 4 * 3;
}

/* What a read has to do with the compressed blocks in memory. */
typedef enum PackedUse
{
	PACKED_NONE,				/* the file is what matters */
	PACKED_LOOK,				/* take it from there, and leave no trace */
	PACKED_KEEP
} PackedUse;

/* Read the block's bytes into the session's scratch and verify the envelope. */
static LtgStatus
read_envelope(LtgSession *s, BlockCtx *c, const LtgBlockPtr *at, uint8_t type, PackedUse use)
{
	bool		packed;

	LTG_TRY(check_length(s, at));
	LTG_TRY(scratch(s, &c->disk, &c->disk_cap, at->disk_len));
	packed = s->packed != NULL && use != PACKED_NONE &&
		ltg_packed_get(s, s->packed, at->file, at->offset, c->disk, at->disk_len,
					   use == PACKED_KEEP);
	if (!packed)
		LTG_TRY(ltg_file_read_exact(s, at->file, c->disk, at->disk_len, at->offset));
	LTG_TRY(check_envelope(s, c->disk, at, type));
	if (use == PACKED_KEEP && !packed && s->packed != NULL && worth_packing(c->disk, at))
		ltg_packed_put(s, s->packed, at->file, at->offset, c->disk, at->disk_len);
	return LTG_OK;
}

/*
 * With memory of its own: it is asked for while a block waits in the scratch
 * for its dictionary.
 */
LtgStatus
ltg_run_dictionary(LtgSession *s, const LtgRunRef *ref, uint8_t **dict, uint32_t *len)
{
	LtgBlockPtr at = {.file = ref->file, .offset = ref->dict_offset, .disk_len = ref->dict_disk_len};
	const uint32_t head = LTG_ENV_BYTES + LTG_DICT_HEAD;
	uint8_t    *disk;
	LtgStatus	st;

	*dict = NULL;
	*len = 0;
	if (at.disk_len == 0)
		return LTG_OK;
	if (at.disk_len <= head || at.disk_len > head + LTG_DICT_MAX)
		return ltg_fail_corrupt(s, at.file, at.offset, "impossible dictionary length %u", at.disk_len);
	disk = s->port->alloc(s->port, at.disk_len);
	if (disk == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a dictionary of %u bytes", at.disk_len);
	st = ltg_file_read_exact(s, at.file, disk, at.disk_len, at.offset);
	if (st == LTG_OK)
		st = check_envelope(s, disk, &at, LTG_BLOCK_DICTIONARY);
	if (st == LTG_OK && (disk[LTG_ENV_CODEC] != LTG_STORED_NONE ||
						 ltg_load32(disk + LTG_ENV_RAW) != at.disk_len - LTG_ENV_BYTES ||
						 ltg_load64(disk + LTG_ENV_BYTES) != ref->dict_id))
		st = ltg_fail_corrupt(s, at.file, at.offset, "dictionary is not the run's");
	if (st != LTG_OK)
	{
		s->port->free(s->port, disk);
		return st;
	}
	*len = at.disk_len - head;
	memmove(disk, disk + head, *len);
	*dict = disk;
	return LTG_OK;
}

/* Make the dictionary of the block's run known to the decompressor. */
static LtgStatus
need_dictionary(LtgSession *s, BlockCtx *c, const LtgBlockPtr *at)
{
	LtgRunRef	ref = {.file = at->file, .dict_offset = at->dict_offset,
		.dict_disk_len = at->dict_disk_len, .dict_id = at->dict_id};
	uint8_t    *dict;
	uint32_t	len;
	LtgStatus	st;

	if (at->dict_disk_len == 0)
		return ltg_fail_corrupt(s, at->file, at->offset, "block needs a dictionary, but its run has none");
	if (ltg_decompressor_knows(c->d, at->dict_id))
		return LTG_OK;
	LTG_TRY(ltg_run_dictionary(s, &ref, &dict, &len));
	st = ltg_decompressor_learn(s, &c->d, at->dict_id, dict, len);
	s->port->free(s->port, dict);
	return st;
}

/* What c->packed has, `got` bytes, to the block; *sound: it made sense. */
static LtgStatus
unpack_form(LtgSession *s, BlockCtx *c, uint32_t got, uint8_t *dst, uint32_t raw, bool *sound)
{
	uint32_t	stride = c->disk[LTG_ENV_STRIDE] * LTG_STRIDE_UNIT;
	uint32_t	n;

	*sound = false;
	if ((c->disk[LTG_ENV_FORM] & LTG_EF_DIFFS) == 0)
	{
		*sound = got == raw + ltg_columns_extra(stride) &&
			ltg_columns_unpack(c->packed, raw, stride, dst);
		return LTG_OK;
	}
	n = ltg_diffs_entries(c->packed, got, raw);
	if (n == 0)
		return LTG_OK;
	LTG_TRY(scratch(s, &c->entries, &c->entries_cap, n * sizeof(LtgDiffsEntry) + raw));
	*sound = ltg_diffs_unpack(c->packed, got, stride, (LtgDiffsEntry *) (void *) c->entries,
							  c->entries + n * sizeof(LtgDiffsEntry), dst, raw);
	return LTG_OK;
}

/* Decompress what read_envelope left in the scratch to dst (raw length). */
static LtgStatus
unpack(LtgSession *s, BlockCtx *c, const LtgBlockPtr *at, uint8_t type, uint8_t *dst)
{
	uint32_t	raw = ltg_load32(c->disk + LTG_ENV_RAW);
	uint32_t	stride = c->disk[LTG_ENV_STRIDE] * LTG_STRIDE_UNIT;
	uint32_t	most = raw + ltg_columns_extra(stride);
	bool		as_it_is = stride == 0 && (c->disk[LTG_ENV_FORM] & LTG_EF_DIFFS) == 0;
	const uint8_t *end = c->disk + at->disk_len;	/* of what is compressed */
	uint32_t	writers = 0;	/* bytes that follow it */
	bool		sound;
	uint32_t	got;
	bool		no_memory;

	if ((c->disk[LTG_ENV_FORM] & LTG_EF_WRITERS) != 0)
	{
		/* of one stored byte, the envelope has the other */
		writers = ltg_load16(end - 2);
		if (writers + 2 > at->disk_len - LTG_ENV_BYTES)
			return ltg_fail_corrupt(s, at->file, at->offset, "block contents make no sense");
		end -= writers + 2;
	}
	if (!as_it_is)
		LTG_TRY(scratch(s, &c->packed, &c->packed_cap, most));
	if (c->disk[LTG_ENV_CODEC] == LTG_STORED_ZSTD_DICT)
		LTG_TRY(need_dictionary(s, c, at));
	if (!ltg_decompress(s, &c->d, c->disk[LTG_ENV_CODEC], at->dict_id, c->disk + LTG_ENV_BYTES,
						(uint32_t) (end - c->disk) - LTG_ENV_BYTES, as_it_is ? dst : c->packed, most, &got,
						&no_memory) || (as_it_is && got != raw))
	{
		if (no_memory)
			return ltg_fail(s, LTG_NOMEM, "out of memory for decompression");
		return ltg_fail_corrupt(s, at->file, at->offset, "block does not decompress");
	}
	sound = true;
	if (!as_it_is)
		LTG_TRY(unpack_form(s, c, got, dst, raw, &sound));
	if (!sound ||
		((type == LTG_BLOCK_DATA || type == LTG_BLOCK_INNER) && !ltg_block_check(dst, raw, type)) ||
		((c->disk[LTG_ENV_FORM] & LTG_EF_WRITERS) != 0 && !ltg_writers_unpack(end, writers, dst)))
		return ltg_fail_corrupt(s, at->file, at->offset, "block contents make no sense");
	return LTG_OK;
}

/* Give scratch back that is too large to keep. */
static void
trim(LtgSession *s, uint8_t **mem, size_t *cap)
{
	if (*cap <= SCRATCH_KEEP)
		return;
	s->port->free(s->port, *mem);
	*mem = NULL;
	*cap = 0;
}

static void
trim_scratch(LtgSession *s, BlockCtx *c)
{
	trim(s, &c->disk, &c->disk_cap);
	trim(s, &c->packed, &c->packed_cap);
	trim(s, &c->entries, &c->entries_cap);
}

/* A miss: from the file to the cache if it takes it, else to private memory. */
static LtgStatus
load(LtgSession *s, BlockCtx *c, const LtgBlockPtr *at, uint8_t type, bool insert,
	 PackedUse packed, void **owned, const uint8_t **data, uint32_t *len)
{
	LtgFrame   *frame = NULL;
	uint8_t    *dst;
	LtgStatus	st;

	LTG_TRY(read_envelope(s, c, at, type, packed));
	*len = ltg_load32(c->disk + LTG_ENV_RAW);
	if (insert)
		frame = ltg_cache_reserve(s, s->cache, *len);
	if (frame != NULL)
		dst = ltg_frame_data(frame);
	else
		LTG_TRY(ltg_private_reserve(s, owned, *len, &dst));
	st = unpack(s, c, at, type, dst);
	trim_scratch(s, c);
	if (st != LTG_OK)
	{
		if (frame != NULL)
			ltg_cache_abandon(s, s->cache, frame);
		return st;
	}
	*data = dst;
	if (frame != NULL)
		*data = ltg_cache_publish(s, s->cache, frame, at->file, at->offset, *len);
	return LTG_OK;
}

/* Copy a cached block to private memory; *data is NULL if it is not cached. */
static LtgStatus
peek(LtgSession *s, const LtgBlockPtr *at, void **owned, const uint8_t **data, uint32_t *len)
{
	const uint8_t *cached;
	uint8_t    *copy;
	LtgStatus	st = LTG_OK;

	*data = NULL;
	ltg_epoch_enter(s);
	cached = ltg_cache_peek(s, s->cache, at->file, at->offset, len);
	if (cached != NULL)
	{
		st = ltg_private_reserve(s, owned, *len, &copy);
		if (st == LTG_OK)
		{
			memcpy(copy, cached, *len);
			*data = copy;
		}
	}
	ltg_epoch_leave(s);
	return st;
}

LtgStatus
ltg_block_read(LtgSession *s, const LtgBlockPtr *at, uint8_t type, LtgCacheUse use,
			   void **owned, const uint8_t **data, uint32_t *len)
{
	BlockCtx   *c;
	PackedUse	packed;
	bool		insert;

	if (s->cache != NULL)
	{
		LTG_ASSERT(use == LTG_CACHE_PEEK || s->epoch_depth > 0);
		if (use == LTG_CACHE_NORMAL || use == LTG_CACHE_POINT)
			*data = ltg_cache_lookup(s, s->cache, at->file, at->offset, len);
		else if (use == LTG_CACHE_SPARE)
			*data = ltg_cache_peek(s, s->cache, at->file, at->offset, len);
		else
		{
			LTG_TRY(peek(s, at, owned, data, len));
			s->merged_blocks += type == LTG_BLOCK_DATA;
			s->merged_cached += type == LTG_BLOCK_DATA && *data != NULL;
		}
		if (LTG_LIKELY(*data != NULL))
		{
			s->blocks_hit++;
			/* the header's second line and what follows it, while the first
			 * is awaited; in a data block a search goes all over the keys */
			__builtin_prefetch(*data + LTG_CACHE_LINE);
			__builtin_prefetch(*data + 2 * LTG_CACHE_LINE);
			if (type == LTG_BLOCK_DATA)
			{
				__builtin_prefetch(*data + 3 * LTG_CACHE_LINE);
				__builtin_prefetch(*data + 4 * LTG_CACHE_LINE);
				__builtin_prefetch(*data + 5 * LTG_CACHE_LINE);
			}
			/* a root or child pointer that names another kind of block */
			if (LTG_UNLIKELY((type == LTG_BLOCK_DATA || type == LTG_BLOCK_INNER) &&
							 (*data)[LTG_BH_TYPE] != type))
				return ltg_fail_corrupt(s, at->file, at->offset, "block type is %u, expected %u",
										(*data)[LTG_BH_TYPE], type);
			return LTG_OK;
		}
	}
	c = block_ctx(s);
	if (c == NULL)
		return LTG_NOMEM;
	s->blocks_read++;
	insert = use == LTG_CACHE_NORMAL || use == LTG_CACHE_POINT;
	packed = insert ? PACKED_KEEP : PACKED_LOOK;
	if (s->cache == NULL)
		insert = false;
	else if (use == LTG_CACHE_POINT)
		insert = ltg_cache_wants(s, s->cache, at->file, at->offset);
	else if (use == LTG_CACHE_SPARE)
		insert = ltg_cache_has_room(s->cache);
	return load(s, c, at, type, insert, packed, owned, data, len);
}

void
ltg_block_prefetch(LtgSession *s, LtgFileId file, uint64_t next, uint64_t after)
{
	if (s->cache != NULL)
		ltg_cache_prefetch(s->cache, file, next, after);
}

LtgStatus
ltg_block_read_file(LtgSession *s, const LtgBlockPtr *at, uint8_t type, void **owned,
					const uint8_t **data, uint32_t *len)
{
	BlockCtx   *c = block_ctx(s);

	if (c == NULL)
		return LTG_NOMEM;
	return load(s, c, at, type, false, PACKED_NONE, owned, data, len);
}

LtgStatus
ltg_block_warm(LtgSession *s, const LtgBlockPtr *where, bool touch)
{
	BlockCtx   *c = block_ctx(s);
	LtgBlockPtr at = *where;
	LtgFileId	file = at.file;
	uint64_t	offset = at.offset;
	LtgFrame   *frame;
	uint8_t		env[LTG_ENV_BYTES];
	uint32_t	len;
	LtgStatus	st;

	LTG_ASSERT(s->cache != NULL && s->epoch_depth > 0);
	if (c == NULL)
		return LTG_NOMEM;
	if (ltg_cache_peek(s, s->cache, file, offset, &len) != NULL)
		return LTG_NOT_FOUND;
	LTG_TRY(ltg_file_read_exact(s, file, env, sizeof(env), offset));
	len = ltg_load32(env + LTG_ENV_RAW);
	at.disk_len = ltg_load32(env + LTG_ENV_STORED) + LTG_ENV_BYTES;
	/* stored bytes are never more than the block's */
	if (at.disk_len < LTG_ENV_BYTES || at.disk_len - LTG_ENV_BYTES > len)
		return ltg_fail_corrupt(s, file, offset, "no block begins here");
	frame = ltg_cache_reserve(s, s->cache, len);
	if (frame == NULL)
		return LTG_NOT_FOUND;
	st = read_envelope(s, c, &at, env[LTG_ENV_TYPE], PACKED_KEEP);
	if (st == LTG_OK && ltg_load32(c->disk + LTG_ENV_RAW) != len)
		st = ltg_fail_corrupt(s, file, offset, "no block begins here");
	if (st == LTG_OK)
		st = unpack(s, c, &at, env[LTG_ENV_TYPE], ltg_frame_data(frame));
	trim_scratch(s, c);
	if (st != LTG_OK)
	{
		ltg_cache_abandon(s, s->cache, frame);
		return st;
	}
	(void) ltg_cache_publish(s, s->cache, frame, file, offset, len);
	if (touch)
		ltg_cache_touch(s, s->cache, file, offset);
	return LTG_OK;
}

void
ltg_block_enter(LtgSession *s, LtgFileId file, uint64_t offset, const uint8_t *raw, uint32_t len)
{
	LtgFrame   *frame;

	if (!ltg_cache_has_room(s->cache) && ++s->merged_entered > ltg_cache_spare(s->cache) / 2)
		return;
	ltg_epoch_enter(s);
	frame = ltg_cache_reserve(s, s->cache, len);
	if (frame != NULL)
	{
		memcpy(ltg_frame_data(frame), raw, len);
		(void) ltg_cache_publish(s, s->cache, frame, file, offset, len);
	}
	ltg_epoch_leave(s);
}
