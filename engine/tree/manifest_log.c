/*
 * manifest_log.c
 *	  Files of manifests: writing and reading both copies, and what a checkpoint
 *	  and the edits after it say together.
 *
 * Invariants
 *	 M1. What was acknowledged is in both copies, synced.  So the one that has more sound
 *		 edits has all of them, whatever became of the other.
 *	 M2. An edit is appended only to a file that this server has begun, and to
 *		 none in which one may have failed.  So what follows the first edit that is
 *		 not sound was never acknowledged, unless something in it is sound: that is
 *		 damage.  And no file goes on with what another server wrote.
 *	 M3. Numbers rise in a file, and from each file to the next.
 *	 M4. A file only grows, so a copy that was made of it meanwhile holds a manifest that was
 *		 the newest at some moment, or it names data files that came after the
 *		 list of what to copy was made.  Then load.c goes back (ltg_manifest_read_upto).
 */
#include "tree/manifest.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/coding.h"
#include "storage/file.h"
#include "tree/state.h"

/* ---- writing ---- */

/* Write at this place, and sync. */
static LtgStatus
write_copy(LtgSession *s, const char *name, LtgOpenMode mode, const uint8_t *buf, size_t len,
		   uint64_t offset)
{
	LtgPort    *port = s->port;
	LtgError	e = {0};
	LtgFile    *file = NULL;
	LtgStatus	st = port->file_open(port, name, mode, &file, &e);

	if (st == LTG_NOT_FOUND)
		return ltg_fail(s, LTG_IO, "manifest %s is missing", name);
	if (st != LTG_OK)
		return ltg_port_failed(s, st, &e);
	st = port->file_write(port, file, buf, len, offset, &e);
	if (st == LTG_OK)
		st = port->file_sync(port, file, &e);
	port->file_close(port, file);
	if (st == LTG_OK)
		atomic_fetch_add_explicit(&s->shared->count.manifest_bytes, len, memory_order_relaxed);
	return st == LTG_OK ? st : ltg_port_failed(s, st, &e);
}

/*
 * Until the renames the files have temporary names; after them, a failure must
 * take the final ones away again: the caller goes on as if this manifest had
 * never been, and will remove files that it names.
 */
static LtgStatus
write_checkpoint(LtgSession *s, uint64_t number, const uint8_t *buf, size_t len)
{
	LtgPort    *port = s->port;
	LtgError	e = {0};
	char		tmp[LTG_NAME_MAX],
				name[LTG_NAME_MAX];
	LtgStatus	st = LTG_OK;

	for (int i = 0; st == LTG_OK && i < LTG_MANIFEST_COPIES; i++)
	{
		ltg_manifest_copy_name(tmp, number, i, true);
		st = write_copy(s, tmp, LTG_OPEN_CREATE, buf, len, 0);
	}
	LTG_STOP_POINT(port, "manifest:before-rename");
	for (int i = 0; st == LTG_OK && i < LTG_MANIFEST_COPIES; i++)
	{
		ltg_manifest_copy_name(tmp, number, i, true);
		ltg_manifest_copy_name(name, number, i, false);
		st = port->file_rename(port, tmp, name, &e);
		if (st == LTG_OK && i == LTG_MANIFEST_COPIES - 1)
			st = port->dir_sync(port, &e);
		if (st != LTG_OK)
			(void) ltg_port_failed(s, st, &e);
	}
	for (int i = 0; st != LTG_OK && i < LTG_MANIFEST_COPIES; i++)
		for (int j = 0; j < 2; j++)
		{
			LtgError	ignored = {0};
			LtgStatus	gone;

			ltg_manifest_copy_name(name, number, i, j == 1);
			gone = port->file_remove(port, name, &ignored);
			if (gone != LTG_OK && gone != LTG_NOT_FOUND)
				port->log(port, LTG_LOG_WARNING, "could not remove an unpublished manifest");
		}
	return st;
}

