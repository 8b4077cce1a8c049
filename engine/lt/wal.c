/*
 * wal.c
 *	  The writing half of the log: buffer, group commit, segments.
 *
 * A record is copied into a ring buffer under LT_MU_INSERT.  Whoever needs it
 * in the file takes LT_MU_WRITE and writes all there is.  Whoever needs it on
 * disk becomes the leader if there is none: it writes, then syncs with no lock
 * held, for everybody whose record was written by then; the others wait and
 * look again.  (Group commit without a queue: while the leader syncs, the next
 * group gathers.)
 */
#include "lt/wal_int.h"

#include <stdio.h>

#include "base/coding.h"
#include "base/crc32c.h"

/* Room that only last_resort records may use. */
#define RING_RESERVE 4096

static inline uint8_t *
ring_at(LtWal *w, LtgSeq lsn)
{
	return w->ring + (lsn & (w->opt.ring_bytes - 1));
}

static void
ring_put(LtWal *w, LtgSeq lsn, const uint8_t *data, size_t len)
{
	size_t		tail = w->opt.ring_bytes - (size_t) (lsn & (w->opt.ring_bytes - 1));

	if (LTG_LIKELY(len <= tail))
		memcpy(ring_at(w, lsn), data, len);
	else
	{
		memcpy(ring_at(w, lsn), data, tail);
		memcpy(w->ring, data + tail, len - tail);
	}
}

uint32_t
lt_wal_record_max(size_t ring_bytes)
{
	size_t		max = ring_bytes / 4 - RING_RESERVE;

	return max > 1024 * 1024 ? 1024 * 1024 : (uint32_t) max;
}

LtgStatus
lt_wal_fail(LtgError *err, LtgStatus status, const char *file, uint64_t offset,
			const char *msg)
{
	if (err != NULL && err->status == LTG_OK)
	{
		err->status = status;
		err->offset = offset;
		snprintf(err->file, sizeof(err->file), "%s", file);
		snprintf(err->msg, sizeof(err->msg), "%s", msg);
	}
	return status;
}

static LtgStatus
fail_poisoned(LtgError *err)
{
	return lt_wal_fail(err, LTG_POISONED, "", 0,
					   "an earlier sync of the log failed; reopen the database");
}

void
lt_wal_build_header(uint8_t *h, LtgSeq start, bool first)
{
	memset(h, 0, LT_WAL_HEADER);
	memcpy(h, WAL_MAGIC, 8);
	ltg_store32(h + 8, WAL_VERSION);
	ltg_store64(h + 16, start);
	ltg_store64(h + 24, first ? WAL_FLAG_FIRST : 0);
	ltg_store32(h + 12, ltg_crc32c(0, h + 16, LT_WAL_HEADER - 16));
}

/* ---- inserting; LT_MU_INSERT is held ---- */

/* Put one finished payload at *lsn into the ring; moves *lsn. */
static void
insert_record(LtWal *w, LtgSeq *lsn, uint32_t payload_crc, uint8_t *frame, uint32_t len)
{
	uint8_t		tail[12];

	ltg_store32(tail, len);
	ltg_store64(tail + 4, *lsn);
	ltg_store32(frame, ltg_crc32c(payload_crc, tail, sizeof(tail)));
	ltg_store32(frame + 4, len);
	ring_put(w, *lsn, frame, LT_WAL_FRAME + (size_t) len);
	*lsn += LT_WAL_FRAME + (LtgSeq) len;
}

/* LtWalEmitFn: collect a state record behind the earlier ones. */
static LtgStatus
collect_state(void *arg, const uint8_t *payload, uint32_t len)
{
	LtWal	   *w = arg;
	size_t		need = w->state_len + LT_WAL_FRAME + len;

	if (w->state_cap < need)
	{
		size_t		cap = need * 2;
		uint8_t    *p = w->port->realloc(w->port, w->state_buf, cap);

		if (p == NULL)
			return LTG_NOMEM;
		w->state_buf = p;
		w->state_cap = cap;
	}
	ltg_store32(w->state_buf + w->state_len + 4, len);
	memcpy(w->state_buf + w->state_len + LT_WAL_FRAME, payload, len);
	w->state_len = need;
	return LTG_OK;
}

