/*
 * load_test.c
 *	  Starting: which manifest is chosen, what is taken back, what is removed;
 *	  failures of every call while publishing and while loading.
 */
#include "core_rig.h"

#include "storage/file.h"
#include "tree/manifest.h"

static void
manifest_path(uint64_t number, char *buf)
{
	ltg_manifest_name(buf, number);
}

/* keys 0..n-1 of the store hold `value`, others nothing */
static void
assert_rows(CoreRig *rig, LtgStore *st, uint32_t n, int64_t value)
{
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(core_get(rig, st, i), value);
	assert_int_equal(core_get(rig, st, n), -1);
}

static void
put_rows(CoreRig *rig, LtgStore *st, uint32_t n, uint32_t value)
{
	for (uint32_t i = 0; i < n; i++)
		core_put(rig, st, i, value);
}

static LtgStatus
try_boot(CoreRig *rig, LtgSeq min_durable, LtgLoadInfo *info)
{
	LtgLoadOptions opt = {.min_durable = min_durable,.reset_unlogged = true};

	core_boot(rig, false);
	return ltg_load(rig->s, &opt, info);
}

static void
test_empty(void **state)
{
	CoreRig		rig;
	LtgLoadInfo info;

	(void) state;
	core_open(&rig);
	assert_int_equal(try_boot(&rig, 500, &info), LTG_OK);
	assert_int_equal(info.manifest, 0);
	assert_int_equal(info.durable, 500);
	assert_int_equal(ltg_load(rig.s, &(LtgLoadOptions) {0}, &info), LTG_INVALID);
	ltg_clear_error(rig.s);
	core_check(&rig);
	core_close(&rig);
}

static void
test_reload(void **state)
{
	CoreRig		rig;
	LtgLoadInfo info;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	for (uint32_t round = 1; round <= 5; round++)
	{
		put_rows(&rig, core_store(&rig, round, 0), 100, round);
		put_rows(&rig, core_store(&rig, 100, 0), 100, round);
		assert_int_equal(core_flush(&rig), LTG_OK);
		core_check(&rig);
		core_down(&rig);
		assert_int_equal(try_boot(&rig, rig.wal, &info), LTG_OK);
		assert_int_equal(info.files_missing, 0);
		assert_int_equal(info.manifests_skipped, 0);
		assert_int_equal(info.durable, rig.wal);
		for (uint32_t i = 1; i <= round; i++)
			assert_rows(&rig, core_store(&rig, i, 0), 100, i);
		assert_rows(&rig, core_store(&rig, 100, 0), 100, round);
		core_check(&rig);
	}
	core_close(&rig);
}

static void
test_unlogged(void **state)
{
	CoreRig		rig;
	LtgStore   *u,
			   *p;
	uint64_t	id;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	u = core_store(&rig, 1, LTG_STORE_UNLOGGED);
	p = core_store(&rig, 2, 0);
	put_rows(&rig, u, 10, 1);
	put_rows(&rig, p, 10, 1);
	put_rows(&rig, core_store(&rig, 3, LTG_STORE_TEMP), 10, 1);
	ltg_store_take_rowids(u, 500);
	assert_int_equal(core_flush(&rig), LTG_OK);

	/* a clean restart keeps the unlogged one, and no temporary one */
	core_down(&rig);
	core_boot(&rig, true);
	assert_rows(&rig, core_store(&rig, 1, 0), 10, 1);
	assert_int_equal(ltg_store_list(rig.s, NULL, 0), 2);
	core_check(&rig);

	/* a crash empties it; row ids go on */
	core_down(&rig);
	core_boot_crashed(&rig);
	u = core_store(&rig, 1, 0);
	assert_rows(&rig, u, 0, 0);
	assert_int_equal(ltg_store_next_rowid(u), 500);
	assert_rows(&rig, core_store(&rig, 2, 0), 10, 1);
	core_check(&rig);

	/* and so does the explicit reset, of memory and files */
	put_rows(&rig, u, 5, 2);
	assert_int_equal(core_flush(&rig), LTG_OK);
	put_rows(&rig, u, 7, 3);
	put_rows(&rig, core_store(&rig, 3, LTG_STORE_TEMP), 10, 1);
	id = ltg_store_id(u);
	assert_int_equal(ltg_reset_unlogged(rig.s), LTG_OK);
	assert_int_not_equal(ltg_store_id(u), id);
	assert_rows(&rig, u, 0, 0);
	assert_int_equal(ltg_store_list(rig.s, NULL, 0), 2);
	core_check(&rig);
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_rows(&rig, u, 0, 0);
	put_rows(&rig, u, 3, 4);
	assert_rows(&rig, u, 3, 4);
	core_check(&rig);
	core_close(&rig);
}

