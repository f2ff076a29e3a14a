"""Genie 2 and 3: a world played from one image, that shows again what was seen, and takes words as actions.

Claim   look away and back, and the same is there; what is asked for in words stays
Tiny    about 3 minutes a seed on a CPU core: recall, event_persists
Paper   Parker-Holder et al., Genie 2: A large-scale foundation world model (2024); Ball et al., Genie 3: A new frontier
        for world models (2025)
Run     retrodict train genie_play --data D --out RUN --size tiny

Of both only reports are public. What is built here is what they say: frames one after the other, each from those before
it and the action; a state that is kept, so that a frame costs the same however long one has played; memory of what is
out of view; events in words. Not public are sizes, data, how memory works, and whether actions are recorded or latent;
here they are recorded, tokens are drawn (Genie 2: latent diffusion), and memory is by place (`models.recall_world`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from retrodict import rng
from retrodict.data.batch import Steps
from retrodict.errors import UnknownName, UnusableInput
from retrodict.figures.claims import Figure
from retrodict.models.recall_world import RecallWorld
from retrodict.models.token_world import filling_in
from retrodict.models.tokenizers import PatchTokenizer, learning_patches
from retrodict.nn.conv import patch_for
from retrodict.roles import System
from retrodict.run.loop import Fit
from retrodict.run.run import Run
from retrodict.spaces import ActionSpace, Segment, categorical

FIGURES = {
    "recall": Figure("scroll", "recall", labels=0, target=0.8),
    "event_persists": Figure("scroll", "event_persists", labels=0, target=0.8),
}

LETTERS = 32  # bytes of an event's words


@dataclass(frozen=True)
class Config:
    """Settings of tokens, events, and dynamics (own: none is public)."""

    patch: int = 0  # pixels a side of a token, 0: the largest up to 8 that gives 4 a side
    tokens: int = 256  # values of a token
    apart: float = 4.0  # root mean squared distance of two patches of the book, in bytes
    events: str = ""  # recorded values that become words: VALUE=WORDS, several with ";"
    meanwhile: str = "stay"  # the value that is done while an event happens
    width: int = 64  # of the transformer
    depth: int = 2  # blocks
    heads: int = 2  # of attention
    memory: int = 48  # frames looked back at
    window: int = 27  # frames of a clip to learn from
    passes: int = 4  # to fill in a frame
    temperature: float = 1.0  # of the draw
    tokenise: Fit = field(default_factory=lambda: Fit(200, 64))
    fill: Fit = field(default_factory=lambda: Fit(1100, 8, 3e-3))


def micro() -> Config:
    """Settings for contract tests."""
    few = Fit(8, 8)
    return Config(tokens=16, width=16, depth=1, memory=4, window=4, passes=2, tokenise=few, fill=few)


def tiny() -> Config:
    """The committed settings, for scroll with paint."""
    return Config(events="paint=a ring in the middle")


def paper() -> Config:
    """Larger, for lack of published settings: a minute of memory at 10 frames a second."""
    return Config(
        tokens=1024, width=512, depth=12, heads=8, memory=600, window=120, passes=8,
        fill=Fit(200_000, 36, 3e-4, 1e-4, 0.025, 0.1),
    )  # fmt: skip


def with_events(steps: Steps, events: str, meanwhile: str) -> tuple[Steps, ActionSpace]:
    """Turns values of a recorded choice into words: the same steps, whose actions are a choice and a text.

    Raises:
        UnknownName: the choice has no such value. UnusableInput: the actions are not a single choice.
    """
    space = steps.cache.space
    if not events:
        return steps, space
    recorded, pairs = space.discrete, [pair.partition("=") for pair in events.split(";")]
    if recorded is None or not all(value and words for value, _, words in pairs):
        raise UnusableInput(
            f"events are VALUE=WORDS for values of a single choice; got {events!r} and actions {space.columns}. "
            "Without events: --set events="
        )
    words = {value: told for value, _, told in pairs}
    for value in (*words, meanwhile):
        if value not in recorded.values:
            raise UnknownName(f"value of segment {recorded.name!r} (of --set events)", value, recorded.values)
    choice = categorical(recorded.name, [value for value in recorded.values if value not in words])
    text = Segment("event", "text", tuple(map(str, range(LETTERS))))
    spoken = ActionSpace((choice, text))
    table = torch.stack([
        spoken.vector({choice.name: meanwhile if value in words else value, text.name: words.get(value, "")})
        for value in recorded.values
    ])  # fmt: skip
    there = steps.index
    actions = table.numpy()[steps.columns["actions"][there].argmax(-1)]
    kept = (steps.columns["source"][there], steps.columns["confidence"][there])
    return steps.with_actions(actions, *kept, f"{events}|{meanwhile}"), spoken


def train(cfg: Config, run: Run) -> System:
    """Tokens of the video, then which of them follow which, given actions and words."""
    video = run.data.unlabelled
    view = video.cache.view()
    book = PatchTokenizer(view, cfg.patch or patch_for(view.size, 4), cfg.tokens, cfg.apart)
    book = run.loop("tokens", book, learning_patches, cfg.tokenise.steps, video, cfg.tokenise.batch)
    steps, space = with_events(run.data.labelled, cfg.events, cfg.meanwhile)
    with rng.isolated(run.seed, "world"):
        world = RecallWorld(book, space, cfg.width, cfg.depth, cfg.heads, cfg.memory, 1, cfg.passes, cfg.temperature)
    clips = steps.shown(steps.cache.view(cfg.window, cfg.window - 2))
    return System(encoder=book, forward=run.fit("world", world, filling_in, clips, cfg.fill))
