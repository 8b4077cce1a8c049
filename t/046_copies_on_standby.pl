# A copy of a table (VACUUM FULL, CLUSTER, SET TABLESPACE) says of settled rows that
# everybody sees them, and lacks versions that nobody here needs: a snapshot on a standby
# that is older than that fails rather than see in it what it must not see.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', streaming => 1, conf => "autovacuum = off\n");
$primary->start;
$primary->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE t (id int PRIMARY KEY, n int) USING lightning;
INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) g;
CREATE TABLE u (id int) USING lightning;
INSERT INTO u VALUES (1);
SQL
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = 10ms\n");
$standby->start;

sub caught_up { $primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert')); }

# a snapshot that has not touched the table yet
sub begin
{
	my ($node) = @_;
	my $s = $node->background_psql('postgres', on_error_stop => 0);
	$s->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$s->query_safe('SELECT count(*) FROM u');
	return $s;
}

# what is sent to somebody whose session has been ended may not arrive
sub answer
{
	my ($s) = @_;
	my ($out) = eval { $s->query('SELECT sum(n) FROM t') };
	return $out // '';
}

sub merge
{
	$primary->safe_psql('postgres', 'SELECT lightning_flush()');
	$primary->safe_psql('postgres', "SELECT lightning_compact('t')");
}

for my $copy ('VACUUM FULL t', 'CLUSTER t USING t_pkey')
{
	# settled rows
	my $reader = begin($standby);
	$primary->safe_psql('postgres', 'UPDATE t SET n = n + 1');
	$primary->safe_psql('postgres', $copy);
	caught_up();
	is(answer($reader), '', "$copy: an older snapshot on the standby sees no later row");
	eval { $reader->quit; };

	# merged beside an old snapshot: half of the rows are older than the reader's
	$primary->safe_psql('postgres', 'UPDATE t SET n = 0');
	my $old = begin($primary);
	$primary->safe_psql('postgres', 'UPDATE t SET n = 1 WHERE id % 2 = 0');
	caught_up();
	$reader = begin($standby);
	$primary->safe_psql('postgres', 'UPDATE t SET n = 1 WHERE id % 2 = 1');
	merge();
	is($primary->safe_psql('postgres', "SELECT count(DISTINCT xmin::text) FROM t"), 2, 'each row shows its writer');
	is($old->query_safe('SELECT sum(n) FROM t'), 0, 'the old snapshot sees what it saw');
	$old->query_safe('COMMIT');
	my $other = begin($primary);
	$primary->safe_psql('postgres', $copy);
	caught_up();
	is(answer($reader), '', "$copy: an older snapshot on the standby does not read what lacks its versions");
	eval { $reader->quit; };
	is($other->query_safe('SELECT sum(n) FROM t'), 100, 'the primary\'s own sees the rows');
	$other->query_safe('COMMIT');
	$_->quit for $old, $other;
	is($standby->safe_psql('postgres', 'SELECT sum(n) FROM t'), 100, 'so does a new one on the standby');
}

# those the primary knows of are left alone
$standby->append_conf('postgresql.conf', "hot_standby_feedback = on\nwal_receiver_status_interval = 1\n");
$standby->reload;
my $reader = begin($standby);
$primary->poll_query_until('postgres', 'SELECT backend_xmin IS NOT NULL FROM pg_stat_replication')
	or die 'no feedback';
$primary->safe_psql('postgres', 'UPDATE t SET n = 2');
merge();
$primary->safe_psql('postgres', 'VACUUM FULL t');
caught_up();
is($reader->query_safe('SELECT sum(n) FROM t'), 100, 'with feedback an older snapshot sees what it saw');
$reader->query_safe('COMMIT');
$reader->quit;
is($standby->safe_psql('postgres', 'SELECT sum(n) FROM t'), 200, 'a new one the rest');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM lightning_check_all(index => true)'), 0, 'nothing is wrong');

# Feedback may come late: what is settled by then is settled, and the horizon that
# says so has receded.
sub feedback
{
	my ($on) = @_;
	my $is = $on ? 'IS NOT NULL' : 'IS NULL';

	$standby->append_conf('postgresql.conf', 'hot_standby_feedback = ' . ($on ? 'on' : 'off') . "\n");
	$standby->reload;
	$primary->poll_query_until('postgres', "SELECT backend_xmin $is FROM pg_stat_replication") or die 'no feedback';
}

$primary->safe_psql('postgres', 'CREATE TABLE v (id int PRIMARY KEY, k int) USING lightning; CREATE INDEX v_k ON v (k);
	INSERT INTO v SELECT g, g % 2 FROM generate_series(1, 2000) g');
for my $how ('VACUUM FULL t', 'VACUUM v')
{
	feedback(0);
	caught_up();
	$reader = begin($standby);
	$primary->safe_psql('postgres', $how =~ /FULL/ ? 'UPDATE t SET n = n + 1' : 'DELETE FROM v WHERE k = 0');
	merge();
	$primary->safe_psql('postgres', "SELECT lightning_compact('v')");
	feedback(1);
	$primary->safe_psql('postgres', $how);
	caught_up();
	my $query = $how =~ /FULL/ ? 'SELECT sum(n) FROM t' : 'SELECT count(*) FROM v WHERE k = 0';
	my ($seen) = eval { $reader->query("SET enable_seqscan = off; SET enable_bitmapscan = off; $query"); };
	is($seen // '', '', "$how: nor does one that feedback speaks of too late");
	eval { $reader->quit; };
}
is($standby->safe_psql('postgres', 'SELECT count(*) FROM lightning_check_all(index => true)'), 0, 'nothing is wrong');
$standby->stop;
$primary->stop;
done_testing();
