"""HTML and SVG elements that escape whatever enters them, so that no name from a dataset can become markup."""

from __future__ import annotations

import html

from retrodict.report.result import visible

VOID = frozenset({"meta", "img", "source", "br"})


class Markup(str):
    """Text that is already HTML; every other string is escaped when it enters an element."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """Returns text as HTML that shows it literally."""
    return text if isinstance(text, Markup) else Markup(html.escape(visible(text)))


def join(*children: str | None) -> Markup:
    """Returns children one after the other, escaped unless they are markup; None is left out."""
    return Markup("".join(escape(child) for child in children if child is not None))


def element(name: str, /, *children: str | None, **attributes: str | float | None) -> Markup:
    """Returns `<name ...>children</name>`.

    Attribute names write `-` as `_` and `class` as `class_`; a number is rounded to 2 decimals; None is left out.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            parts.append(f'{key.rstrip("_").replace("_", "-")}="{_attribute(value)}"')
    start = "<" + " ".join(parts) + ">"
    return Markup(start if name in VOID else f"{start}{join(*children)}</{name}>")


def _attribute(value: str | float) -> str:
    if isinstance(value, str):
        return escape(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")
