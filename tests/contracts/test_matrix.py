"""Any inverse meets any forward model, policy and planner: every pair of every composition works or states why not.

Rows are the compositions of the design's table; a cell works when four steps give the declared shapes and finite
numbers. `EXPECTED` names the cells that refuse, with a word of their reason: a cell that starts or stops working
shows here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from retrodict import rng
from retrodict.clip import Clip
from retrodict.envs.sprites import Sprites
from retrodict.errors import Incompatible, NoFrames, NoLikelihood, UnusableInput
from retrodict.figures import world_figures
from retrodict.figures.judge import Judge
from retrodict.measure import obedience
from retrodict.measure.intervals import wilson
from retrodict.models.frame_world import FrameForward
from retrodict.models.gaussian_vae import GaussianVAE
from retrodict.models.losses import cloning, next_frame
from retrodict.models.mdn_rnn import MDNRNN, foretelling
from retrodict.models.policy import ClipPolicy
from retrodict.models.rssm import RSSM, modelling
from retrodict.models.tdmpc import LatentWorld, learning
from retrodict.models.wordless import wordless
from retrodict.plan import (
    CycleScore,
    Rewards,
    bayes_inverse,
    best_of_n,
    cem,
    generate_then_infer,
    gradient,
    icem,
    mppi,
    random_shooting,
)
from retrodict.recipes import (
    bc,
    dreamer_v3,
    gaia1,
    genie,
    genie_play,
    iris,
    joint,
    laom,
    lapo,
    laq,
    tdmpc2,
    vpt,
    world_models,
)
from retrodict.roles import System, View, compatible
from retrodict.run.loop import Fit
from retrodict.run.run import Run, Views
from retrodict.segments import ONE_HOT
from retrodict.spaces import ActionSpace
from retrodict.tree import Tree, flatten, pick, repeat

STEPS = 4
TOKENS = ("genie codes", "genie", "iris", "genie_play", "gaia1")  # worlds that take their time,
FEW = ("vpt", "lapo codes", "iris", "genie codes")  # and so meet one or two of each kind of action


@dataclass
class Cast:
    """All that exists so far, by name."""

    systems: dict[str, System]
    inverse: dict[str, Any]
    forward: dict[str, Any]
    policy: dict[str, Any]
    views: Views
    folder: Path


@pytest.fixture(scope="module")
def cast(sprites: Views, tmp_path_factory: pytest.TempPathFactory) -> Cast:
    folder = tmp_path_factory.mktemp("matrix")
    made = {}
    for recipe in (vpt, lapo, laq, laom, bc, joint, world_models, dreamer_v3, genie, iris, genie_play, gaia1):
        name = recipe.__name__.rpartition(".")[2]
        cfg = recipe.micro()
        with Run(folder / name, sprites) as run:
            made[name] = recipe.train(replace(cfg, patch=18) if recipe in (iris, gaia1) else cfg, run)  # four tokens
    codes, true = made["lapo"], made["lapo"].decoded()
    cache = sprites.unlabelled.cache
    view = View(size=cache.size, channels=cache.channels)
    with rng.isolated(0, "matrix"):
        world = FrameForward(view, cache.space, "conv", 4, 8, 1)
    inverse = {"vpt": made["vpt"].inverse, "lapo codes": codes.inverse, "lapo": true.inverse,
               "laq": made["laq"].decoded().inverse, "laom": made["laom"].inverse,
               "genie codes": made["genie"].inverse, "joint": made["joint"].inverse,
               "bayes": bayes_inverse(world, made["bc"].policy)}  # fmt: skip
    forward = {"frames": world, "lapo codes": codes.forward, "lapo": true.forward, "joint": made["joint"].forward,
               "laq": made["laq"].decoded().forward, "world_models": made["world_models"].forward,
               "dreamer_v3": made["dreamer_v3"].forward, "genie codes": made["genie"].forward,
               "genie": made["genie"].decoded().forward, "iris": made["iris"].forward,
               "genie_play": made["genie_play"].forward, "gaia1": wordless(made["gaia1"].forward)}  # fmt: skip
    policy = {"vpt": made["vpt"].policy, "bc": made["bc"].policy, "joint": made["joint"].policy,
              "lapo codes": codes.policy, "lapo": true.policy,
              "laq": made["laq"].decoded().policy, "laom": made["laom"].policy,
              "world_models": made["world_models"].policy, "dreamer_v3": made["dreamer_v3"].policy,
              "iris": made["iris"].policy, "genie codes": made["genie"].policy,
              "planned": generate_then_infer(codes.forward, made["vpt"].inverse),
              "cem": cem(world, CycleScore(made["vpt"].inverse), 2, 4, 1, 2)}  # fmt: skip
    return Cast(made, inverse, forward, policy, sprites, folder)


def outcome(work: Callable[[], None]) -> str:
    """ "works", or the reason that was given."""
    try:
        with torch.no_grad():
            work()
    except (Incompatible, NoFrames, NoLikelihood, UnusableInput) as reason:
        return str(reason)
    return "works"


def past(cast: Cast, rows: int = 2) -> Clip:
    clip = cast.views.unlabelled.batch(torch.arange(rows).numpy())
    return Clip(frames=clip.frames[:, :1])


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def finite(tree: Tree) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in flatten(tree).values() if tensor.is_floating_point())


def pairs(cast: Cast, others: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every world with every other role, and worlds of tokens with a few."""
    return [(f, other) for f in cast.forward for other in others if f not in TOKENS or other in FEW]


