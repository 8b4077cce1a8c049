/*
 * gc_test.c
 *	  ltg_gc_key and ltg_gc_bottom against the definition: enumerate all short
 *	  version lists and all snapshots, and compare what is seen before and
 *	  after.  So for ltg_relabel_key, also when others go on with what it leaves.
 */
#include "tree/gc.h"
#include "tree/relabel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/*
 * The world: transactions 1 and 2 are committed and older than the horizon,
 * 3 and 4 are committed but younger, 5 is in progress, 6 was aborted.
 */
#define HORIZON 3
#define FATES_N 7

static uint32_t status_calls;

static LtgStatus
fake_status(LtgPort *port, LtgXid xid, LtgXidStatus *status, LtgError *err)
{
	(void) port;
	(void) err;
	status_calls++;
	if (xid > 1000)
		*status = xid % 3 == 0 ? LTG_XID_ABORTED : LTG_XID_COMMITTED;
	else
		*status = xid == 5 ? LTG_XID_IN_PROGRESS :
			xid == 6 ? LTG_XID_ABORTED : LTG_XID_COMMITTED;
	return LTG_OK;
}

static void *
fake_alloc(LtgPort *port, size_t size)
{
	(void) port;
	return malloc(size);
}

static void *
failing_alloc(LtgPort *port, size_t size)
{
	(void) port;
	(void) size;
	return NULL;
}

static void
fake_free(LtgPort *port, void *p)
{
	(void) port;
	free(p);
}

static LtgPort port = {.alloc = fake_alloc, .free = fake_free, .xid_status = fake_status};
static LtgSession session = {.port = &port};

/* A snapshot: which of transactions 3, 4, 5 it sees (5: its own). */
static bool
sees(const LtgVersion *v, uint32_t snap)
{
	if (v->state == LTG_SETTLED || v->kind == LTG_GONE)
		return true;			/* whatever became of who withdrew the row */
	if (v->state == LTG_ABORTED || v->xid == 6)
		return false;
	if (v->xid < HORIZON)
		return true;
	return (snap >> (v->xid - 3) & 1) != 0;
}

/* Number of the payload seen, 0 = no row. */
static uint32_t
result(const LtgVersion *v, uint32_t n, uint32_t snap, uint32_t underneath)
{
	for (uint32_t i = 0; i < n; i++)
		if (v[i].state != LTG_ABORTED && sees(&v[i], snap))
			return v[i].kind == LTG_PUT ? v[i].payload_len : 0;
	return underneath;
}

#define KINDS_N 3
#define STATES_N 4

/* The i-th possible version, or false if that combination makes no sense. */
static bool
make_version(LtgVersion *v, uint32_t code, uint32_t age)
{
	uint32_t	kind = code % KINDS_N;
	uint32_t	state = code / KINDS_N % STATES_N;
	uint32_t	xid = code / KINDS_N / STATES_N;	/* 0 .. FATES_N-1 */

	memset(v, 0, sizeof(*v));
	v->kind = (LtgKind) kind;
	v->state = (LtgState) state;
	v->xid = xid;
	v->cid = state == LTG_SETTLED ? 0 : age;
	v->seq = 100 - age;
	v->payload_len = 1 + age;
	v->aux = kind == LTG_DELETE ? 77 : 0;
	if ((state == LTG_SETTLED) != (xid == 0))
		return false;
	if (state == LTG_SETTLED && kind == LTG_PUT)
		v->seq = 0;
	if (state == LTG_COMMITTED && (xid == 5 || xid == 6))
		return false;
	if (state == LTG_ABORTED && xid != 6)
		return false;
	if (kind == LTG_GONE && state == LTG_ABORTED)
		return false;
	return true;
}

#define CODES (KINDS_N * STATES_N * FATES_N)

/*
 * Below a settled version lie only versions committed before the horizon, and
 * in general a committed-before-horizon version lies above nothing that is
 * younger.  That is what conflict checks guarantee; G1 needs only the half
 * that a settled version hides the rest from everybody.
 */
