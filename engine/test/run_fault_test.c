/*
 * run_fault_test.c
 *	  Runs under failing calls and on damaged files.
 *
 * Failing: the n-th call of each kind fails, for n = 1, 2, ... until a whole
 * cycle of writing and reading meets no fault.  Every failure must be a status
 * with its detail, leak nothing, and leave a session that works.
 *
 * Damaged: each byte of a small file is changed in turn.  Reading must give an
 * error or the right data, and the two checks together must notice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/coding.h"
#include "base/crc32c.h"
#include "old_file.h"
#include "rig.h"
#include "storage/block.h"
#include "storage/blockio.h"
#include "storage/file.h"
#include "storage/format.h"

static void
small_model(Model *m, uint32_t n, uint64_t seed)
{
	uint32_t	i;

	memset(m, 0, sizeof(*m));
	for (i = 0; i < n; i++)
	{
		uint8_t		key[16];
		uint8_t		payload[64];
		LtgVersion	v = {.payload = payload};

		snprintf((char *) key, sizeof(key), "key%06u", i / 2 * 7);
		memset(payload, 'p', sizeof(payload));
		v.payload_len = (uint32_t) (rig_random(&seed) % 64);
		v.seq = i + 1;
		v.kind = i % 11 == 10 ? LTG_DELETE : LTG_PUT;
		v.aux = i % 11 == 10 ? i : 0;
		v.state = i % 5 == 0 ? LTG_SETTLED : LTG_COMMITTED;
		v.xid = i % 15 == 0 ? 0 : 1000 + i;
		model_add(m, key, (uint32_t) strlen((char *) key), &v);
	}
	model_sort(m);
}

/* Read everything; LTG_OK only when all of it is as it was written. */
static LtgStatus
read_all(Rig *r, const Model *m, const LtgRunRef *ref, LtgCacheUse use)
{
	LtgRunIter *it;
	LtgPoint	p = {0};
	LtgVersion	v;
	uint32_t	i = 0;
	LtgStatus	st;
	LtgStatus	first = LTG_OK;

	LTG_TRY(ltg_run_iter_open(&r->s, ref, use, &it));
	st = ltg_run_iter_seek_ge(it, NULL, 0);
	while (st == LTG_OK)
	{
		const uint8_t *key;
		uint32_t	len;

		ltg_run_iter_key(it, &key, &len);
		ltg_run_iter_version(it, &v);
		do
		{
			assert_true(i < m->n);
			assert_int_equal(ltg_key_cmp(key, len, m->e[i].key, m->e[i].key_len), 0);
			model_compare(&v, &m->e[i].v);
			i++;
		} while ((st = ltg_run_iter_older(it, &v)) == LTG_OK);
		if (st == LTG_END)
			st = ltg_run_iter_next_key(it);
	}
	if (st == LTG_END)
		assert_int_equal(i, m->n);
	else
		first = st;
	ltg_run_iter_close(it);

	for (i = 0; i < m->n; i++)
	{
		const ModelEntry *e = &m->e[i];

		if (i > 0 && ltg_key_cmp(e->key, e->key_len, e[-1].key, e[-1].key_len) == 0)
			continue;
		st = ltg_run_get(&r->s, ref, e->key, e->key_len, ltg_key_hash(e->key, e->key_len),
						 i % 2 == 0, &p, &v);
		assert_int_not_equal(st, LTG_NOT_FOUND);
		for (; st == LTG_OK; st = ltg_point_older(&r->s, &p, &v))
		{
			assert_true(e < m->e + m->n);
			model_compare(&v, &e++->v);
		}
		if (st != LTG_END)
			first = first == LTG_OK ? st : first;
		else
			assert_true(e == m->e + m->n ||
						ltg_key_cmp(e->key, e->key_len, e[-1].key, e[-1].key_len) != 0);
	}
	ltg_point_close(&r->s, &p);
	return first;
}

