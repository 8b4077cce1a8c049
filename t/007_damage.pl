# Damaged, missing and foreign files: an error that names them, never a crash,
# never a wrong row.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('damage', conf => "autovacuum = off\nrestart_after_crash = on\n");
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE t (id int, b text) USING lightning;
INSERT INTO t SELECT i, 'row ' || md5(i::text) FROM generate_series(1, 3000) i;
CREATE TABLE other (id int) USING lightning;
INSERT INTO other SELECT generate_series(1, 1000);
SELECT lightning_flush();
SELECT lightning_compact('t');
SELECT lightning_compact('other');
CHECKPOINT;
SQL
my $dir = $node->data_dir . '/lightning';
my $query = 'SELECT count(*), sum(id), md5(string_agg(b, chr(10) ORDER BY id)) FROM t';
my $good = $node->safe_psql('postgres', $query);
my $other = $node->safe_psql('postgres', 'SELECT count(*), sum(id) FROM other');
$node->stop;

# let background work come to rest: the same files before and after a restart
for (1 .. 20)
{
	my $before = join ' ', sort glob("$dir/*.run");
	$node->start;
	sleep 1;
	$node->safe_psql('postgres', 'CHECKPOINT');
	$node->stop;
	last if $before eq join ' ', sort glob("$dir/*.run");
}

# the file that holds t: the larger of the runs
my ($file) = sort { -s $b <=> -s $a } glob("$dir/*.run");
ok(defined $file && -s $file > 1000, 'a data file is there');
copy($file, "$file.saved");
my $size = -s $file;
my $name = substr($file, length($dir) + 1, 16);

sub flip
{
	my ($offset) = @_;
	open(my $f, '+<:raw', $file) or die $!;
	seek($f, $offset, 0);
	read($f, my $byte, 1);
	seek($f, $offset, 0);
	print $f chr(ord($byte) ^ 0x41);
	close $f;
	return;
}

# Start, look, stop: the right rows, or an error with the right SQLSTATE.
sub outcome
{
	my ($what) = @_;
	unless ($node->start(fail_ok => 1))
	{
		return 'refused to start';
	}
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$query");
	my ($rc2, $out2, $err2) = $node->psql('postgres', 'SELECT count(*), sum(id) FROM other');
	my $alive = $node->psql('postgres', 'SELECT 1') == 0;
	$node->stop;
	return 'the server died' unless $alive;
	return "wrong rows: $out" if $rc == 0 && $out ne $good;
	return "wrong rows of the other table: $out2" if $rc2 == 0 && $out2 ne $other;
	return "no SQLSTATE XX001: $err" if $rc != 0 && $err !~ /XX001/;
	return "the error names no file: $err" if $rc != 0 && index($err, $name) < 0;
	return $rc == 0 ? 'right' : 'detected';
}

is(outcome('undamaged'), 'right', 'undamaged');

