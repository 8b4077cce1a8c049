/*
 * live.c
 *	  Which snapshots are in use, so that flush and compaction can drop what lies
 *	  between them.  ARCHITECTURE.md has the argument.
 *
 * A transaction at repeatable read is "known" from its first read of ours on: it
 * has entered here every snapshot that it reads with.  Everybody else is
 * "unknown", and keeps all versions from his xmin on, as he does in heap.
 *
 * Invariants
 *	 L1. A snapshot is entered, and then checked, before anything is read with it.
 *		 It passes if its xmin is not below `floor` or if it is one of `kept`:
 *		 exactly then nothing that it may need has been dropped.
 *	 L2. Collecting raises floor to the new one and sets kept to the snapshots just
 *		 found, and those of before that the new floor can't hurt.  Entering and
 *		 collecting exclude each other by one lock.
 *	 L3. A known transaction names no version but by its snapshots.  Before it
 *		 reads in a way that could (dirty, self) it becomes unknown.
 *	 L4. A holder's entries count while process and local transaction id are those
 *		 that made them; so what is left over by a transaction that has ended
 *		 can keep something in vain, but vouches for nobody.
 *
 * Locks: LightningSnapshot, then ProcArrayLock.  Callers may hold an index page.
 * Nothing of the engine is held by those who enter.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "server.h"

PG_FUNCTION_INFO_V1(lightning_snapshots);

#define VIEWS 3					/* snapshots of one transaction */
#define VIEW_XIDS 120			/* running transactions of one snapshot */
#define KEPT_MAX 128

/* A snapshot, as far as it concerns transactions that have committed. */
typedef struct LightningView
{
	LtgXid		xmin;			/* older ones are seen */
	LtgXid		xmax;			/* these and younger ones are not */
	uint32		n;
	bool		exact;			/* the others are seen if not listed; else it's
								 * not known */
	TransactionId xid[VIEW_XIDS];	/* ascending by number */
} LightningView;

typedef struct LightningHolder
{
	int			pid;
	LocalTransactionId lxid;
	volatile uint32 n;			/* 0: unknown */
	LightningView view[VIEWS];
} LightningHolder;

typedef struct LightningLive
{
	LWLockPadded lock;			/* shared to enter, exclusive to collect */
	LtgXid		floor;
	pg_atomic_uint64 first;		/* transaction of this server's life, or a little
								 * later; 0: not set yet */
	pg_atomic_uint64 settled;	/* the greatest horizon since */
	uint32		n_kept;
	LightningView kept[KEPT_MAX];
	uint32		n_holders;
	LightningHolder holder[FLEXIBLE_ARRAY_MEMBER];	/* by pgprocno */
} LightningLive;

static LightningLive *live = NULL;

/* ---- this process ---- */

typedef enum Standing
{
	STANDING_NONE,				/* has entered nothing */
	STANDING_KNOWN,
	STANDING_UNKNOWN			/* till the end of the transaction */
} Standing;

static Standing standing = STANDING_NONE;

/* Snapshots that have passed, as they came; a few suffice. */
static LightningView passed[VIEWS];
static uint32 n_passed = 0;
static uint32 next_passed = 0;

/* ---- shared memory ---- */

static uint32
holders(void)
{
	return (uint32) (MaxBackends + NUM_AUXILIARY_PROCS);
}

Size
lightning_live_shmem_size(void)
{
	return add_size(offsetof(LightningLive, holder),
					mul_size(sizeof(LightningHolder), holders()));
}

void
lightning_live_shmem_init(void)
{
	bool		found;
	int			tranche;

	live = ShmemInitStruct("lightning snapshots", lightning_live_shmem_size(), &found);
	memset(live, 0, lightning_live_shmem_size());
	tranche = LWLockNewTrancheId();
	LWLockRegisterTranche(tranche, "LightningSnapshot");
	LWLockInitialize(&live->lock.lock, tranche);
	live->n_holders = holders();
	pg_atomic_init_u64(&live->first, 0);
	pg_atomic_init_u64(&live->settled, 0);
}

/* ---- views ---- */

