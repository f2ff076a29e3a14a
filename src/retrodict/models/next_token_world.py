"""A forward model that says the next frame token by token, as a language model says a sentence (IRIS, GAIA-1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.constants import constant
from retrodict.errors import UnusableInput
from retrodict.models.token_world import TokenWorld
from retrodict.models.tokenizers import Tokenizer
from retrodict.nn.decoding import draw
from retrodict.nn.masks import Mask
from retrodict.nn.transformer import SpaceTime
from retrodict.spaces import ActionSpace
from retrodict.tree import Tree, concatenate, pick

SIGNS = (-1.0, 0.0, 1.0)  # of rewards, as IRIS tells them apart


class NextTokenWorld(TokenWorld):
    """One causal sequence: for each frame the segments of the action that led to it, then its tokens row by row.

    With `outcomes` the last token of a frame also says the sign of the step's reward and whether the episode ended.
    (Micheli et al., Transformers are sample-efficient world models, ICLR 2023, say both before the frame is known.)
    With `guidance` g tokens are drawn from (1 + g) l - g l', where l' are the logits without this frame's words
    (GAIA-1, arXiv 2309.17080, section 5): what the words say is exaggerated.
    """

    def __init__(
        self, tokenizer: Tokenizer, space: ActionSpace, width: int = 64, depth: int = 2, heads: int = 4,
        memory: int = 8, outcomes: bool = False, temperature: float = 1.0, top: int = 0, dropout: float = 0.0,
        withheld: tuple[float, ...] = (), begun: float = 0.0, guidance: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(tokenizer, space, width, memory, 0, withheld, begun)
        self.temperature, self.top, self.outcomes, self.guidance = temperature, top, outcomes, guidance
        self.block = self.act_tokens.count + tokenizer.cells
        self.place = nn.Parameter(torch.randn(self.block, width) * 0.5)
        mask = Mask(memory=(memory + 1) * self.block)
        self.net = SpaceTime((1, 1), width, depth, heads, mask, reach=mask.memory)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, tokenizer.codes)
        self.outcome = nn.Linear(width, len(SIGNS) + 1) if outcomes else None

    def empty(self, rows: int, device: torch.device) -> Tree:
        """The cache of an episode that has not begun."""
        return self.net.empty(rows, device)

    def _sequence(
        self, tokens: Tensor, actions: Tensor, known: Tensor, times: Tensor
    ) -> tuple[Float[Tensor, "b s 1 d"], Int[Tensor, "b s"]]:
        x = torch.cat([self.act_tokens(actions, known), self.embed(tokens)], 2) + self.place
        at = times.unsqueeze(-1) * self.block + torch.arange(self.block, device=times.device)
        at = torch.where(times.unsqueeze(-1) < 0, -1, at)
        return self.dropout(x).flatten(1, 2).unsqueeze(2), at.flatten(1)

    def absorb(
        self, cache: Tree, tokens: Int[Tensor, "b t k"], actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"],
        times: Int[Tensor, "b t"],
    ) -> Tree:  # fmt: skip
        """Returns the cache with these frames and the actions that led to them."""
        x, at = self._sequence(tokens, actions, known, times)
        return self.net.extend(cache, self.net(x, at, cache)[1])

    def following(
        self, cache: Tree, action: Float[Tensor, "b a"], known: Bool[Tensor, "b s"], time: Int[Tensor, "b"],
        rng: torch.Generator,
    ) -> tuple[Int[Tensor, "b k"], Tree, dict[str, Tensor]]:  # fmt: skip
        """Says the next frame, one token after the other."""
        lead, cells, rows = self.act_tokens.count, self.tokenizer.cells, len(action)
        words = known & ~self.act_tokens.silent(action) & constant(self.spoken, known.device, torch.bool)
        guided = self.guidance != 0 and bool(words.any())
        if guided:  # the same rows once more, without this frame's words
            wordless = known & ~words
            action, known, time = action.repeat(2, 1), torch.cat([known, wordless]), time.repeat(2)
            cache = concatenate([cache, cache])
        x = self.act_tokens(action.unsqueeze(1), known.unsqueeze(1))[:, 0] + self.place[:lead]
        at = time[:, None] * self.block + torch.arange(lead, device=time.device)
        said: list[Tensor] = []
        for number in range(cells):
            y, cache = self._read(x, at, cache)
            logits = self.head(y)
            if guided:
                logits = logits[:rows] + self.guidance * (logits[:rows] - logits[rows:])
            said.append(draw(logits, rng, self.temperature, self.top))
            x = (self.embed(said[-1].repeat(len(y) // rows)) + self.place[lead + number]).unsqueeze(1)
            at = at[:, -1:] + 1
        y, cache = self._read(x, at, cache)
        y, cache = y[:rows], pick(cache, torch.arange(rows)) if guided else cache
        return torch.stack(said, 1), cache, {} if self.outcome is None else _outcomes(self.outcome(y))

    def _read(self, x: Tensor, at: Tensor, cache: Tree) -> tuple[Float[Tensor, "b d"], Tree]:
        y, new = self.net(x.unsqueeze(2), at, cache)
        return y[:, -1, 0], self.net.extend(cache, new)

    def features(
        self, tokens: Int[Tensor, "b t k"], actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"],
        times: Int[Tensor, "b t"],
    ) -> tuple[Float[Tensor, "b t k d"], Float[Tensor, "b t d"]]:  # fmt: skip
        """Returns what each token is said from, and what the outcome of the step to each frame is."""
        x, at = self._sequence(tokens, actions, known, times)
        y = self.net(x, at)[0].view(*times.shape, self.block, -1)
        lead = self.act_tokens.count
        return y[:, :, lead - 1 : -1], y[:, :, -1]

    def likelihood(
        self, tokens: Int[Tensor, "b t k"], actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"],
        times: Int[Tensor, "b t"],
    ) -> Float[Tensor, "b t-1"]:  # fmt: skip
        """Of each frame, the product of its tokens' probabilities."""
        logits = self.head(self.features(tokens, actions, known, times)[0][:, 1:]).log_softmax(-1)
        return logits.gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1).sum(-1)  # type: ignore[no-any-return]


