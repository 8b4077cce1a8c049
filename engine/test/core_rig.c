/*
 * core_rig.c
 *	  See core_rig.h.
 */
#include "core_rig.h"

#include <dirent.h>
#include <unistd.h>

#define XID 100

static LtgSeq
host_position(void *arg)
{
	return ((CoreRig *) arg)->wal;
}

static LtgStatus
host_flush(void *arg, LtgSeq lsn, LtgError *err)
{
	CoreRig    *rig = arg;

	if (rig->wal_flush_fails > 0)
	{
		rig->wal_flush_fails--;
		memset(err, 0, sizeof(*err));
		err->status = LTG_IO;
		return LTG_IO;
	}
	assert_true(lsn <= rig->wal);
	if (rig->wal_flushed < lsn)
		rig->wal_flushed = lsn;
	return LTG_OK;
}

static LtgStatus
host_status(void *arg, LtgXid xid, LtgXidStatus *status, LtgError *err)
{
	(void) arg;
	(void) xid;
	(void) err;
	*status = LTG_XID_COMMITTED;
	return LTG_OK;
}

static LtgXid
host_horizon(void *arg)
{
	return ((CoreRig *) arg)->horizon;
}

static void
host_stop(void *arg, const char *name)
{
	CoreRig    *rig = arg;

	if (rig->stop_at == NULL)
		return;
	if (strcmp(rig->stop_at, "*") == 0)
		rig->on_stop(rig);
	else if (strcmp(name, rig->stop_at) == 0)
	{
		rig->stop_at = NULL;
		rig->on_stop(rig);
	}
}

static void
host_log(void *arg, LtgLogLevel level, const char *msg)
{
	CoreRig    *rig = arg;
	size_t		used = strlen(rig->log);

	(void) level;
	if (used + strlen(msg) + 2 > sizeof(rig->log))
		used = 0;
	snprintf(rig->log + used, sizeof(rig->log) - used, "%.1000s\n", msg);
}

void
core_open(CoreRig *rig)
{
	LtgPosixOptions opt = {0};
	LtgPosixHost host = {
		.arg = rig,.wal_position = host_position,.wal_flush = host_flush,
		.xid_status = host_status,.horizon = host_horizon,.stop_point = host_stop,
	};
	LtgError	e;

	memset(rig, 0, sizeof(*rig));
	/* memory, where there is: nothing here depends on real syncs */
	snprintf(rig->dir, sizeof(rig->dir), "%s/ltg-core-XXXXXX",
			 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(rig->dir));
	opt.dir = rig->dir;
	opt.log_level = LTG_LOG_DEBUG;
	opt.log = host_log;
	opt.log_arg = rig;
	assert_int_equal(ltg_posix_open(&opt, &rig->posix, &e), LTG_OK);
	ltg_posix_set_host(rig->posix, &host);
	rig->port = ltg_posix_port(rig->posix);
	rig->wal = 1000;
	ltg_config_defaults(&rig->config);
	rig->config.memtable_bytes = 1 << 20;
	rig->config.memtable_count = 3;
	rig->config.cache_bytes = 1 << 20;
	rig->config.metadata_bytes = 1 << 20;
	rig->config.max_sessions = 8;
	rig->config.block_size = 4096;
}

void
core_down(CoreRig *rig)
{
	if (rig->s != NULL)
		ltg_session_close(rig->s);
	free(rig->mem);
	rig->s = NULL;
	rig->mem = NULL;
}

void
core_close(CoreRig *rig)
{
	char		path[400];
	DIR		   *d;
	struct dirent *de;

	core_down(rig);
	assert_int_equal(ltg_posix_live_allocs(rig->posix), 0);
	ltg_posix_close(rig->posix);
	d = opendir(rig->dir);
	while ((de = readdir(d)) != NULL)
	{
		snprintf(path, sizeof(path), "%s/%s", rig->dir, de->d_name);
		if (de->d_name[0] != '.')
			unlink(path);
	}
	closedir(d);
	rmdir(rig->dir);
}

static void
boot(CoreRig *rig, bool load, bool crashed)
{
	LtgLoadOptions opt = {.reset_unlogged = crashed};
	LtgLoadInfo info;

	rig->mem = malloc(ltg_shared_size(&rig->config));
	assert_non_null(rig->mem);
	assert_int_equal(ltg_shared_init(rig->mem, &rig->config, &rig->sh), LTG_OK);
	assert_int_equal(ltg_session_open(rig->port, rig->sh, &rig->s), LTG_OK);
	if (load)
		assert_int_equal(ltg_load(rig->s, &opt, &info), LTG_OK);
}

void
core_boot(CoreRig *rig, bool load)
{
	boot(rig, load, false);
}

void
core_boot_crashed(CoreRig *rig)
{
	boot(rig, true, true);
}

LtgStoreKey
core_key(uint32_t relation)
{
	LtgStoreKey key = {1663, 5, relation, -1};

	return key;
}

LtgStore *
core_store(CoreRig *rig, uint32_t relation, uint32_t flags)
{
	LtgStoreKey key = core_key(relation);
	LtgStore   *store;

	if (ltg_store_find(rig->s, &key, &store) == LTG_OK)
		return store;
	ltg_ddl_pin(rig->s);
	rig->wal += 10;
	assert_int_equal(ltg_store_create(rig->s, &key, flags, rig->wal, &store), LTG_OK);
	ltg_ddl_unpin(rig->s);
	return store;
}

