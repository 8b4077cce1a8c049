# lib.sh
#	Sourced by the demo and the benchmarks: a private server that is stopped
#	whatever happens, by the process id noted when it was started.
#
# Callers set: top (the tree), work (a directory of their own), and call
# become_unprivileged before anything else.

# Servers refuse to run as root: copy the tree to a directory of the user
# "postgres" and start this script again there.  Returns when not root.
become_unprivileged() # script args...
{
	local script=$1 copy status

	shift
	[ "$(id -u)" = 0 ] || return 0
	"$top/.ci/deps" ${EXTRA_PACKAGES:-} || exit 1
	copy=$(mktemp -d "${TMPDIR:-/tmp}/lightning-run.XXXXXX")
	mkdir "$copy/tree"
	tar -C "$top" --exclude=.git --exclude=build --exclude='*.o' --exclude='*.so' -cf - . | tar -C "$copy/tree" -xf -
	chown -R postgres "$copy"
	chmod 755 "$copy"
	trap 'rm -rf "$copy"' EXIT
	runuser -u postgres -- env HOME="$copy" WORK="$copy/work" KEEP="${KEEP:-}" \
		PG_CONFIG="${PG_CONFIG:-pg_config}" ${PASS_ENV:-} "$copy/tree/$script" "$@"
	status=$?
	[ ! -d "$copy/tree/bench/results" ] || cp -r "$copy/tree/bench/results" "$top/bench/" 2>/dev/null
	[ -z "${KEEP:-}" ] || trap - EXIT
	exit $status
}

# Starts a server on $work/data with the settings given on standard input.
server_init()
{
	mkdir -p "$work"
	sockets=$(mktemp -d /tmp/lightning-sock.XXXXXX)
	initdb -D "$work/data" -N --locale=C.UTF-8 -A trust -U postgres >"$work/initdb.log" 2>&1 || {
		cat "$work/initdb.log"
		return 1
	}
	cat >>"$work/data/postgresql.conf" <<CONF
shared_preload_libraries = 'lightning'
listen_addresses = ''
unix_socket_directories = '$sockets'
CONF
	cat >>"$work/data/postgresql.conf"
	export PGHOST=$sockets PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
	trap server_cleanup EXIT
	trap 'exit 130' INT TERM
}

server_start()
{
	pg_ctl -D "$work/data" -l "$work/server.log" -w -t 300 start >/dev/null || {
		tail -20 "$work/server.log"
		return 1
	}
	server_pid=$(head -1 "$work/data/postmaster.pid")
}

server_stop()
{
	pg_ctl -D "$work/data" -w -t 300 -m fast stop >/dev/null
	server_pid=
}

# SIGKILL to the postmaster and to every child it has.
server_kill()
{
	local pids p

	kill -STOP "$server_pid"
	pids="$server_pid $(ps -o pid= --ppid "$server_pid")"
	kill -KILL $pids
	for p in $pids; do
		while [ -d "/proc/$p" ]; do sleep 0.05; done
	done
	server_pid=
}

server_cleanup()
{
	if [ -n "${server_pid:-}" ] && kill -0 "$server_pid" 2>/dev/null; then
		pg_ctl -D "$work/data" -w -t 60 -m immediate stop >/dev/null 2>&1 || server_kill
	fi
	rm -rf "$work" "${sockets:-}"
}

sql()
{
	psql -XAtq -v ON_ERROR_STOP=1 -c "$1"
}

# Seconds, with milliseconds, that a statement took.
time_sql()
{
	psql -XAtq -v ON_ERROR_STOP=1 -c '\timing on' -c "$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | awk '{printf "%.3f", $1 / 1000}'
}

# Bytes of log written so far.
wal_bytes()
{
	sql "SELECT pg_current_wal_insert_lsn() - '0/0'"
}

# Bytes of a table without its indexes, wherever its access method keeps them.
table_bytes()
{
	sql "SELECT CASE WHEN a.amname = 'lightning' THEN lightning_relation_size(c.oid) + coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0)
		ELSE pg_table_size(c.oid) END FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.oid = '$1'::regclass"
}
