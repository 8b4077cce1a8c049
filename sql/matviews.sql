--
-- Materialized views.  What is printed is what heap prints.
--
SET default_table_access_method = lightning;
CREATE TABLE mv_t (id int PRIMARY KEY, kind text, n int);
INSERT INTO mv_t SELECT i, 'kind ' || i % 5, i FROM generate_series(1, 1000) i;
CREATE MATERIALIZED VIEW mv_default AS SELECT kind, count(*) AS rows, sum(n) AS total FROM mv_t GROUP BY kind;
CREATE MATERIALIZED VIEW mv_using USING lightning AS SELECT * FROM mv_t WHERE n > 500;
CREATE MATERIALIZED VIEW mv_heap USING heap AS SELECT * FROM mv_t WHERE n > 900;
CREATE MATERIALIZED VIEW mv_no_data AS SELECT * FROM mv_t WITH NO DATA;
SELECT relname, amname = current_setting('default_table_access_method') AS default_am
FROM pg_class c JOIN pg_am a ON a.oid = relam
WHERE relname IN ('mv_default', 'mv_using', 'mv_no_data') ORDER BY 1;
SELECT * FROM mv_default ORDER BY kind;
SELECT count(*), sum(n) FROM mv_using;
SELECT count(*), sum(n) FROM mv_heap;
SELECT * FROM mv_no_data;
REFRESH MATERIALIZED VIEW mv_no_data;
SELECT count(*), sum(n) FROM mv_no_data;

-- refreshing, also beside readers
REFRESH MATERIALIZED VIEW CONCURRENTLY mv_using;
CREATE UNIQUE INDEX ON mv_using (id);
CREATE UNIQUE INDEX ON mv_default (kind);
CREATE INDEX ON mv_using (n);
UPDATE mv_t SET n = n + 1000 WHERE id % 10 = 0;
DELETE FROM mv_t WHERE id > 950;
INSERT INTO mv_t VALUES (2001, 'new', 5000), (2002, NULL, NULL);
SELECT count(*), sum(n) FROM mv_using;
REFRESH MATERIALIZED VIEW CONCURRENTLY mv_using;
REFRESH MATERIALIZED VIEW CONCURRENTLY mv_default;
SELECT count(*), sum(n) FROM mv_using;
SELECT * FROM mv_default ORDER BY kind;
SELECT count(*) FROM ((TABLE mv_using EXCEPT ALL SELECT * FROM mv_t WHERE n > 500)
	UNION ALL (SELECT * FROM mv_t WHERE n > 500 EXCEPT ALL TABLE mv_using)) d;
SET enable_seqscan = off;
SELECT count(*) FROM mv_using WHERE n BETWEEN 1500 AND 1600;
RESET enable_seqscan;
BEGIN;
REFRESH MATERIALIZED VIEW mv_using WITH NO DATA;
SELECT count(*) FROM mv_using;
ROLLBACK;
SELECT count(*) FROM mv_using;
REFRESH MATERIALIZED VIEW mv_using;
SELECT count(*) FROM mv_using;
-- an older snapshot meets a fresh one
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM mv_t;
REFRESH MATERIALIZED VIEW mv_using;
SELECT count(*) FROM mv_using;
COMMIT;

-- other commands
ALTER MATERIALIZED VIEW mv_using RENAME TO mv_renamed;
ALTER MATERIALIZED VIEW mv_renamed RENAME COLUMN n TO number;
ALTER MATERIALIZED VIEW mv_renamed SET ACCESS METHOD heap;
SELECT count(*), sum(number) FROM mv_renamed;
ALTER MATERIALIZED VIEW mv_renamed SET ACCESS METHOD lightning;
SELECT count(*), sum(number) FROM mv_renamed;
ALTER MATERIALIZED VIEW mv_renamed CLUSTER ON mv_using_id_idx;
CLUSTER mv_renamed;
VACUUM FULL mv_renamed;
VACUUM ANALYZE mv_renamed;
SELECT count(*), sum(number) FROM mv_renamed;
REFRESH MATERIALIZED VIEW CONCURRENTLY mv_renamed;
INSERT INTO mv_renamed VALUES (1);
TRUNCATE mv_renamed;
CREATE MATERIALIZED VIEW mv_of_mv AS SELECT max(number) FROM mv_renamed;
REFRESH MATERIALIZED VIEW mv_of_mv;
TABLE mv_of_mv;
CREATE MATERIALIZED VIEW mv_stored WITH (fillfactor = 70) AS SELECT 1 AS one;
TABLE mv_stored;
CREATE MATERIALIZED VIEW IF NOT EXISTS mv_stored AS SELECT 2 AS two;
CREATE MATERIALIZED VIEW mv_bad USING btree AS SELECT 1;
CREATE MATERIALIZED VIEW mv_bad USING no_such_method AS SELECT 1;
EXPLAIN (COSTS OFF) CREATE MATERIALIZED VIEW mv_explained AS SELECT * FROM mv_stored;
DROP TABLE mv_t CASCADE;
DROP MATERIALIZED VIEW mv_stored;
