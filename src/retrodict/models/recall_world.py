"""A forward model that finds its way back: frames are kept where actions have led, and shown again from there.

Every action moves the view by a vector that is learnt, and the sum of them is where one is: path integration, as in
Whittington, Warren and Behrens, Relating transformers to models of the hippocampal formation (ICLR 2022). Nothing is
told of what an action does, or that the way back undoes the way there. An action that something stops (a border)
counts as if it had led on, and places are wrong after it.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.models.token_world import UNKNOWN_SHARE, MaskedWorld, begin_alike
from retrodict.models.tokenizers import Tokenizer
from retrodict.nn.masks import Mask
from retrodict.nn.places import Places
from retrodict.segments import GAUSSIAN, normaliser
from retrodict.spaces import ActionSpace
from retrodict.tree import Tree, leaf

FASTER = 2.0  # than other weights, at which movements are learnt: they begin at none, and are cells long


class RecallWorld(MaskedWorld):
    """MaskGIT dynamics that look by place at all tokens of `memory` frames, and of the first `sinks` (`nn.places`).

    An action that is not known, and one of words alone, moves nothing.
    """

    grid: Tensor

    def __init__(
        self, tokenizer: Tokenizer, space: ActionSpace, width: int = 64, depth: int = 2, heads: int = 2,
        memory: int = 26, sinks: int = 1, passes: int = 4, temperature: float = 1.0, doubt: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(tokenizer, space, width, 0, heads, memory, sinks, passes, temperature, doubt)
        size = (tokenizer.rows, tokenizer.columns)
        self.net: Places = Places(size, width, depth, heads, Mask(memory=memory, sinks=sinks))
        self.alike = True
        self._tie()
        self.moves = nn.Linear(space.width, 2, bias=False)
        nn.init.zeros_(self.moves.weight)
        begin_alike(self.embed.weight, tokenizer.vectors())
        cells = torch.arange(tokenizer.cells)
        self.register_buffer("grid", torch.stack([cells // size[1], cells % size[1]], 1).float(), persistent=False)

    def moved(self, actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"]) -> Float[Tensor, "b t 2"]:
        """How far each action moves the view: rows and columns, in cells."""
        values = actions.clone()
        for segment, columns, _ in self.space.slices():
            if segment.kind == "text":
                values[..., columns] = 0
            elif segment.kind in GAUSSIAN:
                center, scale = normaliser(segment, values)
                values[..., columns] = (values[..., columns] - center) / scale
        return FASTER * self.moves(values) * known.all(-1, keepdim=True)  # type: ignore[no-any-return]

    def empty(self, rows: int, device: torch.device) -> Tree:
        """The cache of an episode that has not begun; `here` is where one is."""
        return {**self.net.empty(rows, device), "here": torch.zeros(rows, 2, device=device)}

    def absorb(
        self, cache: Tree, tokens: Int[Tensor, "b t k"], actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"],
        times: Int[Tensor, "b t"],
    ) -> Tree:  # fmt: skip
        """Returns the cache with these frames, each where its action led."""
        here = leaf(cache, "here").unsqueeze(1) + self.moved(actions, known).cumsum(1)
        _, new = self.net(self._inputs(tokens, actions, known), times, places=self._places(here))
        return {**self.net.extend(cache, new), "here": here[:, -1]}

    def _places(self, here: Float[Tensor, "b t 2"]) -> Float[Tensor, "b t k 2"]:
        return here.unsqueeze(2) + self.grid

    def logits(
        self, x: Float[Tensor, "b t k d"], actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"],
        times: Int[Tensor, "b t"], cache: Tree,
    ) -> Float[Tensor, "b t k v"]:  # fmt: skip
        """Of the tokens of drafted frames, each one step from where the cache is (b 2), or its own frame (b t 2)."""
        here = leaf(cache, "here")
        there = (here.unsqueeze(1) if here.ndim == 2 else here) + self.moved(actions, known)
        found, _ = self.net(x, times, cache, True, self._places(there))
        return self.said(found)

    def drafted(
        self, tokens: Int[Tensor, "b t k"], actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"],
        times: Int[Tensor, "b t"], open_: Bool[Tensor, "b t-1 k"],
    ) -> Float[Tensor, "b t-1 k v"]:  # fmt: skip
        """Logits of every frame after the first, with these tokens masked, given the frames before it."""
        here = self.moved(actions, known).cumsum(1)[:, :-1]
        seen = self._inputs(tokens[:, :-1], actions[:, :-1], known[:, :-1])
        _, cache = self.net(seen, times[:, :-1], places=self._places(here))
        actions, known = actions[:, 1:], known[:, 1:]
        x = self._inputs(tokens[:, 1:], actions, known, open_)
        return self.logits(x, actions, known, times[:, 1:], {**cache, "here": here})

    def learnt_from(self, clip: Clip, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same with all actions of some rows withheld: one that is not told leads all astray that comes after."""
        tokens, actions, _, times = super().learnt_from(clip, rng)
        known = self.led(clip)[1]
        told = torch.rand((clip.rows, 1, 1), generator=rng, device=known.device) >= UNKNOWN_SHARE
        return tokens, actions, known & told, times
