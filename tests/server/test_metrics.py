"""Metrics: numbers computed by hand from events, and what a live server shows."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from headway.client.restarts import COUNTERS, MonotonicStats
from headway.llm import GenerationRequest, TokensPrompt
from headway.server.histogram import CountedHistogram
from headway.server.metrics import RECENT_STEPS, TOTALS, Metrics
from headway.types import Request, ResolvedSampling, SamplingParams, ServiceClass, TokenEvent
from headway.types.objectives import parse_objectives
from headway.wire import EngineStats
from tests.server.conftest import serving
from tests.server.fakes import NUM_BLOCKS, FakeEngine


class HandClock:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time


def asked(
    ids: list[str],
    prompt_tokens: int,
    max_tokens: int,
    *,
    objectives: str | None = None,
    service_class: ServiceClass = "standard",
) -> GenerationRequest:
    """A request with one prompt and so many continuations as ids."""
    wanted = () if objectives is None else parse_objectives(objectives)
    prompt = TokensPrompt(token_ids=(1,) * prompt_tokens)
    params = SamplingParams(n=len(ids), max_tokens=max_tokens)
    sampling = ResolvedSampling(max_tokens=max_tokens, seed=0)
    requests = tuple(
        Request(
            id=name,
            prompt=prompt.token_ids,
            sampling=sampling,
            arrival=0.0,
            objectives=wanted,
            service_class=service_class,
        )
        for name in ids
    )
    return GenerationRequest(id="r", prompts=(prompt,), params=params, requests=requests)


def values(text: bytes) -> dict[str, float]:
    """Sample name, with the label that is not the model's name, to value."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in ("model_name", "le")}
            assert sample.labels.get("model_name", "m") in ("m", "alphabet")
            name = sample.name + "".join(f"[{value}]" for value in labels.values())
            if not name.endswith("_bucket"):
                found[name] = sample.value
    return found


def test_a_request_computed_by_hand() -> None:
    """Arrives at 100, is scheduled at 101, speaks at 103 and 104, ends at 105."""
    clock = HandClock()
    metrics = Metrics("m", clock=clock)
    metrics.attach(FakeEngine())
    request = asked(["r"], 7, 9)
    metrics.started(request)
    chunk = EngineStats(step=0, step_tokens=3)  # of the prompt, which gives no token
    metrics.on_engine([], chunk, 102.0)
    first = TokenEvent(id="r", tokens=(1,), cached_tokens=4, scheduled_at=101.0, preemptions=1)
    metrics.on_engine([first], EngineStats(step=1, step_tokens=7, step_seconds=0.5), 103.0)
    second = TokenEvent(id="r", tokens=(2, 3), preemptions=2)
    metrics.on_engine(
        [second],
        EngineStats(
            step=2,
            step_tokens=1,
            preemptions=2,
            gave_way=1,
            drafts=2,
            draft_tokens=5,
            accepted_tokens=4,
            accepted_per_position=(2, 1, 1),
        ),
        104.0,
    )
    clock.time = 105.0
    metrics.finished(request, ["stop"])
    found = values(metrics.render())
    assert found["vllm:prompt_tokens_total"] == 7
    assert found["vllm:prompt_tokens_cached_total"] == 4
    assert found["vllm:generation_tokens_total"] == 3
    assert found["vllm:num_preemptions_total"] == 2
    assert found["headway:num_gave_way_total"] == 1
    assert found["vllm:spec_decode_num_drafts_total"] == 2
    assert found["vllm:spec_decode_num_draft_tokens_total"] == 5
    assert found["vllm:spec_decode_num_accepted_tokens_total"] == 4
    places = [found[f"vllm:spec_decode_num_accepted_tokens_per_pos_total[{n}]"] for n in range(3)]
    assert places == [2, 1, 1]
    assert found["vllm:request_success_total[stop]"] == 1
    assert found["vllm:request_queue_time_seconds_sum"] == 1.0
    assert found["vllm:time_to_first_token_seconds_sum"] == 3.0
    assert found["vllm:request_prefill_time_seconds_sum"] == 2.0
    assert found["vllm:inter_token_latency_seconds_sum"] == 1.0
    assert found["vllm:request_decode_time_seconds_sum"] == 1.0
    assert found["vllm:request_time_per_output_token_seconds_sum"] == 0.5
    assert found["vllm:request_inference_time_seconds_sum"] == 3.0
    assert found["vllm:e2e_request_latency_seconds_sum"] == 5.0
    # Prompt tokens that were computed, at the first token, and generated ones.
    assert found["vllm:iteration_tokens_total_sum"] == (7 - 4) + 3
    assert found["vllm:iteration_tokens_total_count"] == 2
    assert found["headway:step_tokens_sum"] == 8
    assert found["vllm:request_num_preemptions_sum"] == 3
    assert found["vllm:request_num_preemptions_count"] == 1
    assert found["vllm:request_max_num_generation_tokens_sum"] == 3
    assert found["vllm:request_params_max_tokens_sum"] == 9
    assert found["vllm:request_generation_tokens_sum"] == 3


