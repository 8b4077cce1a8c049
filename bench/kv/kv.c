/*
 * kv.c
 *	  Key-value benchmark: Lightning's embedded library beside RocksDB and LMDB,
 *	  side by side in one run.
 *
 *	  kv [-f] [-n keys] [-o operations] [-t threads] [-m memory MB] [-r rounds]
 *	     [-d directory] [-e engine,engine,...]
 *
 * -f: only fill, settle and report what was written.
 *
 * Each engine lives in a child process of its own, so that its memory and its
 * bytes written (from /proc) can be told apart.  The parent tells one child at
 * a time to run a phase, going round the engines within each phase and
 * repeating each phase `rounds` times: noise of the machine hits all alike.
 * Every result is printed as a line
 *	  engine phase threads ops_per_s p50_ns p99_ns
 * and at the end as a table of medians with ratios to the first engine.
 */
#define _GNU_SOURCE
#include "kv.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_ENGINES 4
#define MAX_ROUNDS 31
#define MAX_THREADS 16
#define SCAN_LEN 100
#define BATCH_LEN 100

typedef enum Phase
{
	FILL,						/* single puts, random order */
	GET_UNIFORM,
	GET_ZIPF,
	SCAN,
	MIXED,						/* 80% gets, 20% puts, zipf */
	OVERWRITE,					/* single puts of existing keys */
	BATCH,						/* batches of existing keys; counts keys */
	SETTLE,						/* let background work finish; not a timed phase */
	QUIT
} Phase;

static const char *const phase_name[] = {
	"fill", "get uniform", "get zipf", "scan 100", "mixed 80/20", "overwrite", "batch of 100", "settle", "quit"
};

typedef struct Result
{
	double		ops_per_s;
	double		p50_ns,
				p99_ns;
	uint64_t	written_bytes;	/* to files, since the start */
	uint64_t	disk_bytes;
	uint64_t	rss_bytes;
	uint64_t	missing;		/* gets that found nothing: must be 0 */
	KvIo		io;
} Result;

typedef struct Command
{
	int			phase;
	int			round;
	int			threads;
	uint64_t	ops;
} Command;

static uint64_t n_keys = 1000000;
static uint64_t n_ops = 400000;
static uint64_t memory_mb = 1024;

void
kv_fatal(const char *fmt,...)
{
	va_list		ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t) ts.tv_sec * 1000000000u + (uint64_t) ts.tv_nsec;
}

/* A bijection on 64 bits (the finaliser of splitmix64). */
static uint64_t
mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static uint64_t
next_random(uint64_t *state)
{
	return mix(*state += 0x9e3779b97f4a7c15u);
}

/* 16 hexadecimal digits: keys are inserted in an order that looks random. */
static void
make_key(uint8_t *key, uint64_t i)
{
	static const char digits[] = "0123456789abcdef";
	uint64_t	x = mix(i + 1);

	for (int d = 15; d >= 0; d--, x >>= 4)
		key[d] = (uint8_t) digits[x & 15];
}

/* Half random bytes, half a run of one: compresses about two to one. */
static void
make_value(uint8_t *value, uint64_t i, uint64_t version)
{
	uint64_t	state = i * 31 + version;

	for (int b = 0; b < VALUE_LEN / 2; b += 8)
	{
		uint64_t	r = next_random(&state);

		memcpy(value + b, &r, VALUE_LEN / 2 - b < 8 ? (size_t) (VALUE_LEN / 2 - b) : 8);
	}
	memset(value + VALUE_LEN / 2, (int) (i % 64) + 32, VALUE_LEN - VALUE_LEN / 2);
}

/* ---- zipf(0.99) over n keys: Gray et al., SIGMOD 1994 ---- */
static double zipf_zetan,
			zipf_eta,
			zipf_alpha;

