# A streaming standby: same rows, answers queries while it replays, survives
# SIGKILL and restartpoints, can be promoted.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $primary = new_node('primary', streaming => 1);
$primary->start;
setup_load($primary, 500);
my $load = start_load($primary, 1, seconds => 2);
finish_load($load);

$primary->safe_psql('postgres', 'CREATE UNLOGGED TABLE unlogged USING lightning AS SELECT generate_series(1, 100) AS id');

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

my $digest = q{SELECT (SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM account t),
	(SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM history t),
	(SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM acked t),
	(SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM queue t)};
my $balanced = q{SELECT (SELECT coalesce(sum(balance), 0) FROM account) = (SELECT coalesce(sum(delta), 0) FROM history)};

sub same
{
	my ($what) = @_;
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	is($standby->safe_psql('postgres', $digest), $primary->safe_psql('postgres', $digest), $what);
	return;
}

same('the standby starts with the content of the primary');
my (undef, undef, $refused) = $standby->psql('postgres', 'SELECT count(*) FROM unlogged');
like($refused, qr/ERROR:  cannot access temporary or unlogged relations during recovery/, 'unlogged tables are refused as with heap');

# ---- queries during replay see consistent states ----
for my $cycle (2 .. 4)
{
	$load = start_load($primary, $cycle, seconds => 3);
	my $bad = 0;
	for (1 .. 8)
	{
		my ($rc, $out) = $standby->psql('postgres', $balanced);
		$bad++ unless $rc == 0 && $out eq 't';
		sleep 0.2;
	}
	is($bad, 0, "sums agree on the standby during load $cycle");
	if ($cycle == 3)
	{
		$primary->safe_psql('postgres', 'CHECKPOINT');
		$standby->safe_psql('postgres', 'CHECKPOINT');
		kill_server($standby);
		$standby->start;
	}
	if ($cycle == 4)
	{
		$standby->stop('immediate');
		$standby->start;
	}
	finish_load($load);
	same("equal content after load $cycle");
}

# ---- restartpoint, then a crash exactly there ----
$primary->safe_psql('postgres', 'CHECKPOINT');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$standby->safe_psql('postgres', 'CHECKPOINT');
kill_server($standby);
$standby->start;
same('equal content after a restartpoint and SIGKILL');

# ---- the primary crashes: its end-of-recovery checkpoint is a restartpoint too ----
$primary->safe_psql('postgres', "INSERT INTO queue (item) SELECT 'before crash' FROM generate_series(1, 500)");
kill_server($primary);
$primary->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$standby->safe_psql('postgres', 'CHECKPOINT');
$standby->stop('immediate');
$standby->start;
same('equal content after a crash of the primary');

# ---- clean stop of the primary, restart of the standby at the shutdown checkpoint ----
$primary->stop('fast');
my ($shutdown) = run_command([ 'pg_controldata', $primary->data_dir ]);
($shutdown) = $shutdown =~ /^Latest checkpoint location: +(\S+)/m;
ok(wait_for_sql($standby, "SELECT pg_last_wal_replay_lsn() > '$shutdown'", 't'), 'the standby has replayed the shutdown checkpoint');
$standby->restart;
is($standby->safe_psql('postgres', 'SELECT count(*) > 0 FROM account'), 't', 'rows are there before any new record arrives');
$primary->start;
same('equal content after a clean restart of the primary');

# ---- a query is not cancelled by clean-up on the primary ----
my ($in, $out, $err) = ('', '', '');
my $timer = IPC::Run::timeout(600);
my $psql = IPC::Run::start([ 'psql', '-XAtq', '-h', $standby->host, '-p', $standby->port, 'postgres' ], '<', \$in, '>', \$out, '2>', \$err, $timer);
$in .= "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'n=' || count(*) FROM queue;\n";
$psql->pump until $out =~ /n=(\d+)/;
my $count = $1;
$primary->safe_psql('postgres', 'DELETE FROM queue; SELECT lightning_flush()');
$primary->safe_psql('postgres', "SELECT lightning_compact('queue')");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$out = '';
$in .= "SET enable_indexscan = off; SET enable_indexonlyscan = off; SELECT 'again=' || count(*) FROM queue; COMMIT;\n\\q\n";
eval { $psql->finish; };
like($out, qr/again=$count\b/, 'an old snapshot on the standby still sees its rows');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM queue'), '0', 'a new one does not');

# ---- promotion, writes, crash, restart ----
$primary->stop('immediate');
$standby->promote;
is($standby->safe_psql('postgres', 'SELECT count(*) FROM unlogged; INSERT INTO unlogged VALUES (1); SELECT * FROM unlogged'), "0\n1", 'unlogged tables are empty, and there, after a promotion');
$standby->safe_psql('postgres', "INSERT INTO queue (item) VALUES ('after promotion')");
$load = start_load($standby, 50, seconds => 2);
sleep 1;
kill_server($standby);
finish_load($load);
$standby->start;
verify_load($standby, $load, 'promoted standby after a crash');
is($standby->safe_psql('postgres', "SELECT count(*) FROM queue WHERE item = 'after promotion'"), '1', 'the row written after promotion is there');
$standby->stop;
done_testing();
