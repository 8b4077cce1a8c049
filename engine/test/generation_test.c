/*
 * generation_test.c
 *	  Freezing, back-pressure, reservations, sessions that are reset.
 */
#include "core_rig.h"

static LtgStatus
reserve(LtgSession *s, LtgStore *store, uint32_t key, uint32_t payload_len, LtgWrite *w)
{
	static uint8_t payload[LTG_PAYLOAD_MAX];
	static uint8_t k[4];

	memcpy(k, &key, 4);
	*w = (LtgWrite) {.store = store,.key = k,.key_len = 4};
	w->v.payload = payload;
	w->v.payload_len = payload_len;
	w->v.xid = 100;
	return ltg_reserve(s, w, 1);
}

/* Fill the active generation until a reservation is refused. */
static void
fill(CoreRig *rig, LtgSession *s, LtgStore *store)
{
	LtgWrite	w;
	uint32_t	key = 0;
	LtgStatus	st;

	while ((st = reserve(s, store, key++, 50000, &w)) == LTG_OK)
		ltg_apply(s, &w, 1, rig->wal += 10);
	assert_int_equal(st, LTG_BUSY);
	assert_int_equal(s->pinned, -1);
	assert_int_equal(s->err.status, LTG_OK);
}

static uint64_t
freezes(CoreRig *rig)
{
	LtgStats	stats;

	ltg_stats(rig->s, &stats);
	return stats.freezes;
}

static void
test_one_freezes(void **state)
{
	CoreRig		rig;
	LtgSession *other;
	LtgStore   *st;
	LtgWrite	w;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	st = core_store(&rig, 1, 0);
	assert_int_equal(ltg_session_open(rig.port, rig.sh, &other), LTG_OK);
	/* nobody was refused: nothing to do */
	assert_int_equal(ltg_make_room(rig.s, false), LTG_OK);
	assert_int_equal(freezes(&rig), 0);

	fill(&rig, rig.s, st);
	assert_int_equal(reserve(other, st, 1, 50000, &w), LTG_BUSY);
	assert_int_equal(ltg_make_room(rig.s, false), LTG_OK);
	assert_int_equal(freezes(&rig), 1);
	/* it was refused by the one that is frozen now */
	assert_int_equal(ltg_make_room(other, false), LTG_OK);
	assert_int_equal(freezes(&rig), 1);
	assert_int_equal(reserve(other, st, 1, 50000, &w), LTG_OK);
	ltg_cancel(other);
	assert_int_equal(ltg_make_room(other, true), LTG_OK);
	assert_int_equal(freezes(&rig), 2);
	/* three arenas, all in use */
	assert_int_equal(ltg_make_room(other, true), LTG_BUSY);
	assert_true(ltg_flush_needed(rig.s));
	core_check(&rig);
	{
		LtgFlushResult r;

		assert_int_equal(ltg_flush(rig.s, &r), LTG_OK);
		assert_true(r.flushed);
		assert_int_equal(ltg_make_room(other, true), LTG_OK);
	}
	core_check(&rig);
	ltg_session_close(other);
	core_close(&rig);
}

/* An arena is not reused while a reader may be in it. */
static void
test_reader_holds_arena(void **state)
{
	CoreRig		rig;
	LtgSession *reader;
	LtgFlushResult r;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	assert_int_equal(ltg_session_open(rig.port, rig.sh, &reader), LTG_OK);
	core_put(&rig, core_store(&rig, 1, 0), 1, 1);
	ltg_epoch_enter(reader);
	for (int i = 0; i < 2; i++)
	{
		assert_int_equal(ltg_make_room(rig.s, true), LTG_OK);
		assert_int_equal(ltg_flush(rig.s, &r), LTG_OK);
	}
	assert_int_equal(ltg_make_room(rig.s, true), LTG_BUSY);
	ltg_epoch_leave(reader);
	assert_int_equal(ltg_make_room(rig.s, true), LTG_OK);
	assert_int_equal(core_get(&rig, core_store(&rig, 1, 0), 1), 1);
	core_check(&rig);
	ltg_session_close(reader);
	core_close(&rig);
}

