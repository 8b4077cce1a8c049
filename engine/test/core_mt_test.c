/*
 * core_mt_test.c
 *	  Writers, readers, DDL, flushes, compactions and file removal, all at
 *	  once, and then again after a restart.
 *
 * Each writer owns a range of keys of every store and knows what it wrote
 * last, so that it can check its own reads at any moment; other readers see
 * values that only grow.
 */
#include "core_rig.h"

#include <pthread.h>

#define WRITERS 3
#define KEYS 60					/* of each writer */
#define STORES 3
#define ROUNDS 3000

typedef struct Actor
{
	CoreRig    *rig;
	pthread_t	thread;
	uint32_t	id;
	uint32_t	value[STORES][KEYS];
} Actor;

static _Atomic bool stop;
/* the log: writers append in any order, but each LSN once */

static LtgSession *
open_session(CoreRig *rig)
{
	LtgSession *s;

	if (ltg_session_open(rig->port, rig->sh, &s) != LTG_OK)
		abort();
	return s;
}

static void
must(LtgSession *s, LtgStatus st)
{
	if (st != LTG_OK)
	{
		fprintf(stderr, "status %s: %s %s\n", ltg_status_name(st), s->err.file, s->err.msg);
		abort();
	}
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

static uint32_t
read_key(LtgSession *s, LtgStore *store, uint32_t key)
{
	LtgSnapshot snap = {.xmin = 1,.judge = sees};
	LtgRow		row = {0};
	uint8_t		k[4] = {(uint8_t) (key >> 24), (uint8_t) (key >> 16),
		(uint8_t) (key >> 8), (uint8_t) key};
	uint32_t	value = 0;
	LtgStatus	st = ltg_get(s, store, k, 4, &snap, &row);

	if (st == LTG_OK)
		memcpy(&value, row.v.payload, 4);
	else if (st != LTG_NOT_FOUND)
		must(s, st);
	ltg_row_free(s, &row);
	return value;
}

static void
write_key(CoreRig *rig, LtgSession *s, LtgStore *store, uint32_t key, uint32_t value)
{
	uint8_t		k[4] = {(uint8_t) (key >> 24), (uint8_t) (key >> 16),
		(uint8_t) (key >> 8), (uint8_t) key};
	uint8_t		payload[2000];
	LtgWrite	w = {.store = store,.key = k,.key_len = 4};
	LtgFlushResult r;
	LtgStatus	st;

	memset(payload, (int) key, sizeof(payload));
	memcpy(payload, &value, 4);
	w.v.xid = 100;
	w.v.payload = payload;
	w.v.payload_len = 200 + value % 1800;
	ltg_latch(s, store, k, 4);
	while ((st = ltg_reserve(s, &w, 1)) == LTG_BUSY)
	{
		ltg_unlatch(s);
		while ((st = ltg_make_room(s, false)) == LTG_BUSY)
			must(s, ltg_flush(s, &r));
		must(s, st);
		ltg_latch(s, store, k, 4);
	}
	must(s, st);
	ltg_apply(s, &w, 1, atomic_fetch_add(&rig->wal, 10) + 10);
	ltg_unlatch(s);
}

static void *
writer(void *arg)
{
	Actor	   *a = arg;
	CoreRig    *rig = a->rig;
	LtgSession *s = open_session(rig);
	uint64_t	seed = a->id + 1;

	for (uint32_t i = 0; i < ROUNDS; i++)
	{
		uint32_t	store,
					key;
		LtgStore   *st;
		LtgStoreKey sk;

		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
		store = (uint32_t) (seed >> 33) % STORES;
		key = (uint32_t) (seed >> 43) % KEYS;
		sk = core_key(store + 1);
		must(s, ltg_store_find(s, &sk, &st));
		if (read_key(s, st, a->id * 1000 + key) != a->value[store][key])
			abort();
		write_key(rig, s, st, a->id * 1000 + key, ++a->value[store][key]);
		if (read_key(s, st, a->id * 1000 + key) != a->value[store][key])
			abort();
	}
	ltg_session_close(s);
	return NULL;
}

/* Values of any key only grow, in gets and in scans, and no key is lost. */
static void *
reader(void *arg)
{
	Actor	   *a = arg;
	LtgSession *s = open_session(a->rig);
	LtgStoreKey sk = core_key(1);
	static uint32_t last[WRITERS * 1000];
	LtgStore   *st;
	uint32_t	seen = 0;

	must(s, ltg_store_find(s, &sk, &st));
	while (!atomic_load(&stop))
	{
		LtgSnapshot snap = {.xmin = 1,.judge = sees};
		LtgScanOptions opt = {.snap = &snap,.max_rows = 17};
		LtgScan    *scan;
		LtgBatch	batch;
		LtgStatus	status;
		uint32_t	rows = 0;

		must(s, ltg_scan_open(s, st, &opt, &scan));
		while ((status = ltg_scan_next(scan, &batch)) == LTG_OK)
			for (uint32_t i = 0; i < batch.n; i++)
			{
				const uint8_t *key;
				uint32_t	len,
							value,
							k;
				LtgVersion	v;

				ltg_batch_row(scan, i, &key, &len, &v);
				k = (uint32_t) key[2] << 8 | key[3];
				memcpy(&value, v.payload, 4);
				if (value < last[k])
					abort();
				last[k] = value;
				rows++;
			}
		if (status != LTG_END)
			must(s, status);
		ltg_scan_close(scan);
		if (rows < seen)
			abort();
		seen = rows;
	}
	ltg_session_close(s);
	return NULL;
}

/* Creates, fills and drops stores; the descriptors are reused. */
static void *
definer(void *arg)
{
	Actor	   *a = arg;
	CoreRig    *rig = a->rig;
	LtgSession *s = open_session(rig);
	LtgStoreKey sk = core_key(50);

	for (uint32_t i = 1; !atomic_load(&stop); i++)
	{
		LtgStore   *st;

		ltg_ddl_pin(s);
		must(s, ltg_store_create(s, &sk, i % 2 ? LTG_STORE_UNLOGGED : 0,
								 atomic_fetch_add(&rig->wal, 10) + 10, &st));
		ltg_ddl_unpin(s);
		for (uint32_t k = 0; k < 20; k++)
			write_key(rig, s, st, k, i);
		for (uint32_t k = 0; k < 20; k++)
			if (read_key(s, st, k) != i)
				abort();
		if (read_key(s, st, 20) != 0)
			abort();
		ltg_ddl_pin(s);
		must(s, ltg_store_drop(s, &sk, atomic_fetch_add(&rig->wal, 10) + 10));
		ltg_ddl_unpin(s);
	}
	ltg_session_close(s);
	return NULL;
}

static void
on_problem(void *arg, const char *msg)
{
	(void) arg;
	fprintf(stderr, "problem: %s\n", msg);
	abort();
}

/* Checkpoints, compaction, removal of files, checks. */
static void *
keeper(void *arg)
{
	Actor	   *a = arg;
	CoreRig    *rig = a->rig;
	LtgSession *s = open_session(rig);

	for (uint32_t i = 0; !atomic_load(&stop); i++)
	{
		LtgFlushResult fr;
		LtgCompactResult cr;
		uint32_t	removed;

		if (a->id % 2 == 0)
		{
			LtgSeq		redo = atomic_load(&rig->wal);

			must(s, ltg_flush_upto(s, redo, &fr));
			must(s, ltg_remove_obsolete(s, &removed));
			if (i % 8 == 0)
				must(s, ltg_check_all(s, on_problem, NULL));
		}
		else
			must(s, ltg_compact(s, &cr));
	}
	ltg_session_close(s);
	return NULL;
}

static void
test_all_at_once(void **state)
{
	CoreRig		rig;
	static Actor writers[WRITERS];
	Actor		others[5];
	void	   *(*fn[5]) (void *) = {reader, definer, keeper, keeper, keeper};

	(void) state;
	core_open(&rig);
	rig.config.metadata_bytes = 4 << 20;
	rig.config.max_sessions = 16;
	rig.config.l0_compact_trigger = 2;
	rig.config.file_target_bytes = 64 * 1024;
	core_boot(&rig, true);
	for (uint32_t i = 0; i < STORES; i++)
		core_store(&rig, i + 1, 0);
	memset(writers, 0, sizeof(writers));
	atomic_store(&stop, false);
	for (uint32_t i = 0; i < 5; i++)
	{
		others[i] = (Actor) {.rig = &rig,.id = i};
		pthread_create(&others[i].thread, NULL, fn[i], &others[i]);
	}
	for (uint32_t i = 0; i < WRITERS; i++)
	{
		writers[i].rig = &rig;
		writers[i].id = i;
		pthread_create(&writers[i].thread, NULL, writer, &writers[i]);
	}
	for (uint32_t i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	atomic_store(&stop, true);
	for (uint32_t i = 0; i < 5; i++)
		pthread_join(others[i].thread, NULL);
	core_check(&rig);
	assert_int_equal(core_flush(&rig), LTG_OK);

	for (int restart = 0; restart < 2; restart++)
	{
		for (uint32_t i = 0; i < WRITERS; i++)
			for (uint32_t st = 0; st < STORES; st++)
				for (uint32_t k = 0; k < KEYS; k++)
				{
					int64_t		v = core_get(&rig, core_store(&rig, st + 1, 0), i * 1000 + k);

					assert_int_equal(v, writers[i].value[st][k] == 0 ? -1 :
									 (int64_t) writers[i].value[st][k]);
				}
		core_check(&rig);
		core_down(&rig);
		core_boot_crashed(&rig);
	}
	core_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
