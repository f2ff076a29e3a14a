"""From a run's folder to a game: what it speaks, the real world beside it, and the frame where play begins."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from retrodict.clip import Clip
from retrodict.data.durable import refuse_place
from retrodict.errors import Incompatible, NoFrames, UnusableInput
from retrodict.measure.obedience import idle
from retrodict.models.wordless import shared_columns
from retrodict.plan import self_inverse
from retrodict.rng import torch_rng
from retrodict.roles import Adapter, ForwardModel, InverseModel, System, View
from retrodict.run.checkpoint import load_system, system_hash
from retrodict.run.collect import UNSEEN, Origin, origin_of, recorded_in
from retrodict.serve.batch import ITSELF, Model, Speech
from retrodict.serve.beside import made
from retrodict.serve.game import Game
from retrodict.serve.messages import Picture
from retrodict.serve.pictures import cameras, fitted, frame_of, picture_of, shape_of
from retrodict.serve.save import Shelf
from retrodict.spaces import ActionSpace

if TYPE_CHECKING:
    from retrodict.envs.world import World

FPS = 10  # of a run that does not say its own
OWN = "sprites"  # the world that comes with the package
READING = 0.05  # seconds that a world may take to judge itself: they keep the next step waiting


@dataclass(frozen=True)
class Wish:
    """What the person asked for: a run (None: the package's own), a frame to begin with, a real world."""

    folder: Path | None
    out: Path | None = None
    episode: str | None = None  # D:EPISODE
    image: Path | None = None
    env: str | None = None


def prepared(wish: Wish) -> Game:
    """Loads what was asked for and returns it ready to be played.

    Raises:
        UnusableInput: there is no such run, episode or picture, or nothing to begin with.
        Incompatible: the run has no world, or one that needs more than pictures; the real world is another.
    """
    if wish.episode and wish.image:
        raise UnusableInput("give either --from or --image: play begins with one frame")
    folder = own_world() if wish.folder is None else wish.folder
    if wish.out is not None:
        _refuse_taken(wish.out)
    system = load_system(folder)
    speeches = speeches_of(system, str(folder))
    _seen(speeches[0].forward, str(folder))
    view = speeches[0].forward.view
    notes: list[str] = []
    told, frame = recorded_in(system), None
    if wish.episode:
        picture, told = first_frame(wish.episode, view)
        frame = _sized(picture, view, notes, wish.episode)
    elif wish.image:
        frame = _sized(opened(wish.image), view, notes, wish.image.name)
    env, options, level = _world(wish, told, notes)
    worlds, apart, fps = ThreadPoolExecutor(1, "worlds"), "", FPS
    if env is not None:
        apart, fps = worlds.submit(_tried, env, options, speeches, wish.env is not None).result()
    if env is None and frame is None:
        raise UnusableInput(
            f"{folder} does not say in which world it was recorded; give a frame to begin with (--from D:EPISODE or "
            "--image PNG), or name the world (--env)"
        )
    rate = round(view.rate) or fps
    name, system_name = folder.resolve().name, system_hash(folder)
    shelf = Shelf(
        wish.out or Path("runs/play") / name, view, rate, {s.name: s.forward.space for s in speeches},
        {"command": "play", "source": "dream", "run": name, "system": system_name, "env": env},
    )  # fmt: skip
    if shelf.taken():  # told before anything is played
        if wish.out is not None:
            raise UnusableInput(f"{wish.out} holds what another run dreamt; name another folder with --out")
        shelf = replace(shelf, out=shelf.out.with_name(f"{name}-{system_name[:12]}"))
    return Game(
        name, speeches, shelf, Model(), worlds, shelf.out / f"names-{system_name[:12]}.json", frame,
        env, options, level, tuple(notes), apart,
    )  # fmt: skip


def _refuse_taken(out: Path) -> None:
    """Raises UnusableInput where sessions cannot be saved, or would lie among somebody else's files."""
    refuse_place(out)
    others = [path.name for path in out.iterdir() if not _saved(path.name)] if out.exists() else []
    if others:
        raise UnusableInput(f"{out} holds other things, such as {min(others)}; name a folder of its own with --out")


def _saved(name: str) -> bool:
    return name.startswith((".", "names-")) or name in ("actions", "codes", "videos")


def own_world() -> Path:
    """Returns the folder of the world that comes with the package.

    Raises:
        UnusableInput: it is not there.
    """
    folder = Path(str(files("retrodict") / "worlds" / OWN))
    if not folder.is_dir():
        raise UnusableInput("this installation has no world of its own; name a run, as in: retrodict play runs/lapo")
    return folder


def speeches_of(system: System, name: str) -> tuple[Speech, ...]:
    """Returns the ways to steer a system's world: true actions first, then codes.

    Raises:
        Incompatible: it has no world, or one that no person can play.
    """
    forward, adapter = system.forward, system.adapter
    if forward is None:
        parts = ", ".join(sorted(system.parts()))
        raise Incompatible(f"{name} has no world to play, only {parts}; train one that has, such as lapo")
    if forward.view.proprio:
        raise Incompatible(
            f"the world of {name} is shown {forward.view.proprio} recorded numbers as well, and a page has pictures "
            "alone; practise in it with retrodict.dream, or let retrodict act plan in it"
        )
    cameras(forward.view)
    if adapter is None:
        return (_spoken("codes" if forward.space.latent else "actions", forward, system.inverse),)
    true = system.decoded()
    assert true.forward is not None, "a system with a world has it decoded, too"
    codes = _spoken("codes", forward, system.inverse, adapter)
    return _spoken("actions", true.forward, true.inverse), codes


@torch.no_grad()
def _seen(forward: ForwardModel, name: str) -> None:
    """Lets a world do nothing for a step, so that one which has no frames is refused before a page is opened.

    Raises:
        Incompatible: it imagines no frames.
    """
    view, nothing = forward.view, torch.zeros(1, 1, forward.space.width)
    black = Clip(frames=torch.zeros(1, 1, view.channels, *view.size, dtype=torch.uint8))
    try:
        dream, _ = forward.imagine(forward.observe(black), idle(forward.space, nothing), 1, torch_rng("play", "seen"))
        forward.decode(dream)
    except NoFrames as reason:
        raise Incompatible(f"the world of {name} has nothing to see: {reason}") from reason


def _spoken(name: str, forward: ForwardModel, inverse: InverseModel | None, adapter: Adapter | None = None) -> Speech:
    """A way to steer, judged by the run's inverse model; where there is none, by the world itself, if it is quick."""
    if inverse is not None:
        return Speech(name, forward, inverse, adapter)
    itself = self_inverse(forward)
    if itself is not None and _seconds(itself) > READING:
        itself = None
    return Speech(name, forward, itself, adapter, by=ITSELF)


@torch.no_grad()
def _seconds(inverse: InverseModel) -> float:
    """How long one reading takes: the best of three, as the machine may be busy."""
    view, found = inverse.view, list[float]()
    pair = Clip(frames=torch.zeros(1, view.frames, view.channels, *view.size, dtype=torch.uint8))
    for _ in range(3):
        began = time.perf_counter()
        inverse.infer(pair)
        found.append(time.perf_counter() - began)
    return min(found)


def first_frame(named: str, view: View) -> tuple[Picture, Origin]:
    """Returns the first frame of D:EPISODE as a picture, and where it was recorded.

    Raises:
        UnusableInput: it is not written so, or there is no such dataset or episode.
    """
    from retrodict.data.foreign import open_episode

    source, id = open_episode(named)
    if source.schema.channels != view.channels:
        raise Incompatible(f"{named} has {source.schema.channels} channels, the run's world sees {view.channels}")
    frame = next(iter(source.stream(id, 1)))[0, 0]
    shown = View(size=source.schema.size, channels=view.channels, cameras=view.cameras)
    return picture_of(frame, shown), origin_of(source, id)


def opened(image: Path) -> Picture:
    """Reads a picture file.

    Raises:
        UnusableInput: it is none, or a very large one.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(image) as picture:
            if picture.width * picture.height > 1 << 25:
                raise UnusableInput(f"{image} has {picture.width}x{picture.height} pixels; give a smaller picture")
            if picture.mode == "F" or picture.mode.startswith("I"):
                return _grey(np.asarray(picture), picture.mode)
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))  # as it is to be seen
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnusableInput(f"{image} cannot be read as a picture: {error}") from error


def _grey(values: np.ndarray, mode: str) -> Picture:
    """A picture of one number of two bytes a pixel; converted, all above 255 would be white."""
    if mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its pixels are of kind {mode}; give one of 8 or 16 bits a colour")
    return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, -1)


def _sized(picture: Picture, view: View, notes: list[str], name: str) -> UInt8[Tensor, "c h w"]:
    height, width = shape_of(view)
    if picture.shape[:2] != (height, width):
        was = f"{picture.shape[1]}x{picture.shape[0]}"
        notes.append(f"{Path(name).name} has {was} pixels: its middle is shown at {width}x{height}, as the world sees")
    return frame_of(fitted(picture, (height, width)), view)


def _world(wish: Wish, told: Origin, notes: list[str]) -> tuple[str | None, Mapping[str, Any], int | None]:
    """Returns the real world, its options and the first level; no level where the first frame is of none, which is
    noted where a world was named."""
    env = wish.env or told.env
    options = told.options if env == told.env else {}
    if wish.env and (wish.image or (wish.episode and wish.env != told.env)):
        made(wish.env, {}).close()  # a name that is none is told
        notes.append(f"No level of {wish.env} begins with this frame, so {wish.env} does not run beside.")
    if wish.image:
        return None, {}, None
    if wish.episode:
        return (env, options, told.level) if env == told.env and told.level is not None else (None, {}, None)
    return env, options, None if env is None else UNSEEN


def _tried(env: str, options: Mapping[str, Any], speeches: tuple[Speech, ...], named: bool) -> tuple[str, int]:
    """Makes the world once: returns why it cannot run along ("" where it can), and its rate in frames a second."""
    world = made(env, options)
    try:
        return _apart(world, speeches, speeches[0].forward.view, named), world.fps
    finally:
        world.close()


def _apart(world: World, speeches: tuple[Speech, ...], view: View, named: bool) -> str:
    """Says why a world gives first frames, but cannot run along; "" where it can.

    Raises:
        Incompatible: it shows something else than the run's world sees; or, where it was `named`, takes other actions.
    """
    if len(world.cameras) != len(view.cameras) or 3 * len(world.cameras) != view.channels:
        raise Incompatible(f"{world.name} shows {len(world.cameras)} cameras, the run's world sees {len(view.cameras)}")
    true = speeches[0].forward.space if speeches[0].name == "actions" else None
    if true is None:
        return "nothing says which true actions this run's codes are"
    if shared_columns(true, world.actions) is not None:
        return ""
    why = f"{world.name} takes {_columns(world.actions)}, the run {_columns(true)}"
    if named:
        raise Incompatible(why)
    return why


def _columns(space: ActionSpace) -> str:
    return ", ".join(space.columns[:8]) + (" …" if space.width > 8 else "")
