/*
 * options.c
 *	  Options of tables: WITH (lightning.compression = ..., ...).
 *
 * PostgreSQL has no storage parameters of its own for table access methods: it
 * refuses namespaces it does not know, and checks all options against heap's
 * list.  So the utility hook takes ours out of CREATE TABLE and ALTER TABLE
 * before the server sees them, checks them, and writes them to
 * pg_class.reloptions itself, as "lightning.name=value".  The server only looks
 * at that column with validation off, and ignores what it does not know, except
 * in ALTER TABLE ... SET of its own options: for that command ours are taken out
 * and put back.  Living in reloptions, they are transactional, \d+ shows them,
 * and pg_dump writes them, as WITH ("lightning.name"=value), which is taken like
 * WITH (lightning.name = value).
 *
 * A new relation gets them in its post-creation hook: so that the rows of
 * CREATE TABLE AS find them in place.  Copies that rewrite a table inherit its
 * reloptions from the server.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "extension.h"
#include "options.h"
#include "server.h"

PG_FUNCTION_INFO_V1(lightning_options);

#define PREFIX "lightning."
#define PREFIX_LEN (sizeof(PREFIX) - 1)
#define BLOCK_KB_MIN (LTG_BLOCK_SIZE_MIN / 1024)
#define BLOCK_KB_MAX (LTG_BLOCK_SIZE_MAX / 1024)

/* What CREATE TABLE is about to create, for the post-creation hook. */
static LightningOptionsCommand *creating = NULL;

/* ---- names and values ---- */

static const struct config_enum_entry compression_names[] = {
	{"auto", LTG_COMPRESS_AUTO, false},
	{"none", LTG_COMPRESS_NONE, false},
	{"lz4", LTG_COMPRESS_LZ4, false},
	{"zstd", LTG_COMPRESS_ZSTD, false},
	{NULL, 0, false}
};

static bool
parse_compression(const char *value, LtgCompression *result)
{
	int			i;

	for (i = 0; compression_names[i].name != NULL; i++)
		if (pg_strcasecmp(value, compression_names[i].name) == 0)
		{
			*result = compression_names[i].val;
			return true;
		}
	return false;
}

/*
 * Put one option's value into *o, and its spelling for the catalog into *text
 * (unless NULL).  False if there is no such option.
 */
static bool
parse_option(const char *name, const char *value, LtgStoreOptions *o, const char **text)
{
	const char *hint = NULL;
	int			n;

	if (strcmp(name, "compression") == 0)
	{
		if (!parse_compression(value, &o->compression))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for option \"lightning.%s\": \"%s\"", name, value),
					 errhint("Available values: auto, none, lz4, zstd.")));
		if (text != NULL)
			*text = compression_names[o->compression].name;
		return true;
	}
	if (strcmp(name, "compression_level") == 0)
	{
		if (!parse_int(value, &n, 0, &hint))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for option \"lightning.%s\": \"%s\"", name, value),
					 hint ? errhint("%s", _(hint)) : 0));
		if (n < LTG_COMPRESS_LEVEL_MIN || n > LTG_COMPRESS_LEVEL_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%d is outside the valid range for option \"lightning.%s\" (%d .. %d)",
							n, name, LTG_COMPRESS_LEVEL_MIN, LTG_COMPRESS_LEVEL_MAX)));
		o->level = n;
		if (text != NULL)
			*text = psprintf("%d", n);
		return true;
	}
	if (strcmp(name, "block_size") == 0)
	{
		if (!parse_int(value, &n, GUC_UNIT_KB, &hint))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for option \"lightning.%s\": \"%s\"", name, value),
					 hint ? errhint("%s", _(hint)) : 0));
		if (n < BLOCK_KB_MIN || n > BLOCK_KB_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%d kB is outside the valid range for option \"lightning.%s\" (%d kB .. %d kB)",
							n, name, BLOCK_KB_MIN, BLOCK_KB_MAX)));
		o->block_size = n * 1024;
		if (text != NULL)
			*text = psprintf("%dkB", n);
		return true;
	}
	return false;
}

/* Ours?  Then its name without prefix, else NULL. */
static const char *
own_name(const DefElem *def)
{
	if (def->defnamespace != NULL)
		return strcmp(def->defnamespace, "lightning") == 0 ? def->defname : NULL;
	if (strncmp(def->defname, PREFIX, PREFIX_LEN) == 0)
		return def->defname + PREFIX_LEN;
	return NULL;
}

