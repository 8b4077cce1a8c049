--
-- Trigger functions written in C, which get rows as heap tuples and may return
-- changed ones: the same on both kinds of table.
--
CREATE EXTENSION autoinc;
CREATE EXTENSION insert_username;
CREATE EXTENSION moddatetime;
CREATE EXTENSION tcn;
CREATE SEQUENCE tc_next MINVALUE 5;
CREATE FUNCTION tc_make(am text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE tc_%1$s (id int PRIMARY KEY, n int, who text, changed timestamp, v text, words tsvector, dropped int, long text) USING %1$s', am);
	EXECUTE format('ALTER TABLE tc_%1$s DROP COLUMN dropped', am);
	EXECUTE format('CREATE TRIGGER a_inc BEFORE INSERT OR UPDATE ON tc_%1$s FOR EACH ROW EXECUTE FUNCTION autoinc(n, tc_next)', am);
	EXECUTE format('CREATE TRIGGER b_who BEFORE INSERT OR UPDATE ON tc_%1$s FOR EACH ROW EXECUTE FUNCTION insert_username(who)', am);
	EXECUTE format('CREATE TRIGGER d_words BEFORE INSERT OR UPDATE ON tc_%1$s FOR EACH ROW EXECUTE FUNCTION tsvector_update_trigger(words, ''pg_catalog.simple'', v)', am);
	EXECUTE format('CREATE TRIGGER z_same BEFORE UPDATE ON tc_%1$s FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()', am);
	EXECUTE format('CREATE TRIGGER tcn AFTER INSERT OR UPDATE OR DELETE ON tc_%1$s FOR EACH ROW EXECUTE FUNCTION triggered_change_notification()', am);
END $$;
SELECT tc_make('lightning'), tc_make('heap');

-- each statement on both tables; differences of what it affects are printed
CREATE FUNCTION tc(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	am text;
	n int;
	result text[] = '{}';
BEGIN
	FOREACH am IN ARRAY ARRAY['lightning', 'heap'] LOOP
		PERFORM setval('tc_next', 5);
		BEGIN
			EXECUTE replace(statement, '*', am);
			GET DIAGNOSTICS n = ROW_COUNT;
			result = result || n::text;
		EXCEPTION WHEN OTHERS THEN
			result = result || replace(sqlerrm, am, '*');
		END;
	END LOOP;
	IF result[1] = result[2] THEN
		RETURN result[1];
	END IF;
	RETURN 'DIFFERENT: ' || result::text;
END $$;
CREATE FUNCTION tc_compare() RETURNS TABLE (only_in text, r text) LANGUAGE sql AS $$
	(SELECT 'lightning', t::text FROM tc_lightning t EXCEPT SELECT 'lightning', t::text FROM tc_heap t)
	UNION ALL (SELECT 'heap', t::text FROM tc_heap t EXCEPT SELECT 'heap', t::text FROM tc_lightning t)
$$;
SELECT tc('INSERT INTO tc_* (id, v) SELECT i, ''some words '' || i FROM generate_series(1, 20) i');
SELECT tc('INSERT INTO tc_* (id, n, v, long) VALUES (21, 7, NULL, repeat(md5(''x''), 200)), (22, NULL, ''y'', (SELECT string_agg(md5(i::text), '''') FROM generate_series(1, 300) i))');
SELECT * FROM tc_compare();
SELECT id, n, who = current_user AS who, v, words, length(long) FROM tc_lightning WHERE id IN (1, 21, 22) ORDER BY id;
-- updates that change nothing are suppressed, by the bytes of the row
SELECT tc('UPDATE tc_* SET v = v');
SELECT tc('UPDATE tc_* SET v = v || '''' WHERE id > 20');
SELECT tc('UPDATE tc_* SET long = long || '''' WHERE id > 20');
SELECT tc('UPDATE tc_* SET v = v || ''!'' WHERE id % 2 = 0');
SELECT tc('UPDATE tc_* SET n = 0 WHERE id = 3');
SELECT * FROM tc_compare();
SELECT lightning_compact('tc_lightning');
SELECT tc('UPDATE tc_* SET v = v');
SELECT tc('ALTER TABLE tc_* ADD COLUMN later int DEFAULT 5');
SELECT tc('UPDATE tc_* SET v = v');
SELECT tc('UPDATE tc_* SET later = later WHERE id < 5');
SELECT tc('DELETE FROM tc_* WHERE id IN (2, 4, 21)');
SELECT * FROM tc_compare();
SELECT count(*), min(id), max(id) FROM tc_lightning;
-- a column that C code sets
CREATE TABLE tc_time (id int, at timestamp) USING lightning;
CREATE TRIGGER t BEFORE UPDATE ON tc_time FOR EACH ROW EXECUTE FUNCTION moddatetime(at);
INSERT INTO tc_time VALUES (1, '2000-01-01'), (2, '2000-01-01');
UPDATE tc_time SET id = id + 10 WHERE id = 1;
SELECT id, at > '2001-01-01' AS set FROM tc_time ORDER BY id;
SELECT * FROM lightning_check('tc_lightning');
DROP TABLE tc_lightning, tc_heap, tc_time;
DROP FUNCTION tc_make, tc, tc_compare;
DROP SEQUENCE tc_next;
DROP EXTENSION autoinc, insert_username, moddatetime, tcn;
