# One old snapshot costs one version per row, however much is written beside it:
# exact counts after flush and compaction; what old snapshots, cursors, importers
# and parallel workers see; OLD rows of triggers; who is not known and keeps all;
# and a snapshot that comes too late.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "autovacuum = off\nmax_parallel_workers_per_gather = 0\n");
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning_test CASCADE;
CREATE TABLE t (id int PRIMARY KEY, n int, pad text) USING lightning WITH (parallel_workers = 2);
INSERT INTO t SELECT i, 0, 'row ' || i FROM generate_series(1, 1000) i;
CREATE TABLE pk (id int PRIMARY KEY, n int) USING lightning;
INSERT INTO pk SELECT i, 0 FROM generate_series(1, 30) i;
CREATE TABLE fk (id int, pk int REFERENCES pk) USING lightning;
SQL

my $digest = "SELECT count(*), sum(n), md5(string_agg(n || pad, ',' ORDER BY id)) FROM t WHERE id > 0";
my $by_index = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;";

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub session { return $node->background_psql('postgres', on_error_stop => 0); }

sub begin
{
	my ($level) = @_;
	my $s = session();
	$s->query_safe("BEGIN ISOLATION LEVEL $level");
	return $s;
}

sub update
{
	my ($rounds) = @_;
	sql("UPDATE t SET n = n + 1") for 1 .. $rounds;
}

sub entries
{
	my ($table) = @_;
	$table //= 't';
	sql("SELECT lightning_flush()");
	sql("SELECT lightning_compact('$table')");
	return sql("SELECT entries FROM pg_stat_lightning_runs WHERE relname = '$table'");
}

sub known
{
	my ($s) = @_;
	return $s->query_safe("SELECT known, snapshots FROM pg_stat_lightning_snapshots WHERE pid = pg_backend_pid()");
}

# ---- counts ----

is(entries(), 1000, 'a version per row to begin with');
my $old = begin('REPEATABLE READ');
my $seen = $old->query_safe($digest);
is(known($old), 't|1', 'the reader is known');
update(30);
is(entries(), 2000, 'one version more per row after 30 updates of each');
is($old->query_safe($digest), $seen, 'the old snapshot sees what it saw');
is($old->query_safe("$by_index $digest"), $seen, '... through the index');
is(known($old), 't|1', '... and has one snapshot still');
my $old2 = begin('REPEATABLE READ');
my $seen2 = $old2->query_safe($digest);
like($seen2, qr/^1000\|30000\|/, 'a later one sees 30 updates');
update(20);
is(entries(), 3000, 'two old snapshots, two versions more');
is($old->query_safe($digest), $seen, 'the first sees what it saw');
is($old2->query_safe($digest), $seen2, 'so does the second');
$old->query_safe('COMMIT');
update(1);
is(entries(), 2000, 'the first has ended');
is($old2->query_safe("$by_index $digest"), $seen2, 'the second sees what it saw');
$old2->query_safe('COMMIT');
update(1);
is(entries(), 1000, 'no old snapshot, no old version');

# deleted rows
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$seen = $old->query_safe($digest);
sql('UPDATE t SET n = n + 1 WHERE id <= 100') for 1 .. 10;
sql('DELETE FROM t WHERE id <= 100');
is(entries(), 1100, 'of a deleted row the tombstone and the version that is seen');
is($old->query_safe($digest), $seen, 'the old snapshot sees deleted rows');
sql("INSERT INTO t SELECT i, 0, 'row ' || i FROM generate_series(1, 100) i");
is($old->query_safe("$by_index $digest"), $seen, '... also when there are new ones with their keys');
$old->query_safe('ROLLBACK');
sql('VACUUM t');

# ---- who is not known keeps all ----

