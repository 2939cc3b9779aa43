"""Grammars in an engine's time: compiled beside its steps, and put to use to save some of them.

To compile a grammar takes a while, the first one most of all, since the vocabulary is read for it.
So it is done in a thread: the request waits outside the scheduler and the others go on. And where a
grammar leaves no choice, its tokens are drafts, so that a step computes several of them at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from collections.abc import Sequence as Seq
from queue import SimpleQueue

from headway.errors import EngineError, HeadwayError
from headway.grammar import GrammarCompiler, Matcher
from headway.scheduling.drafts import Guess, Wanted
from headway.types import Grammar, Request
from headway.types.thinking import ThinkingBudget

STACK_BYTES = 8 * 2**20
"""Twice what `headway.text.grammar_worker` tried a grammar with. A thread may have less than the
process's first one, and one that overflows ends the process."""

COMPILE_SECONDS = 60.0
"""Longest time that a grammar may take, the vocabulary included. It was compiled before in far
less, so one that takes so long never ends, and all later ones would wait for it for ever."""


class GrammarGate:
    """Holds requests back until their grammars are compiled, and the vocabulary is read that a
    bound on reasoning needs; for one thread, besides its own."""

    def __init__(self, compiler: GrammarCompiler, *, cpus: Collection[int] = ()) -> None:
        """Its thread keeps to `cpus`, or where there are none to those of the one that holds."""
        self._compiler = compiler
        self._cpus = cpus
        self._held: OrderedDict[str, Request] = OrderedDict()
        self._asked: SimpleQueue[Request] = SimpleQueue()
        self._done: SimpleQueue[Request | BaseException] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._began: float | None = None
        """When the thread began what it compiles now, on the monotonic clock."""

    def __len__(self) -> int:
        """How many are held."""
        return len(self._held)

    def hold(self, request: Request) -> bool:
        """Whether a request must wait; then `take` gives it back later."""
        if self._ready(request):
            return False
        self._held[request.id] = request
        self._asked.put(request)
        if self._thread is None:
            self._thread = self._start()
        return True

    def _ready(self, request: Request) -> bool:
        grammar, thinking = _followed(request)
        if thinking is not None and not self._compiler.has_vocabulary:
            return False
        return grammar is None or self._compiler.has(grammar)

    def drop(self, request_id: str) -> bool:
        """Forget a request; False for one that is not held."""
        return self._held.pop(request_id, None) is not None

    def take(self) -> list[Request]:
        """Those that need not wait any longer, in the order in which they came.

        One whose grammar cannot be compiled is among them: whoever samples says why. Raises
        whatever else ended the thread, and `EngineError` where it does not come to an end.
        """
        began = self._began
        if began is not None and time.monotonic() - began > COMPILE_SECONDS:
            raise EngineError(f"a grammar is not compiled after {COMPILE_SECONDS:g} s")
        found: list[Request] = []
        while not self._done.empty():
            request = self._done.get()
            if isinstance(request, BaseException):
                raise request
            # One that was dropped may have come again under the same id.
            if self._held.get(request.id) is request:
                found.append(self._held.pop(request.id))
        return found

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name="headway-grammars", daemon=True)
        usual = threading.stack_size(STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(usual)
        return thread

    def _work(self) -> None:
        if self._cpus:
            # Otherwise it would share the one that the engine's thread may be bound to.
            os.sched_setaffinity(0, self._cpus)
        while True:
            request = self._asked.get()
            self._began = time.monotonic()
            try:
                if self._held.get(request.id) is request:
                    self._prepare(request)
            except HeadwayError:
                pass  # the sampler gets it again, and ends the request with it
            except BaseException as error:
                self._done.put(error)
                return
            self._began = None
            self._done.put(request)

    def _prepare(self, request: Request) -> None:
        grammar, thinking = _followed(request)
        if thinking is not None:
            self._compiler.vocabulary()
        if grammar is not None:
            self._compiler.check(grammar)


def _followed(request: Request) -> tuple[Grammar | None, ThinkingBudget | None]:
    """What a sampler must have ready for a request."""
    return request.sampling.structured_outputs, request.sampling.thinking_token_budget


class ForcedTokens:
    """A `Proposer` of the tokens that a grammar has without a choice: drafts that are right."""

    source = "forced"

    def __init__(self, compiler: GrammarCompiler, *, kept: int) -> None:
        """`kept`: of how many requests it remembers where they stand."""
        self._compiler = compiler
        self.seconds = 0.0
        """What the last `propose` took."""
        self._kept = kept
        self._matchers: OrderedDict[str, tuple[Request, Matcher]] = OrderedDict()

    def may_propose(self, request: Request) -> bool:
        """See `headway.scheduling.drafts.Proposer`."""
        return request.sampling.structured_outputs is not None

    def cost(self, width: int) -> float:  # noqa: ARG002
        """See `headway.scheduling.drafts.Proposer`."""
        return 0.0

    def propose(self, wanted: Seq[Wanted]) -> list[Guess]:
        """See `headway.scheduling.drafts.Proposer`; for those that it may propose for."""
        began = time.perf_counter()
        found = [Guess(self._forced(*each)) for each in wanted]
        self.seconds = time.perf_counter() - began
        return found

    def forget(self, request_id: str) -> None:
        """See `headway.scheduling.drafts.Proposer`."""
        self._matchers.pop(request_id, None)

    def _forced(self, request: Request, tokens: Seq[int], most: int) -> list[int]:
        matcher = self._matcher(request)
        matcher.advance(tokens[len(request.prompt) :])
        return matcher.forced()[:most]

    def _matcher(self, request: Request) -> Matcher:
        known = self._matchers.pop(request.id, None)
        if known is None or known[0] is not request:
            known = (request, self._new(request))
        self._matchers[request.id] = known
        if len(self._matchers) > self._kept:
            self._matchers.popitem(last=False)
        return known[1]

    def _new(self, request: Request) -> Matcher:
        grammar = request.sampling.structured_outputs
        assert grammar is not None, "only those with a grammar have a matcher"
        try:
            return self._compiler.matcher(grammar)
        except HeadwayError as error:
            return Matcher.failed(error.message)