static int
compare_xids(const void *a, const void *b)
{
	TransactionId x = *(const TransactionId *) a;
	TransactionId y = *(const TransactionId *) b;

	return x < y ? -1 : x > y;
}

static bool
add_xids(LightningView *view, const TransactionId *xid, uint32 n, TransactionId xmax)
{
	for (uint32 i = 0; i < n; i++)
	{
		/* an exported snapshot may list some that it need not */
		if (TransactionIdFollowsOrEquals(xid[i], xmax))
			continue;
		if (view->n == VIEW_XIDS)
			return false;
		view->xid[view->n++] = xid[i];
	}
	return true;
}

/* False: too many transactions were running to be listed. */
static bool
make_view(LightningView *view, Snapshot snap)
{
	view->xmin = lightning_widen_xid(snap->xmin);
	view->xmax = lightning_widen_xid(snap->xmax);
	view->n = 0;
	view->exact = !snap->suboverflowed;
	if (!add_xids(view, snap->xip, snap->xcnt, snap->xmax))
		return false;
	if (view->exact && snap->subxcnt > 0 &&
		!add_xids(view, snap->subxip, (uint32) snap->subxcnt, snap->xmax))
		return false;
	qsort(view->xid, view->n, sizeof(TransactionId), compare_xids);
	return true;
}

static bool
same_view(const LightningView *a, const LightningView *b)
{
	return a->xmin == b->xmin && a->xmax == b->xmax && a->n == b->n && a->exact == b->exact &&
		memcmp(a->xid, b->xid, a->n * sizeof(TransactionId)) == 0;
}

static void
copy_view(LightningView *to, const LightningView *from)
{
	memcpy(to, from, offsetof(LightningView, xid) + from->n * sizeof(TransactionId));
}

static bool
in_views(const LightningView *views, uint32 n, const LightningView *view)
{
	for (uint32 i = 0; i < n; i++)
	{
		if (same_view(&views[i], view))
			return true;
	}
	return false;
}

/* ---- entering ---- */

/*
 * REQUIRES the lock.  One that does not fit is not told from others by what is
 * listed of it.
 */
static bool
is_intact(const LightningView *view, bool fits)
{
	return view->xmin >= live->floor || (fits && in_views(live->kept, live->n_kept, view));
}

static void
remember_passed(const LightningView *view)
{
	copy_view(&passed[next_passed], view);
	next_passed = (next_passed + 1) % VIEWS;
	n_passed = Max(n_passed, next_passed == 0 ? VIEWS : next_passed);
}

/* REQUIRES the lock: those who collect see the change, or all was done before. */
static void
become_unknown(LightningHolder *holder)
{
	if (standing == STANDING_KNOWN)
		holder->n = 0;
	standing = STANDING_UNKNOWN;
}

/* fits: the view is complete and may be entered.  True: it may be read with. */
static bool
enter(const LightningView *view, bool fits)
{
	LightningHolder *holder = &live->holder[MyProc->pgprocno];
	bool		intact;

	LWLockAcquire(&live->lock.lock, LW_SHARED);
	intact = is_intact(view, fits);
	if (intact && standing == STANDING_NONE)
	{
		holder->n = 0;
		holder->pid = MyProcPid;
		holder->lxid = MyProc->lxid;
		standing = fits ? STANDING_KNOWN : STANDING_UNKNOWN;
	}
	if (standing != STANDING_KNOWN || !intact)
		 /* xmin protects what is intact */ ;
	else if (!fits || holder->n == VIEWS)
		become_unknown(holder);
	else
	{
		copy_view(&holder->view[holder->n], view);
		pg_write_barrier();
		holder->n++;
	}
	LWLockRelease(&live->lock.lock);
	return intact;
}

static void
note(Snapshot snap)
{
	LightningView view;
	/* one taken in recovery lists running transactions in another way */
	bool		fits = make_view(&view, snap) && !snap->takenDuringRecovery;

	if (fits && in_views(passed, n_passed, &view))
		return;
	lightning_stop_point("snapshot:enter");
	if (!enter(&view, fits))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to removal of old row versions"),
				 errdetail("Row versions that a later snapshot of this transaction may need were removed before it was used."),
				 errhint("The transaction might succeed if retried.")));
	if (fits)
		remember_passed(&view);
}

