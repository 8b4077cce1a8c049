-- Options of lightning tables
\set VERBOSITY default
CREATE TABLE opt (i int, t text) USING lightning
	WITH (lightning.compression = zstd, lightning.compression_level = 9, fillfactor = 70);
SELECT reloptions FROM pg_class WHERE oid = 'opt'::regclass;
SELECT * FROM lightning_options('opt');
SELECT relname, compression, compression_level, block_size FROM lightning_table_options ORDER BY 1;

-- beside the server's own options
ALTER TABLE opt SET (lightning.block_size = '8kB', autovacuum_enabled = off);
SELECT reloptions FROM pg_class WHERE oid = 'opt'::regclass;
ALTER TABLE opt RESET (lightning.compression_level, fillfactor);
ALTER TABLE opt SET (fillfactor = 60);
-- as pg_dump writes them
ALTER TABLE opt SET ("lightning.compression" = LZ4);
SELECT reloptions FROM pg_class WHERE oid = 'opt'::regclass;
SELECT * FROM lightning_options('opt');

-- they are transactional
BEGIN;
ALTER TABLE opt SET (lightning.compression = none);
SELECT compression FROM lightning_options('opt');
ROLLBACK;
SELECT compression FROM lightning_options('opt');
BEGIN;
SAVEPOINT s;
ALTER TABLE opt SET (lightning.compression = none);
ROLLBACK TO s;
ALTER TABLE opt SET (lightning.compression_level = -3);
COMMIT;
SELECT * FROM lightning_options('opt');

-- new files are written by them, rewriting applies them to all
CREATE TABLE opt_size (c text, bytes bigint);
CREATE PROCEDURE load_with(c text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE opt SET (lightning.compression = %s)', c);
	PERFORM lightning_compact('opt');
	INSERT INTO opt_size SELECT c, lightning_relation_size('opt');
END $$;
INSERT INTO opt SELECT i, 'some text that compresses ' || i % 100 FROM generate_series(1, 20000) i;
CALL load_with('none');
CALL load_with('lz4');
CALL load_with('zstd');
CALL load_with('none');
CALL load_with('auto');
SELECT s.c, (s.bytes < n.bytes * 0.5) AS smaller, s.bytes = n.bytes AS same
FROM opt_size s, (SELECT bytes FROM opt_size WHERE c = 'none' LIMIT 1) n;
SELECT count(*), sum(i) FROM opt;

-- they stay with the table
ALTER TABLE opt SET (lightning.compression = lz4);
VACUUM FULL opt;
SELECT compression FROM lightning_options('opt');
TRUNCATE opt;
SELECT compression FROM lightning_options('opt');
ALTER TABLE opt ALTER i TYPE bigint;
SELECT compression FROM lightning_options('opt');
CREATE INDEX opt_i ON opt (i);
CLUSTER opt USING opt_i;
SELECT compression FROM lightning_options('opt');
ALTER TABLE opt SET SCHEMA pg_temp;
ALTER TABLE opt RENAME TO opt2;
SELECT compression FROM lightning_options('opt2');
ALTER TABLE opt2 RENAME TO opt;

-- to another access method and back
ALTER TABLE opt SET ACCESS METHOD heap;
SELECT reloptions FROM pg_class WHERE oid = 'opt'::regclass;
ALTER TABLE opt SET (lightning.compression = none);
ALTER TABLE opt SET ACCESS METHOD lightning, SET (lightning.compression = none);
SELECT compression FROM lightning_options('opt');
ALTER TABLE opt SET ACCESS METHOD heap, SET (lightning.compression = none);
SELECT compression FROM lightning_options('opt');

-- every way to make a table
SET default_table_access_method = lightning;
CREATE TABLE opt_as WITH (lightning.compression = none, lightning.block_size = '4kB') AS
	SELECT i FROM generate_series(1, 10) i;
SELECT * FROM lightning_options('opt_as');
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)
	CREATE TABLE opt_explain WITH (lightning.compression = none) AS SELECT 1;
