/*
 * flush_test.c
 *	  Flushing: what ends up in files, the order of horizon, fates and log
 *	  position, failures, and raising D.
 */
#include "test/lsm_rig.h"

#include "tree/publish.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static LsmRig rig;

static void
problem(void *arg, const char *text)
{
	(void) arg;
	fail_msg("check: %s", text);
}

static void
expect(LtgStore *store, const char *key, const char *want)
{
	RigSnapshot *snap = lrig_snapshot(&rig, 0, 0);
	LtgRow		row = {0};
	LtgStatus	st = ltg_get(rig.s, store, (const uint8_t *) key, (uint32_t) strlen(key),
							 &snap->snap, &row);

	if (want == NULL)
		lrig_expect(&rig, st, LTG_NOT_FOUND, __FILE__, __LINE__);
	else
	{
		lrig_ok(&rig, st);
		assert_int_equal(row.v.payload_len, strlen(want));
		assert_memory_equal(row.v.payload, want, strlen(want));
	}
	ltg_row_free(rig.s, &row);
	lrig_release(&rig, snap);
}

static LtgStoreInfo
info_of(LtgStore *t)
{
	LtgStoreInfo info;

	ltg_store_info(rig.s, t, &info);
	return info;
}

/* What survives a flush, and in which state. */
static void
survivors(void **state)
{
	LtgStore   *t, *g;
	LtgStoreInfo info;
	LtgFlushResult r;
	LtgXid		x;
	RigSnapshot *old;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	g = lrig_store(&rig, 2, LTG_STORE_KEEP_GRAVES);
	lrig_ok(&rig, ltg_flush(rig.s, &r));
	assert_false(r.flushed);	/* nothing is frozen */

	lrig_put(&rig, t, "settled", "1");
	lrig_put(&rig, t, "settled", "2");
	lrig_put(&rig, t, "deleted", "1");
	lrig_delete(&rig, t, "deleted");
	lrig_put(&rig, g, "deleted", "1");
	lrig_delete(&rig, g, "deleted");
	for (int i = 0; i < 2; i++)
	{
		x = lrig_begin(&rig);
		lrig_write(&rig, i == 0 ? t : g, "aborted", 7, LTG_PUT, "1", 1, x, 0);
		lrig_end(&rig, x, false);
	}
	old = lrig_snapshot(&rig, 0, 0);
	lrig_put(&rig, t, "committed", "1");
	x = lrig_begin(&rig);
	lrig_write(&rig, t, "running", 7, LTG_PUT, "1", 1, x, 0);
	lrig_flush_all(&rig);

	/* t: settled, committed, running; g: one DELETE, one GONE */
	info = info_of(t);
	assert_int_equal(info.entries, 3);
	assert_int_equal(info.tombstones, 0);
	assert_int_equal(info.unsettled, 2);
	assert_int_equal(info.l0_runs, 1);
	info = info_of(g);
	assert_int_equal(info.entries, 2);
	assert_int_equal(info.tombstones, 2);
	assert_int_equal(info.unsettled, 0);
	assert_true(rig.wal_flushed >= ltg_durable(rig.s));
	expect(t, "settled", "2");
	expect(t, "aborted", NULL);
	expect(t, "running", NULL);
	lrig_end(&rig, x, true);
	expect(t, "running", "1");
	lrig_release(&rig, old);

	/* an aborted change of a row that lies in a file leaves no grave */
	x = lrig_begin(&rig);
	lrig_write(&rig, g, "row", 3, LTG_PUT, "1", 1, x, 0);
	lrig_end(&rig, x, true);
	lrig_flush_all(&rig);
	x = lrig_begin(&rig);
	lrig_write(&rig, g, "row", 3, LTG_PUT, "2", 1, x, 0);
	lrig_write(&rig, g, "insert", 6, LTG_PUT, "2", 1, x, 0);
	lrig_end(&rig, x, false);
	lrig_flush_all(&rig);
	expect(g, "row", "1");
	assert_int_equal(info_of(g).tombstones, 3);
	lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
	lrig_close(&rig);
}