/* Many switches with a reader that comes and goes: the ring of lists suffices. */
static void
test_many_switches(void **state)
{
	CoreRig		rig;
	LtgSession *reader;
	LtgFlushResult r;

	(void) state;
	core_open(&rig);
	rig.config.memtable_count = LTG_GENERATIONS_MAX;
	rig.config.metadata_bytes = 16 << 20;	/* nothing compacts here */
	core_boot(&rig, true);
	assert_int_equal(ltg_session_open(rig.port, rig.sh, &reader), LTG_OK);
	for (uint32_t round = 0; round < 20; round++)
	{
		ltg_epoch_enter(reader);
		for (uint32_t i = 0; i < 3 * LTG_GENERATIONS_MAX; i++)
		{
			LtgStatus	st;

			core_put(&rig, core_store(&rig, 1, 0), i, round);
			st = ltg_make_room(rig.s, true);
			assert_true(st == LTG_OK || st == LTG_BUSY);
			if (i % 3 != 0 || st == LTG_BUSY)
				assert_int_equal(ltg_flush(rig.s, &r), LTG_OK);
		}
		ltg_epoch_leave(reader);
		assert_int_equal(core_flush(&rig), LTG_OK);
		core_check(&rig);
	}
	ltg_session_close(reader);
	core_close(&rig);
}

static void
test_cut(void **state)
{
	CoreRig		rig;
	LtgSeq		cut,
				cut2;
	LtgStore   *st;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	st = core_store(&rig, 1, 0);
	core_put(&rig, st, 1, 1);
	assert_int_equal(ltg_freeze(rig.s, &cut), LTG_OK);
	assert_int_equal(cut, rig.wal);
	core_put(&rig, st, 1, 2);
	rig.port->lock(rig.port, LTG_LOCK_FLUSH, LTG_EXCLUSIVE);
	assert_non_null(ltg_oldest_frozen(rig.s, &cut2));
	rig.port->unlock(rig.port, LTG_LOCK_FLUSH);
	assert_int_equal(cut, cut2);
	{
		LtgFlushResult r;

		assert_int_equal(ltg_flush(rig.s, &r), LTG_OK);
		assert_int_equal(r.durable, cut);
		assert_true(rig.wal_flushed >= cut);
	}
	assert_int_equal(core_get(&rig, st, 1), 2);
	/* a crash loses what replay would bring again, and nothing else */
	core_down(&rig);
	core_boot_crashed(&rig);
	assert_int_equal(ltg_durable(rig.s), cut);
	st = core_store(&rig, 1, 0);
	assert_int_equal(core_get(&rig, st, 1), 1);
	/* generations are numbered above the ages in the files */
	core_put(&rig, st, 1, 3);
	assert_int_equal(core_get(&rig, st, 1), 3);
	assert_int_equal(core_flush(&rig), LTG_OK);
	assert_int_equal(core_get(&rig, st, 1), 3);
	core_check(&rig);
	core_close(&rig);
}

