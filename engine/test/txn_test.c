/*
 * txn_test.c
 *	  Commit table, snapshots, horizon and the set of aborted transactions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lt/txn.h"
#include "test/port_sim.h"

#define SHIFT 4					/* 16 xids per chunk */
#define PLACES 8

typedef struct Fixture
{
	Sim		   *sim;
	LtXids	   *x;
	LtgEpochTable *epochs;
} Fixture;

static int
setup(void **state)
{
	Fixture    *f = calloc(1, sizeof(*f));
	size_t		size = (ltg_epoch_table_size(4) + 63) & ~(size_t) 63;

	f->sim = sim_create(1);
	assert_int_equal(lt_xids_create(sim_host(f->sim), PLACES, SHIFT, &f->x), LTG_OK);
	f->epochs = aligned_alloc(64, size);
	memset(f->epochs, 0, size);
	ltg_epoch_table_init(f->epochs, 4);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	Fixture    *f = *state;
	char		msg[200];

	if (!lt_xids_check(f->x, msg, sizeof(msg)))
		fail_msg("%s", msg);
	lt_xids_destroy(f->x);
	assert_int_equal(sim_live_allocs(f->sim), 0);
	sim_destroy(f->sim);
	free(f->epochs);
	free(f);
	return 0;
}

static LtgXid
start(Fixture *f, _Atomic uint64_t **slot)
{
	LtgXid		xid;

	assert_int_equal(lt_xid_new(f->x, &xid, slot), LTG_OK);
	return xid;
}

static void
commit(Fixture *f, _Atomic uint64_t *slot)
{
	atomic_store(slot, LT_SLOT_LOGGED);
	lt_xid_commit(f->x, slot);
}

static bool
sees(LtSnap *s, LtgXid xid, uint32_t cid)
{
	LtgState	fate = LTG_UNRESOLVED;

	return s->snap.judge(&s->snap, xid, cid, &fate);
}

static void
snapshots_see_what_was_committed_before(void **state)
{
	Fixture    *f = *state;
	_Atomic uint64_t *sa,
			   *sb,
			   *sc;
	LtgXid		a = start(f, &sa),
				b = start(f, &sb),
				c;
	LtSnap		before,
				after;
	uint64_t	csn;

	lt_snap_take(f->x, &before, lt_xids_place(f->x, 0));
	assert_false(sees(&before, a, 0));
	commit(f, sb);
	assert_false(sees(&before, b, 0));
	lt_snap_take(f->x, &after, lt_xids_place(f->x, 1));
	assert_true(sees(&after, b, 0));
	assert_false(sees(&after, a, 0));
	assert_int_equal(lt_xid_fate(f->x, a, &csn), LT_FATE_RUNNING);
	assert_int_equal(lt_xid_fate(f->x, b, &csn), LT_FATE_COMMITTED);
	/* logged is not yet visible to anybody */
	c = start(f, &sc);
	atomic_store(sc, LT_SLOT_LOGGED);
	assert_int_equal(lt_xid_fate(f->x, c, &csn), LT_FATE_COMMITTING);
	assert_false(sees(&after, c, 0));
	lt_xid_abort(f->x, sc);
	assert_int_equal(lt_xid_fate(f->x, c, &csn), LT_FATE_ABORTED);
	/* own versions by command id */
	after.own_xid = a;
	after.own_cid = 5;
	assert_true(sees(&after, a, 4));
	assert_false(sees(&after, a, 5));
	lt_snap_release(&before);
	lt_snap_release(&after);
	/* a is the oldest running one */
	assert_int_equal(lt_xids_horizon(f->x), a);
	lt_xid_abort(f->x, sa);
	assert_int_equal(lt_xids_horizon(f->x), c + 1);
}

static void
snapshots_hold_the_horizon(void **state)
{
	Fixture    *f = *state;
	_Atomic uint64_t *s;
	LtSnap		snap;
	LtgXid		first = lt_xids_next(f->x);

	lt_snap_take(f->x, &snap, lt_xids_place(f->x, 3));
	for (int i = 0; i < 100; i++)
	{
		(void) start(f, &s);
		commit(f, s);
	}
	assert_int_equal(lt_xids_oldest(f->x), first + 100);
	assert_int_equal(lt_xids_horizon(f->x), first);
	lt_snap_release(&snap);
	assert_int_equal(lt_xids_horizon(f->x), first + 100);
}

