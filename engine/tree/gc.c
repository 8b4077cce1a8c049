/*
 * gc.c
 *	  See gc.h.
 */
#include "tree/gc.h"

#define FATES_FIRST_SLOTS 64
#define FATES_MAX_SLOTS 65536

typedef struct LtgFate
{
	LtgXid		xid;			/* 0: free */
	LtgXidStatus status;
} LtgFate;

void
ltg_fates_init(LtgFates *f, LtgSession *s)
{
	memset(f, 0, sizeof(*f));
	f->s = s;
}

void
ltg_fates_free(LtgFates *f)
{
	if (f->slot != NULL)
		f->s->port->free(f->s->port, f->slot);
	f->slot = NULL;
	f->n_slots = f->n_used = 0;
	f->last_xid = 0;
}

static LtgFate *
fate_slot(const LtgFates *f, LtgXid xid)
{
	uint64_t	i = (xid * UINT64_C(0x9E3779B97F4A7C15)) >> 32;

	for (;; i++)
	{
		LtgFate    *slot = &f->slot[i & (f->n_slots - 1)];

		if (slot->xid == xid || slot->xid == 0)
			return slot;
	}
}

/* Make room for one more; without memory the table just forgets. */
static void
fates_grow(LtgFates *f)
{
	LtgPort    *port = f->s->port;
	LtgFate    *old = f->slot;
	uint32_t	n_old = f->n_slots;
	uint32_t	n = n_old == 0 ? FATES_FIRST_SLOTS : n_old * 2;

	if (n_old != 0 && (f->n_used + 1) * 2 <= n_old)
		return;
	if (n > FATES_MAX_SLOTS || (f->slot = port->alloc(port, n * sizeof(LtgFate))) == NULL)
	{
		f->slot = old;
		f->n_used = 0;
		if (old != NULL)
			memset(old, 0, n_old * sizeof(LtgFate));
		return;
	}
	memset(f->slot, 0, n * sizeof(LtgFate));
	f->n_slots = n;
	for (uint32_t i = 0; i < n_old; i++)
		if (old[i].xid != 0)
			*fate_slot(f, old[i].xid) = old[i];
	if (old != NULL)
		port->free(port, old);
}

/*
 * An answer is remembered even when it is "in progress": for this round the
 * version is then kept as it is, which is always right.
 */
LtgStatus
ltg_fates_get(LtgFates *f, LtgXid xid, LtgXidStatus *status)
{
	LtgPort    *port = f->s->port;
	LtgError	e = {0};
	LtgFate    *slot;
	LtgStatus	st;

	LTG_ASSERT(xid != 0);
	if (xid == f->last_xid)
	{
		*status = f->last_status;
		return LTG_OK;
	}
	if (f->n_slots != 0)
	{
		slot = fate_slot(f, xid);
		if (slot->xid == xid)
		{
			f->last_xid = xid;
			*status = f->last_status = slot->status;
			return LTG_OK;
		}
	}
	st = port->xid_status(port, xid, status, &e);
	if (st != LTG_OK)
		return ltg_fail_port(f->s, st, &e, 0, 0);
	fates_grow(f);
	if (f->n_slots != 0)
	{
		slot = fate_slot(f, xid);
		slot->xid = xid;
		slot->status = *status;
		f->n_used++;
	}
	f->last_xid = xid;
	f->last_status = *status;
	return LTG_OK;
}

static void
settle(LtgVersion *v)
{
	v->state = LTG_SETTLED;
	if (v->kind != LTG_PUT)
		v->xid = 0;				/* a row's is shown */
	v->cid = 0;
	v->flags = 0;				/* they tell about the change that made the version */
	v->aux = 0;					/* no snapshot is old enough to follow the row */
}

/* The state in which a version goes on. */
static LtgStatus
resolve(const LtgGcRules *rules, LtgVersion *v)
{
	LtgXidStatus fate;

	if (ltg_version_says(v->kind, v->state == LTG_ABORTED) == LTG_SAYS_NEVER)
	{
		settle(v);
		return LTG_OK;
	}
	/*
	 * No host keeps what became of its transactions for the sake of a store that has
	 * nothing but locks.  That they have ended is known.
	 */
	if (rules->drop_ended && v->xid < rules->horizon)
		v->state = LTG_ABORTED;
	if (v->state == LTG_UNRESOLVED)
	{
		LTG_TRY(ltg_fates_get(rules->fates, v->xid, &fate));
		if (fate == LTG_XID_ABORTED)
			v->state = LTG_ABORTED;
		else if (fate == LTG_XID_COMMITTED)
			v->state = LTG_COMMITTED;
	}
	if (v->state == LTG_COMMITTED && rules->drop_ended)
		v->state = LTG_ABORTED;
	if (v->state == LTG_COMMITTED && v->xid < rules->horizon)
		settle(v);
	return LTG_OK;
}

