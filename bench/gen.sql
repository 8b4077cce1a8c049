-- gen.sql
--	Deterministic test data: the same rows for every table access method.
--	Nothing is random; every column is a hash of the row's number, shaped like
--	real tables: log-uniform users and products, sessions of twenty events,
--	repeated words and URLs.
--
--	psql -v am=lightning -v sfx=_l -f gen.sql
--		creates the functions and the empty tables events_l and orders_l.

\if :{?am}
\else
	\set am heap
\endif
\if :{?sfx}
\else
	\set sfx ''
\endif

SET client_min_messages = warning;
SET default_table_access_method = :am;

-- [0, 1) and [0, m) as functions of (row, column)
CREATE OR REPLACE FUNCTION gen_unit(i bigint, col bigint) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT (hashint8extended(i, col) & 2147483647)::float8 / 2147483648.0 $$;

CREATE OR REPLACE FUNCTION gen_mod(i bigint, col bigint, m int) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT ((hashint8extended(i, col) & 2147483647) % m)::int $$;

-- clickstream: wide rows with a JSON payload
CREATE OR REPLACE FUNCTION gen_events(first bigint, last bigint)
RETURNS TABLE (ts timestamptz, user_id int, kind text, url text, payload jsonb)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
	SELECT to_timestamp(1704067200 + i * 0.5 + gen_mod(i, 1, 400) / 1000.0),
		floor(power(200000, gen_unit(i, 2)))::int,
		(ARRAY['page_view', 'click', 'scroll', 'search', 'add_to_cart', 'login', 'logout', 'purchase'])
			[1 + floor(7.999 * gen_unit(i, 3) * gen_unit(i, 4))::int],
		'https://www.example-shop.com/'
			|| (ARRAY['electronics', 'clothing', 'home-garden', 'toys', 'books', 'sports'])[1 + gen_mod(i, 5, 6)]
			|| '/item-' || (1 + floor(power(50000, gen_unit(i, 6)))::int)::text
			|| '?ref=' || (ARRAY['home', 'search', 'mail', 'ad'])[1 + gen_mod(i, 7, 4)],
		('{"session":"' || to_hex(hashint8extended(i / 20, 8))
			|| '","device":"' || (ARRAY['mobile', 'desktop', 'tablet'])[1 + gen_mod(i / 20, 9, 3)]
			|| '","os":"' || (ARRAY['android', 'ios', 'windows', 'macos', 'linux'])[1 + gen_mod(i / 20, 10, 5)]
			|| '","duration_ms":' || floor(power(60000, gen_unit(i, 11)))::int
			|| ',"lang":"' || (ARRAY['en-US', 'de-DE', 'fr-FR', 'es-ES'])[1 + gen_mod(i / 20, 12, 4)]
			|| '","ab":{"exp":"checkout_v' || gen_mod(i / 20, 13, 9) || '","var":' || gen_mod(i, 14, 4)
			|| '},"price":' || (gen_mod(i, 15, 100000) / 100.0)::numeric(8, 2) || '}')::jsonb
	FROM generate_series(first, last) i
$$;

-- order lines: narrow rows of numbers
CREATE OR REPLACE FUNCTION gen_orders(first bigint, last bigint)
RETURNS TABLE (order_id int, customer_id int, product_id int, qty int, order_date date, amount numeric(12, 2))
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
	SELECT i::int, 1 + gen_mod(i, 21, 1000000), 1 + floor(power(50000, gen_unit(i, 22)))::int,
		1 + floor(20 * gen_unit(i, 23) * gen_unit(i, 24))::int,
		date '2015-01-01' + (i / 2740)::int,
		(gen_mod(i, 25, 10000000) / 100.0)::numeric(12, 2)
	FROM generate_series(first, last) i
$$;

CREATE TABLE events:sfx (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	ts timestamptz NOT NULL,
	user_id int NOT NULL,
	kind text NOT NULL,
	url text NOT NULL,
	payload jsonb NOT NULL
);
CREATE TABLE orders:sfx (
	order_id int PRIMARY KEY,
	customer_id int NOT NULL,
	product_id int NOT NULL,
	qty int NOT NULL,
	order_date date NOT NULL,
	amount numeric(12, 2) NOT NULL
);
