/*
 * core_rig.h
 *	  What tests of the tree stand on: a directory, a POSIX port with a
 *	  simulated log, a region, and a session.
 *
 * The log is a counter: each write takes the next 10 bytes of it.  Transactions
 * are all committed unless core_host says otherwise; the horizon is 0 (nothing
 * settles) unless set.
 */
#ifndef LTG_TEST_CORE_RIG_H
#define LTG_TEST_CORE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ltg.h"
#include "port/port_posix.h"
#include "tree/publish.h"
#include "tree/state.h"

typedef struct CoreRig
{
	char		dir[64];
	LtgPosix   *posix;
	LtgPort    *port;
	LtgConfig	config;
	void	   *mem;
	LtgShared  *sh;
	LtgSession *s;
	_Atomic LtgSeq wal;			/* insert position */
	_Atomic LtgSeq wal_flushed;
	_Atomic LtgXid horizon;
	int			wal_flush_fails;	/* next n flushes fail */
	const char *stop_at;		/* call on_stop at this stop point, once; "*":
								 * at every one */
	void		(*on_stop) (struct CoreRig *rig);
	uint32_t	problems;		/* found by core_check */
	char		log[4096];		/* last messages */
} CoreRig;

/* A fresh directory; no region yet. */
extern void core_open(CoreRig *rig);
extern void core_close(CoreRig *rig);	/* removes the directory */
/* Region and session; then ltg_load unless load is false. */
extern void core_boot(CoreRig *rig, bool load);
extern void core_boot_crashed(CoreRig *rig); /* with reset_unlogged */
/* The region is lost; the files stay. */
extern void core_down(CoreRig *rig);

extern LtgStore *core_store(CoreRig *rig, uint32_t relation, uint32_t flags);
extern LtgStoreKey core_key(uint32_t relation);
/* Log and apply one committed version; makes room when it must. */
extern void core_put(CoreRig *rig, LtgStore *store, uint32_t key, uint32_t value);
extern void core_delete(CoreRig *rig, LtgStore *store, uint32_t key);
/* -1 when there is none. */
extern int64_t core_get(CoreRig *rig, LtgStore *store, uint32_t key);
/* Freeze and flush everything. */
extern LtgStatus core_flush(CoreRig *rig);
/* ltg_check_all; fails the test if it finds anything. */
extern void core_check(CoreRig *rig);
/* ... or says how much it finds. */
extern uint32_t core_problems(CoreRig *rig);

/* Files in the directory whose names end so. */
extern uint32_t core_count_files(CoreRig *rig, const char *suffix);
/* Change a byte, or cut, or remove a file. */
extern void core_flip(CoreRig *rig, const char *name, long offset, uint8_t mask);
extern long core_file_size(CoreRig *rig, const char *name);
extern void core_truncate(CoreRig *rig, const char *name, long size);
extern void core_unlink(CoreRig *rig, const char *name);

#endif
