# A node's files may ask for transactions that the commit log is about to forget,
# and nobody resolves them in time: a standby without queries, one with an old
# snapshot, a copy of either node that has our files from before and pg_xact from
# after.  heap's twin of the table says what is right.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $twins = "SELECT string_agg(id || a, ' ' ORDER BY id) FROM";
my $right = '1changed 2commits';

# A few hundred transactions are enough to fill a segment of the log.
sub new_primary
{
	my ($name) = @_;
	my $node = new_node($name, streaming => 1, conf => "autovacuum = off\nwal_keep_size = 512MB\n");
	system_or_bail('pg_resetwal', '-x', 1048000, '-D', $node->data_dir);
	truncate_or_extend($node->data_dir . '/pg_xact/0000');
	$node->start;
	$node->safe_psql('postgres', 'ALTER DATABASE template0 ALLOW_CONNECTIONS true');
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning_test CASCADE;
CREATE TABLE t (id int, a text) USING lightning;
CREATE TABLE h (id int, a text) USING heap;
INSERT INTO t VALUES (1, 'settled');
INSERT INTO h VALUES (1, 'settled');
SQL
	vacuum($node);
	return $node;
}

sub truncate_or_extend
{
	my ($file) = @_;
	open(my $f, '+<', $file) or die $!;
	truncate($f, 262144) or die $!;
	close $f;
	return;
}

sub vacuum
{
	my ($node, @databases) = @_;
	@databases = qw(template0 template1 other postgres) unless @databases;
	$node->safe_psql($_, 'VACUUM FREEZE') for @databases, @databases;
	return;
}

sub burn
{
	my ($node) = @_;
	$node->safe_psql('postgres', 'DO $$ BEGIN FOR i IN 1 .. 1500 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$');
	return;
}

# Somebody writes, and the deepest files get what he has written.
sub begin_writer
{
	my ($node) = @_;
	my $writer = $node->background_psql('postgres');
	$writer->query_safe("BEGIN; UPDATE t SET a = 'changed'; INSERT INTO t VALUES (2, 'commits')");
	$writer->query_safe("UPDATE h SET a = 'changed'; INSERT INTO h VALUES (2, 'commits')");
	$node->safe_psql('postgres', "SELECT lightning_flush(); SELECT lightning_compact('t', rewrite => true)");
	$node->safe_psql('postgres', 'CHECKPOINT');
	return $writer;
}

sub new_standby
{
	my ($primary, $name, $conf) = @_;
	$primary->backup("of_$name");
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init_from_backup($primary, "of_$name", has_streaming => 1);
	$node->append_conf('postgresql.conf', $conf) if $conf;
	$node->start;
	return $node;
}

sub first_segment { return -e $_[0]->data_dir . '/pg_xact/0000'; }

sub same
{
	my ($node, $what) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "$twins h; $twins t");
	is($out, "$right\n$right", "$what: as in heap's twin");
	is($err, '', "$what: without an error");
	return;
}

# Copies go when the versions have been resolved, and not before.
sub resolves
{
	my ($node, $what) = @_;
	is($node->safe_psql('postgres', 'SELECT commit_log_copies > 0 FROM pg_stat_lightning_files'), 't', "$what: there is a copy");
	$node->safe_psql('postgres', "SELECT lightning_compact('t', rewrite => true); VACUUM FREEZE t");
	ok($node->poll_query_until('postgres', 'SELECT commit_log_copies = 0 FROM pg_stat_lightning_files'), "$what: which goes when nothing needs it");
	is(scalar(my @left = glob($node->data_dir . '/lightning/*.xact*')), 0, "$what: its file, too");
	same($node, "$what, then");
	return;
}

# ---- a standby without queries, which is promoted ----
{
	my $primary = new_primary('without_queries');
	my $writer = begin_writer($primary);
	my $standby = new_standby($primary, 'without_queries_s', "hot_standby = off\n");
	$primary->wait_for_catchup($standby);
	$writer->query_safe('COMMIT');
	$writer->quit;
	burn($primary);
	vacuum($primary);
	ok(!first_segment($primary), 'without queries: the primary has forgotten the transaction');
	$primary->wait_for_catchup($standby);
	ok(!first_segment($standby), 'without queries: so has the standby');
	kill_server($standby);
	$standby->start;
	$primary->wait_for_catchup($standby);
	$standby->promote;
	same($standby, 'without queries');
	kill_server($standby);
	$standby->start;
	same($standby, 'without queries, after a crash');
	resolves($standby, 'without queries');
	$_->stop for $standby, $primary;
}

# ---- a standby with an old snapshot, which is killed while it copies ----
{
	my $primary = new_primary('snapshot');
	my $writer = begin_writer($primary);
	my $standby = new_standby($primary, 'snapshot_s');
	$primary->wait_for_catchup($standby);
	my $old = $standby->background_psql('other');
	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	$writer->query_safe('COMMIT');
	$writer->quit;
	burn($primary);
	for my $point ('xact:before-rename', 'xact:kept')
	{
		$standby->psql('postgres', "SELECT lightning_stop_point_set('$point')");
		vacuum($primary) if $point eq 'xact:before-rename';
		my ($rc) = $standby->psql('postgres', "SELECT lightning_stop_point_wait('$point')", timeout => 200);
		is($rc, 0, "snapshot: redo is held at $point");
		ok(first_segment($standby), "snapshot: nothing is truncated at $point");
		same($standby, "snapshot: at $point");
		last if $point eq 'xact:kept';
		# the second time with the stop point behind it, which a start sets free
		$standby->psql('postgres', "SELECT lightning_stop_point_set('xact:kept'); SELECT lightning_stop_point_release('$point')");
	}
	kill_server($standby);
	eval { $old->quit; };
	$standby->start;
	$primary->wait_for_catchup($standby);
	same($standby, 'snapshot: killed after the copy');

	$old = $standby->background_psql('other');
	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	ok(!first_segment($primary), 'snapshot: the primary has forgotten the transaction');
	ok(!first_segment($standby), 'snapshot: so has the standby');
	same($standby, 'snapshot');
	eval { $old->quit; };
	$standby->promote;
	same($standby, 'snapshot: promoted');
	$_->stop for $standby, $primary;
}

