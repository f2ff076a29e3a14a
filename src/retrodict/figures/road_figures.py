"""What a learned world of the road is worth: does it steer, do words change what they say, does it keep the road?

Pictures that a world imagined are read by what it has no part in: an inverse model of other levels (the judge), and the
exact readers of `envs.road_view`. All starts are levels that nothing has looked at before.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from retrodict.clip import MISSING, Clip, stack
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.envs.road_view import SAID, WORDS, captions, read_attributes, read_pose
from retrodict.errors import UnusableInput
from retrodict.figures.world_figures import Ground
from retrodict.measure import intervals
from retrodict.models.token_world import TokenWorld
from retrodict.rng import numpy_rng, torch_rng
from retrodict.roles import ForwardModel, InverseModel, System
from retrodict.spaces import ActionSpace

if TYPE_CHECKING:
    from retrodict.envs.rollout import Actor

HELD = 910_000_000  # first level of the starts
STARTS, SEEN, AHEAD, ASKED = 64, 8, 40, 5  # levels; steps before a roll-out; its steps; those steered hard
NEAR = 0.25  # half widths of the road that an offset may be away from the true one
Told = Mapping[str, Int64[np.ndarray, "n"]]


def measured(name: str, system: System, ground: Ground) -> dict[str, float]:
    """Measures the forward model of a system: {name: value, name.part: ...}.

    steering_agreement: share of imagined steps under full lock whose side, as the judge reads it, is the one asked for.
    caption_change: share of captions changed in one word of which the picture shows the change and nothing else.
    road_kept: median number of steps, of AHEAD, until the car is not where it truly was.
    """
    if system.forward is None:
        raise UnusableInput(f"{name} needs a system with a forward model")
    if name == "caption_change":
        found = captioned(system.forward) | through_tokens(system.forward, ground.test)
    else:
        found = {"steering_agreement": steering, "road_kept": kept}[name](system.forward, ground)
    return {f"{name}.{part}".rstrip("."): float(value) for part, value in found.items()}


MEASURES = ("steering_agreement", "caption_change", "road_kept")


def drives(ground: Ground) -> tuple[Clip, list[int]]:
    """Plays the expert, half at random, on held-out levels: all that stay on the road, and which they are."""
    from retrodict.envs.rollout import expert, rollout

    world = ground.world(32, limit=SEEN + AHEAD)
    levels = range(HELD, HELD + STARTS)
    clips = [clip for clip, _, _ in rollout(world, levels, expert(world, 0.5, 0))]
    whole = [number for number, clip in enumerate(clips) if clip.steps == SEEN + AHEAD]
    return stack([clips[number] for number in whole]), [levels[number] for number in whole]


def worded(space: ActionSpace, drive: Float[Tensor, "b t d"], texts: Sequence[str] = ()) -> Float[Tensor, "b t a"]:
    """Lays drives out as the actions of a world that may also take a caption, one a row; without, it is empty."""
    parts = []
    for segment in space.segments:
        if segment.kind != "text":
            parts.append(drive)
            continue
        words = torch.full((*drive.shape[:2], segment.width), -1.0)
        for row, text in enumerate(texts):
            letters = list(text.encode())
            words[row, :, : len(letters)] = torch.tensor(letters, dtype=torch.float32)
        parts.append(words)
    if parts[0].shape[-1] + sum(p.shape[-1] for p in parts[1:]) != space.width:
        raise UnusableInput(f"a world of the road takes two numbers, and at most words; this one takes {space.columns}")
    return torch.cat(parts, -1)


@torch.no_grad()
def imagined(
    forward: ForwardModel, seen: Clip, drive: Float[Tensor, "b t d"], address: str
) -> Float[Tensor, "b t c h w"]:
    """Rolls out from seen frames under these drives, without words; returns the last seen frame and what follows."""
    assert seen.actions is not None
    state = forward.observe(seen.with_(actions=worded(forward.space, seen.actions)))
    clip, _ = forward.imagine(state, worded(forward.space, drive), drive.shape[1], torch_rng("road", address))
    frames = forward.decode(clip).frames
    assert frames is not None
    return frames


def offsets(frames: Tensor) -> Float[np.ndarray, "b t"]:
    """Reads off every frame how far the car is from the middle of the road."""
    found = read_pose(pictures(frames.flatten(0, 1)))["offset"]
    return np.asarray(found.reshape(frames.shape[:2]))


def pictures(frames: Tensor) -> np.ndarray:
    """Frames as numpy draws them: n h w c."""
    return np.asarray(frames.permute(0, 2, 3, 1).cpu().numpy())


def steering(forward: ForwardModel, ground: Ground) -> dict[str, float]:
    """Steers hard to the left and to the right from every start; the judge says what was done."""
    seen, levels = drives(ground)
    judge = ground.judge()
    assert seen.actions is not None
    drive = seen.actions[:, SEEN : SEEN + ASKED].repeat(2, 1, 1).clone()
    side = torch.ones(len(drive)).index_fill(0, torch.arange(len(levels)), -1.0)
    drive[..., 0] = side[:, None]
    frames = imagined(forward, stack([seen.cut(0, SEEN + 1)] * 2), drive, "steering")
    right = agreed(judge.inverse, frames, side)
    real = _really(seen, levels, drive, ground)
    moved = np.diff(offsets(frames)[:, [0, -1]], axis=1)[:, 0]
    order = torch.randperm(len(side), generator=torch_rng("road", "shuffled"))
    estimate = intervals.bootstrap_mean(right.mean(1))
    return {
        "": estimate.value, "low": estimate.low or 0.0, "high": estimate.high or 0.0,
        "shuffled": float(agreed(judge.inverse, frames, side[order]).mean()),
        "real": _real_agreement(judge.inverse, real, side),
        "pose": float((np.sign(moved) == side.numpy()).mean()), "judge_r2": judge.accuracy.value,
    }  # fmt: skip


@torch.no_grad()
def agreed(judge: InverseModel, frames: Tensor, side: Float[Tensor, "b"]) -> Bool[np.ndarray, "b k"]:
    """Whether the judge reads off each step that it went to this side."""
    read = judge.infer(Clip(frames=frames)).mode()[..., 0]
    return np.asarray((read.sign() == side[:, None]).numpy())


def _really(seen: Clip, levels: Sequence[int], drive: Tensor, ground: Ground) -> list[Clip]:
    """The same starts and drives on the real road, each until the car leaves it."""
    from retrodict.envs.rollout import rollout

    assert seen.actions is not None
    clips: list[Clip] = []
    for half in drive.chunk(2):
        world = ground.world(32, limit=SEEN + ASKED)
        plan = torch.cat([seen.actions[:, :SEEN], half], 1)
        clips += [
            clip for clip, _, _ in rollout(world, levels, replay(dict(zip(levels, plan, strict=True)), world.fps))
        ]
    return [clip.cut(SEEN, clip.length) for clip in clips if clip.length > SEEN + 1]


def replay(plans: Mapping[int, Tensor], fps: int) -> Actor:
    """Acts by a plan for each level, and not at all where there is none."""
    idle = torch.zeros_like(next(iter(plans.values()))[0])

    def act(clip: Clip) -> Tensor:
        assert clip.segment is not None
        assert clip.times is not None
        steps = (clip.times[:, -1] * fps).round().long().tolist()
        rows = zip(clip.segment[:, -1].tolist(), steps, strict=True)
        return torch.stack([plans[level][step] if level in plans else idle for level, step in rows])

    return act


def _real_agreement(judge: InverseModel, clips: Sequence[Clip], side: Tensor) -> float:
    right = [agreed(judge, clip.frames, side[n : n + 1])[0] for n, clip in enumerate(clips) if clip.frames is not None]
    return float(np.concatenate(right).mean())


def captioned(forward: ForwardModel, count: int = 128) -> dict[str, float]:
    """Begins with a caption, and with one in which one thing is changed, from the same noise; reads both pictures.

    others_kept: share in which all other attributes stay; beside it others_redrawn, the share in which those same ones
    stay when no word is changed, but other noise is drawn: what a changed word may cost where it changes nothing else.
    """
    draws = numpy_rng("road", "captions")
    sizes = {name: len(words) for name, words in WORDS.items()}
    asked = {name: draws.integers(size, size=count) for name, size in sizes.items()}
    shown, redrawn = _begun(forward, asked), _begun(forward, asked, noise="words again")
    mute = _begun(forward, None, count)
    became, stayed, luck, chance, both = {}, {}, {}, {}, []
    for name, size in sizes.items():
        other = {**asked, name: (asked[name] + draws.integers(1, size, count)) % size}
        now = _begun(forward, other)
        became[name], stayed[name] = changed(shown, now, other, name)
        both.append(became[name] & stayed[name])
        luck[name], chance[name] = changed(shown, redrawn, asked, name)[1], mute[name] == other[name]
    each = {"": became, ".others_kept": stayed, ".others_redrawn": luck, ".no_text": chance}
    return {
        "": float(np.mean(both)),
        **{f"{name}{end}": float(hit.mean()) for end, hits in each.items() for name, hit in hits.items()},
        **{f"{name}.said": float((shown[name] == asked[name]).mean()) for name in SAID},
        "others_kept": float(np.mean([*stayed.values()])), "others_redrawn": float(np.mean([*luck.values()])),
        "no_text": float(np.mean([*chance.values()])),
        "all_said": float(np.mean([shown[name] == asked[name] for name in SAID])),
    }  # fmt: skip


@torch.no_grad()
def through_tokens(forward: ForwardModel, test: Cache, count: int = 1000) -> dict[str, float]:
    """How often an attribute of a held-out picture is still read when it has gone through the world's tokens, if it has
    any: what tokens lose without any words."""
    if not isinstance(forward, TokenWorld):
        return {}
    steps = evenly(Steps.all(test).shown(test.view(1)), count)
    real: list[Tensor] = []
    shown: list[Tensor] = []
    for _, clip in steps.batches(100):
        assert clip.frames is not None
        real.append(clip.frames[:, -1])
        shown.append(forward.tokenizer.pixels(forward.tokenizer.tokens(clip.frames).unsqueeze(1)))
    before, after = (read_attributes(pictures(torch.cat(frames))) for frames in (real, shown))
    return {f"{name}.through_tokens": float((before[name] == after[name]).mean()) for name in SAID}


def evenly(steps: Steps, count: int) -> Steps:
    """So many of these steps, evenly spaced."""
    return steps.only(np.linspace(0, len(steps) - 1, count).astype(np.int64))


def changed(before: Told, after: Told, asked: Told, name: str) -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Whether an attribute became the asked one, and whether all others are what they were."""
    rest = [before[other] == after[other] for other in SAID if other != name]
    return np.asarray(after[name] == asked[name]), np.asarray(np.logical_and.reduce(rest))


