/*
 * versions.c
 *	  Reading all versions of keys.
 *
 * Judging a version may wait for a lock, read the commit log and throw, which
 * must not happen inside an epoch of the engine.  So the versions of one key
 * are collected first (copied out, where the engine's memory is only lent) and
 * judged afterwards.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "lightning.h"
#include "versions.h"

#define VERSIONS_MIN 4
#define BYTES_KEEP (64 * 1024)

void
lightning_versions_init(LightningVersions *kv)
{
	memset(kv, 0, sizeof(*kv));
	kv->context = CurrentMemoryContext;
	kv->max = VERSIONS_MIN;
	kv->v = palloc(sizeof(LtgVersion) * VERSIONS_MIN);
}

void
lightning_versions_free(LightningVersions *kv)
{
	pfree(kv->v);
	if (kv->bytes != NULL)
		pfree(kv->bytes);
	kv->v = NULL;
	kv->bytes = NULL;
}

/*
 * Make room for one more version and, if it is to be copied, its payload.
 * Called inside an epoch too: must not throw; false when out of memory.
 */
static bool
make_room(LightningVersions *kv, uint32 len)
{
	Size		need = kv->bytes_used + MAXALIGN(len);

	if (kv->n == kv->max)
	{
		LtgVersion *v = MemoryContextAllocExtended(kv->context, sizeof(LtgVersion) * kv->max * 2,
												   MCXT_ALLOC_NO_OOM);

		if (v == NULL)
			return false;
		memcpy(v, kv->v, sizeof(LtgVersion) * kv->n);
		pfree(kv->v);
		kv->v = v;
		kv->max *= 2;
	}
	if (need > kv->bytes_size)
	{
		Size		size = Max(need * 2, (Size) 1024);
		uint8	   *bytes = MemoryContextAllocExtended(kv->context, size,
													   MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);

		if (bytes == NULL)
			return false;
		if (kv->bytes != NULL)
		{
			memcpy(bytes, kv->bytes, kv->bytes_used);
			/* what was copied so far moves along */
			for (int i = 0; i < kv->n; i++)
			{
				if (kv->v[i].payload >= kv->bytes && kv->v[i].payload < kv->bytes + kv->bytes_used)
					kv->v[i].payload = bytes + (kv->v[i].payload - kv->bytes);
			}
			pfree(kv->bytes);
		}
		kv->bytes = bytes;
		kv->bytes_size = size;
	}
	return true;
}

static bool
add_copy(LightningVersions *kv, const LtgVersion *v)
{
	LtgVersion *mine;

	if (!make_room(kv, v->payload_len))
	{
		kv->failed = true;
		return false;
	}
	mine = &kv->v[kv->n++];
	*mine = *v;
	mine->payload = NULL;
	if (v->payload_len > 0)
	{
		mine->payload = kv->bytes + kv->bytes_used;
		memcpy(kv->bytes + kv->bytes_used, v->payload, v->payload_len);
		kv->bytes_used += MAXALIGN(v->payload_len);
	}
	return true;
}

static void
empty(LightningVersions *kv, uint64 rowid)
{
	kv->rowid = rowid;
	kv->n = 0;
	kv->bytes_used = 0;
	kv->failed = false;
	if (kv->bytes_size > BYTES_KEEP)
	{
		pfree(kv->bytes);
		kv->bytes = NULL;
		kv->bytes_size = 0;
	}
}

static void
out_of_memory(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory"),
			 errdetail("Failed while collecting the versions of a row.")));
}

typedef struct Collect
{
	LightningVersions *kv;
	LtgXid		enough_below;	/* a committed version by an older writer is the
								 * last one wanted */
} Collect;

static bool
collect(void *arg, const LtgVersion *v, LtgState *fate)
{
	Collect    *c = arg;

	if (!add_copy(c->kv, v))
		return false;
	if (v->state == LTG_SETTLED)
		return false;
	return !(v->state == LTG_COMMITTED && v->xid < c->enough_below);
}

static void
versions_get(Relation rel, uint64 rowid, LtgXid enough_below, LightningVersions *kv)
{
	LtgSession *s = lightning_session();
	Collect		c = {kv, enough_below};
	uint8		key[LIGHTNING_KEY_LEN];
	LtgStatus	st;

	empty(kv, rowid);
	lightning_rowid_key(key, rowid);
	st = ltg_versions(s, lightning_rel(rel).store, key, LIGHTNING_KEY_LEN, collect, &c);
	lightning_blocks_done(s, rel);
	if (kv->failed)
		out_of_memory();
	lightning_report(s, st, rel);
}

void
lightning_versions_get(Relation rel, uint64 rowid, bool latest_only, LightningVersions *kv)
{
	versions_get(rel, rowid, latest_only ? UINT64_MAX : 0, kv);
}

/*
 * A row that is updated over and over may have thousands of versions that are
 * not settled yet: no more of them than the snapshot can make use of.
 */
void
lightning_versions_get_for(Relation rel, uint64 rowid, Snapshot snap, LightningVersions *kv)
{
	LtgXid		enough_below = 0;

	if (snap->snapshot_type == SNAPSHOT_DIRTY || snap->snapshot_type == SNAPSHOT_SELF)
		enough_below = UINT64_MAX;
	else if (IsMVCCSnapshot(snap) && TransactionIdIsNormal(snap->xmin))
		enough_below = lightning_widen_xid(snap->xmin);
	versions_get(rel, rowid, enough_below, kv);
}

