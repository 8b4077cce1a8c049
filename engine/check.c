/*
 * check.c
 *	  Verifies the documented invariants of files and memory.
 *
 * Checked here: the store table (T1, T2), run sets (S2, S5), generations (G1,
 * G2, S3, S4), the file table (O1, O2), the manifest on disk against memory,
 * the metadata heap.  The insides of runs (R1-R5) and of generations (M1-M5)
 * are checked by ltg_run_check and ltg_gen_check, which this file calls.
 *
 * Runs beside readers and writers.  Memory is looked at under LTG_LOCK_META, in
 * one piece and without I/O; files are read one run at a time, each inside an
 * epoch of its own so that nothing waits for a long check.
 */
#include "ltg.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tree/compact.h"
#include "tree/manifest.h"
#include "tree/publish.h"
#include "tree/state.h"

/* The active generation is checked with all writers held off, if it is small. */
#define ACTIVE_CHECK_MAX ((uint64_t) 8 << 20)

typedef struct Check
{
	LtgSession *s;
	LtgProblemFn fn;
	void	   *arg;
	uint64_t	count;			/* scratch of the callbacks */
	bool		whole;			/* everything is checked, directories of files
								 * once per file and not once per run */
	LtgStatus	status;
} Check;

static void __attribute__((format(printf, 2, 3)))
problem(Check *c, const char *fmt,...)
{
	char		msg[400];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(msg, sizeof(msg), fmt, args);
	va_end(args);
	c->fn(c->arg, msg);
}

/* Turn a failed read into a problem; returns what must end the check. */
static LtgStatus
absorb(Check *c, LtgStatus st, const char *what, uint64_t id)
{
	LtgError   *e = &c->s->err;

	if (st == LTG_OK)
		return st;
	if (st != LTG_CORRUPT && st != LTG_IO && st != LTG_VERSION && st != LTG_NOT_FOUND)
		return st;
	if (e->status == LTG_OK)
		problem(c, "%s %llu: %s", what, (unsigned long long) id, ltg_status_name(st));
	else
		problem(c, "%s %llu: file %s, offset %llu: %s", what, (unsigned long long) id,
				e->file, (unsigned long long) e->offset, e->msg);
	ltg_clear_error(c->s);
	return LTG_OK;
}

/* ---- one store ---- */

static bool
is_logged(const LtgStore *store)
{
	return (atomic_load(&store->flags) & (LTG_STORE_UNLOGGED | LTG_STORE_TEMP)) == 0;
}

/* Memory side of a store's runs; META. */
static void
check_run_set(Check *c, LtgStore *store)
{
	LtgShared  *sh = c->s->shared;
	uint64_t	id = ltg_store_id(store);
	const LtgRunSet *rs = atomic_load(&store->runs);
	bool		logged = is_logged(store);

	if (rs == NULL)
		return;
	if (!ltg_run_set_valid(rs))
		problem(c, "store %llu: its runs are out of order", (unsigned long long) id);
	for (uint32_t i = 0; i < rs->n; i++)
	{
		const LtgRunRef *r = &rs->run[i];
		LtgSharedFile *f = ltg_file_entry(sh, r->file);

		if (f == NULL || f->obsolete_at != 0 || f->refs == 0)
			problem(c, "store %llu: file %llx of a run is not in use",
					(unsigned long long) id, (unsigned long long) r->file);
		else if (f->missing)
			problem(c, "store %llu: file %llx was missing or damaged when loaded",
					(unsigned long long) id, (unsigned long long) r->file);
		else if (r->root_offset + r->root_disk_len > f->bytes)
			problem(c, "store %llu: a run lies outside of file %llx",
					(unsigned long long) id, (unsigned long long) r->file);
		if (r->entries == 0 || r->keys > r->entries || r->tombstones > r->entries ||
			r->unsettled > r->entries || (r->min_xid == 0) != (r->unsettled == 0))
			problem(c, "store %llu: the counts of a run in file %llx contradict each other",
					(unsigned long long) id, (unsigned long long) r->file);
		if (logged && r->max_seq > atomic_load(&sh->durable) && r->max_seq > store->merged.upto)
			problem(c, "store %llu: file %llx has versions above D",
					(unsigned long long) id, (unsigned long long) r->file);
		/* S3: generations, and so level-0 runs, do not overlap in seq */
		if (logged && r->level == 0 && i + 1 < rs->level_start[1] && r->min_seq != 0 &&
			rs->run[i + 1].max_seq >= r->min_seq)
			problem(c, "store %llu: the level-0 run in file %llx is not newer than the next one",
					(unsigned long long) id, (unsigned long long) r->file);
	}
}

