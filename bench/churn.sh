#!/bin/bash
# churn.sh
#	Random single-row updates of one table while an old REPEATABLE READ snapshot
#	is open and another one opens and closes every second: how the files grow,
#	whether the rate holds, what a scan by the old snapshot costs.  The same on
#	heap, and both once more without snapshots.
#
#	bench/churn.sh [rows [updates [clients]]]	1000000 2000000 2
#	AMS=lightning,heap and CHURN_RUNS=old,none choose the runs, CONF adds settings
#	("name=value;name=value", without spaces).  Needs the extension installed for
#	PG_CONFIG.  Raw output: bench/results/churn.tsv (a line per second), churn.txt.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/bench/lib.sh"
AMS=${AMS:-lightning,heap}
CHURN_RUNS=${CHURN_RUNS:-old,none}
PASS_ENV="AMS=$AMS CHURN_RUNS=$CHURN_RUNS CONF=${CONF:-}"
become_unprivileged bench/churn.sh "$@"

rows=${1:-1000000}
updates=${2:-2000000}
clients=${3:-2}
PATH=$(${PG_CONFIG:-pg_config} --bindir):$PATH
work=${WORK:-$(mktemp -d /tmp/lightning-churn.XXXXXX)}
results=$top/bench/results
mkdir -p "$results" "$work"

server_init <<CONF
shared_buffers = 256MB
max_wal_size = 4GB
checkpoint_timeout = 60s
synchronous_commit = off
autovacuum_naptime = 10s
lightning.cache_size = 256MB
$(tr ';' '\n' <<<"${CONF:-}")
CONF
server_start || exit 1
sql "CREATE EXTENSION lightning"

# Bytes of everything the table's access method keeps, in files there are now.
file_bytes() # am
{
	if [ "$1" = lightning ]; then
		du -sb "$work/data/lightning" | cut -f1
	else
		sql "SELECT pg_table_size('churn')"
	fi
}

live_bytes() # am: what the current state refers to
{
	table_bytes churn
}

# Holds one snapshot; scans with it when told to.
hold_snapshot()
{
	coproc HOLD { psql -XAtq 2>&1; }
	echo "BEGIN ISOLATION LEVEL REPEATABLE READ; $digest" >&"${HOLD[1]}"
	read -r held <&"${HOLD[0]}"
}

scan_held() # times -> seconds of the fastest; sets seen
{
	local i s best=

	for ((i = 0; i < $1; i++)); do
		s=$(date +%s%N)
		echo "$digest" >&"${HOLD[1]}"
		read -r seen <&"${HOLD[0]}"
		s=$(($(date +%s%N) - s))
		if [ -z "$best" ] || [ "$s" -lt "$best" ]; then best=$s; fi
	done
	best_ns=$best
}

digest="SELECT count(*), sum(n), sum(hashtext(pad)::bigint) FROM churn;"
script=$work/update.sql
cat >"$script" <<SQL
\\set id random(1, $rows)
UPDATE churn SET n = n + 1, at = :id WHERE id = :id;
SQL

