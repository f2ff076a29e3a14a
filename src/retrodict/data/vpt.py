"""VPT's recordings: NAME.mp4 with NAME.jsonl beside it, one line of keys, buttons and mouse for each frame.

Line t was held during frame t, so it leads from frame t to frame t+1: step t. The last frame's line leads nowhere.
Source: Baker et al. (2022), code at openai/Video-Pre-Training (MIT): data_loader.py, run_inverse_dynamics_model.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrodict.data.label_file import LabelRow, Labels
from retrodict.errors import UnusableInput
from retrodict.segments import Segment, continuous
from retrodict.spaces import ActionSpace

DEGREES = 360 / 2400  # per mouse count
KEYS = {
    "w": "forward", "s": "back", "a": "left", "d": "right", "space": "jump", "left.shift": "sneak",
    "left.control": "sprint", "q": "drop", "e": "inventory", **{str(i): f"hotbar.{i}" for i in range(1, 10)},
}  # fmt: skip
MOUSE = {0: "attack", 1: "use"}
BUTTONS = (
    "attack", "back", "forward", "jump", "left", "right", "sneak", "sprint", "use", "drop", "inventory",
    *(f"hotbar.{i}" for i in range(1, 10)),
)  # fmt: skip
# The published camera bins end at 10 degrees a frame.
SPACE = ActionSpace(
    (
        Segment("buttons", "binary", BUTTONS),
        continuous("camera", ("dx", "dy"), -10.0, 10.0, unit="degree", relative=True),
    )
)


def is_vpt(path: Path) -> bool:
    """True when a file's first line is one of VPT's."""
    try:
        with path.open("rb") as file:
            first = json.loads(file.readline(1 << 20))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and {"mouse", "keyboard"} <= set(first)


def read_actions(path: Path, name: str) -> Labels:
    """Returns the actions of one recording by frame; `name` is the video's.

    A left mouse button that is down from the first line on is stuck, and counts once it is pressed again. A hotbar slot
    that changes (also by the wheel) is the press of that slot's key.

    Raises:
        UnusableInput: a line is no JSON, or lacks what is read from it; the message names it.
    """
    rows: list[LabelRow] = []
    stuck, slot, number = False, 0, 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                if not text.strip():
                    continue
                tick = json.loads(text)
                pressed = 0 in tick["mouse"]["newButtons"]
                stuck = tick["mouse"]["newButtons"] == [0] if not rows else stuck and not pressed
                held = _held(tick)
                if stuck:
                    held.discard("attack")
                if (chosen := tick.get("hotbar", slot)) != slot:
                    held.add(f"hotbar.{chosen + 1}")
                slot = chosen
                turn = [_degrees(tick["mouse"][axis]) for axis in ("dx", "dy")]
                keys = [float(button in held) for button in BUTTONS]
                rows.append(LabelRow(number, name, len(rows), None, {"buttons": keys, "camera": turn}, (*keys, *turn)))
    except (OSError, ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnusableInput(f"{path}, line {number}: no action of VPT: {type(error).__name__}: {error}") from error
    return Labels(path, SPACE, tuple(rows))


def _held(tick: Mapping[str, Any]) -> set[str]:
    keys = {KEYS.get(str(key).removeprefix("key.keyboard.")) for key in tick["keyboard"]["keys"]}
    buttons = {MOUSE.get(button) for button in tick["mouse"]["buttons"]}
    return {name for name in keys | buttons if name is not None}


def _degrees(counts: Any) -> float:
    if isinstance(counts, bool) or not math.isfinite(counts):
        raise ValueError(f"the mouse moved by {counts}")
    return float(counts) * DEGREES
