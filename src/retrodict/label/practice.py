"""Practice: an agent that learns a world from recorded steps, and its actions in what the world imagines."""

from __future__ import annotations

from collections.abc import Callable

from retrodict import rng
from retrodict.models.imagination import Dreamer
from retrodict.nn.conv import patch_for
from retrodict.roles import System, View
from retrodict.run.loop import Fit
from retrodict.run.run import Run
from retrodict.run.update import Loss
from retrodict.spaces import ActionSpace

Make = Callable[[View, ActionSpace, int], Dreamer]  # of what it sees, its actions, and pixels of a patch


def practised(run: Run, make: Make, loss: Loss, frames: int, patch: int, steps: int, fit: Fit) -> System:
    """Trains an agent on sequences of `frames`; in a run that has a world it plays `steps` steps there meanwhile.

    It sees numbers where the recording has some, else frames; a `patch` of 0 is the largest that gives 4 a side.
    """
    recorded = run.data.labelled
    cache = recorded.cache
    view = cache.view(proprio=cache.proprio)
    with rng.isolated(run.seed, "dreamer"):
        agent = make(view, cache.space, patch or patch_for(view.size, 4))
    seen = run.replay(recorded.shown(cache.view(frames, frames - 2)), Dreamer.policy, steps)
    agent = run.fit("dreamer", agent, loss, seen, fit)
    return System(forward=agent.world, policy=agent.policy())
