/*
 * visible.h
 *	  How a version looks to a snapshot; inline because it is asked per row.
 */
#ifndef LTG_VISIBLE_H
#define LTG_VISIBLE_H

#include "base/version.h"

/*
 * Whether the snapshot sees what the version says.  *fate starts as the
 * version's state and is changed when the judge learns more.
 */
static inline bool
ltg_version_seen(LtgSnapshot *snap, const LtgVersion *v, LtgState *fate)
{
	*fate = v->state;
	if (LTG_LIKELY(v->state == LTG_SETTLED))
		return true;
	switch (ltg_version_says(v->kind, v->state == LTG_ABORTED))
	{
		case LTG_SAYS_NEVER:
			return true;
		case LTG_SAYS_NOTHING:
			return false;
		case LTG_SAYS_CHANGE:
			break;
	}
	if (v->state == LTG_COMMITTED)
	{
		if (v->xid < snap->xmin)
			return true;
		/* xmax 0 is none */
		if (v->xid > snap->xmax - 1)
			return false;
	}
	return snap->judge(snap, v->xid, v->cid, fate);
}

#endif
