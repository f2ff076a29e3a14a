"""Moving pictures keep every frame, tell right from wrong without colour, and refuse clips whose lengths disagree."""

from __future__ import annotations

import base64
import dataclasses
import io

import fake
import numpy as np
import pytest
from PIL import Image

from retrodict.errors import UnusableInput
from retrodict.report.pictures import WIDTH, ClipPicture, moving, size, still


def opened(uri: str) -> Image.Image:
    start = "data:image/png;base64,"
    assert uri.startswith(start)
    return Image.open(io.BytesIO(base64.b64decode(uri[len(start) :])))


def panels(clip: ClipPicture) -> list[np.ndarray]:
    """Returns what stands below the picture, for each frame."""
    image, result = opened(moving(clip)), []
    for t in range(clip.steps + 1):
        image.seek(t)
        result.append(np.asarray(image.convert("RGB"))[WIDTH:])
    return result


def one_step(**changes: object) -> ClipPicture:
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    return dataclasses.replace(ClipPicture(frames, ["left"], ["left"], [0.9], ["predicted"], "one"), **changes)


def test_the_picture_shows_every_frame_enlarged_without_blur() -> None:
    clip = fake.clip(steps=4)
    image = opened(moving(clip))
    assert image.n_frames == 5
    assert image.size == size(clip)
    assert image.info["loop"] == 0
    for t in range(5):
        image.seek(t)
        shown = np.asarray(image.convert("RGB"))[:WIDTH]
        np.testing.assert_array_equal(shown[::4, ::4], clip.frames[t])
        np.testing.assert_array_equal(shown[3::4, 3::4], clip.frames[t])


def test_the_panel_follows_prediction_confidence_and_verdict() -> None:
    shown = [
        panels(one_step())[0],
        panels(one_step(predicted=["right"], truth=["right"]))[0],
        panels(one_step(confidence=[0.3]))[0],
        panels(one_step(truth=["right"]))[0],
        panels(one_step(source=["abstained"]))[0],
        panels(one_step(source=["recorded"]))[0],
        panels(one_step(truth=[""]))[0],
    ]
    grey = [panel.mean(axis=-1).astype(int) for panel in shown]  # told apart without colour
    for i in range(len(grey)):
        for j in range(i):
            assert np.abs(grey[i] - grey[j]).max() > 50, (i, j)


def test_the_confidence_bar_grows_with_confidence() -> None:
    lit = [int((panels(one_step(confidence=[c]))[0][47] > 200).all(axis=-1).sum()) for c in (0.0, 0.5, 1.0)]
    assert lit[0] == 0
    assert lit[1] == pytest.approx(lit[2] / 2, abs=2)
    assert lit[2] > 100


@pytest.mark.parametrize(
    ("source", "truth", "verdict"),
    [
        ("predicted", "left", "right"),
        ("predicted", "right", "wrong"),
        ("predicted", "", "unknown"),
        ("abstained", "left", "abstains"),
        ("recorded", "left", "recorded"),
        ("missing", "left", "unknown"),
    ],
)
def test_verdicts(source: str, truth: str, verdict: str) -> None:
    assert one_step(source=[source], truth=[truth]).verdict(0) == verdict


def test_a_still_sheet_stands_in_for_motion() -> None:
    sheet = opened(still(fake.clip(steps=9)))
    assert getattr(sheet, "n_frames", 1) == 1
    wide, tall = size(fake.clip())
    assert sheet.size == (2 * wide + 8, 2 * tall + 8)
    assert opened(still(one_step())).size == (wide, tall)


@pytest.mark.parametrize(("height", "width"), [(36, 36), (64, 64), (210, 160), (480, 640), (7, 5)])
def test_any_size_of_video_becomes_a_picture_of_reading_size(height: int, width: int) -> None:
    clip = one_step(frames=np.zeros((2, height, width, 3), np.uint8))
    wide, tall = opened(moving(clip)).size
    assert 0.6 * WIDTH <= wide <= 1.5 * WIDTH
    assert (tall - 82) / wide == pytest.approx(height / width, rel=0.05)


def test_names_that_no_font_has_do_not_stop_the_picture() -> None:
    assert opened(moving(one_step(predicted=[fake.HOSTILE * 20], truth=["動作"]))).n_frames == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"truth": []},
        {"confidence": [0.5, 0.5]},
        {"frames": np.zeros((2, 8, 8, 3), np.float32)},
        {"frames": np.zeros((1, 8, 8, 3), np.uint8)},
        {"frames": np.zeros((2, 8, 8), np.uint8)},
    ],
)
def test_lengths_and_frames_that_disagree_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UnusableInput, match="'one'"):
        one_step(**changes)
