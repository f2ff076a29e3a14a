"""Labels from CSV files: what they mean, and every way to be wrong, with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from retrodict.clip import MISSING, RECORDED
from retrodict.data.label_file import Labels, read_labels
from retrodict.data.label_steps import Timing, assign_files, label_steps
from retrodict.errors import UnusableInput
from retrodict.spaces import ActionSpace, categorical


def read(tmp_path: Path, text: str, space: ActionSpace | None = None) -> Labels:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return read_labels(path, space)


def test_a_number_too_large_for_any_float_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(f'{{"file": "a.mp4", "frame": 0, "move": [0, {10**400}]}}\n')
    with pytest.raises(UnusableInput, match="line 1"):
        read_labels(path, None)


def test_names_are_choices_in_alphabetical_order(tmp_path: Path) -> None:
    labels = read(tmp_path, "file,frame,action\na.mp4,0,right\nb.mp4,3,left\n\na.mp4,1,right\n")
    assert labels.space == ActionSpace((categorical("action", ("left", "right")),))
    assert [(row.line, row.file, row.frame) for row in labels.rows] == [
        (2, "a.mp4", 0),
        (3, "b.mp4", 3),
        (5, "a.mp4", 1),
    ]


def test_small_whole_numbers_are_choices_and_others_continuous(tmp_path: Path) -> None:
    labels = read(tmp_path, "action,file,frame,speed,turn\n2,a.mp4,0,0.5,-1\n0,a.mp4,1,-1.5,3\n")
    action, speed, turn = labels.space.segments
    assert (action.kind, action.values) == ("categorical", ("0", "1", "2"))
    assert (speed.kind, speed.low, speed.high, speed.columns) == ("continuous", -1.5, 0.5, ("speed",))
    assert (turn.kind, turn.low, turn.high) == ("continuous", -1.0, 3.0)
    assert labels.space.vector(labels.rows[0].action).tolist() == [0, 0, 1, 0.5, -1.0]


def test_a_spreadsheet_s_mark_and_spaces_are_read_over(tmp_path: Path) -> None:
    labels = read(tmp_path, "\ufefffile , frame,action\r\n a.mp4 ,0, left \r\n")
    assert labels.rows[0].file == "a.mp4"
    assert labels.rows[0].action == {"action": "left"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no labels"),
        ("file,frame,action\n", "no labels"),
        ("file,fram,action\na.mp4,0,left\n", "line 1: a label file needs the columns"),
        ("file,frame,time,action\na.mp4,0,0,left\n", "line 1: a label file needs the columns"),
        ("file,frame\na.mp4,0\n", "line 1: a label file needs the columns"),
        ("file,frame,action,action\na.mp4,0,l,l\n", "line 1: every column needs a name"),
        ("file,frame,action,\na.mp4,0,l,l\n", "line 1: every column needs a name"),
        ("file,frame,action\na.mp4,0,left\na.mp4,1,\n", "line 3: action is empty"),
        ("file,frame,action\na.mp4,0,left\n,1,left\n", "line 3: file is empty"),
        ("file,frame,action\na.mp4,0\n", "line 2: 2 values for the 3 columns"),
        ("file,frame,action\na.mp4,zero,left\n", "line 2: invalid literal"),
        ("file,frame,action\na.mp4,0.5,left\n", "line 2: invalid literal"),
        ("file,time,action\na.mp4,soon,left\n", "line 2: could not convert"),
        ("file,time,action\na.mp4,nan,left\n", "line 2: time is nan"),
        ("file,time,action\na.mp4,-inf,left\n", "line 2: time is -inf"),
        ("file,frame,action\na.mp4,0,1.5\na.mp4,1,nan\n", "line 3: action is nan"),
        ("file,frame,action\na.mp4,0,1.5\na.mp4,1,inf\n", "line 3: action is inf"),
        ('file,frame,action\na.mp4,0,"left\n', "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UnusableInput, match=words):
        read(tmp_path, text)


def test_bytes_that_are_no_text_and_absent_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\x80\x04\x95pickle")
    for name in ("a.csv", "b.csv"):
        with pytest.raises(UnusableInput, match="cannot be read"):
            read_labels(tmp_path / name)


def test_a_given_space_decides_columns_and_values(tmp_path: Path) -> None:
    space = ActionSpace((categorical("action", ("up", "left", "right")),))
    labels = read(tmp_path, "file,frame,action\na.mp4,0,left\na.mp4,1,2\n", space)
    assert [labels.space.vector(row.action).argmax().item() for row in labels.rows] == [1, 2]
    with pytest.raises(UnusableInput, match=r"line 2: .*'lefd'.*'left'"):
        read(tmp_path, "file,frame,action\na.mp4,0,lefd\n", space)
    with pytest.raises(UnusableInput, match=r"line 1: .*'acton'"):
        read(tmp_path, "file,frame,acton\na.mp4,0,left\n", space)


def test_files_are_named_by_path_or_by_a_unique_name(tmp_path: Path) -> None:
    labels = read(tmp_path, "file,frame,action\nx/a.mp4,0,l\nb.mp4,0,r\n")
    assert set(assign_files(labels, ["x/a.mp4", "y/b.mp4", "y/a.mp4"])) == {"x/a.mp4", "y/b.mp4"}
    with pytest.raises(UnusableInput, match=r"line 3: 'b\.mp4' names 2 files"):
        assign_files(labels, ["x/a.mp4", "y/b.mp4", "z/b.mp4"])
    with pytest.raises(UnusableInput, match=r"line 2: .*'x/a.mp4'"):
        assign_files(labels, ["y/b.mp4"])


def steps(labels: Labels, count: int = 5, index: list[int] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    times, chosen = np.arange(count) / 10, np.array(index or range(count))
    return label_steps(labels, [labels.rows], Timing((times,), (0.0,), chosen, times[chosen]))


def test_a_label_at_frame_k_is_the_action_of_step_k(tmp_path: Path) -> None:
    actions, source = steps(read(tmp_path, "file,frame,action\na.mp4,0,l\na.mp4,3,r\na.mp4,3,r\n"))
    assert source.tolist() == [[RECORDED, MISSING, MISSING, RECORDED]]
    assert actions[0].tolist() == [[1, 0], [0, 0], [0, 0], [0, 1]]


@pytest.mark.parametrize(("time", "step"), [("0", 0), ("0.0999", 0), ("0.1", 1), ("0.19", 1), ("0.39", 3)])
def test_a_time_is_the_frame_shown_then(tmp_path: Path, time: str, step: int) -> None:
    _, source = steps(read(tmp_path, f"file,time,action\na.mp4,{time},l\n"))
    assert source[0].nonzero().tolist() == [[step]] or (time == "0.0999" and source[0, 1] == RECORDED)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,frame,action\na.mp4,4,l\n", "line 2: frame 4 is the last frame of a.mp4"),
        ("file,frame,action\na.mp4,5,l\n", "line 2: a.mp4 has frames 0..4"),
        ("file,frame,action\na.mp4,-1,l\n", "line 2: a.mp4 has frames 0..4"),
        ("file,time,action\na.mp4,0.4,l\n", "line 2: time 0.4 s is the last frame"),
        ("file,time,action\na.mp4,0.5,l\n", "line 2: a.mp4 has frames 0..4"),
        ("file,frame,action\na.mp4,1,l\na.mp4,1,r\n", "line 3: a.mp4, frame 1: action = r, but line 2 says action = l"),
    ],
)
def test_a_label_outside_its_file_or_in_conflict_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UnusableInput, match=words):
        steps(read(tmp_path, text))


def test_labels_follow_frames_that_are_resampled(tmp_path: Path) -> None:
    labels = read(tmp_path, "file,frame,action\na.mp4,0,l\na.mp4,1,l\na.mp4,5,r\n")
    _, source = steps(labels, 7, [0, 2, 4, 6])
    assert source.tolist() == [[RECORDED, MISSING, RECORDED]]
    _, doubled = steps(labels, 7, [i // 2 for i in range(14)])
    assert doubled[0].nonzero().ravel().tolist() == [1, 3, 11]  # the step that leaves the frame, not its repetition


def test_numbers_are_normalised_by_what_was_met(tmp_path: Path) -> None:
    """Labels of a few hundred are as learnable as labels below one: mean 100, deviation 200."""
    path = tmp_path / "labels.csv"
    path.write_text("file,frame,speed\na.mp4,0,-100.5\na.mp4,1,300.5\na.mp4,2,-100.5\na.mp4,3,300.5\n")
    (segment,) = read_labels(path).space.segments
    assert (segment.low, segment.high, segment.center, segment.scale) == (-100.5, 300.5, (100.0,), (200.5,))


def test_a_page_of_parquet_that_its_own_checksum_contradicts_is_refused(tmp_path: Path) -> None:
    """Found by damaging label files: the numbers of a changed page were taken for labels."""
    path = tmp_path / "a.parquet"
    rows = {"file": ["a.mp4"] * 64, "frame": list(range(64)), "turn": [t / 7 for t in range(64)]}
    pq.write_table(pa.table(rows), path, write_page_checksum=True, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[data.index(np.float64(5 / 7).tobytes())] ^= 1
    assert len(read_labels(path).rows) == 64
    path.write_bytes(data)
    with pytest.raises(UnusableInput, match=r"a\.parquet cannot be read as a Parquet file"):
        read_labels(path)
