#!/usr/bin/env bash
# What holds on a CUDA machine: correctness against the CPU, bf16, compile, throughput, one medium training, and updates
# of two worlds as they are, compiled and as CUDA graphs.
# Usage: scripts/gpu_check.sh [OUT]    writes OUT/gpu.json (default: results/gpu). Needs torch with CUDA and numpy,
# pyarrow, safetensors, einops and jaxtyping; not av, gymnasium or tyro.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-results/gpu}
mkdir -p "$out"
PYTHONPATH=src ${PYTHON:-python3} scripts/gpu_check.py "$out"

# The published tier, where the control suite and the command line are installed (pip install 'shimmy[dm-control]'):
# TD-MPC2 with its published settings after 100,000 steps of the suite, an action lasting two (published: 962 and 981).
# Hours a task; its rows are written to OUT/TASK.json.
if ${PYTHON:-python3} -c "import dm_control, gymnasium, shimmy, tyro" 2>/dev/null; then
    export PYTHONPATH=src MUJOCO_GL=${MUJOCO_GL:-egl}
    for task in walker-walk ball_in_cup-catch; do
        world=dm_control/$task-v0 options=(--set numbers=true --set repeat=2 --set size=32) run=runs/published/$task
        ${PYTHON:-python3} -m retrodict record "$world" "${options[@]}" --policy random --episodes 5 --out "$run/data"
        ${PYTHON:-python3} -m retrodict train tdmpc2 --data "$run/data" --out "$run/run" --size paper --env "$world" --device cuda \
            --set played=47500 --set fit.steps=47500
        ${PYTHON:-python3} -m retrodict act "$run/run" --env "$world" "${options[@]}" --episodes 10 --json > "$out/$task.json"
    done
fi
