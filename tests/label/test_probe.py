"""The probe on recorded sprites: actions that were moved against their frames, and what cannot be told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from retrodict.clip import MISSING, RECORDED, Clip
from retrodict.data.check import look
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.envs.rollout import expert, rollout
from retrodict.envs.sprites import Sprites
from retrodict.label import probe
from retrodict.label.health import _cameras, _leaks, read
from retrodict.label.probe import Sample, answers, chosen, find_drift, find_offset, gathered, scan, skills
from retrodict.spaces import ActionSpace, Segment, categorical, continuous

SIZE, FPS = 36, 10


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    world = Sprites(8, SIZE)
    found = [clip for clip, _, _ in rollout(world, range(40), expert(world, 0.5))]
    return [clip.with_(rewards=None, ends=None) for clip in found]


def moved(clip: Clip, shift: int) -> Clip:
    """The clip with every action recorded `shift` steps before the one that shows its effect."""
    assert clip.actions is not None
    actions, source = torch.zeros_like(clip.actions), torch.full((1, clip.steps), MISSING, dtype=torch.uint8)
    for t in range(max(0, -shift), min(clip.steps, clip.steps - shift)):
        actions[:, t], source[:, t] = clip.actions[:, t + shift], RECORDED
    return clip.with_(actions=actions, source=source)


def sample(clips: list[Clip], space: ActionSpace | None = None, cameras: int = 1) -> Sample:
    names = [f"observation.{name}" for name in ("front", "side")[:cameras]]
    schema = Schema(space or Sprites(1, SIZE).actions, dict.fromkeys(names, (SIZE, SIZE, 3)), FPS)
    store = MemoryStore(schema, clips)
    found = gathered(store, look(store, "d", lambda clips: clips)[1], 0)
    assert found is not None
    return found


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at fewer shifts, to be quick."""
    monkeypatch.setattr(probe, "RADIUS", 2)
    monkeypatch.setattr(probe, "SHIFTS", range(-2, 3))


def drift(asked: Sample) -> tuple[tuple[int, int], tuple[int, int]] | None:
    return find_drift(asked, scan(asked))


def leaks(asked: Sample) -> list[str]:
    beliefs = {"two frames": answers(asked), "one frame": answers(asked, frames=1)}
    skill = {name: skills(asked.space, belief.mode(), asked.actions) for name, belief in beliefs.items()}
    return [finding.kind for finding in _leaks(asked, skill)]


@pytest.mark.parametrize("shift", range(-3, 4))
def test_actions_that_were_moved_are_found_where_they_belong(clips: list[Clip], shift: int) -> None:
    found = find_offset(scan(sample([moved(clip, shift) for clip in clips])))
    assert found.steps == shift
    score = {row["x"]: row["value"] for row in found.scores}
    assert score[shift] > 0.55
    assert max(value for x, value in score.items() if x != shift) < 0.45


def with_actions(clips: list[Clip], choose: Callable[[int], int]) -> list[Clip]:
    """The clips with other actions; `choose` names the one of each step, counted over all clips."""
    space, count, made = Sprites(1, SIZE).actions, 0, []
    for clip in clips:
        numbers = [choose(count + t) for t in range(clip.steps)]
        count += clip.steps
        made.append(clip.with_(actions=space.one_hot(torch.tensor([numbers], dtype=torch.float32))))
    return made


def test_actions_that_have_nothing_to_do_with_the_frames_have_no_offset(clips: list[Clip]) -> None:
    draw = np.random.default_rng(0).integers(0, 5, 2000).tolist()
    (figures, found), verdict = read(sample(with_actions(clips, lambda t: draw[t])), FPS, 0.8)
    assert figures["offset"]["steps"] is None
    assert [finding.kind for finding in found] == ["unreadable"]
    assert verdict.word == "not actions"
    assert figures["forecast"]["needed"] is None
    assert figures["forecast"]["reason"].startswith("no forecast")


def test_whole_episodes_are_held_out_and_long_ones_in_stretches(clips: list[Clip]) -> None:
    many = sample(clips)
    assert all(len(many.fold[many.episode == n].unique()) == 1 for n in range(len(clips)))  # type: ignore[no-untyped-call]
    long = [
        Clip(
            frames=torch.zeros(1, 201, 3, SIZE, SIZE, dtype=torch.uint8),
            actions=torch.eye(5)[torch.arange(200) % 5][None],
        )
    ]
    one = sample(long)
    assert len(one.fold.unique()) == probe.FOLDS  # type: ignore[no-untyped-call]
    assert all(len(set(part.tolist())) == 1 for part in one.fold.split(probe.STRETCH))


def test_only_recorded_steps_are_asked_and_too_few_are_none(clips: list[Clip]) -> None:
    source = torch.full((1, clips[0].steps), MISSING, dtype=torch.uint8)
    few = clips[0].with_(source=source)
    schema = Schema(Sprites(1, SIZE).actions, {"observation.image": (SIZE, SIZE, 3)}, FPS)
    store = MemoryStore(schema, [few])
    assert gathered(store, look(store, "d", lambda clips: clips)[1], 0) is None
    both = sample([few, *clips[1:8]])
    assert len(both) == sum(clip.steps for clip in clips[1:8])


