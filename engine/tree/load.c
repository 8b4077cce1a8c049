/*
 * load.c
 *	  Starting: choosing a manifest, building the shared state from it, and
 *	  removing what a crash left behind.
 *
 * Order: everything is read and judged first; then leftovers are removed from
 * the directory; then the shared region is filled.  A failure at any point
 * leaves the region empty and the directory such that the call can be
 * repeated with the same outcome.
 *
 * What a manifest says about stores may be ahead of its D (S4); taken back
 * here is what replay brings again:
 *	 L1. A store with a stamp above D is left out: its creation is in the log
 *		 after D, or never became durable, and it has no data.  (Creations are
 *		 logged for unlogged stores too; a clean stop leaves D above them.)
 *	 L2. A store dropped above D is a tombstone: its records are to be skipped.
 *
 * A system error (not a damaged file) while reading makes the load fail: a
 * manifest must not be passed over for a reason that may go away.
 */
#include "tree/state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/file.h"
#include "tree/manifest.h"
#include "tree/publish.h"

typedef struct FileFact			/* what is known of a data file */
{
	LtgFileId	id;
	uint64_t	bytes;			/* real size, when whole */
	bool		present;
	bool		checked, whole;
} FileFact;

typedef struct Load
{
	LtgSession *s;
	const LtgLoadOptions *opt;
	LtgLoadInfo *info;
	uint64_t   *number;			/* manifests, rising */
	uint32_t	n_numbers;
	FileFact   *file;			/* sorted by id */
	uint32_t	n_files, cap_files;
	uint64_t	manifest_file;	/* the chosen one is in it */
	uint64_t	max_manifest;	/* largest number and id seen, of *.tmp too */
	LtgFileId	max_file;
	bool		nomem;
	LtgManifest m;				/* the chosen one; h.number 0: none */
	uint64_t	max_age;		/* of its runs */
} Load;

static void __attribute__((format(printf, 3, 4)))
say(LtgSession *s, LtgLogLevel level, const char *fmt,...)
{
	char		msg[256];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(msg, sizeof(msg), fmt, args);
	va_end(args);
	s->port->log(s->port, level, msg);
}

/* ---- what is there ---- */

static int
compare_fact(const void *a, const void *b)
{
	LtgFileId	x = ((const FileFact *) a)->id,
				y = ((const FileFact *) b)->id;

	return (x > y) - (x < y);
}

static FileFact *
find_fact(Load *l, LtgFileId id)
{
	FileFact	want = {.id = id};

	if (l->n_files == 0)
		return NULL;
	return bsearch(&want, l->file, l->n_files, sizeof(FileFact), compare_fact);
}

static bool
add_fact(Load *l, LtgFileId id)
{
	if (l->n_files == l->cap_files)
	{
		LtgPort    *port = l->s->port;
		uint32_t	cap = l->cap_files == 0 ? 64 : l->cap_files * 2;
		void	   *p = l->file == NULL ? port->alloc(port, cap * sizeof(FileFact)) :
			port->realloc(port, l->file, cap * sizeof(FileFact));

		if (p == NULL)
			return false;
		l->file = p;
		l->cap_files = cap;
	}
	l->file[l->n_files++] = (FileFact) {.id = id,.present = true};
	return true;
}

static void
see_name(void *arg, const char *name)
{
	Load	   *l = arg;
	uint64_t	number;
	bool		is_tmp;

	if (ltg_parse_manifest_name(name, &number, &is_tmp))
	{
		if (number > l->max_manifest)
			l->max_manifest = number;
	}
	else if (ltg_parse_run_name(name, &number, &is_tmp))
	{
		if (number > l->max_file)
			l->max_file = number;
		if (!is_tmp && number != 0 && !l->nomem && !add_fact(l, number))
			l->nomem = true;
	}
}

