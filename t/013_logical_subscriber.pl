# Logical replication into lightning tables, for every REPLICA IDENTITY of the
# publisher's heap tables.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $pub = new_node('publisher', streaming => 'logical', conf => "autovacuum = off\n");
$pub->start;
my $sub = new_node('subscriber', streaming => 'logical', conf => "autovacuum = off\n");
$sub->start;

my %identity = (
	def => ['PRIMARY KEY (id)', ''],
	fulls => ['CHECK (true)', 'REPLICA IDENTITY FULL'],
	full_pk => ['PRIMARY KEY (id)', 'REPLICA IDENTITY FULL'],
	idx => ['UNIQUE (id)', 'REPLICA IDENTITY USING INDEX idx_id_key'],
	nothing => ['PRIMARY KEY (id)', 'REPLICA IDENTITY NOTHING'],
	parted => ['PRIMARY KEY (id)', '']);
for my $node ($pub, $sub)
{
	my $am = $node == $sub ? 'lightning' : 'heap';
	$node->safe_psql('postgres', 'CREATE EXTENSION lightning');
	for my $t (sort keys %identity)
	{
		my ($constraint, $identity) = @{ $identity{$t} };
		# on the subscriber: partitions, of which one gets the rows of the other
		if ($t eq 'parted' && $node == $sub)
		{
			$node->safe_psql('postgres', <<SQL);
CREATE TABLE parted (id int NOT NULL, v text, n numeric, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (MINVALUE) TO (500) USING lightning;
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (500) TO (MAXVALUE) USING lightning;
SQL
			next;
		}
		$node->safe_psql('postgres',
			"CREATE TABLE $t (id int NOT NULL, v text, n numeric, $constraint) USING $am");
		$node->safe_psql('postgres', "ALTER TABLE $t $identity") if $identity;
	}
}
$sub->safe_psql('postgres', <<SQL);
-- what is applied fires the triggers that ask for it
CREATE TABLE seen (op text, old int, new int) USING lightning;
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO public.seen VALUES (TG_OP, OLD.id, NEW.id);
	RETURN NULL;
END \$\$;
CREATE TRIGGER see AFTER UPDATE OR DELETE ON def FOR EACH ROW EXECUTE FUNCTION see();
ALTER TABLE def ENABLE ALWAYS TRIGGER see;
SQL

my @tables = sort keys %identity;
$pub->safe_psql('postgres', "INSERT INTO $_ SELECT g, repeat('v', g % 50), g / 7.0 FROM generate_series(1, 300) g") for @tables;
$pub->safe_psql('postgres', 'CREATE PUBLICATION p FOR TABLE ' . join(', ', grep { $_ ne 'nothing' } @tables));
$pub->safe_psql('postgres', q{CREATE PUBLICATION p_ins FOR TABLE nothing WITH (publish = 'insert, truncate')});
my $connstr = $pub->connstr . ' dbname=postgres';
$sub->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$connstr' PUBLICATION p, p_ins");

sub same
{
	my ($what) = @_;
	$pub->wait_for_catchup('s');
	for my $t (@tables)
	{
		my $q = "SELECT count(*), md5(string_agg(x::text, ',' ORDER BY x.id, x.v, x.n)) FROM $t x";
		is($sub->safe_psql('postgres', $q), $pub->safe_psql('postgres', $q), "$what: $t");
	}
	return;
}

$sub->wait_for_subscription_sync($pub, 's');
same('first copy');

for my $t (@tables)
{
	my $changes = $t eq 'nothing' ? '' : <<SQL;
UPDATE $t SET v = v || '!' WHERE id % 3 = 0;
UPDATE $t SET v = v || '?' WHERE id % 3 = 0;
UPDATE $t SET id = id + 1000 WHERE id % 10 = 1;
UPDATE $t SET v = repeat(md5(id::text), 500) WHERE id % 50 = 2;
UPDATE $t SET n = 0 WHERE id % 50 = 2;
DELETE FROM $t WHERE id % 10 = 5;
BEGIN;
SAVEPOINT a;
DELETE FROM $t;
ROLLBACK TO a;
UPDATE $t SET n = NULL WHERE id % 7 = 0;
COMMIT;
SQL
	$pub->safe_psql('postgres', "INSERT INTO $t SELECT g, NULL, g FROM generate_series(301, 320) g; $changes");
}
# with full identity and no key, equal rows are one as good as the other
$pub->safe_psql('postgres', q{INSERT INTO fulls SELECT 5000, 'same', 1 FROM generate_series(1, 5);
	DELETE FROM fulls WHERE ctid = (SELECT min(ctid) FROM fulls WHERE id = 5000);
	UPDATE fulls SET v = 'other' WHERE ctid = (SELECT max(ctid) FROM fulls WHERE id = 5000)});
same('changes');
is($sub->safe_psql('postgres', q{SELECT op, count(*) > 30,
	bool_and(CASE WHEN op = 'UPDATE' THEN new - old IN (0, 1000) ELSE old % 10 = 5 AND new IS NULL END) FROM seen GROUP BY op ORDER BY op}),
	"DELETE|t|t\nUPDATE|t|t", 'triggers have seen old and new rows');

# ---- the subscriber crashes with changes on their way, and locally locked rows ----
$pub->safe_psql('postgres', "UPDATE $_ SET v = 'crash ' || id WHERE id % 4 = 0") for grep { $_ ne 'nothing' } @tables;
kill_server($sub);
$pub->safe_psql('postgres', "UPDATE $_ SET v = 'after ' || id WHERE id % 8 = 0") for grep { $_ ne 'nothing' } @tables;
$sub->start;
same('after a crash of the subscriber');
my $s1 = $sub->background_psql('postgres');
$s1->query_safe('BEGIN; SELECT FROM def WHERE id = 8 FOR UPDATE');
$pub->safe_psql('postgres', q{UPDATE def SET v = 'locked' WHERE id = 8});
ok($sub->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'logical replication worker' AND wait_event_type = 'Lock'"),
	'applying waits for a local lock');
$s1->query_safe('COMMIT');
$s1->quit;
$pub->safe_psql('postgres', 'TRUNCATE ' . join(', ', @tables) . '; INSERT INTO def VALUES (1)');
same('after TRUNCATE');
$sub->safe_psql('postgres', 'DROP SUBSCRIPTION s');
is($sub->safe_psql('postgres', 'SELECT count(*) FROM lightning_check_all(index => true)'), 0, 'nothing is wrong');
$sub->stop;
$pub->stop;
done_testing();
