/*
 * lsm_mt_test.c
 *	  Readers, writers, flushes and compactions in threads at the same time.
 *
 * The keys fall into groups; a transaction writes a whole group, the same value
 * everywhere, or deletes it.  So whatever a snapshot sees of a group must agree,
 * by ltg_get and by scans, and it must be what the last transaction wrote that
 * committed before the snapshot.  ltg_versions must never give a version twice.
 * Run it under ThreadSanitizer (make check-tsan).
 */
#include "ltg.h"
#include "port/port_posix.h"
#include "tree/publish.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define GROUPS 64
#define MEMBERS 9
#define MAX_XIDS (1 << 20)
#define MAX_SESSIONS 8

typedef enum Fate
{
	RUNNING,
	COMMITTED,
	ABORTED
} Fate;

static struct
{
	char		dir[64];
	LtgPosix   *posix;
	LtgPort    *port;
	void	   *mem;
	LtgShared  *shared;
	LtgStore   *store;
	_Atomic uint8_t fate[MAX_XIDS];
	_Atomic uint64_t lsn;
	_Atomic bool stop;
	_Atomic uint32_t reads, writes, flushes, compactions;

	pthread_mutex_t lock;		/* begin, end, snapshots, horizon */
	LtgXid		next_xid;
	LtgXid		running[MAX_SESSIONS];	/* 0: none */
	LtgXid		xmin[MAX_SESSIONS];	/* of a session's snapshot */
	uint64_t	value[GROUPS];	/* last committed, 0 = deleted */

	pthread_mutex_t group[GROUPS];	/* one writer at a time */
}			w;

typedef struct Snap
{
	LtgSnapshot snap;			/* first */
	LtgXid		xmax;
	LtgXid		running[MAX_SESSIONS];
	uint64_t	value[GROUPS];
	int			slot;
}			Snap;

#define check(cond) \
	do { \
		if (!(cond)) \
		{ \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			abort(); \
		} \
	} while (0)

static void
ok(LtgSession *s, LtgStatus st, int line)
{
	if (st != LTG_OK)
	{
		fprintf(stderr, "line %d: status %s: %s\n", line, ltg_status_name(st), s->err.msg);
		abort();
	}
}
#define OK(s, call) ok((s), (call), __LINE__)

/* ---- the host ---- */

static LtgSeq
wal_position(void *arg)
{
	(void) arg;
	return atomic_load(&w.lsn);
}

static LtgStatus
xid_status(void *arg, LtgXid xid, LtgXidStatus *status, LtgError *err)
{
	Fate		f = (Fate) atomic_load(&w.fate[xid]);

	(void) arg;
	(void) err;
	*status = f == RUNNING ? LTG_XID_IN_PROGRESS : f == COMMITTED ? LTG_XID_COMMITTED : LTG_XID_ABORTED;
	return LTG_OK;
}

static LtgXid
horizon(void *arg)
{
	LtgXid		h;

	(void) arg;
	pthread_mutex_lock(&w.lock);
	h = w.next_xid;
	for (int i = 0; i < MAX_SESSIONS; i++)
	{
		if (w.running[i] != 0 && w.running[i] < h)
			h = w.running[i];
		if (w.xmin[i] != 0 && w.xmin[i] < h)
			h = w.xmin[i];
	}
	pthread_mutex_unlock(&w.lock);
	return h;
}

static bool
judge(LtgSnapshot *ls, LtgXid xid, uint32_t cid, LtgState *fate)
{
	Snap	   *s = (Snap *) ls;
	Fate		f = (Fate) atomic_load(&w.fate[xid]);

	(void) cid;
	if (f != RUNNING)
		*fate = f == COMMITTED ? LTG_COMMITTED : LTG_ABORTED;
	if (xid >= s->xmax || f != COMMITTED)
		return false;
	for (int i = 0; i < MAX_SESSIONS; i++)
		if (s->running[i] == xid)
			return false;
	return true;
}

static void
take_snapshot(Snap *s, int slot)
{
	memset(s, 0, sizeof(*s));
	s->snap.judge = judge;
	s->slot = slot;
	pthread_mutex_lock(&w.lock);
	s->xmax = s->snap.xmin = w.next_xid;
	memcpy(s->running, w.running, sizeof(w.running));
	for (int i = 0; i < MAX_SESSIONS; i++)
		if (s->running[i] != 0 && s->running[i] < s->snap.xmin)
			s->snap.xmin = s->running[i];
	memcpy(s->value, w.value, sizeof(w.value));
	w.xmin[slot] = s->snap.xmin;
	pthread_mutex_unlock(&w.lock);
}

