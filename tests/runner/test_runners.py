"""Every runner over whole steps: independence of the batch, errors of one sequence, rows reused."""

from __future__ import annotations

import math
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.checkpoint import Storage, load_prepared
from headway.checkpoint.prepared import WEIGHTS
from headway.checkpoint.safetensors import read_header
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.runner import build_runner
from headway.types import NewSequence, ResolvedSampling, Slice, StepPlan
from headway.types.step import Runner
from tests.models.families import VOCABULARY
from tests.runner.conftest import Tiny
from tests.runner.driver import Driver, Live

BLOCK = 16


def load(folder: Path, **changes: Any) -> Runner:
    settings: dict[str, Any] = {"device": "cpu", "threads": 1, "block_size": BLOCK}
    if load_prepared(folder).storage == "float32":
        settings["dtype"] = "float32"  # by itself, the reference would take bfloat16
    config = EngineConfig(**{**settings, "kv_cache_memory": 2**25, **changes})
    return build_runner(config, folder).runner


def poisoned(folder: Path, token: int, copy: Path) -> Path:
    """A copy of a prepared float32 model, in which one token's embedding is not a number."""
    shutil.copytree(folder, copy)
    path = copy / WEIGHTS
    entry = read_header(path)[1]["embed.weight"]
    raw = bytearray(path.read_bytes())
    begin, end = (8 + int.from_bytes(raw[:8], "little") + n for n in entry["data_offsets"])
    table = np.frombuffer(raw, dtype=np.float32, offset=begin, count=(end - begin) // 4)
    if entry["dtype"] == "F32":
        table.reshape(entry["shape"])[token] = math.nan
    else:  # blocked layout [K][32]
        table.reshape(entry["shape"][0], -1, 32)[token // 32, :, token % 32] = math.nan
    path.write_bytes(raw)
    return copy


def mixture(number: int) -> list[tuple[list[int], ResolvedSampling]]:
    """Prompts with all kinds of sampling."""
    rng = random.Random(5)
    made = []
    for n in range(number):
        prompt = [rng.randrange(3, VOCABULARY) for _ in range(rng.randrange(1, 40))]
        changes: dict[str, Any] = {
            "temperature": rng.choice([0.0, 0.8, 1.3]),
            "top_p": rng.choice([1.0, 0.9]),
            "top_k": rng.choice([0, 0, 12]),
            "repetition_penalty": rng.choice([1.0, 1.2]),
            "presence_penalty": rng.choice([0.0, 0.4]),
            "repeat_last_n": rng.choice([-1, 0, 5, 12]),
            "logprobs": rng.choice([None, 2]),
        }
        made.append((prompt, ResolvedSampling(max_tokens=rng.randrange(4, 12), seed=n, **changes)))
    return made


def test_tokens_do_not_depend_on_the_batch(either: Path) -> None:
    requests, runner = mixture(64), load(either)
    alone = []
    for prompt, sampling in requests:
        driver = Driver(runner, BLOCK)
        live = driver.add(prompt, sampling)
        driver.finish([live])
        driver.ended.append(live.seq)
        driver.run([])
        alone.append(live.generated)
    driver = Driver(load(either), BLOCK)
    lives = [driver.add(prompt, sampling) for prompt, sampling in requests]
    driver.finish(lives, chunk=13)
    assert [live.generated for live in lives] == alone
    assert len({tuple(tokens) for tokens in alone}) > 32


@pytest.mark.parametrize("storage", ["float32", "native-float32"])
def test_one_sequence_with_nan_spares_the_others(
    tinies: Tiny, tmp_path: Path, storage: Storage
) -> None:
    poison = 17
    # Its lm_head is a matrix of its own, which stays whole.
    runner = load(poisoned(tinies("qwen2", storage), poison, tmp_path / "poisoned"))
    good, bad = [5, 6, 7, 8], [5, poison, 7, 8]
    greedy = ResolvedSampling(max_tokens=6, seed=0, logprobs=1, allowed_token_ids=(5, 6, 7))
    driver = Driver(runner, BLOCK)
    alone = driver.add(good, greedy)
    driver.finish([alone])
    first, second = driver.add(bad, greedy), driver.add(good, greedy)
    driver.run([(first, 3), (second, 9)])
    driver.run([(first, 9), (second, 1)])
    (failed,) = first.sampled
    assert failed.error is not None
    assert "not finite" in failed.error
    assert failed.logprobs == ()
    driver.ended.append(first.seq)
    driver.finish([second])
    assert second.generated == alone.generated
    # Its blocks go to someone else, who must not notice.
    heir = driver.add(good, greedy)
    heir.blocks = list(first.blocks)
    driver.finish([heir])
    assert heir.generated == alone.generated


def test_no_token_left_is_an_error_of_that_sequence(either: Path) -> None:
    driver = Driver(load(either), BLOCK)
    none = ResolvedSampling(
        max_tokens=3, seed=0, min_tokens=2, stop_token_ids=(9,), allowed_token_ids=(9,)
    )
    lives = [driver.add([4], none), driver.add([4], ResolvedSampling(max_tokens=3, seed=0))]
    driver.run([(live, 1) for live in lives])
    assert lives[0].sampled[0].error is not None
    assert lives[1].sampled[0].error is None


def test_more_sequences_than_expected_still_fit(either: Path) -> None:
    driver = Driver(load(either, max_num_seqs=2), BLOCK)
    greedy = ResolvedSampling(max_tokens=5, seed=0)
    lives = [driver.add([n, n + 1], greedy) for n in range(3, 12)]
    driver.finish(lives)
    alone = Driver(load(either), BLOCK)
    last = alone.add([11, 12], greedy)
    alone.finish([last])
    assert lives[-1].generated == last.generated


def test_resumed_after_another_engine_goes_on_alike(either: Path) -> None:
    sampling = ResolvedSampling(
        max_tokens=10,
        seed=8,
        temperature=1.0,
        frequency_penalty=0.5,
        min_tokens=9,
        stop_token_ids=(2,),
    )
    driver = Driver(load(either), BLOCK)
    whole = driver.add([7, 8, 9], sampling)
    driver.finish([whole])
    known = tuple(whole.tokens[:8])
    entry = NewSequence(seq=99, tokens=known, prompt_len=3, sampling=sampling)
    part = Slice(seq=99, start=0, tokens=known, blocks=(0,), outputs=1)
    result = load(either).compute(StepPlan(step=0, slices=[part], new=[entry]))
    assert [each.tokens for each in result.sampled] == [(whole.tokens[8],)]


def test_prompt_logprobs_come_in_the_chunks_in_which_they_were_computed(either: Path) -> None:
    driver = Driver(load(either), BLOCK)
    prompt = list(range(10, 20))
    sampling = ResolvedSampling(max_tokens=2, seed=0, prompt_logprobs=0)
    live = driver.add(prompt, sampling)
    driver.finish([live], chunk=4)
    assert [(each.start, len(each.logprobs)) for each in live.prompt_logprobs] == [
        (1, 4),
        (5, 4),
        (9, 1),
    ]
    told = [each.token for found in live.prompt_logprobs for each in found.logprobs]
    assert told == prompt[1:]


def test_an_empty_step_only_lets_sequences_go(either: Path) -> None:
    runner = load(either)
    result = runner.compute(StepPlan(step=4, slices=[], ended=[1, 2]))
    assert (result.step, list(result.sampled)) == (4, [])


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "float16"])
def test_every_type_of_the_reference_runs(tiny: Path, storage: Any) -> None:
    check_runs(load(tiny, dtype=storage))