static LtgStatus
count_runs(void *arg, const void *key, uint32_t key_len, const LtgRunRef *ref)
{
	assert_int_equal(key_len, 5);
	assert_memory_equal(key, "store", 5);
	assert_true(ref->entries > 0);
	++*(uint32_t *) arg;
	return LTG_OK;
}

static LtgStatus
take_ref(void *arg, const void *key, uint32_t key_len, const LtgRunRef *ref)
{
	(void) key;
	(void) key_len;
	*(LtgRunRef *) arg = *ref;
	return LTG_OK;
}

static LtgStatus
whole_cycle(Rig *r, const Model *m, LtgFileId id)
{
	LtgRunOptions opt = rig_options();
	LtgRunRef	ref;
	uint64_t	bytes;
	uint32_t	runs = 0;

	opt.block_size = 1024;
	LTG_TRY(model_write(r, m, id, &opt, &ref));
	LTG_TRY(ltg_file_verify(&r->s, id, &bytes, count_runs, &runs));
	assert_int_equal(runs, 1);
	LTG_TRY(ltg_run_check(&r->s, &ref));
	LTG_TRY(read_all(r, m, &ref, LTG_CACHE_NORMAL));
	return read_all(r, m, &ref, LTG_CACHE_PEEK);
}

static void
remove_run(Rig *r, LtgFileId id)
{
	char		name[LTG_NAME_MAX];
	LtgError	e;

	ltg_file_cache_close_all(&r->s);
	ltg_run_name(name, id);
	(void) r->port->file_remove(r->port, name, &e);
}

static void
count_files(void *arg, const char *name)
{
	(void) name;
	++*(uint32_t *) arg;
}

static void
every_call_fails(void **state)
{
	Model		m;
	int			kind;
	int			persistent;
	LtgFileId	id = 1;

	(void) state;
	small_model(&m, 100, 1);
	for (persistent = 0; persistent <= 1; persistent++)
	{
		for (kind = 0; kind < LTG_FAULT_KINDS; kind++)
		{
			uint64_t	nth = 0;
			LtgStatus	st;

			do
			{
				Rig			r;
				LtgError	e;
				uint32_t	files = 0;

				rig_open(&r);
				/* each of the first calls, then ever fewer of those that repeat */
				nth += 1 + nth / 16;
				ltg_posix_fail(r.posix, (LtgFaultKind) kind, nth, persistent, ENOSPC);
				st = whole_cycle(&r, &m, ++id);
				if (st != LTG_OK)
				{
					assert_int_not_equal(st, LTG_CORRUPT);
					assert_int_equal(r.s.err.status, st);
					assert_true(r.s.err.msg[0] != '\0');
					assert_true(ltg_posix_failed(r.posix, (LtgFaultKind) kind) > 0);
				}
				else
					assert_int_equal(ltg_posix_failed(r.posix, (LtgFaultKind) kind), 0);
				/* the session works on */
				ltg_posix_no_faults(r.posix);
				ltg_clear_error(&r.s);
				remove_run(&r, id);
				assert_int_equal(r.port->dir_list(r.port, count_files, &files, &e), LTG_OK);
				assert_int_equal(files, 0);
				assert_int_equal(whole_cycle(&r, &m, ++id), LTG_OK);
				rig_close(&r);
			} while (st != LTG_OK);
			if (kind == LTG_FAULT_ALLOC || kind == LTG_FAULT_READ || kind == LTG_FAULT_WRITE)
				assert_true(nth > 1);
		}
	}
	model_free(&m);
}

static void
interrupts(void **state)
{
	Rig			r;
	Model		m;
	LtgRunRef	ref;
	LtgRunOptions opt = rig_options();

	(void) state;
	rig_open(&r);
	small_model(&m, 400, 1);
	r.interrupt = true;
	assert_int_equal(model_write(&r, &m, 1, &opt, &ref), LTG_INTERRUPTED);
	ltg_clear_error(&r.s);
	r.interrupt = false;
	assert_int_equal(model_write(&r, &m, 1, &opt, &ref), LTG_OK);
	r.interrupt = true;
	assert_int_equal(ltg_run_check(&r.s, &ref), LTG_INTERRUPTED);
	model_free(&m);
	rig_close(&r);
}

