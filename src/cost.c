/*
 * cost.c
 *	  What the planner is told about the size of a table.
 *
 * pages are what a sequential scan reads from disk: compressed bytes in blocks
 * of BLCKSZ.  They have nothing to do with the blocks of TIDs (256 row ids each)
 * that relation_size and pg_class.relpages count, so no density is ever derived
 * from relpages here; the engine knows its rows.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "optimizer/plancat.h"
#include "storage/bufpage.h"

#include "lightning.h"
#include "scan.h"

#define ROW_OVERHEAD (MAXALIGN(SizeofHeapTupleHeader) + sizeof(ItemIdData))

/* Rows in the table, as far as the engine's counters tell. */
double
lightning_estimate_rows(const LtgStoreInfo *info)
{
	double		rows = (double) info->keys - (double) info->tombstones;

	rows = Max(rows, 0) + (double) info->memtable_keys;
	return Min(rows, (double) info->next_rowid);
}

void
lightning_relation_estimate_size(Relation rel, int32 *attr_widths, BlockNumber *pages,
								 double *tuples, double *allvisfrac)
{
	LtgStoreInfo info;
	double		width;
	double		bytes;
	double		npages;
	bool		never_vacuumed;

	lightning_rel_ready(rel, false);
	ltg_store_info(lightning_session(), lightning_rel(rel).store, &info);
	width = get_rel_data_width(rel, attr_widths);
	bytes = (double) info.disk_bytes + (double) info.memtable_keys * width;
	npages = Min(ceil(bytes / BLCKSZ), (double) MaxBlockNumber);
	*tuples = lightning_estimate_rows(&info);

	/*
	 * The rule of table_block_relation_estimate_size: a table that was never
	 * vacuumed is not believed to stay small.
	 */
	never_vacuumed = rel->rd_rel->reltuples < 0 && !rel->rd_rel->relhassubclass;
	if (never_vacuumed && npages < 10)
	{
		double		density = floor((BLCKSZ - SizeOfPageHeaderData) / (width + ROW_OVERHEAD));

		npages = 10;
		*tuples = Max(*tuples, density * npages);
	}
	*pages = (BlockNumber) npages;

	/* indexes hold no visibility: index-only scans look every row up */
	*allvisfrac = 0;
}
