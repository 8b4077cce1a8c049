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
	LtgManifestHeader h = {0};

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
			if (st == LTG_OK)
				break;
			assert_true(st == LTG_NOMEM || st == LTG_IO);
			ltg_clear_error(rig.s);
		}
	ltg_posix_no_faults(rig.posix);
	ltg_manifest_free(rig.s, &back);
	assert_int_equal(ltg_manifest_read(rig.s, 3, &back), LTG_OK);
	assert_same(&m, &back);
	assert_int_equal(ltg_manifest_read_header(rig.s, 3, &h), LTG_OK);
	assert_memory_equal(&h, &m.h, sizeof(h));
	assert_int_equal(ltg_manifest_read(rig.s, 4, &back), LTG_NOT_FOUND);
	ltg_manifest_free(rig.s, &back);
	ltg_manifest_free(rig.s, &m);
	core_close(&rig);
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
	assert_false(ltg_parse_manifest_name("0000000000000ABC.manifest", &n, &tmp));
	assert_false(ltg_parse_manifest_name("abc.manifest", &n, &tmp));
	assert_false(ltg_parse_manifest_name("0000000000000abc.manifest2", &n, &tmp));
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
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
