/*
 * sim.c
 *	  The simulated life of a database: writers, readers, background work,
 *	  faults and crashes, compared with a model after each.
 *
 * What the writers do
 *	 Accounts hold money; transactions move it, so the sum never changes.  Each
 *	 transaction also writes a marker row with its number, and every account
 *	 carries the number of the transaction that wrote it last.  Some insert and
 *	 delete rows of their own; some work is a batch or a single put on keys
 *	 that only one task uses.  One task makes, fills and drops named trees.
 *
 * What is checked
 *	 - In any snapshot: the sum is right, the marker of each account's last
 *	   writer is there, and reading again gives the same.  So do a few snapshots
 *	   that live long, through many flushes and compactions, and cursors on them.
 *	 - After a crash: exactly the transactions whose markers are there took
 *	   effect, each as a whole.  Those acknowledged after a sync are among
 *	   them; after the end of a process also those handed to the system; none
 *	   that aborted; and if one is there, so are all that were acknowledged
 *	   before its commit began (the log keeps its order).
 *	 - What was seen after a crash is there after the next one.
 *	 - The checker finds nothing wrong, and a closed database holds no memory.
 */
#include "test/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lt/db.h"
#include "test/port_sim.h"

#define ACCOUNTS_MAX 24
#define START_BALANCE 100
#define TXNS_MAX 6000
#define CHANGES_MAX 12
#define KEYS_MAX 4096
#define WRITERS_MAX 5
#define STEPS_MAX 3000000

typedef enum Outcome
{
	O_OPEN,						/* running; at a crash: did not commit */
	O_COMMITTING,				/* commit was called; at a crash: either */
	O_ACKED,					/* commit returned; durable as far as asked */
	O_DOUBT,					/* commit failed, but a crash may bring it back */
	O_ABORTED,
	O_FINAL						/* seen after a crash: must stay */
} Outcome;

typedef struct Change
{
	int			key;			/* index of the key */
	uint64_t	order;			/* when it was put: orders writers of a key */
	bool		deleted;
	uint64_t	value;
	uint32_t	padding;
} Change;

typedef struct ModelTxn
{
	Outcome		outcome;
	lt_sync		sync;
	uint64_t	commit_began, acked;	/* by the life's event counter */
	int			n;
	Change		change[CHANGES_MAX];
	bool		present;		/* its marker was found */
} ModelTxn;

/* What is known of a named tree.  Making and dropping are durable on return. */
typedef enum TreeState
{
	TREE_ABSENT,
	TREE_PRESENT,
	TREE_EITHER					/* the call was under way, or failed */
} TreeState;

#define TREES 3

typedef struct ModelTree
{
	TreeState	state;
	uint64_t	acked;			/* row "n" is at least this, if the tree is there */
	uint64_t	written;		/* and at most this */
} ModelTree;

typedef struct Life
{
	Sim		   *sim;
	SimReport  *r;
	lt_db	   *db;
	lt_options	opt;
	lt_status	open_status;
	char		open_error[300];
	int			accounts, writers, readers, old_readers, compactors;
	int			writers_left;
	uint64_t	txns_per_writer;
	uint32_t	padding_max;
	bool		stop;
	uint64_t	events;
	uint32_t	n_txns;
	ModelTxn   *txn;
	int			n_keys;
	char		key[KEYS_MAX][16];
	bool		closing_ok;
	ModelTree	tree[TREES];
	int			checks;
	SimFaults	faults;
	bool		round_faulty;
} Life;

typedef struct Writer
{
	Life	   *life;
	int			number;
} Writer;

static void __attribute__((format(printf, 2, 3)))
wrong(Life *l, const char *fmt, ...)
{
	va_list		args;

	if (!l->r->ok)
		return;
	l->r->ok = false;
	va_start(args, fmt);
	vsnprintf(l->r->what, sizeof(l->r->what), fmt, args);
	va_end(args);
	l->stop = true;
}

