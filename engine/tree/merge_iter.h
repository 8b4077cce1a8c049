/*
 * merge_iter.h
 *	  K-way merge by key over memtable generations and runs, in both
 *	  directions, the versions of a key newest first.
 *
 * Sources are added newest first (S2 of shared.h); that order decides between
 * versions of one key.  The merge lives within one epoch: close it, or at least
 * ltg_merge_clear it, before the epoch is left.  It allocates process-local
 * memory only, and keeps it over ltg_merge_clear for the next use.
 */
#ifndef LTG_MERGE_ITER_H
#define LTG_MERGE_ITER_H

#include "tree/runset.h"

typedef struct LtgMergeSource
{
	/* a generation */
	LtgGeneration *gen;			/* NULL: runs */
	LtgMemList *list;
	LtgMemNode *node;
	LtgMemVersion *mv;
	LtgMemVersion *newest;		/* the first version that was read of the key */
	const LtgBound *from;		/* keys below it are left out; NULL: none */
	/* or runs that follow each other in key order */
	const LtgRunRef *run;
	uint32_t	n_runs;
	uint32_t	at;				/* the one that is open */
	LtgRunIter *it;				/* NULL: none open */
	/* current key */
	const uint8_t *key;
	uint32_t	key_len;
	uint32_t	rank;			/* 0 = newest */
	uint64_t	prefix;			/* first 8 bytes, big-endian */
} LtgMergeSource;

typedef struct LtgMerge
{
	LtgSession *s;
	LtgCacheUse use;
	bool		backward;
	uint32_t	n_src, cap;
	LtgMergeSource *src;
	LtgMergeSource **order;		/* live sources by (key, rank) */
	uint32_t	n_live;
	uint32_t	n_equal;		/* order[0..n_equal) stand on the current key */
	/* walk over the current key's versions */
	uint32_t	v_src;
	bool		v_started;
	/* dead keys in a row, all from one generation */
	LtgMergeSource *passing;	/* NULL: none */
	LtgMemPass	pass;
} LtgMerge;

/* m is zeroed memory, or one that was cleared. */
extern void ltg_merge_init(LtgMerge *m, LtgSession *s, LtgCacheUse use, bool backward);
/* `from`: without the keys below it; NULL: all. */
extern LtgStatus ltg_merge_add_gen(LtgMerge *m, LtgGeneration *g, LtgMemList *l,
								   const LtgBound *from) LTG_MUST_CHECK;
/* n disjoint runs of one level >= 1 as a run set orders them, or a single one. */
extern LtgStatus ltg_merge_add_level(LtgMerge *m, const LtgRunRef *runs, uint32_t n) LTG_MUST_CHECK;
/*
 * All sources of a store; of the runs only those that may hold keys in
 * [lo, hi), NULL = open.  unseen: without generations all of whose versions have
 * such an id or a later one (LtgSnapshot.unseen); 0: with all.
 */
extern LtgStatus ltg_merge_add_view(LtgMerge *m, uint64_t store_id, const LtgView *view,
									LtgXid unseen,
									const uint8_t *lo, uint32_t lo_len,
									const uint8_t *hi, uint32_t hi_len) LTG_MUST_CHECK;
extern void ltg_merge_clear(LtgMerge *m);
/* The version just returned comes from a generation. */
static inline bool
ltg_merge_in_memory(const LtgMerge *m)
{
	return m->order[m->v_src]->gen != NULL;
}
extern void ltg_merge_free(LtgMerge *m);

/*
 * Position at the first key >= key (forward) or the last key <= key
 * (backward); NULL: at the beginning or end.  `after`: strictly beyond key.
 * LTG_END when there is none.
 */
extern LtgStatus ltg_merge_seek(LtgMerge *m, const uint8_t *key, uint32_t key_len,
								bool after) LTG_MUST_CHECK;
/* The next key in the merge's direction. */
extern LtgStatus ltg_merge_next(LtgMerge *m) LTG_MUST_CHECK;

/*
 * The same, forward, from a key whose versions were read: aborted ones and perhaps a
 * tombstone that every snapshot sees.  May leave out more keys like this one, which
 * only those who look for graves would miss.
 */
extern LtgStatus ltg_merge_next_dead(LtgMerge *m) LTG_MUST_CHECK;

static inline void
ltg_merge_key(const LtgMerge *m, const uint8_t **key, uint32_t *key_len)
{
	*key = m->order[0]->key;
	*key_len = m->order[0]->key_len;
}

/*
 * Versions of the current key: the newest at the first call, then older ones;
 * LTG_END.  Payloads stay valid until the merge moves to another key.
 */
extern LtgStatus ltg_merge_version(LtgMerge *m, LtgVersion *v) LTG_MUST_CHECK;
/* Mark the version just returned, if it is in memory. */
extern void ltg_merge_mark(LtgMerge *m, LtgState fate);

/*
 * Fast scan: when the current key is in one source only and that is a run, its
 * iterator; else NULL.  *bound is the next key of any other source, NULL if
 * there is none.
 */
extern LtgRunIter *ltg_merge_lone_run(const LtgMerge *m, const uint8_t **bound,
									  uint32_t *bound_len);
/* The rest of the lone run's block was consumed. */
extern LtgStatus ltg_merge_leave_block(LtgMerge *m) LTG_MUST_CHECK;
/* The lone run was consumed up to (not including) key. */
extern LtgStatus ltg_merge_skip_lone_to(LtgMerge *m, const uint8_t *key,
										uint32_t key_len) LTG_MUST_CHECK;

#endif
