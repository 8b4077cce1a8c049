-- Scans whose rows nobody looks into, and those where somebody does after all
CREATE TABLE late (id int, a int, b text) USING lightning;
INSERT INTO late SELECT i, i % 10, 'row ' || i FROM generate_series(1, 30000) i;
SELECT lightning_flush();
SELECT lightning_compact('late');
ALTER TABLE late SET (parallel_workers = 0);
SELECT count(*) FROM late;

-- a row far behind the last one that was looked into
SELECT * FROM late OFFSET 20000 LIMIT 2;
SELECT * FROM (SELECT * FROM late OFFSET 29999) x;
CREATE SEQUENCE late_seq;
SELECT count(*), min(id), max(id), sum(a), min(b), max(b)
	FROM late WHERE CASE WHEN nextval('late_seq') % 5000 = 0 THEN a = 0 ELSE false END;

-- whole rows
SELECT count(x), count(DISTINCT x) FROM (SELECT late FROM late OFFSET 10) x;
SELECT * FROM (SELECT * FROM late OFFSET 29000) x ORDER BY b DESC LIMIT 2;
CREATE TABLE late2 (LIKE late) USING lightning;
CREATE TABLE late3 (LIKE late) USING heap;
INSERT INTO late2 SELECT * FROM late OFFSET 25000;
INSERT INTO late3 SELECT * FROM late OFFSET 25000;
SELECT count(*), sum(id), min(b), max(b) FROM late2;
SELECT count(*) FROM (SELECT * FROM late2 EXCEPT SELECT * FROM late3) x;
SELECT count(*) FROM (SELECT * FROM late3 EXCEPT SELECT * FROM late2) x;

-- system columns need no row
SELECT ctid, tableoid::regclass, xmax FROM late OFFSET 20000 LIMIT 1;
SELECT count(DISTINCT ctid), count(DISTINCT xmin::text) FROM late;

-- a function that changes rows under the scan; what the scan sees stays
CREATE FUNCTION late_touch(tid) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
	UPDATE late SET a = a + 100 WHERE ctid = $1;
	RETURN true;
END $$;
BEGIN;
SELECT id, a, b FROM late
	WHERE CASE WHEN ctid IN ('(10,1)', '(70,7)', '(117,40)') THEN late_touch(ctid) ELSE false END;
SELECT id, a, b FROM late WHERE a >= 100;
SELECT count(*) FROM late;
-- tagged rows, in files too
SELECT lightning_flush();
SELECT id, a, b, ctid FROM (SELECT *, ctid FROM late OFFSET 0) x WHERE a >= 100;
SELECT count(*), count(DISTINCT ctid) FROM late;
COMMIT;
SELECT lightning_flush();
SELECT lightning_compact('late');
SELECT count(*), count(DISTINCT ctid) FROM late;
SELECT ctid, id, a FROM (SELECT ctid, * FROM late OFFSET 17926) x LIMIT 2;

-- scans that start over in the middle
SELECT g, x.* FROM generate_series(1, 3) g,
	LATERAL (SELECT * FROM late OFFSET 15000 + g LIMIT 1) x;
SELECT g, (SELECT count(*) FROM late WHERE g > 0) FROM generate_series(1, 3) g;

-- cursors
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT * FROM late;
MOVE 10000 IN c;
FETCH 2 FROM c;
MOVE 5000 IN c;
FETCH BACKWARD 2 FROM c;
MOVE BACKWARD 9000 IN c;
FETCH RELATIVE 0 FROM c;
UPDATE late SET b = 'current' WHERE CURRENT OF c;
FETCH FORWARD 1 FROM c;
MOVE FORWARD ALL IN c;
FETCH BACKWARD 1 FROM c;
MOVE BACKWARD ALL IN c;
FETCH 1 FROM c;
DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT * FROM late OFFSET 12000;
MOVE 3000 IN h;
COMMIT;
FETCH 1 FROM h;
CLOSE h;
SELECT id FROM late WHERE b = 'current';

-- others than readers
BEGIN;
DELETE FROM late;
SELECT count(*) FROM late;
ROLLBACK;
SELECT count(*), sum(id) FROM late;
BEGIN;
WITH d AS (DELETE FROM late RETURNING *) SELECT count(*), sum(id), max(b) FROM d;
ROLLBACK;
BEGIN;
UPDATE late SET id = 0, a = 0, b = 'x';
SELECT count(*), sum(id), max(b) FROM late;
ROLLBACK;
SELECT count(*) FROM (SELECT * FROM late OFFSET 29000 FOR UPDATE) x;

-- gaps between row ids
DELETE FROM late WHERE id % 3 = 0 OR id BETWEEN 12000 AND 13000;
SELECT count(*) FROM late;
SELECT lightning_flush();
SELECT lightning_compact('late');
SELECT count(*), count(DISTINCT ctid) FROM late;
SELECT * FROM late OFFSET 12000 LIMIT 2;

-- parallel
ALTER TABLE late SET (parallel_workers = 2);
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT count(*) FROM late;
SELECT count(*) FROM late;
SELECT count(*), sum(id), count(DISTINCT b) FROM late;
SELECT count(*) FROM late WHERE CASE WHEN ctid IN ('(10,1)', '(70,3)', '(117,40)') THEN a < 0 ELSE true END;
SELECT count(*) FROM (SELECT DISTINCT late FROM late) x;

DROP FUNCTION late_touch(tid);
DROP SEQUENCE late_seq;
DROP TABLE late, late2, late3;
