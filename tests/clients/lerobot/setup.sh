#!/usr/bin/env bash
# Usage: setup.sh VENV. Makes the environment in which lerobot 0.4.4 itself opens datasets, on a CPU, offline.
# PYTHON names the interpreter (that of .venv by default). Done in a moment when it is there already.
set -euo pipefail
venv=${1:?usage: setup.sh VENV}
python=${PYTHON:-.venv/bin/python}
# The torch of .venv. lerobot pins an older one, so it and torchvision (the last with the PyAV reader that lerobot
# decodes with) go in without dependencies.
torch=torch==2.13.0
bare=(lerobot==0.4.4 torchvision==0.25.0)
needs=(datasets==4.8.5 huggingface-hub==0.35.3 accelerate==1.15.0 av==15.1.0 pyarrow==26.0.1 pandas==3.1.1
  numpy==2.4.6 pillow==13.0.0 packaging==25.0 fsspec==2026.2.0 tqdm==4.70.1)

stamp=$venv/.complete
want="$torch ${bare[*]} ${needs[*]}"
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || { rm -rf "$venv"; exit 2; }
install=("$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check)
"${install[@]}" "$torch"
"${install[@]}" "${needs[@]}"
"${install[@]}" --no-deps "${bare[@]}"
echo "$want" >"$stamp"
