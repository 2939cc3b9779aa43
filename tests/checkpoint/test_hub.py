"""Hub names, against a server on this machine that answers as a hub does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/tiny-model"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"a pickle, which must not be fetched",
    "tiny.gguf": b"GGUF",
}


class Hub(BaseHTTPRequestHandler):
    """The few addresses that the client asks for."""

    fetched: list[str]

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _answer(self, *, send_body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith(f"/api/models/{REPO}"):
            listing = {
                "id": REPO,
                "modelId": REPO,
                "sha": COMMIT,
                "private": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": [{"rfilename": name} for name in FILES],
            }
            body = json.dumps(listing).encode()
            if "/tree/" in path:
                entries = [
                    {"type": "file", "path": name, "size": len(data), "oid": name}
                    for name, data in FILES.items()
                ]
                body = json.dumps(entries).encode()
        elif path.startswith(f"/{REPO}/resolve/") and path.rsplit("/", 1)[1] in FILES:
            name = path.rsplit("/", 1)[1]
            body = FILES[name]
            if send_body:
                self.fetched.append(name)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{path.rsplit("/", 1)[1]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if send_body:
            self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    fetched: list[str] = []
    handler = type("TestHub", (Hub,), {"fetched": fetched})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", fetched
        server.shutdown()


def resolve(source: str, home: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the client reads its endpoint when it is imported."""
    program = (
        "import sys; from pathlib import Path;"
        "from headway.checkpoint.inventory import resolve;"
        "from headway.errors import HeadwayError\n"
        "try: print(*resolve(sys.argv[1], Path(sys.argv[2]), progress=False), sep='\\n')\n"
        "except HeadwayError as error: sys.exit(error.message)"
    )
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment |= {"HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-c", program, source, str(home)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_repository_gives_its_safetensors_and_no_pickle(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    endpoint, fetched = hub
    done = resolve(REPO, tmp_path, endpoint)
    assert done.returncode == 0, done.stderr
    names = [Path(line).name for line in done.stdout.splitlines()]
    assert sorted(names) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(fetched) == sorted(names)
    assert "weights" in Path(done.stdout.splitlines()[-1]).read_text()


def test_one_gguf_file_of_a_repository(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, fetched = hub
    done = resolve(f"{REPO}:tiny.gguf", tmp_path, endpoint)
    assert done.returncode == 0, done.stderr
    assert fetched == ["tiny.gguf"]


def test_a_name_that_leads_nowhere_is_one_line(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    done = resolve("no-one/nothing", tmp_path, hub[0])
    assert done.returncode == 1
    assert "no-one/nothing" in done.stderr
    assert "Traceback" not in done.stderr
