/*
 * port_posix.h
 *	  LtgPort on a POSIX system: one directory of files, pthread locks, malloc.
 *
 * Used by the embedded library (lt/), the tests and the benchmarks.  One port
 * serves any number of threads.  The log and the fate of transactions are the
 * owner's: until it sets wal_*, xid_status and horizon, the port answers like
 * an idle host: the log is always durable at position 0, every transaction is
 * committed, and the horizon is 0 (nothing may be settled).
 *
 * Faults: tests make the n-th call of a kind fail, once or from then on.
 */
#ifndef LTG_PORT_POSIX_H
#define LTG_PORT_POSIX_H

#include "ltg_port.h"

typedef struct LtgPosix LtgPosix;

typedef enum LtgFaultKind
{
	LTG_FAULT_ALLOC,			/* alloc and realloc */
	LTG_FAULT_OPEN,
	LTG_FAULT_READ,
	LTG_FAULT_WRITE,
	LTG_FAULT_SYNC,				/* file_sync */
	LTG_FAULT_RENAME,
	LTG_FAULT_REMOVE,
	LTG_FAULT_DIR_SYNC,
	LTG_FAULT_SIZE,
	LTG_FAULT_LIST,
	LTG_FAULT_KINDS
} LtgFaultKind;

typedef struct LtgPosixOptions
{
	const char *dir;
	bool		create;			/* make the directory if it is not there */
	bool		lock_dir;		/* refuse a directory another port has locked */
	/* Messages at or above log_level go to log, or to stderr when NULL. */
	LtgLogLevel log_level;
	void		(*log) (void *arg, LtgLogLevel level, const char *msg);
	void	   *log_arg;
} LtgPosixOptions;

/*
 * LTG_BUSY: locked by another port.  Other failures fill *err.  The port is
 * allocated with malloc, before faults can be set.
 */
extern LtgStatus ltg_posix_open(const LtgPosixOptions *opt, LtgPosix **posix,
								LtgError *err) LTG_MUST_CHECK;
/* REQUIRES: no file, lock or memory of this port is in use any more. */
extern void ltg_posix_close(LtgPosix *posix);
extern LtgPort *ltg_posix_port(LtgPosix *posix);

/*
 * The owner's part; any may be NULL (see above).  To be set before the port is
 * shared.  arg is passed to each.
 */
typedef struct LtgPosixHost
{
	void	   *arg;
	LtgSeq		(*wal_position) (void *arg);
	LtgStatus	(*wal_flush) (void *arg, LtgSeq lsn, LtgError *err);
	LtgStatus	(*xid_status) (void *arg, LtgXid xid, LtgXidStatus *status,
							   LtgError *err);
	LtgXid		(*horizon) (void *arg);
	void		(*live) (void *arg, LtgLive *live);
	LtgSees		(*sees) (void *arg, const LtgLive *live, uint32_t i, LtgXid xid);
	bool		(*interrupted) (void *arg);
	void		(*stop_point) (void *arg, const char *name);
} LtgPosixHost;

extern void ltg_posix_set_host(LtgPosix *posix, const LtgPosixHost *host);

/*
 * Let the nth (1 = next) call of this kind fail, and all later ones too if
 * persistent, with os_errno (0: EIO; ENOSPC for writes is up to the caller).
 * nth = 0 removes the fault.  ltg_posix_calls counts calls since the last
 * ltg_posix_fail of that kind, ltg_posix_failed the failed ones.
 */
extern void ltg_posix_fail(LtgPosix *posix, LtgFaultKind kind, uint64_t nth,
						   bool persistent, int os_errno);
extern uint64_t ltg_posix_calls(LtgPosix *posix, LtgFaultKind kind);
extern uint64_t ltg_posix_failed(LtgPosix *posix, LtgFaultKind kind);
extern void ltg_posix_no_faults(LtgPosix *posix);
/* Allocations not freed yet; tests look for leaks with it. */
extern uint64_t ltg_posix_live_allocs(LtgPosix *posix);

#endif
