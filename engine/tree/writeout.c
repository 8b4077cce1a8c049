/*
 * writeout.c
 *	  See writeout.h.
 */
#include "tree/writeout.h"

#include "base/coding.h"
#include "storage/cache.h"
#include "storage/compress.h"
#include "storage/file.h"
#include "storage/held.h"
#include "tree/state.h"

LtgStatus
ltg_version_buf_grow(LtgSession *s, LtgVersionBuf *b)
{
	LtgPort    *port = s->port;
	uint32_t	cap = b->cap == 0 ? 16 : b->cap * 2;
	LtgVersion *v;

	v = b->v == NULL ? port->alloc(port, cap * sizeof(*v))
		: port->realloc(port, b->v, cap * sizeof(*v));
	if (v == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for %u versions of one key", cap);
	b->v = v;
	b->cap = cap;
	return LTG_OK;
}

void
ltg_version_buf_free(LtgSession *s, LtgVersionBuf *b)
{
	if (b->v != NULL)
		s->port->free(s->port, b->v);
	memset(b, 0, sizeof(*b));
}

void
ltg_writeout_init(LtgWriteout *o, LtgSession *s)
{
	const LtgConfig *c = &s->shared->config;

	memset(o, 0, sizeof(*o));
	o->s = s;
	o->opt.filter_bits_per_key = c->filter_bits_per_key;
}

static void
drop_dictionary(LtgWriteout *o)
{
	if (o->dict != NULL)
		o->s->port->free(o->s->port, o->dict);
	o->dict = NULL;
	o->opt.dict = NULL;
	o->opt.dict_len = 0;
	o->opt.dict_id = 0;
}

void
ltg_writeout_store(LtgWriteout *o, const LtgStoreKey *key, LtgSeq stamp, uint64_t id,
				   uint64_t options, uint64_t keys)
{
	static const LtgCodecChoice codec[] = {
		[LTG_COMPRESS_AUTO] = LTG_CODEC_ADAPTIVE, [LTG_COMPRESS_NONE] = LTG_CODEC_NONE,
		[LTG_COMPRESS_LZ4] = LTG_CODEC_LZ4, [LTG_COMPRESS_ZSTD] = LTG_CODEC_ZSTD
	};
	const LtgConfig *c = &o->s->shared->config;
	LtgStoreOptions opt;

	LTG_ASSERT(!o->in_run);
	if (!ltg_store_options_unpack(options, &opt))
		memset(&opt, 0, sizeof(opt));
	o->opt.codec = codec[opt.compression];
	o->opt.zstd_level = opt.level != 0 ? opt.level : c->zstd_level;
	o->opt.block_size = opt.block_size != 0 && opt.block_size < c->block_size ?
		opt.block_size : c->block_size;
	ltg_store32(o->store_key, key->space);
	ltg_store32(o->store_key + 4, key->database);
	ltg_store32(o->store_key + 8, key->relation);
	ltg_store32(o->store_key + 12, (uint32_t) key->backend);
	ltg_store64(o->store_key + 16, stamp);
	ltg_store64(o->store_key + 24, id);
	o->opt.expected_keys = keys;
	o->opt.last_level = o->opt.like_before = false;
	memset(&o->last, 0, sizeof(o->last));
	drop_dictionary(o);
}

LtgStatus
ltg_writeout_last_level(LtgWriteout *o, const LtgRunRef *model)
{
	LTG_ASSERT(!o->in_run);
	o->opt.last_level = true;
	o->opt.like_before = false;
	drop_dictionary(o);
	if (model == NULL)
		return LTG_OK;
	LTG_TRY(ltg_run_dictionary(o->s, model, &o->dict, &o->opt.dict_len));
	o->opt.dict = o->dict;
	o->opt.dict_id = model->dict_id;
	return LTG_OK;
}

/*
 * The next run of a store is like the one before: it is compressed in the same way,
 * without trying again what has just been tried, and shares its dictionary.
 */
static LtgStatus
learn(LtgWriteout *o)
{
	uint64_t	enough = o->s->shared->config.file_target_bytes / 4;
	const uint8_t *dict;
	uint32_t	len;

	if (enough > LTG_HELD_DEFAULT)
		enough = LTG_HELD_DEFAULT;
	if (o->opt.like_before || o->last.entries == 0 || o->last.raw_bytes < enough)
		return LTG_OK;
	dict = ltg_compressor_dictionary(o->compressor, &len);
	LTG_ASSERT((dict == NULL) == (o->last.dict_disk_len == 0));
	if (dict == NULL || o->last.dict_id != o->opt.dict_id)
		drop_dictionary(o);
	if (dict != NULL && o->dict == NULL)
	{
		o->dict = o->s->port->alloc(o->s->port, len);
		if (o->dict == NULL)
			return ltg_fail(o->s, LTG_NOMEM, "out of memory for a dictionary of %u bytes", len);
		memcpy(o->dict, dict, len);
		o->opt.dict = o->dict;
		o->opt.dict_len = len;
		o->opt.dict_id = o->last.dict_id;
	}
	o->opt.like_before = true;
	return LTG_OK;
}

LtgStatus
ltg_writeout_add(LtgWriteout *o, const uint8_t *key, uint32_t key_len, const LtgVersion *v)
{
	if (LTG_UNLIKELY(!o->in_run))
	{
		if (o->w == NULL)
		{
			LTG_TRY(learn(o));
			if (o->compressor == NULL)
				LTG_TRY(ltg_compressor_create(o->s, &o->compressor));
			o->opt.compressor = o->compressor;
			o->id = ltg_new_file_id(o->s);
			LTG_TRY(ltg_writer_open(o->s, o->id, &o->opt, &o->w));
		}
		LTG_TRY(ltg_writer_begin_run(o->w, o->store_key, sizeof(o->store_key), &o->opt));
		o->in_run = true;
	}
	return ltg_writer_add(o->w, key, key_len, v);
}

uint64_t
ltg_writeout_bytes(const LtgWriteout *o)
{
	return o->w == NULL ? 0 : ltg_writer_bytes(o->w);
}

LtgStatus
ltg_writeout_end_run(LtgWriteout *o, LtgRunRef *ref)
{
	memset(ref, 0, sizeof(*ref));
	if (!o->in_run)
		return LTG_OK;
	o->in_run = false;
	LTG_TRY(ltg_writer_end_run(o->w, ref));
	o->last = *ref;
	return LTG_OK;
}

LtgStatus
ltg_writeout_finish(LtgWriteout *o, LtgNewFile *file)
{
	LtgPort    *port = o->s->port;

	LTG_ASSERT(!o->in_run);
	memset(file, 0, sizeof(*file));
	if (o->w == NULL)
		return LTG_OK;
	if (o->n_files == o->cap_files)
	{
		uint32_t	cap = o->cap_files == 0 ? 8 : o->cap_files * 2;
		LtgNewFile *p = o->files == NULL ? port->alloc(port, cap * sizeof(*p))
			: port->realloc(port, o->files, cap * sizeof(*p));

		if (p == NULL)
			return ltg_fail(o->s, LTG_NOMEM, "out of memory for %u new files", cap);
		o->files = p;
		o->cap_files = cap;
	}
	LTG_TRY(ltg_writer_finish(o->w, &file->bytes));
	ltg_writer_free(o->w);
	o->w = NULL;
	file->id = o->id;
	o->files[o->n_files++] = *file;
	return LTG_OK;
}

void
ltg_writeout_keep(LtgWriteout *o)
{
	o->n_files = 0;
}

void
ltg_writeout_free(LtgWriteout *o)
{
	LtgPort    *port = o->s->port;

	if (o->w != NULL)
		ltg_writer_abort(o->w);
	drop_dictionary(o);
	ltg_compressor_free(o->s, o->compressor);
	for (uint32_t i = 0; i < o->n_files; i++)
	{
		char		name[LTG_NAME_MAX];
		LtgError	ignored = {0};	/* what made us remove it is the error */

		ltg_run_name(name, o->files[i].id);
		(void) port->file_remove(port, name, &ignored);
		if (o->s->cache != NULL)
			ltg_cache_drop_file(o->s, o->s->cache, o->files[i].id);
	}
	if (o->files != NULL)
		port->free(port, o->files);
	memset(o, 0, sizeof(*o));
	o->s = NULL;
}
