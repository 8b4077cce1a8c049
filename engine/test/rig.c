/*
 * rig.c
 *	  What tests of the storage layer share.
 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/file.h"

#define MUST(c) \
	do { \
		if (!(c)) \
		{ \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #c); \
			abort(); \
		} \
	} while (0)

static bool
interrupted(void *arg)
{
	return ((Rig *) arg)->interrupt;
}

void
rig_open(Rig *r)
{
	LtgPosixOptions opt = {.log_level = LTG_LOG_WARNING};
	LtgPosixHost host = {.arg = r, .interrupted = interrupted};
	LtgError	err = {0};

	memset(r, 0, sizeof(*r));
	snprintf(r->dir, sizeof(r->dir), "/tmp/ltg-storage-XXXXXX");
	MUST(mkdtemp(r->dir) != NULL);
	opt.dir = r->dir;
	MUST(ltg_posix_open(&opt, &r->posix, &err) == LTG_OK);
	ltg_posix_set_host(r->posix, &host);
	r->port = ltg_posix_port(r->posix);
	r->s.port = r->port;
	r->s.latched_stripe = r->s.pinned = -1;
	MUST(ltg_file_cache_create(&r->s) == LTG_OK);
}

static void
remove_one(void *arg, const char *name)
{
	Rig		   *r = arg;
	LtgError	err;

	(void) r->port->file_remove(r->port, name, &err);
}

void
rig_close(Rig *r)
{
	LtgError	err = {0};

	ltg_posix_no_faults(r->posix);
	ltg_file_cache_destroy(&r->s);
	MUST(r->port->dir_list(r->port, remove_one, r, &err) == LTG_OK);
	MUST(ltg_posix_live_allocs(r->posix) == 0);
	ltg_posix_close(r->posix);
	MUST(rmdir(r->dir) == 0);
}

const char *
rig_path(const Rig *r, const char *name, char *buf, size_t size)
{
	snprintf(buf, size, "%s/%s", r->dir, name);
	return buf;
}

const char *
rig_run_path(const Rig *r, LtgFileId id, char *buf, size_t size)
{
	char		name[LTG_NAME_MAX];

	ltg_run_name(name, id);
	return rig_path(r, name, buf, size);
}

uint64_t
rig_random(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* ---- model ---- */

static void *
copy(const void *p, size_t len)
{
	void	   *c = malloc(len + 1);

	MUST(c != NULL);
	if (len > 0)
		memcpy(c, p, len);
	return c;
}

void
model_add(Model *m, const void *key, uint32_t key_len, const LtgVersion *v)
{
	ModelEntry *e;

	if (m->n == m->cap)
	{
		m->cap = m->cap == 0 ? 64 : 2 * m->cap;
		m->e = realloc(m->e, m->cap * sizeof(ModelEntry));
		MUST(m->e != NULL);
	}
	e = &m->e[m->n++];
	e->key = copy(key, key_len);
	e->key_len = key_len;
	e->v = *v;
	e->v.payload = copy(v->payload, v->payload_len);
}

static int
entry_cmp(const void *a, const void *b)
{
	const ModelEntry *x = a;
	const ModelEntry *y = b;
	int			c = ltg_key_cmp(x->key, x->key_len, y->key, y->key_len);

	return c != 0 ? c : (x->v.seq < y->v.seq) - (x->v.seq > y->v.seq);
}

static void
entry_free(ModelEntry *e)
{
	union
	{
		const uint8_t *c;
		void	   *p;
	}			payload = {e->v.payload};

	free(e->key);
	free(payload.p);
}

void
model_sort(Model *m)
{
	uint32_t	i;
	uint32_t	n = 0;

	if (m->n == 0)
		return;
	qsort(m->e, m->n, sizeof(ModelEntry), entry_cmp);
	for (i = 0; i < m->n; i++)
	{
		if (n > 0 && entry_cmp(&m->e[n - 1], &m->e[i]) == 0)
			entry_free(&m->e[i]);
		else
			m->e[n++] = m->e[i];
	}
	m->n = n;
}

void
model_free(Model *m)
{
	uint32_t	i;

	for (i = 0; i < m->n; i++)
		entry_free(&m->e[i]);
	free(m->e);
	memset(m, 0, sizeof(*m));
}

LtgXid
rig_writer(uint32_t pattern, uint32_t i, uint64_t *rnd)
{
	uint64_t	x = rig_random(rnd);

	switch (pattern % RIG_WRITER_PATTERNS)
	{
		case 0:
			return 0;
		case 1:
			return 1234567;
		case 2:					/* a load, and few that came later */
			return x % 16 == 0 ? UINT64_C(0x500000000) + x / 16 % 5 : 3;
		case 3:
			return 70000 + i;
		case 4:					/* all over a long life */
			return 3 + x % UINT64_C(0x7FFFFFFFF);
		case 5:					/* many, far apart */
			return 3 + x % 400 * UINT64_C(0x10000000000);
		case 6:
			return x % 2 == 0 ? 0 : 4711;
		default:
			return x % 3 == 0 ? 0 : x % 3 == 1 ? UINT64_MAX - x % 77 : 1 + x % 99;
	}
}

LtgVersion
model_expect(const LtgVersion *v)
{
	LtgVersion	x = *v;

	if (x.state == LTG_SETTLED)
	{
		x.cid = 0;
		if (x.kind == LTG_PUT)
			x.seq = 0;
		else
			x.xid = 0;
	}
	if (x.kind == LTG_PUT)
		x.aux = 0;
	return x;
}

void
model_compare(const LtgVersion *got, const LtgVersion *wrote)
{
	LtgVersion	x = model_expect(wrote);

	MUST(got->kind == x.kind);
	MUST(got->state == x.state);
	MUST(got->tag == x.tag);
	MUST(got->flags == x.flags);
	MUST(got->cid == x.cid);
	MUST(got->xid == x.xid);
	MUST(got->seq == x.seq);
	MUST(got->aux == x.aux);
	MUST(got->payload_len == x.payload_len);
	MUST(((uintptr_t) got->payload & 7) == 0);
	MUST(x.payload_len == 0 || memcmp(got->payload, x.payload, x.payload_len) == 0);
}

LtgRunOptions
rig_options(void)
{
	LtgRunOptions opt = {
		.block_size = 16384,
		.codec = LTG_CODEC_ADAPTIVE,
		.zstd_level = 1,
		.filter_bits_per_key = 10,
	};

	return opt;
}

LtgStatus
model_write(Rig *r, const Model *m, LtgFileId id, const LtgRunOptions *opt, LtgRunRef *ref)
{
	LtgFileWriter *w;
	LtgStatus	st;
	uint64_t	bytes;
	uint32_t	i;

	LTG_TRY(ltg_writer_open(&r->s, id, opt, &w));
	st = ltg_writer_begin_run(w, "store", 5, opt);
	for (i = 0; i < m->n && st == LTG_OK; i++)
		st = ltg_writer_add(w, m->e[i].key, m->e[i].key_len, &m->e[i].v);
	if (st == LTG_OK)
		st = ltg_writer_end_run(w, ref);
	if (st == LTG_OK)
		st = ltg_writer_finish(w, &bytes);
	if (st != LTG_OK)
		ltg_writer_abort(w);
	else
		ltg_writer_free(w);
	return st;
}
