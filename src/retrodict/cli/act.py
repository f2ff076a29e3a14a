"""retrodict act: runs a policy or a planner in a world on levels that no recording has, and scores it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from retrodict.cli.record import ROWS, actor_of
from retrodict.cli.settings import options
from retrodict.cli.verb import DONE, Loading, table
from retrodict.errors import UnknownName, UnusableInput

if TYPE_CHECKING:
    from retrodict.envs.rollout import Actor
    from retrodict.envs.world import World
    from retrodict.report.film import Picture
    from retrodict.roles import Policy

SCRIPTED = ("expert", "random", "smooth")
PLANNERS = ("random_shooting", "cem", "icem", "mppi", "gradient")
FILMED = 3  # episodes of a video
COLUMNS = (
    "policy", "actions", "success", "success_low", "success_high",
    "mean_return", "return_low", "return_high", "mean_steps",
)  # fmt: skip

Way = tuple[str, str, Callable[[], "Actor"]]  # who, how actions are chosen, and a fresh one of it


@dataclass(frozen=True, kw_only=True)
class Act(Loading):
    """Runs and scores a policy on levels that no recording has: once drawing its actions, once by its likeliest ones.

    Beside it: random actions, the world's expert where it has one, and with --planner one that thinks in the run's
    world, by the rewards which that imagines.
    """

    policy: Annotated[str, Positional, arg(metavar="POLICY")]
    """Folder of a run, or: expert, random, smooth."""
    env: str
    """World, as for `retrodict record`."""
    planner: str = ""
    """Also think in the run's world: random_shooting, cem, icem, mppi, gradient."""
    horizon: int = 8
    """Steps that a planner looks ahead."""
    samples: int = 64
    """Futures that a planner imagines at once."""
    episodes: int = 100
    """Number of episodes."""
    seed: int = 0
    """Which levels (900,000,000 + seed x 1,000,000 and up), 0..999."""
    video: Path | None = None
    """Write the first three episodes of the first row as an mp4 file."""
    device: str = "cpu"
    """Where a run thinks: cpu, cuda, or one of several, such as cuda:1."""
    set: UseAppendAction[tuple[str, ...]] = ()
    """An option of the world, such as --set size=54; may be repeated."""

    def run(self, line: str) -> int:
        """Scores the policy and what it is to be compared with."""
        if self.episodes < 1 or not 0 <= self.seed < 1000:
            raise UnusableInput(f"--episodes must be positive and --seed 0..999; got {self.episodes} and {self.seed}")
        if not self.planner and (self.horizon, self.samples) != (Act.horizon, Act.samples):
            raise UnusableInput("--horizon and --samples are those of a planner; name it with --planner")
        from retrodict.envs.catalog import make
        from retrodict.nn.device import device_of
        from retrodict.report import film
        from retrodict.run.collect import LEVELS, UNSEEN

        device_of(self.device)  # refuses what there is not, whoever acts
        if self.video is not None:
            film.refuse_unfit(self.video)

        first = UNSEEN + self.seed * LEVELS
        levels = range(first, first + self.episodes)
        self.admit()
        world = make(self.env, min(ROWS, self.episodes), **options(self.set))
        ways = self._ways(world)
        rows = [{"policy": who, "actions": how or None, **scored(world, levels, fresh())} for who, how, fresh in ways]
        told = {"env": self.env, "episodes": self.episodes, "first_level": first, "policies": rows}
        lines = [f"{self.env}: {self.episodes} levels that no recording has", *table(rows, COLUMNS)]
        if self.video is not None:
            told["video"] = str(self.video)
            lines.append(f"{min(FILMED, self.episodes)} episodes of the first row in {self.video}")
            filmed(self.video, world, levels[:FILMED], ways[0][2]())
        self.tell(told, lines)
        return DONE

    def _ways(self, world: World) -> list[Way]:
        """Who acts: what was asked for first, then what it is to be compared with."""
        names = [self.policy] if self.policy in SCRIPTED else []
        if names and self.planner:
            raise UnusableInput(f"--planner thinks in the world of a run; {self.policy} has none. Name a run's folder")
        ways = [] if names else self._of_run(world)
        names += [name for name in ("random", "expert") if name not in names and (name == "random" or world.has_expert)]
        return ways + [(name, "", lambda name=name: actor_of(name, world)) for name in names]

    def _of_run(self, world: World) -> list[Way]:
        """The planner first, then the run's policy where it has one, drawing and by mode."""
        from retrodict.envs.rollout import policy_actor
        from retrodict.nn.part import Part
        from retrodict.run.checkpoint import load_system

        system, ways, device = load_system(self.policy), list[Way](), self.device
        for part in system.parts().values():
            if isinstance(part, Part):
                part.to(device)
        system = system.decoded()
        if self.planner:
            if system.forward is None:
                raise UnusableInput(
                    f"{self.policy} has no world to think in; train a recipe that has one, such as iris"
                )
            planner = thinking(self.planner, system.forward, self.horizon, self.samples)
            ways.append((self.policy, self.planner, lambda: policy_actor(planner, world, device=device)))
        if (policy := system.policy) is not None:
            ways.append((self.policy, "sampled", lambda: policy_actor(policy, world, mode=False, device=device)))
            ways.append((self.policy, "mode", lambda: policy_actor(policy, world, device=device)))
        if not ways:
            raise UnusableInput(
                f"{self.policy} has no policy to act with; train one that has, such as vpt, lapo or bc, or, where its "
                "world foretells rewards, let a planner think in it: --planner cem"
            )
        return ways


