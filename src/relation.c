/*
 * relation.c
 *	  From relations to stores: finding, creating and dropping them, and
 *	  handing out row ids.
 *
 * Stores follow the transactions that make and unmake them.  Which relations'
 * storage goes at commit, and which at abort, is what PostgreSQL's list of
 * pending deletes says (storage.c): it knows about DROP, TRUNCATE, rewrites,
 * dropped schemas and savepoints alike.  A store goes with its relation's
 * files.  What the callbacks here miss (COMMIT PREPARED, crashes, a gate that
 * has closed) the sweep finds: a store whose relation has no file any more is
 * an orphan.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_tablespace_d.h"
#include "catalog/storage.h"
#include "common/relpath.h"
#include "miscadmin.h"
#include "storage/backendid.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "logical.h"
#include "options.h"
#include "server.h"
#include "wal.h"

/*
 * What rd_amcache holds.  The relation cache frees it whenever it accepts an
 * invalidation of the relation, which any look at a catalog may do: no pointer to it
 * is kept over anything, and none leaves this file.
 */
typedef struct CachedRel
{
	LightningRel rel;
	RelFileNode node;			/* what it was looked up by */
	bool		told;			/* the store knows its options */
	bool		published;		/* publications have been looked at */
} CachedRel;

void
lightning_store_key(const RelFileNode *node, BackendId backend, LtgStoreKey *key)
{
	key->space = node->spcNode;
	key->database = node->dbNode;
	key->relation = node->relNode;
	key->backend = backend == InvalidBackendId ? -1 : backend;
}

static CachedRel *
look_up(Relation rel)
{
	LtgSession *s = lightning_session();
	LtgStoreKey key;
	LtgStore   *store;
	LtgStatus	st;
	CachedRel  *c;

	lightning_store_key(&rel->rd_node, rel->rd_backend, &key);
	st = ltg_store_find(s, &key, &store);
	if (st == LTG_NOT_FOUND)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("table \"%s\" has no data in lightning", RelationGetRelationName(rel)),
				 errdetail("Relation file number %u of database %u is not known to the storage engine.",
						   rel->rd_node.relNode, rel->rd_node.dbNode),
				 errhint("Directory \"%s\" may have been removed, or not been copied; restore it from a backup.",
						 LIGHTNING_DIR)));
	lightning_report(s, st, rel);

	c = rel->rd_amcache;
	if (c == NULL)
		rel->rd_amcache = c = MemoryContextAlloc(CacheMemoryContext, sizeof(CachedRel));
	memset(c, 0, sizeof(*c));
	c->rel.store = store;
	c->rel.store_id = ltg_store_id(store);
	c->rel.logged = rel->rd_rel->relpersistence == RELPERSISTENCE_PERMANENT;
	c->node = rel->rd_node;
	return c;
}

static inline CachedRel *
cached(Relation rel)
{
	CachedRel  *c = rel->rd_amcache;

	if (likely(c != NULL && ltg_store_id(c->rel.store) == c->rel.store_id &&
			   RelFileNodeEquals(c->node, rel->rd_node)))
		return c;
	return look_up(rel);
}

LightningRel
lightning_rel(Relation rel)
{
	return cached(rel)->rel;
}

void
lightning_rel_ready(Relation rel, bool write)
{
	CachedRel  *c = cached(rel);
	LtgStore   *store = c->rel.store;
	bool		tell = !c->told;
	bool		look = write && !c->published && XLogLogicalInfoActive();

	if (likely(!tell && !look))
		return;

	/*
	 * Each flag is set after its look, which may have taken it away.  (What changes
	 * between a look and here is missed until the next invalidation.  But who changes
	 * options tells the store, and a publication of such a table is refused.)
	 */
	if (tell)
	{
		/* options are not in the log: what a crash has lost is told again */
		lightning_options_to_store(rel, store);
		cached(rel)->told = true;
	}
	if (look)
	{
		lightning_warn_if_published(rel);
		cached(rel)->published = true;
	}
}

