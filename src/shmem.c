/*
 * shmem.c
 *	  Shared memory: sizing, initialisation, and loading the engine's state.
 *
 * The state is loaded here, in the postmaster, and not when replay starts:
 * rm_startup is called only if there is a record to replay, and a standby may
 * answer queries before one arrives.  After a crash the postmaster makes new
 * shared memory and comes here again.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "postmaster/bgworker_internals.h"
#include "postmaster/postmaster.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "server.h"

LtgShared  *lightning_region = NULL;
LightningShared *lightning_shared = NULL;

static bool preloaded = false;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

bool
lightning_preloaded(void)
{
	return preloaded && lightning_region != NULL;
}

void
lightning_require_preload(void)
{
	if (lightning_preloaded())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("lightning must be loaded via shared_preload_libraries"),
			 errhint("Put shared_preload_libraries = 'lightning' into postgresql.conf (added to what is there already) and restart the server.")));
}

static void
fill_config(LtgConfig *c)
{
	ltg_config_defaults(c);
	c->memtable_bytes = (size_t) lightning_memtable_size * 1024;
	c->memtable_count = (uint32_t) lightning_memtable_count;
	c->cache_bytes = (size_t) lightning_cache_size * 1024;
	c->packed_bytes = (size_t) lightning_compressed_cache_size * 1024;
	c->metadata_bytes = (size_t) lightning_metadata_size * 1024;
	/* the postmaster's own, while it loads, is one of the spare ones */
	c->max_sessions = (uint32_t) (MaxBackends + NUM_AUXILIARY_PROCS + 8);
	c->block_size = (uint32_t) lightning_block_size * 1024;
	c->filter_bits_per_key = (uint32_t) lightning_filter_bits;
	c->l0_compact_trigger = (uint32_t) lightning_compaction_trigger;
	c->space_limit = (uint32_t) lightning_space_limit;
	c->zstd_level = lightning_zstd_level;
	c->row_ids = true;
}

static void
lightning_shmem_request(void)
{
	LtgConfig	config;

	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	fill_config(&config);
	RequestAddinShmemSpace(add_size(MAXALIGN(sizeof(LightningShared)), PG_CACHE_LINE_SIZE));
	RequestAddinShmemSpace(add_size(ltg_shared_size(&config), PG_CACHE_LINE_SIZE));
	RequestAddinShmemSpace(add_size(lightning_rowlock_shmem_size(), PG_CACHE_LINE_SIZE));
	RequestAddinShmemSpace(add_size(lightning_speculative_shmem_size(), PG_CACHE_LINE_SIZE));
	RequestAddinShmemSpace(add_size(lightning_live_shmem_size(), PG_CACHE_LINE_SIZE));
	RequestAddinShmemSpace(add_size(lightning_stop_shmem_size(), PG_CACHE_LINE_SIZE));
}

static const char *const tranche_names[] = {
	"LightningKey",
	"LightningFlush",
	"LightningCompact",
	"LightningMeta",
	"LightningPin",
	"LightningAlloc",
	"LightningCache",
	"LightningPacked",
	"LightningEpoch"
};

static int
tranche_of(int lock)
{
	if (lock < LTG_LOCK_FLUSH)
		return 0;
	if (lock >= LTG_LOCK_PIN_0 && lock < LTG_LOCK_ALLOC)
		return 4;
	if (lock >= LTG_LOCK_PACKED_0 && lock < LTG_LOCK_EPOCH)
		return 7;
	switch (lock)
	{
		case LTG_LOCK_FLUSH:
			return 1;
		case LTG_LOCK_COMPACT:
			return 2;
		case LTG_LOCK_META:
			return 3;
		case LTG_LOCK_ALLOC:
			return 5;
		case LTG_LOCK_CACHE:
			return 6;
		default:
			return 8;
	}
}

static const char *const wait_names[] = {
	"LightningRoom",
	"LightningWriteDelay",
	"LightningRateLimit",
	"LightningCompaction"
};

uint32
lightning_wait_event(LightningWait what)
{
	return LIGHTNING_WAIT_EVENT(lightning_shared->wait_tranche[what]);
}

