/*
 * file.c
 *	  Names of data files, and the per-session cache of open ones.
 *
 * The cache is a small array ordered by nothing; each slot remembers when it
 * was last used.  A session rarely reads from more than a few dozen files, and
 * a linear scan over the ids (one array of 64-bit numbers) costs less than the
 * read that follows.
 *
 * Closing handles of removed files: s->files_removed counts removals anywhere.
 * When it moved since this session last looked, every handle is closed; that
 * happens once per removal round, and reopening is cheap.
 */
#include "storage/file.h"

#include <stdio.h>

#include "storage/blockio.h"

#define FILES_MAX 128

struct LtgFileCache
{
	uint32_t	n;
	uint64_t	clock;			/* grows with each look-up */
	uint64_t	removed_seen;	/* value of *s->files_removed */
	LtgFileId	id[FILES_MAX];
	uint64_t	used[FILES_MAX];
	LtgFile    *file[FILES_MAX];
};

void
ltg_run_name(char *buf, LtgFileId id)
{
	snprintf(buf, LTG_NAME_MAX, "%016llx.run", (unsigned long long) id);
}

void
ltg_run_tmp_name(char *buf, LtgFileId id)
{
	snprintf(buf, LTG_NAME_MAX, "%016llx.run.tmp", (unsigned long long) id);
}

bool
ltg_parse_name(const char *name, const char *suffix, uint64_t *number, bool *is_tmp)
{
	uint64_t	v = 0;
	size_t		len = strlen(suffix);

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
	if (strncmp(name + 16, suffix, len) != 0)
		return false;
	*is_tmp = strcmp(name + 16 + len, ".tmp") == 0;
	*number = v;
	return *is_tmp || name[16 + len] == '\0';
}

bool
ltg_parse_run_name(const char *name, LtgFileId *id, bool *is_tmp)
{
	return ltg_parse_name(name, ".run", id, is_tmp);
}

LtgStatus
ltg_file_cache_create(LtgSession *s)
{
	LtgFileCache *fc = s->port->alloc(s->port, sizeof(LtgFileCache));

	if (fc == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for the table of open files");
	memset(fc, 0, sizeof(*fc));
	if (s->files_removed != NULL)
		fc->removed_seen = atomic_load(s->files_removed);
	s->files = fc;
	return LTG_OK;
}

void
ltg_file_cache_destroy(LtgSession *s)
{
	ltg_blockio_free(s);
	if (s->files == NULL)
		return;
	ltg_file_cache_close_all(s);
	s->port->free(s->port, s->files);
	s->files = NULL;
}

void
ltg_file_cache_close_all(LtgSession *s)
{
	LtgFileCache *fc = s->files;
	uint32_t	i;

	if (fc == NULL)
		return;
	for (i = 0; i < fc->n; i++)
		s->port->file_close(s->port, fc->file[i]);
	fc->n = 0;
}

LtgStatus
ltg_file_get(LtgSession *s, LtgFileId id, LtgFile **file)
{
	LtgFileCache *fc = s->files;
	char		name[LTG_NAME_MAX];
	LtgError	e = {0};
	LtgStatus	st;
	uint32_t	i;
	uint32_t	victim = 0;

	LTG_ASSERT(fc != NULL && id != 0);
	if (s->files_removed != NULL)
	{
		uint64_t	now = atomic_load_explicit(s->files_removed, memory_order_acquire);

		if (LTG_UNLIKELY(now != fc->removed_seen))
		{
			ltg_file_cache_close_all(s);
			fc->removed_seen = now;
		}
	}
	for (i = 0; i < fc->n; i++)
	{
		if (fc->id[i] == id)
		{
			fc->used[i] = ++fc->clock;
			*file = fc->file[i];
			return LTG_OK;
		}
		if (fc->used[i] < fc->used[victim])
			victim = i;
	}

	if (fc->n == FILES_MAX)
	{
		s->port->file_close(s->port, fc->file[victim]);
		fc->n--;
		fc->id[victim] = fc->id[fc->n];
		fc->used[victim] = fc->used[fc->n];
		fc->file[victim] = fc->file[fc->n];
	}
	ltg_run_name(name, id);
	st = s->port->file_open(s->port, name, LTG_OPEN_READ, file, &e);
	if (st == LTG_NOT_FOUND)
		return ltg_fail_corrupt(s, id, 0, "data file is missing");
	if (st != LTG_OK)
		return ltg_fail_port(s, st, &e, id, 0);
	i = fc->n++;
	fc->id[i] = id;
	fc->used[i] = ++fc->clock;
	fc->file[i] = *file;
	return LTG_OK;
}
