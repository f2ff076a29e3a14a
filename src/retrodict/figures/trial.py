"""Trials: one recipe in one world with one label budget and one seed, measured; the unit of every published figure.

A trial records its own levels, draws its own labels and trains with its own seed. What it is measured on (test levels
and test frames) is the same for all recipes and seeds, and is never looked at before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from retrodict import rng
from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.data.cache import Cache
from retrodict.data.memory import MemoryStore
from retrodict.data.schema import Schema
from retrodict.data.store import SCHEMA_FILE, Store
from retrodict.errors import UnknownName, UnusableInput
from retrodict.figures import dream_figures, judge, recall_figures, road_figures, world_figures
from retrodict.figures.answers import OF_ANSWERS, PARTWISE, Answers, answers, bits, codes, partwise
from retrodict.label.gate import gated, refused
from retrodict.label.verdict import HELD_OUT
from retrodict.measure import intervals, labels
from retrodict.roles import InverseModel, Policy, System
from retrodict.run.collect import LEVELS, UNSEEN, collect, schema_of
from retrodict.run.log import Log
from retrodict.run.run import Run, Views
from retrodict.run.spending import worked

if TYPE_CHECKING:
    from retrodict.envs.world import World

TEST, BLIND = UNSEEN, 850_000_000  # first level of each held-out set


@dataclass(frozen=True)
class Setting:
    """A world as it is used in trials.

    `frames` are recorded with `random` of the expert's actions replaced, each for 1 to `held` steps; `changed` are the
    world options under which the same test states are drawn again (agreement of labels under changed appearance), and
    `unseen` those of the worlds in which everything is measured. With `per_minute`, the steps in a minute, labels are
    those of the first minutes that were recorded, as a person gives them; at 0 they are drawn over all steps.
    """

    world: str
    frames: int = 20_000
    random: float = 0.2
    copies: int = 32
    test_frames: int = 4_000
    episodes: int = 200
    options: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)
    foreign: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> {"world": name, options}
    unseen: Mapping[str, Any] = field(default_factory=dict)
    per_minute: int = 0
    held: int = 1


WHOLE_TILES = {"screens": "7x7", "stride": 8, "paint": True}

SETTINGS: dict[str, Setting] = {
    "sprites": Setting("sprites", random=0.3, copies=64, episodes=300, changed={"textures": "noise"}),
    "sprites_distractors": Setting("sprites", random=0.3, copies=64, episodes=300, options={"distractors": 3}),
    "sprites_textured": Setting("sprites", random=0.3, copies=64, episodes=300, options={"textures": "noise+checker"}),
    "babyai": Setting(
        "babyai",
        foreign={
            "another game": {"world": "sprites"},
            "bricks": {"world": "babyai", "textures": "bricks"},
            "speckles": {"world": "babyai", "textures": "speckles"},
        },
    ),
    "maze": Setting("maze", random=0.15, copies=16, episodes=100),
    # nothing but random play; 25 starts are all that there are
    "catch": Setting("catch", 6_000, random=1.0, episodes=200),
    # the same for those who go on to play themselves, and with other rewards; measured with those of the game. In half
    # as many frames there may be a column in which no random game caught the ball, and then no learner goes there
    "catch_online": Setting("catch", 2_000, random=1.0),
    "catch_small": Setting("catch", 2_000, random=1.0, options={"reward": 0.01}, unseen={"reward": 1.0}),
    "catch_large": Setting("catch", 2_000, random=1.0, options={"reward": 100.0}, unseen={"reward": 1.0}),
    "pendulum": Setting("pendulum", 1_005, random=1.0, test_frames=2_010, episodes=20),  # five episodes
    # the hard case: what is recorded is a player that never looks
    "coinrun": Setting("coinrun", random=0.15, copies=16, episodes=128),
    # 20 minutes at 20 frames a second; measured on a kind of texture that no recording has
    "arm": Setting("arm", 24_000, episodes=100, unseen={"textures": "stripes"}, per_minute=1200),
    "arm_latency": Setting("arm", 4_000, options={"latency": 2}, unseen={"textures": "stripes"}, per_minute=1200),
    "arm_front": Setting("arm", 4_000, options={"cameras": "front"}, unseen={"textures": "stripes"}, per_minute=1200),
    # half at random, so that the steering is no function of the picture, and for up to five steps on end: a world obeys
    # where its recording went, and of one that is put right at once it does not learn how full lock goes on
    "road": Setting("road", random=0.5, copies=64, episodes=64, options={"numbers": True}, held=5),
    # nothing but random play, its actions held for 1 to 10 steps (World Models)
    "dodge": Setting("dodge", 30_000, random=1.0, copies=100, episodes=100, held=10),
    # a player that never walks into the border
    "scroll": Setting("scroll", 40_000, random=0.0, copies=64, test_frames=2_000, episodes=64, options=WHOLE_TILES),
}


def setting(name: str) -> Setting:
    """Returns a setting by name."""
    if name not in SETTINGS:
        raise UnknownName("setting", name, SETTINGS)
    return SETTINGS[name]


def world_of(chosen: Setting, copies: int | None = None, **options: Any) -> World:
    """Makes the world of a setting."""
    from retrodict.envs.catalog import make

    return make(chosen.world, copies or chosen.copies, **{**chosen.options, **options})


def recorded(chosen: Setting, seed: int, folder: Path, say: Callable[[str], None] | None = None) -> Store:
    """Records (or completes, or opens) the dataset of a trial: a LeRobot v3.0 folder."""
    from retrodict.envs.rollout import expert, uniform

    world = world_of(chosen)
    skilled = world.has_expert
    provenance = {
        "world": chosen.world, "options": dict(chosen.options), "seed": seed, "random": chosen.random,
        "held": chosen.held, "policy": "expert" if skilled else "random",
    }  # fmt: skip
    store = Store.open_or_create(folder, schema_of(world), provenance)
    first = seed * LEVELS + len(store.ids)
    missing = chosen.frames - sum(store.lengths.values())
    if missing > 0:
        levels = range(first, first + missing)
        actor = expert(world, chosen.random, seed, chosen.held) if skilled else uniform(world, seed)
        collect(world, levels, actor, store, provenance, chosen.frames, say, group=200)
    return store


def held_out(chosen: Setting, folder: Path | None = None, **options: Any) -> Cache:
    """Returns the test frames: the same levels and actions for every recipe and seed; kept in `folder` if named."""
    from retrodict.envs.rollout import expert, rollout

    if folder is not None and (folder / "data" / SCHEMA_FILE).is_file():
        with Store.open(folder / "data") as store:
            if store.ids:  # one append holds them all
                return Cache.build(store, folder=folder / "cache")
    world = world_of(chosen, **{**chosen.unseen, **options})
    clips: list[Clip] = []
    actor = expert(world, chosen.random, 0, chosen.held)
    for clip, _, _ in rollout(world, range(TEST, TEST + chosen.test_frames), actor):
        clips.append(clip)
        if sum(c.length for c in clips) >= chosen.test_frames:
            break
    if folder is None:
        return Cache.build(MemoryStore(schema_of(world), clips))
    with Store.open_or_create(folder / "data", schema_of(world)) as store:
        store.append(clips, {"world": chosen.world, "held out": True})
        return Cache.build(store, folder=folder / "cache")


def views(cache: Cache, budget: int, seed: int, contiguous: bool = False) -> Views:
    """Hides every action but `budget` steps, the first ones or drawn uniformly (0: hides none)."""
    everything = Steps.all(cache).known()
    few = everything if budget == 0 else everything.first(budget) if contiguous else everything.uniform(budget, seed)
    return Views(Steps.all(cache, hidden=True), few)


@dataclass(frozen=True)
class Played:
    """What came of playing levels: the share of successes with Wilson's interval, and the mean return."""

    success: intervals.Estimate
    returns: intervals.Estimate

    @staticmethod
    def of(score: Mapping[str, Sequence[Any]]) -> Played:
        """Sums up what `rollout.score` gave."""
        returns = intervals.t_interval(np.array(score["returns"], float))
        return Played(intervals.wilson(sum(score["success"]), len(score["success"])), returns)


