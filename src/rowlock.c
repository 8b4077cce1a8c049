/*
 * rowlock.c
 *	  Row locks (SELECT FOR UPDATE and its kin, foreign key checks) in shared
 *	  memory.
 *
 * An entry says which rows of a block of 256 rowids a (sub)transaction has
 * locked in one mode, so locking many neighbouring rows takes little memory.
 * Nothing is written to the table.  When memory gets short, whoever wants more
 * moves entries, anybody's, to a store (lockstore.c); PREPARE TRANSACTION copies
 * its entries there.  A row that the transaction itself wrote needs no entry to
 * keep others away, for its unfinished version does; if the transaction locks it,
 * there is one all the same, since later updates show who has locked the row.
 *
 * Invariants
 *	 R1. Whether a row is locked is only decided, and locks on it are only
 *		 taken, with the row's key latch held.  So a check stays true until the
 *		 latch is released, but for locks that go away.
 *	 R2. An entry counts only while its owner is in progress.  So releasing is
 *		 cleaning up, and prepared transactions keep their locks.
 *	 R3. A lock taken in a subtransaction is an entry of its own, so rolling
 *		 back to a savepoint gives back the weaker lock held before.
 *	 R4. Entries of a bucket change under the bucket's partition lock.
 *	 R5. Every lock of a prepared transaction is in the store of locks, too, so
 *		 that it is found there after a restart.
 *	 R6. An entry is in the store of locks before it leaves memory.  So whoever
 *		 looks in memory first and there then doesn't miss it.
 *
 * Whoever waits for a lock waits for its owner's transaction id.
 *
 * Order of locks: row latch, one partition lock, then what
 * asking for a transaction's state or the lock manager takes.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/memutils.h"

#include "lockstore.h"
#include "modify.h"
#include "rowlock_int.h"

/* What this backend has to clean up, in the order taken. */
typedef struct HeldEntry
{
	LtgXid		xid;
	uint32		entry;
	uint32		bucket;
	SubTransactionId subid;
} HeldEntry;

RowLocks	lightning_rl;

static HeldEntry *held = NULL;
static uint32 n_held = 0;
static uint32 held_cap = 0;

/*
 * The row that is kept away from others while its long values are stored.  Not a
 * lock that anybody asked for: only others see it.
 */
static struct
{
	bool		set;
	uint64		store_id;
	uint64		rowid;
	LtgXid		xid;
	LockTupleMode mode;
}			shield;

/*
 * Shared memory
 */
static uint32
entry_count(void)
{
	return Max((uint32) ((uint64) lightning_row_lock_size * 1024 /
						 (sizeof(RowLockEntry) + sizeof(pg_atomic_uint32))), 64);
}

static uint32
bucket_count(void)
{
	uint32		n = PARTITIONS;

	while (n < entry_count() / 2)
		n *= 2;
	return n;
}

Size
lightning_rowlock_shmem_size(void)
{
	Size		size = MAXALIGN(sizeof(RowLockShared));

	size = add_size(size, MAXALIGN(mul_size(bucket_count(), sizeof(pg_atomic_uint32))));
	size = add_size(size, MAXALIGN(mul_size((Size) entry_count() + 1, sizeof(RowLockEntry))));
	return add_size(size, lightning_lockstore_shmem_size());
}

static void
init_contents(void)
{
	lightning_rl.shared->tranche = LWLockNewTrancheId();
	lightning_rl.shared->n_entries = entry_count();
	lightning_rl.shared->n_buckets = bucket_count();
	for (int i = 0; i < PARTITIONS; i++)
		LWLockInitialize(&lightning_rl.shared->locks[i].lock, lightning_rl.shared->tranche);
	SpinLockInit(&lightning_rl.shared->free_mutex);
	lightning_rl.shared->n_free = lightning_rl.shared->n_entries;
	pg_atomic_init_u32(&lightning_rl.shared->hand, 0);
}

