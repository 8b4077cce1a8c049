# Tables that extensions create while lightning is the default: heap tables, unless
# their scripts say otherwise, since code written in C may use them without asking
# the access method.  With an extension of our own, and with those of Debian whose
# code does: pg_cron, pglogical; and pg_partman, whose code is SQL.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

chomp(my $sharedir = `@{[ $ENV{PG_CONFIG} // 'pg_config' ]} --sharedir`);
my $dir = "$sharedir/extension";
my $have_all = 1;
for my $extension ('pg_cron', 'pglogical', 'pg_partman')
{
	next if -e "$dir/$extension.control";
	$have_all = 0;
	diag("extension $extension is not installed (package postgresql-15-cron, -pglogical or -partman)");
}
# t/check.sh installs them when it may
ok($have_all, 'the extensions are there') if $ENV{CI};

my $node = new_node('extensions', conf => <<CONF);
default_table_access_method = lightning
wal_level = logical
track_commit_timestamp = on
max_replication_slots = 10
max_wal_senders = 10
CONF
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'lightning,pg_cron,pglogical'\ncron.database_name = 'postgres'\ncron.host = '" . $node->host . "'")
	if $have_all;
$node->start;
# (extensions beyond the first line of the script need the access method)
$node->safe_psql('postgres', 'CREATE EXTENSION lightning');

# Tables and materialized views of an extension that are (not) heap's
sub members
{
	my ($extension, $condition) = @_;
	return $node->safe_psql('postgres', <<SQL);
SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_class c JOIN pg_am a ON a.oid = c.relam
WHERE c.relkind IN ('r', 'm') AND $condition AND c.oid IN (SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass
	AND refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = '$extension'))
SQL
}