run() # am old|none
{
	local am=$1 mode=$2 before peak peak_live bytes live t0 pg snap first last now start_ns end_ns ratio

	sql "DROP TABLE IF EXISTS churn" >/dev/null
	sql "CREATE TABLE churn (id int, sec int, n int, at int, pad text) USING $am"
	sql "INSERT INTO churn SELECT i, hashint4(i), abs(hashint4(i)) % 5, i, substr(md5(i::text) || md5((i + 7)::text) || md5((i * 3)::text), 1, 80) FROM generate_series(1, $rows) i"
	sql "ALTER TABLE churn ADD PRIMARY KEY (id)"
	sql "CREATE INDEX ON churn (sec)"
	sql "VACUUM ANALYZE churn"
	[ "$am" = heap ] || sql "SELECT lightning_flush(); SELECT lightning_compact('churn')" >/dev/null
	sql CHECKPOINT
	sleep 2
	sql CHECKPOINT
	sleep 2
	before=$(file_bytes "$am")
	live=$(live_bytes "$am")
	peak=$before
	peak_live=$live
	local before_live=$live
	if [ "$mode" = old ]; then
		hold_snapshot
		scan_held 3
		start_ns=$best_ns
		# another snapshot, every second
		while :; do
			psql -XAtq -c "BEGIN ISOLATION LEVEL REPEATABLE READ" -c "SELECT count(*) FROM churn WHERE id < 100" \
				-c "SELECT pg_sleep(0.9)" -c COMMIT >/dev/null 2>&1
		done &
		snap=$!
	fi
	pgbench -n -M prepared -c "$clients" -j "$clients" -t $((updates / clients)) -P 1 -f "$script" >"$work/pgbench.$am.$mode" 2>&1 &
	pg=$!
	t0=$(date +%s)
	while kill -0 $pg 2>/dev/null; do
		bytes=$(file_bytes "$am")
		live=$(live_bytes "$am")
		[ "$bytes" -le "$peak" ] || peak=$bytes
		[ "$live" -le "$peak_live" ] || peak_live=$live
		printf '%s\t%s\t%s\t%s\t%s\n' "$am" "$mode" $(($(date +%s) - t0)) "$bytes" "$live" >>"$results/churn.tsv"
		sleep 0.5
	done
	wait $pg
	# rate of the first and of the last tenth
	read -r first last < <(awk '/^progress/ {r[++n] = $4} END {k = int(n / 10); if (k < 1) k = 1; for (i = 1; i <= k; i++) {a += r[i]; b += r[n - i + 1 - (n > 2)]} printf "%d %d\n", a / k, b / k}' "$work/pgbench.$am.$mode")
	now=$(file_bytes "$am")
	if [ "$mode" = old ]; then
		scan_held 3
		end_ns=$best_ns
	fi
	{
		printf '%-10s %-4s  table %6.1f MB, files %6.1f MB at first; at most %6.1f MB in files (%.2fx), %6.1f MB in use (%.2fx); at the end %6.1f MB\n' \
			"$am" "$mode" $(awk -v a="$before_live" -v b="$before" -v c="$peak" -v d="$peak_live" -v e="$now" \
				'BEGIN {m = 1000000; print a / m, b / m, c / m, c / b, d / m, d / a, e / m}')
		printf '%-10s %-4s  updates a second: %d in the first tenth, %d in the last (%.2fx); %s\n' "$am" "$mode" \
			"$first" "$last" "$(awk -v a="$first" -v b="$last" 'BEGIN {print a ? b / a : 0}')" \
			"$(grep -E '^tps' "$work/pgbench.$am.$mode" | head -1)"
		if [ "$mode" = old ]; then
			printf '%-10s %-4s  scan by the old snapshot: %d ms at first, %d ms at the end (%.2fx), it sees %s\n' "$am" "$mode" \
				$((start_ns / 1000000)) $((end_ns / 1000000)) "$(awk -v a="$start_ns" -v b="$end_ns" 'BEGIN {print b / a}')" \
				"$([ "$seen" = "$held" ] && echo 'what it saw' || echo "SOMETHING ELSE: $seen, not $held")"
		fi
		if [ "$am" = lightning ]; then
			sql "SELECT format('%s %s  runs %s, level 0 %s, entries %s, keys %s, compactions %s, written %s MB, manifests %s kB', '$am      ', '$mode', runs, level0_runs, entries, keys, b.compactions, (b.compact_bytes_written + b.flush_bytes + f.manifest_bytes_written) / 1000000, f.manifest_bytes_written / 1000)
				FROM pg_stat_lightning_runs r, pg_stat_lightning_background b, pg_stat_lightning_files f WHERE relname = 'churn'"
		fi
	} | tee -a "$results/churn.txt"
	if [ "$mode" = old ]; then
		echo '\q' >&"${HOLD[1]}"
		kill $snap 2>/dev/null
		wait $snap 2>/dev/null
	fi
}

: >"$results/churn.tsv"
{
	echo "churn: $updates updates of $rows rows by $clients clients, $(date -u +%F)"
} >"$results/churn.txt"
for am in ${AMS//,/ }; do
	for mode in ${CHURN_RUNS//,/ }; do
		run "$am" "$mode"
	done
done
