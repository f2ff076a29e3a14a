"""How every route ends: a policy clones the actions, or the codes, that the video now bears."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrodict import rng
from retrodict.data.batch import Steps
from retrodict.label.crossfit import alarms, name_codes
from retrodict.models.latent_action import CodeAdapter, LatentAction
from retrodict.models.losses import cloning
from retrodict.models.policy import ClipPolicy
from retrodict.nn.conv import patch_for
from retrodict.roles import System, View
from retrodict.run.loop import Fit
from retrodict.run.run import Run
from retrodict.spaces import ActionSpace


@dataclass(frozen=True)
class Shape:
    """Settings of a policy that sees one frame (`models.policy.ClipPolicy`)."""

    width: int  # channels of the encoder
    hidden: int  # width of the dense layers
    pool: str = "flatten"
    depth: int = 2  # 3x3 layers after the patches
    patch: int = 0  # pixels a side, 0: the largest up to 8 that gives 7 a side
    points: int = 4  # of the pool `points`

    def policy(self, view: View, space: ActionSpace) -> ClipPolicy:
        """Builds the policy."""
        patch = self.patch or patch_for(view.size)
        return ClipPolicy(view, space, self.pool, "grid", patch, self.width, self.depth, self.hidden, self.points)


def clone(run: Run, steps: Steps, space: ActionSpace, shape: Shape, fit: Fit) -> ClipPolicy:
    """Fits a policy to the actions of these steps."""
    view = steps.cache.view()
    with rng.isolated(run.seed, "policy"):
        policy = shape.policy(view, space)
    return run.fit("policy", policy, cloning, steps.shown(view), fit)


def clone_codes(
    run: Run, model: LatentAction[Any], shape: Shape, fit: Fit, decoder: int, decode: Fit, codes: Steps | None = None
) -> System:
    """Labels all video with codes, clones them, and names them with the labels; returns the whole system.

    `decoder` is the width of the hidden layer that names codes (0: a table). Without any label they keep no name.
    `codes` is the video with its codes, where that was done before.
    """
    inverse, video, few = model.inverse, run.data.unlabelled, run.data.labelled
    about = {"perplexity": inverse.quantiser.perplexity, "alarms": alarms(run, model)}
    codes, view = codes or run.label("codes", inverse, video), video.cache.view()
    with rng.isolated(run.seed, "policy"):
        policy = shape.policy(view, inverse.space)
        adapter = CodeAdapter(few.cache.space, inverse.space, decoder) if len(few) else None
    policy = run.fit("policy", policy, cloning, codes.shown(view), fit)
    if adapter is not None:
        adapter, evidence = name_codes(run, adapter, inverse, decode)
        about |= evidence
    return System(inverse=inverse, forward=model.world, policy=policy, adapter=adapter, about=about)
