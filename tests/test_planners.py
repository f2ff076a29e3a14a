"""Planners: they find known optima, whatever the actions are, and a row is planned for as if it were alone.

The toy world is a point that actions push: x' = x + a, its features are x, its reward is -(x'^2 + 0.5 a^2). What is
best is the solution of linear equations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from graph_stand_in import Again
from retrodict import planners
from retrodict.clip import Clip
from retrodict.errors import Incompatible, NoFrames, UnusableInput
from retrodict.plan import CycleScore, Reach, Rewards, WeightedScore, cem, gradient, icem, mppi, random_shooting
from retrodict.roles import Policy, View, next_action
from retrodict.search import coloured
from retrodict.segments import Segment, vector
from retrodict.spaces import ActionSpace, Distribution, categorical, continuous
from retrodict.tree import concatenate, pick

PUSH = ActionSpace((continuous("push", ("x",), -2.0, 2.0),))
MIXED = ActionSpace((categorical("way", ("left", "stay", "right")), Segment("fast", "binary", ("on",)),
                     continuous("more", ("x",), 0.0, 0.5)))  # fmt: skip
SPOKEN = ActionSpace((*PUSH.segments, Segment("words", "text", ("0", "1"))))
COST = 0.5


class Point:
    """The toy world; `noise` is the spread of what it adds to every step."""

    view = View(size=(1, 1), channels=1, proprio=1)

    def __init__(self, space: ActionSpace = PUSH, noise: float = 0.0) -> None:
        self.space, self.noise, self.asked = space, noise, 0

    def observe(self, past: Clip, state: Any = None) -> Any:
        assert past.proprio is not None
        return {"x": past.proprio[:, -1]}

    def imagine(self, state: Any, actions: Any, steps: int, rng: torch.Generator) -> tuple[Clip, Any]:
        self.asked += 1
        if not steps:
            return Clip(features=state["x"].unsqueeze(1)), state
        xs, taken, memory = [state["x"]], [], None
        for step in range(steps):
            action, memory = next_action(actions, step, Clip(proprio=xs[-1].unsqueeze(1)), memory, rng)
            x = xs[-1] + moved(self.space, action)
            if self.noise:
                x = x + self.noise * torch.randn(x.shape, generator=rng)
            xs.append(x)
            taken.append(action)
        x, acts = torch.stack(xs, 1), torch.stack(taken, 1)
        told = acts[..., [part.kind != "text" for part in self.space.segments for _ in range(part.width)]]
        rewards = -(x[:, 1:, 0] ** 2 + COST * (told**2).sum(-1))
        return Clip(features=x, actions=acts, rewards=rewards), {"x": xs[-1]}

    def decode(self, clip: Clip) -> Clip:
        raise NoFrames("a point has no picture")

    def log_prob(self, clip: Clip) -> Tensor:
        raise NotImplementedError


def moved(space: ActionSpace, action: Tensor) -> Tensor:
    """How far an action moves the point."""
    if space != MIXED:
        return action[:, :1]
    return (action[:, 2:3] - action[:, 0:1]) * (1 + action[:, 3:4]) + action[:, 4:5]


def at(*xs: float, segment: int | None = None) -> Clip:
    marks = None if segment is None else torch.full((len(xs), 1), segment, dtype=torch.int32)
    return Clip(proprio=torch.tensor(xs).view(-1, 1, 1), segment=marks)


def later(xs: list[list[float]], segments: list[list[int]]) -> Clip:
    """Rows of two frames."""
    return Clip(proprio=torch.tensor(xs).unsqueeze(-1), segment=torch.tensor(segments, dtype=torch.int32))


def best_pushes(x: float, horizon: int) -> Tensor:
    """The least of |x + L a|^2 + COST |a|^2, where L sums pushes: (L'L + COST) a = -L' x."""
    lower = torch.ones(horizon, horizon).tril()
    return torch.linalg.solve(lower.T @ lower + COST * torch.eye(horizon), -x * lower.T.sum(1))


def near(goal: float) -> Callable[[Clip], Tensor]:
    """A score: how near the point ends."""

    def score(clip: Clip) -> Tensor:
        assert clip.features is not None
        return -((clip.features[:, -1, 0] - goal) ** 2)

    return score


def wells(clip: Clip) -> Tensor:
    """Two good ends, at -1 and at 1.2; the second is the better by 0.3."""
    assert clip.features is not None
    x = clip.features[:, -1, 0]
    return torch.maximum(-((x + 1) ** 2) - 0.3, -((x - 1.2) ** 2))


Make = Callable[..., Any]
PLANNERS: dict[str, Make] = {
    "random": lambda forward, score, horizon=2, **more: random_shooting(forward, score, horizon, 4096, **more),
    "cem": lambda forward, score, horizon=4, **more: cem(forward, score, horizon, 256, 8, 24, 0.01, **more),
    "icem": lambda forward, score, horizon=4, **more: icem(forward, score, horizon, 256, 8, 24, 0.01, 1.0, 0.5, **more),
    "mppi": lambda forward, score, horizon=4, **more: mppi(
        forward, score, horizon, 256, 8, 24, least=0.01, **more),
    "gradient": lambda forward, score, horizon=4, **more: gradient(forward, score, horizon, 4, 60, **more),
}  # fmt: skip
every_planner = pytest.mark.parametrize("name", PLANNERS)
every_search = pytest.mark.parametrize("name", [name for name in PLANNERS if name != "gradient"])


@every_planner
@pytest.mark.parametrize("x", [1.5, -0.7])
def test_the_optimum_of_a_quadratic_is_found(name: str, x: float) -> None:
    planner = PLANNERS[name](Point(), Rewards(1.0))
    belief, memory = planner.act(at(x))
    plan, right = memory["plan"][0, :, 0], best_pushes(x, planner.horizon)
    world = Point()
    both = torch.stack([plan, right]).unsqueeze(-1)
    clip, _ = world.imagine({"x": torch.full((2, 1), x)}, both, planner.horizon, torch.Generator())
    found, best = Rewards(1.0)(clip).tolist()
    assert best >= found >= best * 1.05  # they are costs with a minus
    assert abs(float(belief.mode()) - float(right[0])) < 0.05 * abs(float(right[0])) + 0.05 * abs(x)
    assert float(belief.confidence()) > 0.99


@every_planner
def test_acting_until_the_end_costs_hardly_more_than_the_optimum(name: str) -> None:
    """Ten steps, planned for anew at each; the optimum is that of all ten at once."""
    planner, x, memory, cost = PLANNERS[name](Point(), Rewards(1.0)), 1.5, None, 0.0
    past = at(x)
    for _ in range(10):
        belief, memory = planner.act(past, memory)
        push = float(belief.mode())
        past = later([[x, x + push]], [[0, 0]])
        x += push
        cost += x**2 + COST * push**2
    right = best_pushes(1.5, 10)
    least = float(((1.5 + right.cumsum(0)) ** 2 + COST * right**2).sum())
    assert least - 1e-6 <= cost <= least * 1.05


@every_planner
@pytest.mark.parametrize("x", [0.0, -0.5, 0.3])
def test_the_better_of_two_wells_is_kept(name: str, x: float) -> None:
    planner = PLANNERS[name](Point(), wells, 1)
    belief, _ = planner.act(at(x))
    assert abs(x + float(belief.mode()) - 1.2) < 0.1


@every_planner
def test_axes_stay_within_their_bounds(name: str) -> None:
    belief, memory = PLANNERS[name](Point(), near(100.0), 2).act(at(0.0))
    assert 1.9 < float(belief.mode()) <= 2.0 + 1e-5
    assert memory["plan"].abs().max() <= 2.0 + 1e-5


@every_search
def test_choices_and_keys_and_axes_are_searched_together(name: str) -> None:
    """The furthest right is: right, fast, and all that the axis gives; the nearest to -1 is left and no more."""
    belief, _ = PLANNERS[name](Point(MIXED), near(100.0), 2).act(at(0.0))
    told = MIXED.describe(belief.mode()[0])
    assert (told["way"], told["fast"]) == ("right", "on")
    assert told["more"][0] > 0.4  # type: ignore[operator]
    belief, _ = PLANNERS[name](Point(MIXED), near(-1.0), 1).act(at(0.0))
    told = MIXED.describe(belief.mode()[0])
    assert (told["way"], told["fast"]) == ("left", "none")


@every_planner
def test_words_stay_unsaid_and_the_plan_is_that_of_a_world_without_them(name: str) -> None:
    quiet, spoken = (PLANNERS[name](Point(space), Rewards(1.0)) for space in (PUSH, SPOKEN))
    assert spoken.space == PUSH
    belief, memory = spoken.act(at(1.5, -0.7))
    wanted, kept = quiet.act(at(1.5, -0.7))
    assert torch.allclose(belief.params, wanted.params, atol=1e-4)
    assert torch.allclose(memory["plan"], kept["plan"], atol=1e-4)


def test_a_latent_vector_is_planned_within_its_reach() -> None:
    space = ActionSpace((vector("latent", 1),))
    for name, make in PLANNERS.items():
        belief, _ = make(Point(space), near(-2.5), 1).act(at(0.0))
        assert abs(float(belief.mode()) + 2.5) < 0.1, name


@every_planner
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_batch_is_planned_like_its_rows(name: str, noise: float) -> None:
    """Also where the world draws, at the first decision and after it, and whatever the order of rows."""
    make, xs, episodes = PLANNERS[name], [1.5, -0.7, 0.4], [7, 3, 9]
    past = concatenate_clips([at(x, segment=episode) for x, episode in zip(xs, episodes, strict=True)])
    further = later([[x, x + 0.2] for x in xs], [[7, 7], [3, 4], [9, 9]])
    together = make(Point(noise=noise), Rewards(0.9))
    first, memory = together.act(past)
    second, after = together.act(further, memory)
    for row in (2, 0, 1):
        alone = make(Point(noise=noise), Rewards(0.9))
        belief, kept = alone.act(past.pick([row]))
        assert torch.allclose(belief.params, first.params[row : row + 1], atol=1e-4)
        belief, _ = alone.act(further.pick([row]), kept)
        assert torch.allclose(belief.params, second.params[row : row + 1], atol=1e-4)
    moved_on = together.act(further.pick([1, 2]), pick(memory, torch.tensor([1, 2])))[0]  # memories are trees
    assert torch.allclose(moved_on.params, second.params[1:], atol=1e-4)
    assert after["count"].tolist() == [2, 1, 2]


def concatenate_clips(clips: list[Clip]) -> Clip:
    names = ("proprio", "segment")
    return Clip(**{name: concatenate([getattr(clip, name) for clip in clips]) for name in names})


@every_planner
def test_the_last_plan_goes_on_and_an_episode_begins_without_one(name: str) -> None:
    planner = PLANNERS[name](Point(), Rewards(1.0))
    shown: list[Tensor] = []
    think = planner.think

    def watched(now: Any, plan: Tensor, kept: Tensor, young: Tensor) -> Any:
        shown.append(plan)
        return think(now, plan, kept, young)

    planner.think = watched
    _, memory = planner.act(at(1.5, -0.7, segment=1))
    assert torch.equal(shown[0], torch.zeros_like(shown[0]))
    further = later([[1.5, 0.9], [-0.7, 2.0]], [[1, 1], [1, 2]])
    again, _ = planner.act(further, memory)
    assert torch.equal(shown[1][0, :-1], memory["plan"][0, 1:])
    assert torch.equal(shown[1][0, -1], torch.zeros(1))
    assert torch.equal(shown[1][1], torch.zeros_like(shown[1][1]))
    fresh, _ = PLANNERS[name](Point(), Rewards(1.0)).act(at(2.0, segment=2))
    assert torch.allclose(again.params[1], fresh.params[0], atol=1e-4)


def test_what_was_found_before_is_found_with_less_search() -> None:
    """A warm start: with few samples the plan gets better from decision to decision in a world that stands still."""
    planner, past, memory, found = cem(Point(), Rewards(1.0), 6, 12, 2, 3, 0.02), at(1.5), None, []
    for _ in range(4):
        _, memory = planner.act(past, memory)
        clip, _ = Point().imagine({"x": torch.tensor([[1.5]])}, memory["plan"], 6, torch.Generator())
        found.append(float(Rewards(1.0)(clip)))
        past = at(1.5)
    assert found[-1] > found[0]


@every_planner
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_scores_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    def broken(clip: Clip) -> Tensor:
        found = near(0.0)(clip)
        return torch.where(torch.arange(clip.rows) == clip.rows // 2 + 3, bad, found)

    told = rf"1 of \d+ imagined futures .* not finite.* is {bad}, of plan 3 in row 1 at decision 0"
    with pytest.raises(UnusableInput, match=told):
        PLANNERS[name](Point(), broken).act(at(1.0, 2.0))


@every_search
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_decisions_are_captured_with_the_same_answers(name: str, noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planners, "capturable", lambda device: True)
    monkeypatch.setattr(planners, "Graph", Again)
    monkeypatch.setattr(Again, "made", 0)
    told: list[list[Tensor]] = []
    for captured in (False, True):
        planner, memory, answers = PLANNERS[name](Point(noise=noise), Rewards(0.9)), None, []
        planner.captured = captured
        for step in range(4):
            episodes = [[7, 7], [3, 3 + step // 2]]  # the second row begins anew
            past = later([[1.0, 1.5 - step], [0.4, 0.1 * step]], episodes)
            belief, memory = planner.act(past if step else past.pick([0, 1]), memory)
            answers += [belief.params, memory["plan"], memory["kept"]]
        belief, _ = planner.act(at(1.0))  # another number of rows is captured apart
        told.append([*answers, belief.params])
    assert all(torch.equal(one, other) for one, other in zip(*told, strict=True))
    assert Again.made == 2


@every_search
def test_a_captured_decision_says_what_is_not_finite_as_others_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planners, "capturable", lambda device: True)
    monkeypatch.setattr(planners, "Graph", Again)
    bad = [0.0]

    def breaking(clip: Clip) -> Tensor:
        return near(0.0)(clip) + torch.tensor(bad[0])

    planner = PLANNERS[name](Point(), breaking)
    planner.captured = True
    _, memory = planner.act(at(1.0, 2.0))
    bad[0] = torch.nan
    with pytest.raises(UnusableInput, match="not finite"):
        planner.act(at(1.0, 2.0), memory)


def test_gradients_that_do_not_come_are_refused() -> None:
    with pytest.raises(Incompatible, match="takes choices or keys"):
        gradient(Point(MIXED), near(0.0))
    with pytest.raises(Incompatible, match="no gradient comes from"):
        gradient(Point(), lambda clip: near(0.0)(clip).detach()).act(at(1.0))
    with pytest.raises(Incompatible, match="no gradient comes from"):
        gradient(Point(), lambda clip: torch.ones(clip.rows)).act(at(1.0))
    with pytest.raises(UnusableInput, match=r"gradient of .* is not finite"):
        gradient(Point(), lambda clip: (near(0.0)(clip) * 0).sqrt()).act(at(1.0))
    with torch.no_grad():
        gradient(Point(), near(0.0)).act(at(1.0))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UnusableInput, match="1 step and 1 future"):
        cem(Point(), near(0.0), horizon=0)
    with pytest.raises(UnusableInput, match="too few"):
        cem(Point(), near(0.0), samples=7)
    with pytest.raises(UnusableInput, match="least <= 1"):
        cem(Point(), near(0.0), least=0.5, largest=0.1)
    with pytest.raises(UnusableInput, match="needs an iteration"):
        cem(Point(), near(0.0), iterations=0)
    with pytest.raises(UnusableInput, match="one number for each of 64"):
        cem(Point(), lambda clip: torch.zeros(clip.rows, 2)).act(at(0.0))
    for score in (lambda clip: 1.0, lambda clip: torch.ones(clip.rows, dtype=torch.bool)):
        with pytest.raises(UnusableInput, match="floats of a tensor; got"):
            cem(Point(), score).act(at(0.0))
    with pytest.raises(UnusableInput, match="iteration and a rate"):
        gradient(Point(), near(0.0), rate=0.0)
    with pytest.raises(UnusableInput, match="proposals need a policy"):
        mppi(Point(), near(0.0), proposals=3)
    with pytest.raises(Incompatible, match="different actions"):
        mppi(Point(), near(0.0), policy=Pusher(MIXED), proposals=3)
    words = Segment("words", "text", ("0", "1"))
    with pytest.raises(UnusableInput, match="words alone"):
        cem(Point(ActionSpace((words,))), near(0.0))


class Pusher:
    """A policy that always pushes to 1.37."""

    def __init__(self, space: ActionSpace = PUSH, lies: float = 0.0) -> None:
        self.view, self.space, self.lies = replace(Point.view), space, lies

    def act(self, past: Clip, memory: Any = None) -> tuple[Distribution, Any]:
        assert past.proprio is not None
        return Distribution.point(self.space, 1.37 - past.proprio[:, -1] + self.lies), memory


def test_proposals_stay_among_the_plans_in_every_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    planner = mppi(Point(), near(0.0), samples=16, iterations=4, elites=4, policy=Pusher(), proposals=3)
    real, tried = planner.worth, list[Tensor]()

    def noted(now: Any, plans: Tensor) -> Tensor:
        tried.append(plans.clone())
        return real(now, plans)

    monkeypatch.setattr(planner, "worth", noted)
    planner.act(at(1.0, -0.5))
    assert len(tried) == 4
    first = tried[0][:, 1:4]
    assert bool(first.any())
    assert all(plans[:, 1:4].equal(first) for plans in tried)  # the others are drawn anew
    assert not any(plans[:, 4:].equal(tried[0][:, 4:]) for plans in tried[1:])


def test_proposals_of_a_policy_are_tried() -> None:
    """A needle that search does not find, and a policy that knows it."""

    def needle(clip: Clip) -> Tensor:
        assert clip.features is not None
        return -(clip.features[:, 1:, 0] - 1.37).abs().clamp_max(0.001).sum(1)

    assert isinstance(Pusher(), Policy)
    told: dict[str, Any] = {"horizon": 2, "samples": 32, "elites": 4, "temperature": 1e-5}
    blind, _ = mppi(Point(), needle, **told).act(at(1.0, 0.0))
    helped, _ = mppi(Point(), needle, policy=Pusher(), proposals=2, **told).act(at(1.0, 0.0))
    assert torch.allclose(helped.mode()[:, 0], torch.tensor([0.37, 1.37]), atol=1e-4)
    assert not torch.allclose(blind.mode(), helped.mode(), atol=1e-3)
    _, memory = mppi(Point(), needle, policy=Pusher(lies=9.0), proposals=31, elites=1, samples=33).act(at(1.0))
    assert memory["plan"].abs().max() <= 2.0


def test_mppi_answers_elites_by_weight_and_explores_by_the_spread_that_is_left() -> None:
    told: dict[str, Any] = {"horizon": 1, "samples": 64, "elites": 16, "iterations": 3}
    sure, _ = mppi(Point(), near(0.5), **told).act(at(0.0))
    loose, _ = mppi(Point(), near(0.5), least=0.2, explore=True, **told).act(at(0.0))
    rng = torch.Generator().manual_seed(0)
    spread = torch.cat([loose.sample(rng) for _ in range(200)]).std()
    assert 0.3 < float(spread) < 0.6  # 0.2 of half the range, which is 2, is 0.4
    assert float(torch.cat([sure.sample(rng) for _ in range(20)]).std()) < 1e-3

    def answers(temperature: float) -> Tensor:
        made = [mppi(Point(), near(0.5), temperature=temperature, least=0.2, seed=s, **told) for s in range(20)]
        return torch.cat([planner.act(at(0.0))[0].mode() for planner in made])

    assert (answers(1e-6) - 0.5).abs().max() < 0.05
    assert float(answers(9.0).std()) > 0.05


@pytest.mark.parametrize("largest", [0.25, 0.5, 2.0])
def test_mppi_begins_every_decision_with_its_largest_spread(largest: float, monkeypatch: pytest.MonkeyPatch) -> None:
    planner = mppi(Point(), near(0.0), samples=4096, iterations=2, **({} if largest == 2.0 else {"largest": largest}))
    real, tried, memory = planner.worth, list[Tensor](), None

    def noted(now: Any, plans: Tensor) -> Tensor:
        tried.append(plans[:, 1:, -1])  # the last step, of which the decision before has no plan
        return real(now, plans)

    monkeypatch.setattr(planner, "worth", noted)
    for _ in range(2):
        _, memory = planner.act(at(0.0), memory)
    share = math.erf(0.5 / largest / math.sqrt(2))  # that lies within a quarter of the range to either side
    for plans in tried[::2]:
        assert float((plans.abs() < 1).float().mean()) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("steps", [1, 2, 7, 8])
def test_coloured_noise_lasts_and_keeps_its_variance(steps: int) -> None:
    white = torch.randn((1, 4000, steps, 2), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(coloured(white, 0.0), white, atol=1e-5)
    red = coloured(white, 2.0)
    assert torch.allclose(red.std((0, 1)), torch.ones(steps, 2), atol=0.06)
    if steps > 2:
        assert (red[:, :, 1:] * red[:, :, :-1]).mean() > 0.5


def test_rewards_are_discounted_and_stop_where_an_episode_ends() -> None:
    rewards, ends = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.0, 0.25, 1.0]])
    clip = Clip(rewards=rewards, features=torch.zeros(1, 4, 1))
    assert Rewards(0.5)(clip).tolist() == [1 + 0.5 * 2 + 0.25 * 4]
    assert Rewards(0.5)(clip.with_(ends=ends)).tolist() == [1 + 0.5 * 2 + 0.25 * 0.75 * 4]
    eight = Rewards(0.5, lambda clip: torch.full((clip.rows,), 8.0))
    assert eight(clip).tolist() == [3 + 8 / 8]
    assert eight(clip.with_(ends=ends)).tolist() == [2.75]
    with pytest.raises(UnusableInput, match="no rewards"):
        Rewards()(Clip(features=torch.zeros(1, 4, 1)))
    with pytest.raises(UnusableInput, match="discount"):
        Rewards(0.0)


def test_scores_add_by_weight_and_say_whether_they_look() -> None:
    clip = Clip(features=torch.tensor([[[0.0], [2.0]]]), rewards=torch.tensor([[3.0]]))
    both = WeightedScore((Rewards(), 2.0), (near(1.0), 0.5))
    assert both(clip).tolist() == [2 * 3 - 0.5]
    assert both.looks
    assert not WeightedScore((Rewards(), 2.0), (Rewards(0.5), 1.0)).looks
    with pytest.raises(UnusableInput, match="at least one"):
        WeightedScore()


class Reads:
    """An inverse model that always believes in left with 0.7, stay with 0.2 and right with 0.1."""

    view, space = (
        View(size=(1, 1), channels=1, proprio=1),
        ActionSpace((categorical("way", ("left", "stay", "right")),)),
    )

    def infer(self, clip: Clip) -> Distribution:
        assert clip.actions is not None
        return Distribution(self.space, torch.tensor([0.7, 0.2, 0.1]).log().expand(*clip.actions.shape[:2], 3))


def test_a_picture_is_reached_by_the_last_frame() -> None:
    goal = torch.tensor([[[0, 255], [100, 100]]], dtype=torch.uint8)
    frames = torch.stack([goal, goal, goal]).unsqueeze(1).repeat(1, 2, 1, 1, 1)
    frames[0, 0] = 0  # the first frame does not count
    frames[1, -1, 0, 0, 0] = 51  # a fifth of the range, in one pixel of four
    frames[2, -1, 0, 0] = torch.tensor([255, 0], dtype=torch.uint8)
    found = Reach(goal)(Clip(frames=frames))
    assert torch.allclose(found, torch.tensor([0.0, -0.01, -0.5]))
    with pytest.raises(UnusableInput, match="no frames"):
        Reach(goal)(Clip(features=torch.zeros(1, 2, 3)))
    with pytest.raises(UnusableInput, match=r"\(1, 2, 2\) cannot reach a picture of \(3, 2, 2\)"):
        Reach(goal.repeat(3, 1, 1))(Clip(frames=frames))


def test_a_plan_scores_by_how_likely_its_actions_are_read_back() -> None:
    ways = torch.eye(3)
    plans = torch.stack([ways[[0, 0]], ways[[0, 2]], ways[[2, 1]]])
    clip = Clip(features=torch.zeros(3, 3, 1), actions=plans)
    found = CycleScore(Reads())(clip)
    logs = torch.tensor([[0.7, 0.7], [0.7, 0.1], [0.1, 0.2]]).log()
    assert torch.allclose(found, logs.mean(1))
    ended = clip.with_(
        segment=torch.tensor([[0, 0, 1]], dtype=torch.int32).expand(3, 3)
    )  # the second step joins two episodes
    assert torch.allclose(CycleScore(Reads())(ended), logs[:, 0])


@pytest.mark.parametrize("search", [random_shooting, cem])
def test_a_planner_prefers_what_is_read_back(search: Callable[..., Any]) -> None:
    world = Point(Reads.space)
    planner = search(world, CycleScore(Reads()), 2, 32) if search is random_shooting else search(
        world, CycleScore(Reads()), 2, 32, 2, 8
    )  # fmt: skip
    belief, _ = planner.act(Clip(proprio=torch.zeros(4, 1, 1)))
    assert (belief.mode() == torch.eye(3)[0]).all()
