/*
 * host.h
 *	  What the embedded library asks of its surroundings beyond LtgPort:
 *	  mutexes, condition variables, threads.
 *
 * Two implementations: host_posix.c, and the simulation, where every call is
 * a place at which the scheduler may switch.  Mutexes and conditions are
 * numbered, one set per database.
 *
 * Lock order: engine locks as ltg_port.h says, key stripes first.  Of the
 * mutexes here, LT_MU_DDL comes before everything; LT_MU_BG and LT_MU_POOL are
 * held over nothing else; LT_MU_WRITE before LT_MU_INSERT before LT_MU_XIDS,
 * and nothing of the engine is locked under these three.
 */
#ifndef LT_HOST_H
#define LT_HOST_H

#include "ltg_port.h"

typedef enum LtMutexId
{
	LT_MU_DDL,					/* trees made and dropped */
	LT_MU_BG,					/* background work and those who wait for it */
	LT_MU_POOL,					/* waiting for a session */
	LT_MU_WRITE,				/* log: writing to the file */
	LT_MU_INSERT,				/* log: inserting into the buffer */
	LT_MU_XIDS,					/* chunks of the commit table, aborted set */
	LT_MU_ERROR,				/* text of the last error */
	LT_MU_COUNT
} LtMutexId;

typedef enum LtCondId
{
	LT_CV_SYNCED,				/* with LT_MU_WRITE: a sync ended */
	LT_CV_WORK,					/* with LT_MU_BG: there is background work */
	LT_CV_ROOM,					/* with LT_MU_BG: a flush ended */
	LT_CV_POOL,					/* with LT_MU_POOL: a session came free */
	LT_CV_COUNT
} LtCondId;

typedef struct LtHost LtHost;
struct LtHost
{
	LtgPort    *port;
	void		(*lock) (LtHost *h, LtMutexId id);
	void		(*unlock) (LtHost *h, LtMutexId id);
	/* Releases the mutex, waits for a wake or the time, takes it again. May
	 * wake without reason. */
	void		(*wait) (LtHost *h, LtCondId cond, LtMutexId mutex, uint64_t timeout_us);
	void		(*wake_all) (LtHost *h, LtCondId cond);
	/* A place to let others run when spinning on them. */
	void		(*yield) (LtHost *h);
	/* Some number that tells the caller's thread from others. */
	uint64_t	(*self) (LtHost *h);
	/* NULL: no threads are to be had. */
	LtgStatus	(*spawn) (LtHost *h, void (*fn) (void *arg), void *arg);
	void		(*join_all) (LtHost *h);
	void		(*destroy) (LtHost *h);
	/* Others run the background work: a writer without room waits for them
	 * even when the database has no threads of its own. */
	bool		background_elsewhere;
};

/* Zeroed memory on a cache line of its own; NULL when there is none. */
extern void *lt_alloc_aligned(LtgPort *port, size_t size);
extern void lt_free_aligned(LtgPort *port, void *ptr);

extern LtgStatus lt_host_posix(LtgPort *port, LtHost **host) LTG_MUST_CHECK;

#endif
