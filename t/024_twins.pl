# What every kind of reader and writer says about a row, whatever has happened to
# it and whoever did it: the same on lightning as on heap.  Each history of a row
# is left open, committed, rolled back or prepared, and then looked at by other
# transactions, by ones with an older snapshot, and by the one that did it.
#
# Readers are there for each kind of snapshot: MVCC (queries), Dirty (unique
# indexes, exclusion constraints, ON CONFLICT), Self (foreign keys), Any (rows for
# triggers and RETURNING), and so are all that change or lock rows.  A reader that
# has to wait says so (lock_timeout is counted only while waiting for a lock).
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('twins', conf => "autovacuum = off\nfsync = off\nlock_timeout = 2ms\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning');
for my $am ('heap', 'lightning')
{
	$node->safe_psql('postgres', <<SQL);
CREATE TABLE t_$am (k int NOT NULL, e int, v int, x int, w text) USING $am;
-- the second time, within the speculative insertion of the key asked for, inserts it itself
CREATE FUNCTION g_$am(key int) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
	IF current_setting('test.withdraw') = key || ' now' THEN
		PERFORM set_config('test.withdraw', '', false);
		INSERT INTO t_$am VALUES (key, key, -1, -1);
	ELSE
		PERFORM set_config('test.withdraw', key || ' now', false);
	END IF;
END \$\$;
CREATE FUNCTION f_$am(key int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \$\$
BEGIN
	IF current_setting('test.withdraw', true) IN (key::text, key || ' now') THEN
		PERFORM g_$am(key);
	END IF;
	RETURN key;
END \$\$;
CREATE UNIQUE INDEX ON t_$am (f_$am(k));
ALTER TABLE t_$am ADD PRIMARY KEY (k);
ALTER TABLE t_$am ADD EXCLUDE USING btree (e WITH =);
CREATE INDEX ON t_$am (x);
CREATE TABLE c_$am (k int REFERENCES t_$am ON UPDATE CASCADE ON DELETE CASCADE) USING heap;
CREATE TABLE log_$am (n serial, who xid8 DEFAULT pg_current_xact_id(), what text) USING heap;
CREATE FUNCTION log_$am() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO log_$am (what) VALUES (TG_OP || ' ' || OLD || coalesce(' ' || NEW, ''));
	RETURN NULL;
END \$\$;
CREATE TRIGGER log AFTER UPDATE OR DELETE ON t_$am FOR EACH ROW EXECUTE FUNCTION log_$am();
SQL
}

my %session;
for my $name ('writer', 'third', 'other', 'old')
{
	$session{$name} = $node->background_psql('postgres', on_error_stop => 0);
	$session{$name}->set_query_timer_restart;
	$session{$name}->query("\\set VERBOSITY sqlstate");
}

# names in braces are expanded: t, c, log are tables, k and numbers from it keys
sub expand
{
	my ($sql, $am, $k) = @_;
	$sql =~ s/\{(t|c|f|log)\}/$1_$am/g;
	$sql =~ s/\{k\}/$k/g;
	$sql =~ s/\{k\+(\d)\}/$k + $1/ge;
	return $sql;
}

# Each of them in turn; what it said, errors by their number.
sub run_all
{
	my ($who, $am, $k, @sql) = @_;
	my $s = $session{$who};
	my $text = '';
	my @said;

	$text .= "\\echo -- $_\n\\warn -- $_\n" . expand($sql[$_], $am, $k) . "\n" for 0 .. $#sql;
	my $out = $s->query($text);
	my $err = $s->{stderr};
	$s->{stderr} = '';
	$err =~ s/^psql:<stdin>:\d+: //mg;
	for my $stream ($out, $err)
	{
		my $n = -1;
		for my $line (split /\n/, $stream)
		{
			if ($line =~ /^-- (\d+)$/) { $n = $1; $said[$n] //= ''; }
			elsif ($line ne '') { $said[$n] .= ($said[$n] eq '' ? '' : ' / ') . $line; }
		}
	}
	return @said;
}

my $insert = 'INSERT INTO {t} VALUES ({k}, {k}, 0, 0);';
my $upsert = 'INSERT INTO {t} VALUES ({k}, {k}, 0, 0) ON CONFLICT (k) DO UPDATE SET v = {t}.v + 10;';
my $withdraw = "SELECT FROM set_config('test.withdraw', '{k}', false); INSERT INTO {t} VALUES ({k}, {k}, 0, 0) ON CONFLICT DO NOTHING;";
my $update = 'UPDATE {t} SET v = v + 1 WHERE k = {k};';
my $move = 'UPDATE {t} SET x = x + 1 WHERE k = {k};';
my $rekey = 'UPDATE {t} SET k = {k+5} WHERE k = {k};';
my $delete = 'DELETE FROM {t} WHERE k = {k};';
my $long = q{UPDATE {t} SET w = (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 200) g) WHERE k = {k};};

# name, is there a committed row before, what happens, what a third one does then
# and leaves open
my @histories = (
	[ 'nothing', 1, '' ],
	[ 'insert', 0, $insert ],
	[ 'insert, update', 0, $insert . $update ],
	[ 'insert, move', 0, $insert . $move ],
	[ 'insert, delete', 0, $insert . $delete ],
	[ 'insert, delete, insert', 0, $insert . $delete . $insert ],
	[ 'insert, key change', 0, $insert . $rekey ],
	[ 'insert rolled back', 0, "SAVEPOINT s; $insert ROLLBACK TO s;" ],
	[ 'insert in a savepoint', 0, "SAVEPOINT s; $insert RELEASE s;" ],
	[ 'upsert of nothing', 0, $upsert ],
	[ 'upsert of nothing, again', 0, $upsert . $upsert ],
	[ 'withdrawn', 0, $withdraw ],
	[ 'withdrawn, delete', 0, $withdraw . $delete ],
	[ 'withdrawn, delete, insert', 0, $withdraw . $delete . $insert ],
	[ 'withdrawn in a savepoint, delete', 0, "SAVEPOINT s; $withdraw RELEASE s; $delete" ],
	[ 'withdrawn, rolled back', 0, "SAVEPOINT s; $withdraw ROLLBACK TO s;" ],
	[ 'update', 1, $update ],
	[ 'update twice', 1, $update . $update ],
	[ 'move', 1, $move ],
	[ 'update, move, update', 1, $update . $move . $update ],
	[ 'move, delete', 1, $move . $delete ],
	[ 'key change', 1, $rekey ],
	[ 'delete', 1, $delete ],
	[ 'delete, insert', 1, $delete . $insert ],
	[ 'delete, insert, delete', 1, $delete . $insert . $delete ],
	[ 'delete, withdrawn', 1, $delete . $withdraw ],
	[ 'delete, withdrawn, delete', 1, $delete . $withdraw . $delete ],
	[ 'delete rolled back', 1, "SAVEPOINT s; $delete ROLLBACK TO s;" ],
	[ 'update, delete rolled back', 1, "$update SAVEPOINT s; $delete ROLLBACK TO s;" ],
	[ 'update, move rolled back', 1, "$update SAVEPOINT s; $move ROLLBACK TO s;" ],
	[ 'update in a savepoint, update', 1, "SAVEPOINT s; $update RELEASE s; $update" ],
	[ 'upsert', 1, $upsert ],
	[ 'upsert twice', 1, $upsert . $upsert ],
	[ 'long value', 1, $long ],
	[ 'long value, update', 1, $long . $update ],
	[ 'for update', 1, 'SELECT FROM {t} WHERE k = {k} FOR UPDATE;' ],
	[ 'for no key update', 1, 'SELECT FROM {t} WHERE k = {k} FOR NO KEY UPDATE;' ],
	[ 'for share', 1, 'SELECT FROM {t} WHERE k = {k} FOR SHARE;' ],
	[ 'for key share', 1, 'SELECT FROM {t} WHERE k = {k} FOR KEY SHARE;' ],
	[ 'for update rolled back', 1, 'SAVEPOINT s; SELECT FROM {t} WHERE k = {k} FOR UPDATE; ROLLBACK TO s;' ],
	[ 'for update, update', 1, 'SELECT FROM {t} WHERE k = {k} FOR UPDATE;' . $update ],
	[ 'for update in a savepoint, update', 1, "SAVEPOINT s; SELECT FROM {t} WHERE k = {k} FOR UPDATE; RELEASE s; $update" ],
	[ 'for share, for update in a savepoint', 1,
		'SELECT FROM {t} WHERE k = {k} FOR SHARE; SAVEPOINT s; SELECT FROM {t} WHERE k = {k} FOR UPDATE; RELEASE s;' ],
	[ 'for update, update in a savepoint', 1, "SELECT FROM {t} WHERE k = {k} FOR UPDATE; SAVEPOINT s; $update RELEASE s;" ],
	[ 'for update, move, update', 1, "SELECT FROM {t} WHERE k = {k} FOR UPDATE; $move $update" ],
	[ 'for key share, key change', 1, "SELECT FROM {t} WHERE k = {k} FOR KEY SHARE; $rekey" ],
	[ 'upsert, move, upsert', 1, $upsert . $move . $upsert ],
	[ 'long value twice', 1, $long . $long ],
	[ 'long value, delete', 1, $long . $delete ],
	[ 'insert, for update, update', 0, $insert . 'SELECT FROM {t} WHERE k = {k} FOR UPDATE;' . $update ],
	[ 'insert, for update', 0, $insert . 'SELECT FROM {t} WHERE k = {k} FOR UPDATE;' ],
	(map { my ($name, $what, $third) = @$_; [ $name, 1, $what, $third ] }
		[ 'for key share; update', 'SELECT FROM {t} WHERE k = {k} FOR KEY SHARE;', $update ],
		[ 'for key share; move', 'SELECT FROM {t} WHERE k = {k} FOR KEY SHARE;', $move ],
		[ 'for key share; for key share', 'SELECT FROM {t} WHERE k = {k} FOR KEY SHARE;', 'SELECT FROM {t} WHERE k = {k} FOR KEY SHARE;' ],
		[ 'for share; for share', 'SELECT FROM {t} WHERE k = {k} FOR SHARE;', 'SELECT FROM {t} WHERE k = {k} FOR SHARE;' ],
		[ 'for share; for key share', 'SELECT FROM {t} WHERE k = {k} FOR SHARE;', 'SELECT FROM {t} WHERE k = {k} FOR KEY SHARE;' ],
		[ 'update; for key share', $update, 'SELECT FROM {t} WHERE k = {k} FOR KEY SHARE;' ],
		[ 'move; for key share', $move, 'SELECT FROM {t} WHERE k = {k} FOR KEY SHARE;' ],
		[ 'update; update', $update, $update ],
		[ 'update; delete', $update, $delete ],
		[ 'move; update', $move, $update ],
		[ 'move; move', $move, $move ],
		[ 'delete; insert', $delete, $insert ],
		[ 'for update, update; update', 'SELECT FROM {t} WHERE k = {k} FOR UPDATE;' . $update, $update ],
		[ 'for update, update; for key share', 'SELECT FROM {t} WHERE k = {k} FOR UPDATE;' . $update, 'SELECT FROM {t} WHERE k = {k} FOR KEY SHARE;' ],
		[ 'for update, move; update', 'SELECT FROM {t} WHERE k = {k} FOR UPDATE;' . $move, $update ],
		[ 'key change; insert', $rekey, $insert ],
		[ 'for key share; key change', 'SELECT FROM {t} WHERE k = {k} FOR KEY SHARE;', $rekey ],
		[ 'withdrawn, delete; insert', "$delete $withdraw $delete", $insert ]),
	[ 'referenced', 1, 'INSERT INTO {c} VALUES ({k});' ],
	[ 'update, referenced', 1, $update . 'INSERT INTO {c} VALUES ({k});' ],
);

my $cols = 'k - {k} AS k, e - {k} AS e, v, x, length(w) AS w';
my $changed = "$cols, xmax = 0 AS fresh, xmax = pg_current_xact_id()::xid AS mine";
my $in = 'WHERE k BETWEEN {k} AND {k+9}';
my $log = "SELECT what FROM {log} WHERE who = pg_current_xact_id() ORDER BY n;";
my @readers = (
	[ 'index', "SELECT $cols FROM {t} $in ORDER BY k;" ],
	[ 'scan', 'SELECT k - {k}, v, x FROM {t} WHERE k + 0 BETWEEN {k} AND {k+9} ORDER BY k;' ],
	[ 'insert', $insert ],
	[ 'insert the other key', 'INSERT INTO {t} VALUES ({k+5}, {k+5}, 0, 0);' ],
	[ 'insert or nothing', "INSERT INTO {t} VALUES ({k}, {k}, 50, 0) ON CONFLICT DO NOTHING RETURNING $changed;" ],
	[ 'insert or update', "INSERT INTO {t} VALUES ({k}, {k}, 50, 0) ON CONFLICT (k) DO UPDATE SET v = {t}.v + 100 RETURNING $changed; $log" ],
	[ 'insert or move', "INSERT INTO {t} VALUES ({k}, {k}, 50, 0) ON CONFLICT (k) DO UPDATE SET x = {t}.x + 100 RETURNING $changed; $log" ],
	[ 'exclude', 'INSERT INTO {t} VALUES ({k+1}, {k}, 0, 0);' ],
	[ 'exclude or nothing', "INSERT INTO {t} VALUES ({k+1}, {k}, 0, 0) ON CONFLICT DO NOTHING RETURNING $changed;" ],
	[ 'refer', 'INSERT INTO {c} VALUES ({k});' ],
	[ 'update', "UPDATE {t} SET v = v + 200 $in RETURNING $changed; $log" ],
	[ 'move', "UPDATE {t} SET x = x + 200 $in RETURNING $changed; $log" ],
	[ 'long', "UPDATE {t} SET w = coalesce(w, repeat('long', 2000)) || 'er' $in RETURNING $changed;" ],
	[ 'change key', "UPDATE {t} SET k = k + 2 $in RETURNING $changed; $log" ],
	# several own subtransactions: heap's xmax is a multixact, lightning's one of them
	[ 'delete', "DELETE FROM {t} $in RETURNING $cols, xmax = 0; $log" ],
	[ 'merge', "MERGE INTO {t} t USING (SELECT {k} AS k) s ON t.k = s.k WHEN MATCHED THEN UPDATE SET v = v + 300 "
			. "WHEN NOT MATCHED THEN INSERT VALUES ({k}, {k}, 300, 0); SELECT $cols FROM {t} $in ORDER BY k;" ],
	map { my $lock = $_; ([ "for $lock", "SELECT $cols FROM {t} $in FOR $lock;" ],
			[ "for $lock skip locked", "SELECT $cols FROM {t} $in FOR $lock SKIP LOCKED;" ],
			[ "for $lock nowait", "SELECT $cols FROM {t} $in FOR $lock NOWAIT;" ]) }
		('UPDATE', 'NO KEY UPDATE', 'SHARE', 'KEY SHARE'));

my $k = 0;
my $own_keys = 1000000;

# how a history ends, and how what it left is cleared away
my %ends = (
	open => [ '', '' ],
	committed => [ 'COMMIT;', '' ],
	'rolled back' => [ 'ROLLBACK;', '' ],
	prepared => [ "PREPARE TRANSACTION 'twin';", "ROLLBACK PREPARED 'twin';" ]);

# What the writer itself says, each reader in a transaction and with a row of its
# own: on heap, locks that were rolled back stay visible in rows that the
# transaction wrote itself.
sub own_answers
{
	my ($am, $k, $history) = @_;
	my @base = map { ($k + $own_keys + 10 * $_) } 0 .. $#readers;
	my @sql = map { expand("BEGIN; $history->[2] \\echo --- \n $readers[$_][1] ROLLBACK;", $am, $base[$_]) } 0 .. $#readers;

	run_all('writer', $am, 0, 'ROLLBACK;');
	run_all('other', $am, 0, map { expand($insert, $am, $_) } @base) if $history->[1];
	my @said = run_all('writer', $am, 0, @sql);
	# keys as if all had been the same
	s/\((\d+),(\d+),/'(' . $1 % 10 . ',' . $2 % 10 . ','/ge for @said;
	return @said;
}

# all that readers say about a row with this history that was left like this
sub answers
{
	my ($am, $k, $history, $state) = @_;
	my ($name, $exists, $what) = @$history;
	my @said;

	run_all('other', $am, $k, $insert) if $exists;
	run_all('old', $am, $k, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM {t} $in;");
	push @said, map { "history: $_" } run_all('writer', $am, $k, 'BEGIN;', $what, $ends{$state}[0]);
	push @said, map { "third: $_" } run_all('third', $am, $k, 'BEGIN;', $history->[3]) if $history->[3];
	run_all('other', $am, $k, 'SELECT FROM lightning_flush();') if $am eq 'lightning' && $k % 20 == 0;
	my %by = (others => [ run_all('other', $am, $k, map { "BEGIN; $_->[1] ROLLBACK;" } @readers) ],
		older => [ run_all('old', $am, $k, map { "SAVEPOINT r; $_->[1] ROLLBACK TO r;" } @readers) ]);
	$by{own} = [ own_answers($am, $k, $history) ] if $state eq 'open' && !$history->[3];
	for my $who (sort keys %by)
	{
		push @said, "$who, $readers[$_][0]: $by{$who}[$_]" for 0 .. $#readers;
	}
	run_all('old', $am, $k, 'ROLLBACK;');
	run_all('third', $am, $k, 'ROLLBACK;') if $history->[3];
	run_all('writer', $am, $k, 'ROLLBACK;') if $state eq 'open';
	run_all('writer', $am, $k, $ends{$state}[1]) if $state eq 'prepared';
	return @said;
}

sub compare
{
	my ($what, @chosen) = @_;
	for my $history (@chosen)
	{
		$k += 10;
		for my $state ('open', 'committed', $history->[3] ? () : ('rolled back', 'prepared'))
		{
			# every second row is in files when it is looked at, each state in turn
			$k += 10;
			$own_keys += 1000 if $state eq 'open';
			my @heap = answers('heap', $k, $history, $state);
			my @lightning = answers('lightning', $k, $history, $state);
			# heap waits for a transaction that has updated and then deleted the row, in spite
			# of SKIP LOCKED
			my @other = grep { $heap[$_] ne $lightning[$_] &&
				!($heap[$_] =~ /KEY SHARE skip locked: ERROR:  55P03/ && $lightning[$_] =~ /skip locked: $/) } 0 .. $#heap;
			ok(!@other, "$what$history->[0], $state: " . @heap . ' answers');
			diag("heap:      $heap[$_]\nlightning: $lightning[$_]") for @other;
		}
	}
	return;
}

compare('', @histories);

# triggers before changes lock rows, and may change them themselves
for my $am ('heap', 'lightning')
{
	$node->safe_psql('postgres', <<SQL);
CREATE FUNCTION before_$am() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	IF NEW.v > 700 THEN
		UPDATE t_$am SET x = 70 WHERE k = OLD.k;
	ELSIF NEW.v > 600 THEN
		RETURN NULL;
	END IF;
	RETURN NEW;
END \$\$;
CREATE TRIGGER before BEFORE UPDATE ON t_$am FOR EACH ROW EXECUTE FUNCTION before_$am();
SQL
}
push @readers, [ 'stopped', "UPDATE {t} SET v = v + 650 $in RETURNING $changed; $log" ],
	[ 'changed before', "UPDATE {t} SET v = v + 750 $in RETURNING $changed; $log" ];
my %again = map { ($_ => 1) } ('nothing', 'insert', 'update', 'move', 'upsert', 'upsert twice', 'long value', 'delete',
	'withdrawn, delete', 'for key share', 'for update, update', 'update in a savepoint, update');
compare('trigger: ', grep { $again{ $_->[0] } } @histories);

is($node->safe_psql('postgres', 'SELECT count(*) FROM lightning_check_all()'), 0, 'nothing is wrong');
$_->quit for values %session;
$node->stop;
done_testing();
