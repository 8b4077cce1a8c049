/*
 * sim.h
 *	  The simulated life of a database: one seed, several crashes.
 */
#ifndef LTG_TEST_SIM_H
#define LTG_TEST_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct SimReport
{
	bool		ok;
	char		what[1024];		/* the first thing that went wrong */
	uint64_t	steps, switches, faults;
	uint64_t	commits, conflicts, lost_async, in_doubt, rounds, crashes_in_recovery;
	uint64_t	parted;			/* crashes while a flush had come through in part */
	uint64_t	parted_replayed;	/* of them: the flush was that of an earlier life */
	uint64_t	history;		/* equal for equal runs */
} SimReport;

extern void sim_life(uint64_t seed, SimReport *report);

#endif
