"""Steering a world through the browser's own door: key to frame, frames per second, and memory, by a scripted client.

Usage: python benchmarks/play.py [--run FOLDER] [--size 64] [--players 4] [--steps 300] [--frames 10000] [--out FILE]

Prints what it measured, and writes it to --out (docs/play.md shows results/comparisons/play.json). Without --run, the
world is a next-frame model of `--size` pixels with random weights (speed does not depend on them) and an inverse model
that judges every step. The server is a process of its own with one thread for torch, the players are threads of this
one, each on a websocket as the page opens it.

- From the command without an argument, as a process, to the first frame that a page is sent.
- Step by step: a key is told, and the time until its frame is here is taken. The server says how long the model took
  (waiting for the batch before it included) and how long frames took to become bytes; the rest is the network: both
  sockets, the event loop, and reading the frame.
- In real time: keys change at random moments while the world runs at its own rate; one is always held, as a world in
  which nobody rests waits for one.
- Several players at once, against one: frames per second of all together, as a ratio.
- The frame rate of a player in real time while two others attack from a process of their own, each way apart: as a
  share of its rate in peace.
- Without a server, a frame from the state that was kept, against one for which all that was seen is looked at again.
- Memory of the server over `--frames` frames of one session, from its thousandth on.

Targets: 10 frames/s or more, median 120 ms and 95th percentile 200 ms from key to frame, memory constant.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from retrodict import rng
from retrodict.clip import Clip
from retrodict.figures.claims import commit_of_source
from retrodict.models.frame_world import FrameForward
from retrodict.models.inverse import Inverse
from retrodict.roles import ForwardModel, System, View
from retrodict.run.checkpoint import load_system, save_system, system_hash
from retrodict.run.run import versions
from retrodict.serve import server as page
from retrodict.serve.guard import PROTOCOL, listen, server
from retrodict.serve.messages import unpack
from retrodict.serve.server import guarded, largest
from retrodict.serve.start import Wish, prepared
from retrodict.spaces import ActionSpace, Distribution, categorical

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "serve"))
import attacks
import toy

Row = tuple[str, str, str]  # what, measured, target
On = Callable[[], bool]
Attack = Callable[[str, str, On], None]  # of a host, by a token, as long as it is on
SPACE = ActionSpace((categorical("move", ("stay", "up", "down", "left", "right")),))


def world(folder: Path, size: int) -> None:
    """Saves a world and an inverse model with random weights."""
    with rng.isolated("benchmark"):
        forward = FrameForward(View(size=(size, size)), SPACE)
        inverse = Inverse(View(frames=2, size=(size, size)), SPACE)
    save_system(folder / "system", System(forward=forward, inverse=inverse))


def serve(run: Path, image: Path, free: bool) -> None:
    """The server's process: prints its address, and lasts until its input ends."""
    torch.set_num_threads(1)
    if free:  # to measure memory over many frames in little time
        page.MESSAGES = page.BURST = 1e9
    with listen(0) as socket, tempfile.TemporaryDirectory() as out:
        game = prepared(Wish(run, Path(out), image=image))
        app = guarded(game, socket.getsockname()[1])
        running = server(app, largest(game))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [socket]})
        thread.start()
        print(app.url, flush=True)
        sys.stdin.read()
        running.should_exit = True
        thread.join()