/*
 * Serializable transactions must find every writer whose version they don't
 * see, not only the last one.  In recovery nothing is dropped but by horizon.
 */
static bool
enters(void)
{
	return XactIsoLevel == XACT_REPEATABLE_READ && !RecoveryInProgress() &&
		LocalTransactionIdIsValid(MyProc->lxid) && !HistoricSnapshotActive();
}

/* ---- who reads ---- */

void
lightning_note_snapshot(Snapshot snap)
{
	if (!enters())
		return;
	/* who is known is so with the snapshot that lasts to the transaction's end */
	if (standing == STANDING_NONE)
		note(GetTransactionSnapshot());
	note(snap);
}

void
lightning_note_dirty_read(void)
{
	if (likely(standing == STANDING_UNKNOWN || XactIsoLevel != XACT_REPEATABLE_READ))
		return;
	LWLockAcquire(&live->lock.lock, LW_SHARED);
	become_unknown(&live->holder[MyProc->pgprocno]);
	LWLockRelease(&live->lock.lock);
}

void
lightning_live_at_xact_end(void)
{
	if (standing == STANDING_KNOWN)
		live->holder[MyProc->pgprocno].n = 0;
	standing = STANDING_NONE;
	n_passed = next_passed = 0;
}

/* ---- collecting ---- */

static bool
vouches(const LightningHolder *holder, const PGPROC *proc)
{
	return holder->n > 0 && holder->pid == proc->pid && holder->lxid == proc->lxid;
}

static TransactionId
older(TransactionId a, TransactionId b)
{
	if (!TransactionIdIsNormal(b))
		return a;
	return TransactionIdPrecedes(b, a) ? b : a;
}

/*
 * The oldest xmin of those who are not known, and of what may become a snapshot.
 * A snapshot taken after the first step has no older xmin; one taken before it
 * shows in the second, which nobody who passes a snapshot on to another process
 * can slip through: that takes ProcArrayLock.
 */
static TransactionId
oldest_unknown(void)
{
	TransactionId oldest = GetOldestActiveTransactionId();
	TransactionId slot_xmin;
	TransactionId slot_catalog_xmin;

	/* before the processes: a slot's snapshot passes from the slot to its creator */
	ProcArrayGetReplicationSlotXmin(&slot_xmin, &slot_catalog_xmin);
	LWLockAcquire(ProcArrayLock, LW_EXCLUSIVE);
	for (uint32 i = 0; i < live->n_holders; i++)
	{
		volatile PGPROC *proc = &ProcGlobal->allProcs[i];

		/* as ComputeXidHorizons does */
		if (proc->statusFlags & (PROC_IN_VACUUM | PROC_IN_LOGICAL_DECODING))
			continue;
		if (!vouches(&live->holder[i], (const PGPROC *) proc))
			oldest = older(oldest, proc->xmin);
	}
	LWLockRelease(ProcArrayLock);
	return older(older(oldest, slot_xmin), slot_catalog_xmin);
}

/* All views there are, without doubles; false: more than max. */
static bool
gather(LightningView *views, uint32 max, uint32 *n)
{
	*n = 0;
	for (uint32 i = 0; i < live->n_holders; i++)
	{
		LightningHolder *holder = &live->holder[i];
		uint32		count = holder->n;

		pg_read_barrier();
		if (count == 0 || !vouches(holder, &ProcGlobal->allProcs[i]))
			continue;
		for (uint32 k = 0; k < count; k++)
		{
			if (in_views(views, *n, &holder->view[k]))
				continue;
			if (*n == max)
				return false;
			copy_view(&views[(*n)++], &holder->view[k]);
		}
	}
	return true;
}

/* L2. */
static void
note_collected(const LightningView *views, uint32 n, LtgXid floor)
{
	uint32		kept = 0;

	for (uint32 i = 0; i < live->n_kept; i++)
	{
		if (live->kept[i].xmin < floor || in_views(views, n, &live->kept[i]))
			continue;
		if (kept != i)
			copy_view(&live->kept[kept], &live->kept[i]);
		kept++;
	}
	/* without room for all, the oldest promises go */
	if (kept + n > KEPT_MAX)
		kept = KEPT_MAX - n;
	for (uint32 i = 0; i < n; i++)
		copy_view(&live->kept[kept++], &views[i]);
	live->n_kept = kept;
	live->floor = Max(live->floor, floor);
}

