# Options of tables: dumped and restored, kept over restarts and crashes, and
# known to a standby, which writes files of its own.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('options', streaming => 1);
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning');
$node->safe_psql('postgres', <<SQL);
CREATE TABLE z (i int, t text) USING lightning WITH (lightning.compression = zstd, lightning.compression_level = 7, fillfactor = 50);
CREATE TABLE n (i int, t text) USING lightning WITH (lightning.compression = none, lightning.block_size = '8kB');
CREATE TABLE d (i int, t text) USING lightning;
CREATE MATERIALIZED VIEW m USING lightning WITH (lightning.compression = lz4) AS SELECT 1 AS one;
CREATE TABLE p (i int) PARTITION BY RANGE (i);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (2) USING lightning WITH (lightning.compression = lz4);
INSERT INTO z SELECT i, 'the same text again and again ' || i % 7 FROM generate_series(1, 5000) i;
INSERT INTO n SELECT * FROM z;
INSERT INTO d SELECT * FROM z;
SQL
my $catalog = "SELECT relname, compression, compression_level, block_size FROM lightning_table_options ORDER BY 1";
my $engine = "SELECT c.relname, o.* FROM pg_class c, lightning_options(c.oid) o WHERE c.relname IN ('z', 'n', 'd', 'm', 'p1') ORDER BY 1";
my $want_catalog = $node->safe_psql('postgres', $catalog);
my $want_engine = $node->safe_psql('postgres', $engine);
is($want_catalog, "d|||\nm|lz4||\nn|none||8kB\np1|lz4||\nz|zstd|7|", 'set');
is($want_engine, "d|auto|3|16384\nm|lz4|3|16384\nn|none|3|8192\np1|lz4|3|16384\nz|zstd|7|16384", 'and in force');

# ---- dump and restore ----
for my $format ('plain', 'custom')
{
	my $file = $node->basedir . "/dump.$format";
	$node->command_ok([ 'pg_dump', '-p', $node->port, '-h', $node->host, "--format=$format", '-f', $file, 'postgres' ], "$format dump");
	$node->safe_psql('postgres', "CREATE DATABASE $format TEMPLATE template0");
	$node->command_ok($format eq 'plain' ?
		[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-p', $node->port, '-h', $node->host, '-f', $file, $format ] :
		[ 'pg_restore', '-e', '-p', $node->port, '-h', $node->host, '-d', $format, $file ], "$format restore");
	is($node->safe_psql($format, $catalog), $want_catalog, "$format: the same options");
	is($node->safe_psql($format, $engine), $want_engine, "$format: in force");
	is($node->safe_psql($format, "SELECT reloptions::text LIKE '%fillfactor=50%' FROM pg_class WHERE relname = 'z'"), 't', "$format: fillfactor as well");
	is($node->safe_psql($format, 'SELECT count(*) FROM z'), '5000', "$format: with the rows");
	$node->safe_psql('postgres', "DROP DATABASE $format");
}

# ---- restarts ----
$node->restart;
is($node->safe_psql('postgres', $engine), $want_engine, 'in force after a restart');
$node->safe_psql('postgres', 'ALTER TABLE d SET (lightning.compression = none)');
kill_server($node);
$node->start;
$want_engine =~ s/d\|auto/d|none/;
is($node->safe_psql('postgres', $engine), $want_engine, 'changed just before a crash');

# ---- a standby flushes by them, too ----
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('options_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', $engine), $want_engine, 'a standby has them from the backup');
$node->safe_psql('postgres', 'ALTER TABLE d SET (lightning.compression = zstd)');
$node->wait_for_catchup($standby);
$want_engine =~ s/d\|none/d|zstd/;
is($standby->safe_psql('postgres', $engine), $want_engine, 'and from the catalog');
$standby->stop;

# ---- who rewrites, and when ----
sub bytes { return $node->safe_psql('postgres', "SELECT lightning_relation_size('$_[0]')"); }
$node->safe_psql('postgres', "SELECT lightning_compact('n'), lightning_compact('z')");
my $plain = bytes('n');
$node->safe_psql('postgres', "SELECT lightning_compact('n')");
is(bytes('n'), $plain, 'a merge with nothing to clean rewrites nothing');
$node->safe_psql('postgres', 'ALTER TABLE n SET (lightning.compression = zstd)');
is(bytes('n'), $plain, 'options alone rewrite nothing either');
$node->restart;
$node->safe_psql('postgres', "SELECT lightning_compact('n', rewrite => true)");
cmp_ok(bytes('n'), '<', $plain / 2, 'rewritten on demand');
$node->safe_psql('postgres', 'ALTER TABLE n SET (lightning.compression = none)');
$node->safe_psql('postgres', "SELECT lightning_compact('n')");
is(bytes('n'), $plain, 'a merge rewrites what has old options');
$node->safe_psql('postgres', 'ALTER TABLE n SET (lightning.compression = zstd)');
$node->safe_psql('postgres', 'VACUUM FULL n');
$node->safe_psql('postgres', 'SELECT lightning_flush()');
cmp_ok(bytes('n'), '<', $plain / 2, 'so does VACUUM FULL');
is($node->safe_psql('postgres', 'SELECT count(*) FROM n'), '5000', 'with all rows');
check_clean($node, 'at the end');
$node->stop;
done_testing();
