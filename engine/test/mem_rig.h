/*
 * mem_rig.h
 *	  What tests of the in-memory modules stand on: a POSIX port in a directory
 *	  of its own, an epoch table, and sessions that know both.
 */
#ifndef LTG_TEST_MEM_RIG_H
#define LTG_TEST_MEM_RIG_H

#include "base/epoch.h"
#include "port/port_posix.h"

#define MEM_RIG_SESSIONS 16

typedef struct MemRig
{
	char		dir[64];
	LtgPosix   *posix;
	LtgPort    *port;
	LtgEpochTable *epochs;
	LtgSession	session[MEM_RIG_SESSIONS];	/* all claimed */
} MemRig;

extern void mem_rig_open(MemRig *rig);
extern void mem_rig_close(MemRig *rig);

/* A generator per thread: splitmix64. */
static inline uint64_t
mem_random(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

#endif
