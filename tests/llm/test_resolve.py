"""Text and parameters become engine requests with nothing left open, or a clear refusal."""

from __future__ import annotations

from typing import Any

import pytest

from headway.errors import InvalidRequest, RequestTooLarge
from headway.llm.resolve import GenerationRequest, Resolver, Terms, child_seed
from headway.message import REASONING_FORMATS, ReasoningFormat
from headway.text import Tokenizer
from headway.types import SamplingParams
from headway.types.objectives import parse_objectives
from tests.llm.support import EOS, VOCABULARY, write_prepared


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("model")
    write_prepared(folder)
    return Tokenizer.load(folder)


def resolve(
    tokenizer: Tokenizer, prompt: Any, reasoning: ReasoningFormat | None = None, **params: Any
) -> GenerationRequest:
    resolver = Resolver(tokenizer, vocab_size=VOCABULARY, max_model_len=64)
    return resolver.resolve(
        [prompt],
        SamplingParams(**params),
        request_id="r",
        arrival=2.0,
        seeds=[5],
        terms=Terms(priority=3, cache_salt="salt"),
        reasoning=reasoning,
    )


def test_a_bound_on_reasoning_knows_its_markers(tokenizer: Tokenizer) -> None:
    form = REASONING_FORMATS["think"]
    for prompt, inside in (("Hm<think>\n", True), ("Hm", False)):
        resolved = resolve(tokenizer, prompt, form, n=2, thinking_token_budget=5)
        for request in resolved.requests:
            found = request.sampling.thinking_token_budget
            assert found is not None
            assert (found.tokens, found.inside) == (5, inside)
            assert (found.opening, found.closing) == ("<think>", "</think>")
            assert tokenizer.decode(found.closing_tokens) == "</think>"
    for none in (None, -1):
        resolved = resolve(tokenizer, "Hm", thinking_token_budget=none)
        assert resolved.requests[0].sampling.thinking_token_budget is None


def test_a_bound_on_reasoning_needs_an_end_that_can_be_written(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidRequest, match="--reasoning-parser") as caught:
        resolve(tokenizer, [5], thinking_token_budget=1)
    assert caught.value.field == "thinking_token_budget"
    monkeypatch.setattr(Tokenizer, "encode", lambda *_, **__: [3])
    with pytest.raises(InvalidRequest, match="cannot write '</think>'") as caught:
        resolve(tokenizer, [5], REASONING_FORMATS["think"], thinking_token_budget=1)
    assert caught.value.field == "thinking_token_budget"


def test_a_text_becomes_one_request(tokenizer: Tokenizer) -> None:
    resolved = resolve(tokenizer, "Hello", max_tokens=7, stop_token_ids=(40,))
    (request,) = resolved.requests
    assert resolved.prompts[0].text == "Hello"
    assert list(request.prompt) == tokenizer.encode("Hello")
    assert (request.id, request.arrival, request.priority) == ("r", 2.0, 3)
    assert (request.group, request.cache_salt) == ("", "salt")
    assert request.sampling.seed == 5
    assert request.sampling.max_tokens == 7
    assert request.sampling.stop_token_ids == (40, EOS)


def test_several_continuations_share_a_group_and_differ_in_their_seeds(
    tokenizer: Tokenizer,
) -> None:
    resolved = resolve(tokenizer, [1, 2], n=3, seed=77, prompt_logprobs=0)
    assert [each.id for each in resolved.requests] == ["r-0", "r-1", "r-2"]
    assert {each.group for each in resolved.requests} == {"r"}
    seeds = [each.sampling.seed for each in resolved.requests]
    assert seeds == [77, child_seed(77, 1), child_seed(77, 2)]
    assert len(set(seeds)) == 3
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)
    assert [each.sampling.prompt_logprobs for each in resolved.requests] == [0, None, None]


def test_several_prompts_are_one_request(tokenizer: Tokenizer) -> None:
    resolver = Resolver(tokenizer, vocab_size=VOCABULARY, max_model_len=64)
    resolved = resolver.resolve(
        ["a", [1, 2]],
        SamplingParams(n=2, max_tokens=None),
        request_id="r",
        arrival=0.0,
        seeds=[5, 6],
    )
    assert [each.id for each in resolved.requests] == ["r-p0-0", "r-p0-1", "r-p1-0", "r-p1-1"]
    assert [each.group for each in resolved.requests] == ["r-p0", "r-p0", "r-p1", "r-p1"]
    assert [each.sampling.seed for each in resolved.requests[::2]] == [5, 6]
    assert [resolved.prompt_of(choice).text for choice in range(4)] == ["a", "a", None, None]
    assert resolved.requests[3].prompt == (1, 2)
    assert resolved.max_tokens == 63, "what fits after the shortest prompt"


def test_continuations_share_what_they_have_in_common(tokenizer: Tokenizer) -> None:
    lists: dict[str, Any] = {
        "allowed_token_ids": [1, 2, 3],
        "logit_bias": {1: 2.0},
        "bad_words": ["ab"],
        "stop_token_ids": [4],
    }
    first, *others = resolve(tokenizer, [1] * 50, n=128, **lists).requests
    for other in others:
        assert other.prompt is first.prompt
        for name in lists:
            assert getattr(other.sampling, name) is getattr(first.sampling, name)


