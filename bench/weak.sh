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

# CPU microseconds of one statement, run over and over by one session; :i is the
# number of the run.
cpu_of() # times statement
{
	{
		echo "SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1);"
		echo "DO \$\$ BEGIN FOR i IN 1 .. $1 LOOP EXECUTE replace('$2', ':i', i::text); END LOOP; END \$\$;"
		echo "SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1);"
	} | PGOPTIONS="-c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c enable_memoize=off -c enable_material=off -c enable_sort=off -c max_parallel_workers_per_gather=0 -c jit=off" \
		psql -XAtq -v ON_ERROR_STOP=1 | awk -v n="$1" '{v[NR] = $1} END {printf "%.3f", (v[2] - v[1]) / n / 1000}'
}

# A nested loop that looks rows up by an index in the table's order, and the
# newest rows: 100,000 rows in the memtable, in files, after an update of all.
joins() # round
{
	local am state

	for am in heap lightning; do
		sql "CREATE TABLE joins_$am (id int PRIMARY KEY, n int, payload text) USING $am"
		sql "INSERT INTO joins_$am SELECT i, i % 10, md5(i::text) FROM generate_series(1, 100000) i"
		sql "VACUUM ANALYZE joins_$am"
	done
	for state in "in memory" "in files" "all updated"; do
		for am in heap lightning; do
			case "$am $state" in
				"lightning in files") sql "SELECT lightning_flush()" >/dev/null; sql "SELECT lightning_compact('joins_lightning')" >/dev/null ;;
				*" all updated") sql "UPDATE joins_$am SET n = n + 1" ;;
			esac
			record "joins, $state: CPU us of 1,000 look-ups" "$1" $am "$(cpu_of 5 "SELECT sum(t.n) FROM generate_series(1, 100000) g(i) JOIN joins_$am t ON t.id = g.i" | awk '{print $1 / 100}')"
			record "joins, $state: CPU us of the newest 100" "$1" $am "$(cpu_of 2000 "SELECT sum(n) FROM (SELECT n FROM joins_$am ORDER BY id DESC LIMIT 100) q")"
		done
	done
	sql "DROP TABLE joins_heap, joins_lightning"
}

# Ranges of 1,000 rows of a table that fits into shared_buffers, as heap's.
ranges() # round
{
	local am

	for am in heap lightning; do
		sql "CREATE TABLE ranges_$am (id int PRIMARY KEY, n int, payload text) USING $am"
		sql "INSERT INTO ranges_$am SELECT i, i % 10, md5(i::text) || md5((-i)::text) FROM generate_series(1, 1500000) i"
		sql "VACUUM ANALYZE ranges_$am"
		[ $am = heap ] || sql "SELECT lightning_flush(); SELECT lightning_compact('ranges_lightning')" >/dev/null
		cpu_of 1 "SELECT sum(n) FROM ranges_$am WHERE id > 0" >/dev/null
	done
	for am in heap lightning; do
		record "ranges: CPU us of 1,000 rows by primary key" "$1" $am "$(cpu_of 1000 "SELECT sum(n) FROM ranges_$am WHERE id > :i * 7919 % 1499000 AND id <= :i * 7919 % 1499000 + 1000")"
	done
	sql "DROP TABLE ranges_heap, ranges_lightning"
}

# CPU time of all processes of the server per transaction of pgbench.
cpu_per_transaction() # options of pgbench
{
	local cpu=$(server_cpu)

	pgbench -n -M prepared -j 1 "$@" >"$work/pgbench.log" 2>&1
	sleep 1
	awk -v c=$(($(server_cpu) - cpu)) -v n="$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$work/pgbench.log")" \
		'BEGIN {print c * 10000 / n}'
}

# pgbench: its load, its VACUUM, single rows by key, TPC-B.
bank() # round
{
	local am cpu clients

	for am in heap lightning; do
		[ -n "$(sql "SELECT 1 FROM pg_database WHERE datname = 'bank_$am'")" ] || sql "CREATE DATABASE bank_$am"
		sql "ALTER DATABASE bank_$am SET default_table_access_method = $am"
		[ $am = heap ] || psql -XAtq -d bank_lightning -c "CREATE EXTENSION IF NOT EXISTS lightning"
		psql -XAtq -d bank_$am -c "CREATE TABLE load (aid int NOT NULL, bid int, abalance int, filler char(84)) USING $am"
		psql -XAtq -d bank_$am -c "COPY (SELECT i, 1 + i / 100000, 0, '' FROM generate_series(1, 2000000) i) TO '$work/load.txt'"
		cpu=$(server_cpu)
		psql -XAtq -d bank_$am -c "COPY load FROM '$work/load.txt'"
		record "bank: CPU s of COPY" "$1" $am "$(awk -v c=$(($(server_cpu) - cpu)) 'BEGIN {print c / 100}')"
		cpu=$(server_cpu)
		psql -XAtq -d bank_$am -c "VACUUM load"
		record "bank: CPU s of VACUUM" "$1" $am "$(awk -v c=$(($(server_cpu) - cpu)) 'BEGIN {print c / 100}')"
		psql -XAtq -d bank_$am -c "DROP TABLE load"
		# pgbench loads by COPY with FREEZE into a table that it has just emptied
		PGDATABASE=bank_$am pgbench -i -I dt -s 20 -q >/dev/null 2>&1
		cpu=$(server_cpu)
		PGDATABASE=bank_$am pgbench -i -I g -s 20 -q >/dev/null 2>&1
		record "bank: CPU s of pgbench -i, COPY" "$1" $am "$(awk -v c=$(($(server_cpu) - cpu)) 'BEGIN {print c / 100}')"
		cpu=$(server_cpu)
		PGDATABASE=bank_$am pgbench -i -I v -s 20 -q >/dev/null 2>&1
		record "bank: CPU s of pgbench -i, VACUUM" "$1" $am "$(awk -v c=$(($(server_cpu) - cpu)) 'BEGIN {print c / 100}')"
		PGDATABASE=bank_$am pgbench -i -I p -s 20 -q >/dev/null 2>&1
		[ $am = heap ] || psql -XAtq -d bank_lightning -c "SELECT lightning_flush()" -c "SELECT lightning_compact('pgbench_accounts')" >/dev/null
	done
	for clients in 2 50; do
		for am in heap lightning; do
			PGDATABASE=bank_$am pgbench -n -S -c 2 -t 20000 >/dev/null 2>&1
			record "bank: CPU us of a select, $clients clients" "$1" $am "$(PGDATABASE=bank_$am cpu_per_transaction -S -c $clients -T "$SECONDS_EACH")"
		done
	done
	for am in heap lightning; do
		record "bank: CPU us of TPC-B, 2 clients" "$1" $am "$(PGDATABASE=bank_$am cpu_per_transaction -c 2 -T "$SECONDS_EACH")"
	done
}

kinds="queue emptied counter joins ranges bank"

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
