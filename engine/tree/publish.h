/*
 * publish.h
 *	  Changing the set of files: the one way flush and compaction make their
 *	  output part of the database.
 */
#ifndef LTG_PUBLISH_H
#define LTG_PUBLISH_H

#include "tree/shared.h"

/* Replacement of some runs of one store. */
typedef struct LtgStoreEdit
{
	uint64_t	store_id;		/* a store dropped meanwhile is skipped: its
								 * added runs are then garbage in their file */
	const LtgRunRef *add;
	uint32_t	n_add;
	const LtgRunRef *remove;	/* matched by (file, root_offset) */
	uint32_t	n_remove;
	const LtgMerged *merged;	/* S6; NULL: as it was */
} LtgStoreEdit;

typedef struct LtgNewFile
{
	LtgFileId	id;
	uint64_t	bytes;
} LtgNewFile;

typedef struct LtgEdit
{
	LtgSeq		durable;		/* new D; 0: unchanged */
	LtgSeq		wal_needed;		/* the log must be durable up to here before
								 * the manifest may be: newest seq and newest
								 * commit the files rely on */
	const LtgStoreEdit *stores;
	uint32_t	n_stores;
	const LtgNewFile *files;	/* already finished (synced and renamed) */
	uint32_t	n_files;
	LtgGeneration *flushed;		/* leaves the generation list, or NULL */
} LtgEdit;

/*
 * Flushes the log up to wal_needed, writes and syncs a new manifest that
 * describes the outcome, and then, under LTG_LOCK_META, swaps the stores' run
 * sets, removes the flushed generation, retires what was replaced.  At most
 * one edit per store.  On failure nothing has changed (the new files are the
 * caller's to remove).  REQUIRES no epoch, no lock above LTG_LOCK_MANIFEST.
 */
extern LtgStatus ltg_publish(LtgSession *s, const LtgEdit *edit) LTG_MUST_CHECK;

/*
 * Publish a manifest if stores were created, dropped or changed since the last
 * one and that was a while ago (or `now`): else the space of dropped stores
 * would not come back until the next flush.
 */
#define LTG_PUBLISH_DELAY_US 1000000
extern bool ltg_publish_due(LtgSession *s);
extern LtgStatus ltg_publish_pending(LtgSession *s, bool now) LTG_MUST_CHECK;

/* A new data file number. */
extern LtgFileId ltg_new_file_id(LtgSession *s);

/*
 * Generations, oldest frozen one last.  Freeze: make a fresh generation active
 * (S3); LTG_BUSY when no arena is free.  *cut = B.
 */
extern LtgStatus ltg_freeze(LtgSession *s, LtgSeq *cut) LTG_MUST_CHECK;
/* The oldest frozen generation and its B; NULL if none. REQUIRES LTG_LOCK_FLUSH. */
extern LtgGeneration *ltg_oldest_frozen(LtgSession *s, LtgSeq *cut);
/* The current list (S1); REQUIRES an epoch. */
extern const LtgGenList *ltg_generations(LtgSession *s);
/* The live store with this id, or NULL; REQUIRES an epoch. */
extern LtgStore *ltg_store_by_id(LtgSession *s, uint64_t id);
/* Some live store that a compaction might want, for picking: calls fn for each
 * live store; fn returns false to stop.  REQUIRES an epoch. */
typedef bool (*LtgEachStoreFn) (void *arg, LtgStore *store);
extern void ltg_each_store(LtgSession *s, LtgEachStoreFn fn, void *arg);

/* Counters that flush and compaction add to (LtgStats). */
extern void ltg_count_flush(LtgSession *s, const LtgFlushResult *r);
extern void ltg_count_compaction(LtgSession *s, const LtgCompactResult *r);

#endif
