"""Measures published figures again, one command after the other; when it is stopped, the same command goes on.

Usage: python scripts/rerun.py --list
       python scripts/rerun.py [--recipe NAME] [--lanes 2] [--folder runs/rerun]

Commands are those that files under results/ name; figures of a recipe with as many seeds are one command. They run in
FOLDER/COMMIT, where new results lie under results/ and what a command says in a log; committed results stay as they
are. With several lanes, which want a core each, every lane has a folder there. COMMIT is the last that changed src or
benchmarks. results/rerun.json tells what is done, and what was done at that commit is not done again; to commit the
progress itself changes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock
from typing import Any

from recipe_pages import core_seconds

from retrodict.data.durable import WriterLock, sync_write, to_json
from retrodict.errors import Locked

ROOT = Path(__file__).resolve().parents[1]
CLAIM = r" --claim \S+"
GIVEN = r"[A-Z]+|runs/.*"  # words that stand for a run or a dataset, which only a reader can name


@dataclass(frozen=True)
class Job:
    """A command, and the seconds that its committed results took, as far as they say."""

    command: str
    seconds: float

    @property
    def by_hand(self) -> bool:
        """Whether it needs what no other command here makes."""
        return any(re.fullmatch(GIVEN, word) for word in shlex.split(self.command))


def spent(told: Any) -> float:
    """The seconds that a result tells of, of a core where it knows them: those of its parts, else its own."""
    parts = sum(map(spent, told.values() if isinstance(told, dict) else told if isinstance(told, list) else ()))
    own = told.get("cpu_seconds", told.get("seconds", 0)) if isinstance(told, dict) else 0
    return parts or (float(own) if isinstance(own, int | float) else 0.0)


def jobs(results: Path, recipe: str | None = None) -> list[Job]:
    """All commands in order, or those of one recipe."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(results.glob("*/*.json")):
        told = json.loads(path.read_text())
        if "command" in told and recipe in (None, told.get("recipe")):
            groups.setdefault(re.sub(CLAIM, "", told["command"]), []).append(told)
    return [joined(group) for group in groups.values()]


def joined(group: Sequence[dict[str, Any]]) -> Job:
    """The one command of figures that differ in their names alone."""
    claims = "".join(claim for told in group for claim in re.findall(CLAIM, told["command"]))
    seconds = core_seconds(group) if "preset" in group[0] else sum(map(spent, group))
    return Job(re.sub(CLAIM, claims, group[0]["command"]), seconds)


def commit_of_code() -> str:
    """The last commit that changed what measures."""
    words = ["git", "log", "-1", "--format=%h", "--abbrev=12", "--", "src", "benchmarks"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def done_at(progress: Path, commit: str) -> set[str]:
    """The commands that ended well at a commit."""
    entries = json.loads(progress.read_text()) if progress.is_file() else []
    return {entry["command"] for entry in entries if entry["commit"] == commit and entry["status"] == 0}


def run(command: str, folder: Path) -> int:
    """Runs a command in a folder, with this Python, and keeps what it says in a log there."""
    first, *rest = shlex.split(command)
    words = ["-m", "retrodict", *rest] if first == "retrodict" else [str(ROOT / rest[0]), *rest[1:]]
    (folder / "results/comparisons").mkdir(parents=True, exist_ok=True)
    with (folder / f"{re.sub(r'[^a-z0-9]+', '-', command.lower())[:100]}.log").open("ab") as log:
        return subprocess.run([sys.executable, *words], cwd=folder, stdout=log, stderr=log).returncode


def rerun(
    wanted: Sequence[Job], progress: Path, folder: Path, commit: str, run: Callable[[str, Path], int] = run,
    lanes: int = 1,
) -> bool:  # fmt: skip
    """Runs what is not done at this commit, and writes after each how it ended; true when all ended well.

    `lanes` commands run side by side, each lane in a folder of its own, so that none waits for another's recording.
    """
    done = done_at(progress, commit)
    left, turn, ends = iter([job for job in wanted if not job.by_hand and job.command not in done]), Lock(), list[int]()
    stopped = Event()

    def lane(where: Path) -> None:
        while True:
            with turn:
                job = None if stopped.is_set() else next(left, None)
            if job is None:
                return
            print(job.command, flush=True)
            when, began = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
            status = run(job.command, where)
            if stopped.is_set():  # by who stopped us, it was stopped as well
                return
            took = round(time.monotonic() - began, 1)
            entry = {"command": job.command, "when": when, "commit": commit, "seconds": took, "status": status}
            with turn:
                note(progress, entry)
                ends.append(status)
            print(f"exit status {status} after {took:.0f} s: {job.command}", flush=True)

    if lanes == 1:
        lane(folder)
    else:
        with ThreadPoolExecutor(lanes) as pool:
            try:
                for ended in [pool.submit(lane, folder / f"lane-{number}") for number in range(lanes)]:
                    ended.result()
            except BaseException:
                stopped.set()
                raise
    return not any(ends)


def note(progress: Path, entry: dict[str, Any]) -> None:
    """Adds how a command ended to what is known."""
    entries = json.loads(progress.read_text()) if progress.is_file() else []
    sync_write(progress, to_json([*entries, entry]))


def listing(wanted: Sequence[Job], done: set[str]) -> str:
    """One line for each command: the hours that its committed results took, and whether it is done."""
    lines = []
    for job in wanted:
        state = "by hand" if job.by_hand else "done" if job.command in done else "to do"
        hours = f"{job.seconds / 3600:6.2f}" if job.seconds else f"{'?':>6}"
        lines.append(f"{hours} h  {state:7}  {job.command}")
    left = sum(job.seconds for job in wanted if not job.by_hand and job.command not in done) / 3600
    return "\n".join([*lines, f"{left:6.2f} h  to do, as far as results say what they took"])


def main() -> int:
    """Lists, or runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default=None, metavar="NAME")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs/rerun")
    parser.add_argument("--lanes", type=int, default=1, choices=range(1, 9), help="commands that run side by side")
    parser.add_argument("--list", action="store_true", help="tell what would be run, and change nothing")
    given = parser.parse_args()
    wanted, progress, commit = jobs(ROOT / "results", given.recipe), ROOT / "results/rerun.json", commit_of_code()
    if not wanted:
        parser.error(f"no result of a recipe {given.recipe!r} is committed; folders of results/ have its names")
    if given.list:
        print(listing(wanted, done_at(progress, commit)))
        return 0
    try:
        held = WriterLock(ROOT / "runs/rerun.lock", progress)  # two at a time would lose each other's progress
    except Locked as error:
        parser.error(str(error))
    if given.lanes > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # a core each
    try:
        return 0 if rerun(wanted, progress, given.folder.resolve() / commit, commit, lanes=given.lanes) else 1
    finally:
        held.release()


if __name__ == "__main__":
    sys.exit(main())
