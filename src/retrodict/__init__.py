"""retrodict: learn actions from video. Labels with confidence, policies, and worlds you can steer.

The public names load on first use (PEP 562), so that `import retrodict` costs nothing and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrodict.clip import Clip
    from retrodict.data.memory import MemoryStore
    from retrodict.data.schema import Schema
    from retrodict.data.store import Store
    from retrodict.roles import System, View, compatible
    from retrodict.run.checkpoint import load_system as load
    from retrodict.run.run import Run, Views
    from retrodict.spaces import ActionSpace, Distribution, Segment, categorical, continuous

__version__ = "0.1.0"

_HOME = {
    "Clip": "clip",
    "ActionSpace": "spaces", "Segment": "spaces", "categorical": "spaces", "continuous": "spaces",
    "Distribution": "spaces",
    "View": "roles", "System": "roles", "compatible": "roles",
    "Store": "data.store", "MemoryStore": "data.memory", "Schema": "data.schema",
    "Run": "run.run", "Views": "run.run",
    "load": "run.checkpoint:load_system",
}  # fmt: skip

__all__ = [
    "ActionSpace",
    "Clip",
    "Distribution",
    "MemoryStore",
    "Run",
    "Schema",
    "Segment",
    "Store",
    "System",
    "View",
    "Views",
    "__version__",
    "categorical",
    "compatible",
    "continuous",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'retrodict' has no attribute {name!r}")
    module, _, own = _HOME[name].partition(":")
    value = getattr(import_module(f"retrodict.{module}"), own or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
