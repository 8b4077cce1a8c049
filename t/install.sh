# Sourced by the scripts that start private servers.
#
# private_install DIR: copies PostgreSQL's installation (it is relocatable) to
# DIR, builds the extension of the tree "$top" and installs it there: a test build
# if LIGHTNING_TEST is exported.  Sets PG_CONFIG, PATH, bindir, pgxs.  Needs no
# privileges.

private_install()
{
	local inst=$1 sharedir major

	: "${PG_CONFIG:=pg_config}"
	bindir=$($PG_CONFIG --bindir) || return 1
	sharedir=$($PG_CONFIG --sharedir)
	major=$(basename "$sharedir")
	mkdir -p "$inst/lib/postgresql" "$inst/share/postgresql" "$inst/include"
	cp -r "$(dirname "$bindir")" "$inst/lib/postgresql/$major" || return 1
	cp -r "$sharedir" "$inst/share/postgresql/$major" || return 1
	ln -sfn "$($PG_CONFIG --pkgincludedir)" "$inst/include/postgresql"
	PG_CONFIG=$inst/lib/postgresql/$major/bin/pg_config
	bindir=$($PG_CONFIG --bindir)
	pgxs=$(dirname "$($PG_CONFIG --pgxs)")/..
	PATH=$bindir:$PATH
	export PG_CONFIG PATH
	make -j2 -C "$top" PG_CONFIG="$PG_CONFIG" all && make -C "$top" PG_CONFIG="$PG_CONFIG" install
}
