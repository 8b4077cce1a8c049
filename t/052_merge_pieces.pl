# A merge of a table of several files takes effect in pieces: rows are right, and
# can be written, between two of them; a crash there leaves what is published; and
# files come free on the way.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# flushes are not merges here, so that something is left to be merged
my $node = new_node('main', conf => "autovacuum = off\ncheckpoint_timeout = 1h\nlightning.space_limit = 0\n");
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning_test CASCADE;
CREATE TABLE t (id int PRIMARY KEY, n int, pad text) USING lightning;
INSERT INTO t SELECT i, 0, md5(i::text) || md5((-i)::text) FROM generate_series(1, 300000) i;
SELECT lightning_compact('t', rewrite => true);
SQL
sub sql { return $node->safe_psql('postgres', $_[0]); }

my $digest = 'SELECT count(*), sum(n), sum(hashtext(pad)::bigint) FROM t';
my $by_index = "SET enable_seqscan = off; SET enable_bitmapscan = off; $digest WHERE id > 0";
my $files = sql("SELECT runs FROM pg_stat_lightning_runs WHERE relname = 't'");
cmp_ok($files, '>=', 3, "a table of $files files");

for my $end ('release', 'kill server', 'kill server')
{
	sql('UPDATE t SET n = n + 1 WHERE id % 10 = 0');
	sql('DELETE FROM t WHERE id % 1000 = 1');
	my $before = sql($digest);
	sql("SELECT lightning_stop_point_set('compact:piece')");
	my ($out, $err) = ('', '');
	my $h = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', 'SELECT lightning_flush()',
			'-c', "SELECT lightning_compact('t')", 'postgres' ], '<', \undef, '>', \$out, '2>', \$err);
	sql("SELECT lightning_stop_point_wait('compact:piece')");
	is(sql($digest), $before, "$end: right rows between two pieces");
	is(sql($by_index), $before, '... by the index');
	is(sql('SELECT id FROM t ORDER BY id DESC LIMIT 1'), '300000', '... backward');
	sql('UPDATE t SET n = n + 1 WHERE id % 7 = 0');
	$before = sql($digest);
	is(sql("SELECT count(*) FROM lightning_check('t')"), '0', '... and check finds nothing');
	if ($end eq 'release')
	{
		sql("SELECT lightning_stop_point_release('compact:piece')");
		$h->finish;
		is($err, '', 'the merge ends');
	}
	else
	{
		kill_server($node);
		eval { $h->finish; };
		$node->start;
	}
	is(sql($digest), $before, "$end: right rows afterwards");
	is(sql($by_index), $before, '... by the index');
	check_clean($node, $end);
}
sql("SELECT lightning_compact('t')");
is(sql($by_index), sql($digest), 'merged at last');
check_clean($node, 'at the end');
$node->stop;
done_testing();
