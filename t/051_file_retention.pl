# When replaced files go: at once if nobody copies the directory, never while a
# base backup runs, nor while somebody reads files by SQL; and pg_rewind of a running
# source that merges all the time.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('main', streaming => 1, conf => <<CONF);
autovacuum = off
checkpoint_timeout = 1h
max_wal_size = 4GB
wal_log_hints = on
wal_keep_size = 1GB
CONF
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE t (id int PRIMARY KEY, n int, pad text) USING lightning;
INSERT INTO t SELECT i, 0, md5(i::text) FROM generate_series(1, 50000) i;
SELECT lightning_flush();
SELECT lightning_compact('t', rewrite => true);
SQL

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Data files in the directory, seen without SQL.
sub files
{
	my ($n) = @_;
	$n //= $node;
	return scalar(() = glob($n->data_dir . '/lightning/*.run'));
}

sub in_use { return sql('SELECT files FROM pg_stat_lightning_files'); }

# Every file is replaced.
sub rewrite
{
	sql("UPDATE t SET n = n + 1 WHERE id % 10 = 0; SELECT lightning_flush(); SELECT lightning_compact('t', rewrite => true)");
}

sub files_become
{
	my ($what) = @_;
	for (1 .. 3000)
	{
		return pass($what) if files() == in_use();
		sleep 0.1;
	}
	return is(files(), in_use(), $what);
}

my $checkpoints = 'SELECT checkpoints_timed + checkpoints_req FROM pg_stat_bgwriter';
my $before = sql($checkpoints);
rewrite() for 1 .. 3;
files_become('replaced files go without a checkpoint');
is(sql($checkpoints), $before, 'there was none');

# ---- while a backup runs ----
my $backup = $node->background_psql('postgres');
$backup->query_safe("SELECT pg_backup_start('files stay', true)");
rewrite() for 1 .. 2;
sleep 1;
cmp_ok(files(), '>', in_use() + 1, 'files stay while a base backup runs');
sql('CHECKPOINT');
sleep 0.5;
cmp_ok(files(), '>', in_use() + 1, '... also when a checkpoint completes');
$backup->quit;
files_become('they go when it has ended, here by the end of its session');

# ---- a standby, and pg_rewind of the old primary from it while it runs ----
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
rewrite();
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
ok($standby->poll_query_until('postgres', "SELECT obsolete_files = 0 FROM pg_stat_lightning_files"),
	'replaced files go on a standby, too');
$standby->promote;
# the old primary goes its own way for a while
sql("UPDATE t SET n = -1 WHERE id < 1000; SELECT lightning_flush(); SELECT lightning_compact('t')");
$node->stop;

my $load = $standby->basedir . '/rewrite.sql';
append_to_file($load, <<'SQL');
\set id random(1, 49000)
UPDATE t SET n = n + 1 WHERE id BETWEEN :id AND :id + 999;
SELECT lightning_flush();
SELECT lightning_compact('t', rewrite => true);
SQL
my ($out, $err) = ('', '');
my $pgbench = IPC::Run::start([ 'pgbench', '-n', '-f', $load, '-c', 1, '-T', 600, '-h', $standby->host, '-p',
		$standby->port, 'postgres' ], '<', \undef, '>', \$out, '2>', \$err);
sleep 1;
my $conf = slurp_file($node->data_dir . '/postgresql.conf');
command_ok([ 'pg_rewind', '--target-pgdata', $node->data_dir, '--source-server',
		$standby->connstr('postgres'), '--no-sync' ], 'pg_rewind of a source that merges');
# (the source's configuration came along)
unlink $node->data_dir . '/postgresql.conf';
append_to_file($node->data_dir . '/postgresql.conf', $conf);
my $digest = 'SELECT count(*), sum(n), md5(string_agg(id || pad || n, $$,$$ ORDER BY id)) FROM t';
$pgbench->signal('TERM');
$pgbench->finish;
append_to_file($node->data_dir . '/postgresql.conf',
	"\nprimary_conninfo = '" . $standby->connstr . "'\nrecovery_target_timeline = 'latest'\n");
append_to_file($node->data_dir . '/standby.signal', '');
$node->start;
$standby->wait_for_catchup($node, 'replay', $standby->lsn('insert'));
is($node->safe_psql('postgres', $digest), $standby->safe_psql('postgres', $digest), 'the same rows on both');
check_clean($node, 'rewound');
is($node->safe_psql('postgres', 'SELECT count(*) FROM t WHERE n < 0'), '0', 'nothing of what was rewound');

# files were listed by SQL a moment ago
cmp_ok(files($standby), '>', $standby->safe_psql('postgres', 'SELECT files FROM pg_stat_lightning_files') + 1,
	'files stay while somebody may be copying');
$standby->safe_psql('postgres', 'UPDATE t SET n = n WHERE id = 1');
$standby->safe_psql('postgres', 'CHECKPOINT');
sleep 0.5;
cmp_ok(files($standby), '>', $standby->safe_psql('postgres', 'SELECT files FROM pg_stat_lightning_files') + 1,
	'... also when a checkpoint completes');
$standby->restart;
ok($standby->poll_query_until('postgres', 'SELECT obsolete_files = 0 FROM pg_stat_lightning_files'),
	'and go when nobody can be');
$_->stop for $node, $standby;
done_testing();
