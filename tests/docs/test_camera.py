"""The camera loop of docs/outputs.md runs a policy from its ONNX file, in a process without torch and retrodict."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from retrodict import rng
from retrodict.cli import main
from retrodict.clip import Clip
from retrodict.models.policy import ClipPolicy
from retrodict.roles import System, View
from retrodict.run.checkpoint import load_system, save_system
from retrodict.spaces import ActionSpace, categorical

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

PAGE = Path(__file__).resolve().parents[2] / "docs/outputs.md"
SPACE = ActionSpace((categorical("move", ("stay", "left", "right")),))
BEFORE = """
import sys
sys.modules["torch"] = sys.modules["retrodict"] = None  # an import of either is an error
import numpy
def camera():
    yield from numpy.load("pictures.npy")
told = []
def robot(action, confidence):
    told.append([max(action, key=action.get), float(confidence)])
"""
AFTER = "\nprint(json.dumps(told))\n"


def test_twelve_lines_run_a_policy_without_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with rng.isolated("camera"):
        policy = ClipPolicy(View(3, 2, size=(16, 24)), SPACE, patch=4, width=8, depth=1, hidden=16)
    save_system(Path("RUN/system"), System(policy=policy))
    command = re.findall(r"^retrodict (export .*)$", PAGE.read_text(), re.MULTILINE)[0].split()
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["policy"]
    assert told["largest_difference"] < 1e-5
    (loop,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(loop.splitlines()) == 12
    pictures = rng.numpy_rng("camera").integers(0, 256, (9, 16, 24, 3), np.uint8)
    np.save("pictures.npy", pictures)
    done = subprocess.run([sys.executable, "-c", BEFORE + loop + AFTER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    frames = torch.from_numpy(pictures).permute(0, 3, 1, 2)[None]
    saved = load_system("RUN").policy
    assert saved is not None
    for t, (move, confidence) in enumerate(json.loads(done.stdout)):
        with torch.no_grad():
            wanted = saved.act(Clip(frames=frames[:, : t + 1]))[0]
        assert move == f"move={SPACE.describe(wanted.mode()[0])['move']}"
        assert confidence == pytest.approx(float(wanted.confidence()), abs=1e-5)
