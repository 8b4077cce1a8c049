/*
 * ahead.c
 *	  See ahead.h.
 *
 * A row that is read alone costs a look-up in every generation and run.  After
 * several look-ups close to each other rows are read in batches, as a sequential
 * scan reads them, forward or backward, and further look-ups are answered from
 * the batch: a window of row ids.
 *
 * A window outlives a rescan, so that the inner side of a nested loop gains from
 * it, too.  That is sound because it depends on nothing but the snapshot: the
 * batch is a copy, what a registered snapshot sees never changes, and a row of
 * the window that is not in the batch is not there for this snapshot.  With
 * another snapshot it is forgotten.
 *
 * A window that lies behind the row asked for is read forward all the same, since
 * the memtable's lists have no way back.  Should the batch end before that row,
 * because rows are long or a block ends, the window begins behind the batch.
 *
 * Windows begin small and grow while they are used up.  One that was left with
 * most of it unused makes the next one wait for a longer streak, so that what is
 * read in vain stays a small part of what is read.
 */
#include "postgres.h"

#include "ahead.h"
#include "lightning.h"

#define NEAR 4					/* difference of row ids that counts as close */
#define STREAK_MIN 8
#define STREAK_MAX 256
#define ROWS_MIN 16
#define ROWS_MAX 128
#define ROWIDS_MAX 1024			/* of a window: there may be few rows in it */
#define STEPS_MAX 4				/* rows to go before a search by halves */

void
lightning_ahead_forget(LightningAhead *a)
{
	a->from = a->to = 0;
	a->batch.n = 0;
	a->hits = 0;
}

void
lightning_ahead_end(LightningAhead *a)
{
	if (a->guard == NULL)
		return;
	/* the guard itself stays registered with its context */
	if (a->guard->scan != NULL)
		ltg_scan_close(a->guard->scan);
	a->guard->scan = NULL;
}

static inline uint64
row_at(LightningAhead *a, uint32 i, LtgVersion *v)
{
	const uint8 *key;
	uint32		key_len;

	ltg_batch_row(a->guard->scan, i, &key, &key_len, v);
	return lightning_key_rowid(key);
}

/* Look the row up in the window, which it lies in. */
static bool
look_up(LightningAhead *a, uint64 rowid, LtgVersion *v)
{
	uint32		lo = 0;
	uint32		hi = a->batch.n;
	uint32		at = a->at + (rowid > a->at_rowid);

	/* nearly always it is a neighbour of the one before */
	if (rowid < a->at_rowid && at > 0)
		at--;
	for (int step = 0; lo < hi; step++)
	{
		uint64		found;

		if (step >= STEPS_MAX || at < lo || at >= hi)
			at = lo + (hi - lo) / 2;
		found = row_at(a, at, v);
		if (found == rowid)
		{
			a->at = at;
			a->at_rowid = rowid;
			return true;
		}
		if (found < rowid)
			lo = ++at;
		else
			hi = at--;
	}
	return false;
}

/* The window is left: was it worth it?  Then the next one is larger. */
static void
judge(LightningAhead *a)
{
	if (a->from == a->to)
		return;
	if ((uint64) a->hits * 4 >= a->batch.n)
	{
		a->rows = Min(a->rows * 2, ROWS_MAX);
		a->wanted = STREAK_MIN;
	}
	else
	{
		a->rows = ROWS_MIN;
		a->wanted = Min(a->wanted * 2, STREAK_MAX);
	}
}

static LtgStatus
open_window(LightningAhead *a, Relation rel, LightningSnapshot *snap, uint64 lo, uint64 hi)
{
	LtgScanOptions opt = {0};

	if (a->guard == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(a->context);

		a->guard = lightning_guard_create();
		MemoryContextSwitchTo(old);
	}
	lightning_rowid_key(a->lo, lo);
	lightning_rowid_key(a->hi, hi);
	opt.snap = &snap->ltg;
	opt.lo = a->lo;
	opt.hi = a->hi;
	opt.lo_len = opt.hi_len = LIGHTNING_KEY_LEN;
	/* rows of a plain block cost little: it is copied as a whole anyway */
	opt.max_rows = a->rows * 8;
	opt.max_merged = a->rows;
	if (a->guard->scan != NULL)
		return ltg_scan_restart(a->guard->scan, &opt);
	return ltg_scan_open(lightning_session(), lightning_rel(rel).store, &opt, &a->guard->scan);
}

/* Read [lo, hi), or a part of it from lo on. */
static void
read_window(LightningAhead *a, Relation rel, LightningSnapshot *snap, uint64 lo, uint64 hi)
{
	LtgSession *s = lightning_session();
	LtgVersion	v;
	LtgStatus	st;

	lightning_ahead_forget(a);
	st = open_window(a, rel, snap, lo, hi);
	while (st == LTG_OK && a->batch.n == 0)
		st = ltg_scan_next(a->guard->scan, &a->batch);
	lightning_blocks_done(s, rel);
	if (st != LTG_OK)
		a->batch.n = 0;
	if (st == LTG_OK && !a->batch.last)
		hi = row_at(a, a->batch.n - 1, &v) + 1;
	else if (st != LTG_OK && st != LTG_END)
	{
		if (snap->ltg.failed)
		{
			ltg_clear_error(s);
			lightning_snapshot_rethrow(snap);
		}
		lightning_report(s, st, rel);
	}
	a->from = lo;
	a->to = hi;
}

static void
read_forward(LightningAhead *a, Relation rel, LightningSnapshot *snap, uint64 rowid)
{
	LtgVersion	v;

	read_window(a, rel, snap, rowid, Min(rowid + ROWIDS_MAX, LIGHTNING_ROWID_MAX + 1));
	a->at = 0;
	if (a->batch.n > 0)
		a->at_rowid = row_at(a, 0, &v);
}

static void
read_backward(LightningAhead *a, Relation rel, LightningSnapshot *snap, uint64 rowid)
{
	uint64		lo = rowid - Min(rowid, a->rows - 1);
	LtgVersion	v;

	for (;;)
	{
		read_window(a, rel, snap, lo, rowid + 1);
		if (a->to > rowid)
			break;
		lo = a->to;
		a->rows = (uint32) (rowid - lo + 1);
	}
	a->at = a->batch.n - 1;
	if (a->batch.n > 0)
		a->at_rowid = row_at(a, a->at, &v);
}

/* Is it worth while to read a window from here on? */
static bool
on_a_streak(LightningAhead *a, uint64 rowid)
{
	if (rowid - a->last + NEAR > 2 * NEAR)
	{
		a->streak = 0;
		a->began = rowid;
	}
	else if (rowid != a->last)
		a->streak++;
	a->last = rowid;
	if (a->wanted == 0)
	{
		a->wanted = STREAK_MIN;
		a->rows = ROWS_MIN;
	}
	return a->streak >= a->wanted;
}

LightningAheadResult
lightning_ahead_get(LightningAhead *a, Relation rel, LightningSnapshot *snap, uint64 rowid,
					LtgVersion *v)
{
	bool		streak = on_a_streak(a, rowid);

	if (rowid < a->from || rowid >= a->to)
	{
		if (!streak)
			return LIGHTNING_AHEAD_NO_ANSWER;
		judge(a);
		if (rowid < a->began)
			read_backward(a, rel, snap, rowid);
		else
			read_forward(a, rel, snap, rowid);
	}
	a->hits++;
	return look_up(a, rowid, v) ? LIGHTNING_AHEAD_ROW : LIGHTNING_AHEAD_NO_ROW;
}
