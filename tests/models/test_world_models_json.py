"""Published weights of World Models: files in their layout, read as our parts, against the same arithmetic in numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrodict import cli, load
from retrodict.clip import Clip
from retrodict.errors import Damaged, UnusableInput
from retrodict.models.controller import Controller
from retrodict.models.filtered import Filtered
from retrodict.models.mdn_rnn import MDNRNN
from retrodict.models.world_models_json import world_models_json
from retrodict.rng import numpy_rng
from retrodict.run.loop import weights_hash

ENCODER = ((3, 32), (32, 64), (64, 128), (128, 256))
DECODER = ((5, 128, 1024), (5, 64, 128), (6, 32, 64), (6, 3, 32))  # kernel, out, in


class Written:
    """Files of one of the two games, and the arrays that they hold; `hidden` is smaller than the published."""

    def __init__(self, folder: Path, doom: bool, hidden: int = 6) -> None:
        self.doom, self.hidden, self.z, self.a = doom, hidden, 8, 1 if doom else 3
        draw = numpy_rng("written", int(doom))
        self.folder = folder

        def whole(*shape: int, size: float = 1.0) -> np.ndarray:
            fan = np.prod(shape[:-1]) if len(shape) > 1 else 25
            return np.round(draw.normal(0, 10_000 * size / np.sqrt(fan), shape)).astype(int)

        self.vae: list[np.ndarray] = []
        for inner, outer in ENCODER:
            self.vae += [whole(4, 4, inner, outer), whole(outer)]
        self.vae += [whole(1024, self.z), whole(self.z), whole(1024, self.z), whole(self.z)]
        self.vae += [whole(self.z, 1024), whole(1024)]
        for kernel, outer, inner in DECODER:
            self.vae += [whole(kernel, kernel, outer, inner), whole(outer)]
        lstm = [whole(self.z + self.a + doom + hidden, 4 * hidden), whole(4 * hidden)]
        output = [whole(hidden, self.z * 15 + doom), whole(self.z * 15 + doom)]
        self.rnn = [*lstm, *output] if doom else [*output, *lstm]
        self.lstm, self.output = lstm, output
        inputs = self.z + (2 if doom else 1) * hidden
        self.controller = draw.normal(size=inputs if doom else 3 * (inputs + 1))
        for name, value in (("vae/vae.json", self.vae), ("rnn/rnn.json", self.rnn)):
            self.write(name, [one.tolist() for one in value])
        self.write("log/game.cma.16.64.best.json", [self.controller.tolist(), 900.5])

    def write(self, name: str, value: Any) -> None:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(json.dumps(value))


@pytest.fixture(scope="module", params=[False, True], ids=["race", "doom"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("written"), request.param)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """x (h w in), kernel (4 4 in out), stride 2, no padding, ReLU."""
    side = (x.shape[0] - 4) // 2 + 1
    out = np.zeros((side, side, kernel.shape[3]))
    for i in range(side):
        for j in range(side):
            out[i, j] = np.tensordot(x[2 * i : 2 * i + 4, 2 * j : 2 * j + 4], kernel, 3)
    return np.maximum(out + bias, 0)


def spread(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """x (h w in), kernel (k k out in): each cell adds its kernel at twice its place."""
    side = 2 * (x.shape[0] - 1) + kernel.shape[0]
    out = np.zeros((side, side, kernel.shape[2]))
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[2 * i : 2 * i + kernel.shape[0], 2 * j : 2 * j + kernel.shape[0]] += kernel @ x[i, j]
    return out + bias


def test_v_encodes_and_draws_as_the_arithmetic_says(written: Written) -> None:
    vae: Any = world_models_json(written.folder).encoder
    v = [value / 10_000 for value in written.vae]
    frame = numpy_rng("frame").integers(0, 256, (64, 64, 3))
    x = frame / 255
    for layer in range(4):
        x = convolved(x, v[2 * layer], v[2 * layer + 1])
    mean, log_variance = x.reshape(-1) @ v[8] + v[9], x.reshape(-1) @ v[10] + v[11]
    shown = torch.from_numpy(frame).byte().permute(2, 0, 1)
    with torch.no_grad():
        found = vae.posterior(shown.unsqueeze(0))
    assert np.abs(found[0][0].numpy() - mean).max() < 1e-5
    assert np.abs(found[1][0].numpy() - log_variance).max() < 1e-5
    y = (mean @ v[12] + v[13]).reshape(1, 1, 1024)
    for layer in range(4):
        y = spread(y, v[14 + 2 * layer], v[15 + 2 * layer])
        y = np.maximum(y, 0) if layer < 3 else sigmoid(y)
    with torch.no_grad():
        drawn = vae.draw(torch.from_numpy(mean).float().unsqueeze(0))[0]
    assert np.abs(drawn.permute(1, 2, 0).numpy() - y).max() < 1e-5


def stepped(written: Written, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kernel, bias = (value / 10_000 for value in written.lstm)
    i, j, f, o = np.split(np.concatenate([x, h]) @ kernel + bias, 4)
    c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
    return sigmoid(o) * np.tanh(c), c


def test_m_steps_and_c_acts_as_the_arithmetic_says(written: Written) -> None:
    system = world_models_json(written.folder)
    world, draw = system.forward, numpy_rng("episode")
    assert isinstance(world, MDNRNN)
    frames = torch.from_numpy(draw.integers(0, 256, (1, 4, 3, 64, 64))).byte()
    actions = draw.uniform(-1, 1, (3, written.a)).astype(np.float32)
    with torch.no_grad():
        z = world.vae.posterior(frames)[0][0].numpy().astype(np.float64)
        state: Any = world.observe(Clip(frames=frames, actions=torch.from_numpy(actions).unsqueeze(0)))
    h = c = np.zeros(written.hidden)
    for t in range(3):
        x = np.concatenate([z[t], actions[t], [float(t == 0)] if written.doom else []])
        h, c = stepped(written, x, h, c)
    assert np.abs(state["h"][0].numpy() - h).max() < 1e-5
    assert np.abs(state["c"][0].numpy() - c).max() < 1e-5

    weight, bias = (value / 10_000 for value in written.output)
    out = h @ weight + bias
    with torch.no_grad():
        expected = world.expected(state["h"])
    if written.doom:
        assert float(expected.end) == pytest.approx(out[0], abs=1e-5)
        out = out[1:]
    mix, mean, log_std = np.split(out.reshape(-1, 15), 3, 1)
    mix = mix - np.log(np.exp(mix).sum(1, keepdims=True))
    for found, by_hand in ((expected.mix, mix), (expected.mean, mean), (expected.log_std, log_std)):
        assert np.abs(found[0].numpy() - by_hand).max() < 1e-5

    policy: Any = system.policy
    assert isinstance(policy, Filtered)
    with torch.no_grad():
        done = policy.act(Clip(frames=frames, actions=torch.from_numpy(actions).unsqueeze(0)))[0].mode()
    if written.doom:
        by_hand = np.tanh(written.controller @ np.concatenate([z[3], c, h]))
    else:
        seen = np.concatenate([z[3], h])
        by_hand = np.tanh(seen @ written.controller[3:].reshape(-1, 3) + written.controller[:3])
    assert np.abs(done[0].numpy() - by_hand).max() < 1e-5


def test_a_game_is_told_by_its_shapes(written: Written) -> None:
    system = world_models_json(written.folder)
    world, policy = system.forward, system.policy
    assert isinstance(world, MDNRNN)
    assert isinstance(policy, Filtered)
    assert isinstance(policy.actor, Controller)
    assert (world.ends, world.restarts, world.cell, policy.actor.bias) == (*[written.doom] * 3, not written.doom)
    assert world.space.width == written.a


def test_what_is_not_there_is_left_out_and_what_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match=r"no vae\.json"):
        world_models_json(tmp_path)
    files = Written(tmp_path, doom=False)
    files.write("log/other.best.json", [[1.0], 2.0])
    with pytest.raises(UnusableInput, match="several"):
        world_models_json(tmp_path)
    (tmp_path / "log/game.cma.16.64.best.json").unlink()
    with pytest.raises(UnusableInput, match="expected a shape"):
        world_models_json(tmp_path)
    (tmp_path / "log/other.best.json").unlink()
    assert world_models_json(tmp_path).policy is None
    files.write("rnn/rnn.json", [one.tolist() for one in files.rnn[:3]])
    with pytest.raises(UnusableInput, match="two kernels"):
        world_models_json(tmp_path)
    files.write("rnn/rnn.json", {"a": 1})
    with pytest.raises(Damaged, match="a list"):
        world_models_json(tmp_path)
    (tmp_path / "rnn/rnn.json").unlink()
    assert world_models_json(tmp_path).forward is None
    files.write("vae/vae.json", [one.tolist() for one in files.vae[:4]])
    with pytest.raises(UnusableInput, match="4 variables"):
        world_models_json(tmp_path)
    (tmp_path / "vae/vae.json").write_text("[[1, 2], ")
    with pytest.raises(Damaged, match="JSON"):
        world_models_json(tmp_path)
    (tmp_path / "vae/vae.json").write_text('[["a"]]')
    with pytest.raises(Damaged, match="numbers"):
        world_models_json(tmp_path)


def test_the_command_writes_a_run_that_opens(written: Written, tmp_path: Path) -> None:
    line = ["data", "convert-checkpoint", "world_models", str(written.folder), "--out", str(tmp_path / "run")]
    assert cli.main(line) == 0
    found, wanted = load(tmp_path / "run"), world_models_json(written.folder)
    assert sorted(found.parts()) == ["encoder", "forward", "policy"]
    for name, part in wanted.parts().items():
        assert weights_hash(found.parts()[name]) == weights_hash(part)
    assert cli.main(line) == 2  # what is there is not written over
