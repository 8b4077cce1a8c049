/*
 * lsm_model_test.c
 *	  Random work on a few stores, checked against a naive model.
 *
 * Several transactions write, commit and abort; snapshots come and go; the
 * memtable is frozen and flushed, runs are compacted, graves cleared, the
 * process is killed and started again.  After every few steps some snapshot's
 * view of every key is compared: by ltg_get, by scans in both directions with
 * random bounds and batch sizes, and what raw scans and ltg_versions give is
 * checked to be a subset of what was written that contains whatever somebody
 * may still need.
 *
 *	lsm_model_test [seed [steps]]	runs one seed, verbosely
 */
#include "test/lsm_rig.h"

#include "tree/compact.h"
#include "tree/publish.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define STORES 3
#define KEYS 160
#define XACTS 5
#define SNAPS 6
#define BIG_PAYLOAD 20000

typedef struct ModelVersion
{
	LtgXid		xid;
	uint32_t	cid;
	LtgKind		kind;
	LtgSeq		seq;
	uint32_t	len;
	uint32_t	fill;
} ModelVersion;

typedef struct ModelKey
{
	uint8_t		key[64];
	uint32_t	key_len;
	ModelVersion *v;			/* oldest first */
	uint32_t	n, cap;
} ModelKey;

typedef struct Model
{
	LsmRig		rig;
	uint64_t	seed, rnd;
	LtgStore   *store[STORES];
	ModelKey	keys[STORES][KEYS];	/* in key order */
	struct
	{
		LtgXid		xid;		/* 0: none */
		uint32_t	cid;
	}			xact[XACTS];
	RigSnapshot *snap[SNAPS];
	uint32_t	max_len;		/* of most payloads */
	uint32_t	checked_rows, restarts, compactions, levels, parts;
} Model;

static bool verbose;

/* ---- keys and payloads ---- */

