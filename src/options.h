/*
 * options.h
 *	  Options of lightning tables.
 */
#ifndef LIGHTNING_OPTIONS_H
#define LIGHTNING_OPTIONS_H

#include "nodes/plannodes.h"

#include "lightning.h"

/* One utility command, for as long as it runs. */
typedef struct LightningOptionsCommand
{
	struct LightningOptionsCommand *outer;	/* of a command around this one */
	const char *relname;		/* creates this table */
	Oid			altered;		/* has altered this one's options */
	List	   *texts;			/* "lightning.name=value": its options then */
	bool		write_after;	/* they are not in the catalog yet */
} LightningOptionsCommand;

/*
 * Around a utility command: begin checks our options, takes them out of a copy
 * of the statement, and remembers them; done goes on when the command has
 * succeeded; end is called in any case, also when begin has failed.
 */
extern void lightning_options_begin(LightningOptionsCommand *cmd, PlannedStmt **pstmt);
extern void lightning_options_done(LightningOptionsCommand *cmd);
extern void lightning_options_end(LightningOptionsCommand *cmd);
/* Post-creation hook of a relation. */
extern void lightning_options_created(Oid relid);
/* Tell the engine what the catalog says of this relation. */
extern void lightning_options_to_store(Relation rel, LtgStore *store);

#endif
