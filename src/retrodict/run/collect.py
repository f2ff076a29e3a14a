"""Recording: episodes of a world under an actor, committed to a store in groups, resumable at any group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from retrodict.clip import Clip
from retrodict.data.schema import IMAGE_PIXELS, Schema
from retrodict.data.store import Store

if TYPE_CHECKING:
    from retrodict.envs.rollout import Actor
    from retrodict.envs.world import World

GROUP = 50  # episodes that one commit acknowledges


def schema_of(world: World, rewards: bool = True) -> Schema:
    """The schema of what a world shows: its cameras, as images when small, as video when large."""
    video = max(world.size) > IMAGE_PIXELS
    return Schema(world.actions, world.cameras, world.fps, video=video, rewards=rewards)


def collect(
    world: World,
    levels: Sequence[int],
    actor: Actor,
    store: Store,
    provenance: Mapping[str, Any],
    frames: int = 0,
    say: Callable[[str], None] | None = None,
    group: int = GROUP,
) -> None:
    """Plays levels and appends their episodes in groups; with `frames`, until the store holds at least that many."""
    from retrodict.envs.rollout import rollout

    episodes: Iterator[Clip] = (clip for clip, _, _ in rollout(world, levels, actor))
    if frames:
        episodes = _until(episodes, frames - sum(store.lengths.values()))
    while clips := list(islice(episodes, group)):
        store.append(clips, provenance)
        if say is not None:
            say(f"committed {len(store.ids)} episodes, {sum(store.lengths.values())} frames")


def _until(episodes: Iterator[Clip], frames: int) -> Iterator[Clip]:
    while frames > 0:
        clip = next(episodes)
        frames -= clip.length
        yield clip
