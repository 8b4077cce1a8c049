# Changes to lightning tables are not decoded yet: whoever asks for them is told,
# and nothing else of logical decoding suffers.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('publisher', streaming => 'logical', conf => "autovacuum = off\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION lightning;
CREATE SCHEMA s;
CREATE TABLE h (id int PRIMARY KEY, v text);
CREATE TABLE l (id int PRIMARY KEY, v text) USING lightning;
CREATE TABLE s.l (id int PRIMARY KEY) USING lightning;
CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) USING lightning;
CREATE TABLE parent (id int);
CREATE TABLE child () INHERITS (parent) USING lightning;
CREATE UNLOGGED TABLE u (id int) USING lightning;
SQL

sub says
{
	my ($sql, $pattern, $what) = @_;
	my (undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	like($err, $pattern, $what);
	return;
}

sub silent
{
	my ($sql, $what) = @_;
	my ($rc, undef, $err) = $node->psql('postgres', $sql);
	is("$rc$err", '0', $what);
	return;
}

# ---- publications are refused ----
my $move = qr/HINT:  Publish other tables by name, or move this one with ALTER TABLE \.\.\. SET ACCESS METHOD heap/;
my $refused = sub { qr/ERROR:  0A000: cannot publish lightning table "$_[0]".*DETAIL:  Logical decoding.*$move/s };
says('CREATE PUBLICATION bad FOR TABLE h, l', $refused->('l'), 'a table');
says('CREATE PUBLICATION bad FOR TABLE p', $refused->('p2'), 'a table with such a partition');
says(q{CREATE PUBLICATION bad FOR TABLE p WITH (publish_via_partition_root)}, $refused->('p2'), 'published via its root');
says('CREATE PUBLICATION bad FOR TABLE ONLY p', $refused->('p2'), 'ONLY does not leave out partitions');
says('CREATE PUBLICATION bad FOR TABLE parent', $refused->('child'), 'a table with such a child');
says('CREATE PUBLICATION bad FOR TABLES IN SCHEMA s', $refused->('l'), 'a schema');
says('SET search_path = s; CREATE PUBLICATION bad FOR TABLES IN SCHEMA CURRENT_SCHEMA', $refused->('l'), 'the current schema');
says('CREATE PUBLICATION bad FOR ALL TABLES', $refused->('.*'), 'all tables');
silent('CREATE PUBLICATION pub FOR TABLE h, ONLY parent', 'others are published');
says('ALTER PUBLICATION pub ADD TABLE l', $refused->('l'), 'adding a table');
says('ALTER PUBLICATION pub SET TABLE h, p', $refused->('p2'), 'setting tables');
says('ALTER PUBLICATION pub ADD TABLES IN SCHEMA s', $refused->('l'), 'adding a schema');
says('CREATE PUBLICATION bad FOR TABLE missing', qr/ERROR:  42P01: relation "missing" does not exist/, 'other errors are as with heap');
silent('CREATE PUBLICATION empty', 'a publication of nothing');
is($node->safe_psql('postgres', 'SELECT string_agg(pubname, $$ $$ ORDER BY pubname) FROM pg_publication'), 'empty pub', 'nothing is left of what was refused');

# ---- tables that come under a publication later ----
my $unpublished = sub { qr/WARNING:  0A000: changes to lightning table "$_[0]" are not published.*DETAIL.*HINT:  Drop the table/s };
my $once = sub { my $w = $unpublished->($_[0]); qr/\A(?!.*are not published.*are not published)(?s:.*)$w/s };
silent('INSERT INTO l VALUES (1); UPDATE l SET v = 1; DELETE FROM l; INSERT INTO p VALUES (1), (11); TRUNCATE p; INSERT INTO child VALUES (1)', 'unpublished tables are written to in silence');
silent('ALTER TABLE h SET ACCESS METHOD lightning; UPDATE h SET v = v; SELECT count(*) FROM h', 'no row, no warning');
says('INSERT INTO h VALUES (1), (2); INSERT INTO h VALUES (3); UPDATE h SET v = 1; DELETE FROM h', $once->('h'), 'SET ACCESS METHOD');
says("COPY h FROM stdin;\n1\t2\n\\.\n", $unpublished->('h'), 'COPY');
says('UPDATE h SET v = 2', $unpublished->('h'), 'UPDATE');
says('DELETE FROM h', $unpublished->('h'), 'DELETE');
says('ALTER PUBLICATION pub DROP TABLE h; INSERT INTO h VALUES (1); ALTER TABLE h SET ACCESS METHOD heap; ALTER PUBLICATION pub ADD TABLE h; '
	  . 'BEGIN; INSERT INTO h VALUES (2); ROLLBACK; ALTER TABLE h SET ACCESS METHOD lightning; INSERT INTO h VALUES (2)',
	$once->('h'), 'in a session that has written to it before');
silent('ALTER TABLE h SET ACCESS METHOD heap; UPDATE h SET v = 3', 'there and back');
silent('ALTER PUBLICATION pub SET TABLE ONLY parent, h', 'setting other tables');
silent('ALTER TABLE p DETACH PARTITION p2; ALTER PUBLICATION pub ADD TABLE p; INSERT INTO p VALUES (1)', 'a table whose partitions are heap');
says('ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20); INSERT INTO p VALUES (2), (12)', $unpublished->('p2'), 'ATTACH PARTITION');
silent('CREATE SCHEMA s2; CREATE PUBLICATION in_schema FOR TABLES IN SCHEMA s2', 'an empty schema');
says('CREATE TABLE s2.new (id int) USING lightning; INSERT INTO s2.new VALUES (1)', $unpublished->('new'), 'a new table');
says('ALTER TABLE l SET SCHEMA s2; INSERT INTO s2.l VALUES (1)', $unpublished->('l'), 'SET SCHEMA');
says('CREATE TABLE s2.ctas USING lightning AS SELECT 1 AS a', $unpublished->('ctas'), 'CREATE TABLE AS');
silent('CREATE UNLOGGED TABLE s2.u (id int) USING lightning; INSERT INTO s2.u VALUES (1); CREATE MATERIALIZED VIEW s2.m USING lightning AS SELECT 1 AS a; REFRESH MATERIALIZED VIEW s2.m',
	'what is not published anyway');
$node->safe_psql('postgres', 'DROP PUBLICATION in_schema, pub, empty; ALTER TABLE s2.l SET SCHEMA public; DROP SCHEMA s2 CASCADE');

# ---- other decoding: told once, and heap tables' changes come as ever ----
SKIP:
{
	skip 'no test_decoding', 8 unless $node->psql('postgres', q{SELECT pg_create_logical_replication_slot('slot', 'test_decoding')}) == 0;

	# rows of both in one transaction, long values among them
	$node->safe_psql('postgres', <<'SQL');
TRUNCATE h;
TRUNCATE s.l;
BEGIN;
INSERT INTO h VALUES (1, 'one');
INSERT INTO l SELECT g, (SELECT string_agg(md5((g * i)::text), '') FROM generate_series(1, 200) i) FROM generate_series(100, 300) g;
INSERT INTO h SELECT g, (SELECT string_agg(md5((g * i)::text), '') FROM generate_series(1, 200) i) FROM generate_series(100, 110) g;
SAVEPOINT a;
UPDATE l SET v = v || 'x' WHERE id < 150;
INSERT INTO h VALUES (2, 'two');
DELETE FROM l WHERE id < 120;
COMMIT;
VACUUM FULL l;
ALTER TABLE l ADD c int DEFAULT random();
CLUSTER l USING l_pkey;
ALTER TABLE l SET ACCESS METHOD heap;
ALTER TABLE l SET ACCESS METHOD lightning;
INSERT INTO h VALUES (3, 'three');
SQL
	my ($rc, $out, $err) = $node->psql('postgres', q{SELECT data FROM pg_logical_slot_peek_changes('slot', NULL, NULL) WHERE data NOT SIMILAR TO '(BEGIN|COMMIT)%'});
	is($rc, 0, 'decoding succeeds');
	is(scalar(grep { /INSERT: id\[integer\]:(\d+)/ && ($1 <= 3 || length > 6400) } grep { /^table public\.h: INSERT/ } split /\n/, $out),
		14, "all changes to the heap table, with their long values");
	unlike($out, qr/public\.l: (INSERT|UPDATE|DELETE)/, 'none to the lightning table');
	like($out, qr/^table s\.l: TRUNCATE/m, 'but a TRUNCATE is in PostgreSQL\'s own log record');
	my @warnings = $err =~ /(WARNING.*)/g;
	is(scalar(@warnings), 1, 'told once');
	like($err, qr/WARNING:  replication slot "slot" does not get changes to lightning tables.*DETAIL:  Logical decoding/s, 'what is missing');
	(undef, undef, $err) = $node->psql('postgres', q{SELECT count(*) FROM pg_logical_slot_get_changes('slot', NULL, NULL)});
	like($err, qr/does not get changes/, 'told again by the next call');

	# changes of another database, and none
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$node->safe_psql('other', 'CREATE EXTENSION lightning; CREATE TABLE l (id int) USING lightning; INSERT INTO l VALUES (1)');
	$node->safe_psql('postgres', 'INSERT INTO u VALUES (1); CREATE TEMP TABLE t (id int) USING lightning; INSERT INTO t VALUES (1)');
	(undef, undef, $err) = $node->psql('postgres', q{SELECT count(*) FROM pg_logical_slot_get_changes('slot', NULL, NULL)});
	is($err, '', 'silent where nothing is missing');

	# long values of lightning tables do not pile up in the decoding session
	$node->safe_psql('postgres', q{INSERT INTO l SELECT g, (SELECT string_agg(md5((g * i)::text), '') FROM generate_series(1, 3000) i) FROM generate_series(1000, 1500) g});
	$node->safe_psql('postgres', q{SELECT pg_stat_reset_replication_slot('slot')});
	$node->safe_psql('postgres', q{SELECT count(*) FROM pg_logical_slot_get_changes('slot', NULL, NULL)});
	cmp_ok($node->safe_psql('postgres', 'SELECT total_bytes FROM pg_stat_replication_slots'), '<', 100_000, 'no chunk of theirs is decoded');
	$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('slot')});
}

# ---- below wal_level = logical nothing is sent, of any table; PostgreSQL says so ----
$node->append_conf('postgresql.conf', "wal_level = replica\n");
$node->restart;
says('CREATE PUBLICATION pub FOR TABLE h, l', qr/\A(?!.*lightning).*WARNING:  55000: wal_level is insufficient to publish logical changes/s, "PostgreSQL's own warning");
silent('ALTER PUBLICATION pub SET TABLE p', 'as silent as with heap');
silent('INSERT INTO p VALUES (3), (13)', 'nothing is decoded');
$node->append_conf('postgresql.conf', "wal_level = logical\n");
$node->restart;
says('INSERT INTO p VALUES (4), (14)', $unpublished->('p2'), 'wal_level was raised later');
is($node->safe_psql('postgres', 'SELECT count(*) FROM lightning_check_all(index => true)'), 0, 'nothing is wrong');
$node->stop;
done_testing();
