#!/usr/bin/env bash
# Fuzzes each target for so many seconds: fuzz/run.sh SECONDS [TARGET ...]
#
# Needs a nightly compiler and `cargo install cargo-fuzz`. What is found to reach new code goes to fuzz/found, which is not kept;
# fuzz/corpus are the seeds. Prints how many inputs each target has run. The stable run over the same seeds is
# `cargo test --all-features --test hardening`.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
targets=("$@")
((${#targets[@]})) || targets=(frame digest delta reconcile apply resp http)
for target in "${targets[@]}"; do
  mkdir -p "fuzz/found/$target"
  cargo +nightly fuzz run "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -max_len=4096 -timeout=30 -rss_limit_mb=1024 -malloc_limit_mb=256 -print_final_stats=1 \
    2>&1 | tee "fuzz/found/$target.log" | grep -E "^(stat::|SUMMARY|==[0-9]+==|artifact_prefix|thread .* panicked)|panicked at" | sed "s/^/$target: /"
done
