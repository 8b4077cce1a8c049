/*
 * hooks.c
 *	  Where PostgreSQL does not ask the table access method: commands on
 *	  databases, useless prefetching, dropped temporary tables, options of tables
 *	  (options.c), tables of extensions (extension.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "tcop/utility.h"
#include "utils/rel.h"

#include "extension.h"
#include "logical.h"
#include "options.h"
#include "server.h"

static ProcessUtility_hook_type prev_process_utility = NULL;
static ExecutorStart_hook_type prev_executor_start = NULL;
static object_access_hook_type prev_object_access = NULL;

/* ---- bitmap scans ---- */

/*
 * A lightning table's blocks can't be prefetched.  To try does no harm wherever a
 * plan is started (noblocks.c), and costs a bitmap scan of three rows a block a
 * fifth of its time: most plans are started here.
 */
static bool
prepare_bitmap_scans(PlanState *ps, void *context)
{
	if (ps == NULL)
		return false;
	if (IsA(ps, BitmapHeapScanState))
	{
		BitmapHeapScanState *scan = (BitmapHeapScanState *) ps;

		if (scan->ss.ss_currentRelation != NULL &&
			scan->ss.ss_currentRelation->rd_tableam == lightning_routine())
			scan->prefetch_maximum = 0;
	}
	return planstate_tree_walker(ps, prepare_bitmap_scans, context);
}

static void
lightning_executor_start(QueryDesc *desc, int eflags)
{
	if (prev_executor_start)
		prev_executor_start(desc, eflags);
	else
		standard_ExecutorStart(desc, eflags);
	if (desc->planstate != NULL)
		(void) prepare_bitmap_scans(desc->planstate, NULL);
}

/* ---- commands on databases ---- */

static const char *
option_string(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, name) == 0 && def->arg != NULL)
			return defGetString(def);
	}
	return NULL;
}

static void
check_create_database(CreatedbStmt *stmt)
{
	const char *template = option_string(stmt->options, "template");
	Oid			database;

	if (template == NULL)
		template = "template1";
	database = get_database_oid(template, true);
	if (OidIsValid(database) && lightning_database_has_stores(database))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot copy database \"%s\" because it contains lightning tables", template),
				 errhint("Create an empty database, and use pg_dump to copy the tables.")));
}

static void
check_alter_database(AlterDatabaseStmt *stmt)
{
	Oid			database;

	if (option_string(stmt->options, "tablespace") == NULL)
		return;
	database = get_database_oid(stmt->dbname, true);
	if (OidIsValid(database) && lightning_database_has_stores(database))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot change the tablespace of database \"%s\" because it contains lightning tables",
						stmt->dbname),
				 errhint("Create a database in the other tablespace, and use pg_dump to copy the tables.")));
}

/*
 * DefineIndex does not look at an access method's type before it calls its
 * handler, and complains about what that returns.
 */
static void
check_index_method(const char *method)
{
	if (method != NULL && strcmp(method, "lightning") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("access method \"%s\" is not an index access method", method),
				 errhint("Use btree or another index access method; they all work with lightning tables.")));
}

static void
check_alter_table(AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype == AT_AddConstraint && cmd->def != NULL && IsA(cmd->def, Constraint))
			check_index_method(((Constraint *) cmd->def)->access_method);
	}
}

static void
call_process_utility(PlannedStmt *pstmt, const char *query, bool read_only,
					 ProcessUtilityContext context, ParamListInfo params,
					 QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (prev_process_utility)
		prev_process_utility(pstmt, query, read_only, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only, context, params, env, dest, qc);
}

static void
lightning_process_utility(PlannedStmt *pstmt, const char *query, bool read_only,
						  ProcessUtilityContext context, ParamListInfo params,
						  QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *stmt = pstmt->utilityStmt;
	Oid			dropped = InvalidOid;
	bool		publication = IsA(stmt, CreatePublicationStmt) || IsA(stmt, AlterPublicationStmt);
	LightningOptionsCommand options;
	LightningExtensionCommand extension;

	switch (nodeTag(stmt))
	{
		case T_CreatedbStmt:
			check_create_database((CreatedbStmt *) stmt);
			break;
		case T_AlterDatabaseStmt:
			check_alter_database((AlterDatabaseStmt *) stmt);
			break;
		case T_IndexStmt:
			check_index_method(((IndexStmt *) stmt)->accessMethod);
			break;
		case T_AlterTableStmt:
			check_alter_table((AlterTableStmt *) stmt);
			break;
		case T_DropdbStmt:
			dropped = get_database_oid(((DropdbStmt *) stmt)->dbname, true);
			break;
		default:
			break;
	}

	lightning_extension_begin(&extension, stmt);
	PG_TRY();
	{
		lightning_options_begin(&options, &pstmt);
		call_process_utility(pstmt, query, read_only, context, params, env, dest, qc);
		lightning_options_done(&options);
		lightning_extension_done(&extension);
		if (publication)
			lightning_check_publication(stmt);
	}
	PG_FINALLY();
	{
		lightning_options_end(&options);
		lightning_extension_end(&extension);
	}
	PG_END_TRY();

	/* the files are gone, and there is no way back */
	if (OidIsValid(dropped))
		lightning_drop_database_stores(dropped);
}

/* ---- relations come and go ---- */

static void
lightning_object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, classId, objectId, subId, arg);
	if (access == OAT_DROP && classId == RelationRelationId && subId == 0)
		lightning_note_temp_drop();
	if (access == OAT_FUNCTION_EXECUTE)
		lightning_note_file_access(objectId);
	if (access == OAT_POST_CREATE && classId == RelationRelationId && subId == 0)
		lightning_options_created(objectId);
}

void
lightning_install_hooks(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = lightning_process_utility;
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = lightning_executor_start;
	prev_object_access = object_access_hook;
	object_access_hook = lightning_object_access;
}
