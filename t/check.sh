#!/bin/bash
# All tests, against private servers: the work behind "make check".
#
#	t/check.sh [part ...]	parts: engine asan tsan sim regress isolation sanitizer tap
#						discard postgres, programs valgrind (not in make check)
#
# Started as root it copies the tree to a directory of the user "postgres" and
# goes on as that user, since servers refuse to run as root.  PostgreSQL's
# installation is copied too (it is relocatable), so that installing the
# extension for the tests touches nothing of the system's.
#
# The last line is "N passed, N failed"; the exit status is 0 if none failed.
set -u

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
PG_CONFIG=${PG_CONFIG:-pg_config}

if [ "$(id -u)" = 0 ]; then
	"$top/.ci/deps" bzip2 xz-utils ca-certificates pkg-config || exit 1
	case " ${*:-tap} " in
		*" tap "*) "$top/.ci/deps" postgresql-15-cron postgresql-15-pglogical postgresql-15-partman || exit 1 ;;
	esac
	case " $* " in
		*" valgrind "*) "$top/.ci/deps" valgrind || exit 1 ;;
		*" programs "*) "$top/.ci/deps" sysbench postgresql-15-pgtap python3-alembic python3-psycopg2 postgresql-15-postgis-3 || exit 1 ;;
	esac
	work=$(mktemp -d /tmp/lightning-check.XXXXXX)
	small=""
	trap '[ -z "$small" ] || umount "$small"; rm -rf "$work"' EXIT
	mkdir "$work/tree"
	tar -C "$top" --exclude=.git --exclude=build --exclude=tmp_check --exclude='*.o' --exclude='*.so' -cf - . | tar -C "$work/tree" -xf -
	chown -R postgres "$work"
	chmod 755 "$work"
	# for t/SmallFS.pm, where it can't help itself
	if ! runuser -u postgres -- unshare --user --mount --map-current-user true 2>/dev/null; then
		mkdir -p "$work/small/lightning"
		chown postgres "$work/small"
		mount -t tmpfs -o size=192m,mode=0777 lightning "$work/small/lightning" 2>/dev/null &&
			small=$work/small/lightning
	fi
	runuser -u postgres -- env HOME="$work" CI="${CI:-}" PG_CONFIG="$PG_CONFIG" \
		LIGHTNING_CYCLES="${LIGHTNING_CYCLES:-}" LIGHTNING_SEED="${LIGHTNING_SEED:-}" \
		LIGHTNING_SIM_SEEDS="${LIGHTNING_SIM_SEEDS:-}" TESTS="${TESTS:-}" \
		LIGHTNING_VALGRIND_LIMIT="${LIGHTNING_VALGRIND_LIMIT:-}" \
		LIGHTNING_SMALL_FS="$small" \
		LIGHTNING_PG_CACHE="${LIGHTNING_PG_CACHE:-}" LIGHTNING_PG_SOURCE="${LIGHTNING_PG_SOURCE:-}" \
		"$work/tree/t/check.sh" "$@"
	status=$?
	if [ -n "${KEEP_LOGS:-}" ] && [ -d "$work/tree/tmp_check" ]; then
		rm -rf "$top/tmp_check" && cp -r "$work/tree/tmp_check" "$top/tmp_check"
	fi
	exit $status
fi

parts="$*"
[ -n "$parts" ] || parts="engine asan tsan sim regress isolation sanitizer tap discard postgres"
passed=0
failed=0
failures=""

tmp=$top/tmp_check
rm -rf "$tmp"
mkdir -p "$tmp"

note() # name passed failed
{
	passed=$((passed + $2))
	failed=$((failed + $3))
	[ "$3" = 0 ] || failures="$failures $1"
	printf -- '-- %s: %d passed, %d failed (%d s)\n' "$1" "$2" "$3" $((SECONDS - started))
}

finish()
{
	[ -z "$failures" ] || echo "failed:$failures"
	echo "$passed passed, $failed failed"
	[ $failed = 0 ]
	exit
}

# Run one make target of the engine whose tests are cmocka programs.
engine_part() # name target mode
{
	local log=$tmp/$1.log p f status

	started=$SECONDS
	if ! make -s -j2 -C engine MODE="$3" tests >"$log" 2>&1; then
		tail -50 "$log"
		note "$1" 0 1
		return
	fi
	make -s -C engine "$2" >>"$log" 2>&1
	status=$?
	p=$(grep -Ec '^\[ +OK +\]' "$log")
	f=$(grep -Ec '^\[  FAILED  \] [^0-9]' "$log")
	if [ $status != 0 ]; then
		[ "$f" != 0 ] || f=1
		grep -E 'FAILED|ERROR|error|Sanitizer|assert|seed' "$log" | head -60
		tail -30 "$log"
	fi
	note "$1" "$p" "$f"
}