static void
write_one(CoreRig *rig, LtgStore *store, uint32_t key, LtgKind kind, uint32_t value)
{
	uint8_t		k[4] = {(uint8_t) (key >> 24), (uint8_t) (key >> 16),
		(uint8_t) (key >> 8), (uint8_t) key};
	uint8_t		payload[104];
	LtgWrite	w = {.store = store,.key = k,.key_len = 4};
	LtgFlushResult r;
	LtgStatus	st;

	memset(payload, 'x', sizeof(payload));
	memcpy(payload, &value, sizeof(value));
	w.v.kind = kind;
	w.v.xid = XID;
	w.v.payload = payload;
	w.v.payload_len = kind == LTG_PUT ? sizeof(payload) : 0;
	ltg_latch(rig->s, store, k, 4);
	while ((st = ltg_reserve(rig->s, &w, 1)) == LTG_BUSY)
	{
		ltg_unlatch(rig->s);
		while (ltg_make_room(rig->s, false) == LTG_BUSY)
			assert_int_equal(ltg_flush(rig->s, &r), LTG_OK);
		ltg_latch(rig->s, store, k, 4);
	}
	assert_int_equal(st, LTG_OK);
	rig->wal += 10;
	ltg_apply(rig->s, &w, 1, rig->wal);
	ltg_unlatch(rig->s);
}

void
core_put(CoreRig *rig, LtgStore *store, uint32_t key, uint32_t value)
{
	write_one(rig, store, key, LTG_PUT, value);
}

void
core_delete(CoreRig *rig, LtgStore *store, uint32_t key)
{
	write_one(rig, store, key, LTG_DELETE, 0);
}

static bool
sees(LtgSnapshot *snap, LtgXid xid, uint32_t cid, LtgState *fate)
{
	(void) snap;
	(void) xid;
	(void) cid;
	*fate = LTG_COMMITTED;
	return true;
}

int64_t
core_get(CoreRig *rig, LtgStore *store, uint32_t key)
{
	uint8_t		k[4] = {(uint8_t) (key >> 24), (uint8_t) (key >> 16),
		(uint8_t) (key >> 8), (uint8_t) key};
	LtgSnapshot snap = {.xmin = 1,.judge = sees};
	LtgRow		row = {0};
	int64_t		value = -1;
	LtgStatus	st = ltg_get(rig->s, store, k, 4, &snap, &row);

	if (st == LTG_OK)
	{
		uint32_t	v;

		memcpy(&v, row.v.payload, sizeof(v));
		value = v;
	}
	else
		assert_int_equal(st, LTG_NOT_FOUND);
	ltg_row_free(rig->s, &row);
	return value;
}

LtgStatus
core_flush(CoreRig *rig)
{
	LtgFlushResult r;

	return ltg_flush_upto(rig->s, rig->wal, &r);
}

static void
on_problem(void *arg, const char *msg)
{
	CoreRig    *rig = arg;

	rig->problems++;
	print_error("problem: %s\n", msg);
}

uint32_t
core_problems(CoreRig *rig)
{
	rig->problems = 0;
	assert_int_equal(ltg_check_all(rig->s, on_problem, rig), LTG_OK);
	return rig->problems;
}

void
core_check(CoreRig *rig)
{
	assert_int_equal(core_problems(rig), 0);
}

/* ---- the directory ---- */

uint32_t
core_count_files(CoreRig *rig, const char *suffix)
{
	DIR		   *d = opendir(rig->dir);
	struct dirent *de;
	uint32_t	n = 0;

	while ((de = readdir(d)) != NULL)
	{
		size_t		len = strlen(de->d_name);

		n += len >= strlen(suffix) &&
			strcmp(de->d_name + len - strlen(suffix), suffix) == 0;
	}
	closedir(d);
	return n;
}

static void
path_of(CoreRig *rig, const char *name, char *path, size_t size)
{
	snprintf(path, size, "%s/%s", rig->dir, name);
}

void
core_flip(CoreRig *rig, const char *name, long offset, uint8_t mask)
{
	char		path[200];
	FILE	   *f;
	int			c;

	path_of(rig, name, path, sizeof(path));
	f = fopen(path, "r+b");
	assert_non_null(f);
	assert_int_equal(fseek(f, offset, SEEK_SET), 0);
	c = fgetc(f);
	assert_int_not_equal(c, EOF);
	assert_int_equal(fseek(f, offset, SEEK_SET), 0);
	fputc(c ^ mask, f);
	fclose(f);
}

long
core_file_size(CoreRig *rig, const char *name)
{
	char		path[200];
	FILE	   *f;
	long		size;

	path_of(rig, name, path, sizeof(path));
	f = fopen(path, "rb");
	if (f == NULL)
		return -1;
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	fclose(f);
	return size;
}

void
core_truncate(CoreRig *rig, const char *name, long size)
{
	char		path[200];

	path_of(rig, name, path, sizeof(path));
	assert_int_equal(truncate(path, size), 0);
}

void
core_unlink(CoreRig *rig, const char *name)
{
	char		path[200];

	path_of(rig, name, path, sizeof(path));
	assert_int_equal(unlink(path), 0);
}
