/*
 * run_write.c
 *	  Writing a data file: bulk-built B+tree runs, filters, directory, trailer.
 *
 * Blocks go to the file in the order they fill up: data blocks, and between
 * them an inner block whenever one is full.  So a run is written in one pass
 * with memory for one block per level, one output buffer, and the filter.  Only
 * the first blocks of a run of the last level wait until it is known how they
 * are best compressed (held.c); a dictionary goes in front of them.
 *
 * The file is written under its temporary name and gets its own name only
 * after it is durable; a failure at any point leaves at most the temporary
 * file, which ltg_writer_abort removes.
 *
 * What a merge makes of cached blocks goes into the cache as well: those blocks
 * leave it with their file, and their readers would find nothing there.
 */
#include "storage/run.h"

#include "base/coding.h"
#include "base/crc32c.h"
#include "storage/block.h"
#include "storage/blockio.h"
#include "storage/cache.h"
#include "storage/compress.h"
#include "storage/file.h"
#include "storage/filter.h"
#include "storage/held.h"
#include "storage/format.h"

#define OUT_BYTES (512 * 1024)	/* output buffer */
#define INNER_MIN 4				/* children, whatever the keys' length */
#define MORE_MIN 16				/* versions, before a key goes on in another block */
#define MORE_MANY 64			/* the same where the block is not full */
#define FIRST_PART 8			/* its first block has that part of a block's size */
#define HASHES_MAX (4 * 1024 * 1024)	/* keys whose hashes are kept until the
										 * filter's size is known */
#define WIDE_KEYS_MAX (64 * 1024 * 1024)	/* beyond, filters lose precision */

/* Children of the inner block that is being filled, one of these per level. */
typedef struct Level
{
	LtgInnerItem *items;		/* key points nowhere: see key_off */
	size_t	   *key_off;		/* in keys */
	uint32_t	n, cap;
	uint8_t    *keys;
	size_t		keys_used, keys_cap;
	uint64_t	size;			/* upper bound of the raw size */
	uint32_t	prefix;			/* what the bound relies on being common */
	uint64_t	emitted;		/* blocks of this level written */
} Level;

typedef struct DirEntry
{
	uint8_t		store_key[LTG_STORE_KEY_MAX];
	uint32_t	store_key_len;
	LtgRunRef	ref;
} DirEntry;

struct LtgFileWriter
{
	LtgSession *s;
	LtgPort    *port;
	LtgFileId	id;
	LtgFile    *file;
	bool		created;		/* the temporary file exists */
	bool		renamed;
	bool		warm;			/* blocks go into the cache, too */
	bool		entered;		/* some did */
	LtgRunOptions opt;
	LtgCompressor *compressor;
	bool		own_compressor;
	LtgHeld		held;
	bool		holding;		/* the run's data blocks go there */

	uint8_t    *out;
	size_t		out_used;
	uint64_t	out_offset;		/* file offset of out[0] */

	DirEntry   *dir;
	uint32_t	dir_n, dir_cap;

	/* the current run */
	bool		in_run;
	DirEntry	run;
	uint64_t	run_start;
	LtgBlockBuilder block;
	uint8_t    *raw;			/* a block being built */
	size_t		raw_cap;
	Level		level[LTG_HEIGHT_MAX];	/* [0] holds the data blocks' pointers */
	uint8_t		last_key[LTG_KEY_MAX];	/* last key of the last emitted block */
	uint32_t	last_key_len;
	bool		in_rest;		/* the builder has nothing but more versions of it */
	LtgInnerItem chain;			/* the first block of a key that has several */
	uint8_t		chain_key[LTG_KEY_MAX];
	uint64_t   *hashes;
	size_t		hashes_cap;		/* bytes */
	uint8_t    *bits;			/* the filter, once there are too many hashes */
	LtgFilterShape filter;
};

static LtgStatus
no_memory(LtgFileWriter *w, size_t bytes)
{
	return ltg_fail(w->s, LTG_NOMEM, "out of memory for writing a run (%zu bytes)", bytes);
}

static void
release(LtgFileWriter *w, void *ptr)
{
	if (ptr != NULL)
		w->port->free(w->port, ptr);
}

