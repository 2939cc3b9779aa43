"""Settings of an engine and of a server: few, typed, checked on construction.

A setting left at None is one that Headway chooses by itself from the machine and the model; giving
it pins it. The environment is read in `from_environment` and nowhere else in the package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from headway.errors import InvalidRequest

DEFAULT_MODEL = "smollm2-135m-instruct"

PolicyName = Literal["sequential", "static", "dynamic", "continuous"]
PolicyOption = bool | int | float | str
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8", "int4"]
KVCacheDtype = Literal["auto", "float32", "bfloat16", "int8"]
Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["auto", "native", "reference"]
KVReservation = Literal["on-demand", "full"]
LogFormat = Literal["text", "json"]


def setting(default: Any, explanation: str) -> Any:
    """A dataclass field with its one-line help, from which the command line makes a flag."""
    return field(default=default, metadata={"help": explanation})


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
    threads: int | None = setting(None, "compute threads; every core by default")
    pin_threads: bool = setting(False, "bind every native compute thread to a core of its own")
    seed: int | None = setting(
        None, "makes the seeds of requests that bring none repeatable, in order of arrival"
    )
    policy: PolicyName = setting("continuous", "how requests are grouped into batches")
    policy_options: Mapping[str, PolicyOption] = field(default_factory=dict)
    """What is given of the policies' own settings, by the name of their flags ("dynamic_wait"); see
    `headway.scheduling.policy.PARAMETERS`."""
    max_model_len: int | None = setting(
        None, "most tokens of one sequence, prompt and generated; the model's own limit by default"
    )
    max_num_seqs: int | None = setting(None, "most sequences in one step")
    max_num_batched_tokens: int | None = setting(None, "most new tokens in one step")
    max_num_partial_prefills: int = setting(
        1, "prompts that share a step in parts; above 1, short ones pass long ones"
    )
    block_size: int = setting(32, "tokens in one block of the KV cache")
    kv_cache_memory: int | None = setting(
        None,
        "bytes for the KV cache (8GiB); by default a share of the free memory, on a CPU up to 4GiB",
    )
    kv_reservation: KVReservation = setting(
        "on-demand",
        "when KV blocks are taken: as tokens come, or for prompt and max_tokens on admission",
    )
    gpu_memory_utilization: float | None = setting(
        None, "share of the free memory, GPU's or machine's, for weights and KV cache"
    )
    enable_prefix_caching: bool = setting(True, "reuse the KV cache of equal prompt beginnings")
    step_timeout: float | None = setting(
        None,
        "seconds after which a step that does not end counts as hung, and the engine is replaced; "
        "by default what the largest step may need on this machine, at least 30",
    )
    record: str | None = setting(
        None, "file to which every step's plan and duration is appended, as JSON Lines"
    )

    def __post_init__(self) -> None:
        at_least("threads", self.threads, 1)
        at_least("max_model_len", self.max_model_len, 1)
        at_least("max_num_seqs", self.max_num_seqs, 1)
        at_least("max_num_batched_tokens", self.max_num_batched_tokens, 1)
        at_least("max_num_partial_prefills", self.max_num_partial_prefills, 1)
        at_least("kv_cache_memory", self.kv_cache_memory, 1)
        at_least("step_timeout", self.step_timeout, 1)
        if self.block_size not in (8, 16, 32, 64, 128):
            raise InvalidRequest("block_size must be 8, 16, 32, 64 or 128", field="block_size")
        if self.record == "":
            raise InvalidRequest("record must name a file", field="record")
        share = self.gpu_memory_utilization
        if share is not None and not 0.0 < share <= 1.0:
            raise InvalidRequest(
                f"gpu_memory_utilization must be in (0, 1], got {share}",
                field="gpu_memory_utilization",
            )
        self._check_backend()

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
class ServerConfig:
    """How the HTTP server listens, whom it lets in, and how much it accepts."""

    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8000, "port to listen on; 0 takes a free one")
    uds: str | None = setting(None, "Unix socket to listen on instead")
    served_model_name: tuple[str, ...] = setting(
        (), "names that requests may use; the model's own by default"
    )
    api_key: tuple[str, ...] = setting((), "keys of which requests must bear one")
    allowed_origins: tuple[str, ...] = setting((), "origins that browsers may call from")
    ssl_keyfile: str | None = setting(None, "private key for HTTPS")
    ssl_certfile: str | None = setting(None, "certificate for HTTPS")
    chat_template: str | None = setting(
        None, "Jinja file, or the template itself, that replaces the model's"
    )
    max_num_queued_reqs: int = setting(1024, "continuations in flight at once; one more gets 429")
    queue_timeout: float | None = setting(
        None, "seconds a request may wait for its first step before it gets 503"
    )
    shutdown_timeout: float = setting(60.0, "seconds that running requests get after SIGTERM")
    max_body_bytes: int = setting(16 * 2**20, "largest request body")
    max_pending_body_bytes: int | None = setting(
        None, "bytes of all bodies being received; 4 times max_body_bytes by default; more gets 429"
    )
    max_connections: int = setting(
        4096, "connections at once; as far as there are descriptors; idle ones make room"
    )
    max_connections_per_address: int = setting(
        2048, "the same from one address, which may be that of a proxy with all clients behind it"
    )
    log_format: LogFormat = setting(
        "text", "log lines as text, or as JSON, an object a line, of both processes"
    )
    log_stats_interval: float = setting(
        10.0, "seconds between lines of statistics in the log, while requests are served; 0: none"
    )
    enable_log_requests: bool = setting(
        True, "log every request as it comes and ends (never its prompt); failures always are"
    )

    def __post_init__(self) -> None:
        at_least("max_num_queued_reqs", self.max_num_queued_reqs, 1)
        at_least("queue_timeout", self.queue_timeout, 0)
        at_least("shutdown_timeout", self.shutdown_timeout, 0)
        at_least("max_body_bytes", self.max_body_bytes, 1)
        at_least("log_stats_interval", self.log_stats_interval, 0)
        at_least("max_pending_body_bytes", self.max_pending_body_bytes, self.max_body_bytes)
        at_least("max_connections", self.max_connections, 1)
        at_least("max_connections_per_address", self.max_connections_per_address, 1)
        for key in self.api_key:
            if not key or key != key.strip() or not key.isprintable():
                raise InvalidRequest(
                    "api_key must not be empty, nor begin or end with blanks; "
                    "leave it out to serve without keys",
                    field="api_key",
                )
        if not 0 <= self.port <= 65535:
            raise InvalidRequest("port must be in [0, 65535]", field="port")
        if bool(self.ssl_keyfile) != bool(self.ssl_certfile):
            raise InvalidRequest(
                "ssl_keyfile and ssl_certfile are given together or not at all",
                field="ssl_certfile",
            )


def cache_home(environment: Mapping[str, str] | None = None) -> Path:
    """The folder for downloaded and prepared models: `HEADWAY_HOME`, else the platform's cache."""
    from platformdirs import user_cache_path

    given = (os.environ if environment is None else environment).get("HEADWAY_HOME")
    return Path(given).expanduser() if given else user_cache_path("headway")


def locale_environment() -> dict[str, str]:
    """Of the environment, what a process may see that runs what others wrote: no secrets."""
    return {name: os.environ[name] for name in ("TZ", "LANG", "LC_ALL") if name in os.environ}


def from_environment(flag: str, environment: Mapping[str, str] | None = None) -> str | None:
    """The value of `HEADWAY_...` that stands for a command-line flag such as `--max-num-seqs`."""
    name = "HEADWAY_" + flag.lstrip("-").replace("-", "_").upper()
    return (os.environ if environment is None else environment).get(name)


def at_least(name: str, value: float | None, low: float) -> None:
    """Raise `InvalidRequest` for a setting below its least value; None is no value."""
    if value is not None and value < low:
        raise InvalidRequest(f"{name} must be at least {low}, got {value}", field=name)
