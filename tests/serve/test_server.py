"""W1 to W4 and W6: who may ask and what is answered, what may be told and how much; and that the honest player goes on.

Everything goes through real sockets to a running server. Routes are those that the app itself lists.
"""

from __future__ import annotations

import asyncio
import json
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import toy
from attacks import ATTACKS, WEBSOCKET, bare, connecting, ended, flood, frame, mutants, send_all
from starlette.routing import Route, WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from retrodict.serve import guard
from retrodict.serve.beside import Beside
from retrodict.serve.guard import LONGEST_REQUEST, MOST_CONNECTIONS, MOST_FRAGMENTS, MOST_PINGS, PROTOCOL, Rate, listen
from retrodict.serve.messages import unpack
from retrodict.serve.player import Player
from retrodict.serve.server import PLAYERS, Table, app, largest, pages


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[toy.Served]:
    with toy.serving(toy.game(tmp_path_factory.mktemp("served"))) as running:
        running.guard.openings.rate = running.table.arrivals.rate = 1e6  # hundreds of requests are tried
        yield running


def raw(port: int, first: str, headers: list[str], body: bytes = b"") -> bytes:
    """Sends a request as it is written here, and returns all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        more = [] if "Upgrade: websocket" in headers else ["Connection: close"]
        line.sendall("\r\n".join([first, *headers, *more, "", ""]).encode("latin-1") + body)
        answer = b""
        with suppress(ConnectionResetError):
            while chunk := line.recv(65536):
                answer += chunk
                if b"101 Switching" in answer:
                    break
        return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def routes(served: toy.Served) -> list[tuple[str, bool]]:
    """Path of every route of the app, and whether it is a websocket; a new kind of route fails here."""
    found = []
    for route in app(served.game).routes:
        assert isinstance(route, Route | WebSocketRoute), f"{route} is of a kind that this test does not know"
        found.append((route.path, isinstance(route, WebSocketRoute)))
    return found


def foreign(port: int) -> list[list[str]]:
    """Headers of those who are not ours: names that point here, origins of other pages, absent and double ones."""
    own, mine = f"127.0.0.1:{port}", f"Origin: http://127.0.0.1:{port}"
    names = [
        "evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", f"localhost.evil.example:{port}",
        f"localhost:{port}@evil.example", f"evil.example@127.0.0.1:{port}", f"127.0.0.1:{port}@evil", "127.0.0.1",
        "localhost", f"127.0.0.1:{port + 1}", f"localhost:{port - 1}", "localhost:80", f"0.0.0.0:{port}",
        f"[::1]:{port}", "[::1]", f"[::ffff:127.0.0.1]:{port}", f"127.0.0.2:{port}", f"127.1:{port}",
        f"2130706433:{port}", f"0x7f.0.0.1:{port}", f"localhost.:{port}", f"127.0.0.1.:{port}", f"127.0.0.1:0{port}",
        f"LOCALHOST.evil:{port}", f" 127.0.0.1:{port} x", f"127.0.0.1:{port}/", f"127.0.0.1:{port}#",
        f"http://127.0.0.1:{port}", f"127.0.0.1:{port},evil.example", f"127.0.0.1:{port} evil.example", "", " ", ":",
        f":{port}", "null", "*", f"loca\xadlhost:{port}",
    ]  # fmt: skip
    origins = [
        "null", "http://evil.example", f"https://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}", "http://127.0.0.1",
        f"http://localhost:{port}", f"http://127.0.0.1:{port}.evil.example", f"http://127.0.0.1:{port}@evil.example",
        f"http://evil.example/http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/", f"HTTP://127.0.0.1:{port}", "",
        f"ws://127.0.0.1:{port}", "file://", "chrome-extension://abc", f"http://[::1]:{port}", f"127.0.0.1:{port}", "*",
        f"http://127.0.0.1:{port} http://evil.example", f"http://127.0.0.1:{port},http://evil.example", "about:blank",
    ]  # fmt: skip
    told = [[f"Host: {name}", f"Origin: http://{name}"] for name in names]
    told += [[f"Host: {name}", mine] for name in names[:4]]
    told += [[f"Host: {own}", f"Origin: {origin}"] for origin in origins]
    told += [
        [mine], [f"Host: {own}", f"Host: {own}", mine], [f"Host: {own}", "Host: evil.example", mine],
        ["Host: evil.example", f"Host: {own}", mine], [f"X-Forwarded-Host: {own}", mine],
        ["Host: evil.example", f"X-Forwarded-Host: {own}", f"Forwarded: host={own}", mine],
        [f"Host: {own}", mine, "Origin: http://evil.example"], [f"Host: {own}", "Origin: http://evil.example", mine],
    ]  # fmt: skip
    return told


def test_w1_a_foreign_host_or_origin_is_refused_on_every_route(served: toy.Served) -> None:
    port, tried = served.guard.port, 0
    told, every = foreign(port), routes(served)
    assert len(told) >= 60
    for path, is_socket in every:
        more = [*WEBSOCKET, f"Sec-WebSocket-Protocol: {PROTOCOL}, {served.guard.token}"] if is_socket else []
        for headers in told:
            answer = raw(port, f"GET {path} HTTP/1.1", headers + more)
            hosts, origins = (sum(h.startswith(name) for h in headers) for name in ("Host: ", "Origin: "))
            malformed = hosts != 1 or (is_socket and origins != 1)  # what HTTP itself forbids
            assert status(answer) == (400 if malformed else 403), f"{path} with {headers} gave {answer[:300]!r}"
            assert b"<html" not in answer
            assert served.guard.token.encode() not in answer
            tried += 1
    assert tried >= 60 * len(every)
    assert served.table.seats == {}, "nobody sat down"


def test_w1_our_own_page_passes_on_every_route(served: toy.Served) -> None:
    port = served.guard.port
    for name in ("127.0.0.1", "localhost", "LocalHost"):
        host = [f"Host: {name}:{port}"]
        for path, is_socket in routes(served):
            origin = [f"Origin: http://{name.lower()}:{port}"]
            if is_socket:
                proof = [f"Sec-WebSocket-Protocol: {PROTOCOL}, {served.guard.token}"]
                assert status(raw(port, f"GET {path} HTTP/1.1", [*host, *origin, *WEBSOCKET, *proof])) == 101
            else:
                for headers in (host, host + origin):
                    answer = raw(port, f"GET {path} HTTP/1.1", headers)
                    assert status(answer) == 200
                    head = answer.partition(b"\r\n\r\n")[0].lower()
                    assert b"default-src 'self'" in head
                    assert b"x-content-type-options: nosniff" in head
                    assert b"access-control" not in head, "no other page may read it"
                    assert b"set-cookie" not in head


def test_w2_nothing_changes_by_a_request_and_nobody_sits_without_the_token(served: toy.Served) -> None:
    port, own = served.guard.port, served.host
    ours = [f"Host: {own}", f"Origin: http://{own}"]
    bodies = {
        "application/x-www-form-urlencoded": b"do=save", "text/plain": b'{"do": "save"}',
        "application/json": b'{"do": "save"}', "multipart/form-data; boundary=x": b"--x--",
    }  # fmt: skip
    for path, is_socket in routes(served):
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"):
            for kind, body in bodies.items():
                headers = [*ours, f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
                assert status(raw(port, f"{method} {path} HTTP/1.1", headers, body)) == 405
        if not is_socket:
            continue
        assert status(raw(port, f"GET {path} HTTP/1.1", ours)) == 404, "a websocket is no page"
        token, wrong = served.guard.token, "A" * len(served.guard.token)
        shown = [
            [], [f"Sec-WebSocket-Protocol: {PROTOCOL}"], [f"Sec-WebSocket-Protocol: {token}"],
            [f"Sec-WebSocket-Protocol: {PROTOCOL}, {wrong}"], [f"Sec-WebSocket-Protocol: {token}, {PROTOCOL}"],
            [f"Sec-WebSocket-Protocol: {PROTOCOL}, {wrong}, {token}"],
            [f"Sec-WebSocket-Protocol: {PROTOCOL}, {token[:-1]}"], [f"Sec-WebSocket-Protocol: other, {token}"],
            [f"Authorization: Bearer {token}"], [f"Cookie: token={token}"],
            [f"Sec-WebSocket-Protocol: {PROTOCOL}, {token.lower()}"], [f"Sec-WebSocket-Protocol: {PROTOCOL}, \xe9"],
        ]  # fmt: skip
        for proof in shown:
            for where in (path, f"{path}?token={token}", f"{path}?{token}"):
                answer = raw(port, f"GET {where} HTTP/1.1", [*ours, *WEBSOCKET, *proof])
                assert status(answer) in (400, 403), f"{proof} gave {answer[:200]!r}"
        no_origin = [f"Host: {own}", *WEBSOCKET, f"Sec-WebSocket-Protocol: {PROTOCOL}, {token}"]
        assert status(raw(port, f"GET {path} HTTP/1.1", no_origin)) == 403
    assert served.table.seats == {}
    assert [path.name for path in served.game.shelf.out.iterdir()] == []


def test_w4_no_route_answers_with_anything_but_the_page_s_own_files(tmp_path: Path) -> None:
    bad = "<script>boom()</script>"
    with toy.serving(toy.game(tmp_path, title=bad, notes=(bad,), apart=bad)) as hostile:
        hostile.game.rename(1, "0:1", bad)
        port, host = hostile.guard.port, f"Host: {hostile.host}"
        own = pages()
        for path, is_socket in routes(hostile):
            for asked in (path, f"{path}?{bad}", f"{path}?name={bad}#{bad}"):
                head, _, body = raw(port, f"GET {asked} HTTP/1.1", [host]).partition(b"\r\n\r\n")
                if is_socket:
                    assert bad.encode() not in body
                else:
                    assert body == own[path][0], f"{path} answers with something else than its file"
                    assert b"unsafe" not in head.lower(), "its policy lets no script of the page's text run"
        for first, headers in (
            (f"GET /{bad} HTTP/1.1", [host]), ("GET / HTTP/1.1", [f"Host: {bad}"]),
            (f"{bad} / HTTP/1.1", [host]), ("GET / HTTP/1.1", [host, f"Origin: {bad}"]),
        ):  # fmt: skip
            answer = raw(port, first, headers)
            assert status(answer) >= 400
            assert b"<script" not in answer


def test_no_path_reaches_a_file_that_is_not_the_page(served: toy.Served) -> None:
    for path in ("/../guard.py", "/%2e%2e/guard.py", "/..%2fguard.py", "//etc/passwd", "/index.html/../guard.py", "/x"):
        assert status(raw(served.guard.port, f"GET {path} HTTP/1.1", [f"Host: {served.host}"])) == 404


def test_the_server_listens_on_this_machine_alone() -> None:
    with listen(0) as bound:
        assert bound.getsockname()[0] == "127.0.0.1"
        assert bound.proto == socket.IPPROTO_TCP, "or asyncio lets the system hold small messages back"
        with pytest.raises(guard.UnusableInput, match="leave --port out"):
            listen(bound.getsockname()[1])
    with pytest.raises(guard.UnusableInput, match="65535"):
        listen(70000)


def test_a_rate_lets_a_burst_pass_and_then_so_many_a_second() -> None:
    rate = Rate(2, 3)
    assert [rate.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert [rate.take(11.5) for _ in range(4)] == [True, True, True, False], "one too many does not count"
    assert [rate.wait(11.5) for _ in range(3)] == [0.5, 1.0, 1.5]
    assert [rate.take(now) for now in (12.5, 13.0, 13.5)] == [False, False, True], "those who wait come first"


class Honest:
    """A player who presses a key, waits for its frame, and presses again."""

    def __init__(self, line: ClientConnection) -> None:
        self.line, self.presses = line, 0
        line.send('{"do": "sit", "seat": ""}')

    def step(self) -> None:
        time.sleep(0.02)  # within what a page may tell
        self.presses += 1
        self.line.send(json.dumps({"do": "step", "press": self.presses}))
        while True:
            message = self.line.recv(timeout=30)
            if isinstance(message, bytes):
                told = unpack(message)[0]
                if told["kind"] == "frame" and told["press"] == self.presses:
                    return


@contextmanager
def apart(out: Path) -> Iterator[tuple[str, str, int]]:
    """Runs the server as a process of its own: (host, token, process number)."""
    command = [sys.executable, str(Path(toy.__file__)), str(out)]
    log = out.with_suffix(".log").open("w+")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    host, _, token = process.stdout.readline().strip().removeprefix("http://").partition("/#")
    try:
        yield host, token, process.pid
        assert process.poll() is None, "the server is alive"
    finally:
        process.communicate(timeout=20)
    log.seek(0)
    assert len(log.read().splitlines()) < 20, "a flood is not written down"
    log.close()


def megabytes(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def test_w3_hostile_messages_and_connections_do_no_harm_and_the_honest_player_goes_on(tmp_path: Path) -> None:
    with apart(tmp_path) as (host, token, pid), connecting(host, token) as line:
        honest, name, port = Honest(line), *host.split(":")
        for _ in range(20):
            honest.step()
        before, told = megabytes(pid), [0, 0]

        def attack(number: int) -> None:
            told[number] = flood(host, token, mutants(5_000, number))

        attackers = [threading.Thread(target=attack, args=(number,)) for number in (0, 1)]
        for attacker in attackers:
            attacker.start()
        while any(attacker.is_alive() for attacker in attackers):
            honest.step()
        assert sum(told) >= 9_000

        with bare(host, token) as huge:  # claims 100 MB, sends some
            send_all(huge, b"\x82\xff" + struct.pack("!Q", 100_000_000) + b"\0\0\0\0" + bytes(1 << 20))
            assert ended(huge)
        with bare(host, token) as endless:  # a message that has no last fragment
            send_all(endless, frame(1, b"", False) + frame(0, b"", False) * (10 * MOST_FRAGMENTS))
            assert ended(endless)
        with bare(host, token) as pings:
            send_all(pings, frame(9, b"x" * 100) * (100 * MOST_PINGS))
            assert ended(pings)
        with bare(host, token) as compressed:  # an extension that was not agreed on
            send_all(compressed, b"\xc1\x85\0\0\0\0hello")
            assert ended(compressed)
        honest.step()

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
        with ExitStack() as stack:  # many who say little
            readable = select.poll()
            slow = [stack.enter_context(socket.create_connection((name, int(port)), 10)) for _ in range(1000)]
            for waiting in slow:
                send_all(waiting, b"GET / HT")
                readable.register(waiting, select.POLLIN)
            for _ in range(20):
                honest.step()
            gone, end = 0, time.monotonic() + LONGEST_REQUEST / 2
            while gone < len(slow) - MOST_CONNECTIONS and time.monotonic() < end:
                gone = len(readable.poll(1000))  # those that were ended can be read
                time.sleep(0.01)
            assert gone >= len(slow) - MOST_CONNECTIONS
        honest.step()
        assert megabytes(pid) - before < 100


def noise(line: ClientConnection) -> None:
    """Tells nonsense, and is told that it is too much."""
    with suppress(ConnectionClosed):
        for _ in range(1000):
            line.send("x")
    with pytest.raises(ConnectionClosed, match="messages a second"):
        until(line, "never")


def test_w3_who_floods_is_cut_off_and_the_honest_player_has_every_answer_in_order(served: toy.Served) -> None:
    with served.connect() as line, ExitStack() as others:
        line.send('{"do": "sit", "seat": ""}')
        noisy = [others.enter_context(served.connect()) for _ in range(PLAYERS - 1)]
        for one in noisy:
            one.send('{"do": "sit", "seat": ""}')
        pool = others.enter_context(ThreadPoolExecutor())
        floods = [pool.submit(noise, one) for one in noisy]
        told: list[tuple[int, int]] = []
        for press in range(1, 61):
            line.send(json.dumps({"do": "step", "press": press}))
            if press % 10 == 0:  # up to ten wait for their answers
                attacks = [pool.submit(attacked, served, attack) for attack in ATTACKS.values()]
                told += [answered(line) for _ in range(10)]
                for attack in attacks:
                    assert attack.result()
        for flood in floods:
            flood.result()  # each was cut off
        assert told == [(press, press) for press in range(1, 61)]  # press and moment: none lost, twice or out of turn
        assert line.close_code is None


def attacked(served: toy.Served, data: bytes) -> bool:
    """Sends bytes that no page sends; whether the server ended the connection."""
    with bare(served.host, served.guard.token) as line:
        send_all(line, data)
        return ended(line)


def answered(line: ClientConnection) -> tuple[int, int]:
    """The next frame that answers a press: (press, moment)."""
    while True:
        message = line.recv(timeout=30)
        if isinstance(message, bytes) and (told := unpack(message)[0])["kind"] == "frame" and told["press"]:
            return int(told["press"]), int(told["at"])


def test_w3_connections_beyond_the_rate_wait_for_their_turn_and_each_carries_one_request(tmp_path: Path) -> None:
    with toy.serving(toy.game(tmp_path)) as served, ExitStack() as stack:
        rate = served.guard.openings
        rate.rate, rate.burst, rate.left = 1.0, 3.0, 3.0
        lines = [stack.enter_context(socket.create_connection(("127.0.0.1", served.guard.port), 10)) for _ in range(5)]
        request = f"GET / HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode()
        for line in reversed(lines):
            line.sendall(2 * request)
        answered: list[int] = []
        while len(answered) < len(lines):
            waiting = [line for i, line in enumerate(lines) if i not in answered]
            answered += sorted(lines.index(line) for line in select.select(waiting, [], [], 10)[0])
        assert answered[3:] == [3, 4], "those that came last"
        for line in lines:
            answer = b""
            with suppress(ConnectionResetError):  # the second request is not read
                while chunk := line.recv(65536):
                    answer += chunk
            assert answer.count(b"HTTP/1.1 200") == 1
            assert b"connection: close" in answer


def test_w3_a_connection_that_dawdles_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(guard, "LONGEST_REQUEST", 0.3)
    with (
        toy.serving(toy.game(tmp_path)) as served,
        socket.create_connection(("127.0.0.1", served.guard.port), 10) as line,
    ):
        began = time.monotonic()
        with suppress(OSError):
            for letter in b"GET / HTTP/1.1\r\nHost: x\r\n" * 20:
                line.sendall(bytes([letter]))
                time.sleep(0.02)
        assert ended(line)
        assert time.monotonic() - began < 9, "long before its request was whole"
        with served.connect() as honest:
            Honest(honest).step()
            time.sleep(0.5)
            Honest(honest).step()  # a websocket may last


def test_four_players_sit_and_a_fifth_is_told(served: toy.Served) -> None:
    with ExitStack() as stack:
        lines = [stack.enter_context(served.connect()) for _ in range(PLAYERS)]
        players = [Honest(line) for line in lines]
        for player in players:
            player.step()
        with served.connect() as fifth:
            fifth.send('{"do": "sit", "seat": ""}')
            with pytest.raises(ConnectionClosed) as told:
                fifth.recv(timeout=10)
            assert told.value.rcvd is not None
            assert "4 players are here" in told.value.rcvd.reason
        lines[0].close()
        with served.connect() as next_one:
            Honest(next_one).step()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[toy.Served]:
    """A server on which nobody has played."""
    with toy.serving(toy.game(tmp_path)) as running:
        yield running


def test_a_page_that_comes_back_finds_its_session_and_a_second_tab_takes_it_over(fresh: toy.Served) -> None:
    with fresh.connect() as line:
        line.send('{"do": "sit", "seat": ""}')
        seat = json.loads(line.recv(timeout=10))["seat"]
        line.send('{"do": "step", "press": 1}')
        while at(line) != 1:
            pass
    with fresh.connect() as again:
        again.send(json.dumps({"do": "sit", "seat": seat}))
        assert at(again) == 1
        with fresh.connect() as tab:
            tab.send(json.dumps({"do": "sit", "seat": seat}))
            assert at(tab) == 1
            with pytest.raises(ConnectionClosed, match="another tab"):
                until(again, "never")
            with fresh.connect() as beside:
                beside.send('{"do": "sit", "seat": ""}')
                assert at(beside) == 0, "a page beside another begins its own session"
            while len(fresh.table.lines) > 1:
                time.sleep(0.01)
    while fresh.table.lines:
        time.sleep(0.01)
    with fresh.connect() as new:
        new.send('{"do": "sit", "seat": ""}')
        assert at(new) == 1, "what was closed last goes on"


def until(line: ClientConnection, kind: str) -> None:
    """Reads up to a message of this kind."""
    while isinstance(message := line.recv(timeout=20), bytes) or json.loads(message)["kind"] != kind:
        pass


def at(line: ClientConnection) -> int:
    """Moment of the next frame that is shown."""
    while True:
        message = line.recv(timeout=10)
        if isinstance(message, bytes) and unpack(message)[0]["kind"] == "frame":
            return int(unpack(message)[0]["at"])


def test_nobody_waits_for_a_player_who_does_not_read(tmp_path: Path) -> None:
    told: list[str] = []

    async def never(message: str | bytes) -> None:
        await asyncio.Event().wait()

    async def hear(message: str | bytes) -> None:
        told.append(json.loads(message)["kind"])

    async def named() -> None:
        table = Table(toy.game(tmp_path))
        for seat, send in (("deaf", never), ("heard", hear)):
            table.seats[seat] = Player(table.game, Beside(table.game), table.announce)
            table.seats[seat].send = send
            table.lines[seat] = None  # type: ignore[assignment]
        await asyncio.wait_for(table.announce(), 5)
        while not told:
            await asyncio.sleep(0)
        waiting = table.telling["deaf"]
        await table.announce()
        await asyncio.sleep(0)
        assert waiting.cancelled(), "what was told before is old"
        table.telling["deaf"].cancel()
        table.game.close()

    asyncio.run(asyncio.wait_for(named(), 10))
    assert set(told) == {"keys"}


def test_one_who_tells_too_much_is_closed_with_the_reason(served: toy.Served) -> None:
    with served.connect() as line:
        line.send('{"do": "sit", "seat": ""}')
        with suppress(ConnectionClosed):
            for _ in range(1000):
                line.send("x")
        with pytest.raises(ConnectionClosed, match="60 messages a second"):
            until(line, "never")


def test_the_first_message_says_who_one_is(served: toy.Served) -> None:
    seats = dict(served.table.seats)
    for first in ('{"do": "save"}', "x", b"\0", '{"do": "sit"}'):
        with served.connect() as line:
            line.send(first)
            with pytest.raises(ConnectionClosed):
                line.recv(timeout=10)
    assert served.table.seats == seats
    assert largest(served.game) == 3 * 36 * 36


def test_w6_no_token_and_no_path_of_this_machine_is_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a folder"
    with toy.serving(toy.game(out)) as served, served.connect() as line:
        token, honest = served.guard.token, Honest(line)
        for _ in range(3):
            honest.step()
        line.send('{"do": "name", "key": "0:1", "name": "jump"}')
        line.send('{"do": "save"}')
        until(line, "saved")
        with suppress(InvalidStatus), served.connect(subprotocols=[PROTOCOL, "B" * 43]):
            pass
        line.send("nonsense")
        honest.step()
    said = "".join(capfd.readouterr())
    assert token not in said
    assert str(tmp_path) not in said
    files = [file for file in out.rglob("*") if file.is_file()]
    assert len(files) >= 8
    for file in files:
        data = file.read_bytes()
        for secret in (token, str(tmp_path), str(Path.home())):
            assert secret.encode() not in data, f"{file.name} holds {secret}"
