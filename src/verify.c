/*
 * verify.c
 *	  lightning_check: what the engine verifies, the (empty) main fork, and on
 *	  demand whether a table's rows and its indexes agree (verify_index.c).
 *
 * Meant for busy servers: the strongest lock taken is AccessShareLock, and what
 * others do meanwhile is no problem to be reported.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "server.h"
#include "verify.h"

PG_FUNCTION_INFO_V1(lightning_check);
PG_FUNCTION_INFO_V1(lightning_check_all);

#define PROBLEMS_MAX 10000

static void
keep_problem(void *arg, const char *problem)
{
	LightningProblems *p = arg;
	char	   *copy;

	if (p->n == p->max)
	{
		p->more++;
		return;
	}
	copy = MemoryContextAllocExtended(p->context, strlen(problem) + 1, MCXT_ALLOC_NO_OOM);
	if (copy == NULL)
	{
		p->more++;
		return;
	}
	strcpy(copy, problem);
	p->text[p->n++] = copy;
}

void
lightning_problem(LightningProblems *p, const char *fmt,...)
{
	char		msg[400];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(msg, sizeof(msg), fmt, args);
	va_end(args);
	keep_problem(p, msg);
}

static void
start_problems(LightningProblems *p)
{
	memset(p, 0, sizeof(*p));
	p->context = CurrentMemoryContext;
	p->max = PROBLEMS_MAX;
	p->text = palloc(sizeof(char *) * p->max);
}

static void
return_problems(FunctionCallInfo fcinfo, LightningProblems *p)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			i;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (i = 0; i < p->n; i++)
	{
		Datum		value = CStringGetTextDatum(p->text[i]);
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	if (p->more > 0)
	{
		Datum		value = CStringGetTextDatum(psprintf("and " UINT64_FORMAT " more problems", p->more));
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
}

/*
 * Code that writes heap pages without asking the access method leaves them in the
 * main fork, where nothing of ours reads them.
 */
static void
check_main_fork(LtgSession *s, const LtgStoreKey *key, uint64 id, LightningProblems *p)
{
	int64		bytes = lightning_main_fork_bytes(key);
	LtgStore   *store;

	if (bytes <= 0)
		return;
	/* the file may be another relation's by now */
	if (ltg_store_find(s, key, &store) != LTG_OK)
	{
		ltg_clear_error(s);
		return;
	}
	if (ltg_store_id(store) == id)
		lightning_problem(p, "relation file %u of database %u has " INT64_FORMAT " bytes that are not lightning's: something wrote heap pages",
						  key->relation, key->database, bytes);
}

static void
check_main_forks(LtgSession *s, LightningProblems *p)
{
	uint32		n,
				i;
	LtgStoreInfo *info = lightning_list_stores(s, &n);

	for (i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if ((info[i].flags & LTG_STORE_LOCKS) == 0)
			check_main_fork(s, &info[i].key, info[i].id, p);
	}
	pfree(info);
}

Datum
lightning_check(PG_FUNCTION_ARGS)
{
	Relation	rel = lightning_open(PG_GETARG_OID(0), AccessShareLock);
	LtgSession *s = lightning_session();
	LightningRel lr = lightning_rel(rel);
	LightningProblems problems;
	LtgStoreKey key;

	start_problems(&problems);
	lightning_store_key(&rel->rd_node, rel->rd_backend, &key);
	lightning_report(s, ltg_check_store(s, lr.store, keep_problem, &problems), rel);
	check_main_fork(s, &key, lr.store_id, &problems);
	if (PG_GETARG_BOOL(1))
		lightning_check_indexes(rel, &problems);
	relation_close(rel, AccessShareLock);
	return_problems(fcinfo, &problems);
	return (Datum) 0;
}

/* The lightning tables of this database, but other sessions' temporary ones. */
static List *
lightning_tables(void)
{
	Oid			am = get_table_am_oid("lightning", true);
	Relation	pg_class = table_open(RelationRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(pg_class, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	List	   *result = NIL;

	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (OidIsValid(am) && form->relam == am && RELKIND_HAS_STORAGE(form->relkind))
			result = lappend_oid(result, form->oid);
	}
	systable_endscan(scan);
	table_close(pg_class, AccessShareLock);
	return result;
}

static void
check_all_indexes(LightningProblems *p)
{
	ListCell   *lc;

	foreach(lc, lightning_tables())
	{
		Relation	rel = try_relation_open(lfirst_oid(lc), AccessShareLock);

		if (rel == NULL)
			continue;
		if (rel->rd_tableam == lightning_routine() && !RELATION_IS_OTHER_TEMP(rel))
			lightning_check_indexes(rel, p);
		relation_close(rel, AccessShareLock);
	}
}

Datum
lightning_check_all(PG_FUNCTION_ARGS)
{
	LtgSession *s = lightning_session();
	LightningProblems problems;

	start_problems(&problems);
	lightning_report(s, ltg_check_all(s, keep_problem, &problems), NULL);
	check_main_forks(s, &problems);
	if (PG_GETARG_BOOL(0))
		check_all_indexes(&problems);
	return_problems(fcinfo, &problems);
	return (Datum) 0;
}
