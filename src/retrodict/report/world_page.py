"""What was measured of a world as one HTML file, from the JSON of `world_figures.examined`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrodict.report import charts, numbers, page, pictures, sections
from retrodict.report.charts import Curve
from retrodict.report.markup import Markup, element
from retrodict.report.result import number, plural

if TYPE_CHECKING:
    from retrodict.figures.world_figures import Shown

Row = Mapping[str, Any]
LEADS = {
    "obeys": "It obeys: after other actions its next frame is at least twice as wrong.",
    "obeys in part": "It obeys in part: after other actions its next frame is worse, though not twice as wrong.",
    "ignores its actions": "It ignores its actions: other actions are not shown to make its next frame worse.",
    "unknown": "One episode does not tell whether it obeys.",
}  # fmt: skip

BESIDE = {
    "shuffled": ("requests shuffled", "baseline"), "random": ("requests at random", "baseline"),
    "real": ("real next frames", "bound"), "encoded": ("those frames, encoded", "bound"),
    "judge": ("the judge on recordings", "bound"),
}  # fmt: skip
WORDS = {
    "share": "In every state each request is made. Counted is the share read as asked, by action, where it shows.",
    "R²": "Each frame is followed by the next action of another. R² compares what was asked for with what is read.",
}  # fmt: skip


def write(path: Path | str, name: str, told: Row, shown: Shown | None = None) -> None:
    """Writes the page; the file is either the whole new one or what was there before."""
    page.save(path, render(name, told, shown))


def render(name: str, told: Row, shown: Shown | None = None) -> str:
    """Returns the page of a run's world as HTML; what was not measured is left out."""
    facts = f"{plural(told['windows'], 'window')} of {plural(told['episodes'], 'episode')}"
    title = f"World of {Path(name).name or name}"
    parts = [_pictures(shown)] if shown else []
    parts += [_cycle(told["cycle"])] if told["cycle"]["value"] is not None else []
    parts += [_judged(told["judged"])] if told.get("judged", {}).get("value") is not None else []
    parts += [_foresight(told), _drift(told["drift"])]
    parts += [_outcomes(told)] if "rewards" in told or "ends" in told else []
    head = page.header(title, LEADS[told["word"]], facts, _headline(told))
    return page.document(title, head, element("main", *parts))


def _headline(told: Row) -> Markup:
    first, cycle, judged = told["skill"][0], told["cycle"], told.get("judged", {})
    rows = [
        {"name": "times the error, after other actions", **_times(told["sensitivity"]), "baseline": "1: ignored"},
        {"name": "delta PSNR, dB", **told["delta_psnr"], "baseline": "0: actions change nothing"},
        {"name": "skill one step ahead", **first, "baseline": "0: as good as the last frame"},
    ]
    if cycle["value"] is not None:
        rows.append({"name": "cycle consistency", **cycle, "baseline": f"{number(cycle['chance']['value'])}: chance"})
    if judged.get("value") is not None:
        chance = f"{number(judged['shuffled']['value'])}: requests shuffled"
        rows.append({"name": f"judged controllability, {judged['of']}", **judged, "baseline": chance})
    return sections.headline(rows)


def _times(found: Row) -> Row:
    """A ratio, which has no upper end: its large values as whole numbers."""
    return {key: round(value) if value is not None and value >= 100 else value for key, value in found.items()}


def _pictures(shown: Shown) -> Markup:
    names, frames = shown
    rows = [
        [str(i), *(_image(one.permute(1, 2, 0)[..., :3].numpy(), name) for one, name in zip(row, names, strict=True))]
        for i, row in enumerate(frames, 1)
    ]
    words = ["Each row is one seen frame, and the next frame that the world makes of it for each request."]
    return sections.section("One frame, every request", words, numbers.table("Generated frames", ["", *names], rows))


def _image(frame: Any, name: str) -> Markup:
    return element("img", src=pictures.enlarged(frame, 72), alt=f"next frame: {name}", width=72)