SELECT compression FROM lightning_options('opt_explain');
PREPARE q AS SELECT 1 AS one;
CREATE TABLE opt_execute WITH (lightning.compression = lz4) AS EXECUTE q;
SELECT compression FROM lightning_options('opt_execute');
CREATE MATERIALIZED VIEW opt_view WITH (lightning.compression = lz4) AS SELECT 1 AS one;
REFRESH MATERIALIZED VIEW opt_view;
SELECT compression FROM lightning_options('opt_view');
ALTER MATERIALIZED VIEW opt_view SET (lightning.compression = zstd);
SELECT compression FROM lightning_options('opt_view');
CREATE TEMP TABLE opt_temp (i serial PRIMARY KEY) WITH (lightning.compression = lz4);
SELECT compression FROM lightning_options('opt_temp');
CREATE UNLOGGED TABLE opt_unlogged (i int) WITH (lightning.compression = lz4);
SELECT compression FROM lightning_options('opt_unlogged');
CREATE SCHEMA opt_schema CREATE TABLE inside (i int) WITH (lightning.compression = lz4);
SELECT compression FROM lightning_options('opt_schema.inside');
CREATE TABLE opt_like (LIKE opt_as INCLUDING ALL);
SELECT compression FROM lightning_options('opt_like');
CREATE TABLE IF NOT EXISTS opt_like (i int) WITH (lightning.compression = lz4);
SELECT compression FROM lightning_options('opt_like');
DO $$ BEGIN
	FOR i IN 1..3 LOOP
		CREATE TABLE opt_loop (i int) WITH (lightning.compression = lz4);
		ALTER TABLE opt_loop SET (lightning.compression = none);
		RAISE NOTICE '%', (SELECT compression FROM lightning_options('opt_loop'));
		DROP TABLE opt_loop;
	END LOOP;
END $$;

-- partitions have their own
CREATE TABLE opt_part (i int) PARTITION BY RANGE (i) WITH (lightning.compression = lz4);
CREATE TABLE opt_part (i int) PARTITION BY RANGE (i);
ALTER TABLE opt_part SET (lightning.compression = lz4);
CREATE TABLE opt_part1 PARTITION OF opt_part FOR VALUES FROM (1) TO (2) WITH (lightning.compression = lz4);
CREATE TABLE opt_part2 PARTITION OF opt_part FOR VALUES FROM (2) TO (3);
SELECT relname, compression FROM lightning_table_options WHERE relname LIKE 'opt\_part_' ORDER BY 1;

-- refused
CREATE TABLE bad (i int) USING heap WITH (lightning.compression = lz4);
CREATE TABLE bad (i int) WITH (lightning.compression = bzip2);
CREATE TABLE bad (i int) WITH (lightning.compression);
CREATE TABLE bad (i int) WITH (lightning.compression_level = 23);
CREATE TABLE bad (i int) WITH (lightning.compression_level = high);
CREATE TABLE bad (i int) WITH (lightning.block_size = '1MB');
CREATE TABLE bad (i int) WITH (lightning.block_size = '16 rods');
CREATE TABLE bad (i int) WITH (lightning.bloom = 3);
CREATE TABLE bad (i int) WITH (lightning.compression = lz4, lightning.compression = zstd);
CREATE VIEW bad WITH (lightning.compression = lz4) AS SELECT 1;
CREATE INDEX bad ON opt_as (i) WITH (lightning.compression = lz4);
ALTER TABLE opt_as RESET (lightning.compression = 3);
ALTER TABLE opt_as SET (lightning.compression = lz4, fillfactor = 1000);
ALTER TABLE missing SET (lightning.compression = lz4);
ALTER TABLE IF EXISTS missing SET (lightning.compression = lz4);
SELECT reloptions FROM pg_class WHERE oid = 'opt_as'::regclass;
CREATE ROLE opt_other;
SET ROLE opt_other;
ALTER TABLE opt_as SET (lightning.compression = lz4);
RESET ROLE;
DROP ROLE opt_other;
SELECT * FROM lightning_options('opt_size');
-- larger than what the cache takes
ALTER TABLE opt_as SET (lightning.block_size = '64kB');
SELECT * FROM lightning_options('opt_as');

RESET default_table_access_method;
DROP SCHEMA opt_schema CASCADE;
DROP TABLE opt, opt_size, opt_as, opt_explain, opt_execute, opt_temp, opt_unlogged, opt_like, opt_part;
DROP MATERIALIZED VIEW opt_view;
DROP PROCEDURE load_with;