LtgStatus
ltg_manifest_write(LtgSession *s, LtgManifest *m)
{
	uint8_t    *buf;
	size_t		len;
	LtgStatus	st;

	m->h.edit = false;
	LTG_TRY(ltg_manifest_encode(s, m, &buf, &len));
	st = write_checkpoint(s, m->h.number, buf, len);
	s->port->free(s->port, buf);
	return st;
}

LtgStatus
ltg_manifest_append(LtgSession *s, uint64_t number, uint64_t offset, LtgManifest *m)
{
	uint8_t    *buf;
	size_t		len;
	LtgStatus	st = LTG_OK;

	m->h.edit = true;
	LTG_TRY(ltg_manifest_encode(s, m, &buf, &len));
	for (int i = 0; st == LTG_OK && i < LTG_MANIFEST_COPIES; i++)
	{
		char		name[LTG_NAME_MAX];

		ltg_manifest_copy_name(name, number, i, false);
		st = write_copy(s, name, LTG_OPEN_WRITE, buf, len, offset);
		LTG_STOP_POINT(s->port, "manifest:appended");
	}
	s->port->free(s->port, buf);
	return st;
}

LtgStatus
ltg_manifest_remove(LtgSession *s, uint64_t number)
{
	for (int i = 0; i < LTG_MANIFEST_COPIES; i++)
	{
		LtgError	e = {0};
		char		name[LTG_NAME_MAX];
		LtgStatus	st;

		ltg_manifest_copy_name(name, number, i, false);
		st = s->port->file_remove(s->port, name, &e);
		if (st != LTG_OK && st != LTG_NOT_FOUND)
			return ltg_port_failed(s, st, &e);
	}
	return LTG_OK;
}

/* ---- reading ---- */

typedef struct Log				/* one copy: a checkpoint and its edits */
{
	LtgManifest *part;
	uint32_t	n, cap;
	bool		damaged;		/* sound edits follow after what is not */
} Log;

static void
free_log(LtgSession *s, Log *l)
{
	for (uint32_t i = 0; i < l->n; i++)
		ltg_manifest_free(s, &l->part[i]);
	if (l->part != NULL)
		s->port->free(s->port, l->part);
	memset(l, 0, sizeof(*l));
}

static uint64_t
last_number(const Log *l)
{
	return l->n == 0 ? 0 : l->part[l->n - 1].h.number;
}

static LtgStatus
read_file(LtgSession *s, const char *name, uint8_t **buf, size_t *len)
{
	LtgPort    *port = s->port;
	LtgError	e = {0};
	LtgFile    *file = NULL;
	uint64_t	size = 0;
	LtgStatus	st;

	*buf = NULL;
	st = port->file_open(port, name, LTG_OPEN_READ, &file, &e);
	if (st == LTG_NOT_FOUND)
		return st;
	if (st != LTG_OK)
		return ltg_port_failed(s, st, &e);
	st = port->file_size(port, file, &size, &e);
	if (st == LTG_OK)
	{
		*buf = port->alloc(port, (size_t) size + 1);
		if (*buf == NULL)
			st = ltg_fail(s, LTG_NOMEM, "out of memory for a manifest of %llu bytes",
						  (unsigned long long) size);
	}
	if (st == LTG_OK)
		st = port->file_read(port, file, *buf, (size_t) size, 0, len, &e);
	port->file_close(port, file);
	if (st != LTG_OK)
	{
		if (*buf != NULL)
			port->free(port, *buf);
		*buf = NULL;
		return st == LTG_NOMEM ? st : ltg_port_failed(s, st, &e);
	}
	return LTG_OK;
}

static LtgStatus
add_part(LtgSession *s, Log *l, LtgManifest *m)
{
	if (l->n == l->cap)
	{
		uint32_t	cap = l->cap == 0 ? 16 : l->cap * 2;
		void	   *p = l->part == NULL ? s->port->alloc(s->port, cap * sizeof(*l->part)) :
			s->port->realloc(s->port, l->part, cap * sizeof(*l->part));

		if (p == NULL)
		{
			ltg_manifest_free(s, m);
			return ltg_fail(s, LTG_NOMEM, "out of memory for a manifest");
		}
		l->part = p;
		l->cap = cap;
	}
	l->part[l->n++] = *m;
	return LTG_OK;
}

