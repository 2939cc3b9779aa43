"""The commands on the real model, as processes: what a person types, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.model

HEADWAY = [sys.executable, "-m", "headway", "--log-level", "warning"]


def headway(*words: str, said: str | None = None) -> str:
    done = subprocess.run(
        [*HEADWAY, *words], input=said, capture_output=True, text=True, check=True, timeout=240
    )
    return done.stdout


def test_generate_one() -> None:
    answer = headway(
        "generate", "The capital of France is", "--temperature", "0", "--max-tokens", "3"
    )
    assert "Paris" in answer


def test_generate_every_line() -> None:
    shown = headway(
        *("generate", "--json", "--temperature", "0", "--max-tokens", "4"),
        said="The capital of France is\n\nOne, two, three,\n",
    )
    records = [json.loads(line) for line in shown.splitlines()]
    assert [record["prompt"] for record in records] == [
        "The capital of France is",
        "One, two, three,",
    ]
    assert all(record["completion_tokens"] == 4 for record in records)
    assert "Paris" in records[0]["text"]


def test_chat_remembers_and_forgets() -> None:
    shown = headway(
        *("chat", "--max-tokens", "24", "--dtype", "bfloat16"),
        said="What is the capital of France?\n/new\nSay hello.\n",
    )
    assert "Paris" in shown
    assert len([line for line in shown.splitlines() if line.strip()]) >= 2


def test_doctor_starts_an_engine() -> None:
    shown = headway("doctor")
    assert "kernels" in shown
    assert "ready after" in shown


@pytest.mark.parametrize("command", [("generate", "Once", "--max-tokens", "5000"), ("serve",)])
def test_ctrl_c_ends_everything(command: tuple[str, ...]) -> None:
    flags = ("--port", "0") if command == ("serve",) else ("--ignore-eos",)
    process = subprocess.Popen(
        [*HEADWAY[:-1], "info", *command, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "event=engine_ready" in line:
                    break
            children = psutil.Process(process.pid).children(recursive=True)
            assert children
            time.sleep(0.3)
            os.killpg(process.pid, signal.SIGINT)
            _, complaints = process.communicate(timeout=60)
        finally:
            process.kill()  # its engine follows it
        assert process.returncode == 130
        assert "Traceback" not in complaints
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive
