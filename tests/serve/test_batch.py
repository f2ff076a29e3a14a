"""Players are rows of one batch: each gets what it would have got alone, and one's trouble is no other's."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
import torch
import toy
from torch import Tensor

from retrodict.clip import Clip
from retrodict.envs.catalog import make
from retrodict.errors import NoLikelihood, UnusableInput
from retrodict.roles import View
from retrodict.serve import start
from retrodict.serve.batch import (
    INVERSE,
    ITSELF,
    Failed,
    Look,
    Model,
    Speech,
    Step,
    judge,
    observe,
    outcomes,
    translated,
    wholes,
)
from retrodict.serve.start import speeches_of
from retrodict.spaces import ActionSpace, Distribution, Segment, categorical, code, continuous


def frames(count: int) -> Tensor:
    shown, _ = make("sprites", count).reset(seed=list(range(count)))
    return torch.from_numpy(shown).permute(0, 3, 1, 2).contiguous()


def toys() -> tuple[Speech, Speech]:
    actions, codes = speeches_of(toy.System(forward=toy.Walk(), inverse=toy.Reader(), adapter=toy.Shift()), "toy")
    return actions, codes


def together(speech: Speech, shown: Tensor, actions: Tensor) -> list[Any]:
    async def play() -> list[Any]:
        model = Model()
        states = [await model.do(observe, speech, Clip(frames=frame[None, None])) for frame in shown]
        asked = [model.step(speech, state, action) for state, action in zip(states, actions, strict=True)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        model.close()
        return list(answers)

    return asyncio.run(play())


def test_four_players_are_one_batch_and_each_gets_its_own_frame() -> None:
    _, codes = toys()
    shown, actions = frames(4), torch.eye(5)[[0, 3, 1, 4]]
    alone = [together(codes, shown[i : i + 1], actions[i : i + 1])[0] for i in range(4)]
    walk = codes.forward
    assert isinstance(walk, toy.Walk)
    walk.rows.clear()
    four = together(codes, shown, actions)
    assert walk.rows == [4]
    assert [step.rows for step in four] == [4] * 4
    for mine, ours in zip(alone, four, strict=True):
        assert torch.equal(mine.frame, ours.frame)
        assert torch.equal(mine.following["frames"], ours.following["frames"])


def test_decoded_actions_move_the_sprite_as_they_say() -> None:
    actions, _ = toys()
    shown = frames(1)
    before = toy.agent(shown)[0]
    for move in range(5):
        step = together(actions, shown, toy.MOVE.one_hot(torch.tensor([move])))[0]
        there = (before + torch.tensor(toy.MOVES[move])).clamp(0, 8)
        assert toy.agent(step.frame[None])[0].tolist() == there.tolist()


def test_states_of_another_shape_or_speech_go_in_apart() -> None:
    actions, codes = toys()

    async def play() -> list[Step]:
        model, shown = Model(), frames(1)[0]
        state = await model.do(observe, codes, Clip(frames=shown[None, None]))
        longer = {"frames": torch.cat([state["frames"]] * 2, 1)}  # type: ignore[index]
        asked = [(codes, state), (codes, longer), (actions, state), (codes, state)]
        steps = await asyncio.gather(*(model.step(speech, given, torch.eye(5)[2]) for speech, given in asked))
        model.close()
        return list(steps)

    assert [step.rows for step in asyncio.run(play())] == [2, 1, 1, 2]


def test_a_row_that_fails_leaves_the_others_their_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    _, codes = toys()
    right = toy.Walk.predict

    def picky(self: toy.Walk, seen: Tensor, actions: Tensor | None) -> Tensor:
        assert actions is not None
        if bool((actions.argmax(1) == 4).any()):
            raise ZeroDivisionError("no code 4")
        return right(self, seen, actions)

    monkeypatch.setattr(toy.Walk, "predict", picky)
    first, second, third = together(codes, frames(3), torch.eye(5)[[1, 4, 2]])
    assert isinstance(second, Failed)
    assert "ZeroDivisionError: no code 4" in str(second)
    assert first.frame is not None
    assert third.frame is not None


def test_the_judge_reads_what_was_pressed_and_the_adapter_says_what_a_code_is() -> None:
    actions, codes = toys()
    shown = frames(1)
    for speech in (actions, codes):
        assert (speech.reach, speech.lag) == (0, 0)
        pressed = torch.eye(5)[2]
        step = together(speech, shown, pressed[None])[0]
        pair = torch.stack([shown[0], step.frame])
        looks = [Look(speech, pair, pressed, 0), Look(speech, pair, torch.eye(5)[1], 0)]
        judge([*looks, Look(speech, torch.cat([pair, pair[1:]]), torch.eye(5)[4], 1)])
        assert [look.right for look in looks] == [True, False]
        assert all(torch.equal(look.believed, pressed) for look in looks if look.believed is not None)
    assert translated(codes, shown[0], torch.eye(5)[2]).tolist() == torch.eye(5)[3].tolist()


def test_what_keys_change_is_imagined_from_one_state() -> None:
    _, codes = toys()
    shown = frames(1)
    state = observe(codes, Clip(frames=shown[:, None]))
    after = outcomes(codes, state, [*torch.eye(5)], 0)
    assert torch.equal(after[4], shown[0]), "code 4 stays"
    for number, frame in enumerate(after):
        there = toy.agent(shown)[0] + torch.tensor(toy.MOVES[(number + 1) % 5])
        assert toy.agent(frame[None])[0].tolist() == there.clamp(0, 8).tolist()


class Drawn:
    """A world that chooses one of two pairs of codes, the first three times as often."""

    view = View()
    space = ActionSpace((code("a", 2), code("b", 2)))

    def imagine(self, state: Any, actions: Any, steps: int, rng: torch.Generator) -> tuple[Clip, Any]:
        drawn = torch.tensor([[1.0, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]]).repeat(16, 1)
        return Clip(actions=drawn[:, None]), state


class Vectors(Drawn):
    def imagine(self, state: Any, actions: Any, steps: int, rng: torch.Generator) -> tuple[Clip, Any]:
        return Clip(actions=torch.linspace(0, 1, 64).square()[:, None, None]), state


def test_whole_actions_are_the_commonest_codes_or_vectors_far_apart() -> None:
    state = {"x": torch.zeros(1, 1)}
    codes = wholes(Speech("codes", Drawn()), state, 0)  # type: ignore[arg-type]
    assert [action.tolist() for action in codes] == [[1, 0, 0, 1], [0, 1, 1, 0]]
    vectors = wholes(Speech("codes", Vectors()), state, 0)  # type: ignore[arg-type]
    assert [round(float(v), 2) for v in vectors[:3]] == [0.0, 1.0, 0.51]
    with pytest.raises(UnusableInput, match="choose"):
        wholes(toys()[1], {"frames": frames(1)[:, None]}, 0)


def test_a_judge_that_speaks_otherwise_is_none() -> None:
    _, codes = toys()
    assert Speech("actions", toys()[0].forward, codes.inverse).judge is None


def test_a_run_without_an_inverse_is_judged_by_its_world_and_says_so() -> None:
    assert [speech.by for speech in toys()] == [INVERSE, INVERSE]
    world, shown = toy.Walk(), frames(1)
    shown[0] = torch.tensor(toy.GROUND, dtype=torch.uint8)[:, None, None]
    shown[0, :, 16:20, 16:20] = torch.tensor(toy.RED, dtype=torch.uint8)[:, None, None]  # where every way is free
    for speech in speeches_of(toy.System(forward=world, adapter=toy.Shift()), "toy"):
        assert (speech.by, speech.reach, speech.lag) == (ITSELF, 0, 0)
        for pressed in torch.eye(5):
            step = together(speech, shown, pressed[None])[0]
            pair = torch.stack([shown[0], step.frame])
            looks = [Look(speech, pair, pressed, 0), Look(speech, pair, pressed.roll(1), 0)]
            world.rows.clear()
            judge(looks)
            assert world.rows == [10], "one pass tries every action of every look"
            assert [look.right for look in looks] == [True, False]


class Deaf(toy.Walk):
    def log_prob(self, clip: Clip) -> Tensor:
        return torch.zeros(clip.rows, clip.steps)


def test_a_world_that_finds_every_action_as_likely_is_never_right() -> None:
    speech = speeches_of(toy.System(forward=Deaf()), "toy")[0]
    pair = frames(1).expand(2, -1, -1, -1)
    looks = [Look(speech, pair, pressed, 0) for pressed in torch.eye(5)]
    judge(looks)
    assert not any(look.right for look in looks)


DRIVE = ActionSpace((continuous("drive", ("steer", "speed"), relative=True), categorical("gear", ("low", "high"))))


class Driver:
    """An inverse model that reads 0.6 to the right, high gear, and of the speed what it is told to be sure of."""

    view, space = View(2, 0, size=(16, 16)), DRIVE

    def __init__(self, speed: float, unsure: float) -> None:
        self.speed, self.unsure = speed, unsure

    def infer(self, clip: Clip) -> Distribution:
        told = torch.tensor([0.6, self.speed, math.log(0.1), math.log(self.unsure), -3.0, 3.0])
        return Distribution(DRIVE, told.expand(clip.rows, clip.steps, 6))


def driven(inverse: Driver, *pressed: float) -> Look:
    gear = [0.0, 1.0]
    pair = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    look = Look(Speech("actions", inverse, inverse), pair, torch.tensor([*pressed, *gear]), 0)  # type: ignore[arg-type]
    judge([look])
    return look


def test_an_axis_is_right_where_the_nearest_key_is_the_one_that_was_pressed() -> None:
    sure = Driver(speed=-0.4, unsure=0.1)  # nearest to pressing nothing
    assert driven(sure, 1.0, 0.0).right
    assert not driven(sure, 0.0, 0.0).right
    assert not driven(sure, 1.0, -1.0).right
    assert driven(sure, 1.0, 0.0).unread == ()
    assert driven(sure, 1.0, 0.0).believed.tolist() == pytest.approx([0.6, -0.4, 0, 1])  # type: ignore[union-attr]


def test_an_axis_that_is_left_open_does_not_count_and_pressing_it_alone_says_nothing() -> None:
    vague = Driver(speed=0.0, unsure=0.31)  # 2 x 1.645 x 0.31 is more than 1, from a key to none
    for speed in (-1.0, 0.0, 1.0):
        look = driven(vague, 1.0, speed)
        assert (look.right, look.unread) == (True, ("drive.speed",))
        assert driven(vague, -1.0, speed).right is False
    assert driven(Driver(speed=0.0, unsure=0.30), 1.0, 0.0).unread == ()
    assert driven(vague, 0.0, 1.0).right is None
    assert driven(vague, 0.0, 0.0).right is False  # nothing was pressed, and the steering was read


class Sure:
    """An inverse model of other actions, of which it believes the same everywhere."""

    view = View(2, 0, size=(16, 16))

    def __init__(self, space: ActionSpace, *params: float) -> None:
        self.space, self.params = space, torch.tensor(params)

    def infer(self, clip: Clip) -> Distribution:
        return Distribution(self.space, self.params.expand(clip.rows, clip.steps, len(self.params)))

    def right(self, *pressed: float) -> bool | None:
        forward: Any = self
        look = Look(Speech("actions", forward, forward), torch.zeros(2, 3, 16, 16, dtype=torch.uint8),
                    torch.tensor(pressed), 0)  # fmt: skip
        judge([look])
        return look.right


def test_who_leaves_all_numbers_open_has_read_nothing() -> None:
    assert Sure(ActionSpace((continuous("v", ("x",)),)), 0.0, 0.0).right(0.0) is False
    arm = ActionSpace((continuous("move", ("x", "y"), relative=True), Segment("gripper", "binary", ("closed",))))
    assert Sure(arm, 0.0, 0.0, 0.0, 0.0, -5.0).right(1.0, -1.0, 0.0) is False  # an idle gripper alone is no evidence
    assert Sure(arm, 0.9, 0.0, -2.0, -2.0, -5.0).right(1.0, 0.0, 0.0) is True
    assert Sure(arm, 0.9, 0.0, -2.0, -2.0, 5.0).right(1.0, 0.0, 0.0) is False


def test_keys_that_lie_near_one_another_are_told_apart_and_measure_what_is_open() -> None:
    met = ActionSpace((continuous("pose", ("a", "b"), low=-9, high=50, center=(1.0, 40.0), scale=(2.0, 5.0)),))
    sharp = Sure(met, -1.0, 0.0, math.log(0.1), math.log(0.1))  # believes in -1 and 40: the key a-
    assert [sharp.right(a, 40.0) for a in (-1.0, 0.0, 3.0)] == [True, False, False]
    blunt = Sure(met, 0.0, 0.0, 0.0, 0.0)  # a deviation to each side, as far as the keys lie
    assert blunt.right(0.0, 40.0) is False


class Mute(toy.Walk):
    def log_prob(self, clip: Clip) -> Tensor:
        raise NoLikelihood("it draws, and cannot say how likely a frame was")


def test_a_world_that_judges_slowly_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "READING", 0.0)
    assert speeches_of(toy.System(forward=toy.Walk()), "toy")[0].judge is None
    assert toys()[0].judge is not None, "an inverse model is asked whatever it takes"


def test_a_world_without_likelihood_or_a_list_of_actions_judges_nothing() -> None:
    assert speeches_of(toy.System(forward=Mute()), "toy")[0].judge is None
    numbers: Any = toy.Walk()
    numbers.space = ActionSpace((continuous("v", ("x",)),))
    assert speeches_of(toy.System(forward=numbers), "toy")[0].judge is None
