"""What is known of one engine by whoever routes: what was sent there, and what its steps told.

Knowledge is as old as the last step that was told. What a router asks for is kept as running sums,
so that a decision costs the same with thousands of requests under way as with none: prompt tokens
ahead, decodes, their contexts, and from these the seconds that the next prompt waits. Which part of
a prompt is computed already nobody tells before its first token, but each step tells how many
tokens it computed: those that are no decodes are of the prompts ahead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from headway.routing.prefix_memory import PrefixMemory
from headway.routing.request import RequestShape
from headway.routing.step_costs import GUESS, StepCosts, pairs_of
from headway.types import TokenEvent
from headway.types.engine import SchedulerConfig
from headway.types.fleet import Role

ROOM, SLOTS = 1 << 20, 256
"""Tokens of a KV cache, and sequences of a batch, of which nothing is known."""
LEAST_CHUNK = 16
"""Tokens of a prompt that a step computes at least, however many decode beside it."""
SHORTEST_CHUNK = 1e-6
"""Seconds of it: no machine is faster, and what is divided by it stays finite."""
LATELY = 5.0
"""Seconds over which prompts are spread that hold up those who decode ..."""
MIXED = 1.5
"""... and how many times as long decodes would take if steps with prompts gave them no token."""
_MEMORY = 16
"""About so many requests tell how long one stays."""


@dataclass(slots=True)
class _Sent:
    """A request that was sent and has not ended."""

    shape: RequestShape
    uncached: int
    """Tokens of its prompt to be computed: expected, until its first token tells."""
    late: bool
    """It goes behind those that can be on time."""
    waits: bool = True
    """Its first token has not come."""
    began: float = 0.0
    """When that came."""
    generated: int = 0
    loaded: int = 0
    """Tokens whose keys and values come from elsewhere: to be held, and not to be computed."""

    @property
    def pairs(self) -> float:
        return pairs_of(self.uncached, self.shape.prompt_tokens - self.uncached)


@dataclass(slots=True)
class _Backlog:
    """Prompts whose first token has not come, summed."""

    requests: int = 0
    tokens: int = 0
    pairs: float = 0.0

    def seconds(self, costs: StepCosts, done: int) -> float:
        """What is left of them when so many of their tokens are computed."""
        if done >= self.tokens:
            return 0.0
        share = 1 - done / self.tokens
        return share * (costs.token * self.tokens + costs.pair * self.pairs)


@dataclass(slots=True, kw_only=True)
class EngineView:
    """Use: `sent` and `ended` for every request, and `stepped` for every step that was told.

    Without `stepped` it counts requests, and remembers prefixes, all the same.
    """

    requests: int = 0
    """Sent there, and not ended; they wait or run."""
    room: int = ROOM
    """Tokens that its KV cache holds."""
    slots: int = SLOTS
    """Sequences of one step ..."""
    most_tokens: int = 8192
    """... and its new tokens."""
    by_deadline: bool = False
    """Requests that cannot be on time give way to those that can: others do not wait for them."""
    role: Role = "both"
    """What it is for; see `RoleRouter`."""
    costs: StepCosts = GUESS
    """Replace them with `learn`."""
    decodes: int = 0
    """Requests whose first token has come."""
    queue: float = 0.0
    """Seconds of prompts, and of what decodes beside them, before a new one that is on time ..."""
    whole_queue: float = 0.0
    """... and before one that goes behind all others; both after the step under way."""
    step_ends: float = 0.0
    """When the step under way is over, as predicted; long ago where there is none."""
    slowdown: float = 1.0
    """How many times as long prompts take as they would without what decodes beside them."""
    beside: float = 0.0
    """Seconds that a step takes beside its prompts."""
    widest: float = 0.0
    """Seconds of a step in which all requests decode."""
    lately: float = 0.0
    """Seconds of prompts that were sent there, each the less the longer ago."""
    residence: float = 0.0
    """Seconds from a request's first token to its end, on average over the last ones."""
    held: int = 0
    """Tokens in its KV cache once all prompts are computed, those that are shared counted once."""
    prefixes: PrefixMemory = field(init=False)
    _sent: dict[str, _Sent] = field(default_factory=dict)
    _on_time: _Backlog = field(default_factory=_Backlog)
    _late: _Backlog = field(default_factory=_Backlog)
    _done: int = 0
    """Tokens of these prompts that are computed."""
    contexts: int = 0
    """Positions that its requests will attend to once all of them decode."""
    _context: int = 0
    """The same of those who decode now."""
    _paces: Counter[float] = field(default_factory=Counter)
    """Seconds between tokens that requests ask for, and how many do."""
    _chunk: float = math.inf
    """Seconds of prompts in a step, at most ..."""
    _under_way: float = 0.0
    """... and in the present one."""
    _ahead: float = 0.0
    """`queue`, or the wait for a slot where that is longer, and the step of a prompt itself ..."""
    _whole_ahead: float = 0.0
    """... and the same with `whole_queue`."""
    _free: int = ROOM
    """Tokens of the KV cache that nobody holds; below 0 where some must wait for others."""
    _weighed: float = 0.0
    """When `lately` was right."""
    _now: float = 0.0
    _ends: int = 0

    def __post_init__(self) -> None:
        self.prefixes = PrefixMemory(self.room)
        self._reckon()

    @classmethod
    def of(
        cls, scheduler: SchedulerConfig, costs: StepCosts | None = None, role: Role = "both"
    ) -> EngineView:
        """An engine with these settings, which has been sent nothing. Without `costs` nothing is
        known of its speed."""
        return cls(
            room=scheduler.num_blocks * scheduler.block_size,
            slots=scheduler.limits.max_num_seqs,
            most_tokens=scheduler.limits.max_num_batched_tokens,
            by_deadline=scheduler.policy.name == "paced",
            role=role,
            costs=costs or GUESS,
        )

    @property
    def predicts(self) -> bool:
        """Whether its seconds are more than a guess."""
        return self.costs is not GUESS

    def learn(self, costs: StepCosts) -> None:
        """Its steps cost something else than was known."""
        self.costs = costs
        self._reckon()

    def forget(self) -> None:
        """Its KV cache is empty: another process has taken its place."""
        self.prefixes = PrefixMemory(self.room)

    def has_room(self, request: RequestShape) -> bool:
        """Whether the request could join the batch at once: a slot and KV cache are free."""
        return self.requests < self.slots and request.prompt_tokens <= self._free

    def decoding(self, name: str) -> bool | None:
        """Whether the request of this id has had its first token; None where it is not here."""
        one = self._sent.get(name)
        return None if one is None else not one.waits

    def forecast(self, request: RequestShape) -> tuple[float, float]:
        """Seconds to the request's first token if it were sent now, and those of its own prompt."""
        prompt, prefixes, costs = request.prompt_tokens, request.prefixes, self.costs
        known = self.prefixes.known(prefixes) if prefixes else 0
        held = prompt - known
        known = max(known, request.loaded_tokens)
        todo = prompt - known
        own = (costs.token + costs.pair * 0.5 * (known + prompt + 1)) * todo
        seconds = own * self.slowdown + (self._ahead if request.pace.any else self._whole_ahead)
        rest = self.step_ends - request.at
        if rest > 0.0:
            seconds += rest
        if held > self._free:
            seconds += self.residence * (held - self._free) / self.room
        return seconds, own

    def tpot(self, own: float) -> float:
        """Seconds between tokens when all decode, if prompts come as they did lately and one of
        `own` seconds more; infinite where that leaves no time. Policies that go by deadlines keep
        the pace of streams themselves."""
        if self.by_deadline:
            return self.widest
        left = 1 - (self.lately + own) / LATELY
        return max(1.0, 1 / (MIXED * left)) * self.widest if left > 0.0 else math.inf

    def tpot_with(self, request: RequestShape) -> float:
        """The same once a request has joined those who are there, its prompt computed elsewhere."""
        joined = self.costs.decodes(self.requests + 1, self.contexts + request.prompt_tokens)
        return joined * self.tpot(0.0) / self.widest

    def sent(self, request: RequestShape) -> None:
        """A request was sent to this engine. One of an id that is there already takes its place."""
        self.ended(request)
        late = False
        if self.by_deadline:
            pace = request.pace
            late = not pace.any or (self.predicts and self.forecast(request)[0] > pace.ttft)
        known = self.prefixes.known(request.prefixes)
        loaded = max(0, request.loaded_tokens - known)
        one = _Sent(request, max(1, request.prompt_tokens - known - loaded), late, loaded=loaded)
        self._weigh(request.at)
        self.lately += self.costs.prefill(one.uncached, request.prompt_tokens - one.uncached)
        self.prefixes.note(request.prefixes)
        idle = not self._sent
        self._sent[request.id] = one
        self.requests += 1
        self.held += one.uncached + one.loaded
        self.contexts += request.prompt_tokens
        if request.pace.tpot < math.inf:
            self._paces[request.pace.tpot] += 1
        self._wait(one, 1)
        if idle:
            self._begin_step(max(self._now, request.at))
        else:
            self._reckon()

    def ended(self, request: RequestShape) -> None:
        """A request that was sent to this engine has ended, or was moved; harmless for another."""
        one = self._sent.pop(request.id, None)
        if one is None:
            return
        self.requests -= 1
        if not self.requests:
            self.lately = 0.0  # it held nobody up who is here
        self.held -= one.uncached + one.loaded + one.generated
        self.contexts -= one.shape.prompt_tokens + one.generated
        if one.waits:
            self._wait(one, -1)
        else:
            self.decodes -= 1
            self._context -= one.shape.prompt_tokens + one.generated
            self._ends = min(self._ends + 1, _MEMORY)
            self.residence += (self._now - one.began - self.residence) / self._ends
        tpot = one.shape.pace.tpot
        if tpot < math.inf:
            self._paces[tpot] -= 1
            if not self._paces[tpot]:
                del self._paces[tpot]
        self._settle()
        self._reckon()

    def stepped(self, now: float, computed: int, events: Iterable[TokenEvent]) -> None:
        """A step was over at `now`, or several were, with so many tokens computed in all.

        `events` has the tokens of each request. Those that end must be told to `ended` too, before
        or after. What is told of unknown requests counts for nothing.
        """
        self._now = now
        self._weigh(now)
        for event in events:
            one = self._sent.get(event.id)
            if one is None or not event.tokens:
                continue
            count = len(event.tokens)
            one.generated += count
            self.held += count
            self.contexts += count
            if one.waits:
                self._begin(one, event.cached_tokens)
            else:
                self._context += count
                computed -= count + event.draft_tokens - event.accepted_tokens
        self._done += max(0, computed)
        self._settle()
        self._begin_step(now)

    def _begin(self, one: _Sent, cached: int) -> None:
        """The first token of a request came: its prompt is computed, but for what was cached."""
        self._wait(one, -1)
        one.waits, one.began = False, self._now
        self.held -= one.uncached
        one.uncached = max(1, one.shape.prompt_tokens - cached)
        self.held += one.uncached
        self.decodes += 1
        self._context += one.shape.prompt_tokens + one.generated
        self._done -= one.uncached

    def _weigh(self, now: float) -> None:
        if now > self._weighed:
            self.lately *= math.exp((self._weighed - now) / LATELY)
            self._weighed = now

    def _wait(self, one: _Sent, sign: int) -> None:
        backlog = self._late if one.late else self._on_time
        backlog.requests += sign
        backlog.tokens += sign * one.uncached
        backlog.pairs += sign * one.pairs

    def _settle(self) -> None:
        """What was computed of prompts is no more than they are. Preempted requests, whose prompts
        are computed again, are not told; nor is it told which of its prompts an engine begins."""
        self._done = min(max(0, self._done), self._on_time.tokens + self._late.tokens)

    def _begin_step(self, now: float) -> None:
        """The engine begins a step now, if it has anything to compute."""
        self._under_way = 0.0
        self._reckon()
        if not self._sent:
            self.step_ends = now
            return
        work = self._work()[1]
        self._under_way = min(self._chunk, work)
        seconds = self.beside + self._under_way
        if not self._under_way:
            seconds = self.costs.decodes(self.decodes, self._context)
        self.step_ends = now + max(self.costs.least, seconds)
        self._reckon()

    def _work(self) -> tuple[float, float]:
        """Seconds of the prompts ahead: of those that can be on time, and of all."""
        on_time = self._on_time.seconds(self.costs, self._done)
        if not self._late.tokens:
            return on_time, on_time
        behind = self._late.seconds(self.costs, max(0, self._done - self._on_time.tokens))
        return on_time, on_time + behind

    def _reckon(self) -> None:
        """What `forecast` adds up, from the sums."""
        costs = self.costs
        self.beside = costs.fixed + costs.decode * self.decodes + costs.position * self._context
        least = max(SHORTEST_CHUNK, LEAST_CHUNK * costs.token)
        chunk = max(least, (self.most_tokens - self.decodes) * costs.token)
        if self.by_deadline and self._paces:
            # Streams keep their pace: prompts get what it leaves of a step.
            chunk = max(least, min(chunk, min(self._paces) - self.beside))
        self._chunk = chunk
        self.slowdown = 1 + self.beside / chunk
        on_time, whole = self._work()
        self.queue = max(0.0, on_time - self._under_way) * self.slowdown
        self.whole_queue = max(0.0, whole - self._under_way) * self.slowdown
        passed = self.requests - self._late.requests
        self._ahead = max(self.queue, self._slot_wait(passed)) + self.beside
        self._whole_ahead = max(self.whole_queue, self._slot_wait(self.requests)) + self.beside
        self._free = self.room - self.held + self._late.tokens
        self.widest = costs.decodes(self.requests, self.contexts)

    def _slot_wait(self, requests: int) -> float:
        """Seconds until one that comes after so many others has a slot."""
        return self.residence * max(0, requests + 1 - self.slots) / self.slots
