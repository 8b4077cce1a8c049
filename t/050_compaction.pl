# Compaction in the server: space comes back without anybody asking, limits can
# be changed by reload, writers are slowed and counted rather than stopped, and
# what goes on can be seen.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Lightning;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_node('compaction', conf => <<CONF);
lightning.compaction_workers = 2
autovacuum = off
checkpoint_timeout = 1h
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning_test CASCADE');

sub dir_bytes
{
	my $sum = 0;
	$sum += -s $_ // 0 for glob($node->data_dir . '/lightning/*');
	return $sum;
}

# ---- a table emptied by DELETE gives its space back ----
$node->safe_psql('postgres', <<SQL);
CREATE TABLE d (id int PRIMARY KEY, v text) USING lightning;
INSERT INTO d SELECT i, md5(i::text) || md5((i * 7)::text) || md5((i * 13)::text) FROM generate_series(1, 300000) i;
SELECT lightning_compact('d');
SQL
my $before = $node->safe_psql('postgres', "SELECT lightning_relation_size('d')");
$node->safe_psql('postgres', 'CHECKPOINT; CHECKPOINT');
my $dir_before = dir_bytes();
$node->safe_psql('postgres', 'DELETE FROM d WHERE id % 10 <> 0');
ok($node->poll_query_until('postgres',
	"SELECT lightning_relation_size('d') < $before * 0.2"), 'deleted rows leave the files');
my $after = $node->safe_psql('postgres', "SELECT lightning_relation_size('d')");
note "before $before, after $after bytes";
my $until = time + 300;
sleep 0.5 while (dir_bytes() > $dir_before * 0.3 && time < $until);
cmp_ok(dir_bytes(), '<', $dir_before * 0.3, 'and the directory');
is($node->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE id % 10 = 0) FROM d'),
	'30000|30000', 'the rest is there');
# the dead rows' tombstones are in the way of nobody, and go with VACUUM
is($node->safe_psql('postgres', "VACUUM d; SELECT lightning_compact('d');
	SELECT tombstones FROM pg_stat_lightning_runs WHERE relname = 'd'"), "\n0",
	'VACUUM clears them');

# ---- nor do dead rows stay in memory, or under what is in memory, for scans to meet ----
$node->safe_psql('postgres', <<SQL);
CREATE TABLE m (id int) USING lightning;
INSERT INTO m SELECT generate_series(1, 5000);
SELECT lightning_flush();
INSERT INTO m SELECT generate_series(5001, 12000);
DELETE FROM m;
SQL
is($node->safe_psql('postgres', "VACUUM m; SELECT entries, memtable_keys FROM pg_stat_lightning_runs WHERE relname = 'm'"),
	'0|0', 'VACUUM leaves nothing of a table that was emptied');

# ---- a rate limit, changed by reload ----
my $sql = 'SELECT rate_limit_waits FROM pg_stat_lightning_compaction';
$node->safe_psql('postgres', "ALTER SYSTEM SET lightning.compaction_rate_limit = '256kB'");
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT rate_limit_bytes = 262144 FROM pg_stat_lightning_compaction'),
	'the limit is known to the workers');
$node->safe_psql('postgres', 'CREATE TABLE l (k int, v text) USING lightning');
for my $i (1 .. 10)
{
	$node->safe_psql('postgres', "INSERT INTO l SELECT (i * 7919) % 100003, md5((i + $i)::text) FROM generate_series(1, 3000) i;
		UPDATE l SET v = v || 'x' WHERE k % 3 = 0; SELECT lightning_flush()");
}
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_progress_lightning_compact
	WHERE relid = 'l'::regclass AND phase = 'waiting for rate limit'"), 'progress shows a merge that waits');
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity
	WHERE backend_type LIKE 'lightning compaction%' AND wait_event = 'LightningRateLimit'"),
	'the wait has a name');
cmp_ok($node->safe_psql('postgres', $sql), '>', 0, 'and is counted');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET lightning.compaction_rate_limit');
$node->reload;
ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_progress_lightning_compact)
	AND rate_limit_bytes = 0 FROM pg_stat_lightning_compaction"), 'without a limit it ends soon');