/* ---- damaged files ---- */

static uint8_t *
slurp(const char *path, size_t *len)
{
	FILE	   *f = fopen(path, "rb");
	uint8_t    *p = malloc(1 << 20);

	assert_non_null(f);
	*len = fread(p, 1, 1 << 20, f);
	fclose(f);
	return p;
}

static void
spill(const char *path, const uint8_t *p, size_t len)
{
	FILE	   *f = fopen(path, "r+b");

	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, len, f), len);
	fclose(f);
}

static bool
notices(LtgStatus st)
{
	return st == LTG_CORRUPT || st == LTG_VERSION;
}

/* Rows of one width: counters and a few random bytes. */
static void
columns_model(Model *m, uint32_t n)
{
	uint64_t	rnd = 3;

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < n; i++)
	{
		uint8_t		key[5] = {0, 0, 0, (uint8_t) (i >> 8), (uint8_t) i};
		uint32_t	payload[6] = {i, 100 + i / 7, 20, (uint32_t) (rig_random(&rnd) & 0x1FFF), 0, 77};
		LtgVersion	v = {.payload = (uint8_t *) payload, .payload_len = 20 + i % 3, .seq = i + 1,
		.state = LTG_SETTLED};

		model_add(m, key, sizeof(key), &v);
	}
}

/* Up to three versions of a key, by columns and by pieces. */
static void
versions_model(Model *m, uint32_t n)
{
	uint64_t	rnd = 9;

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < n; i++)
	{
		uint8_t		key[5] = {0, 0, 0, (uint8_t) (i / 3 >> 8), (uint8_t) (i / 3)};
		uint8_t		payload[48];
		LtgVersion	v = {.payload = payload, .payload_len = 40 + (i % 5 == 2 ? 3 : 0), .seq = 1000 - i % 3,
		.xid = 7, .state = LTG_COMMITTED};

		if (i % 3 == 0)
			for (uint32_t k = 0; k < sizeof(payload); k++)
				payload[k] = (uint8_t) rig_random(&rnd);
		payload[9 + i % 3]++;
		if (i % 17 == 3)
			v.kind = LTG_DELETE;
		if (v.kind == LTG_DELETE)
			v.payload_len = 0;
		model_add(m, key, sizeof(key), &v);
	}
}

/* Part of the entries have other writers: few or many. */
static void
scatter_writers(Model *m, uint32_t few)
{
	uint64_t	rnd = 31;

	for (uint32_t i = 0; i < m->n; i++)
		m->e[i].v.xid = rig_random(&rnd) % 3 != 0 ? 500 :
			few != 0 ? 100000 * (1 + rig_random(&rnd) % few) : 100000 + rig_random(&rnd) % 2000000;
}

/* One key, or the middle one of three, has versions in several blocks. */
static void
chain_model(Model *m, uint32_t keys, uint32_t n)
{
	memset(m, 0, sizeof(*m));
	for (uint32_t k = 0; k < keys; k++)
		for (uint32_t i = 0; i < (k == keys / 2 ? n : 1); i++)
		{
			uint8_t		key[5] = {0, 0, 0, 0, (uint8_t) k};
			uint8_t		payload[24] = {(uint8_t) i, (uint8_t) (i * 7), 3};
			LtgVersion	v = {.payload = payload, .payload_len = sizeof(payload), .seq = 1000 - i,
			.xid = 2000 - i, .state = LTG_COMMITTED};

			model_add(m, key, sizeof(key), &v);
		}
}

