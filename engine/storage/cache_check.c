/*
 * cache_check.c
 *	  Verifies the invariants of the block cache (see cache.c).
 */
#include "storage/cache_int.h"

#include <stdio.h>

static bool
bad(char *msg, size_t msg_size, const char *what, uint64_t where)
{
	snprintf(msg, msg_size, "block cache: %s (%llu)", what, (unsigned long long) where);
	return false;
}

/* A queue's links, length and end. */
static bool
check_queue(const Queue *q, void *base, size_t stride, uint32_t limit)
{
	uint32_t	n = 0,
				prev = NONE;

	for (uint32_t i = q->head; i != NONE; i = link_of(base, stride, i)->next)
	{
		if (i >= limit || link_of(base, stride, i)->prev != prev || ++n > q->n)
			return false;
		prev = i;
	}
	return n == q->n && q->tail == prev;
}

static bool
check_frames(LtgCache *c, char *msg, size_t msg_size)
{
	uint64_t	chained = 0,
				total = 0,
				stamp = 0;

	for (uint32_t place = 0; place < AT_COUNT; place++)
	{
		Queue	   *q = &c->place[place];

		if (!check_queue(q, frame(c, 0), sizeof(Frame), c->n_frames))
			return bad(msg, msg_size, "broken queue of frames", place);
		for (uint32_t i = q->head; i != NONE; i = frame(c, i)->link.next)
		{
			if (frame(c, i)->place != place)
				return bad(msg, msg_size, "frame in a queue it does not know of", i);
			if (frame_header(c, i)->index != i || frame_header(c, i)->check != ~i)
				return bad(msg, msg_size, "frame header overwritten", i);
			if (place == AT_LIMBO && frame(c, i)->stamp < stamp)
				return bad(msg, msg_size, "limbo is not in the order of stamps", i);
			stamp = place == AT_LIMBO ? frame(c, i)->stamp : 0;
			if ((place == AT_T1 || place == AT_T2) &&
				find(c, entry(c, i)->file, entry(c, i)->offset) != i)
				return bad(msg, msg_size, "resident block not found by its name", i);
		}
		total += q->n;
	}
	if (total != c->n_frames)
		return bad(msg, msg_size, "frames lost", total);
	for (uint32_t b = 0; c->n_frames > 0 && b <= c->bucket_mask; b++)
		for (uint32_t i = atomic_load(&buckets(c)[b]); i != NONE;
			 i = atomic_load(&entry(c, i)->hash_next))
			if (++chained > c->n_frames)
				return bad(msg, msg_size, "hash chain without end", b);
	if (chained != c->place[AT_T1].n + c->place[AT_T2].n)
		return bad(msg, msg_size, "hash has other blocks than the clocks", chained);
	return true;
}

static bool
check_ghosts(LtgCache *c, char *msg, size_t msg_size)
{
	Queue	   *queue[3] = {&c->ghost_free, &c->b1, &c->b2};

	for (uint32_t list = 0; list < 3; list++)
	{
		if (!check_queue(queue[list], ghost(c, 0), sizeof(Ghost), c->n_ghosts))
			return bad(msg, msg_size, "broken queue of ghosts", list);
		for (uint32_t i = queue[list]->head; i != NONE; i = ghost(c, i)->link.next)
		{
			Ghost	   *g = ghost(c, i);

			if (g->list != list)
				return bad(msg, msg_size, "ghost in a list it does not know of", i);
			if (list != 0 && ltg_car_ghost_find(c, g->file, g->offset) != i)
				return bad(msg, msg_size, "ghost not found by its name", i);
			if (list != 0 && find(c, g->file, g->offset) != NONE)
				return bad(msg, msg_size, "resident block is a ghost too", i);
		}
	}
	if (c->n_frames > 0 && c->ghost_free.n + c->b1.n + c->b2.n != c->n_ghosts)
		return bad(msg, msg_size, "ghosts lost", c->ghost_free.n);
	return true;
}

bool
ltg_cache_check(LtgSession *s, LtgCache *c, char *msg, size_t msg_size)
{
	uint32_t	t1,
				resident;
	bool		ok;

	s->port->lock(s->port, LTG_LOCK_CACHE, LTG_EXCLUSIVE);
	t1 = c->place[AT_T1].n;
	resident = t1 + c->place[AT_T2].n;
	ok = check_frames(c, msg, msg_size) && check_ghosts(c, msg, msg_size);
	if (ok && (resident > c->c || t1 + c->b1.n > c->c ||
			   resident + c->b1.n + c->b2.n > 2 * c->c || c->p > c->c))
		ok = bad(msg, msg_size, "a list is longer than CAR allows", resident);
	s->port->unlock(s->port, LTG_LOCK_CACHE);
	return ok;
}