def _cycle(cycle: Row) -> Markup:
    words = [
        "Each frame is followed by the next action of another; the run's own inverse model reads what came of it.",
        "Both were trained together, so a high share says that they understand each other, not that actions have a "
        "meaning in the real world.",
    ]  # fmt: skip
    marks = [("all requests", cycle, "route"), ("requests not made", {"value": cycle["chance"]["value"]}, "baseline")]
    return _answered("Is it read as it was told?", words, "Cycle consistency", "share read back", cycle["by"], marks)


def _judged(judged: Row) -> Markup:
    words = [
        "An inverse model that learnt in the real world, on other levels with all labels, reads what was generated.",
        WORDS[judged["of"]],
        "Requests that the world was not given must come out at chance; real next frames are the ceiling.",
    ]  # fmt: skip
    marks = [("all requests", judged, "route")]
    marks += [
        (name, judged[part], kind)
        for part, (name, kind) in BESIDE.items()
        if judged.get(part, {}).get("value") is not None
    ]
    what = f"{judged['of']} read as asked"
    return _answered("Does it do what it is asked?", words, "Judged controllability", what, judged["by"], marks)


def _answered(
    title: str, words: list[str], name: str, what: str, by: Mapping[str, float | None],
    marks: list[tuple[str, Row, str]],
) -> Markup:  # fmt: skip
    """How each request was answered, and these estimates, as dots and as a table."""
    told: list[tuple[str, Row, str]] = [(f"asked for {value}", {"value": one}, "route") for value, one in by.items()]
    told += marks
    rows = [{"name": mark, **_within(one), "kind": kind} for mark, one, kind in told]
    desc = "; ".join(f"{mark}: {number(one['value'])}" for mark, one, _ in told)
    table = [[mark, number(one["value"])] for mark, one, _ in told]
    return sections.section(
        title, words,
        sections.drawn(lambda width: charts.dots(name, desc, rows, width)),
        numbers.folded(name, ["", what], table, (1,)),
    )  # fmt: skip


def _within(found: Row) -> Row:
    """An estimate as `charts.dots` shows it, whose scale goes from 0 to 1: R² may lie below, as the table says."""
    ends = {"success": found["value"], "low": found.get("low"), "high": found.get("high")}
    return {name: None if end is None else min(1.0, max(0.0, end)) for name, end in ends.items()}


def _foresight(told: Row) -> Markup:
    words = [
        "1 - error / error of showing the last seen frame for ever, by step ahead, under the right actions.",
        "Pixels that move are those that differ from the last seen frame in the truth.",
    ]
    series = {"all pixels": told["skill"], "that move": told["moving"]}
    return _steps("How far does it foresee?", words, series, "skill")


def _drift(points: list[Row]) -> Markup:
    words = ["PSNR lost since the first step of a rollout, in dB, as frames are made from frames that it made."]
    return _steps("How fast does it drift?", words, {"drift": points}, "dB lost")


def _outcomes(told: Row) -> Markup:
    words = [
        "What it says of the rewards and ends of a rollout under the right actions, at all its steps together, against "
        "those recorded.",
        "R² and skill are 0 for saying the mean reward or the rate of ends always, and negative for what is worse.",
    ]  # fmt: skip
    rows = list[list[str]]()
    if rewards := told.get("rewards"):
        rows += [["R² of rewards", number(rewards["r2"])], ["bias: foretold - recorded", number(rewards["bias"], 3)]]
    if ends := told.get("ends"):
        rows += [["skill at ends", number(ends["skill"])], ["calibration error of ends", number(ends["error"], 3)],
                 ["share of steps that end", number(ends["rate"], 3)]]  # fmt: skip
    shown = numbers.table("Rewards and ends", ["", "value"], rows, (1,))
    return sections.section("Does it foretell rewards and ends?", words, shown)


def _steps(name: str, words: list[str], series: Mapping[str, list[Row]], label: str) -> Markup:
    lines = [Curve(one, points, slot) for slot, (one, points) in enumerate(series.items())]
    desc = "; ".join(f"{one.name}: " + ", ".join(number(p["value"]) for p in one.points) for one in lines)
    groups = {"measured": [{"name": one.name, "points": one.points} for one in lines]}
    return sections.section(
        name, words,
        sections.drawn(lambda width: charts.curves(name, desc, lines, "steps ahead", label, width)),
        numbers.of_points(name, "steps ahead", groups),
    )  # fmt: skip
