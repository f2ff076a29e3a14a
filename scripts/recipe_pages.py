"""Documents made from recipes: a page each, the table of all, and the chart of committed label curves.

Pure functions from headers, settings, figures and committed results to text; `scripts/write_docs.py` keeps the files.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from types import ModuleType
from typing import Any

from retrodict.errors import UnusableInput
from retrodict.report import charts, style
from retrodict.report.result import ONE_SEED, interval, is_one_seed, number
from retrodict.run.loop import Fit

Entry = Mapping[str, Any]  # a recipe as `retrodict recipes --json` describes it
_FIT = "training: steps × batch at peak rate"


def meanings(config: type) -> dict[str, str]:
    """Returns what the comment above and beside each field of a Config says; one without is about training."""
    source = inspect.cleandoc(inspect.getsource(config))
    lines = source.splitlines()
    body = next(node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    found = {}
    for node in body:
        if isinstance(node, ast.AnnAssign):
            _, _, beside = lines[(node.end_lineno or node.lineno) - 1].partition("  # ")
            above = lines[node.lineno - 2].strip()
            comment = f"{above[1:].strip() if above.startswith('#') else ''} {beside.strip()}".strip()
            found[ast.unparse(node.target)] = comment or (_FIT if ast.unparse(node.annotation) == "Fit" else "")
    return found


def presets(module: ModuleType) -> dict[str, Any]:
    """Returns a recipe's presets by name in the order of its file, without `micro`, which proves nothing."""
    makers = {name: made for name, made in vars(module).items() if inspect.isfunction(made)}
    named = [n for n, made in makers.items() if inspect.signature(made).return_annotation in ("Config", module.Config)]
    return {name: makers[name]() for name in named if name != "micro"}


def recipe_page(module: ModuleType, entry: Entry) -> str:
    """Returns the page of one recipe."""
    name = entry["name"]
    return "\n".join(
        [
            f"# {entry['system']}",
            "",
            f"<!-- Written by scripts/write_docs.py from src/retrodict/recipes/{name}.py and results/{name}. -->",
            "",
            _sentence(entry["summary"]),
            "",
            f"- **Claim:** {entry['claim']}",
            f"- **Time and figures of `tiny`:** {entry['tiny']}",
            f"- **Paper:** {entry['paper']} (see [sources](../sources.md))",
            f"- **File:** [recipes/{name}.py](../../src/retrodict/recipes/{name}.py)",
            f"- **Status:** {entry['status']} (what the word means: [README](../../README.md#recipes))",
            "",
            "```sh",
            entry["run"],
            "```",
            "",
            "## Figures",
            "",
            *_figures(module, entry["figures"]),
            "",
            "To measure a figure again, in a checkout:",
            "",
            "```sh",
            f"retrodict check {name} --claim FIGURE --seeds N",
            "```",
            "",
            "## Settings",
            "",
            "An empty cell is the same as in `tiny`.",
            "",
            *_settings(module),
            "",
        ]
    )


def _figures(module: ModuleType, told: Sequence[Entry]) -> list[str]:
    head = [
        "figure",
        "world",
        "measure",
        "labels",
        "preset",
        "target",
        "measured (95 % interval)",
        "seeds",
        "beside it",
    ]
    rows = []
    for figure in told:
        declared = module.FIGURES[figure["name"]]
        target = "" if declared.target is None else f"{'≤' if declared.at_most else '≥'} {declared.target:.2f}"
        rows.append([
            f"`{figure['name']}`", declared.setting, declared.measure.replace("_", " "),
            _labels(declared.labels, declared.minutes), f"`{declared.preset}`", target, measured(figure),
            str(figure["seeds"] or ""), beside(figure["baselines"]),
        ])  # fmt: skip
    return table(head, rows)


def beside(parts: Mapping[str, float]) -> str:
    """Returns what stands beside a figure: each part once, with its interval where it has one, and four or more whose
    names count on as one series. A figure's own `low` and `high` are over states, and not over seeds."""
    runs: list[list[tuple[str, str]]] = []
    for name, value in parts.items():
        if name == "low":
            runs.append([("over states", f"{number(value)} to {number(parts['high'])}")])
        elif name.rpartition(".")[2] not in ("low", "high"):
            ends = f"{name}.low", f"{name}.high"
            interval = f" ({' to '.join(number(parts[end]) for end in ends)})" if ends[0] in parts else ""
            goes_on = bool(runs) and _next(runs[-1][-1][0]) == name
            if not goes_on:
                runs.append([])
            runs[-1].append((name, number(value) + interval))
    told = []
    for run in runs:
        if len(run) < 4:
            told += [f"{name} {value}" for name, value in run]
        else:
            told.append(f"{run[0][0]} to {run[-1][0]}: " + " · ".join(value for _, value in run))
    return ", ".join(told)


