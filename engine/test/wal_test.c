/*
 * wal_test.c
 *	  The embedded library's log on its own: framing, segments, torn ends,
 *	  stale bytes, damage in the middle, failed syncs, trimming.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lt/wal.h"
#include "test/port_sim.h"

#define RING 65536
#define SEGMENT 65536

/* The simulated machine serves as a file system that can be tampered with. */
typedef struct Fixture
{
	Sim		   *sim;
	LtgPort    *port;
	LtWal	   *wal;
	LtgError	err;
	uint32_t	next;			/* number of the next record */
	/* replay */
	uint32_t	seen, states;
	LtgSeq		last_lsn;
} Fixture;

static LtgStatus
give_state(void *arg, LtWalEmitFn emit, void *emit_arg)
{
	(void) arg;
	return emit(emit_arg, (const uint8_t *) "S", 1);
}

static void
create(Fixture *f)
{
	LtWalOptions o = {.segment_bytes = SEGMENT, .ring_bytes = RING, .state = give_state};

	memset(&f->err, 0, sizeof(f->err));
	assert_int_equal(lt_wal_create(sim_host(f->sim), &o, &f->wal, &f->err), LTG_OK);
}

/* LtWalRecordFn: records are "R", their number, and bytes that follow from it */
static LtgStatus
see(void *arg, const uint8_t *payload, uint32_t len, LtgSeq lsn)
{
	Fixture    *f = arg;
	uint32_t	n;

	assert_true(lsn > f->last_lsn);
	f->last_lsn = lsn;
	if (payload[0] == 'S')
	{
		f->states++;
		return LTG_OK;
	}
	memcpy(&n, payload + 1, sizeof(n));
	assert_int_equal(n, f->seen);
	for (uint32_t i = 5; i < len; i++)
		assert_int_equal(payload[i], (uint8_t) (n + i));
	f->seen++;
	return LTG_OK;
}

static LtgStatus
open_wal(Fixture *f, LtgSeq from)
{
	uint32_t	n;
	LtgStatus	st;

	create(f);
	f->seen = f->states = 0;
	f->last_lsn = 0;
	st = lt_wal_scan(f->wal, &n, &f->err);
	if (st == LTG_OK)
		st = lt_wal_replay(f->wal, from, see, f, &f->err);
	if (st == LTG_OK)
		st = lt_wal_start(f->wal, &f->err);
	f->next = f->seen;
	return st;
}

static void
close_wal(Fixture *f)
{
	lt_wal_destroy(f->wal);
	f->wal = NULL;
}

static LtgSeq
append(Fixture *f, uint32_t len)
{
	static uint8_t frame[LT_WAL_FRAME + RING];
	LtWalAppend a = {.frame = frame, .len = len};
	LtgSeq		lsn = 0;

	frame[LT_WAL_FRAME] = 'R';
	memcpy(frame + LT_WAL_FRAME + 1, &f->next, sizeof(f->next));
	for (uint32_t i = 5; i < len; i++)
		frame[LT_WAL_FRAME + i] = (uint8_t) (f->next + i);
	if (lt_wal_append(f->wal, &a, &lsn, &f->err) != LTG_OK)
		return 0;
	f->next++;
	return lsn;
}

static int
setup(void **state)
{
	Fixture    *f = calloc(1, sizeof(*f));

	f->sim = sim_create(1);
	f->port = sim_port(f->sim);
	assert_int_equal(open_wal(f, 0), LTG_OK);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	Fixture    *f = *state;

	close_wal(f);
	assert_int_equal(sim_live_allocs(f->sim), 0);
	sim_destroy(f->sim);
	free(f);
	return 0;
}

static void
records_come_back(void **state)
{
	Fixture    *f = *state;
	LtgSeq		lsn = 0,
				before = 0;

	for (int i = 0; i < 2000; i++)
	{
		lsn = append(f, 5 + (uint32_t) (i * 37) % 700);
		assert_true(lsn > before);
		before = lsn;
	}
	assert_int_equal(lt_wal_sync(f->wal, lsn, &f->err), LTG_OK);
	assert_int_equal(lt_wal_flushed(f->wal), lsn);
	close_wal(f);
	assert_int_equal(open_wal(f, 0), LTG_OK);
	assert_int_equal(f->seen, 2000);
	assert_true(f->states > 8);
	assert_int_equal(f->last_lsn, lsn);
	/* and again, with what a second life adds */
	lsn = append(f, 100);
	assert_int_equal(lt_wal_sync(f->wal, lsn, &f->err), LTG_OK);
	close_wal(f);
	assert_int_equal(open_wal(f, 0), LTG_OK);
	assert_int_equal(f->seen, 2001);
}

