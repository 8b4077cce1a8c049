/*
 * sim_work.c
 *	  The simulated life: who writes (transactions, batches, named trees), and who
 *	  works in the background.
 */
#include "test/sim_life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- writers ---- */

uint32_t
life_new_txn(Life *l)
{
	uint32_t	id = l->n_txns++;

	if (id >= TXNS_MAX)
		abort();
	memset(&l->txn[id], 0, sizeof(l->txn[id]));
	l->txn[id].sync = (lt_sync) (1 + life_rnd(l, 3));
	return id;
}

void
life_note_change(Life *l, uint32_t id, const char *key, bool deleted, uint64_t value, uint32_t padding)
{
	ModelTxn   *m = &l->txn[id];
	Change	   *c;
	int			k = life_key_index(l, key);

	for (int i = 0; i < m->n; i++)
		if (m->change[i].key == k)
			m->change[i] = m->change[--m->n];
	if (m->n == CHANGES_MAX)
		abort();
	c = &m->change[m->n++];
	c->key = k;
	c->deleted = deleted;
	c->value = value;
	c->padding = padding;
	c->order = ++l->events;
}

static lt_status
txn_put(Life *l, lt_txn *t, uint32_t id, const char *key, uint64_t value)
{
	uint8_t		buf[16 + 4096];
	uint32_t	padding = (uint32_t) life_rnd(l, l->padding_max + 1);
	size_t		size = life_build_value(buf, value, id, padding);
	lt_status	st = lt_txn_put(t, NULL, key, strlen(key), buf, size);

	if (st == LT_OK)
		life_note_change(l, id, key, false, value, padding);
	return st;
}

static lt_status
txn_delete(Life *l, lt_txn *t, uint32_t id, const char *key)
{
	lt_status	st = lt_txn_delete(t, NULL, key, strlen(key));

	if (st == LT_OK)
		life_note_change(l, id, key, true, 0, 0);
	return st;
}

lt_status
life_txn_read(Life *l, lt_txn *t, const char *key, uint64_t *value)
{
	lt_value	v = LT_VALUE_INIT;
	uint64_t	writer;
	lt_status	st = lt_txn_get(t, NULL, key, strlen(key), &v);

	if (st == LT_OK && !life_parse_value(v.data, v.size, value, &writer))
		life_wrong(l, "row %s is damaged", key);
	lt_value_free(&v);
	return st;
}

void
life_commit_began(Life *l, uint32_t id)
{
	l->txn[id].commit_began = ++l->events;
	l->txn[id].outcome = O_COMMITTING;
}

void
life_commit_ended(Life *l, uint32_t id, lt_status st)
{
	ModelTxn   *m = &l->txn[id];

	m->acked = ++l->events;
	if (st == LT_OK)
	{
		m->outcome = O_ACKED;
		l->r->commits++;
	}
	else if (st == LT_BUSY)
		m->outcome = O_ABORTED; /* nothing was written */
	else
		m->outcome = O_DOUBT;
}

static lt_status
move_money(Life *l, lt_txn *t, uint32_t id)
{
	char		from[16],
				to[16];
	uint64_t	a,
				b;
	uint64_t	sum;
	lt_status	st;
	int			i = (int) life_rnd(l, (uint64_t) l->accounts),
				j = (int) life_rnd(l, (uint64_t) l->accounts - 1);

	if (j >= i)
		j++;
	snprintf(from, sizeof(from), "a%03d", i);
	snprintf(to, sizeof(to), "a%03d", j);
	if ((st = life_txn_read(l, t, from, &a)) != LT_OK || (st = life_txn_read(l, t, to, &b)) != LT_OK)
		return st;
	sum = life_rnd(l, a + 1);
	if ((st = txn_put(l, t, id, from, a - sum)) != LT_OK)
		return st;
	if ((st = txn_put(l, t, id, to, b + sum)) != LT_OK)
		return st;
	/* own writes are visible */
	if ((st = life_txn_read(l, t, to, &a)) == LT_OK && a != b + sum)
		life_wrong(l, "transaction %u does not see its own write", id);
	return st;
}

