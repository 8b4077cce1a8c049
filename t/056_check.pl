# lightning_check: it finds heap pages, rows and index entries that do not belong
# together, in every kind of index, and finds nothing while a busy table is all right.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('check');
$node->start;

sub sql { return $node->safe_psql('postgres', @_); }

# Exactly these problems, with the numbers of files and databases left out.
sub finds
{
	my ($what, $query, @expected) = @_;
	my $got = sql($query);
	$got =~ s/(relation file|database|store) \d+/$1 N/g;
	is($got, join("\n", @expected), $what);
	return;
}

sql(<<SQL);
CREATE EXTENSION lightning;
CREATE EXTENSION btree_gin;
CREATE TYPE pair AS (x int, y text);
CREATE TABLE a (id int, word text, n name, x numeric, part bool, list int[], p point, r int4range, j jsonb, pair pair,
	late int) USING lightning;
CREATE TABLE b (LIKE a) USING lightning;
SQL
my %kinds = (
	plain => '(id)', text => '(word COLLATE "C" text_pattern_ops DESC NULLS FIRST) INCLUDE (x, n)', name => '(n)',
	expression => '(lower(word), (id + 1))', partial => '(id) WHERE part', array => '(list)', range => '(r, pair)',
	gin => 'USING gin (list, id)', gist => 'USING gist (p)', spgist => 'USING spgist (word)', brin => 'USING brin (id)',
	hash => 'USING hash (id)');
for my $t ('a', 'b')
{
	my $shift = $t eq 'a' ? 0 : 7;
	my $rows = $t eq 'a' ? 1000 : 1300;
	sql(<<SQL);
INSERT INTO $t SELECT i + $shift, repeat(md5((i + $shift)::text), CASE WHEN i % 10 = 0 THEN 60 ELSE 1 END), 'n' || (i + $shift), i + $shift,
	(i + $shift) % 2 = 0, ARRAY[i + $shift, 3], point(i + $shift, 1), int4range(i + $shift, 5000), jsonb_build_object('i', i + $shift), ROW (i + $shift, 'y')::pair
FROM generate_series(1, $rows) i;
ALTER TABLE $t ADD COLUMN added int DEFAULT 42;
CREATE INDEX ${t}_added ON $t (added, late);
SQL
	sql("CREATE INDEX ${t}_$_ ON $t $kinds{$_}") for sort keys %kinds;
}
finds('new indexes are all right', "SELECT * FROM lightning_check('a', index => true) UNION ALL SELECT * FROM lightning_check_all(true)");

# ---- what happens to tables is all right ----
sql(<<SQL);
UPDATE a SET late = id WHERE id % 3 = 0;
UPDATE a SET part = NOT part WHERE id % 5 = 0;
UPDATE a SET word = NULL, list = NULL, j = NULL, p = NULL, r = NULL, pair = NULL WHERE id % 40 = 1;
UPDATE a SET j = '{"other": 1}' WHERE id % 4 = 0;
DELETE FROM a WHERE id % 11 = 0;
BEGIN; INSERT INTO a SELECT * FROM b; ROLLBACK;
BEGIN; UPDATE a SET id = id + 5000; SAVEPOINT s; UPDATE a SET part = NOT part; ROLLBACK TO s; COMMIT;
BEGIN; UPDATE a SET id = id - 5000; ROLLBACK;
SQL
finds('changed and rolled back', "SELECT * FROM lightning_check('a', true)");
finds('in files', "SELECT t FROM (SELECT lightning_flush()) f, LATERAL lightning_check('a', true) t");
finds('after VACUUM', "VACUUM a; SELECT * FROM lightning_check('a', true)");
finds('within a transaction that changes it', <<SQL);
BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; INSERT INTO a SELECT * FROM b WHERE id < 100; UPDATE a SET id = id + 1 WHERE id % 2 = 0;
DELETE FROM a WHERE id < 50; SELECT * FROM lightning_check('a', true)
SQL
sql('CREATE INDEX a_id2 ON a (id, x); CLUSTER a USING a_id2');
finds('a copy', "SELECT * FROM lightning_check('a', true)");

# ---- entries of another table's rows ----
my @files = map { "'$_'::regclass" } map { ("a_$_", "b_$_") } 'added', keys %kinds;
sql(<<SQL);
CREATE TABLE files USING heap AS SELECT relname, relfilenode FROM pg_class WHERE oid IN (${\ join(',', @files) });
DROP TABLE a;
SQL
# (a is made anew, so that row i of both is at the same place)
sql("CREATE TABLE a USING lightning AS SELECT * FROM b WHERE false");
sql(<<SQL);
INSERT INTO a SELECT id - 7, repeat(md5((id - 7)::text), CASE WHEN (id - 7) % 10 = 0 THEN 60 ELSE 1 END), 'n' || (id - 7), id - 7,
	id % 2 = 1, ARRAY[id - 7, 3], point(id - 7, 1), int4range(id - 7, 5000), j, pair, late, added FROM b ORDER BY id LIMIT 1000;