/* Failures that faults explain, and those that are part of normal life. */
static bool
excused(Life *l, lt_status st)
{
	/* a long reader may let the window of transactions fill up */
	if (st == LT_CONFLICT || st == LT_BUSY)
		return true;
	return l->round_faulty &&
		(st == LT_IO || st == LT_NOSPACE || st == LT_NOMEM || st == LT_POISONED);
}

static void
expect_ok(Life *l, lt_status st, const char *what)
{
	char		text[300];

	if (st == LT_OK || excused(l, st))
		return;
	lt_error_text(l->db, text, sizeof(text));
	wrong(l, "%s: status %d: %s", what, (int) st, text);
}

static uint64_t
rnd(Life *l, uint64_t n)
{
	return sim_random(l->sim, n);
}

/* ---- rows ---- */

static int
key_index(Life *l, const char *key)
{
	for (int i = 0; i < l->n_keys; i++)
		if (strcmp(l->key[i], key) == 0)
			return i;
	if (l->n_keys == KEYS_MAX)
		abort();
	snprintf(l->key[l->n_keys], sizeof(l->key[0]), "%s", key);
	return l->n_keys++;
}

/* Hardly compresses. */
static uint8_t
padding_byte(uint64_t writer, size_t i)
{
	uint64_t	x = (writer + 1) * UINT64_C(0x9e3779b97f4a7c15) + i * UINT64_C(0xbf58476d1ce4e5b9);

	x ^= x >> 31;
	return (uint8_t) ((x * UINT64_C(0x94d049bb133111eb)) >> 56);
}

/* value, writer, padding */
static size_t
build_value(uint8_t *buf, uint64_t value, uint64_t writer, uint32_t padding)
{
	memcpy(buf, &value, 8);
	memcpy(buf + 8, &writer, 8);
	for (uint32_t i = 0; i < padding; i++)
		buf[16 + i] = padding_byte(writer, i);
	return 16 + (size_t) padding;
}

static bool
parse_value(const void *data, size_t size, uint64_t *value, uint64_t *writer)
{
	const uint8_t *p = data;

	if (size < 16)
		return false;
	memcpy(value, p, 8);
	memcpy(writer, p + 8, 8);
	for (size_t i = 16; i < size; i++)
		if (p[i] != padding_byte(*writer, i - 16))
			return false;
	return true;
}

static void
marker_key(char *buf, uint32_t id)
{
	snprintf(buf, 16, "m%08u", id);
}

/* ---- writers ---- */

static uint32_t
new_txn(Life *l)
{
	uint32_t	id = l->n_txns++;

	if (id >= TXNS_MAX)
		abort();
	memset(&l->txn[id], 0, sizeof(l->txn[id]));
	l->txn[id].sync = (lt_sync) (1 + rnd(l, 3));
	return id;
}

static void
note_change(Life *l, uint32_t id, const char *key, bool deleted, uint64_t value, uint32_t padding)
{
	ModelTxn   *m = &l->txn[id];
	Change	   *c;
	int			k = key_index(l, key);

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
	uint32_t	padding = (uint32_t) rnd(l, l->padding_max + 1);
	size_t		size = build_value(buf, value, id, padding);
	lt_status	st = lt_txn_put(t, NULL, key, strlen(key), buf, size);

	if (st == LT_OK)
		note_change(l, id, key, false, value, padding);
	return st;
}

static lt_status
txn_delete(Life *l, lt_txn *t, uint32_t id, const char *key)
{
	lt_status	st = lt_txn_delete(t, NULL, key, strlen(key));

	if (st == LT_OK)
		note_change(l, id, key, true, 0, 0);
	return st;
}

static lt_status
txn_read(Life *l, lt_txn *t, const char *key, uint64_t *value)
{
	lt_value	v = LT_VALUE_INIT;
	uint64_t	writer;
	lt_status	st = lt_txn_get(t, NULL, key, strlen(key), &v);

	if (st == LT_OK && !parse_value(v.data, v.size, value, &writer))
		wrong(l, "row %s is damaged", key);
	lt_value_free(&v);
	return st;
}

static void
commit_began(Life *l, uint32_t id)
{
	l->txn[id].commit_began = ++l->events;
	l->txn[id].outcome = O_COMMITTING;
}

