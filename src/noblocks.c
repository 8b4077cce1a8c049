/*
 * noblocks.c
 *	  A relation whose blocks can be prefetched, whatever their numbers.
 *
 * Bitmap scans and ANALYZE prefetch the blocks that they are about to visit, of
 * the relation that the scan descriptor names, and without asking the table
 * access method.  Blocks of a lightning table are numbers of row ids; its main
 * fork is empty, and a number beyond the fork's first segment is an error there
 * ("could not open file").  The plan node that decides whether to prefetch is out
 * of reach of the access method, and not every node is started where a hook sees
 * it (EvalPlanQual starts its own).  So descriptors of such scans name this
 * relation instead of the table: the server uses it for nothing but prefetching
 * and calling us.
 *
 * Its storage manager's relation, which no list contains, has all segments open
 * that there can be, and each of them is the same small file: advice on what lies
 * behind its end means nothing.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "storage/fd.h"
#include "storage/smgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "lightning.h"
#include "scan.h"

#define SEGMENTS (MaxBlockNumber / RELSEG_SIZE + 1)

/* md.c keeps this to itself; t/018_late_row_ids.pl would not survive another one. */
struct _MdfdVec
{
	File		file;
	BlockNumber segment;
};

static RelationData relation;
static FormData_pg_class form;
static SMgrRelationData storage;

static void
open_segments(void)
{
	struct _MdfdVec *segments;
	File		file = PathNameOpenFile("PG_VERSION", O_RDONLY | PG_BINARY);

	if (file < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", "PG_VERSION")));
	segments = MemoryContextAlloc(TopMemoryContext, sizeof(*segments) * SEGMENTS);
	for (BlockNumber i = 0; i < SEGMENTS; i++)
	{
		segments[i].file = file;
		segments[i].segment = i;
	}
	storage.md_seg_fds[MAIN_FORKNUM] = segments;
	storage.md_num_open_segs[MAIN_FORKNUM] = SEGMENTS;
}

Relation
lightning_no_blocks(void)
{
	if (likely(storage.md_num_open_segs[MAIN_FORKNUM] > 0))
		return &relation;

	form.relkind = RELKIND_RELATION;
	form.relpersistence = RELPERSISTENCE_PERMANENT;
	storage.smgr_rnode.backend = InvalidBackendId;
	storage.smgr_targblock = InvalidBlockNumber;
	relation.rd_rel = &form;
	relation.rd_backend = InvalidBackendId;
	relation.rd_smgr = &storage;
	relation.rd_tableam = lightning_routine();
	open_segments();
	return &relation;
}
