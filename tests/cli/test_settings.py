"""Values typed on the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from retrodict.cli.settings import options, seconds, size, with_settings
from retrodict.errors import UnknownName, UnusableInput


@dataclass(frozen=True)
class Inner:
    steps: int = 10
    rate: float = 0.1


@dataclass(frozen=True)
class Outer:
    name: str = "a"
    deep: bool = False
    pairs: tuple[tuple[str, str], ...] = ()
    fit: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("pairs", "want"),
    [
        ([], Outer()),
        (["name=b"], Outer(name="b")),
        (["name=3"], Outer(name="3")),
        (["name=x=y"], Outer(name="x=y")),
        (["deep=true"], Outer(deep=True)),
        (['pairs=[["both","flatten"]]'], Outer(pairs=(("both", "flatten"),))),
        (["fit.steps=3", "fit.rate=1"], Outer(fit=Inner(3, 1.0))),
        (["fit.steps=3", "fit.steps=4"], Outer(fit=Inner(4))),
    ],
)
def test_settings_replace_fields_by_path_and_kind(pairs: list[str], want: Outer) -> None:
    found = with_settings(Outer(), pairs)
    assert found == want
    assert type(found.fit.rate) is float


@pytest.mark.parametrize(
    ("pair", "error", "message"),
    [
        ("fit.stesp=3", UnknownName, "Did you mean 'steps'"),
        ("nam=3", UnknownName, "Did you mean 'name'"),
        ("fit=3", UnusableInput, "fit.steps"),
        ("name.x=3", UnusableInput, "inside a plain value"),
        ("fit.steps=2.5", UnusableInput, "(int)"),
        ("fit.steps=true", UnusableInput, "(int)"),
        ("fit.rate=fast", UnusableInput, "(float)"),
        ("fit.rate=1e999", UnusableInput, "(float)"),
        ("fit.rate=NaN", UnusableInput, "(float)"),
        ("fit.rate=-Infinity", UnusableInput, "(float)"),
        ("deep=1", UnusableInput, "(bool)"),
        ("pairs=3", UnusableInput, "(tuple)"),
        ("fit.steps", UnusableInput, "name=value"),
        ("=3", UnusableInput, "name=value"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(pair: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as told:
        with_settings(Outer(), [pair])
    assert message in str(told.value)


def test_options_are_json_or_text() -> None:
    assert options(["size=54", "textures=noise", "x=[1]"]) == {"size": 54, "textures": "noise", "x": [1]}
    assert options(["a=true", "b=True", "c=False", "d=Truth"]) == {"a": True, "b": True, "c": False, "d": "Truth"}


@pytest.mark.parametrize(("text", "want"), [("", 0), ("90s", 90), ("60m", 3600), ("1.5h", 5400)])
def test_durations(text: str, want: float) -> None:
    assert seconds(text) == want


@pytest.mark.parametrize("text", ["60", "m", "-3m", "0s", "1d", "1 h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UnusableInput, match="no duration"):
        seconds(text)


def test_sizes_are_width_by_height() -> None:
    assert size("640x480") == (640, 480)
    assert size("") is None
    for text in ("640", "0x3", "axb", "640x480x3"):
        with pytest.raises(UnusableInput, match="no size"):
            size(text)
