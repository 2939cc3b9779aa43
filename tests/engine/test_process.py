"""The engine process from its socket: what it says, when it sleeps, and when it ends."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from headway.config import EngineConfig
from headway.engine.process import _keep_to
from headway.types import Request
from headway.wire import (
    HEADER,
    Abort,
    Events,
    Failed,
    FromEngine,
    Heartbeat,
    Ready,
    Start,
    Submit,
    ToEngine,
    body_length,
    pack,
    read_from_engine,
)
from tests.client.fake_engine import BROKEN, COMMAND, NUM_BLOCKS, expected_tokens
from tests.client.support import PATIENCE, alive, request, started


class Peer:
    """The API process's end, blocking and without any cleverness."""

    def __init__(self, sock: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.sock = sock
        self.process = process
        sock.settimeout(PATIENCE)

    def send(self, message: ToEngine) -> None:
        self.sock.sendall(pack(message))

    def receive(self) -> FromEngine:
        """The next message that is no heartbeat."""
        while isinstance(message := self.receive_any(), Heartbeat):
            pass
        return message

    def receive_any(self) -> FromEngine:
        return read_from_engine(self._exactly(body_length(self._exactly(HEADER.size))))

    def tokens_until_end(self, name: str) -> list[int]:
        tokens: list[int] = []
        while True:
            message = self.receive()
            assert isinstance(message, Events)
            for event in message.events:
                tokens += event.tokens if event.id == name else ()
                if event.id == name and event.finish is not None:
                    return tokens

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            assert piece, "the engine hung up"
            data += piece
        return data


@contextmanager
def engine(folder: Path, *, start: bool = True, **script: object) -> Iterator[Peer]:
    (folder / "script.json").write_text(json.dumps(script))
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([*COMMAND, "--fd", str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    peer = Peer(ours, process)
    try:
        if start:
            peer.send(Start(config=EngineConfig(), prepared=str(folder)))
            assert isinstance(peer.receive(), Ready)
        yield peer
    finally:
        ours.close()
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()


def submit(peer: Peer, *requests: Request) -> None:
    peer.send(Submit(requests=list(requests)))


def test_every_step_is_one_frame(tmp_path: Path) -> None:
    with engine(tmp_path) as peer:
        asked = [request("a", max_tokens=3), request("b", (9,), max_tokens=3)]
        submit(peer, *asked)
        frames = [peer.receive() for _ in range(3)]
        assert all(isinstance(frame, Events) for frame in frames)
        events = [event for frame in frames if isinstance(frame, Events) for event in frame.events]
        for each in asked:
            own = [token for event in events if event.id == each.id for token in event.tokens]
            assert own == expected_tokens(each)


def test_an_abort_is_reported_with_the_state_after_it(tmp_path: Path) -> None:
    with engine(tmp_path, step_seconds=0.01) as peer:
        submit(peer, request("a", max_tokens=100_000))
        assert isinstance(peer.receive(), Events)
        peer.send(Abort(ids=["a", "unknown"]))
        while True:
            message = peer.receive()
            assert isinstance(message, Events)
            if any(event.finish == "abort" for event in message.events):
                break
        assert message.stats.free_blocks == NUM_BLOCKS


def test_it_sleeps_while_there_is_nothing_to_do(tmp_path: Path) -> None:
    with engine(tmp_path) as peer:
        submit(peer, request("a", max_tokens=2))
        peer.tokens_until_end("a")
        process = psutil.Process(peer.process.pid)
        before = process.cpu_times()
        time.sleep(0.5)
        after = process.cpu_times()
        # A loop that spins would have used all of the half second that it could get.
        assert after.user + after.system - before.user - before.system < 0.1


def test_steps_without_a_token_tell_their_statistics(tmp_path: Path) -> None:
    with engine(tmp_path, tokenless_steps=5) as peer:
        asked = request("a", max_tokens=3)
        submit(peer, asked)
        for step in range(1, 6):
            message = peer.receive()
            assert isinstance(message, Events)
            assert (message.events, message.stats.step, message.stats.running) == ([], step, 1)
        assert peer.tokens_until_end("a") == expected_tokens(asked)


def test_a_heartbeat_says_for_how_long_a_step_lasts(tmp_path: Path) -> None:
    with engine(tmp_path, hang_at_step=3) as peer:
        idle = peer.receive_any()
        assert isinstance(idle, Heartbeat)
        assert idle.seconds is None
        submit(peer, request("a", max_tokens=5))
        seconds: list[float] = []
        steps = set()
        while len(seconds) < 10:
            message = peer.receive_any()
            if isinstance(message, Heartbeat) and message.seconds is not None:
                if message.step not in steps:
                    steps, seconds = {message.step}, []
                seconds.append(message.seconds)
        assert seconds == sorted(seconds)
        assert seconds[-1] - seconds[0] > 0.1


def test_it_lives_while_it_starts(tmp_path: Path) -> None:
    with engine(tmp_path, start=False) as peer:
        for _ in range(3):
            assert peer.receive_any() == Heartbeat()


def test_it_ends_when_the_socket_closes_in_the_middle_of_a_step(tmp_path: Path) -> None:
    with engine(tmp_path, step_seconds=3600) as peer:
        submit(peer, request("a"))
        peer.sock.close()
        assert peer.process.wait(PATIENCE) == 0


def test_signals_that_the_api_process_handles_are_ignored(tmp_path: Path) -> None:
    with engine(tmp_path) as peer:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            peer.process.send_signal(number)
        asked = request("a")
        submit(peer, asked)
        assert peer.tokens_until_end("a") == expected_tokens(asked)


def test_an_exception_in_a_step_is_reported_and_ends_the_process(tmp_path: Path) -> None:
    with engine(tmp_path) as peer:
        submit(peer, request("a", (BROKEN,)))
        failed = peer.receive()
        assert isinstance(failed, Failed)
        assert "RuntimeError: broken on purpose" in failed.message
        assert peer.process.wait(PATIENCE) == 1


def test_a_start_that_is_refused_names_the_setting(tmp_path: Path) -> None:
    with engine(tmp_path, start=False, refuse_from=0) as peer:
        peer.send(Start(config=EngineConfig(), prepared=str(tmp_path)))
        failed = peer.receive()
        assert isinstance(failed, Failed)
        assert failed.field == "kv_cache_memory"
        assert peer.process.wait(PATIENCE) == 1


def test_a_first_message_that_is_no_start_is_refused(tmp_path: Path) -> None:
    with engine(tmp_path, start=False) as peer:
        submit(peer, request("a"))
        failed = peer.receive()
        assert isinstance(failed, Failed)
        assert "Start must come first" in failed.message


@pytest.mark.parametrize("seed", range(6))
def test_garbage_is_answered_with_a_clear_end(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    body = [
        b"",
        draw.randbytes(100),
        b"\x81\xa4type\xa6Submit",
        pack(Submit(requests=[request("a")]))[HEADER.size : -3],
        b"\x81\xa4type\xa5Other",
        b"",
    ][seed]
    # The last of them announces four gigabytes.
    frame = b"\xff\xff\xff\xff" if seed == 5 else HEADER.pack(len(body)) + body
    with engine(tmp_path) as peer:
        peer.sock.sendall(frame + draw.randbytes(50))
        failed = peer.receive()
        assert isinstance(failed, Failed)
        assert "unreadable message" in failed.message
        assert peer.process.wait(PATIENCE) == 1


def test_a_peer_that_does_not_read_stops_neither_reading_nor_computing(tmp_path: Path) -> None:
    with engine(tmp_path) as peer:
        # Events of these fill the socket many times over while nothing is read.
        asked = [request(f"r{number}", (3, number), max_tokens=400) for number in range(100)]
        submit(peer, *asked)
        late = request("late", range(3, 100))
        for number in range(200):
            submit(peer, request(f"x{number}", range(3, 1000), max_tokens=1))
        submit(peer, late)
        assert peer.tokens_until_end("late") == expected_tokens(late)


PARENT = """
import asyncio, sys
from pathlib import Path
from headway.client import EngineClient
from headway.config import EngineConfig
from headway.engine.process import _keep_to

async def main():
    client = await EngineClient.start(EngineConfig(), Path(sys.argv[1]), command=sys.argv[2:])
    print(client.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_the_engine_dies_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text("{}")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), *COMMAND],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert parent.stdout is not None
    with parent:
        try:
            child = int(parent.stdout.readline())
            assert started(tmp_path) == [child]
            assert alive(child)
        finally:
            parent.kill()
    give_up = time.monotonic() + PATIENCE
    while alive(child):
        assert time.monotonic() < give_up, "the engine outlived its parent"
        time.sleep(0.01)


@pytest.mark.parametrize(("level", "talks"), [(20, True), (30, False)])
def test_the_engine_is_as_talkative_as_its_supervisor(level: int, talks: bool) -> None:
    ours, theirs = socket.socketpair()
    program = (
        "import logging, sys; from headway.engine import process;"
        "logging.basicConfig(level=20);"
        "build = lambda start: (logging.info('building'), sys.exit(0));"
        "process.serve(int(sys.argv[1]), build)"
    )
    with ours, theirs:
        fd = theirs.fileno()
        with subprocess.Popen(
            [sys.executable, "-c", program, str(fd)], pass_fds=[fd], stderr=subprocess.PIPE
        ) as process:
            ours.sendall(pack(Start(config=EngineConfig(), prepared="-", log_level=level)))
            _, said = process.communicate(timeout=PATIENCE)
    assert (b"building" in said) is talks


def test_every_line_of_the_engine_is_json_where_its_supervisor_logs_so() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = theirs.fileno()
        with subprocess.Popen(
            [sys.executable, "-m", "headway.engine", "--fd", str(fd)],
            pass_fds=[fd],
            stderr=subprocess.PIPE,
        ) as process:
            start = Start(config=EngineConfig(), prepared="/nowhere", log_format="json")
            ours.sendall(pack(start))
            _, said = process.communicate(timeout=PATIENCE)
    lines = [json.loads(each) for each in said.splitlines()]
    assert lines
    assert {each["level"] for each in lines} <= {"info", "warning", "error"}
    assert any("cannot start" in each["message"] for each in lines)


def test_cores_that_there_are_not_keep_no_engine_from_starting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = os.sched_getaffinity(0)
    _keep_to((4095,))
    assert "cannot keep to cores" in caplog.text
    _keep_to(())
    assert os.sched_getaffinity(0) == before
