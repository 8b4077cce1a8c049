#!/bin/bash
# The engine as an embedded library beside RocksDB and LMDB.
#
#	KEYS     list of sizes (default "1000000 10000000")
#	ROUNDS   how often each phase runs, in turns (default 5)
#	MEMORY   list of budgets in MB for caches and write buffers (default 1024)
#
# The report goes to standard output and bench/results/kv.txt, raw lines to
# bench/results/kv.tsv.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
"$top/.ci/deps" librocksdb-dev liblmdb-dev
build=$top/bench/build
mkdir -p "$build" "$top/bench/results"
make -s -C "$top/engine" lib
for f in kv kv_lightning kv_rocksdb kv_lmdb; do
	${CC:-gcc} -std=gnu11 -O2 -g -Wall -Wextra -I"$top/engine" -c -o "$build/$f.o" "$top/bench/kv/$f.c"
done
${CC:-gcc} -o "$build/kv" "$build"/kv*.o "$top/engine/build/plain/libltg.a" \
	-lrocksdb -llmdb -lzstd -llz4 -lpthread -lm

work=$(mktemp -d "${TMPDIR:-/tmp}/lightning-kv.XXXXXX")
trap 'rm -rf "$work"' EXIT
: >"$top/bench/results/kv.txt"
: >"$top/bench/results/kv.tsv"
for keys in ${KEYS:-1000000 10000000}; do
for memory in ${MEMORY:-1024}; do
	mkdir "$work/$keys"
	"$build/kv" -n "$keys" -r "${ROUNDS:-5}" -m "$memory" -t 2 -d "$work/$keys" |
		tee >(grep '^raw' | sed "s/^raw/$keys\t$memory/" >>"$top/bench/results/kv.tsv") |
		grep -v '^raw' | tee -a "$top/bench/results/kv.txt"
	rm -rf "$work/$keys"
done
done