static int
compare_keys(const void *a, const void *b)
{
	const ModelKey *x = a;
	const ModelKey *y = b;
	uint32_t	n = x->key_len < y->key_len ? x->key_len : y->key_len;
	int			c = memcmp(x->key, y->key, n);

	return c != 0 ? c : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

/* Row ids, short text, and long keys that bounds can't tell apart. */
static void
make_keys(Model *m, uint32_t s)
{
	for (uint32_t i = 0; i < KEYS; i++)
	{
		ModelKey   *k = &m->keys[s][i];

		if (s == 0)
		{
			lrig_rowid(k->key, 1000 + i + (i > KEYS / 2 ? 5000 : 0));
			k->key_len = 5;
		}
		else if (s == 1)
			k->key_len = (uint32_t) sprintf((char *) k->key, "%.*s%u", (int) (i % 7),
											"abcdefgh", i * 7919 % 1000 + i);
		else
			k->key_len = (uint32_t) sprintf((char *) k->key,
											"a long prefix that exceeds bounds/%04u", i * 13);
	}
	qsort(m->keys[s], KEYS, sizeof(ModelKey), compare_keys);
	for (uint32_t i = 1; i < KEYS; i++)
		assert_true(compare_keys(&m->keys[s][i - 1], &m->keys[s][i]) < 0);
}

/*
 * Bytes that don't compress: the files must come to some size.  Every other payload is
 * like all those, so that versions are stored as differences.
 */
static void
make_payload(uint8_t *p, uint32_t len, uint32_t fill)
{
	bool		alike = fill % 2 != 0 && len >= 8;
	uint64_t	rnd = alike ? 1 : fill;

	for (uint32_t i = 0; i < len; i += 8)
	{
		uint64_t	x = lrig_random(&rnd);

		memcpy(p + i, &x, len - i < 8 ? len - i : 8);
	}
	if (alike)
		memcpy(p + fill / 2 % (len - 3), &fill, 4);
}

static bool
same_payload(const ModelVersion *mv, const LtgVersion *v)
{
	uint8_t		want[BIG_PAYLOAD];

	make_payload(want, mv->len, mv->fill);
	return v->payload_len == mv->len && (mv->len == 0 || memcmp(v->payload, want, mv->len) == 0);
}

static void
check_payload(const ModelVersion *mv, const LtgVersion *v)
{
	assert_int_equal(v->payload_len, mv->len);
	if (mv->len > 0)
		assert_int_equal((uintptr_t) v->payload % 8, 0);
	assert_true(same_payload(mv, v));
}

/* ---- what the model says ---- */

static const ModelVersion *
model_get(const ModelKey *k, const RigSnapshot *snap)
{
	for (uint32_t i = k->n; i-- > 0;)
	{
		if (k->v[i].kind == LTG_GONE)
			return NULL;
		if (lrig_sees(snap, k->v[i].xid, k->v[i].cid))
			return k->v[i].kind == LTG_PUT ? &k->v[i] : NULL;
	}
	return NULL;
}

static bool
aborted(const Model *m, const ModelVersion *mv)
{
	return m->rig.xact[mv->xid] == RIG_ABORTED;
}

/* May a transaction write the key?  As the host's conflict check. */
static bool
may_write(const Model *m, const ModelKey *k, LtgXid xid)
{
	for (uint32_t i = k->n; i-- > 0;)
	{
		if (aborted(m, &k->v[i]))
			continue;
		return k->v[i].xid == xid || m->rig.xact[k->v[i].xid] == RIG_COMMITTED;
	}
	return true;
}

/* Is every version that counts one of xid's: a fresh insert of its own? */
static bool
all_own(const Model *m, const ModelKey *k, LtgXid xid)
{
	for (uint32_t i = 0; i < k->n; i++)
		if (!aborted(m, &k->v[i]) && k->v[i].xid != xid)
			return false;
	return true;
}

/* ---- comparing ---- */

static void
check_get(Model *m, uint32_t s, uint32_t i, RigSnapshot *snap, LtgRow *row)
{
	ModelKey   *k = &m->keys[s][i];
	const ModelVersion *want = model_get(k, snap);
	LtgStatus	st = ltg_get(m->rig.s, m->store[s], k->key, k->key_len, &snap->snap, row);

	if (want == NULL)
		lrig_expect(&m->rig, st, LTG_NOT_FOUND, __FILE__, __LINE__);
	else
	{
		lrig_ok(&m->rig, st);
		check_payload(want, &row->v);
	}
	m->checked_rows++;
}

static void
random_bounds(Model *m, uint32_t s, LtgScanOptions *opt, uint32_t *from, uint32_t *to)
{
	*from = 0;
	*to = KEYS;
	memset(opt, 0, sizeof(*opt));
	if (lrig_below(&m->rnd, 2))
	{
		*from = lrig_below(&m->rnd, KEYS);
		opt->lo = m->keys[s][*from].key;
		opt->lo_len = m->keys[s][*from].key_len;
	}
	if (lrig_below(&m->rnd, 2))
	{
		*to = lrig_below(&m->rnd, KEYS);
		opt->hi = m->keys[s][*to].key;
		opt->hi_len = m->keys[s][*to].key_len;
	}
	if (*to < *from)
		*to = *from;
	opt->backward = lrig_below(&m->rnd, 2);
	opt->spare_cache = lrig_below(&m->rnd, 2);
	if (lrig_below(&m->rnd, 2))
		opt->max_rows = 1 + lrig_below(&m->rnd, 40);
}

static void
background(Model *m);

static void
check_scan(Model *m, uint32_t s, RigSnapshot *snap)
{
	LtgScanOptions opt;
	LtgScan    *scan;
	LtgBatch	b;
	LtgStatus	st;
	uint32_t	from, to, at;

	random_bounds(m, s, &opt, &from, &to);
	opt.snap = &snap->snap;
	at = opt.backward ? to : from;
	lrig_ok(&m->rig, ltg_scan_open(m->rig.s, m->store[s], &opt, &scan));
	while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
	{
		assert_true(b.n > 0 && (opt.max_rows == 0 || b.n <= opt.max_rows));
		for (uint32_t r = 0; r < b.n; r++)
		{
			const ModelVersion *want = NULL;
			const uint8_t *key;
			uint32_t	key_len;
			LtgVersion	v;
			ModelKey   *k = NULL;

			ltg_batch_row(scan, r, &key, &key_len, &v);
			while (want == NULL)
			{
				if (opt.backward ? at == from : at == to)
					fail_msg("scan gives a row too many");
				k = &m->keys[s][opt.backward ? --at : at++];
				want = model_get(k, snap);
			}
			if (key_len != k->key_len || memcmp(key, k->key, key_len) != 0)
				fail_msg("scan gives %.*s, not %.*s", (int) key_len, key, (int) k->key_len, k->key);
			check_payload(want, &v);
			m->checked_rows++;
		}
		/* a row may be asked for again, in any order */
		if (b.n > 1)
		{
			const uint8_t *key;
			uint32_t	key_len;
			LtgVersion	v;

			ltg_batch_row(scan, lrig_below(&m->rnd, b.n), &key, &key_len, &v);
		}
		if (lrig_below(&m->rnd, 4) == 0)
			background(m);
	}
	lrig_expect(&m->rig, st, LTG_END, __FILE__, __LINE__);
	while (opt.backward ? at > from : at < to)
		if (model_get(&m->keys[s][opt.backward ? --at : at++], snap) != NULL)
			fail_msg("scan lacks a row");
	ltg_scan_close(scan);
}

/* Must the i-th version be there?  A running writer's must, unless it took it
 * back itself. */
static bool
must_be_there(const Model *m, const ModelKey *k, uint32_t i)
{
	if (m->rig.xact[k->v[i].xid] != RIG_RUNNING)
		return false;
	for (; i < k->n; i++)
		if (k->v[i].kind == LTG_GONE)
			return false;
	return true;
}

/* G3 */
static bool
seen_by_all(const Model *m, LtgXid xid)
{
	for (uint32_t i = 0; i < RIG_SNAPSHOTS; i++)
		if (m->rig.snaps[i] != NULL && !lrig_sees(m->rig.snaps[i], xid, UINT32_MAX))
			return false;
	return true;
}

/* A put that has committed may have another sequence number (N1). */
static bool
may_stand_for(const Model *m, const ModelVersion *mv, const LtgVersion *v)
{
	return mv->kind == LTG_PUT && m->rig.xact[mv->xid] == RIG_COMMITTED && same_payload(mv, v) &&
		mv->seq >= v->seq && v->xid == mv->xid && v->cid == mv->cid;
}

/* Graves may be taken for later ones, and have numbers of other versions (level_grave). */
static bool
may_be_grave(const Model *m, const ModelVersion *mv, const LtgVersion *v)
{
	if (mv->seq > v->seq)
		return false;
	if (v->kind == LTG_GONE)
		return mv->kind == LTG_GONE || m->rig.xact[mv->xid] == RIG_ABORTED;
	return mv->kind == LTG_DELETE && m->rig.xact[mv->xid] == RIG_COMMITTED;
}

/* A key's versions as they come, newest first. */
typedef struct RawCheck
{
	Model	   *m;
	const ModelKey *k;
	uint32_t	at;				/* model versions below it may still come */
	uint32_t	n;
	bool		settled;		/* a settled one came */
} RawCheck;

static void
raw_version(RawCheck *c, const LtgVersion *v)
{
	const Model *m = c->m;

	c->n++;
	c->settled |= v->state == LTG_SETTLED && v->seq != 0;
	for (;;)
	{
		const ModelVersion *mv;

		if (c->at == 0)
			fail_msg("a version comes that nobody wrote, or twice");
		mv = &c->k->v[--c->at];
		if (v->state == LTG_SETTLED && v->kind != LTG_PUT)
		{
			if (may_be_grave(m, mv, v))
				return;
		}
		else if (v->state == LTG_COMMITTED && v->kind == LTG_PUT)
		{
			if (may_stand_for(m, mv, v))
				return;
		}
		else if (v->seq != 0 && mv->seq == v->seq)
		{
			if (v->kind == LTG_GONE)
				return;			/* as it was written */
			assert_int_equal(v->kind, mv->kind);
			assert_int_equal(v->xid, v->state == LTG_SETTLED && v->kind != LTG_PUT ? 0 : mv->xid);
			if (v->state != LTG_SETTLED)
				assert_int_equal(v->cid, mv->cid);
			if (v->state == LTG_COMMITTED || v->state == LTG_SETTLED)
				assert_int_equal(m->rig.xact[mv->xid], RIG_COMMITTED);
			if (v->state == LTG_ABORTED)
				assert_int_equal(m->rig.xact[mv->xid], RIG_ABORTED);
			if (v->kind == LTG_PUT)
				check_payload(mv, v);
			return;
		}
		if (v->seq == 0 && m->rig.xact[mv->xid] == RIG_COMMITTED)
		{
			/*
			 * Versions between two snapshots, and under a settled one, were
			 * dropped, so that it is found by its writer and content.
			 */
			assert_int_equal(v->state, LTG_SETTLED);
			assert_int_not_equal(v->xid, 0);
			if (mv->kind != LTG_PUT || mv->xid != v->xid || !same_payload(mv, v))
				continue;
			assert_int_equal(mv->kind, LTG_PUT);
			assert_true(seen_by_all(m, mv->xid));
			check_payload(mv, v);
			c->settled = true;
			return;
		}
		/* what is left out must be needed by nobody */
		if (must_be_there(m, c->k, c->at))
			fail_msg("a version of a running transaction is missing");
	}
}

static bool
raw_callback(void *arg, const LtgVersion *v, LtgState *fate)
{
	RawCheck   *c = arg;

	raw_version(c, v);
	if (v->xid != 0)
	{
		if (c->m->rig.xact[v->xid] == RIG_COMMITTED)
			*fate = LTG_COMMITTED;
		else if (c->m->rig.xact[v->xid] == RIG_ABORTED)
			*fate = LTG_ABORTED;
	}
	return true;
}

/* Versions left out after the last one are not needed by any snapshot. */
static void
check_raw_end(Model *m, const ModelKey *k, const RawCheck *c)
{
	for (uint32_t i = 0; i < c->at; i++)
		if (must_be_there(m, k, i))
			fail_msg("a version of a running transaction is missing");
}

static void
check_versions(Model *m, uint32_t s, uint32_t i)
{
	RawCheck	c = {.m = m, .k = &m->keys[s][i], .at = m->keys[s][i].n};

	lrig_ok(&m->rig, ltg_versions(m->rig.s, m->store[s], c.k->key, c.k->key_len,
								 raw_callback, &c));
	check_raw_end(m, c.k, &c);
}

static void
check_raw_scan(Model *m, uint32_t s)
{
	LtgScanOptions opt;
	LtgScan    *scan;
	LtgBatch	b;
	LtgStatus	st;
	uint32_t	from, to;
	RawCheck	c = {.m = m};

	random_bounds(m, s, &opt, &from, &to);
	lrig_ok(&m->rig, ltg_scan_open(m->rig.s, m->store[s], &opt, &scan));
	while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
		for (uint32_t r = 0; r < b.n; r++)
		{
			const uint8_t *key;
			uint32_t	key_len;
			LtgVersion	v;

			ltg_batch_row(scan, r, &key, &key_len, &v);
			if (c.k == NULL || key_len != c.k->key_len || memcmp(key, c.k->key, key_len) != 0)
			{
				const ModelKey *last = c.k;
				ModelKey	probe;

				memcpy(probe.key, key, key_len);
				probe.key_len = key_len;
				if (last != NULL)
					check_raw_end(m, last, &c);
				c.k = bsearch(&probe, m->keys[s], KEYS, sizeof(ModelKey), compare_keys);
				assert_non_null(c.k);
				assert_true(c.k >= &m->keys[s][from] && c.k < &m->keys[s][to]);
				if (last != NULL)
					assert_true(opt.backward ? c.k < last : c.k > last);
				c.at = c.k->n;
				c.settled = false;
			}
			raw_version(&c, &v);
		}
	lrig_expect(&m->rig, st, LTG_END, __FILE__, __LINE__);
	ltg_scan_close(scan);
}

static void
check_snapshot(Model *m, RigSnapshot *snap)
{
	LtgRow		row = {0};

	for (uint32_t s = 0; s < STORES; s++)
	{
		for (uint32_t i = 0; i < KEYS; i++)
			if (lrig_below(&m->rnd, 3) == 0)
				check_get(m, s, i, snap, &row);
		check_scan(m, s, snap);
	}
	ltg_row_free(m->rig.s, &row);
}

/* ---- steps ---- */

static void
write_key(Model *m, uint32_t s, ModelKey *k, LtgXid xid, uint32_t cid, bool deleting)
{
	ModelVersion mv = {.xid = xid, .cid = cid, .kind = deleting ? LTG_DELETE : LTG_PUT};
	uint8_t		payload[BIG_PAYLOAD];

	/* taken back before anybody could see it */
	if (mv.kind == LTG_DELETE && all_own(m, k, mv.xid))
		mv.kind = LTG_GONE;
	mv.len = mv.kind != LTG_PUT ? 0 : lrig_below(&m->rnd, m->max_len);
	if (mv.kind == LTG_PUT && lrig_below(&m->rnd, 200) == 0)
		mv.len = sizeof(payload);
	mv.fill = (uint32_t) lrig_random(&m->rnd);
	make_payload(payload, mv.len, mv.fill);
	mv.seq = lrig_write(&m->rig, m->store[s], k->key, k->key_len, mv.kind, payload, mv.len,
					   mv.xid, mv.cid);
	if (k->n == k->cap)
	{
		k->cap = k->cap == 0 ? 8 : k->cap * 2;
		k->v = realloc(k->v, k->cap * sizeof(*k->v));
	}
	k->v[k->n++] = mv;
}

static void
step_write(Model *m)
{
	uint32_t	x = lrig_below(&m->rnd, XACTS);
	uint32_t	n = 1 + lrig_below(&m->rnd, 20);
	uint32_t	s = lrig_below(&m->rnd, STORES);
	uint32_t	first = lrig_below(&m->rnd, KEYS);
	bool		sequential = lrig_below(&m->rnd, 2);

	if (m->xact[x].xid == 0)
	{
		m->xact[x].xid = lrig_begin(&m->rig);
		m->xact[x].cid = 0;
	}
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t	at = sequential ? (first + i) % KEYS : lrig_below(&m->rnd, KEYS);
		ModelKey   *k = &m->keys[s][at];

		if (may_write(m, k, m->xact[x].xid))
			write_key(m, s, k, m->xact[x].xid, m->xact[x].cid, lrig_below(&m->rnd, 4) == 0);
	}
	m->xact[x].cid++;
}