static void
release_snapshot(Snap *s)
{
	pthread_mutex_lock(&w.lock);
	w.xmin[s->slot] = 0;
	pthread_mutex_unlock(&w.lock);
}

/* ---- threads ---- */

static uint64_t
next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void
make_key(uint8_t *key, uint32_t group, uint32_t member)
{
	/* members of a group lie far apart */
	key[0] = (uint8_t) member;
	key[1] = 'k';
	key[2] = (uint8_t) group;
}

static void
put(LtgSession *s, uint32_t group, uint32_t member, LtgXid xid, uint64_t value)
{
	uint8_t		key[3];
	uint64_t	payload[8];
	LtgWrite	wr = {.store = w.store, .key = key, .key_len = 3};

	make_key(key, group, member);
	for (int i = 0; i < 8; i++)
		payload[i] = value;
	wr.v.kind = value == 0 ? LTG_DELETE : LTG_PUT;
	wr.v.xid = xid;
	if (value != 0)
	{
		wr.v.payload = (uint8_t *) payload;
		wr.v.payload_len = sizeof(payload);
	}
	for (;;)
	{
		LtgStatus	st;

		ltg_latch(s, w.store, key, 3);
		st = ltg_reserve(s, &wr, 1);
		if (st == LTG_OK)
			break;
		check(st == LTG_BUSY);
		ltg_unlatch(s);
		st = ltg_make_room(s, false);
		if (st == LTG_BUSY)
		{
			LtgFlushResult r;

			OK(s, ltg_flush(s, &r));
		}
		else
			OK(s, st);
	}
	ltg_apply(s, &wr, 1, atomic_fetch_add(&w.lsn, 8) + 8);
	ltg_unlatch(s);
}

static LtgSession *
open_session(void)
{
	LtgSession *s;

	check(ltg_session_open(w.port, w.shared, &s) == LTG_OK);
	return s;
}

static void *
writer(void *arg)
{
	int			slot = (int) (intptr_t) arg;
	LtgSession *s = open_session();
	uint64_t	rnd = 0x1234567 + (uint64_t) slot * 77777;

	while (!atomic_load(&w.stop))
	{
		uint32_t	g = (uint32_t) (next_random(&rnd) % GROUPS);
		bool		commit = next_random(&rnd) % 4 != 0;
		uint64_t	value;
		LtgXid		xid;

		pthread_mutex_lock(&w.group[g]);
		pthread_mutex_lock(&w.lock);
		xid = w.next_xid++;
		check(xid < MAX_XIDS);
		w.running[slot] = xid;
		pthread_mutex_unlock(&w.lock);
		value = next_random(&rnd) % 5 == 0 ? 0 : xid;
		for (uint32_t m = 0; m < MEMBERS; m++)
			put(s, g, m, xid, value);
		pthread_mutex_lock(&w.lock);
		atomic_store(&w.fate[xid], commit ? COMMITTED : ABORTED);
		w.running[slot] = 0;
		if (commit)
			w.value[g] = value;
		pthread_mutex_unlock(&w.lock);
		pthread_mutex_unlock(&w.group[g]);
		atomic_fetch_add(&w.writes, 1);
	}
	ltg_session_close(s);
	return NULL;
}

typedef struct Order
{
	LtgSeq		last;
	bool		any;
}			Order;

static bool
check_order(void *arg, const LtgVersion *v, LtgState *fate)
{
	Order	   *o = arg;

	(void) fate;
	if (v->seq != 0)
	{
		check(!o->any || v->seq < o->last);
		o->last = v->seq;
		o->any = true;
	}
	return true;
}

static void
read_one(LtgSession *s, Snap *snap, uint32_t g, uint32_t m, LtgRow *row)
{
	uint8_t		key[3];
	LtgStatus	st;
	Order		o = {0};

	make_key(key, g, m);
	st = ltg_get(s, w.store, key, 3, &snap->snap, row);
	if (st == LTG_NOT_FOUND)
		check(snap->value[g] == 0);
	else
	{
		OK(s, st);
		check(row->v.payload_len == 64);
		for (int k = 0; k < 8; k++)
			check(((const uint64_t *) row->v.payload)[k] == snap->value[g]);
	}
	OK(s, ltg_versions(s, w.store, key, 3, check_order, &o));
}

