"""A KV cache is for those alone who would compute every bit of it alike."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.checkpoint import load_prepared
from headway.native.abi import CacheKind
from headway.ops.protocol import CacheShape
from headway.runner.kept_cache import kept_file
from tests.runner.conftest import Tiny

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="files of memory are Linux's"
)
ONE = CacheShape(num_layers=2, num_blocks=1, block_size=32, num_kv_heads=1, head_dim=16)
Fingerprint = Callable[..., bytes]


@pytest.fixture(name="fingerprint")
def _fingerprint(tinies: Tiny) -> Iterator[Fingerprint]:
    descriptor = os.memfd_create("test")

    def of(**changes: Any) -> bytes:
        told: dict[str, Any] = {"one": ONE, "kind": CacheKind.INT8, "isa": "avx2"}
        told |= {"source": load_prepared(tinies("llama", "native-float32"))} | changes
        file = kept_file(descriptor, **told)
        assert file is not None
        return file.fingerprint

    yield of
    os.close(descriptor)


def test_equal_starts_have_one_fingerprint(fingerprint: Fingerprint) -> None:
    assert fingerprint() == fingerprint()
    assert len(fingerprint()) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"isa": "avx512"},
        {"kind": CacheKind.BFLOAT16},
        {"one": replace(ONE, block_size=16)},
        {"one": replace(ONE, num_layers=3)},
    ],
)
def test_whatever_bits_depend_on_is_in_it(fingerprint: Fingerprint, change: dict[str, Any]) -> None:
    assert fingerprint(**change) != fingerprint()


def test_so_are_the_files_of_the_model(fingerprint: Fingerprint, tinies: Tiny) -> None:
    for family, storage in (("llama", "native-int8"), ("qwen3", "native-float32")):
        source = load_prepared(tinies(family, storage))  # type: ignore[arg-type]
        assert fingerprint(source=source) != fingerprint()
        unknown = replace(source, manifest=None)
        assert fingerprint(source=unknown) == fingerprint(source=unknown)
        assert fingerprint(source=unknown) != fingerprint(source=source)


def test_so_is_the_build_of_the_kernels(
    fingerprint: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint()
    monkeypatch.setattr("headway.runner.kept_cache.build_of", lambda: "another")
    assert fingerprint() != before


def test_only_files_of_memory_are_taken(tinies: Tiny, tmp_path: Path) -> None:
    source = load_prepared(tinies("llama", "native-float32"))
    given: dict[str, Any] = {"source": source, "one": ONE, "kind": CacheKind.INT8, "isa": "avx2"}
    assert kept_file(None, **given) is None
    with (tmp_path / "file").open("wb") as file:
        assert kept_file(file.fileno(), **given) is None
