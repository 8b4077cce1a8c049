/*
 * rowlock.c
 *	  Row locks (SELECT FOR UPDATE and its kin, foreign key checks) in shared
 *	  memory.
 *
 * An entry says which rows of a block of 256 rowids a (sub)transaction has
 * locked in one mode, so locking many neighbouring rows takes little memory.
 * Nothing is written to the table.  When memory gets short, whoever wants more
 * moves entries, anybody's, to a store (lockstore.c); PREPARE TRANSACTION copies
 * its entries there.  A row that the transaction itself wrote needs no entry: its
 * unfinished version is the lock.
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
#include "server.h"

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

/* What this backend has to clean up, in the order taken. */
typedef struct HeldEntry
{
	LtgXid		xid;
	uint32		entry;
	uint32		bucket;
	SubTransactionId subid;
} HeldEntry;

static RowLockShared *shared = NULL;
static pg_atomic_uint32 *buckets;
static RowLockEntry *entries;	/* [0] is unused */

static HeldEntry *held = NULL;
static uint32 n_held = 0;
static uint32 held_cap = 0;
static bool took_locks = false; /* in this transaction */

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
	shared->tranche = LWLockNewTrancheId();
	shared->n_entries = entry_count();
	shared->n_buckets = bucket_count();
	for (int i = 0; i < PARTITIONS; i++)
		LWLockInitialize(&shared->locks[i].lock, shared->tranche);
	SpinLockInit(&shared->free_mutex);
	shared->n_free = shared->n_entries;
	pg_atomic_init_u32(&shared->hand, 0);
}

void
lightning_rowlock_shmem_init(void)
{
	bool		found;
	char	   *p;

	shared = ShmemInitStruct("lightning row locks", lightning_rowlock_shmem_size(), &found);
	if (!found)
		init_contents();
	p = (char *) shared + MAXALIGN(sizeof(RowLockShared));
	buckets = (pg_atomic_uint32 *) p;
	p += MAXALIGN(shared->n_buckets * sizeof(pg_atomic_uint32));
	entries = (RowLockEntry *) p;
	p += MAXALIGN(((Size) shared->n_entries + 1) * sizeof(RowLockEntry));
	lightning_lockstore_shmem_init(p, found);
	if (!found)
	{
		for (uint32 i = 0; i < shared->n_buckets; i++)
			pg_atomic_init_u32(&buckets[i], NO_ENTRY);
		for (uint32 i = 1; i <= shared->n_entries; i++)
		{
			entries[i].xid = 0;
			entries[i].next = i < shared->n_entries ? i + 1 : NO_ENTRY;
		}
		shared->free_head = 1;
	}
	LWLockRegisterTranche(shared->tranche, "LightningRowLock");
}

static uint32
bucket_of(uint64 store_id, uint32 block)
{
	uint64		h = hash_combine64(murmurhash32(block), store_id * UINT64CONST(0x9E3779B97F4A7C15));

	return (uint32) (h ^ h >> 32) & (shared->n_buckets - 1);
}

static LWLock *
partition_lock(uint32 bucket)
{
	return &shared->locks[bucket % PARTITIONS].lock;
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

	SpinLockAcquire(&shared->free_mutex);
	i = shared->free_head;
	if (i != NO_ENTRY)
	{
		shared->free_head = entries[i].next;
		shared->n_free--;
	}
	SpinLockRelease(&shared->free_mutex);
	return i;
}

static void
push_free(uint32 i)
{
	entries[i].xid = 0;
	SpinLockAcquire(&shared->free_mutex);
	entries[i].next = shared->free_head;
	shared->free_head = i;
	shared->n_free++;
	SpinLockRelease(&shared->free_mutex);
}

/* Unlink an entry from its bucket.  REQUIRES the partition lock, exclusive. */
static void
unlink_entry(uint32 bucket, uint32 prev, uint32 i)
{
	if (prev == NO_ENTRY)
		pg_atomic_write_u32(&buckets[bucket], entries[i].next);
	else
		entries[prev].next = entries[i].next;
	push_free(i);
}

/* Free the bucket's entries whose owners are gone.  REQUIRES as above. */
static void
purge_bucket(uint32 bucket)
{
	uint32		prev = NO_ENTRY;
	uint32		i = pg_atomic_read_u32(&buckets[bucket]);

	while (i != NO_ENTRY)
	{
		uint32		next = entries[i].next;

		if (lightning_xact_goes_on(entries[i].xid))
			prev = i;
		else
			unlink_entry(bucket, prev, i);
		i = next;
	}
}

