# Sessions insert, read and update rows while others change the table's catalog
# entries without a lock that would keep them away: every statement of the writers
# may meet an invalidation at any point.  No row may get lost, change unasked or get
# where it does not belong.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use IPC::Run ();
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $writers = 2;
my $transactions = 1000;

my $node = new_node('invalidations', conf => "autovacuum = off\n");
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION lightning;
CREATE TABLE storm (id bigserial PRIMARY KEY, client int NOT NULL DEFAULT 0 CHECK (client >= 0),
	n int NOT NULL DEFAULT 0 CHECK (n >= 0), t text DEFAULT 'some text' CHECK (length(t) < 10000),
	at timestamptz DEFAULT now()) USING lightning WITH (lightning.compression = lz4);
CREATE INDEX storm_n ON storm (n);
CREATE TABLE other (id bigserial PRIMARY KEY, client int NOT NULL DEFAULT 0 CHECK (client >= 0),
	n int NOT NULL DEFAULT 0) USING lightning;
SQL

# What a client does not find, or finds twice, ends it.
my $script = $node->basedir . '/storm.sql';
append_to_file($script, <<'SQL');
INSERT INTO storm (client) VALUES (:client_id) RETURNING id \gset
SELECT 1 / (count(*) = 1)::int AS found FROM storm WHERE id = :id \gset
UPDATE storm SET t = repeat('y', (:id % 100)::int) WHERE id = :id RETURNING 1 / (client = :client_id)::int AS mine \gset
INSERT INTO other (client) VALUES (:client_id) RETURNING id AS other \gset
UPDATE storm SET n = n + 1 WHERE id = :id RETURNING 1 / (n = 1)::int AS once \gset
UPDATE other SET n = n + 1 WHERE id = :other RETURNING 1 / (n = 1)::int AS once \gset
SQL

my @commands = (
	[ 'GRANT SELECT ON storm, other TO PUBLIC', 'REVOKE ALL ON storm, other FROM PUBLIC',
		'ALTER TABLE storm SET (fillfactor = 90)' ],
	[ 'ALTER TABLE storm ALTER n SET STATISTICS 10', 'ALTER TABLE storm ALTER n SET STATISTICS 20',
		'ALTER TABLE other ALTER n SET STATISTICS 10' ],
	[ 'ANALYZE storm', 'ANALYZE other' ]);

sub start
{
	my ($name, @cmd) = @_;
	my ($out, $err) = ('', '');
	my $h = IPC::Run::start([ @cmd, '-h', $node->host, '-p', $node->port, 'postgres' ], '<', \undef, '>', \$out, '2>', \$err,
		IPC::Run::timeout(300));
	return { name => $name, h => $h, out => \$out, err => \$err };
}

# Commands go on until the writers have done their part.
my @jobs;
for my $i (0 .. $#commands)
{
	my $file = $node->basedir . "/commands_$i.sql";
	append_to_file($file, join(";\n", @{ $commands[$i] }) . ";\nSELECT 1 / (SELECT count(*) FROM done)::int AS go_on \\gset\n");
}
$node->safe_psql('postgres', 'CREATE TABLE done (i int); INSERT INTO done VALUES (1)');
push @jobs, start("commands $_", 'pgbench', '-n', '-t', 100000, '-f', $node->basedir . "/commands_$_.sql") for 0 .. $#commands;
my $load = start('writers', 'pgbench', '-n', '-c', $writers, '-j', $writers, '-t', $transactions, '-f', $script);
$load->{h}->finish;
like(${ $load->{out} }, qr{actually processed: ${\ ($writers * $transactions) }/}, 'every writer got through')
  or diag(${ $load->{err} });
my ($rc) = $node->psql('postgres', 'DELETE FROM done');
is($rc, 0, 'the server is up');
for my $job (@jobs)
{
	$job->{h}->finish;
	like(${ $job->{err} }, qr{division by zero}, "$job->{name} went on until then");
	unlike(${ $job->{err} }, qr{(ERROR|FATAL):  (?!division by zero)}, "$job->{name} met no other error");
}

for my $table ('storm', 'other')
{
	$node->safe_psql('postgres', <<SQL);
SET enable_indexscan = off; SET enable_bitmapscan = off;
CREATE TABLE seq_$table USING heap AS SELECT ctid AS at_tid, * FROM $table;
SET enable_indexscan = on; SET enable_seqscan = off;
CREATE TABLE idx_$table USING heap AS SELECT ctid AS at_tid, * FROM $table ORDER BY id;
SQL
	is($node->safe_psql('postgres', <<SQL), '', "$table: sequential scan and index agree row by row");
SELECT 'scan', s FROM (TABLE seq_$table EXCEPT ALL TABLE idx_$table) s UNION ALL SELECT 'index', i FROM (TABLE idx_$table EXCEPT ALL TABLE seq_$table) i LIMIT 10
SQL
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT id), sum(n), count(DISTINCT client) FROM seq_$table"),
		join('|', ($writers * $transactions) x 3, $writers), "$table: every row is there and was updated once");
}
is($node->safe_psql('postgres', "SELECT count(*) FROM storm WHERE t IS DISTINCT FROM repeat('y', (id % 100)::int)"), '0',
	'storm: every row was updated as asked');
check_clean($node, 'after it');
$node->stop;
done_testing();
