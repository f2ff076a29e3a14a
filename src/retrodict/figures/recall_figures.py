"""Recall: what a world shows when the view has gone away and come back, and whether what was changed is still there.

Measured in scroll, from one image of a held-out level, by what a forward model imagines. Tiles are compared exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from retrodict import rng
from retrodict.clip import Clip
from retrodict.roles import ForwardModel, State
from retrodict.spaces import ActionSpace

if TYPE_CHECKING:
    from retrodict.envs.world import World

MEASURES = ("recall", "event_persists")
WORDS = "a ring in the middle"  # what is asked for; recorded as the action "paint"
STEPS, LONG = 12, 24  # steps away: 1 to so many, and once farther than any recorded look
ROWS = 64  # levels
PERSISTS = 10  # frames after a change at which it is looked for: half of them away, half back


def measured(name: str, world: ForwardModel, make: Callable[[int], World], first: int) -> dict[str, float]:
    """Measures a forward model on levels of scroll from `first` on; `make` makes so many copies.

    recall: mean over 1 to STEPS steps away of the share of tiles that left the view and are shown on return exactly as
    they were. Beside it each number of steps (k1 ...), `no_memory`: the same of the model whose state is that of the
    last frame before it turns back, by steps as well (no_memory_k1 ...), and `copy`: of that frame itself.

    event_persists: share of levels in which an object that is asked for in words is there PERSISTS frames later, after
    a look away, with all its pixels. Beside it `at_once`: in the first frame; `tile`: with the ground that it was put
    on, exactly as the game would show it; `no_edit`: where nobody asked; `painted`: of an object that is painted on a
    frame which the model is shown.
    """
    played = make(ROWS)
    frames, _ = played.reset(seed=first)
    start = _tensor(frames)
    with torch.no_grad():
        if name == "recall":
            return recall(world, start)
        edited, *_ = played.step(np.full(ROWS, played.actions.width - 1))
        return event_persists(world, start, _tensor(edited))


def _tensor(frames: UInt8[np.ndarray, "n h w c"]) -> UInt8[Tensor, "n c h w"]:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()


def spoken(space: ActionSpace, move: str, words: str = "") -> Float[Tensor, "d"]:
    """The action that moves, and asks for something in words; a space without words has a value for it, the last."""
    choice = {segment.name: segment for segment in space.segments if segment.kind == "categorical"}
    texts = {segment.name: words for segment in space.segments if segment.kind == "text"}
    asked = {name: segment.values[-1] if words and not texts else move for name, segment in choice.items()}
    return space.vector({**asked, **texts})


def _ways(space: ActionSpace, rows: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """A move for each row, the four directions in turn, and the move back."""
    from retrodict.envs.scroll import ACTIONS, OPPOSITE

    way = torch.arange(rows) % len(OPPOSITE)
    moves = torch.stack([spoken(space, ACTIONS[number]) for number in range(len(OPPOSITE))])
    return moves[way], moves[torch.tensor(OPPOSITE)[way]]


def left(rows: int, steps: int) -> Bool[Tensor, "n y x"]:
    """Which tiles are out of view after so many steps, whole tiles each, in the direction of each row."""
    from retrodict.envs.scroll import MOVES, OPPOSITE, TILE, WINDOW

    tile = torch.stack(torch.meshgrid(*[torch.arange(WINDOW // TILE)] * 2, indexing="ij"), -1)
    way = torch.arange(rows) % len(OPPOSITE)
    there = tile - torch.from_numpy(MOVES)[way].view(-1, 1, 1, 2) * steps
    return ((there < 0) | (there >= WINDOW // TILE)).any(-1)


def alike(a: UInt8[Tensor, "n c h w"], b: UInt8[Tensor, "n c h w"]) -> Bool[Tensor, "n y x"]:
    """Which tiles of two frames are the same in every pixel."""
    from retrodict.envs.scroll import TILE

    same = (a == b).all(1)
    rows, columns = same.shape[1] // TILE, same.shape[2] // TILE
    return same.view(-1, rows, TILE, columns, TILE).all(4).all(2)


def recall(world: ForwardModel, start: UInt8[Tensor, "n c h w"]) -> dict[str, float]:
    """Looks away and back from each of these frames (`measured`)."""
    rows = len(start)
    away, back = _ways(world.space, rows)
    state = world.observe(Clip(frames=start.unsqueeze(1)))
    values: dict[str, float] = {}
    control: dict[str, float] = {}
    copied = []
    for steps in range(1, LONG + 1):
        state, seen = _played(world, state, away, 1, "away", steps)
        if steps > STEPS and steps < LONG:
            continue
        _, shown = _played(world, state, back, steps, "back", steps)
        gone = left(rows, steps)
        values[f"recall.k{steps}"] = float(alike(shown, start)[gone].float().mean())
        if steps <= STEPS:
            fresh = world.observe(Clip(frames=seen.unsqueeze(1)))
            _, guessed = _played(world, fresh, back, steps, "no memory", steps)
            control[f"recall.no_memory_k{steps}"] = float(alike(guessed, start)[gone].float().mean())
            copied.append(float(alike(seen, start)[gone].float().mean()))
    mean = float(np.mean([values[f"recall.k{steps}"] for steps in range(1, STEPS + 1)]))
    beside = {"recall.no_memory": float(np.mean(list(control.values()))), "recall.copy": float(np.mean(copied))}
    return {"recall": mean, **values, **beside, **control}


def _played(
    world: ForwardModel, state: State, move: Float[Tensor, "n d"], steps: int, *address: int | str
) -> tuple[State, UInt8[Tensor, "n c h w"]]:
    """Moves so many steps; returns the state and the last frame."""
    actions = move.unsqueeze(1).expand(-1, steps, -1)
    clip, state = world.imagine(state, actions, steps, rng.torch_rng("recall", *address))
    frames = world.decode(clip).frames
    assert frames is not None
    return state, frames[:, -1]


def event_persists(
    world: ForwardModel, start: UInt8[Tensor, "n c h w"], edited: UInt8[Tensor, "n c h w"]
) -> dict[str, float]:
    """Asks for what distinguishes the edited frames from the others, goes on, and looks for it (`measured`)."""
    rows, half = len(start), PERSISTS // 2
    away, back = _ways(world.space, rows)
    pixels = drawn(start, edited)
    state = world.observe(Clip(frames=start.unsqueeze(1)))

    def there(frames: UInt8[Tensor, "n c h w"]) -> float:
        return float(((frames == edited).all(1) | ~pixels).all(2).all(1).float().mean())

    def later(state: State, name: str) -> UInt8[Tensor, "n c h w"]:
        state, _ = _played(world, state, away, half, name, "away")
        return _played(world, state, back, half, name, "back")[1]

    asked = spoken(world.space, "stay", WORDS).expand(rows, -1)
    told, shown = _played(world, state, asked, 1, "asked")
    quiet, _ = _played(world, state, spoken(world.space, "stay").expand(rows, -1), 1, "quiet")
    by_hand = world.observe(Clip(frames=torch.stack([start, edited], 1)), state)
    reached = later(told, "asked")
    return {
        "event_persists": there(reached), "event_persists.at_once": there(shown),
        "event_persists.tile": float(alike(reached, edited)[~alike(start, edited)].float().mean()),
        "event_persists.no_edit": there(later(quiet, "quiet")),
        "event_persists.painted": there(later(by_hand, "painted")),
    }  # fmt: skip


def drawn(start: UInt8[Tensor, "n c h w"], edited: UInt8[Tensor, "n c h w"]) -> Bool[Tensor, "h w"]:
    """Which pixels are the object's: in tiles that are changed, those which then are the same in all levels."""
    from retrodict.envs.scroll import TILE

    tiles = (~alike(start, edited)).any(0).repeat_interleave(TILE, 0).repeat_interleave(TILE, 1)
    return tiles & (edited == edited[:1]).all(1).all(0)