def test_tokens_of_one_step_are_observed_together() -> None:
    """Three streams and one that joins: 3 gaps of 2 s, then 3 of 1 s and one of 0.25 s."""
    metrics = Metrics("m", clock=HandClock())
    metrics.attach(FakeEngine())
    names = [f"r-{number}" for number in range(4)]
    metrics.started(asked(names, 5, 9))
    metrics.on_engine([TokenEvent(id=each, tokens=(1,)) for each in names[:3]], EngineStats(), 101)
    metrics.on_engine([TokenEvent(id=each, tokens=(1,)) for each in names[:3]], EngineStats(), 103)
    metrics.on_engine([TokenEvent(id="r-3", tokens=(1,))], EngineStats(), 103.75)
    metrics.on_engine([TokenEvent(id=each, tokens=(1, 2)) for each in names], EngineStats(), 104)
    page = metrics.render().decode()
    found = values(page.encode())
    assert found["vllm:inter_token_latency_seconds_count"] == 3 + 4
    assert found["vllm:inter_token_latency_seconds_sum"] == 3 * 2 + 3 * 1 + 0.25
    assert 'vllm:inter_token_latency_seconds_bucket{le="0.3",model_name="m"} 1.0' in page
    assert 'vllm:inter_token_latency_seconds_bucket{le="1.0",model_name="m"} 4.0' in page
    assert 'vllm:inter_token_latency_seconds_bucket{le="2.5",model_name="m"} 7.0' in page
    assert found["vllm:iteration_tokens_total_count"] == 4
    assert found["vllm:iteration_tokens_total_sum"] == 3 * 6 + 3 + 6 + 8
    assert found["vllm:generation_tokens_total"] == 3 + 3 + 1 + 8


@given(
    amounts=st.lists(
        st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.5, 9.0, 10.0]) | st.floats(0, 20), max_size=20
    )
)
def test_amounts_are_counted_as_by_the_library_whoever_looks_and_when(amounts: list[float]) -> None:
    pages = []
    for kind in (Histogram, CountedHistogram):
        registry = CollectorRegistry()
        histogram = kind("h", "text", registry=registry, buckets=(0.5, 1.0, 2.5, 10.0))
        for number, amount in enumerate(amounts):
            if number % 3 == 1:
                list(registry.collect())  # somebody looks in between
            if number % 2 and isinstance(histogram, CountedHistogram):
                histogram.observe_equal(amount, 2)
            else:
                histogram.observe(amount)
                histogram.observe(amount)
        found = {}
        for family in registry.collect():
            for sample in family.samples:
                found[sample.name, sample.labels.get("le")] = sample.value
        found.pop(("h_created", None), None)
        total = found.pop(("h_sum", None))
        assert total == pytest.approx(2 * sum(amounts))
        pages.append(found)
    assert pages[0] == pages[1]


