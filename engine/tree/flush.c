/*
 * flush.c
 *	  Writing the oldest frozen generation to a segment file.
 *
 * Order of events (what makes a flush safe against crashes and snapshots)
 *	 F1. The horizon, and the snapshots that are known, are read before the fate
 *		 of any transaction is asked.
 *	 F2. The log position that must be durable before the manifest is
 *		 (wal_needed) is sampled after the last such question, so that it
 *		 covers every commit record the file relies on.
 *	 F3. Publication raises D to the generation's cut B: with this generation
 *		 and the older ones in files, everything logged at or below B is.
 *
 * A frozen generation takes no more inserts, and only a flush, under
 * LTG_LOCK_FLUSH, retires it; so its memory is read here without an epoch.
 * Versions may still be marked meanwhile (M4), which changes nothing that a
 * fate asked here would not say as well.
 *
 * Lock: LTG_LOCK_FLUSH over all of it; LTG_LOCK_META inside ltg_publish.
 * Readers and writers never wait for a flush.
 */
#include "ltg.h"

#include "storage/file.h"
#include "tree/compact.h"
#include "tree/gc.h"
#include "tree/pace.h"
#include "tree/relabel.h"
#include "tree/runset.h"
#include "tree/writeout.h"

#define KEYS_PER_POLL 1024
#define DOWN_MAX 32				/* stores of a flush that are merged: each syncs
								 * files and manifests of its own */
#define SAMPLES 256				/* about so many keys of a store are looked up */

typedef struct FlushStore
{
	uint64_t	id;
	uint64_t	nodes;
} FlushStore;

typedef struct Flush
{
	LtgSession *s;
	LtgGeneration *gen;
	LtgSeq		cut;
	LtgFates	fates;
	LtgGcRules	rules;
	LtgLive		live;
	LtgSeq		seq_base;		/* of ltg_relabel_key() */
	LtgWriteout out;
	LtgVersionBuf versions;		/* of one key */
	uint32_t	sample_step;	/* of the current store; 0: it has no files */
	uint32_t	sample_at;		/* keys to go until the next sample */
	uint64_t	superseded;		/* keys with versions in files, about */
	FlushStore *stores;
	uint32_t	n_stores, cap_stores;
	bool		out_of_memory;
	uint32_t	n_down;			/* stores that were merged: compact_flush.c */
	LtgStoreEdit *edits;
	LtgRunRef  *refs;
	uint64_t   *hidden;			/* `superseded` of each edit */
	uint32_t	n_edits;
	LtgFlushResult *r;
} Flush;

/* ---- which stores ---- */

static void
collect_store(void *arg, uint64_t store_id, uint64_t nodes, uint64_t bytes)
{
	Flush	   *f = arg;
	LtgPort    *port = f->s->port;

	(void) bytes;
	if (f->n_stores == f->cap_stores)
	{
		uint32_t	cap = f->cap_stores == 0 ? 64 : f->cap_stores * 2;
		FlushStore *p = f->stores == NULL ? port->alloc(port, cap * sizeof(*p))
			: port->realloc(port, f->stores, cap * sizeof(*p));

		if (p == NULL)
		{
			f->out_of_memory = true;
			return;
		}
		f->stores = p;
		f->cap_stores = cap;
	}
	f->stores[f->n_stores].id = store_id;
	f->stores[f->n_stores++].nodes = nodes;
}

/* Heap sort: no host function, no recursion, no worst case. */
static void
sort_stores(FlushStore *a, uint32_t n)
{
	for (uint32_t end = n, start = n / 2; end > 1;)
	{
		uint32_t	root;
		FlushStore	x;

		if (start > 0)
			root = --start;
		else
		{
			root = 0;
			x = a[--end];
			a[end] = a[0];
			a[0] = x;
		}
		x = a[root];
		for (uint32_t child; (child = 2 * root + 1) < end; root = child)
		{
			if (child + 1 < end && a[child + 1].id > a[child].id)
				child++;
			if (a[child].id <= x.id)
				break;
			a[root] = a[child];
		}
		a[root] = x;
	}
}

static LtgStatus
collect_stores(Flush *f)
{
	LtgPort    *port = f->s->port;

	ltg_gen_stores(f->gen, collect_store, f);
	if (!f->out_of_memory && f->n_stores > 0)
	{
		f->edits = port->alloc(port, f->n_stores * sizeof(*f->edits));
		f->refs = port->alloc(port, f->n_stores * sizeof(*f->refs));
		f->hidden = port->alloc(port, f->n_stores * sizeof(*f->hidden));
		f->out_of_memory = f->edits == NULL || f->refs == NULL || f->hidden == NULL;
	}
	if (f->out_of_memory)
		return ltg_fail(f->s, LTG_NOMEM, "out of memory for a flush of %u stores", f->n_stores);
	sort_stores(f->stores, f->n_stores);
	return LTG_OK;
}

