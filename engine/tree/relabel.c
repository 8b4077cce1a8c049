/*
 * relabel.c
 *	  See relabel.h; ARCHITECTURE.md has the argument.
 */
#include "tree/relabel.h"

void
ltg_relabel_init(LtgRelabel *r, LtgSession *s, const LtgLive *live, LtgSeq seq_base)
{
	r->port = s->port;
	r->live = live;
	r->seq_base = seq_base;
	r->last_xid = r->last_label = 0;
	r->n = 0;
}

/* False: the host can't say it of somebody. */
static bool
seen_by(const LtgRelabel *r, LtgXid xid, uint64_t *bits)
{
	*bits = 0;
	for (uint32_t i = 0; i < r->live->n; i++)
	{
		LtgSees		sees = r->port->sees(r->port, r->live, i, xid);

		if (sees == LTG_SEES_MAYBE)
			return false;
		if (sees == LTG_SEES_YES)
			*bits |= UINT64_C(1) << i;
	}
	return true;
}

/* 0: there is none but itself. */
static LtgXid
find_label(LtgRelabel *r, LtgXid xid)
{
	uint64_t	bits;

	if (!seen_by(r, xid, &bits))
		return 0;
	for (uint32_t i = 0; i < r->n; i++)
		if (r->class[i].seen_by == bits)
			return r->class[i].label;
	if (r->n == LTG_RELABEL_CLASSES)
		return 0;
	r->class[r->n].seen_by = bits;
	return r->class[r->n++].label = xid;
}

static void
relabel_writer(LtgRelabel *r, LtgVersion *v)
{
	/* no host that knows none gives a floor */
	if (v->xid >= r->live->floor)
		return;
	if (v->xid != r->last_xid)
	{
		r->last_label = find_label(r, v->xid);
		r->last_xid = v->xid;
	}
	if (r->last_label != 0)
		v->xid = r->last_label;
	v->cid = 0;
}

/*
 * From the oldest to the newest: each sequence number is the least that is above
 * those of older versions.  As they rise, none is above the version's own.
 */
void
ltg_relabel_key(LtgRelabel *r, LtgVersion *v, uint32_t n)
{
	LtgSeq		least = r->seq_base;

	while (n-- > 0)
	{
		if (v[n].state == LTG_COMMITTED && v[n].kind == LTG_PUT)
		{
			relabel_writer(r, &v[n]);
			if (r->seq_base != 0 && v[n].seq > least)
				v[n].seq = least;
		}
		/* a settled row from a file has none */
		if (v[n].seq >= least)
			least = v[n].seq + 1;
	}
}
