"""Results as a demo would produce them: full, minimal, and hostile; numbers invented, shapes real."""

from __future__ import annotations

from typing import Any

import numpy as np

from retrodict.report.pictures import ClipPicture

HOSTILE = "<script>alert('1')</script>\"'&\x1b[31m\u202e</svg></style>\udcff"
ACTIONS = ["left", "right", "forward", "pickup", "drop", "toggle"]


def points(xs: list[int], values: list[float | None], wide: float, seeds: int) -> list[dict[str, Any]]:
    return [
        {
            "x": x,
            "value": v,
            "low": None if v is None else v - wide,
            "high": None if v is None else min(v + wide, 1.0),
            "seeds": seeds,
        }
        for x, v in zip(xs, values, strict=True)
    ]


def full() -> dict[str, Any]:
    budgets = [16, 64, 256, 1024]
    return {
        "title": "Actions from video, from 64 labels",
        "world": "babyai",
        "summary": "From 20,000 unlabelled frames and 64 labels the inverse model names 86 % of the actions on unseen "
        "levels, and a policy cloned from those labels reaches the ball in 83 of 100 episodes.",
        "seeds": [0],
        "labels": 64,
        "generated": "2026-03-02 10:14",
        "versions": {"retrodict": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"},
        "command": "retrodict demo --world babyai --labels 64 --seed 0 --out runs/demo",
        "headline": [
            {
                "name": "Label accuracy from 64 labels",
                "value": 0.86,
                "low": 0.84,
                "high": 0.88,
                "baseline": "majority 0.50, state-only 0.77",
                "seeds": 1,
            },
            {
                "name": "Success of the cloned policy",
                "value": 0.83,
                "low": 0.745,
                "high": 0.891,
                "baseline": "cloning the 64 alone 0.31",
                "seeds": 1,
            },
            {
                "name": "Calibration error",
                "value": 0.031,
                "low": None,
                "high": None,
                "baseline": "uncalibrated 0.09",
                "seeds": 1,
            },
            {"name": "Bits recovered by LAPO", "value": None, "note": "LAPO stopped at its time share", "seeds": 1},
        ],
        "label_curve": {
            "unit": "labels",
            "series": [
                {"name": "inverse model", "points": points([64], [0.86], 0.02, 1)},
                {"name": "state-only", "points": points([64], [0.77], 0.02, 1)},
                {"name": "majority", "points": points([64], [0.50], 0.0, 1)},
            ],
            "committed": [
                {"name": "inverse model", "points": points(budgets, [0.69, 0.85, 0.93, 0.97], 0.025, 3)},
                {"name": "state-only", "points": points(budgets, [0.62, 0.76, 0.79, 0.81], 0.02, 3)},
                {"name": "majority", "points": points(budgets, [0.50, 0.50, 0.50, 0.50], 0.004, 3)},
            ],
        },
        "confusion": {
            "classes": ACTIONS,
            "matrix": [
                [812, 31, 44, 2, 0, 3],
                [28, 790, 61, 4, 1, 0],
                [20, 33, 1921, 6, 2, 4],
                [3, 1, 12, 40, 4, 6],
                [0, 2, 9, 6, 22, 5],
                [1, 4, 11, 3, 6, 31],
            ],
        },
        "reliability": {
            "bins": [
                {"confidence": c, "accuracy": a, "count": n}
                for c, a, n in [
                    (0.25, None, 0),
                    (0.35, 0.31, 22),
                    (0.45, 0.47, 60),
                    (0.55, 0.52, 120),
                    (0.65, 0.66, 200),
                    (0.75, 0.71, 340),
                    (0.85, 0.86, 700),
                    (0.96, 0.97, 2400),
                ]
            ],
            "error": 0.031,
        },
        "risk_coverage": {
            "points": [
                {"coverage": c, "accuracy": a}
                for c, a in [
                    (0.1, 0.995),
                    (0.2, 0.992),
                    (0.3, 0.99),
                    (0.4, 0.985),
                    (0.5, 0.98),
                    (0.6, 0.97),
                    (0.7, 0.955),
                    (0.8, 0.935),
                    (0.9, 0.905),
                    (1.0, 0.86),
                ]
            ]
        },
        "codes": {
            "codes": [str(i) for i in range(8)],
            "actions": ACTIONS,
            "matrix": [
                [400, 20, 31, 0, 0, 1],
                [12, 510, 40, 1, 2, 0],
                [30, 22, 900, 3, 3, 2],
                [210, 190, 260, 9, 6, 8],
                [3, 1, 640, 2, 1, 0],
                [160, 20, 30, 22, 18, 31],
                [77, 80, 84, 4, 5, 3],
                [0, 0, 0, 0, 0, 0],
            ],
            "bits": 0.71,
            "of": 1.78,
            "note": "The view turns with the agent, so a code that repaints the view explains the next frame without "
            "naming the action.",
        },
        "policies": [
            {
                "name": "random",
                "success": 0.06,
                "low": 0.03,
                "high": 0.12,
                "episodes": 100,
                "seeds": 1,
                "kind": "baseline",
            },
            {
                "name": "best blind policy",
                "success": 0.11,
                "low": 0.06,
                "high": 0.19,
                "episodes": 100,
                "seeds": 1,
                "kind": "baseline",
            },
            {
                "name": "cloning from the 64 alone",
                "success": 0.31,
                "low": 0.23,
                "high": 0.41,
                "episodes": 100,
                "seeds": 1,
                "kind": "baseline",
            },
            {
                "name": "inverse model, then cloning",
                "success": 0.83,
                "low": 0.745,
                "high": 0.891,
                "episodes": 100,
                "seeds": 1,
                "kind": "route",
            },
            {
                "name": "LAPO, decoded with 64 labels",
                "success": 0.46,
                "low": 0.37,
                "high": 0.56,
                "episodes": 100,
                "seeds": 1,
                "kind": "route",
            },
            {
                "name": "cloning from all labels",
                "success": 0.97,
                "low": 0.92,
                "high": 0.99,
                "episodes": 100,
                "seeds": 1,
                "kind": "bound",
            },
            {
                "name": "the bot",
                "success": 1.0,
                "low": 0.963,
                "high": 1.0,
                "episodes": 100,
                "seeds": 1,
                "kind": "bound",
            },
        ],
        "policies_by_labels": {
            "unit": "labels",
            "series": [
                {"name": "inverse model, then cloning", "points": points(budgets, [0.55, 0.83, 0.93, 0.96], 0.05, 3)},
                {"name": "LAPO", "points": points(budgets, [0.22, 0.46, 0.58, 0.6], 0.06, 3)},
                {"name": "cloning from the labels alone", "points": points(budgets, [0.12, 0.31, 0.6, 0.9], 0.06, 3)},
            ],
        },
        "stages": [
            {"name": "record", "seconds": 21.0, "memory_mb": 800, "note": "20,000 frames, 20 % random actions"},
            {"name": "inverse model", "seconds": 58.3, "memory_mb": 1120, "note": ""},
            {"name": "label", "seconds": 6.2, "memory_mb": 640, "note": ""},
            {"name": "clone", "seconds": 49.0, "memory_mb": 990, "note": ""},
            {"name": "LAPO", "seconds": 92.5, "memory_mb": 1310, "note": "stopped at its time share after 900 steps"},
            {"name": "measure", "seconds": 31.0, "memory_mb": None, "note": ""},
        ],
        "commands": [
            {"say": "label your own videos", "line": "retrodict label VIDEOS --labels labels.csv --out labelled"},
            {
                "say": "train again on what it wrote",
                "line": "retrodict train vpt --data labelled --out runs/mine --size tiny",
            },
            {"say": "run and score the policy", "line": "retrodict act runs/mine --env babyai"},
        ],
        "notes": [
            "LAPO stopped at its time share after 900 steps.",
            "The bot's levels and the test levels share no seed.",
        ],
        "committed_from": "results/vpt/babyai_label_accuracy_64.json",
    }


def minimal() -> dict[str, Any]:
    return {"title": "Nothing yet", "summary": "No stage has finished."}


def hostile() -> dict[str, Any]:
    """The full result with every string replaced by markup, control characters and an undecodable byte."""

    def poison(value: Any) -> Any:
        if isinstance(value, str):
            return HOSTILE
        if isinstance(value, dict):
            return {key: poison(item) for key, item in value.items()}
        return [poison(item) for item in value] if isinstance(value, list) else value

    return {key: poison(value) for key, value in full().items()}


def clip(seed: int = 0, title: str = "unseen level 7", steps: int = 11) -> ClipPicture:
    """A small world of tiles with a walking square; one step abstained, one recorded, some wrong."""
    rng = np.random.default_rng(seed)
    frames = np.full((steps + 1, 64, 64, 3), 32, np.uint8)
    frames[:, ::8] = frames[:, :, ::8] = 64
    row, column = 3, 3
    truth = []
    for t in range(steps + 1):
        frames[t, 8:16, 48:56] = (214, 60, 60)
        frames[t, 8 * row + 1 : 8 * row + 8, 8 * column + 1 : 8 * column + 8] = (90, 190, 240)
        name, (down, right) = [("left", (0, -1)), ("right", (0, 1)), ("forward", (-1, 0))][rng.integers(3)]
        row, column = (row + down) % 8, (column + right) % 8
        truth.append(name)
    truth = truth[:steps]
    predicted = ["left" if i % 5 == 3 else name for i, name in enumerate(truth)]
    source = ["abstained" if i % 7 == 5 else "recorded" if i == 1 else "predicted" for i in range(steps)]
    confidence = [0.34 if kind == "abstained" else float(rng.uniform(0.6, 1.0)) for kind in source]
    return ClipPicture(frames, truth, predicted, confidence, source, title)
