/*
 * sim_test.c
 *	  Runs simulated lives, one per seed.
 *
 *	  sim_test [first seed [count]]
 *
 * Without arguments: seeds 1..1000 (fewer under a sanitizer).  The seed of a
 * failure is printed; running it again fails in the same way, and with
 * SIM_TRACE set prints every step.
 */
#include <stdio.h>
#include <stdlib.h>

#include "test/sim.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DEFAULT_COUNT 60
#else
#define DEFAULT_COUNT 1000
#endif

/* Equal seeds must give equal lives, or a failure could not be looked into. */
static int
replays_alike(uint64_t seed)
{
	SimReport	a,
				b;

	sim_life(seed, &a);
	sim_life(seed, &b);
	if (a.history == b.history && a.steps == b.steps)
		return 1;
	printf("FAILED: seed %llu: two runs differ\n", (unsigned long long) seed);
	return 0;
}

int
main(int argc, char **argv)
{
	uint64_t	first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	uint64_t	count = argc > 2 ? strtoull(argv[2], NULL, 10) : argc > 1 ? 1 : DEFAULT_COUNT;
	SimReport	sum = {0};
	int			failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!replays_alike(first))
		failed++;
	for (uint64_t seed = first; seed < first + count; seed++)
	{
		SimReport	r;

		sim_life(seed, &r);
		sum.steps += r.steps;
		sum.switches += r.switches;
		sum.faults += r.faults;
		sum.commits += r.commits;
		sum.conflicts += r.conflicts;
		sum.lost_async += r.lost_async;
		sum.in_doubt += r.in_doubt;
		sum.rounds += r.rounds;
		sum.crashes_in_recovery += r.crashes_in_recovery;
		sum.parted += r.parted;
		sum.parted_replayed += r.parted_replayed;
		if (!r.ok)
		{
			printf("FAILED: seed %llu: %s\n", (unsigned long long) seed, r.what);
			if (++failed == 10)
				break;
		}
	}
	printf("%llu seeds from %llu: %llu rounds, %llu steps, %llu switches, %llu faults, "
		   "%llu commits, %llu conflicts, %llu unsynced ones lost, %llu in doubt, "
		   "%llu crashes while opening, %llu between two pieces of a flush, %llu before the next one; %d failed\n",
		   (unsigned long long) count, (unsigned long long) first,
		   (unsigned long long) sum.rounds, (unsigned long long) sum.steps,
		   (unsigned long long) sum.switches, (unsigned long long) sum.faults,
		   (unsigned long long) sum.commits, (unsigned long long) sum.conflicts,
		   (unsigned long long) sum.lost_async, (unsigned long long) sum.in_doubt,
		   (unsigned long long) sum.crashes_in_recovery,
		   (unsigned long long) sum.parted,
		   (unsigned long long) sum.parted_replayed, failed);
	return failed != 0;
}
