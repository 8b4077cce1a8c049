# Autovacuum and autoanalyze do their work on lightning tables; temporary tables
# that a crash left behind are no trouble for them.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('autovacuum', conf => <<CONF);
autovacuum_naptime = 1s
autovacuum_vacuum_threshold = 100
autovacuum_analyze_threshold = 100
autovacuum_vacuum_cost_delay = 0
log_min_messages = warning
CONF
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE a (id int PRIMARY KEY, n int) USING lightning;
CREATE INDEX ON a (n);
INSERT INTO a SELECT i, i % 100 FROM generate_series(1, 5000) i;
SQL
ok(wait_for_sql($node, "SELECT autoanalyze_count > 0 AND n_live_tup = 5000 FROM pg_stat_user_tables WHERE relname = 'a'", 't'),
	'autoanalyze ran');
is($node->safe_psql('postgres', "SELECT n_distinct, null_frac FROM pg_stats WHERE tablename = 'a' AND attname = 'n'"), '100|0',
	'and left statistics');
is($node->safe_psql('postgres', "SELECT reltuples FROM pg_class WHERE relname = 'a'"), '5000', 'and the number of rows');

$node->safe_psql('postgres', 'DELETE FROM a WHERE id % 2 = 0; UPDATE a SET n = n + 1;');
ok(wait_for_sql($node, "SELECT autovacuum_count > 0 AND n_dead_tup = 0 AND n_live_tup = 2500 FROM pg_stat_user_tables WHERE relname = 'a'", 't'),
	'autovacuum ran, and nothing is dead after it');
is($node->safe_psql('postgres', "SELECT (SELECT reltuples FROM pg_class WHERE relname = 'a'), (SELECT reltuples FROM pg_class WHERE relname = 'a_n_idx')"),
	'2500|2500', 'the index was cleaned');
# an update in place leaves nothing to vacuum, but something to analyze
my $count = $node->safe_psql('postgres', "SELECT autovacuum_count FROM pg_stat_user_tables WHERE relname = 'a'");

# ---- temporary tables whose owner died ----
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe('CREATE TEMP TABLE orphan (id int PRIMARY KEY, t text) USING lightning');
$session->query_safe("INSERT INTO orphan SELECT i, repeat('x', 5000) FROM generate_series(1, 100) i");
$session->query_safe('CREATE TEMP TABLE orphan2 USING lightning ON COMMIT DELETE ROWS AS SELECT 1');
my $oid = $node->safe_psql('postgres', "SELECT oid FROM pg_class WHERE relname = 'orphan'");
is($node->safe_psql('postgres', "SELECT pg_relation_size($oid) > 0"), 't', 'others can ask for its size');
my ($rc, $out, $err) = $node->psql('postgres',
	"SELECT count(*) FROM pg_temp_" . $node->safe_psql('postgres', "SELECT substring(nspname from 9) FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid WHERE c.oid = $oid") . '.orphan');
like($err, qr/cannot access temporary tables of other sessions/, 'but not for its rows');
my $pid = $session->query_safe('SELECT pg_backend_pid()');
crash_process($node, $pid);
eval { $session->quit; };
ok(wait_for_sql($node, "SELECT count(*) FROM a", '2500'), 'server is back after the crash of the owner');
ok(wait_for_sql($node, "SELECT count(*) FROM pg_class WHERE relname LIKE 'orphan%'", '0'), 'autovacuum dropped the orphans');
is($node->safe_psql('postgres', 'SELECT count(*) FROM lightning_stat_stores() WHERE backend >= 0'), '0', 'nothing of them is left');
my $log = slurp_file($node->logfile);
like($log, qr/dropping orphan temp table "postgres\.pg_temp_\d+\.orphan"/, 'log tells of it') if $log =~ /LOG:/;
unlike($log, qr/(ERROR|PANIC).*orphan/, 'without complaint');
$node->safe_psql('postgres', 'CREATE TEMP TABLE orphan (id int) USING lightning; INSERT INTO orphan VALUES (1)');
check_clean($node, 'after all');
$node->stop;

# What wraparound protection forces goes on as well.
$node->append_conf('postgresql.conf', "autovacuum_freeze_max_age = 100000\nvacuum_freeze_min_age = 0\nvacuum_freeze_table_age = 0");
$node->start;
$node->safe_psql('postgres', 'CREATE TABLE quiet (id int) USING lightning; INSERT INTO quiet VALUES (1)');
$node->safe_psql('postgres', <<'SQL');
CREATE PROCEDURE burn(n int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM pg_current_xact_id();
		COMMIT;
	END LOOP;
END $$;
SET synchronous_commit = off;
CALL burn(110000);
SQL
ok(wait_for_sql($node, "SELECT age(relfrozenxid) < 100000 FROM pg_class WHERE relname = 'quiet'", 't'),
	'vacuum to prevent wraparound ran');
is($node->safe_psql('postgres', 'SELECT count(*) FROM quiet'), '1', 'and kept what is there');
$node->stop;
done_testing();
