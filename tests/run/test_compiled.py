"""Compiled updates: the same run as without, and a clear word where nothing can be compiled."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from retrodict import rng
from retrodict.clip import Clip
from retrodict.contract import sprite_views
from retrodict.data.batch import Steps
from retrodict.errors import Interrupted, UnknownName, UnusableInput
from retrodict.nn.part import Part
from retrodict.recipes import dreamer_v3
from retrodict.run import compiled
from retrodict.run.log import Log
from retrodict.run.loop import Fit
from retrodict.run.run import Run, Views
from retrodict.run.update import Losses


class Two(Part):
    """Two nets in two groups, one behind the other, with dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.SiLU(), nn.Dropout(0.3))
        self.heads = nn.ModuleList([nn.Linear(8, 1)])

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"front": list(self.front.parameters()), "heads": list(self.heads.parameters())}


def means(part: Two, clip: Clip, noise: torch.Generator) -> Losses:
    """Both losses go through the front, which so has two backward passes."""
    assert clip.frames is not None
    seen = part.front(clip.frames[:, 0].float().mean((-1, -2)) / 255)
    return {"front": seen.square().mean(), "heads": (part.heads[0](seen) - 1).square().mean()}


def trained(folder: Path, steps: Steps, how: str = "none", log: Log | None = None) -> Two:
    with rng.isolated("compiled"):
        part = Two()
    with Run(folder, Views(steps, steps), log=log, compile=how, commit_steps=2) as run:
        return run.fit("two", part, means, steps, Fit(6, 8, 1e-2))


def apart(a: nn.Module, b: nn.Module) -> float:
    """The largest difference of two parts of the same names."""
    assert list(a.state_dict()) == list(b.state_dict())
    return max(float((a.state_dict()[name] - value).abs().max()) for name, value in b.state_dict().items())


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The graphs that were to be compiled, by a compiler that leaves them as they are."""
    found: list[Any] = []

    def noting(graph: Any, inputs: Any) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward  # type: ignore[no-any-return]

    torch.compiler.reset()
    monkeypatch.setitem(compiled.WAYS, "default", {"backend": noting})
    return found


@pytest.mark.skipif(compiled.compiler() is None, reason="there is no C++ compiler here")
def test_compiled_updates_give_the_weights_of_eager_ones_up_to_rounding(sprites: Views, tmp_path: Path) -> None:
    eager = trained(tmp_path / "eager", sprites.labelled)
    torch.compiler.reset()
    fast = trained(tmp_path / "fast", sprites.labelled, "default")
    assert apart(eager, fast) < 1e-5
    assert apart(eager, Two()) > 1e-2


def test_nets_are_compiled_in_the_loss_alone(sprites: Views, tmp_path: Path, met: list[Any]) -> None:
    part = trained(tmp_path, sprites.labelled, "default")
    assert len(met) == 2
    assert apart(part, deepcopy(part)) == 0
    part.front(torch.zeros(5, 3))
    assert len(met) == 2


def test_a_run_goes_on_in_another_way(sprites: Views, tmp_path: Path, met: list[Any]) -> None:
    class Stopping(Log):
        def step(self, step: int, values: dict[str, float]) -> None:
            super().step(step, values)
            if step == 3:
                raise Interrupted("a test", "", 1)

    whole = trained(tmp_path / "whole", sprites.labelled)
    with pytest.raises(Interrupted):
        trained(tmp_path / "parts", sprites.labelled, "default", Stopping(quiet=True))
    assert met
    assert apart(whole, trained(tmp_path / "parts", sprites.labelled)) < 1e-5


def test_an_agent_learns_in_compiled_nets_as_without(tmp_path: Path, met: list[Any]) -> None:
    views = sprite_views(episodes=12, labels=64)
    states: list[dict[str, Tensor]] = []
    for how in ("none", "default"):
        with Run(tmp_path / how, views, compile=how) as run:
            forward = dreamer_v3.train(dreamer_v3.micro(), run).forward
        assert isinstance(forward, Part)
        states.append(forward.state_dict())
    assert met
    assert list(states[0]) == list(states[1])
    assert all(torch.allclose(states[0][name], value, atol=1e-5) for name, value in states[1].items())


def test_a_way_that_does_not_suit_is_refused(sprites: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnusableInput, match="expected a CUDA device for --compile graphs; got 'cpu'"):
        Run(tmp_path / "r", sprites, compile="graphs")
    with pytest.raises(UnknownName, match="default"):
        Run(tmp_path / "r", sprites, compile="defualt")
    monkeypatch.setattr(compiled, "compiler", lambda: None)
    with pytest.raises(UnusableInput, match="needs a C\\+\\+ compiler"):
        Run(tmp_path / "r", sprites, compile="default")
    assert not (tmp_path / "r").exists()
