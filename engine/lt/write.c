/*
 * write.c
 *	  The write path: latch, check for conflict, reserve, log, apply, commit.
 *
 * Key stripes are taken here, not by ltg_latch, because a batch needs many at
 * once; they are taken in ascending order.  Everything that writes to a
 * database of this library comes through lt_write_job, so one hash function
 * for stripes is enough.
 *
 * Conflicts
 *	 The newest version of a key that did not abort decides.  Usually only the
 *	 memtables are looked at: files_xid_end bounds the xids in files, and when
 *	 all below it finished before the writer's snapshot, no file can hold a
 *	 conflicting version.
 */
#include "lt/db.h"

#include "base/coding.h"
#include "tree/publish.h"

#define STRIPE_WORDS (LTG_LOCK_STRIPES / 64)

typedef struct StripeSet
{
	uint64_t	word[STRIPE_WORDS];
} StripeSet;

LtgStatus
lt_grow(LtgPort *port, void **mem, size_t *cap, size_t need, size_t unit)
{
	size_t		n = *cap * 2 > need ? *cap * 2 : need;
	void	   *p;

	if (*cap >= need)
		return LTG_OK;
	p = port->realloc(port, *mem, n * unit);
	if (p == NULL)
		return LTG_NOMEM;
	*mem = p;
	*cap = n;
	return LTG_OK;
}

/* ---- latches ---- */

static uint32_t
stripe_of(const LtgWrite *w)
{
	uint64_t	h = ltg_key_hash(w->key, w->key_len) + ltg_store_id(w->store) * 31;

	return (uint32_t) ((h ^ (h >> 29)) % LTG_LOCK_STRIPES);
}

static void
latch_all(LtgPort *port, const LtJob *job, StripeSet *set)
{
	memset(set, 0, sizeof(*set));
	for (uint32_t i = 0; i < job->n; i++)
	{
		uint32_t	stripe = stripe_of(&job->w[i]);

		set->word[stripe / 64] |= UINT64_C(1) << (stripe % 64);
	}
	for (uint32_t i = 0; i < STRIPE_WORDS; i++)
		for (uint64_t bits = set->word[i]; bits != 0; bits &= bits - 1)
			port->lock(port, LTG_LOCK_STRIPE_0 + i * 64 + (uint32_t) __builtin_ctzll(bits),
					   LTG_EXCLUSIVE);
}

static void
unlatch_all(LtgPort *port, const StripeSet *set)
{
	for (uint32_t i = 0; i < STRIPE_WORDS; i++)
		for (uint64_t bits = set->word[i]; bits != 0; bits &= bits - 1)
			port->unlock(port, LTG_LOCK_STRIPE_0 + i * 64 + (uint32_t) __builtin_ctzll(bits));
}

/* ---- conflicts ---- */

typedef enum Verdict
{
	V_OLDER,					/* aborted: look at the next older version */
	V_FREE,
	V_CONFLICT,
	V_WAIT						/* its writer is about to be visible */
} Verdict;

typedef struct Checker
{
	lt_db	   *db;
	const lt_txn *txn;			/* NULL: no snapshot to conflict with */
	Verdict		verdict;
} Checker;

static Verdict
judge_version(const Checker *c, const LtgVersion *v, LtgState *fate)
{
	uint64_t	csn;

	if (v->state == LTG_ABORTED)
		return V_OLDER;
	if (v->state == LTG_SETTLED || (c->txn != NULL && v->xid == c->txn->xid))
		return V_FREE;
	switch (lt_xid_fate(c->db->xids, v->xid, &csn))
	{
		case LT_FATE_RUNNING:
			return V_CONFLICT;
		case LT_FATE_COMMITTING:
			return c->txn != NULL ? V_CONFLICT : V_WAIT;
		case LT_FATE_ABORTED:
			*fate = LTG_ABORTED;
			return V_OLDER;
		case LT_FATE_COMMITTED:
			*fate = LTG_COMMITTED;
			break;
	}
	return c->txn != NULL && csn > c->txn->snap.csn ? V_CONFLICT : V_FREE;
}

/* LtgVersionFn */
static bool
check_version(void *arg, const LtgVersion *v, LtgState *fate)
{
	Checker    *c = arg;

	c->verdict = judge_version(c, v, fate);
	return c->verdict == V_OLDER;
}

/* Judge the newest version in memory that counts; V_OLDER: there is none. */
static Verdict
check_memory(LtgSession *s, const Checker *c, const LtgWrite *w)
{
	uint64_t	hash = ltg_key_hash(w->key, w->key_len);
	uint64_t	id = ltg_store_id(w->store);
	const LtgGenList *gens = ltg_generations(s);

	for (uint32_t i = 0; i < gens->n; i++)
	{
		LtgGeneration *g = gens->gen[i];
		LtgMemNode *node = ltg_mem_find(g, id, w->key, w->key_len, hash);
		LtgMemVersion *mv = node != NULL ? ltg_mem_newest(g, node) : NULL;

		for (; mv != NULL; mv = ltg_mem_older(g, mv))
		{
			LtgVersion	v;
			LtgState	fate = LTG_UNRESOLVED;
			Verdict		verdict;

			ltg_mem_read(mv, &v);
			fate = v.state;
			verdict = judge_version(c, &v, &fate);
			if (fate != v.state)
				ltg_mem_mark(mv, fate);
			if (verdict != V_OLDER)
				return verdict;
		}
	}
	return V_OLDER;
}

