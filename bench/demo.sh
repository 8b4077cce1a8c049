#!/bin/bash
# "make demo": heap and lightning side by side on a private server, then SIGKILL
# in the middle of a write load, and the proof that nothing was lost.
#
#	EVENTS, ORDERS  rows (default 1,000,000 and 2,000,000)
#	KEEP=1          leave the server running and print how to reach it
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/bench/lib.sh"
export PASS_ENV="EVENTS=${EVENTS:-1000000} ORDERS=${ORDERS:-2000000}"
become_unprivileged bench/demo.sh "$@"

work=${WORK:-$(mktemp -d "${TMPDIR:-/tmp}/lightning-demo.XXXXXX")}
events=${EVENTS:-1000000}
orders=${ORDERS:-2000000}
mkdir -p "$work"

step()
{
	printf '%4ds  %s\n' "$SECONDS" "$*"
}

step "building the extension and a private copy of the server"
. "$top/t/install.sh"
private_install "$work/inst" >"$work/build.log" 2>&1 || {
	tail -30 "$work/build.log"
	exit 1
}

step "starting a private server with shared_preload_libraries = 'lightning'"
server_init <<CONF
shared_buffers = 256MB
max_wal_size = 4GB
lightning.cache_size = 256MB
autovacuum = off
CONF
server_start
sql "CREATE EXTENSION lightning"
psql -Xq -v am=heap -v sfx=_heap -f "$top/bench/gen.sql"
psql -Xq -v am=lightning -v sfx=_lightning -f "$top/bench/gen.sql"

step "generating $events events and $orders orders"
sql "COPY (SELECT * FROM gen_events(1, $events)) TO '$work/events.txt'" &
sql "COPY (SELECT * FROM gen_orders(1, $orders)) TO '$work/orders.txt'" &
wait

declare -A load wal size scan sum range agg storm storm_wal after
for am in heap lightning; do
	sql CHECKPOINT
	for t in events orders; do
		step "loading $t into $am"
		columns=
		[ $t = orders ] || columns="(ts, user_id, kind, url, payload)"
		before=$(wal_bytes)
		load[$am$t]=$(time_sql "COPY ${t}_$am $columns FROM '$work/$t.txt'")
		wal[$am$t]=$(($(wal_bytes) - before))
	done
done
step "vacuum and analyze"
sql "VACUUM ANALYZE" && sql CHECKPOINT
for am in heap lightning; do
	for t in events orders; do
		size[$am$t]=$(table_bytes "${t}_$am")
	done
done

step "queries on both"
for round in 1 2 3; do
	for am in heap lightning; do
		scan[$am]=$(time_sql "SELECT count(*) FROM orders_$am")
		sum[$am]=$(time_sql "SELECT sum(amount), sum(qty) FROM orders_$am")
		agg[$am]=$(time_sql "SELECT kind, count(*), avg((payload->>'price')::numeric) FROM events_$am GROUP BY kind")
		range[$am]=$(time_sql "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT sum(amount) FROM orders_$am WHERE order_id BETWEEN $((orders / 2)) AND $((orders / 2 + orders / 100))")
	done
done
same=$(sql "SELECT (SELECT md5(string_agg(o::text, ',' ORDER BY order_id)) FROM orders_heap o) = (SELECT md5(string_agg(o::text, ',' ORDER BY order_id)) FROM orders_lightning o)")
[ "$same" = t ] || {
	echo "the tables differ"
	exit 1
}

step "update storm: random single-row updates, 15 seconds each"
for am in heap lightning; do
	printf '\\set id random(1, %d)\nUPDATE orders_%s SET qty = qty + 1 WHERE order_id = :id;\n' "$orders" $am >"$work/storm.sql"
	sql CHECKPOINT
	before=$(wal_bytes)
	pgbench -n -f "$work/storm.sql" -c 4 -j 2 -T 15 -M prepared >"$work/storm.log" 2>&1
	storm[$am]=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$work/storm.log")
	storm_wal[$am]=$((($(wal_bytes) - before) / storm[$am]))
	sql CHECKPOINT
	after[$am]=$(table_bytes "orders_$am")
