#!/usr/bin/env bash
# Fuzz the decoder of chunks and the readers of metadata, so many seconds each (60).
#
#   bash tests/fuzz/run.sh [SECONDS] [PYTHON] [FOLDER]
#
# Needs clang, and the package atheris in the environment of PYTHON for the metadata; what is missing is named and
# left out. FOLDER keeps inputs for the next run; an input that fails is written to the current folder.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
seconds=${1:-60} python=${2:-python3} folder=${3:-$(mktemp -d)}
core=$root/src/libanscombe
sources=("$root/tests/fuzz/decode_chunk.c")
for source in "$core"/*.c; do
  # Other parts of the library; the decoder needs none of them.
  case $(basename "$source") in transform.c|noise_sums.c|hdf5_filter.c) ;; *) sources+=("$source") ;; esac
done
mkdir -p "$folder/seeds" "$folder/chunks" "$folder/metadata"

if command -v clang > /dev/null; then
  options=(-std=c11 -g -O1 -DANSCOMBE_DISPATCH "-I$core" -fno-sanitize-recover=all)
  clang "${options[@]}" -fsanitize=address,undefined -DSTANDALONE "${sources[@]}" -lm -o "$folder/encode"
  "$folder/encode" 60 1 "$folder/seeds"
  clang "${options[@]}" -fsanitize=fuzzer,address,undefined "${sources[@]}" -lm -o "$folder/decode_chunk"
  "$folder/decode_chunk" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    "$folder/chunks" "$folder/seeds" 2>&1 | grep -E 'ERROR|SUMMARY|stat::|Done' || exit 1
else
  echo "skipped: libFuzzer of the decoder, since clang is not installed"
fi

if "$python" -c 'import atheris' 2> /dev/null; then
  "$python" "$root/tests/fuzz/read_metadata.py" -max_total_time="$seconds" -max_len=256 -len_control=0 \
    -timeout=20 -rss_limit_mb=4096 "$folder/metadata"
else
  echo "skipped: the fuzzer of metadata, since the package atheris is not installed"
fi
