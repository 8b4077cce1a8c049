/*
 * run.h
 *	  Immutable B+tree runs: the writer, the point reader, the iterator.
 *
 * A data file holds one run for each store that has entries in it, in the
 * order of the stores' numbers: data blocks, inner blocks, filter blocks, then
 * the file's directory and trailer.  A flush writes one file with many runs
 * (a segment); a compaction writes files with one run.
 *
 * Invariants of a run
 *	 R1. Entries are in key order (memcmp, shorter first); the versions of one
 *		 key follow each other newest (largest seq) first.
 *	 R2. All versions of one key are in one data block, or in several that have
 *		 nothing else (R7).
 *	 R3. Every block is in an envelope with codec, type, sizes and a CRC32C
 *		 that also covers the file's number and the block's offset, so that
 *		 a block read from the wrong place never passes.
 *	 R4. Separators in inner blocks are lower bounds: child i holds keys
 *		 >= separator i and < separator i+1.
 *	 R5. min_xid is the smallest xid of any unresolved or committed (not
 *		 settled) version, 0 if there is none.
 *	 R6. A run may be cut: keys below min_key, which is exact then, are in the
 *		 file but not in the run any more.  Its counts are those of the whole.
 *	 R7. If a key's versions are too many for a block, the next ones are in the block
 *		 right behind it in the file, and so on (LTG_BF_MORE).  Inner blocks know
 *		 only the first of these: who wants the newest version reads no other.
 *
 * Pointers in LtgVersion and keys returned by readers stay valid until the
 * reader is moved or closed, or the epoch is left, whichever is first.
 */
#ifndef LTG_RUN_H
#define LTG_RUN_H

#include "base/session.h"
#include "base/version.h"

/* Truncated key bound: first bytes of a key; enough to skip runs cheaply. */
#define LTG_BOUND_BYTES 22
typedef struct LtgBound
{
	uint8_t		len;			/* bytes used, <= LTG_BOUND_BYTES */
	uint8_t		truncated;		/* the real key is longer */
	uint8_t		bytes[LTG_BOUND_BYTES];
} LtgBound;

extern void ltg_bound_set(LtgBound *b, const uint8_t *key, uint32_t key_len);
/* Conservative: true unless key is certainly below min / above max. */
extern bool ltg_bound_may_contain(const LtgBound *min, const LtgBound *max,
								  const uint8_t *key, uint32_t key_len);
extern int	ltg_key_cmp(const uint8_t *a, uint32_t a_len,
						const uint8_t *b, uint32_t b_len);

/* Everything a reader needs to know of a run; lives in shared run sets and,
 * encoded, in file directories and manifests. */
typedef struct LtgRunRef
{
	LtgFileId	file;
	uint64_t	root_offset;
	uint32_t	root_disk_len;
	uint32_t	height;			/* 0: the root is a data block */
	uint64_t	filter_offset;
	uint32_t	filter_blocks;	/* 0: no filter */
	uint32_t	filter_block_lines;	/* 64-byte lines in each filter block */
	uint32_t	level;			/* 0 = newest, may overlap; >= 1 disjoint */
	uint64_t	age;			/* level 0: larger is newer */
	uint64_t	entries;		/* versions */
	uint64_t	keys;
	uint64_t	tombstones;		/* DELETE and GONE versions */
	uint64_t	unsettled;		/* versions not SETTLED */
	uint64_t	disk_bytes;		/* of this run in the file */
	uint64_t	raw_bytes;		/* before compression */
	LtgSeq		min_seq, max_seq;	/* of the versions added with a seq */
	LtgXid		min_xid, max_xid;
	LtgBound	min_key, max_key;
	bool		cut;			/* R6; in manifests, never in a file's directory */
	uint64_t	dict_offset;	/* of the dictionary block */
	uint32_t	dict_disk_len;	/* 0: no dictionary */
	uint64_t	dict_id;		/* runs with copies of one dictionary share it */
} LtgRunRef;