/* The directory of a file says the same of a run as its reference does. */
static bool
same_in_directory(const LtgRunRef *a, const LtgRunRef *b)
{
	return a->file == b->file && a->root_offset == b->root_offset &&
		a->root_disk_len == b->root_disk_len && a->entries == b->entries &&
		a->keys == b->keys && a->min_seq == b->min_seq && a->max_seq == b->max_seq &&
		a->min_xid == b->min_xid;
}

typedef struct DirMatch
{
	const LtgRunRef *ref;
	bool		found;
} DirMatch;

static LtgStatus
match_directory(void *arg, const void *store_key, uint32_t store_key_len,
				const LtgRunRef *ref)
{
	DirMatch   *m = arg;

	(void) store_key;
	(void) store_key_len;
	m->found |= same_in_directory(ref, m->ref);
	return LTG_OK;
}

static bool
still_has(LtgStore *store, uint64_t id, const LtgRunRef *r)
{
	const LtgRunSet *rs = atomic_load_explicit(&store->runs, memory_order_acquire);

	if (ltg_store_id(store) != id || rs == NULL)
		return false;
	for (uint32_t i = 0; i < rs->n; i++)
		if (rs->run[i].file == r->file && rs->run[i].root_offset == r->root_offset)
			return true;
	return false;
}

/* Files are not removed under an epoch that saw them in use. */
static LtgStatus
check_run(Check *c, LtgStore *store, uint64_t id, const LtgRunRef *r)
{
	LtgSession *s = c->s;
	DirMatch	m = {.ref = r};
	uint64_t	bytes;
	LtgStatus	st = LTG_OK;

	ltg_epoch_enter(s);
	if (still_has(store, id, r))
	{
		if (c->whole)
			m.found = true;
		else
			st = absorb(c, ltg_file_verify(s, r->file, &bytes, match_directory, &m), "store", id);
		if (st == LTG_OK && !m.found)
			problem(c, "store %llu: the directory of file %llx does not list its run",
					(unsigned long long) id, (unsigned long long) r->file);
		if (st == LTG_OK)
			st = absorb(c, ltg_run_check(s, r), "store", id);
	}
	ltg_epoch_leave(s);
	if (st == LTG_OK && s->port->interrupted(s->port))
		return ltg_fail(s, LTG_INTERRUPTED, "check was interrupted");
	return st;
}

/* Is the key a row id that was handed out?  To be asked after it was read. */
static void
check_row_id(Check *c, LtgStore *store, uint64_t id, const uint8_t *key, uint32_t len)
{
	uint64_t	rowid = 0;

	if (!c->s->shared->config.row_ids || (atomic_load(&store->flags) & LTG_STORE_LOCKS) != 0)
		return;
	for (uint32_t i = 0; i < len; i++)
		rowid = rowid << 8 | key[i];
	/* (a store that was dropped meanwhile may be another one, with fewer rows) */
	if (len <= sizeof(rowid) && (rowid < ltg_store_next_rowid(store) || ltg_store_id(store) != id))
		return;
	problem(c, "store %llu: there is a row %llu, but no such row id was handed out yet",
			(unsigned long long) id, (unsigned long long) rowid);
}

