# pgbench as it comes, on lightning tables: every built-in script, protocol and
# way to initialise, 1 to 32 clients, with primary and foreign keys; the TPC-B
# sums agree at any instant and after a crash.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('pgbench', conf => "default_table_access_method = 'heap'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning');
$node->append_conf('postgresql.conf', "default_table_access_method = 'lightning'\n");
$node->reload;

my @connect = ('-h', $node->host, '-p', $node->port, 'postgres');
my $sums = q{SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)
	AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches)
	AND (SELECT coalesce(sum(delta), 0) FROM pgbench_history) = (SELECT sum(bbalance) FROM pgbench_branches)};

for my $steps ('dtgvpf', 'dtGvpf')
{
	command_ok([ 'pgbench', '-i', '-s', 2, '-I', $steps, '-q', @connect ], "initialise with steps $steps");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM pgbench_accounts'), '200000', 'all accounts are there');
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE relname LIKE 'pgbench%' AND relkind = 'r' AND amname = 'lightning'"),
		'4', 'all four tables are lightning tables');
}

for my $script ('tpcb-like', 'simple-update', 'select-only')
{
	for my $protocol ('simple', 'extended', 'prepared')
	{
		my $clients = $script eq 'tpcb-like' ? 8 : 4;
		my @cmd = ('pgbench', '-n', '-b', $script, '-M', $protocol, '-c', $clients, '-j', 2, '-t', 200, @connect);
		my ($out, $err) = run_command(\@cmd);
		like($out, qr/number of failed transactions: 0 /, "$script, $protocol: no transaction fails");
	}
}

# simple-update leaves tellers and branches alone, so start the sums afresh
command_ok([ 'pgbench', '-i', '-s', 2, '-I', 'dtgvpf', '-q', @connect ], 'initialise again');
for my $clients (1, 2, 8, 32)
{
	my ($out, $err) = run_command([ 'pgbench', '-n', '-M', 'prepared', '-c', $clients, '-j', 2, '-T', 3, @connect ]);
	like($out, qr/number of failed transactions: 0 /, "TPC-B with $clients clients");
	is($node->safe_psql('postgres', $sums), 't', "the sums agree after $clients clients");
}

# at any instant
my $h = IPC::Run::start([ 'pgbench', '-n', '-c', 4, '-j', 2, '-T', 6, @connect ], '<', \undef, '>', \my $o, '2>', \my $e);
my $bad = 0;
for (1 .. 15)
{
	my $r = $node->safe_psql('postgres', $sums);
	$bad++ if $r ne 't';
	sleep 0.2;
}
$h->finish;
is($bad, 0, 'the sums agree at any instant');

# after a crash
$h = IPC::Run::start([ 'pgbench', '-n', '-c', 8, '-j', 2, '-T', 10, @connect ], '<', \undef, '>', \$o, '2>', \$e);
sleep 2;
kill_server($node);
eval { $h->finish; };
$node->start;
is($node->safe_psql('postgres', $sums), 't', 'the sums agree after a crash');
is($node->safe_psql('postgres', "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM pgbench_accounts WHERE aid > 0"),
	'200000', 'the primary key finds every account after the crash');
check_clean($node, 'after the crash');
$node->stop;
done_testing();
