#!/usr/bin/env bash
# Compares GET and SET of three nodes of driftless with one redis-server, in one run, with redis-benchmark.
#
#   cargo build --release -p driftless-cli
#   crates/driftless-cli/benches/load.sh target/release/driftless
#
# Needs redis-server and redis-benchmark. Every figure is the median of ROUNDS rounds, which alternate between the two
# servers, in requests a second. SET of driftless is replicated to two other nodes meanwhile. Run it on a quiet machine:
# the clients, the servers and the other nodes share its processors.
set -euo pipefail
driftless=${1:?path of the program driftless}
rounds=${ROUNDS:-3}
folder=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT

redis-server --port 6390 --save '' --appendonly no --bind 127.0.0.1 >/dev/null &
pids+=($!)
for node in 0 1 2; do
  seed=()
  [ "$node" = 0 ] || seed=(--seed 127.0.0.1:7490)
  "$driftless" serve --cluster load --bind "127.0.0.1:749$node" --redis "127.0.0.1:649$node" "${seed[@]}" \
    >"$folder/node$node" 2>&1 &
  pids+=($!)
  until grep -q '^ready' "$folder/node$node"; do
    kill -0 "${pids[-1]}" 2>/dev/null || { cat "$folder/node$node" >&2; exit 1; }
    sleep 0.1
  done
done

rate() { # port, command, clients, pipeline
  local requests=$((20000 * $4 + 40000))
  redis-benchmark -p "$1" -t "$2" -c "$3" -P "$4" -n "$requests" -d 100 -r 100000 --csv 2>/dev/null |
    tail -1 | cut -d'"' -f4 | cut -d. -f1
}
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }

rate 6390 set 50 16 >/dev/null # Fills the key space of both.
rate 6490 set 50 16 >/dev/null
echo "load average $(cut -d' ' -f1 /proc/loadavg), $(nproc) processors, $(redis-server --version | cut -d' ' -f3)"
echo "| command | clients | pipeline | redis-server | driftless | ratio |"
echo "| --- | --- | --- | --- | --- | --- |"
for command in get set; do
  for clients in 50 900; do
    for pipeline in 1 16 100; do
      theirs=() ours=()
      for _ in $(seq "$rounds"); do
        theirs+=("$(rate 6390 "$command" "$clients" "$pipeline")")
        ours+=("$(rate 6490 "$command" "$clients" "$pipeline")")
      done
      a=$(median "${theirs[@]}") b=$(median "${ours[@]}")
      echo "| $command | $clients | $pipeline | $a | $b | $(awk "BEGIN { printf \"%.2f\", $b / $a }") |"
    done
  done
done
