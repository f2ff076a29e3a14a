"""A look at a folder of videos before any label: what it holds, what is refused, and what labelling it will cost.

Headers of all files are read; pictures of a sample only, so cuts and costs are estimates, and are told as such.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from retrodict.clip import Clip
from retrodict.data import takes
from retrodict.data.cache import resize
from retrodict.data.importers import find_kind
from retrodict.data.lerobot import encode_png
from retrodict.data.recordings import Fate
from retrodict.data.schema import IMAGE_PIXELS, Schema
from retrodict.data.takes import Take
from retrodict.data.video_folder import CAMERA, find_shots
from retrodict.errors import Undecodable, UnusableInput
from retrodict.label.job import seen_size
from retrodict.label.symptoms import cuts
from retrodict.models.inverse import Inverse
from retrodict.nn.conv import patch_for
from retrodict.roles import View
from retrodict.spaces import UNKNOWN

LOOKED_AT, STRETCH = 3000, 64  # frames of the sample, in stretches of so many
TIMED, TIMED_TAKES = 96, 3  # frames that are timed from the start of so many takes


def survey(folder: Path) -> dict[str, Any]:
    """Returns a report of plain JSON values on a folder of videos.

    `estimates` are drawn from a sample: `cuts_per_hour`; hours and GB that importing takes, hours that one pass of a
    small inverse model over all frames takes, and GB of the cache that training reads.

    Raises:
        UnusableInput: the folder holds no video.
    """
    kind, files, fates = find_kind(folder)
    if kind not in ("videos", "vpt"):
        raise UnusableInput(f"{folder} holds {kind}; import it with retrodict data import, and check the dataset")
    shots, refused = find_shots(folder, files, {}, False)
    fates += refused
    if not shots:
        raise UnusableInput(f"{folder} holds no usable video: " + "; ".join(f"{f.file}: {f.reason}" for f in fates))
    found = [shot.takes[0] for shot in shots]
    hours = [float(take.times[-1] + 1 / take.rate) / 3600 for take in found]
    looks: dict[tuple[str, str], float] = {}
    for take, length in zip(found, hours, strict=True):
        look = f"{take.facts.width}x{take.facts.height}", str(take.whole_rate or "a variable number of")
        looks[look] = looks.get(look, 0.0) + length
    count, share, broken = _cuts(folder, found)
    fates += broken
    return {
        "folder": str(folder), "kind": kind, "episodes": len(found), "files": sum(len(shot.files) for shot in shots),
        "frames": sum(take.frames for take in found), "hours": sum(hours),
        "looks": [{"size": size, "fps": fps, "hours": length} for (size, fps), length in looks.items()],
        "joined": [list(shot.files) for shot in shots if len(shot.files) > 1],
        "refused": [asdict(fate) for fate in fates if fate.what == "refused"],
        "estimates": {"looked_at": share, "cuts_per_hour": count / (share * sum(hours)), **_costs(found)},
    }  # fmt: skip


def told(report: dict[str, Any]) -> list[str]:
    """Returns a report in words."""
    guess = report["estimates"]
    looks = "; ".join(f"{look['size']} at {look['fps']} frames/s, {look['hours']:.2f} h" for look in report["looks"])
    return [
        *(f"refused: {fate['file']}: {fate['reason']}" for fate in report["refused"]),
        *(f"one recording: {' + '.join(names)}" for names in report["joined"]),
        f"{report['episodes']} episodes, {report['frames']} frames, {report['hours']:.2f} h: {looks}",
        f"estimated from a sample ({guess['looked_at']:.0%} of the frames):",
        f"  cuts: {guess['cuts_per_hour']:.0f} an hour"
        + (" (a step across a cut has no action: cut the video there)" if guess["cuts_per_hour"] else ""),
        f"  import: {guess['import_hours']:.2g} h and {guess['import_gb']:.2g} GB of disk",
        f"  label: {guess['label_hours']:.2g} h over all frames, {guess['cache_gb']:.2g} GB of cache; training comes "
        "on top, and takes as long for one hour of video as for many",
    ]


def _cuts(folder: Path, found: Sequence[Take]) -> tuple[int, float, list[Fate]]:
    """Counts the cuts in a sample; returns also its share of all frames, and the fates of files that break there."""
    total = sum(take.frames for take in found)
    count = looked = 0
    broken: dict[str, Fate] = {}
    for take in found:
        for part in _stretches(take, min(1.0, LOOKED_AT / total)):
            try:
                count += len(cuts(part.motion(np.arange(part.frames))))
                looked += part.frames
            except Undecodable as error:
                name = error.file.relative_to(folder).as_posix()
                broken[name] = Fate(name, None, "refused", error.why)
    return count, max(looked, 1) / total, list(broken.values())


def _stretches(take: Take, share: float) -> Iterator[Take]:
    """Yields about this share of a take's frames, in runs that lie evenly over it."""
    for reel in take.reels:
        total = len(reel.times)
        size = total if share == 1 else min(STRETCH, total)
        for start in np.linspace(0, total - size, max(1, round(total * share / size))).astype(int).tolist():
            yield Take((replace(reel, times=reel.times[start : start + size]),))


def _costs(found: Sequence[Take]) -> dict[str, float]:
    """Times importing and answering the first frames of some takes, and scales that up to all frames."""
    sums = np.zeros(4)
    for number in sorted({*np.linspace(0, len(found) - 1, TIMED_TAKES).astype(int).tolist()}):
        with suppress(Undecodable):  # told among the refused, as the same frames were looked at for cuts
            sums += _timed(found[number])
    if not sums[0]:
        raise UnusableInput("none of the files that were tried can be decoded; retrodict data import names each")
    total = sum(take.frames for take in found)
    seconds, answering, size = (sums[1:] * total / sums[0]).tolist()
    height, width = seen_size((found[0].facts.height, found[0].facts.width))
    return {
        "import_hours": seconds / 3600, "import_gb": size / 1e9, "label_hours": answering / 3600,
        "cache_gb": total * 3 * height * width / 1e9,
    }  # fmt: skip


def _timed(take: Take) -> tuple[int, float, float, float]:
    """Returns how many first frames were timed, seconds to import them and to answer them, and bytes they take."""
    size, fps = (take.facts.height, take.facts.width), take.whole_rate or max(1, round(take.rate))
    schema = Schema(UNKNOWN, {CAMERA: (*size, 3)}, fps, max(size) > IMAGE_PIXELS)
    way, _ = take.way(schema)
    reel = take.reels[0]
    part = Take((replace(reel, times=reel.times[:TIMED]),))
    marks = [time.perf_counter()]
    pixels = np.concatenate(list(part.pixels(np.arange(part.frames), size)))
    marks.append(time.perf_counter())
    stored = reel.path.stat().st_size / reel.facts.frames * part.frames if way == "remuxed" else 0.0
    if not schema.video:
        stored = float(sum(map(len, map(encode_png, pixels))))
    elif way == "re-encoded":
        with TemporaryDirectory() as folder:
            takes.encode(part, Path(folder) / "part.mp4", schema)  # decodes too, as the check of the result will
            stored = float((Path(folder) / "part.mp4").stat().st_size)
    marks.append(time.perf_counter())
    frames = resize(torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))), seen_size(size))
    seen = (int(frames.shape[2]), int(frames.shape[3]))
    with torch.no_grad():
        Inverse(View(size=seen), UNKNOWN, patch=patch_for(seen)).infer(Clip(frames=frames[None]))
    marks.append(time.perf_counter())
    decoding, encoding, answering = np.diff(marks).tolist()
    return part.frames, decoding + encoding, decoding + answering, stored
