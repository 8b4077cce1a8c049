# A standby whose disk is full, or nearly so, when the primary truncates its commit
# log: replay asks for no more space than a copy of a part of it, and waits for that.
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

my $state = 'SELECT count(*), sum(n) FROM t';

sub log_since
{
	my ($node, $from) = @_;
	return substr(slurp_file($node->logfile), $from);
}

sub wait_for_log
{
	my ($node, $from, $re, $what) = @_;
	my $end = time() + 200;
	sleep 0.1 while log_since($node, $from) !~ $re && time() < $end;
	like(log_since($node, $from), $re, $what);
	return;
}

# Rows of 30 MB, one of them by a transaction that has not ended.
sub new_primary
{
	my ($name) = @_;
	my $node = new_node($name, streaming => 1, init => { extra => ['--wal-segsize=1'] },
		conf => "autovacuum = off\nwal_keep_size = 512MB\nlightning.memtable_size = 4MB\n");
	system_or_bail('pg_resetwal', '-x', 1048200, '-D', $node->data_dir);
	open(my $f, '+<', $node->data_dir . '/pg_xact/0000') or die $!;
	truncate($f, 262144) or die $!;
	close $f;
	$node->start;
	$node->safe_psql('postgres', 'ALTER DATABASE template0 ALLOW_CONNECTIONS true');
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE t (id int, n int, filler text) USING lightning;
INSERT INTO t SELECT i, 0, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 16) k WHERE i > 0) FROM generate_series(1, 60000) i;
SQL
	$node->safe_psql($_, 'VACUUM FREEZE') for qw(template0 template1 other postgres);
	my $writer = $node->background_psql('postgres');
	$writer->query_safe('BEGIN; UPDATE t SET n = 1 WHERE id % 1000 = 0');
	$node->safe_psql('postgres', "SELECT lightning_flush(); SELECT lightning_compact('t', rewrite => true)");
	return ($node, $writer);
}

# Its files, and nothing else, are on the small file system.
sub new_standby
{
	my ($primary, $name) = @_;
	$primary->backup('b');
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init_from_backup($primary, 'b', has_streaming => 1);
	system_or_bail('cp', '-a', $node->data_dir . '/.', dirname($small));
	system_or_bail('rm', '-r', $node->data_dir);
	symlink(dirname($small), $node->data_dir) or die $!;
	chmod 0700, dirname($small);
	$node->start;
	return $node;
}

sub forget
{
	my ($primary, $writer) = @_;
	$writer->query_safe('COMMIT');
	$writer->quit;
	$primary->safe_psql('postgres', 'DO $$ BEGIN FOR i IN 1 .. 1500 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$');
	for (1, 2)
	{
		$primary->safe_psql($_, 'VACUUM FREEZE') for qw(template0 template1 other postgres);
	}
	ok(!-e $primary->data_dir . '/pg_xact/0000', 'the primary has truncated its commit log');
	return;
}

# ---- room for a little, but not for the table ----
{
	my ($primary, $writer) = new_primary('nearly');
	my $standby = new_standby($primary, 'nearly_s');
	put_ballast(16 * 1024);
	my $from = -s $standby->logfile;
	forget($primary, $writer);
	$primary->wait_for_catchup($standby);
	unlike(log_since($standby, $from), qr/startup FATAL/, 'nearly full: replay goes on');
	is($standby->safe_psql('postgres', $state), '60000|60', 'nearly full: all rows are there');
	remove_ballast();
	$_->stop for $standby, $primary;
	system_or_bail('find', dirname($small), '-mindepth', 1, '!', '-path', $small, '-delete');
}

# ---- no room at all ----
{
	my ($primary, $writer) = new_primary('full');
	my $standby = new_standby($primary, 'full_s');
	my $old = $standby->background_psql('other');
	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	put_ballast(64);
	take_rest();
	my $from = -s $standby->logfile;
	forget($primary, $writer);
	wait_for_log($standby, $from, qr/startup (?:WARNING|LOG):  .*No space left on device/, 'full: replay says that it waits');
	is($standby->safe_psql('postgres', 'SELECT count(*) FROM t'), '60000', 'full: reading goes on');
	ok(-e $standby->data_dir . '/pg_xact/0000', 'full: nothing is truncated');
	eval { $old->quit; };
	is(system('pg_ctl', '-D', $standby->data_dir, '-m', 'fast', '-w', '-t', 200, 'stop'), 0, 'full: the standby can be stopped meanwhile');
	$standby->_update_pid(0);
	unlike(log_since($standby, $from), qr/startup FATAL:  (?!terminating)/, 'full: replay has not failed');
	take_rest();
	$from = -s $standby->logfile;
	delete local $ENV{PGAPPNAME};	# or the primary would not know it by its name
	system_or_bail('pg_ctl', '-W', '-D', $standby->data_dir, '-l', $standby->logfile, '-o', '--cluster-name=full_s', 'start');
	wait_for_log($standby, $from, qr/startup (?:WARNING|LOG):  .*No space left on device/, 'full: it waits again when it is started');
	$standby->_update_pid(1);
	remove_ballast();
	ok(wait_for_sql($standby, 'SELECT 1', '1'), 'with space: the standby is up');
	$primary->wait_for_catchup($standby);
	is($standby->safe_psql('postgres', $state), '60000|60', 'with space: all rows are there');
	ok(!-e $standby->data_dir . '/pg_xact/0000', 'with space: the commit log is truncated');
	$_->stop for $standby, $primary;
}

done_testing();
