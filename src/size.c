/*
 * size.c
 *	  What lightning tables take, for those who ask PostgreSQL: the size
 *	  functions, and the counts of blocks behind EXPLAIN (BUFFERS) and pg_statio.
 *
 * PostgreSQL's size functions add up the lengths of a relation's files
 * (dbsize.c, calculate_relation_size); of a lightning table they find the empty
 * main fork only.  They are built-in functions, which are called by their
 * number, without a hook.  So calls of them are redirected when a query is
 * planned, to functions of the extension that add what the engine holds.  Where
 * the extension has not been created there are no lightning tables to see.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/transam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "executor/instrument.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planner.h"
#include "parser/parse_func.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "server.h"

PG_FUNCTION_INFO_V1(lightning_pg_relation_size);
PG_FUNCTION_INFO_V1(lightning_pg_table_size);
PG_FUNCTION_INFO_V1(lightning_pg_total_relation_size);
PG_FUNCTION_INFO_V1(lightning_pg_database_size_oid);
PG_FUNCTION_INFO_V1(lightning_pg_database_size_name);

/* ---- what the engine holds ---- */

/*
 * Files, and rows that wait in memory to be written to files.  Never fails: to
 * ask for the sizes of all tables must work while some are being dropped.
 */
static int64
store_bytes(Relation rel)
{
	LtgSession *s;
	LtgStoreKey key;
	LtgStore   *store;
	LtgStoreInfo info;

	if (rel->rd_tableam != lightning_routine() || !lightning_preloaded())
		return 0;
	s = lightning_session();
	lightning_store_key(&rel->rd_node, rel->rd_backend, &key);
	if (ltg_store_find(s, &key, &store) != LTG_OK)
	{
		ltg_clear_error(s);
		return 0;
	}
	ltg_store_info(s, store, &info);
	return (int64) (info.disk_bytes + info.memtable_bytes);
}

static int64
relation_bytes(Oid relid)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	int64		bytes;

	if (rel == NULL)
		return 0;
	bytes = store_bytes(rel);
	relation_close(rel, AccessShareLock);
	return bytes;
}

static int64
database_bytes(Oid database)
{
	LtgStoreInfo *info;
	uint32		n;
	int64		bytes = 0;

	info = lightning_list_stores(lightning_session(), &n);
	for (uint32 i = 0; i < n; i++)
	{
		if (info[i].key.database == database)
			bytes += (int64) (info[i].disk_bytes + info[i].memtable_bytes);
	}
	pfree(info);
	return bytes;
}

/* ---- the functions ---- */

Datum
lightning_pg_relation_size(PG_FUNCTION_ARGS)
{
	Datum		size;
	text	   *fork;
	LOCAL_FCINFO(core, 2);

	fork = PG_NARGS() > 1 ? PG_GETARG_TEXT_PP(1) : cstring_to_text("main");
	InitFunctionCallInfoData(*core, NULL, 2, InvalidOid, NULL, NULL);
	core->args[0].value = PG_GETARG_DATUM(0);
	core->args[0].isnull = false;
	core->args[1].value = PointerGetDatum(fork);
	core->args[1].isnull = false;
	size = pg_relation_size(core);
	if (core->isnull)
		PG_RETURN_NULL();
	if (forkname_to_number(text_to_cstring(fork)) != MAIN_FORKNUM)
		PG_RETURN_DATUM(size);
	PG_RETURN_INT64(DatumGetInt64(size) + relation_bytes(PG_GETARG_OID(0)));
}

/* One of PostgreSQL's functions, and what the engine holds of the table. */
static Datum
with_store(FunctionCallInfo fcinfo, PGFunction function)
{
	Datum		size;
	LOCAL_FCINFO(core, 1);

	InitFunctionCallInfoData(*core, NULL, 1, InvalidOid, NULL, NULL);
	core->args[0].value = PG_GETARG_DATUM(0);
	core->args[0].isnull = false;
	size = function(core);
	if (core->isnull)
		PG_RETURN_NULL();
	PG_RETURN_INT64(DatumGetInt64(size) + relation_bytes(PG_GETARG_OID(0)));
}

Datum
lightning_pg_table_size(PG_FUNCTION_ARGS)
{
	return with_store(fcinfo, pg_table_size);
}

Datum
lightning_pg_total_relation_size(PG_FUNCTION_ARGS)
{
	return with_store(fcinfo, pg_total_relation_size);
}

/* (PostgreSQL's functions also check whether the user may know) */
static Datum
with_stores(FunctionCallInfo fcinfo, PGFunction function, Oid database)
{
	Datum		size;
	LOCAL_FCINFO(core, 1);

	InitFunctionCallInfoData(*core, NULL, 1, InvalidOid, NULL, NULL);
	core->args[0].value = PG_GETARG_DATUM(0);
	core->args[0].isnull = false;
	size = function(core);
	if (core->isnull)
		PG_RETURN_NULL();
	if (lightning_preloaded())
		size = Int64GetDatum(DatumGetInt64(size) + database_bytes(database));
	PG_RETURN_DATUM(size);
}

