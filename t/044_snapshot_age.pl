# lightning.max_snapshot_age: old row versions are not kept for ever.  Whose snapshot
# is given up sees what it saw, or an error, whatever he does; nobody else notices.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('main', conf => "autovacuum = off\nmax_parallel_workers_per_gather = 0\nlightning.max_snapshot_age = '2s'\n");
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE t (id int PRIMARY KEY, n int, pad text) USING lightning;
INSERT INTO t SELECT i, 0, 'row ' || i FROM generate_series(1, 1000) i;
CREATE TABLE fixed (id int PRIMARY KEY) USING lightning;
INSERT INTO fixed VALUES (1);
CREATE ROLE keeper SUPERUSER LOGIN;
ALTER ROLE keeper SET lightning.max_snapshot_age = 0;
CREATE ROLE hasty LOGIN;
ALTER ROLE hasty SET lightning.max_snapshot_age = '50ms';
GRANT SELECT, INSERT, UPDATE ON t TO hasty;
SQL

my $digest = "SELECT count(*), sum(n), md5(string_agg(n || pad, ',' ORDER BY id)) FROM t WHERE id > 0";
my $too_old = qr/ERROR: +72000: snapshot too old|ERROR: +snapshot too old/;

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub session
{
	my ($user) = @_;
	my $s = $node->background_psql('postgres', on_error_stop => 0, extra_params => $user ? [ '-U', $user ] : []);
	$s->{pid} = $s->query_safe('SELECT pg_backend_pid()');
	return $s;
}

sub update
{
	my ($rounds) = @_;
	sql('UPDATE t SET n = n + 1') for 1 .. $rounds;
	return;
}

sub entries
{
	sql('SELECT lightning_flush()');
	sql("SELECT lightning_compact('t')");
	return sql("SELECT entries FROM pg_stat_lightning_runs WHERE relname = 't'");
}

sub fails
{
	my ($s, $query, $what) = @_;
	$s->{stderr} = '';
	$s->query($query);
	like($s->{stderr}, $too_old, $what);
	$s->{stderr} = '';
	return;
}

sub wait_given_up
{
	my ($s, $what) = @_;
	ok(wait_for_sql($node, "SELECT given_up FROM pg_stat_lightning_snapshots WHERE pid = $s->{pid}", 't', 30), "$what: given up");
	return;
}

# ---- each kind of snapshot ----
my %read = (
	'READ COMMITTED' => 'DECLARE c CURSOR FOR SELECT id, n FROM t',
	'REPEATABLE READ' => $digest,
	'SERIALIZABLE' => $digest);
for my $level (sort keys %read)
{
	my $s = session();
	$s->query_safe("BEGIN ISOLATION LEVEL $level; $read{$level}");
	update(3);
	is(entries(), $level eq 'REPEATABLE READ' ? 2000 : 4000, "$level: kept at first");
	wait_given_up($s, $level);
	update(1);
	is(entries(), 1000, "$level: not kept any more");
	fails($s, $level eq 'READ COMMITTED' ? 'FETCH ALL FROM c' : $digest, "$level: the next read fails");
	$s->query_safe('ROLLBACK');
	is($s->query_safe($digest), sql($digest), "$level: the next transaction reads on");
	$s->quit;
}

# ---- one that has not read yet; reads of all kinds; changes ----
for my $query ($digest,
	'SET LOCAL enable_seqscan = off; SELECT n FROM t WHERE id = 7',
	"SELECT n FROM t WHERE ctid = '(0,8)'",
	'UPDATE t SET n = 0 WHERE id = 7',
	'SELECT n FROM t WHERE id = 7 FOR UPDATE',
	'INSERT INTO t VALUES (7, 0) ON CONFLICT (id) DO UPDATE SET n = 5')
{
	my $s = session('hasty');
	$s->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class');
	update(2);
	wait_given_up($s, 'unread');
	is(entries(), 1000, 'unread: not kept');
	fails($s, $query, "unread: $query");
	$s->quit;
}

# ---- a row that was found before leads nowhere ----
my $s = session();
$s->query_safe('BEGIN; DECLARE c CURSOR FOR SELECT id, n FROM t');
$s->query_safe('FETCH 1 FROM c');
update(2);
wait_given_up($s, 'cursor');
is(entries(), 1000, 'cursor: not kept');
fails($s, 'UPDATE t SET n = 0 WHERE CURRENT OF c', 'cursor: UPDATE ... WHERE CURRENT OF');
$s->query_safe('ROLLBACK');

# ---- who has written keeps what came since he began to: new snapshots must not see it ----
$s->query_safe('BEGIN; SELECT txid_current(); DECLARE c CURSOR FOR SELECT sum(n) FROM t');
my $sum = sql('SELECT sum(n) FROM t');
update(2);
wait_given_up($s, 'writer');
is(entries(), 3000, 'writer: all is kept');
is($s->query_safe('FETCH ALL FROM c'), $sum, 'writer: and seen');
$s->query_safe('ROLLBACK');
$s->quit;
update(1);
is(entries(), 1000, 'writer: has ended');

# ---- who is exempt keeps all, and is not hurt by others' being given up ----
my $keeper = session('keeper');
my $known = session('keeper');
$keeper->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE');
my $seen = $keeper->query_safe($digest);
$known->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $known_seen = $known->query_safe($digest);
my $victim = session();
$victim->query_safe("BEGIN ISOLATION LEVEL SERIALIZABLE; $digest");
update(3);
wait_given_up($victim, 'exempt');
is(entries(), 4000, 'exempt: all is kept');
is($keeper->query_safe($digest), $seen, 'exempt: it sees what it saw');
is($victim->query_safe($digest), $known_seen, 'given up, but nothing was dropped: no error');
$keeper->query_safe('COMMIT');
update(1);
is(entries(), 2000, 'exempt: one that is known costs a version per row');
is($known->query_safe($digest), $known_seen, 'exempt: and sees what it saw, beyond the cut');
my $parallel = 'SET LOCAL max_parallel_workers_per_gather = 2; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0;'
	. ' SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL parallel_leader_participation = off';
