/*
 * manifest_test.c
 *	  Encoding and decoding, every flipped byte, cut files, a newer version,
 *	  and failures of every call that writes or reads a manifest.
 */
#include "core_rig.h"

#include "base/coding.h"
#include "base/crc32c.h"
#include "storage/file.h"
#include "tree/manifest.h"

static LtgManifest
sample(LtgSession *s, uint64_t number)
{
	LtgManifest m = {0};

	m.h.number = number;
	m.h.durable = 0x12345678;
	m.h.next_file_id = 50;
	m.h.next_store_id = 9;
	m.h.next_unlogged_seq = 77;
	for (uint64_t id = 40; id > 37; id--)
		assert_int_equal(ltg_manifest_add_file(s, &m, id, 100000 + id), LTG_OK);
	for (uint32_t i = 0; i < 5; i++)
	{
		LtgManifestStore st = {.id = i + 1,.key = core_key(100 + i),.stamp = i,
		.flags = LTG_STORE_KEEP_GRAVES,.next_rowid = 1000 + i,.graves_cleared = i};
		LtgStoreOptions opt = {(LtgCompression) (i % 4), (int) i - 2, i == 0 ? 0 : 1024 * i};

		st.options = ltg_store_options_pack(&opt);

		assert_int_equal(ltg_manifest_add_store(s, &m, &st), LTG_OK);
		for (uint32_t j = 0; j < i; j++)
		{
			LtgRunRef	r = {.file = 38 + j % 3,.root_offset = 1000 * i + j,
			.root_disk_len = 1000,.height = 1,.level = 0,.age = 100 - j,.entries = 5,
			.keys = 4,.min_seq = j,.max_seq = j + 1,.cut = j % 2 == 1};

			ltg_bound_set(&r.min_key, (const uint8_t *) "abc", 3);
			ltg_bound_set(&r.max_key, (const uint8_t *) "a key that is longer than a bound", 33);
			assert_int_equal(ltg_manifest_add_run(s, &m, &r), LTG_OK);
		}
	}
	for (uint32_t i = 0; i < 2; i++)
	{
		LtgManifestMerged g = {.store_id = i + 2, .merged = {.upto = 0x30000000 + i, .all = i == 1}};

		if (i == 0)
			ltg_bound_set(&g.merged.below, (const uint8_t *) "row\0", 4);
		assert_int_equal(ltg_manifest_add_merged(s, &m, &g), LTG_OK);
	}
	for (uint32_t i = 0; i < 3; i++)
	{
		LtgManifestDrop d = {core_key(200 + i), i, 0x20000000 + i};

		assert_int_equal(ltg_manifest_add_drop(s, &m, &d), LTG_OK);
	}
	return m;
}

static void
assert_same(const LtgManifest *a, const LtgManifest *b)
{
	assert_memory_equal(&a->h, &b->h, sizeof(a->h));
	for (uint32_t i = 0; i < b->h.n_files; i++)
	{
		assert_int_equal(b->files[i].id, 38 + i);	/* sorted */
		assert_int_equal(b->files[i].bytes, 100038 + i);
	}
	for (uint32_t i = 0; i < a->h.n_stores; i++)
	{
		const LtgManifestStore *x = &a->stores[i],
				   *y = &b->stores[i];

		assert_int_equal(x->id, y->id);
		assert_memory_equal(&x->key, &y->key, sizeof(x->key));
		assert_int_equal(x->stamp, y->stamp);
		assert_int_equal(x->flags, y->flags);
		assert_int_equal(x->n_runs, y->n_runs);
		assert_int_equal(x->first_run, y->first_run);
		assert_int_equal(x->next_rowid, y->next_rowid);
		assert_int_equal(x->graves_cleared, y->graves_cleared);
		assert_int_equal(x->options, y->options);
	}
	assert_memory_equal(a->drops, b->drops, a->h.n_drops * sizeof(*a->drops));
	assert_memory_equal(a->merged, b->merged, a->h.n_merged * sizeof(*a->merged));
	for (uint32_t i = 0; i < a->h.n_runs; i++)
		assert_memory_equal(&a->runs[i], &b->runs[i], sizeof(LtgRunRef));
}

