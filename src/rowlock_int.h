/*
 * rowlock_int.h
 *	  The table of row locks, for rowlock.c, whose head has its rules, and
 *	  rowlock_store.c.
 */
#ifndef LIGHTNING_ROWLOCK_INT_H
#define LIGHTNING_ROWLOCK_INT_H

#include "lightning.h"

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#define PARTITIONS 64
#define NO_ENTRY 0				/* entries are numbered from 1 */

typedef struct RowLockEntry
{
	uint64		store_id;
	LtgXid		xid;			/* owner; 0 = free */
	uint32		block;			/* rowid >> 8 */
	uint32		next;			/* in the bucket or the free list */
	uint64		rows[4];		/* bit rowid & 255 */
	uint8		mode;			/* LockTupleMode */
	bool		kept;			/* PREPARE has written (or is about to write) it to
								 * the store of locks */
} RowLockEntry;

typedef struct RowLockShared
{
	int			tranche;
	uint32		n_entries;
	uint32		n_buckets;		/* power of two, at least PARTITIONS */
	slock_t		free_mutex;
	uint32		free_head;
	uint32		n_free;
	pg_atomic_uint32 hand;		/* the bucket that spilling looks at next */
	LWLockPadded locks[PARTITIONS];
} RowLockShared;

typedef struct RowLocks
{
	RowLockShared *shared;
	pg_atomic_uint32 *buckets;
	RowLockEntry *entries;		/* [0] is unused */
	bool		took_locks;		/* in this transaction */
} RowLocks;

extern RowLocks lightning_rl;

/* The entries of a bucket, one after the other; NO_ENTRY at the end. */
static inline uint32
lightning_rl_first(uint32 bucket)
{
	return pg_atomic_read_u32(&lightning_rl.buckets[bucket]);
}

static inline uint32
lightning_rl_next(uint32 i)
{
	return lightning_rl.entries[i].next;
}

extern LWLock *lightning_rl_lock(uint32 bucket);
/* Unlink an entry from its bucket.  REQUIRES the partition lock, exclusive. */
extern void lightning_rl_unlink(uint32 bucket, uint32 prev, uint32 i);
extern bool lightning_rl_is_mine(LtgXid xid);

/* rowlock_store.c: move entries to the store of locks, until half are free. */
extern void lightning_rl_spill(void);

#endif
