/*
 * manifest.c
 *	  Encoding, decoding, writing and reading manifests (format: manifest.h).
 *
 * Nothing here touches the shared region; everything is private memory of the
 * session.  Every count and reference of a decoded manifest has been checked,
 * so that its users need not.
 */
#include "tree/manifest.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/coding.h"
#include "base/crc32c.h"
#include "storage/file.h"
#include "tree/state.h"

#define MAGIC UINT64_C(0x31494e414d47544c)	/* "LTGMANI1" */
#define FILE_SIZE 16
#define STORE_SIZE 64
#define STORE_SIZE_V1 56
#define DROP_SIZE 32
#define MERGED_SIZE (8 + 8 + 2 + LTG_BOUND_BYTES)

/* ---- names ---- */

void
ltg_manifest_name(char *buf, uint64_t number)
{
	snprintf(buf, LTG_NAME_MAX, "%016llx.manifest", (unsigned long long) number);
}

void
ltg_manifest_tmp_name(char *buf, uint64_t number)
{
	snprintf(buf, LTG_NAME_MAX, "%016llx.manifest.tmp", (unsigned long long) number);
}

bool
ltg_parse_manifest_name(const char *name, uint64_t *number, bool *is_tmp)
{
	return ltg_parse_name(name, ".manifest", number, is_tmp);
}

/* An error that names the manifest. */
static LtgStatus damaged(LtgSession *s, uint64_t number, LtgStatus st, const char *fmt,...)
			__attribute__((format(printf, 4, 5)));

static LtgStatus
damaged(LtgSession *s, uint64_t number, LtgStatus st, const char *fmt,...)
{
	bool		first = s->err.status == LTG_OK;
	char		msg[sizeof(s->err.msg)];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(msg, sizeof(msg), fmt, args);
	va_end(args);
	(void) ltg_fail(s, st, "%s", msg);
	if (first)
		ltg_manifest_name(s->err.file, number);
	return st;
}

/* ---- building ---- */

void
ltg_manifest_free(LtgSession *s, LtgManifest *m)
{
	LtgPort    *port = s->port;

	if (m->files != NULL)
		port->free(port, m->files);
	if (m->stores != NULL)
		port->free(port, m->stores);
	if (m->runs != NULL)
		port->free(port, m->runs);
	if (m->drops != NULL)
		port->free(port, m->drops);
	if (m->merged != NULL)
		port->free(port, m->merged);
	memset(m, 0, sizeof(*m));
}