/* Rows of various lengths that share phrases. */
static void
phrases_model(Model *m, uint32_t n)
{
	static const char *const phrase[] = {
		"https://www.example-shop.com/electronics/item-", "?ref=newsletter&campaign=", "\"device\":\"mobile\",",
		"\"session\":\"", "duration_ms", "checkout_variant", "page_view", "add_to_cart"
	};
	uint64_t	rnd = 5;

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < n; i++)
	{
		uint8_t		key[5] = {0, 0, 0, (uint8_t) (i >> 8), (uint8_t) i};
		char		payload[256];
		int			len = snprintf(payload, sizeof(payload), "%s%u%s%s%06x",
								   phrase[rig_random(&rnd) % 8], (unsigned) (rig_random(&rnd) % 9999),
								   phrase[rig_random(&rnd) % 8], phrase[rig_random(&rnd) % 8],
								   (unsigned) (rig_random(&rnd) & 0xFFFFFF));
		LtgVersion	v = {.payload = (uint8_t *) payload, .payload_len = (uint32_t) len, .seq = i + 1,
		.state = LTG_SETTLED};

		model_add(m, key, sizeof(key), &v);
	}
}

/*
 * Change each byte up to `dense`, and every step-th after that; then cut the
 * file anywhere, in the same steps.
 */
static void
change_bytes(const Model *m, const LtgRunOptions *opt, size_t dense, size_t step, bool dictionary,
			 uint8_t form)
{
	Rig			r;
	LtgRunRef	ref;
	char		path[128];
	uint8_t    *bytes;
	size_t		len;
	size_t		i;
	uint64_t	rnd = 17;

	rig_open(&r);
	assert_int_equal(model_write(&r, m, 1, opt, &ref), LTG_OK);
	assert_true((ref.dict_disk_len != 0) == dictionary);
	rig_run_path(&r, 1, path, sizeof(path));
	bytes = slurp(path, &len);
	assert_int_equal(ref.disk_bytes <= len, 1);
	assert_int_equal(bytes[ref.dict_offset + ref.dict_disk_len + LTG_ENV_FORM], form);
	for (i = 0; i < len; i += i < dense || i + 200 > len ? 1 : step)
	{
		uint8_t		was = bytes[i];
		uint64_t	size;
		LtgStatus	verify;
		LtgStatus	check;
		LtgStatus	read;

		bytes[i] ^= (uint8_t) (1 << rig_random(&rnd) % 8);
		spill(path, bytes, len);
		verify = ltg_file_verify(&r.s, 1, &size, NULL, NULL);
		if (verify != LTG_OK)
			assert_int_equal(r.s.err.status, verify);
		ltg_clear_error(&r.s);
		check = ltg_run_check(&r.s, &ref);
		if (check != LTG_OK)
		{
			assert_int_equal(r.s.err.file_id, 1);
			assert_true(r.s.err.file[0] != '\0' && r.s.err.offset <= i);
		}
		ltg_clear_error(&r.s);
		ltg_blockio_free(&r.s); /* no dictionary from before */
		read = read_all(&r, m, &ref, LTG_CACHE_NORMAL);
		ltg_clear_error(&r.s);
		assert_true(notices(verify) || notices(check));
		assert_true(read == LTG_OK || notices(read));
		bytes[i] = was;
	}
	spill(path, bytes, len);
	assert_int_equal(ltg_run_check(&r.s, &ref), LTG_OK);

	for (i = len; i > step; i -= step)
	{
		uint64_t	size;

		if (truncate(path, (off_t) i - 1) != 0)
			fail();
		assert_true(notices(ltg_file_verify(&r.s, 1, &size, NULL, NULL)));
		ltg_clear_error(&r.s);
		if (i - 1 < ref.disk_bytes)
			assert_true(notices(ltg_run_check(&r.s, &ref)));
		ltg_clear_error(&r.s);
	}
	free(bytes);
	rig_close(&r);
}