def played(
    policy: Policy, chosen: Setting, episodes: int | None = None, first: int = TEST, mode: bool = False
) -> Played:
    """How a policy does on levels never looked at, drawing from its distribution, or by its likeliest action."""
    from retrodict.envs.rollout import policy_actor, score

    world = world_of(chosen, **chosen.unseen)
    count = episodes or chosen.episodes
    return Played.of(score(world, range(first, first + count), policy_actor(policy, world, mode=mode, seed=0)))


def baselines(
    chosen: Setting, episodes: int | None = None, search: int = 32, swinging: bool = False
) -> dict[str, Played]:  # fmt: skip
    """How the expert, random keys, nothing at all, and the best policy that never looks (chosen on other levels) do.

    With `swinging` the best plan that goes to and fro is among them, which takes longer to find.
    """
    from retrodict.envs.blind import best_of, blind, idle, swings
    from retrodict.envs.rollout import expert, open_loop, score, uniform

    world, count = world_of(chosen, **chosen.unseen), episodes or chosen.episodes
    levels, train = range(TEST, TEST + count), range(BLIND, BLIND + search)
    nothing = idle(world)
    plans = {} if nothing is None else {"nothing": nothing}
    plans["best blind"] = blind(world, train)
    if swinging and (found := swings(world)):
        plans["best swing"] = best_of(world, found, train)
    actors = {"random": uniform(world), **{name: open_loop(world, plan) for name, plan in plans.items()}}
    actors["expert"] = expert(world)
    return {name: Played.of(score(world, levels, actor)) for name, actor in actors.items()}


