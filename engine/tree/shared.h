/*
 * shared.h
 *	  Layout of the shared region, and the structures in it that several
 *	  modules of the tree use: generations list, stores, files, counters.
 *
 * Publication order (what makes lock-free reading right)
 *	 S1. A reader loads the generation list before the store's run set.  A
 *		 flush stores the new run sets before it removes the generation.  So
 *		 a reader sees each version at least once; versions seen twice have
 *		 the same seq, or are settled in the older source, and the newer
 *		 source decides first.
 *	 S2. Sources of a store, newest first: active generation, frozen ones by
 *		 falling number, level 0 runs by falling age, levels 1, 2, ...
 *		 Every version of a key in a newer source is newer than, or the same
 *		 as, each of its versions in an older source.
 *	 S3. Freezing takes all LTG_LOCK_PIN_* exclusively for as long as it takes
 *		 to read the log position B and swap two pointers.  So a generation
 *		 ends exactly at B: every record with LSN <= B is in it or older
 *		 ones, every later one in newer ones.
 *	 S4. The manifest's D is the B of the newest generation it contains, so
 *		 replay skips exactly the records with LSN <= D.
 *	 S5. Run sets are immutable; a store's pointer to one is replaced under
 *		 LTG_LOCK_META, after the manifest that describes it is durable.
 */
#ifndef LTG_TREE_SHARED_H
#define LTG_TREE_SHARED_H

#include "base/epoch.h"
#include "base/shalloc.h"
#include "ltg.h"
#include "storage/cache.h"
#include "storage/run.h"
#include "tree/memtable.h"

#define LTG_GENERATIONS_MAX 16
#define LTG_LEVELS_MAX 8

/* Immutable list of a store's runs: level 0 by falling age, then level 1 by
 * key, level 2 by key, ... level_start[i]..level_start[i+1] are level i. */
typedef struct LtgRunSet
{
	uint32_t	n;
	uint32_t	level_start[LTG_LEVELS_MAX + 1];
	LtgRunRef	run[];
} LtgRunSet;

struct LtgStore
{
	_Atomic uint64_t id;		/* unique in the region's life; 0 = free */
	LtgStoreKey key;
	LtgSeq		stamp;
	_Atomic uint32_t flags;
	_Atomic uint64_t next_rowid;
	_Atomic uint64_t graves_cleared;	/* seq */
	LtgRunSet  *_Atomic runs;	/* NULL: none */
	uint32_t	compacting;		/* a compaction works on it (LTG_LOCK_COMPACT) */
	LtgStore   *hash_next;		/* bucket chain; LTG_LOCK_META to change */
};

/* Immutable list of generations, newest first; [0] is active. */
typedef struct LtgGenList
{
	uint32_t	n;
	LtgGeneration *gen[LTG_GENERATIONS_MAX];
} LtgGenList;

typedef struct LtgSharedFile	/* a data file in use */
{
	LtgFileId	id;
	uint64_t	bytes;
	uint32_t	refs;			/* run refs in current run sets */
	uint32_t	missing;		/* absent or damaged when loaded */
	uint64_t	obsolete_at;	/* first manifest number without it, 0 = in use */
	uint64_t	epoch_stamp;	/* when it became obsolete */
	struct LtgSharedFile *next;
} LtgSharedFile;

#endif
