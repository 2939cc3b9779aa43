"""The journal of live requests: why a crash of the engine loses nothing.

It holds every request and all tokens received for it. When an engine dies, each live request is
queued again with its tokens as `generated`, and the next engine continues where the last one
stopped. A poison request, one that crashes every engine that runs it, must not take the others
with it. So requests that were running during several deaths in a row are quarantined: they run one
at a time, alone and for a few tokens, the latest arrival first. One during whose isolated run the
engine dies is the poison and ends with an error; all others go on.

After its first death already a request may be on probation: it may have been the cause, as the
engine got it only a little before or as it has seen engines die before. That ends with progress. It
changes nothing here, but says which requests had better not be given to other engines.

An entry can leave one journal and join another with all that is known of it: what it has received,
and what engines it has seen die. Pure bookkeeping: no I/O, no clock, no processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from msgspec import structs

from headway.errors import InvalidRequest
from headway.types import Request, TokenEvent

PROGRESS_TOKENS = 64
"""A request that got this many tokens from an engine is not what killed it at once; twice as many
with every death that it has seen, so that one that kills late does not do so for ever."""
QUARANTINE_DEATHS = 2
"""Deaths in a row without such progress that quarantine a request."""


@dataclass(slots=True, kw_only=True)
class JournalEntry:
    """One live request."""

    request: Request
    tokens: list[int]
    prompt_logprobs: int = 0
    repeated_logprobs: int = 0
    """Prompt logprobs that the present engine will send again."""
    had_event: bool = False
    submitted: bool = False
    """The present engine has it."""
    resumed_at: int = 0
    """How many tokens there were when the present engine got the request."""
    deaths: int = 0
    """Engine deaths since it last made progress."""
    seen: int = 0
    """Engine deaths since it came, but for those that another request explains."""
    on_probation: bool = False
    """It may be what the last engine died of, and has made no progress since."""
    suspect: bool = False
    """It is quarantined, and was not run alone yet."""
    kv_source: str = ""
    """Where the next engine finds what another one has computed of it; see `Request`."""

    @property
    def accused(self) -> bool:
        """It is quarantined or on probation."""
        return self.suspect or self.on_probation


class RequestJournal:
    """Which requests are live, what each has received, and which the engine may have now."""

    def __init__(self) -> None:
        self._live: dict[str, JournalEntry] = {}
        self._queued: dict[str, JournalEntry] = {}
        """Live but not in the engine, in the order in which they will be submitted."""
        self._aborting: set[str] = set()
        """Aborted here, not yet acknowledged by the engine."""
        self._quarantine: list[JournalEntry] = []
        """Still to be run alone; the last one is the next."""
        self._isolated: JournalEntry | None = None
        """The quarantined request that runs alone at present."""
        self._on_probation: set[str] = set()
        """Ids of live requests."""
        self._engine_up = False

    def __len__(self) -> int:
        return len(self._live)

    @property
    def has_queued(self) -> bool:
        """Whether requests wait here, so that `take_queued` is worth calling."""
        return bool(self._queued)

    @property
    def engine_busy(self) -> bool:
        """Whether the engine has, or may still have, any request."""
        return bool(self._aborting) or len(self._live) > len(self._queued)

    @property
    def isolating(self) -> bool:
        """Whether a request runs alone, or is to: others wait until that is over."""
        return self._isolated is not None or bool(self._quarantine)

    @property
    def proving(self) -> bool:
        """Whether requests are on probation, or quarantined: others had better keep away."""
        return bool(self._on_probation) or self.isolating

    @property
    def ids(self) -> list[str]:
        """Of all live requests."""
        return list(self._live)

    @property
    def unsuspected(self) -> list[str]:
        """Those that are neither quarantined nor on probation."""
        return [name for name, entry in self._live.items() if not entry.accused]

    @property
    def unheard(self) -> list[str]:
        """Those of them that nothing was received for yet, in the order in which they came."""
        return [
            name for name, entry in self._live.items() if not entry.had_event and not entry.accused
        ]

    def add(self, request: Request) -> None:
        """Queue a request; raises `InvalidRequest` for an id that is in use."""
        if request.id in self._live or request.id in self._aborting:
            raise InvalidRequest(
                f"a request with the id '{request.id}' is running already", field="request_id"
            )
        self.receive(JournalEntry(request=request, tokens=list(request.generated)))

    def receive(self, entry: JournalEntry) -> None:
        """Queue a request that is new, or that another journal has given away.

        Its id is not live here. Where the engine has yet to acknowledge that it was aborted here
        before, it waits for that.
        """
        name = entry.request.id
        self._live[name] = self._queued[name] = entry
        if entry.on_probation:
            self._on_probation.add(name)
        if entry.suspect:
            self._quarantine.append(entry)
            self._quarantine.sort(key=_arrival)

    def entry(self, request_id: str) -> JournalEntry | None:
        """What is known of a live request; to give it to another journal, `abort` it here."""
        return self._live.get(request_id)

    def remaining(self, request_id: str) -> Request | None:
        """A live request with the tokens received so far as `generated`; None if unknown."""
        entry = self._live.get(request_id)
        return None if entry is None else remaining_request(entry)

    def goes_on(self, request_id: str) -> bool:
        """Whether nothing is to be waited for: the present engine has told a token of it, or it is
        quarantined or on probation, and so takes nothing along, or it has ended."""
        entry = self._live.get(request_id)
        if entry is None or entry.accused:
            return True
        return entry.submitted and len(entry.tokens) > entry.resumed_at

    def abort(self, ids: Iterable[str]) -> list[str]:
        """Remove requests; returns those that the engine must be told to abort."""
        submitted = []
        for name in ids:
            entry = self._live.pop(name, None)
            if entry is None:
                continue
            self._queued.pop(name, None)
            self._on_probation.discard(name)
            if entry is self._isolated:
                self._isolated = None
            elif entry.suspect:
                self._quarantine.remove(entry)
            if entry.submitted:
                entry.submitted = False
                self._aborting.add(name)
                submitted.append(name)
        return submitted

    def refuse(self, name: str) -> None:
        """Remove a request that `take_queued` gave, but that could not be sent to the engine."""
        self._live[name].submitted = False
        self.abort([name])

    def clear(self) -> list[str]:
        """Remove all requests for good; returns their ids."""
        ids = list(self._live)
        self._live.clear()
        self._queued.clear()
        self._quarantine.clear()
        self._on_probation.clear()
        self._isolated = None
        return ids

    def record(self, event: TokenEvent) -> TokenEvent | None:
        """Record an event from the engine; returns it as the caller should see it, if at all."""
        entry = self._live.get(event.id)
        if entry is None or not entry.submitted:
            # It left this engine, and may even be back to be submitted anew.
            if event.finish is not None:
                self._aborting.discard(event.id)
            return None
        if entry.had_event and (entry.repeated_logprobs or event.scheduled_at is not None):
            event = _without_repeats(event, entry)
        entry.had_event = True
        entry.tokens.extend(event.tokens)
        entry.prompt_logprobs += len(event.prompt_logprobs)
        if entry.on_probation and _got(entry) >= PROGRESS_TOKENS:
            entry.on_probation = False
            self._on_probation.discard(event.id)
        if event.finish is None:
            return event
        if entry is self._isolated:
            self._isolated = None
            entry.suspect = False
            if event.finish == "length" and len(entry.tokens) < entry.request.sampling.max_tokens:
                entry.submitted = False
                self._queued[event.id] = entry
                return structs.replace(event, finish=None)
        del self._live[event.id]
        self._on_probation.discard(event.id)
        return event

    def engine_ready(self) -> None:
        self._engine_up = True

    def engine_died(self, *, replaced: bool = False) -> list[str]:
        """Queue all requests again; returns the ids of poison requests, which are removed.

        An engine that was `replaced` on purpose died of none of them.
        """
        running = [entry for entry in self._live.values() if entry.submitted]
        poison = None if replaced else self._find_poison(running)
        if replaced and self._isolated is not None:
            self._quarantine.append(self._isolated)
        self._engine_up = False
        self._isolated = None
        self._aborting.clear()
        for entry in running:
            entry.submitted = False
        self._queued = dict(self._live)
        return [] if poison is None else [poison.request.id]

    def take_queued(self) -> list[Request]:
        """The requests to submit now; they count as submitted from here on."""
        if not self._engine_up or self._isolated is not None:
            return []
        if self._quarantine:
            # The engine must be empty, or a death would not tell which request caused it.
            return [] if self.engine_busy else [self._isolate(self._quarantine.pop())]
        queued, self._queued = self._queued, {}
        for name in self._aborting & queued.keys():
            self._queued[name] = queued.pop(name)
        return [_submit(entry, None) for entry in queued.values()]

    def _isolate(self, entry: JournalEntry) -> Request:
        del self._queued[entry.request.id]
        self._isolated = entry
        # Longer with every death, so that a late fault is found in a few runs, too.
        return _submit(entry, 4 ** (entry.deaths - QUARANTINE_DEATHS))

    def _find_poison(self, running: list[JournalEntry]) -> JournalEntry | None:
        """Count a death against those that ran; a certain culprit is removed and returned."""
        for entry in running:
            self._count_death(entry)
        poison = self._isolated
        if poison is None and len(running) == 1 and not self._aborting:
            # Once more than quarantines it, as two deaths in a row may be the machine's fault.
            poison = running[0] if running[0].deaths > QUARANTINE_DEATHS else None
        if poison is not None:
            self._remove_poison(poison)
            return poison
        for entry in sorted(running, key=_arrival):
            if entry.deaths >= QUARANTINE_DEATHS:
                entry.suspect = True
                self._quarantine.append(entry)
        return None

    def _count_death(self, entry: JournalEntry) -> None:
        progressed = _got(entry) >= PROGRESS_TOKENS << entry.seen
        entry.deaths = 1 if progressed else entry.deaths + 1
        entry.seen += 1
        # One that has run for long is not what killed the engine; but that this happens to it
        # again is no more likely than that it kills late.
        entry.on_probation = entry.seen > 1 or not progressed
        if entry.on_probation:
            self._on_probation.add(entry.request.id)

    def _remove_poison(self, poison: JournalEntry) -> None:
        """It explains what all others have seen, who yet stay on probation: there may be two."""
        del self._live[poison.request.id]
        self._on_probation.discard(poison.request.id)
        self._quarantine.clear()
        for entry in self._live.values():
            entry.deaths = min(entry.deaths, QUARANTINE_DEATHS - 1)
            entry.seen = 0
            entry.suspect = False


def _got(entry: JournalEntry) -> int:
    """Tokens from the present engine."""
    return len(entry.tokens) - entry.resumed_at


def _arrival(entry: JournalEntry) -> float:
    return entry.request.arrival


def remaining_request(entry: JournalEntry) -> Request:
    """What an engine needs to go on with a request, without asking again for what was received."""
    request, sampling = entry.request, entry.request.sampling
    if entry.prompt_logprobs and entry.prompt_logprobs >= len(request.prompt) - 1:
        sampling = replace(sampling, prompt_logprobs=None)
    if sampling is request.sampling and len(entry.tokens) == len(request.generated):
        return request
    return replace(request, sampling=sampling, generated=tuple(entry.tokens))


def _submit(entry: JournalEntry, most_tokens: int | None) -> Request:
    """Mark an entry as submitted; its request asks for `most_tokens` at most if isolated."""
    request = remaining_request(entry)
    if entry.kv_source:
        # Only once: an engine that replaces this one has what was loaded, or nothing may be used.
        request, entry.kv_source = replace(request, kv_source=entry.kv_source), ""
    entry.submitted = True
    entry.resumed_at = len(entry.tokens)
    repeats = request.sampling.prompt_logprobs is not None
    entry.repeated_logprobs = entry.prompt_logprobs if repeats else 0
    if most_tokens is None:
        return request
    shorter = min(request.sampling.max_tokens, len(entry.tokens) + most_tokens)
    return replace(request, sampling=replace(request.sampling, max_tokens=shorter))


def _without_repeats(event: TokenEvent, entry: JournalEntry) -> TokenEvent:
    """A resumed request's event without what an earlier engine had reported already."""
    dropped = min(entry.repeated_logprobs, len(event.prompt_logprobs))
    entry.repeated_logprobs -= dropped
    return structs.replace(
        event,
        prompt_logprobs=event.prompt_logprobs[dropped:],
        cached_tokens=0,
        scheduled_at=None,
    )