/* A commit between the horizon and the publication is relied on only if the
 * log is flushed that far. */
static LtgXid commit_at_stop;

static void
commit_now(LsmRig *r, const char *name)
{
	if (commit_at_stop != 0 && strcmp(name, "flush:before-sync") == 0)
	{
		lrig_end(r, commit_at_stop, true);
		commit_at_stop = 0;
	}
}

static void
log_before_data(void **state)
{
	LtgStore   *t;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	for (int i = 0; i < 3; i++)
	{
		LtgXid		x = lrig_begin(&rig);

		lrig_write(&rig, t, "k", 1, LTG_PUT, "v", 1, x, 0);
		lrig_end(&rig, x, true);
		lrig_freeze(&rig);
		/* the commit record of x lies above the cut if it came later */
	}
	rig.stop = commit_now;
	commit_at_stop = lrig_begin(&rig);
	lrig_flush_all(&rig);
	assert_int_equal(commit_at_stop, 0);
	assert_true(rig.wal_flushed >= ltg_durable(rig.s));
	lrig_close(&rig);
}

/* Every possible failure of one call: the generation stays, nothing is left
 * over, and the next attempt does it. */
static void
failures(void **state)
{
	static const LtgFaultKind kinds[] = {
		LTG_FAULT_ALLOC, LTG_FAULT_OPEN, LTG_FAULT_WRITE, LTG_FAULT_SYNC, LTG_FAULT_RENAME,
		LTG_FAULT_DIR_SYNC
	};

	(void) state;
	for (uint32_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
	{
		for (uint64_t nth = 1;; nth++)
		{
			LtgStore   *t, *u;
			LtgFlushResult r;
			LtgStatus	st;
			LtgSeq		durable;
			LtgStats	stats;

			lrig_open(&rig, NULL);
			t = lrig_store(&rig, 1, 0);
			u = lrig_store(&rig, 2, LTG_STORE_KEEP_GRAVES);
			lrig_put(&rig, t, "old", "file");
			lrig_flush_all(&rig);
			for (int i = 0; i < 300; i++)
			{
				char		key[16];

				snprintf(key, sizeof(key), "%d", i);
				lrig_put(&rig, i % 2 == 0 ? t : u, key, "some longer payload of this row");
			}
			lrig_freeze(&rig);
			durable = ltg_durable(rig.s);
			ltg_posix_fail(rig.posix, kinds[k], nth, false,
						   kinds[k] == LTG_FAULT_WRITE ? ENOSPC : EIO);
			st = ltg_flush(rig.s, &r);
			ltg_posix_fail(rig.posix, kinds[k], 0, false, 0);
			assert_int_equal(rig.s->epoch_depth, 0);
			if (st != LTG_OK)
			{
				assert_false(r.flushed);
				if (kinds[k] == LTG_FAULT_ALLOC)
					assert_int_equal(st, LTG_NOMEM);
				else if (kinds[k] == LTG_FAULT_WRITE)
					assert_int_equal(st, LTG_NOSPACE);
				assert_true(rig.s->err.status == st);
				ltg_clear_error(rig.s);
				assert_int_equal(ltg_durable(rig.s), durable);
				expect(t, "0", "some longer payload of this row");
				expect(t, "old", "file");
				st = ltg_flush(rig.s, &r);
				if (st != LTG_POISONED)
				{
					lrig_ok(&rig, st);
					assert_true(r.flushed);
				}
				ltg_clear_error(rig.s);
				st = LTG_IO;
			}
			expect(t, "298", "some longer payload of this row");
			expect(u, "299", "some longer payload of this row");
			ltg_stats(rig.s, &stats);
			assert_true(stats.files <= 2);
			lrig_restart(&rig);
			expect(lrig_find(&rig, 1), "298", "some longer payload of this row");
			expect(lrig_find(&rig, 2), "299", "some longer payload of this row");
			lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
			lrig_close(&rig);
			if (st == LTG_OK)
				break;
			assert_true(nth < 400);
		}
	}
}

static void
interrupted(void **state)
{
	LtgStore   *t;
	LtgFlushResult r;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	for (int i = 0; i < 3000; i++)
	{
		char		key[16];

		snprintf(key, sizeof(key), "%d", i);
		lrig_put(&rig, t, key, "v");
	}
	lrig_freeze(&rig);
	rig.interrupted = true;
	assert_int_equal(ltg_flush(rig.s, &r), LTG_INTERRUPTED);
	rig.interrupted = false;
	ltg_clear_error(rig.s);
	lrig_ok(&rig, ltg_flush(rig.s, &r));
	assert_true(r.flushed);
	expect(t, "2999", "v");
	lrig_close(&rig);
}

static void
upto(void **state)
{
	LtgStore   *t;
	LtgFlushResult r;
	LtgSeq		at;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	/* nothing is dirty, yet D must follow the log */
	for (int i = 0; i < 10; i++)
	{
		rig.lsn += 100;
		at = rig.lsn;
		lrig_ok(&rig, ltg_flush_upto(rig.s, at, &r));
		assert_true(r.durable >= at && ltg_durable(rig.s) >= at);
		lrig_ok(&rig, ltg_flush_upto(rig.s, at, &r));	/* and not again */
		assert_false(r.flushed);
	}
	/* what is at or below is in files, later things need not be */
	lrig_put(&rig, t, "a", "1");
	at = rig.lsn;
	lrig_put(&rig, t, "b", "1");
	lrig_ok(&rig, ltg_flush_upto(rig.s, at, &r));
	assert_true(ltg_durable(rig.s) >= at);
	lrig_restart(&rig);
	t = lrig_find(&rig, 1);
	expect(t, "a", "1");
	expect(t, "b", "1");
	/* the future can't be flushed */
	assert_int_equal(ltg_flush_upto(rig.s, rig.lsn + 1000, &r), LTG_INVALID);
	ltg_clear_error(rig.s);
	lrig_close(&rig);
}

/* Stores dropped while a flush runs are skipped. */
static LtgStoreKey drop_key;

static void
drop_now(LsmRig *r, const char *name)
{
	if (drop_key.relation != 0 && strcmp(name, "flush:before-publish") == 0)
	{
		ltg_ddl_pin(r->s);
		r->lsn += 8;
		lrig_ok(r, ltg_store_drop(r->s, &drop_key, r->lsn));
		ltg_ddl_unpin(r->s);
		drop_key.relation = 0;
	}
}

static void
dropped(void **state)
{
	LtgStore   *t, *u;
	LtgFlushResult r;

	(void) state;
	lrig_open(&rig, NULL);
	t = lrig_store(&rig, 1, 0);
	u = lrig_store(&rig, 2, 0);
	lrig_put(&rig, t, "a", "1");
	lrig_put(&rig, u, "a", "2");
	lrig_freeze(&rig);
	drop_key = u->key;
	rig.stop = drop_now;
	lrig_ok(&rig, ltg_flush(rig.s, &r));
	assert_int_equal(drop_key.relation, 0);
	expect(t, "a", "1");
	u = lrig_store(&rig, 2, 0);
	expect(u, "a", NULL);
	lrig_put(&rig, u, "b", "3");
	lrig_flush_all(&rig);
	expect(u, "b", "3");
	expect(u, "a", NULL);
	lrig_ok(&rig, ltg_check_all(rig.s, problem, NULL));
	lrig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(survivors),
		cmocka_unit_test(log_before_data),
		cmocka_unit_test(failures),
		cmocka_unit_test(interrupted),
		cmocka_unit_test(upto),
		cmocka_unit_test(dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
