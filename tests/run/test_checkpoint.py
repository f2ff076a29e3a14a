"""Checkpoints, saved systems and the lock: whole or absent, refused by name, never executed."""

from __future__ import annotations

import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from retrodict.clip import Clip
from retrodict.data.durable import sync_write
from retrodict.errors import Damaged, Locked, RetrodictError, UnknownName, UnusableInput
from retrodict.models.latent_action import CodeAdapter, LatentAction, LatentForward, LatentInverse
from retrodict.models.policy import ClipPolicy
from retrodict.nn.part import Part, build
from retrodict.roles import System, View
from retrodict.run import checkpoint
from retrodict.run.log import Log
from retrodict.run.loop import weights_hash
from retrodict.run.run import Run, Views
from retrodict.spaces import ActionSpace, categorical

SPACE = ActionSpace((categorical("move", ("stay", "go", "back")),))
SIZE = (12, 12)


def some(value: float) -> dict[str, Tensor]:
    return {"w": torch.full((3,), value), "n": torch.tensor(3)}


def flip(path: Path, at: int = -3) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def system() -> System:
    torch.manual_seed(0)
    code = {"kind": "vq", "positions": 2, "codes": 4, "width": 4, "books": 2}
    inverse = LatentInverse(View(2, size=SIZE), code, patch=4, width=4, depth=1)
    world = LatentForward(View(1, size=SIZE), code, patch=4, width=4, depth=1)
    model = LatentAction(inverse, world)
    policy = ClipPolicy(View(size=SIZE), inverse.space, patch=4, width=4, depth=1, hidden=8)
    adapter = CodeAdapter(SPACE, inverse.space, hidden=4)
    parts = (model.inverse.eval(), model.world.eval(), policy.eval(), adapter.eval())
    return System(inverse=parts[0], forward=parts[1], policy=parts[2], adapter=parts[3], about={"recipe": "lapo"})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save_system(folder / "system", system())
    return folder


