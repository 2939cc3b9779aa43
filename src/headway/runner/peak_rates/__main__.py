"""Measures the machine's peak rates anew and keeps the best: `python -m headway.runner.peak_rates`.

A program of its own, so that whoever asks needs neither PyTorch nor the native library in its
process. Writes what is kept as JSON `PeakRates`, a line for each number format that was asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from headway.codec import encode
from headway.errors import HeadwayError
from headway.extras import has_torch, needs_torch
from headway.native import choose_isa
from headway.runner.peak_rates import keep_peak_rates, measure_peak_rates


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="headway.runner.peak_rates", description=__doc__)
    parser.add_argument("dtypes", nargs="+", help="number formats")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, required=True, help="compute threads")
    parser.add_argument("--torch", action="store_true", help="with PyTorch, not the native kernels")
    parser.add_argument("--isa", help="instruction set of the native kernels")
    arguments = parser.parse_args(given)
    try:
        if arguments.torch and not has_torch():
            raise needs_torch("--torch", field="--torch")
        isa = None if arguments.torch else choose_isa(arguments.isa)
        for dtype in arguments.dtypes:
            rates = measure_peak_rates(
                device=arguments.device, dtype=dtype, threads=arguments.threads, isa=isa
            )
            sys.stdout.buffer.write(encode(keep_peak_rates(rates, isa=isa)) + b"\n")
            sys.stdout.buffer.flush()
    except HeadwayError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
