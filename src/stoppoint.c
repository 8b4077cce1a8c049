/*
 * stoppoint.c
 *	  For tests: holding processes at named places, failing file operations, and
 *	  using row ids up.  Part of test builds only (make LIGHTNING_TEST=1), whose SQL
 *	  functions are the extension lightning_test.
 *
 * An armed stop point holds every process that comes by, until it is released.
 * A process that is held inside the engine can't be cancelled; it goes on when
 * it is asked to end.  What isn't armed costs one load of a word that is hardly
 * ever written.
 */
#include "postgres.h"

#include "access/relation.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/pmsignal.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "server.h"

PG_FUNCTION_INFO_V1(lightning_stop_point_set);
PG_FUNCTION_INFO_V1(lightning_stop_point_wait);
PG_FUNCTION_INFO_V1(lightning_stop_point_release);
PG_FUNCTION_INFO_V1(lightning_fault_set);
PG_FUNCTION_INFO_V1(lightning_fault_clear);
PG_FUNCTION_INFO_V1(lightning_skip_row_ids);

#define STOP_POINTS 8
#define STOP_NAME 48

typedef struct StopPoint
{
	char		name[STOP_NAME];	/* "" = slot is free */
	uint32		held;			/* processes waiting here now */
	uint32		generation;		/* counts releases */
} StopPoint;

typedef struct TestState
{
	slock_t		mutex;			/* of the stop points */
	pg_atomic_uint32 armed;		/* number of names in use */
	StopPoint	stop[STOP_POINTS];
	pg_atomic_uint32 fault_ops; /* LightningFaultOp mask, 0 = none */
	pg_atomic_uint32 fault_left;	/* fails when it counts down to 0 */
	int			fault_errno;
	bool		fault_sticky;	/* keep failing */
} TestState;

static TestState *state = NULL;

Size
lightning_stop_shmem_size(void)
{
	return sizeof(TestState);
}

void
lightning_stop_shmem_init(void)
{
	const char *name = getenv("LIGHTNING_STOP_POINT");
	bool		found;

	state = ShmemInitStruct("lightning tests", sizeof(TestState), &found);
	memset(state, 0, sizeof(TestState));
	SpinLockInit(&state->mutex);
	pg_atomic_init_u32(&state->armed, 0);
	pg_atomic_init_u32(&state->fault_ops, 0);
	pg_atomic_init_u32(&state->fault_left, 0);

	/* for what comes before anybody can connect */
	if (name != NULL)
	{
		strlcpy(state->stop[0].name, name, STOP_NAME);
		pg_atomic_write_u32(&state->armed, 1);
	}
}

/* ---- stop points ---- */

/* REQUIRES the mutex.  NULL if no such name is armed. */
static StopPoint *
find_stop(const char *name)
{
	int			i;

	for (i = 0; i < STOP_POINTS; i++)
	{
		if (strcmp(state->stop[i].name, name) == 0)
			return &state->stop[i];
	}
	return NULL;
}

static uint32
held_at(const char *name)
{
	StopPoint *p;
	uint32		held;

	SpinLockAcquire(&state->mutex);
	p = find_stop(name);
	held = p != NULL ? p->held : 0;
	SpinLockRelease(&state->mutex);
	return held;
}

/* Called by the engine through its port, and at places of our own. */
void
lightning_stop_point(const char *name)
{
	StopPoint *p;
	uint32		generation = 0;
	int			i = 0;

	if (likely(pg_atomic_read_u32(&state->armed) == 0))
		return;

	SpinLockAcquire(&state->mutex);
	p = find_stop(name);
	if (p != NULL)
	{
		p->held++;
		generation = p->generation;
	}
	SpinLockRelease(&state->mutex);
	if (p == NULL)
		return;

	while (((volatile StopPoint *) p)->generation == generation)
	{
		if (ProcDiePending || ShutdownRequestPending ||
			(++i % 100 == 0 && IsUnderPostmaster && !PostmasterIsAlive()))
			break;
		pg_usleep(1000);
	}

	SpinLockAcquire(&state->mutex);
	if (p->generation == generation)
		p->held--;
	SpinLockRelease(&state->mutex);
}

Datum
lightning_stop_point_set(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	StopPoint *p;

	lightning_require_preload();
	if (name[0] == '\0' || strlen(name) >= STOP_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid stop point name \"%s\"", name)));

	SpinLockAcquire(&state->mutex);
	p = find_stop(name);
	if (p == NULL && (p = find_stop("")) != NULL)
	{
		strcpy(p->name, name);
		p->held = 0;
		pg_atomic_fetch_add_u32(&state->armed, 1);
	}
	SpinLockRelease(&state->mutex);
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
	StopPoint *p;
	uint32		held = 0;

	lightning_require_preload();
	SpinLockAcquire(&state->mutex);
	p = name[0] == '\0' ? NULL : find_stop(name);
	if (p != NULL)
	{
		held = p->held;
		p->held = 0;
		p->name[0] = '\0';
		p->generation++;
		pg_atomic_fetch_sub_u32(&state->armed, 1);
	}
	SpinLockRelease(&state->mutex);
	PG_RETURN_INT32((int32) held);
}

/* ---- failing file operations ---- */

bool
lightning_fault(LightningFaultOp op)
{
	uint32		left;

	if ((pg_atomic_read_u32(&state->fault_ops) & op) == 0)
		return false;
	left = pg_atomic_read_u32(&state->fault_left);
	for (;;)
	{
		if (left == 0)
			break;
		if (pg_atomic_compare_exchange_u32(&state->fault_left, &left, left - 1))
		{
			if (left != 1)
				return false;
			break;
		}
	}
	if (!state->fault_sticky)
		pg_atomic_write_u32(&state->fault_ops, 0);
	errno = state->fault_errno;
	return true;
}

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
	pg_atomic_write_u32(&state->fault_ops, 0);
	pg_memory_barrier();
	state->fault_errno = strcmp(error, "ENOSPC") == 0 ? ENOSPC : EIO;
	state->fault_sticky = sticky;
	pg_atomic_write_u32(&state->fault_left, (uint32) nth);
	pg_memory_barrier();
	pg_atomic_write_u32(&state->fault_ops, ops);
	PG_RETURN_VOID();
}

/* Returns true if the fault had not happened yet. */
Datum
lightning_fault_clear(PG_FUNCTION_ARGS)
{
	bool		pending;

	lightning_require_preload();
	pending = pg_atomic_read_u32(&state->fault_ops) != 0 &&
		pg_atomic_read_u32(&state->fault_left) != 0;
	pg_atomic_write_u32(&state->fault_ops, 0);
	PG_RETURN_BOOL(pending);
}

/* (table, n): its next row gets an id that is greater by n. */
Datum
lightning_skip_row_ids(PG_FUNCTION_ARGS)
{
	Relation	rel = lightning_open(PG_GETARG_OID(0), AccessShareLock);
	int64		n = PG_GETARG_INT64(1);

	while (n > 0)
	{
		uint32		some = (uint32) Min(n, 1 << 30);

		(void) ltg_store_take_rowids(lightning_rel(rel).store, some);
		n -= some;
	}
	relation_close(rel, AccessShareLock);
	PG_RETURN_VOID();
}
