# Out of space and failing disks, injected at every kind of file operation:
# statements wait or fail cleanly, nothing is lost, service returns.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('faults', conf => "autovacuum = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning_test CASCADE');
setup_load($node, 200);

# ---- once, at the n-th operation, under load: nobody notices ----
my $cycle = 0;
for my $op ('write', 'sync', 'rename')
{
	for my $error ('ENOSPC', 'EIO')
	{
		for my $nth (1, 2, 5)
		{
			$cycle++;
			$node->safe_psql('postgres', "SELECT lightning_fault_set('$op', '$error', $nth, false)");
			my $load = start_load($node, $cycle, seconds => 1, seed => $cycle);
			$node->psql('postgres', 'SELECT lightning_flush()');
			finish_load($load);
			for (1 .. 50)
			{
				my ($rc) = $node->psql('postgres', 'SELECT lightning_flush(); SELECT lightning_compact(c.oid) FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE amname = $$lightning$$');
				last if $rc == 0 && $node->safe_psql('postgres', 'SELECT lightning_fault_clear()') eq 'f';
				sleep 0.05;
			}
			verify_load($node, $load, "$op number $nth fails once with $error");
		}
	}
}

# ---- a full disk that stays full, and then has space again ----
for my $error ('ENOSPC', 'EIO')
{
	$cycle++;
	my $before = -s $node->logfile;
	$node->safe_psql('postgres', "SELECT lightning_fault_set('write', '$error', 1, true)");
	my $load = start_load($node, $cycle, seconds => 5, seed => $cycle);
	# fails, which is what writers and workers meet meanwhile
	$node->psql('postgres', 'SELECT lightning_flush()');
	is($node->safe_psql('postgres', 'SELECT count(*) > 0 FROM account'), 't', "$error: reading goes on");
	$node->safe_psql('postgres', 'SELECT lightning_fault_clear()');
	finish_load($load);
	verify_load($node, $load, "the disk fails for a while with $error");
	my $log = substr(slurp_file($node->logfile), $before);
	like($log, $error eq 'ENOSPC' ? qr/No space left on device/ : qr/Input\/output error/, 'and the log says so');
}

# ---- crash while the disk is full: recovery needs no space that is not there ----
$cycle++;
$node->safe_psql('postgres', "SELECT lightning_fault_set('write', 'ENOSPC', 1, true)");
my $load = start_load($node, $cycle, seconds => 6, seed => $cycle);
sleep 2;
kill_server($node);
finish_load($load);
$node->start;
verify_load($node, $load, 'a crash while the disk is full');

# ---- a checkpoint does not pass while rows cannot be written ----
$node->safe_psql('postgres', "CREATE TABLE c (a int) USING lightning; INSERT INTO c SELECT generate_series(1, 100)");
$node->safe_psql('postgres', "SELECT lightning_fault_set('sync', 'EIO', 1, true)");
my $redo = $node->safe_psql('postgres', 'SELECT redo_lsn FROM pg_control_checkpoint()');
my $h = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', 'CHECKPOINT', 'postgres' ], '<', \undef, '>', \my $o, '2>', \my $e);
sleep 2;
is($node->safe_psql('postgres', 'SELECT redo_lsn FROM pg_control_checkpoint()'), $redo, 'no checkpoint completes while files cannot be synced');
kill_server($node);
eval { $h->finish; };
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM c'), '100', 'and so nothing is lost');

# ---- nor does a stop wait for space that does not come ----
$node->safe_psql('postgres', "INSERT INTO c SELECT generate_series(101, 200); SELECT lightning_fault_set('write', 'ENOSPC', 1, true)");
$h = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', 'CHECKPOINT', 'postgres' ], '<', \undef, '>', \$o, '2>', \$e);
sleep 2;
ok(system('pg_ctl', '-D', $node->data_dir, '-m', 'fast', '-t', 300, '-s', 'stop') == 0, 'a server with a full disk and a checkpoint that waits can be stopped');
$node->_update_pid(-1);
eval { $h->finish; };
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM c'), '200', 'and recovers what it could not write');
check_clean($node, 'at the end');
$node->stop;
done_testing();
