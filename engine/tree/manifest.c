/*
 * manifest.c
 *	  Encoding and decoding manifests and their edits (format: manifest.h).
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
#define MAGIC_EDIT UINT64_C(0x315449444547544c)	/* "LTGEDIT1" */
#define FILE_SIZE 16
#define STORE_SIZE 64
#define STORE_SIZE_V1 56
#define DROP_SIZE 32
#define REMOVED_SIZE 24
#define MERGED_SIZE (8 + 8 + 2 + LTG_BOUND_BYTES)

/* ---- names ---- */

void
ltg_manifest_copy_name(char *buf, uint64_t number, int copy, bool tmp)
{
	snprintf(buf, LTG_NAME_MAX, "%016llx.manifest%s%s", (unsigned long long) number,
			 copy == 0 ? "" : "2", tmp ? ".tmp" : "");
}

void
ltg_manifest_name(char *buf, uint64_t number)
{
	ltg_manifest_copy_name(buf, number, 0, false);
}

void
ltg_manifest_tmp_name(char *buf, uint64_t number)
{
	ltg_manifest_copy_name(buf, number, 0, true);
}

bool
ltg_parse_manifest_name(const char *name, uint64_t *number, bool *is_tmp)
{
	return ltg_parse_name(name, ".manifest", number, is_tmp) ||
		ltg_parse_name(name, ".manifest2", number, is_tmp);
}

LtgStatus
ltg_manifest_failed(LtgSession *s, uint64_t number, LtgStatus st, const char *fmt,...)
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
	if (m->removed != NULL)
		port->free(port, m->removed);
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
	m->files[m->h.n_files++] = (LtgManifestFile) {id, bytes, m->h.number};
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

LtgStatus
ltg_manifest_add_removed(LtgSession *s, LtgManifest *m, const LtgManifestRemoved *r)
{
	LTG_TRY(grow(s, (void **) &m->removed, m->h.n_removed, &m->cap_removed, sizeof(*m->removed)));
	m->removed[m->h.n_removed++] = *r;
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
	p = put64(p, h->edit ? MAGIC_EDIT : MAGIC);
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
	p = put32(p, h->n_merged);
	(void) put32(p, h->n_removed);
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
		(uint64_t) h->n_drops * DROP_SIZE + (uint64_t) h->n_merged * MERGED_SIZE +
		(uint64_t) h->n_removed * REMOVED_SIZE + 4;
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
	for (uint32_t i = 0; i < m->h.n_removed; i++)
	{
		p = put64(p, m->removed[i].store_id);
		p = put64(p, m->removed[i].file);
		p = put64(p, m->removed[i].root_offset);
	}
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
decode_header(LtgSession *s, const uint8_t *buf, uint64_t number, bool edit, LtgManifestHeader *h)
{
	LtgReader	r = ltg_reader(buf, LTG_MANIFEST_HEADER);
	uint64_t	magic = ltg_read_u64(&r);
	uint32_t	version = ltg_read_u32(&r);
	uint32_t	header = ltg_read_u32(&r);
	uint32_t	crc = ltg_crc32c(0, buf, LTG_MANIFEST_HEADER - 4);

	if (magic != (edit ? MAGIC_EDIT : MAGIC))
		return ltg_manifest_failed(s, number, LTG_CORRUPT, "manifest has a wrong magic number");
	if (crc != ltg_load32(buf + LTG_MANIFEST_HEADER - 4))
		return ltg_manifest_failed(s, number, LTG_CORRUPT, "manifest header has checksum %08X, expected %08X",
					crc, ltg_load32(buf + LTG_MANIFEST_HEADER - 4));
	if (version == 0 || version > LTG_MANIFEST_VERSION)
		return ltg_manifest_failed(s, number, LTG_VERSION,
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
	h->n_removed = version >= 5 ? ltg_read_u32(&r) : 0;
	h->edit = edit;
	if (header != LTG_MANIFEST_HEADER || (edit ? h->number <= number : h->number != number) ||
		(!edit && h->n_removed != 0) ||
		h->bytes < manifest_bytes(h, 1))
		return ltg_manifest_failed(s, number, LTG_CORRUPT, "manifest header contradicts itself or its name");
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
bool
ltg_manifest_consistent(LtgManifest *m)
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
		LtgManifestFile want = {.id = m->runs[i].file};
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
	for (uint32_t i = 0; i < h->n_removed && ltg_reader_ok(r); i++)
	{
		LtgManifestRemoved d;

		d.store_id = ltg_read_u64(r);
		d.file = ltg_read_u64(r);
		d.root_offset = ltg_read_u64(r);
		LTG_TRY(ltg_manifest_add_removed(s, m, &d));
	}
	return LTG_OK;
}

/* The checkpoint or edit at the start of buf. */
static LtgStatus
decode(LtgSession *s, const uint8_t *buf, size_t len, uint64_t number, bool edit, LtgManifest *m)
{
	LtgManifestHeader h = {0};
	LtgReader	r;
	LtgStatus	st;
	uint32_t	crc;

	if (len < LTG_MANIFEST_HEADER + 4)
		return ltg_manifest_failed(s, number, LTG_CORRUPT, "manifest is %zu bytes long, too short", len);
	LTG_TRY(decode_header(s, buf, number, edit, &h));
	if (h.version < 5 ? h.bytes != len : h.bytes > len)
		return ltg_manifest_failed(s, number, LTG_CORRUPT, "manifest is %zu bytes long, expected %llu",
								   len, (unsigned long long) h.bytes);
	len = (size_t) h.bytes;
	crc = ltg_crc32c(0, buf, len - 4);
	if (crc != ltg_load32(buf + len - 4))
		return ltg_manifest_failed(s, number, LTG_CORRUPT, "manifest has checksum %08X, expected %08X",
								   crc, ltg_load32(buf + len - 4));

	r = ltg_reader(buf + LTG_MANIFEST_HEADER, len - LTG_MANIFEST_HEADER - 4);
	m->h.number = h.number;
	st = decode_body(s, &r, m, &h);
	if (st == LTG_OK && (!ltg_reader_ok(&r) || ltg_reader_left(&r) != 0))
		st = ltg_manifest_failed(s, number, LTG_CORRUPT, "manifest contains impossible values");
	m->h = st == LTG_OK ? h : m->h;
	if (st == LTG_OK && !edit && !ltg_manifest_consistent(m))
		st = ltg_manifest_failed(s, number, LTG_CORRUPT, "manifest refers to what it does not contain");
	if (st != LTG_OK)
		ltg_manifest_free(s, m);
	return st;
}

LtgStatus
ltg_manifest_decode(LtgSession *s, const uint8_t *buf, size_t len, uint64_t number,
					LtgManifest *m)
{
	return decode(s, buf, len, number, false, m);
}

LtgStatus
ltg_edit_decode(LtgSession *s, const uint8_t *buf, size_t len, uint64_t number, LtgManifest *m)
{
	return decode(s, buf, len, number, true, m);
}