static void
commit_ended(Life *l, uint32_t id, lt_status st)
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
	int			i = (int) rnd(l, (uint64_t) l->accounts),
				j = (int) rnd(l, (uint64_t) l->accounts - 1);

	if (j >= i)
		j++;
	snprintf(from, sizeof(from), "a%03d", i);
	snprintf(to, sizeof(to), "a%03d", j);
	if ((st = txn_read(l, t, from, &a)) != LT_OK || (st = txn_read(l, t, to, &b)) != LT_OK)
		return st;
	sum = rnd(l, a + 1);
	if ((st = txn_put(l, t, id, from, a - sum)) != LT_OK)
		return st;
	if ((st = txn_put(l, t, id, to, b + sum)) != LT_OK)
		return st;
	/* own writes are visible */
	if ((st = txn_read(l, t, to, &a)) == LT_OK && a != b + sum)
		wrong(l, "transaction %u does not see its own write", id);
	return st;
}

static lt_status
transaction_body(Life *l, lt_txn *t, uint32_t id, int writer)
{
	char		key[16];
	lt_status	st;

	marker_key(key, id);
	if ((st = txn_put(l, t, id, key, id)) != LT_OK)
		return st;
	if ((st = move_money(l, t, id)) != LT_OK)
		return st;
	if (rnd(l, 3) == 0 && (st = move_money(l, t, id)) != LT_OK)
		return st;
	snprintf(key, sizeof(key), "r%d-%d", writer, (int) rnd(l, 20));
	if (rnd(l, 2) == 0)
		return txn_put(l, t, id, key, rnd(l, 1000));
	return txn_delete(l, t, id, key);
}

static void
one_transaction(Life *l, int writer)
{
	lt_txn	   *t;
	uint32_t	id = new_txn(l);
	lt_status	st = lt_begin(l->db, LT_READ_WRITE, &t);

	if (st != LT_OK)
	{
		l->txn[id].outcome = O_ABORTED;
		expect_ok(l, st, "begin");
		return;
	}
	st = transaction_body(l, t, id, writer);
	if (st != LT_OK || rnd(l, 10) == 0)
	{
		if (st == LT_CONFLICT)
			l->r->conflicts++;
		expect_ok(l, st, "transaction");
		l->txn[id].outcome = O_ABORTED;
		lt_abort(t);
		return;
	}
	commit_began(l, id);
	st = lt_commit(t, l->txn[id].sync);
	commit_ended(l, id, st);
	expect_ok(l, st, "commit");
}

/* A batch, or a single put with its marker, on keys of this writer alone. */
static void
one_batch(Life *l, int writer)
{
	uint8_t		buf[16 + 4096];
	uint32_t	id = new_txn(l);
	char		key[16];
	lt_batch   *b;
	lt_status	st = lt_batch_create(l->db, &b);
	int			n = 1 + (int) rnd(l, 6);

	if (st != LT_OK)
	{
		l->txn[id].outcome = O_ABORTED;
		expect_ok(l, st, "batch");
		return;
	}
	marker_key(key, id);
	st = lt_batch_put(b, NULL, key, strlen(key), buf, build_value(buf, id, id, 0));
	note_change(l, id, key, false, id, 0);
	for (int i = 0; i < n && st == LT_OK; i++)
	{
		uint64_t	value = rnd(l, 1000);
		uint32_t	padding = (uint32_t) rnd(l, l->padding_max + 1);

		snprintf(key, sizeof(key), "b%d-%d", writer, (int) rnd(l, 30));
		if (rnd(l, 4) == 0)
		{
			st = lt_batch_delete(b, NULL, key, strlen(key));
			note_change(l, id, key, true, 0, 0);
		}
		else
		{
			st = lt_batch_put(b, NULL, key, strlen(key), buf, build_value(buf, value, id, padding));
			note_change(l, id, key, false, value, padding);
		}
	}
	if (st == LT_OK)
	{
		commit_began(l, id);
		st = lt_write(l->db, b, l->txn[id].sync);
		commit_ended(l, id, st);
	}
	else
		l->txn[id].outcome = O_ABORTED;
	lt_batch_free(b);
	expect_ok(l, st, "batch");
}