static void
read_groups(LtgSession *s, Snap *snap, uint64_t *rnd, LtgRow *row)
{
	uint32_t	member = (uint32_t) (next_random(rnd) % MEMBERS);

	for (int i = 0; i < 8; i++)
	{
		uint32_t	g = (uint32_t) (next_random(rnd) % GROUPS);

		for (uint32_t m = 0; m < MEMBERS; m++)
			read_one(s, snap, g, m, row);
	}
	/* neighbours in key order, for which sessions remember places */
	for (uint32_t g = 0; g < GROUPS; g++)
		read_one(s, snap, g, member, row);
}

static void
scan_groups(LtgSession *s, Snap *snap, uint64_t *rnd)
{
	LtgScanOptions opt = {.snap = &snap->snap, .backward = next_random(rnd) % 2};
	LtgScan    *scan;
	LtgBatch	b;
	LtgStatus	st;
	uint32_t	seen[GROUPS] = {0};

	opt.max_rows = (uint32_t) (next_random(rnd) % 100);
	opt.spare_cache = next_random(rnd) % 2;
	OK(s, ltg_scan_open(s, w.store, &opt, &scan));
	while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
		for (uint32_t i = 0; i < b.n; i++)
		{
			const uint8_t *key;
			uint32_t	len;
			LtgVersion	v;

			ltg_batch_row(scan, i, &key, &len, &v);
			check(len == 3 && key[2] < GROUPS);
			check(v.payload_len == 64 && *(const uint64_t *) v.payload == snap->value[key[2]]);
			seen[key[2]]++;
		}
	check(st == LTG_END);
	ltg_scan_close(scan);
	for (uint32_t g = 0; g < GROUPS; g++)
		check(seen[g] == (snap->value[g] == 0 ? 0 : MEMBERS));
}

static void
scan_raw(LtgSession *s)
{
	LtgScanOptions opt = {0};
	LtgScan    *scan;
	LtgBatch	b;
	LtgStatus	st;
	uint8_t		last[3] = {0};
	Order		o = {0};

	OK(s, ltg_scan_open(s, w.store, &opt, &scan));
	while ((st = ltg_scan_next(scan, &b)) == LTG_OK)
		for (uint32_t i = 0; i < b.n; i++)
		{
			const uint8_t *key;
			uint32_t	len;
			LtgVersion	v;
			LtgState	fate = LTG_UNRESOLVED;

			ltg_batch_row(scan, i, &key, &len, &v);
			if (memcmp(key, last, 3) != 0)
			{
				check(memcmp(key, last, 3) > 0);
				memset(&o, 0, sizeof(o));
				memcpy(last, key, 3);
			}
			check_order(&o, &v, &fate);
		}
	check(st == LTG_END);
	ltg_scan_close(scan);
}

static void *
reader(void *arg)
{
	int			slot = (int) (intptr_t) arg;
	LtgSession *s = open_session();
	uint64_t	rnd = 0x987654321 + (uint64_t) slot * 55555;
	LtgRow		row = {0};

	while (!atomic_load(&w.stop))
	{
		Snap		snap;

		take_snapshot(&snap, slot);
		for (int i = 0; i < 3; i++)
		{
			read_groups(s, &snap, &rnd, &row);
			scan_groups(s, &snap, &rnd);
		}
		scan_raw(s);
		release_snapshot(&snap);
		atomic_fetch_add(&w.reads, 1);
	}
	ltg_row_free(s, &row);
	ltg_session_close(s);
	return NULL;
}

static void
sleep_ms(long ms)
{
	struct timespec t = {.tv_nsec = ms * 1000000};

	nanosleep(&t, NULL);
}

static void *
flusher(void *arg)
{
	LtgSession *s = open_session();
	uint64_t	rnd = 4711;

	(void) arg;
	while (!atomic_load(&w.stop))
	{
		LtgFlushResult r;
		LtgSeq		cut;

		sleep_ms((long) (next_random(&rnd) % 8));
		if (next_random(&rnd) % 3 == 0)
			OK(s, ltg_flush_upto(s, atomic_load(&w.lsn), &r));
		else
		{
			LtgStatus	st = ltg_freeze(s, &cut);

			check(st == LTG_OK || st == LTG_BUSY);
			OK(s, ltg_flush(s, &r));
		}
		atomic_fetch_add(&w.flushes, r.flushed);
	}
	ltg_session_close(s);
	return NULL;
}

