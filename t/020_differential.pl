# The same random statements against heap tables and against lightning tables:
# every answer, row count and error must be the same.  Two sessions run in
# lockstep; the second one holds old snapshots and only reads.
#
# LIGHTNING_SEED repeats a run, LIGHTNING_STEPS sets its length.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use IPC::Run ();
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{LIGHTNING_SEED} // int(time) ^ $$;
my $steps = $ENV{LIGHTNING_STEPS} // 800;
srand($seed);
note "seed $seed, $steps steps";

# ---- sessions ----

package Session;

sub new
{
	my ($class, $node, $db, $pre) = @_;
	my $self = bless { in => '', out => '', n => 0 }, $class;
	local $ENV{PGOPTIONS} = '-c client_min_messages=warning';
	my @cmd = ($node->installed_command('psql'), '-XAtq', '-v', 'VERBOSITY=terse',
		'-d', $node->connstr($db), '-f', '-');
	$self->{run} = IPC::Run::start(\@cmd, '<', \$self->{in}, '>', \$self->{out}, '2>&1',
		$self->{timer} = IPC::Run::timer(180));
	$self->run($pre) if $pre;
	return $self;
}

sub run
{
	my ($self, $sql) = @_;
	my $mark = 'mark' . ++$self->{n};
	$self->{out} = '';
	$self->{timer}->start(180);
	$self->{in} .= "$sql\n;\\echo $mark\n";
	while ($self->{out} !~ /^$mark$/m)
	{
		IPC::Run::pump($self->{run});
		die "timeout in: $sql" if $self->{timer}->is_expired;
	}
	my $out = $self->{out};
	$out =~ s/^$mark\n?//m;
	$out =~ s/^psql:<stdin>:\d+: //mg;
	$out =~ s/(pg_toast_)\d+/$1N/g;
	return $out;
}

sub finish
{
	my ($self) = @_;
	$self->{in} .= "\\q\n";
	return IPC::Run::finish($self->{run});
}

package main;

# ---- random pieces ----