static void
scan_now(Model *m, uint32_t s)
{
	RigSnapshot *snap = lrig_snapshot(&m->rig, 0, 0);

	check_scan(m, s, snap);
	lrig_release(&m->rig, snap);
}

/*
 * Most keys of a range go, scans pass through it and learn so, then some of them come
 * back, and perhaps one in between that was not there.
 */
static void
step_sweep(Model *m)
{
	uint32_t	s = lrig_below(&m->rnd, STORES);
	uint32_t	first = lrig_below(&m->rnd, KEYS);
	uint32_t	n = 30 + lrig_below(&m->rnd, KEYS / 2);
	uint32_t	leave = 1 + lrig_below(&m->rnd, 60);

	for (int back = 0; back < 2; back++)
	{
		LtgXid		xid = lrig_begin(&m->rig);

		for (uint32_t i = 0; i < n; i++)
		{
			ModelKey   *k = &m->keys[s][(first + i) % KEYS];

			if ((lrig_below(&m->rnd, leave) == 0) == (back == 1) && may_write(m, k, xid))
				write_key(m, s, k, xid, 0, back == 0);
			if (back == 1 && lrig_below(&m->rnd, 30) == 0)
				scan_now(m, s);
		}
		lrig_end(&m->rig, xid, lrig_below(&m->rnd, 5) != 0);
		for (int i = 0; i < 3; i++)
			scan_now(m, s);
		for (uint32_t i = 0; i < SNAPS; i++)
			if (m->snap[i] != NULL)
				check_scan(m, s, m->snap[i]);
	}
}