static void
every_byte_counts(void **state)
{
	LtgRunOptions opt = rig_options();
	Model		m;

	(void) state;
	small_model(&m, 150, 2);
	opt.block_size = 700;
	change_bytes(&m, &opt, SIZE_MAX, 1, false, LTG_EF_DIFFS);
	model_free(&m);
	for (uint32_t keys = 1; keys <= 3; keys += 2)
	{
		chain_model(&m, keys, 150);
		change_bytes(&m, &opt, 0, 7, false, keys == 1 ? LTG_EF_DIFFS : 0);
		model_free(&m);
	}

	columns_model(&m, 600);
	opt.block_size = 4096;
	opt.last_level = true;
	change_bytes(&m, &opt, SIZE_MAX, 1, false, 0);
	model_free(&m);

	versions_model(&m, 400);
	opt.block_size = 2048;
	change_bytes(&m, &opt, SIZE_MAX, 1, false, LTG_EF_DIFFS);
	scatter_writers(&m, 0);
	change_bytes(&m, &opt, 0, 3, false, LTG_EF_DIFFS | LTG_EF_WRITERS);
	model_free(&m);

	phrases_model(&m, 1300);
	opt.block_size = 16384;
	change_bytes(&m, &opt, 200, 97, true, 0);
	model_free(&m);
}

/* A block of another file, or of another place, does not pass. */
static void
misplaced_blocks(void **state)
{
	LtgRunOptions opt = rig_options();
	Rig			r;
	Model		m;
	LtgRunRef	ref;
	LtgRunRef	ref2;
	char		path[128];
	char		path2[128];
	uint8_t    *bytes;
	size_t		len;

	(void) state;
	rig_open(&r);
	small_model(&m, 150, 2);
	assert_int_equal(model_write(&r, &m, 1, &opt, &ref), LTG_OK);
	assert_int_equal(model_write(&r, &m, 2, &opt, &ref2), LTG_OK);
	bytes = slurp(rig_run_path(&r, 1, path, sizeof(path)), &len);
	spill(rig_run_path(&r, 2, path2, sizeof(path2)), bytes, len);
	assert_int_equal(ltg_run_check(&r.s, &ref2), LTG_CORRUPT);
	ltg_clear_error(&r.s);
	assert_int_equal(read_all(&r, &m, &ref2, LTG_CACHE_NORMAL), LTG_CORRUPT);
	free(bytes);
	model_free(&m);
	rig_close(&r);
}

/* Give the file another format version. */
static void
set_version(Rig *r, LtgFileId id, uint32_t version)
{
	char		path[128];
	size_t		len;
	uint8_t    *bytes = slurp(rig_run_path(r, id, path, sizeof(path)), &len);
	uint8_t    *t = bytes + len - LTG_TR_BYTES;
	uint32_t	crc;

	ltg_store32(t + LTG_TR_VERSION, version);
	crc = ltg_crc32c(0, t, LTG_TR_CRC);
	crc = ltg_crc32c(crc, t + LTG_TR_VERSION, LTG_TR_BYTES - LTG_TR_VERSION);
	ltg_store32(t + LTG_TR_CRC, crc);
	spill(path, bytes, len);
	free(bytes);
}

/* A trailer of a later version is refused as such, not as damage. */
static void
newer_version(void **state)
{
	LtgRunOptions opt = rig_options();
	Rig			r;
	Model		m;
	LtgRunRef	ref;
	uint64_t	size;

	(void) state;
	rig_open(&r);
	small_model(&m, 10, 2);
	assert_int_equal(model_write(&r, &m, 1, &opt, &ref), LTG_OK);
	set_version(&r, 1, LTG_FORMAT_VERSION + 1);
	assert_int_equal(ltg_file_verify(&r.s, 1, &size, NULL, NULL), LTG_VERSION);
	ltg_clear_error(&r.s);
	assert_int_equal(ltg_file_verify(&r.s, 99, &size, NULL, NULL), LTG_CORRUPT);
	assert_string_equal(r.s.err.file, "0000000000000063.run");
	model_free(&m);
	rig_close(&r);
}