static void *
compactor(void *arg)
{
	LtgSession *s = open_session();
	uint64_t	rnd = 99 + (uint64_t) (intptr_t) arg;

	while (!atomic_load(&w.stop))
	{
		LtgCompactResult r;
		uint32_t	removed;
		LtgStatus	st;

		if (next_random(&rnd) % 8 == 0)
		{
			st = ltg_compact_store(s, w.store, &r);
			check(st == LTG_OK || st == LTG_BUSY);
		}
		else
			OK(s, ltg_compact(s, &r));
		atomic_fetch_add(&w.compactions, r.compacted);
		if (!r.compacted)
			sleep_ms(1);
		if (next_random(&rnd) % 8 == 0)
			OK(s, ltg_remove_obsolete(s, &removed));
	}
	ltg_session_close(s);
	return NULL;
}

static void
problem(void *arg, const char *text)
{
	(void) arg;
	fprintf(stderr, "check: %s\n", text);
	abort();
}

static void
quiet_log(void *arg, LtgLogLevel level, const char *msg)
{
	(void) arg;
	(void) level;
	(void) msg;
}

static void
open_engine(LtgSession **s)
{
	LtgPosixOptions opt = {.dir = w.dir, .create = true, .log = quiet_log};
	LtgPosixHost host = {.wal_position = wal_position, .xid_status = xid_status, .horizon = horizon};
	LtgStoreKey key = {.space = 1, .database = 1, .relation = 1, .backend = -1};
	LtgLoadOptions load = {0};
	LtgLoadInfo info;
	LtgConfig	c;
	LtgError	err = {0};

	strcpy(w.dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/ltg-mt-XXXXXX" : "/tmp/ltg-mt-XXXXXX");
	assert_non_null(mkdtemp(w.dir));
	assert_int_equal(ltg_posix_open(&opt, &w.posix, &err), LTG_OK);
	ltg_posix_set_host(w.posix, &host);
	w.port = ltg_posix_port(w.posix);
	ltg_config_defaults(&c);
	c.memtable_bytes = 1 << 20;
	c.memtable_count = 4;
	c.cache_bytes = 1 << 20;
	c.metadata_bytes = 8 << 20;
	c.max_sessions = MAX_SESSIONS + 2;
	c.block_size = 4096;
	c.file_target_bytes = 32 * 1024;
	c.l0_compact_trigger = 2;	/* several merges at once */
	w.mem = aligned_alloc(4096, (ltg_shared_size(&c) + 4095) & ~(size_t) 4095);
	assert_non_null(w.mem);
	assert_int_equal(ltg_shared_init(w.mem, &c, &w.shared), LTG_OK);
	*s = open_session();
	OK(*s, ltg_load(*s, &load, &info));
	atomic_store(&w.lsn, 1000);
	ltg_ddl_pin(*s);
	OK(*s, ltg_store_create(*s, &key, 0, 1000, &w.store));
	ltg_ddl_unpin(*s);
}

static void
all_at_once(void **state)
{
	const char *seconds = getenv("LTG_MT_SECONDS");
	pthread_t	t[7];
	LtgSession *s;
	DIR		   *d;
	struct dirent *e;

	(void) state;
	pthread_mutex_init(&w.lock, NULL);
	for (int g = 0; g < GROUPS; g++)
		pthread_mutex_init(&w.group[g], NULL);
	w.next_xid = 1;
	open_engine(&s);
	pthread_create(&t[0], NULL, writer, (void *) 0);
	pthread_create(&t[1], NULL, writer, (void *) 1);
	pthread_create(&t[2], NULL, reader, (void *) 2);
	pthread_create(&t[3], NULL, reader, (void *) 3);
	pthread_create(&t[4], NULL, flusher, NULL);
	pthread_create(&t[5], NULL, compactor, (void *) 1);
	pthread_create(&t[6], NULL, compactor, (void *) 2);
	for (int i = 0; i < (seconds == NULL ? 2 : atoi(seconds)) * 10; i++)
		sleep_ms(100);
	atomic_store(&w.stop, true);
	for (int i = 0; i < 7; i++)
		pthread_join(t[i], NULL);
	OK(s, ltg_check_all(s, problem, NULL));
	print_message("%u transactions, %u reads, %u flushes, %u compactions\n",
				  w.writes, w.reads, w.flushes, w.compactions);
	ltg_session_close(s);
	assert_int_equal(ltg_posix_live_allocs(w.posix), 0);
	ltg_posix_close(w.posix);
	free(w.mem);
	d = opendir(w.dir);
	while (d != NULL && (e = readdir(d)) != NULL)
	{
		char		path[512];

		snprintf(path, sizeof(path), "%s/%s", w.dir, e->d_name);
		if (e->d_name[0] != '.')
			unlink(path);
	}
	if (d != NULL)
		closedir(d);
	rmdir(w.dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(all_at_once)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
