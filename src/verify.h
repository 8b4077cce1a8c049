/*
 * verify.h
 *	  What the files behind lightning_check share.
 */
#ifndef LIGHTNING_VERIFY_H
#define LIGHTNING_VERIFY_H

#include "lightning.h"

/* What was found.  The engine must not be thrown past: keep, then return. */
typedef struct LightningProblems
{
	MemoryContext context;
	char	  **text;
	int			n;
	int			max;
	uint64		more;			/* not kept */
} LightningProblems;

extern void lightning_problem(LightningProblems *p, const char *fmt,...) pg_attribute_printf(2, 3);

/* Do the rows of a table and the entries of its indexes agree? */
extern void lightning_check_indexes(Relation rel, LightningProblems *p);

#endif