# ---- killed when recovery ends ----
for my $point ('xact:before-rename', 'xact:kept')
{
	my $primary = new_primary("end_$point" =~ tr/:-/__/r);
	my $writer = begin_writer($primary);
	my $standby = new_standby($primary, $primary->name . '_s');
	# so that the standby does not settle what the writer has written
	my $old = $standby->background_psql('other');
	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	$writer->query_safe('COMMIT');
	$writer->quit;
	burn($primary);
	vacuum($primary, 'postgres');
	$primary->wait_for_catchup($standby);
	$standby->safe_psql('postgres', "SELECT lightning_stop_point_set('$point')");
	$standby->safe_psql('postgres', 'SELECT pg_promote(false)');
	my ($rc) = $standby->psql('postgres', "SELECT lightning_stop_point_wait('$point')", timeout => 100);
	is($rc, 0, "end of recovery: held at $point");
	kill_server($standby);
	eval { $old->quit; };
	$primary->stop;
	$standby->start;
	is(scalar(my @left = glob($standby->data_dir . '/lightning/*.new')), 0, "end of recovery: no half copy is left behind $point");
	$standby->promote;
	vacuum($standby, qw(template0 template1 other));
	ok(!first_segment($standby), 'end of recovery: the new primary has truncated the commit log');
	same($standby, 'end of recovery');
	$standby->stop;
}

# ---- promoted between relfrozenxid and the truncation: the new primary truncates ----
{
	my $primary = new_primary('between');
	my $writer = begin_writer($primary);
	my $standby = new_standby($primary, 'between_s', "hot_standby = off\n");
	$primary->wait_for_catchup($standby);
	$writer->query_safe('COMMIT');
	$writer->quit;
	burn($primary);
	vacuum($primary, 'postgres');
	ok(first_segment($primary), 'between: other databases keep the commit log');
	$primary->wait_for_catchup($standby);
	$primary->stop;
	$standby->promote;
	vacuum($standby, qw(template0 template1 other));
	ok(!first_segment($standby), 'between: the new primary has truncated it');
	same($standby, 'between');
	resolves($standby, 'between');
	$standby->stop;
}

# ---- copies of a node that goes on ----
sub copy_data
{
	my ($from, $to) = @_;
	# files that go meanwhile are none of ours
	system("cp -a '$from/.' '$to/' 2>/dev/null");
	unlink "$to/postmaster.pid", "$to/postmaster.opts";
	return;
}

# Our files before, pg_xact after.
sub copies_around
{
	my ($primary, $source, $name) = @_;
	my $copy = PostgreSQL::Test::Cluster->new($name);
	my $to = $copy->data_dir;
	my $writer = begin_writer($primary);
	$primary->wait_for_catchup($source) if $source ne $primary;
	my $backup = $source->background_psql('postgres');
	$backup->query_safe("SELECT pg_backup_start('b', true)");
	mkdir $to, 0700 or die $!;
	copy_data($source->data_dir, $to);
	$writer->query_safe('COMMIT');
	$writer->quit;
	# the copy's replay begins behind the commit, and pg_xact is what has it
	$primary->safe_psql('postgres', 'CHECKPOINT') if $source ne $primary;
	burn($primary);
	vacuum($primary);
	$primary->wait_for_catchup($source) if $source ne $primary;
	system_or_bail('rm', '-r', "$to/pg_xact");
	system_or_bail('cp', '-a', $source->data_dir . '/pg_xact', "$to/pg_xact");
	system_or_bail('cp', $source->data_dir . '/global/pg_control', "$to/global/pg_control") if $source ne $primary;
	my $label = $backup->query_safe('SELECT labelfile FROM pg_backup_stop(false)');
	$backup->quit;
	append_to_file("$to/backup_label", "$label\n");
	system_or_bail('rm', '-r', "$to/pg_wal");
	system_or_bail('cp', '-a', $primary->data_dir . '/pg_wal', "$to/pg_wal");
	append_to_file("$to/postgresql.conf", sprintf("port = %d\nunix_socket_directories = '%s'\n", $copy->port, $copy->host));
	unlink "$to/standby.signal";
	$copy->start;
	return $copy;
}

{
	my $primary = new_primary('backup');
	my $copy = copies_around($primary, $primary, 'backup_c');
	same($copy, 'backup');
	same($primary, 'backup: the primary');
	vacuum($primary);
	ok(!first_segment($primary), 'backup: after it, the commit log is truncated');
	vacuum($copy);
	same($copy, 'backup, vacuumed');
	$_->stop for $copy, $primary;
}

{
	my $primary = new_primary('standby_backup');
	my $standby = new_standby($primary, 'standby_backup_s');
	my $copy = copies_around($primary, $standby, 'standby_backup_c');
	same($copy, 'backup of a standby');
	ok(!first_segment($primary), 'backup of a standby: the primary has truncated its commit log');
	same($standby, 'backup of a standby: the standby');
	$_->stop for $copy, $standby, $primary;
}

done_testing();
