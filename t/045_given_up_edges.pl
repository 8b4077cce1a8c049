# lightning.max_snapshot_age: who is given up, and what he may not read, in the corners:
# indexes that were built from what was kept, settings of one process, imported snapshots.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('main', conf => "autovacuum = off\nmax_parallel_workers_per_gather = 0\nlightning.max_snapshot_age = '3s'\n");
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE ROLE keeper SUPERUSER LOGIN;
ALTER ROLE keeper SET lightning.max_snapshot_age = 0;
CREATE ROLE hasty SUPERUSER LOGIN;
ALTER ROLE hasty SET lightning.max_snapshot_age = '50ms';
SQL

my $too_old = qr/snapshot too old/;

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub session
{
	my ($user) = @_;
	my $s = $node->background_psql('postgres', on_error_stop => 0, extra_params => $user ? [ '-U', $user ] : []);
	$s->{pid} = $s->query_safe('SELECT pg_backend_pid()');
	return $s;
}

sub fails
{
	my ($s, $query, $what) = @_;
	$s->{stderr} = '';
	my $out = $s->query($query);
	like($s->{stderr}, $too_old, $what) or diag("it returned: $out");
	$s->{stderr} = '';
	return;
}

sub given_up { return sql("SELECT coalesce(bool_or(given_up), false) FROM pg_stat_lightning_snapshots WHERE pid = $_[0]->{pid}"); }

sub wait_given_up
{
	my ($s, $what) = @_;
	ok(wait_for_sql($node, "SELECT given_up FROM pg_stat_lightning_snapshots WHERE pid = $s->{pid}", 't', 30), "$what: given up");
	return;
}

sub prune
{
	my ($table) = @_;
	sql('SELECT lightning_flush()');
	sql("SELECT lightning_compact('$table')");
	return;
}

# ---- an index that was built without what was given up has no entries for it ----
for my $change ('UPDATE %s SET n = n + 1', 'DELETE FROM %s')
{
	for my $path ('bitmapscan', 'indexscan')
	{
		my $t = ($change =~ /^(\w)/ ? lc $1 : '') . "_$path";
		sql("CREATE TABLE $t (id int, n int) USING lightning; INSERT INTO $t SELECT i, 0 FROM generate_series(1, 1000) i");
		my $s = session('hasty');
		$s->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class');
		sql(sprintf($change, $t));
		wait_given_up($s, $t);
		prune($t);
		sql("CREATE INDEX ON $t (n)");
		my $off = "SET LOCAL enable_seqscan = off; SET LOCAL enable_$path = off";
		$s->query_safe($off);
		like($s->query_safe("EXPLAIN SELECT id FROM $t WHERE n = 0"), qr/Index/, "$t: by the index");
		fails($s, "SELECT id FROM $t WHERE n = 0", "$t: an index that has no entries for it");
		$s->quit;
	}
}

# ---- BRIN: pages are summarized between the beginning of a scan and its first look at the index ----
sql(<<'SQL');
CREATE TABLE b (id int, n int) USING lightning;
CREATE INDEX b_n ON b USING brin (n) WITH (pages_per_range = 1);
INSERT INTO b SELECT i, -(i <= 256)::int FROM generate_series(1, 2000) i;
SQL
{
	my $s = session('hasty');
	$s->query_safe('BEGIN; SET LOCAL enable_seqscan = off; DECLARE c CURSOR FOR SELECT id FROM b WHERE n = 0');
	sql('UPDATE b SET n = 1');
	wait_given_up($s, 'BRIN');
	prune('b');
	sql("SELECT brin_summarize_new_values('b_n')");
	fails($s, 'FETCH ALL FROM c', 'BRIN: a cursor that has not looked yet');
	$s->quit;
}

