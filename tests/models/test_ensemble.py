"""An ensemble answers as the geometric mean of its members, each case by hand."""

from __future__ import annotations

import math

import pytest
import torch

from retrodict.clip import Clip
from retrodict.errors import Incompatible
from retrodict.models.ensemble import Ensemble, geometric_mean
from retrodict.models.inverse import Inverse
from retrodict.nn.part import build
from retrodict.rng import isolated
from retrodict.roles import View
from retrodict.segments import Segment
from retrodict.spaces import ActionSpace, Distribution, categorical, code, continuous

SPACE = ActionSpace((code("z", 3),))


def member(seed: int, size: int = 16) -> Inverse:
    with isolated("member", seed):
        return Inverse(View(2, size=(size, size)), SPACE, patch=4, width=8, depth=1, hidden=8).eval()


def test_two_choices_by_hand() -> None:
    """0.8 : 0.2 and 0.5 : 0.5 give sqrt(0.4) : sqrt(0.1), two to one."""
    space = ActionSpace((code("z", 2),))
    each = torch.tensor([[0.8, 0.2], [0.5, 0.5]]).log()
    assert Distribution(space, geometric_mean(space, each)).probabilities().tolist() == pytest.approx([2 / 3, 1 / 3])


def test_alike_values_are_averaged_as_one_class() -> None:
    """Members that split b and c differently agree about the class of both."""
    space = ActionSpace((categorical("key", tuple("abc"), (("b", "c"),)),))
    each = torch.tensor([[0.2, 0.799, 0.001], [0.2, 0.001, 0.799]]).log()
    found = Distribution(space, geometric_mean(space, each))
    assert found.merged().tolist() == pytest.approx([0.2, 0.8], abs=1e-5)
    assert found.probabilities()[1:].tolist() == pytest.approx([0.4, 0.4], abs=1e-5)


def test_keys_and_axes_by_hand() -> None:
    """Logits are averaged; of two Gaussians the narrower counts more: precisions 1 and 3 have mean 2."""
    space = ActionSpace((Segment("keys", "binary", ("x",)), continuous("turn", ("yaw",))))
    each = torch.tensor([[2.0, 0.0, 0.0], [-1.0, 4.0, -0.5 * math.log(3.0)]])
    found = geometric_mean(space, each)
    assert found.tolist() == pytest.approx([0.5, 3.0, -0.5 * math.log(2.0)])


def test_one_member_answers_as_itself_and_disagreement_costs_confidence() -> None:
    first, second = member(0), member(1)
    clip = Clip(frames=torch.randint(0, 256, (2, 4, 3, 16, 16), dtype=torch.uint8))
    alone = Ensemble([first]).infer(clip)
    assert torch.allclose(alone.probabilities(), first.infer(clip).probabilities(), atol=1e-6)
    with torch.no_grad():
        first.head.bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
        second.head.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
    both = Ensemble([first, second]).infer(clip)
    assert both.params.shape == (2, 3, 3)
    assert float(both.confidence().detach().max()) < 0.6 < float(first.infer(clip).confidence().detach().min())


def test_a_saved_ensemble_is_built_again() -> None:
    whole = Ensemble([member(0), member(1)])
    whole.temperature.fill_(2.0)
    again = build(whole.describe())
    again.load_state_dict(whole.state_dict())
    clip = Clip(frames=torch.randint(0, 256, (1, 3, 3, 16, 16), dtype=torch.uint8))
    assert isinstance(again, Ensemble)
    assert torch.equal(again.eval().infer(clip).params, whole.eval().infer(clip).params)


def test_members_of_another_view_are_refused() -> None:
    with pytest.raises(Incompatible, match="one view"):
        Ensemble([member(0), member(1, size=20)])
