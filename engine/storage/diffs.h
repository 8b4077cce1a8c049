/*
 * diffs.h
 *	  Older versions of a row as differences to newer ones: what a block with
 *	  several versions of its keys is turned into before compression.
 *
 * FORMAT.md has the layout.  The form is for the file only; blocks in memory are
 * as block.h says.
 */
#ifndef LTG_DIFFS_H
#define LTG_DIFFS_H

#include "base/session.h"

/* What is known of an entry while its block is changed from one form to the other. */
typedef struct LtgDiffsEntry
{
	uint32_t	start;			/* of the payload, in the block */
	uint32_t	len;
	uint32_t	base;			/* start of the payload it is a difference to, 0: none */
	uint32_t	base_len;
	uint32_t	order;			/* the entry that has this place in the front's arrays */
	bool		older;			/* has the key of the entry before it */
	uint8_t		way;			/* how the payload is stored, see diffs.c */
	bool		choice;			/* there are two ways */
} LtgDiffsEntry;

/* Where everything is in the front of the block, that is, before its payloads. */
typedef struct LtgDiffsFront
{
	uint32_t	n;
	uint64_t	first_head;
	uint32_t	heads;
	uint32_t	head_width;
	uint32_t	tags;			/* 0: none */
	uint32_t	meta;
	uint32_t	meta_width;
	uint32_t	writers;
	uint32_t	writer_columns;	/* of one byte for each entry */
	uint32_t	pay_index;
	uint32_t	pay_width;
	uint32_t	pay_len;
	uint32_t	arrays_end;		/* of meta, writers, tags, heads, payload index */
	uint32_t	payloads;
	bool		tails;
} LtgDiffsFront;

/* The payloads of a block, added up. */
typedef struct LtgDiffsSums
{
	uint32_t	whole;			/* number of those that are no differences */
	uint32_t	whole_bytes;	/* each up to a multiple of 8 */
	uint32_t	stride;			/* so many bytes each, where they are alike and enough, else 0 */
	uint32_t	pieces;			/* number of those that are pieces */
	uint32_t	choices;		/* number of those that could be columns or pieces */
	uint32_t	columns;		/* the longest of those that are columns */
} LtgDiffsSums;

/* A block that is to be stored with differences. */
typedef struct LtgDiffs
{
	LtgDiffsFront front;
	LtgDiffsSums sums;
	uint32_t	most;			/* bytes that it takes then, if nothing is transposed */
} LtgDiffs;

/*
 * Entries that a data block or its form with differences has, for which the
 * caller provides the array below; 0: it can't have that form, or makes no sense.
 * have: bytes that there are, len: those of the block.
 */
extern uint32_t ltg_diffs_entries(const uint8_t *block, uint32_t have, uint32_t len);
/*
 * Look at a block.  False if the form is not shorter than the block.
 * d->sums.stride is the distance of the payloads that stay whole, when they can
 * be transposed, else 0.
 */
extern bool ltg_diffs_prepare(const uint8_t *block, uint32_t len, LtgDiffsEntry *e, LtgDiffs *d);
/*
 * Write it, transposed if stride is not 0; returns its length.  dst has d->most
 * bytes and ltg_columns_extra(stride) more, scratch as many as the block.
 */
extern uint32_t ltg_diffs_pack(const uint8_t *block, const LtgDiffs *d, const LtgDiffsEntry *e,
							   uint32_t stride, uint8_t *scratch, uint8_t *dst);
/* The block of len bytes from it; packed is used up, scratch has len bytes, too.
 * False when the bytes make no sense. */
extern bool ltg_diffs_unpack(uint8_t *packed, uint32_t packed_len, uint32_t stride,
							 LtgDiffsEntry *e, uint8_t *scratch, uint8_t *dst, uint32_t len);

#endif
