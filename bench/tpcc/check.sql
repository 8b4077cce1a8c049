-- TPC-C's consistency conditions (clause 3.3.2, 1 to 12): a row for each violation.
WITH ytd AS (SELECT d_w_id, sum(d_ytd) AS s FROM district GROUP BY 1)
SELECT 'condition 1', w_id FROM warehouse LEFT JOIN ytd ON d_w_id = w_id WHERE w_ytd IS DISTINCT FROM s;

SELECT 'condition 2', d_w_id, d_id FROM district d
WHERE d_next_o_id - 1 <> (SELECT max(o_id) FROM orders WHERE o_w_id = d_w_id AND o_d_id = d_id)
   OR d_next_o_id - 1 < (SELECT max(no_o_id) FROM new_order WHERE no_w_id = d_w_id AND no_d_id = d_id);

SELECT 'condition 3', no_w_id, no_d_id FROM new_order GROUP BY 2, 3
HAVING max(no_o_id) - min(no_o_id) + 1 <> count(*);

WITH l AS (SELECT ol_w_id, ol_d_id, count(*) AS n FROM order_line GROUP BY 1, 2),
o AS (SELECT o_w_id, o_d_id, sum(o_ol_cnt) AS n FROM orders GROUP BY 1, 2)
SELECT 'condition 4', o_w_id, o_d_id FROM o LEFT JOIN l ON ol_w_id = o_w_id AND ol_d_id = o_d_id
WHERE l.n IS DISTINCT FROM o.n;

SELECT 'condition 5', o_w_id, o_d_id, o_id FROM orders
FULL JOIN new_order ON no_w_id = o_w_id AND no_d_id = o_d_id AND no_o_id = o_id
WHERE (o_carrier_id IS NULL) <> (no_o_id IS NOT NULL);

WITH l AS (SELECT ol_w_id, ol_d_id, ol_o_id, count(*) AS n FROM order_line GROUP BY 1, 2, 3)
SELECT 'condition 6', o_w_id, o_d_id, o_id FROM orders
FULL JOIN l ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id WHERE o_ol_cnt IS DISTINCT FROM n;

SELECT 'condition 7', o_w_id, o_d_id, o_id, ol_number FROM order_line
JOIN orders ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id
WHERE (ol_delivery_d IS NULL) <> (o_carrier_id IS NULL);

WITH h AS (SELECT h_w_id, sum(h_amount) AS s FROM history GROUP BY 1)
SELECT 'condition 8', w_id FROM warehouse LEFT JOIN h ON h_w_id = w_id WHERE w_ytd IS DISTINCT FROM s;

WITH h AS (SELECT h_w_id, h_d_id, sum(h_amount) AS s FROM history GROUP BY 1, 2)
SELECT 'condition 9', d_w_id, d_id FROM district LEFT JOIN h ON h_w_id = d_w_id AND h_d_id = d_id
WHERE d_ytd IS DISTINCT FROM s;

WITH h AS (SELECT h_c_w_id, h_c_d_id, h_c_id, sum(h_amount) AS s FROM history GROUP BY 1, 2, 3),
l AS (SELECT o_w_id, o_d_id, o_c_id, sum(ol_amount) AS s FROM orders
	  JOIN order_line ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id
	  WHERE ol_delivery_d IS NOT NULL GROUP BY 1, 2, 3)
SELECT 'condition 10 or 12', c_w_id, c_d_id, c_id FROM customer
LEFT JOIN h ON (h_c_w_id, h_c_d_id, h_c_id) = (c_w_id, c_d_id, c_id)
LEFT JOIN l ON (o_w_id, o_d_id, o_c_id) = (c_w_id, c_d_id, c_id)
WHERE c_balance <> coalesce(l.s, 0) - coalesce(h.s, 0)
   OR c_balance + c_ytd_payment <> coalesce(l.s, 0);

-- 11 as it is after other transactions than those of the load: orders and
-- new orders differ by what was delivered
SELECT 'condition 11', o_w_id, o_d_id FROM orders
LEFT JOIN new_order ON no_w_id = o_w_id AND no_d_id = o_d_id AND no_o_id = o_id GROUP BY 2, 3
HAVING count(*) - count(no_o_id) <> count(o_carrier_id);