/* ---- row ids ---- */

#define ROWID_CHUNK_MAX 1024
#define ROWID_STORES_MAX 256

/* Ids taken and not yet used, per store: survives relcache invalidations. */
typedef struct RowIdChunk
{
	uint64		store_id;		/* hash key */
	LtgStore   *store;
	uint64		next;
	uint32		left;
	uint32		size;			/* of the last chunk */
} RowIdChunk;

static HTAB *chunks = NULL;
static RowIdChunk *last_chunk = NULL;

static void
forget_chunks(void)
{
	if (chunks != NULL)
		hash_destroy(chunks);
	chunks = NULL;
	last_chunk = NULL;
}

static RowIdChunk *
get_chunk(const LightningRel *lr)
{
	RowIdChunk *c;
	bool		found;

	if (likely(last_chunk != NULL && last_chunk->store_id == lr->store_id))
		return last_chunk;

	/* ids still in there are lost: there are plenty */
	if (chunks != NULL && hash_get_num_entries(chunks) >= ROWID_STORES_MAX)
		forget_chunks();
	if (chunks == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(uint64);
		ctl.entrysize = sizeof(RowIdChunk);
		ctl.hcxt = TopMemoryContext;
		chunks = hash_create("lightning row ids", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	c = hash_search(chunks, &lr->store_id, HASH_ENTER, &found);
	if (!found)
	{
		c->next = 0;
		c->left = 0;
		c->size = 0;
	}
	c->store = lr->store;
	last_chunk = c;
	return c;
}

static uint64
take_from_store(Relation rel, LtgStore *store, uint32 n)
{
	uint64		first;

	if (ltg_store_next_rowid(store) + n > LIGHTNING_ROWID_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("table \"%s\" has used up its row ids", RelationGetRelationName(rel)),
				 errhint("Rewrite the table, for instance with VACUUM FULL.")));
	first = ltg_store_take_rowids(store, n);
	return first;
}

uint64
lightning_take_rowid(Relation rel)
{
	LightningRel lr = lightning_rel(rel);
	RowIdChunk *c = get_chunk(&lr);

	if (c->left == 0)
	{
		c->size = c->size == 0 ? 1 : Min(c->size * 2, ROWID_CHUNK_MAX);
		c->next = take_from_store(rel, lr.store, c->size);
		c->left = c->size;
	}
	c->left--;
	return c->next++;
}

uint64
lightning_take_rowids(Relation rel, uint32 n)
{
	LightningRel lr = lightning_rel(rel);
	RowIdChunk *c = get_chunk(&lr);
	uint64		first;

	if (c->left < n)
	{
		/* better no gap: if nobody came between, the rest is extended */
		if (c->left > 0 && ltg_store_return_rowids(lr.store, c->next, c->left))
			c->left = 0;
		if (c->left > 0)
			return take_from_store(rel, lr.store, n);
		c->next = take_from_store(rel, lr.store, n);
		c->left = n;
	}
	first = c->next;
	c->next += n;
	c->left -= n;
	return first;
}

/* At transaction end: what is left goes back if nobody took ids since. */
void
lightning_return_rowids(void)
{
	HASH_SEQ_STATUS scan;
	RowIdChunk *c;

	if (last_chunk == NULL)
		return;
	hash_seq_init(&scan, chunks);
	while ((c = hash_seq_search(&scan)) != NULL)
	{
		if (c->left > 0 && ltg_store_id(c->store) == c->store_id &&
			ltg_store_return_rowids(c->store, c->next, c->left))
		{
			c->left = 0;
			c->size = 0;
		}
	}
	last_chunk = NULL;
}

/* ---- temporary stores of this backend ---- */

/* No log record refers to them: they need not be remembered after a drop. */
#define TEMP_DROPPED_AT 1

static LtgStoreKey *temp_stores = NULL;
static int	temp_count = 0;
static int	temp_max = 0;
static bool temp_dropped = false;	/* some may have lost their files */

static char *
fork_path(const LtgStoreKey *key, ForkNumber fork)
{
	RelFileNode node;

	node.spcNode = key->space;
	node.dbNode = key->database;
	node.relNode = key->relation;
	return relpathbackend(node, key->backend < 0 ? InvalidBackendId : key->backend, fork);
}

static bool
main_fork_missing(const LtgStoreKey *key, ForkNumber fork)
{
	char	   *path = fork_path(key, fork);
	struct stat st;
	bool		missing = lstat(path, &st) != 0 && errno == ENOENT;

	pfree(path);
	return missing;
}

int64
lightning_main_fork_bytes(const LtgStoreKey *key)
{
	char	   *path = fork_path(key, MAIN_FORKNUM);
	struct stat st;
	int64		bytes = stat(path, &st) == 0 ? (int64) st.st_size : -1;

	pfree(path);
	return bytes;
}

void
lightning_note_temp_drop(void)
{
	temp_dropped = true;
}

static void
remember_temp(const LtgStoreKey *key)
{
	if (temp_count == temp_max)
	{
		int			max = temp_max == 0 ? 16 : temp_max * 2;

		if (temp_stores == NULL)
			temp_stores = MemoryContextAlloc(TopMemoryContext, max * sizeof(LtgStoreKey));
		else
			temp_stores = repalloc(temp_stores, max * sizeof(LtgStoreKey));
		temp_max = max;
	}
	temp_stores[temp_count++] = *key;
}

/*
 * Drop temporary stores whose files are gone.  Files go after the callbacks of
 * the transaction that drops them, so this is one transaction late, which does
 * not matter.
 */
static void
drop_lost_temp_stores(void)
{
	LtgSession *s = lightning_session();
	int			i,
				n = 0;

	for (i = 0; i < temp_count; i++)
	{
		if (!main_fork_missing(&temp_stores[i], MAIN_FORKNUM))
			temp_stores[n++] = temp_stores[i];
		else
		{
			LtgStatus	st;

			lightning_ddl_begin(s);
			st = ltg_store_drop(s, &temp_stores[i], TEMP_DROPPED_AT);
			lightning_ddl_end(s);
			if (st != LTG_OK)
				ltg_clear_error(s);
		}
	}
	temp_count = n;
	temp_dropped = false;
}

/* ---- their limit ---- */

#define TEMP_ROWS_PER_LOOK 64

static uint64
temp_disk_bytes(void)
{
	LtgSession *s = lightning_session();
	uint64		sum = 0;

	for (int i = 0; i < temp_count; i++)
	{
		LtgStore   *store;
		LtgStoreInfo info;

		if (ltg_store_find(s, &temp_stores[i], &store) != LTG_OK)
		{
			ltg_clear_error(s);
			continue;
		}
		ltg_store_info(s, store, &info);
		sum += info.disk_bytes;
	}
	return sum;
}

/*
 * Before n rows are written.  As temp_file_limit, this counts what is in files; what
 * has not got there is in the memtable, which has its own bound.
 */
void
lightning_enforce_temp_limit(uint32 n)
{
	static uint32 rows = TEMP_ROWS_PER_LOOK;	/* since we looked */
	uint64		limit = (uint64) lightning_temp_table_limit * 1024;

	rows += n;
	if (rows < TEMP_ROWS_PER_LOOK)
		return;
	rows = 0;
	if (temp_disk_bytes() <= limit)
		return;
	/* what was dropped in an earlier transaction may be among them */
	drop_lost_temp_stores();
	if (temp_disk_bytes() <= limit)
		return;
	rows = TEMP_ROWS_PER_LOOK;	/* the next one fails, too */
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("temporary table size exceeds lightning.temp_table_limit (%dkB)",
					lightning_temp_table_limit)));
}

