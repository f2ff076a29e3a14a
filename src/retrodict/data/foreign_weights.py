"""Weights that others published: torch's zip files, read without unpickling.

A file of `torch.save` holds a pickle, a program that may do anything. Here its operations are walked one by one: those
that build dictionaries, lists, numbers and tensors are carried out, and every other is refused by its name.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retrodict.errors import Damaged, UnusableInput

PROGRAM_BYTES, OPERATIONS, AXES = 64 << 20, 2_000_000, 16
DTYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_PLAIN = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE")
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True, slots=True)
class _Global:
    """A class or function that the program names."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers of a tensor: their kind, and what they are called in the file."""

    kind: str
    key: str
    count: int


def read_weights(path: Path, limit_gb: float = 8.0) -> Any:
    """Returns what `torch.save` wrote: dictionaries, lists, numbers, names and tensors (on the CPU).

    Raises:
        UnusableInput: it is no such file, holds what is no table of weights, or more than `limit_gb`.
        Damaged: it is cut off, or its numbers are not those that were written.
    """
    if not path.is_file():
        raise UnusableInput(f"there is no file {path}; name a checkpoint that torch.save wrote")
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            raise UnusableInput(
                f"{path} is not a zip file, as torch.save has written since torch 1.6; save it again with such a torch"
            )
    try:
        with zipfile.ZipFile(path) as archive:
            return _Program(path, _Entries(path, archive, limit_gb)).run()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, OverflowError, RuntimeError) as error:
        raise Damaged(path, "a whole zip file", str(error) or type(error).__name__) from error