static LtgStatus
list_directory(Load *l)
{
	LtgSession *s = l->s;
	LtgError	e = {0};
	LtgStatus	st = s->port->dir_list(s->port, see_name, l, &e);

	if (st != LTG_OK)
		return ltg_port_failed(s, st, &e);
	if (l->nomem)
		return ltg_fail(s, LTG_NOMEM, "out of memory for the list of data files");
	if (l->n_files > 1)
		qsort(l->file, l->n_files, sizeof(FileFact), compare_fact);
	return ltg_manifest_list(s, &l->number, &l->n_numbers);
}

/* ---- judging ---- */

static LtgStatus
check_file(Load *l, FileFact *f)
{
	LtgStatus	st;

	if (f->checked)
		return LTG_OK;
	st = ltg_file_verify(l->s, f->id, &f->bytes, NULL, NULL);
	if (st != LTG_OK && st != LTG_CORRUPT && st != LTG_NOT_FOUND)
		return st;
	f->checked = true;
	f->whole = st == LTG_OK;
	if (st == LTG_CORRUPT)
		say(l->s, LTG_LOG_WARNING, "data file %016llx.run is damaged: %s",
			(unsigned long long) f->id, l->s->err.msg);
	ltg_clear_error(l->s);
	return LTG_OK;
}

/* Is this file of a manifest there as it was written? */
static LtgStatus
file_whole(Load *l, const LtgManifestFile *mf, bool *whole)
{
	FileFact   *f = find_fact(l, mf->id);

	*whole = false;
	if (f == NULL)
		return LTG_OK;
	LTG_TRY(check_file(l, f));
	*whole = f->whole && f->bytes == mf->bytes;
	return LTG_OK;
}

/* How many are not, and the smallest publication that added one of them. */
static LtgStatus
count_damaged(Load *l, const LtgManifest *m, uint32_t *damaged, uint64_t *added)
{
	*damaged = 0;
	*added = UINT64_MAX;
	for (uint32_t i = 0; i < m->h.n_files; i++)
	{
		bool		whole;

		LTG_TRY(file_whole(l, &m->files[i], &whole));
		if (whole)
			continue;
		(*damaged)++;
		if (m->files[i].added < *added)
			*added = m->files[i].added;
	}
	return LTG_OK;
}

/* The runs of each store form a valid set. */
static LtgStatus
check_runs(Load *l, LtgManifest *m)
{
	LtgPort    *port = l->s->port;

	for (uint32_t i = 0; i < m->h.n_stores; i++)
	{
		const LtgManifestStore *ms = &m->stores[i];
		LtgRunSet  *rs;
		bool		valid;

		if (ms->n_runs == 0)
			continue;
		rs = port->alloc(port, ltg_run_set_size(ms->n_runs));
		if (rs == NULL)
			return ltg_fail(l->s, LTG_NOMEM, "out of memory for %u runs", ms->n_runs);
		rs->n = ms->n_runs;
		memcpy(rs->run, &m->runs[ms->first_run], ms->n_runs * sizeof(LtgRunRef));
		ltg_run_set_arrange(rs);
		valid = ltg_run_set_valid(rs);
		port->free(port, rs);
		if (!valid)
			return ltg_fail(l->s, LTG_CORRUPT, "manifest %016llx has overlapping runs of store %llu",
							(unsigned long long) m->h.number, (unsigned long long) ms->id);
	}
	return LTG_OK;
}

/*
 * The manifest in this file, without edits above the limit.  LTG_CORRUPT: it is not
 * usable; the reason has been said.
 */
static LtgStatus
read_manifest(Load *l, uint64_t number, uint64_t limit)
{
	LtgSession *s = l->s;
	uint64_t	last = 0;
	LtgStatus	st = ltg_manifest_read_upto(s, number, limit, &l->m, &last);

	if (last > l->max_manifest)
		l->max_manifest = last;
	if (st == LTG_OK)
		st = check_runs(l, &l->m);
	if (st != LTG_CORRUPT && st != LTG_NOT_FOUND)
		return st;
	say(s, LTG_LOG_WARNING, "manifest %016llx is not usable: %s",
		(unsigned long long) number, st == LTG_CORRUPT ? s->err.msg : "not found");
	ltg_clear_error(s);
	ltg_manifest_free(s, &l->m);
	return LTG_CORRUPT;
}

