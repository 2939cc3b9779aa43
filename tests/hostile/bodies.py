"""Bodies filled with one thing, as large as a server takes, and how long each one blocks it.

A program against a running server (the default limits, no key), which sends each body while
another thread asks for /health every 20 ms, and prints the longest wait:

    python -m tests.hostile.bodies http://127.0.0.1:8000 [--pid PID] [--only PATTERN] [--mib 16]

With the server's process id it also prints the most processor seconds that the thread of its event
loop spent between two answers, which tells its own work from waiting for a busy machine. Exits
with 1 where a wait is longer than `LONGEST`. A family of bodies is a function from a size in bytes
to bodies of about that size; `FAMILIES` lists them.
"""

from __future__ import annotations

import argparse
import http.client
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
LONGEST = 0.3
"""Seconds that /health may take on an idle machine of two cores, whatever is sent."""
POLL = 0.02
HELLO = b'"messages":[{"role":"user","content":"x"}],"max_tokens":1'


@dataclass(frozen=True, slots=True)
class HostileBody:
    """One body, and the path that it is meant for."""

    name: str
    path: str
    data: bytes


Family = Callable[[int], Iterator[HostileBody]]


def items(item: bytes, size: int) -> bytes:
    """As many of an item, with commas between them, as fit into so many bytes."""
    return b",".join([item] * max(1, size // (len(item) + 1)))


def keys(value: bytes, size: int) -> bytes:
    """Members of an object with different keys, about so many bytes."""
    number = size // (len(value) + 11)
    return b",".join(b'"%07d":' % place + value for place in range(number))


def completion(name: str, members: bytes) -> HostileBody:
    return HostileBody(name, COMPLETIONS, b'{"prompt":"x","max_tokens":1,' + members + b"}")


def chat(name: str, members: bytes) -> HostileBody:
    return HostileBody(name, CHAT, b"{" + HELLO + b"," + members + b"}")


def prompts(size: int) -> Iterator[HostileBody]:
    """Prompts: token ids, texts, and many of either."""
    for name, value in (
        ("ids", b"[" + items(b"1", size) + b"]"),
        ("empty lists", b"[" + items(b"[]", size) + b"]"),
        ("lists of one", b"[" + items(b"[1]", size) + b"]"),
        ("lists of 1000", b"[" + items(b"[" + items(b"1", 2000) + b"]", size) + b"]"),
        ("empty texts", b"[" + items(b'""', size) + b"]"),
        ("texts of 1", b"[" + items(b'"x"', size) + b"]"),
        ("texts of 16000", b"[" + items(b'"' + b"ab " * 5300 + b'"', size) + b"]"),
        ("mixed", b"[" + items(b'"x",1', size) + b"]"),
        ("one text", b'"' + b"word " * (size // 5) + b'"'),
        ("one word", b'"' + b"x" * size + b'"'),
        ("escapes", b'"' + b"\\u00e9" * (size // 6) + b'"'),
        ("emoji", b'"' + b"\\ud83d\\ude00" * (size // 12) + b'"'),
        ("lone surrogates", b'"' + b"\\ud800" * (size // 6) + b'"'),
        ("not UTF-8", b'"' + b"\xff" * size + b'"'),
    ):
        yield HostileBody(f"prompt: {name}", COMPLETIONS, b'{"max_tokens":1,"prompt":%b}' % value)
    text = b'"' + b"word " * (size // 5) + b'"'
    for keep in (b"5", b"-1"):
        yield HostileBody(
            f"prompt: one text, truncate {keep.decode()}",
            COMPLETIONS,
            b'{"max_tokens":1,"truncate_prompt_tokens":%b,"prompt":%b}' % (keep, text),
        )


def messages(size: int) -> Iterator[HostileBody]:
    """Messages, their parts and their texts."""
    part = b'{"type":"text","text":""}'
    for name, value in (
        ("empty", items(b'{"role":"user","content":""}', size)),
        ("of one letter", items(b'{"role":"user","content":"x"}', size)),
        ("with name", items(b'{"role":"user","content":"x","name":"n"}', size)),
        ("parts", b'{"role":"user","content":[' + items(part, size) + b"]}"),
        ("no parts", items(b'{"role":"user","content":[]}', size)),
        ("one text", b'{"role":"user","content":"' + b"word " * (size // 5) + b'"}'),
        ("unknown field", items(b'{"role":"user","content":"","x":1}', size)),
        ("numbers", items(b"1", size)),
    ):
        for path in (CHAT, "/tokenize"):
            yield HostileBody(f"{path} messages: {name}", path, b'{"messages":[' + value + b"]}")


def sampling_lists(size: int) -> Iterator[HostileBody]:
    """The lists and mappings of sampling parameters."""
    for name, value in (
        ("logit_bias", b"{" + keys(b"1", size) + b"}"),
        ("allowed_token_ids", b"[" + items(b"7", size) + b"]"),
        ("stop_token_ids", b"[" + items(b"7", size) + b"]"),
        ("stop", b"[" + items(b'"x"', size) + b"]"),
        ("stop", b'"' + b"ab" * (size // 2) + b'"'),
        ("stop", b"[" + items(b'"' + b"a" * (size // 70) + b'"', size) + b"]"),
        ("bad_words", b"[" + items(b'"x"', size) + b"]"),
        ("bad_words", b"[" + items(b'"' + b"bad " * 1000 + b'"', size) + b"]"),
        ("bad_words", b'["' + b"bad " * (size // 4) + b'"]'),
    ):
        for n in (b"1", b"128"):
            members = b'"n":%b,"%b":%b' % (n, name.encode(), value)
            kind = value[:4].decode().replace("a", "long")
            yield completion(f"{name} {kind}.. n={n.decode()}", members)
    for n in (b"1", b"128"):
        ids = b",".join(b"%d" % token for token in range(min(size // 6, 49_000)))
        again = b",".join([ids] * max(1, size // (len(ids) + 1)))
        members = b'"n":%b,"allowed_token_ids":[%b]' % (n, again)
        yield completion(f"allowed_token_ids: all, again and again, n={n.decode()}", members)


def structures(size: int) -> Iterator[HostileBody]:
    """Objects and lists without end, deep or wide, known or not."""
    deep = size // 12
    for name, members in (
        ("unknown keys", keys(b"1", size)),
        ("one unknown key", b'"' + b"k" * size + b'":1'),
        ("unknown field", b'"no_such_thing":[' + items(b"1", size) + b"]"),
        ("a known field again and again", items(b'"top_k":1', size)),
        ("unsupported field", b'"tools":[' + items(b"{}", size) + b"]"),
        ("null field", b'"tools":' + items(b"null", 10)),
        ("deep lists", b'"stop":' + b"[" * deep + b"]" * deep),
        ("response_format", b'"response_format":{' + keys(b"1", size) + b"}"),
        ("stream_options", b'"stream_options":{' + keys(b"true", size) + b"}"),
    ):
        yield chat(name, members)
    for name, value in (
        ("numbers", b'{"a":[' + items(b"1", size) + b"]}"),
        ("lists", b'{"a":[' + items(b"[]", size) + b"]}"),
        ("objects", b'{"a":[' + items(b"{}", size) + b"]}"),
        ("keys", b"{" + keys(b"1", size) + b"}"),
        ("inner keys", b'{"a":{' + keys(b"1", size) + b"}}"),
        ("deep", b'{"a":' * deep + b"1" + b"}" * deep),
        ("text", b'{"a":"' + b"x" * size + b'"}'),
        ("texts", b'{"a":[' + items(b'"x"', size) + b"]}"),
        ("one key", b'{"' + b"k" * size + b'":1}'),
    ):
        yield chat(f"chat_template_kwargs: {name}", b'"chat_template_kwargs":' + value)
    for name, data in (
        ("spaces", b" " * size),
        ("commas", b"[" + b"," * size),
        ("quotes", b'{"prompt":' + b'"' * size),
        ("backslashes", b'{"prompt":"' + b"\\" * size),
        ("open lists", b"[" * size),
        ("open objects", b'{"a":' * (size // 5)),
        ("zeros", b"\x00" * size),
        ("a list", b"[" + items(b"1", size) + b"]"),
    ):
        yield HostileBody(f"not a body: {name}", COMPLETIONS, data)


def numbers(size: int) -> Iterator[HostileBody]:
    """Numbers of a million digits, in every place that takes one."""
    digits = b"9" * size
    for number in (b"n", b"seed", b"temperature", b"top_p", b"max_tokens", b"no_such_number"):
        yield completion(f"{number.decode()}: digits", b'"' + number + b'":' + digits)
        yield completion(f"{number.decode()}: decimals", b'"' + number + b'":0.' + digits)
    yield completion("prompt: digits", b'"prompt":[' + digits + b"]")
    yield completion("logit_bias: huge", b'"logit_bias":{"1":' + digits + b"}")
    yield completion("logit_bias: exponents", b'"logit_bias":{' + keys(b"1e308", size) + b"}")
    yield chat("kwargs: digits", b'"chat_template_kwargs":{"a":' + digits + b"}")
    yield chat("kwargs: decimals", b'"chat_template_kwargs":{"a":0.' + digits + b"}")
    for name, value in (
        ("1e308", b"1e308"),
        ("of 700 digits", b"0." + b"7" * 700),
        ("of 4000 digits", b"9" * 4000),
        ("of 700 digits, and exponents", b"0." + b"7" * 700 + b"e-300"),
    ):
        members = b'"chat_template_kwargs":{"a":[' + items(value, size) + b"]}"
        yield chat(f"kwargs: {name}", members)
        few = b'"chat_template_kwargs":{"a":[' + items(value, 1000 * (len(value) + 1)) + b"]}"
        yield chat(f"kwargs: 1000 {name}", few)


def texts(size: int) -> Iterator[HostileBody]:
    """Texts where a short one is expected."""
    long = b'"' + b"x" * size + b'"'
    for name in (b"model", b"user", b"cache_salt", b"service_tier", b"suffix", b"n"):
        yield completion(name.decode(), b'"' + name + b'":' + long)
    for name in (b"role", b"name", b"tool_call_id"):
        message = b'{"role":"user","content":"x","' + name + b'":' + long + b"}"
        yield HostileBody(f"message: {name.decode()}", CHAT, b'{"messages":[' + message + b"]}")


def tokens(size: int) -> Iterator[HostileBody]:
    """`/tokenize` and `/detokenize`."""
    text = b"word " * (size // 5)
    for name, members in (
        ("text", b'"prompt":"' + text + b'"'),
        ("half a MiB, with strings", b'"return_token_strs":true,"prompt":"%b"' % text[:500_000]),
        ("letters, with strings", b'"return_token_strs":true,"prompt":"%b"' % (b"a 1 " * 125_000)),
    ):
        yield HostileBody(f"/tokenize {name}", "/tokenize", b"{" + members + b"}")
    for name, value in (("ids", b"1"), ("large ids", b"40000"), ("unknown", b"99999999")):
        data = b'{"tokens":[' + items(value, size) + b"]}"
        yield HostileBody(f"/detokenize {name}", "/detokenize", data)
        short = b'{"tokens":[' + items(value, 130_000 * (len(value) + 1)) + b"]}"
        yield HostileBody(f"/detokenize 130,000 {name}", "/detokenize", short)


def answers(size: int) -> Iterator[HostileBody]:
    """Bodies that are answered, at length."""
    for number, length in ((1, 2000), (64, 500)):
        one = b"[" + items(b"1234", 5 * length) + b"]"
        for members in (b'"logprobs":20', b'"prompt_logprobs":20'):
            what = b'{"echo":true,"max_tokens":1,%b,"prompt":[%b]}' % (
                members,
                b",".join([one] * number),
            )
            name = f"{number} x {length} ids, echo, {members.decode()}"
            yield HostileBody(name, COMPLETIONS, what)
    one = b'{"echo":true,"n":128,"max_tokens":1,"return_token_ids":true,"prompt":[%b]}'
    yield HostileBody("echo of 8000 ids, n=128", COMPLETIONS, one % items(b"1234", 40_000))
    stops = b",".join(b'"%b%d"' % (b"ab" * 500, place) for place in range(16))
    members = b'{"prompt":"x","n":128,"max_tokens":16,"stop":[%b]}' % stops
    yield HostileBody("16 long stop strings, n=128", COMPLETIONS, members)


def just_allowed(_: int) -> Iterator[HostileBody]:
    """Lists as long as bodies may have them, whatever the size."""
    ids = b",".join(b"%d" % (token % 40_000) for token in range(1_000_000))
    longer = b",".join([b"[" + items(b"7", 20_000) + b"]"] * 100)
    for name, value in (
        ("a million ids", b"[" + ids + b"]"),
        ("100 x 10,000 ids", b"[" + longer + b"]"),
        ("1000 texts of 15,000", b"[" + items(b'"' + b"ab " * 5000 + b'"', 15_000_000) + b"]"),
    ):
        yield HostileBody(f"prompt: {name}", COMPLETIONS, b'{"max_tokens":1,"prompt":%b}' % value)
    words = b",".join(b'"%08d"' % word for word in range(4096))
    stops = b",".join(b'"%b%02d"' % (b"a" * 1022, stop) for stop in range(64))
    biases = b",".join(b'"%d":1.5' % token for token in range(4096))
    for name, members in (
        ("allowed_token_ids", b'"allowed_token_ids":[' + ids + b"]"),
        ("bad_words", b'"bad_words":[' + words + b"]"),
        ("stop", b'"stop":[' + stops + b"]"),
        ("logit_bias", b'"logit_bias":{' + biases + b"}"),
    ):
        for n in (b"1", b"128"):
            yield completion(f"{name}, n={n.decode()}", b'"n":%b,%b' % (n, members))
    prompts = b'"prompt":[' + items(b'"x"', 4000) + b"]"
    yield completion("1000 prompts with bad words", prompts + b',"bad_words":[' + words + b"]")
    message = b'{"role":"user","content":""}'
    many = b'{"messages":[' + items(message, 8190 * (len(message) + 1)) + b"]}"
    yield HostileBody("8190 messages", CHAT, many)
    for name, value in (
        ("numbers", ids),
        ("lists", items(b"[]", 98_000)),
        ("texts", items(b'"x"', 520_000)),
        ("exponents", items(b"1e308", 48_000)),
    ):
        members = b'"chat_template_kwargs":{"a":[' + value + b"]}"
        yield chat(f"chat_template_kwargs: {name}", members)


FAMILIES: tuple[Family, ...] = (
    prompts,
    messages,
    sampling_lists,
    structures,
    numbers,
    texts,
    tokens,
    answers,
    just_allowed,
)


@dataclass(slots=True)
class Prober:
    """Asks for /health again and again, from a thread of its own."""

    address: str
    pid: int | None = None
    longest: float = 0.0
    busiest: float = 0.0
    """Most processor seconds of the event loop's thread from one answer to the next."""
    _answers: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def reset(self) -> None:
        with self._changed:
            self.longest = self.busiest = 0.0

    def settle(self) -> None:
        """Returns once a request that was sent after this call has been answered."""
        with self._changed:
            wanted = self._answers + 2
            self._changed.wait_for(lambda: self._answers >= wanted, 300)

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=300)
        before = processor_seconds(self.pid)
        while True:
            begun = time.monotonic()
            connection.request("GET", "/health")
            connection.getresponse().read()
            took = time.monotonic() - begun
            after = processor_seconds(self.pid)
            with self._changed:
                self._answers += 1
                self._changed.notify_all()
                self.longest = max(self.longest, took)
                self.busiest = max(self.busiest, after - before)
            before = after
            time.sleep(POLL)


def processor_seconds(pid: int | None) -> float:
    """Of the process's first thread so far; 0 where that cannot be known."""
    if pid is None:
        return 0.0
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def send(address: str, body: HostileBody, timeout: float) -> tuple[int, str]:
    """Status and the beginning of the answer; 0 where none came in time."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request(
            "POST", body.path, body.data, headers={"content-type": "application/json"}
        )
        answer = connection.getresponse()
        return answer.status, answer.read()[:160].decode(errors="replace")
    except OSError as error:
        return 0, f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int)
    parser.add_argument("--only", default="", help="a pattern: these families or bodies alone")
    parser.add_argument("--mib", type=float, default=16.0)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for each answer")
    arguments = parser.parse_args()
    address = urlsplit(arguments.url).netloc
    prober = Prober(address, arguments.pid)
    prober.start()
    late = 0
    for family in FAMILIES:
        for body in family(int(arguments.mib * 2**20) - 1000):
            if not re.search(arguments.only, f"{family.__name__} {body.name}"):
                continue
            prober.settle()
            prober.reset()
            begun = time.monotonic()
            status, text = send(address, body, arguments.timeout)
            took = time.monotonic() - begun
            prober.settle()
            bad = prober.longest > LONGEST
            late += bad
            print(
                f"{'!' if bad else ' '} {family.__name__:15} {body.name[:48]:48}"
                f" {len(body.data) / 2**20:5.1f} MiB  {status}  took {took:6.2f} s"
                f"  health {prober.longest:6.3f} s  loop {prober.busiest:6.3f} s  {text[:100]}",
                flush=True,
            )
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
