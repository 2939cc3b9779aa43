"""The runner: computes a step's plan with a loaded model, and says what it sampled.

`build_runner` chooses the backend by how the model was prepared, because only the native kernels
read packed weights. A setting left open is decided on the way, from the machine and the model; a
setting given is kept or refused with the flag to change, never bent. `native` and what it uses
know no PyTorch. `torch` is imported only where it is wanted; it and `sampling` are also the
definition of what both runners do.
"""

from __future__ import annotations

from pathlib import Path

from headway.checkpoint import load_prepared, native_format
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.extras import has_torch, needs_torch
from headway.runner.memory import LoadedRunner
from headway.runner.native import build_native_runner
from headway.runner.sampling.constraints import TokenTable

__all__ = ["LoadedRunner", "build_runner"]


def build_runner(
    config: EngineConfig,
    prepared: Path,
    *,
    tokens: TokenTable | None = None,
    kv_cache_fd: int | None = None,
) -> LoadedRunner:
    """Load a prepared model as the settings say; takes about as long as reading the weights.

    `tokens` tells what the model's tokens stand for, given their number, once a grammar needs it;
    without it, sequences with a grammar end with an error. `kv_cache_fd` is a file of memory for
    the KV cache, which may have one in it that an engine before this one left; only the native
    backend uses it.
    Raises `InvalidRequest` (a setting that cannot be met, PyTorch that is needed and absent),
    `ModelError` (a damaged model) or `LibraryError` (native kernels that are needed and absent).
    """
    source = load_prepared(prepared)
    if native_format(source.storage) is not None:
        if config.backend == "reference" or config.device == "cuda":
            raise InvalidRequest(
                f"the model was prepared as {source.storage}, which only the native kernels read",
                field="backend",
            )
        return build_native_runner(config, source, tokens=tokens, kv_cache_fd=kv_cache_fd)
    _refuse_native_settings(config, source.storage)
    if not has_torch():
        raise needs_torch(f"a model that was prepared as {source.storage}", field="backend")
    from headway.runner.torch import build_torch_runner

    return build_torch_runner(config, source, tokens=tokens)


def _refuse_native_settings(config: EngineConfig, storage: str) -> None:
    if config.backend == "native":
        raise InvalidRequest(
            f"the model was prepared as {storage}, which the native kernels do not read",
            field="backend",
        )
    for field, given in (("isa", config.isa is not None), ("pin_threads", config.pin_threads)):
        if given:
            raise InvalidRequest(f"{field} is a setting of the native backend", field=field)
