# The primary truncates its commit log when its own files need it no more.  A
# standby's files may still ask for transactions that are then forgotten: those
# that ran when it flushed.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', streaming => 1, conf => "autovacuum = off\n");

# so that a few hundred transactions are enough to fill a segment of the log
command_ok([ 'pg_resetwal', '-x', 1048400, '-D', $primary->data_dir ], 'next transaction id is set');
open(my $clog, '+<', $primary->data_dir . '/pg_xact/0000') or die;
truncate($clog, 262144);
close $clog;

$primary->start;
$primary->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE t (id int PRIMARY KEY, a text) USING lightning;
INSERT INTO t VALUES (1, 'settled');
SQL
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->start;

# running when both flush: one will commit, one will not live to say how it ended
my $commits = $primary->background_psql('postgres');
my $crashes = $primary->background_psql('postgres');
$commits->query_safe("BEGIN; INSERT INTO t VALUES (2, 'commits'); UPDATE t SET a = 'changed' WHERE id = 1");
$crashes->query_safe("BEGIN; INSERT INTO t VALUES (3, 'crashes')");
$primary->safe_psql('postgres', 'CHECKPOINT');
$primary->wait_for_catchup($standby);
$standby->safe_psql('postgres', 'CHECKPOINT');
$commits->query_safe('COMMIT');
$primary->safe_psql('postgres', 'SELECT txid_current()');
kill_server($primary);
eval { $_->quit } for $commits, $crashes;
$primary->start;

$primary->safe_psql('postgres', 'DO $$ BEGIN FOR i IN 1 .. 1000 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$');
$primary->safe_psql('postgres', 'ALTER DATABASE template0 ALLOW_CONNECTIONS true');
$primary->safe_psql($_, 'VACUUM FREEZE') for 'template0', 'template1', 'postgres';
ok(!-e $primary->data_dir . '/pg_xact/0000', 'the primary has truncated its commit log');
$primary->wait_for_catchup($standby);
ok(!-e $standby->data_dir . '/pg_xact/0000', 'and so has the standby');

my $rows = "1|changed\n2|commits";
is($primary->safe_psql('postgres', 'SELECT * FROM t ORDER BY id'), $rows, 'the primary has its rows');
my ($rc, $out, $err) = $standby->psql('postgres', 'SELECT * FROM t ORDER BY id');
is($out, $rows, 'the standby has the same rows');
is($err, '', 'and reads them');
$standby->promote;
is($standby->safe_psql('postgres', 'SELECT lightning_flush(); SELECT * FROM t ORDER BY id'), "\n$rows", 'also when it is promoted');
$standby->safe_psql('postgres', "UPDATE t SET a = 'new'; VACUUM t");
is($standby->safe_psql('postgres', "SELECT count(*) FROM t WHERE a = 'new'"), 2, 'and its rows can be updated');
$standby->stop;
$primary->stop;
done_testing();
