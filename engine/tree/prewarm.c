/*
 * prewarm.c
 *	  What was in the cache, kept over a restart: a list of blocks in a file.
 *
 * The list is a hint and nothing depends on it: it is not synced, it may be older
 * than the files, and it may be damaged.  Its checksum covers all of it; each
 * block that it names passes its own checksum, which covers file and offset,
 * before it enters the cache; files that are not in use are passed over.
 *
 * Layout, little-endian (FORMAT.md)
 *	 0		8	magic
 *	 8		4	format version
 *	 12		4	number of blocks n
 *	 16		17n file (8), offset (8), heat (1): the hottest first
 *	 last	4	CRC-32C of everything before
 */
#include "ltg.h"

#include <stdlib.h>

#include "base/coding.h"
#include "base/crc32c.h"
#include "storage/blockio.h"
#include "storage/cache.h"
#include "tree/publish.h"
#include "tree/shared.h"
#include "tree/state.h"

#define NAME "prewarm"
#define TMP_NAME "prewarm.tmp"
#define MAGIC UINT64_C(0x314d52415747544c)	/* "LTGWARM1" */
#define VERSION 1
#define HEAD 16
#define ENTRY 17

/* By heat; within it in the order of the files, so that they are read ahead. */
static int
compare_blocks(const void *a, const void *b)
{
	const LtgCachedBlock *x = a,
			   *y = b;

	if (x->heat != y->heat)
		return x->heat > y->heat ? -1 : 1;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

/* ---- saving ---- */

static LtgStatus
write_list(LtgSession *s, const uint8_t *buf, size_t len)
{
	LtgPort    *port = s->port;
	LtgError	e = {0},
				ignored = {0};
	LtgFile    *file = NULL;
	LtgStatus	st;

	st = port->file_remove(port, TMP_NAME, &e);
	if (st != LTG_OK && st != LTG_NOT_FOUND)
		return ltg_fail_port(s, st, &e, 0, 0);
	st = port->file_open(port, TMP_NAME, LTG_OPEN_CREATE, &file, &e);
	if (st != LTG_OK)
		return ltg_fail_port(s, st, &e, 0, 0);
	st = port->file_write(port, file, buf, len, 0, &e);
	port->file_close(port, file);
	if (st == LTG_OK)
		st = port->file_rename(port, TMP_NAME, NAME, &e);
	if (st != LTG_OK)
	{
		(void) port->file_remove(port, TMP_NAME, &ignored);
		return ltg_fail_port(s, st, &e, 0, 0);
	}
	return LTG_OK;
}

LtgStatus
ltg_prewarm_save(LtgSession *s, uint64_t *blocks)
{
	LtgPort    *port = s->port;
	LtgCacheStats stats;
	LtgCachedBlock *list;
	uint8_t    *buf,
			   *p;
	uint32_t	n;
	size_t		len;
	LtgStatus	st;

	*blocks = 0;
	ltg_cache_stats(s, s->cache, &stats);
	if (stats.frames == 0)
		return LTG_OK;
	list = port->alloc(port, stats.frames * sizeof(LtgCachedBlock));
	buf = port->alloc(port, HEAD + stats.frames * ENTRY + 4);
	if (list == NULL || buf == NULL)
	{
		if (list != NULL)
			port->free(port, list);
		if (buf != NULL)
			port->free(port, buf);
		return ltg_fail(s, LTG_NOMEM, "out of memory for a list of %llu blocks",
						(unsigned long long) stats.frames);
	}
	n = ltg_cache_list(s, s->cache, list, (uint32_t) stats.frames);
	if (n > 1)
		qsort(list, n, sizeof(LtgCachedBlock), compare_blocks);
	ltg_store64(buf, MAGIC);
	ltg_store32(buf + 8, VERSION);
	ltg_store32(buf + 12, n);
	p = buf + HEAD;
	for (uint32_t i = 0; i < n; i++, p += ENTRY)
	{
		ltg_store64(p, list[i].file);
		ltg_store64(p + 8, list[i].offset);
		p[16] = list[i].heat;
	}
	ltg_store32(p, ltg_crc32c(0, buf, (size_t) (p - buf)));
	len = (size_t) (p - buf) + 4;
	st = write_list(s, buf, len);
	port->free(port, list);
	port->free(port, buf);
	if (st == LTG_OK)
		*blocks = n;
	return st;
}

/* ---- reading back ---- */

/* The whole file in *buf; LTG_NOT_FOUND when there is none. */
static LtgStatus
read_list(LtgSession *s, uint8_t **buf, size_t *len)
{
	LtgPort    *port = s->port;
	LtgError	e = {0};
	LtgFile    *file = NULL;
	uint64_t	size = 0;
	LtgStatus	st;

	*buf = NULL;
	*len = 0;
	st = port->file_open(port, NAME, LTG_OPEN_READ, &file, &e);
	if (st == LTG_NOT_FOUND)
		return st;
	if (st == LTG_OK)
		st = port->file_size(port, file, &size, &e);
	if (st == LTG_OK && size > HEAD + (uint64_t) UINT32_MAX * ENTRY)
		size = 0;				/* no list of ours */
	if (st == LTG_OK && size > 0)
	{
		*buf = port->alloc(port, size);
		if (*buf == NULL)
		{
			port->file_close(port, file);
			return ltg_fail(s, LTG_NOMEM, "out of memory for a file of %llu bytes",
							(unsigned long long) size);
		}
		st = port->file_read(port, file, *buf, size, 0, len, &e);
	}
	if (file != NULL)
		port->file_close(port, file);
	return st == LTG_OK ? LTG_OK : ltg_fail_port(s, st, &e, 0, 0);
}

static bool
list_whole(const uint8_t *buf, size_t len)
{
	return len >= HEAD + 4 && ltg_load64(buf) == MAGIC && ltg_load32(buf + 8) == VERSION &&
		len == HEAD + (uint64_t) ltg_load32(buf + 12) * ENTRY + 4 &&
		ltg_load32(buf + len - 4) == ltg_crc32c(0, buf, len - 4);
}

static bool
file_in_use(LtgSession *s, LtgFileId id)
{
	const LtgSharedFile *f;
	bool		used;

	s->port->lock(s->port, LTG_LOCK_META, LTG_SHARED);
	f = ltg_file_entry(s->shared, id);
	used = f != NULL && f->obsolete_at == 0 && !f->missing;
	s->port->unlock(s->port, LTG_LOCK_META);
	return used;
}

/*
 * Dictionaries of the runs there are, by file.  Only of files whose runs have one
 * in common, or there is but one run: which run a block of another file belongs
 * to can't be told, and the wrong dictionary might go unnoticed.
 */
typedef struct Dictionaries
{
	LtgBlockPtr *of;			/* offset and disk_len are not set */
	uint32_t	n,
				cap;
	LtgPort    *port;
} Dictionaries;

static bool
note_dictionaries(void *arg, LtgStore *store)
{
	Dictionaries *d = arg;
	const LtgRunSet *rs = atomic_load_explicit(&store->runs, memory_order_acquire);

	for (uint32_t i = 0; rs != NULL && i < rs->n; i++)
	{
		LtgBlockPtr p = ltg_run_block(&rs->run[i], 0, 0);

		if (d->n == d->cap)
		{
			uint32_t	cap = d->cap == 0 ? 64 : d->cap * 2;
			void	   *of = d->port->realloc(d->port, d->of, cap * sizeof(LtgBlockPtr));

			if (of == NULL)
				return false;	/* those that are not known are not brought in */
			d->of = of;
			d->cap = cap;
		}
		d->of[d->n++] = p;
	}
	return true;
}

static int
compare_files(const void *a, const void *b)
{
	LtgFileId	x = ((const LtgBlockPtr *) a)->file,
				y = ((const LtgBlockPtr *) b)->file;

	return (x > y) - (x < y);
}

static void
collect_dictionaries(LtgSession *s, Dictionaries *d)
{
	uint32_t	n = 0;

	memset(d, 0, sizeof(*d));
	d->port = s->port;
	ltg_epoch_enter(s);
	ltg_each_store(s, note_dictionaries, d);
	ltg_epoch_leave(s);
	if (d->n > 1)
		qsort(d->of, d->n, sizeof(LtgBlockPtr), compare_files);
	/* one per file; of a file whose runs differ, none is used */
	for (uint32_t i = 0; i < d->n; i++)
	{
		if (n == 0 || d->of[n - 1].file != d->of[i].file)
			d->of[n++] = d->of[i];
		else if (d->of[n - 1].dict_disk_len == 0 || d->of[i].dict_disk_len == 0 ||
				 d->of[n - 1].dict_id != d->of[i].dict_id)
			d->of[n - 1].dict_disk_len = 0;
	}
	d->n = n;
}

/* The block at that place, with what is known of its dictionary. */
static LtgBlockPtr
place_of(const Dictionaries *d, LtgFileId file, uint64_t offset)
{
	LtgBlockPtr at = {.file = file};
	const LtgBlockPtr *known = d->n == 0 ? NULL :
		bsearch(&at, d->of, d->n, sizeof(LtgBlockPtr), compare_files);

	if (known != NULL)
		at = *known;
	at.offset = offset;
	return at;
}

static LtgStatus
warm(LtgSession *s, const Dictionaries *d, const uint8_t *list, uint32_t n, LtgPrewarmResult *r)
{
	LtgFileId	checked = 0;
	bool		used = false;

	for (uint32_t i = 0; i < n; i++, list += ENTRY)
	{
		LtgFileId	file = ltg_load64(list);
		LtgBlockPtr at;
		LtgStatus	st;

		if (i % 16 == 0 && s->port->interrupted(s->port))
			return LTG_INTERRUPTED;
		if (ltg_cache_full(s, s->cache))
		{
			r->full = true;
			break;
		}
		if (file != checked || i % 256 == 0)
			used = file_in_use(s, checked = file);
		if (!used)
		{
			r->gone++;
			continue;
		}
		at = place_of(d, file, ltg_load64(list + 8));
		ltg_epoch_enter(s);
		st = ltg_block_warm(s, &at, list[16] >= LTG_HEAT_FREQUENT);
		ltg_epoch_leave(s);
		if (st == LTG_OK)
			r->read++;
		else if (st == LTG_NOT_FOUND)
			r->present++;
		else if (st == LTG_NOMEM || st == LTG_HOST_ERROR)
			return st;
		else
		{
			/* gone meanwhile, or not of this file any more: readers will tell */
			ltg_clear_error(s);
			r->gone++;
		}
	}
	return LTG_OK;
}

LtgStatus
ltg_prewarm_load(LtgSession *s, LtgPrewarmResult *r)
{
	uint8_t    *buf;
	size_t		len;
	LtgStatus	st;

	memset(r, 0, sizeof(*r));
	st = read_list(s, &buf, &len);
	if (st == LTG_OK && !list_whole(buf, len))
		r->damaged = true;
	else if (st == LTG_OK)
	{
		Dictionaries d;

		r->listed = ltg_load32(buf + 12);
		collect_dictionaries(s, &d);
		st = warm(s, &d, buf + HEAD, (uint32_t) r->listed, r);
		if (d.of != NULL)
			s->port->free(s->port, d.of);
	}
	if (buf != NULL)
		s->port->free(s->port, buf);
	return st;
}
