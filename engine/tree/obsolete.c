/*
 * obsolete.c
 *	  The table of data files, and the removal of those nobody needs.
 *
 * Invariants
 *	 O1. A file in use has refs = the number of run refs to it in the current
 *		 run sets, > 0, and obsolete_at = 0.  (A file whose publication is
 *		 under way has refs = 0 and obsolete_at = 0.)
 *	 O2. When the last reference goes, obsolete_at becomes a manifest number N
 *		 such that no manifest numbered N or higher names the file; it never
 *		 comes back into use.
 *	 O3. A file is removed when every manifest that is kept is numbered
 *		 obsolete_at or higher, and no session is in an epoch that began
 *		 before the last reference went.  Manifests go before the files they
 *		 name.
 *
 * The table is guarded by LTG_LOCK_META, which is not held over system calls:
 * an obsolete entry stays in the table until its file is gone, so removals may
 * fail, be repeated, and run twice at the same time.
 */
#include "tree/state.h"

#include "storage/file.h"
#include "tree/manifest.h"
#include "tree/publish.h"

/* ---- the table; META ---- */

static LtgSharedFile **
file_bucket(LtgShared *sh, LtgFileId id)
{
	return &sh->files_by_id[id & (sh->file_buckets - 1)];
}

LtgSharedFile *
ltg_file_entry(LtgShared *sh, LtgFileId id)
{
	LtgSharedFile *f = *file_bucket(sh, id);

	while (f != NULL && f->id != id)
		f = f->next;
	return f;
}

LtgSharedFile *
ltg_file_add(LtgSession *s, LtgFileId id, uint64_t bytes)
{
	LtgShared  *sh = s->shared;
	LtgSharedFile **b = file_bucket(sh, id);
	LtgSharedFile *f;

	LTG_ASSERT(id != 0 && ltg_file_entry(sh, id) == NULL);
	f = ltg_metadata_alloc(s, sizeof(LtgSharedFile), LTG_METADATA_URGENT);
	if (f == NULL)
		return NULL;
	memset(f, 0, sizeof(*f));
	f->id = id;
	f->bytes = bytes;
	f->next = *b;
	*b = f;
	sh->n_files++;
	sh->file_bytes += bytes;
	return f;
}

void
ltg_file_ref(LtgSession *s, LtgFileId id)
{
	LtgSharedFile *f = ltg_file_entry(s->shared, id);

	LTG_ASSERT(f != NULL && f->obsolete_at == 0);
	f->refs++;
}

void
ltg_file_set_obsolete(LtgSession *s, LtgSharedFile *f)
{
	LTG_ASSERT(f->refs == 0 && f->obsolete_at == 0);
	/* without references, no later manifest will name it */
	f->obsolete_at = f->named_in + 1;
	f->epoch_stamp = ltg_epoch_stamp(s->shared->epochs);
	s->shared->n_obsolete++;
	s->shared->obsolete_bytes += f->bytes;
}

void
ltg_file_unref(LtgSession *s, LtgFileId id)
{
	LtgSharedFile *f = ltg_file_entry(s->shared, id);

	LTG_ASSERT(f != NULL && f->refs > 0);
	if (--f->refs == 0)
		ltg_file_set_obsolete(s, f);
}

void
ltg_file_forget(LtgSession *s, LtgSharedFile *f)
{
	LtgShared  *sh = s->shared;
	LtgSharedFile **at = file_bucket(sh, f->id);

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	sh->n_files--;
	sh->file_bytes -= f->bytes;
	if (f->obsolete_at != 0)
	{
		sh->n_obsolete--;
		sh->obsolete_bytes -= f->bytes;
	}
	ltg_shfree(s, sh->alloc, f);
}

void
ltg_obsolete(LtgSession *s, LtgObsolete *o)
{
	LtgShared  *sh = s->shared;
	bool		taken = ltg_meta_enter(s);

	o->manifest = atomic_load_explicit(&sh->manifest, memory_order_relaxed);
	o->files = sh->n_obsolete;
	o->bytes = sh->obsolete_bytes;
	ltg_meta_leave(s, taken);
}

/* ---- removal ---- */

/*
 * The first of the rising numbers that is kept: the oldest with D >= redo, or
 * else the newest.  D rises with the number.  A header that can't be read says
 * nothing: it counts as too old, but never beyond the current manifest.
 */
static LtgStatus
first_kept(LtgSession *s, const uint64_t *number, uint32_t n, LtgSeq redo, uint32_t *first)
{
	uint32_t	lo = 0,
				hi = n - 1;		/* the answer is in lo..hi */

	while (lo < hi)
	{
		uint32_t	mid = lo + (hi - lo) / 2;
		LtgManifestHeader h = {0};
		LtgStatus	st = ltg_manifest_read_header(s, number[mid], &h);

		if (st == LTG_CORRUPT)
			ltg_clear_error(s);
		else if (st != LTG_OK && st != LTG_NOT_FOUND)
			return st;
		if (st == LTG_OK && h.durable >= redo)
			hi = mid;
		else
			lo = mid + 1;
	}
	*first = lo;
	return LTG_OK;
}

