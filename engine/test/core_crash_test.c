/*
 * core_crash_test.c
 *	  Crashes at every stop point: random work with a log; at random stop points
 *	  the directory is copied as a crash would leave it, started, the durable
 *	  part of the log is replayed, and everything is compared with what the log
 *	  says.
 *
 * Checked with it: D never exceeds the durable log (S4, P3), stores and rows
 * below D are in the files, what the store table has from above D does no harm
 * (L1, L2), a damaged newest manifest is replaced by an older one that is still
 * whole (O3), unlogged stores are empty but there.
 *
 *	core_crash_test [seed]		runs one seed
 */
#include "core_rig.h"

#include <dirent.h>

#include "storage/file.h"
#include "tree/manifest.h"

#define RELATIONS 6
#define KEYS 24
#define STEPS 300
#define LOG_MAX 20000

typedef enum Kind
{
	R_PUT, R_DELETE, R_CREATE, R_DROP
} Kind;

typedef struct Record
{
	Kind		kind;
	uint32_t	relation, key, value;
	LtgSeq		lsn;
} Record;

typedef struct Relation
{
	bool		alive;
	int64_t		value[KEYS];
} Relation;

typedef struct World
{
	CoreRig		rig;
	Record		log[LOG_MAX];
	uint32_t	n;
	LtgSeq		redo;			/* of the last completed checkpoint */
	uint64_t	random;
	uint64_t	seed;
	uint32_t	crashes, damaged;
	uint32_t	next_value;
} World;

static World world;

static uint32_t
pick(World *w, uint32_t n)
{
	w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t) (w->random >> 33) % n;
}

static uint32_t
flags_of(uint32_t relation)
{
	return relation == 0 ? LTG_STORE_UNLOGGED : relation == 1 ? LTG_STORE_KEEP_GRAVES : 0;
}

/* ---- what the log says ---- */

static void
state_at(const World *w, LtgSeq lsn, Relation *rel)
{
	memset(rel, 0, RELATIONS * sizeof(Relation));
	for (uint32_t i = 0; i < w->n && w->log[i].lsn <= lsn; i++)
	{
		const Record *r = &w->log[i];
		Relation   *x = &rel[r->relation];

		switch (r->kind)
		{
			case R_PUT:
				x->value[r->key] = r->value;
				break;
			case R_DELETE:
				x->value[r->key] = -1;
				break;
			case R_CREATE:
			case R_DROP:
				x->alive = r->kind == R_CREATE;
				for (uint32_t k = 0; k < KEYS; k++)
					x->value[k] = -1;
				break;
		}
	}
}

static void
compare(CoreRig *rig, const Relation *rel, bool crashed)
{
	for (uint32_t i = 0; i < RELATIONS; i++)
	{
		LtgStoreKey key = core_key(i);
		LtgStore   *st;
		LtgStatus	found = ltg_store_find(rig->s, &key, &st);

		assert_int_equal(found, rel[i].alive ? LTG_OK : LTG_NOT_FOUND);
		if (!rel[i].alive)
			continue;
		for (uint32_t k = 0; k < KEYS; k++)
			assert_int_equal(core_get(rig, st, k),
							 crashed && flags_of(i) == LTG_STORE_UNLOGGED ? -1 : rel[i].value[k]);
	}
}

/* ---- writing ---- */

static void
apply(CoreRig *rig, LtgStore *store, uint32_t key, bool put, uint32_t value, LtgSeq lsn)
{
	uint8_t		k[4] = {0, 0, 0, (uint8_t) key};
	uint8_t		payload[600];
	LtgWrite	w = {.store = store,.key = k,.key_len = 4};
	LtgFlushResult r;
	LtgStatus	st;

	memset(payload, (int) value, sizeof(payload));
	memcpy(payload, &value, 4);
	w.v.kind = put ? LTG_PUT : LTG_DELETE;
	w.v.xid = lsn;
	w.v.payload = payload;
	w.v.payload_len = put ? 4 + value % 590 : 0;
	while ((st = ltg_reserve(rig->s, &w, 1)) == LTG_BUSY)
		if (ltg_make_room(rig->s, false) == LTG_BUSY)
			assert_int_equal(ltg_flush(rig->s, &r), LTG_OK);
	assert_int_equal(st, LTG_OK);
	ltg_apply(rig->s, &w, 1, lsn);
}

static Record *
log_record(World *w, Kind kind, uint32_t relation)
{
	Record	   *r = &w->log[w->n++];

	assert_true(w->n < LOG_MAX);
	*r = (Record) {.kind = kind,.relation = relation,.lsn = w->rig.wal += 10};
	return r;
}

