/*
 * lsm_rig.h
 *	  A whole engine for tests: the POSIX port in a temporary directory, a
 *	  region, one session, and a toy host with transactions, snapshots and a log
 *	  that can be replayed.
 */
#ifndef LSM_RIG_H
#define LSM_RIG_H

#include "ltg.h"
#include "port/port_posix.h"

typedef enum RigXact
{
	RIG_RUNNING,
	RIG_COMMITTED,
	RIG_ABORTED
} RigXact;

typedef struct RigSnapshot
{
	LtgSnapshot snap;			/* first */
	struct LsmRig *rig;
	LtgXid		xmax;			/* all ids from it on were running, or not given out */
	LtgXid	   *running;
	uint32_t	n_running;
	LtgXid		own;			/* 0: none */
	uint32_t	cid;			/* sees own versions with a smaller one */
	uint64_t	judged;			/* calls of judge */
	bool		live;
	bool		known;			/* told to flush and compaction one by one */
	bool		vague;			/* ... and what it sees only from xmin down */
} RigSnapshot;

typedef struct RigRecord		/* of the toy log */
{
	LtgSeq		lsn;
	LtgStoreKey store;
	LtgXid		xid;
	uint32_t	cid;
	LtgKind		kind;
	uint8_t		tag;
	uint64_t	aux;
	uint32_t	key_len, payload_len;
	uint8_t		bytes[];		/* key, payload */
} RigRecord;

#define RIG_SNAPSHOTS 16

typedef struct LsmRig
{
	char		dir[64];
	LtgConfig	config;
	LtgPosix   *posix;
	LtgPort    *port;
	void	   *mem;
	LtgShared  *shared;
	LtgSession *s;

	RigXact    *xact;			/* by xid */
	uint32_t	n_xacts, cap_xacts;
	LtgSeq		lsn;
	RigRecord **log;
	uint32_t	n_log, cap_log;
	RigSnapshot *snaps[RIG_SNAPSHOTS];
	uint64_t	status_calls;
	bool		interrupted;
	LtgXid		doubtful;		/* not 0: status of this one is never known, and
								 * the horizon passes it all the same */
	LtgSeq		wal_flushed;
	uint32_t	replayed, skipped;	/* versions above D at the last restart; of them
									 * those that the files had */
	void		(*stop) (struct LsmRig *rig, const char *name);
	void	   *stop_arg;
} LsmRig;

/* Small memtables, blocks and files, so that little data makes many of them. */
extern void lrig_config(LtgConfig *c);
/* Empty directory, loaded. config NULL: lrig_config's. */
extern void lrig_open(LsmRig *rig, const LtgConfig *config);
extern void lrig_close(LsmRig *rig);
/* The process dies (running transactions end as aborted) and starts again:
 * loads the newest manifest and replays the log beyond its D. */
extern void lrig_restart(LsmRig *rig);

extern LtgStore *lrig_store(LsmRig *rig, uint32_t relation, uint32_t flags);
extern LtgStore *lrig_find(LsmRig *rig, uint32_t relation);

extern LtgXid lrig_begin(LsmRig *rig);
extern void lrig_end(LsmRig *rig, LtgXid xid, bool commit);
extern LtgXid lrig_horizon(LsmRig *rig);
extern LtgXid lrig_floor(LsmRig *rig);	/* the same, of snapshots that are not known */
extern RigSnapshot *lrig_snapshot(LsmRig *rig, LtgXid own, uint32_t cid);
extern void lrig_release(LsmRig *rig, RigSnapshot *snap);
extern bool lrig_sees(const RigSnapshot *snap, LtgXid xid, uint32_t cid);

/* Write one version, flushing as necessary; returns its seq. */
extern LtgSeq lrig_write(LsmRig *rig, LtgStore *store, const void *key, uint32_t key_len,
						LtgKind kind, const void *payload, uint32_t payload_len,
						LtgXid xid, uint32_t cid);
/* A tombstone that says where the row has gone. */
extern LtgSeq lrig_write_moved(LsmRig *rig, LtgStore *store, const void *key, uint32_t key_len,
							   uint64_t to, LtgXid xid);
/* A committed row of its own transaction. */
extern void lrig_put(LsmRig *rig, LtgStore *store, const char *key, const char *payload);
extern void lrig_delete(LsmRig *rig, LtgStore *store, const char *key);

extern void lrig_freeze(LsmRig *rig);
extern void lrig_flush_all(LsmRig *rig); /* freeze and flush */
extern uint32_t lrig_compact_all(LsmRig *rig);	/* until none is due */
/* Fail the test with the session's error unless st is what was expected. */
#define lrig_ok(rig, st) lrig_expect((rig), (st), LTG_OK, __FILE__, __LINE__)
extern void lrig_expect(LsmRig *rig, LtgStatus st, LtgStatus want, const char *file, int line);

/* The 5-byte key of a row id. */
extern void lrig_rowid(uint8_t *key, uint64_t rowid);

/* A small generator: the same seed, the same test. */
static inline uint64_t
lrig_random(uint64_t *state)
{
	uint64_t	x = *state += UINT64_C(0x9E3779B97F4A7C15);

	x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
	return x ^ (x >> 31);
}

static inline uint32_t
lrig_below(uint64_t *state, uint32_t n)
{
	return (uint32_t) (lrig_random(state) % n);
}

#endif
