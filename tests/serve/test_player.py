"""What a page tells becomes moments, and what happens is shown: steps, branches, brush, names, faults, saving."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy

from retrodict.clip import MISSING, RECORDED
from retrodict.data.guarded import decoder
from retrodict.data.store import Store
from retrodict.envs.sprites import Sprites
from retrodict.errors import RetrodictError, UnusableInput
from retrodict.run.collect import origin_of
from retrodict.serve import batch
from retrodict.serve import save as saving
from retrodict.serve.batch import Look, Speech
from retrodict.serve.beside import Beside
from retrodict.serve.game import Game
from retrodict.serve.messages import MOST_NAME, MOST_TEXT, Picture, pack, parse, unpack
from retrodict.serve.player import Player
from retrodict.serve.session import EDIT, KEY, START
from retrodict.serve.start import speeches_of
from retrodict.spaces import ActionSpace, categorical

STAY, UP, DOWN, LEFT, RIGHT = (f"0:{i}" for i in range(5))


class Page:
    """A player, and everything that the page was told."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.player = Player(game, Beside(game), self.announce)
        self.player.send = self.hear
        self.heard: list[dict[str, Any]] = []
        self.pictures: dict[str, Picture] = {}
        self.presses = 0

    async def announce(self) -> None:
        await self.player.show_keys()

    async def hear(self, message: str | bytes) -> None:
        header, pictures = (json.loads(message), []) if isinstance(message, str) else unpack(message)
        self.heard.append(header)
        if header["kind"] == "frame":
            self.pictures = dict(zip(header["panes"], pictures, strict=True))

    async def tell(self, command: str, **fields: Any) -> None:
        told, given = parse(json.dumps({"do": command, **fields}))
        await self.player.handle(told, given)

    async def press(self, *keys: str) -> None:
        for key in keys:
            self.presses += 1
            await self.tell("hold", keys=[key], press=self.presses)
            await self.tell("hold", keys=[], press=self.presses)

    def last(self, kind: str) -> dict[str, Any]:
        return next(message for message in reversed(self.heard) if message["kind"] == kind)

    def count(self, kind: str) -> int:
        return sum(message["kind"] == kind for message in self.heard)

    @property
    def cell(self) -> list[int]:
        """Where the dreamt agent is."""
        return toy.agent(torch.from_numpy(self.pictures["dream"].copy()).permute(2, 0, 1)[None])[0].tolist()


def play(game: Game, script: Callable[[Page], Awaitable[None]]) -> Page:
    async def whole() -> Page:
        page = Page(game)
        await page.player.begin()
        await script(page)
        await page.player.close()
        game.close()
        return page

    return asyncio.run(whole())


def test_a_world_that_cannot_run_along_still_gives_the_first_frame(tmp_path: Path) -> None:
    other = ActionSpace((categorical("turn", ("a", "b", "c", "d", "e")),))

    async def script(page: Page) -> None:
        assert page.count("error") == 0
        assert page.last("welcome")["why"] == "it takes other actions"
        await page.press(RIGHT)
        assert page.last("frame")["at"] == 1
        assert set(page.pictures) == {"dream"}

    play(toy.game(tmp_path, space=other, apart="it takes other actions"), script)


