"""Keys are laid out by what values are called, and what is pressed becomes the action that it says."""

from __future__ import annotations

import pytest
import torch

from retrodict.envs.babyai import ACTIONS as BABYAI
from retrodict.envs.procgen import ACTIONS as PROCGEN
from retrodict.envs.sprites import ACTIONS as SPRITES
from retrodict.errors import UnknownName, UnusableInput
from retrodict.segments import vector
from retrodict.serve.keys import Keyboard, apart, nearest
from retrodict.serve.screen import said
from retrodict.spaces import ActionSpace, Segment, categorical, code, continuous

ARM = ActionSpace((continuous("move", ("x", "y", "z"), relative=True), Segment("gripper", "binary", ("closed",))))


def choice(*values: str) -> Keyboard:
    return Keyboard(ActionSpace((categorical("move", values),)))


def buttons(keyboard: Keyboard) -> dict[str, str]:
    return {key.label: key.buttons[0] if key.buttons else "" for key in keyboard.keys.values()}


def test_directions_have_arrows_and_what_stays_is_pressing_nothing() -> None:
    keyboard = choice(*SPRITES)
    told = {"stay": "", "up": "ArrowUp", "down": "ArrowDown", "left": "ArrowLeft", "right": "ArrowRight"}
    assert buttons(keyboard) == told
    rest = keyboard.rest()
    assert rest is not None
    assert rest.tolist() == [1, 0, 0, 0, 0]
    assert {key.label: key.pad for key in keyboard.keys.values()} == {
        "stay": -1, "up": 12, "down": 13, "left": 14, "right": 15,
    }  # fmt: skip


def test_other_values_have_free_keys_and_without_a_value_that_stays_time_waits() -> None:
    keyboard = choice(*BABYAI)
    assert buttons(keyboard) == {
        "left": "ArrowLeft", "right": "ArrowRight", "forward": "ArrowUp", "pickup": "Digit1", "drop": "Digit2",
        "toggle": "Digit3", "done": "Digit4",
    }  # fmt: skip
    assert keyboard.rest() is None
    assert keyboard.action([]) is None
    assert keyboard.action([], rest=True) is None


def test_two_arrows_are_the_value_that_goes_both_ways_where_there_is_one() -> None:
    keyboard = choice(*PROCGEN)
    key = {key.label: key.id for key in keyboard.keys.values()}
    both = keyboard.action([key["right"], key["up"]])
    assert both is not None
    assert PROCGEN[int(both.argmax())] == "right-up"
    last = keyboard.action([key["left"], key["right"]])
    assert last is not None
    assert PROCGEN[int(last.argmax())] == "right"
    plain = choice(*SPRITES).action(["0:4", "0:1"])
    assert plain is not None
    assert SPRITES[int(plain.argmax())] == "up", "the last one pressed"


def test_codes_have_their_own_digits_and_move_to_the_arrows_when_a_person_says_what_they_are() -> None:
    space = ActionSpace((code("code", 4),))
    assert buttons(Keyboard(space)) == {f"code {i}": f"Digit{i}" for i in range(4)}
    named = Keyboard(space, {"0:2": "left", "0:0": "stay", "0:3": "go left"})
    assert buttons(named) == {"code 0": "", "code 1": "Digit1", "code 2": "ArrowLeft", "code 3": "Digit3"}
    assert [named.name(key) for key in named.keys.values()] == ["stay", "code 1", "left", "go left"]
    rest = named.rest()
    assert rest is not None
    assert rest.tolist() == [1, 0, 0, 0]


def test_axes_have_a_key_to_each_side_and_keys_of_the_space_toggle() -> None:
    keyboard = Keyboard(ARM)
    assert [(key.label, key.kind, key.place) for key in keyboard.keys.values()] == [
        ("move x −", "axis", "left"), ("move x +", "axis", "right"), ("move y −", "axis", "down"),
        ("move y +", "axis", "up"), ("move z −", "axis", ""), ("move z +", "axis", ""),
        ("gripper closed", "toggle", ""),
    ]  # fmt: skip
    action = keyboard.action(["0:0+", "0:2-"], ["1:0"])
    assert action is not None
    assert action.tolist() == [1, 0, -1, 1]
    rest = keyboard.rest()
    assert rest is not None
    assert rest.tolist() == [0, 0, 0, 0]


def test_axes_met_in_data_go_a_deviation_to_each_side_and_rest_between_them() -> None:
    segment = continuous("pose", ("a", "b"), low=-9, high=50, center=(1.0, 40.0), scale=(2.0, 5.0))
    keyboard = Keyboard(ActionSpace((segment,)))
    assert keyboard.rest() is not None
    assert keyboard.rest().tolist() == [0, 40]  # type: ignore[union-attr]
    up = keyboard.action(["0:0+", "0:1-"])
    assert up is not None
    assert up.tolist() == [3, 35]


def test_a_number_is_told_by_the_nearest_key_of_its_axis() -> None:
    read = torch.tensor([[0.6, -0.4, -0.51, 0.7], [-3.0, 0.5001, 0.0, 0.2]])
    assert nearest(ARM, read).tolist() == [[1, 0, -1, 0], [-1, 1, 0, 0]]  # the gripper's key is no axis
    assert apart(ARM).tolist() == [2, 2, 2, 0]
    met = ActionSpace((continuous("pose", ("a", "b"), low=-9, high=50, center=(1.0, 40.0), scale=(2.0, 5.0)),))
    assert nearest(met, torch.tensor([[2.0, 46.0], [-5.0, 30.0]])).tolist() == [[1, 1], [-1, -1]]
    assert apart(met).tolist() == [4, 10]


def test_what_nobody_could_read_is_asked_about() -> None:
    keyboard, action = Keyboard(ARM), torch.tensor([0.25, -1.0, 0.0, 1.0])
    assert said(keyboard, ARM, action) == "move 0.25 -1 0, gripper closed"
    assert said(keyboard, ARM, action, ("move.x", "move.z")) == "move ? -1 ?, gripper closed"


def test_whole_actions_are_keys_of_spaces_without_single_values() -> None:
    space = ActionSpace((vector("latent", 2),))
    drawn = [torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.0])]
    keyboard = Keyboard(space, {}, drawn)
    assert buttons(keyboard) == {"action 1": "Digit1", "action 2": "Digit2"}
    second = keyboard.action(["w:1"])
    assert second is not None
    assert second.tolist() == [2, 0]
    assert keyboard.rest() is None


def test_a_typed_event_fills_the_text_of_the_action() -> None:
    space = ActionSpace((categorical("move", ("stay", "go")), Segment("event", "text", tuple("abcdef"))))
    keyboard = Keyboard(space)
    action = keyboard.action(["0:1"], text="hé")
    assert action is not None
    assert space.describe(action) == {"move": "go", "event": "hé"}
    none = keyboard.action(["0:1"])
    assert none is not None
    assert space.describe(none) == {"move": "go", "event": ""}
    with pytest.raises(UnusableInput, match="fit"):
        keyboard.action([], text="too long")
    with pytest.raises(UnusableInput, match="no typed events"):
        choice("stay", "go").action([], text="rain")


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(UnknownName):
        choice("a", "b").action(["0:7"])