def test_every_total_goes_on_over_restarts() -> None:
    """Between two looks an engine may die and the next one count as far as it did."""
    assert set(TOTALS.values()) <= set(COUNTERS)
    stats = MonotonicStats()
    metrics = Metrics("m", clock=HandClock())
    metrics.attach(FakeEngine())
    five = msgspec.convert(dict.fromkeys(TOTALS.values(), 5), EngineStats)
    metrics.on_engine([], stats.update(five), 100.0)
    metrics.render()
    stats.engine_died()
    metrics.on_engine([], stats.update(five), 101.0)
    found = values(metrics.render())
    assert {found[f"{name}_total"] for name in TOTALS} == {10}


def test_gauges_follow_the_engine() -> None:
    metrics = Metrics("m", clock=HandClock())
    client = FakeEngine()
    metrics.attach(client)
    stats = EngineStats(step=1, running=3, waiting=2, free_blocks=NUM_BLOCKS - 25, idle_slots=1)
    metrics.on_engine([], stats, 0.0)
    client.restarts = 2
    client.silence, client.last_step_age = 4.5, 40.0
    for _ in range(2):
        found = values(metrics.render())
        assert found["vllm:num_requests_running"] == 3
        assert found["vllm:num_requests_waiting"] == 2
        assert found["vllm:kv_cache_usage_perc"] == 0.25
        assert found["headway:idle_slot_ratio"] == 0.25
        assert found["headway:engine_restarts_total"] == 2
        assert found["headway:engine_silence_seconds"] == 4.5
        assert found["headway:last_step_age_seconds"] == 40.0


def test_drafts_by_place_grow_and_never_fall() -> None:
    metrics = Metrics("m", clock=HandClock())
    metrics.attach(FakeEngine())
    name = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
    for counts, shown in (((3,), [3]), ((4, 2), [4, 2]), ((), [4, 2]), ((1, 1), [5, 3])):
        metrics.on_engine([], EngineStats(step=1, accepted_per_position=counts), 0.0)
        found = values(metrics.render())
        assert [found[f"{name}[{place}]"] for place in range(len(shown))] == shown
    assert f"{name}[2]" not in found


def test_who_waits_is_told_by_reason() -> None:
    metrics = Metrics("m", clock=HandClock())
    metrics.attach(FakeEngine())
    metrics.on_engine([], EngineStats(step=1, waiting=5, deferred=2), 0.0)
    found = values(metrics.render())
    assert found["vllm:num_requests_waiting"] == 5
    assert found["vllm:num_requests_waiting_by_reason[capacity]"] == 3
    assert found["vllm:num_requests_waiting_by_reason[deferred]"] == 2


def test_the_longest_continuation_of_each_prompt() -> None:
    """Two prompts with two continuations each: 3 and 1 tokens, and 2 and 5."""
    metrics = Metrics("m", clock=HandClock())
    names = ["r-0", "r-1", "r-2", "r-3"]
    request = asked(names, 1, 9)
    two = replace(request, params=replace(request.params, n=2), prompts=request.prompts * 2)
    metrics.started(two)
    for name, count in zip(names, (3, 1, 2, 5), strict=True):
        metrics.on_engine([TokenEvent(id=name, tokens=(1,) * count)], EngineStats(), 101.0)
    metrics.finished(two, ["length"] * 4)
    found = values(metrics.render())
    assert found["vllm:request_max_num_generation_tokens_sum"] == 3 + 5
    assert found["vllm:request_max_num_generation_tokens_count"] == 2


def test_the_cache_is_described_in_labels_and_anew_after_a_restart() -> None:
    metrics = Metrics("m", clock=HandClock())
    client = FakeEngine()
    metrics.attach(client)
    for blocks in (NUM_BLOCKS, 7):
        (family,) = [
            family
            for family in text_string_to_metric_families(metrics.render().decode())
            if family.name == "vllm:cache_config_info"
        ]
        (sample,) = family.samples
        assert (sample.value, family.type) == (1.0, "gauge")
        labels = sample.labels
        assert (labels["num_gpu_blocks"], labels["block_size"]) == (str(blocks), "8")
        assert labels["kv_cache_size_tokens"] == str(8 * blocks)
        assert (labels["cache_dtype"], labels["enable_prefix_caching"]) == ("float32", "True")
        scheduler = replace(client.info.scheduler, num_blocks=7)
        client.info = msgspec.structs.replace(client.info, scheduler=scheduler)
        client.restarts += 1