static LtgStatus
check_conflict(lt_db *db, LtgSession *s, const LtJob *job, const LtgWrite *w, Verdict *verdict)
{
	Checker		c = {.db = db, .txn = job->txn, .verdict = V_OLDER};
	uint64_t	safe;
	LtgStatus	st = LTG_OK;

	ltg_epoch_enter(s);
	*verdict = check_memory(s, &c, w);
	if (*verdict == V_OLDER)
	{
		/*
		 * After the generations were looked at: if one of them had just
		 * become a file, files_xid_end moved before that.
		 */
		safe = job->txn != NULL ? job->txn->snap.snap.xmin : lt_xids_oldest(db->xids);
		if (atomic_load(&db->files_xid_end) > safe)
		{
			st = ltg_versions(s, w->store, w->key, w->key_len, check_version, &c);
			*verdict = c.verdict;
		}
	}
	ltg_epoch_leave(s);
	return st;
}

static LtgStatus
check_all(lt_db *db, LtgSession *s, const LtJob *job, Verdict *verdict)
{
	for (uint32_t i = 0; i < job->n; i++)
	{
		LTG_TRY(check_conflict(db, s, job, &job->w[i], verdict));
		if (*verdict == V_CONFLICT || *verdict == V_WAIT)
			return LTG_OK;
	}
	*verdict = V_FREE;
	return LTG_OK;
}

/* ---- records ---- */

static size_t
write_record_size(const LtJob *job)
{
	size_t		size = LT_WAL_FRAME + 2 + 8 + LTG_VARINT_MAX;

	for (uint32_t i = 0; i < job->n; i++)
		size += 1 + 3 * LTG_VARINT_MAX + (size_t) job->w[i].key_len + job->w[i].v.payload_len;
	return size;
}

static uint32_t
tree_number(const LtgWrite *w)
{
	return (uint32_t) w->v.aux;
}

/* Build the WRITE record; the xid is filled in later. */
static uint32_t
build_write(uint8_t *frame, const LtJob *job)
{
	uint8_t    *p = frame + LT_WAL_FRAME;

	*p++ = LT_REC_WRITE;
	*p++ = job->txn == NULL ? LT_WRITE_COMMITS : 0;
	p += 8;
	p = ltg_put_varint(p, job->n);
	for (uint32_t i = 0; i < job->n; i++)
	{
		const LtgWrite *w = &job->w[i];

		p = ltg_put_varint(p, tree_number(w));
		*p++ = (uint8_t) w->v.kind;
		p = ltg_put_varint(p, w->key_len);
		memcpy(p, w->key, w->key_len);
		p += w->key_len;
		if (w->v.kind != LTG_PUT)
			continue;
		p = ltg_put_varint(p, w->v.payload_len);
		if (w->v.payload_len > 0)
			memcpy(p, w->v.payload, w->v.payload_len);
		p += w->v.payload_len;
	}
	return (uint32_t) (p - frame - LT_WAL_FRAME);
}

LtgStatus
lt_log_simple(lt_db *db, LtRecordType type, uint64_t number, _Atomic uint64_t *slot,
			  uint64_t slot_value, LtgSeq *lsn, LtgError *err)
{
	uint8_t		frame[LT_WAL_FRAME + 9];
	LtWalAppend a = {.frame = frame, .len = 9, .slot = slot, .slot_value = slot_value,
	.last_resort = type == LT_REC_ABORT};

	frame[LT_WAL_FRAME] = (uint8_t) type;
	ltg_store64(frame + LT_WAL_FRAME + 1, number);
	return lt_wal_append(db->wal, &a, lsn, err);
}

LtgStatus
lt_finish_commit(lt_db *db, LtgXid xid, _Atomic uint64_t *slot, LtgSeq lsn, lt_sync sync,
				 LtgError *err)
{
	LtgStatus	st = LTG_OK;
	LtgSeq		abort_lsn;

	if (sync == LT_SYNC_DEFAULT)
		sync = db->opt.sync;
	if (sync == LT_SYNC_FULL)
		st = lt_wal_sync(db->wal, lsn, err);
	else if (sync == LT_SYNC_OS)
		st = lt_wal_write(db->wal, lsn, err);
	if (LTG_LIKELY(st == LTG_OK))
	{
		lt_xid_commit(db->xids, slot);
		return LTG_OK;
	}
	/* In doubt until reopening: the slot stays LOGGED and is never visible. */
	if (lt_wal_poisoned(db->wal))
		return LTG_POISONED;
	/* The commit is in the buffer and will be written one day: take it back. */
	if (lt_log_simple(db, LT_REC_ABORT, xid, slot, LT_SLOT_ABORTED, &abort_lsn, NULL) != LTG_OK)
	{
		lt_wal_poison(db->wal);
		return LTG_POISONED;
	}
	lt_xid_abort(db->xids, slot);
	atomic_fetch_add(&db->aborts, 1);
	return st;
}