def apart(cast: Cast, others: Mapping[str, Any], word: str = "different actions") -> dict[tuple[str, str], str]:
    """The cells in which one role speaks codes and the other true actions."""
    return {(f, other): word for f, other in pairs(cast, others) if f.endswith("codes") != other.endswith("codes")}


def check_dream(forward: Any, clip: Clip, state: Any, rows: int) -> None:
    seen = forward.decode(clip)
    assert seen.frames.shape[:2] == (rows, STEPS + 1)
    assert seen.frames.dtype == torch.uint8
    assert clip.actions.shape == (rows, STEPS, forward.space.width)
    assert finite(state)


def verdicts(found: dict[tuple[str, str], str], expected: dict[tuple[str, str], str]) -> None:
    refused = {cell: reason for cell, reason in found.items() if reason != "works"}
    assert set(refused) == set(expected), {c: r for c, r in refused.items() if c not in expected}
    for cell, word in expected.items():
        assert word in refused[cell], (cell, refused[cell])
        assert len(refused[cell].split()) > 5, "a reason is a sentence"


def labelled(cast: Cast, name: str, inverse: Any, run: Run) -> Any:
    few = cast.views.unlabelled.only(torch.arange(64).numpy())
    return run.label(f"label {name}", inverse, few)


def test_inverse_labels_a_policy_clones(cast: Cast) -> None:
    """Label, then clone: every inverse teaches a policy in its own actions."""
    for name, inverse in cast.inverse.items():
        with Run(cast.folder / f"clone {name}", cast.views) as run:
            data = labelled(cast, name, inverse, run)
            view = View(size=data.cache.size, channels=data.cache.channels)
            with rng.isolated(0, name):
                policy = ClipPolicy(view, inverse.space, "flatten", "grid", 4, 8, 1, 16)
            policy = run.fit("policy", policy, cloning, data.shown(view), Fit(STEPS, 8))
        belief, _ = policy.act(past(cast))
        assert belief.params.shape == (2, inverse.space.parameters)
        assert bool(torch.isfinite(belief.params).all())


def test_inverse_labels_a_world_learns(cast: Cast) -> None:
    """Label, then model the world: every inverse teaches a forward model in its own actions."""
    for name, inverse in cast.inverse.items():
        with Run(cast.folder / f"world {name}", cast.views) as run:
            data = labelled(cast, name, inverse, run)
            view = View(size=data.cache.size, channels=data.cache.channels)
            with rng.isolated(0, name):
                world = FrameForward(view, inverse.space, "conv", 4, 8, 1)
            world = run.fit("world", world, next_frame, data.shown(view), Fit(STEPS, 8))
        actions = torch.zeros(2, STEPS, inverse.space.width)
        with torch.no_grad():
            clip, state = world.imagine(world.observe(past(cast)), actions, STEPS, noise())
        check_dream(world, clip, state, 2)


def recurrent(view: View, space: ActionSpace) -> tuple[Any, Any, int]:
    return (
        RSSM(view, space, deter=16, hidden=16, stoch=4, classes=4, units=16, channels=8, patch=9, bins=7),
        modelling,
        4,
    )


def mixture(view: View, space: ActionSpace) -> tuple[Any, Any, int]:
    return MDNRNN(GaussianVAE(view, 1, (4, 4, 4)), space, 8, 2), foretelling, 0


def latent(view: View, space: ActionSpace) -> tuple[Any, Any, int]:
    return LatentWorld(view, space, 16, 16, 16, critics=2, bins=7, episodic=True), learning, 0


