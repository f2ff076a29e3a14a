"""Forward models over the tokens of frames: several at a time (MaskGIT, Genie), or one after the other (IRIS, GAIA-1).

A state is a tree: the last frames, their tokens, the time of the last one, and the transformer's cache. An action
belongs to the frame that it leads to. Where none is known, that is told to the model, which has learnt it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from retrodict.clip import Clip
from retrodict.constants import constant
from retrodict.errors import Incompatible, NoLikelihood, UnusableInput
from retrodict.models.action_tokens import ActionTokens
from retrodict.models.tokenizers import Tokenizer
from retrodict.models.windows import continued, frame_windows
from retrodict.nn.decoding import schedule, settle
from retrodict.nn.device import refuse_unless
from retrodict.nn.masks import Mask
from retrodict.nn.part import Part
from retrodict.nn.transformer import SpaceTime
from retrodict.roles import Memory, Policy, State, next_action
from retrodict.spaces import ActionSpace
from retrodict.tree import Tree, child, leaf

UNKNOWN_SHARE = 0.1  # of the steps in training, whose action is withheld, where a world is told nothing else
NEVER = -1  # time of frames that are not of the row's present episode


class TokenWorld(Part):
    """What all token worlds have in common: the state, rolling out, and what a policy is shown.

    `memory` counts the frames that are looked back at, beside the first `sinks` of an episode, which are kept for ever.
    In training each segment of an action is withheld from a share of the steps (`withheld`, one a segment), and a share
    `begun` of the rows is shown no frame before the first that it learns from: so a world learns to `begin`.
    With `keeps`, cells whose token stays keep their pixels, so that only what changes is drawn anew (own).
    A subclass takes frames in (`absorb`), says what comes next (`following`), and how likely frames are (`likelihood`).
    """

    def __init__(
        self, tokenizer: Tokenizer, space: ActionSpace, width: int, memory: int, sinks: int,
        withheld: tuple[float, ...] = (), begun: float = 0.0, keeps: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if memory < 1:
            raise UnusableInput(f"a token world looks back at one frame or more; got a memory of {memory}")
        shares = withheld or (UNKNOWN_SHARE,) * len(space.segments)
        if len(shares) != len(space.segments) or not all(0 <= share <= 1 for share in (*shares, begun)):
            raise UnusableInput(
                f"expected a share in 0..1 for each of {len(space.segments)} segments, and one of rows that begin; "
                f"got {withheld} and {begun}"
            )
        self.withheld, self.begun, self.keeps = shares, begun, keeps
        self.spoken = tuple(segment.kind == "text" for segment in space.segments)
        self.tokenizer, self.space, self.view = tokenizer, space, tokenizer.view
        self.memory, self.sinks = memory, sinks
        self.embed = nn.Embedding(tokenizer.codes, width)
        self.act_tokens = ActionTokens(space, width)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters but the tokenizer's, which is trained before."""
        fixed = {id(parameter) for parameter in self.tokenizer.parameters()}
        return {"all": [p for p in self.parameters() if p.requires_grad and id(p) not in fixed]}

    def absorb(
        self, cache: Tree, tokens: Int[Tensor, "b t k"], actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"],
        times: Int[Tensor, "b t"],
    ) -> Tree:  # fmt: skip
        """Returns the cache with these frames and the actions that led to them."""
        raise NotImplementedError

    def following(
        self, cache: Tree, action: Float[Tensor, "b a"], known: Bool[Tensor, "b s"], time: Int[Tensor, "b"],
        rng: torch.Generator,
    ) -> tuple[Int[Tensor, "b k"], Tree, dict[str, Tensor]]:  # fmt: skip
        """Draws the next frame; returns its tokens, the cache that holds it, and what else this step brings."""
        raise NotImplementedError

    def likelihood(
        self, tokens: Int[Tensor, "b t k"], actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"],
        times: Int[Tensor, "b t"],
    ) -> Float[Tensor, "b t-1"]:  # fmt: skip
        """Log probability of each frame after the first, given those before it."""
        raise NotImplementedError

    def empty(self, rows: int, device: torch.device) -> Tree:
        """The cache of an episode that has not begun."""
        raise NotImplementedError

    def begin(self, rows: int, device: torch.device | str = "cpu") -> State:
        """The state before any frame: what is imagined first is a first frame, of which words alone tell anything."""
        return {
            "frames": torch.zeros(rows, *self._shape, dtype=torch.uint8, device=device),
            "tokens": torch.zeros(rows, self.view.frames, self.tokenizer.cells, dtype=torch.long, device=device),
            "time": torch.full((rows,), NEVER, device=device), "cache": self.empty(rows, torch.device(device)),
        }  # fmt: skip

    def observe(self, past: Clip, state: State = None) -> State:
        """Takes in what was seen; rows in which another episode begins forget the one before."""
        frames, rows = past.frames, past.rows
        if frames is None:
            raise UnusableInput("this model looks at frames and the clip has none")
        times, begins = _since(past, None if state is None else leaf(state, "time"))
        if state is None:
            joined, skip, cache = past, 0, self.empty(rows, past.device)
        else:
            joined, skip = continued(leaf(state, "frames"), past), 1
            cache = _forgotten(child(state, "cache"), begins)
        shown = frame_windows(joined, self.view).view(rows, joined.length, *self._shape)
        tokens = self.tokenizer.tokens(shown[:, joined.length - past.length :].flatten(0, 1)).view(
            rows, past.length, -1
        )
        actions, known = self.led(past)
        new = slice(skip, past.length)
        if past.length > skip:
            cache = self.absorb(cache, tokens[:, new], actions[:, new], known[:, new], times[:, new])
        back = torch.cat([leaf(state, "tokens")[:, :-1], tokens], 1) if state is not None else tokens
        return {
            "frames": shown[:, -1], "tokens": _last(back, self.view.frames), "time": times[:, -1], "cache": cache,
        }  # fmt: skip

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.view.frames, self.view.channels, *self.view.size)

    def led(self, clip: Clip) -> tuple[Float[Tensor, "b t a"], Bool[Tensor, "b t s"]]:
        """Returns the action that led to each frame, and which of its segments are known; none led to the first."""
        if clip.actions is not None and clip.steps and clip.actions.shape[-1] != self.space.width:
            raise Incompatible(
                f"this world takes actions of {self.space.width} columns; the clip's have {clip.actions.shape[-1]}. "
                "Steer by its own, or give frames alone: clip.with_(actions=None, source=None)"
            )
        nothing = torch.zeros(clip.rows, 1, self.space.width, device=clip.device)
        if clip.actions is None or clip.steps == 0:
            actions = nothing.expand(-1, clip.length, -1)
        else:
            actions = torch.cat([nothing, clip.actions], 1)
        known = F.pad(clip.known, (1, 0)).unsqueeze(-1).expand(-1, -1, self.act_tokens.count)
        return actions, known

    def imagine(
        self, state: State, actions: Float[Tensor, "b k a"] | Policy | None, steps: int, rng: torch.Generator
    ) -> tuple[Clip, State]:
        """Rolls out `steps` steps. A policy is shown decoded frames; without actions, the model goes on unguided."""
        shown, tokens = leaf(state, "frames"), leaf(state, "tokens")
        time, cache = leaf(state, "time"), child(state, "cache")
        memory: Memory = None
        frames, taken, told = [shown[:, -1]], [], []
        for step in range(steps):
            if actions is None:
                action = torch.zeros(len(time), self.space.width, device=time.device)
            else:
                seen = shown if memory is None else torch.stack(frames[-2:], 1)
                action, memory = next_action(actions, step, Clip(frames=seen), memory, rng)
            known = torch.full((len(time), self.act_tokens.count), actions is not None, device=time.device)
            known = self._worded(known, time == NEVER)
            time, before = time + 1, tokens[:, -1]
            following, cache, more = self.following(cache, action, known, time, rng)
            tokens = torch.cat([tokens[:, 1:], following.unsqueeze(1)], 1)
            picture = self.tokenizer.pixels(tokens)
            if self.keeps:
                stays = (following == before) & (time > 0).unsqueeze(1)
                picture = torch.where(self.tokenizer.spread(stays).unsqueeze(1), shown[:, -1], picture)
            shown = torch.cat([shown[:, 1:], picture.unsqueeze(1)], 1)
            frames.append(picture)
            taken.append(action)
            told.append(more)
        extra: dict[str, Any] = {
            name: torch.stack([more[name] for more in told], 1) for name in (told[0] if told else ())
        }
        if taken and actions is not None:
            extra["actions"] = torch.stack(taken, 1)
        reached: State = {"frames": shown, "tokens": tokens, "time": time, "cache": cache}
        return Clip(frames=torch.stack(frames, 1), **extra), reached

    def _worded(self, known: Bool[Tensor, "b s"], first: Bool[Tensor, "b"]) -> Bool[Tensor, "b s"]:
        """Nothing led to a first frame; only words tell of it."""
        return known & (~first.unsqueeze(1) | constant(self.spoken, known.device, torch.bool))

    def decode(self, clip: Clip) -> Clip:
        """Returns the clip as it is: its frames are pixels already."""
        return clip

    def log_prob(self, clip: Clip) -> Float[Tensor, "b t-1"]:
        """Log probability of the tokens of each next frame, up to a constant free of the action."""
        if clip.frames is None or clip.actions is None:
            raise NoLikelihood("scoring the next frame needs a clip with frames and actions")
        tokens = self.tokenizer.tokens(frame_windows(clip, self.view)).view(clip.rows, clip.length, -1)
        actions, known = self.led(clip)
        number = _episodes(clip)
        found = torch.zeros(clip.rows, clip.steps, device=clip.device)
        for episode in range(int(number.max()) + 1):  # each as if nothing else were in the row
            here = number == episode
            logs = self.likelihood(tokens, actions, known, _times(here))
            found = torch.where(here[:, 1:] & here[:, :-1], logs, found)
        return found

    def times(self, clip: Clip) -> Int[Tensor, "b t"]:
        """Counts the frames of each row's episode from 0; NEVER where they are padding.

        Raises:
            UnusableInput: a row has several episodes.
        """
        number = _episodes(clip)
        one = (number <= 0).all()
        refuse_unless(one, "this world learns from clips of one episode a row, as `Steps` draws them")
        return _times(number == 0)

    def learnt_from(self, clip: Clip, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns (tokens, actions, known, times) of a clip to learn from, with some actions and frames withheld."""
        assert clip.frames is not None
        tokens = self.tokenizer.tokens(frame_windows(clip, self.view)).view(clip.rows, clip.length, -1)
        actions, known = self.led(clip)
        shares = constant(tuple(self.withheld), known.device, torch.float32)
        known = known & (torch.rand(known.shape, generator=rng, device=known.device) >= shares)
        times = self.times(clip)
        if self.begun and clip.length > 1:
            first = torch.rand(clip.rows, generator=rng, device=known.device) < self.begun
            times = torch.cat([torch.where(first, NEVER, times[:, 0]).unsqueeze(1), times[:, 1:]], 1)
            known = torch.cat([known[:, :1], self._worded(known[:, 1], first).unsqueeze(1), known[:, 2:]], 1)
        return tokens, actions, known, times


def _episodes(clip: Clip) -> Int[Tensor, "b t"]:
    """Numbers the episodes of each row from 0; -1 where frames are padding."""
    if clip.segment is None:
        return torch.zeros(clip.rows, clip.length, dtype=torch.long, device=clip.device)
    begins = F.pad(clip.segment[:, 1:] != clip.segment[:, :-1], (1, 0), value=True) & (clip.segment >= 0)
    return torch.where(clip.segment < 0, -1, begins.cumsum(1) - 1)


def _times(here: Bool[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """Counts the frames that are here, from 0; NEVER for all others."""
    return torch.where(here, here.cumsum(1) - 1, NEVER)


def _since(past: Clip, before: Tensor | None) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b"]]:
    """Time of each frame since its row's present episode began (NEVER before that), and which rows begin anew."""
    t = torch.arange(past.length, device=past.device).expand(past.rows, -1)
    start = torch.zeros(past.rows, dtype=torch.long, device=past.device)
    if past.segment is not None and past.length > 1:
        start = torch.where(past.segment[:, 1:] != past.segment[:, :-1], t[:, 1:], 0).amax(1)
    times = torch.where(t < start[:, None], NEVER, t - start[:, None])
    if before is not None:
        times = torch.where(start[:, None] == 0, times + before[:, None], times)
    return times, start > 0


def _forgotten(cache: Tree, rows: Bool[Tensor, "b"]) -> Tree:
    assert isinstance(cache, dict)
    return {**cache, "at": torch.where(rows[:, None], NEVER, leaf(cache, "at"))}


def _last(tokens: Tensor, count: int) -> Tensor:
    """The last `count` frames' tokens, the first repeated where there are fewer."""
    early = tokens[:, :1].expand(-1, max(0, count - tokens.shape[1]), -1)
    return torch.cat([early, tokens], 1)[:, -count:]


class MaskedWorld(TokenWorld):
    """Fills in the tokens of the next frame in a few passes, the surest first (MaskGIT dynamics of Genie).

    A frame that is not there yet is made of one mask token, to which the action is added (Bruce et al., ICML 2024:
    better than joining it). In training a clip is first taken in as it is, then all its frames are drafted at once with
    some tokens masked, each as if it came next: so what it learns from is what it will see.

    With `alike`, tokens that stand for like things begin alike, and are told by how near a token's vector is (tied
    embeddings, Press and Wolf 2017): so what is learnt of one holds for its kin (own).
    """

    def __init__(
        self, tokenizer: Tokenizer, space: ActionSpace, width: int = 128, depth: int = 4, heads: int = 4,
        memory: int = 8, sinks: int = 0, passes: int = 8, temperature: float = 1.0, doubt: float = 1.0,
        alike: bool = False, keeps: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(tokenizer, space, width, memory, sinks, keeps=keeps)
        self.passes, self.temperature, self.doubt = passes, temperature, doubt
        self.place = nn.Parameter(torch.randn(tokenizer.cells, width) * 0.5)
        self.masked = nn.Parameter(torch.randn(width))
        self.net = SpaceTime((tokenizer.rows, tokenizer.columns), width, depth, heads, Mask(memory=memory, sinks=sinks))
        self.head = nn.Linear(width, tokenizer.codes)
        self.alike = alike
        if alike:
            self._tie()
            begin_alike(self.embed.weight, tokenizer.vectors())

    def _tie(self) -> None:
        """Logits are how near what `head` says comes to each token's embedding, and how often it is seen at all."""
        width = self.embed.weight.shape[1]
        self.head = nn.Linear(width, width)
        self.often = nn.Parameter(torch.zeros(self.tokenizer.codes))

    def said(self, features: Float[Tensor, "*n d"]) -> Float[Tensor, "*n v"]:
        """Logits of tokens, of the features of their cells."""
        if not self.alike:
            return self.head(features)  # type: ignore[no-any-return]
        return self.head(features) @ self.embed.weight.T * 0.25 + self.often  # type: ignore[no-any-return]

    def empty(self, rows: int, device: torch.device) -> Tree:
        """The cache of an episode that has not begun."""
        return self.net.empty(rows, device)

    def _inputs(self, tokens: Tensor, actions: Tensor, known: Tensor, open_: Tensor | None = None) -> Tensor:
        x = self.embed(tokens)
        if open_ is not None:
            x = torch.where(open_.unsqueeze(-1), self.masked, x)
        return x + self.place + self.act_tokens(actions, known).sum(2).unsqueeze(2)  # type: ignore[no-any-return]

    def absorb(
        self, cache: Tree, tokens: Int[Tensor, "b t k"], actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"],
        times: Int[Tensor, "b t"],
    ) -> Tree:  # fmt: skip
        """Returns the cache with these frames and the actions that led to them."""
        _, new = self.net(self._inputs(tokens, actions, known), times, cache)
        return self.net.extend(cache, new)

    def following(
        self, cache: Tree, action: Float[Tensor, "b a"], known: Bool[Tensor, "b s"], time: Int[Tensor, "b"],
        rng: torch.Generator,
    ) -> tuple[Int[Tensor, "b k"], Tree, dict[str, Tensor]]:  # fmt: skip
        """Fills in the next frame in `passes` passes."""
        actions, knowns, times = action.unsqueeze(1), known.unsqueeze(1), time.unsqueeze(1)
        tokens = torch.zeros(len(action), self.tokenizer.cells, dtype=torch.long, device=action.device)
        open_ = torch.ones_like(tokens, dtype=torch.bool)
        table = schedule(self.tokenizer.cells, self.passes)
        for number, settled in enumerate(table):
            x = self._inputs(tokens[:, None], actions, knowns, open_[:, None])
            doubt = self.doubt * self.temperature * (1 - (number + 1) / len(table))  # less as the frame takes shape
            logits = self.logits(x, actions, knowns, times, cache)
            tokens, open_ = settle(tokens, logits[:, 0], open_, settled, rng, self.temperature, doubt)
        return tokens, self.absorb(cache, tokens[:, None], actions, knowns, times), {}

    def logits(
        self, x: Float[Tensor, "b t k d"], actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"],
        times: Int[Tensor, "b t"], cache: Tree,
    ) -> Float[Tensor, "b t k v"]:  # fmt: skip
        """Of the tokens of frames that are drafted, each as if it came next; `x` are their inputs."""
        return self.said(self.net(x, times, cache, True)[0])

    def drafted(
        self, tokens: Int[Tensor, "b t k"], actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"],
        times: Int[Tensor, "b t"], open_: Bool[Tensor, "b t-1 k"],
    ) -> Float[Tensor, "b t-1 k v"]:  # fmt: skip
        """Logits of every frame after the first, with these tokens masked, given the frames before it."""
        _, cache = self.net(self._inputs(tokens[:, :-1], actions[:, :-1], known[:, :-1]), times[:, :-1])
        x = self._inputs(tokens[:, 1:], actions[:, 1:], known[:, 1:], open_)
        return self.logits(x, actions[:, 1:], known[:, 1:], times[:, 1:], cache)

    def likelihood(
        self, tokens: Int[Tensor, "b t k"], actions: Float[Tensor, "b t a"], known: Bool[Tensor, "b t s"],
        times: Int[Tensor, "b t"],
    ) -> Float[Tensor, "b t-1"]:  # fmt: skip
        """Of all tokens of a frame in one pass, each by itself."""
        if tokens.shape[1] < 2:
            return torch.zeros(len(tokens), 0, device=tokens.device)
        everything = torch.ones_like(tokens[:, 1:], dtype=torch.bool)
        logits = self.drafted(tokens, actions, known, times, everything).log_softmax(-1)
        return logits.gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1).sum(-1)


@torch.no_grad()
def begin_alike(embedding: Float[Tensor, "v d"], look: Float[Tensor, "v e"]) -> None:
    """Makes what looks alike begin alike by half, so that what is learnt of one token holds for its kin."""
    look = (look - look.mean(0)) @ torch.randn(look.shape[1], embedding.shape[1]).to(look)
    embedding.add_((look / look.std().clamp_min(1e-6)).to(embedding)).mul_(0.5**0.5)


def filling_in(world: MaskedWorld, clip: Clip, noise: torch.Generator, changing: float = 0.0) -> dict[str, Tensor]:
    """Cross entropy of masked tokens; the share masked of a frame is cos(π u / 2), u uniform (MaskGIT).

    Tokens that differ from those of the frame before weigh `changing` more than the others (own).
    """
    with torch.no_grad():
        tokens, actions, known, times = world.learnt_from(clip, noise)
    rows, length, cells = tokens.shape
    share = torch.rand((rows, length - 1, 1), generator=noise, device=tokens.device).mul(torch.pi / 2).cos()
    open_ = torch.rand((rows, length - 1, cells), generator=noise, device=tokens.device) < share
    logits = world.drafted(tokens, actions, known, times, open_)
    wanted = open_ & (times[:, 1:, None] >= 0) & (times[:, :-1, None] >= 0)
    weight = wanted * (1 + changing * (tokens[:, 1:] != tokens[:, :-1]))
    losses = F.cross_entropy(logits.flatten(0, 2), tokens[:, 1:].flatten(), reduction="none").view_as(weight)
    return {"all": (losses * weight).sum() / weight.sum().clamp_min(1)}
