/*
 * tree.c
 *	  Named trees: the catalog, creating, dropping, and leftovers of a crash in
 *	  between.
 *
 * The catalog is a tree of its own:
 *	 "n" name				-> number, 4 bytes little-endian
 *	 "i" number, 4 bytes	-> name
 *	 "x"					-> next number to give out
 * A tree is made in two steps, first the store, then its rows in the catalog;
 * and dropped in the opposite order.  A store without catalog rows is what a
 * crash between the steps leaves; the next open drops it.
 */
#include "lt/db.h"

#include "base/coding.h"

#define NAME_MAX_BYTES 255
#define CATALOG_KEY_MAX (1 + NAME_MAX_BYTES)

void
lt_store_key(uint32_t number, LtgStoreKey *key)
{
	key->space = 0;
	key->database = 0;
	key->relation = number;
	key->backend = -1;
}

static LtgStatus
make_store(lt_db *db, LtgSession *s, uint32_t number, LtgStore **store)
{
	LtgStoreKey key;
	LtgError	err = {0};
	LtgSeq		lsn;
	LtgStatus	st;

	lt_store_key(number, &key);
	ltg_ddl_pin(s);
	st = lt_log_simple(db, LT_REC_TREE, number, NULL, 0, &lsn, &err);
	if (st != LTG_OK)
		st = ltg_fail_port(s, st, &err, 0, err.offset);
	else
		st = ltg_store_create(s, &key, 0, lsn, store);
	ltg_ddl_unpin(s);
	return st;
}

static LtgStatus
drop_store(lt_db *db, LtgSession *s, uint32_t number)
{
	LtgStoreKey key;
	LtgError	err = {0};
	LtgSeq		lsn;
	LtgStatus	st;

	lt_store_key(number, &key);
	ltg_ddl_pin(s);
	st = lt_log_simple(db, LT_REC_DROP, number, NULL, 0, &lsn, &err);
	if (st != LTG_OK)
		st = ltg_fail_port(s, st, &err, 0, err.offset);
	else
		st = ltg_store_drop(s, &key, lsn);
	ltg_ddl_unpin(s);
	return st == LTG_NOT_FOUND ? LTG_OK : st;
}

