-- What test builds have (src/stoppoint.c).

CREATE FUNCTION @extschema@.lightning_stop_point_set(name text) RETURNS void
AS 'MODULE_PATHNAME', 'lightning_stop_point_set' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION @extschema@.lightning_stop_point_wait(name text) RETURNS void
AS 'MODULE_PATHNAME', 'lightning_stop_point_wait' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION @extschema@.lightning_stop_point_release(name text) RETURNS integer
AS 'MODULE_PATHNAME', 'lightning_stop_point_release' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION @extschema@.lightning_fault_set(operation text, error text DEFAULT 'EIO',
	nth integer DEFAULT 1, sticky boolean DEFAULT false) RETURNS void
AS 'MODULE_PATHNAME', 'lightning_fault_set' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION @extschema@.lightning_fault_clear() RETURNS boolean
AS 'MODULE_PATHNAME', 'lightning_fault_clear' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION @extschema@.lightning_skip_row_ids("table" regclass, n bigint) RETURNS void
AS 'MODULE_PATHNAME', 'lightning_skip_row_ids' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;

REVOKE ALL ON FUNCTION @extschema@.lightning_stop_point_set(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_stop_point_wait(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_stop_point_release(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_fault_set(text, text, integer, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_fault_clear() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_skip_row_ids(regclass, bigint) FROM PUBLIC;
