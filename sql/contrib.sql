--
-- Modules that look into tables: they work, or say politely that they can't.
--
CREATE EXTENSION amcheck;
CREATE EXTENSION pgstattuple;
CREATE EXTENSION pageinspect;
CREATE EXTENSION pg_visibility;
CREATE EXTENSION pg_prewarm;
CREATE EXTENSION pg_buffercache;
CREATE EXTENSION pg_freespacemap;
CREATE EXTENSION pgrowlocks;
CREATE EXTENSION pg_surgery;
CREATE EXTENSION tablefunc;
CREATE EXTENSION lo;
CREATE EXTENSION hstore;
CREATE TABLE con (id int PRIMARY KEY, v text, n int, tag hstore) USING lightning;
INSERT INTO con SELECT i, 'row ' || i, i % 10, hstore('k', (i % 7)::text) FROM generate_series(1, 2000) i;
CREATE INDEX con_n ON con (n) INCLUDE (v);
CREATE INDEX con_part ON con (lower(v)) WHERE n > 5;
CREATE INDEX con_hash ON con USING hash (v);
CREATE INDEX con_gin ON con USING gin (tag);
UPDATE con SET v = v || '!' WHERE id % 3 = 0;
UPDATE con SET tag = tag || 'in=>place' WHERE id % 5 = 0;
DELETE FROM con WHERE id % 11 = 0;

-- amcheck
SELECT bt_index_check('con_pkey', true), bt_index_check('con_n', true), bt_index_check('con_part', true);
SELECT bt_index_parent_check('con_pkey', true, true), bt_index_parent_check('con_n', true, true);
VACUUM (PARALLEL 2) con;
SELECT bt_index_check('con_pkey', true), bt_index_check('con_n', true), bt_index_check('con_part', true);
REINDEX TABLE CONCURRENTLY con;
SELECT bt_index_check('con_pkey', true), bt_index_check('con_n', true), bt_index_check('con_part', true);
SELECT * FROM verify_heapam('con');
-- pgstattuple
SELECT * FROM pgstattuple('con');
SELECT * FROM pgstattuple_approx('con');
SELECT tuple_count > 1000 AS tuples FROM pgstattuple('con_pkey');
SELECT leaf_pages > 0 AS leaves FROM pgstatindex('con_pkey');
SELECT pg_relpages('con') >= 0 AS pages, pg_relpages('con_pkey') > 0 AS index_pages;
SELECT pending_pages >= 0 AS pending FROM pgstatginindex('con_gin');
SELECT bucket_pages > 0 AS buckets FROM pgstathashindex('con_hash');
-- pageinspect
SELECT get_raw_page('con', 0);
\set VERBOSITY terse
SELECT get_raw_page('public.con', 'main', 0);
SELECT get_raw_page('con', 'fsm', 0);
SELECT * FROM heap_page_items(get_raw_page('con', 0));
SELECT i, page_header(get_raw_page(relname, i)) FROM pg_class, generate_series(0, 1) i WHERE oid = 'con'::regclass;
SELECT get_raw_page('con_none', 0);
SELECT get_raw_page(NULL, 0);
SELECT root > 0 AS root FROM bt_metap('con_pkey');
SELECT root > 0 AS root FROM bt_metap(relname => 'con_pkey');
SELECT count(*) > 0 AS items FROM bt_page_items('con_pkey', 1);
SELECT length(get_raw_page('con_pkey', 0)), length(get_raw_page('pg_class', 'main', 0));
CREATE FUNCTION con_page(name text) RETURNS bytea LANGUAGE sql AS 'SELECT get_raw_page(name, 0)';
SELECT con_page('con');
SELECT length(con_page('con_pkey'));
DO $$ BEGIN PERFORM get_raw_page('con', 0); EXCEPTION WHEN feature_not_supported THEN RAISE NOTICE '%', sqlerrm; END $$;
DROP FUNCTION con_page;
CREATE VIEW con_pages AS SELECT get_raw_page('con', 0);
SELECT * FROM con_pages;
DROP VIEW con_pages;
-- visibility, free space
SELECT * FROM pg_visibility('con');
SELECT * FROM pg_visibility('con', 0);
SELECT * FROM pg_visibility_map('con');
SELECT pg_visibility_map('con', 0);
SELECT * FROM pg_visibility_map_summary('con');
SELECT * FROM pg_check_frozen('con');
SELECT relname, pg_check_visible(oid) FROM pg_class WHERE relname = 'con';
SELECT pg_truncate_visibility_map('con');
SELECT count(*) > 0 AS heap FROM pg_visibility('pg_class');
SELECT count(*) AS heap FROM pg_check_frozen('pg_class');
SELECT count(*) FROM pg_freespace('con') WHERE avail > 0;
-- caches
SELECT pg_prewarm('con_pkey') > 0 AS index;
SELECT pg_prewarm('con');
SELECT pg_prewarm('con', 'read');
SELECT pg_prewarm('con', mode => 'prefetch');
SELECT * FROM pg_prewarm('con', 'buffer', 'main', 0, 0);
SELECT pg_prewarm(oid) > 0 AS heap FROM pg_class WHERE oid IN ('pg_class'::regclass, 'con_n'::regclass);
\set VERBOSITY default
SELECT count(*) FROM pg_buffercache WHERE relfilenode = pg_relation_filenode('con')
	AND reldatabase = (SELECT oid FROM pg_database WHERE datname = current_database());
-- locks, surgery
SELECT * FROM pgrowlocks('con');
SELECT heap_force_kill('con', ARRAY['(0,1)']::tid[]);
SELECT heap_force_freeze('con', ARRAY['(0,1)']::tid[]);
-- nothing was hurt by all that
SELECT count(*), sum(id) FROM con;
SET enable_seqscan = off;
SELECT count(*), sum(id) FROM con WHERE n = 7;
SELECT count(*) FROM con WHERE tag @> 'k=>3';
RESET enable_seqscan;
SELECT * FROM lightning_check('con');
-- others that keep to SQL
SELECT * FROM crosstab('SELECT n, id % 2, count(*) FROM con WHERE n < 3 GROUP BY 1, 2 ORDER BY 1, 2') AS c(n int, even bigint, odd bigint);
CREATE TABLE con_lo (id int, image lo) USING lightning;
CREATE TRIGGER con_lo_t BEFORE UPDATE OR DELETE ON con_lo FOR EACH ROW EXECUTE FUNCTION lo_manage(image);
INSERT INTO con_lo VALUES (1, lo_from_bytea(0, 'some bytes'));
SELECT convert_from(lo_get(image), 'UTF8') FROM con_lo;
UPDATE con_lo SET image = lo_from_bytea(0, 'others');
SELECT count(*) FROM pg_largeobject_metadata m JOIN con_lo ON m.oid = image;
DELETE FROM con_lo;
DROP TABLE con, con_lo;
DROP EXTENSION amcheck, pgstattuple, pageinspect, pg_visibility, pg_prewarm, pg_buffercache, pg_freespacemap,
	pgrowlocks, pg_surgery, tablefunc, lo, hstore;
