"""Keys: equal exactly where tokens must be equal, and for whom they are is no other's."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from headway.client.response_cache.keys import KEY_BYTES, CacheKeys, fingerprint_of
from headway.types import Grammar, Request, ResolvedSampling
from headway.types.engine import Hardware
from headway.types.objectives import parse_objectives
from headway.types.thinking import ThinkingBudget
from tests.client.response_cache.scripted import request

BASE = request("base", tenant="t", cache_salt="s", temperature=0.7, seed=3)
OTHER_SAMPLING = {
    "max_tokens": 7,
    "seed": 4,
    "min_tokens": 1,
    "temperature": 0.8,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.1,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.5,
    "logit_bias": ((1, 2.0),),
    "allowed_token_ids": (1, 2),
    "bad_words": ((1, 2),),
    "logprobs": 1,
    "prompt_logprobs": 1,
    "stop_token_ids": (9,),
    "structured_outputs": Grammar(kind="regex", text="a+"),
    "logprob_token_ids": (5,),
    "repeat_last_n": 64,
    "thinking_token_budget": ThinkingBudget(
        tokens=3, opening="<t>", closing="</t>", closing_tokens=(2,)
    ),
}
SAME = {
    "id": "other",
    "arrival": 9.0,
    "kv_source": "/proc/9/fd/9",
    "priority": 3,
    "group": "g",
    "caller": "somebody",
    "objectives": parse_objectives("ttft=1s"),
    "service_class": "batch",
    "prediction": (1, 2),
}
"""What says when, and for whom within a tenant, an answer is wanted, and not what it is."""
OTHER = {"prompt": (5, 6), "tenant": "u", "cache_salt": "r"}


def key(asked: Request, *, shared: bool = False) -> bytes:
    (found,) = CacheKeys(b"model", shared=shared).of([asked])
    assert len(found) == KEY_BYTES
    return found


def test_every_field_of_sampling_is_in_the_key() -> None:
    assert set(OTHER_SAMPLING) == {each.name for each in fields(ResolvedSampling)}
    keys = {
        key(replace(BASE, sampling=replace(BASE.sampling, **{name: value})))  # type: ignore[arg-type]
        for name, value in OTHER_SAMPLING.items()
    }
    assert len(keys | {key(BASE)}) == len(OTHER_SAMPLING) + 1


def test_every_field_of_a_request_is_in_the_key_or_known_not_to_matter() -> None:
    named = {each.name for each in fields(Request)}
    # Those that begin with tokens of elsewhere are not looked up at all.
    assert named == set(SAME) | set(OTHER) | {"sampling", "generated"}
    assert {key(replace(BASE, **{name: value})) for name, value in SAME.items()} == {key(BASE)}  # type: ignore[arg-type]
    others = {key(replace(BASE, **{name: value})) for name, value in OTHER.items()}  # type: ignore[arg-type]
    assert len(others | {key(BASE)}) == len(OTHER) + 1


def test_a_greedy_answer_does_not_depend_on_the_seed() -> None:
    one, two = (request("a", seed=seed) for seed in (1, 2))
    assert key(one) == key(two)


def test_tenants_share_only_if_the_operator_says_so_and_never_across_salts() -> None:
    other = replace(BASE, tenant="u")
    assert key(other) != key(BASE)
    assert key(other, shared=True) == key(BASE, shared=True)
    assert key(other, shared=True) != key(replace(other, cache_salt="r"), shared=True)
    # Those without a key are no tenant that a name could stand for.
    assert key(replace(BASE, tenant=""), shared=False) != key(BASE, shared=True)


def test_prompts_of_the_same_bytes_are_told_apart() -> None:
    prompts = [(1,), (1, 0), (0, 1), (256,), (65536,), (1, 2), (2, 1), (513,)]
    assert len({key(replace(BASE, prompt=prompt)) for prompt in prompts}) == len(prompts)


def test_continuations_of_one_prompt_have_keys_of_their_own() -> None:
    requests = [replace(BASE, id=str(n), sampling=replace(BASE.sampling, seed=n)) for n in range(3)]
    keys = CacheKeys(b"model").of(requests)
    assert keys == [key(each) for each in requests]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("field", ["device", "dtype", "kv_cache_dtype", "backend", "isa"])
def test_another_model_or_other_kernels_are_another_fingerprint(field: str) -> None:
    hardware = Hardware(device="cpu", dtype="int8", kv_cache_dtype="int8", backend="n", isa="avx2")
    files = [("model", "1"), ("weights", "2")]
    base = fingerprint_of(files, hardware)
    assert fingerprint_of(files[::-1], hardware) == base
    assert fingerprint_of([("model", "1"), ("weights", "3")], hardware) != base
    assert fingerprint_of(files, hardware, tokenizer="other") != base
    assert fingerprint_of(files, hardware, version="2") != base
    other = replace(hardware, **{field: "other"})  # type: ignore[arg-type]
    assert fingerprint_of(files, other) != base
    assert CacheKeys(base).of([BASE]) != CacheKeys(fingerprint_of(files, other)).of([BASE])
