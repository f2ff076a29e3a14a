"""Worlds that take words, played without them: the same as told empty ones, in dreams, plans and by policies."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from gymnasium.utils.env_checker import check_env

from retrodict import rng, tree
from retrodict.clip import MISSING, PREDICTED, Clip
from retrodict.dream import dream
from retrodict.errors import Incompatible, UnusableInput
from retrodict.models.inverse import Inverse
from retrodict.models.policy import ClipPolicy
from retrodict.models.wordless import Silence, Wordless, respoken, wordless
from retrodict.plan import (
    CycleScore,
    bayes_inverse,
    best_of_n,
    cem,
    generate_then_infer,
    gradient,
    icem,
    mppi,
    random_shooting,
)
from retrodict.recipes import gaia1, genie_play
from retrodict.roles import ForwardModel, compatible
from retrodict.run.run import Run, Views
from retrodict.spaces import ActionSpace, Segment, categorical, continuous

TEXT = Segment("event", "text", ("0", "1", "2"))
SPACE = ActionSpace((categorical("move", ("left", "right")), TEXT, continuous("drive", ("x",))))

SOME = Clip(features=torch.zeros(1, 3, 1))


@pytest.fixture(scope="module", params=["genie_play", "gaia1"])
def world(request: Any, sprites: Views, tmp_path_factory: pytest.TempPathFactory) -> ForwardModel:
    """A world that takes a move and words."""
    with Run(tmp_path_factory.mktemp("wordless") / "run", sprites) as run:
        if request.param == "gaia1":
            made = gaia1.train(gaia1.micro(), run)
        else:
            made = genie_play.train(replace(genie_play.micro(), events="up=a storm"), run)
    assert made.forward is not None
    return made.forward


def past(sprites: Views, rows: int = 2) -> Clip:
    return Clip(frames=sprites.unlabelled.batch(torch.arange(rows).numpy()).frames[:, :1])  # type: ignore[index]


def moves(space: ActionSpace, rows: int, steps: int) -> torch.Tensor:
    return space.one_hot(torch.randint(0, space.width, (rows, steps), generator=torch.Generator().manual_seed(3)))


def test_words_are_left_out_and_come_back_empty() -> None:
    silence = Silence(SPACE)
    assert [segment.name for segment in silence.space.segments] == ["move", "drive"]
    actions = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, -0.5]]])
    told = silence.encode(actions, SOME)
    assert [SPACE.describe(action) for action in told[0]] == [
        {"move": "left", "event": "", "drive": [0.5]}, {"move": "right", "event": "", "drive": [-0.5]},
    ]  # fmt: skip
    assert silence.dropped(SPACE.vector({"move": "left", "event": "a", "drive": 0.5})).equal(actions[0, 0])
    with pytest.raises(UnusableInput, match="3 columns, without words; got 6"):
        silence.encode(told, SOME)
    with pytest.raises(UnusableInput, match="words alone"):
        Silence(ActionSpace((TEXT,)))


def test_recorded_actions_are_respoken_and_a_value_that_the_world_lacks_is_missing() -> None:
    recorded = ActionSpace((categorical("move", ("right", "paint", "left")), continuous("drive", ("x",))))
    actions = torch.tensor([[[1.0, 0, 0, 0.5], [0, 1.0, 0, 0.0], [0, 0, 1.0, -0.5]]])
    clip = Clip(features=torch.zeros(1, 4, 1), actions=actions)
    told = respoken(clip, recorded, SPACE)
    assert told.actions is not None
    assert told.known.tolist() == [[True, False, True]]
    assert [SPACE.describe(told.actions[0, t]) for t in (0, 2)] == [
        {"move": "right", "event": "", "drive": [0.5]}, {"move": "left", "event": "", "drive": [-0.5]},
    ]  # fmt: skip
    source = torch.tensor([[PREDICTED, PREDICTED, MISSING]], dtype=torch.uint8)
    assert respoken(clip.with_(source=source), recorded, SPACE).source.tolist() == [[PREDICTED, MISSING, MISSING]]  # type: ignore[union-attr]
    assert respoken(clip, recorded, recorded).actions.equal(actions)  # type: ignore[union-attr]
    with pytest.raises(Incompatible, match="the world speaks"):
        respoken(clip, ActionSpace((categorical("turn", ("left", "right")),)), SPACE)


@torch.no_grad()
def test_it_imagines_what_the_world_imagines_that_is_told_empty_words(world: ForwardModel, sprites: Views) -> None:
    quiet = wordless(world)
    assert isinstance(quiet, Wordless)
    assert quiet.space == sprites.unlabelled.cache.space or quiet.space.width == 4  # genie_play's up is an event
    actions, noise = moves(quiet.space, 2, 3), lambda: torch.Generator().manual_seed(0)
    empty = -torch.ones(2, 3, world.space.width - quiet.space.width)
    before = past(sprites)
    ours, ours_after = quiet.imagine(quiet.observe(before), actions, 3, noise())
    told = torch.cat([actions, empty], -1)
    theirs, theirs_after = world.imagine(world.observe(before), told, 3, noise())
    assert ours.frames is not None
    assert ours.actions is not None
    assert ours.frames.equal(theirs.frames)  # type: ignore[arg-type]
    assert ours.actions.equal(actions)
    for name, value in tree.flatten(theirs_after).items():
        assert torch.allclose(tree.flatten(ours_after)[name].float(), value.float(), atol=1e-5), name
    assert torch.allclose(quiet.log_prob(ours), world.log_prob(ours.with_(actions=told)))
    again = quiet.observe(ours.cut(1, 4), ours_after)
    assert tree.flatten(again).keys() == tree.flatten(ours_after).keys()
    free, _ = quiet.imagine(quiet.observe(before), None, 2, noise())
    assert free.frames is not None
    assert free.frames.equal(world.imagine(world.observe(before), None, 2, noise())[0].frames)  # type: ignore[arg-type]


def test_it_is_dreamt(world: ForwardModel, sprites: Views) -> None:
    env = dream(world, past(sprites))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of things it cannot look at, such as no registered id
        check_env(env)
    rows = dream(world, past(sprites), n=2)
    rows.reset(seed=0)
    twin, native = rows.branch(), rows.action_space.sample()
    assert (rows.step(native)[0] == twin.step(native)[0]).all()


@torch.no_grad()
def test_whatever_speaks_actions_alone_meets_it(world: ForwardModel, sprites: Views) -> None:
    quiet, before = wordless(world), past(sprites)
    with rng.isolated(0, "policy"):
        policy = ClipPolicy(quiet.view, quiet.space, "flatten", "grid", 4, 8, 1, 16).eval()
    assert "wordless(world)" in str(compatible(world, policy))
    assert compatible(quiet, policy) is None
    clip, _ = quiet.imagine(quiet.observe(before), policy, 2, torch.Generator().manual_seed(0))
    assert clip.frames is not None
    assert clip.length == 3
    inverse = bayes_inverse(world, policy)
    assert inverse.space == quiet.space
    believed = inverse.infer(Clip(frames=clip.frames))
    assert believed.params.shape == (2, 2, quiet.space.parameters)
    best, _ = best_of_n(world, inverse, 2).imagine(
        quiet.observe(before), moves(quiet.space, 2, 2), 2, torch.Generator()
    )
    assert best.rows == 2

    score = CycleScore(inverse)
    for planner in (
        random_shooting(world, score, 1, 4), cem(world, score, 1, 4, 1, 2), icem(world, score, 1, 4, 1, 2, share=0.5),
        mppi(world, score, 1, 4, 1, 2, policy=policy, proposals=1),
    ):  # fmt: skip
        assert planner.space == quiet.space
        belief, memory = planner.act(before)
        again, _ = planner.act(clip.only("frames").cut(0, 2), memory)
        assert belief.params.shape == again.params.shape == (2, quiet.space.parameters)
    with pytest.raises(Incompatible, match="this world takes choices or keys"):
        gradient(world, score)


@torch.no_grad()
def test_a_plan_imagined_without_words_is_read_by_an_inverse_that_knows_none(
    world: ForwardModel, sprites: Views
) -> None:
    quiet, before = wordless(world), past(sprites)
    with rng.isolated(0, "inverse"):
        inverse = Inverse(
            replace(quiet.view, frames=2, before=0), quiet.space, patch=4, width=4, depth=1, hidden=8
        ).eval()
    first, memory = generate_then_infer(world, inverse, 2, 5).act(before)
    same, _ = generate_then_infer(quiet, inverse, 2, 5).act(before)
    assert first.space == quiet.space
    assert first.params.equal(same.params)
    for row in range(before.rows):  # each with the noise of its own episode and decision
        episode = 0 if before.segment is None else int(before.segment[row, -1])
        noise = rng.torch_rng(5, "generate", episode, 0)
        dreamt, _ = world.imagine(tree.row(world.observe(before), row), None, 2, noise)
        told = inverse.infer(world.decode(dreamt).only("frames")).params[:, 0]
        assert torch.allclose(first.params[row : row + 1], told, atol=1e-6)
    assert isinstance(memory, dict)
    assert memory["count"].tolist() == [1, 1]  # type: ignore[union-attr]


def test_a_world_without_words_stays_as_it_is(world: ForwardModel) -> None:
    quiet = wordless(world)
    assert wordless(quiet) is quiet
    assert isinstance(quiet, Wordless)
    with pytest.raises(Incompatible, match="words"):
        quiet.adapter.decode(None, SOME)  # type: ignore[arg-type]
