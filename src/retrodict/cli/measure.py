"""retrodict measure: how good a run's labels and its world are, on another dataset."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from retrodict.cli.verb import DONE, Loading, table
from retrodict.errors import Incompatible, NoFrames, UnusableInput

if TYPE_CHECKING:
    from retrodict.data.cache import Cache
    from retrodict.data.schema import Episodes
    from retrodict.figures.world_figures import Ground
    from retrodict.roles import System, View
    from retrodict.run.collect import Origin

PAGE = "measure.html"
FRAMES, RANDOM, COPIES = 4_000, 0.3, 16  # of the run's own world: so many, with a share of random actions, side by side
HINT = "not measured: with --judge, one is trained to read what is generated (a minute or two)"


@dataclass(frozen=True, kw_only=True)
class Measure(Loading):
    """Measures a run's labels against recorded actions, beside always saying the commonest action, and its world.

    The world's figures are drawn as well, in FOLDER/measure.html.
    """

    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """Folder of the run."""
    data: Path | None = None
    """Dataset that the run has not seen; its labels are measured where it has recorded actions (default: levels of the
    run's own world that no other recording has, played first, and kept in FOLDER/unseen)."""
    episodes: int = 0
    """Only the first so many episodes (0: all)."""
    judge: bool = False
    """Also train a judge, who reads true actions off what is generated (a minute or two; kept in FOLDER/judge)."""
    env: str = ""
    """World in which the judge learns, as for `retrodict record` (default: where the data, or the run's, is from)."""

    def run(self, line: str) -> int:
        """Measures what the run has: an inverse model, a forward model, or both."""
        from retrodict.data.foreign import open_dataset
        from retrodict.run.checkpoint import load_system
        from retrodict.run.collect import recorded_in

        if self.episodes < 0:
            raise UnusableInput(f"--episodes must be 1 or more, or 0 for all; got {self.episodes}")
        if self.env and not self.judge:
            raise UnusableInput("--env names the world in which a judge learns; give --judge as well")
        self.admit()
        system = load_system(self.folder)
        if self.judge and system.forward is None:
            raise UnusableInput(f"{self.folder} has no world to be judged; measure it without --judge")
        if self.judge and system.forward is not None and system.forward.view.proprio:
            raise UnusableInput(
                f"a judge reads frames, and the world of {self.folder} is shown numbers; leave out --judge"
            )
        if system.inverse is None and system.forward is None:
            raise UnusableInput(f"{self.folder} has no inverse model; score its policy with retrodict act")
        data = self.data or unseen(self.folder, recorded_in(system), quiet=self.json)
        source = open_dataset(data)
        ground = self._ground(system, source) if self.judge else None
        seen = dict(system.about.get("data", {})).get("source") == source.digest
        told: dict[str, Any] = {"run": str(self.folder), "data": str(data), "seen_in_training": seen}
        lines = self._labels(system, source, told)
        if system.forward is not None:
            lines += self._world(system, source, told, ground)
        if seen:
            lines.append("This run was trained on this dataset: the figures say nothing about other video.")
        self.tell(told, lines)
        return DONE

    def _labels(self, system: System, source: Episodes, told: dict[str, Any]) -> list[str]:
        """Infers every step and compares where an action was recorded; nothing where only codes could be told."""
        from retrodict.label.infer import recorded_answers
        from retrodict.label.scores import SEEN, scores

        inverse = system.decoded().inverse
        if inverse is None or (system.forward is not None and inverse.space.latent):
            return [f"{name:28}  {value}" for name, value in told.items()]
        if source.schema.space != inverse.space:
            raise Incompatible(f"the run speaks {inverse.space.columns}; the dataset {source.schema.space.columns}")
        belief, truth = recorded_answers(inverse, source, source.ids[: self.episodes or None])
        told |= scores(belief, truth)
        lines = [f"{name:28}  {_plain(value)}" for name, value in told.items() if not isinstance(value, list | dict)]
        lines += [f"recall of {name:18}  {_plain(value)}" for name, value in told.get("recall", {}).items()]
        if hidden := told.get("hardly_seen"):
            lines.append(f"The frames hardly show {', '.join(hidden)}: R² below {SEEN}. Another camera may.")
        return lines

    def _ground(self, system: System, source: Episodes) -> Callable[[Cache], Ground]:
        """Where a judge learns, given the video that it is tested on; what speaks against it is said before any work.

        Raises:
            UnusableInput: nothing says in which world the data was recorded.
            Incompatible: that world is another than the data's.
        """
        from retrodict.figures.trial import Setting, ground
        from retrodict.run.collect import Origin, origin_of, recorded_in
        from retrodict.run.log import Log

        assert system.forward is not None  # or there is nothing to judge
        named = [one for one in (origin_of(source), recorded_in(system)) if one.env and self.env in ("", one.env)]
        world = named[0] if named else Origin(self.env or None)
        if world.env is None:
            raise UnusableInput(
                f"neither {self.data} nor {self.folder} says in which world it was recorded, and a judge learns "
                "there; name the world (--env), or measure without --judge"
            )
        same(world, source, system.forward.view)
        place = self.folder / "judge" / key(world)
        chosen = Setting(world.env, options=world.options)
        return partial(ground, chosen, folder=place, log=Log(quiet=self.json))

    def _world(
        self, system: System, source: Episodes, told: dict[str, Any], ground: Callable[[Cache], Ground] | None
    ) -> list[str]:  # fmt: skip
        """Asks the world, and draws what it answers."""
        from retrodict.figures.world_figures import examined
        from retrodict.report import world_page

        try:
            found, shown = examined(system, source, source.ids[: self.episodes or None], ground)
        except NoFrames as reason:
            told["world"] = {"note": str(reason)}
            return [f"world                         not measured: {reason}"]
        told["world"] = found
        page = self.folder / PAGE
        world_page.write(page, str(self.folder), found, shown)
        return [*world_lines(found), f"drawn in                      {page}"]


def unseen(folder: Path, origin: Origin, quiet: bool) -> Path:
    """Plays levels of a run's own world that no recording has, as a dataset in its folder; once, as they stay the same.

    Raises:
        UnusableInput: the run does not say in which world it was recorded.
    """
    if origin.env is None:
        raise UnusableInput(
            f"{folder} does not say in which world its data was recorded; give a dataset that it has not seen: --data D"
        )
    from retrodict.cli.record import actor_of
    from retrodict.data.store import SCHEMA_FILE, Store
    from retrodict.envs.catalog import make
    from retrodict.run.collect import LEVELS, UNSEEN, collect, schema_of

    out = folder / "unseen" / key(origin)
    if (out / SCHEMA_FILE).is_file():
        with Store.open(out) as store:
            if sum(store.lengths.values()) >= FRAMES:
                return out
    world, seed = make(origin.env, COPIES, **origin.options), UNSEEN // LEVELS
    policy, share = ("expert", RANDOM) if world.has_expert else ("random", 0.0)
    provenance = {
        "command": "record", "env": origin.env, "options": dict(origin.options), "policy": policy, "random": share,
        "seed": seed,
    }  # fmt: skip
    try:
        with Store.open_or_create(out, schema_of(world), provenance) as store:
            first, missing = UNSEEN + len(store.ids), FRAMES - sum(store.lengths.values())
            actor = actor_of(policy, world, share, seed)
            say = None if quiet else partial(print, file=sys.stderr, flush=True)
            collect(world, range(first, first + missing), actor, store, provenance, FRAMES, say)
    finally:
        world.close()
    return out


def same(world: Origin, source: Episodes, view: View) -> None:
    """Makes sure that a world is that of a dataset, and shows frames as a model sees them.

    Raises:
        Incompatible: it takes other actions, has other cameras, or shows frames of another size.
    """
    from retrodict.envs.catalog import make

    assert world.env is not None  # it was named
    made = make(world.env, 1, **world.options)
    try:
        if made.actions != source.schema.space:
            raise Incompatible(
                f"{world.env} takes {made.actions.columns}; the dataset has {source.schema.space.columns}"
            )
        if (made.size, 3 * len(made.cameras)) != (view.size, view.channels):
            raise Incompatible(
                f"{world.env} shows {len(made.cameras)} camera of {made.size} pixels, the run's world sees {view.size} "
                f"in {view.channels} channels; a judge reads frames of one size, so train without --frame-size"
            )
    finally:
        made.close()


def key(world: Origin) -> str:
    """A name for what is kept of a world, its judge and its unseen levels, as long as they would be the same."""
    from retrodict.figures import judge

    told = [world.env, dict(world.options), judge.FRAMES, judge.RANDOM, asdict(judge.FIT)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def world_lines(found: Mapping[str, Any]) -> list[str]:
    """What was found of a world, as text: skill by step ahead, whether it obeys in words, and cycle consistency."""
    rows = [
        {"step ahead": a["x"], "skill": a["value"], "low": a["low"], "high": a["high"], "on what moves": b["value"],
         "PSNR": c["value"], "drift": d["value"]}
        for a, b, c, d in zip(*(found[key] for key in ("skill", "moving", "psnr", "drift")), strict=True)
    ]  # fmt: skip
    cycle = found["cycle"]
    told = cycle.get("note") or f"{_range(cycle)}, where {_plain(cycle['chance']['value'])} is chance"
    return [
        "",
        f"{found['windows']} windows of {found['episodes']} episodes; skill is 1 - error / error of the last frame",
        *table(rows, tuple(rows[0])),
        f"{'the world':28}  {found['word']}",
        f"{'error after other actions':28}  {_range(found['sensitivity'])} times that after the right ones",
        f"{'error after doing nothing':28}  {_range(found['still'])} times that after the right ones",
        f"{'delta PSNR, right - random':28}  {_range(found['delta_psnr'])} dB",
        f"{'cycle consistency':28}  {told}",
        f"{'judged controllability':28}  {_judged_line(found.get('judged'))}",
        *_outcome_lines(found),
    ]


def _judged_line(judged: Mapping[str, Any] | None) -> str:
    """What a judge reads as it was asked, beside its controls."""
    if judged is None:
        return HINT
    if note := judged.get("note"):
        return f"not measured: {note}"
    beside = {"requests shuffled": "shuffled", "at random": "random", "real next frames": "real",
              "those encoded": "encoded", "recordings": "judge"}  # fmt: skip
    known = {words: judged[name]["value"] for words, name in beside.items() if name in judged}
    told = [f"{words} {_plain(value)}" for words, value in known.items() if value is not None]
    return f"{'R² ' if judged['of'] == 'R²' else ''}{_range(judged)} read as asked; {', '.join(told)}"


def _outcome_lines(found: Mapping[str, Any]) -> list[str]:
    """How well rewards and ends are foretold, of a world that imagines them and a dataset that has them."""
    lines = []
    if rewards := found.get("rewards"):
        fit = "they are all equal" if rewards["r2"] is None else f"R² {_plain(rewards['r2'])}"
        lines.append(f"{'rewards foretold':28}  {fit}, bias {_plain(rewards['bias'])} (foretold - recorded)")
    if ends := found.get("ends"):
        fit = "every step or none ends" if ends["skill"] is None else f"skill {_plain(ends['skill'])}"
        rate = f"{_plain(ends['rate'])} of steps end an episode"
        lines.append(f"{'ends foretold':28}  {fit}, calibration error {_plain(ends['error'])}; {rate}")
    return lines


def _range(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return _plain(found["value"])
    return f"{_plain(found['value'])} [{_plain(found['low'])}, {_plain(found['high'])}]"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"  # a ratio has no upper end
    return str(value)
