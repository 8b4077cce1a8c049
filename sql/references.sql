--
-- Foreign keys, by each action and each way to check them.  All of it is done
-- twice, on heap and on lightning, and the two tables of pairs are compared; what
-- is refused must be refused by both.
--
CREATE SCHEMA ref_heap;
CREATE SCHEMA ref_lt;

-- Does a statement in both schemas; says what came of it once if it is the same.
CREATE FUNCTION ref_do(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text[] := '{}';
	state text;
	detail text;
	n bigint;
	kind text;
BEGIN
	FOREACH kind IN ARRAY ARRAY['heap', 'lightning'] LOOP
		PERFORM set_config('search_path', CASE kind WHEN 'heap' THEN 'ref_heap' ELSE 'ref_lt' END || ', public', true);
		PERFORM set_config('default_table_access_method', kind, true);
		SET CONSTRAINTS ALL DEFERRED;
		BEGIN
			EXECUTE statement;
			GET DIAGNOSTICS n = ROW_COUNT;
			SET CONSTRAINTS ALL IMMEDIATE;
			said := said || n::text;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL;
			said := said || (state || ' ' || SQLERRM || ' ' || detail);
		END;
	END LOOP;
	IF said[1] <> said[2] THEN
		RETURN format('DIFFER: %s | %s', said[1], said[2]);
	END IF;
	RETURN said[1];
END $$;

CREATE FUNCTION ref_differences() RETURNS TABLE (relation text, rows bigint, differ bigint) LANGUAGE plpgsql AS $$
BEGIN
	FOR relation IN SELECT relname FROM pg_class WHERE relnamespace = 'ref_lt'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname LOOP
		EXECUTE format('SELECT (SELECT count(*) FROM ref_lt.%1$I), (SELECT count(*) FROM ((TABLE ref_lt.%1$I EXCEPT ALL TABLE ref_heap.%1$I) UNION ALL (TABLE ref_heap.%1$I EXCEPT ALL TABLE ref_lt.%1$I)) d)', relation)
			INTO rows, differ;
		RETURN NEXT;
	END LOOP;
END $$;

\pset format unaligned
\pset tuples_only on
-- every action, on UPDATE and on DELETE, each with children in several places
SELECT ref_do($q$CREATE TABLE p (a int, b int, x text, PRIMARY KEY (a, b))$q$);
SELECT ref_do($q$INSERT INTO p SELECT i / 10, i % 10, 'p' || i FROM generate_series(0, 199) i$q$);
SELECT ref_do(format($q$CREATE TABLE c_%1$s (id int PRIMARY KEY, a int DEFAULT 0, b int DEFAULT 0, n int,
	FOREIGN KEY (a, b) REFERENCES p ON UPDATE %2$s ON DELETE %2$s)$q$, replace(lower(k), ' ', '_'), k))
	FROM unnest(ARRAY['CASCADE', 'SET NULL', 'SET DEFAULT', 'RESTRICT', 'NO ACTION']) k;
SELECT ref_do($q$INSERT INTO c_cascade SELECT i, 1 + i % 5, i % 10, i FROM generate_series(1, 500) i$q$);
SELECT ref_do($q$INSERT INTO c_set_null SELECT i, 6 + i % 3, i % 10, i FROM generate_series(1, 300) i$q$);
SELECT ref_do($q$INSERT INTO c_set_default SELECT i, 9 + i % 3, i % 10, i FROM generate_series(1, 300) i$q$);
SELECT ref_do($q$INSERT INTO c_restrict SELECT i, 12 + i % 2, i % 10, i FROM generate_series(1, 200) i$q$);
SELECT ref_do($q$INSERT INTO c_no_action SELECT i, 14 + i % 2, i % 10, i FROM generate_series(1, 200) i$q$);
SELECT ref_do($q$UPDATE p SET a = a + 100 WHERE a = 1$q$);
SELECT ref_do($q$UPDATE p SET a = a + 100, b = b + 50 WHERE a BETWEEN 2 AND 3$q$);
SELECT ref_do($q$UPDATE p SET a = a + 100 WHERE a = 6$q$);
SELECT ref_do($q$UPDATE p SET a = a + 100 WHERE a = 9$q$);
SELECT ref_do($q$UPDATE p SET a = a + 100 WHERE a = 12$q$);
SELECT ref_do($q$UPDATE p SET a = a + 100 WHERE a = 14$q$);
SELECT ref_do($q$UPDATE p SET x = 'same keys'$q$);
SELECT ref_do($q$UPDATE p SET a = a, b = b WHERE a = 12$q$);
SELECT ref_do($q$DELETE FROM p WHERE a = 4 AND b < 5$q$);
SELECT ref_do($q$DELETE FROM p WHERE a = 7$q$);
SELECT ref_do($q$DELETE FROM p WHERE a = 10$q$);
SELECT ref_do($q$DELETE FROM p WHERE a = 13$q$);
SELECT ref_do($q$DELETE FROM p WHERE a = 15 AND b = 3$q$);
SELECT ref_do($q$DELETE FROM p WHERE (a, b) = (0, 0)$q$);
SELECT ref_do($q$INSERT INTO c_cascade VALUES (1000, 77, 77, 0)$q$);
SELECT ref_do($q$UPDATE c_no_action SET a = 77 WHERE id = 1$q$);
SELECT ref_do($q$UPDATE c_no_action SET a = NULL WHERE id = 1$q$);
SELECT * FROM ref_differences();

-- keys that are changed again and again in one transaction, and by a trigger
SELECT ref_do($q$DO $d$ BEGIN
	UPDATE p SET a = a + 1000 WHERE a = 101;
	UPDATE p SET a = a + 1000 WHERE a = 1101;
	UPDATE c_cascade SET n = n + 1 WHERE a = 2101;
	BEGIN
		UPDATE p SET a = 5 WHERE a = 2101;
	EXCEPTION WHEN unique_violation THEN NULL;
	END;
	UPDATE p SET b = b + 10 WHERE a = 2101;
	DELETE FROM p WHERE a = 2101 AND b = 11;
END $d$$q$);
SELECT ref_do($q$CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN NEW.n := NEW.n + 1; RETURN NEW; END $f$$q$);
SELECT ref_do($q$CREATE TRIGGER up BEFORE UPDATE ON c_cascade FOR EACH ROW EXECUTE FUNCTION up()$q$);
SELECT ref_do($q$UPDATE p SET a = a + 1 WHERE a = 2101$q$);
SELECT * FROM ref_differences();

-- a table that refers to itself
SELECT ref_do($q$CREATE TABLE s (id int PRIMARY KEY, up int REFERENCES s ON UPDATE CASCADE ON DELETE CASCADE DEFERRABLE)$q$);
SELECT ref_do($q$INSERT INTO s SELECT i, nullif(i / 2, 0) FROM generate_series(1, 300) i$q$);
SELECT ref_do($q$UPDATE s SET id = id + 1000 WHERE id = 2$q$);
SELECT ref_do($q$UPDATE s SET id = id + 1000 WHERE id < 1000$q$);
SELECT ref_do($q$DELETE FROM s WHERE id = 1003$q$);
SELECT ref_do($q$INSERT INTO s VALUES (7, 8), (8, 7)$q$);
SELECT ref_do($q$DELETE FROM s WHERE id = 7$q$);
SELECT * FROM ref_differences();

-- checked at commit, NOT VALID, MATCH FULL, and columns that SET NULL names
SELECT ref_do($q$CREATE TABLE q (id int PRIMARY KEY)$q$);
SELECT ref_do($q$CREATE TABLE d (id int PRIMARY KEY, q int REFERENCES q DEFERRABLE INITIALLY DEFERRED)$q$);
SELECT ref_do($q$INSERT INTO d SELECT i, i FROM generate_series(1, 50) i$q$);
SELECT ref_do($q$DO $d$ BEGIN
	INSERT INTO d SELECT i, i FROM generate_series(1, 50) i;
	UPDATE d SET q = q + 1;
	INSERT INTO q SELECT i FROM generate_series(1, 51) i;
	UPDATE d SET q = q - 1;
	DELETE FROM q WHERE id = 51;
END $d$$q$);
SELECT ref_do($q$DELETE FROM q WHERE id = 9$q$);
SELECT ref_do($q$DO $d$ BEGIN DELETE FROM q WHERE id = 9; INSERT INTO q VALUES (9); END $d$$q$);
SELECT ref_do($q$CREATE TABLE late (id int, q int)$q$);
SELECT ref_do($q$INSERT INTO late SELECT i, i FROM generate_series(1, 60) i$q$);
SELECT ref_do($q$ALTER TABLE late ADD FOREIGN KEY (q) REFERENCES q$q$);
SELECT ref_do($q$ALTER TABLE late ADD CONSTRAINT late_q FOREIGN KEY (q) REFERENCES q NOT VALID$q$);
SELECT ref_do($q$ALTER TABLE late VALIDATE CONSTRAINT late_q$q$);
SELECT ref_do($q$DELETE FROM late WHERE q > 50$q$);
SELECT ref_do($q$ALTER TABLE late VALIDATE CONSTRAINT late_q$q$);
SELECT ref_do($q$CREATE TABLE m (id int, a int, b int, FOREIGN KEY (a, b) REFERENCES p MATCH FULL ON DELETE SET NULL)$q$);
SELECT ref_do($q$INSERT INTO m VALUES (1, 8, NULL)$q$);
SELECT ref_do($q$INSERT INTO m VALUES (1, 16, 0), (2, NULL, NULL)$q$);
SELECT ref_do($q$CREATE TABLE o (id int, a int, b int, FOREIGN KEY (a, b) REFERENCES p ON DELETE SET NULL (b))$q$);
SELECT ref_do($q$INSERT INTO o VALUES (1, 16, 0), (2, 16, 1)$q$);
SELECT ref_do($q$DELETE FROM p WHERE a = 16$q$);
SELECT * FROM ref_differences();

-- partitions on either side
SELECT ref_do($q$CREATE TABLE pp (id int PRIMARY KEY, x int) PARTITION BY RANGE (id)$q$);
SELECT ref_do($q$CREATE TABLE pp1 PARTITION OF pp FOR VALUES FROM (0) TO (100)$q$);
SELECT ref_do($q$CREATE TABLE pp2 PARTITION OF pp FOR VALUES FROM (100) TO (200)$q$);
SELECT ref_do($q$CREATE TABLE pc (id int, pid int REFERENCES pp ON UPDATE CASCADE ON DELETE SET NULL) PARTITION BY HASH (id)$q$);
SELECT ref_do($q$CREATE TABLE pc0 PARTITION OF pc FOR VALUES WITH (MODULUS 2, REMAINDER 0)$q$);
SELECT ref_do($q$CREATE TABLE pc1 PARTITION OF pc FOR VALUES WITH (MODULUS 2, REMAINDER 1)$q$);
SELECT ref_do($q$INSERT INTO pp SELECT i, i FROM generate_series(0, 199) i$q$);
SELECT ref_do($q$INSERT INTO pc SELECT i, i % 200 FROM generate_series(1, 400) i$q$);
SELECT ref_do($q$UPDATE pp SET id = 199 - id WHERE id IN (42, 157)$q$);
SELECT ref_do($q$DELETE FROM pp WHERE id = 20$q$);
SELECT ref_do($q$UPDATE pp SET id = 20 WHERE id = 21$q$);
SELECT ref_do($q$DELETE FROM pp WHERE id = 150$q$);
SELECT ref_do($q$UPDATE pp SET id = 150 WHERE id = 30$q$);
SELECT ref_do($q$INSERT INTO pc VALUES (1000, 30)$q$);
SELECT ref_do($q$UPDATE pc SET pid = NULL WHERE pid > 150$q$);
SELECT ref_do($q$DELETE FROM pc WHERE pid BETWEEN 100 AND 149$q$);
SELECT ref_do($q$ALTER TABLE pp DETACH PARTITION pp2$q$);
SELECT ref_do($q$DELETE FROM pc WHERE pid = 150$q$);
SELECT ref_do($q$ALTER TABLE pp DETACH PARTITION pp2$q$);
SELECT * FROM ref_differences();
SELECT ref_do($q$TRUNCATE pp$q$);
SELECT ref_do($q$TRUNCATE pp, pc$q$);
SELECT * FROM ref_differences();

-- pairs of one engine and the other
CREATE TABLE ref_p_lt (id int PRIMARY KEY) USING lightning;
CREATE TABLE ref_c_heap (id int REFERENCES ref_p_lt ON UPDATE CASCADE ON DELETE CASCADE) USING heap;
CREATE TABLE ref_p_heap (id int PRIMARY KEY) USING heap;
CREATE TABLE ref_c_lt (id int REFERENCES ref_p_heap ON UPDATE CASCADE ON DELETE CASCADE) USING lightning;
INSERT INTO ref_p_lt SELECT generate_series(1, 100);
INSERT INTO ref_p_heap SELECT generate_series(1, 100);
INSERT INTO ref_c_heap SELECT 1 + i % 100 FROM generate_series(1, 300) i;
INSERT INTO ref_c_lt SELECT 1 + i % 100 FROM generate_series(1, 300) i;
UPDATE ref_p_lt SET id = id + 100 WHERE id % 2 = 0;
UPDATE ref_p_heap SET id = id + 100 WHERE id % 2 = 0;
DELETE FROM ref_p_lt WHERE id % 5 = 0;
DELETE FROM ref_p_heap WHERE id % 5 = 0;
SELECT count(*), sum(id) FROM ref_c_heap;
SELECT count(*), sum(id) FROM ref_c_lt;
DROP TABLE ref_c_heap, ref_c_lt, ref_p_lt, ref_p_heap;

\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA ref_heap CASCADE;
DROP SCHEMA ref_lt CASCADE;
DROP FUNCTION ref_do(text);
DROP FUNCTION ref_differences();
