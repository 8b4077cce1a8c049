-- VACUUM, ANALYZE, CLUSTER, VACUUM FULL, concurrent index builds, truncation
CREATE TABLE m (id int PRIMARY KEY, a int, b text) USING lightning WITH (autovacuum_enabled = off);
CREATE INDEX m_gin ON m USING gin (string_to_array(b, ' '));
INSERT INTO m SELECT i, i % 7, 'word' || i || ' common' FROM generate_series(1, 2000) i;

-- entries of rows that are gone go too, those of aborted inserts as well
BEGIN;
INSERT INTO m SELECT i, 0, 'never' FROM generate_series(5001, 5500) i;
ROLLBACK;
DELETE FROM m WHERE id % 2 = 0;
UPDATE m SET id = id + 10000 WHERE id < 100;
VACUUM m;
SELECT reltuples, relpages FROM pg_class WHERE relname = 'm';
SELECT reltuples FROM pg_class WHERE relname = 'm_pkey';
-- once is enough, whether the graves are in memory or in files
VACUUM (FREEZE) m;
SELECT lightning_flush();
VACUUM m;
SELECT reltuples FROM pg_class WHERE relname = 'm_pkey';
SET enable_seqscan = off;
SELECT count(*), sum(id) FROM m WHERE id > 0;
SELECT count(*) FROM m WHERE string_to_array(b, ' ') @> ARRAY['common'];
SELECT id FROM m WHERE string_to_array(b, ' ') @> ARRAY['word7'];
RESET enable_seqscan;
SELECT lightning_check('m');

-- nothing is removed while entries stay
DELETE FROM m WHERE id > 1000 AND id < 1500;
VACUUM (INDEX_CLEANUP off) m;
VACUUM (INDEX_CLEANUP on) m;
SELECT reltuples FROM pg_class WHERE relname = 'm_pkey';

-- the horizon of wraparound moves on
SELECT relfrozenxid AS before FROM pg_class WHERE relname = 'm' \gset
SELECT count(txid_current()) FROM generate_series(1, 1);
INSERT INTO m VALUES (-1, 1, 'one more');
VACUUM (FREEZE) m;
SELECT age(relfrozenxid) < age(:'before'::xid) AS moved FROM pg_class WHERE relname = 'm';

ANALYZE m;
SELECT reltuples FROM pg_class WHERE relname = 'm';
SELECT n_distinct FROM pg_stats WHERE tablename = 'm' AND attname = 'a';
-- sparse: most blocks of row ids are empty
CREATE TABLE sparse (a int, b int) USING lightning WITH (autovacuum_enabled = off);
INSERT INTO sparse SELECT i, i % 3 FROM generate_series(1, 60000) i;
DELETE FROM sparse WHERE a % 1000 <> 0;
VACUUM sparse;
SET default_statistics_target = 1;
ANALYZE sparse;
SELECT reltuples FROM pg_class WHERE relname = 'sparse';
SELECT n_distinct FROM pg_stats WHERE tablename = 'sparse' AND attname = 'b';
RESET default_statistics_target;
DROP TABLE sparse;

-- rewrites
CLUSTER m USING m_pkey;
SELECT count(*), sum(id), min(ctid) FROM m;
SELECT id FROM m ORDER BY ctid LIMIT 3;
UPDATE m SET a = a + 1 WHERE id < 200;
VACUUM FULL m;
SELECT count(*), sum(a) FROM m WHERE id < 200;
ALTER TABLE m ALTER COLUMN a TYPE bigint;
SELECT count(*), sum(a) FROM m WHERE id < 200;
REINDEX TABLE m;
REINDEX TABLE CONCURRENTLY m;
CREATE INDEX CONCURRENTLY m_a ON m (a) WHERE id > 500;
CREATE UNIQUE INDEX CONCURRENTLY m_b ON m (b);
INSERT INTO m VALUES (-2, 1, 'one more');
SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indrelid = 'm'::regclass ORDER BY 1;
CREATE UNIQUE INDEX ON m (a);

-- an index made over rows that were just updated in place is not for those who
-- may still see the old versions
DROP INDEX m_a;
BEGIN;
UPDATE m SET a = 100 WHERE id > 0 AND id < 150;
CREATE INDEX m_changed ON m (a);
SET LOCAL enable_seqscan = off;
SELECT count(*) FROM m WHERE a = 100;
SELECT count(*) FROM m WHERE a < 100;
COMMIT;
SELECT indcheckxmin FROM pg_index WHERE indexrelid = 'm_changed'::regclass;

-- truncation
BEGIN;
TRUNCATE m;
INSERT INTO m VALUES (1, 1, 'in the new one');
ROLLBACK;
SELECT count(*) FROM m;
BEGIN;
CREATE TABLE fresh (a int) USING lightning;
INSERT INTO fresh VALUES (1);
TRUNCATE fresh;
SAVEPOINT p;
INSERT INTO fresh VALUES (2);
TRUNCATE fresh;
ROLLBACK TO p;
INSERT INTO fresh VALUES (3);
COMMIT;
SELECT * FROM fresh;
CREATE TEMP TABLE tmp (a int) USING lightning ON COMMIT DELETE ROWS;
BEGIN;
INSERT INTO tmp VALUES (1), (2);
SELECT count(*) FROM tmp;
COMMIT;
SELECT count(*) FROM tmp;
DROP TABLE fresh, tmp, m;
