/*
 * logical.h
 *	  Publications and logical decoding: what says that lightning tables are
 *	  left out.
 */
#ifndef LIGHTNING_LOGICAL_H
#define LIGHTNING_LOGICAL_H

#include "lightning.h"

#include "replication/logical.h"

/* After CREATE or ALTER PUBLICATION: ERROR if it names lightning tables. */
extern void lightning_check_publication(Node *stmt);
/* A table is written to: WARNING if it is published. */
extern void lightning_warn_if_published(Relation rel);
/* A decoding session meets a change of a row: WARNING that it is left out. */
extern void lightning_warn_undecoded(LogicalDecodingContext *ctx, Oid database,
									 XLogRecPtr origin);

#endif
