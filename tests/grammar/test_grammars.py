"""Every kind of grammar: what it allows, and what is told of one that cannot be."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.grammar import GrammarCompiler, matcher
from headway.grammar.matcher import MAX_COMPILED
from headway.grammar.translate import MAX_NESTING, MAX_OPTIONAL, MAX_RULES, nesting, translate
from headway.types import Grammar, Vocabulary, special_token_name
from tests.grammar.letters import EOS, SIZE, allowed, compiler, draw, text_of, token_of, vocabulary
from tests.grammar.schemas import SCHEMAS
from tests.grammar.validity import validate

PATIENCE = 10.0
"""Seconds."""
KINDS: list[tuple[Grammar, str]] = [
    (Grammar(kind="regex", text="^[a-c]{2}$"), "[a-c]{2}"),
    (Grammar(kind="regex", text=r"a|b\$"), r"a|b\$"),
    (Grammar(kind="choice", text='["a","ab","é\\n\\"q/"]'), 'a|ab|é\n"q/'),
    (Grammar(kind="grammar", text='start: "(" start ")" | "x"'), r"\(*x\)*"),
    (
        Grammar(kind="grammar", text='root ::= "a" [0-9]{1,3} ("b" | c)\nc ::= "c"'),
        "a[0-9]{1,3}[bc]",
    ),
    (
        Grammar(kind="grammar", text=r'root ::= "\x41\u00e9" [\x42-\x44] "\x0A\\" [^\x0ab]'),
        r"Aé[B-D]\n\\[^\nb]",
    ),
    (
        Grammar(
            kind="structural_tag",
            text=json.dumps(
                {
                    "structures": [{"begin": "<f>", "schema": {"type": "integer"}, "end": "</f>"}],
                    "triggers": ["<"],
                }
            ),
        ),
        r"([^<]|<f>-?\d+</f>)*",
    ),
]


@pytest.mark.parametrize(("grammar", "pattern"), KINDS, ids=str)
def test_answers_of_every_kind_match(grammar: Grammar, pattern: str) -> None:
    found = {draw(grammar, seed) for seed in range(12)} - {None}
    assert found
    for text in found:
        assert re.fullmatch(pattern, text or "", re.DOTALL), text


@settings(max_examples=500)
@given(schema=SCHEMAS, seed=st.integers(0, 2**31), compact=st.booleans())
def test_what_a_schema_allows_is_valid(schema: dict[str, Any], seed: int, compact: bool) -> None:
    whitespace = "" if compact else None
    text = draw(Grammar(kind="json", text=json.dumps(schema), whitespace=whitespace), seed)
    if text is not None:
        value = json.loads(text)
        validate(value, schema)
        if compact:
            assert len(text) == len(
                json.dumps(value, separators=(",", ":"), ensure_ascii=False)
            ) or (any(character in text for character in "\\.eE"))


def test_properties_come_in_the_schemas_order() -> None:
    names = ("z", "a", "m")
    schema = {
        "properties": {name: {"type": "null"} for name in names},
        "required": [*names],
        "additionalProperties": False,
        "type": "object",
    }
    text = draw(Grammar(kind="json", text=json.dumps(schema), whitespace=""), 1)
    assert text == '{"z":null,"a":null,"m":null}'


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), cuts=st.lists(st.integers(1, 9), min_size=1))
def test_a_matcher_depends_on_its_tokens_alone(seed: int, cuts: list[int]) -> None:
    grammar = Grammar(kind="json", text='{"type":"object"}')
    one, other = compiler().matcher(grammar), compiler().matcher(grammar)
    tokens: list[int] = []
    for n in range(40):
        options = allowed(one)
        tokens.append(options[(seed + 7 * n) % len(options)])
        if tokens[-1] == EOS:
            break
        one.advance(tokens)
        if len(tokens) % cuts[n % len(cuts)] == 0:
            other.advance(tokens)
            assert allowed(other) == allowed(one)


def test_drafts_leave_a_matcher_where_it_was() -> None:
    following = compiler().matcher(Grammar(kind="regex", text="[a-z]{2}[0-9]"))
    before, mask = allowed(following), np.zeros(SIZE // 32, dtype=np.uint32)
    following.fill_after([token_of("a"), token_of("b")], mask.ctypes.data, mask.nbytes)
    digit = token_of("7")
    assert mask[digit // 32] >> digit % 32 & 1
    mask[:] = 0
    following.fill_after([token_of("a"), token_of("7")], mask.ctypes.data, mask.nbytes)
    assert not mask.any(), "nobody asks what follows a wrong one"
    assert allowed(following) == before


def optional(number: int, *, required: int = 0) -> dict[str, Any]:
    names = [f"p{n}" for n in range(number + required)]
    return {"properties": {name: {"type": "null"} for name in names}, "required": names[:required]}


BAD = [
    (Grammar(kind="json", text="{"), "not JSON"),
    (Grammar(kind="json", text="[]"), "an object"),
    (Grammar(kind="json", text="false"), "an object"),
    (Grammar(kind="json", text='{"not":{"type":"string"}}'), "not"),
    (Grammar(kind="json", text='{"type":"array","uniqueItems":true}'), "uniqueItems"),
    (Grammar(kind="json", text='{"$ref":"#"}'), "nothing can match"),
    (Grammar(kind="regex", text="("), "unclosed group"),
    (Grammar(kind="regex", text="(?=a)b"), "look-around"),
    (Grammar(kind="regex", text="(" * (MAX_NESTING + 1) + ")" * (MAX_NESTING + 1)), "nest"),
    (Grammar(kind="grammar", text="start: a"), "a"),
    (Grammar(kind="grammar", text="root ::= a"), "'a' not found"),
    (Grammar(kind="grammar", text='root ::= "\\uD800"'), "no character"),
    (Grammar(kind="grammar", text='other ::= "a"'), "root"),
    (Grammar(kind="grammar", text="hello"), "no rules"),
    (Grammar(kind="grammar", text='root ::= "a"\n' + 'x ::= "a"\n' * MAX_RULES), "too many"),
    (Grammar(kind="structural_tag", text="[]"), "triggers"),
    (Grammar(kind="json", text=json.dumps({"items": optional(501)})), "501 optional properties"),
    (
        Grammar(
            kind="structural_tag", text='{"structures":[{"begin":"a","end":""}],"triggers":["b"]}'
        ),
        "begin",
    ),
]


@pytest.mark.parametrize(("grammar", "words"), BAD, ids=lambda each: str(each)[:50])
def test_what_cannot_be_compiled_is_told(grammar: Grammar, words: str) -> None:
    with pytest.raises(InvalidRequest, match="structured_outputs") as caught:
        compiler().check(grammar)
    assert words in caught.value.message
    assert caught.value.field == "structured_outputs"


def test_any_json_is_a_schema_of_its_own() -> None:
    for text in ("true", "{}"):
        answer = draw(Grammar(kind="json", text=text), 3)
        assert answer is not None
        json.loads(answer)


def test_compiled_grammars_are_kept_and_the_oldest_forgotten() -> None:
    compiled = compiler()
    grammars = [Grammar(kind="regex", text=f"a{n}") for n in range(MAX_COMPILED + 1)]
    for grammar in grammars[:-1]:
        compiled.check(grammar)
    assert all(compiled.has(grammar) for grammar in grammars[:-1])
    compiled.matcher(grammars[0])
    compiled.check(grammars[-1])
    assert [compiled.has(each) for each in (grammars[0], grammars[1], grammars[-1])] == [
        True,
        False,
        True,
    ]


def test_large_grammars_are_forgotten_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher, "MAX_COMPILED_CHARACTERS", 100)
    compiled = compiler()
    grammars = [Grammar(kind="regex", text=letter * 40) for letter in "abc"]
    for grammar in grammars:
        compiled.check(grammar)
    assert [compiled.has(each) for each in grammars] == [False, True, True]
    huge = Grammar(kind="regex", text="d" * 101)
    compiled.check(huge)
    assert [compiled.has(each) for each in (*grammars, huge)] == [False, False, False, True]


def test_what_is_compiled_need_not_wait_until_another_one_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, may_go_on = threading.Event(), threading.Event()

    def slowly(grammar: Grammar) -> str:
        started.set()
        assert may_go_on.wait(PATIENCE)
        return translate(grammar)

    shared, known = compiler(), KINDS[0][0]
    shared.check(known)
    monkeypatch.setattr(matcher, "translate", slowly)
    with ThreadPoolExecutor(3) as threads:
        slow = [threads.submit(shared.matcher, KINDS[1][0]) for _ in range(2)]
        assert started.wait(PATIENCE)
        try:
            assert threads.submit(shared.matcher, known).result(PATIENCE).error is None
            assert not any(each.done() for each in slow)
        finally:
            may_go_on.set()
        assert [each.result(PATIENCE).error for each in slow] == [None, None]


def test_matchers_of_one_grammar_do_not_share_where_they_are() -> None:
    compiled, grammar = compiler(), Grammar(kind="regex", text="ab")
    first, second = compiled.matcher(grammar), compiled.matcher(grammar)
    first.advance([token_of("a")])
    assert allowed(first) == [token_of("b")]
    assert token_of("b") not in allowed(second)


def test_a_token_that_the_grammar_lacks_is_an_error_that_stays() -> None:
    following = compiler().matcher(Grammar(kind="regex", text="ab"))
    following.advance([token_of("x")])
    assert following.error is not None
    assert "structured_outputs" in following.error
    following.advance([token_of("x"), token_of("a")])
    assert following.error is not None


def test_one_that_grows_beyond_its_limits_while_it_is_followed_is_an_error() -> None:
    following = compiler().matcher(
        Grammar(kind="regex", text="((((a{1,99}){1,99}){1,99}){1,99}){1,99}")
    )
    most = 50
    for length in range(most):
        if following.error is not None:
            break
        following.advance([token_of("a")] * length)
        allowed(following)
    assert 1 < length < most - 1, "it is neither refused at once nor followed for ever"
    assert "structured_outputs" in (following.error or "")


def test_an_end_is_allowed_where_the_text_is_complete_and_only_there() -> None:
    following = compiler().matcher(Grammar(kind="regex", text="ab?"))
    assert EOS not in allowed(following)
    following.advance([token_of("a")])
    assert {EOS, token_of("b")} == set(allowed(following))
    following.advance([token_of("a"), token_of("b")])
    assert allowed(following) == [EOS]


def test_the_words_of_a_tokenizer_are_used_where_there_is_no_choice() -> None:
    spelt = [token_of(letter) for letter in "abab"]
    table = vocabulary()
    own = Vocabulary(
        tokens=table.tokens,
        special_ids=table.special_ids,
        eos_token_ids=table.eos_token_ids,
        encode=lambda text: [token_of(letter) for letter in text],
    )
    grammar = Grammar(kind="regex", text="abab")
    assert allowed(GrammarCompiler(lambda: own).matcher(grammar)) == spelt[:1]
    assert allowed(compiler().matcher(grammar)) == [token_of("ab")]
    wrong = Vocabulary(
        tokens=table.tokens,
        special_ids=table.special_ids,
        eos_token_ids=table.eos_token_ids,
        encode=lambda _: [token_of("z")],
    )
    assert allowed(GrammarCompiler(lambda: wrong).matcher(grammar)) == [token_of("ab")]


def test_a_model_whose_answers_have_no_end_has_no_grammars() -> None:
    endless = Vocabulary(tokens=(b"a",), special_ids=(), eos_token_ids=())
    with pytest.raises(InvalidRequest, match="no token that ends"):
        GrammarCompiler(lambda: endless).check(Grammar(kind="regex", text="a"))


def test_how_deep_brackets_nest() -> None:
    assert nesting("a(b[c]{d}(e))") == 2
    assert nesting(r"\(\(\(") == 0
    assert nesting(")))(") == 1
    assert text_of([token_of("a"), EOS]) == "a"


def test_as_many_optional_properties_as_are_let_through_can_be_generated() -> None:
    schema = optional(MAX_OPTIONAL, required=2) | {"additionalProperties": False}
    matcher = compiler().matcher(Grammar(kind="json", text=json.dumps(schema)))
    tokens: list[int] = []
    for text in ("{", *'"p0":', "null", ",", *'"p1":', "null", ",", *'"p401":', "null", "}"):
        assert token_of(text) in allowed(matcher)
        tokens.append(token_of(text))
        matcher.advance(tokens)
    assert matcher.error is None
    assert EOS in allowed(matcher)


@pytest.mark.parametrize("name", ["<|zero|>", "[CALLS]", "CALLS"])
def test_any_special_token_can_be_named(name: str) -> None:
    table = vocabulary()
    table = replace(table, tokens=(name.encode(), *table.tokens[1:]))
    text = f'start: "a" {special_token_name(name)}'
    found = GrammarCompiler(lambda: table).matcher(Grammar(kind="grammar", text=text))
    found.advance([token_of("a")])
    assert allowed(found) == [0]