def _next(name: str) -> str:
    """The name that counts on from this one, k4 after k3; nothing where it has no number."""
    stem = name.rstrip("0123456789")
    return f"{stem}{int(name[len(stem) :]) + 1}" if stem != name else ""


def _labels(count: int, minutes: float) -> str:
    if not count:
        return "all"
    return f"{count:,} ({minutes:g} min)" if minutes else str(count)


def measured(figure: Entry) -> str:
    """Returns a figure's value with its interval, or that there is none yet."""
    if figure["value"] is None:
        return "not measured yet"
    if figure["low"] is None or figure["high"] is None:
        return f"{number(figure['value'])} ({ONE_SEED})"
    return f"**{number(figure['value'])}** ({number(figure['low'])} to {number(figure['high'])})"


def _settings(module: ModuleType) -> list[str]:
    made = presets(module)
    base = made["tiny"]
    told = meanings(module.Config)
    rows = []
    for field in fields(base):
        values = [getattr(config, field.name) for config in made.values()]
        first = getattr(base, field.name)
        cells = [_value(v) if v != first or key == "tiny" else "" for key, v in zip(made, values, strict=True)]
        rows.append([f"`{field.name}`", told[field.name], *cells])
    return table(["setting", "meaning", *(f"`{key}`" for key in made)], rows)


def _value(value: Any) -> str:
    if isinstance(value, Fit):
        return f"{value.steps:,} × {value.batch} at {value.rate:.3g}"
    if is_dataclass(value) and not isinstance(value, type):
        return ", ".join(f"{name} {inner}" for name, inner in asdict(value).items())
    if isinstance(value, tuple):
        return ", ".join(" + ".join(map(str, item)) if isinstance(item, tuple) else str(item) for item in value)
    return str(value)


def recipe_table(entries: Sequence[Entry], folder: str) -> str:
    """Returns the table of all recipes; `folder` is where their pages are."""
    rows = []
    for entry in entries:
        there = [one for one in entry["figures"] if one["value"] is not None]
        seeds = ["" if is_one_seed([one]) else f", {one['seeds']} seeds" for one in there]
        shown = [f"`{one['name']}` {measured(one)}{of}" for one, of in zip(there, seeds, strict=True)]
        shown = shown or [f"{len(entry['figures'])} declared, none measured yet"]
        rows.append([
            f"[{entry['name']}]({folder}/{entry['name']}.md)", _sentence(entry["summary"]), entry["status"],
            "<br>".join(shown),
        ])  # fmt: skip
    return "\n".join(table(["recipe", "what it does", "status", "measured (95 % interval)"], rows))


def world_table(modules: Mapping[str, ModuleType], entries: Sequence[Entry], *begins: str) -> str:
    """Returns the measured figures of all worlds whose setting `begins` so, or that there are none."""
    rows = []
    for entry in entries:
        for figure in entry["figures"]:
            declared = modules[entry["name"]].FIGURES[figure["name"]]
            if declared.setting.startswith(begins) and figure["value"] is not None:
                what = f"{declared.setting.replace('_', ' ')}, {declared.measure.replace('_', ' ')}"
                labels = _labels(declared.labels, declared.minutes)
                rows.append([f"[{entry['name']}](recipes/{entry['name']}.md)", f"`{figure['name']}`", what, labels,
                             measured(figure)])  # fmt: skip
    head = ["recipe", "figure", "what", "labels", "measured (95 % interval)"]
    return "\n".join(table(head, rows)) if rows else "Not measured yet."


def inputs_table(result: Entry) -> str:
    """Returns what an inverse model makes of each kind of input (`benchmarks/arm_inputs.py`), a row each."""
    seeds = result["seeds"]
    mean = {
        kind: {key: sum(float(seed[kind][key]) for seed in seeds) / len(seeds) for key in seeds[0][kind]}
        for kind in seeds[0]
    }
    rows = [[kind, *(number(told[key]) for key in told if key != "seconds")] for kind, told in mean.items()]
    head = ["input", *(key.replace("_", " ") for key in next(iter(mean.values())) if key != "seconds")]
    noun = ONE_SEED if len(seeds) == 1 else f"mean of {len(seeds)} seeds"
    return "\n".join([*table(head, rows), "", f"({noun}; `{result['command']}`)"])


