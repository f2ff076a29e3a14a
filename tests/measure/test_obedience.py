"""Questions to worlds: one that obeys, one that is deaf, one that walks through walls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from drawn import SPACE, VIEW, Blank, Drawn, Reader, cells

from retrodict.clip import Clip
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.envs.rollout import rollout, uniform
from retrodict.envs.sprites import GRID, Sprites
from retrodict.errors import Incompatible, NoFrames, UnusableInput
from retrodict.measure.branches import Branches, counterfactuals
from retrodict.measure.obedience import (
    anything,
    consistency,
    cycle,
    generated,
    horizon,
    idle,
    judged,
    sensitivity,
    told,
    windows,
)
from retrodict.models.encoder import FrameEncoder
from retrodict.models.tokenizers import PatchTokenizer
from retrodict.spaces import ActionSpace, Segment, code, continuous

CODES = ActionSpace((code("z", 5),))
ORDER = (3, 0, 4, 1, 2)  # which move each code is


@pytest.fixture(scope="module")
def video() -> Cache:
    """Random play, which takes every action everywhere."""
    world = Sprites(8)
    clips = [clip for clip, _, _ in rollout(world, range(40), uniform(world))]
    return Cache.build(MemoryStore(Schema(SPACE, {"observation.image": (36, 36, 3)}, 10, rewards=True), clips))


@pytest.fixture(scope="module")
def clip(video: Cache) -> Clip:
    return windows(video, 0, 4, 150)


@pytest.fixture(scope="module")
def branches() -> Branches:
    return counterfactuals(Sprites(5), range(60), random=0.5)


def test_windows_lie_in_one_episode_from_the_present_on(video: Cache) -> None:
    found = windows(video, 2, 3, 10_000)
    assert found.length == 6
    assert found.segment is not None
    assert bool((found.segment[:, 2:] == found.segment[:, 2:3]).all())
    assert int(found.segment[:, 2:].min()) >= 0
    starts = (found.segment[:, 0] == -1).nonzero()[:, 0]  # at a start, what lies before repeats the first frame
    assert found.frames is not None
    assert torch.equal(found.frames[starts, 0], found.frames[starts, 1])
    lengths = np.diff(video.starts)
    assert found.rows == int(np.clip(lengths - 3, 0, None).sum())
    assert torch.equal(windows(video, 2, 3, 9).frames, windows(video, 2, 3, 9).frames)
    assert windows(video, 2, 3, 9).rows == 9
    with pytest.raises(UnusableInput, match="no episode has 31 steps"):
        windows(video, 0, 31)


def test_windows_with_known_actions_leave_out_the_others(video: Cache) -> None:
    columns = {**video.columns, "source": np.zeros_like(video.columns["source"])}
    columns["source"][:6] = 1  # the first six steps of the first episode
    few = Cache(video.frames, video.starts, video.ids, video.space, columns, video.texts, 10, "few", video.cameras)
    assert windows(few, 0, 3).rows == 4
    assert windows(few, 0, 3, known=False).rows > 100
    with pytest.raises(UnusableInput, match="known actions"):
        windows(few, 0, 7)


def test_a_world_that_obeys_foresees_and_one_that_is_deaf_shows_the_last_frame(clip: Clip) -> None:
    right, deaf = (horizon(Drawn(manner), clip, 0) for manner in ("obeys", "deaf"))
    for found in (right.whole, right.moving):
        assert all(one is not None and one.value > 0.95 for one in found.skill)  # it forgets goals that it crossed
    assert all(one is not None and one.value == pytest.approx(0, abs=0.02) for one in deaf.whole.skill)
    assert right.psnr[0].value > 50 > 30 > deaf.psnr[3].value
    assert deaf.drift[3].value > deaf.drift[1].value > deaf.drift[0].value == 0
    assert right.psnr[0].count == len(np.unique(clip.segment[:, 0]))  # intervals are over episodes


def test_rewards_and_ends_are_compared_where_both_have_them(clip: Clip) -> None:
    assert horizon(Drawn(), clip.with_(rewards=None, ends=None), 0).rewards is None
    assert clip.actions is not None
    up = (clip.actions.argmax(-1) == 1).float()
    found = horizon(Drawn(), clip.with_(rewards=up, ends=torch.zeros_like(up)), 0)
    assert found.rewards is not None
    assert (found.rewards.bias, found.rewards.r2) == (0, 1)
    assert found.ends is not None
    assert (found.ends.error, found.ends.skill) == (0, None)


def test_sensitivity_tells_a_deaf_world(clip: Clip) -> None:
    found = sensitivity(Drawn(), clip, 0)
    assert found.word == "obeys"
    assert found.shuffled.value > 5
    assert found.still.value > 5
    assert found.delta_psnr.value > 10
    deaf = sensitivity(Drawn("deaf"), clip, 0)
    assert deaf.word == "ignores its actions"
    assert (deaf.shuffled.value, deaf.still.value, deaf.delta_psnr.value) == (1, 1, 0)


def test_a_world_that_takes_words_besides_is_told_none(clip: Clip) -> None:
    assert clip.actions is not None
    world = Drawn()
    world.space = ActionSpace((*SPACE.segments, Segment("event", "text", ("0", "1", "2"))))
    found = told(clip, SPACE, world)
    assert found.actions is not None
    assert found.actions[..., :5].equal(clip.actions)
    assert bool((found.actions[..., 5:] == -1).all())
    assert idle(world.space, found.actions)[..., 5:].unique().tolist() == [-1]


def test_doing_nothing_and_anything() -> None:
    space = ActionSpace((code("z", 3), continuous("v", ("x",)), Segment("k", "binary", ("jump",))))
    actions = torch.tensor([[1.0, 0, 0, 0.5, 1], [0, 0, 1, -0.5, 1], [0, 0, 1, 0.25, 0]]).unsqueeze(1)
    assert idle(space, actions).tolist() == [[[0, 0, 1, 0, 0]]] * 3
    many = anything(space, actions.repeat(100, 1, 1), np.random.default_rng(0))
    assert many[..., :3].sum(-1).unique().tolist() == [1]
    assert many[..., :3].mean((0, 1)).tolist() == pytest.approx([1 / 3] * 3, abs=0.1)
    assert sorted(many[..., 3].unique().tolist()) == [-0.5, 0.25, 0.5]


def test_cycle_reads_back_what_was_asked_and_not_what_is_usual(clip: Clip) -> None:
    found = cycle(Drawn(), Reader(), clip, 0)
    assert found.score.value > 0.85  # where it was not blocked
    assert found.chance.value == pytest.approx(0.2, abs=0.12)
    assert found.by["stay"] == 1
    assert set(found.by) == {"stay", "up", "down", "left", "right"}
    deaf = cycle(Drawn("deaf"), Reader(), clip, 0)
    assert deaf.by == {"stay": 1, "up": 0, "down": 0, "left": 0, "right": 0}
    coded = cycle(
        Drawn(space=CODES, order=ORDER),
        Reader(CODES, ORDER),
        told(clip, SPACE, Drawn(space=CODES), Reader(CODES, ORDER)),
        0,
    )
    assert coded.score.value > 0.85
    with pytest.raises(Incompatible, match="compares actions of one kind"):
        cycle(Drawn(), Reader(CODES), clip, 0)


class Speedometer:
    """An inverse of numbers that are written into the frames, read with an error."""

    def __init__(self, space: ActionSpace, off: float) -> None:
        self.space, self.view, self.off = space, Drawn().view, off

    def infer(self, clip: Clip) -> Any:
        from retrodict.spaces import Distribution

        assert clip.frames is not None
        return Distribution.point(self.space, clip.frames[:, 1:, 0, 0, :1].float() / 100 + self.off)


class Gauge(Drawn):
    """Writes the number it is told into the frame."""

    def moved(self, frames: torch.Tensor, moves: np.ndarray) -> torch.Tensor:
        raise NotImplementedError

    def imagine(self, state: Any, actions: torch.Tensor, steps: int, rng: torch.Generator) -> tuple[Clip, Any]:
        frames = torch.zeros(len(actions), steps + 1, 3, 36, 36, dtype=torch.uint8)
        frames[:, 1:, 0, 0, 0] = (actions[..., 0] * 100).round().to(torch.uint8)
        return Clip(frames=frames, actions=actions), state


def test_numbers_are_read_back_by_r2() -> None:
    space = ActionSpace((continuous("speed", ("v",)),))
    actions = torch.linspace(0, 1, 21).view(21, 1, 1)
    clip = Clip(frames=torch.zeros(21, 2, 3, 36, 36, dtype=torch.uint8), actions=actions)
    exact = cycle(Gauge(space=space), Speedometer(space, 0), clip, 0)
    assert exact.score.value == pytest.approx(1, abs=1e-4)
    assert exact.by == {}
    off = cycle(Gauge(space=space), Speedometer(space, 0.1), clip, 0)
    assert off.score.value == pytest.approx(1 - 0.1**2 / float(actions.var(correction=0)), abs=1e-3)
    assert off.chance.value < 0.5


def test_actions_are_the_recorded_ones_or_read_by_an_inverse_of_the_worlds_own(clip: Clip) -> None:
    plain = told(clip, SPACE, Drawn())
    assert plain.actions is not None
    assert plain.actions.equal(clip.actions)
    assert plain.source is clip.source
    coded = told(clip, SPACE, Drawn(space=CODES), Reader(CODES, ORDER))
    assert coded.actions is not None
    assert coded.source is None
    assert coded.actions.shape == (clip.rows, 4, 5)
    for inverse in (None, Reader()):
        with pytest.raises(Incompatible, match="give an inverse model"):
            told(clip, SPACE, Drawn(space=CODES), inverse)


def test_branches_hold_the_real_next_frame_of_every_action(branches: Branches) -> None:
    assert branches.past.rows == 60
    assert branches.past.frames is not None
    for a in range(5):  # the real world is as the hand-made one, but for goals
        made = Drawn().moved(branches.past.frames[:, -1], np.full(60, a))
        assert np.array_equal(cells(made), cells(branches.following[:, a]))
    at = cells(branches.past.frames[:, -1])
    blocked = [at[:, 0] == 0, at[:, 0] == GRID - 1, at[:, 1] == 0, at[:, 1] == GRID - 1]
    for a, wall in enumerate(blocked, 1):
        assert branches.alike[:, 0, a].tolist() == wall.tolist()
    again = counterfactuals(Sprites(5), range(60), random=0.5)
    assert torch.equal(again.following, branches.following)
    assert len({tuple(cell) for cell in at}) > 20


def test_the_past_of_a_branch_repeats_the_first_frame_of_an_episode() -> None:
    found = counterfactuals(Sprites(5), range(30), before=3, random=0.5).past
    assert found.length == 4
    assert found.segment is not None
    assert found.source is not None
    assert found.frames is not None
    young = (found.segment[:, 0] == -1).nonzero()[:, 0].tolist()
    assert young
    assert len(young) < 30
    for row in young:
        first = int((found.segment[row] >= 0).nonzero()[0])
        assert torch.equal(found.frames[row, 0], found.frames[row, first])
        assert found.source[row].tolist() == [0] * first + [1] * (3 - first)


class Moody(Sprites):
    """A world whose copies differ."""

    def _frames(self) -> np.ndarray:
        frames = super()._frames()
        frames[-1, 0, 0] = self.steps[-1]
        return frames


def test_a_world_that_cannot_be_branched_says_why() -> None:
    with pytest.raises(UnusableInput, match="needs a row for each; it has 4"):
        counterfactuals(Sprites(4), range(3))
    with pytest.raises(UnusableInput, match="differs between copies"):
        counterfactuals(Moody(5), range(10))


def test_a_judge_tells_worlds_apart(branches: Branches) -> None:
    asked, means = torch.eye(5), np.tile(np.arange(5), (60, 1))
    right = judged(Drawn(), Reader(), branches, asked, means)
    assert (right.score.value, right.real.value) == (1, 1)
    assert right.blocked is not None
    assert right.blocked.value == 1
    assert right.raw.value < 1
    for control in (right.shuffled, right.random):
        assert control.value == pytest.approx(0.2, abs=0.1)
    assert right.encoded is None
    deaf = judged(Drawn("deaf"), Reader(), branches, asked, means)
    assert deaf.by == (1, 0, 0, 0, 0)
    assert deaf.score.value == pytest.approx(0.2)
    ghost = judged(Drawn("ghost"), Reader(), branches, asked, means)
    assert ghost.score.value == 1
    assert ghost.blocked is not None
    assert ghost.blocked.value < 0.5
    codes = judged(Drawn(space=CODES, order=ORDER), Reader(), branches, asked, np.tile(np.array(ORDER), (60, 1)))
    assert codes.score.value == 1
    wrong = judged(Drawn(space=CODES, order=ORDER), Reader(), branches, asked, np.tile(np.roll(ORDER, 1), (60, 1)))
    assert wrong.score.value < 0.1  # a move into a wall looks as it should by luck
    with pytest.raises(Incompatible, match="the judge speaks"):
        judged(Drawn(), Reader(CODES), branches, asked, means)


def test_what_an_encoder_loses_bounds_what_a_judge_can_read(branches: Branches) -> None:
    asked, means = torch.eye(5), np.tile(np.arange(5), (60, 1))
    whole, without = PatchTokenizer(VIEW, 4, 64), PatchTokenizer(VIEW, 4, 64)
    whole.learn(Clip(frames=branches.following), torch.Generator().manual_seed(0))
    without.learn(Clip(frames=torch.zeros(1, 1, 3, 36, 36, dtype=torch.uint8)), torch.Generator())
    encoders = {"whole": whole, "without": without, "no decoder": FrameEncoder(VIEW)}
    found = {name: judged(Drawn(), Reader(), branches, asked, means, encoder=one) for name, one in encoders.items()}
    kept = {name: None if one.encoded is None else one.encoded.value for name, one in found.items()}
    assert kept["whole"] == 1
    assert kept["without"] is not None
    assert kept["without"] < 0.4  # a frame without an agent shows no move
    assert kept["no decoder"] is None
    assert {one.score.value for one in found.values()} == {1.0}  # the world itself does not go through it


def test_codes_that_always_move_alike_are_consistent(clip: Clip) -> None:
    assert clip.frames is not None
    at = cells(clip.frames[:, 0])
    free = np.flatnonzero(((at > 0) & (at < GRID - 1)).all(1))
    past = clip.cut(0, 1).pick(free.tolist())
    assert consistency(Drawn(), past, torch.eye(5), cells) == 1
    assert consistency(Drawn("deaf"), past, torch.eye(5), cells) == 0


def test_what_is_generated_does_not_hang_on_how_much_is_asked_at_once(branches: Branches) -> None:
    world, asked = Drawn(), torch.eye(5).expand(60, -1, -1)
    whole = generated(world, branches.past, asked)
    assert world.asked == 300
    part = generated(Drawn(), branches.past.pick([7]), asked[7:8, 2:3])
    assert torch.equal(part[0, 0], whole[7, 2])


def test_a_world_without_frames_says_so(clip: Clip) -> None:
    for ask in (horizon, sensitivity):
        with pytest.raises(NoFrames):
            ask(Blank(), clip, 0)
