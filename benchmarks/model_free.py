"""What model-free learning reaches in as many steps: PPO, DQN and SAC of Stable-Baselines3 (extra `bench`).

Usage: python benchmarks/model_free.py [--seeds 3] [--only pendulum] [--out results/comparisons/model_free.json]
       python benchmarks/model_free.py --dream RUN --data DATASET --only catch_online [--steps 60000]

Each learner has ten trials of settings: the package's own, and nine that are usual where steps are few. The recipes'
tiny settings took several, which nobody counted. A trial trains seed 0 and plays on levels kept for choosing, with
drawn actions and with the likeliest; the better way of the best trial is then trained with every seed, and played on
the levels that all figures are measured on. Numbers are read by a small MLP, frames are flattened for one. Steps are
those that the recipes have, random ones included. Trials that the result's file has under their titles are not made
again.

With `--dream` PPO practises in what the world of a finished run imagines from the recorded DATASET, and then plays the
real game: one seed of it, beside the same learner before its first step.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from torch import Tensor

import retrodict
from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.store import Store
from retrodict.dream import dream
from retrodict.envs.rollout import score
from retrodict.envs.world import World
from retrodict.figures import trial
from retrodict.figures.claims import commit_of_source
from retrodict.measure import intervals
from retrodict.run.collect import LEVELS
from retrodict.run.run import versions

OWN = LEVELS // 2  # the levels that a recipe plays itself
CATCHES = ("catch_online", "catch_small", "catch_large")
SUITE = {"pendulum": (4_000, 6_000, 11_000), **dict.fromkeys(CATCHES, (7_000,)), "dodge": (30_000,)}
CHOSEN_ON = 800_000_000  # first level on which trials are compared
QUICK, OFTEN = {"n_steps": 256, "learning_rate": 1e-3}, {"target_update_interval": 250, "train_freq": 1}
WIDE = {"policy_kwargs": {"net_arch": [256, 256]}}
TRIALS: dict[str, dict[str, dict[str, Any]]] = {
    "PPO": {
        "as given": {},
        "short rollouts": {"n_steps": 256},
        "quick": QUICK,
        "quick, near": {**QUICK, "gamma": 0.9},
        "quick, curious": {**QUICK, "ent_coef": 0.01},
        "quick, wide": {**QUICK, **WIDE},
        "quick, small batches": {**QUICK, "batch_size": 32},
        "quick, often": {**QUICK, "n_epochs": 20},
        "quick, near, wide": {**QUICK, **WIDE, "gamma": 0.9},
        "quick, near, often": {**QUICK, "gamma": 0.9, "n_epochs": 20},
    },
    "DQN": {
        "as given": {},
        "new targets": {"target_update_interval": 250},
        "often": OFTEN,
        "often, fast": {**OFTEN, "learning_rate": 1e-3},
        "often, near": {**OFTEN, "gamma": 0.9},
        "often, wide": {**OFTEN, **WIDE},
        "often, fast, wide": {**OFTEN, **WIDE, "learning_rate": 1e-3},
        "often, near, wide": {**OFTEN, **WIDE, "gamma": 0.9},
        "often, curious": {**OFTEN, "exploration_fraction": 0.3},
        "often, twice": {**OFTEN, "gradient_steps": 2},
    },
    "SAC": {
        "as given": {},
        "fast": {"learning_rate": 1e-3},
        "near": {"gamma": 0.95},
        "fast, near": {"learning_rate": 1e-3, "gamma": 0.95},
        "fast, small": {"learning_rate": 1e-3, "policy_kwargs": {"net_arch": [64, 64]}},
        "fast, fixed entropy": {"learning_rate": 1e-3, "ent_coef": 0.1},
        "faster": {"learning_rate": 3e-3},
        "fast, twice": {"learning_rate": 1e-3, "gradient_steps": 2},
        "fast, small batches": {"learning_rate": 1e-3, "batch_size": 64},
        "fast, slow targets": {"learning_rate": 1e-3, "tau": 0.002},
    },
}
WAYS = {"drawn": False, "likeliest": True}  # of playing: whether the likeliest action is taken
LEARNERS = {"pendulum": ("SAC", "PPO"), **dict.fromkeys((*CATCHES, "dodge"), ("DQN", "PPO"))}


def seen(frames: np.ndarray, world: World) -> np.ndarray:
    """What a learner is shown: numbers, else the frames' bytes as numbers in 0..1."""
    if frames.ndim == 2:  # a dream of numbers
        return frames.astype(np.float32)
    if world.proprio:
        return world.sensed()
    return (frames.reshape(len(frames), -1) / 255).astype(np.float32)


class Single(gymnasium.Env[Any, Any]):
    """One copy of a world that begins level after level of its own."""

    def __init__(self, world: World, first: int) -> None:
        self.world, self.level = world, first
        shape = seen(world.reset(seed=[first])[0], world).shape[1:]
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)
        self.action_space = world.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins the next level."""
        super().reset(seed=seed)
        frames, _ = self.world.reset(seed=[self.level])
        self.level += 1
        return seen(frames, self.world)[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes a native action."""
        frames, rewards, ended, cut, _ = self.world.step(np.asarray(action)[None])
        return seen(frames, self.world)[0], float(rewards[0]), bool(ended[0]), bool(cut[0]), {}


def acting(model: Any, world: World, mode: bool) -> Callable[[Clip], Tensor]:
    """The learner as an actor of ours; with `mode`, it takes the likeliest action."""

    def act(clip: Clip) -> Tensor:
        assert clip.frames is not None
        frames = clip.frames[:, -1].permute(0, 2, 3, 1).numpy()
        native, _ = model.predict(seen(frames, world), deterministic=mode)
        return torch.from_numpy(world.vectors(native))

    return act