/* L1, L2: what the store table has from above D is taken back. */
static void
test_ahead_of_d(void **state)
{
	CoreRig		rig;
	LtgStoreKey k1 = core_key(1),
				k2 = core_key(2);
	LtgStore   *st;
	LtgSeq		d;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	put_rows(&rig, core_store(&rig, 1, 0), 10, 1);
	assert_int_equal(core_flush(&rig), LTG_OK);
	d = ltg_durable(rig.s);
	core_store(&rig, 2, 0);
	core_store(&rig, 3, LTG_STORE_UNLOGGED);
	assert_int_equal(ltg_store_drop(rig.s, &k1, rig.wal += 10), LTG_OK);
	assert_int_equal(ltg_publish_pending(rig.s, true), LTG_OK);
	assert_true(rig.wal_flushed >= rig.wal);	/* P3 */
	assert_int_equal(ltg_durable(rig.s), d);

	core_down(&rig);
	core_boot_crashed(&rig);
	assert_int_equal(ltg_durable(rig.s), d);
	assert_int_equal(ltg_store_find(rig.s, &k2, &st), LTG_NOT_FOUND);
	assert_false(ltg_store_was_dropped(rig.s, &k2));
	assert_int_equal(ltg_store_find(rig.s, &k1, &st), LTG_NOT_FOUND);
	assert_true(ltg_store_was_dropped(rig.s, &k1));
	assert_int_equal(ltg_store_list(rig.s, NULL, 0), 0);
	core_check(&rig);
	/* the tombstone is still there after another restart */
	assert_int_equal(ltg_publish_pending(rig.s, true), LTG_OK);
	core_down(&rig);
	core_boot_crashed(&rig);
	assert_true(ltg_store_was_dropped(rig.s, &k1));
	core_close(&rig);
}

/* If the log can't be flushed up to the drop, the drop must not be in a manifest. */
static void
test_drop_needs_log(void **state)
{
	CoreRig		rig;
	LtgStoreKey key = core_key(1);
	uint64_t	manifest;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	put_rows(&rig, core_store(&rig, 1, 0), 10, 1);
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_int_equal(ltg_store_drop(rig.s, &key, rig.wal += 10), LTG_OK);
	manifest = rig.sh->manifest;
	rig.wal_flush_fails = 1;
	assert_int_equal(ltg_publish_pending(rig.s, true), LTG_IO);
	ltg_clear_error(rig.s);
	assert_int_equal(rig.sh->manifest, manifest);
	core_check(&rig);
	core_down(&rig);
	core_boot_crashed(&rig);
	assert_rows(&rig, core_store(&rig, 1, 0), 10, 1);
	core_close(&rig);
}

static void
test_damaged_newest(void **state)
{
	CoreRig		rig;
	LtgLoadInfo info;
	char		name[LTG_NAME_MAX];
	LtgSeq		d1;
	uint64_t	m1,
				m2;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	put_rows(&rig, core_store(&rig, 1, 0), 10, 1);
	assert_int_equal(core_flush(&rig), LTG_OK);
	d1 = ltg_durable(rig.s);
	m1 = rig.sh->manifest;
	put_rows(&rig, core_store(&rig, 1, 0), 20, 2);
	assert_int_equal(core_flush(&rig), LTG_OK);
	m2 = rig.sh->manifest;
	core_down(&rig);

	/* in one copy: nothing is missing */
	manifest_path(m1, name);
	core_flip(&rig, name, core_file_size(&rig, name) - 5, 0x10);
	assert_int_equal(try_boot(&rig, rig.wal, &info), LTG_OK);
	assert_int_equal(info.manifest, m2);
	assert_non_null(strstr(rig.log, "0000000000000001.manifest is missing, damaged"));
	core_down(&rig);
	ltg_manifest_copy_name(name, m1, 1, false);
	core_flip(&rig, name, core_file_size(&rig, name) - 5, 0x10);
	/* in both: what comes before does not reach far enough: refuse */
	assert_int_equal(try_boot(&rig, rig.wal, &info), LTG_CORRUPT);
	assert_true(core_file_size(&rig, name) > 0);
	core_down(&rig);
	/* if the log is there to replay, use it */
	assert_int_equal(try_boot(&rig, d1, &info), LTG_OK);
	assert_int_equal(info.manifest, m1);
	assert_int_equal(info.durable, d1);
	assert_rows(&rig, core_store(&rig, 1, 0), 10, 1);
	/* the damaged one's file is gone */
	assert_int_equal(core_count_files(&rig, ".run"), 1);
	core_check(&rig);
	/* numbers go on above everything that was there */
	put_rows(&rig, core_store(&rig, 1, 0), 5, 3);
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_true(rig.sh->manifest > m1);
	core_check(&rig);
	core_close(&rig);
}

