"""What all tests share: one thread, and a small recorded sprite world."""

from __future__ import annotations

import hypothesis
import pytest
import torch

from retrodict.contract import sprite_views
from retrodict.data.cache import Cache
from retrodict.run.run import Views

torch.set_num_threads(1)
hypothesis.settings.register_profile(
    "house", deadline=None, max_examples=200
)  # N6; how fast a machine is decides no test
hypothesis.settings.load_profile("house")


@pytest.fixture(scope="session")
def sprites() -> Views:
    """60 recorded episodes of Sprites at 36 pixels: all video without actions, and 64 labelled steps."""
    return sprite_views(episodes=60, labels=64)


@pytest.fixture(scope="session")
def cache(sprites: Views) -> Cache:
    """The frames of the same episodes, with every action."""
    return sprites.unlabelled.cache
