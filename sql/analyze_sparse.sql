--
-- ANALYZE of tables where whole stretches of row ids have no row: it looks into
-- all that its sample asks for, and counts what is there.
--
CREATE TABLE an_heap (id int, few int, pad text) USING heap;
CREATE TABLE an_lt (id int, few int, pad text) USING lightning;
INSERT INTO an_heap SELECT i, i % 10, repeat('x', i % 50) FROM generate_series(1, 100000) i;
INSERT INTO an_lt SELECT * FROM an_heap ORDER BY id;

CREATE VIEW an_known AS
	SELECT c.relname, c.reltuples,
		(SELECT s.n_distinct FROM pg_stats s WHERE s.tablename = c.relname AND s.attname = 'few') AS few,
		(SELECT s.n_distinct FROM pg_stats s WHERE s.tablename = c.relname AND s.attname = 'id') AS id,
		(SELECT s.null_frac FROM pg_stats s WHERE s.tablename = c.relname AND s.attname = 'id') AS nulls
	FROM pg_class c WHERE c.relname IN ('an_heap', 'an_lt') ORDER BY 1;

-- one row of a thousand, and some neighbours
DELETE FROM an_heap WHERE id % 1000 <> 0 AND id NOT BETWEEN 50001 AND 50500;
DELETE FROM an_lt WHERE id % 1000 <> 0 AND id NOT BETWEEN 50001 AND 50500;
ANALYZE an_heap, an_lt;
SELECT * FROM an_known;
VACUUM an_heap, an_lt;
ANALYZE an_heap, an_lt;
SELECT * FROM an_known;
SELECT count(*) FROM lightning_flush();
ANALYZE an_lt;
SELECT * FROM an_known;

-- only the last row is there, then none
DELETE FROM an_heap WHERE id < 100000;
DELETE FROM an_lt WHERE id < 100000;
ANALYZE an_heap, an_lt;
SELECT * FROM an_known;
DELETE FROM an_heap;
DELETE FROM an_lt;
ANALYZE an_heap, an_lt;
SELECT relname, reltuples FROM an_known;

-- a sample of some of the blocks, where the first half has no rows
INSERT INTO an_lt SELECT i, i % 10, 'x' FROM generate_series(1, 400000) i;
DELETE FROM an_lt WHERE id <= 200000;
SET default_statistics_target = 1;
ANALYZE an_lt;
SELECT reltuples BETWEEN 150000 AND 250000 AS about_right, few FROM an_known WHERE relname = 'an_lt';
DROP VIEW an_known;
DROP TABLE an_heap, an_lt;
