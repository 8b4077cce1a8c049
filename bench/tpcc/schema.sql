-- TPC-C's tables, in the access method :am, and its transactions as functions.
\set ON_ERROR_STOP 1
SET client_min_messages = warning;
SET default_table_access_method = :am;

CREATE TABLE warehouse (
	w_id int PRIMARY KEY, w_name text NOT NULL, w_state char(2) NOT NULL, w_zip char(9) NOT NULL,
	w_tax numeric(4,4) NOT NULL, w_ytd numeric(14,2) NOT NULL);
CREATE TABLE district (
	d_w_id int REFERENCES warehouse, d_id int, d_name text NOT NULL, d_tax numeric(4,4) NOT NULL,
	d_ytd numeric(14,2) NOT NULL, d_next_o_id int NOT NULL, PRIMARY KEY (d_w_id, d_id));
CREATE TABLE customer (
	c_w_id int, c_d_id int, c_id int, c_first text NOT NULL, c_last text NOT NULL,
	c_since timestamptz NOT NULL, c_credit char(2) NOT NULL, c_discount numeric(4,4) NOT NULL,
	c_balance numeric(14,2) NOT NULL, c_ytd_payment numeric(14,2) NOT NULL,
	c_payment_cnt int NOT NULL, c_delivery_cnt int NOT NULL, c_data text NOT NULL,
	PRIMARY KEY (c_w_id, c_d_id, c_id),
	FOREIGN KEY (c_w_id, c_d_id) REFERENCES district);
CREATE INDEX customer_name ON customer (c_w_id, c_d_id, c_last, c_first);
CREATE TABLE history (
	h_c_id int NOT NULL, h_c_d_id int NOT NULL, h_c_w_id int NOT NULL, h_d_id int NOT NULL,
	h_w_id int NOT NULL, h_date timestamptz NOT NULL, h_amount numeric(8,2) NOT NULL, h_data text NOT NULL,
	FOREIGN KEY (h_c_w_id, h_c_d_id, h_c_id) REFERENCES customer,
	FOREIGN KEY (h_w_id, h_d_id) REFERENCES district);
CREATE TABLE orders (
	o_w_id int, o_d_id int, o_id int, o_c_id int NOT NULL, o_entry_d timestamptz NOT NULL,
	o_carrier_id int, o_ol_cnt int NOT NULL, o_all_local boolean NOT NULL,
	PRIMARY KEY (o_w_id, o_d_id, o_id),
	FOREIGN KEY (o_w_id, o_d_id, o_c_id) REFERENCES customer);
CREATE INDEX orders_customer ON orders (o_w_id, o_d_id, o_c_id, o_id);
CREATE TABLE new_order (
	no_w_id int, no_d_id int, no_o_id int, PRIMARY KEY (no_w_id, no_d_id, no_o_id),
	FOREIGN KEY (no_w_id, no_d_id, no_o_id) REFERENCES orders);
CREATE TABLE item (
	i_id int PRIMARY KEY, i_name text NOT NULL, i_price numeric(5,2) NOT NULL, i_data text NOT NULL);
CREATE TABLE stock (
	s_w_id int REFERENCES warehouse, s_i_id int REFERENCES item, s_quantity int NOT NULL,
	s_dist char(24) NOT NULL, s_ytd numeric(8,0) NOT NULL, s_order_cnt int NOT NULL,
	s_remote_cnt int NOT NULL, s_data text NOT NULL, PRIMARY KEY (s_w_id, s_i_id));
CREATE TABLE order_line (
	ol_w_id int, ol_d_id int, ol_o_id int, ol_number int, ol_i_id int NOT NULL,
	ol_supply_w_id int NOT NULL, ol_delivery_d timestamptz, ol_quantity int NOT NULL,
	ol_amount numeric(8,2) NOT NULL, ol_dist_info char(24) NOT NULL,
	PRIMARY KEY (ol_w_id, ol_d_id, ol_o_id, ol_number),
	FOREIGN KEY (ol_w_id, ol_d_id, ol_o_id) REFERENCES orders,
	FOREIGN KEY (ol_supply_w_id, ol_i_id) REFERENCES stock);

