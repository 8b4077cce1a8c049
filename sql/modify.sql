-- Inserting, updating, deleting: what any table must do.
SET default_table_access_method = lightning;

-- plain changes
CREATE TABLE m1 (id int PRIMARY KEY, a int, b text, c numeric);
INSERT INTO m1 SELECT g, g % 10, 'row ' || g, g * 1.5 FROM generate_series(1, 1000) g;
UPDATE m1 SET a = a + 1 WHERE id <= 500;
UPDATE m1 SET b = b || '!' WHERE id % 3 = 0;
DELETE FROM m1 WHERE id % 7 = 0;
SELECT count(*), sum(a), sum(length(b)), sum(c), min(id), max(id) FROM m1;
UPDATE m1 SET id = id + 10000 WHERE id % 2 = 0;
SELECT count(*), sum(id), sum(a) FROM m1;
SELECT * FROM m1 WHERE id IN (1, 2, 3, 10002, 10006) ORDER BY id;
INSERT INTO m1 VALUES (1, 1, 'dup', 1);
UPDATE m1 SET id = 1 WHERE id = 3;
SELECT count(*) FROM m1 WHERE id = 1;

-- an update that sees its own command's rows must not run forever
UPDATE m1 SET a = a + 1;
SELECT count(*), sum(a) FROM m1;
INSERT INTO m1 SELECT id + 100000, a, b, c FROM m1;
SELECT count(*), sum(a) FROM m1;

-- returning
UPDATE m1 SET a = -1 WHERE id = 5 RETURNING id, a, b, c, tableoid::regclass;
DELETE FROM m1 WHERE id = 5 RETURNING *;
INSERT INTO m1 VALUES (5, 0, NULL, NULL) RETURNING *;
UPDATE m1 SET b = 'x' FROM (VALUES (5), (8)) v(i) WHERE id = i OR id = i + 1 RETURNING id, b;

-- the same row many times: more than the version tags can tell apart
CREATE TABLE m2 (id int PRIMARY KEY, n int);
INSERT INTO m2 VALUES (1, 0), (2, 0);
DO $$ BEGIN FOR i IN 1..300 LOOP UPDATE m2 SET n = n + 1 WHERE id = 1; END LOOP; END $$;
SELECT * FROM m2 ORDER BY id;
DO $$ BEGIN FOR i IN 1..300 LOOP UPDATE m2 SET n = n + 1 WHERE id = 1; COMMIT; END LOOP; END $$;
SELECT * FROM m2 ORDER BY id;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM m2 ORDER BY id;
DO $$ BEGIN FOR i IN 1..300 LOOP UPDATE m2 SET n = n + 1 WHERE id = 2; END LOOP; END $$;
FETCH ALL FROM c;
COMMIT;
SELECT * FROM m2 ORDER BY id;

-- savepoints
BEGIN;
UPDATE m2 SET n = 1000 WHERE id = 1;
SAVEPOINT a;
UPDATE m2 SET n = 2000 WHERE id = 1;
DELETE FROM m2 WHERE id = 2;
SELECT * FROM m2 ORDER BY id;
ROLLBACK TO a;
SELECT * FROM m2 ORDER BY id;
UPDATE m2 SET n = n + 1;
SAVEPOINT b;
INSERT INTO m2 VALUES (3, 3);
RELEASE b;
ROLLBACK TO a;
SELECT * FROM m2 ORDER BY id;
COMMIT;
BEGIN;
DELETE FROM m2;
ROLLBACK;
SELECT * FROM m2 ORDER BY id;

-- many aborted updates of one row
DO $$
BEGIN
	FOR i IN 1..300 LOOP
		BEGIN
			UPDATE m2 SET n = -1 WHERE id = 1;
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT * FROM m2 ORDER BY id;
UPDATE m2 SET n = n + 1;
SELECT * FROM m2 ORDER BY id;

-- cursors
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM m2 ORDER BY id FOR UPDATE;
FETCH 1 FROM c;
UPDATE m2 SET n = 7 WHERE CURRENT OF c;
FETCH 1 FROM c;
DELETE FROM m2 WHERE CURRENT OF c;
FETCH 1 FROM c;
CLOSE c;
SELECT * FROM m2 ORDER BY id;
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM m2 WHERE id = 2;
FETCH 1 FROM c;
UPDATE m2 SET n = 7 WHERE CURRENT OF c;
UPDATE m2 SET n = n + 1 WHERE CURRENT OF c;
SELECT count(*), sum(n) > 8 FROM m2;
ROLLBACK;