/* ---- one key ---- */

/*
 * Whether nothing of the key lies in the store's files.  That nothing is found
 * for want of a readable block is no reason to fail the flush: the tombstone
 * question then has the answer that keeps everything as it is.
 */
static bool
lies_at_bottom(Flush *f, LtgStore *store, const uint8_t *key, uint32_t key_len, bool exact)
{
	LtgSession *s = f->s;
	const LtgRunSet *rs;
	bool		absent = true;

	ltg_epoch_enter(s);
	rs = atomic_load_explicit(&store->runs, memory_order_acquire);
	if (rs != NULL &&
		ltg_runset_lacks_key(s, rs, 0, key, key_len, exact, &absent) != LTG_OK)
	{
		ltg_clear_error(s);
		absent = false;
	}
	ltg_epoch_leave(s);
	return absent;
}

/*
 * Count, by sampling, how many older versions in files the new ones hide:
 * compaction wants to know what it would get rid of.
 */
static void
sample_key(Flush *f, LtgStore *store, const uint8_t *key, uint32_t key_len)
{
	if (f->sample_step == 0 || f->sample_at-- > 0)
		return;
	f->sample_at = f->sample_step - 1;
	if (!lies_at_bottom(f, store, key, key_len, true))
		f->superseded += f->sample_step;
}

static void
begin_sampling(Flush *f, LtgStore *store, uint64_t nodes)
{
	f->sample_step = (uint32_t) (nodes / SAMPLES + 1);
	if (atomic_load_explicit(&store->runs, memory_order_acquire) == NULL)
		f->sample_step = 0;
	f->sample_at = f->sample_step / 2;
	f->superseded = 0;
}

static LtgStatus
flush_key(Flush *f, LtgStore *store, LtgMemNode *node)
{
	LtgVersionBuf *vb = &f->versions;
	LtgGcOutcome gc;
	const uint8_t *key;
	uint32_t	key_len;

	ltg_mem_node_key(node, &key, &key_len);
	vb->n = 0;
	for (LtgMemVersion *mv = ltg_mem_newest(f->gen, node); mv != NULL;
		 mv = ltg_mem_older(f->gen, mv))
	{
		LTG_TRY(ltg_version_buf_room(f->s, vb));
		ltg_mem_read(mv, &vb->v[vb->n]);
		f->r->row_bytes += key_len + vb->v[vb->n++].payload_len;
	}
	f->r->versions_in += vb->n;
	LTG_TRY(ltg_gc_key(&f->rules, vb->v, vb->n, &gc));
	if (gc.asks_bottom && lies_at_bottom(f, store, key, key_len, gc.vanished))
		ltg_gc_bottom(vb->v, &gc);
	ltg_relabel_key(f->seq_base, vb->v, gc.kept);
	for (uint32_t i = 0; i < gc.kept; i++)
		LTG_TRY(ltg_writeout_add(&f->out, key, key_len, &vb->v[i]));
	f->r->versions_out += gc.kept;
	if (gc.kept > 0)
		sample_key(f, store, key, key_len);
	return LTG_OK;
}

/* ---- one store ---- */

/*
 * Rows behind all that the store has in files: the run will be moved down as it
 * is rather than merged, so it is written at once as the last level is.
 */
static LtgStatus
note_append(Flush *f, LtgStore *store, LtgMemList *list)
{
	LtgSession *s = f->s;
	LtgMemNode *first = ltg_mem_seek_ge(f->gen, list, NULL, 0);
	const LtgRunSet *rs;
	const LtgRunRef *model = NULL;
	const uint8_t *key;
	uint32_t	key_len;
	bool		append = first != NULL;
	LtgRunRef	copy;

	if (first == NULL)
		return LTG_OK;
	ltg_mem_node_key(first, &key, &key_len);
	ltg_epoch_enter(s);
	rs = atomic_load_explicit(&store->runs, memory_order_acquire);
	for (uint32_t i = 0; rs != NULL && append && i < rs->n; i++)
	{
		append = ltg_key_above(&rs->run[i].max_key, key, key_len);
		if (rs->run[i].dict_disk_len != 0)
			model = &rs->run[i];
	}
	if (model != NULL)
		copy = *model;
	ltg_epoch_leave(s);
	if (!append)
		return LTG_OK;
	if (ltg_writeout_last_level(&f->out, model == NULL ? NULL : &copy) == LTG_OK)
		return LTG_OK;
	/* no reason to fail a flush */
	ltg_clear_error(s);
	return ltg_writeout_last_level(&f->out, NULL);
}

/*
 * Above all that the store has in files (S3).  After a crash these may have
 * versions of some keys from beyond the oldest ones that were replayed.
 */