static void
zipf_init(uint64_t n)
{
	const double theta = 0.99;
	double		zeta2 = 1.0 + pow(0.5, theta);

	zipf_zetan = 0;
	for (uint64_t i = 1; i <= n; i++)
		zipf_zetan += pow((double) i, -theta);
	zipf_alpha = 1.0 / (1.0 - theta);
	zipf_eta = (1.0 - pow(2.0 / (double) n, 1.0 - theta)) / (1.0 - zeta2 / zipf_zetan);
}

static uint64_t
zipf_next(uint64_t *state, uint64_t n)
{
	double		u = (double) (next_random(state) >> 11) / 9007199254740992.0;
	double		uz = u * zipf_zetan;
	uint64_t	rank;

	if (uz < 1.0)
		rank = 0;
	else if (uz < 1.0 + pow(0.5, 0.99))
		rank = 1;
	else
		rank = (uint64_t) ((double) n * pow(zipf_eta * u - zipf_eta + 1.0, zipf_alpha));
	if (rank >= n)
		rank = n - 1;
	return mix(rank) % n;		/* hot keys are spread over the key space */
}

/* ---- latencies: logarithmic histogram, 32 steps per power of two ---- */
typedef struct Histogram
{
	uint64_t	count[64 * 32];
} Histogram;

static int
bucket_of(uint64_t ns)
{
	int			log = 63 - __builtin_clzll(ns | 32);

	return (log << 5) | (int) ((ns >> (log - 5)) & 31);
}

static double
percentile(const Histogram *h, double p)
{
	uint64_t	total = 0,
				seen = 0;

	for (int b = 0; b < 64 * 32; b++)
		total += h->count[b];
	for (int b = 0; b < 64 * 32; b++)
	{
		seen += h->count[b];
		if (seen > 0 && (double) seen >= p * (double) total)
			return ldexp(1.0 + (b & 31) / 32.0, b >> 5);
	}
	return 0;
}

/* ---- one thread of a phase ---- */
typedef struct Worker
{
	const KvEngine *engine;
	void	   *handle;
	Phase		phase;
	uint64_t	first,
				ops;
	uint64_t	seed;
	uint64_t	missing;
	uint64_t	done;			/* in the phase's unit */
	Histogram	histogram;
	pthread_t	thread;
} Worker;

static void
one_operation(Worker *w, uint64_t i, uint64_t *state)
{
	uint8_t		key[KEY_LEN * BATCH_LEN];
	uint8_t		value[VALUE_LEN * BATCH_LEN];

	switch (w->phase)
	{
		case FILL:
			make_key(key, i);
			make_value(value, i, 0);
			w->engine->put(w->handle, key, value);
			break;
		case GET_UNIFORM:
		case GET_ZIPF:
			make_key(key, w->phase == GET_ZIPF ? zipf_next(state, n_keys) : next_random(state) % n_keys);
			if (w->engine->get(w->handle, key, value) != VALUE_LEN)
				w->missing++;
			break;
		case SCAN:
			make_key(key, next_random(state) % n_keys);
			if (w->engine->scan(w->handle, key, SCAN_LEN) == 0)
				w->missing++;
			break;
		case MIXED:
			i = zipf_next(state, n_keys);
			make_key(key, i);
			if (next_random(state) % 5 == 0)
			{
				make_value(value, i, *state);
				w->engine->put(w->handle, key, value);
			}
			else if (w->engine->get(w->handle, key, value) != VALUE_LEN)
				w->missing++;
			break;
		case OVERWRITE:
			i = next_random(state) % n_keys;
			make_key(key, i);
			make_value(value, i, *state);
			w->engine->put(w->handle, key, value);
			break;
		case BATCH:
			for (int b = 0; b < BATCH_LEN; b++)
			{
				i = next_random(state) % n_keys;
				make_key(key + b * KEY_LEN, i);
				make_value(value + b * VALUE_LEN, i, *state);
			}
			w->engine->put_batch(w->handle, key, value, BATCH_LEN);
			break;
		default:
			break;
	}
}