static void
aborted_are_remembered_until_no_version_is_left(void **state)
{
	Fixture    *f = *state;
	_Atomic uint64_t *s;
	LtgXid		aborted = 0,
				committed = 0;
	uint64_t	csn;

	for (int i = 0; i < 200; i++)
	{
		LtgXid		xid = start(f, &s);

		if (i == 40)
		{
			aborted = xid;
			lt_xid_abort(f->x, s);
		}
		else
		{
			committed = i == 41 ? xid : committed;
			commit(f, s);
		}
	}
	/* moved out of the table at log position 1000 */
	assert_int_equal(lt_xids_prune(f->x, f->epochs, 1000, 500, 0), LTG_OK);
	assert_int_equal(lt_xids_aborted_kept(f->x), 1);
	assert_int_equal(lt_xids_oldest_aborted(f->x), aborted);
	assert_int_equal(lt_xid_fate(f->x, aborted, &csn), LT_FATE_ABORTED);
	assert_int_equal(lt_xid_fate(f->x, committed, &csn), LT_FATE_COMMITTED);
	assert_int_equal(csn, 0);
	/* files still have something as old */
	assert_int_equal(lt_xids_prune(f->x, f->epochs, 2000, 1500, aborted), LTG_OK);
	assert_int_equal(lt_xids_prune(f->x, f->epochs, 2000, 1500, aborted), LTG_OK);
	assert_int_equal(lt_xids_aborted_kept(f->x), 1);
	/* one epoch after they have not */
	assert_int_equal(lt_xids_prune(f->x, f->epochs, 2000, 1500, aborted + 1), LTG_OK);
	assert_int_equal(lt_xids_aborted_kept(f->x), 1);
	assert_int_equal(lt_xids_prune(f->x, f->epochs, 2000, 1500, aborted + 1), LTG_OK);
	assert_int_equal(lt_xids_aborted_kept(f->x), 0);
}

static void
a_running_one_bounds_the_table(void **state)
{
	Fixture    *f = *state;
	_Atomic uint64_t *old,
			   *s;
	LtgXid		xid;
	LtgStatus	st;
	int			n = 0;

	(void) start(f, &old);
	while ((st = lt_xid_new(f->x, &xid, &s)) == LTG_OK)
	{
		commit(f, s);
		n++;
		if (n % 1000 == 0)
			assert_int_equal(lt_xids_prune(f->x, f->epochs, (LtgSeq) n, (LtgSeq) n, 0), LTG_OK);
	}
	assert_int_equal(st, LTG_BUSY);
	assert_true(n > 60000);
	lt_xid_abort(f->x, old);
	assert_int_equal(lt_xids_prune(f->x, f->epochs, 1, 1, 0), LTG_OK);
	for (int i = 0; i < 100000; i++)
	{
		assert_int_equal(lt_xid_new(f->x, &xid, &s), LTG_OK);
		commit(f, s);
		if (i % 1000 == 0)
			assert_int_equal(lt_xids_prune(f->x, f->epochs, 1, 1, 0), LTG_OK);
	}
}

typedef struct State
{
	LtgXid		running[8], aborted[8];
	int			n_running, n_aborted;
} State;

static LtgStatus
collect(void *arg, LtgXid xid, bool aborted)
{
	State	   *s = arg;

	if (aborted)
		s->aborted[s->n_aborted++] = xid;
	else
		s->running[s->n_running++] = xid;
	return LTG_OK;
}

static void
state_tells_running_and_aborted(void **state)
{
	Fixture    *f = *state;
	const LtgXid aborted[] = {3, 7};
	_Atomic uint64_t *a,
			   *b,
			   *c,
			   *d;
	LtgXid		next;
	State		s = {0};
	uint64_t	csn;

	assert_int_equal(lt_xids_restore(f->x, 100, aborted, 2, 10), LTG_OK);
	assert_int_equal(lt_xid_fate(f->x, 3, &csn), LT_FATE_ABORTED);
	assert_int_equal(lt_xid_fate(f->x, 4, &csn), LT_FATE_COMMITTED);
	assert_int_equal(start(f, &a), 100);
	(void) start(f, &b);
	(void) start(f, &c);
	(void) start(f, &d);
	commit(f, b);
	lt_xid_abort(f->x, c);
	atomic_store(d, LT_SLOT_LOGGED);
	assert_int_equal(lt_xids_state(f->x, &next, collect, &s), LTG_OK);
	assert_int_equal(next, 104);
	assert_int_equal(s.n_running, 1);
	assert_int_equal(s.running[0], 100);
	assert_int_equal(s.n_aborted, 3);
	assert_int_equal(s.aborted[0], 3);
	assert_int_equal(s.aborted[1], 7);
	assert_int_equal(s.aborted[2], 102);
	/* nobody was ever given this one */
	assert_int_equal(lt_xid_fate(f->x, 1000, &csn), LT_FATE_RUNNING);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(snapshots_see_what_was_committed_before, setup, teardown),
		cmocka_unit_test_setup_teardown(snapshots_hold_the_horizon, setup, teardown),
		cmocka_unit_test_setup_teardown(aborted_are_remembered_until_no_version_is_left, setup, teardown),
		cmocka_unit_test_setup_teardown(a_running_one_bounds_the_table, setup, teardown),
		cmocka_unit_test_setup_teardown(state_tells_running_and_aborted, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
