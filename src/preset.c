/*
 * preset.c
 *	  lightning.preset: a set of defaults for the other settings.
 *
 * A preset is nothing but other built-in defaults.  It is known before the other
 * settings are defined (it can only be set at server start), and each of them
 * is defined with the default that the preset has for it.  So whatever is set
 * anywhere wins, RESET and a line removed from postgresql.conf lead back to
 * the preset's value, and PostgreSQL's own rules do all the work.
 *
 * What a preset does not mention keeps the value of "balanced".  The size of the
 * cache follows shared_buffers, too: lightning_derived_cache_size.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "server.h"

PG_FUNCTION_INFO_V1(lightning_presets);

typedef enum Preset
{
	PRESET_BALANCED,
	PRESET_READ_OPTIMIZED,
	PRESET_WRITE_OPTIMIZED,
	PRESET_LOW_MEMORY,
	PRESET_DEVELOPMENT,
	PRESET_MAX_DURABILITY,
	PRESET_COUNT
} Preset;

static const struct config_enum_entry preset_names[] = {
	{"balanced", PRESET_BALANCED, false},
	{"read_optimized", PRESET_READ_OPTIMIZED, false},
	{"write_optimized", PRESET_WRITE_OPTIMIZED, false},
	{"low_memory", PRESET_LOW_MEMORY, false},
	{"development", PRESET_DEVELOPMENT, false},
	{"max_durability", PRESET_MAX_DURABILITY, false},
	{NULL, 0, false}
};

static int	lightning_preset = PRESET_BALANCED;

/* As SHOW writes them; NULL: as in "balanced", whose values are in guc.c. */
typedef struct PresetValue
{
	const char *setting;
	const char *value[PRESET_COUNT];
} PresetValue;

/*
 * read_optimized	fewer runs to look through, more of them in memory
 * write_optimized	larger and fewer flushes, cheaper compression, later merges
 * low_memory		all shared memory together about 50 MB
 * development		small and quick to start: for tests on a laptop
 * max_durability	short replay after a crash: little waits in memory for a
 *					flush (it also complains about unsafe settings of the server)
 */
static const PresetValue preset_values[] = {
	/* setting				balanced	read		write	low_memory	development	durability */
	{"memtable_size",		{NULL,		NULL,		"64MB",	"4MB",		"4MB",		"16MB"}},
	{"memtable_count",		{NULL,		NULL,		"6",	"3",		"2",		NULL}},
	{"cache_size",			{NULL,		"512MB",	NULL,	"16MB",		"8MB",		NULL}},
	{"metadata_size",		{NULL,		NULL,		NULL,	"16MB",		"8MB",		NULL}},
	{"row_lock_size",		{NULL,		NULL,		NULL,	"4MB",		"1MB",		NULL}},
	{"filter_bits",			{NULL,		"14",		"8",	"8",		NULL,		NULL}},
	{"zstd_level",			{NULL,		NULL,		"1",	NULL,		"1",		NULL}},
	{"compaction_trigger",	{NULL,		"2",		"8",	NULL,		NULL,		NULL}},
	{"space_limit",			{NULL,		NULL,		"100",	NULL,		NULL,		NULL}},
	{"compaction_workers",	{NULL,		NULL,		"3",	"1",		"1",		NULL}},
	{"prewarm",				{NULL,		NULL,		NULL,	NULL,		"off",		NULL}},
	{"wal_compression",		{NULL,		NULL,		"lz4",	NULL,		NULL,		NULL}},
};

void
lightning_define_preset(void)
{
	DefineCustomEnumVariable("lightning.preset",
							 "Chooses the defaults of lightning's other settings.",
							 "Whatever is set explicitly wins.",
							 &lightning_preset,
							 PRESET_BALANCED, preset_names,
							 PGC_POSTMASTER, 0,
							 NULL, NULL, NULL);
}

/* NULL: the preset does not mention it. */
static const char *
preset_value(const char *setting)
{
	int			i;

	for (i = 0; i < lengthof(preset_values); i++)
		if (strcmp(preset_values[i].setting, setting) == 0)
			return preset_values[i].value[lightning_preset];
	return NULL;
}

int
lightning_default_int(const char *setting, int balanced, int flags)
{
	const char *value = preset_value(setting);
	int			result;

	if (value == NULL)
		return balanced;
	if (!parse_int(value, &result, flags, NULL))
		elog(FATAL, "preset of lightning.%s does not parse: \"%s\"", setting, value);
	return result;
}

/*
 * What lightning.cache_size = -1 stands for.  The table's blocks are to find as
 * much memory here as a heap's pages find in shared_buffers; a preset that is
 * meant to be small does not grow with that.
 */
int
lightning_derived_cache_size(void)
{
	int			least = lightning_default_int("cache_size", 128 * 1024, GUC_UNIT_KB);
	int64		buffers = (int64) NBuffers * (BLCKSZ / 1024);

	switch (lightning_preset)
	{
		case PRESET_LOW_MEMORY:
		case PRESET_DEVELOPMENT:
			return least;
		case PRESET_READ_OPTIMIZED:
			buffers *= 2;
			break;
		default:
			break;
	}
	return (int) Min(Max(buffers, least), INT_MAX);
}

bool
lightning_default_bool(const char *setting, bool balanced)
{
	const char *value = preset_value(setting);
	bool		result;

	if (value == NULL)
		return balanced;
	if (!parse_bool(value, &result))
		elog(FATAL, "preset of lightning.%s does not parse: \"%s\"", setting, value);
	return result;
}

int
lightning_default_enum(const char *setting, int balanced,
					   const struct config_enum_entry *options)
{
	const char *value = preset_value(setting);

	if (value == NULL)
		return balanced;
	for (; options->name != NULL; options++)
		if (strcmp(options->name, value) == 0)
			return options->val;
	elog(FATAL, "preset of lightning.%s does not parse: \"%s\"", setting, value);
	return balanced;
}

/*
 * What the log promises depends on settings that are not ours.  At server start.
 */
void
lightning_preset_check(void)
{
	const char *unsafe = NULL;

	if (lightning_preset != PRESET_MAX_DURABILITY)
		return;
	if (!enableFsync)
		unsafe = "fsync";
	else if (!fullPageWrites)
		unsafe = "full_page_writes";
	else if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		unsafe = "synchronous_commit";
	if (unsafe != NULL)
		ereport(WARNING,
				(errmsg("lightning.preset is \"max_durability\", but \"%s\" is off", unsafe),
				 errdetail("Committed transactions may be lost in a crash.")));
	if (!DataChecksumsEnabled())
		ereport(LOG,
				(errmsg("lightning.preset is \"max_durability\", but data checksums are disabled"),
				 errdetail("Blocks of lightning tables always have checksums; those of indexes and catalogs do not.")));
}

/* (preset, setting, value) of all presets; "balanced" has no rows. */
Datum
lightning_presets(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			i;
	int			p;

	lightning_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	for (p = 0; p < PRESET_COUNT; p++)
		for (i = 0; i < lengthof(preset_values); i++)
		{
			Datum		values[3];
			bool		nulls[3] = {0};

			if (preset_values[i].value[p] == NULL)
				continue;
			values[0] = CStringGetTextDatum(preset_names[p].name);
			values[1] = CStringGetTextDatum(psprintf("lightning.%s", preset_values[i].setting));
			values[2] = CStringGetTextDatum(preset_values[i].value[p]);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	return (Datum) 0;
}
