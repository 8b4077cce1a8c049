/*
 * wal_read.c
 *	  The reading half of the log: finding segments, replaying records.
 *
 * Single-threaded, before the log is started.  What is read here becomes the
 * truth, so each segment is synced before its records are handed on: after the
 * end of a process they may be in the system's cache only.
 */
#include "lt/wal_int.h"

#include <stdio.h>

#include "base/coding.h"
#include "base/crc32c.h"

bool
lt_wal_parse_name(const char *name, LtgSeq *start)
{
	uint64_t	v = 0;

	for (int i = 0; i < 16; i++)
	{
		char		c = name[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (uint64_t) (c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint64_t) (c - 'a' + 10);
		else
			return false;
	}
	*start = v;
	return strcmp(name + 16, ".wal") == 0;
}

/* LtgDirFn: remember the segment in order of its start. */
static void
note_segment(void *arg, const char *name)
{
	LtWal	   *w = arg;
	LtgSeq		start;
	uint32_t	i;

	if (!lt_wal_parse_name(name, &start) || w->n_segments == LT_WAL_SEGMENTS_MAX)
		return;
	for (i = w->n_segments; i > 0 && w->segment[i - 1].start > start; i--)
		w->segment[i] = w->segment[i - 1];
	w->segment[i].start = start;
	w->segment[i].state_end = start;	/* on disk already, see trim */
	w->segment[i].first = false;
	w->n_segments++;
}

/* *usable = false: the header was never written as a whole. */
static LtgStatus
read_header(LtWal *w, WalSegment *seg, bool *usable, LtgError *err)
{
	LtgPort    *port = w->port;
	uint8_t		h[LT_WAL_HEADER];
	char		name[32];
	LtgFile    *file;
	size_t		n;
	LtgStatus	st;

	*usable = false;
	lt_wal_name(name, seg->start);
	st = port->file_open(port, name, LTG_OPEN_READ, &file, err);
	if (st != LTG_OK)
		return st == LTG_NOT_FOUND ? lt_wal_fail(err, LTG_CORRUPT, name, 0, "log segment is missing") : st;
	st = port->file_read(port, file, h, sizeof(h), 0, &n, err);
	port->file_close(port, file);
	LTG_TRY(st);
	/* never written: W3 */
	if (n < sizeof(h) || (h[0] == 0 && memcmp(h, h + 1, sizeof(h) - 1) == 0))
		return LTG_OK;
	if (memcmp(h, WAL_MAGIC, 8) != 0 ||
		ltg_load32(h + 12) != ltg_crc32c(0, h + 16, LT_WAL_HEADER - 16) ||
		ltg_load64(h + 16) != seg->start)
		return lt_wal_fail(err, LTG_CORRUPT, name, 0, "log segment has a damaged header");
	if (ltg_load32(h + 8) != WAL_VERSION)
		return lt_wal_fail(err, LTG_VERSION, name, 8, "log segment has an unknown format");
	seg->first = (ltg_load64(h + 24) & WAL_FLAG_FIRST) != 0;
	*usable = true;
	return LTG_OK;
}

LtgStatus
lt_wal_scan(LtWal *w, uint32_t *n, LtgError *err)
{
	LtgPort    *port = w->port;
	bool		usable = true;
	uint32_t	i;

	w->n_segments = 0;
	*n = 0;
	LTG_TRY(port->dir_list(port, note_segment, w, err));
	if (w->n_segments == LT_WAL_SEGMENTS_MAX)
		return lt_wal_fail(err, LTG_NOSHMEM, "", 0, "too many log segments");
	for (i = 0; i < w->n_segments; i++)
	{
		LTG_TRY(read_header(w, &w->segment[i], &usable, err));
		if (!usable)
			break;
	}
	if (i + 1 < w->n_segments)
	{
		/* W3: only the last one can have been made without a header */
		char		name[32];

		lt_wal_name(name, w->segment[i].start);
		return lt_wal_fail(err, LTG_CORRUPT, name, 0, "log segment has a damaged header");
	}
	if (i < w->n_segments)
	{
		char		name[32];

		lt_wal_name(name, w->segment[i].start);
		LTG_TRY(port->file_remove(port, name, err));
		LTG_TRY(port->dir_sync(port, err));
		w->n_segments--;
	}
	*n = w->n_segments;
	return LTG_OK;
}

typedef struct Reader
{
	LtWal	   *w;
	LtgFile    *file;
	uint64_t	start;			/* LSN of the file's first byte */
	uint8_t    *buf;
	size_t		cap;
	uint64_t	buf_at;			/* LSN of buf[0] */
	size_t		len;
	bool		eof;
} Reader;

/* Have `need` bytes from LSN `at` in the buffer; fewer at the end of the file. */
static LtgStatus
fill(Reader *r, LtgSeq at, size_t need, LtgError *err)
{
	size_t		skip = (size_t) (at - r->buf_at);
	size_t		n;

	if (r->len - skip >= need || r->eof)
		return LTG_OK;
	memmove(r->buf, r->buf + skip, r->len - skip);
	r->len -= skip;
	r->buf_at = at;
	LTG_TRY(r->w->port->file_read(r->w->port, r->file, r->buf + r->len, r->cap - r->len,
								  r->buf_at + r->len - r->start, &n, err));
	r->eof = n < r->cap - r->len;
	r->len += n;
	return LTG_OK;
}

/* The record at *at, if there is a whole one: *payload set, *at moved. */
static LtgStatus
next_record(Reader *r, LtgSeq *at, const uint8_t **payload, uint32_t *len, LtgError *err)
{
	uint32_t	max = lt_wal_record_max(r->w->opt.ring_bytes);
	const uint8_t *p;
	uint8_t		tail[12];
	size_t		have;

	*payload = NULL;
	LTG_TRY(fill(r, *at, LT_WAL_FRAME, err));
	have = r->len - (size_t) (*at - r->buf_at);
	if (have < LT_WAL_FRAME)
		return LTG_OK;
	p = r->buf + (*at - r->buf_at);
	*len = ltg_load32(p + 4);
	/* written with a larger buffer than now: still at most the format's limit */
	if (max < 1024 * 1024)
		max = 1024 * 1024;
	if (*len == 0 || *len > max)
		return LTG_OK;
	LTG_TRY(fill(r, *at, LT_WAL_FRAME + (size_t) *len, err));
	have = r->len - (size_t) (*at - r->buf_at);
	if (have < LT_WAL_FRAME + (size_t) *len)
		return LTG_OK;
	p = r->buf + (*at - r->buf_at);
	ltg_store32(tail, *len);
	ltg_store64(tail + 4, *at);
	if (ltg_load32(p) != ltg_crc32c(ltg_crc32c(0, p + LT_WAL_FRAME, *len), tail, sizeof(tail)))
		return LTG_OK;
	*payload = p + LT_WAL_FRAME;
	*at += LT_WAL_FRAME + (LtgSeq) *len;
	return LTG_OK;
}

/*
 * The record at `at` is not whole.  Is there a record behind it, in what is
 * left of the segment, that vouches for it?  (The reader is left anywhere.)
 */
static LtgStatus
vouched_for(Reader *r, LtgSeq at, bool *vouched, LtgError *err)
{
	const uint32_t want = 9;

	*vouched = false;
	for (LtgSeq q = at + 1;; q++)
	{
		const uint8_t *payload;
		uint32_t	len = 0;
		LtgSeq		end = q;

		if (!r->eof)
			LTG_TRY(fill(r, q, LT_WAL_FRAME + want, err));
		if ((size_t) (q - r->buf_at) + LT_WAL_FRAME + want > r->len)
			return LTG_OK;
		payload = r->buf + (q - r->buf_at) + LT_WAL_FRAME;
		if (payload[0] != LT_WAL_SYNCED || ltg_load32(payload - 4) != want)
			continue;
		LTG_TRY(next_record(r, &end, &payload, &len, err));
		if (payload != NULL && ltg_load64(payload + 1) > at)
		{
			*vouched = true;
			return LTG_OK;
		}
	}
}

/* Replay segment i from its start; *at ends after its last record. */
static LtgStatus
replay_segment(LtWal *w, uint32_t i, uint8_t *buf, size_t cap, LtWalRecordFn fn,
			   void *arg, LtgSeq *at, LtgError *err)
{
	LtgPort    *port = w->port;
	bool		last = i + 1 == w->n_segments;
	bool		vouched = false;
	Reader		r = {.w = w, .start = w->segment[i].start, .buf = buf, .cap = cap};
	uint64_t	size = 0;
	char		name[32];
	LtgStatus	st;

	lt_wal_name(name, r.start);
	st = port->file_open(port, name, LTG_OPEN_READ, &r.file, err);
	if (st != LTG_OK)
		return st == LTG_NOT_FOUND ? lt_wal_fail(err, LTG_CORRUPT, name, 0, "log segment is missing") : st;
	st = port->file_sync(port, r.file, err);
	if (st == LTG_OK)
		st = port->file_size(port, r.file, &size, err);
	*at = r.buf_at = r.start + LT_WAL_HEADER;
	while (st == LTG_OK && (last || *at < w->segment[i + 1].start))
	{
		const uint8_t *payload;
		uint32_t	len = 0;

		st = next_record(&r, at, &payload, &len, err);
		if (st != LTG_OK || payload == NULL)
			break;
		if (payload[0] != LT_WAL_SYNCED)
			st = fn(arg, payload, len, *at);
	}
	if (st == LTG_OK && last)
		st = vouched_for(&r, *at, &vouched, err);
	if (st == LTG_OK && vouched)
		st = lt_wal_fail(err, LTG_CORRUPT, name, *at - r.start, "log record is damaged");
	if (st == LTG_OK && !last && *at != w->segment[i + 1].start)
		st = lt_wal_fail(err, LTG_CORRUPT, name, *at - r.start, "log record is damaged");	/* W3 */
	if (st == LTG_OK && last && size > *at - r.start)
		w->torn = size - (*at - r.start);
	port->file_close(port, r.file);
	return st;
}

LtgStatus
lt_wal_replay(LtWal *w, LtgSeq from, LtWalRecordFn fn, void *arg, LtgError *err)
{
	LtgPort    *port = w->port;
	size_t		cap = 3 * 1024 * 1024;
	uint32_t	i = w->n_segments;
	LtgSeq		at = LT_WAL_FIRST_LSN;
	uint8_t    *buf;
	LtgStatus	st = LTG_OK;

	w->torn = 0;
	if (w->n_segments == 0)
	{
		w->end = LT_WAL_FIRST_LSN;
		return LTG_OK;
	}
	/*
	 * The last segment that starts below `from`.  One that starts at it will
	 * not do: its state records may not have reached the disk.
	 */
	while (i > 0 && w->segment[i - 1].start >= from)
		i--;
	if (i > 0)
		i--;
	if ((from == 0 && !w->segment[i].first) || (from != 0 && w->segment[i].start > from))
		return lt_wal_fail(err, LTG_CORRUPT, "", w->segment[i].start,
						   "the log begins after the end of the data files");
	buf = port->alloc(port, cap);
	if (buf == NULL)
		return lt_wal_fail(err, LTG_NOMEM, "", 0, "out of memory for reading the log");
	for (; i < w->n_segments && st == LTG_OK; i++)
		st = replay_segment(w, i, buf, cap, fn, arg, &at, err);
	port->free(port, buf);
	LTG_TRY(st);
	if (at < from)
		return lt_wal_fail(err, LTG_CORRUPT, "", at, "the log ends before the data files do");
	w->end = at;
	return LTG_OK;
}

LtgSeq
lt_wal_end(const LtWal *w)
{
	return w->end;
}

uint64_t
lt_wal_torn_bytes(const LtWal *w)
{
	return w->torn;
}
