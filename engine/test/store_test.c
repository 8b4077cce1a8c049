/*
 * store_test.c
 *	  The store table: creation, replacement, drops and their tombstones, row
 *	  ids, descriptors that are reused, metadata memory that runs out.
 */
#include "core_rig.h"

static void
test_create_find_drop(void **state)
{
	CoreRig		rig;
	LtgStoreKey key = core_key(1);
	LtgStore   *a,
			   *b,
			   *c;
	uint64_t	id;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	assert_int_equal(ltg_store_find(rig.s, &key, &a), LTG_NOT_FOUND);
	assert_int_equal(ltg_store_create(rig.s, &key, 0, 2000, &a), LTG_OK);
	assert_int_equal(ltg_store_create(rig.s, &key, 0, 2000, &b), LTG_OK);
	assert_ptr_equal(a, b);
	assert_int_equal(ltg_store_find(rig.s, &key, &b), LTG_OK);
	assert_ptr_equal(a, b);
	id = ltg_store_id(a);
	assert_int_not_equal(id, 0);
	assert_false(ltg_store_was_dropped(rig.s, &key));

	/* another stamp: a new store */
	assert_int_equal(ltg_store_create(rig.s, &key, 0, 3000, &c), LTG_OK);
	assert_int_not_equal(ltg_store_id(c), id);
	assert_int_equal(ltg_store_id(a), 0);
	assert_true(ltg_store_was_dropped(rig.s, &key));
	core_check(&rig);

	assert_int_equal(ltg_store_drop(rig.s, &key, 4000), LTG_OK);
	assert_int_equal(ltg_store_drop(rig.s, &key, 4000), LTG_NOT_FOUND);
	assert_int_equal(ltg_store_find(rig.s, &key, &a), LTG_NOT_FOUND);
	assert_true(ltg_store_was_dropped(rig.s, &key));

	/* once D is past it, nobody needs to know any more */
	rig.wal = 4000;
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_int_equal(ltg_durable(rig.s), 4000);
	assert_false(ltg_store_was_dropped(rig.s, &key));
	core_check(&rig);
	core_close(&rig);
}

static void
test_rowids(void **state)
{
	CoreRig		rig;
	LtgStore   *st;
	uint64_t	first;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	st = core_store(&rig, 1, 0);
	first = ltg_store_take_rowids(st, 10);
	assert_int_equal(first, 0);
	assert_int_equal(ltg_store_take_rowids(st, 5), 10);
	assert_false(ltg_store_return_rowids(st, 5, 6));
	assert_true(ltg_store_return_rowids(st, 12, 3));
	assert_int_equal(ltg_store_next_rowid(st), 12);
	ltg_store_note_rowid(st, 5);
	assert_int_equal(ltg_store_next_rowid(st), 12);
	ltg_store_note_rowid(st, 100);
	assert_int_equal(ltg_store_next_rowid(st), 101);

	/* they survive in the manifest */
	assert_int_equal(core_flush(&rig), LTG_OK);
	core_down(&rig);
	core_boot(&rig, true);
	st = core_store(&rig, 1, 0);
	assert_int_equal(ltg_store_next_rowid(st), 101);
	core_close(&rig);
}

/* Checks find rows that nobody can have written, in memory and in files. */
static void
test_row_beyond(void **state)
{
	CoreRig		rig;
	LtgStore   *st;

	(void) state;
	core_open(&rig);
	rig.config.row_ids = true;
	core_boot(&rig, true);
	st = core_store(&rig, 1, 0);
	for (uint32_t i = 0; i < 10; i++)
		core_put(&rig, st, (uint32_t) ltg_store_take_rowids(st, 1), i);
	core_check(&rig);
	core_put(&rig, st, 10, 10);
	core_put(&rig, st, 300, 10);
	assert_int_equal(core_problems(&rig), 2);
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_int_equal(core_problems(&rig), 2);
	core_down(&rig);
	core_boot(&rig, true);
	st = core_store(&rig, 1, 0);
	assert_int_equal(core_problems(&rig), 2);
	ltg_store_note_rowid(st, 10);
	assert_int_equal(core_problems(&rig), 1);
	ltg_store_note_rowid(st, 300);
	core_check(&rig);
	core_close(&rig);
}

