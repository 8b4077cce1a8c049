/*
 * get.c
 *	  Reading one key: what a snapshot sees, and all versions there are.
 *
 * Sources are visited newest first and the first version that is seen decides,
 * so a look-up stops at the newest source in the common case.  There are no
 * iterators and no allocation here, except for blocks too large for the cache
 * and for a row that outgrows its buffer.
 *
 * Cache misses of a look-up of an untouched key in a store with one run: the
 * list of generations, one probe per generation (the store's list), the run
 * set, the inner blocks (resident), the data block.  The filter is skipped for
 * the last run that may hold the key: it could only save a block read for keys
 * that don't exist, which readers who come through an index never ask for.
 */
#include "ltg.h"

#include "tree/hint.h"
#include "tree/runset.h"
#include "tree/visible.h"

/* What is looked for, and how the walk over sources reports versions. */
typedef struct Lookup
{
	LtgSession *s;
	const uint8_t *key;
	uint32_t	key_len;
	uint64_t	hash;
	LtgHint    *hint;			/* or NULL */
	LtgSnapshot *snap;			/* ltg_get */
	LtgRow	   *row;
	LtgVersionFn fn;			/* ltg_versions */
	void	   *arg;
	bool		stopped;
} Lookup;

static LtgStatus
copy_row(LtgSession *s, const LtgVersion *v, LtgRow *row)
{
	if (LTG_UNLIKELY(v->payload_len > row->cap))
	{
		LtgPort    *port = s->port;
		uint32_t	cap = row->cap == 0 ? 256 : row->cap;
		uint8_t    *buf;

		while (cap < v->payload_len)
			cap *= 2;
		buf = port->alloc(port, cap);
		if (buf == NULL)
			return ltg_fail(s, LTG_NOMEM, "out of memory for a row of %u bytes", v->payload_len);
		if (row->buf != NULL)
			port->free(port, row->buf);
		row->buf = buf;
		row->cap = cap;
	}
	row->v = *v;
	row->v.payload = row->buf;
	if (v->payload_len > 0)
		memcpy(row->buf, v->payload, v->payload_len);
	return LTG_OK;
}

/*
 * A version was met.  LTG_OK: look further.  LTG_END: it decided; ltg_get has
 * its row.  LTG_NOT_FOUND: it decided that there is no row.
 */
static inline LtgStatus
visit(Lookup *l, const LtgVersion *v, LtgMemVersion *mv)
{
	LtgState	fate = v->state;

	if (l->fn != NULL)
	{
		bool		more = l->fn(l->arg, v, &fate);

		if (mv != NULL && fate != v->state)
			ltg_mem_mark(mv, fate);
		l->stopped = !more;
		return more ? LTG_OK : LTG_END;
	}
	if (ltg_version_seen(l->snap, v, &fate))
	{
		if (mv != NULL && fate != v->state)
			ltg_mem_mark(mv, fate);
		l->stopped = true;
		if (v->kind != LTG_PUT)
			return LTG_NOT_FOUND;
		LTG_TRY(copy_row(l->s, v, l->row));
		return LTG_END;
	}
	if (LTG_UNLIKELY(l->snap->failed))
		return LTG_HOST_ERROR;
	if (mv != NULL && fate != v->state)
		ltg_mem_mark(mv, fate);
	return LTG_OK;
}

static LtgStatus
look_in_memory(Lookup *l, const LtgView *view, uint64_t store_id)
{
	for (uint32_t i = 0; i < view->gens->n; i++)
	{
		LtgGeneration *g = view->gens->gen[i];
		const LtgMerged *merged = ltg_view_merged(view, i);
		LtgMemList *list;
		LtgMemNode *node;

		if (merged != NULL && ltg_merged_has(merged, l->key, l->key_len))
			continue;
		list = ltg_gen_list(g, store_id);
		if (list == NULL)
			continue;
		node = ltg_hint_find(l->hint, g, list, store_id, l->key, l->key_len, l->hash);
		if (node == NULL)
			continue;
		for (LtgMemVersion *mv = ltg_mem_newest(g, node); mv != NULL; mv = ltg_mem_older(g, mv))
		{
			LtgVersion	v;

			ltg_mem_read(mv, &v);
			LTG_TRY(visit(l, &v, mv));
		}
	}
	return LTG_OK;
}

