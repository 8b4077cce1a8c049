# A file system that is full, a real one: statements wait and say so, or fail
# cleanly; reading goes on; nothing acknowledged is lost; with space, service
# returns by itself.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use SmallFS;
use File::Basename 'dirname';
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $small = small_fs();
plan skip_all => 'LIGHTNING_SMALL_FS is not set, and a tmpfs cannot be mounted in a user namespace' unless $small;

my $rows = 200;					# of one transaction of the filling load
my $transactions = 500;			# of each of its clients: about 40 MB in files
my $filler = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 8) k WHERE i > 0)";

# ---- a load that fills the disk; acknowledged transactions are known ----
sub start_filling
{
	my ($node, $cycle) = @_;
	my $script = $node->basedir . '/fill.sql';
	append_to_file($script, <<SQL) unless -e $script;
\\set n :n + 1
INSERT INTO fill SELECT :cycle, :client_id, :n, i, $filler FROM generate_series(1, $rows) i;
SQL
	my $prefix = $node->basedir . "/fill_$cycle";
	my ($out, $err) = ('', '');
	my $h = IPC::Run::start(
		[ 'pgbench', '-n', '-f', $script, '-c', 3, '-j', 1, '-t', $transactions, '-D', "cycle=$cycle", '-D', 'n=0',
			'--log', "--log-prefix=$prefix", '-h', $node->host, '-p', $node->port, 'postgres' ],
		'<', \undef, '>', \$out, '2>', \$err);
	return { h => $h, cycle => $cycle, prefix => $prefix, clients => 3, out => \$out, err => \$err };
}

