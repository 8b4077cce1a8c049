# One row through the whole path, and the library where it was not preloaded.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# ---- not preloaded: says exactly that ----
my $bare = PostgreSQL::Test::Cluster->new('bare');
$bare->init;
$bare->start;
my ($rc, $out, $err) = $bare->psql('postgres', 'CREATE EXTENSION lightning');
if ($rc == 0)
{
	($rc, $out, $err) = $bare->psql('postgres', 'CREATE TABLE t (a int) USING lightning');
}
isnt($rc, 0, 'without preloading nothing is created');
like($err, qr/must be loaded via "?shared_preload_libraries"?/, 'the error says what is missing');
like($err, qr/HINT:.*shared_preload_libraries = 'lightning'/s, 'the hint says what to do');
$bare->stop;

# ---- one row survives ----
my $node = new_node('basic');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning');
($rc, $out, $err) = $node->psql('postgres', 'CREATE EXTENSION lightning');
like($err, qr/extension "lightning" already exists/, 'the extension script does not run twice');
$node->safe_psql('postgres', "CREATE TABLE t (a int, b text) USING lightning; INSERT INTO t VALUES (1, 'one')");
kill_server($node);
$node->start;
is($node->safe_psql('postgres', 'SELECT * FROM t'), '1|one', 'a row survives SIGKILL of the server');

# ---- committed and not committed, flushed and not flushed ----
$node->safe_psql('postgres', <<SQL);
CREATE INDEX t_a ON t (a);
INSERT INTO t SELECT i, 'row ' || i FROM generate_series(2, 20000) i;
SELECT lightning_flush();
UPDATE t SET b = 'changed' WHERE a % 10 = 0;
DELETE FROM t WHERE a % 10 = 1;
BEGIN; INSERT INTO t SELECT i, 'never' FROM generate_series(30001, 30100) i; ROLLBACK;
SQL
my $query = 'SELECT count(*), sum(a), md5(string_agg(a || b, chr(10) ORDER BY a)) FROM t';
my $before = $node->safe_psql('postgres', $query);
kill_server($node);
$node->start;
is($node->safe_psql('postgres', $query), $before, 'the same rows after a crash');
is($node->safe_psql('postgres', "SET enable_seqscan = off; $query"), $before, 'and by the index');
check_clean($node, 'after the crash');
$node->stop('fast');
$node->start;
is($node->safe_psql('postgres', $query), $before, 'the same rows after a clean restart');
$node->safe_psql('postgres', 'SELECT lightning_flush()');
$node->safe_psql('postgres', 'CHECKPOINT');
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', $query), $before, 'the same rows after an immediate stop');

# ---- psql's lists show sizes ----
like($node->safe_psql('postgres', '\dt+ t'), qr/^public\|t\|table\|\w+\|permanent\|lightning\|\d{3,4} kB\|$/m, '\dt+');
like($node->safe_psql('postgres', '\l+ postgres'), qr/\|\d+ [kM]B\|pg_default\|/, '\l+');

# ---- workers and views are there ----
is($node->safe_psql('postgres',
		"SELECT string_agg(DISTINCT backend_type, ', ' ORDER BY backend_type) FROM pg_stat_activity WHERE backend_type LIKE 'lightning%' AND backend_type NOT LIKE '%compaction%'"),
	'lightning flusher, lightning gate', 'workers show their names');
$node->safe_psql('postgres', 'DROP TABLE t');
$node->safe_psql('postgres', 'CHECKPOINT');
$node->safe_psql('postgres', 'SELECT lightning_flush()');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_lightning_runs'), '0', 'a dropped table leaves no runs');
# ---- a symbolic link in the directory's place ----
$node->stop;
my $dir = $node->data_dir . '/lightning';
rename($dir, "$dir.elsewhere") or die $!;
symlink("$dir.elsewhere", $dir) or die $!;
ok(!$node->start(fail_ok => 1), 'a symbolic link, which backups leave out, is refused');
like(slurp_file($node->logfile), qr/FATAL:  "lightning" in the data directory is not a directory/, 'and the log says why');
unlink $dir or die $!;
rename("$dir.elsewhere", $dir) or die $!;
$node->start;
$node->stop;
done_testing();
