/*
 * extension.h
 *	  Tables that belong to extensions.
 */
#ifndef LIGHTNING_EXTENSION_H
#define LIGHTNING_EXTENSION_H

#include "catalog/pg_class.h"
#include "nodes/nodes.h"

/* One utility command, for as long as it runs. */
typedef struct LightningExtensionCommand
{
	struct LightningExtensionCommand *outer;
	const char *name;			/* of the extension, or NULL */
	int			nest_level;		/* of the setting, if it was changed */
	bool		heap_tables;	/* some have been created */
} LightningExtensionCommand;

/*
 * Around a utility command: done when it has succeeded, end in any case, also
 * when begin has failed.
 */
extern void lightning_extension_begin(LightningExtensionCommand *cmd, Node *stmt);
extern void lightning_extension_done(LightningExtensionCommand *cmd);
extern void lightning_extension_end(LightningExtensionCommand *cmd);
/* Post-creation hook of a relation. */
extern void lightning_extension_created(Form_pg_class form);

#endif
