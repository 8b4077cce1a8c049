/*
 * compact.c
 *	  Merging runs of one store into a deeper level; see compact.h.
 *
 * The merge goes in slices.  Each slice runs in an epoch of its own and seeks
 * beyond the last key of the one before, so that memory and files which others
 * retire don't wait for a long compaction.  The inputs can't go away in between
 * (C1) unless the store is dropped: then the work is thrown away.  Between two
 * slices the rate limit is heeded, with nothing held.
 */
#include "tree/compact.h"

#include "storage/file.h"
#include "tree/gc.h"
#include "tree/merge_iter.h"
#include "tree/pace.h"
#include "tree/relabel.h"
#include "tree/writeout.h"

#define SLICE_BYTES (4 * 1024 * 1024)	/* input payload per epoch */
#define SLICE_KEYS 65536
#define RETRY_AFTER_US (60 * 1000000)	/* after a failure */
#define RETRY_FULL_US (10 * 1000000)	/* after one for want of space */

typedef struct Compaction
{
	LtgSession *s;
	LtgCompactPlan *plan;
	LtgFates	fates;
	LtgGcRules	rules;
	LtgLive		live;
	LtgSeq		seq_base;		/* of ltg_relabel_key() */
	LtgWriteout out;
	LtgMerge	merge;
	LtgVersionBuf versions;		/* of one key */
	LtgRunRef  *in;				/* what is left of the inputs, newest first */
	uint32_t	n_in;
	LtgRunRef  *added;			/* outputs */
	uint32_t	n_added, cap_added;
	uint32_t	n_published;	/* of them: C7 */
	bool		piece_ends;		/* at `pos`: an output has just been finished */
	uint32_t	edge;			/* first input of the output level that `in` has
								 * and that has not ended, or n_in */
	uint64_t	file_bytes;		/* size of outputs */
	uint32_t	fence;			/* first run of the output level that is no
								 * input and not below the last key */
	uint64_t	oldest_age;		/* of the inputs from level 0 */
	uint64_t	entries_in;		/* of all inputs */
	LtgSeq		grave_seq;		/* of all inputs' versions the newest */
	uint64_t	slice_bytes;
	uint64_t	counted;		/* bytes read and written so far, for the limit */
	uint64_t	part_versions, part_bytes;	/* of the generation, so far */
	uint8_t    *pos;			/* LTG_KEY_MAX: go on there ... */
	uint32_t	pos_len;
	bool		has_pos;
	bool		after;			/* ... or behind it: that key has been merged */
	LtgCompactResult *r;
} Compaction;

/* The first run of the output level from `at` on that is not an input. */
static uint32_t
next_fence(const LtgCompactPlan *plan, uint32_t at)
{
	uint32_t	to = plan->set->level_start[plan->out_level + 1];
	uint32_t	k = 0;

	while (k < plan->n_in && plan->in[k] < at)
		k++;
	for (; at < to && k < plan->n_in && plan->in[k] == at; k++)
		at++;
	return at;
}

static bool
store_is_gone(const LtgCompactPlan *plan)
{
	return ltg_store_id(plan->store) != plan->store_id;
}

/* ---- outputs ---- */

static LtgStatus
end_output(Compaction *c)
{
	LtgPort    *port = c->s->port;
	LtgNewFile	file;
	LtgRunRef	ref;

	LTG_TRY(ltg_writeout_end_run(&c->out, &ref));
	if (ref.entries == 0)
		return LTG_OK;
	if (c->n_added == c->cap_added)
	{
		uint32_t	cap = c->cap_added == 0 ? 8 : c->cap_added * 2;
		LtgRunRef  *p = c->added == NULL ? port->alloc(port, cap * sizeof(*p))
			: port->realloc(port, c->added, cap * sizeof(*p));

		if (p == NULL)
			return ltg_fail(c->s, LTG_NOMEM, "out of memory for %u runs", cap);
		c->added = p;
		c->cap_added = cap;
	}
	LTG_TRY(ltg_writeout_finish(&c->out, &file));
	ref.level = c->plan->out_level;
	ref.age = c->plan->set->run[c->plan->in[0]].age;
	c->added[c->n_added++] = ref;
	c->r->bytes_written += file.bytes;
	return LTG_OK;
}