/* Every key in order, its versions newest first: what readers rely on. */
static LtgStatus
check_order(Check *c, LtgStore *store, uint64_t id)
{
	LtgSession *s = c->s;
	LtgScanOptions opt = {.spare_cache = true};
	LtgScan    *scan;
	LtgBatch	batch;
	LtgStatus	st;
	uint8_t		last[LTG_KEY_MAX];
	uint32_t	last_len = 0;
	LtgSeq		last_seq = 0;
	bool		any = false;

	LTG_TRY(ltg_scan_open(s, store, &opt, &scan));
	while ((st = ltg_scan_next(scan, &batch)) == LTG_OK)
	{
		for (uint32_t i = 0; i < batch.n; i++)
		{
			const uint8_t *key;
			uint32_t	len;
			LtgVersion	v;
			int			cmp;

			ltg_batch_row(scan, i, &key, &len, &v);
			cmp = any ? ltg_key_cmp(last, last_len, key, len) : -1;
			if (cmp > 0)
				problem(c, "store %llu: a scan returns keys out of order", (unsigned long long) id);
			/* a grave's may have been raised beyond those of upper levels (level_grave) */
			if (cmp == 0 && v.seq != 0 && v.seq >= last_seq &&
				(v.state != LTG_SETTLED || v.kind == LTG_PUT))
				problem(c, "store %llu: a scan returns versions of a key out of order",
						(unsigned long long) id);
			if (cmp != 0)
				check_row_id(c, store, id, key, len);
			memcpy(last, key, len);
			last_len = len;
			/* a settled row read from a file doesn't know its seq */
			if (v.seq != 0)
				last_seq = v.seq;
			else if (cmp != 0)
				last_seq = UINT64_MAX;
			any = true;
		}
		if (s->port->interrupted(s->port))
		{
			st = ltg_fail(s, LTG_INTERRUPTED, "check was interrupted");
			break;
		}
	}
	ltg_scan_close(scan);
	if (st == LTG_INVALID && ltg_store_id(store) != id)
	{
		ltg_clear_error(s);		/* dropped meanwhile */
		st = LTG_OK;
	}
	return absorb(c, st == LTG_END ? LTG_OK : st, "store", id);
}

static LtgStatus
check_store(Check *c, LtgStore *store, uint64_t id)
{
	LtgSession *s = c->s;
	LtgRunRef  *copy = NULL;
	const LtgRunSet *rs;
	uint32_t	n = 0;
	LtgStatus	st = LTG_OK;
	bool		taken = ltg_meta_enter(s);

	if (id == 0 || ltg_store_id(store) != id)
	{
		ltg_meta_leave(s, taken);
		return LTG_OK;			/* dropped meanwhile */
	}
	check_run_set(c, store);
	rs = atomic_load(&store->runs);
	if (rs != NULL)
	{
		n = rs->n;
		copy = s->port->alloc(s->port, n * sizeof(LtgRunRef));
		if (copy != NULL)
			memcpy(copy, rs->run, n * sizeof(LtgRunRef));
		else
			st = ltg_fail(s, LTG_NOMEM, "out of memory for checking %u runs", n);
	}
	ltg_meta_leave(s, taken);
	for (uint32_t i = 0; st == LTG_OK && i < n; i++)
		st = check_run(c, store, id, &copy[i]);
	if (copy != NULL)
		s->port->free(s->port, copy);
	if (st == LTG_OK && ltg_store_id(store) == id)
		st = check_order(c, store, id);
	return st;
}

LtgStatus
ltg_check_store(LtgSession *s, LtgStore *store, LtgProblemFn fn, void *arg)
{
	Check		c = {.s = s,.fn = fn,.arg = arg};

	return check_store(&c, store, ltg_store_id(store));
}

/* ---- memory; META ---- */

/* S3, S4: what of a logged store is in which generation. */
static void
check_cuts(Check *c, LtgStore *store)
{
	LtgShared  *sh = c->s->shared;
	uint64_t	id = ltg_store_id(store);

	for (uint32_t j = 0; j < sh->config.memtable_count; j++)
	{
		const LtgArena *a = &sh->arena[j];
		const LtgMemList *l;
		LtgSeq		min,
					max;

		if (a->state != LTG_ARENA_ACTIVE && a->state != LTG_ARENA_FROZEN)
			continue;
		l = ltg_gen_list(a->gen, id);
		if (l == NULL)
			continue;
		ltg_mem_list_seq_range(l, &min, &max);
		if (max != 0 && a->state == LTG_ARENA_FROZEN && max > a->cut)
			problem(c, "store %llu: a frozen generation has versions above its cut",
					(unsigned long long) id);
		if (max != 0 && min <= atomic_load(&sh->durable))
			problem(c, "store %llu: a generation has versions that the files contain",
					(unsigned long long) id);
	}
}