static bool
is_own_text(const char *option)
{
	return strncmp(option, PREFIX, PREFIX_LEN) == 0;
}

/* The cache takes no larger blocks. */
static void
note_limits(const LtgStoreOptions *o)
{
	if (o->block_size > (uint32) lightning_block_size * 1024)
		ereport(NOTICE,
				(errmsg("blocks of %u kB are limited to lightning.block_size, which is %d kB",
						o->block_size / 1024, lightning_block_size)));
}

/* "lightning.name=value" of what the user wrote, checked. */
static char *
option_text(const DefElem *def)
{
	const char *name = own_name(def);
	const char *text = NULL;
	LtgStoreOptions o = {0};

	if (!parse_option(name, def->arg != NULL ? defGetString(unconstify(DefElem *, def)) : "",
					  &o, &text))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized parameter \"lightning.%s\"", name),
				 errhint("Options of lightning tables are lightning.compression, lightning.compression_level and lightning.block_size.")));
	note_limits(&o);
	return psprintf("%s%s=%s", PREFIX, name, text);
}

/* Move our options out of *list; returns them. */
static List *
take_out(List **list)
{
	List	   *own = NIL;
	ListCell   *lc;

	foreach(lc, *list)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (own_name(def) != NULL)
		{
			own = lappend(own, def);
			*list = foreach_delete_current(*list, lc);
		}
	}
	return own;
}

static bool
has_own(List *list)
{
	ListCell   *lc;

	foreach(lc, list)
		if (own_name(lfirst_node(DefElem, lc)) != NULL)
			return true;
	return false;
}

/* ---- lists of "name=value" ---- */

static bool
same_name(const char *a, const char *b)
{
	size_t		n = strcspn(a, "=");

	return strncmp(a, b, n) == 0 && (b[n] == '=' || b[n] == '\0');
}

/* Remove entries of that name ("name" or "name=value"). */
static List *
remove_text(List *texts, const char *name)
{
	ListCell   *lc;

	foreach(lc, texts)
		if (same_name(name, lfirst(lc)))
			texts = foreach_delete_current(texts, lc);
	return texts;
}

/* Append options as the user wrote them; twice the same one is an error. */
static List *
add_texts(List *texts, List *defs)
{
	List	   *seen = NIL;
	ListCell   *lc,
			   *other;

	foreach(lc, defs)
	{
		char	   *text = option_text(lfirst_node(DefElem, lc));

		foreach(other, seen)
			if (same_name(text, lfirst(other)))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("parameter \"%.*s\" specified more than once",
								(int) strcspn(text, "="), text)));
		seen = lappend(seen, text);
		texts = lappend(remove_text(texts, text), text);
	}
	return texts;
}

/* The elements of a reloptions array: ours, the others', or both. */
static List *
split_reloptions(Datum reloptions, bool own, bool others)
{
	List	   *result = NIL;
	Datum	   *elems;
	int			n,
				i;

	if (reloptions == (Datum) 0)
		return NIL;
	deconstruct_array(DatumGetArrayTypeP(reloptions), TEXTOID, -1, false, TYPALIGN_INT,
					  &elems, NULL, &n);
	for (i = 0; i < n; i++)
	{
		char	   *option = TextDatumGetCString(elems[i]);

		if (is_own_text(option) ? own : others)
			result = lappend(result, option);
	}
	return result;
}

static bool
same_lists(List *a, List *b)
{
	ListCell   *la,
			   *lb;

	if (list_length(a) != list_length(b))
		return false;
	forboth(la, a, lb, b)
		if (strcmp(lfirst(la), lfirst(lb)) != 0)
			return false;
	return true;
}

/* ---- the catalog ---- */

/* Free with unlock_class_tuple. */
static HeapTuple
lock_class_tuple(Oid relid)
{
	HeapTuple	tuple;

#ifdef LIGHTNING_HAVE_INPLACE_LOCK
	tuple = SearchSysCacheLocked1(RELOID, ObjectIdGetDatum(relid));
#else
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
#endif
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	return tuple;
}

