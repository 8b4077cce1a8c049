/*
 * sim_verify.c
 *	  The simulated life: opening after a crash, and comparing what is there with
 *	  the model.
 */
#include "test/sim_life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- after a crash ---- */

static void
problem_found(void *arg, const char *problem)
{
	life_wrong(arg, "check: %s", problem);
}

static void
find_markers(Life *l)
{
	lt_range	range = {.lo = "m", .lo_size = 1, .hi = "n", .hi_size = 1};
	const void *k,
			   *v;
	size_t		kn,
				vn;
	lt_cursor  *c;
	lt_status	st = lt_cursor_open(l->db, NULL, NULL, &range, &c);

	for (uint32_t i = 0; i < l->n_txns; i++)
		l->txn[i].present = false;
	if (st == LT_OK)
	{
		while ((st = lt_cursor_next(c, &k, &kn, &v, &vn)) == LT_OK)
		{
			char		key[16];
			uint32_t	id;

			snprintf(key, sizeof(key), "%.*s", (int) (kn < 15 ? kn : 15), (const char *) k);
			id = (uint32_t) strtoul(key + 1, NULL, 10);
			if (id >= l->n_txns)
				life_wrong(l, "marker %s is of no transaction", key);
			else
				l->txn[id].present = true;
		}
		lt_cursor_close(c);
	}
	if (st != LT_END)
		life_expect_ok(l, st, "scan of markers");
}

static void
check_outcomes(Life *l, bool power)
{
	uint64_t	newest_began = 0;
	uint32_t	newest = 0;

	for (uint32_t i = 0; i < l->n_txns; i++)
	{
		ModelTxn   *m = &l->txn[i];
		bool		must = m->outcome == O_FINAL ||
			(m->outcome == O_ACKED && (m->sync == LT_SYNC_FULL || (m->sync == LT_SYNC_OS && !power)));
		bool		must_not = m->outcome == O_ABORTED || m->outcome == O_OPEN;

		if (must && !m->present)
			life_wrong(l, "transaction %u (outcome %d, sync %d) is lost", i, (int) m->outcome, (int) m->sync);
		if (must_not && m->present)
			life_wrong(l, "transaction %u did not commit (outcome %d), but is there", i, (int) m->outcome);
		if (m->present && m->outcome != O_FINAL && m->commit_began > newest_began)
		{
			newest_began = m->commit_began;
			newest = i;
		}
		if (m->outcome == O_ACKED && !m->present)
			l->r->lost_async++;
		if (m->outcome == O_COMMITTING || m->outcome == O_DOUBT)
			l->r->in_doubt++;
	}
	for (uint32_t i = 0; i < l->n_txns; i++)
	{
		ModelTxn   *m = &l->txn[i];

		if (m->outcome == O_ACKED && !m->present && m->acked < newest_began)
			life_wrong(l, "transaction %u is lost, but %u, which came later, is there", i, newest);
		m->outcome = m->present ? O_FINAL : O_ABORTED;
	}
}

/* Every key has the row of its last writer who is there. */
static void
check_rows(Life *l)
{
	const Change **best = calloc((size_t) l->n_keys, sizeof(*best));
	uint32_t   *writer = calloc((size_t) l->n_keys, sizeof(*writer));

	for (uint32_t i = 0; i < l->n_txns; i++)
	{
		ModelTxn   *m = &l->txn[i];

		for (int j = 0; m->present && j < m->n; j++)
		{
			Change	   *c = &m->change[j];

			if (best[c->key] == NULL || c->order > best[c->key]->order)
			{
				best[c->key] = c;
				writer[c->key] = i;
			}
		}
	}
	for (int k = 0; k < l->n_keys && l->r->ok; k++)
	{
		const Change *c = best[k];
		lt_value	v = LT_VALUE_INIT;
		uint8_t		buf[16 + 4096];
		lt_status	st = lt_get(l->db, NULL, l->key[k], strlen(l->key[k]), &v);
		size_t		size = c != NULL && !c->deleted ? life_build_value(buf, c->value, writer[k], c->padding) : 0;

		if (c == NULL || c->deleted)
		{
			if (st == LT_OK)
				life_wrong(l, "row %s should not be there", l->key[k]);
		}
		else if (st == LT_NOT_FOUND)
			life_wrong(l, "row %s of transaction %u is missing", l->key[k], writer[k]);
		else if (st == LT_OK && (v.size != size || memcmp(v.data, buf, size) != 0))
			life_wrong(l, "row %s is not what transaction %u wrote", l->key[k], writer[k]);
		else if (st != LT_OK)
			life_expect_ok(l, st, "get");
		lt_value_free(&v);
	}
	free(best);
	free(writer);
}

