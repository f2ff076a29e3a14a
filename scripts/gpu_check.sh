#!/usr/bin/env bash
# What holds on a CUDA machine: correctness against the CPU, bf16, compile, throughput, one medium training.
# Usage: scripts/gpu_check.sh [OUT]    writes OUT/gpu.json (default: results/gpu). Needs torch with CUDA and numpy,
# pyarrow, safetensors, einops and jaxtyping; not av, gymnasium or tyro.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-results/gpu}
mkdir -p "$out"
PYTHONPATH=src ${PYTHON:-python3} scripts/gpu_check.py "$out"
