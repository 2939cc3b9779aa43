"""What a hostile client does: `python -m tests.hostile.attacks URL [--seconds 60] [--seed 1]`.

Every attack is a function of a `Target` and a random generator. It raises `Broken` where the server
does something that it must not: a 5xx other than 503, an answer that never comes, or taking in what
no request needs. What it costs others is measured by who runs it (see `mixed`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.hostile.grammars import CHAT, COMPLETION, fields
from tests.server.test_hostile import be_hostile

JSON = {"content-type": "application/json"}
REFUSALS = frozenset((400, 404, 408, 413, 415, 429, 431, 503))
PATIENCE = 120.0
"""Seconds after which an answer counts as one that never comes."""


MOST_TAKEN = 128 * 2**20
"""Bytes after which a server takes in too much. What comes after its answer it may throw away for a
while, as a connection that is reset could cost the client that answer."""


class Broken(AssertionError):
    """The server did what it must not do."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and the share of their full size that attacks have."""

    url: str
    scale: float = 1.0

    def size(self, full: int) -> int:
        return max(1, int(full * self.scale))

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE)

    def connect(self) -> socket.socket:
        parts = urlsplit(self.url)
        connection = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10)
        connection.settimeout(PATIENCE)
        return connection


Attack = Callable[[Target, random.Random], None]


