/*
 * status.c
 *	  Status names, and the session's record of its last error.
 *
 * The first error wins: what fails while an operation is being unwound is
 * nearly always a consequence of it.  The record lives in the session, so
 * nothing here allocates, locks or fails.
 */
#include "base/session.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Named here too, so that base/ needs nothing of storage/ (ltg_run_name). */
static void
name_file(LtgError *e, LtgFileId file)
{
	snprintf(e->file, sizeof(e->file), "%016llx.run", (unsigned long long) file);
}

static void record(LtgSession *s, LtgStatus status, LtgFileId file, uint64_t offset,
				   const char *fmt, va_list args) __attribute__((format(printf, 5, 0)));

static void
record(LtgSession *s, LtgStatus status, LtgFileId file, uint64_t offset,
	   const char *fmt, va_list args)
{
	LtgError   *e = &s->err;

	if (e->status != LTG_OK)
		return;
	memset(e, 0, sizeof(*e));
	e->status = status;
	e->file_id = file;
	e->offset = offset;
	if (file != 0)
		name_file(e, file);
	vsnprintf(e->msg, sizeof(e->msg), fmt, args);
}

LtgStatus
ltg_fail(LtgSession *s, LtgStatus status, const char *fmt,...)
{
	va_list		args;

	LTG_ASSERT(status != LTG_OK && status != LTG_NOT_FOUND &&
			   status != LTG_END && status != LTG_BUSY);
	va_start(args, fmt);
	record(s, status, 0, 0, fmt, args);
	va_end(args);
	return status;
}

LtgStatus
ltg_fail_corrupt(LtgSession *s, LtgFileId file, uint64_t offset, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	record(s, LTG_CORRUPT, file, offset, fmt, args);
	va_end(args);
	return LTG_CORRUPT;
}

LtgStatus
ltg_fail_port(LtgSession *s, LtgStatus status, const LtgError *e, LtgFileId file,
			  uint64_t offset)
{
	LTG_ASSERT(status != LTG_OK);
	if (s->err.status != LTG_OK)
		return status;
	s->err = *e;
	s->err.status = status;
	s->err.file_id = file;
	s->err.offset = offset;
	if (file != 0 && s->err.file[0] == '\0')
		name_file(&s->err, file);
	return status;
}

void
ltg_clear_error(LtgSession *s)
{
	memset(&s->err, 0, sizeof(s->err));
}

const char *
ltg_status_name(LtgStatus status)
{
	switch (status)
	{
		case LTG_OK:
			return "ok";
		case LTG_NOT_FOUND:
			return "not found";
		case LTG_END:
			return "end";
		case LTG_BUSY:
			return "busy";
		case LTG_CORRUPT:
			return "corrupt";
		case LTG_IO:
			return "i/o error";
		case LTG_NOSPACE:
			return "no space";
		case LTG_NOMEM:
			return "out of memory";
		case LTG_NOSHMEM:
			return "out of shared memory";
		case LTG_TOO_LARGE:
			return "too large";
		case LTG_INVALID:
			return "invalid";
		case LTG_VERSION:
			return "unknown format version";
		case LTG_INTERRUPTED:
			return "interrupted";
		case LTG_CONFLICT:
			return "conflict";
		case LTG_POISONED:
			return "poisoned";
		case LTG_HOST_ERROR:
			return "host error";
	}
	return "unknown";
}

/*
 * Always defined: objects built with assertions may be linked with a library
 * built without.
 */
extern void ltg_assert_failed(const char *cond, const char *file, int line)
	__attribute__((noreturn));

void
ltg_assert_failed(const char *cond, const char *file, int line)
{
	dprintf(STDERR_FILENO, "lightning: assertion \"%s\" failed at %s:%d\n", cond, file, line);
	abort();
}