static LtgStatus
remove_manifests(LtgSession *s, const uint64_t *number, uint32_t n)
{
	LtgPort    *port = s->port;
	LtgError	e = {0};
	char		name[LTG_NAME_MAX];

	for (uint32_t i = 0; i < n; i++)
	{
		LtgStatus	st;

		ltg_manifest_name(name, number[i]);
		st = port->file_remove(port, name, &e);
		if (st != LTG_OK && st != LTG_NOT_FOUND)
			return ltg_port_failed(s, st, &e);
	}
	/* a manifest must not come back after a crash when its files do not */
	if (n > 0)
	{
		LtgStatus	st = port->dir_sync(port, &e);

		if (st != LTG_OK)
			return ltg_port_failed(s, st, &e);
	}
	return LTG_OK;
}

#define BATCH 64

/* META inside: up to BATCH files that may go, with ids above `after`. */
static uint32_t
pick_files(LtgSession *s, uint64_t oldest_kept, LtgFileId *id)
{
	LtgShared  *sh = s->shared;
	uint32_t	n = 0;
	bool		taken = ltg_meta_enter(s);

	for (uint32_t b = 0; sh->n_obsolete > 0 && b < sh->file_buckets && n < BATCH; b++)
		for (LtgSharedFile *f = sh->files_by_id[b]; f != NULL && n < BATCH; f = f->next)
			if (f->obsolete_at != 0 && f->obsolete_at <= oldest_kept &&
				ltg_epoch_passed(sh->epochs, f->epoch_stamp))
			{
				LTG_ASSERT(f->refs == 0);
				LTG_ASSERT(f->named_in < oldest_kept);
				id[n++] = f->id;
			}
	ltg_meta_leave(s, taken);
	return n;
}

static LtgStatus
remove_file(LtgSession *s, LtgFileId id)
{
	LtgPort    *port = s->port;
	LtgShared  *sh = s->shared;
	LtgError	e = {0};
	LtgSharedFile *f;
	LtgStatus	st;
	char		name[LTG_NAME_MAX];
	bool		taken;

	ltg_run_name(name, id);
	st = port->file_remove(port, name, &e);
	if (st != LTG_OK && st != LTG_NOT_FOUND)
		return ltg_port_failed(s, st, &e);
	ltg_cache_drop_file(s, sh->cache, id);
	taken = ltg_meta_enter(s);
	f = ltg_file_entry(sh, id);
	if (f != NULL)
		ltg_file_forget(s, f);
	ltg_meta_leave(s, taken);
	return LTG_OK;
}

static LtgStatus
remove_files(LtgSession *s, uint64_t oldest_kept, bool all, uint32_t *removed)
{
	LtgFileId	id[BATCH];
	LtgStatus	st = LTG_OK;
	uint32_t	n;

	do
	{
		uint32_t	before = *removed;

		n = pick_files(s, oldest_kept, id);
		for (uint32_t i = 0; st == LTG_OK && i < n; i++)
		{
			st = remove_file(s, id[i]);
			if (st == LTG_OK)
				(*removed)++;
		}
		/* sessions close what they have open of them */
		if (*removed > before)
			atomic_fetch_add_explicit(&s->shared->files_removed, 1, memory_order_release);
		if (all && st == LTG_OK && n == BATCH && s->port->interrupted(s->port))
			st = ltg_fail(s, LTG_INTERRUPTED, "removal of obsolete files was interrupted");
	} while (all && st == LTG_OK && n == BATCH);
	return st;
}

/*
 * Up to manifest `newest`, which stays, as do its files and whatever came later:
 * of the manifests before it those go that the first one with D >= redo follows.
 */
static LtgStatus
remove_obsolete(LtgSession *s, uint64_t newest, LtgSeq redo, bool all, uint32_t *removed)
{
	LtgShared  *sh = s->shared;
	uint64_t   *number = NULL;
	uint32_t	n = 0,
				first = 0;
	LtgStatus	st;

	LTG_ASSERT(s->epoch_depth == 0);
	*removed = 0;
	LTG_TRY(ltg_manifest_list(s, &number, &n));
	/* one above the current one is being written, or failed to be removed */
	while (n > 0 && number[n - 1] > newest)
		n--;
	if (n > 0 && number[n - 1] == newest)
	{
		st = first_kept(s, number, n, redo, &first);
		LTG_STOP_POINT(s->port, "obsolete:before-remove");
		if (st == LTG_OK)
			st = remove_manifests(s, number, first);
		if (st == LTG_OK)
			st = remove_files(s, number[first], all, removed);
	}
	else if (newest == 0 || atomic_load_explicit(&sh->manifest, memory_order_acquire) != newest)
		st = LTG_OK;			/* replaced meanwhile, and removed by somebody else */
	else
	{
		char		name[LTG_NAME_MAX];

		ltg_manifest_name(name, newest);
		st = ltg_fail(s, LTG_CORRUPT, "the current manifest %s is not in the directory", name);
	}
	if (number != NULL)
		s->port->free(s->port, number);
	return st;
}

LtgStatus
ltg_remove_obsolete(LtgSession *s, LtgSeq redo, uint32_t *removed)
{
	return remove_obsolete(s, atomic_load_explicit(&s->shared->manifest, memory_order_acquire),
						   redo, true, removed);
}

LtgStatus
ltg_remove_before(LtgSession *s, uint64_t manifest, uint32_t *removed)
{
	return remove_obsolete(s, manifest, UINT64_MAX, false, removed);
}
