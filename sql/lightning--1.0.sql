/* lightning--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION lightning" to load this file. \quit

CREATE FUNCTION @extschema@.lightning_tableam_handler(internal)
RETURNS table_am_handler
AS 'MODULE_PATHNAME', 'lightning_tableam_handler'
LANGUAGE C STRICT;

CREATE ACCESS METHOD lightning TYPE TABLE HANDLER @extschema@.lightning_tableam_handler;
COMMENT ON ACCESS METHOD lightning IS 'compressed LSM tables with row-level logging';

-- Maintenance

CREATE FUNCTION @extschema@.lightning_check("table" regclass, index boolean DEFAULT false) RETURNS SETOF text
AS 'MODULE_PATHNAME', 'lightning_check' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lightning_check(regclass, boolean)
IS 'verify a lightning table, with index also that rows and indexes agree; returns one line per problem';

CREATE FUNCTION @extschema@.lightning_check_all(index boolean DEFAULT false) RETURNS SETOF text
AS 'MODULE_PATHNAME', 'lightning_check_all' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lightning_check_all(boolean)
IS 'verify all lightning tables of all databases, with index also the indexes of this one; returns one line per problem';

CREATE FUNCTION @extschema@.lightning_flush() RETURNS void
AS 'MODULE_PATHNAME', 'lightning_flush' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lightning_flush() IS 'write the memtable to files';

CREATE FUNCTION @extschema@.lightning_compact("table" regclass, flush boolean DEFAULT true,
	rewrite boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'lightning_compact' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lightning_compact(regclass, boolean, boolean)
IS 'merge all files of a lightning table';

CREATE FUNCTION @extschema@.lightning_relation_size("table" regclass) RETURNS bigint
AS 'MODULE_PATHNAME', 'lightning_relation_bytes' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.lightning_relation_size(regclass)
IS 'bytes that a lightning table takes in files';

-- PostgreSQL's size functions, counting lightning's files as well: calls of
-- pg_relation_size() and so on end here.

CREATE FUNCTION @extschema@.lightning_pg_relation_size("table" regclass) RETURNS bigint
AS 'MODULE_PATHNAME', 'lightning_pg_relation_size' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
CREATE FUNCTION @extschema@.lightning_pg_relation_size("table" regclass, fork text) RETURNS bigint
AS 'MODULE_PATHNAME', 'lightning_pg_relation_size' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
CREATE FUNCTION @extschema@.lightning_pg_table_size("table" regclass) RETURNS bigint
AS 'MODULE_PATHNAME', 'lightning_pg_table_size' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
CREATE FUNCTION @extschema@.lightning_pg_total_relation_size("table" regclass) RETURNS bigint
AS 'MODULE_PATHNAME', 'lightning_pg_total_relation_size' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
CREATE FUNCTION @extschema@.lightning_pg_database_size(oid) RETURNS bigint
AS 'MODULE_PATHNAME', 'lightning_pg_database_size_oid' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
CREATE FUNCTION @extschema@.lightning_pg_database_size(name) RETURNS bigint
AS 'MODULE_PATHNAME', 'lightning_pg_database_size_name' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

-- Around the argument of functions that read pages: returns it, or refuses a
-- lightning table.

CREATE FUNCTION @extschema@.lightning_has_pages("table" regclass) RETURNS regclass
AS 'MODULE_PATHNAME', 'lightning_has_pages_regclass' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
CREATE FUNCTION @extschema@.lightning_has_pages("table" text) RETURNS text
AS 'MODULE_PATHNAME', 'lightning_has_pages_text' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

-- Statistics

CREATE FUNCTION @extschema@.lightning_gate_state() RETURNS text
AS 'MODULE_PATHNAME', 'lightning_gate_state' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE FUNCTION @extschema@.lightning_stat_memtable(
	OUT arenas_used bigint, OUT arenas_frozen bigint, OUT used_bytes bigint,
	OUT capacity_bytes bigint, OUT freezes bigint, OUT refused bigint, OUT waits bigint)
AS 'MODULE_PATHNAME', 'lightning_stat_memtable' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE FUNCTION @extschema@.lightning_stat_cache(
	OUT hits bigint, OUT misses bigint, OUT ghost_hits bigint, OUT evictions bigint,
	OUT bypasses bigint, OUT frames bigint, OUT frames_used bigint, OUT frame_bytes bigint,
	OUT ghost_hits_recent bigint, OUT ghost_hits_frequent bigint, OUT recent bigint,
	OUT frequent bigint, OUT recent_ghosts bigint, OUT frequent_ghosts bigint,
	OUT recent_target bigint, OUT pinned bigint, OUT prewarm_read bigint,
	OUT prewarm_saved bigint, OUT compressed_hits bigint, OUT compressed_misses bigint,
	OUT compressed_inserts bigint, OUT compressed_evictions bigint,
	OUT compressed_blocks bigint, OUT compressed_used_bytes bigint,
	OUT compressed_capacity_bytes bigint)
AS 'MODULE_PATHNAME', 'lightning_stat_cache' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE FUNCTION @extschema@.lightning_stat_background(
	OUT flushes bigint, OUT flush_bytes bigint, OUT flush_versions_in bigint,
	OUT flush_versions_out bigint, OUT flush_failures bigint, OUT checkpoint_flushes bigint,
	OUT compactions bigint, OUT compact_bytes_read bigint, OUT compact_bytes_written bigint,
	OUT compact_versions_in bigint, OUT compact_versions_out bigint,
	OUT compact_failures bigint, OUT files_removed bigint, OUT orphans_dropped bigint,
	OUT compaction_workers bigint, OUT worker_slots_missed bigint,
	OUT rows_lost bigint)
AS 'MODULE_PATHNAME', 'lightning_stat_background' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE FUNCTION @extschema@.lightning_stat_files(
	OUT files bigint, OUT file_bytes bigint, OUT obsolete_files bigint,
	OUT manifest bigint, OUT durable_lsn pg_lsn, OUT tables bigint,
	OUT metadata_used_bytes bigint, OUT metadata_total_bytes bigint, OUT manifest_bytes_written bigint,
	OUT commit_log_copies bigint)
AS 'MODULE_PATHNAME', 'lightning_stat_files' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE FUNCTION @extschema@.lightning_stat_wal(
	OUT records bigint, OUT bytes bigint, OUT session_records bigint, OUT session_bytes bigint)
AS 'MODULE_PATHNAME', 'lightning_stat_wal' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;

CREATE FUNCTION @extschema@.lightning_stat_stores(
	OUT tablespace oid, OUT database oid, OUT relfilenode oid, OUT backend integer,
	OUT stamp pg_lsn, OUT unlogged boolean, OUT next_rowid bigint, OUT runs bigint,
	OUT level0_runs bigint, OUT levels bigint, OUT entries bigint, OUT keys bigint,
	OUT tombstones bigint, OUT unsettled bigint, OUT disk_bytes bigint, OUT raw_bytes bigint,
	OUT min_xid bigint, OUT memtable_keys bigint, OUT damaged boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'lightning_stat_stores' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE FUNCTION @extschema@.lightning_snapshots(
	OUT pid integer, OUT backend_xmin xid, OUT known boolean, OUT snapshots integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'lightning_snapshots' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;

CREATE VIEW @extschema@.pg_stat_lightning_snapshots AS
	SELECT s.*, a.datname, a.usename, a.application_name, a.xact_start, a.state
	FROM @extschema@.lightning_snapshots() s
	LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.pid;
COMMENT ON VIEW @extschema@.pg_stat_lightning_snapshots
	IS 'who may still need old row versions: known ones keep one per row and snapshot, others all since their xmin';

CREATE FUNCTION @extschema@.lightning_stat_compaction(
	OUT backlog bigint, OUT jobs bigint, OUT compactions bigint, OUT moves bigint,
	OUT tier_merges bigint, OUT garbage_merges bigint, OUT row_bytes bigint,
	OUT flush_bytes bigint, OUT bytes_read bigint, OUT bytes_written bigint,
	OUT obsolete_bytes bigint, OUT rate_limit_bytes bigint, OUT rate_limit_waits bigint,
	OUT rate_limit_wait_us bigint, OUT write_rate_bytes bigint, OUT write_delays bigint,
	OUT write_delay_us bigint, OUT write_stops bigint)
AS 'MODULE_PATHNAME', 'lightning_stat_compaction' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE FUNCTION @extschema@.lightning_progress_compact(
	OUT pid integer, OUT tablespace oid, OUT database oid, OUT relfilenode oid,
	OUT reason text, OUT phase text, OUT from_level integer, OUT to_level integer,
	OUT runs integer, OUT bytes_total bigint, OUT bytes_read bigint, OUT bytes_written bigint,
	OUT versions_read bigint, OUT versions_written bigint, OUT running interval)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'lightning_progress_compact' LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW @extschema@.pg_stat_lightning_compaction AS
	SELECT c.*,
		   pg_catalog.round((c.flush_bytes OPERATOR(pg_catalog.+) c.bytes_written)::numeric
			OPERATOR(pg_catalog./) nullif(c.row_bytes, 0), 2) AS write_amplification,
		   pg_catalog.round((c.flush_bytes OPERATOR(pg_catalog.+) c.bytes_written)::numeric
			OPERATOR(pg_catalog./) nullif(c.flush_bytes, 0), 2) AS write_amplification_compressed
	FROM @extschema@.lightning_stat_compaction() c;
CREATE VIEW @extschema@.pg_stat_progress_lightning_compact AS
	SELECT p.pid, p.database AS datid, d.datname,
		   CASE WHEN d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
				THEN pg_catalog.pg_filenode_relation(p.tablespace, p.relfilenode) END AS relid,
		   p.reason, p.phase, p.from_level, p.to_level, p.runs, p.bytes_total, p.bytes_read,
		   p.bytes_written, p.versions_read, p.versions_written, p.running
	FROM @extschema@.lightning_progress_compact() p
	LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) p.database;
CREATE VIEW @extschema@.pg_stat_lightning_memtable AS
	SELECT * FROM @extschema@.lightning_stat_memtable();
CREATE VIEW @extschema@.pg_stat_lightning_cache AS
	SELECT * FROM @extschema@.lightning_stat_cache();
CREATE VIEW @extschema@.pg_stat_lightning_background AS
	SELECT @extschema@.lightning_gate_state() AS gate, b.*
	FROM @extschema@.lightning_stat_background() b;
CREATE VIEW @extschema@.pg_stat_lightning_files AS
	SELECT * FROM @extschema@.lightning_stat_files();
CREATE VIEW @extschema@.pg_stat_lightning_wal AS
	SELECT * FROM @extschema@.lightning_stat_wal();
CREATE VIEW @extschema@.pg_stat_lightning_runs AS
	SELECT c.oid AS relid, n.nspname AS schemaname, c.relname,
		   s.runs, s.level0_runs, s.levels, s.entries, s.keys, s.tombstones, s.unsettled,
		   s.disk_bytes, s.raw_bytes, s.next_rowid, s.min_xid, s.memtable_keys,
		   s.damaged
	FROM @extschema@.lightning_stat_stores() s
	JOIN pg_catalog.pg_class c
	  ON c.relfilenode OPERATOR(pg_catalog.=) s.relfilenode AND c.relkind IN ('r', 'm', 't')
	 AND s.database OPERATOR(pg_catalog.=)
		 (SELECT d.oid FROM pg_catalog.pg_database d
		  WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
	JOIN pg_catalog.pg_am a ON a.oid OPERATOR(pg_catalog.=) c.relam
	 AND a.amname OPERATOR(pg_catalog.=) 'lightning'
	LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace;

-- Settings

CREATE FUNCTION @extschema@.lightning_presets(OUT preset text, OUT name text, OUT value text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'lightning_presets' LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.lightning_presets()
IS 'defaults that differ from those of the preset "balanced"';

CREATE VIEW @extschema@.lightning_settings AS
	SELECT s.name, s.setting, s.unit,
		   CASE WHEN s.source OPERATOR(pg_catalog.<>) 'default' THEN 'explicit'
				WHEN p.name IS NOT NULL THEN 'preset'
				ELSE 'default' END AS source,
		   pg_catalog.current_setting('lightning.preset') AS preset,
		   p.value AS preset_value, s.boot_val AS default_setting,
		   s.source AS set_by, s.sourcefile, s.sourceline, s.context,
		   s.pending_restart, s.short_desc
	FROM pg_catalog.pg_settings s
	LEFT JOIN @extschema@.lightning_presets() p
	  ON p.name OPERATOR(pg_catalog.=) s.name
	 AND p.preset OPERATOR(pg_catalog.=) pg_catalog.current_setting('lightning.preset')
	WHERE pg_catalog.starts_with(s.name, 'lightning.');
COMMENT ON VIEW @extschema@.lightning_settings
IS 'settings in effect, and whether they were set, come from lightning.preset, or are defaults';
GRANT SELECT ON @extschema@.lightning_settings TO PUBLIC;

-- Options of tables

CREATE FUNCTION @extschema@.lightning_options("table" regclass,
	OUT compression text, OUT compression_level integer, OUT block_size integer)
AS 'MODULE_PATHNAME', 'lightning_options' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.lightning_options(regclass)
IS 'how the blocks of a lightning table are written from now on, defaults filled in';

CREATE VIEW @extschema@.lightning_table_options AS
	SELECT c.oid AS relid, n.nspname AS schemaname, c.relname,
		   o.compression, o.compression_level::integer, o.block_size
	FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_am a ON a.oid OPERATOR(pg_catalog.=) c.relam
	 AND a.amname OPERATOR(pg_catalog.=) 'lightning'
	LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace,
	LATERAL (
		SELECT pg_catalog.max(option_value) FILTER
			(WHERE option_name OPERATOR(pg_catalog.=) 'lightning.compression') AS compression,
			pg_catalog.max(option_value) FILTER
			(WHERE option_name OPERATOR(pg_catalog.=) 'lightning.compression_level') AS compression_level,
			pg_catalog.max(option_value) FILTER
			(WHERE option_name OPERATOR(pg_catalog.=) 'lightning.block_size') AS block_size
		FROM pg_catalog.pg_options_to_table(c.reloptions)) o;
COMMENT ON VIEW @extschema@.lightning_table_options
IS 'options that were set for lightning tables, null where they have defaults';
GRANT SELECT ON @extschema@.lightning_table_options TO PUBLIC;

-- Who may do what

REVOKE ALL ON FUNCTION @extschema@.lightning_check(regclass, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_check_all(boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_flush() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_gate_state() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_stat_memtable() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_stat_cache() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_stat_background() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_stat_files() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_stat_wal() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_stat_stores() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_snapshots() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_stat_compaction() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.lightning_progress_compact() FROM PUBLIC;

GRANT EXECUTE ON FUNCTION @extschema@.lightning_check(regclass, boolean) TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.lightning_check_all(boolean) TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.lightning_gate_state() TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.lightning_stat_memtable() TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.lightning_stat_cache() TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.lightning_stat_background() TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.lightning_stat_files() TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.lightning_stat_wal() TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.lightning_stat_stores() TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.lightning_snapshots() TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.lightning_stat_compaction() TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.lightning_progress_compact() TO pg_monitor;
GRANT SELECT ON @extschema@.pg_stat_lightning_memtable, @extschema@.pg_stat_lightning_cache,
	@extschema@.pg_stat_lightning_background, @extschema@.pg_stat_lightning_files,
	@extschema@.pg_stat_lightning_wal, @extschema@.pg_stat_lightning_runs,
	@extschema@.pg_stat_lightning_snapshots,
	@extschema@.pg_stat_lightning_compaction, @extschema@.pg_stat_progress_lightning_compact
	TO pg_monitor;
