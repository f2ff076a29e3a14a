"""A net for each camera: what each is shown, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.models.cameras import PerCamera, per_camera
from retrodict.models.inverse import Inverse
from retrodict.models.policy import ClipPolicy
from retrodict.nn.part import build
from retrodict.roles import View
from retrodict.spaces import ActionSpace, Segment, continuous

SPACE = ActionSpace((continuous("move", ("x", "y")), Segment("grip", "binary", ("closed",))))
TWO = View(2, size=(16, 16), channels=6, cameras=("a", "b"))


class Means(nn.Module):
    """Means of the channels of a window's first frame."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view

    def forward(self, frames: Tensor) -> Tensor:
        return frames[:, 0].float().mean((2, 3))


def test_each_camera_has_a_net_of_its_own_for_its_channels() -> None:
    net = per_camera(TWO, Means, 3)
    assert isinstance(net, PerCamera)
    assert [(one.view.cameras, one.view.channels) for one in net.nets] == [(("a",), 3), (("b",), 3)]
    net.join = nn.Identity()
    frames = torch.arange(6, dtype=torch.uint8).view(1, 1, 6, 1, 1).expand(2, 2, 6, 4, 4)
    assert net(frames).tolist() == [[0, 1, 2, 3, 4, 5]] * 2


def test_a_single_camera_needs_no_joining_and_odd_channels_are_refused() -> None:
    one = View(channels=6)
    net = per_camera(one, Means, 3)
    assert isinstance(net, Means)
    assert net.view == one
    with pytest.raises(UnusableInput, match="4 channels cannot be shared out to 3 cameras"):
        per_camera(View(channels=4, cameras=("a", "b", "c")), Means, 3)


def test_models_of_several_cameras_look_at_each_and_can_be_built_again() -> None:
    torch.manual_seed(0)
    parts = (
        Inverse(TWO, SPACE, "both", "mean_max", patch=4, width=4, depth=1),
        ClipPolicy(View(size=(16, 16), channels=6, cameras=("a", "b")), SPACE, "points", patch=4, width=4, depth=1),
    )
    frames = torch.randint(0, 256, (1, 2, 6, 16, 16), dtype=torch.uint8)
    for part in parts:
        again = build(part.describe())
        again.load_state_dict(part.state_dict())
        answers = []
        for camera in (None, 0, 1):
            shown = frames.clone()
            if camera is not None:
                shown[:, :, 3 * camera : 3 * camera + 3] = 0
            for made in (part, again):
                made.eval()
                belief = (
                    made.infer(Clip(frames=shown)) if isinstance(made, Inverse) else made.act(Clip(frames=shown))[0]
                )
                answers.append(belief.params)
        assert torch.equal(answers[0], answers[1])
        assert not torch.equal(answers[0], answers[2])
        assert not torch.equal(answers[0], answers[4])