Datum
lightning_pg_database_size_oid(PG_FUNCTION_ARGS)
{
	return with_stores(fcinfo, pg_database_size_oid, PG_GETARG_OID(0));
}

Datum
lightning_pg_database_size_name(PG_FUNCTION_ARGS)
{
	Name		name = PG_GETARG_NAME(0);

	return with_stores(fcinfo, pg_database_size_name, get_database_oid(NameStr(*name), true));
}

/* ---- redirecting calls ---- */

static planner_hook_type prev_planner = NULL;

typedef struct SizeFunction
{
	Oid			core;
	const char *name;
	int			nargs;
	Oid			args[2];
} SizeFunction;

static const SizeFunction size_functions[] = {
	{F_PG_RELATION_SIZE_REGCLASS, "lightning_pg_relation_size", 1, {REGCLASSOID}},
	{F_PG_RELATION_SIZE_REGCLASS_TEXT, "lightning_pg_relation_size", 2, {REGCLASSOID, TEXTOID}},
	{F_PG_TABLE_SIZE, "lightning_pg_table_size", 1, {REGCLASSOID}},
	{F_PG_TOTAL_RELATION_SIZE, "lightning_pg_total_relation_size", 1, {REGCLASSOID}},
	{F_PG_DATABASE_SIZE_OID, "lightning_pg_database_size", 1, {OIDOID}},
	{F_PG_DATABASE_SIZE_NAME, "lightning_pg_database_size", 1, {NAMEOID}},
};

/* The extension's function, which is where the access method's handler is. */
Oid
lightning_function(const char *name, int nargs, const Oid *args)
{
	HeapTuple	tuple = SearchSysCache1(AMNAME, CStringGetDatum("lightning"));
	Oid			handler;
	char	   *schema;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	handler = ((Form_pg_am) GETSTRUCT(tuple))->amhandler;
	ReleaseSysCache(tuple);
	schema = get_namespace_name(get_func_namespace(handler));
	if (schema == NULL)
		return InvalidOid;
	return LookupFuncName(list_make2(makeString(schema), makeString(pstrdup(name))),
						  nargs, args, true);
}

/* The plan goes when the extension does. */
static void
add_dependency(PlannedStmt *stmt, Oid function)
{
	PlanInvalItem *item = makeNode(PlanInvalItem);

	item->cacheId = PROCOID;
	item->hashValue = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(function));
	stmt->invalItems = lappend(stmt->invalItems, item);
}

static void
redirect_call(FuncExpr *call, PlannedStmt *stmt)
{
	Oid			other;

	if (call->funcid >= FirstNormalObjectId)
	{
		other = lightning_guard_pages(call);
		if (OidIsValid(other) && stmt != NULL)
			add_dependency(stmt, other);
		return;
	}
	/* nearly all functions are none of these */
	if (call->funcid < F_PG_DATABASE_SIZE_NAME || call->funcid > F_PG_TABLE_SIZE)
		return;
	for (int i = 0; i < lengthof(size_functions); i++)
	{
		if (size_functions[i].core != call->funcid)
			continue;
		other = lightning_function(size_functions[i].name, size_functions[i].nargs,
								   size_functions[i].args);
		if (!OidIsValid(other))
			return;
		call->funcid = other;
		if (stmt != NULL)
			add_dependency(stmt, other);
		return;
	}
}

/*
 * In place: the planner owns the tree, and is about to change it anyway.
 * context is the statement that the expression belongs to, once it is planned.
 */
static bool
redirect_sizes(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr))
		redirect_call((FuncExpr *) node, context);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, redirect_sizes, context, 0);
	return expression_tree_walker(node, redirect_sizes, context);
}

/* ---- calls that came in when SQL functions were inlined ---- */

static void redirect_in_plan(Plan *plan, PlannedStmt *stmt);

static void
redirect_in_plans(List *plans, PlannedStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, plans)
		redirect_in_plan(lfirst(lc), stmt);
}

static void
redirect_in(void *expr, PlannedStmt *stmt)
{
	(void) redirect_sizes(expr, stmt);
}

static void
redirect_in_scan(Plan *plan, PlannedStmt *stmt)
{
	switch (nodeTag(plan))
	{
		case T_SampleScan:
			redirect_in(((SampleScan *) plan)->tablesample, stmt);
			break;
		case T_IndexScan:
			redirect_in(((IndexScan *) plan)->indexqual, stmt);
			redirect_in(((IndexScan *) plan)->indexorderby, stmt);
			break;
		case T_IndexOnlyScan:
			redirect_in(((IndexOnlyScan *) plan)->indexqual, stmt);
			redirect_in(((IndexOnlyScan *) plan)->indexorderby, stmt);
			break;
		case T_BitmapIndexScan:
			redirect_in(((BitmapIndexScan *) plan)->indexqual, stmt);
			break;
		case T_SubqueryScan:
			redirect_in_plan(((SubqueryScan *) plan)->subplan, stmt);
			break;
		case T_FunctionScan:
			redirect_in(((FunctionScan *) plan)->functions, stmt);
			break;
		case T_TableFuncScan:
			redirect_in(((TableFuncScan *) plan)->tablefunc, stmt);
			break;
		case T_ValuesScan:
			redirect_in(((ValuesScan *) plan)->values_lists, stmt);
			break;
		case T_ForeignScan:
			redirect_in(((ForeignScan *) plan)->fdw_exprs, stmt);
			break;
		case T_CustomScan:
			redirect_in(((CustomScan *) plan)->custom_exprs, stmt);
			redirect_in_plans(((CustomScan *) plan)->custom_plans, stmt);
			break;
		default:
			break;
	}
}