/* Portable encoding of a reference, for directories and manifests.  Encode
 * returns the length; decode is false when the bytes make no sense. */
#define LTG_RUN_REF_MAX 288
struct LtgReader;				/* base/coding.h */
extern uint32_t ltg_run_ref_encode(uint8_t *buf, const LtgRunRef *ref);
/* version: of the file or manifest that it stands in. */
extern bool ltg_run_ref_decode(struct LtgReader *r, uint64_t version, LtgRunRef *ref);

/* How a run's blocks are compressed. */
typedef enum LtgCodecChoice
{
	LTG_CODEC_NONE = 0,
	LTG_CODEC_LZ4 = 1,
	LTG_CODEC_ZSTD = 2,
	LTG_CODEC_ADAPTIVE = 3		/* per block, whichever pays */
} LtgCodecChoice;

typedef struct LtgCompressor LtgCompressor;	/* storage/compress.h */

typedef struct LtgRunOptions
{
	uint32_t	block_size;		/* target raw bytes of a data block */
	LtgCodecChoice codec;
	int			zstd_level;
	uint32_t	filter_bits_per_key;	/* 0: no filters */
	uint64_t	expected_keys;	/* of the next run, 0: not known; a hint for the
								 * memory of very large filters */
	bool		last_level;		/* will be read and rewritten seldom: size counts
								 * more; dictionaries only here */
	uint32_t	sample_bytes;	/* raw bytes that decide how a run of the last level
								 * is compressed, 0: the default */
	/* A dictionary to begin with, from a run of the same store; NULL: none. */
	const uint8_t *dict;
	uint32_t	dict_len;
	uint64_t	dict_id;
	/* The caller's, which outlives the writer; NULL: the writer makes one. */
	LtgCompressor *compressor;
	bool		like_before;	/* more of the same: what `compressor` has learnt holds,
								 * and dict (NULL: none) is what it uses */
} LtgRunOptions;

/* ---- writer: one per file ---- */
typedef struct LtgFileWriter LtgFileWriter;

/* Creates "<id>.run.tmp".  store_key is opaque to this layer (identifies the
 * store in the directory), at most 32 bytes. */
extern LtgStatus ltg_writer_open(LtgSession *s, LtgFileId id, const LtgRunOptions *opt,
								 LtgFileWriter **w) LTG_MUST_CHECK;
extern LtgStatus ltg_writer_begin_run(LtgFileWriter *w, const void *store_key,
									  uint32_t store_key_len, const LtgRunOptions *opt) LTG_MUST_CHECK;
/* LTG_INVALID when keys are not in order (R1) or the version is ABORTED.  After
 * any failure only ltg_writer_abort is allowed. */
extern LtgStatus ltg_writer_add(LtgFileWriter *w, const uint8_t *key, uint32_t key_len,
								const LtgVersion *v) LTG_MUST_CHECK;
/* Ends the run; *ref is filled except level and age.  A run without entries
 * gives ref->entries == 0 and leaves no trace in the file. */
extern LtgStatus ltg_writer_end_run(LtgFileWriter *w, LtgRunRef *ref) LTG_MUST_CHECK;
extern uint64_t ltg_writer_bytes(const LtgFileWriter *w);	/* so far, about */
/* Directory, trailer, sync, close, rename to "<id>.run", sync directory. */
extern LtgStatus ltg_writer_finish(LtgFileWriter *w, uint64_t *file_bytes) LTG_MUST_CHECK;
/* Close and remove the temporary file (the file itself when finish failed after
 * the rename); frees w. */
extern void ltg_writer_abort(LtgFileWriter *w);
extern void ltg_writer_free(LtgFileWriter *w);	/* after a successful finish */

/* A copy of a run's dictionary, from port->alloc; *dict is NULL if it has none. */
extern LtgStatus ltg_run_dictionary(LtgSession *s, const LtgRunRef *ref, uint8_t **dict,
									uint32_t *len) LTG_MUST_CHECK;

