# Databases with lightning tables as templates and in other tablespaces are
# refused before anything is lost; databases without the extension; tablespaces;
# dumps and restores.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('databases');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning');
my $space = $node->basedir . '/space';
mkdir $space;
$node->safe_psql('postgres', $_) for ("CREATE TABLESPACE space LOCATION '$space'", 'CREATE DATABASE src');
$node->safe_psql('src', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE t (id int PRIMARY KEY, v text) USING lightning;
INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 5000) i;
CREATE INDEX t_v ON t (v);
CREATE TABLE h (id int) USING heap;
SQL

# ---- templates, moving databases ----
for my $strategy ('wal_log', 'file_copy')
{
	my ($rc, $out, $err) = $node->psql('postgres', "CREATE DATABASE copy TEMPLATE src STRATEGY $strategy");
	like($err, qr/ERROR:  cannot copy database "src" because it contains lightning tables/, "template: refused with $strategy");
	like($err, qr/HINT:  .*pg_dump/, 'with a hint');
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = 'copy'"), '0', 'nothing was made');
}
my ($rc, $out, $err) = $node->psql('postgres', 'ALTER DATABASE src SET TABLESPACE space');
like($err, qr/ERROR:  cannot change the tablespace of database "src" because it contains lightning tables/, 'tablespace: refused');
is($node->safe_psql('src', 'SELECT count(*), sum(id) FROM t'), '5000|12502500', 'the database is as it was');
# flushed or not makes no difference; nor does a crash
$node->safe_psql('src', 'SELECT lightning_flush()');
($rc, $out, $err) = $node->psql('postgres', 'CREATE DATABASE copy TEMPLATE src');
like($err, qr/cannot copy database/, 'refused when it is in files');
kill_server($node);
$node->start;
($rc, $out, $err) = $node->psql('postgres', 'CREATE DATABASE copy TEMPLATE src');
like($err, qr/cannot copy database/, 'refused after a crash');
# the extension alone can be copied, both ways, and moved
$node->safe_psql('postgres', 'CREATE DATABASE bare');
$node->safe_psql('bare', 'CREATE EXTENSION lightning; CREATE TABLE gone (id int) USING lightning; DROP TABLE gone; CREATE TABLE h AS SELECT 1 AS id');
for my $strategy ('wal_log', 'file_copy')
{
	$node->safe_psql('postgres', "CREATE DATABASE copy_$strategy TEMPLATE bare STRATEGY $strategy");
	is($node->safe_psql("copy_$strategy", 'CREATE TABLE n (id int) USING lightning; INSERT INTO n SELECT id FROM h; SELECT * FROM n'), '1',
		"a copy of a database that has only the extension ($strategy)");
}
$node->safe_psql('postgres', 'ALTER DATABASE bare SET TABLESPACE space');
is($node->safe_psql('bare', 'CREATE TABLE n USING lightning AS SELECT * FROM h; SELECT * FROM n'), '1', 'and it can be moved');
# template1 with the extension: every new database has it
$node->safe_psql('template1', 'CREATE EXTENSION lightning');
$node->safe_psql('postgres', 'CREATE DATABASE inherits');
is($node->safe_psql('inherits', 'CREATE TABLE n USING lightning AS SELECT 1 AS id; SELECT * FROM n'), '1', 'from template1');
$node->safe_psql('template1', 'DROP EXTENSION lightning');
# dropping a database drops its tables
my $stores = $node->safe_psql('src', 'SELECT count(*) FROM lightning_stat_stores() WHERE database = (SELECT oid FROM pg_database WHERE datname = \'inherits\')');
is($stores, '1', 'one table there');
$node->safe_psql('postgres', 'DROP DATABASE inherits');
is($node->safe_psql('src', 'SELECT count(*) FROM lightning_stat_stores() s WHERE database NOT IN (SELECT oid FROM pg_database)'), '0', 'and gone with the database');

# ---- a database without the extension ----
$node->safe_psql('postgres', 'CREATE DATABASE without');
($rc, $out, $err) = $node->psql('without', 'CREATE TABLE t (id int) USING lightning');
like($err, qr/access method "lightning" does not exist/, 'without the extension: no table');
($rc, $out, $err) = $node->psql('without', 'CREATE MATERIALIZED VIEW m USING lightning AS SELECT 1');
like($err, qr/access method "lightning" does not exist/, 'no materialized view');
is($node->safe_psql('without', 'CREATE MATERIALIZED VIEW m AS SELECT 1 AS one; REFRESH MATERIALIZED VIEW m; SELECT * FROM m'), '1', 'but those of heap');
is($node->safe_psql('without', 'SELECT pg_table_size(\'m\') > 0, pg_database_size(current_database()) > 0'), 't|t', 'and sizes');
($rc, $out, $err) = $node->psql('without', 'SET default_table_access_method = lightning; CREATE TABLE t (id int)');
like($err, qr/access method "lightning" does not exist/, 'nor by default');
# dropping the extension
($rc, $out, $err) = $node->psql('src', 'DROP EXTENSION lightning');
like($err, qr/cannot drop extension lightning because other objects depend on it/, 'tables keep the extension');
$node->safe_psql('bare', 'DROP EXTENSION lightning CASCADE; CREATE EXTENSION lightning; CREATE TABLE n USING lightning AS SELECT 2 AS id');
is($node->safe_psql('bare', 'SELECT * FROM n'), '2', 'extension dropped with its tables, and created again');

