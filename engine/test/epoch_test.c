/*
 * epoch_test.c
 *	  Epochs in one thread: slots, nesting, when a stamp has passed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mem_rig.h"

static void
test_claim(void **state)
{
	MemRig		rig;
	uint32_t	slot;

	(void) state;
	mem_rig_open(&rig);
	/* The rig has taken all. */
	assert_int_equal(ltg_epoch_claim(rig.epochs, &slot), LTG_NOSHMEM);
	for (uint32_t i = 0; i < MEM_RIG_SESSIONS; i++)
		for (uint32_t j = 0; j < i; j++)
			assert_int_not_equal(rig.session[i].epoch_slot, rig.session[j].epoch_slot);
	ltg_epoch_unclaim(rig.epochs, rig.session[5].epoch_slot);
	assert_int_equal(ltg_epoch_claim(rig.epochs, &slot), LTG_OK);
	assert_int_equal(slot, rig.session[5].epoch_slot);
	assert_int_equal(ltg_epoch_claim(rig.epochs, &slot), LTG_NOSHMEM);
	mem_rig_close(&rig);
}

static void
test_passed(void **state)
{
	MemRig		rig;
	LtgSession *a = &rig.session[0];
	LtgSession *b = &rig.session[MEM_RIG_SESSIONS - 1];
	uint64_t	first,
				second;

	(void) state;
	mem_rig_open(&rig);
	first = ltg_epoch_stamp(rig.epochs);
	assert_true(ltg_epoch_passed(rig.epochs, first));

	ltg_epoch_enter(a);
	assert_true(ltg_epoch_passed(rig.epochs, first));
	first = ltg_epoch_stamp(rig.epochs);
	assert_false(ltg_epoch_passed(rig.epochs, first));
	ltg_epoch_enter(b);			/* began after the first stamp */
	second = ltg_epoch_stamp(rig.epochs);
	assert_true(second > first);
	assert_true(ltg_epoch_oldest(rig.epochs) < first);
	ltg_epoch_enter(a);			/* nested */
	ltg_epoch_leave(a);
	assert_false(ltg_epoch_passed(rig.epochs, first));
	ltg_epoch_leave(a);
	assert_true(ltg_epoch_passed(rig.epochs, first));
	assert_false(ltg_epoch_passed(rig.epochs, second));
	ltg_epoch_enter(a);			/* late comers hold nothing back */
	ltg_epoch_leave(b);
	assert_true(ltg_epoch_passed(rig.epochs, second));
	assert_true(ltg_epoch_oldest(rig.epochs) >= second);
	ltg_epoch_leave(a);
	mem_rig_close(&rig);
}

static void
test_reset(void **state)
{
	MemRig		rig;
	LtgSession *a = &rig.session[3];
	uint64_t	stamp;

	(void) state;
	mem_rig_open(&rig);
	ltg_epoch_enter(a);
	ltg_epoch_enter(a);
	stamp = ltg_epoch_stamp(rig.epochs);
	assert_false(ltg_epoch_passed(rig.epochs, stamp));
	ltg_epoch_reset(a);
	assert_int_equal(a->epoch_depth, 0);
	assert_true(ltg_epoch_passed(rig.epochs, stamp));
	ltg_epoch_reset(a);			/* outside: harmless */
	ltg_epoch_enter(a);
	ltg_epoch_leave(a);
	mem_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claim),
		cmocka_unit_test(test_passed),
		cmocka_unit_test(test_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
