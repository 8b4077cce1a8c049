/*
 * txn.h
 *	  Transaction ids, their fate, and snapshots of the embedded library.
 *
 * Every writing transaction has a 64-bit xid.  Its slot in the commit table
 * goes through
 *	 RUNNING -> LOGGED -> PUBLISHING -> csn		or		-> ABORTED
 * A commit sequence number (csn) is taken from one counter after the commit is
 * logged and as durable as it has to be.  A snapshot is the value of that
 * counter: it sees a transaction if and only if its csn is not larger.  So
 * taking a snapshot costs two loads and one store, whatever is running.
 *
 * Invariants
 *	 X1. Every xid below `oldest` is finished, and was published before
 *		 `oldest` moved past it.  A snapshot stores xmin = oldest in its place
 *		 before it reads the counter; so horizon() (the smallest xmin stored,
 *		 or oldest) never passes a transaction that some snapshot does not see.
 *	 X1a. A snapshot that may live long also says which one it is (its csn), after
 *		 X1 is done.  It clears that before it gives the place up.  Whoever
 *		 collects snapshots reads `oldest`, then of each place csn and, if that
 *		 is 0, xmin: a snapshot of which neither is seen was taken after `oldest`
 *		 was read, and sees all below it.
 *	 X2. The table has slots for [base, next); base <= horizon.  Of the xids
 *		 below base, those in the aborted set aborted and all others
 *		 committed.
 *	 X3. An aborted xid leaves the set only when no version of it exists any
 *		 more, in memory or in files.
 *	 X4. A slot is LOGGED (or later) exactly from the commit record's place in
 *		 the log on, so that a state record tells the truth about its place.
 *	 X5. Chunks of slots are reused only after base has moved past them;
 *		 readers load base again after they have read a slot.
 *
 * Thread safety: everything.  LT_MU_XIDS guards chunks and the aborted set.
 */
#ifndef LT_TXN_H
#define LT_TXN_H

#include "base/epoch.h"
#include "base/version.h"
#include "lt/host.h"

#define LT_SLOT_RUNNING 0
#define LT_SLOT_ABORTED 1
#define LT_SLOT_LOGGED 2
#define LT_SLOT_PUBLISHING 3
#define LT_CSN_FIRST 16

#define LT_NO_XMIN UINT64_MAX

typedef struct LtXids LtXids;

/* A place where somebody who has a snapshot says how old it is. */
typedef struct LtXminSlot
{
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t xmin;
	_Atomic uint64_t csn;		/* which snapshot it is; 0: does not say */
} LtXminSlot;

extern LtgStatus lt_xids_create(LtHost *host, uint32_t n_places, uint32_t chunk_shift,
								LtXids **xids) LTG_MUST_CHECK;
extern void lt_xids_destroy(LtXids *x);
/* Recovery's outcome: all xids below next are finished, these aborted
 * (ascending; kept until no version of them can exist). */
extern LtgStatus lt_xids_restore(LtXids *x, LtgXid next, const LtgXid *aborted, size_t n,
								 LtgSeq at) LTG_MUST_CHECK;

extern LtXminSlot *lt_xids_place(LtXids *x, uint32_t i);

/* LTG_BUSY: too many since the oldest snapshot; LTG_NOMEM. */
extern LtgStatus lt_xid_new(LtXids *x, LtgXid *xid, _Atomic uint64_t **slot) LTG_MUST_CHECK;
/* The transaction becomes visible.  REQUIRES: its slot is LOGGED. */
extern void lt_xid_commit(LtXids *x, _Atomic uint64_t *slot);
extern void lt_xid_abort(LtXids *x, _Atomic uint64_t *slot);

typedef enum LtFate
{
	LT_FATE_RUNNING,			/* no commit record yet */
	LT_FATE_COMMITTING,			/* logged, not visible */
	LT_FATE_COMMITTED,
	LT_FATE_ABORTED
} LtFate;

/* *csn: 0 for one that every snapshot sees. */
extern LtFate lt_xid_fate(LtXids *x, LtgXid xid, uint64_t *csn);

/* ---- snapshots ---- */
typedef struct LtSnap
{
	LtgSnapshot snap;			/* first: the engine hands this back to judge */
	LtXids	   *xids;
	uint64_t	csn;
	LtgXid		own_xid;		/* 0: none */
	uint32_t	own_cid;		/* own versions below it are visible */
	LtXminSlot *place;			/* NULL: somebody else's snapshot, copied */
} LtSnap;

extern void lt_snap_take(LtXids *x, LtSnap *snap, LtXminSlot *place);
/* It may live long: let flush and compaction know which one it is. */
extern void lt_snap_announce(LtSnap *snap);
extern void lt_snap_release(LtSnap *snap);
extern LtgXid lt_xids_horizon(LtXids *x);
/* For LtgPort: the announced snapshots, and what they see. */
extern void lt_xids_live(LtXids *x, LtgLive *live);
extern LtgSees lt_xids_sees(LtXids *x, const LtgLive *live, uint32_t i, LtgXid xid);
extern LtgXid lt_xids_next(LtXids *x);
extern LtgXid lt_xids_oldest(LtXids *x);

/* ---- keeping house ---- */

/*
 * Moves base up to the horizon.  Forgets aborted xids that were moved out of
 * the table at or before `durable` and are below min_file_xid (0: no file has
 * an unsettled version), one epoch after this was first found to be so.
 */
extern LtgStatus lt_xids_prune(LtXids *x, LtgEpochTable *epochs, LtgSeq position,
							   LtgSeq durable, LtgXid min_file_xid) LTG_MUST_CHECK;
extern size_t lt_xids_aborted_kept(LtXids *x);
/* Oldest aborted xid in the set, 0 if none. */
extern LtgXid lt_xids_oldest_aborted(LtXids *x);
extern uint64_t lt_xids_commits(LtXids *x);

/* State for the log: next xid, running and aborted ones, ascending.  fn is
 * called once per running and per aborted xid. */
typedef LtgStatus (*LtXidFn) (void *arg, LtgXid xid, bool aborted);
extern LtgStatus lt_xids_state(LtXids *x, LtgXid *next, LtXidFn fn, void *arg) LTG_MUST_CHECK;

extern bool lt_xids_check(LtXids *x, char *msg, size_t msg_size);

#endif
