"""Labels in time: logs summed up by kind, and clocks of their own found from motion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_samples import write

from retrodict.clip import MISSING, RECORDED
from retrodict.data.importers import Intake, import_data
from retrodict.data.label_file import Labels, read_labels
from retrodict.data.label_steps import Timing, clock_offset, label_steps, log_steps
from retrodict.errors import UnusableInput
from retrodict.rng import numpy_rng
from retrodict.segments import Segment, categorical, continuous
from retrodict.spaces import ActionSpace

KINDS = ActionSpace(
    (
        categorical("move", ("left", "right")),
        Segment("keys", "binary", ("a", "b")),
        continuous("aim", ("x",), -9, 9),
        continuous("mouse", ("dx", "dy"), -9, 9, relative=True),
    )
)
RELATIVE = ActionSpace((continuous("turn", ("dx",), relative=True),))
HEADER = "file,time,move,keys,aim,mouse.dx,mouse.dy\n"


def labels(tmp_path: Path, text: str, space: ActionSpace | None = KINDS) -> Labels:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return read_labels(path, space)


def test_a_log_is_summed_up_by_kind(tmp_path: Path) -> None:
    """Ten a second into steps of 0.5 s: any key, the last choice and absolute value, the sum of changes."""
    rows = [
        f"a.mp4,{i / 10},{'left' if i < 7 else 'right'},{'a' if i == 2 else 'none'},{i},{i},{-1}" for i in range(17)
    ]
    log = labels(tmp_path, HEADER + "\n".join(rows))
    shown = np.arange(5) / 2  # until 2.0 s; the log ends within the fourth step
    actions, source = label_steps(log, [log.rows], Timing.plain(shown))
    assert source.tolist() == [[RECORDED, RECORDED, RECORDED, MISSING]]
    assert actions[0].tolist() == [
        [1, 0, 1, 0, 4, 0 + 1 + 2 + 3 + 4, -5],
        [0, 1, 0, 0, 9, 5 + 6 + 7 + 8 + 9, -5],
        [0, 1, 0, 0, 14, 10 + 11 + 12 + 13 + 14, -5],
        [0] * 7,
    ]


def test_a_step_that_a_log_does_not_cover_is_missing(tmp_path: Path) -> None:
    times = [i / 10 for i in range(40) if not 11 <= i < 19]  # 0.8 s were lost
    log = labels(tmp_path, HEADER + "\n".join(f"a.mp4,{0.3 + t:.3f},left,none,0,1,0" for t in times))
    shown = np.arange(8) / 2
    actions, source = label_steps(log, [log.rows], Timing.plain(shown))
    assert source.tolist() == [[MISSING, RECORDED, MISSING, MISSING, MISSING, RECORDED, RECORDED]]
    assert actions[0, :, 5].tolist() == [0, 5, 0, 0, 0, 5, 5]


def test_changes_logged_less_often_than_frames_come_are_refused(tmp_path: Path) -> None:
    times, values = walk(3, 120, 2)
    slow = labels(
        tmp_path, "file,time,turn\n" + "\n".join(f"a.mp4,{t},{v}" for t, v in zip(times, values, strict=True)), RELATIVE
    )
    shown = np.arange(400) / 4
    motion = np.abs(np.interp(shown[:-1] + 0.125, times, values))
    with pytest.raises(UnusableInput, match=r"logged every 0\.5 s, and frames come every 0\.25 s; .*--fps 2"):
        log_steps(slow, slow.rows, shown, lambda first, last: motion[first : last - 1])


def test_frames_that_are_resampled_take_all_their_labels(tmp_path: Path) -> None:
    text = "file,frame,move,keys,aim,mouse\n"
    path = tmp_path / "labels.jsonl"
    rows = [
        {"file": "a.mp4", "frame": i, "move": "left", "keys": [i == 1, 0], "aim": i, "mouse": [1, i]} for i in range(5)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    frames = read_labels(path, KINDS)
    times = np.arange(7) / 10
    actions, source = label_steps(frames, [frames.rows], Timing((times,), (0.0,), np.array([0, 2, 4, 6]), times[::2]))
    assert source.tolist() == [[RECORDED, RECORDED, MISSING]]  # a change of 0.2 s needs both its labels
    assert actions[0, :2, 2:].tolist() == [[1, 0, 1, 2, 1], [0, 0, 3, 2, 5]]
    assert text  # the same columns as in CSV


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
def test_the_same_labels_in_three_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels{suffix}"
    rows = [
        {"file": "a.mp4", "frame": 3, "action": "left", "speed": 0.5, "gear": 2},
        {"file": "b.mp4", "frame": 0, "action": "right", "speed": -1.0, "gear": 0},
    ]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        path.write_text("file,frame,action,speed,gear\na.mp4,3,left,0.5,2\nb.mp4,0,right,-1.0,0\n")
    read = read_labels(path)
    assert [segment.kind for segment in read.space.segments] == ["categorical", "continuous", "categorical"]
    assert [(row.file, row.frame, row.vector) for row in read.rows] == [
        ("a.mp4", 3, (1, 0, 0.5, 0, 0, 1)), ("b.mp4", 0, (0, 1, -1.0, 1, 0, 0)),
    ]  # fmt: skip


def test_lists_and_truth_values_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(
        '{"file": "a", "frame": 0, "arm": [1, 2.5], "grip": true}\n\n'
        '{"file": "a", "frame": 1, "arm": [0, 0], "grip": false}\n'
    )
    arm, grip = read_labels(path).space.segments
    assert (arm.kind, arm.width, arm.low, arm.high) == ("continuous", 2, 0.0, 2.5)
    assert (grip.kind, grip.columns) == ("binary", ("grip",))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"file": "a", "frame": 0, "x": 1', "line 1: cannot be read as JSON"),
        ("a.jsonl", b'{"file": "a", "frame": 0, "x": "l"}\n[1]', "line 2: .*list in place of an object"),
        ("a.jsonl", b'{"file": "a", "frame": 0, "x": "l"}\n{"file": "a", "frame": 0}', "line 2: .*keys"),
        ("a.jsonl", b'{"file": "a", "frame": 0, "x": {"y": 1}}', "line 1: .*a dict where"),
        ("a.jsonl", b'{"file": "a", "frame": 0, "x": [1]}\n{"file": "a", "frame": 1, "x": [1, 2]}', "line 2: x has 2"),
        ("a.jsonl", b'{"file": "a", "frame": 0, "x": NaN}', "line 1: x is nan"),
        ("a.jsonl", b'{"file": "a", "frame": 0, "x": [1e999]}', "line 1: x is inf"),
        ("a.jsonl", b'{"file": "a", "frame": 0, "x": "l"}\n{"file": "a", "frame": 1, "x": [2]}', "line 2: x is"),
        ("a.jsonl", b'{"file": null, "frame": 0, "x": "l"}', "line 1: file is empty"),
        ("a.jsonl", b'{"file": "a", "frame": null, "x": "l"}', "line 1: invalid literal"),
        ("a.jsonl", b"[" * 100_000, "line 1: cannot be read"),
        ("a.jsonl", b"\x80\x04\x95", "cannot be read"),
        ("a.jsonl", b"", "holds no labels"),
        ("a.parquet", b"PAR1" + bytes(40) + b"PAR1", "cannot be read as a Parquet file"),
        ("a.parquet", b"", "cannot be read as a Parquet file"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnusableInput, match=words):
        read_labels(tmp_path / name)


def test_nulls_and_pictures_in_parquet_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for value, words in ((None, "line 2: x is empty"), (b"png", "cannot be read as a Parquet file")):
        column = pa.array(["l", value] if value is None else [value, value])
        pq.write_table(pa.table({"file": ["a", "a"], "frame": [0, 1], "x": column}), path)
        with pytest.raises(UnusableInput, match=words):
            read_labels(path)


@pytest.mark.parametrize(("value", "words"), [("w+x", "no key of segment 'keys' named 'x'"), ("1", "takes 2 numbers")])
def test_keys_are_named_or_each_is_0_or_1(tmp_path: Path, value: str, words: str) -> None:
    space = ActionSpace((Segment("keys", "binary", ("w", "a")),))
    text = "file,frame,keys\na,0,w+a\na,1,none\na,2,"
    assert [row.vector for row in labels(tmp_path, text + "a", space).rows] == [(1, 1), (0, 0), (0, 1)]
    with pytest.raises(UnusableInput, match=f"line 4: .*{words}"):
        labels(tmp_path, text + value, space)


def walk(seed: int, seconds: float, hertz: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of an actor who moves and rests for spans of about a second."""
    rng = numpy_rng(seed, "walk")
    count = int(seconds * hertz)
    spans = rng.choice([-1.0, 0.0, 1.0], count)[np.cumsum(rng.random(count) < 1 / hertz)]
    return np.arange(count) / hertz, spans