/*
 * Runs of the output level that are not inputs must not be straddled (C3): the
 * output ends where one of them lies between two keys.  A key that begins with a
 * truncated maximum is behind it: in front there may be keys of the same output.
 */
static LtgStatus
pass_fences(Compaction *c, const uint8_t *key, uint32_t key_len)
{
	const LtgRunSet *rs = c->plan->set;
	uint32_t	to = rs->level_start[c->plan->out_level + 1];
	bool		passed = false;

	if (c->plan->out_level == 0)
		return LTG_OK;
	while (c->fence < to && ltg_key_cmp(key, key_len, rs->run[c->fence].max_key.bytes,
										rs->run[c->fence].max_key.len) > 0)
	{
		passed = true;
		c->fence = next_fence(c->plan, c->fence + 1);
	}
	return passed ? end_output(c) : LTG_OK;
}

/* ---- merging ---- */

/* Nothing of the key lies beneath the output; in the current runs (C5). */
static LtgStatus
lies_at_bottom(Compaction *c, const uint8_t *key, uint32_t key_len, bool exact, bool *absent)
{
	const LtgRunSet *rs = atomic_load_explicit(&c->plan->store->runs, memory_order_acquire);
	uint32_t	out = c->plan->out_level;

	*absent = false;
	/* of a store that was dropped meanwhile; the work is thrown away */
	if (rs == NULL || store_is_gone(c->plan))
		return LTG_OK;
	if (out == 0)
		return ltg_runset_lacks_older(c->s, rs, c->oldest_age, key, key_len, exact, absent);
	return ltg_runset_lacks_key(c->s, rs, out + 1, key, key_len, exact, absent);
}

/*
 * A grave's seq only says after which VACUUM it may go: a later one is as good,
 * and one for all compresses to nothing.  But the order of a key's versions is
 * kept: it may have been written again, and that version be in a level above,
 * among older ones of other keys.
 */
static void
level_grave(const Compaction *c, LtgVersion *v, uint32_t kept)
{
	LtgVersion *last = &v[kept - 1];

	if (last->state != LTG_SETTLED || last->kind == LTG_PUT)
		return;
	if (kept == 1 && last->seq < c->grave_seq)
		last->seq = c->grave_seq;
	else if (kept > 1 && last->seq >= v[kept - 2].seq)
		last->seq = v[kept - 2].seq - 1;
}

/* The newest version of v[0..n) whose writer has not aborted; n: there is none. */
static LtgStatus
find_newest(Compaction *c, LtgVersion *v, uint32_t n, uint32_t *at)
{
	for (*at = 0; *at < n; (*at)++)
	{
		LtgVersion *x = &v[*at];
		LtgXidStatus fate = LTG_XID_IN_PROGRESS;

		if (x->state == LTG_UNRESOLVED)
			LTG_TRY(ltg_fates_get(&c->fates, x->xid, &fate));
		if (fate == LTG_XID_COMMITTED)
			x->state = LTG_COMMITTED;
		if (x->state != LTG_ABORTED && fate != LTG_XID_ABORTED)
			break;
	}
	return LTG_OK;
}

static bool
is_move(const LtgVersion *v)
{
	return v->kind == LTG_DELETE && v->aux != LTG_AUX_NONE && v->aux != LTG_AUX_OTHER_PARTITION;
}

/*
 * As ltg_gc_key, where the generation may say of a row that it has moved.  Replay of
 * the move, should the row's new place not be merged by then, finds the old version
 * here (C8): right under the tombstone, which is not settled, since it would lose
 * the new place's name.  What lies under it is kept as if it did not exist.  A move
 * that was aborted has nothing to be replayed.
 */