/* Version 2 has no differences, and is else the same: with every codec. */
static void
older_version(void **state)
{
	LtgRunOptions opt = rig_options();
	Rig			r;
	Model		m;
	LtgRunRef	ref;
	uint64_t	size;
	uint32_t	runs = 0;
	uint32_t	met = 0;		/* codecs, and transposed ones, by bit */
	LtgFileId	id = 3;

	(void) state;
	rig_open(&r);
	for (int i = 0; i < 16; i++)
	{
		char		path[128];
		size_t		len;
		uint8_t    *bytes;
		const uint8_t *env;

		if (i % 2 == 0)
			columns_model(&m, 600);
		else
			phrases_model(&m, 1300);
		opt.codec = (LtgCodecChoice) (i / 2 % 4);
		opt.last_level = i / 8 != 0;
		assert_int_equal(model_write(&r, &m, ++id, &opt, &ref), LTG_OK);
		bytes = slurp(rig_run_path(&r, id, path, sizeof(path)), &len);
		env = bytes + ref.dict_offset + ref.dict_disk_len;
		met |= 1u << (env[LTG_ENV_CODEC] + (env[LTG_ENV_STRIDE] != 0 ? 4 : 0));
		free(bytes);
		set_version(&r, id, 2);
		runs = 0;
		assert_int_equal(ltg_file_verify(&r.s, id, &size, count_runs, &runs), LTG_OK);
		assert_int_equal(runs, 1);
		assert_int_equal(ltg_run_check(&r.s, &ref), LTG_OK);
		assert_int_equal(read_all(&r, &m, &ref, LTG_CACHE_NORMAL), LTG_OK);
		model_free(&m);
	}
	assert_int_equal(met, 1 << LTG_STORED_NONE | 1 << LTG_STORED_LZ4 | 1 << LTG_STORED_ZSTD |
					 1 << LTG_STORED_ZSTD_DICT | 1 << (4 + LTG_STORED_LZ4) | 1 << (4 + LTG_STORED_ZSTD));
	runs = 0;
	/* several versions, none of them a difference */
	small_model(&m, 150, 2);
	opt.codec = LTG_CODEC_NONE;
	assert_int_equal(model_write(&r, &m, 3, &opt, &ref), LTG_OK);
	set_version(&r, 3, 2);
	assert_int_equal(ltg_file_verify(&r.s, 3, &size, count_runs, &runs), LTG_OK);
	assert_int_equal(read_all(&r, &m, &ref, LTG_CACHE_NORMAL), LTG_OK);
	assert_int_equal(runs, 1);
	model_free(&m);
	rig_close(&r);
}

/*
 * A block of this form whose bytes were changed and whose checksum fits: an error with
 * its place, or a block that passes for one, but nothing worse.
 */
