"""A server process over the fake model: `python -m tests.server.alphabet_server '{settings}'`.

Prints its log to standard output, or, with a `log_format`, writes it as a real server does. The
setting `start` is what the engine does: "open", "hold"
(generate nothing before a line comes on standard input), "late" (never start) or "fail"; the rest
are those of `ServerConfig`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from headway.config import ServerConfig
from headway.errors import HeadwayError, ModelError
from headway.logs import start_logging
from headway.server.app import build_state
from headway.server.run import serve
from tests.server.fakes import FakeLLM


async def main(settings: dict[str, object]) -> int:
    start = settings.pop("start", "open")
    config = ServerConfig(**settings)  # type: ignore[arg-type]

    async def start_engine() -> FakeLLM:
        llm = FakeLLM()
        if start == "late":
            await asyncio.sleep(1000)
        if start == "fail":
            raise ModelError("the model is broken")
        if start == "hold":
            llm.engine.hold()
            asyncio.get_running_loop().add_reader(sys.stdin, release, llm)
        return llm

    return await serve(build_state(config, model_name="alphabet"), start_engine)


def release(llm: FakeLLM) -> None:
    asyncio.get_running_loop().remove_reader(sys.stdin)
    llm.engine.go_on()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    if "log_format" in given:
        start_logging("info", given["log_format"])
    else:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        code = asyncio.run(main(given))
    except HeadwayError as error:
        sys.exit(f"error: {error}")
    raise SystemExit(code)