/*
 * Begin a new segment at the insert position if there is room for its header
 * and state; otherwise the present one goes on and the next record tries again.
 */
static void
insert_boundary(LtWal *w)
{
	LtgSeq		at = atomic_load_explicit(&w->insert, memory_order_relaxed);
	LtgSeq		lsn = at + LT_WAL_HEADER;
	uint64_t	used = at - atomic_load_explicit(&w->written, memory_order_acquire);
	uint8_t		header[LT_WAL_HEADER];

	w->state_len = 0;
	if (w->opt.state(w->opt.state_arg, collect_state, w) != LTG_OK ||
		used + LT_WAL_HEADER + w->state_len > w->opt.ring_bytes / 2)
		return;
	lt_wal_build_header(header, at, at == LT_WAL_FIRST_LSN);
	ring_put(w, at, header, sizeof(header));
	for (size_t i = 0; i < w->state_len;)
	{
		uint8_t    *frame = w->state_buf + i;
		uint32_t	len = ltg_load32(frame + 4);

		insert_record(w, &lsn, ltg_crc32c(0, frame + LT_WAL_FRAME, len), frame, len);
		i += LT_WAL_FRAME + (size_t) len;
	}
	w->boundary_at = at;
	w->boundary_state_end = lsn;
	w->insert_seg = at;
	atomic_store_explicit(&w->roll_wanted, false, memory_order_relaxed);
	atomic_store_explicit(&w->boundary, true, memory_order_release);
	atomic_store_explicit(&w->insert, lsn, memory_order_release);	/* W1 */
}

#define SYNCED_LEN 9
#define SYNCED_BYTES (LT_WAL_FRAME + SYNCED_LEN)

/* Say in the log how far it is durable, if that has changed. */
static void
insert_synced(LtWal *w, LtgSeq *lsn)
{
	LtgSeq		flushed = atomic_load_explicit(&w->flushed, memory_order_relaxed);
	uint8_t		frame[SYNCED_BYTES];

	if (LTG_LIKELY(flushed == w->noted_flushed))
		return;
	frame[LT_WAL_FRAME] = LT_WAL_SYNCED;
	ltg_store64(frame + LT_WAL_FRAME + 1, flushed);
	insert_record(w, lsn, ltg_crc32c(0, frame + LT_WAL_FRAME, SYNCED_LEN), frame, SYNCED_LEN);
	w->noted_flushed = flushed;
}

static LtgStatus write_out(LtWal *w, LtgError *err);

LtgStatus
lt_wal_append(LtWal *w, const LtWalAppend *a, LtgSeq *lsn, LtgError *err)
{
	uint64_t	need = LT_WAL_FRAME + (uint64_t) a->len + SYNCED_BYTES;
	uint64_t	limit = w->opt.ring_bytes - (a->last_resort ? 0 : RING_RESERVE);
	uint32_t	crc = ltg_crc32c(0, a->frame + LT_WAL_FRAME, a->len);
	LtHost	   *h = w->host;
	LtgSeq		at;
	LtgStatus	st;

	LTG_ASSERT(w->started && a->len > 0);
	LTG_ASSERT(a->len <= lt_wal_record_max(w->opt.ring_bytes));
	for (;;)
	{
		h->lock(h, LT_MU_INSERT);
		if (LTG_UNLIKELY(atomic_load(&w->poisoned)))
		{
			h->unlock(h, LT_MU_INSERT);
			return fail_poisoned(err);
		}
		at = atomic_load_explicit(&w->insert, memory_order_relaxed);
		if (LTG_UNLIKELY(at + need - w->insert_seg > w->opt.segment_bytes ||
						 atomic_load_explicit(&w->roll_wanted, memory_order_relaxed)) &&
			!atomic_load_explicit(&w->boundary, memory_order_acquire))
		{
			insert_boundary(w);
			at = atomic_load_explicit(&w->insert, memory_order_relaxed);
		}
		if (LTG_LIKELY(at + need - atomic_load_explicit(&w->written, memory_order_acquire) <= limit))
			break;
		h->unlock(h, LT_MU_INSERT);
		h->lock(h, LT_MU_WRITE);
		st = write_out(w, err);
		h->unlock(h, LT_MU_WRITE);
		if (st != LTG_OK)
			return st;
	}
	insert_synced(w, &at);
	insert_record(w, &at, crc, a->frame, a->len);
	if (a->slot != NULL)
		atomic_store_explicit(a->slot, a->slot_value, memory_order_release);
	atomic_store_explicit(&w->insert, at, memory_order_release);	/* W1 */
	h->unlock(h, LT_MU_INSERT);
	*lsn = at;
	return LTG_OK;
}