SQL
for my $kind (sort keys %kinds)
{
	sql("CREATE INDEX a_$kind ON a $kinds{$kind}");
	sql(<<SQL);
WITH f AS (SELECT oid, relname, relfilenode FROM pg_class WHERE oid IN ('a_$kind'::regclass, 'b_$kind'::regclass))
UPDATE pg_class c SET relfilenode = f.relfilenode FROM f WHERE c.oid IN ('a_$kind'::regclass, 'b_$kind'::regclass) AND f.oid <> c.oid
SQL
	my $found = "SELECT string_agg(DISTINCT regexp_replace(t, '\\(.*\\)', '(R)'), ' / ') FROM lightning_check('%s', true) t WHERE t LIKE '%%_$kind\"%%'";
	my ($in_a, $in_b) = map { sql(sprintf($found, $_)) } 'a', 'b';
	my $i = 'index "%s_%s": row (R) of table "%s" ';
	my $others = $kind =~ /^(gin|gist|spgist)$/ ? '' : sprintf($i, 'a', $kind, 'a') . 'has an entry with other values than its own / ';
	if ($kind eq 'brin' || $kind eq 'hash')
	{
		is("$in_a$in_b", '', "$kind is not looked at");
	}
	elsif ($kind eq 'partial')
	{
		# (the rows of the one are those that the other does not have)
		is($in_a, join(' / ', map { sprintf($i, 'a', $kind, 'a') . $_ } 'has an entry, but does not satisfy the predicate',
				'has an entry, but was never inserted', 'has no entry'), "$kind: a is another's");
		like($in_b, qr/has no entry/, "$kind: b is another's");
	}
	else
	{
		is($in_a, $others . sprintf($i, 'a', $kind, 'a') . 'has an entry, but was never inserted', "$kind: entries of rows that there are not");
		$others =~ s/a_$kind/b_$kind/;
		$others =~ s/"a"/"b"/;
		is($in_b, $others . sprintf($i, 'b', $kind, 'b') . 'has no entry', "$kind: rows without entries");
	}
}
finds('nobody who does not ask for indexes hears of it', "SELECT * FROM lightning_check('a') UNION ALL SELECT * FROM lightning_check_all()");
like(sql('SELECT count(*) FROM lightning_check_all(index => true)'), qr/^\d{4,}$/, 'lightning_check_all looks at indexes, too');
sql('DROP TABLE a, b');

# ---- heap pages ----
sql(<<SQL);
CREATE TABLE h (i int) USING lightning;
CREATE UNLOGGED TABLE u (i int) USING lightning;
INSERT INTO h VALUES (1);
UPDATE pg_class SET relam = 2 WHERE relname = 'h';
SQL
sql('INSERT INTO h VALUES (2)');
sql("UPDATE pg_class SET relam = (SELECT oid FROM pg_am WHERE amname = 'lightning') WHERE relname = 'h'");
my $pages = 'relation file N of database N has 8192 bytes that are not lightning\'s: something wrote heap pages';
finds('heap pages in a table', "SELECT * FROM lightning_check('h')", $pages);
finds('heap pages in some table', "SELECT * FROM lightning_check_all()", $pages);
$node->safe_psql('template1', 'CREATE EXTENSION lightning');
is($node->safe_psql('template1', "SELECT count(*) FROM lightning_check_all()"), '1', '... of another database');
sql('DROP TABLE h');
finds('after it was dropped', "SELECT * FROM lightning_check_all()");

# ---- a busy server ----
setup_load($node, 300);
my $load = start_load($node, 1, clients => 3, seconds => 8);
my $found = '';
my $rounds = 0;
my $running = 1;
while ($running)
{
	for my $job ('', 'VACUUM account', 'CREATE INDEX CONCURRENTLY busy ON account (balance, note) WHERE version % 2 = 0', 'VACUUM queue', 'DROP INDEX CONCURRENTLY busy',
		'REINDEX TABLE CONCURRENTLY history')
	{
		sql($job) if $job ne '';
		$found .= sql('SELECT * FROM lightning_check_all(index => true)');
	}
	$rounds++;
	$running = sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") > 0 && $rounds < 1000;
}
is($found, '', "$rounds rounds of checks beside writers, VACUUM and indexes that come and go");
finish_load($load);
verify_load($node, $load, 'checked all the time');
$node->stop;
done_testing();