/* A row that is changed over and over, mostly beside snapshots that need it all. */
static void
step_counter(Model *m)
{
	uint32_t	s = lrig_below(&m->rnd, STORES);
	ModelKey   *k = &m->keys[s][lrig_below(&m->rnd, KEYS)];

	for (uint32_t n = 40 + lrig_below(&m->rnd, 100); n > 0; n--)
	{
		LtgXid		xid = lrig_begin(&m->rig);

		if (may_write(m, k, xid))
			write_key(m, s, k, xid, 0, false);
		lrig_end(&m->rig, xid, true);
	}
}

static void
step_end(Model *m)
{
	uint32_t	x = lrig_below(&m->rnd, XACTS);

	if (m->xact[x].xid == 0)
		return;
	/* a snapshot of its own must go first */
	for (uint32_t i = 0; i < SNAPS; i++)
		if (m->snap[i] != NULL && m->snap[i]->own == m->xact[x].xid)
		{
			lrig_release(&m->rig, m->snap[i]);
			m->snap[i] = NULL;
		}
	lrig_end(&m->rig, m->xact[x].xid, lrig_below(&m->rnd, 3) != 0);
	m->xact[x].xid = 0;
}

static void
step_snapshot(Model *m)
{
	uint32_t	i = lrig_below(&m->rnd, SNAPS);

	if (m->snap[i] != NULL)
	{
		check_snapshot(m, m->snap[i]);
		lrig_release(&m->rig, m->snap[i]);
		m->snap[i] = NULL;
	}
	else
	{
		uint32_t	x = lrig_below(&m->rnd, XACTS);

		m->snap[i] = lrig_snapshot(&m->rig, lrig_below(&m->rnd, 2) ? m->xact[x].xid : 0,
								  m->xact[x].cid);
		m->snap[i]->known = lrig_below(&m->rnd, 4) != 0;
		m->snap[i]->vague = lrig_below(&m->rnd, 4) == 0;
	}
}

