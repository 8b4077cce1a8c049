/*
 * manifest.h
 *	  Manifests: which files and runs make up every store, and the LSN D up to
 *	  which the log is contained in them.
 *
 * A manifest is a file "%016llx.manifest": a checkpoint, which says everything, and
 * after it edits, each of which says what one publication changed.  Publications
 * are numbered; the file has its checkpoint's number.  The checkpoint is
 * written under a temporary name; edits are appended.  Everything is written
 * twice, the other time to "%016llx.manifest2", so that one of the two may be
 * damaged or missing: the one with more sound edits counts.  What is not sound
 * at the end of a file is an edit that was being written; if sound edits follow, it is
 * damage.  All integers are little-endian.
 *
 *	 offset size
 *	 0		8	magic "LTGMANI1"; of an edit "LTGEDIT1"
 *	 8		4	format version
 *	 12		4	length of this header, 96
 *	 16		8	length of the checkpoint, or edit
 *	 24		8	number
 *	 32		8	D
 *	 40		8	next file id: no file with this or a larger id is named here
 *	 48		8	next store id
 *	 56		8	next unlogged sequence number
 *	 64		4	number of files
 *	 68		4	number of stores
 *	 72		4	number of runs
 *	 76		4	number of tombstones of dropped stores
 *	 80		4	number of stores that have a part of a generation
 *	 84		4	number of removed runs; 0 in a checkpoint
 *	 88		4	zero
 *	 92		4	CRC-32C of the 92 bytes before
 *	 then	files (16 bytes each), stores (64; version 1: 56), runs (ltg_run_ref_encode,
 *			then 1 if the run is cut, else 0), tombstones (32); the runs of a store follow each other, in the order
 *			of the stores; then those parts (40), then removed runs (24)
 *	 last	4	CRC-32C of everything before
 *
 * An edit has the files that came, the tombstones of stores that went, and of
 * each store that changed, or is new, its description and the runs it got; an id other than
 * the one its key had before means that it was emptied.  A file without a
 * run is no part of the manifest.
 *
 * Version history: 1, first; 2, stores have options; 3, runs may be cut; 4, stores
 * may have a part of a generation; 5, edits, two copies.
 *
 * The first 16 bytes and the header's checksum stay where they are in all
 * versions, so that a newer version is told from a damaged file.
 */
#ifndef LTG_MANIFEST_H
#define LTG_MANIFEST_H

#include "tree/shared.h"

#define LTG_MANIFEST_VERSION 5
#define LTG_MANIFEST_HEADER 96

typedef struct LtgManifestFile
{
	LtgFileId	id;
	uint64_t	bytes;
	uint64_t	added;			/* by this publication, or before; not stored */
} LtgManifestFile;

typedef struct LtgManifestStore
{
	uint64_t	id;
	LtgStoreKey key;
	LtgSeq		stamp;
	uint32_t	flags;
	uint32_t	n_runs;
	uint32_t	first_run;		/* index of its first one; not stored */
	uint64_t	next_rowid;
	LtgSeq		graves_cleared;
	uint64_t	options;		/* ltg_store_options_pack; 0 in version 1 */
} LtgManifestStore;

typedef struct LtgManifestDrop
{
	LtgStoreKey key;
	LtgSeq		stamp, at;
} LtgManifestDrop;

typedef struct LtgManifestMerged	/* generation is 0 in a decoded one */
{
	uint64_t	store_id;
	LtgMerged	merged;
} LtgManifestMerged;

typedef struct LtgManifestRemoved	/* in edits: a run that a store has lost */
{
	uint64_t	store_id;
	LtgFileId	file;
	uint64_t	root_offset;
} LtgManifestRemoved;

typedef struct LtgManifestHeader
{
	uint64_t	version;		/* it was written in */
	uint64_t	number;
	uint64_t	bytes;
	LtgSeq		durable;
	LtgFileId	next_file_id;
	uint64_t	next_store_id;
	LtgSeq		next_unlogged_seq;
	uint32_t	n_files, n_stores, n_runs, n_drops, n_merged, n_removed;
	bool		edit;
} LtgManifestHeader;

/* In private memory.  Zero-initialise; ltg_manifest_free in any state. */
typedef struct LtgManifest
{
	LtgManifestHeader h;
	LtgManifestFile *files;
	LtgManifestStore *stores;
	LtgRunRef  *runs;
	LtgManifestDrop *drops;
	LtgManifestMerged *merged;
	LtgManifestRemoved *removed;
	uint32_t	cap_files, cap_stores, cap_runs, cap_drops, cap_merged, cap_removed;
} LtgManifest;