sub verify_filling
{
	my ($node, $load, $what) = @_;
	my $bad = 0;
	my $total = 0;
	my %have;
	for my $line (split /\n/,
		$node->safe_psql('postgres', "SELECT client, max(n), count(*) FROM fill WHERE cycle = $load->{cycle} GROUP BY client"))
	{
		my ($client, @counts) = split /\|/, $line;
		$have{$client} = \@counts;
	}
	for my $client (sort keys %{ $load->{acked} })
	{
		my $acked = $load->{acked}{$client};
		my ($max, $count) = @{ $have{$client} // [ 0, 0 ] };
		$total += $acked;
		next if ($max == $acked || $max == $acked + 1) && $count == $max * $rows;
		diag("$what: client $client was told of $acked commits, the table has $count rows up to $max");
		$bad++;
	}
	diag("pgbench said: ${ $load->{out} }${ $load->{err} }") if $bad;
	ok($bad == 0 && $total > 0, "$what: every acknowledged row is there, once ($total transactions)");
	return;
}

# ---- what the server says ----
sub log_since
{
	my ($node, $from) = @_;
	return substr(slurp_file($node->logfile), $from);
}

sub wait_for_log
{
	my ($node, $from, $re, $what) = @_;
	my $end = time() + 300;
	sleep 0.1 while log_since($node, $from) !~ $re && time() < $end;
	like(log_since($node, $from), $re, $what);
	return;
}

# Full, and not only until the next checkpoint removes old files. Where the log
# is on the same disk, it may be the first to find no room: that is a PANIC, and
# who asks then finds nobody.
sub wait_until_full
{
	my ($node, $from, $what, $log_too) = @_;
	my $end = time() + 300;
	my ($lsn, $before) = ('', '');
	wait_for_log($node, $from, qr/No space left on device/, "$what: the log says that the disk is full");
	while (time() < $end)
	{
		$before = $lsn;
		my ($rc, $out) = $node->psql('postgres',
			"SELECT pg_current_wal_insert_lsn() FROM pg_stat_activity WHERE wait_event = 'LightningRoom' LIMIT 1");
		return pass("$what: the log is what finds no room")
		  if $log_too && log_since($node, $from) =~ /PANIC:.*No space left on device/;
		die "$what: the server is gone" if $rc != 0;
		$lsn = $out;
		last if $lsn ne '' && $lsn eq $before;
		sleep 2;
	}
	ok($lsn ne '' && $lsn eq $before, "$what: writers wait for room, and the view shows it");
	return;
}

# ---- servers ----
# All of the data directory on the small file system, or only the engine's files.
sub create_node
{
	my ($name, $all) = @_;
	my $node = new_node($name, init => { extra => ['--wal-segsize=1'] });
	$node->append_conf('postgresql.conf', "min_wal_size = 2MB\nmax_wal_size = 32MB\nautovacuum = off\nlightning.memtable_size = 4MB\nlightning.memtable_count = 3\n");
	my $where = $all ? "$small/$name" : dirname($small);
	my $path = $node->data_dir;
	mkdir $where, 0700;
	system_or_bail('cp', '-a', "$path/.", $where);
	system_or_bail('rm', '-r', $path);
	symlink($where, $path) or die $!;
	$node->start;
	setup_load($node, 200);
	$node->safe_psql('postgres',
		'CREATE TABLE fill (cycle int, client int, n int, i int, filler text) USING lightning;'
		. 'CREATE TABLE on_heap (i int) USING heap');
	return $node;
}

# Nothing is left to merge or to remove: what is free now stays so.
sub settle
{
	my ($node) = @_;
	my ($before, $now) = (0, free_kb());
	for (1 .. 30)
	{
		$node->safe_psql('postgres', 'SELECT lightning_flush(); '
			. "SELECT lightning_compact(c.oid) FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE amname = 'lightning'; CHECKPOINT");
		wait_for_sql($node, 'SELECT obsolete_files FROM pg_stat_lightning_files', '0');
		($before, $now) = ($now, free_kb());
		return if abs($now - $before) < 50;
	}
	return;
}

# $node->start, for a server that may take its time.
sub start_without_waiting
{
	my ($node) = @_;
	system_or_bail('pg_ctl', '-W', '-D', $node->data_dir, '-l', $node->logfile, '-o', '--cluster-name=' . $node->name, 'start');
	my $end = time() + 300;
	sleep 0.1 while !-s $node->data_dir . '/postmaster.pid' && time() < $end;
	$node->_update_pid(1);
	return;
}

# ---- the engine's files are on the small file system ----
my $node = create_node('disk_full', 0);
my @psql = ('psql', '-XAtq', '-h', $node->host, '-p', $node->port, 'postgres');
my $cycle = 1;

put_ballast(24 * 1024);
my $from = -s $node->logfile;
my $filling = start_filling($node, $cycle);
my $load = start_load($node, $cycle, clients => 2, seconds => 10);
wait_until_full($node, $from, 'full');

my ($rc, $out, $err) = $node->psql('postgres',
	"SET statement_timeout = '1s'; INSERT INTO fill SELECT 0, 0, 0, i, repeat(md5(i::text), 10) FROM generate_series(1, 50000) i");
like($err, qr/canceling statement due to statement timeout/, 'full: a waiting statement can be cancelled');
is($node->safe_psql('postgres', 'SELECT count(*) FROM fill WHERE cycle = 0'), '0', 'full: reading goes on');
is($node->safe_psql('postgres', 'INSERT INTO on_heap VALUES (1); SELECT count(*) FROM on_heap'), '1', 'full: other tables can be written');

my $checkpoint = IPC::Run::start([ @psql, '-c', 'CHECKPOINT' ], '<', \undef, '>', \my $o, '2>', \my $e);
sleep 1;
my $redo = $node->safe_psql('postgres', 'SELECT redo_lsn FROM pg_control_checkpoint()');
($rc, $out, $err) = $node->psql('postgres', 'SELECT lightning_flush()');
like($err, qr/No space left on device/, 'full: who asks for a flush gets an error');
sleep 3;
is($node->safe_psql('postgres', 'SELECT redo_lsn FROM pg_control_checkpoint()'), $redo, 'full: no checkpoint completes');
my @lines = log_since($node, $from) =~ /lightning (?:failed|has resumed)/g;
cmp_ok(scalar(@lines), '<', 20, 'full: the log is not flooded (' . scalar(@lines) . ' lines)')
  or diag(log_since($node, $from));

remove_ballast();
ok(wait_for_sql($node, "SELECT redo_lsn > '$redo' FROM pg_control_checkpoint()", 't'), 'space: the checkpoint completes');
eval { $checkpoint->finish; };
finish_load($filling);
finish_load($load);
unlike(${ $filling->{err} }, qr/ERROR|FATAL|aborted/, 'space: those who waited have gone on');
verify_filling($node, $filling, 'space');
verify_load($node, $load, 'space');
note(sprintf('%.1f MB are free', free_kb() / 1024));

# ---- DROP TABLE gives space back to a disk that is full ----
$node->safe_psql('postgres', 'TRUNCATE fill; CREATE TABLE victim (i int, filler text) USING lightning;'
	. "INSERT INTO victim SELECT i, $filler FROM generate_series(1, 150000) i");
settle($node);
put_ballast(6 * 1024);
$from = -s $node->logfile;
my $insert = IPC::Run::start([ @psql, '-c', "INSERT INTO fill SELECT 0, 0, 0, i, $filler FROM generate_series(1, 120000) i" ],
	'<', \undef, '>', \my $o2, '2>', \my $e2, IPC::Run::timeout(600));
wait_until_full($node, $from, 'drop');
$node->safe_psql('postgres', 'DROP TABLE victim');
eval { $insert->finish; };
is($e2, '', 'drop: who waited for room has got it') or diag($@);
is($node->safe_psql('postgres', 'SELECT count(*) FROM fill WHERE cycle = 0'), '120000', 'drop: and wrote all');
remove_ballast();
check_clean($node, 'drop');

# ---- killed while the disk is full: recovery waits for space ----
$cycle++;
settle($node);
put_ballast(6 * 1024);
$from = -s $node->logfile;
$filling = start_filling($node, $cycle);
$load = start_load($node, $cycle, clients => 2, seconds => 10);
wait_until_full($node, $from, 'killed');
kill_server($node);
finish_load($filling);
finish_load($load);
unlink glob("$small/*.tmp");	# as the start would
take_rest();
$from = -s $node->logfile;
start_without_waiting($node);
wait_for_log($node, $from, qr/startup (?:WARNING|LOG):  .*No space left on device/, 'killed: recovery says that the disk is full');
sleep 2;
unlike(log_since($node, $from), qr/FATAL:  (?!the database system)|PANIC|shut down at|exited/, 'killed: and waits');
is(system('pg_ctl', '-D', $node->data_dir, '-m', 'fast', '-w', '-t', 300, 'stop'), 0, 'killed: it can be stopped meanwhile');
start_without_waiting($node);
remove_ballast();
ok(wait_for_sql($node, 'SELECT 1', '1'), 'killed: with space, recovery completes');
verify_filling($node, $filling, 'killed');
verify_load($node, $load, 'killed');

# ---- stopped while the disk is full ----
$cycle++;
settle($node);
put_ballast(6 * 1024);
$from = -s $node->logfile;
$filling = start_filling($node, $cycle);
wait_until_full($node, $from, 'stopped');
for (1 .. 4)
{
	take_rest();
	sleep 0.5;
}
is(system('pg_ctl', '-D', $node->data_dir, '-m', 'fast', '-w', '-t', 300, 'stop'), 0, 'stopped: it does stop');
$node->_update_pid(0);
finish_load($filling);
like(log_since($node, $from), qr/lightning could not write its data at shutdown/, 'stopped: no shutdown checkpoint');
remove_ballast();
$node->start;
verify_filling($node, $filling, 'stopped');
check_clean($node, 'at the end');
$node->stop;
system_or_bail('rm', '-r', glob("$small/*"));

# ---- all of the data directory is there, with the log, which PostgreSQL can't do without ----
$node = create_node('all_full', 1);
put_ballast(40 * 1024);
$from = -s $node->logfile;
$filling = start_filling($node, 1);
$load = start_load($node, 1, clients => 2, seconds => 10);
wait_until_full($node, $from, 'all', 1);
($rc, $out, $err) = $node->psql('postgres', 'INSERT INTO on_heap SELECT generate_series(1, 5000000)');
isnt($rc, 0, 'all: writing to heap fails') and note($err);
$node->psql('postgres', "SELECT pg_logical_emit_message(false, 'test', repeat('x', 100000)) FROM generate_series(1, 1000)");
wait_for_log($node, $from, qr/PANIC:.*No space left on device/, 'all: the server cannot go on without log');
sleep 3;
remove_ballast();
finish_load($filling);
finish_load($load);
if (!wait_for_sql($node, 'SELECT 1', '1', 10) && !-e $node->data_dir . '/postmaster.pid')
{
	note('the server has stopped');
	$node->{_pid} = undef;
	$node->start;
}
ok(wait_for_sql($node, 'SELECT 1', '1'), 'all: with space, the server is up');
verify_filling($node, $filling, 'all');
verify_load($node, $load, 'all');
$node->stop;
done_testing();
