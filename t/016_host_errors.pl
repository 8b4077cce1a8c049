# The server's own errors within the engine: the commit log can't be read for a
# while.  A worker that meets that in the middle of a flush goes on: it must hold no
# lock of the server's then, and be open for interrupts.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('host_errors', conf => "autovacuum = off\n");

# so that few transactions lead to the commit log's next segment
command_ok([ 'pg_resetwal', '-x', 1048400, '-D', $node->data_dir ], 'next transaction id is set');
my $segment = $node->data_dir . '/pg_xact/0000';
open(my $clog, '+<', $segment) or die;
truncate($clog, 262144);
close $clog;
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE t (id int) USING lightning;
INSERT INTO t VALUES (1);
INSERT INTO t VALUES (2);
DO \$\$ BEGIN FOR i IN 1 .. 300 LOOP PERFORM txid_current(); COMMIT; END LOOP; END \$\$;
-- other pages take the buffers
SELECT pg_xact_status((p * 32768 + 10000)::text::xid8) FROM generate_series(1, 20) p;
SQL
rename($segment, "$segment.saved") or die;

my ($rc, $o, $e) = $node->psql('postgres', 'SELECT lightning_flush()');
like($e, qr/could not access status of transaction/, 'a flush fails');

# the gate, which tries again
my $checkpoint = IPC::Run::start(
	[ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', 'CHECKPOINT', 'postgres' ],
	'<', \undef, '>', \my $out, '2>', \my $err, IPC::Run::timer(300));
$node->wait_for_log(qr/failed at flushing for a checkpoint: could not access status/);
rename("$segment.saved", $segment) or die;
$checkpoint->finish;
is($err, '', 'the checkpoint is completed');
is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), 2, 'the rows are there');
# needs an answer from every process
$node->safe_psql('postgres', 'CREATE DATABASE d');
($rc, $o, $e) = $node->psql('postgres', 'DROP DATABASE d', timeout => 300, timed_out => \my $timed_out);
ok(!$timed_out, 'a database can be dropped');
$node->stop;
done_testing();