static void
check_list(const LtgVersion *before, uint32_t n, bool keep, LtgSeq cleared, LtgFates *fates)
{
	LtgGcRules	rules = {.horizon = HORIZON, .fates = fates, .keep_graves = keep,
		.graves_cleared = cleared};
	LtgGcOutcome out;
	LtgVersion	v[5];

	for (int bottom = 0; bottom < 2; bottom++)
	{
		bool		settled = false;

		memcpy(v, before, n * sizeof(*v));
		assert_int_equal(ltg_gc_key(&rules, v, n, &out), LTG_OK);
		if (bottom)
			ltg_gc_bottom(v, &out);

		/* G1 */
		for (uint32_t snap = 0; snap < 8; snap++)
		{
			/* not at the bottom, another row may lie underneath */
			uint32_t	under = bottom ? 0 : 99;

			if (result(before, n, snap, under) != result(v, out.kept, snap, under))
				fail_msg("snapshot %u sees another thing (bottom %d, n %u)", snap, bottom, n);
		}
		/* G2, G3 */
		for (uint32_t i = 0; i < out.kept; i++)
		{
			assert_false(settled);
			assert_int_not_equal(v[i].state, LTG_ABORTED);
			settled = v[i].state == LTG_SETTLED;
			if (settled)
			{
				/* a row's writer is shown; before[] has it at the same payload */
				for (uint32_t k = 0; k < n; k++)
					if (before[k].payload_len == v[i].payload_len && before[k].kind == v[i].kind)
						assert_int_equal(v[i].xid, v[i].kind == LTG_PUT ? before[k].xid : 0);
				assert_int_equal(v[i].cid, 0);
			}
			else if (v[i].xid == 5)
				assert_int_equal(v[i].state, LTG_UNRESOLVED);
			else
			{
				assert_int_equal(v[i].state, LTG_COMMITTED);
				assert_true(v[i].xid >= HORIZON);
			}
		}
		for (uint32_t i = 0, k = 0; i < n; i++)
		{
			/* in-progress versions in front of a settled one are all there */
			if (before[i].state == LTG_SETTLED || before[i].kind == LTG_GONE ||
				(before[i].xid < HORIZON))
				break;
			if (before[i].xid == 5)
			{
				while (k < out.kept && v[k].payload_len != before[i].payload_len)
					k++;
				assert_true(k < out.kept);
				assert_memory_equal(&v[k], &before[i], sizeof(*v));
			}
		}
		/* G5 */
		if (bottom && out.kept == 0 && keep)
			for (uint32_t i = 0; i < n; i++)
			{
				if (before[i].kind == LTG_PUT && before[i].seq > cleared)
					fail_msg("a grave is missing");
				if (before[i].state == LTG_SETTLED)
					break;
			}
		/* no tombstone without need */
		if (bottom && !keep && out.kept > 0)
			assert_false(v[out.kept - 1].state == LTG_SETTLED &&
						 v[out.kept - 1].kind != LTG_PUT);
		for (uint32_t i = 0; i < out.kept; i++)
			if (v[i].kind != LTG_PUT)
				assert_true(v[i].seq != 0);
	}
}

static void
enumerate(LtgVersion *v, uint32_t n, uint32_t max, LtgFates *fates, uint64_t *count)
{
	if (n > 0)
	{
		check_list(v, n, false, 0, fates);
		check_list(v, n, true, 0, fates);
		check_list(v, n, true, 98, fates);
		check_list(v, n, true, 1000, fates);
		(*count)++;
	}
	if (n == max)
		return;
	for (uint32_t code = 0; code < CODES; code++)
		if (make_version(&v[n], code, n))
			enumerate(v, n + 1, max, fates, count);
}

static void
all_short_lists(void **state)
{
	LtgVersion	v[5];
	LtgFates	fates;
	uint64_t	count = 0;

	(void) state;
	ltg_fates_init(&fates, &session);
	enumerate(v, 0, 4, &fates, &count);
	assert_true(count > 100000);
	ltg_fates_free(&fates);
}

/*
 * Known snapshots.  A view is what a snapshot sees of transactions 3 and 4, by bit;
 * others see everything below the floor and anything else besides.
 */
static uint32_t known_view[4];
static uint32_t doubtful_view;	/* this one answers "maybe" about transaction 4 */