/* ---- creating ---- */

/* Never logged, and gone after a restart. */
static void
create_passing_store(LtgSession *s, const LtgStoreKey *key)
{
	LtgStore   *store;
	LtgStatus	st;

	lightning_ddl_begin(s);
	st = ltg_store_create(s, key, LTG_STORE_TEMP | LTG_STORE_KEEP_GRAVES,
						  ltg_next_unlogged_seq(s), &store);
	lightning_ddl_end(s);
	lightning_report(s, st, NULL);
}

static void
create_temp_store(LtgSession *s, const LtgStoreKey *key)
{
	if (temp_dropped)
		drop_lost_temp_stores();
	remember_temp(key);
	temp_dropped = true;		/* an older one of this relation may go */
	create_passing_store(s, key);
}

/*
 * Waits until the flusher has written what there is now; dropped stores give
 * their memory back then.  False if that fails.
 */
static bool
wait_for_flush(LtgSession *s)
{
	uint64		failures = pg_atomic_read_u64(&lightning_shared->flush_failures);
	bool		frozen = false;

	while (!frozen || ltg_flush_needed(s))
	{
		if (!frozen)
			frozen = ltg_make_room(s, true) == LTG_OK;
		ltg_clear_error(s);
		lightning_wake_flusher();
		if (pg_atomic_read_u64(&lightning_shared->flush_failures) != failures)
			return false;
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
						 lightning_wait_event(LIGHTNING_WAIT_ROOM));
		ResetLatch(MyLatch);
	}
	return true;
}

