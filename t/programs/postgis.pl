# PostGIS from Debian: its own table is a heap table, users' are lightning tables,
# and queries over them say what they say over heap tables.  (It brings 45 packages
# with it, so it is not part of make check.)
#	make check-programs
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin, "$FindBin::Bin/..";
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('postgis', conf => "default_table_access_method = lightning\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning');
my ($rc, $out, $err) = $node->psql('postgres', 'CREATE EXTENSION postgis');
is($rc, 0, 'CREATE EXTENSION') or BAIL_OUT($err);
like($err, qr/tables of extension "postgis" are heap tables/, 'notice');
is($node->safe_psql('postgres', "SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE relname = 'spatial_ref_sys'"), 'heap', 'its table is a heap table');

$node->safe_psql('postgres', <<SQL);
CREATE TABLE place (id int PRIMARY KEY, name text, at geometry(Point, 4326), area geometry(Polygon, 4326)) USING lightning;
CREATE TABLE place_heap (LIKE place) USING heap;
INSERT INTO place SELECT i, 'place ' || i, ST_SetSRID(ST_MakePoint(i % 180, (i * 7) % 90), 4326),
	ST_SetSRID(ST_Buffer(ST_MakePoint(i % 180, (i * 7) % 90), 1 + i % 5), 4326) FROM generate_series(1, 3000) i;
INSERT INTO place_heap SELECT * FROM place;
CREATE INDEX place_at ON place USING gist (at);
CREATE INDEX place_area ON place USING gist (area);
CREATE INDEX place_brin ON place USING brin (at);
CREATE INDEX place_spgist ON place USING spgist (at);
SQL
for my $change ('SELECT 1', 'UPDATE TABLE SET at = ST_Translate(at, 1, 1) WHERE id % 3 = 0', 'DELETE FROM TABLE WHERE id % 7 = 0', 'VACUUM FULL TABLE')
{
	for my $table ('place', 'place_heap')
	{
		(my $sql = $change) =~ s/TABLE/$table/;
		$node->safe_psql('postgres', $sql);
	}
	$node->safe_psql('postgres', "SELECT lightning_compact('place')");
	for my $query (
		'SELECT count(*), sum(id) FROM TABLE WHERE at && ST_MakeEnvelope(10, 10, 60, 50, 4326)',
		'SELECT count(*), sum(id) FROM TABLE WHERE ST_Intersects(area, ST_SetSRID(ST_MakePoint(30, 30), 4326))',
		'SELECT count(*), sum(id) FROM TABLE WHERE ST_DWithin(at::geography, ST_SetSRID(ST_MakePoint(30, 30), 4326)::geography, 1000000)',
		'SELECT sum(ST_Area(area))::numeric(20, 6), ST_AsText(ST_Extent(at)) FROM TABLE',
		'SELECT count(*) FROM TABLE a JOIN TABLE b ON ST_Intersects(a.area, b.at) WHERE a.id < 200',
		'SELECT md5(string_agg(d::text, chr(10))) FROM (SELECT (at <-> ST_SetSRID(ST_MakePoint(50, 50), 4326))::numeric(20, 6) AS d FROM TABLE ORDER BY at <-> ST_SetSRID(ST_MakePoint(50, 50), 4326) LIMIT 50) x',
		'SELECT sum(ST_X(ST_Transform(at, 3857)))::numeric(20, 3) FROM TABLE WHERE ST_Y(at) < 80')
	{
		my %said;
		for my $table ('place', 'place_heap')
		{
			(my $sql = $query) =~ s/TABLE/$table/g;
			$said{$table} = $node->safe_psql('postgres', "SET enable_seqscan = off; $sql");
		}
		is($said{place}, $said{place_heap}, "$change: $query");
	}
}
check_clean($node, 'at the end');
$node->stop;
done_testing();
