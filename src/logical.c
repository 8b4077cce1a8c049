/*
 * logical.c
 *	  Logical decoding of changes to lightning tables is not there yet; this says
 *	  so, wherever changes would be missed without a word.
 *
 * A publication that would cover a lightning table is refused when it is made or
 * extended, by name, by schema, or with all tables.  Not below wal_level = logical,
 * where nobody can get changes of any table and PostgreSQL itself warns, nor in
 * pg_upgrade, which has to get through with what there is.
 *
 * A table can come under a publication in many other ways: created, attached,
 * moved to a schema or to this access method, or found there after wal_level was
 * raised.  All of these are met when a session first writes to it.
 *
 * Other consumers than subscriptions (test_decoding) have no list of tables: they
 * are told when they meet the first change that they don't get.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_publication.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "replication/snapbuild.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "logical.h"

#define NOT_SUPPORTED "Logical decoding of changes to lightning tables is not supported yet."

/* ---- CREATE and ALTER PUBLICATION ---- */

static bool
is_permanent_lightning_table(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	result = form->relkind == RELKIND_RELATION &&
		form->relpersistence == RELPERSISTENCE_PERMANENT &&
		OidIsValid(form->relam) && form->relam == get_table_am_oid("lightning", true);
	ReleaseSysCache(tuple);
	return result;
}

/* The table itself, its partitions, and its children unless ONLY was said. */
static List *
named_relations(RangeVar *name)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);

	if (!OidIsValid(relid))
		return NIL;
	if (name->inh || get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
		return find_all_inheritors(relid, NoLock, NULL);
	return list_make1_oid(relid);
}

static List *
schema_relations(Oid schema)
{
	return OidIsValid(schema) ? GetSchemaPublicationRelations(schema, PUBLICATION_PART_ALL) : NIL;
}

static List *
object_relations(PublicationObjSpec *object)
{
	switch (object->pubobjtype)
	{
		case PUBLICATIONOBJ_TABLE:
			return named_relations(object->pubtable->relation);
		case PUBLICATIONOBJ_TABLES_IN_SCHEMA:
			return schema_relations(get_namespace_oid(object->name, true));
		case PUBLICATIONOBJ_TABLES_IN_CUR_SCHEMA:
			{
				List	   *path = fetch_search_path(false);

				return path != NIL ? schema_relations(linitial_oid(path)) : NIL;
			}
		default:
			return NIL;
	}
}

static void
refuse_lightning_tables(List *relids)
{
	ListCell   *lc;

	foreach(lc, relids)
	{
		char	   *name;

		if (!is_permanent_lightning_table(lfirst_oid(lc)))
			continue;
		name = get_rel_name(lfirst_oid(lc));
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot publish lightning table \"%s\"", name),
				 errdetail(NOT_SUPPORTED),
				 errhint("Publish other tables by name, or move this one with ALTER TABLE ... SET ACCESS METHOD heap.")));
	}
}

/* After the command: what it names is there, locked, and allowed to the user. */
void
lightning_check_publication(Node *stmt)
{
	List	   *objects = NIL;
	List	   *relids = NIL;
	ListCell   *lc;

	if (!XLogLogicalInfoActive() || IsBinaryUpgrade)
		return;
	if (IsA(stmt, CreatePublicationStmt))
	{
		objects = ((CreatePublicationStmt *) stmt)->pubobjects;
		if (((CreatePublicationStmt *) stmt)->for_all_tables)
			relids = GetAllTablesPublicationRelations(false);
	}
	else if (((AlterPublicationStmt *) stmt)->action != AP_DropObjects)
		objects = ((AlterPublicationStmt *) stmt)->pubobjects;

	foreach(lc, objects)
		relids = list_concat(relids, object_relations(lfirst_node(PublicationObjSpec, lc)));
	refuse_lightning_tables(relids);
}

/* ---- writes to tables that are published all the same ---- */

/*
 * Called when a relation is first written to since it (or its publications) were
 * invalidated; warns once in a session.
 */
void
lightning_warn_if_published(Relation rel)
{
	static List *warned = NIL;
	PublicationDesc desc;
	MemoryContext oldcxt;

	/* (a table that only lives while another one is rewritten is never published) */
	if (!RelationIsLogicallyLogged(rel) || OidIsValid(rel->rd_rel->relrewrite) ||
		list_member_oid(warned, RelationGetRelid(rel)))
		return;
	RelationBuildPublicationDesc(rel, &desc);
	if (!desc.pubactions.pubinsert && !desc.pubactions.pubupdate && !desc.pubactions.pubdelete)
		return;

	oldcxt = MemoryContextSwitchTo(TopMemoryContext);
	warned = lappend_oid(warned, RelationGetRelid(rel));
	MemoryContextSwitchTo(oldcxt);
	ereport(WARNING,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("changes to lightning table \"%s\" are not published",
					RelationGetRelationName(rel)),
			 errdetail(NOT_SUPPORTED),
			 errhint("Drop the table from its publications, or move it with ALTER TABLE ... SET ACCESS METHOD heap.")));
}

/* ---- changes that a decoding session does not get ---- */

static bool told = false;

static void
forget_told(void *arg)
{
	told = false;
}

/* For the resource manager: a row of that database is changed at origin. */
void
lightning_warn_undecoded(LogicalDecodingContext *ctx, Oid database, XLogRecPtr origin)
{
	MemoryContextCallback *callback;

	/* subscriptions are about publications, see above */
	if (told || ctx->fast_forward || ctx->slot->data.database != database ||
		strcmp(NameStr(ctx->slot->data.plugin), "pgoutput") == 0 ||
		SnapBuildCurrentState(ctx->snapshot_builder) < SNAPBUILD_CONSISTENT ||
		SnapBuildXactNeedsSkip(ctx->snapshot_builder, origin))
		return;

	/* until this decoding ends */
	callback = MemoryContextAlloc(ctx->context, sizeof(MemoryContextCallback));
	callback->func = forget_told;
	callback->arg = NULL;
	MemoryContextRegisterResetCallback(ctx->context, callback);
	told = true;
	ereport(WARNING,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("replication slot \"%s\" does not get changes to lightning tables",
					NameStr(ctx->slot->data.name)),
			 errdetail(NOT_SUPPORTED)));
}