extern void ltg_manifest_free(LtgSession *s, LtgManifest *m);

/* Append; LTG_NOMEM.  Runs belong to the store added last. */
extern LtgStatus ltg_manifest_add_file(LtgSession *s, LtgManifest *m,
									   LtgFileId id, uint64_t bytes) LTG_MUST_CHECK;
extern LtgStatus ltg_manifest_add_store(LtgSession *s, LtgManifest *m,
										const LtgManifestStore *st) LTG_MUST_CHECK;
extern LtgStatus ltg_manifest_add_run(LtgSession *s, LtgManifest *m,
									  const LtgRunRef *ref) LTG_MUST_CHECK;
extern LtgStatus ltg_manifest_add_drop(LtgSession *s, LtgManifest *m,
									   const LtgManifestDrop *d) LTG_MUST_CHECK;
extern LtgStatus ltg_manifest_add_merged(LtgSession *s, LtgManifest *m,
										 const LtgManifestMerged *g) LTG_MUST_CHECK;

extern LtgStatus ltg_manifest_add_removed(LtgSession *s, LtgManifest *m,
										  const LtgManifestRemoved *r) LTG_MUST_CHECK;

/* *buf is from port->alloc. */
extern LtgStatus ltg_manifest_encode(LtgSession *s, LtgManifest *m,
									 uint8_t **buf, size_t *len) LTG_MUST_CHECK;
/* m must be empty; only this much, edits come after it.  LTG_CORRUPT, LTG_VERSION, LTG_NOMEM. */
extern LtgStatus ltg_manifest_decode(LtgSession *s, const uint8_t *buf, size_t len,
									 uint64_t number, LtgManifest *m) LTG_MUST_CHECK;

/* The same of one edit at the start of buf; number: of the file that it is in. */
extern LtgStatus ltg_edit_decode(LtgSession *s, const uint8_t *buf, size_t len,
								 uint64_t number, LtgManifest *m) LTG_MUST_CHECK;
/* False: users could not rely on its references and counts.  Sorts the files. */
extern bool ltg_manifest_consistent(LtgManifest *m);

#define LTG_MANIFEST_COPIES 2
extern void ltg_manifest_name(char *buf, uint64_t number);	/* buf[LTG_NAME_MAX] */
extern void ltg_manifest_tmp_name(char *buf, uint64_t number);
extern void ltg_manifest_copy_name(char *buf, uint64_t number, int copy, bool tmp);
extern bool ltg_parse_manifest_name(const char *name, uint64_t *number, bool *is_tmp);

/* An error that names the manifest. */
extern LtgStatus ltg_manifest_failed(LtgSession *s, uint64_t number, LtgStatus st, const char *fmt,...)
			__attribute__((format(printf, 4, 5)));

/* ---- manifest_log.c ---- */

/*
 * Both copies of a checkpoint: write, sync, rename, sync the directory.  On
 * failure no file of this number is left (as far as the system lets us), and
 * the number must not be used again.
 */
extern LtgStatus ltg_manifest_write(LtgSession *s, LtgManifest *m) LTG_MUST_CHECK;
/*
 * Append an edit, at this offset, to both copies of the manifest.  After a failure
 * it may or may not be there, and nothing must be appended to this one any more.
 */
extern LtgStatus ltg_manifest_append(LtgSession *s, uint64_t number, uint64_t offset,
									 LtgManifest *m) LTG_MUST_CHECK;
/*
 * What the manifest says, without the edits numbered above `limit`.  *last: the last
 * edit that is there.  LTG_NOT_FOUND, LTG_CORRUPT, LTG_VERSION, LTG_IO, LTG_NOMEM.
 */
extern LtgStatus ltg_manifest_read_upto(LtgSession *s, uint64_t number, uint64_t limit,
										LtgManifest *m, uint64_t *last) LTG_MUST_CHECK;
extern LtgStatus ltg_manifest_read(LtgSession *s, uint64_t number,
								   LtgManifest *m) LTG_MUST_CHECK;
/* Remove both copies. */
extern LtgStatus ltg_manifest_remove(LtgSession *s, uint64_t number) LTG_MUST_CHECK;

/* The numbers of the manifests in the directory, rising; from port->alloc. */
extern LtgStatus ltg_manifest_list(LtgSession *s, uint64_t **numbers,
								   uint32_t *n) LTG_MUST_CHECK;

#endif