-- TPC-C's non-uniform random numbers and last names
CREATE FUNCTION nurand(a int, x int, y int) RETURNS int LANGUAGE sql VOLATILE AS
$$SELECT (floor(random() * (a + 1))::int | (x + floor(random() * (y - x + 1))::int)) % (y - x + 1) + x$$;
CREATE FUNCTION last_name(n int) RETURNS text LANGUAGE sql IMMUTABLE AS
$$SELECT p[n / 100 % 10 + 1] || p[n / 10 % 10 + 1] || p[n % 10 + 1]
FROM (SELECT ARRAY['BAR','OUGHT','ABLE','PRI','PRES','ESE','ANTI','CALLY','ATION','EING'] p) x$$;

CREATE FUNCTION new_order(w int, d int, c int, warehouses int, items int) RETURNS numeric LANGUAGE plpgsql AS
$$
DECLARE
	lines int := 5 + floor(random() * 11);
	bad boolean := random() < 0.01;
	o int;
	rate numeric;
	total numeric := 0;
	i int;
	ids int[];
	supply int;
	quantity int;
	price numeric;
	s stock;
BEGIN
	SELECT (1 - c_discount) * (1 + w_tax) INTO STRICT rate
		FROM customer, warehouse WHERE w_id = w AND c_w_id = w AND c_d_id = d AND c_id = c;
	UPDATE district SET d_next_o_id = d_next_o_id + 1 WHERE d_w_id = w AND d_id = d
		RETURNING d_next_o_id - 1, rate * (1 + d_tax) INTO STRICT o, rate;
	INSERT INTO orders VALUES (w, d, o, c, now(), NULL, lines, true);
	INSERT INTO new_order VALUES (w, d, o);
	-- in the order of ids, so that orders don't deadlock
	SELECT array_agg(id ORDER BY id) INTO ids FROM (SELECT nurand(8191, 1, items) AS id FROM generate_series(1, lines)) x;
	FOR n IN 1 .. lines LOOP
		i := ids[n];
		IF bad AND n = lines THEN
			i := -1;
		END IF;
		SELECT i_price INTO price FROM item WHERE i_id = i;
		IF NOT FOUND THEN
			RAISE no_data_found USING MESSAGE = 'item number is not valid';
		END IF;
		supply := CASE WHEN random() < 0.01 THEN 1 + floor(random() * warehouses) ELSE w END;
		quantity := 1 + floor(random() * 10);
		UPDATE stock SET s_quantity = CASE WHEN s_quantity >= quantity + 10 THEN s_quantity - quantity
										   ELSE s_quantity - quantity + 91 END,
			s_ytd = s_ytd + quantity, s_order_cnt = s_order_cnt + 1,
			s_remote_cnt = s_remote_cnt + (supply <> w)::int
			WHERE s_w_id = supply AND s_i_id = i RETURNING * INTO STRICT s;
		INSERT INTO order_line VALUES (w, d, o, n, i, supply, NULL, quantity, price * quantity, s.s_dist);
		IF supply <> w THEN
			UPDATE orders SET o_all_local = false WHERE o_w_id = w AND o_d_id = d AND o_id = o AND o_all_local;
		END IF;
		total := total + price * quantity;
	END LOOP;
	RETURN total * rate;
END
$$;

CREATE FUNCTION find_customer(w int, d int, customers int) RETURNS int LANGUAGE plpgsql AS
$$
DECLARE
	ids int[];
BEGIN
	IF random() < 0.4 THEN
		RETURN nurand(1023, 1, customers);
	END IF;
	SELECT array_agg(c_id ORDER BY c_first) INTO ids FROM customer
		WHERE c_w_id = w AND c_d_id = d AND c_last = last_name(nurand(255, 0, least(999, customers - 1)));
	RETURN coalesce(ids[(array_length(ids, 1) + 1) / 2], nurand(1023, 1, customers));
