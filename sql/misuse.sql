-- Wrong use gets what heap gives: the same SQLSTATE, message, detail and hint.
-- Each statement runs on twins, "h.t" and "l.t", and only differences are shown.
CREATE SCHEMA h;
CREATE SCHEMA l;
CREATE TABLE said (n serial, am text, statement text, state text, message text, detail text, hint text,
	schema_name text, table_name text, column_name text, constraint_name text);
CREATE FUNCTION set_up(am text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET LOCAL default_table_access_method = %I', am);
	CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL, n int CHECK (n > 0), g int GENERATED ALWAYS AS (n * 2) STORED,
		i int GENERATED ALWAYS AS IDENTITY, EXCLUDE USING gist (box(point(id, id), point(id, id)) WITH &&));
	CREATE TABLE child (id int REFERENCES t ON DELETE RESTRICT, u int UNIQUE DEFERRABLE);
	CREATE TABLE parted (k int, v text) PARTITION BY LIST (k);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
	CREATE UNLOGGED TABLE unl (id int PRIMARY KEY);
	CREATE MATERIALIZED VIEW mv AS SELECT 1 AS id WITH NO DATA;
	CREATE MATERIALIZED VIEW mv2 AS SELECT 1 AS id;
	CREATE VIEW vw AS SELECT count(*) FROM t;
	CREATE TABLE rls (id int);
	ALTER TABLE rls ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
	CREATE TABLE secret (id int, hidden int);
	GRANT SELECT (id) ON secret TO regress_misuse;
	EXECUTE format('GRANT USAGE ON SCHEMA %I TO regress_misuse', current_schema());
	INSERT INTO t (id, v, n) VALUES (1, 'one', 1), (2, 'two', 2);
	INSERT INTO child VALUES (1, 1);
	INSERT INTO parted VALUES (1, 'p');
