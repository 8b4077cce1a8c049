# Corners of recovery that once went wrong.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

sub slurp_stat
{
	open(my $f, '<', "/proc/$_[0]/stat") or return '';
	return scalar(<$f>) // '';
}

my $node = new_node('corners', conf => "log_min_messages = debug1\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning_test CASCADE');
$node->safe_psql('postgres',
	"CREATE TABLE t (a int PRIMARY KEY, b text) USING lightning;
	 INSERT INTO t SELECT i, repeat('x', 100) || i FROM generate_series(1, 100) i");
$node->safe_psql('postgres', 'SELECT lightning_flush()');
my $query = 'SELECT count(*), md5(string_agg(a || b, chr(10) ORDER BY a)) FROM t';
my $before = $node->safe_psql('postgres', $query);

# ---- a version that the log builds on is in files, and is dropped as aborted ----
my $session = $node->background_psql('postgres');
$session->query_safe("BEGIN; UPDATE t SET b = b || 'first' WHERE a <= 10");
$node->safe_psql('postgres', 'SELECT lightning_flush()');
$session->query_safe("UPDATE t SET b = b || 'second' WHERE a <= 10");
$session->query_safe('UPDATE t SET a = a + 1000 WHERE a <= 10');
$session->query_safe('ROLLBACK');
$session->quit;

# a flush would take the second version along
$node->safe_psql('postgres', "SELECT lightning_compact('t', false)");
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', $query), $before, 'an aborted update of an aborted update');
like(slurp_file($node->logfile), qr/must have aborted/, 'its base was gone');
check_clean($node, 'after it');

# ---- the same, and an older file has another version with the tag of the base ----
sub hold { $node->safe_psql('postgres', "SELECT lightning_stop_point_set('$_[0]')"); }
my $update = 'UPDATE u SET n = n + 1, b = md5(b) || md5(b || 1) WHERE a = 1';
$node->safe_psql('postgres',
	"CREATE TABLE u (a int PRIMARY KEY, n int, b text) USING lightning;
	 INSERT INTO u SELECT 1, 0, repeat('x', 64)");
hold('compact:start');
$node->safe_psql('postgres', "$update; SELECT lightning_flush()");
$node->safe_psql('postgres', "$update;\n" x 126 . 'SELECT lightning_flush()');
my $row = $node->safe_psql('postgres', 'SELECT * FROM u');
$session = $node->background_psql('postgres');
$session->query_safe("BEGIN; $update");
hold('flush:start');
my $flush = $node->background_psql('postgres', on_error_stop => 0);
$flush->query_until(qr/go/, "\\echo go\nSELECT lightning_flush();\n");
$node->safe_psql('postgres', "SELECT lightning_stop_point_wait('flush:start')");
$session->query_safe('UPDATE u SET n = n + 1 WHERE a = 1');
$session->query_safe('ROLLBACK');
$session->quit;
$node->safe_psql('postgres', "SELECT lightning_stop_point_release('flush:start')");
$flush->quit;
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', 'SELECT * FROM u'), $row, 'an aborted update of an update that is gone, and tags that come again');
check_clean($node, 'after that');

# ---- the postmaster dies while the checkpointer waits for the gate ----
$node->safe_psql('postgres', "SELECT lightning_stop_point_set('gate:flush')");
$node->safe_psql('postgres', "UPDATE t SET b = b || 'kept'");
$before = $node->safe_psql('postgres', $query);
my $checkpoint = $node->background_psql('postgres', on_error_stop => 0);
$checkpoint->query_until(qr/go/, "\\echo go\nCHECKPOINT;\n");
$node->safe_psql('postgres', "SELECT lightning_stop_point_wait('gate:flush')");
my $pm = $node->{_pid};
my @children = grep { $_ != $pm } Lightning::server_pids($pm);
kill 'KILL', $pm;
my $left;
for (1 .. 3000)
{
	$left = grep { slurp_stat($_) =~ /\) [^ZX]/ } @children;
	last unless $left;
	sleep 0.1;
}
is($left, 0, 'every process leaves when the postmaster has died');
$node->{_pid} = undef;
unlink $node->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock';
$node->start;
is($node->safe_psql('postgres', $query), $before, 'the server starts again, with every row');
$node->stop;

done_testing();
