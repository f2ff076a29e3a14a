"""Dreams: Gymnasium's rules, seeds, branches, rewards and ends, and whatever acts in worlds acts in dreams."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from retrodict import cli, rng
from retrodict.clip import Clip
from retrodict.contract import sprite_views
from retrodict.data.batch import Steps
from retrodict.data.store import Store
from retrodict.dream import BEGINNINGS, Dream, DreamEnv, dream
from retrodict.envs.catalog import make
from retrodict.envs.pendulum import Pendulum
from retrodict.envs.rollout import open_loop, policy_actor, rollout, score, uniform
from retrodict.errors import Incompatible, NoFrames, UnusableInput
from retrodict.models.frame_world import FrameForward
from retrodict.models.next_token_world import NextTokenWorld
from retrodict.models.policy import ClipPolicy
from retrodict.models.rssm import RSSM
from retrodict.models.token_world import MaskedWorld, TokenWorld
from retrodict.models.tokenizers import PatchTokenizer
from retrodict.roles import ForwardModel, System, View
from retrodict.run.checkpoint import load_system
from retrodict.run.collect import UNSEEN, collect, schema_of
from retrodict.spaces import ActionSpace, categorical
from retrodict.tree import Tree

SIZE = (8, 12)
PAY, END, WAIT = range(3)


class Counter:
    """A world by hand: brightness counts the steps. `pay` earns 2, `end` ends, `wait` adds noise if there is any.

    The state grows with every step where `grows` says so, as a model's memory may.
    """

    view = View(size=SIZE, rate=5.0)
    space = ActionSpace((categorical("do", ("pay", "end", "wait")),))

    def __init__(self, noisy: bool = False, grows: bool = False, features: bool = False) -> None:
        self.noisy, self.grows, self.blind = noisy, grows, features
        self.calls: list[int] = []

    def observe(self, past: Clip, state: Tree = None) -> Tree:
        assert past.frames is not None
        return {"light": past.frames[:, -1:, 0, 0, 0].float()}  # b 1

    def imagine(self, state: Any, actions: Any, steps: int, rng: torch.Generator) -> tuple[Clip, Tree]:
        light = state["light"]
        lights = [light[:, -1]]
        if steps:
            self.calls.append(len(light))
            waits = actions[:, 0, WAIT]
            noise = torch.randint(0, 50, (len(light),), generator=rng) if self.noisy else 0
            lights.append(lights[-1] + 1 + waits * noise)
            light = torch.cat([light, lights[-1][:, None]], 1) if self.grows else lights[-1][:, None]
        shown = torch.stack(lights, 1)
        given = {} if not steps else {"actions": actions, "rewards": 2 * actions[:, :, PAY], "ends": actions[:, :, END]}
        if self.blind:
            return Clip(features=shown[..., None].expand(-1, -1, 4).contiguous(), **given), {"light": light}
        frames = shown[:, :, None, None, None].expand(-1, -1, 3, *SIZE).to(torch.uint8)
        return Clip(frames=frames.contiguous(), **given), {"light": light}

    def decode(self, clip: Clip) -> Clip:
        if self.blind:
            raise NoFrames("it counts without pictures")
        return clip

    def log_prob(self, clip: Clip) -> torch.Tensor:
        raise NotImplementedError


def starts(rows: int = 5) -> Clip:
    light = torch.arange(rows, dtype=torch.uint8) * 40
    return Clip(frames=light.view(-1, 1, 1, 1, 1).expand(-1, 2, 3, *SIZE).contiguous(), text=tuple("abcde"[:rows]))


@pytest.fixture(scope="module")
def cache_steps() -> Steps:
    return sprite_views(episodes=6, labels=4).unlabelled


@pytest.fixture(scope="module")
def sprite_world(cache_steps: Steps) -> FrameForward:
    cache = cache_steps.cache
    with rng.isolated(0, "dream"):
        return FrameForward(cache.view(2, 1), cache.space, "conv", 4, 8, 1).eval()


def test_a_dream_passes_gymnasiums_own_check(sprite_world: FrameForward, cache_steps: Steps) -> None:
    for env in (
        dream(sprite_world, cache_steps),
        dream(Counter(noisy=True), starts()),
        dream(Counter(features=True), starts()),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of things it cannot look at, such as no registered id
            check_env(env)
    pictures = DreamEnv(sprite_world, cache_steps, render_mode="rgb_array")
    shown, _ = pictures.reset(seed=1)
    assert np.array_equal(pictures.render(), shown)
    assert dream(sprite_world, cache_steps).render() is None


def test_a_run_is_dreamt_from_its_folder_from_new_levels_or_from_a_dataset(tmp_path: Path) -> None:
    line = ["record", "sprites", "--episodes", "10", "--out", str(tmp_path / "data")]
    assert cli.main(line) == 0
    line = ["train", "lapo", "--data", str(tmp_path / "data"), "--labels", "20", "--size", "micro"]
    assert cli.main([*line, "--out", str(tmp_path / "run")]) == 0
    env = dream(tmp_path / "run", limit=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of things it cannot look at, such as no registered id
        check_env(env)
    real, _ = make("sprites", BEGINNINGS).reset(seed=[UNSEEN + level for level in range(BEGINNINGS)])
    begun = [env.reset(seed=seed)[0] for seed in range(20)]
    assert all(any(np.array_equal(frame, level) for level in real) for frame in begun)
    assert len({frame.tobytes() for frame in begun}) > 5
    twice = dream(str(tmp_path / "run"), n=2, limit=4).reset(seed=[3, 4])[0]
    assert np.array_equal(twice[0], begun[3])
    with Store.open(tmp_path / "data") as store:
        recorded = {frame.permute(1, 2, 0).numpy().tobytes() for id in store.ids for frame in store.read(id).frames[0]}  # type: ignore[index]
        for given in (store, str(tmp_path / "data")):
            rows = dream(load_system(tmp_path / "run"), given, n=30)
            assert {frame.tobytes() for frame in rows.reset(seed=0)[0]} <= recorded
    with pytest.raises(UnusableInput, match="give starts"):
        dream(Counter())
    with pytest.raises(UnusableInput, match="give starts"):
        dream(replace(load_system(tmp_path / "run"), about={}))
    with pytest.raises(UnusableInput, match="finished run"):
        dream(tmp_path / "data")
    with pytest.raises(UnusableInput, match="or a clip; got tuple"):
        dream(tmp_path / "run", ())  # type: ignore[arg-type]


def test_a_learner_of_stable_baselines_practises_in_a_dream(sprite_world: FrameForward, cache_steps: Steps) -> None:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_checker import check_env as check_sb3

    counter = Counter()
    for env in (dream(sprite_world, cache_steps), dream(counter, starts()), dream(Counter(features=True), starts())):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of frames too small for its convolutions
            check_sb3(env)
    counter.calls.clear()
    with rng.isolated("ppo"):
        learner = PPO("MlpPolicy", dream(counter, starts(), limit=10), n_steps=32, batch_size=32, seed=0, device="cpu")
        old = [weight.clone() for weight in learner.policy.parameters()]
        learner.learn(64)
    assert counter.calls == [1] * 64
    assert any(not torch.equal(*pair) for pair in zip(old, learner.policy.parameters(), strict=True))
    finished = [episode["r"] for episode in learner.ep_info_buffer]
    assert finished
    assert all(earned in range(0, 21, 2) for earned in finished)


@pytest.mark.parametrize("kind", [MaskedWorld, NextTokenWorld])
def test_a_world_of_tokens_is_dreamt_too(kind: type[TokenWorld], cache_steps: Steps) -> None:
    cache = cache_steps.cache
    book = PatchTokenizer(cache.view(), 18, 8)
    book.learn(Clip(frames=torch.from_numpy(np.array(cache.frames[None, :9]))), rng.torch_rng(0))
    with rng.isolated(0, "tokens"):
        model = kind(book, cache.space, 16, 1, 2, 2).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of things it cannot look at, such as no registered id
        check_env(dream(model, cache_steps))
    rows, moves = dream(model, cache_steps, n=3), [np.array(move) for move in ([1, 2, 3], [4, 0, 1])]
    rows.reset(seed=5)
    twin, saved = rows.branch(), rows.state()
    shown = [rows.step(move)[0] for move in moves]
    assert np.array_equal([twin.step(move)[0] for move in moves], shown)
    rows.restore(saved)
    assert np.array_equal([rows.step(move)[0] for move in moves], shown)
    alone = dream(model, cache_steps)
    alone.reset(seed=6)
    assert np.array_equal([alone.step(move[1])[0] for move in moves], [frames[1] for frames in shown])


def test_it_starts_at_a_recorded_frame_that_the_seed_chooses(sprite_world: FrameForward, cache_steps: Steps) -> None:
    env = dream(sprite_world, cache_steps)
    recorded = {frame.transpose(1, 2, 0).tobytes() for frame in cache_steps.cache.frames[cache_steps.index]}
    begun = [env.reset(seed=seed)[0].tobytes() for seed in range(8)]
    assert set(begun) <= recorded
    assert len(set(begun)) > 4
    assert begun == [env.reset(seed=seed)[0].tobytes() for seed in range(8)]


class Remembering(Counter):
    """Notes how much it is shown, and with which actions."""

    remembers = 3

    def observe(self, past: Clip, state: Any = None) -> Any:
        shown.append(past)
        return super().observe(past, state)


shown: list[Clip] = []


def test_a_world_that_remembers_is_shown_what_came_before(cache_steps: Steps) -> None:
    shown.clear()
    late = cache_steps.only(np.flatnonzero(cache_steps.index - cache_steps.cache.first[cache_steps.index] == 5)[:1])
    dream(Remembering(), late).reset(seed=0)
    (row,) = (int(late.index[0]),)
    for past in shown:
        assert past.frames is not None
        assert np.array_equal(past.frames[0].numpy(), cache_steps.cache.frames[row - 3 : row + 1])
        assert past.actions is None, "this world speaks other actions"
    clip = Clip(frames=torch.from_numpy(cache_steps.cache.frames[row : row + 1])[None])
    shown.clear()
    dream(Remembering(), clip).reset(seed=0)
    assert {past.length for past in shown} == {1}, "rows that are given are shown as they are"


def test_it_imagines_what_the_model_imagines(sprite_world: FrameForward, cache_steps: Steps) -> None:
    rows = dream(sprite_world, cache_steps, n=3, limit=6)
    rows.reset(seed=0)
    state = sprite_world.observe(Clip(frames=torch.stack([s["frames"][0] for s in rows.state()["states"]])))
    moves = np.array([[1, 2, 3], [4, 0, 1], [2, 2, 2]])
    actions = rows.actions.one_hot(torch.from_numpy(moves))
    with torch.no_grad():
        clip, _ = sprite_world.imagine(state, actions, 3, torch.Generator())
    assert clip.frames is not None
    for step in range(3):
        frames, rewards, terminated, _, _ = rows.step(moves[:, step])
        assert np.array_equal(frames, clip.frames[:, step + 1].permute(0, 2, 3, 1).numpy())
        assert not rewards.any()
        assert not terminated.any()


def test_rewards_and_ends_are_those_that_it_imagines() -> None:
    rows = dream(Counter(), starts(), n=3, limit=3)
    first, _ = rows.reset(seed=0)
    _, rewards, terminated, truncated, _ = rows.step(np.array([PAY, END, WAIT]))
    assert rewards.tolist() == [2, 0, 0]
    assert terminated.tolist() == [False, True, False]
    rows.step(np.array([PAY, PAY, PAY]))
    frames, rewards, terminated, truncated, _ = rows.step(np.array([PAY, PAY, WAIT]))
    assert rewards.tolist() == [2, 0, 0]
    assert truncated.tolist() == [True, False, True]
    assert (frames[:, 0, 0, 0].astype(int) - first[:, 0, 0, 0]).tolist() == [3, 1, 3]
    assert rows.texts() == tuple("abcde"[light // 40] for light in first[:, 0, 0, 0])
    assert rows.fps == 5


def test_an_end_comes_as_often_as_it_is_likely() -> None:
    class Unsure(Counter):
        def imagine(self, state: Any, actions: Any, steps: int, rng: torch.Generator) -> tuple[Clip, Tree]:
            clip, state = super().imagine(state, actions, steps, rng)
            return (clip.with_(ends=torch.full_like(clip.ends, 0.3)) if steps else clip), state  # type: ignore[arg-type]

    rows = dream(Unsure(), starts(), n=400)
    rows.reset(seed=0)
    assert 0.2 < rows.step(np.full(400, PAY))[2].mean() < 0.4


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("grows", [False, True])
def test_a_dream_depends_on_its_seed_and_actions_alone(noisy: bool, grows: bool) -> None:
    one, many = dream(Counter(noisy, grows), starts()), dream(Counter(noisy, grows), starts(), n=4)
    lights, _ = many.reset(seed=[3, 9, 5, 7])
    many.step(np.full(4, WAIT))
    many.reset(seed=[1, 9, 2, 7], options={"reset_mask": np.array([True, False, True, False])})  # now out of step
    seen = [many.step(np.array([WAIT, WAIT, PAY, WAIT]))[0][1, 0, 0, 0] for _ in range(4)]
    env, alone = one, []
    begun, _ = env.reset(seed=9)
    assert np.array_equal(begun, lights[1])
    for _ in range(5):
        alone.append(env.step(WAIT)[0][0, 0, 0])
    assert alone[1:] == seen
    assert (np.ptp(np.diff(np.array(alone, int))) > 0) == noisy


def test_rows_are_asked_together_unless_the_model_draws() -> None:
    for noisy, calls in ((False, [4, 4]), (True, [4, 1, 1, 1, 1, 1, 1, 1, 1])):
        model = Counter(noisy)
        rows = dream(model, starts(), n=4)
        rows.reset(seed=0)
        rows.step(np.full(4, WAIT))
        rows.step(np.full(4, WAIT))
        assert model.calls == calls


@pytest.mark.parametrize("noisy", [False, True])
def test_branches_go_their_own_way(noisy: bool) -> None:
    env = dream(Counter(noisy), starts())
    env.reset(seed=0)
    env.step(WAIT)
    twin = env.branch()
    saved = env.state()
    ours = [env.step(WAIT)[0][0, 0, 0] for _ in range(3)]
    env.step(END)
    assert [twin.step(WAIT)[0][0, 0, 0] for _ in range(3)] == ours  # the same noise, too
    assert not twin.step(PAY)[2]
    env.restore(saved)
    assert [env.step(WAIT)[0][0, 0, 0] for _ in range(3)] == ours
    with pytest.raises(UnusableInput, match="1 dreams"):
        env.restore(dream(Counter(), starts(), n=2).state())


def test_a_dream_may_be_filmed_as_any_environment(tmp_path: Path) -> None:
    env = dream(Counter(), starts(), render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (*SIZE, 3)  # type: ignore[union-attr]
    with pytest.raises(UnusableInput, match="leave out render_mode"):
        dream(Counter(), starts(), n=2, render_mode="rgb_array")


def test_actors_scores_and_recordings_work_on_dreams(
    sprite_world: FrameForward, cache_steps: Steps, tmp_path: Path
) -> None:
    rows = dream(sprite_world, cache_steps, n=4, limit=5)
    with rng.isolated(0, "policy"):
        policy = ClipPolicy(replace(sprite_world.view, frames=1, before=0), sprite_world.space, patch=4, width=8).eval()
    assert score(rows, range(6), policy_actor(policy, rows))["lengths"] == [5] * 6
    with Store.create(tmp_path / "dreams", schema_of(rows)) as store:
        collect(rows, range(6), uniform(rows), store, {"env": "dream"})
        assert len(store.ids) == 6
        assert store.read(store.ids[0]).length == 6
    counter = dream(Counter(), starts(), n=2)
    ends = torch.eye(3)[[WAIT, END]]
    for (clip, _, total), again in zip(
        rollout(counter, range(3), open_loop(counter, ends)),
        rollout(dream(Counter(), starts(), n=3), range(3), open_loop(counter, ends)),
        strict=True,
    ):
        assert clip.ends is not None
        assert clip.ends.tolist() == [[0.0, 1.0]]
        assert total == 0
        assert torch.equal(clip.frames, again[0].frames)  # type: ignore[arg-type]


def test_a_world_without_pictures_shows_its_features() -> None:
    env = dream(Counter(features=True), starts(), n=2)
    shown, _ = env.reset(seed=0)
    assert env.observation_space.contains(shown)
    assert shown.shape == (2, 4)
    assert (env.step(np.array([PAY, PAY]))[0] - shown).tolist() == [[1.0] * 4] * 2
    pictures = DreamEnv(Counter(features=True), starts(), render_mode="rgb_array")
    pictures.reset(seed=0)
    with pytest.raises(NoFrames, match="no picture"):
        pictures.render()


def test_what_cannot_be_dreamt_is_refused(sprite_world: FrameForward) -> None:
    with pytest.raises(UnusableInput, match="no forward model"):
        dream(System(), starts())
    with pytest.raises(UnusableInput, match="at least one"):
        Dream(Counter(), starts(0))
    with pytest.raises(UnusableInput, match="no forward model"):
        dream(System())
    with pytest.raises(UnusableInput, match="rgb_array"):
        DreamEnv(Counter(), starts(), render_mode="human")
    with pytest.raises(UnusableInput, match="the device to be one of"):
        Dream(Counter(), starts(), device="cuda:77")
    foreign = torch.zeros(starts().rows, starts().steps, 9)
    with pytest.raises(Incompatible, match="actions have 9 columns"):
        Dream(Counter(), starts().with_(actions=foreign))
    assert isinstance(dream(System(forward=sprite_world), _frames(sprite_world)), DreamEnv)
    assert isinstance(Counter(), ForwardModel)


def _frames(world: FrameForward) -> Clip:
    return Clip(frames=torch.zeros(1, 1, 3, *world.view.size, dtype=torch.uint8))


def test_a_world_of_numbers_is_dreamt_in_numbers() -> None:
    world = Pendulum(1)
    clips = [clip for clip, _, _ in rollout(world, [0], uniform(world))]
    with rng.isolated("numbers"):
        latent = RSSM(View(1, size=world.size, rate=20.0, proprio=3), world.actions, deter=16, units=16, blocks=4)
    env = dream(latent.eval(), clips[0].cut(0, 3), limit=5)
    check_env(env, skip_render_check=True)
    assert env.observation_space.shape == (3,)
    seen = env.reset(seed=0)[0]
    assert seen.dtype == np.float32
    many = dream(latent, clips[0].cut(0, 3), n=2, limit=5)
    played = list(rollout(many, range(3), uniform(many)))  # type: ignore[arg-type]
    assert [clip.features.shape for clip, *_ in played] == [(1, clip.steps + 1, 3) for clip, *_ in played]  # type: ignore[union-attr]
    assert score(many, range(3), uniform(many))["lengths"] == [clip.steps for clip, *_ in played]  # type: ignore[arg-type]
    moved, reward, *_ = env.step(env.action_space.sample())
    assert not np.array_equal(seen, moved)
    assert np.isfinite(reward)
