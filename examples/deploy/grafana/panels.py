"""What the dashboard shows: a row for each question that somebody has who runs a server.

Each query is limited to the models and instances that are picked above the panels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

QUANTILES = (0.5, 0.95, 0.99)
ENGINE = "{{instance}}, engine {{replica}}"
LOOKED_UP = "headway:response_cache_queries_total"


class Query(NamedTuple):
    expr: str
    legend: str


class Panel(NamedTuple):
    title: str
    text: str
    unit: str
    queries: Sequence[Query]
    stacked: bool = False


def of(metric: str, *matchers: str) -> str:
    """The series of the picked models and instances."""
    return (
        metric + "{" + ", ".join(('model_name=~"$model"', 'instance=~"$instance"', *matchers)) + "}"
    )


def rate(metric: str, by: str = "") -> str:
    """A second, of all series or of those that have a label in common."""
    return f"sum{by and f' by ({by}) '}(rate({of(metric)}[$__rate_interval]))"


def share(part: str, whole: str) -> str:
    return f"{rate(part)} / {rate(whole)}"


def mean(histogram: str) -> str:
    return share(f"{histogram}_sum", f"{histogram}_count")


def quantiles(histogram: str, *wanted: float, name: str = "") -> list[Query]:
    buckets = rate(f"{histogram}_bucket", by="le")
    return [
        Query(f"histogram_quantile({q}, {buckets})", f"{name}p{100 * q:g}")
        for q in wanted or QUANTILES
    ]


def busy() -> str:
    """Percent of the time, in the mean of all engines; an instance may have several."""
    seconds = "headway:engine_busy_seconds_total"
    engines = " or ".join(
        f"count by (instance) ({of(metric)})" for metric in ("headway:replica_cores", seconds)
    )
    return f"100 * avg({rate(seconds, by='instance')} / ({engines}))"


def target(metric: str) -> Query:
    """What requests are held to by default, by class."""
    series = of("headway:slo_target_seconds", f'metric="{metric}"')
    return Query(f"max by (class) ({series})", "objective: {{class}}")


ROWS: Mapping[str, Sequence[Panel]] = {
    "Traffic": [
        Panel(
            "Requests",
            "Sequences in the batch, and those that wait: for room (capacity), or held back by the "
            "policy (deferred).",
            "short",
            [
                Query(f"sum({of('vllm:num_requests_running')})", "running"),
                Query(
                    f"sum by (reason) ({of('vllm:num_requests_waiting_by_reason')})",
                    "waiting: {{reason}}",
                ),
            ],
        ),
        Panel(
            "Tokens per second",
            "Prompt tokens count when their request gives its first token.",
            "short",
            [
                Query(rate("vllm:generation_tokens_total"), "generated"),
                Query(rate("vllm:prompt_tokens_total"), "prompt"),
                Query(rate("vllm:prompt_tokens_cached_total"), "prompt, cached"),
            ],
        ),
        Panel(
            "Sizes",
            "Tokens of a request's prompt and of its answer.",
            "short",
            [
                *quantiles("vllm:request_prompt_tokens", 0.5, 0.95, name="prompt, "),
                *quantiles("vllm:request_generation_tokens", 0.5, 0.95, name="answer, "),
            ],
        ),
    ],
    "Latency against objectives": [
        Panel(
            "Time to first token",
            "From arrival to the first token, and what each class is held to.",
            "s",
            [*quantiles("vllm:time_to_first_token_seconds"), target("ttft")],
        ),
        Panel(
            "Time per output token",
            "A request's mean after its first token, and what each class is held to.",
            "s",
            [*quantiles("vllm:request_time_per_output_token_seconds"), target("tpot")],
        ),
        Panel(
            "Time of a request",
            "From arrival to the end, and what each class is held to.",
            "s",
            [*quantiles("vllm:e2e_request_latency_seconds"), target("e2el")],
        ),
        Panel(
            "Attainment",
            "Of each class's last 1,000 requests with objectives, those that kept all of them.",
            "percentunit",
            [Query(f"min by (class) ({of('headway:slo_attainment_ratio')})", "{{class}}")],
        ),
        Panel(
            "Missed objectives per second",
            "By the first reason that applies.",
            "short",
            [
                Query(
                    rate("headway:requests_missed_total", by="class, reason"),
                    "{{class}}: {{reason}}",
                )
            ],
        ),
        Panel(
            "Between tokens",
            "Time between two tokens of one request: its largest values are what readers notice.",
            "s",
            quantiles("vllm:inter_token_latency_seconds"),
        ),
        Panel(
            "Where the time goes",
            "Means over the requests that ended.",
            "s",
            [
                Query(mean("vllm:request_queue_time_seconds"), "waiting"),
                Query(mean("vllm:request_prefill_time_seconds"), "prefill"),
                Query(mean("vllm:request_decode_time_seconds"), "decode"),
            ],
            stacked=True,
        ),
        Panel(
            "Requests a second, and how many can be held",
            "Capacity follows from objectives, lengths and step times; bursts are not in it.",
            "short",
            [
                Query(rate("vllm:request_success_total"), "ended"),
                Query(f"sum({of('headway:capacity_requests_per_second')})", "capacity"),
            ],
        ),
        Panel(
            "Relegated and shed per second",
            "Those that could not be on time: put behind the others, or refused.",
            "short",
            [
                Query(rate("headway:num_relegated_total"), "relegated"),
                Query(rate("headway:num_shed_total"), "shed"),
            ],
        ),
    ],
    "Batch": [
        Panel(
            "Width and idle slots",
            "Sequences in a step, and the share of slots that the policy left empty.",
            "short",
            [
                Query(f"avg({of('headway:step_width')})", "width"),
                Query(f"100 * avg({of('headway:idle_slot_ratio')})", "idle slots, %"),
            ],
        ),
        Panel(
            "Tokens in a step",
            "New tokens that steps had, and the most that objectives and limits allow.",
            "short",
            [
                Query(mean("headway:step_tokens"), "new tokens"),
                Query(f"min({of('headway:step_token_budget')})", "budget"),
            ],
        ),
        Panel(
            "Time of a step",
            "Measured, and as it was predicted for the last second's steps.",
            "s",
            [
                *quantiles("headway:step_seconds", 0.5, 0.99),
                Query(f"avg({of('headway:predicted_step_seconds')})", "predicted"),
                Query(f"max({of('headway:lowest_tpot_seconds')})", "lowest TPOT of any batch"),
            ],
        ),
        Panel(
            "What limits the batch",
            "The share of instances that each factor limits.",
            "percentunit",
            [Query(f"avg by (factor) ({of('headway:limiting_factor')})", "{{factor}}")],
            stacked=True,
        ),
        Panel(
            "Machine",
            "Percent of limit: the time that peak rates allow for the steps, over the time that "
            "they took. Busy: the share of time in which there was a step.",
            "percent",
            [
                Query(f"avg({of('headway:percent_of_limit')})", "of limit"),
                Query(busy(), "busy"),
            ],
        ),
    ],
    "KV memory and prefix cache": [
        Panel(
            "KV memory",
            "Share of the blocks in use.",
            "percentunit",
            [Query(f"avg({of('vllm:kv_cache_usage_perc')})", "used")],
        ),
        Panel(
            "Prefix cache",
            "Of the prompt tokens that were looked up, those that were found.",
            "percentunit",
            [
                Query(
                    share("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"), "hits"
                )
            ],
        ),
        Panel(
            "Preemptions per second",
            "Sequences whose memory was taken, to be computed again; some of them gave way to "
            "another caller.",
            "short",
            [
                Query(rate("vllm:num_preemptions_total"), "all"),
                Query(rate("headway:num_gave_way_total"), "for another caller"),
            ],
        ),
    ],
    "Response cache": [
        Panel(
            "Answers from memory",
            "Of the continuations that were looked up. Empty without --response-cache.",
            "percentunit",
            [
                Query(share(f"headway:response_cache_{part}_total", LOOKED_UP), said)
                for part, said in (("hits", "hits"), ("joined", "joined one under way"))
            ],
        ),
        Panel(
            "Tokens not computed",
            "Generated tokens a second that were served from memory.",
            "short",
            [Query(rate("headway:response_cache_tokens_total"), "tokens")],
        ),
        Panel(
            "Memory of the response cache",
            "Bytes that answers take.",
            "bytes",
            [Query(f"sum({of('headway:response_cache_bytes')})", "answers")],
        ),
    ],
    "Speculation": [
        Panel(
            "Drafts right",
            "Of the tokens that were computed ahead, those that sampling confirmed.",
            "percentunit",
            [
                Query(
                    share(
                        "vllm:spec_decode_num_accepted_tokens_total",
                        "vllm:spec_decode_num_draft_tokens_total",
                    ),
                    "acceptance",
                )
            ],
        ),
        Panel(
            "Drafts per second",
            "Tokens computed ahead, and those of them that were right.",
            "short",
            [
                Query(rate("vllm:spec_decode_num_draft_tokens_total"), "computed"),
                Query(rate("vllm:spec_decode_num_accepted_tokens_total"), "right"),
            ],
        ),
        Panel(
            "Right by place",
            "Right drafts a second, by their place behind the last token, from 0.",
            "short",
            [
                Query(
                    rate("vllm:spec_decode_num_accepted_tokens_per_pos_total", by="position"),
                    "place {{position}}",
                )
            ],
        ),
    ],
    "Replicas": [
        Panel(
            "Requests of each engine",
            "What each has, waiting or in its batch. This row is empty where servers have one "
            "engine each.",
            "short",
            [Query(of("headway:replica_live_requests"), ENGINE)],
        ),
        Panel(
            "Busy",
            "The share of time in which an engine had a step.",
            "percentunit",
            [Query(rate("headway:replica_busy_seconds_total", by="instance, replica"), ENGINE)],
        ),
        Panel(
            "KV memory of each engine",
            "Share of its blocks in use.",
            "percentunit",
            [Query(of("headway:replica_kv_cache_usage"), ENGINE)],
        ),
        Panel(
            "What engines are",
            "How many start, serve, start again, drain, or have failed.",
            "short",
            [Query(f"sum by (state) ({of('headway:replica_state')})", "{{state}}")],
            stacked=True,
        ),
        Panel(
            "Requests given per second",
            "Those that the router gave to an engine, and those that it took over from another.",
            "short",
            [Query(rate("headway:replica_requests_total", by="instance, replica"), ENGINE)],
        ),
    ],
    "Failures": [
        Panel(
            "Ended per second",
            "How requests ended. Abort: the client left.",
            "short",
            [
                Query(
                    rate("vllm:request_success_total", by="finished_reason"), "{{finished_reason}}"
                )
            ],
        ),
        Panel(
            "Refused per second",
            "At admission, by reason.",
            "short",
            [Query(rate("vllm:admission_rejections_total", by="reason"), "{{reason}}")],
        ),
        Panel(
            "Engine restarts",
            "A new engine process took over the live requests of one that was lost.",
            "short",
            [
                Query(
                    f"sum(increase({of('headway:engine_restarts_total')}[$__rate_interval]))",
                    "restarts",
                )
            ],
        ),
        Panel(
            "Silence of the engine",
            "Time since its last sign of life, which comes every second.",
            "s",
            [Query(f"max({of('headway:engine_silence_seconds')})", "silence")],
        ),
        Panel(
            "Memory of the API process",
            "Resident.",
            "bytes",
            [
                Query(
                    'process_resident_memory_bytes{instance=~"$instance", job="headway"}',
                    "{{instance}}",
                )
            ],
        ),
        Panel(
            "File descriptors of the API process",
            "In use, of those that it may have.",
            "percentunit",
            [
                Query(
                    'process_open_fds{instance=~"$instance", job="headway"} / '
                    'process_max_fds{instance=~"$instance", job="headway"}',
                    "{{instance}}",
                )
            ],
        ),
    ],
}
