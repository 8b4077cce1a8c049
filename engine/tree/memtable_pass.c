/*
 * memtable_pass.c
 *	  Passing stretches of dead keys.
 *
 * Nothing is unlinked from a generation, so a queue, whose rows live shortly, leaves
 * tombstone after tombstone at its front, and every scan would walk through all of
 * them.  Instead, a reader that has walked through keys of which no snapshot sees
 * anything any more leaves a note at the first tombstone: where the stretch ends.
 * Who comes there later goes on from the end.
 *
 * Invariants
 *	 P1. A note is (place of the node behind the stretch, l->breaks).  It is valid if
 *		 the list's counter was still the same when the reader began to pass keys.
 *		 Then of all keys from the note's own on, up to that node, nobody who began
 *		 by then sees anything in this list; what older sources have of other keys
 *		 in between is the caller's business.
 *	 P2. Whoever writes to a node, or behind it, counts up l->breaks if the node is
 *		 marked, after the write and before he is done.  A new node bears a mark
 *		 (BORN) until its writer has done so.
 *	 P3. The reader loads l->breaks first.  He marks each node of the stretch (COVERED),
 *		 and after that makes sure that the version he read is still the newest one
 *		 and loads the next node's place.
 *
 * Why that is enough: mark and load, write and look at the mark are each in this order
 * for everybody (seq_cst).  So either the reader meets what was written, and the
 * stretch ends there, or the writer meets the mark, and counts; a node that was linked
 * behind one that is linked just now, unseen by the reader, meets the BORN mark.  A
 * reader whose snapshot sees the write began after the count: to him notes from before
 * are void.  Notes with the new count are by readers who have loaded it after the
 * write, and so met it.
 *
 * A generation's keys are dead for good as a rule; in stores whose keys come back,
 * each return voids all notes of the list.
 */
#include "tree/memtable.h"
#include "tree/memtable_int.h"

#define PASS_AFTER 4			/* keys in a row, before anything is marked */
#define PASS_NOTE 16			/* keys more, and the note is renewed */

void
ltg_mem_pass_end(LtgMemPass *p)
{
	if (p->from != NULL && p->gained >= PASS_NOTE)
		atomic_store_explicit(ltg_mem_stretch(p->from), (uint64_t) p->breaks << 32 | p->upto,
							  memory_order_release);
	memset(p, 0, sizeof(*p));
}

/* Where the note of this tombstone leads; 0: there is none, or not a valid one. */
static uint32_t
noted(const LtgMemPass *p, LtgMemVersion *newest)
{
	uint64_t	note;

	if (newest->kind == LTG_PUT)
		return 0;
	note = atomic_load_explicit(ltg_mem_stretch(newest), memory_order_acquire);
	return note >> 32 == p->breaks ? (uint32_t) note : 0;
}

/* P3.  False: the key has got another version. */
static bool
cover(const LtgGeneration *g, LtgMemNode *n, const LtgMemVersion *newest)
{
	if ((atomic_load_explicit(&n->marks, memory_order_seq_cst) & LTG_MEM_COVERED) == 0)
		atomic_fetch_or_explicit(&n->marks, LTG_MEM_COVERED, memory_order_seq_cst);
	return atomic_load_explicit(&n->newest, memory_order_seq_cst) == ltg_mem_place(g, newest);
}

LtgMemNode *
ltg_mem_pass(LtgGeneration *g, LtgMemList *l, LtgMemPass *p, LtgMemNode *n,
			 LtgMemVersion *newest, bool *far)
{
	uint32_t	next;

	*far = false;
	if (++p->seen < PASS_AFTER || (p->from == NULL && newest->kind == LTG_PUT))
		return ltg_mem_next(g, n);
	if (p->from == NULL)
	{
		p->breaks = atomic_load_explicit(&l->breaks, memory_order_seq_cst);
		p->from = newest;
		p->upto = ltg_mem_place(g, n);
	}
	LTG_ASSERT(p->upto == ltg_mem_place(g, n));
	next = noted(p, newest);
	if (next != 0)
	{
		*far = true;
		p->gained += newest == p->from ? 0 : PASS_NOTE;
		p->upto = next;
		return ltg_mem_at(g, next);
	}
	/* the last node is not covered: writing behind it goes on all the time */
	if (atomic_load_explicit(&n->next[0], memory_order_relaxed) == 0)
		return NULL;
	if (!cover(g, n, newest))
	{
		ltg_mem_pass_end(p);
		return ltg_mem_next(g, n);
	}
	next = atomic_load_explicit(&n->next[0], memory_order_seq_cst);
	p->upto = next;
	if (++p->gained >= PASS_NOTE)
	{
		LtgMemPass	go_on = *p;

		ltg_mem_pass_end(p);
		*p = go_on;
		p->gained = 0;
	}
	return ltg_mem_at(g, next);
}
