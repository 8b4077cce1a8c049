/*
 * manifest.h
 *	  Manifests: which files and runs make up every store, and the LSN D up to
 *	  which the log is contained in them.
 *
 * A manifest is an immutable file "%016llx.manifest", named by its number and
 * written under a temporary name; the newest whole one counts.  All integers
 * are little-endian.
 *
 *	 offset size
 *	 0		8	magic "LTGMANI1"
 *	 8		4	format version
 *	 12		4	length of this header, 96
 *	 16		8	length of the file
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
 *	 84		8	zero
 *	 92		4	CRC-32C of the 92 bytes before
 *	 then	files (16 bytes each), stores (64; version 1: 56), runs (ltg_run_ref_encode,
 *			then 1 if the run is cut, else 0), tombstones (32); the runs of a store follow each other, in the order
 *			of the stores; then those parts (40)
 *	 last	4	CRC-32C of everything before
 *
 * Version history: 1, first; 2, stores have options; 3, runs may be cut; 4, stores
 * may have a part of a generation.
 *
 * The first 16 bytes and the header's checksum stay where they are in all
 * versions, so that a newer version is told from a damaged file.
 */
#ifndef LTG_MANIFEST_H
#define LTG_MANIFEST_H

#include "tree/shared.h"

#define LTG_MANIFEST_VERSION 4
#define LTG_MANIFEST_HEADER 96

typedef struct LtgManifestFile
{
	LtgFileId	id;
	uint64_t	bytes;
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

typedef struct LtgManifestHeader
{
	uint64_t	version;		/* it was written in */
	uint64_t	number;
	uint64_t	bytes;
	LtgSeq		durable;
	LtgFileId	next_file_id;
	uint64_t	next_store_id;
	LtgSeq		next_unlogged_seq;
	uint32_t	n_files, n_stores, n_runs, n_drops, n_merged;
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
	uint32_t	cap_files, cap_stores, cap_runs, cap_drops, cap_merged;
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

/* *buf is from port->alloc. */
extern LtgStatus ltg_manifest_encode(LtgSession *s, LtgManifest *m,
									 uint8_t **buf, size_t *len) LTG_MUST_CHECK;
/* m must be empty.  LTG_CORRUPT, LTG_VERSION, LTG_NOMEM. */
extern LtgStatus ltg_manifest_decode(LtgSession *s, const uint8_t *buf, size_t len,
									 uint64_t number, LtgManifest *m) LTG_MUST_CHECK;

extern void ltg_manifest_name(char *buf, uint64_t number);	/* buf[LTG_NAME_MAX] */
extern void ltg_manifest_tmp_name(char *buf, uint64_t number);
extern bool ltg_parse_manifest_name(const char *name, uint64_t *number, bool *is_tmp);

/*
 * Write, sync, rename, sync the directory.  On failure no file of this number
 * is left (as far as the system lets us), and the number must not be used
 * again.
 */
extern LtgStatus ltg_manifest_write(LtgSession *s, LtgManifest *m) LTG_MUST_CHECK;
/* LTG_NOT_FOUND, LTG_CORRUPT, LTG_VERSION, LTG_IO, LTG_NOMEM. */
extern LtgStatus ltg_manifest_read(LtgSession *s, uint64_t number,
								   LtgManifest *m) LTG_MUST_CHECK;
extern LtgStatus ltg_manifest_read_header(LtgSession *s, uint64_t number,
										  LtgManifestHeader *h) LTG_MUST_CHECK;

/* The numbers of the manifests in the directory, rising; from port->alloc. */
extern LtgStatus ltg_manifest_list(LtgSession *s, uint64_t **numbers,
								   uint32_t *n) LTG_MUST_CHECK;

#endif
