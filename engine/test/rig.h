/*
 * rig.h
 *	  What tests of the storage layer share: a session on a directory of its
 *	  own, random numbers, and a model of what a run should contain.
 */
#ifndef LTG_TEST_RIG_H
#define LTG_TEST_RIG_H

#include "base/session.h"
#include "base/version.h"
#include "port/port_posix.h"
#include "storage/run.h"

typedef struct Rig
{
	char		dir[64];
	LtgPosix   *posix;
	LtgPort    *port;
	LtgSession	s;
	bool		interrupt;		/* what port->interrupted answers */
} Rig;

/* Both end the process on failure. */
extern void rig_open(Rig *r);
/* Removes the directory; fails when memory was not given back. */
extern void rig_close(Rig *r);
/* Path of a file in the rig's directory. */
extern const char *rig_path(const Rig *r, const char *name, char *buf, size_t size);
/* The same for a data file. */
extern const char *rig_run_path(const Rig *r, LtgFileId id, char *buf, size_t size);

extern uint64_t rig_random(uint64_t *state);

/* ---- a model run: versions in run order ---- */
typedef struct ModelEntry
{
	uint8_t    *key;
	uint32_t	key_len;
	LtgVersion	v;				/* payload is owned */
} ModelEntry;

typedef struct Model
{
	ModelEntry *e;
	uint32_t	n, cap;
} Model;

extern void model_add(Model *m, const void *key, uint32_t key_len, const LtgVersion *v);
/* Sort by key, then newest first; drops later duplicates of (key, seq). */
extern void model_sort(Model *m);
extern void model_free(Model *m);
/* What reading this version back gives. */
/*
 * A writer as tables have them: all by one, few of old and new ones, one after the
 * other, any, some not known; 0: not known.
 */
#define RIG_WRITER_PATTERNS 8
extern LtgXid rig_writer(uint32_t pattern, uint32_t i, uint64_t *rnd);
extern LtgVersion model_expect(const LtgVersion *v);
/* Ends the process with a message when they differ. */
extern void model_compare(const LtgVersion *got, const LtgVersion *wrote);

extern LtgRunOptions rig_options(void);
/* Write the model as a file with one run. */
extern LtgStatus model_write(Rig *r, const Model *m, LtgFileId id, const LtgRunOptions *opt,
							 LtgRunRef *ref);

#endif
