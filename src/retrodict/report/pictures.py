"""Moving pictures of clips with the predicted action, its confidence and the verdict drawn below each frame."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from retrodict.errors import UnusableInput
from retrodict.report.result import visible

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

WIDTH = 256  # pixels a picture is enlarged to, by whole factors
STEP_MS, LAST_MS = 550, 1400  # how long a step and the last frame stay
INK, QUIET, PANEL, FAINT = (244, 246, 248), (159, 171, 184), (18, 24, 31), (54, 64, 75)
RIGHT, WRONG = (79, 209, 192), (255, 150, 92)
ARROWS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "forward": (0, -1), "down": (0, 1), "back": (0, 1)}


@dataclass(frozen=True, slots=True)
class ClipPicture:
    """T frames and what was predicted for the T-1 steps between them.

    `source` is one of missing, recorded, predicted, abstained; an empty `truth` means that nobody knows it.

    Raises:
        UnusableInput: the lengths do not agree, or the frames are not bytes of colour.
    """

    frames: UInt8[np.ndarray, "t h w 3"]
    truth: Sequence[str]
    predicted: Sequence[str]
    confidence: Sequence[float]
    source: Sequence[str]
    title: str = ""

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8 or self.steps < 1:
            raise UnusableInput(
                f"clip {self.title!r} needs uint8 frames [t, h, w, 3] with t >= 2; "
                f"got {self.frames.dtype} {list(self.frames.shape)}"
            )
        lengths = [len(column) for column in (self.truth, self.predicted, self.confidence, self.source)]
        if set(lengths) != {self.steps}:
            raise UnusableInput(
                f"clip {self.title!r} has {self.steps + 1} frames and so needs {self.steps} of each of "
                f"truth, predicted, confidence, source; got {lengths}"
            )

    @property
    def steps(self) -> int:
        """Number of steps, one less than frames."""
        return len(self.frames) - 1

    def verdict(self, step: int) -> str:
        """Returns right, wrong, abstains, recorded, or unknown where there is no truth to compare with."""
        if self.source[step] == "abstained":
            return "abstains"
        if self.source[step] == "recorded":
            return "recorded"
        if self.source[step] == "missing" or not self.truth[step]:
            return "unknown"
        return "right" if self.predicted[step] == self.truth[step] else "wrong"


def moving(clip: ClipPicture) -> str:
    """Returns a looping animated PNG as a data URI: frame t with the action that leads to frame t+1."""
    pictures = [_picture(clip, t) for t in range(clip.steps + 1)]
    buffer = io.BytesIO()
    times = [STEP_MS] * clip.steps + [LAST_MS]
    pictures[0].save(buffer, "PNG", save_all=True, append_images=pictures[1:], duration=times, loop=0)
    return _data_uri(buffer)


def still(clip: ClipPicture, most: int = 4) -> str:
    """Returns a PNG as a data URI for those who want no motion, and for paper: up to `most` steps side by side."""
    from PIL import Image

    chosen = [_picture(clip, round(t)) for t in np.linspace(0, clip.steps - 1, min(most, clip.steps))]
    columns = min(2, len(chosen))
    rows = -(-len(chosen) // columns)
    wide, tall = chosen[0].size
    sheet = Image.new("RGBA", (columns * (wide + 8) - 8, rows * (tall + 8) - 8))
    for i, picture in enumerate(chosen):
        sheet.paste(picture, ((i % columns) * (wide + 8), (i // columns) * (tall + 8)))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return _data_uri(buffer)


def enlarged(frame: UInt8[np.ndarray, "h w 3"], width: int) -> str:
    """Returns a frame as a PNG data URI, enlarged by a whole factor to about a width, so that its pixels stay sharp."""
    from PIL import Image

    factor, buffer = max(1, round(width / frame.shape[1])), io.BytesIO()
    Image.fromarray(frame.repeat(factor, 0).repeat(factor, 1)).save(buffer, "PNG")
    return _data_uri(buffer)


def size(clip: ClipPicture) -> tuple[int, int]:
    """Returns width and height of the moving picture in pixels."""
    return _picture(clip, 0).size


def _data_uri(buffer: io.BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _picture(clip: ClipPicture, t: int) -> Image.Image:
    """Draws frame t above a panel of three rows: action and verdict, confidence, all steps so far and to come."""
    from PIL import Image, ImageDraw

    frame = Image.fromarray(clip.frames[t])
    factor = max(1, round(WIDTH / frame.width))
    wide, tall = frame.width * factor, frame.height * factor
    frame = frame.resize((wide, tall), Image.Resampling.NEAREST)
    if wide > 1.5 * WIDTH:
        tall = round(tall * WIDTH / wide)
        wide = WIDTH
        frame = frame.resize((wide, tall), Image.Resampling.BOX)
    picture = Image.new("RGB", (max(wide, 160), tall + 82), PANEL)
    picture.paste(frame, ((picture.width - wide) // 2, 0))
    draw = ImageDraw.Draw(picture)
    if t < clip.steps:
        _caption(draw, clip, t, picture.width, tall)
    else:
        draw.text((12, tall + 8), "end of clip", QUIET, _font(17))
    _timeline(draw, clip, t, picture.width, tall + 66)
    return picture


def _font(points: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(points)


def _caption(draw: ImageDraw.ImageDraw, clip: ClipPicture, step: int, width: int, top: int) -> None:
    verdict, action = clip.verdict(step), clip.predicted[step]
    words = {"abstains": "abstains", "recorded": clip.truth[step] or action}.get(verdict, action) or "no label"
    colour = QUIET if verdict in ("abstains", "unknown") or not action else INK
    remark = {"wrong": f"truth: {clip.truth[step]}", "recorded": "given label", "unknown": ""}.get(verdict, "")
    if verdict == "abstains" and clip.truth[step]:
        remark = f"truth: {clip.truth[step]}"
    left = 12
    if verdict != "abstains" and (arrow := _direction(words)):
        _arrow(draw, (21, top + 19), arrow, colour)
        left = 38
    remark = _fitting(draw, remark, 13, 0.42 * width)
    right = width - 12 - draw.textlength(remark, _font(13))
    draw.text((left, top + 8), _fitting(draw, words, 18, right - left - 34), colour, _font(18))
    draw.text((right, top + 12), remark, WRONG if verdict == "wrong" else QUIET, _font(13))
    if verdict in ("right", "wrong"):
        _sign(draw, verdict, (int(right) - (20 if remark else 14), top + 20))
    _confidence(draw, clip.confidence[step], verdict, width, top + 42)


def _confidence(draw: ImageDraw.ImageDraw, confidence: float, verdict: str, width: int, top: int) -> None:
    figure = f"{100 * confidence:.0f} % sure"
    end = width - 12 - 78
    draw.rectangle((12, top + 2, end, top + 9), FAINT)
    if confidence > 0:
        full = 12 + (end - 12) * min(confidence, 1.0)
        draw.rectangle((12, top + 2, full, top + 9), QUIET if verdict == "abstains" else INK)
    draw.text((width - 12 - draw.textlength(figure, _font(13)), top - 3), figure, QUIET, _font(13))


def _timeline(draw: ImageDraw.ImageDraw, clip: ClipPicture, now: int, width: int, top: int) -> None:
    """Draws one block per step: full is right, half is wrong, an outline abstains, a low line has no verdict."""
    pitch = (width - 24) / clip.steps
    for step in range(clip.steps):
        left, right = 12 + pitch * step, 12 + pitch * (step + 1) - (2 if pitch > 4 else 0)
        verdict = clip.verdict(step)
        if verdict == "right":
            draw.rectangle((left, top, right, top + 7), RIGHT)
        elif verdict == "wrong":
            draw.rectangle((left, top + 4, right, top + 7), WRONG)
        elif verdict == "abstains":
            draw.rectangle((left, top, right, top + 7), outline=QUIET)
        else:
            draw.rectangle((left, top + 6, right, top + 7), QUIET)
        if step == now:
            draw.rectangle((left, top - 5, right, top - 4), INK)


def _sign(draw: ImageDraw.ImageDraw, verdict: str, centre: tuple[int, int]) -> None:
    x, y = centre
    if verdict == "right":
        draw.line([(x - 7, y), (x - 2, y + 5), (x + 7, y - 6)], RIGHT, 3, joint="curve")
    else:
        draw.line([(x - 5, y - 5), (x + 5, y + 5)], WRONG, 3)
        draw.line([(x - 5, y + 5), (x + 5, y - 5)], WRONG, 3)


def _direction(action: str) -> tuple[int, int] | None:
    """Returns where an action's name points: `left`, `move_up`, `down-left`; None where it names no direction."""
    words = "".join(letter if letter.isalpha() else " " for letter in action.lower()).split()
    found = [ARROWS[word] for word in words if word in ARROWS]
    x, y = sum(a for a, _ in found), sum(b for _, b in found)
    return (int(np.sign(x)), int(np.sign(y))) if (x or y) else None


def _arrow(
    draw: ImageDraw.ImageDraw, centre: tuple[int, int], direction: tuple[int, int], colour: tuple[int, ...]
) -> None:
    (x, y), (dx, dy) = centre, direction
    length = 9 / (dx * dx + dy * dy) ** 0.5
    ahead, across = (dx * length, dy * length), (-dy * length, dx * length)
    tip = (x + ahead[0], y + ahead[1])
    draw.line([(x - ahead[0], y - ahead[1]), tip], colour, 3)
    for side in (-1, 1):
        barb = (tip[0] - 0.8 * ahead[0] + 0.7 * side * across[0], tip[1] - 0.8 * ahead[1] + 0.7 * side * across[1])
        draw.line([tip, barb], colour, 3)


def _fitting(draw: ImageDraw.ImageDraw, words: str, points: int, room: float) -> str:
    words = visible(words)
    if draw.textlength(words, _font(points)) <= room:
        return words
    kept = words[:80]
    while kept and draw.textlength(kept + "…", _font(points)) > room:
        kept = kept[:-1]
    return kept + "…"
