/*
 * port_sim.h
 *	  A whole machine in one thread, driven by one seed: tasks, locks, time,
 *	  memory, and a file system that forgets what was not synced.
 *
 * Tasks are coroutines.  A task may be switched away at every call of the port
 * or of the host and at every stop point; which task runs next is drawn from
 * the seed.  So the same seed gives the same run.
 *
 * The file system keeps for each file what is durable and the writes since the
 * last sync, and for the directory the same.  A power failure keeps of each
 * 512-byte sector any prefix of its unsynced writes, of the size anything
 * between durable and current, and of the changes of the directory any subset.
 * The end of a process keeps everything, but makes nothing durable.
 */
#ifndef LTG_PORT_SIM_H
#define LTG_PORT_SIM_H

#include "lt/host.h"
#include "ltg_port.h"

typedef struct Sim Sim;

typedef enum SimEnd
{
	SIM_DONE,					/* every task has returned */
	SIM_CRASHED,				/* the step set by sim_crash_at was reached */
	SIM_DEADLOCK,				/* all tasks wait for each other */
	SIM_STUCK					/* too many steps: somebody waits for ever */
} SimEnd;

typedef enum SimCrash
{
	SIM_KILL,					/* the process ends */
	SIM_POWER					/* the machine does */
} SimCrash;

/* Chances in 1/65536 per call. */
typedef struct SimFaults
{
	uint32_t	write, sync, read, open, rename, remove, dir_sync, alloc;
	bool		nospace;		/* failed writes say ENOSPC, else EIO */
} SimFaults;

extern Sim *sim_create(uint64_t seed);
extern void sim_destroy(Sim *sim);
extern LtgPort *sim_port(Sim *sim);
extern LtHost *sim_host(Sim *sim);

/* From the seed: uniform below n. */
extern uint64_t sim_random(Sim *sim, uint64_t n);

extern void sim_spawn(Sim *sim, const char *name, void (*fn) (void *arg), void *arg);
/* Run all tasks; crash_after 0: never. */
extern SimEnd sim_run(Sim *sim, uint64_t crash_after, uint64_t steps_max);
/* In the next run: crash so many steps after a stop point was passed n times. */
extern void sim_crash_near(Sim *sim, const char *stop_point, uint64_t n, uint64_t steps);
/* Forget all tasks, locks and memory, and do to the files what this kind of
 * crash does. */
extern void sim_crash(Sim *sim, SimCrash kind);
extern void sim_set_faults(Sim *sim, const SimFaults *faults);
extern uint64_t sim_faults_struck(Sim *sim);
/* Blocks of memory allocated through the port and not freed. */
extern uint64_t sim_live_allocs(Sim *sim);
extern uint64_t sim_steps(Sim *sim);
extern uint64_t sim_switches(Sim *sim);
/* Who waits for what; for a deadlock. */
extern void sim_describe(Sim *sim, char *buf, size_t size);

/* From inside a task. */
extern void sim_sleep(Sim *sim, uint64_t us);
extern void sim_yield(Sim *sim);

/* A hash of everything that happened, to compare two runs of a seed. */
extern uint64_t sim_history(Sim *sim);

#endif