/* ---- who needs a version ---- */

void
ltg_live_sample(LtgSession *s, LtgLive *live)
{
	live->n = 0;
	live->floor = 0;
	live->host = NULL;
	if (s->port->live != NULL)
		s->port->live(s->port, live);
	LTG_ASSERT(live->n <= LTG_LIVE_MAX);
}

void
ltg_live_free(LtgSession *s, LtgLive *live)
{
	if (live->host != NULL)
		s->port->live_end(s->port, live);
	live->host = NULL;
	live->n = 0;
}

/* Who has not met the version that decides for him, on the way down a key. */
typedef struct Needs
{
	const LtgLive *live;		/* NULL: the horizon stands for all */
	LtgPort    *port;
	uint64_t	open;			/* known snapshots, by bit */
	bool		others;			/* everybody else */
} Needs;

static void
needs_init(Needs *needs, const LtgGcRules *rules)
{
	needs->live = rules->live != NULL && rules->live->floor > 0 ? rules->live : NULL;
	needs->port = rules->fates->s->port;
	needs->open = 0;
	needs->others = true;
	if (needs->live != NULL)
		needs->open = needs->live->n == 64 ? UINT64_MAX : (UINT64_C(1) << needs->live->n) - 1;
}

/*
 * May somebody have this version as the newest one he sees?  REQUIRES: versions
 * are asked about newest first.  One whose writer may still commit is needed,
 * and hides nothing.
 */
static bool
is_needed(Needs *needs, const LtgVersion *v)
{
	bool		needed = needs->others;

	if (needs->live == NULL || v->state == LTG_UNRESOLVED)
		return true;
	if (v->state == LTG_SETTLED)
		return needed || needs->open != 0;
	if (v->xid < needs->live->floor)
		needs->others = false;
	for (uint32_t i = 0; i < needs->live->n; i++)
	{
		if ((needs->open >> i & 1) == 0)
			continue;
		switch (needs->port->sees(needs->port, needs->live, i, v->xid))
		{
			case LTG_SEES_YES:
				needs->open &= ~(UINT64_C(1) << i);
				needed = true;
				break;
			case LTG_SEES_MAYBE:
				needed = true;
				break;
			case LTG_SEES_NO:
				break;
		}
	}
	return needed;
}

static bool
grave_is_kept(const LtgGcRules *rules, LtgSeq seq)
{
	return rules->keep_graves && seq > rules->graves_cleared;
}

LtgStatus
ltg_gc_key(const LtgGcRules *rules, LtgVersion *v, uint32_t n, LtgGcOutcome *out)
{
	LtgSeq		newest_dropped = 0;
	bool		dropped = false;
	bool		settled = false;
	Needs		needs;

	memset(out, 0, sizeof(*out));
	needs_init(&needs, rules);
	for (uint32_t i = 0; i < n && !settled; i++)
	{
		LTG_TRY(resolve(rules, &v[i]));
		if (v[i].state == LTG_ABORTED)
		{
			if (v[i].seq > newest_dropped)
				newest_dropped = v[i].seq;
			dropped = true;
			continue;
		}
		settled = v[i].state == LTG_SETTLED;
		if (!is_needed(&needs, &v[i]))
		{
			out->pruned++;
			continue;
		}
		if (out->kept != i)
			v[out->kept] = v[i];
		out->kept++;
	}
	if (dropped && grave_is_kept(rules, newest_dropped))
	{
		out->gone.kind = LTG_GONE;
		out->gone.state = LTG_SETTLED;
		out->gone.seq = newest_dropped;
	}
	if (out->kept == 0)
		out->vanished = out->asks_bottom = out->gone.seq != 0;
	else
	{
		const LtgVersion *last = &v[out->kept - 1];

		/* a grave that is kept anyway needs no question */
		out->asks_bottom = last->state == LTG_SETTLED && last->kind != LTG_PUT &&
			!grave_is_kept(rules, last->seq);
	}
	return LTG_OK;
}

void
ltg_gc_bottom(LtgVersion *v, LtgGcOutcome *out)
{
	if (!out->asks_bottom)
		return;
	out->asks_bottom = false;
	if (!out->vanished)
	{
		LTG_ASSERT(out->kept > 0 && v[out->kept - 1].state == LTG_SETTLED &&
				   v[out->kept - 1].kind != LTG_PUT);
		out->kept--;
	}
	if (out->kept == 0 && out->gone.seq != 0)
		v[out->kept++] = out->gone;
}