static void
unlock_class_tuple(Relation pg_class, HeapTuple tuple, ItemPointer tid)
{
#ifdef LIGHTNING_HAVE_INPLACE_LOCK
	UnlockTuple(pg_class, tid, InplaceUpdateTupleLock);
#endif
	ReleaseSysCache(tuple);
}

/* Set pg_class.reloptions of a relation to what it has of others' and these. */
static void
write_options(Oid relid, List *own)
{
	Relation	pg_class = table_open(RelationRelationId, RowExclusiveLock);
	HeapTuple	old,
				tuple;
	ItemPointerData otid;
	Datum		values[Natts_pg_class] = {0};
	bool		nulls[Natts_pg_class] = {0};
	bool		replace[Natts_pg_class] = {0};
	bool		isnull;
	Datum		reloptions;
	List	   *all;

	old = lock_class_tuple(relid);
	otid = old->t_self;
	reloptions = SysCacheGetAttr(RELOID, old, Anum_pg_class_reloptions, &isnull);
	if (isnull)
		reloptions = (Datum) 0;
	if (!same_lists(split_reloptions(reloptions, true, false), own))
	{
		ArrayBuildState *array = NULL;
		ListCell   *lc;

		all = list_concat(split_reloptions(reloptions, false, true), own);
		foreach(lc, all)
			array = accumArrayResult(array, CStringGetTextDatum(lfirst(lc)), false, TEXTOID,
									 CurrentMemoryContext);
		replace[Anum_pg_class_reloptions - 1] = true;
		if (array != NULL)
			values[Anum_pg_class_reloptions - 1] = makeArrayResult(array, CurrentMemoryContext);
		else
			nulls[Anum_pg_class_reloptions - 1] = true;
		tuple = heap_modify_tuple(old, RelationGetDescr(pg_class), values, nulls, replace);
		CatalogTupleUpdate(pg_class, &otid, tuple);
		heap_freetuple(tuple);
	}
	unlock_class_tuple(pg_class, old, &otid);
	table_close(pg_class, RowExclusiveLock);
	CommandCounterIncrement();
}

/* Our options of a relation, as "lightning.name=value". */
static List *
read_options(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	List	   *own = NIL;
	Datum		reloptions;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return NIL;
	reloptions = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_reloptions, &isnull);
	if (!isnull)
		own = split_reloptions(reloptions, true, false);
	ReleaseSysCache(tuple);
	return own;
}

/* Entries that do not parse (of another version?) are left alone. */
static void
parse_texts(List *own, LtgStoreOptions *o)
{
	ListCell   *lc;

	memset(o, 0, sizeof(*o));
	foreach(lc, own)
	{
		char	   *name = pstrdup((char *) lfirst(lc) + PREFIX_LEN);
		char	   *value = strchr(name, '=');

		if (value == NULL)
			continue;
		*value++ = '\0';
		(void) parse_option(name, value, o, NULL);
	}
}

void
lightning_options_to_store(Relation rel, LtgStore *store)
{
	LtgSession *s = lightning_session();
	LtgStoreOptions o;

	parse_texts(read_options(RelationGetRelid(rel)), &o);
	lightning_report(s, ltg_store_set_options(s, store, &o), rel);
}

/* The caller has locked the relation. */
static void
apply_options(Oid relid)
{
	Relation	rel = relation_open(relid, NoLock);

	lightning_options_to_store(rel, lightning_rel(rel).store);
	relation_close(rel, NoLock);
}

static Oid
relam_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			am = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		am = ((Form_pg_class) GETSTRUCT(tuple))->relam;
		ReleaseSysCache(tuple);
	}
	return am;
}

/* ---- CREATE TABLE ---- */

static void
refuse_other_relation(const char *name, char relkind)
{
	if (relkind == RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot set lightning options of partitioned table \"%s\"", name),
				 errhint("Set them for its partitions.")));
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot set lightning options of \"%s\" because it is not a lightning table", name),
			 errhint("Use CREATE TABLE ... USING lightning, or ALTER TABLE ... SET ACCESS METHOD lightning.")));
}

static bool
is_lightning_am(Oid am)
{
	return OidIsValid(am) && am == get_table_am_oid("lightning", true);
}

/*
 * A relation has been put into the catalogs by this very command, which can't
 * see it yet.
 */
