"""The page's scripts under Node.js: their own tests, and the code that they write, run as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from headway.config import ServerConfig
from headway.server.page import files
from tests.server.conftest import MODEL, Running, serving

NODE = shutil.which("node")
HERE = Path(__file__).parent
STATIC = Path(files.__file__).parent / "static"

pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node.js")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scripts and their tests side by side, where Node.js takes both for modules."""
    made = tmp_path_factory.mktemp("page")
    shutil.copytree(STATIC, made / "static")
    shutil.copytree(HERE / "scripts", made / "scripts")
    (made / "package.json").write_text('{"type": "module"}')
    return made


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(path.name for path in (HERE / "scripts").iterdir()))
def test_a_script_does_what_its_tests_say(folder: Path, name: str) -> None:
    assert NODE is not None
    run(NODE, "--test", f"scripts/{name}", cwd=folder)


WRITE = """
import { requestOf } from "./static/request.js";
import { readFields } from "./static/parameters.js";
import { curl, python } from "./static/snippet.js";
const { conversation, texts, system, server } = JSON.parse(process.argv[2]);
const { fields, problems } = readFields(texts);
if (Object.keys(problems).length) throw new Error(JSON.stringify(problems));
const request = requestOf(conversation, { system, fields }, "alphabet");
const code = { curl: curl(request, server), python: python(request, server) };
console.log(JSON.stringify({ request, ...code }));
"""
ODD = "it's \"odd\" $HOME `id` \\ %s \n\t\u00e9\u2028\U0001f600 'EOF' !!"
SCHEMA = {"type": "object", "properties": {"it's": {"type": "string"}}}


def written(folder: Path, **given: Any) -> dict[str, Any]:
    """The request that the page makes, and as code."""
    assert NODE is not None
    (folder / "write.js").write_text(WRITE)
    found: dict[str, Any] = json.loads(run(NODE, "write.js", json.dumps(given), cwd=folder))
    return found


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    with serving(config=ServerConfig(port=0, api_key=("s3cret",))) as running:
        yield running


@pytest.mark.parametrize("mode", ["chat", "completion"])
@pytest.mark.parametrize("language", ["curl", "python"])
def test_the_code_asks_what_the_page_asks(
    folder: Path, locked: Running, mode: str, language: str
) -> None:
    if language == "curl" and shutil.which("curl") is None:
        pytest.skip("needs curl")
    texts = {"max_tokens": "5", "temperature": "0.5", "seed": "7", "stop": "\\n\\n\nit's"}
    texts |= {"slo.ttft_ms": "60000"}
    conversation = {"mode": mode, "messages": [{"role": "user", "content": ODD}]}
    server = {"base": locked.url + "/", "key": True}
    code = written(folder, conversation=conversation, texts=texts, system="Be odd.", server=server)
    program = folder / f"program.{language}"
    program.write_text(code[language])
    interpreter = "sh" if language == "curl" else sys.executable
    before = len(locked.llm.asked)
    printed = run(interpreter, program, cwd=folder, HEADWAY_API_KEY="s3cret")
    assert len(locked.llm.asked) == before + 1
    prompt, params, *_ = locked.llm.asked[-1]
    asked = f"system:Be odd.;user:{ODD};assistant:" if mode == "chat" else f"\x02{ODD}"
    assert "".join(map(chr, prompt)) == asked
    assert (params.max_tokens, params.temperature, params.seed) == (5, 0.5, 7)
    assert tuple(params.stop) == ("\n\n", "it's")
    (objective,) = locked.engine.submitted[-1].objectives
    assert (objective.metric, objective.seconds) == ("ttft", 60)
    if language == "python":
        assert printed == "abcde\n"
    else:
        assert printed.rstrip().endswith("data: [DONE]")
        assert '"model":"alphabet"' in printed.replace(" ", "")
    assert MODEL in code[language]


class Listening:
    """A server that answers every request with an empty stream, and keeps the bodies."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b"data: [DONE]\n\n")

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Listening:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.mark.parametrize("language", ["curl", "python"])
def test_schemas_tools_and_their_results_are_quoted_right(
    folder: Path, locked: Running, language: str
) -> None:
    """What the engine is not asked for here, a server that only listens is."""
    call = {"id": "c1", "name": "look", "arguments": '{"at": "it\'s"}'}
    messages = [
        {"role": "user", "content": ODD},
        {"role": "assistant", "content": "", "reasoning": "", "toolCalls": [call]},
        {"role": "tool", "content": ODD, "callId": "c1", "name": "look"},
    ]
    texts = {
        "response_format": json.dumps(SCHEMA),
        "tools": json.dumps([{"name": "look", "description": ODD, "parameters": SCHEMA}]),
    }
    with Listening() as listening:
        code = written(
            folder,
            conversation={"mode": "chat", "messages": messages},
            texts=texts,
            system="",
            server={"base": listening.url, "key": False},
        )
        program = folder / f"listened.{language}"
        program.write_text(code[language])
        run("sh" if language == "curl" else sys.executable, program, cwd=folder)
    assert listening.bodies == [code["request"]["body"]]
    assert listening.bodies[0]["messages"][2]["content"] == ODD
