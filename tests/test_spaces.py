"""Action spaces and beliefs over them, against derivations by brute force."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from retrodict.errors import Incompatible, UnknownName, UnusableInput
from retrodict.spaces import ActionSpace, Distribution, Segment, categorical, code, continuous

# "left" and "nudge" look the same in two frames, and so do "stay" and "wait".
MOVE = categorical("move", ("stay", "left", "right", "nudge", "wait"), groups=(("left", "nudge"), ("stay", "wait")))
KEYS = Segment("keys", "binary", ("jump", "fire"))
ARM = continuous("arm", ("x", "y"), low=-2.0, high=2.0, center=(0.5, 0.0), scale=(2.0, 0.5), unit="m", relative=True)
MIXED = ActionSpace((MOVE, KEYS, ARM))
ONE = ActionSpace((MOVE,))


def belief(space: ActionSpace, seed: int = 0, rows: int = 3) -> Distribution:
    return Distribution(space, torch.randn(rows, space.parameters, generator=torch.Generator().manual_seed(seed)))


def actions_of(space: ActionSpace) -> Tensor:
    """Every action of a space with a single choice."""
    return space.one_hot(torch.arange(space.width))


def softmax(logits: list[float]) -> list[float]:
    weights = [math.exp(x) for x in logits]
    return [w / sum(weights) for w in weights]


def test_columns_on_disk() -> None:
    assert MIXED.columns == (
        "move=stay", "move=left", "move=right", "move=nudge", "move=wait", "keys.jump", "keys.fire", "arm.x", "arm.y",
    )  # fmt: skip
    assert (MIXED.width, MIXED.parameters) == (9, 5 + 2 + 4)
    assert ActionSpace((continuous("grip", ("grip",)),)).columns == ("grip",)
    assert ActionSpace((code("latent", 2),)).columns == ("latent=0", "latent=1")


def test_one_choice_is_discrete_and_only_codes_are_latent() -> None:
    assert ONE.discrete is MOVE
    assert MIXED.discrete is None
    assert ActionSpace((code("latent", 4),)).latent
    assert not ONE.latent
    with pytest.raises(UnusableInput, match="value numbers"):
        MIXED.index(torch.zeros(1, 9))


def test_merged_classes_follow_the_order_of_values() -> None:
    assert MOVE.merged == (0, 1, 2, 1, 0)
    assert MOVE.merged_names == ("stay/wait", "left/nudge", "right")
    assert ONE.classes(actions_of(ONE)).tolist() == [0, 1, 2, 1, 0]


@given(st.integers(1, 9), st.data())
def test_one_hot_and_index_are_inverse(size: int, data: st.DataObject) -> None:
    space = ActionSpace((code("latent", size),))
    index = torch.tensor(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=6)))
    actions = space.one_hot(index)
    assert actions.dtype == torch.float32
    assert actions.sum(-1).tolist() == [1.0] * len(index)
    assert torch.equal(space.index(actions), index)


def test_vector_takes_names_and_numbers_and_describe_reads_them_back() -> None:
    action = MIXED.vector({"move": "right", "keys": [1, 0], "arm": [0.25, -1.0]})
    assert action.tolist() == [0, 0, 1, 0, 0, 1, 0, 0.25, -1.0]
    assert MIXED.describe(action) == {"move": "right", "keys": "jump", "arm": [0.25, -1.0]}
    assert torch.equal(ONE.vector({"move": 2}), ONE.vector({"move": "2"}))
    nothing = MIXED.vector({"move": 0, "keys": [0, 0], "arm": [0, 0]})
    assert MIXED.describe(nothing)["keys"] == "none"


def test_text_is_bytes_padded_with_minus_one() -> None:
    space = ActionSpace((Segment("say", "text", tuple("012345")),))
    action = space.vector({"say": "né"})
    assert action.tolist() == [110, 195, 169, -1, -1, -1]
    assert space.describe(action) == {"say": "né"}
    with pytest.raises(UnusableInput, match="7 bytes"):
        space.vector({"say": "a longe"})
    with pytest.raises(Incompatible, match="no parametric distribution"):
        Distribution(space, torch.zeros(1, 6))


@pytest.mark.parametrize(
    ("action", "error", "said"),
    [
        ({"mve": 1}, UnknownName, "Did you mean 'move'"),
        ({"move": "lft"}, UnknownName, "Did you mean 'left'"),
        ({"move": "--1"}, UnknownName, "--1"),
        ({"move": 5}, UnusableInput, "out of range"),
        ({"move": "-1"}, UnusableInput, "out of range"),
        ({"move": 1.7, "keys": [0, 0]}, UnusableInput, "whole number"),
        ({"move": [1, 2]}, UnusableInput, "whole number"),
        ({"move": math.nan}, UnusableInput, "whole number"),
        ({"move": 1}, UnusableInput, "no value for segment 'keys'"),
        ({"move": 1, "keys": [1], "arm": [0, 0]}, UnusableInput, "takes 2 numbers; got 1"),
        ({"move": 1, "keys": [1, 0.5], "arm": [0, 0]}, UnusableInput, "0 or 1"),
        ({"move": 1, "keys": [1, 0], "arm": [0, math.nan]}, UnusableInput, "finite"),
        ({"move": 1, "keys": [1, 0], "arm": ["far", 0]}, UnusableInput, "far"),
    ],
)
def test_unusable_actions_are_refused(action: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        MIXED.vector(action)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Segment("a", "discrete", ("x",)), "Known: "),  # type: ignore[arg-type]
        (lambda: categorical("a", ("x", "x")), "distinct"),
        (lambda: categorical("a", ()), "distinct"),
        (lambda: categorical("a=b", ("x",)), "must not contain"),
        (lambda: categorical("a", ("x", "y"), groups=(("x", "z"),)), "'z'"),
        (lambda: categorical("a", ("x", "y", "z"), groups=(("x", "y"), ("y", "z"))), "two groups"),
        (lambda: continuous("a", ("x", "y"), scale=(1.0,)), "scale"),
        (lambda: continuous("a", ("x",), scale=(0.0,)), "scale"),
        (lambda: continuous("a", ("x",), center=(0.0, 1.0)), "center"),
        (lambda: continuous("a", ("x",), low=1.0, high=1.0), "low"),
        (lambda: ActionSpace(()), "distinctly named"),
        (lambda: ActionSpace((code("a", 2), code("a", 3))), "distinctly named"),
        (lambda: ActionSpace((continuous("a", ("b", "c")), continuous("a.b", ("x",)))), "a.b"),
    ],
)
def test_unusable_spaces_are_refused(make: object, said: str) -> None:
    with pytest.raises(UnusableInput, match=said):
        make()  # type: ignore[operator]


def test_json_round_trip_loses_nothing() -> None:
    text = json.dumps(MIXED.to_json())
    assert ActionSpace.from_json(json.loads(text)) == MIXED
    changed = json.loads(text)
    changed["segments"][0]["grups"] = []
    with pytest.raises(UnknownName, match="Did you mean 'groups'"):
        ActionSpace.from_json(changed)
    with pytest.raises(UnknownName, match="version"):
        ActionSpace.from_json({**json.loads(text), "version": 2})
    with pytest.raises(UnusableInput, match="name"):
        ActionSpace.from_json({"segments": [{"kind": "code", "values": ["0"]}]})


def test_log_prob_adds_up_what_each_segment_says() -> None:
    params = torch.tensor([[0.1, -0.4, 1.2, 0.0, 0.3, 0.7, -1.1, 0.2, -0.3, -0.5, 0.4]])
    action = MIXED.vector({"move": "nudge", "keys": [1, 0], "arm": [1.5, 0.25]}).unsqueeze(0)
    move = math.log(softmax([0.1, -0.4, 1.2, 0.0, 0.3])[3])
    keys = math.log(1 / (1 + math.exp(-0.7))) + math.log(1 - 1 / (1 + math.exp(1.1)))
    arm = 0.0
    for value, center, scale, mean, log_std in ((1.5, 0.5, 2.0, 0.2, -0.5), (0.25, 0.0, 0.5, -0.3, 0.4)):
        mu, sigma = center + scale * mean, scale * math.exp(log_std)  # in metres
        arm += -0.5 * ((value - mu) / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))
    found = Distribution(MIXED, params).log_prob(action)
    assert found.shape == (1,)
    assert found.item() == pytest.approx(move + keys + arm, rel=1e-5)


@given(st.lists(st.floats(-8, 8), min_size=5, max_size=5))
def test_merging_adds_the_probabilities_of_what_looks_the_same(logits: list[float]) -> None:
    dist = Distribution(ONE, torch.tensor(logits))
    p = softmax(logits)
    classes = [p[0] + p[4], p[1] + p[3], p[2]]
    assert dist.merged().tolist() == pytest.approx(classes, abs=1e-5)
    for value, number in enumerate(MOVE.merged):
        action = ONE.one_hot(torch.tensor(value))
        assert dist.log_prob(action, merge=True).exp().item() == pytest.approx(classes[number], abs=1e-5)
        assert dist.log_prob(action).exp().item() == pytest.approx(p[value], abs=1e-5)
    assert dist.confidence().item() == pytest.approx(max(classes), abs=1e-5)
    assert ONE.classes(dist.mode()).item() in [i for i, c in enumerate(classes) if c > max(classes) - 1e-5]


def test_the_mode_chooses_the_class_before_its_value() -> None:
    p = torch.tensor([0.1, 0.3, 0.34, 0.25, 0.01])  # "right" is likeliest, but "left/nudge" together are likelier
    dist = Distribution(ONE, p.log())
    assert ONE.describe(dist.mode()) == {"move": "left"}
    assert dist.confidence().item() == pytest.approx(0.55)


def test_probabilities_by_name() -> None:
    dist = belief(MIXED)
    assert dist.probabilities("move").sum(-1).tolist() == pytest.approx([1.0] * 3)
    assert torch.equal(dist.probabilities("keys"), dist.params[:, 5:7].sigmoid())
    with pytest.raises(UnusableInput, match="density"):
        dist.probabilities("arm")
    with pytest.raises(UnusableInput, match="name one"):
        dist.probabilities()
    with pytest.raises(UnknownName, match="Did you mean 'move'"):
        dist.probabilities("moves")


def test_confidence_of_a_continuous_axis_is_the_mass_within_its_tolerance() -> None:
    # Tolerance 0.1 of a range of 4 m is 0.4 m; the deviation is 0.5 * e^0 = 0.5 m: P(|z| < 0.8) = 0.5763.
    space = ActionSpace((continuous("arm", ("x",), low=-2.0, high=2.0, scale=(0.5,)),))
    assert Distribution(space, torch.zeros(1, 2)).confidence().item() == pytest.approx(0.5763, abs=1e-4)
    keys = Distribution(ActionSpace((KEYS,)), torch.tensor([math.log(3.0), -math.log(4.0)]))
    assert keys.confidence().item() == pytest.approx(0.75 * 0.8)


def test_a_point_is_certain_of_its_action() -> None:
    action = MIXED.vector({"move": "right", "keys": [1, 0], "arm": [0.25, -1.0]}).unsqueeze(0)
    point = Distribution.point(MIXED, action)
    assert torch.allclose(point.mode(), action, atol=1e-6)
    assert point.confidence().item() == pytest.approx(1.0)
    rng = torch.Generator().manual_seed(0)
    assert torch.allclose(point.sample(rng), action, atol=1e-3)


def test_temperature_one_changes_nothing_and_more_flattens() -> None:
    dist = belief(MIXED)
    assert torch.equal(dist.scaled(1.0).params, dist.params)
    # Two equal steps are one: T multiplies.
    assert torch.allclose(dist.scaled(2.0).scaled(3.0).params, dist.scaled(6.0).params, atol=1e-6)
    assert (dist.scaled(2.0).confidence() < dist.confidence()).all()
    assert torch.equal(dist.scaled(2.0).mode()[:, 7:], dist.mode()[:, 7:])
    two = Distribution(ActionSpace((code("z", 2),)), torch.tensor([2 * math.log(3.0), 0.0]))
    assert two.scaled(2.0).probabilities().tolist() == pytest.approx([0.75, 0.25])
    with pytest.raises(UnusableInput, match="positive"):
        dist.scaled(0.0)
    with pytest.raises(UnusableInput, match="one for each parameter"):
        dist.scaled(torch.ones(2))


def test_a_temperature_for_each_value_is_that_of_the_value_that_is_answered() -> None:
    dist = Distribution(
        ActionSpace((code("z", 2),)), torch.tensor([[2 * math.log(3.0), 0.0], [0.0, 4 * math.log(2.0)]])
    )
    scaled = dist.scaled(torch.tensor([2.0, 4.0])).probabilities()
    assert scaled.tolist() == [pytest.approx([0.75, 0.25]), pytest.approx([1 / 3, 2 / 3])]


def test_merge_averages_probabilities_by_weight() -> None:
    a, b, c = (belief(MIXED, seed) for seed in range(3))
    both = a.merge(b).merge(c)
    assert both.weight == 3.0
    for name in ("move", "keys"):
        mean = sum(d.probabilities(name) for d in (a, b, c)) / 3
        assert torch.allclose(both.probabilities(name), mean, atol=1e-5)  # type: ignore[arg-type]
    assert torch.allclose(both.params, a.merge(b.merge(c)).params, atol=1e-4)
    assert torch.allclose(a.merge(a).log_prob(a.mode()), a.log_prob(a.mode()), atol=1e-4)


def test_merged_gaussians_have_the_mean_and_variance_of_the_mixture() -> None:
    space = ActionSpace((Segment("z", "vector", ("0",)),))
    one = Distribution(space, torch.tensor([1.0, math.log(2.0)]), weight=3.0)
    two = Distribution(space, torch.tensor([5.0, math.log(1.0)]))
    mean, log_std = one.merge(two).params.tolist()
    assert mean == pytest.approx(2.0)  # (3 * 1 + 5) / 4
    # second moment (3 * (1 + 4) + (25 + 1)) / 4 = 10.25, less 2²
    assert math.exp(2 * log_std) == pytest.approx(6.25)
    with pytest.raises(Incompatible, match="same action space"):
        one.merge(belief(ONE))


def test_samples_come_as_often_as_they_should() -> None:
    count = 4000
    dist = Distribution(MIXED, belief(MIXED, rows=1).params.expand(count, -1))
    drawn = dist.sample(torch.Generator().manual_seed(1))
    assert torch.allclose(drawn[:, :5].mean(0), dist.probabilities("move")[0], atol=0.035)
    assert torch.allclose(drawn[:, 5:7].mean(0), dist.probabilities("keys")[0], atol=0.035)
    mean, log_std = dist.params[0, 7:9], dist.params[0, 9:]
    scale, center = torch.tensor([2.0, 0.5]), torch.tensor([0.5, 0.0])
    deviation = scale * log_std.exp()
    assert ((drawn[:, 7:].mean(0) - (mean * scale + center)).abs() < 4 * deviation / math.sqrt(count)).all()
    assert torch.allclose(drawn[:, 7:].std(0), deviation, rtol=0.06)
    assert torch.equal(drawn, dist.sample(torch.Generator().manual_seed(1)))


@given(st.integers(0, 1000))
def test_soft_samples_are_the_hard_ones_with_a_gradient(seed: int) -> None:
    dist = belief(MIXED, seed, rows=4)
    params = dist.params.clone().requires_grad_()
    soft = Distribution(MIXED, params).rsample(torch.Generator().manual_seed(seed))
    hard = Distribution(MIXED, params).sample(torch.Generator().manual_seed(seed))
    assert torch.equal(soft.detach(), hard)
    assert not hard.requires_grad
    (soft * torch.arange(1.0, 10.0)).sum().backward()
    assert params.grad is not None
    assert (params.grad.abs().sum(0) > 0).all()


def test_indexing_keeps_space_and_weight() -> None:
    dist = Distribution(MIXED, torch.zeros(2, 3, MIXED.parameters), weight=2.0)
    assert dist[:, 0].params.shape == (2, MIXED.parameters)
    assert dist[:, 0].weight == 2.0
    with pytest.raises(UnusableInput, match="needs 11"):
        Distribution(MIXED, torch.zeros(2, 9))


def test_no_temperature_changes_which_merged_class_is_likeliest() -> None:
    """A sure answer beside a class of many values: heat alone must not hand the answer to the many."""
    space = ActionSpace((categorical("key", tuple("abcdef"), groups=(tuple("bcdef"),)),))
    belief = Distribution(space, torch.tensor([[2.0, 0.0, 0.0, 0.0, 0.0, 0.0]]))
    plain = belief.merged()[0]
    assert plain.argmax() == 0
    for temperature in (0.1, 1.0, 5.0, 100.0):
        hot = belief.scaled(temperature)
        expected = plain ** (1 / temperature) / (plain ** (1 / temperature)).sum()
        assert torch.allclose(hot.merged()[0], expected, atol=1e-5)
        assert torch.equal(hot.mode(), belief.mode())


def test_bounds_of_a_choice_are_the_set_of_what_is_left_open_by_hand() -> None:
    """Probabilities 0.6, 0.3, 0.1 and a limit of 0.25 leave the first two open; b and c look alike."""
    params = torch.tensor([[0.6, 0.3, 0.1]]).log()
    plain = Distribution(ActionSpace((categorical("key", tuple("abc")),)), params)
    limits = torch.full((3,), 0.25)
    assert plain.bounds(limits).tolist() == [[[0, 0, 0], [1, 1, 0]]]
    assert plain.bounds(torch.full((3,), 0.5)).tolist() == [[[1, 0, 0], [1, 0, 0]]]  # one value is certain
    assert plain.bounds(torch.full((3,), 0.9)).tolist() == [[[1, 0, 0], [1, 0, 0]]]  # the mode always belongs
    alike = Distribution(ActionSpace((categorical("key", tuple("abc"), (tuple("bc"),)),)), params)
    assert alike.bounds(limits).tolist() == [[[0, 0, 0], [1, 1, 1]]]  # b or c: 0.4


def test_bounds_of_keys_and_axes_by_hand() -> None:
    space = ActionSpace(
        (Segment("keys", "binary", ("x", "y")), continuous("turn", ("yaw",), center=(2.0,), scale=(4.0,)))
    )
    params = torch.tensor([[math.log(9.0), 0.1, 0.5, math.log(0.25)]])  # x is on at 0.9, y at 0.52
    found = Distribution(space, params).bounds(torch.tensor([0.2, 0.2, 0.0, 2.0]))
    mean, half = 2 + 4 * 0.5, 2.0 * 0.25 * 4
    assert found[0, 0].tolist() == pytest.approx([1, 0, mean - half])
    assert found[0, 1].tolist() == pytest.approx([1, 1, mean + half])


def test_entropy_by_hand() -> None:
    space = ActionSpace(
        (categorical("c", ("a", "b")), Segment("k", "binary", ("x",)), continuous("m", ("y",), scale=(2.0,)))
    )
    params = torch.tensor([[0.0, 0.0, math.log(3.0), 0.5, math.log(1.5)]])
    key = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    axis = math.log(2.0 * 1.5) + 0.5 * math.log(2 * math.pi * math.e)
    assert float(Distribution(space, params).entropy()) == pytest.approx(math.log(2) + key + axis, rel=1e-5)
