--
-- Partitions.  What is printed is what heap prints.
--
SET default_table_access_method = lightning;
CREATE TABLE pt (id int, region text, at date, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE pt_a PARTITION OF pt FOR VALUES IN ('a');
CREATE TABLE pt_b PARTITION OF pt FOR VALUES IN ('b') PARTITION BY RANGE (id);
CREATE TABLE pt_b1 PARTITION OF pt_b FOR VALUES FROM (MINVALUE) TO (100);
CREATE TABLE pt_b2 PARTITION OF pt_b FOR VALUES FROM (100) TO (MAXVALUE) USING heap;
CREATE TABLE pt_default PARTITION OF pt DEFAULT;
CREATE INDEX pt_at ON pt (at);
CREATE UNIQUE INDEX pt_v ON pt (v, region);
SELECT relname, amname = 'heap' AS always_heap FROM pg_class c JOIN pg_am a ON a.oid = relam
WHERE relname IN ('pt_b2') ORDER BY 1;
INSERT INTO pt SELECT i, (ARRAY['a', 'b', 'c', 'd'])[1 + i % 4], date '2020-01-01' + i, 'v' || i FROM generate_series(1, 400) i;
SELECT tableoid::regclass::text, count(*), sum(id) FROM pt GROUP BY 1 ORDER BY 1;
SET enable_partitionwise_aggregate = on;
SELECT region, count(*) FROM pt GROUP BY region ORDER BY 1;
SET enable_seqscan = off;
SELECT tableoid::regclass, * FROM pt WHERE id = 205;
SELECT count(*) FROM pt WHERE at BETWEEN '2020-02-01' AND '2020-02-10';
RESET enable_seqscan;
INSERT INTO pt VALUES (4, 'a', NULL, 'dup');
INSERT INTO pt VALUES (4, 'a', NULL, 'dup') ON CONFLICT (id, region) DO UPDATE SET v = excluded.v RETURNING *;

-- rows that change their partition, between access methods too
UPDATE pt SET region = 'b' WHERE id = 4 RETURNING tableoid::regclass, *;
UPDATE pt SET id = 1004 WHERE id = 4 RETURNING tableoid::regclass, *;
UPDATE pt SET region = 'zzz' WHERE id = 1004 RETURNING tableoid::regclass, *;
UPDATE pt SET region = 'a', id = 4 WHERE id = 1004 RETURNING tableoid::regclass, *;
BEGIN;
UPDATE pt SET region = 'a' WHERE region = 'b';
SELECT tableoid::regclass::text, count(*) FROM pt GROUP BY 1 ORDER BY 1;
SAVEPOINT s;
UPDATE pt SET region = 'b' WHERE id % 2 = 0;
SELECT tableoid::regclass::text, count(*) FROM pt GROUP BY 1 ORDER BY 1;
ROLLBACK TO s;
SELECT tableoid::regclass::text, count(*) FROM pt GROUP BY 1 ORDER BY 1;
ROLLBACK;
SELECT tableoid::regclass::text, count(*) FROM pt GROUP BY 1 ORDER BY 1;
DELETE FROM pt WHERE id = 8 RETURNING tableoid::regclass, *;
MERGE INTO pt USING (VALUES (12, 'a'), (16, 'a'), (9999, 'a')) s(id, region) ON pt.id = s.id AND pt.region = s.region
	WHEN MATCHED AND s.id = 12 THEN DELETE
	WHEN MATCHED THEN UPDATE SET region = 'b', v = 'merged'
	WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.region, NULL, 'inserted');
SELECT tableoid::regclass, * FROM pt WHERE id IN (12, 16, 9999) ORDER BY id;

-- triggers and foreign keys over partitions
CREATE TABLE pt_log (what text);
CREATE FUNCTION pt_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO pt_log VALUES (TG_TABLE_NAME || ' ' || TG_OP || ' ' || coalesce(OLD.id::text, '-') || ' ' || coalesce(NEW.id::text, '-'));
	RETURN NULL;
