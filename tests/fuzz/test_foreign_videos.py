"""Z1, of videos of others: damaged ones are refused by name, or have the frames and times that they announce."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from clips import FPS, SIDE, videos
from mutants import count, mutant

from retrodict.data import takes
from retrodict.data.guarded import Decoder
from retrodict.data.importers import Intake, import_data
from retrodict.data.takes import Reel, Take
from retrodict.errors import Undecodable

__all__ = ["videos"]  # a fixture
PER_FOLDER = 25
HUNG = ("no progress", "SIGXCPU")


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Decoder:
    """A decoder that gives a file five seconds, used by all that reads frames."""
    decoder = Decoder(seconds=5.0)
    monkeypatch.setattr(takes, "decoder", decoder)
    return decoder


def shown(guard: Decoder, path: Path) -> tuple[list[float], list[float]]:
    """The times of the frames that a file announces, and of those that it decodes to, in seconds."""
    facts = guard.facts(path)
    whole = Take((Reel(path, facts, facts.times),))
    pixels = np.concatenate(list(whole.pixels(np.arange(facts.frames), (SIDE, SIDE))))
    times = np.concatenate([times for _, times in guard.frames(path, -1e9)])
    assert len(pixels) == facts.frames
    return list(facts.times), times.tolist()


def fate(guard: Decoder, path: Path) -> str:
    for _ in range(2):  # a file that hangs does so twice; a machine that is busy does not
        try:
            announced, decoded = shown(guard, path)
            assert np.allclose(announced, decoded, atol=1e-4)
            return "whole"
        except Undecodable as error:
            if error.file == path and not any(word in error.why for word in HUNG):
                return "refused"
    return "hung"


def test_what_is_not_refused_has_the_frames_and_times_that_it_announces(
    tmp_path: Path, videos: dict[str, bytes], guard: Decoder
) -> None:
    names, outcomes = list(videos), Counter[str]()
    for number in range(count(10_000)):
        name, other = names[number % len(names)], names[(number + 1) % len(names)]
        path = tmp_path / f"mutant{Path(name).suffix}"
        path.write_bytes(mutant(videos[name], videos[other], name, number))
        outcomes[outcome := fate(guard, path)] += 1
        assert outcome != "hung", f"mutant {number} of {name}"
    print(dict(outcomes))
    assert min(outcomes["whole"], outcomes["refused"]) > sum(outcomes.values()) / 10


def test_an_import_names_damaged_videos_and_keeps_the_rest(
    tmp_path: Path, videos: dict[str, bytes], guard: Decoder
) -> None:
    names, outcomes = list(videos), Counter[str]()
    for folder in range(count(2_000) // PER_FOLDER):
        source = tmp_path / str(folder)
        source.mkdir()
        (source / "sound.mp4").write_bytes(videos["h264.mp4"])
        for number in range(folder * PER_FOLDER, (folder + 1) * PER_FOLDER):
            name, other = names[number % len(names)], names[(number + 1) % len(names)]
            (source / f"{number}.{name}").write_bytes(mutant(videos[name], videos[other], "import", number))
        done = import_data(source, tmp_path / f"D{folder}", Intake(fps=FPS, fit=(SIDE, SIDE)))
        assert {fate.file for fate in done.fates} == {path.name for path in source.iterdir()}
        kept = [fate.file for fate in done.fates if fate.what != "refused"]
        assert "sound.mp4" in kept
        assert sorted(kept) == sorted(done.store.ids)
        for id in done.store.ids:
            facts = guard.facts(source / id)
            take = Take((Reel(source / id, facts, facts.times),))
            assert np.allclose(done.store.read(id).times[0].numpy(), take.grid(FPS)[1])  # type: ignore[index]
        outcomes += Counter(fate.what for fate in done.fates)
    print(dict(outcomes))
    assert outcomes["refused"] > 0
