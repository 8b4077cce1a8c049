/*
 * versions.h
 *	  Reading all versions of keys: for snapshots other than MVCC, for the
 *	  maintenance commands, and for serializable transactions.
 */
#ifndef LIGHTNING_VERSIONS_H
#define LIGHTNING_VERSIONS_H

#include "lightning.h"

/* The versions of one key, newest first, valid until the next call. */
typedef struct LightningVersions
{
	uint64		rowid;
	int			n;
	LtgVersion *v;

	/* private */
	int			max;
	bool		failed;			/* out of memory while collecting */
	uint8	   *bytes;			/* copies of payloads */
	Size		bytes_size;
	Size		bytes_used;
	MemoryContext context;
} LightningVersions;

extern void lightning_versions_init(LightningVersions *kv);	/* in CurrentMemoryContext */
extern void lightning_versions_free(LightningVersions *kv);

/*
 * All versions of one row down to the newest settled one; n = 0 when there is
 * nothing.  With latest_only, down to the newest committed one.
 */
extern void lightning_versions_get(Relation rel, uint64 rowid, bool latest_only,
								   LightningVersions *kv);
/* Only down to the version that decides what this snapshot sees. */
extern void lightning_versions_get_for(Relation rel, uint64 rowid, Snapshot snap,
									   LightningVersions *kv);

/* The same for every row of a range, in the order of row ids. */
typedef struct LightningVersionScan LightningVersionScan;

extern LightningVersionScan *lightning_versions_open(Relation rel, uint64 lo, uint64 hi,
													 bool backward);
extern void lightning_versions_restart(LightningVersionScan *scan, uint64 lo, uint64 hi,
									   bool backward);
/* NULL at the end. */
extern LightningVersions *lightning_versions_next(LightningVersionScan *scan);
/* No payloads, from the next start on. */
extern void lightning_versions_keys_only(LightningVersionScan *scan);
/* Without generations that are by this transaction and later ones only. */
extern void lightning_versions_ignore_from(LightningVersionScan *scan, LtgXid xid);
/*
 * Between two keys: the next rows if they can be described together.  Each has
 * one version, a put, all by one writer (base/span.h).  They still are the next
 * ones, until they are passed.
 */
extern bool lightning_versions_span(LightningVersionScan *scan, LtgSpan *span);
extern void lightning_versions_pass(LightningVersionScan *scan, uint32 n);
extern void lightning_versions_close(LightningVersionScan *scan);

/* snapshot.c */
extern LtgState lightning_version_fate(const LtgVersion *v, bool *mine);

/*
 * A walk over the versions of a key that count, newest first: puts and deletes
 * that are not aborted, of a row that was not withdrawn.
 */
typedef struct LightningWalk
{
	int			at;				/* the present one; n at the end */
	LtgState	fate;
	bool		mine;
	const LtgVersion *v;
	int			n;
} LightningWalk;

extern void lightning_walk_start(LightningWalk *w, const LtgVersion *v, int n);
extern bool lightning_walk_next(LightningWalk *w);

/*
 * What the snapshot sees of a row, given its versions (ABORTED ones may be
 * among them): index of the visible PUT, or -1.  Dirty: fills snap->xmin, xmax
 * and speculativeToken as HeapTupleSatisfiesDirty does.
 */
extern int	lightning_pick_version(Relation rel, const LightningVersions *kv, Snapshot snap);
/*
 * What inserts this row, by an open transaction of others: false if it was
 * withdrawn by now, else its token, or 0 if there is none.  Waits for nobody.
 */
extern bool lightning_speculative_look(Relation rel, uint64 rowid, uint32 *token);
extern bool lightning_versions_dead(Relation rel, const LtgVersion *v, int n);

/*
 * A row as maintenance commands see it, after HeapTupleSatisfiesVacuum.  oldest:
 * what committed before it is seen by everybody.
 */
typedef enum LightningRowStatus
{
	LIGHTNING_ROW_NEVER,		/* withdrawn, or nothing but aborted versions */
	LIGHTNING_ROW_DEAD,			/* deleted, and nobody needs it */
	LIGHTNING_ROW_LIVE,
	LIGHTNING_ROW_RECENTLY_DEAD,
	LIGHTNING_ROW_INSERT_IN_PROGRESS,
	LIGHTNING_ROW_UPDATE_IN_PROGRESS,	/* in place */
	LIGHTNING_ROW_DELETE_IN_PROGRESS
} LightningRowStatus;

typedef struct LightningRowState
{
	LightningRowStatus status;
	bool		mine;			/* in progress: by my own transaction */
	TransactionId xid;			/* in progress: whose */
	int			top;			/* newest version that is not aborted, or -1 */
	int			newest;			/* newest PUT that is not aborted, or -1 */
	int			base;			/* the one under newest, or -1 */
	bool		base_needed;	/* somebody may still see base */
} LightningRowState;

extern void lightning_classify_row(const LightningVersions *kv, LtgXid oldest,
								   LightningRowState *st);

/*
 * A serializable transaction reads this row: note the writers whose versions
 * it does not see.  picked as lightning_pick_version returned it.
 */
extern void lightning_check_conflict_out(Relation rel, Snapshot snap, const LightningVersions *kv);
/* ... and that this version was read: takes the predicate lock. */
extern void lightning_note_read(Relation rel, Snapshot snap, uint64 rowid, const LtgVersion *v);

/* Engine scans freed with a memory context, whatever happens to their owner. */
typedef struct LightningScanGuard
{
	LtgScan    *scan;			/* closed when the context goes, unless NULL */
	MemoryContextCallback callback;
} LightningScanGuard;

/* In CurrentMemoryContext. */
extern LightningScanGuard *lightning_guard_create(void);

#endif
