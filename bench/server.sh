#!/bin/bash
# Heap + nbtree against lightning + nbtree: two servers with the same memory
# budget, used in turns within one run; medians of the ratios of the rounds.
#
#	EVENTS, ORDERS, SCALE, ROUNDS, SECONDS_EACH  sizes (defaults below)
#
# Raw numbers go to bench/results/server.tsv, the report to standard output and
# bench/results/server.txt.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/bench/lib.sh"
EVENTS=${EVENTS:-1000000}
ORDERS=${ORDERS:-2000000}
SCALE=${SCALE:-20}
ROUNDS=${ROUNDS:-3}
SECONDS_EACH=${SECONDS_EACH:-10}
export PASS_ENV="EVENTS=$EVENTS ORDERS=$ORDERS SCALE=$SCALE ROUNDS=$ROUNDS SECONDS_EACH=$SECONDS_EACH"
become_unprivileged bench/server.sh "$@"

base=${WORK:-$(mktemp -d "${TMPDIR:-/tmp}/lightning-bench.XXXXXX")}
mkdir -p "$base" "$top/bench/results"
raw=$top/bench/results/server.tsv
report=$top/bench/results/server.txt
: >"$raw"

. "$top/t/install.sh"
private_install "$base/inst" >"$base/build.log" 2>&1 || {
	tail -30 "$base/build.log"
	exit 1
}

declare -A host pid_of
use() # heap|lightning: the server that the next commands talk to
{
	am=$1
	work=$base/$am
	export PGHOST=${host[$am]} PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
}

cleanup_both()
{
	for a in heap lightning; do
		[ -f "$base/$a/data/postmaster.pid" ] && pg_ctl -D "$base/$a/data" -w -t 60 -m immediate stop >/dev/null 2>&1
		rm -rf "${host[$a]:-}"
	done
	rm -rf "$base"
}

# The budget: 1 GB each.  Autovacuum is off so that it does not hit one of the
# two by chance; VACUUM runs where the script says so.
for a in heap lightning; do
	work=$base/$a
	if [ $a = heap ]; then
		memory="shared_buffers = 1GB"
	else
		memory="shared_buffers = 128MB
lightning.cache_size = 640MB
lightning.memtable_size = 64MB
lightning.memtable_count = 4"
	fi
	server_init <<CONF
$memory
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off
default_table_access_method = heap
CONF
	host[$a]=$sockets
	server_start
	sql "CREATE EXTENSION lightning"
	sql "ALTER SYSTEM SET default_table_access_method = '$a'"
	sql "SELECT pg_reload_conf()" >/dev/null
done
trap cleanup_both EXIT

record() # what round am value
{
	printf '%s\t%s\t%s\t%s\n' "$@" >>"$raw"
}

echo "generating data"
use heap
psql -Xq -v am=heap -v sfx=_0 -f "$top/bench/gen.sql"
sql "COPY (SELECT * FROM gen_events(1, $EVENTS)) TO '$base/events.txt'" &
sql "COPY (SELECT * FROM gen_orders(1, $ORDERS)) TO '$base/orders.txt'" &
wait

echo "loading, $ROUNDS rounds"
for round in $(seq "$ROUNDS"); do
	for a in heap lightning; do
		use $a
		psql -Xq -v am=$a -v sfx=_$round -f "$top/bench/gen.sql"
		for t in events orders; do
			columns=
			[ $t = orders ] || columns="(ts, user_id, kind, url, payload)"
			sql CHECKPOINT
			before=$(wal_bytes)
			record "COPY $t: seconds" "$round" $a "$(time_sql "COPY ${t}_$round $columns FROM '$base/$t.txt'")"
			record "COPY $t: WAL bytes" "$round" $a $(($(wal_bytes) - before))
		done
	done
