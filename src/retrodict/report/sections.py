"""The report's sections: each turns one part of the result into words, a chart and the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retrodict.report import charts, numbers, pictures
from retrodict.report.markup import Markup, element, join
from retrodict.report.pictures import ClipPicture
from retrodict.report.result import ONE_SEED, compared, interval, is_one_seed, number, plural, ranked, share

WIDE, NARROW, HALF = 720.0, 340.0, 360.0
MOST_CODES = 24

Row = Mapping[str, Any]


def section(name: str, words: Sequence[str | None], *shown: str | None, badge: str | None = None) -> Markup:
    """A heading with its words on one side and what they speak of on the other; words marked markup stay so."""
    label = element("p", badge, class_="badge") if badge else None
    paragraphs = [word if isinstance(word, Markup) else element("p", word) for word in words if word]
    left = element("div", element("h2", name), label, *paragraphs, class_="words")
    return element("section", left, element("div", *shown, class_="shown"))


def _finding(words: str) -> Markup:
    return element("p", words, class_="finding")


def drawn(draw: Callable[[float], Markup], wide: float = WIDE) -> Markup:
    """One chart twice: the style sheet shows the one that fits the screen and hides the other from everyone."""
    return join(element("div", draw(wide), class_="wide"), element("div", draw(NARROW), class_="narrow"))


def clips(shown: Sequence[ClipPicture]) -> Markup:
    """Moving pictures; a still sheet of steps stands in on paper and for those who want no motion."""
    cards = []
    for clip in shown:
        verdicts = [clip.verdict(step) for step in range(clip.steps)]
        told = [f"{verdicts.count(kind)} {kind}" for kind in ("right", "wrong") if kind in verdicts]
        told += [f"abstains from {verdicts.count('abstains')}"] if "abstains" in verdicts else []
        told += [f"{verdicts.count('recorded')} given"] if "recorded" in verdicts else []
        summary = f"{plural(clip.steps, 'step')}: {', '.join(told) or 'nothing to compare with'}"
        wide, tall = pictures.size(clip)
        image = element("img", src=pictures.moving(clip), alt=f"{clip.title}. {summary}.", width=wide, height=tall)
        calm = element("source", srcset=pictures.still(clip), media="print, (prefers-reduced-motion: reduce)")
        rows = [
            [str(t), clip.predicted[t] or "—", share(clip.confidence[t]), clip.truth[t] or "—", verdicts[t]]
            for t in range(clip.steps)
        ]
        head = ["step", "predicted", "confidence", "truth", "verdict"]
        steps = element(
            "details", element("summary", "Step by step"), numbers.table(f"Steps of {clip.title}", head, rows)
        )
        caption = element("figcaption", element("b", clip.title), " · " if clip.title else None, summary)
        cards.append(element("figure", element("picture", calm, image), caption, steps))
    words = [
        "Each frame shows the action read from it and the next one, how sure the model is, and whether it is right.",
        "In the strip a full block is right, a half block wrong, an outline abstains, a low line has no verdict.",
    ]
    return section("Watch it label", words, element("div", *cards, class_="clips"))


def label_curve(part: Row) -> Markup:
    """Label accuracy by number of labels."""
    words = ["Accuracy on episodes it has not seen, by the number of labelled steps it was given."]
    return _curves("Label accuracy", words, part, "share of steps labelled right")


def policies_by_labels(part: Row) -> Markup:
    """Success of policies by number of labels."""
    words = ["Success on episodes not seen in training, by the number of labelled steps."]
    return _curves("Policies by number of labels", words, part, "share of episodes that succeed")


def _curves(name: str, words: list[str], part: Row, y_label: str) -> Markup:
    fresh, committed = part.get("series") or [], part.get("committed") or []
    slots: dict[str, int] = {}
    for one in [*fresh, *committed]:
        slots.setdefault(one["name"], len(slots))
    series = [charts.Curve(one["name"], one["points"], slots[one["name"]]) for one in fresh]
    series += [charts.Curve(one["name"], one["points"], slots[one["name"]], thin=bool(fresh)) for one in committed]
    unit = str(part.get("unit", "labels"))
    desc = "; ".join(f"{one.name}: {_told(one.points)}" for one in series)
    groups = {"this run": fresh, "committed": committed}
    key = "Large marks: this run. Thin lines: committed results." if fresh and committed else None
    return section(
        name,
        [*words, *_reasons([p for one in [*fresh, *committed] for p in one["points"]])],
        drawn(lambda width: charts.curves(name, desc, series, f"number of {unit}", y_label, width)),
        element("p", key, class_="key") if key else None,
        numbers.of_points(name, unit, groups),
        badge=ONE_SEED if is_one_seed([p for one in fresh for p in one["points"]]) else None,
    )


def _told(points: Sequence[Row]) -> str:
    return ", ".join(f"{number(p.get('value'))} at {p['x']:,}" for p in points) or "no points"


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Says why figures are absent, where the result says so."""
    return [
        f"{row['name']}: {row['note']}" if row.get("name") else str(row["note"])
        for row in rows
        if row.get("note") and row.get("value", row.get("success")) is None
    ]