class _Entries:
    """The files inside, each found by its name and read once."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, limit_gb: float) -> None:
        self.path, self.archive = path, archive
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise UnusableInput(f"{path} is compressed, which torch.save never does; it is not opened")
        total, there = sum(entry.file_size for entry in entries), path.stat().st_size
        if any(not 0 <= entry.header_offset < there for entry in entries):
            raise zipfile.BadZipFile("a file inside is said to lie outside")
        if total > min(there, limit_gb * 1e9):
            raise UnusableInput(
                f"{path} is said to hold {total} bytes; it has {there}, and {limit_gb:g} GB are allowed"
            )
        programs = [entry.filename for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(programs) != 1:
            raise UnusableInput(f"{path} holds {len(programs)} files data.pkl; a checkpoint of torch has one")
        self.root = programs[0].removesuffix("data.pkl")
        self.read: dict[str, tuple[_Storage, Tensor]] = {}
        if f"{self.root}byteorder" in archive.namelist() and self.bytes("byteorder") != b"little":
            raise UnusableInput(f"{path} was written on a big-endian machine; save it again on a usual one")

    def bytes(self, name: str) -> bytes:
        """The content of a file."""
        if self.root + name not in self.archive.namelist():
            raise Damaged(self.path, f"a file {name} inside", "none")
        return self.archive.read(self.root + name)

    def numbers(self, storage: _Storage) -> Tensor:
        """All numbers of a storage, as one axis."""
        if storage.key not in self.read:
            dtype = DTYPES[storage.kind]
            content = self.bytes(f"data/{storage.key}")
            if len(content) != storage.count * dtype.itemsize:
                raise Damaged(self.path, f"{storage.count * dtype.itemsize} bytes of data/{storage.key}",
                              f"{len(content)}")  # fmt: skip
            found = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
            self.read[storage.key] = (storage, found)
        known, found = self.read[storage.key]
        if known != storage:
            raise UnusableInput(f"{self.path} reads data/{storage.key} as {storage.kind} and as {known.kind}")
        return found


class _Program:
    """Carries out the operations that build a table of weights."""

    def __init__(self, path: Path, entries: _Entries) -> None:
        self.path, self.entries = path, entries
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Returns what the program leaves behind."""
        program = self.entries.bytes("data.pkl")
        if len(program) > PROGRAM_BYTES:
            raise UnusableInput(f"{self.path} has a table of {len(program)} bytes; {PROGRAM_BYTES} are allowed")
        try:
            for number, (operation, argument, _) in enumerate(pickletools.genops(program)):
                if number >= OPERATIONS:
                    raise UnusableInput(f"{self.path} has a table of more than {OPERATIONS} operations")
                self._do(operation.name, argument)
        except (ValueError, IndexError, KeyError, OverflowError) as error:
            raise Damaged(self.path, "a table of weights", f"{type(error).__name__}: {error}") from error
        if len(self.stack) != 1:
            raise Damaged(self.path, "one table of weights", f"{len(self.stack)} values")
        return self.stack[0]

    def _do(self, name: str, argument: Any) -> None:
        if name in _PLAIN:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self.stack.append(tuple(self._popped(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.stack.append(_Global(str(argument).replace(" ", ".")))
        elif name in _ACTIONS:
            _ACTIONS[name](self)
        elif name not in ("PROTO", "STOP", "FRAME"):
            raise UnusableInput(f"{self.path} asks for the operation {name}, which no table of weights needs")

    def _popped(self, count: int) -> list[Any]:
        if count > len(self.stack) - (self.marks[-1] if self.marks else 0):
            raise IndexError("an operation takes more values than there are")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _marked(self) -> list[Any]:
        """What was put down since the last mark."""
        first = self.marks[-1]
        taken = self._popped(len(self.stack) - first)
        self.marks.pop()
        return taken

    def _append(self, items: list[Any]) -> None:
        self._last(list, "a list").extend(items)

    def _set(self, items: list[Any]) -> None:
        table = self._last(dict, "a dictionary")
        keys = items[::2]
        if len(items) % 2 or not all(isinstance(key, str | int) for key in keys):
            raise UnusableInput(f"{self.path} has keys that are no names; a table of weights has names")
        table.update(zip(keys, items[1::2], strict=True))

    def _last(self, kind: type, told: str) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise UnusableInput(f"{self.path} fills a {type(self.stack[-1]).__name__} as if it were {told}")
        return self.stack[-1]

    def _attribute(self) -> None:
        """Attributes of a dictionary, such as versions of layers, are not needed."""
        self._popped(1)
        self._last(dict, "a dictionary")

    def _stored(self) -> None:
        """Names numbers that lie in a file of their own."""
        (given,) = self._popped(1)
        kinds = (str, _Global, str, str, int)
        if not (isinstance(given, tuple) and len(given) == 5 and all(map(isinstance, given, kinds))):
            raise UnusableInput(f"{self.path} names something outside the table that are no numbers of a tensor")
        _, kind, key, _, count = given
        name = kind.name.removeprefix("torch.")
        if given[0] != "storage" or name not in DTYPES:
            raise UnusableInput(f"{self.path} has {given[0]} of {kind.name}; known are {', '.join(DTYPES)}")
        self.stack.append(_Storage(name, key, count))

    def _called(self) -> None:
        function, arguments = self._popped(2)
        name = function.name if isinstance(function, _Global) else type(function).__name__
        if name not in _CALLS or not isinstance(arguments, tuple):
            raise UnusableInput(
                f"{self.path} asks for {name}, which no table of weights needs; it was not run, and nothing was read"
            )
        self.stack.append(_CALLS[name](self, arguments))

    def tensor(self, arguments: tuple[Any, ...]) -> Tensor:
        """A view of a storage, which must hold all of it."""
        storage, offset, size, stride = arguments[:4] if len(arguments) >= 4 else (None, 0, (), ())
        axes = [size, stride] if isinstance(size, tuple) and isinstance(stride, tuple) else [(None,), ()]
        numbers = [offset, *axes[0], *axes[1]]
        whole = all(type(number) is int for number in numbers) and len(axes[0]) == len(axes[1]) <= AXES
        if not isinstance(storage, _Storage) or not whole:
            raise UnusableInput(f"{self.path} has a tensor whose size and strides are no whole numbers of its axes")
        count, last = 1, offset
        for length, step in zip(size, stride, strict=True):
            count, last = count * length, last + (length - 1) * step
        if min(numbers, default=0) < 0 or count > storage.count or (count and last >= storage.count):
            raise Damaged(self.path, f"a tensor within the {storage.count} numbers of data/{storage.key}",
                          f"size {size}, strides {stride}, offset {offset}")  # fmt: skip
        return self.entries.numbers(storage).as_strided(size, stride, offset)

    def parameter(self, arguments: tuple[Any, ...]) -> Tensor:
        """What a parameter wraps."""
        if not arguments or not isinstance(arguments[0], Tensor):
            raise UnusableInput(f"{self.path} has a parameter that is no tensor")
        return arguments[0]

    def table(self, arguments: tuple[Any, ...]) -> dict[Any, Any]:
        """An empty dictionary, as ordered ones are made."""
        if arguments:
            raise UnusableInput(f"{self.path} has a dictionary in a form that torch.save does not write")
        return {}

    def plain(self, arguments: tuple[Any, ...]) -> Any:
        """A size or a device: what it is made of."""
        return arguments[0] if len(arguments) == 1 else arguments


def _mark(program: _Program) -> None:
    program.marks.append(len(program.stack))


_ACTIONS: Mapping[str, Callable[[_Program], None]] = {
    "MARK": _mark,
    "EMPTY_DICT": lambda p: p.stack.append({}),
    "EMPTY_LIST": lambda p: p.stack.append([]),
    "TUPLE": lambda p: p.stack.append(tuple(p._marked())),
    "APPEND": lambda p: p._append(p._popped(1)),
    "APPENDS": lambda p: p._append(p._marked()),
    "SETITEM": lambda p: p._set(p._popped(2)),
    "SETITEMS": lambda p: p._set(p._marked()),
    "BUILD": lambda p: p._attribute(),
    "BINPERSID": lambda p: p._stored(),
    "REDUCE": lambda p: p._called(),
}
_CALLS: Mapping[str, Callable[[_Program, tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor_v2": _Program.tensor,
    "torch._utils._rebuild_parameter": _Program.parameter,
    "collections.OrderedDict": _Program.table,
    "torch.Size": _Program.plain,
    "torch.device": _Program.plain,
}
