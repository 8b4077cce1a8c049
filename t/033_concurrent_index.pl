# Indexes are built, rebuilt and dropped concurrently under write load, tables
# are rewritten; then every index agrees with its table.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('concurrent_index');
$node->start;
setup_load($node, 300);
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
my $load = start_load($node, 1, clients => 4, seconds => 8);
my $rounds = 0;
my $failed = '';
my $end = time() + 7;
while (time() < $end)
{
	for my $sql ('CREATE INDEX CONCURRENTLY x_hist ON history (delta, account)', 'CREATE INDEX CONCURRENTLY x_note ON account USING hash (note)',
		'CREATE UNIQUE INDEX CONCURRENTLY x_item ON queue (item, id)', 'CREATE INDEX CONCURRENTLY x_bal ON account (balance) WHERE version > 0',
		'REINDEX TABLE CONCURRENTLY account', 'REINDEX INDEX CONCURRENTLY history_account', 'VACUUM history', 'CLUSTER account USING account_version', 'VACUUM FULL queue',
		'DROP INDEX CONCURRENTLY x_hist', 'DROP INDEX CONCURRENTLY x_note', 'DROP INDEX CONCURRENTLY x_item', 'DROP INDEX CONCURRENTLY x_bal')
	{
		my ($rc, $out, $err) = $node->psql('postgres', $sql);
		$failed .= "$sql: $err\n" if $rc != 0;
	}
	$rounds++;
}
is($failed, '', "$rounds rounds of concurrent commands");
$node->safe_psql('postgres', 'CREATE INDEX CONCURRENTLY x_hist ON history (delta, account)');
finish_load($load);
verify_load($node, $load, 'indexes built under load');
is($node->safe_psql('postgres', <<SQL), 't', 'amcheck finds every row in every index');
SELECT count(bt_index_parent_check(c.oid, true)) > 5 FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam
WHERE a.amname = 'btree' AND i.indisvalid AND i.indrelid = ANY ('{account,history,queue,acked}'::regclass[])
SQL
check_clean($node, 'after it');
$node->stop;
done_testing();