void
lt_wal_roll(LtWal *w)
{
	LtHost	   *h = w->host;

	h->lock(h, LT_MU_INSERT);
	atomic_store(&w->roll_wanted, true);
	if (!atomic_load_explicit(&w->boundary, memory_order_acquire) && !atomic_load(&w->poisoned))
		insert_boundary(w);
	h->unlock(h, LT_MU_INSERT);
}

/* ---- writing; LT_MU_WRITE is held ---- */

static LtgStatus
poison(LtWal *w, LtgStatus st)
{
	atomic_store(&w->poisoned, true);	/* W4 */
	return st;
}

void
lt_wal_poison(LtWal *w)
{
	atomic_store(&w->poisoned, true);
}

/* Make the file of the segment that starts at the boundary. */
static LtgStatus
next_segment(LtWal *w, LtgError *err)
{
	LtHost	   *h = w->host;
	LtgPort    *port = w->port;
	LtgFile    *file;
	char		name[32];
	LtgStatus	st;

	/* two syncs of one file at once: the kernel may tell only one of an error */
	while (w->syncing)
		h->wait(h, LT_CV_SYNCED, LT_MU_WRITE, 0);
	if (atomic_load(&w->poisoned))
		return fail_poisoned(err);
	/* somebody else may have done it while this one waited */
	if (!atomic_load_explicit(&w->boundary, memory_order_acquire) ||
		atomic_load(&w->written) != w->boundary_at)
		return LTG_OK;
	if (w->n_segments == LT_WAL_SEGMENTS_MAX)
		return lt_wal_fail(err, LTG_NOSPACE, "", 0, "too many log segments wait for a flush");
	if (w->file != NULL)
	{
		st = port->file_sync(port, w->file, err);
		if (st != LTG_OK)
			return poison(w, st);
		w->n_syncs++;
		atomic_store(&w->flushed, atomic_load(&w->written));
	}
	lt_wal_name(name, w->boundary_at);
	LTG_TRY(port->file_open(port, name, LTG_OPEN_CREATE, &file, err));
	st = port->dir_sync(port, err);
	if (st != LTG_OK)
	{
		port->file_close(port, file);
		return poison(w, st);
	}
	if (w->file != NULL)
		port->file_close(port, w->file);
	w->file = file;
	w->segment[w->n_segments].start = w->boundary_at;
	w->segment[w->n_segments].state_end = w->boundary_state_end;
	w->segment[w->n_segments].first = w->boundary_at == LT_WAL_FIRST_LSN;
	w->n_segments++;
	atomic_store_explicit(&w->boundary, false, memory_order_release);
	return LTG_OK;
}

