"""Grammars are checked within limits: what cannot be compiled is told, and nobody waits for it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import pytest

from headway.errors import InvalidRequest, Overloaded, Unavailable
from headway.llm import grammar_queue, grammars
from headway.llm.grammars import MAX_REMEMBERED, GrammarChecker
from headway.types import Grammar, SamplingParams, StructuredOutputsParams
from headway.types.grammar import MAX_GRAMMAR_CHARACTERS
from tests.server.fakes import FakeTokenizer


def params(**given: Any) -> SamplingParams:
    return SamplingParams(structured_outputs=StructuredOutputsParams(**given))


def chained(link: Any, number: int) -> dict[str, Any]:
    """A schema of which each part leads to the next."""
    parts = {f"d{n}": link({"$ref": f"#/$defs/d{n + 1}"}) for n in range(number)}
    return {"$defs": parts | {f"d{number}": {"type": "null"}}, "$ref": "#/$defs/d0"}


HOSTILE: dict[str, dict[str, Any]] = {
    "pairs of patterns": {
        "json": {
            "type": "object",
            "patternProperties": {f"^p{n}_": {"type": "string"} for n in range(500)},
        }
    },
    "an intersection of patterns": {
        "json": {"allOf": [{"type": "string", "pattern": f".*a{n}.*"} for n in range(100)]}
    },
    "a product of alternatives": {
        "json": {
            "allOf": [
                {"anyOf": [{"properties": {f"p{n}{m}": {}}} for m in range(5)]} for n in range(10)
            ]
        }
    },
    "references a thousand deep": {"json": chained(lambda next_one: {"items": next_one}, 1300)},
    "rules four thousand deep": {
        "grammar": "start: r0\n"
        + "\n".join(f"r{n}: r{n + 1}" for n in range(4000))
        + '\nr4000: "a"'
    },
    "terminals that double": {
        "grammar": "start: A0\n"
        + "\n".join(f"A{n}: A{n + 1} A{n + 1}" for n in range(25))
        + '\nA25: "a"'
    },
    "brackets sixty thousand deep": {"regex": "(" * 30000 + "a" + ")" * 30000},
    "a multiple that is far away": {
        "json": {"type": "integer", "multipleOf": 999983, "minimum": 0, "maximum": 10**15}
    },
    "the machine's files": {"json": {"$ref": "file:///etc/passwd"}},
    "the network": {"json": {"$ref": "http://127.0.0.1:1/schema"}},
}


@pytest.mark.parametrize("given", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_grammar_is_refused_and_the_next_one_served(given: dict[str, Any]) -> None:
    async def main() -> None:
        checker = GrammarChecker(FakeTokenizer())
        hostile = asyncio.create_task(checker.check(params(**given)))
        good = asyncio.create_task(checker.check(params(regex="[ab]+")))
        turns = 0
        while not hostile.done():
            await asyncio.sleep(0.001)
            turns += 1
        with pytest.raises(InvalidRequest, match="structured_outputs") as caught:
            await hostile
        assert caught.value.field == "structured_outputs"
        await good
        assert turns > 1, "the event loop goes on meanwhile"
        await checker.close()

    asyncio.run(main())


def test_what_was_found_good_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        checker = GrammarChecker(FakeTokenizer())
        await checker.check(params(regex="a+"))
        monkeypatch.setattr(checker, "_ask", None)
        await checker.check(params(regex="a+"))
        with pytest.raises(TypeError):
            await checker.check(params(regex="b+"))
        for n in range(MAX_REMEMBERED):
            checker._good[params(regex=f"c{n}").structured_outputs.resolved()] = None  # type: ignore[union-attr]
        assert len(checker._good) == MAX_REMEMBERED + 1
        await checker.check(SamplingParams())
        await checker.close()

    asyncio.run(main())


def test_no_more_than_some_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_queue, "MAX_WAITING", 2)

    async def main() -> None:
        checker = GrammarChecker(FakeTokenizer())
        waiting = [
            asyncio.create_task(checker.check(params(regex=f"[ab]{{{n}}}"))) for n in range(1, 5)
        ]
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in done].count(Overloaded) == 2
        await checker.check(params(regex="[ab]{4}"))
        await checker.close()

    asyncio.run(main())


def test_what_several_ask_for_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        checker = GrammarChecker(FakeTokenizer())
        compiled: list[str] = []
        go_on = asyncio.Event()

        async def ask(grammar: Grammar) -> str | None:
            compiled.append(grammar.text)
            await go_on.wait()
            return "no good" if grammar.text == "b" else None

        monkeypatch.setattr(checker, "_ask", ask)
        asked = [
            asyncio.create_task(checker.check(params(regex=text), tenant=tenant))
            for text, tenant in (("a", "x"), ("b", "x"), ("b", "y"), ("a", "y"), ("c", "x"))
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked[0].cancel()  # another waits for the same
        asked[4].cancel()  # nobody else does
        await asyncio.sleep(0)
        go_on.set()
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert compiled == ["a", "b"]
        assert [type(each) for each in done] == [
            asyncio.CancelledError,
            InvalidRequest,
            InvalidRequest,
            type(None),
            asyncio.CancelledError,
        ]
        assert not checker._jobs
        await checker.close()

    asyncio.run(main())


def test_a_tenant_with_many_does_not_keep_another_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        checker = GrammarChecker(FakeTokenizer())
        compiled: list[str] = []

        async def ask(grammar: Grammar) -> None:
            await asyncio.sleep(0)
            compiled.append(grammar.text)

        monkeypatch.setattr(checker, "_ask", ask)
        many = [checker.check(params(regex=f"a{n}"), tenant="many") for n in range(30)]
        await asyncio.gather(*many, checker.check(params(regex="b"), tenant="few"))
        assert compiled.index("b") <= 2
        await checker.close()

    asyncio.run(main())


def test_who_waits_when_it_is_closed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        checker = GrammarChecker(FakeTokenizer())

        async def ask(grammar: Grammar) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(checker, "_ask", ask)
        asked = [asyncio.create_task(checker.check(params(regex=text))) for text in "ab"]
        await asyncio.sleep(0)
        await checker.close()
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in done] == [Unavailable, Unavailable]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "nests too deeply"),
        ("import os; os.write(0, bytes([1, 0, 0, 0, 255]))", "ended|exit"),
        ("import time; time.sleep(60)", "not compiled after"),
    ],
)
def test_a_process_without_an_answer_is_replaced(
    monkeypatch: pytest.MonkeyPatch, program: str, words: str
) -> None:
    monkeypatch.setattr(grammars, "WALL_SECONDS", 1.0 if "sleep" in program else 20.0)

    async def main() -> None:
        checker = GrammarChecker(FakeTokenizer(), command=(sys.executable, "-c", program))
        for _ in range(2):
            with pytest.raises(InvalidRequest, match=words):
                await checker.check(params(regex="a"))
        await checker.close()

    asyncio.run(main())


def test_no_process_to_be_had_is_no_fault_of_the_grammar() -> None:
    async def main() -> None:
        checker = GrammarChecker(FakeTokenizer(), command=("/nonexistent",))
        with pytest.raises(Unavailable, match="compiles grammars"):
            await checker.check(params(regex="a"))

    asyncio.run(main())


def test_who_leaves_in_the_middle_leaves_nothing_behind() -> None:
    async def main() -> None:
        checker = GrammarChecker(FakeTokenizer())
        await checker.check(params(regex="a"))
        slow = asyncio.create_task(checker.check(params(**HOSTILE["pairs of patterns"])))
        await asyncio.sleep(0.01)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        begun = time.monotonic()
        await checker.check(params(regex="b"))
        assert time.monotonic() - begun < 20
        await checker.close()

    asyncio.run(main())


def test_a_trusted_caller_is_told_at_once() -> None:
    checker = GrammarChecker(FakeTokenizer())
    checker.check_now(SamplingParams())
    checker.check_now(params(choice=["a", "b"]))
    with pytest.raises(InvalidRequest, match="look-around"):
        checker.check_now(params(regex="(?=a)b"))


def test_a_large_one_is_not_even_looked_at() -> None:
    with pytest.raises(InvalidRequest, match="too many"):
        params(regex="a" * (MAX_GRAMMAR_CHARACTERS + 1))
    with pytest.raises(InvalidRequest, match="too many"):
        params(json=json.dumps({"description": "x" * 10_000_000}))
