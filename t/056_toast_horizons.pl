# Rows and their long values are cleaned by two horizons, and one that is computed
# later may be behind: transactions of other databases, a standby's late feedback.
# What makes copies and indexes meets versions whose chunks are gone, and must leave
# them out; heap tables of the same contents say what is right.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', streaming => 1, conf => "autovacuum = off\nwal_level = logical\nmax_standby_streaming_delay = -1\n");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE mine');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql($_, 'CREATE EXTENSION lightning; CREATE TABLE seen (id int) USING lightning; INSERT INTO seen VALUES (1)') for qw(mine other);
$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('sb', true)");
$node->backup('b');

sub sql { return $node->safe_psql('mine', $_[0]); }

my $fill = "SELECT i, i % 7, repeat(md5(i::text), 100), repeat(chr(65 + i % 20), 2200) FROM generate_series(1, 60) i";
my $digest = 'count(*), sum(k), md5(string_agg(id || v || w, \',\' ORDER BY id))';

sub make_table
{
	my ($am, $t) = @_;
	sql("CREATE TABLE $t (id int PRIMARY KEY, k int, v text, w text) USING $am;"
		. "ALTER TABLE $t ALTER v SET STORAGE EXTERNAL, ALTER w SET STORAGE EXTERNAL; CREATE INDEX ${t}_w ON $t (w);"
		. "CREATE INDEX ${t}_brin ON $t USING brin (w) WITH (pages_per_range = 1, autosummarize = off); INSERT INTO $t $fill");
	return;
}

my %change = (
	twice => [ "UPDATE %s SET v = repeat(md5(k::text), 90)", "UPDATE %s SET v = v || 'x', w = repeat('z', 2300)" ],
	move => [ "UPDATE %s SET w = repeat('y', 2400)" ],
	both => [ "UPDATE %s SET v = v || v", "DELETE FROM %s WHERE id %% 2 = 0" ]);
my %command = (
	'VACUUM FULL' => 'VACUUM FULL %s',
	'CLUSTER, sorted' => 'SET enable_indexscan = off; CLUSTER %s USING %s_w',
	'CLUSTER, by index' => 'SET enable_sort = off; CLUSTER %s USING %s_w',
	'VACUUM FULL, a column less' => 'ALTER TABLE %s DROP k; ALTER TABLE %s ADD k int DEFAULT 1; VACUUM FULL %s',
	'CREATE INDEX' => 'CREATE INDEX ON %s (w)',
	'CREATE INDEX, expression' => 'CREATE INDEX ON %s (length(v)) WHERE w > \'\'',
	'REINDEX' => 'REINDEX TABLE %s',
	'BRIN' => "SELECT brin_desummarize_range('%s_brin', 0); SELECT brin_summarize_new_values('%s_brin')",
	'ALTER TABLE' => 'ALTER TABLE %s ALTER k TYPE bigint',
	'SET TABLESPACE' => 'ALTER TABLE %s SET TABLESPACE ts');

# The rows by each way to find them.
sub rows
{
	my ($t) = @_;
	my $query = "SELECT $digest FROM $t WHERE w > ''";
	return sql("SET enable_bitmapscan = off; $query; SET enable_seqscan = off; $query; SET enable_bitmapscan = on; SET enable_indexscan = off; $query");
}

sub run_command_on
{
	my ($command, $t) = @_;
	my ($rc, $out, $err) = $node->psql('mine', $command{$command} =~ s/%s/$t/gr);
	return $err;
}

my $space = $node->basedir . '/ts';
mkdir $space or die;
sql("CREATE TABLESPACE ts LOCATION '$space'");

