/* lightning--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION lightning" to load this file. \quit

CREATE FUNCTION @extschema@.lightning_tableam_handler(internal)
RETURNS table_am_handler
AS 'MODULE_PATHNAME', 'lightning_tableam_handler'
LANGUAGE C STRICT;

CREATE ACCESS METHOD lightning TYPE TABLE HANDLER @extschema@.lightning_tableam_handler;
COMMENT ON ACCESS METHOD lightning IS 'compressed LSM tables with row-level logging';