/*
 * The newest one in a file whose data files are whole; each edit makes another one.
 * *found: it is in l->m.  *fallback: one that is not whole was there, the first that is
 * noted.  LTG_CORRUPT: there is none that covers min_durable, here or in older files.
 */
static LtgStatus
choose_in_file(Load *l, uint64_t number, uint64_t *fallback, bool *found)
{
	LtgSession *s = l->s;
	uint64_t	limit = UINT64_MAX;

	*found = false;
	while (limit >= number)
	{
		uint32_t	damaged;
		uint64_t	added;
		LtgStatus	st = read_manifest(l, number, limit);

		if (st == LTG_CORRUPT)
		{
			l->info->manifests_skipped++;
			return LTG_OK;
		}
		LTG_TRY(st);
		if (l->m.h.durable < l->opt->min_durable)
		{
			say(s, LTG_LOG_WARNING, "manifest %016llx contains the log up to %llX only, but it is needed up to %llX",
				(unsigned long long) l->m.h.number, (unsigned long long) l->m.h.durable,
				(unsigned long long) l->opt->min_durable);
			ltg_manifest_free(s, &l->m);
			return LTG_CORRUPT; /* older ones have less */
		}
		LTG_TRY(count_damaged(l, &l->m, &damaged, &added));
		*found = damaged == 0;
		if (*found)
			return LTG_OK;
		say(s, LTG_LOG_WARNING, "manifest %016llx names files that are missing or damaged",
			(unsigned long long) l->m.h.number);
		l->info->manifests_skipped++;
		if (*fallback == 0)
			*fallback = number;
		limit = added - 1;
		ltg_manifest_free(s, &l->m);
	}
	return LTG_OK;
}

/*
 * Newest first.  The first that is whole is chosen, else the newest readable
 * one; both must cover min_durable.
 */
static LtgStatus
choose(Load *l)
{
	LtgSession *s = l->s;
	uint64_t	fallback = 0,
				added;
	uint32_t	fallback_skipped = 0;

	for (uint32_t i = l->n_numbers; i > 0; i--)
	{
		uint32_t	skipped = l->info->manifests_skipped;
		bool		had = fallback != 0,
					found;
		LtgStatus	st;

		l->manifest_file = l->number[i - 1];
		st = choose_in_file(l, l->manifest_file, &fallback, &found);
		if (!had && fallback != 0)
			fallback_skipped = skipped;
		if (found)
			return LTG_OK;
		if (st == LTG_CORRUPT)
			break;
		LTG_TRY(st);
	}
	if (fallback != 0)
	{
		l->info->manifests_skipped = fallback_skipped;
		l->manifest_file = fallback;
		LTG_TRY(ltg_manifest_read(s, fallback, &l->m));
		return count_damaged(l, &l->m, &l->info->files_missing, &added);
	}
	l->manifest_file = 0;
	if (l->n_numbers > 0)
		return ltg_fail(s, LTG_CORRUPT,
						"none of %u manifests is usable (newest: %016llx, log needed up to %llX)",
						l->n_numbers, (unsigned long long) l->number[l->n_numbers - 1],
						(unsigned long long) l->opt->min_durable);
	return LTG_OK;
}

/* ---- cleaning ---- */

/* What can't be removed is in nobody's way: numbers start above it. */
static void
remove_leftover(LtgSession *s, const char *name)
{
	LtgError	e = {0};
	LtgStatus	st = s->port->file_remove(s->port, name, &e);

	if (st == LTG_OK)
		say(s, LTG_LOG_INFO, "removed left-over file %s", name);
	else if (st != LTG_NOT_FOUND)
		say(s, LTG_LOG_WARNING, "could not remove left-over file %s: %s", name, e.msg);
}

#define LEFTOVERS 32

typedef struct Leftovers
{
	uint32_t	n;
	char		name[LEFTOVERS][LTG_NAME_MAX];
} Leftovers;

