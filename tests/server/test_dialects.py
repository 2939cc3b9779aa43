"""docs/dialects.md has every field and path of the dialects, and what becomes of it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from headway.server.endpoints import ENDPOINTS
from headway.server.llamacpp.endpoints import LLAMA_ENDPOINTS
from headway.server.llamacpp.samplers import OFF, SamplerFields
from headway.server.llamacpp.schema import LlamaCompletionBody
from headway.server.ollama.endpoints import OLLAMA_ENDPOINTS
from headway.server.ollama.schema import OllamaChatBody, OllamaGenerateBody, OllamaOptions
from tests.server.llamacpp.test_completion import IDLE
from tests.server.ollama.test_generating import IDLE_OPTIONS

TEXT = (Path(__file__).parents[2] / "docs" / "dialects.md").read_text()
NAME = re.compile(r"`([\w./: -]+)`")


def rows(heading: str, table: int = 0) -> dict[str, str]:
    """What the table under a heading says, by each name in its first column."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)[table]
    lines = [line.split("|")[1:3] for line in found.splitlines()[2:]]
    return {name: said for names, said in lines for name in NAME.findall(names)}


def fields(*kinds: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}


SHARED = rows("Sampling, in both")
COMPLETION = rows("`/completion`")
BODIES = rows("`/api/chat` and `/api/generate`")
OPTIONS = rows("`/api/chat` and `/api/generate`", 1)


def test_every_field_is_told_once() -> None:
    assert set(SHARED) == fields(SamplerFields)
    assert set(COMPLETION) == fields(LlamaCompletionBody) - set(SHARED)
    assert set(OPTIONS) == fields(OllamaOptions) - set(SHARED)
    assert set(BODIES) == fields(OllamaChatBody, OllamaGenerateBody)


@pytest.mark.parametrize(("told", "idle"), [(COMPLETION, IDLE), (OPTIONS, IDLE_OPTIONS)])
def test_what_is_called_harmless_or_off_is_tested_to_be(
    told: dict[str, str], idle: dict[str, object]
) -> None:
    silent = {name for name, said in (SHARED | told).items() if "supported" not in said}
    assert silent - set(idle) == set()
    assert all(name in idle or name not in silent for name in OFF)


def test_every_path_is_told() -> None:
    endpoints = (*LLAMA_ENDPOINTS, *OLLAMA_ENDPOINTS)
    paths = {each.path for each in endpoints} | {a for each in ENDPOINTS for a in each.aliases}
    named = " ".join(rows("Paths"))
    assert [path for path in paths if path.replace("/{model:path}", "") not in named] == []
