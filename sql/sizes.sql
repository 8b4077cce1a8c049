--
-- Sizes and statistics tell the truth about lightning tables.
--
CREATE TABLE size_t (id int PRIMARY KEY, body text) USING lightning;
CREATE TABLE size_none (id int) USING lightning;
INSERT INTO size_t SELECT i, 'row number ' || i FROM generate_series(1, 20000) i;

-- rows that are still in memory count as well
SELECT pg_relation_size('size_t') > 100000 AS in_memory,
	pg_relation_size('size_none') AS none;
SELECT lightning_flush();
SELECT pg_relation_size('size_t') = lightning_relation_size('size_t') AS in_files,
	pg_relation_size('size_t') > 10000 AS not_zero,
	pg_relation_size('size_t', 'main') = pg_relation_size('size_t') AS main,
	pg_relation_size('size_t', 'fsm') AS fsm, pg_relation_size('size_t', 'vm') AS vm;
-- TOAST and its index, and the table's indexes
SELECT pg_table_size('size_t') = pg_relation_size('size_t') + 8192 AS with_toast,
	pg_total_relation_size('size_t') = pg_table_size('size_t') + pg_indexes_size('size_t') AS total,
	pg_indexes_size('size_t') = pg_total_relation_size('size_t_pkey') AS indexes;
SELECT pg_relation_size('size_t', 'nonsense');
SELECT pg_relation_size(0), pg_table_size(0), pg_total_relation_size(0), pg_relation_size(NULL::regclass);

-- wherever they are called from
CREATE VIEW size_v AS SELECT relname, pg_table_size(oid) AS bytes FROM pg_class WHERE relname = 'size_t';
SELECT bytes > 10000 AS view FROM size_v;
SELECT relname FROM pg_class WHERE relname LIKE 'size\_t%' AND pg_relation_size(oid) > 10000 ORDER BY 1;
SELECT s > 10000 AS lateral FROM pg_class c, LATERAL pg_total_relation_size(c.oid) s WHERE relname = 'size_t';
SELECT (SELECT pg_relation_size(c.oid) > 10000) AS subquery FROM pg_class c WHERE relname = 'size_t';
DO $$
DECLARE bytes bigint;
BEGIN
	bytes := pg_relation_size('size_t');
	RAISE NOTICE 'plpgsql: %', bytes > 10000;
END $$;
CREATE FUNCTION size_f(regclass) RETURNS bigint VOLATILE STRICT LANGUAGE sql
	SET search_path = pg_catalog AS 'SELECT pg_relation_size($1)';
SELECT size_f('size_t') > 10000 AS sql_function;
CREATE FUNCTION size_inlined(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT pg_total_relation_size($1)';
SELECT size_inlined('size_t') = pg_total_relation_size('size_t') AS inlined;
SELECT count(*) FROM pg_class WHERE relname = 'size_t' AND size_inlined(oid) > 10000;
PREPARE size_p AS SELECT pg_relation_size($1) > 10000 AS prepared;
EXECUTE size_p('size_t');
DEALLOCATE size_p;

-- the database: what is in its directory, and its lightning tables
CREATE TEMP TABLE size_before AS SELECT pg_database_size(current_database()) AS bytes;
INSERT INTO size_none SELECT i FROM generate_series(1, 10000) i;
SELECT pg_database_size(d.oid) - bytes >= pg_relation_size('size_none') AS by_oid,
	pg_database_size(d.datname) = pg_database_size(d.oid) AS by_name
FROM pg_database d, size_before WHERE datname = current_database();
SELECT pg_database_size('no such database');

-- materialized views, temporary and unlogged tables
CREATE MATERIALIZED VIEW size_m USING lightning AS SELECT * FROM size_t;
CREATE TEMP TABLE size_temp USING lightning AS SELECT * FROM size_t;
CREATE UNLOGGED TABLE size_u USING lightning AS SELECT * FROM size_t;
SELECT pg_relation_size('size_m') > 10000 AS matview, pg_relation_size('size_temp') > 10000 AS temp,
	pg_relation_size('size_u') > 10000 AS unlogged;
TRUNCATE size_u;
SELECT pg_relation_size('size_u') AS truncated;

-- anyone may ask, as for heap
CREATE ROLE regress_size_user;
SET ROLE regress_size_user;
SELECT pg_relation_size('size_t') > 10000 AS any_user;
RESET ROLE;
DROP ROLE regress_size_user;

-- EXPLAIN counts the blocks of the engine's cache: first they are read, then hit
CREATE TABLE size_b USING lightning AS
	SELECT i, md5(i::text) AS body FROM generate_series(1, 20000) i;
SELECT lightning_flush();
CREATE FUNCTION size_explain(query text) RETURNS TABLE (hit bigint, read bigint) LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT json) ' || query INTO plan;
	RETURN QUERY SELECT (plan #>> '{0,Plan,Shared Hit Blocks}')::bigint,
		(plan #>> '{0,Plan,Shared Read Blocks}')::bigint;
END $$;
SELECT read > 10 AS read FROM size_explain('SELECT * FROM size_b');
SELECT hit > 10 AS hit, read FROM size_explain('SELECT * FROM size_b');

-- statistics
CREATE TABLE size_s (id int PRIMARY KEY, n int) USING lightning;
INSERT INTO size_s SELECT i, i FROM generate_series(1, 1000) i;
UPDATE size_s SET n = n + 1 WHERE id <= 100;
UPDATE size_s SET id = -id WHERE id <= 50;
DELETE FROM size_s WHERE id > 990;
SELECT count(*) FROM size_s;
SET enable_seqscan = off;
SELECT n FROM size_s WHERE id = 500;
RESET enable_seqscan;
BEGIN;
INSERT INTO size_s SELECT i FROM generate_series(2000, 2099) i;
ROLLBACK;
SELECT pg_stat_force_next_flush();
SELECT n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del, n_live_tup, n_dead_tup,
	n_mod_since_analyze, seq_scan > 0 AS seq_scan, seq_tup_read >= 990 AS seq_tup_read,
	idx_scan > 0 AS idx_scan, idx_tup_fetch > 0 AS idx_tup_fetch
FROM pg_stat_user_tables WHERE relname = 'size_s';
VACUUM ANALYZE size_s;
SELECT n_live_tup, n_dead_tup, n_mod_since_analyze, vacuum_count, analyze_count,
	last_vacuum IS NOT NULL AS last_vacuum
FROM pg_stat_user_tables WHERE relname = 'size_s';
SELECT heap_blks_read > 0 AS read, heap_blks_hit > 0 AS hit
FROM pg_statio_user_tables WHERE relname = 'size_b';

DROP TABLE size_t, size_none, size_temp, size_u, size_b, size_s CASCADE;
DROP FUNCTION size_f, size_inlined, size_explain;
