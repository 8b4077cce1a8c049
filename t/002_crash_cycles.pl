# Kill everything that can be killed, in the middle of a load, again and again.
#
# LIGHTNING_CYCLES  number of cycles (default 30)
# LIGHTNING_SEED    first seed; a cycle is replayed with SEED=n CYCLES=1
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $cycles = $ENV{LIGHTNING_CYCLES} || 30;
my $seed = $ENV{LIGHTNING_SEED} || 1;

my @ways = (
	'kill server', 'kill backend', 'kill flusher', 'kill gate', 'terminate gate', 'stop fast',
	'stop smart', 'stop immediate', 'kill compaction', 'kill checkpointer');

my $node = new_node('crash');
$node->start;
setup_load($node);

my $any_acked = 0;
for my $cycle ($seed .. $seed + $cycles - 1)
{
	srand($cycle);
	my $way = $ways[ $cycle % @ways ];
	my $hammer = rand() < 0.6;
	my $delay = 0.3 + rand(1.5);
	my $what = "cycle $cycle: $way" . ($hammer ? ' under a checkpoint hammer' : '');
	my $h = $hammer ? start_hammer($node) : undef;
	my $load = start_load($node, $cycle, seed => $cycle, seconds => $way eq 'stop smart' ? 2 : 6,
		clients => 1 + int(rand(8)), protocol => rand() < 0.5 ? 'prepared' : 'simple');
	sleep $delay;
	hurt($node, $way);
	finish_load($load);
	stop_hammer($h) if $h;
	recover_from($node, $way);
	unless (wait_for_sql($node, 'SELECT 1', '1', 120))
	{
		fail("$what: server does not come back");
		last;
	}
	$any_acked += $_ for values %{ $load->{acked} };
	last unless verify_load($node, $load, $what);
}
cmp_ok($any_acked, '>', $cycles, 'the load did something');
$node->stop('fast');
done_testing();

sub hurt
{
	my ($n, $way) = @_;
	if ($way eq 'kill server') { kill_server($n); }
	elsif ($way =~ /^kill (\w+)/)
	{
		my %type = (
			backend => 'client backend', flusher => 'lightning flusher',
			gate => 'lightning gate', compaction => 'lightning compaction',
			checkpointer => 'checkpointer');
		my $pid = worker_pid($n, $type{$1});
		kill 'KILL', $pid if $pid;
	}
	elsif ($way eq 'terminate gate')
	{
		my $pid = worker_pid($n, 'lightning gate');
		$n->psql('postgres', "SELECT pg_terminate_backend($pid)") if $pid;
	}
	elsif ($way =~ /^stop (\w+)/) { $n->stop($1, fail_ok => 1); }
	return;
}

sub recover_from
{
	my ($n, $way) = @_;
	$n->start if $way eq 'kill server' || $way =~ /^stop/;
	return;
}
