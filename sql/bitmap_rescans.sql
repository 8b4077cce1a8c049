--
-- Bitmap scans that are begun anew before they have come to an end, as LIMIT and
-- EXISTS inside a nested loop do: nothing of the previous bitmap may come out.
-- Each answer is compared with heap's.
--
CREATE TABLE br_heap (k int, k2 int, n int, pad text) USING heap;
INSERT INTO br_heap SELECT i % 61, i % 7, i, repeat('x', i % 40) FROM generate_series(1, 5000) i;
CREATE TABLE br_lt (LIKE br_heap) USING lightning;
INSERT INTO br_lt SELECT * FROM br_heap ORDER BY n;
CREATE INDEX ON br_heap (k);
CREATE INDEX ON br_heap (k2);
CREATE INDEX ON br_lt (k);
CREATE INDEX ON br_lt (k2);
CREATE TABLE br_outer AS SELECT i AS k FROM generate_series(-2, 63) i;
ANALYZE br_heap, br_lt, br_outer;

-- rows in memory, in files, and in both, with dead ones between them
CREATE FUNCTION br_differences() RETURNS TABLE (question text, rows bigint, differ bigint)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_memoize = off SET enable_material = off AS $$
DECLARE
	q text;
BEGIN
	FOREACH q IN ARRAY ARRAY[
		'SELECT o.k, (SELECT b.k FROM %1$s AS b WHERE b.k = o.k LIMIT 1) FROM br_outer o',
		'SELECT o.k, l.k FROM br_outer o, LATERAL (SELECT b.k FROM %1$s AS b WHERE b.k = o.k LIMIT 3) l',
		'SELECT o.k, l.n %% 61 FROM br_outer o LEFT JOIN LATERAL (SELECT b.n FROM %1$s AS b WHERE b.k = o.k OFFSET 5 LIMIT 1) l ON true',
		'SELECT o.k, 0 FROM br_outer o WHERE EXISTS (SELECT 1 FROM %1$s AS b WHERE b.k = o.k OFFSET 0)',
		'SELECT o.k, 0 FROM br_outer o WHERE NOT EXISTS (SELECT 1 FROM %1$s AS b WHERE b.k = o.k AND b.pad IS NOT NULL OFFSET 0)',
		'SELECT o.k, (SELECT count(*) FROM %1$s AS b WHERE b.k = o.k OR b.k2 = o.k) FROM br_outer o',
		'SELECT o.k, (SELECT count(*) FROM %1$s AS b WHERE b.k = o.k AND b.k2 = o.k %% 7) FROM br_outer o',
		'SELECT o.k, (SELECT b.k FROM %1$s AS b WHERE b.k IN (o.k, o.k + 1) ORDER BY b.k LIMIT 1) FROM br_outer o',
		'SELECT o.k, (SELECT max(b.n) FROM %1$s AS b WHERE b.k BETWEEN o.k AND o.k + 2) FROM br_outer o',
		'SELECT o.k, (SELECT b.k FROM %1$s AS b TABLESAMPLE SYSTEM (100) WHERE b.k = o.k LIMIT 1) FROM br_outer o']
	LOOP
		question := format(q, 'b');
		EXECUTE 'WITH l AS MATERIALIZED (' || format(q, 'br_lt') || '), h AS MATERIALIZED (' || format(q, 'br_heap') || ')'
			' SELECT (SELECT count(*) FROM l), (SELECT count(*) FROM ((TABLE l EXCEPT ALL TABLE h) UNION ALL (TABLE h EXCEPT ALL TABLE l)) d)'
			INTO rows, differ;
		RETURN NEXT;
	END LOOP;
END $$;

-- that these are bitmap scans which are begun anew
SET enable_seqscan = off;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
EXPLAIN (COSTS OFF) SELECT o.k, (SELECT b.k FROM br_lt b WHERE b.k = o.k LIMIT 1) FROM br_outer o;
EXPLAIN (COSTS OFF) SELECT o.k, (SELECT count(*) FROM br_lt b WHERE b.k = o.k OR b.k2 = o.k) FROM br_outer o;

SELECT * FROM br_differences();
SELECT count(*) FROM lightning_flush();
SELECT * FROM br_differences();
UPDATE br_heap SET pad = pad || 'y' WHERE n % 3 = 0;
UPDATE br_lt SET pad = pad || 'y' WHERE n % 3 = 0;
UPDATE br_heap SET k = k + 1 WHERE n % 50 = 0;
UPDATE br_lt SET k = k + 1 WHERE n % 50 = 0;
DELETE FROM br_heap WHERE n % 4 = 1;
DELETE FROM br_lt WHERE n % 4 = 1;
SELECT * FROM br_differences();

-- a cursor inside a block while the same statement begins anew
BEGIN;
DECLARE c CURSOR FOR SELECT o.k, (SELECT b.k FROM br_lt b WHERE b.k = o.k LIMIT 1) AS found FROM br_outer o ORDER BY o.k;
MOVE 3 IN c;
FETCH 3 FROM c;
DELETE FROM br_lt WHERE k BETWEEN 4 AND 6;
FETCH 3 FROM c;
ROLLBACK;

DROP FUNCTION br_differences();
DROP TABLE br_heap, br_lt, br_outer;