static void
redo_one(CoreRig *rig, const Record *r)
{
	LtgStoreKey key = core_key(r->relation);
	LtgStore   *st;
	LtgStatus	status;

	switch (r->kind)
	{
		case R_CREATE:
			assert_int_equal(ltg_store_create(rig->s, &key, flags_of(r->relation), r->lsn, &st),
							 LTG_OK);
			break;
		case R_DROP:
			status = ltg_store_drop(rig->s, &key, r->lsn);
			assert_true(status == LTG_OK || status == LTG_NOT_FOUND);
			break;
		case R_PUT:
		case R_DELETE:
			if (flags_of(r->relation) == LTG_STORE_UNLOGGED)
				break;			/* not logged, really */
			if (ltg_store_find(rig->s, &key, &st) == LTG_OK)
				apply(rig, st, r->key, r->kind == R_PUT, r->value, r->lsn);
			else
				assert_true(ltg_store_was_dropped(rig->s, &key));
			break;
	}
}

/* ---- a crash ---- */

static void
copy_directory(const char *from, const char *to, bool with_tmp)
{
	DIR		   *d = opendir(from);
	struct dirent *de;
	char		path[400];
	static char buf[1 << 20];

	while ((de = readdir(d)) != NULL)
	{
		FILE	   *in,
				   *out;
		size_t		n;

		if (de->d_name[0] == '.' || (!with_tmp && strstr(de->d_name, ".tmp") != NULL))
			continue;
		snprintf(path, sizeof(path), "%s/%s", from, de->d_name);
		in = fopen(path, "rb");
		snprintf(path, sizeof(path), "%s/%s", to, de->d_name);
		out = fopen(path, "wb");
		assert_true(in != NULL && out != NULL);
		while ((n = fread(buf, 1, sizeof(buf), in)) > 0)
			assert_int_equal(fwrite(buf, 1, n, out), n);
		fclose(in);
		fclose(out);
	}
	closedir(d);
}

/* Any one file of a manifest is damaged, or missing: nothing is lost by it. */
static void
damage_one(World *w, CoreRig *rig)
{
	uint64_t   *numbers;
	uint32_t	n;
	char		name[LTG_NAME_MAX];

	assert_int_equal(ltg_manifest_list(rig->s, &numbers, &n), LTG_OK);
	if (n == 0)
		return;
	ltg_manifest_copy_name(name, numbers[pick(w, 4) == 0 ? pick(w, n) : n - 1], (int) pick(w, 2), false);
	/* a crash may have come before the second copy had its name */
	if (core_file_size(rig, name) > 0)
	{
		if (pick(w, 4) == 0)
			core_unlink(rig, name);
		else
			core_flip(rig, name, pick(w, (uint32_t) core_file_size(rig, name)), 1);
		w->damaged++;
	}
	rig->port->free(rig->port, numbers);
}

static void
crash(World *w)
{
	static CoreRig copy;
	static Relation rel[RELATIONS];
	LtgLoadOptions opt = {.min_durable = w->redo,.reset_unlogged = true};
	LtgLoadInfo info;
	LtgSeq		end = w->rig.wal_flushed;

	w->crashes++;
	core_open(&copy);
	copy_directory(w->rig.dir, copy.dir, pick(w, 2) == 0);
	copy.wal = copy.wal_flushed = end;
	core_boot(&copy, false);
	if (pick(w, 3) == 0)
		damage_one(w, &copy);
	assert_int_equal(ltg_load(copy.s, &opt, &info), LTG_OK);
	assert_int_equal(info.files_missing, 0);
	assert_true(info.durable <= end);
	assert_true(info.durable >= w->redo);
	core_check(&copy);
	assert_int_equal(core_count_files(&copy, ".tmp"), 0);
	for (uint32_t i = 0; i < w->n && w->log[i].lsn <= end; i++)
		if (w->log[i].lsn > info.durable)
			redo_one(&copy, &w->log[i]);
	state_at(w, end, rel);
	copy.horizon = pick(w, 2) ? end : 0;
	compare(&copy, rel, true);
	core_check(&copy);
	if (pick(w, 2))
	{
		uint32_t	removed;

		assert_int_equal(core_flush(&copy), LTG_OK);
		assert_int_equal(ltg_remove_obsolete(copy.s, &removed), LTG_OK);
		core_check(&copy);
		core_down(&copy);
		core_boot_crashed(&copy);
		compare(&copy, rel, true);
		core_check(&copy);
	}
	core_close(&copy);
}

static void
at_stop_point(CoreRig *rig)
{
	(void) rig;
	if (world.random != 0 && pick(&world, 6) == 0)
		crash(&world);
}

/* ---- work ---- */