static void
see_leftover(void *arg, const char *name)
{
	Leftovers  *lo = arg;
	uint64_t	number;
	bool		is_tmp;

	if (lo->n < LEFTOVERS && (ltg_parse_manifest_name(name, &number, &is_tmp) ||
							  ltg_parse_run_name(name, &number, &is_tmp)) && is_tmp)
		snprintf(lo->name[lo->n++], LTG_NAME_MAX, "%s", name);
}

static LtgStatus
clean_directory(Load *l)
{
	LtgSession *s = l->s;
	Leftovers	lo = {0};
	LtgError	e = {0};
	char		name[LTG_NAME_MAX];
	LtgStatus	st = s->port->dir_list(s->port, see_leftover, &lo, &e);

	if (st != LTG_OK)
		return ltg_port_failed(s, st, &e);
	for (uint32_t i = 0; i < lo.n; i++)
		remove_leftover(s, lo.name[i]);
	for (uint32_t i = l->n_numbers; i > 0 && l->number[i - 1] > l->manifest_file; i--)
		for (int copy = 0; copy < LTG_MANIFEST_COPIES; copy++)
		{
			ltg_manifest_copy_name(name, l->number[i - 1], copy, false);
			remove_leftover(s, name);
		}
	if (l->m.h.number == 0)
	{
		/* a crash before the first manifest, or the manifests were lost */
		if (l->n_files > 0)
			say(s, LTG_LOG_WARNING, "there are %u data files but no manifest; they are left alone",
				l->n_files);
		return LTG_OK;
	}
	for (uint32_t i = 0; i < l->n_files; i++)
	{
		if (l->file[i].id < l->m.h.next_file_id)
			continue;
		ltg_run_name(name, l->file[i].id);
		remove_leftover(s, name);
		l->file[i].present = false;
	}
	return LTG_OK;
}

/* ---- building ---- */

static bool
store_survives(const Load *l, const LtgManifestStore *ms, bool *with_runs)
{
	bool		logged = (ms->flags & (LTG_STORE_UNLOGGED | LTG_STORE_TEMP)) == 0;

	*with_runs = logged || !l->opt->reset_unlogged;
	if ((ms->flags & LTG_STORE_TEMP) != 0)
		return false;
	return ms->stamp <= l->m.h.durable; /* L1 */
}

/* META */
static LtgStatus
build_files(Load *l)
{
	LtgSession *s = l->s;
	LtgSharedFile *f;

	for (uint32_t i = 0; i < l->m.h.n_files; i++)
	{
		bool		whole;

		LTG_TRY(file_whole(l, &l->m.files[i], &whole));
		f = ltg_file_add(s, l->m.files[i].id, l->m.files[i].bytes);
		if (f == NULL)
			return ltg_fail(s, LTG_NOSHMEM, "out of shared metadata memory for files");
		f->missing = !whole;
		if (!whole)
			say(s, LTG_LOG_WARNING, "data file %016llx.run is missing or damaged; its rows cannot be read",
				(unsigned long long) f->id);
	}
	/* what it does not name */
	for (uint32_t i = 0; i < l->n_files && l->m.h.number != 0; i++)
	{
		if (!l->file[i].present || ltg_file_entry(s->shared, l->file[i].id) != NULL)
			continue;
		f = ltg_file_add(s, l->file[i].id, l->file[i].bytes);
		if (f == NULL)
			return ltg_fail(s, LTG_NOSHMEM, "out of shared metadata memory for files");
		ltg_file_set_obsolete(s, f, l->m.h.number);
	}
	return LTG_OK;
}