static void
init_locks(void)
{
	int			tranche[lengthof(tranche_names)];
	int			xact;
	int			i;

	StaticAssertStmt(lengthof(wait_names) == LIGHTNING_WAIT_COUNT, "a wait has no name");
	for (i = 0; i < LIGHTNING_WAIT_COUNT; i++)
	{
		lightning_shared->wait_tranche[i] = LWLockNewTrancheId();
		LWLockRegisterTranche(lightning_shared->wait_tranche[i], wait_names[i]);
	}

	for (i = 0; i < lengthof(tranche_names); i++)
	{
		tranche[i] = LWLockNewTrancheId();
		LWLockRegisterTranche(tranche[i], tranche_names[i]);
	}
	for (i = 0; i < LTG_LOCK_COUNT; i++)
		LWLockInitialize(&lightning_shared->locks[i].lock, tranche[tranche_of(i)]);

	xact = LWLockNewTrancheId();
	LWLockRegisterTranche(xact, "LightningCommitLog");
	LWLockInitialize(&lightning_shared->xact_lock, xact);
}

static void
init_shared(void)
{
	memset(lightning_shared, 0, sizeof(LightningShared));
	init_locks();
	pg_atomic_init_u32(&lightning_shared->gate_state, LIGHTNING_GATE_DOWN);
	pg_atomic_init_u32(&lightning_shared->gate_clean, 0);
	pg_atomic_init_u64(&lightning_shared->gate_done, 0);
	pg_atomic_init_u64(&lightning_shared->gate_flushes, 0);
	pg_atomic_init_u64(&lightning_shared->files_removed, 0);
	pg_atomic_init_u32(&lightning_shared->xact_copies, 0);
	pg_atomic_init_u64(&lightning_shared->xact_below, 0);
	pg_atomic_init_u64(&lightning_shared->xact_changes, 0);
	pg_atomic_init_u64(&lightning_shared->copied_at, 0);
	pg_atomic_init_u32(&lightning_shared->space_wanted, 0);
	ConditionVariableInit(&lightning_shared->gate_cv);
	ConditionVariableInit(&lightning_shared->room_cv);
	SpinLockInit(&lightning_shared->mutex);
	pg_atomic_init_u64(&lightning_shared->flush_failures, 0);
	pg_atomic_init_u64(&lightning_shared->compact_failures, 0);
	pg_atomic_init_u64(&lightning_shared->rows_lost, 0);
	pg_atomic_init_u64(&lightning_shared->slots_missed, 0);
	pg_atomic_init_u64(&lightning_shared->orphans_dropped, 0);
	pg_atomic_init_u64(&lightning_shared->room_waits, 0);
	pg_atomic_init_u32(&lightning_shared->prewarm_state, LIGHTNING_PREWARM_NOT_YET);
	pg_atomic_init_u64(&lightning_shared->prewarm_read, 0);
	pg_atomic_init_u64(&lightning_shared->prewarm_saved, 0);
	pg_atomic_init_u64(&lightning_shared->redo_applied, 0);
	pg_atomic_init_u64(&lightning_shared->wal_records, 0);
	pg_atomic_init_u64(&lightning_shared->wal_bytes, 0);
}

ControlFileData *
lightning_control_file(void)
{
	static ControlFileData *control = NULL;
	bool		found;

	/* the server has made it before our startup hook runs */
	if (control == NULL || !IsUnderPostmaster)
	{
		control = ShmemInitStruct("Control File", sizeof(ControlFileData), &found);
		if (!found)
			elog(FATAL, "control file is not in shared memory");
	}
	return control;
}

static bool
file_exists(const char *path)
{
	struct stat st;

	if (stat(path, &st) == 0)
		return true;
	if (errno != ENOENT)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", path)));
	return false;
}

/*
 * Where replay will start: the backup label's word counts, if there is one,
 * as it does for the server (xlogrecovery.c, read_backup_label).
 */
static XLogRecPtr
replay_start(bool *from_label)
{
	FILE	   *f;
	uint32		hi,
				lo;

	*from_label = false;
	f = fopen(BACKUP_LABEL_FILE, "r");
	if (f == NULL)
	{
		if (errno != ENOENT)
			ereport(FATAL,
					(errcode_for_file_access(),
					 errmsg("could not open file \"%s\": %m", BACKUP_LABEL_FILE)));
		return lightning_control_file()->checkPointCopy.redo;
	}
	if (fscanf(f, "START WAL LOCATION: %X/%X", &hi, &lo) != 2)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("invalid data in file \"%s\"", BACKUP_LABEL_FILE)));
	fclose(f);
	*from_label = true;
	return ((XLogRecPtr) hi) << 32 | lo;
}

/*
 * A symbolic link is refused: pg_basebackup leaves it out with a warning, and
 * a copy without these files has none of the rows.
 */