static LtgStatus
gc_moved(Compaction *c, LtgVersion *v, uint32_t n, LtgGcOutcome *gc)
{
	uint32_t	at;

	LTG_TRY(find_newest(c, v, n, &at));
	if (at == n || !is_move(&v[at]) || v[at].xid == 0)
		return ltg_gc_key(&c->rules, v, n, gc);
	v[0] = v[at];
	if (v[0].state == LTG_SETTLED)
		v[0].state = LTG_COMMITTED; /* as a reader has marked it; the id is there */
	LTG_TRY(ltg_gc_key(&c->rules, v + at + 1, n - at - 1, gc));
	memmove(v + 1, v + at + 1, gc->kept * sizeof(LtgVersion));
	gc->kept++;
	gc->asks_bottom = gc->vanished = false;
	return LTG_OK;
}

/* *moved: a version from the generation may say where its row has gone. */
static LtgStatus
collect_versions(Compaction *c, uint32_t key_len, uint64_t *bytes, bool *moved)
{
	LtgVersionBuf *vb = &c->versions;

	vb->n = 0;
	*moved = false;
	for (;;)
	{
		LtgVersion *v;
		LtgStatus	st;

		LTG_TRY(ltg_version_buf_room(c->s, vb));
		v = &vb->v[vb->n];
		st = ltg_merge_version(&c->merge, v);
		if (st == LTG_END)
			break;
		LTG_TRY(st);
		vb->n++;
		*bytes += v->payload_len;
		if (ltg_merge_in_memory(&c->merge))
		{
			c->part_versions++;
			c->part_bytes += key_len + v->payload_len;
			*moved |= is_move(v);
		}
	}
	*bytes += key_len;
	c->r->versions_in += vb->n;
	return LTG_OK;
}

/*
 * Above everything that lies beneath the output.  By C5 no more gets there: what
 * others merge meanwhile stays, or takes a smaller number, but for graves, whose
 * numbers may rise.
 */
static LtgSeq
seq_base(const LtgCompactPlan *plan)
{
	const LtgRunSet *rs = plan->set;
	uint32_t	from = plan->out_level == 0 ? plan->in[plan->n_in - 1] + 1 :
		rs->level_start[plan->out_level + 1];
	LtgSeq		max = 0;

	for (uint32_t i = from; i < rs->n; i++)
		if (rs->run[i].max_seq > max)
			max = rs->run[i].max_seq;
	return max + 1;
}

static LtgStatus
merge_key(Compaction *c, const uint8_t *key, uint32_t key_len, uint64_t *bytes)
{
	LtgVersionBuf *vb = &c->versions;
	LtgGcOutcome gc = {0};
	bool		moved;

	LTG_TRY(collect_versions(c, key_len, bytes, &moved));
	if (moved)
		LTG_TRY(gc_moved(c, vb->v, vb->n, &gc));
	else
		LTG_TRY(ltg_gc_key(&c->rules, vb->v, vb->n, &gc));
	if (gc.asks_bottom)
	{
		bool		absent;

		LTG_TRY(lies_at_bottom(c, key, key_len, gc.vanished, &absent));
		if (absent)
			ltg_gc_bottom(vb->v, &gc);
	}
	if (gc.kept == 0)
		return LTG_OK;
	if (c->rules.keep_graves)
		level_grave(c, vb->v, gc.kept);
	ltg_relabel_key(c->seq_base, vb->v, gc.kept);
	LTG_TRY(pass_fences(c, key, key_len));
	for (uint32_t i = 0; i < gc.kept; i++)
		LTG_TRY(ltg_writeout_add(&c->out, key, key_len, &vb->v[i]));
	c->r->versions_out += gc.kept;
	/* a merge within level 0 has one output */
	if (c->plan->out_level > 0 && ltg_writeout_bytes(&c->out) >= c->file_bytes)
	{
		LTG_TRY(end_output(c));
		c->piece_ends = true;
	}
	return LTG_OK;
}

static LtgStatus
add_inputs(Compaction *c)
{
	const LtgFlushPart *part = &c->plan->part;
	uint32_t	from = 0;

	if (part->gen != NULL)
		LTG_TRY(ltg_merge_add_gen(&c->merge, part->gen, part->list, NULL));
	while (from < c->n_in)
	{
		uint32_t	end = from + 1;

		while (end < c->n_in && c->in[from].level > 0 && c->in[end].level == c->in[from].level)
			end++;
		LTG_TRY(ltg_merge_add_level(&c->merge, &c->in[from], end - from));
		from = end;
	}
	return LTG_OK;
}

