# Prepared transactions across a crash: their rows, and the rows they locked.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('prepared', streaming => 1, conf => "autovacuum = off\nlock_timeout = 300ms\n");
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE parent (id int PRIMARY KEY, v int) USING lightning;
CREATE INDEX ON parent (v);
CREATE TABLE child (id int REFERENCES parent) USING lightning;
INSERT INTO parent VALUES (1, 1), (2, 2), (3, 3), (4, 4);
BEGIN;
INSERT INTO child VALUES (1);
SAVEPOINT kept;
INSERT INTO child VALUES (2);
RELEASE kept;
SAVEPOINT undone;
SELECT * FROM parent WHERE id = 3 FOR UPDATE;
ROLLBACK TO undone;
SELECT * FROM parent WHERE id = 4 FOR SHARE;
PREPARE TRANSACTION 'p';
SQL

# the row goes elsewhere, and the lock has to go with it
$node->safe_psql('postgres', 'UPDATE parent SET v = 22 WHERE id = 2');

for my $round ('before', 'after')
{
	for my $id (1, 2)
	{
		my ($rc, $out, $err) = $node->psql('postgres', "DELETE FROM parent WHERE id = $id");
		like($err, qr/lock timeout/, "$round the crash: row $id is locked against deletion");
	}
	my ($rc, $out, $err) = $node->psql('postgres', 'UPDATE parent SET v = 0 WHERE id = 4');
	like($err, qr/lock timeout/, "$round the crash: row 4 is locked against updates");
	$node->safe_psql('postgres', 'UPDATE parent SET v = v + 1 WHERE id < 4');
	$node->safe_psql('postgres', 'BEGIN; SELECT * FROM parent WHERE id = 3 FOR UPDATE; COMMIT');
	last if $round eq 'after';
	kill_server($node);
	$node->start;
}
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
is($node->safe_psql('postgres', 'SELECT * FROM child ORDER BY 1'), "1\n2", 'its rows are there');
$node->safe_psql('postgres', 'UPDATE parent SET v = 0 WHERE id = 4; DELETE FROM parent WHERE id > 2');
my ($rc, $out, $err) = $node->psql('postgres', 'DELETE FROM parent');
like($err, qr/foreign key constraint/, 'the constraint held');

# a standby that takes over
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', "INSERT INTO parent VALUES (5, 5); BEGIN; INSERT INTO child VALUES (5); PREPARE TRANSACTION 'q'");
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->promote;
($rc, $out, $err) = $standby->psql('postgres', 'DELETE FROM parent WHERE id = 5');
like($err, qr/lock timeout/, 'after a promotion: the row is locked');
$standby->safe_psql('postgres', "ROLLBACK PREPARED 'q'; DELETE FROM parent WHERE id = 5");
is($standby->safe_psql('postgres', 'SELECT count(*) FROM parent'), 2, 'and no more after a rollback');
$standby->stop;
done_testing();