# ---- the engine, without a server ----
for part in $parts; do
	case $part in
		engine) engine_part engine check plain ;;
		asan) engine_part engine-asan check-asan asan ;;
		tsan) engine_part engine-tsan check-tsan tsan ;;
		sim)
			started=$SECONDS
			seeds=${LIGHTNING_SIM_SEEDS:-1000}
			if make -s -C engine sim FIRST="${LIGHTNING_SEED:-1}" SEEDS="$seeds" >"$tmp/sim.log" 2>&1; then
				note "simulation ($seeds seeds)" 1 0
			else
				tail -40 "$tmp/sim.log"
				note "simulation ($seeds seeds)" 0 1
			fi
			;;
	esac
done

case " $parts " in
	*" regress "* | *" isolation "* | *" tap "* | *" discard "* | *" postgres "* | *" programs "* | *" valgrind "* | *" sanitizer "*) ;;
	*) finish ;;
esac

# ---- the extension, in a copy of PostgreSQL's installation ----
. "$top/t/install.sh"

# What users build has nothing that only tests need.
started=$SECONDS
if make -j2 PG_CONFIG="$PG_CONFIG" LIGHTNING_TEST= all >"$tmp/production.log" 2>&1 &&
	! nm lightning.so | grep -E 'lightning_(stop|fault)' && ! grep -aE '(snapshot:enter|flush:piece)' lightning.so; then
	note production 1 0
else
	grep -E 'error|Error|warning' "$tmp/production.log" | head -40
	note production 0 1
fi

started=$SECONDS
export LIGHTNING_TEST=1
if ! private_install "$tmp/inst" >"$tmp/build.log" 2>&1; then
	grep -E 'error|Error|warning' "$tmp/build.log" | head -40
	note build 0 1
	finish
fi
note build 1 0

cat >"$tmp/regress.conf" <<CONF
shared_preload_libraries = 'lightning'
listen_addresses = ''
fsync = off
max_prepared_transactions = 10
CONF

regress_part() # name binary tests...
{
	local name=$1 binary=$2 log=$tmp/$1.log p f

	shift 2
	started=$SECONDS
	[ -n "$*" ] || return
	mkdir -p "$tmp/$name"
	# (pg_regress puts the socket of its instance into a directory of its own)
	"$binary" --inputdir="$top" --outputdir="$tmp/$name" --bindir="$bindir" \
		--temp-instance="$tmp/$name/instance" --temp-config="$tmp/regress.conf" \
		--dbname="lightning_$name" --load-extension=lightning "$@" >"$log" 2>&1
	p=$(grep -Ec '^(test|     ) .*\.\.\. ok ' "$log")
	f=$(grep -Ec '\.\.\. (FAILED|failed)' "$log")
	if ! grep -q '^ All .* tests passed' "$log"; then
		[ "$f" != 0 ] || f=1
		tail -20 "$log"
		[ -f "$tmp/$name/regression.diffs" ] && head -150 "$tmp/$name/regression.diffs"
	fi
	note "$name" "$p" "$f"
}

tap_part() # name tests...
{
	local name=$1 log=$tmp/$1.log status p f=0 total

	shift
	started=$SECONDS
	mkdir -p "$tmp/$name"
	(
		cd "$tmp/$name" || exit 1
		export TESTDIR=$tmp/$name PG_REGRESS=$pgxs/test/regress/pg_regress LIGHTNING_TREE=$top
		prove --timer -I "$pgxs/test/perl" -I "$top/t" "$@"
	) >"$log" 2>&1
	status=$?
	total=$(sed -n 's/^Files=[0-9]*, Tests=\([0-9]*\).*/\1/p' "$log" | tail -1)
	if [ $status != 0 ]; then
		f=$(sed -n 's/.*Failed: \([0-9]*\)).*/\1/p' "$log" | awk '{s+=$1} END {print s+0}')
		[ "$f" != 0 ] || f=1
		tail -60 "$log"
		grep -h -A8 'not ok' "$tmp/$name"/tmp_check/log/regress_log_* 2>/dev/null | head -80
	fi
	p=$((${total:-0} - f))
	[ $p -ge 0 ] || p=0
	note "$name" $p "$f"
}

