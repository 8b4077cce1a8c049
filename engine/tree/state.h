/*
 * state.h
 *	  What the files that own the shared state (store.c, generation.c,
 *	  publish.c, load.c, obsolete.c, engine.c, check.c) share among themselves.
 *
 * "META" below: LTG_LOCK_META is held exclusively by this session.
 */
#ifndef LTG_TREE_STATE_H
#define LTG_TREE_STATE_H

#include "tree/shared.h"

#define LTG_REGION_MAGIC UINT64_C(0x4c5447524547494f)
#define LTG_STORE_SLAB 32		/* descriptors allocated at a time */

/* LtgSession.write_ctx */
typedef struct LtgWriteCtx
{
	LtgGeneration *gen;			/* reserved in, while pinned */
	uint64_t	cursor;			/* next free byte of the reservation */
	uint64_t	reserved_end;
	uint64_t	busy_generation;	/* number of the one that had no room */
	bool		meta;			/* this session holds LTG_LOCK_META */
} LtgWriteCtx;

static inline LtgWriteCtx *
ltg_ctx(LtgSession *s)
{
	return (LtgWriteCtx *) s->write_ctx;
}

/* Keep the first error of the session; returns st. */
static inline LtgStatus
ltg_port_failed(LtgSession *s, LtgStatus st, const LtgError *e)
{
	if (s->err.status == LTG_OK)
	{
		s->err = *e;
		s->err.status = st;
	}
	return st;
}

/*
 * LTG_LOCK_META, unless the session has it already (ltg_ddl_pin).  enter
 * returns what leave wants to know.
 */
extern bool ltg_meta_enter(LtgSession *s);
extern void ltg_meta_leave(LtgSession *s, bool taken);
/* META: something that a manifest describes has changed; something of a store,
 * which the next edit describes. */
extern void ltg_meta_changed(LtgSession *s);
extern void ltg_store_changed(LtgSession *s, LtgStore *st);
/* META: the manifest says all changes up to this one. */
extern void ltg_stores_published(LtgSession *s, uint64_t changes);

/* ---- store.c ---- */

typedef enum LtgMetadataUse
{
	LTG_METADATA_STORE,
	LTG_METADATA_FLUSH,
	LTG_METADATA_URGENT
} LtgMetadataUse;

extern void *ltg_metadata_alloc(LtgSession *s, size_t size, LtgMetadataUse use);

/* The live store of this key, or NULL.  META, or inside an epoch. */
extern LtgStore *ltg_store_lookup(LtgShared *sh, const LtgStoreKey *key);
/* META: a descriptor that is in no chain, or NULL. */
/* What ltg_store_reserve took, at the end of a session. */
extern void ltg_store_unreserve(LtgSession *s);
extern LtgStore *ltg_store_alloc(LtgSession *s, LtgMetadataUse use);
extern void ltg_store_unalloc(LtgSession *s, LtgStore *st);
/* META: give it an id, key and stamp, and make it findable. */
extern void ltg_store_link(LtgSession *s, LtgStore *st, uint64_t id,
						   const LtgStoreKey *key, LtgSeq stamp, uint32_t flags);
/* META: drop it: unfindable, without runs, its slot a tombstone. */
extern void ltg_store_unlink(LtgSession *s, LtgStore *st, LtgSeq at);
/* META: a tombstone that comes from a manifest. */
extern LtgStatus ltg_store_add_tombstone(LtgSession *s, const LtgStoreKey *key,
										 LtgSeq stamp, LtgSeq at) LTG_MUST_CHECK;
/* META: move tombstones that nobody needs any more to the free list. */
extern void ltg_store_reclaim(LtgSession *s);
/* META: lose the runs: files dereferenced, the set retired. */
extern void ltg_store_drop_runs(LtgSession *s, LtgStore *st);
/* LtgStoreOptions in 8 bytes, as descriptors and manifests have them: block
 * size in bits 0-31, level in 32-47, compression in 48-55. */
extern uint64_t ltg_store_options_pack(const LtgStoreOptions *opt);
extern bool ltg_store_options_unpack(uint64_t packed, LtgStoreOptions *opt);
/* META: what of the oldest generation its runs have (S6). */
extern void ltg_store_set_merged(LtgStore *st, const LtgMerged *merged);
/* META: the same store, empty, under a new id. */
extern void ltg_store_empty(LtgSession *s, LtgStore *st);

/* Order runs as an LtgRunSet wants them and fill level_start. */
extern void ltg_run_set_arrange(LtgRunSet *rs);
/* True if the set obeys its order, levels and ages. */
extern bool ltg_run_set_valid(const LtgRunSet *rs);
extern size_t ltg_run_set_size(uint32_t n);

/* ---- generation.c ---- */

extern LtgStatus ltg_generations_init(LtgShared *sh, uint8_t *arenas);
/* META, and nothing written yet: number generations from `least` on. */
extern void ltg_generations_number_from(LtgSession *s, uint64_t least);
/* META: take g, the oldest frozen one, off the list. */
extern void ltg_generation_remove(LtgSession *s, LtgGeneration *g);
/* Get an arena ready ahead of time, if one has retired. */
extern void ltg_prepare_arena(LtgSession *s);
/* META: true if g is the oldest frozen generation. */
extern bool ltg_is_oldest_frozen(LtgSession *s, const LtgGeneration *g);

/* ---- obsolete.c: the file table; META ---- */

extern LtgSharedFile *ltg_file_entry(LtgShared *sh, LtgFileId id);
/* Enter a file with no references; NULL when out of metadata memory. */
extern LtgSharedFile *ltg_file_add(LtgSession *s, LtgFileId id, uint64_t bytes);
extern void ltg_file_ref(LtgSession *s, const LtgRunRef *run);
/* from: the first manifest that does not name it, if this was the last one. */
extern void ltg_file_unref(LtgSession *s, LtgFileId id, uint64_t from);
extern void ltg_file_set_obsolete(LtgSession *s, LtgSharedFile *f, uint64_t from);
extern void ltg_file_forget(LtgSession *s, LtgSharedFile *f);

#endif