END $$;
CREATE TRIGGER pt_row AFTER INSERT OR UPDATE OR DELETE ON pt FOR EACH ROW EXECUTE FUNCTION pt_note();
CREATE TABLE pt_ref (id int, region text, FOREIGN KEY (id, region) REFERENCES pt ON UPDATE CASCADE ON DELETE CASCADE);
INSERT INTO pt_ref VALUES (20, 'a'), (24, 'a'), (101, 'b');
INSERT INTO pt_ref VALUES (21, 'a');
UPDATE pt SET region = 'b' WHERE id = 20;
UPDATE pt SET v = v || '!' WHERE id IN (24, 101);
DELETE FROM pt WHERE id = 24;
UPDATE pt SET region = 'c' WHERE id = 101;
SELECT * FROM pt_ref ORDER BY 1;
SELECT * FROM pt_log ORDER BY 1;
DROP TRIGGER pt_row ON pt;

-- attach and detach
CREATE TABLE pt_e (LIKE pt INCLUDING ALL);
INSERT INTO pt_e VALUES (5000, 'e', NULL, 'e1'), (5001, 'x', NULL, 'e2');
ALTER TABLE pt ATTACH PARTITION pt_e FOR VALUES IN ('e');
DELETE FROM pt_e WHERE region = 'x';
INSERT INTO pt VALUES (5002, 'e', NULL, 'in default');
ALTER TABLE pt ATTACH PARTITION pt_e FOR VALUES IN ('e');
DELETE FROM pt WHERE id = 5002;
ALTER TABLE pt ATTACH PARTITION pt_e FOR VALUES IN ('e');
INSERT INTO pt VALUES (5003, 'e', NULL, 'attached') RETURNING tableoid::regclass;
DROP TABLE pt_ref;
ALTER TABLE pt DETACH PARTITION pt_e;
SELECT count(*) FROM pt WHERE region = 'e';
SELECT count(*) FROM pt_e;
DROP TABLE pt_default;
ALTER TABLE pt DETACH PARTITION pt_a CONCURRENTLY;
SELECT tableoid::regclass::text, count(*) FROM pt GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM pt_a;
ALTER TABLE pt ATTACH PARTITION pt_a FOR VALUES IN ('a');
INSERT INTO pt VALUES (6000, 'nowhere', NULL, '');

-- commands on all of them
ALTER TABLE pt ADD COLUMN extra int NOT NULL DEFAULT 3;
SELECT sum(extra) = count(*) FROM pt;
ALTER TABLE pt_a SET ACCESS METHOD heap;
ALTER TABLE pt SET ACCESS METHOD heap;
ALTER TABLE pt_b2 SET ACCESS METHOD lightning;
SELECT tableoid::regclass::text, count(*) FROM pt GROUP BY 1 ORDER BY 1;
ALTER TABLE pt ALTER v TYPE varchar(100);
VACUUM FULL pt;
VACUUM ANALYZE pt;
REINDEX TABLE pt;
REINDEX INDEX CONCURRENTLY pt_at;
CLUSTER pt USING pt_at;
ALTER TABLE pt_b1 CLUSTER ON pt_b1_pkey;
CLUSTER pt_b1;
SELECT tableoid::regclass::text, count(*), sum(id) FROM pt GROUP BY 1 ORDER BY 1;
SELECT reltuples FROM pg_class WHERE relname = 'pt';
TRUNCATE pt_b;
SELECT tableoid::regclass::text, count(*) FROM pt GROUP BY 1 ORDER BY 1;
TRUNCATE pt;
SELECT count(*) FROM pt;
CREATE TABLE pt_using (i int) PARTITION BY HASH (i) USING lightning;
CREATE TABLE pt_hash (i int PRIMARY KEY, t text) PARTITION BY HASH (i);
CREATE TABLE pt_hash0 PARTITION OF pt_hash FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE pt_hash1 PARTITION OF pt_hash FOR VALUES WITH (MODULUS 3, REMAINDER 1) USING heap;
CREATE TABLE pt_hash2 PARTITION OF pt_hash FOR VALUES WITH (MODULUS 3, REMAINDER 2);
COPY pt_hash FROM PROGRAM 'seq 1 3000 | sed s/$/,x/' (FORMAT csv);
SELECT count(*), sum(i) FROM pt_hash;
UPDATE pt_hash SET i = i + 10000;
SELECT count(*), sum(i), count(DISTINCT tableoid) FROM pt_hash;
SET enable_partitionwise_join = on;
SELECT count(*) FROM pt_hash a JOIN pt_hash b USING (i);
DROP TABLE pt, pt_e, pt_log, pt_hash;
DROP FUNCTION pt_note;
