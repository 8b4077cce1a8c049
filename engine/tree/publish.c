/*
 * publish.c
 *	  Making a new set of files the current one.
 *
 * Phases (LTG_LOCK_MANIFEST is held over all of them)
 *	 1. prepare, under LTG_LOCK_META: new run sets are built beside the
 *		current ones, and everything a manifest says is copied out;
 *	 2. the log is flushed as far as the manifest relies on it, and the
 *		edit of the manifest, or a new checkpoint, is written and synced, under
 *		no other lock;
 *	 3. swap, under LTG_LOCK_META: cannot fail.
 * Until phase 3 nothing is visible to anybody; a failure undoes phase 1.
 *
 * Invariants
 *	 P1. Between 1 and 3 a store may be dropped or emptied, but no run set is
 *		 replaced by another one: that needs LTG_LOCK_MANIFEST (S5).
 *	 P2. The run sets of a flush are stored before its generation leaves the
 *		 list (S1).
 *	 P3. The log is durable up to every drop that the manifest reflects: a
 *		 store must not be forgotten by a drop that a crash undoes.
 *		 (Creations need no such care: load.c takes back those above D.)
 *	 P4. A number is used for one attempt only.
 *	 P5. What an edit has to say of stores is in the list of changed ones: what
 *		 DDL did, and those that the flushed generation or the edit concern.
 *		 Checkpoints are written as often as edits have become as long as the
 *		 last one, so edits pay for them, and bytes do not grow with the tables.
 */
#include "tree/publish.h"

#include <stdlib.h>

#include "tree/manifest.h"
#include "tree/state.h"

#define EDITS_MIN 65536			/* bytes of edits before a new checkpoint */

/* What phase 1 prepares for one store. */
typedef struct Change
{
	const LtgStoreEdit *edit;
	LtgStore   *store;			/* NULL: not alive, skipped */
	LtgRunSet  *runs;			/* NULL: it has none any more */
} Change;

typedef struct Publication
{
	LtgSession *s;
	const LtgEdit *edit;
	Change	   *change;			/* sorted by store id */
	LtgManifest m;
	LtgSeq		wal_needed;
	uint64_t	changes;		/* value of the counter that m reflects */
	uint32_t	files_added;
	bool		checkpoint;
	LtgStatus	status;
} Publication;

LtgFileId
ltg_new_file_id(LtgSession *s)
{
	return atomic_fetch_add_explicit(&s->shared->next_file_id, 1, memory_order_relaxed);
}

static int
compare_change(const void *a, const void *b)
{
	uint64_t	x = ((const Change *) a)->edit->store_id,
				y = ((const Change *) b)->edit->store_id;

	return (x > y) - (x < y);
}