/* ---- whole-file facts ---- */
typedef LtgStatus (*LtgDirEntryFn) (void *arg, const void *store_key,
									uint32_t store_key_len, const LtgRunRef *ref);
/* Read and verify trailer and directory; calls fn (may be NULL) per run. */
extern LtgStatus ltg_file_verify(LtgSession *s, LtgFileId id, uint64_t *file_bytes,
								 LtgDirEntryFn fn, void *arg) LTG_MUST_CHECK;
/* Read every byte of one run: all checksums, R1-R5, the filter against every
 * key, counts against ref. */
extern LtgStatus ltg_run_check(LtgSession *s, const LtgRunRef *ref) LTG_MUST_CHECK;

/* ---- point reads ---- */

/* 64-bit hash of a key: memtable, filters and stripes all use this one. */
extern uint64_t ltg_key_hash(const uint8_t *key, uint32_t key_len);

/*
 * A cursor on the versions of one key.  Zero-initialise before first use; may
 * be reused; ltg_point_close frees private memory (bypassed blocks).
 */
typedef struct LtgPoint
{
	const uint8_t *block;
	uint32_t	block_len;
	uint32_t	entry;			/* index of the current version in the block */
	uint32_t	end;			/* one past the key's last version in this block */
	const LtgRunRef *ref;
	bool		again;			/* set by the caller: reads of the same block follow */
	void	   *owned;			/* private copy of a block that is not cached */
	LtgFileId	file;			/* where the block is */
	uint64_t	offset;
	uint32_t	disk_len;
} LtgPoint;

/* REQUIRES: inside an epoch (if the session has a cache).  LTG_NOT_FOUND when
 * the run has no such key (filter and bounds are consulted when use_filter).
 * On LTG_OK *v is the newest version.  A point may be used again and again; it
 * keeps what private memory it has until ltg_point_close. */
extern LtgStatus ltg_run_get(LtgSession *s, const LtgRunRef *ref, const uint8_t *key,
							 uint32_t key_len, uint64_t hash, bool use_filter,
							 LtgPoint *p, LtgVersion *v) LTG_MUST_CHECK;
/* The same within one data block of the run, which the caller knows to be the
 * only one that may hold the key. */
extern LtgStatus ltg_run_get_block(LtgSession *s, const LtgRunRef *ref, uint64_t offset,
								   uint32_t disk_len, const uint8_t *key, uint32_t key_len,
								   LtgPoint *p, LtgVersion *v) LTG_MUST_CHECK;
/* First or last key of the block the look-up ended in (also when it found
 * nothing, if p->block != NULL).  key_buf: LTG_KEY_MAX. */
extern void ltg_point_edge_key(const LtgPoint *p, bool last, uint8_t *key_buf,
							   uint32_t *key_len);
/* Next older version of the same key, or LTG_END. */
extern LtgStatus ltg_point_older(LtgSession *s, LtgPoint *p, LtgVersion *v) LTG_MUST_CHECK;
extern void ltg_point_close(LtgSession *s, LtgPoint *p);

/*
 * ---- iteration, by key in both directions ----
 *
 * Epochs.  With LTG_CACHE_NORMAL every call but open and close REQUIRES an
 * epoch, and a position ends with the epoch it was taken in: after leaving and
 * entering again, only the seek calls may follow.  With LTG_CACHE_PEEK blocks
 * are copied to the iterator's own memory: no epoch is needed, and position and
 * pointers live until the iterator is moved or closed, whatever epochs come
 * and go.  LTG_CACHE_SPARE is like NORMAL in this.  With PEEK the
 * caller sees to it that the file is not removed (its run is reserved by a
 * compaction, or an epoch or lock protects the run set).
 *
 * After LTG_END or an error there is no position; only seeks may follow.  A
 * session without a cache reads everything to private memory.
 */
