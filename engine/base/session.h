/*
 * session.h
 *	  The per-process (server) or per-thread (embedded) handle that almost
 *	  every engine function takes first.
 *
 * A session owns: its port, the detail of its last error, one epoch slot in
 * the shared region, a small cache of open data files, scratch memory.
 * A session is used by one thread at a time.
 */
#ifndef LTG_SESSION_H
#define LTG_SESSION_H

#include "ltg_port.h"

typedef struct LtgShared LtgShared;		/* the shared region, see tree/shared.h */
typedef struct LtgFileCache LtgFileCache;	/* storage/file.h */

typedef struct LtgSession
{
	LtgPort    *port;
	LtgShared  *shared;
	LtgError	err;			/* first error wins until ltg_clear_error */
	struct LtgEpochTable *epochs;	/* base/epoch.h; set when it is opened */
	uint32_t	probes;			/* tree/get.c: reads of several runs */
	uint64_t	host_id;		/* whose session it is, for progress reports; the
								 * host sets and knows what it means */
	uint32_t	epoch_slot;		/* index into the shared epoch table */
	uint32_t	epoch_depth;	/* nesting of ltg_epoch_enter */
	int32_t		latched_stripe; /* key stripe held, -1 if none */
	int32_t		pinned;			/* generation-pin lock held, -1 if none */
	LtgFileCache *files;
	struct LtgCache *cache;		/* block cache of the region; NULL: none, blocks
								 * are read into private memory */
	struct LtgPacked *packed;	/* compressed blocks behind it; NULL: none */
	_Atomic uint64_t *files_removed;	/* shared counter, see storage/file.h;
										 * NULL: none */
	struct LtgStore *spare_store;	/* taken by ltg_store_reserve, or NULL */
	void	   *block_ctx;		/* storage/blockio.h: buffers and codec contexts */
	void	   *write_ctx;		/* state between reserve and apply */
	void	   *read_ctx;		/* tree/hint.h: where the last look-ups ended */
	uint64_t	blocks_hit;		/* blocks of runs found in the cache; */
	uint64_t	blocks_read;	/* read from files.  The host may reset them. */
	uint32_t	merged_blocks;	/* data blocks that a merge has read since it wrote one, */
	uint32_t	merged_cached;	/* and how many of them were in the cache */
	uint32_t	merged_entered;	/* blocks a merge or a flush has entered into a full cache */
} LtgSession;

/*
 * Record an error in s->err (unless one is already there) and return status.
 * The message is a lower-case fragment without file name or errno text: the
 * host composes those from the other fields.
 */
extern LtgStatus ltg_fail(LtgSession *s, LtgStatus status, const char *fmt,...)
			__attribute__((format(printf, 3, 4)));
/* The same for a damaged data file: names file and offset; LTG_CORRUPT. */
extern LtgStatus ltg_fail_corrupt(LtgSession *s, LtgFileId file, uint64_t offset,
								  const char *fmt,...)
			__attribute__((format(printf, 4, 5)));
/* Keep the detail a port call left in *e (unless an error is there already);
 * file and offset name the data file, 0 if it is none.  Returns status. */
extern LtgStatus ltg_fail_port(LtgSession *s, LtgStatus status, const LtgError *e,
							   LtgFileId file, uint64_t offset);
extern void ltg_clear_error(LtgSession *s);
extern const char *ltg_status_name(LtgStatus status);

#endif