static void *
worker_main(void *arg)
{
	Worker	   *w = arg;
	uint64_t	state = w->seed;
	uint64_t	start = now_ns();

	for (uint64_t i = 0; i < w->ops; i++)
	{
		uint64_t	end;

		one_operation(w, w->first + i, &state);
		end = now_ns();
		w->histogram.count[bucket_of(end - start)]++;
		start = end;
	}
	w->engine->thread_end(w->handle);
	w->done = w->ops * (w->phase == BATCH ? BATCH_LEN : 1);
	return NULL;
}

/* ---- facts about the process and its directory ---- */
static uint64_t
bytes_below(const char *dir)
{
	DIR		   *d = opendir(dir);
	struct dirent *e;
	uint64_t	sum = 0;

	while (d != NULL && (e = readdir(d)) != NULL)
	{
		char		path[4096];
		struct stat st;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (stat(path, &st) != 0)
			continue;
		sum += S_ISDIR(st.st_mode) ? bytes_below(path) : (uint64_t) st.st_blocks * 512;
	}
	if (d != NULL)
		closedir(d);
	return sum;
}

static uint64_t
proc_number(const char *file, const char *name)
{
	FILE	   *f = fopen(file, "r");
	char		line[256];
	uint64_t	value = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, name, strlen(name)) == 0)
			value = strtoull(line + strlen(name), NULL, 10);
	if (f != NULL)
		fclose(f);
	return value;
}

/* ---- a child: one engine ---- */
static Result
run_phase(const KvEngine *engine, void *handle, const char *dir, const Command *c)
{
	static Worker workers[MAX_THREADS];
	Result		r = {0};
	static Histogram all;
	uint64_t	start = now_ns(),
				done = 0,
				elapsed;

	memset(&all, 0, sizeof(all));
	memset(workers, 0, sizeof(workers));
	if (c->phase == SETTLE)
		engine->settle(handle);
	else
	{
		for (int t = 0; t < c->threads; t++)
		{
			Worker	   *w = &workers[t];

			w->engine = engine;
			w->handle = handle;
			w->phase = (Phase) c->phase;
			w->ops = c->ops / (uint64_t) c->threads;
			w->first = (uint64_t) t * w->ops;
			w->seed = mix((uint64_t) c->phase * 1000 + (uint64_t) c->round * 100 + (uint64_t) t + 7);
			if (pthread_create(&w->thread, NULL, worker_main, w) != 0)
				kv_fatal("could not start a thread");
		}
		for (int t = 0; t < c->threads; t++)
		{
			pthread_join(workers[t].thread, NULL);
			done += workers[t].done;
			r.missing += workers[t].missing;
			for (int b = 0; b < 64 * 32; b++)
				all.count[b] += workers[t].histogram.count[b];
		}
	}
	elapsed = now_ns() - start;
	r.ops_per_s = (double) done * 1e9 / (double) elapsed;
	r.p50_ns = percentile(&all, 0.50);
	r.p99_ns = percentile(&all, 0.99);
	r.written_bytes = proc_number("/proc/self/io", "write_bytes: ");
	r.disk_bytes = c->phase == SETTLE ? bytes_below(dir) : 0;
	r.rss_bytes = proc_number("/proc/self/status", "VmRSS:") * 1024;
	if (engine->io != NULL)
		engine->io(handle, &r.io);
	return r;
}

static void
child_main(const KvEngine *engine, const char *dir, int in, int out)
{
	KvOptions	opt = {dir, memory_mb << 20};
	void	   *handle = engine->open(&opt);
	Command		c;

	zipf_init(n_keys);
	while (read(in, &c, sizeof(c)) == (ssize_t) sizeof(c) && c.phase != QUIT)
	{
		Result		r = run_phase(engine, handle, dir, &c);

		if (write(out, &r, sizeof(r)) != (ssize_t) sizeof(r))
			exit(1);
	}
	engine->close(handle);
	exit(0);
}

/* ---- the parent ---- */
typedef struct Child
{
	const KvEngine *engine;
	pid_t		pid;
	int			in,
				out;
	Result		last_settle;
} Child;

