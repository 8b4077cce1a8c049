/*
 * format.h
 *	  Everything about data files that is on disk, in one place; FORMAT.md
 *	  explains it with pictures.  All integers are little-endian.
 *
 * Versions
 *	 1	the first
 *	 2	transposed payloads (envelope), dictionaries (envelope, directory)
 *	 3	older versions as differences (envelope)
 *	 4	transaction ids of settled rows, as a column (blocks)
 */
#ifndef LTG_FORMAT_H
#define LTG_FORMAT_H

#include "base/common.h"

#define LTG_FORMAT_VERSION 4

/* ---- envelope: in front of every block ----
 *
 *	 0	4	crc32c of bytes 4.. and the stored bytes, seeded with the crc32c of
 *			the file's number (8 bytes) and the block's offset (8 bytes)
 *	 4	4	stored bytes that follow the envelope
 *	 8	4	raw bytes after decompression
 *	12	1	codec
 *	13	1	block type
 *	14	1	0, or: the payloads are transposed, and this many times 8 bytes apart
 *	15	1	LTG_EF_*
 */
#define LTG_ENV_CRC 0
#define LTG_ENV_STORED 4
#define LTG_ENV_RAW 8
#define LTG_ENV_CODEC 12
#define LTG_ENV_TYPE 13
#define LTG_ENV_STRIDE 14
#define LTG_ENV_FORM 15
#define LTG_ENV_BYTES 16

#define LTG_EF_DIFFS 1			/* older versions are differences (diffs.h) */
#define LTG_EF_WRITERS 2		/* the column of writers stands behind what is compressed
								 * (writers.h), and then its length, 2 bytes */
#define LTG_EF_ALL 3

#define LTG_STORED_NONE 0		/* codec byte */
#define LTG_STORED_LZ4 1
#define LTG_STORED_ZSTD 2
#define LTG_STORED_ZSTD_DICT 3	/* with the run's dictionary */

#define LTG_BLOCK_DATA 1		/* block type */
#define LTG_BLOCK_INNER 2
#define LTG_BLOCK_FILTER 3
#define LTG_BLOCK_DIRECTORY 4
#define LTG_BLOCK_DICTIONARY 5	/* its number (8 bytes), then what zstd takes */

#define LTG_DICT_HEAD 8
#define LTG_DICT_MAX (64 * 1024)

/* Longest raw block: before version 4, one key with very many versions. */
#define LTG_BLOCK_MAX 0x60000000u

/* ---- data and inner blocks: the raw bytes ----
 *
 * A key is prefix + head + tail: the prefix is common to the whole block, the
 * head is the next up to 8 bytes (as many as the shortest key has), the tail
 * is the rest.  Heads stand in an array, as big-endian integers; a dense block
 * (heads first, first+1, ..., no tails) has none.
 *
 *	  0	1	block type (again: cached bytes have no envelope)
 *	  1	1	flags LTG_BF_*
 *	  2	1	head width, 0..8
 *	  3	1	payload index width: 0 = all payloads have one length, 2, 4
 *	  4	4	n: entries (data), separators (inner: n + 1 children)
 *	  8	2	prefix length
 *	 10	2	tail length, when all are equal
 *	 12	1	tail index width: 0 = all tails have one length, 2, 4
 *	 13	1	kind, state and flags of all entries that have no byte of their own
 *	 14	1	bytes of one entry's metadata record, 0 = none
 *	 15	1	zero
 *	 16	4	offset of the heads
 *	 20	4	offset of the tail index (n + 1 ends), or of the tails
 *	 24	4	offset of the tails
 *	 28	4	offset of the payload index (n ends, relative to the payloads)
 *	 32	4	offset of the payloads (inner: child pointers); multiple of 8
 *	 36	4	payload length, when all are equal
 *	 40	8	first head
 *	 48	8	last head
 *	 56	4	offset of the tags, one byte each; 0 = all are 0
 *	 60	4	offset of the metadata records
 *	 64	8	seq base
 *	 72	8	xid base
 *	 80	4	cid base
 *	 84	1	width of seq in a record
 *	 85	1	width of xid in a record or, with LTG_BF_WRITERS, in the column of writers
 *	 86	1	width of cid
 *	 87	1	width of aux
 *	 88	4	keys: distinct ones
 *	 92	4	length of the block
 *	 96		prefix, records, writers, tags, heads, payload index, tail index,
 *			tails, payloads (each 8-byte aligned)
 *
 * Metadata record: [kind/state/flags byte if LTG_BF_KSF] seq xid cid aux, each
 * as wide as the header says, relative to its base (aux: absolute).  With
 * LTG_BF_WRITERS there is no xid in it but in the column of writers
 * (storage/writers.h), which is not there if its width is 0.
 * At least 8 bytes follow the records, so that loads of 8 bytes are in bounds.
 */
