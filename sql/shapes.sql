--
-- Tables of every shape: columns from none to 1,600, long values in every
-- storage mode, types of every kind.  What is printed is what heap prints.
--
SET default_table_access_method = lightning;

-- no columns
CREATE TABLE sh_none ();
INSERT INTO sh_none DEFAULT VALUES;
INSERT INTO sh_none SELECT FROM generate_series(1, 5);
SELECT count(*) FROM sh_none;
SELECT count(*) FROM sh_none t WHERE t IS NULL;
DELETE FROM sh_none WHERE ctid = (SELECT min(ctid) FROM sh_none);
SELECT count(*) FROM sh_none;
ALTER TABLE sh_none ADD COLUMN a int DEFAULT 5;
SELECT count(*), sum(a) FROM sh_none;
UPDATE sh_none SET a = 6;
ALTER TABLE sh_none DROP COLUMN a;
SELECT count(*) FROM sh_none;
COPY sh_none TO STDOUT;
VACUUM FULL sh_none;
SELECT count(*) FROM sh_none;

-- 35 columns: more than a 32-bit map of nulls has room for
\set ECHO none
SELECT 'CREATE TABLE sh_35 (' || string_agg('c' || i || ' ' || (ARRAY['int', 'text', 'bool', 'float8', 'numeric', 'date', 'smallint'])[1 + i % 7], ', ' ORDER BY i) || ')'
FROM generate_series(1, 35) i \gexec
\set ECHO all
INSERT INTO sh_35 (c7, c14, c35) SELECT i, i + 1, i + 2 FROM generate_series(1, 100) i;
INSERT INTO sh_35 (c1, c2, c34, c35) VALUES ('one', true, 7, 9);
UPDATE sh_35 SET c33 = '2020-02-02', c34 = 34 WHERE c7 % 10 = 0;
UPDATE sh_35 SET c7 = NULL WHERE c7 = 50;
SELECT count(*), sum(c7), sum(c14), sum(c34), sum(c35), count(c33), count(c1), count(c20) FROM sh_35;
SELECT * FROM sh_35 WHERE c1 = 'one';
CREATE INDEX ON sh_35 (c35, c34, c33, c32, c31, c30, c29, c28, c27, c26, c25, c24, c23, c22, c21, c20, c19, c18, c17, c16, c15, c14, c13, c12, c11, c10, c9, c8, c7, c6, c5, c4);
SET enable_seqscan = off;
SELECT c7, c14 FROM sh_35 WHERE c35 = 12;
RESET enable_seqscan;
ALTER TABLE sh_35 DROP COLUMN c33, DROP COLUMN c2;
ALTER TABLE sh_35 ADD COLUMN c36 text DEFAULT 'new', ADD COLUMN c37 int;
SELECT count(*), sum(c7), sum(c14), sum(c34), sum(c35), count(c36), count(c37) FROM sh_35;

-- 1,600 columns, and one more
\set ECHO none
SELECT 'CREATE TABLE sh_1600 (' || string_agg('c' || i || ' int', ', ' ORDER BY i) || ')' FROM generate_series(1, 1600) i \gexec
\set ECHO all
INSERT INTO sh_1600 (c1, c1600) VALUES (1, 1600);
\set ECHO none
SELECT 'INSERT INTO sh_1600 VALUES (' || string_agg(i::text, ', ' ORDER BY i) || ')' FROM generate_series(1, 1600) i \gexec
SELECT 'INSERT INTO sh_1600 (' || string_agg('c' || i, ', ' ORDER BY i) || ') SELECT ' || string_agg('g', ', ') || ' FROM generate_series(1, 20) g' FROM generate_series(2, 1600, 3) i \gexec
\set ECHO all
SELECT count(*), sum(c1), sum(c2), sum(c800), sum(c1599), sum(c1600) FROM sh_1600;
UPDATE sh_1600 SET c1600 = c1600 + 1, c3 = 3 WHERE c1 = 1;
SELECT c1, c2, c3, c799, c1598, c1599, c1600 FROM sh_1600 WHERE c1 = 1 ORDER BY c2;
ALTER TABLE sh_1600 ADD COLUMN c1601 int;
ALTER TABLE sh_1600 DROP COLUMN c1600;
ALTER TABLE sh_1600 ADD COLUMN c1601 int;
SELECT md5(string_agg(t::text, ',' ORDER BY c2, c1, c5)) FROM sh_1600 t;
CREATE TABLE sh_1600_copy AS SELECT * FROM sh_1600;
SELECT md5(string_agg(t::text, ',' ORDER BY c2, c1, c5)) FROM sh_1600_copy t;
\set ECHO none
SELECT 'CREATE TABLE sh_1600_wide (' || string_agg('c' || i || ' text', ', ' ORDER BY i) || ')' FROM generate_series(1, 1599) i \gexec
SELECT 'INSERT INTO sh_1600_wide VALUES (' || string_agg(quote_literal('x' || i), ', ' ORDER BY i) || ')' FROM generate_series(1, 1599) i \gexec
\set ECHO all
SELECT count(*), min(c1599) FROM sh_1600_wide;