/* Descriptors and tombstones are reused: no growth over many drops. */
static void
test_reuse(void **state)
{
	CoreRig		rig;
	uint64_t	used = 0,
				total;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	for (uint32_t round = 0; round < 50; round++)
	{
		for (uint32_t i = 0; i < 100; i++)
			core_put(&rig, core_store(&rig, i, 0), 1, round);
		core_check(&rig);
		for (uint32_t i = 0; i < 100; i++)
		{
			LtgStoreKey key = core_key(i);

			assert_int_equal(ltg_store_drop(rig.s, &key, rig.wal += 10), LTG_OK);
		}
		assert_int_equal(core_flush(&rig), LTG_OK);
		if (round == 10)
			ltg_shalloc_stats(rig.s, rig.sh->alloc, &used, &total);
	}
	{
		uint64_t	now;
		uint32_t	removed;

		assert_int_equal(ltg_remove_obsolete(rig.s, &removed), LTG_OK);
		ltg_shalloc_stats(rig.s, rig.sh->alloc, &now, &total);
		assert_true(now <= used + used / 2);
	}
	assert_int_equal(ltg_store_list(rig.s, NULL, 0), 0);
	core_check(&rig);
	core_close(&rig);
}

static void
test_out_of_metadata(void **state)
{
	CoreRig		rig;
	uint32_t	n = 0;
	LtgStore   *st;
	LtgStoreKey key;
	LtgStatus	s;

	(void) state;
	core_open(&rig);
	rig.config.metadata_bytes = 64 * 1024;
	core_boot(&rig, true);
	for (;;)
	{
		key = core_key(n);
		s = ltg_store_create(rig.s, &key, 0, rig.wal += 10, &st);
		if (s != LTG_OK)
			break;
		n++;
	}
	assert_int_equal(s, LTG_NOSHMEM);
	assert_null(st);
	ltg_clear_error(rig.s);
	assert_true(n > 100);
	core_check(&rig);
	/* replacing fails too, and leaves the old one */
	key = core_key(0);
	assert_int_equal(ltg_store_create(rig.s, &key, 0, rig.wal += 10, &st), LTG_NOSHMEM);
	ltg_clear_error(rig.s);
	assert_int_equal(ltg_store_find(rig.s, &key, &st), LTG_OK);
	/* a drop needs no memory, and gives back a descriptor once D is past it */
	assert_int_equal(ltg_store_drop(rig.s, &key, rig.wal += 10), LTG_OK);
	assert_int_equal(ltg_store_create(rig.s, &key, 0, rig.wal += 10, &st), LTG_NOSHMEM);
	ltg_clear_error(rig.s);
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_int_equal(ltg_store_create(rig.s, &key, 0, rig.wal += 10, &st), LTG_OK);
	core_check(&rig);
	core_close(&rig);
}

/* When runs have used up the metadata memory, a compaction still finds room. */
static void
test_compaction_has_room(void **state)
{
	CoreRig		rig;
	LtgStore   *st;
	LtgStatus	s = LTG_OK;
	LtgCompactResult cr;
	uint32_t	n;

	(void) state;
	core_open(&rig);
	rig.config.metadata_bytes = 64 * 1024;
	core_boot(&rig, true);
	st = core_store(&rig, 1, 0);
	for (n = 0; s == LTG_OK; n++)
	{
		core_put(&rig, st, n, n);
		s = core_flush(&rig);
	}
	assert_int_equal(s, LTG_NOSHMEM);
	ltg_clear_error(rig.s);
	core_check(&rig);
	assert_int_equal(ltg_compact(rig.s, &cr), LTG_OK);
	assert_true(cr.compacted);
	assert_int_equal(core_flush(&rig), LTG_OK);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(core_get(&rig, st, i), i);
	core_check(&rig);
	core_close(&rig);
}