static void
writer_task(void *arg)
{
	Writer	   *w = arg;
	Life	   *l = w->life;

	for (uint64_t i = 0; i < l->txns_per_writer && !l->stop; i++)
	{
		if (rnd(l, 4) == 0)
			one_batch(l, w->number);
		else
			one_transaction(l, w->number);
		if (rnd(l, 8) == 0)
			sim_sleep(l->sim, rnd(l, 2000));
	}
	if (--l->writers_left == 0)
		l->stop = true;
}

/* ---- named trees ---- */

static void
tree_name(char *buf, int i)
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

	tree_name(name, i);
	m->state = TREE_EITHER;
	m->acked = m->written = 0;
	st = lt_tree_open(l->db, name, true, &t);
	expect_ok(l, st, "making a tree");
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

	tree_name(name, i);
	st = lt_tree_open(l->db, name, false, &t);
	if (st != LT_OK)
	{
		if (st == LT_NOT_FOUND)
			wrong(l, "%s is not there", name);
		expect_ok(l, st, "opening a tree");
		return;
	}
	if (rnd(l, 4) == 0)
	{
		m->state = TREE_EITHER;
		st = lt_tree_drop(l->db, t);
		expect_ok(l, st, "dropping a tree");
		if (st == LT_OK)
			m->state = TREE_ABSENT;
		return;
	}
	for (int n = (int) rnd(l, 8); n >= 0 && !l->stop; n--)
	{
		m->written++;
		st = lt_put(l->db, t, "n", 1, &m->written, sizeof(m->written), LT_SYNC_FULL);
		expect_ok(l, st, "put into a tree");
		if (st == LT_OK)
			m->acked = m->written;
	}
}

static void
tree_task(void *arg)
{
	Life	   *l = arg;

	while (!l->stop)
	{
		int			i = (int) rnd(l, TREES);

		sim_sleep(l->sim, rnd(l, 4000));
		if (l->stop)
			break;
		if (l->tree[i].state == TREE_ABSENT)
			make_tree(l, i);
		else if (l->tree[i].state == TREE_PRESENT)
			drop_or_fill_tree(l, i);
	}
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

		tree_name(name, i);
		st = lt_tree_open(l->db, name, false, &t);
		if (st == LT_NOT_FOUND)
		{
			if (m->state == TREE_PRESENT)
				wrong(l, "%s is lost", name);
			m->state = TREE_ABSENT;
			continue;
		}
		expect_ok(l, st, "opening a tree");
		if (st != LT_OK)
			return;
		if (m->state == TREE_ABSENT)
			wrong(l, "%s was dropped, but is there", name);
		m->state = TREE_PRESENT;
		st = lt_get(l->db, t, "n", 1, &v);
		if (st == LT_OK && v.size == sizeof(n))
			memcpy(&n, v.data, sizeof(n));
		else if (st != LT_NOT_FOUND)
			expect_ok(l, st, "get from a tree");
		if (n < m->acked || n > m->written)
			wrong(l, "%s has %llu, acknowledged %llu, written %llu", name, (unsigned long long) n,
				  (unsigned long long) m->acked, (unsigned long long) m->written);
		m->acked = m->written = n;
		lt_value_free(&v);
	}
}

/* ---- readers ---- */

typedef struct Seen
{
	uint64_t	sum;
	uint64_t	hash;
	int			accounts;
	uint64_t	writer[ACCOUNTS_MAX];
	bool		failed;			/* excused */
} Seen;

static void
see_row(Life *l, Seen *s, const char *key, const void *value, size_t size)
{
	uint64_t	v,
				writer;

	if (!parse_value(value, size, &v, &writer))
	{
		wrong(l, "row %s is damaged", key);
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
	lt_range	range = {.backward = backward, .expect_rows = (uint32_t) rnd(l, 20)};
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
				wrong(l, "a %s scan returns %s after %s", backward ? "backward" : "forward", key, last);
			memcpy(last, key, sizeof(last));
			first = false;
			see_row(l, s, key, v, vn);
		}
		lt_cursor_close(c);
	}
	if (st != LT_END)
	{
		expect_ok(l, st, "scan");
		s->failed = true;
	}
}

