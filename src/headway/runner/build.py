"""From settings and a prepared model to a runner.

A setting left open is decided on the way, from the device and the model; a setting given is kept
or refused with the flag to change, never bent.
"""

from __future__ import annotations

from pathlib import Path

from headway.config import EngineConfig
from headway.runner.loaded import LoadedRunner


def build_runner(config: EngineConfig, prepared: Path) -> LoadedRunner:
    """Load a prepared model as the settings say; takes about as long as reading the weights.

    Raises `InvalidRequest` (a setting that cannot be met) or `ModelError` (a damaged model).
    """
    from headway.runner.torch_build import build_torch_runner

    return build_torch_runner(config, prepared)
