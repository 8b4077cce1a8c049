/*
 * kv.h
 *	  What the key-value benchmark asks of each engine.
 *
 * One process per engine; threads share the handle.  All puts are unsynced:
 * in the log, not forced to disk.
 */
#ifndef KV_H
#define KV_H

#include <stddef.h>
#include <stdint.h>

#define KEY_LEN 16
#define VALUE_LEN 100

typedef struct KvOptions
{
	const char *dir;
	uint64_t	memory_bytes;	/* caches and write buffers together */
} KvOptions;

/* Where the bytes written to files went, for engines that can tell. */
typedef struct KvIo
{
	uint64_t	log,
				flush,
				compact;
	uint64_t	flushes,
				compactions,
				stalls,
				runs;			/* sorted runs a read may have to look into */
} KvIo;

typedef struct KvEngine
{
	const char *name;
	void	   *(*open) (const KvOptions *opt);
	void		(*put) (void *h, const uint8_t *key, const uint8_t *value);
	/* n keys and values, one atomic batch */
	void		(*put_batch) (void *h, const uint8_t *keys, const uint8_t *values, int n);
	/* returns the value's length, 0 if there is none; copies to out */
	size_t		(*get) (void *h, const uint8_t *key, uint8_t *out);
	/* reads up to n entries from key on; returns bytes of values seen */
	size_t		(*scan) (void *h, const uint8_t *key, int n);
	/* let background work finish */
	void		(*settle) (void *h);
	/* give back what the calling thread keeps for itself */
	void		(*thread_end) (void *h);
	void		(*close) (void *h);
	void		(*io) (void *h, KvIo *io);	/* may be NULL */
} KvEngine;

extern const KvEngine kv_lightning;
extern const KvEngine kv_rocksdb;
extern const KvEngine kv_lmdb;

extern void kv_fatal(const char *fmt,...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