static HeapTuple
fetch_created(Oid relid)
{
	Relation	pg_class = table_open(RelationRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(pg_class, ClassOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	table_close(pg_class, AccessShareLock);
	return tuple;
}

static bool
has_own_reloptions(HeapTuple tuple)
{
	Relation	pg_class = table_open(RelationRelationId, AccessShareLock);
	bool		isnull;
	Datum		reloptions = heap_getattr(tuple, Anum_pg_class_reloptions,
										  RelationGetDescr(pg_class), &isnull);
	bool		result = !isnull && split_reloptions(reloptions, true, false) != NIL;

	table_close(pg_class, AccessShareLock);
	return result;
}

void
lightning_options_created(Oid relid)
{
	LightningOptionsCommand *cmd = creating;
	HeapTuple	tuple;
	Form_pg_class form;
	bool		wanted;

	if (!IsNormalProcessingMode())
		return;
	tuple = fetch_created(relid);
	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_class) GETSTRUCT(tuple);
	lightning_extension_created(form);
	wanted = cmd != NULL && strcmp(NameStr(form->relname), cmd->relname) == 0 &&
		form->relkind != RELKIND_SEQUENCE && form->relkind != RELKIND_COMPOSITE_TYPE;
	if (wanted)
	{
		creating = NULL;
		if (!is_lightning_am(form->relam) || form->relkind == RELKIND_PARTITIONED_TABLE)
			refuse_other_relation(cmd->relname, form->relkind);
		CommandCounterIncrement();
		write_options(relid, cmd->texts);
	}
	else if (is_lightning_am(form->relam) && has_own_reloptions(tuple))
		CommandCounterIncrement();	/* the copy that rewrites a table */
	else
		return;
	apply_options(relid);
}

/* The options list of a command that creates a table; NULL: it does not. */
static List **
creation_options(Node *stmt, RangeVar **relation)
{
	if (IsA(stmt, CreateStmt))
	{
		*relation = ((CreateStmt *) stmt)->relation;
		return &((CreateStmt *) stmt)->options;
	}
	if (IsA(stmt, CreateTableAsStmt))
	{
		IntoClause *into = ((CreateTableAsStmt *) stmt)->into;

		*relation = into->rel;
		return &into->options;
	}
	if (IsA(stmt, ExplainStmt))
	{
		Query	   *query = (Query *) ((ExplainStmt *) stmt)->query;

		if (query != NULL && IsA(query, Query) && query->utilityStmt != NULL &&
			IsA(query->utilityStmt, CreateTableAsStmt))
			return creation_options(query->utilityStmt, relation);
	}
	return NULL;
}

static void
begin_create(LightningOptionsCommand *cmd, List **options, RangeVar *relation)
{
	List	   *own = take_out(options);

	cmd->relname = pstrdup(relation->relname);
	cmd->texts = add_texts(NIL, own);
	creating = cmd;
}

/* ---- ALTER TABLE ---- */

/* What an ALTER TABLE says about options and the access method. */
typedef struct AlterParts
{
	List	   *set;			/* DefElems, ours */
	List	   *reset;
	bool		others;			/* it sets or resets options of the server */
	const char *access_method;	/* SET ACCESS METHOD, or NULL */
	bool		relevant;
} AlterParts;

static void
examine_alter(AlterTableStmt *stmt, AlterParts *parts, bool take)
{
	ListCell   *lc;

	memset(parts, 0, sizeof(*parts));
	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype == AT_SetAccessMethod)
		{
			parts->access_method = cmd->name;
			parts->relevant = true;
		}
		if (cmd->subtype != AT_SetRelOptions && cmd->subtype != AT_ResetRelOptions)
			continue;
		parts->relevant = true;
		if (take)
		{
			List	   *defs = (List *) cmd->def;
			List	   *own = take_out(&defs);

			cmd->def = (Node *) defs;
			if (cmd->subtype == AT_SetRelOptions)
				parts->set = list_concat(parts->set, own);
			else
				parts->reset = list_concat(parts->reset, own);
			parts->others |= defs != NIL;
		}
	}
}

static List *
apply_reset(List *texts, List *reset)
{
	ListCell   *lc;

	foreach(lc, reset)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (def->arg != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR),
					 errmsg("RESET must not include values for parameters")));
		texts = remove_text(texts, psprintf("%s%s", PREFIX, own_name(def)));
	}
	return texts;
}

