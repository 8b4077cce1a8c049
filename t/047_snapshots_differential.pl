# Snapshots of all kinds, held for long while others write, flush and merge: what each
# of them sees of a lightning table is what it sees of a heap table with the same rows.
#
# LIGHTNING_SEED repeats a run, LIGHTNING_STEPS sets its length.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{LIGHTNING_SEED} // int(time) ^ $$;
my $steps = $ENV{LIGHTNING_STEPS} // 1000;
srand($seed);
note("seed $seed, $steps steps");

my $node = new_node('main', conf => <<CONF);
autovacuum = off
max_prepared_transactions = 5
max_parallel_workers_per_gather = 0
min_parallel_table_scan_size = 0
parallel_setup_cost = 0
parallel_tuple_cost = 0
CONF
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE l (id int PRIMARY KEY, n int, p text) USING lightning;
CREATE TABLE h (LIKE l INCLUDING INDEXES) USING heap;
CREATE INDEX ON l (n);
CREATE INDEX ON h (n);
BEGIN;
INSERT INTO l SELECT g, 0, repeat('x', g % 50) FROM generate_series(1, 800) g;
INSERT INTO h SELECT * FROM l;
COMMIT;
SQL

# Readers hold their snapshots; each writer has rows of its own, and is quick, or new
# snapshots would keep everything from the oldest of them on.
my ($readers, $writers) = (5, 2);
my @s = map { { psql => $node->background_psql('postgres', on_error_stop => 0), writer => $_ - $readers } } 0 .. $readers + $writers - 1;
my $control = $node->background_psql('postgres', on_error_stop => 0);
my @exported;
my $compared = 0;

# An answer, or undef after an error, which ends the transaction.
sub run
{
	my ($s, $sql) = @_;
	my ($out) = $s->{psql}->query($sql);
	my $failed = $s->{psql}->{stderr} =~ /ERROR/;

	$s->{psql}->{stderr} = '';
	return $out unless $failed;
	$s->{psql}->query('ROLLBACK');
	finish($s);
	return undef;
}

sub finish
{
	my ($s) = @_;
	$s->{$_} = 0 for qw(begun savepoint cursor);
}

sub different
{
	my ($s, $what) = @_;
	die "seed $seed: $what differs, " . ($s->{begun} || 'a new snapshot') . "\n";
}

sub compare
{
	my ($s) = @_;
	my $way = ('enable_seqscan = on', 'enable_seqscan = off', 'max_parallel_workers_per_gather = 2')[rand 3];
	my $where = ('', 'WHERE id BETWEEN 100 AND 500', 'WHERE n > 3')[rand 3];
	my ($l, $h) = map { "(SELECT md5(string_agg(id || ':' || n || ':' || p || ':' || xmin::text, ',' ORDER BY id)) FROM $_ $where)" } qw(l h);
	my $same = run($s, "SET $way; SELECT $l IS NOT DISTINCT FROM $h; RESET ALL");

	return if !defined $same;
	$compared++;
	different($s, "$way $where") if $same ne 't';
}

sub begin
{
	my ($s) = @_;
	my $level = $s->{writer} >= 0 || rand() < 0.2 ? 'READ COMMITTED' : rand() < 0.05 ? 'SERIALIZABLE READ ONLY' : 'REPEATABLE READ';

	run($s, "BEGIN ISOLATION LEVEL $level");
	$s->{begun} = $level;
	if ($level eq 'REPEATABLE READ' && @exported && rand() < 0.3)
	{
		run($s, "SET TRANSACTION SNAPSHOT '$exported[rand @exported]'");
	}
	elsif (rand() < 0.7) { compare($s); }
}

sub change
{
	my ($s) = @_;
	my $from = 1 + int rand 790;
	my $to = $from + int rand 120;
	my $mine = "BETWEEN $from AND $to AND id % $writers = $s->{writer}";
	my $set = ('n = n + 1', "n = n + 1, p = p || 'y'", 'p = left(p || md5(id::text), 60)', 'n = -n', 'n = n + 2')[rand 5];
	my $what = rand();

	for my $t (qw(l h))
	{
		run($s, $what < 0.15 ? "DELETE FROM $t WHERE id $mine" : $what < 0.4 ?
			"INSERT INTO $t SELECT id, 1, 'new' FROM generate_series($from, $to) id WHERE id $mine ON CONFLICT (id) DO UPDATE SET n = excluded.n + 5" :
			"UPDATE $t SET $set WHERE id $mine") // return;
	}
}

sub savepoint
{
	my ($s) = @_;
	run($s, !$s->{savepoint} ? 'SAVEPOINT s' : rand() < 0.5 ? 'ROLLBACK TO s; RELEASE s' : 'RELEASE s');
	$s->{savepoint} = !$s->{savepoint};
}

sub cursors
{
	my ($s) = @_;
	if (!$s->{cursor})
	{
		run($s, "DECLARE c_$_ CURSOR FOR SELECT * FROM $_ ORDER BY id") // return for qw(l h);
		$s->{cursor} = 1;
		return;
	}
	my ($l, $h) = map { run($s, "FETCH 50 FROM c_$_") // return } qw(l h);
	$compared++;
	different($s, 'cursor') if $l ne $h;
}

sub end
{
	my ($s) = @_;
	if ($s->{writer} >= 0 && rand() < 0.2)
	{
		run($s, "PREPARE TRANSACTION 'p$s->{writer}'") // return;
		compare($s[rand $readers]) if $s[0]{begun};
		run($s, "COMMIT PREPARED 'p$s->{writer}'");
	}
	else { run($s, rand() < 0.85 ? 'COMMIT' : 'ROLLBACK'); }
	finish($s);
}

for (1 .. $steps)
{
	my $s = $s[rand() < 0.4 ? $readers + rand $writers : rand $readers];
	my $what = rand();

	if ($what < 0.1)
	{
		$control->query_safe(rand() < 0.1 ? 'VACUUM l' : rand() < 0.6 ? 'SELECT lightning_flush()' : "SELECT lightning_compact('l')");
	}
	elsif (!$s->{begun}) { begin($s); }
	elsif ($s->{writer} >= 0) { $what < 0.5 ? change($s) : $what < 0.6 ? savepoint($s) : end($s); }
	elsif ($what < 0.6) { compare($s); }
	elsif ($what < 0.8) { cursors($s); }
	elsif ($what < 0.85 && $s->{begun} eq 'REPEATABLE READ')
	{
		push @exported, run($s, 'SELECT pg_export_snapshot()') // next;
		shift @exported if @exported > 4;
	}
	elsif ($what > 0.97) { end($s); }
}
cmp_ok($compared, '>', $steps / 8, "$compared answers compared");
for my $s (@s)
{
	run($s, 'COMMIT') if $s->{begun};
	finish($s);
	$s->{psql}->quit;
}
$control->quit;
is($node->safe_psql('postgres', 'SELECT count(*) FROM (TABLE l EXCEPT TABLE h) x'), 0, 'the same rows at the end');
is($node->safe_psql('postgres', 'SELECT count(*) FROM (TABLE h EXCEPT TABLE l) x'), 0, 'and none is missing');
check_clean($node, 'at the end');
$node->stop;
done_testing();
