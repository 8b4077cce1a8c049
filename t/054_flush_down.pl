# A flush that goes straight into the last level, in pieces: rows are right
# between two of them; a crash there replays what is not merged yet, and only
# that, although deltas are based on rows that are; on a standby, too.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 1, conf => <<CONF);
autovacuum = off
checkpoint_timeout = 1h
max_wal_size = 4GB
lightning.memtable_size = '32MB'
CONF
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

# an update of k moves the row to another place, one of n does not
sql(<<SQL);
CREATE EXTENSION lightning_test CASCADE;
CREATE TABLE t (id int PRIMARY KEY, n int, k int, pad text) USING lightning;
INSERT INTO t SELECT i, 0, i % 100, md5(i::text) || md5((-i)::text) FROM generate_series(1, 200000) i;
CREATE INDEX t_k ON t (k);
SELECT lightning_flush();
SELECT lightning_compact('t', rewrite => true);
SQL
my $digest = 'SELECT count(*), sum(n), sum(k), sum(hashtext(pad || n || k || id)::bigint) FROM t';
my $by_index = "SET enable_seqscan = off; SET enable_bitmapscan = off; $digest WHERE id > 0";

sub change
{
	my ($round) = @_;
	sql("UPDATE t SET n = n + $round WHERE id % 3 <> 0");
	sql("UPDATE t SET k = k + 1000, n = n + 1 WHERE id % 50 = $round");
	sql("UPDATE t SET k = k + 1 WHERE id % 100 = $round");
	sql("UPDATE t SET pad = pad || 'x' WHERE id % 70 = $round");
	sql("DELETE FROM t WHERE id % 2000 = $round");
	sql("BEGIN; UPDATE t SET n = -1 WHERE id % 10 = 1; UPDATE t SET k = -1 WHERE id % 90 = 1; ROLLBACK");

	# a move that was rolled back, and then so many versions that their tags come
	# again; in one row after another version of the same transaction
	sql("BEGIN; UPDATE t SET n = -1 WHERE id = 5; UPDATE t SET k = -1 WHERE id IN (5, 7); ROLLBACK");
	sql("UPDATE t SET n = n + 1, pad = md5(pad) || md5(n::text) WHERE id IN (5, 7);\n" x 135);
}

# A session whose flush is held after its first piece.
sub hold_flush
{
	my ($in) = @_;
	my ($out, $err) = ('', '');
	my $h = IPC::Run::start([ 'psql', '-XAtq', '-h', $in->host, '-p', $in->port, '-c', 'SELECT lightning_flush()',
			'postgres' ], '<', \undef, '>', \$out, '2>', \$err);
	sql("SELECT lightning_stop_point_wait('flush:piece')");
	return $h;
}

# rows that the open transaction below has not locked
my $free = 'id % 11 <> 0 AND id % 400 <> 0';
my $round = 0;
for my $end ('release', 'kill server', 'kill server twice')
{
	$round++;
	change($round);
	my $open = $node->background_psql('postgres');
	$open->query_safe('BEGIN');
	$open->query_safe('UPDATE t SET n = -2 WHERE id % 11 = 0');
	$open->query_safe('UPDATE t SET k = -2 WHERE id % 400 = 0');
	my $before = sql($digest);
	sql("SELECT lightning_stop_point_set('flush:piece')");
	my $h = hold_flush($node);
	is(sql("SELECT reason FROM pg_stat_progress_lightning_compact"), 'flush', "$end: a flush is a merge");
	is(sql($digest), $before, '... right rows between two pieces');
	is(sql($by_index), $before, '... by the index');
	is(sql("SELECT count(*) FROM lightning_check('t')"), '0', '... and check finds nothing');
	if ($end eq 'release')
	{
		sql("SELECT lightning_stop_point_release('flush:piece')");
		$h->finish;
		$open->query_safe('ROLLBACK');
		is(sql("SELECT level0_runs FROM pg_stat_lightning_runs WHERE relname = 't'"), '0', 'nothing goes to level 0');
	}
	else
	{
		# what comes after the flush's cut is replayed on both sides of the piece
		sql("UPDATE t SET n = n + 5 WHERE id % 13 = 2 AND $free; UPDATE t SET k = k + 7 WHERE id % 170 = 3 AND $free");
		$before = sql($digest);
		for (1 .. ($end =~ /twice/ ? 2 : 1))
		{
			kill_server($node);
			eval { $h->finish; };
			$node->start;
			is(sql($digest), $before, "$end: right rows after recovery");
			is(sql($by_index), $before, '... by the index');
		}
	}
	eval { $open->quit; };
	check_clean($node, $end);
	sql('SELECT lightning_flush()');
	is(sql($digest), $before, '... flushed');
	sql("SELECT lightning_compact('t')");
	is(sql($by_index), $before, '... and merged');
	check_clean($node, "$end, merged");
}

# ---- who is told to stop makes it short, and this time only ----
sql("SELECT lightning_compact('t')");
for my $end ('told to stop', 'not told')
{
	sql("UPDATE t SET n = n + 1 WHERE id % 3 <> 0");
	sql("SELECT lightning_stop_point_set('flush:piece')");
	my $ckpt = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', 'CHECKPOINT', 'postgres' ],
		'<', \undef, '>', \my $o, '2>', \my $e);
	sql("SELECT lightning_stop_point_wait('flush:piece')");
	sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'lightning gate'")
		if $end eq 'told to stop';
	sql("SELECT lightning_stop_point_release('flush:piece')");
	$ckpt->finish;
	is(sql("SELECT level0_runs FROM pg_stat_lightning_runs WHERE relname = 't'"), $end eq 'not told' ? '0' : '1',
		"a flush that was $end");
	sql("SELECT lightning_compact('t')");
}

# ---- a standby does the same, with its own files ----
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->append_conf('postgresql.conf', "lightning.memtable_size = '8MB'\n");
$standby->start;
sub standby_sql { return $standby->safe_psql('postgres', $_[0]); }

# at a checkpoint's record replay waits for the flush, which is no merge then
standby_sql("SELECT lightning_stop_point_set('flush:piece')");
sql("UPDATE t SET n = n + 4 WHERE id % 6 = 1");
sql('CHECKPOINT');
$node->wait_for_catchup($standby);
is(standby_sql($digest), sql($digest), 'the standby has the rows');
is(standby_sql("SELECT level0_runs FROM pg_stat_lightning_runs WHERE relname = 't'"), '1', '... after a short flush');

# more than an arena, most of it committed by the time it is flushed
sql("UPDATE t SET k = k + 1000 WHERE id % 50 = 4");
sql(join('', map { "UPDATE t SET n = n + 4 WHERE id % 3 = 1 AND id % 20 = $_;\n" } 0 .. 19));
$node->wait_for_catchup($standby);
standby_sql("SELECT lightning_stop_point_wait('flush:piece')");
my $want = sql($digest);
is(standby_sql($digest), $want, '... and between two pieces of a long one');
kill_server($standby);
sql("UPDATE t SET n = n + 5 WHERE id % 13 = 4; UPDATE t SET k = k + 7 WHERE id % 170 = 5");
$want = sql($digest);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $digest), $want, '... and after a crash there');
$standby->promote;
is($standby->safe_psql('postgres', $by_index), $want, '... and as a primary');
check_clean($standby, 'standby');
$standby->stop;
$node->stop;
done_testing();