@contextmanager
def served(run: Path, image: Path, free: bool = False) -> Iterator[tuple[str, str, int]]:
    """Runs the server apart: (host, token, process number)."""
    command = [sys.executable, __file__, "--serve", str(run), str(image), *(["--free"] if free else [])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    host, _, token = process.stdout.readline().strip().removeprefix("http://").partition("/#")
    try:
        yield host, token, process.pid
    finally:
        process.communicate(timeout=20)


class Client:
    """One player: what is told, and when which frame came."""

    def __init__(self, host: str, token: str) -> None:
        own: dict[str, Any] = {"origin": f"http://{host}", "subprotocols": [PROTOCOL, token], "compression": None}
        self.line: ClientConnection = connect(f"ws://{host}/socket", **own).__enter__()
        self.presses, self.frames = 0, 0
        self.tell("sit", seat="")
        while self.heard()["kind"] != "effects":
            pass

    def tell(self, command: str, **fields: Any) -> None:
        """Tells the server something."""
        self.line.send(json.dumps({"do": command, **fields}))

    def heard(self, timeout: float = 60.0) -> dict[str, Any]:
        """Returns the next message without its pictures, which are read as the page reads them."""
        message = self.line.recv(timeout=timeout)
        told: dict[str, Any] = json.loads(message) if isinstance(message, str) else unpack(message)[0]
        assert told["kind"] != "error", told
        self.frames += told["kind"] == "frame"
        return told

    def until_frame(self) -> dict[str, Any]:
        """Waits for the first frame that knows the last press."""
        while True:
            told = self.heard()
            if told["kind"] == "frame" and told["press"] >= self.presses:
                return told

    def step(self, key: str, held: bool = False) -> tuple[float, dict[str, float]]:
        """Presses a key, and perhaps holds it: milliseconds until its frame, and what the server says of them."""
        if held:  # what is down already does not go down
            self.tell("hold", keys=[], press=self.presses)
        self.presses += 1
        began = time.perf_counter()
        self.tell("hold", keys=[key], press=self.presses)
        told = self.until_frame()
        passed = 1000 * (time.perf_counter() - began)
        if not held:
            self.tell("hold", keys=[], press=self.presses)
        return passed, told["ms"]

    def close(self) -> None:
        """Leaves."""
        self.line.close()


def keys() -> Iterator[str]:
    """Random keys, the same every time."""
    dice = rng.numpy_rng("benchmark", "keys")
    while True:
        yield f"0:{dice.integers(1, 5)}"


def step_by_step(host: str, token: str, steps: int) -> list[Row]:
    """Presses one key after the other, as often as a page may, and says where the time goes."""
    client, pressed, rows = Client(host, token), keys(), []
    for _ in range(steps):
        total, ms = client.step(next(pressed))
        model = ms["wait"] + ms["model"]
        rows.append((total, model, ms["encode"], total - ms["all"] - ms["encode"], ms["all"] - model))
        time.sleep(max(0.0, (40 - total) / 1000))  # within the messages that a page may send
    client.close()
    middle, most = np.median(rows, 0), np.quantile(rows, 0.95, 0)
    parts = ", ".join(
        f"{n} {m:.1f}" for n, m in zip(("model", "encoding", "network", "session"), middle[1:], strict=True)
    )
    told = f"{middle[0]:.0f} ms median, {most[0]:.0f} ms at the 95th percentile ({parts})"
    return [(f"key to frame, step by step, {steps} keys", told, "")]


def in_real_time(host: str, token: str, presses: int) -> list[Row]:
    """Lets the world run, presses keys at random moments, and says rate and latency."""
    client, pressed, dice, passed = Client(host, token), keys(), rng.numpy_rng("benchmark", "moments"), []
    client.tell("run", on=True)
    began, before = time.perf_counter(), client.frames
    for _ in range(presses):
        end = time.perf_counter() + dice.uniform(0.05, 0.35)
        with suppress(TimeoutError):
            while (left := end - time.perf_counter()) > 0:
                client.heard(left)
        total, _ = client.step(next(pressed), held=True)
        passed.append(total)
    rate = (client.frames - before) / (time.perf_counter() - began)
    client.close()
    half, most = np.quantile(passed, [0.5, 0.95])
    told = f"{half:.0f} ms median, {most:.0f} ms at the 95th percentile"
    return [
        (f"key to frame, in real time, {presses} keys", told, "120, 200"),
        ("frames a second in real time", f"{rate:.1f}", "10"),
    ]


def together(host: str, token: str, players: int, steps: int) -> float:
    """Returns frames per second of so many players who press as fast as frames come."""
    clients = [Client(host, token) for _ in range(players)]

    def play(client: Client) -> None:
        pressed = keys()
        for _ in range(steps):
            client.step(next(pressed))

    threads = [threading.Thread(target=play, args=(client,)) for client in clients]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = players * steps / (time.perf_counter() - began)
    for client in clients:
        client.close()
    return rate


def noise(host: str, token: str, on: On) -> None:
    """Sits down, and says what means nothing as fast as it goes."""
    with attacks.connecting(host, token) as line:
        line.send('{"do": "sit", "seat": ""}')
        while on():
            line.send("x" * 1000)
            line.ping()


def bent(host: str, token: str, on: On) -> None:
    """Tells a hundred messages bent in every way, and more of them."""
    for seed in count():
        if not on():
            return
        with attacks.connecting(host, token) as line, suppress(ConnectionClosed):
            for message in ('{"do": "sit", "seat": ""}', *attacks.mutants(100, seed)):
                line.send(message)


def held(host: str, token: str, on: On) -> None:
    """Opens a thousand connections that say a byte each, and holds them."""
    name, _, port = host.partition(":")
    with ExitStack() as stack:
        for _ in range(1000):
            attacks.send_all(stack.enter_context(socket.create_connection((name, int(port)), 10)), b"G")
        while on():
            time.sleep(0.05)


def bytes_of(attack: bytes) -> Attack:
    """Sends these bytes through a websocket, and through another."""

    def attacking(host: str, token: str, on: On) -> None:
        while on():
            with attacks.bare(host, token) as line:
                attacks.send_all(line, attack)

    return attacking


WAYS: dict[str, Attack] = {"noise": noise, "bent messages": bent, "connections that hold on": held} | {
    name: bytes_of(attack) for name, attack in attacks.ATTACKS.items()
}


def attack(way: str, host: str, token: str) -> None:
    """The attackers' process: two of them, without a pause, from a line of its input to its end."""
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # of those who send noise
    stop = threading.Event()

    def attacking() -> None:
        while not stop.is_set():
            with suppress(WebSocketException, OSError, EOFError, AssertionError):  # refused, it tries again
                WAYS[way](host, token, lambda: not stop.is_set())

    threads = [threading.Thread(target=attacking, daemon=True) for _ in range(2)]
    print("ready", flush=True)
    sys.stdin.readline()
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join(5)


def attacked(way: str, host: str, token: str, seconds: float) -> Row:
    """Says the rate of one who plays in real time beside two who mean harm in this way, of that in peace before."""
    command = [sys.executable, __file__, "--attack", way, host, token]
    attackers = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert attackers.stdin is not None
    assert attackers.stdout is not None
    assert attackers.stdout.readline() == "ready\n"
    client = Client(host, token)
    client.tell("run", on=True)
    client.step("0:1", held=True)

    def rate() -> float:
        began, before = time.perf_counter(), client.frames
        while time.perf_counter() - began < seconds:
            client.heard()
        return (client.frames - before) / seconds

    peace = rate()
    attackers.stdin.write("go\n")
    attackers.stdin.flush()
    war = rate()
    attackers.communicate(timeout=30)
    client.close()
    return f"the same beside two: {way}", f"{war / peace:.2f} of the rate in peace", "0.8"


def memory(host: str, token: str, pid: int, frames: int) -> list[Row]:
    """Plays one long session and says the server's memory on the way."""
    client, pressed, marks = Client(host, token), keys(), []
    for i in range(frames):
        client.step(next(pressed))
        if (i + 1) % max(1, frames // 10) == 0:
            marks.append(megabytes(pid))
    client.close()
    told = f"{marks[0]:.0f} MB after the first tenth, {marks[-1]:.0f} MB at the end, at most {max(marks):.0f}"
    return [(f"memory of the server over {frames:,} frames", told, "constant")]


def megabytes(pid: int) -> float:
    """Memory that a process holds."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def first_frame() -> float:
    """Seconds from `retrodict play` without an argument, as a process, to the first frame that a page is sent."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "retrodict", "play", "--no-browser", "--json", "--threads", "1"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([*command, "--out", folder], stdout=subprocess.PIPE, text=True)
        told = toy.told_by(process)
        host, _, token = told["url"].removeprefix("http://").partition("/#")
        own: dict[str, Any] = {"origin": f"http://{host}", "subprotocols": [PROTOCOL, token], "compression": None}
        with connect(f"ws://{host}/socket", **own) as line:
            line.send('{"do": "sit", "seat": ""}')
            while isinstance(message := line.recv(timeout=60), str) or unpack(message)[0]["kind"] != "frame":
                pass
            passed = time.perf_counter() - began
        process.send_signal(signal.SIGINT)
        process.wait(20)
    return passed


@torch.no_grad()
def remembered(forward: ForwardModel, noise: np.ndarray, seen: int = 16, rounds: int = 20) -> list[Row]:
    """A frame of the world alone, with the state that it keeps and without one; and how large the world is."""
    draw = rng.torch_rng("benchmark", "remembered")
    frames, taken = [torch.from_numpy(noise).permute(2, 0, 1)[None, None]], []
    state = forward.observe(Clip(frames=frames[0]))
    for _ in range(seen - 1):
        taken.append(Distribution(forward.space, torch.zeros(1, 1, forward.space.parameters)).sample(draw))
        dream, state = forward.imagine(state, taken[-1], 1, draw)
        shown = forward.decode(dream).frames
        assert shown is not None, "a world that shows no frames"
        frames.append(shown[:, 1:])
    past = Clip(frames=torch.cat(frames, 1), actions=torch.cat(taken, 1))
    best = {"kept": float("inf"), "anew": float("inf")}
    for _ in range(rounds):
        for way in best:
            began = time.perf_counter()
            forward.decode(forward.imagine(state if way == "kept" else forward.observe(past), taken[-1], 1, draw)[0])
            best[way] = min(best[way], 1000 * (time.perf_counter() - began))
    assert isinstance(forward, torch.nn.Module)
    size = sum(weights.numel() for weights in forward.parameters())
    return [
        ("parameters of the world", f"{size:,}, {noise.shape[0]} x {noise.shape[1]} pixels", "2,500,000 at most"),
        (
            f"a frame of the world alone, after {seen} frames",
            f"{best['kept']:.1f} ms from the state that it keeps, {best['anew']:.1f} ms where all are looked at again",
            "",
        ),
    ]


def main() -> None:
    """Measures all of it."""
    options = argparse.ArgumentParser()
    options.add_argument("--run", type=Path)
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--players", type=int, default=4)
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--frames", type=int, default=10_000)
    options.add_argument("--out", type=Path)
    options.add_argument("--serve", nargs=2, type=Path, help=argparse.SUPPRESS)
    options.add_argument("--free", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--attack", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        serve(*given.serve, given.free)
        return
    if given.attack:
        attack(*given.attack)
        return
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        folder, image = Path(name) / "world", Path(name) / "first.png"
        if given.run is None:
            world(folder, given.size)
        run = given.run or folder
        forward = load_system(run).forward
        assert forward is not None, f"{run} has no world to play"
        noise = rng.numpy_rng("benchmark", "image").integers(0, 256, (*forward.view.size, 3), np.uint8)
        Image.fromarray(noise).save(image)
        torch.set_num_threads(1)
        begun = min(first_frame() for _ in range(3))
        alone = [("from `retrodict play` to its first frame, best of 3", f"{begun:.1f} s", "10 s")]
        alone += remembered(forward, noise)
        with served(run, image) as (host, token, _):
            rows = alone + step_by_step(host, token, given.steps)
            rows += in_real_time(host, token, max(30, given.steps // 5))
        for way in WAYS:
            with served(run, image) as (host, token, _):  # what one way left behind is no burden for the next
                rows.append(attacked(way, host, token, 5.0))
        with served(run, image, free=True) as (host, token, pid):
            one, all_of_them = together(host, token, 1, given.steps), together(host, token, given.players, given.steps)
            rows.append(
                (f"{given.players} players together, against one", f"{all_of_them:.0f} frames/s against {one:.0f}", "")
            )
            rows += memory(host, token, pid, given.frames)
    for what, measured, target in rows:
        print(f"{what}: {measured}" + (f" ({target})" if target else ""))
    if given.out is not None:
        about = load_system(given.run).about if given.run else {}
        told = {
            "world": given.run.name if given.run else f"random weights, {given.size} pixels", "rows": rows,
            **({"system": system_hash(given.run), **{key: about.get(key) for key in ("recipe", "config", "seed")}}
               if given.run else {}),
            "command": f"python benchmarks/play.py --run {given.run}" if given.run else "python benchmarks/play.py",
            "commit": commit_of_source(), "versions": versions(),
        }  # fmt: skip
        given.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
