/*
 * toast.h
 *	  Long values: what inserts, updates and deletes do about them.
 *
 * The TOAST relation of a lightning table is a heap, filled and cleaned by
 * heap's own functions, so detoasting needs nothing from us.
 */
#ifndef LIGHTNING_TOAST_H
#define LIGHTNING_TOAST_H

#include "executor/tuptable.h"
#include "utils/rel.h"

/* Values ready for lightning_form_row. */
typedef struct LightningToasted
{
	Datum	   *values;
	bool	   *isnull;
	void	   *owned;			/* what lightning_toast_release frees */
} LightningToasted;

/*
 * The values to store for the slot: its own where they are short, else ones
 * that were compressed or moved to the TOAST relation.  oldslot is NULL for an
 * insert; for an update it shows the version that is replaced, and its values
 * that the new version no longer uses are deleted from the TOAST relation.
 * options are those of tuple_insert.  Call it with no latch held and nothing
 * reserved: it writes to other relations.
 */
extern void lightning_toast_values(Relation rel, TupleTableSlot *slot, TupleTableSlot *oldslot,
								   int options, LightningToasted *out);
extern void lightning_toast_release(LightningToasted *out);

/*
 * Delete the TOAST values of a version that is being deleted.  is_speculative:
 * it was inserted speculatively and is withdrawn by its own inserter.
 */
extern void lightning_toast_delete(Relation rel, TupleTableSlot *oldslot, bool is_speculative);

/*
 * For old versions, that others have replaced: values of the slot that live in the
 * TOAST relation are replaced by ones in memory, those of the columns in `attrs` (as
 * pull_varattnos() makes it; NULL: all).  False if chunks of them are gone.
 *
 * VACUUM removes chunks by its own horizon, which may be ahead of one that is
 * computed later: a snapshot's xmin counts transactions of other databases, a
 * standby's feedback comes late.  But whoever has such a snapshot sees the newer
 * version, or he would have held VACUUM up.  So a version whose values are gone is
 * one that nobody needs, whatever a horizon says.
 */
extern bool lightning_toast_fetch(TupleTableSlot *slot, const Bitmapset *attrs);

/* Cheap: can this encoded row have values in the TOAST relation at all? */
extern bool lightning_row_has_external(const uint8 *payload, uint32 len);

#endif