static void
test_round_trip(void **state)
{
	CoreRig		rig;
	LtgManifest m,
				back = {0};
	uint8_t    *buf;
	size_t		len;

	(void) state;
	core_open(&rig);
	core_boot(&rig, false);
	m = sample(rig.s, 7);
	assert_int_equal(ltg_manifest_encode(rig.s, &m, &buf, &len), LTG_OK);
	assert_int_equal(ltg_manifest_decode(rig.s, buf, len, 7, &back), LTG_OK);
	assert_same(&m, &back);
	ltg_manifest_free(rig.s, &back);

	/* under another name it is not the one that was asked for */
	assert_int_equal(ltg_manifest_decode(rig.s, buf, len, 8, &back), LTG_CORRUPT);
	rig.port->free(rig.port, buf);
	ltg_manifest_free(rig.s, &m);
	core_close(&rig);
}

/* A manifest of format version 1: stores have no options, and references end
 * before the three zeros that stand for no dictionary. */
static void
test_version_1(void **state)
{
	CoreRig		rig;
	LtgManifest m,
				back = {0};
	uint8_t    *buf,
			   *old,
			   *from,
			   *p;
	size_t		len,
				stores;

	(void) state;
	core_open(&rig);
	core_boot(&rig, false);
	m = sample(rig.s, 7);
	assert_int_equal(ltg_manifest_encode(rig.s, &m, &buf, &len), LTG_OK);
	old = malloc(len);
	stores = LTG_MANIFEST_HEADER + m.h.n_files * 16;
	memcpy(old, buf, stores);
	p = old + stores;
	for (uint32_t i = 0; i < m.h.n_stores; i++, p += 56)
		memcpy(p, buf + stores + i * 64, 56);
	from = buf + stores + m.h.n_stores * 64;
	for (uint32_t i = 0; i < m.h.n_runs; i++)
	{
		uint8_t		ref[LTG_RUN_REF_MAX];
		uint32_t	n = ltg_run_ref_encode(ref, &m.runs[i]);

		memcpy(p, from, n - 3);
		p += n - 3;
		from += n + 1;
	}
	/* without the parts of generations, which are the last there is */
	len -= m.h.n_merged * (8 + 8 + 2 + LTG_BOUND_BYTES);
	memcpy(p, from, (size_t) (buf + len - 4 - from));
	p += buf + len - 4 - from;
	ltg_store32(old + 8, 1);
	ltg_store32(old + 80, 0);
	ltg_store64(old + 16, (uint64_t) (p - old) + 4);
	ltg_store32(old + LTG_MANIFEST_HEADER - 4, ltg_crc32c(0, old, LTG_MANIFEST_HEADER - 4));
	ltg_store32(p, ltg_crc32c(0, old, (size_t) (p - old)));

	assert_int_equal(ltg_manifest_decode(rig.s, old, (size_t) (p - old) + 4, 7, &back), LTG_OK);
	assert_int_equal(back.h.version, 1);
	for (uint32_t i = 0; i < m.h.n_stores; i++)
		m.stores[i].options = 0;
	for (uint32_t i = 0; i < m.h.n_runs; i++)
		m.runs[i].cut = false;
	m.h.version = 1;
	m.h.n_merged = 0;
	m.h.bytes = (uint64_t) (p - old) + 4;
	assert_same(&m, &back);
	ltg_manifest_free(rig.s, &back);
	free(old);
	rig.port->free(rig.port, buf);
	ltg_manifest_free(rig.s, &m);
	core_close(&rig);
}

static void
test_every_byte(void **state)
{
	CoreRig		rig;
	LtgManifest m,
				back = {0};
	uint8_t    *buf;
	size_t		len;

	(void) state;
	core_open(&rig);
	core_boot(&rig, false);
	m = sample(rig.s, 7);
	assert_int_equal(ltg_manifest_encode(rig.s, &m, &buf, &len), LTG_OK);
	for (size_t i = 0; i < len; i++)
		for (int bit = 0; bit < 8; bit += 7)
		{
			buf[i] ^= (uint8_t) (1 << bit);
			assert_int_equal(ltg_manifest_decode(rig.s, buf, len, 7, &back), LTG_CORRUPT);
			assert_int_equal(rig.s->err.status, LTG_CORRUPT);
			assert_string_equal(rig.s->err.file, "0000000000000007.manifest");
			ltg_clear_error(rig.s);
			buf[i] ^= (uint8_t) (1 << bit);
		}
	for (size_t i = 0; i < len; i++)
	{
		assert_int_equal(ltg_manifest_decode(rig.s, buf, i, 7, &back), LTG_CORRUPT);
		ltg_clear_error(rig.s);
	}
	rig.port->free(rig.port, buf);
	ltg_manifest_free(rig.s, &m);
	core_close(&rig);
}

