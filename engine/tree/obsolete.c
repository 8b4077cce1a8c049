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
 *	 O3. A file is removed when manifest obsolete_at, or a later one, is
 *		 durable, and no session is in an epoch that began before the last
 *		 reference went.  Files of older manifests go first.
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
ltg_file_ref(LtgSession *s, const LtgRunRef *run)
{
	LtgSharedFile *f = ltg_file_entry(s->shared, run->file);

	LTG_ASSERT(f != NULL && f->obsolete_at == 0);
	f->refs++;
	if (run->min_xid != 0 && (f->min_xid == 0 || run->min_xid < f->min_xid))
		f->min_xid = run->min_xid;
}

void
ltg_file_set_obsolete(LtgSession *s, LtgSharedFile *f, uint64_t from)
{
	LTG_ASSERT(f->refs == 0 && f->obsolete_at == 0);
	f->obsolete_at = from;
	f->epoch_stamp = ltg_epoch_stamp(s->shared->epochs);
	s->shared->n_obsolete++;
	s->shared->obsolete_bytes += f->bytes;
}

void
ltg_file_unref(LtgSession *s, LtgFileId id, uint64_t from)
{
	LtgSharedFile *f = ltg_file_entry(s->shared, id);

	LTG_ASSERT(f != NULL && f->refs > 0);
	if (--f->refs == 0)
		ltg_file_set_obsolete(s, f, from);
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

LtgXid
ltg_oldest_xid(LtgSession *s, bool obsolete)
{
	LtgShared  *sh = s->shared;
	LtgXid		oldest = 0;
	bool		taken = ltg_meta_enter(s);

	for (uint32_t b = 0; b < sh->file_buckets && (!obsolete || sh->n_obsolete > 0); b++)
		for (LtgSharedFile *f = sh->files_by_id[b]; f != NULL; f = f->next)
			if (f->min_xid != 0 && (oldest == 0 || f->min_xid < oldest) &&
				(!obsolete || f->obsolete_at != 0))
				oldest = f->min_xid;
	ltg_meta_leave(s, taken);
	return oldest;
}

/* ---- removal ---- */

static LtgStatus
remove_manifests(LtgSession *s, const uint64_t *number, uint32_t n)
{
	LtgPort    *port = s->port;
	LtgError	e = {0};

	for (uint32_t i = 0; i < n; i++)
		LTG_TRY(ltg_manifest_remove(s, number[i]));
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
pick_files(LtgSession *s, uint64_t newest, LtgFileId *id)
{
	LtgShared  *sh = s->shared;
	uint32_t	n = 0;
	bool		taken = ltg_meta_enter(s);

	for (uint32_t b = 0; sh->n_obsolete > 0 && b < sh->file_buckets && n < BATCH; b++)
		for (LtgSharedFile *f = sh->files_by_id[b]; f != NULL && n < BATCH; f = f->next)
			if (f->obsolete_at != 0 && f->obsolete_at <= newest &&
				ltg_epoch_passed(sh->epochs, f->epoch_stamp))
			{
				LTG_ASSERT(f->refs == 0);
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
remove_files(LtgSession *s, uint64_t newest, bool all, uint32_t *removed)
{
	LtgFileId	id[BATCH];
	LtgStatus	st = LTG_OK;
	uint32_t	n;

	do
	{
		uint32_t	before = *removed;

		n = pick_files(s, newest, id);
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
 * Up to manifest `newest`, which stays, as do its files and whatever came later.
 * It is in the file with the greatest number that is not above its own.
 */
static LtgStatus
remove_obsolete(LtgSession *s, uint64_t newest, bool all, uint32_t *removed)
{
	uint64_t   *number = NULL;
	uint32_t	n = 0;
	LtgStatus	st;

	LTG_ASSERT(s->epoch_depth == 0);
	*removed = 0;
	LTG_TRY(ltg_manifest_list(s, &number, &n));
	/* one above is newer, or is being written, or failed to be removed */
	while (n > 0 && number[n - 1] > newest)
		n--;
	LTG_STOP_POINT(s->port, "obsolete:before-remove");
	if (n > 0)
	{
		st = remove_manifests(s, number, n - 1);
		if (st == LTG_OK)
			st = remove_files(s, newest, all, removed);
	}
	else if (newest == 0 || atomic_load_explicit(&s->shared->manifest, memory_order_acquire) != newest)
		st = LTG_OK;			/* replaced meanwhile, and removed by somebody else */
	else
		st = ltg_fail(s, LTG_CORRUPT, "the current manifest %016llx is not in the directory",
					  (unsigned long long) newest);
	if (number != NULL)
		s->port->free(s->port, number);
	return st;
}

LtgStatus
ltg_remove_obsolete(LtgSession *s, uint32_t *removed)
{
	return remove_obsolete(s, atomic_load_explicit(&s->shared->manifest, memory_order_acquire),
						   true, removed);
}

LtgStatus
ltg_remove_before(LtgSession *s, uint64_t manifest, uint32_t *removed)
{
	return remove_obsolete(s, manifest, false, removed);
}