static void
test_missing_file(void **state)
{
	CoreRig		rig;
	LtgLoadInfo info;
	char		name[LTG_NAME_MAX];
	LtgSeq		d1;
	uint64_t	m1;
	LtgStore   *st;
	LtgSnapshot snap = {.xmin = 1000};
	LtgRow		row = {0};

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	put_rows(&rig, core_store(&rig, 1, 0), 10, 1);
	assert_int_equal(core_flush(&rig), LTG_OK);
	d1 = ltg_durable(rig.s);
	m1 = rig.sh->manifest;
	put_rows(&rig, core_store(&rig, 2, 0), 20, 2);
	assert_int_equal(core_flush(&rig), LTG_OK);
	core_down(&rig);

	/* the second file is cut: the manifest before it is whole */
	ltg_run_name(name, 2);
	core_truncate(&rig, name, core_file_size(&rig, name) - 1);
	assert_int_equal(try_boot(&rig, d1, &info), LTG_OK);
	assert_int_equal(info.manifest, m1);
	assert_int_equal(info.manifests_skipped, 1);
	put_rows(&rig, core_store(&rig, 2, 0), 20, 2);
	assert_int_equal(core_flush(&rig), LTG_OK);
	core_check(&rig);
	core_down(&rig);

	/* the first file is gone: nothing is whole, the newest is used */
	ltg_run_name(name, 1);
	core_unlink(&rig, name);
	assert_int_equal(try_boot(&rig, d1, &info), LTG_OK);
	assert_int_equal(info.files_missing, 1);
	assert_int_equal(info.manifests_skipped, 0);
	assert_int_equal(info.durable, rig.wal);
	assert_non_null(strstr(rig.log, "0000000000000001.run is missing"));
	assert_rows(&rig, core_store(&rig, 2, 0), 20, 2);
	/* its rows are errors that name it, never "no row" */
	st = core_store(&rig, 1, 0);
	assert_int_equal(ltg_get(rig.s, st, (const uint8_t *) "\0\0\0\1", 4, &snap, &row), LTG_CORRUPT);
	assert_string_equal(rig.s->err.file, "0000000000000001.run");
	ltg_row_free(rig.s, &row);
	core_close(&rig);
}

static void
test_leftovers(void **state)
{
	CoreRig		rig;
	LtgLoadInfo info;
	char		path[200];
	static const char *const names[] = {
		"0000000000000009.run.tmp", "00000000000000ff.manifest.tmp",
		"0000000000000077.run", "foreign.txt"
	};

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	put_rows(&rig, core_store(&rig, 1, 0), 10, 1);
	assert_int_equal(core_flush(&rig), LTG_OK);
	core_down(&rig);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		FILE	   *f;

		snprintf(path, sizeof(path), "%s/%s", rig.dir, names[i]);
		f = fopen(path, "wb");
		fputs("junk", f);
		fclose(f);
	}
	assert_int_equal(try_boot(&rig, 0, &info), LTG_OK);
	assert_int_equal(core_count_files(&rig, ".tmp"), 0);
	assert_int_equal(core_count_files(&rig, ".run"), 1);
	assert_int_equal(core_count_files(&rig, "foreign.txt"), 1);
	assert_rows(&rig, core_store(&rig, 1, 0), 10, 1);
	/* numbers start above what was seen */
	assert_int_equal(ltg_new_file_id(rig.s), 0x78);
	put_rows(&rig, core_store(&rig, 1, 0), 10, 2);
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_true(rig.sh->manifest > 0xff);
	core_check(&rig);
	core_close(&rig);
}

