/*
 * memtable.h
 *	  One generation of the memtable: an arena with, per store, a lock-free
 *	  skiplist of keys, and one lock-free hash index over all keys.
 *
 * Each key is one node; its versions hang off it newest first.  Links are
 * 32-bit arena offsets (in 8-byte units).  Nothing is ever unlinked; the arena
 * is freed whole.  Readers note stretches of dead keys for each other, so that
 * they need not walk through them again (memtable_pass.c).
 *
 * Concurrency
 *	 M1. Inserts of different keys run in parallel (CAS).
 *	 M2. The caller serialises writers of one key (key stripe), so a version
 *		 is pushed with a plain release store, and seqs of a key's versions
 *		 grow in push order.
 *	 M3. Readers take no lock and need only an epoch.
 *	 M4. A version's state only moves UNRESOLVED -> COMMITTED|ABORTED|SETTLED,
 *		 COMMITTED -> SETTLED, by atomic stores of values that any session
 *		 computes alike.
 *	 M5. Memory is reserved before the log record is written, so applying
 *		 cannot fail.
 */
#ifndef LTG_MEMTABLE_H
#define LTG_MEMTABLE_H

#include "base/session.h"
#include "base/version.h"

typedef struct LtgGeneration LtgGeneration;	/* header at the start of an arena */
typedef struct LtgMemNode LtgMemNode;
typedef struct LtgMemVersion LtgMemVersion;
typedef struct LtgMemList LtgMemList;		/* skiplist of one store */

/* Format an arena (zeroes what must be zero).  size up to 32 GB. */
extern LtgGeneration *ltg_gen_init(void *mem, size_t size);
/* Make it empty again, ready for use as generation `number`. */
extern void ltg_gen_reset(LtgGeneration *g, uint64_t number);
extern uint64_t ltg_gen_number(const LtgGeneration *g);
extern uint64_t ltg_gen_used(const LtgGeneration *g);	/* bytes */
extern uint64_t ltg_gen_capacity(const LtgGeneration *g);
/* Smallest and largest seq applied; 0, 0 when empty. */
extern void ltg_gen_seq_range(const LtgGeneration *g, LtgSeq *min, LtgSeq *max);

/* Upper bound of the arena bytes one version of one new key takes. */
extern size_t ltg_mem_need(uint32_t key_len, uint32_t payload_len);
/* Bump-allocate; 0 when the arena is full.  Thread-safe.  The result is a
 * token to hand to ltg_mem_insert, which carves from it. */
extern uint64_t ltg_gen_reserve(LtgGeneration *g, size_t bytes);
/* Give back the unused end [from, to) of a reservation: a cancelled one, or
 * what versions of known keys left over.  Best effort. */
extern void ltg_gen_unreserve(LtgGeneration *g, uint64_t from, uint64_t to);
/*
 * Make the store's list, if there is none yet; false when the arena is full.
 * To be called beside ltg_gen_reserve, before the log record, for each store
 * written to: that is how ltg_mem_insert can never lack the room for a list.
 */
extern bool ltg_gen_prepare(LtgGeneration *g, uint64_t store_id);

/*
 * Insert one version.  *cursor is advanced over the reserved space.
 * REQUIRES: M2; the reservation covers it.  Cannot fail.  payload is given in
 * v->payload; v->state is usually UNRESOLVED.  Returns the stored version.
 */
extern LtgMemVersion *ltg_mem_insert(LtgGeneration *g, uint64_t store_id,
									 const uint8_t *key, uint32_t key_len, uint64_t hash,
									 const LtgVersion *v, uint64_t *cursor);

/* A hint some time before ltg_mem_insert: most of its time is one cache miss. */
extern void ltg_mem_prefetch(const LtgGeneration *g, uint64_t store_id, uint64_t hash);

/* ---- reading; REQUIRES: inside an epoch ---- */

