"""Procgen: levels by seed, exact states, the maze expert, and the last frame."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from retrodict.clip import MISSING, RECORDED
from retrodict.envs import procgen
from retrodict.envs.procgen import ACTIONS, Procgen, install_procgen
from retrodict.envs.procgen_maze import CHEESE, FREE, WALL, Maze, agent, distances, grid, moved
from retrodict.envs.rollout import expert, rollout, score, uniform
from retrodict.errors import MissingPackage, UnknownName, UnusableInput

try:
    Procgen(1)
except MissingPackage:
    installed = False
else:
    installed = True
needs_procgen = pytest.mark.skipif(not installed, reason="procgen-mirror: retrodict doctor --install procgen")


def test_distances_go_around_walls() -> None:
    cells = np.array([[FREE, WALL, CHEESE], [FREE, WALL, FREE], [FREE, FREE, FREE], [WALL, WALL, WALL]])
    away = distances(cells, (0, 2))
    assert away[:3, :3].tolist() == [[6, 12, 0], [5, 12, 1], [4, 3, 2]]
    assert away[-1].min() == away[:, -1].min() == 12  # what index -1 meets is far


def test_bytes_that_are_no_maze_are_refused() -> None:
    with pytest.raises(UnusableInput, match="not a maze"):
        grid(bytes(400))
    with pytest.raises(UnusableInput, match="no single player"):
        agent(bytes(400))


def test_a_missing_package_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "procgen", None)
    monkeypatch.setitem(sys.modules, "procgen.env", None)
    with pytest.raises(MissingPackage, match="retrodict doctor --install procgen"):
        Procgen(1)
    assert "gym" not in sys.modules  # the stand-in is gone
    first, second = install_procgen()
    assert first[:5] == [sys.executable, "-m", "pip", "install", "--no-deps"]
    assert "--no-deps" not in second


@needs_procgen
def test_a_seed_is_a_level_in_any_row() -> None:
    many, one = Procgen(3), Procgen(1)
    frames, _ = many.reset(seed=[4, 1000, 77])
    again, _ = one.reset(seed=77)
    assert np.array_equal(frames[2], again[0])
    assert not np.array_equal(frames[0], frames[1])
    rng = np.random.default_rng(0)
    for action in rng.integers(0, 15, 30):
        frames, *_ = many.step(np.full(3, action))
        again, *_ = one.step(np.array([action]))
        assert np.array_equal(frames[2], again[0])


@needs_procgen
def test_levels_are_those_of_procgen_itself() -> None:
    make, _ = procgen._load()
    theirs = make(num=1, env_name="coinrun", distribution_mode="easy", start_level=12, num_levels=1, rand_seed=5)
    world = Procgen(2, game="coinrun")
    frames, _ = world.reset(seed=[3, 12])
    assert np.array_equal(frames[1], theirs.observe()[1]["rgb"][0])
    for action in (7, 8, 7, 8, 8, 1, 4, 7):
        theirs.act(np.array([action], np.int32))
        frames, *_ = world.step(np.array([4, action]))
        assert np.array_equal(frames[1], theirs.observe()[1]["rgb"][0])


@needs_procgen
def test_states_are_exact() -> None:
    world, other = Procgen(3, game="bigfish"), Procgen(3, game="bigfish")
    world.reset(seed=0)
    saved = world.state()
    after = [world.step(np.array([7, 1, 5]))[0] for _ in range(10)]
    assert not np.array_equal(after[0], after[-1])
    other.restore(saved)
    for frames in after:
        assert np.array_equal(other.step(np.array([7, 1, 5]))[0], frames)
    with pytest.raises(UnusableInput, match="3 rows"):
        other.restore({})


@needs_procgen
def test_the_maze_expert_takes_shortest_paths_and_bears_random_actions() -> None:
    world = Procgen(16)
    played = score(world, range(10000, 10032), expert(world))
    assert np.mean(played["success"]) >= 0.95
    assert min(played["returns"]) == 10.0
    world.reset(seed=10000)
    for row, length in enumerate(played["lengths"][:16]):
        state = world._exact(row)
        assert Maze(state).away[agent(state)] == length
    assert np.mean(score(world, range(10000, 10032), expert(world, 0.15))["success"]) >= 0.9
    assert np.mean(score(world, range(10000, 10032), uniform(world))["success"]) < 0.6


@needs_procgen
def test_a_state_edited_to_a_cell_looks_like_having_walked_there() -> None:
    world, spare = Procgen(6), Procgen(1)
    world.reset(seed=50)
    spare.reset(seed=0)
    first = [world._exact(row) for row in range(6)]
    rng = np.random.default_rng(1)
    for _ in range(12):
        frames, _, terminated, *_ = world.step(rng.integers(0, 15, 6))
        for row in np.flatnonzero(~terminated):
            playing = world._mazes[row]
            assert playing is not None
            spare._put(0, moved(first[row], agent(world._exact(int(row))), playing.mirrored))
            assert np.array_equal(spare._env.observe()[1]["rgb"][0], frames[row])


@needs_procgen
def test_the_last_frame_of_a_maze_shows_the_eaten_cheese() -> None:
    world = Procgen(2)
    (clip, success, _), *_ = rollout(world, [10000, 10001], expert(world))
    assert success
    assert clip.frames is not None
    assert clip.source is not None
    frames = clip.frames[0].numpy()
    assert (clip.source == RECORDED).all()
    changed = (frames[-1] != frames[-2]).any(0)
    assert 0 < changed.sum() < 100  # the player moved by one cell; the next level would change everything
    again, _ = Procgen(1).reset(seed=10000)
    assert not np.array_equal(frames[-1], again[0].transpose(2, 0, 1))


@needs_procgen
def test_where_the_last_frame_is_not_shown_its_action_is_missing() -> None:
    world = Procgen(4, game="coinrun")
    ended = [clip for clip, success, _ in rollout(world, range(8), expert(world)) if success]
    assert ended
    for clip in ended:
        assert clip.frames is not None
        assert clip.source is not None
        assert clip.actions is not None
        assert clip.source[0].tolist() == [RECORDED] * (clip.steps - 1) + [MISSING]
        assert clip.actions[0, -1].sum() == 0
        assert (clip.frames[0, -1] == clip.frames[0, -2]).all()


@needs_procgen
def test_actions_of_a_measured_group_look_the_same() -> None:
    world = Procgen(4)
    world.reset(seed=20)
    segment = world.actions.segments[0]
    for _ in range(3):
        state = world.state()
        seen: dict[int, set[bytes]] = {}
        for action in range(len(ACTIONS)):
            world.restore(state)
            seen.setdefault(segment.merged[action], set()).add(world.step(np.full(4, action))[0].tobytes())
        assert all(len(looks) == 1 for looks in seen.values())
        world.restore(state)
        world.step(world.expert())
    assert len(seen) == 5


@needs_procgen
def test_games_without_expert_and_unknown_games_say_so() -> None:
    with pytest.raises(UnusableInput, match="no scripted expert"):
        Procgen(1, game="bigfish").expert()
    with pytest.raises(UnknownName, match="'maze'"):
        Procgen(1, game="mace")
    with pytest.raises(UnknownName, match="mode"):
        Procgen(1, mode="extreme")


def test_importing_the_package_needs_no_simulator() -> None:
    code = "import sys, retrodict.envs; assert not {'gymnasium', 'minigrid', 'procgen'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
