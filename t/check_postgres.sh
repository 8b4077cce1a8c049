#!/bin/bash
# PostgreSQL's own suites on lightning tables: the work behind
# "make check-postgres".
#
#	t/check_postgres.sh [part ...]	parts: regress isolation standby cassert discard
#	t/check_postgres.sh both		regress and isolation at the same time
#
# regress, isolation: the suite with default_table_access_method = heap and again
# with lightning, on the same installation; t/pg_compare.pl compares the results.
# What may differ is listed, with reasons, in expected/postgres/.
# standby: the regress suite on lightning with a streaming standby attached; then
# the logical dumps of both servers are compared.
# cassert: both suites on a server built from the same source with assertions.
# discard: our own tests on such a server with debug_discard_caches = 1: each look at
# a catalog frees what the caches hold, and none may come where none is allowed.
#
# The source comes from Debian's source package.  LIGHTNING_PG_CACHE names a
# directory that keeps it, and the server with assertions, from run to run.
# LIGHTNING_CONF is a line for the servers' configuration.
# LIGHTNING_WRITE=1 lists what differs in expected/postgres/ instead of failing.
#
# The last line is "N passed, N failed"; the exit status is 0 if none failed.
set -u

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
PG_CONFIG=${PG_CONFIG:-pg_config}

if [ "$(id -u)" = 0 ]; then
	"$top/.ci/deps" bzip2 xz-utils ca-certificates libxml2-dev pkg-config || exit 1
	work=$(mktemp -d /tmp/lightning-pg.XXXXXX)
	trap 'rm -rf "$work"' EXIT
	mkdir "$work/tree"
	tar -C "$top" --exclude=.git --exclude=build --exclude=tmp_check --exclude='*.o' --exclude='*.so' -cf - . |
		tar -C "$work/tree" -xf -
	chown -R postgres "$work"
	chmod 755 "$work"
	if [ -n "${LIGHTNING_PG_CACHE:-}" ]; then
		mkdir -p "$LIGHTNING_PG_CACHE" && chown postgres "$LIGHTNING_PG_CACHE" || exit 1
	fi
	runuser -u postgres -- env HOME="$work" PG_CONFIG="$PG_CONFIG" \
		LIGHTNING_PG_CACHE="${LIGHTNING_PG_CACHE:-}" LIGHTNING_PG_SOURCE="${LIGHTNING_PG_SOURCE:-}" \
		LIGHTNING_WRITE="${LIGHTNING_WRITE:-}" LIGHTNING_CONF="${LIGHTNING_CONF:-}" \
		"$work/tree/t/check_postgres.sh" "$@"
	status=$?
	if [ -n "${LIGHTNING_WRITE:-}" ]; then
		rm -rf "$top/expected/postgres" && cp -r "$work/tree/expected/postgres" "$top/expected/postgres"
	fi
	if [ -n "${KEEP_LOGS:-}" ]; then
		rm -rf "$top/tmp_check/postgres" && mkdir -p "$top/tmp_check" &&
			cp -r "$work/tree/tmp_check/postgres" "$top/tmp_check/postgres"
	fi
	exit $status
fi

parts="$*"
[ -n "$parts" ] || parts="regress isolation standby cassert"
passed=0
failed=0
failures=""
started=$SECONDS

tmp=${LIGHTNING_PG_TMP:-$top/tmp_check/postgres}
rm -rf "$tmp"
mkdir -p "$tmp"
cache=${LIGHTNING_PG_CACHE:-$tmp/cache}
mkdir -p "$cache" || exit 1

note() # name passed failed
{
	passed=$((passed + $2))
	failed=$((failed + $3))
	[ "$3" = 0 ] || failures="$failures $1"
	printf -- '-- %s: %d passed, %d failed (%d s)\n' "$1" "$2" "$3" $((SECONDS - started))
	started=$SECONDS
}

finish()
{
	[ -z "$failures" ] || echo "failed:$failures"
	echo "$passed passed, $failed failed"
	[ $failed = 0 ]
	exit
}

# ---- servers ----
running=""
trap 'for d in $running; do pg_ctl -D "$d" -m immediate stop >/dev/null 2>&1; done' EXIT

