"""Worlds of tokens under a person's keys: pressed, rewound, branched, told an event, beside the real world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from test_player import Page, play

from retrodict import cli
from retrodict.models.wordless import shared_columns
from retrodict.run.collect import UNSEEN
from retrodict.serve.beside import made
from retrodict.serve.start import Wish, prepared
from retrodict.spaces import ActionSpace, Segment, categorical, continuous

WORDS = Segment("event", "text", ("0", "1"))
MOVE = categorical("move", ("left", "right", "paint"))
RUNS = {  # recipe: world, its options, settings; two keys and what they and pressing nothing are to the real world
    "genie": ("sprites", [], ["tokens.patch=18"], {"0:2": 2, "0:3": 3, "": 0}),
    "iris": ("sprites", [], ["patch=18"], {"0:2": 2, "0:3": 3, "": 0}),
    "genie_play": ("scroll", ["paint=true"], ["events=paint=a ring"], {"0:1": 1, "0:3": 3, "": 4}),
    "gaia1": ("road", [], ["patch=16", "captions=road"], {"0:0-": (-1, 0), "0:1+": (0, 1), "": (0, 0)}),
}


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A micro run of a recipe on a few recorded episodes, in a folder of its name."""
    folder, name = tmp_path_factory.mktemp("tokens"), request.param
    env, options, settings, _ = RUNS[name]
    line = ["record", env, "--episodes", "6", "--out", str(folder / "data")]
    assert cli.main([*line, *(word for option in options for word in ("--set", option))]) == 0
    line = ["train", name, "--data", str(folder / "data"), "--out", str(folder / name), "--size", "micro"]
    assert cli.main([*line, *(word for setting in settings for word in ("--set", setting))]) == 0
    return folder / name


def real(name: str, presses: Sequence[str]) -> np.ndarray:
    """The frame of the real world after these presses."""
    env, options, _, keys = RUNS[name]
    world = made(env, {key: value == "true" for key, _, value in (option.partition("=") for option in options)})
    frames, _ = world.reset(seed=[UNSEEN])
    for press in presses:
        frames, *_ = world.step(np.array([keys[press]], world.single_action_space.dtype))
    return frames[0]


def test_a_world_of_tokens_is_played_rewound_and_branched_beside_the_real_one(run: Path, tmp_path: Path) -> None:
    name, game = run.name, prepared(Wish(run, out=tmp_path))
    one, other, _ = RUNS[name][3]

    async def script(page: Page) -> None:
        welcome = page.last("welcome")
        assert (welcome["real"], welcome["why"]) == (RUNS[name][0], "")
        assert welcome["event"] is (name in ("genie_play", "gaia1"))
        assert {one, other} <= {key["id"] for key in page.last("keys")["keys"]}
        await page.press(one, other)
        await page.tell("step", press=3)
        shown, frame = dict(page.pictures), page.last("frame")
        assert (frame["at"], frame["length"]) == (3, 4)
        assert np.array_equal(shown["real"], real(name, [one, other, ""]))
        await page.tell("rewind", to=1)
        await page.press(one)
        assert [branch["length"] for branch in page.last("branches")["branches"]] == [4, 3]
        assert np.array_equal(page.pictures["real"], real(name, [one, one]))
        if welcome["event"]:
            await page.tell("event", text="snow")
            assert page.last("frame")["at"] == 3
            assert np.array_equal(page.pictures["real"], real(name, [one, one, ""])), "it hears no words"
        await page.tell("switch", branch=0)
        assert np.array_equal(page.pictures["dream"], shown["dream"])
        await page.press(other)
        assert page.last("frame")["at"] == 4
        if len(game.speeches) > 1:
            await page.tell("speak", speech="codes")
            await page.press("0:1")
            assert page.last("frame")["at"] == 5
        assert not page.count("error"), page.last("error")

    play(game, script)


@pytest.mark.parametrize(
    ("space", "columns"),
    [
        ((MOVE,), {0: 0, 1: 1, 2: 2}),
        ((WORDS, MOVE), {2: 0, 3: 1, 4: 2}),
        ((categorical("move", ("right", "left")), WORDS), {0: 1, 1: 0}),
        ((categorical("move", ("left", "up")),), None),
        ((categorical("turn", MOVE.values),), None),
        ((WORDS,), None),
        ((MOVE, continuous("drive", ("x",))), None),
    ],
)
def test_the_real_world_hears_what_is_no_word(space: tuple[Segment, ...], columns: dict[int, int] | None) -> None:
    assert shared_columns(ActionSpace(space), ActionSpace((MOVE,))) == columns
