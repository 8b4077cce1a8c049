/*
 * stoppoint.c
 *	  For tests: holding processes at named places, and failing file
 *	  operations.
 *
 * An armed stop point holds every process that comes by, until it is released.
 * A process that is held inside the engine can't be cancelled; it goes on when
 * it is asked to end.  What isn't armed costs one load of a word that is hardly
 * ever written.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/pmsignal.h"
#include "utils/builtins.h"

#include "server.h"

PG_FUNCTION_INFO_V1(lightning_stop_point_set);
PG_FUNCTION_INFO_V1(lightning_stop_point_wait);
PG_FUNCTION_INFO_V1(lightning_stop_point_release);
PG_FUNCTION_INFO_V1(lightning_fault_set);
PG_FUNCTION_INFO_V1(lightning_fault_clear);

/* REQUIRES stop_mutex.  NULL if no such name is armed. */
static LightningStopPoint *
find_stop(const char *name)
{
	int			i;

	for (i = 0; i < LIGHTNING_STOP_POINTS; i++)
	{
		if (strcmp(lightning_shared->stop[i].name, name) == 0)
			return &lightning_shared->stop[i];
	}
	return NULL;
}

static uint32
held_at(const char *name)
{
	LightningStopPoint *p;
	uint32		held;

	SpinLockAcquire(&lightning_shared->stop_mutex);
	p = find_stop(name);
	held = p != NULL ? p->held : 0;
	SpinLockRelease(&lightning_shared->stop_mutex);
	return held;
}

/* Called by the engine through its port, and at places of our own. */
void
lightning_stop_point(const char *name)
{
	LightningStopPoint *p;
	uint32		generation = 0;
	int			i = 0;

	if (likely(pg_atomic_read_u32(&lightning_shared->stop_armed) == 0))
		return;

	SpinLockAcquire(&lightning_shared->stop_mutex);
	p = find_stop(name);
	if (p != NULL)
	{
		p->held++;
		generation = p->generation;
	}
	SpinLockRelease(&lightning_shared->stop_mutex);
	if (p == NULL)
		return;

	while (((volatile LightningStopPoint *) p)->generation == generation)
	{
		if (ProcDiePending || ShutdownRequestPending ||
			(++i % 100 == 0 && IsUnderPostmaster && !PostmasterIsAlive()))
			break;
		pg_usleep(1000);
	}

	SpinLockAcquire(&lightning_shared->stop_mutex);
	if (p->generation == generation)
		p->held--;
	SpinLockRelease(&lightning_shared->stop_mutex);
}

Datum
lightning_stop_point_set(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	LightningStopPoint *p;

	lightning_require_preload();
	if (name[0] == '\0' || strlen(name) >= LIGHTNING_STOP_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid stop point name \"%s\"", name)));

	SpinLockAcquire(&lightning_shared->stop_mutex);
	p = find_stop(name);
	if (p == NULL && (p = find_stop("")) != NULL)
	{
		strcpy(p->name, name);
		p->held = 0;
		pg_atomic_fetch_add_u32(&lightning_shared->stop_armed, 1);
	}
	SpinLockRelease(&lightning_shared->stop_mutex);
	if (p == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many stop points are set")));
	PG_RETURN_VOID();
}

/* Wait until some process is held there. */
Datum
lightning_stop_point_wait(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	lightning_require_preload();
	while (held_at(name) == 0)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(2000);
	}
	PG_RETURN_VOID();
}

/* Let everybody go; returns how many were held. */
Datum
lightning_stop_point_release(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	LightningStopPoint *p;
	uint32		held = 0;

	lightning_require_preload();
	SpinLockAcquire(&lightning_shared->stop_mutex);
	p = name[0] == '\0' ? NULL : find_stop(name);
	if (p != NULL)
	{
		held = p->held;
		p->held = 0;
		p->name[0] = '\0';
		p->generation++;
		pg_atomic_fetch_sub_u32(&lightning_shared->stop_armed, 1);
	}
	SpinLockRelease(&lightning_shared->stop_mutex);
	PG_RETURN_INT32((int32) held);
}

/* ---- failing file operations ---- */

static uint32
fault_op(const char *name)
{
	static const struct
	{
		const char *name;
		uint32		op;
	}			ops[] = {
		{"open", LIGHTNING_FAULT_OPEN},
		{"read", LIGHTNING_FAULT_READ},
		{"write", LIGHTNING_FAULT_WRITE},
		{"sync", LIGHTNING_FAULT_SYNC},
		{"rename", LIGHTNING_FAULT_RENAME},
		{"change", LIGHTNING_FAULT_WRITE | LIGHTNING_FAULT_SYNC | LIGHTNING_FAULT_RENAME},
		{"any", LIGHTNING_FAULT_ANY}
	};
	int			i;

	for (i = 0; i < lengthof(ops); i++)
	{
		if (strcmp(ops[i].name, name) == 0)
			return ops[i].op;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown file operation \"%s\"", name),
			 errhint("Known are open, read, write, sync, rename, change and any.")));
	return 0;
}

/* (operation, ENOSPC or EIO, n, sticky): the n-th one from now on fails. */
Datum
lightning_fault_set(PG_FUNCTION_ARGS)
{
	char	   *op = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *error = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int32		nth = PG_GETARG_INT32(2);
	bool		sticky = PG_GETARG_BOOL(3);
	uint32		ops = fault_op(op);

	lightning_require_preload();
	if (nth < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of the operation must be positive")));
	pg_atomic_write_u32(&lightning_shared->fault_ops, 0);
	pg_memory_barrier();
	lightning_shared->fault_errno = strcmp(error, "ENOSPC") == 0 ? ENOSPC : EIO;
	lightning_shared->fault_sticky = sticky;
	pg_atomic_write_u32(&lightning_shared->fault_left, (uint32) nth);
	pg_memory_barrier();
	pg_atomic_write_u32(&lightning_shared->fault_ops, ops);
	PG_RETURN_VOID();
}

/* Returns true if the fault had not happened yet. */
Datum
lightning_fault_clear(PG_FUNCTION_ARGS)
{
	bool		pending;

	lightning_require_preload();
	pending = pg_atomic_read_u32(&lightning_shared->fault_ops) != 0 &&
		pg_atomic_read_u32(&lightning_shared->fault_left) != 0;
	pg_atomic_write_u32(&lightning_shared->fault_ops, 0);
	PG_RETURN_BOOL(pending);
}