def test_bad_words_are_encoded_once_for_all_prompts(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = tokenizer.encode

    def counting(text: str, *, add_special_tokens: bool = True) -> list[int]:
        encoded.append(text)
        return encode(text, add_special_tokens=add_special_tokens)

    monkeypatch.setattr(tokenizer, "encode", counting)
    resolver = Resolver(tokenizer, vocab_size=VOCABULARY, max_model_len=64)
    resolver.resolve(
        [[1]] * 100,
        SamplingParams(n=2, bad_words=("ab",)),
        request_id="r",
        arrival=0.0,
        seeds=[5] * 100,
    )
    assert encoded == ["ab", " ab"]


def test_lengths_are_clamped_to_the_context(tokenizer: Tokenizer) -> None:
    assert resolve(tokenizer, [1] * 60, max_tokens=100).requests[0].sampling.max_tokens == 4
    assert resolve(tokenizer, [1] * 60, max_tokens=None).requests[0].sampling.max_tokens == 4
    clamped = resolve(tokenizer, [1] * 60, max_tokens=100, min_tokens=50).requests[0].sampling
    assert clamped.min_tokens == 4


def test_end_of_sequence_is_ignored_when_asked(tokenizer: Tokenizer) -> None:
    assert resolve(tokenizer, [1], ignore_eos=True).requests[0].sampling.stop_token_ids == ()


def test_bad_words_are_banned_at_the_start_and_after_a_space(tokenizer: Tokenizer) -> None:
    banned = resolve(tokenizer, [1], bad_words=("ab", " ab")).requests[0].sampling.bad_words
    assert banned == (tuple(tokenizer.encode("ab")), tuple(tokenizer.encode(" ab")))


@pytest.mark.parametrize(
    ("prompt", "params", "field"),
    [
        ("", {}, "prompt"),
        ([], {}, "prompt"),
        ([VOCABULARY], {}, "prompt"),
        ([-1], {}, "prompt"),
        ([True], {}, "prompt"),
        ([1.0], {}, "prompt"),
        ("ok", {"logit_bias": {VOCABULARY: 1.0}}, "logit_bias"),
        ("ok", {"stop_token_ids": (VOCABULARY,)}, "stop_token_ids"),
        ("ok", {"allowed_token_ids": (1, VOCABULARY)}, "allowed_token_ids"),
        ("lone \ud800", {}, "prompt"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    tokenizer: Tokenizer, prompt: Any, params: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(tokenizer, prompt, **params)
    assert caught.value.field == field


def test_a_prompt_must_leave_room_for_a_token(tokenizer: Tokenizer) -> None:
    assert len(resolve(tokenizer, [1] * 63).prompts[0].token_ids) == 63
    with pytest.raises(RequestTooLarge, match="64 tokens; at most 63 fit") as caught:
        resolve(tokenizer, [1] * 64)
    assert caught.value.field == "prompt"


def test_a_request_has_its_own_objectives_and_the_other_ones_of_its_class(
    tokenizer: Tokenizer,
) -> None:
    defaults = parse_objectives("ttft_p99=1s,tpot_p99=50ms")
    resolver = Resolver(
        tokenizer,
        vocab_size=VOCABULARY,
        max_model_len=64,
        objectives={"standard": defaults, "interactive": defaults[:1]},
    )

    def resolved(**terms: Any) -> list[str]:
        found = resolver.resolve(
            [[1], [2]],
            SamplingParams(n=2),
            request_id="r",
            arrival=0.0,
            seeds=[1, 2],
            terms=Terms(**terms),
        )
        assert {each.service_class for each in found.requests} == {
            terms.get("service_class", "standard")
        }
        (objectives,) = {each.objectives for each in found.requests}
        return [str(each) for each in objectives]

    assert resolved() == ["ttft_p99=1s", "tpot_p99=50ms"]
    own = parse_objectives("tpot=1s,e2el=9s")
    assert resolved(objectives=own) == ["tpot=1s", "e2el=9s", "ttft_p99=1s"]
    assert resolved(service_class="interactive") == ["ttft_p99=1s"]
    assert resolved(service_class="batch") == []
    assert resolved(service_class="batch", objectives=own) == ["tpot=1s", "e2el=9s"]
    with pytest.raises(InvalidRequest, match="none of interactive, standard, batch") as caught:
        resolved(service_class="premium")
    assert caught.value.field == "service_class"


def test_every_token_outside_the_vocabulary_is_named(tokenizer: Tokenizer) -> None:
    bias = {VOCABULARY: 1.0, 5: 1.0, VOCABULARY + 7: 1.0}
    with pytest.raises(InvalidRequest, match=f"{VOCABULARY}, {VOCABULARY + 7} are outside"):
        resolve(tokenizer, "ok", logit_bias=bias)
    many = tuple(range(VOCABULARY, VOCABULARY + 40))
    with pytest.raises(InvalidRequest, match="and 24 more"):
        resolve(tokenizer, "ok", stop_token_ids=many)
