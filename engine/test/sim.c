/*
 * sim.c
 *	  The simulated life of a database: writers, readers, background work,
 *	  faults and crashes, compared with a model after each.
 *
 * What the writers do
 *	 Accounts hold money; transactions move it, so the sum never changes.  Each
 *	 transaction also writes a marker row with its number, and every account
 *	 carries the number of the transaction that wrote it last.  Some insert and
 *	 delete rows of their own; some work is a batch or a single put on keys
 *	 that only one task uses.  One task makes, fills and drops named trees.
 *
 * What is checked
 *	 - In any snapshot: the sum is right, the marker of each account's last
 *	   writer is there, and reading again gives the same.  So do a few snapshots
 *	   that live long, through many flushes and compactions, and cursors on them.
 *	 - After a crash: exactly the transactions whose markers are there took
 *	   effect, each as a whole.  Those acknowledged after a sync are among
 *	   them; after the end of a process also those handed to the system; none
 *	   that aborted; and if one is there, so are all that were acknowledged
 *	   before its commit began (the log keeps its order).
 *	 - What was seen after a crash is there after the next one.
 *	 - The checker finds nothing wrong, and a closed database holds no memory.
 */
#include "test/sim_life.h"
#include "tree/shared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- rounds ---- */

static void
describe_end(Life *l, SimEnd end, const char *during)
{
	char		text[700];

	if (end == SIM_DONE || end == SIM_CRASHED)
		return;
	sim_describe(l->sim, text, sizeof(text));
	life_wrong(l, "%s while %s: %s", end == SIM_DEADLOCK ? "deadlock" : "no end", during, text);
}

static SimEnd
run_task(Life *l, const char *name, void (*fn) (void *arg), void *arg, uint64_t crash_after)
{
	SimEnd		end;

	sim_spawn(l->sim, name, fn, arg);
	end = sim_run(l->sim, crash_after, STEPS_MAX);
	describe_end(l, end, name);
	return end;
}

/* A crash comes: is a part of a generation in some store's runs (S6)? */
static void
note_parted(Life *l)
{
	const LtgShared *sh = l->db == NULL ? NULL : l->db->shared;
	uint64_t	parted = 0;

	for (uint32_t b = 0; sh != NULL && b < sh->store_buckets; b++)
		for (const LtgStore *st = atomic_load(&sh->stores_by_id[b]); st != NULL;
			 st = atomic_load(&st->id_next))
			parted += atomic_load(&st->merged_upto) > atomic_load(&sh->durable);
	l->parted = parted > 0;
	l->r->parted += parted > 0;
	l->r->parted_replayed += parted > 0 && atomic_load(&sh->gens)->n == 1;
}

/* Open, perhaps with crashes and faults in between; false: something is wrong. */
static bool
open_db(Life *l, bool *power)
{
	for (int attempt = 0; l->r->ok; attempt++)
	{
		uint64_t	crash_after = attempt < 3 && life_rnd(l, 3) == 0 ? 1 + life_rnd(l, 3000) : 0;
		SimFaults	some = {.write = 100, .sync = 200, .read = 100, .open = 200, .rename = 300,
		.remove = 300, .dir_sync = 300, .alloc = 50};
		SimEnd		end;

		l->round_faulty = attempt < 3 && life_rnd(l, 4) == 0;
		sim_set_faults(l->sim, l->round_faulty ? &some : NULL);
		end = run_task(l, "open", life_open_task, l, crash_after);
		sim_set_faults(l->sim, NULL);
		if (end == SIM_CRASHED)
		{
			bool		p = life_rnd(l, 2) == 0;

			sim_crash(l->sim, p ? SIM_POWER : SIM_KILL);
			*power = *power || p;
			l->r->crashes_in_recovery++;
			continue;
		}
		if (end != SIM_DONE)
			return false;
		if (l->open_status == LT_OK)
		{
			l->round_faulty = false;
			return true;
		}
		if (!life_excused(l, l->open_status))
			life_wrong(l, "open: status %d: %s", (int) l->open_status, l->open_error);
		if (sim_live_allocs(l->sim) != 0)
			life_wrong(l, "a failed open leaves %llu blocks of memory", (unsigned long long) sim_live_allocs(l->sim));
	}
	return false;
}

