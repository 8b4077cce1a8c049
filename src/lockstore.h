/*
 * lockstore.h
 *	  Row locks that don't fit into shared memory, or have to survive a restart:
 *	  kept in a store of the engine's.
 */
#ifndef LIGHTNING_LOCKSTORE_H
#define LIGHTNING_LOCKSTORE_H

#include "lightning.h"
#include "wal.h"

/* The rows of one block of 256 that a (sub)transaction has locked in one mode. */
typedef struct LightningRowLocks
{
	LtgStoreKey table;
	uint32		block;			/* rowid >> 8 */
	uint8		mode;			/* LockTupleMode */
	LtgXid		xid;			/* owner */
	uint64		rows[4];		/* bit rowid & 255 */
} LightningRowLocks;

extern Size lightning_lockstore_shmem_size(void);
extern void lightning_lockstore_shmem_init(void *mem, bool found);

/* Make sure the store is there.  Must be called with no latch held. */
extern void lightning_lockstore_create(void);

/*
 * Log and keep these.  When it returns true, probing finds them.  False: nothing
 * was done, the latch held has been released, what stood in the way has been
 * waited for: start over (never false if no latch is held).
 * REQUIRES lightning_lockstore_create.
 */
extern bool lightning_lockstore_write(const LightningRowLocks *locks, uint32 n);

/*
 * Visit the locks kept on rows of this block, whether or not their owners go on.
 * Whoever moves a lock here from shared memory writes it here first; so look there
 * first and here then.
 */
typedef void (*LightningRowLocksFn) (void *arg, const LightningRowLocks *locks);
extern void lightning_lockstore_visit(const LtgStoreKey *table, uint32 block,
									  LightningRowLocksFn fn, void *arg);

extern void lightning_lockstore_restore(LtgSession *s);	/* at start, by the gate */
extern void lightning_lockstore_tidy(void); /* now and then, by the flusher */

/* Redo: one lock of a LOCKS record, as a write.  Returns the new position, NULL
 * if the record is damaged. */
#define LIGHTNING_LOCKSTORE_KEY_LEN 25
#define LIGHTNING_LOCKSTORE_PAYLOAD_LEN 33
#define LIGHTNING_LOCKSTORE_BATCH 1024
extern const uint8 *lightning_lockstore_read(const uint8 *p, const uint8 *end, LtgStore *store,
											 uint64 number, LtgWrite *w, uint8 *key,
											 uint8 *payload);

#endif
