/*
 * merge_iter.c
 *	  See merge_iter.h.
 *
 * The live sources are kept in an array sorted by key, then by rank.  A source
 * that has moved is sifted from the front: when one source supplies a stretch
 * of keys, which is the common case, a step costs one comparison.
 */
#include "tree/merge_iter.h"

#include "base/coding.h"

static uint64_t
key_prefix(const uint8_t *key, uint32_t len)
{
	uint64_t	x = 0;

	if (LTG_LIKELY(len >= 8))
		return ltg_load_be64(key);
	for (uint32_t i = 0; i < len; i++)
		x |= (uint64_t) key[i] << (56 - 8 * i);
	return x;
}

static int
compare_keys(const LtgMergeSource *a, const LtgMergeSource *b)
{
	if (a->prefix != b->prefix)
		return a->prefix < b->prefix ? -1 : 1;
	return ltg_key_cmp(a->key, a->key_len, b->key, b->key_len);
}

void
ltg_merge_init(LtgMerge *m, LtgSession *s, LtgCacheUse use, bool backward)
{
	LTG_ASSERT(m->n_src == 0);
	m->s = s;
	m->use = use;
	m->backward = backward;
	m->n_live = m->n_equal = 0;
}

static LtgStatus
add_source(LtgMerge *m, LtgMergeSource **src)
{
	if (m->n_src == m->cap)
	{
		LtgPort    *port = m->s->port;
		uint32_t	cap = m->cap == 0 ? 8 : m->cap * 2;
		LtgMergeSource *p;
		LtgMergeSource **o;

		if (m->src == NULL)
			p = port->alloc(port, cap * sizeof(*p));
		else
			p = port->realloc(port, m->src, cap * sizeof(*p));
		if (p == NULL)
			return ltg_fail(m->s, LTG_NOMEM, "out of memory for a merge of %u sources", cap);
		m->src = p;
		if (m->order == NULL)
			o = port->alloc(port, cap * sizeof(*o));
		else
			o = port->realloc(port, m->order, cap * sizeof(*o));
		if (o == NULL)
			return ltg_fail(m->s, LTG_NOMEM, "out of memory for a merge of %u sources", cap);
		m->order = o;
		m->cap = cap;
	}
	*src = &m->src[m->n_src];
	memset(*src, 0, sizeof(**src));
	(*src)->rank = m->n_src++;
	return LTG_OK;
}

LtgStatus
ltg_merge_add_gen(LtgMerge *m, LtgGeneration *g, LtgMemList *l, const LtgBound *from)
{
	LtgMergeSource *src;

	LTG_TRY(add_source(m, &src));
	src->gen = g;
	src->list = l;
	src->from = from;
	return LTG_OK;
}

/* Runs that certainly follow each other. */
static LtgStatus
add_runs(LtgMerge *m, const LtgRunRef *runs, uint32_t n)
{
	LtgMergeSource *src;

	LTG_ASSERT(n > 0);
	LTG_TRY(add_source(m, &src));
	src->run = runs;
	src->n_runs = n;
	return LTG_OK;
}

/*
 * Where truncated bounds can't tell two neighbours apart they go into sources
 * of their own: nothing then relies on their order.
 */
LtgStatus
ltg_merge_add_level(LtgMerge *m, const LtgRunRef *runs, uint32_t n)
{
	for (uint32_t from = 0, end; from < n; from = end)
	{
		for (end = from + 1; end < n; end++)
			if (!ltg_bound_before(&runs[end - 1].max_key, &runs[end].min_key))
				break;
		LTG_TRY(add_runs(m, &runs[from], end - from));
	}
	return LTG_OK;
}

