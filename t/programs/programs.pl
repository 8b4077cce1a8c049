# Programs from Debian's packages, unmodified, on lightning tables: sysbench's
# OLTP scripts, pgTAP, and migrations by Alembic (SQLAlchemy, psycopg2).
#	make check-programs
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin, "$FindBin::Bin/..";
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('programs', conf => "max_connections = 60\n");
$node->start;
$node->safe_psql('postgres', q{CREATE EXTENSION lightning;
	ALTER DATABASE postgres SET default_table_access_method = lightning});
my $heaps = q{SELECT count(*) FROM pg_class c JOIN pg_am a ON a.oid = relam
	WHERE amname = 'heap' AND relkind IN ('r', 'm') AND relnamespace = 'public'::regnamespace};

# ---- sysbench ----
my @sysbench = ('--db-driver=pgsql', '--pgsql-host=' . $node->host, '--pgsql-port=' . $node->port,
	'--pgsql-user=' . $node->safe_psql('postgres', 'SELECT current_user'), '--pgsql-db=postgres',
	'--tables=3', '--table-size=5000');
for my $script (qw(oltp_read_write oltp_read_only oltp_write_only oltp_update_index oltp_update_non_index
	oltp_delete oltp_insert oltp_point_select select_random_points select_random_ranges bulk_insert))
{
	# (select_random_* read one table with a column of their own making)
	my @opt = $script =~ /^select/ ? grep { !/--tables/ } @sysbench : @sysbench;
	command_ok([ 'sysbench', $script, @opt, '--threads=4', 'prepare' ], "$script: prepare");
	command_like([ 'sysbench', $script, @opt, '--threads=4', '--events=400', '--time=20', 'run' ],
		qr/total number of events:\s+[1-9]/, "$script: run");
	is($node->safe_psql('postgres', $heaps), 0, "$script: its tables are lightning tables");
	# every table has as many rows by its index as by a scan
	for my $t (split /\n/, $node->safe_psql('postgres', q{SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace}))
	{
		is($node->safe_psql('postgres', "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM (SELECT id FROM $t ORDER BY id) x"),
			$node->safe_psql('postgres', "SET enable_indexscan = off; SET enable_indexonlyscan = off; SELECT count(*) FROM $t"),
			"$script: index and table $t agree") if $script ne 'bulk_insert';
	}
	command_ok([ 'sysbench', $script, @opt, '--threads=4', 'cleanup' ], "$script: cleanup");
}

# ---- pgTAP ----
$node->safe_psql('postgres', 'CREATE EXTENSION pgtap');
$node->safe_psql('postgres', q{CREATE TABLE person (id serial PRIMARY KEY, name text NOT NULL UNIQUE, born date);
	CREATE INDEX person_born ON person (born)});
my $tap = $node->safe_psql('postgres', <<'SQL');
BEGIN;
SELECT plan(12);
SELECT has_table('person');
SELECT has_pk('person');
SELECT col_is_unique('person', 'name');
SELECT has_index('person', 'person_born', 'born');
SELECT lives_ok($$INSERT INTO person (name, born) VALUES ('Ada', '1815-12-10'), ('Alan', '1912-06-23')$$);
SELECT throws_ok($$INSERT INTO person (name) VALUES ('Ada')$$, '23505');
SELECT throws_ok($$INSERT INTO person (name) VALUES (NULL)$$, '23502');
SELECT results_eq('SELECT name FROM person ORDER BY born', ARRAY['Ada', 'Alan']);
SELECT set_eq('SELECT id FROM person', ARRAY[1, 2]);
SELECT is_empty('SELECT * FROM person WHERE born > now()');
SELECT performs_ok('SELECT * FROM person', 1000);
SELECT row_eq('SELECT * FROM person WHERE id = 1', ROW(1, 'Ada', '1815-12-10')::person);
SELECT * FROM finish();
ROLLBACK;
SQL
my @ok = $tap =~ /^ok \d+/mg;
is(scalar(@ok), 12, 'pgTAP: all assertions hold');
unlike($tap, qr/^not ok|Looks like/m, 'pgTAP: nothing failed');
is($node->safe_psql('postgres', 'SELECT count(*) FROM person'), 0, 'pgTAP: rolled back');

