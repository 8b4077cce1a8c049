/*
 * obsolete_test.c
 *	  Which files and manifests are removed, and when.
 */
#include "core_rig.h"

#include "storage/file.h"
#include "tree/manifest.h"

static void
put_rows(CoreRig *rig, LtgStore *st, uint32_t n, uint32_t value)
{
	for (uint32_t i = 0; i < n; i++)
		core_put(rig, st, i, value);
}

static void
drop(CoreRig *rig, uint32_t relation)
{
	LtgStoreKey key = core_key(relation);

	assert_int_equal(ltg_store_drop(rig->s, &key, rig->wal += 10), LTG_OK);
}

static void
test_newest(void **state)
{
	CoreRig		rig;
	uint32_t	removed;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	for (uint32_t i = 1; i <= 10; i++)
	{
		put_rows(&rig, core_store(&rig, i, 0), 10, i);
		assert_int_equal(core_flush(&rig), LTG_OK);
		if (i > 1)
			drop(&rig, i - 1);
	}
	/* the ninth drop is in no manifest yet */
	assert_int_equal(core_count_files(&rig, ".run"), 10);
	assert_int_equal(ltg_remove_obsolete(rig.s, &removed), LTG_OK);
	assert_int_equal(removed, 8);
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_int_equal(ltg_publish_pending(rig.s, true), LTG_OK);
	assert_int_equal(ltg_remove_obsolete(rig.s, &removed), LTG_OK);
	assert_int_equal(removed, 1);
	assert_int_equal(core_count_files(&rig, ".run"), 1);
	assert_int_equal(core_count_files(&rig, ".manifest"), 1);
	assert_int_equal(core_get(&rig, core_store(&rig, 10, 0), 3), 10);
	core_check(&rig);
	core_down(&rig);

	/* what another server wrote is not appended to: a new one takes its place */
	core_boot(&rig, true);
	put_rows(&rig, core_store(&rig, 10, 0), 10, 11);
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_int_equal(core_count_files(&rig, ".manifest"), 2);
	assert_int_equal(core_count_files(&rig, ".manifest2"), 2);
	assert_int_equal(ltg_remove_obsolete(rig.s, &removed), LTG_OK);
	assert_int_equal(core_count_files(&rig, ".manifest"), 1);
	assert_int_equal(core_count_files(&rig, ".manifest2"), 1);
	core_check(&rig);
	core_close(&rig);
}

static void
test_reader_keeps_file(void **state)
{
	CoreRig		rig;
	LtgSession *reader;
	uint64_t	before;
	uint32_t	removed;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	assert_int_equal(ltg_session_open(rig.port, rig.sh, &reader), LTG_OK);
	put_rows(&rig, core_store(&rig, 1, 0), 10, 1);
	assert_int_equal(core_flush(&rig), LTG_OK);
	ltg_epoch_enter(reader);
	drop(&rig, 1);
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_int_equal(ltg_remove_obsolete(rig.s, &removed), LTG_OK);
	assert_int_equal(removed, 0);
	assert_int_equal(core_count_files(&rig, ".run"), 1);
	ltg_epoch_leave(reader);
	before = rig.sh->files_removed;
	assert_int_equal(ltg_remove_obsolete(rig.s, &removed), LTG_OK);
	assert_int_equal(removed, 1);
	assert_true(rig.sh->files_removed > before);
	assert_int_equal(core_count_files(&rig, ".run"), 0);
	core_check(&rig);
	ltg_session_close(reader);
	core_close(&rig);
}

/*
 * A full disk: what was dropped gives its space back though no checkpoint has
 * completed since, and what a start needs stays.
 */
static void
test_free_space(void **state)
{
	CoreRig		rig;
	uint32_t	removed;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	put_rows(&rig, core_store(&rig, 1, 0), 10, 1);
	assert_int_equal(core_flush(&rig), LTG_OK);
	put_rows(&rig, core_store(&rig, 2, 0), 10, 2);
	assert_int_equal(core_flush(&rig), LTG_OK);
	drop(&rig, 1);
	assert_int_equal(ltg_remove_obsolete(rig.s, &removed), LTG_OK);
	assert_int_equal(removed, 0);
	assert_int_equal(ltg_publish_drops(rig.s), LTG_OK);
	assert_int_equal(ltg_remove_before(rig.s, rig.sh->manifest, &removed), LTG_OK);
	assert_int_equal(removed, 1);
	assert_int_equal(core_count_files(&rig, ".run"), 1);
	assert_int_equal(core_count_files(&rig, ".manifest"), 1);
	core_down(&rig);
	{
		LtgLoadOptions opt = {.reset_unlogged = true};
		LtgLoadInfo info;

		core_boot(&rig, false);
		assert_int_equal(ltg_load(rig.s, &opt, &info), LTG_OK);
		assert_int_equal(info.files_missing, 0);
	}
	assert_int_equal(core_get(&rig, core_store(&rig, 2, 0), 3), 2);
	core_check(&rig);
	core_close(&rig);
}

