# Who copies the directory finds the files of the manifest that was the newest when
# he listed it, whatever is merged meanwhile: pg_rewind, which is not known to the
# server and reads on while checkpoints complete, and a base backup that begins
# just after a removal of files has looked for one.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('main', streaming => 1, conf => "autovacuum = off\ncheckpoint_timeout = 1h\n");
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning_test CASCADE;
CREATE TABLE t (id int PRIMARY KEY, n int, pad text) USING lightning;
INSERT INTO t SELECT i, 0, md5(i::text) FROM generate_series(1, 50000) i;
SELECT lightning_flush();
SELECT lightning_compact('t', rewrite => true);
SQL

# Every file is replaced.
sub rewrite
{
	return $node->safe_psql('postgres', "SELECT lightning_compact('t', rewrite => true)");
}

# On a standby the workers decide: most rows are superseded.
sub merge_on
{
	my ($standby) = @_;
	my $merges = 'SELECT compactions FROM pg_stat_lightning_compaction';
	my $before = $standby->safe_psql('postgres', $merges);
	$node->safe_psql('postgres', 'UPDATE t SET n = n + 1');
	$node->safe_psql('postgres', 'CHECKPOINT');
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	$standby->poll_query_until('postgres', "SELECT ($merges) > $before") or die 'the standby does not merge';
	return;
}

sub wait_for_removal
{
	my ($n, $what) = @_;
	ok($n->poll_query_until('postgres', 'SELECT obsolete_files = 0 FROM pg_stat_lightning_files'), $what);
	return;
}

# Data files in the directory, seen without SQL.
sub files
{
	my ($n) = @_;
	return map { s,.*/,,r } glob($n->data_dir . '/lightning/*.run');
}

# Those of @$before that have gone.
sub missing
{
	my ($n, $before) = @_;
	my %is = map { $_ => 1 } files($n);
	return join(' ', grep { !$is{$_} } @$before);
}

# ---- as pg_rewind does: a list, and then one file after the other ----
my $list = "SELECT name FROM pg_ls_dir('lightning', true, false) AS l(name) WHERE name LIKE '%.run' ORDER BY 1";
my $read = "SELECT count(*) FROM pg_read_binary_file('lightning/prewarm', 0, 10, true)";
wait_for_removal($node, 'nothing is to be removed');
my @listed = split /\n/, $node->safe_psql('postgres', $list);
cmp_ok(scalar(@listed), '>', 0, 'files are listed');
for my $round (1 .. 2)
{
	rewrite();
	$node->safe_psql('postgres', 'UPDATE t SET n = n WHERE id = 1');
	$node->safe_psql('postgres', 'CHECKPOINT');
	$node->safe_psql('postgres', $read);
	sleep 0.5;
	is(missing($node, \@listed), '', "what was listed is there after checkpoint $round");
}
$node->restart;
wait_for_removal($node, 'nobody copies after a restart');

# ---- a base backup of a standby ----
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
merge_on($standby);
wait_for_removal($standby, 'the standby has nothing to remove');
$standby->safe_psql('postgres', "SELECT lightning_stop_point_set('retain:looked')");
merge_on($standby);
$standby->safe_psql('postgres', "SELECT lightning_stop_point_wait('retain:looked')");
my $backup = $standby->background_psql('postgres');
$backup->query_safe("SELECT pg_backup_start('late', true)");
my $n = $standby->safe_psql('postgres', 'SELECT files FROM pg_stat_lightning_files');
my @in_use = (files($standby))[-$n .. -1];
merge_on($standby);
$standby->safe_psql('postgres', "SELECT lightning_stop_point_release('retain:looked')");
sleep 1;
is(missing($standby, \@in_use), '', 'a backup finds the files of the time it began');
$backup->quit;
wait_for_removal($standby, 'they go when it has ended');
$_->stop for $standby, $node;
done_testing();