is($node->safe_psql('postgres', 'SELECT count(*) FROM l'), 30000, 'all rows are there');

# ---- what is asked for shows in the progress view, too ----
# nothing of it is left for the workers, who would be held as well
$node->safe_psql('postgres', "SELECT lightning_compact('l')");
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT 1 FROM pg_stat_progress_lightning_compact)'),
	'the workers rest');
$node->safe_psql('postgres', "SELECT lightning_stop_point_set('compact:before-publish')");
my ($in, $o, $e) = ('', '', '');
my $client = IPC::Run::start([ 'psql', '-X', '-h', $node->host, '-p', $node->port, '-c',
		"SELECT lightning_compact('l', rewrite => true)", 'postgres' ], '<', \$in, '>', \$o, '2>', \$e);
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_progress_lightning_compact p
	JOIN pg_stat_activity a USING (pid)
	WHERE relid = 'l'::regclass AND reason = 'asked for' AND phase = 'publishing'
	  AND p.versions_read > 0 AND p.bytes_total > 0 AND a.backend_type = 'client backend'
	  AND p.datname = 'postgres'"), 'lightning_compact has a row in the progress view');
$node->safe_psql('postgres', "SELECT lightning_stop_point_release('compact:before-publish')");
$client->finish;
is($client->result(0), 0, 'it goes on');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_progress_lightning_compact'), 0, 'until it ends');

# ---- writers against a backlog: slowed, counted, never stopped for long ----
$node->safe_psql('postgres', "ALTER SYSTEM SET lightning.compaction_rate_limit = '2MB'");
$node->reload;
$node->safe_psql('postgres', 'CREATE TABLE w (k bigint, v text) USING lightning');
my $script = $node->basedir . '/write.sql';
append_to_file($script, <<'SQL');
INSERT INTO w SELECT (random() * 1e12)::bigint, repeat(md5(random()::text), 4) FROM generate_series(1, 20);
SQL
my $load = IPC::Run::start(
	[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', 4, '-T', 10, '-f', $script, 'postgres' ],
	'>', \my $out, '2>', \my $err);
my ($seconds, $idle, $most, $last) = (0, 0, 0, 0);
while ($load->pumpable)
{
	my $t = time;
	$load->pump_nb;
	my ($rows, $backlog) = split /\|/, $node->safe_psql('postgres',
		"SELECT n_tup_ins, backlog FROM pg_stat_user_tables, pg_stat_lightning_compaction WHERE relname = 'w'");
	$most = $backlog if $backlog > $most;
	$seconds++;
	# statistics arrive about once a second, and the machine may be busy
	$idle = $rows > $last ? 0 : $idle + 1;
	$last = $rows;
	last if $idle > 20;
	sleep(1 - (time - $t)) if time - $t < 1;
}
$load->finish;
is($load->result(0), 0, 'the load ran to its end') or diag $err;
cmp_ok($idle, '<=', 20, 'no stop while it ran');
cmp_ok($most, '<=', 42, 'the backlog stays bounded');
note $node->safe_psql('postgres', 'SELECT row_to_json(c) FROM pg_stat_lightning_compaction c');
note $out;
cmp_ok($node->safe_psql('postgres', 'SELECT write_delays FROM pg_stat_lightning_compaction'), '>', 0,
	'writers were slowed down, and it is counted');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET lightning.compaction_rate_limit');
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT write_rate_bytes = 0 AND backlog < 25 FROM pg_stat_lightning_compaction'),
	'it ends with the backlog');

# ---- workers that are killed leave no reservation behind ----
$node->safe_psql('postgres', "SELECT lightning_stop_point_set('compact:start')");
$node->safe_psql('postgres', "INSERT INTO l SELECT i, 'x' FROM generate_series(1, 2000) i; SELECT lightning_flush()")
	for 1 .. 5;
ok($node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM pg_stat_progress_lightning_compact'),
	'a worker is held in the middle of a merge');
kill_server($node);
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_progress_lightning_compact WHERE running > interval \'1 minute\''),
	0, 'nothing is reserved after a crash');
$node->safe_psql('postgres', "SELECT lightning_compact('l'); SELECT lightning_compact('w')");
check_clean($node, 'at the end');
$node->stop;
done_testing();