/* A drop while the manifest that names the store's file is being written. */
static void
drop_store_1(CoreRig *rig)
{
	drop(rig, 1);
}

static void
test_drop_during_publication(void **state)
{
	static const char *const points[] = {"publish:before-manifest", "publish:after-manifest",
	"flush:before-publish", "flush:before-sync"};

	(void) state;
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++)
	{
		CoreRig		rig;
		uint32_t	removed;
		uint64_t	m;

		core_open(&rig);
		core_boot(&rig, true);
		put_rows(&rig, core_store(&rig, 1, 0), 10, 1);
		assert_int_equal(core_flush(&rig), LTG_OK);
		put_rows(&rig, core_store(&rig, 1, 0), 10, 2);
		put_rows(&rig, core_store(&rig, 2, 0), 10, 2);
		rig.stop_at = points[i];
		rig.on_stop = drop_store_1;
		{
			LtgFlushResult r;

			/* not beyond the drop */
			assert_int_equal(ltg_make_room(rig.s, true), LTG_OK);
			assert_int_equal(ltg_flush(rig.s, &r), LTG_OK);
		}
		assert_null(rig.stop_at);
		core_check(&rig);
		m = rig.sh->manifest;
		assert_int_equal(ltg_remove_obsolete(rig.s, &removed), LTG_OK);
		/* whatever the current manifest names is there: start from it */
		core_down(&rig);
		{
			LtgLoadOptions opt = {.reset_unlogged = true};
			LtgLoadInfo info;

			core_boot(&rig, false);
			assert_int_equal(ltg_load(rig.s, &opt, &info), LTG_OK);
			assert_int_equal(info.manifest, m);
			assert_int_equal(info.files_missing, 0);
		}
		assert_int_equal(core_get(&rig, core_store(&rig, 2, 0), 3), 2);
		core_check(&rig);
		drop(&rig, 2);
		{
			LtgStoreKey key = core_key(1);
			LtgStatus	st = ltg_store_drop(rig.s, &key, rig.wal += 10);

			/* it is back if the manifest was prepared before the drop */
			assert_true(st == LTG_OK || st == LTG_NOT_FOUND);
		}
		assert_int_equal(core_flush(&rig), LTG_OK);
		assert_int_equal(ltg_remove_obsolete(rig.s, &removed), LTG_OK);
		assert_int_equal(core_count_files(&rig, ".run"), 0);
		core_check(&rig);
		core_close(&rig);
	}
}

static void
test_failures(void **state)
{
	static const LtgFaultKind kinds[] = {LTG_FAULT_ALLOC, LTG_FAULT_OPEN, LTG_FAULT_READ,
	LTG_FAULT_REMOVE, LTG_FAULT_DIR_SYNC, LTG_FAULT_SIZE, LTG_FAULT_LIST};
	CoreRig		rig;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	put_rows(&rig, core_store(&rig, 99, 0), 10, 7);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (uint64_t nth = 1;; nth++)
		{
			uint32_t	removed;
			uint64_t	failed;
			LtgStatus	st;

			for (uint32_t i = 0; i < 3; i++)
			{
				put_rows(&rig, core_store(&rig, i, 0), 5, i);
				assert_int_equal(core_flush(&rig), LTG_OK);
				drop(&rig, i);
			}
			assert_int_equal(core_flush(&rig), LTG_OK);
			ltg_posix_fail(rig.posix, kinds[k], nth, false, 0);
			st = ltg_remove_obsolete(rig.s, &removed);
			failed = ltg_posix_failed(rig.posix, kinds[k]);
			ltg_posix_no_faults(rig.posix);
			ltg_clear_error(rig.s);
			core_check(&rig);
			if (st != LTG_OK)
				assert_int_equal(ltg_remove_obsolete(rig.s, &removed), LTG_OK);
			assert_int_equal(core_count_files(&rig, ".run"), 1);
			assert_int_equal(core_count_files(&rig, ".manifest"), 1);
			assert_int_equal(core_get(&rig, core_store(&rig, 99, 0), 5), 7);
			core_check(&rig);
			if (failed == 0)
				break;
		}
	core_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_newest),
		cmocka_unit_test(test_reader_keeps_file),
		cmocka_unit_test(test_free_space),
		cmocka_unit_test(test_drop_during_publication),
		cmocka_unit_test(test_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