void
lightning_rowlock_shmem_init(void)
{
	bool		found;
	char	   *p;

	lightning_rl.shared = ShmemInitStruct("lightning row locks", lightning_rowlock_shmem_size(), &found);
	if (!found)
		init_contents();
	p = (char *) lightning_rl.shared + MAXALIGN(sizeof(RowLockShared));
	lightning_rl.buckets = (pg_atomic_uint32 *) p;
	p += MAXALIGN(lightning_rl.shared->n_buckets * sizeof(pg_atomic_uint32));
	lightning_rl.entries = (RowLockEntry *) p;
	p += MAXALIGN(((Size) lightning_rl.shared->n_entries + 1) * sizeof(RowLockEntry));
	lightning_lockstore_shmem_init(p, found);
	if (!found)
	{
		for (uint32 i = 0; i < lightning_rl.shared->n_buckets; i++)
			pg_atomic_init_u32(&lightning_rl.buckets[i], NO_ENTRY);
		for (uint32 i = 1; i <= lightning_rl.shared->n_entries; i++)
		{
			lightning_rl.entries[i].xid = 0;
			lightning_rl.entries[i].next = i < lightning_rl.shared->n_entries ? i + 1 : NO_ENTRY;
		}
		lightning_rl.shared->free_head = 1;
	}
	LWLockRegisterTranche(lightning_rl.shared->tranche, "LightningRowLock");
}

static uint32
bucket_of(uint64 store_id, uint32 block)
{
	uint64		h = hash_combine64(murmurhash32(block), store_id * UINT64CONST(0x9E3779B97F4A7C15));

	return (uint32) (h ^ h >> 32) & (lightning_rl.shared->n_buckets - 1);
}

LWLock *
lightning_rl_lock(uint32 bucket)
{
	return &lightning_rl.shared->locks[bucket % PARTITIONS].lock;
}

static bool
has_row(const RowLockEntry *e, uint64 rowid)
{
	return (e->rows[(rowid & 255) >> 6] >> (rowid & 63)) & 1;
}

static void
set_row(RowLockEntry *e, uint64 rowid)
{
	e->rows[(rowid & 255) >> 6] |= UINT64CONST(1) << (rowid & 63);
}

/* R2 */
bool
lightning_xact_goes_on(LtgXid xid)
{
	return lightning_widen_xid((TransactionId) xid) == xid &&
		TransactionIdIsInProgress((TransactionId) xid);
}

/*
 * Entries
 */
static uint32
pop_free(void)
{
	uint32		i;

	SpinLockAcquire(&lightning_rl.shared->free_mutex);
	i = lightning_rl.shared->free_head;
	if (i != NO_ENTRY)
	{
		lightning_rl.shared->free_head = lightning_rl.entries[i].next;
		lightning_rl.shared->n_free--;
	}
	SpinLockRelease(&lightning_rl.shared->free_mutex);
	return i;
}

static void
push_free(uint32 i)
{
	lightning_rl.entries[i].xid = 0;
	SpinLockAcquire(&lightning_rl.shared->free_mutex);
	lightning_rl.entries[i].next = lightning_rl.shared->free_head;
	lightning_rl.shared->free_head = i;
	lightning_rl.shared->n_free++;
	SpinLockRelease(&lightning_rl.shared->free_mutex);
}

/* Unlink an entry from its bucket.  REQUIRES the partition lock, exclusive. */
void
lightning_rl_unlink(uint32 bucket, uint32 prev, uint32 i)
{
	if (prev == NO_ENTRY)
		pg_atomic_write_u32(&lightning_rl.buckets[bucket], lightning_rl.entries[i].next);
	else
		lightning_rl.entries[prev].next = lightning_rl.entries[i].next;
	push_free(i);
}

/* Free the bucket's entries whose owners are gone.  REQUIRES as above. */
static void
purge_bucket(uint32 bucket)
{
	uint32		prev = NO_ENTRY;
	uint32		i = lightning_rl_first(bucket);

	while (i != NO_ENTRY)
	{
		uint32		next = lightning_rl.entries[i].next;

		if (lightning_xact_goes_on(lightning_rl.entries[i].xid))
			prev = i;
		else
			lightning_rl_unlink(bucket, prev, i);
		i = next;
	}
}

