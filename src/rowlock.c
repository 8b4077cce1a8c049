/*
 * rowlock.c
 *	  Row locks (SELECT FOR UPDATE and its kin, foreign key checks) in shared
 *	  memory, and the tokens of speculative insertions.
 *
 * An entry says which rows of a block of 256 rowids a (sub)transaction has
 * locked in one mode, so locking many neighbouring rows takes little memory.
 * Nothing is written to the table, and to the log only by PREPARE TRANSACTION.
 * A row that the transaction itself wrote needs no entry: its unfinished version
 * is the lock.
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
 *	 R5. What a prepared transaction has locked is locked again after a restart,
 *		 before anybody may write: see "prepared transactions" below.
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
#include "storage/backendid.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/memutils.h"

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
} RowLockEntry;

typedef struct SpeculativeSlot
{
	slock_t		mutex;
	uint32		token;			/* 0 = none */
	uint64		store_id;
	uint64		rowid;
} SpeculativeSlot;

typedef struct RowLockShared
{
	int			tranche;
	uint32		n_entries;
	uint32		n_buckets;		/* power of two, at least PARTITIONS */
	slock_t		free_mutex;
	uint32		free_head;
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
static SpeculativeSlot *speculative;

static HeldEntry *held = NULL;
static uint32 n_held = 0;
static uint32 held_cap = 0;

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
	size = add_size(size, mul_size(MaxBackends, sizeof(SpeculativeSlot)));
	return size;
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
	speculative = (SpeculativeSlot *) p;
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
		for (int i = 0; i < MaxBackends; i++)
		{
			SpinLockInit(&speculative[i].mutex);
			speculative[i].token = 0;
		}
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
static bool
owner_alive(LtgXid xid)
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
		shared->free_head = entries[i].next;
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

		if (owner_alive(entries[i].xid))
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

void
lightning_rowlock_probe(uint64 store_id, uint64 rowid, LockTupleMode mode,
						LightningRowLockState *state)
{
	uint32		block = (uint32) (rowid >> 8);
	uint32		bucket = bucket_of(store_id, block);
	bool		dead = false;

	memset(state, 0, sizeof(*state));

	/* By R1 a lock on this row was linked in before we got the latch. */
	if (pg_atomic_read_u32(&buckets[bucket]) == NO_ENTRY)
		return;

	LWLockAcquire(partition_lock(bucket), LW_SHARED);
	for (uint32 i = pg_atomic_read_u32(&buckets[bucket]); i != NO_ENTRY; i = entries[i].next)
	{
		RowLockEntry *e = &entries[i];

		if (e->store_id != store_id || e->block != block || !has_row(e, rowid))
			continue;
		if (TransactionIdIsCurrentTransactionId((TransactionId) e->xid))
		{
			if (!state->mine || e->mode > state->my_mode)
				state->my_mode = e->mode;
			state->mine = true;
		}
		else if (!owner_alive(e->xid))
			dead = true;
		else
		{
			state->others = true;
			if (lightning_lockmodes_conflict(mode, e->mode))
				state->conflict = (TransactionId) e->xid;
		}
	}
	LWLockRelease(partition_lock(bucket));

	if (dead)
	{
		LWLockAcquire(partition_lock(bucket), LW_EXCLUSIVE);
		purge_bucket(bucket);
		LWLockRelease(partition_lock(bucket));
	}
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

static void
make_room_in_held(void)
{
	if (n_held < held_cap)
		return;
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
 * The copies belong to the others, who don't know of them: they are freed when
 * somebody comes across them after their owners' end.
 */
void
lightning_rowlock_copy(uint64 store_id, uint64 from_rowid, uint64 to_rowid)
{
	uint32		block = (uint32) (from_rowid >> 8);
	uint32		bucket = bucket_of(store_id, block);
	uint32		n = 0;
	uint32		cap = 16;
	struct
	{
		LtgXid		xid;
		LockTupleMode mode;
	}		   *found = palloc(cap * sizeof(*found));

	LWLockAcquire(partition_lock(bucket), LW_SHARED);
	for (uint32 i = pg_atomic_read_u32(&buckets[bucket]); i != NO_ENTRY; i = entries[i].next)
	{
		RowLockEntry *e = &entries[i];

		if (e->store_id != store_id || e->block != block || !has_row(e, from_rowid) ||
			TransactionIdIsCurrentTransactionId((TransactionId) e->xid))
			continue;
		if (n == cap)
		{
			cap *= 2;
			found = repalloc(found, cap * sizeof(*found));
		}
		found[n].xid = e->xid;
		found[n].mode = e->mode;
		n++;
	}
	LWLockRelease(partition_lock(bucket));

	for (uint32 k = 0; k < n; k++)
		(void) add_row(store_id, to_rowid, found[k].xid, found[k].mode, &bucket);
	pfree(found);
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
}

/*
 * Prepared transactions
 *
 * The server writes the heavyweight locks of a transaction into its two-phase
 * state and takes them again when it starts.  So PREPARE takes one for each row
 * locked here, in a mode that conflicts with nothing, whose tag says which row
 * it is and how it is locked.  At start, the gate reads them back.
 */
/* The tables' names, by id; only of those that survive a crash. */
static bool
find_logged_store(const LtgStoreInfo *info, uint32 n, uint64 id, LtgStoreKey *key)
{
	for (uint32 i = 0; i < n; i++)
	{
		if (info[i].id == id && (info[i].flags & (LTG_STORE_UNLOGGED | LTG_STORE_TEMP)) == 0)
		{
			*key = info[i].key;
			return true;
		}
	}
	return false;
}

/* All entries of this transaction, also those that others copied for it. */
static RowLockEntry *
my_entries(uint32 *n)
{
	uint32		cap = 64;
	RowLockEntry *mine = palloc(cap * sizeof(RowLockEntry));

	*n = 0;
	for (uint32 b = 0; b < shared->n_buckets; b++)
	{
		if (pg_atomic_read_u32(&buckets[b]) == NO_ENTRY)
			continue;
		LWLockAcquire(partition_lock(b), LW_SHARED);
		for (uint32 i = pg_atomic_read_u32(&buckets[b]); i != NO_ENTRY; i = entries[i].next)
		{
			if (!TransactionIdIsCurrentTransactionId((TransactionId) entries[i].xid))
				continue;
			if (*n == cap)
			{
				cap *= 2;
				mine = repalloc_huge(mine, cap * sizeof(RowLockEntry));
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
	uint32		n_info,
				n;

	if (n_held == 0)
		return;
	mine = my_entries(&n);
	info = lightning_list_stores(lightning_session(), &n_info);
	for (uint32 i = 0; i < n; i++)
	{
		LtgStoreKey key;

		if (!find_logged_store(info, n_info, mine[i].store_id, &key))
			continue;
		for (uint32 row = 0; row < 256; row++)
		{
			LOCKTAG		tag;

			if (!has_row(&mine[i], row))
				continue;
			tag.locktag_field1 = key.database;
			tag.locktag_field2 = key.relation;
			tag.locktag_field3 = mine[i].block;
			tag.locktag_field4 = (uint16) (row | mine[i].mode << 8);
			tag.locktag_type = LOCKTAG_USERLOCK;
			tag.locktag_lockmethodid = DEFAULT_LOCKMETHOD;
			(void) LockAcquire(&tag, AccessShareLock, false, false);
		}
	}
	pfree(info);
	pfree(mine);
}

/* The row ids that a row moved to, whether or not the moves were committed. */
#define MOVES_MAX 16

typedef struct Moves
{
	int			n;
	uint64		to[MOVES_MAX];
} Moves;

static bool
note_move(void *arg, const LtgVersion *v, LtgState *fate)
{
	Moves	   *moves = arg;

	if (v->kind == LTG_DELETE && v->aux != LTG_AUX_NONE && v->aux != LTG_AUX_OTHER_PARTITION)
		moves->to[moves->n++] = v->aux;
	return moves->n < MOVES_MAX;
}

/* Lock the row, and, as rowlock_copy did, what became of it. */
static void
restore_row(LtgSession *s, LtgStore *store, uint64 rowid, LtgXid xid, LockTupleMode mode)
{
	uint8		key[LIGHTNING_KEY_LEN];
	uint32		bucket;
	Moves		moves;

	(void) add_row(ltg_store_id(store), rowid, xid, mode, &bucket);
	moves.n = 0;
	lightning_rowid_key(key, rowid);
	lightning_report(s, ltg_versions(s, store, key, LIGHTNING_KEY_LEN, note_move, &moves), NULL);
	/* this ends: a row moves to an id that was never used before */
	check_stack_depth();
	for (int i = 0; i < moves.n; i++)
		restore_row(s, store, moves.to[i], xid, mode);
}

/* At start, before anybody may write (R5). */
void
lightning_rowlock_restore(LtgSession *s)
{
	LockData   *locks = GetLockStatusData();
	LtgStoreInfo *info = NULL;
	uint32		n_info = 0;

	for (int i = 0; i < locks->nelements; i++)
	{
		const LockInstanceData *l = &locks->locks[i];
		const LOCKTAG *tag = &l->locktag;

		/* a prepared transaction has no process, and its xid for a local one */
		if (tag->locktag_type != LOCKTAG_USERLOCK ||
			tag->locktag_lockmethodid != DEFAULT_LOCKMETHOD ||
			l->pid != 0 || !TransactionIdIsNormal(l->lxid) ||
			tag->locktag_field4 >> 8 > LockTupleExclusive)
			continue;
		if (info == NULL)
			info = lightning_list_stores(s, &n_info);
		for (uint32 k = 0; k < n_info; k++)
		{
			LtgStore   *store;

			if (info[k].key.database != tag->locktag_field1 ||
				info[k].key.relation != tag->locktag_field2 || info[k].key.backend >= 0 ||
				ltg_store_find(s, &info[k].key, &store) != LTG_OK)
				continue;
			restore_row(s, store, (uint64) tag->locktag_field3 << 8 | (tag->locktag_field4 & 255),
						lightning_widen_xid(l->lxid), tag->locktag_field4 >> 8);
		}
	}
	if (info != NULL)
		pfree(info);
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

/*
 * Speculative insertions: one at a time per backend.
 */
void
lightning_speculative_begin(uint64 store_id, uint64 rowid, uint32 token)
{
	SpeculativeSlot *slot = &speculative[MyBackendId - 1];

	Assert(MyBackendId >= 1 && MyBackendId <= MaxBackends);
	SpinLockAcquire(&slot->mutex);
	slot->store_id = store_id;
	slot->rowid = rowid;
	slot->token = token;
	SpinLockRelease(&slot->mutex);
}

uint32
lightning_speculative_token(uint64 store_id, uint64 rowid)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		SpeculativeSlot *slot = &speculative[i];
		uint32		token = 0;

		if (slot->token == 0)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (slot->store_id == store_id && slot->rowid == rowid)
			token = slot->token;
		SpinLockRelease(&slot->mutex);
		if (token != 0)
			return token;
	}
	return 0;
}
