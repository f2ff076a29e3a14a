"""retrodict imagine: what a run's world makes of recorded actions, beside what really came."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from retrodict.cli.verb import DONE, Loading, table
from retrodict.errors import UnusableInput

if TYPE_CHECKING:
    from retrodict.clip import Clip
    from retrodict.measure.worlds import HorizonError
    from retrodict.report.film import Picture
    from retrodict.roles import ForwardModel, System, View
    from retrodict.spaces import ActionSpace

DIM = 0.4  # brightness, on the dream's side, of frames that were seen
COLUMNS = ("step_ahead", "error", "of_last_frame", "skill", "PSNR")


@dataclass(frozen=True, kw_only=True)
class Imagine(Loading):
    """Shows a run's world the first frames of an episode, lets it imagine the rest, and writes both side by side.

    What is real is left, what is imagined right, dimmed while it is shown real frames. Errors are mean squared, of
    grey levels, beside those of showing the last seen frame for ever; of a world that is shown numbers, of those.
    """

    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """Folder of the run."""
    from_episode: Annotated[str, arg(name="from")]
    """The episode, as D:EPISODE; its actions are imagined under."""
    out: Path
    """Video to write, an mp4 file."""
    seen: int = 8
    """Frames of the episode that the world is shown before it imagines."""
    steps: int = 0
    """Steps that it imagines (0: until the episode ends)."""
    seed: int = 0
    """Of a world that draws."""

    def run(self, line: str) -> int:
        """Imagines, writes the video, and tells the errors."""
        if self.seen < 1 or self.steps < 0:
            raise UnusableInput(f"--seen must be 1 or more, and --steps 0 or more; got {self.seen} and {self.steps}")
        from retrodict.data.foreign import open_episode
        from retrodict.figures.world_figures import opening
        from retrodict.measure.obedience import imagined
        from retrodict.report.film import refuse_unfit
        from retrodict.run.checkpoint import load_system

        refuse_unfit(self.out)
        self.admit()
        system = load_system(self.folder)
        if system.forward is None:
            raise UnusableInput(
                f"{self.folder} has no world to imagine with; train a recipe that has one, such as lapo"
            )
        source, id = open_episode(self.from_episode)
        length = min(source.lengths[id], self.seen + self.steps) if self.steps else source.lengths[id]
        forward, clip, how = heard(system, opening(source, id, length, system.forward.view.size), source.schema.space)
        ahead, left = self._ahead(clip), clip.steps - self.seen + 1
        assert clip.frames is not None  # of an episode with cameras
        assert clip.actions is not None  # heard of
        begin = self.seen - 1
        dream = imagined(forward, clip.cut(0, self.seen), clip.actions[:, begin : begin + ahead], self.seed)
        real, made, video = clip.frames, dream.frames, str(self.out)
        if made is None:  # this world sees and imagines numbers
            assert clip.proprio is not None
            assert dream.proprio is not None
            real, made, video = clip.proprio[..., None, None], dream.proprio[..., None, None], ""
        real = real[:, : self.seen + ahead]
        if video:
            film_of(self.out, real[0], made[0], forward.view, source.schema.fps)
        steps = points(errors(real[:, begin:], made))
        if not video:  # decibels are of grey levels
            steps = [{name: value for name, value in point.items() if name != "PSNR"} for point in steps]
        told = {"run": str(self.folder), "episode": self.from_episode, "seen": self.seen, "steps": ahead,
                "left_out": left - ahead, "actions": how, "video": video or None, "errors": steps}  # fmt: skip
        more = f"{left - ahead} more were not: an action is missing, or is none of this world's"
        rows = [point for point in steps if _shown(point["step_ahead"], ahead)]
        self.tell(told, [
            f"{self.from_episode}: {self.seen} frames seen, {ahead} steps imagined under the actions {how}",
            *([more] if left > ahead else []),
            *table(rows, COLUMNS if video else COLUMNS[:-1]),
            f"real | imagined in {video}" if video else "no video: this world imagines numbers, as its run was shown",
        ])  # fmt: skip
        return DONE

    def _ahead(self, clip: Clip) -> int:
        """Steps that can be imagined: until an action is missing."""
        known = clip.known[0, self.seen - 1 :].tolist()
        ahead = known.index(False) if False in known else len(known)
        if not ahead:
            raise UnusableInput(
                f"{self.from_episode} has no known action after {self.seen} of its frames; show fewer: --seen"
            )
        return ahead


def heard(system: System, clip: Clip, recorded: ActionSpace) -> tuple[ForwardModel, Clip, str]:
    """Returns the world, the clip with actions that it understands, and where they are from: those recorded where an
    adapter or the world itself takes them, else codes that the run's inverse reads.

    Raises:
        Incompatible: it understands neither.
    """
    from retrodict.measure.obedience import told

    forward = system.decoded().forward
    if forward is not None and forward.space == recorded:
        return forward, clip, "recorded"
    forward = system.forward
    assert forward is not None  # asked before
    found = told(clip, recorded, forward, system.inverse)
    return forward, found, "read by its inverse model" if forward.space.latent else "recorded"


def errors(real: Any, dream: Any) -> HorizonError:
    """Errors by step ahead of what was imagined from the first of these frames on, "1 t c h w" both."""
    from retrodict.measure.worlds import error_by_horizon, row_errors

    truth, made = real.cpu().numpy(), dream.cpu().numpy()
    return error_by_horizon(*row_errors(made[:, 1:], truth[:, 1:], truth[:, 0]))


def points(found: HorizonError) -> list[dict[str, Any]]:
    """The errors as plain JSON values; skill is None where the last seen frame is right for ever."""
    from retrodict.measure.worlds import decibels

    columns = zip(found.model.tolist(), found.copy.tolist(), found.skill, decibels(found.model).tolist(), strict=True)
    return [
        {"step_ahead": k, "error": model, "of_last_frame": copy, "skill": skill and skill.value, "PSNR": quality}
        for k, (model, copy, skill, quality) in enumerate(columns, 1)
    ]


def _shown(step: int, last: int) -> bool:
    """Powers of two and the last step are told to people."""
    return step == last or step & (step - 1) == 0


def film_of(path: Path, real: Any, dream: Any, view: View, fps: int) -> None:
    """Writes frames "t c h w" beside what was imagined, whose first frame is the last one seen."""
    from retrodict.report import film
    from retrodict.serve.pictures import picture_of

    seen = len(real) - len(dream) + 1

    def pictures() -> Iterator[Picture]:
        for t, frame in enumerate(real):
            left = picture_of(frame, view)
            right = (left * DIM).astype(left.dtype) if t < seen else picture_of(dream[t - seen + 1], view)
            yield film.beside(left, right)

    film.write(path, pictures(), fps)