/* Everything inserted goes to the file. */
static LtgStatus
write_out(LtWal *w, LtgError *err)
{
	LtgSeq		end = atomic_load_explicit(&w->insert, memory_order_acquire);

	if (atomic_load(&w->poisoned))
		return fail_poisoned(err);
	for (;;)
	{
		LtgSeq		from = atomic_load_explicit(&w->written, memory_order_relaxed);
		LtgSeq		to = end;
		uint64_t	tail = w->opt.ring_bytes - (from & (w->opt.ring_bytes - 1));

		if (from >= end)
			return LTG_OK;
		if (atomic_load_explicit(&w->boundary, memory_order_acquire))
		{
			if (w->boundary_at == from)
			{
				LTG_TRY(next_segment(w, err));
				continue;
			}
			if (w->boundary_at < to)
				to = w->boundary_at;
		}
		if (to - from > tail)
			to = from + tail;
		LTG_TRY(w->port->file_write(w->port, w->file, ring_at(w, from), (size_t) (to - from),
									from - w->segment[w->n_segments - 1].start, err));
		w->n_writes++;
		atomic_store_explicit(&w->written, to, memory_order_release);
	}
}

LtgStatus
lt_wal_write(LtWal *w, LtgSeq lsn, LtgError *err)
{
	LtHost	   *h = w->host;
	LtgStatus	st = LTG_OK;

	if (atomic_load_explicit(&w->written, memory_order_acquire) >= lsn)
		return LTG_OK;
	h->lock(h, LT_MU_WRITE);
	if (atomic_load_explicit(&w->written, memory_order_relaxed) < lsn)
		st = write_out(w, err);
	h->unlock(h, LT_MU_WRITE);
	return st;
}

LtgStatus
lt_wal_sync(LtWal *w, LtgSeq lsn, LtgError *err)
{
	LtHost	   *h = w->host;
	LtgStatus	st = LTG_OK;
	LtgSeq		target;
	LtgFile    *file;

	if (atomic_load_explicit(&w->flushed, memory_order_acquire) >= lsn)
		return LTG_OK;
	h->lock(h, LT_MU_WRITE);
	for (;;)
	{
		if (atomic_load_explicit(&w->flushed, memory_order_relaxed) >= lsn)
			break;
		if (atomic_load(&w->poisoned))
			st = fail_poisoned(err);
		else if (w->syncing)
		{
			h->wait(h, LT_CV_SYNCED, LT_MU_WRITE, 0);
			continue;
		}
		else if (atomic_load_explicit(&w->written, memory_order_relaxed) < lsn)
		{
			/* may wait for a leader: look again at everything after it */
			st = write_out(w, err);
			if (st == LTG_OK)
				continue;
		}
		if (st != LTG_OK)
			break;

		w->syncing = true;
		target = atomic_load_explicit(&w->written, memory_order_relaxed);
		file = w->file;
		h->unlock(h, LT_MU_WRITE);
		st = w->port->file_sync(w->port, file, err);
		h->lock(h, LT_MU_WRITE);
		w->syncing = false;
		w->n_syncs++;
		if (st != LTG_OK)
			st = poison(w, st);
		else if (!atomic_load(&w->poisoned))
			atomic_store_explicit(&w->flushed, target, memory_order_release);
		h->wake_all(h, LT_CV_SYNCED);
		if (st != LTG_OK)
			break;
	}
	h->unlock(h, LT_MU_WRITE);
	return st;
}

/* ---- life ---- */

LtgStatus
lt_wal_create(LtHost *host, const LtWalOptions *opt, LtWal **wal, LtgError *err)
{
	LtgPort    *port = host->port;
	LtWal	   *w = lt_alloc_aligned(port, sizeof(*w));

	*wal = NULL;
	LTG_ASSERT((opt->ring_bytes & (opt->ring_bytes - 1)) == 0);
	if (w == NULL)
		return lt_wal_fail(err, LTG_NOMEM, "", 0, "out of memory for the log");
	w->host = host;
	w->port = port;
	w->opt = *opt;
	w->ring = port->alloc(port, opt->ring_bytes);
	w->segment = port->alloc(port, sizeof(WalSegment) * LT_WAL_SEGMENTS_MAX);
	if (w->ring == NULL || w->segment == NULL)
	{
		lt_wal_destroy(w);
		return lt_wal_fail(err, LTG_NOMEM, "", 0, "out of memory for the log buffer");
	}
	w->end = LT_WAL_FIRST_LSN;
	*wal = w;
	return LTG_OK;
}