def measured(
    system: System, chosen: Setting, test: Cache, wanted: Sequence[str], folder: Path | None = None
) -> dict[str, float]:
    """Measures a system on held-out frames and levels; `wanted` names the measures, `folder` is where judges are kept.

    label_accuracy: of the (decoded) inverse, indistinguishable actions merged. probe_accuracy: the same, by name of
    the latent literature. set_cover and set_size: how often its 90 % sets hold the truth, and how many values they
    hold. gain_at_80: how much accuracy rises when the least sure fifth is left out. foreign_refused and own_refused:
    share of steps, of the foreign video that is refused least and of the test video, that the system's score refuses.
    bits_recovered: mutual information of codes and actions, shuffle-corrected. success, return: of the (decoded)
    policy. planning_gain: return of a planner, less that of the likeliest actions of the policy that it plans with,
    each of them beside it. state_only: how often the policy's likeliest action is the recorded one, which the first
    frame alone tells.
    calibration_error: of the inverse. texture_agreement: of the labels (or codes) of the same states drawn with
    another texture. r2: of the inverse, mean over the numbers of an action, each of them beside it. press_f1: of its
    keys, their mean. interval_cover: share of numbers inside the 90 % intervals that the inverse states. shift: frames
    by which it found effects to come late. Those of its forward model: `world_figures`, `road_figures`,
    `recall_figures` and `dream_figures`.
    """
    spoken = system.decoded()
    values: dict[str, float] = {}
    for name in wanted:
        if name in OF_ANSWERS:
            values[name] = OF_ANSWERS[name](_answered(spoken, name, test))
        elif name in ("foreign_refused", "own_refused"):
            videos = [Steps.all(test)] if name == "own_refused" else _foreign(chosen, test.size)
            values[name] = min(refused(_need(system.score, name), video) for video in videos)
        elif name == "bits_recovered":
            values[name] = bits(_need(system.inverse, name), test).corrected
        elif name in ("success", "return"):
            if name not in values:  # played once for both
                done = played(_need(spoken.policy, name), chosen)
                both = {"success": done.success.value, "return": done.returns.value}
                values |= {one: value for one, value in both.items() if one in wanted}
        elif name == "planning_gain":
            pair = {
                "planned": played(_need(spoken.policy, name), chosen),
                "prior": played(_need(getattr(spoken.policy, "prior", None), name), chosen, mode=True),
            }
            returns = {one: done.returns.value for one, done in pair.items()}
            values |= {name: returns["planned"] - returns["prior"], **{f"{name}.{k}": v for k, v in returns.items()}}
        elif name == "state_only":
            values[name] = policy_accuracy(_need(spoken.policy, name), test)
        elif name == "texture_agreement":
            values[name] = texture_agreement(_need(system.inverse, name), chosen, test)
        elif name == "shift":
            values[name] = float(system.about["shift"])
        elif name in road_figures.MEASURES:
            values |= road_figures.measured(name, system, ground(chosen, test, folder))
        elif name in PARTWISE:
            values |= partwise(_need(spoken.inverse, name), test, system.about.get(HELD_OUT), name)
        elif name in world_figures.MEASURES:
            values |= world_figures.measured(name, system, ground(chosen, test, folder))
        elif name in recall_figures.MEASURES:
            values |= recall_figures.measured(name, _need(spoken.forward, name), partial(world_of, chosen), TEST)
        elif name in dream_figures.MEASURES:
            played_on, others = range(TEST, TEST + chosen.episodes), range(BLIND, TEST)
            values |= dream_figures.measured(system, partial(world_of, chosen), played_on, others, chosen.frames)
        else:
            raise UnknownName("measure", name, MEASURES)
    return values


MEASURES = (
    *OF_ANSWERS, "bits_recovered", "success", "state_only", "texture_agreement", "foreign_refused", "own_refused",
    *PARTWISE, "return", "planning_gain", "shift", *world_figures.MEASURES, *road_figures.MEASURES,
    *recall_figures.MEASURES, *dream_figures.MEASURES,
)  # fmt: skip