static void
test_list_and_info(void **state)
{
	CoreRig		rig;
	LtgStoreInfo info[20];
	LtgStats	stats;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	for (uint32_t i = 0; i < 20; i++)
		for (uint32_t k = 0; k < i; k++)
			core_put(&rig, core_store(&rig, i, LTG_STORE_KEEP_GRAVES), k, k);
	core_store(&rig, 0, 0);
	assert_int_equal(ltg_store_list(rig.s, info, 3), 20);
	assert_int_equal(ltg_store_list(rig.s, info, 20), 20);
	for (uint32_t i = 1; i < 20; i++)
	{
		assert_true(info[i].id > info[i - 1].id);
		assert_int_equal(info[i].memtable_keys, i < 19 ? i + 1 : 0);
		assert_true(info[i].memtable_bytes >= info[i].memtable_keys);
		assert_int_equal(info[i].runs, 0);
	}
	assert_int_equal(core_flush(&rig), LTG_OK);
	ltg_store_info(rig.s, core_store(&rig, 7, 0), &info[0]);
	assert_int_equal(info[0].memtable_keys, 0);
	assert_int_equal(info[0].memtable_bytes, 0);
	assert_int_equal(info[0].runs, 1);
	assert_int_equal(info[0].l0_runs, 1);
	assert_int_equal(info[0].entries, 7);
	assert_int_equal(info[0].flags, LTG_STORE_KEEP_GRAVES);
	ltg_store_set_flags(rig.s, core_store(&rig, 7, 0), LTG_STORE_UNLOGGED, LTG_STORE_KEEP_GRAVES);
	ltg_store_info(rig.s, core_store(&rig, 7, 0), &info[0]);
	assert_int_equal(info[0].flags, LTG_STORE_UNLOGGED);
	ltg_stats(rig.s, &stats);
	assert_int_equal(stats.stores, 20);
	assert_int_equal(stats.files, 1);
	assert_true(stats.flushes >= 1);
	core_close(&rig);
}

/* A row that compresses very well. */
static void
put_filler(CoreRig *rig, LtgStore *store, uint32_t n)
{
	uint8_t		filler[100] = {0};

	for (uint32_t i = 0; i < n; i++)
	{
		uint8_t		key[4] = {(uint8_t) (i >> 24), (uint8_t) (i >> 16), (uint8_t) (i >> 8), (uint8_t) i};
		LtgWrite	w = {.store = store,.key = key,.key_len = 4,
		.v = {.kind = LTG_PUT,.state = LTG_SETTLED,.payload = filler,.payload_len = sizeof(filler)}};

		assert_int_equal(ltg_reserve(rig->s, &w, 1), LTG_OK);
		ltg_apply(rig->s, &w, 1, rig->wal += 10);
	}
}