$known->query_safe($parallel);
like($known->query_safe('EXPLAIN SELECT sum(n) FROM t'), qr/Parallel Seq Scan/, 'exempt: a parallel plan');
is($known->query_safe('SELECT count(*), sum(n) FROM t'), $known_seen =~ s/\|\w+$//r, 'exempt: so do its parallel workers');
my $id = $known->query_safe('SELECT pg_export_snapshot()');
my $importer = session('keeper');
$importer->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$id'");
is($importer->query_safe($digest), $known_seen, 'exempt: and who imports its snapshot');
is($importer->query_safe("INSERT INTO fixed VALUES (1) ON CONFLICT (id) DO NOTHING; $digest"), $known_seen, 'exempt: not known any more, all the same');
$importer->quit;
fails($victim, $digest, 'the other fails');
$known->query_safe('COMMIT');
$_->quit for $keeper, $known, $victim;
my ($rc, $out, $err) = $node->psql('postgres', 'SET lightning.max_snapshot_age = 0', extra_params => [ '-U', 'hasty' ]);
like($err, qr/permission denied to set parameter/, 'not for everybody to set');

# ---- never a wrong row: many who look twice, beside writers and merges ----
$node->append_conf('postgresql.conf', "lightning.max_snapshot_age = '300ms'\n");
$node->reload;
sql('UPDATE t SET n = 0');
sql(<<'SQL');
-- at read committed one statement with many looks at the table
CREATE FUNCTION look_often(a int, level int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before record;
	now record;
	looks int := a % 25 + 2;
BEGIN
	IF level = 3 THEN
		PERFORM 1 FROM generate_series(1, looks) i,
			LATERAL (SELECT pg_sleep(0.05) FROM generate_series(1, 1) WHERE i > 0 OFFSET 0) p,
			LATERAL (SELECT count(*) AS c, sum(n) AS s, min(n) AS lo, max(n) AS hi FROM t WHERE id > i - i OFFSET 0) x
		HAVING count(DISTINCT (c, s, lo, hi)) > 1;
		IF FOUND THEN RETURN 'wrong'; END IF;
		RETURN 'right';
	END IF;
	SELECT count(*) AS c, sum(n) AS s, (SELECT t2.n FROM t t2 WHERE t2.id = a) AS one INTO before FROM t;
	FOR i IN 1 .. looks LOOP
		PERFORM pg_sleep(0.05);
		SELECT count(*) AS c, sum(n) AS s, (SELECT t2.n FROM t t2 WHERE t2.id = a) AS one INTO now FROM t;
		IF now IS DISTINCT FROM before THEN RETURN 'wrong'; END IF;
	END LOOP;
	RETURN 'right';
END $$;
SQL
my @connect = ('-h', $node->host, '-p', $node->port, 'postgres');
my $write = $node->basedir . '/write.sql';
append_to_file($write, "\\set lo random(1, 900)\nUPDATE t SET n = n + 1 WHERE id BETWEEN :lo AND :lo + 100;\n");
my $merge = $node->basedir . '/merge.sql';
append_to_file($merge, "SELECT lightning_flush();\nSELECT lightning_compact('t');\nSELECT pg_sleep(0.02);\n");
my @load = map { my $f = $_; IPC::Run::start([ 'pgbench', '-n', '-f', $f, '-c', 1, '-T', 20, @connect ], '<', \undef, '>', \my $o, '2>', \my $e) } $write, $merge;
my %count = (right => 0, 'too old' => 0, wrong => 0, else => '');
my $end = time() + 16;
my @h;
for my $i (1 .. 6)
{
	my $script = $node->basedir . "/look_$i.sh";
	append_to_file($script, "while [ \$(date +%s) -lt $end ]; do\n"
		. "level=\$(( (RANDOM + $i) % 3 + 1 ))\ncase \$level in 1) l='REPEATABLE READ';; 2) l='SERIALIZABLE READ ONLY';; 3) l='READ COMMITTED';; esac\n"
		. "psql -XAtq @connect -c \"BEGIN ISOLATION LEVEL \$l; SELECT look_often(\$((RANDOM % 1000 + 1)), \$level)\" 2>&1 | grep -v 'DETAIL\\|HINT\\|CONTEXT\\|PL/pgSQL\\|^ '\ndone\n");
	my $o = '';
	push @h, { o => \$o, h => IPC::Run::start([ 'bash', $script ], '<', \undef, '>', \$o, '2>&1') };
}
for my $h (@h)
{
	$h->{h}->finish;
	for my $line (split /\n/, ${ $h->{o} })
	{
		if ($line =~ /^(right|wrong)$/) { $count{$1}++; }
		elsif ($line =~ /snapshot too old/) { $count{'too old'}++; }
		elsif ($line =~ /ERROR/) { $count{else} .= "$line\n"; }
	}
}
$_->finish for @load;
is($count{wrong}, 0, "nobody saw anything else the second time ($count{right} right, $count{'too old'} too old)");
cmp_ok($count{'too old'}, '>', 0, 'some were given up');
cmp_ok($count{right}, '>', 0, 'some were not');
is($count{else}, '', 'no other error');
is(sql('SELECT * FROM lightning_check_all()'), '', 'nothing to complain about');
$node->stop;
done_testing();
