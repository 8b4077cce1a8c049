/*
 * port_sim.c
 *	  The simulated machine: scheduler, locks, files.  See port_sim.h.
 */
#include "test/port_sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void) 0)
#endif

#define STACK_BYTES ((size_t) 512 * 1024)
#define TASKS_MAX 64
#define SECTOR 512
#define NAME_BYTES 64

/* ---- structures ---- */

typedef enum TaskState
{
	T_RUNNABLE,
	T_LOCK,						/* waits for a numbered lock */
	T_MUTEX,
	T_COND,						/* or until `until` */
	T_SLEEP,
	T_DONE
} TaskState;

typedef struct Task
{
	Sim		   *sim;
	char		name[24];
	TaskState	state;
	int			what;			/* lock, mutex or condition waited for */
	uint64_t	until;			/* virtual time, 0: no limit */
	void		(*fn) (void *arg);
	void	   *arg;
	ucontext_t	ctx;
	char	   *stack;
} Task;

typedef struct Lock
{
	int			readers;
	bool		writer;
} Lock;

typedef struct Write
{
	uint64_t	offset;
	size_t		len;
	uint8_t    *data;
} Write;

typedef struct Inode
{
	struct Inode *next;			/* all of them */
	uint8_t    *cur;
	uint64_t	size, cap;
	uint8_t    *dur;
	uint64_t	dur_size, dur_cap;
	Write	   *pending;
	int			n_pending, pending_cap;
} Inode;

typedef struct Name
{
	char		name[NAME_BYTES];
	Inode	   *inode;
} Name;

typedef struct Dir
{
	Name	   *name;
	int			n, cap;
} Dir;

typedef enum DirOpKind
{
	OP_CREATE,
	OP_RENAME,
	OP_REMOVE
} DirOpKind;

typedef struct DirOp
{
	DirOpKind	kind;
	char		from[NAME_BYTES], to[NAME_BYTES];
	Inode	   *inode;
} DirOp;

struct LtgFile
{
	Inode	   *inode;
	char		name[NAME_BYTES];
};

typedef struct Block			/* of port memory */
{
	struct Block *prev, *next;
	size_t		size;
	size_t		pad;
} Block;

struct Sim
{
	LtHost		host;			/* first */
	LtgPort		port;
	uint64_t	rng;
	uint64_t	clock;
	uint64_t	steps, switches, crash_at, steps_max;
	const char *near;			/* sim_crash_near; NULL: nowhere */
	uint64_t	near_n, near_steps;
	uint64_t	history;
	uint32_t	switch_chance;	/* in 1/256 per step */
	bool		trace;
	Task	   *task[TASKS_MAX];
	int			n_tasks;
	Task	   *running;
	bool		crashed, stuck;
	ucontext_t	scheduler;
	Lock		lock[LTG_LOCK_COUNT];
	bool		mutex[LT_MU_COUNT];
	Block		blocks;			/* list head */
	uint64_t	live;
	Dir			cur, dur;
	DirOp	   *op;
	int			n_ops, ops_cap;
	Inode	   *inodes;
	SimFaults	faults;
	uint64_t	struck;
};

static Sim *
sim_of(LtgPort *port)
{
	return port->ctx;
}

/* ---- chance ---- */

