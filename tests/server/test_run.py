"""A server process and its end: signals, draining, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import uvicorn

from headway.config import ServerConfig
from headway.errors import InvalidRequest
from headway.server.app import build_state
from headway.server.run import _template, _tls, listen, serve
from tests.server.fakes import FakeLLM

ROOT = Path(__file__).parents[2]
PROMPT = {"prompt": "x", "max_tokens": 20}


class Process:
    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen
        self.lines: list[str] = []
        self.url = ""

    def wait_for(self, event: str) -> str:
        """Read the log until the event; returns its line."""
        assert self.popen.stdout is not None
        for text in self.popen.stdout:
            self.lines.append(text)
            if text.startswith(f"event={event}"):
                return text
        raise AssertionError(f"no {event} in {self.lines}")

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def release(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write("go on\n")
        self.popen.stdin.flush()

    def ask(self, stream: bool = False) -> httpx.Response:
        body = PROMPT | {"stream": stream}
        return httpx.post(self.url + "/v1/completions", json=body, timeout=60)


@contextlib.contextmanager
def process(**settings: object) -> Iterator[Process]:
    command = [sys.executable, "-m", "tests.server.alphabet_server"]
    popen = subprocess.Popen(
        [*command, json.dumps({"port": 0} | settings)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with popen:
        try:
            found = Process(popen)
            found.url = found.wait_for("starting").split("url=")[1].strip()
            yield found
        finally:
            popen.kill()


def test_sigterm_without_load_ends_well() -> None:
    with process() as server:
        server.wait_for("ready")
        assert server.ask().json()["choices"][0]["finish_reason"] == "length"
        server.signal(signal.SIGTERM)
        assert server.popen.wait(30) == 0


def test_sigterm_under_load_cuts_nothing_off() -> None:
    with process(start="hold") as server, ThreadPoolExecutor(8) as pool:
        server.wait_for("ready")
        asked = [pool.submit(server.ask, number % 2 == 0) for number in range(8)]
        for _ in asked:
            server.wait_for("received")
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        refused = server.ask()
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        server.release()
        answers = [answer.result(60) for answer in asked]
        assert [answer.status_code for answer in answers] == [200] * 8
        for number, answer in enumerate(answers):
            if number % 2 == 0:
                assert answer.text.endswith("data: [DONE]\n\n")
                assert '"finish_reason":"length"' in answer.text
            else:
                assert answer.json()["usage"]["completion_tokens"] == 20
        assert server.popen.wait(30) == 0


def test_who_takes_longer_than_the_timeout_is_told() -> None:
    with process(start="hold", shutdown_timeout=0.1) as server, ThreadPoolExecutor(1) as pool:
        server.wait_for("ready")
        asked = pool.submit(server.ask)
        server.wait_for("received")
        server.signal(signal.SIGTERM)
        assert asked.result(60).status_code == 503
        assert server.popen.wait(30) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(second: signal.Signals) -> None:
    with process(start="hold", shutdown_timeout=1000) as server, ThreadPoolExecutor(1) as pool:
        server.wait_for("ready")
        asked = pool.submit(server.ask)
        server.wait_for("received")
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        server.signal(second)
        assert asked.result(60).status_code == 503
        assert server.popen.wait(30) == 128 + second


def test_sighup_drains_however_often_it_comes() -> None:
    """A terminal that closes sends it twice; systemd sends it after SIGTERM."""
    with process(start="hold", shutdown_timeout=1000) as server, ThreadPoolExecutor(1) as pool:
        server.wait_for("ready")
        asked = pool.submit(server.ask)
        server.wait_for("received")
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            server.signal(number)
            server.wait_for("signal")
        assert server.ask().status_code == 503
        server.release()
        assert asked.result(60).status_code == 200
        assert server.popen.wait(30) == 0


def test_nohup_keeps_its_meaning() -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with process() as server:
            server.wait_for("ready")
            server.signal(signal.SIGHUP)
            server.signal(signal.SIGCONT)
            assert server.ask().status_code == 200
            assert server.popen.poll() is None
    finally:
        signal.signal(signal.SIGHUP, ignored)


@contextlib.contextmanager
def quiet_process(stderr: int, **settings: object) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server that logs as a real one does, to this descriptor; found by its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = {"port": port, "log_format": "json"} | settings
    command = [sys.executable, "-m", "tests.server.alphabet_server", json.dumps(given)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=stderr) as popen:
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(url + "/ready").status_code == 200:
                        break
                time.sleep(0.1)
            yield popen, url
        finally:
            popen.kill()


def ask_often(url: str, times: int) -> None:
    with httpx.Client(timeout=60) as http:
        for _ in range(times):
            assert http.post(url + "/v1/completions", json=PROMPT).status_code == 200


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    try:
        with quiet_process(writing) as (popen, url):
            ask_often(url, 40)  # several times what the pipe holds
            popen.terminate()
            assert popen.wait(30) == 0
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_under_the_log_stops_nothing() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with quiet_process(descriptor) as (popen, url):
            ask_often(url, 3)
            popen.terminate()
            assert popen.wait(30) == 0
    finally:
        os.close(descriptor)


def test_the_log_as_json_with_statistics(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file, quiet_process(file.fileno(), log_stats_interval=0.05) as found:
        popen, url = found
        ask_often(url, 1)
        while '"event":"stats"' not in path.read_text():
            ask_often(url, 1)
        popen.terminate()
        assert popen.wait(30) == 0
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    by_event = {each["event"]: each for each in lines}
    assert {"listening", "ready", "received", "finished", "stats", "stopped"} <= set(by_event)
    finished = by_event["finished"]
    assert (finished["level"], finished["logger"]) == ("info", "headway.server")
    assert finished["completion_tokens"] == 20
    assert isinstance(finished["seconds"], float)
    assert by_event["stats"]["generated_tokens_per_second"] > 0


def test_ctrl_c_ends_at_once_and_cleanly() -> None:
    with process(start="hold", shutdown_timeout=1000) as server, ThreadPoolExecutor(1) as pool:
        server.wait_for("ready")
        asked = pool.submit(server.ask)
        server.wait_for("received")
        server.signal(signal.SIGINT)
        assert asked.result(60).status_code == 503
        server.wait_for("stopped")
        assert server.popen.wait(30) == 130
        assert "Traceback" not in "".join(server.lines)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_while_starting(number: signal.Signals, code: int) -> None:
    with process(start="late") as server:
        assert httpx.get(server.url + "/ready").status_code == 503
        server.signal(number)
        assert server.popen.wait(30) == code


def test_a_model_that_cannot_be_had_is_one_error_with_the_code_that_is_returned() -> None:
    with process(start="fail") as server:
        assert server.popen.wait(30) == 1
        assert server.popen.stdout is not None
        assert server.popen.stdout.read().splitlines() == [
            'event=failed reason="the model is broken" code=1',
            "event=stopped code=1",
        ]


def test_listening_is_logged_only_once_requests_are_served() -> None:
    with process() as server:
        server.wait_for("listening")
        assert server.ask().status_code == 200
    with process(start="late") as server:
        server.signal(signal.SIGTERM)
        server.wait_for("stopped")
        assert "listening" not in "".join(server.lines)


class _EndingServer(uvicorn.Server):
    """An HTTP server that fails, or ends by itself, once it is told to."""

    def __init__(self, error: Exception | None, ready: asyncio.Event) -> None:
        super().__init__(uvicorn.Config("unused"))
        self.error = error
        self.ready = ready

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self.ready.wait()
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [OSError("listener"), None])
@pytest.mark.parametrize("early", [True, False])
def test_a_server_without_its_http_server_ends_with_1(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception | None,
    early: bool,
) -> None:
    llm: list[FakeLLM] = []

    async def main() -> int:
        ready = asyncio.Event()
        server = _EndingServer(error, ready)
        monkeypatch.setattr("headway.server.run.make_server", lambda *_, **__: server)

        async def start_engine() -> FakeLLM:
            ready.set()
            if early:
                await asyncio.sleep(3600)
            llm.append(FakeLLM())
            return llm[0]

        state = build_state(ServerConfig(port=0), model_name="alphabet")
        async with asyncio.timeout(30):
            return await serve(state, start_engine)

    assert asyncio.run(main()) == 1
    assert "background work failed: HTTP server" in caplog.text
    assert all(each.engine.closed for each in llm)


def test_an_engine_that_is_gone_for_good_ends_the_server_with_1() -> None:
    async def main() -> int:
        llm = FakeLLM()

        async def start_engine() -> FakeLLM:
            asyncio.get_running_loop().call_later(0.05, setattr, llm.engine, "state", "failed")
            return llm

        state = build_state(ServerConfig(port=0), model_name="alphabet")
        async with asyncio.timeout(30):
            return await serve(state, start_engine)

    assert asyncio.run(main()) == 1


def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with process(uds=path) as server:
        server.wait_for("ready")
        transport = httpx.HTTPTransport(uds=path)
        with httpx.Client(transport=transport, base_url="http://x") as http:
            assert http.get("/ready").status_code == 200
        server.signal(signal.SIGTERM)
        assert server.popen.wait(30) == 0
        assert not Path(path).exists()


def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    listen(ServerConfig(uds=str(path))).close()
    path.unlink()
    path.write_text("no socket")
    with pytest.raises(InvalidRequest, match="cannot listen"):
        listen(ServerConfig(uds=str(path)))
    assert path.read_text() == "no socket"


def test_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    options = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(
            [*command, *options, "-out", certificate, "-keyout", key],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    with process(ssl_certfile=str(certificate), ssl_keyfile=str(key)) as server:
        assert server.url.startswith("https://")
        server.wait_for("ready")
        trusted = ssl.create_default_context(cafile=str(certificate))
        assert httpx.get(server.url + "/ready", verify=trusted).status_code == 200
        server.signal(signal.SIGTERM)
        assert server.popen.wait(30) == 0


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("nothing")
    config = ServerConfig(ssl_certfile=str(file), ssl_keyfile=str(file))
    with pytest.raises(InvalidRequest, match="cannot load the certificate"):
        _tls(config)


def test_a_template_as_file_or_as_itself(tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text("{{ messages }}")
    assert _template(str(file)) == "{{ messages }}"
    assert _template("{{ x }}") == "{{ x }}"
    assert _template(None) is None
    with pytest.raises(InvalidRequest, match="cannot read the chat template"):
        _template(str(tmp_path / "none.jinja"))
