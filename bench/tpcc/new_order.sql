\set w random(1, :warehouses)
\set d random(1, 10)
\set c random(1, :customers)
DO LANGUAGE plpgsql $$BEGIN PERFORM new_order(:w, :d, :c, :warehouses, :items); EXCEPTION WHEN no_data_found THEN NULL; END$$;
