# The TPC-C-like load of bench/tpcc, at read committed and at serializable, and
# over a crash: its consistency conditions hold.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $dir = ($ENV{LIGHTNING_TREE} // "$FindBin::Bin/..") . '/bench/tpcc';
plan skip_all => 'bench/tpcc is not here' unless -d $dir;

my $node = new_node('tpcc');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning');
my @size = ('warehouses=1', 'customers=100', 'items=500');
my @psql = ('psql', '-XAtq', '-d', $node->connstr('postgres'));
command_ok([ @psql, '-v', 'am=lightning', '-f', "$dir/schema.sql" ], 'schema');
command_ok([ @psql, (map { ('-v', $_) } @size), '-f', "$dir/load.sql" ], 'load');

sub pgbench
{
	my (@more) = @_;
	return ('pgbench', '-n', '-c', 4, '-j', 2, (map { ('-D', $_) } @size),
		'-f', "$dir/new_order.sql\@45", '-f', "$dir/payment.sql\@43", '-f', "$dir/order_status.sql\@4",
		'-f', "$dir/delivery.sql\@4", '-f', "$dir/stock_level.sql\@4", @more,
		'-h', $node->host, '-p', $node->port, 'postgres');
}

sub consistent
{
	my ($what) = @_;
	my ($out, $err) = run_command([ @psql, '-f', "$dir/check.sql" ]);
	is("$out$err", '', "consistent $what");
	return;
}

consistent('after the load');
command_ok([ pgbench('-t', 300) ], 'read committed');
consistent('after it');
{
	local $ENV{PGOPTIONS} = '-c default_transaction_isolation=serializable';
	command_ok([ pgbench('-t', 100, '--max-tries', 1000) ], 'serializable');
}
consistent('after it');

my ($out, $err) = ('', '');
my $h = IPC::Run::start([ pgbench('-T', 30) ], '<', \undef, '>', \$out, '2>', \$err);
sleep 2;
kill_server($node);
$h->finish;
$node->start;
consistent('after a crash');
is($node->safe_psql('postgres', 'SELECT count(*) FROM lightning_check_all(index => true)'), 0, 'nothing is wrong');
$node->stop;
done_testing();