static lt_status
transaction_body(Life *l, lt_txn *t, uint32_t id, int writer)
{
	char		key[16];
	lt_status	st;

	life_marker_key(key, id);
	if ((st = txn_put(l, t, id, key, id)) != LT_OK)
		return st;
	if ((st = move_money(l, t, id)) != LT_OK)
		return st;
	if (life_rnd(l, 3) == 0 && (st = move_money(l, t, id)) != LT_OK)
		return st;
	snprintf(key, sizeof(key), "r%d-%d", writer, (int) life_rnd(l, 20));
	if (life_rnd(l, 2) == 0)
		return txn_put(l, t, id, key, life_rnd(l, 1000));
	return txn_delete(l, t, id, key);
}

static void
one_transaction(Life *l, int writer)
{
	lt_txn	   *t;
	uint32_t	id = life_new_txn(l);
	lt_status	st = lt_begin(l->db, LT_READ_WRITE, &t);

	if (st != LT_OK)
	{
		l->txn[id].outcome = O_ABORTED;
		life_expect_ok(l, st, "begin");
		return;
	}
	st = transaction_body(l, t, id, writer);
	if (st != LT_OK || life_rnd(l, 10) == 0)
	{
		if (st == LT_CONFLICT)
			l->r->conflicts++;
		life_expect_ok(l, st, "transaction");
		l->txn[id].outcome = O_ABORTED;
		lt_abort(t);
		return;
	}
	life_commit_began(l, id);
	st = lt_commit(t, l->txn[id].sync);
	life_commit_ended(l, id, st);
	life_expect_ok(l, st, "commit");
}

/* A batch, or a single put with its marker, on keys of this writer alone. */
static void
one_batch(Life *l, int writer)
{
	uint8_t		buf[16 + 4096];
	uint32_t	id = life_new_txn(l);
	char		key[16];
	lt_batch   *b;
	lt_status	st = lt_batch_create(l->db, &b);
	int			n = l->sweep > 0 ? CHANGES_MAX - 1 : 1 + (int) life_rnd(l, 6);
	int			first = l->sweep > 0 ? (int) life_rnd(l, (uint64_t) l->sweep) : 0;

	if (st != LT_OK)
	{
		l->txn[id].outcome = O_ABORTED;
		life_expect_ok(l, st, "batch");
		return;
	}
	life_marker_key(key, id);
	st = lt_batch_put(b, NULL, key, strlen(key), buf, life_build_value(buf, id, id, 0));
	life_note_change(l, id, key, false, id, 0);
	for (int i = 0; i < n && st == LT_OK; i++)
	{
		uint64_t	value = life_rnd(l, 1000);
		uint32_t	padding = (uint32_t) life_rnd(l, l->padding_max + 1);

		snprintf(key, sizeof(key), "b%d-%d", writer, l->sweep > 0 ? (first + i) % l->sweep :
				 (int) life_rnd(l, 30));
		if (life_rnd(l, 4) == 0)
		{
			st = lt_batch_delete(b, NULL, key, strlen(key));
			life_note_change(l, id, key, true, 0, 0);
		}
		else
		{
			st = lt_batch_put(b, NULL, key, strlen(key), buf, life_build_value(buf, value, id, padding));
			life_note_change(l, id, key, false, value, padding);
		}
	}
	if (st == LT_OK)
	{
		life_commit_began(l, id);
		st = lt_write(l->db, b, l->txn[id].sync);
		life_commit_ended(l, id, st);
	}
	else
		l->txn[id].outcome = O_ABORTED;
	lt_batch_free(b);
	life_expect_ok(l, st, "batch");
}

