--
-- Cursors, and rows named by their place.  What is printed is what heap prints.
--
SET default_table_access_method = lightning;
CREATE TABLE cur (id int PRIMARY KEY, t text, n int);
CREATE INDEX cur_n ON cur (n);
INSERT INTO cur SELECT i, 'row ' || i, i * 10 FROM generate_series(1, 1000) i;
DELETE FROM cur WHERE id % 100 = 50;
UPDATE cur SET t = t || '!' WHERE id % 7 = 0;

-- forward, backward, over the ends
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id, t FROM cur WHERE id < 20 ORDER BY ctid;
SELECT count(*) FROM cur;
FETCH 3 FROM c;
FETCH BACKWARD 2 FROM c;
FETCH BACKWARD 5 FROM c;
FETCH FORWARD 1 FROM c;
FETCH LAST FROM c;
FETCH FORWARD 2 FROM c;
FETCH BACKWARD 3 FROM c;
FETCH ABSOLUTE 7 FROM c;
FETCH RELATIVE -3 FROM c;
FETCH FIRST FROM c;
MOVE FORWARD ALL IN c;
FETCH BACKWARD ALL FROM c;
FETCH 0 FROM c;
CLOSE c;
-- a plain sequential scan, backwards through all of it
SET LOCAL enable_indexscan = off;
SET LOCAL enable_bitmapscan = off;
DECLARE s SCROLL CURSOR FOR SELECT id FROM cur WHERE t LIKE '%!';
MOVE ALL IN s;
FETCH BACKWARD 3 FROM s;
FETCH FORWARD 2 FROM s;
FETCH ABSOLUTE -1 FROM s;
FETCH ABSOLUTE 1000 FROM s;
CLOSE s;
-- by index
SET LOCAL enable_indexscan = on;
SET LOCAL enable_seqscan = off;
DECLARE i SCROLL CURSOR FOR SELECT id, n FROM cur WHERE n BETWEEN 500 AND 560 ORDER BY n;
FETCH ALL FROM i;
FETCH BACKWARD ALL FROM i;
FETCH FORWARD 2 FROM i;
FETCH BACKWARD 1 FROM i;
CLOSE i;
SET LOCAL enable_indexscan = off;
SET LOCAL enable_bitmapscan = on;
DECLARE b SCROLL CURSOR FOR SELECT id, n FROM cur WHERE n BETWEEN 500 AND 560;
FETCH ALL FROM b;
FETCH BACKWARD ALL FROM b;
COMMIT;

-- by TID
BEGIN;
DECLARE t SCROLL CURSOR FOR SELECT id FROM cur
	WHERE ctid = ANY (ARRAY(SELECT ctid FROM cur WHERE id IN (3, 5, 9)));
FETCH ALL FROM t;
FETCH BACKWARD 2 FROM t;
COMMIT;

-- what a cursor sees stays as it was; what it stands on can be changed
BEGIN;
DECLARE c CURSOR FOR SELECT id, t FROM cur WHERE id <= 5 FOR UPDATE;
FETCH 2 FROM c;
UPDATE cur SET t = 'by cursor' WHERE CURRENT OF c;
FETCH 1 FROM c;
DELETE FROM cur WHERE CURRENT OF c;
UPDATE cur SET t = 'gone' WHERE CURRENT OF c;
FETCH 1 FROM c;
UPDATE cur SET n = -1 WHERE CURRENT OF c;
UPDATE cur SET n = -2 WHERE CURRENT OF c;
SELECT * FROM cur WHERE id <= 5 ORDER BY id;
COMMIT;
SELECT * FROM cur WHERE id <= 5 ORDER BY id;
BEGIN;
DECLARE c CURSOR FOR SELECT id, t FROM cur WHERE id BETWEEN 10 AND 14;
UPDATE cur SET t = 'changed before' WHERE id = 11;
FETCH 2 FROM c;
UPDATE cur SET t = t || ', then by cursor' WHERE CURRENT OF c;
FETCH 1 FROM c;
UPDATE cur SET n = n + 1 WHERE CURRENT OF c RETURNING id, n;
FETCH 5 FROM c;
ROLLBACK TO SAVEPOINT none;
ROLLBACK;
-- without FOR UPDATE, a row that moved meanwhile is followed
BEGIN;
DECLARE c CURSOR FOR SELECT id, n FROM cur WHERE id = 20;
FETCH 1 FROM c;
UPDATE cur SET n = 12345 WHERE id = 20;
UPDATE cur SET t = 'after a move' WHERE CURRENT OF c;
SELECT * FROM cur WHERE id = 20;
SAVEPOINT s;
DELETE FROM cur WHERE CURRENT OF c;
SELECT * FROM cur WHERE id = 20;
ROLLBACK TO s;
SELECT * FROM cur WHERE id = 20;
DELETE FROM cur WHERE CURRENT OF c RETURNING *;
COMMIT;
-- index-only scans have no row to stand on
BEGIN;
DECLARE c CURSOR FOR SELECT n FROM cur WHERE n = 210;
FETCH c;
UPDATE cur SET t = 'twenty-one' WHERE CURRENT OF c;
SELECT * FROM cur WHERE id = 21;
ROLLBACK;

