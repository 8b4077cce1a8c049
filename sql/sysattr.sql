-- System columns of rows that a statement has just changed.
SET default_table_access_method = lightning;
CREATE TABLE sa (a int, b int, c text) PARTITION BY LIST (a);
CREATE TABLE sa1 PARTITION OF sa FOR VALUES IN (1);
CREATE TABLE sa2 PARTITION OF sa FOR VALUES IN (2);
INSERT INTO sa VALUES (1, 2, 'two'), (2, 3, 'three') RETURNING a, b, tableoid::regclass;
INSERT INTO sa1 VALUES (1, 1, 'one')
	RETURNING a, b, tableoid::regclass, xmin = pg_current_xact_id()::xid AS xmin_ok, xmax = 0 AS xmax_ok;
UPDATE sa SET c = c || '!' WHERE b = 1
	RETURNING a, b, c, tableoid::regclass, xmin = pg_current_xact_id()::xid AS xmin_ok, xmax = 0 AS xmax_ok;
-- a row that goes to another partition is deleted here and inserted there
UPDATE sa SET a = 2 WHERE b <= 2
	RETURNING a, b, c, tableoid::regclass, xmin = pg_current_xact_id()::xid AS xmin_ok, xmax = 0 AS xmax_ok;
-- the deleter is the old row's xmax
DELETE FROM sa WHERE b <> 2
	RETURNING a, b, c, tableoid::regclass, xmin <> pg_current_xact_id()::xid AS xmin_ok, xmax = pg_current_xact_id()::xid AS xmax_ok;
BEGIN;
SAVEPOINT s;
DELETE FROM sa;
ROLLBACK TO s;
DELETE FROM sa RETURNING b, xmax = pg_current_xact_id()::xid AS xmax_ok;
ROLLBACK;
SELECT a, b, c FROM sa;
DROP TABLE sa;
