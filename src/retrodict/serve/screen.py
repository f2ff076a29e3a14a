"""What the page is shown: frames side by side, what each key changes, keys and branches as plain JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from retrodict.roles import View
from retrodict.serve.keys import Key, Keyboard
from retrodict.serve.messages import Picture, pack
from retrodict.serve.pictures import differing, effect, part, picture_of
from retrodict.serve.session import Frame, Session
from retrodict.spaces import ActionSpace


def panes(session: Session, view: View, other: int | None) -> dict[str, Picture]:
    """Returns the pictures of where the player stands: the dream, the real world, the branch to compare with."""
    moment = session.moment()
    shown = {"dream": picture_of(moment.frame, view)}
    if moment.real is not None:
        shown["real"] = picture_of(moment.real, view)
    if other is not None:
        at = min(session.at, len(session.branches[other]) - 1)
        shown["other"] = picture_of(session.moment(at, other).frame, view)
    return shown


def frame_message(session: Session, shown: Mapping[str, Picture], seconds: Mapping[str, float], **more: Any) -> bytes:
    """Says where the player stands, and shows it."""
    told = {
        "kind": "frame", "branch": session.branch, "at": session.at, "length": len(session.here),
        "by": session.moment().kind, "panes": list(shown), "ms": {n: round(1000 * s, 2) for n, s in seconds.items()},
        "differs": {name: differing(shown["dream"], p) for name, p in shown.items() if name != "dream"}, **more,
    }  # fmt: skip
    return pack(told, list(shown.values()))


def effects_message(
    speech: str, at: int, keys: Sequence[str], before: Frame, after: Sequence[Frame], view: View
) -> bytes:
    """Shows what each key changed at moment `at`, cut to where anything changed, and the share of all pixels."""
    base = picture_of(before, view)
    outcome = [picture_of(frame, view) for frame in after]
    changed = [differing(base, picture) for picture in outcome]
    where = part(base, outcome)
    told = {"kind": "effects", "speech": speech, "at": at, "keys": list(keys), "changed": changed}
    return pack(told, [effect(base, picture)[where] for picture in outcome])


def key_values(keyboard: Keyboard, on: Collection[str]) -> list[dict[str, Any]]:
    """Returns all keys as plain JSON."""
    return [
        {
            "id": key.id, "label": key.label, "name": keyboard.name(key), "kind": key.kind, "place": key.place,
            "buttons": key.buttons, "pad": key.pad, "on": key.id in on,
        }
        for key in keyboard.keys.values()
    ]  # fmt: skip


def branch_values(session: Session) -> list[dict[str, Any]]:
    """Returns all branches as plain JSON."""
    return [
        {"name": branch.name, "parent": branch.parent, "fork": branch.fork, "length": len(branch)}
        for branch in session.branches
    ]


def alone(keyboard: Keyboard) -> tuple[list[str], list[Float[Tensor, "d"]]]:
    """Returns every key that does something by itself, and the action of pressing it alone."""
    keys, actions = [], []
    for key in keyboard.keys.values():
        action = _alone(keyboard, key)
        if action is not None:
            keys.append(key.id)
            actions.append(action)
    return keys, actions


def _alone(keyboard: Keyboard, key: Key) -> Float[Tensor, "d"] | None:
    return keyboard.action([], [key.id]) if key.kind == "toggle" else keyboard.action([key.id])


def said(keyboard: Keyboard, space: ActionSpace, action: Float[Tensor, "d"], unread: Collection[str] = ()) -> str:
    """Returns an action in words, by the name of its key where it is one choice; columns of numbers that are `unread`
    are asked about."""
    if space.discrete is not None and (key := keyboard.keys.get(f"0:{int(action.argmax())}")) is not None:
        return keyboard.name(key)
    told = {segment.name: _short(value, [column in unread for column in segment.columns])
            for segment, value in zip(space.segments, space.describe(action).values(), strict=True)}  # fmt: skip
    return ", ".join(f"{name} {value}" for name, value in told.items() if value)


def _short(value: str | list[float], unread: Sequence[bool]) -> str:
    if isinstance(value, str):
        return value
    return " ".join("?" if hidden else f"{number:g}" for number, hidden in zip(value, unread, strict=True))