@pytest.mark.parametrize("world", [recurrent, mixture, latent])
@pytest.mark.parametrize("name", ["vpt", "lapo codes"])
def test_worlds_to_plan_in_learn_from_latent_and_from_predicted_actions(cast: Cast, name: str, world: Any) -> None:
    """Unlabelled video and an inverse are enough for actions; then one plans in what was learnt."""
    inverse = cast.inverse[name]
    with Run(cast.folder / f"plan {name} {world.__name__}", cast.views) as run:
        video = cast.views.unlabelled
        data = run.label("label", inverse, video)
        view = View(size=video.cache.size, channels=video.cache.channels)
        with rng.isolated(0, name):
            part, loss, before = world(view, inverse.space)
        made = run.fit("world", part, loss, data.shown(video.cache.view(4, before)).whole(), Fit(STEPS, 8))
    assert made.space == inverse.space
    with torch.no_grad():
        planner = cem(made, Rewards(0.9), 2, 6, 2, 2)
        belief, memory = planner.act(past(cast))
        again, _ = planner.act(Clip(frames=past(cast).frames.repeat(1, 2, 1, 1, 1)), memory)  # type: ignore[union-attr]
        one, other = (
            made.imagine(made.observe(past(cast)), inverse.space.one_hot(torch.full((2, 3), value)), 3, noise())[0]
            for value in (0, 1)
        )
    assert belief.params.shape == again.params.shape == (2, inverse.space.parameters)
    assert not torch.equal(one.rewards, other.rewards)  # it is told what was done


def test_forward_proposes_inverse_chooses(cast: Cast) -> None:
    found = {}
    for f, i in pairs(cast, cast.inverse):

        def work(forward: Any = cast.forward[f], inverse: Any = cast.inverse[i]) -> None:
            best = best_of_n(forward, inverse, 3)
            actions = torch.zeros(2, STEPS, forward.space.width)
            actions[..., 0] = 1.0
            clip, state = best.imagine(best.observe(past(cast)), actions, STEPS, noise())
            check_dream(best, clip, state, 2)

        found[f, i] = outcome(work)
    verdicts(found, apart(cast, cast.inverse))


def test_forward_imagines_inverse_reads(cast: Cast) -> None:
    found = {}
    for f, i in pairs(cast, cast.inverse):

        def work(forward: Any = cast.forward[f], inverse: Any = cast.inverse[i]) -> None:
            planned = generate_then_infer(forward, inverse, horizon=STEPS)
            belief, memory = planned.act(past(cast))
            assert belief.params.shape == (2, inverse.space.parameters)
            assert bool(torch.isfinite(belief.params).all())
            again, _ = planned.act(Clip(frames=past(cast).frames.repeat(1, 2, 1, 1, 1)), memory)
            assert again.params.shape == belief.params.shape

        found[f, i] = outcome(work)
    words = dict.fromkeys(("frames", "world_models", "dreamer_v3"), "does not choose")
    words |= dict.fromkeys(("lapo", "laq", "genie"), "chooses codes")
    needs = {(f, i): words[f] for f, i in pairs(cast, cast.inverse) if f in words}
    verdicts(found, needs)


def test_world_and_policy_make_an_inverse(cast: Cast) -> None:
    found = {}
    clip = cast.views.labelled.batch(torch.arange(3).numpy())
    for f, p in pairs(cast, cast.policy):

        def work(forward: Any = cast.forward[f], policy: Any = cast.policy[p]) -> None:
            inverse = bayes_inverse(forward, policy)
            belief = inverse.infer(Clip(frames=clip.frames))
            assert belief.params.shape == (3, clip.steps, forward.space.parameters)
            assert bool(torch.isfinite(belief.params).all())

        found[f, p] = outcome(work)
    unlikely = {("dreamer_v3", p): "no likelihood" for p in cast.policy}
    verdicts(found, unlikely | apart(cast, cast.policy))


def test_policy_practises_inside_a_world(cast: Cast) -> None:
    found = {}
    for f, p in pairs(cast, cast.policy):

        def work(forward: Any = cast.forward[f], policy: Any = cast.policy[p]) -> None:
            if reason := compatible(forward, policy):
                raise Incompatible(reason)
            clip, state = forward.imagine(forward.observe(past(cast)), policy, STEPS, noise())
            check_dream(forward, clip, state, 2)

        found[f, p] = outcome(work)
    verdicts(found, apart(cast, cast.policy))