static void
senseless_block(const Model *m, uint8_t form, uint64_t rnd)
{
	LtgRunOptions opt = rig_options();
	Rig			r;
	LtgRunRef	ref;
	char		path[128];
	size_t		len;
	uint8_t    *bytes;
	uint32_t	caught = 0;

	rig_open(&r);
	opt.codec = LTG_CODEC_LZ4;
	assert_int_equal(model_write(&r, m, 1, &opt, &ref), LTG_OK);
	assert_int_equal(ref.height, 0);	/* one block */
	bytes = slurp(rig_run_path(&r, 1, path, sizeof(path)), &len);
	for (int i = 0; i < 20000; i++)
	{
		uint8_t    *bad = malloc(len);
		uint8_t    *b = bad + ref.root_offset;
		uint8_t		place[16];
		const uint8_t *data;
		uint32_t	raw;
		void	   *owned = NULL;
		LtgBlockPtr at = ltg_run_root(&ref);
		LtgStatus	st;
		/* anywhere, or near the end */
		uint32_t	bound = ref.root_disk_len - LTG_ENV_BYTES;
		uint32_t	back = (uint32_t) (rig_random(&rnd) % (rig_random(&rnd) % 2 ? bound : 60));

		memcpy(bad, bytes, len);
		assert_int_equal(b[LTG_ENV_FORM], form);
		b[ref.root_disk_len - 1 - back] = (uint8_t) rig_random(&rnd);
		if (rig_random(&rnd) % 4 == 0)
			b[LTG_ENV_STRIDE] = (uint8_t) (rig_random(&rnd) % 10);
		if (rig_random(&rnd) % 4 == 0)
			ltg_store32(b + LTG_ENV_RAW, (uint32_t) (1 + rig_random(&rnd) % 9000));
		if (rig_random(&rnd) % 8 == 0)
			b[LTG_ENV_FORM] = (uint8_t) (rig_random(&rnd) % 5);
		ltg_store64(place, 1);
		ltg_store64(place + 8, ref.root_offset);
		ltg_store32(b, ltg_crc32c(ltg_crc32c(0, place, sizeof(place)), b + LTG_ENV_STORED,
								  ref.root_disk_len - LTG_ENV_STORED));
		spill(path, bad, len);
		st = ltg_block_read_file(&r.s, &at, LTG_BLOCK_DATA, &owned, &data, &raw);
		assert_true(st == LTG_OK || st == LTG_CORRUPT);
		if (st == LTG_CORRUPT)
		{
			caught++;
			assert_int_equal(r.s.err.file_id, 1);
			assert_int_equal(r.s.err.offset, ref.root_offset);
		}
		ltg_clear_error(&r.s);
		ltg_private_free(&r.s, &owned);
		free(bad);
	}
	assert_true(caught > 5000);
	free(bytes);
	rig_close(&r);
}

static void
senseless_forms(void **state)
{
	Model		m;

	(void) state;
	versions_model(&m, 90);
	senseless_block(&m, LTG_EF_DIFFS, 23);
	scatter_writers(&m, 0);
	senseless_block(&m, LTG_EF_DIFFS | LTG_EF_WRITERS, 24);
	scatter_writers(&m, 4);
	senseless_block(&m, LTG_EF_DIFFS | LTG_EF_WRITERS, 25);
	model_free(&m);
	columns_model(&m, 200);
	scatter_writers(&m, 0);
	senseless_block(&m, LTG_EF_WRITERS, 26);
	model_free(&m);
}

/*
 * Version 3 has no transaction ids of settled rows: they read as not known, also when
 * they have been written again.
 */
