--
-- Every index type, of PostgreSQL and of contrib, against a table without any.
-- What is printed is what heap prints.
--
SET default_table_access_method = lightning;
SET jit = off;
CREATE EXTENSION IF NOT EXISTS bloom;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE TABLE it (id int PRIMARY KEY, h text, words tsvector, arr int[], doc jsonb, p point, b box,
	r int4range, day date, n numeric, name text);
INSERT INTO it SELECT i, md5((i % 50)::text), to_tsvector('simple', 'word' || i % 10 || ' and word' || i % 17),
	ARRAY[i % 7, i % 11, i % 13], jsonb_build_object('k', i % 20, 'v', 'x' || i % 3),
	point(i % 40, i / 40), box(point(i, i), point(i + 3, i + 3)), int4range(i * 10, i * 10 + 10),
	date '2020-01-01' + i, i / 3.0, 'name ' || i % 30
FROM generate_series(1, 2000) i;
CREATE TABLE it_plain AS TABLE it;
CREATE UNIQUE INDEX ON it_plain (id);

CREATE FUNCTION it_change(step int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['it', 'it_plain'] LOOP
		EXECUTE format('DELETE FROM %I WHERE id %% 13 = $1', t) USING step;
		EXECUTE format('UPDATE %I SET h = md5(h), words = words || to_tsvector(''simple'', ''extra''),
			arr = arr || 100, doc = doc || ''{"e": 1}'', p = point(p[0] + 1, p[1]),
			b = box(point(0, id), point(1, id + 1)), day = day + 5000, n = n + 100, name = name || ''x'' WHERE id %% 7 = $1', t) USING step;
		EXECUTE format('INSERT INTO %I SELECT id + 100000 * $1, h, words, arr, doc, p, b,
			int4range(id * 10 + 1000000 * $1, id * 10 + 1000000 * $1 + 10), day, n, name
			FROM %I WHERE id <= 2000 AND id %% 29 = $1 ON CONFLICT DO NOTHING', t, t) USING step;
	END LOOP;
END $$;
CREATE FUNCTION it_check() RETURNS TABLE (condition text, rows bigint, index_used bool, same bool) LANGUAGE plpgsql AS $$
DECLARE
	a text; b text; plan text; line text;
BEGIN
	FOREACH condition IN ARRAY ARRAY[
		'h = md5(''7'')', 'h = md5(md5(''8''))', 'h IN (md5(''1''), md5(''2''), ''none'')',
		'words @@ ''word3 & word5''', 'words @@ ''extra''', 'words @@ ''!word1''',
		'arr @> ARRAY[3, 5]', 'arr && ARRAY[100]', 'arr = ARRAY[1, 1, 1]',
		'doc @> ''{"k": 7}''', 'doc ? ''e''', 'doc @@ ''$.k > 17''',
		'p <@ box ''(3,3),(9,9)''', 'p ~= point(7, 7)', 'b && box ''(100,100),(120,120)''',
		'r @> 5005', 'r && int4range(100, 300)', 'r = int4range(5000, 5010)',
		'day BETWEEN ''2021-01-01'' AND ''2021-02-01''', 'day > ''2033-01-01''', 'day IS NULL',
		'n < 10', 'n BETWEEN 150 AND 160', 'name LIKE ''%ame 2%''', 'name ~ ''e 1[0-3]x''',
		'lower(name) = ''name 5''', 'n * 2 < 30 AND lower(name) > ''a''', 'n < 50 AND name LIKE ''name 1%''', 'name = ''name 5''', 'name % ''name 12''', 'name ^@ ''name 2''',
		'id BETWEEN 500 AND 520', 'id = ANY (ARRAY[1, 100, 1000])',
		'h = md5(''3'') AND name = ''name 3''', 'h = md5(''3'') OR name = ''name 4'' OR n < 5']
	LOOP
		SET LOCAL enable_seqscan = off;
		index_used := false;
		FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) SELECT * FROM it WHERE ' || condition LOOP
			index_used := index_used OR line LIKE '%Index %';
		END LOOP;
		EXECUTE 'SELECT count(*), md5(coalesce(string_agg(t::text, chr(10) ORDER BY id), '''')) FROM it t WHERE ' || condition INTO rows, a;
		SET LOCAL enable_seqscan = on;
		EXECUTE 'SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY id), '''')) FROM it_plain t WHERE ' || condition INTO b;
		same := a = b;
		RETURN NEXT;
	END LOOP;
END $$;

-- built over rows with a past, and kept while rows change
SELECT it_change(1);
CREATE INDEX it_hash ON it USING hash (h);
CREATE INDEX it_btree_h ON it (h) INCLUDE (n);
CREATE INDEX it_gin_words ON it USING gin (words);
CREATE INDEX it_gin_arr ON it USING gin (arr) WITH (fastupdate = off);
CREATE INDEX it_gin_doc ON it USING gin (doc);
CREATE INDEX it_gist_p ON it USING gist (p);
CREATE INDEX it_gist_b ON it USING gist (b);
CREATE INDEX it_spgist_p ON it USING spgist (p);
CREATE INDEX it_gist_r ON it USING gist (r);
CREATE INDEX it_spgist_r ON it USING spgist (r);
CREATE INDEX it_brin_day ON it USING brin (day) WITH (pages_per_range = 1);
CREATE INDEX it_brin_n ON it USING brin (n numeric_minmax_multi_ops);
CREATE INDEX it_brin_bloom ON it USING brin (name text_bloom_ops);
CREATE INDEX it_spgist_name ON it USING spgist (name);
CREATE INDEX it_trgm_gin ON it USING gin (name gin_trgm_ops);
CREATE INDEX it_trgm_gist ON it USING gist (name gist_trgm_ops);
CREATE INDEX it_bloom ON it USING bloom (h, name);
CREATE INDEX it_btree_gin ON it USING gin (n, name);
CREATE INDEX it_btree_gist ON it USING gist (n, day);
CREATE INDEX it_partial ON it (n) WHERE name LIKE 'name 1%';
CREATE INDEX it_expr ON it (lower(name), (n * 2));
SELECT * FROM it_check() WHERE NOT same OR NOT index_used;
SELECT condition, rows FROM it_check();
SELECT it_change(2);
SELECT * FROM it_check() WHERE NOT same;
BEGIN;
SELECT it_change(3);
SELECT * FROM it_check() WHERE NOT same;
ROLLBACK;
SELECT * FROM it_check() WHERE NOT same;
VACUUM it;
SELECT it_change(4);
SELECT * FROM it_check() WHERE NOT same;
VACUUM (FREEZE, ANALYZE) it;
SELECT * FROM it_check() WHERE NOT same;
SELECT gin_clean_pending_list('it_gin_words') >= 0 AS cleaned;
REINDEX TABLE it;
SELECT * FROM it_check() WHERE NOT same;
REINDEX TABLE CONCURRENTLY it;
SELECT * FROM it_check() WHERE NOT same;
CLUSTER it USING it_gist_p;
SELECT it_change(5);
VACUUM FULL it;
SELECT * FROM it_check() WHERE NOT same;
SELECT condition, rows FROM it_check();

-- each kind of index by itself, so that it is the one that is used
CREATE TABLE it_defs AS SELECT indexname::text AS name, indexdef AS def FROM pg_indexes
	WHERE tablename = 'it' AND indexname <> 'it_pkey';
CREATE TABLE it_result (name text, used bool, wrong text);
CREATE PROCEDURE it_each() LANGUAGE plpgsql AS $$
DECLARE
	d record;
	step int := 0;
BEGIN
	FOR d IN SELECT * FROM it_defs LOOP
		EXECUTE format('DROP INDEX %I', d.name);
	END LOOP;
	FOR d IN SELECT * FROM it_defs ORDER BY name LOOP
		EXECUTE d.def;
		COMMIT;
		step := step + 1;
		PERFORM it_change(step % 7);
		INSERT INTO it_result SELECT d.name, bool_or(c.index_used) FILTER (WHERE condition NOT LIKE 'id %'),
			string_agg(condition, ', ') FILTER (WHERE NOT same) FROM it_check() c;
		COMMIT;
		EXECUTE format('DROP INDEX %I', d.name);
	END LOOP;
END $$;
CALL it_each();
SELECT * FROM it_result;

-- ordered by distance
SET enable_seqscan = off;
CREATE TABLE it_near AS SELECT id, p <-> point(11.2, 13.1) AS d FROM it ORDER BY p <-> point(11.2, 13.1) LIMIT 25;
SELECT count(*) FROM it_near WHERE d > (SELECT max(d) FROM (SELECT p <-> point(11.2, 13.1) AS d FROM it_plain ORDER BY 1 LIMIT 25) x);
SELECT n <-> 100 AS d FROM it ORDER BY n <-> 100 LIMIT 3;
RESET enable_seqscan;

-- BRIN: ranges that have no summary yet, new ones, and none
CREATE TABLE it_brin (id int, v int);
CREATE INDEX it_brin_v ON it_brin USING brin (v) WITH (pages_per_range = 2);
INSERT INTO it_brin SELECT i, i FROM generate_series(1, 10000) i;
SET enable_seqscan = off;
SELECT count(*) FROM it_brin WHERE v BETWEEN 4000 AND 4099;
SELECT brin_summarize_new_values('it_brin_v') > 0 AS summarized;
SELECT count(*) FROM it_brin WHERE v BETWEEN 4000 AND 4099;
SELECT brin_summarize_new_values('it_brin_v');
INSERT INTO it_brin SELECT i, 20000 - i FROM generate_series(10001, 20000) i;
SELECT count(*) FROM it_brin WHERE v BETWEEN 4000 AND 4099;
SELECT brin_summarize_range('it_brin_v', 0);
SELECT brin_desummarize_range('it_brin_v', 0);
SELECT count(*) FROM it_brin WHERE v < 100;
VACUUM it_brin;
SELECT brin_summarize_new_values('it_brin_v');
SELECT count(*) FROM it_brin WHERE v < 100;
DELETE FROM it_brin WHERE v < 50;
UPDATE it_brin SET v = -v WHERE v BETWEEN 300 AND 310;
SELECT count(*), sum(v) FROM it_brin WHERE v < 100;
VACUUM FULL it_brin;
SELECT count(*), sum(v) FROM it_brin WHERE v < 100;
CREATE INDEX it_brin_auto ON it_brin USING brin (v) WITH (autosummarize = on);
DROP INDEX it_brin_v;
INSERT INTO it_brin SELECT 0, -1000 FROM generate_series(1, 1000);
SELECT count(*) FROM it_brin WHERE v = -1000;
RESET enable_seqscan;

-- a hash index beside a btree on the same column
CREATE TABLE it_both (k int PRIMARY KEY, v text);
CREATE INDEX it_both_hash ON it_both USING hash (k);
INSERT INTO it_both SELECT i, 'v' || i FROM generate_series(1, 1000) i;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT v FROM it_both WHERE k = 500;
SELECT v FROM it_both WHERE k = 500;
UPDATE it_both SET k = k + 10000 WHERE k % 2 = 0;
SELECT v FROM it_both WHERE k = 500;
SELECT v FROM it_both WHERE k = 10500;
SELECT v FROM it_both WHERE k > 500 ORDER BY k LIMIT 2;
INSERT INTO it_both VALUES (10500, 'twice');
INSERT INTO it_both VALUES (10500, 'twice') ON CONFLICT (k) DO UPDATE SET v = excluded.v;
SELECT * FROM it_both WHERE k = 10500;
DELETE FROM it_both WHERE k < 900;
VACUUM it_both;
SELECT count(*), sum(k) FROM it_both WHERE k > 0;
ALTER TABLE it_both DROP CONSTRAINT it_both_pkey;
SELECT * FROM it_both WHERE k = 10502;
SELECT * FROM it_both WHERE k = 502;
RESET enable_seqscan;
RESET enable_bitmapscan;
-- many rows under one value, and back
CREATE TABLE it_dup (k int, v int);
CREATE INDEX it_dup_h ON it_dup USING hash (k);
CREATE INDEX it_dup_b ON it_dup (k);
CREATE INDEX it_dup_g ON it_dup USING gin (k);
INSERT INTO it_dup SELECT i % 3, i FROM generate_series(1, 3000) i;
UPDATE it_dup SET k = 2 - k;
DELETE FROM it_dup WHERE v % 3 = 1;
VACUUM it_dup;
INSERT INTO it_dup SELECT i % 3, i FROM generate_series(1, 300) i;
SET enable_seqscan = off;
SELECT k, count(*), sum(v) FROM it_dup WHERE k IN (0, 1, 2) GROUP BY k ORDER BY k;
SELECT count(*), sum(v) FROM it_dup WHERE k = 1;
RESET enable_seqscan;

-- exclusion constraints
CREATE TABLE it_excl (room int, during tsrange, note text,
	EXCLUDE USING gist (room WITH =, during WITH &&));
INSERT INTO it_excl VALUES (1, '[2020-01-01 10:00, 2020-01-01 11:00)', 'a'), (1, '[2020-01-01 11:00, 2020-01-01 12:00)', 'b'),
	(2, '[2020-01-01 10:00, 2020-01-01 12:00)', 'c');
INSERT INTO it_excl VALUES (1, '[2020-01-01 10:30, 2020-01-01 10:40)', 'clash');
UPDATE it_excl SET during = '[2020-01-01 10:30, 2020-01-01 11:30)' WHERE note = 'a';
UPDATE it_excl SET note = note || '!' WHERE room = 1;
UPDATE it_excl SET during = '[2020-01-01 09:00, 2020-01-01 10:30)' WHERE note = 'a!';
INSERT INTO it_excl VALUES (1, '[2020-01-01 10:30, 2020-01-01 10:40)', 'fits now');
INSERT INTO it_excl VALUES (1, '[2020-01-01 10:30, 2020-01-01 10:40)', 'clash') ON CONFLICT DO NOTHING;
DELETE FROM it_excl WHERE note = 'b!';
INSERT INTO it_excl VALUES (1, '[2020-01-01 11:00, 2020-01-01 13:00)', 'd');
SELECT * FROM it_excl ORDER BY room, during;
ALTER TABLE it_excl ADD CONSTRAINT it_excl_deferred EXCLUDE USING gist (note WITH =) DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO it_excl VALUES (3, 'empty', 'd');
UPDATE it_excl SET note = 'e' WHERE room = 3;
COMMIT;
BEGIN;
INSERT INTO it_excl VALUES (4, 'empty', 'd');
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;
ALTER TABLE it_excl ADD EXCLUDE USING gist (room WITH =);
ALTER TABLE it_excl ADD EXCLUDE USING btree (note WITH =);
ALTER TABLE it_excl ADD EXCLUDE USING hash (note WITH =);
ALTER TABLE it_excl ADD EXCLUDE USING spgist (during WITH &&);
INSERT INTO it_excl VALUES (5, '[2020-01-01 10:30, 2020-01-01 10:40)', 'x');

-- unique constraints that are looked at later
CREATE TABLE it_def (id int CONSTRAINT it_def_u UNIQUE DEFERRABLE INITIALLY DEFERRED, v text);
INSERT INTO it_def SELECT i, 'v' || i FROM generate_series(1, 10) i;
UPDATE it_def SET id = id + 1;
SELECT min(id), max(id), count(*) FROM it_def;
BEGIN;
UPDATE it_def SET id = 2 WHERE id = 3;
SELECT count(*) FROM it_def WHERE id = 2;
UPDATE it_def SET id = 3 WHERE v = 'v1';
COMMIT;
SELECT * FROM it_def WHERE id < 5 ORDER BY id;
BEGIN;
UPDATE it_def SET id = 2 WHERE id = 4;
UPDATE it_def SET v = v || ' changed in place' WHERE id = 2;
COMMIT;
BEGIN;
INSERT INTO it_def VALUES (5, 'twice');
SAVEPOINT s;
DELETE FROM it_def WHERE v = 'twice';
COMMIT;
BEGIN;
INSERT INTO it_def VALUES (5, 'twice');
SET CONSTRAINTS it_def_u IMMEDIATE;
ROLLBACK;
BEGIN;
SET CONSTRAINTS it_def_u IMMEDIATE;
UPDATE it_def SET id = id - 1;
INSERT INTO it_def VALUES (5, 'at once');
ROLLBACK;
INSERT INTO it_def VALUES (5, 'x') ON CONFLICT (id) DO NOTHING;
CREATE TABLE it_imm (id int UNIQUE DEFERRABLE INITIALLY IMMEDIATE);
INSERT INTO it_imm SELECT generate_series(1, 5);
UPDATE it_imm SET id = id + 1;
UPDATE it_imm SET id = 6 - id WHERE id < 5;
SELECT array_agg(id ORDER BY id) FROM it_imm;
CREATE UNIQUE INDEX it_imm_expr ON it_imm ((id % 100)) WHERE id > 0;
INSERT INTO it_imm VALUES (102);
CREATE TABLE it_nulls (a int, b int, UNIQUE NULLS NOT DISTINCT (a, b));
INSERT INTO it_nulls VALUES (1, NULL);
INSERT INTO it_nulls VALUES (1, NULL);
INSERT INTO it_nulls VALUES (NULL, NULL) ON CONFLICT DO NOTHING;

DROP FUNCTION it_check, it_change;
DROP PROCEDURE it_each;
DROP TABLE it, it_plain, it_defs, it_result, it_near, it_brin, it_both, it_dup, it_excl, it_def, it_imm, it_nulls;
DROP EXTENSION bloom, pg_trgm, btree_gin, btree_gist;