static void
purge_all(void)
{
	for (uint32 b = 0; b < lightning_rl.shared->n_buckets; b++)
	{
		if (lightning_rl_first(b) == NO_ENTRY)
			continue;
		LWLockAcquire(lightning_rl_lock(b), LW_EXCLUSIVE);
		purge_bucket(b);
		LWLockRelease(lightning_rl_lock(b));
	}
}

bool
lightning_rl_is_mine(LtgXid xid)
{
	return lightning_widen_xid((TransactionId) xid) == xid &&
		TransactionIdIsCurrentTransactionId((TransactionId) xid);
}

/*
 * Many entries are freed at a time, so this is seldom.  Others may take some
 * meanwhile, hence the reserve.
 */
static void
make_room(void)
{
	uint32		reserve = Min(lightning_rl.shared->n_entries / 4, (uint32) MaxBackends * 4);

	if (likely(lightning_rl.shared->n_free >= reserve))
		return;
	purge_all();
	if (lightning_rl.shared->n_free < lightning_rl.shared->n_entries / 2)
		lightning_rl_spill();
}

void
lightning_rowlock_get_ready(void)
{
	if (unlikely(!lightning_gate_is_up()))
		lightning_gate_wait();
	make_room();
}

/*
 * Looking
 */
typedef struct Probe
{
	uint64		store_id;
	uint64		rowid;
	LockTupleMode mode;
	LightningRowLockState *state;
	bool		dead;			/* some entry can be freed */
} Probe;

/* Only there because the lock is the shield of the row. */
static bool
is_shield(uint64 store_id, uint64 rowid, LtgXid xid, LockTupleMode mode)
{
	return shield.set && shield.rowid == rowid && shield.store_id == store_id &&
		shield.xid == xid && shield.mode == mode;
}

/* The newest of the owners: see lightning_rowlock_shown. */
static void
note_owner(TransactionId *owner, LtgXid xid)
{
	if (!TransactionIdIsValid(*owner) || TransactionIdFollows((TransactionId) xid, *owner))
		*owner = (TransactionId) xid;
}

static void
judge_lock(Probe *p, LtgXid xid, LockTupleMode held_mode)
{
	LightningRowLockState *state = p->state;

	if (lightning_rl_is_mine(xid))
	{
		if (is_shield(p->store_id, p->rowid, xid, held_mode))
			return;
		if (!state->mine || held_mode > state->my_mode)
			state->my_mode = held_mode;
		state->mine = true;
		note_owner(&state->my_owner, xid);
	}
	else if (!lightning_xact_goes_on(xid))
		p->dead = true;
	else
	{
		state->others = true;
		note_owner(&state->other_owner, xid);
		if (lightning_lockmodes_conflict(p->mode, held_mode))
			state->conflict = (TransactionId) xid;
	}
}

static void
judge_stored(void *arg, const LightningRowLocks *l)
{
	Probe	   *p = arg;

	if ((l->rows[(p->rowid & 255) >> 6] >> (p->rowid & 63)) & 1)
		judge_lock(p, l->xid, l->mode);
}

void
lightning_rowlock_probe(Relation rel, uint64 store_id, uint64 rowid, LockTupleMode mode,
						LightningRowLockState *state)
{
	uint32		block = (uint32) (rowid >> 8);
	uint32		bucket = bucket_of(store_id, block);
	Probe		p = {.store_id = store_id, .rowid = rowid, .mode = mode, .state = state};
	LtgStoreKey table;

	memset(state, 0, sizeof(*state));

	/* By R1 a lock on this row was linked in before we got the latch. */
	if (lightning_rl_first(bucket) != NO_ENTRY)
	{
		LWLockAcquire(lightning_rl_lock(bucket), LW_SHARED);
		for (uint32 i = lightning_rl_first(bucket); i != NO_ENTRY; i = lightning_rl_next(i))
		{
			RowLockEntry *e = &lightning_rl.entries[i];

			if (e->store_id == store_id && e->block == block && has_row(e, rowid))
				judge_lock(&p, e->xid, e->mode);
		}
		LWLockRelease(lightning_rl_lock(bucket));
	}

	if (p.dead)
	{
		LWLockAcquire(lightning_rl_lock(bucket), LW_EXCLUSIVE);
		purge_bucket(bucket);
		LWLockRelease(lightning_rl_lock(bucket));
	}

	/* R6 */
	pg_read_barrier();
	lightning_store_key(&rel->rd_node, rel->rd_backend, &table);
	lightning_lockstore_visit(&table, block, judge_stored, &p);
}

