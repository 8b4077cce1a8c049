# Who wrote a row: xmin of a lightning table is what it is of a heap table with the same
# rows, whatever was flushed, merged, settled, copied, replayed; so are the answers of
# functions that take it, and those who use it as the version number of a row (as
# object-relational mappers do) lose no update.
#
# LIGHTNING_SEED repeats a run, LIGHTNING_STEPS sets the number of transactions per round.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{LIGHTNING_SEED} // int(time) ^ $$;
my $steps = $ENV{LIGHTNING_STEPS} // 150;
srand($seed);
note("seed $seed, $steps transactions per round");

my $node = new_node('primary', streaming => 1, conf => <<CONF);
autovacuum = off
track_commit_timestamp = on
max_parallel_workers_per_gather = 0
min_parallel_table_scan_size = 0
parallel_setup_cost = 0
parallel_tuple_cost = 0
CONF
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE l (id int PRIMARY KEY, n int, k int, p text) USING lightning;
CREATE TABLE h (LIKE l INCLUDING INDEXES) USING heap;
CREATE INDEX l_k ON l (k);
CREATE INDEX h_k ON h (k);
BEGIN;
INSERT INTO l SELECT g, 0, g, repeat('x', g % 90) FROM generate_series(1, 3000) g;
INSERT INTO h SELECT g, 0, g, repeat('x', g % 90) FROM generate_series(1, 3000) g;
COMMIT;
SQL
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;

# ---- changes, the same to both tables in one transaction ----

my $rows = 3000;

sub one { return 1 + int(rand($rows)); }

sub for_both
{
	my ($sql) = @_;
	return join('; ', map { (my $x = $sql) =~ s/TAB/$_/g; $x } qw(l h));
}

# A statement for both.
sub change
{
	my $id = one();
	my $what = rand();
	my ($last, $v) = ($id + int(rand(rand() < 0.1 ? 200 : 3)), int(rand(1000000)));
	my $sql =
	    $what < 0.35 ? "UPDATE TAB SET n = n + 1 WHERE id = $id"
	  : $what < 0.50 ? "UPDATE TAB SET k = $v WHERE id = $id"
	  : $what < 0.60 ? "UPDATE TAB SET p = repeat('y', $v % 120), n = n - 1 WHERE id BETWEEN $id AND $last"
	  : $what < 0.75 ? "INSERT INTO TAB VALUES ($id, $v, $v, 'c') ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n"
	  : $what < 0.80 ? "INSERT INTO TAB VALUES ($id, $v, $v, 'd') ON CONFLICT DO NOTHING"
	  : $what < 0.85 ? "SELECT count(*) FROM (SELECT 1 FROM TAB WHERE id = $id FOR UPDATE) x"
	  : $what < 0.90 ? "DELETE FROM TAB WHERE id BETWEEN $id AND $last"
	  :                "INSERT INTO TAB SELECT g, $v, $v, 'i' FROM generate_series($rows + 1, $rows + 1 + $v % 5) g";
	$rows += 1 + $v % 5 if $what >= 0.90;
	return for_both($sql) . ";\n";
}

sub transaction
{
	my $sql = "BEGIN;\n" . change();

	while (rand() < 0.4)
	{
		my $what = rand();
		$sql .= "SAVEPOINT s;\n" if $what < 0.3;
		$sql .= change();
		$sql .= "ROLLBACK TO s;\n" if $what < 0.1;
		$sql .= "RELEASE s;\n" if $what >= 0.1 && $what < 0.2;
	}
	return $sql . (rand() < 0.15 ? "ROLLBACK;\n" : "COMMIT;\n");
}

sub copy_in
{
	my ($rows_text, $id) = ('', $rows + 1);
	$rows_text .= "$_\t0\t$_\tcopied\n" for $id .. $id + 299;
	$rows = $id + 299;
	return "BEGIN;\n" . join('', map { "COPY $_ FROM stdin;\n$rows_text\\.\n" } qw(l h)) . "COMMIT;\n";
}

