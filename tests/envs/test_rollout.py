"""Rollouts: one first episode per seed, in order, whatever the batch; actors addressed by episode and step."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from retrodict.clip import RECORDED, Clip
from retrodict.envs.road import Road
from retrodict.envs.rollout import expert, open_loop, policy_actor, rollout, score, smooth, uniform
from retrodict.envs.sprites import Sprites
from retrodict.errors import Incompatible, UnusableInput
from retrodict.roles import View
from retrodict.spaces import ActionSpace, Distribution

SEEDS = [7, 3, 11, 2, 40, 5, 9, 21, 30, 1]


def test_episodes_come_in_the_order_of_seeds_and_keep_the_fence_post_rule() -> None:
    world = Sprites(4)
    played = list(rollout(world, SEEDS, expert(world)))
    assert len(played) == len(SEEDS)
    for seed, (clip, success, total) in zip(SEEDS, played, strict=True):
        first, _ = Sprites(1).reset(seed=seed)
        assert clip.frames is not None
        assert torch.equal(clip.frames[0, 0].permute(1, 2, 0), torch.from_numpy(first[0]))
        assert success
        assert total == 1.0
        assert clip.length == clip.steps + 1
        assert clip.source is not None
        assert (clip.source == RECORDED).all()
        assert clip.ends is not None
        assert clip.ends[0].tolist() == [0.0] * (clip.steps - 1) + [1.0]
        assert clip.times is not None
        assert clip.times[0, -1] == pytest.approx(clip.steps / world.fps)


def test_stored_actions_are_the_ones_that_were_taken() -> None:
    world, again = Sprites(3), Sprites(1)
    for seed, (clip, _, _) in zip(SEEDS, rollout(world, SEEDS, uniform(world, 1)), strict=True):
        assert clip.actions is not None
        assert clip.frames is not None
        again.reset(seed=seed)
        for step in range(clip.steps):
            frames, *_ = again.step(again.native(clip.actions[:, step]))
            assert torch.equal(torch.from_numpy(frames[0]), clip.frames[0, step + 1].permute(1, 2, 0))


def test_a_truncated_episode_does_not_end() -> None:
    world = Sprites(2, limit=4)
    stay = torch.eye(5)[:1]
    for clip, success, _ in rollout(world, SEEDS[:5], open_loop(world, stay)):
        assert clip.steps == 4
        assert not success
        assert clip.ends is not None
        assert clip.ends.sum() == 0


@pytest.mark.parametrize("name", ["expert", "uniform", "mixture", "sampled"])
def test_episodes_do_not_depend_on_the_batch(name: str) -> None:
    runs = []
    for n in (1, 8):
        world = Sprites(n, distractors=1)
        actor = {
            "expert": lambda world=world: expert(world, 0.4, 3),
            "uniform": lambda world=world: uniform(world, 3),
            "mixture": lambda world=world: open_loop(world, torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2]), 3),
            "sampled": lambda world=world: policy_actor(Counting(world.actions), world, mode=False, seed=3),
        }[name]()
        runs.append(list(rollout(world, SEEDS, actor)))
    for (a, *ends_a), (b, *ends_b) in zip(*runs, strict=True):
        assert ends_a == ends_b
        assert a.actions is not None
        assert b.actions is not None
        assert torch.equal(a.actions, b.actions)
        assert a.frames is not None
        assert b.frames is not None
        assert torch.equal(a.frames, b.frames)


def test_actors_with_other_seeds_act_differently() -> None:
    world = Sprites(1)
    first, second = (next(iter(rollout(world, [3], uniform(world, seed))))[0].actions for seed in (0, 1))
    assert first is not None
    assert second is not None
    assert not torch.equal(first[:, :4], second[:, :4])


def test_the_random_share_is_what_was_asked_for() -> None:
    world = Sprites(16, limit=100)
    clean = {seed: clip for seed, (clip, _, _) in zip(range(60), rollout(world, range(60), expert(world)), strict=True)}
    assert all(clip.steps <= 16 for clip in clean.values())
    off = total = 0
    actor = expert(world, 0.5, 0)

    def watched(clip: Clip) -> Tensor:
        nonlocal off, total
        chosen = actor(clip)
        assert clip.segment is not None
        running = clip.segment[:, 0] >= 0
        scripted = torch.from_numpy(world.vectors(world.expert()))
        off += int(((chosen != scripted).any(1) & running).sum())
        total += int(running.sum())
        return chosen

    score(world, range(200), watched)
    assert off / total == pytest.approx(0.5 * 4 / 5, abs=0.05)  # one in five random actions is the expert's own


def test_score_tells_expert_from_chance() -> None:
    world = Sprites(16)
    best, chance = score(world, range(100), expert(world)), score(world, range(100), uniform(world))
    assert all(best["success"])
    assert sum(chance["success"]) < 35
    assert best["lengths"] == [clip.steps for clip, _, _ in rollout(world, range(100), expert(world))]


def test_random_actions_may_be_held() -> None:
    def played(copies: int) -> list[list[int]]:
        made = Sprites(copies, limit=30)
        clips = [clip.actions for clip, _, _ in rollout(made, range(8), expert(made, 1.0, 3, held=4))]
        return [actions[0].argmax(-1).tolist() for actions in clips if actions is not None]

    runs = [len(list(group)) for actions in played(4) for _, group in itertools.groupby(actions)]
    assert max(runs) > 4 > min(runs)  # longer ones are the same action drawn again
    assert np.mean(runs) > 2.0  # beside 1.25 of five actions drawn anew every step
    assert played(1) == played(4)
    with pytest.raises(UnusableInput, match="held"):
        expert(Sprites(1), 1.0, held=0)


def test_a_sequence_is_repeated() -> None:
    world = Sprites(2, limit=5)
    plan = torch.eye(5)[[1, 2, 1]]
    clip, _, _ = next(iter(rollout(world, [0], open_loop(world, plan))))
    assert clip.actions is not None
    assert clip.actions[0].argmax(-1).tolist() == [1, 2, 1, 1, 2][: clip.steps]


def test_wrong_seeds_and_plans_are_refused() -> None:
    world = Sprites(1)
    with pytest.raises(UnusableInput, match="distinct"):
        list(rollout(world, [1, 1], uniform(world)))
    with pytest.raises(UnusableInput, match="must lie in"):
        list(rollout(world, [-1], uniform(world)))
    with pytest.raises(UnusableInput, match="sum to 1"):
        open_loop(world, torch.tensor([0.5, 0.2, 0.0, 0.0, 0.0]))


@dataclass
class Counting:
    """A policy whose memory counts the steps of each row's episode, restarting where segment changes."""

    space: ActionSpace
    view: View = field(default_factory=lambda: View(size=(36, 36)))
    seen: list[Clip] = field(default_factory=list)

    def act(self, past: Clip, memory: Tensor | None = None) -> tuple[Distribution, Tensor]:
        self.seen.append(past)
        assert past.segment is not None
        if memory is None:
            count = torch.zeros(past.rows, dtype=torch.long)
        else:
            count = torch.where(past.segment[:, -1] == past.segment[:, -2], memory + 1, 0)
        logits = torch.nn.functional.one_hot(1 + count % 4, 5).float() * 2
        return Distribution(self.space, logits), count