def obedience_table(result: Entry) -> str:
    """Returns what a judge read off a world's frames, beside its controls (`scripts/draw_obedience.py`)."""
    rows = [[name, *(number(one[end]) for end in ("value", "low", "high"))] for name, one in result["judged"].items()]
    lines = table(["share that the judge reads as asked", "value", "low", "high"], rows)
    return "\n".join([*lines, "", f"({ONE_SEED}; intervals are over states. `{result['command']}`)"])


def speed_table(result: Entry) -> str:
    """Returns how fast a world was steered through the page's own door (`benchmarks/play.py`)."""
    lines = table(["what", "measured", "target"], result["rows"])
    return "\n".join([*lines, "", f"(`{result['command']}`)"])


def imagine_table(result: Entry) -> str:
    """Returns what a frame costs as one plays on (`benchmarks/imagine.py`)."""
    before, after = result["state bytes"]
    rows = [
        ["frames a second, at the start and at the end",
         f"{number(result['frames/s at first'], 1)} and {number(result['frames/s at last'], 1)}"],
        ["the last against the first", number(result["last/first"])],
        ["faster than taking in all that is remembered for every frame", f"{number(result['faster than anew'])} times"],
        ["bytes of the state, at the start and at the end", f"{before:,} and {after:,}"],
        ["the process grew by", f"{number(result['process grew by MB'], 1)} MB"],
    ]  # fmt: skip
    lines = table([f"{result['frames']:,} frames", "measured"], rows)
    return "\n".join([*lines, "", f"(one thread; `{result['command']}`)"])


def model_free_table(result: Entry) -> str:
    """Returns what model-free learners reach (`benchmarks/model_free.py`), a row each."""
    rows = [
        [where.removesuffix("_online"), name.rpartition(" ")[0],
         f"{one['setting']}; {one['played']}", f"{one['steps']:,}", number(one["return"]),
         *("" if one[end] is None else number(one[end]) for end in ("low", "high")), str(len(one["seeds"]))]
        for where, found in result["settings"].items() for name, one in found.items()
    ]  # fmt: skip
    lines = table(["world", "learner", "trial; played", "steps", "return", "low", "high", "seeds"], rows)
    return "\n".join([*lines, "", f"(`{result['command']}`; those in the dream with `--dream RUN --data DATASET`)"])


def worlds_table(result: Entry) -> str:
    """Returns what an update and a decision cost (`benchmarks/worlds.py`), a table each."""
    updates = [
        [name, number(one["updates_per_second"], 1), number(one["plain_updates_per_second"], 1),
         number(one["share_of_peak"]), *(number(one["exponents"][size]) for size in ("frames", "rows", "width"))]
        for name, one in result["training"].items()
    ]  # fmt: skip
    planners = [name for name in next(iter(result["planning"].values())) if not name.startswith("imagining")]
    decisions = [
        [name, seen, *(number(one[planner][key], 0) for planner in planners)]
        for name, one in result["planning"].items()
        for seen, key in (("1", "one_ms"), ("8", "together_ms"))
    ]
    head = ["world", "updates a second", "as written down", "share of peak", "frames", "rows", "width"]
    lines = [*table(head, updates), "", *table(["milliseconds", "states", *planners], decisions)]
    return "\n".join([*lines, "", f"(one thread; `{result['command']}`)"])


def core_seconds(results: Sequence[Entry]) -> float:
    """Seconds of a core that training for all these committed figures took; one training serves several."""
    longest: dict[tuple[str, ...], float] = {}
    for told in results:
        training = (told["recipe"], told["setting"], str(told["labels"]), told["preset"])
        took = sum(float(seed["cpu_seconds" if "cpu_seconds" in seed else "seconds"]) for seed in told["seeds"])
        longest[training] = max(took, longest.get(training, 0.0))
    return sum(longest.values())


def hours(results: Sequence[Entry]) -> str:
    """Returns what training for all these committed figures again takes."""
    listed = ", ".join(f"`{name}`" for name in sorted({told["recipe"] for told in results}))
    return f"All training behind the figures of {listed}: {number(core_seconds(results) / 3600, 1)} hours of one core."


