"""A fingerprint is equal where answers are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from headway import native
from headway.checkpoint.manifest import FileRecord, Manifest
from headway.config import EngineConfig
from headway.llm.opening import fingerprint_of_model
from headway.llm.served_model import fingerprint
from headway.types.engine import Hardware
from tests.llm.support import write_prepared

HARDWARE = Hardware(
    device="cpu", dtype="int8", kv_cache_dtype="bfloat16", backend="native (avx2)", threads=2
)


def test_it_names_the_model_and_how_it_is_computed(tmp_path: Path) -> None:
    plain = write_prepared(tmp_path)
    manifest = Manifest(source="m", files={"a": FileRecord(bytes=1, sha256="00")})
    known = replace(plain, manifest=manifest)
    other = Manifest(source="m", files={"a": FileRecord(bytes=1, sha256="01")})
    found = [
        fingerprint(known, HARDWARE),
        fingerprint(replace(known, manifest=other), HARDWARE),
        fingerprint(plain, HARDWARE),
        fingerprint(known, replace(HARDWARE, dtype="float32")),
        fingerprint(known, replace(HARDWARE, kv_cache_dtype="float32")),
        fingerprint(known, replace(HARDWARE, backend="reference")),
        fingerprint(replace(known, config=replace(known.config, num_layers=2)), HARDWARE),
    ]
    assert len(set(found)) == len(found)
    assert all(re.fullmatch("fp_[0-9a-f]{16}", each) for each in found)


def test_neither_names_nor_threads_matter(tmp_path: Path) -> None:
    plain = write_prepared(tmp_path)
    renamed = Manifest(source="n", files={"a": FileRecord(bytes=1, sha256="00")})
    known = replace(plain, manifest=replace(renamed, source="m"))
    first = fingerprint(known, HARDWARE)
    moved = replace(known, folder=tmp_path / "elsewhere", manifest=renamed)
    assert fingerprint(moved, replace(HARDWARE, threads=7)) == first


def test_other_kernels_of_the_same_version_are_another_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest(source="m", files={"a": FileRecord(bytes=1, sha256="00")})
    known = replace(write_prepared(tmp_path), manifest=manifest)
    mine, torch = replace(HARDWARE, isa="avx2"), replace(HARDWARE, backend="reference", isa=None)

    def told(hardware: Hardware) -> tuple[str, bytes]:
        kept = fingerprint_of_model(EngineConfig(), known, hardware)
        return fingerprint(known, hardware), kept

    found = []
    for build in ("first", "second"):
        monkeypatch.setattr(native, "digest_of", lambda build=build: build)
        found.append((*told(mine), *told(torch)))
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]
    assert found[0][2:] == found[1][2:]
