"""Action schemas: read as written, wrong keys and values named, never written over what a person corrected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrodict.data.action_schema import infer_space, keep_schema, lay_out, read_schema, schema_file, schema_json
from retrodict.data.label_file import read_labels
from retrodict.errors import UnusableInput
from retrodict.segments import Segment, categorical, continuous
from retrodict.spaces import ActionSpace

SPACE = ActionSpace(
    (
        categorical("move", ("left", "right", "stay"), [("left", "stay")]),
        Segment("keys", "binary", ("jump", "fire")),
        continuous("arm", ("x", "y"), -0.1, 0.2, unit="m", relative=True, tolerance=0.05),
    )
)


def test_what_is_written_is_read_and_is_plain(tmp_path: Path) -> None:
    path = tmp_path / "actions.json"
    path.write_text(json.dumps(schema_json(SPACE)))
    assert read_schema(path) == SPACE
    assert schema_json(SPACE)["segments"][2] == {
        "name": "arm", "kind": "continuous", "values": ["x", "y"], "unit": "m", "range": [-0.1, 0.2], "relative": True,
        "tolerance": 0.05,
    }  # fmt: skip
    short = {"segments": [{"name": "a", "kind": "continuous", "values": ["a"]}]}
    path.write_text("\ufeff" + json.dumps(short))
    assert read_schema(path) == ActionSpace((continuous("a", ("a",)),))


GOOD: dict[str, Any] = {"name": "arm", "kind": "continuous", "values": ["x"]}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("", "cannot be read as an action schema"),
        ("[" * 100_000, "cannot be read as an action schema"),
        ("[]", r'expected \{"segments"'),
        ({"segments": {}}, r'expected \{"segments"'),
        ({"segments": []}, "needs distinctly named segments"),
        ({"segments": [GOOD], "segment": []}, "named 'segment'. Did you mean 'segments'"),
        ({"segments": ["arm"]}, "a segment needs name, kind and values; got 'arm'"),
        ({"segments": [{"name": "arm", "kind": "continuous"}]}, "a segment needs name, kind and values"),
        ({"segments": [GOOD | {"tolerence": 1}]}, "named 'tolerence'. Did you mean 'tolerance'"),
        ({"segments": [GOOD | {"kind": "continous"}]}, "named 'continous'. Did you mean 'continuous'"),
        ({"segments": [GOOD | {"values": "x"}]}, "'arm': values cannot be 'x'"),
        ({"segments": [GOOD | {"values": [1]}]}, r"'arm': values cannot be \[1\]"),
        ({"segments": [GOOD | {"values": ["x", "x"]}]}, "needs distinct value names"),
        ({"segments": [GOOD | {"name": 3}]}, "name cannot be 3"),
        ({"segments": [GOOD | {"range": [1, 0]}]}, r"range cannot be \[1, 0\]"),
        ({"segments": [GOOD | {"range": [0, 1, 2]}]}, "range cannot be"),
        ({"segments": [GOOD | {"range": [0, True]}]}, "range cannot be"),
        ({"segments": [GOOD | {"relative": "yes"}]}, "relative cannot be 'yes'"),
        ({"segments": [GOOD | {"tolerance": 0}]}, "tolerance cannot be 0"),
        ({"segments": [GOOD | {"unit": None}]}, "unit cannot be None"),
        ({"segments": [GOOD | {"kind": "categorical", "range": [0, 1]}]}, "only a continuous one has 'range'"),
        ({"segments": [GOOD | {"kind": "categorical", "indistinguishable": [["y"]]}]}, "'y'"),
        ({"segments": [GOOD, GOOD]}, "needs distinctly named segments"),
    ],
)
def test_a_wrong_schema_is_refused_with_what_is_wrong(tmp_path: Path, told: object, words: str) -> None:
    path = tmp_path / "actions.json"
    path.write_text(told if isinstance(told, str) else json.dumps(told))
    with pytest.raises(UnusableInput, match=rf"actions\.json.*{words}"):
        read_schema(path)


def test_labels_of_a_schema_have_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("file,frame,move,keys,arm.x,arm.y\na.mp4,0,stay,jump+fire,0.5,-1\na.mp4,1,0,none,0,0\n")
    rows = read_labels(path, SPACE).rows
    assert [list(row.vector) for row in rows] == [[0, 0, 1, 1, 1, 0.5, -1], [1, 0, 0, 0, 0, 0, 0]]
    path.write_text("file,frame,move,keys,arm.x\na.mp4,0,stay,none,0.5\n")
    with pytest.raises(UnusableInput, match=r"line 1: columns for the action segments \['arm'\] are missing"):
        read_labels(path, SPACE)


def test_choices_are_counted_whatever_their_type_holds_and_huge_numbers_are_none(tmp_path: Path) -> None:
    assert infer_space(np.array([0, 255], np.uint8)).width == 256
    assert infer_space(np.array([3, 127], np.int8)).width == 128
    told = {"name": "x", "kind": "continuous", "values": ["x"], "tolerance": 10**400}
    (tmp_path / "schema.json").write_text(json.dumps({"segments": [told]}))
    with pytest.raises(UnusableInput, match="tolerance cannot be 1000"):
        read_schema(tmp_path / "schema.json")


def test_an_inferred_schema_is_kept_beside_the_dataset_and_a_corrected_one_stays(tmp_path: Path) -> None:
    told = keep_schema(SPACE, tmp_path / "D")
    assert told[2] == "arm: continuous, x, y, relative, -0.1..0.2 m"
    path = schema_file(tmp_path / "D")
    assert path.name == "D.actions.json"
    assert read_schema(path) == SPACE
    assert keep_schema(SPACE, tmp_path / "D") == told
    path.write_text("{}")
    assert "says otherwise" in keep_schema(SPACE, tmp_path / "D")[-1]
    assert path.read_text() == "{}"


@pytest.mark.parametrize(
    ("actions", "kinds", "rows"),
    [
        (np.array([2, 0]), ["categorical"], [[0, 0, 1], [1, 0, 0]]),
        (np.array([[1, 2], [0, 0]]), ["categorical", "categorical"], [[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]]),
        (np.array([[1, 0], [0, 0]]), ["binary"], [[1, 0], [0, 0]]),
        (np.array([True, False]), ["binary"], [[1], [0]]),
        (np.array([[0.5, -2], [0, 0]]), ["continuous"], [[0.5, -2], [0, 0]]),
    ],
)
def test_recorded_actions_say_what_they_are(actions: np.ndarray, kinds: list[str], rows: list[list[float]]) -> None:
    space = infer_space(actions)
    assert [segment.kind for segment in space.segments] == kinds
    assert lay_out(actions, space).tolist() == rows


def test_the_range_of_recorded_numbers_is_theirs() -> None:
    segment = infer_space(np.array([[5.0], [7.5]])).segments[0]
    assert (segment.low, segment.high) == (5.0, 7.5)


def test_recorded_actions_that_fit_no_space_are_refused() -> None:
    for actions, words in (([-1, 0], "numbered 0"), ([np.nan], "not finite"), ([0.5, 1e300], "beyond 32 bits")):
        with pytest.raises(UnusableInput, match=words):
            infer_space(np.array(actions))
    three = ActionSpace((categorical("a", ("0", "1", "2")),))
    for wrong, words in (
        (np.array([3]), r"numbers 0\.\.2"),
        (np.array([0.5]), r"numbers 0\.\.2"),
        (np.zeros((2, 2)), "2 columns"),
    ):
        with pytest.raises(UnusableInput, match=words):
            lay_out(wrong, three)
