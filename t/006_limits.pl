# Bounded memory, large transactions, small memory: nothing grows, nothing waits
# for ever.  LIGHTNING_BIG=10000000 for the full size (make soak).
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $big = $ENV{LIGHTNING_BIG} || 1_000_000;
my $node = new_node('limits');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning');
my @connect = ('-h', $node->host, '-p', $node->port, 'postgres');

# Anonymous memory of a process, in kB.
sub anon_kb
{
	my ($pid) = @_;
	open(my $f, '<', "/proc/$pid/status") or return 0;
	my ($kb) = map { /^RssAnon:\s+(\d+)/ ? $1 : () } <$f>;
	close $f;
	return $kb // 0;
}

# ---- a backend's memory after many statements ----
$node->safe_psql('postgres', <<SQL);
CREATE TABLE m (id int PRIMARY KEY, a int, b text) USING lightning;
INSERT INTO m SELECT i, i, 'x' || i FROM generate_series(1, 10000) i;
SQL
my $script = $node->basedir . '/statements.sql';
append_to_file($script, <<SQL);
\\set id random(1, 10000)
UPDATE m SET a = a + 1 WHERE id = :id;
SELECT b FROM m WHERE id = :id;
INSERT INTO m SELECT max(id) + 1, 0, 'new' FROM m WHERE id > 9000;
SELECT count(*) FROM m WHERE id BETWEEN :id AND :id + 20;
SQL
my $transactions = $big >= 10_000_000 ? 250_000 : 30_000;
my $h = IPC::Run::start([ 'pgbench', '-n', '-f', $script, '-c', 1, '-t', $transactions, '-M', 'prepared', @connect ],
	'<', \undef, '>', \my $o, '2>', \my $e);
my $pid;
for (1 .. 2000)
{
	$pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1");
	last if $pid;
	sleep 0.05;
}
wait_for_sql($node, 'SELECT sum(a) > 50005000 + 2000 FROM m WHERE id <= 10000', 't');
my $early = anon_kb($pid);
my $late = $early;
while ($h->pumpable)
{
	my $now = anon_kb($pid);
	last if $now == 0;
	$late = $now;
	sleep 0.2;
	eval { $h->pump_nb; };
}
eval { $h->finish; };
cmp_ok($early, '>', 0, 'the backend was seen') or diag("pid $pid: $e");
cmp_ok($late, '<', $early + 4096, "a backend's memory does not grow over statements ($early kB, later $late kB)");

# ---- a transaction far larger than the memtable ----
$node->safe_psql('postgres', 'CREATE TABLE large (id bigint, filler text) USING lightning');
$node->safe_psql('postgres', "INSERT INTO large SELECT i, 'row ' || i FROM generate_series(1, $big) i");
is($node->safe_psql('postgres', 'SELECT count(*), sum(id) FROM large'),
	"$big|" . ($big * ($big + 1) / 2), "a transaction of $big rows with four arenas of 1 MB");
$node->safe_psql('postgres', "BEGIN; INSERT INTO large SELECT i, 'never' FROM generate_series(1, 200000) i; UPDATE large SET filler = 'never' WHERE id <= 100000; ROLLBACK");
is($node->safe_psql('postgres', "SELECT count(*), sum(id), count(*) FILTER (WHERE filler = 'never') FROM large"),
	"$big|" . ($big * ($big + 1) / 2) . '|0', 'and one that is rolled back');
is($node->safe_psql('postgres', 'BEGIN; DELETE FROM large WHERE id % 2 = 0; SELECT count(*) FROM large; ROLLBACK; SELECT count(*) FROM large'),
	int(($big + 1) / 2) . "\n$big", 'a transaction sees its own deletions beyond the memtable');

# ---- an idle cursor pins neither memory nor files ----
my ($in, $out, $err) = ('', '', '');
my $timer = IPC::Run::timeout(600);
my $psql = IPC::Run::start([ 'psql', '-XAtq', @connect ], '<', \$in, '>', \$out, '2>', \$err, $timer);
$in .= "BEGIN; DECLARE c CURSOR FOR SELECT id FROM large; FETCH 10 FROM c; SELECT 'open';\n";
$psql->pump until $out =~ /open/;
$node->safe_psql('postgres', "UPDATE large SET filler = filler || '!' WHERE id <= 200000");
$node->safe_psql('postgres', "SELECT lightning_compact('large')");
$out = '';
$in .= "MOVE FORWARD ALL IN c; SELECT 'rest=' || (SELECT count(*) FROM large WHERE filler NOT LIKE '%!'); COMMIT;\n\\q\n";
eval { $psql->finish; };
my ($moved) = $out =~ /rest=(\d+)/;
is($moved, $big - 200000, 'writers go on beside an idle cursor');
is($err, '', 'and the cursor reads on');

