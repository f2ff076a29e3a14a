"""retrodict act: runs a policy in a world on levels that no recording has, and scores it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from retrodict.cli.record import ROWS, actor_of
from retrodict.cli.settings import options
from retrodict.cli.verb import DONE, Loading, table
from retrodict.errors import UnusableInput

if TYPE_CHECKING:
    from retrodict.envs.rollout import Actor
    from retrodict.envs.world import World


@dataclass(frozen=True, kw_only=True)
class Act(Loading):
    """Runs and scores a policy, which draws from what it believes, on levels that no recording has.

    Beside it: random actions, and the world's expert where it has one.
    """

    policy: Annotated[str, Positional, arg(metavar="POLICY")]
    """Folder of a run, or: expert, random."""
    env: str
    """World, as for `retrodict record`."""
    episodes: int = 100
    """Number of episodes."""
    seed: int = 0
    """Which levels (900,000,000 + seed x 1,000,000 and up), 0..999."""
    set: UseAppendAction[tuple[str, ...]] = ()
    """An option of the world, such as --set size=54; may be repeated."""

    def run(self, line: str) -> int:
        """Scores the policy and what it is to be compared with."""
        if self.episodes < 1 or not 0 <= self.seed < 1000:
            raise UnusableInput(f"--episodes must be positive and --seed 0..999; got {self.episodes} and {self.seed}")
        from retrodict.envs.catalog import make
        from retrodict.run.collect import LEVELS, UNSEEN

        first = UNSEEN + self.seed * LEVELS
        levels = range(first, first + self.episodes)
        self.admit()
        world = make(self.env, min(ROWS, self.episodes), **options(self.set))
        rows = [scored(self.policy, world, levels, actor_of(self.policy, world))]
        if self.policy != "random":
            rows.append(scored("random", world, levels, actor_of("random", world)))
        if self.policy != "expert" and world.has_expert:
            rows.append(scored("expert", world, levels, actor_of("expert", world)))
        told = {"env": self.env, "episodes": self.episodes, "first_level": first, "policies": rows}
        lines = table(rows, ("policy", "success", "success_low", "success_high", "mean_return", "mean_steps"))
        self.tell(told, [f"{self.env}: {self.episodes} levels that no recording has", *lines])
        return DONE


def scored(name: str, world: World, levels: range, actor: Actor) -> dict[str, Any]:
    """Plays the levels: share of successes with Wilson's 95 % interval, mean return and length.

    The share is None where the world does not say what a success is.
    """
    from retrodict.envs.rollout import score
    from retrodict.measure.intervals import wilson

    played = score(world, levels, actor)
    rate = wilson(sum(map(bool, played["success"])), len(levels)) if world.tells_success else None
    return {
        "policy": name, "success": rate and rate.value, "success_low": rate and rate.low,
        "success_high": rate and rate.high,
        "mean_return": sum(played["returns"]) / len(levels), "mean_steps": sum(played["lengths"]) / len(levels),
    }  # fmt: skip
