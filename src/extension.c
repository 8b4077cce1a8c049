/*
 * extension.c
 *	  Tables that belong to extensions.
 *
 * An extension written in C may write its own tables by heap's functions, as the
 * server writes its catalogs, and never ask for the table access method
 * (pg_cron, pglogical).  So what CREATE EXTENSION and ALTER EXTENSION UPDATE
 * create is a heap table unless the script says USING: for as long as they run,
 * default_table_access_method is heap where it was lightning, whatever creates
 * the table, functions that the script calls included.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tableam.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "nodes/parsenodes.h"
#include "utils/guc.h"

#include "extension.h"

/* Within such a command, whose default has been changed? */
static LightningExtensionCommand *running = NULL;

static const char *
extension_of(Node *stmt)
{
	if (IsA(stmt, CreateExtensionStmt))
		return ((CreateExtensionStmt *) stmt)->extname;
	if (IsA(stmt, AlterExtensionStmt))
		return ((AlterExtensionStmt *) stmt)->extname;
	return NULL;
}

void
lightning_extension_begin(LightningExtensionCommand *cmd, Node *stmt)
{
	cmd->outer = running;
	cmd->name = extension_of(stmt);
	cmd->heap_tables = false;
	cmd->nest_level = 0;
	if (cmd->name == NULL || strcmp(default_table_access_method, "lightning") != 0)
		return;
	cmd->nest_level = NewGUCNestLevel();
	(void) set_config_option("default_table_access_method", "heap", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	running = cmd;
}

/* (an error gives the setting back, with the transaction) */
void
lightning_extension_done(LightningExtensionCommand *cmd)
{
	if (cmd->nest_level == 0)
		return;
	AtEOXact_GUC(true, cmd->nest_level);
	if (cmd->heap_tables)
		ereport(NOTICE,
				(errmsg("tables of extension \"%s\" are heap tables", cmd->name),
				 errdetail("Extensions may use their tables without asking the access method.")));
}

void
lightning_extension_end(LightningExtensionCommand *cmd)
{
	running = cmd->outer;
}

void
lightning_extension_created(Form_pg_class form)
{
	if (running != NULL && creating_extension && form->relam == HEAP_TABLE_AM_OID &&
		(form->relkind == RELKIND_RELATION || form->relkind == RELKIND_MATVIEW))
		running->heap_tables = true;
}
