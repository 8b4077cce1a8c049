# The store of row locks: that it never makes a lock out of nothing, nor misses
# one, around the ends of transactions, restarts and crashes.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('lock_store', streaming => 1, conf => <<CONF);
autovacuum = off
lightning.row_lock_size = '256kB'
lock_timeout = 300ms
CONF
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning_test CASCADE;
CREATE TABLE t (id int PRIMARY KEY, v int) USING lightning;
CREATE INDEX ON t (v);
INSERT INTO t SELECT g, g FROM generate_series(1, 10) g;
CREATE TABLE wide (id int) USING lightning;
INSERT INTO wide SELECT g FROM generate_series(1, 600000) g;
CREATE UNLOGGED TABLE u (id int PRIMARY KEY, v int) USING lightning;
INSERT INTO u SELECT g, g FROM generate_series(1, 10) g;
SQL

# ---- a holder ends while its lock is being copied, and nothing was ever stored ----
is($node->safe_psql('postgres', 'SELECT count(*) FROM lightning_stat_stores() WHERE database = 0'), 0,
	'there is no store of locks yet');
my $s1 = $node->background_psql('postgres');
my $s2 = $node->background_psql('postgres', on_error_stop => 0);
$s1->query_safe('BEGIN; SELECT FROM t WHERE id = 1 FOR KEY SHARE');
$node->safe_psql('postgres', "SELECT lightning_stop_point_set('rowlock:copied')");
$s2->query_until(qr/started/, "\\echo started\nUPDATE t SET v = -1 WHERE id = 1;\n");
$node->safe_psql('postgres', "SELECT lightning_stop_point_wait('rowlock:copied')");
$s1->query_safe('COMMIT');
$node->safe_psql('postgres', "SELECT lightning_stop_point_release('rowlock:copied')");
$s2->query('SELECT 1');
is($node->safe_psql('postgres', 'SELECT v FROM t WHERE id = 1'), -1, 'the row has moved');
$_->quit for $s1, $s2;

# ---- unlogged tables, which outlive an orderly restart ----
$node->safe_psql('postgres', "BEGIN; SELECT FROM u WHERE id <= 5 FOR UPDATE; PREPARE TRANSACTION 'u'");
for my $round ('before', 'after')
{
	my ($rc, $out, $err) = $node->psql('postgres', 'UPDATE u SET v = 0 WHERE id = 5');
	like($err, qr/lock timeout/, "$round a restart: a row of an unlogged table is locked");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM u'), 10, "$round a restart: the rows are there");
	$node->restart if $round eq 'before';
}
$node->safe_psql('postgres', "ROLLBACK PREPARED 'u'");

# and are empty after a crash, which has forgotten what was not in files
$node->safe_psql('postgres', "INSERT INTO u SELECT g, g FROM generate_series(11, 300) g");
$node->safe_psql('postgres', "BEGIN; SELECT FROM u FOR UPDATE; PREPARE TRANSACTION 'u'");
kill_server($node);
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM u'), 0, 'a crash empties an unlogged table');
my ($rc, $out, $err) = $node->psql('postgres', 'INSERT INTO u SELECT g, g FROM generate_series(1, 600) g; UPDATE u SET v = 0');
is($err, '', 'and nobody has locked the rows that come then');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'u'");

# ---- a server that is not ready to say what prepared transactions have locked ----
$node->safe_psql('postgres', "BEGIN; SELECT FROM t WHERE id = 2 FOR UPDATE; PREPARE TRANSACTION 'early'");
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
$standby->safe_psql('postgres', "SELECT lightning_stop_point_set('gate:flush')");
$standby->promote;
$standby->safe_psql('postgres', "SELECT lightning_stop_point_wait('gate:flush')");
($rc, $out, $err) = $standby->psql('postgres', q{SET statement_timeout = '500ms'; SELECT id FROM t WHERE id = 2 FOR UPDATE});
is($out, '', 'a locked row is not given away before the gate is up');
like($err, qr/statement timeout/, 'its locker waits');
$standby->safe_psql('postgres', "SELECT lightning_stop_point_release('gate:flush')");
is($standby->safe_psql('postgres', 'SELECT id FROM t WHERE id = 3 FOR UPDATE'), 3, 'others are free when it is up');
($rc, $out, $err) = $standby->psql('postgres', 'SELECT id FROM t WHERE id = 2 FOR UPDATE');
like($err, qr/lock timeout/, 'and this one is locked');
$standby->stop;
$node->safe_psql('postgres', "ROLLBACK PREPARED 'early'");

