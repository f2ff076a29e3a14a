"""Recording: episodes of a world under an actor, committed to a store in groups, resumable at any group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from retrodict.clip import Clip
from retrodict.data.schema import IMAGE_PIXELS, Schema
from retrodict.data.store import Store

if TYPE_CHECKING:
    from retrodict.data.schema import Episodes
    from retrodict.envs.rollout import Actor
    from retrodict.envs.world import World
    from retrodict.roles import System

GROUP = 50  # episodes that one commit acknowledges
LEVELS = 1_000_000  # levels that belong to one seed: seed s records levels from s * LEVELS
UNSEEN = 900_000_000  # first level that no recording has: what is published is measured from here, and played


@dataclass(frozen=True)
class Origin:
    """The world in which a dataset was recorded, by `retrodict record`; and the level of one of its episodes."""

    env: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    level: int | None = None


def origin_of(source: Episodes, id: str | None = None) -> Origin:
    """Returns what a dataset says of the world that it was recorded in; nothing where it was made in another way."""
    told: list[dict[str, Any]] = []
    for commit in getattr(source, "commits", ()):  # datasets of others say nothing
        if dict(commit.provenance) not in told:
            told.append(dict(commit.provenance))
    if len(told) != 1 or told[0].get("command") != "record":
        return Origin()
    level = None if id is None else int(told[0]["seed"]) * LEVELS + list(source.ids).index(id)
    return Origin(str(told[0]["env"]), dict(told[0]["options"]), level)


def recorded_in(system: System) -> Origin:
    """Returns the world in which a run says that its data was recorded; nothing where it does not say."""
    world = dict(system.about.get("data", {})).get("world") or {}
    return Origin(world.get("env"), world.get("options", {}))


def schema_of(world: World, rewards: bool = True) -> Schema:
    """The schema of what a world shows: its cameras, as images when small, as video when large."""
    video = max(world.size) > IMAGE_PIXELS
    return Schema(world.actions, world.cameras, world.fps, video=video, proprio=world.proprio, rewards=rewards)


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