def test_search_inside_a_world_with_a_score(cast: Cast) -> None:
    """best_of_n with any score keeps the best of n, row by row."""
    for name, forward in cast.forward.items():

        def brightness(clip: Clip, forward: Any = forward) -> torch.Tensor:
            return forward.decode(clip).frames[:, -1].float().mean((1, 2, 3))

        policy = cast.policy["lapo codes"] if name.endswith("codes") else cast.policy["bc"]
        best = best_of_n(forward, brightness, 5)
        with torch.no_grad():
            clip, state = best.imagine(best.observe(past(cast)), policy, STEPS, noise())
            wide = repeat(forward.observe(past(cast)), 5)
            every, _ = forward.imagine(wide, policy, STEPS, noise())
        check_dream(best, clip, state, 2)
        assert torch.equal(brightness(clip), brightness(every).view(2, 5).amax(1))
        assert finite(pick(state, torch.tensor([1])))


PLANNERS: dict[str, Callable[..., Any]] = {
    "random": lambda world, score: random_shooting(world, score, 2, 6),
    "cem": lambda world, score: cem(world, score, 2, 6, 2, 2),
    "icem": lambda world, score: icem(world, score, 2, 6, 2, 2, share=0.5),
    "mppi": lambda world, score: mppi(world, score, 2, 6, 2, 2),
    "gradient": lambda world, score: gradient(world, score, 2, 2, 1),
}


def test_every_planner_thinks_in_every_world_by_every_judge(cast: Cast) -> None:
    found = {}
    scene = past(cast)
    further = Clip(frames=scene.frames.repeat(1, 2, 1, 1, 1))  # type: ignore[union-attr]
    for f, i in pairs(cast, cast.inverse):
        for p, make in PLANNERS.items():

            def work(f: str = f, i: str = i, make: Any = make) -> None:
                forward, inverse = cast.forward[f], cast.inverse[i]
                planner = make(forward, CycleScore(inverse))
                belief, memory = planner.act(scene)
                for _ in range(1 if f in TOKENS else STEPS - 1):
                    belief, memory = planner.act(further, memory)
                assert belief.params.shape == (2, forward.space.parameters)
                assert finite(belief.params)
                assert finite(memory)

            found[f, f"{i}, {p}"] = outcome(work)
    different = {(f, f"{i}, {p}"): word for (f, i), word in apart(cast, cast.inverse).items() for p in PLANNERS}
    choices = {(f, f"{i}, gradient"): "choices or keys" for f, i in pairs(cast, cast.inverse)}
    verdicts(found, choices | different)


