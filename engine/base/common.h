/*
 * common.h
 *	  Types and macros every engine file uses.
 *
 * No host header is included here and none may be: the engine is built both
 * as a plain C11 library and into the PostgreSQL extension.
 */
#ifndef LTG_COMMON_H
#define LTG_COMMON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Sequence number of a version: the end LSN of its log record (a plain counter
 * for stores that are not logged).  Totally orders the versions of one key.
 */
typedef uint64_t LtgSeq;

/* Transaction id of the writer, 64 bits, never reused.  0 = none/settled. */
typedef uint64_t LtgXid;

/* Number of a data file in the engine's directory, never reused.  0 = none. */
typedef uint64_t LtgFileId;

typedef enum LtgStatus
{
	LTG_OK = 0,
	LTG_NOT_FOUND,		/* no such key, store or file: not an error */
	LTG_END,			/* a scan or iteration is exhausted: not an error */
	LTG_BUSY,			/* no room now; make room or wait, then retry */
	LTG_CORRUPT,		/* bytes on disk are not what was written */
	LTG_IO,				/* the operating system refused; os_errno says why */
	LTG_NOSPACE,		/* ENOSPC, EDQUOT */
	LTG_NOMEM,			/* process-local memory */
	LTG_NOSHMEM,		/* the shared region's bounded memory is used up */
	LTG_TOO_LARGE,		/* key or payload over the limit */
	LTG_INVALID,		/* caller's arguments or state */
	LTG_VERSION,		/* file written by a newer, unknown format */
	LTG_INTERRUPTED,	/* host asked to stop (cancel, shutdown) */
	LTG_CONFLICT,		/* write conflict (embedded API) */
	LTG_POISONED,		/* an earlier failed sync forbids going on */
	LTG_HOST_ERROR		/* the host keeps the error itself */
} LtgStatus;

#define LTG_MUST_CHECK __attribute__((warn_unused_result))

/* Evaluate a call; return its status unless it is LTG_OK. */
#define LTG_TRY(call) \
	do { \
		LtgStatus try_status_ = (call); \
		if (try_status_ != LTG_OK) \
			return try_status_; \
	} while (0)

/* Programming errors only; never used on bytes that came from disk. */
#if defined(LTG_ASSERTS) || defined(USE_ASSERT_CHECKING)
extern void ltg_assert_failed(const char *cond, const char *file, int line)
	__attribute__((noreturn));
#define LTG_ASSERT(c) \
	((c) ? (void) 0 : ltg_assert_failed(#c, __FILE__, __LINE__))
#else
#define LTG_ASSERT(c) ((void) sizeof(c))
#endif

#define LTG_LIKELY(x) __builtin_expect((x) != 0, 1)
#define LTG_UNLIKELY(x) __builtin_expect((x) != 0, 0)

#define LTG_ALIGN8(x) (((x) + 7) & ~(uint64_t) 7)
#define LTG_CACHE_LINE 64

/* Limits of the data model, in bytes. */
#define LTG_KEY_MAX 4096
#define LTG_PAYLOAD_MAX (256 * 1024)

#endif
