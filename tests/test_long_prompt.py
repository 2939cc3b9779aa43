import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOKEN, STALL = 0.01, 0.4
LONG = 500


class Stalling:
    """A server of which every stream stands still while it has a long prompt."""

    def __init__(self, *, ids: bool) -> None:
        self.prompts: list[list[int]] = []
        self._ids = ids
        self._until = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it left, as the benchmark does once it has seen enough
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = json.loads(await reader.readexactly(size))
        self.prompts.append(body["prompt"])
        clock = asyncio.get_running_loop().time
        if len(body["prompt"]) == LONG:
            self._until = clock() + STALL
            await asyncio.sleep(STALL)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for _ in range(body["max_tokens"]):
            while clock() < self._until:
                await asyncio.sleep(TOKEN)
            choice = {"text": "a"} | ({"token_ids": [7]} if self._ids else {})
            writer.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
            await writer.drain()
            await asyncio.sleep(TOKEN)


async def close(server: asyncio.Server) -> None:
    """Ends it and what it still answers, so that no socket outlives the loop."""
    server.close()
    answers = asyncio.all_tasks() - {asyncio.current_task()}
    for answer in answers:
        answer.cancel()
    await asyncio.gather(*answers, return_exceptions=True)
    await asyncio.sleep(0.05)  # the sockets close in the loop's next rounds


@contextmanager
def listening(stalling: Stalling) -> Iterator[int]:
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(stalling.serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(close(server))
        loop.close()


def measure(folder: Path, *arguments: str) -> tuple[dict[str, list[dict[str, float]]], str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "long_prompt.py"), "--systems"]
    command += ["--streams", "3", "--prompt", str(LONG), "--before", "1", "--out"]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [*command, str(folder / "out.json"), *arguments],
        env=environment,
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
    )
    return json.loads((folder / "out.json").read_text())["runs"], done.stdout


def test_the_streams_gap_and_the_long_prompts_first_token_are_seen(tmp_path: Path) -> None:
    one, other = Stalling(ids=True), Stalling(ids=False)
    with listening(one) as port, listening(other) as second:
        urls = [f"one=http://127.0.0.1:{port}/v1", f"other=http://127.0.0.1:{second}"]
        runs, shown = measure(tmp_path, "--rounds", "2", "--model", "m", "--url", *urls)
    for system in ("one", "other"):
        assert len(runs[system]) == 2
        for figures in runs[system]:
            assert figures["largest gap ms"] >= 1e3 * (STALL - TOKEN)
            assert figures["TTFT s"] >= STALL
            assert figures["before: largest ms"] >= 1e3 * TOKEN
    assert one.prompts == other.prompts, "all systems get the same prompts"
    longs = [prompt for prompt in one.prompts if len(prompt) == LONG]
    assert longs[0] != longs[1], "each round has another one, which no cache knows"
    assert "| one | " in shown


def test_a_first_token_that_does_not_come_is_at_least_so_late(tmp_path: Path) -> None:
    with listening(Stalling(ids=True)) as port:
        arguments = ["--rounds", "1", "--waits", "0.2", "--url", f"one=http://127.0.0.1:{port}"]
        runs, _ = measure(tmp_path, *arguments)
    (figures,) = runs["one"]
    assert "TTFT s" not in figures
    assert figures["TTFT s, at least"] >= 0.2
    assert figures["largest gap ms"] >= 1e3 * (STALL - TOKEN), "seen although it went on"


def test_a_system_that_fails_does_not_end_the_comparison(tmp_path: Path) -> None:
    with listening(Stalling(ids=True)) as port:
        urls = ["gone=http://127.0.0.1:1", f"one=http://127.0.0.1:{port}"]
        runs, shown = measure(tmp_path, "--rounds", "1", "--url", *urls)
    assert runs["gone"] == []
    assert len(runs["one"]) == 1
    assert "FAILED round 1 | gone" in shown
