# pg_upgrade to another cluster of the same major version: the directory
# "lightning" is copied by hand.  Until it has been, tables are errors, not empty.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use Cwd ();
use File::Path qw(rmtree);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = new_node('old', init => { extra => ['-N'] });
my $new = new_node('new', init => { extra => ['-N'] });
$old->start;
$old->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE t (id int PRIMARY KEY, v text, long text) USING lightning;
INSERT INTO t SELECT i, 'row ' || i, repeat(md5(i::text), CASE WHEN i % 100 = 0 THEN 300 ELSE 1 END) FROM generate_series(1, 10000) i;
CREATE INDEX t_v ON t USING hash (v);
UPDATE t SET v = v || '!' WHERE id % 10 = 0;
DELETE FROM t WHERE id % 17 = 0;
ALTER TABLE t DROP COLUMN long, ADD COLUMN more text DEFAULT 'more';
CREATE UNLOGGED TABLE u USING lightning AS SELECT 1 AS one;
CREATE MATERIALIZED VIEW m USING lightning AS SELECT * FROM t WHERE id < 100;
CREATE TABLE p (id int PRIMARY KEY) PARTITION BY HASH (id);
CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0) USING lightning;
CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO p SELECT generate_series(1, 100);
CREATE TABLE empty (id int) USING lightning;
CREATE PUBLICATION pub FOR TABLE t, p;
CREATE DATABASE other;
SQL
$old->safe_psql('other', 'CREATE EXTENSION lightning; CREATE TABLE o USING lightning AS SELECT generate_series(1, 1000) AS id');
my @queries = ("SELECT count(*), sum(id), md5(string_agg(t::text, ',' ORDER BY id)) FROM t",
	"SET enable_seqscan = off; SELECT id, v, more FROM t WHERE v = 'row 500!'", 'SELECT * FROM u', 'SELECT count(*), sum(id) FROM m',
	'SELECT count(*), count(DISTINCT tableoid) FROM p', 'SELECT count(*) FROM empty');
my @before = map { $old->safe_psql('postgres', $_) } @queries;
$old->stop;

my $bin = $old->config_data('--bindir');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $cwd = Cwd::getcwd();
chdir $dir;
my @upgrade = ("$bin/pg_upgrade", '--no-sync', '-b', $bin, '-B', $bin, '-d', $old->data_dir, '-D', $new->data_dir,
	'-p', $old->port, '-P', $new->port, '-s', $new->host);
# refused, with nothing changed, if the new cluster does not preload the library
$new->append_conf('postgresql.conf', "shared_preload_libraries = ''");
command_fails(\@upgrade, 'not without the library in the new cluster');
rmtree($new->data_dir);
# where publications of lightning tables would be refused
$new = new_node('new2', init => { extra => ['-N'] }, conf => "wal_level = logical\n");
@upgrade = ("$bin/pg_upgrade", '--no-sync', '-b', $bin, '-B', $bin, '-d', $old->data_dir, '-D', $new->data_dir,
	'-p', $old->port, '-P', $new->port, '-s', $new->host);
$old->start;
is($old->safe_psql('postgres', $queries[0]), $before[0], 'the old cluster is as it was');
$old->stop;
command_ok(\@upgrade, 'pg_upgrade');

$new->start;
my ($rc, $out, $err) = $new->psql('postgres', $queries[0]);
like($err, qr/ERROR:  table "t" has no data in lightning/, 'before the directory is copied: an error');
like($err, qr/HINT:  Directory "lightning" may have been removed, or not been copied/, 'with a hint');
($rc, $out, $err) = $new->psql('postgres', 'SELECT * FROM empty');
like($err, qr/has no data in lightning/, 'for empty tables as well');
$new->stop;

rmtree($new->data_dir . '/lightning');
PostgreSQL::Test::RecursiveCopy::copypath($old->data_dir . '/lightning', $new->data_dir . '/lightning');
$new->start;
for my $i (0 .. $#queries)
{
	is($new->safe_psql('postgres', $queries[$i]), $before[$i], "after: $queries[$i]");
}
is($new->safe_psql('postgres', q{SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables}), 'p0 p1 t', 'a publication of an older setting');
is($new->safe_psql('other', 'SELECT count(*), sum(id) FROM o'), '1000|500500', 'another database');
check_clean($new, 'after the upgrade');
$new->safe_psql('postgres', <<SQL);
INSERT INTO t VALUES (-1, 'new');
UPDATE t SET v = 'changed' WHERE id = 5;
DELETE FROM t WHERE id = 6;
INSERT INTO empty VALUES (1);
REFRESH MATERIALIZED VIEW m;
VACUUM (FREEZE, ANALYZE) t;
CREATE TABLE fresh USING lightning AS SELECT * FROM t;
SQL
kill_server($new);
$new->start;
is($new->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE v IN ('new', 'changed')) FROM t"), '9412|2', 'written to, crashed, recovered');
is($new->safe_psql('postgres', 'SELECT (SELECT count(*) FROM fresh), (SELECT count(*) FROM m), (SELECT count(*) FROM empty), (SELECT count(*) FROM u)'),
	'9412|94|1|0', 'all of them (unlogged ones are emptied by a crash)');
check_clean($new, 'after a crash');
$new->stop;
chdir $cwd;
done_testing();
