"""Settings of an engine and of a server: few, typed, checked on construction.

A setting left at None is one that Headway chooses by itself from the machine and the model; giving
it pins it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from headway.errors import InvalidRequest
from headway.settings import check_settings, setting
from headway.types import SERVICE_CLASSES, ServiceClass
from headway.types.engine import KVReservation
from headway.types.fleet import FleetConfig
from headway.types.objectives import Objective, parse_objectives
from headway.types.response_cache import ResponseCacheConfig
from headway.types.sampling_defaults import parse_defaults
from headway.types.speculation import SpeculativeConfig
from headway.types.speculation_json import as_json, chosen_speculation
from headway.types.thinking import UNLIMITED

DEFAULT_MODEL = "smollm2-135m-instruct"

PolicyName = Literal["sequential", "static", "dynamic", "continuous", "paced"]
PolicyOption = bool | int | float | str
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8", "int4"]
KVCacheDtype = Literal["auto", "float32", "bfloat16", "int8"]
Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["auto", "native", "reference"]
SchedulingPolicy = Literal["fcfs", "priority"]
LogFormat = Literal["text", "json"]
UnknownFields = Literal["refuse", "warn"]


MONTH = 30 * 24 * 3600.0
"""Seconds; the longest time that a setting may name."""
MOST_SEQS = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How one engine process runs one model. Sizes in bytes, times in seconds."""

    model: str = setting(DEFAULT_MODEL, "known name, hub name, GGUF file or model directory")
    tokenizer: str | None = setting(
        None, "directory whose tokenizer and chat template replace the model's own"
    )
    dtype: Dtype = setting("auto", "number format of weights and activations")
    kv_cache_dtype: KVCacheDtype = setting("auto", "number format of the KV cache")
    device: Device = setting("auto", "where to compute")
    backend: Backend = setting("auto", "kernels: native ones (CPU only) or PyTorch's")
    isa: str | None = setting(
        None, "instruction set of the native kernels; the processor's best by default"
    )
    threads: int | None = setting(
        None, "compute threads; every core by default", least=1, most=4096
    )
    pin_threads: bool = setting(False, "bind every native compute thread to a core of its own")
    seed: int | None = setting(
        None,
        "makes the seeds of requests that bring none repeatable, in order of arrival",
        least=-(2**63),
        most=2**63 - 1,
    )
    policy: PolicyName = setting("paced", "how requests are grouped into batches")
    policy_options: Mapping[str, PolicyOption] = field(default_factory=dict)
    """What is given of the policies' own settings, by the name of their flags ("dynamic_wait"); see
    `headway.scheduling.policy.PARAMETERS`."""
    slo: str | None = setting(
        None, "objectives of requests that bring none, such as ttft_p99=1s,tpot_p99=50ms"
    )
    slo_interactive: str | None = setting(
        None, "the same for the class interactive; those of slo by default"
    )
    slo_batch: str | None = setting(None, "the same for the class batch; none by default")
    max_model_len: int | None = setting(
        None,
        "most tokens of one sequence, prompt and generated; the model's own limit by default",
        least=1,
        most=2**24,
    )
    max_num_seqs: int | None = setting(None, "most sequences in one step", least=1, most=MOST_SEQS)
    max_num_batched_tokens: int | None = setting(
        None, "most new tokens in one step", least=1, most=2**20
    )
    max_num_partial_prefills: int = setting(
        1,
        "prompts that share a step in parts; above 1, short ones pass long ones",
        least=1,
        most=MOST_SEQS,
    )
    block_size: int = setting(32, "tokens in one block of the KV cache", least=8, most=128)
    kv_cache_memory: int | None = setting(
        None,
        "bytes for the KV cache (8GiB); by default a share of the free memory, on a CPU up to 4GiB",
        least=1,
        most=2**50,
    )
    kv_reservation: KVReservation = setting(
        "on-demand",
        "when KV blocks are taken: as tokens come, or for prompt and max_tokens on admission",
    )
    gpu_memory_utilization: float | None = setting(
        None,
        "share of the free memory, GPU's or machine's, for weights and KV cache",
        least=0.0,
        most=1.0,
    )
    enable_prefix_caching: bool = setting(True, "reuse the KV cache of equal prompt beginnings")
    keep_kv_cache: bool = setting(
        True,
        "keep the KV cache where it outlives an engine process that dies, so that its requests are "
        "not computed again (native backend, on Linux; not with --record)",
    )
    speculation: bool | None = setting(
        None, "guess tokens and compute them ahead where that pays; changes none; on by default"
    )
    speculative_config: str | Mapping[str, Any] | None = setting(
        None, """where guesses come from: JSON with vLLM's keys, such as '{"method": "ngram"}'"""
    )
    step_timeout: float | None = setting(
        None,
        "seconds after which a step that does not end counts as hung, and the engine is replaced; "
        "by default what the largest step may need on this machine, at least 30",
        least=1,
        most=MONTH,
    )
    record: str | None = setting(
        None,
        "file to which every step's plan and duration is appended, as JSON Lines; of several "
        "replicas, one for each: steps-{replica}.jsonl",
    )

    def __post_init__(self) -> None:
        if isinstance(self.speculative_config, Mapping):
            # As Python has it; flags, files and the wire have text.
            object.__setattr__(self, "speculative_config", as_json(self.speculative_config))
        check_settings(self)
        self.speculative()
        if self.block_size not in (8, 16, 32, 64, 128):
            raise InvalidRequest("block_size must be 8, 16, 32, 64 or 128", field="block_size")
        if self.record == "":
            raise InvalidRequest("record must name a file", field="record")
        if self.gpu_memory_utilization == 0:
            raise InvalidRequest(
                "gpu_memory_utilization must be above 0", field="gpu_memory_utilization"
            )
        for service_class in SERVICE_CLASSES:
            self.objectives_of(service_class)
        self._check_backend()

    def objectives_of(self, service_class: ServiceClass) -> tuple[Objective, ...]:
        """What requests of a class are held to where they bring no objectives of their own."""
        name = "slo" if service_class == "standard" else f"slo_{service_class}"
        if service_class == "interactive" and self.slo_interactive is None:
            name = "slo"
        text = getattr(self, name)
        return () if text is None else parse_objectives(text, field=name)

    def speculative(self) -> SpeculativeConfig:
        """Where drafts come from, and how many there may be."""
        return chosen_speculation(self.speculation, self.speculative_config)

    def needs_native(self, name: str) -> bool:
        """Whether this setting has a value that only the native backend knows."""
        return {
            "backend": self.backend == "native",
            "dtype": self.dtype in ("int8", "int4"),
            "kv_cache_dtype": self.kv_cache_dtype == "int8",
            "isa": self.isa is not None,
            "pin_threads": self.pin_threads,
        }.get(name, False)

    def _check_backend(self) -> None:
        """What only one backend can do is refused where the other is asked for, never ignored."""
        if self.backend == "reference" or self.device == "cuda":
            for name in (field.name for field in fields(self) if self.needs_native(field.name)):
                raise InvalidRequest(
                    f"{name} {getattr(self, name)} needs the native backend, on a CPU", field=name
                )
        if self.backend == "native" and self.dtype == "float16":
            raise InvalidRequest(
                "the native backend has no float16; use bfloat16, or the reference backend",
                field="dtype",
            )
        if self.backend == "native" and self.block_size == 8:
            raise InvalidRequest("the native backend has no blocks of 8 tokens", field="block_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(ResponseCacheConfig, FleetConfig):
    """How the HTTP server listens, whom it lets in, and how much it accepts."""

    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8000, "port to listen on; 0 takes a free one", least=0, most=65535)
    uds: str | None = setting(None, "Unix socket to listen on instead")
    served_model_name: tuple[str, ...] = setting(
        (), "names that requests may use; the model's own by default"
    )
    api_key: tuple[str, ...] = setting((), "keys of which requests must bear one")
    scheduling_policy: SchedulingPolicy = setting(
        "fcfs", "whether the field priority of requests counts (priority) or is refused (fcfs)"
    )
    priority_api_key: tuple[str, ...] = setting(
        (), "of the keys, those whose requests may have a priority; all by default"
    )
    interactive_api_key: tuple[str, ...] = setting(
        (),
        "of the keys, those whose requests may be interactive, or ask for more than their class "
        "does; all by default",
    )
    allowed_origins: tuple[str, ...] = setting((), "origins that browsers may call from")
    allowed_hosts: tuple[str, ...] = setting(
        (),
        "names that requests may call the server by, * for any; by default those of this machine "
        "where no other reaches it and it has no keys, else any",
    )
    page: bool = setting(True, "the page at / where the server is tried out and watched")
    ssl_keyfile: str | None = setting(None, "private key for HTTPS")
    ssl_certfile: str | None = setting(None, "certificate for HTTPS")
    chat_template: str | None = setting(
        None, "Jinja file, or the template itself, that replaces the model's"
    )
    generation_config: str = setting(
        "auto",
        "sampling of requests that leave it open: auto (the model's files, else safe values for "
        "chats), vllm (the whole vocabulary at temperature 1), or a generation_config.json",
    )
    override_generation_config: str | None = setting(
        None, """some of it, as JSON, such as '{"temperature": 0.7}'"""
    )
    tool_call_parser: str | None = setting(
        None, "how the model writes calls of tools, by vLLM's name; what the chat template tells"
    )
    reasoning_parser: str | None = setting(
        None, "how the model marks its reasoning, by vLLM's name; all is content if absent"
    )
    reasoning_budget: int = setting(
        UNLIMITED,
        "most tokens of reasoning in chats that say nothing of it; 0: none, -1: the model decides",
        least=UNLIMITED,
        most=2**24,
    )
    enable_tokenizer_info_endpoint: bool = setting(
        False, "answer /tokenizer_info, which tells the chat template, too"
    )
    unknown_fields: UnknownFields = setting(
        "refuse",
        "what becomes of fields in requests that nobody knows: a 400 (refuse), or a log line and a "
        "header X-Ignored-Fields (warn)",
    )
    max_num_queued_reqs: int = setting(
        1024, "continuations in flight at once; one more gets 429", least=1, most=10**6
    )
    queue_timeout: float | None = setting(
        None,
        "seconds a request may wait for its first step before it gets 503",
        least=0,
        most=MONTH,
    )
    shutdown_timeout: float = setting(
        60.0, "seconds that running requests get after SIGTERM", least=0, most=MONTH
    )
    max_body_bytes: int = setting(16 * 2**20, "largest request body", least=1, most=2**30)
    max_stored_responses: int = setting(
        1024,
        "responses kept for each API key, of which those used longest ago go first; 0: none",
        least=0,
        most=10**6,
    )
    max_stored_response_bytes: int = setting(
        64 * 2**20, "bytes of the responses kept for each API key", least=1, most=2**40
    )
    max_pending_body_bytes: int | None = setting(
        None,
        "bytes of all bodies being received; 4 times max_body_bytes by default; more gets 429",
        least=1,
        most=2**40,
    )
    max_connections: int = setting(
        4096,
        "connections at once; as far as there are descriptors; idle ones make room",
        least=1,
        most=10**6,
    )
    max_connections_per_address: int = setting(
        2048,
        "the same from one address, which may be that of a proxy with all clients behind it",
        least=1,
        most=10**6,
    )
    max_page_viewers: int = setting(
        8,
        "who may watch the batch at once, on the page's Live view or by /live",
        least=0,
        most=1000,
    )
    log_format: LogFormat = setting(
        "text", "log lines as text, or as JSON, an object a line, of both processes"
    )
    log_stats_interval: float = setting(
        10.0,
        "seconds between lines of statistics in the log, while requests are served; 0: none",
        least=0,
        most=MONTH,
    )
    enable_log_requests: bool = setting(
        True, "log every request as it comes and ends (never its prompt); failures always are"
    )

    def __post_init__(self) -> None:
        check_settings(self)
        self.check_fleet()
        self.check_response_cache()
        pending = self.max_pending_body_bytes
        if pending is not None and pending < self.max_body_bytes:
            raise InvalidRequest(
                f"max_pending_body_bytes must be at least max_body_bytes, {self.max_body_bytes}",
                field="max_pending_body_bytes",
            )
        if not self.generation_config:
            raise InvalidRequest(
                "generation_config must be auto, vllm, or a path", field="generation_config"
            )
        if self.override_generation_config is not None:
            parse_defaults(self.override_generation_config, field="override_generation_config")
        for key in self.api_key:
            if not key or key != key.strip() or not key.isprintable():
                raise InvalidRequest(
                    "api_key must not be empty, nor begin or end with blanks; "
                    "leave it out to serve without keys",
                    field="api_key",
                )
        if self.priority_api_key and self.scheduling_policy != "priority":
            raise InvalidRequest(
                "priority_api_key would have no effect without scheduling_policy priority",
                field="priority_api_key",
            )
        for name in ("priority_api_key", "interactive_api_key"):
            if not set(getattr(self, name)) <= set(self.api_key):
                raise InvalidRequest(f"a key in {name} is none of those in api_key", field=name)
        if bool(self.ssl_keyfile) != bool(self.ssl_certfile):
            raise InvalidRequest(
                "ssl_keyfile and ssl_certfile are given together or not at all",
                field="ssl_certfile",
            )
