#!/bin/bash
# weak.sh
#	Work that log-structured tables are bad at by nature, on heap and lightning
#	in turns, on one server with the same settings.  One function per kind of
#	work; each reports lines of "what, heap, lightning, lightning / heap", medians
#	of the rounds.
#
#	bench/weak.sh [kind ...]	all of them
#	ROUNDS (3), SECONDS_EACH (20), COUNTER_UPDATES (20000) give sizes, CONF adds settings ("name=value;name=value",
#	without spaces).  Needs the extension installed for PG_CONFIG.  The report
#	goes to standard output and bench/results/weak.txt, raw numbers to weak.tsv.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/bench/lib.sh"
ROUNDS=${ROUNDS:-3}
SECONDS_EACH=${SECONDS_EACH:-20}
PASS_ENV="ROUNDS=$ROUNDS SECONDS_EACH=$SECONDS_EACH COUNTER_UPDATES=${COUNTER_UPDATES:-20000} CONF=${CONF:-}"
become_unprivileged bench/weak.sh "$@"

PATH=$(${PG_CONFIG:-pg_config} --bindir):$PATH
work=${WORK:-$(mktemp -d /tmp/lightning-weak.XXXXXX)}
results=$top/bench/results
raw=$results/weak.tsv
mkdir -p "$results" "$work"
: >"$raw"

record() # what round am value
{
	printf '%s\t%s\t%s\t%s\n' "$@" >>"$raw"
}

# CPU time of the server so far, its processes that have ended included, in
# hundredths of a second.
server_cpu()
{
	local p

	for p in "$server_pid" $(ps -o pid= --ppid "$server_pid"); do
		cat "/proc/$p/stat" 2>/dev/null
	done | sed 's/.*) //' | awk -v first=1 '{s += $12 + $13; if (first) s += $14 + $15; first = 0} END {print s}'
}

# Milliseconds of each run of a statement, in one session; its rows go nowhere.
times_of() # runs statement
{
	local i

	{
		echo '\timing on'
		for ((i = 0; i < $1; i++)); do echo "$2;"; done
	} | psql -XAtq -v ON_ERROR_STOP=1 | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
}

median()
{
	sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'
}

# ---- the kinds of work ----

# A queue that stays short: put one in, take any one that nobody else has.
# Everything by sequential scans; how the rate and the cost hold over a while.
queue() # round
{
	local am cpu log first last tx

	cat >"$work/queue.sql" <<-SQL
		INSERT INTO :queue (payload) VALUES ('something to do, some sixty bytes long, with what it takes');
		DELETE FROM :queue WHERE id = (SELECT id FROM :queue LIMIT 1 FOR UPDATE SKIP LOCKED);
	SQL
	for am in heap lightning; do
		sql "CREATE TABLE queue_$am (id bigserial, payload text) USING $am"
		sql "INSERT INTO queue_$am (payload) SELECT repeat('x', 60) FROM generate_series(1, 50)"
		cpu=$(server_cpu)
		log=$work/queue.$am
		pgbench -n -c 2 -j 1 -T $((SECONDS_EACH * 3)) -P 2 -D queue=queue_$am -f "$work/queue.sql" >"$log" 2>&1
		cpu=$(($(server_cpu) - cpu))
		read -r first last < <(awk '/^progress/ {r[++n] = $4} END {k = int(n / 10) + 1; for (i = 1; i <= k; i++) {a += r[i]; b += r[n - i]} print a / k, b / k}' "$log")
		tx=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$log")
		record "queue: tps at first" "$1" $am "$first"
		record "queue: tps at the end" "$1" $am "$last"
		record "queue: CPU us per transaction" "$1" $am "$(awk -v c="$cpu" -v n="$tx" 'BEGIN {print c * 10000 / n}')"
		sql "DROP TABLE queue_$am"
	done
}

