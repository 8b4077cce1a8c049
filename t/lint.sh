#!/bin/bash
# Rules that a machine can check.  Prints what is wrong; exits 1 if anything is.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
"$top/.ci/deps" clang-tidy cppcheck clang-format universal-ctags >/dev/null || exit 1
bad=$(mktemp)	# not empty: something was found (pipelines run in subshells)
trap 'rm -f "$bad"' EXIT

complain() # title, findings on standard input
{
	local found
	found=$(cat)
	[ -n "$found" ] || return
	printf '%s:\n%s\n\n' "$1" "$found"
	echo 1 >>"$bad"
}

# ---- layering: dependencies point down only ----
grep -nE '#include +[<"](postgres\.h|fmgr\.h|access/|storage/(lwlock|bufmgr|ipc|fd)|utils/|miscadmin)' -r engine --include='*.[ch]' |
	complain "the engine must not include PostgreSQL's headers"
grep -nE '#include "(storage|tree|lt|port)/' engine/base/*.[ch] 2>/dev/null |
	grep -vE 'base/(epoch|session)\.[ch]' | complain "base/ may include only base/"
grep -nE '#include "(tree|lt|port)/' engine/storage/*.[ch] | complain "storage/ may not include upper layers"
grep -nE '#include "(lt|port)/' engine/tree/*.[ch] engine/*.[ch] | complain "tree/ may not include hosts"
grep -nE '#include "(\.\./engine/|)(tree|storage|lt|port)/(memtable|run|publish|shared|cache|manifest|lt|port_posix)' src/*.[ch] |
	complain "src/ may include only the engine's public headers"
grep -nE '\bltg_ddl_(un)?pin' src/*.[ch] | grep -v '^src/session.c' | complain "lightning_ddl_begin and lightning_ddl_end, instead"
grep -n PG_VERSION_NUM src/*.[ch] | grep -v '^src/compat.h' | complain "PG_VERSION_NUM belongs in src/compat.h"

# ---- what the engine's core may call ----
make -s -C engine lib >/dev/null 2>&1 || echo "the engine does not build" | complain build
for o in $(find engine/build/plain/base engine/build/plain/storage engine/build/plain/tree engine/build/plain/*.o -name '*.o' 2>/dev/null); do
	nm -u "$o" | awk '{print $2}' | grep -E '^(malloc|calloc|realloc|free|printf|fprintf|puts|pthread_.*|open|open64|read|write|pread.*|pwrite.*|fsync|longjmp|exit)$' | sed "s|^|$o calls |"
done | complain "the engine's core must reach its host through the port"

# ---- unfinished work, oversized pieces ----
git grep -nE '\b(TODO|FIXME|XXX|HACK)\b' -- '*.c' '*.h' '*.sql' '*.pl' '*.sh' Makefile ':!t/lint.sh' |
	complain "finish it, or refuse it clearly"
git ls-files '*.c' '*.h' | while read -r f; do
	n=$(wc -l <"$f")
	case $f in engine/test/*) limit=1200 ;; *) limit=1000 ;; esac
	[ "$n" -le $limit ] || echo "$f has $n lines"
done | complain "files with more than one idea"
git ls-files '*.c' | while read -r f; do
	ctags --languages=C --kinds-C=f --fields=+ne -o - "$f" 2>/dev/null
done | awk -F'\t' '{l = e = 0; for (i = 4; i <= NF; i++) {if ($i ~ /^line:/) l = substr($i, 6); if ($i ~ /^end:/) e = substr($i, 5)}
	if (e - l > 150) printf "%4d lines  %s  %s\n", e - l, $2, $1}' | complain "functions that do not fit a screen or two"

# ---- static analysis ----
cppcheck --quiet --std=c11 --enable=warning,portability,performance --inline-suppr -Iengine \
	--suppress=missingInclude --suppress=missingIncludeSystem --error-exitcode=0 \
	$(git ls-files 'engine/*.c' | grep -v '/test/') 2>&1 | grep -E '(error|warning|portability|performance):' | complain cppcheck

if [ -s "$bad" ]; then exit 1; fi
echo "lint: nothing to complain about"