/*
 * What is logged must succeed, here and on every standby: so a new store has its
 * memory before.  A shortage that will end with the next flush, because stores
 * were dropped, is ended by one.
 */
void
lightning_reserve_store(LtgSession *s)
{
	LtgStatus	st = ltg_store_reserve(s, false);

	if (st == LTG_NOSHMEM && IsUnderPostmaster && ltg_stores_are_leaving(s))
	{
		ltg_clear_error(s);
		(void) wait_for_flush(s);
		st = ltg_store_reserve(s, false);
	}
	lightning_report(s, st, NULL);
}

void
lightning_create_store(const RelFileNode *node, char persistence, BackendId backend)
{
	LtgSession *s = lightning_session();
	LtgStoreKey key;
	LtgStore   *store;
	LtgSeq		stamp;
	LtgStatus	st;
	uint32		flags = LTG_STORE_KEEP_GRAVES;

	lightning_store_key(node, backend, &key);
	lightning_reserve_store(s);
	if (persistence == RELPERSISTENCE_TEMP)
	{
		create_temp_store(s, &key);
		return;
	}

	/*
	 * While pg_upgrade restores the schema, the rows are in the other cluster's
	 * directory still.  The store that indexes are built from is gone after the
	 * next start: a table is empty then only if it was, and an error before
	 * the directory has been copied.
	 */
	if (IsBinaryUpgrade)
	{
		create_passing_store(s, &key);
		return;
	}
	if (persistence == RELPERSISTENCE_UNLOGGED)
		flags |= LTG_STORE_UNLOGGED;

	(void) GetCurrentTransactionId();
	for (;;)
	{
		lightning_ddl_begin(s);
		if (lightning_gate_is_up())
			break;
		lightning_ddl_end(s);
		lightning_gate_wait();
	}
	stamp = lightning_log_create_store(&key, flags);
	st = ltg_store_create(s, &key, flags, stamp, &store);
	lightning_ddl_end(s);
	lightning_report(s, st, NULL);
}

/* ---- dropping ---- */

/* Not the store that was looked at: its number has been used again. */
static bool
is_another(LtgSession *s, const LtgStoreKey *key, uint64 id)
{
	LtgStore   *store;

	return id != 0 && (ltg_store_find(s, key, &store) != LTG_OK || ltg_store_id(store) != id);
}

/*
 * Drop a store and log it.  Never throws and never waits for the gate: if it is
 * not up, the sweep after the next start does this.
 * An id of 0 stands for any.
 */
