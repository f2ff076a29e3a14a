"""Z7: what misaligns actions and frames is converted or refused: a square's place is the sum of its actions."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from test_formats import MOVES, SIDE, places, square

from retrodict.data.importers import Intake, import_data
from retrodict.data.store import Store
from retrodict.errors import UnusableInput
from retrodict.rng import numpy_rng
from retrodict.segments import continuous
from retrodict.spaces import ActionSpace

SPACE = ActionSpace((continuous("move", ("x", "y"), -9.0, 9.0, unit="square", relative=True),))
LENGTH, TENTH = 40, Fraction(1, 10)
NTSC = Fraction(1001, 30_000)
DROPPED = [t for t in range(LENGTH) if t not in (5, 6, 17, 30)]
VARIABLE = np.cumsum(numpy_rng("ticks").integers(1, 4, LENGTH)).tolist()
# When frames are shown: ticks, and seconds of a tick; at which rate they are imported (None: their own).
TIMES: dict[str, tuple[list[int], Fraction, int | None]] = {
    "steady": (list(range(LENGTH)), TENTH, None),
    "29.97": (list(range(LENGTH)), NTSC, None),
    "29.97, halved": (list(range(LENGTH)), NTSC, 15),
    "dropped frames": (DROPPED, TENTH, 10),
    "variable rate": (VARIABLE, TENTH, 10),
    "variable rate, slower": (VARIABLE, TENTH, 3),
    "starts late": (list(range(7, 7 + LENGTH)), TENTH, None),
    "every second frame": (list(range(LENGTH)), TENTH, 5),
}


def timed(path: Path, frames: np.ndarray, ticks: list[int], tick: Fraction) -> None:
    """Writes frames shown at the given multiples of a tick (seconds)."""
    with av.open(str(path), "w") as box:
        stream = box.add_stream("libx264", rate=round(1 / tick), options={"bf": "0", "crf": "10"})
        stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.time_base = stream.codec_context.time_base = tick
        for at, pixels in zip(ticks, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = at, tick
            box.mux(stream.encode(frame))
        box.mux(stream.encode())


def labelled(folder: Path, key: str, rows: list[tuple[float, np.ndarray]]) -> Path:
    lines = [f"file,{key},move.x,move.y", *(f"a.mkv,{at!r},{move[0]},{move[1]}" for at, move in rows)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


def recovered(store: Store, least: float) -> None:
    """Every action that counts as recorded is what its two frames show, and most steps have one."""
    (id,) = store.ids
    clip = store.read(id)
    assert clip.frames is not None
    assert clip.actions is not None
    known = clip.known[0].numpy()
    assert np.array_equal(np.diff(places(clip.frames), axis=0)[known], clip.actions[0].numpy()[known])
    assert known.mean() >= least


@pytest.mark.parametrize("key", ["frame", "time", "log"])
@pytest.mark.parametrize("name", TIMES)
def test_the_place_of_a_square_is_the_sum_of_its_actions(tmp_path: Path, name: str, key: str) -> None:
    ticks, tick, fps = TIMES[name]
    span = ticks[-1] - ticks[0] + 1
    path, chosen = square(span, 3)  # the square moves at every tick, whether a frame shows it or not
    shown = np.array(ticks) - ticks[0]
    (tmp_path / "v").mkdir()
    timed(tmp_path / "v/a.mkv", path[shown], ticks, tick)
    place = np.concatenate([[[0, 0]], np.cumsum(MOVES[chosen], 0)])
    between = np.diff(place[shown], axis=0)  # from each frame to the next
    if key == "log":  # four rows to a tick, one of which holds what moved
        rows = [
            ((t + part / 4) * float(tick), MOVES[chosen[t]] * (part == 1)) for t in range(span) for part in range(4)
        ]
    else:
        at = np.arange(len(shown)) if key == "frame" else (shown * float(tick))
        rows = list(zip(at.tolist(), between, strict=False))
    labels = labelled(tmp_path, "time" if key == "log" else key, rows)
    done = import_data(tmp_path / "v", tmp_path / "D", Intake(labels=labels, space=SPACE, fps=fps))
    recovered(done.store, 0.3 if fps == 10 else 0.9)


@pytest.mark.parametrize("name", ["29.97", "variable rate", "dropped frames"])
def test_a_rate_that_is_not_steady_is_said_before_anything_is_written(tmp_path: Path, name: str) -> None:
    ticks, tick, fps = TIMES[name]
    (tmp_path / "v").mkdir()
    timed(tmp_path / "v/a.mkv", square(len(ticks), 0)[0], ticks, tick)
    if fps is None:  # 29.97 frames a second are kept one to one, at their own times
        store = import_data(tmp_path / "v", tmp_path / "D", Intake()).store
        assert (store.schema.fps, store.lengths["a.mkv"]) == (30, LENGTH)
        assert np.allclose(store.read("a.mkv").times[0].numpy(), np.arange(LENGTH) * float(tick), atol=1e-3)  # type: ignore[index]
        return
    with pytest.raises(UnusableInput, match="variable number of frames/s"):
        import_data(tmp_path / "v", tmp_path / "D", Intake())
    assert not (tmp_path / "D").exists()


def test_an_action_to_every_frame_is_refused_whether_it_leads_to_it_or_from_it(tmp_path: Path) -> None:
    """T actions of T frames: one leads nowhere. Where the first is zero, each led to its frame."""
    frames, chosen = square(LENGTH, 3)
    (tmp_path / "v").mkdir()
    timed(tmp_path / "v/a.mkv", frames, list(range(LENGTH)), TENTH)
    for actions in (MOVES[chosen], np.concatenate([[[0, 0]], MOVES[chosen[:-1]]])):
        labels = labelled(tmp_path, "frame", list(enumerate(actions)))
        with pytest.raises(UnusableInput, match=r"line 41: frame 39 is the last frame of a\.mkv; an action leads from"):
            import_data(tmp_path / "v", tmp_path / "D", Intake(labels=labels, space=SPACE))
    assert not (tmp_path / "D").exists()