def test_episodes_with_recorded_steps_are_looked_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "FRAMES", 25)
    recorded = {"a": 0, "b": 5, "c": 0, "d": 1}
    assert set(chosen(dict.fromkeys(recorded, 10), recorded, 0)) == {"b", "d"}
    assert set(chosen({"a": 100}, {"a": 0}, 0)) == {"a"}  # a single one is always looked at


def test_a_frame_that_gives_the_action_away_is_told(clips: list[Clip]) -> None:
    """A light in the corner of the first frame says which action comes; what moves says nothing."""
    draw = np.random.default_rng(0).integers(0, 2, 2000).tolist()
    lit, count = [], 0
    for clip in with_actions(clips, lambda t: draw[t]):
        frames = torch.full_like(clip.frames, 30)  # type: ignore[arg-type]
        for t in range(clip.steps):
            frames[0, t, :, 4:16, 4:16] = 250 if draw[count + t] else 60
        count += clip.steps
        lit.append(clip.with_(frames=frames))
    assert leaks(sample(lit)) == ["one frame"]
    assert leaks(sample(clips)) == []


def test_one_action_per_episode_is_told(clips: list[Clip]) -> None:
    numbers = [n for n, clip in enumerate(clips) for _ in range(clip.steps)]
    alike = with_actions(clips, lambda t: numbers[t] % 5)
    tinted = [clip.with_(frames=clip.frames // 5 + 40 * (n % 5)) for n, clip in enumerate(alike)]  # type: ignore[operator]
    assert "episode" in leaks(sample(tinted))


def test_a_camera_that_lags_is_told(clips: list[Clip], near: None) -> None:
    late = []
    for clip in clips:
        assert clip.frames is not None
        side = torch.cat([clip.frames[:, :1], clip.frames[:, :1], clip.frames[:, :-2]], 1)
        late.append(clip.with_(frames=torch.cat([clip.frames, side], 2)))
    rows, found = _cameras(sample(late, cameras=2), 0, 0)
    assert [row["offset"] for row in rows] == [0, 2]
    assert [finding.kind for finding in found] == ["cameras"]
    assert _cameras(sample(clips), 0, 0) == ([], [])


def test_a_clock_that_drifts_along_an_episode_is_told(near: None) -> None:
    """Squares that walk for 120 steps; in the last third actions are two steps early."""
    world = Sprites(8, SIZE, limit=120)
    long = [clip.with_(rewards=None, ends=None) for clip, _, _ in rollout(world, range(16), expert(world, 1.0))]
    long = [clip for clip in long if clip.steps > 60]
    drifting = []
    for clip in long:
        early, n = moved(clip, 2), clip.steps * 2 // 3
        drifting.append(clip.with_(
            actions=torch.cat([clip.actions[:, :n], early.actions[:, n:]], 1),  # type: ignore[index]
            source=torch.cat([clip.source[:, :n], early.source[:, n:]], 1),  # type: ignore[index]
        ))  # fmt: skip
    found = drift(sample(drifting))
    assert found is not None
    (first, early_offset), (last, late_offset) = found
    assert (early_offset, late_offset) == (0, 2)
    assert first < last
    assert drift(sample(long)) is None


def test_scores_of_choices_keys_and_numbers() -> None:
    space = ActionSpace((categorical("m", ("a", "b", "c"), [("a", "b")]), Segment("k", "binary", ("x", "y")),
                         continuous("v", ("v",))))  # fmt: skip
    truth = torch.tensor([[1.0, 0, 0, 1, 0, -1], [0, 0, 1, 1, 1, 1]])
    said = torch.tensor([[0.0, 1, 0, 1, 1, -1], [1, 0, 0, 1, 1, 0]])
    # choices: a and b are one: 1, 0; keys: 1/2, 1; numbers with variance 1: 1, 0
    assert skills(space, said, truth).tolist() == pytest.approx([2.5 / 3, 1 / 3])


def pushed(count: int, seed: int) -> Clip:
    """A block that moves to the right by as many pixels as its action says, to the left where that is negative."""
    rng = np.random.default_rng(seed)
    moves = rng.integers(-4, 5, count)
    at = (14 + np.concatenate([[0], np.cumsum(moves)])) % 30
    frames = torch.full((1, count + 1, 3, SIZE, SIZE), 40, dtype=torch.uint8)
    for t, x in enumerate(at.tolist()):
        frames[0, t, :, 12:20, x : x + 6] = 220
    source = torch.full((1, count), RECORDED, dtype=torch.uint8)
    return Clip(frames=frames, actions=torch.from_numpy(moves).float()[None, :, None], source=source)


def test_numbers_are_judged_by_how_much_is_explained() -> None:
    """Not by how many are right: small networks are a little off nearly everywhere."""
    space = ActionSpace((continuous("push", ("x",), -4, 4, center=(0.0,), scale=(2.6,)),))
    clips = [pushed(30, seed) for seed in range(12)]
    (figures, findings), verdict = read(sample(clips, space), FPS, 0.8)
    assert figures["parts"]["r2_push"] > 0.5
    assert verdict.word == "usable"
    assert "R² of push" in verdict.reason
    assert findings == []
    (_, findings), verdict = read(sample([moved(clip, 2) for clip in clips], space), FPS, 0.8)
    assert verdict.word == "not actions"
    assert "offset" in {finding.kind for finding in findings}
    noise = [clip.with_(actions=torch.randn(clip.actions.shape)) for clip in clips]  # type: ignore[union-attr]
    assert read(sample(noise, space), FPS, 0.8)[1].word == "not actions"
