"""The plain-text table holds the same figures, in 100 columns, and lets no escape sequence reach the terminal."""

from __future__ import annotations

import unicodedata

import fake
import pytest

from retrodict.errors import UnknownName
from retrodict.report.result import ONE_SEED, duration, memory, number, plural, share, visible
from retrodict.report.table import text_table


def columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


def test_the_full_result_in_100_columns() -> None:
    text = text_table(fake.full())
    assert max(map(columns, text.splitlines())) <= 100
    for words in ("0.86", "0.84 to 0.88", "LAPO stopped at its time share", "in all", "4 min 18 s", ONE_SEED):
        assert words in text
    assert "    retrodict label VIDEOS --labels labels.csv --out labelled\n" in text


def test_policies_are_drawn_to_scale() -> None:
    rows = [
        {"name": "half", "success": 0.5, "low": 0.25, "high": 0.75, "seeds": 3},
        {"name": "all", "success": 1.0, "low": 0.5, "high": 1.0, "seeds": 3},
        {"name": "gone", "success": None, "seeds": 3, "note": "out of time"},
    ]
    lines = text_table({"policies": rows}).splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["all", "half", "gone"]
    assert lines[-2].endswith(" ......------o------......")
    assert lines[-3].endswith(" ............------------o")
    assert lines[-1].endswith("out of time")
    assert "—" in lines[-1]
    assert ONE_SEED not in "".join(lines)


def test_missing_sections_are_left_out() -> None:
    assert text_table(fake.minimal()) == "Nothing yet\nNo stage has finished.\n"


@pytest.mark.parametrize("name", [fake.HOSTILE, "動作" * 40, "x" * 300, "a b " * 60])
def test_any_name_fits_and_none_acts(name: str) -> None:
    result = fake.full()
    for row in [*result["policies"], *result["stages"], *result["headline"]]:
        row["name"] = row["note"] = row["baseline"] = name
    result["notes"] = [name]
    text = text_table(result)
    assert max(map(columns, text.splitlines())) <= 100
    assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text if letter != "\n")
    text.encode("utf-8")


def test_unknown_sections_are_refused() -> None:
    with pytest.raises(UnknownName, match="headline"):
        text_table({"headlines": []})


def test_numbers_as_words() -> None:
    assert [number(0.856), number(None), number(0.0312, 3)] == ["0.86", "—", "0.031"]
    assert [share(0.935), share(None)] == ["94 %", "—"]
    assert [duration(8.21), duration(59.96), duration(185), duration(None)] == [
        "8.2 s",
        "1 min 00 s",
        "3 min 05 s",
        "—",
    ]
    assert [memory(800), memory(1400), memory(None)] == ["800 MB", "1.4 GB", "—"]
    assert [plural(1, "seed"), plural(1024, "label")] == ["1 seed", "1,024 labels"]
    assert visible("a\x1b\n\u202e\udcff é動") == "a\\x1b\\n\\u202e\\udcff é動"


def test_baselines_that_learn_nothing_need_no_second_seed() -> None:
    """Random play is played once; what is compared are the policies that were trained."""
    route = {"name": "cloned", "success": 0.9, "low": 0.8, "high": 1.0, "seeds": 3, "kind": "route"}
    random = {"name": "random", "success": 0.2, "low": 0.1, "high": 0.3, "seeds": 1, "kind": "baseline"}
    assert ONE_SEED not in text_table({"policies": [route, random]})
    assert ONE_SEED in text_table({"policies": [route | {"seeds": 1}, random]})
