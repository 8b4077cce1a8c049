/*
 * version.h
 *	  What a row version is, and the snapshot it is judged against.
 *
 * A version is (key, seq) -> {writer's xid, command id, kind, tag, payload}.
 * There is no xmax: a delete is a version of its own.
 *
 * States of a version (LtgVersion.state, in the order a version moves through
 * them; a version in a file is in the state it had when the file was written):
 *	 UNRESOLVED  the writer's fate must be asked of the host
 *	 COMMITTED	 the writer committed; snapshots may still not see it
 *	 SETTLED	 committed and older than every snapshot; cid is gone.  A row
 *				 keeps its writer's xid, for display only: nobody else asks
 *	 ABORTED	 memory only: dropped by the next flush
 */
#ifndef LTG_VERSION_H
#define LTG_VERSION_H

#include "base/common.h"

typedef enum LtgKind
{
	LTG_PUT = 0,
	LTG_DELETE = 1,				/* tombstone; aux = key-specific forwarding
								 * address (the rowid an updated row moved
								 * to, or LTG_AUX_*) */
	LTG_GONE = 2				/* tombstone of a row that no snapshot may ever
								 * see (super-deleted or aborted insert): kept
								 * only so that stock indexes can be cleaned;
								 * visible to everybody as "no row" */
} LtgKind;

/*
 * What a version says to whoever goes through a key's versions, newest first.
 * Kinds are interpreted here and nowhere else: every reader asks this of a version
 * before anything else, and is left with puts and deletes that may count.
 */
typedef enum LtgSays
{
	LTG_SAYS_NOTHING,			/* aborted: as if it were not there */
	LTG_SAYS_CHANGE,			/* a put or delete: counts for those who see its
								 * writer */
	LTG_SAYS_NEVER				/* there is no row and never was, for nobody, and
								 * whatever becomes of the writer: go no further */
} LtgSays;

static inline LtgSays
ltg_version_says(LtgKind kind, bool aborted)
{
	if (LTG_UNLIKELY(kind == LTG_GONE))
		return LTG_SAYS_NEVER;
	return LTG_UNLIKELY(aborted) ? LTG_SAYS_NOTHING : LTG_SAYS_CHANGE;
}

#define LTG_AUX_NONE 0				/* plain delete */
#define LTG_AUX_OTHER_PARTITION UINT64_MAX	/* moved to another partition */

typedef enum LtgState
{
	LTG_UNRESOLVED = 0,
	LTG_COMMITTED = 1,
	LTG_SETTLED = 2,
	LTG_ABORTED = 3
} LtgState;

/* A version as readers see it.  Pointers live as long as their source says. */
typedef struct LtgVersion
{
	const uint8_t *payload;
	uint32_t	payload_len;
	LtgKind		kind;
	LtgState	state;
	uint8_t		tag;			/* see DESIGN of row TIDs: 0..126 */
	uint8_t		flags;			/* LTG_VF_* */
	uint32_t	cid;
	LtgXid		xid;			/* SETTLED: of a put, 0 if it is not known (then
								 * from an old file), else 0 */
	LtgSeq		seq;			/* 0 when SETTLED and read from a file, except
								 * tombstones, which always keep theirs; of a
								 * COMMITTED put in a file it tells the order */
	uint64_t	aux;			/* tombstones: forwarding address */
} LtgVersion;

#define LTG_VF_FLAG_MASK 0x0F	/* host-defined flags that survive in files, until
								 * the version is settled */

/*
 * A snapshot.  A COMMITTED version with xid < xmin is visible without asking, and
 * one with xid >= xmax (0: not known) is not; everything else that is neither
 * SETTLED nor ABORTED goes to judge(), which answers whether the snapshot sees
 * (xid, cid) and, when it learns the final fate of xid, says so in *fate
 * (COMMITTED or ABORTED, else leave untouched) so that the version can be marked.
 * Of xid >= unseen (0: not known) it sees nothing, whatever became of it: there
 * are none of its own among them.  judge() runs inside an epoch: it must
 * not block for long, must not longjmp; on a host failure it sets
 * snap->failed and returns false, and the read returns LTG_HOST_ERROR.
 */
typedef struct LtgSnapshot LtgSnapshot;
struct LtgSnapshot
{
	LtgXid		xmin;
	LtgXid		xmax;
	LtgXid		unseen;
	bool		(*judge) (LtgSnapshot *snap, LtgXid xid, uint32_t cid,
						  LtgState *fate);
	void	   *arg;
	bool		failed;
};

#endif