static void
check_snapshot(Life *l, lt_txn *t)
{
	Seen		a,
				b;
	char		key[16];
	uint64_t	value;

	see_all(l, t, rnd(l, 2) == 0, &a);
	if (a.failed)
		return;
	if (a.accounts != l->accounts || a.sum != (uint64_t) l->accounts * START_BALANCE)
		wrong(l, "a snapshot has %d accounts with %llu in all", a.accounts, (unsigned long long) a.sum);
	for (int i = 0; i < a.accounts; i++)
	{
		lt_status	st;

		marker_key(key, (uint32_t) a.writer[i]);
		st = txn_read(l, t, key, &value);
		if (st == LT_NOT_FOUND)
			wrong(l, "a snapshot has a change of transaction %llu, but not its marker",
				  (unsigned long long) a.writer[i]);
		else
			expect_ok(l, st, "get");
	}
	see_all(l, t, rnd(l, 2) == 0, &b);
	if (!b.failed && (b.hash != a.hash || b.sum != a.sum))
		wrong(l, "a snapshot changed while it was looked at");
	l->checks++;
}

static void
reader_task(void *arg)
{
	Life	   *l = arg;

	while (!l->stop)
	{
		lt_txn	   *t;
		lt_status	st = lt_begin(l->db, LT_READ_ONLY, &t);

		if (st != LT_OK)
			expect_ok(l, st, "begin");
		else
		{
			check_snapshot(l, t);
			lt_abort(t);
		}
		sim_sleep(l->sim, 500 + rnd(l, 3000));
	}
}

static void
check_again(Life *l, lt_txn *t, Seen *first)
{
	Seen		again;

	see_all(l, t, rnd(l, 2) == 0, &again);
	if (!again.failed && (again.hash != first->hash || again.sum != first->sum ||
						  again.accounts != first->accounts))
		wrong(l, "an old snapshot has changed");
	l->checks++;
}

/* A snapshot that stays while others write, flush and merge. */
static void
old_reader_task(void *arg)
{
	Life	   *l = arg;

	while (!l->stop)
	{
		int			looks = 2 + (int) rnd(l, 8);
		lt_txn	   *t;
		lt_status	st = lt_begin(l->db, LT_READ_ONLY, &t);
		Seen		first;

		if (st != LT_OK)
		{
			expect_ok(l, st, "begin");
			sim_sleep(l->sim, 1000);
			continue;
		}
		/* sometimes the first look comes late */
		if (rnd(l, 3) == 0)
			sim_sleep(l->sim, rnd(l, 20000));
		see_all(l, t, false, &first);
		for (; looks > 0 && !l->stop && !first.failed; looks--)
		{
			sim_sleep(l->sim, 1000 + rnd(l, 15000));
			check_again(l, t, &first);
		}
		if (!first.failed && !l->stop)
			check_snapshot(l, t);
		lt_abort(t);
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

		expect_ok(l, st, "background work");
		if (!more)
			sim_sleep(l->sim, 1 + rnd(l, pause_us));
	}
}

static void
flush_task(void *arg)
{
	background(arg, LT_WORK_FLUSH, 300);
}

static void
compact_task(void *arg)
{
	background(arg, LT_WORK_COMPACT | LT_WORK_TIDY, 5000);
}

static void
sync_task(void *arg)
{
	background(arg, LT_WORK_SYNC, 4000);
}

static void
checkpoint_task(void *arg)
{
	Life	   *l = arg;

	while (!l->stop)
	{
		sim_sleep(l->sim, 500 + rnd(l, 15000));
		if (l->stop)
			break;
		if (rnd(l, 6) == 0)
			expect_ok(l, lt_compact(l->db), "compact");
		else
			expect_ok(l, lt_checkpoint(l->db), "checkpoint");
	}
}

/* ---- after a crash ---- */

