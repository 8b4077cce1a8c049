# The cache: warm again after a restart, and not washed out by a scan.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use File::Copy qw(copy);

my $node = new_node('prewarm', conf => <<CONF);
lightning.prewarm_interval = 0
autovacuum = off
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning');
my $list = $node->data_dir . '/lightning/prewarm';

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub stat_of { return sql("SELECT $_[0] FROM pg_stat_lightning_cache"); }

# What a statement costs: hits and misses of the cache.
sub cost
{
	my ($sql) = @_;
	my ($h0, $m0) = split /\|/, stat_of('hits, misses');
	sql($sql);
	my ($h1, $m1) = split /\|/, stat_of('hits, misses');
	return ($h1 - $h0, $m1 - $m0);
}

# The worker is launched by the flusher, some moments after the start.
sub wait_prewarmed
{
	wait_for_sql($node, "SELECT prewarm_read > 0 FROM pg_stat_lightning_cache", 't');
	wait_for_sql($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'lightning prewarm'", '0');
}

# hot: about 3 MB of blocks; big: ten times the cache of 8 MB
sql(<<SQL);
CREATE TABLE hot (id int PRIMARY KEY, v text) USING lightning;
INSERT INTO hot SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 25000) i;
CREATE TABLE big (id int, v text) USING lightning;
INSERT INTO big SELECT i, repeat(md5(i::text), 24) FROM generate_series(1, 110000) i;
SELECT lightning_compact('hot'), lightning_compact('big');
SQL
my $points = "SET enable_seqscan = off; SELECT count(v) FROM generate_series(1, 25000, 3) g(i) JOIN hot ON id = i";
$points = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; $points";

# ---- a scan of ten times the cache leaves point reads as they were ----
my ($raw) = sql("SELECT raw_bytes FROM pg_stat_lightning_runs WHERE relname = 'big'");
cmp_ok($raw, '>', 10 * 8 * 1024 * 1024, 'the big table is ten times the cache');
cost($points) for 1 .. 3;
my ($hits, $misses) = cost($points);
is($misses, 0, 'the hot table is in the cache');
my ($scan_hits, $scan_misses) = cost('SELECT sum(length(v)) FROM big');
is(sql('SELECT count(*) FROM big'), '110000', 'the scan reads all of it');
my ($hits_after, $misses_after) = cost($points);
cmp_ok($misses_after, '<=', ($hits + $misses) / 100, "at most 1% of the point reads miss after a scan ($misses_after of $hits_after)");
cost($points);
cost('SELECT sum(length(v)) FROM big');
cost($points);
is((cost($points))[1], 0, 'and again none');

# ---- a clean restart ----
$node->restart;
wait_prewarmed();
ok(-s $list, 'the list was saved');
is((cost($points))[1], 0, 'all hits after a restart');
cmp_ok(stat_of('prewarm_read'), '>', 100, 'the view tells how many were read');
like(slurp_file($node->logfile), qr/lightning prewarmed (\d+) of \1 blocks/, 'so does the log');

# ---- a crash: the list of before, or of the last interval ----
my $offset = -s $node->logfile;
kill_server($node);
$node->start;
wait_prewarmed();
is((cost($points))[1], 0, 'all hits after a crash of the server');
$node->append_conf('postgresql.conf', 'lightning.prewarm_interval = 1');
$node->reload;
unlink $list;
wait_for_sql($node, 'SELECT prewarm_saved > 100 FROM pg_stat_lightning_cache', 't');
ok(-s $list, 'the list is written every so often');
$node->append_conf('postgresql.conf', 'lightning.prewarm_interval = 0');
$node->reload;

# ---- a crash of its processes only ----
my $pid = worker_pid($node, 'lightning flusher');
crash_process($node, $pid);
$node->poll_query_until('postgres', 'SELECT prewarm_read > 100 FROM pg_stat_lightning_cache')
  or die 'no prewarming after a crash restart';
is((cost($points))[1], 0, 'all hits after a crash restart');

# ---- files that are gone ----
copy($list, "$list.old") or die;
sql("SELECT lightning_compact('hot', rewrite => true), lightning_compact('big', rewrite => true)");
sql('SELECT lightning_flush()');
sql('CHECKPOINT');
$node->stop;
copy("$list.old", $list) or die;
$offset = -s $node->logfile;
$node->start;
wait_for_log_line(qr/lightning prewarmed 0 of \d+ blocks/);
is(sql('SELECT count(*) FROM hot'), '25000', 'blocks of files that are gone are passed over');

sub wait_for_log_line
{
	my ($pattern) = @_;
	for (1 .. 6000)
	{
		return pass("log: $pattern") if substr(slurp_file($node->logfile), $offset) =~ $pattern;
		select undef, undef, undef, 0.05;
	}
	return fail("log: $pattern");
}

# ---- damage ----
cost($points) for 1 .. 3;
$node->stop;
open(my $f, '+<:raw', $list) or die;
seek $f, 40, 0;
print $f "damage";
close $f;
$offset = -s $node->logfile;
$node->start;
wait_for_log_line(qr/lightning ignores a damaged list of blocks to prewarm/);
is(sql('SELECT count(*) FROM hot'), '25000', 'a damaged list does no harm');
cost($points) for 1 .. 3;
$node->restart;
wait_prewarmed();
is((cost($points))[1], 0, 'and is replaced');

# ---- a smaller cache stops when it is full ----
$node->append_conf('postgresql.conf', "lightning.cache_size = '1MB'");
$offset = -s $node->logfile;
$node->restart;
wait_for_log_line(qr/lightning prewarmed \d+ of \d+ blocks.*the cache is full/s);
$node->append_conf('postgresql.conf', "lightning.cache_size = '8MB'");
$node->restart;
cost($points) for 1 .. 3;

# ---- off ----
$node->append_conf('postgresql.conf', 'lightning.prewarm = off');
$node->restart;
is(stat_of('prewarm_read'), '0', 'nothing is read when it is off');
cmp_ok((cost($points))[1], '>', 50, 'so blocks are missed');

# ---- compressed blocks behind a small cache ----
$node->append_conf('postgresql.conf', "lightning.cache_size = '1MB'\nlightning.compressed_cache_size = '8MB'");
$node->restart;
cost($points) for 1 .. 3;
my ($ch0, $cm0) = split /\|/, stat_of('compressed_hits, compressed_misses');
cmp_ok((cost($points))[1], '>', 50, 'blocks that a small cache misses');
my ($ch1, $cm1) = split /\|/, stat_of('compressed_hits, compressed_misses');
cmp_ok($ch1 - $ch0, '>', 50, 'are found compressed in memory');
is($cm1 - $cm0, 0, 'and not read');
check_clean($node, 'with compressed blocks');
$node->stop;
done_testing();