/* Right checksums around wrong contents, as a hostile or buggy writer makes them. */
static void
test_wrong_contents(void **state)
{
	CoreRig		rig;
	LtgManifest m,
				back = {0};
	uint8_t    *buf;
	size_t		len;
	uint64_t	seed = 1;
	uint32_t	accepted = 0;

	(void) state;
	core_open(&rig);
	core_boot(&rig, false);
	m = sample(rig.s, 7);
	assert_int_equal(ltg_manifest_encode(rig.s, &m, &buf, &len), LTG_OK);
	for (int round = 0; round < 20000; round++)
	{
		uint8_t    *copy = malloc(len);
		LtgStatus	st;

		memcpy(copy, buf, len);
		for (int i = 0; i < 3; i++)
		{
			seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
			copy[16 + (seed >> 33) % (len - 16)] = (uint8_t) (seed >> 13);
		}
		ltg_store32(copy + 92, ltg_crc32c(0, copy, 92));
		ltg_store32(copy + len - 4, ltg_crc32c(0, copy, len - 4));
		st = ltg_manifest_decode(rig.s, copy, len, 7, &back);
		if (st == LTG_OK)
		{
			accepted++;
			for (uint32_t i = 0; i < back.h.n_stores; i++)
				assert_true(back.stores[i].first_run + back.stores[i].n_runs <= back.h.n_runs);
			ltg_manifest_free(rig.s, &back);
		}
		else
			assert_int_equal(st, LTG_CORRUPT);
		ltg_clear_error(rig.s);
		free(copy);
	}
	assert_true(accepted > 0);
	rig.port->free(rig.port, buf);
	ltg_manifest_free(rig.s, &m);
	core_close(&rig);
}

static void
test_newer_version(void **state)
{
	CoreRig		rig;
	LtgManifest m,
				back = {0};
	uint8_t    *buf;
	size_t		len;
	char		version[32];

	(void) state;
	core_open(&rig);
	core_boot(&rig, false);
	m = sample(rig.s, 7);
	assert_int_equal(ltg_manifest_encode(rig.s, &m, &buf, &len), LTG_OK);
	ltg_store32(buf + 8, LTG_MANIFEST_VERSION + 1);
	ltg_store32(buf + 92, ltg_crc32c(0, buf, 92));
	assert_int_equal(ltg_manifest_decode(rig.s, buf, len, 7, &back), LTG_VERSION);
	snprintf(version, sizeof(version), "format version %d,", LTG_MANIFEST_VERSION + 1);
	assert_non_null(strstr(rig.s->err.msg, version));
	rig.port->free(rig.port, buf);
	ltg_manifest_free(rig.s, &m);
	core_close(&rig);
}

/* The n-th call of every kind fails: nothing of the manifest is left. */
static void
test_write_failures(void **state)
{
	static const LtgFaultKind kinds[] = {LTG_FAULT_ALLOC, LTG_FAULT_OPEN, LTG_FAULT_WRITE,
	LTG_FAULT_SYNC, LTG_FAULT_RENAME, LTG_FAULT_DIR_SYNC};
	CoreRig		rig;
	uint64_t	number = 1;

	(void) state;
	core_open(&rig);
	core_boot(&rig, false);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
	{
		LtgManifest m = sample(rig.s, number++);
		uint32_t	before = core_count_files(&rig, "");

		ltg_posix_fail(rig.posix, kinds[k], 1, false, 0);
		assert_int_not_equal(ltg_manifest_write(rig.s, &m), LTG_OK);
		assert_int_not_equal(rig.s->err.status, LTG_OK);
		ltg_clear_error(rig.s);
		ltg_posix_no_faults(rig.posix);
		assert_int_equal(core_count_files(&rig, ""), before);
		m.h.number = number++;
		assert_int_equal(ltg_manifest_write(rig.s, &m), LTG_OK);
		ltg_manifest_free(rig.s, &m);
	}
	core_close(&rig);
}