LtgStatus
lt_wal_start(LtWal *w, LtgError *err)
{
	LtHost	   *h = w->host;
	LtgStatus	st;

	LTG_ASSERT(!w->started);
	atomic_store(&w->insert, w->end);
	atomic_store(&w->written, w->end);
	atomic_store(&w->flushed, w->end);
	w->started_at = w->end;
	h->lock(h, LT_MU_INSERT);
	insert_boundary(w);
	h->unlock(h, LT_MU_INSERT);
	if (!atomic_load(&w->boundary))
		return lt_wal_fail(err, LTG_NOMEM, "", 0, "no room for the state of transactions in the log buffer");
	st = lt_wal_sync(w, atomic_load(&w->insert), err);
	if (st == LTG_OK)
		w->started = true;
	return st;
}

void
lt_wal_destroy(LtWal *w)
{
	LtgPort    *port;

	if (w == NULL)
		return;
	port = w->port;
	if (w->file != NULL)
		port->file_close(port, w->file);
	port->free(port, w->ring);
	port->free(port, w->segment);
	port->free(port, w->state_buf);
	lt_free_aligned(port, w);
}

LtgStatus
lt_wal_trim(LtWal *w, LtgSeq durable, uint32_t *removed, LtgError *err)
{
	LtHost	   *h = w->host;
	LtgSeq		flushed = atomic_load_explicit(&w->flushed, memory_order_acquire);
	LtgStatus	st = LTG_OK;

	*removed = 0;
	for (;;)
	{
		WalSegment	old,
					next;
		char		name[32];

		h->lock(h, LT_MU_WRITE);
		if (w->n_segments < 2)
		{
			h->unlock(h, LT_MU_WRITE);
			break;
		}
		old = w->segment[0];
		next = w->segment[1];
		/*
		 * Replay begins in the last segment that starts below `durable`; its
		 * state must be there to start from.
		 */
		if (next.start >= durable || next.state_end == 0 || next.state_end > flushed)
		{
			h->unlock(h, LT_MU_WRITE);
			break;
		}
		lt_wal_name(name, old.start);
		st = w->port->file_remove(w->port, name, err);
		if (st == LTG_OK || st == LTG_NOT_FOUND)
		{
			st = LTG_OK;
			memmove(w->segment, w->segment + 1, (w->n_segments - 1) * sizeof(WalSegment));
			w->n_segments--;
			(*removed)++;
		}
		h->unlock(h, LT_MU_WRITE);
		if (st != LTG_OK)
			break;
	}
	return st;
}

LtgSeq
lt_wal_position(const LtWal *w)
{
	return atomic_load_explicit(&w->insert, memory_order_acquire);
}

LtgSeq
lt_wal_flushed(const LtWal *w)
{
	return atomic_load_explicit(&w->flushed, memory_order_acquire);
}

bool
lt_wal_poisoned(const LtWal *w)
{
	return atomic_load(&w->poisoned);
}

void
lt_wal_stats(LtWal *w, LtWalStats *s)
{
	LtHost	   *h = w->host;

	h->lock(h, LT_MU_WRITE);
	s->insert = lt_wal_position(w);
	s->written = atomic_load(&w->written);
	s->flushed = lt_wal_flushed(w);
	s->bytes = s->insert - w->started_at;
	s->writes = w->n_writes;
	s->syncs = w->n_syncs;
	s->segments = w->n_segments;
	h->unlock(h, LT_MU_WRITE);
}

void
lt_wal_name(char *buf, LtgSeq start)
{
	snprintf(buf, 32, "%016llx.wal", (unsigned long long) start);
}