#define LTG_BH_TYPE 0
#define LTG_BH_FLAGS 1
#define LTG_BH_HEAD_WIDTH 2
#define LTG_BH_PAY_WIDTH 3
#define LTG_BH_N 4
#define LTG_BH_PREFIX_LEN 8
#define LTG_BH_TAIL_LEN 10
#define LTG_BH_TAIL_WIDTH 12
#define LTG_BH_KSF 13
#define LTG_BH_META_WIDTH 14
#define LTG_BH_ZERO 15
#define LTG_BH_HEADS 16
#define LTG_BH_TAIL_INDEX 20
#define LTG_BH_TAILS 24
#define LTG_BH_PAY_INDEX 28
#define LTG_BH_PAYLOADS 32
#define LTG_BH_PAY_LEN 36
#define LTG_BH_FIRST_HEAD 40
#define LTG_BH_LAST_HEAD 48
#define LTG_BH_TAGS 56
#define LTG_BH_META 60
#define LTG_BH_SEQ_BASE 64
#define LTG_BH_XID_BASE 72
#define LTG_BH_CID_BASE 80
#define LTG_BH_SEQ_WIDTH 84
#define LTG_BH_XID_WIDTH 85
#define LTG_BH_CID_WIDTH 86
#define LTG_BH_AUX_WIDTH 87
#define LTG_BH_KEYS 88
#define LTG_BH_LEN 92
#define LTG_BH_BYTES 96

#define LTG_BF_DENSE 0x01		/* no heads array: heads are consecutive */
#define LTG_BF_UNIQUE 0x02		/* one version per key */
#define LTG_BF_PLAIN 0x04		/* unique, all PUT, one state and writer, no flags */
#define LTG_BF_SETTLED 0x08		/* every entry is settled */
#define LTG_BF_KSF 0x10			/* records begin with a kind/state/flags byte */
#define LTG_BF_WRITERS 0x20		/* transaction ids are a column, also of settled rows */
#define LTG_BF_MORE 0x40		/* the one key's versions go on in the block behind */

/* kind/state/flags byte */
#define LTG_KSF(kind, state, flags) \
	((uint8_t) ((kind) | (state) << 2 | (flags) << 4))
#define LTG_KSF_KIND(b) ((b) & 3)
#define LTG_KSF_STATE(b) ((b) >> 2 & 3)
#define LTG_KSF_FLAGS(b) ((b) >> 4)

/* Child pointer in an inner block: 6 bytes offset, 4 bytes length on disk. */
#define LTG_CHILD_BYTES 10
#define LTG_OFFSET_MAX ((UINT64_C(1) << 48) - 1)
#define LTG_HEIGHT_MAX 12

/* ---- filter block: filter_block_lines lines of 64 bytes ---- */
#define LTG_FILTER_LINE 64

/* ---- trailer: the last bytes of a file; its place never changes ----
 *
 *	 0	8	the file's number
 *	 8	8	offset of the directory block
 *	16	4	its length on disk
 *	20	4	zero
 *	24	4	crc32c of bytes 0..23 and 28..39
 *	28	4	format version
 *	32	8	magic
 */
#define LTG_TR_FILE 0
#define LTG_TR_DIR_OFFSET 8
#define LTG_TR_DIR_LEN 16
#define LTG_TR_ZERO 20
#define LTG_TR_CRC 24
#define LTG_TR_VERSION 28
#define LTG_TR_MAGIC 32
#define LTG_TR_BYTES 40

#define LTG_RUN_MAGIC UINT64_C(0x316E75725F67746C)	/* "ltg_run1" */

/* Store key in a directory entry. */
#define LTG_STORE_KEY_MAX 32

#endif
