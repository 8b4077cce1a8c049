/*
 * compat.h
 *	  The only place that looks at PG_VERSION_NUM.
 */
#ifndef LIGHTNING_COMPAT_H
#define LIGHTNING_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "lightning needs PostgreSQL 15 or later"
#endif

/*
 * Whoever updates a tuple of pg_class keeps updates in place (of relfrozenxid and
 * the like) out meanwhile: a lock on the tuple, since the minor releases of
 * November 2024.
 */
#if (PG_VERSION_NUM >= 150009 && PG_VERSION_NUM < 160000) || \
	(PG_VERSION_NUM >= 160005 && PG_VERSION_NUM < 170000) || PG_VERSION_NUM >= 170001
#define LIGHTNING_HAVE_INPLACE_LOCK 1
#endif

#include "utils/wait_event.h"

/*
 * Before 17 an extension can't name its own wait events; LWLock tranches have
 * names of our choice, and only the name is shown.
 */
#define LIGHTNING_WAIT_EVENT(tranche) (PG_WAIT_LWLOCK | (tranche))

#endif
