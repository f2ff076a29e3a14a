"""BabyAI: minigrid's levels as the agent sees them, with their instructions and the bot that ships with them.

Frames are pixel for pixel those of minigrid's `RGBImgPartialObsWrapper`, but drawn from the symbolic view through a
table of tiles, all rows at once.
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64, UInt8

from retrodict.envs.world import World
from retrodict.errors import MissingPackage, UnknownName, UnusableInput
from retrodict.spaces import ActionSpace, categorical

VIEW = 7  # cells a side that the agent sees
ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
# In levels that only ask to go somewhere these change 4 % of frames (a key or ball picked up, a box opened).
ALIKE = ("pickup", "drop", "toggle", "done")
_GOING = ("BabyAI-GoToRedBall", "BabyAI-GoToRedBlueBall", "BabyAI-GoToObj-", "BabyAI-GoToObjS", "BabyAI-GoToLocal")
TEXTURES = ("plain", "bricks", "speckles")
_DONE = ACTIONS.index("done")


class BabyAI(World):
    """A level of BabyAI; `size` is a multiple of 7 pixels, 56 being minigrid's tile of 8. `textures` is how tiles look.

    Raises:
        MissingPackage: minigrid is not installed.
        UnknownName: no such level.
    """

    def __init__(
        self,
        n: int,
        level: str = "BabyAI-GoToRedBall-v0",
        size: int = 56,
        limit: int = 64,
        fps: int = 10,
        textures: str = "plain",
    ) -> None:
        level = level if level.startswith("BabyAI-") else f"BabyAI-{level}-v0"
        if size % VIEW or size < VIEW:
            raise UnusableInput(f"BabyAI needs a size that is a multiple of {VIEW}, such as 56; got {size}")
        if textures not in TEXTURES:
            raise UnknownName("texture pack", textures, TEXTURES)
        groups = [ALIKE] if level.startswith(_GOING) else []
        actions = ActionSpace((categorical("key", ACTIONS, groups),))
        super().__init__(level, n, (size, size), actions, fps, limit, spaces.Discrete(len(ACTIONS)))
        self.games = [_game(level, limit) for _ in range(n)]
        self._bots = [_Bot(game) for game in self.games]
        self._views = np.zeros((n, VIEW, VIEW, 3), np.uint8)
        self._tiles = _Tiles(size // VIEW, textures)

    def _start(self, mask: Bool[np.ndarray, "n"]) -> None:
        for row in np.flatnonzero(mask):
            game = self.games[row]
            game.forget()
            with redirect_stdout(io.StringIO()):  # minigrid prints every level that it draws and rejects
                view, _ = game.env.reset(seed=int(self.seeds[row]))
            self._views[row] = view["image"]
            self._bots[row] = _Bot(game)

    def _advance(
        self, actions: np.ndarray, live: Bool[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        for row in np.flatnonzero(live):
            game = self.games[row]
            self._bots[row].taken(int(actions[row]))
            game.forget()
            view, rewards[row], terminated[row], _, _ = game.env.step(int(actions[row]))
            self._views[row] = view["image"]
        return rewards, terminated, terminated & (rewards > 0)

    def _frames(self) -> UInt8[np.ndarray, "n h w 3"]:
        return self._tiles.draw(self._views)

    def expert(self) -> Int64[np.ndarray, "n"]:
        """Returns what the shipped BabyAIBot would do, having seen which actions were really taken."""
        over = self.done
        return np.array([_DONE if over[row] else bot.suggest() for row, bot in enumerate(self._bots)])

    def texts(self) -> tuple[str, ...]:
        """Returns the missions."""
        return tuple(str(game.env.mission) if on else "" for game, on in zip(self.games, self._started, strict=True))


class _Game:
    """One minigrid environment that works out its view once per state, however often it is asked, and faster."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self._seen: Any = None
        self._usual = env.gen_obs_grid
        env.gen_obs_grid = self._view

    def forget(self) -> None:
        """Says that the state is about to change."""
        self._seen = None

    def _view(self, agent_view_size: int | None = None) -> Any:
        if agent_view_size is not None or self.env.see_through_walls:
            return self._usual(agent_view_size)
        if self._seen is None:
            self._seen = self._look()
        return self._seen

    def _look(self) -> Any:
        """Does what minigrid's `gen_obs_grid` does by turning one list, where minigrid turns the grid cell by cell."""
        from minigrid.core.grid import Grid
        from minigrid.core.world_object import Wall

        world, wall = self.env.grid, Wall()
        left, top, *_ = self.env.get_view_exts()
        cells = [
            world.grid[y * world.width + x] if 0 <= x < world.width and 0 <= y < world.height else wall
            for y in range(top, top + VIEW)
            for x in range(left, left + VIEW)
        ]
        grid = Grid(VIEW, VIEW)
        grid.grid = [cells[k] for k in _TURNED[self.env.agent_dir]]
        visible = grid.process_vis(agent_pos=(VIEW // 2, VIEW - 1))
        grid.set(VIEW // 2, VIEW - 1, self.env.carrying)
        return grid, visible


def _turned() -> list[list[int]]:
    """For each direction of the agent, where the cells of an upright view come from."""
    cells = np.arange(VIEW * VIEW).reshape(VIEW, VIEW)
    return [np.rot90(cells, direction + 1).ravel().tolist() for direction in range(4)]


_TURNED = _turned()


def _game(level: str, limit: int) -> _Game:
    import gymnasium

    try:
        import minigrid  # noqa: F401  importing it registers its levels
    except ImportError as error:
        raise MissingPackage("minigrid", "the world BabyAI", "pip install 'retrodict[envs]'") from error
    if level not in gymnasium.registry:
        raise UnknownName("level", level, [name for name in gymnasium.registry if name.startswith("BabyAI-")])
    return _Game(gymnasium.make(level, max_steps=limit, disable_env_checker=True).unwrapped)


class _Bot:
    """The shipped bot, told what was really done; a fresh one takes over where it is lost."""

    def __init__(self, game: _Game) -> None:
        self.game = game
        self.bot: Any = None
        self.advice: int | None = None  # for the present state
        self.last: int | None = None  # action that led to it

    def taken(self, action: int) -> None:
        """Notes an action. A bot that was not asked in this state has lost track, so it goes."""
        if self.advice is None:
            self.bot = None
        self.advice, self.last = None, action

    def suggest(self) -> int:
        """Returns the bot's action for the present state."""
        if self.advice is None:
            self.advice = self._ask()
        return self.advice

    def _ask(self) -> int:
        from minigrid.utils.baby_ai_bot import BabyAIBot

        if self.bot is not None:
            try:
                return int(self.bot.replan(self.last))
            except Exception:  # the bot asserts and raises where random actions broke its plan: plan anew
                self.bot = None
        self.bot = BabyAIBot(self.game.env)  # type: ignore[no-untyped-call]
        try:
            return int(self.bot.replan())
        except Exception:  # it cannot solve this state at all (a needed box was opened): wait
            self.bot = None
            return _DONE


class _Tiles:
    """Every tile that was met, drawn once by minigrid and kept as a table."""

    def __init__(self, pixels: int, textures: str = "plain") -> None:
        self.pixels, self.textures = pixels, textures
        self._images = np.zeros((0, pixels, pixels, 3), np.uint8)
        self._number = np.full(2 * 256 * 8 * 4, -1)  # (agent here, type, colour, state) -> row of _images

    def draw(self, views: UInt8[np.ndarray, "n x y 3"]) -> UInt8[np.ndarray, "n h w 3"]:
        """Turns symbolic views into pictures; the agent stands in the middle of the last row, looking up."""
        kind, colour, state = np.moveaxis(views.astype(np.int64), -1, 0)
        codes = (kind * 8 + colour) * 4 + state
        codes[:, VIEW // 2, VIEW - 1] += 256 * 8 * 4
        for code in np.unique(codes[self._number[codes] < 0]):
            self._number[code] = len(self._images)
            self._images = np.concatenate([self._images, self._tile(int(code))[None]])
        tiles = self._images[self._number[codes]]  # n x y p p 3
        side = VIEW * self.pixels
        return np.ascontiguousarray(tiles.transpose(0, 2, 3, 1, 4, 5)).reshape(-1, side, side, 3)

    def _tile(self, code: int) -> UInt8[np.ndarray, "p p 3"]:
        from minigrid.core.grid import Grid
        from minigrid.core.world_object import WorldObj

        agent, kind, colour, state = code // (256 * 8 * 4), code // 32 % 256, code // 4 % 8, code % 4
        item = WorldObj.decode(kind, colour, state)  # None for empty and unseen cells
        image = Grid.render_tile(
            item, agent_dir=3 if agent else None, highlight=kind != 0, tile_size=self.pixels
        )  # what is seen is highlighted
        return _textured(np.asarray(image, np.uint8), self.textures)


def _textured(tile: UInt8[np.ndarray, "p p 3"], textures: str) -> UInt8[np.ndarray, "p p 3"]:
    """Draws a tile over a ground of the pack: bricks with joints, or speckles."""
    if textures == "plain":
        return tile
    y, x = np.mgrid[: len(tile), : len(tile)] * 8 // len(tile)
    joint = (y % 4 == 0) | ((x + 4 * (y // 4)) % 8 == 0)
    ground = np.where(joint, 30, 110) if textures == "bricks" else (x * 37 + y * 91 + x * y * 17) % 120
    tinted = tile * 0.6 + ground[..., None] * np.array([0.5, 0.4, 0.3])
    return np.asarray(tinted, np.uint8)