static LtgSeq
seq_base(const Flush *f, LtgStore *store, LtgMemList *list, const LtgMerged *done)
{
	LtgSeq		upto = atomic_load_explicit(&store->merged_upto, memory_order_acquire);
	LtgSeq		min_seq, max_seq;

	ltg_mem_list_seq_range(list, &min_seq, &max_seq);
	if (done->upto != f->cut && ltg_store_is_parted(f->s, store) && min_seq <= upto)
		return upto + 1;
	return min_seq;
}

/* What has not been merged down, to level 0. */
static LtgStatus
flush_keys(Flush *f, LtgStore *store, LtgMemList *list, const LtgMerged *done)
{
	const LtgBound *from = done->upto == f->cut ? &done->below : NULL;
	LtgMemNode *n = ltg_mem_seek_ge(f->gen, list, from == NULL ? NULL : from->bytes,
									from == NULL ? 0 : from->len);
	uint32_t	polls = 0;

	for (; n != NULL; n = ltg_mem_next(f->gen, n))
	{
		LTG_TRY(flush_key(f, store, n));
		if (++polls % KEYS_PER_POLL == 0 && f->s->port->interrupted(f->s->port))
			return LTG_INTERRUPTED;
	}
	return LTG_OK;
}

static LtgStatus
flush_store(Flush *f, const FlushStore *fs)
{
	LtgSession *s = f->s;
	LtgMemList *list = ltg_gen_list(f->gen, fs->id);
	LtgMerged	done;
	LtgStatus	st;
	LtgStore   *store;
	LtgRunRef	ref;

	ltg_epoch_enter(s);
	store = ltg_store_by_id(s, fs->id);
	ltg_epoch_leave(s);
	if (store == NULL || list == NULL)
		return LTG_OK;			/* dropped meanwhile */
	/* descriptors are type-stable, and this has an eye on the id */
	st = ltg_flush_down(s, store, fs->id, f->gen, f->cut, f->n_down < DOWN_MAX, f->r, &done);
	f->n_down += done.upto == f->cut;
	if (st == LTG_END)
		return LTG_OK;
	LTG_TRY(st);

	ltg_epoch_enter(s);
	store = ltg_store_by_id(s, fs->id);
	if (store != NULL)
	{
		f->rules.keep_graves = (atomic_load(&store->flags) & LTG_STORE_KEEP_GRAVES) != 0;
		f->rules.graves_cleared = atomic_load(&store->graves_cleared);
		f->rules.drop_ended = (atomic_load(&store->flags) & LTG_STORE_LOCKS) != 0;
		ltg_writeout_store(&f->out, &store->key, store->stamp, fs->id,
						   atomic_load(&store->options), fs->nodes);
		begin_sampling(f, store, fs->nodes);
	}
	ltg_epoch_leave(s);
	if (store == NULL)
		return LTG_OK;
	f->seq_base = seq_base(f, store, list, &done);
	LTG_TRY(note_append(f, store, list));
	LTG_TRY(flush_keys(f, store, list, &done));
	LTG_TRY(ltg_writeout_end_run(&f->out, &ref));
	if (ref.entries > 0)
	{
		ref.level = 0;
		ref.age = ltg_gen_number(f->gen);
		f->refs[f->n_edits] = ref;
		f->edits[f->n_edits] = (LtgStoreEdit) {
			.store_id = fs->id, .add = &f->refs[f->n_edits], .n_add = 1
		};
		f->n_edits++;
		f->hidden[f->n_edits - 1] = f->superseded;
	}
	return LTG_OK;
}

/* ---- the whole generation ---- */

/* Now that the runs are there: a merge takes the counter for what it has seen. */
static void
note_superseded(Flush *f)
{
	ltg_epoch_enter(f->s);
	for (uint32_t i = 0; i < f->n_edits; i++)
	{
		LtgStore   *store = ltg_store_by_id(f->s, f->edits[i].store_id);

		if (store != NULL)
			atomic_fetch_add_explicit(&store->superseded, f->hidden[i], memory_order_relaxed);
	}
	ltg_epoch_leave(f->s);
}

static LtgStatus
flush_generation(Flush *f)
{
	LtgSession *s = f->s;
	LtgNewFile	file = {0};
	LtgEdit		edit = {.durable = f->cut, .flushed = f->gen};

	LTG_TRY(collect_stores(f));
	for (uint32_t i = 0; i < f->n_stores; i++)
		LTG_TRY(flush_store(f, &f->stores[i]));
	LTG_STOP_POINT(s->port, "flush:before-sync");
	LTG_TRY(ltg_writeout_finish(&f->out, &file));
	edit.wal_needed = s->port->wal_position(s->port);	/* F2 */
	if (edit.wal_needed < f->cut)
		edit.wal_needed = f->cut;
	edit.stores = f->edits;
	edit.n_stores = f->n_edits;
	edit.files = &file;
	edit.n_files = file.id == 0 ? 0 : 1;
	LTG_STOP_POINT(s->port, "flush:before-publish");
	LTG_TRY(ltg_publish(s, &edit));
	note_superseded(f);
	ltg_writeout_keep(&f->out);
	f->r->bytes = file.bytes;
	return LTG_OK;
}