static void
find_edge(Compaction *c)
{
	c->edge = 0;
	while (c->edge < c->n_in && c->in[c->edge].level < c->plan->out_level)
		c->edge++;
}

/*
 * Pieces had better end where a file of the output level does: publishing one
 * then frees the other.  *ends: an output was finished in front of this key.
 */
static LtgStatus
pass_edges(Compaction *c, const uint8_t *key, uint32_t key_len, bool *ends)
{
	bool		passed = false;

	*ends = false;
	while (c->edge < c->n_in && ltg_key_above(&c->in[c->edge].max_key, key, key_len))
	{
		c->edge++;
		passed = true;
	}
	if (!passed || c->plan->out_level == 0 || ltg_writeout_bytes(&c->out) < c->file_bytes / 2)
		return LTG_OK;
	*ends = true;
	return end_output(c);
}

static void
set_position(Compaction *c, const uint8_t *key, uint32_t key_len, bool after)
{
	memcpy(c->pos, key, key_len);
	c->pos_len = key_len;
	c->has_pos = true;
	c->after = after;
}

/* One slice, inside an epoch.  LTG_END: all is merged. */
static LtgStatus
merge_slice(Compaction *c)
{
	LtgMerge   *m = &c->merge;
	uint64_t	bytes = 0;
	LtgStatus	st;

	if (store_is_gone(c->plan))
		return LTG_NOT_FOUND;
	c->s->merged_entered = 0;
	ltg_merge_init(m, c->s, LTG_CACHE_PEEK, false);
	LTG_TRY(add_inputs(c));
	st = ltg_merge_seek(m, c->has_pos ? c->pos : NULL, c->pos_len, c->after);
	for (uint32_t keys = 1; st == LTG_OK; keys++)
	{
		const uint8_t *key;
		uint32_t	key_len;

		ltg_merge_key(m, &key, &key_len);
		LTG_TRY(pass_edges(c, key, key_len, &c->piece_ends));
		if (c->piece_ends)
		{
			set_position(c, key, key_len, false);
			return LTG_OK;
		}
		LTG_TRY(merge_key(c, key, key_len, &bytes));
		if (bytes >= c->slice_bytes || keys >= SLICE_KEYS || c->piece_ends)
		{
			set_position(c, key, key_len, true);
			return LTG_OK;
		}
		st = ltg_merge_next(m);
	}
	return st;
}

static LtgWorkClass
work_class(const LtgCompactPlan *plan)
{
	if (plan->part.gen != NULL)
		return LTG_WORK_FLUSH;
	return plan->set->run[plan->in[0]].level == 0 ? LTG_WORK_LEVEL0 : LTG_WORK_REST;
}

static void
note_progress(Compaction *c)
{
	LtgCompactJob *job = c->plan->job;
	uint64_t	total = job->bytes_total;
	uint64_t	written = c->r->bytes_written + ltg_writeout_bytes(&c->out);
	uint64_t	read = 0;

	/* the share of the versions is the share of the bytes, about */
	if (c->entries_in > 0)
		read = (uint64_t) ((double) total * ((double) c->r->versions_in / (double) c->entries_in));
	atomic_store_explicit(&job->bytes_read, read < total ? read : total, memory_order_relaxed);
	atomic_store_explicit(&job->bytes_written, written, memory_order_relaxed);
	atomic_store_explicit(&job->versions_in, c->r->versions_in, memory_order_relaxed);
	atomic_store_explicit(&job->versions_out, c->r->versions_out, memory_order_relaxed);
	/* what waits to be compressed is an estimate, which may have been too high */
	if (read + written > c->counted)
	{
		ltg_pace_take(c->s, work_class(c->plan), read + written - c->counted);
		c->counted = read + written;
	}
}

