"""retrodict play: a page in the browser, in which a run's world is steered."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from retrodict.cli.verb import DONE, Loading


@dataclass(frozen=True, kw_only=True)
class Play(Loading):
    """Opens a page on this machine in which a run's world is steered, beside the real one where it is known.

    Keys are bound to true actions or to the codes that were found. Ctrl-C ends it.
    """

    folder: Annotated[Path | None, Positional, arg(metavar="FOLDER")] = None
    """Folder of the run (none: a small world that comes with retrodict)."""
    from_episode: Annotated[str, arg(name="from")] = ""
    """Begin with the first frame of an episode: D:EPISODE."""
    image: Path | None = None
    """Begin with a picture; one of another size is cut and resized."""
    env: str = ""
    """The real world to show beside, as for `retrodict record` (default: where the run's data was recorded)."""
    port: int = 0
    """Port on 127.0.0.1 (0: a free one)."""
    out: Path | None = None
    """Folder in which sessions are saved (default: runs/play/NAME)."""
    no_browser: bool = False
    """Only print the address."""

    def run(self, line: str) -> int:
        """Serves the page until Ctrl-C."""
        from retrodict.serve.browser import has_display, open_when_ready
        from retrodict.serve.guard import listen, server
        from retrodict.serve.server import guarded, largest
        from retrodict.serve.start import Wish, prepared

        self.admit()
        with listen(self.port) as socket:
            game = prepared(Wish(self.folder, self.out, self.from_episode or None, self.image, self.env or None))
            app = guarded(game, socket.getsockname()[1])
            self.tell(
                {"url": app.url, "out": str(game.shelf.out), "env": game.env, "notes": list(game.notes)},
                [*game.notes, f"play: {app.url}", f"Sessions are saved in {game.shelf.out}. Ctrl-C ends it."],
            )
            page = server(app, largest(game))
            if not self.no_browser and has_display():
                open_when_ready(page, app.url)
            with suppress(KeyboardInterrupt):  # the way in which it ends
                page.run(sockets=[socket])
        return DONE