static void
purge_all(void)
{
	for (uint32 b = 0; b < shared->n_buckets; b++)
	{
		if (pg_atomic_read_u32(&buckets[b]) == NO_ENTRY)
			continue;
		LWLockAcquire(partition_lock(b), LW_EXCLUSIVE);
		purge_bucket(b);
		LWLockRelease(partition_lock(b));
	}
}

static bool
is_mine(LtgXid xid)
{
	return lightning_widen_xid((TransactionId) xid) == xid &&
		TransactionIdIsCurrentTransactionId((TransactionId) xid);
}

/*
 * Spilling
 */
static int
compare_ids(const void *a, const void *b)
{
	uint64		x = ((const LtgStoreInfo *) a)->id;
	uint64		y = ((const LtgStoreInfo *) b)->id;

	return x < y ? -1 : x > y;
}

/* All stores, sorted for find_table. */
static LtgStoreInfo *
list_tables(uint32 *n)
{
	LtgStoreInfo *info = lightning_list_stores(lightning_session(), n);

	qsort(info, *n, sizeof(LtgStoreInfo), compare_ids);
	return info;
}

static const LtgStoreInfo *
find_table(const LtgStoreInfo *info, uint32 n, uint64 id)
{
	LtgStoreInfo key;

	key.id = id;
	return bsearch(&key, info, n, sizeof(LtgStoreInfo), compare_ids);
}

static void
describe_entry(const RowLockEntry *e, const LtgStoreKey *table, LightningRowLocks *l)
{
	l->table = *table;
	l->block = e->block;
	l->mode = e->mode;
	l->xid = e->xid;
	memcpy(l->rows, e->rows, sizeof(l->rows));
}

typedef struct Spill
{
	LtgStoreInfo *info;
	uint32		n_info;
	uint32		n;
	uint32		entry[LIGHTNING_LOCKSTORE_BATCH];
	uint32		bucket[LIGHTNING_LOCKSTORE_BATCH];
	RowLockEntry copy[LIGHTNING_LOCKSTORE_BATCH];
	LightningRowLocks locks[LIGHTNING_LOCKSTORE_BATCH];
} Spill;

static void
gather_bucket(Spill *sp, uint32 bucket)
{
	if (pg_atomic_read_u32(&buckets[bucket]) == NO_ENTRY)
		return;
	LWLockAcquire(partition_lock(bucket), LW_SHARED);
	for (uint32 i = pg_atomic_read_u32(&buckets[bucket]);
		 i != NO_ENTRY && sp->n < LIGHTNING_LOCKSTORE_BATCH; i = entries[i].next)
	{
		const LtgStoreInfo *table = find_table(sp->info, sp->n_info, entries[i].store_id);

		if (table == NULL || !lightning_xact_goes_on(entries[i].xid))
			continue;
		sp->entry[sp->n] = i;
		sp->bucket[sp->n] = bucket;
		sp->copy[sp->n] = entries[i];
		describe_entry(&entries[i], &table->key, &sp->locks[sp->n]);
		sp->n++;
	}
	LWLockRelease(partition_lock(bucket));
}

/* What was written goes, unless it has changed meanwhile. */
static void
remove_spilled(const Spill *sp, uint32 k)
{
	const RowLockEntry *was = &sp->copy[k];
	uint32		bucket = sp->bucket[k];
	uint32		prev = NO_ENTRY;

	LWLockAcquire(partition_lock(bucket), LW_EXCLUSIVE);
	for (uint32 i = pg_atomic_read_u32(&buckets[bucket]); i != NO_ENTRY; i = entries[i].next)
	{
		const RowLockEntry *e = &entries[i];

		if (i == sp->entry[k])
		{
			if (e->xid == was->xid && e->store_id == was->store_id && e->block == was->block &&
				e->mode == was->mode && memcmp(e->rows, was->rows, sizeof(e->rows)) == 0)
				unlink_entry(bucket, prev, i);
			break;
		}
		prev = i;
	}
	LWLockRelease(partition_lock(bucket));
}