# ---- something open in another database ----
my $s = $node->background_psql('other');
my %open = (
	writer => [ 'BEGIN; SELECT txid_current()', 'ROLLBACK' ],
	reader => [ 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM seen; SELECT txid_current()', 'COMMIT' ],
	prepared => [ "BEGIN; INSERT INTO seen VALUES (2); PREPARE TRANSACTION 'p'", "ROLLBACK PREPARED 'p'" ]);
my $n = 0;
for my $open (sort keys %open)
{
	my @tables;
	for my $change (sort keys %change)
	{
		for my $command (sort keys %command)
		{
			# all pairs once, and the first kind with everything
			next if $open ne 'writer' && $command !~ /VACUUM FULL$|sorted|expression/;
			my $t = 't' . ++$n;
			push @tables, [ $t, $change, $command ];
			make_table('lightning', "l$t");
			make_table('heap', "h$t");
		}
	}
	$s->query_safe($open{$open}[0]);
	for my $of (@tables)
	{
		my ($t, $change) = @$of;
		for my $am (qw(l h))
		{
			sql(join '; ', map { sprintf($_, "$am$t") } @{ $change{$change} });
		}
	}
	sql('VACUUM');
	sql('SELECT lightning_flush()');
	for my $of (@tables)
	{
		my ($t, $change, $command) = @$of;
		is(run_command_on($command, "l$t"), '', "$open, $change: $command");
		run_command_on($command, "h$t");
		is(rows("l$t"), rows("h$t"), "$open, $change: $command: rows");
	}
	$s->query_safe($open{$open}[1]);
}
$s->quit;
is(sql('SELECT * FROM lightning_check_all(index => true)'), '', 'nothing to complain about');

# ---- one of this database, which needs the old versions and keeps their chunks ----
for my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	for my $change (sort keys %change)
	{
		for my $command ('VACUUM FULL', 'CLUSTER, sorted', 'CREATE INDEX', 'BRIN')
		{
			my $t = 'lt' . ++$n;
			next if $level eq 'SERIALIZABLE' && $command ne 'VACUUM FULL';
			make_table('lightning', $t);
			my $old = $node->background_psql('mine');
			my $ask = "SELECT $digest FROM $t WHERE w > ''";

			$old->query_safe("BEGIN ISOLATION LEVEL $level");
			# (a lock on the table would keep the command away)
			$old->query_safe('SELECT count(*) FROM seen');
			my $before = sql("SELECT $digest FROM $t WHERE w > ''");
			sql(sprintf($_, $t)) for @{ $change{$change} };
			sql('VACUUM');
			is(run_command_on($command, $t), '', "$level, $change: $command");
			is($old->query_safe($ask), $before, "$level, $change: $command: what the old snapshot sees");
			is($old->query_safe("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off; $ask"), $before,
				"$level, $change: $command: ... by a bitmap");
			$old->query_safe('COMMIT');
			$old->quit;
			is(rows($t), join("\n", (sql("SELECT $digest FROM $t")) x 3), "$level, $change: $command: table and indexes");
			sql("DROP TABLE $t");
		}
	}
}

# ---- a standby whose feedback comes late ----
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->append_conf('postgresql.conf', "primary_slot_name = 'sb'\nhot_standby_feedback = off\nwal_receiver_status_interval = 1\n");
make_table($_ eq 'l' ? 'lightning' : 'heap', "${_}late") for qw(l h);
$standby->start;
$node->wait_for_catchup($standby);
my $reader = $standby->background_psql('other');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM seen');
sql("UPDATE ${_}late SET v = repeat('u', 5000) WHERE id % 2 = 0; DELETE FROM ${_}late WHERE id % 5 = 0") for qw(l h);
sql('VACUUM');
$standby->append_conf('postgresql.conf', 'hot_standby_feedback = on');
$standby->reload;
ok(wait_for_sql($node, "SELECT xmin IS NOT NULL FROM pg_replication_slots", 't', 60), 'feedback has come');
is(run_command_on('VACUUM FULL', 'llate'), '', 'late feedback: VACUUM FULL');
run_command_on('VACUUM FULL', 'hlate');
is(rows('llate'), rows('hlate'), 'late feedback: rows');
$reader->query_safe('COMMIT');
$reader->quit;
$node->wait_for_catchup($standby);
is($standby->safe_psql('mine', "SELECT $digest FROM llate"), sql("SELECT $digest FROM hlate"), 'late feedback: the standby');

# ---- a logical slot keeps catalogs, and nothing of these ----
sql("SELECT pg_create_logical_replication_slot('ls', 'test_decoding')");
make_table('lightning', 'lslot');
sql("ALTER TABLE lslot SET (user_catalog_table = true)");
sql($_) for map { sprintf($_, 'lslot') } @{ $change{both} };
sql('VACUUM');
is(run_command_on('VACUUM FULL', 'lslot'), '', 'a logical slot: VACUUM FULL of a catalog table of a user');
is(run_command_on('CREATE INDEX, expression', 'lslot'), '', 'a logical slot: CREATE INDEX');
sql("SELECT pg_drop_replication_slot('ls')");

is(sql('SELECT * FROM lightning_check_all(index => true)'), '', 'nothing to complain about, again');
$standby->stop;
$node->stop;
done_testing();