-- TOAST
CREATE TABLE sh_toast (id int PRIMARY KEY, p text, e text, x text, m text, n bytea);
ALTER TABLE sh_toast ALTER p SET STORAGE plain, ALTER e SET STORAGE external, ALTER x SET STORAGE extended, ALTER m SET STORAGE main;
INSERT INTO sh_toast SELECT i, repeat('p', i), repeat('e', i * 300), repeat(md5(i::text), i * 20), repeat(md5(i::text), i * 5), decode(repeat('ab', i * 1000), 'hex')
FROM generate_series(1, 60) i;
SELECT count(*), sum(length(p)), sum(length(e)), sum(length(x)), sum(length(m)), sum(length(n)) FROM sh_toast;
SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM sh_toast t;
SELECT substr(e, 299 * 60, 3), substr(x, 33, 32) = md5('60') AS slice, octet_length(n) FROM sh_toast WHERE id = 60;
UPDATE sh_toast SET p = p || '!' WHERE id % 2 = 0;
UPDATE sh_toast SET e = e || 'E', x = NULL WHERE id % 3 = 0;
UPDATE sh_toast SET id = id + 1000 WHERE id % 5 = 0;
SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM sh_toast t;
BEGIN;
UPDATE sh_toast SET x = repeat('new', 10000);
DELETE FROM sh_toast WHERE id < 10;
ROLLBACK;
SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM sh_toast t;
DELETE FROM sh_toast WHERE id > 30 AND id < 1000;
VACUUM sh_toast;
INSERT INTO sh_toast SELECT i, 'p', repeat('again', 2000), repeat('again', 20000) FROM generate_series(31, 60) i;
SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM sh_toast t;
VACUUM FULL sh_toast;
SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM sh_toast t;
ALTER TABLE sh_toast ALTER x SET COMPRESSION lz4, ALTER x SET STORAGE external, ALTER e SET STORAGE plain;
UPDATE sh_toast SET x = repeat('lz4', 5000) WHERE id = 1;
SELECT length(x), pg_column_compression(x) FROM sh_toast WHERE id = 1;
ALTER TABLE sh_toast ALTER x SET STORAGE extended;
UPDATE sh_toast SET x = repeat('lz4', 5001) WHERE id = 1;
SELECT length(x), pg_column_compression(x) FROM sh_toast WHERE id = 1;
CREATE TABLE sh_moved AS SELECT * FROM sh_toast;
DROP TABLE sh_toast;
SELECT count(*), sum(length(x)), sum(length(e)) FROM sh_moved;