/* Grow *mem to at least need bytes, keeping its contents. */
static LtgStatus
grow(LtgFileWriter *w, void **mem, size_t *cap, size_t need)
{
	size_t		want = *cap < 1024 ? 1024 : *cap;
	void	   *p;

	if (*mem != NULL && need <= *cap)
		return LTG_OK;
	while (want < need)
		want *= 2;
	p = *mem == NULL ? w->port->alloc(w->port, want) : w->port->realloc(w->port, *mem, want);
	if (p == NULL)
		return no_memory(w, want);
	*mem = p;
	*cap = want;
	return LTG_OK;
}

/* ---- output ---- */

static uint64_t
file_pos(const LtgFileWriter *w)
{
	return w->out_offset + w->out_used;
}

static LtgStatus
flush_out(LtgFileWriter *w)
{
	LtgError	e = {0};
	LtgStatus	st;

	if (w->out_used == 0)
		return LTG_OK;
	st = w->port->file_write(w->port, w->file, w->out, w->out_used, w->out_offset, &e);
	if (st != LTG_OK)
		return ltg_fail_port(w->s, st, &e, w->id, w->out_offset);
	w->out_offset += w->out_used;
	w->out_used = 0;
	return LTG_OK;
}

static LtgStatus
write_bytes(LtgFileWriter *w, const uint8_t *p, size_t len)
{
	while (len > 0)
	{
		size_t		n = OUT_BYTES - w->out_used;

		if (n > len)
			n = len;
		memcpy(w->out + w->out_used, p, n);
		w->out_used += n;
		p += n;
		len -= n;
		if (w->out_used == OUT_BYTES)
			LTG_TRY(flush_out(w));
	}
	return LTG_OK;
}

/* Of the blocks read since the last one was written, half were in the cache. */
static bool
is_warm(LtgFileWriter *w)
{
	if (w->s->merged_blocks > 0)
		w->warm = w->s->merged_cached * 2 >= w->s->merged_blocks;
	w->s->merged_blocks = w->s->merged_cached = 0;
	return w->warm;
}

/* Compress, wrap and write a block. */
static LtgStatus
write_block(LtgFileWriter *w, uint8_t type, const uint8_t *raw, uint32_t raw_len,
			uint64_t *offset, uint32_t *disk_len)
{
	uint8_t		env[LTG_ENV_BYTES] = {0};
	uint8_t		place[16];
	LtgPacked	p;
	uint32_t	crc;

	if (w->port->interrupted(w->port))
		return ltg_fail(w->s, LTG_INTERRUPTED, "writing a data file was interrupted");
	LTG_TRY(ltg_compress(w->s, w->compressor, type, raw, raw_len, &p));
	*offset = file_pos(w);
	*disk_len = LTG_ENV_BYTES + p.len;
	if (*offset + *disk_len > LTG_OFFSET_MAX)
		return ltg_fail(w->s, LTG_TOO_LARGE, "data file is too large");

	ltg_store32(env + LTG_ENV_STORED, p.len);
	ltg_store32(env + LTG_ENV_RAW, raw_len);
	env[LTG_ENV_CODEC] = p.codec;
	env[LTG_ENV_TYPE] = type;
	env[LTG_ENV_STRIDE] = p.stride;
	env[LTG_ENV_FORM] = p.form;
	ltg_store64(place, w->id);
	ltg_store64(place + 8, *offset);
	crc = ltg_crc32c(0, place, sizeof(place));
	crc = ltg_crc32c(crc, env + LTG_ENV_STORED, LTG_ENV_BYTES - LTG_ENV_STORED);
	crc = ltg_crc32c(crc, p.data, p.len);
	ltg_store32(env + LTG_ENV_CRC, crc);
	LTG_TRY(write_bytes(w, env, sizeof(env)));
	LTG_TRY(write_bytes(w, p.data, p.len));
	w->run.ref.raw_bytes += raw_len;
	if (type != LTG_BLOCK_DICTIONARY && type != LTG_BLOCK_DIRECTORY && is_warm(w))
	{
		ltg_block_enter(w->s, w->id, *offset, raw, raw_len);
		w->entered = true;
	}
	return LTG_OK;
}

/* ---- opening ---- */

