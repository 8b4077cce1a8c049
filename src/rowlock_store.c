/*
 * rowlock_store.c
 *	  Moving row locks from shared memory to the store of locks, when there
 *	  are too many, and copying them there for PREPARE TRANSACTION.
 *
 * See rowlock.c for the rules (R5, R6) and the order of locks.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "lockstore.h"
#include "modify.h"
#include "rowlock_int.h"
#include "server.h"

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
	if (lightning_rl_first(bucket) == NO_ENTRY)
		return;
	LWLockAcquire(lightning_rl_lock(bucket), LW_SHARED);
	for (uint32 i = lightning_rl_first(bucket);
		 i != NO_ENTRY && sp->n < LIGHTNING_LOCKSTORE_BATCH; i = lightning_rl_next(i))
	{
		const LtgStoreInfo *table = find_table(sp->info, sp->n_info, lightning_rl.entries[i].store_id);

		if (table == NULL || !lightning_xact_goes_on(lightning_rl.entries[i].xid))
			continue;
		sp->entry[sp->n] = i;
		sp->bucket[sp->n] = bucket;
		sp->copy[sp->n] = lightning_rl.entries[i];
		describe_entry(&lightning_rl.entries[i], &table->key, &sp->locks[sp->n]);
		sp->n++;
	}
	LWLockRelease(lightning_rl_lock(bucket));
}

/* What was written goes, unless it has changed meanwhile. */
static void
remove_spilled(const Spill *sp, uint32 k)
{
	const RowLockEntry *was = &sp->copy[k];
	uint32		bucket = sp->bucket[k];
	uint32		prev = NO_ENTRY;

	LWLockAcquire(lightning_rl_lock(bucket), LW_EXCLUSIVE);
	for (uint32 i = lightning_rl_first(bucket); i != NO_ENTRY; i = lightning_rl_next(i))
	{
		const RowLockEntry *e = &lightning_rl.entries[i];

		if (i == sp->entry[k])
		{
			if (e->xid == was->xid && e->store_id == was->store_id && e->block == was->block &&
				e->mode == was->mode && memcmp(e->rows, was->rows, sizeof(e->rows)) == 0)
				lightning_rl_unlink(bucket, prev, i);
			break;
		}
		prev = i;
	}
	LWLockRelease(lightning_rl_lock(bucket));
}

void
lightning_rl_spill(void)
{
	Spill	   *sp = palloc(sizeof(Spill));
	uint32		n_buckets = lightning_rl.shared->n_buckets;
	uint32		looked_at = 0;

	lightning_lockstore_create();
	sp->info = list_tables(&sp->n_info);
	while (looked_at < n_buckets && lightning_rl.shared->n_free < lightning_rl.shared->n_entries / 2)
	{
		CHECK_FOR_INTERRUPTS();
		sp->n = 0;
		while (looked_at++ < n_buckets && sp->n < LIGHTNING_LOCKSTORE_BATCH)
			gather_bucket(sp, pg_atomic_fetch_add_u32(&lightning_rl.shared->hand, 1) & (n_buckets - 1));
		(void) lightning_lockstore_write(sp->locks, sp->n);
		lightning_stop_point("rowlock:spilled");
		for (uint32 k = 0; k < sp->n; k++)
			remove_spilled(sp, k);
	}
	pfree(sp->info);
	pfree(sp);
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
	for (uint32 b = 0; b < lightning_rl.shared->n_buckets; b++)
	{
		if (lightning_rl_first(b) == NO_ENTRY)
			continue;
		LWLockAcquire(lightning_rl_lock(b), mark ? LW_EXCLUSIVE : LW_SHARED);
		for (uint32 i = lightning_rl_first(b); i != NO_ENTRY; i = lightning_rl_next(i))
		{
			if (!lightning_rl_is_mine(lightning_rl.entries[i].xid))
				continue;
			if (mark)
				lightning_rl.entries[i].kept = true;
			if (*n == cap)
			{
				cap *= 2;
				mine = repalloc_huge(mine, (Size) cap * sizeof(RowLockEntry));
			}
			mine[(*n)++] = lightning_rl.entries[i];
		}
		LWLockRelease(lightning_rl_lock(b));
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

	if (!lightning_rl.took_locks)
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