static void
spill(void)
{
	Spill	   *sp = palloc(sizeof(Spill));
	uint32		looked_at = 0;

	lightning_lockstore_create();
	sp->info = list_tables(&sp->n_info);
	while (looked_at < shared->n_buckets && shared->n_free < shared->n_entries / 2)
	{
		CHECK_FOR_INTERRUPTS();
		sp->n = 0;
		while (looked_at++ < shared->n_buckets && sp->n < LIGHTNING_LOCKSTORE_BATCH)
			gather_bucket(sp, pg_atomic_fetch_add_u32(&shared->hand, 1) & (shared->n_buckets - 1));
		(void) lightning_lockstore_write(sp->locks, sp->n);
		lightning_stop_point("rowlock:spilled");
		for (uint32 k = 0; k < sp->n; k++)
			remove_spilled(sp, k);
	}
	pfree(sp->info);
	pfree(sp);
}

/*
 * Many entries are freed at a time, so this is seldom.  Others may take some
 * meanwhile, hence the reserve.
 */
static void
make_room(void)
{
	uint32		reserve = Min(shared->n_entries / 4, (uint32) MaxBackends * 4);

	if (likely(shared->n_free >= reserve))
		return;
	purge_all();
	if (shared->n_free < shared->n_entries / 2)
		spill();
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
	uint64		rowid;
	LockTupleMode mode;
	LightningRowLockState *state;
	bool		dead;			/* some entry can be freed */
} Probe;