static void
largest_records_wrap_in_the_buffer(void **state)
{
	Fixture    *f = *state;
	uint32_t	max = lt_wal_record_max(RING);

	for (int i = 0; i < 50; i++)
		assert_true(append(f, max - (uint32_t) i) > 0);
	assert_int_equal(lt_wal_write(f->wal, lt_wal_position(f->wal), &f->err), LTG_OK);
	close_wal(f);
	assert_int_equal(open_wal(f, 0), LTG_OK);
	assert_int_equal(f->seen, 50);
}

static void
synced_records_survive_power_failures(void **state)
{
	Fixture    *f = *state;
	uint32_t	synced = 0;

	for (int round = 0; round < 60; round++)
	{
		for (int i = 0; i < 40; i++)
		{
			LtgSeq		lsn = append(f, 5 + (uint32_t) sim_random(f->sim, 900));

			if (sim_random(f->sim, 10) == 0)
			{
				assert_int_equal(lt_wal_sync(f->wal, lsn, &f->err), LTG_OK);
				synced = f->next;
			}
			else if (sim_random(f->sim, 3) == 0)
				assert_int_equal(lt_wal_write(f->wal, lsn, &f->err), LTG_OK);
		}
		sim_crash(f->sim, round % 3 == 0 ? SIM_KILL : SIM_POWER);
		assert_int_equal(open_wal(f, 0), LTG_OK);
		assert_true(f->seen >= synced);
		/* what was found once is durable */
		synced = f->seen;
	}
}

static LtgFile *
open_file(Fixture *f, const char *name)
{
	LtgFile    *file;

	assert_int_equal(f->port->file_open(f->port, name, LTG_OPEN_READ, &file, &f->err), LTG_OK);
	return file;
}

static void
flip(Fixture *f, LtgSeq segment, uint64_t offset)
{
	char		name[32];
	uint8_t		b;
	size_t		n;
	LtgFile    *file;

	lt_wal_name(name, segment);
	file = open_file(f, name);
	assert_int_equal(f->port->file_read(f->port, file, &b, 1, offset, &n, &f->err), LTG_OK);
	b ^= 0x11;
	assert_int_equal(f->port->file_write(f->port, file, &b, 1, offset, &f->err), LTG_OK);
	f->port->file_close(f->port, file);
}

static void
damage_before_a_later_segment_is_an_error(void **state)
{
	Fixture    *f = *state;

	for (int i = 0; i < 400; i++)
		assert_true(append(f, 500) > 0);
	assert_int_equal(lt_wal_sync(f->wal, lt_wal_position(f->wal), &f->err), LTG_OK);
	close_wal(f);
	flip(f, LT_WAL_FIRST_LSN, 10000);
	assert_int_equal(open_wal(f, 0), LTG_CORRUPT);
	assert_true(f->err.offset < 10000);
	assert_string_equal(f->err.file, "0000000000000040.wal");
	close_wal(f);
	flip(f, LT_WAL_FIRST_LSN, 10000);
	assert_int_equal(open_wal(f, 0), LTG_OK);
	assert_int_equal(f->seen, 400);
}

static void
damage_in_the_last_segment_ends_the_log(void **state)
{
	Fixture    *f = *state;

	for (int i = 0; i < 20; i++)
		assert_true(append(f, 500) > 0);
	assert_int_equal(lt_wal_sync(f->wal, lt_wal_position(f->wal), &f->err), LTG_OK);
	close_wal(f);
	flip(f, LT_WAL_FIRST_LSN, 5300);
	create(f);
	f->seen = 0;
	f->last_lsn = 0;
	{
		uint32_t	n;

		assert_int_equal(lt_wal_scan(f->wal, &n, &f->err), LTG_OK);
		assert_int_equal(lt_wal_replay(f->wal, 0, see, f, &f->err), LTG_OK);
		assert_int_equal(f->seen, 10);
		assert_true(lt_wal_torn_bytes(f->wal) > 0);
		/* but not when the files say they contain more */
		f->seen = 0;
		f->last_lsn = 0;
		assert_int_equal(lt_wal_replay(f->wal, lt_wal_end(f->wal) + 1000, see, f, &f->err), LTG_CORRUPT);
	}
}

/*
 * Each byte wrong in turn.  Whatever was synced before a later record was
 * written is known to belong there; only the end may pass for unfinished.
 */
