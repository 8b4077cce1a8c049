-- VACUUM after a load has nothing to read; after one that failed, it has
CREATE TABLE vl (id int, n int, pad text) USING lightning WITH (autovacuum_enabled = off);
CREATE INDEX vl_id ON vl (id);
CREATE FUNCTION vl_blocks() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_stat_force_next_flush();
	RETURN NULL;
END $$;
CREATE TABLE vl_note (blocks bigint) USING heap;

-- a part of it is in files, and was written there before it was committed
BEGIN;
INSERT INTO vl SELECT i, i % 10, md5(i::text) FROM generate_series(1, 20000) i;
SELECT lightning_flush();
INSERT INTO vl SELECT i, i % 10, md5(i::text) FROM generate_series(20001, 21000) i;
COMMIT;
SELECT vl_blocks();
INSERT INTO vl_note SELECT pg_stat_get_blocks_fetched('vl'::regclass);
VACUUM vl;
SELECT vl_blocks();
SELECT pg_stat_get_blocks_fetched('vl'::regclass) - blocks AS read_by_vacuum FROM vl_note;
SELECT reltuples FROM pg_class WHERE oid = 'vl'::regclass;

-- several loads, of which not all were committed: those rows' entries go
BEGIN;
INSERT INTO vl SELECT i, i % 10, md5(i::text) FROM generate_series(21001, 22000) i;
SELECT lightning_flush();
ROLLBACK;
INSERT INTO vl SELECT i, i % 10, md5(i::text) FROM generate_series(22001, 23000) i;
BEGIN;
INSERT INTO vl SELECT i, i % 10, md5(i::text) FROM generate_series(23001, 24000) i;
ROLLBACK;
VACUUM vl;
SELECT reltuples FROM pg_class WHERE oid IN ('vl'::regclass, 'vl_id'::regclass);
-- only a failed one in memory
SELECT lightning_flush();
BEGIN;
INSERT INTO vl SELECT i, i % 10, md5(i::text) FROM generate_series(24001, 25000) i;
ROLLBACK;
VACUUM vl;
SELECT reltuples FROM pg_class WHERE oid IN ('vl'::regclass, 'vl_id'::regclass);
-- a failed one in files, a good one in memory
BEGIN;
INSERT INTO vl SELECT i, i % 10, md5(i::text) FROM generate_series(25001, 26000) i;
SELECT lightning_flush();
ROLLBACK;
INSERT INTO vl SELECT i, i % 10, md5(i::text) FROM generate_series(26001, 27000) i;
VACUUM vl;
SELECT reltuples FROM pg_class WHERE oid IN ('vl'::regclass, 'vl_id'::regclass);
-- part of a transaction failed
BEGIN;
INSERT INTO vl SELECT i, i % 10, md5(i::text) FROM generate_series(27001, 28000) i;
SAVEPOINT a;
INSERT INTO vl SELECT i, i % 10, md5(i::text) FROM generate_series(28001, 29000) i;
ROLLBACK TO a;
COMMIT;
VACUUM vl;
SELECT reltuples FROM pg_class WHERE oid IN ('vl'::regclass, 'vl_id'::regclass);
-- one transaction that deletes, and one that moves rows
DELETE FROM vl WHERE id <= 5000;
VACUUM vl;
SELECT reltuples FROM pg_class WHERE oid IN ('vl'::regclass, 'vl_id'::regclass);
UPDATE vl SET id = -id WHERE id <= 10000;
VACUUM vl;
SELECT reltuples FROM pg_class WHERE oid IN ('vl'::regclass, 'vl_id'::regclass);

-- what ANALYZE sees, from files and from memory
SELECT lightning_flush();
SELECT lightning_compact('vl');
ANALYZE vl;
SELECT reltuples FROM pg_class WHERE oid = 'vl'::regclass;
SELECT attname, null_frac, n_distinct FROM pg_stats WHERE tablename = 'vl' AND attname <> 'pad' ORDER BY 1;
BEGIN;
UPDATE vl SET n = NULL WHERE id > 20000;
ANALYZE vl;
SELECT reltuples FROM pg_class WHERE oid = 'vl'::regclass;
SELECT attname, round(null_frac::numeric, 3) AS null_frac, n_distinct FROM pg_stats WHERE tablename = 'vl' AND attname <> 'pad' ORDER BY 1;
ROLLBACK;
SET enable_seqscan = off;
SELECT count(*), sum(n) FROM vl WHERE id > -100000;
SET enable_seqscan = on;
SELECT count(*), sum(n) FROM vl;
DROP TABLE vl, vl_note;
DROP FUNCTION vl_blocks;