static LtgStatus
new_handle(lt_db *db, LtgSession *s, LtgStore *store, uint32_t number, const char *name,
		   lt_tree **tree)
{
	lt_tree    *t = db->port.alloc(&db->port, sizeof(*t));

	if (t == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a tree");
	memset(t, 0, sizeof(*t));
	t->db = db;
	t->store = store;
	t->number = number;
	memcpy(t->name, name, strlen(name) + 1);
	*tree = t;
	return LTG_OK;
}

static LtgStatus
open_builtin(lt_db *db, LtgSession *s, uint32_t number, lt_tree **tree)
{
	LtgStoreKey key;
	LtgStore   *store = NULL;
	LtgStatus	st;

	lt_store_key(number, &key);
	st = ltg_store_find(s, &key, &store);
	if (st == LTG_NOT_FOUND)
		st = make_store(db, s, number, &store);
	LTG_TRY(st);
	return new_handle(db, s, store, number, "", tree);
}

/* ---- catalog rows ---- */

static uint32_t
name_key(uint8_t *key, const char *name)
{
	uint32_t	len = (uint32_t) strlen(name);

	key[0] = 'n';
	memcpy(key + 1, name, len);
	return len + 1;
}

static uint32_t
number_key(uint8_t *key, uint32_t number)
{
	key[0] = 'i';
	ltg_store32(key + 1, number);
	return 5;
}

/* LTG_NOT_FOUND, or the number under this key. */
static LtgStatus
catalog_number(lt_db *db, LtSession *ses, const uint8_t *key, uint32_t key_len, uint32_t *number)
{
	LtgRow		row = {0};
	LtSnap		snap;
	LtgStatus	st;

	lt_snap_take(db->xids, &snap, ses->place);
	st = ltg_get(ses->s, db->catalog->store, key, key_len, &snap.snap, &row);
	lt_snap_release(&snap);
	if (st == LTG_OK && number != NULL)
	{
		if (row.v.payload_len == 4)
			*number = ltg_load32(row.v.payload);
		else
			st = ltg_fail(ses->s, LTG_CORRUPT, "catalog entry has a wrong length");
	}
	ltg_row_free(ses->s, &row);
	return st;
}

static LtgStatus
catalog_write(lt_db *db, LtSession *ses, const char *name, uint32_t number, bool add)
{
	uint8_t		key[3][CATALOG_KEY_MAX];
	uint8_t		num[4],
				next[4];
	LtgWrite	w[3];
	LtJob		job = {.w = w, .n = add ? 3 : 2, .sync = LT_SYNC_FULL};

	memset(w, 0, sizeof(w));
	ltg_store32(num, number);
	ltg_store32(next, number + 1);
	w[0].key_len = name_key(key[0], name);
	w[1].key_len = number_key(key[1], number);
	w[2].key_len = 1;
	key[2][0] = 'x';
	for (int i = 0; i < 3; i++)
	{
		w[i].store = db->catalog->store;
		w[i].key = key[i];
		w[i].v.kind = add ? LTG_PUT : LTG_DELETE;
		w[i].v.aux = LT_TREE_CATALOG;
	}
	if (add)
	{
		w[0].v.payload = num;
		w[0].v.payload_len = 4;
		w[1].v.payload = (const uint8_t *) name;
		w[1].v.payload_len = (uint32_t) strlen(name);
		w[2].v.payload = next;
		w[2].v.payload_len = 4;
	}
	return lt_write_job(db, ses, &job);
}

/* ---- opening ---- */

/* Drop the stores that no catalog row names. */
static LtgStatus
sweep(lt_db *db, LtSession *ses)
{
	LtgPort    *port = &db->port;
	LtgSession *s = ses->s;
	uint32_t	n = ltg_store_list(s, NULL, 0);
	LtgStoreInfo *info = port->alloc(port, (n + 1) * sizeof(*info));
	LtgStatus	st = LTG_OK;

	if (info == NULL)
		return ltg_fail(s, LTG_NOMEM, "out of memory for a list of trees");
	n = ltg_store_list(s, info, n);
	for (uint32_t i = 0; i < n && st == LTG_OK; i++)
	{
		uint32_t	number = info[i].key.relation;
		uint8_t		key[CATALOG_KEY_MAX];

		if (number < LT_TREE_FIRST_NAMED)
			continue;
		st = catalog_number(db, ses, key, number_key(key, number), NULL);
		if (st == LTG_NOT_FOUND)
			st = drop_store(db, s, number);
	}
	port->free(port, info);
	return st;
}

LtgStatus
lt_trees_open(lt_db *db, LtSession *ses)
{
	LTG_TRY(open_builtin(db, ses->s, LT_TREE_CATALOG, &db->catalog));
	LTG_TRY(open_builtin(db, ses->s, LT_TREE_DEFAULT, &db->default_tree));
	return sweep(db, ses);
}

void
lt_trees_close(lt_db *db)
{
	LtgPort    *port = &db->port;

	while (db->trees != NULL)
	{
		lt_tree    *t = db->trees;

		db->trees = t->next;
		port->free(port, t);
	}
	port->free(port, db->default_tree);
	port->free(port, db->catalog);
	db->default_tree = db->catalog = NULL;
}

static LtgStatus
create_tree(lt_db *db, LtSession *ses, const char *name, uint32_t *number)
{
	uint8_t		key = 'x';
	LtgStore   *store;
	LtgStatus	st;

	st = catalog_number(db, ses, &key, 1, number);
	if (st == LTG_NOT_FOUND)
		*number = LT_TREE_FIRST_NAMED;
	else if (st != LTG_OK)
		return st;
	LTG_TRY(make_store(db, ses->s, *number, &store));
	st = catalog_write(db, ses, name, *number, true);
	if (st != LTG_OK)
		(void) drop_store(db, ses->s, *number);
	return st;
}

static LtgStatus
open_tree(lt_db *db, LtSession *ses, const char *name, bool create, lt_tree **tree)
{
	uint8_t		key[CATALOG_KEY_MAX];
	LtgStoreKey skey;
	LtgStore   *store;
	uint32_t	number = 0;
	LtgStatus	st;

	for (lt_tree *t = db->trees; t != NULL; t = t->next)
	{
		if (strcmp(t->name, name) == 0)
		{
			*tree = t;
			return LTG_OK;
		}
	}
	st = catalog_number(db, ses, key, name_key(key, name), &number);
	if (st == LTG_NOT_FOUND && create)
		st = create_tree(db, ses, name, &number);
	LTG_TRY(st);
	lt_store_key(number, &skey);
	st = ltg_store_find(ses->s, &skey, &store);
	if (st == LTG_NOT_FOUND)
		return ltg_fail(ses->s, LTG_CORRUPT, "the catalog names a tree that does not exist");
	LTG_TRY(st);
	LTG_TRY(new_handle(db, ses->s, store, number, name, tree));
	(*tree)->next = db->trees;
	db->trees = *tree;
	return LTG_OK;
}

lt_status
lt_tree_open(lt_db *db, const char *name, bool create, lt_tree **tree)
{
	LtHost	   *h = db->host;
	size_t		len = name != NULL ? strlen(name) : 0;
	LtSession  *ses;
	LtgStatus	st;

	*tree = NULL;
	if (len == 0 || len > NAME_MAX_BYTES)
		return lt_fail(db, LTG_INVALID, "names of trees are 1 to 255 bytes long");
	st = lt_session_get(db, true, &ses);
	if (st != LTG_OK)
		return (lt_status) st;
	h->lock(h, LT_MU_DDL);
	st = open_tree(db, ses, name, create, tree);
	h->unlock(h, LT_MU_DDL);
	return lt_session_done(db, ses, st);
}

lt_status
lt_tree_drop(lt_db *db, lt_tree *tree)
{
	LtHost	   *h = db->host;
	LtSession  *ses;
	lt_tree   **at;
	LtgStatus	st;

	if (tree == NULL || tree->number < LT_TREE_FIRST_NAMED)
		return lt_fail(db, LTG_INVALID, "the default tree cannot be dropped");
	st = lt_session_get(db, true, &ses);
	if (st != LTG_OK)
		return (lt_status) st;
	h->lock(h, LT_MU_DDL);
	st = catalog_write(db, ses, tree->name, tree->number, false);
	if (st == LTG_OK)
	{
		/* without its name it is gone; the next open drops it if this fails */
		if (drop_store(db, ses->s, tree->number) != LTG_OK)
			db->port.log(&db->port, LTG_LOG_WARNING,
						 "the space of a dropped tree is freed when the database is opened again");
		for (at = &db->trees; *at != tree; at = &(*at)->next)
			;
		*at = tree->next;
		db->port.free(&db->port, tree);
	}
	h->unlock(h, LT_MU_DDL);
	return lt_session_done(db, ses, st);
}