static void
flush_free(Flush *f)
{
	LtgPort    *port = f->s->port;

	ltg_writeout_free(&f->out);
	ltg_fates_free(&f->fates);
	ltg_live_free(f->s, &f->live);
	ltg_version_buf_free(f->s, &f->versions);
	if (f->stores != NULL)
		port->free(port, f->stores);
	if (f->edits != NULL)
		port->free(port, f->edits);
	if (f->refs != NULL)
		port->free(port, f->refs);
	if (f->hidden != NULL)
		port->free(port, f->hidden);
}

/* REQUIRES: LTG_LOCK_FLUSH. */
static LtgStatus
flush_oldest(LtgSession *s, LtgFlushResult *r)
{
	Flush		f = {.s = s, .r = r};
	uint64_t	began = s->port->now_us(s->port);
	uint64_t	bytes;
	LtgStatus	st;

	f.gen = ltg_oldest_frozen(s, &f.cut);
	if (f.gen == NULL)
		return ltg_publish_pending(s, false);
	bytes = ltg_gen_used(f.gen);
	ltg_fates_init(&f.fates, s);
	f.rules.fates = &f.fates;
	f.rules.horizon = s->port->horizon(s->port);	/* F1 */
	s->merged_entered = 0;
	ltg_live_sample(s, &f.live);
	f.rules.live = &f.live;
	ltg_writeout_init(&f.out, s);
	st = flush_generation(&f);
	flush_free(&f);
	if (st == LTG_OK)
	{
		r->flushed = true;
		ltg_count_flush(s, r);
		ltg_pace_take(s, LTG_WORK_FLUSH, r->bytes);
		/* how fast a flush can be is seen from those that only flush */
		ltg_pace_flushed(s, f.n_down > 0 ? 0 : bytes, s->port->now_us(s->port) - began);
	}
	return st;
}

LtgStatus
ltg_flush(LtgSession *s, LtgFlushResult *r)
{
	LtgStatus	st;

	memset(r, 0, sizeof(*r));
	LTG_STOP_POINT(s->port, "flush:start");
	s->port->lock(s->port, LTG_LOCK_FLUSH, LTG_EXCLUSIVE);
	st = flush_oldest(s, r);
	s->port->unlock(s->port, LTG_LOCK_FLUSH);
	r->durable = ltg_durable(s);
	if (r->flushed)
		LTG_STOP_POINT(s->port, "flush:done");
	return st;
}

bool
ltg_flush_needed(LtgSession *s)
{
	bool		needed;

	ltg_epoch_enter(s);
	needed = ltg_generations(s)->n > 1;
	ltg_epoch_leave(s);
	return needed || ltg_publish_due(s);
}

/* Flush one generation and add to *r what was done. */
static LtgStatus
flush_one_of_many(LtgSession *s, LtgFlushResult *r)
{
	LtgFlushResult one;
	LtgStatus	st = ltg_flush(s, &one);

	r->flushed |= one.flushed;
	r->bytes += one.bytes;
	r->row_bytes += one.row_bytes;
	r->versions_in += one.versions_in;
	r->versions_out += one.versions_out;
	r->durable = one.durable;
	return st;
}

/*
 * D is only ever raised to the cut of a freeze (S3), also when nothing is dirty:
 * an empty generation is frozen and published without a file.  A cut of one's
 * own, taken beside the freeze, could overtake versions that are still in the
 * active generation.
 */
LtgStatus
ltg_flush_upto(LtgSession *s, LtgSeq lsn, LtgFlushResult *r)
{
	memset(r, 0, sizeof(*r));
	while ((r->durable = ltg_durable(s)) < lsn)
	{
		LtgSeq		cut = 0;
		LtgStatus	st;

		if (ltg_flush_needed(s))
		{
			LTG_TRY(flush_one_of_many(s, r));
			continue;
		}
		st = ltg_freeze(s, &cut);
		if (st == LTG_BUSY)
		{
			/* all arenas are used, or wait for readers that are in them */
			LTG_TRY(flush_one_of_many(s, r));
			LTG_STOP_POINT(s->port, "flush:no-arena");
			if (s->port->interrupted(s->port))
				return LTG_INTERRUPTED;
			continue;
		}
		LTG_TRY(st);
		if (cut < lsn)
			return ltg_fail(s, LTG_INVALID, "cannot flush up to %llX, the log ends at %llX",
							(unsigned long long) lsn, (unsigned long long) cut);
	}
	return LTG_OK;
}
