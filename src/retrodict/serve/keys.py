"""Keys: what a person may press, laid out from an action space by the names of its values.

A choice gives a key to each value (arrows to left, up and so on, digits to the others), keys of the space toggle, an
axis has one key to each side. A space of several codes, or of a vector, is played by whole actions that its world
draws (`whole`). Names that a person gave count as names, so a code that is called "left" moves to the left arrow.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from retrodict.errors import UnknownName, UnusableInput
from retrodict.segments import ONE_HOT, Segment, segment_vector
from retrodict.spaces import ActionSpace

_SIDES = {
    "left": "left", "west": "left", "right": "right", "east": "right", "up": "up", "north": "up", "forward": "up",
    "forwards": "up", "ahead": "up", "down": "down", "south": "down", "back": "down", "backward": "down",
    "backwards": "down",
}  # fmt: skip
_STILL = {"stay", "noop", "nop", "nothing", "none", "idle", "still", "wait", "pass", "donothing"}
_ARROWS = {
    "left": ("ArrowLeft", "KeyA"), "right": ("ArrowRight", "KeyD"), "up": ("ArrowUp", "KeyW"),
    "down": ("ArrowDown", "KeyS"), "left-up": ("KeyQ",), "right-up": ("KeyE",), "left-down": ("KeyZ",),
    "right-down": ("KeyC",),
}  # fmt: skip
_FREE = (*(f"Digit{i}" for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)), *(f"Key{letter}" for letter in "RTYUIOPFGHJKLVBNMX"))
_PADS = {"up": 12, "down": 13, "left": 14, "right": 15}  # buttons of a standard gamepad
_FREE_PADS = (0, 1, 2, 3, 6, 7)


@dataclass(frozen=True, slots=True)
class Key:
    """One thing that can be pressed.

    `label` is what the space calls it, `buttons` are keys of a keyboard as browsers name them, `pad` is a gamepad's
    button (-1: none), `place` where it lies among the arrows ("left", "left-up", "still" or "").
    """

    id: str
    kind: str  # choice, toggle, axis, whole
    label: str
    columns: slice
    value: Float[Tensor, "n"]
    place: str = ""
    buttons: tuple[str, ...] = ()
    pad: int = -1


class Keyboard:
    """All keys of an action space, and how what is pressed becomes an action.

    `names` are those that a person gave, by key. `wholes` are actions to offer as they are.
    """

    def __init__(
        self, space: ActionSpace, names: Mapping[str, str] | None = None, wholes: Sequence[Float[Tensor, "d"]] = ()
    ) -> None:
        self.space, self.names = space, dict(names or {})
        bare = [*_wholes(wholes)] if len(wholes) else [*_keys(space)]
        self.keys = {key.id: key for key in _placed(bare, self.names)}
        self.text = next((segment for segment in space.segments if segment.kind == "text"), None)

    def name(self, key: Key) -> str:
        """Returns what a person called a key, else what the space calls it."""
        return self.names.get(key.id, key.label)

    def rest(self) -> Float[Tensor, "d"] | None:
        """Returns the action of pressing nothing; None where there is none, so that time waits for a key."""
        still = next((key for key in self.keys.values() if key.place == "still"), None)
        if any(key.kind == "whole" for key in self.keys.values()):
            return None if still is None else still.value.clone()
        parts = []
        for segment, columns, _ in self.space.slices():
            if segment.kind in ONE_HOT:
                own = [key for key in self.keys.values() if key.columns == columns and key.place == "still"]
                if not own and len(self.space.segments) == 1:
                    return None
                parts.append(own[0].value if own else segment_vector(segment, 0))
            elif segment.kind == "text":
                parts.append(segment_vector(segment, ""))
            else:
                parts.append(_middle(segment))
        return torch.cat(parts)

    def action(
        self, held: Sequence[str], on: Collection[str] = (), text: str = "", *, rest: bool = False
    ) -> Float[Tensor, "d"] | None:
        """Returns the action of keys held in this order, toggles that are on, and a typed event.

        None where nothing is pressed that says what to do, unless `rest` asks for the action of pressing nothing.

        Raises:
            UnknownName: no such key. UnusableInput: the space takes no typed events.
        """
        pressed = [self._key(id) for id in (*on, *held)]
        if text and self.text is None:
            raise UnusableInput("this world takes no typed events: its actions have no text")
        base = self.rest()
        choosing = [key for key in pressed if key.kind in ("choice", "whole")]
        if base is None:
            if not choosing:
                return None
            base = torch.zeros(self.space.width)
        if not pressed and not text and not rest:
            return None
        for key in pressed:
            if key.kind != "choice":
                base[key.columns] = key.value
        for columns in {(key.columns.start, key.columns.stop) for key in choosing if key.kind == "choice"}:
            own = [key for key in choosing if (key.columns.start, key.columns.stop) == columns]
            base[slice(*columns)] = self._joined(own).value
        if text and self.text is not None:
            base[self._text_columns()] = segment_vector(self.text, text)
        return base

    def _key(self, id: str) -> Key:
        if id not in self.keys:
            raise UnknownName("key", id, self.keys)
        return self.keys[id]

    def _joined(self, pressed: Sequence[Key]) -> Key:
        """Returns the value that goes both ways, such as left-up for left and up; else the last one pressed."""
        sides = {side for key in pressed[-2:] for side in key.place.split("-")}
        both = [key for key in self.keys.values() if key.columns == pressed[-1].columns and len(sides) == 2]
        return next((key for key in both if set(key.place.split("-")) == sides), pressed[-1])

    def _text_columns(self) -> slice:
        return next(columns for segment, columns, _ in self.space.slices() if segment.kind == "text")


def _keys(space: ActionSpace) -> Iterable[Key]:
    alone = len(space.segments) == 1
    for number, (segment, columns, _) in enumerate(space.slices()):
        prefix = "" if alone else f"{segment.name} "
        if segment.kind in ONE_HOT:
            prefix += "code " if segment.kind == "code" else ""
            for i, value in enumerate(segment.values):
                yield Key(f"{number}:{i}", "choice", prefix + value, columns, segment_vector(segment, i))
        elif segment.kind == "binary":
            for i, value in enumerate(segment.values):
                yield Key(f"{number}:{i}", "toggle", prefix + value, _one(columns, i), torch.ones(1))
        elif segment.kind in ("continuous", "vector"):
            low, high = _sides(segment)
            for i, value in enumerate(segment.values):
                name = prefix + value
                yield Key(f"{number}:{i}-", "axis", f"{name} −", _one(columns, i), low[i : i + 1])
                yield Key(f"{number}:{i}+", "axis", f"{name} +", _one(columns, i), high[i : i + 1])


def _wholes(actions: Sequence[Float[Tensor, "d"]]) -> Iterable[Key]:
    for i, action in enumerate(actions):
        yield Key(f"w:{i}", "whole", f"action {i + 1}", slice(0, len(action)), action)


def _one(columns: slice, i: int) -> slice:
    return slice(columns.start + i, columns.start + i + 1)


def _sides(segment: Segment) -> tuple[Tensor, Tensor]:
    """An axis's values for its two keys: a standard deviation to each side where data say one, else the ends."""
    if not segment.center:
        return torch.full((segment.width,), segment.low), torch.full((segment.width,), segment.high)
    center, scale = torch.tensor(segment.center), torch.tensor(segment.scale or (1.0,) * segment.width)
    return (center - scale).clamp_min(segment.low), (center + scale).clamp_max(segment.high)


