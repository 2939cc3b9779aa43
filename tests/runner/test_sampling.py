"""Every sampling step against a slow obvious reference; distribution; independence of the batch."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.runner.batch import BadWords, SamplingMetadata, arranged, is_greedy
from headway.runner.sampling.sampler import sample
from headway.runner.sampling.steps import STEPS
from headway.types import Grammar, ResolvedSampling
from tests.native.sampling import mask_of
from tests.runner.slow_sampling import NEVER, kept, sample_slowly

VOCABULARY = 37


def metadata_of(
    prompt: tuple[int, ...] = (1, 2),
    generated: tuple[int, ...] = (),
    mask: tuple[int, ...] | None = None,
    **changes: Any,
) -> SamplingMetadata:
    """With `mask`, the tokens that some grammar has next."""
    if mask is not None:
        changes["structured_outputs"] = Grammar(kind="regex", text="any")
    sampling = ResolvedSampling(**{"max_tokens": 50, "seed": 3, **changes})
    return SamplingMetadata(
        sampling=sampling,
        tokens=np.array(prompt + generated, dtype=np.int64),
        prompt_len=len(prompt),
        bad_words=BadWords(sampling.bad_words),
        greedy=is_greedy(sampling),
        mask=None if mask is None else mask_of(mask, VOCABULARY),
    )


def after_steps(logits: torch.Tensor, metadata: list[SamplingMetadata]) -> torch.Tensor:
    work = logits.clone()
    for step in STEPS:
        rows = [n for n, each in enumerate(metadata) if step.wanted(each.sampling)]
        if rows:
            step.apply(work, rows, [metadata[n] for n in rows])
    return work


def random_logits(rows: int, width: int = VOCABULARY, seed: int = 0) -> torch.Tensor:
    # Rounded, so that equal logits are common.
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, width, generator=generator) * 8).round() / 4


SINGLE: list[dict[str, Any]] = [
    {"mask": (0, 5, 31, 32, 36)},
    {"mask": ()},
    {"allowed_token_ids": (3, 5, 30)},
    {"bad_words": ((7,), (4, 8), (9, 4, 5), (2, 6))},
    {"min_tokens": 4, "stop_token_ids": (0, 11)},
    {"min_tokens": 3, "stop_token_ids": (0, 11)},
    {"min_tokens": 9, "stop_token_ids": ()},
    {"logit_bias": ((0, -100.0), (36, 2.5))},
    {"repetition_penalty": 1.7},
    {"frequency_penalty": 0.6},
    {"presence_penalty": -1.1},
    {"repetition_penalty": 1.7, "repeat_last_n": 4},
    {"frequency_penalty": 0.6, "presence_penalty": 0.5, "repeat_last_n": 2},
    {"frequency_penalty": 0.6, "repetition_penalty": 1.7, "repeat_last_n": 4},
    {"temperature": 0.7},
    {"temperature": 1e-9},
    {"temperature": 1.0, "min_p": 0.2},
    {"temperature": 1.0, "min_p": 1.0},
    {"temperature": 1.0, "top_k": 1},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.0, "top_k": 10**9},
    {"temperature": 1.0, "top_p": 0.5},
    {"temperature": 2.0, "top_p": 0.999},
    {"temperature": 1.0, "top_p": 1e-6},
    {"temperature": 1.5, "top_k": 9, "top_p": 0.8, "min_p": 0.02},
]


@pytest.mark.parametrize("changes", SINGLE, ids=str)
def test_each_step_alone(changes: dict[str, Any]) -> None:
    metadata = [metadata_of((1, 2), (9, 4, 4), **changes) for _ in range(4)]
    logits = random_logits(4)
    work = after_steps(logits, metadata)
    changed = False
    for n, each in enumerate(metadata):
        expected = torch.tensor(kept(logits[n].tolist(), each))
        torch.testing.assert_close(work[n], expected, atol=1e-5, rtol=1e-5)
        changed = changed or not torch.equal(expected, logits[n])
    # Where enough tokens have been generated, or none stops, stopping is not held back.
    assert changed == ("min_tokens" not in changes or changes["min_tokens"] == 4)


tokens = st.integers(0, VOCABULARY - 1)
token_lists = st.lists(tokens, max_size=6).map(tuple)
samplings = st.fixed_dictionaries(
    {
        "seed": st.integers(-(2**63), 2**63 - 1),
        "mask": st.none() | token_lists,
        "temperature": st.sampled_from([0.0, 0.5, 1.0, 3.0]),
        "top_k": st.sampled_from([0, 1, 4, 100]),
        "top_p": st.sampled_from([1.0, 0.9, 0.3]),
        "min_p": st.sampled_from([0.0, 0.13]),
        "min_tokens": st.integers(0, 4),
        "presence_penalty": st.sampled_from([0.0, 0.5]),
        "frequency_penalty": st.sampled_from([0.0, -0.25]),
        "repetition_penalty": st.sampled_from([1.0, 2.0]),
        "repeat_last_n": st.integers(-1, 7),
        "stop_token_ids": token_lists,
        "allowed_token_ids": st.none() | st.lists(tokens, min_size=1, max_size=9).map(tuple),
        "bad_words": st.lists(st.lists(tokens, min_size=1, max_size=3).map(tuple), max_size=3).map(
            tuple
        ),
    }
)
rows = st.tuples(token_lists.filter(bool), token_lists, samplings)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(rows, min_size=1, max_size=5), seed=st.integers(0, 2**31))
def test_the_token_is_the_slow_one_alone_and_together(rows: list[Any], seed: int) -> None:
    metadata = [metadata_of(prompt, generated, **changes) for prompt, generated, changes in rows]
    logits = random_logits(len(metadata), seed=seed)
    before = logits.clone()
    together = sample(logits, metadata)
    assert torch.equal(logits, before)
    for n, each in enumerate(metadata):
        assert sample(logits[n : n + 1], [each]) == [together[n]]
        assert together[n] == sample_slowly(logits[n].tolist(), each)


@pytest.mark.parametrize("changes", [*SINGLE, {}, {"logprobs": 3}], ids=str)
def test_greedy_is_where_no_step_is_wanted(changes: dict[str, Any]) -> None:
    sampling = metadata_of(**changes).sampling
    assert is_greedy(sampling) == (not any(step.wanted(sampling) for step in STEPS))


def test_nothing_left_is_no_token() -> None:
    metadata = [
        metadata_of(
            allowed_token_ids=(4,), min_tokens=2, stop_token_ids=(4,), temperature=temperature
        )
        for temperature in (0.0, 1.0)
    ]
    assert sample(random_logits(2), [*metadata]) == [None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_greedy_takes_the_lowest_id_among_equals(dtype: torch.dtype) -> None:
    logits = torch.zeros(3, 50_000, dtype=dtype)
    logits[0, [40_000, 17, 30_000]] = 5.0
    logits[2, 49_999] = 1.0
    assert sample(logits, [metadata_of(), metadata_of(), metadata_of()]) == [17, 0, 49_999]


def test_top_p_over_a_large_flat_vocabulary_sorts_it_all() -> None:
    logits = random_logits(2, 5000)
    logits[1] = torch.linspace(0, 0.01, 5000)
    metadata = [metadata_of(temperature=1.0, top_p=0.7), metadata_of(temperature=1.0, top_p=0.7)]
    work = after_steps(logits, metadata)
    for n, each in enumerate(metadata):
        expected = [x > NEVER for x in kept(logits[n].tolist(), each)]
        # Float rounding of the mass may move the edge by one of thousands of equals.
        assert abs(int((work[n] > NEVER).sum()) - sum(expected)) <= 1
    assert (work[1] > NEVER).sum() > 3000


def test_drawn_tokens_follow_the_distribution() -> None:
    probabilities = [0.5, 0.25, 0.125, 0.0625, 0.0625]
    number = 8000
    logits = torch.tensor(probabilities).log().expand(number, -1)
    for metadata in (
        [metadata_of(temperature=1.0, seed=seed) for seed in range(number)],
        [
            metadata_of(prompt=(1,) * (1 + n % 50), temperature=1.0, seed=n // 50)
            for n in range(number)
        ],
    ):
        found = sample(logits, metadata)
        counts = np.bincount([token for token in found if token is not None], minlength=5)
        expected = np.array(probabilities) * number
        assert ((counts - expected) ** 2 / expected).sum() < 20  # 4 degrees of freedom: p < 0.001


def test_a_vanishing_temperature_is_greedy() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.9]])
    assert sample(logits, [metadata_of(temperature=math.ulp(0.0))]) == [1]


def test_sequences_with_the_same_bad_words_share_them() -> None:
    words = tuple((n, n + 1) for n in range(4096))
    assert arranged(words) is arranged(tuple(word for word in words))


def test_what_a_step_costs_does_not_grow_with_the_bad_words() -> None:
    generated = np.arange(50, dtype=np.int64)

    def seconds(number: int) -> float:
        words = BadWords([(49, n) for n in range(2)] + [(n, n + 2, n) for n in range(number)])
        begun = time.thread_time()
        for _ in range(300):
            assert words.ends(generated) == [0, 1]
        return time.thread_time() - begun

    assert seconds(5000) < 30 * seconds(5)
