"""Models as ONNX files: the same answers as torch's, a card that suffices, and refusals that leave nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from retrodict import rng
from retrodict.clip import Clip
from retrodict.errors import Damaged, Incompatible, MissingPackage, UnusableInput
from retrodict.models.actor_critic import ActorCritic
from retrodict.models.ensemble import Ensemble
from retrodict.models.inverse import Inverse
from retrodict.models.latent_action import CodeAdapter, LatentInverse
from retrodict.models.policy import ClipPolicy
from retrodict.recipes.joint import JointInverse, JointPolicy
from retrodict.roles import DecodedInverse, DecodedPolicy, InverseModel, View
from retrodict.run import onnx_file
from retrodict.run.onnx_file import OnnxInverse, export_onnx
from retrodict.spaces import ActionSpace, Distribution, Segment, categorical, continuous

pytest.importorskip("onnxscript")
ort = pytest.importorskip("onnxruntime")

SIZE = (24, 24)
MOVES = ActionSpace((categorical("move", ("stay", "left", "right", "jump"), groups=(("stay", "jump"),)),))
MIXED = ActionSpace((*MOVES.segments, continuous("v", ("x", "y"), scale=(2.0, 3.0)), Segment("keys", "binary", ("a",))))


def built(make: object, *arguments: object, **more: object) -> torch.nn.Module:
    with rng.isolated("onnx", str(make)):
        part = make(*arguments, **more)  # type: ignore[operator]
    return part.to(memory_format=torch.channels_last).eval()  # type: ignore[no-any-return]


def supervised() -> Inverse:
    """Sees frames t-2, t and t+2; calibrated."""
    part = built(Inverse, View(3, 1, every=2, size=SIZE), MIXED, "both", "changed", "grid", 4, width=8, hidden=16)
    assert isinstance(part, Inverse)
    part.temperature.fill_(1.7)
    return part


def together() -> Ensemble:
    """Two nets that answer as one, with temperatures of their own."""
    parts = [built(Inverse, View(2, size=SIZE), MOVES, "both", "flatten", "grid", 4, width=8, hidden=8) for _ in "ab"]
    part = Ensemble(parts)  # type: ignore[arg-type]
    part.temperature.copy_(torch.tensor([1.0, 2.0, 3.0, 1.0]))
    return part.eval()


def latent() -> DecodedInverse:
    """Codes of three frames, told as actions by an adapter."""
    inner = built(LatentInverse, View(3, 1, size=SIZE), patch=4, width=8)
    return DecodedInverse(inner, built(CodeAdapter, MOVES, inner.space))  # type: ignore[arg-type]


def joint() -> JointInverse:
    return built(JointInverse, built(JointPolicy, View(size=SIZE), MOVES, 4, 8, 1, 16))  # type: ignore[return-value]


def footage(length: int, rows: int = 1) -> Clip:
    draws = rng.torch_rng("onnx footage", length)
    return Clip(frames=torch.randint(0, 256, (rows, length, 3, *SIZE), generator=draws, dtype=torch.uint8))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a joint net's inverse model."""
    folder = tmp_path_factory.mktemp("onnx") / "out"
    export_onnx({"inverse": joint()}, folder, {})
    return folder


def assert_same(inverse: InverseModel, folder: Path) -> None:
    again = OnnxInverse(folder)
    assert (again.view, again.space) == (inverse.view, inverse.space)
    segment = torch.tensor([[0] * 5 + [1] * 8, [2] * 12 + [3]], dtype=torch.int32)
    for clip in (footage(9), replace(footage(13, rows=2), segment=segment), footage(2), footage(1)):
        with torch.no_grad():
            wanted, got = inverse.infer(clip), again.infer(clip)
        assert got.params.shape == wanted.params.shape
        assert torch.allclose(got.params, wanted.params, atol=1e-5)


def test_a_net_of_one_frame_answers_the_same_by_onnx_runtime(exported: Path) -> None:
    assert_same(joint(), exported)


@pytest.mark.parametrize("make", [supervised, together, latent])
def test_an_inverse_model_answers_the_same_by_onnx_runtime(make: object, tmp_path: Path) -> None:
    inverse = make()  # type: ignore[operator]
    card = export_onnx({"inverse": inverse}, tmp_path / "out", {})
    assert 0 <= card["inverse"]["largest_difference"] < 1e-5
    assert_same(inverse, tmp_path / "out")


def test_the_card_says_all_that_it_takes_to_run_a_policy(tmp_path: Path) -> None:
    inner = built(ClipPolicy, View(2, 1, every=3, size=SIZE), LatentInverse(View(2, 0, size=SIZE)).space, patch=4)
    policy = DecodedPolicy(inner, built(CodeAdapter, MOVES, inner.space))  # type: ignore[arg-type]
    export_onnx({"policy": policy}, tmp_path / "out", {"system": "abc"})
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert card["system"] == "abc"
    told = card["policy"]
    assert told["input"]["shape"] == [None, 4, 3, *SIZE]
    assert told["outputs"]["action"] == list(MOVES.columns)
    assert told["input"]["order"].startswith("frames -3 .. 0 ")
    session = ort.InferenceSession(tmp_path / "out" / told["file"])
    frames = footage(4, rows=6).frames
    assert frames is not None
    _, action, confidence = session.run(None, {told["input"]["name"]: frames.numpy()})
    with torch.no_grad():
        wanted = policy.act(Clip(frames=frames))[0]
    assert np.array_equal(action, wanted.mode().numpy())
    assert np.allclose(confidence, wanted.confidence().numpy(), atol=1e-6)


def test_other_answers_are_refused_and_nothing_is_left(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        onnx_file, "_convert", lambda name, answer, shape, path: shutil.copy(exported / "inverse.onnx", path)
    )
    other = joint()
    with torch.no_grad():
        other.policy.net.action.bias[0] += 1e-3
    with pytest.raises(UnusableInput, match="the inverse answers otherwise in ONNX Runtime"):
        export_onnx({"inverse": other}, tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    with pytest.raises(UnusableInput, match="exists already"):
        export_onnx({"inverse": joint()}, tmp_path / "there", {})
    seeing = joint()
    seeing.view = replace(seeing.view, proprio=2)
    with pytest.raises(UnusableInput, match="sees more than frames"):
        export_onnx({"inverse": seeing}, tmp_path / "out", {})
    monkeypatch.setattr(onnx_file.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"retrodict\[onnx\]"):
        export_onnx({"inverse": joint()}, tmp_path / "out", {})
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_policy_that_remembers_is_refused_as_a_file_would_forget(tmp_path: Path) -> None:
    policy = built(ActorCritic, View(size=SIZE), MOVES, "grid", 4, 8, 1, 8)
    with pytest.raises(UnusableInput, match="remembers more than its window of 1 frames"):
        export_onnx({"policy": policy}, tmp_path / "out", {})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told_in_one_message(tmp_path: Path) -> None:
    class Sorting(JointInverse):
        def infer(self, clip: Clip) -> Distribution:
            raise NotImplementedError("it asks a person")

    with pytest.raises(UnusableInput, match="torch cannot write the inverse as ONNX: "):
        export_onnx({"inverse": built(Sorting, joint().policy)}, tmp_path / "out", {})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []


def test_a_changed_file_or_a_card_without_an_inverse_model_is_refused(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "out")
    file = tmp_path / "out/inverse.onnx"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(Damaged, match=r"inverse\.onnx"):
        OnnxInverse(tmp_path / "out")
    (tmp_path / "out/card.json").write_text('{"format": 1}')
    with pytest.raises(Incompatible, match="no inverse model"):
        OnnxInverse(tmp_path / "out")