static Child children[MAX_ENGINES];
static int	n_children;

static Result
ask(Child *ch, Phase phase, int round, int threads, uint64_t ops)
{
	Command		c = {phase, round, threads, ops};
	Result		r;

	if (write(ch->in, &c, sizeof(c)) != (ssize_t) sizeof(c) ||
		read(ch->out, &r, sizeof(r)) != (ssize_t) sizeof(r))
		kv_fatal("%s went away", ch->engine->name);
	if (r.missing != 0)
		kv_fatal("%s: %s: %llu operations found nothing", ch->engine->name, phase_name[phase],
				 (unsigned long long) r.missing);
	return r;
}

static int
compare_doubles(const void *a, const void *b)
{
	double		x = *(const double *) a,
				y = *(const double *) b;

	return (x > y) - (x < y);
}

static double
median(double *v, int n)
{
	qsort(v, (size_t) n, sizeof(double), compare_doubles);
	return v[n / 2];
}

/* Run one phase on all engines, `rounds` times round; print a table row. */
static void
measure(Phase phase, int threads, int rounds, uint64_t ops)
{
	static double ops_s[MAX_ENGINES][MAX_ROUNDS],
				ratio[MAX_ENGINES][MAX_ROUNDS],
				p50[MAX_ENGINES][MAX_ROUNDS],
				p99[MAX_ENGINES][MAX_ROUNDS];

	for (int r = 0; r < rounds; r++)
		for (int e = 0; e < n_children; e++)
		{
			Result		x = ask(&children[e], phase, r, threads, ops);

			ops_s[e][r] = x.ops_per_s;
			p50[e][r] = x.p50_ns;
			p99[e][r] = x.p99_ns;
			printf("raw\t%s\t%s\t%d\t%.0f\t%.0f\t%.0f\n", children[e].engine->name, phase_name[phase],
				   threads, x.ops_per_s, x.p50_ns, x.p99_ns);
			fflush(stdout);
		}
	for (int e = 0; e < n_children; e++)
		for (int r = 0; r < rounds; r++)
			ratio[e][r] = ops_s[0][r] / ops_s[e][r];
	printf("%-14s %d thread%s", phase_name[phase], threads, threads > 1 ? "s" : " ");
	for (int e = 0; e < n_children; e++)
	{
		double		own = median(ratio[e], rounds);

		printf(" | %9s %9.0f/s p50 %6.0f p99 %7.0f ns", children[e].engine->name, median(ops_s[e], rounds),
			   median(p50[e], rounds), median(p99[e], rounds));
		if (e > 0)
			printf(" (%.2fx)", own);
	}
	printf("\n");
	fflush(stdout);
}

/*
 * Let everybody finish background work; print space, write amplification, and
 * memory: all that is resident of the process, files that it maps included.
 */
static void
settle(uint64_t new_bytes)
{
	for (int e = 0; e < n_children; e++)
	{
		Result		x = ask(&children[e], SETTLE, 0, 1, 0);

		printf("settled        %9s: %.1f MB on disk, %.1f MB written (%.2fx of the rows), %.0f MB resident, %.0f bytes of memory a key\n",
			   children[e].engine->name, (double) x.disk_bytes / 1e6, (double) x.written_bytes / 1e6,
			   (double) x.written_bytes / (double) new_bytes, (double) x.rss_bytes / 1e6,
			   (double) x.rss_bytes / (double) n_keys);
		children[e].last_settle = x;
		if (x.io.log + x.io.flush > 0)
			printf("written        %9s: log %.1f MB (%.2fx), %llu flushes %.1f MB (%.2fx), %llu merges %.1f MB (%.2fx); files alone %.2fx; %llu stalls\n",
				   children[e].engine->name, (double) x.io.log / 1e6, (double) x.io.log / (double) new_bytes,
				   (unsigned long long) x.io.flushes, (double) x.io.flush / 1e6,
				   (double) x.io.flush / (double) new_bytes, (unsigned long long) x.io.compactions,
				   (double) x.io.compact / 1e6, (double) x.io.compact / (double) new_bytes,
				   (double) (x.io.flush + x.io.compact) / (double) new_bytes,
				   (unsigned long long) x.io.stalls);
	}
	fflush(stdout);
}