static void
test_read_failures(void **state)
{
	static const LtgFaultKind kinds[] = {LTG_FAULT_ALLOC, LTG_FAULT_OPEN, LTG_FAULT_READ,
	LTG_FAULT_SIZE};
	CoreRig		rig;
	LtgManifest m,
				back = {0};

	(void) state;
	core_open(&rig);
	core_boot(&rig, false);
	m = sample(rig.s, 3);
	assert_int_equal(ltg_manifest_write(rig.s, &m), LTG_OK);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (uint64_t nth = 1;; nth++)
		{
			LtgStatus	st;

			ltg_posix_fail(rig.posix, kinds[k], nth, false, 0);
			st = ltg_manifest_read(rig.s, 3, &back);
			/* a copy that can't be read is not missed */
			if (st == LTG_OK)
			{
				assert_same(&m, &back);
				ltg_manifest_free(rig.s, &back);
				if (kinds[k] != LTG_FAULT_ALLOC || nth > 40)
					break;
				continue;
			}
			assert_int_equal(st, LTG_NOMEM);
			ltg_clear_error(rig.s);
		}
	ltg_posix_no_faults(rig.posix);
	assert_int_equal(ltg_manifest_read(rig.s, 3, &back), LTG_OK);
	assert_same(&m, &back);
	assert_int_equal(ltg_manifest_read(rig.s, 4, &back), LTG_NOT_FOUND);
	ltg_manifest_free(rig.s, &back);
	ltg_manifest_free(rig.s, &m);
	core_close(&rig);
}

/* ---- edits ---- */

#define EDITS 3

/* A checkpoint and edits of it; end[i]: where edit i ends, end[0] the checkpoint. */
static void
write_log(CoreRig *rig, uint64_t number, long *end)
{
	LtgManifest m = sample(rig->s, number);

	assert_int_equal(ltg_manifest_write(rig->s, &m), LTG_OK);
	end[0] = (long) m.h.bytes;
	ltg_manifest_free(rig->s, &m);
	for (uint32_t i = 1; i <= EDITS; i++)
	{
		LtgManifest e = {.h = {.number = number + i, .durable = 0x20000000 + i, .next_file_id = 60,
		.next_store_id = 20, .next_unlogged_seq = 80}};
		LtgManifestStore st = {.id = 3, .key = core_key(102), .stamp = 2, .next_rowid = 5000 + i};
		LtgManifestRemoved gone = {3, i == 1 ? 38 : 49 + i - 1, i == 1 ? 2000 : 7};
		LtgRunRef	r = {.file = 49 + i, .root_offset = 7, .root_disk_len = 100, .height = 1, .level = 1,
		.age = 200 + i, .entries = 3, .keys = 3, .min_seq = 1, .max_seq = 2};

		/* each replaces the run of the one before; the last one empties store 5, drops 4 */
		assert_int_equal(ltg_manifest_add_file(rig->s, &e, 49 + i, 1000), LTG_OK);
		assert_int_equal(ltg_manifest_add_store(rig->s, &e, &st), LTG_OK);
		assert_int_equal(ltg_manifest_add_run(rig->s, &e, &r), LTG_OK);
		assert_int_equal(ltg_manifest_add_removed(rig->s, &e, &gone), LTG_OK);
		if (i == EDITS)
		{
			LtgManifestStore empty = {.id = 15, .key = core_key(104), .stamp = 4};
			LtgManifestDrop d = {core_key(103), 3, 0x30000000};

			assert_int_equal(ltg_manifest_add_store(rig->s, &e, &empty), LTG_OK);
			assert_int_equal(ltg_manifest_add_drop(rig->s, &e, &d), LTG_OK);
		}
		assert_int_equal(ltg_manifest_append(rig->s, number, (uint64_t) end[i - 1], &e), LTG_OK);
		end[i] = end[i - 1] + (long) e.h.bytes;
		ltg_manifest_free(rig->s, &e);
	}
}

/* What it says after so many edits. */
static void
assert_edits(CoreRig *rig, uint64_t number, uint64_t limit, uint32_t edits)
{
	LtgManifest m = {0};
	uint64_t	last;
	uint32_t	found = 0;

	assert_int_equal(ltg_manifest_read_upto(rig->s, number, limit, &m, &last), LTG_OK);
	assert_int_equal(m.h.number, number + edits);
	assert_int_equal(m.h.durable, edits == 0 ? 0x12345678 : 0x20000000 + edits);
	for (uint32_t i = 0; i < m.h.n_stores; i++)
	{
		const LtgManifestStore *st = &m.stores[i];

		if (st->id == 3)
		{
			assert_int_equal(st->next_rowid, edits == 0 ? 1002 : 5000 + edits);
			assert_int_equal(st->n_runs, 2);
			for (uint32_t j = 0; j < 2; j++)
				found += m.runs[st->first_run + j].file == 49 + edits;
			found += edits == 0;
		}
		if (st->key.relation == 104)
		{
			assert_int_equal(st->id, edits == EDITS ? 15 : 5);
			assert_int_equal(st->n_runs, edits == EDITS ? 0 : 4);
		}
	}
	assert_int_equal(found, 1);
	assert_int_equal(m.h.n_stores, edits == EDITS ? 4 : 5);
	/* tombstones from before D are gone: of the sample's, those up to 0x20000002 */
	assert_int_equal(m.h.n_drops, edits == 0 ? 3 : edits == EDITS ? 1 : 2 - edits);
	for (uint32_t i = 0; i < m.h.n_files; i++)
		if (m.files[i].id > 49)
		{
			assert_int_equal(m.files[i].id, 49 + edits);
			assert_int_equal(m.files[i].added, number + edits);
		}
	ltg_manifest_free(rig->s, &m);
}

