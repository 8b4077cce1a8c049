/*
 * compat.h
 *	  The only place that looks at PG_VERSION_NUM.
 */
#ifndef LIGHTNING_COMPAT_H
#define LIGHTNING_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "lightning needs PostgreSQL 15 or later"
#endif

#endif