/*
 * The last of the space is for flushes, which checkpoints and writers wait for: a
 * merge, which can wait, ends before the disk is full.  So much is left as an
 * arena of the memtable takes, were it not compressed.
 */
static LtgStatus
leave_room(Compaction *c)
{
	LtgPort    *port = c->s->port;
	uint64_t	reserve = c->s->shared->config.memtable_bytes;

	if (port->space == NULL || port->space(port) >= reserve)
		return LTG_OK;
	return ltg_fail(c->s, LTG_NOSPACE, "the last %llu kB of free space are left to flushes",
					(unsigned long long) (reserve / 1024));
}

/* What was asked for doesn't wait, but others wait for it. */
static LtgStatus
heed_limit(Compaction *c)
{
	LtgWorkClass class = work_class(c->plan);
	LtgCompactJob *job = c->plan->job;
	LtgStatus	st;

	c->slice_bytes = ltg_pace_slice(c->s, SLICE_BYTES);
	if (c->plan->part.gen != NULL)
		return ltg_flush_is_pressed(c->s) ||
			ltg_store_is_asked_for(c->s, c->plan->store) ? LTG_BUSY : LTG_OK;
	if (c->plan->reason == LTG_COMPACT_ALL || !ltg_pace_must_wait(c->s, class))
		return LTG_OK;
	atomic_store(&job->phase, LTG_COMPACT_WAITING);
	st = ltg_pace_wait(c->s, class);
	atomic_store(&job->phase, LTG_COMPACT_MERGING);
	return st;
}

/*
 * Publish what is new: of the outputs, and of the inputs what they lose
 * (`remove`) or become (`cut`).  `below`: up to where the outputs go, NULL: to the end.
 */