void
life_writer_task(void *arg)
{
	Writer	   *w = arg;
	Life	   *l = w->life;

	for (uint64_t i = 0; i < l->txns_per_writer && !l->stop; i++)
	{
		if (life_rnd(l, l->sweep > 0 ? 8 : 4) <= (l->sweep > 0 ? 6 : 0))
			one_batch(l, w->number);
		else
			one_transaction(l, w->number);
		if (life_rnd(l, 8) == 0)
			sim_sleep(l->sim, life_rnd(l, 2000));
	}
	if (--l->writers_left == 0)
		l->stop = true;
}

/* ---- named trees ---- */

void
life_tree_name(char *buf, int i)
{
	snprintf(buf, 16, "tree%d", i);
}

static void
make_tree(Life *l, int i)
{
	ModelTree  *m = &l->tree[i];
	char		name[16];
	lt_tree    *t;
	lt_status	st;

	life_tree_name(name, i);
	m->state = TREE_EITHER;
	m->acked = m->written = 0;
	st = lt_tree_open(l->db, name, true, &t);
	life_expect_ok(l, st, "making a tree");
	if (st == LT_OK)
		m->state = TREE_PRESENT;
}

static void
drop_or_fill_tree(Life *l, int i)
{
	ModelTree  *m = &l->tree[i];
	char		name[16];
	lt_tree    *t;
	lt_status	st;

	life_tree_name(name, i);
	st = lt_tree_open(l->db, name, false, &t);
	if (st != LT_OK)
	{
		if (st == LT_NOT_FOUND)
			life_wrong(l, "%s is not there", name);
		life_expect_ok(l, st, "opening a tree");
		return;
	}
	if (life_rnd(l, 4) == 0)
	{
		m->state = TREE_EITHER;
		st = lt_tree_drop(l->db, t);
		life_expect_ok(l, st, "dropping a tree");
		if (st == LT_OK)
			m->state = TREE_ABSENT;
		return;
	}
	for (int n = (int) life_rnd(l, 8); n >= 0 && !l->stop; n--)
	{
		m->written++;
		st = lt_put(l->db, t, "n", 1, &m->written, sizeof(m->written), LT_SYNC_FULL);
		life_expect_ok(l, st, "put into a tree");
		if (st == LT_OK)
			m->acked = m->written;
	}
}

void
life_tree_task(void *arg)
{
	Life	   *l = arg;

	while (!l->stop)
	{
		int			i = (int) life_rnd(l, TREES);

		sim_sleep(l->sim, life_rnd(l, 4000));
		if (l->stop)
			break;
		if (l->tree[i].state == TREE_ABSENT)
			make_tree(l, i);
		else if (l->tree[i].state == TREE_PRESENT)
			drop_or_fill_tree(l, i);
	}
}

/* ---- background ---- */

static void
background(Life *l, int work, uint64_t pause_us)
{
	while (!l->stop)
	{
		bool		more = false;
		lt_status	st = lt_background(l->db, work, &more);

		life_expect_ok(l, st, "background work");
		if (!more)
			sim_sleep(l->sim, 1 + life_rnd(l, pause_us));
	}
}

void
life_flush_task(void *arg)
{
	background(arg, LT_WORK_FLUSH, 300);
}

void
life_compact_task(void *arg)
{
	background(arg, LT_WORK_COMPACT | LT_WORK_TIDY, 5000);
}

void
life_sync_task(void *arg)
{
	background(arg, LT_WORK_SYNC, 4000);
}

void
life_checkpoint_task(void *arg)
{
	Life	   *l = arg;

	while (!l->stop)
	{
		sim_sleep(l->sim, 500 + life_rnd(l, 15000));
		if (l->stop)
			break;
		if (life_rnd(l, 6) == 0)
			life_expect_ok(l, lt_compact(l->db), "compact");
		else
			life_expect_ok(l, lt_checkpoint(l->db), "checkpoint");
	}
}