static void
test_options(void **state)
{
	static const LtgStoreOptions set[] = {
		{LTG_COMPRESS_NONE, 0, 0}, {LTG_COMPRESS_LZ4, 0, 2048}, {LTG_COMPRESS_ZSTD, 9, 1024},
		{LTG_COMPRESS_ZSTD, -5, LTG_BLOCK_SIZE_MAX}, {LTG_COMPRESS_AUTO, 0, 0}
	};
	static const LtgStoreOptions bad[] = {
		{(LtgCompression) 4, 0, 0}, {LTG_COMPRESS_ZSTD, 23, 0}, {LTG_COMPRESS_ZSTD, -51, 0},
		{LTG_COMPRESS_AUTO, 0, 1023}, {LTG_COMPRESS_AUTO, 0, LTG_BLOCK_SIZE_MAX + 1}
	};
	enum {N = sizeof(set) / sizeof(set[0])};
	CoreRig		rig;
	LtgStoreOptions opt;
	LtgStoreInfo info[N];

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	for (uint32_t i = 0; i < N; i++)
	{
		LtgStore   *st = core_store(&rig, i, 0);

		ltg_store_options(st, &opt);
		assert_int_equal(opt.compression, LTG_COMPRESS_AUTO);
		assert_int_equal(opt.level, 0);
		assert_int_equal(opt.block_size, 0);
		assert_int_equal(ltg_store_set_options(rig.s, st, &set[i]), LTG_OK);
		assert_int_equal(ltg_store_set_options(rig.s, st, &bad[i]), LTG_INVALID);
		ltg_clear_error(rig.s);
		put_filler(&rig, st, 500);
	}
	assert_int_equal(core_flush(&rig), LTG_OK);
	core_check(&rig);
	for (uint32_t i = 0; i < N; i++)
		ltg_store_info(rig.s, core_store(&rig, i, 0), &info[i]);
	assert_true(info[0].disk_bytes > info[0].raw_bytes);
	for (uint32_t i = 1; i < N; i++)
		assert_true(info[i].disk_bytes < info[i].raw_bytes / 4);
	/* smaller blocks have more headers */
	assert_true(info[1].raw_bytes > info[0].raw_bytes);
	assert_true(info[2].raw_bytes > info[1].raw_bytes);
	assert_int_equal(info[3].raw_bytes, info[4].raw_bytes);

	/* they are there after a restart, and used by what is written then */
	core_down(&rig);
	core_boot(&rig, true);
	for (uint32_t i = 0; i < N; i++)
	{
		ltg_store_options(core_store(&rig, i, 0), &opt);
		assert_int_equal(opt.compression, set[i].compression);
		assert_int_equal(opt.level, set[i].level);
		assert_int_equal(opt.block_size, set[i].block_size);
	}
	/* a change alone makes a manifest */
	opt = (LtgStoreOptions) {LTG_COMPRESS_NONE, 0, 0};
	assert_int_equal(ltg_store_set_options(rig.s, core_store(&rig, 1, 0), &opt), LTG_OK);
	assert_int_equal(ltg_publish_pending(rig.s, true), LTG_OK);
	core_down(&rig);
	core_boot(&rig, true);
	ltg_store_options(core_store(&rig, 1, 0), &opt);
	assert_int_equal(opt.compression, LTG_COMPRESS_NONE);
	for (uint32_t i = 0; i < 2; i++)
	{
		LtgCompactResult r;

		put_filler(&rig, core_store(&rig, i, 0), 10);
		assert_int_equal(core_flush(&rig), LTG_OK);
		assert_int_equal(ltg_compact_store(rig.s, core_store(&rig, i, 0), &r), LTG_OK);
		ltg_store_info(rig.s, core_store(&rig, i, 0), &info[i]);
	}
	assert_int_equal(info[0].raw_bytes, info[1].raw_bytes);
	assert_int_equal(info[0].disk_bytes, info[1].disk_bytes);
	core_check(&rig);
	core_close(&rig);
}

/* A drop comes back as space though nothing is ever flushed again. */
static void
test_drop_is_published(void **state)
{
	CoreRig		rig;
	LtgStoreKey key = core_key(1);
	uint64_t	manifest;
	uint32_t	removed;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	for (uint32_t i = 0; i < 100; i++)
		core_put(&rig, core_store(&rig, 1, 0), i, i);
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_int_equal(core_count_files(&rig, ".run"), 1);
	manifest = rig.sh->manifest;
	assert_int_equal(ltg_publish_pending(rig.s, true), LTG_OK);
	assert_int_equal(rig.sh->manifest, manifest);
	assert_int_equal(ltg_store_drop(rig.s, &key, rig.wal += 10), LTG_OK);
	assert_false(ltg_flush_needed(rig.s));	/* not that soon */
	assert_int_equal(ltg_publish_pending(rig.s, true), LTG_OK);
	assert_true(rig.sh->manifest > manifest);
	assert_int_equal(rig.wal_flushed, rig.wal);	/* P3 */
	assert_int_equal(ltg_remove_obsolete(rig.s, &removed), LTG_OK);
	assert_int_equal(removed, 1);
	assert_int_equal(core_count_files(&rig, ".run"), 0);
	assert_int_equal(core_count_files(&rig, ".manifest"), 1);
	core_check(&rig);
	core_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_find_drop),
		cmocka_unit_test(test_rowids),
		cmocka_unit_test(test_row_beyond),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_out_of_metadata),
		cmocka_unit_test(test_compaction_has_room),
		cmocka_unit_test(test_list_and_info),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_drop_is_published),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