done
for a in heap lightning; do
	use $a
	for round in $(seq 2 "$ROUNDS"); do sql "DROP TABLE events_$round, orders_$round"; done
	sql "VACUUM ANALYZE"
	sql CHECKPOINT
	for t in events orders; do record "$t: table bytes" 1 $a "$(table_bytes ${t}_1)"; done
done

echo "reading, $((ROUNDS + 2)) rounds"
for round in $(seq $((ROUNDS + 2))); do
	for a in heap lightning; do
		use $a
		sql "SELECT count(*) FROM orders_1" >/dev/null
		record "count(*) of orders: seconds" "$round" $a "$(time_sql "SELECT count(*) FROM orders_1")"
		record "count(*) of events: seconds" "$round" $a "$(time_sql "SELECT count(*) FROM events_1")"
		record "sum(amount) of orders: seconds" "$round" $a "$(time_sql "SELECT sum(amount) FROM orders_1")"
		record "1% range by primary key: seconds" "$round" $a "$(time_sql "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT sum(qty) FROM orders_1 WHERE order_id BETWEEN $((ORDERS / 2)) AND $((ORDERS / 2 + ORDERS / 100))")"
	done
done

echo "pgbench at scale $SCALE"
for a in heap lightning; do
	use $a
	pgbench -i -s "$SCALE" -q >/dev/null 2>&1
	sql "VACUUM ANALYZE"
	record "pgbench_accounts: table bytes" 1 $a "$(table_bytes pgbench_accounts)"
done
tps()
{
	pgbench -n -M prepared "$@" 2>/dev/null | sed -n 's/^tps = \([0-9.]*\) .*/\1/p'
}
for round in $(seq "$ROUNDS"); do
	for clients in 1 8; do
		for a in heap lightning; do
			use $a
			record "select-only, $clients clients: tps" "$round" $a "$(tps -b select-only -c $clients -j 2 -T "$SECONDS_EACH")"
		done
	done
done
# WAL per transaction: right after a checkpoint, then steady
for a in heap lightning; do
	use $a
	sql CHECKPOINT
	before=$(wal_bytes)
	pgbench -n -M prepared -c 4 -j 2 -t 2500 >/dev/null 2>&1
	record "TPC-B: WAL bytes/transaction after a checkpoint" 1 $a $((($(wal_bytes) - before) / 10000))
	pgbench -n -M prepared -c 4 -j 2 -t 40000 >/dev/null 2>&1
	before=$(wal_bytes)
	pgbench -n -M prepared -c 4 -j 2 -t 10000 >/dev/null 2>&1
	record "TPC-B: WAL bytes/transaction steady" 1 $a $((($(wal_bytes) - before) / 40000))
done
for round in $(seq "$ROUNDS"); do
	for clients in 1 8; do
		for a in heap lightning; do
			use $a
			record "TPC-B, $clients clients: tps" "$round" $a "$(tps -c $clients -j 2 -T "$SECONDS_EACH")"
		done
	done
done

awk -F'\t' '
	{ v[$1, $2, $3] = $4; if (!($1 in seen)) { seen[$1] = 1; order[++n] = $1 } if ($2 > rounds[$1]) rounds[$1] = $2 }
	function median(a, k,   i, j, t) {
		for (i = 2; i <= k; i++) for (j = i; j > 1 && a[j] < a[j - 1]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
		return a[int((k + 1) / 2)]
	}
	END {
		printf "%-52s %15s %15s %8s\n", "", "heap", "lightning", "ratio"
		for (i = 1; i <= n; i++) {
			k = 0
			for (r = 1; r <= rounds[order[i]]; r++) {
				h = v[order[i], r, "heap"]; l = v[order[i], r, "lightning"]
				if (h > 0) { k++; hs[k] = h; ls[k] = l; q[k] = l / h }
			}
			printf "%-52s %15.3f %15.3f %7.2fx\n", order[i], median(hs, k), median(ls, k), median(q, k)
		}
	}' "$raw" | tee "$report"