def test_a_checkpoint_reads_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoint.save_folder(tmp_path / "step-1", some(0.1), {"step": 1})
    tensors, manifest = checkpoint.load_folder(tmp_path / "step-1")
    assert {name: value.tolist() for name, value in tensors.items()} == {n: v.tolist() for n, v in some(0.1).items()}
    assert manifest["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


def test_a_folder_of_the_same_name_is_replaced_whole(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        checkpoint.save_folder(tmp_path / "done", some(value), {})
    assert checkpoint.load_folder(tmp_path / "done")[0]["w"].tolist() == [2.0] * 3
    assert [p.name for p in tmp_path.iterdir()] == ["done"]


def test_the_newest_is_taken_and_a_damaged_one_passed_over_with_a_remark(tmp_path: Path) -> None:
    for step in (2, 9, 10):
        checkpoint.save_folder(tmp_path / f"step-{step}", some(step), {})
    assert checkpoint.newest(tmp_path)[0] == 10  # type: ignore[index]
    flip(tmp_path / "step-10" / checkpoint.STATE)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    step, tensors, _, remark = found
    assert (step, tensors["w"].tolist()) == (9, [9.0] * 3)
    assert "step-10" in remark
    assert "Going on from the checkpoint before it" in remark


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / checkpoint.STATE),
        lambda folder: flip(folder / checkpoint.STATE, 3),
        lambda folder: (folder / checkpoint.STATE).write_bytes(b""),
        lambda folder: (folder / checkpoint.STATE).unlink(),
        lambda folder: (folder / checkpoint.MANIFEST).unlink(),
        lambda folder: (folder / checkpoint.MANIFEST).write_text('{"files'),
        lambda folder: (folder / checkpoint.MANIFEST).write_text("[]"),
        lambda folder: (folder / checkpoint.MANIFEST).write_text("{}"),
        lambda folder: (folder / checkpoint.MANIFEST).write_text('{"files": 3}'),
        lambda folder: (folder / checkpoint.MANIFEST).write_bytes(b"\xff\xfe"),
    ],
)
def test_any_damage_is_seen(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    checkpoint.save_folder(tmp_path / "step-1", some(1.0), {})
    damage(tmp_path / "step-1")
    with pytest.raises((Damaged, UnusableInput), match="step-1"):
        checkpoint.load_folder(tmp_path / "step-1")


def test_when_all_are_damaged_it_is_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    for step in (1, 2):
        checkpoint.save_folder(tmp_path / f"step-{step}", some(step), {})
        flip(tmp_path / f"step-{step}" / checkpoint.STATE)
    with pytest.raises(Damaged, match="step-2, step-1"):
        checkpoint.newest(tmp_path)


def test_two_are_kept_by_number_and_leftovers_are_swept(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        checkpoint.save_folder(tmp_path / f"step-{step}", some(step), {})
    checkpoint.prune(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-10", "step-100"]
    (tmp_path / ".step-101.77.tmp").mkdir()
    (tmp_path / ".step-10.77.old").mkdir()
    (tmp_path / ".identity.json.77.tmp").write_text("{")
    checkpoint.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-10", "step-100"]


def test_what_was_moved_away_and_not_replaced_when_a_process_was_killed_goes_back(tmp_path: Path) -> None:
    checkpoint.save_folder(tmp_path / "system", some(1), {"who": "first"})
    os.rename(tmp_path / "system", tmp_path / ".system.77.old")  # and no further
    checkpoint.sweep(tmp_path)
    assert checkpoint.load_folder(tmp_path / "system")[1]["who"] == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["system"]


def test_small_files_are_replaced_not_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "identity.json"
    sync_write(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        sync_write(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_system_answers_the_same_after_saving_and_loading(saved: Path) -> None:
    was, back = system(), checkpoint.load_system(saved)
    assert back.about == {"recipe": "lapo"}
    assert {n: weights_hash(p) for n, p in was.parts().items()} == {n: weights_hash(p) for n, p in back.parts().items()}
    assert not any(part.training for part in back.parts().values())
    frames = torch.randint(0, 256, (2, 3, 3, *SIZE), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    clip = Clip(frames=frames)
    for old, new in ((was, back), (was.decoded(), back.decoded())):
        assert torch.allclose(old.inverse.infer(clip).params, new.inverse.infer(clip).params, atol=1e-5)  # type: ignore[union-attr]
        assert torch.allclose(old.policy.act(clip)[0].params, new.policy.act(clip)[0].params, atol=1e-5)  # type: ignore[union-attr]
    assert back.decoded().policy.space == SPACE  # type: ignore[union-attr]
    assert (back.inverse.view, back.inverse.space) == (was.inverse.view, was.inverse.space)  # type: ignore[union-attr]


def test_loading_leaves_global_randomness_alone(saved: Path) -> None:
    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()  # type: ignore[union-attr]
    checkpoint.load_system(saved)
    after = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()  # type: ignore[union-attr]
    assert before == after


def test_what_is_not_a_part_or_a_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="policy is a Lump"):
        checkpoint.save_system(tmp_path / "system", System(policy=Lump()))  # type: ignore[arg-type]
    checkpoint.save_folder(tmp_path / "step-1", some(1.0), {})
    with pytest.raises(UnusableInput, match="checkpoint of a stage"):
        checkpoint.load_system(tmp_path / "step-1")
    with pytest.raises(UnusableInput, match="is no folder"):
        checkpoint.load_system(tmp_path / "nothing")
    with pytest.raises(UnusableInput, match=r"no manifest\.json"):
        checkpoint.load_system(tmp_path)
    (tmp_path / "run/stages/tokens").mkdir(parents=True)
    with pytest.raises(UnusableInput, match="not finished"):
        checkpoint.load_system(tmp_path / "run")


class Lump:
    view = View()
    space = SPACE

    def act(self, past: Clip, memory: None = None) -> None: ...


def hostile(saved: Path, to: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy whose manifest is changed, and whose hashes are right."""
    tensors, manifest = checkpoint.load_folder(saved / "system")
    change(manifest)
    del manifest["files"]
    checkpoint.save_folder(to / "system", tensors, manifest)
    return to


@pytest.mark.parametrize(
    ("role", "key", "value"),
    [
        ("policy", "part", "os:system"),
        ("policy", "part", "subprocess:Popen"),
        ("policy", "part", "retrodict.run.run:Run"),
        ("policy", "part", "retrodict.models:Path"),
        ("policy", "part", "retrodict.models.policy:torch"),
        ("policy", "part", "retrodict.models.policy:FrameNet"),
        ("policy", "part", "retrodict.models.absent:Policy"),
        ("policy", "part", "retrodict.models..policy:ClipPolicy"),
        ("policy", "part", None),
        ("policy", "arguments", {"view": {"part": "os:system", "arguments": {"command": "touch x"}}}),
        ("policy", "arguments", {"command": "touch x"}),
        ("policy", "arguments", ["touch x"]),
        ("__class__", "part", "retrodict.models.policy:ClipPolicy"),
        ("about", "part", "retrodict.models.policy:ClipPolicy"),
    ],
)
def test_a_hostile_manifest_builds_nothing_foreign(
    saved: Path, tmp_path: Path, role: str, key: str, value: object
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["system"].setdefault(role, dict(manifest["system"]["policy"]))[key] = value

    with pytest.raises(UnusableInput):
        checkpoint.load_system(hostile(saved, tmp_path, change))


def test_one_changed_sign_in_a_manifest_is_damage(saved: Path, tmp_path: Path) -> None:
    file = hostile(saved, tmp_path, lambda manifest: None) / "system" / checkpoint.MANIFEST
    text = file.read_text()
    for number in range(0, len(text), 37):
        changed = text[:number] + ("7" if text[number] != "7" else "8") + text[number + 1 :]
        file.write_text(changed)
        with pytest.raises(RetrodictError):
            checkpoint.load_system(tmp_path)
    file.write_text(text)
    checkpoint.load_system(tmp_path)


def test_tensors_that_do_not_fit_their_part_are_damage(saved: Path, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["system"]["policy"]["arguments"]["hidden"] = 9

    with pytest.raises(Damaged, match="size mismatch"):
        checkpoint.load_system(hostile(saved, tmp_path, change))


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["pickle", "torch", "numpy"])
def test_no_pickle_is_executed(saved: Path, tmp_path: Path, kind: str, protocol: int) -> None:
    """In place of the tensors, of the manifest, and with the hash that the manifest wants."""
    mark, bomb = tmp_path / "exploded", tmp_path / "bomb"
    if kind == "pickle":
        bomb.write_bytes(pickle.dumps(Bomb(mark), protocol))
    elif kind == "torch":
        torch.save({"w": Bomb(mark)}, bomb, pickle_protocol=max(2, protocol))
    else:
        with open(bomb, "wb") as file:
            np.save(file, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    for name in (checkpoint.STATE, checkpoint.MANIFEST):
        for own_hash in (False, True):
            folder = tmp_path / f"{name}-{own_hash}"
            hostile(saved, folder, lambda manifest: None)
            (folder / "system" / name).write_bytes(bomb.read_bytes())
            if own_hash and name == checkpoint.STATE:
                sign(folder / "system")
            with pytest.raises(RetrodictError):
                checkpoint.load_system(folder)
    assert not mark.exists()


def sign(folder: Path) -> None:
    import hashlib

    state = (folder / checkpoint.STATE).read_bytes()
    manifest = json.loads((folder / checkpoint.MANIFEST).read_text())
    manifest["files"][checkpoint.STATE] = {"bytes": len(state), "sha256": hashlib.sha256(state).hexdigest()}
    del manifest[checkpoint.SELF]
    manifest[checkpoint.SELF] = hashlib.sha256(json.dumps(manifest, indent=1, sort_keys=True).encode()).hexdigest()
    (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest))


def test_every_part_is_rebuilt_from_its_description() -> None:
    for part in system().parts().values():
        described = json.loads(json.dumps(part.describe()))
        again = build(described)
        assert type(again) is type(part)
        assert json.loads(json.dumps(again.describe())) == described
        assert {n: v.shape for n, v in again.state_dict().items()} == {n: v.shape for n, v in part.state_dict().items()}


def test_the_second_run_in_a_folder_is_refused_at_once_and_names_the_first(tmp_path: Path, sprites: Views) -> None:
    with Run(tmp_path, sprites), pytest.raises(Locked, match=f"process {os.getpid()}"):
        Run(tmp_path, sprites)
    Run(tmp_path, sprites).close()


def test_the_lock_of_a_dead_process_does_not_block(tmp_path: Path, sprites: Views) -> None:
    child = os.fork()
    if child == 0:
        Run(tmp_path, sprites)
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / ".lock").read_text().strip() == str(child)
    Run(tmp_path, sprites).close()


def test_a_run_saves_its_system_and_sweeps_what_a_kill_left(tmp_path: Path, sprites: Views) -> None:
    (tmp_path / ".system.99.tmp").mkdir(parents=True)
    with Run(tmp_path, sprites, seed=4, log=Log(quiet=True)) as run:
        run.finish(system(), {"config": "abc"})
    about = checkpoint.load_system(tmp_path).about
    assert (about["recipe"], about["config"], about["seed"]) == ("lapo", "abc", 4)
    assert about["versions"]["torch"] == torch.__version__
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "system"]


def test_an_unknown_stage_to_restart_is_named(tmp_path: Path, sprites: Views) -> None:
    with Run(tmp_path, sprites, restart=("inverze",)) as run:
        run.map("inverse", lambda clip: {"n": torch.zeros(clip.rows)}, sprites.labelled)
        with pytest.raises(UnknownName, match="'inverse'"):
            run.finish(system(), {})


def test_a_part_takes_plain_arguments_only() -> None:
    class Holder(Part):
        def __init__(self, thing: object) -> None:
            super().__init__()

    with pytest.raises(UnusableInput, match="Lump"):
        Holder(Lump())
    assert Holder((1, ("a", None))).describe()["arguments"] == {"thing": [1, ["a", None]]}
