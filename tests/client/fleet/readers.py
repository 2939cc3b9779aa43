"""Whoever reads streams of a fleet, and checks that they got what an undisturbed engine gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from headway.client import EngineHandle, Stream
from headway.types import Request, TokenEvent
from headway.wire import EngineStats
from tests.client.fake_engine import expected_tokens


@dataclass(slots=True)
class Heard:
    """All that was told of one request, in one place."""

    tokens: list[int] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    scheduled: int = 0
    errors: list[str] = field(default_factory=list)

    def add(self, event: TokenEvent) -> None:
        assert not self.ends, f"{event.id} was heard of after its end"
        self.tokens += event.tokens
        self.scheduled += event.scheduled_at is not None
        if event.finish is not None:
            self.ends.append(event.finish)
        if event.error is not None:
            self.errors.append(event.error)


class Readers:
    """Reads all streams without waiting, and listens to the engine beside."""

    def __init__(self, engine: EngineHandle) -> None:
        self.streams: dict[str, Stream] = {}
        self.requests: dict[str, Request] = {}
        self.read: dict[str, Heard] = {}
        self.listened: dict[str, Heard] = {}
        self.cancelled: set[str] = set()
        self.steps: list[int] = []
        self._engine = engine
        engine.subscribe(self._listen)

    def submit(self, *requests: Request) -> Stream:
        stream = self._engine.submit(*requests)
        for each in requests:
            self.requests[each.id] = each
            self.read[each.id], self.listened[each.id] = Heard(), Heard()
            self.streams[each.id] = stream
        return stream

    def abort(self, name: str) -> None:
        self._engine.abort(name)

    def cancel(self, name: str) -> None:
        """Its reader has left."""
        if not self.read[name].ends:
            self.cancelled.add(name)
        self.streams[name].cancel(name)

    def take(self) -> None:
        """Read all that is there."""
        for stream in self.streams.values():
            for event in stream.take_all():
                self.read[event.id].add(event)

    def check(self, *, poison: Iterable[str] = ()) -> None:
        """Each request has ended once, with its model's tokens, as far as it got."""
        self.take()
        bad = set(poison)
        for name, request in self.requests.items():
            whole = expected_tokens(request)
            read, listened = self.read[name], self.listened[name]
            assert len(listened.ends) == 1, f"{name} ended {listened.ends}"
            assert listened.tokens == whole[: len(listened.tokens)]
            assert listened.scheduled == bool(listened.tokens)
            assert (listened.ends == ["error"]) is (name in bad), (name, listened.errors)
            if listened.ends == ["length"]:
                assert listened.tokens == whole
            if name in self.cancelled:
                assert read.tokens == whole[: len(read.tokens)]
                assert not read.ends
            else:
                assert read == listened, name

    def _listen(self, events: Sequence[TokenEvent], stats: EngineStats, _: float) -> None:
        self.steps.append(stats.step)
        for event in events:
            if event.id in self.listened:
                self.listened[event.id].add(event)
