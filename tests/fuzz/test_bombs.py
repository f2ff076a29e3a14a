"""Z4: a video that asks for very much costs little: it is refused by name, or gives the few frames that it has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bombs import BOMBS, LENGTH, sample
from data_samples import variable

from retrodict.data.guarded import Decoder
from retrodict.data.importers import Intake, import_data
from retrodict.errors import Undecodable, UnusableInput

HARMLESS = {"16k x 16k, said by mp4", "10^9 frames, by their times", "10^9 chunks", "a time scale of zero"}
GUARD = Decoder(memory=300 << 20, seconds=10.0)


def shown(path: Path) -> int:
    """How many frames a file has, which are those that it announces."""
    facts = GUARD.facts(path)
    times = np.concatenate([times for _, times in GUARD.frames(path, -1e9)])
    assert np.allclose(times, facts.times, atol=1e-4)
    return len(times)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_does_not_go_off(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bomb.mp4"
    BOMBS[name](path)
    assert path.stat().st_size < 2 << 20
    if name in HARMLESS:  # what is said twice is believed where it is right
        assert 1 <= shown(path) <= LENGTH
        return
    with pytest.raises(Undecodable) as caught:
        shown(path)
    assert caught.value.file == path
    assert "no progress" not in caught.value.why
    assert "SIG" not in caught.value.why


def test_the_sample_of_the_bombs_is_sound(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(sample())
    assert shown(tmp_path / "a.mp4") == LENGTH


def test_a_folder_of_bombs_costs_nothing_but_their_names(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for number, name in enumerate(BOMBS):
        if name not in HARMLESS and "playlist" not in name:
            BOMBS[name](tmp_path / f"v/{number}.mp4")
    (tmp_path / "v/sound.mp4").write_bytes(sample())
    done = import_data(tmp_path / "v", tmp_path / "D", Intake(fps=10, fit=(64, 64)))
    assert {fate.file: fate.what for fate in done.fates if fate.what != "refused"} == {"sound.mp4": "images"}
    assert dict(done.store.lengths) == {"sound.mp4": LENGTH}


@pytest.mark.parametrize("first", [-3, -1000])
def test_times_before_zero_are_times_like_others(tmp_path: Path, first: int) -> None:
    (tmp_path / "v").mkdir()
    path = variable(tmp_path / "v/a.mkv", [first, first + 1, first + 2, first + 3], height=64, width=64)
    assert shown(path) == 4
    store = import_data(tmp_path / "v", tmp_path / "D", Intake()).store
    assert store.read("a.mkv").times[0].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3])  # type: ignore[index]


def test_frames_that_lie_hours_apart_are_not_repeated_without_end(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    variable(tmp_path / "v/late.mkv", [0, 1, 2, 3, 10_000_000], height=64, width=64)
    with pytest.raises(UnusableInput, match=r"late\.mkv: its 5 frames lie within 1e\+06 s, which at 10 frames/s"):
        import_data(tmp_path / "v", tmp_path / "D", Intake(fps=10))
    assert not (tmp_path / "D").exists()