def suite_table(result: Entry) -> str:
    """Returns what worlds are worth in each setting of the suite (`benchmarks/suite.py`); what is missing is empty."""
    names = ("horizon_skill", "sensitivity", "delta_psnr", "judged_controllability")
    head = ["setting", "world", *(name.replace("_", " ") for name in names), "weights", "seconds"]
    rows = [
        [where, f"[{name}](recipes/{name}.md)",
         *(number(one["values"][key]) if key in one.get("values", {}) else "" for key in names),
         *(f"{one[key]:,.0f}" if key in one else "" for key in ("weights", "cpu_seconds"))]
        for where, found in result["settings"].items() for name, one in found.items()
    ]  # fmt: skip
    return "\n".join([*table(head, rows), "", f"({ONE_SEED}; `{result['command']}`)"])


def scaling_table(result: Entry) -> str:
    """Returns how the loss of a world falls with its size (`benchmarks/scaling.py`), and the slope."""
    keys = ("nats", "nats_blind")
    rows = [[f"{one['parameters']:,}", *(number(one[key]) for key in keys)] for one in result["sizes"]]
    lines = table(["weights", "nats per token", "without this step's action and words"], rows)
    slope = number(result["fit"]["exponent"])
    told = f"{result['steps']:,} updates each; the loss goes as the weights to the power of {slope}"
    return "\n".join([*lines, "", f"({told}; {ONE_SEED}; `{result['command']}`)"])


def reach_table(result: Entry) -> str:
    """Returns how often a picture is reached by planning in a world of latent actions (`benchmarks/reach.py`)."""
    head = ["world", "planned", "names exchanged", "random", "recorded", "starts", "labels"]
    rows = [
        [
            where,
            *(f"{number(at['value'])} ({interval(at['low'], at['high'])})" for at in (one[name] for name in head[1:5])),
            str(one["starts"]),
            str(one["labels"]),
        ]
        for where, one in result["settings"].items()
    ]
    return "\n".join([*table(head, rows), "", f"({ONE_SEED}; `{result['command']}`)"])


def steered_table(result: Entry) -> str:
    """Returns how worlds obey codes, recorded and shuffled actions (`benchmarks/steered.py`), with intervals; what was
    not measured is empty."""
    told = {"sensitivity": "sensitivity", "judged_controllability": "judged controllability",
            "delta_psnr": "Δ-PSNR, dB", "drift.8": "drift over 8 frames, dB"}  # fmt: skip
    rows = []
    for where, worlds in result["settings"].items():
        for world, found in worlds.items():
            for kind in ("codes", "recorded", "shuffled"):
                cells = [
                    f"{number(at[name])} ({interval(at[f'{name}.low'], at[f'{name}.high'])})" if name in at else ""
                    for at in (found[kind],) for name in told
                ]  # fmt: skip
                rows.append([where, world, kind, *cells, str(found["seeds"])])
    lines = table(["setting", "world", "actions", *told.values(), "seeds"], rows)
    return "\n".join([*lines, "", f"(`{result['command']}`)"])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns a Markdown table; a `|` inside a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def label_chart(result: Entry, width: float = 680) -> str:
    """Returns the label curves of a demo's result as one SVG file that follows the reader's theme."""
    part = result["label_curve"]
    series = [charts.Curve(one["name"], one["points"], slot) for slot, one in enumerate(part["series"])]
    title = f"Share of actions that are right, by number of {part['unit']}: {result['world']}"
    desc = "; ".join(f"{one.name}: {_points(one.points)}" for one in series)
    x_label, y_label = f"number of {part['unit']}", "share of actions that are right"
    return standalone(charts.curves(title, desc, series, x_label, y_label, width))


def standalone(drawn: str) -> str:
    """Returns a drawing as a file of its own, with the style sheet, so that it follows the reader's theme."""
    paper = f'<style><![CDATA[{style.CSS}]]></style><rect width="100%" height="100%" fill="var(--paper)"/>'
    start, mark, rest = drawn.partition("</desc>")
    return start.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + mark + paper + rest + "\n"


def _points(points: Sequence[Entry]) -> str:
    return ", ".join(f"{number(point['value'])} at {point['x']:,}" for point in points)


def between(text: str, name: str, inner: str) -> str:
    """Returns the text with what stands between `<!-- NAME -->` and `<!-- /NAME -->` replaced.

    Raises:
        UnusableInput: the marks are not there exactly once, in this order.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise UnusableInput(f"expected {start} and then {end}, once each, on lines of their own")
    pattern = re.escape(start) + r".*?" + re.escape(end)
    filled = f"{start}\n\n{inner}\n\n{end}" if inner else f"{start}\n{end}"
    return re.sub(pattern, lambda _: filled, text, flags=re.DOTALL)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:].rstrip(".") + "."
