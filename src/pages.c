/*
 * pages.c
 *	  Modules that read a table's pages are told that lightning tables have none.
 *
 * pageinspect, pg_visibility and pg_prewarm ask the buffer manager for blocks
 * without a look at the access method, and of a lightning table's empty main
 * fork they report a failed read, as of a damaged file.  So when a query is
 * planned (size.c), the argument that names the relation is put into a call of
 * lightning_has_pages(), which returns it unless it is a lightning table.
 * Relations that do not exist are left to the modules to report.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_language_d.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type_d.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "server.h"

PG_FUNCTION_INFO_V1(lightning_has_pages_regclass);
PG_FUNCTION_INFO_V1(lightning_has_pages_text);

static void
require_pages(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;

	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_class) GETSTRUCT(tuple);
	if (RELKIND_HAS_TABLE_AM(form->relkind) && OidIsValid(form->relam) &&
		form->relam == get_table_am_oid("lightning", true))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot read pages of lightning table \"%s\"", NameStr(form->relname)),
				 errdetail("Rows of lightning tables are not in PostgreSQL's pages."),
				 errhint("Use lightning_check() to verify the table; its cache is warmed by lightning.prewarm.")));
	ReleaseSysCache(tuple);
}

Datum
lightning_has_pages_regclass(PG_FUNCTION_ARGS)
{
	require_pages(PG_GETARG_OID(0));
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

Datum
lightning_has_pages_text(PG_FUNCTION_ARGS)
{
	List	   *names = textToQualifiedNameList(PG_GETARG_TEXT_PP(0));

	require_pages(RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true));
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

/* The type of the argument by which such a function is told its relation. */
static Oid
argument_of_reader(Oid function)
{
	static const char *const libraries[] = {
		"$libdir/pageinspect", "$libdir/pg_visibility", "$libdir/pg_prewarm",
	};
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	Oid			type = InvalidOid;
	bool		isnull = true;
	Datum		probin;
	char	   *library;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (form->prolang == ClanguageId && form->pronargs > 0 &&
		(form->proargtypes.values[0] == REGCLASSOID || form->proargtypes.values[0] == TEXTOID))
		probin = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_probin, &isnull);
	if (!isnull)
	{
		library = TextDatumGetCString(probin);
		for (int i = 0; i < lengthof(libraries); i++)
		{
			if (strcmp(library, libraries[i]) == 0)
				type = form->proargtypes.values[0];
		}
		pfree(library);
	}
	ReleaseSysCache(tuple);
	return type;
}

/* Returns the function of the extension that is now called, if there is one. */
Oid
lightning_guard_pages(FuncExpr *call)
{
	Oid			type;
	Oid			guard;
	Node	   *arg;

	if (call->funcid < FirstNormalObjectId || call->args == NIL)
		return InvalidOid;
	/* named arguments are not in their places yet; only readers of indexes have names */
	arg = linitial(call->args);
	if (IsA(arg, NamedArgExpr))
		return InvalidOid;
	type = argument_of_reader(call->funcid);
	if (!OidIsValid(type))
		return InvalidOid;
	guard = lightning_function("lightning_has_pages", 1, &type);
	if (!OidIsValid(guard) || (IsA(arg, FuncExpr) && ((FuncExpr *) arg)->funcid == guard))
		return InvalidOid;
	linitial(call->args) = makeFuncExpr(guard, type, list_make1(arg), exprCollation(arg),
										exprCollation(arg), COERCE_EXPLICIT_CALL);
	return guard;
}
