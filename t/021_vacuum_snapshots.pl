# Snapshots that are older than a VACUUM, a VACUUM FULL or a CLUSTER go on seeing
# what they saw, on the primary; on a standby, queries that VACUUM's removal of
# index entries would make miss rows are cancelled, and no others.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', streaming => 1, conf => "autovacuum = off\nmax_standby_streaming_delay = 100ms\nhot_standby_feedback = off\n");
$primary->start;
$primary->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE v (id int PRIMARY KEY, a int, b text) USING lightning;
CREATE TABLE other (id int) USING lightning;
INSERT INTO v SELECT i, i % 10, 'row ' || i FROM generate_series(1, 1000) i;
CREATE INDEX v_a ON v (a);
SQL

my $digest = "SELECT count(*), sum(id), sum(a), md5(string_agg(b, ',' ORDER BY id)) FROM v";
my %by = (
	scan => 'SET LOCAL enable_seqscan = on; SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off;',
	index => 'SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = on; SET LOCAL enable_bitmapscan = off;',
	bitmap => 'SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = on;');

sub answers
{
	my ($session) = @_;
	return join "\n", map { $session->query_safe("$by{$_} $digest WHERE a >= 0") } sort keys %by;
}

my $round = 0;
for my $command ('VACUUM v', 'VACUUM (FREEZE) v', 'VACUUM FULL v', 'CLUSTER v USING v_a', 'CLUSTER v USING v_pkey', 'SELECT lightning_compact(\'v\')')
{
	$round++;
	my $old = $primary->background_psql('postgres');
	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$old->query_safe('SELECT count(*) FROM other');
	my $before = $primary->safe_psql('postgres', "BEGIN; $digest WHERE a >= 0");
	$primary->safe_psql('postgres', $_) for
		"UPDATE v SET b = b || '$round', a = a WHERE id % 3 = 0",
		"UPDATE v SET a = a + 1 WHERE id % 5 = 0",
		"DELETE FROM v WHERE id % 7 = $round",
		"INSERT INTO v SELECT i, i % 10, 'new' FROM generate_series(10000 * $round, 10000 * $round + 100) i",
		'SELECT lightning_flush()',
		"UPDATE v SET id = -id WHERE id % 11 = $round";
	my $after = $primary->safe_psql('postgres', "BEGIN; $digest WHERE a >= 0");
	$primary->safe_psql('postgres', $command);
	is(answers($old), join("\n", ($before) x 3), "an old snapshot after $command");
	is($primary->safe_psql('postgres', "BEGIN; $by{$_} $digest WHERE a >= 0"), $after, "a new one, $_") for sort keys %by;
	$old->query_safe('COMMIT');
	$old->quit;
}
is($primary->safe_psql('postgres', "SELECT * FROM lightning_check('v')"), '', 'nothing to complain about');

# ---- standby ----

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $digest), $primary->safe_psql('postgres', $digest), 'the standby has the same rows');

my $reader = $standby->background_psql('postgres', on_error_stop => 0);
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $seen = answers($reader);
$primary->safe_psql('postgres', 'DELETE FROM v WHERE id % 2 = 0');
$primary->safe_psql('postgres', 'SELECT lightning_flush()');
$primary->wait_for_catchup($standby);
is(answers($reader), $seen, 'deleted rows stay visible to an old snapshot of the standby');
$primary->safe_psql('postgres', 'VACUUM v');
$primary->wait_for_catchup($standby);
my $out = eval { $reader->query("$by{index} $digest WHERE a >= 0") } // '';
my ($first) = split /\n/, $seen;
ok($out eq '' || $out eq $first, 'after VACUUM it is cancelled, or right');
like(PostgreSQL::Test::Utils::slurp_file($standby->logfile), qr/conflict with recovery/, 'it was cancelled');
eval { $reader->quit };
is($standby->safe_psql('postgres', $digest), $primary->safe_psql('postgres', $digest), 'new snapshots see the new rows');

$standby->stop;
$primary->stop;
done_testing();
