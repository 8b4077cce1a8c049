/*
 * host_posix.c
 *	  LtHost on pthreads.
 */
#include "lt/host.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#define THREADS_MAX 24

typedef struct PosixMutex
{
	pthread_mutex_t mu;
} __attribute__((aligned(LTG_CACHE_LINE))) PosixMutex;

typedef struct PosixHost
{
	LtHost		host;
	PosixMutex	mutex[LT_MU_COUNT];
	pthread_cond_t cond[LT_CV_COUNT];
	pthread_t	thread[THREADS_MAX];
	int			n_threads;
} PosixHost;

typedef struct ThreadStart
{
	void		(*fn) (void *arg);
	void	   *arg;
} ThreadStart;

static void
posix_lock(LtHost *h, LtMutexId id)
{
	pthread_mutex_lock(&((PosixHost *) h)->mutex[id].mu);
}

static void
posix_unlock(LtHost *h, LtMutexId id)
{
	pthread_mutex_unlock(&((PosixHost *) h)->mutex[id].mu);
}

static void
posix_wait(LtHost *h, LtCondId cond, LtMutexId mutex, uint64_t timeout_us)
{
	PosixHost  *p = (PosixHost *) h;
	struct timespec ts;

	if (timeout_us == 0)
	{
		pthread_cond_wait(&p->cond[cond], &p->mutex[mutex].mu);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += (time_t) (timeout_us / 1000000);
	ts.tv_nsec += (long) (timeout_us % 1000000) * 1000;
	if (ts.tv_nsec >= 1000000000)
	{
		ts.tv_nsec -= 1000000000;
		ts.tv_sec++;
	}
	(void) pthread_cond_timedwait(&p->cond[cond], &p->mutex[mutex].mu, &ts);
}

static void
posix_wake_all(LtHost *h, LtCondId cond)
{
	pthread_cond_broadcast(&((PosixHost *) h)->cond[cond]);
}

static void
posix_yield(LtHost *h)
{
	(void) h;
	sched_yield();
}

static uint64_t
posix_self(LtHost *h)
{
	(void) h;
	return (uint64_t) pthread_self();
}

static void *
thread_main(void *arg)
{
	ThreadStart start = *(ThreadStart *) arg;

	free(arg);
	start.fn(start.arg);
	return NULL;
}

static LtgStatus
posix_spawn(LtHost *h, void (*fn) (void *arg), void *arg)
{
	PosixHost  *p = (PosixHost *) h;
	ThreadStart *start = malloc(sizeof(*start));

	if (start == NULL || p->n_threads == THREADS_MAX)
	{
		free(start);
		return LTG_NOMEM;
	}
	start->fn = fn;
	start->arg = arg;
	if (pthread_create(&p->thread[p->n_threads], NULL, thread_main, start) != 0)
	{
		free(start);
		return LTG_NOMEM;
	}
	p->n_threads++;
	return LTG_OK;
}

static void
posix_join_all(LtHost *h)
{
	PosixHost  *p = (PosixHost *) h;

	for (int i = 0; i < p->n_threads; i++)
		pthread_join(p->thread[i], NULL);
	p->n_threads = 0;
}

static void
posix_destroy(LtHost *h)
{
	PosixHost  *p = (PosixHost *) h;

	for (int i = 0; i < LT_MU_COUNT; i++)
		pthread_mutex_destroy(&p->mutex[i].mu);
	for (int i = 0; i < LT_CV_COUNT; i++)
		pthread_cond_destroy(&p->cond[i]);
	free(p);
}

void *
lt_alloc_aligned(LtgPort *port, size_t size)
{
	/* the address to free stands right before what is returned */
	void	   *raw = port->alloc(port, size + LTG_CACHE_LINE + sizeof(void *));
	uintptr_t	p;

	if (raw == NULL)
		return NULL;
	p = ((uintptr_t) raw + sizeof(void *) + LTG_CACHE_LINE - 1) & ~(uintptr_t) (LTG_CACHE_LINE - 1);
	((void **) p)[-1] = raw;
	memset((void *) p, 0, size);
	return (void *) p;
}

void
lt_free_aligned(LtgPort *port, void *ptr)
{
	if (ptr != NULL)
		port->free(port, ((void **) ptr)[-1]);
}

LtgStatus
lt_host_posix(LtgPort *port, LtHost **host)
{
	PosixHost  *p = aligned_alloc(LTG_CACHE_LINE, (sizeof(*p) + LTG_CACHE_LINE - 1) &
								  ~(size_t) (LTG_CACHE_LINE - 1));
	pthread_condattr_t attr;

	*host = NULL;
	if (p == NULL)
		return LTG_NOMEM;
	memset(p, 0, sizeof(*p));
	for (int i = 0; i < LT_MU_COUNT; i++)
		pthread_mutex_init(&p->mutex[i].mu, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	for (int i = 0; i < LT_CV_COUNT; i++)
		pthread_cond_init(&p->cond[i], &attr);
	pthread_condattr_destroy(&attr);
	p->host.port = port;
	p->host.lock = posix_lock;
	p->host.unlock = posix_unlock;
	p->host.wait = posix_wait;
	p->host.wake_all = posix_wake_all;
	p->host.yield = posix_yield;
	p->host.self = posix_self;
	p->host.spawn = posix_spawn;
	p->host.join_all = posix_join_all;
	p->host.destroy = posix_destroy;
	*host = &p->host;
	return LTG_OK;
}