END $$;
CREATE ROLE regress_misuse;
SET search_path = h, public;
SELECT set_up('heap');
SET search_path = l, public;
SELECT set_up('lightning');
SET search_path = public;
CREATE FUNCTION try(am text, schema text, statement text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	r said;
BEGIN
	r.am := am;
	r.statement := statement;
	r.state := '00000';
	PERFORM set_config('search_path', schema || ', public', true);
	BEGIN
		EXECUTE statement;
		SET CONSTRAINTS ALL IMMEDIATE;
		RAISE EXCEPTION USING ERRCODE = 'P9999';
	EXCEPTION
		WHEN SQLSTATE 'P9999' THEN NULL;
		WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS r.state = RETURNED_SQLSTATE, r.message = MESSAGE_TEXT, r.detail = PG_EXCEPTION_DETAIL,
				r.hint = PG_EXCEPTION_HINT, r.schema_name = SCHEMA_NAME, r.table_name = TABLE_NAME,
				r.column_name = COLUMN_NAME, r.constraint_name = CONSTRAINT_NAME;
	END;
	r.schema_name := replace(r.schema_name, schema, 's');
	r.message := replace(r.message, schema || '.', 's.');
	INSERT INTO said (am, statement, state, message, detail, hint, schema_name, table_name, column_name, constraint_name)
		VALUES (r.am, r.statement, r.state, r.message, r.detail, r.hint, r.schema_name, r.table_name, r.column_name, r.constraint_name);
END $$;
CREATE TABLE statement (n serial, s text);
INSERT INTO statement (s) VALUES
	-- constraints
	('INSERT INTO t (id, v) VALUES (1, ''again'')'),
	('INSERT INTO t (id) VALUES (3)'),
	('INSERT INTO t (id, v, n) VALUES (3, ''x'', -1)'),
	('UPDATE t SET n = 0'),
	('UPDATE t SET v = NULL WHERE id = 1'),
	('UPDATE t SET id = 2 WHERE id = 1'),
	('UPDATE t SET id = id + 1'),
	('DELETE FROM t WHERE id = 1'),
	('UPDATE t SET id = 9 WHERE id = 1'),
	('INSERT INTO child VALUES (99)'),
	('INSERT INTO child VALUES (2, 1)'),
	('INSERT INTO t (id, v, g) VALUES (3, ''x'', 1)'),
	('INSERT INTO t (id, v, i) VALUES (3, ''x'', 1)'),
	('UPDATE t SET g = 1'),
	('UPDATE t SET i = 7'),
	('INSERT INTO t (id, v) VALUES (4, ''a''), (4, ''b'') ON CONFLICT (id) DO UPDATE SET v = ''c'''),
	('INSERT INTO t (id, v) VALUES (4, ''a'') ON CONFLICT (n) DO NOTHING'),
	('INSERT INTO parted VALUES (2)'),
	('UPDATE parted SET k = 2'),
	('INSERT INTO parted_1 VALUES (3)'),
	('MERGE INTO t USING (VALUES (1), (1)) x (id) ON t.id = x.id WHEN MATCHED THEN UPDATE SET v = ''m'''),
	('MERGE INTO t USING t AS x ON true WHEN MATCHED THEN DELETE'),
	('SET CONSTRAINTS ALL DEFERRED; INSERT INTO child VALUES (2, 1)'),
	-- values
	('INSERT INTO t VALUES (''x'', ''y'')'),
	('INSERT INTO t (id, v) VALUES (99999999999, ''y'')'),
	('INSERT INTO t (id, v) SELECT 1 / 0, ''x'''),
	('INSERT INTO t (id, v) VALUES (1)'),
	('INSERT INTO t (id, nosuch) VALUES (1, 1)'),
	('SELECT nosuch FROM t'),
	('SELECT * FROM t WHERE ctid = ''x'''),
	('SELECT * FROM t WHERE ctid = 1'),
	('UPDATE t SET ctid = ''(0,1)'''),
	('UPDATE t SET xmin = 1'),
	('INSERT INTO t (ctid) VALUES (''(0,1)'')'),
	('SELECT currtid2(''vw'', ''(0,1)'')'),
	('SELECT currtid2(''parted'', ''(0,1)'')'),
	('SELECT currtid2(''t'', ''(5000,1)'')'),
	-- locking
	('SELECT count(*) FROM t FOR UPDATE'),
	('SELECT DISTINCT v FROM t FOR UPDATE'),
	('SELECT * FROM vw FOR UPDATE'),
	('SELECT * FROM mv2 FOR UPDATE'),
	('SELECT * FROM t UNION SELECT * FROM t FOR UPDATE'),
	('SELECT * FROM t FOR UPDATE OF nosuch'),
	('LOCK TABLE t IN NOSUCH MODE'),
	('DECLARE c SCROLL CURSOR FOR SELECT * FROM t FOR UPDATE'),
	('UPDATE t SET n = 1 WHERE CURRENT OF nosuch'),
	('DECLARE c CURSOR FOR SELECT count(*) FROM t; UPDATE t SET n = 1 WHERE CURRENT OF c'),
	('DECLARE c CURSOR FOR SELECT * FROM t; UPDATE t SET n = 1 WHERE CURRENT OF c'),
	-- definitions
	('ALTER TABLE t ADD COLUMN v int'),
	('ALTER TABLE t DROP COLUMN nosuch'),
	('ALTER TABLE t ADD COLUMN z int NOT NULL'),
	('ALTER TABLE t ALTER COLUMN v TYPE int'),
	('ALTER TABLE t ALTER COLUMN n SET NOT NULL, ADD CHECK (n > 1)'),
	('ALTER TABLE t ADD CHECK (n > 100)'),
	('ALTER TABLE t ADD PRIMARY KEY (n)'),
	('ALTER TABLE t SET ACCESS METHOD nosuch'),
	('ALTER TABLE vw SET ACCESS METHOD heap'),
	('ALTER TABLE t SET (nosuch = 1)'),
	('ALTER TABLE t SET (fillfactor = 1)'),
	('ALTER TABLE t SET TABLESPACE nosuch'),
	('ALTER TABLE t SET TABLESPACE pg_global'),
	('ALTER TABLE t SET UNLOGGED'),
	('ALTER TABLE unl ADD FOREIGN KEY (id) REFERENCES t; ALTER TABLE unl SET LOGGED; ALTER TABLE t SET UNLOGGED'),
	('ALTER TABLE t CLUSTER ON nosuch'),
	('CLUSTER t'),
	('CLUSTER t USING child_u_key'),
	('CLUSTER parted'),
	('CREATE TABLE t (id int)'),
	('CREATE INDEX ON t (nosuch)'),
	('CREATE INDEX ON t USING nosuch (id)'),
	('CREATE INDEX ON t USING gin (id)'),
	('CREATE INDEX ON t USING hash (id, n)'),
	('CREATE UNIQUE INDEX ON t USING brin (id)'),
	('CREATE UNIQUE INDEX ON t ((1))'),
	('CREATE INDEX CONCURRENTLY ON t (v)'),
	('CREATE INDEX ON t ((random()))'),
	('CREATE INDEX ON t (id) WHERE count(*) > 1'),
	('CREATE INDEX ON vw (count)'),
	('REINDEX TABLE CONCURRENTLY t'),
	('REINDEX INDEX t'),
	('DROP TABLE t'),
	('DROP INDEX t_pkey'),
	('TRUNCATE t'),
	('TRUNCATE vw'),
	('VACUUM t'),
	('CREATE TABLE t2 (a int) USING nosuch'),
	('CREATE TABLE t2 (a int) WITH (nosuch = 1)'),
	('CREATE TABLE t2 (a int) WITH (fillfactor = 5)'),
	('CREATE TABLE t2 (a int, a int)'),
	('CREATE TABLE t2 (a int REFERENCES t (v))'),
	('CREATE TABLE t2 (LIKE nosuch)'),
	('CREATE TABLE t2 () INHERITS (nosuch)'),
	('CREATE TABLE t2 PARTITION OF t FOR VALUES IN (1)'),
	('CREATE TABLE t2 PARTITION OF parted FOR VALUES IN (1)'),
	('ALTER TABLE parted ATTACH PARTITION t FOR VALUES IN (5)'),
	('ALTER TABLE parted DETACH PARTITION t'),
	('ALTER TABLE parted DETACH PARTITION parted_1 CONCURRENTLY'),
	('ALTER SEQUENCE t_i_seq OWNED BY child.id'),
	('CREATE RULE r AS ON INSERT TO t DO INSTEAD SELECT 1; INSERT INTO t VALUES (1) RETURNING *'),
	('CREATE TRIGGER tr INSTEAD OF INSERT ON t FOR EACH ROW EXECUTE FUNCTION nosuch()'),
	('CREATE TRIGGER tr AFTER INSERT ON t EXECUTE FUNCTION int4in()'),
	-- materialised views
	('SELECT * FROM mv'),
	('INSERT INTO mv2 VALUES (1)'),
	('DELETE FROM mv2'),
	('TRUNCATE mv2'),
	('REFRESH MATERIALIZED VIEW t'),
	('REFRESH MATERIALIZED VIEW CONCURRENTLY mv2'),
	('REFRESH MATERIALIZED VIEW CONCURRENTLY mv'),
	-- rights
	('SET LOCAL ROLE regress_misuse; SELECT * FROM t'),
	('SET LOCAL ROLE regress_misuse; UPDATE t SET v = 1'),
	('SET LOCAL ROLE regress_misuse; SELECT hidden FROM secret'),
	('SET LOCAL ROLE regress_misuse; SELECT id FROM secret FOR UPDATE'),
	('SET LOCAL ROLE regress_misuse; TRUNCATE t'),
	('SET LOCAL ROLE regress_misuse; DROP TABLE secret'),
	('SET LOCAL row_security = off; GRANT ALL ON rls TO regress_misuse; SET LOCAL ROLE regress_misuse; SELECT * FROM rls'),
	('GRANT ALL ON rls TO regress_misuse; SET LOCAL ROLE regress_misuse; INSERT INTO rls VALUES (1)'),
	-- other
	('SELECT * FROM t TABLESAMPLE nosuch (1)'),
	('SELECT * FROM t TABLESAMPLE bernoulli (-1)'),
	('SELECT * FROM vw TABLESAMPLE system (10)'),
	('COPY t FROM ''/nosuch'''),
	('COPY t (nosuch) TO ''/nosuch'''),
	('COPY child FROM PROGRAM ''echo 99,5'' WITH (FORMAT csv)'),
	('COPY child FROM PROGRAM ''echo x,5'' WITH (FORMAT csv)'),
	('COPY child FROM PROGRAM ''echo 1,5'' WITH (FORMAT csv, FREEZE)'),
	('ANALYZE t (nosuch)'),
	('CREATE STATISTICS s ON id FROM t'),
	('COMMENT ON COLUMN t.nosuch IS ''x'''),
	('SET TRANSACTION READ ONLY; UPDATE t SET n = 1'),
	('SELECT pg_relation_size(''t'', ''nosuch'')'),
	('SELECT brin_summarize_new_values(''t_pkey'')'),
	('SELECT gin_clean_pending_list(''t_pkey'')'),
	('ALTER TABLE t REPLICA IDENTITY USING INDEX child_u_key');
DO $$
DECLARE
	x record;
BEGIN
	FOR x IN SELECT s FROM statement ORDER BY n LOOP
		PERFORM try('heap', 'h', x.s);
		PERFORM try('lightning', 'l', x.s);
	END LOOP;
END $$;
SET search_path = public;
-- those that heap does not mind either are few
SELECT count(*) AS statements, count(*) FILTER (WHERE state <> '00000') AS refused FROM said WHERE am = 'heap';
SELECT statement, a.state, b.state AS lightning_state, a.message, b.message AS lightning_message, a.hint, b.hint AS lightning_hint
FROM said a JOIN said b USING (statement)
WHERE a.am = 'heap' AND b.am = 'lightning' AND
	(a.state, a.message, a.detail, a.hint, a.schema_name, a.table_name, a.column_name, a.constraint_name) IS DISTINCT FROM
	(b.state, b.message, replace(b.detail, 'l.', 'h.'), b.hint, b.schema_name, b.table_name, b.column_name, b.constraint_name)
ORDER BY a.n;
SET client_min_messages = warning;
DROP SCHEMA h CASCADE;
DROP SCHEMA l CASCADE;
DROP ROLE regress_misuse;
DROP TABLE said, statement;
DROP FUNCTION set_up, try;
