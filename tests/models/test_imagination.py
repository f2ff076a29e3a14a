"""Practice in imagination, by hand: losses of actor and critic, what counts in them, and in which units."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from retrodict import rng
from retrodict.clip import Clip
from retrodict.models import imagination
from retrodict.models.imagination import FeatureActor, dreaming
from retrodict.roles import View
from retrodict.spaces import ActionSpace, Distribution, categorical

SPACE = ActionSpace((categorical("move", ("a", "b", "c")),))
ROWS, FRAMES, HORIZON, UNIT = 2, 3, 3, 2.0
STARTS = ROWS * FRAMES
ENDED, PADDED = (0, 2), (1, 2)  # frames: with which an episode ended, and where there is none
DISCOUNT, TRACE, ENTROPY = 0.9, 0.8, 0.05


def drawn(name: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=rng.torch_rng("imagination", name))


class Believed:
    """An actor whose logits are the first three features."""

    view = space = None

    def belief(self, features: Tensor) -> Distribution:
        return Distribution(SPACE, features[..., :3])


class Valued:
    """A critic whose value is one of the features; half the squared distance is its loss."""

    def __init__(self, column: int) -> None:
        self.column = column

    def __call__(self, features: Tensor) -> Tensor:
        return features[..., self.column]

    def loss(self, features: Tensor, aim: Tensor) -> Tensor:
        return 0.5 * (self(features) - aim) ** 2


class Fixed:
    """A world that always has the same dream."""

    unit = UNIT

    def __init__(self, dream: Clip, seen: Tensor) -> None:
        self.dream, self.seen = dream, seen

    def unroll(self, clip: Clip, noise: torch.Generator) -> Any:
        return SimpleNamespace(h=self.seen[..., :1], z=self.seen[..., 1:2], features=self.seen)

    def imagine(self, state: Any, actor: Any, steps: int, noise: torch.Generator) -> tuple[Clip, Any]:
        assert len(state["h"]) == STARTS
        assert steps == HORIZON
        return self.dream, None


def set_up(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Clip]:
    monkeypatch.setattr(imagination, "explained", lambda *given: torch.tensor(7.0))
    features = drawn("features", STARTS, HORIZON + 1, 5).requires_grad_()
    actions = SPACE.one_hot(torch.randint(3, (STARTS, HORIZON), generator=rng.torch_rng("moves")))
    ends = drawn("ends", STARTS, HORIZON).sigmoid()
    dream = Clip(features=features, actions=actions, rewards=3 * drawn("rewards", STARTS, HORIZON), ends=ends)
    agent = SimpleNamespace(
        world=Fixed(dream, drawn("seen", ROWS, FRAMES, 5)), actor=Believed(), critic=Valued(3), slow=Valued(4),
        spread=torch.tensor(1.5), training=True,
    )  # fmt: skip
    clip = Clip(
        features=torch.zeros(ROWS, FRAMES, 1), rewards=4 * drawn("recorded", ROWS, FRAMES - 1),
        ends=torch.tensor([[0, 1.0], [0, 0]]), segment=torch.tensor([[5, 5, 5], [6, 6, -1]], dtype=torch.int32),
    )  # fmt: skip
    return agent, clip


def returns_of(agent: Any, slow: bool) -> np.ndarray:
    dream = agent.world.dream
    values = (agent.slow if slow else agent.critic)(dream.features).detach().numpy()
    rewards, ends = dream.rewards.numpy() / UNIT, dream.ends.numpy()
    found = np.zeros((STARTS, HORIZON))
    for row in range(STARTS):
        after = values[row, HORIZON]
        for t in reversed(range(HORIZON)):
            mixed = (1 - TRACE) * values[row, t + 1] + TRACE * after
            after = found[row, t] = rewards[row, t] + DISCOUNT * (1 - ends[row, t]) * mixed
    return found


def weights_of(agent: Any) -> np.ndarray:
    here = np.ones((ROWS, FRAMES))
    here[ENDED] = here[PADDED] = 0
    found = np.zeros((STARTS, HORIZON))
    for row in range(STARTS):
        weight = here.flatten()[row]
        for t in range(HORIZON):
            found[row, t] = weight
            weight *= DISCOUNT * (1 - float(agent.world.dream.ends[row, t]))
    return found


def mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float((values * weights).sum() / weights.sum())


def belief_of(agent: Any) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities of what was done, and entropies, of even draws' own."""
    logits = agent.world.dream.features.detach().numpy()[:, :-1, :3]
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    done = (logs * agent.world.dream.actions.numpy()).sum(-1)
    return done, -(np.exp(logs) * logs).sum(-1)