# ---- a row with stored locks moves while writers are slowed down ----
$node->safe_psql('postgres', "BEGIN; SELECT FROM t WHERE id = 4 FOR KEY SHARE; PREPARE TRANSACTION 'slow'");
$node->restart;
$node->safe_psql('postgres', "CREATE TABLE many (n int) USING lightning; SELECT lightning_stop_point_set('compact:slice')");
$node->safe_psql('postgres', join(';', map { ("INSERT INTO many VALUES ($_)", "SELECT lightning_flush()") } 1 .. 38));
my $delays = 'SELECT write_delays > 0 FROM pg_stat_lightning_compaction';
$node->safe_psql('postgres', 'INSERT INTO many VALUES (0)') for 1 .. 2;
is($node->safe_psql('postgres', $delays), 't', 'writers are slowed down');
($rc, $out, $err) = $node->psql('postgres', q{SET statement_timeout = '5s'; UPDATE t SET v = -4 WHERE id = 4});
is($err, '', 'the row moves');
$node->safe_psql('postgres', "SELECT lightning_stop_point_release('compact:slice')");
($rc, $out, $err) = $node->psql('postgres', 'DELETE FROM t WHERE id = 4');
like($err, qr/lock timeout/, 'and so did the lock');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'slow'");

# ---- whose transaction id only a stored lock has in the log ----
$_ = $node->background_psql('postgres') for $s1, $s2;
my $y = $s2->query_safe('BEGIN; SELECT pg_current_xact_id()');
my $x = $s1->query_safe('BEGIN; SELECT pg_current_xact_id()');
cmp_ok($x, '>', $y, 'the holder is younger than who stores its locks');
$s1->query_safe('SELECT FROM wide WHERE id % 256 = 1 AND id < 512000 FOR UPDATE');
my $stored = "SELECT coalesce(sum(entries + memtable_keys), 0) FROM lightning_stat_stores() WHERE database = 0";
my $before = $node->safe_psql('postgres', $stored);
$s2->query_safe('SELECT FROM wide WHERE id % 256 = 2 FOR UPDATE');
cmp_ok($node->safe_psql('postgres', $stored), '>', $before + 1000, 'locks went to the store');
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
kill_server($node);
eval { $_->quit } for $s1, $s2;
$node->start;
$_ = $node->background_psql('postgres') for $s1, $s2;
cmp_ok($s1->query_safe('BEGIN; SELECT pg_current_xact_id()'), '>', $x, 'after a crash the holder\'s id is not used again');
$s2->query_safe('BEGIN; SELECT FROM wide WHERE id % 256 IN (3, 4) FOR NO KEY UPDATE');
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT FROM wide WHERE id % 256 = 1 FOR UPDATE SKIP LOCKED) x'),
	$node->safe_psql('postgres', 'SELECT count(*) FROM wide WHERE id % 256 = 1'), 'and the locks are gone');
$_->query_safe('ROLLBACK') for $s1, $s2;
$_->quit for $s1, $s2;

# ---- that is damaged: an error for who needs it, not the end of the server ----
$node->safe_psql('postgres', 'CHECKPOINT');
my %old = map { $_ => 1 } glob($node->data_dir . '/lightning/*.run');
$node->safe_psql('postgres', "BEGIN; SELECT FROM t WHERE id = 5 FOR UPDATE; PREPARE TRANSACTION 'damaged'");
$node->safe_psql('postgres', 'CHECKPOINT');
kill_server($node);
my @new = grep { !$old{$_} } glob($node->data_dir . '/lightning/*.run');
is(scalar @new, 1, 'there is a file with the lock');
unlink @new;
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), 10, 'tables can be read');
$node->safe_psql('postgres', 'INSERT INTO t VALUES (11, 11)');
($rc, $out, $err) = $node->psql('postgres', 'UPDATE t SET v = 0 WHERE id = 5');
like($err, qr/corrupted data/, 'whether a row is locked is not known');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'damaged'");
ok($node->poll_query_until('postgres', 'WITH u AS (UPDATE t SET v = 0 WHERE id = 5 RETURNING id) SELECT count(*) = 1 FROM u'), 'but does not matter when no transaction is prepared');
$node->stop;
done_testing();