def test_a_key_is_a_step_of_the_dream_and_of_the_real_world_and_is_read_back(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        assert page.last("welcome")["speeches"] == ["actions", "codes"]
        begin = page.cell
        moves = [DOWN, LEFT, LEFT, UP, STAY, RIGHT]
        for i, key in enumerate(moves, 1):
            await page.press(key)
            frame, judged = page.last("frame"), page.last("judged")
            assert (frame["at"], frame["length"], frame["press"], frame["by"]) == (i, i + 1, i, KEY)
            assert frame["differs"] == {"real": 0.0}, "this dream is exact"
            assert np.array_equal(page.pictures["dream"], page.pictures["real"])
            assert (judged["right"], judged["share"], judged["of"]) == (True, 1.0, i)
            assert judged["by"] == "the run's own inverse model"
            assert judged["pressed"] == judged["read"] == frame["led"] == toy.ACTIONS[int(key[2:])]
        want = np.clip(np.array(begin) + toy.MOVES[[int(key[2:]) for key in moves]].sum(0), 0, 8)
        assert page.cell == want.tolist()

    play(toy.game(tmp_path), script)


def test_obedience_sees_a_world_that_does_not_obey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = toy.Walk.moves
    monkeypatch.setattr(toy.Walk, "moves", staticmethod(lambda actions: (right(actions) * 0) + 2))  # always down

    async def script(page: Page) -> None:
        await page.press(DOWN, UP, LEFT, DOWN)
        assert [m["right"] for m in page.heard if m["kind"] == "judged"] == [True, False, False, True]
        assert page.last("judged")["share"] == 0.5
        assert page.heard[-1]["read"] == "down"

    play(toy.game(tmp_path), script)


def test_a_step_of_which_nothing_could_be_read_is_told_and_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts: list[bool | None] = [None, True, None, False]

    def read(looks: Sequence[Look]) -> None:
        for look in looks:
            look.right, look.believed = verdicts.pop(0), look.action

    monkeypatch.setattr(batch, "judge", read)

    async def script(page: Page) -> None:
        await page.press(DOWN, DOWN, UP, UP)
        told = [(m["right"], m["share"], m["of"]) for m in page.heard if m["kind"] == "judged"]
        assert told == [(None, None, 0), (True, 1.0, 1), (None, 1.0, 1), (False, 0.5, 2)]

    play(toy.game(tmp_path), script)


def test_rewind_branch_switch_and_compare(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        await page.press(RIGHT, DOWN, DOWN)
        there, end = page.pictures["dream"], page.cell
        await page.tell("rewind", to=1)
        assert (page.last("frame")["at"], page.last("frame")["length"]) == (1, 4)
        await page.press(LEFT)
        branches = page.last("branches")
        assert [(b["parent"], b["fork"], b["length"]) for b in branches["branches"]] == [(None, 0, 4), (0, 2, 3)]
        assert page.last("frame")["differs"]["real"] == 0.0, "the real world was played again up to the fork"
        await page.tell("compare", branch=0)
        assert page.last("frame")["panes"] == ["dream", "real", "other"]
        assert 0 < page.last("frame")["differs"]["other"] < 0.1
        await page.tell("switch", branch=0)
        assert np.array_equal(page.pictures["dream"], there)
        assert page.last("frame")["differs"]["other"] == 0.0
        await page.press(UP)
        assert page.cell == [end[0] - 1, end[1]]
        assert (page.last("frame")["branch"], page.last("frame")["at"]) == (0, 4), "the end of a branch goes on"
        await page.tell("compare", branch=-1)
        assert page.last("frame")["panes"] == ["dream", "real"]

    play(toy.game(tmp_path), script)


def test_an_old_moment_is_seen_again_where_its_state_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrodict.serve.session.MOST_STATES", 1)

    async def script(page: Page) -> None:
        await page.press(DOWN, DOWN, RIGHT)
        cell = page.cell
        await page.tell("rewind", to=2)
        await page.press(RIGHT)
        assert page.cell == cell

    play(toy.game(tmp_path), script)


def test_codes_are_keys_of_their_own_and_the_adapter_moves_the_real_world(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        await page.tell("speak", speech="codes")
        keys = page.last("keys")
        assert [key["name"] for key in keys["keys"]] == [f"code {i}" for i in range(5)]
        changed = dict(zip(page.last("effects")["keys"], page.last("effects")["changed"], strict=True))
        assert changed["0:4"] == 0.0, "code 4 stays"
        await page.press("0:1", "0:3")  # down, right
        assert page.last("frame")["differs"] == {"real": 0.0}
        assert page.last("judged")["share"] == 1.0
        await page.tell("name", key="0:1", name="down")
        named = page.last("keys")["keys"][1]
        assert (named["name"], named["place"], named["buttons"][0]) == ("down", "down", "ArrowDown")
        await page.tell("rewind", to=1)
        await page.press("0:2")
        assert page.last("frame")["differs"] == {"real": 0.0}, "played again, through the adapter"

    played = toy.game(tmp_path)
    play(played, script)
    again = toy.game(tmp_path)
    assert again.names == {"actions": {}, "codes": {"0:1": "down"}}, "names are kept for later sessions"


def test_a_painted_frame_is_gone_on_from(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        await page.press(DOWN)
        painted = page.pictures["dream"].copy()
        painted[(painted == toy.RED).all(2)] = toy.GROUND
        painted[4 * toy.CELL : 5 * toy.CELL, 4 * toy.CELL : 5 * toy.CELL] = toy.RED
        await page.player.paint(painted.tobytes())
        assert np.array_equal(page.pictures["dream"], painted)
        assert page.last("frame")["by"] == EDIT
        await page.press(RIGHT)
        assert page.cell == [4, 5]
        assert page.last("frame")["differs"]["real"] > 0, "nobody painted on the real world"
        assert page.last("judged")["of"] == 2, "an edit is no step to judge"
        await page.player.paint(b"too short")
        assert "3888 bytes; got 9" in page.last("error")["text"]

    play(toy.game(tmp_path), script)


def test_real_time_steps_by_itself_and_a_tap_between_two_steps_counts(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        begin = page.cell
        pace = asyncio.create_task(page.player.pace())
        await page.tell("run", on=True)
        await page.press(DOWN)
        while page.last("frame")["at"] < 4:
            await asyncio.sleep(0.01)
        await page.tell("run", on=False)
        pace.cancel()
        assert page.cell == [min(8, begin[0] + 1), begin[1]], "one tap is one step, and nothing held stays"
        assert page.last("running") == {"kind": "running", "on": False, "waits": False}
        at = page.last("frame")["at"]
        await asyncio.sleep(0.15)
        assert page.last("frame")["at"] == at

    played = toy.game(tmp_path)
    play(played, script)


def test_a_world_without_rest_says_that_time_waits(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        await page.tell("speak", speech="codes")
        await page.tell("run", on=True)
        assert not page.count("error"), page.last("error")
        assert page.last("running") == {"kind": "running", "on": True, "waits": True}

    play(toy.game(tmp_path), script)


def test_a_name_that_is_taken_back_leaves_the_first_one_and_an_empty_event_is_no_step(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        await page.press(DOWN)
        await page.tell("rewind", to=0)
        await page.press(RIGHT)
        assert [branch["name"] for branch in page.last("branches")["branches"]] == ["start 1", "branch 2"]
        await page.tell("compare", branch=0)
        assert page.last("frame")["other"] == 0
        await page.tell("compare", branch=-1)
        assert page.last("frame")["other"] == -1
        await page.tell("hold", keys=[RIGHT], press=9)
        at = page.last("frame")["at"]
        await page.tell("event", text="")
        assert "type what" in page.last("error")["text"]
        assert page.last("frame")["at"] == at

    play(toy.game(tmp_path), script)


def test_what_another_run_dreamt_is_not_added_to(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        await page.press(DOWN)
        await page.tell("save")

    for system, count in (("one", 0), ("one", 0), ("two", 1)):
        played, refused = toy.game(tmp_path), 0
        played.shelf = replace(played.shelf, provenance={**played.shelf.provenance, "system": system})

        async def counted(page: Page) -> None:
            nonlocal refused
            await script(page)
            refused = page.count("error")
            assert not refused or "what another run dreamt" in page.last("error")["text"]

        play(played, counted)
        assert refused == count
    with Store.open(tmp_path / "actions") as store:
        assert {commit.provenance["system"] for commit in store.commits} == {"one"}


def test_a_model_that_raises_is_told_once_and_the_session_goes_on(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        await page.press(DOWN, DOWN)
        cell, pace = page.cell, asyncio.create_task(page.player.pace())
        await page.tell("run", on=True)
        walk.fail = "weights are gone"
        while not page.count("error"):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.25)
        assert page.count("error") == 1, "the clock stops at the first fault"
        assert page.last("error")["text"] == "the model failed with ValueError: weights are gone"
        assert page.last("running")["on"] is False
        pace.cancel()
        walk.fail = ""
        length = page.last("frame")["length"]
        await page.tell("rewind", to=2)
        assert page.cell == cell
        await page.press(RIGHT)
        assert page.cell == [cell[0], cell[1] + 1]
        assert len(page.player.session.branches[0]) >= length, "nothing of before is gone"
        assert page.last("frame")["differs"] == {"real": 0.0}, "the real world did not run ahead"

    played = toy.game(tmp_path)
    walk = toy.walk(played)
    play(played, script)


def test_without_an_inverse_the_meter_is_read_by_the_world_itself(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        assert page.last("welcome")["judge"] is True
        await page.press(DOWN)
        assert page.last("judged")["by"] == "the world itself, by Bayes"
        assert page.last("judged")["of"] == 1

    speeches = speeches_of(toy.System(forward=toy.Walk(), adapter=toy.Shift()), "toy")
    play(replace(toy.game(tmp_path), speeches=speeches), script)


def test_a_world_that_takes_words_is_read_as_well_but_for_the_words(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        assert page.last("welcome")["judge"] is True
        await page.press(DOWN)
        await page.press(RIGHT)
        assert (page.last("judged")["pressed"], page.last("judged")["read"]) == ("move right", "move right")
        await page.tell("event", text="snow")
        told = page.last("judged")
        assert (told["pressed"], told["read"]) == ("move stay, event snow", "move stay")
        assert (told["share"], told["of"], told["by"]) == (1.0, 3, "the world itself, by Bayes")

    world, frame = toy.Weather(), torch.zeros(3, 36, 36, dtype=torch.uint8)
    frame[:, 16:20, 16:20] = torch.tensor(toy.RED, dtype=torch.uint8)[:, None, None]
    played = toy.game(tmp_path, env=None, frame=frame)
    played.speeches = speeches_of(toy.System(forward=world), "toy")
    played.shelf = replace(played.shelf, spaces={"actions": world.space})
    play(played, script)


def test_an_event_is_typed_into_a_world_that_takes_text(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        assert page.last("welcome")["event"] is True
        assert page.last("welcome")["judge"] is False
        await page.press(DOWN)
        assert page.pictures["dream"][0, 0].tolist() != [255, 255, 255]
        assert page.last("frame")["led"] == "move down"  # no event, and none is told
        await page.tell("event", text="snow")
        assert page.pictures["dream"][0, 0].tolist() == [255, 255, 255]
        assert page.last("frame")["led"] == "move stay, event snow"
        await page.tell("event", text="a long story")
        assert "does not fit" in page.last("error")["text"]
        await page.tell("event", text="")
        assert "type what" in page.last("error")["text"]
        await page.tell("save")

    frame = torch.zeros(3, 36, 36, dtype=torch.uint8)
    world = toy.Weather()
    played = toy.game(tmp_path, env=None, frame=frame)
    played.speeches = (Speech("actions", world),)
    played.shelf = replace(played.shelf, spaces={"actions": world.space})
    play(played, script)
    with Store.open(tmp_path / "actions") as store:
        actions = store.read(store.ids[0]).actions
        assert actions is not None
        assert [world.space.describe(action)["event"] for action in actions[0]] == ["", "snow"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (OverflowError("simulator"), "the real world failed with OverflowError: simulator"),
        (UnusableInput("no single player in this state"), "no single player in this state"),
    ],
)
def test_a_real_world_that_fails_stays_behind_and_the_dream_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, why: str
) -> None:
    async def script(page: Page) -> None:
        await page.press(DOWN)
        monkeypatch.setattr(Sprites, "_advance", broken)
        await page.press(LEFT, LEFT)
        assert page.count("real") == 1
        assert page.last("real") == {"kind": "real", "name": None, "why": why}
        assert page.last("frame")["panes"] == ["dream"]
        assert page.last("frame")["at"] == 3
        assert page.count("error") == 0

    def broken(self: Sprites, actions: np.ndarray, live: np.ndarray) -> None:
        raise fault

    play(toy.game(tmp_path), script)


def test_a_session_that_could_not_begin_may_start_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Sprites, mask: np.ndarray) -> None:
        raise OverflowError("simulator")

    async def script(page: Page) -> None:
        assert "OverflowError" in page.last("error")["text"]
        await page.press(DOWN)
        await page.tell("save")
        await page.player.paint(b"")
        assert page.last("error")["text"].startswith("there is no frame yet")
        assert page.count("frame") == 0
        monkeypatch.setattr(Sprites, "_start", right)
        await page.tell("start", level=-1)
        await page.press(DOWN)
        assert page.last("frame")["at"] == 1

    right = Sprites._start
    monkeypatch.setattr(Sprites, "_start", broken)
    play(toy.game(tmp_path), script)


def test_a_new_level_is_another_start(tmp_path: Path) -> None:
    async def script(page: Page) -> None:
        first = page.pictures["dream"]
        await page.press(DOWN)
        await page.tell("start", level=-1)
        assert page.last("frame")["by"] == START
        assert not np.array_equal(page.pictures["dream"], first)
        assert len(page.last("branches")["branches"]) == 2
        await page.press(UP)
        assert page.last("frame")["differs"] == {"real": 0.0}
        await page.tell("rewind", to=0)
        await page.tell("switch", branch=0)
        await page.press(UP)
        assert page.last("frame")["differs"] == {"real": 0.0}, "the real world goes back to the level of the branch"

    play(toy.game(tmp_path), script)


def test_without_a_real_world_the_page_says_why(tmp_path: Path) -> None:
    frame = torch.zeros(3, 36, 36, dtype=torch.uint8)

    async def script(page: Page) -> None:
        assert page.last("welcome")["real"] is None
        assert "no real world" in page.last("welcome")["why"]
        assert page.last("frame")["panes"] == ["dream"]
        await page.press(UP)
        await page.tell("start", level=-1)
        assert page.last("frame")["at"] == 0

    play(toy.game(tmp_path, env=None, frame=frame), script)


def test_saving_keeps_every_step_once_as_a_dataset_whose_source_is_a_dream(tmp_path: Path) -> None:
    out = tmp_path / "out"

    async def script(page: Page) -> None:
        await page.press(DOWN, RIGHT, DOWN)
        await page.tell("save")
        assert page.last("saved") == {
            "kind": "saved", "episodes": 1, "steps": 3, "videos": 1, "folder": str(out),
        }  # fmt: skip
        await page.press(RIGHT)
        await page.player.paint(page.pictures["dream"].tobytes())
        await page.tell("rewind", to=1)
        await page.press(LEFT, LEFT)
        await page.tell("speak", speech="codes")
        await page.press("0:3")
        await page.tell("name", key="0:3", name="east")
        await page.tell("save")
        assert page.last("saved")["steps"] == 5, "two more of the first branch, two and one of the second"
        await page.tell("save")
        assert page.last("saved")["episodes"] == 0

    play(toy.game(out), script)
    with Store.open(out / "actions") as actions, Store.open(out / "codes") as codes:
        clips = [actions.read(id) for id in actions.ids]
        assert [clip.steps for clip in clips] == [3, 2, 2]
        moves = [[toy.ACTIONS[int(a.argmax())] for a in clip.actions[0]] for clip in clips]  # type: ignore[union-attr]
        assert moves == [["down", "right", "down"], ["right", "stay"], ["left", "left"]]
        assert [clip.source[0].tolist() for clip in clips] == [  # type: ignore[union-attr]
            [RECORDED] * 3, [RECORDED, MISSING], [RECORDED] * 2,
        ]  # fmt: skip
        first, second, third = (clip.frames[0] for clip in clips)  # type: ignore[index]
        assert torch.equal(first[-1], second[0])
        assert torch.equal(first[1], third[0]), "a branch begins at the frame where it left"
        assert [commit.provenance["source"] for commit in actions.commits] == ["dream"] * 3
        assert actions.commits[2].provenance["branch"] == "branch 2"
        assert codes.schema.space == toy.CODES
        assert codes.lengths == {codes.ids[0]: 2}
        assert codes.commits[0].provenance["names"] == {"codes": {"0:3": "east"}}
        assert origin_of(actions).env is None, "a dream is no recording of a world"
    videos = sorted((out / "videos").iterdir())
    assert [len(next(iter(decoder.frames(path)))[0]) for path in videos] == [6, 5]


def test_videos_that_a_failed_save_owes_are_written_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, pictures: object, fps: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def script(page: Page) -> None:
        await page.press(DOWN, LEFT)
        with monkeypatch.context() as disk:
            disk.setattr(saving.film, "write", full)
            await page.tell("save")
        assert "No space left" in page.last("error")["text"]
        await page.tell("save")
        assert (page.last("saved")["episodes"], page.last("saved")["videos"]) == (0, 1)
        await page.tell("save")
        assert page.last("saved")["videos"] == 0

    play(toy.game(tmp_path), script)
    (path,) = (tmp_path / "videos").iterdir()
    assert len(next(iter(decoder.frames(path)))[0]) == 3


def test_two_players_save_at_once_into_one_dataset(tmp_path: Path) -> None:
    async def both(game: Game) -> None:
        pages = [Page(game), Page(game)]
        for page in pages:
            await page.player.begin()
            await page.press(DOWN, UP, DOWN)
        await asyncio.gather(*[page.tell("save") for page in pages])
        assert [page.last("saved")["steps"] for page in pages] == [3, 3]
        for page in pages:
            await page.player.close()
        game.close()

    asyncio.run(both(toy.game(tmp_path)))
    with Store.open(tmp_path / "actions") as store:
        assert len(store.ids) == 2


def test_a_long_branch_becomes_episodes_that_share_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "EPISODE", 4)

    async def script(page: Page) -> None:
        await page.press(*[DOWN, RIGHT, UP] * 3)
        await page.tell("save")

    play(toy.game(tmp_path), script)
    with Store.open(tmp_path / "actions") as store:
        clips = [store.read(id) for id in store.ids]
        assert [clip.steps for clip in clips] == [4, 4, 1]
        assert torch.equal(clips[0].frames[0, -1], clips[1].frames[0, 0])  # type: ignore[index]


def test_a_folder_of_another_run_is_refused_and_the_session_stays(tmp_path: Path) -> None:
    from retrodict.data.schema import Schema

    Store.create(tmp_path / "actions", Schema(toy.CODES, {}, 10)).close()

    async def script(page: Page) -> None:
        await page.press(DOWN)
        await page.tell("save")
        assert "another run" in page.last("error")["text"]
        await page.press(UP)
        assert page.last("frame")["at"] == 2

    play(toy.game(tmp_path), script)


@pytest.mark.parametrize(
    ("command", "fields", "words"),
    [
        ("hold", {"keys": ["9:9"], "press": 1}, "no key"),
        ("rewind", {"to": 7}, "moments 0..0"),
        ("switch", {"branch": 3}, "no branch"),
        ("compare", {"branch": 3}, "no branch"),
        ("name", {"key": "9:9", "name": "x"}, "no key"),
        ("speak", {"speech": "french"}, "actions and codes"),
        ("event", {"text": "rain"}, "no typed events"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(
    tmp_path: Path, command: str, fields: dict[str, Any], words: str
) -> None:
    async def script(page: Page) -> None:
        await page.tell(command, **fields)
        assert words in page.last("error")["text"]
        assert page.player.held == []
        assert page.player.session.at == 0
        assert page.game.names == {"actions": {}, "codes": {}}

    play(toy.game(tmp_path), script)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "[]", "3", "null", '"do"', "{}", '{"do": 3}', '{"do": "fly"}', '{"do": "step"}',
        '{"do": "run", "on": 1}', '{"do": "step", "press": true}', '{"do": "step", "press": 1.5}',
        '{"do": "step", "press": 1e99}', '{"do": "step", "press": -2}', '{"do": "step", "press": NaN}',
        '{"do": "step", "press": 99999999999999999999}', '{"do": "step", "press": 1, "press": "x"}',
        '{"do": "save", "path": "/"}', '{"do": "event", "text": "\\ud800"}', "[" * (MOST_TEXT - 1),
        " " * (MOST_TEXT + 1),
        '{"do": "hold", "keys": ["a", 3], "press": 1}', '{"do": "hold", "keys": "a", "press": 1}',
        json.dumps({"do": "hold", "keys": ["a"] * 17, "press": 1}),
        json.dumps({"do": "name", "key": "0", "name": "x" * (MOST_NAME + 1)}),
        json.dumps({"do": "name", "key": "0", "name": "a\nb"}),
        json.dumps({"do": "name", "key": "0", "name": "a\u202eb"}),
    ],
)  # fmt: skip
def test_messages_that_are_not_ours_are_refused(text: str) -> None:
    with pytest.raises(RetrodictError):
        parse(text)


def test_pictures_are_packed_and_unpacked() -> None:
    pictures = [np.arange(24, dtype=np.uint8).reshape(2, 4, 3), np.full((1, 1, 3), 7, np.uint8)]
    header, back = unpack(pack({"kind": "frame", "at": 3}, pictures))
    assert header == {"kind": "frame", "at": 3}
    assert all(np.array_equal(a, b) for a, b in zip(pictures, back, strict=True))


def test_names_of_another_kind_of_file_are_refused(tmp_path: Path) -> None:
    for content in ("x", "[]", '{"codes": {"0:1": 3}}', '{"codes": 3}'):
        (tmp_path / "names.json").write_text(content)
        with pytest.raises(UnusableInput, match=r"names\.json"):
            toy.game(tmp_path)