start_server() # name [conf line ...]
{
	local d=$tmp/$1/data name=$1 line

	shift
	mkdir -p "$tmp/$name"
	if [ ! -d "$d" ]; then
		if [ ! -d "$tmp/template-$variant" ]; then
			initdb -N -A trust -U postgres --locale=C --encoding=UTF8 -D "$tmp/template-$variant" \
				>"$tmp/initdb.log" 2>&1 || return 1
		fi
		cp -r "$tmp/template-$variant" "$d" || return 1
		cat >>"$d/postgresql.conf" <<-CONF
			shared_preload_libraries = 'lightning'
			listen_addresses = ''
			unix_socket_directories = '$tmp/$name'
			fsync = off
			max_connections = 60
			max_prepared_transactions = 10
			max_worker_processes = 16
			log_line_prefix = '%m %b[%p] %q%a '
			log_autovacuum_min_duration = 0
			${LIGHTNING_CONF:-}
		CONF
	fi
	for line in "$@"; do
		echo "$line" >>"$d/postgresql.conf"
	done
	pg_ctl -D "$d" -l "$tmp/$name/log" -w -t 120 start >>"$tmp/$name/ctl.log" 2>&1 || return 1
	running="$running $d"
}

stop_server() # name
{
	pg_ctl -D "$tmp/$1/data" -m fast -w -t 300 stop >>"$tmp/$1/ctl.log" 2>&1
}

query() # name database sql
{
	psql -h "$tmp/$1" -U postgres -XAtq -v ON_ERROR_STOP=1 -d "$2" -c "$3"
}

# A test of our own for the regress suite, which its schedule runs when the tables
# that most tests read have been filled: background work would compress them
# further some time in the suite, and plans change with the pages they have.  For
# the same reason the test with CHECKPOINTs, stats, gets a group for itself.
at_rest() # directory of results
{
	mkdir -p "$1/sql" "$1/expected"
	cat >"$1/sql/at_rest.sql" <<-'SQL'
		SELECT lightning_flush() IS NOT NULL AS flushed;
		SELECT count(lightning_compact(c.oid, rewrite => true)) >= 0 AS compacted
		  FROM pg_class c JOIN pg_am a ON a.oid = c.relam
		  WHERE a.amname = 'lightning' AND c.relkind = 'r';
	SQL
	cp "$1/sql/at_rest.sql" "$1/expected/at_rest.out"
	sed 's/^test: tablespace$/&\ntest: at_rest/; s/^\(test: .*\) stats$/\1\ntest: stats/' \
		"$pgsrc/src/test/regress/parallel_schedule" >"$1/schedule"
	[ "$(grep -c -e '^test: at_rest$' -e '^test: stats$' "$1/schedule")" = 2 ]
}

# One pass of a suite on a running server: results in $tmp/<server>/<suite>.
suite() # server regress|isolation [pg_regress argument ...]
{
	local server=$1 suite=$2 prog=pg_regress schedule=$pgsrc/src/test/$2/$2_schedule

	shift 2
	mkdir -p "$tmp/$server/$suite"
	if [ "$suite" = regress ]; then
		schedule=$tmp/$server/regress/schedule
		at_rest "$tmp/$server/regress" || { echo "no place for at_rest or stats in the schedule"; return 1; }
	else
		prog=pg_isolation_regress
		set -- prepared-transactions prepared-transactions-cic "$@"
	fi
	"$pgxs/test/$suite/$prog" --inputdir="$pgsrc/src/test/$suite" --outputdir="$tmp/$server/$suite" \
		--bindir="${psqldir:-$bindir}" --dlpath="$lib" --host="$tmp/$server" --user=postgres \
		--dbname="pg_$suite" --load-extension=lightning --max-concurrent-tests=20 --schedule="$schedule" "$@" \
		>"$tmp/$server/$suite.log" 2>&1
	grep -E '^( [0-9]+ of [0-9]+| All [0-9]+) tests ' "$tmp/$server/$suite.log" >/dev/null && return 0
	tail -20 "$tmp/$server/$suite.log"
	return 1
}

# Nothing broken by a pass: crashes, failed assertions, leaks, damage.
sound() # name server database
{
	local bad=0

	if grep -E 'PANIC|TRAP:|terminated by signal|crash of another|leak:|leaked|was not closed|data corrupted' "$tmp/$2/log" | head -20 | grep .; then
		bad=1
	fi
	query "$2" "$3" 'SELECT * FROM lightning_check_all(index => true)' >"$tmp/$2/check.out" 2>&1 || bad=1
	if [ -s "$tmp/$2/check.out" ]; then
		head -20 "$tmp/$2/check.out"
		bad=1
	fi
	note "$1" $((1 - bad)) $bad
}

