"""Prometheus metrics under vLLM's names, fed by subscription alone.

Two sources report to `Metrics`: the engine client after every message (tokens, times, step counts),
and admission when a request starts, finishes or is refused; no request waits for it.
Continuations are counted one by one, as the engine serves them: n = 2 is two requests here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.process_collector import ProcessCollector

from headway.client import EngineHandle
from headway.clock import Clock, MonotonicClock
from headway.llm import GenerationRequest
from headway.server.attainment import Attainment, RequestTimes
from headway.server.histogram import CountedHistogram
from headway.types import FinishReason, ServiceClass, TokenEvent
from headway.types.objectives import Objective
from headway.wire import EngineInfo, EngineStats

STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75)
LONG_SECONDS = (1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0)
SECONDS = (*STEP_SECONDS, *LONG_SECONDS)
STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
PREEMPTIONS = (1, 2, 3, 4, 5, 10, 20)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)

GAUGES = {
    "vllm:num_requests_running": "Sequences in the running batch.",
    "vllm:num_requests_waiting": "Requests waiting to be scheduled.",
    "vllm:kv_cache_usage_perc": "Share of the KV blocks in use, from 0 to 1.",
    "headway:idle_slot_ratio": "Share of the last step's batch slots that the policy left idle.",
    "headway:percent_of_limit": "Time of the last steps at the machine's peak rates, over what "
    "they took, in percent, at most 100; 0 where those are not known.",
    "headway:engine_silence_seconds": "Time since the engine gave its last sign of life, of which "
    "it gives one every second; a silent engine is replaced.",
    "headway:last_step_age_seconds": "Time since the engine's last step ended: it grows while "
    "there is nothing to compute, and while a step does not end.",
}
COUNTERS = {
    "vllm:prompt_tokens": "Prompt tokens of requests that produced a first token.",
    "vllm:prompt_tokens_cached": "Prompt tokens whose keys and values came from the prefix cache.",
    "vllm:generation_tokens": "Generated tokens.",
    "vllm:num_preemptions": "Preemptions of running sequences.",
    "headway:num_gave_way": "Preemptions, of those, for the fair share of another caller.",
    "headway:num_relegated": "Requests that could not be on time, and waited for what others left.",
    "headway:num_shed": "Requests that were refused since they could not be on time.",
    "vllm:prefix_cache_queries": "Prompt tokens looked up in the prefix cache.",
    "vllm:prefix_cache_hits": "Prompt tokens found in the prefix cache.",
    "vllm:spec_decode_num_drafts": "How often a sequence had drafts in a step.",
    "vllm:spec_decode_num_draft_tokens": "Tokens that a step computed ahead of their sampling.",
    "vllm:spec_decode_num_accepted_tokens": "Those of them that sampling confirmed.",
    "headway:engine_busy_seconds": "Time that the engine spent on steps.",
    "headway:engine_ideal_seconds": "Time that these steps would take at the machine's peak rates.",
    "headway:engine_restarts": "Starts of a new engine process after one was lost.",
}
LABELLED = {
    "vllm:request_success": ("Requests that finished, by finish reason.", "finished_reason"),
    "vllm:admission_rejections": ("Requests refused at admission, by reason.", "reason"),
    "vllm:spec_decode_num_accepted_tokens_per_pos": (
        "Drafts that sampling confirmed, by their place behind the last token, from 0.",
        "position",
    ),
}
"""Counters with a label of their own, and its name."""
HISTOGRAMS = {
    "vllm:time_to_first_token_seconds": "From arrival to the first token.",
    "vllm:inter_token_latency_seconds": "Between two tokens of one request.",
    "vllm:request_time_per_output_token_seconds": "Mean time per token after the first.",
    "vllm:e2e_request_latency_seconds": "From arrival to the end.",
    "vllm:request_queue_time_seconds": "From arrival to the first step.",
    "vllm:request_prefill_time_seconds": "From the first step to the first token.",
    "vllm:request_decode_time_seconds": "From the first token to the last.",
    "vllm:request_inference_time_seconds": "From the first step to the last token.",
    "headway:step_seconds": "Duration of a step of the engine.",
}
SIZES = {
    "vllm:request_prompt_tokens": "Prompt tokens of a request.",
    "vllm:request_max_num_generation_tokens": "Tokens of a prompt's longest continuation.",
    "vllm:request_generation_tokens": "Generated tokens of a request.",
    "vllm:request_params_n": "The parameter n of a request.",
    "vllm:request_params_max_tokens": "The parameter max_tokens of a request.",
}
STEP_SIZES = {
    "vllm:iteration_tokens_total": "Generated tokens of a step, and computed prompt tokens of "
    "requests whose first token it gave; steps that gave none do not count.",
    "headway:step_tokens": "New tokens computed in a step, those of unfinished prompts as well.",
}
NAMES = ("model_name",)
"""Labels that every sample has."""
WAITING_REASONS = ("capacity", "deferred")
"""No room for them at present, or the policy holds them back for a batch."""
SIZED: tuple[tuple[dict[str, str], tuple[float, ...]], ...] = (
    (HISTOGRAMS, SECONDS),
    (SIZES, TOKENS),
    (STEP_SIZES, STEP_TOKENS),
    ({"vllm:request_num_preemptions": "Preemptions of a request."}, PREEMPTIONS),
)
"""Histograms, with their buckets."""
CACHE_LABELS = (
    "block_size",
    "cache_dtype",
    "enable_prefix_caching",
    "num_gpu_blocks",
    "kv_cache_size_tokens",
    "kv_cache_memory_bytes",
)
RECENT_STEPS = 64
"""Over so many steps the percent of limit is taken."""
TOTALS = {
    "vllm:num_preemptions": "preemptions",
    "headway:num_gave_way": "gave_way",
    "headway:num_relegated": "relegated",
    "headway:num_shed": "shed",
    "vllm:prefix_cache_queries": "prefix_queries",
    "vllm:prefix_cache_hits": "prefix_hits",
    "vllm:spec_decode_num_drafts": "drafts",
    "vllm:spec_decode_num_draft_tokens": "draft_tokens",
    "vllm:spec_decode_num_accepted_tokens": "accepted_tokens",
    "headway:engine_busy_seconds": "busy_seconds",
    "headway:engine_ideal_seconds": "ideal_seconds",
}
"""Counters that the engine keeps itself, with their field in its stats."""


class Metrics:
    """One registry with one label value, the model's name."""

    def __init__(self, model_name: str, *, clock: Clock | None = None) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._clock = clock or MonotonicClock()
        self._model = model_name
        self._gauges = {
            name: Gauge(name, text, NAMES, registry=self.registry).labels(model_name)
            for name, text in GAUGES.items()
        }
        self._counters = {
            name: Counter(name, text, NAMES, registry=self.registry).labels(model_name)
            for name, text in COUNTERS.items()
        }
        self._histograms = {
            name: CountedHistogram(
                name, text, NAMES, registry=self.registry, buckets=buckets
            ).labels(model_name)
            for table, buckets in SIZED
            for name, text in table.items()
        }
        waiting, text = "vllm:num_requests_waiting_by_reason", "Those that wait, by what for."
        by_reason = Gauge(waiting, text, (*NAMES, "reason"), registry=self.registry)
        self._waiting = {reason: by_reason.labels(model_name, reason) for reason in WAITING_REASONS}
        self._cache_config = Gauge(
            "vllm:cache_config_info",
            "The KV cache's settings, as labels; always 1.",
            (*NAMES, *CACHE_LABELS),
            registry=self.registry,
        )
        self._success, self._rejections, self._accepted = (
            Counter(name, text, (*NAMES, label), registry=self.registry)
            for name, (text, label) in LABELLED.items()
        )
        self.attainment = Attainment(self.registry, model_name)
        self._times: dict[str, RequestTimes] = {}
        self._stats = self._shown = EngineStats()
        """The latest statistics, and those that the counters show."""
        self._recent: deque[EngineStats] = deque(maxlen=RECENT_STEPS + 1)
        self._client: EngineHandle | None = None
        self._restarts = 0

    def attach(
        self,
        client: EngineHandle,
        objectives: Mapping[ServiceClass, tuple[Objective, ...]] | None = None,
    ) -> None:
        """Listen to an engine from now on; `objectives` are the defaults of each class."""
        self.attainment.describe(objectives or {})
        self._client = client
        self._describe_cache(client.info)
        self._stats = self._shown = client.stats
        client.subscribe(self.on_engine)

    def started(self, request: GenerationRequest) -> None:
        """A request goes to the engine, as so many requests as it has continuations."""
        now = self._clock.now()
        copies = len(request.requests) // len(request.distinct)
        for number, each in enumerate(request.requests):
            tokens = len(each.prompt)
            if number % copies == 0:  # those that are not run have the times of the one that is
                times = RequestTimes(arrival=now, prompt_tokens=tokens)
            self._times[each.id] = times
            self._histograms["vllm:request_prompt_tokens"].observe(tokens)
            self._histograms["vllm:request_params_max_tokens"].observe(request.max_tokens)
        self._histograms["vllm:request_params_n"].observe(request.params.n)

    def refused(self, reason: str) -> None:
        self._rejections.labels(self._model, reason).inc()

    def finished(self, request: GenerationRequest, reasons: Sequence[FinishReason]) -> None:
        """The request is over; `reasons` say how each continuation ended."""
        now = self._clock.now()
        n = request.params.n
        tokens = [self._times[each.id].tokens for each in request.requests]
        for start in range(0, len(tokens), n):
            longest = max(tokens[start : start + n])
            self._histograms["vllm:request_max_num_generation_tokens"].observe(longest)
        shed = any(self._times[each.id].shed for each in request.requests)
        for each, reason in zip(request.requests, reasons, strict=True):
            times = self._times.pop(each.id)
            # One that could not have all of its continuations was refused as a whole.
            times.shed = shed and reason == "error"
            self._histograms["vllm:request_num_preemptions"].observe(times.preemptions)
            self._success.labels(self._model, reason).inc()
            self._histograms["vllm:e2e_request_latency_seconds"].observe(now - times.arrival)
            self.attainment.judge(times, each.objectives, each.service_class, reason, now)
            self._observe_end(times)

    def on_engine(self, events: Sequence[TokenEvent], stats: EngineStats, now: float) -> None:
        """What a step gave; see `EngineHandle.subscribe`."""
        generated = stepped = prompts = 0
        together: dict[float, int] = {}
        """How many had their last token at a time: few times, as a step has tokens for many."""
        for event in events:
            times = self._times.get(event.id)
            if times is None:
                continue
            count, before = len(event.tokens), times.last
            times.preemptions += event.preemptions
            times.shed = times.shed or event.retry_after is not None
            if before is None:
                computed = self._observe_beginning(times, event, now)
                prompts += 0 if event.cached else computed
            elif count:
                together[before] = together.get(before, 0) + 1
            if count:
                generated += count
                stepped += 0 if event.cached else count
                times.hear(count, now)
        for before, count in together.items():
            self._histograms["vllm:inter_token_latency_seconds"].observe_equal(now - before, count)
        if generated:
            self._counters["vllm:generation_tokens"].inc(generated)
        if stepped:  # what comes from a response cache was no step
            self._histograms["vllm:iteration_tokens_total"].observe(stepped + prompts)
        self._observe_step(stats)

    def tokens(self) -> tuple[float, float]:
        """Prompt tokens and generated tokens so far, as the counters have them."""
        prompt, generated = (
            next(iter(self._counters[name].collect())).samples[0].value
            for name in ("vllm:prompt_tokens", "vllm:generation_tokens")
        )
        return prompt, generated

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        if self._client is not None:
            restarts = self._client.restarts
            self._counters["headway:engine_restarts"].inc(max(0, restarts - self._restarts))
            self._restarts = max(restarts, self._restarts)
            self._describe_cache(self._client.info)  # a new engine's may be another
            self._gauges["headway:engine_silence_seconds"].set(self._client.silence)
            self._gauges["headway:last_step_age_seconds"].set(self._client.last_step_age)
        self._show_stats()
        return generate_latest(self.registry)

    def _describe_cache(self, info: EngineInfo) -> None:
        self._cache_config.clear()
        self._cache_config.labels(self._model, *map(str, cache_labels(info))).set(1)

    def _observe_beginning(self, times: RequestTimes, event: TokenEvent, now: float) -> int:
        """An event before which there was no token. Gives the prompt tokens that it adds to its
        step, as vLLM counts them: with the first token, those that were computed."""
        if times.scheduled is None and event.scheduled_at is not None:
            times.scheduled = event.scheduled_at
            waited = max(0.0, event.scheduled_at - times.arrival)
            self._histograms["vllm:request_queue_time_seconds"].observe(waited)
            self._counters["vllm:prompt_tokens_cached"].inc(event.cached_tokens)
        if not event.tokens:
            return 0
        self._counters["vllm:prompt_tokens"].inc(times.prompt_tokens)
        self._histograms["vllm:time_to_first_token_seconds"].observe(now - times.arrival)
        return times.prompt_tokens - event.cached_tokens

    def _observe_end(self, times: RequestTimes) -> None:
        self._histograms["vllm:request_generation_tokens"].observe(times.tokens)
        if times.first is None or times.last is None:
            return
        decode = times.last - times.first
        self._histograms["vllm:request_decode_time_seconds"].observe(decode)
        if times.tpot is not None:
            self._histograms["vllm:request_time_per_output_token_seconds"].observe(times.tpot)
        if times.scheduled is not None:
            self._histograms["vllm:request_prefill_time_seconds"].observe(
                max(0.0, times.first - times.scheduled)
            )
            self._histograms["vllm:request_inference_time_seconds"].observe(
                max(0.0, times.last - times.scheduled)
            )

    def _observe_places(self, now: Sequence[int], before: Sequence[int]) -> None:
        for place, (count, old) in enumerate(zip_longest(now, before, fillvalue=0)):
            self._accepted.labels(self._model, place).inc(max(0, count - old))

    def _observe_step(self, stats: EngineStats) -> None:
        """What must be counted step by step; the rest is there when somebody looks."""
        before, self._stats = self._stats, stats
        if stats.step != before.step:
            self._histograms["headway:step_tokens"].observe(stats.step_tokens)
            self._histograms["headway:step_seconds"].observe(stats.step_seconds)
            self._recent.append(stats)

    def _show_stats(self) -> None:
        before, stats = self._shown, self._stats
        self._shown = stats
        for name, field in TOTALS.items():
            grown = getattr(stats, field) - getattr(before, field)
            self._counters[name].inc(max(0, grown))
        if stats.accepted_per_position != before.accepted_per_position:
            self._observe_places(stats.accepted_per_position, before.accepted_per_position)
        if self._recent:
            self._gauges["headway:percent_of_limit"].set(percent_of_limit(self._recent))
        self._gauges["vllm:num_requests_running"].set(stats.running)
        self._gauges["vllm:num_requests_waiting"].set(stats.waiting)
        self._waiting["deferred"].set(stats.deferred)
        self._waiting["capacity"].set(stats.waiting - stats.deferred)
        blocks = self._client.info.scheduler.num_blocks if self._client is not None else 0
        used = 1 - stats.free_blocks / blocks if blocks else 0.0
        self._gauges["vllm:kv_cache_usage_perc"].set(used)
        slots = stats.idle_slots + stats.running
        self._gauges["headway:idle_slot_ratio"].set(stats.idle_slots / slots if slots else 0.0)


def percent_of_limit(recent: Sequence[EngineStats]) -> float:
    """Between the first and the last of these statistics; 0 where the engine was not busy.

    The engine counts no step as faster than it was, so this is 100 at most, but for rounding.
    """
    first, last = recent[0], recent[-1]
    busy = last.busy_seconds - first.busy_seconds
    if busy <= 0:
        return 0.0
    return min(100.0, 100 * (last.ideal_seconds - first.ideal_seconds) / busy)


def cache_labels(info: EngineInfo) -> tuple[object, ...]:
    """The values of `CACHE_LABELS`; vLLM's dashboards multiply blocks by their size."""
    scheduler = info.scheduler
    return (
        scheduler.block_size,
        info.hardware.kv_cache_dtype,
        scheduler.prefix_caching,
        scheduler.num_blocks,
        scheduler.num_blocks * scheduler.block_size,
        info.kv_bytes,
    )
