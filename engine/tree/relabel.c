/*
 * relabel.c
 *	  See relabel.h; ARCHITECTURE.md has the argument.
 */
#include "tree/relabel.h"

/*
 * From the oldest to the newest: each sequence number is the least that is above
 * those of older versions.  As they rise, none is above the version's own.
 */
void
ltg_relabel_key(LtgSeq seq_base, LtgVersion *v, uint32_t n)
{
	LtgSeq		least = seq_base;

	if (seq_base == 0)
		return;
	while (n-- > 0)
	{
		if (v[n].state == LTG_COMMITTED && v[n].kind == LTG_PUT && v[n].seq > least)
			v[n].seq = least;
		/* a settled row from a file has none */
		if (v[n].seq >= least)
			least = v[n].seq + 1;
	}
}