compare() # name suite heap-server lightning-server
{
	local out=$tmp/compare-$1.log p f

	perl "$top/t/pg_compare.pl" ${LIGHTNING_WRITE:+--write} "$top/expected/postgres/$2" \
		"$tmp/$3/$2/results" "$tmp/$4/$2/results" >"$out" 2>&1
	read -r p f < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$out" | tail -1)
	if [ -z "${p:-}" ]; then
		cat "$out"
		[ -n "${LIGHTNING_WRITE:-}" ] && note "$1" 1 0 || note "$1" 0 1
		return
	fi
	[ "$f" = 0 ] || head -400 "$out"
	note "$1" "$p" "$f"
}

# A suite on heap and on lightning, each on a server of its own.
both() # name suite [pg_regress argument ...]
{
	local name=$1 suite=$2 am bad=0

	shift 2
	for am in heap lightning; do
		if ! start_server "$name-$am" "default_table_access_method = $am"; then
			cat "$tmp/$name-$am/ctl.log" "$tmp/$name-$am/log" 2>/dev/null | tail -20
			bad=1
			break
		fi
		query "$name-$am" postgres "CREATE EXTENSION lightning" || bad=1
		query "$name-$am" template1 "CREATE EXTENSION lightning" || bad=1
		suite "$name-$am" "$suite" "$@" || bad=1
	done
	if [ $bad != 0 ]; then
		note "$name" 0 1
		return
	fi
	compare "$name" "$suite" "$name-heap" "$name-lightning"
	sound "$name: soundness" "$name-lightning" "pg_$suite"
	for am in heap lightning; do
		stop_server "$name-$am" || note "$name: stop" 0 1
	done
}

# ---- preparation ----
export PGDATABASE=postgres
unset PGHOST PGPORT PGUSER PGOPTIONS
variant=packaged
. "$top/t/install.sh"
. "$top/t/pgsource.sh"
if [ -n "${LIGHTNING_INSTALLED:-}" ]; then
	bindir=$("$PG_CONFIG" --bindir)
	pgxs=$(dirname "$("$PG_CONFIG" --pgxs)")/..
	PATH=$bindir:$PATH
elif ! private_install "$tmp/inst" >"$tmp/build.log" 2>&1; then
	grep -E 'error|Error|warning' "$tmp/build.log" | head -40
	note build 0 1
	finish
fi
if ! postgres_source "$cache" >"$tmp/source.log" 2>&1; then
	tail -40 "$tmp/source.log"
	note "PostgreSQL's source" 0 1
	finish
fi

# The suites' C functions, and the two modules of contrib/spi they use.
build_testlib() # directory
{
	lib=$1
	mkdir -p "$lib"
	gcc -O1 -g -fPIC -shared -w -I"$("$PG_CONFIG" --includedir-server)" $("$PG_CONFIG" --cppflags) \
		-o "$lib/regress.so" "$pgsrc/src/test/regress/regress.c" &&
		cp "$("$PG_CONFIG" --pkglibdir)"/{refint,autoinc}.so "$lib/"
}
if ! build_testlib "$tmp/lib" >"$tmp/testlib.log" 2>&1; then
	tail -20 "$tmp/testlib.log"
	note "regress.so" 0 1
	finish
fi

# The suites' scripts rely on the psql of their own version: how much of a script
# psql skips after a failed COPY FROM STDIN has changed between minor releases.
build_psql() # directory
{
	local build=$tmp/build-psql

	[ ! -x "$1/psql" ] || return 0
	rm -rf "$build"
	mkdir -p "$build" "$1" || return 1
	(cd "$build" && "$pgsrc/configure" --without-readline --without-zlib --without-icu CFLAGS=-O0 &&
		make -s -j2 -C src/backend generated-headers && make -s -j2 -C src/bin/psql) || return 1
	cp "$build/src/bin/psql/psql" "$1/psql" && rm -rf "$build"
}
psqldir=""
source_version=$(sed -n "s/^PACKAGE_VERSION='\(.*\)'/\1/p" "$pgsrc/configure")
if [ "$parts" != discard ] &&
	[ "$("$PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9.]+).*/\1/')" != "$source_version" ]; then
	psqldir=${LIGHTNING_PSQL:-$cache/$(basename "$pgsrc")-psql}
	if ! build_psql "$psqldir" >"$tmp/psql.log" 2>&1; then
		tail -20 "$tmp/psql.log"
		note "psql $source_version" 0 1
		finish
	fi
fi
note "preparation" 1 0

