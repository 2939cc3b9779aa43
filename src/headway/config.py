"""Settings of an engine and of a server: few, typed, checked on construction.

A setting left at None is one that Headway chooses by itself from the machine and the model; giving
it pins it. The environment is read in `from_environment` and nowhere else in the package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headway.errors import InvalidRequest

DEFAULT_MODEL = "smollm2-135m-instruct"

PolicyName = Literal["sequential", "static", "dynamic", "continuous"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How one engine process runs one model. Sizes in bytes, times in seconds."""

    model: str = DEFAULT_MODEL
    """A known name, a hub name (`owner/name`), a GGUF file or a Hugging Face directory."""
    tokenizer: str | None = None
    """A directory whose tokenizer and chat template replace the model's own."""
    dtype: Dtype = "auto"
    device: Device = "auto"
    threads: int | None = None
    seed: int = 0
    policy: PolicyName = "continuous"
    dynamic_wait: float = 0.05
    """Longest time that the policy `dynamic` holds a request to fill its batch."""
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_partial_prefills: int = 4
    block_size: int = 32
    kv_cache_memory: int | None = None
    gpu_memory_utilization: float | None = None
    """Share of the free memory, GPU's or machine's, that weights and KV cache may take."""
    enable_prefix_caching: bool = True

    def __post_init__(self) -> None:
        _at_least("threads", self.threads, 1)
        _at_least("max_model_len", self.max_model_len, 1)
        _at_least("max_num_seqs", self.max_num_seqs, 1)
        _at_least("max_num_batched_tokens", self.max_num_batched_tokens, 1)
        _at_least("max_num_partial_prefills", self.max_num_partial_prefills, 1)
        _at_least("kv_cache_memory", self.kv_cache_memory, 1)
        _at_least("dynamic_wait", self.dynamic_wait, 0)
        if self.block_size not in (8, 16, 32, 64, 128):
            raise InvalidRequest("block_size must be 8, 16, 32, 64 or 128", field="block_size")
        share = self.gpu_memory_utilization
        if share is not None and not 0.0 < share <= 1.0:
            raise InvalidRequest(
                f"gpu_memory_utilization must be in (0, 1], got {share}",
                field="gpu_memory_utilization",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How the HTTP server listens, whom it lets in, and how much it accepts."""

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    served_model_name: tuple[str, ...] = ()
    """Names that requests may use; the model's own when empty."""
    api_key: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    chat_template: str | None = None
    """A Jinja file, or the template itself, that replaces the model's."""
    max_num_queued_reqs: int = 1024
    """Requests (continuations) in the house at once; one more gets 429."""
    queue_timeout: float | None = None
    """Seconds a request may wait for its first token's step before it gets 503."""
    shutdown_timeout: float = 60.0
    """Seconds that running requests get to finish after SIGTERM."""
    max_body_bytes: int = 16 * 2**20

    def __post_init__(self) -> None:
        _at_least("max_num_queued_reqs", self.max_num_queued_reqs, 1)
        _at_least("queue_timeout", self.queue_timeout, 0)
        _at_least("shutdown_timeout", self.shutdown_timeout, 0)
        _at_least("max_body_bytes", self.max_body_bytes, 1)
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


def from_environment(flag: str, environment: Mapping[str, str] | None = None) -> str | None:
    """The value of `HEADWAY_...` that stands for a command-line flag such as `--max-num-seqs`."""
    name = "HEADWAY_" + flag.lstrip("-").replace("-", "_").upper()
    return (os.environ if environment is None else environment).get(name)


def _at_least(name: str, value: float | None, low: float) -> None:
    if value is not None and value < low:
        raise InvalidRequest(f"{name} must be at least {low}, got {value}", field=name)