def ground(
    chosen: Setting, test: Cache, folder: Path | None = None, log: Log | None = None
) -> world_figures.Ground:  # fmt: skip
    """Where the worlds of a setting are measured; its judge is kept in `folder`, one for all recipes and seeds."""
    taught = replace(chosen, frames=judge.FRAMES, random=judge.RANDOM)
    say = None if log is None else log.say
    judged_by = partial(
        judge.trained, folder, lambda place: recorded(taught, judge.SEED, place, say), test, judge.FIT, log
    )
    world, levels = partial(world_of, chosen, **chosen.unseen), range(TEST, TEST + chosen.test_frames)
    return world_figures.Ground(test, world, levels, chosen.random, judged_by)


def _answered(spoken: System, name: str, test: Cache) -> Answers:
    limits = spoken.about.get(HELD_OUT, {}).get("limits", ())
    return answers(_need(spoken.inverse, name), test, limits)


def _foreign(chosen: Setting, size: tuple[int, int]) -> list[Steps]:
    """Video that a model of this setting must not label: other worlds and looks, and noise, at its frame size."""
    from retrodict.envs.catalog import make
    from retrodict.envs.rollout import rollout, uniform

    videos = []
    for kind in chosen.foreign.values():
        world = make(kind["world"], 8, **{name: value for name, value in kind.items() if name != "world"})
        clips = [clip for clip, _, _ in rollout(world, range(TEST, TEST + 32), uniform(world))]
        videos.append(Steps.all(Cache.build(MemoryStore(schema_of(world), clips), size)))
    noise = torch.randint(0, 256, (1, 500, 3, *size), generator=rng.torch_rng("foreign"), dtype=torch.uint8)
    schema = Schema(videos[0].cache.space, {"observation.image": (*size, 3)}, 10)
    return [*videos, Steps.all(Cache.build(MemoryStore(schema, [Clip(frames=noise)])))]


@torch.no_grad()
def policy_accuracy(policy: Policy, test: Cache) -> float:
    """How often the policy's likeliest action is the recorded one: what can be told from the first frame alone."""
    steps = Steps.all(test).known()
    right = []
    for positions, clip in steps.batches(512):
        said = policy.space.classes(policy.act(clip.cut(0, 1))[0].mode())
        right.append((said == policy.space.classes(steps.target_actions()[positions])).float())
    return float(torch.cat(right).mean())


def texture_agreement(inverse: InverseModel, chosen: Setting, test: Cache) -> float:
    """Share of test steps that get the same answer when the same states are drawn with another texture."""
    if not chosen.changed:
        raise UnusableInput(f"{chosen.world} has no second appearance to compare with")
    other = held_out(chosen, **chosen.changed)
    return labels.agreement(*np.split(codes(inverse, test, other), 2)).share


def _need(role: Any, name: str) -> Any:
    if role is None:
        raise UnusableInput(f"{name} cannot be measured: the system lacks the role it needs")
    return role


@dataclass
class Trial:
    """What one seed gave."""

    seed: int
    values: dict[str, float]
    seconds: float
    cpu_seconds: float  # of work, whatever else the machine did
    answers: Answers | None = None  # where a measure of answers was wanted


def trial(
    recipe: Any, cfg: Any, chosen: Setting, budget: int, seed: int, base: Path, folder: Path, wanted: Sequence[str],
    log: Log | None = None, test: Cache | None = None,
) -> Trial:  # fmt: skip
    """Records (in `base`), hides, trains (in `folder`) and measures one seed; what is finished is used again."""
    log = log or Log(quiet=True)
    with recorded(chosen, seed, base / "data", log.say) as store:
        cache = Cache.build(store, folder=base / "cache")
    world = partial(world_of, chosen, 1)  # where a recipe may play, if it does
    with Run(folder, views(cache, budget, seed, chosen.per_minute > 0), seed, log=log, world=world) as run:
        system = run.finish(gated(recipe.train(cfg, run), run), {"recipe": recipe.__name__.rpartition(".")[2]})
    seconds = sum(float(stage["seconds"]) for stage in run.stages.values())  # also of stages done earlier
    test = test or held_out(chosen)
    values = measured(system, chosen, test, wanted, base.parent / "judge")
    given = _answered(system.decoded(), wanted[0], test) if set(wanted) & set(OF_ANSWERS) else None
    return Trial(seed, values, round(seconds, 1), round(worked(run.stages.values()), 1), given)
