-- What the log says of each kind of change.
CREATE EXTENSION pg_walinspect;
SELECT pg_current_wal_insert_lsn() AS start \gset
CREATE TABLE w (id int PRIMARY KEY, t text, k int) USING lightning;
CREATE INDEX ON w (k);
INSERT INTO w VALUES (1, 'abc', 1);
INSERT INTO w VALUES (2, 'abcdefgh', 2), (3, 'abcdefgh', 3);
SET lightning.wal_compression = 'none';
COPY w FROM PROGRAM 'seq 4 100 | awk ''{print $1 "\tcopied row\t" $1}''';
SET lightning.wal_compression = 'lz4';
COPY w FROM PROGRAM 'seq 101 300 | awk ''{print $1 "\tcopied row\t" $1}''';
SET lightning.wal_compression = 'zstd';
COPY w FROM PROGRAM 'seq 301 500 | awk ''{print $1 "\tcopied row\t" $1}''';
RESET lightning.wal_compression;
UPDATE w SET t = 'abcdefgi' WHERE id = 2;
UPDATE w SET t = 'nothing in common' WHERE id = 2;
UPDATE w SET k = 7 WHERE id = 3;
UPDATE w SET id = 1000 WHERE id = 3;
INSERT INTO w VALUES (2, 'abc', 1) ON CONFLICT (id) DO UPDATE SET t = 'x';
INSERT INTO w VALUES (5000, 'abc', 1) ON CONFLICT (id) DO NOTHING;
BEGIN;
SELECT id FROM w WHERE id = 1 FOR UPDATE;
DELETE FROM w WHERE id = 1;
ROLLBACK;
TRUNCATE w;
BEGIN;
CREATE TABLE w2 (a int) USING lightning;
TRUNCATE w2;
COPY w2 FROM PROGRAM 'seq 1 3' WITH (FREEZE);
COMMIT;
CREATE UNLOGGED TABLE w3 (a int) USING lightning;
INSERT INTO w3 VALUES (1);
UPDATE w3 SET a = 2;
CREATE TEMP TABLE w4 (a int) USING lightning;
INSERT INTO w4 VALUES (1);
-- the log is read up to where it is flushed
SET synchronous_commit = on;
INSERT INTO w2 VALUES (4);
SELECT record_type, regexp_replace(regexp_replace(description, '^store \d+/\d+/\d+', 'store'),
								   'bytes \d+ compression', 'compression') AS description
	FROM pg_get_wal_records_info(:'start', pg_current_wal_flush_lsn())
	WHERE resource_manager = 'lightning' AND record_type <> 'DROP_STORE';
DROP TABLE w, w2, w3, w4;
DROP EXTENSION pg_walinspect;