# Regression tests on a server under valgrind: any report is a failure.  Each
# test runs in a database of its own, so that a time limit can end it and
# reports can be told apart by test.
valgrind_part() # tests...
{
	local dir=$tmp/valgrind port=54399 limit=${LIGHTNING_VALGRIND_LIMIT:-600} p=0 f=0 t s status

	started=$SECONDS
	mkdir -p "$dir/log" "$dir/seen"
	rm -f "$top/src/wal.o" "$top/lightning.so"
	make -C "$top" PG_CONFIG="$PG_CONFIG" COPT=-DUSE_VALGRIND install >"$dir/build.log" 2>&1 || f=1
	"$bindir/initdb" -D "$dir/data" -N -A trust >"$dir/initdb.log" 2>&1
	{
		cat "$tmp/regress.conf"
		echo "unix_socket_directories = '$dir'"
		printf '%s\n' "port = $port" "autovacuum = off" "shared_buffers = 16MB" \
			"lightning.memtable_size = '1MB'" "lightning.cache_size = '8MB'"
	} >>"$dir/data/postgresql.conf"
	valgrind --quiet --leak-check=no --trace-children=yes --suppressions="$top/t/valgrind.supp" \
		--log-file="$dir/log/%p" "$bindir/postgres" -D "$dir/data" >"$dir/server.log" 2>&1 &
	for _ in $(seq 120); do
		"$bindir/pg_isready" -q -h "$dir" -p $port && break
		sleep 1
	done
	for t in "$@"; do
		s=$SECONDS
		mkdir -p "$dir/out/$t"
		timeout "$limit" "$pgxs/test/regress/pg_regress" --inputdir="$top" --outputdir="$dir/out/$t" \
			--bindir="$bindir" --host="$dir" --port=$port --dbname="valgrind_$t" --load-extension=lightning \
			"$t" >"$dir/out/$t.log" 2>&1
		status=$?
		if [ $status = 124 ]; then
			echo "$t: stopped after $limit s"
			"$bindir/psql" -X -q -h "$dir" -p $port -d postgres -o /dev/null \
				-c "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = 'valgrind_$t'"
		elif [ $status != 0 ]; then
			tail -20 "$dir/out/$t.log"
			[ -f "$dir/out/$t/regression.diffs" ] && head -60 "$dir/out/$t/regression.diffs"
		fi
		valgrind_reports "$dir" || status=1
		printf '%s: %s (%d s)\n' "$t" "$([ $status = 0 ] && echo ok || echo FAILED)" $((SECONDS - s))
		if [ $status = 0 ]; then p=$((p + 1)); else f=$((f + 1)); fi
	done
	"$bindir/pg_ctl" -D "$dir/data" -m fast -t 300 stop >/dev/null || f=$((f + 1))
	valgrind_reports "$dir" || f=$((f + 1))
	note valgrind $p $f
}

# Print what valgrind's logs have got since the last call; fails if anything.
valgrind_reports() # directory
{
	local l n old any=0

	for l in "$1"/log/*; do
		[ -f "$l" ] || continue
		n=$(wc -c <"$l")
		old=$(cat "$1/seen/${l##*/}" 2>/dev/null || echo 0)
		[ "$n" != "$old" ] || continue
		any=1
		tail -c +$((old + 1)) "$l" | head -100
		echo "$n" >"$1/seen/${l##*/}"
	done
	return $any
}

# All regression and isolation tests on a server whose extension is built with
# AddressSanitizer, UndefinedBehaviorSanitizer and assertions, and recovery from a
# crash after them: any report is a failure.  The server is as it is, with the
# sanitizer's allocator: palloc'd memory is watched by the block.
sanitizer_part()
{
	local source=$top dir=$tmp/sanitizer port=54398 top=$tmp/sanitizer/tree reported=0
	local PG_CONFIG=$PG_CONFIG PATH=$PATH bindir=$bindir pgxs=$pgxs

	started=$SECONDS
	mkdir -p "$top"
	tar -C "$source" --exclude=tmp_check --exclude=build --exclude='*.o' --exclude='*.so' --exclude='*.d' -cf - . |
		tar -C "$top" -xf -
	if ! OPT="-O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer -DUSE_ASSERT_CHECKING -DLTG_ASSERTS" \
		private_install "$dir/inst" >"$dir/build.log" 2>&1; then
		tail -20 "$dir/build.log"
		note sanitizer 0 1
		return
	fi
	sanitizer_first "$dir/first.so"
	"$bindir/initdb" -D "$dir/data" -N -A trust >"$dir/initdb.log" 2>&1
	{
		cat "$tmp/regress.conf"
		echo "unix_socket_directories = '$dir'"
		echo "port = $port"
	} >>"$dir/data/postgresql.conf"
	sanitizer_start || { tail -20 "$dir/server.log"; note sanitizer 0 1; return; }
	sanitizer_note build 0
	sanitizer_suite regress pg_regress $(make -s -C "$top" PG_CONFIG="$PG_CONFIG" print-REGRESS)
	sanitizer_suite isolation pg_isolation_regress $(make -s -C "$top" PG_CONFIG="$PG_CONFIG" print-ISOLATION)

	"$bindir/pg_ctl" -D "$dir/data" -m immediate -t 300 stop >/dev/null
	sanitizer_start &&
		[ "$("$bindir/psql" -XAtq -h "$dir" -p $port -d sanitizer_regress -c 'SELECT count(*) FROM lightning_check_all(index => true)')" = 0 ]
	sanitizer_note recovery $?
	"$bindir/pg_ctl" -D "$dir/data" -m fast -t 300 stop >/dev/null
	sanitizer_note stop $?
}