/* ---- the path ---- */

/* Log and apply; the latches are held and memory is reserved. */
static LtgStatus
log_and_apply(lt_db *db, LtSession *ses, LtJob *job, uint32_t len, LtgXid *xid,
			  _Atomic uint64_t **slot, LtgSeq *lsn)
{
	LtgSession *s = ses->s;
	LtgError	err = {0};
	LtWalAppend a = {.frame = ses->frame, .len = len};
	LtgStatus	st = LTG_OK;

	if (*slot == NULL)
	{
		st = lt_xid_new(db->xids, xid, slot);
		if (st != LTG_OK)
		{
			ltg_cancel(s);
			return ltg_fail(s, st, "too many transactions since the oldest one still open");
		}
		if (job->txn != NULL)
		{
			job->txn->xid = *xid;
			job->txn->slot = *slot;
			job->txn->snap.own_xid = *xid;
		}
	}
	ltg_store64(ses->frame + LT_WAL_FRAME + 2, *xid);
	if (job->txn == NULL)
	{
		a.slot = *slot;
		a.slot_value = LT_SLOT_LOGGED;
	}
	st = lt_wal_append(db->wal, &a, lsn, &err);
	if (st != LTG_OK)
	{
		ltg_cancel(s);
		if (job->txn == NULL)
			lt_xid_abort(db->xids, *slot);
		return ltg_fail_port(s, st, &err, 0, err.offset);
	}
	for (uint32_t i = 0; i < job->n; i++)
	{
		LtgVersion *v = &job->w[i].v;

		v->xid = *xid;
		v->aux = LTG_AUX_NONE;
		v->cid = job->txn != NULL ? job->txn->cid : 0;
	}
	ltg_apply(s, job->w, job->n, *lsn);
	return LTG_OK;
}

/* Background work is behind: wait a little, before there is anything to hold. */
static void
slow_down(LtgSession *s, const LtJob *job)
{
	uint64_t	bytes = 0;
	uint64_t	us;

	if (LTG_LIKELY(atomic_load_explicit(&s->shared->pace.allowed, memory_order_relaxed) == 0))
		return;
	for (uint32_t i = 0; i < job->n; i++)
		bytes += job->w[i].key_len + job->w[i].v.payload_len;
	us = ltg_write_delay(s, bytes);
	if (us > 0 && s->port->pause != NULL)
		s->port->pause(s->port, us, LTG_PAUSE_WRITER);
}

/*
 * Write all of the job's versions, as one log record.  w[i].v.aux carries the
 * tree's number on entry.  Keys of a job are distinct.
 */
LtgStatus
lt_write_job(lt_db *db, LtSession *ses, LtJob *job)
{
	LtgSession *s = ses->s;
	LtgPort    *port = s->port;
	_Atomic uint64_t *slot = job->txn != NULL ? job->txn->slot : NULL;
	LtgXid		xid = job->txn != NULL ? job->txn->xid : 0;
	StripeSet	set;
	LtgSeq		lsn = 0;
	LtgError	err = {0};
	uint32_t	len;
	LtgStatus	st;

	if (lt_grow(port, (void **) &ses->frame, &ses->frame_cap, write_record_size(job), 1) != LTG_OK)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a log record");
	len = build_write(ses->frame, job);
	if (len > db->record_max)
		return ltg_fail(s, LTG_TOO_LARGE, "%u bytes of changes do not fit into one log record of %u bytes",
						len, db->record_max);
	slow_down(s, job);
	for (;;)
	{
		Verdict		verdict = V_FREE;

		latch_all(port, job, &set);
		st = check_all(db, s, job, &verdict);
		if (st == LTG_OK && verdict == V_FREE)
			st = ltg_reserve(s, job->w, job->n);
		if (st == LTG_OK && verdict == V_FREE)
			break;
		unlatch_all(port, &set);
		if (st == LTG_OK && verdict == V_CONFLICT)
		{
			atomic_fetch_add(&db->conflicts, 1);
			return LTG_CONFLICT;
		}
		if (st == LTG_OK)
		{
			/* its commit is on the way; but after a failed sync it is so forever */
			if (lt_wal_poisoned(db->wal))
				return ltg_fail(s, LTG_POISONED, "an earlier sync of the log failed; reopen the database");
			db->host->yield(db->host);
		}
		else if (st == LTG_BUSY)
			LTG_TRY(lt_wait_for_room(db, ses));
		else
			return st;
	}
	st = log_and_apply(db, ses, job, len, &xid, &slot, &lsn);
	unlatch_all(port, &set);
	LTG_TRY(st);
	if (job->txn != NULL)
	{
		job->txn->cid++;
		return LTG_OK;
	}
	st = lt_finish_commit(db, xid, slot, lsn, job->sync, &err);
	if (st != LTG_OK)
		return ltg_fail_port(s, st, &err, 0, err.offset);
	return LTG_OK;
}
