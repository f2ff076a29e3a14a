"""Codes: how a latent model uses its codebook, and what its codes look like, without any label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from retrodict.data.motion import Motion, join
from retrodict.data.schema import Episodes
from retrodict.label.infer import infer_episode
from retrodict.label.symptoms import Finding, Found
from retrodict.measure.inputs import Ints
from retrodict.measure.latents import code_usage, information, joint_codes
from retrodict.nn.quantize import COLLAPSED
from retrodict.roles import InverseModel, System

MOST = 20_000  # steps whose codes are looked at
USELESS = 0.95  # error of the next frame, as a share of that of the last one, above which nothing was learnt
STILL = 0.005  # of the frame's side: a smaller mean displacement is called none


def codes_of(system: System, source: Episodes, motions: Mapping[str, Motion]) -> Found:
    """Usage and meaning of the codes of a system that speaks codes; nothing for any other.

    `books` has one entry per position of code: `used` and `size`, `perplexity` (Shannon), and rows that describe each
    code. `camera_bits` is what the joint code says of the direction in which the view moves, of its `code_bits`.
    """
    inverse = system.inverse
    if inverse is None or not all(segment.kind == "code" for segment in inverse.space.segments) or not motions:
        return {}, []
    codes, seen = _inferred(inverse, source, motions)
    books = [_book(codes[:, i], segment.width, seen) for i, segment in enumerate(inverse.space.segments)]
    shared = information(joint_codes(codes), _ways(np.where(seen.camera[..., None], seen.pan, 0.0).mean(1)))
    bits = {"code_bits": shared.code_entropy, "camera_bits": max(0.0, shared.corrected)}
    found = []
    for number, book in enumerate(books):
        if book["perplexity"] < COLLAPSED:
            told = f"code {number} collapsed: {book['used']} of {book['size']} values in use, worth "
            told += f"{book['perplexity']:.1f}; train longer, or with fewer codes"
            found.append(Finding("collapse", told))
    if bits["camera_bits"] > 0.5 * bits["code_bits"] > 0:
        told = f"{bits['camera_bits']:.1f} of the {bits['code_bits']:.1f} bits of the codes tell how the view moves"
        found.append(Finding("camera codes", f"{told}: codes are camera motion"))
    alarms = system.about.get("alarms", {})
    if alarms and alarms["error"] > USELESS:
        told = f"next frames are foretold no better than by showing the last again (error {alarms['error']:.2f} of its)"
        found.append(Finding("unlearnt", f"{told}: these codes mean nothing yet; train longer"))
    elif alarms and alarms["cut"] < (alarms["error"] + 1) / 2:  # nearer to foretelling any frame than to none
        told = f"given an unrelated next frame, the latent foretells it nearly as well (error {alarms['cut']:.2f}, "
        found.append(Finding("leak", f"{told}{alarms['error']:.2f} otherwise): it stores pictures, not actions"))
    return {"steps": len(codes), "books": books, **bits, "alarms": alarms}, found


def _inferred(inverse: InverseModel, source: Episodes, motions: Mapping[str, Motion]) -> tuple[Ints, Motion]:
    """Codes of whole episodes until MOST steps are seen, and their motion."""
    codes: list[Ints] = []
    seen: list[Motion] = []
    for id, motion in motions.items():
        if sum(map(len, seen)) < MOST:
            params = infer_episode(inverse, source, id).params
            codes.append(np.stack([params[:, p].argmax(1).numpy() for _, _, p in inverse.space.slices()], 1))
            seen.append(motion)
    return np.concatenate(codes), join(seen)


def _book(codes: Ints, size: int, seen: Motion) -> dict[str, Any]:
    usage = code_usage(codes, size)
    rows = [
        {"code": value, "share": float(usage.counts[value] / len(codes)), "looks": _looks(seen, codes == value)}
        for value in np.argsort(-usage.counts)[: usage.used].tolist()
    ]
    return {"used": usage.used, "size": size, "perplexity": usage.perplexity, "rows": rows}


def _looks(seen: Motion, mine: np.ndarray) -> str:
    """What happens in these steps, on average."""
    if seen.still[mine].mean() > 0.5:
        return "nothing changes"
    view = seen.camera[mine].mean() >= 0.5
    down, right = seen.pan[mine].mean((0, 1))
    ways = (("down", down), ("up", -down), ("right", right), ("left", -right))
    way = [name for name, much in ways if view and much > STILL]
    if way:
        return f"the picture moves {' and '.join(way)}"
    return "the whole view changes" if view else f"{seen.moved[mine].mean():.0%} of the picture changes"


def _ways(pan: Float[np.ndarray, "n 2"]) -> Ints:
    """Where the view moves: 0 nowhere, 1..4 the larger of its two displacements."""
    axis = np.abs(pan).argmax(1)
    signed = np.take_along_axis(pan, axis[:, None], 1)[:, 0]
    return np.where(np.abs(signed) < STILL, 0, 1 + 2 * axis + (signed > 0)).astype(np.int64)
