"""An actor and its critic that practise inside a forward model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.errors import UnusableInput
from retrodict.models.policy import FrameNet
from retrodict.models.tokenizers import Tokenizer
from retrodict.nn.heads import BeliefHead
from retrodict.nn.part import Part
from retrodict.nn.returns import lambda_returns, still_on
from retrodict.roles import ForwardModel, Memory, Policy, View
from retrodict.spaces import ActionSpace, Distribution
from retrodict.tree import leaf


class ActorCritic(Part):
    """A policy over single frames that remembers by an LSTM, and the value of what it has seen (IRIS)."""

    def __init__(
        self, view: View, space: ActionSpace, kind: str = "refine", patch: int = 4, width: int = 32, depth: int = 2,
        hidden: int = 64,
    ) -> None:  # fmt: skip
        super().__init__()
        if view.frames != 1:
            raise UnusableInput(f"an actor sees one frame and remembers the others; got a view of {view.frames}")
        self.view, self.space, self.hidden = view, space, hidden
        self.net = FrameNet(view, "flatten", kind, patch, width, depth, hidden)
        self.cell = nn.LSTMCell(hidden, hidden)
        self.head, self.critic = BeliefHead(hidden, space), nn.Linear(hidden, 1)

    def unroll(
        self, frames: UInt8[Tensor, "b t c h w"], memory: Memory = None, begins: Bool[Tensor, "b t"] | None = None
    ) -> tuple[Float[Tensor, "b t d"], Memory]:
        """Returns what is known at every frame, and the memory of the last; rows forget where an episode begins."""
        seen = self.net(frames.flatten(0, 1).unsqueeze(1)).view(*frames.shape[:2], -1)
        held = self._blank(seen[:, 0]) if memory is None else memory
        h, c = leaf(held, "h"), leaf(held, "c")
        known = []
        for t in range(frames.shape[1]):
            if begins is not None:
                keep = (~begins[:, t, None]).to(h.dtype)
                h, c = h * keep, c * keep
            h, c = self.cell(seen[:, t], (h, c))
            known.append(h)
        return torch.stack(known, 1), {"h": h, "c": c}

    def _blank(self, like: Tensor) -> Memory:
        return {name: like.new_zeros(len(like), self.hidden) for name in ("h", "c")}

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame; with a memory, only what is new in `past` is looked at."""
        if past.frames is None:
            raise UnusableInput("this policy looks at frames and the clip has none")
        first = 0 if memory is None else 1
        begins = None
        if past.segment is not None:
            begins = F.pad(past.segment[:, 1:] != past.segment[:, :-1], (1, 0))[:, first:]
        known, memory = self.unroll(past.frames[:, first:], memory, begins)
        return Distribution(self.space, self.head(known[:, -1])), memory


class Resumed:
    """A policy that begins with a memory, as one that practises from the midst of an episode."""

    def __init__(self, policy: Policy, memory: Memory) -> None:
        self.policy, self.memory, self.view, self.space = policy, memory, policy.view, policy.space

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame, which is new."""
        last = past.cut(past.length - 1, past.length)
        held = self.memory if memory is None else memory
        return self.policy.act(last if held is None else _twice(last), held)


def _twice(last: Clip) -> Clip:
    """A clip whose last frame is new to a policy with a memory; the one before it is not looked at."""
    assert last.frames is not None
    return Clip(frames=last.frames.expand(-1, 2, -1, -1, -1))


class ThroughTokens(Part):
    """A policy that is shown what a tokenizer makes of a frame, as it was in training (IRIS)."""

    def __init__(self, tokenizer: Tokenizer, policy: ActorCritic) -> None:
        super().__init__()
        self.tokenizer, self.policy = tokenizer, policy
        self.view, self.space = policy.view, policy.space

    def act(self, past: Clip, memory: Memory = None) -> tuple[Distribution, Memory]:
        """Answers for the last frame."""
        return self.policy.act(through(self.tokenizer, past), memory)


def through(tokenizer: Tokenizer, clip: Clip) -> Clip:
    """A clip with what a tokenizer makes of its frames."""
    return tokenizer.decode(tokenizer.encode(clip)).with_(features=None)


def practising(
    actor: ActorCritic, clip: Clip, noise: torch.Generator, world: ForwardModel, tokenizer: Tokenizer,
    horizon: int = 15, discount: float = 0.995, trace: float = 0.95, entropy: float = 0.001,
) -> dict[str, Tensor]:  # fmt: skip
    """Loss of actor and critic over futures that the world imagines under the actor, from the last but one frame of a
    clip (that at which the drawn step begins); those before it are remembered. All frames that it sees are those of
    tokens.

    -log π(a) (R - v) + (v - R)² - entropy H(π), R the λ-returns; steps count by the probability that the episode is
    still on. Source: Micheli et al., IRIS (ICLR 2023), section 2.3 and appendix B.
    """
    with torch.no_grad():
        clip = through(tokenizer, clip.cut(0, clip.length - 1))
        assert clip.frames is not None
        state = world.observe(clip)
        memory = actor.unroll(clip.frames[:, :-1])[1] if clip.length > 1 else None
        dream = world.decode(world.imagine(state, Resumed(actor, memory), horizon, noise)[0])
    if dream.frames is None or dream.actions is None or dream.rewards is None or dream.ends is None:
        raise UnusableInput("practice needs a world that imagines frames, rewards and ends")
    known, _ = actor.unroll(dream.frames, memory)
    values, belief = actor.critic(known).squeeze(-1), Distribution(actor.space, actor.head(known[:, :-1]))
    goes_on = 1 - dream.ends
    alive = still_on(dream.ends)
    returns = lambda_returns(dream.rewards, values.detach(), goes_on, discount, trace)
    gain = (returns - values[:, :-1]).detach()
    gain = gain / (gain.square() * alive).sum().div(alive.sum()).sqrt().clamp_min(0.1)
    policy = -belief.log_prob(dream.actions) * gain - entropy * belief.entropy()
    critic = (values[:, :-1] - returns).square()
    return {"all": ((policy + critic) * alive).sum() / alive.sum()}
