/*
 * ahead.h
 *	  Rows read ahead by an index scan whose index is in about the order of the
 *	  table.
 */
#ifndef LIGHTNING_AHEAD_H
#define LIGHTNING_AHEAD_H

#include "versions.h"

/* Zero-initialise, but for the memory context that it lives in. */
typedef struct LightningAhead
{
	MemoryContext context;

	/* what is asked for */
	uint64		last;			/* row id asked for last */
	uint64		began;			/* ... and the first of the streak */
	uint32		streak;			/* so many in a row were close to each other */

	/* how much reading ahead has brought so far */
	uint32		wanted;			/* streak that starts it; 0: not known yet */
	uint32		rows;			/* to read the next time */

	/* the window: the batch has every row in [from, to) that is visible */
	LightningScanGuard *guard;	/* NULL: never read ahead yet */
	LtgBatch	batch;
	uint64		from;
	uint64		to;
	uint32		at;				/* row of the batch that was found last, */
	uint64		at_rowid;		/* and its row id */
	uint32		hits;			/* look-ups that the window answered */
	uint8		lo[LIGHTNING_KEY_LEN];
	uint8		hi[LIGHTNING_KEY_LEN];
} LightningAhead;

typedef enum LightningAheadResult
{
	LIGHTNING_AHEAD_NO_ANSWER,	/* read the row yourself */
	LIGHTNING_AHEAD_ROW,
	LIGHTNING_AHEAD_NO_ROW
} LightningAheadResult;

/* A look-up. *v is valid until the next one. */
extern LightningAheadResult lightning_ahead_get(LightningAhead *a, Relation rel, LightningSnapshot *snap,
												uint64 rowid, LtgVersion *v);
/* The snapshot is another one. */
extern void lightning_ahead_forget(LightningAhead *a);
extern void lightning_ahead_end(LightningAhead *a);

#endif
