"""The health report of a dataset as one HTML file, from the JSON of `label.health`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retrodict.report import charts, numbers, page, sections
from retrodict.report.charts import Curve
from retrodict.report.markup import Markup, element
from retrodict.report.result import MISSING, number, plural, share

Row = Mapping[str, Any]
_FAULTS = ("cuts", "copies", "jumps", "dropped", "missing")


def write(path: Path | str, told: Row) -> None:
    """Writes the report of `Health.to_json`; the file is either the whole new one or what was there before."""
    page.save(path, render(told))


def render(told: Row) -> str:
    """Returns the report as HTML; what the data could not give is left out."""
    health, name = told["health"], Path(str(told["folder"])).name or str(told["folder"])
    figures, verdict = health["figures"], health["verdict"]
    labels, steps = figures.get("labels"), [f"{count:,} {kind}" for kind, count in told["sources"].items() if count]
    facts = f"{plural(told['episodes'], 'episode')} · {plural(told['frames'], 'frame')} · steps: {', '.join(steps)}"
    shown = [_wrong(told["problems"], health["findings"])]
    shown += (
        [_offset(labels["offset"]), _models(labels), _parts(labels), _forecast(labels["forecast"])] if labels else []
    )
    shown += [_calibration(figures["calibration"])] if "calibration" in figures else []
    shown += [_codes(figures["codes"])] if figures.get("codes") else []
    shown += [_recording(figures, told), _episodes(figures["episodes"])]
    lead = f"{str(verdict['word']).capitalize()}: {verdict['reason']}."
    head = page.header(f"Health of {name}", lead, facts, _headline(verdict, labels) if labels else None)
    return page.document(f"Health of {name}", head, element("main", *shown))


def _headline(verdict: Row, labels: Row) -> Markup:
    offset, ahead = labels["offset"]["steps"], labels["forecast"]
    words = "it cannot be told" if offset is None else "they agree" if not offset else "steps: they do not agree"
    right = {"name": "held-out labels that are right", "value": verdict["accuracy"], "low": verdict["low"],
             "high": verdict["high"], "baseline": f"always one answer: {number(verdict['majority'])}"}  # fmt: skip
    if labels["numbers"]:
        right = {"name": "score of numbers", **labels["right"]["two frames"],
                 "baseline": f"always one answer: {number(labels['right']['constant']['value'])}"}  # fmt: skip
    one = {"name": "read from one frame alone", "value": labels["right"]["one frame"]["value"],
           "baseline": f"from two: {number(labels['right']['two frames']['value'])}"}  # fmt: skip
    more = {"name": f"more labels for {share(ahead['target'])}", "value": ahead["needed"], "note": "no forecast",
            "baseline": "by a small network" if ahead["needed"] is not None else ""}  # fmt: skip
    rows = [
        right,
        {"name": "offset of actions and frames", "value": offset, "note": words, "baseline": words},
        one,
        more,
    ]
    return sections.headline(rows)


def _wrong(problems: Sequence[str], findings: Sequence[Row]) -> Markup:
    items = [element("li", problem) for problem in problems]
    for finding in findings:
        where = f" Worst: {', '.join(finding['episodes'])}." if finding["episodes"] else ""
        items.append(element("li", element("b", finding["kind"]), f": {finding['word']}.{where}"))
    if not items:
        return sections.section("What is wrong", [], element("p", "Nothing was found wrong."))
    return sections.section("What is wrong", [plural(len(items), "finding")], element("ul", *items, class_="notes"))


def _offset(offset: Row) -> Markup:
    rows = offset["scores"]
    words = ["How well small networks tell held-out actions from frames so many steps later. It should be best at 0.",
             f"Always one answer scores {number(offset['constant'])}."]  # fmt: skip
    desc, line = "; ".join(f"{number(row['value'])} at {row['x']:+d}" for row in rows), [Curve("score", rows, 0)]
    return sections.section(
        "Do actions and frames agree?", words,
        sections.drawn(lambda width: charts.curves("Score by shift", desc, line, "steps later", "score", width)),
        numbers.of_points("Score by shift", "shift", {"labels": [{"name": "score", "points": rows}]}),
    )  # fmt: skip


def _models(labels: Row) -> Markup:
    told = {**labels["right"], **{f"{camera['camera']} alone": camera["right"] for camera in labels["cameras"]}}
    rows = []
    for name, found in sorted(told.items(), key=lambda pair: -pair[1]["value"]):
        kind = "baseline" if name in ("one frame", "constant") else "route"
        low, high = max(0.0, found["low"]), min(1.0, found["high"])  # as the axis ends there
        rows.append({"name": name, "success": max(0.0, found["value"]), "low": low, "high": high, "kind": kind})
    desc = "; ".join(f"{row['name']}: {number(row['success'])}" for row in rows)
    what = "Share of recorded steps that a small network answers rightly without having seen them."
    if labels["numbers"]:
        what = "Score of a small network on steps that it has not seen: 1 - error² / variance of numbers, the share of "
        what += "keys that is right; what is below 0 is drawn at 0."
    words = [what, "Where one frame tells as much as two, labels say what is usually done, not what was done."]
    drawn = sections.drawn(lambda width: charts.dots("What tells the action", desc, rows, width))
    return sections.section("What tells the action?", words, drawn)


def _parts(labels: Row) -> Markup:
    """Each part of the action, and with several cameras how well each sees it alone."""
    columns = {"all": labels["parts"], **{row["camera"]: row["parts"] for row in labels["cameras"]}}
    found = {name: {**parts.get("recall", {}), **{key: value for key, value in parts.items() if _of_part(key)}}
             for name, parts in columns.items()}  # fmt: skip
    rows = [[part, *(number(one.get(part)) for one in found.values())] for part in found["all"]]
    words = ["Recall of a value, accuracy of keys, R² of a number, on steps that the network had not seen."]
    table = numbers.table("Parts of the action", ["part", *columns], rows, range(1, len(columns) + 1))
    return sections.section("Part by part", words, table)


def _of_part(key: str) -> bool:
    return key.startswith(("r2_", "accuracy_"))


def _forecast(forecast: Row) -> Markup:
    words = [
        f"{forecast['reason'][:1].upper()}{forecast['reason'][1:]}.",
        "A power law with a floor, through small networks trained on parts of the labels; the band is 95 %.",
    ]
    if not forecast["curve"]:
        return sections.section("How many more labels?", words[:1])
    series = [Curve("ahead", forecast["ahead"], 1), Curve("measured", forecast["curve"], 0)]
    told = "; ".join(f"{number(p['low'])} to {number(p['high'])} with {p['x']:,}" for p in forecast["ahead"])
    groups = {name.name: [{"name": name.name, "points": name.points}] for name in series}
    return sections.section(
        "How many more labels?", words,
        sections.drawn(lambda wide: charts.curves("More labels", told, series, "labels", "share right", wide)),
        numbers.of_points("Accuracy by labels", "labels", groups),
    )  # fmt: skip


def _calibration(found: Row) -> Markup:
    words = [f"On {found['labels']:,} held-out labels; calibration error {number(found['error'], 3)}."]
    return sections.section("Can its confidence be trusted?", words, sections.reliability_of(found))


def _codes(codes: Row) -> Markup:
    words = [f"Position {i}: {book['used']} of {book['size']} values in use, worth {number(book['perplexity'], 1)}."
             for i, book in enumerate(codes["books"])]  # fmt: skip
    words.append(f"{number(codes['camera_bits'])} of {number(codes['code_bits'])} bits tell how the view moves.")
    rows = [[f"{i}:{row['code']}", share(row["share"]), row["looks"]]
            for i, book in enumerate(codes["books"]) for row in book["rows"][: sections.MOST_CODES]]  # fmt: skip
    return sections.section(
        "Codes", words, numbers.table("What codes look like", ["code", "used", "looks like"], rows, (1,))
    )


def _recording(figures: Row, told: Row) -> Markup:
    clock, recording, doing = figures["clock"], figures["recording"], figures["doing"]
    rows = [
        ["declared frames/s", number(clock.get("declared"), 0)],
        ["frames/s by the times", number(clock.get("rate"))],
        ["most that times leave the grid, frames", number(clock.get("drift"))],
        ["frames dropped, by the times", number(clock.get("missing"), 0)],
        ["double steps (frames dropped without a gap)", number(recording["jumps"], 0)],
        ["frames that repeat the one before", number(recording["copies"], 0)],
        ["cuts", number(recording["cuts"], 0)],
        ["steps without an action", share(told["missing_share"])],
        ["actions that do nothing", share(doing["null_share"])],
        ["actions of which nothing is seen", share(doing["unseen_share"])],
    ]
    for row in figures["views"].get("cameras", ()):
        rows.append([f"nothing changes: {row['camera']}", share(row["still"])])
        rows.append([f"the view itself moves: {row['camera']}", share(row["moving"])])
    words = [
        f"From times and frames alone; {share(told['looked_at'])} of the steps were looked at.",
        f"{MISSING} where they cannot tell.",
    ]
    return sections.section("The recording", words, numbers.table("The recording", ["", "value"], rows, (1,)))


def _episodes(rows: Sequence[Row]) -> Markup:
    head = ["episode", "frames", "cuts", "repeated", "double", "dropped", "no action", "read rightly"]
    cells = [
        [row["episode"], f"{row['frames']:,}", *(number(row.get(kind), 0) for kind in _FAULTS),
         f"{row['right']} of {row['asked']}" if row["asked"] else MISSING]
        for row in rows
    ]  # fmt: skip
    table = numbers.table("Episodes", head, cells, range(1, len(head)))
    return sections.section("Episodes", ["The worst first."], table)
