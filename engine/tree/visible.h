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
	if (LTG_LIKELY(v->state == LTG_SETTLED || v->kind == LTG_GONE))
		return v->state != LTG_ABORTED;
	if (v->state == LTG_ABORTED)
		return false;
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