LtgStatus
ltg_merge_add_view(LtgMerge *m, uint64_t store_id, const LtgView *view, LtgXid unseen,
				   const uint8_t *lo, uint32_t lo_len, const uint8_t *hi, uint32_t hi_len)
{
	const LtgRunSet *rs = view->runs;

	for (uint32_t i = 0; i < view->gens->n; i++)
	{
		const LtgMerged *merged = ltg_view_merged(view, i);
		LtgMemList *l = ltg_gen_list(view->gens->gen[i], store_id);

		if (l != NULL && unseen != 0 && ltg_mem_list_min_xid(l) >= unseen)
			continue;
		if (l != NULL && (merged == NULL || !merged->all))
			LTG_TRY(ltg_merge_add_gen(m, view->gens->gen[i], l,
									  merged == NULL ? NULL : &merged->below));
	}
	if (rs == NULL)
		return LTG_OK;
	for (uint32_t i = view->first_run; i < rs->level_start[1]; i++)
	{
		const LtgRunRef *ref = &rs->run[i];

		if ((lo != NULL && ltg_key_above(&ref->max_key, lo, lo_len)) ||
			(hi != NULL && ltg_key_below(&ref->min_key, hi, hi_len)))
			continue;
		LTG_TRY(add_runs(m, ref, 1));
	}
	for (uint32_t level = 1; level < LTG_LEVELS_MAX; level++)
	{
		uint32_t	from = rs->level_start[level];
		uint32_t	to = rs->level_start[level + 1];

		if (lo != NULL)
			from = ltg_runset_first(rs, from, to, lo, lo_len);
		if (hi != NULL)
		{
			uint32_t	end = ltg_runset_first(rs, from, to, hi, hi_len);

			/* several may straddle hi when bounds are truncated */
			while (end < to && !ltg_key_below(&rs->run[end].min_key, hi, hi_len))
				end++;
			to = end;
		}
		LTG_TRY(ltg_merge_add_level(m, &rs->run[from], to - from));
	}
	return LTG_OK;
}

static void
end_pass(LtgMerge *m)
{
	ltg_mem_pass_end(&m->pass);
	m->passing = NULL;
}

void
ltg_merge_clear(LtgMerge *m)
{
	end_pass(m);
	for (uint32_t i = 0; i < m->n_src; i++)
		if (m->src[i].it != NULL)
			ltg_run_iter_close(m->src[i].it);
	m->n_src = m->n_live = m->n_equal = 0;
}

void
ltg_merge_free(LtgMerge *m)
{
	ltg_merge_clear(m);
	if (m->src != NULL)
		m->s->port->free(m->s->port, m->src);
	if (m->order != NULL)
		m->s->port->free(m->s->port, m->order);
	m->src = NULL;
	m->order = NULL;
	m->cap = 0;
}

/* ---- one source ---- */

static LtgStatus
source_open_run(LtgMerge *m, LtgMergeSource *src, uint32_t at)
{
	if (src->it != NULL)
	{
		if (src->at == at)
			return LTG_OK;
		ltg_run_iter_close(src->it);
		src->it = NULL;
	}
	src->at = at;
	return ltg_run_iter_open(m->s, &src->run[at], m->use, &src->it);
}

/* Fetch the current key; `st` is the outcome of the positioning. */
static LtgStatus
source_load(LtgMergeSource *src, LtgStatus st)
{
	if (st != LTG_OK)
		return st;
	if (src->gen != NULL)
	{
		ltg_mem_node_key(src->node, &src->key, &src->key_len);
		/* backwards: the rest is left out */
		if (src->from != NULL && ltg_key_below(src->from, src->key, src->key_len))
			return LTG_END;
		/* by the time its turn comes, the row will be there */
		ltg_mem_prefetch_newest(src->gen, src->node);
	}
	else
		ltg_run_iter_key(src->it, &src->key, &src->key_len);
	src->prefix = key_prefix(src->key, src->key_len);
	return LTG_OK;
}

/* The current run is exhausted: on to its neighbour. */
static LtgStatus
source_next_run(LtgMerge *m, LtgMergeSource *src)
{
	LtgStatus	st = LTG_END;

	while (st == LTG_END)
	{
		if (m->backward ? src->at == 0 : src->at + 1 >= src->n_runs)
			return LTG_END;
		LTG_TRY(source_open_run(m, src, m->backward ? src->at - 1 : src->at + 1));
		if (m->backward)
			st = ltg_run_iter_seek_le(src->it, NULL, 0);
		else
			st = ltg_run_iter_seek_ge(src->it, NULL, 0);
	}
	return st;
}