static void
choose_faults(Life *l)
{
	memset(&l->faults, 0, sizeof(l->faults));
	l->round_faulty = life_rnd(l, 3) == 0;
	if (!l->round_faulty)
		return;
	l->faults.nospace = life_rnd(l, 2) == 0;
	l->faults.write = (uint32_t) life_rnd(l, 3) * 150;
	l->faults.sync = (uint32_t) life_rnd(l, 2) * 60;
	l->faults.open = (uint32_t) life_rnd(l, 2) * 200;
	l->faults.rename = (uint32_t) life_rnd(l, 2) * 500;
	l->faults.remove = (uint32_t) life_rnd(l, 2) * 500;
	l->faults.dir_sync = (uint32_t) life_rnd(l, 2) * 200;
	l->faults.read = (uint32_t) life_rnd(l, 2) * 50;
	l->faults.alloc = (uint32_t) life_rnd(l, 2) * 50;
}

/* Work until a crash or until the writers are done, then close or crash. */
static void
work_round(Life *l, bool *power, bool *closed)
{
	Writer		w[WRITERS_MAX];
	bool		crash = life_rnd(l, 8) != 0;
	bool		early;
	SimEnd		end;

	l->stop = false;
	l->writers_left = l->writers;
	for (int i = 0; i < l->writers; i++)
	{
		w[i].life = l;
		w[i].number = i;
		sim_spawn(l->sim, "writer", life_writer_task, &w[i]);
	}
	for (int i = 0; i < l->readers; i++)
		sim_spawn(l->sim, "reader", life_reader_task, l);
	for (int i = 0; i < l->old_readers; i++)
		sim_spawn(l->sim, "old reader", life_old_reader_task, l);
	sim_spawn(l->sim, "trees", life_tree_task, l);
	sim_spawn(l->sim, "flusher", life_flush_task, l);
	for (int i = 0; i < l->compactors; i++)
		sim_spawn(l->sim, "compactor", life_compact_task, l);
	sim_spawn(l->sim, "syncer", life_sync_task, l);
	sim_spawn(l->sim, "checkpointer", life_checkpoint_task, l);
	choose_faults(l);
	sim_set_faults(l->sim, &l->faults);
	if (crash && l->sweep > 0 && life_rnd(l, 2) == 0)
		sim_crash_near(l->sim, "flush:piece", 1 + life_rnd(l, 6), 1 + life_rnd(l, 300));
	/* soon again, before the rest is flushed */
	early = l->parted && life_rnd(l, 2) == 0;
	end = sim_run(l->sim, early ? 1 + life_rnd(l, 3000) : crash ? 200 + life_rnd(l, 50000) : 0, STEPS_MAX);
	describe_end(l, end, "working");
	*closed = false;
	if (end == SIM_DONE && l->r->ok && life_rnd(l, 2) == 0)
	{
		/* a clean close, or one that a crash or a fault interrupts */
		end = run_task(l, "close", life_close_task, l, life_rnd(l, 3) == 0 ? 1 + life_rnd(l, 2000) : 0);
		*closed = end == SIM_DONE;
		if (*closed && sim_live_allocs(l->sim) != 0)
			life_wrong(l, "a closed database holds %llu blocks of memory",
				  (unsigned long long) sim_live_allocs(l->sim));
	}
	sim_set_faults(l->sim, NULL);
	*power = life_rnd(l, 3) != 0;
	l->parted = false;
	if (!*closed)
		note_parted(l);
	if (!*closed || life_rnd(l, 2) == 0)
		sim_crash(l->sim, *power ? SIM_POWER : SIM_KILL);
	else
		*power = false;
	/* a clean close makes everything durable */
	for (uint32_t i = 0; *closed && l->closing_ok && i < l->n_txns; i++)
		if (l->txn[i].outcome == O_ACKED)
			l->txn[i].sync = LT_SYNC_FULL;
	l->db = NULL;
	l->round_faulty = false;
	l->r->rounds++;
}