static bool
check_table_entry(void *arg, LtgStore *store)
{
	Check	   *c = arg;
	LtgShared  *sh = c->s->shared;
	uint64_t	id = ltg_store_id(store);

	c->count++;
	if (is_logged(store))
		check_cuts(c, store);
	if (ltg_store_lookup(sh, &store->key) != store)
		problem(c, "store %llu is not found by its key", (unsigned long long) id);
	if (id >= sh->next_store_id || ltg_store_by_id(c->s, id) != store)
		problem(c, "store %llu is not found by its id", (unsigned long long) id);
	return true;
}

static void
check_store_table(Check *c)
{
	LtgShared  *sh = c->s->shared;
	uint64_t	linked = 0;

	c->count = 0;
	ltg_each_store(c->s, check_table_entry, c);
	for (uint32_t b = 0; b < sh->store_buckets; b++)
		for (LtgStore *st = atomic_load(&sh->stores_by_key[b]); st != NULL;
			 st = atomic_load(&st->hash_next))
			linked++;
	if (c->count != sh->n_stores || linked != sh->n_stores)
		problem(c, "%llu stores are counted, %llu are in the chains by id, %llu in those by key",
				(unsigned long long) sh->n_stores, (unsigned long long) c->count,
				(unsigned long long) linked);
	for (LtgStore *st = sh->dropped_stores; st != NULL; st = st->free_next)
		if (ltg_store_id(st) != 0 || atomic_load(&st->runs) != NULL)
			problem(c, "a dropped store is still alive");
	for (LtgStore *st = sh->free_stores; st != NULL; st = st->free_next)
		if (ltg_store_id(st) != 0)
			problem(c, "a free store descriptor is alive");
}

typedef struct FileRefs
{
	LtgFileId	id;
	uint32_t	refs;
} FileRefs;

typedef struct RefCount
{
	Check	   *c;
	FileRefs   *file;
	uint32_t	n;
} RefCount;

static int
compare_refs(const void *a, const void *b)
{
	LtgFileId	x = ((const FileRefs *) a)->id,
				y = ((const FileRefs *) b)->id;

	return (x > y) - (x < y);
}

static bool
count_refs(void *arg, LtgStore *store)
{
	RefCount   *rc = arg;
	const LtgRunSet *rs = atomic_load(&store->runs);

	for (uint32_t i = 0; rs != NULL && i < rs->n; i++)
	{
		FileRefs	want = {.id = rs->run[i].file};
		FileRefs   *f = rc->n == 0 ? NULL :
			bsearch(&want, rc->file, rc->n, sizeof(want), compare_refs);

		if (f == NULL)
			problem(rc->c, "store %llu: file %llx is not in the file table",
					(unsigned long long) ltg_store_id(store), (unsigned long long) want.id);
		else
			f->refs++;
	}
	return true;
}