-- on conflict
CREATE TABLE m3 (id int PRIMARY KEY, n int, t text UNIQUE);
INSERT INTO m3 VALUES (1, 1, 'a'), (2, 1, 'b');
INSERT INTO m3 VALUES (1, 5, 'z') ON CONFLICT DO NOTHING;
INSERT INTO m3 VALUES (1, 5, 'z') ON CONFLICT (id) DO UPDATE SET n = m3.n + excluded.n RETURNING id, n, t, xmax <> 0 AS updated;
INSERT INTO m3 VALUES (3, 5, 'c') ON CONFLICT (id) DO UPDATE SET n = -1 RETURNING id, n, t, xmax <> 0 AS updated;
INSERT INTO m3 VALUES (4, 5, 'b') ON CONFLICT (t) DO UPDATE SET n = 50 WHERE m3.n > 10 RETURNING *;
INSERT INTO m3 VALUES (4, 5, 'b') ON CONFLICT (t) DO UPDATE SET id = 40 RETURNING *;
INSERT INTO m3 VALUES (9, 1, 'p'), (9, 2, 'q') ON CONFLICT (id) DO UPDATE SET n = excluded.n;
INSERT INTO m3 VALUES (10, 1, 'a') ON CONFLICT (id) DO UPDATE SET n = 0;
INSERT INTO m3 SELECT g % 50 + 100, 1, 't' || g % 50 FROM generate_series(1, 500) g ON CONFLICT DO NOTHING;
SELECT count(*), sum(n) FROM m3;
SELECT * FROM m3 WHERE id < 100 ORDER BY id;

-- merge
MERGE INTO m3 USING (VALUES (1, 100), (2, 200), (77, 300)) v(i, x) ON m3.id = v.i
	WHEN MATCHED AND x > 100 THEN DELETE
	WHEN MATCHED THEN UPDATE SET n = x
	WHEN NOT MATCHED THEN INSERT VALUES (i, x, 'merged');
SELECT * FROM m3 WHERE id < 100 ORDER BY id;

-- triggers see the right versions
CREATE TABLE m4 (id int PRIMARY KEY, v text, k int);
CREATE INDEX ON m4 (k);
CREATE FUNCTION m4_trig() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE '% % %: old %, new %', TG_WHEN, TG_LEVEL, TG_OP,
		CASE WHEN TG_OP <> 'INSERT' THEN OLD END, CASE WHEN TG_OP <> 'DELETE' THEN NEW END;
	IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER t1 BEFORE INSERT OR UPDATE OR DELETE ON m4 FOR EACH ROW EXECUTE FUNCTION m4_trig();
CREATE TRIGGER t2 AFTER INSERT OR UPDATE OR DELETE ON m4 FOR EACH ROW EXECUTE FUNCTION m4_trig();
CREATE CONSTRAINT TRIGGER t3 AFTER UPDATE ON m4 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION m4_trig();
BEGIN;
INSERT INTO m4 VALUES (1, 'one', 1);
UPDATE m4 SET v = 'two' WHERE id = 1;
UPDATE m4 SET v = 'three', k = 2 WHERE id = 1;
UPDATE m4 SET v = 'four' WHERE id = 1;
COMMIT;
DELETE FROM m4;
CREATE FUNCTION m4_stmt() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
	FOR r IN SELECT o.id, o.v AS ov, n.v AS nv FROM o FULL JOIN n USING (id) ORDER BY id LOOP
		RAISE NOTICE 'transition %: % -> %', r.id, r.ov, r.nv;
	END LOOP;
	RETURN NULL;
END $$;
DROP TRIGGER t1 ON m4;
DROP TRIGGER t2 ON m4;
DROP TRIGGER t3 ON m4;
INSERT INTO m4 SELECT g, 'v' || g, g FROM generate_series(1, 4) g;
CREATE TRIGGER t4 AFTER UPDATE ON m4 REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION m4_stmt();
UPDATE m4 SET v = v || v WHERE id < 3;
UPDATE m4 SET k = k + 1, v = 'w' WHERE id > 2;

-- a before trigger that updates the very row
CREATE TABLE m5 (id int PRIMARY KEY, n int);
CREATE FUNCTION m5_trig() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE m5 SET n = 99 WHERE id = OLD.id;
	RETURN NEW;
END $$;
CREATE TRIGGER t BEFORE UPDATE OF id ON m5 FOR EACH ROW EXECUTE FUNCTION m5_trig();
INSERT INTO m5 VALUES (1, 1);
UPDATE m5 SET id = 2;
SELECT * FROM m5;

-- foreign keys
CREATE TABLE p (id int PRIMARY KEY, x int);
CREATE TABLE f (id int PRIMARY KEY, pid int REFERENCES p ON UPDATE CASCADE ON DELETE CASCADE, n int);
INSERT INTO p SELECT g, g FROM generate_series(1, 10) g;
INSERT INTO f SELECT g, g % 10 + 1, g FROM generate_series(1, 100) g;
INSERT INTO f VALUES (101, 11, 0);
UPDATE p SET x = x + 1;
UPDATE p SET id = id + 100 WHERE id > 5;
DELETE FROM p WHERE id IN (1, 2);
SELECT pid, count(*) FROM f GROUP BY pid ORDER BY pid;
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
DELETE FROM p;
SELECT count(*) FROM f;
ROLLBACK;
CREATE TABLE f2 (id int REFERENCES p DEFERRABLE INITIALLY DEFERRED);
BEGIN;
INSERT INTO f2 VALUES (500);
COMMIT;
BEGIN;
INSERT INTO f2 VALUES (500);
INSERT INTO p VALUES (500, 0);
UPDATE p SET x = 1 WHERE id = 500;
COMMIT;
SELECT * FROM f2;
DELETE FROM p WHERE id = 500;