@torch.no_grad()
def _begun(forward: Any, asked: Told | None, count: int = 0, noise: str = "words") -> Told:
    """What the first picture shows that a world imagines of these captions (None: of no words)."""
    if not hasattr(forward, "begin") or not any(segment.kind == "text" for segment in forward.space.segments):
        raise UnusableInput("caption_change needs a world that begins with words")
    texts = () if asked is None else captions(asked)
    drive = torch.zeros(len(texts) or count, 1, 2)
    clip, _ = forward.imagine(
        forward.begin(len(drive)), worded(forward.space, drive, texts), 1, torch_rng("road", noise)
    )
    return read_attributes(pictures(clip.frames[:, -1]))


def kept(forward: ForwardModel, ground: Ground) -> dict[str, float]:
    """Rolls out under the recorded actions, beside the last frame for ever and another start's actions."""
    whole, _ = drives(ground)
    assert whole.frames is not None
    assert whole.actions is not None
    seen, drive, true = whole.cut(0, SEEN + 1), whole.actions[:, SEEN:], offsets(whole.frames[:, SEEN + 1 :])
    frames = imagined(forward, seen, drive, "kept")
    mixed = imagined(forward, seen, drive.roll(1, 0), "kept")
    still = whole.frames[:, SEEN : SEEN + 1].expand(-1, AHEAD, -1, -1, -1)
    found: dict[str, float] = {
        "": steps_kept(offsets(frames[:, 1:]), true), "shuffled": steps_kept(offsets(mixed[:, 1:]), true),
        "copy": steps_kept(offsets(still), true), "repeated": repeated(frames),
    }  # fmt: skip
    if hasattr(forward, "temperature"):
        surest = copy.copy(forward)
        surest.temperature = 0.0
        found["repeated_argmax"] = repeated(imagined(surest, seen, drive, "kept"))
    return found | surprise(forward, ground.test)


