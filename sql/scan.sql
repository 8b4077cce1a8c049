-- Reading: scans in every direction, by index, by TID, samples, old rows
SET lightning.inplace_update = on;
CREATE TABLE s (id int, a int, b text, n numeric) USING lightning;
INSERT INTO s SELECT i, i % 10, 'row ' || i, i / 4.0 FROM generate_series(1, 1000) i;
SELECT count(*), sum(id), max(b), sum(n) FROM s;

-- in memory, then in files: the same
SELECT lightning_flush();
SELECT count(*), sum(id), max(b), sum(n) FROM s;

-- an update in place keeps the row's place and shows in the TID's high bits
UPDATE s SET b = 'new' WHERE id = 3;
SELECT ctid, id, b FROM s WHERE id BETWEEN 2 AND 4;
SELECT id FROM s WHERE ctid = '(0,3)';
SELECT id FROM s WHERE ctid = '(0,515)';
SELECT id FROM s WHERE ctid >= '(0,2)' AND ctid < '(0,5)';
SELECT id FROM s WHERE ctid >= '(0,515)' AND ctid < '(0,600)';
SELECT count(*) FROM s WHERE ctid >= '(3,0)';
SELECT id FROM s WHERE ctid IN ('(0,0)', '(0,300)', '(9,1)', '(4294967294,256)');

-- cursors change direction at any row, and at both ends
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id FROM s;
FETCH 3 FROM c;
FETCH BACKWARD 1 FROM c;
FETCH 2 FROM c;
MOVE LAST FROM c;
FETCH 1 FROM c;
FETCH BACKWARD 2 FROM c;
FETCH ABSOLUTE 260 FROM c;
FETCH PRIOR FROM c;
FETCH NEXT FROM c;
FETCH FIRST FROM c;
FETCH PRIOR FROM c;
FETCH NEXT FROM c;
COMMIT;

-- what a cursor sees does not change
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id, b FROM s WHERE id <= 3;
FETCH 1 FROM c;
SAVEPOINT p;
UPDATE s SET b = 'later' WHERE id <= 3;
DELETE FROM s WHERE id = 2;
FETCH 2 FROM c;
ROLLBACK TO p;
FETCH BACKWARD 2 FROM c;
ROLLBACK;

-- positioned updates follow the row
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM s WHERE id = 5;
FETCH c;
UPDATE s SET b = 'once' WHERE CURRENT OF c;
UPDATE s SET b = b || ' and twice' WHERE CURRENT OF c RETURNING id, b;
DELETE FROM s WHERE CURRENT OF c;
SELECT count(*) FROM s WHERE id = 5;
ROLLBACK;

-- indexes of all kinds
CREATE INDEX s_id ON s (id);
CREATE INDEX s_hash ON s USING hash (b);
CREATE INDEX s_brin ON s USING brin (id) WITH (pages_per_range = 1);
CREATE INDEX s_gin ON s USING gin ((ARRAY[a, id]));
CREATE INDEX s_gist ON s USING gist (point(a, id));
CREATE INDEX s_spgist ON s USING spgist (b);
CREATE INDEX s_part ON s (a) WHERE id > 990;
SET enable_seqscan = off;
SELECT id, b FROM s WHERE id IN (3, 500, 1000) ORDER BY id;
SELECT id FROM s WHERE b = 'row 77';
SELECT count(*) FROM s WHERE ARRAY[a, id] @> ARRAY[7, 77];
SELECT id FROM s WHERE point(a, id) <@ box '((1,1),(2,22))' ORDER BY id;
SELECT id, a FROM s WHERE a = 3 AND id > 990;
DROP INDEX s_id;
SELECT sum(id) FROM s WHERE id BETWEEN 300 AND 600;
EXPLAIN (COSTS OFF) SELECT sum(id) FROM s WHERE id BETWEEN 300 AND 600;
-- bitmaps: exact, and lossy for want of memory
CREATE INDEX s_id ON s (id);
SET enable_indexscan = off;
SELECT count(*), sum(id) FROM s WHERE id < 700 AND b LIKE '%7%';
RESET enable_indexscan;

-- an index-only scan looks up every row: nothing says which are visible to all
VACUUM (FREEZE) s;
SET enable_bitmapscan = off;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id FROM s WHERE id < 10;
RESET enable_bitmapscan;
RESET enable_seqscan;

-- samples
SELECT count(*) FROM s TABLESAMPLE bernoulli (100);
SELECT count(*) FROM s TABLESAMPLE system (100);
SELECT count(*) FROM s TABLESAMPLE bernoulli (0);
DELETE FROM s WHERE id BETWEEN 257 AND 900;
SELECT count(*), min(id), max(id) FROM s TABLESAMPLE system (100) REPEATABLE (1);

-- parallel
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT count(*), sum(id) FROM s WHERE a >= 0;
SELECT count(*), sum(id) FROM s WHERE a >= 0;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET max_parallel_workers_per_gather;

-- columns added and dropped without a rewrite
ALTER TABLE s ADD COLUMN d text DEFAULT 'default', DROP COLUMN n;
INSERT INTO s VALUES (2000, 0, 'with all columns', 'given');
SELECT * FROM s WHERE id IN (1, 2000) ORDER BY id;
ALTER TABLE s ALTER COLUMN d SET DEFAULT 'other';
SELECT d, count(*) FROM s GROUP BY d ORDER BY d;
VACUUM FULL s;
SELECT d, count(*) FROM s GROUP BY d ORDER BY d;

-- long values go to a TOAST relation, which is a heap
SELECT amname FROM pg_class t JOIN pg_class r ON r.reltoastrelid = t.oid JOIN pg_am a ON a.oid = t.relam WHERE r.relname = 's';
INSERT INTO s SELECT 3000 + i, i, (SELECT string_agg(md5(g::text), '') FROM generate_series(i, i + 500) g) FROM generate_series(1, 3) i;
SELECT id, length(b), md5(b) FROM s WHERE id > 3000 ORDER BY id;
UPDATE s SET a = 9 WHERE id = 3001;
UPDATE s SET b = 'short' WHERE id = 3002;
DELETE FROM s WHERE id = 3003;
SELECT id, a, length(b), md5(b) FROM s WHERE id > 3000 ORDER BY id;
VACUUM FULL s;
SELECT id, a, length(b), md5(b) FROM s WHERE id > 3000 ORDER BY id;

-- a row is not limited to a page, but limited it is
CREATE TABLE wide (v bit(8)[]) USING lightning;
ALTER TABLE wide ALTER COLUMN v SET STORAGE plain;
INSERT INTO wide SELECT array_agg(B'10101010') FROM generate_series(1, 3000);
SELECT cardinality(v) FROM wide;
INSERT INTO wide SELECT array_agg(B'10101010') FROM generate_series(1, 6000);
DROP TABLE wide;
DROP TABLE s;
