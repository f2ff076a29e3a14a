"""Moving clips for the demo's report: held-out episodes with the predicted action and its confidence drawn on."""

from __future__ import annotations

from retrodict.cli.demo_jobs import Plan
from retrodict.data.batch import Steps
from retrodict.figures import trial
from retrodict.label.infer import infer_steps
from retrodict.report.pictures import ClipPicture
from retrodict.run.checkpoint import load_system

CLIPS = 6


def pictures(plan: Plan, seed: int, labels: int) -> list[ClipPicture]:
    """Labels the longest of the first held-out episodes with the inverse model of the first seed."""
    folder = plan.folder(seed) / f"vpt-{labels}"
    inverse = load_system(folder).inverse
    assert inverse is not None, "vpt always has an inverse model"
    test = trial.held_out(plan.setting, plan.test)
    segment = test.space.segments[0]
    lengths = [int(n) for n in test.starts[1:] - test.starts[:-1]]
    longest = sorted(range(min(60, len(lengths))), key=lambda number: -min(lengths[number], 24))
    chosen = sorted(longest[:CLIPS])
    shown = []
    for number in chosen:
        steps = Steps.all(test, (test.ids[number],))
        belief = infer_steps(inverse, steps)
        names = segment.merged_names
        said, true = test.space.classes(belief.mode()), test.space.classes(steps.target_actions())
        frames = test.frames[test.starts[number] : test.starts[number + 1]][:25].transpose(0, 2, 3, 1)
        count = len(frames) - 1
        shown.append(
            ClipPicture(
                frames=frames.copy(),
                truth=[names[int(i)] for i in true[:count]],
                predicted=[names[int(i)] for i in said[:count]],
                confidence=[float(c) for c in belief.confidence()[:count].clamp(0, 1)],
                source=["predicted"] * count,
                title=test.texts[number] or f"held-out episode {number}",
            )
        )
    return shown