static void
check_trees(Life *l)
{
	for (int i = 0; i < TREES; i++)
	{
		ModelTree  *m = &l->tree[i];
		lt_value	v = LT_VALUE_INIT;
		uint64_t	n = 0;
		char		name[16];
		lt_tree    *t;
		lt_status	st;

		life_tree_name(name, i);
		st = lt_tree_open(l->db, name, false, &t);
		if (st == LT_NOT_FOUND)
		{
			if (m->state == TREE_PRESENT)
				life_wrong(l, "%s is lost", name);
			m->state = TREE_ABSENT;
			continue;
		}
		life_expect_ok(l, st, "opening a tree");
		if (st != LT_OK)
			return;
		if (m->state == TREE_ABSENT)
			life_wrong(l, "%s was dropped, but is there", name);
		m->state = TREE_PRESENT;
		st = lt_get(l->db, t, "n", 1, &v);
		if (st == LT_OK && v.size == sizeof(n))
			memcpy(&n, v.data, sizeof(n));
		else if (st != LT_NOT_FOUND)
			life_expect_ok(l, st, "get from a tree");
		if (n < m->acked || n > m->written)
			life_wrong(l, "%s has %llu, acknowledged %llu, written %llu", name, (unsigned long long) n,
				  (unsigned long long) m->acked, (unsigned long long) m->written);
		m->acked = m->written = n;
		lt_value_free(&v);
	}
}

/* ---- tasks that open and verify ---- */

void
life_open_task(void *arg)
{
	Life	   *l = arg;

	l->open_status = lt_open_host_chunked(sim_host(l->sim), &l->opt, 6, &l->db,
										  l->open_error, sizeof(l->open_error));
}

void
life_create_accounts_task(void *arg)
{
	Life	   *l = arg;
	uint8_t		buf[64];
	uint32_t	id = life_new_txn(l);
	lt_batch   *b;
	char		key[16];
	lt_status	st;

	l->txn[id].sync = LT_SYNC_FULL;
	st = lt_batch_create(l->db, &b);
	life_marker_key(key, id);
	if (st == LT_OK)
		st = lt_batch_put(b, NULL, key, strlen(key), buf, life_build_value(buf, id, id, 0));
	life_note_change(l, id, key, false, id, 0);
	for (int i = 0; i < l->accounts && st == LT_OK; i++)
	{
		snprintf(key, sizeof(key), "a%03d", i);
		st = lt_batch_put(b, NULL, key, strlen(key), buf, life_build_value(buf, START_BALANCE, id, 0));
		life_note_change(l, id, key, false, START_BALANCE, 0);
	}
	life_commit_began(l, id);
	if (st == LT_OK)
		st = lt_write(l->db, b, LT_SYNC_FULL);
	life_commit_ended(l, id, st);
	if (st != LT_OK)
		life_wrong(l, "could not create accounts: %d", (int) st);
	lt_batch_free(b);
}

void
life_verify_task(void *arg)
{
	Verify	   *v = arg;
	Life	   *l = v->life;
	lt_txn	   *t;
	lt_status	st;

	find_markers(l);
	check_outcomes(l, v->power);
	check_rows(l);
	check_trees(l);
	st = lt_begin(l->db, LT_READ_ONLY, &t);
	life_expect_ok(l, st, "begin");
	if (st == LT_OK)
	{
		life_check_snapshot(l, t);
		lt_abort(t);
	}
	st = lt_check(l->db, problem_found, l);
	life_expect_ok(l, st, "check");
}

void
life_close_task(void *arg)
{
	Life	   *l = arg;
	lt_status	st = lt_close(l->db);

	l->db = NULL;
	l->closing_ok = st == LT_OK;
	if (st != LT_OK && !life_excused(l, st))
		life_wrong(l, "close: status %d", (int) st);
}