typedef enum LtgCacheUse
{
	LTG_CACHE_NORMAL,			/* look up, insert on a miss */
	LTG_CACHE_PEEK,				/* copy cached blocks, never insert (compaction,
								 * check) */
	LTG_CACHE_SPARE,			/* look up without a trace, insert on a miss
								 * while there is room (huge scans) */
	LTG_CACHE_POINT				/* look up, insert on a miss if ltg_cache_wants
								 * it (single data blocks) */
} LtgCacheUse;

typedef struct LtgRunIter LtgRunIter;

extern LtgStatus ltg_run_iter_open(LtgSession *s, const LtgRunRef *ref, LtgCacheUse use,
								   LtgRunIter **it) LTG_MUST_CHECK;
extern void ltg_run_iter_close(LtgRunIter *it);
/* Position at a key; LTG_END when there is none.  first/last: NULL key. */
extern LtgStatus ltg_run_iter_seek_ge(LtgRunIter *it, const uint8_t *key, uint32_t key_len) LTG_MUST_CHECK;
extern LtgStatus ltg_run_iter_seek_le(LtgRunIter *it, const uint8_t *key, uint32_t key_len) LTG_MUST_CHECK;
extern LtgStatus ltg_run_iter_next_key(LtgRunIter *it) LTG_MUST_CHECK;
extern LtgStatus ltg_run_iter_prev_key(LtgRunIter *it) LTG_MUST_CHECK;
/* The current key (contiguous bytes) and its newest version; then older ones
 * by ltg_run_iter_older (LTG_END after the oldest). Positioning resets it. */
extern void ltg_run_iter_key(LtgRunIter *it, const uint8_t **key, uint32_t *key_len);
extern void ltg_run_iter_version(LtgRunIter *it, LtgVersion *v);
extern LtgStatus ltg_run_iter_older(LtgRunIter *it, LtgVersion *v) LTG_MUST_CHECK;

/*
 * Whole-block access for the fast scan.  A block is "plain" when every key has
 * exactly one version, all are PUT, and all share one state: settled, or one
 * (xid, cid) for the whole block.  One that a cut (R6) goes through is not.
 */
typedef struct LtgBlockView
{
	const uint8_t *data;		/* decompressed data block */
	uint32_t	len;
	LtgFileId	file;			/* where it comes from: its name, while the
								 * memory may be used for another block */
	uint64_t	offset;
	uint32_t	n;				/* entries (= keys when plain) */
	uint32_t	at;				/* index of the iterator's current entry */
	bool		plain;
	bool		more;			/* its one key goes on in other blocks */
	bool		all_settled;	/* plain and settled */
	LtgXid		xid;			/* plain and not settled: the one writer */
	uint32_t	cid;
	LtgState	state;
} LtgBlockView;

/* The block the iterator stands in. */
extern void ltg_run_iter_block(LtgRunIter *it, LtgBlockView *view);
/*
 * A key above all keys of the current block and not above any key of the next
 * one; LTG_END if there is none.  key_buf: LTG_KEY_MAX.
 */
extern LtgStatus ltg_run_iter_block_limit(LtgRunIter *it, uint8_t *key_buf,
										  uint32_t *key_len) LTG_MUST_CHECK;
/* Leave the current block; stands on the first key of the next (forward) or
 * the last key of the previous one (backward); LTG_END at the edge. */
extern LtgStatus ltg_run_iter_next_block(LtgRunIter *it) LTG_MUST_CHECK;
extern LtgStatus ltg_run_iter_prev_block(LtgRunIter *it) LTG_MUST_CHECK;
/* Decode entry i of a block (any copy of its bytes).  The caller guarantees
 * the bytes passed their checksum.  key_buf (LTG_KEY_MAX) receives the key when
 * key != NULL; payload points into data. Both are cheap enough for per-row use. */
extern void ltg_block_entry(const uint8_t *data, uint32_t len, uint32_t i,
							uint8_t *key_buf, uint32_t *key_len, LtgVersion *v);

#endif
