/*
 * runset.c
 *	  See runset.h.
 */
#include "tree/runset.h"

void
ltg_view_load(LtgSession *s, LtgStore *store, LtgView *view)
{
	const LtgGenList *gens = ltg_generations(s);

	for (;;)
	{
		const LtgGenList *again;

		view->runs = atomic_load_explicit(&store->runs, memory_order_acquire);
		again = ltg_generations(s);
		if (LTG_LIKELY(again == gens))
			break;
		gens = again;
	}
	view->gens = gens;
	view->first_run = 0;
	view->merged = NULL;
	if (view->runs != NULL && gens->n > 0)
	{
		const LtgRunSet *rs = view->runs;
		uint32_t	l0 = rs->level_start[1];

		if (rs->merged.generation != 0 &&
			rs->merged.generation == ltg_gen_number(gens->gen[gens->n - 1]))
			view->merged = &rs->merged;

		if (l0 > 0)
		{
			uint64_t	oldest = ltg_gen_number(gens->gen[gens->n - 1]);

			while (view->first_run < l0 && rs->run[view->first_run].age >= oldest)
				view->first_run++;
		}
	}
}

bool
ltg_key_below(const LtgBound *min, const uint8_t *key, uint32_t key_len)
{
	int			c = ltg_key_cmp(key, key_len, min->bytes, min->len);

	return c < 0 || (c == 0 && min->truncated);
}

bool
ltg_key_above(const LtgBound *max, const uint8_t *key, uint32_t key_len)
{
	uint32_t	n = key_len < max->len ? key_len : max->len;
	int			c = memcmp(key, max->bytes, n);

	if (c != 0)
		return c > 0;
	return key_len > max->len && !max->truncated;
}

bool
ltg_bound_before(const LtgBound *max, const LtgBound *min)
{
	uint32_t	n = max->len < min->len ? max->len : min->len;
	int			c = memcmp(max->bytes, min->bytes, n);

	if (c != 0)
		return c < 0;
	if (max->truncated)
		return false;
	return max->len < min->len || (max->len == min->len && min->truncated);
}

bool
ltg_runs_overlap(const LtgRunRef *a, const LtgRunRef *b)
{
	return !ltg_bound_before(&a->max_key, &b->min_key) &&
		!ltg_bound_before(&b->max_key, &a->min_key);
}

uint32_t
ltg_runset_first(const LtgRunSet *rs, uint32_t from, uint32_t to,
				 const uint8_t *key, uint32_t key_len)
{
	while (from < to)
	{
		uint32_t	mid = from + (to - from) / 2;

		if (ltg_key_above(&rs->run[mid].max_key, key, key_len))
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

/* LTG_NOT_FOUND: this run does not hold the key. */
static LtgStatus
look_for_key(LtgSession *s, const LtgRunRef *ref, const uint8_t *key, uint32_t key_len,
			 bool exact)
{
	LtgPoint	p = {0};
	LtgVersion	v;
	LtgStatus	st;

	if (!ltg_bound_may_contain(&ref->min_key, &ref->max_key, key, key_len))
		return LTG_NOT_FOUND;
	if (!exact)
		return LTG_OK;
	st = ltg_run_get(s, ref, key, key_len, ltg_key_hash(key, key_len), true, &p, &v);
	ltg_point_close(s, &p);
	return st;
}

LtgStatus
ltg_runset_lacks_older(LtgSession *s, const LtgRunSet *rs, uint64_t age, const uint8_t *key,
					   uint32_t key_len, bool exact, bool *absent)
{
	*absent = false;
	for (uint32_t i = 0; i < rs->level_start[1]; i++)
	{
		LtgStatus	st;

		if (rs->run[i].age >= age)
			continue;
		st = look_for_key(s, &rs->run[i], key, key_len, exact);
		if (st != LTG_NOT_FOUND)
			return st;
	}
	return ltg_runset_lacks_key(s, rs, 1, key, key_len, exact, absent);
}

LtgStatus
ltg_runset_lacks_key(LtgSession *s, const LtgRunSet *rs, uint32_t level,
					 const uint8_t *key, uint32_t key_len, bool exact, bool *absent)
{
	*absent = false;
	for (; level < LTG_LEVELS_MAX; level++)
	{
		uint32_t	i = rs->level_start[level];
		uint32_t	to = rs->level_start[level + 1];

		if (level > 0)
			i = ltg_runset_first(rs, i, to, key, key_len);
		for (; i < to; i++)
		{
			LtgStatus	st;

			if (level > 0 && ltg_key_below(&rs->run[i].min_key, key, key_len))
				break;
			st = look_for_key(s, &rs->run[i], key, key_len, exact);
			if (st != LTG_NOT_FOUND)
				return st;
		}
	}
	*absent = true;
	return LTG_OK;
}
