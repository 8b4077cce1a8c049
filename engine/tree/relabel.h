/*
 * relabel.h
 *	  Versions that nobody can tell apart get one transaction id, so that the
 *	  records of a block compress to nothing.
 *
 * Beside an old snapshot the newest version of every changed row can't be
 * settled, and would keep 8 bytes that don't compress.  But with known snapshots K
 * and floor F (LtgLive), two committed writers x, y < F whom each snapshot in K
 * sees alike are the same to every snapshot there is or will be.
 *
 * Invariants, for committed puts that are not settled; nothing else is touched
 *	 N1. Such a version's transaction id is that of its writer, or of another
 *		 committed writer of this store: every snapshot there is or will be sees
 *		 both or neither.  It is not below the horizon (else the version were
 *		 settled).
 *	 N2. Its command id is its writer's own, or 0 if the writer has ended.
 *	 N3. Its sequence number is not above that of its log record, and the
 *		 versions of a key stay in their order, here and over all sources of the
 *		 store.  Level-0 runs stay disjoint (S3).
 * Tombstones keep all of theirs: VACUUM computes from them what a standby must not
 * see any more, and which graves may go.
 */
#ifndef LTG_RELABEL_H
#define LTG_RELABEL_H

#include "base/session.h"
#include "base/version.h"

#define LTG_RELABEL_CLASSES 128

typedef struct LtgRelabel
{
	LtgPort    *port;
	const LtgLive *live;
	LtgSeq		seq_base;
	LtgXid		last_xid;		/* the last answer; 0: none */
	LtgXid		last_label;		/* 0: it keeps its own */
	uint32_t	n;
	struct
	{
		uint64_t	seen_by;	/* known snapshots, by bit */
		LtgXid		label;		/* the first writer that was met */
	}			class[LTG_RELABEL_CLASSES];
} LtgRelabel;

/*
 * For the versions of one store.  seq_base: every version of the store that is not
 * among those relabelled but older than one of them with the same key has a smaller
 * sequence number; 0: not known, they all keep theirs.  live is kept.
 */
extern void ltg_relabel_init(LtgRelabel *r, LtgSession *s, const LtgLive *live,
							 LtgSeq seq_base);
/* v[0..n): what ltg_gc_key has left of one key, newest first. */
extern void ltg_relabel_key(LtgRelabel *r, LtgVersion *v, uint32_t n);

#endif
