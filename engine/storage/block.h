/*
 * block.h
 *	  Data and inner blocks in memory: building, searching, decoding.
 *	  The layout is in format.h.
 *
 * Readers take the raw bytes of a block that passed its checksum and
 * ltg_block_check(); they trust the bytes and check nothing.  All reading
 * functions are pure and thread-safe.
 */
#ifndef LTG_BLOCK_H
#define LTG_BLOCK_H

#include "base/coding.h"
#include "base/session.h"
#include "base/span.h"
#include "base/version.h"
#include "storage/format.h"
#include "storage/writers.h"

/* ---- building ---- */

/* What decides the size and form of a block; grows entry by entry. */
typedef struct LtgBlockShape
{
	uint32_t	n;
	uint32_t	keys;
	uint32_t	prefix;			/* common to all keys so far */
	uint32_t	min_len, max_len;	/* of keys */
	uint32_t	min_pay, max_pay;
	uint64_t	key_bytes;
	uint64_t	pay_bytes;		/* each rounded up to 8 */
	uint64_t	min_seq, max_seq;
	LtgWriterSums writers;
	uint64_t	max_aux;
	uint32_t	min_cid, max_cid;
	uint64_t	first_int;		/* last 8 bytes of the first key */
	uint8_t		ksf;			/* of the first entry */
	bool		ksf_differ;
	bool		dense;
	bool		any_tag;
	bool		any_seq, any_cid;	/* some entry keeps its seq, its cid */
	bool		all_put, all_settled, any_flags;
} LtgBlockShape;

typedef struct LtgBlockItem
{
	size_t		key_off;		/* in keys */
	size_t		pay_off;		/* in pays */
	uint32_t	key_len;
	uint32_t	pay_len;
	uint64_t	seq, xid, aux;
	uint32_t	cid;
	uint8_t		ksf;
	uint8_t		tag;
	bool		new_key;
} LtgBlockItem;

typedef struct LtgBlockBuilder
{
	LtgSession *s;
	LtgBlockShape shape;
	LtgBlockItem *items;
	uint32_t	n, items_cap;
	uint32_t	key_start;		/* first entry of the newest key */
	uint8_t    *keys;
	size_t		keys_used, keys_cap;
	uint8_t    *pays;
	size_t		pays_used, pays_cap;
} LtgBlockBuilder;

extern void ltg_builder_init(LtgBlockBuilder *b, LtgSession *s);
extern void ltg_builder_free(LtgBlockBuilder *b);
/* Raw size of the block if the entry were added. */
extern uint64_t ltg_builder_size_with(const LtgBlockBuilder *b, const uint8_t *key,
									  uint32_t key_len, const LtgVersion *v, bool new_key);
extern LtgStatus ltg_builder_add(LtgBlockBuilder *b, const uint8_t *key, uint32_t key_len,
								 const LtgVersion *v, bool new_key) LTG_MUST_CHECK;
/* Raw size of the block made of the first n entries. */
extern uint64_t ltg_builder_size(const LtgBlockBuilder *b, uint32_t n);
/* Write it to dst, which has that size. */
extern void ltg_builder_build(const LtgBlockBuilder *b, uint32_t n, uint8_t *dst, uint64_t size);
/* Drop the first n entries. */
extern void ltg_builder_consume(LtgBlockBuilder *b, uint32_t n);

/* An inner block: n children, n - 1 separators (sep[0] is not used). */
typedef struct LtgInnerItem
{
	const uint8_t *key;			/* first key of the child, whole */
	uint32_t	key_len;
	uint32_t	need;			/* bytes that separate it from what is before */
	uint64_t	offset;
	uint32_t	disk_len;
} LtgInnerItem;

/* Its raw size; *prefix is what the separators share. */
extern uint64_t ltg_inner_size(const LtgInnerItem *items, uint32_t n, uint32_t *prefix);
/* Write it to dst, which has that size. */
extern void ltg_inner_build(const LtgInnerItem *items, uint32_t n, uint8_t *dst, uint64_t size);

/* ---- reading ---- */

/* True if the header's facts are consistent with type and length, so that the
 * functions below stay within the block (given sound index arrays). */
extern bool ltg_block_check(const uint8_t *b, uint32_t len, uint8_t type);
/* Everything else that can be wrong with one block: index arrays, key order,
 * flags.  Names the problem, or NULL.  key_buf: 2 * LTG_KEY_MAX bytes. */
extern const char *ltg_block_verify(const uint8_t *b, uint32_t len, uint8_t *key_buf);

static inline uint32_t
ltg_block_n(const uint8_t *b)
{
	return ltg_load32(b + LTG_BH_N);
}

static inline bool
ltg_block_unique(const uint8_t *b)
{
	return (b[LTG_BH_FLAGS] & LTG_BF_UNIQUE) != 0;
}

/* First entry >= key (n if none); *equal: it is the key. */
extern uint32_t ltg_block_lower_bound(const uint8_t *b, const uint8_t *key,
									  uint32_t key_len, bool *equal);
/* Are the keys of entries i and j the same? */
extern bool ltg_block_same_key(const uint8_t *b, uint32_t i, uint32_t j);
/* One past the last version of the key of entry i. */
extern uint32_t ltg_block_group_end(const uint8_t *b, uint32_t i);
/* First version of the key of entry i. */
extern uint32_t ltg_block_group_start(const uint8_t *b, uint32_t i);
/* Copy the key of entry i to buf (LTG_KEY_MAX); returns its length. */
extern uint32_t ltg_block_key(const uint8_t *b, uint32_t i, uint8_t *buf);
extern void ltg_block_version(const uint8_t *b, uint32_t i, LtgVersion *v);
/*
 * Without payloads: a copy of the first ltg_block_keys_len bytes of a
 * block is enough for ltg_block_n, ltg_block_key, ltg_block_entry_key and
 * ltg_block_span.
 */
extern uint32_t ltg_block_keys_len(const uint8_t *b, uint32_t len);
/* Like ltg_block_entry; the payload is NULL. */
extern void ltg_block_entry_key(const uint8_t *b, uint32_t i, uint8_t *key_buf,
								uint32_t *key_len, LtgVersion *v);
/* Describe a plain block (all but n, at and step); false if its keys are not
 * integers. */
extern bool ltg_block_span(const uint8_t *b, bool payloads, LtgSpan *span);
/* A hint some time before the payload of entry i (if there is one) is read. */
extern void ltg_block_prefetch_payload(const uint8_t *b, uint32_t i);
/* Child of an inner block that may hold key. */
extern uint32_t ltg_inner_find(const uint8_t *b, const uint8_t *key, uint32_t key_len);
extern void ltg_inner_child(const uint8_t *b, uint32_t i, uint64_t *offset, uint32_t *disk_len);

#endif