static uint64_t
next_random(Sim *s)
{
	uint64_t	z = (s->rng += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t
sim_random(Sim *s, uint64_t n)
{
	return n == 0 ? 0 : next_random(s) % n;
}

static void
trace_name(Sim *s, const char *name)
{
	if (s->trace)
		fprintf(stderr, "         file %s\n", name);
}

static bool
strikes(Sim *s, uint32_t chance)
{
	if (chance == 0 || (next_random(s) & 0xffff) >= chance)
		return false;
	s->struck++;
	if (s->trace)
		fprintf(stderr, "         fault\n");
	return true;
}

static void
note(Sim *s, const char *what, uint64_t detail)
{
	s->history = (s->history ^ detail ^ (uint64_t) (uint8_t) what[0] << 32) * UINT64_C(0x100000001b3);
	s->history ^= s->history >> 29;
	if (s->trace)
		fprintf(stderr, "%8llu %8lluus %-10s %s %llu\n", (unsigned long long) s->steps,
				(unsigned long long) s->clock, s->running != NULL ? s->running->name : "-",
				what, (unsigned long long) detail);
}

/* ---- scheduling ---- */

static void
to_scheduler(Sim *s)
{
	swapcontext(&s->running->ctx, &s->scheduler);
}

/* Every call of the port comes through here. */
static void
step(Sim *s, const char *what, uint64_t detail)
{
	if (s->running == NULL)
		return;					/* outside of tasks */
	s->steps++;
	s->clock += 1 + (next_random(s) & 7);
	note(s, what, detail);
	if (s->crash_at != 0 && s->steps >= s->crash_at)
	{
		s->crashed = true;
		to_scheduler(s);		/* for ever */
	}
	if (s->steps >= s->steps_max)
	{
		s->stuck = true;
		to_scheduler(s);
	}
	if ((next_random(s) & 0xff) < s->switch_chance)
		to_scheduler(s);
}

void
sim_yield(Sim *s)
{
	step(s, "yield", 0);
	if (s->running != NULL)
		to_scheduler(s);
}

void
sim_sleep(Sim *s, uint64_t us)
{
	step(s, "sleep", us);
	s->running->state = T_SLEEP;
	s->running->until = s->clock + us;
	to_scheduler(s);
}

static void
task_main(unsigned lo, unsigned hi)
{
	Task	   *t = (Task *) (((uintptr_t) hi << 32) | lo);

	t->fn(t->arg);
	t->state = T_DONE;
	to_scheduler(t->sim);
}

void
sim_spawn(Sim *s, const char *name, void (*fn) (void *arg), void *arg)
{
	Task	   *t = calloc(1, sizeof(*t));
	uintptr_t	p = (uintptr_t) t;

	if (t == NULL || s->n_tasks == TASKS_MAX)
		abort();
	t->sim = s;
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->fn = fn;
	t->arg = arg;
	t->stack = malloc(STACK_BYTES);
	getcontext(&t->ctx);
	t->ctx.uc_stack.ss_sp = t->stack;
	t->ctx.uc_stack.ss_size = STACK_BYTES;
	t->ctx.uc_link = NULL;
	makecontext(&t->ctx, (void (*) (void)) task_main, 2, (unsigned) p, (unsigned) (p >> 32));
	s->task[s->n_tasks++] = t;
}

static void
drop_tasks(Sim *s)
{
	for (int i = 0; i < s->n_tasks; i++)
	{
		ASAN_UNPOISON_MEMORY_REGION(s->task[i]->stack, STACK_BYTES);
		free(s->task[i]->stack);
		free(s->task[i]);
	}
	s->n_tasks = 0;
	s->running = NULL;
}

static void
wake(Sim *s, TaskState state, int what)
{
	for (int i = 0; i < s->n_tasks; i++)
		if (s->task[i]->state == state && s->task[i]->what == what)
			s->task[i]->state = T_RUNNABLE;
}

static bool
has_timer(const Task *t)
{
	return t->state == T_SLEEP || (t->state == T_COND && t->until != 0);
}

/* Somebody to run, or NULL; moves the clock when all sleep. */
static Task *
pick(Sim *s)
{
	Task	   *ready[TASKS_MAX];
	uint64_t	soonest = UINT64_MAX;
	int			n = 0;

	for (int round = 0; round < 2 && n == 0; round++)
	{
		for (int i = 0; i < s->n_tasks; i++)
		{
			Task	   *t = s->task[i];

			if (has_timer(t) && t->until <= s->clock)
				t->state = T_RUNNABLE;
			if (t->state == T_RUNNABLE)
				ready[n++] = t;
			else if (has_timer(t) && t->until < soonest)
				soonest = t->until;
		}
		if (n == 0 && soonest != UINT64_MAX)
			s->clock = soonest;
	}
	return n > 0 ? ready[sim_random(s, (uint64_t) n)] : NULL;
}

SimEnd
sim_run(Sim *s, uint64_t crash_after, uint64_t steps_max)
{
	SimEnd		end = SIM_DONE;

	s->crash_at = crash_after != 0 ? s->steps + crash_after : 0;
	s->steps_max = s->steps + steps_max;
	s->crashed = s->stuck = false;
	for (;;)
	{
		Task	   *t = pick(s);
		bool		waiting = false;

		if (t == NULL)
		{
			for (int i = 0; i < s->n_tasks; i++)
				waiting = waiting || s->task[i]->state != T_DONE;
			if (waiting)
				return SIM_DEADLOCK;
			break;
		}
		s->switches++;
		s->running = t;
		swapcontext(&s->scheduler, &t->ctx);
		s->running = NULL;
		if (s->crashed || s->stuck)
		{
			end = s->crashed ? SIM_CRASHED : SIM_STUCK;
			break;
		}
	}
	s->crash_at = 0;
	s->near = NULL;
	if (end == SIM_DONE)
		drop_tasks(s);
	return end;
}

void
sim_describe(Sim *s, char *buf, size_t size)
{
	static const char *const names[] = {"runs", "waits for lock", "waits for mutex",
	"waits for condition", "sleeps", "is done"};
	size_t		n = 0;

	buf[0] = '\0';
	for (int i = 0; i < s->n_tasks && n < size; i++)
		n += (size_t) snprintf(buf + n, size - n, "%s %s %d; ", s->task[i]->name,
							   names[s->task[i]->state], s->task[i]->what);
}

/* ---- locks ---- */

static bool
take(Lock *l, LtgLockMode mode)
{
	if (l->writer || (mode == LTG_EXCLUSIVE && l->readers > 0))
		return false;
	if (mode == LTG_EXCLUSIVE)
		l->writer = true;
	else
		l->readers++;
	return true;
}

static void
block(Sim *s, TaskState state, int what)
{
	s->running->state = state;
	s->running->what = what;
	to_scheduler(s);
}

static void
sim_lock(LtgPort *port, LtgLockId id, LtgLockMode mode)
{
	Sim		   *s = sim_of(port);

	step(s, "lock", (uint64_t) id);
	while (!take(&s->lock[id], mode))
	{
		if (s->running == NULL)
			abort();
		block(s, T_LOCK, (int) id);
	}
}

static bool
sim_try_lock(LtgPort *port, LtgLockId id, LtgLockMode mode)
{
	Sim		   *s = sim_of(port);

	step(s, "trylock", (uint64_t) id);
	return take(&s->lock[id], mode);
}

static void
sim_unlock(LtgPort *port, LtgLockId id)
{
	Sim		   *s = sim_of(port);
	Lock	   *l = &s->lock[id];

	if (l->writer)
		l->writer = false;
	else if (l->readers > 0)
		l->readers--;
	else
		abort();
	wake(s, T_LOCK, (int) id);
	step(s, "unlock", (uint64_t) id);
}

static void
host_lock(LtHost *h, LtMutexId id)
{
	Sim		   *s = (Sim *) h;

	step(s, "mutex", (uint64_t) id);
	while (s->mutex[id])
		block(s, T_MUTEX, (int) id);
	s->mutex[id] = true;
}

static void
host_unlock(LtHost *h, LtMutexId id)
{
	Sim		   *s = (Sim *) h;

	if (!s->mutex[id])
		abort();
	s->mutex[id] = false;
	wake(s, T_MUTEX, (int) id);
	step(s, "unmutex", (uint64_t) id);
}

static void
host_wait(LtHost *h, LtCondId cond, LtMutexId mutex, uint64_t timeout_us)
{
	Sim		   *s = (Sim *) h;

	if (!s->mutex[mutex] || s->running == NULL)
		abort();
	s->mutex[mutex] = false;
	wake(s, T_MUTEX, (int) mutex);
	/* not to be lost: nothing may run between here and the wait */
	s->running->until = timeout_us != 0 ? s->clock + timeout_us : 0;
	if (sim_random(s, 16) != 0) /* else: wakes without reason */
		block(s, T_COND, (int) cond);
	else
		to_scheduler(s);
	while (s->mutex[mutex])
		block(s, T_MUTEX, (int) mutex);
	s->mutex[mutex] = true;
}

static void
host_wake_all(LtHost *h, LtCondId cond)
{
	wake((Sim *) h, T_COND, (int) cond);
	step((Sim *) h, "wake", (uint64_t) cond);
}

static void
host_yield(LtHost *h)
{
	sim_yield((Sim *) h);
}

static uint64_t
host_self(LtHost *h)
{
	Sim		   *s = (Sim *) h;

	for (int i = 0; i < s->n_tasks; i++)
		if (s->task[i] == s->running)
			return (uint64_t) i;
	return 0;
}

static void
host_nothing(LtHost *h)
{
	(void) h;
}

/* ---- memory ---- */

static void
unlink_block(Sim *s, Block *b)
{
	b->prev->next = b->next;
	b->next->prev = b->prev;
	s->live--;
}

static void
link_block(Sim *s, Block *b)
{
	b->next = s->blocks.next;
	b->prev = &s->blocks;
	b->next->prev = b;
	s->blocks.next = b;
	s->live++;
}

static void *
get_block(Sim *s, size_t size)
{
	Block	   *b = malloc(sizeof(*b) + size);

	if (b == NULL)
		abort();
	b->size = size;
	link_block(s, b);
	return b + 1;
}

static void *
sim_alloc(LtgPort *port, size_t size)
{
	Sim		   *s = sim_of(port);

	step(s, "alloc", size);
	if (strikes(s, s->faults.alloc))
		return NULL;
	return get_block(s, size);
}

static void
sim_free(LtgPort *port, void *ptr)
{
	Sim		   *s = sim_of(port);
	Block	   *b;

	if (ptr == NULL)
		return;
	b = (Block *) ptr - 1;
	unlink_block(s, b);
	free(b);
}

static void *
sim_realloc(LtgPort *port, void *ptr, size_t size)
{
	Sim		   *s = sim_of(port);
	void	   *n;

	step(s, "realloc", size);
	if (strikes(s, s->faults.alloc))
		return NULL;
	n = get_block(s, size);
	if (ptr != NULL)
	{
		size_t		old = ((Block *) ptr - 1)->size;

		memcpy(n, ptr, old < size ? old : size);
		sim_free(port, ptr);
	}
	return n;
}

/* ---- files ---- */

static void *
grow_array(void *p, int *cap, int need, size_t unit)
{
	if (need <= *cap)
		return p;
	*cap = need * 2 + 8;
	p = realloc(p, (size_t) *cap * unit);
	if (p == NULL)
		abort();
	return p;
}

static Name *
find_name(Dir *d, const char *name)
{
	for (int i = 0; i < d->n; i++)
		if (strcmp(d->name[i].name, name) == 0)
			return &d->name[i];
	return NULL;
}

static void
set_name(Dir *d, const char *name, Inode *inode)
{
	Name	   *n = find_name(d, name);

	if (n == NULL)
	{
		d->name = grow_array(d->name, &d->cap, d->n + 1, sizeof(Name));
		n = &d->name[d->n++];
		snprintf(n->name, sizeof(n->name), "%s", name);
	}
	n->inode = inode;
}

static void
unset_name(Dir *d, const char *name)
{
	Name	   *n = find_name(d, name);

	if (n != NULL)
		*n = d->name[--d->n];
}

static void
add_op(Sim *s, DirOpKind kind, const char *from, const char *to, Inode *inode)
{
	DirOp	   *o;

	s->op = grow_array(s->op, &s->ops_cap, s->n_ops + 1, sizeof(DirOp));
	o = &s->op[s->n_ops++];
	o->kind = kind;
	snprintf(o->from, sizeof(o->from), "%s", from);
	snprintf(o->to, sizeof(o->to), "%s", to != NULL ? to : "");
	o->inode = inode;
}

static void
apply_op(Dir *d, const DirOp *o)
{
	switch (o->kind)
	{
		case OP_CREATE:
			set_name(d, o->from, o->inode);
			break;
		case OP_RENAME:
			unset_name(d, o->from);
			set_name(d, o->to, o->inode);
			break;
		case OP_REMOVE:
			unset_name(d, o->from);
			break;
	}
}

static LtgStatus
fail(LtgError *err, int e, const char *file)
{
	LtgStatus	st = e == ENOSPC ? LTG_NOSPACE : LTG_IO;

	if (err != NULL)
	{
		memset(err, 0, sizeof(*err));
		err->status = st;
		err->os_errno = e;
		snprintf(err->file, sizeof(err->file), "%s", file);
		snprintf(err->msg, sizeof(err->msg), "simulated failure");
	}
	return st;
}

static LtgStatus
sim_file_open(LtgPort *port, const char *name, LtgOpenMode mode, LtgFile **file, LtgError *err)
{
	Sim		   *s = sim_of(port);
	Name	   *n;
	LtgFile    *f;

	*file = NULL;
	step(s, "open", (uint64_t) (uint8_t) name[15]);
	trace_name(s, name);
	if (strikes(s, s->faults.open))
		return fail(err, EIO, name);
	n = find_name(&s->cur, name);
	if (mode != LTG_OPEN_CREATE && n == NULL)
		return LTG_NOT_FOUND;
	if (mode == LTG_OPEN_CREATE)
	{
		Inode	   *inode;

		if (n != NULL)
			return fail(err, EEXIST, name);
		inode = calloc(1, sizeof(*inode));
		inode->next = s->inodes;
		s->inodes = inode;
		set_name(&s->cur, name, inode);
		add_op(s, OP_CREATE, name, NULL, inode);
		n = find_name(&s->cur, name);
	}
	f = get_block(s, sizeof(*f));
	f->inode = n->inode;
	snprintf(f->name, sizeof(f->name), "%s", name);
	*file = f;
	return LTG_OK;
}

static LtgStatus
sim_file_read(LtgPort *port, LtgFile *f, void *buf, size_t len, uint64_t offset,
			  size_t *nread, LtgError *err)
{
	Sim		   *s = sim_of(port);
	Inode	   *i = f->inode;

	*nread = 0;
	step(s, "read", offset);
	if (strikes(s, s->faults.read))
		return fail(err, EIO, f->name);
	if (offset < i->size)
	{
		*nread = i->size - offset < len ? (size_t) (i->size - offset) : len;
		memcpy(buf, i->cur + offset, *nread);
	}
	return LTG_OK;
}

static void
put_bytes(uint8_t **buf, uint64_t *size, uint64_t *cap, uint64_t offset, const uint8_t *data,
		  size_t len)
{
	uint64_t	end = offset + len;

	if (end > *cap)
	{
		*cap = end * 2;
		*buf = realloc(*buf, *cap);
		if (*buf == NULL)
			abort();
	}
	if (offset > *size)
		memset(*buf + *size, 0, offset - *size);
	if (len > 0 && data != NULL)
		memcpy(*buf + offset, data, len);
	else if (len > 0)
		memset(*buf + offset, 0, len);
	if (end > *size)
		*size = end;
}

static LtgStatus
sim_file_write(LtgPort *port, LtgFile *f, const void *buf, size_t len, uint64_t offset,
			   LtgError *err)
{
	Sim		   *s = sim_of(port);
	Inode	   *i = f->inode;
	bool		bad;
	Write	   *w;

	step(s, "write", offset);
	trace_name(s, f->name);
	bad = strikes(s, s->faults.write);
	if (bad)
		len = sim_random(s, len);	/* some of it may have arrived */
	if (len > 0)
	{
		i->pending = grow_array(i->pending, &i->pending_cap, i->n_pending + 1, sizeof(Write));
		w = &i->pending[i->n_pending++];
		w->offset = offset;
		w->len = len;
		w->data = malloc(len);
		memcpy(w->data, buf, len);
		put_bytes(&i->cur, &i->size, &i->cap, offset, buf, len);
	}
	step(s, "wrote", len);
	return bad ? fail(err, s->faults.nospace ? ENOSPC : EIO, f->name) : LTG_OK;
}

static void
drop_pending(Inode *i)
{
	for (int k = 0; k < i->n_pending; k++)
		free(i->pending[k].data);
	i->n_pending = 0;
}

static LtgStatus
sim_file_sync(LtgPort *port, LtgFile *f, LtgError *err)
{
	Sim		   *s = sim_of(port);
	Inode	   *i = f->inode;

	step(s, "sync", i->size);
	trace_name(s, f->name);
	if (strikes(s, s->faults.sync))
		return fail(err, EIO, f->name);
	for (int k = 0; k < i->n_pending; k++)
		put_bytes(&i->dur, &i->dur_size, &i->dur_cap, i->pending[k].offset,
				  i->pending[k].data, i->pending[k].len);
	drop_pending(i);
	step(s, "synced", i->size);
	return LTG_OK;
}

static LtgStatus
sim_file_size(LtgPort *port, LtgFile *f, uint64_t *size, LtgError *err)
{
	(void) err;
	step(sim_of(port), "size", f->inode->size);
	*size = f->inode->size;
	return LTG_OK;
}

static void
sim_file_close(LtgPort *port, LtgFile *f)
{
	step(sim_of(port), "close", 0);
	sim_free(port, f);
}

static LtgStatus
sim_file_rename(LtgPort *port, const char *from, const char *to, LtgError *err)
{
	Sim		   *s = sim_of(port);
	Name	   *n;

	step(s, "rename", (uint64_t) (uint8_t) from[15]);
	if (strikes(s, s->faults.rename))
		return fail(err, EIO, from);
	n = find_name(&s->cur, from);
	if (n == NULL)
		return fail(err, ENOENT, from);
	add_op(s, OP_RENAME, from, to, n->inode);
	apply_op(&s->cur, &s->op[s->n_ops - 1]);
	return LTG_OK;
}

static LtgStatus
sim_file_remove(LtgPort *port, const char *name, LtgError *err)
{
	Sim		   *s = sim_of(port);
	Name	   *n;

	step(s, "remove", (uint64_t) (uint8_t) name[15]);
	trace_name(s, name);
	if (strikes(s, s->faults.remove))
		return fail(err, EIO, name);
	n = find_name(&s->cur, name);
	if (n == NULL)
		return LTG_NOT_FOUND;
	add_op(s, OP_REMOVE, name, NULL, n->inode);
	apply_op(&s->cur, &s->op[s->n_ops - 1]);
	return LTG_OK;
}

static LtgStatus
sim_dir_sync(LtgPort *port, LtgError *err)
{
	Sim		   *s = sim_of(port);

	step(s, "dirsync", (uint64_t) s->n_ops);
	if (strikes(s, s->faults.dir_sync))
		return fail(err, EIO, "");
	for (int k = 0; k < s->n_ops; k++)
		apply_op(&s->dur, &s->op[k]);
	s->n_ops = 0;
	return LTG_OK;
}

static LtgStatus
sim_dir_list(LtgPort *port, LtgDirFn fn, void *arg, LtgError *err)
{
	Sim		   *s = sim_of(port);
	Name	   *copy;
	int			n;

	step(s, "list", (uint64_t) s->cur.n);
	if (strikes(s, s->faults.open))
		return fail(err, EIO, "");
	/* what stays there all the time is returned, whatever others do meanwhile */
	n = s->cur.n;
	copy = get_block(s, ((size_t) n + 1) * sizeof(Name));
	if (n > 0)
		memcpy(copy, s->cur.name, (size_t) n * sizeof(Name));
	for (int k = 0; k < n; k++)
		fn(arg, copy[k].name);
	sim_free(port, copy);
	return LTG_OK;
}

/* ---- crashes ---- */

/* How a power failure treats unsynced writes, drawn per crash. */
typedef enum Survival
{
	KEEP_NONE,
	KEEP_ALL,
	KEEP_SOME
} Survival;

/* Of each sector any prefix of its writes. */
static void
tear(Sim *s, Inode *i, Survival how)
{
	uint64_t	end = 0;
	uint64_t	size;

	for (int k = 0; k < i->n_pending; k++)
		if (i->pending[k].offset + i->pending[k].len > end)
			end = i->pending[k].offset + i->pending[k].len;
	for (uint64_t sector = 0; sector < end; sector += SECTOR)
	{
		int			touching = 0;
		int			keep;

		for (int k = 0; k < i->n_pending; k++)
			touching += i->pending[k].offset < sector + SECTOR &&
				i->pending[k].offset + i->pending[k].len > sector;
		if (touching == 0)
			continue;
		keep = how == KEEP_ALL ? touching : (int) sim_random(s, (uint64_t) touching + 1);
		for (int k = 0; k < i->n_pending && keep > 0; k++)
		{
			const Write *w = &i->pending[k];
			uint64_t	lo = w->offset > sector ? w->offset : sector;
			uint64_t	hi = w->offset + w->len < sector + SECTOR ? w->offset + w->len : sector + SECTOR;

			if (lo >= hi)
				continue;
			put_bytes(&i->dur, &i->dur_size, &i->dur_cap, lo, w->data + (lo - w->offset),
					  (size_t) (hi - lo));
			keep--;
		}
	}
	/* the size may have been written although the data were not */
	size = i->dur_size + (i->size > i->dur_size ? sim_random(s, i->size - i->dur_size + 1) : 0);
	if (size > i->dur_size)
		put_bytes(&i->dur, &i->dur_size, &i->dur_cap, i->dur_size, NULL, (size_t) (size - i->dur_size));
}

static void
power_failure(Sim *s)
{
	Survival	how = (Survival) sim_random(s, 3);

	for (int k = 0; k < s->n_ops; k++)
		if (how == KEEP_ALL || (how == KEEP_SOME && sim_random(s, 2) == 0))
			apply_op(&s->dur, &s->op[k]);
	s->n_ops = 0;
	s->cur.name = grow_array(s->cur.name, &s->cur.cap, s->dur.n, sizeof(Name));
	if (s->dur.n > 0)
		memcpy(s->cur.name, s->dur.name, (size_t) s->dur.n * sizeof(Name));
	s->cur.n = s->dur.n;
	how = (Survival) sim_random(s, 3);
	for (Inode *i = s->inodes; i != NULL; i = i->next)
	{
		if (how != KEEP_NONE && i->n_pending > 0)
			tear(s, i, how);
		drop_pending(i);
		i->size = 0;
		put_bytes(&i->cur, &i->size, &i->cap, 0, i->dur, (size_t) i->dur_size);
	}
}

/* Inodes that no name leads to any more. */
static void
collect_inodes(Sim *s)
{
	Inode	  **at = &s->inodes;

	while (*at != NULL)
	{
		Inode	   *i = *at;
		bool		used = false;

		for (int k = 0; k < s->cur.n; k++)
			used = used || s->cur.name[k].inode == i;
		for (int k = 0; k < s->dur.n; k++)
			used = used || s->dur.name[k].inode == i;
		for (int k = 0; k < s->n_ops; k++)
			used = used || s->op[k].inode == i;
		if (used)
		{
			at = &i->next;
			continue;
		}
		*at = i->next;
		drop_pending(i);
		free(i->pending);
		free(i->cur);
		free(i->dur);
		free(i);
	}
}

static void
forget_memory(Sim *s)
{
	while (s->blocks.next != &s->blocks)
	{
		Block	   *b = s->blocks.next;

		unlink_block(s, b);
		free(b);
	}
}

void
sim_crash(Sim *s, SimCrash kind)
{
	drop_tasks(s);
	forget_memory(s);
	memset(s->lock, 0, sizeof(s->lock));
	memset(s->mutex, 0, sizeof(s->mutex));
	note(s, "crash", (uint64_t) kind);
	if (kind == SIM_POWER)
		power_failure(s);
	collect_inodes(s);
}

/* ---- the rest ---- */

static uint64_t
sim_now(LtgPort *port)
{
	step(sim_of(port), "now", 0);
	return sim_of(port)->clock;
}

static void
sim_log(LtgPort *port, LtgLogLevel level, const char *msg)
{
	(void) level;
	if (sim_of(port)->trace)
		fprintf(stderr, "log: %s\n", msg);
}

static bool
sim_interrupted(LtgPort *port)
{
	(void) port;
	return false;
}

static void
sim_pause(LtgPort *port, uint64_t us, LtgPause why)
{
	(void) why;
	sim_sleep(sim_of(port), us);
}

void
sim_crash_near(Sim *s, const char *stop_point, uint64_t n, uint64_t steps)
{
	s->near = stop_point;
	s->near_n = n;
	s->near_steps = steps;
}

static void
sim_stop_point(LtgPort *port, const char *name)
{
	Sim		   *s = sim_of(port);

	step(s, name, 0);
	if (s->near != NULL && strcmp(s->near, name) == 0 && --s->near_n == 0)
	{
		s->near = NULL;
		s->crash_at = s->steps + s->near_steps;
	}
	/* these are the interesting places */
	if (s->running != NULL && sim_random(s, 4) == 0)
		to_scheduler(s);
}

Sim *
sim_create(uint64_t seed)
{
	Sim		   *s = calloc(1, sizeof(*s));

	s->rng = seed * UINT64_C(0xd1342543de82ef95) + 1;
	s->history = seed;
	s->clock = 1000;
	s->trace = getenv("SIM_TRACE") != NULL;
	s->switch_chance = 1u << sim_random(s, 7);	/* 1/256 .. 1/4 */
	s->blocks.next = s->blocks.prev = &s->blocks;
	s->port = (LtgPort) {
		.ctx = s, .alloc = sim_alloc, .realloc = sim_realloc, .free = sim_free,
		.file_open = sim_file_open, .file_read = sim_file_read,
		.file_write = sim_file_write, .file_sync = sim_file_sync,
		.file_size = sim_file_size, .file_close = sim_file_close,
		.file_rename = sim_file_rename, .file_remove = sim_file_remove,
		.dir_sync = sim_dir_sync, .dir_list = sim_dir_list,
		.lock = sim_lock, .try_lock = sim_try_lock, .unlock = sim_unlock,
		.now_us = sim_now, .log = sim_log, .interrupted = sim_interrupted,
		.pause = sim_pause, .stop_point = sim_stop_point,
	};
	s->host = (LtHost) {
		.port = &s->port, .lock = host_lock, .unlock = host_unlock, .wait = host_wait,
		.wake_all = host_wake_all, .yield = host_yield, .self = host_self,
		.join_all = host_nothing, .destroy = host_nothing,
		.background_elsewhere = true,
	};
	return s;
}

void
sim_destroy(Sim *s)
{
	drop_tasks(s);
	forget_memory(s);
	s->cur.n = s->dur.n = s->n_ops = 0;
	collect_inodes(s);
	free(s->cur.name);
	free(s->dur.name);
	free(s->op);
	free(s);
}

LtgPort *
sim_port(Sim *s)
{
	return &s->port;
}

LtHost *
sim_host(Sim *s)
{
	return &s->host;
}

void
sim_set_faults(Sim *s, const SimFaults *faults)
{
	if (faults != NULL)
		s->faults = *faults;
	else
		memset(&s->faults, 0, sizeof(s->faults));
}

uint64_t
sim_faults_struck(Sim *s)
{
	return s->struck;
}

uint64_t
sim_live_allocs(Sim *s)
{
	return s->live;
}

uint64_t
sim_steps(Sim *s)
{
	return s->steps;
}

uint64_t
sim_switches(Sim *s)
{
	return s->switches;
}

uint64_t
sim_history(Sim *s)
{
	return s->history;
}