def test_news_of_a_request_that_left_is_ignored() -> None:
    metrics = Metrics("m", clock=HandClock())
    request = asked(["r-0", "r-1"], 1, 1)
    metrics.started(request)
    metrics.finished(request, ["abort", "error"])
    metrics.on_engine([TokenEvent(id="r-0", tokens=(1,))], EngineStats(), 101.0)
    found = values(metrics.render())
    assert found["vllm:generation_tokens_total"] == 0
    assert found["vllm:request_success_total[abort]"] == 1
    assert found["vllm:request_success_total[error]"] == 1


def test_a_live_server_counts() -> None:
    with serving() as server, server.http() as http:
        body = {"prompt": "x", "max_tokens": 5, "n": 2}
        assert http.post("/v1/completions", json=body).status_code == 200
        assert http.post("/v1/completions", json={"prompt": "x", "stop": "c"}).status_code == 200
        server.call(server.state.drain)
        assert http.post("/v1/completions", json=body).status_code == 503
        page = http.get("/metrics")
        assert page.headers["content-type"].startswith("text/plain")
        found = values(page.content)
    assert found["vllm:request_success_total[length]"] == 2
    assert found["vllm:request_success_total[stop]"] == 1
    assert found["vllm:generation_tokens_total"] == 13
    assert found["vllm:prompt_tokens_total"] == 6
    assert found["vllm:prompt_tokens_cached_total"] == 6
    assert found["vllm:admission_rejections_total[draining]"] == 1
    assert found["vllm:prefix_cache_queries_total"] == 2 * found["vllm:prefix_cache_hits_total"]


def test_who_leaves_shows_as_aborted() -> None:
    with serving(max_model_len=2 * 10**6) as server, server.http() as http:
        body = {"prompt": "x", "max_tokens": 10**6, "stream": True}
        with http.stream("POST", "/v1/completions", json=body) as answer:
            next(answer.iter_raw())
        server.until_idle()
        found = values(http.get("/metrics").content)
    assert found["vllm:request_success_total[abort]"] == 1


def test_percent_of_limit_is_that_of_the_last_steps() -> None:
    """All steps take two seconds; ten early ones need all of that, the later ones a quarter."""
    metrics = Metrics("m", clock=HandClock())
    metrics.attach(FakeEngine())
    ideal = 0.0
    for step in range(1, 11 + RECENT_STEPS):
        ideal += 2.0 if step <= 10 else 0.5
        stats = EngineStats(step=step, busy_seconds=2.0 * step, ideal_seconds=ideal)
        metrics.on_engine([], stats, 100.0)
        if step == 10:
            assert values(metrics.render())["headway:percent_of_limit"] == 100.0
    found = values(metrics.render())
    assert found["headway:percent_of_limit"] == 25.0
    assert found["headway:engine_busy_seconds_total"] == 2.0 * (10 + RECENT_STEPS)
    assert found["headway:engine_ideal_seconds_total"] == 20.0 + 0.5 * RECENT_STEPS


def test_no_percent_of_limit_is_above_100() -> None:
    metrics = Metrics("m", clock=HandClock())
    metrics.attach(FakeEngine())
    for step in (1, 2):
        stats = EngineStats(step=step, busy_seconds=1.0 * step, ideal_seconds=1.55 * step)
        metrics.on_engine([], stats, 100.0)
    assert values(metrics.render())["headway:percent_of_limit"] == 100.0


def test_percent_of_limit_is_zero_where_limits_are_not_known() -> None:
    metrics = Metrics("m", clock=HandClock())
    metrics.attach(FakeEngine())
    metrics.on_engine([], EngineStats(step=1), 100.0)
    metrics.on_engine([], EngineStats(step=2, busy_seconds=1.0), 101.0)
    assert values(metrics.render())["headway:percent_of_limit"] == 0.0
