# Lightning.pm
#	What the TAP tests share: clusters with the library preloaded, loads whose
#	acknowledged commits are known, ways to hurt a server, and the checks that
#	must hold afterwards.
package Lightning;

use strict;
use warnings;
use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(new_node kill_server worker_pid start_load finish_load
  setup_load verify_load start_hammer stop_hammer check_clean wait_for_sql
  crash_process);

# A cluster with the library preloaded; small memory so that flushes and
# compactions happen all the time.
sub new_node
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(allows_streaming => $opt{streaming} // 0, %{ $opt{init} // {} });
	$node->append_conf('postgresql.conf', <<CONF);
shared_preload_libraries = 'lightning'
shared_buffers = 32MB
max_connections = 50
lightning.memtable_size = '1MB'
lightning.memtable_count = 4
lightning.cache_size = '8MB'
log_min_messages = warning
log_statement = none
log_line_prefix = '%m [%p] %b '
restart_after_crash = on
deadlock_timeout = 100ms
max_prepared_transactions = 10
CONF
	$node->append_conf('postgresql.conf', $opt{conf}) if $opt{conf};
	return $node;
}

# Every process of the server, by its parent links.
sub server_pids
{
	my ($postmaster) = @_;
	my @pids = ($postmaster);
	opendir(my $proc, '/proc') or die "cannot read /proc: $!";
	for my $p (grep { /^\d+$/ } readdir $proc)
	{
		open(my $f, '<', "/proc/$p/stat") or next;
		my $stat = <$f> // '';
		close $f;
		push @pids, $p if $stat =~ /^\d+ \(.*\) \S (\d+) / && $1 == $postmaster;
	}
	closedir $proc;
	return @pids;
}

# SIGKILL the postmaster and all its children, and wait until they are gone.
sub kill_server
{
	my ($node) = @_;
	my $pm = $node->{_pid};
	kill 'STOP', $pm;
	my @pids = server_pids($pm);
	kill 'KILL', @pids;
	for my $p (@pids)
	{
		for (1 .. 1000)
		{
			last unless -d "/proc/$p";
			sleep 0.01;
		}
	}
	$node->{_pid} = undef;
	return;
}

sub worker_pid
{
	my ($node, $type) = @_;
	my ($rc, $out) = $node->psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '$type%' ORDER BY pid LIMIT 1");
	return $out;
}

# (No deadlocks: rows are locked in ascending order.  A retry would leave a gap
# in n, which pgbench does not set back.)
#
# A load of transactions that each insert an acknowledgement row, move money
# between accounts (secondary index changed or not), and now and then delete
# or roll back to a savepoint.  What pgbench logged as done was acknowledged.
sub setup_load
{
	my ($node, $accounts) = @_;
	$accounts //= 1000;
	$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION IF NOT EXISTS lightning;
CREATE TABLE acked (cycle int, client int, n int, filler text,
	PRIMARY KEY (cycle, client, n)) USING lightning;
CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL, version int NOT NULL DEFAULT 0,
	note text) USING lightning;
CREATE INDEX account_version ON account (version);
CREATE TABLE history (account int, delta bigint, at timestamptz DEFAULT now()) USING lightning;
CREATE INDEX history_account ON history (account);
CREATE TABLE queue (id bigserial PRIMARY KEY, item text) USING lightning;
INSERT INTO account SELECT i, 0, 0, repeat('n', i % 50) FROM generate_series(1, $accounts) i;
SQL
	my $script = $node->basedir . '/load.sql';
	append_to_file($script, <<SQL);
\\set n :n + 1
\\set a random(1, $accounts)
\\set b random(:a, $accounts)
\\set d random(-1000, 1000)
\\set r random(1, 10)
BEGIN;
INSERT INTO acked VALUES (:cycle, :client_id, :n, repeat('x', :r * 10));
UPDATE account SET balance = balance + :d WHERE id = :a;
INSERT INTO history (account, delta) VALUES (:a, :d);
SAVEPOINT s;
UPDATE account SET balance = balance - 1000000, version = version + 1 WHERE id = :b;
INSERT INTO history (account, delta) VALUES (:b, -5);
ROLLBACK TO s;
\\if :r = 1
UPDATE account SET version = version + 1, note = repeat('m', :r) WHERE id = :a;
\\endif
INSERT INTO queue (item) VALUES ('item ' || :n);
DELETE FROM queue WHERE id = (SELECT id FROM queue ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) AND :r > 2;
\\if :r = 10
ROLLBACK;
BEGIN;
INSERT INTO acked VALUES (:cycle, :client_id, :n, 'second try');
\\endif
COMMIT;
SQL
	return $script;
}

