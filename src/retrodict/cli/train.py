"""retrodict train: one recipe on one dataset, in one run folder that survives any interruption."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from retrodict.cli.dataset import counts
from retrodict.cli.settings import seconds, size, with_settings
from retrodict.cli.verb import DONE, Telling, load, table
from retrodict.errors import Damaged, UnusableInput

if TYPE_CHECKING:
    from retrodict.data.schema import Episodes
    from retrodict.envs.world import World
    from retrodict.label.auto import Training
    from retrodict.roles import System
    from retrodict.run.collect import Origin
    from retrodict.run.run import Run, Views


@dataclass(frozen=True, kw_only=True)
class Train(Telling):
    """Trains a recipe on a dataset; the same command goes on where an earlier one stopped."""

    recipe: Annotated[str, Positional, arg(metavar="RECIPE")]
    """Name of a recipe (see `retrodict recipes`), the path of a recipe file, or auto: the best of several."""
    data: Path
    """The dataset: ours, or any LeRobot folder."""
    out: Path
    """Folder of the run."""
    size: str = "tiny"
    """Preset of the recipe: micro, tiny, paper, or another of its own."""
    labels: int = 0
    """How many of the recorded actions it may see, drawn evenly over all steps (0: all of them)."""
    minutes: float = 0.0
    """Or: it may see those of the first so many minutes."""
    seed: int = 0
    """Seed of the weights, the batches and the draw of labels."""
    set: UseAppendAction[tuple[str, ...]] = ()
    """A setting of the recipe, such as --set fit.steps=200; may be repeated."""
    env: str = ""
    """A world to play in while it learns, as for `retrodict record` (default: it learns from the data alone)."""
    copies: int = 1
    """How many copies of --env are played side by side, all with the same weights."""
    device: str = "cpu"
    """Where it learns: cpu, cuda, or one of several, such as cuda:1."""
    compile: Literal["none", "default", "graphs", "whole"] = "none"
    """While it learns, compile nets: not, by torch's compiler, or as CUDA graphs besides; or launch the whole of an
    update's loss and gradients as one CUDA graph, compiling nothing."""
    frame_size: str = ""
    """Let the model see frames of WIDTHxHEIGHT pixels (default: as stored, larger than 128 about 64 high)."""
    budget: str = ""
    """Longest training time, such as 60m (auto: 30m); each stage may take a third of what is left."""
    restart: UseAppendAction[tuple[str, ...]] = ()
    """A stage to do anew; may be repeated."""
    cache_gb: float = 20.0
    """Most disk space for the cache of frames, in GB."""
    track: Literal["nothing", "tensorboard"] = "nothing"
    """Where the metrics go besides the JSON lines of each stage: OUT/stages/STAGE/tensorboard."""

    def run(self, line: str) -> int:
        """Trains, writes the system, and tells time and memory by stage."""
        from retrodict.data.foreign import open_dataset
        from retrodict.label import auto
        from retrodict.label.gate import gated
        from retrodict.nn.device import device_of
        from retrodict.run.collect import origin_of
        from retrodict.run.compiled import refuse_unfit
        from retrodict.run.log import Log
        from retrodict.run.replay import refuse_unlike
        from retrodict.run.run import Run

        device = device_of(self.device)
        refuse_unfit(self.compile, device)
        if self.copies < 1 or (self.copies > 1 and not self.env):
            raise UnusableInput(f"--copies counts copies of --env, 1 or more; got {self.copies} of {self.env!r}")
        if self.labels and self.minutes:
            raise UnusableInput("give either --labels or --minutes: the first are drawn, the second are a stretch")
        train, needed, plays, name = training(self.recipe, self.size, self.set, self.budget)
        if self.env and not plays:
            raise UnusableInput(f"{name} learns from the data alone, and plays nowhere; leave out --env")
        refuse_other_recipe(self.out, name)
        log = Log(quiet=self.json, tensorboard=self.track == "tensorboard")
        source = open_dataset(self.data)
        labels = stretch(self.minutes, source) if self.minutes else self.labels
        cached = (size(self.frame_size), self.out / "cache", self.cache_gb)
        data = views(source, labels, self.seed, *cached, contiguous=self.minutes > 0, needed=needed)
        origin = origin_of(source)
        world = None if not self.env else partial(played_in, self.env, origin, self.copies)
        if world is not None:
            with closing(world()) as there:
                refuse_unlike(data.labelled.cache, there)
        with Run(
            self.out, data, self.seed, device, log, self.restart, resume=line, world=world, compile=self.compile
        ) as run:
            seen: dict[str, Any] = {
                "source": source.digest,
                "labels": len(data.labelled),
                "steps": len(data.unlabelled),
            }
            if origin.env is not None:
                seen["world"] = {"env": origin.env, "options": dict(origin.options)}
            system = run.finish(gated(train(run), run), {"data": seen})
            stages = [{"stage": stage, **spent} for stage, spent in run.stages.items()]
        parts, name = sorted(system.parts()), system.about["recipe"]
        result = {"run": str(self.out), "recipe": name, "parts": parts, "stages": stages}
        compared = [] if "auto" not in system.about else auto.table(system.about["auto"])
        self.tell(result | ({"auto": system.about["auto"]} if compared else {}), [
            *table(stages, ("stage", "seconds", "memory_mb")), *compared,
            f"{self.out}: {name}, with {', '.join(parts)}",
            *next_lines(self.out, parts, None if len(data.labelled) else self.data),
        ])  # fmt: skip
        return DONE


