/*
 * mem_rig.c
 *	  See mem_rig.h.
 */
#include "mem_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

void
mem_rig_open(MemRig *rig)
{
	LtgPosixOptions opt = {.log_level = LTG_LOG_WARNING};
	LtgError	err;
	size_t		size = (ltg_epoch_table_size(MEM_RIG_SESSIONS) + 63) / 64 * 64;

	memset(rig, 0, sizeof(*rig));
	snprintf(rig->dir, sizeof(rig->dir), "/tmp/ltg-mem-XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	opt.dir = rig->dir;
	assert_int_equal(ltg_posix_open(&opt, &rig->posix, &err), LTG_OK);
	rig->port = ltg_posix_port(rig->posix);
	rig->epochs = aligned_alloc(LTG_CACHE_LINE, size);
	assert_non_null(rig->epochs);
	ltg_epoch_table_init(rig->epochs, MEM_RIG_SESSIONS);
	for (int i = 0; i < MEM_RIG_SESSIONS; i++)
	{
		LtgSession *s = &rig->session[i];

		s->port = rig->port;
		s->epochs = rig->epochs;
		s->latched_stripe = -1;
		s->pinned = -1;
		assert_int_equal(ltg_epoch_claim(rig->epochs, &s->epoch_slot), LTG_OK);
	}
}

void
mem_rig_close(MemRig *rig)
{
	for (int i = 0; i < MEM_RIG_SESSIONS; i++)
		ltg_epoch_unclaim(rig->epochs, rig->session[i].epoch_slot);
	free(rig->epochs);
	ltg_posix_close(rig->posix);
	assert_int_equal(rmdir(rig->dir), 0);
}
