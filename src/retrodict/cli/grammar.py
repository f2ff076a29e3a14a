"""The grammar: all verbs, their flags, and how a command line becomes a verb."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, fields
from functools import reduce
from operator import or_
from typing import Annotated, Any, get_args, get_type_hints

import tyro

from retrodict.cli.act import Act
from retrodict.cli.convert import Convert
from retrodict.cli.dataset import Check, Export, Import, Info
from retrodict.cli.demo import Demo
from retrodict.cli.doctor import Doctor
from retrodict.cli.export import ExportRun
from retrodict.cli.imagine import Imagine
from retrodict.cli.label import Label
from retrodict.cli.measure import Measure
from retrodict.cli.play import Play
from retrodict.cli.recipes import CheckRecipe, Recipes
from retrodict.cli.record import Record
from retrodict.cli.train import Train
from retrodict.cli.verb import Verb
from retrodict.errors import UnknownName

DATA: dict[str, type[Verb]] = {
    "info": Info, "check": Check, "import": Import, "export": Export, "convert-checkpoint": Convert,
}  # fmt: skip
VERBS: dict[str, type[Verb]] = {
    "label": Label,
    "demo": Demo,
    "record": Record,
    "train": Train,
    "act": Act,
    "imagine": Imagine,
    "play": Play,
    "measure": Measure,
    "export": ExportRun,
    "recipes": Recipes,
    "check": CheckRecipe,
    "doctor": Doctor,
}
_ABOUT = "Turn video into actions: labels with confidence, policies, and worlds you can steer."
_ABOUT_DATA = "Looks at, checks, imports or exports a dataset; converts weights that others published."


def parse(argv: Sequence[str]) -> Verb:
    """Turns arguments into a verb; wrong use is told on stderr and leaves with SystemExit(2).

    Raises:
        UnknownName: no such verb.
    """
    _known(argv[:1], [*VERBS, "data"], "command")
    if argv[:1] == ["data"]:
        _known(argv[1:2], DATA, "command of data")
    everything = _union(VERBS) | _named(_union(DATA), "data", _ABOUT_DATA)
    flags = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff)
    verb: Verb = tyro.cli(everything, args=list(argv), prog="retrodict", description=_ABOUT, config=flags)
    return verb


def _known(word: Sequence[str], known: Iterable[str], kind: str) -> None:
    if word and not word[0].startswith("-") and word[0] not in known:
        raise UnknownName(kind, word[0], known)


def _union(verbs: dict[str, type[Verb]]) -> Any:
    named: list[Any] = [_named(verb, name) for name, verb in verbs.items()]
    return reduce(or_, named)


def _named(kind: Any, name: str, about: str | None = None) -> Any:
    return Annotated[kind, tyro.conf.subcommand(name, description=about)]


def usage() -> dict[str, str]:
    """Returns each verb's grammar: NAME stands by position, [--flag=default] may be left out, other flags may not."""
    named = {**VERBS, **{f"data {name}": verb for name, verb in DATA.items()}}
    return {name: " ".join(_words(verb)) for name, verb in sorted(named.items())}


def _words(verb: type[Verb]) -> list[str]:
    """A verb's flags: by position, required, its own, and last those that many verbs have."""
    words = [
        (field.name in ("threads", "json", "code"), "[" in (word := _word(verb, field)), word) for field in fields(verb)
    ]
    return [word for *_, word in sorted(words, key=lambda entry: entry[:2])]


def _word(verb: type[Verb], field: Field[Any]) -> str:
    marks = get_args(get_type_hints(verb, include_extras=True)[field.name])
    if tyro.conf.Positional in marks:
        place = field.name.upper()
        return place if field.default is MISSING else f"[{place}]"
    given = [name for mark in marks if isinstance(name := getattr(mark, "name", None), str)]
    flag = f"--{(given or [field.name])[0].replace('_', '-')}"
    if field.default is MISSING:
        return flag
    return f"[{flag}]" if field.default in (None, False, "", ()) else f"[{flag}={field.default}]"
