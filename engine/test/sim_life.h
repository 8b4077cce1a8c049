/*
 * sim_life.h
 *	  What the parts of the simulated life share: the model, and the tasks.
 */
#ifndef LTG_TEST_SIM_LIFE_H
#define LTG_TEST_SIM_LIFE_H

#include "lt/db.h"
#include "test/port_sim.h"
#include "test/sim.h"

#define ACCOUNTS_MAX 24
#define START_BALANCE 100
#define TXNS_MAX 6000
#define CHANGES_MAX 12
#define KEYS_MAX 4096
#define WRITERS_MAX 5
#define STEPS_MAX 3000000

typedef enum Outcome
{
	O_OPEN,						/* running; at a crash: did not commit */
	O_COMMITTING,				/* commit was called; at a crash: either */
	O_ACKED,					/* commit returned; durable as far as asked */
	O_DOUBT,					/* commit failed, but a crash may bring it back */
	O_ABORTED,
	O_FINAL						/* seen after a crash: must stay */
} Outcome;

typedef struct Change
{
	int			key;			/* index of the key */
	uint64_t	order;			/* when it was put: orders writers of a key */
	bool		deleted;
	uint64_t	value;
	uint32_t	padding;
} Change;

typedef struct ModelTxn
{
	Outcome		outcome;
	lt_sync		sync;
	uint64_t	commit_began, acked;	/* by the life's event counter */
	int			n;
	Change		change[CHANGES_MAX];
	bool		present;		/* its marker was found */
} ModelTxn;

/* What is known of a named tree.  Making and dropping are durable on return. */
typedef enum TreeState
{
	TREE_ABSENT,
	TREE_PRESENT,
	TREE_EITHER					/* the call was under way, or failed */
} TreeState;

#define TREES 3

typedef struct ModelTree
{
	TreeState	state;
	uint64_t	acked;			/* row "n" is at least this, if the tree is there */
	uint64_t	written;		/* and at most this */
} ModelTree;

typedef struct Life
{
	Sim		   *sim;
	SimReport  *r;
	lt_db	   *db;
	lt_options	opt;
	lt_status	open_status;
	char		open_error[300];
	int			accounts, writers, readers, old_readers, compactors;
	int			writers_left;
	uint64_t	txns_per_writer;
	uint32_t	padding_max;
	int			sweep;			/* rows of each writer that are written again and
								 * again, so that flushes are merges; 0: none */
	bool		stop;
	uint64_t	events;
	uint32_t	n_txns;
	ModelTxn   *txn;
	int			n_keys;
	char		key[KEYS_MAX][16];
	bool		closing_ok;
	ModelTree	tree[TREES];
	int			checks;
	SimFaults	faults;
	bool		round_faulty;
	bool		parted;			/* at the last crash: see note_parted */
} Life;

typedef struct Writer
{
	Life	   *life;
	int			number;
} Writer;

/* ---- sim_model.c ---- */

extern void life_wrong(Life *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
extern bool life_excused(Life *l, lt_status st);
extern void life_expect_ok(Life *l, lt_status st, const char *what);
extern uint64_t life_rnd(Life *l, uint64_t n);
extern int life_key_index(Life *l, const char *key);
extern size_t life_build_value(uint8_t *buf, uint64_t value, uint64_t writer,
							   uint32_t padding);
extern bool life_parse_value(const void *data, size_t size, uint64_t *value,
							 uint64_t *writer);
extern void life_marker_key(char *buf, uint32_t id);

/* ---- sim_work.c ---- */

extern uint32_t life_new_txn(Life *l);
extern void life_note_change(Life *l, uint32_t id, const char *key, bool deleted,
							 uint64_t value, uint32_t padding);
extern lt_status life_txn_read(Life *l, lt_txn *t, const char *key, uint64_t *value);
extern void life_commit_began(Life *l, uint32_t id);
extern void life_commit_ended(Life *l, uint32_t id, lt_status st);
extern void life_writer_task(void *arg);
extern void life_tree_name(char *buf, int i);
extern void life_tree_task(void *arg);
extern void life_flush_task(void *arg);
extern void life_compact_task(void *arg);
extern void life_sync_task(void *arg);
extern void life_checkpoint_task(void *arg);

/* ---- sim_readers.c ---- */

extern void life_check_snapshot(Life *l, lt_txn *t);
extern void life_reader_task(void *arg);
extern void life_old_reader_task(void *arg);

/* ---- sim_verify.c ---- */

typedef struct Verify
{
	Life	   *life;
	bool		power;
} Verify;

extern void life_open_task(void *arg);
extern void life_create_accounts_task(void *arg);
extern void life_verify_task(void *arg);
extern void life_close_task(void *arg);

#endif