static void
problem_found(void *arg, const char *problem)
{
	wrong(arg, "check: %s", problem);
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
				wrong(l, "marker %s is of no transaction", key);
			else
				l->txn[id].present = true;
		}
		lt_cursor_close(c);
	}
	if (st != LT_END)
		expect_ok(l, st, "scan of markers");
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
			wrong(l, "transaction %u (outcome %d, sync %d) is lost", i, (int) m->outcome, (int) m->sync);
		if (must_not && m->present)
			wrong(l, "transaction %u did not commit (outcome %d), but is there", i, (int) m->outcome);
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
			wrong(l, "transaction %u is lost, but %u, which came later, is there", i, newest);
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
		size_t		size = c != NULL && !c->deleted ? build_value(buf, c->value, writer[k], c->padding) : 0;

		if (c == NULL || c->deleted)
		{
			if (st == LT_OK)
				wrong(l, "row %s should not be there", l->key[k]);
		}
		else if (st == LT_NOT_FOUND)
			wrong(l, "row %s of transaction %u is missing", l->key[k], writer[k]);
		else if (st == LT_OK && (v.size != size || memcmp(v.data, buf, size) != 0))
			wrong(l, "row %s is not what transaction %u wrote", l->key[k], writer[k]);
		else if (st != LT_OK)
			expect_ok(l, st, "get");
		lt_value_free(&v);
	}
	free(best);
	free(writer);
}

/* ---- tasks that open and verify ---- */

static void
open_task(void *arg)
{
	Life	   *l = arg;

	l->open_status = lt_open_host_chunked(sim_host(l->sim), &l->opt, 6, &l->db,
										  l->open_error, sizeof(l->open_error));
}

static void
create_accounts_task(void *arg)
{
	Life	   *l = arg;
	uint8_t		buf[64];
	uint32_t	id = new_txn(l);
	lt_batch   *b;
	char		key[16];
	lt_status	st;

	l->txn[id].sync = LT_SYNC_FULL;
	st = lt_batch_create(l->db, &b);
	marker_key(key, id);
	if (st == LT_OK)
		st = lt_batch_put(b, NULL, key, strlen(key), buf, build_value(buf, id, id, 0));
	note_change(l, id, key, false, id, 0);
	for (int i = 0; i < l->accounts && st == LT_OK; i++)
	{
		snprintf(key, sizeof(key), "a%03d", i);
		st = lt_batch_put(b, NULL, key, strlen(key), buf, build_value(buf, START_BALANCE, id, 0));
		note_change(l, id, key, false, START_BALANCE, 0);
	}
	commit_began(l, id);
	if (st == LT_OK)
		st = lt_write(l->db, b, LT_SYNC_FULL);
	commit_ended(l, id, st);
	if (st != LT_OK)
		wrong(l, "could not create accounts: %d", (int) st);
	lt_batch_free(b);
}

typedef struct Verify
{
	Life	   *life;
	bool		power;
} Verify;

static void
verify_task(void *arg)
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
	expect_ok(l, st, "begin");
	if (st == LT_OK)
	{
		check_snapshot(l, t);
		lt_abort(t);
	}
	st = lt_check(l->db, problem_found, l);
	expect_ok(l, st, "check");
}

static void
close_task(void *arg)
{
	Life	   *l = arg;
	lt_status	st = lt_close(l->db);

	l->db = NULL;
	l->closing_ok = st == LT_OK;
	if (st != LT_OK && !excused(l, st))
		wrong(l, "close: status %d", (int) st);
}

/* ---- rounds ---- */

static void
describe_end(Life *l, SimEnd end, const char *during)
{
	char		text[700];

	if (end == SIM_DONE || end == SIM_CRASHED)
		return;
	sim_describe(l->sim, text, sizeof(text));
	wrong(l, "%s while %s: %s", end == SIM_DEADLOCK ? "deadlock" : "no end", during, text);
}

