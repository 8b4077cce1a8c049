/*
 * memtable_int.h
 *	  Layout of a generation's arena; private to memtable*.c.
 *
 *	 header | store buckets | hash buckets | body: nodes, versions | lists
 *
 * Places in the arena are 32-bit offsets from the header in units of 8 bytes;
 * 0 is none.  In the words that make up chains (buckets, hash_next, a list's
 * next) the bits that the arena's size leaves over hold a tag from the hash and
 * a flag for the last of the chain: so a look-up in vain seldom touches more
 * than the bucket.
 */
#ifndef LTG_MEMTABLE_INT_H
#define LTG_MEMTABLE_INT_H

#include "tree/memtable.h"

#define LTG_MEM_HEIGHT_MAX 16
#define LTG_MEM_MAGIC 0x4c74474dU

typedef _Atomic uint32_t LtgMemLink;

struct LtgGeneration
{
	/* constant after init, except number */
	uint32_t	magic;
	uint32_t	off_mask;		/* bits of a chain word that are the place */
	uint32_t	tag_mask;		/* bits that are the tag */
	uint32_t	last_flag;		/* bit that says that the chain ends here */
	uint32_t	n_buckets;		/* hash buckets */
	uint32_t	store_mask;		/* store buckets - 1 */
	uint64_t	size;			/* bytes from here to the arena's end */
	uint64_t	limit;			/* offset where reservations end; from here to
								 * the end there is room for lists only */
	uint64_t	body;			/* offset of the body */
	uint64_t	buckets;		/* offset of the hash buckets */
	_Atomic uint64_t number;

	/* the bump pointer, bytes from the header; a line of its own */
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t used;
	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t lists_used;
	/* what is left of the chunk for tall nodes: end << 32 | next, as places */
	_Atomic uint64_t towers;
	_Alignas(LTG_CACHE_LINE) LtgMemLink store_bucket[];
};

/*
 * Skiplist of one store.  The first two lines are read by everybody and written
 * rarely, the others by appends and by every insert.
 */
struct LtgMemList
{
	uint64_t	store_id;
	uint32_t	next;			/* chain word in the store bucket */
	_Atomic uint32_t height;	/* levels in use */
	LtgMemLink	head[LTG_MEM_HEIGHT_MAX];
	_Atomic uint64_t min_seq;	/* UINT64_MAX: none */
	_Atomic LtgXid min_xid;		/* the same */
	_Atomic uint32_t breaks;	/* counts what voids all notes of dead stretches */

	/* hints: some node that once was the last of its level */
	_Alignas(LTG_CACHE_LINE) LtgMemLink tail[LTG_MEM_HEIGHT_MAX];

	_Alignas(LTG_CACHE_LINE) _Atomic uint64_t max_seq;
	_Atomic LtgXid max_xid;		/* UINT64_MAX: there is more than puts */
	_Atomic uint32_t nodes;
	_Atomic uint64_t bytes;		/* of keys and payloads, all versions */
};

/*
 * A key.  The key's bytes follow next[height], 8-byte aligned and padded with
 * zeros to 8 bytes, so that its first eight can be compared as one number.
 */
struct LtgMemNode
{
	uint32_t	hash_next;		/* chain word; written before the push */
	_Atomic uint32_t newest;
	uint32_t	list;			/* place of the list */
	uint16_t	key_len;
	uint8_t		height;
	_Atomic uint8_t marks;		/* LTG_MEM_* */
	LtgMemLink	next[];
};

#define LTG_MEM_COVERED 0x01	/* a dead stretch may go on behind the node */
#define LTG_MEM_BORN 0x02		/* being linked: as if it was covered */

/*
 * Payload follows; of a tombstone, behind its aux and the note of the dead stretch
 * that begins with it: breaks << 32 | place of the node behind, 0: none.
 */
struct LtgMemVersion
{
	uint32_t	older;
	uint32_t	payload_len;
	LtgSeq		seq;
	LtgXid		xid;
	uint32_t	cid;
	uint8_t		kind;
	uint8_t		tag;
	_Atomic uint8_t state;
	uint8_t		flags;
	uint64_t	data[];
};

_Static_assert(sizeof(LtgMemNode) == 16, "node header");
_Static_assert(sizeof(LtgMemVersion) == 32, "version header");

#define LTG_MEM_TOMBSTONE_BYTES (2 * sizeof(uint64_t))

static inline _Atomic uint64_t *
ltg_mem_stretch(LtgMemVersion *tombstone)
{
	return (_Atomic uint64_t *) &tombstone->data[1];
}

/* A key to search for, with its first eight bytes as a number. */
typedef struct LtgMemKey
{
	const uint8_t *bytes;
	uint32_t	len;
	uint64_t	head;
} LtgMemKey;

static inline void *
ltg_mem_at(const LtgGeneration *g, uint32_t place)
{
	return (void *) ((uintptr_t) g + ((uintptr_t) place << 3));
}

static inline uint32_t
ltg_mem_place(const LtgGeneration *g, const void *ptr)
{
	return (uint32_t) (((uintptr_t) ptr - (uintptr_t) g) >> 3);
}

static inline const uint8_t *
ltg_mem_key_bytes(const LtgMemNode *n)
{
	return (const uint8_t *) n + sizeof(LtgMemNode) +
		LTG_ALIGN8((uint64_t) n->height * sizeof(LtgMemLink));
}

static inline uint64_t
ltg_mem_be64(const uint8_t *p)
{
	uint64_t	v;

	memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

static inline LtgMemKey
ltg_mem_key(const uint8_t *bytes, uint32_t len)
{
	LtgMemKey	k = {bytes, len, 0};

	if (len >= 8)
		k.head = ltg_mem_be64(bytes);
	else
		for (uint32_t i = 0; i < len; i++)
			k.head |= (uint64_t) bytes[i] << (56 - 8 * i);
	return k;
}

/* Sign of (node's key - k). */
static inline int
ltg_mem_cmp(const LtgMemNode *n, const LtgMemKey *k)
{
	const uint8_t *bytes = ltg_mem_key_bytes(n);
	uint64_t	head = n->key_len > 0 ? ltg_mem_be64(bytes) : 0;
	uint32_t	common;

	if (head != k->head)
		return head < k->head ? -1 : 1;
	common = n->key_len < k->len ? n->key_len : k->len;
	if (common > 8)
	{
		int			c = memcmp(bytes + 8, k->bytes + 8, common - 8);

		if (c != 0)
			return c;
	}
	return (n->key_len > k->len) - (n->key_len < k->len);
}

/* The node whose links these are; NULL for a list's head. */
static inline LtgMemNode *
ltg_mem_links_node(LtgMemList *l, LtgMemLink *links)
{
	if (links == l->head)
		return NULL;
	return (LtgMemNode *) ((uintptr_t) links - offsetof(LtgMemNode, next));
}

/*
 * For each level below the list's height, where a new node with this key goes:
 * the links of the last node before it (of the last at or before it, with
 * `or_equal`) and the place of the one after it.  Returns the height searched.
 */
extern uint32_t ltg_mem_search(const LtgGeneration *g, LtgMemList *l,
							   const LtgMemKey *k, bool or_equal,
							   LtgMemLink **before, uint32_t *after);

#endif
