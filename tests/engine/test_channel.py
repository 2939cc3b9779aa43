"""The engine's end of the socket, against a peer that reads late."""

from __future__ import annotations

import fcntl
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import cast

import pytest

from headway import wire
from headway.engine.channel import BadFrame, Channel
from headway.types import TokenEvent
from headway.wire import (
    HEADER,
    Abort,
    EngineStats,
    Events,
    FromEngine,
    Heartbeat,
    body_length,
    pack,
    read_from_engine,
)
from tests.client.support import PATIENCE


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    ended = threading.Event()
    yield Channel(theirs, on_hangup=ended.set), ours
    ours.close()
    assert ended.wait(PATIENCE), "the reader ends with the connection"
    theirs.close()


def exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece
        data += piece
    return bytes(data)


def message(sock: socket.socket) -> FromEngine:
    return read_from_engine(exactly(sock, body_length(exactly(sock, HEADER.size))))


def many(name: str, tokens: int = 500_000) -> TokenEvent:
    return TokenEvent(id=name, tokens=tuple(range(tokens)))


def test_a_frame_larger_than_the_sockets_buffer_comes_whole_though_it_is_read_late(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, peer = ends
    sent = Events(events=[many("a")], stats=EngineStats(step=7))
    frame = pack(sent)
    channel.send(sent)
    waits = channel.has_unsent
    assert waits, "this test needs a frame that the socket does not take at once"
    sender = threading.Thread(target=channel.flush, args=(None,))
    sender.start()
    assert exactly(peer, len(frame)) == frame
    sender.join(PATIENCE)
    assert not channel.has_unsent
    channel.send(Heartbeat(step=8))
    assert message(peer) == Heartbeat(step=8)


def test_heartbeats_come_between_frames_and_never_within_one(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, peer = ends
    count = 30
    done = threading.Event()

    def beat() -> None:
        step = 0
        while not done.is_set():
            step += 1
            channel.send_heartbeat(Heartbeat(step=step))

    def work() -> None:
        for number in range(count):
            channel.send_events([many(f"r{number}", 20_000)], EngineStats(step=number))
            channel.flush(0.05)
        channel.flush(None)
        done.set()

    threads = [threading.Thread(target=each) for each in (beat, work)]
    for each in threads:
        each.start()
    steps: list[int] = []
    beats: list[int] = []
    while len(steps) < count:
        found = message(peer)
        if isinstance(found, Events):
            assert found.events == [many(f"r{len(steps)}", 20_000)]
            steps.append(found.stats.step)
        elif isinstance(found, Heartbeat):
            beats.append(found.step)
    done.set()
    peer.setblocking(False)
    while any(each.is_alive() for each in threads):
        with suppress(BlockingIOError):
            peer.recv(2**20)
    assert steps == list(range(count))
    assert beats == sorted(beats)
    assert beats


class _SlowSocket:
    """A socket on which a send takes a while; notes whether two threads were ever in one."""

    def __init__(self, sock: socket.socket) -> None:
        self.recv_into = sock.recv_into
        self.fileno = sock.fileno
        self.together = False
        self._sock = sock
        self._busy = threading.Lock()

    def send(self, data: bytearray, flags: int) -> int:
        if not self._busy.acquire(blocking=False):
            self.together = True
            return self._sock.send(bytes(data), flags)
        try:
            time.sleep(0.005)
            return self._sock.send(bytes(data), flags)
        finally:
            self._busy.release()


def test_two_threads_are_never_sending_at_once() -> None:
    ours, theirs = socket.socketpair()
    slow = _SlowSocket(theirs)
    ended = threading.Event()
    channel = Channel(cast(socket.socket, slow), on_hangup=ended.set)

    def beat() -> None:
        for _ in range(30):
            channel.send_heartbeat(Heartbeat())

    beating = threading.Thread(target=beat)
    beating.start()
    for number in range(30):
        channel.send(Heartbeat(step=number))
        channel.flush(0.0)
    beating.join(PATIENCE)
    ours.close()
    assert ended.wait(PATIENCE)
    theirs.close()
    assert not slow.together


def test_a_heartbeat_sends_what_a_busy_loop_left_unsent(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, peer = ends
    sent = Events(events=[many("a")], stats=EngineStats())
    channel.send(sent)
    assert channel.has_unsent
    received = bytearray()
    while len(received) < len(pack(sent)):
        received += peer.recv(2**20)
        channel.send_heartbeat(Heartbeat())
    assert bytes(received[: len(pack(sent))]) == pack(sent)


def test_a_descriptor_above_1023_can_be_waited_for() -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2048:
        pytest.skip("this process may not have so many descriptors")
    ours, theirs = socket.socketpair()
    high = socket.socket(fileno=fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 1500))
    theirs.close()
    ended = threading.Event()
    channel = Channel(high, on_hangup=ended.set)
    with ours:
        channel.send(Events(events=[many("a")], stats=EngineStats()))
        channel.flush(0.01)
        assert channel.has_unsent
    assert ended.wait(PATIENCE)
    high.close()


def test_a_frame_for_which_there_is_no_memory_is_told_to_the_loop(
    ends: tuple[Channel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(_: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr("headway.engine.channel.read_to_engine", no_memory)
    channel, peer = ends
    peer.sendall(pack(Abort(ids=["a"])))
    with pytest.raises(BadFrame, match="MemoryError"):
        channel.receive(PATIENCE)


def test_results_beyond_a_message_are_split_and_a_single_one_is_handed_back(
    ends: tuple[Channel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE", 50_000)
    monkeypatch.setattr(wire, "FRAME_BYTES", 20_000)
    channel, peer = ends
    events = [many(f"r{number}", 2_000) for number in range(20)]
    large = many("large", 20_000)
    refused = channel.send_events([*events[:10], large, *events[10:]], EngineStats(step=3))
    assert [(event.id, "a message holds 50000" in why) for event, why in refused] == [
        ("large", True)
    ]
    found: list[TokenEvent] = []
    frames = 0
    while len(found) < len(events):
        answer = message(peer)
        assert isinstance(answer, Events)
        assert answer.stats == EngineStats(step=3)
        found += answer.events
        frames += 1
    assert found == events
    assert frames > 3
