/*
 * relabel.h
 *	  Sequence numbers that say no more than the order of a key's versions, so
 *	  that they compress to nothing.
 *
 * Beside an old snapshot the newest version of every changed row can't be settled,
 * and would keep a sequence number that doesn't compress.
 *
 * Invariants, for committed puts that are not settled; nothing else is touched
 *	 N1. Such a version's sequence number is not above that of its log record,
 *		 and the versions of a key stay in their order, here and over all
 *		 sources of the store.  Level-0 runs stay disjoint (S3).
 * Tombstones keep theirs: VACUUM computes from them which graves may go.
 */
#ifndef LTG_RELABEL_H
#define LTG_RELABEL_H

#include "base/version.h"

/*
 * v[0..n): what ltg_gc_key has left of one key, newest first.  seq_base: every
 * version of the store that is not among those relabelled but older than one of
 * them with the same key has a smaller sequence number; 0: not known, they all
 * keep theirs.
 */
extern void ltg_relabel_key(LtgSeq seq_base, LtgVersion *v, uint32_t n);

#endif
