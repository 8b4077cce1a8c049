-- Fills the tables: :warehouses, :customers per district (as many orders), :items.
\set ON_ERROR_STOP 1
\o /dev/null
SELECT setseed(0.5);
BEGIN;
INSERT INTO item SELECT i, 'item ' || i, (1 + random() * 99)::numeric(5,2), md5(i::text)
	FROM generate_series(1, :items) i;
INSERT INTO warehouse SELECT w, 'warehouse ' || w, 'DE', '123456789', (random() * 0.2)::numeric(4,4), 10 * :customers * 10
	FROM generate_series(1, :warehouses) w;
INSERT INTO district SELECT w, d, 'district ' || d, (random() * 0.2)::numeric(4,4), :customers * 10, :customers + 1
	FROM generate_series(1, :warehouses) w, generate_series(1, 10) d;
INSERT INTO stock SELECT w, i, 10 + floor(random() * 91), left(md5(i::text), 24), 0, 0, 0, md5(w::text || i)
	FROM generate_series(1, :warehouses) w, generate_series(1, :items) i;
INSERT INTO customer SELECT w, d, c, 'first ' || floor(random() * 1000), last_name(c - 1), now(),
	CASE WHEN random() < 0.1 THEN 'BC' ELSE 'GC' END, (random() * 0.5)::numeric(4,4), -10, 10, 1, 0,
	repeat(md5(c::text), 9)
	FROM generate_series(1, :warehouses) w, generate_series(1, 10) d, generate_series(1, :customers) c;
INSERT INTO history SELECT c_id, c_d_id, c_w_id, c_d_id, c_w_id, now(), 10, 'first' FROM customer;
-- the last 30% are not delivered yet; what they cost is not known until then
INSERT INTO orders SELECT w, d, o, 1 + (o * 7919 + d) % :customers, now(),
	CASE WHEN o <= :customers * 0.7 THEN 1 + o % 10 END, 5 + (o * 31 + d) % 11, true
	FROM generate_series(1, :warehouses) w, generate_series(1, 10) d, generate_series(1, :customers) o;
INSERT INTO new_order SELECT o_w_id, o_d_id, o_id FROM orders WHERE o_carrier_id IS NULL;
INSERT INTO order_line SELECT o_w_id, o_d_id, o_id, n, 1 + (o_id * 17 + n * 131 + o_d_id) % :items, o_w_id,
	CASE WHEN o_carrier_id IS NOT NULL THEN o_entry_d END, 5,
	CASE WHEN o_carrier_id IS NOT NULL THEN 0 ELSE (n * 10 + 0.01)::numeric(8,2) END, left(md5(o_id::text), 24)
	FROM orders, generate_series(1, o_ol_cnt) n;
COMMIT;
VACUUM ANALYZE;