/* NULL when this generation has nothing of the store: one probe. */
extern LtgMemList *ltg_gen_list(LtgGeneration *g, uint64_t store_id);
extern uint64_t ltg_mem_list_nodes(const LtgMemList *l);	/* keys in it */
extern uint64_t ltg_mem_list_bytes(const LtgMemList *l);	/* keys and payloads */
/*
 * No version in it has a smaller transaction id; 0 when there may be one that
 * everybody sees.  About now: what was applied before the caller's snapshot was
 * taken counts.
 */
extern LtgXid ltg_mem_list_min_xid(const LtgMemList *l);
/* The transaction that wrote all of it, if that was nothing but puts; 0: not so. */
extern LtgXid ltg_mem_list_writer(const LtgMemList *l);
/* Smallest and largest seq applied to the list; 0, 0 when it is empty. */
extern void ltg_mem_list_seq_range(const LtgMemList *l, LtgSeq *min, LtgSeq *max);
/* Point look-up through the hash index. */
extern LtgMemNode *ltg_mem_find(LtgGeneration *g, uint64_t store_id,
								const uint8_t *key, uint32_t key_len, uint64_t hash);
extern void ltg_mem_node_key(const LtgMemNode *n, const uint8_t **key, uint32_t *key_len);
extern LtgMemVersion *ltg_mem_newest(LtgGeneration *g, LtgMemNode *n);
/* A hint some time before the newest version is read. */
extern void ltg_mem_prefetch_newest(const LtgGeneration *g, const LtgMemNode *n);
extern LtgMemVersion *ltg_mem_older(LtgGeneration *g, LtgMemVersion *mv);
extern void ltg_mem_read(const LtgMemVersion *mv, LtgVersion *v);	/* payload points into the arena */
extern void ltg_mem_mark(LtgMemVersion *mv, LtgState fate);		/* M4 */

/* Ordered iteration over one store.  Position is a node; NULL = none. */
extern LtgMemNode *ltg_mem_seek_ge(LtgGeneration *g, LtgMemList *l,
								   const uint8_t *key, uint32_t key_len);	/* NULL key: first */
extern LtgMemNode *ltg_mem_seek_le(LtgGeneration *g, LtgMemList *l,
								   const uint8_t *key, uint32_t key_len);	/* NULL key: last */
extern LtgMemNode *ltg_mem_next(LtgGeneration *g, LtgMemNode *n);
extern LtgMemNode *ltg_mem_prev(LtgGeneration *g, LtgMemList *l, LtgMemNode *n);

/* Stores present, for flush: calls fn for each in no particular order. */
typedef void (*LtgStoreFn) (void *arg, uint64_t store_id, uint64_t nodes, uint64_t bytes);
extern void ltg_gen_stores(LtgGeneration *g, LtgStoreFn fn, void *arg);
/* Every documented invariant; REQUIRES no concurrent writers. */
extern bool ltg_gen_check(LtgGeneration *g, char *msg, size_t msg_size);

/*
 * A walk from node to node over keys of which nobody sees anything any more.  p is
 * zero at first, and again when the walk has met another key.
 */
typedef struct LtgMemPass
{
	LtgMemVersion *from;		/* the tombstone that the stretch begins with, or NULL */
	uint32_t	upto;			/* place of the node behind the stretch */
	uint32_t	breaks;
	uint32_t	seen;			/* keys in a row */
	uint32_t	gained;			/* since it was noted */
} LtgMemPass;

/*
 * The node behind n, of which the caller has read the versions from `newest` on: they
 * were aborted, but for a tombstone, perhaps, that every snapshot sees.  Keys like n
 * are left out if that is known (*far).  NULL at the end.  See memtable_pass.c.
 */
extern LtgMemNode *ltg_mem_pass(LtgGeneration *g, LtgMemList *l, LtgMemPass *p,
								LtgMemNode *n, LtgMemVersion *newest, bool *far);
/* The walk has ended or goes on elsewhere: note what it has found. */
extern void ltg_mem_pass_end(LtgMemPass *p);

#endif