my %seen;
for my $i (0 .. 11)
{
	my $offset = $i < 10 ? int($size * ($i + 0.5) / 10) : $i == 10 ? 0 : $size - 1;
	flip($offset);
	my $o = outcome("byte $offset");
	like($o, qr/^(right|detected)$/, "a flipped bit at offset $offset: $o");
	$seen{$o}++;
	copy("$file.saved", $file);
}
cmp_ok($seen{detected} // 0, '>=', 8, 'flips are detected');

truncate($file, int($size / 2));
like(outcome('truncated'), qr/^detected$/, 'a truncated file is detected');
copy("$file.saved", $file);

unlink $file;
like(outcome('missing'), qr/^detected$/, 'a missing file is detected');
copy("$file.saved", $file);
is(outcome('restored'), 'right', 'with the file back all rows are back');

# the check names what is wrong
flip(int($size / 3));
$node->start;
my $problems = $node->safe_psql('postgres', 'SELECT * FROM lightning_check_all()');
like($problems, qr/checksum|corrupt|damaged/i, 'lightning_check_all() names a damaged block');
$node->stop('immediate');
copy("$file.saved", $file);

# ---- any one file with a manifest may be damaged or missing ----
sub damage_file
{
	my ($path, $offset, $bytes) = @_;
	open(my $f, '+<:raw', $path) or die $!;
	seek($f, $offset, 0);
	print $f $bytes;
	close $f;
	return;
}

for my $copy ('manifest', 'manifest2')
{
	for my $how ('header', 'middle', 'last byte', 'cut', 'missing')
	{
		my ($manifest) = reverse sort glob("$dir/*.$copy");
		my $bytes = -s $manifest;
		damage_file($manifest, 8, "\xff" x 8) if $how eq 'header';
		damage_file($manifest, int($bytes / 2), "\xff" x 8) if $how eq 'middle';
		damage_file($manifest, $bytes - 1, "\x00") if $how eq 'last byte';
		truncate($manifest, $bytes - 10) if $how eq 'cut';
		unlink $manifest if $how eq 'missing';
		is(outcome("$copy: $how"), 'right', "$copy, $how: nothing is lost");
	}
}
like(slurp_file($node->logfile), qr/manifest2? is missing, damaged or not complete; its other copy is used/, 'the server log says so');

# both at once: an error, never a wrong row
my %saved;
for my $manifest (glob("$dir/*.manifest*"))
{
	copy($manifest, "$manifest.saved");
	$saved{$manifest} = "$manifest.saved";
	damage_file($manifest, 8, "\xff" x 8);
}
my $o = outcome('both copies of all manifests');
like($o, qr/^(detected|refused to start)$/, "all manifests damaged: $o");
copy($saved{$_}, $_) for keys %saved;
is(outcome('manifests back'), 'right', 'with the manifests back all rows are back');

# ---- replay of an update whose base is damaged: that row is lost, nothing else ----
$node->start;
my %older = map { $_ => 1 } glob("$dir/*.run");
$node->safe_psql('postgres', <<SQL);
CREATE TABLE based (id int PRIMARY KEY, n int, pad text) USING lightning;
INSERT INTO based SELECT i, 0, repeat(md5(i::text), 20) FROM generate_series(1, 200) i;
SELECT lightning_flush();
SELECT lightning_compact('based', rewrite => true);
CHECKPOINT;
UPDATE based SET n = 1 WHERE id = 7;
UPDATE based SET n = 2 WHERE id = 7;
INSERT INTO based VALUES (1000, 0, 'whole');
INSERT INTO other VALUES (5000);
SQL
$other = $node->safe_psql('postgres', 'SELECT count(*), sum(id) FROM other');
kill_server($node);
($file) = sort { -s $b <=> -s $a } grep { !$older{$_} } glob("$dir/*.run");
copy($file, "$file.saved");
flip(200);
$node->append_conf('postgresql.conf', 'lightning.ignore_damage = off');
ok(!$node->start(fail_ok => 1), 'told to stop at damage, the server does');
$node->append_conf('postgresql.conf', 'lightning.ignore_damage = on');
ok($node->start(fail_ok => 1), 'as a rule it starts');
for my $round ('damaged', 'damaged, started again', 'whole again')
{
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT n FROM based WHERE id = 7");
	like($err, qr/XX001.*damaged file "lightning\/[0-9a-f]{16}\.run", offset \d+/s, "$round: the row is an error that names the file");
	is($node->safe_psql('postgres', 'SELECT pad FROM based WHERE id = 1000'), 'whole', "$round: other rows are read");
	is($node->safe_psql('postgres', 'SELECT count(*), sum(id) FROM other'), $other, "$round: other tables are whole");
	is($node->safe_psql('postgres', "SELECT relname FROM pg_stat_lightning_runs WHERE damaged AND relname IN ('based', 'other')"), 'based',
		"$round: the table is marked");
	if ($round eq 'damaged')
	{
		cmp_ok($node->safe_psql('postgres', 'SELECT rows_lost FROM pg_stat_lightning_background'), '>=', 1, 'lost rows are counted');
		like(slurp_file($node->logfile), qr/row \d+ of lightning store [\d\/]+ is lost/, 'and said in the log');
	}
	$node->stop;
	copy("$file.saved", $file) if $round eq 'damaged, started again';
	$node->start;
}
$node->safe_psql('postgres', 'DELETE FROM based WHERE id = 7');
is($node->safe_psql('postgres', 'SELECT count(*), sum(n) FROM based'), '200|0', 'the file is back and the lost row deleted: all is well');
$node->stop;

# ---- the whole directory gone: errors, never empty tables ----
# (what the server does meanwhile is undone with a copy of everything)
my $data = $node->data_dir;
system('cp', '-a', $data, "$data.saved") == 0 or die 'cannot copy';
system('rm', '-rf', $dir);
if ($node->start(fail_ok => 1))
{
	my ($rc, $out, $err) = $node->psql('postgres', 'SELECT count(*) FROM t');
	isnt($rc, 0, 'without the directory a table is an error, not empty');
	$node->stop('immediate');
}
else
{
	pass('without the directory the server does not start');
}
system('rm', '-rf', $data);
rename("$data.saved", $data);
is(outcome('directory back'), 'right', 'with the directory back all rows are back');

# ---- a table that can't be merged does not slow down the writers of others ----
$node->start;
my %old = map { $_ => 1 } glob("$dir/*.run");
$node->safe_psql('postgres', 'CREATE TABLE bad (id int) USING lightning; INSERT INTO bad VALUES (0); SELECT lightning_flush(); CHECKPOINT');
kill_server($node);
unlink grep { !$old{$_} } glob("$dir/*.run");
$node->start;
$node->safe_psql('postgres', join(';', map { ("INSERT INTO bad VALUES ($_)", "SELECT lightning_flush()") } 1 .. 45));
$node->poll_query_until('postgres', 'SELECT compact_failures > 0 FROM pg_stat_lightning_background') or die 'merging does not fail';
$node->safe_psql('postgres', 'SELECT lightning_flush()');
my ($rc, $out, $err) = $node->psql('postgres',
	q{SET statement_timeout = '15s'; DO $$ BEGIN FOR i IN 1 .. 20000 LOOP INSERT INTO other VALUES (i); END LOOP; END $$});
is($err, '', 'a damaged table with many runs slows nobody down');
$node->stop('immediate');
done_testing();