# ---- the age is the transaction's: short ones beside a long one do not grow old ----
sql('CREATE TABLE fixed (id int PRIMARY KEY) USING lightning; INSERT INTO fixed VALUES (1)');
sql('CREATE TABLE t (id int PRIMARY KEY, n int) USING lightning; INSERT INTO t SELECT i, 0 FROM generate_series(1, 1000) i');
{
	my $writer = session('keeper');
	my $s = session();
	$writer->query_safe('BEGIN; SELECT txid_current()');
	$s->query_safe("SET default_transaction_isolation = 'repeatable read'");
	$s->query_until(qr/started/, <<'SQL');
\echo started
DO $$ BEGIN FOR i IN 1 .. 30 LOOP PERFORM count(*) FROM pg_class; PERFORM pg_sleep(0.2); COMMIT; END LOOP; END $$;
SQL
	my $any = 0;
	my $seen = 0;
	for (1 .. 20)
	{
		sleep 0.25;
		$seen++ if sql("SELECT count(*) FROM pg_stat_lightning_snapshots WHERE pid = $s->{pid}") > 0;
		$any++ if given_up($s) eq 't';
	}
	cmp_ok($seen, '>', 0, 'short transactions: they have snapshots');
	is($any, 0, 'short transactions: not given up beside a long one');
	$writer->query_safe('ROLLBACK');
	$_->quit for $writer, $s;
}

# ---- a process's own setting is for its own snapshots, whoever collects ----
{
	my $s = session();
	$s->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT sum(n) FROM t');
	sleep 0.2;
	my $collector = session('hasty');
	$collector->query_safe('SELECT lightning_flush()');
	$collector->query_safe("SELECT lightning_compact('t')");
	is(given_up($s), 'f', 'one who collects has a shorter limit');
	wait_given_up($s, 'at its own time');
	my $keeper = session('keeper');
	$keeper->query_safe('SELECT lightning_flush()');
	is(given_up($s), 't', 'one who collects has none');
	$_->quit for $s, $collector, $keeper;
}

# ---- an imported snapshot that is known elsewhere, by one who begins with a dirty read ----
{
	my $known = session('keeper');
	my $victim = session('hasty');
	$known->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	my $seen = $known->query_safe('SELECT sum(n) FROM t');
	$victim->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT sum(n) FROM t');
	sql('UPDATE t SET n = n + 1');
	wait_given_up($victim, 'import');
	prune('t');
	fails($victim, 'SELECT sum(n) FROM t', 'import: there is a cut');
	$victim->quit;
	my $id = $known->query_safe('SELECT pg_export_snapshot()');
	my $importer = session('keeper');
	$importer->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$id'");
	$importer->{stderr} = '';
	$importer->query('INSERT INTO fixed VALUES (1) ON CONFLICT (id) DO NOTHING');
	is($importer->{stderr}, '', 'import: a dirty read first');
	is($importer->query('SELECT sum(n) FROM t WHERE id <= 1000'), $seen, 'import: and then the snapshot');
	$importer->query_safe('ROLLBACK');
	for my $query ('SELECT n FROM t WHERE id = 7', 'SELECT n FROM t WHERE id = 2000', 'SELECT count(*) FROM u_bitmapscan WHERE n = 7')
	{
		for my $off ('enable_bitmapscan', 'enable_indexscan')
		{
			$importer->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$id'; SET LOCAL enable_seqscan = off; SET LOCAL $off = off");
			$importer->{stderr} = '';
			my $out = $importer->query($query);
			is($importer->{stderr}, '', "import: an index first: $query, $off = off");
			$importer->query_safe('ROLLBACK');
		}
	}
	$known->query_safe('SET LOCAL max_parallel_workers_per_gather = 2; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0;'
		. ' SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL min_parallel_index_scan_size = 0; SET LOCAL parallel_leader_participation = off;'
		. ' SET LOCAL enable_seqscan = off');
	like($known->query_safe('EXPLAIN SELECT count(*) FROM t WHERE id > 2000'), qr/Parallel/, 'a parallel index scan');
	is($known->query_safe('SELECT count(*) FROM t WHERE id > 2000'), 0, 'the workers of one who is known find nothing, as they should');
	$known->query_safe('COMMIT');
	$_->quit for $known, $importer;
}

$node->stop;
done_testing();