static void
begin_alter(LightningOptionsCommand *cmd, AlterTableStmt *stmt)
{
	AlterParts	parts;
	List	   *before,
			   *after;
	Oid			relid;
	Oid			am;
	char		relkind;

	examine_alter(stmt, &parts, true);
	/* checks permissions, too */
	relid = AlterTableLookupRelation(stmt, AlterTableGetLockLevel(stmt->cmds));
	if (!OidIsValid(relid))
		return;
	before = read_options(relid);
	if (before == NIL && parts.set == NIL && parts.reset == NIL)
		return;

	relkind = get_rel_relkind(relid);
	am = parts.access_method != NULL ? get_table_am_oid(parts.access_method, false) :
		relam_of(relid);
	after = add_texts(apply_reset(list_copy(before), parts.reset), parts.set);
	if (!is_lightning_am(am) || relkind == RELKIND_PARTITIONED_TABLE)
	{
		if (parts.set != NIL)
			refuse_other_relation(get_rel_name(relid), relkind);
		if (after != NIL)
			ereport(NOTICE,
					(errmsg("lightning options of table \"%s\" are dropped", get_rel_name(relid))));
		after = NIL;
	}
	/* a rewrite by this command finds the new ones, unless they would disturb it */
	if (before != NIL || !parts.others)
		write_options(relid, parts.others ? NIL : after);
	cmd->altered = relid;
	cmd->texts = after;
	cmd->write_after = parts.others;
}

static void
end_alter(LightningOptionsCommand *cmd)
{
	if (get_rel_relkind(cmd->altered) == '\0')
		return;
	if (cmd->write_after)
	{
		CommandCounterIncrement();
		write_options(cmd->altered, cmd->texts);
	}
	if (is_lightning_am(relam_of(cmd->altered)))
		apply_options(cmd->altered);
}

/* ---- around every utility command ---- */

void
lightning_options_begin(LightningOptionsCommand *cmd, PlannedStmt **pstmt)
{
	Node	   *stmt = (*pstmt)->utilityStmt;
	RangeVar   *relation;
	List	  **options;

	memset(cmd, 0, sizeof(*cmd));
	cmd->outer = creating;
	creating = NULL;			/* not this command's */
	options = creation_options(stmt, &relation);
	if (options != NULL && has_own(*options))
	{
		/* the tree may be a cached plan's */
		*pstmt = copyObject(*pstmt);
		options = creation_options((*pstmt)->utilityStmt, &relation);
		begin_create(cmd, options, relation);
	}
	else if (IsA(stmt, AlterTableStmt) &&
			 (((AlterTableStmt *) stmt)->objtype == OBJECT_TABLE ||
			  ((AlterTableStmt *) stmt)->objtype == OBJECT_MATVIEW))
	{
		AlterParts	parts;

		examine_alter((AlterTableStmt *) stmt, &parts, false);
		if (parts.relevant)
		{
			*pstmt = copyObject(*pstmt);
			begin_alter(cmd, (AlterTableStmt *) (*pstmt)->utilityStmt);
		}
	}
}

void
lightning_options_done(LightningOptionsCommand *cmd)
{
	if (OidIsValid(cmd->altered))
		end_alter(cmd);
}

void
lightning_options_end(LightningOptionsCommand *cmd)
{
	creating = cmd->outer;
}

/* ---- what the engine goes by ---- */

Datum
lightning_options(PG_FUNCTION_ARGS)
{
	Relation	rel = lightning_open(PG_GETARG_OID(0), AccessShareLock);
	LtgStoreOptions o;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 3)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("the extension's script and library do not match"),
				 errhint("Run ALTER EXTENSION lightning UPDATE.")));
	ltg_store_options(lightning_rel(rel).store, &o);
	values[0] = CStringGetTextDatum(compression_names[o.compression].name);
	values[1] = Int32GetDatum(o.level != 0 ? o.level : lightning_zstd_level);
	values[2] = Int32GetDatum(o.block_size != 0 ?
							  Min(o.block_size, (uint32) lightning_block_size * 1024) :
							  (uint32) lightning_block_size * 1024);
	relation_close(rel, AccessShareLock);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