-- held over the end of the transaction, and over changes
BEGIN;
DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT id, t FROM cur WHERE id BETWEEN 30 AND 35;
FETCH 2 FROM h;
COMMIT;
DELETE FROM cur WHERE id BETWEEN 30 AND 35;
VACUUM cur;
FETCH ALL FROM h;
FETCH BACKWARD 3 FROM h;
UPDATE cur SET t = 'x' WHERE CURRENT OF h;
CLOSE h;
BEGIN;
DECLARE c INSENSITIVE SCROLL CURSOR FOR SELECT count(*) OVER (), id FROM cur WHERE id BETWEEN 100 AND 104;
FETCH ALL FROM c;
INSERT INTO cur VALUES (1001, 'late', 0);
DELETE FROM cur WHERE id = 102;
MOVE ABSOLUTE 0 IN c;
FETCH ALL FROM c;
ROLLBACK;
DO $$
DECLARE
	c CURSOR FOR SELECT * FROM cur WHERE id BETWEEN 200 AND 205 FOR UPDATE;
	n int := 0;
BEGIN
	FOR r IN c LOOP
		UPDATE cur SET t = 'loop ' || r.id WHERE CURRENT OF c;
		n := n + 1;
	END LOOP;
	RAISE NOTICE '% rows', n;
END $$;
SELECT id, t FROM cur WHERE id BETWEEN 200 AND 205 ORDER BY id;

-- update and delete by ctid
UPDATE cur SET t = 'by ctid' WHERE ctid = (SELECT ctid FROM cur WHERE id = 300);
UPDATE cur SET n = 3001 WHERE ctid = (SELECT ctid FROM cur WHERE id = 300) RETURNING id, t, n;
WITH u AS (UPDATE cur SET t = t || ', again' WHERE ctid IN (SELECT ctid FROM cur WHERE id BETWEEN 300 AND 302) RETURNING id, t)
SELECT * FROM u ORDER BY id;
DELETE FROM cur WHERE ctid = ANY (ARRAY(SELECT ctid FROM cur WHERE id BETWEEN 303 AND 305)) RETURNING id;
WITH upd AS (UPDATE cur SET t = 'ret' WHERE id = 306 RETURNING ctid, id)
SELECT count(*) FROM upd;
SELECT count(*) FROM cur a JOIN cur b ON a.ctid = b.ctid;
SELECT count(*) FROM cur WHERE ctid = '(0,0)';
SELECT count(*) FROM cur WHERE ctid = '(4294967295,1)';
SELECT count(*) FROM cur WHERE ctid = '(1000000,1)';
SELECT count(*) FROM cur WHERE ctid > '(0,0)';
SELECT count(*) FROM cur WHERE ctid >= '(0,0)' AND ctid < '(4000000,1)';
SELECT count(*) FROM cur WHERE ctid <= (SELECT max(ctid) FROM cur);
SELECT count(*) FROM cur WHERE ctid < (SELECT min(ctid) FROM cur);
-- a ctid that is not the row's any more leads nowhere
BEGIN;
SELECT ctid AS old FROM cur WHERE id = 307 \gset
UPDATE cur SET n = -307 WHERE id = 307;
SELECT count(*) FROM cur WHERE ctid = :'old';
UPDATE cur SET t = 'never' WHERE ctid = :'old';
SELECT currtid2('cur', :'old') = ctid AS current FROM cur WHERE id = 307;
COMMIT;

-- xmin, xmax, cmin, tableoid
BEGIN;
INSERT INTO cur VALUES (2000, 'mine', 0) RETURNING xmin = pg_current_xact_id()::xid AS mine, tableoid::regclass;
SELECT xmin = pg_current_xact_id()::xid AS mine, cmin, xmax FROM cur WHERE id = 2000;
UPDATE cur SET t = 'upd' WHERE id = 2000 RETURNING xmin = pg_current_xact_id()::xid AS mine, xmax = 0 AS no_xmax;
COMMIT;
SELECT xmin <> 0 AS known, xmin = (SELECT xmin FROM cur WHERE id = 2000) AS same FROM cur WHERE id = 2000;
-- the idiom of object-relational mappers: only if nobody changed it
SELECT xmin AS version FROM cur WHERE id = 400 \gset
UPDATE cur SET t = 'first' WHERE id = 400 AND xmin = :'version';
UPDATE cur SET t = 'second' WHERE id = 400 AND xmin = :'version';
SELECT t FROM cur WHERE id = 400;
-- was it inserted or updated
INSERT INTO cur VALUES (400, 'conflict', 1) ON CONFLICT (id) DO UPDATE SET n = excluded.n RETURNING (xmax = 0) AS inserted;
INSERT INTO cur VALUES (3000, 'no conflict', 1) ON CONFLICT (id) DO UPDATE SET n = excluded.n RETURNING (xmax = 0) AS inserted;
DROP TABLE cur;