sub changes
{
	my $sql = '';
	$sql .= rand() < 0.02 ? copy_in() : transaction() for 1 .. $steps;
	$node->safe_psql('postgres', $sql);
	return;
}

# ---- what must be alike ----

my %way = (
	'sequential scans' => 'SET enable_hashjoin = on',
	'index scans' => 'SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off',
	'ordered index scans' => 'SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_nestloop = off',
	'bitmap scans' => 'SET enable_seqscan = off; SET enable_indexscan = off; SET enable_indexonlyscan = off',
	'parallel scans' => 'SET max_parallel_workers_per_gather = 2');

sub alike
{
	my ($what, $server) = @_;
	$server //= $node;
	for my $way (sort keys %way)
	{
		my $sql = <<SQL;
$way{$way};
SELECT count(*), count(*) FILTER (WHERE l.xmin IS DISTINCT FROM h.xmin)
	|| ' ' || coalesce(min(l.id || ':' || l.xmin::text || '/' || h.xmin::text) FILTER (WHERE l.xmin IS DISTINCT FROM h.xmin), '')
FROM (SELECT xmin, * FROM l WHERE id > 0 AND k > -1) l FULL JOIN (SELECT xmin, * FROM h WHERE id > 0 AND k > -1) h USING (id);
SQL
		my $answer = $server->safe_psql('postgres', $sql);
		return fail("$what, $way, seed $seed: $answer") unless $answer =~ /^\d+\|0 $/;
	}
	my $functions = <<SQL;
SELECT count(*) FILTER (WHERE age(l.xmin) <> age(h.xmin)
	OR pg_xact_commit_timestamp(l.xmin) IS DISTINCT FROM pg_xact_commit_timestamp(h.xmin)
	OR pg_xact_commit_timestamp(l.xmin) IS NULL)
FROM l JOIN h USING (id);
SELECT count(*) FROM (SELECT xmin, id FROM l WHERE age(xmin) < 100 EXCEPT SELECT xmin, id FROM h) x;
DO \$\$ DECLARE r record; s xid; BEGIN
	FOR r IN SELECT xmin, l AS whole, * FROM l ORDER BY p, id LIMIT 50 LOOP
		SELECT xmin INTO s FROM h WHERE id = r.id;
		IF s <> r.xmin THEN RAISE EXCEPTION 'row %', r.id; END IF;
	END LOOP;
END \$\$;
SQL
	is($server->safe_psql('postgres', $functions), "0\n0", $what);
	return;
}

sub both_alike
{
	my ($what) = @_;
	alike($what);
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	alike("$what, on the standby", $standby);
	return if rand() < 0.5;
	# a restartpoint: what was replayed goes to files
	$node->safe_psql('postgres', 'CHECKPOINT');
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	$standby->safe_psql('postgres', 'CHECKPOINT');
	alike("$what, in the standby's files", $standby);
	return;
}

sub flush_all
{
	$node->safe_psql('postgres', 'SELECT lightning_flush()');
	return;
}

alike('a load');
flush_all();
alike('a load that was flushed');
changes();
alike('in memory');
flush_all();
both_alike('flushed');

# beside an old snapshot, most versions cannot be settled
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $seen = $old->query_safe("SELECT md5(string_agg(id || ':' || xmin::text, ',' ORDER BY id)) FROM l");
for my $round (1 .. 3)
{
	changes();
	flush_all();
	$node->safe_psql('postgres', "SELECT lightning_compact('l')") if $round > 1;
	both_alike("beside an old snapshot, round $round");
}
is($old->query_safe("SELECT md5(string_agg(id || ':' || xmin::text, ',' ORDER BY id)) FROM l"), $seen, 'what it sees stays');
is($old->query_safe("SELECT md5(string_agg(id || ':' || xmin::text, ',' ORDER BY id)) FROM h"), $seen, 'and is the same on heap');
$old->query_safe('COMMIT');
$old->quit;