static LtgSees
fake_sees(LtgPort *p, const LtgLive *live, uint32_t i, LtgXid xid)
{
	(void) p;
	assert_true(i < live->n);
	assert_true(xid == 3 || xid == 4);
	if (i == doubtful_view && xid == 4)
		return LTG_SEES_MAYBE;
	return (known_view[i] >> (xid - 3) & 1) != 0 ? LTG_SEES_YES : LTG_SEES_NO;
}

/* Index of the version that decides for the snapshot, n if none. */
static uint32_t
decider(const LtgVersion *v, uint32_t n, uint32_t snap)
{
	for (uint32_t i = 0; i < n; i++)
		if (v[i].state != LTG_ABORTED && sees(&v[i], snap))
			return i;
	return n;
}

/* A snapshot (bits as in sees) that may exist beside the known ones. */
static bool
may_exist(uint32_t snap, const LtgLive *live)
{
	for (uint32_t i = 0; i < live->n; i++)
		if ((snap & 3) == known_view[i] || (i == doubtful_view && (snap & 1) == (known_view[i] & 1)))
			return true;
	for (LtgXid x = 3; x < live->floor && x <= 4; x++)
		if ((snap >> (x - 3) & 1) == 0)
			return false;
	return true;
}

/*
 * What was relabelled is given to later merges: some of the known snapshots have
 * ended, some are not known any more, the horizon has moved on.
 */
static void
check_later(const LtgVersion *before, uint32_t n, const LtgVersion *labelled, uint32_t kept,
			const LtgLive *live, LtgFates *fates)
{
	uint32_t	views[4];
	uint32_t	doubtful = doubtful_view;

	memcpy(views, known_view, sizeof(views));
	doubtful_view = 4;
	for (uint32_t left = 0; left < 1u << live->n; left++)
		for (uint32_t known = 0; known < 2; known++)
		{
			LtgLive		now = {.floor = live->floor};
			LtgGcRules	rules = {.horizon = HORIZON, .fates = fates, .live = &now};
			LtgGcOutcome out;
			LtgVersion	v[5];

			for (uint32_t i = 0; i < live->n; i++)
				if ((left >> i & 1) != 0)
					known_view[now.n++] = views[i];
			while (rules.horizon < now.floor)
			{
				bool		all = true;

				for (uint32_t i = 0; i < now.n; i++)
					all &= (known_view[i] >> (rules.horizon - 3) & 1) != 0;
				if (!all)
					break;
				rules.horizon++;
			}
			memcpy(v, labelled, kept * sizeof(*v));
			if (known == 0)
				rules.live = NULL;
			assert_int_equal(ltg_gc_key(&rules, v, kept, &out), LTG_OK);
			for (uint32_t snap = 0; snap < 8; snap++)
				if (may_exist(snap, &now) &&
					result(before, n, snap, 99) != result(v, out.kept, snap, 99))
					fail_msg("snapshot %u sees another thing later", snap);
		}
	memcpy(known_view, views, sizeof(views));
	doubtful_view = doubtful;
}

/* v[0..kept): what is left of before[0..n). */
static void
check_relabelled(const LtgVersion *before, uint32_t n, const LtgVersion *v, uint32_t kept,
				 const LtgLive *live, LtgFates *fates)
{
	LtgVersion	w[5];
	LtgSeq		newer = UINT64_MAX;

	memcpy(w, v, kept * sizeof(*w));
	ltg_relabel_key(0, w, kept);
	assert_memory_equal(w, v, kept * sizeof(*w));
	ltg_relabel_key(7, w, kept);
	for (uint32_t i = 0; i < kept; i++)
	{
		LtgVersion	same = v[i];

		if (w[i].seq != 0)
		{
			assert_true(w[i].seq < newer && w[i].seq <= v[i].seq);
			newer = w[i].seq;
		}
		if (w[i].state == LTG_COMMITTED && w[i].kind == LTG_PUT)
		{
			same.seq = w[i].seq;
			if (i + 1 == kept)
				assert_int_equal(w[i].seq, 7);
		}
		assert_memory_equal(&w[i], &same, sizeof(same));
	}
	check_later(before, n, w, kept, live, fates);
}

