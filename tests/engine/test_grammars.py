"""Grammars beside the steps: who waits for one, and tokens that need no step of their own."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from headway.checkpoint import Storage, prepare
from headway.config import EngineConfig
from headway.engine.grammars import ForcedTokens, GrammarGate
from headway.engine.loop import Engine
from headway.errors import EngineError
from headway.grammar import GrammarCompiler
from headway.native import available
from headway.runner import build_runner
from headway.scheduling.admission import LengthEstimate
from headway.scheduling.block_pool import BlockPool
from headway.scheduling.drafts import Wanted
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.speculation.speculation import AllDrafts, Speculation
from headway.scheduling.stats import Idle
from headway.text.grammar_worker import GrammarLimits
from headway.types import Grammar, Request, ResolvedSampling, TokenEvent, Vocabulary
from headway.types.thinking import ThinkingBudget
from tests.grammar.letters import EOS, allowed, compiler, text_of, token_of, vocabulary
from tests.models.families import write_tiny
from tests.scheduling.harness import EngineHarness, StepClock, make_harness, request_of
from tests.scheduling.toy_policies import policy_of

WORDS = Grammar(kind="regex", text="(first|second)-(one|two|twelve)-of-all-of-them")
RECORD = Grammar(
    kind="json",
    text='{"type":"object","properties":{"name":{"enum":["ab","ba"]},"inhabitants":{"type":'
    '"integer","maximum":99,"minimum":0}},"required":["name","inhabitants"],'
    '"additionalProperties":false}',
    whitespace="",
)
BROKEN = Grammar(kind="regex", text="(")
PATIENCE = 30.0


THINKING = ThinkingBudget(
    tokens=9,
    opening="<t>",
    closing="</t>",
    closing_tokens=tuple(token_of(letter) for letter in "</t>"),
    inside=True,
)


def with_budget(request: Request) -> Request:
    return replace(request, sampling=replace(request.sampling, thinking_token_budget=THINKING))


def with_grammar(request: Request, grammar: Grammar) -> Request:
    return replace(request, sampling=replace(request.sampling, structured_outputs=grammar))


class SlowVocabulary:
    """Is read once `may_read` is set."""

    def __init__(self) -> None:
        self.may_read = threading.Event()
        self.asked = threading.Event()
        self.threads: list[str] = []

    def __call__(self) -> Vocabulary:
        self.threads.append(threading.current_thread().name)
        self.asked.set()
        assert self.may_read.wait(PATIENCE)
        return vocabulary()


def gated(read: SlowVocabulary) -> tuple[EngineHarness, GrammarGate]:
    harness = make_harness()
    gate = GrammarGate(GrammarCompiler(read))
    harness.engine = Engine(
        scheduler=harness.scheduler, runner=harness.runner, clock=harness.clock, gate=gate
    )
    return harness, gate


def steps_until_taken(harness: EngineHarness, gate: GrammarGate) -> None:
    for _ in range(100_000):
        if not len(gate):
            return
        harness.step()
        threading.Event().wait(0.001)
    raise AssertionError("nobody compiled it")


def taken_of(gate: GrammarGate) -> list[Request]:
    taken: list[Request] = []
    while len(gate):
        taken += gate.take()
    return taken


def test_others_go_on_while_a_vocabulary_is_read() -> None:
    read = SlowVocabulary()
    harness, gate = gated(read)
    harness.add(with_grammar(request_of("late", max_tokens=2), WORDS), request_of("a"))
    assert read.asked.wait(PATIENCE)
    for _ in range(4):
        harness.step()
    assert harness.ends["a"].finish == "length"
    assert "late" not in harness.tokens
    assert harness.engine.stats().waiting == 1
    assert harness.engine.has_work
    outcome = harness.engine.step()
    assert isinstance(outcome, Idle)
    assert outcome.until is not None, "it must look again"
    read.may_read.set()
    steps_until_taken(harness, gate)
    harness.drain()
    assert read.threads == ["headway-grammars"]


def test_what_is_compiled_waits_for_nothing_and_the_rest_keep_their_order() -> None:
    read = SlowVocabulary()
    gate = GrammarGate(GrammarCompiler(read))
    plain = request_of("plain")
    assert not gate.hold(plain)
    first, second = (with_grammar(request_of(name), WORDS) for name in ("first", "second"))
    assert gate.hold(first)
    assert gate.hold(second)
    read.may_read.set()
    assert taken_of(gate) == [first, second]
    assert not gate.hold(with_grammar(request_of("third"), WORDS))


def test_a_bound_on_reasoning_waits_for_the_vocabulary_alone() -> None:
    read = SlowVocabulary()
    harness, gate = gated(read)
    harness.add(with_budget(request_of("late", max_tokens=2)), request_of("a", max_tokens=2))
    assert read.asked.wait(PATIENCE)
    harness.step()
    harness.step()
    assert harness.ends["a"].finish == "length"
    assert "late" not in harness.tokens
    read.may_read.set()
    steps_until_taken(harness, gate)
    harness.drain()
    assert harness.ends["late"].finish == "length"
    assert not gate.hold(with_budget(request_of("b")))
    assert gate.hold(with_grammar(with_budget(request_of("c")), WORDS))


def test_one_that_leaves_while_it_waits_is_gone() -> None:
    read = SlowVocabulary()
    harness, gate = gated(read)
    asked = with_grammar(request_of("a"), WORDS)
    harness.add(asked)
    (event,) = harness.engine.abort("a")
    assert (event.id, event.finish) == ("a", "abort")
    assert harness.engine.abort("a") == []
    again = with_grammar(request_of("a", max_tokens=1), WORDS)
    harness.add(again)
    read.may_read.set()
    steps_until_taken(harness, gate)
    harness.drain()
    assert harness.ends["a"].finish == "length"


def test_one_that_cannot_be_compiled_is_let_through_to_be_refused() -> None:
    gate = GrammarGate(compiler())
    broken = with_grammar(request_of("a"), BROKEN)
    assert gate.hold(broken)
    assert taken_of(gate) == [broken]
    assert not gate.hold(with_grammar(request_of("b"), BROKEN)), "it is known to be broken"


def test_a_thread_that_fails_is_heard_of() -> None:
    def read() -> Vocabulary:
        raise OSError("no such tokenizer")

    gate = GrammarGate(GrammarCompiler(read))
    assert gate.hold(with_grammar(request_of(), WORDS))
    with pytest.raises(OSError, match="no such tokenizer"):
        taken_of(gate)


def test_a_grammar_that_is_never_compiled_ends_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its requests are resumed in another one; else all later grammars would wait for ever."""
    read = SlowVocabulary()
    harness, _ = gated(read)
    harness.add(with_grammar(request_of("a"), WORDS))
    assert read.asked.wait(PATIENCE)
    harness.engine.step()
    monkeypatch.setattr("headway.engine.grammars.COMPILE_SECONDS", 0.0)
    with pytest.raises(EngineError, match="not compiled after"):
        harness.engine.step()
    read.may_read.set()