# The suites on a primary with a streaming standby attached; in the end both must
# have the same logical content.  (Sequences are set first: what nextval has
# logged runs ahead of what it has given out.)
standby_part()
{
	local d=$tmp/replica/data lsn db bad=0 i

	if ! start_server primary "default_table_access_method = lightning" "wal_level = replica" \
		"max_wal_senders = 5" "wal_keep_size = 8GB"; then
		tail -20 "$tmp/primary/log"
		note standby 0 1
		return
	fi
	query primary template1 "CREATE EXTENSION lightning"
	mkdir -p "$tmp/replica"
	if ! pg_basebackup -h "$tmp/primary" -U postgres -D "$d" -X stream -c fast >"$tmp/replica/ctl.log" 2>&1; then
		cat "$tmp/replica/ctl.log"
		note standby 0 1
		return
	fi
	touch "$d/standby.signal"
	start_server replica "unix_socket_directories = '$tmp/replica'" \
		"primary_conninfo = 'host=$tmp/primary user=postgres'" "max_standby_streaming_delay = 600s" || bad=1
	suite primary regress || bad=1
	suite primary isolation || bad=1
	if [ $bad != 0 ]; then
		tail -20 "$tmp/replica/log"
		note standby 0 1
		return
	fi
	for db in $(query primary postgres "SELECT datname FROM pg_database WHERE datallowconn"); do
		query primary "$db" "SELECT setval(seqrelid, nextval(seqrelid)) FROM pg_sequence" >/dev/null
	done
	lsn=$(query primary postgres "SELECT pg_current_wal_insert_lsn()")
	for ((i = 0; i < 600; i++)); do
		[ "$(query replica postgres "SELECT pg_last_wal_replay_lsn() >= '$lsn'")" = t ] && break
		sleep 0.5
	done
	for i in primary replica; do
		# (newer versions write random keys)
		pg_dumpall -h "$tmp/$i" -U postgres --no-unlogged-table-data --no-sync 2>"$tmp/$i/dump.err" |
			sed -E '/^\\(un)?restrict /d' >"$tmp/$i/dump.sql"
		head -5 "$tmp/$i/dump.err"
		[ "$(tail -3 "$tmp/$i/dump.sql" | grep -c 'dump complete')" = 1 ] || bad=1
	done
	if ! cmp "$tmp/primary/dump.sql" "$tmp/replica/dump.sql"; then
		diff "$tmp/primary/dump.sql" "$tmp/replica/dump.sql" | head -60
		bad=1
	fi
	note "standby: dumps of $(wc -l <"$tmp/primary/dump.sql") lines" $((1 - bad)) $bad
	sound "standby: soundness of the primary" primary pg_regress
	sound "standby: soundness of the standby" replica pg_regress
	stop_server replica && stop_server primary || note "standby: stop" 0 1
}

# A server with assertions, from the same source, in the cache.  As a "core" it lacks
# what our own tests don't need.
build_server() # prefix whole|core
{
	local build=$tmp/build-cassert dir
	local options="--enable-cassert --enable-debug --without-readline --without-zlib --with-lz4"
	local whole="$options --with-libxml" have

	have=$(cat "$1/complete" 2>/dev/null)
	[ "$have" != "$whole" ] || return 0
	[ "$2" = core ] || options=$whole
	[ "$have" != "$options" ] || return 0
	rm -rf "$1" "$build"
	mkdir -p "$build" || return 1
	(
		cd "$build" && "$pgsrc/configure" --prefix="$1" $options CFLAGS="-O1 -g" || exit 1
		if [ "$2" = whole ]; then
			make -s -j2 && make -s install && make -s -j2 -C contrib && make -s -C contrib install
			exit
		fi
		make -s -j2 -C src/backend generated-headers && make -s -j2 -C src/backend && make -s -C src install-local || exit 1
		for dir in config src/include src/backend src/port src/common src/timezone src/interfaces/libpq src/fe_utils \
			src/backend/snowball src/backend/utils/mb/conversion_procs src/pl/plpgsql/src src/makefiles src/test/regress \
			src/test/isolation src/bin/initdb src/bin/pg_ctl src/bin/psql src/bin/pg_config contrib; do
			make -s -j2 -C $dir all && make -s -C $dir install || exit 1
		done
	) || return 1
	rm -rf "$build"
	echo "$options" >"$1/complete"
}