/* ---- ranges ---- */

static void
guard_close(void *arg)
{
	LightningScanGuard *guard = arg;

	if (guard->scan != NULL)
		ltg_scan_close(guard->scan);
	guard->scan = NULL;
}

LightningScanGuard *
lightning_guard_create(void)
{
	LightningScanGuard *guard = palloc0(sizeof(*guard));

	guard->callback.func = guard_close;
	guard->callback.arg = guard;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &guard->callback);
	return guard;
}

struct LightningVersionScan
{
	Relation	rel;
	LightningScanGuard *guard;
	LtgBatch	batch;
	uint32		at;				/* next row of the batch */
	bool		started;
	bool		done;
	uint8		lo[LIGHTNING_KEY_LEN];
	uint8		hi[LIGHTNING_KEY_LEN];
	LtgScanOptions opt;
	LightningVersions kv;
};

static void
set_range(LightningVersionScan *scan, uint64 lo, uint64 hi, bool backward)
{
	lightning_rowid_key(scan->lo, lo);
	lightning_rowid_key(scan->hi, hi);
	scan->opt.lo = scan->lo;
	scan->opt.hi = scan->hi;
	scan->opt.lo_len = scan->opt.hi_len = LIGHTNING_KEY_LEN;
	scan->opt.backward = backward;
	scan->batch.n = 0;
	scan->at = 0;
	scan->done = lo >= hi;
	scan->started = false;
}

LightningVersionScan *
lightning_versions_open(Relation rel, uint64 lo, uint64 hi, bool backward)
{
	LightningVersionScan *scan = palloc0(sizeof(*scan));

	scan->rel = rel;
	scan->guard = lightning_guard_create();
	lightning_versions_init(&scan->kv);
	set_range(scan, lo, hi, backward);
	return scan;
}

void
lightning_versions_restart(LightningVersionScan *scan, uint64 lo, uint64 hi, bool backward)
{
	set_range(scan, lo, hi, backward);
}

static bool
next_batch(LightningVersionScan *scan)
{
	LtgSession *s = lightning_session();
	LtgStatus	st = LTG_OK;

	CHECK_FOR_INTERRUPTS();
	if (!scan->started)
	{
		if (scan->guard->scan == NULL)
			st = ltg_scan_open(s, lightning_rel(scan->rel).store, &scan->opt, &scan->guard->scan);
		else
			st = ltg_scan_restart(scan->guard->scan, &scan->opt);
		lightning_report(s, st, scan->rel);
		scan->started = true;
	}
	scan->at = 0;
	scan->batch.n = 0;
	do
	{
		st = ltg_scan_next(scan->guard->scan, &scan->batch);
	} while (st == LTG_OK && scan->batch.n == 0);
	lightning_blocks_done(s, scan->rel);
	if (st == LTG_END)
	{
		scan->batch.n = 0;
		scan->done = true;
		return false;
	}
	lightning_report(s, st, scan->rel);
	return true;
}

/* Payloads that point into the batch, before the batch goes. */
static void
keep_payloads(LightningVersions *kv)
{
	int			n = kv->n;

	kv->n = 0;
	kv->bytes_used = 0;
	for (int i = 0; i < n; i++)
	{
		LtgVersion	v = kv->v[i];

		if (!add_copy(kv, &v))
			out_of_memory();
	}
}

LightningVersions *
lightning_versions_next(LightningVersionScan *scan)
{
	LightningVersions *kv = &scan->kv;
	bool		copied = false;

	empty(kv, 0);
	for (;;)
	{
		const uint8 *key;
		uint32		key_len;
		LtgVersion	v;

		if (scan->at >= scan->batch.n)
		{
			if (kv->n > 0 && !copied && !scan->done)
			{
				/* the key may go on in the next batch */
				keep_payloads(kv);
				copied = true;
			}
			if (scan->done || !next_batch(scan))
				return kv->n > 0 ? kv : NULL;
		}
		ltg_batch_row(scan->guard->scan, scan->at, &key, &key_len, &v);
		if (kv->n > 0 && lightning_key_rowid(key) != kv->rowid)
			return kv;
		kv->rowid = lightning_key_rowid(key);
		scan->at++;
		if (copied)
		{
			if (!add_copy(kv, &v))
				out_of_memory();
		}
		else
		{
			if (!make_room(kv, 0))
				out_of_memory();
			kv->v[kv->n++] = v;
		}
	}
}

void
lightning_versions_keys_only(LightningVersionScan *scan)
{
	scan->opt.keys_only = true;
}

void
lightning_versions_ignore_from(LightningVersionScan *scan, LtgXid xid)
{
	scan->opt.ignore_from = xid;
}

bool
lightning_versions_span(LightningVersionScan *scan, LtgSpan *span)
{
	if (scan->at >= scan->batch.n && (scan->done || !next_batch(scan)))
		return false;
	ltg_batch_span(scan->guard->scan, scan->at, span);
	return span->n > 0;
}

void
lightning_versions_pass(LightningVersionScan *scan, uint32 n)
{
	Assert(n <= scan->batch.n - scan->at);
	scan->at += n;
}

void
lightning_versions_close(LightningVersionScan *scan)
{
	if (scan->guard->scan != NULL)
		ltg_scan_close(scan->guard->scan);
	scan->guard->scan = NULL;
	lightning_versions_free(&scan->kv);
	/* the guard stays registered with its memory context */
	pfree(scan);
}
