# Tables that have used many row ids: their block numbers lie beyond the first
# segment of any fork (131,072 blocks), where prefetching a block is an error.
# Everything that prefetches: bitmap scans, serial and parallel, started by the
# executor and by EvalPlanQual, and ANALYZE.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $node = new_node('late_row_ids', conf => "effective_io_concurrency = 100\nmaintenance_io_concurrency = 100\nautovacuum = off");
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE EXTENSION lightning_test;
CREATE TABLE late (id int, a int, v text) USING lightning;
CREATE INDEX late_a ON late (a);
CREATE TABLE target (id int PRIMARY KEY, v bigint) USING lightning;
CREATE TABLE target_heap (id int PRIMARY KEY, v bigint) USING heap;
INSERT INTO target VALUES (1, 0), (2, 0);
INSERT INTO target_heap VALUES (1, 0), (2, 0);
SQL
# 20 groups of blocks, between them 8,000,000 ids each
for my $i (0 .. 19)
{
	$node->safe_psql('postgres', "INSERT INTO late SELECT i, i % 10, 'row ' || i FROM generate_series($i * 1000 + 1, $i * 1000 + 1000) i; SELECT lightning_skip_row_ids('late', 8000000)");
}
is($node->safe_psql('postgres', "SELECT max((ctid::text::point)[0])::int > 131072 * 4 FROM late"), 't', 'block numbers are large');

my $bitmap = 'SET enable_seqscan = off; SET enable_indexscan = off;';
is($node->safe_psql('postgres', "$bitmap SELECT count(*), sum(id) FROM late WHERE a = 3"),
	$node->safe_psql('postgres', 'SET enable_bitmapscan = off; SET enable_indexscan = off; SELECT count(*), sum(id) FROM late WHERE a = 3'), 'a bitmap scan');
like($node->safe_psql('postgres', "$bitmap EXPLAIN SELECT count(*), sum(id) FROM late WHERE a = 3"), qr/Bitmap Heap Scan/, '... was one');
my $parallel = "$bitmap SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET min_parallel_index_scan_size = 0;";
like($node->safe_psql('postgres', "$parallel EXPLAIN SELECT count(*), sum(id) FROM late WHERE a < 5"), qr/Parallel Bitmap Heap Scan/, 'a parallel one');
is($node->safe_psql('postgres', "$parallel SELECT count(*), sum(id) FROM late WHERE a < 5"), '10000|99990000', '... sees the same');
is($node->safe_psql('postgres', "SET work_mem = 64; $bitmap SELECT count(*), sum(id) FROM late WHERE a >= 0"), '20000|200010000', 'a lossy one');
is(($node->psql('postgres', 'ANALYZE late'))[2], '', 'ANALYZE');
is($node->safe_psql('postgres', "SELECT reltuples FROM pg_class WHERE relname = 'late'"), '20000', '... counts the rows');
$node->safe_psql('postgres', 'CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$BEGIN ANALYZE late; END$$; SELECT f()');

# A row that is locked, changes, and is looked at again with a plan of its own
sub recheck
{
	my ($table, $statement, $what) = @_;
	my ($in, $out, $err) = ('', '', '');
	my ($in2, $out2, $err2) = ('', '', '');
	my @connect = ('psql', '-XAtq', '-h', $node->host, '-p', $node->port, 'postgres');
	my $first = IPC::Run::start(\@connect, '<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout(180));
	$in = "BEGIN; UPDATE $table SET v = v + 1 WHERE id = 1; SELECT 'locked';\n";
	$first->pump until $out =~ /locked/;
	my $second = IPC::Run::start(\@connect, '<', \$in2, '>', \$out2, '2>', \$err2, IPC::Run::timeout(180));
	$in2 = "SET application_name = second; $bitmap $statement;\n\\q\n";
	$second->pump_nb;
	my $waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'second' AND wait_event_type = 'Lock'";
	for (1 .. 1800)
	{
		$second->pump_nb;
		last if $node->safe_psql('postgres', $waits) eq '1';
		Time::HiRes::usleep(100_000);
	}
	is($node->safe_psql('postgres', $waits), '1', "$what: waits for the row");
	$in = "COMMIT;\n\\q\n";
	$first->finish;
	$second->finish;
	is($err2, '', "$what: no error");
	is($out2, "3\n", "$what: result");
	$node->safe_psql('postgres', "UPDATE $table SET v = 0");
	return;
}

# (the result is 3: the row's new version has v = 1, and two is added)
my $subplan = '(SELECT count(*) FROM late WHERE a = 3 AND late.id > target.v) > 1000';
for my $table ('target', 'target_heap')
{
	recheck($table, "UPDATE $table target SET v = v + 2 WHERE id = 1 AND $subplan RETURNING v", "UPDATE of $table");
	recheck($table, "SELECT v + 2 FROM $table target WHERE id = 1 AND $subplan FOR UPDATE", "SELECT FOR UPDATE of $table");
	recheck($table, "UPDATE $table target SET v = target.v + 2 FROM (SELECT a, count(*) AS n FROM late WHERE a = 3 GROUP BY a) l WHERE target.id = 1 AND l.n > target.v RETURNING target.v", "UPDATE FROM of $table");
	recheck($table, "MERGE INTO $table target USING (VALUES (1)) s(id) ON target.id = s.id WHEN MATCHED AND $subplan THEN UPDATE SET v = v + 2; SELECT v FROM $table WHERE id = 1", "MERGE of $table");
}
check_clean($node, 'at the end');
$node->stop;
done_testing();