static void
stop(LsmRig *rig, const char *name)
{
	Model	   *m = rig->stop_arg;

	if (strcmp(name, "compact:piece") == 0)
		rig->interrupted = lrig_below(&m->rnd, 2) == 0;
}

/* Perhaps a part of a generation goes into the levels, and the rest later. */
static void
step_flush(Model *m)
{
	LtgFlushResult f;
	LtgStatus	st;

	m->rig.stop = stop;
	m->rig.stop_arg = m;
	st = ltg_flush(m->rig.s, &f);
	m->rig.stop = NULL;
	if (m->rig.interrupted)
	{
		m->parts++;
		lrig_expect(&m->rig, st, LTG_INTERRUPTED, __FILE__, __LINE__);
		ltg_clear_error(m->rig.s);
	}
	else
		lrig_ok(&m->rig, st);
	m->rig.interrupted = false;
}

/* Nobody merges a store that has a part of a generation. */
static void
step_compact_store(Model *m)
{
	LtgStore   *store = m->store[lrig_below(&m->rnd, STORES)];
	bool		parted = ltg_store_is_parted(m->rig.s, store);
	LtgCompactResult c;

	lrig_expect(&m->rig, ltg_compact_store(m->rig.s, store, &c), parted ? LTG_BUSY : LTG_OK,
				__FILE__, __LINE__);
	ltg_clear_error(m->rig.s);
}