def steps_kept(read: Float[np.ndarray, "b t"], true: Float[np.ndarray, "b t"]) -> float:
    """Median number of steps before the offset that is read is off the road, or off the true one by more than NEAR."""
    lost = (np.abs(read - true) > NEAR) | (np.abs(read) > 1)
    return float(np.median(np.where(lost.any(1), lost.argmax(1), lost.shape[1])))


def repeated(frames: Tensor) -> float:
    """Share of steps that change no pixel."""
    return float((frames[:, 1:] == frames[:, :-1]).flatten(2).all(-1).float().mean())


@torch.no_grad()
def surprise(forward: ForwardModel, test: Cache, count: int = 1000) -> dict[str, float]:
    """Cross entropy of the next frame in nats, with the action and without it (of held-out steps)."""
    steps = evenly(Steps.all(test).known().shown(test.view(6, 4)), count)
    told: list[Tensor] = []
    blind: list[Tensor] = []
    for _, clip in steps.batches(100):
        assert clip.actions is not None
        clip = clip.with_(actions=worded(forward.space, clip.actions), rewards=None, ends=None)
        mute = clip.with_(source=torch.full_like(clip.source, MISSING))  # type: ignore[arg-type]
        for values, given in ((told, clip), (blind, mute)):
            values.append(-forward.log_prob(given)[:, steps.target])
    return {"nats": float(torch.cat(told).mean()), "nats_blind": float(torch.cat(blind).mean())}