$node->safe_psql('postgres', "SELECT lightning_compact('l')");
both_alike('settled and merged');
changes();
$node->stop('immediate');
$node->start;
both_alike('after a crash');
changes();
$node->restart;
both_alike('after a restart');
$node->safe_psql('postgres', "SELECT lightning_compact('l', true, true)");
both_alike('rewritten');

changes();
$node->safe_psql('postgres', 'VACUUM l; VACUUM h');
both_alike('after VACUUM');
$node->safe_psql('postgres', 'VACUUM FREEZE l; VACUUM FREEZE h');
both_alike('frozen');
my ($frozen) = $node->safe_psql('postgres', "SELECT age(relfrozenxid) <= 2 FROM pg_class WHERE relname = 'l'");
is($frozen, 't', 'and nothing in the table holds transaction ids back');
for my $copy ('VACUUM FULL TAB', 'CLUSTER TAB USING TAB_pkey', 'CLUSTER TAB USING TAB_k', 'CLUSTER TAB')
{
	changes();
	$node->safe_psql('postgres', for_both($copy));
	both_alike("after $copy");
	flush_all();
	both_alike("after $copy, flushed");
}
changes();
$node->safe_psql('postgres', "BEGIN; ALTER TABLE l ALTER n TYPE bigint; ALTER TABLE h ALTER n TYPE bigint; COMMIT");
both_alike('rewritten by ALTER TABLE');
changes();
both_alike('and changed after it');
$node->stop('immediate');
$node->start;
both_alike('and after a crash');

# rows that nobody ever saw otherwise than settled
my $file = $node->basedir . '/rows';
append_to_file($file, join('', map { "$_\t0\t$_\tfrozen\n" } 1 .. 2000));
$node->safe_psql('postgres', <<SQL);
BEGIN;
TRUNCATE l, h;
COPY l FROM '$file' WITH (FREEZE);
COPY h FROM '$file' WITH (FREEZE);
COMMIT;
SQL
$rows = 2000;
both_alike('COPY FREEZE');
changes();
flush_all();
$node->stop('immediate');
$node->start;
both_alike('COPY FREEZE and changes, after a crash');

# ---- as a version number ----

my ($a, $b) = map { $node->background_psql('postgres') } 1 .. 2;
my ($lost, $refused) = (0, 0);
for my $how ('', 'SELECT lightning_flush()', "SELECT lightning_compact('l')", 'VACUUM l', 'VACUUM FULL l', 'CHECKPOINT')
{
	$a->query_safe($how) if $how;
	my $version = $a->query_safe('SELECT xmin FROM l WHERE id = 1');
	$a->query_safe($how) if $how;
	# nobody has changed it
	my $n = $a->query_safe("WITH u AS (UPDATE l SET n = n + 1 WHERE id = 1 AND xmin = '$version' RETURNING 1) SELECT count(*) FROM u");
	$refused++ if $n != 1;
	$a->query_safe($how) if $how;
	$version = $a->query_safe('SELECT xmin FROM l WHERE id = 1');
	$b->query_safe('UPDATE l SET n = n + 100 WHERE id = 1');
	$a->query_safe($how) if $how;
	# somebody has
	$n = $a->query_safe("WITH u AS (UPDATE l SET n = n + 1 WHERE id = 1 AND xmin = '$version' RETURNING 1) SELECT count(*) FROM u");
	$lost++ if $n != 0;
}
$_->quit for $a, $b;
is($lost, 0, 'no update was lost');
is($refused, 0, 'and none refused in vain');

# ---- the standby goes on alone ----
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
$node->stop;
$standby->promote;
is($standby->safe_psql('postgres', 'SELECT count(*) FROM l JOIN h USING (id) WHERE l.xmin <> h.xmin AND id <> 1'), 0, 'promoted');
$standby->safe_psql('postgres', "SELECT lightning_compact('l', true, true)");
is($standby->safe_psql('postgres', 'SELECT count(*) FROM l JOIN h USING (id) WHERE l.xmin <> h.xmin AND id <> 1'), 0, 'and rewritten');
check_clean($standby, 'at the end');
$standby->stop;
done_testing();
