"""retrodict play: what can be played, where play begins, and one session from the command to the dataset."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from websockets.sync.client import connect

from retrodict import cli
from retrodict.check import recipes
from retrodict.clip import Clip
from retrodict.data.store import Store
from retrodict.errors import Incompatible, RetrodictError, UnusableInput
from retrodict.roles import View
from retrodict.run.checkpoint import load_system, save_system
from retrodict.run.collect import UNSEEN
from retrodict.serve import start
from retrodict.serve.beside import Beside
from retrodict.serve.game import Game
from retrodict.serve.guard import PROTOCOL
from retrodict.serve.messages import unpack
from retrodict.serve.pictures import effect, fitted, frame_of, part, picture_of
from retrodict.serve.player import Player
from retrodict.serve.start import Wish, opened, prepared


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording, a run with a world, and the same run without one."""
    folder = tmp_path_factory.mktemp("play")
    assert cli.main(["record", "sprites", "--episodes", "8", "--seed", "3", "--out", str(folder / "data")]) == 0
    line = ["train", "lapo", "--data", str(folder / "data"), "--out", str(folder / "lapo"), "--size", "micro"]
    assert cli.main(line) == 0
    save_system(folder / "blind" / "system", replace(load_system(folder / "lapo"), forward=None))
    return folder


def test_a_run_names_its_world_and_speaks_actions_and_codes(here: Path) -> None:
    game = prepared(Wish(here / "lapo"))
    assert load_system(here / "lapo").about["data"]["world"] == {"env": "sprites", "options": {}}
    assert (game.env, game.level, game.frame, game.apart) == ("sprites", UNSEEN, None, "")
    assert [speech.name for speech in game.speeches] == ["actions", "codes"]
    assert [speech.judge is not None for speech in game.speeches] == [True, True]
    assert game.shelf.out == Path("runs/play/lapo")
    assert game.shelf.fps == 10
    assert game.shelf.provenance["source"] == "dream"
    assert str(here) not in json.dumps(dict(game.shelf.provenance))