static void
test_edits(void **state)
{
	CoreRig		rig;
	long		end[EDITS + 1];

	(void) state;
	core_open(&rig);
	core_boot(&rig, false);
	write_log(&rig, 10, end);
	for (uint32_t i = 0; i <= EDITS; i++)
		assert_edits(&rig, 10, 10 + i, i);
	assert_edits(&rig, 10, UINT64_MAX, EDITS);
	core_close(&rig);
}

/* Any byte of either copy is flipped, or it ends anywhere, or is missing: the other has everything. */
static void
test_one_copy(void **state)
{
	CoreRig		rig;
	long		end[EDITS + 1];
	char		name[LTG_NAME_MAX];

	(void) state;
	core_open(&rig);
	core_boot(&rig, false);
	write_log(&rig, 10, end);
	for (int copy = 0; copy < LTG_MANIFEST_COPIES; copy++)
	{
		ltg_manifest_copy_name(name, 10, copy, false);
		assert_int_equal(core_file_size(&rig, name), end[EDITS]);
		for (long at = 0; at < end[EDITS]; at++)
		{
			core_flip(&rig, name, at, 0x41);
			assert_edits(&rig, 10, UINT64_MAX, EDITS);
			core_flip(&rig, name, at, 0x41);
		}
	}
	core_truncate(&rig, name, end[EDITS] - 1);
	assert_edits(&rig, 10, UINT64_MAX, EDITS);
	core_unlink(&rig, name);
	assert_edits(&rig, 10, UINT64_MAX, EDITS);
	core_close(&rig);
}

/* Both end in the middle of an edit: it was being written.  Both are damaged before their
 * end: that is no end. */
static void
test_both_copies(void **state)
{
	CoreRig		rig;
	long		end[EDITS + 1];
	LtgManifest m = {0};
	char		name[LTG_MANIFEST_COPIES][LTG_NAME_MAX];

	(void) state;
	core_open(&rig);
	core_boot(&rig, false);
	write_log(&rig, 10, end);
	for (int copy = 0; copy < LTG_MANIFEST_COPIES; copy++)
		ltg_manifest_copy_name(name[copy], 10, copy, false);
	for (long at = end[0]; at < end[EDITS - 1]; at += 3)
	{
		core_flip(&rig, name[0], at, 0x41);
		core_flip(&rig, name[1], at, 0x41);
		assert_int_equal(ltg_manifest_read(rig.s, 10, &m), LTG_CORRUPT);
		ltg_clear_error(rig.s);
		core_flip(&rig, name[0], at, 0x41);
		core_flip(&rig, name[1], at, 0x41);
	}
	for (long at = end[EDITS] - 1; at >= end[0]; at--)
	{
		uint32_t	edits = 0;

		while (edits < EDITS && end[edits + 1] <= at)
			edits++;
		core_truncate(&rig, name[0], at);
		core_truncate(&rig, name[1], at);
		assert_edits(&rig, 10, UINT64_MAX, edits);
	}
	core_close(&rig);
}

