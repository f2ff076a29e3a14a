"""Part: a module that remembers how it was built, so that a checkpoint can build it again without running code."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from torch import nn

from retrodict.errors import UnknownName, UnusableInput
from retrodict.roles import View
from retrodict.spaces import ActionSpace

FROM_FILE = "retrodict_recipe_"  # how the name of a module begins that was loaded from a recipe file


class Part(nn.Module):
    """A module whose constructor arguments are plain values, spaces, views or other parts, and are kept in `spec`.

    `groups()` names the parameter groups that are optimised apart; `after_step` is called after every optimiser step
    and may change buffers and what is not optimised (moving averages), and restart codes. Everything mutable is a
    parameter or a buffer.
    """

    spec: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        build = cls.__init__
        if "__init__" not in cls.__dict__:
            return

        @functools.wraps(build)
        def remembering(self: Part, *args: Any, **named: Any) -> None:
            outermost = "spec" not in self.__dict__
            if outermost:
                bound = inspect.signature(build).bind(self, *args, **named)
                bound.apply_defaults()
                self.__dict__["spec"] = {name: _plain(v) for name, v in bound.arguments.items() if name != "self"}
            build(self, *args, **named)

        cls.__init__ = remembering  # type: ignore[method-assign, assignment]

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameter groups by name; a loss of the same name reaches only these. Frozen parameters are in none."""
        return {"all": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def paces(self) -> dict[str, float]:
        """Learning rates of groups as shares of the common one; 1 where nothing is said."""
        return {}

    def after_step(self, step: int, rate: float) -> None:
        """Updates buffers after an optimiser step; `rate` is the step's learning rate as a share of its peak."""

    def gauges(self) -> dict[str, float]:
        """What is worth watching in training beside the losses, such as how evenly codes are used; names hold a "/"."""
        return {}

    def alarm(self) -> str:
        """Says, in training and at its end, what a good loss may hide, such as a collapsed codebook; "" if nothing."""
        return ""

    def describe(self) -> dict[str, Any]:
        """Returns the JSON from which `build` makes the same part, with fresh weights."""
        return {"part": f"{type(self).__module__}:{type(self).__qualname__}", "arguments": self.spec}


def build(description: Mapping[str, Any]) -> Part:
    """Builds a part from what `describe` returned.

    Only classes of retrodict's own models and recipes are built, and of recipe files that this process has loaded
    already, so a hostile description cannot run other code.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("arguments"), Mapping):
        raise UnusableInput(f"a part is described by 'part' and 'arguments'; got {description!r:.100}")
    module_name, _, class_name = str(description.get("part")).partition(":")
    if module_name.startswith(FROM_FILE):
        if module_name not in sys.modules:
            file = f"{module_name.removeprefix(FROM_FILE)}.py"
            raise UnusableInput(
                f"this run has a part of its own, {class_name}, of the recipe file {file}. Name that file with --code, "
                f"and its code is run (in Python: retrodict.check.load_recipe({file!r}) before retrodict.load)"
            )
    elif not module_name.startswith(("retrodict.models.", "retrodict.recipes.", "retrodict.nn.")):
        raise UnusableInput(
            f"a checkpoint asks for {module_name}:{class_name}; only parts of retrodict.models and "
            "retrodict.recipes, and of recipe files that were loaded, are built. Load it with the code that made it."
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UnusableInput(f"a checkpoint asks for {module_name}, which is not there: {error}") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Part)):
        parts = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Part)]
        raise UnknownName(f"part in {module_name}", class_name, parts)
    arguments = {name: _rich(value) for name, value in description["arguments"].items()}
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise UnusableInput(f"a checkpoint gives {class_name} other arguments than it takes: {error}") from error
    return found(**arguments)


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return value.describe()
    if isinstance(value, ActionSpace):
        return {"space": value.to_json()}
    if isinstance(value, View):
        return {"view": asdict(value)}
    if is_dataclass(value) or not isinstance(value, str | int | float | bool | type(None) | list | tuple | dict):
        raise UnusableInput(f"a part's argument must be plain, a space, a view or a part; got {type(value).__name__}")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _rich(value: Any) -> Any:
    if isinstance(value, dict) and "part" in value:
        return build(value)
    if isinstance(value, dict) and "space" in value:
        return ActionSpace.from_json(value["space"])
    if isinstance(value, dict) and "view" in value:
        view = dict(value["view"])
        view["size"], view["cameras"] = tuple(view["size"]), tuple(view["cameras"])
        return View(**view)
    if isinstance(value, list):
        return tuple(_rich(item) for item in value)
    return value