static void
choose_life(Life *l)
{
	lt_options_init(&l->opt);
	l->opt.no_threads = true;
	l->opt.sync = LT_SYNC_FULL;
	l->opt.memtable_bytes = 1 << 20;
	l->opt.memtable_count = 2 + (uint32_t) life_rnd(l, 2);
	l->opt.cache_bytes = 256 << 10;
	l->opt.metadata_bytes = 1 << 20;
	l->opt.block_size = 4096;
	l->opt.max_threads = 12;
	l->opt.max_txns = 16;
	l->opt.log_buffer_bytes = 64 << 10;
	l->opt.log_segment_bytes = (64 << 10) + life_rnd(l, 3) * (32 << 10);
	l->opt.fast_close = life_rnd(l, 2) == 0;
	l->accounts = 4 + (int) life_rnd(l, CHANGES_MAX - 4);
	l->writers = 2 + (int) life_rnd(l, 4);
	l->readers = 1 + (int) life_rnd(l, 2);
	l->old_readers = (int) life_rnd(l, 4);
	l->compactors = 1 + (int) life_rnd(l, 3);
	l->opt.compaction_trigger = 1 + (uint32_t) life_rnd(l, 2);
	l->opt.space_limit = (uint32_t) life_rnd(l, 3) * 20;
	l->opt.file_bytes = (uint64_t) 16 << (10 + life_rnd(l, 5));
	l->opt.compaction_rate = life_rnd(l, 3) == 0 ? (uint64_t) 64 << (10 + life_rnd(l, 8)) : 0;
	l->txns_per_writer = 10 + life_rnd(l, 120);
	l->padding_max = life_rnd(l, 3) == 0 ? 1500 : 200;
	l->sweep = life_rnd(l, 2) == 0 ? 0 : 40 + (int) life_rnd(l, 160);
	if (l->sweep > 0)
	{
		l->opt.space_limit = 10;
		l->opt.memtable_count = 3;
		l->opt.file_bytes = (uint64_t) 16 << (10 + life_rnd(l, 2));
		l->old_readers = (int) life_rnd(l, 2);
		l->padding_max = 200;
	}
}

void
sim_life(uint64_t seed, SimReport *r)
{
	Life	   *l = calloc(1, sizeof(*l));
	bool		power = false,
				closed = false;
	int			rounds;

	memset(r, 0, sizeof(*r));
	r->ok = true;
	l->r = r;
	l->sim = sim_create(seed);
	l->txn = calloc(TXNS_MAX, sizeof(ModelTxn));
	choose_life(l);
	rounds = 2 + (int) life_rnd(l, 3);
	if (open_db(l, &power))
		(void) run_task(l, "create", life_create_accounts_task, l, 0);
	for (int i = 0; i < rounds && r->ok; i++)
	{
		Verify		v = {.life = l};

		work_round(l, &power, &closed);
		if (!r->ok || !open_db(l, &power))
			break;
		v.power = power;
		(void) run_task(l, "verify", life_verify_task, &v, 0);
	}
	if (r->ok)
	{
		(void) run_task(l, "close", life_close_task, l, 0);
		if (r->ok && sim_live_allocs(l->sim) != 0)
			life_wrong(l, "a closed database holds %llu blocks of memory",
				  (unsigned long long) sim_live_allocs(l->sim));
	}
	r->steps = sim_steps(l->sim);
	r->switches = sim_switches(l->sim);
	r->faults = sim_faults_struck(l->sim);
	r->history = sim_history(l->sim);
	sim_destroy(l->sim);
	free(l->txn);
	free(l);
}