static void
check_known(const LtgVersion *before, uint32_t n, const LtgLive *live, LtgFates *fates)
{
	LtgGcRules	rules = {.horizon = HORIZON, .fates = fates, .live = live};
	LtgGcOutcome out;
	LtgVersion	v[5];
	bool		needed[5] = {false};

	memcpy(v, before, n * sizeof(*v));
	assert_int_equal(ltg_gc_key(&rules, v, n, &out), LTG_OK);
	for (uint32_t snap = 0; snap < 8; snap++)
	{
		uint32_t	at = decider(before, n, snap);

		if (!may_exist(snap, live))
			continue;
		needed[at] = true;
		if (result(before, n, snap, 99) != result(v, out.kept, snap, 99))
			fail_msg("snapshot %u sees another thing", snap);
	}
	check_relabelled(before, n, v, out.kept, live, fates);
	/* what stays is needed, or may still commit; and in the old order */
	for (uint32_t k = 0, i = 0; k < out.kept; k++, i++)
	{
		while (i < n && before[i].payload_len != v[k].payload_len)
			i++;
		assert_true(i < n);
		for (uint32_t newer = 0; newer < i; newer++)
			needed[i] |= before[newer].xid == before[i].xid;	/* not looked for */
		if (!needed[i])
			assert_int_equal(v[k].state, LTG_UNRESOLVED);
	}
}

static void
enumerate_known(LtgVersion *v, uint32_t n, uint32_t max, LtgFates *fates, uint64_t *count)
{
	static const uint32_t sets[][4] = {
		{0}, {1}, {2}, {3}, {0, 1}, {0, 2}, {1, 2}, {0, 3}, {1, 3}, {2, 3}, {0, 1, 2}, {0, 1, 2, 3},
		{0}						/* none: others alone */
	};
	static const uint32_t sizes[] = {1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 4, 0};

	for (uint32_t k = 0; n > 0 && k < 13; k++)
	{
		LtgLive		live = {.n = sizes[k]};

		memcpy(known_view, sets[k], sizeof(known_view));
		for (live.floor = 3; live.floor <= 5; live.floor++)
			for (doubtful_view = 0; doubtful_view <= live.n; doubtful_view++)
			{
				check_known(v, n, &live, fates);
				(*count)++;
			}
	}
	if (n == max)
		return;
	for (uint32_t code = 0; code < CODES; code++)
		if (make_version(&v[n], code, n))
			enumerate_known(v, n + 1, max, fates, count);
}

static void
known_snapshots(void **state)
{
	LtgVersion	v[5];
	LtgFates	fates;
	uint64_t	count = 0;

	(void) state;
	ltg_fates_init(&fates, &session);
	port.sees = fake_sees;
	enumerate_known(v, 0, 3, &fates, &count);
	assert_true(count > 100000);
	ltg_fates_free(&fates);
}

/* As many as there can be, each sees the transactions up to its number. */
static LtgSees
sees_up_to(LtgPort *p, const LtgLive *live, uint32_t i, LtgXid xid)
{
	(void) p;
	return xid <= live->known[i] ? LTG_SEES_YES : LTG_SEES_NO;
}

static void
many_known_snapshots(void **state)
{
	LtgFates	fates;
	LtgLive		live = {.floor = 1000, .n = LTG_LIVE_MAX};
	LtgGcRules	rules = {.horizon = 3, .fates = &fates, .live = &live};
	LtgGcOutcome out;
	LtgVersion	v[1000];

	(void) state;
	ltg_fates_init(&fates, &session);
	port.sees = sees_up_to;
	for (uint32_t i = 0; i < LTG_LIVE_MAX; i++)
		live.known[i] = 10 * (LTG_LIVE_MAX - i);
	for (int what = 0; what < 3; what++)
	{
		/* the horizon alone; a floor above it; known snapshots besides: one for
		 * everybody else, one for each that was old enough */
		uint32_t	expected[] = {900, 1, 1 + LTG_LIVE_MAX - 5};

		for (uint32_t i = 0; i < 900; i++)
			v[i] = (LtgVersion) {.state = LTG_COMMITTED, .xid = 950 - i, .seq = 950 - i};
		live.floor = what == 0 ? 0 : 1000;
		live.n = what == 2 ? LTG_LIVE_MAX : 0;
		assert_int_equal(ltg_gc_key(&rules, v, 900, &out), LTG_OK);
		assert_int_equal(out.kept, expected[what]);
		assert_int_equal(out.pruned, 900 - out.kept);
	}
	assert_int_equal(v[0].xid, 950);
	for (uint32_t i = 1; i < out.kept; i++)
		assert_int_equal(v[i].xid, live.known[i - 1]);
	ltg_fates_free(&fates);
	port.sees = fake_sees;
}

