/*
 * blockio.h
 *	  Reading blocks: envelope, checksum, decompression, cache.
 */
#ifndef LTG_BLOCKIO_H
#define LTG_BLOCKIO_H

#include "base/session.h"
#include "storage/run.h"

/* Where a block is; disk_len includes the envelope. */
typedef struct LtgBlockPtr
{
	LtgFileId	file;
	uint64_t	offset;
	uint32_t	disk_len;
	uint32_t	dict_disk_len;	/* of the run's dictionary, 0: it has none */
	uint64_t	dict_offset;
	uint64_t	dict_id;
} LtgBlockPtr;

/* A block of a run. */
static inline LtgBlockPtr
ltg_run_block(const LtgRunRef *ref, uint64_t offset, uint32_t disk_len)
{
	return (LtgBlockPtr) {
		.file = ref->file, .offset = offset, .disk_len = disk_len,
		.dict_disk_len = ref->dict_disk_len, .dict_offset = ref->dict_offset,
		.dict_id = ref->dict_id
	};
}

static inline LtgBlockPtr
ltg_run_root(const LtgRunRef *ref)
{
	return ltg_run_block(ref, ref->root_offset, ref->root_disk_len);
}

/*
 * Private memory for blocks that are not in the cache: a chunk that knows its
 * capacity, grown when needed.  Zero pointer = none.
 */
extern LtgStatus ltg_private_reserve(LtgSession *s, void **owned, size_t len,
									 uint8_t **data) LTG_MUST_CHECK;
extern void ltg_private_free(LtgSession *s, void **owned);

/*
 * Read a block of the wanted type.  *data is 8-byte aligned.
 *
 * LTG_CACHE_NORMAL, LTG_CACHE_POINT, LTG_CACHE_SPARE: REQUIRES an epoch if the session has a
 * cache.  *data points into the cache (valid until the epoch is left) or into
 * *owned.
 * LTG_CACHE_PEEK: needs no epoch, *data is always in *owned.
 */
extern LtgStatus ltg_block_read(LtgSession *s, const LtgBlockPtr *at, uint8_t type,
								LtgCacheUse use, void **owned,
								const uint8_t **data, uint32_t *len) LTG_MUST_CHECK;

/*
 * Turn the pointer to a data block whose key goes on (LTG_BF_MORE) into that of the block
 * behind it (R7).  Its length is looked up in the file.
 */
extern LtgStatus ltg_block_behind(LtgSession *s, LtgBlockPtr *at) LTG_MUST_CHECK;
/* Are the versions in there of that key? */
extern LtgStatus ltg_block_check_rest(LtgSession *s, const LtgBlockPtr *at, const uint8_t *data,
									  const uint8_t *key, uint32_t key_len) LTG_MUST_CHECK;

/* ltg_block_read, always from the file, to *owned. */
extern LtgStatus ltg_block_read_file(LtgSession *s, const LtgBlockPtr *at, uint8_t type,
									 void **owned, const uint8_t **data, uint32_t *len) LTG_MUST_CHECK;

/*
 * Bring what the processor needs to find a cached block nearer: `next` is about
 * to be read, `after` is the one behind it (0: none).  REQUIRES an epoch.
 */
extern void ltg_block_prefetch(LtgSession *s, LtgFileId file, uint64_t next, uint64_t after);

/* Read bytes of a data file, exactly len of them, else LTG_CORRUPT. */
extern LtgStatus ltg_file_read_exact(LtgSession *s, LtgFileId file, void *buf,
									 size_t len, uint64_t offset) LTG_MUST_CHECK;

/*
 * Bring the block at this place into the cache (touch: as one that is used more
 * than once).  LTG_NOT_FOUND: it is there, or there is no frame for it; LTG_CORRUPT
 * when no whole block begins here, or one that needs a dictionary, which *where does
 * not name (its disk_len does not matter).  REQUIRES: inside an epoch.
 */
extern LtgStatus ltg_block_warm(LtgSession *s, const LtgBlockPtr *where, bool touch) LTG_MUST_CHECK;

/*
 * Enter a block that has just been written into the cache, as it was before it
 * was compressed, if there is a frame for it.  What it pushes out waits for the
 * merge's epoch, which may be long, so readers are left half of the spare frames.
 */
extern void ltg_block_enter(LtgSession *s, LtgFileId file, uint64_t offset,
							const uint8_t *raw, uint32_t len);

/* Scratch for the inner blocks of a point read, when they bypass the cache. */
extern LtgStatus ltg_inner_scratch(LtgSession *s, void ***owned) LTG_MUST_CHECK;

/* Frees what the session keeps for block reads; ltg_file_cache_destroy calls it. */
extern void ltg_blockio_free(LtgSession *s);

#endif
