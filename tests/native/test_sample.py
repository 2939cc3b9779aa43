"""Natively sampled tokens against the reference sampler's, on the same logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.native import Library, abi, available, load, supported
from headway.runner.batch import SamplingMetadata
from headway.runner.sampling.sampler import sample
from headway.types import Grammar, ResolvedSampling
from tests.native.sampling import Floats, acceptable, ask_for, mask_of, sample_natively

pytestmark = pytest.mark.skipif(not available(), reason="the native library is not built")


@pytest.fixture(scope="module")
def library() -> Library:
    return load()


@pytest.fixture(scope="module")
def isas(library: Library) -> list[str]:
    return supported(library)


def ask(
    prompt: tuple[int, ...] = (1, 2), generated: tuple[int, ...] = (), **changes: Any
) -> SamplingMetadata:
    sampling = ResolvedSampling(**{"max_tokens": 50, "seed": 3, **changes})
    return ask_for(list(prompt), list(generated), sampling)


def make_logits(kind: str, vocabulary: int, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    normal = random.standard_normal(vocabulary).astype(np.float32)
    if kind == "ties":
        return (np.rint(normal * 8) / 4).astype(np.float32)
    if kind == "peaked":
        normal[random.integers(vocabulary, size=3)] += np.float32(12)
        return normal * np.float32(3)
    if kind == "flat":
        return np.zeros(vocabulary, dtype=np.float32) + np.float32(random.integers(-3, 3))
    if kind == "ascending":
        return np.linspace(-5, 5, vocabulary, dtype=np.float32)
    if kind == "wide":
        return normal * np.float32(1000)
    return normal * np.float32(2.5) + np.float32(4)


KINDS = ["normal", "ties", "peaked", "flat", "ascending", "wide"]


ANY = Grammar(kind="regex", text="any")
"""What a mask comes from; which one does not matter here."""


def single(low: float, high: float) -> st.SearchStrategy[float]:
    # The interface carries single precision.
    return st.floats(float(np.float32(low)), float(np.float32(high)), width=32)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Floats, SamplingMetadata]:
    sizes = st.integers(1, 70) | st.sampled_from([255, 1024, 1025, 4111, 16_385, 49_152, 50_000])
    vocabulary = draw(sizes)
    logits = make_logits(
        draw(st.sampled_from(KINDS)), vocabulary, seed=draw(st.integers(0, 2**32 - 1))
    )
    token = st.integers(0, vocabulary - 1)
    some = st.lists(token, max_size=12)
    likely = np.argsort(-logits)[:6].tolist()
    sampling = ResolvedSampling(
        max_tokens=50,
        seed=draw(st.integers(-(2**63), 2**63 - 1)),
        min_tokens=draw(st.sampled_from([0, 0, 3])),
        temperature=draw(st.just(0.0) | st.just(1.0) | single(1e-3, 2) | single(1e-7, 100)),
        top_p=draw(st.just(1.0) | single(0, 1) | single(0.9, 1)),
        top_k=draw(st.just(0) | st.integers(1, 60) | st.integers(1, vocabulary + 1)),
        min_p=draw(st.just(0.0) | single(0, 1) | single(0, 1e-3)),
        presence_penalty=draw(st.just(0.0) | single(-2, 2)),
        frequency_penalty=draw(st.just(0.0) | single(-2, 2)),
        repetition_penalty=draw(st.just(1.0) | single(0.01, 100)),
        logit_bias=tuple(draw(st.dictionaries(token, single(-100, 100), max_size=4)).items()),
        allowed_token_ids=draw(st.none() | st.lists(token, min_size=1, max_size=40).map(tuple)),
        bad_words=tuple((word,) for word in draw(some | st.just(likely))),
        stop_token_ids=tuple(draw(some)),
        logprobs=draw(st.none() | st.integers(0, 20)),
        structured_outputs=draw(st.none() | st.just(ANY)),
    )
    mask = None
    if sampling.structured_outputs is not None:
        kept = draw(some | st.just(range(0, vocabulary, 3)) | st.just(range(vocabulary)))
        mask = mask_of(kept, vocabulary)
    generated = draw(some | st.just(likely * 2))
    return logits, ask_for(draw(some.filter(bool)), generated, sampling, mask)


def check(
    library: Library, isa: str, logits: Floats, metadata: SamplingMetadata, answer: set[int]
) -> None:
    found = sample_natively(library, isa, logits, metadata)
    if not answer:
        assert (found.status, found.token) == (abi.HwStatus.NOTHING_LEFT, -1)
        return
    assert found.status == abi.HwStatus.OK
    assert found.token in answer
    if metadata.sampling.logprobs is not None:
        check_logprobs(found, logits, metadata.sampling.logprobs)


def check_logprobs(found: Any, logits: Floats, number: int) -> None:
    # In float64: the reference sums in float32, and on 49,152 logits is the less exact of the two.
    logprobs = torch.log_softmax(torch.from_numpy(logits).double(), dim=-1).numpy()
    assert found.logprob == pytest.approx(logprobs[found.token], rel=1e-6, abs=1e-6)
    assert found.rank == (logits > logits[found.token]).sum() + 1
    order = np.argsort(-logits, kind="stable")[:number].tolist()
    missing = number - len(order)
    assert [token for token, _ in found.top] == order + [-1] * missing
    values = [*logprobs[order], *([-math.inf] * missing)]
    assert [value for _, value in found.top] == pytest.approx(values, rel=1e-6, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_a_sampled_token_is_the_references(
    library: Library, isas: list[str], case: tuple[Floats, SamplingMetadata]
) -> None:
    logits, metadata = case
    answer = acceptable(logits, metadata)
    [reference] = sample(torch.from_numpy(logits)[None], [metadata])
    assert reference in answer if answer else reference is None
    for isa in isas:
        check(library, isa, logits, metadata, answer)


FILTERS: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.5},
    {"temperature": 1.0, "top_k": 1},
    {"temperature": 1.0, "top_k": 40},
    {"temperature": 2.0, "top_k": 3000},
    {"temperature": 1.0, "top_p": 0.5},
    {"temperature": 1.5, "top_p": 0.98046875},
    {"temperature": 1.0, "min_p": 0.0625},
    {"temperature": 1.0, "top_k": 50, "top_p": 0.90625, "min_p": 0.03125},
]


@pytest.mark.parametrize("changes", FILTERS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_many_draws_are_the_references(
    library: Library, isas: list[str], kind: str, changes: dict[str, Any]
) -> None:
    logits = make_logits(kind, 8191, seed=5)
    asks = [ask(seed=seed, **changes) for seed in range(24)]
    expected = sample(torch.from_numpy(logits).expand(len(asks), -1), asks)
    for isa in isas:
        found = [sample_natively(library, isa, logits, each).token for each in asks]
        for n, each in enumerate(asks):
            assert found[n] == expected[n] or found[n] in acceptable(logits, each)
        # Exceptions would be a handful of draws in a million.
        assert sum(a == b for a, b in zip(found, expected, strict=True)) >= len(asks) - 1


@pytest.mark.parametrize("size", [1, 5, 16, 17, 1030])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_row_that_is_not_finite_is_told(
    library: Library, isas: list[str], size: int, bad: float
) -> None:
    for isa in isas:
        for place in {0, size // 2, size - 1}:
            logits = np.ones(size, dtype=np.float32)
            logits[place] = bad
            for target in (-1, 0):
                found = sample_natively(library, isa, logits, ask((0,)), target=target)
                assert found.status == abi.HwStatus.NOT_FINITE
        huge = np.full(size, 3e38, dtype=np.float32)  # finite, though their sum is not
        assert sample_natively(library, isa, huge, ask((0,))).token == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nothing_left_is_no_token(library: Library, isas: list[str], temperature: float) -> None:
    metadata = ask(
        allowed_token_ids=(4,),
        min_tokens=2,
        stop_token_ids=(4,),
        temperature=temperature,
        logprobs=2,
    )
    for isa in isas:
        found = sample_natively(library, isa, make_logits("ties", 37, 0), metadata)
        assert (found.status, found.token) == (abi.HwStatus.NOTHING_LEFT, -1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_only_what_a_mask_has_is_sampled(
    library: Library, isas: list[str], temperature: float
) -> None:
    for isa in isas:
        for size in (1, 31, 32, 33, 1030, 4111):
            logits = make_logits("normal", size, seed=size)
            for token in {0, size // 2, size - 1}:
                asked = ResolvedSampling(
                    max_tokens=9,
                    seed=token,
                    temperature=temperature,
                    structured_outputs=ANY,
                    logprobs=1,
                )
                metadata = ask_for([0], [], asked, mask_of([token], size))
                found = sample_natively(library, isa, logits, metadata)
                assert found.token == token
                # Log probabilities are the model's own, whatever a grammar rules out.
                check_logprobs(found, logits, 1)
                assert sample(torch.from_numpy(logits)[None], [metadata]) == [token]
            nothing = ask_for([0], [], asked, mask_of([], size))
            assert sample_natively(library, isa, logits, nothing).status == 2
            assert sample(torch.from_numpy(logits)[None], [nothing]) == [None]


@pytest.mark.parametrize("changes", [{}, {"logit_bias": ((0, -1.0),)}], ids=["greedy", "changed"])
def test_greedy_takes_the_lowest_id_among_equals(
    library: Library, isas: list[str], changes: dict[str, Any]
) -> None:
    for isa in isas:
        for places in ([40_000, 17, 30_000], [49_999], [1030, 1040], [-1, 49_152]):
            logits = np.full(50_000, -2, dtype=np.float32)
            logits[places] = -1
            expected = min(place % 50_000 for place in places)
            assert sample_natively(library, isa, logits, ask(**changes)).token == expected


def test_minus_zero_is_zero(library: Library, isas: list[str]) -> None:
    logits = np.array([-1.0, -0.0, 0.0, -0.0], dtype=np.float32)
    for isa in isas:
        assert sample_natively(library, isa, logits, ask()).token == 1
        found = sample_natively(library, isa, logits, ask(logprobs=4), target=2)
        assert found.rank == 1
        assert [token for token, _ in found.top] == [1, 2, 3, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_logprobs_of_a_target_instead_of_sampling(
    library: Library, isas: list[str], kind: str
) -> None:
    logits = make_logits(kind, 1500, seed=1)
    for isa in isas:
        for target in (0, 749, 1499):
            metadata = ask(temperature=1.0, allowed_token_ids=(3,), logprobs=7)
            found = sample_natively(library, isa, logits, metadata, target=target)
            assert (found.status, found.token) == (abi.HwStatus.OK, target)
            check_logprobs(found, logits, 7)


def test_nothing_outside_the_row_counts(library: Library, isas: list[str]) -> None:
    for isa in isas:
        for size in (1, 15, 33, 1025):
            inner = make_logits("ties", size, seed=size)
            for shift in (1, 3, 16):
                memory = np.full(size + 64, math.nan, dtype=np.float32)
                memory[shift : shift + size] = inner
                row = memory[shift : shift + size]
                for changes in FILTERS:
                    metadata = ask((0,), logprobs=3, **changes)
                    found = sample_natively(library, isa, row, metadata)
                    assert found == sample_natively(library, isa, inner, metadata)
                    assert found.status == abi.HwStatus.OK


def test_instruction_sets_with_fused_products_agree_to_the_last_bit(
    library: Library, isas: list[str]
) -> None:
    alike = [isa for isa in isas if isa.startswith("avx")]
    for kind in KINDS:
        logits = make_logits(kind, 5003, seed=9)
        for changes in FILTERS:
            found = {
                sample_natively(library, isa, logits, ask(logprobs=5, **changes)) for isa in alike
            }
            assert len(found) <= 1