/* Is there a sound edit that comes later? */
static LtgStatus
look_for_more(LtgSession *s, Log *l, const uint8_t *buf, size_t len)
{
	for (size_t at = 1; !l->damaged && at + LTG_MANIFEST_HEADER < len; at++)
	{
		LtgManifest m = {0};
		LtgStatus	st;

		if (memcmp(buf + at, "LTGEDIT1", 8) != 0)
			continue;
		st = ltg_edit_decode(s, buf + at, len - at, last_number(l), &m);
		ltg_manifest_free(s, &m);
		if (st == LTG_NOMEM)
			return st;
		l->damaged = st == LTG_OK;
		ltg_clear_error(s);
	}
	return LTG_OK;
}

static LtgStatus
decode_log(LtgSession *s, uint64_t number, const uint8_t *buf, size_t len, Log *l)
{
	LtgManifest m = {0};
	size_t		at;
	LtgStatus	st;

	LTG_TRY(ltg_manifest_decode(s, buf, len, number, &m));
	LTG_TRY(add_part(s, l, &m));
	for (at = (size_t) l->part[0].h.bytes; at < len; at += (size_t) l->part[l->n - 1].h.bytes)
	{
		memset(&m, 0, sizeof(m));
		st = ltg_edit_decode(s, buf + at, len - at, last_number(l), &m);
		if (st == LTG_CORRUPT)
		{
			ltg_clear_error(s);
			return look_for_more(s, l, buf + at, len - at);
		}
		LTG_TRY(st);
		LTG_TRY(add_part(s, l, &m));
	}
	return LTG_OK;
}

static LtgStatus
read_copy(LtgSession *s, uint64_t number, int copy, Log *l)
{
	char		name[LTG_NAME_MAX];
	uint8_t    *buf;
	size_t		len = 0;
	LtgStatus	st;

	ltg_manifest_copy_name(name, number, copy, false);
	LTG_TRY(read_file(s, name, &buf, &len));
	st = decode_log(s, number, buf, len, l);
	s->port->free(s->port, buf);
	if (st == LTG_CORRUPT && copy > 0)
		snprintf(s->err.file, sizeof(s->err.file), "%s", name);
	if (st != LTG_OK)
		free_log(s, l);
	return st;
}

/*
 * The copy that has more (M1).  One that can't be read is not missed if the other
 * can be, unless for want of memory, or because a newer version wrote it.
 */
static LtgStatus
read_log(LtgSession *s, uint64_t number, Log *l)
{
	Log			copy[LTG_MANIFEST_COPIES] = {0};
	LtgStatus	st[LTG_MANIFEST_COPIES];
	LtgError	first = {0};
	LtgStatus	result;
	int			best = 0;

	for (int i = 0; i < LTG_MANIFEST_COPIES; i++)
	{
		st[i] = read_copy(s, number, i, &copy[i]);
		if (i == 0)
			first = s->err;
		if (st[i] == LTG_NOMEM || st[i] == LTG_VERSION || copy[i].n > copy[best].n)
			best = i;
		if (st[i] == LTG_NOMEM || st[i] == LTG_VERSION)
			break;
		if (i == 0)
			ltg_clear_error(s);
		/* older versions wrote one */
		if (st[i] == LTG_OK && copy[i].part[0].h.version < 5)
			break;
	}
	result = st[best];
	if (result == LTG_NOT_FOUND && st[1] != LTG_NOT_FOUND)
		result = st[1];
	else if (result != LTG_OK && best == 0)
		s->err = first;
	if (result == LTG_OK)
	{
		char		name[LTG_NAME_MAX],
					msg[160];

		ltg_clear_error(s);
		ltg_manifest_copy_name(name, number, 1 - best, false);
		snprintf(msg, sizeof(msg), "manifest %s is missing, damaged or not complete; its other copy is used", name);
		if (copy[best].part[0].h.version >= 5 && copy[1 - best].n < copy[best].n)
			s->port->log(s->port, LTG_LOG_WARNING, msg);
		*l = copy[best];
		memset(&copy[best], 0, sizeof(Log));
	}
	for (int i = 0; i < LTG_MANIFEST_COPIES; i++)
		free_log(s, &copy[i]);
	if (result == LTG_OK && l->damaged)
	{
		free_log(s, l);
		result = ltg_manifest_failed(s, number, LTG_CORRUPT,
									 "an edit is damaged in both copies of the manifest");
	}
	return result;
}

