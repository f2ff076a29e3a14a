"""The report as one HTML file: no network, no scripts, no other files; light and dark; any width; paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retrodict.data.durable import sync_write
from retrodict.report import sections
from retrodict.report.markup import Markup, element, join
from retrodict.report.pictures import ClipPicture
from retrodict.report.result import Result, check
from retrodict.report.style import CSS

# Says to the browser what is true of the page: nothing is fetched and nothing runs.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_SIGN = Markup(
    '<svg viewBox="0 0 42 20" aria-hidden="true" fill="none" stroke="var(--ink)" stroke-width="2">'
    '<rect x="1" y="3" width="14" height="14" rx="2"/><rect x="27" y="3" width="14" height="14" rx="2"/>'
    '<path d="M27 10H17M20.5 6.5L17 10l3.500 3.500" stroke="var(--teal)"/></svg>'
)


def render(result: Result, clips: Sequence[ClipPicture] = ()) -> str:
    """Returns the report as HTML; a section that the result lacks is left out.

    Raises:
        UnknownName: the result has a section that does not exist.
        UnusableInput: a number is NaN or infinite, or a matrix does not fit its names.
    """
    check(result)
    title = str(result.get("title") or "Report")
    return document(title, _header(result, title), element("main", *_sections(result, clips)), _footer(result))


def document(title: str, *body: str | None) -> str:
    """Returns a whole page of ours: the style sheet, the policy that nothing is fetched, and this body."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} · retrodict"),
        element("style", Markup(CSS)),
    )
    return "<!doctype html>\n" + element("html", head, element("body", *body), lang="en") + "\n"


def write(path: Path | str, result: Result, clips: Sequence[ClipPicture] = ()) -> None:
    """Writes the report; the file is either the whole new one or what was there before."""
    save(path, render(result, clips))


def save(path: Path | str, page: str) -> None:
    """Writes a page, whole or not at all."""
    sync_write(Path(path), page.encode())


def header(title: str, lead: str, facts: str, figures: Markup | None) -> Markup:
    """The head of a page: our sign, the title, what it comes to, small facts, and the main figures."""
    return element(
        "header",
        element("div", _SIGN, element("b", "retrodict"), "turns video into actions", class_="mark-line"),
        element("h1", title),
        element("p", lead, class_="lead") if lead else None,
        element("p", facts, class_="facts") if facts else None,
        figures,
    )


def _header(result: Result, title: str) -> Markup:
    seeds = result.get("seeds")
    facts = [
        str(result["world"]) if result.get("world") else "",
        f"{result['labels']:,} labels" if result.get("labels") is not None else "",
        f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}" if seeds else "",
        str(result.get("generated") or ""),
    ]
    told = " · ".join(fact for fact in facts if fact)
    figures = sections.headline(result["headline"]) if result.get("headline") else None
    return header(title, str(result.get("summary") or ""), told, figures)


def _sections(result: Result, clips: Sequence[ClipPicture]) -> list[Markup]:
    shown = [sections.clips(clips)] if clips else []
    for key, make in (("label_curve", sections.label_curve), ("confusion", sections.confusion)):
        shown += [make(result[key])] if result.get(key) else []
    if result.get("reliability") or result.get("risk_coverage"):
        shown.append(sections.trust(result.get("reliability") or None, result.get("risk_coverage") or None))
    if result.get("policies"):
        shown.append(sections.policies(result["policies"]))
    if result.get("policies_by_labels"):
        shown.append(sections.policies_by_labels(result["policies_by_labels"]))
    if result.get("codes"):
        shown.append(sections.codes(result["codes"]))
    for key, listed in (("stages", sections.stages), ("commands", sections.commands), ("notes", sections.notes)):
        shown += [listed(result[key])] if result.get(key) else []
    return shown


def _footer(result: Result) -> Markup | None:
    versions = " · ".join(f"{name} {version}" for name, version in (result.get("versions") or {}).items())
    lines = [
        join("Made by ", element("code", str(result["command"]))) if result.get("command") else None,
        join("Committed results: ", element("code", str(result["committed_from"])))
        if result.get("committed_from")
        else None,
        versions or None,
    ]
    kept = [element("p", words) for words in lines if words]
    return element("footer", *kept) if kept else None