# A library that makes ASan start before any other constructor allocates memory.
# p11-kit's (of GnuTLS, of OpenLDAP, of the server) does so inside newlocale(), and
# ASan, when it starts there, formats an error message of dlsym(), which takes and
# gives back the locale lock that is held: at exit freelocale() waits for ever.
sanitizer_first() # library
{
	echo '#include <stdlib.h>
		__attribute__((constructor)) static void first(void) { free(malloc(1)); }' |
		gcc -O0 -shared -fPIC -Wl,-z,initfirst -x c - -o "$1"
}

# These use the variables of sanitizer_part.
sanitizer_start()
{
	ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1 \
		LD_PRELOAD=$(gcc -print-file-name=libasan.so):$dir/first.so "$bindir/postgres" -D "$dir/data" >>"$dir/server.log" 2>&1 &
	for _ in $(seq 120); do
		"$bindir/pg_isready" -q -h "$dir" -p $port && return
		sleep 1
	done
	kill -KILL $!
	return 1
}

sanitizer_suite() # name binary tests...
{
	local name=$1 binary=$2 status

	shift 2
	mkdir -p "$dir/$name"
	"$pgxs/test/$name/$binary" --inputdir="$top" --outputdir="$dir/$name" --bindir="$bindir" --host="$dir" --port=$port \
		--dbname="sanitizer_$name" --load-extension=lightning "$@" >"$dir/$name.log" 2>&1
	status=$?
	if [ $status != 0 ]; then
		grep -E '\.\.\. (FAILED|failed)' "$dir/$name.log" || tail -20 "$dir/$name.log"
		[ -f "$dir/$name/regression.diffs" ] && head -100 "$dir/$name/regression.diffs"
	fi
	sanitizer_note "$name" $status "$(grep -Ec '^(test|     ) .*\.\.\. ok ' "$dir/$name.log")"
}

# A step has ended: reports since the last one make it fail, too.
sanitizer_note() # name status [passed]
{
	local f=0

	if tail -n +$((reported + 1)) "$dir/server.log" |
		grep -E -A20 'AddressSanitizer|runtime error:|TRAP:|PANIC' | head -120 | grep .; then
		f=1
	fi
	reported=$(wc -l <"$dir/server.log")
	[ "$2" = 0 ] || f=1
	note "sanitizer: $1" "${3:-$((1 - f))}" $f
	started=$SECONDS
}

# What t/check_postgres.sh has said of a part.
script_note() # name
{
	local log=$tmp/$1.log p=0 f=1

	read -r p f < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$log" | tail -1)
	[ "$f" = 0 ] || cat "$log"
	note "$1" "$p" "$f"
}

# PostgreSQL's own suites, heap against lightning.
postgres_part()
{
	started=$SECONDS
	LIGHTNING_INSTALLED=1 "$top/t/check_postgres.sh" both >"$tmp/postgres.log" 2>&1
	script_note postgres
}

# Building a server with assertions and running our tests on it takes one of the
# processors; the tests in t/ mostly wait, so they are run meanwhile.
discard=""
discard_start()
{
	LIGHTNING_INSTALLED=1 LIGHTNING_PG_TMP=$tmp/discard "$top/t/check_postgres.sh" discard >"$tmp/discard.log" 2>&1 &
	discard=$!
}

discard_part()
{
	started=$SECONDS
	[ -n "$discard" ] || discard_start
	wait "$discard"
	script_note discard
}

# What these keep from run to run, they share in one, too.
export LIGHTNING_PG_CACHE=${LIGHTNING_PG_CACHE:-$tmp/pgcache}

for part in $parts; do
	case $part in
		regress) regress_part regress "$pgxs/test/regress/pg_regress" $(make -s PG_CONFIG="$PG_CONFIG" print-REGRESS) ;;
		isolation) regress_part isolation "$pgxs/test/isolation/pg_isolation_regress" $(make -s PG_CONFIG="$PG_CONFIG" print-ISOLATION) ;;
		tap)
			case " $parts " in *" discard "*) discard_start ;; esac
			tap_part tap "$top"/t/[0-9]*.pl
			;;
		discard) discard_part ;;
		valgrind)
			# index_types and sampling take too long there, and sizes depends on when
			# background work runs; TESTS can name them
			valgrind_part ${TESTS:-$(make -s PG_CONFIG="$PG_CONFIG" print-REGRESS | tr ' ' '\n' |
				grep -vxE 'index_types|sampling|sizes')}
			;;
		sanitizer) sanitizer_part ;;
		programs) tap_part programs "$top"/t/programs/*.pl ;;
		postgres) postgres_part ;;
	esac
done
finish