/* Right checksums around wrong contents of edits. */
static void
test_wrong_edits(void **state)
{
	CoreRig		rig;
	long		end[EDITS + 1];
	char		name[LTG_NAME_MAX],
				path[200];
	uint8_t    *whole,
			   *copy;
	uint64_t	seed = 7;
	uint32_t	accepted = 0,
				refused = 0;
	FILE	   *f;

	(void) state;
	core_open(&rig);
	core_boot(&rig, false);
	write_log(&rig, 10, end);
	ltg_manifest_copy_name(name, 10, 1, false);
	core_unlink(&rig, name);
	ltg_manifest_name(name, 10);
	snprintf(path, sizeof(path), "%s/%s", rig.dir, name);
	whole = malloc((size_t) end[EDITS]);
	copy = malloc((size_t) end[EDITS]);
	f = fopen(path, "rb");
	assert_int_equal(fread(whole, 1, (size_t) end[EDITS], f), end[EDITS]);
	fclose(f);
	for (int round = 0; round < 4000; round++)
	{
		LtgManifest m = {0};
		LtgStatus	st;

		memcpy(copy, whole, (size_t) end[EDITS]);
		for (int i = 0; i < EDITS; i++)
		{
			uint8_t    *e = copy + end[i];
			size_t		len = (size_t) (end[i + 1] - end[i]);

			for (int j = 0; j < 2; j++)
			{
				seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
				e[32 + (seed >> 33) % (len - 32)] = (uint8_t) (seed >> 13);
			}
			ltg_store32(e + 92, ltg_crc32c(0, e, 92));
			ltg_store32(e + len - 4, ltg_crc32c(0, e, len - 4));
		}
		f = fopen(path, "wb");
		assert_int_equal(fwrite(copy, 1, (size_t) end[EDITS], f), end[EDITS]);
		fclose(f);
		st = ltg_manifest_read(rig.s, 10, &m);
		accepted += st == LTG_OK;
		refused += st == LTG_CORRUPT;
		assert_true(st == LTG_OK || st == LTG_CORRUPT);
		for (uint32_t i = 0; i < m.h.n_stores; i++)
			assert_true(m.stores[i].first_run + m.stores[i].n_runs <= m.h.n_runs);
		ltg_manifest_free(rig.s, &m);
		ltg_clear_error(rig.s);
	}
	assert_true(accepted > 0 && refused > 0);
	free(whole);
	free(copy);
	core_close(&rig);
}

/* What one publication writes does not grow with the number of stores. */
static uint64_t
bytes_per_flush(uint32_t stores)
{
	CoreRig		rig;
	LtgStats	before,
				after;

	core_open(&rig);
	core_boot(&rig, true);
	for (uint32_t i = 1; i <= stores; i++)
		core_put(&rig, core_store(&rig, i, 0), 1, 1);
	assert_int_equal(core_flush(&rig), LTG_OK);
	ltg_stats(rig.s, &before);
	for (uint32_t i = 0; i < 20; i++)
	{
		core_put(&rig, core_store(&rig, 1, 0), 1, i);
		assert_int_equal(core_flush(&rig), LTG_OK);
	}
	ltg_stats(rig.s, &after);
	core_close(&rig);
	return (after.manifest_bytes - before.manifest_bytes) / 20;
}

static void
test_bytes(void **state)
{
	uint64_t	few = bytes_per_flush(2),
				many = bytes_per_flush(400);

	(void) state;
	print_message("%llu bytes of manifest per flush of one of 2 stores, %llu of one of 400\n",
				  (unsigned long long) few, (unsigned long long) many);
	assert_in_range(few, 200, 2000);
	assert_in_range(many, 200, few + few / 10);
}

static void
test_names(void **state)
{
	char		buf[LTG_NAME_MAX];
	uint64_t	n;
	bool		tmp;

	(void) state;
	ltg_manifest_name(buf, 0xabc);
	assert_string_equal(buf, "0000000000000abc.manifest");
	assert_true(ltg_parse_manifest_name(buf, &n, &tmp));
	assert_int_equal(n, 0xabc);
	assert_false(tmp);
	ltg_manifest_tmp_name(buf, 0xabc);
	assert_true(ltg_parse_manifest_name(buf, &n, &tmp));
	assert_true(tmp);
	assert_true(ltg_parse_manifest_name("0000000000000abc.manifest2", &n, &tmp));
	assert_false(tmp);
	assert_false(ltg_parse_manifest_name("0000000000000ABC.manifest", &n, &tmp));
	assert_false(ltg_parse_manifest_name("abc.manifest", &n, &tmp));
	assert_false(ltg_parse_manifest_name("0000000000000abc.manifest3", &n, &tmp));
	assert_false(ltg_parse_manifest_name("", &n, &tmp));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_version_1),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_wrong_contents),
		cmocka_unit_test(test_newer_version),
		cmocka_unit_test(test_write_failures),
		cmocka_unit_test(test_read_failures),
		cmocka_unit_test(test_edits),
		cmocka_unit_test(test_one_copy),
		cmocka_unit_test(test_both_copies),
		cmocka_unit_test(test_wrong_edits),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