# ---- the cursor's own rows ----
$in = $out = $err = '';
$psql = IPC::Run::start([ 'psql', '-XAtq', @connect ], '<', \$in, '>', \$out, '2>', \$err, $timer);
$in .= "BEGIN ISOLATION LEVEL REPEATABLE READ; DECLARE c CURSOR FOR SELECT filler FROM large WHERE id <= 300000; FETCH 1 FROM c; SELECT 'open';\n";
$psql->pump until $out =~ /open/;
$node->safe_psql('postgres', "UPDATE large SET filler = 'third' WHERE id <= 300000");
$node->safe_psql('postgres', 'SELECT lightning_flush()');
$node->safe_psql('postgres', "SELECT lightning_compact('large')");
$out = '';
$in .= "FETCH ALL FROM c; COMMIT;\n\\q\n";
eval { $psql->finish; };
my @rows = split /\n/, $out;
is(scalar(grep { $_ eq 'third' } @rows), 0, 'an old snapshot sees no later row');
is(scalar(@rows), 299999, 'and all of its own');

# ---- files of what was deleted come back ----
$node->safe_psql('postgres', 'DELETE FROM large WHERE id > 1000');
$node->safe_psql('postgres', 'VACUUM large');
$node->safe_psql('postgres', "SELECT lightning_compact('large')");
cmp_ok($node->safe_psql('postgres', "SELECT lightning_relation_size('large')"), '<', 200_000, 'a table that was emptied is small');

# ---- a role's temporary tables ----
$node->safe_psql('postgres', "CREATE ROLE bounded LOGIN; ALTER ROLE bounded SET lightning.temp_table_limit = '2MB'; GRANT CREATE ON SCHEMA public TO bounded");
my $many = "SELECT i, md5(i::text) || md5((-i)::text) || md5(i::text || 'x') FROM generate_series(1, 300000) i";
my $over = qr/temporary table size exceeds lightning.temp_table_limit \(2048kB\)/;
sub as_bounded
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-U', 'bounded', '-v', 'VERBOSITY=verbose' ], on_error_stop => 0);
	return ($out, $err);
}
my $temp = 'CREATE TEMP TABLE t (i int, filler text) USING lightning;';
my ($bout, $berr) = as_bounded("$temp INSERT INTO t $many");
like($berr, qr/53400: +$over/, 'a role has a limit for temporary tables');
($bout, $berr) = as_bounded("SET default_table_access_method = lightning; CREATE TEMP TABLE t AS $many");
like($berr, $over, 'CREATE TEMP TABLE AS');
($bout, $berr) = as_bounded("$temp INSERT INTO t SELECT i, 'x' FROM generate_series(1, 1000) i; UPDATE t SET filler = md5((random() * i)::text) || md5(random()::text) FROM generate_series(1, 300) k WHERE i < 0;"
	. "CREATE TEMP TABLE u (i int, filler text) USING lightning; INSERT INTO u $many LIMIT 10000; SELECT count(*) FROM u");
is("$bout|$berr", '10000|', 'less is no error');
($bout, $berr) = as_bounded("$temp INSERT INTO t $many; TRUNCATE t; INSERT INTO t VALUES (1, 'x'); SELECT count(*) FROM t;"
	. " INSERT INTO t $many; DROP TABLE t; $temp INSERT INTO t VALUES (1, 'x'); SELECT count(*) FROM t");
is($bout, "1\n1", 'TRUNCATE and DROP make room');
is(() = $berr =~ /$over/g, 2, 'and the limit holds again');
($bout, $berr) = as_bounded('SET lightning.temp_table_limit = -1');
like($berr, qr/permission denied to set parameter "lightning.temp_table_limit"/, 'it cannot lift it');
($bout, $berr) = as_bounded("CREATE TABLE plain (i int, filler text) USING lightning; INSERT INTO plain $many; DROP TABLE plain; SELECT 1");
is("$bout|$berr", '1|', 'other tables are not limited');

# ---- more connections after a restart ----
$node->stop;
$node->append_conf('postgresql.conf', "max_connections = 120\nlightning.memtable_count = 2\nlightning.cache_size = '2MB'");
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM large'), '1000', 'other settings after a restart, same rows');
my ($rc) = run_command([ 'pgbench', '-n', '-f', $script, '-c', 60, '-j', 2, '-t', 20, @connect ]);
is($node->safe_psql('postgres', 'SELECT count(*) > 10000 FROM m'), 't', 'sixty clients with two arenas');
check_clean($node, 'at the end');
$node->stop;
done_testing();