-- rows that are too long: heap says the same, but already beyond 8,160 bytes
CREATE TABLE sh_plain (id int, p text);
ALTER TABLE sh_plain ALTER p SET STORAGE plain;
INSERT INTO sh_plain VALUES (1, repeat('x', 8100));
INSERT INTO sh_plain VALUES (2, repeat('x', 60000));
INSERT INTO sh_plain VALUES (3, repeat('x', 70000));
INSERT INTO sh_plain VALUES (4, 'short');
UPDATE sh_plain SET p = repeat('y', 70000) WHERE id = 4;
COPY sh_plain FROM PROGRAM 'printf "5,"; head -c 70000 /dev/zero | tr "\\0" z' (FORMAT csv);
SELECT id, length(p) FROM sh_plain ORDER BY id;
\set VERBOSITY sqlstate
INSERT INTO sh_plain VALUES (3, repeat('x', 70000));
INSERT INTO sh_plain VALUES (3, repeat('x', 1100000000));
ALTER TABLE sh_plain SET ACCESS METHOD heap;
\set VERBOSITY default
SELECT id, length(p) FROM sh_plain ORDER BY id;
\set ECHO none
SELECT 'INSERT INTO sh_1600_wide VALUES (' || string_agg('repeat(md5(''' || i || '''), 100)', ', ' ORDER BY i) || ')' FROM generate_series(1, 1599) i \gexec
\set ECHO all
SELECT count(*), min(length(c1599)) FROM sh_1600_wide;

-- types
CREATE TYPE sh_enum AS ENUM ('low', 'high');
CREATE TYPE sh_pair AS (a int, b text);
CREATE DOMAIN sh_positive AS int CHECK (value > 0);
CREATE DOMAIN sh_pairs AS sh_pair[] CHECK (cardinality(value) < 4);
CREATE TABLE sh_types (id int PRIMARY KEY, arr int[], arr2 text[][], pair sh_pair, pairs sh_pairs, pos sh_positive, en sh_enum,
	c "char", ch char(5), nm name, bits bit varying(20), i interval, tz timestamptz, ti timetz, net inet, mac macaddr, u uuid,
	j json, jb jsonb, x xml, r int8range, mr datemultirange, pth path, ts tsvector, m money, num numeric(1000, 300), f float4, o oid, rg regclass, l pg_lsn);
INSERT INTO sh_types VALUES (1, '{1,NULL,3}', '{{a,b},{c,d}}', '(5,"x, y")', ARRAY['(1,a)', '(2,b)']::sh_pair[], 3, 'high',
	'c', 'ab', 'a name', B'10101', '1 year 2 days', '2020-01-01 00:00+00', '12:00+02', '10.0.0.0/8', '08:00:2b:01:02:03', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
	'{"a": 1}', '{"b": [1, 2]}', '<a>b</a>', '[1,10)', '{[2020-01-01,2020-02-01)}', '((0,0),(1,1))', 'a fat cat', 12.34, 1.5, 'NaN', 42, 'pg_class', '0/16B3748');
INSERT INTO sh_types (id) VALUES (2);
SET timezone = 'UTC';
SELECT * FROM sh_types WHERE id = 1 \gx
UPDATE sh_types SET arr[5] = 9, pair.b = 'changed', arr2 = NULL, num = -num, i = i * 2 WHERE id = 1;
SELECT arr, pair, arr2, num, i FROM sh_types ORDER BY id;
INSERT INTO sh_types (id, pos) VALUES (3, -1);
INSERT INTO sh_types (id, pairs) VALUES (3, ARRAY['(1,a)', '(2,b)', '(1,a)', '(2,b)']::sh_pair[]);
ALTER TYPE sh_pair ADD ATTRIBUTE c int;
ALTER TYPE sh_enum ADD VALUE 'middle' BEFORE 'high';
INSERT INTO sh_types (id, en) VALUES (4, 'middle');
SELECT id, en FROM sh_types WHERE en > 'low' ORDER BY en;
ALTER DOMAIN sh_positive DROP CONSTRAINT sh_positive_check;
ALTER DOMAIN sh_positive ADD CONSTRAINT c CHECK (value > 5);
SELECT (t).* FROM (SELECT pair AS t FROM sh_types WHERE id = 1) x;
SELECT ROW(t.id, t.arr, t.jb) = ROW(t.id, t.arr, t.jb) AS same, t IS NULL AS none FROM sh_types t WHERE id = 1;

-- generated and identity columns
CREATE TABLE sh_gen (id int GENERATED BY DEFAULT AS IDENTITY (START 10 INCREMENT 5) PRIMARY KEY, w int, h int,
	area int GENERATED ALWAYS AS (w * h) STORED, label text GENERATED ALWAYS AS ('area ' || w * h) STORED, always int GENERATED ALWAYS AS IDENTITY);
INSERT INTO sh_gen (w, h) VALUES (2, 3), (4, 5) RETURNING *;
INSERT INTO sh_gen (id, w, h) VALUES (1, 1, 1) RETURNING *;
INSERT INTO sh_gen (w, h, area) VALUES (1, 1, 1);
INSERT INTO sh_gen (w, h, always) VALUES (1, 1, 1);
INSERT INTO sh_gen (w, h, always) OVERRIDING SYSTEM VALUE VALUES (1, 1, 99) RETURNING *;
UPDATE sh_gen SET w = 10 WHERE w = 2 RETURNING *;
UPDATE sh_gen SET area = 10;
UPDATE sh_gen SET always = DEFAULT WHERE id = 1 RETURNING always;
CREATE INDEX ON sh_gen (area);
SET enable_seqscan = off;
SELECT id, label FROM sh_gen WHERE area BETWEEN 20 AND 30 ORDER BY area;
RESET enable_seqscan;
COPY sh_gen (w, h) FROM STDIN;
7	8
\N	9
\.
SELECT w, h, area, label FROM sh_gen ORDER BY id;
CREATE FUNCTION sh_upd() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.w := NEW.w + 1; RETURN NEW; END';
CREATE TRIGGER sh_before BEFORE UPDATE ON sh_gen FOR EACH ROW EXECUTE FUNCTION sh_upd();
UPDATE sh_gen SET h = 100 WHERE w = 7 RETURNING w, h, area, label;

-- row security and privileges on columns
CREATE ROLE regress_sh_a;
CREATE ROLE regress_sh_b;
CREATE TABLE sh_rls (id int PRIMARY KEY, owner name, secret text, open text);
INSERT INTO sh_rls SELECT i, CASE i % 2 WHEN 0 THEN 'regress_sh_a' ELSE 'regress_sh_b' END, 's' || i, 'o' || i FROM generate_series(1, 10) i;
ALTER TABLE sh_rls ENABLE ROW LEVEL SECURITY;
CREATE POLICY sh_own ON sh_rls USING (owner = current_user) WITH CHECK (owner = current_user AND id < 1000);
CREATE POLICY sh_see ON sh_rls FOR SELECT TO regress_sh_b USING (id = 2);
GRANT SELECT (id, owner, open), UPDATE (open, owner), INSERT, DELETE ON sh_rls TO regress_sh_a, regress_sh_b;
SET ROLE regress_sh_a;
SELECT id, open FROM sh_rls ORDER BY id;
SELECT * FROM sh_rls;
SELECT secret FROM sh_rls;
UPDATE sh_rls SET open = 'mine';
UPDATE sh_rls SET secret = 'x';
UPDATE sh_rls SET owner = 'regress_sh_b' WHERE id = 2;
INSERT INTO sh_rls VALUES (100, 'regress_sh_a', 's', 'o');
INSERT INTO sh_rls VALUES (101, 'regress_sh_b', 's', 'o');
INSERT INTO sh_rls VALUES (1001, 'regress_sh_a', 's', 'o');
INSERT INTO sh_rls VALUES (1, 'regress_sh_a', 's', 'o') ON CONFLICT (id) DO UPDATE SET open = 'taken';
INSERT INTO sh_rls VALUES (100, 'regress_sh_a', 's', 'o') ON CONFLICT (id) DO UPDATE SET open = 'upserted';
DELETE FROM sh_rls WHERE id IN (3, 4);
DELETE FROM sh_rls USING sh_rls s WHERE sh_rls.id = s.id AND s.open = 'nothing';
SELECT ctid IS NOT NULL FROM sh_rls LIMIT 1;
SELECT xmin IS NOT NULL FROM sh_rls LIMIT 1;
TRUNCATE sh_rls;
SET ROLE regress_sh_b;
SELECT id, open FROM sh_rls ORDER BY id;
RESET ROLE;
ALTER TABLE sh_rls FORCE ROW LEVEL SECURITY;
SELECT id, owner, secret, open FROM sh_rls ORDER BY id;
SET row_security = off;
SET ROLE regress_sh_b;
SELECT id FROM sh_rls;
RESET ROLE;
RESET row_security;

DROP TABLE sh_none, sh_35, sh_1600, sh_1600_copy, sh_1600_wide, sh_moved, sh_plain, sh_types, sh_gen, sh_rls;
DROP TABLE IF EXISTS sh_plain_copy;
DROP FUNCTION sh_upd;
DROP DOMAIN sh_positive, sh_pairs;
DROP TYPE sh_enum, sh_pair;
DROP ROLE regress_sh_a, regress_sh_b;