# Starts the load in the background; finish_load waits for it.
sub start_load
{
	my ($node, $cycle, %opt) = @_;
	my $clients = $opt{clients} // 4;
	my $seconds = $opt{seconds} // 2;
	my $script = $node->basedir . '/load.sql';
	my $prefix = $node->basedir . "/load_$cycle";
	unlink glob("$prefix*");
	my @cmd = (
		'pgbench', '-n', '-f', $script, '-c', $clients, '-j', 2, '-T', $seconds,
		'-M', $opt{protocol} // 'prepared',
		'-D', "cycle=$cycle", '-D', 'n=0', '--log', "--log-prefix=$prefix",
		"--random-seed=" . ($opt{seed} // 1), '-h', $node->host, '-p', $node->port, 'postgres');
	my ($out, $err) = ('', '');
	my $h = IPC::Run::start(\@cmd, '<', \undef, '>', \$out, '2>', \$err);
	return { h => $h, cycle => $cycle, prefix => $prefix, clients => $clients, out => \$out, err => \$err };
}

# Number of acknowledged transactions per client.
sub finish_load
{
	my ($load) = @_;
	eval { $load->{h}->finish; };
	my %acked = map { $_ => 0 } 0 .. $load->{clients} - 1;
	for my $file (glob("$load->{prefix}.*"))
	{
		open(my $f, '<', $file) or die "cannot open $file: $!";
		while (my $line = <$f>)
		{
			my @col = split / /, $line;
			# a line cut short is not an acknowledgement we can rely on
			next unless @col >= 6 && $line =~ /\n$/;
			$acked{ $col[0] }++ if $col[2] =~ /^\d+$/;
		}
		close $f;
	}
	$load->{acked} = \%acked;
	return $load;
}

# Nothing acknowledged lost, nothing unacknowledged visible beyond the one
# transaction per client that may have been in flight, sums and indexes agree.
sub verify_load
{
	my ($node, $load, $what) = @_;
	my $ok = 1;
	my $cycle = $load->{cycle};
	my %have;
	for my $row (split /\n/, $node->safe_psql('postgres',
			"SELECT client || ' ' || count(*) || ' ' || max(n) || ' ' || min(n) FROM acked WHERE cycle = $cycle GROUP BY client"))
	{
		my ($client, $count, $max, $min) = split / /, $row;
		$have{$client} = $count;
		if ($min != 1 || $max != $count)
		{
			diag("$what: client $client has $count rows from $min to $max; missing: "
				. $node->safe_psql('postgres', "SELECT string_agg(i::text, ' ') FROM generate_series(1, $max) i WHERE NOT EXISTS (SELECT 1 FROM acked WHERE cycle = $cycle AND client = $client AND n = i)"));
			diag("$what: pgbench said: ${ $load->{out} }${ $load->{err} }");
			$ok = 0;
		}
	}
	my $total = 0;
	for my $client (sort keys %{ $load->{acked} })
	{
		my $acked = $load->{acked}{$client};
		my $have = $have{$client} // 0;
		$total += $acked;
		if ($have < $acked || $have > $acked + 1)
		{
			diag("$what: client $client was told of $acked commits, the table has $have");
			$ok = 0;
		}
	}
	my $sums = $node->safe_psql('postgres', <<SQL);
SELECT (SELECT sum(balance) FROM account) IS NOT DISTINCT FROM (SELECT coalesce(sum(delta), 0) FROM history),
	(SELECT count(*) FROM history) = (SELECT count(*) FROM acked WHERE filler <> 'second try'),
	NOT EXISTS (SELECT 1 FROM account a WHERE balance <> (SELECT coalesce(sum(delta), 0) FROM history h WHERE h.account = a.id))
SQL
	if ($sums ne 't|t|t')
	{
		diag("$what: sums disagree: $sums");
		$ok = 0;
	}
	for my $q ('SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM account t WHERE version >= 0',
		'SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM history t WHERE account > 0',
		'SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM queue t WHERE id > 0',
		"SELECT count(*) FROM acked WHERE cycle >= 0 AND client >= 0")
	{
		my $seq = $node->safe_psql('postgres', "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off; $q");
		my $idx = $node->safe_psql('postgres', "SET enable_seqscan = off; SET enable_bitmapscan = off; $q");
		my $bmp = $node->safe_psql('postgres', "SET enable_seqscan = off; SET enable_indexscan = off; SET enable_indexonlyscan = off; $q");
		if ($seq ne $idx || $seq ne $bmp)
		{
			diag("$what: table and index disagree ($seq, $idx, $bmp): $q");
			$ok = 0;
		}
	}
	my $problems = $node->safe_psql('postgres', 'SELECT * FROM lightning_check_all(index => true)');
	if ($problems ne '')
	{
		diag("$what: check: $problems");
		$ok = 0;
	}
	diag($what) unless $ok;
	ok($ok, "$what ($total commits acknowledged)");
	return $ok;
}

sub check_clean
{
	my ($node, $what) = @_;
	is($node->safe_psql('postgres', 'SELECT * FROM lightning_check_all(index => true)'), '', "$what: check finds nothing");
	return;
}

# CHECKPOINT after CHECKPOINT, until stopped or the server goes away.
sub start_hammer
{
	my ($node) = @_;
	my $file = $node->basedir . '/hammer.sql';
	unless (-e $file)
	{
		append_to_file($file, "CHECKPOINT;\n");
	}
	my ($out, $err) = ('', '');
	my $h = IPC::Run::start(
		[ 'pgbench', '-n', '-f', $file, '-c', 1, '-T', 60, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'<', \undef, '>', \$out, '2>', \$err);
	return $h;
}

sub stop_hammer
{
	my ($h) = @_;
	eval { $h->signal('TERM'); };
	eval { $h->finish; };
	return;
}

# Kill one process of the server, and wait until the postmaster has noticed, thrown
# the others out and begun anew: before that the server still answers.
sub crash_process
{
	my ($node, $pid, $signal) = @_;
	my $offset = -s $node->logfile;
	my $end = time() + 300;
	kill $signal // 'KILL', $pid;
	sleep 0.05 while slurp_file($node->logfile, $offset) !~ /all server processes terminated; reinitializing/ && time() < $end;
	return wait_for_sql($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'lightning gate'", '1');
}

# Poll until the server answers and the query returns what is expected.  (The
# limit is there for what never comes: a loaded machine takes its time.)
sub wait_for_sql
{
	my ($node, $query, $expected, $seconds) = @_;
	my $end = time() + ($seconds // 300);
	while (time() < $end)
	{
		my ($rc, $out) = $node->psql('postgres', $query, timeout => 60, timed_out => \my $timed_out);
		return 1 if defined $rc && $rc == 0 && $out eq $expected;
		sleep 0.1;
	}
	return 0;
}

1;