def refuse_other_recipe(run: Path, recipe: str) -> None:
    """Raises UnusableInput where a run of another recipe is finished in this folder."""
    from retrodict.run.checkpoint import MANIFEST, load_manifest

    if not (run / "system" / MANIFEST).exists():
        return
    try:
        about = load_manifest(run / "system").get("about", {})
    except Damaged:  # it is written anew, from its stages
        return
    done = "auto" if "auto" in about else about.get("recipe", recipe)
    if done != recipe:
        raise UnusableInput(f"{run} holds a finished run of {done}; name another folder for {recipe} with --out")


def played_in(env: str, origin: Origin, copies: int = 1) -> World:
    """Makes the world that a recipe plays in while it learns, with the options under which the data was recorded."""
    from retrodict.envs.catalog import make

    return make(env, copies, **(origin.options if origin.env == env else {}))


def next_lines(run: Path, parts: Sequence[str], unlabelled: Path | None = None) -> list[str]:
    """What can be done next with a run that has these parts, or that saw the dataset `unlabelled`."""
    place = shlex.quote(str(run))
    if unlabelled is not None:
        return [f"next: retrodict data check {shlex.quote(str(unlabelled))} --with {place}"]
    lines = {"inverse": f"retrodict measure {place} --data D", "policy": f"retrodict act {place} --env E"}
    return [f"next: {line}" for part, line in lines.items() if part in parts]


def training(recipe: str, size: str, pairs: Sequence[str], budget: str) -> tuple[Training, bool, bool, str]:
    """Returns what trains a recipe, or all that `auto` compares, whether it needs labels, or plays, and its name.

    The system's `about` says with which settings it was trained. A recipe's file is run once.

    Raises:
        UnusableInput: settings were given to auto, which has none of its own.
    """
    from retrodict.check import preset
    from retrodict.label import auto
    from retrodict.run.run import config_digest

    limit = seconds(budget)
    if recipe == "auto":
        if pairs:
            raise UnusableInput(f"--set {pairs[0]} is a setting of one recipe, and auto trains several; name one")
        modules = dict(load(name) for name in auto.CANDIDATES)
        candidates = {name: partial(module.train, preset(module, size)) for name, module in modules.items()}
        work, about, needed = partial(auto.choose, candidates=candidates, budget=limit), {}, True
        plays, name = False, recipe
    else:
        name, module = load(recipe)
        config = with_settings(preset(module, size), pairs)
        work, about = partial(module.train, config), {"recipe": name, "config": config_digest(config)}
        needed, plays = not getattr(module, "UNLABELLED", False), getattr(module, "PLAYS", False)

    def train(run: Run) -> System:
        if limit:
            run.seconds = auto.Shares(limit)
        system: System = work(run)
        return replace(system, about={**system.about, **about, "size": size, "set": list(pairs)})

    return train, needed, plays, name


def stretch(minutes: float, source: Episodes) -> int:
    """Returns how many steps so many minutes have."""
    count = round(minutes * 60 * source.schema.fps) if math.isfinite(minutes) else 0
    if count < 1:
        raise UnusableInput(f"--minutes must be a time of at least one step; got {minutes}")
    return count


def views(
    source: Episodes, labels: int, seed: int, wanted: tuple[int, int] | None, folder: Path, cache_gb: float,
    contiguous: bool = False, needed: bool = True,
) -> Views:  # fmt: skip
    """Makes the data of a run: all video without its actions, and `labels` of the known steps (0: all).

    They are drawn evenly, or are the first ones if `contiguous`. `wanted` is (width, height) of the frames to train on.

    Raises:
        UnusableInput: no step has an action where one is `needed`, or fewer than asked for have one.
    """
    from retrodict.data.batch import Steps, enough
    from retrodict.data.cache import Cache
    from retrodict.label.job import seen_size
    from retrodict.run.run import Views

    there = counts(source)["steps"]  # before the cache, which takes long, is made
    known_steps = there["recorded"] + there["predicted"]
    if needed and not known_steps:
        raise UnusableInput("no step of this dataset has an action; label some, or import it with --labels")
    if labels:
        enough(labels, known_steps)
    seen = (wanted[1], wanted[0]) if wanted else seen_size(source.schema.size)
    cache = Cache.build(source, seen, folder, cache_gb)
    known = Steps.all(cache).known()
    if labels:
        known = known.first(labels) if contiguous else known.uniform(labels, seed)
    return Views(Steps.all(cache, hidden=True), known)