static LtgXid
widen_exactly(TransactionId xid)
{
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());

	return next + (int64) (int32) (xid - (uint32) next);
}

static void
note_first(void)
{
	uint64		unset = 0;

	if (pg_atomic_read_u64(&live->first) == 0)
		(void) pg_atomic_compare_exchange_u64(&live->first, &unset,
											  U64FromFullTransactionId(ReadNextFullTransactionId()));
}

/* Before anybody uses it. */
void
lightning_note_horizon(LtgXid horizon)
{
	uint64		greatest;

	if (live == NULL)
		return;
	greatest = pg_atomic_read_u64(&live->settled);
	while (greatest < horizon &&
		   !pg_atomic_compare_exchange_u64(&live->settled, &greatest, horizon))
		;
}

/*
 * What is settled was written by a transaction below this one.  The horizon recedes
 * when a standby's feedback speaks of an older snapshot, but then what was settled
 * before stays so.
 */
LtgXid
lightning_settled_below(void)
{
	note_first();
	return Max(pg_atomic_read_u64(&live->first), pg_atomic_read_u64(&live->settled));
}

/*
 * So was what has made others superfluous, between the snapshots that are in use
 * here.  What files say of both is right for our snapshots; for one of a standby, if it
 * sees everything below.
 */
LtgXid
lightning_known_below(void)
{
	LtgXid		floor;

	LWLockAcquire(&live->lock.lock, LW_SHARED);
	floor = live->floor;
	LWLockRelease(&live->lock.lock);
	return Max(floor, lightning_settled_below());
}

void
lightning_collect_live(LtgLive *l)
{
	LightningView *views;
	uint32		n;

	/* without any, the horizon is as good */
	if (live == NULL || RecoveryInProgress())
		return;
	views = MemoryContextAllocExtended(TopMemoryContext, sizeof(LightningView) * LTG_LIVE_MAX,
									   MCXT_ALLOC_NO_OOM);
	if (views == NULL)
		return;
	LWLockAcquire(&live->lock.lock, LW_EXCLUSIVE);
	note_first();
	if (gather(views, LTG_LIVE_MAX, &n) && n > 0)
	{
		l->floor = widen_exactly(oldest_unknown());
		note_collected(views, n, l->floor);
		l->n = n;
		l->host = views;
	}
	LWLockRelease(&live->lock.lock);
	if (l->host == NULL)
		pfree(views);
}

LtgSees
lightning_view_sees(const LtgLive *l, uint32 i, LtgXid xid)
{
	const LightningView *view = &((const LightningView *) l->host)[i];
	TransactionId narrow = (TransactionId) xid;

	if (xid < view->xmin)
		return LTG_SEES_YES;
	if (xid >= view->xmax ||
		bsearch(&narrow, view->xid, view->n, sizeof(TransactionId), compare_xids) != NULL)
		return LTG_SEES_NO;
	return view->exact ? LTG_SEES_YES : LTG_SEES_MAYBE;
}

/* ---- who holds what ---- */

#define SNAPSHOT_COLUMNS 4

Datum
lightning_snapshots(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	lightning_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	for (uint32 i = 0; i < live->n_holders; i++)
	{
		volatile PGPROC *proc = &ProcGlobal->allProcs[i];
		LightningHolder *holder = &live->holder[i];
		Datum		values[SNAPSHOT_COLUMNS];
		bool		nulls[SNAPSHOT_COLUMNS] = {false};
		TransactionId xmin = proc->xmin;
		bool		known = vouches(holder, (const PGPROC *) proc);

		if (!TransactionIdIsNormal(xmin))
			continue;
		values[0] = Int32GetDatum(proc->pid);
		values[1] = TransactionIdGetDatum(xmin);
		values[2] = BoolGetDatum(known);
		values[3] = Int32GetDatum(known ? (int32) holder->n : 0);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
