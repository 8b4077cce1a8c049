/*
 * sim_readers.c
 *	  The simulated life: readers, and what must be so in any snapshot.
 */
#include "test/sim_life.h"

#include <stdio.h>
#include <string.h>

/* ---- readers ---- */

typedef struct Seen
{
	uint64_t	sum;
	uint64_t	hash;
	int			accounts;
	uint64_t	writer[ACCOUNTS_MAX];
	bool		failed;			/* life_excused */
} Seen;

static void
see_row(Life *l, Seen *s, const char *key, const void *value, size_t size)
{
	uint64_t	v,
				writer;

	if (!life_parse_value(value, size, &v, &writer))
	{
		life_wrong(l, "row %s is damaged", key);
		return;
	}
	if (key[0] == 'a')
	{
		s->sum += v;
		if (s->accounts < ACCOUNTS_MAX)
			s->writer[s->accounts++] = writer;
	}
	/* order does not matter: a backward scan gives the same */
	for (const char *p = key; *p != '\0'; p++)
		v = v * 131 + (uint8_t) *p;
	s->hash += v * UINT64_C(0x9e3779b97f4a7c15) + writer;
}

static void
see_all(Life *l, lt_txn *t, bool backward, Seen *s)
{
	lt_range	range = {.backward = backward, .expect_rows = (uint32_t) life_rnd(l, 20)};
	const void *k,
			   *v;
	size_t		kn,
				vn;
	char		last[16] = "";
	lt_cursor  *c;
	lt_status	st = lt_cursor_open(l->db, t, NULL, &range, &c);
	bool		first = true;

	memset(s, 0, sizeof(*s));
	if (st == LT_OK)
	{
		while ((st = lt_cursor_next(c, &k, &kn, &v, &vn)) == LT_OK)
		{
			char		key[16];

			snprintf(key, sizeof(key), "%.*s", (int) (kn < 15 ? kn : 15), (const char *) k);
			if (!first && (backward ? strcmp(key, last) >= 0 : strcmp(key, last) <= 0))
				life_wrong(l, "a %s scan returns %s after %s", backward ? "backward" : "forward", key, last);
			memcpy(last, key, sizeof(last));
			first = false;
			see_row(l, s, key, v, vn);
		}
		lt_cursor_close(c);
	}
	if (st != LT_END)
	{
		life_expect_ok(l, st, "scan");
		s->failed = true;
	}
}

void
life_check_snapshot(Life *l, lt_txn *t)
{
	Seen		a,
				b;
	char		key[16];
	uint64_t	value;

	see_all(l, t, life_rnd(l, 2) == 0, &a);
	if (a.failed)
		return;
	if (a.accounts != l->accounts || a.sum != (uint64_t) l->accounts * START_BALANCE)
		life_wrong(l, "a snapshot has %d accounts with %llu in all", a.accounts, (unsigned long long) a.sum);
	for (int i = 0; i < a.accounts; i++)
	{
		lt_status	st;

		life_marker_key(key, (uint32_t) a.writer[i]);
		st = life_txn_read(l, t, key, &value);
		if (st == LT_NOT_FOUND)
			life_wrong(l, "a snapshot has a change of transaction %llu, but not its marker",
				  (unsigned long long) a.writer[i]);
		else
			life_expect_ok(l, st, "get");
	}
	see_all(l, t, life_rnd(l, 2) == 0, &b);
	if (!b.failed && (b.hash != a.hash || b.sum != a.sum))
		life_wrong(l, "a snapshot changed while it was looked at");
	l->checks++;
}

void
life_reader_task(void *arg)
{
	Life	   *l = arg;

	while (!l->stop)
	{
		lt_txn	   *t;
		lt_status	st = lt_begin(l->db, LT_READ_ONLY, &t);

		if (st != LT_OK)
			life_expect_ok(l, st, "begin");
		else
		{
			life_check_snapshot(l, t);
			lt_abort(t);
		}
		sim_sleep(l->sim, 500 + life_rnd(l, 3000));
	}
}

static void
check_again(Life *l, lt_txn *t, Seen *first)
{
	Seen		again;

	see_all(l, t, life_rnd(l, 2) == 0, &again);
	if (!again.failed && (again.hash != first->hash || again.sum != first->sum ||
						  again.accounts != first->accounts))
		life_wrong(l, "an old snapshot has changed");
	l->checks++;
}

/* A snapshot that stays while others write, flush and merge. */
void
life_old_reader_task(void *arg)
{
	Life	   *l = arg;

	while (!l->stop)
	{
		int			looks = 2 + (int) life_rnd(l, 8);
		lt_txn	   *t;
		lt_status	st = lt_begin(l->db, LT_READ_ONLY, &t);
		Seen		first;

		if (st != LT_OK)
		{
			life_expect_ok(l, st, "begin");
			sim_sleep(l->sim, 1000);
			continue;
		}
		/* sometimes the first look comes late */
		if (life_rnd(l, 3) == 0)
			sim_sleep(l->sim, life_rnd(l, 20000));
		see_all(l, t, false, &first);
		for (; looks > 0 && !l->stop && !first.failed; looks--)
		{
			sim_sleep(l->sim, 1000 + life_rnd(l, 15000));
			check_again(l, t, &first);
		}
		if (!first.failed && !l->stop)
			life_check_snapshot(l, t);
		lt_abort(t);
	}
}
