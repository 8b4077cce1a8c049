/*
 * speculative.c
 *	  Who is inserting speculatively (ON CONFLICT), and under which token.
 *
 * A speculative insertion is an ordinary version.  While it is not complete its
 * backend shows the row and the token here, so that others wait for the token,
 * which is released as soon as the insertion is complete or withdrawn, and not
 * for the end of the transaction, which may be waiting for them.
 *
 * Order of events (must):
 *	 inserter	lock the token; show it here; write the row; enter it in indexes;
 *				write GONE if there was a conflict; take it away here; release
 *	 others		read the versions; look here; if there is nothing here, read them
 *				again
 * A token that is found is locked still, or was a moment ago: whoever waits for it
 * and then looks again finds something else.  If there is none, the insertion
 * was complete, or withdrawn, before the second reading, which tells which.
 *
 * An insertion that fails in between is over when its (sub)transaction is: then
 * its versions are aborted ones, and its token is taken away before the lock
 * manager releases the lock.  Functions in an index's expressions may insert
 * speculatively in turn, so a backend has a small stack of tokens.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/backendid.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#include "modify.h"
#include "versions.h"

#define DEPTH_MAX 8

typedef struct Shown
{
	uint64		store_id;
	uint64		rowid;
	uint32		token;
} Shown;

/* One of each backend; written by it alone. */
typedef struct SpeculativeSlot
{
	slock_t		mutex;
	int			n;
	Shown		shown[DEPTH_MAX];
} SpeculativeSlot;

static SpeculativeSlot *slots;

static SubTransactionId begun_in[DEPTH_MAX];
static int	depth = 0;			/* as in this backend's slot */

Size
lightning_speculative_shmem_size(void)
{
	return mul_size(MaxBackends, sizeof(SpeculativeSlot));
}

void
lightning_speculative_shmem_init(void)
{
	bool		found;

	slots = ShmemInitStruct("lightning speculative insertions",
							lightning_speculative_shmem_size(), &found);
	for (int i = 0; !found && i < MaxBackends; i++)
	{
		SpinLockInit(&slots[i].mutex);
		slots[i].n = 0;
	}
}

static void
show(int n)
{
	SpeculativeSlot *slot = &slots[MyBackendId - 1];

	Assert(MyBackendId >= 1 && MyBackendId <= MaxBackends);
	pg_write_barrier();			/* what was written before is seen before */
	SpinLockAcquire(&slot->mutex);
	slot->n = n;
	SpinLockRelease(&slot->mutex);
	depth = n;
}

void
lightning_speculative_begin(uint64 store_id, uint64 rowid, uint32 token)
{
	Shown	   *mine;

	if (depth == DEPTH_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("too many nested INSERT ... ON CONFLICT commands within index expressions"));
	/* nobody looks at it before it is counted */
	mine = &slots[MyBackendId - 1].shown[depth];
	mine->store_id = store_id;
	mine->rowid = rowid;
	mine->token = token;
	begun_in[depth] = GetCurrentSubTransactionId();
	show(depth + 1);
}

void
lightning_speculative_end(void)
{
	Assert(depth > 0);
	show(depth - 1);
}

/* What was begun in this subtransaction or later ones has failed. */
void
lightning_speculative_at_subabort(SubTransactionId subid)
{
	int			n = depth;

	while (n > 0 && begun_in[n - 1] >= subid)
		n--;
	if (n < depth)
		show(n);
}

void
lightning_speculative_at_xact_end(void)
{
	if (depth > 0)
		show(0);
}

static uint32
find_token(uint64 store_id, uint64 rowid)
{
	pg_read_barrier();			/* not before the versions */
	for (int i = 0; i < MaxBackends; i++)
	{
		SpeculativeSlot *slot = &slots[i];
		uint32		token = 0;

		if (slot->n == 0)
			continue;
		SpinLockAcquire(&slot->mutex);
		for (int k = 0; k < slot->n; k++)
		{
			if (slot->shown[k].store_id == store_id && slot->shown[k].rowid == rowid)
				token = slot->shown[k].token;
		}
		SpinLockRelease(&slot->mutex);
		if (token != 0)
			return token;
	}
	return 0;
}

/* Has the row been withdrawn by now?  A flush may have dropped all that was there. */
static bool
is_withdrawn(Relation rel, uint64 rowid)
{
	LightningVersions kv;
	bool		withdrawn;

	lightning_versions_init(&kv);
	lightning_versions_get(rel, rowid, true, &kv);
	withdrawn = kv.n == 0 || ltg_version_says(kv.v[0].kind, false) == LTG_SAYS_NEVER;
	lightning_versions_free(&kv);
	return withdrawn;
}

bool
lightning_speculative_look(Relation rel, uint64 rowid, uint32 *token)
{
	*token = find_token(lightning_rel(rel).store_id, rowid);
	if (*token != 0)
		return true;
	/* what is read from here on is not older than what was shown there */
	pg_read_barrier();
	return !is_withdrawn(rel, rowid);
}
