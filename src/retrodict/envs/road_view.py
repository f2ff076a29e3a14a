"""How the road looks from behind the wheel, and how to read it: an exact renderer, and readers of pictures.

Lengths are half widths of the road. A point `z` ahead and `x` to the right of the car lies NEAR / z of the way down
from the horizon, and x * SPREAD * NEAR / z picture widths to the right of its middle. A row of pixels is one distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

NEAR, SPREAD, SKY = 2.0, 0.38, 0.34  # distance and half width of the road at the lowest row; share of the sky
PERIOD = 6.0  # from one dash to the next
FAR, BESIDE = 60.0, 0.8  # distances between which cars are drawn
BEND, PIXEL = 0.05, 1 / 32**2  # least swing of a bend that is called one; least share of the picture a car has to fill
WEATHERS = ("day", "night", "fog", "snow")
_WIDE = 0.32  # half of a car's width
TRAFFIC = ("an empty road", "a car ahead")
BENDS = ("the road bends left", "the road goes straight", "the road bends right")
WORDS = {"weather": WEATHERS, "traffic": TRAFFIC, "bend": BENDS}  # of the attributes that captions tell, in order
SAID = tuple(WORDS)

State = Mapping[str, np.ndarray]
Numbers = Float[np.ndarray, "n"]


@dataclass(frozen=True)
class Palette:
    """Colours of a weather (red, green, blue); `thick` is how fast things fade into `haze` with distance."""

    sky: tuple[int, int, int]
    haze: tuple[int, int, int]
    grass: tuple[int, int, int]
    road: tuple[int, int, int]
    line: tuple[int, int, int]
    car: tuple[int, int, int]
    thick: float


PALETTES = {
    "day": Palette(
        sky=(84, 150, 232), haze=(168, 200, 236), grass=(60, 140, 54), road=(100, 100, 106), line=(240, 240, 236),
        car=(206, 34, 40), thick=0.01,
    ),
    "night": Palette(
        sky=(8, 10, 30), haze=(14, 16, 40), grass=(12, 42, 24), road=(50, 50, 62), line=(188, 188, 160),
        car=(190, 24, 28), thick=0.03,
    ),
    "fog": Palette(
        sky=(150, 156, 160), haze=(166, 170, 172), grass=(92, 116, 88), road=(112, 112, 112), line=(214, 214, 210),
        car=(176, 62, 62), thick=0.05,
    ),
    "snow": Palette(
        sky=(198, 212, 230), haze=(220, 228, 238), grass=(232, 236, 242), road=(92, 96, 106), line=(150, 150, 72),
        car=(200, 44, 48), thick=0.015,
    ),
}  # fmt: skip


def bent(state: State, z: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """How far to the right the middle of the road lies z ahead, against going straight on: the integral of
    (z - u) curvature(place + u) over u in 0..z, where curvature is a sum of sine waves."""
    high, turn, phase = np.moveaxis(state["curve"][:, :, None], -1, 0)  # n waves 1
    angle, z = turn * state["place"][:, None, None] + phase, z[:, None]
    waves = high * (z * np.cos(angle) / turn - (np.sin(angle + turn * z) - np.sin(angle)) / turn**2)
    return np.asarray(waves.sum(1))


def curvature(state: State) -> Numbers:
    """Curvature of the road where the car is, positive to the right, in 1 / half width."""
    high, turn, phase = np.moveaxis(state["curve"], -1, 0)
    return np.asarray((high * np.sin(turn * state["place"][:, None] + phase)).sum(1))


def render(state: State, size: int = 32) -> UInt8[np.ndarray, "n h w 3"]:
    """Draws states: "place" along the road, "offset" of the car from its middle, "curve" (n waves 3), "weather", and
    "gaps", "lanes" and "there" of the cars ahead (n cars)."""
    n, top, colour = len(state["place"]), _horizon(size), _colours(state["weather"])
    z, half = _rows(size)
    frames = np.empty((n, size, size, 3), np.float32)
    height = ((np.arange(top) + 0.5) / top)[:, None] ** 2
    frames[:, :top] = (colour["sky"][:, None] + height * (colour["haze"] - colour["sky"])[:, None])[:, :, None]
    frames[:, top:] = colour["grass"][:, None, None]
    ground = frames[:, top:]
    middle = size / 2 + half * (bent(state, np.broadcast_to(z, (n, len(z)))) - state["offset"][:, None])  # n g
    dash = _stripes(state["place"][:, None] + z, size)
    _blend(ground, _cover(middle - half, middle + half, size), colour["road"])
    for side in (-1, 1):
        shown = _cover(middle + (side - 0.09) * half, middle + (side + 0.09) * half, size)
        _blend(ground, shown * (0.45 + 0.55 * dash[..., None]), colour["line"])
    _blend(ground, _cover(middle - 0.06 * half, middle + 0.06 * half, size) * dash[..., None], colour["line"])
    faded = (1 - np.exp(-colour["thick"] * z)).astype(np.float32)  # n g
    ground += faded[..., None, None] * (colour["haze"][:, None, None] - ground)
    for car in range(state["gaps"].shape[1]):
        _park(frames, state, car, colour)
    drawn: UInt8[np.ndarray, "n h w 3"] = np.rint(frames).astype(np.uint8)
    return drawn


def _park(frames: Float[np.ndarray, "n h w 3"], state: State, car: int, colour: dict[str, np.ndarray]) -> None:
    """Draws one car of every row that has it: a body, a dark window, and the shadow that it stands on."""
    size, order = frames.shape[1], np.argsort(-state["gaps"], 1)[:, car]  # the farthest first
    box, gap = _box(state, order, size)
    faded = (1 - np.exp(-0.5 * colour["thick"] * gap[:, None])).astype(np.float32)  # they shine through haze
    for low, high, ink in (
        (0.0, 1.0, colour["car"]),
        (0.62, 0.88, 0.4 * colour["sky"]),
        (-0.08, 0.12, 0.2 * colour["road"]),
    ):
        rows = _cover(box[:, 3] - high * (box[:, 3] - box[:, 2]), box[:, 3] - low * (box[:, 3] - box[:, 2]), size)
        shown = rows[:, :, None] * _cover(box[:, 0], box[:, 1], size)[:, None]
        _blend(frames, shown, ink + faded * (colour["haze"] - ink))


def _box(state: State, car: Int64[np.ndarray, "n"], size: int) -> tuple[Float[np.ndarray, "n 4"], Numbers]:
    """Left, right, upper and lower edge of a car of each row in pixels (of no width where it is not seen); its gap."""
    pick = np.arange(len(car)), car
    gap = np.clip(state["gaps"][pick], BESIDE, FAR)
    seen = state["there"][pick] & (state["gaps"][pick] == gap)
    half = SPREAD * size * NEAR / gap
    x = size / 2 + half * (bent(state, gap[:, None])[:, 0] - state["offset"] + state["lanes"][pick])
    y = _horizon(size) + (size - _horizon(size)) * NEAR / gap
    wide = _WIDE * half * seen
    return np.stack([x - wide, x + wide, y - 0.5 * half, y], 1), gap


def _fills(state: State, size: int) -> Numbers:
    """Share of the picture that cars fill."""
    total = np.zeros(len(state["place"]))
    for car in range(state["gaps"].shape[1]):
        box, _ = _box(state, np.full(len(total), car), size)
        total += _cover(box[:, 0], box[:, 1], size).sum(1) * _cover(box[:, 2], box[:, 3], size).sum(1)
    return total / size**2


def attributes(state: State, size: int = 32) -> dict[str, Int64[np.ndarray, "n"]]:
    """Numbers of the words that describe states: "weather", "traffic" and "bend"."""
    z = np.broadcast_to(_rows(size)[0][_ahead(size)], (len(state["place"]), len(_rows(size)[0][_ahead(size)])))
    traffic = (_fills(state, size) >= PIXEL).astype(np.int64)
    return {"weather": state["weather"], "traffic": traffic, "bend": _bends((bent(state, z) / z).mean(1))}


def captions(told: Mapping[str, Int64[np.ndarray, "n"]]) -> tuple[str, ...]:
    """Words of attributes, such as "night, a car ahead, the road bends left"."""
    rows = zip(told["weather"], told["traffic"], told["bend"], strict=True)
    return tuple(f"{WEATHERS[weather]}, {TRAFFIC[traffic]}, {BENDS[bend]}" for weather, traffic, bend in rows)


def caption(state: State, size: int = 32) -> tuple[str, ...]:
    """Describes states in words."""
    return captions(attributes(state, size))


def read_pose(frames: UInt8[np.ndarray, "n h w 3"]) -> dict[str, Numbers]:
    """Reads off pictures, also blurred ones, where the car is: "offset" from the middle of the road (beyond -1..1 it
    has left it), "place" along the road modulo PERIOD, and "swing" of the road ahead, positive to the right.

    The offset is that of the straight road whose lowest rows look most alike, put right by the swing; pixels of a car
    do not count. The place is where a sine wave fits best to the dashes of the three lines.
    """
    size, weather = frames.shape[1], read_attributes(frames, bends=False)["weather"]
    low = _low(size)
    seen = frames[:, low:].astype(np.float32)
    weigh = np.repeat(~_is_red(seen, weather)[..., None], 3, -1).reshape(len(frames), -1).astype(np.float32)
    seen = seen.reshape(len(frames), -1)
    straight = np.zeros(len(frames))
    for kind in np.unique(weather):
        mine, views = weather == kind, _bank(size, int(kind))
        far = weigh[mine] @ (views**2).T - 2 * (weigh * seen)[mine] @ views.T
        straight[mine] = _TRIED[far.argmin(1) // len(_PHASES)]
    rise, near = _swing(frames, weather, straight), NEAR * (1 + size // 5 / 2 / (size - _horizon(size)))
    offset = straight + rise * near**2
    return {"offset": offset, "place": _place(frames, weather, offset, rise), "swing": rise * _reach(size)}


def read_attributes(frames: UInt8[np.ndarray, "n h w 3"], bends: bool = True) -> dict[str, Int64[np.ndarray, "n"]]:
    """Reads off pictures the words that describe them: as `attributes`, but of what is seen alone."""
    sky = frames[:, : _horizon(frames.shape[1])].reshape(len(frames), -1, 3).mean(1)
    weather = ((sky[:, None] - _skies(frames.shape[1])) ** 2).sum(-1).argmin(1)
    told = {"weather": weather, "traffic": (_red(frames) >= _least_red(frames.shape[1])[weather]).astype(np.int64)}
    return told | {"bend": _bends(read_pose(frames)["swing"])} if bends else told


def _bends(swing: Numbers) -> Int64[np.ndarray, "n"]:
    return np.where(np.abs(swing) < BEND, 0, np.sign(swing)).astype(np.int64) + 1


def _along(
    frames: UInt8[np.ndarray, "n h w 3"], weather: Int64[np.ndarray, "n"], start: str, end: str
) -> Float[np.ndarray, "n g w"]:
    """How much of the way from one colour of the ground to another each pixel below the horizon lies."""
    size, colour = frames.shape[1], _colours(weather)
    left = np.exp(-colour["thick"] * _rows(size)[0])[..., None]  # n g 1
    axis = left * (colour[end] - colour[start])[:, None]
    origin = colour["haze"][:, None] + left * (colour[start] - colour["haze"])[:, None]
    from_start = frames[:, _horizon(size) :].astype(np.float32) - origin[:, :, None]
    return np.asarray(np.einsum("ngwc,ngc->ngw", from_start, axis) / (axis**2).sum(-1)[..., None])


def _swing(frames: UInt8[np.ndarray, "n h w 3"], weather: Int64[np.ndarray, "n"], offset: Numbers) -> Numbers:
    """The factor of z² in `bent`, from where the middle of what is not grass lies in some far rows."""
    size, rows = frames.shape[1], _ahead(frames.shape[1])
    z, half = (part[rows] for part in _rows(size))
    share = np.clip(_along(frames, weather, "grass", "road")[:, rows], 0, 1)
    share = np.where(share < 0.15, 0, share)
    middle = (share * (np.arange(size) + 0.5)).sum(-1) / np.maximum(share.sum(-1), 1e-6)
    lies = (middle - size / 2) / half + offset[:, None]
    weigh = share.sum(-1) > 0.3
    return np.asarray((weigh * lies / z).sum(1) / np.maximum(weigh.sum(1), 1)) / _reach(size)


def _place(
    frames: UInt8[np.ndarray, "n h w 3"], weather: Int64[np.ndarray, "n"], offset: Numbers, rise: Numbers
) -> Numbers:
    size = frames.shape[1]
    z, half = _rows(size)
    near = z < 1.5 * PERIOD
    z, half = z[near], half[near]
    middle = size / 2 + half * (rise[:, None] * z**2 - offset[:, None])
    bright = np.clip(_along(frames, weather, "road", "line")[:, near], 0, 1)
    bright = np.where(_is_red(frames[:, _horizon(size) :][:, near].astype(np.float32), weather), 0, bright)
    line = _cover(middle - 0.15 * half, middle + 0.15 * half, size)
    shown = (bright * line).sum(-1) / half  # n g
    turn = 2 * np.pi * z / PERIOD
    waves = np.linalg.pinv(np.stack([np.ones_like(z), np.cos(turn), np.sin(turn)], 1))
    _, sine, cosine = waves @ shown.T
    return np.asarray(np.arctan2(sine, cosine) * PERIOD / (2 * np.pi) % PERIOD)


def _redness(frames: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w"]:
    return np.asarray(frames[..., 0] - np.maximum(frames[..., 1], frames[..., 2]))


def _is_red(frames: Float[np.ndarray, "n h w 3"], weather: Int64[np.ndarray, "n"]) -> Bool[np.ndarray, "n h w"]:
    return _redness(frames) > 0.2 * _redness(_colours(weather)["car"][:, None, None])


def _red(frames: UInt8[np.ndarray, "n h w 3"]) -> Numbers:
    red = _redness(frames.astype(np.float32))
    return np.asarray(np.where(red < 10, 0, red).mean((1, 2)))


@lru_cache(maxsize=16)
def _least_red(size: int) -> Float[np.ndarray, "weather"]:
    """How red a picture is in each weather when a car fills PIXEL of it."""
    gap = NEAR * SPREAD * np.sqrt(0.5 * 2 * _WIDE / PIXEL)
    cars = {"gaps": np.full((4, 1), gap), "lanes": np.zeros((4, 1)), "there": np.ones((4, 1), bool)}
    return _red(render(_straight(np.zeros(4), np.zeros(4), np.arange(4)) | cars, size))


_TRIED, _PHASES = np.linspace(-1.5, 1.5, 151), np.arange(6) * PERIOD / 6


@lru_cache(maxsize=16)
def _bank(size: int, weather: int) -> Float[np.ndarray, "k p"]:
    """The lowest rows of straight empty roads, for every offset and place that is tried."""
    offset, place = (part.ravel() for part in np.meshgrid(_TRIED, _PHASES, indexing="ij"))
    views = render(_straight(place, offset, np.full(len(offset), weather)), size)
    return views[:, _low(size) :].reshape(len(offset), -1).astype(np.float32)


def _straight(place: Numbers, offset: Numbers, weather: Int64[np.ndarray, "n"]) -> dict[str, np.ndarray]:
    """States on a straight empty road."""
    n = len(place)
    return {
        "place": place, "offset": offset, "curve": np.tile([0.0, 1.0, 0.0], (n, 1, 1)), "weather": weather,
        "gaps": np.zeros((n, 0)), "lanes": np.zeros((n, 0)), "there": np.zeros((n, 0), bool),
    }  # fmt: skip


@lru_cache(maxsize=16)
def _skies(size: int) -> Float[np.ndarray, "weather 3"]:
    colour = _colours(np.arange(len(WEATHERS)))
    height = float(np.mean(((np.arange(_horizon(size)) + 0.5) / _horizon(size)) ** 2))
    return np.asarray(colour["sky"] + height * (colour["haze"] - colour["sky"]))


def _colours(weather: Int64[np.ndarray, "n"]) -> dict[str, np.ndarray]:
    """Colours (n 3) and `thick` (n 1) of each row's weather."""
    names = Palette.__dataclass_fields__
    palettes = [PALETTES[name] for name in WEATHERS]
    return {name: np.array([np.atleast_1d(getattr(p, name)) for p in palettes], np.float32)[weather] for name in names}