def play(model: Any, chosen: trial.Setting, first: int = trial.TEST, mode: bool = False) -> float:
    """Mean return on held-out levels."""
    world = trial.world_of(chosen, **chosen.unseen)
    levels = range(first, first + chosen.episodes)
    return round(trial.Played.of(score(world, levels, acting(model, world, mode))).returns.value, 4)


def learnt(name: str, where: str, steps: int, seed: int, options: dict[str, Any]) -> tuple[Any, float]:
    """Trains one learner; returns it, and the seconds that it took."""
    env = Single(trial.world_of(trial.setting(where), 1), seed * LEVELS + OWN)
    more = {"learning_starts": min(1000, steps // 6)} if name != "PPO" else {}
    model = getattr(stable_baselines3, name)("MlpPolicy", env, seed=seed, device="cpu", **more, **options)
    began = time.process_time()
    model.learn(steps)
    return model, round(time.process_time() - began, 1)


def tried(name: str, where: str, steps: int, known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What every trial of a learner comes to on the levels kept for choosing, played in both ways, and costs; known
    ones are not made again."""
    found = {title: known[title] for title in TRIALS[name] if title in known}
    for title, options in TRIALS[name].items():
        if title in found:
            continue
        model, seconds = learnt(name, where, steps, 0, options)
        returns = {way: play(model, trial.setting(where), CHOSEN_ON, mode) for way, mode in WAYS.items()}
        found[title] = {**returns, "cpu_seconds": seconds, "commit": commit_of_source()}
        print(f"{where} {name} {steps}, {title}: {found[title]}", flush=True)
    return found


def best(name: str, where: str, steps: int, count: int, known: dict[str, Any]) -> dict[str, Any]:
    """The best trial of a learner, with every seed; what is known of it is not measured again."""
    trials = tried(name, where, steps, _dated(known.get("trials", {}), known))
    title, way = max(((one, way) for one in trials for way in WAYS), key=lambda pair: trials[pair[0]][pair[1]])
    same = (known.get("setting"), known.get("played")) == (title, way)
    seeds = [{"commit": known["commit"], **one} for one in known["seeds"][:count]] if same else []
    for seed in range(len(seeds), count):
        model, seconds = learnt(name, where, steps, seed, TRIALS[name][title])
        earned = play(model, trial.setting(where), mode=WAYS[way])
        seeds.append({"seed": seed, "return": earned, "cpu_seconds": seconds, "commit": commit_of_source()})
    mean = intervals.t_interval(np.array([one["return"] for one in seeds]))
    print(f"{where} {name} {steps}, {title}, {way}: {mean}", flush=True)
    told = {"steps": steps, "setting": title, "options": TRIALS[name][title], "played": way, "trials": trials}
    return told | {"return": mean.value, "low": mean.low, "high": mean.high, "seeds": seeds}


def _dated(trials: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Trials with the commit that each was made at: that of the whole where they do not say."""
    return {title: {"commit": known["commit"], **one} for title, one in trials.items()}


def dreamt(run: Path, data: Path, where: str, steps: int) -> dict[str, Any]:
    """PPO in a dream: what it earns in the real game before and after."""
    chosen = trial.setting(where)
    starts = Steps.all(Cache.build(Store.open(data)))
    env = Single(dream(retrodict.load(run), starts, 1, trial.world_of(chosen, 1).limit), 0)
    model = stable_baselines3.PPO("MlpPolicy", env, seed=0, device="cpu")
    before = play(model, chosen)
    began = time.process_time()
    model.learn(steps)
    spent = time.process_time() - began
    one = {"seed": 0, "before": before, "return": play(model, chosen), "cpu_seconds": round(spent, 1)}
    told = {"steps": steps, "setting": "as given", "played": "drawn"}
    return told | {"return": one["return"], "low": None, "high": None, "seeds": [one]}


def kept(out: Path) -> dict[str, dict[str, Any]]:
    """What a file has of each world's learners."""
    found: dict[str, Any] = json.loads(out.read_text())["settings"] if out.exists() else {}
    return {world: dict(found.get(world, {})) for world in SUITE}


def keep(out: Path, where: str, name: str, one: dict[str, Any]) -> None:
    """Puts one learner's result, and the commit that it was measured at, among those that the file has."""
    found = kept(out)
    package = {"stable_baselines3": stable_baselines3.__version__}
    found[where][name] = one | {"commit": commit_of_source(), "versions": versions() | package}
    told = {"settings": found, "command": "python benchmarks/model_free.py"}
    out.write_text(json.dumps(told, indent=1) + "\n")


def main() -> None:
    """Trains and plays all, prints, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=sorted(SUITE), default=None)
    parser.add_argument("--out", type=Path, default=Path("results/comparisons/model_free.json"))
    parser.add_argument("--dream", type=Path, default=None, metavar="RUN")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--steps", type=int, default=60_000)
    chosen = parser.parse_args()
    if chosen.dream and not (chosen.data and chosen.only):
        parser.error("--dream RUN wants --data DATASET, where dreams begin, and --only WORLD, in which it is tested")
    torch.set_num_threads(1)
    if chosen.dream:
        one = dreamt(chosen.dream, chosen.data, chosen.only, chosen.steps)
        keep(chosen.out, chosen.only, f"PPO in the dream {chosen.steps}", one)
        print(one["seeds"])
    for where in () if chosen.dream else [chosen.only] if chosen.only else SUITE:
        for name in LEARNERS[where]:
            for steps in SUITE[where]:
                known = kept(chosen.out)[where].get(f"{name} {steps}", {})
                keep(chosen.out, where, f"{name} {steps}", best(name, where, steps, chosen.seeds, known))


if __name__ == "__main__":
    main()
