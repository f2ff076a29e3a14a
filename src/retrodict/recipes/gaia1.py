"""GAIA-1: pictures, words and actions as one sequence of tokens, so that a world can be driven and be described.

Claim   steering steers what is imagined, and a changed caption changes what it says, and leaves most of the rest
Tiny    about 15 minutes a seed on a CPU core: steering_agreement, caption_change, road_kept
Paper   Hu et al., GAIA-1: A Generative World Model for Autonomous Driving (2023)
Run     retrodict train gaia1 --data D --out RUN --size tiny

An action gets one more part, the caption of the frame that it leads to. The published model turns tokens into video by
diffusion; that decoder would be one more stage behind `world`. Here each frame is decoded by the tokenizer alone.

What follows was seen while it was built, in single runs, which are no committed result.

A world obeys where its recording went. From a driver whose random steering lasts one step and is then put right, it
learnt how full lock begins, and not how it goes on; random steering that may last up to five steps, and tokens and a
world that learn longer, brought the steering over its target. Drawn at a temperature of 0.3 instead of 0.7, words and
steering are followed better. Tokens alone turn some bends and cars of real pictures into others (`through_tokens`):
fewer of the bends since their loss heeds structure, and more of the small cars, and so words about them are followed
better and worse. With four times as many values of a token (one seed) steering was followed worse. What helped little
or not: to exaggerate the steering like words, two tokens for a patch, more weight for moving pixels or for what an
inverse model sees; tokens of 4 pixels are four times as many to say.

Its tiny size wants recordings of the road with numbers (`retrodict record road --set numbers=true`), from which
captions are made; of other video set `captions=given` or `captions=none`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor

from retrodict import rng
from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.envs.road_view import SAID, WORDS, captions, read_attributes
from retrodict.errors import UnknownName, UnusableInput
from retrodict.figures.claims import Figure
from retrodict.models.inverse import Inverse
from retrodict.models.losses import labelled
from retrodict.models.next_token_world import NextTokenWorld, saying
from retrodict.models.tokenizers import ConvTokenizer, tokenizing
from retrodict.nn.conv import patch_for
from retrodict.nn.quantize import token_code
from retrodict.roles import System
from retrodict.run.loop import Fit
from retrodict.run.run import LATER, Run
from retrodict.segments import Segment, segment_vector
from retrodict.spaces import ActionSpace

FIGURES: dict[str, Figure] = {
    "steering_agreement": Figure("road", "steering_agreement", labels=0, target=0.9),
    "caption_change": Figure("road", "caption_change", labels=0),
    "road_kept": Figure("road", "road_kept", labels=0),
}
SAYS = ("given", "state", "road", "none")


@dataclass(frozen=True)
class Config:
    """Settings of tokenizer and world."""

    # given: the episode's own words; state: of the recorded numbers of the road; road: read off its pictures; none
    captions: str = "given"
    patch: int = 0  # pixels a side of a token, 0: the largest up to 8 that gives 2 a side (paper: 16)
    tokens: int = 512  # values of a token (paper: 8192)
    code_width: int = 16  # of a token's vector
    channels: int = 128  # of the tokenizer
    structure: float = 0.5  # weight of structural similarity in its loss (paper: a perceptual and an adversarial loss)
    width: int = 96  # of the transformer (paper: 4096)
    depth: int = 3  # of the transformer
    heads: int = 4  # of attention
    memory: int = 2  # frames looked back at (paper: 25, at 6.25 a second)
    withheld: tuple[float, float] = (0.1, 0.4)  # shares of steps without the action, without words (paper: 0.4, 0.4)
    begun: float = 0.25  # share of rows that begin with words and no frame (own)
    top: int = 50  # likeliest tokens that are drawn from (paper: 50)
    temperature: float = 0.3  # of the draw (own: of 0.1, 0.3, 0.7 and 1, obedient and yet not always the same)
    guidance: float = 1.0  # how much words are exaggerated (own: of 0, 1, 2 and 3, what followed captions best)
    tokenise: Fit = field(default_factory=lambda: Fit(5000, 32, 2e-3))
    say: Fit = field(default_factory=lambda: Fit(4500, 24, 2e-3))
    read: Fit = field(default_factory=lambda: Fit(600, 64, 2e-3))  # of the inverse model, which reads actions (own)
    levels: tuple[int, ...] = field(default=(), metadata=LATER)  # of tokens of fixed codes (FSQ); none: learnt


def micro() -> Config:
    """Settings for contract tests."""
    few = Fit(8, 8)
    return Config(
        tokens=16, code_width=4, channels=8, width=16, depth=1, heads=2, memory=2, tokenise=few, say=few, read=few
    )  # fmt: skip


def tiny() -> Config:
    """The committed settings."""
    return Config("state")


def paper() -> Config:
    """The published sizes for CarRacing (envs/car_racing.py), whose pictures nothing describes; never run here."""
    return Config(
        "none", 16, 8192, 256, 512, 1.0, 4096, 32, 32, 25, (0.4, 0.0), 0.0, 50, 1.0, 0.0, Fit(200_000, 160, 1e-4),
        Fit(100_000, 128, 1e-4, 0.1),
    )  # fmt: skip


def described(kind: str, steps: Steps, run: Run) -> tuple[Steps, ActionSpace]:
    """The same steps with a caption of the frame that each leads to as one more part of the action, and its space.

    Raises:
        UnknownName: no such kind of captions.
    """
    if kind not in SAYS:
        raise UnknownName("kind of captions", kind, SAYS)
    if kind == "none":
        return steps, steps.cache.space
    every = product(*(range(len(words)) for words in WORDS.values()))
    road = captions(_attributes(torch.tensor(list(every))))
    width = max(1, *(len(text.encode()) for text in (steps.cache.texts if kind == "given" else road)))
    words = run.map("captions", partial(_words, kind=kind, width=width), steps)["words"]
    actions = torch.cat([steps.target_actions(), words], 1).numpy()
    source, confidence = (steps.columns[name][steps.index] for name in ("source", "confidence"))
    made = steps.with_actions(actions, source, confidence, hashlib.sha256(actions.tobytes()).hexdigest()[:16])
    return made, told(steps.cache.space, width)


def told(space: ActionSpace, width: int) -> ActionSpace:
    """The space with a caption of so many bytes as its last part."""
    return ActionSpace((*space.segments, Segment("caption", "text", tuple(map(str, range(width))))))


def _words(clip: Clip, kind: str, width: int) -> dict[str, Tensor]:
    """Bytes of the captions of what steps lead to, padded with -1."""
    assert clip.frames is not None
    assert clip.text is not None
    texts = clip.text
    if kind == "state":
        texts = captions(_attributes(_state(clip)))
    elif kind == "road":
        texts = captions(read_attributes(clip.frames[:, -1].permute(0, 2, 3, 1).cpu().numpy()))
    segment = told(ActionSpace((Segment("any", "continuous", ("x",)),)), width).segments[-1]
    return {"words": torch.stack([segment_vector(segment, text) for text in texts])}


def _attributes(numbers: Tensor) -> dict[str, np.ndarray]:
    """Columns of numbers as the attributes that they are of."""
    return dict(zip(SAID, numbers.long().T.cpu().numpy(), strict=True))


def _state(clip: Clip) -> Tensor:
    """The attributes of the frames that steps lead to, as the road told them: n weather-traffic-bend.

    Raises:
        UnusableInput: the data does not hold them.
    """
    most = torch.tensor([len(words) - 1 for words in WORDS.values()])
    state = None if clip.proprio is None else clip.proprio[:, -1].cpu()
    if state is None or state.shape[1:] != most.shape or bool(((state != state.round()) | (state < 0)).any()):
        met = "no numbers" if state is None else f"{state.shape[1]} that are others"
    elif bool((state > most).any()):
        met = f"numbers up to {state.amax(0).tolist()}, which go up to {most.tolist()}"
    else:
        return state
    raise UnusableInput(
        f"captions of the state are made of the numbers of {', '.join(SAID)} beside each frame; the data has {met}. "
        "Record the road with --set numbers=true, or read them off its pictures: --set captions=road"
    )


def learnt(cfg: Config, run: Run, tokens: ConvTokenizer, steps: Steps, space: ActionSpace) -> NextTokenWorld:
    """Learns which token follows which, given these actions and words."""
    drive, words = cfg.withheld
    shares = tuple(words if segment.name == "caption" else drive for segment in space.segments)
    with rng.isolated(run.seed, "world"):
        world = NextTokenWorld(
            tokens, space, cfg.width, cfg.depth, cfg.heads, cfg.memory, temperature=cfg.temperature, top=cfg.top,
            withheld=shares, begun=cfg.begun, guidance=cfg.guidance,
        )  # fmt: skip
    return run.fit("world", world, saying, steps.shown(steps.cache.view(cfg.memory + 2, cfg.memory)), cfg.say)


def train(cfg: Config, run: Run) -> System:
    """Describes the frames, tokenises them, and learns which token follows which, and which action led where."""
    steps, space = described(cfg.captions, run.data.labelled, run)
    view = run.data.unlabelled.cache.view()
    patch, code = cfg.patch or patch_for(view.size, 2), token_code(cfg.tokens, cfg.code_width, cfg.levels)
    with rng.isolated(run.seed, "tokens"):
        tokens = ConvTokenizer(view, code, patch, cfg.channels, colours=True, structure=cfg.structure)
    tokens = run.fit("tokens", tokens, tokenizing, run.data.unlabelled, cfg.tokenise)
    world = learnt(cfg, run, tokens, steps, space)
    return System(encoder=tokens, forward=world, inverse=reading(cfg, run))


def reading(cfg: Config, run: Run) -> Inverse:
    """Learns to read actions off frames: who plays the world is told whether it obeys.

    It is shown the frame before as well. By how much a step changes the speed is still too little to be seen, and its
    belief leaves it open.
    """
    steps = run.data.labelled
    with rng.isolated(run.seed, "inverse"):
        inverse = Inverse(steps.cache.view(3, 1), steps.cache.space, "both", "flatten")
    return run.fit("inverse", inverse, labelled, steps.shown(inverse.view), cfg.read)