-- deferred unique and exclusion constraints
CREATE TABLE m6 (id int UNIQUE DEFERRABLE INITIALLY DEFERRED, n int);
INSERT INTO m6 SELECT g, g FROM generate_series(1, 10) g;
UPDATE m6 SET id = id + 1;
BEGIN;
INSERT INTO m6 VALUES (5, 0);
UPDATE m6 SET n = n + 1;
COMMIT;
SELECT count(*), sum(id), sum(n) FROM m6;
CREATE TABLE m7 (r int4range, n int, EXCLUDE USING gist (r WITH &&) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO m7 VALUES ('[1,5)', 1), ('[5,9)', 2);
BEGIN;
UPDATE m7 SET n = n + 1;
INSERT INTO m7 VALUES ('[3,4)', 3);
UPDATE m7 SET n = n + 1;
DELETE FROM m7 WHERE r = '[1,5)';
COMMIT;
INSERT INTO m7 VALUES ('[8,12)', 3);
SELECT * FROM m7 ORDER BY r;

-- partitions: rows that move
CREATE TABLE mp (id int, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE mp1 PARTITION OF mp FOR VALUES FROM (0) TO (100);
CREATE TABLE mp2 PARTITION OF mp FOR VALUES FROM (100) TO (200);
INSERT INTO mp SELECT g, g FROM generate_series(0, 199, 10) g;
UPDATE mp SET id = id + 55 WHERE id < 100;
SELECT tableoid::regclass, count(*), sum(id), sum(n) FROM mp GROUP BY 1 ORDER BY 1;

-- long values
CREATE TABLE mt (id int PRIMARY KEY, n int, t text, u text);
ALTER TABLE mt ALTER t SET STORAGE EXTERNAL, ALTER u SET STORAGE EXTERNAL;
INSERT INTO mt SELECT g, g, repeat('abc' || g, 3000), repeat('x', 100) FROM generate_series(1, 20) g;
UPDATE mt SET n = n + 1;
UPDATE mt SET u = repeat('y', 5000) WHERE id <= 10;
UPDATE mt SET t = 'short' WHERE id % 2 = 0;
SELECT id, n, length(t), md5(t), length(u) FROM mt ORDER BY id;
BEGIN;
UPDATE mt SET t = repeat('z', 10000);
DELETE FROM mt WHERE id < 5;
ROLLBACK;
SELECT sum(length(t)), sum(length(u)) FROM mt;
INSERT INTO mt VALUES (1, 1, repeat('q', 9000), '') ON CONFLICT (id) DO UPDATE SET t = excluded.t || mt.t;
SELECT length(t) FROM mt WHERE id = 1;
DELETE FROM mt WHERE id > 3;
SELECT sum(length(t)), sum(length(u)) FROM mt;

-- copy: many rows to a record, frozen and not
CREATE TABLE mc (id int, t text);
COPY mc FROM PROGRAM 'seq 1 20000 | awk ''{print $1 "\trow number " $1}''';
SELECT count(*), sum(id), sum(length(t)) FROM mc;
BEGIN;
TRUNCATE mc;
COPY mc FROM PROGRAM 'seq 1 3000 | awk ''{print $1 "\trow number " $1}''' WITH (FREEZE);
COMMIT;
SELECT count(*), sum(id), sum(length(t)) FROM mc;
SET lightning.wal_compression = 'zstd';
COPY mc FROM PROGRAM 'seq 1 3000 | awk ''{print $1 "\trow number " $1}''';
SET lightning.wal_compression = 'none';
COPY mc FROM PROGRAM 'seq 1 3000 | awk ''{print $1 "\trow number " $1}''';
RESET lightning.wal_compression;
SELECT count(*), sum(id), sum(length(t)) FROM mc;

-- unlogged and temporary tables
CREATE UNLOGGED TABLE mu (id int PRIMARY KEY, n int);
CREATE TEMP TABLE mtemp (id int PRIMARY KEY, n int);
INSERT INTO mu SELECT g, g FROM generate_series(1, 100) g;
INSERT INTO mtemp SELECT g, g FROM generate_series(1, 100) g;
UPDATE mu SET n = n + 1 WHERE id % 2 = 0;
UPDATE mtemp SET id = id + 100 WHERE id % 2 = 0;
DELETE FROM mu WHERE id < 10;
DELETE FROM mtemp WHERE id < 10;
SELECT count(*), sum(n) FROM mu;
SELECT count(*), sum(id) FROM mtemp;

-- without in-place updates
SET lightning.inplace_update = off;
UPDATE m3 SET n = n + 1;
UPDATE m3 SET n = n + 1;
RESET lightning.inplace_update;
UPDATE m3 SET n = n + 1;
SELECT count(*), sum(n) FROM m3;

DROP TABLE m1, m2, m3, m4, m5, m6, m7, mp, mt, mc, mu, mtemp, f, f2, p;
DROP FUNCTION m4_trig(), m4_stmt(), m5_trig();
