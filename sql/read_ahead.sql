-- Index scans that read ahead, over rescans as well: compared with heap
CREATE TABLE ra_l (id int PRIMARY KEY, n int, pad text) USING lightning;
CREATE TABLE ra_h (id int PRIMARY KEY, n int, pad text) USING heap;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_memoize = off;
SET enable_material = off;
SET enable_sort = off;
SET max_parallel_workers_per_gather = 0;

-- runs a command on both
CREATE FUNCTION ra_do(command text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE replace(command, '@', 'ra_l');
	EXECUTE replace(command, '@', 'ra_h');
END $$;

-- digests of look-ups in many orders
CREATE FUNCTION ra_read(t text) RETURNS TABLE (way text, digest text) LANGUAGE plpgsql AS $$
DECLARE
	q text;
	k int;
BEGIN
	FOREACH way IN ARRAY ARRAY['i', '3000 - i', 'i / 2', '(3000 - i) / 3', '3 * i', '5 * (600 - i)',
		'i # 1', 'i # 7', '3000 - (i # 3)', 'i + 40 * (i % 2)', 'i * 701 % 3000',
		'abs(i % 400 - 200) + i', 'i / 100 * 100 - i % 100'] LOOP
		EXECUTE format('SELECT md5(string_agg(i || '':'' || coalesce(x.n::text || left(x.pad, 40), ''none''), '' '' ORDER BY i))
			FROM generate_series(1, 3000) i LEFT JOIN LATERAL (SELECT * FROM %I t WHERE t.id = %s OFFSET 0) x ON true',
			t, way) INTO digest;
		RETURN NEXT;
	END LOOP;
	FOREACH k IN ARRAY ARRAY[1, 9, 100, 1000, 3000] LOOP
		way := 'first ' || k;
		EXECUTE format('SELECT md5(string_agg(x.id || '':'' || x.n || left(x.pad, 40), '' '')) FROM (SELECT * FROM %I ORDER BY id LIMIT %s) x', t, k) INTO digest;
		RETURN NEXT;
		way := 'last ' || k;
		EXECUTE format('SELECT md5(string_agg(x.id || '':'' || x.n || left(x.pad, 40), '' '')) FROM (SELECT * FROM %I ORDER BY id DESC LIMIT %s) x', t, k) INTO digest;
		RETURN NEXT;
		way := 'ranges of ' || k;
		EXECUTE format('SELECT md5(string_agg(i || '':'' || x.id || '':'' || x.n, '' '' ORDER BY i, x.id)) FROM generate_series(1, 3000, greatest(%s, 20)) i
			JOIN LATERAL (SELECT * FROM %I t WHERE t.id >= i AND t.id < i + %s OFFSET 0) x ON true', k, t, k) INTO digest;
		RETURN NEXT;
	END LOOP;
END $$;
CREATE FUNCTION ra_compare() RETURNS TABLE (way text) LANGUAGE sql AS $$
	SELECT coalesce(l.way, h.way) FROM ra_read('ra_l') l FULL JOIN ra_read('ra_h') h ON l.way = h.way AND l.digest IS NOT DISTINCT FROM h.digest
		WHERE l.way IS NULL OR h.way IS NULL
$$;

SELECT ra_do('INSERT INTO @ SELECT i, i % 10, md5(i::text) FROM generate_series(1, 3000) i');
SELECT ra_do('ANALYZE @');
SELECT ra_compare();
SELECT lightning_flush();
SELECT lightning_compact('ra_l');
SELECT ra_compare();

-- a nested loop reads a block for many look-ups, not for each one
CREATE FUNCTION ra_blocks(q text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	before bigint := pg_stat_get_xact_blocks_fetched('ra_l'::regclass);
BEGIN
	EXECUTE q;
	RETURN pg_stat_get_xact_blocks_fetched('ra_l'::regclass) - before;
END $$;
SELECT ra_blocks('SELECT sum(t.n) FROM generate_series(1, 3000) i JOIN ra_l t ON t.id = i') < 100 AS forward,
	ra_blocks('SELECT sum(t.n) FROM generate_series(3000, 1, -1) i JOIN ra_l t ON t.id = i') < 100 AS backward,
	ra_blocks('SELECT sum(n) FROM (SELECT n FROM ra_l ORDER BY id DESC LIMIT 1000) x') < 50 AS last;

-- own changes, by the same transaction
BEGIN;
SELECT ra_do('UPDATE @ SET n = n + 100 WHERE id % 3 = 0');
SELECT ra_compare();
SELECT ra_do('DELETE FROM @ WHERE id % 7 = 0 OR id BETWEEN 1200 AND 1900');
SELECT ra_compare();
SAVEPOINT a;
SELECT ra_do('UPDATE @ SET id = id + 10000 WHERE id % 5 = 0');
SELECT ra_do('UPDATE @ SET id = id - 10000, n = n + 1 WHERE id > 10000');
SELECT ra_compare();
SELECT lightning_flush();
SELECT ra_compare();
ROLLBACK TO a;
SELECT ra_compare();
COMMIT;
SELECT ra_compare();
VACUUM ra_l, ra_h;
SELECT ra_compare();

-- rows of which few fit into a batch, some longer than one
SELECT ra_do('UPDATE @ SET pad = repeat(md5(id::text), 60 + id % 40) WHERE id BETWEEN 300 AND 700');
SELECT ra_do('ALTER TABLE @ ALTER pad SET STORAGE plain');
SELECT ra_do('UPDATE @ SET pad = repeat(md5(id::text), 200) WHERE id BETWEEN 800 AND 900');
SELECT ra_compare();
SELECT lightning_flush();
SELECT lightning_compact('ra_l');
SELECT ra_compare();

-- changes under a query: by a function it calls, and under a cursor
CREATE FUNCTION ra_touch(t text, i int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('UPDATE %I SET n = n + 1000 WHERE id IN ($1, $1 + 1, $1 + 2)', t) USING i;
	IF i % 50 = 0 THEN
		EXECUTE format('DELETE FROM %I WHERE id = $1 + 3', t) USING i;
	END IF;
	IF i % 400 = 0 AND t = 'ra_l' THEN
		PERFORM lightning_flush();
	END IF;
	RETURN i;
END $$;
SELECT count(*), sum(n) FROM (SELECT t.n, ra_touch('ra_l', i) FROM generate_series(1, 1000) i JOIN ra_l t ON t.id = i OFFSET 0) x;
SELECT count(*), sum(n) FROM (SELECT t.n, ra_touch('ra_h', i) FROM generate_series(1, 1000) i JOIN ra_h t ON t.id = i OFFSET 0) x;
SELECT ra_compare();
BEGIN;
DECLARE cl SCROLL CURSOR FOR SELECT id, n FROM ra_l ORDER BY id;
DECLARE ch SCROLL CURSOR FOR SELECT id, n FROM ra_h ORDER BY id;
CREATE FUNCTION ra_fetch(c refcursor, steps int[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	s int;
	k int;
	r record;
	result text := '';
BEGIN
	FOREACH s IN ARRAY steps LOOP
		FOR k IN 1 .. abs(s) LOOP
			IF s > 0 THEN FETCH NEXT FROM c INTO r; ELSE FETCH PRIOR FROM c INTO r; END IF;
			result := result || r::text;
		END LOOP;
	END LOOP;
	RETURN md5(result);
END $$;
SELECT ra_fetch('cl', '{30,-10,100,-90,5,-5,200}') = ra_fetch('ch', '{30,-10,100,-90,5,-5,200}') AS same;
SELECT ra_do('UPDATE @ SET n = -n WHERE id < 2500');
SELECT ra_do('DELETE FROM @ WHERE id BETWEEN 200 AND 400');
SELECT lightning_flush();
SELECT ra_fetch('cl', '{30,-100,300,-200,400}') = ra_fetch('ch', '{30,-100,300,-200,400}') AS same;
COMMIT;
SELECT ra_compare();

-- a join that updates what it reads ahead
SELECT ra_do('UPDATE @ a SET n = b.n + 1 FROM generate_series(1, 3000) i JOIN @ b ON b.id = i WHERE a.id = i + 1');
SELECT ra_compare();
DROP TABLE ra_l, ra_h;
DROP FUNCTION ra_do, ra_read, ra_compare, ra_blocks, ra_touch, ra_fetch;