/* A row that was withdrawn never was, whatever became of who withdrew it. */
static void
withdrawn(void **state)
{
	static const LtgState fates_of_gone[] = {LTG_UNRESOLVED, LTG_COMMITTED, LTG_SETTLED, LTG_ABORTED};
	LtgFates	fates;
	LtgGcRules	rules = {.horizon = HORIZON, .fates = &fates};
	LtgGcOutcome out;

	(void) state;
	ltg_fates_init(&fates, &session);
	for (uint32_t i = 0; i < 4; i++)
	{
		LtgVersion	v[3] = {{.kind = LTG_GONE, .state = fates_of_gone[i], .xid = 5, .seq = 9},
		{.kind = LTG_PUT, .xid = 5, .seq = 8}};

		assert_int_equal(ltg_gc_key(&rules, v, 2, &out), LTG_OK);
		assert_int_equal(out.kept, 1);
		assert_int_equal(v[0].kind, LTG_GONE);
		assert_int_equal(v[0].state, LTG_SETTLED);
		assert_true(out.asks_bottom);
		ltg_gc_bottom(v, &out);
		assert_int_equal(out.kept, 0);
	}
	ltg_fates_free(&fates);
}

/* Locks: nothing is left of writers that have ended, in whatever way. */
static void
locks(void **state)
{
	LtgFates	fates;
	LtgGcRules	rules = {.horizon = HORIZON, .fates = &fates, .drop_ended = true};
	LtgGcOutcome out;

	(void) state;
	ltg_fates_init(&fates, &session);
	for (LtgXid xid = 1; xid <= 6; xid++)
	{
		LtgVersion	v[2] = {{.kind = LTG_PUT, .xid = xid, .seq = 9}};

		status_calls = 0;
		assert_int_equal(ltg_gc_key(&rules, v, 1, &out), LTG_OK);
		/* the host may have forgotten older ones */
		assert_int_equal(status_calls, xid < HORIZON ? 0 : 1);
		assert_int_equal(out.kept, xid == 5 ? 1 : 0);
		assert_false(out.asks_bottom);
		if (xid == 5)
		{
			assert_int_equal(v[0].state, LTG_UNRESOLVED);
			assert_int_equal(v[0].xid, 5);
		}
	}
	ltg_fates_free(&fates);
}

/* The table of fates answers right and asks once per transaction. */
static void
fate_table(void **state)
{
	LtgFates	fates;
	LtgXidStatus st;

	(void) state;
	ltg_fates_init(&fates, &session);
	status_calls = 0;
	for (int round = 0; round < 3; round++)
		for (LtgXid xid = 1001; xid < 6001; xid++)
		{
			assert_int_equal(ltg_fates_get(&fates, xid * 7, &st), LTG_OK);
			assert_int_equal(st, xid * 7 % 3 == 0 ? LTG_XID_ABORTED : LTG_XID_COMMITTED);
		}
	assert_int_equal(status_calls, 5000);
	/* bounded: a very large number of writers makes it forget, not grow */
	for (LtgXid xid = 1001; xid < 300001; xid++)
		assert_int_equal(ltg_fates_get(&fates, xid, &st), LTG_OK);
	assert_true(fates.n_slots <= 65536);
	ltg_fates_free(&fates);

	/* without memory it still answers */
	port.alloc = failing_alloc;
	ltg_fates_init(&fates, &session);
	for (LtgXid xid = 1001; xid < 2001; xid++)
	{
		assert_int_equal(ltg_fates_get(&fates, xid, &st), LTG_OK);
		assert_int_equal(st, xid % 3 == 0 ? LTG_XID_ABORTED : LTG_XID_COMMITTED);
	}
	ltg_fates_free(&fates);
	port.alloc = fake_alloc;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_short_lists),
		cmocka_unit_test(known_snapshots),
		cmocka_unit_test(many_known_snapshots),
		cmocka_unit_test(withdrawn),
		cmocka_unit_test(locks),
		cmocka_unit_test(fate_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