sub pick { return $_[ int rand @_ ] }
sub num { return int rand($_[0] // 200) }

my @schema = (
	q{CREATE TABLE t (id int PRIMARY KEY, a int, b text, c numeric, d int[], p point, r int4range)},
	q{CREATE TABLE child (id int PRIMARY KEY, tid int REFERENCES t ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE, v text)},
	q{CREATE TABLE log (n serial, what text)},
	q{CREATE TABLE u (k int UNIQUE DEFERRABLE, x int, w text)},
	q{CREATE TABLE e (id int, r int4range, EXCLUDE USING gist (r WITH &&) DEFERRABLE)},
	q{CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO log(what) VALUES (TG_OP || ':' || coalesce(OLD.id::text || '/' || coalesce(OLD.a::text, '-') || '/' || coalesce(length(OLD.b)::text, '-'), '')
			|| '>' || coalesce(NEW.id::text || '/' || coalesce(NEW.a::text, '-') || '/' || coalesce(length(NEW.b)::text, '-'), ''));
		RETURN NULL;
	END $$},
	q{CREATE FUNCTION tweak() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.a % 7 = 0 THEN NEW.c := coalesce(NEW.c, 0) + 1; END IF;
		RETURN NEW;
	END $$},
	q{CREATE FUNCTION note_statement() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO log(what) SELECT 'old ' || count(*) || ' ' || coalesce(sum(o.a), 0) || ' new ' || (SELECT count(*) || ' ' || coalesce(sum(a), 0) FROM new_rows) FROM old_rows o;
		RETURN NULL;
	END $$},
	q{CREATE TRIGGER after_row AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note()},
	q{CREATE TRIGGER before_row BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION tweak()},
	q{CREATE TRIGGER after_statement AFTER UPDATE ON t REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION note_statement()},
	q{CREATE INDEX t_a ON t (a)},
	q{CREATE INDEX child_tid ON child (tid)},
	q{INSERT INTO t SELECT i, i % 20, 'text ' || i, i * 1.5, ARRAY[i % 5, i % 7], point(i % 13, i % 17), int4range(i, i + 5) FROM generate_series(1, 100) i},
);

my %index = (
	t_b => 'CREATE INDEX %s t_b ON t (b text_pattern_ops)',
	t_hash => 'CREATE INDEX %s t_hash ON t USING hash (c)',
	t_gin => 'CREATE INDEX %s t_gin ON t USING gin (d)',
	t_gist => 'CREATE INDEX %s t_gist ON t USING gist (p)',
	t_spgist => 'CREATE INDEX %s t_spgist ON t USING spgist (r)',
	t_brin => 'CREATE INDEX %s t_brin ON t USING brin (a) WITH (pages_per_range = 1)',
	t_part => 'CREATE INDEX %s t_part ON t (id) WHERE a > 10',
	t_expr => 'CREATE INDEX %s t_expr ON t ((a * 2), lower(b))',
	t_cover => 'CREATE INDEX %s t_cover ON t (a, id) INCLUDE (c)',
	t_a => 'CREATE INDEX %s t_a ON t (a)');

sub text
{
	my $k = num(10);
	return "NULL" if $k == 0;
	return "repeat('long " . num() . " ', " . (400 + num(2000)) . ")" if $k == 1;
	return "(SELECT string_agg(md5(g::text || '" . num(5) . "'), '') FROM generate_series(1, " . (80 + num(200)) . ") g)" if $k == 2;
	return "'text " . num() . "'";
}

sub where
{
	return pick(
		sub { 'id = ' . num() },
		sub { my $x = num(); "id BETWEEN $x AND " . ($x + num(30)) },
		sub { 'a = ' . num(20) },
		sub { 'a > ' . num(20) },
		sub { 'a IN (' . join(',', map { num(20) } 1 .. 3) . ')' },
		sub { "b LIKE 'text " . num(20) . "%'" },
		sub { 'c = ' . num() . '.5' },
		sub { 'd @> ARRAY[' . num(5) . ']' },
		sub { 'd && ARRAY[' . num(5) . ',' . num(7) . ']' },
		sub { "p <@ box '(" . num(10) . ',' . num(10) . '),(' . num(17) . ',' . num(17) . ")'" },
		sub { my $x = num(); "r && int4range($x," . ($x + 1 + num(10)) . ')' },
		sub { 'a * 2 = ' . 2 * num(20) },
		sub { 'id % 10 = ' . num(10) . ' AND a > 10' },
		sub { 'a IS NULL' },
		sub { 'true' })->();
}

sub assignment
{
	return pick(
		sub { 'a = a + 1' },
		sub { 'a = ' . num(20) },
		sub { 'a = NULL' },
		sub { 'b = ' . text() },
		sub { "b = coalesce(b, '') || 'x'" },
		sub { 'c = c + 0.5' },
		sub { 'd = d || ' . num(9) },
		sub { 'p = point(' . num(13) . ',' . num(17) . ')' },
		# (ids that nobody has: unique checks are immediate, so the order of rows would decide)
		sub { 'id = (SELECT max(m.id) FROM t m) + (SELECT count(*) FROM t n WHERE n.id <= t.id), a = 3' },
		sub { 'r = int4range(id, id + ' . num(9) . ')' })->();
}

sub row
{
	my $id = num(250);
	return "($id, " . pick(num(20), 'NULL') . ', ' . text() . ', ' . num() . ".5, ARRAY[" . num(5) . ',' . num(7) . "], point(" . num(13) . ',' . num(17) . "), int4range($id, " . ($id + num(9)) . '))';
}

my $digest = q{count(*), sum(id), sum(a), sum(length(b)), sum(c), md5(string_agg(concat_ws('|', id, a, md5(b), c, d, p, r), ',' ORDER BY id))};

sub query
{
	my $w = where();
	return pick(
		"SELECT $digest FROM t WHERE $w",
		"SELECT id, a, left(b, 20), c, d, p FROM t WHERE $w ORDER BY id LIMIT 20",
		"SELECT id, a FROM t WHERE $w ORDER BY id DESC OFFSET 3 LIMIT 5",
		"SELECT count(*) FROM t x JOIN t y ON x.ctid = y.ctid WHERE x.a > 5",
		"SELECT count(*), sum(t.a), sum(length(v)) FROM t JOIN child ON child.tid = t.id",
		"SELECT a, count(*), max(id) FROM t GROUP BY a ORDER BY a",
		"SELECT id, (SELECT max(z.c) FROM t z WHERE z.a = t.a) FROM t WHERE $w ORDER BY id LIMIT 10",
		"SELECT id, p <-> point(3,3) FROM t ORDER BY p <-> point(3,3), id LIMIT 5",
		"SELECT count(*), sum(x), string_agg(w, ',' ORDER BY k) FROM u",
		"SELECT count(*), sum(upper(r)) FROM e",
		"SELECT count(*), sum(id) FROM t TABLESAMPLE bernoulli (100)",
		"SELECT count(*), sum(id) FROM t TABLESAMPLE system (100)",
		"SELECT count(*) FROM t WHERE ctid >= '(0,0)'",
		"SELECT id, tableoid::regclass, xmin <> '0' FROM t WHERE $w ORDER BY id LIMIT 3",
		"SELECT md5(string_agg(what, ',' ORDER BY what)), count(*) FROM log");
}

# ---- one step of the first session ----

my $in_tx = 0;
my $failed = 0;
my @savepoints;
my $cursor = 0;
my @columns;

sub modification
{
	my $w = where();
	return pick(
		sub { 'INSERT INTO t VALUES ' . row() },
		sub { 'INSERT INTO t VALUES ' . join(',', map { row() } 1 .. 3) },
		sub { 'INSERT INTO t VALUES ' . row() . ' ON CONFLICT DO NOTHING' },
		sub { 'INSERT INTO t VALUES ' . row() . ' ON CONFLICT (id) DO UPDATE SET ' . assignment_conflict() . ' RETURNING id, a' },
		sub { my $x = 300 + num(1000); "INSERT INTO t SELECT i, i % 20, 'bulk ' || i, i, ARRAY[i % 5], point(i % 13, 1), int4range(i, i + 2) FROM generate_series($x, " . ($x + num(150)) . ') i ON CONFLICT DO NOTHING' },
		sub { 'UPDATE t SET ' . assignment() . " WHERE $w" },
		sub { 'UPDATE t SET ' . assignment() . " WHERE $w" },
		sub { 'UPDATE t SET ' . assignment() . ' WHERE id = ' . num() . ' RETURNING id, a, c' },
		sub { 'UPDATE t SET a = t.a + s.a FROM (SELECT id, a FROM t WHERE ' . where() . ') s WHERE s.id = t.id' },
		sub { "WITH x AS (UPDATE t SET " . assignment() . " WHERE $w RETURNING id, a) SELECT count(*), sum(a) FROM x" },
		sub { 'DELETE FROM t WHERE id = ' . num() },
		sub { "DELETE FROM t WHERE id > 300 AND $w" },
		sub { 'DELETE FROM t WHERE a = ' . num(20) . ' AND id % 3 = 0 RETURNING id IS NOT NULL' },
		sub { 'MERGE INTO t USING (VALUES (' . num() . ', 1), (' . (400 + num()) . ', 2)) s(id, k) ON t.id = s.id '
			  . pick('WHEN MATCHED THEN UPDATE SET a = coalesce(a, 0) + s.k', 'WHEN MATCHED AND a > 5 THEN DELETE')
			  . ' WHEN NOT MATCHED THEN INSERT (id, a) VALUES (s.id, s.k)' },
		sub { 'INSERT INTO child VALUES (' . num(500) . ', ' . num() . ", 'v') ON CONFLICT DO NOTHING" },
		sub { 'UPDATE child SET tid = ' . num() . ' WHERE id = ' . num(500) },
		sub { 'INSERT INTO u VALUES (' . num(50) . ', ' . num() . ", 'w')" },
		sub { 'UPDATE u SET k = k + 1' },
		sub { 'UPDATE u SET x = x + 1, w = ' . text() . ' WHERE k < ' . num(50) },
		sub { 'DELETE FROM u WHERE k = ' . num(50) },
		sub { my $x = num(400); "INSERT INTO e VALUES ($x, int4range($x, " . ($x + 4) . '))' },
		sub { 'UPDATE e SET r = int4range(lower(r) + 3, upper(r) + 3) WHERE id < ' . num(400) },
		sub { 'SELECT id FROM t WHERE id < ' . num(50) . ' ORDER BY id ' . pick('FOR UPDATE', 'FOR SHARE', 'FOR NO KEY UPDATE', 'FOR KEY SHARE') . ' LIMIT 4' })->();
}

sub assignment_conflict
{
	return pick('a = coalesce(t.a, 0) + excluded.a', 'b = excluded.b', 'c = t.c + 1');
}

sub maintenance
{
	return pick(
		sub { 'VACUUM ' . pick('', '(FREEZE)', '(ANALYZE)', '(FULL)', '(INDEX_CLEANUP off)') . ' ' . pick('t', 'u', 'child', 'e') },
		sub { 'VACUUM t' },
		sub { 'ANALYZE t' },
		sub { 'CLUSTER t USING ' . pick('t_pkey', 't_a', 't_gist') },
		sub { 'REINDEX TABLE ' . pick('', 'CONCURRENTLY ') . pick('t', 'u', 'e') },
		sub { 'SELECT flush_all()' },
		sub { 'SELECT flush_all()' },
		sub { 'CHECKPOINT' },
		sub { sprintf($index{ pick(sort keys %index) }, pick('', 'CONCURRENTLY')) },
		sub { 'DROP INDEX IF EXISTS ' . pick(sort keys %index) },
		sub { 'TRUNCATE log' },
		sub { 'TRUNCATE u' })->();
}

sub ddl
{
	return pick(
		sub { sprintf($index{ pick(sort keys %index) }, '') },
		sub { 'DROP INDEX IF EXISTS ' . pick(sort keys %index) },
		sub { my $n = 'x' . num(4); push @columns, $n; "ALTER TABLE t ADD COLUMN IF NOT EXISTS $n int DEFAULT " . num(9) },
		sub { @columns ? 'ALTER TABLE t DROP COLUMN IF EXISTS ' . pick(@columns) : 'SELECT 1' },
		sub { 'ALTER TABLE t ALTER COLUMN c TYPE numeric(20,' . (2 + num(3)) . ')' },
		sub { 'TRUNCATE u; INSERT INTO u SELECT i, i FROM generate_series(1, 10) i' },
		sub { 'TRUNCATE e' })->();
}

sub settings
{
	return 'SET lightning.inplace_update = ' . pick('on', 'off') if num(3) == 0;
	return join '; ', map { "SET enable_$_ = " . pick('on', 'on', 'off') } qw(seqscan indexscan bitmapscan indexonlyscan);
}

sub transaction_step
{
	my $k = num(10);
	if (!$in_tx)
	{
		$in_tx = 1;
		@savepoints = ();
		return 'BEGIN' . pick('', '', ' ISOLATION LEVEL REPEATABLE READ', ' ISOLATION LEVEL SERIALIZABLE');
	}
	if ($k < 3)
	{
		push @savepoints, 's' . @savepoints;
		return "SAVEPOINT $savepoints[-1]";
	}
	if ($k < 6 && @savepoints)
	{
		my $at = int rand @savepoints;
		my $name = $savepoints[$at];
		if (num(3))
		{
			splice @savepoints, $at + 1;
			return "ROLLBACK TO $name";
		}
		splice @savepoints, $at;
		return "RELEASE $name";
	}
	$in_tx = 0;
	$cursor = 0;
	return pick('COMMIT', 'COMMIT', 'ROLLBACK');
}

sub cursor_step
{
	return transaction_step() if !$in_tx;
	if (!$cursor)
	{
		$cursor = 1;
		return 'DECLARE c SCROLL CURSOR FOR SELECT id, a, left(b, 10) FROM t WHERE ' . where() . ' ORDER BY id' if num(2);
		$cursor = 2;
		return 'DECLARE c CURSOR FOR SELECT id, a FROM t WHERE ' . where() . ' ORDER BY id FOR UPDATE';
	}
	if ($cursor == 2)
	{
		return pick('FETCH 3 FROM c', 'FETCH c', 'UPDATE t SET a = a + 1 WHERE CURRENT OF c', 'DELETE FROM t WHERE CURRENT OF c', 'CLOSE c', "UPDATE t SET b = 'cur' WHERE CURRENT OF c RETURNING id, b");
	}
	return 'FETCH ' . pick('NEXT', 'PRIOR', 'FIRST', 'LAST', 'ABSOLUTE ' . num(30), 'RELATIVE ' . (num(9) - 4), '5', 'BACKWARD 4', 'ALL', 'BACKWARD ALL') . ' FROM c';
}

sub step
{
	my $k = num(100);
	return query() if $k < 22;
	return modification() if $k < 62;
	return transaction_step() if $k < 78;
	return cursor_step() if $k < 88;
	return settings() if $k < 91;
	return ddl() if $k < 94;
	return $in_tx ? query() : maintenance();
}

# A scan over all rows as it comes, not ordered: direction changes at any row.
sub walk
{
	return join "\n",
		q{BEGIN; SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off;},
		q{DO $$
		DECLARE c SCROLL CURSOR FOR SELECT id FROM t; r record; fwd int[] := '{}'; bwd int[] := '{}'; k int;
		BEGIN
			OPEN c;
			LOOP FETCH c INTO r; EXIT WHEN NOT FOUND; fwd := fwd || r.id; END LOOP;
			LOOP FETCH PRIOR FROM c INTO r; EXIT WHEN NOT FOUND; bwd := r.id || bwd; END LOOP;
			IF fwd <> bwd THEN RAISE EXCEPTION 'backward differs: % and %', fwd, bwd; END IF;
			FOR i IN 1 .. 30 LOOP
				k := 1 + floor(random() * cardinality(fwd));
				FETCH ABSOLUTE k FROM c INTO r;
				IF r.id IS DISTINCT FROM fwd[k] THEN RAISE EXCEPTION 'absolute differs'; END IF;
				FETCH PRIOR FROM c INTO r;
				IF r.id IS DISTINCT FROM fwd[k - 1] THEN RAISE EXCEPTION 'prior differs'; END IF;
				FETCH RELATIVE 2 FROM c INTO r;
				IF r.id IS DISTINCT FROM fwd[k + 1] THEN RAISE EXCEPTION 'relative differs'; END IF;
			END LOOP;
		END $$;},
		q{COMMIT};
}

# ---- run ----

my $node = new_node('differential', conf => "lock_timeout = 100ms\nfsync = off\nautovacuum = off\n");
$node->start;

my %session;
for my $am ('heap', 'lightning')
{
	$node->safe_psql('postgres', "CREATE DATABASE d_$am");
	$node->safe_psql("d_$am", 'CREATE EXTENSION lightning');
	$node->safe_psql("d_$am", "ALTER DATABASE d_$am SET default_table_access_method = '$am'");
	$node->safe_psql("d_$am", $am eq 'heap' ?
		q{CREATE FUNCTION flush_all() RETURNS int LANGUAGE sql AS 'SELECT 1'} :
		q{CREATE FUNCTION flush_all() RETURNS int LANGUAGE sql AS 'SELECT lightning_flush(); SELECT 1'});
	$session{$am} = [ map { Session->new($node, "d_$am") } 0 .. 1 ];
	$session{$am}[0]->run($_) for @schema;
}

my @history;
my $bad = 0;
my $reader = 0;

sub both
{
	my ($who, $sql) = @_;
	push @history, ($who ? '-- reader: ' : '') . "$sql;";
	my ($h, $l) = map { $session{$_}[$who]->run($sql) } 'heap', 'lightning';
	return $h if $h eq $l;
	$bad = 1;
	fail("step " . @history . ": same answer (seed $seed)");
	diag "statement: $sql\nheap:\n$h\nlightning:\n$l";
	return $h;
}

for my $i (1 .. $steps)
{
	my $out = both(0, step());
	last if $bad;

	# an error ends what the generator thinks of as its transaction
	if ($in_tx && $out =~ /^ERROR/m && (!@savepoints || num(2)))
	{
		both(0, 'ROLLBACK');
		$in_tx = $cursor = 0;
	}
	$cursor = 0 if $out =~ /cursor "c" does not exist|cursor "c" already exists/;

	if (num(6) == 0)
	{
		both(1, $reader ? pick(query(), query(), query(), 'COMMIT')
			: 'BEGIN ISOLATION LEVEL ' . pick('REPEATABLE READ', 'SERIALIZABLE') . '; ' . query());
		$reader = $history[-1] =~ /COMMIT;$/ ? 0 : 1;
	}
	if (!$in_tx && num(40) == 0)
	{
		is($session{lightning}[0]->run(walk()), '', 'cursor in both directions') or $bad = 1;
	}
	last if $bad;
}
ok(!$bad, "$steps random steps give the same answers (seed $seed)");
if ($bad)
{
	my $file = "$PostgreSQL::Test::Utils::tmp_check/differential-$seed.sql";
	PostgreSQL::Test::Utils::append_to_file($file, join "\n", @history);
	diag "statements so far are in $file";
}
else
{
	$session{$_}[1]->run('ROLLBACK') for 'heap', 'lightning';
	$session{$_}[0]->run('ROLLBACK') for 'heap', 'lightning';
	for my $q ("SELECT $digest FROM t", 'SELECT count(*), sum(x) FROM u', 'SELECT count(*), sum(tid) FROM child', 'SELECT md5(string_agg(what, \',\' ORDER BY what)) FROM log')
	{
		both(0, "SET enable_seqscan = $_; $q") for 'on', 'off';
	}
	is($node->safe_psql('d_lightning', 'SELECT * FROM lightning_check_all(index => true)'), '', 'nothing to complain about');
	$node->stop('immediate');
	$node->start;
	is($node->safe_psql('d_lightning', "SELECT $digest FROM t"), $node->safe_psql('d_heap', "SELECT $digest FROM t"), 'the same after a crash');
}
eval { $_->finish } for map { @$_ } values %session;
$node->stop('immediate');
done_testing();