def confusion(part: Row) -> Markup:
    """Which actions are taken for which."""
    classes, matrix = [str(name) for name in part["classes"]], part["matrix"]
    total = sum(map(sum, matrix))
    right = sum(matrix[i][i] for i in range(len(classes)))
    missed = [(matrix[i][j], i, j) for i in range(len(classes)) for j in range(len(classes)) if i != j and matrix[i][j]]
    words: list[str | None] = [
        "Each row is a true action; its cells say what it was labelled as, in per cent of the row."
    ]
    if missed:
        count, i, j = max(missed)
        words.append(
            _finding(f"The commonest mistake: {classes[i]} read as {classes[j]}, {count:,} of {sum(matrix[i]):,}.")
        )
    desc = f"{right:,} of {total:,} steps lie on the diagonal, where the label is right."
    draw = _heat_drawing("Confusion", desc, classes, classes, matrix, ("truth", "label"))
    return section(
        "Confusion", words, drawn(draw), numbers.of_matrix("Counts; rows are the truth", classes, classes, matrix)
    )


def _heat_drawing(
    title: str, desc: str, rows: Sequence[str], columns: Sequence[str], matrix: Any, names: tuple[str, str]
) -> Callable[[float], Markup]:
    return lambda width: charts.heat(title, desc, rows, columns, matrix, names, width)


def trust(reliability: Row | None, risk: Row | None) -> Markup:
    """Whether the stated confidence holds, and what abstaining buys."""
    words: list[str | None] = []
    shown = []
    if reliability is not None:
        words.append("Where a label says 80 % sure, 80 % of such labels should be right: points on the dotted line.")
        words.append(
            _finding(f"Calibration error {number(reliability.get('error'), 3)}.") if "error" in reliability else None
        )
        shown.append(reliability_of(reliability))
    if risk is not None:
        words.append(_of_leaving_out(risk["points"]))
        shown.append(_risk(risk))
    return section("Can its confidence be trusted?", words, element("div", *shown, class_="pair"))


def _of_leaving_out(points: Sequence[Row]) -> str:
    """What the curve of accuracy over coverage says of leaving out the least sure fifth, and of the surest labels."""
    known = sorted((p for p in points if p.get("accuracy") is not None), key=lambda p: float(p["coverage"]))
    if not known:
        return "Nothing was measured."
    fifth = min(known, key=lambda p: abs(float(p["coverage"]) - 0.8))
    gain, few = fifth["accuracy"] - known[-1]["accuracy"], [p for p in known if p["coverage"] <= 0.1]
    word = "raises" if gain > 0.005 else "lowers" if gain < -0.005 else "does not change"
    told = f"Leaving out the fifth of the labels it is least sure of {word} the accuracy of the rest."
    if few and few[-1]["accuracy"] < known[-1]["accuracy"]:
        told += " The very surest tenth is less often right than all: high confidence misleads here."
    return told


def reliability_of(part: Row) -> Markup:
    """Accuracy against stated confidence, by bin: {"bins": [{"confidence", "accuracy", "count"}]}."""
    bins = part["bins"]
    known = [one for one in bins if one.get("accuracy") is not None]
    desc = "; ".join(
        f"stated {share(b['confidence'])}, right {share(b['accuracy'])}, {b['count']:,} steps" for b in known
    )
    rows = [[share(b["confidence"]), share(b.get("accuracy")), f"{b['count']:,}"] for b in bins]
    return element(
        "div",
        element("h3", "Reliability"),
        charts.reliability("Reliability", desc, bins, HALF),
        numbers.folded("Reliability by bin of confidence", ["stated", "right", "steps"], rows, (1, 2)),
    )


def _risk(part: Row) -> Markup:
    known = [p for p in part["points"] if p.get("accuracy") is not None]
    desc = "; ".join(f"{share(p['accuracy'])} right at {share(p['coverage'])} coverage" for p in known)
    rows = [[share(p["coverage"]), share(p.get("accuracy"))] for p in part["points"]]
    return element(
        "div",
        element("h3", "Risk against coverage"),
        charts.risk_coverage("Risk against coverage", desc, part["points"], HALF),
        numbers.folded("Accuracy of the labels kept", ["kept", "right"], rows, (1,)),
    )