def _horizon(size: int) -> int:
    return round(SKY * size)


def _low(size: int) -> int:
    """First of the rows that the offset is read from."""
    return size - size // 5


def _ahead(size: int) -> slice:
    """Rows below the horizon that a bend is read from."""
    return slice(size // 24, size // 7)


def _reach(size: int) -> float:
    """Mean distance of those rows."""
    return float(_rows(size)[0][_ahead(size)].mean())


@lru_cache(maxsize=16)
def _rows(size: int) -> tuple[Numbers, Numbers]:
    """Distance, and half width of the road in pixels, of every row below the horizon."""
    ground = size - _horizon(size)
    near = (np.arange(ground) + 1) / ground
    return NEAR / near, SPREAD * size * near


def _stripes(along: Float[np.ndarray, "n g"], size: int) -> Float[np.ndarray, "n g"]:
    """1 on a dash and 0 between dashes, with soft ends, and a half where rows are too far apart to show them."""
    z, _ = _rows(size)
    apart = z**2 / (NEAR * (size - _horizon(size)))
    clear = np.clip(PERIOD / (4 * apart), 0, 1)
    return (0.5 + 0.5 * clear * np.clip(2.5 * np.sin(2 * np.pi * along / PERIOD), -1, 1)).astype(np.float32)


def _cover(low: Float[np.ndarray, "*n"], high: Float[np.ndarray, "*n"], size: int) -> Float[np.ndarray, "*n w"]:
    """Share of each of `size` pixels that lies between two edges."""
    pixel = np.arange(size, dtype=np.float32)
    low, high = (edge.astype(np.float32)[..., None] for edge in (low, high))
    return np.asarray(np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, 1))


def _blend(frames: np.ndarray, shown: np.ndarray, colour: Float[np.ndarray, "n 3"]) -> None:
    """Paints one colour a row over frames, in place, as opaque as `shown` says for each pixel."""
    frames += shown[..., None] * (colour[:, None, None] - frames)