def thinking(name: str, forward: Any, horizon: int, samples: int) -> Policy:
    """Returns a planner by name, which scores futures by their imagined rewards.

    Raises:
        UnknownName: there is no such planner. UnusableInput: it cannot plan so.
    """
    from retrodict import plan

    if name not in PLANNERS:
        raise UnknownName("planner", name, PLANNERS)
    if horizon < 1 or samples < 2:
        raise UnusableInput(f"--horizon must be 1 or more and --samples 2 or more; got {horizon} and {samples}")
    more = {"elites": max(1, samples // 8)} if name in ("cem", "icem", "mppi") else {}
    planner: Policy = getattr(plan, name)(forward, plan.Rewards(), horizon, samples, **more)
    return planner


def scored(world: World, levels: range, actor: Actor) -> dict[str, Any]:
    """Plays the levels: share of successes with Wilson's 95 % interval, mean return with Student's, mean length.

    The share is None where the world does not say what a success is, an interval of returns where there is one episode.
    """
    import numpy as np

    from retrodict.envs.rollout import score
    from retrodict.measure.intervals import t_interval, wilson

    played = score(world, levels, actor)
    rate = wilson(sum(map(bool, played["success"])), len(levels)) if world.tells_success else None
    returns = t_interval(np.array(played["returns"]))
    return {
        "success": rate and rate.value, "success_low": rate and rate.low, "success_high": rate and rate.high,
        "mean_return": returns.value, "return_low": returns.low, "return_high": returns.high,
        "mean_steps": sum(played["lengths"]) / len(levels),
    }  # fmt: skip


def filmed(path: Path, world: World, levels: range, actor: Actor) -> None:
    """Plays the levels once more and writes what was seen."""
    from retrodict.envs.rollout import rollout
    from retrodict.report import film
    from retrodict.roles import View
    from retrodict.serve.pictures import picture_of

    view = View(size=world.size, channels=3 * len(world.cameras), cameras=tuple(world.cameras))

    def pictures() -> Iterator[Picture]:
        for clip, _, _ in rollout(world, levels, actor):
            assert clip.frames is not None  # a rollout that keeps them
            for frame in clip.frames[0]:
                yield film.beside(picture_of(frame, view))

    film.write(path, pictures(), world.fps)
