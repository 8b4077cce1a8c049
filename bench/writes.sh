#!/bin/bash
# Writing at full speed: does it ever stop, how even are commits, and how much is
# written to files for each byte of new rows?
#
#	SECONDS_EACH	how long each load runs (default 600)
#	SCALE			of pgbench (default 20)
#	CLIENTS			(default 4)
#	SYNC			synchronous_commit (default off: more load)
#	LIMIT			lightning.compaction_rate_limit (default 0: none); with one, a
#					backlog builds up
#	AMS				on which access methods (default "heap lightning")
#	LOADS			which loads (default "tpcb inserts")
#
# Loads: pgbench's TPC-B, and inserts of rows that hardly compress; both on heap
# tables first, to tell what is the machine's.  The report goes to standard
# output and bench/results/writes.txt.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/bench/lib.sh"
SECONDS_EACH=${SECONDS_EACH:-600}
SCALE=${SCALE:-20}
CLIENTS=${CLIENTS:-4}
SYNC=${SYNC:-off}
LIMIT=${LIMIT:-0}
AMS=${AMS:-heap lightning}
LOADS=${LOADS:-tpcb inserts}
# without spaces on the way
export PASS_ENV="SECONDS_EACH=$SECONDS_EACH SCALE=$SCALE CLIENTS=$CLIENTS SYNC=$SYNC LIMIT=$LIMIT AMS=${AMS// /,} LOADS=${LOADS// /,}"

become_unprivileged bench/writes.sh "$@"

work=${WORK:-$(mktemp -d "${TMPDIR:-/tmp}/lightning-writes.XXXXXX")}
mkdir -p "$work" "$top/bench/results"
. "$top/t/install.sh"
private_install "$work/inst" >"$work/build.log" 2>&1 || {
	tail -30 "$work/build.log"
	exit 1
}
server_init <<CONF
shared_buffers = 128MB
max_wal_size = 8GB
checkpoint_timeout = 5min
synchronous_commit = $SYNC
default_table_access_method = heap
lightning.compaction_rate_limit = '$LIMIT'
CONF
server_start
sql "CREATE EXTENSION lightning"

counters() # row bytes, file bytes, log bytes, delays, delay us, stops
{
	sql "SELECT row_bytes, flush_bytes + bytes_written, pg_current_wal_insert_lsn() - '0/0', write_delays, write_delay_us, write_stops
		FROM pg_stat_lightning_compaction" | tr '|' ' '
}

# Latency is the third column of pgbench's log, in microseconds; the end of the
# transaction the fifth and sixth.
digest() # log files
{
	cat "$@" | awk '{ print $3 }' | sort -n >"$work/latency"
	cat "$@" | awk '{ n[$5]++ } END { for (s in n) print s, n[s] }' | sort -n >"$work/seconds"
	awk '{ v[NR] = $1 } END {
		p50 = v[int(NR * 0.5) + 1]; p999 = v[int(NR * 0.999) + 1]
		printf "%d transactions, latency median %.3f ms, P99 %.3f, P99.9 %.3f (%.1fx of the median), longest %.1f\n",
			NR, p50 / 1000, v[int(NR * 0.99) + 1] / 1000, p999 / 1000, p999 / p50, v[NR] / 1000 }' "$work/latency"
	awk 'NR > 1 { for (s = last + 1; s < $1; s++) idle++ } { last = $1; if (NR == 1 || $2 < least) least = $2; if ($2 > most) most = $2 }
		END { printf "seconds without progress %d, transactions in a second %d to %d\n", idle, least, most }' "$work/seconds"
}

load() # name, pgbench arguments
{
	local name=$1 before after most=0 b

	shift
	rm -f "$work"/log.*
	before=$(counters)
	(cd "$work" && exec pgbench -n -c "$CLIENTS" -j 2 -T "$SECONDS_EACH" -l --log-prefix="$work/log" "$@" postgres) >"$work/pgbench.out" 2>&1 &
	while kill -0 $! 2>/dev/null; do
		b=$(sql "SELECT backlog FROM pg_stat_lightning_compaction")
		[ "$b" -le "$most" ] || most=$b
		sleep 1
	done
	wait $! || { cat "$work/pgbench.out"; exit 1; }
	# what is in memory belongs to the account
	sql "SELECT lightning_flush()" >/dev/null
	after=$(counters)
	echo "$am: $name, $SECONDS_EACH s, $CLIENTS clients, synchronous_commit = $SYNC, rate limit $LIMIT"
	digest "$work"/log.* | sed 's/^/  /'
	[ $am = lightning ] || return 0
	echo "$before $after $most" | awk '{ rows = $7 - $1; files = $8 - $2; log_ = $9 - $3
		printf "  rows %.1f MB, files written %.1f MB (%.2fx), with the log %.1f MB (%.2fx)\n", rows / 1e6, files / 1e6, files / rows,
			(files + log_) / 1e6, (files + log_) / rows
		printf "  largest backlog %d runs, %d delays of %.3f ms on average, %d stops\n", $13, $10 - $4,
			($10 > $4) ? ($11 - $5) / ($10 - $4) / 1000 : 0, $12 - $6 }'
}

: >"$top/bench/results/writes.txt"
{
	echo "INSERT INTO w SELECT (random() * 1e15)::bigint, string_agg(md5(random()::text), '') FROM generate_series(1, 20) r, generate_series(1, 8) GROUP BY r;" >"$work/insert.sql"
	for am in ${AMS//,/ }; do
		export PGOPTIONS="-c default_table_access_method=$am"
		pgbench -i -q -s "$SCALE" postgres >"$work/init.out" 2>&1 || { cat "$work/init.out"; exit 1; }
		sql "DROP TABLE IF EXISTS w; CREATE TABLE w (k bigint, v text)" 2>/dev/null
		sql "VACUUM ANALYZE"
		for l in ${LOADS//,/ }; do
			case $l in
				tpcb) load "TPC-B" -M prepared ;;
				inserts) load "inserts of 20 rows of 256 bytes" -f "$work/insert.sql" ;;
				*) echo "no such load: $l" >&2; exit 1 ;;
			esac
		done
	done
	echo "checked: $(sql "SELECT count(*) FROM lightning_check_all()") problems"
} | tee "$top/bench/results/writes.txt"