@pytest.mark.skipif(sys.platform != "linux", reason="it asks glibc")
def test_compiling_has_twice_the_stack_that_a_grammar_was_tried_with() -> None:
    """Whatever threads have by default, which may be as little as the system likes."""
    libc = ctypes.CDLL(None)
    libc.pthread_self.restype = ctypes.c_ulong
    found: list[int] = []

    def read() -> Vocabulary:
        attributes, size = ctypes.create_string_buffer(256), ctypes.c_size_t()
        assert not libc.pthread_getattr_np(ctypes.c_ulong(libc.pthread_self()), attributes)
        assert not libc.pthread_attr_getstacksize(attributes, ctypes.byref(size))
        found.append(size.value)
        return vocabulary()

    small = 2**20
    usual = threading.stack_size(small)
    try:
        gate = GrammarGate(GrammarCompiler(read))
        assert gate.hold(with_grammar(request_of(), WORDS))
        taken_of(gate)
        assert threading.stack_size() == small, "other threads have what they had"
    finally:
        threading.stack_size(usual)
    assert found[0] >= 2 * GrammarLimits().stack


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be pinned")
@pytest.mark.parametrize("named", [False, True])
def test_compiling_is_not_bound_to_the_processor_of_the_steps(*, named: bool) -> None:
    allowed_cpus = os.sched_getaffinity(0)
    if len(allowed_cpus) < 2:
        pytest.skip("there is one processor")
    seen: list[set[int]] = []

    def read() -> Vocabulary:
        seen.append(os.sched_getaffinity(0))
        return vocabulary()

    gate = GrammarGate(GrammarCompiler(read), cpus=allowed_cpus if named else ())
    one = {min(allowed_cpus)}
    os.sched_setaffinity(0, one)
    try:
        assert gate.hold(with_grammar(request_of(), WORDS))
        taken_of(gate)
    finally:
        os.sched_setaffinity(0, allowed_cpus)
    assert seen == [allowed_cpus if named else one]


@pytest.mark.parametrize("grammar", [WORDS, RECORD])
@pytest.mark.parametrize("pick", [0, -1])
def test_forced_tokens_are_those_that_have_no_alternative(grammar: Grammar, pick: int) -> None:
    matcher, tokens, forced = compiler().matcher(grammar), [], 0
    while (options := allowed(matcher)) != [EOS]:
        found = matcher.forced()
        assert bool(found) == (len(options) == 1)
        for token in found:
            assert allowed(matcher) == [token]
            tokens.append(token)
            matcher.advance(tokens)
        forced += len(found)
        if not found:
            tokens.append(options[pick])
            matcher.advance(tokens)
        assert matcher.error is None
    assert forced > len(tokens) // 2, text_of(tokens)


