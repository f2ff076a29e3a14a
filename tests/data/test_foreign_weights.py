"""Published weights: read as torch wrote them, and whatever else is in such a file is refused and never run."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from payloads import Bomb
from torch import Tensor, nn

from retrodict.data.foreign_weights import read_weights
from retrodict.errors import Damaged, RetrodictError, UnusableInput


def saved(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Tensor):
        return found.dtype == wanted.dtype and torch.equal(found, wanted)
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(same(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list | tuple):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return bool(found == wanted)


def with_program(path: Path, program: bytes, data: dict[str, bytes] | None = None, how: int = 0) -> Path:
    """A checkpoint with this pickle inside."""
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in {"data.pkl": program, "byteorder": b"little", **(data or {})}.items():
            archive.writestr(f"archive/{name}", content)
    return path


class Told:
    """Is pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


class Numbers:
    """Is pickled as numbers that lie elsewhere."""

    def __init__(self, *name: Any) -> None:
        self.name = name


def pickled(value: Any, protocol: int = 2) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return obj.name if isinstance(obj, Numbers) else None

    out = io.BytesIO()
    Pickler(out, protocol).dump(value)
    return out.getvalue()


def tensor(size: Any, stride: Any, offset: Any = 0, count: int = 6, kind: Any = torch.FloatStorage) -> Told:
    numbers = Numbers("storage", kind, "0", "cpu", count)
    return Told(torch._utils._rebuild_tensor_v2, numbers, offset, size, stride, False, OrderedDict())


SIX = {"data/0": torch.arange(6.0).numpy().tobytes()}


def test_what_torch_saved_is_read(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Conv2d(2, 3, 5))
    base = torch.arange(24.0).view(2, 3, 4)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
             torch.uint8, torch.bool)  # fmt: skip
    value = {
        "model": net.state_dict(), "turned": base.transpose(0, 2), "part": base[1, 1:, ::2], "same": base,
        "one": torch.tensor(3.0), "none": torch.empty(0, 3), "kinds": [torch.ones(2).to(kind) for kind in kinds],
        "size": torch.Size([2, 3]), "step": 12, "big": 2**70, "rate": 0.1, "said": "höher", "no": None, "yes": True,
        7: (),
    }  # fmt: skip
    assert same(read_weights(saved(tmp_path / "c.pt", value)), value)
    kept = read_weights(saved(tmp_path / "p.pt", {"w": nn.Parameter(torch.ones(2)), "device": torch.device("cuda:0")}))
    assert torch.equal(kept["w"], torch.ones(2))
    assert kept["device"] == ("cuda", 0)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_code_is_refused_by_its_name_and_not_run(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "ran"
    path = with_program(tmp_path / "b.pt", pickle.dumps({"w": Bomb(f"touch {mark}")}, protocol))
    with pytest.raises(UnusableInput, match=r"system|operation [A-Z_0-9]+"):
        read_weights(path)
    assert not mark.exists()


def test_every_other_call_and_object_is_refused_by_name(tmp_path: Path) -> None:
    calls = {
        "builtin.*eval": Told(eval, "1"), "builtin.*getattr": Told(getattr, "a", "b"), "os": Told(os.getcwd),
        "torch.*load": Told(torch.load, "x"), "_rebuild_qtensor": Told(torch._utils._rebuild_qtensor, 1),
        "tuple": Told(tuple, [1]), "NEWOBJ": nn.Linear(1, 1),
    }  # fmt: skip
    for name, value in calls.items():
        with pytest.raises(UnusableInput, match=name):
            read_weights(with_program(tmp_path / "c.pt", pickled({"w": value})))
    for program, name in (
        (b"\x80\x02(lp0\n.", "LIST"),
        (b"(S'x'\nios\nsystem\n.", "STRING"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "no numbers"),
    ):
        with pytest.raises(UnusableInput, match=name):
            read_weights(with_program(tmp_path / "c.pt", program))


def test_a_tensor_lies_within_its_numbers(tmp_path: Path) -> None:
    def read(value: Told, data: dict[str, bytes] = SIX) -> Any:
        return read_weights(with_program(tmp_path / "t.pt", pickled({"w": value}), data))["w"]

    assert read(tensor((2, 2), (1, 2), 1)).tolist() == [[1, 3], [2, 4]]
    assert read(tensor((0,), (1,), 6)).shape == (0,)
    for size, stride, offset in (((2, 3), (3, 1), 1), ((7,), (1,), 0), ((2,), (6,), 0), ((10**9,), (0,), 0),
                                 ((2,), (-1,), 1), ((-1,), (1,), 0), ((1,), (1,), -1), ((2**62, 4), (0, 0), 0),
                                 ):  # fmt: skip
        with pytest.raises(Damaged, match="within the 6 numbers"):
            read(tensor(size, stride, offset))
    for size, stride, offset in (((2,), (1, 1), 0), ((2.0,), (1,), 0), ((True,), (1,), 0), ([2], [1], 0),
                                 ((2,), (1,), None), ((1,) * 17, (1,) * 17, 0)):  # fmt: skip
        with pytest.raises(UnusableInput, match="whole numbers"):
            read(tensor(size, stride, offset))
    with pytest.raises(Damaged, match="28 bytes"):
        read(tensor((2,), (1,), count=7))
    with pytest.raises(Damaged, match="data/0"):
        read(tensor((2,), (1,)), {})
    with pytest.raises(UnusableInput, match="ComplexFloatStorage"):
        read(tensor((2,), (1,), kind=torch.ComplexFloatStorage))
    both = [tensor((2,), (1,)), tensor((2,), (1,), kind=torch.IntStorage)]
    with pytest.raises(UnusableInput, match="as IntStorage and as FloatStorage"):
        read_weights(with_program(tmp_path / "t.pt", pickled(both), SIX))


def test_a_file_that_is_cut_off_or_changed_is_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path / "c.pt", {"model": {"a": torch.arange(50.0), "b": torch.ones(3)}}).read_bytes()
    path, draw = tmp_path / "d.pt", random.Random(0)
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(RetrodictError):
            read_weights(path)
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        path.write_bytes(changed)
        try:
            read_weights(path)
        except RetrodictError:
            continue


