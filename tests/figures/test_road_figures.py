"""Measures of learned worlds of the road, on worlds that are the road itself, or that do not listen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from retrodict.clip import Clip
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.envs.road_view import BENDS, TRAFFIC, WEATHERS, captions, read_pose, render
from retrodict.errors import UnusableInput
from retrodict.figures import road_figures
from retrodict.figures.judge import Judge
from retrodict.figures.trial import ground, setting
from retrodict.measure.intervals import wilson
from retrodict.models.next_token_world import NextTokenWorld
from retrodict.models.tokenizers import ConvTokenizer
from retrodict.roles import System, View
from retrodict.segments import Segment, continuous
from retrodict.spaces import ActionSpace, Distribution

DRIVE = ActionSpace((continuous("drive", ("steer", "speed"), relative=True),))
SPACE = ActionSpace((*DRIVE.segments, Segment("caption", "text", tuple(map(str, range(44))))))
SWING = {"left": -0.012, "straight": 0.0, "right": 0.012}


def drawn(offset: np.ndarray, weather: np.ndarray, car: np.ndarray, bend: np.ndarray) -> Tensor:
    """Frames of a road of constant curvature, with a car ahead or none."""
    n, still = len(offset), 1e-3
    curve = np.tile([0, still, np.pi / 2], (n, 1, 1))
    curve[:, 0, 0] = bend
    state = {
        "place": np.zeros(n), "offset": offset, "curve": curve, "weather": weather, "gaps": np.full((n, 1), 5.0),
        "lanes": np.full((n, 1), 0.3), "there": car[:, None],
    }  # fmt: skip
    return torch.from_numpy(render(state)).permute(0, 3, 1, 2)


class Known:
    """The road as a world: straight, and as it is told to look; steering moves the car by a tenth."""

    view, space = View(size=(32, 32)), SPACE

    def __init__(self, listens: bool = True) -> None:
        self.listens = listens

    def begin(self, rows: int) -> Any:
        return {"offset": torch.zeros(rows).double()}

    def observe(self, past: Clip, state: Any = None) -> Any:
        assert past.frames is not None
        return {"offset": torch.from_numpy(read_pose(road_figures.pictures(past.frames[:, -1]))["offset"])}

    def imagine(self, state: Any, actions: Any, steps: int, generator: torch.Generator) -> tuple[Clip, Any]:
        moved = torch.cat([torch.zeros(len(actions), 1), 0.1 * actions[..., 0].cumsum(1)], 1)
        offset = (state["offset"][:, None] + moved * self.listens).clamp(-1, 1)
        weather, car, bend = (torch.zeros(len(actions)).long() for _ in range(3))
        for row, said in enumerate(actions[:, -1]):
            words = str(SPACE.describe(said)["caption"]).split(", ")
            if self.listens and len(words) == 3:
                weather[row], car[row] = WEATHERS.index(words[0]), TRAFFIC.index(words[1])
                bend[row] = BENDS.index(words[2])
        swing = np.array(list(SWING.values()))[bend.numpy()] if self.listens else np.zeros(len(actions))
        frames = [drawn(o.numpy(), weather.numpy(), car.numpy() > 0, swing) for o in offset.T]
        return Clip(frames=torch.stack(frames, 1)), state

    def decode(self, clip: Clip) -> Clip:
        return clip

    def log_prob(self, clip: Clip) -> Tensor:
        return torch.full((clip.rows, clip.steps), -2.0)


class Reader:
    """A judge that reads offsets."""

    def infer(self, clip: Clip) -> Distribution:
        assert clip.frames is not None
        moved = torch.from_numpy(np.diff(road_figures.offsets(clip.frames), axis=1)).float()
        return Distribution(DRIVE, torch.stack([moved, *[torch.zeros_like(moved)] * 3], -1))


GROUND = replace(ground(setting("road"), None), judge=lambda: Judge(Reader(), wilson(9, 10)))  # type: ignore[arg-type]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STARTS": 12, "SEEN": 2, "AHEAD": 6, "ASKED": 3}.items():
        monkeypatch.setattr(road_figures, name, value)


def test_a_world_that_steers_agrees_with_what_was_asked(few: None) -> None:
    found = road_figures.measured("steering_agreement", System(forward=Known()), GROUND)
    assert found["steering_agreement"] == 1.0
    assert found["steering_agreement.pose"] == 1.0
    assert found["steering_agreement.real"] == 1.0
    assert found["steering_agreement.judge_r2"] == 0.9
    assert 0.2 <= found["steering_agreement.shuffled"] <= 0.8
    deaf = road_figures.measured("steering_agreement", System(forward=Known(False)), GROUND)
    assert deaf["steering_agreement"] <= 0.6


def test_words_change_what_they_say_and_nothing_else() -> None:
    found = road_figures.captioned(Known(), 48)  # type: ignore[arg-type]
    ends = ("others_kept", "others_redrawn", "no_text", "said")
    parts = {f"{name}.{end}" for name in road_figures.SAID for end in ends}
    whole = ("others_kept", "others_redrawn", "all_said")
    assert found == dict.fromkeys(("", *road_figures.SAID, *whole, *parts), 1.0) | {
        name: value for name, value in found.items() if name.endswith("no_text")
    }
    assert found["no_text"] < 0.7
    assert found["no_text"] == pytest.approx(np.mean([found[f"{name}.no_text"] for name in road_figures.SAID]))
    deaf = road_figures.captioned(Known(False), 48)  # type: ignore[arg-type]
    assert deaf["others_kept"] == 1.0  # as nothing changes at all
    assert deaf[""] == pytest.approx(deaf["no_text"])


def test_words_can_be_followed_as_far_as_tokens_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    bend = draw.choice([*SWING.values()], 40)
    frames = drawn(np.zeros(40), draw.integers(4, size=40), np.zeros(40, bool), bend)
    schema = Schema(DRIVE, {"observation.image": (32, 32, 3)}, 10)
    test = Cache.build(MemoryStore(schema, [Clip(frames=torch.cat([frames, frames[-1:]])[None])]))
    code = {"kind": "vq", "positions": 1, "codes": 4, "width": 4}
    world = NextTokenWorld(ConvTokenizer(View(size=(32, 32)), code, 8, 8), DRIVE, 8, 1, 2)
    seen: list[Tensor] = []

    def taken(shown: Tensor) -> Tensor:
        seen.append(shown[:, -1])
        return torch.zeros(len(shown), 16, dtype=torch.long)

    monkeypatch.setattr(world.tokenizer, "tokens", taken)
    monkeypatch.setattr(world.tokenizer, "pixels", lambda tokens: seen[-1])
    told = road_figures.through_tokens(world, test, 40)
    assert told == {f"{name}.through_tokens": 1.0 for name in road_figures.SAID}
    monkeypatch.setattr(world.tokenizer, "pixels", lambda tokens: seen[-1].flip(-1))  # right is left
    told = road_figures.through_tokens(world, test, 40)
    assert told["bend.through_tokens"] == pytest.approx((bend == 0).mean(), abs=0.05)  # one is near the limit
    assert told["weather.through_tokens"] == 1.0
    assert road_figures.through_tokens(Known(), test) == {}  # type: ignore[arg-type]


def test_what_changed_by_hand() -> None:
    before = {name: np.array([0, 0, 0]) for name in road_figures.SAID}
    after = {"weather": np.array([2, 2, 0]), "traffic": np.array([0, 1, 0]), "bend": np.array([0, 0, 0])}
    became, rest = road_figures.changed(before, after, {**before, "weather": np.array([2, 2, 2])}, "weather")
    assert became.tolist() == [True, True, False]
    assert rest.tolist() == [True, False, True]


def test_how_long_the_road_is_kept_by_hand() -> None:
    true = np.zeros((3, 4))
    read = np.array([[0, 0.1, 0.3, 0], [0.2, -0.2, 0.2, 0.0], [0.5, 0, 0, 0]])
    assert road_figures.steps_kept(read, true) == 2.0  # of 2, 4 and 0
    assert road_figures.steps_kept(true + 1.1, true + 1.1) == 0.0  # off the road, though truly so


def test_repeated_frames_are_counted() -> None:
    frames = torch.zeros(1, 4, 3, 2, 2)
    frames[:, 2] = 1
    assert road_figures.repeated(frames) == pytest.approx(1 / 3)


def test_the_caption_is_laid_out_as_bytes() -> None:
    words = captions({"weather": np.array([1]), "traffic": np.array([0]), "bend": np.array([2])})
    laid = road_figures.worded(SPACE, torch.ones(1, 3, 2), words)
    assert SPACE.describe(laid[0, 2])["caption"] == words[0]
    assert road_figures.worded(DRIVE, torch.ones(1, 3, 2)).shape == (1, 3, 2)
    assert SPACE.describe(road_figures.worded(SPACE, torch.ones(1, 3, 2))[0, 0])["caption"] == ""
    with pytest.raises(UnusableInput, match="takes two numbers"):
        road_figures.worded(SPACE, torch.ones(1, 3, 3))


def test_figures_need_a_world_that_fits() -> None:
    with pytest.raises(UnusableInput, match="forward"):
        road_figures.measured("road_kept", System(policy=Known()), GROUND)  # type: ignore[arg-type]
    mute = Known()
    mute.space = DRIVE
    with pytest.raises(UnusableInput, match="words"):
        road_figures.captioned(mute)  # type: ignore[arg-type]
