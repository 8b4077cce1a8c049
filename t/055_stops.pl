# Stopping the server: signals that come late, and all kinds of stops, again and
# again, with sessions and writers at work.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{LIGHTNING_STOPS} // 8;
my $node = new_node('stops', streaming => 1, conf => "autovacuum = off\n");
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning_test CASCADE;
CREATE TABLE t (id int PRIMARY KEY, n int) USING lightning;
INSERT INTO t SELECT i, 0 FROM generate_series(1, 1000) i;
SQL

# What the control file and the log say of a stop.
sub stopped_well
{
	my ($mode, $offset) = @_;
	my ($control, $err) = run_command([ 'pg_controldata', $node->data_dir ]);
	my ($state) = $control =~ /cluster state: +(.*)/;
	my $log = slurp_file($node->logfile, $offset);
	my @bad = $log =~ /^.*(?:TRAP|PANIC|terminated by signal|no shutdown checkpoint|could not write its data|abnormal).*$/mg;

	return 1 if !@bad && ($mode eq 'immediate' || $state eq 'shut down');
	diag(join "\n", "$mode stop: $state", @bad);
	return 0;
}

# ---- SIGTERM for a gate that is about to end ----
# The postmaster sends it more than once.  A walsender's session outlives all others.
{
	my $offset = -s $node->logfile;
	my $walsender = $node->background_psql('postgres', replication => 'database');
	my $gate = worker_pid($node, 'lightning gate');

	$walsender->query_safe("SELECT lightning_stop_point_set('gate:left')");
	kill 'INT', $node->{_pid};
	$walsender->query_safe("SELECT lightning_stop_point_wait('gate:left')");
	kill 'TERM', $gate for 1 .. 2;
	eval { $walsender->query("SELECT lightning_stop_point_release('gate:left')"); };
	$node->stop('fast', fail_ok => 1);
	eval { $walsender->quit; };
	ok(stopped_well('fast', $offset), 'a gate without session gets SIGTERM');
	$node->start;
}

# ---- all kinds of stops ----
my $write = $node->basedir . '/write.sql';
append_to_file($write, "\\set id random(1, 1000)\nUPDATE t SET n = n + 1 WHERE id = :id;\nBEGIN;\nCREATE TEMP TABLE x (id int) USING lightning ON COMMIT DROP;\nINSERT INTO x VALUES (1);\nCOMMIT;\n");
my $good = 0;
for my $round (1 .. $rounds)
{
	for my $mode ('fast', 'immediate', 'fast', 'smart')
	{
		my $offset = -s $node->logfile;
		my @connect = ('-h', $node->host, '-p', $node->port, 'postgres');
		my ($out, $err) = ('', '');
		my $load = IPC::Run::start([ 'pgbench', '-n', '-f', $write, '-c', 3, $mode eq 'smart' ? ('-t', 20) : ('-T', 60), @connect ],
			'<', \undef, '>', \$out, '2>', \$err);
		# no earlier than the first change
		my $before = $node->safe_psql('postgres', 'SELECT sum(n) FROM t');
		wait_for_sql($node, "SELECT sum(n) > $before FROM t", 't') or last;
		$node->stop($mode);
		eval { $load->finish; };
		$good += stopped_well($mode, $offset);
		$node->start;
	}
}
is($good, 4 * $rounds, 'all stops went well');
is($node->safe_psql('postgres', 'SELECT * FROM lightning_check_all(index => true)'), '', 'nothing to complain about');
$node->stop;
done_testing();