static void
test_limits(void **state)
{
	CoreRig		rig;
	LtgStore   *st;
	LtgWrite	w[20];
	uint8_t		keys[20][4];
	static uint8_t payload[LTG_PAYLOAD_MAX + 1];
	uint8_t		key[LTG_KEY_MAX + 1] = {0};

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	st = core_store(&rig, 1, 0);
	w[0] = (LtgWrite) {.store = st,.key = key,.key_len = LTG_KEY_MAX + 1};
	assert_int_equal(ltg_reserve(rig.s, w, 1), LTG_TOO_LARGE);
	ltg_clear_error(rig.s);
	w[0].key_len = 4;
	w[0].v.payload_len = LTG_PAYLOAD_MAX + 1;
	assert_int_equal(ltg_reserve(rig.s, w, 1), LTG_TOO_LARGE);
	ltg_clear_error(rig.s);
	for (uint32_t i = 0; i < 20; i++)
	{
		memcpy(keys[i], &i, 4);
		w[i] = (LtgWrite) {.store = st,.key = keys[i],.key_len = 4};
		w[i].v.payload = payload;
		w[i].v.payload_len = 100000;
	}
	assert_int_equal(ltg_reserve(rig.s, w, 20), LTG_TOO_LARGE);
	assert_int_equal(rig.s->pinned, -1);
	ltg_clear_error(rig.s);
	assert_int_equal(ltg_reserve(rig.s, w, 5), LTG_OK);
	ltg_apply(rig.s, w, 5, rig.wal += 10);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(w[i].v.seq, rig.wal);
	core_check(&rig);
	core_close(&rig);
}

static void
test_reset(void **state)
{
	CoreRig		rig;
	LtgStore   *st;
	LtgWrite	w;
	LtgSeq		cut;

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	st = core_store(&rig, 1, 0);
	ltg_latch(rig.s, st, (const uint8_t *) "abcd", 4);
	assert_int_equal(reserve(rig.s, st, 1, 100, &w), LTG_OK);
	ltg_epoch_enter(rig.s);
	ltg_session_reset(rig.s, true);
	assert_int_equal(rig.s->pinned, -1);
	assert_int_equal(rig.s->latched_stripe, -1);
	assert_int_equal(rig.s->epoch_depth, 0);
	assert_int_equal(ltg_freeze(rig.s, &cut), LTG_OK);	/* no pin is left */
	ltg_ddl_pin(rig.s);
	ltg_session_reset(rig.s, true);
	core_store(&rig, 2, 0);
	ltg_latch(rig.s, st, (const uint8_t *) "abcd", 4);
	ltg_unlatch(rig.s);
	core_check(&rig);
	core_close(&rig);
}

static void
test_config(void **state)
{
	CoreRig		rig;
	LtgShared  *sh;
	LtgSession *s[8];

	(void) state;
	core_open(&rig);
	core_boot(&rig, true);
	{
		LtgConfig	bad = rig.config;
		void	   *mem = malloc(ltg_shared_size(&bad));

		bad.memtable_count = 1;
		assert_int_equal(ltg_shared_init(mem, &bad, &sh), LTG_INVALID);
		bad.memtable_count = LTG_GENERATIONS_MAX + 1;
		assert_int_equal(ltg_shared_init(mem, &bad, &sh), LTG_INVALID);
		bad = rig.config;
		bad.memtable_bytes = 1000;
		assert_int_equal(ltg_shared_init(mem, &bad, &sh), LTG_INVALID);
		free(mem);
	}
	/* no more sessions than there are slots; closing gives them back */
	for (int i = 0; i < 7; i++)
		assert_int_equal(ltg_session_open(rig.port, rig.sh, &s[i]), LTG_OK);
	assert_int_equal(ltg_session_open(rig.port, rig.sh, &s[7]), LTG_NOSHMEM);
	assert_null(s[7]);
	ltg_session_close(s[3]);
	assert_int_equal(ltg_session_open(rig.port, rig.sh, &s[3]), LTG_OK);
	for (int i = 0; i < 7; i++)
		ltg_session_close(s[i]);
	/* memory fails while a session is opened */
	for (uint64_t nth = 1;; nth++)
	{
		LtgStatus	st;

		ltg_posix_fail(rig.posix, LTG_FAULT_ALLOC, nth, false, 0);
		st = ltg_session_open(rig.port, rig.sh, &s[0]);
		if (st == LTG_OK)
			break;
		assert_int_equal(st, LTG_NOMEM);
	}
	ltg_posix_no_faults(rig.posix);
	ltg_session_close(s[0]);
	core_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_freezes),
		cmocka_unit_test(test_reader_holds_arena),
		cmocka_unit_test(test_many_switches),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_config),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
