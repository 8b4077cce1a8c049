# What VACUUM has cleaned the indexes of, standbys need not keep tombstones for
# either: they learn it from the log, before and after restarts.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', streaming => 1, conf => "autovacuum = off\n");
$primary->start;
$primary->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE t (id int PRIMARY KEY, v text) USING lightning;
INSERT INTO t SELECT g, 'row ' || g FROM generate_series(1, 20000) g;
SQL
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->start;

sub graves
{
	my ($node) = @_;
	return $node->safe_psql('postgres', "SELECT tombstones FROM pg_stat_lightning_runs WHERE relname = 't'");
}

# everything replayed is in files
sub to_files
{
	$primary->safe_psql('postgres', 'CHECKPOINT');
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	$standby->safe_psql('postgres', 'CHECKPOINT');
	return;
}

for my $round (1 .. 3)
{
	my $from = ($round - 1) * 5000;
	my $range = "id > $from AND id <= $from + 5000";
	$primary->safe_psql('postgres', "DELETE FROM t WHERE $range AND id % 2 = 0; DELETE FROM t WHERE $range");
	to_files();
	cmp_ok(graves($standby), '>=', 5000, "round $round: the standby keeps tombstones at first");
	if ($round == 2)
	{
		# what replay has done so far must not be forgotten
		kill_server($standby);
		$standby->start;
	}
	$primary->safe_psql('postgres', 'VACUUM t');
	# (writers that VACUUM had to respect, if any, are gone at the second one)
	$primary->safe_psql('postgres', 'VACUUM t');
	to_files();
	# enough runs to merge
	for my $n (1 .. 4)
	{
		my $id = 30000 + $from + $n;
		$primary->safe_psql('postgres', "INSERT INTO t VALUES ($id, 'x')");
		to_files();
	}
	ok($standby->poll_query_until('postgres',
		"SELECT tombstones = 0 FROM pg_stat_lightning_runs WHERE relname = 't'"),
		"round $round: after VACUUM on the primary they go on the standby");
	is($standby->safe_psql('postgres', 'SELECT count(*), sum(id) FROM t'),
		$primary->safe_psql('postgres', 'SELECT count(*), sum(id) FROM t'), "round $round: same rows");
}
$standby->promote;
$standby->safe_psql('postgres', 'VACUUM t');
is($standby->safe_psql('postgres', 'SET enable_seqscan = off; SELECT count(*) FROM t WHERE id > 0'),
	$primary->safe_psql('postgres', 'SELECT count(*) FROM t'), 'after promotion: same rows by index');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM lightning_check_all(index => true)'), 0, 'nothing is wrong');
$standby->stop;
$primary->stop;
done_testing();
