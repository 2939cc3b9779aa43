"""`python -m headway.engine --fd N`: the engine process, started by `headway.client`.

The heavy imports come after the signals are settled and the socket is watched, so that even a
process that is still loading ends with its parent.
"""

from __future__ import annotations

import argparse
import gc
import logging
from typing import TYPE_CHECKING

from headway.engine.process import serve
from headway.logs import start_logging
from headway.wire import EngineInfo, Start

if TYPE_CHECKING:
    from headway.engine.loop import Engine


def build(start: Start) -> tuple[Engine, EngineInfo]:
    from headway.engine.build import build_engine

    built = build_engine(start)
    # What is there now stays: a full collection that looks at all of it takes longer than a step.
    gc.collect()
    gc.freeze()
    return built


def main() -> int:
    parser = argparse.ArgumentParser(prog="headway.engine", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the socket, inherited")
    start_logging(logging.INFO)
    return serve(parser.parse_args().fd, build)


if __name__ == "__main__":
    raise SystemExit(main())