done

step "SIGKILL in the middle of a write load"
sql "CREATE TABLE acked (client int, n int, PRIMARY KEY (client, n)) USING lightning"
printf '\\set n :n + 1\nBEGIN;\nINSERT INTO acked VALUES (:client_id, :n);\nUPDATE orders_lightning SET qty = qty + 1 WHERE order_id = :n;\nCOMMIT;\n' >"$work/acked.sql"
(cd "$work" && pgbench -n -f acked.sql -c 8 -j 2 -T 30 -M prepared -D n=0 --log --log-prefix=acked_log >acked.out 2>&1) &
load_job=$!
sleep 5
server_kill
wait $load_job || true
acked=$(cat "$work"/acked_log.* | awk 'NF >= 6' | wc -l)
step "starting again"
server_start
found=$(sql "SELECT count(*) FROM acked")
holes=$(sql "SELECT count(*) FROM (SELECT client FROM acked GROUP BY client HAVING max(n) <> count(*)) x")
lost=$(for c in 0 1 2 3 4 5 6 7; do
	a=$(cat "$work"/acked_log.* | awk -v c=$c 'NF >= 6 && $1 == c' | wc -l)
	f=$(sql "SELECT count(*) FROM acked WHERE client = $c")
	[ "$f" -ge "$a" ] || echo lost
done | wc -l)
problems=$(sql "SELECT count(*) FROM lightning_check_all()")
step "$acked commits were acknowledged, $found are there, $holes clients with holes, $lost with losses, $problems problems found by check"

row() # label heap lightning format
{
	awk -v l="$1" -v h="$2" -v n="$3" -v f="$4" 'BEGIN {
		if (f == "MB") { a = sprintf("%.1f MB", h / 1e6); b = sprintf("%.1f MB", n / 1e6) }
		else if (f == "s") { a = sprintf("%.2f s", h); b = sprintf("%.2f s", n) }
		else { a = sprintf("%d %s", h, f); b = sprintf("%d %s", n, f) }
		printf "%-34s %14s %14s %9.2fx\n", l, a, b, n / h }'
}
echo
printf '%-34s %14s %14s %10s\n' "" heap lightning ratio
for t in events orders; do
	row "$t: table size" "${size[heap$t]}" "${size[lightning$t]}" MB
	row "$t: WAL of the load" "${wal[heap$t]}" "${wal[lightning$t]}" MB
	row "$t: load time" "${load[heap$t]}" "${load[lightning$t]}" s
done
row "orders: count(*)" "${scan[heap]}" "${scan[lightning]}" s
row "orders: sum of two columns" "${sum[heap]}" "${sum[lightning]}" s
row "orders: 1% by primary key" "${range[heap]}" "${range[lightning]}" s
row "events: group over JSON" "${agg[heap]}" "${agg[lightning]}" s
row "update storm: updates in 15 s" "${storm[heap]}" "${storm[lightning]}" ""
row "update storm: WAL per update" "${storm_wal[heap]}" "${storm_wal[lightning]}" bytes
row "orders after the storm" "${after[heap]}" "${after[lightning]}" MB
echo
if [ "$lost" = 0 ] && [ "$holes" = 0 ] && [ "$problems" = 0 ]; then
	echo "Every one of the $acked acknowledged commits survived SIGKILL."
else
	echo "SOMETHING WAS LOST"
	exit 1
fi

if [ -n "${KEEP:-}" ]; then
	trap - EXIT
	echo
	echo "The server keeps running. Connect with:"
	echo "    $bindir/psql -h $sockets -U postgres postgres"
	echo "Stop it with (as user $(id -un)):"
	echo "    $bindir/pg_ctl -D $work/data stop"
fi
