/*
 * session.c
 *	  The backend's session with the engine, and what happens to it at the end
 *	  of transactions and of the process.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "utils/inval.h"

#include "server.h"

static LtgSession *session = NULL;
static LightningPort *port = NULL;

/*
 * At exit.  Not before_shmem_exit: the transaction's abort, which runs there,
 * still needs the session.
 */
static void
close_session(int code, Datum arg)
{
	LtgSession *s = session;

	if (s == NULL)
		return;
	session = NULL;
	LWLockReleaseAll();
	ltg_session_reset(s, false);
	if (code == 0)
		lightning_drop_temp_stores(s);
	ltg_session_close(s);
}

LightningPort *
lightning_port(void)
{
	return port;
}

LtgSession *
lightning_session(void)
{
	LtgStatus	st;

	if (likely(session != NULL))
		return session;

	lightning_require_preload();
	if (port == NULL)
		port = lightning_port_create();
	st = ltg_session_open(&port->port, lightning_region, &session);
	if (st != LTG_OK)
	{
		session = NULL;
		ereport(ERROR,
				(errcode(st == LTG_NOMEM ? ERRCODE_OUT_OF_MEMORY : ERRCODE_TOO_MANY_CONNECTIONS),
				 errmsg("lightning could not open a session: %s", ltg_status_name(st))));
	}
	session->host_id = (uint64) MyProcPid;
	if (!port->plain_files)
		on_shmem_exit(close_session, (Datum) 0);
	return session;
}

void
lightning_ddl_begin(LtgSession *s)
{
	ltg_ddl_pin(s);
	START_CRIT_SECTION();
}

void
lightning_ddl_end(LtgSession *s)
{
	END_CRIT_SECTION();
	ltg_ddl_unpin(s);
}

#ifdef USE_ASSERT_CHECKING
bool		lightning_catalogs_closed = false;

static void
invalidation_callback(Datum arg, Oid relid)
{
	Assert(!lightning_catalogs_closed);
	Assert(session == NULL || session->latched_stripe < 0);
}
#endif

/* What was made in the postmaster must not be inherited. */
void
lightning_session_discard(void)
{
	if (session != NULL)
		ltg_session_close(session);
	session = NULL;
	if (port != NULL)
		lightning_port_free(port);
	port = NULL;
}

/*
 * All LWLocks are gone when the abort callbacks run (xact.c releases them
 * first), so the session only forgets what it held.
 */
static void
reset_after_abort(void)
{
	lightning_open_catalogs();
	if (session != NULL)
	{
		ltg_session_reset(session, false);
		ltg_clear_error(session);
	}
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (lightning_region == NULL)
		return;

	switch (event)
	{
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			reset_after_abort();
			break;
		case XACT_EVENT_PRE_PREPARE:
			lightning_rowlock_before_prepare();
			break;
		default:
			break;
	}

	lightning_store_xact_callback(event);

	switch (event)
	{
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			lightning_live_at_xact_end();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			lightning_live_at_xact_end();
			lightning_forget_xid_reference();
			lightning_publish_wal_usage();
			lightning_return_rowids();
			lightning_speculative_at_xact_end();
			if (event == XACT_EVENT_PREPARE)
				lightning_rowlock_at_prepare();
			else
				lightning_rowlock_at_xact_end();
			break;
		default:
			break;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId my_subid, SubTransactionId parent_subid,
				 void *arg)
{
	if (lightning_region == NULL || event != SUBXACT_EVENT_ABORT_SUB)
		return;

	reset_after_abort();
	lightning_store_subxact_callback(event);
	lightning_speculative_at_subabort(my_subid);
	lightning_rowlock_at_subabort(my_subid);
}

void
lightning_session_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
#ifdef USE_ASSERT_CHECKING
	CacheRegisterRelcacheCallback(invalidation_callback, (Datum) 0);
#endif
}
