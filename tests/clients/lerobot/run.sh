#!/usr/bin/env bash
# lerobot itself, in an environment of its own, opens what we write, and we open what it writes.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export LEROBOT_VENV=${LEROBOT_VENV:-$PWD/.lerobot-venv}
bash tests/clients/lerobot/setup.sh "$LEROBOT_VENV"
.venv/bin/python -m pytest tests/clients/lerobot
