"""Transformers in a process of its own: the program, and the side that talks to it."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from headway import machine
from headway.errors import EngineError
from headway.perf.bench import transformers_baseline
from headway.perf.bench.padded import (
    BatchTimes,
    TransformersProcess,
    load_message,
    transformers_version,
)
from headway.perf.bench.transformers_baseline import Stamps, padded, serve

# A program that speaks as the real one does: token k after k seconds, and `behave` to misbehave.
FAKE = """
import json, sys
behave = sys.argv[1]
for line in sys.stdin:
    order = json.loads(line)
    if "folder" in order:
        reply = {"error": "no such model"} if behave == "unloadable" else {"ready": True}
    elif behave == "dies":
        print("Killed: not enough memory", file=sys.stderr, flush=True)
        sys.exit(3)
    else:
        count = order["tokens"] - (behave == "short")
        rows = [[len(row)] * order["tokens"] for row in order["prompts"]]
        reply = {"times": [float(k + 1) for k in range(count)], "tokens": rows}
    print(json.dumps(reply), flush=True)
"""
ORDER = {"folder": "/nowhere", "gguf": None, "dtype": "float32", "device": "cpu"}


def send(behave: str, prompts: Sequence[Sequence[int]], tokens: int) -> BatchTimes:
    async def main() -> BatchTimes:
        command = (sys.executable, "-c", FAKE, behave)
        process = await TransformersProcess.start(ORDER, command=command)
        try:
            assert process.dtype == "float32"
            return await process.run(prompts, tokens)
        finally:
            await process.close()

    return asyncio.run(main())


def test_all_rows_of_a_batch_have_the_times_of_its_steps() -> None:
    assert send("well", [[1, 2], [3]], 3) == BatchTimes(rows=([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    ("behave", "says"),
    [("short", "2 tokens, not 3"), ("dies", "exit code 3): Killed: not enough memory")],
)
def test_what_goes_wrong_with_a_batch_is_in_its_answer(behave: str, says: str) -> None:
    assert says in send(behave, [[1]], 3).error


def test_a_model_that_cannot_be_loaded_or_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(EngineError, match="no such model"):
        send("unloadable", [[1]], 1)
    with pytest.raises(EngineError, match="cannot start"):
        asyncio.run(TransformersProcess.start(ORDER, command=("/no/such/program",)))


def test_an_order_names_the_file_and_a_fast_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    file = tmp_path / "model.gguf"
    file.write_bytes(b"not read here")
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(machine, "has_bfloat16", lambda: True)
    order = load_message(str(file), dtype=None, device="auto")
    assert order == {
        "folder": str(tmp_path),
        "gguf": "model.gguf",
        "dtype": "bfloat16",
        "device": "cpu",
    }
    monkeypatch.setattr(machine, "has_bfloat16", lambda: False)
    assert load_message(str(file), dtype=None, device="auto")["dtype"] == "float32"
    assert load_message(str(file), dtype="float16", device="cuda")["device"] == "cuda"
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: True)
    assert load_message(str(file), dtype=None, device="auto")["device"] == "cuda"
    assert load_message(str(file), dtype=None, device="cpu")["dtype"] == "float32"


def test_a_missing_library_is_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert transformers_version() is not None
    monkeypatch.setattr("headway.perf.bench.padded.find_spec", lambda name: None)
    assert transformers_version() is None


def test_padding_is_on_the_left_and_hidden() -> None:
    assert padded([[7, 8, 9], [5]]) == {
        "input_ids": [[7, 8, 9], [0, 0, 5]],
        "attention_mask": [[1, 1, 1], [0, 0, 1]],
    }


def test_the_prompt_has_no_stamp() -> None:
    stamps = Stamps()
    for value in ("prompt", "first", "second"):
        stamps.put(value)
    stamps.end()
    assert len(stamps.times) == 2
    assert stamps.times == sorted(stamps.times)


def test_an_error_is_an_answer_and_the_program_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        dtype = "torch.float32"

    def generate(model: Any, prompts: Sequence[Sequence[int]], tokens: int) -> dict[str, Any]:
        if tokens == 0:
            raise ValueError("nothing to do")
        return {"times": [0.0] * tokens, "tokens": prompts}

    monkeypatch.setattr(transformers_baseline, "load", lambda order: Model())
    monkeypatch.setattr(transformers_baseline, "generate", generate)
    orders = [ORDER, {"prompts": [[1]], "tokens": 0}, {"prompts": [[1]], "tokens": 2}]
    responses = io.StringIO()
    serve(io.StringIO("".join(json.dumps(order) + "\n" for order in orders)), responses)
    ready, failed, done = map(json.loads, responses.getvalue().splitlines())
    assert ready == {"ready": True, "dtype": "torch.float32"}
    assert failed == {"error": "ValueError: nothing to do"}
    assert done == {"times": [0.0, 0.0], "tokens": [[1]]}


@pytest.mark.model
def test_the_default_model_from_its_gguf_file_gives_the_tokens_that_are_known() -> None:
    golden = json.loads(
        (Path(__file__).parents[2] / "golden" / "smollm2-135m-instruct.json").read_text()
    )[:2]

    async def main() -> tuple[list[list[int]], BatchTimes]:
        order = load_message("smollm2-135m-instruct", dtype="float32", device="cpu")
        process = await TransformersProcess.start(order)
        try:
            prompts = [case["tokens"] for case in golden]
            # Prompts of different lengths in one batch: padding must change nothing.
            return await process.generate(prompts, 8), await process.run(prompts, 3)
        finally:
            await process.close()

    rows, times = asyncio.run(main())
    assert rows == [case["new"][:8] for case in golden]
    assert len(times.rows) == 2
    assert times.rows[0] == times.rows[1] == sorted(times.rows[0])
    assert 0 < times.rows[0][0] < times.rows[0][2]
