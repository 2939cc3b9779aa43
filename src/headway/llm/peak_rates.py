"""The peak rates of this machine, for people who ask: measured by a process of its own.

Which number formats are measured follows from what would compute: the native kernels, or PyTorch on
a CPU or a GPU. The rates are kept, so that engines report how much of them they use.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence

from headway import machine, native
from headway.codec import decode
from headway.config import EngineConfig
from headway.errors import EngineError
from headway.extras import has_torch
from headway.llm.weight_format import cannot_compute
from headway.steptime.shape import PeakRates

COMMAND = (sys.executable, "-m", "headway.runner.peak_rates")
_NATIVE = ("float32", "bfloat16", "int8", "int4")
_TORCH = ("float32", "bfloat16")
_CUDA = ("float32", "bfloat16", "float16")


def measure_machine(
    config: EngineConfig, *, command: Sequence[str] = COMMAND
) -> Iterator[PeakRates]:
    """The peak rates of every number format, or of the settings' own, each as it is measured.

    Raises `EngineError` where something cannot be measured, with what the process said, and
    `InvalidRequest` where PyTorch would have to measure and is not installed.
    """
    with subprocess.Popen(
        [*command, *_arguments(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            for line in process.stdout:
                yield decode(PeakRates, line, "the measuring process")
            said = process.stderr.read().decode(errors="replace").strip()
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        reason = said.splitlines()[-1] if said else f"exit code {process.returncode}"
        raise EngineError(f"the machine's peak rates cannot be measured: {reason}")


def _arguments(config: EngineConfig) -> list[str]:
    gpu = machine.has_nvidia_gpu() and has_torch()
    cuda = config.device == "cuda" or (config.device == "auto" and gpu)
    torch = cuda or config.backend == "reference" or config.dtype == "float16"
    torch = torch or not native.available()
    if torch and not has_torch():
        raise cannot_compute(config)
    dtypes: Sequence[str] = _CUDA if cuda else _TORCH if torch else _NATIVE
    if config.dtype != "auto":
        dtypes = (config.dtype,)
    found = [*dtypes, "--device", "cuda" if cuda else "cpu"]
    found += ["--threads", str(config.threads or machine.cores())]
    if torch:
        found.append("--torch")
    elif config.isa is not None:
        found += ["--isa", config.isa]
    return found