static LtgStatus
source_next(LtgMerge *m, LtgMergeSource *src)
{
	LtgStatus	st;

	if (src->gen != NULL)
	{
		src->node = m->backward ? ltg_mem_prev(src->gen, src->list, src->node)
			: ltg_mem_next(src->gen, src->node);
		return source_load(src, src->node == NULL ? LTG_END : LTG_OK);
	}
	st = m->backward ? ltg_run_iter_prev_key(src->it) : ltg_run_iter_next_key(src->it);
	if (st == LTG_END)
		st = source_next_run(m, src);
	return source_load(src, st);
}

/* The run among the source's where a seek begins. */
static uint32_t
source_find_run(const LtgMerge *m, const LtgMergeSource *src, const uint8_t *key, uint32_t len)
{
	uint32_t	from = 0;
	uint32_t	to = src->n_runs;

	if (key == NULL)
		return m->backward ? to - 1 : 0;
	while (from < to)
	{
		uint32_t	mid = from + (to - from) / 2;

		if (m->backward ? !ltg_key_below(&src->run[mid].min_key, key, len)
			: ltg_key_above(&src->run[mid].max_key, key, len))
			from = mid + 1;
		else
			to = mid;
	}
	if (m->backward)
		return from == 0 ? src->n_runs : from - 1;
	return from;
}

static LtgStatus
source_seek(LtgMerge *m, LtgMergeSource *src, const uint8_t *key, uint32_t len, bool after)
{
	LtgStatus	st;

	if (src->gen != NULL)
	{
		if (!m->backward && src->from != NULL &&
			(key == NULL || ltg_key_below(src->from, key, len)))
		{
			/* what begins there is not the key */
			key = src->from->bytes;
			len = src->from->len;
			after = false;
		}
		src->node = m->backward ? ltg_mem_seek_le(src->gen, src->list, key, len)
			: ltg_mem_seek_ge(src->gen, src->list, key, len);
		st = source_load(src, src->node == NULL ? LTG_END : LTG_OK);
	}
	else
	{
		uint32_t	at = source_find_run(m, src, key, len);

		if (at >= src->n_runs)
			return LTG_END;
		LTG_TRY(source_open_run(m, src, at));
		st = m->backward ? ltg_run_iter_seek_le(src->it, key, len)
			: ltg_run_iter_seek_ge(src->it, key, len);
		if (st == LTG_END)
			st = source_next_run(m, src);
		st = source_load(src, st);
	}
	if (st == LTG_OK && after && key != NULL &&
		ltg_key_cmp(src->key, src->key_len, key, len) == 0)
		st = source_next(m, src);
	return st;
}

/* ---- the merge ---- */

/* order[at] may be out of place towards the back; put it right. */
static void
sift(LtgMerge *m, uint32_t at)
{
	LtgMergeSource *src = m->order[at];

	for (; at + 1 < m->n_live; at++)
	{
		LtgMergeSource *other = m->order[at + 1];
		int			c = compare_keys(src, other);

		if (m->backward)
			c = -c;
		if (c < 0 || (c == 0 && src->rank < other->rank))
			break;
		m->order[at] = other;
	}
	m->order[at] = src;
}

static LtgStatus
settle_position(LtgMerge *m)
{
	m->v_src = 0;
	m->v_started = false;
	if (m->n_live == 0)
	{
		m->n_equal = 0;
		return LTG_END;
	}
	m->n_equal = 1;
	while (m->n_equal < m->n_live &&
		   compare_keys(m->order[0], m->order[m->n_equal]) == 0)
		m->n_equal++;
	return LTG_OK;
}

/* order[at] has moved with this outcome. */
static LtgStatus
replace(LtgMerge *m, uint32_t at, LtgStatus st)
{
	if (st == LTG_OK)
		sift(m, at);
	else if (st == LTG_END)
	{
		m->n_live--;
		memmove(&m->order[at], &m->order[at + 1], (m->n_live - at) * sizeof(m->order[0]));
	}
	else
		return st;
	return LTG_OK;
}

LtgStatus
ltg_merge_seek(LtgMerge *m, const uint8_t *key, uint32_t key_len, bool after)
{
	m->n_live = 0;
	for (uint32_t i = m->n_src; i-- > 0;)
	{
		LtgStatus	st = source_seek(m, &m->src[i], key, key_len, after);

		if (st == LTG_END)
			continue;
		if (st != LTG_OK)
			return st;
		memmove(&m->order[1], &m->order[0], m->n_live * sizeof(m->order[0]));
		m->order[0] = &m->src[i];
		m->n_live++;
		sift(m, 0);
	}
	return settle_position(m);
}