TransactionId
lightning_rowlock_shown(const LightningRowLockState *state)
{
	return state->others ? state->other_owner : state->my_owner;
}

static void
table_full(void)
{
	ereport(ERROR,
			errcode(ERRCODE_OUT_OF_MEMORY),
			errmsg("out of shared memory for row locks"),
			errhint("You might need to increase lightning.row_lock_size."));
}

/* The entry of this owner and mode in a bucket, or NO_ENTRY. */
static uint32
find_entry(uint32 bucket, uint64 store_id, uint32 block, LtgXid xid, LockTupleMode mode)
{
	uint32		i;

	for (i = lightning_rl_first(bucket); i != NO_ENTRY; i = lightning_rl_next(i))
	{
		RowLockEntry *e = &lightning_rl.entries[i];

		if (e->xid == xid && e->store_id == store_id && e->block == block && e->mode == mode)
			break;
	}
	return i;
}

/*
 * Add a row to the entry of this owner and mode; makes the entry if need be,
 * and returns its number then, else NO_ENTRY.
 */
static uint32
add_row(uint64 store_id, uint64 rowid, LtgXid xid, LockTupleMode mode, uint32 *bucket)
{
	uint32		block = (uint32) (rowid >> 8);
	uint32		i;
	uint32		fresh = NO_ENTRY;

	*bucket = bucket_of(store_id, block);
	LWLockAcquire(lightning_rl_lock(*bucket), LW_EXCLUSIVE);
	i = find_entry(*bucket, store_id, block, xid, mode);
	if (i == NO_ENTRY)
	{
		i = fresh = pop_free();
		if (i == NO_ENTRY)
		{
			/* all taken: some may be left over from ended transactions */
			LWLockRelease(lightning_rl_lock(*bucket));
			purge_all();
			i = fresh = pop_free();
			if (i == NO_ENTRY)
				table_full();
			LWLockAcquire(lightning_rl_lock(*bucket), LW_EXCLUSIVE);
		}
		memset(&lightning_rl.entries[i], 0, sizeof(RowLockEntry));
		lightning_rl.entries[i].store_id = store_id;
		lightning_rl.entries[i].block = block;
		lightning_rl.entries[i].xid = xid;
		lightning_rl.entries[i].mode = mode;
		lightning_rl.entries[i].next = lightning_rl_first(*bucket);
		set_row(&lightning_rl.entries[i], rowid);
		pg_atomic_write_u32(&lightning_rl.buckets[*bucket], i);
	}
	else
		set_row(&lightning_rl.entries[i], rowid);
	LWLockRelease(lightning_rl_lock(*bucket));
	return fresh;
}

/* Forget the entries that others have moved to the store. */
static void
compact_held(void)
{
	uint32		n = 0;

	for (uint32 k = 0; k < n_held; k++)
	{
		/* whose an entry is can't become mine behind my back */
		if (lightning_rl.entries[held[k].entry].xid == held[k].xid)
			held[n++] = held[k];
	}
	n_held = n;
}

static void
make_room_in_held(void)
{
	if (n_held < held_cap)
		return;
	if (held != NULL)
	{
		compact_held();
		if (n_held < held_cap / 2)
			return;
	}
	if (held == NULL)
	{
		held = MemoryContextAlloc(TopMemoryContext, 64 * sizeof(HeldEntry));
		held_cap = 64;
	}
	else
	{
		held = repalloc_huge(held, (Size) held_cap * 2 * sizeof(HeldEntry));
		held_cap *= 2;
	}
}

void
lightning_rowlock_take(uint64 store_id, uint64 rowid, LockTupleMode mode)
{
	LtgXid		xid = lightning_my_xid();
	uint32		bucket;
	uint32		i;

	lightning_rl.took_locks = true;
	make_room_in_held();
	i = add_row(store_id, rowid, xid, mode, &bucket);
	if (i != NO_ENTRY)
	{
		held[n_held].xid = xid;
		held[n_held].entry = i;
		held[n_held].bucket = bucket;
		held[n_held].subid = GetCurrentSubTransactionId();
		n_held++;
	}
}