def test_what_other_weights_dreamt_lies_elsewhere(here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    game = prepared(Wish(here / "lapo"))
    assert game.shelf.out == Path("runs/play/lapo")
    other = replace(game.shelf, provenance={**game.shelf.provenance, "system": "another"})
    other.opened("actions").close()
    assert prepared(Wish(here / "lapo")).shelf.out == Path("runs/play/lapo"), "an empty dataset is nobody's"
    clip = Clip(frames=torch.zeros(1, 2, 3, 36, 36, dtype=torch.uint8), actions=torch.eye(5)[:1, None])
    with other.opened("actions") as store:
        store.append([clip], other.provenance)
    own = game.shelf.provenance["system"][:12]
    assert prepared(Wish(here / "lapo")).shelf.out == Path(f"runs/play/lapo-{own}")
    with pytest.raises(RetrodictError, match="what another run dreamt"):
        prepared(Wish(here / "lapo", out=Path("runs/play/lapo")))


PLAYABLE = re.compile(r"A run has a world\nwhen its recipe trains one that imagines frames: (.*?)\. ", re.DOTALL)


async def stepped(game: Game) -> list[str]:
    """Begins a game and takes one step, as the page does; the kinds of what it is told."""
    told = []

    async def hear(message: str | bytes) -> None:
        told.append((json.loads(message) if isinstance(message, str) else unpack(message)[0])["kind"])

    async def announce() -> None:
        pass

    player = Player(game, Beside(game), announce)
    player.send = hear
    await player.begin()
    await player.handle("step", {"press": 1})
    await player.close()
    return told


def test_the_documents_list_the_recipes_whose_worlds_can_be_played(here: Path) -> None:
    listed = PLAYABLE.search((Path(__file__).parents[2] / "docs/play.md").read_text())
    assert listed is not None
    playable, refused = set[str](), list[str]()
    for recipe in recipes():
        line = ["train", recipe, "--data", str(here / "data"), "--size", "micro", "--out", str(here / f"all-{recipe}")]
        assert cli.main([*line, "--json"]) == 0
        try:
            game = prepared(Wish(here / f"all-{recipe}"))
        except Incompatible as reason:
            refused.append(str(reason))
            continue
        told = asyncio.run(stepped(game))
        game.close()
        assert "error" not in told
        assert told.count("frame") == 2
        playable.add(recipe)
    assert sorted(playable) == re.findall(r"`(\w+)`", listed[1])
    assert all(re.search("no world to play|nothing to see", reason) for reason in refused)


def test_play_begins_with_an_episode_and_its_level(here: Path) -> None:
    with Store.open(here / "data") as store:
        first = store.read(store.ids[5]).frames[0, 0]  # type: ignore[index]
        id = store.ids[5]
    for named in (id, "5"):
        game = prepared(Wish(here / "lapo", episode=f"{here / 'data'}:{named}"))
        assert game.frame is not None
        assert torch.equal(game.frame, first)
        assert (game.env, game.level) == ("sprites", 3_000_005)
    other = prepared(Wish(here / "lapo", episode=f"{here / 'data'}:5", env="babyai"))
    assert (other.env, other.level) == (None, None), "another world has no such level"
    assert any("No level of babyai" in note for note in other.notes)


def test_play_begins_with_a_picture_which_is_cut_and_said_to_be(here: Path) -> None:
    exact = np.arange(36 * 36 * 3, dtype=np.uint8).reshape(36, 36, 3)
    Image.fromarray(exact).save(here / "exact.png")
    game = prepared(Wish(here / "lapo", image=here / "exact.png"))
    assert game.frame is not None
    assert np.array_equal(picture_of(game.frame, game.view), exact)
    assert (game.notes, game.env) == ((), None)
    beside = prepared(Wish(here / "lapo", image=here / "exact.png", env="sprites"))
    assert beside.env is None
    assert beside.notes == ("No level of sprites begins with this frame, so sprites does not run beside.",)
    wide = np.zeros((72, 144, 3), np.uint8)
    wide[:, 36:108] = 200
    Image.fromarray(wide).save(here / "wide.png")
    game = prepared(Wish(here / "lapo", image=here / "wide.png"))
    assert game.notes == ("wide.png has 144x72 pixels: its middle is shown at 36x36, as the world sees",)
    assert game.frame is not None
    assert bool((game.frame == 200).all())


def test_a_picture_that_a_camera_turned_is_shown_upright(here: Path) -> None:
    tall = np.zeros((72, 36, 3), np.uint8)
    tall[:36] = 200
    told = Image.Exif()
    told[0x0112] = 6  # stored on its side
    Image.fromarray(np.rot90(tall).copy()).save(here / "turned.png", exif=told)
    assert np.array_equal(opened(here / "turned.png"), tall)


def test_sixteen_bits_of_grey_are_shown_as_they_are(here: Path) -> None:
    deep = np.arange(36 * 36, dtype=np.uint16).reshape(36, 36) * 50
    Image.fromarray(deep).save(here / "deep.png")
    game = prepared(Wish(here / "lapo", image=here / "deep.png"))
    assert game.frame is not None
    assert np.array_equal(picture_of(game.frame, game.view), np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, -1))
    Image.fromarray(np.zeros((36, 36), np.float32)).save(here / "float.tiff")
    with pytest.raises(UnusableInput, match="8 or 16 bits"):
        prepared(Wish(here / "lapo", image=here / "float.tiff"))


def test_sessions_are_saved_in_a_folder_of_their_own(here: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableInput, match="file is none"):
        prepared(Wish(here / "lapo", out=tmp_path / "file"))
    with pytest.raises(UnusableInput, match="holds other things, such as data"):
        prepared(Wish(here / "lapo", out=here / "data"))
    saved = tmp_path / "saved"
    for name in ("actions", "codes", "videos"):
        (saved / name).mkdir(parents=True)
    (saved / "names-0123456789ab.json").write_text("{}")
    assert prepared(Wish(here / "lapo", out=saved)).shelf.out == saved
    assert prepared(Wish(here / "lapo", out=tmp_path / "new")).shelf.out == tmp_path / "new"