LtgStatus
ltg_merge_next(LtgMerge *m)
{
	LTG_ASSERT(m->n_equal > 0);
	if (m->passing != NULL)
		end_pass(m);
	/* from the back, so that what has not moved yet stays in front */
	for (uint32_t i = m->n_equal; i-- > 0;)
		LTG_TRY(replace(m, i, source_next(m, m->order[i])));
	return settle_position(m);
}

LtgStatus
ltg_merge_next_dead(LtgMerge *m)
{
	LtgMergeSource *src = m->order[0];
	bool		far;
	LtgStatus	st;

	LTG_ASSERT(!m->backward);
	if (m->n_equal != 1 || src->gen == NULL)
		return ltg_merge_next(m);
	if (m->passing != src)
		end_pass(m);
	m->passing = src;
	src->node = ltg_mem_pass(src->gen, src->list, &m->pass, src->node, src->newest, &far);
	st = source_load(src, src->node == NULL ? LTG_END : LTG_OK);
	if (far && m->n_live > 1 && compare_keys(src, m->order[1]) > 0)
	{
		/* what the other source has there may be hidden by a tombstone of this one */
		end_pass(m);
		st = source_seek(m, src, m->order[1]->key, m->order[1]->key_len, false);
	}
	LTG_TRY(replace(m, 0, st));
	return settle_position(m);
}

LtgStatus
ltg_merge_version(LtgMerge *m, LtgVersion *v)
{
	while (m->v_src < m->n_equal)
	{
		LtgMergeSource *src = m->order[m->v_src];
		bool		first = !m->v_started;

		m->v_started = true;
		if (src->gen != NULL)
		{
			if (first)
				src->mv = src->newest = ltg_mem_newest(src->gen, src->node);
			else
				src->mv = ltg_mem_older(src->gen, src->mv);
			if (src->mv != NULL)
			{
				ltg_mem_read(src->mv, v);
				return LTG_OK;
			}
		}
		else if (first)
		{
			ltg_run_iter_version(src->it, v);
			return LTG_OK;
		}
		else
		{
			LtgStatus	st = ltg_run_iter_older(src->it, v);

			if (st != LTG_END)
				return st;
		}
		m->v_src++;
		m->v_started = false;
	}
	return LTG_END;
}

void
ltg_merge_mark(LtgMerge *m, LtgState fate)
{
	LtgMergeSource *src = m->order[m->v_src];

	LTG_ASSERT(m->v_src < m->n_equal && m->v_started);
	if (src->gen != NULL)
		ltg_mem_mark(src->mv, fate);
}

LtgRunIter *
ltg_merge_lone_run(const LtgMerge *m, const uint8_t **bound, uint32_t *bound_len)
{
	if (m->n_equal != 1 || m->order[0]->gen != NULL)
		return NULL;
	*bound = NULL;
	*bound_len = 0;
	if (m->n_live > 1)
	{
		*bound = m->order[1]->key;
		*bound_len = m->order[1]->key_len;
	}
	return m->order[0]->it;
}

LtgStatus
ltg_merge_leave_block(LtgMerge *m)
{
	LtgMergeSource *src = m->order[0];
	LtgStatus	st;

	LTG_ASSERT(m->n_equal == 1 && src->gen == NULL);
	end_pass(m);
	st = m->backward ? ltg_run_iter_prev_block(src->it) : ltg_run_iter_next_block(src->it);
	if (st == LTG_END)
		st = source_next_run(m, src);
	LTG_TRY(replace(m, 0, source_load(src, st)));
	return settle_position(m);
}

LtgStatus
ltg_merge_skip_lone_to(LtgMerge *m, const uint8_t *key, uint32_t key_len)
{
	LtgMergeSource *src = m->order[0];

	LTG_ASSERT(m->n_equal == 1 && src->gen == NULL);
	end_pass(m);
	LTG_TRY(replace(m, 0, source_seek(m, src, key, key_len, false)));
	return settle_position(m);
}
