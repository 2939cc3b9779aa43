"""Headway where the extras are not installed: it computes natively, and says what else needs them.

Everything runs in processes that find neither PyTorch nor what comes with it, as if only `headway`
had been installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headway.native import available
from tests.checkpoint.test_gguf import write
from tests.models.families import write_tiny

# Python runs a module of this name at its start.
SITECUSTOMIZE = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
HIDDEN = ("torch", "safetensors", "transformers", "accelerate")


def without(name, path=None, target=None):
    return None if name.partition(".")[0] in HIDDEN else find(name, path, target)


PathFinder.find_spec = without
"""
ANSWER = """
import json, sys
from headway import LLM, SamplingParams

model, backend = sys.argv[1:]
settings = dict(backend=backend, device="cpu", dtype="float32", threads=1, progress=False)
with LLM(model, **settings) as llm:
    params = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    outputs = llm.generate([[5, 9, 13], [7] * 40], params, use_tqdm=False)
    print(json.dumps([list(each.outputs[0].token_ids) for each in outputs]))
"""
HEADWAY = ("-m", "headway")
FIX = "needs PyTorch, which is not installed: pip install 'headway[torch]'"

Environment = dict[str, str]


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The environment of a process without the extras, with a cache of the test's own."""
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    others = os.environ.get("PYTHONPATH", "")
    return dict(os.environ) | {"PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{others}"}


def python(*words: str, env: Environment) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], env=env, capture_output=True, text=True, check=False, timeout=240
    )


def answer(model: str, backend: str, env: Environment) -> list[list[int]]:
    done = python("-c", ANSWER, model, backend, env=env)
    assert done.returncode == 0, done.stderr
    tokens: list[list[int]] = json.loads(done.stdout)
    return tokens


def test_the_bare_environment_is_one(bare: Environment) -> None:
    for name in ("torch", "safetensors", "transformers"):
        done = python("-c", f"import {name}", env=bare)
        assert f"ModuleNotFoundError: No module named '{name}'" in done.stderr
    assert python("-c", "import numpy, tokenizers, gguf", env=bare).returncode == 0


@pytest.mark.skipif(not available(), reason="the native library is not built")
@pytest.mark.parametrize("kind", ["directory", "gguf"])
def test_without_torch_the_answers_are_those_of_torch(
    kind: str, bare: Environment, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    if kind == "gguf":
        write(model, "qwen3")
    else:
        write_tiny("llama", model)
    ours = answer(str(model), "auto", bare)
    assert [len(tokens) for tokens in ours] == [12, 12]
    assert ours == answer(str(model), "reference", dict(os.environ))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("generate hello --backend reference", f"headway: backend reference {FIX}"),
        ("chat --dtype float16 --backend reference", f"headway: backend reference {FIX}"),
        ("models prepare --device cuda", f"headway: device cuda {FIX}"),
        ("profile --backend reference", f"headway: backend reference {FIX}"),
        ("doctor --backend reference", f"headway: backend reference {FIX}"),
        ("doctor --limits --device cuda", f"headway: device cuda {FIX}"),
        ("doctor --limits --dtype float16", f"headway: dtype float16 {FIX}"),
        ("bench throughput --num-prompts 1 --backend reference", f"backend reference {FIX}"),
        ("bench policies quick --device cuda --systems continuous", f"device cuda {FIX}"),
    ],
)
def test_what_needs_torch_says_so_in_a_line(words: str, says: str, bare: Environment) -> None:
    done = python(*HEADWAY, *words.split(), env=bare)
    assert done.returncode == 1
    told = [each for each in done.stderr.splitlines() if FIX in each]
    assert told[-1].endswith(says)
    assert "Traceback" not in done.stderr
    downloads = Path(bare["HEADWAY_HOME"]) / "downloads"
    assert not downloads.exists(), "something was downloaded in vain"


def test_a_server_that_needs_torch_says_so_in_its_log(bare: Environment) -> None:
    done = python(*HEADWAY, "serve", "--port", "0", "--device", "cuda", env=bare)
    assert done.returncode == 1
    (line,) = [each for each in done.stderr.splitlines() if FIX in each]
    assert "event=failed field=device" in line
    assert done.stderr.splitlines()[-1].endswith("event=stopped code=1")


def test_transformers_are_left_out_of_a_comparison(bare: Environment) -> None:
    words = ("bench", "policies", "quick", "--systems", "transformers, padded")
    done = python(*HEADWAY, *words, env=bare)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        "transformers is not installed (pip install 'headway[bench]')"
    )
    assert "Traceback" not in done.stderr


def test_measuring_with_torch_is_refused_by_the_program_too(bare: Environment) -> None:
    words = ("-m", "headway.runner.peak_rates", "float32", "--torch", "--threads", "1")
    done = python(*words, env=bare)
    assert (done.returncode, done.stderr) == (1, f"--torch {FIX}\n")


def test_doctor_tells_what_is_not_installed(bare: Environment) -> None:
    done = python(*HEADWAY, "doctor", "--no-engine", env=bare)
    assert done.returncode == 0
    assert "torch  not installed, which only GPUs and the reference backend need" in done.stdout
