/*
 * compact_cut.c
 *	  A merge takes effect in pieces: what its inputs lose with each of them.
 *
 * When an output is finished, everything up to its last key is in outputs, so
 * it can be published: inputs that end there go, and those that go on are cut
 * (R6 of run.h) behind that key.  Files of the output level thus come free one
 * by one instead of all at the end, and a merge needs room for a few files
 * beside its inputs, not for all it writes.
 */
#include "tree/compact.h"

bool
ltg_cut_at(LtgBound *b, const uint8_t *key, uint32_t key_len, bool behind)
{
	if (key_len + behind > LTG_BOUND_BYTES)
		return false;
	ltg_bound_set(b, key, key_len);
	b->len += behind;			/* the least key behind: a zero byte follows */
	return true;
}

uint64_t
ltg_cut_frees(const LtgRunRef *in, uint32_t n, const LtgBound *at)
{
	uint64_t	bytes = 0;

	for (uint32_t i = 0; i < n; i++)
		if (in[i].level > 0 && ltg_bound_before(&in[i].max_key, at))
			bytes += in[i].disk_bytes;
	return bytes;
}

void
ltg_cut_inputs(LtgRunRef *in, uint32_t *n, const LtgBound *at, LtgRunRef *remove,
			   uint32_t *n_remove, LtgRunRef *add, uint32_t *n_add)
{
	uint32_t	left = 0;

	LTG_ASSERT(!at->truncated);
	*n_remove = *n_add = 0;
	for (uint32_t i = 0; i < *n; i++)
	{
		LtgRunRef	r = in[i];

		if (ltg_bound_before(&r.max_key, at))
		{
			remove[(*n_remove)++] = r;
			continue;
		}
		/* a truncated minimum may be anywhere behind its bytes */
		if (ltg_key_below(at, r.min_key.bytes, r.min_key.len))
		{
			remove[(*n_remove)++] = r;
			r.min_key = *at;
			r.cut = true;
			add[(*n_add)++] = r;
		}
		in[left++] = r;
	}
	*n = left;
}