static void
version_3(void **state)
{
	LtgRunOptions opt = rig_options();
	Rig			r;
	Model		m;
	LtgRunRef	ref;
	char		path[128];
	uint64_t	size;
	FILE	   *f;

	(void) state;
	rig_open(&r);
	old_model(&m);
	f = fopen(rig_run_path(&r, 1, path, sizeof(path)), "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(old_file, 1, sizeof(old_file), f), sizeof(old_file));
	fclose(f);
	assert_int_equal(ltg_file_verify(&r.s, 1, &size, take_ref, &ref), LTG_OK);
	assert_int_equal(ref.entries, m.n);
	assert_int_equal(ltg_run_check(&r.s, &ref), LTG_OK);
	assert_int_equal(read_all(&r, &m, &ref, LTG_CACHE_NORMAL), LTG_OK);
	assert_int_equal(model_write(&r, &m, 2, &opt, &ref), LTG_OK);
	assert_int_equal(ltg_run_check(&r.s, &ref), LTG_OK);
	assert_int_equal(read_all(&r, &m, &ref, LTG_CACHE_NORMAL), LTG_OK);
	model_free(&m);
	rig_close(&r);
}

/* Bytes that make no sense but pass a checksum do not take the checker down. */
static void
senseless_blocks(void **state)
{
	Rig			r;
	LtgBlockBuilder b;
	Model		m;
	uint64_t	rnd = 5;
	uint64_t	size;
	uint8_t    *good;
	uint8_t    *key_buf = malloc(2 * LTG_KEY_MAX);
	uint32_t	i;
	uint32_t	caught = 0;

	(void) state;
	rig_open(&r);
	small_model(&m, 60, 3);
	ltg_builder_init(&b, &r.s);
	for (i = 0; i < m.n; i++)
	{
		bool		new_key = i == 0 || ltg_key_cmp(m.e[i].key, m.e[i].key_len,
													m.e[i - 1].key, m.e[i - 1].key_len) != 0;

		assert_int_equal(ltg_builder_add(&b, m.e[i].key, m.e[i].key_len, &m.e[i].v, new_key),
						 LTG_OK);
	}
	size = ltg_builder_size(&b, b.n);
	good = malloc(size);
	ltg_builder_build(&b, b.n, good, size);
	assert_true(ltg_block_check(good, (uint32_t) size, LTG_BLOCK_DATA));
	assert_null(ltg_block_verify(good, (uint32_t) size, key_buf));
	for (i = 0; i < 60000; i++)
	{
		uint8_t    *bad = malloc(size);
		uint32_t	changes = 1 + (uint32_t) (rig_random(&rnd) % 3);

		memcpy(bad, good, size);
		while (changes-- > 0)
		{
			uint64_t	at = rig_random(&rnd) % (rig_random(&rnd) % 2 ? LTG_BH_BYTES : size);

			bad[at] = (uint8_t) rig_random(&rnd);
		}
		if (rig_random(&rnd) % 2)
			bad[LTG_BH_TYPE] = rig_random(&rnd) % 2 ? LTG_BLOCK_INNER : LTG_BLOCK_DATA;
		if (!ltg_block_check(bad, (uint32_t) size, bad[LTG_BH_TYPE]) ||
			ltg_block_verify(bad, (uint32_t) size, key_buf) != NULL)
			caught++;
		free(bad);
	}
	assert_true(caught > 15000);
	free(good);
	free(key_buf);
	ltg_builder_free(&b);
	model_free(&m);
	rig_close(&r);
}

/* What the writer must refuse. */
static void
bad_input(void **state)
{
	LtgRunOptions opt = rig_options();
	LtgVersion	v = {.payload = (const uint8_t *) "x", .payload_len = 1};
	static uint8_t big[LTG_KEY_MAX + 1];
	Rig			r;
	LtgFileWriter *w;
	LtgRunRef	ref;

	(void) state;
	rig_open(&r);
	assert_int_equal(ltg_writer_open(&r.s, 1, &opt, &w), LTG_OK);
	assert_int_equal(ltg_writer_begin_run(w, "s", 1, &opt), LTG_OK);
	assert_int_equal(ltg_writer_add(w, (const uint8_t *) "b", 1, &v), LTG_OK);
	assert_int_equal(ltg_writer_add(w, (const uint8_t *) "a", 1, &v), LTG_INVALID);
	ltg_clear_error(&r.s);
	assert_int_equal(ltg_writer_add(w, big, sizeof(big), &v), LTG_TOO_LARGE);
	ltg_clear_error(&r.s);
	v.state = LTG_ABORTED;
	assert_int_equal(ltg_writer_add(w, (const uint8_t *) "c", 1, &v), LTG_INVALID);
	ltg_clear_error(&r.s);
	assert_int_equal(ltg_writer_end_run(w, &ref), LTG_OK);
	/* an empty run leaves no trace */
	assert_int_equal(ltg_writer_begin_run(w, "t", 1, &opt), LTG_OK);
	assert_int_equal(ltg_writer_end_run(w, &ref), LTG_OK);
	assert_int_equal(ref.entries, 0);
	ltg_writer_abort(w);
	rig_close(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_fails),
		cmocka_unit_test(interrupts),
		cmocka_unit_test(every_byte_counts),
		cmocka_unit_test(misplaced_blocks),
		cmocka_unit_test(newer_version),
		cmocka_unit_test(older_version),
		cmocka_unit_test(version_3),
		cmocka_unit_test(senseless_forms),
		cmocka_unit_test(senseless_blocks),
		cmocka_unit_test(bad_input),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
