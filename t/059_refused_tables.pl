# An unprivileged user makes tables until he is refused.  What fails has not been
# logged: the standby goes on, and so does the server after a crash.  A shortage
# that a flush ends is no error.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;


my $node = new_node('refused', streaming => 1, conf => "autovacuum = off\nfsync = off\nlightning.metadata_size = '4MB'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning; CREATE ROLE maker LOGIN; CREATE SCHEMA m AUTHORIZATION maker;'
	. 'CREATE TABLE other (id int PRIMARY KEY, n int) USING lightning; INSERT INTO other SELECT i, 0 FROM generate_series(1, 1000) i');
my $backup = 'b';
$node->backup($backup);
my $standby = PostgreSQL::Test::Cluster->new('refused_standby');
$standby->init_from_backup($node, $backup, has_streaming => 1);
$standby->start;

# Makes tables with one statement each, from one number on, and ignores errors.
sub make_tables
{
	my ($first, $last) = @_;
	my ($out, $err) = ('', '');
	my $sql = join('', map { "CREATE TABLE m.t$_ (i int) USING lightning;\n" } $first .. $last);
	IPC::Run::run([ 'psql', '-XAtq', '-U', 'maker', '-h', $node->host, '-p', $node->port, 'postgres' ], '<', \$sql, '>', \$out, '2>', \$err);
	return $err;
}

# Other ways to make a store: each is refused or done, and leaves no trace when refused.
my @others = (
	'TRUNCATE other', 'VACUUM FULL other', 'CREATE TABLE m.c AS SELECT 1 AS i', 'CREATE UNLOGGED TABLE m.u (i int) USING lightning',
	'CREATE MATERIALIZED VIEW m.v USING lightning AS SELECT 1 AS i', 'CREATE TEMP TABLE tt (i int) USING lightning',
	'ALTER TABLE other SET LOGGED', 'BEGIN; CREATE TABLE m.s (i int) USING lightning; ROLLBACK');

my $n = 0;
my $err = '';
while ($err eq '' && $n < 40000)
{
	$err = make_tables($n + 1, $n + 500);
	$n += 500;
}
like($err, qr/ERROR:  lightning is out of shared memory/, "refused after less than $n tables");
like($err, qr/HINT:  You might need to increase lightning.metadata_size/, 'the hint names the setting');
make_tables($n + 1, $n + 50);
for my $statement (@others)
{
	my ($rc, $out, $said) = $node->psql('postgres', "SET default_table_access_method = lightning; $statement");
	ok($rc == 0 || $said =~ /lightning is out of shared memory/, "refused, or done: $statement") or diag($said);
	$node->psql('postgres', 'INSERT INTO other SELECT i, 0 FROM generate_series(1, 1000) i ON CONFLICT DO NOTHING');
}
my $made = $node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname ~ '^t[0-9]+' AND relnamespace = 'm'::regnamespace");
$node->safe_psql('postgres', 'UPDATE other SET n = n + 1');
my ($rc, $out, $said) = $node->psql('postgres', 'CHECKPOINT');
is($rc, 0, 'a checkpoint completes');

$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname ~ '^t[0-9]+' AND relnamespace = 'm'::regnamespace"), $made, 'the standby has them all');
is($standby->safe_psql('postgres', 'SELECT count(*), sum(n) FROM other'), '1000|1000', 'and goes on');
make_tables($n + 51, $n + 100);
kill_server($node);
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*), sum(n) FROM other'), '1000|1000', 'after a crash the server starts');
$node->wait_for_catchup($standby);
$node->safe_psql('postgres', join("\n", map { "DROP TABLE IF EXISTS m.t$_;" } 1 .. $n + 100), extra_params => ['-q', '-o', '/dev/null']);
$node->safe_psql('postgres', 'CHECKPOINT');
is(make_tables(1, 100), '', 'where tables were dropped there is room for others');
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname ~ '^t[0-9]+' AND relnamespace = 'm'::regnamespace"), '100', 'on the standby, too');

# ---- a shortage that a flush ends: stores that are dropped as fast as they come ----
my $loop = $node->basedir . '/truncate.sql';
append_to_file($loop, "TRUNCATE coming;\n");
$node->safe_psql('postgres', 'CREATE TABLE coming (i int) USING lightning');
my $said_loop = '';
IPC::Run::run([ 'pgbench', '-n', '-f', $loop, '-c', 1, '-t', 30000, '-h', $node->host, '-p', $node->port, 'postgres' ],
	'<', \undef, '>', \$out, '2>', \$said_loop);
unlike($said_loop, qr/ERROR/, 'TRUNCATE again and again, between two checkpoints');
like($out, qr/processed: 30000.30000/, 'is done each time');
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT count(*) FROM coming'), '0', 'on the standby, too');
$standby->promote;
is($standby->safe_psql('postgres', 'SELECT sum(n) FROM other'), '1000', 'and when it takes over');
$standby->stop;
$node->stop;
done_testing();