static LtgStatus
check_file_table(Check *c)
{
	LtgSession *s = c->s;
	LtgShared  *sh = s->shared;
	RefCount	rc = {.c = c};
	uint64_t	files = 0,
				obsolete = 0,
				bytes = 0,
				obsolete_bytes = 0;

	rc.file = s->port->alloc(s->port, (sh->n_files + 1) * sizeof(FileRefs));
	if (rc.file == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for checking the file table");
	for (uint32_t b = 0; b < sh->file_buckets; b++)
		for (LtgSharedFile *f = sh->files_by_id[b]; f != NULL; f = f->next)
		{
			if (rc.n < sh->n_files)
				rc.file[rc.n++] = (FileRefs) {f->id, 0};
			files++;
			bytes += f->bytes;
			obsolete += f->obsolete_at != 0;
			obsolete_bytes += f->obsolete_at != 0 ? f->bytes : 0;
			if (f->obsolete_at != 0 && f->refs != 0)
				problem(c, "obsolete file %llx is in use", (unsigned long long) f->id);
			if (f->id >= atomic_load(&sh->next_file_id))
				problem(c, "file %llx has a number not given out yet", (unsigned long long) f->id);
		}
	if (files != sh->n_files || obsolete != sh->n_obsolete || bytes != sh->file_bytes ||
		obsolete_bytes != sh->obsolete_bytes)
		problem(c, "the file table's totals are wrong");
	qsort(rc.file, rc.n, sizeof(FileRefs), compare_refs);
	ltg_each_store(s, count_refs, &rc);
	for (uint32_t i = 0; i < rc.n; i++)
	{
		LtgSharedFile *f = ltg_file_entry(sh, rc.file[i].id);

		if (f->refs != rc.file[i].refs)
			problem(c, "file %llx has %u references, counted %u",
					(unsigned long long) f->id, rc.file[i].refs, f->refs);
	}
	s->port->free(s->port, rc.file);
	return LTG_OK;
}

static void
check_generation_list(Check *c)
{
	LtgShared  *sh = c->s->shared;
	const LtgGenList *l = ltg_generations(c->s);
	LtgSeq		newer_cut = UINT64_MAX;
	uint32_t	listed = 0;

	if (l->n == 0 || l->n > sh->config.memtable_count)
	{
		problem(c, "there are %u generations", l->n);
		return;
	}
	if (atomic_load(&sh->active) != l->gen[0])
		problem(c, "writers use another generation than the list's first");
	for (uint32_t i = 0; i < l->n; i++)
	{
		const LtgArena *a = NULL;

		for (uint32_t j = 0; j < sh->config.memtable_count; j++)
			if (sh->arena[j].gen == l->gen[i])
				a = &sh->arena[j];
		if (a == NULL || a->state != (i == 0 ? LTG_ARENA_ACTIVE : LTG_ARENA_FROZEN))
		{
			problem(c, "generation %u of the list is in a wrong state", i);
			continue;
		}
		if (i > 0 && ltg_gen_number(l->gen[i]) >= ltg_gen_number(l->gen[i - 1]))
			problem(c, "generations are out of order");
		if (i > 0 && (a->cut > newer_cut || a->cut < atomic_load(&sh->durable)))
			problem(c, "a generation's cut is out of order");
		if (i > 0)
			newer_cut = a->cut;
	}
	for (uint32_t j = 0; j < sh->config.memtable_count; j++)
		listed += sh->arena[j].state == LTG_ARENA_ACTIVE ||
			sh->arena[j].state == LTG_ARENA_FROZEN;
	if (listed != l->n)
		problem(c, "%u arenas are in use, but %u are listed", listed, l->n);
}

/* ---- the rest ---- */

static void
check_generations(Check *c)
{
	LtgSession *s = c->s;
	LtgPort    *port = s->port;
	const LtgGenList *l;
	char		msg[200];

	ltg_epoch_enter(s);
	l = ltg_generations(s);
	for (uint32_t i = 1; i < l->n; i++)
		if (!ltg_gen_check(l->gen[i], msg, sizeof(msg)))
			problem(c, "generation %llu: %s",
					(unsigned long long) ltg_gen_number(l->gen[i]), msg);
	for (int i = 0; i < LTG_LOCK_PINS; i++)
		port->lock(port, LTG_LOCK_PIN_0 + i, LTG_EXCLUSIVE);
	l = ltg_generations(s);
	if (ltg_gen_used(l->gen[0]) <= ACTIVE_CHECK_MAX &&
		!ltg_gen_check(l->gen[0], msg, sizeof(msg)))
		problem(c, "active generation: %s", msg);
	for (int i = LTG_LOCK_PINS - 1; i >= 0; i--)
		port->unlock(port, LTG_LOCK_PIN_0 + i);
	ltg_epoch_leave(s);
}

/* In any order, which is mostly the same. */
static bool
same_runs(const LtgManifest *m, const LtgManifestStore *ms, const LtgRunSet *rs)
{
	uint32_t	n = ms->n_runs;

	if (n != (rs != NULL ? rs->n : 0))
		return false;
	for (uint32_t i = 0; i < n; i++)
	{
		const LtgRunRef *b = &rs->run[i];
		bool		found = false;

		for (uint32_t j = 0; j < n && !found; j++)
		{
			const LtgRunRef *a = &m->runs[ms->first_run + (i + j) % n];

			found = a->file == b->file && a->root_offset == b->root_offset &&
				a->level == b->level && a->age == b->age && a->entries == b->entries;
		}
		if (!found)
			return false;
	}
	return true;
}

static int
compare_ids(const void *a, const void *b)
{
	uint64_t	x = ((const LtgManifestStore *) a)->id,
				y = ((const LtgManifestStore *) b)->id;

	return (x > y) - (x < y);
}

typedef struct Unlisted
{
	Check	   *c;
	const LtgManifest *m;		/* stores sorted by id */
} Unlisted;

static bool
check_listed(void *arg, LtgStore *store)
{
	Unlisted   *u = arg;
	LtgManifestStore want = {.id = ltg_store_id(store)};
	const LtgManifestStore *ms = u->m->h.n_stores == 0 ? NULL :
		bsearch(&want, u->m->stores, u->m->h.n_stores, sizeof(want), compare_ids);
	const LtgRunSet *rs = atomic_load(&store->runs);

	if ((atomic_load(&store->flags) & LTG_STORE_TEMP) != 0)
		return true;
	/* next_rowid may be below the manifest's: unused ids are given back */
	if (ms == NULL && rs != NULL)
		problem(u->c, "store %llu has runs but is not in the manifest",
				(unsigned long long) want.id);
	else if (ms != NULL && (ms->stamp != store->stamp ||
							memcmp(&ms->key, &store->key, sizeof(LtgStoreKey)) != 0 ||
							!same_runs(u->m, ms, rs)))
		problem(u->c, "store %llu is not as the manifest has it", (unsigned long long) want.id);
	return true;
}

static int
compare_places(const void *a, const void *b)
{
	const LtgRunRef *x = *(const LtgRunRef *const *) a;
	const LtgRunRef *y = *(const LtgRunRef *const *) b;

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return (x->root_offset > y->root_offset) - (x->root_offset < y->root_offset);
}

typedef struct RunList
{
	const LtgRunRef **run;		/* sorted by place */
	uint32_t	n;
	uint32_t	found;			/* of the file at hand */
} RunList;

static LtgStatus
match_manifest(void *arg, const void *store_key, uint32_t store_key_len,
			   const LtgRunRef *ref)
{
	RunList    *l = arg;
	const LtgRunRef **at = l->n == 0 ? NULL :
		bsearch(&ref, l->run, l->n, sizeof(*l->run), compare_places);

	(void) store_key;
	(void) store_key_len;
	if (at != NULL && same_in_directory(ref, *at))
		l->found++;
	return LTG_OK;
}

static uint32_t
runs_of_file(const LtgManifest *m, LtgFileId id)
{
	uint32_t	n = 0;

	for (uint32_t i = 0; i < m->h.n_runs; i++)
		n += m->runs[i].file == id;
	return n;
}

/* The files that the manifest names are there and list its runs. */
static LtgStatus
check_manifest_files(Check *c, const LtgManifest *m)
{
	LtgSession *s = c->s;
	RunList		l = {.n = m->h.n_runs};
	LtgStatus	st = LTG_OK;

	l.run = s->port->alloc(s->port, ((size_t) l.n + 1) * sizeof(*l.run));
	if (l.run == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for checking %u runs", l.n);
	for (uint32_t i = 0; i < l.n; i++)
		l.run[i] = &m->runs[i];
	if (l.n > 1)
		qsort(l.run, l.n, sizeof(*l.run), compare_places);
	for (uint32_t i = 0; st == LTG_OK && i < m->h.n_files; i++)
	{
		LtgFileId	id = m->files[i].id;
		uint64_t	bytes = 0;

		l.found = 0;
		st = ltg_file_verify(s, id, &bytes, match_manifest, &l);
		if (st == LTG_OK && bytes != m->files[i].bytes)
			problem(c, "file %llx has %llu bytes, the manifest says %llu",
					(unsigned long long) id, (unsigned long long) bytes,
					(unsigned long long) m->files[i].bytes);
		if (st == LTG_OK && l.found != runs_of_file(m, id))
			problem(c, "file %llx does not list the runs that the manifest has in it",
					(unsigned long long) id);
		st = absorb(c, st, "manifest", m->h.number);
	}
	s->port->free(s->port, l.run);
	return st;
}

/* REQUIRES LTG_LOCK_MANIFEST: no run set changes but by a drop. */
static LtgStatus
check_manifest(Check *c)
{
	LtgSession *s = c->s;
	LtgShared  *sh = s->shared;
	uint64_t	number = atomic_load(&sh->manifest);
	LtgManifest m = {0};
	uint64_t	last;
	Unlisted	u = {.c = c,.m = &m};
	LtgStatus	st;
	bool		taken;

	if (number == 0)
		return LTG_OK;
	st = ltg_manifest_read_upto(s, sh->manifest_file, number, &m, &last);
	if (st != LTG_OK)
		return absorb(c, st, "manifest", number);
	if (m.h.durable != atomic_load(&sh->durable))
		problem(c, "manifest %llx has another D than memory", (unsigned long long) number);
	st = check_manifest_files(c, &m);
	if (m.h.n_stores > 1)
		qsort(m.stores, m.h.n_stores, sizeof(*m.stores), compare_ids);
	taken = ltg_meta_enter(s);
	/* what a load reset differs from the manifest until the next one */
	if (st == LTG_OK && sh->changes == sh->changes_published)
		ltg_each_store(s, check_listed, &u);
	ltg_meta_leave(s, taken);
	ltg_manifest_free(s, &m);
	return st;
}

static LtgStatus
check_memory(Check *c)
{
	LtgSession *s = c->s;
	char		msg[200];
	LtgStatus	st;
	bool		taken = ltg_meta_enter(s);

	check_store_table(c);
	st = check_file_table(c);
	check_generation_list(c);
	ltg_meta_leave(s, taken);
	if (!ltg_shalloc_check(s, s->shared->alloc, msg, sizeof(msg)))
		problem(c, "metadata memory: %s", msg);
	return st;
}

/* Stores by id: descriptors may be reused while the check runs. */
static LtgStatus
check_stores(Check *c)
{
	LtgSession *s = c->s;
	uint32_t	n = ltg_store_list(s, NULL, 0),
				listed;
	LtgStoreInfo *info;
	LtgStatus	st = LTG_OK;

	if (n == 0)
		return LTG_OK;
	info = s->port->alloc(s->port, n * sizeof(LtgStoreInfo));
	if (info == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for checking %u stores", n);
	listed = ltg_store_list(s, info, n);
	if (listed < n)
		n = listed;
	for (uint32_t i = 0; st == LTG_OK && i < n; i++)
	{
		LtgStore   *store;

		ltg_epoch_enter(s);
		store = ltg_store_by_id(s, info[i].id);
		ltg_epoch_leave(s);
		if (store != NULL)
			st = check_store(c, store, info[i].id);
	}
	s->port->free(s->port, info);
	return st;
}

LtgStatus
ltg_check_all(LtgSession *s, LtgProblemFn fn, void *arg)
{
	Check		c = {.s = s,.fn = fn,.arg = arg,.whole = true};
	LtgStatus	st;

	LTG_TRY(check_memory(&c));
	check_generations(&c);
	if (!ltg_jobs_valid(s))
		problem(&c, "two compactions have reserved the same runs or keys");
	s->port->lock(s->port, LTG_LOCK_MANIFEST, LTG_EXCLUSIVE);
	st = check_manifest(&c);
	s->port->unlock(s->port, LTG_LOCK_MANIFEST);
	if (st == LTG_OK)
		st = check_stores(&c);
	return st;
}
