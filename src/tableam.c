/*
 * tableam.c
 *	  The table access method's handler: the table of callbacks.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "fmgr.h"

#include "lightning.h"

PG_FUNCTION_INFO_V1(lightning_tableam_handler);

static const TupleTableSlotOps *
lightning_slot_callbacks(Relation rel)
{
	return &TTSOpsLightning;
}

static const TableAmRoutine lightning_methods = {
	.type = T_TableAmRoutine,

	.slot_callbacks = lightning_slot_callbacks,

	.scan_begin = lightning_scan_begin,
	.scan_end = lightning_scan_end,
	.scan_rescan = lightning_scan_rescan,
	.scan_getnextslot = lightning_scan_getnextslot,
	.scan_set_tidrange = lightning_scan_set_tidrange,
	.scan_getnextslot_tidrange = lightning_scan_getnextslot_tidrange,

	.parallelscan_estimate = lightning_parallelscan_estimate,
	.parallelscan_initialize = lightning_parallelscan_initialize,
	.parallelscan_reinitialize = lightning_parallelscan_reinitialize,

	.index_fetch_begin = lightning_index_fetch_begin,
	.index_fetch_reset = lightning_index_fetch_reset,
	.index_fetch_end = lightning_index_fetch_end,
	.index_fetch_tuple = lightning_index_fetch_tuple,

	.tuple_fetch_row_version = lightning_fetch_row_version,
	.tuple_tid_valid = lightning_tuple_tid_valid,
	.tuple_get_latest_tid = lightning_get_latest_tid,
	.tuple_satisfies_snapshot = lightning_tuple_satisfies_snapshot,
	.index_delete_tuples = lightning_index_delete_tuples,

	.tuple_insert = lightning_tuple_insert,
	.tuple_insert_speculative = lightning_tuple_insert_speculative,
	.tuple_complete_speculative = lightning_tuple_complete_speculative,
	.multi_insert = lightning_multi_insert,
	.tuple_delete = lightning_tuple_delete,
	.tuple_update = lightning_tuple_update,
	.tuple_lock = lightning_tuple_lock,
	.finish_bulk_insert = lightning_finish_bulk_insert,

	.relation_set_new_filenode = lightning_relation_set_new_filenode,
	.relation_nontransactional_truncate = lightning_relation_nontransactional_truncate,
	.relation_copy_data = lightning_relation_copy_data,
	.relation_copy_for_cluster = lightning_relation_copy_for_cluster,
	.relation_vacuum = lightning_relation_vacuum,
	.scan_analyze_next_block = lightning_scan_analyze_next_block,
	.scan_analyze_next_tuple = lightning_scan_analyze_next_tuple,
	.index_build_range_scan = lightning_index_build_range_scan,
	.index_validate_scan = lightning_index_validate_scan,

	.relation_size = lightning_relation_size,
	.relation_needs_toast_table = lightning_relation_needs_toast_table,
	.relation_toast_am = lightning_relation_toast_am,
	/* TOAST relations are heaps: their access method is asked for values */
	.relation_fetch_toast_slice = NULL,

	.relation_estimate_size = lightning_relation_estimate_size,

	.scan_bitmap_next_block = lightning_scan_bitmap_next_block,
	.scan_bitmap_next_tuple = lightning_scan_bitmap_next_tuple,
	.scan_sample_next_block = lightning_scan_sample_next_block,
	.scan_sample_next_tuple = lightning_scan_sample_next_tuple,
};

const TableAmRoutine *
lightning_routine(void)
{
	return &lightning_methods;
}

Datum
lightning_tableam_handler(PG_FUNCTION_ARGS)
{
	/* nothing works without the shared region, so say it once and clearly */
	lightning_require_preload();
	PG_RETURN_POINTER(&lightning_methods);
}
