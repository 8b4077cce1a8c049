/*
 * wal_int.h
 *	  Inside of the log, shared by wal.c (writing) and wal_read.c (reading).
 */
#ifndef LT_WAL_INT_H
#define LT_WAL_INT_H

#include "lt/wal.h"

#define WAL_MAGIC "LTGWAL\r\n"
#define WAL_VERSION 1
#define WAL_FLAG_FIRST 1

typedef struct WalSegment
{
	LtgSeq		start;
	LtgSeq		state_end;		/* LSN after its state records; 0: not known */
	bool		first;			/* WAL_FLAG_FIRST */
} WalSegment;

struct LtWal
{
	LtHost	   *host;
	LtgPort    *port;
	LtWalOptions opt;
	uint8_t    *ring;
	bool		started;

	/* LT_MU_INSERT; insert may be read by anyone */
	_Alignas(LTG_CACHE_LINE) _Atomic LtgSeq insert;
	LtgSeq		insert_seg;		/* start of the segment being inserted into */
	LtgSeq		noted_flushed;	/* in the last SYNCED record */
	_Atomic bool roll_wanted;
	uint8_t    *state_buf;		/* records collected for a new segment */
	size_t		state_len, state_cap;

	/* A segment boundary in the buffer that the writer has not reached: set
	 * under LT_MU_INSERT when clear, cleared under LT_MU_WRITE. */
	_Atomic bool boundary;
	LtgSeq		boundary_at, boundary_state_end;

	/* LT_MU_WRITE; the positions may be read by anyone */
	_Alignas(LTG_CACHE_LINE) _Atomic LtgSeq written;
	_Atomic LtgSeq flushed;
	_Atomic bool poisoned;
	bool		syncing;
	LtgFile    *file;
	uint32_t	n_segments;		/* [n - 1] is being written */
	WalSegment *segment;		/* LT_WAL_SEGMENTS_MAX */
	uint64_t	n_writes, n_syncs;
	LtgSeq		started_at;

	/* reading */
	LtgSeq		end;
	uint64_t	torn;
};

extern void lt_wal_build_header(uint8_t *h, LtgSeq start, bool first);

#endif