static void
test_newer_version(void **state)
{
	CoreRig		rig;
	LtgLoadInfo info;
	char		path[200],
				name[LTG_NAME_MAX];
	uint8_t		head[LTG_MANIFEST_HEADER] = {0};
	FILE	   *f;
	uint32_t	crc;
	uint64_t	m;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	put_rows(&rig, core_store(&rig, 1, 0), 10, 1);
	assert_int_equal(core_flush(&rig), LTG_OK);
	m = rig.sh->manifest;
	core_down(&rig);
	ltg_manifest_name(name, m);
	snprintf(path, sizeof(path), "%s/%s", rig.dir, name);
	f = fopen(path, "rb");
	assert_int_equal(fread(head, 1, sizeof(head), f), sizeof(head));
	fclose(f);
	head[8] = LTG_MANIFEST_VERSION + 1;
	{
		extern uint32_t ltg_crc32c(uint32_t crc_, const void *data, size_t len);

		crc = ltg_crc32c(0, head, sizeof(head) - 4);
	}
	memcpy(head + sizeof(head) - 4, &crc, 4);
	ltg_manifest_name(name, m + 1);
	snprintf(path, sizeof(path), "%s/%s", rig.dir, name);
	f = fopen(path, "wb");
	fwrite(head, 1, sizeof(head), f);
	fputs("whatever a newer version needs", f);
	fclose(f);
	assert_int_equal(try_boot(&rig, 0, &info), LTG_VERSION);
	snprintf(path, sizeof(path), "version %d,", LTG_MANIFEST_VERSION + 1);
	assert_non_null(strstr(rig.s->err.msg, path));
	assert_int_equal(core_count_files(&rig, ".manifest"), 2);
	core_close(&rig);
}

/* Every flipped byte of one copy: the other is used; of both: refused. */
static void
test_flip_manifest(void **state)
{
	CoreRig		rig;
	LtgLoadInfo info;
	char		name[LTG_NAME_MAX],
				second[LTG_NAME_MAX];
	uint64_t	m;
	long		size;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	put_rows(&rig, core_store(&rig, 1, 0), 3, 1);
	assert_int_equal(core_flush(&rig), LTG_OK);
	m = rig.sh->manifest;
	ltg_manifest_name(name, m);
	core_down(&rig);
	size = core_file_size(&rig, name);
	ltg_manifest_copy_name(second, m, 1, false);
	for (long i = 0; i < size; i++)
	{
		core_flip(&rig, name, i, 0x41);
		assert_int_equal(try_boot(&rig, rig.wal, &info), LTG_OK);
		core_down(&rig);
		core_flip(&rig, second, i, 0x41);
		assert_int_equal(try_boot(&rig, 0, &info), LTG_CORRUPT);
		core_down(&rig);
		core_flip(&rig, name, i, 0x41);
		assert_int_equal(try_boot(&rig, rig.wal, &info), LTG_OK);
		core_down(&rig);
		core_flip(&rig, second, i, 0x41);
	}
	assert_int_equal(try_boot(&rig, 0, &info), LTG_OK);
	assert_rows(&rig, core_store(&rig, 1, 0), 3, 1);
	core_close(&rig);
}

/* ---- the n-th call fails ---- */

static const LtgFaultKind all_kinds[] = {
	LTG_FAULT_ALLOC, LTG_FAULT_OPEN, LTG_FAULT_READ, LTG_FAULT_WRITE, LTG_FAULT_SYNC,
	LTG_FAULT_RENAME, LTG_FAULT_REMOVE, LTG_FAULT_DIR_SYNC, LTG_FAULT_SIZE, LTG_FAULT_LIST
};

static void
test_publish_failures(void **state)
{
	CoreRig		rig;
	uint32_t	value = 1;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	for (int persistent = 0; persistent < 2; persistent++)
		for (size_t k = 0; k < sizeof(all_kinds) / sizeof(all_kinds[0]); k++)
			for (uint64_t nth = 1; nth < 100; nth++)
			{
				LtgStatus	st;
				uint64_t	failed;
				LtgStore   *a = core_store(&rig, 1, 0);

				put_rows(&rig, a, 10, ++value);
				put_rows(&rig, core_store(&rig, 2 + value % 3, 0), 5, value);
				ltg_posix_fail(rig.posix, all_kinds[k], nth, persistent != 0, 0);
				st = core_flush(&rig);
				failed = ltg_posix_failed(rig.posix, all_kinds[k]);
				ltg_posix_no_faults(rig.posix);
				if (st != LTG_OK)
				{
					assert_int_not_equal(rig.s->err.status, LTG_OK);
					ltg_clear_error(rig.s);
					assert_rows(&rig, a, 10, value);
					core_check(&rig);
					assert_int_equal(core_count_files(&rig, ".tmp"),
									 all_kinds[k] == LTG_FAULT_REMOVE ? core_count_files(&rig, ".tmp") : 0);
					assert_int_equal(core_flush(&rig), LTG_OK);
				}
				assert_rows(&rig, a, 10, value);
				if (nth % 4 == 1)
				{
					core_check(&rig);
					core_down(&rig);
					core_boot_crashed(&rig);
					assert_int_equal(ltg_durable(rig.s), rig.wal);
					assert_rows(&rig, core_store(&rig, 1, 0), 10, value);
				}
				if (failed == 0)
					break;
			}
	core_check(&rig);
	core_close(&rig);
}