void
lightning_rowlock_shield(uint64 store_id, uint64 rowid, LockTupleMode mode)
{
	LtgXid		xid = lightning_my_xid();
	uint32		block = (uint32) (rowid >> 8);
	uint32		bucket = bucket_of(store_id, block);
	uint32		i;
	bool		has;

	LWLockAcquire(lightning_rl_lock(bucket), LW_SHARED);
	i = find_entry(bucket, store_id, block, xid, mode);
	has = i != NO_ENTRY && has_row(&lightning_rl.entries[i], rowid);
	LWLockRelease(lightning_rl_lock(bucket));
	if (has)
		return;					/* a lock that was asked for does it */
	lightning_rowlock_take(store_id, rowid, mode);
	shield.set = true;
	shield.store_id = store_id;
	shield.rowid = rowid;
	shield.xid = xid;
	shield.mode = mode;
}

/*
 * If it was moved to the store of locks meanwhile, it stays there until the
 * transaction ends, and looks like a lock.
 */
void
lightning_rowlock_unshield(void)
{
	uint32		block = (uint32) (shield.rowid >> 8);
	uint32		bucket = bucket_of(shield.store_id, block);
	uint32		i;

	if (!shield.set)
		return;
	LWLockAcquire(lightning_rl_lock(bucket), LW_EXCLUSIVE);
	i = find_entry(bucket, shield.store_id, block, shield.xid, shield.mode);
	if (i != NO_ENTRY)
		lightning_rl.entries[i].rows[(shield.rowid & 255) >> 6] &= ~(UINT64CONST(1) << (shield.rowid & 63));
	LWLockRelease(lightning_rl_lock(bucket));
	shield.set = false;
}

/*
 * Copying
 */
typedef struct FoundLock
{
	LtgXid		xid;
	LockTupleMode mode;
	bool		kept;			/* in the store of locks */
} FoundLock;

typedef struct FoundLocks
{
	uint64		store_id;
	uint64		rowid;
	uint32		n;
	uint32		cap;
	FoundLock  *lock;
} FoundLocks;

static void
found_lock(FoundLocks *f, LtgXid xid, LockTupleMode mode, bool kept)
{
	if (lightning_rl_is_mine(xid))
	{
		if (is_shield(f->store_id, f->rowid, xid, mode))
			return;
		/* the new version keeps others away; what is left is that it was locked */
		mode = LockTupleKeyShare;
	}
	if (f->n == f->cap)
	{
		f->cap *= 2;
		f->lock = repalloc(f->lock, f->cap * sizeof(FoundLock));
	}
	f->lock[f->n].xid = xid;
	f->lock[f->n].mode = mode;
	f->lock[f->n++].kept = kept;
}

static void
found_stored(void *arg, const LightningRowLocks *l)
{
	FoundLocks *f = arg;

	if ((l->rows[(f->rowid & 255) >> 6] >> (f->rowid & 63)) & 1 && lightning_xact_goes_on(l->xid))
		found_lock(f, l->xid, l->mode, true);
}

/* Keep a copy in the store of locks; false: see lightning_lockstore_write. */
static bool
keep_copy(const LtgStoreKey *table, uint64 rowid, const FoundLock *lock)
{
	LightningRowLocks l = {0};

	l.table = *table;
	l.block = (uint32) (rowid >> 8);
	l.mode = lock->mode;
	l.xid = lock->xid;
	l.rows[(rowid & 255) >> 6] |= UINT64CONST(1) << (rowid & 63);
	return lightning_lockstore_write(&l, 1);
}

/*
 * After copying an entry that was not kept: is it kept now?  Then its owner,
 * preparing, may have missed the copy.  If it doesn't, it will see it.  One that
 * is not there any more was moved to the store, unless its owner has ended: then
 * there may not even be a store.
 */