# ---- an extension of our own ----
my @files = map { "$dir/$_" } ('ltg_own.control', 'ltg_own--1.sql', 'ltg_own--1--2.sql', 'ltg_other.control', 'ltg_other--1.sql');
sub file
{
	my ($name, $text) = @_;
	open(my $f, '>', "$dir/$name") or die "cannot write to $dir/$name: $!";
	print $f $text;
	close $f;
	return;
}
END { unlink @files if @files; }
file('ltg_own.control', "comment = 'test'\ndefault_version = '1'\nrequires = 'ltg_other'\nrelocatable = true\n");
file('ltg_own--1.sql', <<'SQL');
CREATE TABLE own_plain (id int PRIMARY KEY, v text);
CREATE TABLE own_lightning (id int PRIMARY KEY, v text) USING lightning;
CREATE TABLE own_ctas AS SELECT 1 AS i;
SELECT 2 AS i INTO own_into;
CREATE MATERIALIZED VIEW own_matview AS SELECT 3 AS i;
CREATE TABLE own_parent (id int) PARTITION BY RANGE (id);
CREATE TABLE own_partition PARTITION OF own_parent FOR VALUES FROM (1) TO (10);
CREATE TABLE own_child () INHERITS (own_plain);
CREATE TABLE own_like (LIKE own_lightning);
CREATE FUNCTION own_make(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE %I (i int)', name);
END $$;
SELECT own_make('own_by_function');
DO $$ BEGIN CREATE TABLE own_done (i int); EXCEPTION WHEN division_by_zero THEN NULL; END $$;
DO $$ BEGIN CREATE TABLE own_undone (i int); PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN CREATE TABLE own_redone (i int); END $$;
SQL
file('ltg_own--1--2.sql', "CREATE TABLE own_update (i int); SELECT own_make('own_update_by_function'); CREATE TABLE own_update_lightning (i int) USING lightning;\n");
file('ltg_other.control', "comment = 'test'\ndefault_version = '1'\n");
file('ltg_other--1.sql', "CREATE TABLE other_plain (i int);\n");

my ($rc, $out, $err) = $node->psql('postgres', "CREATE EXTENSION ltg_own CASCADE; SHOW default_table_access_method; CREATE TABLE mine (i int); SELECT own_make('mine_by_function')");
is($rc, 0, 'CREATE EXTENSION') or diag($err);
is($out, "lightning\n", 'the setting is what it was');
is(() = $err =~ /NOTICE:  tables of extension "ltg_own" are heap tables/g, 1, 'one notice');
is(members('ltg_own', "amname = 'heap'"), 'own_by_function own_child own_ctas own_done own_into own_like own_matview own_partition own_plain own_redone', 'its tables are heap tables');
is(members('ltg_own', "amname <> 'heap'"), 'own_lightning', 'but for the one that says otherwise');
is(members('ltg_other', "amname = 'heap'"), 'other_plain', 'so are those of an extension that it requires');
my $mine = "SELECT count(*) FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE amname = 'lightning' AND relname LIKE 'mine%'";
is($node->safe_psql('postgres', $mine), '2', 'tables of users are not, also by a function of the extension');
($rc, $out, $err) = $node->psql('postgres', "ALTER EXTENSION ltg_own UPDATE TO '2'; SHOW default_table_access_method");
is($out, 'lightning', 'the setting is what it was after ALTER EXTENSION');
like($err, qr/NOTICE:  tables of extension "ltg_own" are heap tables/, 'notice');
is(members('ltg_own', "amname = 'heap' AND relname LIKE 'own_update%'"), 'own_update own_update_by_function', 'ALTER EXTENSION ... UPDATE does the same');
is(members('ltg_own', "amname <> 'heap'"), 'own_lightning own_update_lightning', 'and leaves the choice to the script');

# failing, in a subtransaction, without the setting
file('ltg_other--1.sql', "CREATE TABLE other_plain (i int); SELECT 1 / 0;\n");
($rc, $out, $err) = $node->psql('postgres', <<'SQL', on_error_stop => 0);
DROP EXTENSION ltg_own, ltg_other;
CREATE EXTENSION ltg_other;
SHOW default_table_access_method;
DO $$ BEGIN CREATE EXTENSION ltg_other; EXCEPTION WHEN division_by_zero THEN CREATE TABLE mine_after (i int); END $$;
SHOW default_table_access_method;
BEGIN; SAVEPOINT s; CREATE EXTENSION ltg_other; ROLLBACK TO s; CREATE TABLE mine_in_transaction (i int); COMMIT;
SHOW default_table_access_method;
SQL
is($out, "lightning\nlightning\nlightning", 'an error gives the setting back');
unlike($err, qr/heap tables/, 'without a notice');
is($node->safe_psql('postgres', $mine), '4', 'and the next tables are lightning tables');
file('ltg_other--1.sql', "CREATE TABLE other_plain (i int);\n");
($rc, $out, $err) = $node->psql('postgres', 'SET default_table_access_method = heap; CREATE EXTENSION ltg_other; SHOW default_table_access_method');
is("$out|$err", 'heap|', 'no notice where heap is the default');
$node->safe_psql('postgres', 'DROP EXTENSION ltg_other');

# ---- Debian's ----
SKIP:
{
	skip 'the extensions are not installed', 14 unless $have_all;
	my $heap_only = "amname <> 'heap'";

	($rc, $out, $err) = $node->psql('postgres', 'CREATE EXTENSION pg_cron');
	like($err, qr/tables of extension "pg_cron" are heap tables/, 'pg_cron');
	is(members('pg_cron', $heap_only), '', 'pg_cron: heap tables');
	my $job = $node->safe_psql('postgres', "SELECT cron.schedule('a job', '* * * * *', 'INSERT INTO mine VALUES (1)')");
	is($node->safe_psql('postgres', "SELECT count(*), min(jobname) FROM cron.job"), '1|a job', 'pg_cron: a job');
	is($node->safe_psql('postgres', "SELECT jobid FROM cron.job WHERE jobid = $job"), $job, 'pg_cron: by its index');
	is($node->safe_psql('postgres', "SELECT cron.alter_job($job, schedule := '0 0 1 1 *'); SELECT schedule FROM cron.job"), "\n0 0 1 1 *", 'pg_cron: altered');
	is($node->safe_psql('postgres', "SELECT cron.unschedule($job)"), 't', 'pg_cron: unscheduled');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM cron.job'), '0', 'pg_cron: gone');

	($rc, $out, $err) = $node->psql('postgres', 'CREATE EXTENSION pglogical');
	like($err, qr/tables of extension "pglogical" are heap tables/, 'pglogical');
	is(members('pglogical', $heap_only), '', 'pglogical: heap tables');
	my $dsn = 'host=' . $node->host . ' port=' . $node->port . ' dbname=postgres';
	$node->safe_psql('postgres', "SELECT pglogical.create_node('here', '$dsn')");
	is($node->safe_psql('postgres', 'SELECT count(*), min(node_name) FROM pglogical.node'), '1|here', 'pglogical: a node');
	$node->safe_psql('postgres', <<SQL);
CREATE TABLE published (id int PRIMARY KEY, v text) USING heap;
SELECT pglogical.create_replication_set('some');
SELECT pglogical.replication_set_add_table('some', 'published');
SQL
	is($node->safe_psql('postgres', "SELECT count(*) FROM pglogical.replication_set_table"), '1', 'pglogical: a table in a set');
	$node->safe_psql('postgres', "SELECT pglogical.drop_replication_set('some'); SELECT pglogical.drop_node('here')");
	is($node->safe_psql('postgres', "SELECT (SELECT count(*) FROM pglogical.node), (SELECT count(*) FROM pglogical.replication_set)"), '0|0', 'pglogical: dropped');

	($rc, $out, $err) = $node->psql('postgres', 'CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman');
	is(members('pg_partman', $heap_only), '', 'pg_partman: heap tables');
	$node->safe_psql('postgres', <<SQL);
CREATE TABLE public.events (id int NOT NULL, at timestamptz NOT NULL DEFAULT now(), v text) PARTITION BY RANGE (at);
SELECT partman.create_parent('public.events', 'at', 'native', 'daily');
INSERT INTO events (id, v) SELECT i, 'event' FROM generate_series(1, 1000) i;
CALL partman.run_maintenance_proc();
SQL
	is($node->safe_psql('postgres', "SELECT count(*) > 4, bool_and(amname = 'lightning'), (SELECT count(*) FROM events) FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid JOIN pg_am a ON a.oid = relam WHERE inhparent = 'events'::regclass"),
		't|t|1000', "pg_partman: partitions of a user's table are lightning tables");
}
check_clean($node, 'at the end');
$node->stop;
done_testing();
