"""An update and a dream never wait for the device: they ask for no number, and no shape of theirs depends on one.

`one_hot` and `refuse_unless` ask for a number where they run on the CPU alone. Buffers that seldom change are asked
for when they did (`number_in`): twice at the most as a stage begins. A loop asks for each step's losses, afterwards.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import retrodict
from retrodict import rng
from retrodict.check import load_recipe, recipes
from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.nn.device import number_in, refuse_unless
from retrodict.nn.part import Part
from retrodict.roles import ForwardModel, View
from retrodict.run import loop
from retrodict.run.loop import Fit
from retrodict.run.run import Run, Views
from retrodict.run.update import Update

SOURCE = Path(retrodict.__file__).parent
MADE = "lift_fresh"  # of Python's numbers: another device than the CPU is waited for until it has them
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}


def where() -> str:
    """The line of ours that is at work."""
    lines = [one for one in traceback.extract_stack() if Path(one.filename).is_relative_to(SOURCE)]
    return f"{lines[-1].line} in {lines[-1].name}" if lines else "no line of ours"


ON_THE_CPU = ("F.one_hot", "in refuse_unless")


class Watching(TorchDispatchMode):
    """Notes which calls have to know numbers before they can go on."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        indexed = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else []
        masks = [part for part in indexed if part is not None and part.dtype == torch.bool]
        if name in (*WAITS, MADE) or masks:
            self.waited += [f"{name} in {line}" for line in (where(),) if not any(name in line for name in ON_THE_CPU)]
        return func(*args, **(kwargs or {}))


def test_what_waits_is_seen() -> None:
    numbers = torch.arange(4.0)
    for waits in (
        lambda: bool(numbers.any()), lambda: float(numbers[0]), lambda: numbers[numbers > 1], numbers.unique,
        lambda: torch.tensor([1.0, 2.0]), lambda: numbers.new_tensor([1.0, 2.0]),
    ):  # fmt: skip
        with Watching() as watching:
            waits()
        assert watching.waited
    with Watching() as watching:
        numbers.clone()[numbers > 1] = torch.zeros(2)
    assert watching.waited
    with Watching() as watching:
        torch.where(numbers > 1, numbers, 0).nanquantile(0.5)
    assert not watching.waited


def test_a_buffer_is_asked_for_again_when_it_changed() -> None:
    holder = nn.Module()
    holder.register_buffer("count", torch.tensor(3))
    with Watching() as watching:
        assert [number_in(holder, "count") for _ in range(3)] == [3, 3, 3]
        assert len(watching.waited) == 1
        holder.get_buffer("count").add_(1)
        assert [number_in(holder, "count") for _ in range(2)] == [4, 4]
        holder.load_state_dict({"count": torch.tensor(9)})
        assert number_in(holder, "count") == 9
        holder.register_buffer("count", torch.tensor(7))
        assert number_in(holder, "count") == 7
    with torch.inference_mode():
        holder.register_buffer("count", torch.tensor(1))
        assert number_in(holder, "count") == 1
        holder.get_buffer("count").add_(1)
        assert number_in(holder, "count") == 2


def test_what_is_not_good_is_refused_and_no_other_device_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_unless(torch.tensor(True), "no")
    with pytest.raises(UnusableInput, match=r"^no$"):
        refuse_unless(torch.tensor(False), "no")
    left = list[torch.Tensor]()
    monkeypatch.setattr(torch, "_assert_async", left.append)
    refuse_unless(torch.empty((), dtype=torch.bool, device="meta"), "no")  # has no number that could be asked for
    assert len(left) == 1


@pytest.mark.parametrize("name", recipes())
def test_no_update_of_a_recipe_waits_for_the_device(
    tmp_path: Path, sprites: Views, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real, watched = loop._step, list[str]()

    def step(
        stage: loop.Stage, part: Part, update: Update, data: Any, cfg: Fit, optimisers: Any, number: int
    ) -> dict[str, float]:
        def seen(part: Part, batch: Any, noise: torch.Generator) -> Any:
            with Watching() as watching:
                told = update(part, batch, noise)
            once = ("in number_in", "in _constant")
            again = [one for one in watching.waited if number > 1 or not any(place in one for place in once)]
            assert not again, f"an update of {stage.name} waits: {again}"
            watched.append(stage.name)
            return told

        return real(stage, part, seen, data, cfg, optimisers, number)

    monkeypatch.setattr(loop, "_step", step)
    module = load_recipe(name)
    with Run(tmp_path, sprites) as run:
        system = module.train(module.micro(), run)
    assert watched
    if system.forward is not None:
        imagined(system.forward, sprites)


def imagined(world: ForwardModel, sprites: Views) -> None:
    """Imagines, and sees that nothing waits, but where a world asks whether words were told: then it thinks twice."""
    view = world.view
    clip = next(sprites.unlabelled.shown(View(view.frames + 1, size=view.size)).batches(4))[1]
    with torch.no_grad():
        state = world.observe(Clip(frames=clip.frames[:, : view.frames]))
        actions = torch.zeros(4, 6, world.space.width)
        for _ in range(2):
            with Watching() as watching:
                world.imagine(state, actions, 6, rng.torch_rng(0))
    waited = [one for one in watching.waited if "words.any()" not in one]
    assert not waited, f"{type(world).__name__} waits as it imagines: {waited}"