def post(target: Target, path: str, body: dict[str, Any] | bytes) -> httpx.Response | None:
    """The answer to a body; None where the server refuses the connection or closes it."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with target.http() as http:
            answer = http.post(path, content=content, headers=JSON)
    except httpx.TimeoutException:
        raise Broken(f"{path}: no answer in {PATIENCE:.0f} s") from None
    except httpx.TransportError:
        return None
    if answer.status_code != 200 and answer.status_code not in REFUSALS:
        raise Broken(f"{path}: {answer.status_code} {answer.text[:300]}")
    return answer


def ask_and_leave(target: Target, body: dict[str, Any], seconds: float) -> None:
    """Ask for a stream, read for so long, and go."""
    content = json.dumps(body | {"stream": True}).encode()
    head = f"POST {COMPLETION} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with contextlib.suppress(OSError), target.connect() as connection:
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        connection.settimeout(max(seconds, 0.001))
        end = time.monotonic() + seconds
        while time.monotonic() < end and connection.recv(2**16):
            pass


def pour(target: Target, head: bytes, part: bytes, *, most: int, what: str) -> None:
    """Send a head and then a part again and again; the server must stop that before `most`."""
    sent = 0
    with contextlib.suppress(OSError), target.connect() as connection:
        connection.sendall(head)
        while sent < most:
            connection.sendall(part)
            sent += len(part)
    if sent >= most:
        raise Broken(f"{what}: {sent} bytes were taken")


def connections_that_say_nothing(target: Target, _: random.Random) -> None:
    with contextlib.ExitStack() as stack:
        for _number in range(target.size(80)):
            with contextlib.suppress(OSError):
                stack.enter_context(target.connect())
        time.sleep(5 * target.scale)


def heads_sent_slowly(target: Target, rng: random.Random) -> None:
    with contextlib.suppress(OSError), target.connect() as connection:
        for byte in b"GET /health HTTP/1.1\r\nX-Slow: yes\r\n":
            connection.sendall(bytes([byte]))
            time.sleep(rng.random() * 0.2 * target.scale)


def a_head_without_end(target: Target, _: random.Random) -> None:
    pour(
        target,
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n",
        b"X-Long: " + b"y" * 8000 + b"\r\n",
        most=MOST_TAKEN,
        what="a head",
    )


def trailers_without_end(target: Target, _: random.Random) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    pour(
        target,
        head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
        b"X-Trailer: " + b"y" * 8000 + b"\r\n",
        most=MOST_TAKEN,
        what="trailers",
    )


def bodies_that_never_end(target: Target, _: random.Random) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    size = 15 * 2**20
    filler = b'{"prompt": "' + b"x" * target.size(size - 2**20)
    with contextlib.ExitStack() as stack:
        for _number in range(target.size(60)):
            with contextlib.suppress(OSError):
                connection = stack.enter_context(target.connect())
                connection.settimeout(1.0)
                connection.sendall(head + b"Content-Length: %d\r\n\r\n" % size)
                connection.sendall(filler)
        time.sleep(3 * target.scale)


def a_pipeline(target: Target, _: random.Random) -> None:
    """A large body and the next request behind it: both are answered."""
    body = json.dumps({"tokens": [5] * 100_000}).encode()
    first = b"POST /detokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    second = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = b""
    try:
        with target.connect() as connection:
            connection.sendall(first + b"Content-Length: %d\r\n\r\n" % len(body) + body + second)
            while part := connection.recv(2**16):
                answer += part
    except ConnectionError:
        return
    if answer.startswith(b"HTTP/1.1 431") or (
        answer.startswith(b"HTTP/1.1 200") and answer.count(b"HTTP/1.1 ") != 2
    ):
        raise Broken(f"pipelined requests: {answer[:60]!r}")


def noise(target: Target, rng: random.Random) -> None:
    with contextlib.suppress(OSError), target.connect() as connection:
        connection.sendall(rng.randbytes(rng.randrange(1, 10_000)))
        connection.recv(100)


def stop_strings(target: Target, rng: random.Random) -> None:
    text = rng.choice(("ab", "x", "\u00e9")) * target.size(2_000_000)
    post(target, COMPLETION, {"prompt": "x", "max_tokens": 4, "n": 16, "stop": text})
    many = [f"{number:06d}" for number in range(target.size(500_000))]
    post(target, COMPLETION, {"prompt": "x", "max_tokens": 4, "n": 16, "stop": many})


def bad_words(target: Target, _: random.Random) -> None:
    many = [f"word {number}" for number in range(target.size(700_000))]
    post(target, COMPLETION, {"prompt": "x", "max_tokens": 4, "bad_words": many})
    post(target, COMPLETION, {"prompt": "x", "max_tokens": 4, "bad_words": ["x" * len(many)]})


def allowed_token_ids(target: Target, _: random.Random) -> None:
    ids = [7, 8, 9] * target.size(1_000_000)
    post(target, COMPLETION, {"prompt": "x", "max_tokens": 4, "n": 128, "allowed_token_ids": ids})


def many_messages(target: Target, _: random.Random) -> None:
    messages = [{"role": "user", "content": "x"}] * target.size(300_000)
    post(target, CHAT, {"messages": messages, "max_tokens": 4})
    parts = [{"type": "text", "text": "x"}] * target.size(300_000)
    post(target, CHAT, {"messages": [{"role": "user", "content": parts}], "max_tokens": 4})


def many_keys(target: Target, _: random.Random) -> None:
    keys = {f"k{number}": number for number in range(target.size(1_000_000))}
    post(target, COMPLETION, keys)
    asked = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4}
    post(target, CHAT, asked | {"chat_template_kwargs": keys})
    bias = {str(number): 1 for number in range(target.size(1_000_000))}
    post(target, COMPLETION, {"prompt": "x", "max_tokens": 4, "logit_bias": bias})


def many_token_ids(target: Target, _: random.Random) -> None:
    ids = [5] * target.size(5_000_000)
    post(target, COMPLETION, {"prompt": ids, "max_tokens": 4})
    post(target, "/detokenize", {"tokens": ids})


def long_texts(target: Target, rng: random.Random) -> None:
    unit = rng.choice(("word ", "x", "\n", "\U0001f600", "9", "<|im_start|>"))
    text = unit * (target.size(15 * 2**20) // len(unit.encode()))
    post(target, COMPLETION, {"prompt": text, "max_tokens": 4, "truncate_prompt_tokens": 8})
    text = text[: target.size(2**20)]
    post(target, COMPLETION, {"prompt": text, "max_tokens": 4})
    post(target, "/tokenize", {"prompt": text})


def hostile_grammars(target: Target, rng: random.Random) -> None:
    for _name, path, hostile in rng.sample(list(fields(target.scale)), k=10):
        asked: dict[str, Any] = {"prompt": "x"}
        if path == CHAT:
            asked = {"messages": [{"role": "user", "content": "x"}]}
        post(target, path, asked | {"max_tokens": 4} | hostile)


def template_variables(target: Target, _: random.Random) -> None:
    asked = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4}
    for name in ("self", "messages", "loop", "__class__", "environment", "nobody_reads_this"):
        post(target, CHAT, asked | {"chat_template_kwargs": {name: 1}})


def many_continuations(target: Target, rng: random.Random) -> None:
    body = {"prompt": "x", "n": 128, "max_tokens": 7000, "ignore_eos": True}
    ask_and_leave(target, body, 4 * rng.random() * target.scale)


def priorities(target: Target, _: random.Random) -> None:
    for _number in range(target.size(24)):
        post(target, COMPLETION, {"prompt": "x", "max_tokens": 4, "priority": -(2**31)})


def clients_that_leave(target: Target, rng: random.Random) -> None:
    for _number in range(target.size(10)):
        body = {"prompt": "Once", "max_tokens": 400, "n": rng.randrange(1, 4), "logprobs": 5}
        ask_and_leave(target, body, rng.choice((0.0, 0.01, 0.1, 0.5)))


def a_client_that_does_not_read(target: Target, _: random.Random) -> None:
    body = {"prompt": "x", "n": 4, "max_tokens": 500, "logprobs": 5, "stream": True}
    content = json.dumps(body).encode()
    head = f"POST {COMPLETION} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with contextlib.suppress(OSError), target.connect() as connection:
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        time.sleep(6 * target.scale)


def odd_bodies(target: Target, rng: random.Random) -> None:
    with contextlib.suppress(httpx.TransportError), target.http() as http:
        be_hostile(http, refusals=target.size(50), seed=rng.randrange(2**30), busy=True)


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        connections_that_say_nothing,
        heads_sent_slowly,
        a_head_without_end,
        trailers_without_end,
        bodies_that_never_end,
        a_pipeline,
        noise,
        stop_strings,
        bad_words,
        allowed_token_ids,
        many_messages,
        many_keys,
        many_token_ids,
        long_texts,
        hostile_grammars,
        template_variables,
        many_continuations,
        priorities,
        clients_that_leave,
        a_client_that_does_not_read,
        odd_bodies,
    )
}


def rounds(seed: int) -> Iterator[tuple[str, random.Random]]:
    """Every attack once a round, in an order of the round's own, without end."""
    rng = random.Random(seed)
    while True:
        for name in rng.sample(sorted(ATTACKS), len(ATTACKS)):
            yield name, random.Random(rng.randrange(2**30))


