# The checkpoint gate: a checkpoint waits until what was logged before its redo
# point is in files, whoever dies and in whatever order.  Each shortcut that
# once lost rows is tried here.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('gate', conf => "lightning.memtable_size = '8MB'\nautovacuum = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning; CREATE TABLE t (a int) USING lightning');

my $rows = 0;

sub add_rows
{
	my ($n) = @_;
	$node->safe_psql('postgres', "INSERT INTO t SELECT generate_series(1, $n)");
	$rows += $n;
	return;
}

sub expect_rows
{
	my ($what) = @_;
	is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), $rows, $what);
	return;
}

# ---- a completed checkpoint means the rows are in files ----
add_rows(100);
$node->safe_psql('postgres', 'CHECKPOINT');
kill_server($node);
$node->start;
expect_rows('rows before a checkpoint survive a crash after it');

# ---- a gate that dies takes the server into recovery, never a checkpoint past it ----
for my $signal ('KILL', 'TERM', 'SEGV')
{
	add_rows(100);
	my $pid = worker_pid($node, 'lightning gate');
	if ($signal eq 'TERM')
	{
		# only the postmaster can ask it to leave
		kill $signal, $pid;
	}
	else
	{
		ok(crash_process($node, $pid, $signal), "the server comes back after SIG$signal to the gate");
	}
	$node->safe_psql('postgres', 'CHECKPOINT');
	kill_server($node);
	$node->start;
	expect_rows("rows survive SIG$signal to the gate, a checkpoint and a crash");
}

# ---- the end of the gate by pg_terminate_backend ----
add_rows(100);
$node->psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'lightning gate'");
$node->safe_psql('postgres', 'CHECKPOINT');
$node->stop('immediate');
$node->start;
expect_rows('rows survive pg_terminate_backend of the gate');

# ---- every kind of stop with rows in memory only ----
for my $mode ('fast', 'smart', 'immediate')
{
	add_rows(100);
	$node->stop($mode);
	$node->start;
	expect_rows("rows in memory survive a $mode stop");
}

# ---- a clean start right at the shutdown checkpoint, then a crash at once ----
add_rows(10);
$node->stop('fast');
$node->start;
kill_server($node);
$node->start;
expect_rows('a crash right after a clean start loses nothing');

# ---- two crashes in a row, with and without a checkpoint between ----
add_rows(10);
kill_server($node);
$node->start;
kill_server($node);
$node->start;
add_rows(10);
$node->safe_psql('postgres', 'CHECKPOINT');
add_rows(10);
kill_server($node);
$node->start;
expect_rows('crash after crash loses nothing');

# ---- checkpoints of a server on which the gate never comes up ----
# (a gate that is held at its begin stands for all that can come between the end of recovery and
# the gate's start, a stop request above all)
add_rows(10);
kill_server($node);
$ENV{LIGHTNING_STOP_POINT} = 'gate:begin';
$node->start;
expect_rows('rows can be read without a gate');
is($node->safe_psql('postgres', 'SELECT gate FROM pg_stat_lightning_background'), 'down', 'there is none');
for my $mode ('fast', 'immediate', 'immediate', 'fast')
{
	$node->stop($mode);
	$node->start;
}
$node->stop('fast');
delete $ENV{LIGHTNING_STOP_POINT};
$node->start;
add_rows(10);
expect_rows('a server without a gate leaves nothing that stops the next start');

# ---- the same after a crash with nothing to replay, and nothing in the log about it ----
$node->append_conf('postgresql.conf', 'log_min_messages = panic');
$node->restart;
add_rows(10);
$node->safe_psql('postgres', 'CHECKPOINT');
kill_server($node);
$ENV{LIGHTNING_STOP_POINT} = 'gate:begin';
for my $mode ('fast', 'immediate', 'immediate', 'fast')
{
	$node->start(fail_ok => 1) or last;
	expect_rows("a crash right behind a checkpoint, no gate, no messages; now $mode");
	$node->stop($mode);
}
delete $ENV{LIGHTNING_STOP_POINT};
$node->append_conf('postgresql.conf', 'log_min_messages = warning');
ok($node->start(fail_ok => 1), 'it starts with a gate') or BAIL_OUT('the server does not start');
add_rows(10);
expect_rows('and nothing is lost');

# ---- single-user mode, which has no gate, when there is nothing to replay ----
$node->stop('fast');
$node->start;
kill_server($node);
for (1, 2)
{
	my $sql = "SELECT 1;\n";
	IPC::Run::run([ 'postgres', '--single', '-D', $node->data_dir, 'postgres' ], '<', \$sql, '>', \my $out, '2>', \my $err);
}
$node->start;
expect_rows('single-user mode after a crash loses nothing');

# ---- the hammer: checkpoints back to back beside writers ----
setup_load($node, 100);
for my $cycle (1 .. 3)
{
	my $h = start_hammer($node);
	my $load = start_load($node, $cycle, seconds => 4, seed => $cycle);
	sleep 2;
	kill_server($node);
	finish_load($load);
	stop_hammer($h);
	$node->start;
	last unless verify_load($node, $load, "hammer $cycle");
}

# ---- files that nothing needs any more go away ----
$node->safe_psql('postgres', 'DROP TABLE t; SELECT lightning_flush(); CHECKPOINT; CHECKPOINT');
ok(wait_for_sql($node, "SELECT count(*) < 40 FROM pg_ls_dir('lightning')", 't'), 'obsolete files are removed');
$node->stop;
done_testing();