# From here on, all is done with such a server, and the extension built for it.
cassert_server() # whole|core
{
	local prefix log=$tmp/cassert.log

	prefix=$cache/$(basename "$pgsrc")-cassert
	# (a whole one will do for both)
	[ "$1" = whole ] || [ -f "$prefix/complete" ] || prefix=$prefix-core
	if ! build_server "$prefix" "$1" >"$log" 2>&1 || ! cp -r "$prefix" "$tmp/inst-cassert" || ! mkdir "$tmp/tree-cassert"; then
		tail -30 "$log"
		return 1
	fi
	variant=cassert
	tar -C "$top" --exclude=tmp_check --exclude=build --exclude='*.o' --exclude='*.so' --exclude='*.d' -cf - . |
		tar -C "$tmp/tree-cassert" -xf -
	PG_CONFIG=$tmp/inst-cassert/bin/pg_config
	bindir=$("$PG_CONFIG" --bindir)
	pgxs=$(dirname "$("$PG_CONFIG" --pgxs)")/..
	PATH=$bindir:$PATH
	psqldir=""
	if ! make -j2 -C "$tmp/tree-cassert" PG_CONFIG="$PG_CONFIG" all install >>"$log" 2>&1; then
		tail -30 "$log"
		return 1
	fi
}

cassert_part()
{
	if ! cassert_server whole || ! build_testlib "$tmp/lib-cassert"; then
		note cassert 0 1
		return
	fi
	note "cassert: build" 1 0
	suites cassert-
	own_suites cassert-own
}

# index_types, modify, read_ahead, references, sampling and shapes take longer than two minutes each.  (Sessions are told, not
# the server: its background processes would be slow, too.)
discard_part()
{
	if ! cassert_server core; then
		note discard 0 1
		return
	fi
	note "discard: build" 1 0
	left_out='index_types|modify|read_ahead|references|sampling|shapes'
	export PGOPTIONS="-c debug_discard_caches=1"
	# (a slow one would hold snapshots that some results show)
	own_suites discard "autovacuum = off"
}

# Our own regression and isolation tests, on a server of the variant in use.
left_out=""
own_suites() # name [conf line ...]
{
	local name=$1 suite prog bad tests

	shift
	if ! start_server "$name" "$@"; then
		tail -20 "$tmp/$name/log"
		note "$name" 0 1
		return
	fi
	for suite in regress isolation; do
		bad=0
		prog=$([ $suite = regress ] && echo pg_regress || echo pg_isolation_regress)
		tests=$(make -s PG_CONFIG="$PG_CONFIG" print-"$([ $suite = regress ] && echo REGRESS || echo ISOLATION)" |
			tr ' ' '\n' | grep -vxE "$left_out")
		mkdir -p "$tmp/$name/$suite"
		"$pgxs/test/$suite/$prog" --inputdir="$top" --outputdir="$tmp/$name/$suite" --bindir="$bindir" \
			--host="$tmp/$name" --user=postgres --dbname="own_$suite" --load-extension=lightning $tests \
			>"$tmp/$name/$suite.log" 2>&1 || bad=1
		if [ $bad != 0 ]; then
			tail -20 "$tmp/$name/$suite.log"
			[ -f "$tmp/$name/$suite/regression.diffs" ] && head -100 "$tmp/$name/$suite/regression.diffs"
		fi
		note "$name: $suite" "$(grep -Ec '^(test|     ) .*\.\.\. ok ' "$tmp/$name/$suite.log")" $bad
	done
	sound "$name: soundness" "$name" own_regress
	stop_server "$name" || note "$name: stop" 0 1
}

suites() # prefix of names
{
	both "$1regress" regress
	both "$1isolation" isolation
}

# Parts in processes of their own at the same time: isolation tests mostly wait.
at_once() # part ...
{
	local part p f

	for part in "$@"; do
		LIGHTNING_PG_TMP=$tmp/$part LIGHTNING_PG_SOURCE=$pgsrc LIGHTNING_INSTALLED=1 \
			LIGHTNING_PSQL=$psqldir "$top/t/check_postgres.sh" "$part" >"$tmp/$part.log" 2>&1 &
	done
	wait
	for part in "$@"; do
		grep -vE '^[0-9]+ passed, [0-9]+ failed$|^failed:|^-- prep' "$tmp/$part.log"
		p=0
		f=1
		read -r p f < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$tmp/$part.log" | tail -1)
		passed=$((passed + p))
		failed=$((failed + f))
		[ "$f" = 0 ] || failures="$failures $part"
	done
}

for part in $parts; do
	case $part in
		both)
			at_once regress isolation
			;;
		regress)
			both regress regress
			;;
		isolation)
			both isolation isolation
			;;
		standby) standby_part ;;
		cassert) cassert_part ;;
		discard) discard_part ;;
		*)
			echo "unknown part: $part" >&2
			note "$part" 0 1
			;;
	esac
done
finish