def test_a_proposer_stands_where_the_tokens_are() -> None:
    proposer = ForcedTokens(compiler(), kept=1)
    asked = with_grammar(request_of("a", prompt=(7, 8)), WORDS)
    other = with_grammar(request_of("b", prompt=(7,)), WORDS)
    begun = [7, 8, token_of("f")]
    irst = [token_of(letter) for letter in "irst-"]
    eco = [token_of(letter) for letter in "eco"]

    def guessed(request: Request, tokens: list[int], most: int = 9) -> Sequence[int]:
        (guess,) = proposer.propose([Wanted(request, tokens, most)])
        return guess.tokens

    assert guessed(asked, [7, 8]) == []
    assert guessed(asked, begun) == irst
    assert guessed(other, [7, token_of("s")], 3) == eco
    assert guessed(asked, begun, 2) == irst[:2], "not kept, and found again"
    proposer.forget("a")
    assert guessed(asked, begun) == irst, "forgotten, and found again"
    both = proposer.propose([Wanted(asked, begun, 9), Wanted(other, [7, token_of("s")], 3)])
    assert [each.tokens for each in both] == [irst, eco], "in their order"
    again = with_grammar(request_of("a", prompt=(7, 8)), RECORD)
    assert guessed(again, [7, 8]) != irst, "another request of the same name"
    assert proposer.may_propose(asked)
    assert not proposer.may_propose(request_of("c"))
    assert guessed(with_grammar(request_of("d"), BROKEN), [1, 2, 3]) == []


@pytest.fixture(name="tiny", scope="module")
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not available():
        pytest.skip("no native library")
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny("llama", folder)
    storage: Storage = "native-float32"
    return prepare(str(folder), dtype=storage, progress=False).folder


def answers(
    tiny: Path, asked: Sequence[Request], *, forced: bool, blocks: int
) -> dict[str, list[TokenEvent]]:
    """What each is told."""
    config = EngineConfig(device="cpu", threads=1, kv_cache_memory=2**22, max_model_len=128)
    loaded = build_runner(config, tiny, tokens=vocabulary)
    assert loaded.grammars is not None
    scheduler = Scheduler(
        policy=policy_of("continuous"),
        pool=BlockPool(num_blocks=blocks, block_size=loaded.block_size),
        limits=loaded.limits,
        prefix_caching=True,
        lengths=LengthEstimate(first_guess=1),
        speculation=(
            Speculation([ForcedTokens(loaded.grammars, kept=8)], AllDrafts()) if forced else None
        ),
    )
    engine = Engine(scheduler=scheduler, runner=loaded.runner, clock=StepClock())
    told: dict[str, list[TokenEvent]] = {}
    for request in asked:
        engine.add(request)
    while engine.has_work:
        events = engine.step()
        assert isinstance(events, list)
        for event in events:
            told.setdefault(event.id, []).append(event)
    return told


@pytest.mark.parametrize("blocks", [64, 8])
def test_the_tokens_are_those_of_a_step_each(tiny: Path, blocks: int) -> None:
    """Also where there are penalties and log probabilities, and where some are preempted."""
    changes: list[dict[str, object]] = [
        {},
        {"logprobs": 3},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.5},
        {"temperature": 0.0},
        {"max_tokens": 9},
        {"thinking_token_budget": THINKING},
    ]
    asked = [
        Request(
            id=str(number),
            prompt=tuple(range(3, 3 + 4 * (number + 1))),
            arrival=float(number),
            sampling=replace(
                ResolvedSampling(
                    max_tokens=80,
                    seed=number,
                    temperature=1.0,
                    stop_token_ids=(EOS,),
                    structured_outputs=(WORDS, RECORD, None)[number % 3],
                ),
                **change,  # type: ignore[arg-type]
            ),
        )
        for number, change in enumerate(changes * 2)
    ]
    plain = answers(tiny, asked, forced=False, blocks=blocks)
    told = answers(tiny, asked, forced=True, blocks=blocks)
    for name, events in plain.items():
        for field in ("tokens", "logprobs"):
            expected = [each for event in events for each in getattr(event, field)]
            assert [each for event in told[name] for each in getattr(event, field)] == expected
        assert told[name][-1].finish == events[-1].finish
    assert max(len(event.tokens) for events in told.values() for event in events) > 4
    if blocks < 64:
        assert any(event.preemptions for events in told.values() for event in events)
    assert sum(map(len, told.values())) < sum(map(len, plain.values())) * 2 / 3