/* What may happen beside a running scan. */
static void
background(Model *m)
{
	LtgFlushResult f;
	LtgCompactResult c;

	switch (lrig_below(&m->rnd, 6))
	{
		case 0:
			lrig_freeze(&m->rig);
			break;
		case 1:
		case 2:
			step_flush(m);
			break;
		case 3:
			lrig_ok(&m->rig, ltg_compact(m->rig.s, &c));
			m->compactions += c.compacted;
			break;
		case 4:
			if (lrig_below(&m->rnd, 4) == 0)
				step_compact_store(m);
			break;
		case 5:
			if (lrig_below(&m->rnd, 4) == 0)
			{
				LtgSeq		upto = m->rig.lsn - lrig_below(&m->rnd, 2000);

				lrig_ok(&m->rig, ltg_flush_upto(m->rig.s, upto, &f));
				assert_true(ltg_durable(m->rig.s) >= upto);
			}
			else
				ltg_store_clear_graves(m->rig.s, m->store[0], m->rig.lsn - lrig_below(&m->rnd, 5000));
			break;
	}
}

static void
step_restart(Model *m)
{
	for (uint32_t i = 0; i < SNAPS; i++)
		m->snap[i] = NULL;
	for (uint32_t x = 0; x < XACTS; x++)
		m->xact[x].xid = 0;
	lrig_restart(&m->rig);
	for (uint32_t s = 0; s < STORES; s++)
		m->store[s] = lrig_find(&m->rig, s);
	m->restarts++;
}