my $base = entries();
for my $level ('READ COMMITTED', 'SERIALIZABLE')
{
	my $s = begin($level);
	$s->query_safe("DECLARE c CURSOR FOR SELECT n, id FROM t");
	my $n = $s->query_safe('FETCH 1 FROM c');
	is(known($s), 'f|0', "$level: not known");
	update(3);
	is(entries(), 4000, "$level: all versions since then");
	is($s->query_safe('MOVE 500 FROM c; FETCH 1 FROM c') =~ s/\|.*//sr, $n =~ s/\|.*//sr, "$level: the cursor goes on");
	$s->query_safe('COMMIT');
	$s->quit;
	update(1);
	is(entries(), 1000, "$level: has ended");
}

# one that did not read of ours yet
my $idle = begin('REPEATABLE READ');
$idle->query_safe('SELECT count(*) FROM pg_class');
my $expect = sql($digest);
update(2);
is(entries(), 3000, 'a snapshot that has not been used yet keeps all');
is($idle->query_safe($digest), $expect, '... and is used at last');
update(1);
is(entries(), 2000, '... and is known then');
# ON CONFLICT reads what no snapshot sees
is(known($idle), 't|1', 'known');
$idle->query_safe("INSERT INTO pk VALUES (31, 0) ON CONFLICT (id) DO NOTHING");
is(known($idle), 't|1', 'an insert without conflict changes nothing');
$idle->query_safe("INSERT INTO pk VALUES (3, 0) ON CONFLICT (id) DO NOTHING");
is(known($idle), 'f|0', 'after a dirty read it is not known any more');
update(2);
is(entries(), 4000, '... and keeps all');
is($idle->query_safe($digest), $expect, '... and sees what it saw');
$idle->query_safe('ROLLBACK');
update(1);
is(entries(), 1000, 'all is over');

# ---- cursors, savepoints ----

$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$seen = $old->query_safe($digest);
$old->query_safe("DECLARE c SCROLL CURSOR FOR SELECT id, n FROM t ORDER BY id");
my $ahead = $old->query_safe('FETCH 10 FROM c');
$old->query_safe("DECLARE late CURSOR FOR SELECT id, n FROM t ORDER BY id");
update(5);
is(entries(), 2000, 'cursors share the snapshot');
$old->query_safe('SAVEPOINT a');
$old->query_safe("UPDATE fk SET id = 1");
$old->query_safe('ROLLBACK TO a');
is($old->query_safe('FETCH 10 FROM late'), $ahead, 'a cursor that is fetched from late');
is($old->query_safe('MOVE ABSOLUTE 0 FROM c; FETCH 10 FROM c'), $ahead, 'a cursor that goes back');
is($old->query_safe($digest), $seen, 'after ROLLBACK TO');
$old->query_safe('COMMIT');

# ---- exported snapshots ----

my $importer = session();
my $late = session();
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$seen = $old->query_safe($digest);
my $other = begin('REPEATABLE READ');
$other->query_safe('SELECT count(*) FROM pk');
update(5);
is(entries(), 2000, 'pruned while the exporter is alone');
my $id = $old->query_safe('SELECT pg_export_snapshot()');
for my $s ($importer, $late)
{
	$s->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$s->query_safe("SET TRANSACTION SNAPSHOT '$id'");
}
is($importer->query_safe($digest), $seen, 'the importer sees the same');
is(known($importer), 't|1', 'and is known');
update(1);
$old->query_safe('COMMIT');
update(3);
sql('SELECT lightning_flush()');
sql("SELECT lightning_compact('t')");
is($importer->query_safe($digest), $seen, '... also when the exporter has gone');
is($late->query_safe($digest), $seen, 'one who reads for the first time then');
$_->query_safe('COMMIT') for $importer, $late, $other;

# one who reads by no snapshot before he reads by the one that he has imported
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$seen = $old->query_safe($digest);
update(2);
is(entries(), 2000, 'pruned before the export');
$id = $old->query_safe('SELECT pg_export_snapshot()');
$importer->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$id'");
$importer->query_safe('INSERT INTO pk VALUES (3, 0) ON CONFLICT (id) DO NOTHING');
is(known($importer), 'f|0', 'an importer who begins with a dirty read is not known');
$old->query_safe('COMMIT');
update(2);
entries();
is($importer->query_safe($digest), $seen, '... and sees what the exporter saw');
$importer->query_safe('COMMIT');

# parallel workers take part; the table is too small for the planner to want two
sql('ALTER TABLE t SET (parallel_workers = 2)');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$old->query_safe('SET LOCAL max_parallel_workers_per_gather = 2; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL parallel_leader_participation = off');
my $parallel = 'SELECT count(*), sum(n) FROM t';
like($old->query_safe("EXPLAIN $parallel"), qr/Parallel Seq Scan/, 'a parallel plan');
$seen = $old->query_safe($parallel);
update(3);
is(entries(), 4000, 'only workers have read: when they are gone, the leader is not known');
is($old->query_safe($parallel), $seen, 'workers see what they saw');
$old->query_safe('SET LOCAL parallel_leader_participation = on');
is($old->query_safe($parallel), $seen, 'so does the leader');
$old->query_safe('SELECT count(*) FROM fk');
update(2);
is(entries(), 2000, 'the leader is known');
is($old->query_safe($parallel), $seen, 'workers see what they saw, again');
$old->query_safe('COMMIT');

# ---- triggers ----

sql(<<'SQL');
CREATE TABLE log (who text, old_n int, new_n int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN INSERT INTO log VALUES (TG_ARGV[0], OLD.n, NEW.n); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW WHEN (OLD.id = 7) EXECUTE FUNCTION note('later');
CREATE TRIGGER now AFTER UPDATE ON t FOR EACH ROW WHEN (OLD.id = 7) EXECUTE FUNCTION note('now');
SQL
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$old->query_safe($digest);
for my $level ('READ COMMITTED', 'REPEATABLE READ')
{
	my $s = begin($level);
	my $n = $s->query_safe('SELECT n FROM t WHERE id = 7');
	$s->query_safe('UPDATE t SET n = n + 1 WHERE id = 7');
	$s->query_safe('SAVEPOINT a');
	$s->query_safe('UPDATE t SET n = n + 1 WHERE id = 7');
	$s->query_safe('ROLLBACK TO a');
	$s->query_safe('UPDATE t SET n = n + 10 WHERE id = 7');
	sql('UPDATE t SET n = n + 1 WHERE id <> 7') for 1 .. 5;
	entries();
	$s->query_safe('UPDATE t SET n = n + 100 WHERE id = 7');
	entries();
	$s->query_safe('COMMIT');
	$s->quit;
	my $rows = join "\n", map { my $w = $_; map { "$w|" . join '|', @$_ } [$n, $n + 1], [$n + 1, $n + 11], [$n + 11, $n + 111] } 'later', 'now';
	is(sql('SELECT * FROM log ORDER BY who, old_n'), $rows, "$level: OLD and NEW of triggers, deferred or not");
	sql('TRUNCATE log');
}
$old->query_safe('COMMIT');
sql('DROP TRIGGER now ON t; DROP TRIGGER later ON t');

# ---- fresh snapshots in an old transaction ----

# many foreign key checks, each with a snapshot of its own
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$seen = $old->query_safe($digest);
for my $i (1 .. 8)
{
	update(1);
	sql("UPDATE pk SET n = n + 1 WHERE id < 20");
	entries('pk');
	$old->query_safe("DELETE FROM pk WHERE id = 20 + $i");
	is($old->query_safe($digest), $seen, "after foreign key check $i");
}
is(known($old), 'f|0', 'too many snapshots: not known any more');
$old->query_safe('COMMIT');

# one that was taken, but not used before versions it needs were removed
sub late_snapshot
{
	my ($level) = @_;
	my $other = begin('REPEATABLE READ');
	$other->query_safe('SELECT count(*) FROM t');
	my $writer = begin('READ COMMITTED');
	$writer->query_safe('UPDATE pk SET n = n + 1 WHERE id < 10');
	my $s = begin($level);
	$s->query_safe('SELECT count(*) FROM t');
	sql('SELECT txid_current()');	# or the next snapshot would be the same
	sql("SELECT lightning_stop_point_set('snapshot:enter')");
	# (at read committed nothing stops it: "done" may come together with "started")
	my $out = $s->query_until(qr/started/, "\\echo started\nDELETE FROM pk WHERE id = 15;\n\\echo done\n");
	sql("SELECT lightning_stop_point_wait('snapshot:enter')") if $level eq 'REPEATABLE READ';
	$writer->query_safe('COMMIT');
	sql('SELECT lightning_flush()');
	sql("SELECT lightning_stop_point_release('snapshot:enter')");
	$s->query_until(qr/done/, '') if $out !~ /done/;
	my $err = $s->{stderr};
	$s->{stdout} = $s->{stderr} = '';
	$s->query('ROLLBACK');
	$_->query_safe('COMMIT') for $other;
	$_->quit for $s, $writer, $other;
	return $err;
}
like(late_snapshot('REPEATABLE READ'), qr/could not serialize access due to removal of old row versions/, 'a snapshot that comes too late');
is(late_snapshot('READ COMMITTED'), '', 'never at read committed');

is(sql("SELECT * FROM lightning_check_all(index => true)"), '', 'nothing to complain about');
$_->quit for $old, $old2, $idle, $importer, $late;
$node->stop;
done_testing();