/* Room for one more element; *array has n of them and room for *cap. */
static LtgStatus
grow(LtgSession *s, void **array, uint32_t n, uint32_t *cap, size_t size)
{
	uint32_t	want;
	void	   *p;

	if (n < *cap)
		return LTG_OK;
	want = *cap == 0 ? 16 : *cap * 2;
	p = *array == NULL ? s->port->alloc(s->port, want * size) :
		s->port->realloc(s->port, *array, want * size);
	if (p == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a manifest");
	*array = p;
	*cap = want;
	return LTG_OK;
}

LtgStatus
ltg_manifest_add_file(LtgSession *s, LtgManifest *m, LtgFileId id, uint64_t bytes)
{
	LTG_TRY(grow(s, (void **) &m->files, m->h.n_files, &m->cap_files, sizeof(*m->files)));
	m->files[m->h.n_files++] = (LtgManifestFile) {id, bytes};
	return LTG_OK;
}

LtgStatus
ltg_manifest_add_store(LtgSession *s, LtgManifest *m, const LtgManifestStore *st)
{
	LTG_TRY(grow(s, (void **) &m->stores, m->h.n_stores, &m->cap_stores, sizeof(*m->stores)));
	m->stores[m->h.n_stores] = *st;
	m->stores[m->h.n_stores].n_runs = 0;
	m->stores[m->h.n_stores].first_run = m->h.n_runs;
	m->h.n_stores++;
	return LTG_OK;
}

LtgStatus
ltg_manifest_add_run(LtgSession *s, LtgManifest *m, const LtgRunRef *ref)
{
	LTG_ASSERT(m->h.n_stores > 0);
	LTG_TRY(grow(s, (void **) &m->runs, m->h.n_runs, &m->cap_runs, sizeof(*m->runs)));
	m->runs[m->h.n_runs++] = *ref;
	m->stores[m->h.n_stores - 1].n_runs++;
	return LTG_OK;
}

LtgStatus
ltg_manifest_add_drop(LtgSession *s, LtgManifest *m, const LtgManifestDrop *d)
{
	LTG_TRY(grow(s, (void **) &m->drops, m->h.n_drops, &m->cap_drops, sizeof(*m->drops)));
	m->drops[m->h.n_drops++] = *d;
	return LTG_OK;
}

LtgStatus
ltg_manifest_add_merged(LtgSession *s, LtgManifest *m, const LtgManifestMerged *g)
{
	LTG_TRY(grow(s, (void **) &m->merged, m->h.n_merged, &m->cap_merged, sizeof(*m->merged)));
	m->merged[m->h.n_merged++] = *g;
	return LTG_OK;
}

/* ---- encoding ---- */

static uint8_t *
put32(uint8_t *p, uint32_t v)
{
	ltg_store32(p, v);
	return p + 4;
}

static uint8_t *
put64(uint8_t *p, uint64_t v)
{
	ltg_store64(p, v);
	return p + 8;
}

static uint8_t *
put_key(uint8_t *p, const LtgStoreKey *k)
{
	p = put32(p, k->space);
	p = put32(p, k->database);
	p = put32(p, k->relation);
	return put32(p, (uint32_t) k->backend);
}

static uint8_t *
put_merged(uint8_t *p, const LtgManifestMerged *g)
{
	const LtgBound *below = &g->merged.below;

	p = put64(p, g->store_id);
	p = put64(p, g->merged.upto);
	*p++ = g->merged.all;
	*p++ = below->len;
	memset(p, 0, LTG_BOUND_BYTES);
	memcpy(p, below->bytes, below->len);
	return p + LTG_BOUND_BYTES;
}

static void
put_header(uint8_t *p, const LtgManifestHeader *h)
{
	uint8_t    *start = p;

	memset(p, 0, LTG_MANIFEST_HEADER);
	p = put64(p, MAGIC);
	p = put32(p, LTG_MANIFEST_VERSION);
	p = put32(p, LTG_MANIFEST_HEADER);
	p = put64(p, h->bytes);
	p = put64(p, h->number);
	p = put64(p, h->durable);
	p = put64(p, h->next_file_id);
	p = put64(p, h->next_store_id);
	p = put64(p, h->next_unlogged_seq);
	p = put32(p, h->n_files);
	p = put32(p, h->n_stores);
	p = put32(p, h->n_runs);
	p = put32(p, h->n_drops);
	(void) put32(p, h->n_merged);
	ltg_store32(start + LTG_MANIFEST_HEADER - 4,
				ltg_crc32c(0, start, LTG_MANIFEST_HEADER - 4));
}

/* With runs that take run_size bytes each. */
static uint64_t
manifest_bytes(const LtgManifestHeader *h, uint32_t run_size)
{
	uint32_t	store_size = h->version == 1 ? STORE_SIZE_V1 : STORE_SIZE;

	return LTG_MANIFEST_HEADER + (uint64_t) h->n_files * FILE_SIZE +
		(uint64_t) h->n_stores * store_size + (uint64_t) h->n_runs * run_size +
		(uint64_t) h->n_drops * DROP_SIZE + (uint64_t) h->n_merged * MERGED_SIZE + 4;
}

LtgStatus
ltg_manifest_encode(LtgSession *s, LtgManifest *m, uint8_t **buf, size_t *len)
{
	uint64_t	most;
	uint8_t    *start,
			   *p;

	m->h.version = LTG_MANIFEST_VERSION;
	most = manifest_bytes(&m->h, LTG_RUN_REF_MAX + 1);
	start = s->port->alloc(s->port, most);
	if (start == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a manifest of %llu bytes",
						(unsigned long long) most);
	p = start + LTG_MANIFEST_HEADER;
	for (uint32_t i = 0; i < m->h.n_files; i++)
	{
		p = put64(p, m->files[i].id);
		p = put64(p, m->files[i].bytes);
	}
	for (uint32_t i = 0; i < m->h.n_stores; i++)
	{
		const LtgManifestStore *st = &m->stores[i];

		p = put64(p, st->id);
		p = put_key(p, &st->key);
		p = put64(p, st->stamp);
		p = put32(p, st->flags);
		p = put32(p, st->n_runs);
		p = put64(p, st->next_rowid);
		p = put64(p, st->graves_cleared);
		p = put64(p, st->options);
	}
	for (uint32_t i = 0; i < m->h.n_runs; i++)
	{
		p += ltg_run_ref_encode(p, &m->runs[i]);
		*p++ = m->runs[i].cut;
	}
	for (uint32_t i = 0; i < m->h.n_drops; i++)
	{
		p = put_key(p, &m->drops[i].key);
		p = put64(p, m->drops[i].stamp);
		p = put64(p, m->drops[i].at);
	}
	for (uint32_t i = 0; i < m->h.n_merged; i++)
		p = put_merged(p, &m->merged[i]);
	m->h.bytes = (uint64_t) (p - start) + 4;
	LTG_ASSERT(m->h.bytes <= most);
	put_header(start, &m->h);
	(void) put32(p, ltg_crc32c(0, start, (size_t) (p - start)));
	*buf = start;
	*len = m->h.bytes;
	return LTG_OK;
}

/* ---- decoding ---- */

/* buf has at least LTG_MANIFEST_HEADER bytes. */
static LtgStatus
decode_header(LtgSession *s, const uint8_t *buf, uint64_t number, LtgManifestHeader *h)
{
	LtgReader	r = ltg_reader(buf, LTG_MANIFEST_HEADER);
	uint64_t	magic = ltg_read_u64(&r);
	uint32_t	version = ltg_read_u32(&r);
	uint32_t	header = ltg_read_u32(&r);
	uint32_t	crc = ltg_crc32c(0, buf, LTG_MANIFEST_HEADER - 4);

	if (magic != MAGIC)
		return damaged(s, number, LTG_CORRUPT, "manifest has a wrong magic number");
	if (crc != ltg_load32(buf + LTG_MANIFEST_HEADER - 4))
		return damaged(s, number, LTG_CORRUPT, "manifest header has checksum %08X, expected %08X",
					crc, ltg_load32(buf + LTG_MANIFEST_HEADER - 4));
	if (version == 0 || version > LTG_MANIFEST_VERSION)
		return damaged(s, number, LTG_VERSION,
					"manifest has format version %u, this library knows versions up to %d",
					version, LTG_MANIFEST_VERSION);
	h->version = version;
	h->bytes = ltg_read_u64(&r);
	h->number = ltg_read_u64(&r);
	h->durable = ltg_read_u64(&r);
	h->next_file_id = ltg_read_u64(&r);
	h->next_store_id = ltg_read_u64(&r);
	h->next_unlogged_seq = ltg_read_u64(&r);
	h->n_files = ltg_read_u32(&r);
	h->n_stores = ltg_read_u32(&r);
	h->n_runs = ltg_read_u32(&r);
	h->n_drops = ltg_read_u32(&r);
	h->n_merged = version >= 4 ? ltg_read_u32(&r) : 0;
	if (header != LTG_MANIFEST_HEADER || h->number != number ||
		h->bytes < manifest_bytes(h, 1))
		return damaged(s, number, LTG_CORRUPT, "manifest header contradicts itself or its name");
	return LTG_OK;
}

static void
get_key(LtgReader *r, LtgStoreKey *k)
{
	k->space = ltg_read_u32(r);
	k->database = ltg_read_u32(r);
	k->relation = ltg_read_u32(r);
	k->backend = (int32_t) ltg_read_u32(r);
}

static void
get_merged(LtgReader *r, LtgManifestMerged *g)
{
	LtgMerged  *m = &g->merged;
	const uint8_t *bytes;
	uint8_t		all;

	memset(g, 0, sizeof(*g));
	g->store_id = ltg_read_u64(r);
	m->upto = ltg_read_u64(r);
	all = ltg_read_u8(r);
	m->all = all == 1;
	m->below.len = ltg_read_u8(r);
	bytes = ltg_read_bytes(r, LTG_BOUND_BYTES);
	if (all > 1 || m->below.len > LTG_BOUND_BYTES || bytes == NULL)
		r->failed = true;
	else
		memcpy(m->below.bytes, bytes, m->below.len);
}

static int
compare_file(const void *a, const void *b)
{
	LtgFileId	x = ((const LtgManifestFile *) a)->id,
				y = ((const LtgManifestFile *) b)->id;

	return (x > y) - (x < y);
}

/* References and counts: all that users of a decoded manifest rely on. */
static bool
manifest_consistent(LtgManifest *m)
{
	if (m->h.n_files > 1)
		qsort(m->files, m->h.n_files, sizeof(*m->files), compare_file);
	for (uint32_t i = 0; i < m->h.n_files; i++)
		if (m->files[i].id == 0 || m->files[i].id >= m->h.next_file_id ||
			(i > 0 && m->files[i - 1].id == m->files[i].id))
			return false;
	for (uint32_t i = 0; i < m->h.n_stores; i++)
	{
		LtgStoreOptions opt;

		if (m->stores[i].id == 0 || m->stores[i].id >= m->h.next_store_id ||
			!ltg_store_options_unpack(m->stores[i].options, &opt))
			return false;
	}
	for (uint32_t i = 0; i < m->h.n_runs; i++)
	{
		LtgManifestFile want = {m->runs[i].file, 0};
		LtgManifestFile *f = m->h.n_files == 0 ? NULL :
			bsearch(&want, m->files, m->h.n_files, sizeof(want), compare_file);

		if (f == NULL || m->runs[i].root_offset >= f->bytes ||
			m->runs[i].root_disk_len > f->bytes - m->runs[i].root_offset)
			return false;
	}
	return true;
}

static LtgStatus
decode_body(LtgSession *s, LtgReader *r, LtgManifest *m, const LtgManifestHeader *h)
{
	uint64_t	runs = 0;

	for (uint32_t i = 0; i < h->n_files && ltg_reader_ok(r); i++)
	{
		LtgFileId	id = ltg_read_u64(r);

		LTG_TRY(ltg_manifest_add_file(s, m, id, ltg_read_u64(r)));
	}
	for (uint32_t i = 0; i < h->n_stores && ltg_reader_ok(r); i++)
	{
		LtgManifestStore st;

		st.id = ltg_read_u64(r);
		get_key(r, &st.key);
		st.stamp = ltg_read_u64(r);
		st.flags = ltg_read_u32(r);
		st.n_runs = ltg_read_u32(r);
		st.next_rowid = ltg_read_u64(r);
		st.graves_cleared = ltg_read_u64(r);
		st.options = h->version == 1 ? 0 : ltg_read_u64(r);
		st.first_run = (uint32_t) runs;
		runs += st.n_runs;
		if (runs > h->n_runs)
			r->failed = true;
		LTG_TRY(ltg_manifest_add_store(s, m, &st));
		m->stores[i].n_runs = st.n_runs;
		m->stores[i].first_run = st.first_run;
	}
	if (runs != h->n_runs)
		r->failed = true;
	for (uint32_t i = 0; i < h->n_runs && ltg_reader_ok(r); i++)
	{
		LtgRunRef	ref;

		if (!ltg_run_ref_decode(r, h->version, &ref) || ref.level >= LTG_LEVELS_MAX)
			r->failed = true;
		if (h->version >= 3)
		{
			uint8_t		cut = ltg_read_u8(r);

			ref.cut = cut == 1;
			if (cut > 1 || (ref.cut && ref.min_key.truncated))
				r->failed = true;
		}
		LTG_TRY(grow(s, (void **) &m->runs, m->h.n_runs, &m->cap_runs, sizeof(*m->runs)));
		m->runs[m->h.n_runs++] = ref;
	}
	for (uint32_t i = 0; i < h->n_drops && ltg_reader_ok(r); i++)
	{
		LtgManifestDrop d;

		get_key(r, &d.key);
		d.stamp = ltg_read_u64(r);
		d.at = ltg_read_u64(r);
		LTG_TRY(ltg_manifest_add_drop(s, m, &d));
	}
	for (uint32_t i = 0; i < h->n_merged && ltg_reader_ok(r); i++)
	{
		LtgManifestMerged g;

		get_merged(r, &g);
		LTG_TRY(ltg_manifest_add_merged(s, m, &g));
	}
	return LTG_OK;
}

LtgStatus
ltg_manifest_decode(LtgSession *s, const uint8_t *buf, size_t len, uint64_t number,
					LtgManifest *m)
{
	LtgManifestHeader h = {0};
	LtgReader	r;
	LtgStatus	st;
	uint32_t	crc;

	if (len < LTG_MANIFEST_HEADER + 4)
		return damaged(s, number, LTG_CORRUPT, "manifest is %zu bytes long, too short", len);
	LTG_TRY(decode_header(s, buf, number, &h));
	if (h.bytes != len)
		return damaged(s, number, LTG_CORRUPT, "manifest is %zu bytes long, expected %llu",
					len, (unsigned long long) h.bytes);
	crc = ltg_crc32c(0, buf, len - 4);
	if (crc != ltg_load32(buf + len - 4))
		return damaged(s, number, LTG_CORRUPT, "manifest has checksum %08X, expected %08X",
					crc, ltg_load32(buf + len - 4));

	r = ltg_reader(buf + LTG_MANIFEST_HEADER, len - LTG_MANIFEST_HEADER - 4);
	st = decode_body(s, &r, m, &h);
	if (st == LTG_OK && (!ltg_reader_ok(&r) || ltg_reader_left(&r) != 0))
		st = damaged(s, number, LTG_CORRUPT, "manifest contains impossible values");
	if (st == LTG_OK)
	{
		m->h = h;
		if (!manifest_consistent(m))
			st = damaged(s, number, LTG_CORRUPT, "manifest refers to what it does not contain");
	}
	if (st != LTG_OK)
		ltg_manifest_free(s, m);
	return st;
}

/* ---- files ---- */

/*
 * Until the rename the file has a temporary name; after it, a failure must
 * take the final one away again: the caller goes on as if this manifest had
 * never been, and will remove files that it names.
 */
static LtgStatus
write_file(LtgSession *s, uint64_t number, const uint8_t *buf, size_t len)
{
	LtgPort    *port = s->port;
	LtgError	e = {0},
				ignored = {0};
	LtgFile    *file = NULL;
	char		tmp[LTG_NAME_MAX],
				name[LTG_NAME_MAX];
	LtgStatus	st;

	ltg_manifest_tmp_name(tmp, number);
	ltg_manifest_name(name, number);
	st = port->file_open(port, tmp, LTG_OPEN_CREATE, &file, &e);
	if (st != LTG_OK)
		return ltg_port_failed(s, st, &e);
	st = port->file_write(port, file, buf, len, 0, &e);
	if (st == LTG_OK)
		st = port->file_sync(port, file, &e);
	port->file_close(port, file);
	LTG_STOP_POINT(port, "manifest:before-rename");
	if (st == LTG_OK)
		st = port->file_rename(port, tmp, name, &e);
	if (st != LTG_OK)
	{
		(void) ltg_port_failed(s, st, &e);
		if (port->file_remove(port, tmp, &ignored) != LTG_OK)
			port->log(port, LTG_LOG_WARNING, "could not remove a temporary manifest");
		return st;
	}
	st = port->dir_sync(port, &e);
	if (st != LTG_OK)
	{
		(void) ltg_port_failed(s, st, &e);
		if (port->file_remove(port, name, &ignored) != LTG_OK)
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

	LTG_TRY(ltg_manifest_encode(s, m, &buf, &len));
	st = write_file(s, m->h.number, buf, len);
	s->port->free(s->port, buf);
	return st;
}

/* The first max bytes of the manifest; *buf from port->alloc. */
static LtgStatus
read_file(LtgSession *s, uint64_t number, size_t max, uint8_t **buf, size_t *len)
{
	LtgPort    *port = s->port;
	LtgError	e = {0};
	LtgFile    *file = NULL;
	uint64_t	size = 0;
	size_t		nread = 0;
	char		name[LTG_NAME_MAX];
	LtgStatus	st;

	*buf = NULL;
	ltg_manifest_name(name, number);
	st = port->file_open(port, name, LTG_OPEN_READ, &file, &e);
	if (st == LTG_NOT_FOUND)
		return st;
	if (st != LTG_OK)
		return ltg_port_failed(s, st, &e);
	st = port->file_size(port, file, &size, &e);
	if (st == LTG_OK)
	{
		*len = size < max ? (size_t) size : max;
		*buf = port->alloc(port, *len + 1);
		if (*buf == NULL)
			st = ltg_fail(s, LTG_NOMEM, "out of memory for a manifest of %zu bytes", *len);
	}
	if (st == LTG_OK)
		st = port->file_read(port, file, *buf, *len, 0, &nread, &e);
	port->file_close(port, file);
	*len = nread;
	if (st != LTG_OK)
	{
		if (*buf != NULL)
			port->free(port, *buf);
		*buf = NULL;
		return st == LTG_NOMEM ? st : ltg_port_failed(s, st, &e);
	}
	return LTG_OK;
}

LtgStatus
ltg_manifest_read(LtgSession *s, uint64_t number, LtgManifest *m)
{
	uint8_t    *buf;
	size_t		len = 0;
	LtgStatus	st;

	LTG_TRY(read_file(s, number, SIZE_MAX - 1, &buf, &len));
	st = ltg_manifest_decode(s, buf, len, number, m);
	s->port->free(s->port, buf);
	return st;
}

LtgStatus
ltg_manifest_read_header(LtgSession *s, uint64_t number, LtgManifestHeader *h)
{
	uint8_t    *buf;
	size_t		len = 0;
	LtgStatus	st;

	LTG_TRY(read_file(s, number, LTG_MANIFEST_HEADER, &buf, &len));
	if (len < LTG_MANIFEST_HEADER)
		st = damaged(s, number, LTG_CORRUPT, "manifest is %zu bytes long, too short", len);
	else
		st = decode_header(s, buf, number, h);
	s->port->free(s->port, buf);
	return st;
}

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
	*n = l.n;
	return LTG_OK;
}