PLAIN: dict[str, Any] = {
    "horizon": HORIZON, "discount": DISCOUNT, "trace": TRACE, "entropy": ENTROPY, "scaled": False, "slow_weight": 0.0,
    "replayed": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("slow", [False, True])
def test_an_actor_is_told_how_much_better_a_return_was_than_expected(
    monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    agent, clip = set_up(monkeypatch)
    found = dreaming(agent, clip, rng.torch_rng(0), gradient="reinforce", slow_values=slow, **PLAIN)
    returns, weights, (logs, entropies) = returns_of(agent, slow), weights_of(agent), belief_of(agent)
    features = agent.world.dream.features.detach().numpy()
    baseline = features[:, :-1, 4 if slow else 3]
    assert float(found["actor"]) == pytest.approx(mean(-logs * (returns - baseline) - ENTROPY * entropies, weights))
    assert float(found["critic"].detach()) == pytest.approx(mean(0.5 * (features[:, :-1, 3] - returns) ** 2, weights))
    assert float(found["world"]) == 7.0
    assert not found["critic"].requires_grad  # judging teaches the critic, and not what it looks at


def test_returns_are_followed_through_the_dream_where_gradients_can(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, clip = set_up(monkeypatch)
    found = dreaming(agent, clip, rng.torch_rng(0), gradient="dynamics", **PLAIN)
    returns, weights, (_, entropies) = returns_of(agent, False), weights_of(agent), belief_of(agent)
    assert float(found["actor"].detach()) == pytest.approx(mean(-returns - ENTROPY * entropies, weights))
    (slope,) = torch.autograd.grad(found["actor"], agent.world.dream.features)
    assert bool((slope[:, 1:, 3] < 0)[weights[:, 0] > 0].all())  # a better next state is wanted
    assert not slope[weights[:, 0] == 0].any()


def test_returns_count_in_units_of_their_range_which_is_followed_and_never_below_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent, clip = set_up(monkeypatch)
    agent.world.dream = agent.world.dream.with_(rewards=agent.world.dream.rewards * 10)
    told = {**PLAIN, "scaled": True, "entropy": 0.0}
    returns, weights, (logs, _) = returns_of(agent, False), weights_of(agent), belief_of(agent)
    low, high = np.quantile(returns[weights[:, 0] > 0], [0.05, 0.95])
    spread = 1.5 + 0.01 * (high - low - 1.5)
    assert spread > 1.5
    found = dreaming(agent, clip, rng.torch_rng(0), gradient="reinforce", **told)
    assert float(agent.spread) == pytest.approx(spread)
    gains = -logs * (returns - agent.world.dream.features.detach().numpy()[:, :-1, 3])
    assert float(found["actor"]) == pytest.approx(mean(gains, weights) / spread)
    agent.spread.fill_(0.2)
    agent.training = False
    found = dreaming(agent, clip, rng.torch_rng(0), gradient="reinforce", **told)
    assert float(agent.spread) == pytest.approx(0.2)  # nothing moves where nothing is learnt
    assert float(found["actor"]) == pytest.approx(mean(gains, weights))


def test_a_critic_stays_near_its_slow_one_and_learns_from_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, clip = set_up(monkeypatch)
    agent.world.seen = agent.world.seen.requires_grad_()
    told = {**PLAIN, "slow_weight": 0.5, "replayed": 0.3}
    found = dreaming(agent, clip, rng.torch_rng(0), gradient="reinforce", **told)
    returns, weights = returns_of(agent, False), weights_of(agent)
    features, seen = agent.world.dream.features.detach().numpy(), agent.world.seen.detach().numpy()
    near = 0.5 * (features[:, :-1, 3] - features[:, :-1, 4]) ** 2
    imagined = mean(0.5 * (features[:, :-1, 3] - returns) ** 2 + 0.5 * near, weights)
    first, real = returns[:, 0].reshape(ROWS, FRAMES), np.array([[1, 1], [1, 0]])
    assert clip.rewards is not None
    assert clip.ends is not None
    costs = []
    for row in range(ROWS):
        after = first[row, -1]
        for t in reversed(range(FRAMES - 1)):
            mixed = (1 - TRACE) * first[row, t + 1] + TRACE * after
            after = float(clip.rewards[row, t]) / UNIT + DISCOUNT * (1 - float(clip.ends[row, t])) * mixed
            if not real[row, t]:
                after = first[row, t]
                continue
            value, slow = seen[row, t, 3], seen[row, t, 4]
            costs.append(0.5 * (value - after) ** 2 + 0.5 * 0.5 * (value - slow) ** 2)
    again = 0.3 * math.fsum(costs) / real.sum()
    assert float(found["critic"].detach()) == pytest.approx(imagined + again)
    assert float(found["world"]) == pytest.approx(7.0 + again)
    (slope,) = torch.autograd.grad(found["world"], agent.world.seen)
    assert slope[..., 3].any()  # the world is told as well what values need


def test_an_actor_of_v1_is_not_told_what_its_choice_does_to_the_state_that_it_is_made_in() -> None:
    view = View(1, size=(4, 4), features=6)
    actor, features = FeatureActor(view, SPACE, 8, 1), drawn("still", 2, 1, 6).requires_grad_()
    belief, _ = imagination._Still(actor).act(Clip(features=features))
    seen, weights = torch.autograd.grad(belief.params.square().sum(), [features, actor.head.weight], allow_unused=True)
    assert seen is None
    assert bool(weights.any())
