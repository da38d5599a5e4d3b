#!/bin/sh
# Build frames.wasm, the decoder of the frame coder: sh build.sh [OUT.wasm]
#
# Needs clang and wasm-ld (packages clang and lld). No C library: string.h here has what the decoder uses of it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
core=$here/../../../src/libanscombe
"${CLANG:-clang}" --target=wasm32 -std=c11 -O3 -msimd128 -mbulk-memory -ffunction-sections -nostdlib \
  -isystem "$here" -I"$core" -Wl,--no-entry -Wl,--gc-sections -Wl,--strip-all \
  "$here/decoder.c" "$core/frames.c" "$core/predict.c" "$core/rans.c" "$core/checksum.c" \
  -o "${1:-$here/../frames.wasm}"