static void
make_directory(void)
{
	struct stat st;

	if (MakePGDirectory(LIGHTNING_DIR) == 0)
		fsync_fname(".", true);
	else if (errno != EEXIST || lstat(LIGHTNING_DIR, &st) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", LIGHTNING_DIR)));
	else if (!S_ISDIR(st.st_mode))
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" in the data directory is not a directory", LIGHTNING_DIR),
				 errdetail("Base backups leave symbolic links out, and with this one all rows of lightning tables."),
				 errhint("Put the directory itself there. It may be the place where another file system is mounted.")));
}

/* What the engine left in files, into shared memory. */
static void
load(void)
{
	LtgLoadOptions options = {0};
	LtgLoadInfo info = {0};
	LtgSession *s;
	LtgStatus	st;
	XLogRecPtr	redo,
				closed;
	bool		from_label;

	make_directory();
	redo = replay_start(&from_label);

	/*
	 * When the gate closed at shutdown, nothing of ours was logged between
	 * its last flush and the shutdown checkpoint.
	 */
	closed = lightning_read_closed_mark();
	options.min_durable = (closed != InvalidXLogRecPtr && closed < redo) ? closed : redo;

	/* The server empties unlogged relations in the same cases. */
	options.reset_unlogged = from_label ||
		lightning_control_file()->state != DB_SHUTDOWNED ||
		file_exists(RECOVERY_SIGNAL_FILE) || file_exists(STANDBY_SIGNAL_FILE);

	s = lightning_session();
	st = ltg_load(s, &options, &info);
	if (st != LTG_OK)
	{
		ereport(LOG,
				(errmsg("lightning could not load its files"),
				 errdetail("Replay of the log will start at %X/%X.", LSN_FORMAT_ARGS(redo)),
				 errhint("If files are missing or damaged in directory \"%s\", restore from a backup.",
						 LIGHTNING_DIR)));
		lightning_report(s, st, NULL);
	}
	if (info.manifests_skipped > 0 || info.files_missing > 0)
		ereport(info.files_missing == 0 || lightning_ignore_damage ? WARNING : FATAL,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("lightning found damaged or missing files"),
				 errdetail("%u manifests were skipped, %u files of the chosen one are missing or damaged.",
						   info.manifests_skipped, info.files_missing)));
	if (info.manifest != 0)
		ereport(LOG,
				(errmsg("lightning uses manifest %llu, which contains the log up to %X/%X",
						(unsigned long long) info.manifest, LSN_FORMAT_ARGS(info.durable))));
	lightning_xact_load(s);
	lightning_mark_loaded(ltg_durable(s));
	lightning_session_discard();
}

/*
 * The postmaster leaves out workers that find no slot, with no more than a
 * message.  Without ours every write would wait for ever.
 */
static void
check_workers(void)
{
	slist_iter	iter;
	int			registered = 0;
	int			ours = 0;

	slist_foreach(iter, &BackgroundWorkerList)
	{
		const RegisteredBgWorker *w = slist_container(RegisteredBgWorker, rw_lnode, iter.cur);

		registered++;
		ours += strcmp(w->rw_worker.bgw_library_name, "lightning") == 0;
	}
	if (IsPostmasterEnvironment && ours < LIGHTNING_STATIC_WORKERS)
		ereport(FATAL,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("max_worker_processes is too low for lightning"),
				 errdetail("It is %d. Lightning needs %d for itself, and %d are taken by others.",
						   max_worker_processes, LIGHTNING_STATIC_WORKERS, registered - ours),
				 errhint("Set max_worker_processes to at least %d, better to that and lightning.compaction_workers.",
						 registered - ours + LIGHTNING_STATIC_WORKERS)));
}

static void
lightning_shmem_startup(void)
{
	LtgConfig	config;
	void	   *mem;
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	/* crash restart: what was there before is gone */
	lightning_region = NULL;
	check_workers();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	lightning_shared = ShmemInitStruct("lightning state", sizeof(LightningShared), &found);
	if (found)
		elog(FATAL, "lightning does not support EXEC_BACKEND");
	init_shared();
	lightning_rowlock_shmem_init();
	lightning_speculative_shmem_init();
	lightning_live_shmem_init();
	lightning_stop_shmem_init();
	fill_config(&config);
	mem = ShmemInitStruct("lightning engine", ltg_shared_size(&config), &found);
	if (ltg_shared_init(mem, &config, &lightning_region) != LTG_OK)
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lightning could not initialize its shared memory"),
				 errhint("Check lightning.memtable_size, lightning.cache_size and lightning.metadata_size.")));
	LWLockRelease(AddinShmemInitLock);

	lightning_preset_check();
	load();
}

void
lightning_shmem_init(void)
{
	preloaded = true;
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = lightning_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = lightning_shmem_startup;
	lightning_session_init();
}