static void
test_load_failures(void **state)
{
	CoreRig		rig;
	LtgLoadInfo info;
	uint32_t	removed;
	LtgStoreKey dropped = core_key(3);

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	for (uint32_t round = 1; round <= 3; round++)
	{
		put_rows(&rig, core_store(&rig, 1, 0), 10, round);
		put_rows(&rig, core_store(&rig, 2, LTG_STORE_UNLOGGED), 10, round);
		put_rows(&rig, core_store(&rig, 3, 0), 10, round);
		assert_int_equal(core_flush(&rig), LTG_OK);
	}
	assert_int_equal(ltg_store_drop(rig.s, &dropped, rig.wal += 10), LTG_OK);
	assert_int_equal(ltg_publish_pending(rig.s, true), LTG_OK);
	core_down(&rig);
	for (size_t k = 0; k < sizeof(all_kinds) / sizeof(all_kinds[0]); k++)
		for (uint64_t nth = 1;; nth++)
		{
			LtgLoadOptions opt = {.reset_unlogged = nth % 2 == 0};
			char		path[200];
			FILE	   *f;
			uint64_t	failed;
			LtgStatus	st;

			snprintf(path, sizeof(path), "%s/0000000000000100.run.tmp", rig.dir);
			f = fopen(path, "wb");
			fclose(f);
			core_boot(&rig, false);
			ltg_posix_fail(rig.posix, all_kinds[k], nth, false, 0);
			st = ltg_load(rig.s, &opt, &info);
			failed = ltg_posix_failed(rig.posix, all_kinds[k]);
			ltg_posix_no_faults(rig.posix);
			if (st != LTG_OK)
			{
				assert_int_not_equal(st, LTG_CORRUPT);
				ltg_clear_error(rig.s);
				assert_int_equal(ltg_store_list(rig.s, NULL, 0), 0);
				/* the same session may try again */
				assert_int_equal(ltg_load(rig.s, &opt, &info), LTG_OK);
			}
			assert_int_equal(info.files_missing, 0);
			assert_int_equal(info.manifests_skipped, 0);
			assert_rows(&rig, core_store(&rig, 1, 0), 10, 3);
			assert_rows(&rig, core_store(&rig, 2, 0), opt.reset_unlogged ? 0 : 10, 3);
			assert_true(ltg_store_was_dropped(rig.s, &dropped));
			core_check(&rig);
			core_down(&rig);
			if (failed == 0)
				break;
		}
	core_boot(&rig, true);
	assert_int_equal(ltg_remove_obsolete(rig.s, &removed), LTG_OK);
	core_check(&rig);
	core_close(&rig);
}

/* Metadata memory too small for what the manifest says. */
static void
test_load_out_of_metadata(void **state)
{
	CoreRig		rig;
	LtgLoadInfo info;
	LtgLoadOptions opt = {0};
	size_t		enough;

	(void) state;
	core_open(&rig);
	enough = rig.config.metadata_bytes;
	core_boot(&rig, true);
	for (uint32_t i = 0; i < 1500; i++)
		core_put(&rig, core_store(&rig, i, 0), 1, i);
	assert_int_equal(core_flush(&rig), LTG_OK);
	core_down(&rig);
	rig.config.metadata_bytes = 64 * 1024;
	core_boot(&rig, false);
	assert_int_equal(ltg_load(rig.s, &opt, &info), LTG_NOSHMEM);
	ltg_clear_error(rig.s);
	assert_int_equal(ltg_store_list(rig.s, NULL, 0), 0);
	core_check(&rig);
	core_down(&rig);
	rig.config.metadata_bytes = enough;
	core_boot(&rig, true);
	assert_int_equal(ltg_store_list(rig.s, NULL, 0), 1500);
	core_check(&rig);
	core_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_unlogged),
		cmocka_unit_test(test_ahead_of_d),
		cmocka_unit_test(test_drop_needs_log),
		cmocka_unit_test(test_damaged_newest),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_leftovers),
		cmocka_unit_test(test_newer_version),
		cmocka_unit_test(test_flip_manifest),
		cmocka_unit_test(test_publish_failures),
		cmocka_unit_test(test_load_failures),
		cmocka_unit_test(test_load_out_of_metadata),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