static Change *
find_change(Publication *p, uint64_t id)
{
	uint32_t	lo = 0,
				hi = p->edit->n_stores;

	while (lo < hi)
	{
		uint32_t	mid = lo + (hi - lo) / 2;

		if (p->change[mid].edit->store_id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < p->edit->n_stores && p->change[lo].edit->store_id == id)
		return &p->change[lo];
	return NULL;
}

static bool
is_removed(const LtgStoreEdit *e, const LtgRunRef *r)
{
	for (uint32_t i = 0; i < e->n_remove; i++)
		if (e->remove[i].file == r->file && e->remove[i].root_offset == r->root_offset)
			return true;
	return false;
}

/* META: build the run set that the edit makes of the store's current one. */
static LtgStatus
build_run_set(LtgSession *s, Change *c)
{
	LtgShared  *sh = s->shared;
	const LtgStoreEdit *e = c->edit;
	const LtgRunSet *old = atomic_load_explicit(&c->store->runs, memory_order_relaxed);
	uint32_t	n_old = old != NULL ? old->n : 0;
	uint32_t	n = n_old + e->n_add;
	LtgRunSet  *rs;

	LTG_ASSERT(n_old >= e->n_remove);
	if (n_old < e->n_remove)
		return ltg_fail(s, LTG_INVALID, "a run to be replaced is not in its store");
	n -= e->n_remove;
	if (n == 0)
		return LTG_OK;
	rs = ltg_metadata_alloc(s, ltg_run_set_size(n),
							n > n_old ? LTG_METADATA_FLUSH : LTG_METADATA_URGENT);
	if (rs == NULL)
		return ltg_fail(s, LTG_NOSHMEM, "out of shared metadata memory for %u runs", n);
	rs->n = 0;
	for (uint32_t i = 0; i < n_old; i++)
		if (!is_removed(e, &old->run[i]) && rs->n < n)
			rs->run[rs->n++] = old->run[i];
	if (rs->n + e->n_add != n)
	{
		ltg_shfree(s, sh->alloc, rs);
		return ltg_fail(s, LTG_INVALID, "a run to be replaced is not in its store");
	}
	if (e->n_add > 0)
		memcpy(&rs->run[rs->n], e->add, e->n_add * sizeof(LtgRunRef));
	rs->n = n;
	rs->merged = e->merged != NULL ? *e->merged : c->store->merged;
	ltg_run_set_arrange(rs);
	/* in every build: a reader of runs that overlap would miss versions */
	if (!ltg_run_set_valid(rs))
	{
		ltg_shfree(s, sh->alloc, rs);
		return ltg_fail(s, LTG_INVALID, "the new runs of a store would overlap others");
	}
	c->runs = rs;
	return LTG_OK;
}

/* META: name the run's file in the checkpoint, once. */
static LtgStatus
name_file(Publication *p, LtgFileId id)
{
	LtgSharedFile *f = ltg_file_entry(p->s->shared, id);

	LTG_ASSERT(f != NULL && f->obsolete_at == 0);
	if (f == NULL || f->obsolete_at != 0)
		return ltg_fail(p->s, LTG_INVALID, "file %llx of a run is not in use",
						(unsigned long long) id);
	if (f->named_in == p->m.h.number)
		return LTG_OK;
	f->named_in = p->m.h.number;
	return ltg_manifest_add_file(p->s, &p->m, id, f->bytes);
}

/* META: replay has to know, until D is there. */
static LtgStatus
copy_merged(Publication *p, uint64_t id, const LtgMerged *merged)
{
	LtgManifestMerged m = {id, *merged};

	return merged->upto <= p->m.h.durable ? LTG_OK : ltg_manifest_add_merged(p->s, &p->m, &m);
}

/* META: what a store is, without its runs. */
static LtgStatus
copy_description(Publication *p, LtgStore *store, const Change *c)
{
	LtgManifestStore ms = {
		.id = ltg_store_id(store),
		.key = store->key,
		.stamp = store->stamp,
		.flags = atomic_load_explicit(&store->flags, memory_order_relaxed),
		.next_rowid = ltg_store_next_rowid(store),
		.graves_cleared = atomic_load_explicit(&store->graves_cleared, memory_order_relaxed),
		.options = atomic_load_explicit(&store->options, memory_order_relaxed),
	};

	LTG_ASSERT(c == NULL || c->store == store);
	LTG_TRY(ltg_manifest_add_store(p->s, &p->m, &ms));
	return copy_merged(p, ms.id, c != NULL && c->edit->merged != NULL ?
					   c->edit->merged : &store->merged);
}

/* META: one store's part of a checkpoint. */
static bool
copy_store(void *arg, LtgStore *store)
{
	Publication *p = arg;
	Change	   *c = find_change(p, ltg_store_id(store));
	const LtgRunSet *rs = c != NULL ? c->runs :
		atomic_load_explicit(&store->runs, memory_order_relaxed);

	if ((atomic_load_explicit(&store->flags, memory_order_relaxed) & LTG_STORE_TEMP) != 0)
		return true;
	p->status = copy_description(p, store, c);
	for (uint32_t i = 0; rs != NULL && p->status == LTG_OK && i < rs->n; i++)
	{
		p->status = name_file(p, rs->run[i].file);
		if (p->status == LTG_OK)
			p->status = ltg_manifest_add_run(p->s, &p->m, &rs->run[i]);
	}
	return p->status == LTG_OK;
}

/* META: one store's part of an edit. */
static LtgStatus
copy_changed(Publication *p, LtgStore *store)
{
	uint64_t	id = ltg_store_id(store);
	Change	   *c = find_change(p, id);

	LTG_TRY(copy_description(p, store, c));
	for (uint32_t i = 0; c != NULL && i < c->edit->n_add; i++)
		LTG_TRY(ltg_manifest_add_run(p->s, &p->m, &c->edit->add[i]));
	for (uint32_t i = 0; c != NULL && i < c->edit->n_remove; i++)
	{
		LtgManifestRemoved r = {id, c->edit->remove[i].file, c->edit->remove[i].root_offset};

		LTG_TRY(ltg_manifest_add_removed(p->s, &p->m, &r));
	}
	return LTG_OK;
}

/* META: a dropped store. */
static LtgStatus
copy_drop(Publication *p, const LtgStore *st)
{
	LtgManifestDrop d = {st->key, st->stamp, st->dropped_at};

	LTG_TRY(ltg_manifest_add_drop(p->s, &p->m, &d));
	if ((atomic_load(&st->flags) & LTG_STORE_TEMP) == 0 && d.at > p->wal_needed)
		p->wal_needed = d.at;
	return LTG_OK;
}

/* META: what has changed since the last publication, and what this one changes. */
static LtgStatus
copy_changes(Publication *p)
{
	for (LtgStore *st = p->s->shared->changed_stores; st != NULL; st = st->changed_next)
		LTG_TRY(ltg_store_id(st) != 0 ? copy_changed(p, st) : copy_drop(p, st));
	for (uint32_t i = 0; i < p->edit->n_files; i++)
		LTG_TRY(ltg_manifest_add_file(p->s, &p->m, p->edit->files[i].id, p->edit->files[i].bytes));
	return LTG_OK;
}

/* META: everything. */
static LtgStatus
copy_all(Publication *p)
{
	ltg_each_store(p->s, copy_store, p);
	LTG_TRY(p->status);
	for (LtgStore *st = p->s->shared->dropped_stores; st != NULL; st = st->free_next)
		if (st->dropped_at > p->m.h.durable)
			LTG_TRY(copy_drop(p, st));
	return LTG_OK;
}

/* META: what the manifest is to say. */
static LtgStatus
copy_state(Publication *p)
{
	LtgShared  *sh = p->s->shared;
	LtgSeq		durable = atomic_load_explicit(&sh->durable, memory_order_relaxed);

	if (p->edit->durable > durable)
		durable = p->edit->durable;
	p->m.h.number = sh->next_manifest++;
	p->m.h.durable = durable;
	p->changes = sh->changes;
	p->checkpoint = sh->manifest_end == 0 ||
		(sh->manifest_end > EDITS_MIN && sh->manifest_end > 2 * sh->manifest_checkpoint);
	LTG_TRY(p->checkpoint ? copy_all(p) : copy_changes(p));
	/* last: numbers handed out so far are all covered */
	p->m.h.next_file_id = atomic_load(&sh->next_file_id);
	p->m.h.next_store_id = sh->next_store_id;
	p->m.h.next_unlogged_seq = atomic_load(&sh->next_unlogged_seq);
	return LTG_OK;
}

/* Its next row id, at least, is another one. */
static void
note_flushed(void *arg, uint64_t store_id, uint64_t nodes, uint64_t bytes)
{
	LtgSession *s = arg;
	LtgStore   *st = ltg_store_by_id(s, store_id);

	(void) nodes;
	(void) bytes;
	if (st != NULL)
		ltg_store_changed(s, st);
}

/* META: phase 1. */
static LtgStatus
prepare(Publication *p)
{
	LtgSession *s = p->s;
	const LtgEdit *e = p->edit;

	LTG_ASSERT(e->flushed == NULL || ltg_is_oldest_frozen(s, e->flushed));
	if (e->flushed != NULL && !ltg_is_oldest_frozen(s, e->flushed))
		return ltg_fail(s, LTG_INVALID, "a flushed generation is not the oldest one");
	ltg_store_reclaim(s);
	ltg_shreclaim(s, s->shared->alloc, s->shared->epochs);
	for (; p->files_added < e->n_files; p->files_added++)
		if (ltg_file_add(s, e->files[p->files_added].id, e->files[p->files_added].bytes) == NULL)
			return ltg_fail(s, LTG_NOSHMEM, "out of shared metadata memory for files");
	for (uint32_t i = 0; i < e->n_stores; i++)
	{
		p->change[i].store = ltg_store_by_id(s, p->change[i].edit->store_id);
		if (p->change[i].store != NULL)
		{
			LTG_TRY(build_run_set(s, &p->change[i]));
			ltg_store_changed(s, p->change[i].store);
		}
	}
	if (e->flushed != NULL)
		ltg_gen_stores(e->flushed, note_flushed, s);
	return copy_state(p);
}

/* META: undo phase 1. */
static void
unprepare(Publication *p)
{
	LtgSession *s = p->s;

	for (uint32_t i = 0; i < p->edit->n_stores; i++)
		if (p->change[i].runs != NULL)
			ltg_shfree(s, s->shared->alloc, p->change[i].runs);
	while (p->files_added > 0)
		ltg_file_forget(s, ltg_file_entry(s->shared,
										  p->edit->files[--p->files_added].id));
}

/* META: one store's part of phase 3. */
static void
swap_store(Publication *p, Change *c)
{
	LtgSession *s = p->s;
	LtgShared  *sh = s->shared;
	LtgRunSet  *old;

	if (c->store == NULL || ltg_store_id(c->store) != c->edit->store_id)
	{
		/* gone; its runs are garbage in their files */
		if (c->runs != NULL)
			ltg_shfree(s, sh->alloc, c->runs);
		return;
	}
	for (uint32_t i = 0; i < c->edit->n_add; i++)
		ltg_file_ref(s, &c->edit->add[i]);
	old = atomic_load_explicit(&c->store->runs, memory_order_relaxed);
	if (c->edit->merged != NULL)
		ltg_store_set_merged(c->store, c->edit->merged);
	atomic_store_explicit(&c->store->runs, c->runs, memory_order_seq_cst);
	/* the stamp of what becomes obsolete is taken after the store above */
	for (uint32_t i = 0; i < c->edit->n_remove; i++)
		ltg_file_unref(s, c->edit->remove[i].file, p->m.h.number);
	if (old != NULL)
		ltg_shretire(s, sh->alloc, sh->epochs, old);
}

/* META: phase 3. */
static void
swap(Publication *p)
{
	LtgSession *s = p->s;
	LtgShared  *sh = s->shared;

	for (uint32_t i = 0; i < p->edit->n_stores; i++)
		swap_store(p, &p->change[i]);
	if (p->edit->flushed != NULL)
		ltg_generation_remove(s, p->edit->flushed);
	/* files whose every store was dropped meanwhile, or that have no run */
	for (uint32_t i = 0; i < p->edit->n_files; i++)
	{
		LtgSharedFile *f = ltg_file_entry(sh, p->edit->files[i].id);

		if (f->refs == 0 && f->obsolete_at == 0)
		{
			/* this manifest may name it; another one has to come */
			ltg_file_set_obsolete(s, f, sh->next_manifest);
			ltg_meta_changed(s);
		}
	}
	LTG_ASSERT(p->m.h.durable >= atomic_load(&sh->durable));
	atomic_store_explicit(&sh->durable, p->m.h.durable, memory_order_release);
	atomic_store_explicit(&sh->manifest, p->m.h.number, memory_order_release);
	ltg_stores_published(s, p->changes);
	sh->changes_published = p->changes;
	atomic_store_explicit(&sh->changed_at_us, sh->changes == p->changes ? 0 :
						  s->port->now_us(s->port) | 1, memory_order_relaxed);
}

/* After a failure, the next publication begins a new file. */
static LtgStatus
write_manifest(Publication *p)
{
	LtgShared  *sh = p->s->shared;
	uint64_t	end = p->checkpoint ? 0 : sh->manifest_end;

	sh->manifest_end = 0;
	if (p->checkpoint)
	{
		LTG_TRY(ltg_manifest_write(p->s, &p->m));
		sh->manifest_file = p->m.h.number;
		sh->manifest_checkpoint = p->m.h.bytes;
	}
	else
		LTG_TRY(ltg_manifest_append(p->s, sh->manifest_file, end, &p->m));
	sh->manifest_end = end + p->m.h.bytes;
	return LTG_OK;
}

/* Phase 2. */
static LtgStatus
make_durable(Publication *p)
{
	LtgSession *s = p->s;
	LtgError	e = {0};
	LtgStatus	st;

	if (p->wal_needed != 0)
	{
		st = s->port->wal_flush(s->port, p->wal_needed, &e);
		if (st != LTG_OK)
			return ltg_port_failed(s, st, &e);
	}
	LTG_STOP_POINT(s->port, "publish:before-manifest");
	LTG_TRY(write_manifest(p));
	LTG_STOP_POINT(s->port, "publish:after-manifest");
	return LTG_OK;
}

/* REQUIRES LTG_LOCK_MANIFEST. */
static LtgStatus
publish(Publication *p)
{
	LtgSession *s = p->s;
	LtgStatus	st;
	bool		taken = ltg_meta_enter(s);

	st = prepare(p);
	if (st == LTG_OK)
	{
		ltg_meta_leave(s, taken);
		st = make_durable(p);
		taken = ltg_meta_enter(s);
	}
	if (st == LTG_OK)
		swap(p);
	else
		unprepare(p);
	ltg_meta_leave(s, taken);
	return st;
}

LtgStatus
ltg_publish(LtgSession *s, const LtgEdit *edit)
{
	LtgPort    *port = s->port;
	Publication p = {.s = s,.edit = edit,.wal_needed = edit->wal_needed};
	LtgStatus	st;

	LTG_ASSERT(s->epoch_depth == 0 && s->pinned < 0 && !ltg_ctx(s)->meta);
	if (edit->n_stores > 0)
	{
		p.change = port->alloc(port, edit->n_stores * sizeof(Change));
		if (p.change == NULL)
			return ltg_fail(s, LTG_NOMEM, "out of memory for publishing %u stores",
							edit->n_stores);
		for (uint32_t i = 0; i < edit->n_stores; i++)
			p.change[i] = (Change) {.edit = &edit->stores[i]};
		qsort(p.change, edit->n_stores, sizeof(Change), compare_change);
	}
	port->lock(port, LTG_LOCK_MANIFEST, LTG_EXCLUSIVE);
	st = publish(&p);
	port->unlock(port, LTG_LOCK_MANIFEST);
	if (st == LTG_OK)
	{
		LTG_STOP_POINT(port, "publish:after-swap");
		if (edit->flushed != NULL)
			ltg_prepare_arena(s);
		if (port->published != NULL)
			port->published(port);
	}
	ltg_manifest_free(s, &p.m);
	if (p.change != NULL)
		port->free(port, p.change);
	return st;
}

/*
 * A drop frees space only when a manifest without the store is there; if
 * nothing is flushed for a while, somebody has to publish one for its sake.
 */
bool
ltg_publish_due(LtgSession *s)
{
	uint64_t	since = atomic_load_explicit(&s->shared->changed_at_us, memory_order_relaxed);
	uint64_t	now;

	if (since == 0)
		return false;
	now = s->port->now_us(s->port);
	return now > since && now - since >= LTG_PUBLISH_DELAY_US;
}

LtgStatus
ltg_publish_pending(LtgSession *s, bool now)
{
	LtgEdit		edit = {0};

	if (atomic_load_explicit(&s->shared->changed_at_us, memory_order_relaxed) == 0 ||
		(!now && !ltg_publish_due(s)))
		return LTG_OK;
	return ltg_publish(s, &edit);
}

LtgStatus
ltg_publish_drops(LtgSession *s)
{
	return ltg_publish_pending(s, true);
}

/* ---- counters ---- */

static void
add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

void
ltg_count_flush(LtgSession *s, const LtgFlushResult *r)
{
	LtgCounters *c = &s->shared->count;

	add(&c->flushes, 1);
	add(&c->flush_bytes, r->bytes);
	add(&c->flush_row_bytes, r->row_bytes);
	add(&c->flush_versions_in, r->versions_in);
	add(&c->flush_versions_out, r->versions_out);
}

void
ltg_count_compaction(LtgSession *s, const LtgCompactResult *r)
{
	LtgCounters *c = &s->shared->count;

	add(&c->compactions, 1);
	add(&c->compact_bytes_read, r->bytes_read);
	add(&c->compact_bytes_written, r->bytes_written);
	add(&c->compact_versions_in, r->versions_in);
	add(&c->compact_versions_out, r->versions_out);
}