# ---- tablespaces ----
$node->safe_psql('src', <<SQL);
CREATE TABLE ts (id int PRIMARY KEY USING INDEX TABLESPACE space, v text) USING lightning TABLESPACE space;
INSERT INTO ts SELECT i, repeat('v', i) FROM generate_series(1, 3000) i;
CREATE UNLOGGED TABLE tsu USING lightning TABLESPACE space AS SELECT 1 AS id;
ALTER TABLE t SET TABLESPACE space;
SQL
is($node->safe_psql('src', <<'SQL'), 't|t', 'pg_tablespace_size() does not count rows');
SELECT pg_tablespace_size('space') AS before \gset
INSERT INTO tsu SELECT generate_series(1, 20000);
SELECT pg_tablespace_size('space') = :before, pg_relation_size('tsu') > 100000;
SQL
($rc, $out, $err) = $node->psql('postgres', 'DROP TABLESPACE space');
like($err, qr/tablespace "space" is not empty/, 'a tablespace with tables stays');
kill_server($node);
$node->start;
is($node->safe_psql('src', 'SELECT (SELECT count(*) FROM ts), (SELECT sum(length(v)) FROM ts), (SELECT count(*) FROM t), (SELECT count(*) FROM tsu)'),
	'3000|4501500|5000|0', 'tables in tablespaces after a crash');
my $pid = $node->background_psql('src');
$pid->query_safe('BEGIN');
$pid->query_safe('ALTER TABLE t SET TABLESPACE pg_default');
$pid->query_safe('DELETE FROM t WHERE id <= 1000');
kill_server($node);
eval { $pid->quit };
$node->start;
is($node->safe_psql('src', 'SELECT count(*), sum(id) FROM t'), '5000|12502500', 'a crash undoes a move');
$node->safe_psql('src', 'ALTER TABLE t SET TABLESPACE pg_default; UPDATE t SET v = v || \'!\' WHERE id = 1');
kill_server($node);
$node->start;
is($node->safe_psql('src', 'SET enable_seqscan = off; SELECT count(*) FROM t WHERE v = \'row 1!\''), '1', 'a move that was committed stays');
check_clean($node, 'tablespaces');

# ---- dumps ----
$node->safe_psql('src', <<SQL);
CREATE TABLE d (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, long text, g int GENERATED ALWAYS AS (length(v)) STORED) USING lightning;
INSERT INTO d (v, long) SELECT repeat('v', i % 10), CASE WHEN i % 100 = 0 THEN repeat(md5(i::text), 200) END FROM generate_series(1, 3000) i;
CREATE TABLE d_ref (id int REFERENCES d) USING lightning;
INSERT INTO d_ref SELECT generate_series(1, 100);
CREATE MATERIALIZED VIEW d_m USING lightning AS SELECT g, count(*) FROM d GROUP BY g;
CREATE TABLE d_p (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE d_p1 PARTITION OF d_p FOR VALUES FROM (0) TO (100) USING lightning;
INSERT INTO d_p SELECT generate_series(0, 99);
CREATE INDEX d_hash ON d USING hash (v);
DROP TABLE tsu;
SQL
my $digest = <<SQL;
SELECT (SELECT md5(string_agg(d::text, ',' ORDER BY id)) FROM d), (SELECT count(*) FROM d_ref), (SELECT md5(string_agg(m::text, ',' ORDER BY g)) FROM d_m m),
	(SELECT sum(id) FROM d_p), (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM t), (SELECT count(*) FROM ts),
	(SELECT string_agg(relname || ' ' || amname, ',' ORDER BY relname) FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE relkind IN ('r', 'm') AND relnamespace = 'public'::regnamespace)
SQL
my $expected = $node->safe_psql('src', $digest);
my $dump = $node->basedir . '/dump';
for my $format (['plain', 'p', 1], ['custom', 'c', 2], ['directory', 'd', 2], ['tar', 't', 1], ['inserts', 'c', 2, '--inserts'], ['clean', 'c', 1])
{
	my ($name, $f, $jobs, @opt) = @$format;
	my $file = "$dump.$name";
	command_ok(['pg_dump', '-d', $node->connstr('src'), '-F', $f, '-f', $file, ($f eq 'd' ? ('-j', 2) : ()), @opt], "pg_dump: $name");
	$node->safe_psql('postgres', "CREATE DATABASE restored_$name");
	if ($f eq 'p')
	{
		command_ok(['psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr("restored_$name"), '-f', $file], "psql: $name");
	}
	else
	{
		command_ok(['pg_restore', '-e', '-d', $node->connstr("restored_$name"), ($jobs > 1 ? ('-j', $jobs) : ()), $file], "pg_restore -j $jobs: $name");
	}
	command_ok(['pg_restore', '-e', '--clean', '--if-exists', '-1', '-t', 't', '-d', $node->connstr("restored_$name"), $file], 'and again over it') if $name eq 'clean';
	is($node->safe_psql("restored_$name", $digest), $expected, "restored: $name");
	$node->safe_psql('postgres', "DROP DATABASE restored_$name");
}
# to heap, where lightning is not installed
command_ok(['pg_dump', '-d', $node->connstr('src'), '--no-table-access-method', '-f', "$dump.heap"], 'pg_dump --no-table-access-method');
like(slurp_file("$dump.heap"), qr/CREATE TABLE public\.d /, 'has the tables');
unlike(slurp_file("$dump.heap"), qr/SET default_table_access_method = lightning/, 'but not their access method');
# everything, into another cluster
my $target = new_node('target');
$target->start;
command_ok(['pg_dumpall', '-d', $node->connstr('postgres'), '--no-tablespaces', '-f', "$dump.all"], 'pg_dumpall');
command_ok(['psql', '-X', '-q', '-d', $target->connstr('postgres'), '-f', "$dump.all"], 'restored elsewhere');
is($target->safe_psql('src', $digest), $expected, 'the same rows there');
check_clean($target, 'restored');
$target->stop;
$node->stop;
done_testing();
