# Slots of background workers: the server says how many it needs, takes none for
# merging while there is nothing to merge, and merges with as few as there are.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('workers', streaming => 1, conf => <<CONF);
autovacuum = off
lightning.compaction_workers = 2
lightning.space_limit = 10
CONF

sub set_slots
{
	my ($slots, $launcher) = @_;
	$node->append_conf('postgresql.conf',
		"max_worker_processes = $slots\nmax_logical_replication_workers = " . ($launcher ? 4 : 0));
	return;
}

# Flushes that must be merged: every row has new versions in each.
sub burden
{
	my ($rounds) = @_;
	$node->safe_psql('postgres', 'UPDATE w SET n = n + 1; SELECT lightning_flush()') for 1 .. $rounds;
	return;
}

sub merged
{
	my ($name) = @_;
	ok(wait_for_sql($node, "SELECT level0_runs <= 4 AND runs < 12 FROM pg_stat_lightning_runs WHERE relname = 'w'", 't'), "$name: all is merged")
	  or diag($node->safe_psql('postgres', 'SELECT * FROM pg_stat_lightning_runs'));
	is($node->safe_psql('postgres', 'SELECT count(*), sum(n - (SELECT min(n) FROM w)) FROM w'), '20000|0', "$name: the rows are right");
	return;
}

# ---- too few ----
for my $case ([ 0, 1, 2 ], [ 1, 1, 3 ], [ 2, 1, 3 ], [ 0, 0, 2 ], [ 1, 0, 2 ])
{
	my ($slots, $launcher, $needed) = @$case;
	my $from = -s $node->logfile // 0;
	set_slots($slots, $launcher);
	ok(!$node->start(fail_ok => 1), "$slots slots: the server does not start");
	my $log = substr(slurp_file($node->logfile), $from);
	like($log, qr/FATAL:  max_worker_processes is too low for lightning/, "$slots slots: says why");
	like($log, qr/Set max_worker_processes to at least $needed,/, "$slots slots: and what is needed ($needed)");
	$node->stop('immediate', fail_ok => 1);
}

# ---- none for merging ----
my $from = -s $node->logfile;
set_slots(3, 1);
$node->append_conf('postgresql.conf', "log_min_messages = log");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning; CREATE TABLE w (id int PRIMARY KEY, n int, pad text) USING lightning;'
	. "INSERT INTO w SELECT i, 0, md5(i::text) FROM generate_series(1, 20000) i");
burden(20);
merged('no slot');
is($node->safe_psql('postgres', 'SELECT compaction_workers FROM pg_stat_lightning_background'), '0', 'no slot: nobody is there to merge');
cmp_ok($node->safe_psql('postgres', 'SELECT worker_slots_missed FROM pg_stat_lightning_background'), '>', 0, 'no slot: the view counts that');
like(substr(slurp_file($node->logfile), $from), qr/lightning found no free slot for a compaction worker/, 'no slot: the log says so');
$node->stop;

# ---- one, and more than there may be ----
for my $slots (4, 8)
{
	set_slots($slots, 1);
	$node->start;
	burden(5);
	ok(wait_for_sql($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE 'lightning compaction worker%'", 't'),
		"$slots slots: a worker comes")
	  if $slots == 8;
	burden(10);
	merged("$slots slots");
	ok(wait_for_sql($node, "SELECT compaction_workers FROM pg_stat_lightning_background", '0'), "$slots slots: workers leave when nothing is to be done");
	last if $slots == 8;
	$node->stop;
}

# ---- parallel queries get what they get with heap ----
$node->safe_psql('postgres', 'CREATE TABLE p_heap (n int) USING heap; INSERT INTO p_heap SELECT generate_series(1, 50000);'
	. 'CREATE TABLE p_lt (n int) USING lightning; INSERT INTO p_lt SELECT generate_series(1, 50000); SELECT lightning_flush()');
ok(wait_for_sql($node, "SELECT compaction_workers FROM pg_stat_lightning_background", '0'), 'nothing to merge');
my %launched;
for my $table ('p_heap', 'p_lt')
{
	my $plan = $node->safe_psql('postgres', <<SQL);
SET max_parallel_workers_per_gather = 5;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
ALTER TABLE $table SET (parallel_workers = 5);
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT sum(n) FROM $table;
SQL
	($launched{$table}) = $plan =~ /Workers Launched: (\d+)/;
}
is($launched{p_lt}, $launched{p_heap}, 'parallel workers as with heap');
is($launched{p_lt}, 5, 'all that are left of 8 by the launcher, the gate and the flusher');

# ---- workers that are ended ----
$node->safe_psql('postgres', "ALTER SYSTEM SET lightning.compaction_rate_limit = '200kB'; SELECT pg_reload_conf()");
burden(5);
my $worker = "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'lightning compaction worker%' ORDER BY pid LIMIT 1";
ok(wait_for_sql($node, "SELECT count(*) > 0 FROM ($worker) w", 't'), 'a worker merges, slowly');
my $pid = $node->safe_psql('postgres', $worker);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok(wait_for_sql($node, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0'), 'it can be ended');
ok(wait_for_sql($node, "SELECT count(*) > 0 FROM ($worker) w", 't'), 'another one comes');
for my $mode ('fast', 'immediate', 'smart')
{
	burden(3);
	ok(wait_for_sql($node, "SELECT count(*) > 0 FROM ($worker) w", 't'), "$mode: a worker merges");
	$node->stop($mode);
	$node->start;
}
burden(3);
ok(wait_for_sql($node, "SELECT count(*) > 0 FROM ($worker) w", 't'), 'a worker to kill');
kill 'KILL', $node->safe_psql('postgres', $worker);
ok(wait_for_sql($node, 'SELECT gate FROM pg_stat_lightning_background', 'up'), 'killed: the server is up again');
$node->safe_psql('postgres', "ALTER SYSTEM RESET lightning.compaction_rate_limit; SELECT pg_reload_conf()");
burden(3);
merged('killed');

# ---- the number changes without a restart ----
$node->safe_psql('postgres', 'ALTER SYSTEM SET lightning.compaction_workers = 1; SELECT pg_reload_conf()');
is($node->safe_psql('postgres', 'SHOW lightning.compaction_workers'), '1', 'one worker is enough');
burden(10);
merged('one worker');
$node->stop;
done_testing();