static void
create_or_drop(World *w, uint32_t relation)
{
	LtgStoreKey key = core_key(relation);
	LtgSession *s = w->rig.s;
	LtgStore   *st;
	Record	   *r;

	ltg_ddl_pin(s);
	if (ltg_store_find(s, &key, &st) != LTG_OK || pick(w, 4) == 0)
	{
		/* also over one that is there */
		r = log_record(w, R_CREATE, relation);
		assert_int_equal(ltg_store_create(s, &key, flags_of(relation), r->lsn, &st), LTG_OK);
	}
	else
	{
		r = log_record(w, R_DROP, relation);
		assert_int_equal(ltg_store_drop(s, &key, r->lsn), LTG_OK);
	}
	ltg_ddl_unpin(s);
}

static void
write_some(World *w)
{
	uint32_t	n = 1 + pick(w, 30);

	while (n-- > 0)
	{
		uint32_t	relation = pick(w, RELATIONS);
		LtgStoreKey key = core_key(relation);
		bool		put = pick(w, 4) != 0;
		LtgStore   *st;
		Record	   *r;

		if (ltg_store_find(w->rig.s, &key, &st) != LTG_OK)
			continue;
		r = log_record(w, put ? R_PUT : R_DELETE, relation);
		r->key = pick(w, KEYS);
		r->value = ++w->next_value;
		apply(&w->rig, st, r->key, put, r->value, flags_of(relation) == LTG_STORE_UNLOGGED ?
			  ltg_next_unlogged_seq(w->rig.s) : r->lsn);
	}
}

static void
step(World *w)
{
	CoreRig    *rig = &w->rig;
	LtgFlushResult fr;
	LtgCompactResult cr;
	uint32_t	removed;
	LtgSeq		redo;
	LtgStatus	st;

	switch (pick(w, 12))
	{
		case 0:
			create_or_drop(w, pick(w, RELATIONS));
			break;
		case 1:
			st = ltg_make_room(rig->s, true);
			assert_true(st == LTG_OK || st == LTG_BUSY);
			break;
		case 2:
			assert_int_equal(ltg_flush(rig->s, &fr), LTG_OK);
			break;
		case 3:
			assert_int_equal(ltg_compact(rig->s, &cr), LTG_OK);
			break;
		case 4:
			{
				LtgStoreKey key = core_key(pick(w, RELATIONS));
				LtgStore   *store;

				if (ltg_store_find(rig->s, &key, &store) == LTG_OK)
					assert_int_equal(ltg_compact_store(rig->s, store, &cr), LTG_OK);
				break;
			}
		case 5:
			redo = rig->wal;
			assert_int_equal(ltg_flush_upto(rig->s, redo, &fr), LTG_OK);
			w->redo = redo;
			assert_int_equal(ltg_remove_obsolete(rig->s, &removed), LTG_OK);
			break;
		case 6:
			assert_int_equal(ltg_publish_pending(rig->s, true), LTG_OK);
			break;
		case 7:
			rig->wal_flushed = rig->wal;	/* a commit */
			rig->horizon = pick(w, 3) == 0 ? rig->wal : rig->horizon;
			break;
		default:
			write_some(w);
	}
}

static void
run(uint64_t seed)
{
	static Relation rel[RELATIONS];

	memset(&world, 0, sizeof(world));
	world.seed = seed;
	core_open(&world.rig);
	world.rig.config.memtable_count = 2 + seed % 3;
	world.rig.config.l0_compact_trigger = 1 + seed % 4;
	if (seed % 2 == 0)
		world.rig.config.file_target_bytes = 8192;
	core_boot(&world.rig, true);
	world.rig.wal_flushed = world.rig.wal;
	world.random = seed * 2 + 1;
	world.rig.stop_at = "*";
	world.rig.on_stop = at_stop_point;
	for (uint32_t i = 0; i < STEPS; i++)
	{
		step(&world);
		if (i % 25 == 0)
		{
			state_at(&world, UINT64_MAX, rel);
			compare(&world.rig, rel, false);
			core_check(&world.rig);
		}
	}
	world.rig.stop_at = NULL;
	crash(&world);
	state_at(&world, UINT64_MAX, rel);
	compare(&world.rig, rel, false);
	core_check(&world.rig);
	core_close(&world.rig);
}

#ifdef __SANITIZE_ADDRESS__
#define DEFAULT_SEEDS 3
#else
#define DEFAULT_SEEDS 6
#endif

static uint64_t first_seed = 1,
			seeds = DEFAULT_SEEDS;

static void
test_crashes(void **state)
{
	uint32_t	crashes = 0,
				damaged = 0;

	(void) state;
	for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++)
	{
		print_message("seed %llu\n", (unsigned long long) seed);
		run(seed);
		crashes += world.crashes;
		damaged += world.damaged;
	}
	print_message("%u crashes, %u with a damaged manifest\n", crashes, damaged);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crashes),
	};

	if (argc > 1)
	{
		first_seed = strtoull(argv[1], NULL, 10);
		seeds = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