# ---- migrations ----
my $work = $node->basedir . '/alembic';
mkdir $work;
mkdir "$work/versions";
my $url = 'postgresql+psycopg2://@/postgres?host=' . $node->host . '&port=' . $node->port;
append_to_file("$work/alembic.ini", "[alembic]\nscript_location = $work\nsqlalchemy.url = $url\n");
append_to_file("$work/env.py", <<'PY');
from alembic import context
from sqlalchemy import create_engine
engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
PY
my @versions = (
	[ q{op.create_table("author", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(80), nullable=False))
    op.create_table("book", sa.Column("id", sa.Integer, primary_key=True), sa.Column("title", sa.Text), sa.Column("author_id", sa.Integer))
    op.execute("INSERT INTO author (name) SELECT 'author ' || g FROM generate_series(1, 100) g")
    op.execute("INSERT INTO book (title, author_id) SELECT 'book ' || g, 1 + g % 100 FROM generate_series(1, 1000) g")},
		q{op.drop_table("book")
    op.drop_table("author")} ],
	[ q{op.add_column("book", sa.Column("pages", sa.Integer, server_default="100", nullable=False))
    op.create_index("book_title", "book", ["title"])
    op.create_foreign_key("book_author", "book", "author", ["author_id"], ["id"])
    op.create_check_constraint("book_pages", "book", "pages > 0")
    op.create_unique_constraint("author_name", "author", ["name"])},
		q{op.drop_constraint("author_name", "author")
    op.drop_constraint("book_pages", "book")
    op.drop_constraint("book_author", "book")
    op.drop_index("book_title")
    op.drop_column("book", "pages")} ],
	[ q{op.alter_column("book", "pages", type_=sa.BigInteger)
    op.alter_column("book", "title", new_column_name="name", nullable=False)
    op.rename_table("author", "writer")
    with op.get_context().autocommit_block():
        op.create_index("book_pages_idx", "book", ["pages"], postgresql_concurrently=True)},
		q{op.drop_index("book_pages_idx")
    op.rename_table("writer", "author")
    op.alter_column("book", "name", new_column_name="title", nullable=True)
    op.alter_column("book", "pages", type_=sa.Integer)} ],
	# fails half-way, so that nothing of it may stay
	[ q{op.execute("UPDATE book SET pages = pages + 1")
    op.drop_column("book", "name")
    op.create_check_constraint("impossible", "book", "pages > 1000")}, 'pass' ]);
for my $v (0 .. $#versions)
{
	my ($up, $down) = @{ $versions[$v] };
	my $before = $v == 0 ? 'None' : '"v' . ($v - 1) . '"';
	append_to_file("$work/versions/v$v.py", <<PY);
from alembic import op
import sqlalchemy as sa
revision = "v$v"
down_revision = $before
def upgrade():
    $up
def downgrade():
    $down
PY
}
my @alembic = ('python3', '-m', 'alembic', '-c', "$work/alembic.ini");
my $state = 'SELECT count(*), sum(pages), min(name) FROM book';
command_ok([ @alembic, 'upgrade', 'v2' ], 'migrations forward');
is($node->safe_psql('postgres', $state), '1000|100000|book 1', 'rows are there');
is($node->safe_psql('postgres', $heaps), 0, 'all are lightning tables');
command_fails_like([ @alembic, 'upgrade', 'v3' ], qr/CheckViolation/, 'one that fails');
is($node->safe_psql('postgres', $state), '1000|100000|book 1', 'has changed nothing');
my ($rc, $out, $err) = $node->psql('postgres', 'INSERT INTO book (name, author_id) VALUES (1, 101)');
like($err, qr/foreign key/, 'the foreign key holds');
command_ok([ @alembic, 'downgrade', 'v0' ], 'back to the first');
is($node->safe_psql('postgres', 'SELECT count(*), max(title) FROM book'), '1000|book 999', 'with all rows');
command_ok([ @alembic, 'upgrade', 'v2' ], 'and forward again');
is($node->safe_psql('postgres', $state), '1000|100000|book 1', 'as before');
command_ok([ @alembic, 'downgrade', 'base' ], 'back to nothing');
is($node->safe_psql('postgres', 'SELECT count(*) FROM lightning_check_all()'), 0, 'nothing is wrong');
$node->stop;
done_testing();
