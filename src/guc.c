/*
 * guc.c
 *	  Settings.
 *
 * Everything that sizes shared memory is fixed at server start.  Defaults depend
 * on lightning.preset (preset.c).
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "server.h"

#define CACHE_SIZE_MIN 1024		/* kB */

int			lightning_memtable_size;
int			lightning_memtable_count;
int			lightning_cache_size;
int			lightning_compressed_cache_size;
int			lightning_metadata_size;
int			lightning_row_lock_size;
int			lightning_block_size;
int			lightning_filter_bits;
int			lightning_zstd_level;
int			lightning_compaction_trigger;
int			lightning_space_limit;
int			lightning_compaction_workers;
int			lightning_compaction_rate_limit;
bool		lightning_inplace_update;
bool		lightning_ignore_damage;
int			lightning_temp_table_limit;
int			lightning_wal_compression;

static const struct config_enum_entry wal_compression_options[] = {
	{"none", LIGHTNING_WAL_PLAIN, false},
	{"off", LIGHTNING_WAL_PLAIN, true},
	{"lz4", LIGHTNING_WAL_LZ4, false},
	{"zstd", LIGHTNING_WAL_ZSTD, false},
	{NULL, 0, false}
};

/*
 * -1 becomes what it stands for at once, when the setting is defined and whenever
 * somebody sets it: shared_buffers is known by then.
 */
static bool
check_cache_size(int *newval, void **extra, GucSource source)
{
	if (*newval == -1)
		*newval = lightning_derived_cache_size();
	else if (*newval < CACHE_SIZE_MIN)
	{
		GUC_check_errdetail("It must be at least %d kB, or -1.", CACHE_SIZE_MIN);
		return false;
	}
	return true;
}

static void
define_memory_gucs(void)
{
	DefineCustomIntVariable("lightning.memtable_size",
							"Size of one arena of the memtable.",
							"New rows gather in an arena of shared memory before they are written to files.",
							&lightning_memtable_size,
							lightning_default_int("memtable_size", 32 * 1024, GUC_UNIT_KB), 1024, 32 * 1024 * 1024,
							PGC_POSTMASTER, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lightning.memtable_count",
							"Number of arenas of the memtable.",
							"While full arenas are being written to files, new rows go to the others.",
							&lightning_memtable_count,
							lightning_default_int("memtable_count", 4, 0), 2, 16,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lightning.cache_size",
							"Size of the cache of decompressed blocks.",
							"-1 means as much as shared_buffers, and no less than 128MB.",
							&lightning_cache_size,
							-1, -1, INT_MAX,
							PGC_POSTMASTER, GUC_UNIT_KB,
							check_cache_size, NULL, NULL);
	DefineCustomIntVariable("lightning.compressed_cache_size",
							"Size of the memory for compressed blocks behind the cache.",
							"0: none. A block found there is decompressed, but not read.",
							&lightning_compressed_cache_size,
							lightning_default_int("compressed_cache_size", 0, GUC_UNIT_KB), 0, INT_MAX,
							PGC_POSTMASTER, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lightning.metadata_size",
							"Size of the shared memory that describes tables and their files.",
							NULL,
							&lightning_metadata_size,
							lightning_default_int("metadata_size", 64 * 1024, GUC_UNIT_KB), 4 * 1024, INT_MAX,
							PGC_POSTMASTER, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lightning.row_lock_size",
							"Size of the shared table of row locks.",
							NULL,
							&lightning_row_lock_size,
							lightning_default_int("row_lock_size", 16 * 1024, GUC_UNIT_KB), 256, INT_MAX,
							PGC_POSTMASTER, GUC_UNIT_KB,
							NULL, NULL, NULL);
}

static void
define_file_gucs(void)
{
	DefineCustomIntVariable("lightning.block_size",
							"Size of a data block before compression.",
							"Applies to files written from now on.",
							&lightning_block_size,
							lightning_default_int("block_size", 16, GUC_UNIT_KB), 4, 128,
							PGC_POSTMASTER, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lightning.filter_bits",
							"Bits per key of the filters that tell which files may contain a key.",
							"Applies to files written from now on.",
							&lightning_filter_bits,
							lightning_default_int("filter_bits", 10, 0), 2, 24,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lightning.zstd_level",
							"Compression level for the blocks of the last level.",
							NULL,
							&lightning_zstd_level,
							lightning_default_int("zstd_level", 3, 0), 1, 19,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lightning.compaction_trigger",
							"Number of level-0 runs of a table that starts a compaction.",
							NULL,
							&lightning_compaction_trigger,
							lightning_default_int("compaction_trigger", 4, 0), 2, 64,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lightning.space_limit",
							"Percent by which new row versions may enlarge a table before they are merged with it.",
							"Zero means that they are merged when it is cheap.",
							&lightning_space_limit,
							lightning_default_int("space_limit", 10, 0), 0, 1000,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lightning.compaction_workers",
							"Number of background processes that compact tables.",
							"They run while there is something to do, and need slots of max_worker_processes then.",
							&lightning_compaction_workers,
							lightning_default_int("compaction_workers", 2, 0), 1,
							LIGHTNING_COMPACTORS_MAX,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lightning.compaction_rate_limit",
							"What background work may read and write per second.",
							"Zero means no limit.  Flushes count, but never wait: what is left of the limit is for compaction.",
							&lightning_compaction_rate_limit,
							lightning_default_int("compaction_rate_limit", 0, GUC_UNIT_KB),
							0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
}

void
lightning_define_gucs(void)
{
	lightning_define_preset();	/* first: the others' defaults depend on it */
	define_memory_gucs();
	define_file_gucs();
	lightning_define_prewarm_gucs();
	DefineCustomBoolVariable("lightning.inplace_update",
							 "Lets an updated row keep its place when no indexed column has changed.",
							 "Off, every update moves its row, as it does in a heap without free space.",
							 &lightning_inplace_update,
							 lightning_default_bool("inplace_update", true),
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("lightning.ignore_damage",
							 "Lets the server start and replay the log although files of tables are damaged.",
							 "What is lost is an error when it is read.  Off, the server stops.",
							 &lightning_ignore_damage,
							 lightning_default_bool("ignore_damage", true),
							 PGC_POSTMASTER, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("lightning.temp_table_limit",
							"Limits the files that a process's temporary tables take.",
							"-1 means no limit.",
							&lightning_temp_table_limit,
							lightning_default_int("temp_table_limit", -1, GUC_UNIT_KB),
							-1, INT_MAX,
							PGC_SUSET, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomEnumVariable("lightning.wal_compression",
							 "Compresses log records of many rows with the specified method.",
							 NULL,
							 &lightning_wal_compression,
							 lightning_default_enum("wal_compression", LIGHTNING_WAL_ZSTD,
													wal_compression_options),
							 wal_compression_options,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);
	MarkGUCPrefixReserved("lightning");
}
