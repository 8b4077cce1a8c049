/*
 * span.h
 *	  Rows of a scan batch that can be read without a call for each.
 *
 * A span is a stretch of a copied block whose keys are integers: all of one
 * length of at most 8 bytes.  What is common to its rows stands in the span;
 * the rest is a few loads.  Row k of a span is entry at + k * step.  A span is
 * valid as long as the batch it was taken from.
 */
#ifndef LTG_SPAN_H
#define LTG_SPAN_H

#include "base/coding.h"
#include "base/version.h"

typedef struct LtgSpan
{
	uint32_t	n;				/* rows; 0: this stretch is none: ... */
	uint32_t	rows;			/* ... ask row by row for so many */
	uint32_t	at;
	int32_t		step;			/* 1 or -1 */

	/* every row is a put, and either all are settled or all are by one writer */
	LtgState	state;
	LtgXid		xid;			/* the writer, if it is the same for all; 0: not known */
	const uint8_t *writers;		/* not NULL: settled rows, ask ltg_span_xid() */
	uint32_t	cid;

	uint32_t	head_width;
	uint64_t	head_mask;
	const uint8_t *heads;		/* NULL: keys are consecutive */
	uint64_t	key;			/* then that of entry 0, else what keys share */

	const uint8_t *tags;		/* NULL: all are 0 */

	const uint8_t *payloads;	/* NULL: left out */
	const uint8_t *pay_index;
	uint32_t	pay_width;
	uint32_t	pay_len;		/* of all payloads, when pay_width is 0 */
} LtgSpan;

/* The key of an entry as a big-endian integer. */
static inline uint64_t
ltg_span_key(const LtgSpan *sp, uint32_t e)
{
	if (LTG_LIKELY(sp->heads == NULL))
		return sp->key + e;
	return sp->key | (ltg_load_be64(sp->heads + (size_t) e * sp->head_width) & sp->head_mask);
}

/* Entry e of the block that span->writers is; 0: not known. */
extern LtgXid ltg_span_writer(const uint8_t *writers, uint32_t e);

static inline LtgXid
ltg_span_xid(const LtgSpan *sp, uint32_t e)
{
	return sp->writers == NULL ? sp->xid : ltg_span_writer(sp->writers, e);
}

static inline uint8_t
ltg_span_tag(const LtgSpan *sp, uint32_t e)
{
	return sp->tags == NULL ? 0 : sp->tags[e];
}

/* NULL and 0 when payloads were left out. */
static inline const uint8_t *
ltg_span_payload(const LtgSpan *sp, uint32_t e, uint32_t *len)
{
	uint32_t	start;

	if (sp->pay_width == 2)
	{
		start = e == 0 ? 0 : (uint32_t) LTG_ALIGN8(ltg_load16(sp->pay_index + 2 * (size_t) e - 2));
		*len = ltg_load16(sp->pay_index + 2 * (size_t) e) - start;
		return sp->payloads + start;
	}
	if (sp->pay_width == 4)
	{
		start = e == 0 ? 0 : (uint32_t) LTG_ALIGN8((uint64_t) ltg_load32(sp->pay_index + 4 * (size_t) e - 4));
		*len = ltg_load32(sp->pay_index + 4 * (size_t) e) - start;
		return sp->payloads + start;
	}
	*len = sp->pay_len;
	return sp->payloads == NULL ? NULL : sp->payloads + (size_t) e * LTG_ALIGN8((size_t) sp->pay_len);
}

#endif
