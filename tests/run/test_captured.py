"""Captured updates: those of an eager run, on a stand-in for a CUDA graph and, where there is one, on the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from graph_stand_in import Again
from retrodict import rng
from retrodict.clip import Clip
from retrodict.contract import sprite_views
from retrodict.data.batch import Steps
from retrodict.errors import UnusableInput
from retrodict.nn.graph import side_by_side
from retrodict.nn.part import Part
from retrodict.recipes import tdmpc2
from retrodict.run import captured, compiled
from retrodict.run.captured import Captured
from retrodict.run.loop import Fit
from retrodict.run.run import Run, Views
from retrodict.run.update import Losses, Update


class Counting(Part):
    """A net with dropout, and a buffer that counts its losses."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Dropout(0.3), nn.Linear(8, 1))
        self.register_buffer("count", torch.zeros(()))


def mean(part: Counting, clip: Clip, noise: torch.Generator) -> Losses:
    assert clip.frames is not None
    part.get_buffer("count").add_(1)
    seen = clip.frames[:, 0].float().mean((-1, -2)) / 255
    return {"all": (part.net(seen) - torch.randn(len(seen), 1, generator=noise, device=seen.device)).square().mean()}


def trained(folder: Path, steps: Steps, how: str, device: str = "cpu") -> dict[str, Tensor]:
    with rng.isolated("captured"):
        part = Counting()
    with Run(folder, Views(steps, steps), device=device, compile=how) as run:
        return run.fit("net", part, mean, steps, Fit(6, 8, 1e-2)).state_dict()


@pytest.fixture
def standing_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "Graph", Again)
    monkeypatch.setattr("retrodict.run.run.refuse_unfit", lambda how, device: None)
    Again.made = 0


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], value) for name, value in other.items())


@pytest.mark.usefixtures("standing_in")
def test_captured_updates_give_the_weights_of_eager_ones(sprites: Views, tmp_path: Path) -> None:
    eager = trained(tmp_path / "eager", sprites.labelled, "none")
    assert Again.made == 0
    assert equal(eager, trained(tmp_path / "whole", sprites.labelled, "whole"))
    assert Again.made == 1
    assert float(eager["count"]) == 6


@pytest.mark.usefixtures("standing_in")
def test_a_planner_learns_by_captured_updates_as_without(tmp_path: Path) -> None:
    views, states = sprite_views(episodes=12, labels=64), []
    for how in ("none", "whole"):
        with Run(tmp_path / how, views, compile=how) as run:
            forward = tdmpc2.train(tdmpc2.micro(), run).forward
        assert isinstance(forward, Part)
        states.append(forward.state_dict())
    assert equal(*states)


@pytest.mark.usefixtures("standing_in")
def test_another_part_and_another_shape_are_captured_anew_and_other_words_refused(sprites: Views) -> None:
    part, other, noise = Counting(), Counting(), rng.torch_rng(0)
    update = Captured(Update(mean, 0.0))
    batch = sprites.labelled.draw(8, "a")
    for one, clip, made in (
        (part, batch, 1), (part, sprites.labelled.draw(8, "b"), 1), (part, batch.pick(range(4)), 2), (other, batch, 3),
    ):  # fmt: skip
        update(one, clip, noise)
        assert Again.made == made
    with pytest.raises(UnusableInput, match="words"):
        update(other, replace(batch, text=("go",) * 8), noise)


@pytest.mark.usefixtures("standing_in")
def test_several_clips_are_captured_by_name(sprites: Views) -> None:
    def both(part: Counting, batch: dict[str, Clip], noise: torch.Generator) -> Losses:
        return {"all": mean(part, batch["many"], noise)["all"] + 2 * mean(part, batch["few"], noise)["all"]}

    part, update = Counting().eval(), Update(both, 0.0)
    taken = Captured(update)
    for step in range(2):
        batch = {name: sprites.labelled.draw(rows, name, step) for name, rows in (("many", 8), ("few", 2))}
        told = taken(part, batch, rng.torch_rng(step))["all"]
        assert torch.equal(told, update(part, batch, rng.torch_rng(step))["all"])
    assert Again.made == 1


def test_a_whole_update_needs_a_cuda_device_and_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnusableInput, match="--compile whole; got 'cpu'"):
        compiled.refuse_unfit("whole", "cpu")
    monkeypatch.setattr(compiled, "compiler", lambda: None)
    compiled.refuse_unfit("whole", "cuda")


def test_works_side_by_side_keep_their_order() -> None:
    done: list[int] = []

    def work(number: int) -> Tensor:
        done.append(number)
        return torch.tensor(number)

    assert [int(found) for found in side_by_side([lambda n=n: work(n) for n in (2, 0, 1)])] == done == [2, 0, 1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_on_a_device_as_well(sprites: Views, tmp_path: Path) -> None:
    eager = trained(tmp_path / "eager", sprites.labelled, "none", "cuda")
    assert equal(eager, trained(tmp_path / "whole", sprites.labelled, "whole", "cuda"))