static bool
drop_store(LtgSession *s, const LtgStoreKey *key, uint64 id)
{
	LtgStatus	st;
	LtgStore   *store;

	if (ltg_store_find(s, key, &store) != LTG_OK)
	{
		ltg_clear_error(s);
		return false;
	}
	lightning_ddl_begin(s);
	if (!lightning_gate_is_up() || is_another(s, key, id))
	{
		lightning_ddl_end(s);
		return false;
	}
	st = ltg_store_drop(s, key, lightning_log_drop_store(key));
	lightning_ddl_end(s);
	if (st != LTG_OK)
		ltg_clear_error(s);
	return st == LTG_OK;
}

static void
drop_stores(const RelFileNode *rels, int n)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		LtgStoreKey key;

		lightning_store_key(&rels[i], InvalidBackendId, &key);
		(void) drop_store(lightning_session(), &key, 0);
	}
}

/* Relations that lose their storage when this transaction commits. */
static RelFileNode *commit_drops = NULL;
static int	commit_drop_count = 0;

static void
forget_commit_drops(void)
{
	if (commit_drops != NULL)
		pfree(commit_drops);
	commit_drops = NULL;
	commit_drop_count = 0;
}

static void
collect_commit_drops(void)
{
	MemoryContext old;

	forget_commit_drops();
	if (temp_dropped && temp_count > 0)
		drop_lost_temp_stores();
	if (RecoveryInProgress())
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	commit_drop_count = smgrGetPendingDeletes(true, &commit_drops);
	MemoryContextSwitchTo(old);
	if (commit_drop_count > 0)
		(void) lightning_session();	/* may fail now, not later */
}

/* After the fact, nothing may be thrown. */
static void
drop_quietly(bool commit)
{
	MemoryContext cxt = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;

	PG_TRY();
	{
		if (commit)
			drop_stores(commit_drops, commit_drop_count);
		else
		{
			RelFileNode *rels;
			int			n = smgrGetPendingDeletes(false, &rels);

			drop_stores(rels, n);
			if (rels != NULL)
				pfree(rels);
		}
	}
	PG_CATCH();
	{
		(void) lightning_catch(NULL, cxt, holdoff);
	}
	PG_END_TRY();
}

void
lightning_store_xact_callback(XactEvent event)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			collect_commit_drops();
			break;
		case XACT_EVENT_COMMIT:
			if (commit_drop_count > 0)
				drop_quietly(true);
			forget_commit_drops();
			break;
		case XACT_EVENT_ABORT:
			forget_commit_drops();
			if (!RecoveryInProgress())
				drop_quietly(false);
			if (temp_count > 0)
				temp_dropped = true;
			break;
		case XACT_EVENT_PREPARE:
			forget_commit_drops();
			break;
		default:
			break;
	}
}

void
lightning_store_subxact_callback(SubXactEvent event)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	if (!RecoveryInProgress())
		drop_quietly(false);
	if (temp_count > 0)
		temp_dropped = true;
}

/* ---- all stores ---- */

LtgStoreInfo *
lightning_list_stores(LtgSession *s, uint32 *n)
{
	LtgStoreInfo *info;
	uint32		max = 256;

	for (;;)
	{
		info = palloc_extended((Size) max * sizeof(LtgStoreInfo), MCXT_ALLOC_HUGE);
		*n = ltg_store_list(s, info, max);
		if (*n <= max)
			return info;
		pfree(info);
		max = *n + 64;
	}
}

bool
lightning_database_has_stores(Oid database)
{
	LtgStoreInfo *info;
	uint32		n,
				i;
	bool		result = false;

	info = lightning_list_stores(lightning_session(), &n);
	for (i = 0; i < n && !result; i++)
		result = info[i].key.database == database;
	pfree(info);
	return result;
}

void
lightning_drop_database_stores(Oid database)
{
	LtgSession *s = lightning_session();
	LtgStoreInfo *info;
	uint32		n,
				i;

	info = lightning_list_stores(s, &n);
	for (i = 0; i < n; i++)
	{
		if (info[i].key.database == database)
			(void) drop_store(s, &info[i].key, info[i].id);
	}
	pfree(info);
}