static void
every_flip_is_noticed(void **state)
{
	Fixture    *f = *state;
	uint64_t	known = 0,
				end;

	for (int i = 0; i < 4; i++)
	{
		LtgSeq		lsn = append(f, 60);

		assert_int_equal(lt_wal_sync(f->wal, lsn, &f->err), LTG_OK);
		if (i == 2)
			known = lsn - LT_WAL_FIRST_LSN;
	}
	end = lt_wal_position(f->wal) - LT_WAL_FIRST_LSN;
	close_wal(f);
	for (uint64_t at = 0; at < end; at++)
	{
		uint32_t	n = 0;
		LtgStatus	st;

		flip(f, LT_WAL_FIRST_LSN, at);
		create(f);
		f->seen = 0;
		f->last_lsn = 0;
		st = lt_wal_scan(f->wal, &n, &f->err);
		if (st == LTG_OK)
			st = lt_wal_replay(f->wal, 0, see, f, &f->err);
		if (at < known)
			assert_int_equal(st, at >= 8 && at < 12 ? LTG_VERSION : LTG_CORRUPT);
		else
			assert_true(st == LTG_OK && f->seen == 3);
		close_wal(f);
		flip(f, LT_WAL_FIRST_LSN, at);
	}
	assert_int_equal(open_wal(f, 0), LTG_OK);
	assert_int_equal(f->seen, 4);
}

static void
failed_sync_poisons(void **state)
{
	Fixture    *f = *state;
	SimFaults	faults = {.sync = 65536};
	LtgSeq		lsn = append(f, 100);

	sim_set_faults(f->sim, &faults);
	assert_int_equal(lt_wal_sync(f->wal, lsn, &f->err), LTG_IO);
	sim_set_faults(f->sim, NULL);
	memset(&f->err, 0, sizeof(f->err));
	assert_int_equal(lt_wal_sync(f->wal, lsn, &f->err), LTG_POISONED);
	assert_int_equal(append(f, 100), 0);
	assert_true(lt_wal_flushed(f->wal) < lsn);
}

static void
failed_write_is_tried_again(void **state)
{
	Fixture    *f = *state;
	SimFaults	faults = {.write = 65536, .nospace = true};
	LtgSeq		lsn = append(f, 300);

	sim_set_faults(f->sim, &faults);
	for (int i = 0; i < 3; i++)
	{
		memset(&f->err, 0, sizeof(f->err));
		assert_int_equal(lt_wal_write(f->wal, lsn, &f->err), LTG_NOSPACE);
	}
	/* appends go on until the buffer is full, then say why */
	while (append(f, 1000) != 0)
		;
	assert_int_equal(f->err.status, LTG_NOSPACE);
	sim_set_faults(f->sim, NULL);
	memset(&f->err, 0, sizeof(f->err));
	lsn = append(f, 1000);
	assert_int_equal(lt_wal_sync(f->wal, lsn, &f->err), LTG_OK);
	close_wal(f);
	{
		uint32_t	n = f->next;

		assert_int_equal(open_wal(f, 0), LTG_OK);
		assert_int_equal(f->seen, n);
	}
}

/* LtWalRecordFn: the number of the first record */
static LtgStatus
first_number(void *arg, const uint8_t *payload, uint32_t len, LtgSeq lsn)
{
	uint32_t   *first = arg;

	(void) len;
	(void) lsn;
	if (payload[0] == 'R' && *first == 0)
		memcpy(first, payload + 1, sizeof(*first));
	return LTG_OK;
}

static void
trimming_keeps_what_replay_needs(void **state)
{
	Fixture    *f = *state;
	LtgSeq		middle = 0;
	LtWalStats	s;
	uint32_t	removed,
				n,
				first = 0,
				at_middle = 0;

	for (int i = 0; i < 1000; i++)
	{
		LtgSeq		lsn = append(f, 500);

		if (i == 500)
		{
			middle = lsn;
			at_middle = f->next;
		}
	}
	assert_int_equal(lt_wal_sync(f->wal, lt_wal_position(f->wal), &f->err), LTG_OK);
	assert_int_equal(lt_wal_trim(f->wal, middle, &removed, &f->err), LTG_OK);
	assert_true(removed >= 3);
	lt_wal_stats(f->wal, &s);
	assert_true(s.segments < 6);
	close_wal(f);
	/* the log no longer goes back to the start */
	assert_int_equal(open_wal(f, 0), LTG_CORRUPT);
	close_wal(f);
	create(f);
	assert_int_equal(lt_wal_scan(f->wal, &n, &f->err), LTG_OK);
	assert_int_equal(lt_wal_replay(f->wal, middle, first_number, &first, &f->err), LTG_OK);
	/* from the start of the segment that `middle` lies in */
	assert_true(first > 0 && first < at_middle && at_middle - first < 140);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(records_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(largest_records_wrap_in_the_buffer, setup, teardown),
		cmocka_unit_test_setup_teardown(synced_records_survive_power_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(damage_before_a_later_segment_is_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(damage_in_the_last_segment_ends_the_log, setup, teardown),
		cmocka_unit_test_setup_teardown(every_flip_is_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(failed_sync_poisons, setup, teardown),
		cmocka_unit_test_setup_teardown(failed_write_is_tried_again, setup, teardown),
		cmocka_unit_test_setup_teardown(trimming_keeps_what_replay_needs, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