static bool
kept_by_now(uint64 store_id, uint64 rowid, const FoundLock *lock)
{
	uint32		block = (uint32) (rowid >> 8);
	uint32		bucket = bucket_of(store_id, block);
	uint32		i;
	bool		kept;

	LWLockAcquire(lightning_rl_lock(bucket), LW_SHARED);
	i = find_entry(bucket, store_id, block, lock->xid, lock->mode);
	kept = i != NO_ENTRY && lightning_rl.entries[i].kept;
	LWLockRelease(lightning_rl_lock(bucket));
	return i == NO_ENTRY ? lightning_xact_goes_on(lock->xid) : kept;
}

/*
 * The copies belong to the others, who don't know of them: they are freed when
 * somebody comes across them after their owners' end.  Copies of what is in the
 * store of locks have to be there too, for the owner may be prepared (R5).
 */
bool
lightning_rowlock_copy(Relation rel, uint64 store_id, uint64 from_rowid, uint64 to_rowid)
{
	uint32		block = (uint32) (from_rowid >> 8);
	uint32		bucket = bucket_of(store_id, block);
	FoundLocks	f = {.store_id = store_id, .rowid = from_rowid, .cap = 16};
	LtgStoreKey table;
	bool		done = true;

	f.lock = palloc(f.cap * sizeof(FoundLock));
	LWLockAcquire(lightning_rl_lock(bucket), LW_SHARED);
	for (uint32 i = lightning_rl_first(bucket); i != NO_ENTRY; i = lightning_rl_next(i))
	{
		RowLockEntry *e = &lightning_rl.entries[i];

		if (e->store_id == store_id && e->block == block && has_row(e, from_rowid))
			found_lock(&f, e->xid, e->mode, e->kept);
	}
	LWLockRelease(lightning_rl_lock(bucket));
	lightning_store_key(&rel->rd_node, rel->rd_backend, &table);
	lightning_lockstore_visit(&table, block, found_stored, &f);

	for (uint32 k = 0; k < f.n && done; k++)
	{
		uint32		unused;

		if (f.lock[k].xid == lightning_my_xid())
			lightning_rowlock_take(store_id, to_rowid, f.lock[k].mode);
		else if (!f.lock[k].kept)
		{
			(void) add_row(store_id, to_rowid, f.lock[k].xid, f.lock[k].mode, &unused);
			lightning_stop_point("rowlock:copied");
			pg_memory_barrier();
			f.lock[k].kept = kept_by_now(store_id, from_rowid, &f.lock[k]);
		}
		if (f.lock[k].kept && !lightning_rl_is_mine(f.lock[k].xid))
			done = keep_copy(&table, to_rowid, &f.lock[k]);
	}
	pfree(f.lock);
	return done;
}

/*
 * Releasing.  Somebody else may have freed an entry already, its owner being
 * gone, and it may have a new owner; xids tell.
 */
static void
release_from(uint32 first)
{
	while (n_held > first)
	{
		HeldEntry  *h = &held[--n_held];
		uint32		prev = NO_ENTRY;
		uint32		i;

		LWLockAcquire(lightning_rl_lock(h->bucket), LW_EXCLUSIVE);
		for (i = lightning_rl_first(h->bucket); i != NO_ENTRY; i = lightning_rl_next(i))
		{
			if (i == h->entry)
			{
				if (lightning_rl.entries[i].xid == h->xid)
					lightning_rl_unlink(h->bucket, prev, i);
				break;
			}
			prev = i;
		}
		LWLockRelease(lightning_rl_lock(h->bucket));
	}
}

void
lightning_rowlock_at_xact_end(void)
{
	shield.set = false;
	release_from(0);
	lightning_rl.took_locks = false;
	if (held_cap > 4096)
	{
		pfree(held);
		held = NULL;
		held_cap = 0;
	}
}

/* The prepared transaction goes on owning its entries (R2). */
void
lightning_rowlock_at_prepare(void)
{
	n_held = 0;
	lightning_rl.took_locks = false;
}

/*
 * Subtransactions are numbered in the order they start, so what an aborting
 * one and its committed children took has its number or a higher one.
 */
void
lightning_rowlock_at_subabort(SubTransactionId subid)
{
	uint32		first = n_held;

	shield.set = false;
	while (first > 0 && held[first - 1].subid >= subid)
		first--;
	release_from(first);
}
