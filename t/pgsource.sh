# Sourced by t/check_postgres.sh.
#
# postgres_source DIR: PostgreSQL's source, from Debian's source package of the
# major version that $PG_CONFIG names, unpacked in DIR/postgresql-VERSION.  Sets
# pgsrc to that directory.  What is there already is used; with
# LIGHTNING_PG_SOURCE=directory that tree is.
#
# Needs no privileges: apt works on lists, cache and sources of its own in
# DIR/apt, made from the system's (deb-src where the system has deb), and checks
# signatures and checksums as always.

# The system's package sources, asking for source packages.
apt_sources()
{
	local f

	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$f" ] && sed -nE 's/^[[:space:]]*deb(-src)?[[:space:]]/deb-src /p' "$f"
	done | sort -u >"$1/sources.list.d/all.list"
	for f in /etc/apt/sources.list.d/*.sources; do
		[ -f "$f" ] && sed -E 's/^Types:.*/Types: deb-src/I; s/^Enabled:.*/Enabled: yes/I' "$f" \
			>"$1/sources.list.d/$(basename "$f")"
	done
	return 0
}

postgres_source()
{
	local dir=$1 version major installed v opts orig

	if [ -n "${LIGHTNING_PG_SOURCE:-}" ]; then
		pgsrc=$LIGHTNING_PG_SOURCE
		[ -f "$pgsrc/src/test/regress/parallel_schedule" ] && return 0
		echo "LIGHTNING_PG_SOURCE=$pgsrc is not PostgreSQL's source" >&2
		return 1
	fi

	version=$("$PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9.]+).*/\1/')
	major=${version%%.*}
	for pgsrc in "$dir/postgresql-$version" "$dir"/postgresql-"$major".*[0-9]; do
		[ -f "$pgsrc/src/test/regress/parallel_schedule" ] && return 0
	done

	mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/apt/sources.list.d" || return 1
	apt_sources "$dir/apt"
	opts=(-q -o "Dir::State::lists=$dir/apt/lists" -o "Dir::Cache=$dir/apt/cache"
		-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$dir/apt/sources.list.d"
		-o Acquire::Retries=3 -o Acquire::Languages=none)
	[ "$(id -u)" != 0 ] || opts+=(-o APT::Sandbox::User=root)
	apt-get "${opts[@]}" update

	# The installed version first, then the others that are offered.
	installed=$(dpkg-query -W -f '${source:Version}' "postgresql-$major" 2>/dev/null)
	for v in $installed $(apt-cache "${opts[@]}" showsrc "postgresql-$major" 2>/dev/null |
		sed -n 's/^Version: //p' | sort -rV | grep -vxF "${installed:-none}"); do
		(cd "$dir/apt/cache" && apt-get "${opts[@]}" source --download-only "postgresql-$major=$v") && break
	done
	orig=$(find "$dir/apt/cache" -maxdepth 1 -name "postgresql-${major}_*.orig.tar.*" ! -name '*.asc' | sort -V | tail -1)
	if [ -z "$orig" ]; then
		echo "no source package of postgresql-$major could be had" >&2
		return 1
	fi
	mkdir -p "$dir/unpack" && tar -C "$dir/unpack" -xf "$orig" || return 1
	v=$(basename "$(ls -d "$dir"/unpack/postgresql-*)")
	mv "$dir/unpack/$v" "$dir/$v" && rmdir "$dir/unpack" && rm -rf "$dir/apt"
	pgsrc=$dir/$v
	[ -f "$pgsrc/src/test/regress/parallel_schedule" ]
}
