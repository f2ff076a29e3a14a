"""Formats of others: each one's convention is converted at its own door, and what is broken is refused by name.

A square moves by its actions, and its place is their sum: where frames and actions go together, they agree exactly.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from data_samples import moving, write
from test_foreign import CAMERA, DATA, change_info, nulled, rewrite, v21, v30

from retrodict.clip import MISSING, RECORDED, Clip
from retrodict.data import vpt
from retrodict.data.importers import KINDS, Imported, Intake, find_kind, import_data
from retrodict.data.lerobot import encode_png
from retrodict.data.schema import Schema
from retrodict.data.store import Store
from retrodict.errors import UnknownName, UnusableInput
from retrodict.rng import numpy_rng
from retrodict.segments import categorical, continuous
from retrodict.spaces import UNKNOWN, ActionSpace

SIDE = 32
MOVES = np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)])  # dx, dy in squares of four pixels


def square(length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames (t, h, w, 3), and t choices of a move: choice t leads from frame t on, as most formats have it."""
    rng, place, frames, chosen = numpy_rng(seed, "square"), np.array([4, 4]), [], []
    for _ in range(length):
        frame = np.full((SIDE, SIDE, 3), 40 + 20 * (seed % 2), np.uint8)
        x, y = 4 * place
        frame[y : y + 4, x : x + 4] = 220
        frames.append(frame)
        move = int(rng.integers(5))
        while not ((place + MOVES[move] >= 0) & (place + MOVES[move] < SIDE // 4)).all():
            move = int(rng.integers(5))
        place = place + MOVES[move]
        chosen.append(move)
    return np.stack(frames), np.array(chosen)


def places(frames: torch.Tensor) -> np.ndarray:
    """Where the square is in each frame, in its own width, however lossy the frames."""
    bright = frames[0, :, :3].float().mean(1).unflatten(2, (-1, 4)).unflatten(1, (-1, 4)).mean((2, 4))
    best = bright.flatten(1).argmax(1).numpy()
    return np.stack([best % (SIDE // 4), best // (SIDE // 4)], 1)


def assert_moved_by(clip: Clip, moves: np.ndarray) -> None:
    """The actions of every step are those that its two frames show."""
    assert clip.frames is not None
    assert clip.source is not None
    assert (clip.source == RECORDED).all()
    assert np.array_equal(np.diff(places(clip.frames), axis=0), moves)


def imported(source: Path, **intake: object) -> Imported:
    return import_data(source, source.parent / "D", Intake(**intake))  # type: ignore[arg-type]


def refusals(done: Imported) -> dict[str, str]:
    return {fate.file: fate.reason for fate in done.fates if fate.what == "refused"}


# --- VPT


def tick(move: int = 0, **more: object) -> dict[str, object]:
    dx, dy = (40 * MOVES[move]).tolist()
    mouse = {"x": 0.0, "y": 0.0, "dx": float(dx), "dy": float(dy), "buttons": [], "newButtons": []} | more.pop(
        "mouse", {}
    )  # type: ignore[operator]
    return {
        "mouse": mouse,
        "keyboard": {"keys": [], "newKeys": [], "chars": ""},
        "hotbar": 0,
        "isGuiOpen": False,
    } | more


def recorded(folder: Path, name: str, ticks: list[dict[str, object]], frames: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    write(folder / f"{name}.mp4", frames, 20)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(t) + "\n" for t in ticks))


def test_vpt_line_t_was_held_during_frame_t(tmp_path: Path) -> None:
    frames, chosen = square(30, 0)
    recorded(tmp_path / "v", "player", [tick(m) for m in chosen], frames)
    done = imported(tmp_path / "v")
    assert (done.kind, done.inferred, done.store.schema.fps) == ("vpt", False, 20)
    clip = done.store.read("player.mp4")
    assert clip.actions is not None
    turns = clip.actions[0, :, 20:].numpy()
    assert np.allclose(turns / 6, MOVES[chosen[:-1]])  # 40 counts are 6 degrees
    assert_moved_by(clip, np.rint(turns / 6).astype(int))
    halved = import_data(tmp_path / "v", tmp_path / "E", Intake(fps=10)).store.read("player.mp4")
    assert halved.actions is not None
    assert halved.frames is not None
    assert np.allclose(halved.actions[0, :, 20:].numpy() / 6, np.diff(places(halved.frames), axis=0))  # changes add up


def test_vpt_buttons_follow_the_published_rules(tmp_path: Path) -> None:
    lines = [
        tick(mouse={"buttons": [0], "newButtons": [0]}),  # stuck from the start: no attack ...
        tick(
            mouse={"buttons": [0]},
            keyboard={"keys": ["key.keyboard.w", "key.keyboard.left.control", "key.keyboard.f3"]},
        ),
        tick(mouse={"buttons": [0, 1], "newButtons": [0, 1]}),  # ... until it is pressed again
        tick(mouse={"buttons": [2]}, hotbar=3),  # the wheel chose slot 4
        tick(keyboard={"keys": ["key.keyboard.2", "key.keyboard.space"]}, hotbar=3),
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    read = vpt.read_actions(path, "a.mp4")
    held = [str(read.space.describe(torch.tensor(row.vector))["buttons"]) for row in read.rows]
    assert held == ["none", "forward+sprint", "attack+use", "hotbar.4", "jump+hotbar.2"]
    assert read.space.width == 22


def test_vpt_takes_video_without_lines_and_more_or_fewer_lines(tmp_path: Path) -> None:
    frames, chosen = square(12, 0)
    for name, lines in (("exact", 11), ("long", 14), ("short", 5)):
        recorded(tmp_path / "v", name, [tick(m) for m in [*chosen, 0, 0]][:lines], frames)
    write(tmp_path / "v/unlabelled.mp4", frames, 20)
    done = imported(tmp_path / "v")
    counts = {id: int(done.store.read(id, frames=False).known.sum()) for id in done.store.ids}
    assert counts == {"exact.mp4": 11, "long.mp4": 11, "short.mp4": 5, "unlabelled.mp4": 0}
    notes = {fate.file: fate.reason for fate in done.fates}
    assert "14 lines for 12 frames" in notes["long.mp4"]
    assert "5 lines for 12 frames" in notes["short.mp4"]
    assert "no jsonl" in notes["unlabelled.mp4"]
    assert notes["exact.mp4"] == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "JSONDecodeError"),
        ('{"mouse": {}}', "KeyError"),
        ("[]", "TypeError"),
        ("7", "TypeError"),
        (json.dumps(tick(keyboard={"keys": None})), "TypeError"),
        (json.dumps(tick(mouse={"dx": "far"})), "TypeError"),
        (json.dumps(tick(mouse={"dx": True})), "moved by True"),
        (json.dumps(tick(mouse={"dy": float("nan")})), "moved by nan"),
        (json.dumps(tick(mouse={"dx": 10**400})), "OverflowError"),
        (json.dumps(tick(mouse={"buttons": [[]]})), "TypeError"),
        (json.dumps(tick(hotbar="one")), "TypeError"),
        ("[" * 50_000, "RecursionError"),
    ],
)
def test_vpt_broken_lines_are_refused_by_file_and_line(tmp_path: Path, line: str, words: str) -> None:
    frames, chosen = square(6, 0)
    recorded(tmp_path / "v", "good", [tick(m) for m in chosen], frames)
    recorded(tmp_path / "v", "bad", [tick(m) for m in chosen], frames)
    text = (tmp_path / "v/bad.jsonl").read_text().splitlines()
    (tmp_path / "v/bad.jsonl").write_text("\n".join([*text[:3], line, *text[4:]]))
    done = imported(tmp_path / "v")
    assert done.store.ids == ("good.mp4",)
    assert set(refusals(done)) == {"bad.mp4"}
    assert "bad.jsonl, line 4" in refusals(done)["bad.mp4"]
    assert words in refusals(done)["bad.mp4"]


# --- LAPO's npz


def chunk(path: Path, mark: int, lengths: tuple[int, ...] = (9, 14, 7, 12)) -> list[tuple[np.ndarray, np.ndarray]]:
    """A chunk of whole episodes; `done` marks their last frame (mark = -1) or the first of the next one (0)."""
    parts = [square(n, seed) for seed, n in enumerate(lengths)]
    done = np.zeros(sum(lengths), bool)
    ends = np.cumsum(lengths)
    done[ends[:-1] + mark] = True
    done[-1] = mark == -1
    path.parent.mkdir(exist_ok=True)
    obs, taken = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    np.savez(path, obs=obs, ta=taken, done=done, ep_returns=np.zeros(len(obs)))
    return parts


@pytest.mark.parametrize("mark", [-1, 0], ids=["last", "first"])
def test_lapo_chunks_are_cut_at_done_whichever_frame_it_marks(tmp_path: Path, mark: int) -> None:
    parts = chunk(tmp_path / "v/0.npz", mark)
    done = imported(tmp_path / "v", fps=15)
    assert (done.kind, done.inferred) == ("npz", True)
    assert done.store.schema.space == ActionSpace((categorical("action", [str(i) for i in range(5)]),))
    assert list(done.store.lengths.values()) == [9, 14, 7, 12]
    for id, (frames, chosen) in zip(done.store.ids, parts, strict=True):
        clip = done.store.read(id)
        assert clip.frames is not None
        assert np.array_equal(clip.frames[0].permute(0, 2, 3, 1).numpy(), frames)
        assert_moved_by(clip, MOVES[done.store.schema.space.index(clip.actions[0]).numpy()])  # type: ignore[index]
        assert np.array_equal(done.store.schema.space.index(clip.actions[0]).numpy(), chosen[:-1])  # type: ignore[index]
    again = imported(tmp_path / "v", fps=15)
    assert {fate.what for fate in again.fates} == {"kept"}


def test_lapo_marks_that_pictures_do_not_place_cost_their_frame(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    done = np.zeros(20, bool)
    done[9] = True
    np.savez(tmp_path / "v/0.npz", obs=np.zeros((20, 8, 8, 3), np.uint8), ta=np.zeros(20, int), done=done)
    assert list(imported(tmp_path / "v", fps=15).store.lengths.values()) == [9, 10]


def npz(path: Path, **arrays: object) -> None:
    base = {"obs": np.zeros((6, 8, 8, 3), np.uint8), "ta": np.zeros(6, int), "done": np.zeros(6, bool)}
    np.savez(path, **{name: value for name, value in (base | arrays).items() if value is not None})  # type: ignore[arg-type]


def forged(path: Path, shape: str, payload: bytes) -> None:
    """An archive whose obs claims a shape, with a payload that is none of it."""
    npz(path, obs=None)
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("obs.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + payload)


def damaged(path: Path) -> None:
    np.savez_compressed(
        path,
        obs=numpy_rng(0).integers(0, 255, (6, 8, 8, 3)).astype(np.uint8),
        ta=np.zeros(6, int),
        done=np.zeros(6, bool),
    )
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(data)


def twice(path: Path) -> None:
    npz(path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("obs.npy", archive.read("ta.npy"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.write_bytes(b""), "cannot be read"),
        (lambda p: p.write_bytes(b"\x80\x04\x95pickle"), "cannot be read"),
        (lambda p: (npz(p), p.write_bytes(p.read_bytes()[:-300])), "cannot be read"),
        (lambda p: npz(p, ta=None), "expected one obs.npy, ta.npy and done.npy"),
        (lambda p: npz(p, ta=np.array([{}] * 6, dtype=object)), "claims object"),
        (lambda p: npz(p, obs=np.zeros((6, 8, 8, 3))), "obs is float64"),
        (lambda p: npz(p, obs=np.zeros((6, 8, 8, 4), np.uint8)), "obs is uint8"),
        (lambda p: npz(p, obs=np.zeros((0, 8, 8, 3), np.uint8)), "obs is uint8"),
        (lambda p: npz(p, ta=np.zeros(5, int)), "an action and a flag for each of 6 frames"),
        (lambda p: npz(p, done=np.zeros((6, 2), bool)), "an action and a flag for each of 6 frames"),
        (lambda p: npz(p, ta=np.array([0, 1, np.nan, 0, 0, 0])), "not finite"),
        (lambda p: npz(p, ta=np.array(["l"] * 6)), "claims <U1"),
        (lambda p: forged(p, "(99999999, 64, 64, 3)", bytes(100)), "claims uint8"),
        (lambda p: forged(p, "(-6, 8, 8, 3)", bytes(1152)), "cannot be read"),
        (lambda p: forged(p, "__import__('os')", bytes(9)), "cannot be read"),
        (lambda p: forged(p, "(6, 8, \x1f8", bytes(9)), "cannot be read"),
        (damaged, "cannot be read"),
        (twice, "expected one obs.npy"),
    ],
)  # fmt: skip
def test_lapo_broken_and_hostile_chunks_are_refused_by_name(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    chunk(tmp_path / "v/good.npz", -1)
    make(tmp_path / "v/bad.npz")
    done = imported(tmp_path / "v", fps=15)
    assert len(done.store.ids) == 4
    assert set(refusals(done)) == {"bad.npz"}
    assert words in refusals(done)["bad.npz"]


# --- HDF5

h5py = pytest.importorskip("h5py")


def minari(folder: Path, discrete: bool = True) -> None:
    """T + 1 observations (of a dict with a mission) and T actions, rewards, ends."""
    folder.mkdir()
    told = {"type": "Discrete", "dtype": "int64", "start": 0, "n": 7}
    (folder / "metadata.json").write_text(json.dumps({"data_format": "hdf5", "action_space": json.dumps(told)}))
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        for number, length in ((0, 9), (2, 12), (10, 7)):
            frames, chosen = square(length, number)
            group = file.create_group(f"episode_{number}")
            group["observations/image"] = frames
            group["observations/direction"] = np.arange(length)
            group["observations/mission"] = [f"mission {number}"] * length
            group["actions"] = chosen[:-1] if discrete else MOVES[chosen[:-1]].astype(np.float32)
            group["rewards"] = np.arange(length - 1) / 10
            group["terminations"] = np.arange(length - 1) == length - 2
            group["truncations"] = np.zeros(length - 1, bool)
            group["infos"] = [b"{}"] * (length - 1)


@pytest.mark.parametrize("discrete", [True, False])
def test_minari_has_one_observation_more_than_actions(tmp_path: Path, discrete: bool) -> None:
    minari(tmp_path / "v", discrete)
    done = imported(tmp_path / "v", fps=10)
    assert (done.kind, refusals(done)) == ("hdf5", {})
    assert done.store.ids == tuple(f"main_data.hdf5:episode_{i}" for i in (0, 2, 10))
    segment = done.store.schema.space.segments[0]
    assert segment.width == (7 if discrete else 2)  # as the metadata says, though five of them occur
    assert list(done.store.schema.cameras) == ["observation.image"]
    assert done.store.schema.proprio == ("direction.0",)
    for number, id in zip((0, 2, 10), done.store.ids, strict=True):
        clip = done.store.read(id)
        assert clip.actions is not None
        assert clip.text == (f"mission {number}",)
        assert_moved_by(clip, MOVES[clip.actions[0].argmax(-1).numpy()] if discrete else clip.actions[0].numpy())
        assert clip.rewards is not None
        assert clip.ends is not None
        assert np.allclose(clip.rewards[0].numpy(), np.arange(clip.steps) / 10)
        assert clip.ends[0].tolist() == [0.0] * (clip.steps - 1) + [1.0]


def robomimic(file: object) -> None:
    for number in range(2):
        frames, chosen = square(8 + number, number)
        group = file.create_group(f"data/demo_{number}")  # type: ignore[attr-defined]
        group["obs/agentview_image"], group["obs/wrist_image"] = frames, frames[:, :, :, :1]
        group["actions"], group["states"] = MOVES[chosen].astype(np.float64), np.zeros((8 + number, 3))


def laom(file: object) -> None:
    for number in range(2):
        frames, chosen = square(8 + number, number)
        group = file.create_group(str(number))  # type: ignore[attr-defined]
        group["obs"], group["actions"], group["states"] = (
            frames.transpose(0, 3, 1, 2),
            MOVES[chosen] * 1.0,
            np.zeros((8 + number, 3)),
        )


def aloha(file: object) -> None:
    frames, chosen = square(8, 0)
    file["observations/images/top"], file["observations/qpos"] = frames, np.zeros((8, 14))  # type: ignore[index]
    file["action"] = MOVES[chosen].astype(np.float32)  # type: ignore[index]


@pytest.mark.parametrize(
    ("make", "cameras", "proprio"),
    [
        (robomimic, {"observation.agentview_image": (32, 32, 3), "observation.wrist_image": (32, 32, 1)}, 3),
        (laom, {"observation.image": (32, 32, 3)}, 3),
        (aloha, {"observation.images.top": (32, 32, 3)}, 14),
    ],
)
def test_groups_of_as_many_actions_as_observations_drop_the_last(
    tmp_path: Path, make: Callable[[object], None], cameras: dict[str, tuple[int, int, int]], proprio: int
) -> None:
    (tmp_path / "v").mkdir()
    with h5py.File(tmp_path / "v/a.h5", "w") as file:
        make(file)
    done = imported(tmp_path / "v/a.h5", fps=10)
    assert (dict(done.store.schema.cameras), len(done.store.schema.proprio)) == (cameras, proprio)
    assert [done.store.lengths[id] for id in done.store.ids] == ([8] if make is aloha else [8, 9])
    for id in done.store.ids:
        clip = done.store.read(id)
        assert clip.actions is not None
        assert_moved_by(clip, clip.actions[0].numpy())


def h5(path: Path, **members: object) -> None:
    base = {"obs": np.zeros((6, 8, 8, 3), np.uint8), "actions": np.zeros((6, 2), np.float32)}
    with h5py.File(path, "w") as file:
        for name, value in (base | members).items():
            if value is not None:
                file[f"episode/{name}"] = value


def virtual(path: Path) -> None:
    h5(path.with_name("other.bin"))
    layout = h5py.VirtualLayout((6, 8, 8, 3), np.uint8)
    layout[...] = h5py.VirtualSource(str(path.with_name("other.bin")), "episode/obs", (6, 8, 8, 3))
    h5(path, obs=None)
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("episode/obs", layout)


def outside(path: Path) -> None:
    path.with_name("secret.bin").write_bytes(bytes(6 * 8 * 8 * 3))
    h5(path, obs=None)
    with h5py.File(path, "a") as file:
        place = [(str(path.with_name("secret.bin")), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("episode/obs", (6, 8, 8, 3), np.uint8, external=place)


def circle(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in "abcdefgh":
            file[name] = file["/"]


def bomb(path: Path) -> None:
    h5(path, actions=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("episode/actions", (1 << 40, 2), np.float32, chunks=(1 << 20, 2), compression="gzip")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.write_bytes(b""), "cannot be read as HDF5"),
        (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90)), "cannot be read as HDF5"),
        (lambda p: (h5(p), p.write_bytes(p.read_bytes()[:1500])), "cannot be read as HDF5"),
        (lambda p: h5(p, obs=None), "no group holds"),
        (lambda p: h5(p, actions=np.zeros((4, 2), np.float32)), "4 actions for observations"),
        (lambda p: h5(p, actions=np.zeros((6, 2, 2), np.float32)), "expected pictures (uint8) or numbers"),
        (lambda p: h5(p, obs=np.zeros((6, 8, 8, 3), np.float32)), "expected pictures (uint8) or numbers"),
        (lambda p: h5(p, obs=np.zeros((6, 8, 8, 5), np.uint8)), "neither 1 nor 3 channels"),
        (lambda p: h5(p, actions=["left"] * 6), "expected pictures (uint8) or numbers"),
        (lambda p: h5(p, obs=h5py.SoftLink("/episode/actions")), "links to elsewhere"),
        (lambda p: h5(p, obs=h5py.ExternalLink("/etc/passwd", "/")), "links to elsewhere"),
        (virtual, "keeps its data elsewhere"),
        (outside, "keeps its data elsewhere"),
        (circle, "no group holds"),
        (bomb, "takes more than"),
    ],
)  # fmt: skip
def test_hdf5_broken_and_hostile_files_are_refused_by_name(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    (tmp_path / "v").mkdir()
    h5(tmp_path / "v/good.h5")
    make(tmp_path / "v/bad.h5")
    done = imported(tmp_path / "v", fps=10)
    assert done.store.ids == ("good.h5:episode",)
    assert words in refusals(done)["bad.h5"]


def test_hdf5_pictures_that_cannot_be_read_cost_their_own_file_alone(tmp_path: Path) -> None:
    """Found by damaging files: pictures are read last, and one that broke there stopped the whole import."""
    (tmp_path / "v").mkdir()
    for name in ("a", "b"):
        h5(tmp_path / f"v/{name}.h5", obs=None)
        with h5py.File(tmp_path / f"v/{name}.h5", "a") as file:
            file.create_dataset("episode/obs", data=np.full((6, 8, 8, 3), 77, np.uint8), chunks=True, fletcher32=True)
    data = bytearray((tmp_path / "v/a.h5").read_bytes())
    data[data.index(bytes([77] * 64))] ^= 1
    (tmp_path / "v/a.h5").write_bytes(data)
    done = imported(tmp_path / "v", fps=10)
    assert done.store.ids == ("b.h5:episode",)
    assert "pictures cannot be read" in refusals(done)["a.h5:episode"]


def test_arrays_that_differ_or_lack_a_rate_are_refused(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    h5(tmp_path / "v/a.h5")
    with pytest.raises(UnusableInput, match="give --fps N"):
        imported(tmp_path / "v")
    h5(tmp_path / "v/b.h5", states=np.zeros((6, 3)))
    with pytest.raises(UnusableInput, match=r"b\.h5:episode holds .*, a\.h5:episode"):
        imported(tmp_path / "v", fps=10)
    (tmp_path / "v/b.h5").unlink()
    h5(tmp_path / "v/b.h5", actions=np.zeros((6, 3)))
    with pytest.raises(UnusableInput, match=r"actions of shape \(3,\)"):
        imported(tmp_path / "v", fps=10)
    with pytest.raises(UnusableInput, match="leave out --labels and --camera"):
        imported(tmp_path / "v", fps=10, cameras=("a",))
    assert not (tmp_path / "D").exists()


def test_an_episode_with_numbers_that_are_not_finite_is_refused_by_name_and_the_others_are_kept(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    sound = np.zeros((6, 2))
    h5(tmp_path / "v/a.h5", states=sound)
    h5(tmp_path / "v/b.h5", states=sound, actions=np.full((6, 2), np.inf))
    h5(tmp_path / "v/c.h5", states=np.full((6, 2), np.nan))
    h5(tmp_path / "v/d.h5", states=sound)
    done = imported(tmp_path / "v", fps=10)
    assert done.store.ids == ("a.h5:episode", "d.h5:episode")
    told = refusals(done)
    assert sorted(told) == ["b.h5:episode", "c.h5:episode"]
    assert all("finite" in why for why in told.values()), told


# --- LeRobot


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda root: v30(root, "images"), (16, 24)), (lambda root: v30(root, "video"), (64, 96)),
        (lambda root: v30(root, "video", split=True), (64, 96)), (lambda root: v30(root, "state"), (0, 0)),
        (v21, (64, 96)),
    ],
    ids=["images", "video", "video-split", "state", "v2.1"],
)  # fmt: skip
def test_lerobot_datasets_are_taken_over_whole(
    tmp_path: Path, make: Callable[[Path], Path], size: tuple[int, int]
) -> None:
    done = imported(make(tmp_path / "v"))
    assert (done.kind, done.store.schema.size, done.store.schema.fps) == ("lerobot", size, 10)
    assert dict(done.store.lengths) == {"000000": 12, "000001": 9}
    assert done.store.schema.space.segments[0].high == pytest.approx(39 / 7)  # of the actions that lead somewhere
    assert {fate.what for fate in done.fates} == {"images" if size[0] else "rows"}
    for number, id in enumerate(done.store.ids):
        clip = done.store.read(id)
        assert clip.text == (f"task {number}",)
        assert (clip.source == RECORDED).all()  # type: ignore[union-attr]
        if size[0]:
            original = moving(clip.length, *size, seed=number)
            assert np.abs(clip.frames[0].permute(0, 2, 3, 1).numpy().astype(int) - original).mean() < 4  # type: ignore[index]


def test_a_square_in_a_lerobot_dataset_is_moved_by_its_actions(tmp_path: Path) -> None:
    root = v30(tmp_path / "v")
    parts = [square(12, 0), square(9, 1)]
    frames, chosen = (np.concatenate([part[i] for part in parts]) for i in (0, 1))

    def change(rows: pa.Table) -> pa.Table:
        pictures = [{"bytes": encode_png(frame), "path": ""} for frame in frames]
        rows = rows.set_column(rows.column_names.index(CAMERA), CAMERA, pa.array(pictures))
        return rows.set_column(
            rows.column_names.index("action"), "action", pa.array(MOVES[chosen].tolist(), pa.list_(pa.float32()))
        )

    rewrite(root / DATA, change)
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[CAMERA]["shape"] = [SIDE, SIDE, 3]
    change_info(root, features=features)
    store = imported(root).store
    for id in store.ids:
        clip = store.read(id)
        assert_moved_by(clip, clip.actions[0].numpy())  # type: ignore[index]


def large(root: Path, split: bool) -> Path:
    """A v3.0 folder with frames of 160 x 144; without `split`, one file holds both episodes, a key frame at each."""
    v30(root, "video", split)
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[CAMERA]["shape"] = [144, 160, 3]
    change_info(root, features=features)
    folder = root / f"videos/{CAMERA}/chunk-000"
    for i, length in enumerate((12, 9)):
        write(folder / f"file-00{i if split else 9 - i}.mp4", moving(length, 144, 160, seed=i))
    if not split:
        from retrodict.data.guarded import decoder

        decoder.remux(
            [(folder / "file-009.mp4", 0.0, 1.1), (folder / "file-008.mp4", 0.0, 0.8)], folder / "file-000.mp4", 10
        )
    return root


@pytest.mark.parametrize("split", [True, False])
def test_lerobot_video_is_linked_or_cut_without_encoding(tmp_path: Path, split: bool) -> None:
    root = large(tmp_path / "v", split)
    done = imported(root)
    assert [fate.what for fate in done.fates] == (["linked", "linked"] if split else ["remuxed", "remuxed"])
    from retrodict.data.foreign import open_foreign

    source = open_foreign(root)
    for id in done.store.ids:
        assert torch.equal(done.store.read(id).frames, source.read(id).frames)  # type: ignore[arg-type]


def test_episodes_without_actions_are_hidden_and_half_of_them_is_damage(tmp_path: Path) -> None:
    root = v30(tmp_path / "v")

    def hide(rows: pa.Table) -> pa.Table:
        values = rows["action"].to_pylist()
        values[12:] = [None] * 9
        return rows.set_column(rows.column_names.index("action"), "action", pa.array(values, pa.list_(pa.float32())))

    rewrite(root / DATA, hide)
    store = imported(root).store
    assert [int(store.read(id).known.sum()) for id in store.ids] == [11, 0]
    rewrite(root / DATA, nulled)
    done = import_data(root, tmp_path / "E", Intake())
    assert done.store.ids == ("000001",)
    assert "action in every row" in refusals(done)["000000"]


def test_a_dataset_without_actions_takes_labels_by_episode(tmp_path: Path) -> None:
    root = v30(tmp_path / "v")
    features = json.loads((root / "meta/info.json").read_text())["features"]
    del features["action"]
    change_info(root, features=features)
    labels = tmp_path / "labels.csv"
    labels.write_text("file,frame,action\n000001,7,left\n000000,0,right\n")
    with pytest.raises(UnusableInput, match="no feature named 'action'"):
        imported(root)
    store = imported(root, labels=labels).store
    assert [store.read(id).source[0].nonzero().ravel().tolist() for id in store.ids] == [[0], [7]]  # type: ignore[index]
    with pytest.raises(UnusableInput, match="has actions of its own"):
        import_data(v30(tmp_path / "w"), tmp_path / "E", Intake(labels=labels))


def test_our_own_dataset_keeps_what_its_actions_are(tmp_path: Path) -> None:
    space = ActionSpace(
        (categorical("move", ("l", "r"), [("l", "r")]), continuous("aim", ("x",), unit="m", relative=True))
    )
    schema = Schema(space, {"observation.image": (8, 8, 3)}, 7)
    source = torch.tensor([[RECORDED, MISSING]], dtype=torch.uint8)
    clip = Clip(frames=torch.zeros(1, 3, 3, 8, 8, dtype=torch.uint8), actions=torch.ones(1, 2, 3), source=source)
    with Store.create(tmp_path / "v", schema) as store:
        store.append([clip], ids=["one"])
    done = imported(tmp_path / "v")
    assert (done.store.schema, done.store.ids) == (schema, ("one",))
    assert torch.equal(done.store.read("one").source, source)  # type: ignore[arg-type]


def test_a_given_space_names_a_dataset_s_columns(tmp_path: Path) -> None:
    root = v30(tmp_path / "v")
    space = ActionSpace((continuous("arm", ("x", "y"), -3, 3, unit="cm", relative=True),))
    assert imported(root, space=space).store.schema.space == space
    wrong = ActionSpace((continuous("arm", ("x",)),))
    with pytest.raises(UnusableInput, match=r"columns \('action\.dx', 'action\.dy'\)"):
        import_data(root, tmp_path / "E", Intake(space=wrong))
    with pytest.raises(UnusableInput, match="Leave out --fps"):
        import_data(root, tmp_path / "E", Intake(fps=5))
    assert import_data(root, tmp_path / "F", Intake(cameras=("front",), fit=(12, 8))).store.schema.size == (8, 12)
    with pytest.raises(UnknownName, match="camera named 'fornt'"):
        import_data(root, tmp_path / "E", Intake(cameras=("fornt",)))


# --- which it is


def test_the_kind_is_told_from_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    folder.mkdir()
    for words in ("holds nothing", "videos: .*vpt: .*lerobot: .*npz: .*hdf5: "):
        with pytest.raises(UnusableInput, match=words):
            find_kind(folder)
    (folder / "notes.txt").write_text("")
    with pytest.raises(UnusableInput, match=r"holds notes\.txt"):
        find_kind(folder)
    (folder / "a.MP4").write_bytes(b"")
    (folder / "a.jsonl").write_text('{"label": 1}\n')
    kind, files, fates = find_kind(folder)
    assert (kind, files, [fate.file for fate in fates]) == ("videos", ["a.MP4"], ["a.jsonl", "notes.txt"])
    (folder / "a.jsonl").write_text(json.dumps(tick()))
    (folder / "b.mov").write_bytes(b"")
    assert find_kind(folder)[:2] == ("vpt", ["a.MP4", "b.mov"])
    assert [fate.file for fate in find_kind(folder)[2]] == ["notes.txt"]
    assert find_kind(folder, kind="videos")[:2] == ("videos", ["a.MP4", "b.mov"])
    (folder / "c.npz").write_bytes(b"")
    with pytest.raises(
        UnusableInput, match=r"holds vpt \(a\.MP4\) and npz \(c\.npz\)\. Name one of these with --format"
    ):
        find_kind(folder)
    assert find_kind(folder, kind="npz")[:2] == ("npz", ["c.npz"])
    with pytest.raises(UnknownName, match="format named 'mp4'"):
        find_kind(folder, kind="mp4")
    assert set(KINDS) == {"videos", "vpt", "lerobot", "npz", "hdf5"}


def test_datasets_inside_a_folder_of_videos_are_passed_over_and_said_so(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    large(folder / "robot", True)
    write(folder / "a.mp4", moving(6))
    done = imported(folder)
    assert done.store.ids == ("a.mp4",)
    assert [(fate.file, fate.what) for fate in done.fates] == [("a.mp4", "images"), ("robot", "skipped")]
    assert done.store.schema.space == UNKNOWN
    import_data(folder, folder / "inside", Intake())
    again = import_data(folder, folder / "inside", Intake())
    assert [(fate.file, fate.what) for fate in again.fates] == [("a.mp4", "kept"), ("robot", "skipped")]