static void
judge_lock(Probe *p, LtgXid xid, LockTupleMode held_mode)
{
	LightningRowLockState *state = p->state;

	if (is_mine(xid))
	{
		if (!state->mine || held_mode > state->my_mode)
			state->my_mode = held_mode;
		state->mine = true;
	}
	else if (!lightning_xact_goes_on(xid))
		p->dead = true;
	else
	{
		state->others = true;
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
	Probe		p = {.rowid = rowid, .mode = mode, .state = state};
	LtgStoreKey table;

	memset(state, 0, sizeof(*state));

	/* By R1 a lock on this row was linked in before we got the latch. */
	if (pg_atomic_read_u32(&buckets[bucket]) != NO_ENTRY)
	{
		LWLockAcquire(partition_lock(bucket), LW_SHARED);
		for (uint32 i = pg_atomic_read_u32(&buckets[bucket]); i != NO_ENTRY; i = entries[i].next)
		{
			RowLockEntry *e = &entries[i];

			if (e->store_id == store_id && e->block == block && has_row(e, rowid))
				judge_lock(&p, e->xid, e->mode);
		}
		LWLockRelease(partition_lock(bucket));
	}

	if (p.dead)
	{
		LWLockAcquire(partition_lock(bucket), LW_EXCLUSIVE);
		purge_bucket(bucket);
		LWLockRelease(partition_lock(bucket));
	}

	/* R6 */
	pg_read_barrier();
	lightning_store_key(&rel->rd_node, rel->rd_backend, &table);
	lightning_lockstore_visit(&table, block, judge_stored, &p);
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

	for (i = pg_atomic_read_u32(&buckets[bucket]); i != NO_ENTRY; i = entries[i].next)
	{
		RowLockEntry *e = &entries[i];

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
	LWLockAcquire(partition_lock(*bucket), LW_EXCLUSIVE);
	i = find_entry(*bucket, store_id, block, xid, mode);
	if (i == NO_ENTRY)
	{
		i = fresh = pop_free();
		if (i == NO_ENTRY)
		{
			/* all taken: some may be left over from ended transactions */
			LWLockRelease(partition_lock(*bucket));
			purge_all();
			i = fresh = pop_free();
			if (i == NO_ENTRY)
				table_full();
			LWLockAcquire(partition_lock(*bucket), LW_EXCLUSIVE);
		}
		memset(&entries[i], 0, sizeof(RowLockEntry));
		entries[i].store_id = store_id;
		entries[i].block = block;
		entries[i].xid = xid;
		entries[i].mode = mode;
		entries[i].next = pg_atomic_read_u32(&buckets[*bucket]);
		set_row(&entries[i], rowid);
		pg_atomic_write_u32(&buckets[*bucket], i);
	}
	else
		set_row(&entries[i], rowid);
	LWLockRelease(partition_lock(*bucket));
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
		if (entries[held[k].entry].xid == held[k].xid)
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

	took_locks = true;
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
	uint64		rowid;
	uint32		n;
	uint32		cap;
	FoundLock  *lock;
} FoundLocks;

static void
found_lock(FoundLocks *f, LtgXid xid, LockTupleMode mode, bool kept)
{
	if (is_mine(xid))
		return;
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

	LWLockAcquire(partition_lock(bucket), LW_SHARED);
	i = find_entry(bucket, store_id, block, lock->xid, lock->mode);
	kept = i != NO_ENTRY && entries[i].kept;
	LWLockRelease(partition_lock(bucket));
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
	FoundLocks	f = {.rowid = from_rowid, .cap = 16};
	LtgStoreKey table;
	bool		done = true;

	f.lock = palloc(f.cap * sizeof(FoundLock));
	LWLockAcquire(partition_lock(bucket), LW_SHARED);
	for (uint32 i = pg_atomic_read_u32(&buckets[bucket]); i != NO_ENTRY; i = entries[i].next)
	{
		RowLockEntry *e = &entries[i];

		if (e->store_id == store_id && e->block == block && has_row(e, from_rowid))
			found_lock(&f, e->xid, e->mode, e->kept);
	}
	LWLockRelease(partition_lock(bucket));
	lightning_store_key(&rel->rd_node, rel->rd_backend, &table);
	lightning_lockstore_visit(&table, block, found_stored, &f);

	for (uint32 k = 0; k < f.n && done; k++)
	{
		uint32		unused;

		if (!f.lock[k].kept)
		{
			(void) add_row(store_id, to_rowid, f.lock[k].xid, f.lock[k].mode, &unused);
			lightning_stop_point("rowlock:copied");
			pg_memory_barrier();
			f.lock[k].kept = kept_by_now(store_id, from_rowid, &f.lock[k]);
		}
		if (f.lock[k].kept)
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

		LWLockAcquire(partition_lock(h->bucket), LW_EXCLUSIVE);
		for (i = pg_atomic_read_u32(&buckets[h->bucket]); i != NO_ENTRY; i = entries[i].next)
		{
			if (i == h->entry)
			{
				if (entries[i].xid == h->xid)
					unlink_entry(h->bucket, prev, i);
				break;
			}
			prev = i;
		}
		LWLockRelease(partition_lock(h->bucket));
	}
}

void
lightning_rowlock_at_xact_end(void)
{
	release_from(0);
	took_locks = false;
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
	took_locks = false;
}

/*
 * Prepared transactions (R5)
 *
 * Marking comes first, then collecting: whoever copies an entry looks for the
 * mark afterwards.  Entries are marked and copied under their partition's lock.
 */
static RowLockEntry *
my_entries(bool mark, uint32 *n)
{
	uint32		cap = 64;
	RowLockEntry *mine = palloc(cap * sizeof(RowLockEntry));

	*n = 0;
	for (uint32 b = 0; b < shared->n_buckets; b++)
	{
		if (pg_atomic_read_u32(&buckets[b]) == NO_ENTRY)
			continue;
		LWLockAcquire(partition_lock(b), mark ? LW_EXCLUSIVE : LW_SHARED);
		for (uint32 i = pg_atomic_read_u32(&buckets[b]); i != NO_ENTRY; i = entries[i].next)
		{
			if (!is_mine(entries[i].xid))
				continue;
			if (mark)
				entries[i].kept = true;
			if (*n == cap)
			{
				cap *= 2;
				mine = repalloc_huge(mine, (Size) cap * sizeof(RowLockEntry));
			}
			mine[(*n)++] = entries[i];
		}
		LWLockRelease(partition_lock(b));
	}
	return mine;
}

void
lightning_rowlock_before_prepare(void)
{
	LtgStoreInfo *info;
	RowLockEntry *mine;
	LightningRowLocks *locks;
	uint32		n_info,
				n,
				kept = 0;

	if (!took_locks)
		return;
	lightning_lockstore_create();
	pfree(my_entries(true, &n));
	mine = my_entries(false, &n);	/* also those that others copied for us */
	info = list_tables(&n_info);
	locks = palloc_extended(Max(n, 1) * sizeof(LightningRowLocks), MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < n; i++)
	{
		const LtgStoreInfo *table = find_table(info, n_info, mine[i].store_id);

		/* unlogged tables outlive an orderly restart */
		if (table != NULL && (table->flags & LTG_STORE_TEMP) == 0)
			describe_entry(&mine[i], &table->key, &locks[kept++]);
	}
	(void) lightning_lockstore_write(locks, kept);
	pfree(locks);
	pfree(info);
	pfree(mine);
}

/*
 * Subtransactions are numbered in the order they start, so what an aborting
 * one and its committed children took has its number or a higher one.
 */
void
lightning_rowlock_at_subabort(SubTransactionId subid)
{
	uint32		first = n_held;

	while (first > 0 && held[first - 1].subid >= subid)
		first--;
	release_from(first);
}
