# Row locks beyond lightning.row_lock_size, and of prepared transactions, without
# any lock of the lock manager for them.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('row_locks', conf => <<CONF);
autovacuum = off
lightning.row_lock_size = '256kB'
max_locks_per_transaction = 10
lock_timeout = 10s
CONF
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE t (id int PRIMARY KEY, v int) USING lightning;
CREATE INDEX ON t (v);
INSERT INTO t SELECT g, g FROM generate_series(1, 30000) g;
CREATE TABLE wide (id int) USING lightning;
INSERT INTO wide SELECT g FROM generate_series(1, 600000) g;
-- one subtransaction each, so one entry each
CREATE FUNCTION lock_one_by_one(lo int, hi int, how text) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
	FOR i IN lo .. hi LOOP
		BEGIN
			EXECUTE 'SELECT FROM t WHERE id = \$1 FOR ' || how USING i;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END \$\$;
SQL

sub unlocked
{
	my ($table, $where) = @_;
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM (SELECT FROM $table WHERE $where FOR UPDATE SKIP LOCKED) x");
}

my $stored = "SELECT coalesce(sum(entries + memtable_keys), 0) FROM lightning_stat_stores() WHERE database = 0";
is($node->safe_psql('postgres', $stored), 0, 'nothing is stored at first');

# ---- many locks of one transaction ----
my $s1 = $node->background_psql('postgres');
$s1->query_safe(q{BEGIN; SELECT lock_one_by_one(1, 10000, 'UPDATE')});
cmp_ok($node->safe_psql('postgres', $stored), '>', 3000, 'locks went to the store');
is(unlocked('t', 'id <= 10100'), 100, 'every one of them holds');
$node->safe_psql('postgres', 'SELECT lightning_flush()');
is(unlocked('t', 'id <= 10100'), 100, 'and when they are in files');

# a savepoint gives back what was taken in it, and only that
$s1->query_safe(q{SAVEPOINT a; SELECT lock_one_by_one(10001, 20000, 'UPDATE')});
is(unlocked('t', 'true'), 10000, 'as many again in a savepoint');
$s1->query_safe('ROLLBACK TO a');
is(unlocked('t', 'true'), 20000, 'and free after going back to it');

# another transaction's, meanwhile
$node->safe_psql('postgres', q{BEGIN; SELECT lock_one_by_one(20001, 25000, 'SHARE'); COMMIT});
is(unlocked('t', 'true'), 20000, 'others come and go');
$s1->query_safe('COMMIT');
is(unlocked('t', 'true'), 30000, 'all is free at the end');
$node->safe_psql('postgres', 'SELECT lightning_flush(), lightning_flush()');
$node->poll_query_until('postgres', "SELECT ($stored) = 0") or die 'the store was not emptied';
pass('and nothing is left in the store');

# ---- few rows in each of many blocks, by several transactions at a time ----
my $s2 = $node->background_psql('postgres');
$s1->query_safe('BEGIN; SELECT FROM wide WHERE id % 256 IN (1, 2) FOR NO KEY UPDATE');
$s2->query_safe('BEGIN; SELECT FROM wide WHERE id % 256 IN (3, 4) FOR NO KEY UPDATE');
is(unlocked('wide', 'id % 256 < 5'), $node->safe_psql('postgres', 'SELECT count(*) FROM wide WHERE id % 256 IN (0)'),
	'locks of two transactions');
$s1->query_safe('ROLLBACK');
is(unlocked('wide', 'id % 256 = 1'), $node->safe_psql('postgres', 'SELECT count(*) FROM wide WHERE id % 256 IN (1)'),
	'those of one are gone');
$s2->query_safe('COMMIT');

# ---- a stored lock goes with its row ----
$s1->query_safe(q{BEGIN; SELECT lock_one_by_one(1, 5000, 'KEY SHARE')});
$node->safe_psql('postgres', 'UPDATE t SET v = -v WHERE id <= 100');
my ($rc, $out, $err) = $node->psql('postgres', q{SET lock_timeout = '100ms'; DELETE FROM t WHERE id = 50});
like($err, qr/lock timeout/, 'a row that has moved is still locked');
$s1->query_safe('COMMIT');

# ---- prepared ----
$node->safe_psql('postgres', q{BEGIN; SELECT lock_one_by_one(1, 8000, 'KEY SHARE'); PREPARE TRANSACTION 'many'});
$node->safe_psql('postgres', q{BEGIN; SELECT FROM t WHERE id BETWEEN 8001 AND 9000 FOR SHARE; PREPARE TRANSACTION 'few'});
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE locktype = 'userlock'}), 0,
	'no locks of the lock manager');
# these move, and what tells where they moved to is gone from the table
$node->safe_psql('postgres', 'UPDATE t SET v = 0 WHERE id <= 200');
$node->safe_psql('postgres', q{SELECT lightning_flush(); VACUUM t; SELECT lightning_compact('t')});
for my $round ('before', 'after')
{
	is(unlocked('t', 'id <= 10000'), 1000, "$round the crash: the prepared transactions' locks hold");
	($rc, $out, $err) = $node->psql('postgres', q{SET lock_timeout = '100ms'; DELETE FROM t WHERE id = 150});
	like($err, qr/lock timeout/, "$round the crash: also on rows that moved");
	last if $round eq 'after';
	kill_server($node);
	$node->start;
}
$node->safe_psql('postgres', "COMMIT PREPARED 'many'");
is(unlocked('t', 'id <= 10000'), 9000, 'one is committed');
$node->restart;
is(unlocked('t', 'id <= 10000'), 9000, 'the other one is there after a restart');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'few'");
is(unlocked('t', 'id <= 10000'), 10000, 'and rolled back');
is($node->safe_psql('postgres', 'SELECT count(*) FROM lightning_check_all(index => true)'), 0, 'nothing is wrong');
$s1->quit;
$s2->quit;
$node->stop;
done_testing();