static SimEnd
run_task(Life *l, const char *name, void (*fn) (void *arg), void *arg, uint64_t crash_after)
{
	SimEnd		end;

	sim_spawn(l->sim, name, fn, arg);
	end = sim_run(l->sim, crash_after, STEPS_MAX);
	describe_end(l, end, name);
	return end;
}

/* Open, perhaps with crashes and faults in between; false: something is wrong. */
static bool
open_db(Life *l, bool *power)
{
	for (int attempt = 0; l->r->ok; attempt++)
	{
		uint64_t	crash_after = attempt < 3 && rnd(l, 3) == 0 ? 1 + rnd(l, 3000) : 0;
		SimFaults	some = {.write = 100, .sync = 200, .read = 100, .open = 200, .rename = 300,
		.remove = 300, .dir_sync = 300, .alloc = 50};
		SimEnd		end;

		l->round_faulty = attempt < 3 && rnd(l, 4) == 0;
		sim_set_faults(l->sim, l->round_faulty ? &some : NULL);
		end = run_task(l, "open", open_task, l, crash_after);
		sim_set_faults(l->sim, NULL);
		if (end == SIM_CRASHED)
		{
			bool		p = rnd(l, 2) == 0;

			sim_crash(l->sim, p ? SIM_POWER : SIM_KILL);
			*power = *power || p;
			l->r->crashes_in_recovery++;
			continue;
		}
		if (end != SIM_DONE)
			return false;
		if (l->open_status == LT_OK)
		{
			l->round_faulty = false;
			return true;
		}
		if (!excused(l, l->open_status))
			wrong(l, "open: status %d: %s", (int) l->open_status, l->open_error);
		if (sim_live_allocs(l->sim) != 0)
			wrong(l, "a failed open leaves %llu blocks of memory", (unsigned long long) sim_live_allocs(l->sim));
	}
	return false;
}

static void
choose_faults(Life *l)
{
	memset(&l->faults, 0, sizeof(l->faults));
	l->round_faulty = rnd(l, 3) == 0;
	if (!l->round_faulty)
		return;
	l->faults.nospace = rnd(l, 2) == 0;
	l->faults.write = (uint32_t) rnd(l, 3) * 150;
	l->faults.sync = (uint32_t) rnd(l, 2) * 60;
	l->faults.open = (uint32_t) rnd(l, 2) * 200;
	l->faults.rename = (uint32_t) rnd(l, 2) * 500;
	l->faults.remove = (uint32_t) rnd(l, 2) * 500;
	l->faults.dir_sync = (uint32_t) rnd(l, 2) * 200;
	l->faults.read = (uint32_t) rnd(l, 2) * 50;
	l->faults.alloc = (uint32_t) rnd(l, 2) * 50;
}

/* Work until a crash or until the writers are done, then close or crash. */
static void
work_round(Life *l, bool *power, bool *closed)
{
	Writer		w[WRITERS_MAX];
	bool		crash = rnd(l, 8) != 0;
	SimEnd		end;

	l->stop = false;
	l->writers_left = l->writers;
	for (int i = 0; i < l->writers; i++)
	{
		w[i].life = l;
		w[i].number = i;
		sim_spawn(l->sim, "writer", writer_task, &w[i]);
	}
	for (int i = 0; i < l->readers; i++)
		sim_spawn(l->sim, "reader", reader_task, l);
	for (int i = 0; i < l->old_readers; i++)
		sim_spawn(l->sim, "old reader", old_reader_task, l);
	sim_spawn(l->sim, "trees", tree_task, l);
	sim_spawn(l->sim, "flusher", flush_task, l);
	for (int i = 0; i < l->compactors; i++)
		sim_spawn(l->sim, "compactor", compact_task, l);
	sim_spawn(l->sim, "syncer", sync_task, l);
	sim_spawn(l->sim, "checkpointer", checkpoint_task, l);
	choose_faults(l);
	sim_set_faults(l->sim, &l->faults);
	end = sim_run(l->sim, crash ? 200 + rnd(l, 50000) : 0, STEPS_MAX);
	describe_end(l, end, "working");
	*closed = false;
	if (end == SIM_DONE && l->r->ok && rnd(l, 2) == 0)
	{
		/* a clean close, or one that a crash or a fault interrupts */
		end = run_task(l, "close", close_task, l, rnd(l, 3) == 0 ? 1 + rnd(l, 2000) : 0);
		*closed = end == SIM_DONE;
		if (*closed && sim_live_allocs(l->sim) != 0)
			wrong(l, "a closed database holds %llu blocks of memory",
				  (unsigned long long) sim_live_allocs(l->sim));
	}
	sim_set_faults(l->sim, NULL);
	*power = rnd(l, 3) != 0;
	if (!*closed || rnd(l, 2) == 0)
		sim_crash(l->sim, *power ? SIM_POWER : SIM_KILL);
	else
		*power = false;
	/* a clean close makes everything durable */
	for (uint32_t i = 0; *closed && l->closing_ok && i < l->n_txns; i++)
		if (l->txn[i].outcome == O_ACKED)
			l->txn[i].sync = LT_SYNC_FULL;
	l->db = NULL;
	l->round_faulty = false;
	l->r->rounds++;
}