def test_a_policy_with_memory_sees_two_frames_and_restarts_with_the_episode() -> None:
    world = Sprites(3, limit=6)
    policy = Counting(world.actions)
    for clip, _, _ in rollout(world, SEEDS, policy_actor(policy, world)):
        assert clip.actions is not None
        assert clip.actions[0].argmax(-1).tolist() == [1, 2, 3, 4, 1, 2][: clip.steps]
    assert [past.length for past in policy.seen] == [1] + [2] * (len(policy.seen) - 1)


@dataclass
class Windowed:
    """A policy without memory that looks at three frames."""

    space: ActionSpace
    view: View = field(default_factory=lambda: View(frames=3, before=2, size=(36, 36)))
    seen: list[Clip] = field(default_factory=list)

    def act(self, past: Clip, memory: None = None) -> tuple[Distribution, None]:
        self.seen.append(past)
        return Distribution(self.space, torch.zeros(past.rows, 5)), None


def test_a_policy_without_memory_sees_its_window_with_the_first_frame_repeated() -> None:
    world = Sprites(2, limit=4)
    policy = Windowed(world.actions)
    list(rollout(world, [3, 5, 8, 9], policy_actor(policy, world)))
    steps = []
    for past in policy.seen:
        assert past.times is not None
        assert past.segment is not None
        assert past.length == 3
        assert (past.segment == past.segment[:, -1:]).all()
        steps.append((past.times[0] * world.fps).round().int().tolist())
    assert steps[:5] == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [0, 0, 0]]


def test_a_policy_of_another_size_or_space_is_refused() -> None:
    world = Sprites(1, size=45)
    with pytest.raises(Incompatible, match="pixels"):
        policy_actor(Counting(world.actions), world)
    other = ActionSpace((world.actions.segments[0].__class__("x", "code", ("0", "1")),))
    with pytest.raises(Incompatible, match="speaks"):
        policy_actor(Counting(other), world)


def test_a_smooth_actor_swings_slowly_and_depends_on_episode_and_step_alone() -> None:
    moves = []
    for rows in (1, 4):
        world = Road(rows, limit=80, weather="day")
        played = [
            clip.actions[0] for clip, _, _ in rollout(world, range(6), smooth(world, 1)) if clip.actions is not None
        ]
        moves.append(torch.cat(played))
    assert torch.equal(*moves)
    assert moves[0].abs().max() <= 1
    assert moves[0].std(0).min() > 0.3
    assert moves[0].diff(dim=0).abs().median() < 0.2
    sprites = Sprites(2, limit=30)
    (clip,) = [clip for clip, _, _ in rollout(sprites, [3], smooth(sprites)) if clip.actions is not None]
    picks = clip.actions[0].argmax(-1)
    assert 0 < (picks.diff() != 0).sum() < len(picks) / 2  # it keeps to a choice for a while
    with pytest.raises(UnusableInput, match="period"):
        smooth(sprites, period=0)