/* ---- what they say together ---- */

typedef struct StoreEvent
{
	const LtgManifestStore *store;	/* NULL: it went */
	LtgStoreKey key;
	uint32_t	order;
} StoreEvent;

typedef struct RunEvent
{
	const LtgRunRef *ref;		/* NULL: it went */
	LtgManifestRemoved at;
	uint32_t	order;
} RunEvent;

typedef struct Fold
{
	const Log  *log;
	uint32_t	parts;			/* of the log that count */
	StoreEvent *store;
	RunEvent   *run;
	uint32_t	n_stores, n_runs;
	LtgManifest *m;
} Fold;

static int
compare64(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int
compare_keys(const LtgStoreKey *a, const LtgStoreKey *b)
{
	int			c = compare64(a->space, b->space);

	c = c != 0 ? c : compare64(a->database, b->database);
	c = c != 0 ? c : compare64(a->relation, b->relation);
	return c != 0 ? c : (a->backend > b->backend) - (a->backend < b->backend);
}

static int
compare_stores(const void *pa, const void *pb)
{
	const StoreEvent *a = pa,
			   *b = pb;
	int			c = compare_keys(&a->key, &b->key);

	return c != 0 ? c : compare64(a->order, b->order);
}

static int
compare_places(const RunEvent *a, const RunEvent *b)
{
	int			c = compare64(a->at.store_id, b->at.store_id);

	c = c != 0 ? c : compare64(a->at.file, b->at.file);
	return c != 0 ? c : compare64(a->at.root_offset, b->at.root_offset);
}

static int
compare_runs(const void *pa, const void *pb)
{
	int			c = compare_places(pa, pb);

	return c != 0 ? c : compare64(((const RunEvent *) pa)->order, ((const RunEvent *) pb)->order);
}

/* Within an edit, what goes goes first. */
static void
collect(Fold *f)
{
	for (uint32_t i = 0; i < f->parts; i++)
	{
		const LtgManifest *p = &f->log->part[i];

		for (uint32_t j = 0; j < p->h.n_drops; j++)
			f->store[f->n_stores++] = (StoreEvent) {NULL, p->drops[j].key, 2 * i};
		for (uint32_t j = 0; j < p->h.n_removed; j++)
			f->run[f->n_runs++] = (RunEvent) {NULL, p->removed[j], 2 * i};
		for (uint32_t j = 0; j < p->h.n_stores; j++)
		{
			const LtgManifestStore *st = &p->stores[j];

			f->store[f->n_stores++] = (StoreEvent) {st, st->key, 2 * i + 1};
			for (uint32_t k = 0; k < st->n_runs; k++)
			{
				const LtgRunRef *ref = &p->runs[st->first_run + k];

				f->run[f->n_runs++] = (RunEvent) {ref, {st->id, ref->file, ref->root_offset}, 2 * i + 1};
			}
		}
	}
	if (f->n_stores > 1)
		qsort(f->store, f->n_stores, sizeof(*f->store), compare_stores);
	if (f->n_runs > 1)
		qsort(f->run, f->n_runs, sizeof(*f->run), compare_runs);
}

static LtgStatus
fold_stores(LtgSession *s, Fold *f)
{
	for (uint32_t i = 0; i < f->n_stores; i++)
	{
		const LtgManifestStore *st = f->store[i].store;
		uint32_t	lo = 0,
					hi = f->n_runs;

		if (st == NULL || (i + 1 < f->n_stores && compare_keys(&f->store[i].key, &f->store[i + 1].key) == 0))
			continue;
		LTG_TRY(ltg_manifest_add_store(s, f->m, st));
		while (lo < hi)
		{
			uint32_t	mid = lo + (hi - lo) / 2;

			if (f->run[mid].at.store_id < st->id)
				lo = mid + 1;
			else
				hi = mid;
		}
		for (; lo < f->n_runs && f->run[lo].at.store_id == st->id; lo++)
			if (f->run[lo].ref != NULL &&
				(lo + 1 == f->n_runs || compare_places(&f->run[lo], &f->run[lo + 1]) != 0))
				LTG_TRY(ltg_manifest_add_run(s, f->m, f->run[lo].ref));
	}
	return LTG_OK;
}

static int
compare_files(const void *a, const void *b)
{
	return compare64(((const LtgManifestFile *) a)->id, ((const LtgManifestFile *) b)->id);
}

/* Those that have runs. */
static LtgStatus
fold_files(LtgSession *s, Fold *f)
{
	LtgManifest *m = f->m;
	uint64_t   *id = s->port->alloc(s->port, ((size_t) m->h.n_runs + 1) * sizeof(*id));
	uint32_t	n = 0;

	if (id == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a manifest");
	for (uint32_t i = 0; i < m->h.n_runs; i++)
		id[i] = m->runs[i].file;
	if (m->h.n_runs > 1)
		qsort(id, m->h.n_runs, sizeof(*id), compare_files);
	for (uint32_t i = 0; i < f->parts; i++)
	{
		const LtgManifest *p = &f->log->part[i];

		for (uint32_t j = 0; j < p->h.n_files; j++)
		{
			LtgStatus	st = m->h.n_runs == 0 ||
				bsearch(&p->files[j].id, id, m->h.n_runs, sizeof(*id), compare_files) == NULL ?
				LTG_OK : ltg_manifest_add_file(s, m, p->files[j].id, p->files[j].bytes);

			if (st != LTG_OK)
			{
				s->port->free(s->port, id);
				return st;
			}
			if (m->h.n_files > n)
				m->files[n++].added = p->h.number;
		}
	}
	s->port->free(s->port, id);
	return LTG_OK;
}

/* What is forgotten when D has passed. */
static LtgStatus
fold_others(LtgSession *s, Fold *f, LtgSeq durable)
{
	for (uint32_t i = f->parts; i > 0; i--)
	{
		const LtgManifest *p = &f->log->part[i - 1];

		for (uint32_t j = 0; j < p->h.n_drops; j++)
			if (p->drops[j].at > durable)
				LTG_TRY(ltg_manifest_add_drop(s, f->m, &p->drops[j]));
		for (uint32_t j = 0; j < p->h.n_merged; j++)
		{
			bool		newer = false;

			for (uint32_t k = 0; k < f->m->h.n_merged; k++)
				newer = newer || f->m->merged[k].store_id == p->merged[j].store_id;
			if (!newer && p->merged[j].merged.upto > durable)
				LTG_TRY(ltg_manifest_add_merged(s, f->m, &p->merged[j]));
		}
	}
	return LTG_OK;
}

static LtgStatus
fold(LtgSession *s, Log *log, uint32_t parts, LtgManifest *m)
{
	Fold		f = {.log = log,.parts = parts,.m = m};
	LtgManifestHeader h = log->part[parts - 1].h;
	size_t		stores = 1,
				runs = 1;
	LtgStatus	st = LTG_OK;

	for (uint32_t i = 0; i < parts; i++)
	{
		stores += log->part[i].h.n_stores + log->part[i].h.n_drops;
		runs += log->part[i].h.n_runs + log->part[i].h.n_removed;
	}
	f.store = s->port->alloc(s->port, stores * sizeof(*f.store));
	f.run = s->port->alloc(s->port, runs * sizeof(*f.run));
	if (f.store == NULL || f.run == NULL)
		st = ltg_fail(s, LTG_NOMEM, "out of memory for a manifest");
	if (st == LTG_OK)
	{
		collect(&f);
		st = fold_stores(s, &f);
	}
	if (st == LTG_OK)
		st = fold_files(s, &f);
	if (st == LTG_OK)
		st = fold_others(s, &f, h.durable);
	if (f.store != NULL)
		s->port->free(s->port, f.store);
	if (f.run != NULL)
		s->port->free(s->port, f.run);
	h.edit = false;
	h.n_files = m->h.n_files;
	h.n_stores = m->h.n_stores;
	h.n_runs = m->h.n_runs;
	h.n_drops = m->h.n_drops;
	h.n_merged = m->h.n_merged;
	h.n_removed = 0;
	m->h = h;
	if (st == LTG_OK && !ltg_manifest_consistent(m))
		st = ltg_manifest_failed(s, log->part[0].h.number, LTG_CORRUPT,
								 "the manifest's edits refer to what it does not contain");
	if (st != LTG_OK)
		ltg_manifest_free(s, m);
	return st;
}

LtgStatus
ltg_manifest_read_upto(LtgSession *s, uint64_t number, uint64_t limit, LtgManifest *m, uint64_t *last)
{
	Log			log = {0};
	uint32_t	parts = 1;
	LtgStatus	st;

	LTG_TRY(read_log(s, number, &log));
	*last = last_number(&log);
	while (parts < log.n && log.part[parts].h.number <= limit)
		parts++;
	if (parts > 1)
		st = fold(s, &log, parts, m);
	else
	{
		*m = log.part[0];
		memset(&log.part[0], 0, sizeof(*m));
		st = LTG_OK;
	}
	free_log(s, &log);
	return st;
}

LtgStatus
ltg_manifest_read(LtgSession *s, uint64_t number, LtgManifest *m)
{
	uint64_t	last;

	return ltg_manifest_read_upto(s, number, UINT64_MAX, m, &last);
}
/* ---- which there are ---- */

typedef struct NumberList
{
	LtgPort    *port;
	uint64_t   *number;
	uint32_t	n, cap;
	bool		nomem;
} NumberList;

static void
collect_number(void *arg, const char *name)
{
	NumberList *l = arg;
	uint64_t	number;
	bool		is_tmp;

	if (l->nomem || !ltg_parse_manifest_name(name, &number, &is_tmp) || is_tmp)
		return;
	if (l->n == l->cap)
	{
		uint32_t	cap = l->cap == 0 ? 32 : l->cap * 2;
		void	   *p = l->number == NULL ? l->port->alloc(l->port, cap * sizeof(uint64_t)) :
			l->port->realloc(l->port, l->number, cap * sizeof(uint64_t));

		if (p == NULL)
		{
			l->nomem = true;
			return;
		}
		l->number = p;
		l->cap = cap;
	}
	l->number[l->n++] = number;
}

static int
compare_number(const void *a, const void *b)
{
	uint64_t	x = *(const uint64_t *) a,
				y = *(const uint64_t *) b;

	return (x > y) - (x < y);
}

LtgStatus
ltg_manifest_list(LtgSession *s, uint64_t **numbers, uint32_t *n)
{
	NumberList	l = {.port = s->port};
	LtgError	e = {0};
	LtgStatus	st = s->port->dir_list(s->port, collect_number, &l, &e);

	if (st != LTG_OK)
		st = ltg_port_failed(s, st, &e);
	else if (l.nomem)
		st = ltg_fail(s, LTG_NOMEM, "out of memory for the list of manifests");
	if (st != LTG_OK)
	{
		if (l.number != NULL)
			s->port->free(s->port, l.number);
		return st;
	}
	if (l.n > 1)
		qsort(l.number, l.n, sizeof(uint64_t), compare_number);
	*numbers = l.number;
	*n = 0;
	for (uint32_t i = 0; i < l.n; i++)	/* each has two copies */
		if (*n == 0 || l.number[i] != l.number[*n - 1])
			l.number[(*n)++] = l.number[i];
	return LTG_OK;
}