static void
start_child(const KvEngine *engine, const char *base)
{
	Child	   *ch = &children[n_children];
	char		dir[4096];
	int			to[2],
				from[2];

	snprintf(dir, sizeof(dir), "%s/%s", base, engine->name);
	if (mkdir(dir, 0755) != 0 || pipe(to) != 0 || pipe(from) != 0)
		kv_fatal("could not set up %s: %s", dir, strerror(errno));
	fflush(stdout);
	ch->engine = engine;
	ch->pid = fork();
	if (ch->pid == 0)
	{
		close(to[1]);
		close(from[0]);
		child_main(engine, dir, to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	ch->in = to[1];
	ch->out = from[0];
	n_children++;
}

int
main(int argc, char **argv)
{
	static const KvEngine *const all[] = {&kv_lightning, &kv_rocksdb, &kv_lmdb};
	const char *base = NULL,
			   *which = "lightning,rocksdb,lmdb";
	bool		fill_only = false;
	int			threads = 2,
				rounds = 5,
				opt;

	while ((opt = getopt(argc, argv, "fn:o:t:m:r:d:e:")) != -1)
		switch (opt)
		{
			case 'f': fill_only = true; break;
			case 'n': n_keys = strtoull(optarg, NULL, 10); break;
			case 'o': n_ops = strtoull(optarg, NULL, 10); break;
			case 't': threads = atoi(optarg); break;
			case 'm': memory_mb = strtoull(optarg, NULL, 10); break;
			case 'r': rounds = atoi(optarg); break;
			case 'd': base = optarg; break;
			case 'e': which = optarg; break;
			default: kv_fatal("usage: kv [-f] [-n keys] [-o operations] [-t threads] [-m MB] [-r rounds] -d directory [-e engines]");
		}
	if (base == NULL || rounds < 1 || rounds > MAX_ROUNDS || threads < 1 || threads > MAX_THREADS || n_keys < 1000)
		kv_fatal("kv: a directory is needed, and sensible numbers");
	signal(SIGPIPE, SIG_IGN);
	for (size_t e = 0; e < sizeof(all) / sizeof(all[0]); e++)
		if (strstr(which, all[e]->name) != NULL)
			start_child(all[e], base);

	printf("%llu keys of %d bytes, values of %d, %llu MB of memory, ratios are to %s (above 1: it is faster)\n",
		   (unsigned long long) n_keys, KEY_LEN, VALUE_LEN, (unsigned long long) memory_mb, children[0].engine->name);
	measure(FILL, 1, 1, n_keys);
	settle(n_keys * (KEY_LEN + VALUE_LEN));
	if (fill_only)
		goto done;
	/* what was just written is in the page cache but not in block caches */
	for (int e = 0; e < n_children; e++)
		ask(&children[e], GET_UNIFORM, MAX_ROUNDS, 1, n_keys / 10);
	for (int t = 1; t <= threads; t += threads > 1 ? threads - 1 : 1)
	{
		measure(GET_UNIFORM, t, rounds, n_ops);
		measure(GET_ZIPF, t, rounds, n_ops);
		measure(SCAN, t, rounds, n_ops / 20);
		measure(MIXED, t, rounds, n_ops / 2);
		measure(OVERWRITE, t, rounds, n_ops / 4);
		measure(BATCH, t, rounds, n_ops / 400);
	}
	settle(n_keys * (KEY_LEN + VALUE_LEN));
done:
	for (int e = 0; e < n_children; e++)
	{
		Command		c = {QUIT, 0, 0, 0};

		if (write(children[e].in, &c, sizeof(c)) > 0)
			waitpid(children[e].pid, NULL, 0);
	}
	return 0;
}
