--
-- Samples, statistics, parallel plans, bitmaps, compiled expressions.
--
SET default_table_access_method = lightning;
CREATE TABLE sm (id int PRIMARY KEY, few int, skew int, filler text);
INSERT INTO sm SELECT i, i % 10, floor(sqrt(i)), CASE WHEN i % 4 > 0 THEN md5(i::text) END FROM generate_series(1, 40000) i;
-- a copy with the same rows, thinned out: most row ids are gone
CREATE TABLE sm_sparse (LIKE sm);
INSERT INTO sm_sparse SELECT id, few, skew, filler FROM generate_series(1, 10) copy, sm WHERE copy = 1 OR id % 7 = 0;
INSERT INTO sm_sparse SELECT id, few, skew, filler FROM generate_series(1, 5) copy, sm;
DELETE FROM sm_sparse WHERE ctid NOT IN (SELECT min(ctid) FROM sm_sparse GROUP BY id);
CREATE TABLE sm_heap (LIKE sm) USING heap;
INSERT INTO sm_heap SELECT * FROM sm;
SELECT count(*) FROM sm_sparse;

-- every row has the same chance: many samples by rows and by blocks.  A
-- repeatable seed makes this exact; the bounds are five standard errors.
CREATE FUNCTION sm_sample(t text, method text, percent float8, times int)
RETURNS TABLE (mean bool, halves bool, mods bool) LANGUAGE plpgsql AS $$
DECLARE
	n float8 := 0; low float8 := 0; few0 float8 := 0;
	a float8; b float8; c float8;
BEGIN
	FOR i IN 1 .. times LOOP
		EXECUTE format('SELECT count(*), count(*) FILTER (WHERE id <= 20000), count(*) FILTER (WHERE few = 0) FROM %I TABLESAMPLE %s (%s) REPEATABLE (%s)', t, method, percent, i)
			INTO a, b, c;
		n := n + a; low := low + b; few0 := few0 + c;
	END LOOP;
	/* by blocks, 256 rows come together */
	a := CASE method WHEN 'system' THEN sqrt(256) ELSE 1 END;
	mean := abs(n - 40000 * times * percent / 100) < 5 * a * sqrt(40000 * times * percent / 100);
	halves := abs(low - n / 2) < 5 * a * sqrt(n);
	mods := abs(few0 - n / 10) < 5 * a * sqrt(n / 10);
	RETURN NEXT;
END $$;
SELECT * FROM sm_sample('sm', 'bernoulli', 5, 20);
SELECT * FROM sm_sample('sm', 'system', 5, 100);
SELECT * FROM sm_sample('sm_sparse', 'bernoulli', 5, 20);
SELECT count(*) FROM sm TABLESAMPLE bernoulli (100);
SELECT count(*) FROM sm TABLESAMPLE system (100);
SELECT count(*) FROM sm TABLESAMPLE system (0);
SELECT count(*) FROM sm_sparse TABLESAMPLE system (100);
SELECT count(*) = count(DISTINCT id) AS once FROM sm_sparse TABLESAMPLE bernoulli (50) REPEATABLE (1);
SELECT (SELECT array_agg(id ORDER BY id) FROM sm TABLESAMPLE bernoulli (1) REPEATABLE (7)) =
	(SELECT array_agg(id ORDER BY id) FROM sm TABLESAMPLE bernoulli (1) REPEATABLE (7)) AS repeatable;
SELECT count(*) FROM sm TABLESAMPLE bernoulli (200);
SELECT count(*) FROM (VALUES (1), (2)) v(i), LATERAL (SELECT * FROM sm TABLESAMPLE bernoulli (v.i * 50) REPEATABLE (3) LIMIT 5) s;
CREATE EXTENSION tsm_system_rows;
CREATE EXTENSION tsm_system_time;
SELECT count(*) FROM sm TABLESAMPLE system_rows (100);
SELECT count(*) FROM sm TABLESAMPLE system_rows (100000);
SELECT count(*) > 0 AS some FROM sm TABLESAMPLE system_time (1000);
-- uncommitted rows of others are not in a sample, own ones are
BEGIN;
DELETE FROM sm WHERE id <= 1000;
SELECT count(*) FROM sm TABLESAMPLE system (100);
ROLLBACK;