static void
problem(void *arg, const char *text)
{
	(void) arg;
	fail_msg("check: %s", text);
}

static void
step_check(Model *m)
{
	RigSnapshot *snap = lrig_snapshot(&m->rig, 0, 0);

	check_snapshot(m, snap);
	lrig_release(&m->rig, snap);
	for (uint32_t s = 0; s < STORES; s++)
	{
		check_raw_scan(m, s);
		for (uint32_t i = 0; i < KEYS; i++)
			if (lrig_below(&m->rnd, 5) == 0)
				check_versions(m, s, i);
	}
	lrig_ok(&m->rig, ltg_check_all(m->rig.s, problem, m));
}

static void
run_seed(uint64_t seed, uint32_t steps)
{
	Model	   *m = calloc(1, sizeof(Model));
	LtgConfig	config;

	m->seed = m->rnd = seed;
	lrig_config(&config);
	/* some seeds make many small files in several levels, some a few runs */
	config.file_target_bytes = seed % 3 == 0 ? 8 * 1024 : seed % 3 == 1 ? 32 * 1024 : 256 * 1024;
	config.block_size = seed % 2 == 0 ? 4096 : 16384;
	config.l0_compact_trigger = seed % 5 == 0 ? 1 : 4;
	config.space_limit = seed % 7 < 4 ? 10 : 0;
	m->max_len = seed % 4 == 0 ? 1500 : 200;
	lrig_open(&m->rig, &config);
	for (uint32_t s = 0; s < STORES; s++)
	{
		make_keys(m, s);
		m->store[s] = lrig_store(&m->rig, s, s == 0 ? LTG_STORE_KEEP_GRAVES : 0);
	}
	for (uint32_t i = 0; i < steps; i++)
	{
		uint32_t	what = lrig_below(&m->rnd, 100);

		if (verbose)
			fprintf(stderr, "step %u: %u\n", i, what);
		if (what < 45)
			step_write(m);
		else if (what < 60)
			step_end(m);
		else if (what < 70)
			step_snapshot(m);
		else if (what < 90)
			background(m);
		else if (what < 91)
			step_restart(m);
		else if (what < 95)
			step_check(m);
		else if (what < 97)
			step_sweep(m);
		else if (what < 98)
			step_counter(m);
	}
	for (uint32_t x = 0; x < XACTS; x++)
		while (m->xact[x].xid != 0)
			step_end(m);
	step_check(m);
	lrig_flush_all(&m->rig);
	lrig_compact_all(&m->rig);
	step_check(m);
	for (uint32_t s = 0; s < STORES; s++)
	{
		LtgStoreInfo info;

		ltg_store_info(m->rig.s, m->store[s], &info);
		m->levels += info.levels;
	}
	if (verbose)
		fprintf(stderr, "seed %llu: %u rows compared, %u restarts, %u compactions, %u levels, %u parts\n",
				(unsigned long long) seed, m->checked_rows, m->restarts, m->compactions, m->levels, m->parts);
	lrig_close(&m->rig);
	for (uint32_t s = 0; s < STORES; s++)
		for (uint32_t i = 0; i < KEYS; i++)
			free(m->keys[s][i].v);
	free(m);
}

static uint64_t one_seed;
static uint32_t one_steps = 400;

static void
given_seed(void **state)
{
	(void) state;
	run_seed(one_seed, one_steps);
}

static void
many_seeds(void **state)
{
	(void) state;
	for (uint64_t seed = 1; seed <= 40; seed++)
	{
		print_message("seed %llu\n", (unsigned long long) seed);
		run_seed(seed, 400);
	}
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest one[] = {cmocka_unit_test(given_seed)};
	const struct CMUnitTest tests[] = {cmocka_unit_test(many_seeds)};

	if (argc > 1)
	{
		one_seed = strtoull(argv[1], NULL, 10);
		if (argc > 2)
			one_steps = (uint32_t) atoi(argv[2]);
		verbose = true;
		return cmocka_run_group_tests(one, NULL, NULL);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