/* Where an expression with such a call may be; conditions of joins included. */
static void
redirect_in_plan(Plan *plan, PlannedStmt *stmt)
{
	if (plan == NULL)
		return;
	check_stack_depth();
	redirect_in(plan->targetlist, stmt);
	redirect_in(plan->qual, stmt);
	redirect_in(plan->initPlan, stmt);
	switch (nodeTag(plan))
	{
		case T_Result:
			redirect_in(((Result *) plan)->resconstantqual, stmt);
			break;
		case T_ModifyTable:
			redirect_in(((ModifyTable *) plan)->returningLists, stmt);
			redirect_in(((ModifyTable *) plan)->onConflictSet, stmt);
			redirect_in(((ModifyTable *) plan)->onConflictWhere, stmt);
			redirect_in(((ModifyTable *) plan)->mergeActionLists, stmt);
			break;
		case T_Append:
			redirect_in_plans(((Append *) plan)->appendplans, stmt);
			break;
		case T_MergeAppend:
			redirect_in_plans(((MergeAppend *) plan)->mergeplans, stmt);
			break;
		case T_BitmapAnd:
			redirect_in_plans(((BitmapAnd *) plan)->bitmapplans, stmt);
			break;
		case T_BitmapOr:
			redirect_in_plans(((BitmapOr *) plan)->bitmapplans, stmt);
			break;
		case T_MergeJoin:
			redirect_in(((MergeJoin *) plan)->mergeclauses, stmt);
			break;
		case T_HashJoin:
			redirect_in(((HashJoin *) plan)->hashclauses, stmt);
			redirect_in(((HashJoin *) plan)->hashkeys, stmt);
			break;
		case T_Hash:
			redirect_in(((Hash *) plan)->hashkeys, stmt);
			break;
		case T_Memoize:
			redirect_in(((Memoize *) plan)->param_exprs, stmt);
			break;
		case T_WindowAgg:
			redirect_in(((WindowAgg *) plan)->startOffset, stmt);
			redirect_in(((WindowAgg *) plan)->endOffset, stmt);
			redirect_in(((WindowAgg *) plan)->runCondition, stmt);
			break;
		case T_Limit:
			redirect_in(((Limit *) plan)->limitOffset, stmt);
			redirect_in(((Limit *) plan)->limitCount, stmt);
			break;
		default:
			redirect_in_scan(plan, stmt);
			break;
	}
	if (IsA(plan, NestLoop) || IsA(plan, MergeJoin) || IsA(plan, HashJoin))
		redirect_in(((Join *) plan)->joinqual, stmt);
	redirect_in_plan(plan->lefttree, stmt);
	redirect_in_plan(plan->righttree, stmt);
}

/* Inlined functions are among what the plan depends on. */
static bool
depends_on_functions(PlannedStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->invalItems)
	{
		if (lfirst_node(PlanInvalItem, lc)->cacheId == PROCOID)
			return true;
	}
	return false;
}

static PlannedStmt *
lightning_planner(Query *parse, const char *query_string, int cursor_options,
				  ParamListInfo params)
{
	PlannedStmt *stmt;

	(void) redirect_sizes((Node *) parse, NULL);
	if (prev_planner)
		stmt = prev_planner(parse, query_string, cursor_options, params);
	else
		stmt = standard_planner(parse, query_string, cursor_options, params);
	if (depends_on_functions(stmt))
	{
		redirect_in_plan(stmt->planTree, stmt);
		redirect_in_plans(stmt->subplans, stmt);
	}
	return stmt;
}

void
lightning_install_size_hooks(void)
{
	prev_planner = planner_hook;
	planner_hook = lightning_planner;
}

/* ---- blocks read ---- */

/*
 * The engine's cache is shared memory as PostgreSQL's buffers are, so its blocks
 * count as shared ones; those of temporary tables too, as they live there.
 */
void
lightning_count_blocks(LtgSession *s, Relation rel)
{
	pgBufferUsage.shared_blks_hit += (int64) s->blocks_hit;
	pgBufferUsage.shared_blks_read += (int64) s->blocks_read;
	if (rel != NULL && pgstat_should_count_relation(rel))
	{
		rel->pgstat_info->t_counts.t_blocks_fetched += (PgStat_Counter) (s->blocks_hit + s->blocks_read);
		rel->pgstat_info->t_counts.t_blocks_hit += (PgStat_Counter) s->blocks_hit;
	}
	s->blocks_hit = s->blocks_read = 0;
}
