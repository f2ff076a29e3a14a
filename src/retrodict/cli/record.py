"""retrodict record: episodes of a world under an expert, chance or a trained policy, as a dataset."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

from retrodict.cli.settings import options
from retrodict.cli.verb import DONE, Loading
from retrodict.errors import UnusableInput

if TYPE_CHECKING:
    from retrodict.data.store import Store
    from retrodict.envs.rollout import Actor
    from retrodict.envs.world import World

ROWS = 16  # copies of the world side by side; what is recorded does not depend on it
MOST_SEEDS = 800  # levels above are for validation and tests: see retrodict.figures.trial


@dataclass(frozen=True, kw_only=True)
class Record(Loading):
    """Records whole episodes of a world as a dataset; the same command goes on where an earlier one stopped."""

    env: Annotated[str, Positional, arg(metavar="ENV")]
    """World: sprites, catch, dodge, pendulum, road, scroll, arm, babyai, car_racing, maze, coinrun, procgen:GAME, a
    BabyAI level or a Gymnasium id."""
    out: Path
    """Folder of the dataset."""
    episodes: int = 0
    """Number of episodes; or give --frames."""
    frames: int = 0
    """Number of frames, reached with whole episodes; or give --episodes."""
    policy: str = "expert"
    """Who acts: expert, random, smooth (random, but slow), or the folder of a run with a policy."""
    random: float = 0.0
    """Share of the expert's actions that are replaced by random ones."""
    seed: int = 0
    """Which levels (seed x 1,000,000 and up) and which random actions, 0..799."""
    set: UseAppendAction[tuple[str, ...]] = ()
    """An option of the world, such as --set size=54; may be repeated."""

    def run(self, line: str) -> int:
        """Records, and tells how many episodes and frames there are."""
        self._check()
        from retrodict.data.store import Store
        from retrodict.envs.catalog import make
        from retrodict.run.collect import collect, schema_of

        self.admit()
        world = make(self.env, ROWS, **options(self.set))
        actor = actor_of(self.policy, world, self.random, self.seed)  # before anything is written
        provenance = {
            "command": "record", "env": self.env, "options": options(self.set), "policy": self.policy,
            "random": self.random, "seed": self.seed,
        }  # fmt: skip
        refusal = "was not recorded by this command; name another folder for another recording"
        with Store.open_or_create(self.out, schema_of(world), provenance, refusal) as store:
            levels = self._levels(store)
            say = None if self.json else partial(print, file=sys.stderr, flush=True)
            collect(world, levels, actor, store, provenance, self.frames, say)
            frames = sum(store.lengths.values())
            told = {"dataset": str(self.out), "episodes": len(store.ids), "frames": frames, "digest": store.digest}
        self.tell(told, [
            f"{self.out}: {told['episodes']} episodes, {frames} frames",
            f"next: retrodict train vpt --data {shlex.quote(str(self.out))} --labels 64 --out runs/vpt",
        ])  # fmt: skip
        return DONE

    def _check(self) -> None:
        from retrodict.run.collect import LEVELS

        if (self.episodes > 0) == (self.frames > 0):
            raise UnusableInput("give either --episodes or --frames, a positive number")
        if self.episodes > LEVELS:
            raise UnusableInput(f"one --seed has {LEVELS:,} levels, so that no two share one; record more with another")
        if not 0 <= self.seed < MOST_SEEDS:
            raise UnusableInput(f"--seed must lie in 0..{MOST_SEEDS - 1}; got {self.seed}")
        if self.random and self.policy != "expert":
            raise UnusableInput("--random mixes random actions into the expert's; it goes with --policy expert only")

    def _levels(self, store: Store) -> range:
        """Returns the levels that are still to be played, more than enough of them for --frames."""
        from retrodict.run.collect import LEVELS

        first = self.seed * LEVELS + len(store.ids)
        if self.episodes:
            return range(first, max(first, self.seed * LEVELS + self.episodes))
        missing = self.frames - sum(store.lengths.values())
        return range(first, first + max(0, missing))


def actor_of(policy: str, world: World, random: float = 0.0, seed: int = 0) -> Actor:
    """Returns who acts: "expert", "random", "smooth", or the policy of the run in this folder.

    Raises:
        UnusableInput: the folder holds no finished run, or a run without a policy.
    """
    from retrodict.envs.rollout import expert, policy_actor, smooth, uniform
    from retrodict.run.checkpoint import load_system

    if policy == "expert":
        return expert(world, random, seed)
    if policy == "random":
        return uniform(world, seed)
    if policy == "smooth":
        return smooth(world, seed)
    found = load_system(policy).decoded().policy
    if found is None:
        raise UnusableInput(f"{policy} has no policy to act with; train one that has, such as vpt, lapo or bc")
    return policy_actor(found, world, mode=False, seed=seed)
