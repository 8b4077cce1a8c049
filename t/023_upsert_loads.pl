# Loads in which many sessions insert the same keys speculatively, withdraw and
# delete them.  Each must go on: whoever is told to wait for somebody must have
# something to wait for.  Progress is looked at every second.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $stuck_after = 60;    # seconds without a single statement

my $node = new_node('upsert_loads', conf => <<CONF);
autovacuum = off
fsync = off
max_wal_size = 4GB
CONF
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION lightning;
CREATE EXTENSION btree_gist;
CREATE SEQUENCE progress CACHE 1;
CREATE TABLE bk (room bigint, during int4range, EXCLUDE USING gist (room WITH =, during WITH &&)) USING lightning;
CREATE TABLE un (k int NOT NULL, v int NOT NULL, who int) USING lightning;
-- slow, so that others get in between looking for conflicts and inserting
CREATE FUNCTION un_key(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(0.001);
	RETURN $1;
END $$;
CREATE UNIQUE INDEX un_key ON un (un_key(k));
CREATE INDEX ON un (v);
-- a plain insertion or an upsert, whatever others do: conflicts are expected
CREATE FUNCTION un_work(key int, what int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('progress');
	IF what = 0 THEN
		INSERT INTO un VALUES (key, 0) ON CONFLICT DO NOTHING;
	ELSIF what = 1 THEN
		INSERT INTO un VALUES (key, 0) ON CONFLICT (un_key(k)) DO UPDATE SET v = un.v + 1;
	ELSIF what = 2 THEN
		DELETE FROM un WHERE k = key;
	ELSE
		INSERT INTO un VALUES (key, 0);
	END IF;
EXCEPTION WHEN unique_violation OR deadlock_detected THEN
	NULL;
END $$;
SQL

sub script
{
	my ($name, $text) = @_;
	my $file = $node->basedir . "/$name.sql";
	append_to_file($file, $text);
	return $file;
}

# Runs pgbench to its end as long as the sequence moves.
sub run_load
{
	my ($name, $script, $clients, $transactions) = @_;
	my ($out, $err) = ('', '');
	my $h = IPC::Run::start(
		[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', $clients, '-j', 2,
			'-t', $transactions, '-f', $script, 'postgres' ], '>', \$out, '2>', \$err);
	my $last = -1;
	my $still = 0;
	while ($h->pumpable && $still < $stuck_after)
	{
		sleep 1;
		$h->pump_nb;
		my $now = $node->safe_psql('postgres', 'SELECT last_value FROM progress');
		$still = $now == $last ? $still + 1 : 0;
		$last = $now;
	}
	if ($still >= $stuck_after)
	{
		my $who = $node->safe_psql('postgres',
			"SELECT pid, wait_event, query FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'idle'");
		fail("$name: no progress any more");
		diag($who);
		$node->stop('immediate');    # nothing else ends a backend that spins
		$h->finish;
		done_testing();
		exit 1;
	}
	$h->finish;
	like($out, qr/processed: (\d+)\/\g1/, "$name: all transactions are done") or diag($err);
	return;
}

run_load('exclusion constraint', script('bk', <<'SQL'), 4, 1500);
INSERT INTO bk VALUES ((extract(epoch FROM clock_timestamp()) * 500)::bigint + 0 * nextval('progress'), '[1,5)')
	ON CONFLICT DO NOTHING;
SQL
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT room FROM bk GROUP BY room HAVING count(*) > 1) x'),
	0, 'no room is taken twice');

# transactions stay open after what they have withdrawn
run_load('unique index', script('un', <<'SQL'), 6, 250);
\set a random(1, 4)
\set b random(:a, 4)
\set x random(0, 3)
\set y random(0, 3)
BEGIN;
SELECT un_work(:a, :x);
SELECT un_work(:b, :y);
COMMIT;
SQL

# each by the index gives what the table has
is($node->safe_psql('postgres', 'SET enable_seqscan = off; SELECT count(*), count(DISTINCT k) FROM un WHERE un_key(k) BETWEEN 1 AND 4'),
	$node->safe_psql('postgres', 'SET enable_indexscan = off; SET enable_bitmapscan = off; SELECT count(*), count(DISTINCT k) FROM un'),
	'index and table agree');
# a backend that ends within a speculative insertion holds up nobody
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE en (k int PRIMARY KEY, v text) USING lightning;
CREATE FUNCTION en_key(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_lock(coalesce(current_setting('test.lock', true), '3')::int);
	PERFORM pg_advisory_unlock(coalesce(current_setting('test.lock', true), '3')::int);
	RETURN $1;
END $$;
CREATE UNIQUE INDEX ON en (en_key(k));
SQL
for my $how ('pg_terminate_backend', 'pg_cancel_backend')
{
	my ($holder, $first, $second) = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
	my $waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid =";
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	my ($pid1, $pid2) = map { $_->query_safe('SELECT pg_backend_pid()') } $first, $second;
	$first->query_safe('SET test.lock = 1; BEGIN');
	$second->query_safe('SET test.lock = 2');
	$first->query_until(qr//, "INSERT INTO en VALUES (1, 'first') ON CONFLICT (k) DO NOTHING;\n");
	$node->poll_query_until('postgres', "$waits $pid1") or die 'the first one does not wait';
	$second->query_until(qr//, "INSERT INTO en VALUES (1, '$how') ON CONFLICT (k) DO UPDATE SET v = en.v || ' and again';\n");
	$node->poll_query_until('postgres', "$waits $pid2") or die 'the second one does not wait';
	is($node->safe_psql('postgres', "SELECT wait_event FROM pg_stat_activity WHERE pid = $pid2"), 'spectoken',
		"$how: the second one waits for the token");
	$node->safe_psql('postgres', "SELECT $how($pid1)");
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM en WHERE v LIKE '$how%'")
		or die "$how: the second one does not go on";
	pass("$how: the second one goes on");
	$first->quit if $how eq 'pg_cancel_backend';
	$_->quit for $holder, $second;
	$node->safe_psql('postgres', 'DELETE FROM en');
}

is($node->safe_psql('postgres', 'SELECT count(*) FROM lightning_check_all(index => true)'), 0, 'nothing is wrong');
$node->stop;
done_testing();