static LtgStatus
publish(Compaction *c, const LtgRunRef *remove, uint32_t n_remove, const LtgRunRef *cut,
		uint32_t n_cut, const LtgBound *below)
{
	LtgSession *s = c->s;
	LtgFlushPart *part = &c->plan->part;
	LtgMerged	merged = {.upto = part->cut, .all = below == NULL};
	uint32_t	n_new = c->n_added - c->n_published;
	LtgRunRef  *add = s->port->alloc(s->port, (n_new + n_cut + 1) * sizeof(LtgRunRef));
	LtgStoreEdit store = {
		.store_id = c->plan->store_id,
		.add = add, .n_add = n_new + n_cut,
		.remove = remove, .n_remove = n_remove
	};
	LtgEdit		edit = {
		.stores = &store, .n_stores = 1,
		.files = c->out.files, .n_files = c->out.n_files,
		/* after the last question about a transaction's fate */
		.wal_needed = s->port->wal_position(s->port)
	};
	LtgStatus	st;

	if (add == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for publishing %u runs", n_new + n_cut);
	if (part->gen != NULL)
	{
		merged.generation = ltg_gen_number(part->gen);
		if (below != NULL)
			merged.below = *below;
		store.merged = &merged;
		if (edit.wal_needed < part->cut)
			edit.wal_needed = part->cut;
	}
	if (n_new > 0)
		memcpy(add, c->added + c->n_published, n_new * sizeof(LtgRunRef));
	if (n_cut > 0)
		memcpy(add + n_new, cut, n_cut * sizeof(LtgRunRef));
	atomic_store(&c->plan->job->phase, LTG_COMPACT_PUBLISHING);
	LTG_STOP_POINT(s->port, "compact:before-publish");
	st = ltg_publish(s, &edit);
	s->port->free(s->port, add);
	LTG_TRY(st);
	ltg_writeout_keep(&c->out);
	c->n_published = c->n_added;
	if (part->gen != NULL)
	{
		part->done = merged;
		part->versions = c->part_versions;
		part->row_bytes = c->part_bytes;
	}
	return LTG_OK;
}

/* The outputs so far take effect (C7), if that frees a file. */
static LtgStatus
publish_piece(Compaction *c)
{
	LtgPort    *port = c->s->port;
	uint32_t	n = c->n_in;
	uint32_t	n_remove, n_cut;
	LtgRunRef  *refs;
	LtgBound	at;
	LtgStatus	st;

	c->piece_ends = false;
	if (!ltg_cut_at(&at, c->pos, c->pos_len, c->after) || ltg_cut_frees(c->in, n, &at) == 0)
		return LTG_OK;
	/* first what remains, in a copy until it is true */
	refs = port->alloc(port, 3 * n * sizeof(LtgRunRef));
	if (refs == NULL)
		return ltg_fail(c->s, LTG_NOMEM, "out of memory for a piece of %u runs", n);
	memcpy(refs, c->in, n * sizeof(LtgRunRef));
	ltg_cut_inputs(refs, &n, &at, refs + c->n_in, &n_remove, refs + 2 * c->n_in, &n_cut);
	st = publish(c, refs + c->n_in, n_remove, refs + 2 * c->n_in, n_cut, &at);
	if (st == LTG_OK)
	{
		memcpy(c->in, refs, n * sizeof(LtgRunRef));
		c->n_in = n;
		find_edge(c);
	}
	port->free(port, refs);
	LTG_TRY(st);
	if (c->plan->part.gen != NULL)
		LTG_STOP_POINT(port, "flush:piece");	/* with LTG_LOCK_FLUSH held */
	else
		LTG_STOP_POINT(port, "compact:piece");
	return LTG_OK;
}

static LtgStatus
merge_all(Compaction *c)
{
	LtgSession *s = c->s;
	LtgStatus	st;

	atomic_store(&c->plan->job->phase, LTG_COMPACT_MERGING);
	do
	{
		if (s->port->interrupted(s->port))
			return LTG_INTERRUPTED;
		LTG_STOP_POINT(s->port, "compact:slice");
		LTG_TRY(heed_limit(c));
		LTG_TRY(leave_room(c));
		ltg_epoch_enter(s);
		st = merge_slice(c);
		ltg_merge_clear(&c->merge);
		ltg_epoch_leave(s);
		note_progress(c);
		if (st == LTG_OK && c->piece_ends)
		{
			LTG_TRY(publish_piece(c));
			atomic_store(&c->plan->job->phase, LTG_COMPACT_MERGING);
		}
	} while (st == LTG_OK);
	return st == LTG_END ? end_output(c) : st;
}

/* ---- a whole compaction ---- */

/*
 * Will the output stay what it is for long?  On the last level it does; on level
 * 0 when there is no more beside it than it has itself.
 */
static bool
stays(const LtgCompactPlan *plan, uint64_t bytes)
{
	const LtgRunSet *rs = plan->set;
	uint64_t	all = 0;

	if (plan->out_level > 0)
		return rs->level_start[plan->out_level + 1] == rs->n;
	for (uint32_t i = 0; i < rs->n; i++)
		all += rs->run[i].disk_bytes;
	return bytes >= all - bytes;
}

/* Go on where an earlier attempt has stopped. */
static LtgStatus
start_behind(Compaction *c, const LtgFlushPart *part)
{
	const LtgBound *below = &part->done.below;

	if (part->done.upto != part->cut)
		return LTG_OK;
	/* in every build: what lies before it would be lost with its run */
	for (uint32_t i = 0; i < c->n_in; i++)
		if (ltg_key_below(below, c->in[i].min_key.bytes, c->in[i].min_key.len))
			return ltg_fail(c->s, LTG_INVALID, "a run to be merged begins before its merge");
	set_position(c, below->bytes, below->len, false);
	return LTG_OK;
}

static LtgStatus
copy_inputs(Compaction *c)
{
	const LtgCompactPlan *plan = c->plan;
	LtgPort    *port = c->s->port;
	uint64_t	keys = 0;
	uint64_t	bytes = 0;
	uint64_t	files;

	c->in = port->alloc(port, plan->n_in * sizeof(LtgRunRef));
	c->pos = port->alloc(port, LTG_KEY_MAX);
	if (c->in == NULL || c->pos == NULL)
		return ltg_fail(c->s, LTG_NOMEM, "out of memory to merge %u runs", plan->n_in);
	for (uint32_t i = 0; i < plan->n_in; i++)
	{
		c->in[i] = plan->set->run[plan->in[i]];
		keys += c->in[i].keys;
		c->entries_in += c->in[i].entries;
		if (c->in[i].max_seq > c->grave_seq)
			c->grave_seq = c->in[i].max_seq;
		bytes += c->in[i].disk_bytes;
		if (c->in[i].level == 0)
			c->oldest_age = c->in[i].age;	/* by falling age */
	}
	c->n_in = plan->n_in;
	find_edge(c);
	if (plan->part.gen != NULL)
	{
		keys += ltg_mem_list_nodes(plan->part.list);
		c->entries_in += ltg_mem_list_nodes(plan->part.list);
		LTG_TRY(start_behind(c, &plan->part));
	}
	c->file_bytes = ltg_out_file_bytes(&c->s->shared->config, plan->set);
	files = plan->out_level == 0 ? 1 : bytes / (c->file_bytes + 1) + 1;
	ltg_writeout_store(&c->out, &plan->key, plan->stamp, plan->store_id,
					   atomic_load(&plan->store->options), keys / files + keys / files / 8 + 1);
	if (plan->move)
		return LTG_OK;
	c->r->bytes_read = bytes;
	if (!stays(plan, bytes))
		return LTG_OK;
	/* the oldest input with a dictionary: where most of the rows come from */
	for (uint32_t i = plan->n_in; i > 0; i--)
		if (c->in[i - 1].dict_disk_len != 0)
			return ltg_writeout_last_level(&c->out, &c->in[i - 1]);
	return ltg_writeout_last_level(&c->out, NULL);
}

/* The runs stay what they are and change their level. */
static LtgStatus
move_runs(Compaction *c)
{
	LtgPort    *port = c->s->port;
	uint32_t	n = c->plan->n_in;

	c->added = port->alloc(port, n * sizeof(LtgRunRef));
	if (c->added == NULL)
		return ltg_fail(c->s, LTG_NOMEM, "out of memory to move %u runs", n);
	memcpy(c->added, c->in, n * sizeof(LtgRunRef));
	for (uint32_t i = 0; i < n; i++)
		c->added[i].level = c->plan->out_level;
	c->n_added = c->cap_added = n;
	return publish(c, c->in, n, NULL, 0, NULL);
}

/*
 * If there are still versions that ought to be settled (the host can't tell
 * what became of their writers), trying again at once would change nothing.
 */
static void
note_stuck(Compaction *c)
{
	for (uint32_t i = 0; i < c->n_added && !c->plan->move; i++)
		if (c->added[i].unsettled > 0 && c->added[i].max_xid < c->rules.horizon)
			atomic_store(&c->plan->store->stuck_xid, c->rules.horizon);
}

/*
 * What level 0 superseded is gone with its merge downwards; what had to stay is
 * for a snapshot's sake, and its run says so (score_run).
 */
static void
note_superseded(Compaction *c)
{
	const LtgCompactPlan *plan = c->plan;
	_Atomic uint64_t *counter = &plan->store->superseded;
	uint64_t	done = c->r->versions_in - c->r->versions_out;
	uint64_t	now = atomic_load(counter);

	if (plan->all_level0)
		done = plan->superseded;
	if (!plan->move || plan->all_level0)
		while (!atomic_compare_exchange_weak(counter, &now, now > done ? now - done : 0))
			;
}

static void
count_kind(LtgSession *s, const LtgCompactPlan *plan)
{
	LtgCounters *c = &s->shared->count;

	if (plan->move)
		atomic_fetch_add_explicit(&c->compact_moves, 1, memory_order_relaxed);
	else if (plan->reason == LTG_COMPACT_TIER)
		atomic_fetch_add_explicit(&c->compact_tiers, 1, memory_order_relaxed);
	else if (plan->reason == LTG_COMPACT_GARBAGE)
		atomic_fetch_add_explicit(&c->compact_garbage, 1, memory_order_relaxed);
}

LtgStatus
ltg_compact_plan(LtgSession *s, LtgCompactPlan *plan, LtgCompactResult *r)
{
	Compaction	c = {.s = s, .plan = plan, .r = r};
	LtgPort    *port = s->port;
	LtgStatus	st;

	c.merge.s = s;
	c.rules = (LtgGcRules) {
		.horizon = plan->horizon, .fates = &c.fates,
		.keep_graves = plan->keep_graves, .graves_cleared = plan->graves_cleared,
		.drop_ended = plan->drop_ended,
		.live = &c.live
	};
	ltg_live_sample(s, &c.live);
	c.seq_base = seq_base(plan);
	if (plan->out_level > 0)
		c.fence = next_fence(plan, plan->set->level_start[plan->out_level]);
	ltg_fates_init(&c.fates, s);
	ltg_writeout_init(&c.out, s);
	LTG_STOP_POINT(port, "compact:start");
	st = copy_inputs(&c);
	if (st == LTG_OK && plan->move)
		st = move_runs(&c);
	else if (st == LTG_OK)
	{
		st = merge_all(&c);
		if (st == LTG_OK)
			st = publish(&c, c.in, c.n_in, NULL, 0, NULL);
	}
	if (st == LTG_OK)
	{
		note_stuck(&c);
		note_superseded(&c);
		r->compacted = true;
		ltg_count_compaction(s, r);
		count_kind(s, plan);
		ltg_pace_merged(s);
	}
	ltg_writeout_free(&c.out);
	s->merged_blocks = s->merged_cached = 0;	/* what a flush writes next is not made of them */
	ltg_merge_free(&c.merge);
	ltg_fates_free(&c.fates);
	ltg_live_free(s, &c.live);
	ltg_version_buf_free(s, &c.versions);
	if (c.in != NULL)
		port->free(port, c.in);
	if (c.pos != NULL)
		port->free(port, c.pos);
	if (c.added != NULL)
		port->free(port, c.added);
	return st;
}

void
ltg_compact_failed(LtgSession *s, LtgStore *store, LtgStatus st)
{
	atomic_store(&store->compact_not_before, s->port->now_us(s->port) +
				 (st == LTG_NOSPACE ? RETRY_FULL_US : RETRY_AFTER_US));
	if (st == LTG_CORRUPT)
		atomic_store(&store->damaged, true);
}

static LtgStatus
compact(LtgSession *s, LtgStore *store, LtgCompactResult *r)
{
	LtgCompactPlan plan;
	LtgStatus	st;

	memset(r, 0, sizeof(*r));
	LTG_TRY(ltg_compact_pick(s, store, &plan));
	if (plan.store == NULL)
		return LTG_OK;
	st = ltg_compact_plan(s, &plan, r);
	if (st != LTG_OK && store_is_gone(&plan))
	{
		/* dropped under our hands, perhaps with its files */
		ltg_clear_error(s);
		st = LTG_OK;
	}
	else if (st != LTG_OK && st != LTG_INTERRUPTED)
		ltg_compact_failed(s, plan.store, st);
	else if (st == LTG_OK)
		atomic_store(&plan.store->damaged, false);
	ltg_compact_release(s, &plan);
	if (r->compacted)
		LTG_STOP_POINT(s->port, "compact:done");
	return st;
}

LtgStatus
ltg_compact(LtgSession *s, LtgCompactResult *r)
{
	return compact(s, NULL, r);
}

LtgStatus
ltg_compact_store(LtgSession *s, LtgStore *store, LtgCompactResult *r)
{
	return compact(s, store, r);
}

/* ---- how far behind ---- */

/* All writers would wait for merges that can't be done, if damaged stores counted. */
static bool
note_backlog(void *arg, LtgStore *store)
{
	uint32_t   *most = arg;
	const LtgRunSet *rs = atomic_load_explicit(&store->runs, memory_order_acquire);

	if (rs != NULL && rs->level_start[1] > *most && !atomic_load(&store->damaged))
		*most = rs->level_start[1];
	return true;
}

uint32_t
ltg_backlog(LtgSession *s)
{
	uint32_t	most = 0;

	ltg_epoch_enter(s);
	ltg_each_store(s, note_backlog, &most);
	ltg_epoch_leave(s);
	return most;
}