static LtgStatus
look_in_run(Lookup *l, const LtgRunRef *ref, bool use_filter)
{
	LtgPoint	p = {0};
	LtgVersion	v;
	LtgStatus	st;

	st = ltg_hint_run_get(l->s, l->hint, ref, l->key, l->key_len, l->hash, use_filter, &p, &v);
	if (st == LTG_NOT_FOUND)
		st = LTG_END;
	while (st == LTG_OK)
	{
		st = visit(l, &v, NULL);
		if (st != LTG_OK)
			break;
		st = ltg_point_older(l->s, &p, &v);
	}
	ltg_point_close(l->s, &p);
	if (st == LTG_END && !l->stopped)
		return LTG_OK;			/* this run had no answer */
	return st;
}

/*
 * All runs that may hold the key, newest first.  A run is looked into only
 * when the next candidate is known, so that the last one goes unfiltered.
 */
static LtgStatus
look_in_runs(Lookup *l, const LtgView *view)
{
	const LtgRunSet *rs = view->runs;
	const LtgRunRef *pending = NULL;

	if (rs == NULL)
		return LTG_OK;
	for (uint32_t i = view->first_run; i < rs->level_start[1]; i++)
	{
		const LtgRunRef *ref = &rs->run[i];

		if (!ltg_bound_may_contain(&ref->min_key, &ref->max_key, l->key, l->key_len))
			continue;
		if (pending != NULL)
			LTG_TRY(look_in_run(l, pending, true));
		pending = ref;
	}
	for (uint32_t level = 1; level < LTG_LEVELS_MAX; level++)
	{
		uint32_t	to = rs->level_start[level + 1];

		if (to == rs->n && rs->level_start[level] == to)
			break;
		for (uint32_t i = ltg_runset_first(rs, rs->level_start[level], to, l->key, l->key_len);
			 i < to && !ltg_key_below(&rs->run[i].min_key, l->key, l->key_len); i++)
		{
			if (pending != NULL)
				LTG_TRY(look_in_run(l, pending, true));
			pending = &rs->run[i];
		}
	}
	return pending == NULL ? LTG_OK : look_in_run(l, pending, false);
}

/* LTG_OK: no version decided.  LTG_END: one did. */
static LtgStatus
look(Lookup *l, LtgStore *store)
{
	LtgView		view;

	l->hash = ltg_key_hash(l->key, l->key_len);
	l->hint = ltg_hint_for(l->s, ltg_store_id(store), l->key, l->key_len);
	ltg_view_load(l->s, store, &view);
	LTG_TRY(look_in_memory(l, &view, ltg_store_id(store)));
	ltg_note_probe(l->s, store, &view);
	return look_in_runs(l, &view);
}

LtgStatus
ltg_get(LtgSession *s, LtgStore *store, const uint8_t *key, uint32_t key_len,
		LtgSnapshot *snap, LtgRow *row)
{
	Lookup		l = {.s = s, .key = key, .key_len = key_len, .snap = snap, .row = row};
	LtgStatus	st;

	LTG_ASSERT(key_len <= LTG_KEY_MAX);
	ltg_epoch_enter(s);
	st = look(&l, store);
	ltg_epoch_leave(s);
	if (LTG_LIKELY(st == LTG_END))
		return LTG_OK;
	return st == LTG_OK ? LTG_NOT_FOUND : st;
}

void
ltg_row_free(LtgSession *s, LtgRow *row)
{
	if (row->buf != NULL)
		s->port->free(s->port, row->buf);
	memset(row, 0, sizeof(*row));
}

LtgStatus
ltg_versions(LtgSession *s, LtgStore *store, const uint8_t *key, uint32_t key_len,
			 LtgVersionFn fn, void *arg)
{
	Lookup		l = {.s = s, .key = key, .key_len = key_len, .fn = fn, .arg = arg};
	LtgStatus	st;

	LTG_ASSERT(key_len <= LTG_KEY_MAX);
	ltg_epoch_enter(s);
	st = look(&l, store);
	ltg_epoch_leave(s);
	return st == LTG_END ? LTG_OK : st;
}
