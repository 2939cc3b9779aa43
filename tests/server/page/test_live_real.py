"""`/live` over the real command and engine, from a request's arrival to the server's end."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server.serving import MODEL, headway_serve

pytestmark = pytest.mark.model
ASKED = {"model": MODEL, "prompt": "One, two, three,", "max_tokens": 40, "temperature": 0}


def frames_of(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_a_request_is_seen_from_its_slot_to_its_end_and_the_server_ends_at_once() -> None:
    with headway_serve("--max-num-seqs", "4") as (process, url), httpx.Client(timeout=60) as http:
        answers: list[Any] = []

        def ask() -> None:
            answers.append(httpx.post(url + "/v1/completions", json=ASKED, timeout=60).json())

        with http.stream("GET", url + "/live") as response:
            frames = frames_of(response)
            first = next(frames)
            assert (first["model"], first["rows"]) == (MODEL, [])
            asking = threading.Thread(target=ask)
            asking.start()
            seen: dict[int, Any] = {}
            gone: list[Any] = []
            steps, figures = 0, None
            while not gone or figures is None or figures["generated_per_second"] == 0:
                frame = next(frames)
                seen |= {row[0]: row for row in frame.get("rows", ())}
                gone += frame.get("gone", ())
                steps += frame["steps"]["count"] if "steps" in frame else 0
                figures = frame.get("figures", figures)
            asking.join()
            process.send_signal(signal.SIGTERM)
            # Frames may still come, and then the stream ends: nobody waits for its viewers.
            assert sum(1 for _ in frames) < 20
            assert process.wait(20) == 0
    ((key, *_),) = gone
    row = seen[key]
    usage = answers[0]["usage"]
    assert row[1].startswith("cmpl-")
    assert row[1] == answers[0]["id"]
    assert (row[3], row[6], row[10]) == (40, 0, usage["prompt_tokens"])
    finish = answers[0]["choices"][0]["finish_reason"]
    assert gone[0][2:] == [finish, usage["completion_tokens"]]
    # The last one may not be told yet; none is told twice.
    assert 0 < steps <= usage["completion_tokens"] + 1
    assert figures["max_num_seqs"] == 4