-- ANALYZE: as right as heap's, on dense and on sparse tables
ANALYZE sm;
ANALYZE sm_sparse;
ANALYZE sm_heap;
CREATE FUNCTION sm_stats(t text) RETURNS TABLE (attname name, nulls bool, n_dist bool, corr bool, mcv bool, histogram bool) LANGUAGE sql AS $$
SELECT s.attname, abs(s.null_frac - h.null_frac) < 0.02, abs(s.n_distinct - h.n_distinct) <= greatest(0.1 * abs(h.n_distinct), 0.05),
	abs(coalesce(s.correlation, 0) - coalesce(h.correlation, 0)) < 0.05,
	abs(coalesce(s.most_common_freqs[1], 0) - coalesce(h.most_common_freqs[1], 0)) < 0.02,
	abs(coalesce(cardinality(s.histogram_bounds::text::text[]), 0) - coalesce(cardinality(h.histogram_bounds::text::text[]), 0)) < 20
FROM pg_stats s JOIN pg_stats h ON h.tablename = 'sm_heap' AND h.attname = s.attname WHERE s.tablename = t ORDER BY 1
$$;
SELECT * FROM sm_stats('sm');
SELECT * FROM sm_stats('sm_sparse');
SELECT relname, abs(reltuples - 40000) < 400 AS reltuples FROM pg_class WHERE relname IN ('sm', 'sm_sparse', 'sm_heap') ORDER BY 1;
SET default_statistics_target = 10;
ANALYZE sm_sparse;
SELECT relname, abs(reltuples - 40000) < 4000 AS reltuples FROM pg_class WHERE relname = 'sm_sparse';
RESET default_statistics_target;
VACUUM ANALYZE sm_sparse;
SELECT reltuples FROM pg_class WHERE relname = 'sm_sparse';
CREATE FUNCTION sm_estimate(query text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan;
	RETURN plan #>> '{0,Plan,Plan Rows}';
END $$;
SELECT abs(sm_estimate('SELECT * FROM sm WHERE few = 3') - 4000) < 800 AS eq,
	abs(sm_estimate('SELECT * FROM sm WHERE id < 10000') - 10000) < 1000 AS range,
	abs(sm_estimate('SELECT * FROM sm') - 40000) < 400 AS "all";

-- extended statistics
CREATE TABLE sm_ext (a int, b int, c int);
INSERT INTO sm_ext SELECT i % 100, i % 100, i % 50 FROM generate_series(1, 10000) i;
ANALYZE sm_ext;
SELECT sm_estimate('SELECT * FROM sm_ext WHERE a = 1 AND b = 1') < 10 AS independent;
CREATE STATISTICS sm_dep (dependencies, ndistinct, mcv) ON a, b, c FROM sm_ext;
CREATE STATISTICS sm_expr ON (a + b), (c * 2) FROM sm_ext;
ANALYZE sm_ext;
SELECT abs(sm_estimate('SELECT * FROM sm_ext WHERE a = 1 AND b = 1') - 100) < 20 AS dependent;
SELECT abs(sm_estimate('SELECT a, b, c FROM sm_ext GROUP BY a, b, c') - 100) < 10 AS groups;
SELECT abs(sm_estimate('SELECT * FROM sm_ext WHERE a + b = 4') - 100) < 20 AS expression;
ALTER STATISTICS sm_dep SET STATISTICS 50;
DROP STATISTICS sm_dep, sm_expr;

-- parallel: the same rows, each once
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET min_parallel_index_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
SET parallel_leader_participation = on;
EXPLAIN (COSTS OFF) SELECT count(*), sum(id) FROM sm_sparse WHERE filler IS NOT NULL;
SELECT count(*), sum(id), count(DISTINCT id) FROM sm_sparse WHERE filler IS NOT NULL;
SELECT count(*), sum(id) FROM sm;
SET parallel_leader_participation = off;
SELECT count(*), sum(id) FROM sm;
SELECT count(*), sum(a.id) FROM sm a JOIN sm_sparse b USING (id) WHERE a.few = 3;
SELECT count(*) FROM (SELECT id FROM sm EXCEPT SELECT id FROM sm_sparse) x;
CREATE INDEX sm_few ON sm (few);
SET enable_seqscan = off;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
EXPLAIN (COSTS OFF) SELECT count(*), sum(skew) FROM sm WHERE few IN (3, 5);
SELECT count(*), sum(skew) FROM sm WHERE few IN (3, 5);
SET enable_indexscan = on;
SET enable_bitmapscan = off;
SELECT count(*), sum(skew) FROM sm WHERE few IN (3, 5);
RESET enable_seqscan;
RESET enable_indexscan;
RESET enable_indexonlyscan;
RESET enable_bitmapscan;
BEGIN;
UPDATE sm SET skew = -1 WHERE few = 3;
DELETE FROM sm WHERE few = 5;
SELECT count(*), sum(skew) FROM sm WHERE few IN (3, 5);
ROLLBACK;
CREATE TABLE sm_ctas AS SELECT few, count(*) FROM sm GROUP BY few;
SELECT count(*), sum(count) FROM sm_ctas;
-- index builds
SET max_parallel_maintenance_workers = 2;
CREATE UNIQUE INDEX sm_parallel ON sm_sparse (id);
CREATE INDEX sm_parallel2 ON sm_sparse (filler, few);
SET enable_seqscan = off;
SELECT count(*), sum(id) FROM sm_sparse WHERE id > 0;
SELECT count(*) FROM sm_sparse WHERE filler = md5('17');
RESET enable_seqscan;
INSERT INTO sm_sparse SELECT * FROM sm WHERE id = 5;
CREATE TABLE sm_dup AS SELECT * FROM sm UNION ALL SELECT * FROM sm WHERE id = 30000;
-- (which process meets the duplicate, and adds its context, is a matter of luck)
\set SHOW_CONTEXT never
CREATE UNIQUE INDEX sm_dup_id ON sm_dup (id);
\set SHOW_CONTEXT errors
RESET max_parallel_maintenance_workers;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET max_parallel_workers_per_gather;
RESET parallel_leader_participation;

-- bitmaps: exact, and lossy ones that must look at conditions again
CREATE INDEX sm_skew ON sm (skew);
SET enable_seqscan = off;
SET enable_indexscan = off;
SELECT count(*), sum(id) FROM sm WHERE skew BETWEEN 20 AND 90 AND few = 7;
SELECT count(*), sum(id) FROM sm WHERE skew = 50 OR few = 2;
SET work_mem = '64kB';
CREATE FUNCTION sm_lossy(query text) RETURNS bool LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
		IF line LIKE '%lossy=%' THEN RETURN true; END IF;
	END LOOP;
	RETURN false;
END $$;
CREATE TABLE sm_big AS SELECT i AS id, i % 100 AS v FROM generate_series(1, 300000) i;
CREATE INDEX sm_big_v ON sm_big (v);
SELECT sm_lossy('SELECT count(*) FROM sm_big WHERE v < 30');
SELECT count(*), sum(id) FROM sm_big WHERE v < 30;
BEGIN;
DELETE FROM sm_big WHERE v = 3;
UPDATE sm_big SET id = -id WHERE v = 4;
UPDATE sm_big SET v = 1000 WHERE v = 5;
SELECT count(*), sum(id) FROM sm_big WHERE v < 30;
ROLLBACK;
SELECT count(*), sum(id) FROM sm_big WHERE v < 30;
RESET work_mem;
SELECT count(*), sum(id) FROM sm_big WHERE v < 30;
RESET enable_seqscan;
RESET enable_indexscan;

-- compiled expressions, or not (where the server has no JIT this changes nothing)
SET jit_above_cost = 0;
SET jit_inline_above_cost = 0;
SET jit_optimize_above_cost = 0;
SET jit = on;
SELECT count(*), sum(skew * 2 + few), count(filler), max(length(filler)) FROM sm WHERE few > 2 AND filler LIKE '%a%';
SET jit = off;
SELECT count(*), sum(skew * 2 + few), count(filler), max(length(filler)) FROM sm WHERE few > 2 AND filler LIKE '%a%';

DROP FUNCTION sm_sample, sm_stats, sm_estimate, sm_lossy;
DROP TABLE sm, sm_sparse, sm_heap, sm_ext, sm_ctas, sm_big, sm_dup;
DROP EXTENSION tsm_system_rows, tsm_system_time;