def test_programs_of_chance_raise_our_errors_alone(tmp_path: Path) -> None:
    draw = random.Random(1)
    seeds = [pickled({"a": tensor((2, 3), (3, 1)), "b": [1, (2, 3)], "c": "x"})]
    for _ in range(400):
        program = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 6)):
            program[draw.randrange(2, len(program))] = draw.choice(b"}]()u.t\x85\x86\x87RQbhqKXcesa0123456789")
        try:
            read_weights(with_program(tmp_path / "p.pt", bytes(program), SIX))
        except RetrodictError:
            continue


def test_other_files_are_refused(tmp_path: Path) -> None:
    old = saved(tmp_path / "old.pt", {"a": torch.ones(2)}, _use_new_zipfile_serialization=False)
    with pytest.raises(UnusableInput, match="since torch 1"):
        read_weights(old)
    with pytest.raises(UnusableInput, match="no file"):
        read_weights(tmp_path / "absent.pt")
    with pytest.raises(UnusableInput, match="compressed"):
        read_weights(with_program(tmp_path / "z.pt", pickled({}), how=zipfile.ZIP_DEFLATED))
    with pytest.raises(UnusableInput, match="are allowed"):
        read_weights(with_program(tmp_path / "l.pt", pickled({"w": 1}), SIX), limit_gb=1e-9)
    with pytest.raises(UnusableInput, match="big-endian"):
        read_weights(with_program(tmp_path / "e.pt", pickled({}), {"byteorder": b"big"}))
    with zipfile.ZipFile(tmp_path / "n.pt", "w") as archive:
        archive.writestr("x", b"")
    with pytest.raises(UnusableInput, match=r"0 files data\.pkl"):
        read_weights(tmp_path / "n.pt")
