#!/bin/bash
# Nanoseconds per operation of the engine's in-memory parts; see micro/memory.c.
#
#	KEYS     keys in the generation (default 500000)
#	ROUNDS   rounds, of which the best counts (default 3)
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$top/bench/build"
make -s -C "$top/engine" lib
${CC:-gcc} -std=gnu11 -O2 -g -Wall -Wextra -I"$top/engine" -o "$top/bench/build/memory" \
	"$top/bench/micro/memory.c" "$top/engine/build/plain/libltg.a" -lzstd -llz4 -lpthread -lm
"$top/bench/build/memory" "${KEYS:-500000}" "${ROUNDS:-3}"