@pytest.mark.parametrize("weight_format", ["float32", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("kept", ["float32", "bfloat16", "int8"])
def test_every_native_weight_format_runs(tinies: Tiny, weight_format: Any, kept: Any) -> None:
    storage: Any = f"native-{weight_format}"
    check_runs(load(tinies("llama", storage), dtype=weight_format, kv_cache_dtype=kept))


def check_runs(runner: Runner) -> None:
    driver = Driver(runner, BLOCK)
    lives = [driver.add([5, 6, 7], ResolvedSampling(max_tokens=4, seed=0)) for _ in range(2)]
    driver.finish(lives)
    assert all(each.error is None for live in lives for each in live.sampled)
    assert lives[0].generated == lives[1].generated


def test_tokens_that_proved_wrong_are_replaced(either: Path) -> None:
    """Some were fed that are not the sequence's: what is sampled after others is as if they never
    had been, although penalties count them and positions have random numbers."""
    runner = load(either)
    for prompt, usual in mixture(12):
        sampling = replace(usual, repetition_penalty=1.4, presence_penalty=0.5)
        undisturbed = Driver(runner, BLOCK)
        truth = undisturbed.add(prompt, sampling)
        undisturbed.finish([truth])
        undisturbed.ended.append(truth.seq)
        undisturbed.run([])
        for right in (1, 3):
            driver = Driver(runner, BLOCK)
            live = driver.add(prompt, sampling)
            for _ in range(right):
                driver.run([(live, 10**9)])
            live.tokens[-1] = (live.tokens[-1] + 1) % VOCABULARY
            for _ in range(3):
                driver.run([(live, 1)])
            live.tokens[len(prompt) + right - 1 :] = truth.generated[right - 1 : right]
            live.computed = len(live.tokens) - 1
            driver.finish([live])
            assert live.generated == truth.generated
            driver.ended.append(live.seq)
            driver.run([])


@pytest.mark.parametrize("seed", range(3))
def test_drafts_change_no_token(either: Path, seed: int) -> None:
    """Right ones, wrong ones and none, of all kinds of sampling, in one batch."""
    requests, rng = mixture(24), random.Random(seed)
    requests = [(p, replace(s, max_tokens=s.max_tokens + 8)) for p, s in requests]
    plain = Driver(load(either), BLOCK)
    alone = [plain.add(prompt, sampling) for prompt, sampling in requests]
    plain.finish(alone)
    driver = Driver(load(either), BLOCK)
    lives = [driver.add(prompt, sampling) for prompt, sampling in requests]
    driver.run([(live, 10**9) for live in lives])
    most = 0
    while left := [n for n, live in enumerate(lives) if _left(live) > 0]:
        drafts = []
        for n in left:
            known = len(lives[n].tokens)
            guess = alone[n].tokens[known : known + rng.randrange(min(5, _left(lives[n])))]
            if guess and rng.random() < 0.6:
                guess[rng.randrange(len(guess))] = rng.randrange(3, VOCABULARY)
            drafts.append(guess)
        driver.run([(lives[n], 1) for n in left], drafts)
        most = max(most, *(len(lives[n].sampled[-1].tokens) for n in left))
    assert most == 5
    for live, expected in zip(lives, alone, strict=True):
        assert live.tokens == expected.tokens
        ours = [each for sampled in live.sampled for each in sampled.logprobs]
        theirs = [each for sampled in expected.sampled for each in sampled.logprobs]
        assert [(each.token, each.rank) for each in ours] == [(e.token, e.rank) for e in theirs]


def _left(live: Live) -> int:
    return live.sampling.max_tokens - len(live.generated)


@pytest.mark.parametrize("storage", ["float32", "native-float32"])
def test_a_draft_that_breaks_its_row_breaks_nothing_else(
    tinies: Tiny, tmp_path: Path, storage: Storage
) -> None:
    poison = 17
    runner = load(poisoned(tinies("qwen2", storage), poison, tmp_path / "poisoned"))
    greedy = ResolvedSampling(max_tokens=6, seed=0, allowed_token_ids=(5, 6, 7))
    driver = Driver(runner, BLOCK)
    alone, live = driver.add([5, 6, 7, 8], greedy), driver.add([5, 6, 7, 8], greedy)
    driver.finish([alone])
    driver.run([(live, 4)])
    driver.run([(live, 1)], [[poison, 5]])
    driver.finish([live])
    assert live.tokens == alone.tokens


def test_hidden_states_are_those_of_the_last_rows(either: Path) -> None:
    greedy = ResolvedSampling(max_tokens=3, seed=0)
    driver = Driver(load(either), BLOCK)
    prompt = [5, 6, 7, 8, 9]
    whole, other = driver.add(prompt, greedy, hidden=True), driver.add([9, 8], greedy)
    driver.run([(whole, 5), (other, 2)])
    cut = driver.add(prompt, greedy, hidden=True)
    driver.run([(cut, 3), (other, 1)])
    assert not cut.hidden
    driver.run([(cut, 2), (other, 1)])
    (found,), (again,) = whole.hidden, cut.hidden
    assert len(found.rows) == 1
    assert len(found.rows[0]) == 64
    np.testing.assert_allclose(found.rows, again.rows, atol=1e-4)
    # All rows of a prompt, as for a mean over them.
    entry = NewSequence(seq=99, tokens=prompt, prompt_len=5, sampling=greedy, hidden=True)
    part = Slice(seq=99, start=0, tokens=prompt, blocks=(99,), outputs=5)
    result = driver.runner.compute(StepPlan(step=9, slices=[part], new=[entry]))
    (states,) = result.hidden
    assert len(states.rows) == 5
    np.testing.assert_allclose(states.rows[-1:], found.rows, atol=1e-4)
    assert not result.sampled


def test_both_backends_have_the_same_hidden_states(tinies: Tiny) -> None:
    found = []
    storages: tuple[Storage, ...] = ("float32", "native-float32")
    for storage in storages:
        driver = Driver(load(tinies("qwen3", storage)), BLOCK)
        live = driver.add([5, 6, 7], ResolvedSampling(max_tokens=1, seed=0), hidden=True)
        driver.run([(live, 3)])
        found.append(np.array(live.hidden[0].rows))
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    assert np.abs(found[0]).max() > 0.1


@pytest.mark.parametrize("storage", ["float32", "native-float32"])
def test_hidden_states_that_are_not_finite_are_an_error(
    tinies: Tiny, tmp_path: Path, storage: Storage
) -> None:
    poison = 17
    folder = poisoned(tinies("qwen2", storage), poison, tmp_path / "poisoned")
    driver = Driver(load(folder), BLOCK)
    live = driver.add([5, poison], ResolvedSampling(max_tokens=1, seed=0), hidden=True)
    driver.run([(live, 2)])
    assert live.hidden[0].rows == ()
    assert "not finite" in (live.hidden[0].error or "")


def test_the_native_runner_refuses_drafts_that_are_no_tokens(tinies: Tiny) -> None:
    driver = Driver(load(tinies("llama", "native-float32")), BLOCK)
    live = driver.add([5], ResolvedSampling(max_tokens=9, seed=0))
    driver.run([(live, 1)])
    with pytest.raises(InvalidRequest, match="vocabulary"):
        driver.run([(live, 1)], [[VOCABULARY]])


def test_the_whole_vocabulary_is_told_beside_others_that_want_less(either: Path) -> None:
    wants: list[int | None] = [2, VOCABULARY, None, 0, VOCABULARY]
    driver = Driver(load(either), BLOCK)
    lives = [
        driver.add([5, 6, 7 + n], ResolvedSampling(max_tokens=2, seed=0, logprobs=want))
        for n, want in enumerate(wants)
    ]
    driver.run([(live, 10) for live in lives])
    for live, want in zip(lives, wants, strict=True):
        [sampled] = live.sampled
        if want is None:
            assert sampled.logprobs == ()
            continue
        [position] = sampled.logprobs
        assert len(position.top) == want
        values = [value for _, value in position.top]
        assert values == sorted(values, reverse=True)
        if want == VOCABULARY:
            assert {token for token, _ in position.top} == set(range(VOCABULARY))
            assert sum(map(math.exp, values)) == pytest.approx(1.0, abs=1e-4)
            assert dict(position.top)[position.token] == position.logprob


def test_tokens_that_are_listed_have_the_log_probabilities_of_the_whole(either: Path) -> None:
    """With prompts scored in the same step, and drafts of which one is right."""
    driver = Driver(load(either), BLOCK)
    prompt, listed = [5, 6, 7], (9, 4, VOCABULARY - 1)
    asked = ResolvedSampling(max_tokens=4, seed=0)
    whole, some, other = (
        driver.add(prompt, replace(asked, **changes))
        for changes in (
            {"logprobs": VOCABULARY},
            {"logprobs": 0, "logprob_token_ids": listed, "prompt_logprobs": 1},
            {"logprobs": 0, "logprob_token_ids": (8,)},
        )
    )
    driver.run([(live, 10) for live in (whole, some, other)])
    driver.run([(live, 10) for live in (whole, some, other)])
    for one, two, three in zip(whole.sampled, some.sampled, other.sampled, strict=True):
        [full], [few], [single] = one.logprobs, two.logprobs, three.logprobs
        expected = dict(full.top)
        assert (few.token, few.logprob, few.rank) == (full.token, full.logprob, full.rank)
        assert [token for token, _ in few.top] == list(listed)
        assert [value for _, value in few.top] == [expected[token] for token in listed]
        assert single.top == ((8, expected[8]),)
    [scored] = some.prompt_logprobs
    assert [len(each.top) for each in scored.logprobs] == [1, 1]