def _outcomes(logits: Float[Tensor, "b o"]) -> dict[str, Tensor]:
    """Expected sign of the reward, and the probability of an end."""
    signs = constant(SIGNS, logits.device, logits.dtype)
    return {"rewards": (logits[:, :-1].softmax(-1) * signs).sum(-1), "ends": logits[:, -1].sigmoid()}


def saying(world: NextTokenWorld, clip: Clip, noise: torch.Generator) -> dict[str, Tensor]:
    """Cross entropy of the tokens of every frame after the first, and of the outcome of every step.

    Raises:
        UnusableInput: the world is to say outcomes, and the clips have none.
    """
    with torch.no_grad():
        tokens, actions, known, times = world.learnt_from(clip, noise)
    said, ends = world.features(tokens, actions, known, times)
    real = clip.real.float()
    count = real.sum().clamp_min(1.0)
    logits = world.head(said[:, 1:])
    losses = F.cross_entropy(logits.flatten(0, 2), tokens[:, 1:].flatten(), reduction="none")
    total = (losses.view(*real.shape, -1).mean(-1) * real).sum() / count
    if world.outcome is not None:
        if clip.rewards is None or clip.ends is None:
            raise UnusableInput("this world learns rewards and ends, and the data has none; record a world that has")
        found = world.outcome(ends[:, 1:])
        signs = (clip.rewards.sign() + 1).long()
        reward = F.cross_entropy(found[..., :-1].flatten(0, 1), signs.flatten(), reduction="none").view_as(real)
        ended = F.binary_cross_entropy_with_logits(found[..., -1], clip.ends, reduction="none")
        total = total + ((reward + ended) * real).sum() / count
    return {"all": total}