/* META */
static LtgStatus
build_runs(Load *l, LtgStore *store, const LtgManifestStore *ms)
{
	LtgSession *s = l->s;
	LtgRunSet  *rs;

	if (ms->n_runs == 0)
		return LTG_OK;
	rs = ltg_metadata_alloc(s, ltg_run_set_size(ms->n_runs), LTG_METADATA_URGENT);
	if (rs == NULL)
		return ltg_fail(s, LTG_NOSHMEM, "out of shared metadata memory for %u runs", ms->n_runs);
	rs->n = ms->n_runs;
	memcpy(rs->run, &l->m.runs[ms->first_run], ms->n_runs * sizeof(LtgRunRef));
	memset(&rs->merged, 0, sizeof(rs->merged));	/* that generation is no more */
	ltg_run_set_arrange(rs);
	for (uint32_t i = 0; i < rs->n; i++)
	{
		ltg_file_ref(s, &rs->run[i]);
		if (ltg_file_entry(s->shared, rs->run[i].file)->missing)
			atomic_fetch_or_explicit(&store->flags, LTG_STORE_DAMAGED, memory_order_relaxed);
		if (rs->run[i].age > l->max_age)
			l->max_age = rs->run[i].age;
	}
	atomic_store_explicit(&store->runs, rs, memory_order_release);
	return LTG_OK;
}

/* META */
static LtgStatus
build_stores(Load *l)
{
	LtgSession *s = l->s;
	LtgShared  *sh = s->shared;

	for (uint32_t i = 0; i < l->m.h.n_stores; i++)
	{
		const LtgManifestStore *ms = &l->m.stores[i];
		bool		with_runs;
		LtgStore   *st;

		if (!store_survives(l, ms, &with_runs))
		{
			ltg_meta_changed(s);
			continue;
		}
		if (ltg_store_lookup(sh, &ms->key) != NULL)
			return ltg_fail(s, LTG_CORRUPT, "manifest %016llx contains a store twice",
							(unsigned long long) l->m.h.number);
		st = ltg_store_alloc(s, LTG_METADATA_URGENT);
		if (st == NULL)
			return ltg_fail(s, LTG_NOSHMEM, "out of shared metadata memory for stores");
		ltg_store_link(s, st, ms->id, &ms->key, ms->stamp, ms->flags);
		atomic_store_explicit(&st->next_rowid, ms->next_rowid, memory_order_relaxed);
		atomic_store_explicit(&st->graves_cleared, ms->graves_cleared, memory_order_relaxed);
		atomic_store_explicit(&st->options, ms->options, memory_order_relaxed);
		if (with_runs)
			LTG_TRY(build_runs(l, st, ms));
		else if (ms->n_runs > 0)
			ltg_meta_changed(s);
	}
	for (uint32_t i = 0; i < l->m.h.n_merged; i++)
	{
		LtgStore   *st = ltg_store_by_id(s, l->m.merged[i].store_id);

		/* L1; what is not logged is not replayed, and may have been reset */
		if (st != NULL && (atomic_load(&st->flags) & (LTG_STORE_UNLOGGED | LTG_STORE_TEMP)) == 0)
			ltg_store_set_merged(st, &l->m.merged[i].merged);
	}
	for (uint32_t i = 0; i < l->m.h.n_drops; i++)
		LTG_TRY(ltg_store_add_tombstone(s, &l->m.drops[i].key, l->m.drops[i].stamp,
										l->m.drops[i].at));
	return LTG_OK;
}

/* META: forget everything again.  Nobody else uses the region yet. */
static void
unbuild(LtgSession *s)
{
	LtgShared  *sh = s->shared;

	for (uint32_t b = 0; b < sh->store_buckets; b++)
	{
		LtgStore   *st;

		while ((st = atomic_load(&sh->stores_by_id[b])) != NULL)
			ltg_store_unlink(s, st, 0);
	}
	ltg_stores_published(s, UINT64_MAX);
	for (LtgStore *st = sh->dropped_stores; st != NULL; st = st->free_next)
		st->dropped_at = 0;
	ltg_store_reclaim(s);
	for (uint32_t b = 0; b < sh->file_buckets; b++)
		while (sh->files_by_id[b] != NULL)
			ltg_file_forget(s, sh->files_by_id[b]);
	ltg_shreclaim(s, sh->alloc, sh->epochs);
	atomic_store(&sh->durable, 0);
	atomic_store(&sh->manifest, 0);
	sh->changes = sh->changes_published = 0;
	atomic_store(&sh->changed_at_us, 0);
}

