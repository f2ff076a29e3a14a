"""The demo: unlabelled video and a handful of labels in; labels with confidence, policies and an honest report out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrodict.cli.verb import DONE, Verb
from retrodict.errors import Interrupted, UnknownName, UnusableInput

LAPO_SECONDS = 105.0  # time share of the latent action model in the five-minute demo


@dataclass(frozen=True, kw_only=True)
class Demo(Verb):
    """Runs the whole loop in a built-in world and writes a report to open in the browser."""

    world: str = "babyai"
    """sprites, babyai or maze (maze needs: retrodict doctor --install procgen)."""
    labels: int = 64
    """Number of actions that are not hidden."""
    seed: int = 0
    """Seed of the levels, the labels and the weights."""
    out: Path = Path("runs/demo")
    """Folder for the dataset, the runs and report.html; the same command goes on where it was stopped."""
    full: bool = False
    """Three seeds and 16, 64, 256 and 1,024 labels: about an hour."""
    micro: bool = False
    """As small as it gets, in seconds: shows that everything works, and no more."""

    def run(self, line: str) -> int:
        """Does the jobs in two lanes and writes the report."""
        from retrodict.cli.demo_jobs import Plan

        self._check()
        began = time.monotonic()
        seconds = 0.0 if self.full or self.micro else LAPO_SECONDS
        plan = Plan(self.world, str(self.out), self.micro, seconds, self.seed)
        self.out.mkdir(parents=True, exist_ok=True)
        self._same_settings()
        first = [] if self.world == "sprites" or self.micro else [self._sprites()]
        lanes = self._lanes()
        self._do(plan, lanes[0], line, first)
        self._do(plan, lanes[1], line)
        self._report(plan, line, time.monotonic() - began)
        return DONE

    def _check(self) -> None:
        from retrodict.figures.trial import setting

        if self.world not in ("sprites", "babyai", "maze"):
            raise UnknownName("world for the demo", self.world, ("sprites", "babyai", "maze"))
        if self.full and self.labels != 64:
            raise UnusableInput("--full compares 16, 64, 256 and 1,024 labels; leave out --labels")
        if self.labels < 8:
            raise UnusableInput(f"the demo needs at least 8 labels to learn and to check itself; got {self.labels}")
        if not self.micro and self.labels > (most := setting(self.world).frames // 4):
            raise UnusableInput(f"the demo hides actions: at most {most} of its frames keep theirs; got {self.labels}")
        if self.world == "maze":
            from retrodict.envs.catalog import make

            make("maze", 1)  # says at once what is missing

    def _same_settings(self) -> None:
        """Refuses a folder that holds another demo's results."""
        from retrodict.data.durable import sync_write

        record, now = self.out / "demo.json", {
            "world": self.world, "labels": self.labels, "seed": self.seed, "full": self.full, "micro": self.micro,
        }  # fmt: skip
        if record.exists() and (old := json.loads(record.read_text())) != now:
            differs = [f"{key} {old.get(key)} -> {now[key]}" for key in now if old.get(key) != now[key]]
            raise UnusableInput(
                f"{self.out} holds a demo with other settings ({', '.join(differs)}). Give another --out, or remove it."
            )
        sync_write(record, json.dumps(now).encode())

    def _sprites(self) -> list[Any]:
        """The first result: the small world, in the lane beside the recording."""
        from retrodict.cli.demo_jobs import Job

        return [Job("first", 64, self.seed)]

    def seeds(self) -> tuple[int, ...]:
        """Seeds of the trials."""
        return tuple(range(self.seed, self.seed + 3)) if self.full else (self.seed,)

    def _lanes(self) -> tuple[tuple[list[Any], ...], tuple[list[Any], ...]]:
        """Two rounds of lanes: recording, then everything else spread over two processes."""
        from retrodict.cli.demo_jobs import BUDGETS, Job

        records = [Job("record", 0, seed) for seed in self.seeds()]
        if self.full:
            one = [Job("vpt", n, s) for s in self.seeds() for n in BUDGETS]
            two = [Job("lapo", n, s) for s in self.seeds() for n in BUDGETS]
            two += [Job("bc", n, s) for s in self.seeds() for n in (*BUDGETS, 0)] + [Job("baselines", 0, self.seed)]
            return (records,), (one, two)
        seed, n = self.seed, self.labels
        others = [Job("inverse", count, seed) for count in BUDGETS if count != n]
        one = [Job("vpt", n, seed), Job("bc", n, seed), *others, Job("baselines", 0, seed)]
        two = [Job("lapo", n, seed), Job("bc", 0, seed)]
        return (records,), (one, two)

    def _do(self, plan: Any, lanes: Sequence[list[Any]], line: str, more: Sequence[list[Any]] = ()) -> None:
        """Runs lanes side by side, each a process with one thread, and waits for them."""
        from dataclasses import replace

        from retrodict.cli.demo_jobs import do
        from retrodict.run.log import Log

        every = tuple(tuple(lane) for lane in (*lanes, *more))
        if self.micro:  # processes cost more than the work
            for lane in every:
                for job in lane:
                    do(plan, job, Log(quiet=True))
            return
        path = self.out / "plan.json"
        path.write_text(replace(plan, lanes=every).to_json())
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "retrodict.cli.demo_jobs", str(path)]
        running = [subprocess.Popen([*command, str(number)], env=environment) for number in range(len(every))]
        try:
            codes = [process.wait() for process in running]
        except BaseException:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()
            raise
        for code in codes:
            if code in (130, 143):
                raise Interrupted("stopped", f"what was committed is kept. Resume with: {line}", code)
            if code:
                raise UnusableInput(f"a part of the demo failed (exit {code}); its message is above")

    def _report(self, plan: Any, line: str, seconds: float) -> None:
        from retrodict.cli.demo_page import result
        from retrodict.cli.demo_pictures import pictures
        from retrodict.report import page, table

        shown = result(self, plan, line)
        page.write(self.out / "report.html", shown, pictures(plan, self.seed, self.labels))
        (self.out / "result.json").write_text(json.dumps(shown, indent=1))
        if self.full:  # what is committed as results/demo/WORLD.json: no times and no folders of this machine
            kept = {key: value for key, value in shown.items() if key not in ("stages", "commands", "notes")}
            kept["command"] = f"retrodict demo --world {self.world} --full"
            (self.out / "committed.json").write_text(json.dumps(kept, indent=1) + "\n")
        print(table.text_table(shown))
        print(f"report: {self.out / 'report.html'}  ({seconds:.0f} s)")
