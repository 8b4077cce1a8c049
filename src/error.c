/*
 * error.c
 *	  The one place where statuses of the engine become errors of the server.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "server.h"

/*
 * Throwing forgets how many locks forbid interrupts, since an abort will release
 * them all; ours are still held, and are to be released one by one.  What the
 * server has taken on its way to the error is released here: when the commit log
 * can't be read, that is its lock.
 */
ErrorData *
lightning_catch(MemoryContext keep, MemoryContext back, uint32 holdoff)
{
	LWLock	   *const taken[] = {XactSLRULock, SubtransSLRULock};
	ErrorData  *error = NULL;

	InterruptHoldoffCount = holdoff;
	for (int i = 0; i < lengthof(taken); i++)
	{
		if (!LWLockHeldByMe(taken[i]))
			continue;
		HOLD_INTERRUPTS();		/* which releasing makes up for */
		LWLockRelease(taken[i]);
	}
	MemoryContextSwitchTo(keep != NULL ? keep : back);
	if (keep != NULL)
		error = CopyErrorData();
	FlushErrorState();
	MemoryContextSwitchTo(back);
	return error;
}

void
lightning_rethrow(ErrorData *error)
{
	InterruptHoldoffCount = 0;	/* as when it was thrown first */
	ReThrowError(error);
}

/* What happened, where: "could not write file "lightning/12.run": ..." */
static void
report_io(const LtgError *e, LtgStatus st)
{
	const char *what = e->msg[0] != '\0' ? e->msg : "could not access a file";

	if (st == LTG_NOSPACE && e->os_errno == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("not enough disk space for lightning: %s", what),
				 errhint("Check free disk space.")));
	errno = e->os_errno != 0 ? e->os_errno : EIO;
	if (st == LTG_NOSPACE)
		ereport(ERROR,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("%s \"%s/%s\": %m", what, LIGHTNING_DIR, e->file),
				 errhint("Check free disk space.")));
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("%s \"%s/%s\": %m", what, LIGHTNING_DIR, e->file)));
}

static void
report_corrupt(const LtgError *e, LtgStatus st, Relation rel)
{
	const char *what = e->msg[0] != '\0' ? e->msg : "unexpected content";
	int			code = ERRCODE_DATA_CORRUPTED;

	if (st == LTG_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("lightning file has an unknown format: %s", what),
				 e->file[0] != '\0' ? errdetail("File \"%s/%s\".", LIGHTNING_DIR, e->file) : 0,
				 errhint("The file was written by a newer version of lightning; install that version.")));

	ereport(ERROR,
			(errcode(code),
			 rel != NULL ?
			 errmsg("table \"%s\" contains corrupted data: %s",
					RelationGetRelationName(rel), what) :
			 errmsg("lightning found corrupted data: %s", what),
			 e->file[0] != '\0' ?
			 errdetail("File \"%s/%s\", offset %llu.", LIGHTNING_DIR, e->file,
					   (unsigned long long) e->offset) :
			 e->file_id != 0 ?
			 errdetail("Data file %llu, offset %llu.", (unsigned long long) e->file_id,
					   (unsigned long long) e->offset) : 0,
			 errhint("Run lightning_check() to see the extent of the damage, then restore from a backup.")));
}

/* The port kept what the server threw. */
static void
report_host_error(const LtgError *e)
{
	LightningPort *lp = lightning_port();
	ErrorData  *error = lp != NULL ? lp->error : NULL;

	if (error != NULL)
		lightning_rethrow(error);	/* the port frees it when it keeps the next */
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("lightning operation failed: %s",
					e->msg[0] != '\0' ? e->msg : "no detail")));
}

static void
report_rest(const LtgError *e, LtgStatus st, Relation rel)
{
	const char *what = e->msg[0] != '\0' ? e->msg : ltg_status_name(st);

	switch (st)
	{
		case LTG_NOMEM:
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory"),
					 e->msg[0] != '\0' ? errdetail_internal("%s", e->msg) : 0));
			break;
		case LTG_NOSHMEM:
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("lightning is out of shared memory"),
					 e->msg[0] != '\0' ? errdetail_internal("%s", e->msg) : 0,
					 errhint("You might need to increase lightning.metadata_size.")));
			break;
		case LTG_TOO_LARGE:
			if (rel != NULL)
				ereport(ERROR,
						(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						 errmsg("row is too large for table \"%s\"", RelationGetRelationName(rel)),
						 errdetail_internal("%s", what)));
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("lightning limit exceeded: %s", what)));
			break;
		case LTG_CONFLICT:
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent update")));
			break;
		case LTG_POISONED:
			ereport(ERROR,
					(errcode(ERRCODE_IO_ERROR),
					 errmsg("lightning cannot write since an earlier fsync failed: %s", what),
					 errhint("Check the storage, then restart the server; everything committed is in the write-ahead log.")));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("lightning operation failed: %s", what)));
	}
}

void
lightning_report(LtgSession *s, LtgStatus st, Relation rel)
{
	LtgError	e;

	if (st == LTG_OK || st == LTG_NOT_FOUND || st == LTG_END || st == LTG_BUSY)
		return;

	e = s->err;
	ltg_clear_error(s);
	switch (st)
	{
		case LTG_IO:
		case LTG_NOSPACE:
			report_io(&e, st);
			break;
		case LTG_CORRUPT:
		case LTG_VERSION:
			report_corrupt(&e, st, rel);
			break;
		case LTG_HOST_ERROR:
			report_host_error(&e);
			break;
		case LTG_INTERRUPTED:
			CHECK_FOR_INTERRUPTS();
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("canceling statement due to user request")));
			break;
		default:
			report_rest(&e, st, rel);
	}
}