def codes(part: Row) -> Markup:
    """What the latent codes say about the true actions."""
    actions = [str(name) for name in part["actions"]]
    counted = sorted(zip(part["codes"], part["matrix"], strict=True), key=lambda row: -sum(row[1]))
    used = [(str(name), counts) for name, counts in counted if sum(counts)]
    shown = sorted(used[:MOST_CODES], key=lambda row: _main(row[1]))
    names, matrix = [name for name, _ in shown], [counts for _, counts in shown]
    words: list[str | None] = [
        "Each row is a code found without labels; its cells say during which true actions it was used."
    ]
    if part.get("bits") is not None:
        of = f" of {number(part['of'])}" if part.get("of") is not None else ""
        words.append(_finding(f"The codes recover {number(part['bits'])}{of} bits of the action."))
    words.append(str(part["note"]) if part.get("note") else None)
    idle = len(counted) - len(used)
    rest = sum(sum(counts) for _, counts in used[MOST_CODES:])
    left_out = [f"{plural(idle, 'code')} never used"] if idle else []
    left_out += [f"{plural(len(used) - MOST_CODES, 'rare code')} with {plural(rest, 'step')} not shown"] if rest else []
    desc = f"{plural(len(used), 'code')} in use, over {plural(len(actions), 'action')}; shares in per cent of each row."
    return section(
        "Latent codes and actions",
        words,
        drawn(_heat_drawing("Latent codes and actions", desc, names, actions, matrix, ("code", "action")))
        if names
        else None,
        element("p", "; ".join(left_out) + ".", class_="key") if left_out else None,
        numbers.of_matrix("Counts; rows are codes", names, actions, matrix),
    )


def _main(counts: Sequence[float]) -> tuple[int, float]:
    most = max(counts)
    return list(counts).index(most), -most / sum(counts)


def policies(rows: Sequence[Row]) -> Markup:
    """Success of each policy with its interval, the best first."""
    rows = ranked(rows)
    desc = "; ".join(f"{row['name']}: {number(row.get('success'))} {_bracketed(row)}".rstrip() for row in rows)
    kinds = {str(row.get("kind", "route")) for row in rows}
    key = [f"{sign} {words}" for kind, sign, words in _KINDS if kind in kinds]
    table = [
        [
            str(row["name"]),
            number(row.get("success")),
            interval(row.get("low"), row.get("high")) or "—",
            "—" if row.get("episodes") is None else f"{row['episodes']:,}",
            numbers.seeds(row),
            str(row.get("kind", "route")),
        ]
        for row in rows
    ]
    head = ["policy", "success", "95 % interval", "episodes", "seeds", "kind"]
    return section(
        "Policies",
        ["Share of new episodes that reach the goal, with 95 % intervals.", *_reasons(rows)],
        drawn(lambda width: charts.dots("Success of policies", desc, rows, width)),
        element("p", " \u2002 ".join(key), class_="key"),
        numbers.folded("Success of policies", head, table, (1, 2, 3, 4)),
        badge=ONE_SEED if is_one_seed(compared(rows)) else None,
    )


_KINDS = (
    ("route", "●", "learned from video and few labels"),
    ("baseline", "○", "baseline"),
    ("bound", "◆", "upper bound: all labels, or the expert"),
)


def _bracketed(row: Row) -> str:
    told = interval(row.get("low"), row.get("high"))
    return f"({told})" if told else ""


def stages(rows: Sequence[Row]) -> Markup:
    """Time and memory of each stage."""
    return section("Time and memory", ["What each stage cost on this machine."], numbers.of_stages(rows))


def commands(rows: Sequence[Row]) -> Markup:
    """The exact commands for one's own videos."""
    steps = [
        element("li", element("p", _sentence(str(row["say"]))), element("pre", element("code", str(row["line"]))))
        for row in rows
    ]
    return section("On your own videos", ["Click a command to select it whole."], element("ol", *steps, class_="steps"))


def notes(rows: Sequence[str]) -> Markup:
    """What else a reader should know."""
    return section("Notes", [], element("ul", *(element("li", str(row)) for row in rows), class_="notes"))


def headline(rows: Sequence[Row]) -> Markup:
    """The main figures, large, each beside its baseline."""
    blocks = []
    for row in rows:
        told = [
            f"95 % interval {interval(row.get('low'), row.get('high'))}"
            if interval(row.get("low"), row.get("high"))
            else "",
            str(row.get("baseline") or ""),
            str(row.get("note") or "") if row.get("value") is None else "",
            _seeds(row),
        ]
        lines = [element("dd", words) for words in told if words]
        digits = 0 if isinstance(row.get("value"), int) else 2
        figure = element("dd", number(row.get("value"), digits), class_="figure")
        blocks.append(element("div", element("dt", str(row["name"])), figure, *lines))
    return element("dl", *blocks, class_="headline")


def _seeds(row: Row) -> str:
    if row.get("value") is None or row.get("seeds") is None:
        return ""
    return ONE_SEED if is_one_seed([row]) else plural(row["seeds"], "seed")


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