# The first row of a table that was emptied and vacuumed, one row left or none.
emptied() # round
{
	local am index

	for index in "" " PRIMARY KEY"; do
		for am in heap lightning; do
			sql "CREATE TABLE emptied_$am (id int$index, payload text) USING $am"
			sql "INSERT INTO emptied_$am SELECT i, md5(i::text) FROM generate_series(1, 200000) i"
			sql "DELETE FROM emptied_$am"
			sql "VACUUM emptied_$am"
			record "emptied${index,,}: ms of LIMIT 1, first time" "$1" $am "$(times_of 1 "SELECT * FROM emptied_$am LIMIT 1")"
			record "emptied${index,,}: ms of LIMIT 1" "$1" $am "$(times_of 21 "SELECT * FROM emptied_$am LIMIT 1" | median)"
			sql "INSERT INTO emptied_$am VALUES (1, 'a row')"
			record "emptied${index,,}: ms of LIMIT 1, one row there" "$1" $am "$(times_of 21 "SELECT * FROM emptied_$am LIMIT 1" | median)"
			sql "DROP TABLE emptied_$am"
		done
	done
}

# One row that was updated very often while a cursor was open, then a checkpoint:
# the first update after that, in a session that has updated another row before.
counter() # round
{
	local am n=${COUNTER_UPDATES:-20000}

	for am in heap lightning; do
		sql "CREATE TABLE counter_$am (id int PRIMARY KEY, n int, payload text) USING $am"
		sql "INSERT INTO counter_$am SELECT i, 0, repeat('x', 80) FROM generate_series(1, 10) i"
		coproc HOLD { psql -XAtq 2>&1; }
		echo "BEGIN; DECLARE c CURSOR FOR SELECT n FROM counter_$am; FETCH 1 FROM c;" >&"${HOLD[1]}"
		read -r _ <&"${HOLD[0]}"
		echo "UPDATE counter_$am SET n = n + 1 WHERE id = 1;" >"$work/counter.sql"
		pgbench -n -M prepared -t "$n" -f "$work/counter.sql" >/dev/null 2>&1
		sql CHECKPOINT
		{
			echo '\timing on'
			echo "UPDATE counter_$am SET n = n + 1 WHERE id = 2;"
			for ((i = 0; i < 21; i++)); do echo "UPDATE counter_$am SET n = n + 1 WHERE id = 1;"; done
		} | psql -XAtq | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' >"$work/counter.times"
		record "counter: ms of the next update" "$1" $am "$(sed -n 2p "$work/counter.times")"
		record "counter: ms of later ones" "$1" $am "$(tail -n +3 "$work/counter.times" | median)"
		echo '\q' >&"${HOLD[1]}"
		wait "$HOLD_PID" 2>/dev/null
		sql "DROP TABLE counter_$am"
	done
}

kinds="queue emptied counter"

# ---- all of it ----

server_init <<CONF
shared_buffers = 256MB
max_wal_size = 8GB
checkpoint_timeout = 1h
synchronous_commit = off
autovacuum = off
$(tr ';' '\n' <<<"${CONF:-}")
CONF
server_start || exit 1
sql "CREATE EXTENSION lightning"
for round in $(seq "$ROUNDS"); do
	for kind in ${*:-$kinds}; do
		$kind "$round" || exit 1
	done
done

awk -F'\t' '
	{ v[$1, $2, $3] = $4; if (!($1 in seen)) { seen[$1] = 1; order[++n] = $1 } if ($2 > rounds[$1]) rounds[$1] = $2 }
	function median(a, k,   i, j, t) {
		for (i = 2; i <= k; i++) for (j = i; j > 1 && a[j] < a[j - 1]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
		return a[int((k + 1) / 2)]
	}
	END {
		printf "%-52s %12s %12s %8s\n", "", "heap", "lightning", "ratio"
		for (i = 1; i <= n; i++) {
			k = 0
			for (r = 1; r <= rounds[order[i]]; r++) {
				h = v[order[i], r, "heap"]; l = v[order[i], r, "lightning"]
				if (h > 0) { k++; hs[k] = h; ls[k] = l; q[k] = l / h }
			}
			if (k > 0)
				printf "%-52s %12.3f %12.3f %7.2fx\n", order[i], median(hs, k), median(ls, k), median(q, k)
		}
	}' "$raw" | tee "$results/weak.txt"