static void
raise_to(_Atomic uint64_t *v, uint64_t least)
{
	if (atomic_load(v) < least)
		atomic_store(v, least);
}

/* META */
static LtgStatus
build(Load *l)
{
	LtgSession *s = l->s;
	LtgShared  *sh = s->shared;

	/* where there is nothing, nothing before min_durable is missing */
	atomic_store(&sh->durable, l->m.h.number != 0 ? l->m.h.durable : l->opt->min_durable);
	atomic_store(&sh->manifest, l->m.h.number);
	sh->manifest_file = l->manifest_file;
	sh->manifest_end = 0;		/* what was read must not be appended to (M2) */
	LTG_TRY(build_files(l));
	LTG_TRY(build_stores(l));
	for (uint32_t i = 0; i < l->m.h.n_files; i++)
	{
		LtgSharedFile *f = ltg_file_entry(sh, l->m.files[i].id);

		if (f->refs == 0)
			ltg_file_set_obsolete(s, f, l->m.h.number + 1);
	}
	raise_to(&sh->next_file_id, l->m.h.next_file_id);
	raise_to(&sh->next_file_id, l->max_file + 1);
	raise_to(&sh->next_unlogged_seq, l->m.h.next_unlogged_seq);
	if (sh->next_store_id < l->m.h.next_store_id)
		sh->next_store_id = l->m.h.next_store_id;
	if (sh->next_manifest < l->max_manifest + 1)
		sh->next_manifest = l->max_manifest + 1;
	ltg_generations_number_from(s, l->max_age + 1);
	sh->loaded = true;
	return LTG_OK;
}

static LtgStatus
load(Load *l)
{
	LtgSession *s = l->s;
	LtgStatus	st;
	bool		taken;

	LTG_TRY(list_directory(l));
	LTG_TRY(choose(l));
	LTG_STOP_POINT(s->port, "load:chosen");
	LTG_TRY(clean_directory(l));
	taken = ltg_meta_enter(s);
	st = build(l);
	if (st != LTG_OK)
		unbuild(s);
	ltg_meta_leave(s, taken);
	return st;
}

LtgStatus
ltg_load(LtgSession *s, const LtgLoadOptions *opt, LtgLoadInfo *info)
{
	Load		l = {.s = s,.opt = opt,.info = info};
	LtgStatus	st;

	memset(info, 0, sizeof(*info));
	if (s->shared->loaded)
		return ltg_fail(s, LTG_INVALID, "the region has been loaded before");
	s->port->lock(s->port, LTG_LOCK_MANIFEST, LTG_EXCLUSIVE);
	st = load(&l);
	s->port->unlock(s->port, LTG_LOCK_MANIFEST);
	if (st == LTG_OK)
	{
		info->durable = ltg_durable(s);
		info->manifest = l.m.h.number;
	}
	ltg_file_cache_close_all(s);
	ltg_manifest_free(s, &l.m);
	if (l.number != NULL)
		s->port->free(s->port, l.number);
	if (l.file != NULL)
		s->port->free(s->port, l.file);
	return st;
}

/* ---- unlogged stores ---- */

LtgStatus
ltg_reset_unlogged(LtgSession *s)
{
	LtgShared  *sh = s->shared;

	s->port->lock(s->port, LTG_LOCK_MANIFEST, LTG_EXCLUSIVE);
	(void) ltg_meta_enter(s);
	for (uint32_t b = 0; b < sh->store_buckets; b++)
	{
		LtgStore   *st = atomic_load(&sh->stores_by_id[b]),
				   *next;

		for (; st != NULL; st = next)
		{
			uint32_t	flags = atomic_load(&st->flags);

			next = atomic_load(&st->id_next);
			if ((flags & LTG_STORE_TEMP) != 0)
				ltg_store_unlink(s, st, 0);
			else if ((flags & LTG_STORE_UNLOGGED) != 0)
				ltg_store_empty(s, st);
		}
	}
	ltg_meta_leave(s, true);
	s->port->unlock(s->port, LTG_LOCK_MANIFEST);
	return LTG_OK;
}