CHOICES = ActionSpace((categorical("move", ("left", "stay", "right")),))


def seen(times: np.ndarray, values: np.ndarray, ahead: float, fps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames' times, and how much the picture of such an actor changes, with noise; the log's clock is ahead."""
    shown = np.arange(int((times[-1] - 12) * fps)) / fps
    moving = np.interp(shown[:-1] + ahead, times, np.abs(values)) * 3
    return shown, moving + numpy_rng(seed, "noise").random(len(moving))


@pytest.mark.parametrize("ahead", [-7.3, -0.61, 0.0, 2.45, 9.2])
@pytest.mark.parametrize("space", [RELATIVE, CHOICES], ids=["relative", "choices"])
def test_the_clock_of_a_log_is_found_within_half_a_frame(ahead: float, space: ActionSpace) -> None:
    times, values = walk(1, 90, 100)
    times = times - 10  # the log starts before the video, on whichever clock
    shown, motion = seen(times, values, ahead, 20, 2)
    columns = values[:, None] if space is RELATIVE else np.eye(3)[(values + 1).astype(int)]
    assert clock_offset(space, times, columns, shown, motion) == pytest.approx(ahead, abs=0.03)


def test_a_clock_is_not_found_where_there_is_nothing_to_find() -> None:
    """Of 12 logs of other videos none is matched; nor is one that repeats itself, or a picture that stands still."""
    found = 0
    for seed in range(12):
        times, values = walk(seed, 60, 50)
        shown, motion = seen(*walk(seed + 100, 60, 50), 0.0, 20, seed)
        try:
            clock_offset(RELATIVE, times, values[:, None], shown, motion)
        except UnusableInput:
            continue
        found += 1
    assert found == 0
    times = np.arange(3000) / 50
    again = np.sin(times * 2 * np.pi / 2)
    shown, motion = seen(times, again, 1.0, 20, 0)
    with pytest.raises(UnusableInput, match="no offset within 10 s"):
        clock_offset(RELATIVE, times, again[:, None], shown, motion)
    with pytest.raises(UnusableInput, match="no offset within 10 s"):
        clock_offset(RELATIVE, times, again[:, None], shown, np.zeros_like(motion))


def test_a_log_on_its_own_clock_labels_its_video(tmp_path: Path) -> None:
    """A square is moved by a log of 100 Hz whose clock counts from another day; each step gets its own sum."""
    fps, hertz, ahead = 20, 100, 1.7e9 + 3.4
    _, speed = walk(5, 40, hertz)
    speed = speed * 80 / hertz  # pixels each line
    place = np.concatenate([[0.0], np.cumsum(speed)])
    count = 30 * fps
    at = place[(np.arange(count) * hertz) // fps + 3 * hertz]  # the video starts 3 s into the log
    frames = np.full((count, 32, 160, 3), 30, np.uint8)
    for frame, x in zip(frames, at, strict=True):
        left = round(80 + x) % 140
        frame[8:24, left : left + 16] = (240, 200, 30)
    (tmp_path / "v").mkdir()
    write(tmp_path / "v/a.mp4", frames, fps)
    rows = "".join(f"a.mp4,{ahead - 3 + i / hertz:.3f},{dx}\n" for i, dx in enumerate(speed))
    (tmp_path / "log.csv").write_text("file,time,dx\n" + rows)
    space = ActionSpace((continuous("dx", ("dx",), -2, 2, relative=True),))
    intake = Intake(labels=tmp_path / "log.csv", clock="own", space=space)
    done = import_data(tmp_path / "v", tmp_path / "d", intake)
    assert "clock is +1" in done.fates[0].reason
    clip = done.store.read("a.mp4", frames=False)
    assert clip.actions is not None
    assert clip.source is not None
    assert (clip.source == RECORDED).all()
    wrong = np.abs(clip.actions[0, :, 0].numpy() - np.diff(at))
    assert np.quantile(wrong, 0.9) <= 1.6 + 1e-6  # two lines of the log, where it stops or turns
    with pytest.raises(UnusableInput, match="give --label-clock own"):
        import_data(tmp_path / "v", tmp_path / "e", Intake(labels=tmp_path / "log.csv", space=space))
    assert not (tmp_path / "e").exists()


def test_frames_have_no_clock(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    write(tmp_path / "v/a.mp4", np.zeros((30, 32, 32, 3), np.uint8))
    (tmp_path / "l.csv").write_text("file,frame,action\na.mp4,0,l\n")
    with pytest.raises(UnusableInput, match="line 2: labels on a clock of their own need a time"):
        import_data(tmp_path / "v", tmp_path / "d", Intake(labels=tmp_path / "l.csv", clock="own"))