END
$$;

CREATE FUNCTION payment(w int, d int, customers int, warehouses int) RETURNS numeric LANGUAGE plpgsql AS
$$
DECLARE
	amount numeric(8,2) := (1 + random() * 4999)::numeric(8,2);
	cw int := CASE WHEN random() < 0.15 THEN 1 + floor(random() * warehouses) ELSE w END;
	cd int := CASE WHEN cw <> w THEN 1 + floor(random() * 10) ELSE d END;
	c int := find_customer(cw, cd, customers);
	balance numeric;
BEGIN
	UPDATE warehouse SET w_ytd = w_ytd + amount WHERE w_id = w;
	UPDATE district SET d_ytd = d_ytd + amount WHERE d_w_id = w AND d_id = d;
	UPDATE customer SET c_balance = c_balance - amount, c_ytd_payment = c_ytd_payment + amount,
		c_payment_cnt = c_payment_cnt + 1,
		c_data = CASE WHEN c_credit = 'BC'
					  THEN left(concat_ws(' ', c, cd, cw, d, w, amount, c_data), 500) ELSE c_data END
		WHERE c_w_id = cw AND c_d_id = cd AND c_id = c RETURNING c_balance INTO STRICT balance;
	INSERT INTO history VALUES (c, cd, cw, d, w, now(), amount, 'payment');
	RETURN balance;
END
$$;

CREATE FUNCTION order_status(w int, d int, customers int) RETURNS bigint LANGUAGE sql VOLATILE AS
$$
	WITH c AS MATERIALIZED (SELECT find_customer(w, d, customers) AS id),
	o AS (SELECT o_id FROM orders, c WHERE o_w_id = w AND o_d_id = d AND o_c_id = c.id ORDER BY o_id DESC LIMIT 1)
	SELECT count(*) FROM order_line, o WHERE ol_w_id = w AND ol_d_id = d AND ol_o_id = o.o_id
$$;

CREATE FUNCTION delivery(w int, carrier int) RETURNS int LANGUAGE plpgsql AS
$$
DECLARE
	o int;
	c int;
	sum numeric;
	delivered int := 0;
BEGIN
	FOR d IN 1 .. 10 LOOP
		DELETE FROM new_order WHERE no_w_id = w AND no_d_id = d AND no_o_id =
			(SELECT no_o_id FROM new_order WHERE no_w_id = w AND no_d_id = d
			 ORDER BY no_o_id LIMIT 1 FOR UPDATE SKIP LOCKED)
			RETURNING no_o_id INTO o;
		CONTINUE WHEN o IS NULL;
		UPDATE orders SET o_carrier_id = carrier WHERE o_w_id = w AND o_d_id = d AND o_id = o
			RETURNING o_c_id INTO STRICT c;
		UPDATE order_line SET ol_delivery_d = now() WHERE ol_w_id = w AND ol_d_id = d AND ol_o_id = o;
		SELECT sum(ol_amount) INTO sum FROM order_line WHERE ol_w_id = w AND ol_d_id = d AND ol_o_id = o;
		UPDATE customer SET c_balance = c_balance + sum, c_delivery_cnt = c_delivery_cnt + 1
			WHERE c_w_id = w AND c_d_id = d AND c_id = c;
		delivered := delivered + 1;
	END LOOP;
	RETURN delivered;
END
$$;

CREATE FUNCTION stock_level(w int, d int, threshold int) RETURNS bigint LANGUAGE sql STABLE AS
$$
	SELECT count(DISTINCT s_i_id) FROM district
	JOIN order_line ON ol_w_id = d_w_id AND ol_d_id = d_id AND ol_o_id BETWEEN d_next_o_id - 20 AND d_next_o_id - 1
	JOIN stock ON s_w_id = d_w_id AND s_i_id = ol_i_id
	WHERE d_w_id = w AND d_id = d AND s_quantity < threshold
$$;
