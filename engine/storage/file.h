/*
 * file.h
 *	  Names of the engine's files and a per-session cache of open data files.
 *
 * Names: data files "%016llx.run", written as "%016llx.run.tmp" and renamed;
 * manifests "%016llx.manifest" likewise.  Anything else in the directory is
 * not ours and is left alone, except our own "*.tmp" leftovers.
 */
#ifndef LTG_FILE_H
#define LTG_FILE_H

#include "base/session.h"

#define LTG_NAME_MAX 48

extern void ltg_run_name(char *buf, LtgFileId id);	/* buf[LTG_NAME_MAX] */
extern void ltg_run_tmp_name(char *buf, LtgFileId id);
extern bool ltg_parse_run_name(const char *name, LtgFileId *id, bool *is_tmp);
/* Is name 16 hexadecimal digits, then suffix, then perhaps ".tmp"? */
extern bool ltg_parse_name(const char *name, const char *suffix, uint64_t *number, bool *is_tmp);

extern LtgStatus ltg_file_cache_create(LtgSession *s) LTG_MUST_CHECK;
extern void ltg_file_cache_destroy(LtgSession *s);
/*
 * The open file of a data file, opened if need be (least recently used one is
 * closed beyond a limit).  A missing file is LTG_CORRUPT that names it.  The
 * handle is valid until the next call on this session.  "removed" is a shared
 * counter of removed files: when it moved, handles of removed files are closed
 * first so that their space returns to the file system.
 */
extern LtgStatus ltg_file_get(LtgSession *s, LtgFileId id, LtgFile **file) LTG_MUST_CHECK;
/* Close all handles (a worker between rounds, a session at its end). */
extern void ltg_file_cache_close_all(LtgSession *s);

#endif