/*
 * The directory that would hold the relation's file is not there.  That means
 * the file is gone for good only if the directory above is in order, or the
 * tablespace itself has been dropped; not if a file system is not mounted.
 */
static bool
directory_gone(const LtgStoreKey *key)
{
	char		path[MAXPGPATH];
	struct stat st;

	if (key->space == DEFAULTTABLESPACE_OID || key->space == GLOBALTABLESPACE_OID)
		return lstat("base", &st) == 0;

	snprintf(path, sizeof(path), "pg_tblspc/%u", key->space);
	if (lstat(path, &st) != 0)
		return errno == ENOENT && lstat("pg_tblspc", &st) == 0;
	snprintf(path, sizeof(path), "pg_tblspc/%u/%s", key->space, TABLESPACE_VERSION_DIRECTORY);
	return stat(path, &st) == 0;
}

static bool
is_orphan(const LtgStoreInfo *info)
{
	char	   *dir;
	struct stat st;
	bool		there;
	int			os_errno;

	/* the store of row locks has no relation */
	if ((info->flags & LTG_STORE_LOCKS) != 0 || !main_fork_missing(&info->key, MAIN_FORKNUM))
		return false;
	/* during recovery unlogged relations have but an init fork */
	if ((info->flags & LTG_STORE_UNLOGGED) != 0 && !main_fork_missing(&info->key, INIT_FORKNUM))
		return false;

	dir = GetDatabasePath(info->key.database, info->key.space);
	there = stat(dir, &st) == 0;
	os_errno = errno;
	pfree(dir);
	if (there)
		return main_fork_missing(&info->key, MAIN_FORKNUM);
	return os_errno == ENOENT && directory_gone(&info->key);
}

/*
 * A relation's file exists before its store is created, and (on a standby) its
 * creation is replayed before; so a missing file means the relation has gone.
 * Not to be called before recovery has become consistent: until then, the
 * manifest may be ahead of the files.
 */
uint32
lightning_sweep_orphans(LtgSession *s)
{
	LtgStoreInfo *info;
	uint32		n,
				i,
				dropped = 0;
	bool		recovery = RecoveryInProgress();

	if (recovery && GetXLogReplayRecPtr(NULL) < ltg_durable(s))
		return 0;
	if (!recovery && !lightning_gate_is_up())
		return 0;

	info = lightning_list_stores(s, &n);
	for (i = 0; i < n; i++)
	{
		LtgStatus	st = LTG_OK;

		if (!is_orphan(&info[i]))
			continue;
		if (info[i].key.backend >= 0)
		{
			lightning_ddl_begin(s);
			if (!is_another(s, &info[i].key, info[i].id))
				st = ltg_store_drop(s, &info[i].key, TEMP_DROPPED_AT);
			lightning_ddl_end(s);
		}
		else if (recovery)
		{
			lightning_ddl_begin(s);
			if (!is_another(s, &info[i].key, info[i].id))
				st = ltg_store_drop(s, &info[i].key, GetXLogReplayRecPtr(NULL));
			lightning_ddl_end(s);
		}
		else if (!drop_store(s, &info[i].key, info[i].id))
			continue;
		if (st == LTG_OK)
			dropped++;
		else
			ltg_clear_error(s);
	}
	pfree(info);
	if (dropped > 0)
	{
		pg_atomic_fetch_add_u64(&lightning_shared->orphans_dropped, dropped);
		ereport(DEBUG1,
				(errmsg_internal("lightning: dropped %u stores without a relation", dropped)));
	}
	return dropped;
}

/* At process exit: temporary stores go with their owner. */
void
lightning_drop_temp_stores(LtgSession *s)
{
	int			i;

	for (i = 0; i < temp_count; i++)
	{
		LtgStatus	st;

		lightning_ddl_begin(s);
		st = ltg_store_drop(s, &temp_stores[i], TEMP_DROPPED_AT);
		lightning_ddl_end(s);
		if (st != LTG_OK)
			ltg_clear_error(s);
	}
	temp_count = 0;
}