def nearest(space: ActionSpace, actions: Float[Tensor, "n d"]) -> Int[Tensor, "n d"]:
    """Which key of its axis lies nearest to each number: -1 and 1 to the sides, 0 for none pressed. Columns that are no
    axes have 0."""
    keys = torch.zeros(actions.shape, dtype=torch.long)
    for segment, columns, _ in space.slices():
        if segment.kind == "continuous":
            low, high = _sides(segment)
            ends = torch.stack([low, _middle(segment), high])  # 3 w
            keys[:, columns] = (actions[:, None, columns] - ends).abs().argmin(1) - 1
    return keys


def apart(space: ActionSpace) -> Float[Tensor, "d"]:
    """Returns how far the two keys of each axis are apart, 0 for columns that are no axes."""
    return torch.cat([
        torch.sub(*reversed(_sides(segment))) if segment.kind == "continuous" else torch.zeros(segment.width)
        for segment in space.segments
    ])  # fmt: skip


def _middle(segment: Segment) -> Tensor:
    """The value of an axis or a toggle that nobody touches: 0, or the middle where 0 lies beyond its keys."""
    if segment.kind == "binary":
        return torch.zeros(segment.width)
    low, high = _sides(segment)
    return torch.where((low <= 0) & (high >= 0), 0.0, (low + high) / 2)


def _place(name: str) -> str:
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    if "".join(words) in _STILL or any(word in _STILL for word in words[-1:]):
        return "still"
    sides = {_SIDES[word] for word in words if word in _SIDES}
    place = "-".join(sorted(sides, key=("left", "right", "up", "down").index))
    return place if place in _ARROWS else ""


def _placed(keys: Sequence[Key], names: Mapping[str, str]) -> Iterable[Key]:
    """Gives keys their places and buttons: arrows by name, a digit to its own number, then what is free."""
    places = _axes(keys) or {key.id: _place(names.get(key.id, key.label)) for key in keys}
    taken: set[str] = set()
    for key in keys:  # the first one of a place has it
        if places[key.id] in taken or key.kind == "toggle":
            places[key.id] = ""
        taken |= {places[key.id]} - {""}
    numbers = [key.label.split()[-1] for key in keys]
    digits = {
        key.id: f"Digit{number}"
        for key, number in zip(keys, numbers, strict=True)
        if re.fullmatch(r"\d", number) and numbers.count(number) == 1 and not places[key.id]
    }
    free = [button for button in _FREE if button not in digits.values()]
    pads = list(_FREE_PADS)
    for key in keys:
        place = places[key.id]
        if place in _ARROWS:
            buttons, pad = _ARROWS[place], _PADS.get(place, -1)
        else:
            chosen = digits.get(key.id) or (free.pop(0) if free and place != "still" else "")
            buttons, pad = (chosen,) if chosen else (), pads.pop(0) if pads and place != "still" else -1
        yield Key(key.id, key.kind, key.label, key.columns, key.value, place, buttons, pad)


def _axes(keys: Sequence[Key]) -> dict[str, str]:
    """Places of a space with axes: the first lies from left to right, the second from down to up."""
    axes = [key for key in keys if key.kind == "axis"]
    if not axes:
        return {}
    return {key.id: "" for key in keys} | {
        key.id: place for key, place in zip(axes, ("left", "right", "down", "up"), strict=False)
    }
