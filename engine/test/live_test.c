/*
 * live_test.c
 *	  How many versions stay under known snapshots: exact counts, after flushes
 *	  and after compaction.
 */
#include "test/lsm_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define KEYS 200

static void
update_all(LsmRig *rig, LtgStore *store, uint32_t round)
{
	for (uint32_t i = 0; i < KEYS; i++)
	{
		char		key[16],
					value[64];

		sprintf(key, "key%04u", i);
		sprintf(value, "row %u as round %u left it", i, round);
		lrig_put(rig, store, key, value);
	}
}

static void
expect_round(LsmRig *rig, LtgStore *store, RigSnapshot *snap, uint32_t round)
{
	LtgRow		row = {0};

	for (uint32_t i = 0; i < KEYS; i++)
	{
		char		key[16],
					value[64];

		sprintf(key, "key%04u", i);
		sprintf(value, "row %u as round %u left it", i, round);
		lrig_ok(rig, ltg_get(rig->s, store, (const uint8_t *) key, 7, &snap->snap, &row));
		assert_int_equal(row.v.payload_len, strlen(value));
		assert_memory_equal(row.v.payload, value, strlen(value));
	}
	ltg_row_free(rig->s, &row);
}

static uint64_t
entries(LsmRig *rig, LtgStore *store)
{
	LtgStoreInfo info;

	ltg_store_info(rig->s, store, &info);
	return info.entries;
}

static void
compact_now(LsmRig *rig, LtgStore *store)
{
	LtgCompactResult r;

	lrig_flush_all(rig);
	lrig_ok(rig, ltg_compact_store(rig->s, store, &r));
}

static RigSnapshot *
take(LsmRig *rig, bool known)
{
	RigSnapshot *snap = lrig_snapshot(rig, 0, 0);

	snap->known = known;
	return snap;
}

/* One known snapshot costs one version, however many updates there are. */
static void
one_old_snapshot(void **state)
{
	LsmRig		rig;
	LtgStore   *store;
	RigSnapshot *old,
			   *now;

	(void) state;
	lrig_open(&rig, NULL);
	store = lrig_store(&rig, 1, 0);
	update_all(&rig, store, 0);
	old = take(&rig, true);
	for (uint32_t round = 1; round <= 30; round++)
	{
		update_all(&rig, store, round);
		if (round % 10 == 0)
			lrig_flush_all(&rig);
	}
	/* a flush alone drops what lies between */
	assert_true(entries(&rig, store) <= 4 * KEYS);
	compact_now(&rig, store);
	assert_int_equal(entries(&rig, store), 2 * KEYS);
	expect_round(&rig, store, old, 0);
	now = take(&rig, true);
	expect_round(&rig, store, now, 30);
	lrig_release(&rig, now);
	lrig_release(&rig, old);
	update_all(&rig, store, 31);
	compact_now(&rig, store);
	assert_int_equal(entries(&rig, store), KEYS);
	lrig_close(&rig);
}

static void
several_snapshots(void **state)
{
	LsmRig		rig;
	LtgStore   *store;
	RigSnapshot *old[5];

	(void) state;
	lrig_open(&rig, NULL);
	store = lrig_store(&rig, 1, 0);
	for (uint32_t i = 0; i < 5; i++)
	{
		for (uint32_t round = 0; round < 5; round++)
			update_all(&rig, store, i * 10 + round);
		old[i] = take(&rig, true);
	}
	for (uint32_t round = 50; round < 60; round++)
		update_all(&rig, store, round);
	compact_now(&rig, store);
	assert_int_equal(entries(&rig, store), 6 * KEYS);
	for (uint32_t i = 0; i < 5; i++)
		expect_round(&rig, store, old[i], i * 10 + 4);

	/* one in the middle goes, and its versions with it */
	lrig_release(&rig, old[2]);
	update_all(&rig, store, 60);
	compact_now(&rig, store);
	assert_int_equal(entries(&rig, store), 5 * KEYS);
	for (uint32_t i = 0; i < 5; i++)
		if (i != 2)
			expect_round(&rig, store, old[i], i * 10 + 4);
	for (uint32_t i = 0; i < 5; i++)
		if (i != 2)
			lrig_release(&rig, old[i]);
	lrig_close(&rig);
}

/* A snapshot that is not known keeps everything since; one known beside it
 * keeps its own. */
static void
unknown_snapshot(void **state)
{
	LsmRig		rig;
	LtgStore   *store;
	RigSnapshot *known,
			   *unknown;

	(void) state;
	lrig_open(&rig, NULL);
	store = lrig_store(&rig, 1, 0);
	update_all(&rig, store, 0);
	known = take(&rig, true);
	for (uint32_t round = 1; round <= 5; round++)
		update_all(&rig, store, round);
	unknown = take(&rig, false);
	for (uint32_t round = 6; round <= 10; round++)
		update_all(&rig, store, round);
	compact_now(&rig, store);
	/* round 0, 5, and all from 6 on */
	assert_int_equal(entries(&rig, store), 7 * KEYS);
	expect_round(&rig, store, known, 0);
	expect_round(&rig, store, unknown, 5);
	/* it becomes known, as one that can only be guessed about */
	unknown->known = unknown->vague = true;
	update_all(&rig, store, 11);
	compact_now(&rig, store);
	assert_int_equal(entries(&rig, store), 3 * KEYS);
	expect_round(&rig, store, known, 0);
	expect_round(&rig, store, unknown, 5);
	lrig_release(&rig, known);
	lrig_release(&rig, unknown);
	lrig_close(&rig);
}

/* What an open transaction has replaced stays: triggers ask for it by tag. */
static void
open_writer(void **state)
{
	LsmRig		rig;
	LtgStore   *store;
	RigSnapshot *old;
	LtgXid		xid;

	(void) state;
	lrig_open(&rig, NULL);
	store = lrig_store(&rig, 1, 0);
	update_all(&rig, store, 0);
	old = take(&rig, true);
	for (uint32_t round = 1; round <= 5; round++)
		update_all(&rig, store, round);
	xid = lrig_begin(&rig);
	for (uint32_t cid = 0; cid < 3; cid++)
		lrig_write(&rig, store, "key0007", 7, LTG_PUT, "mine", 4, xid, cid);
	compact_now(&rig, store);
	/* the old one, the newest committed one, and three of the open one */
	assert_int_equal(entries(&rig, store), 2 * KEYS + 3);
	expect_round(&rig, store, old, 0);
	lrig_end(&rig, xid, false);
	lrig_release(&rig, old);
	lrig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_old_snapshot),
		cmocka_unit_test(several_snapshots),
		cmocka_unit_test(unknown_snapshot),
		cmocka_unit_test(open_writer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
