# Hold a process at each dangerous place, let others work beside it, then kill
# the server there, or only the process, or let it go on.  Nothing may be lost,
# nothing seen twice, and a reader never waits for background work.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my @points = (
	'flush:start', 'run:before-sync', 'run:before-rename', 'run:after-rename', 'flush:before-publish',
	'publish:before-manifest', 'manifest:appended', 'publish:after-manifest', 'publish:after-swap', 'flush:done',
	'compact:start', 'compact:slice', 'compact:before-publish', 'compact:done', 'obsolete:before-remove');

my $node = new_node('stops', conf => "autovacuum = off\nlightning.memtable_count = 6\n");
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning_test CASCADE;
CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, filler text) USING lightning;
INSERT INTO t SELECT i, 0, repeat('x', 30) FROM generate_series(1, 2000) i;
SQL
my $updates = 0;
my $state = 'SELECT count(*), sum(n), count(DISTINCT id) FROM t';

sub update_all
{
	my ($times) = @_;
	for (1 .. $times)
	{
		$node->safe_psql('postgres', 'UPDATE t SET n = n + 1');
		$updates++;
	}
	return;
}

sub same
{
	my ($what) = @_;
	my $expected = '2000|' . 2000 * $updates . '|2000';
	my $seq = $node->safe_psql('postgres', "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off; $state");
	my $idx = $node->safe_psql('postgres', "SET enable_seqscan = off; SET enable_bitmapscan = off; $state WHERE id > 0");
	is("$seq $idx", "$expected $expected", $what);
	return;
}

for my $point (@points)
{
	for my $end ('release', 'kill server', 'kill process')
	{
		$node->safe_psql('postgres', "SELECT lightning_stop_point_set('$point')");
		# something to do for everybody: flushes, merges, files to remove
		my ($out, $err) = ('', '');
		my $h = IPC::Run::start(
			[ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', 'SELECT lightning_flush()',
				'-c', 'SELECT lightning_flush()', '-c', "SELECT lightning_compact('t')", '-c', 'CHECKPOINT', '-c', 'CHECKPOINT', 'postgres' ],
			'<', \undef, '>', \$out, '2>', \$err);
		my ($rc) = $node->psql('postgres', "SELECT lightning_stop_point_wait('$point')", timeout => 300);
		is($rc, 0, "somebody is held at $point");
		same("$point: right rows while it is held");
		update_all(1);
		same("$point: writing goes on beside it");
		if ($end eq 'release')
		{
			$node->safe_psql('postgres', "SELECT lightning_stop_point_release('$point')");
			eval { $h->finish; };
		}
		elsif ($end eq 'kill server')
		{
			kill_server($node);
			eval { $h->finish; };
			$node->start;
		}
		else
		{
			# any process of the server: the postmaster restarts them all
			crash_process($node, worker_pid($node, 'lightning flusher'));
			eval { $h->finish; };
		}
		same("$point: right rows after $end");
		update_all(1);
	}
}
check_clean($node, 'at the end');
$node->stop;
done_testing();