def attack(target: Target, *, seconds: float, seed: int, at_once: int = 4) -> dict[str, Any]:
    """Attack for so long, so many at once; how often each was done, and what the server broke."""
    done: Counter[str] = Counter()
    broken: list[str] = []
    longest: dict[str, float] = {}
    end = time.monotonic() + seconds
    queue, lock = rounds(seed), Lock()

    def one_after_another() -> None:
        while time.monotonic() < end:
            with lock:
                name, rng = next(queue)
            began = time.monotonic()
            try:
                ATTACKS[name](target, rng)
            except Broken as error:
                broken.append(f"{name}: {error}")
            done[name] += 1
            longest[name] = max(longest.get(name, 0.0), round(time.monotonic() - began, 2))

    with ThreadPoolExecutor(at_once) as pool:
        for worker in [pool.submit(one_after_another) for _ in range(at_once)]:
            worker.result()
    return {"done": dict(sorted(done.items())), "broken": broken, "longest_seconds": longest}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--at-once", type=int, default=4)
    given = parser.parse_args()
    target = Target(given.url, given.scale)
    told = attack(target, seconds=given.seconds, seed=given.seed, at_once=given.at_once)
    print(json.dumps(told))
    return bool(told["broken"])


if __name__ == "__main__":
    raise SystemExit(main())
