#!/usr/bin/env bash
# What holds on a CUDA machine: correctness against the CPU, bf16, compile, throughput, one medium training, and updates
# of two worlds as they are, compiled, as CUDA graphs, and as one graph.
# Usage: scripts/gpu_check.sh [OUT]    writes OUT/gpu.json (default: results/gpu). Needs torch with CUDA and numpy,
# pyarrow, safetensors, einops and jaxtyping; not av, gymnasium or tyro.
#        scripts/gpu_check.sh OUT published    the published tier alone, where the control suite and the command line are
# installed (pip install 'shimmy[dm-control]'): TD-MPC2 with its published settings after 100,000 steps of walker-walk
# and cup-catch, an action lasting two (published: 962 and 981). Writes OUT/TASK.json; goes on where it was stopped.
# Needs OUT/gpu.json.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-results/gpu} python=${PYTHON:-python3}
mkdir -p "$out"
export PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH}
[ "${2:-}" = published ] || { exec "$python" scripts/gpu_check.py "$out"; }

task() {
    local world=dm_control/$1-v0 run=runs/published/$1
    local options=(--set numbers=true --set pictures=false --set repeat=2 --set size=8)
    mkdir -p "$run"
    "$python" -m retrodict record "$world" "${options[@]}" --policy random --episodes 5 --out "$run/data"
    "$python" -m retrodict train tdmpc2 --data "$run/data" --out "$run/run" --size paper --env "$world" --copies 4 \
        --device cuda --compile whole --set played=47500 --set fit.steps=47500
    "$python" -m retrodict act "$run/run" --env "$world" "${options[@]}" --episodes 10 --device cuda --json > "$run/act.json"
    "$python" scripts/gpu_check.py "$out" published "$1" > "$out/$1.json"
}
export MUJOCO_GL=disabled
task walker-walk 2> "$out/walker-walk.log" & first=$!
task ball_in_cup-catch 2> "$out/ball_in_cup-catch.log" & second=$!
bad=0
wait $first || bad=$?
wait $second || bad=$?
exit $bad
