/*
 * hint.h
 *	  Where a session's last look-ups ended, so that the next one nearby need
 *	  not start from scratch: an index scan over a correlated column, a nested
 *	  loop, a bitmap scan fetch rows that lie next to each other.
 *
 * Hints are private to a session, never pin anything, and are verified before
 * they are believed:
 *	 H1. The data block of a run that held the last key, with its first and last
 *		 key.  Files are immutable and their numbers never come back; a key
 *		 between the two is in this block or nowhere in the run.
 *	 H2. Two neighbours in a generation's list, with nothing between them.  The
 *		 arena is still that of the generation if its number is the same (its
 *		 nodes are never unlinked), and nothing came between if the link is the
 *		 same.
 * Taking a hint costs a few cache misses, so it is taken only after several
 * look-ups close to each other.
 */
#ifndef LTG_HINT_H
#define LTG_HINT_H

#include "tree/shared.h"

#define LTG_HINT_KEY 24			/* longer keys are not hinted */
#define LTG_HINT_SLOTS 4

typedef struct LtgHintKey
{
	uint8_t		len;
	uint8_t		bytes[LTG_HINT_KEY];
} LtgHintKey;

typedef struct LtgBlockHint
{
	LtgFileId	file;			/* 0: none */
	uint64_t	root_offset;
	uint64_t	offset;
	uint32_t	disk_len;
	LtgHintKey	first, last;
} LtgBlockHint;

typedef struct LtgGapHint
{
	uint64_t	generation;		/* 0: none */
	LtgMemNode *before;			/* NULL: the list begins with `after` */
	LtgMemNode *after;			/* NULL: the list ends */
} LtgGapHint;

typedef struct LtgHint			/* of one store */
{
	uint64_t	store_id;
	uint64_t	place;			/* last key's last 8 bytes */
	uint32_t	near;			/* look-ups in a row close to each other */
	LtgBlockHint block[LTG_HINT_SLOTS];
	LtgGapHint	gap[LTG_HINT_SLOTS];
} LtgHint;

/* The store's hint, or NULL if there is none to be had.  Notes the key. */
extern LtgHint *ltg_hint_for(LtgSession *s, uint64_t store_id, const uint8_t *key,
							 uint32_t key_len);
extern void ltg_hints_free(LtgSession *s);

static inline bool
ltg_hint_wanted(const LtgHint *h)
{
	return h != NULL && h->near >= 4;
}

/*
 * Find the key in a generation's list; as ltg_mem_find, which it falls back on.
 * h may be NULL.
 */
extern LtgMemNode *ltg_hint_find(LtgHint *h, LtgGeneration *g, LtgMemList *l, uint64_t store_id,
								 const uint8_t *key, uint32_t key_len, uint64_t hash);
/* As ltg_run_get. */
extern LtgStatus ltg_hint_run_get(LtgSession *s, LtgHint *h, const LtgRunRef *ref,
								  const uint8_t *key, uint32_t key_len, uint64_t hash,
								  bool use_filter, LtgPoint *p, LtgVersion *v) LTG_MUST_CHECK;

#endif
