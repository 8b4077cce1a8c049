\set w random(1, :warehouses)
\set d random(1, 10)
SELECT payment(:w, :d, :customers, :warehouses);
