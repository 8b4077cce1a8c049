/*
 * xid.c
 *	  Transaction ids in 64 bits, and what became of them.
 *
 * The commit log does not say whether a transaction is still running, and in
 * recovery it can't be known: there, a transaction that is neither committed
 * nor explicitly aborted counts as running, unless the primary has forgotten
 * it.  What the commit log forgets is asked from copies of it (xact.c), so
 * nobody but this file asks the commit log.  Out of recovery, one that is not
 * running and not committed has aborted, in a crash at the latest.
 */
#include "postgres.h"

#include "access/clog.h"
#include "access/subtrans.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "storage/procarray.h"

#include "server.h"

/* The next id some time ago; any id in use is within 2^31 of it. */
static uint64 reference = 0;
static uint32 reference_uses = 0;

/* Every transaction below has ended (was so at some time). */
static LtgXid ended_below = 0;

/*
 * The counter only grows, and nobody minds if it has grown meanwhile: where 8
 * bytes are read at once there is no need to take the lock that every new
 * transaction id takes, too.
 */
static uint64
next_xid(void)
{
#ifdef PG_HAVE_8BYTE_SINGLE_COPY_ATOMICITY
	reference = *(volatile uint64 *) &ShmemVariableCache->nextXid.value;
#else
	reference = U64FromFullTransactionId(ReadNextFullTransactionId());
#endif
	reference_uses = 0;
	return reference;
}

LtgXid
lightning_widen_xid(TransactionId xid)
{
	uint64		wide;

	if (unlikely(!TransactionIdIsNormal(xid)))
		return (LtgXid) xid;

	/*
	 * The counter is everybody's, so an older value is used for a while.
	 * It must not lag behind by billions, hence the refreshing.
	 */
	if (unlikely(reference == 0 || ++reference_uses >= 65536))
		(void) next_xid();
	wide = reference + (int64) (int32) (xid - (uint32) reference);
	if (wide > reference)
		reference = wide;
	return wide;
}

/* Forget the cached counter value: at transaction end. */
void
lightning_forget_xid_reference(void)
{
	reference_uses = 65536;
}

LtgXid
lightning_my_xid(void)
{
	return U64FromFullTransactionId(GetCurrentFullTransactionId());
}

/* Every snapshot there is on this node, or will be, sees what committed below it. */
LtgXid
lightning_seen_below(void)
{
	TransactionId oldest;
	uint64		next;

	/*
	 * Before hot standby is active there is no telling who is running (and
	 * nobody who would gain from settled versions).
	 */
	if (RecoveryInProgress() && !HotStandbyActive())
		return 0;

	oldest = GetOldestNonRemovableTransactionId(NULL);
	next = next_xid();
	return next + (int64) (int32) (oldest - (uint32) next);
}

/* The same, to settle versions by it. */
LtgXid
lightning_horizon(void)
{
	LtgXid		wide = lightning_seen_below();

	if (wide == 0)
		return 0;
	if (wide > ended_below)
		ended_below = wide;
	lightning_note_horizon(wide);
	return wide;
}

/* Every transaction below has ended; what became of it is final. */
LtgXid
lightning_ended_for_good(void)
{
	TransactionId xid = ShmemVariableCache->oldestClogXid;

	return TransactionIdIsNormal(xid) ? lightning_widen_xid(xid) : 0;
}

/* What is no longer where it is asked for must not look as if it had aborted. */
static void
lost(LtgXid wide)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("could not access status of transaction %llu", (unsigned long long) wide),
			 errdetail("The commit log has been truncated beyond it.")));
}

/*
 * In redo, only what is dropped further on can ask for a transaction that a
 * backup does not have; PostgreSQL reads it as not ended, too.
 */
static LightningKeptFate
kept_fate(LtgXid wide)
{
	LightningKeptFate fate = lightning_kept_fate(wide);

	if (unlikely(fate == LIGHTNING_KEPT_LOST) && !AmStartupProcess())
		lost(wide);
	return fate;
}

bool
lightning_did_commit(LtgXid wide)
{
	LightningKeptFate fate = kept_fate(wide);

	return fate == LIGHTNING_KEPT_UNKNOWN ? TransactionIdDidCommit((TransactionId) wide) :
		fate == LIGHTNING_KEPT_COMMITTED;
}

bool
lightning_did_abort(LtgXid wide)
{
	LightningKeptFate fate = kept_fate(wide);

	return fate == LIGHTNING_KEPT_UNKNOWN ? TransactionIdDidAbort((TransactionId) wide) :
		fate == LIGHTNING_KEPT_ABORTED;
}

/* Recovery: what the commit log says, and little more. */
static LtgXidStatus
status_in_recovery(LtgXid wide)
{
	XLogRecPtr	lsn;

	switch (TransactionIdGetStatus((TransactionId) wide, &lsn))
	{
		case TRANSACTION_STATUS_COMMITTED:
			return LTG_XID_COMMITTED;
		case TRANSACTION_STATUS_ABORTED:
			return LTG_XID_ABORTED;
		default:
			if (wide < lightning_ended_for_good())
				return LTG_XID_ABORTED; /* in a crash of the primary */
			/* a subtransaction's parent is just committing, at most */
			return LTG_XID_IN_PROGRESS;
	}
}

LtgXidStatus
lightning_xid_status(LtgXid wide)
{
	if (wide < FirstNormalTransactionId)
		return LTG_XID_COMMITTED;
	switch (kept_fate(wide))
	{
		case LIGHTNING_KEPT_COMMITTED:
			return LTG_XID_COMMITTED;
		case LIGHTNING_KEPT_ABORTED:
			return LTG_XID_ABORTED;
		case LIGHTNING_KEPT_LOST:
			return LTG_XID_IN_PROGRESS;
		case LIGHTNING_KEPT_UNKNOWN:
			break;
	}

	if (RecoveryInProgress())
		return status_in_recovery(wide);

	/* first whether it runs, then what became of it: see transam/README */
	if (wide >= ended_below && TransactionIdIsInProgress((TransactionId) wide))
		return LTG_XID_IN_PROGRESS;
	return TransactionIdDidCommit((TransactionId) wide) ? LTG_XID_COMMITTED : LTG_XID_ABORTED;
}