def test_what_cannot_be_played_is_one_message(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "no.png").write_bytes(b"\x89PNG no")
    run, data = str(here / "lapo"), str(here / "data")
    wrong = {
        (str(here / "blind"),): "has no world to play, only adapter, inverse, policy",
        (str(tmp_path / "nothing"),): "finished run",
        (run, "--from", "000001"): "as in data/test:000003",
        (run, "--from", f"{data}:zebra"): "no episode named 'zebra'",
        (run, "--from", f"{tmp_path}:0"): "no",
        (run, "--from", f"{data}:0", "--image", str(tmp_path / "no.png")): "either --from or --image",
        (run, "--image", str(tmp_path / "no.png")): "cannot be read as a picture",
        (run, "--image", str(tmp_path / "absent.png")): "cannot be read as a picture",
        (run, "--env", "spritez"): "Did you mean 'sprites'",
        (run, "--env", "arm"): "cameras",
        (run, "--image", str(here / "exact.png"), "--env", "spritez"): "Did you mean 'sprites'",
        (run, "--port", "70000"): "1..65535",
    }
    monkeypatch.setattr(start, "OWN", "no-such-world")
    wrong[()] = "name a run"
    for words, said in wrong.items():
        assert cli.main(["play", *words, "--no-browser"]) == 2, words
        error = capsys.readouterr().err
        assert said in error, (words, error)
        assert len(error.strip().splitlines()) == 1
    assert not Path("runs").exists() or not (Path("runs") / "play").exists()


def test_a_session_from_the_command_to_the_dataset(here: Path) -> None:
    out = here / "out"
    command = [
        sys.executable,
        "-m",
        "retrodict",
        "play",
        str(here / "lapo"),
        "--no-browser",
        "--json",
        "--threads",
        "1",
    ]
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
    host, _, token = told["url"].removeprefix("http://").partition("/#")
    own = {"origin": f"http://{host}", "subprotocols": [PROTOCOL, token], "compression": None}
    with connect(f"ws://{host}/socket", **own) as line:  # type: ignore[arg-type]
        for message in (
            {"do": "sit", "seat": ""}, {"do": "hold", "keys": ["0:2"], "press": 1}, {"do": "step", "press": 2},
            {"do": "save"},
        ):  # fmt: skip
            line.send(json.dumps(message))
        while not isinstance(message := line.recv(timeout=30), str) or '"saved"' not in message:
            pass
        process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=20)[1]
    assert (process.returncode, error) == (0, ""), "Ctrl-C is how it ends"
    assert cli.main(["data", "info", str(out / "actions")]) == 0
    with Store.open(out / "actions") as store:
        assert [store.read(id).steps for id in store.ids] == [2]
        assert store.commits[0].provenance["source"] == "dream"


def test_frames_of_several_cameras_lie_side_by_side_and_come_back() -> None:
    for each in (3, 1):
        view = View(size=(4, 6), channels=2 * each, cameras=("observation.a", "observation.b"))
        frame = torch.arange(2 * each * 24, dtype=torch.uint8).reshape(2 * each, 4, 6)
        picture = picture_of(frame, view)
        assert picture.shape == (4, 12, 3)
        assert picture[1, 7, 0] == frame[each, 1, 1], "the second camera's second column"
        assert torch.equal(frame_of(picture, view), frame)
    with pytest.raises(RetrodictError, match="no pictures"):
        start.cameras(View(channels=4, cameras=("observation.a", "observation.b")))


def test_what_a_key_changes_stands_out_and_is_cut_to() -> None:
    before = np.full((30, 30, 3), 100, np.uint8)
    after = before.copy()
    after[12:15, 18:21] = 250
    shown = effect(before, after)
    assert (shown[13, 19] == 250).all()
    assert (shown[0, 0] == 30).all()
    rows, columns = part(before, [before, after])
    assert (rows.stop - rows.start, columns.stop - columns.start) == (10, 10)
    assert rows.start <= 12 < 15 <= rows.stop
    assert columns.start <= 18 < 21 <= columns.stop
    assert part(before, [before]) == (slice(0, 30), slice(0, 30)), "nothing changed: all of it"
    assert fitted(before, (30, 30)) is before
