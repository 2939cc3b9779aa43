"""Sequences with grammars in both runners: what they may say, whatever else is in the batch."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.checkpoint import load_prepared
from headway.config import EngineConfig
from headway.message import TOOL_FORMATS, Tool, ToolUse, tool_grammar
from headway.runner import build_runner
from headway.types import Grammar, NewSequence, ResolvedSampling, StepPlan
from headway.types.sampling import NOTHING_LEFT
from headway.types.step import Runner
from headway.types.thinking import ThinkingBudget
from tests.grammar.letters import EOS, text_of, token_of, vocabulary
from tests.runner.conftest import Tiny
from tests.runner.driver import Driver, Live

BLOCK = 16
OBJECT = Grammar(
    kind="json",
    text=json.dumps(
        {
            "type": "object",
            "properties": {
                "n": {"type": "integer", "minimum": 0, "maximum": 999},
                "s": {"type": "string", "maxLength": 4},
                "l": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
            },
            "required": ["n", "s"],
            "additionalProperties": False,
        }
    ),
)
THINKING = ThinkingBudget(
    tokens=4,
    opening="<t>",
    closing="</t>",
    closing_tokens=tuple(token_of(letter) for letter in "</t>"),
    inside=True,
)
CALL = Tool(name="f", parameters={"type": "object", "properties": {"a": {"type": "boolean"}}})


def calling(choice: str) -> Grammar:
    use = ToolUse(tools=(CALL,), choice=choice, parallel=False)
    return Grammar(kind="grammar", text=tool_grammar(TOOL_FORMATS["llama3_json"], use) or "")


GRAMMARS = [
    OBJECT,
    Grammar(kind="regex", text="[a-f]{3}-[0-9]{2}"),
    Grammar(kind="choice", text='["yes","no","nobody"]'),
    Grammar(kind="grammar", text='start: "(" start ")" | "x"'),
    Grammar(kind="grammar", text='root ::= "a" [0-9]+ ("b" | "c")'),
    calling("required"),
    calling("auto"),
]
PATTERNS = [
    r"(?s)\{.*\}",
    "[a-f]{3}-[0-9]{2}",
    "yes|no|nobody",
    r"\(*x\)*",
    "a[0-9]+[bc]",
    r'\{"name": "f", "parameters": \{.*\}\}',
    r"(?s).*",
]


def load(folder: Path, **changes: Any) -> Runner:
    settings: dict[str, Any] = {"device": "cpu", "threads": 1, "block_size": BLOCK}
    if load_prepared(folder).storage == "float32":
        settings["dtype"] = "float32"
    config = EngineConfig(**{**settings, "kv_cache_memory": 2**25, **changes})
    return build_runner(config, folder, tokens=vocabulary).runner


def sampling(grammar: Grammar | None, seed: int = 0, **changes: Any) -> ResolvedSampling:
    settings: dict[str, Any] = {"max_tokens": 60, "temperature": 1.0, "stop_token_ids": (EOS,)}
    return ResolvedSampling(**settings | changes, seed=seed, structured_outputs=grammar)


def ended(live: Live) -> bool:
    last = live.tokens[-1] if live.generated else None
    failed = any(each.error is not None for each in live.sampled)
    return last == EOS or failed or len(live.generated) >= live.sampling.max_tokens


def finish(driver: Driver, lives: Sequence[Live], *, chunk: int = 10**9) -> None:
    while left := [live for live in lives if not ended(live)]:
        driver.run([(live, chunk) for live in left])


def said(runner: Runner, asked: Sequence[ResolvedSampling], *, chunk: int = 10**9) -> list[Any]:
    """What each says, all in one batch."""
    driver = Driver(runner, BLOCK)
    prompts = [[5 + n, 9, 11 + n % 3] * (1 + n % 7) for n in range(len(asked))]
    lives = [driver.add(prompt, each) for prompt, each in zip(prompts, asked, strict=True)]
    finish(driver, lives, chunk=chunk)
    driver.ended += [live.seq for live in lives]
    driver.run([])
    return [live.generated for live in lives]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_ends_matches_its_grammar(either: Path, temperature: float) -> None:
    asked = [
        sampling(grammar, seed, temperature=temperature)
        for grammar in GRAMMARS
        for seed in range(8)
    ]
    whole: set[Grammar] = set()
    for each, tokens in zip(asked, said(load(either), asked), strict=True):
        assert each.structured_outputs is not None
        if tokens[-1] == EOS:
            pattern = PATTERNS[GRAMMARS.index(each.structured_outputs)]
            assert re.fullmatch(pattern, text_of(tokens)), text_of(tokens)
            whole.add(each.structured_outputs)
            if each.structured_outputs.kind == "json":
                assert set(json.loads(text_of(tokens))) >= {"n", "s"}
    assert whole >= set(GRAMMARS[1:3]), "those that end soon have ended"
    assert temperature == 0 or whole >= set(GRAMMARS[:3])


def mixed(number: int) -> list[ResolvedSampling]:
    """Every third one has no grammar, and every fourth may reason for no more than so long."""
    return [
        sampling(
            None if n % 3 == 0 else GRAMMARS[n % len(GRAMMARS)],
            n,
            temperature=(0.0, 0.8, 1.3)[n % 3],
            top_k=(0, 12)[n % 2],
            presence_penalty=(0.0, 0.4)[n % 2],
            logprobs=(None, 2)[n % 2],
            max_tokens=20,
            thinking_token_budget=THINKING if n % 4 == 0 else None,
        )
        for n in range(number)
    ]


def test_tokens_do_not_depend_on_the_batch(either: Path) -> None:
    asked = mixed(30)
    together = said(load(either), asked, chunk=5)
    runner = load(either)
    for n, each in enumerate(asked):
        driver = Driver(runner, BLOCK)
        live = driver.add([5 + n, 9, 11 + n % 3] * (1 + n % 7), each)
        finish(driver, [live])
        driver.ended.append(live.seq)
        driver.run([])
        assert live.generated == together[n]


def test_whoever_has_no_grammar_is_told_the_same_beside_others(either: Path) -> None:
    free = [each for each in mixed(30) if each.structured_outputs is None]
    beside = [replace(each, structured_outputs=OBJECT) for each in free]
    alone = said(load(either), free)
    # The prompts of the first ones are the same; the others follow them.
    assert said(load(either), free + beside)[: len(free)] == alone


def test_the_backends_say_the_same(tinies: Tiny) -> None:
    asked = mixed(30)
    assert said(load(tinies("llama", "native-float32")), asked) == said(
        load(tinies("llama", "float32")), asked
    )


def test_a_preempted_sequence_goes_on_where_it_was(either: Path) -> None:
    runner, asked = load(either), [each for each in mixed(30) if each.structured_outputs]
    expected = said(runner, asked)
    driver = Driver(load(either), BLOCK)
    for n, each in enumerate(asked):
        live = driver.add([5 + n, 9, 11 + n % 3] * (1 + n % 7), each)
        steps = 0
        while not ended(live):
            driver.run([(live, 10**9)])
            steps += 1
            if steps in (1, 4) and not ended(live):
                driver.preempt(live)
        assert live.generated == expected[n]


def test_a_resumed_sequence_says_what_it_would_have_said(either: Path) -> None:
    asked = sampling(OBJECT, 3)
    [whole] = said(load(either), [asked])
    for known in range(1, len(whole)):
        driver = Driver(load(either), BLOCK)
        prompt = [5, 9, 11]
        live = Live(0, prompt + whole[:known], len(prompt), asked)
        driver.next_seq = 1
        driver.entries.append(
            NewSequence(seq=0, tokens=tuple(live.tokens), prompt_len=len(prompt), sampling=asked)
        )
        finish(driver, [live])
        assert live.generated == whole


@pytest.mark.parametrize("right", [0, 1, 3])
def test_drafts_change_nothing(either: Path, right: int) -> None:
    asked = sampling(OBJECT, 5)
    [whole] = said(load(either), [asked])
    driver = Driver(load(either), BLOCK)
    live = driver.add([5, 9, 11], asked)
    while not ended(live):
        known = len(live.generated)
        guess = whole[known : known + right]
        # After the right ones, one that no grammar has and one that this one has.
        drafts = [*guess, 1, token_of("}")] if live.generated and EOS not in guess else []
        # None are proposed beyond the last token that may be generated.
        room = asked.max_tokens - known - 1
        driver.run([(live, 10**9)], [drafts[:room]])
    assert live.generated == whole


def test_a_dead_end_is_an_error_of_that_sequence(either: Path) -> None:
    driver = Driver(load(either), BLOCK)
    # Nothing but a letter that the grammar does not have.
    stuck = driver.add([4, 5], sampling(GRAMMARS[1], allowed_token_ids=(token_of("z"),)))
    other = driver.add([4, 5], sampling(GRAMMARS[1]))
    finish(driver, [stuck, other])
    assert [each.error for each in stuck.sampled] == [NOTHING_LEFT]
    assert re.fullmatch(PATTERNS[1], text_of(other.generated))


def test_a_grammar_that_cannot_be_compiled_is_an_error_of_that_sequence(either: Path) -> None:
    driver = Driver(load(either), BLOCK)
    bad = driver.add([4, 5], sampling(Grammar(kind="regex", text="(")))
    other = driver.add([4, 5], sampling(GRAMMARS[1]))
    finish(driver, [bad, other])
    [told] = bad.sampled
    assert "structured_outputs" in (told.error or "")
    assert re.fullmatch(PATTERNS[1], text_of(other.generated))


def test_tokens_of_another_answer_are_an_error_of_that_sequence(either: Path) -> None:
    runner, asked = load(either), sampling(GRAMMARS[1])
    entry = NewSequence(seq=0, tokens=(4, 5, token_of("z")), prompt_len=2, sampling=asked)
    driver = Driver(runner, BLOCK)
    live = Live(0, [4, 5, token_of("z")], 2, asked)
    driver.next_seq = 1
    driver.entries.append(entry)
    driver.run([(live, 10**9)])
    [told] = live.sampled
    assert "structured_outputs" in (told.error or "")


def test_without_the_models_tokens_there_are_no_grammars(either: Path) -> None:
    settings: dict[str, Any] = {"device": "cpu", "threads": 1, "kv_cache_memory": 2**25}
    if load_prepared(either).storage == "float32":
        settings["dtype"] = "float32"
    driver = Driver(build_runner(EngineConfig(**settings), either).runner, BLOCK)
    live = driver.add([4, 5], sampling(GRAMMARS[1]))
    driver.run([(live, 10**9)])
    [told] = live.sampled
    assert "was not told" in (told.error or "")


def test_min_tokens_do_not_keep_what_is_complete_from_ending(either: Path) -> None:
    asked = sampling(GRAMMARS[1], min_tokens=40)
    [tokens] = said(load(either), [asked])
    assert re.fullmatch(PATTERNS[1], text_of(tokens))
    assert tokens[-1] == EOS
    endless = sampling(Grammar(kind="regex", text="a*"), min_tokens=9, max_tokens=30)
    [tokens] = said(load(either), [endless])
    assert len(tokens) > 9


def test_no_tokens_are_asked_for_without_a_grammar(either: Path) -> None:
    settings: dict[str, Any] = {"device": "cpu", "threads": 1, "kv_cache_memory": 2**25}
    if load_prepared(either).storage == "float32":
        settings["dtype"] = "float32"

    def never(size: int) -> Any:
        raise AssertionError(f"{size} tokens")

    runner = build_runner(EngineConfig(**settings), either, tokens=never).runner
    assert said(runner, [sampling(None, max_tokens=3)])[0]
    assert runner.compute(StepPlan(step=0, slices=[])).sampled == []