def test_a_future_whose_score_is_not_finite_stops_every_planner_in_every_world(cast: Cast) -> None:
    """What planners are worth is the seventh place of N1; test_numbers spoils the others."""
    scene, tried = past(cast), 0
    for forward in cast.forward.values():
        for p, make in PLANNERS.items():
            if p == "gradient" and any(segment.kind in ONE_HOT for segment in forward.space.segments):
                continue  # refused for another reason
            bad = (torch.nan, torch.inf, -torch.inf)[tried % 3]

            def broken(clip: Clip, bad: float = bad) -> torch.Tensor:
                return torch.where(torch.arange(clip.rows) == clip.rows // 2 + 1, bad, 0.0)

            told = rf"of 12 imagined futures .* not finite.* is {bad}, of plan \d in row \d at decision 0"
            with torch.no_grad(), pytest.raises(UnusableInput, match=told):
                make(forward, broken).act(scene)
            tried += 1
        best = best_of_n(forward, lambda clip: torch.arange(clip.rows).sub(3.0).log(), 4)
        actions = torch.zeros(2, STEPS, forward.space.width)
        with torch.no_grad(), pytest.raises(UnusableInput, match="future 0 of row 0 is nan"):
            best.imagine(best.observe(scene), actions, STEPS, noise())
    assert tried >= 4 * len(cast.forward)


def test_a_world_without_frames_is_planned_in_and_says_what_it_lacks(cast: Cast) -> None:
    """Whatever needs no frames works with TD-MPC2's world; the rest refuses with the reason."""
    with Run(cast.folder / "tdmpc2", cast.views) as run:
        made = tdmpc2.train(tdmpc2.micro(), run)
    world, bc_policy = made.forward, cast.policy["bc"]
    assert world is not None
    assert made.policy is not None
    state = world.observe(past(cast))
    rewards, twice = Rewards(0.9), Clip(frames=past(cast).frames.repeat(1, 2, 1, 1, 1))  # type: ignore[union-attr]

    def planned(make: Callable[..., Any]) -> None:
        belief, _ = make(world, rewards).act(past(cast))
        assert finite(belief.params)

    def practised(policy: Any) -> None:
        clip, after = world.imagine(state, policy, STEPS, noise())
        assert clip.actions.shape == (2, STEPS, world.space.width)
        assert finite(after)

    inverse, prior = cast.inverse["vpt"], made.policy.prior
    found: dict[tuple[str, str], str] = {
        ("best of n", "vpt"): outcome(lambda: best_of_n(world, inverse, 2).imagine(state, None, 2, noise())),
        ("best of n", "rewards"): outcome(lambda: best_of_n(world, rewards, 2).imagine(state, prior, 2, noise())),
        ("read", "vpt"): outcome(lambda: generate_then_infer(world, inverse).act(past(cast))),
        ("bayes", "bc"): outcome(lambda: bayes_inverse(world, bc_policy).infer(twice)),
        ("practice", "bc"): outcome(lambda: practised(bc_policy)),
        ("practice", "own"): outcome(lambda: practised(made.policy.prior)),
        ("practice", "chosen"): outcome(lambda: practised(None)),
        **{("plan", name): outcome(lambda make=make: planned(make)) for name, make in PLANNERS.items()},  # type: ignore[misc]
    }  # fmt: skip
    needs = {("best of n", "vpt"): "looks at frames", ("read", "vpt"): "no frames", ("bayes", "bc"): "how likely",
             ("practice", "bc"): "no frames", ("plan", "gradient"): "choices or keys"}  # fmt: skip
    verdicts(found, needs)
    with torch.no_grad():
        for weights in world.parameters():  # type: ignore[attr-defined]
            weights.fill_(torch.nan)
        with pytest.raises(UnusableInput, match=r"imagined futures .* not finite"):
            made.policy.act(past(cast))


def test_every_world_answers_the_questions(cast: Cast) -> None:
    """Skill by horizon and sensitivity to actions, through the role alone."""
    cache = cast.views.unlabelled.cache
    words = {}
    for name, forward in cast.forward.items():
        clip = obedience.told(obedience.windows(cache, 0, STEPS, 40), cache.space, forward, cast.inverse["lapo codes"])
        found, heeded = obedience.horizon(forward, clip, 0), obedience.sensitivity(forward, clip, 0)
        assert all(one is not None and one.value <= 1 for one in (*found.whole.skill, *found.moving.skill))
        assert len(found.drift) == len(found.psnr) == STEPS
        assert heeded.shuffled.value > 0
        words[name] = heeded.word
    assert words["joint"] == "ignores its actions"  # its net is shown none


def test_every_inverse_reads_what_worlds_generate(cast: Cast) -> None:
    """Cycle consistency: what was asked for against what is read."""
    cache, found = cast.views.unlabelled.cache, {}
    for f, forward in cast.forward.items():
        clip = obedience.told(obedience.windows(cache, 0, 1, 40), cache.space, forward, cast.inverse["lapo codes"])
        for i in (other for world, other in pairs(cast, cast.inverse) if world == f):

            def work(forward: Any = forward, inverse: Any = cast.inverse[i], clip: Clip = clip) -> None:
                read = obedience.cycle(forward, inverse, clip, 0)
                assert 0 <= read.score.value <= 1
                assert read.by

            found[f, i] = outcome(work)
    verdicts(found, apart(cast, cast.inverse, "actions of one kind"))


def test_every_recipe_with_a_world_has_the_figures_of_worlds(cast: Cast) -> None:
    cache, found = cast.views.unlabelled.cache, {}
    judge = Judge(cast.systems["vpt"].inverse, wilson(1, 2))  # type: ignore[arg-type]
    where = world_figures.Ground(cache, lambda copies: Sprites(copies), range(20), 0.5, lambda: judge)
    for name, system in cast.systems.items():
        ground = replace(where, windows=12, states=4) if name in TOKENS else where
        for figure in world_figures.MEASURES:

            def work(figure: str = figure, system: System = system, ground: Any = ground) -> None:
                told = world_figures.measured(figure, system, ground)
                assert told[figure] == told[figure]
                assert all(key == figure or key.startswith(f"{figure}.") for key in told)

            found[name, figure] = outcome(work)
    without = {(name, figure): "no forward model" for name, system in cast.systems.items() if system.forward is None
               for figure in world_figures.MEASURES}  # fmt: skip
    verdicts(found, without)


def test_sizes_that_differ_are_a_reason(cast: Cast) -> None:
    small = replace(cast.forward["frames"].view, size=(18, 18))
    with rng.isolated(0, "small"):
        other = FrameForward(small, cast.forward["frames"].space, "conv", 2, 8, 1)
    assert "pixels" in str(compatible(other, cast.inverse["vpt"]))
    with pytest.raises(Incompatible, match="pixels"):
        best_of_n(other, cast.inverse["vpt"], 2)
