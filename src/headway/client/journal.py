"""The ledger of live requests: why a crash of the engine loses nothing.

It holds what was asked and every token received since. When an engine dies, each live request is
due again with its tokens as `generated`, and goes on where it stopped. When engines keep dying
over the same requests, the ledger finds out which one is to blame: the suspects run one at a time,
alone and for a few tokens, the latest arrival first; the one whose trial the engine does not
survive ends with an error, and all others go on. Pure bookkeeping: no I/O, no clock, no processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from headway.errors import InvalidRequest
from headway.types import Request, TokenEvent

FAR = 64
"""A request that got this many tokens from an engine was not what killed it at once."""
SUSPECT = 2
"""Deaths in a row, without getting far between, that put a request on trial."""


@dataclass(slots=True, kw_only=True)
class JournalEntry:
    """One live request. `strikes` counts engine deaths since it last got far."""

    request: Request
    tokens: list[int]
    prompt_logprobs: int = 0
    repeated_logprobs: int = 0
    """Prompt logprobs that the present engine will send again."""
    heard: bool = False
    running: bool = False
    resumed_at: int = 0
    """How many tokens there were when the present engine got the request."""
    strikes: int = 0


class RequestJournal:
    """Who is live, what each has received, and who may run now."""

    def __init__(self) -> None:
        self._live: dict[str, JournalEntry] = {}
        self._held: dict[str, JournalEntry] = {}
        """Live but not in the engine, in the order in which they become due."""
        self._aborting: set[str] = set()
        """Aborted here, not yet acknowledged by the engine."""
        self._suspects: list[str] = []
        self._on_trial: JournalEntry | None = None
        self._engine_up = False

    def __len__(self) -> int:
        return len(self._live)

    @property
    def waits(self) -> bool:
        """Whether requests are held back, so that `due` is worth asking after every message."""
        return bool(self._held)

    @property
    def busy(self) -> bool:
        """Whether the engine has, or may still have, any request."""
        return bool(self._aborting) or len(self._live) > len(self._held)

    def add(self, request: Request) -> None:
        """Enter a request; it becomes due when the engine may have it."""
        if request.id in self._live or request.id in self._aborting:
            raise InvalidRequest(
                f"a request with the id '{request.id}' is running already", field="request_id"
            )
        entry = JournalEntry(request=request, tokens=list(request.generated))
        self._live[request.id] = self._held[request.id] = entry

    def abort(self, ids: Iterable[str]) -> list[str]:
        """Strike requests off; returns those that the engine must be told of."""
        told = []
        for name in ids:
            entry = self._live.pop(name, None)
            if entry is None:
                continue
            self._held.pop(name, None)
            if entry is self._on_trial:
                self._on_trial = None
            if entry.running:
                self._aborting.add(name)
                told.append(name)
        return told

    def clear(self) -> list[str]:
        """Strike all requests off, for good; returns their ids."""
        ids = list(self._live)
        self._live.clear()
        self._held.clear()
        self._suspects.clear()
        self._on_trial = None
        return ids

    def read(self, event: TokenEvent) -> TokenEvent | None:
        """Enter what the engine said; returns what the caller should hear, None if nothing."""
        entry = self._live.get(event.id)
        if entry is None:
            if event.finish is not None:
                self._aborting.discard(event.id)
            return None
        if entry.heard and (entry.repeated_logprobs or event.scheduled_at is not None):
            event = _without_repeats(event, entry)
        entry.heard = True
        entry.tokens.extend(event.tokens)
        entry.prompt_logprobs += len(event.prompt_logprobs)
        if event.finish is None:
            return event
        if entry is self._on_trial:
            self._on_trial = None
            if event.finish == "length" and _unfinished(entry):
                entry.running = False
                self._held[event.id] = entry
                return replace(event, finish=None)
        del self._live[event.id]
        return event

    def engine_ready(self) -> None:
        self._engine_up = True

    def engine_died(self) -> list[str]:
        """Take all requests back from a dead engine; returns the ids of those to blame."""
        running = [entry for entry in self._live.values() if entry.running]
        blamed = self._blame(running)
        self._engine_up = False
        self._on_trial = None
        self._aborting.clear()
        for entry in running:
            entry.running = False
        self._held = dict(self._live)
        return [] if blamed is None else [blamed.request.id]

    def due(self) -> list[Request]:
        """The requests to submit now; they count as running from here on."""
        if not self._engine_up or self._on_trial is not None:
            return []
        if self._suspects:
            # The engine must be empty, or a trial would not tell who was to blame.
            return [] if self._aborting else self._next_trial()
        chosen = list(self._held.values())
        self._held.clear()
        return [_start(entry, None) for entry in chosen]

    def _next_trial(self) -> list[Request]:
        while self._suspects:
            entry = self._held.pop(self._suspects.pop(), None)
            if entry is not None:
                self._on_trial = entry
                # Longer with every strike, so that a late fault is found in a few trials, too.
                return [_start(entry, 4 ** (entry.strikes - SUSPECT))]
        return self.due()

    def _blame(self, running: list[JournalEntry]) -> JournalEntry | None:
        """Count a death against those who ran; the culprit, if that is certain, is struck off."""
        for entry in running:
            far = len(entry.tokens) - entry.resumed_at >= FAR
            entry.strikes = 1 if far else entry.strikes + 1
        culprit = self._on_trial
        if culprit is None and len(running) == 1 and not self._aborting:
            culprit = running[0] if running[0].strikes >= SUSPECT else None
        if culprit is not None:
            del self._live[culprit.request.id]
            self._suspects.clear()
            for entry in self._live.values():
                entry.strikes = min(entry.strikes, SUSPECT - 1)
            return culprit
        by_arrival = sorted(running, key=lambda entry: entry.request.arrival)
        self._suspects += [entry.request.id for entry in by_arrival if entry.strikes >= SUSPECT]
        return None


def _start(entry: JournalEntry, trial: int | None) -> Request:
    """What the engine gets: the request with what it has by now, cut short for a trial."""
    entry.running = True
    entry.resumed_at = len(entry.tokens)
    request, sampling = entry.request, entry.request.sampling
    entry.repeated_logprobs = entry.prompt_logprobs
    if entry.prompt_logprobs and entry.prompt_logprobs >= len(request.prompt) - 1:
        sampling = replace(sampling, prompt_logprobs=None)
        entry.repeated_logprobs = 0
    if trial is not None:
        shorter = min(sampling.max_tokens, len(entry.tokens) + trial)
        sampling = replace(sampling, max_tokens=shorter)
    if sampling is request.sampling and len(entry.tokens) == len(request.generated):
        return request
    return replace(request, sampling=sampling, generated=tuple(entry.tokens))


def _unfinished(entry: JournalEntry) -> bool:
    return len(entry.tokens) < entry.request.sampling.max_tokens


def _without_repeats(event: TokenEvent, entry: JournalEntry) -> TokenEvent:
    """A resumed request's event without what an earlier engine had told already."""
    dropped = min(entry.repeated_logprobs, len(event.prompt_logprobs))
    entry.repeated_logprobs -= dropped
    return replace(
        event,
        prompt_logprobs=event.prompt_logprobs[dropped:],
        cached_tokens=0,
        scheduled_at=None,
    )