static void
choose_life(Life *l)
{
	lt_options_init(&l->opt);
	l->opt.no_threads = true;
	l->opt.sync = LT_SYNC_FULL;
	l->opt.memtable_bytes = 1 << 20;
	l->opt.memtable_count = 2 + (uint32_t) rnd(l, 2);
	l->opt.cache_bytes = 256 << 10;
	l->opt.metadata_bytes = 1 << 20;
	l->opt.block_size = 4096;
	l->opt.max_threads = 12;
	l->opt.max_txns = 16;
	l->opt.log_buffer_bytes = 64 << 10;
	l->opt.log_segment_bytes = (64 << 10) + rnd(l, 3) * (32 << 10);
	l->opt.fast_close = rnd(l, 2) == 0;
	l->accounts = 4 + (int) rnd(l, CHANGES_MAX - 4);
	l->writers = 2 + (int) rnd(l, 4);
	l->readers = 1 + (int) rnd(l, 2);
	l->old_readers = (int) rnd(l, 4);
	l->compactors = 1 + (int) rnd(l, 3);
	l->opt.compaction_trigger = 1 + (uint32_t) rnd(l, 2);
	l->opt.space_limit = (uint32_t) rnd(l, 3) * 20;
	l->opt.file_bytes = (uint64_t) 16 << (10 + rnd(l, 5));
	l->opt.compaction_rate = rnd(l, 3) == 0 ? (uint64_t) 64 << (10 + rnd(l, 8)) : 0;
	l->txns_per_writer = 10 + rnd(l, 120);
	l->padding_max = rnd(l, 3) == 0 ? 1500 : 200;
}

void
sim_life(uint64_t seed, SimReport *r)
{
	Life	   *l = calloc(1, sizeof(*l));
	bool		power = false,
				closed = false;
	int			rounds;

	memset(r, 0, sizeof(*r));
	r->ok = true;
	l->r = r;
	l->sim = sim_create(seed);
	l->txn = calloc(TXNS_MAX, sizeof(ModelTxn));
	choose_life(l);
	rounds = 2 + (int) rnd(l, 3);
	if (open_db(l, &power))
		(void) run_task(l, "create", create_accounts_task, l, 0);
	for (int i = 0; i < rounds && r->ok; i++)
	{
		Verify		v = {.life = l};

		work_round(l, &power, &closed);
		if (!r->ok || !open_db(l, &power))
			break;
		v.power = power;
		(void) run_task(l, "verify", verify_task, &v, 0);
	}
	if (r->ok)
	{
		(void) run_task(l, "close", close_task, l, 0);
		if (r->ok && sim_live_allocs(l->sim) != 0)
			wrong(l, "a closed database holds %llu blocks of memory",
				  (unsigned long long) sim_live_allocs(l->sim));
	}
	r->steps = sim_steps(l->sim);
	r->switches = sim_switches(l->sim);
	r->faults = sim_faults_struck(l->sim);
	r->history = sim_history(l->sim);
	sim_destroy(l->sim);
	free(l->txn);
	free(l);
}