static void
level_clear(Level *l)
{
	l->n = 0;
	l->keys_used = 0;
	l->size = LTG_BH_BYTES + 24;
	l->prefix = 0;
}

LtgStatus
ltg_writer_open(LtgSession *s, LtgFileId id, const LtgRunOptions *opt, LtgFileWriter **writer)
{
	LtgFileWriter *w = s->port->alloc(s->port, sizeof(LtgFileWriter));
	char		name[LTG_NAME_MAX];
	LtgError	e = {0};
	LtgStatus	st;

	*writer = NULL;
	if (w == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for writing a run");
	memset(w, 0, sizeof(*w));
	w->s = s;
	w->port = s->port;
	w->id = id;
	w->opt = *opt;
	ltg_builder_init(&w->block, s);
	w->out = w->port->alloc(w->port, OUT_BYTES);
	if (w->out == NULL)
		st = no_memory(w, OUT_BYTES);
	else if (opt->compressor != NULL)
	{
		w->compressor = opt->compressor;
		st = LTG_OK;
	}
	else
	{
		st = ltg_compressor_create(s, &w->compressor);
		w->own_compressor = st == LTG_OK;
	}
	if (st == LTG_OK)
	{
		ltg_run_tmp_name(name, id);
		st = w->port->file_open(w->port, name, LTG_OPEN_CREATE, &w->file, &e);
		if (st == LTG_OK)
			w->created = true;
		else
			st = ltg_fail_port(s, st, &e, id, 0);
	}
	if (st != LTG_OK)
	{
		ltg_writer_abort(w);
		return st;
	}
	*writer = w;
	return LTG_OK;
}

static LtgStatus
write_dictionary(LtgFileWriter *w, const uint8_t *dict, uint32_t len)
{
	LtgRunRef  *ref = &w->run.ref;
	bool		inherited = dict == w->opt.dict;

	ref->dict_id = inherited ? w->opt.dict_id : w->id << 20 | (w->dir_n + 1);
	LTG_TRY(grow(w, (void **) &w->raw, &w->raw_cap, LTG_DICT_HEAD + len));
	ltg_store64(w->raw, ref->dict_id);
	memcpy(w->raw + LTG_DICT_HEAD, dict, len);
	return write_block(w, LTG_BLOCK_DICTIONARY, w->raw, LTG_DICT_HEAD + len,
					   &ref->dict_offset, &ref->dict_disk_len);
}

LtgStatus
ltg_writer_begin_run(LtgFileWriter *w, const void *store_key, uint32_t store_key_len,
					 const LtgRunOptions *opt)
{
	LTG_ASSERT(!w->in_run);
	if (store_key_len > LTG_STORE_KEY_MAX)
		return ltg_fail(w->s, LTG_INVALID, "store key is too long");
	w->opt = *opt;
	memset(&w->run, 0, sizeof(w->run));
	memcpy(w->run.store_key, store_key, store_key_len);
	w->run.store_key_len = store_key_len;
	w->run.ref.file = w->id;
	w->run_start = file_pos(w);
	w->last_key_len = 0;
	w->in_rest = false;
	w->filter = (LtgFilterShape) {0, 0};
	for (uint32_t i = 0; i < LTG_HEIGHT_MAX; i++)
	{
		level_clear(&w->level[i]);
		w->level[i].emitted = 0;
	}
	ltg_held_clear(&w->held);
	w->holding = opt->last_level && !opt->like_before &&
		(opt->codec == LTG_CODEC_ADAPTIVE || opt->codec == LTG_CODEC_ZSTD);
	w->in_run = true;
	if (!opt->like_before)
		ltg_compressor_begin(w->s, w->compressor, opt->codec, opt->zstd_level, opt->last_level);
	else if (opt->dict != NULL)
		return write_dictionary(w, opt->dict, opt->dict_len);
	return LTG_OK;
}

/* ---- inner blocks ---- */

/* Bytes of key that tell it from the smaller key before it. */
static uint32_t
separating_bytes(const uint8_t *before, uint32_t before_len, const uint8_t *key, uint32_t key_len)
{
	uint32_t	i = 0;

	while (i < before_len && i < key_len && before[i] == key[i])
		i++;
	return i + 1 < key_len ? i + 1 : key_len;
}

static LtgStatus push_child(LtgFileWriter *w, uint32_t lv, const LtgInnerItem *child);

/* Point the items at their keys, which may have moved. */
static void
level_resolve(Level *l)
{
	for (uint32_t i = 0; i < l->n; i++)
		l->items[i].key = l->keys + l->key_off[i];
}

/* Write the children gathered at level lv as one inner block. */
static LtgStatus
emit_inner(LtgFileWriter *w, uint32_t lv)
{
	Level	   *l = &w->level[lv];
	LtgInnerItem up;
	uint32_t	prefix;
	uint64_t	size;

	level_resolve(l);
	size = ltg_inner_size(l->items, l->n, &prefix);
	LTG_TRY(grow(w, (void **) &w->raw, &w->raw_cap, size));
	ltg_inner_build(l->items, l->n, w->raw, size);
	up = l->items[0];
	LTG_TRY(write_block(w, LTG_BLOCK_INNER, w->raw, (uint32_t) size, &up.offset, &up.disk_len));
	l->emitted++;
	if (lv + 1 >= LTG_HEIGHT_MAX)
		return ltg_fail(w->s, LTG_TOO_LARGE, "run has too many levels");
	LTG_TRY(push_child(w, lv + 1, &up));
	level_clear(l);
	return LTG_OK;
}

/* Bytes a child adds to an inner block at most. */
static uint64_t
child_cost(const LtgInnerItem *child)
{
	uint64_t	len = child->need + 8;

	return LTG_CHILD_BYTES + 4 + (len < child->key_len ? len : child->key_len);
}

/* Room for one more child whose key has so many bytes. */
static LtgStatus
level_reserve(LtgFileWriter *w, Level *l, uint32_t key_len)
{
	size_t		cap = l->cap * sizeof(LtgInnerItem);
	size_t		off_cap = l->cap * sizeof(size_t);

	if (l->n == l->cap)
	{
		uint32_t	want = l->cap < 64 ? 64 : 2 * l->cap;

		LTG_TRY(grow(w, (void **) &l->items, &cap, want * sizeof(LtgInnerItem)));
		LTG_TRY(grow(w, (void **) &l->key_off, &off_cap, want * sizeof(size_t)));
		l->cap = want;
	}
	return grow(w, (void **) &l->keys, &l->keys_cap, l->keys_used + key_len);
}

/*
 * Would the inner block be too large with this child?  A cheap bound answers
 * mostly.  The exact size, computed when the bound is exceeded, holds only as
 * long as new children share the prefix it was computed with.
 */
static bool
level_full(LtgFileWriter *w, Level *l, const LtgInnerItem *child)
{
	if (l->n < INNER_MIN)
		return false;
	if (l->size + child_cost(child) <= w->opt.block_size &&
		separating_bytes(l->keys + l->key_off[1], l->items[1].key_len,
						 child->key, child->key_len) > l->prefix)
		return false;
	level_resolve(l);
	l->items[l->n] = *child;
	l->size = ltg_inner_size(l->items, l->n + 1, &l->prefix);
	if (l->size > w->opt.block_size)
		return true;
	l->size -= child_cost(child);	/* added again by the caller */
	return false;
}

static LtgStatus
push_child(LtgFileWriter *w, uint32_t lv, const LtgInnerItem *child)
{
	Level	   *l = &w->level[lv];

	LTG_TRY(level_reserve(w, l, child->key_len));
	if (level_full(w, l, child))
		LTG_TRY(emit_inner(w, lv));
	if (child->key_len > 0)
		memcpy(l->keys + l->keys_used, child->key, child->key_len);
	l->items[l->n] = *child;
	l->key_off[l->n] = l->keys_used;
	l->keys_used += child->key_len;
	l->size += child_cost(child);
	l->n++;
	return LTG_OK;
}

/* ---- data blocks ---- */

/*
 * Write a data block, unless the blocks of this run are held back.  Of the blocks of one
 * key only the first is known to the tree; nothing comes between them (R7), so its
 * pointer waits for the last.
 */
static LtgStatus
put_data(LtgFileWriter *w, const uint8_t *raw, uint32_t raw_len, LtgInnerItem *child, bool rest)
{
	LtgInnerItem at = *child;

	if (w->holding)
		return ltg_held_add(w->s, &w->held, raw, raw_len, child, rest);
	LTG_TRY(write_block(w, LTG_BLOCK_DATA, raw, raw_len, &at.offset, &at.disk_len));
	if ((raw[LTG_BH_FLAGS] & LTG_BF_MORE) == 0)
		return push_child(w, 0, rest ? &w->chain : &at);
	if (!rest)
	{
		/* a row that changes so often will be asked for soon */
		if (w->s->cache != NULL && !w->warm)
		{
			ltg_block_enter(w->s, w->id, at.offset, raw, raw_len);
			w->entered = true;
		}
		w->chain = at;
		w->chain.key = memcpy(w->chain_key, at.key, at.key_len);
	}
	return LTG_OK;
}

/* Decide how the run is compressed, and write what was held back. */
static LtgStatus
release_held(LtgFileWriter *w)
{
	const uint8_t *dict;
	uint32_t	len;
	LtgStatus	st = LTG_OK;

	LTG_TRY(ltg_held_decide(w->s, &w->held, &w->opt, w->compressor, &dict, &len));
	if (dict != NULL)
		st = write_dictionary(w, dict, len);
	if (dict != NULL && dict != w->opt.dict)
		w->port->free(w->port, (void *) (uintptr_t) dict);
	w->holding = false;
	for (uint32_t i = 0; i < w->held.n && st == LTG_OK; i++)
	{
		const LtgHeldBlock *b = &w->held.block[i];
		LtgInnerItem child = {.key = w->held.keys + b->key_off, .key_len = b->key_len, .need = b->need};

		st = put_data(w, w->held.bytes + b->raw_off, b->raw_len, &child, b->rest);
	}
	ltg_held_clear(&w->held);
	return st;
}

/*
 * Write the first n entries of the block builder as a data block.  more: they are
 * versions of one key, of which others follow.
 */
static LtgStatus
emit_data(LtgFileWriter *w, uint32_t n, bool more)
{
	LtgBlockBuilder *b = &w->block;
	const LtgBlockItem *last = &b->items[n - 1];
	uint64_t	size = ltg_builder_size(b, n);
	LtgInnerItem child = {0};

	if (size > LTG_BLOCK_MAX)
		return ltg_fail(w->s, LTG_TOO_LARGE, "versions of one key exceed the size of a block");
	LTG_TRY(grow(w, (void **) &w->raw, &w->raw_cap, size));
	ltg_builder_build(b, n, w->raw, size);
	if (more)
		w->raw[LTG_BH_FLAGS] |= LTG_BF_MORE;
	child.key = b->keys;
	child.key_len = b->items[0].key_len;
	child.need = separating_bytes(w->last_key, w->last_key_len, child.key, child.key_len);
	LTG_TRY(put_data(w, w->raw, (uint32_t) size, &child, w->in_rest));
	w->in_rest = more;
	if (last->key_len > 0)
		memcpy(w->last_key, b->keys + last->key_off, last->key_len);
	w->last_key_len = last->key_len;
	ltg_builder_consume(b, n);
	if (w->holding && w->held.used >=
		(w->opt.sample_bytes != 0 ? w->opt.sample_bytes : LTG_HELD_DEFAULT))
		return release_held(w);
	return LTG_OK;
}

/* The filter's bits, for the shape in w->filter. */
static LtgStatus
make_bits(LtgFileWriter *w)
{
	size_t		bytes = (size_t) w->filter.blocks * w->filter.lines * LTG_FILTER_LINE;

	w->bits = w->port->alloc(w->port, bytes);
	if (w->bits == NULL)
		return no_memory(w, bytes);
	memset(w->bits, 0, bytes);
	return LTG_OK;
}

static void
add_hashes(LtgFileWriter *w, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		ltg_filter_add(w->bits, &w->filter, w->hashes[i]);
}

/* Go on with a filter that is surely large enough; it is folded in the end. */
static LtgStatus
widen_filter(LtgFileWriter *w)
{
	uint64_t	most = w->opt.expected_keys;

	if (most < 4 * HASHES_MAX)
		most = 4 * HASHES_MAX;
	if (most > WIDE_KEYS_MAX)
		most = WIDE_KEYS_MAX;
	w->filter = ltg_filter_wide(most, w->opt.filter_bits_per_key);
	LTG_TRY(make_bits(w));
	add_hashes(w, HASHES_MAX);
	release(w, w->hashes);
	w->hashes = NULL;
	w->hashes_cap = 0;
	return LTG_OK;
}

static LtgStatus
note_key(LtgFileWriter *w, const uint8_t *key, uint32_t key_len)
{
	uint64_t	keys = w->run.ref.keys++;
	uint64_t	hash;

	if (keys == 0)
		ltg_bound_set(&w->run.ref.min_key, key, key_len);
	if (w->opt.filter_bits_per_key == 0)
		return LTG_OK;
	hash = ltg_key_hash(key, key_len);
	if (keys == HASHES_MAX)
		LTG_TRY(widen_filter(w));
	if (w->bits != NULL)
		ltg_filter_add(w->bits, &w->filter, hash);
	else
	{
		LTG_TRY(grow(w, (void **) &w->hashes, &w->hashes_cap, (keys + 1) * sizeof(uint64_t)));
		w->hashes[keys] = hash;
	}
	return LTG_OK;
}

static void
note_version(LtgRunRef *ref, const LtgVersion *v)
{
	ref->entries++;
	ref->tombstones += v->kind != LTG_PUT ? 1 : 0;
	if (v->seq != 0)
	{
		if (ref->min_seq == 0 || v->seq < ref->min_seq)
			ref->min_seq = v->seq;
		if (v->seq > ref->max_seq)
			ref->max_seq = v->seq;
	}
	if (v->state == LTG_SETTLED)
		return;
	ref->unsettled++;
	if (ref->min_xid == 0 || v->xid < ref->min_xid)
		ref->min_xid = v->xid;
	if (v->xid > ref->max_xid)
		ref->max_xid = v->xid;
}

/* The first block of such a key is small: the newest version is wanted most. */
static uint32_t
first_part(const LtgFileWriter *w)
{
	uint32_t	n = 2;

	while (n < w->block.n && n < MORE_MIN &&
		   ltg_builder_size(&w->block, n + 1) <= w->opt.block_size / FIRST_PART)
		n++;
	return n;
}

/* Room for one more version of the builder's last key, whose size would be `size`. */
static LtgStatus
go_on_with_key(LtgFileWriter *w, uint64_t size)
{
	LtgBlockBuilder *b = &w->block;
	uint32_t	versions = b->n - b->key_start;
	bool		full = size > w->opt.block_size;

	if (b->key_start > 0 && (full || versions >= MORE_MANY))
	{
		LTG_TRY(emit_data(w, b->key_start, false));
		full = false;
	}
	if (versions < (full ? MORE_MIN : MORE_MANY) || (w->in_rest && !full))
		return LTG_OK;
	return emit_data(w, w->in_rest ? b->n : first_part(w), true);
}

LtgStatus
ltg_writer_add(LtgFileWriter *w, const uint8_t *key, uint32_t key_len, const LtgVersion *v)
{
	LtgBlockBuilder *b = &w->block;
	bool		new_key = true;

	LTG_ASSERT(w->in_run);
	if (key_len > LTG_KEY_MAX || v->payload_len > LTG_PAYLOAD_MAX)
		return ltg_fail(w->s, LTG_TOO_LARGE, "key of %u bytes with a payload of %u bytes is too large",
						key_len, v->payload_len);
	if (v->state == LTG_ABORTED || v->kind > LTG_GONE || (v->flags & ~LTG_VF_FLAG_MASK) != 0)
		return ltg_fail(w->s, LTG_INVALID, "version cannot be stored in a file");
	/* the newest key is always in the builder, except before the first ... */
	if (b->n > 0 || w->in_rest)
	{
		const LtgBlockItem *last = b->n == 0 ? NULL : &b->items[b->n - 1];
		int			c;

		/* ... and when its first versions have just been written */
		c = last == NULL ? ltg_key_cmp(key, key_len, w->last_key, w->last_key_len) :
			ltg_key_cmp(key, key_len, b->keys + last->key_off, last->key_len);

		if (c < 0)
			return ltg_fail(w->s, LTG_INVALID, "keys are not added in order");
		new_key = c > 0;
	}

	if (new_key && w->in_rest)
		LTG_TRY(emit_data(w, b->n, false));
	if (b->n > 0)
	{
		uint64_t	size = ltg_builder_size_with(b, key, key_len, v, new_key);

		if (!new_key)
			LTG_TRY(go_on_with_key(w, size));
		else if (size > w->opt.block_size)
			LTG_TRY(emit_data(w, b->n, false));
	}
	LTG_TRY(ltg_builder_add(b, key, key_len, v, new_key || b->n == 0));
	if (new_key)
		LTG_TRY(note_key(w, key, key_len));
	note_version(&w->run.ref, v);
	return LTG_OK;
}

/* ---- ending a run ---- */

static LtgStatus
write_filter(LtgFileWriter *w)
{
	LtgRunRef  *ref = &w->run.ref;
	uint64_t	offset;
	uint32_t	disk_len;
	size_t		block_bytes;

	if (w->opt.filter_bits_per_key == 0)
		return LTG_OK;
	if (w->bits == NULL)
	{
		w->filter = ltg_filter_shape(ref->keys, w->opt.filter_bits_per_key, w->opt.block_size);
		LTG_TRY(make_bits(w));
		add_hashes(w, ref->keys);
	}
	else
		w->filter = ltg_filter_fold(w->bits, &w->filter, ref->keys,
									w->opt.filter_bits_per_key, w->opt.block_size);
	ref->filter_offset = file_pos(w);
	ref->filter_blocks = w->filter.blocks;
	ref->filter_block_lines = w->filter.lines;
	block_bytes = (size_t) w->filter.lines * LTG_FILTER_LINE;
	for (uint32_t i = 0; i < w->filter.blocks; i++)
	{
		/* never compressed: their place is computed from their number */
		LTG_TRY(write_block(w, LTG_BLOCK_FILTER, w->bits + i * block_bytes,
							(uint32_t) block_bytes, &offset, &disk_len));
	}
	return LTG_OK;
}

/* Write what is left on every level, bottom up; the last block is the root. */
static LtgStatus
write_root(LtgFileWriter *w)
{
	for (uint32_t lv = 0;; lv++)
	{
		Level	   *l = &w->level[lv];

		if (l->emitted == 0 && l->n == 1)
		{
			w->run.ref.root_offset = l->items[0].offset;
			w->run.ref.root_disk_len = l->items[0].disk_len;
			w->run.ref.height = lv;
			return LTG_OK;
		}
		if (l->n > 0)
			LTG_TRY(emit_inner(w, lv));
		LTG_ASSERT(lv + 1 < LTG_HEIGHT_MAX);
	}
}

LtgStatus
ltg_writer_end_run(LtgFileWriter *w, LtgRunRef *ref)
{
	size_t		cap = w->dir_cap * sizeof(DirEntry);

	LTG_ASSERT(w->in_run);
	if (w->run.ref.entries > 0)
	{
		const LtgBlockItem *last = &w->block.items[w->block.n - 1];

		LTG_TRY(grow(w, (void **) &w->dir, &cap, (w->dir_n + 1) * sizeof(DirEntry)));
		w->dir_cap = (uint32_t) (cap / sizeof(DirEntry));
		ltg_bound_set(&w->run.ref.max_key, w->block.keys + last->key_off, last->key_len);
		LTG_TRY(emit_data(w, w->block.n, false));
		if (w->holding)
			LTG_TRY(release_held(w));
		LTG_TRY(write_root(w));
		LTG_TRY(write_filter(w));
		w->run.ref.disk_bytes = file_pos(w) - w->run_start;
		w->dir[w->dir_n++] = w->run;
	}
	*ref = w->run.ref;
	release(w, w->bits);
	w->bits = NULL;
	w->in_run = false;
	return LTG_OK;
}

uint64_t
ltg_writer_bytes(const LtgFileWriter *w)
{
	return file_pos(w) + w->held.used / 2;
}

/* ---- finishing ---- */

static LtgStatus
write_directory(LtgFileWriter *w)
{
	size_t		need = 10 + (size_t) w->dir_n * (LTG_RUN_REF_MAX + LTG_STORE_KEY_MAX + 10);
	uint8_t		trailer[LTG_TR_BYTES] = {0};
	uint64_t	offset;
	uint32_t	disk_len;
	uint32_t	crc;
	uint8_t    *p;

	LTG_TRY(grow(w, (void **) &w->raw, &w->raw_cap, need));
	p = ltg_put_varint(w->raw, w->dir_n);
	for (uint32_t i = 0; i < w->dir_n; i++)
	{
		const DirEntry *d = &w->dir[i];

		p = ltg_put_varint(p, d->store_key_len);
		memcpy(p, d->store_key, d->store_key_len);
		p += d->store_key_len;
		p += ltg_run_ref_encode(p, &d->ref);
	}
	LTG_TRY(write_block(w, LTG_BLOCK_DIRECTORY, w->raw, (uint32_t) (p - w->raw), &offset, &disk_len));

	ltg_store64(trailer + LTG_TR_FILE, w->id);
	ltg_store64(trailer + LTG_TR_DIR_OFFSET, offset);
	ltg_store32(trailer + LTG_TR_DIR_LEN, disk_len);
	ltg_store32(trailer + LTG_TR_VERSION, LTG_FORMAT_VERSION);
	ltg_store64(trailer + LTG_TR_MAGIC, LTG_RUN_MAGIC);
	crc = ltg_crc32c(0, trailer, LTG_TR_CRC);
	crc = ltg_crc32c(crc, trailer + LTG_TR_VERSION, LTG_TR_BYTES - LTG_TR_VERSION);
	ltg_store32(trailer + LTG_TR_CRC, crc);
	LTG_TRY(write_bytes(w, trailer, sizeof(trailer)));
	return flush_out(w);
}

LtgStatus
ltg_writer_finish(LtgFileWriter *w, uint64_t *file_bytes)
{
	char		tmp[LTG_NAME_MAX];
	char		name[LTG_NAME_MAX];
	LtgError	e = {0};
	LtgStatus	st;

	LTG_ASSERT(!w->in_run && w->file != NULL);
	LTG_TRY(write_directory(w));
	*file_bytes = file_pos(w);
	LTG_STOP_POINT(w->port, "run:before-sync");
	st = w->port->file_sync(w->port, w->file, &e);
	if (st != LTG_OK)
		return ltg_fail_port(w->s, st, &e, w->id, 0);
	w->port->file_close(w->port, w->file);
	w->file = NULL;

	LTG_STOP_POINT(w->port, "run:before-rename");
	ltg_run_tmp_name(tmp, w->id);
	ltg_run_name(name, w->id);
	st = w->port->file_rename(w->port, tmp, name, &e);
	if (st == LTG_OK)
	{
		w->renamed = true;
		LTG_STOP_POINT(w->port, "run:after-rename");
		st = w->port->dir_sync(w->port, &e);
	}
	if (st != LTG_OK)
		return ltg_fail_port(w->s, st, &e, w->id, 0);
	return LTG_OK;
}

void
ltg_writer_abort(LtgFileWriter *w)
{
	char		name[LTG_NAME_MAX];
	LtgError	e = {0};

	if (w->file != NULL)
	{
		w->port->file_close(w->port, w->file);
		w->file = NULL;
	}
	if (w->created)
	{
		/* a leftover that cannot be removed now is removed at the next start */
		if (w->renamed)
			ltg_run_name(name, w->id);
		else
			ltg_run_tmp_name(name, w->id);
		(void) w->port->file_remove(w->port, name, &e);
	}
	if (w->entered)
		ltg_cache_drop_file(w->s, w->s->cache, w->id);
	ltg_writer_free(w);
}

void
ltg_writer_free(LtgFileWriter *w)
{
	LTG_ASSERT(w->file == NULL);
	for (uint32_t i = 0; i < LTG_HEIGHT_MAX; i++)
	{
		release(w, w->level[i].items);
		release(w, w->level[i].key_off);
		release(w, w->level[i].keys);
	}
	ltg_builder_free(&w->block);
	ltg_held_free(w->s, &w->held);
	if (w->own_compressor)
		ltg_compressor_free(w->s, w->compressor);
	release(w, w->out);
	release(w, w->dir);
	release(w, w->raw);
	release(w, w->hashes);
	release(w, w->bits);
	w->port->free(w->port, w);
}
